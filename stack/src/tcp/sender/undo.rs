//! Taking back a reduction that was needless: what was sent again had arrived, late or overtaken.
//!
//! The receiver says so itself: every repetition comes back as a duplicate (DSACK). When all of a recovery's have,
//! nothing was lost. Window and threshold become what they were, the window by a burst's worth at once and by slow
//! start beyond; and RACK knows from then on that the path reorders, for a segment that was sent again before it
//! came says nothing of that itself. A repetition that was needed is never reported, and leaves the reduction in
//! force; so does a duplicate made by the network, which lies elsewhere.
//!
//! Spec: RFC 2883, RFC 3708 3, RFC 9438 4.9.2. Left out: timestamps (RFC 3522) but for time-outs (`doubt.rs`).
//! Bounds: a report is believed until a round trip behind the end of the recovery.

use super::{Ack, Phase, Sender};
use crate::seq::Seq;

/// What a recovery has changed, and which repetitions have not been reported as needless.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Undo {
    /// The window before; 0 if there is nothing to undo.
    cwnd: u32,
    /// The threshold before.
    ssthresh: u32,
    /// All repetitions lie between `start` and `end`.
    start: Seq,
    end: Seq,
    /// Behind the recovery: when this is acknowledged no report is to come.
    until: Seq,
    /// Repetitions without a report.
    waiting: u16,
    /// There was a repetition.
    is_any: bool,
}

impl Undo {
    /// Nothing to undo.
    pub const NONE: Undo = Undo {
        cwnd: 0,
        ssthresh: 0,
        start: Seq(0),
        end: Seq(0),
        until: Seq(0),
        waiting: 0,
        is_any: false,
    };

    /// A recovery begins: the window and threshold before it.
    pub fn begin(cwnd: u32, ssthresh: u32) -> Undo {
        Undo { cwnd, ssthresh, ..Undo::NONE }
    }

    /// Whether there is something to take back.
    pub fn is_possible(&self) -> bool {
        self.cwnd > 0
    }

    /// A repetition goes out, in recovery.
    pub fn handle_resent(&mut self, seq: Seq, len: u32) {
        let end = seq + len;
        if !self.is_any {
            (self.start, self.end, self.is_any) = (seq, end, true);
        }
        if seq.before(self.start) {
            self.start = seq;
        }
        if end.after(self.end) {
            self.end = end;
        }
        self.waiting = self.waiting.saturating_add(1);
        if self.waiting == u16::MAX {
            *self = Undo::NONE;
        }
    }

    /// A duplicate is reported: whether every repetition has been by now.
    fn handle_duplicate(&mut self, (start, end): (Seq, Seq), mss: u32) -> bool {
        if self.cwnd == 0 || self.waiting == 0 {
            return false;
        }
        if start.before(self.start) || end.after(self.end) {
            return false;
        }
        // Two that arrived together are reported as one.
        let segments = end.since(start).div_ceil(mss).min(u16::MAX as u32) as u16;
        self.waiting = self.waiting.saturating_sub(segments);
        self.waiting == 0
    }
}

impl Sender {
    /// A recovery has ended.
    pub(super) fn note_undo_end(&mut self) {
        self.undo.until = self.flight.nxt;
    }

    /// Looks whether an acknowledgement shows that the last recovery was needless.
    pub(super) fn handle_needless(&mut self, ack: &Ack, is_dsack: bool) {
        if !self.undo.is_possible() {
            return;
        }
        if self.phase == Phase::Open && self.flight.una.after(self.undo.until) {
            self.undo = Undo::NONE;
            return;
        }
        let mss = self.mss as u32;
        let is_needless = is_dsack
            && ack.sack.first().is_some_and(|block| self.undo.handle_duplicate(*block, mss))
            && self.flight.lost_bytes == 0;
        if !is_needless || matches!(self.phase, Phase::Loss(_)) {
            return;
        }
        self.phase = Phase::Open;
        self.rack.note_reordering();
        self.take_back_reduction();
    }

    /// Window and threshold become what they were.
    pub(super) fn take_back_reduction(&mut self) {
        let Undo { cwnd, ssthresh, .. } = core::mem::take(&mut self.undo);
        let (pipe, mss) = (self.pipe(), self.mss as u32);
        self.congestion.undo(mss, (cwnd, ssthresh), pipe, self.flight.nxt);
    }
}
