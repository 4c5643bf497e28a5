//! How a node serves a flow now: what it would have to learn anew after a takeover, and how that begins.
//!
//! Nothing here is copied to the peer. A promoted one begins with what the contract says, and trusts in what the client
//! acknowledges.

use crate::fact::Tick;
use crate::flow::{Env, Flow, Standing};
use crate::limits::{RESUME_SRTT_US, TIME_WAIT};
use crate::recorder::Progress;
use crate::seq::Seq;
use crate::service::Service;
use crate::tcp::contract::Contract;
use crate::tcp::deadline::{Deadlines, Heard, Wait};
use crate::tcp::delayed_ack::DelayedAck;
use crate::tcp::in_flight;
use crate::tcp::seat::Seat;
use crate::tcp::sender::Sender;
use crate::tcp::state::State;
use crate::time::Instant;

/// What this node knows of a flow and would have to learn anew after a takeover.
#[derive(Clone, Debug, Default)]
pub struct Local {
    /// Oldest unacknowledged sequence number.
    pub snd_una: Seq,
    /// Next sequence number to send.
    pub snd_nxt: Seq,
    /// Client's window, scaled.
    pub snd_wnd: u32,
    /// The largest window that the client ever offered.
    pub snd_wnd_max: u32,
    /// SEG.SEQ of the segment that last changed `snd_wnd`.
    pub snd_wl1: Seq,
    /// SEG.ACK of that segment.
    pub snd_wl2: Seq,
    /// The last SEG.ACK that we sent.
    pub rcv_acked: Seq,
    /// The right edge that we last advertised.
    pub adv_edge: Seq,
    /// What the peer holds: SEG.ACK never goes beyond.
    pub committed: Progress,
    /// The last op of this flow; 0 once the peer holds it.
    pub last_op: u64,
    /// Output waits until this op is committed; 0 once it is. A copy begins with such an op: while it waits, what
    /// the peer says about earlier ones may be about a former copy.
    pub hold_op: u64,
    /// TS.Recent.
    pub ts_recent: u32,
    /// When a segment of the client was last used.
    pub heard: Heard,
    /// Added to the group's millisecond clock, this is TSval.
    pub ts_offset: u32,
    /// TSval of our first segment; an echo older than that is a former owner's.
    pub ts_first: u32,
    /// What time will bring.
    pub deadlines: Deadlines,
    /// The newest full segment without PSH begins here and stays unacknowledged until `Wait::HoldBack`.
    pub hold_back: Seq,
    /// Largest payload seen from the client.
    pub rcv_mss: u16,
    /// What the path takes if it is less than what was agreed on, in the units of an MSS; 0 if nothing is known.
    pub path_mss: u16,
    /// When that was learnt, in seconds modulo 2^16.
    pub path_since_secs: u16,
    /// How often it was learnt since the whole was last tried.
    pub path_changes: u8,
    /// Bytes that arrived twice and are not reported yet (RFC 2883); 0 if there are none.
    pub duplicate_bytes: u16,
    /// Where they begin.
    pub duplicate: Seq,
    /// When the next answer to a segment that proves nothing may go out.
    pub challenge_at: in_flight::Tick,
    /// What time has brought and the log had no room for.
    pub tick_waiting: Option<Tick>,
    /// Times that the zero window was probed without an answer.
    pub persist_count: u8,
    /// An answer to a segment that proves nothing was just withheld; the stack counts it.
    pub is_withheld: bool,
    /// Keep-alive probes without an answer.
    pub probes_unanswered: u8,
    /// When the last of them left, or was answered.
    pub probed: Heard,
    /// What is owed to the client.
    pub owed: Owed,
    /// Our FIN went out with the acknowledgement of the other side's, and nobody can have said it before.
    pub fin_answers: bool,
    /// How much of [`crate::limits::EARLY_RECORDS_MAX`] is used up.
    pub early_records: u8,
    /// Who may be waiting for an acknowledgement.
    pub delayed_ack: DelayedAck,
    /// Counted as half open by the stack.
    pub is_half_open: bool,
    /// Carried on after a takeover: a former owner may have said what this node does not know.
    pub is_resumed: bool,
}

/// Segments that are due whatever the windows say.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Owed {
    /// SYN-ACK; in SYN-SENT a SYN.
    pub syn_ack: bool,
    /// RST, as the last thing the flow says.
    pub rst: bool,
    /// An ACK even if it acknowledges nothing new (duplicate, challenge).
    pub ack: bool,
    /// An ACK as soon as it acknowledges something new.
    pub ack_new: bool,
    /// As much as the client's window takes, though that is less than silly-window avoidance asks for.
    pub partial: bool,
    /// A probe below `snd_una`, answered by every TCP with its present state.
    pub probe: bool,
    /// The segment with which a promoted flow wakes its client.
    pub kick: bool,
    /// Data was kicked and is not answered yet: until then no more than that is said.
    pub kick_unanswered: bool,
}

impl Flow {
    /// Begins to serve a new flow.
    pub fn serve_new(&mut self, now: Instant, ts_now: u32, ts_offset: u32, service: &Service) {
        let contract = &self.contract;
        let (mss, sack) = (contract.options.payload_max(), contract.options.sack);
        self.sender = Seat::new(&Sender::new(now, &service.sender, contract.iss, mss, sack));
        let committed = Progress { rcv_nxt: contract.rcv_nxt, rcv_edge: contract.rcv_nxt };
        self.local = Local {
            snd_una: contract.iss,
            snd_nxt: contract.iss,
            committed,
            ..self.local_at_rest(now, ts_now, ts_offset)
        };
        self.local.owed.syn_ack = true;
    }

    /// Begins to serve a copied flow whose owner is gone: slow start from the hint, one segment to wake the
    /// client, and trust in what the client acknowledges.
    pub fn resume(&mut self, now: Instant, ts_now: u32, ts_offset: u32, service: &Service) {
        let Contract { snd_una, options, mut hint, .. } = self.contract;
        if hint.srtt_us == 0 && self.contract.state != State::SynSent {
            hint.srtt_us = RESUME_SRTT_US;
        }
        let (mss, sack) = (options.payload_max(), options.sack);
        self.sender = Seat::new(&Sender::resume(now, &service.sender, snd_una, mss, sack, hint));
        let contract = &self.contract;
        self.local = Local {
            snd_una: contract.snd_una,
            snd_nxt: contract.snd_una,
            is_resumed: true,
            delayed_ack: DelayedAck::resumed(),
            committed: self.progress(),
            ..self.local_at_rest(now, ts_now, ts_offset)
        };
        self.standing = Standing::Absent;
        let is_over = self.contract.state == State::TimeWait;
        if let Some(leg) = self.app.leg_mut().filter(|_| is_over) {
            // The former owner has counted it, and told of it.
            leg.is_end_told = true;
        }
    }

    /// What an owner served becomes a copy: of how it was served here nothing is left.
    pub fn fall_silent(&mut self, env: &mut Env) {
        self.sender.release(&mut env.senders);
        self.drop_reassembly(env);
        self.forget_ahead(env);
        self.sender = Seat::default();
        self.local = Local { heard: self.local.heard, ..Local::default() };
        self.standing = Standing::Silent;
    }

    /// A promoted flow wakes its client with one segment (DESIGN 9): the oldest unacknowledged data, a
    /// SYN-ACK, or an acknowledgement, whatever its state has to say. FIN-WAIT-2 and TIME-WAIT say nothing.
    pub fn owe_kick(&mut self) {
        if !matches!(self.contract.state, State::FinWait2 | State::TimeWait | State::Closed) {
            self.local.owed.kick = true;
        }
    }

    /// A promoted flow asks its client how it stands: what the former owner took and never passed on comes to
    /// light by the answer.
    pub fn owe_probe(&mut self) {
        let state = self.contract.state;
        self.local.owed.probe = state.is_synchronized() && state != State::TimeWait;
    }

    /// Local state of a flow of which nothing was sent or received by this node.
    fn local_at_rest(&self, now: Instant, ts_now: u32, ts_offset: u32) -> Local {
        let contract = &self.contract;
        let mut deadlines = Deadlines::default();
        if contract.state == State::TimeWait {
            deadlines.set(Wait::TimeWait, now + TIME_WAIT);
        }
        Local {
            snd_wnd: contract.snd_wnd,
            snd_wnd_max: contract.snd_wnd,
            snd_wl1: contract.rcv_nxt - 1,
            snd_wl2: contract.snd_una,
            rcv_acked: contract.rcv_nxt,
            adv_edge: contract.rcv_nxt,
            ts_recent: contract.ts_recent,
            heard: Heard::at(now),
            probed: Heard::at(now),
            challenge_at: in_flight::Tick::of(now),
            ts_first: ts_now,
            ts_offset,
            deadlines,
            ..Local::default()
        }
    }
}
