//! What a segment acknowledges and offers: SEG.ACK, SEG.WND, and what of it is recorded when.
//!
//! What was acknowledged here and not recorded yet is [`crate::flow::Local::snd_una`] beyond the contract's. A promoted peer
//! that does not know of it says those bytes again, or learns by the client's first answer that it need not.
//!
//! Path: step 4. Spec: RFC 9293 3.10.7.4, fifth; RFC 5961 5; RFC 7323 4.

use crate::drop::Drop;
use crate::fact::{Acked, Fact, Passed};
use crate::flow::{Env, Flow, Local, Standing};
use crate::limits::{ACK_AHEAD_MAX, TICK_AGAIN, UNA_FLUSH, UNA_FLUSH_BYTES};
use crate::recorder::Recorder;
use crate::seq::Seq;
use crate::tcp::deadline::Wait;
use crate::tcp::seat::Seat;
use crate::tcp::sender::{Ack, Sender};
use crate::tcp::state::State;
use crate::time::{Duration, Instant};
use crate::wire::Segment;

impl Flow {
    /// RFC 9293 3.10.7.4, fifth: SEG.ACK and SEG.WND.
    pub(super) fn handle_acknowledgement<R: Recorder>(
        &mut self,
        now: Instant,
        ts_now: u32,
        slot: u32,
        env: &mut Env,
        recorder: &mut R,
        segment: &Segment,
    ) -> Result<(), Drop> {
        let in_grace = self.in_grace(now, env);
        let local = &mut self.local;
        let una = local.snd_una;
        let ahead = if in_grace { una + ACK_AHEAD_MAX } else { local.snd_nxt };
        if segment.ack.after(ahead.max(local.snd_nxt)) {
            if self.contract.state != State::SynReceived {
                self.challenge(now);
            }
            return Err(Drop::AckUnsent);
        }
        // RFC 9293 3.10.7.4: nothing is taken from whoever has not shown that he knows our SYN; the
        // stack resets him.
        if self.contract.state == State::SynReceived && segment.ack.before_eq(self.contract.iss) {
            return Err(Drop::AckUnsent);
        }
        // RFC 5961 5.2: far too old an acknowledgement may be blind; it is questioned.
        let oldest = una - local.snd_wnd_max.max(0xffff);
        if segment.ack.before(oldest) {
            self.challenge(now);
            return Err(Drop::AckUnsent);
        }
        let window_update = self.handle_window(segment);
        self.handle_kick_answer(now, env, segment);
        let local = &mut self.local;
        let mut sack = [(Seq(0), Seq(0)); 4];
        let mut blocks = 0;
        for block in segment.options.sack.iter().flatten() {
            sack[blocks] = *block;
            blocks += 1;
        }
        let rtt = local.round_trip(ts_now, segment);
        let ack = Ack {
            ack: segment.ack,
            sack: &sack[..blocks],
            rtt,
            segment_len: segment.len(),
            window_update,
            window_zero: local.snd_wnd == 0,
        };
        self.sender.handle_ack(now, &mut env.senders, &ack);
        if segment.ack.after(una) {
            local.snd_una = segment.ack;
            local.snd_nxt = local.snd_nxt.max(segment.ack);
            local.persist_count = 0;
            self.note_acknowledged(now, slot, env, recorder, !segment.payload.is_empty());
        } else if window_update {
            let is_resting = self.local.deadlines.is_set(Wait::UnaFlush);
            if self.is_opening_due(env, is_resting) {
                self.record_acknowledged(now, slot, env, recorder);
            }
        }
        Ok(())
    }

    /// Whether a segment acknowledges and offers what is known, and nothing is in flight that it could tell more of.
    #[inline]
    pub(super) fn repeats_acknowledgement(&self, env: &Env, segment: &Segment) -> bool {
        let window = (segment.window as u32) << self.contract.options.snd_scale;
        let is_known = segment.ack == self.local.snd_una && window == self.local.snd_wnd;
        let reports = segment.options.sack.iter().any(Option::is_some);
        is_known && !reports && self.sender.is_idle(&env.senders)
    }

    /// RFC 9293 3.10.7.4: SND.WND follows the newest segment. What acknowledges more is newer whatever its number (the
    /// RFC would leave the window as it was): else SND.UNA + SND.WND moved beyond what was ever offered. Answers
    /// whether it changed.
    pub(super) fn handle_window(&mut self, segment: &Segment) -> bool {
        let local = &mut self.local;
        let is_newer = local.snd_una.before(segment.ack)
            || local.snd_wl1.before(segment.seq)
            || (local.snd_wl1 == segment.seq && local.snd_wl2.before_eq(segment.ack));
        if !is_newer || segment.ack.before(local.snd_una) {
            return false;
        }
        let window = (segment.window as u32) << self.contract.options.snd_scale;
        let changed = window != local.snd_wnd;
        local.snd_wnd = window;
        local.snd_wnd_max = local.snd_wnd_max.max(window);
        (local.snd_wl1, local.snd_wl2) = (local.snd_wl1.max(segment.seq), segment.ack);
        if window > 0 {
            local.deadlines.clear(Wait::Persist);
        }
        changed
    }

    /// After a takeover: the client's first answer says what it has. What lies below that is skipped, and
    /// the acknowledgement that our kick carried at a stale SEG.SEQ is repeated.
    fn handle_kick_answer(&mut self, now: Instant, env: &mut Env, segment: &Segment) {
        let local = &mut self.local;
        if local.owed.kick_unanswered {
            local.owed.kick_unanswered = false;
            local.owed.kick = false;
        }
        if segment.ack.after(local.snd_nxt) {
            let hint = self.sender.hint(&env.senders);
            self.sender.release(&mut env.senders);
            let service = &env.services[self.group as usize];
            let (mss, sack) = (self.payload_max(), self.contract.options.sack);
            self.sender =
                Seat::new(&Sender::resume(now, &service.sender, segment.ack, mss, sack, hint));
            self.local.snd_nxt = segment.ack;
            self.local.owed.ack = true;
        }
    }

    /// SND.UNA moved, and the other side has answered in the same segment (`is_answer`) or not: recorded at once where
    /// something depends on it, else now and then.
    fn note_acknowledged<R: Recorder>(
        &mut self,
        now: Instant,
        slot: u32,
        env: &mut Env,
        recorder: &mut R,
        is_answer: bool,
    ) {
        let contract = &self.contract;
        let behind = self.local.snd_una.since(contract.snd_una);
        let receive_buffer = env.services[self.group as usize].receive_buffer;
        let is_first = contract.state == State::SynReceived;
        let acked_all =
            self.closes() && contract.offset_of(self.local.snd_una) > Some(self.output.end());
        // What is acknowledged makes room for whoever the bytes came from.
        let source = env.across.as_ref().map_or(contract, |across| &across.contract);
        let (source, window) = (source.window(), source.window().min(contract.window()));
        let is_resting = self.local.deadlines.is_set(Wait::UnaFlush);
        let is_due = is_first
            || acked_all
            || if self.passes_ahead() {
                let offered = source.min(env.memory.share() as u32);
                self.is_passing_due(offered, is_resting, is_answer)
            } else {
                !self.backlog.is_empty() || behind >= UNA_FLUSH_BYTES || window < receive_buffer / 2
            };
        if is_due || self.standing == Standing::Absent {
            self.record_acknowledged(now, slot, env, recorder);
        } else if !self.local.deadlines.is_set(Wait::UnaFlush) {
            self.local.deadlines.set(Wait::UnaFlush, now + UNA_FLUSH);
        }
    }

    /// Records how far the client has acknowledged, or tries again a little later if there is no room.
    pub fn record_acknowledged<R: Recorder>(
        &mut self,
        now: Instant,
        slot: u32,
        env: &mut Env,
        recorder: &mut R,
    ) {
        let passed = self.passed();
        let acked = Fact::Acked(Acked {
            snd_una: self.local.snd_una,
            snd_wnd: self.local.snd_wnd,
            ts_recent: self.local.ts_recent,
            hint: self.sender.hint(&env.senders),
            passed,
        });
        if self.check_log(recorder).is_err() || !self.memory_allows(env, &acked) {
            self.local.deadlines.set(Wait::UnaFlush, now + TICK_AGAIN);
            return;
        }
        if self.passes_ahead() {
            // What is acknowledged until then is recorded as one.
            self.note_passed(passed);
            self.local.deadlines.set(Wait::UnaFlush, now + UNA_FLUSH);
        } else {
            self.local.deadlines.clear(Wait::UnaFlush);
        }
        self.enact(slot, env, recorder, &acked);
    }

    /// Whether the other side has acknowledged what the log does not know.
    pub(crate) fn has_unrecorded(&self, env: &Env) -> bool {
        self.local.snd_una != self.contract.snd_una
            || self.passed() != Passed::default()
            || self.has_opened(env)
    }
}

impl Local {
    /// RFC 7323 4.3: the time since what is echoed was sent, unless a former owner sent it.
    pub(crate) fn round_trip(&self, ts_now: u32, segment: &Segment) -> Option<Duration> {
        let (_, echo) = segment.options.timestamps?;
        let is_ours = echo.wrapping_sub(self.ts_first) as i32 >= 0;
        let elapsed = ts_now.wrapping_sub(echo) as i32;
        (is_ours && elapsed >= 0).then(|| Duration::from_millis(elapsed as u64))
    }
}
