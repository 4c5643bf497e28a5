//! What a smaller path does to a sender: what was too large is sent again at once, in pieces.
//!
//! It was dropped for its size, not for want of room: that is no congestion, so the window stays what it was in
//! segments, and its threshold stays (RFC 1191 6.5 asks for no slow start beyond the repetitions' own pace).
//! Until all of it is acknowledged, recovery is on, so that no acknowledgement takes it for a loss.
//!
//! Spec: RFC 1191 6.5, RFC 8201 5.4, RFC 5681 3.1 (the window follows the segment's size).

use super::{Doubt, Phase, Sender, Undo};
use crate::tcp::in_flight::{InFlightPool, Segment};
use crate::tcp::probe::Probe;
use crate::time::Instant;

impl Sender {
    /// The path takes segments of `mss` bytes only.
    pub fn handle_smaller_path(&mut self, now: Instant, pool: &mut InFlightPool, mss: u16) {
        let before = self.mss;
        self.handle_mss(mss);
        self.congestion.handle_mss(before as u32, self.mss as u32);
        self.undo = Undo::NONE;
        let mss = self.mss as u32;
        let is_larger = |segment: &Segment| segment.len - segment.fin as u32 > mss;
        if self.flight.lose_sent(pool, is_larger) == 0 {
            return;
        }
        if self.phase == Phase::Open {
            self.phase = Phase::Loss(Doubt::None);
            self.recover = self.flight.nxt;
            self.dup_acks = 0;
            self.probe = Probe::default();
        }
        self.rto_at = now + self.rto();
        self.restart_timers(now, false, None);
    }
}
