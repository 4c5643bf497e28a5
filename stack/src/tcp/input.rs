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
//! Path: step 4. Spec: RFC 9293 3.10.7.4, RFC 7323 5 (PAWS), RFC 5961 3-5 (blind attacks), RFC 2018.
//! Left out: urgent data is delivered in band.

use crate::drop::Drop;
use crate::fact::{Acked, Fact, Passed, Tick};
use crate::flow::{Env, Flow, Local, Standing, Turn};
use crate::limits::{
    ACK_AHEAD_MAX, ACK_DELAY, CHALLENGE_INTERVAL, CHUNK_BYTES, CHUNKS_IN_ORDER, EAGER_ACKS,
    FULL_SEGMENT_BYTES, HOLD_BACK, TICK_AGAIN, TIME_WAIT, TS_RECENT_VALID, UNA_FLUSH,
    UNA_FLUSH_BYTES,
};
use crate::pool::NONE;
use crate::recorder::Recorder;
use crate::seq::Seq;
use crate::tcp::deadline::{self, Wait};
use crate::tcp::reassembly::Reassembly;
use crate::tcp::seat::Seat;
use crate::tcp::sender::{Ack, Sender};
use crate::tcp::state::State;
use crate::time::{Duration, Instant};
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
        self.note_heard(now, segment);
        // A time-out that waited for room was about a silence that is over.
        self.local.tick_waiting = None;
        if self.contract.state == State::Closed {
            return Ok(());
        }
        let payload = self.handle_payload(now, slot, env, recorder, segment);
        self.handle_fin(now, slot, env, recorder, segment);
        self.note_next_hop(slot, env, recorder, segment.source_mac);
        payload
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

    /// Whether what is not acknowledged are words, which something said later may acknowledge.
    fn is_ack_resting(&self) -> bool {
        let is_copied = self.standing == Standing::Copied;
        is_copied && self.local.deadlines.is_set(Wait::Ack) && !self.local.owed.ack_new
    }

    /// Who says the next word as soon as he has an acknowledgement that was late has waited for it (RFC 9293 3.7.4, Nagle's
    /// algorithm). Without timestamps nobody can tell.
    fn note_patience(&mut self, ts_now: u32, env: &Env, segment: &Segment) {
        if !self.local.was_ack_late || segment.payload.is_empty() {
            return;
        }
        self.local.was_ack_late = false;
        let usual = self.sender.hint(&env.senders).srtt_us.div_ceil(1_000) + 1;
        let since = self.local.round_trip(ts_now, segment);
        if since.is_none_or(|since| since <= Duration::from_millis(usual.into())) {
            self.local.eager_acks = EAGER_ACKS;
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
        if !deadline::is_ahead(now, self.local.challenge_at, CHALLENGE_INTERVAL) {
            self.local.challenge_at = deadline::rounded_up(now + CHALLENGE_INTERVAL);
            self.local.owed.ack = true;
        } else {
            self.local.is_withheld = true;
        }
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

    /// RFC 9293 3.10.7.4, fifth: SEG.ACK and SEG.WND.
    fn handle_acknowledgement<R: Recorder>(
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

    /// RFC 9293 3.10.7.4: SND.WND follows the newest segment. What acknowledges more is newer whatever its number (the
    /// RFC would leave the window as it was): else SND.UNA + SND.WND moved beyond what was ever offered. Answers
    /// whether it changed.
    fn handle_window(&mut self, segment: &Segment) -> bool {
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
                self.is_passing_due(source, is_resting, is_answer)
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

    /// RFC 9293 3.10.7.4, seventh: payload in order becomes facts, payload beyond a hole is kept.
    pub(crate) fn handle_payload<R: Recorder>(
        &mut self,
        now: Instant,
        slot: u32,
        env: &mut Env,
        recorder: &mut R,
        segment: &Segment,
    ) -> Result<(), Drop> {
        let (mut seq, mut payload) = (segment.seq, segment.payload);
        if payload.is_empty() || !self.contract.state.can_receive() {
            return Ok(());
        }
        if self.ahead().fin {
            // Nothing follows a FIN: it is said again, or wrong.
            self.local.owed.ack = true;
            return Ok(());
        }
        let rcv_nxt = self.contract.rcv_nxt;
        if seq.before(rcv_nxt) {
            let known = (rcv_nxt.since(seq) as usize).min(payload.len());
            // What was taken before is sent again: the client has missed our acknowledgement.
            self.local.owed.ack = true;
            self.note_taken_before(segment);
            (seq, payload) = (rcv_nxt, &payload[known..]);
        }
        let edge = self.contract.rcv_edge.max(self.local.adv_edge);
        let room = edge.since(seq) as usize;
        if payload.len() > room {
            // RFC 9293 3.8.6.1: a probe of our window is answered, however little of it is taken.
            self.local.owed.ack = true;
            self.ask_across(env);
            payload = &payload[..room];
        }
        if payload.is_empty() {
            return Ok(());
        }
        if self.speaks_to_nobody() {
            // RFC 9293 SHLD-3.
            self.tick(now, slot, env, recorder, Tick::Abort);
            return Ok(());
        }
        if seq != rcv_nxt {
            self.local.owed.ack = true;
            self.local.deadlines.clear(Wait::HoldBack);
            return self.keep_out_of_order(env, seq, payload);
        }
        self.note_arrival(now, segment, payload.len());
        let had_hole = self.reassembly != NONE;
        let result = self.take_in_order(slot, env, recorder, payload);
        if result.is_ok() && had_hole {
            // RFC 5681 4.2: a segment that fills a hole is acknowledged at once, and whole.
            self.local.owed.ack_new = true;
            self.local.deadlines.clear(Wait::HoldBack);
            self.drain_reassembly(now, slot, env, recorder);
        }
        result
    }

    /// Enacts payload at RCV.NXT, in as many facts as the log asks for.
    fn take_in_order<R: Recorder>(
        &mut self,
        slot: u32,
        env: &mut Env,
        recorder: &mut R,
        mut payload: &[u8],
    ) -> Result<(), Drop> {
        while !payload.is_empty() {
            if !self.memory_allows(env, &Fact::Data(payload)) {
                return Err(Drop::PoolExhausted);
            }
            if self.passes_ahead() {
                self.take_ahead(env, payload);
                return Ok(());
            }
            let is_unread = self.app.leg().is_some() && self.is_deaf();
            let room = match self.standing {
                Standing::Absent | Standing::Silent => payload.len(),
                Standing::Copied if is_unread => {
                    self.check_log(recorder).map(|()| payload.len())?
                }
                Standing::Copied => recorder
                    .room(self.lane(), payload.len(), false)
                    .filter(|&room| room > 0)
                    .ok_or(Drop::LogFull)?,
            };
            let (piece, rest) = payload.split_at(room.min(payload.len()));
            let unread = Fact::Unread(piece.len() as u32);
            let fact = if is_unread { unread } else { Fact::Data(piece) };
            self.enact(slot, env, recorder, &fact);
            payload = rest;
        }
        Ok(())
    }

    /// Decides when the payload is acknowledged: every second full segment at once (RFC 9293 SHLD-19), a
    /// single one after a delay (SHLD-18, MUST-40) or, if that was in vain lately, as soon as it may be, and the newest full segment of a stream not
    /// before the next (DESIGN 9, hold-back: so that a promoted peer has an acknowledgement to
    /// advance). Nothing is held back at a hole: its sender would take the segment for another loss.
    fn note_arrival(&mut self, now: Instant, segment: &Segment, bytes: usize) {
        let is_ahead = self.passes_ahead();
        let local = &mut self.local;
        local.rcv_mss = local.rcv_mss.max(bytes as u16);
        let is_full = bytes >= local.rcv_mss as usize && bytes >= FULL_SEGMENT_BYTES as usize;
        if is_ahead {
            // What is held back there is the end of what has got through.
        } else if is_full && !segment.flags.has(Flags::PSH) && !segment.flags.has(Flags::FIN) {
            local.hold_back = self.contract.rcv_nxt;
            local.deadlines.set(Wait::HoldBack, now + HOLD_BACK);
        } else {
            local.deadlines.clear(Wait::HoldBack);
        }
        let is_answer = local.turn == Turn::Ours && segment.flags.has(Flags::PSH);
        local.turn = if is_answer { Turn::Answered } else { Turn::Theirs };
        let unacked = self.contract.rcv_nxt.since(local.rcv_acked) as usize + bytes;
        // Two small ones are no reason: what answers them takes the acknowledgement along; nor is one more answer in a dialogue,
        // in which each word of ours acknowledges the answer before the last.
        let full = local.rcv_mss.max(self.contract.options.mss.min(FULL_SEGMENT_BYTES as u16));
        if unacked >= if is_answer { 4 } else { 2 } * usize::from(full) {
            local.owed.ack_new = true;
        } else if local.eager_acks > 0 {
            local.eager_acks -= 1;
            local.owed.ack_new = true;
        } else if !local.deadlines.is_set(Wait::Ack) {
            local.deadlines.set(Wait::Ack, now + ACK_DELAY);
        }
    }

    fn keep_out_of_order(&mut self, env: &mut Env, seq: Seq, payload: &[u8]) -> Result<(), Drop> {
        let chunks = &env.memory.chunks;
        let is_scarce = chunks.available() * CHUNKS_IN_ORDER < chunks.capacity();
        if is_scarce || !env.memory.has_room_for(payload.len() + CHUNK_BYTES) {
            return Err(Drop::PoolExhausted);
        }
        if self.reassembly == NONE {
            self.reassembly =
                env.reassembly.take(Reassembly::default()).ok_or(Drop::PoolExhausted)?;
        }
        let reassembly = &mut env.reassembly[self.reassembly];
        if let Some((start, end)) = reassembly.overlap(seq, seq + payload.len() as u32) {
            self.note_duplicate(start, end);
        }
        let kept = reassembly.insert(&mut env.memory.chunks, seq, payload);
        kept.map_err(|_| Drop::PoolExhausted)
    }

    /// Enacts what was kept and is now in order. Where there is no room the rest waits a little: its sender
    /// believes that it has arrived and will not send it again soon.
    pub(crate) fn drain_reassembly<R: Recorder>(
        &mut self,
        now: Instant,
        slot: u32,
        env: &mut Env,
        recorder: &mut R,
    ) {
        let mut copy = [0; CHUNK_BYTES];
        while self.reassembly != NONE && self.contract.state.can_receive() {
            let rcv_nxt = self.contract.rcv_nxt;
            let reassembly = &mut env.reassembly[self.reassembly];
            let Some(front) = reassembly.front(&mut env.memory.chunks, rcv_nxt) else { break };
            let n = front.len();
            copy[..n].copy_from_slice(front);
            if self.take_in_order(slot, env, recorder, &copy[..n]).is_err() {
                self.local.deadlines.set(Wait::Room, now + TICK_AGAIN);
                return;
            }
        }
        if self.reassembly == NONE {
            return;
        }
        if env.reassembly[self.reassembly].fin_is_next(self.contract.rcv_nxt) {
            self.take_fin(now, slot, env, recorder);
        } else if env.reassembly[self.reassembly].is_empty() {
            self.drop_reassembly(env);
        }
    }

    /// Remembers a FIN that cannot be taken yet.
    fn keep_fin(&mut self, env: &mut Env, seq: Seq) {
        if self.reassembly == NONE {
            self.reassembly = env.reassembly.take(Reassembly::default()).unwrap_or(NONE);
        }
        if self.reassembly != NONE {
            env.reassembly[self.reassembly].insert_fin(seq);
        }
    }

    /// Enacts the FIN that is at RCV.NXT, or tries again a little later.
    fn take_fin<R: Recorder>(&mut self, now: Instant, slot: u32, env: &mut Env, recorder: &mut R) {
        if !self.contract.state.can_receive() {
            return;
        }
        if self.passes_ahead() {
            let is_news = self.take_fin_ahead(env);
            self.local.owed.ack |= !is_news;
            self.drop_reassembly(env);
            self.local.deadlines.clear(Wait::HoldBack);
            return;
        }
        if self.check_log(recorder).is_err() || !self.memory_allows(env, &Fact::Fin) {
            // It is kept like what arrived out of order, if there is room for that.
            self.keep_fin(env, self.contract.rcv_nxt);
            self.local.deadlines.set(Wait::Room, now + TICK_AGAIN);
            return;
        }
        self.enact(slot, env, recorder, &Fact::Fin);
        self.drop_reassembly(env);
        self.local.deadlines.clear(Wait::HoldBack);
    }

    /// RFC 9293 3.10.7.4, eighth: the FIN, once everything before it is taken.
    pub(crate) fn handle_fin<R: Recorder>(
        &mut self,
        now: Instant,
        slot: u32,
        env: &mut Env,
        recorder: &mut R,
        segment: &Segment,
    ) {
        if !self.contract.state.can_receive() {
            if segment.flags.has(Flags::FIN) {
                // A repeated FIN is acknowledged again; in TIME-WAIT it restarts the clock.
                self.local.owed.ack = true;
                if self.contract.state == State::TimeWait {
                    self.local.deadlines.set(Wait::TimeWait, now + TIME_WAIT);
                }
            }
            return;
        }
        let rcv_nxt = self.contract.rcv_nxt;
        let fin_seq = segment.seq + segment.payload.len() as u32;
        let is_next = segment.flags.has(Flags::FIN) && fin_seq == rcv_nxt;
        if segment.flags.has(Flags::FIN) && fin_seq.after(rcv_nxt) {
            self.local.owed.ack = true;
            self.keep_fin(env, fin_seq);
        }
        if is_next {
            self.take_fin(now, slot, env, recorder);
        }
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
