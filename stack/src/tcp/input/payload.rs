//! What a segment says: payload and FIN, in order or beyond a hole.
//!
//! In order they become facts, as many as the log asks for; or they are passed on ahead of it ([`crate::legs`]). What lies
//! beyond a hole is kept, and enacted when that is filled; also what is in order and finds no room in log or pools, if its sender
//! will not say it again soon. When it is acknowledged: [`crate::tcp::delayed_ack`].
//!
//! Path: step 4. Spec: RFC 9293 3.10.7.4, seventh and eighth; RFC 5681 4.2; RFC 2018.

use crate::drop::Drop;
use crate::fact::{Fact, Tick};
use crate::flow::{Env, Flow, Standing};
use crate::limits::{CHUNK_BYTES, CHUNKS_IN_ORDER, SEND_AGAIN, TICK_AGAIN, TIME_WAIT};
use crate::pool::NONE;
use crate::recorder::Recorder;
use crate::seq::Seq;
use crate::tcp::deadline::Wait;
use crate::tcp::delayed_ack::Arrival;
use crate::tcp::reassembly::Reassembly;
use crate::tcp::state::State;
use crate::time::Instant;
use crate::wire::{Flags, Segment};

impl Flow {
    /// RFC 9293 3.10.7.4, seventh: payload in order becomes facts, payload beyond a hole is kept. `has_paused`: nothing was heard for
    /// a while before it.
    pub(crate) fn handle_payload<R: Recorder>(
        &mut self,
        now: Instant,
        slot: u32,
        env: &mut Env,
        recorder: &mut R,
        segment: &Segment,
        has_paused: bool,
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
        let (is_pushed, bytes) = (segment.flags.has(Flags::PSH), payload.len());
        self.note_arrival(now, segment, &Arrival { is_pushed, has_paused, bytes });
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
            let may_hold = self.has_share(env, payload.len());
            if !may_hold || !self.memory_allows(env, &Fact::Data(payload)) {
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
                // Until the other side takes something, if it holds all that it may.
                let pause = if self.has_share(env, n) { TICK_AGAIN } else { SEND_AGAIN };
                self.local.deadlines.set(Wait::Room, now + pause);
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

    /// Remembers a FIN that cannot be taken yet.
    fn keep_fin(&mut self, env: &mut Env, seq: Seq) {
        if self.reassembly == NONE {
            self.reassembly = env.reassembly.take(Reassembly::default()).unwrap_or(NONE);
        }
        if self.reassembly != NONE {
            env.reassembly[self.reassembly].insert_fin(seq);
        }
    }
}
