//! Opening a connection ourselves: what SYN-SENT takes, in the order of RFC 9293 3.10.7.3.
//!
//! Beginning is a decision: it is recorded, and the SYN waits until the peer holds it. What the other
//! side's SYN brings is a fact like any other, and our answer waits for that, as a SYN-ACK waits for its
//! SYN. So a promoted peer either knows the other side's number or has never said anything but the same
//! SYN, which it then repeats; a SYN-ACK that answers a former owner's SYN is as good as one that
//! answers ours.
//!
//! ```text
//!            SYN-ACK: Answered                    ACK: Acked
//! SYN-SENT ------------------> ESTABLISHED <-------------------+
//!    |       SYN: Answered                                     |
//!    +------------------------> SYN-RECEIVED ------------------+
//! ```
//!
//! Path: step 4. Spec: RFC 9293 3.5, 3.10.1, 3.10.7.3; RFC 7323 2.2, 3.2. Payload and FIN of a SYN-ACK are
//! taken; those of a SYN that crosses ours are left to their retransmission, as in LISTEN.

use crate::drop::Drop;
use crate::fact::{Answered, Fact, Syn};
use crate::flow::{Env, Flow, Standing};
use crate::limits::SYN_AGAIN;
use crate::recorder::{Progress, Recorder};
use crate::service::Service;
use crate::tcp::contract::{Contract, Options};
use crate::tcp::deadline::{Heard, Wait};
use crate::tcp::seat::Seat;
use crate::tcp::sender::{Ack, Sender};
use crate::tcp::state::State;
use crate::time::Instant;
use crate::wire::{Address, Flags, Segment};

impl Options {
    /// What a SYN of ours from `local` offers.
    pub fn offered(service: &Service, local: &Address) -> Options {
        Options {
            mss: service.mss_for(local),
            snd_scale: 0,
            rcv_scale: service.window_scale(),
            scaling: true,
            sack: true,
            timestamps: true,
        }
    }

    /// What the other side's SYN and our limits agree on: we offer everything, or answer what it offers.
    pub fn agreed(segment: &Segment, service: &Service) -> Options {
        let offered = &segment.options;
        // RFC 9293 MUST-15: without the option the other side takes 536 bytes (IPv6: 1220).
        let default = if segment.source.as_v4().is_some() { 536 } else { 1220 };
        Options {
            mss: offered.mss.unwrap_or(default).max(64).min(service.mss_for(&segment.destination)),
            snd_scale: offered.window_scale.unwrap_or(0),
            rcv_scale: offered.window_scale.map_or(0, |_| service.window_scale()),
            scaling: offered.window_scale.is_some(),
            sack: offered.sack_permitted,
            timestamps: offered.timestamps.is_some(),
        }
    }
}

impl Syn {
    /// What a SYN says.
    pub fn of(segment: &Segment) -> Syn {
        Syn {
            irs: segment.seq,
            ts_recent: segment.options.timestamps.map_or(0, |(value, _)| value),
            snd_wnd: segment.window as u32,
        }
    }
}

impl Flow {
    /// Takes a segment in SYN-SENT.
    pub(super) fn handle_answer<R: Recorder>(
        &mut self,
        now: Instant,
        ts_now: u32,
        slot: u32,
        env: &mut Env,
        recorder: &mut R,
        segment: &Segment,
    ) -> Result<(), Drop> {
        let is_reset = segment.flags.has(Flags::RST);
        let is_acknowledged = segment.flags.has(Flags::ACK);
        // First: only our SYN can be acknowledged. The stack resets whoever acknowledges something else.
        if is_acknowledged && !self.is_syn_acknowledged(now, env, segment) {
            if is_reset {
                return Err(Drop::StrayReset);
            }
            return Err(Drop::AckUnsent);
        }
        // Second: a reset that acknowledges our SYN refuses the connection (RFC 5961 3.2 as well).
        if is_reset {
            if !is_acknowledged {
                return Err(Drop::StrayReset);
            }
            self.check_log(recorder)?;
            self.enact(slot, env, recorder, &Fact::Reset);
            return Ok(());
        }
        // Fifth: neither SYN nor RST.
        if !segment.flags.has(Flags::SYN) {
            return Err(Drop::NoSyn);
        }
        // Fourth: the SYN.
        let options = Options::agreed(segment, &env.services[self.group as usize]);
        let answered = Answered { syn: Syn::of(segment), options, is_acknowledged };
        let fact = Fact::Answered(answered);
        self.check_log(recorder)?;
        if !self.memory_allows(env, &fact) {
            return Err(Drop::PoolExhausted);
        }
        self.enact(slot, env, recorder, &fact);
        self.local.deadlines.clear(Wait::Ack);
        self.note_syn(now);
        if !is_acknowledged {
            self.note_crossing(now, env);
            return Ok(());
        }
        self.note_opened(now, ts_now, env, segment);
        let rest = segment.without_syn();
        let payload = self.handle_payload(now, slot, env, recorder, &rest, false);
        self.handle_fin(now, slot, env, recorder, &rest);
        payload
    }

    /// Our SYN was answered as nobody would who has none, and the answer has been reset. The other side may have kept a connection
    /// from before a crash: the reset ends that (RFC 9293 3.5.1, figure 9), and behind it our SYN opens one. So it is said again
    /// soon, not only after a time-out; and as nothing proves the answer, not more often than such segments are challenged.
    pub(crate) fn open_again_soon(&mut self, now: Instant) {
        let was_said = self.contract.state == State::SynSent
            && self.local.snd_nxt != self.contract.iss
            && !self.is_held();
        if was_said && self.take_challenge(now) {
            self.local.deadlines.set(Wait::Ack, now + SYN_AGAIN);
        }
    }

    /// Whether SEG.ACK acknowledges our SYN, or one that a former owner sent for the same flow.
    fn is_syn_acknowledged(&self, now: Instant, env: &Env, segment: &Segment) -> bool {
        let behind_syn = self.contract.iss + 1;
        segment.ack == behind_syn && (self.local.snd_nxt == behind_syn || self.in_grace(now, env))
    }

    /// The SYN-ACK that answers a SYN which crossed ours: its SYN was taken before, what is left of it
    /// opens the connection (RFC 9293 3.5, figure 8).
    pub(super) fn is_crossed_syn_ack(&self, segment: &Segment) -> bool {
        let is_open = self.contract.state.is_synchronized();
        let is_answer = segment.flags.has(Flags::ACK) && !segment.flags.has(Flags::RST);
        self.contract.is_active && !is_open && is_answer && segment.seq == self.contract.irs
    }

    /// The receiving side begins; nothing of it is acknowledged yet.
    fn note_syn(&mut self, now: Instant) {
        let contract = &self.contract;
        let local = &mut self.local;
        (local.snd_wnd, local.snd_wnd_max) = (contract.snd_wnd, contract.snd_wnd);
        (local.snd_wl1, local.snd_wl2) = (contract.irs, contract.snd_una);
        // Nothing is acknowledged yet; the window is what our SYN offered.
        local.rcv_acked = contract.irs;
        local.adv_edge = contract.rcv_nxt + contract.rcv_edge.since(contract.rcv_nxt).min(0xffff);
        local.ts_recent = contract.ts_recent;
        local.heard = Heard::at(now);
        local.tick_waiting = None;
        if self.standing == Standing::Copied {
            local.committed = Progress { rcv_nxt: contract.irs, rcv_edge: contract.irs };
        }
    }

    /// MUST-10: the SYNs have crossed; ours goes out again with an acknowledgement.
    fn note_crossing(&mut self, now: Instant, env: &mut Env) {
        let options = self.contract.options;
        self.sender.release(&mut env.senders);
        let config = &env.services[self.group as usize].sender;
        let iss = self.contract.iss;
        let sender = Sender::new(now, config, iss, options.payload_max(), options.sack);
        self.sender = Seat::new(&sender);
        if self.local.snd_nxt != iss {
            let sent = self.sender.handle_sent(now, &mut env.senders, config, (iss, 1), false);
            assert!(sent.is_ok(), "the room of the SYN before it was just given back");
        }
        self.local.owed.syn_ack = true;
    }

    fn note_opened(&mut self, now: Instant, ts_now: u32, env: &mut Env, segment: &Segment) {
        let Contract { snd_una, options, .. } = self.contract;
        self.local.snd_una = snd_una;
        self.local.snd_nxt = snd_una;
        self.local.owed.ack = true;
        // One that was to be said again is answered.
        self.local.owed.syn_ack = false;
        let ack = Ack {
            ack: snd_una,
            rtt: self.local.round_trip(ts_now, segment),
            segment_len: segment.len(),
            window_update: true,
            window_zero: self.local.snd_wnd == 0,
            ..Ack::default()
        };
        let was_resent = self.sender.resent_segments(&env.senders) > 0;
        self.sender.handle_ack(now, &mut env.senders, &ack);
        let (mss, sack) = (options.payload_max(), options.sack);
        self.sender.handle_handshake(now, &mut env.senders, (mss, sack), was_resent);
    }
}
