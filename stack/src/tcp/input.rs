//! A segment of the client, judged: from RFC 9293 3.10.7.4's checks to facts.
//!
//! The order is the RFC's: sequence, RST, SYN, ACK, window, payload, FIN. Each check that fails has a
//! named outcome. What is left is enacted as facts ([`Flow::enact`]) in the order in which it must be
//! applied: acknowledgement, payload, FIN. Nothing is enacted before the log and the pools were asked.
//!
//! The client may know less of us than we do: SEG.ACK is capped at what the peer holds, so a reset that
//! it sends in answer carries a number between what we acknowledged and RCV.NXT, and what it re-sends was
//! taken long ago. And it may know more: after a takeover it has seen what a former owner said.
//!
//! Path: step 4. Spec: RFC 9293 3.10.7.4, RFC 7323 5 (PAWS), RFC 5961 3-4 (blind attacks); what is acknowledged and
//! what is said in `input/`.
//! Left out: urgent data is delivered in band.

mod acknowledgement;
mod payload;

use crate::drop::Drop;
use crate::fact::{Fact, Tick};
use crate::flow::{Env, Flow, Standing};
use crate::limits::{CHALLENGE_INTERVAL, TIME_WAIT, TS_RECENT_VALID};
use crate::recorder::Recorder;
use crate::seq::Seq;
use crate::tcp::deadline::{self, Wait};
use crate::tcp::state::State;
use crate::time::Instant;
use crate::wire::{Flags, Mac, Segment};

impl Flow {
    /// Takes a segment of this flow. `ts_now` is what TSval would be now.
    pub fn handle_segment<R: Recorder>(
        &mut self,
        now: Instant,
        ts_now: u32,
        slot: u32,
        env: &mut Env,
        recorder: &mut R,
        segment: &Segment,
    ) -> Result<(), Drop> {
        if self.contract.state == State::Closed {
            return Err(Drop::Closing);
        }
        if self.contract.state == State::SynSent {
            return self.handle_answer(now, ts_now, slot, env, recorder, segment);
        }
        if segment.flags.has(Flags::SYN) && self.is_repeated_syn(segment) {
            self.local.owed.syn_ack = true;
            return Ok(());
        }
        if segment.flags.has(Flags::SYN) && self.is_crossed_syn_ack(segment) {
            // RFC 7323 2.2: the window of a SYN is not scaled.
            let window = segment.window >> self.contract.options.snd_scale;
            let rest = Segment { window, ..segment.without_syn() };
            self.handle_segment(now, ts_now, slot, env, recorder, &rest)?;
            self.local.owed.ack = true;
            return Ok(());
        }
        if let Err(reason) = self.check_timestamp(now, segment) {
            self.note_taken_before(segment);
            return Err(reason);
        }
        if segment.flags.has(Flags::RST) {
            return self.handle_reset(now, slot, env, recorder, segment);
        }
        if let Err(reason) = self.check_sequence(now, segment) {
            self.ask_across(env);
            return Err(reason);
        }
        if segment.flags.has(Flags::SYN) {
            // RFC 5961 4.2: a SYN inside a connection proves nothing.
            self.challenge(now);
            return Err(Drop::SynInWindow);
        }
        if !segment.flags.has(Flags::ACK) {
            return Err(Drop::NoAck);
        }
        self.check_log(recorder)?;
        self.note_timestamp(segment);
        self.note_patience(ts_now, env, segment);
        self.handle_acknowledgement(now, ts_now, slot, env, recorder, segment)?;
        if self.contract.state == State::SynReceived {
            // There was no room to open the connection: as if the segment had been lost.
            return Err(Drop::PoolExhausted);
        }
        let has_paused = self.local.heard.age(now) > 0;
        self.note_heard(now, segment);
        // A time-out that waited for room was about a silence that is over.
        self.local.tick_waiting = None;
        if self.contract.state == State::Closed {
            return Ok(());
        }
        let payload = self.handle_payload(now, slot, env, recorder, segment, has_paused);
        self.handle_fin(now, slot, env, recorder, segment);
        self.note_next_hop(slot, env, recorder, segment.source_mac);
        payload
    }

    /// Whether all before `seq` was taken and more can be: a segment there that continues the last one is judged by what it says alone.
    #[inline]
    pub(crate) fn is_streaming(&self, seq: Seq) -> bool {
        self.contract.state.can_receive() && seq == self.rcv_taken()
    }

    /// Takes a segment that continues the last one and was received with it: nothing is judged again that the two have in common.
    #[inline]
    pub(crate) fn handle_continued<R: Recorder>(
        &mut self,
        now: Instant,
        ts_now: u32,
        slot: u32,
        env: &mut Env,
        recorder: &mut R,
        segment: &Segment,
    ) -> Result<(), Drop> {
        self.check_log(recorder)?;
        self.note_timestamp(segment);
        if self.repeats_acknowledgement(env, segment) {
            // It is the newest, and that is all that there is to note.
            self.handle_window(segment);
        } else {
            self.handle_acknowledgement(now, ts_now, slot, env, recorder, segment)?;
        }
        self.handle_payload(now, slot, env, recorder, segment, false)
    }

    /// The client's segments come by another router than before. The peer learns it too, or the flow keeps to the
    /// former one: without room in the log the next segment tells it again.
    fn note_next_hop<R: Recorder>(&mut self, slot: u32, env: &mut Env, recorder: &mut R, mac: Mac) {
        let is_news = self.next_hop != mac && self.contract.state != State::Closed;
        if is_news && self.check_log(recorder).is_ok() {
            self.enact(slot, env, recorder, &Fact::NextHop(mac));
        }
    }

    /// The SYN that opened the flow, again: its SYN-ACK was lost, or is not yet committed.
    fn is_repeated_syn(&self, segment: &Segment) -> bool {
        self.contract.state == State::SynReceived
            && !segment.flags.has(Flags::ACK)
            && !segment.flags.has(Flags::RST)
            && segment.seq == self.contract.irs
    }

    /// RFC 7323 5.3 R1: a segment older than what was seen is answered and dropped.
    fn check_timestamp(&mut self, now: Instant, segment: &Segment) -> Result<(), Drop> {
        // A SYN is never taken here and always questioned (RFC 5961 4.2): its sender has forgotten
        // what was agreed on.
        let is_exempt = segment.flags.has(Flags::RST) || segment.flags.has(Flags::SYN);
        if !self.contract.options.timestamps || is_exempt {
            return Ok(());
        }
        let Some((value, _)) = segment.options.timestamps else {
            // RFC 7323 3.2: once agreed on, every segment but RST carries them.
            return Err(Drop::BadTcp);
        };
        let is_older = (value.wrapping_sub(self.local.ts_recent) as i32) < 0;
        if is_older && self.local.heard.silence(now) < TS_RECENT_VALID {
            self.local.owed.ack = true;
            return Err(Drop::OldTimestamp);
        }
        Ok(())
    }

    /// RFC 7323 4.3 (2): TS.Recent follows segments that include what we last acknowledged. Of words that are each acknowledged
    /// when the next has come none does: there it follows whatever comes in order, lest it stand still for ever.
    fn note_timestamp(&mut self, segment: &Segment) {
        let is_next = segment.seq == self.contract.rcv_nxt && self.is_ack_resting();
        if let Some((value, _)) = segment.options.timestamps
            && (is_next || segment.seq.before_eq(self.local.rcv_acked))
        {
            self.local.ts_recent = value;
        }
    }

    /// RFC 9293 3.10.7.4, first: some of the segment must lie in the window.
    fn check_sequence(&mut self, now: Instant, segment: &Segment) -> Result<(), Drop> {
        let rcv_nxt = self.rcv_taken();
        // A FIN is taken at the very edge, and then what comes next lies beyond it.
        let edge = self.contract.rcv_edge.max(self.local.adv_edge).max(rcv_nxt);
        let window = edge.since(rcv_nxt);
        let len = segment.len();
        let is_acceptable = match (len, window) {
            (0, 0) => segment.seq == rcv_nxt,
            // A client that has filled the window acknowledges from its very edge, also when we miss some of it.
            (0, _) => segment.seq.within(rcv_nxt, window + 1),
            // RFC 9293 MUST-66: with a closed window, ACKs and RSTs of a segment at its edge still
            // count.
            (_, 0) => segment.seq == rcv_nxt,
            _ => {
                segment.seq.within(rcv_nxt, window)
                    || (segment.seq + (len - 1)).within(rcv_nxt, window)
            }
        };
        // A pure ACK that the client sent before what we have taken since: capped acknowledgements
        // make that ordinary, and what it says about our data is as good as ever.
        let is_old_ack = len == 0
            && segment.seq.before(rcv_nxt)
            && segment.seq.after_eq(self.local.rcv_acked.min(self.local.committed.rcv_nxt));
        if is_acceptable || is_old_ack {
            return Ok(());
        }
        if self.contract.state == State::TimeWait && segment.flags.has(Flags::FIN) {
            // RFC 9293 3.10.7.4, eighth: the client has missed our ACK; the time to repeat it starts anew.
            self.local.deadlines.set(Wait::TimeWait, now + TIME_WAIT);
        }
        if len == 0 {
            self.challenge(now);
        } else {
            self.local.owed.ack = true;
            self.note_taken_before(segment);
        }
        Err(Drop::OutOfWindow)
    }

    /// Answers a segment that proves nothing with an ACK, but not many of them.
    fn challenge(&mut self, now: Instant) {
        match self.take_challenge(now) {
            true => self.local.owed.ack = true,
            false => self.local.is_withheld = true,
        }
    }

    /// Takes the leave to answer a segment that proves nothing, if there is any now; the next is later.
    pub(super) fn take_challenge(&mut self, now: Instant) -> bool {
        let may = !deadline::is_ahead(now, self.local.challenge_at, CHALLENGE_INTERVAL);
        if may {
            self.local.challenge_at = deadline::rounded_up(now + CHALLENGE_INTERVAL);
        }
        may
    }

    /// RFC 5961 3.2: only a reset at the exact number ends the flow; one in the window is questioned.
    fn handle_reset<R: Recorder>(
        &mut self,
        now: Instant,
        slot: u32,
        env: &mut Env,
        recorder: &mut R,
        segment: &Segment,
    ) -> Result<(), Drop> {
        let rcv_nxt = self.rcv_taken();
        let known = self.local.rcv_acked.min(rcv_nxt);
        if segment.seq.after_eq(known) && segment.seq.before_eq(rcv_nxt) {
            self.check_log(recorder)?;
            self.enact(slot, env, recorder, &Fact::Reset);
            return Ok(());
        }
        if segment.seq.after(rcv_nxt) && segment.seq.before_eq(self.contract.rcv_edge) {
            self.challenge(now);
        }
        Err(Drop::StrayReset)
    }

    /// Asks the log for the room that a segment without payload may need.
    pub(crate) fn check_log<R: Recorder>(&self, recorder: &R) -> Result<(), Drop> {
        let is_copied = self.standing == Standing::Copied;
        if is_copied && recorder.room(self.lane(), 0, false).is_none() {
            return Err(Drop::LogFull);
        }
        Ok(())
    }

    /// Whether the pools have what applying `fact` may take. Facts that only give memory back are always
    /// allowed: so a core whose pools are exhausted recovers.
    pub(crate) fn memory_allows(&self, env: &mut Env, fact: &Fact) -> bool {
        let needs = match fact {
            Fact::Open(_) | Fact::Answered(_) | Fact::Tick(Tick::Idle) => true,
            Fact::Reset
            | Fact::NextHop(_)
            | Fact::Room
            | Fact::Unread(_)
            | Fact::Tick(Tick::Abort | Tick::TimeWaitOver) => false,
            Fact::Acked(_) => self.contract.state == State::SynReceived || !self.backlog.is_empty(),
            Fact::Data(_) | Fact::Fin => !self.is_deaf(),
        };
        if !needs || !env.memory.has_room_for(fact.payload_bytes() + self.backlog.len()) {
            return !needs;
        }
        env.memory.hashes.available() > 0 || !self.would_upload(env, fact)
    }

    /// Whether what its side has said, and nobody has taken yet, may become so much more, so that those whose other side takes
    /// nothing leave room for others. A refusal is as if the network had lost the segment.
    #[inline]
    pub(super) fn has_share(&self, env: &Env, bytes: usize) -> bool {
        let output = match &env.across {
            Some(across) => &across.output,
            None => &self.output,
        };
        let held = output.stored() as usize + self.backlog.len();
        // A segment of any size gets through, if one at a time.
        held == 0 || held + bytes <= env.memory.share()
    }

    /// Whether a fact may begin an upload, now that there is no hash left for it: what is offered to the
    /// application is read twice then.
    #[cold]
    fn would_upload(&self, env: &mut Env, fact: &Fact) -> bool {
        let payload = if let Fact::Data(bytes) = fact { bytes } else { &[][..] };
        if self.backlog.is_empty() {
            return self.app.would_upload(payload);
        }
        let Env { scratch, memory, .. } = env;
        let kept = self.backlog.len();
        if kept + payload.len() > scratch.len() {
            return true;
        }
        self.backlog.copy_at(&memory.chunks, 0, &mut scratch[..kept]);
        scratch[kept..kept + payload.len()].copy_from_slice(payload);
        self.app.would_upload(&scratch[..kept + payload.len()])
    }
}
