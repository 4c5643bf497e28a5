//! The stack of one core: flow table, timers, and everything between a frame and its flow.
//!
//! ```text
//! handle_frames -> parse -> demux -> flow.handle_segment -> facts -> recorder
//! handle_committed, handle_timeouts, apply                     -> ready queue
//! poll_transmit <- ready queue <- flow.poll_transmit, replies, announcements
//! ```
//!
//! Poll in this order: `look_ahead` for a burst, `handle_frames` until all of it is taken, `handle_timeouts`, then `poll_transmit`
//! until it answers `None`; sleep until `poll_timeout`.
//!
//! A flow that is closed stays in the table until the peer holds the fact that closed it: so a segment
//! that finds no flow at all may be answered with RST at once.
//!
//! Path: steps 1 to 3 and 7. Bounds: `limits.rs` and [`StackConfig`]; nothing is allocated after `new`.

mod ahead;
mod behaviour;
mod build;
mod connect;
mod counters;
mod decide;
mod ending;
mod error;
mod forward;
mod generation;
mod group;
mod handover;
mod hear;
mod kick;
mod list;
mod memory;
mod name;
mod opening;
mod proxy;
mod purge;
mod queue;
mod reload;
mod roles;
mod speak;
mod table;
mod traffic;
mod turnover;

pub use ahead::{AHEAD_FLOWS_MAX, Elsewhere};
pub use behaviour::BEHAVIOUR;
pub use build::StackConfig;
pub use connect::ConnectError;
pub use counters::Counters;
pub use ending::Ending;
pub use error::IcmpCounters;
pub use forward::Stray;
pub use group::{Group, Mode};
pub use hear::{Overheard, Worth};
pub use list::{Ended, Filter, Listed};
pub use memory::{IDLE_FLOW_BYTES_MAX, StackMemory, memory_bytes, table_bytes};
pub use reload::Renewal;
pub use speak::Conflict;

use crate::drop::Drop;
use crate::flow::{Env, Flow, FlowId};
use crate::key::{FlowKey, Keys};
use crate::limits::TIMER_STEPS_MAX;
use crate::pool::Pool;
use crate::ready::Ready;
use crate::recent::Recent;
use crate::recorder::{Progress, Recorder};
use crate::reply::Replies;
use crate::shard::{Place, SHARDS};
use crate::tcp::state::State;
use crate::time::Instant;
use crate::upstream::Roster;
use crate::wheel::Wheel;
use crate::wire::{Address, Followers, Frame, Mac, Segment, parse};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use hashbrown::HashTable;
use kick::Kicks;
use roles::Probes;
use table::spread;
use turnover::{Sweep, Walk};

/// A node's stack on one core.
pub struct Stack {
    mac: Mac,
    /// Hardware addresses of the services that are served here, where they have their own.
    service_macs: Vec<Mac>,
    node: u8,
    keys: Keys,
    /// What flows share.
    pub env: Env,
    groups: Vec<Group>,
    flows: Pool<Flow>,
    table: HashTable<u32>,
    /// The servers of each service.
    rosters: Vec<Roster>,
    /// The last frame told where a server is.
    has_learnt: bool,
    /// Every flow, by name.
    names: HashTable<u32>,
    wheel: Wheel,
    ready: Ready,
    replies: Replies,
    recent: Recent,
    counters: Counters,
    place: Place,
    /// Flows that were born here, by shard.
    births: [u64; SHARDS],
    syn_received: u32,
    backlog_max: u32,
    kicks: Kicks,
    sweep: Sweep,
    probes: Probes,
    /// The walk over connections whose servers may be out of service.
    purge: Walk,
    /// Where clients were led, for the other cores of this node.
    sticks: VecDeque<(u8, Address, u16)>,
    /// One bit for each service of whose servers the other cores have something to hear.
    untold: u64,
    /// Connections that have ended, until they are fetched.
    endings: Vec<Ending>,
    announce_at: Instant,
    /// One bit for each group that is served and has its voice.
    speaking: u64,
    /// One bit for each group whose clients are listened to while the copies are here.
    listening: u64,
    ahead: ahead::Guesses,
    /// Frames that the flow at the front of the queue has sent in its turn.
    turn: u8,
    /// How the frame being handled came here.
    origin: Origin,
}

/// How a frame came here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Origin {
    /// It was sent here.
    #[default]
    Direct,
    /// Another node has forwarded it.
    Forwarded,
    /// It was sent here; the owner of an older generation was asked about it, and has no flow for it.
    Answer,
    /// It was sent to another node.
    Overheard,
}

impl Stack {
    /// Which of the node's cores this is.
    #[inline]
    pub fn place(&self) -> Place {
        self.place
    }

    /// The Ethernet address of the client-side interface.
    #[inline]
    pub fn mac(&self) -> Mac {
        self.mac
    }

    /// A group.
    pub fn group(&self, group: u8) -> &Group {
        &self.groups[group as usize]
    }

    /// Groups, by index.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Counters so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Flows with something in flight.
    pub fn flows_in_flight(&self) -> usize {
        self.env.senders.active.used()
    }

    /// Takes a frame of the client-side interface. What a client has to say to a group that is not served here is
    /// handed back.
    pub fn handle_frame<R: Recorder>(
        &mut self,
        now: Instant,
        frame: &[u8],
        recorder: &mut R,
    ) -> Option<Stray> {
        self.handle_frames(now, &[frame], recorder).1
    }

    /// Takes the first of these frames, of which there is one at least, and those behind it that continue what it says ([`Followers`]);
    /// answers how many.
    #[inline(always)]
    pub fn handle_frames<R: Recorder>(
        &mut self,
        now: Instant,
        frames: &[&[u8]],
        recorder: &mut R,
    ) -> (usize, Option<Stray>) {
        let guess = self.ahead.take();
        let mut followers = Followers::of(frames);
        let stray = self.take_frame(now, guess, frames[0], &mut followers, recorder);
        self.ahead.skip(followers.taken());
        (1 + followers.taken(), stray)
    }

    #[inline(always)]
    fn take_frame<'a, R: Recorder>(
        &mut self,
        now: Instant,
        guess: u32,
        frame: &'a [u8],
        followers: &mut Followers<'a>,
        recorder: &mut R,
    ) -> Option<Stray> {
        self.counters.rx_frames += 1;
        let parsed = parse(frame, &self.mac, &self.service_macs);
        let outcome = match &parsed {
            Ok(Frame::Tcp(segment)) => {
                self.handle_segment(now, guess, segment, followers, recorder)
            }
            Ok(Frame::Error(error)) => self.handle_error(now, error),
            Ok(frame) => self.handle_query(now, frame),
            Err(reason) => Err(*reason),
        };
        match outcome {
            Ok(()) => self.counters.rx_used += 1,
            Err(reason) => {
                if let Some(stray) = self.stray(reason, &parsed) {
                    self.counters.rx_strays += 1;
                    return Some(stray);
                }
                self.counters.drops.count(reason);
            }
        }
        None
    }

    #[inline(always)]
    fn handle_segment<'a, R: Recorder>(
        &mut self,
        now: Instant,
        guess: u32,
        segment: &Segment<'a>,
        followers: &mut Followers<'a>,
        recorder: &mut R,
    ) -> Result<(), Drop> {
        let key = FlowKey::of(segment);
        let is_right = self.flows.is_used(guess)
            && self.flows[guess].key == key
            && self.flows[guess].contract.state != State::Closed;
        let found = if is_right { Some(guess) } else { self.find_any(&key) };
        let found = found.filter(|&slot| self.bring_up(now, slot));
        let Some(slot) = found else {
            return self.handle_stray(now, key, segment, recorder);
        };
        let flow = &mut self.flows[slot];
        let group = &self.groups[flow.group as usize];
        if group.mode != Mode::Serving {
            return Err(group.refusal());
        }
        if flow.contract.state == State::TimeWait && opening::is_newer_syn(flow, segment) {
            return self.replace_time_wait(now, slot, key, segment, recorder);
        }
        let ts_now = (group.clock(now).millis() as u32).wrapping_add(flow.local.ts_offset);
        // RFC 9293 3.10.7.4, fifth: whoever acknowledges another SYN than ours is told so. The ACK of a
        // cookie for which the log had no room is right, though our SYN-ACK has yet to go out again.
        let is_alien = match flow.contract.state {
            // What is not committed may not show, not even by what it refuses.
            State::SynSent => !flow.is_held(),
            State::SynReceived => segment.ack != flow.contract.iss + 1,
            _ => false,
        };
        let alien_to = is_alien.then_some(flow.group);
        let was_opening = flow.contract.is_active && !flow.contract.state.is_synchronized();
        let lent = self.lend(now, slot);
        let flow = &mut self.flows[slot];
        let received = flow.contract.received;
        let outcome = flow.handle_segment(now, ts_now, slot, &mut self.env, recorder, segment);
        if outcome.is_ok() && followers.may_continue(segment) {
            self.follow((now, ts_now), slot, segment, followers, recorder);
        }
        let flow = &mut self.flows[slot];
        let said = flow.contract.received - received;
        if was_opening && flow.contract.state == State::Closed {
            // RFC 9293 MUST-11 and 3.10.7.3: connection refused.
            self.counters.refused += 1;
        }
        if outcome.is_err() && core::mem::take(&mut flow.local.is_withheld) {
            self.counters.challenges_withheld += 1;
        }
        let was_reset = match (outcome, alien_to) {
            (Err(Drop::AckUnsent), Some(group)) => self.reset(segment, group),
            _ => Ok(()),
        };
        if was_reset.is_ok() && outcome == Err(Drop::AckUnsent) {
            self.flows[slot].open_again_soon(now);
        }
        self.attend(now, slot, lent, recorder);
        if said > 0 || was_opening {
            self.note_said(slot, said, was_opening);
        }
        self.settle(now, slot);
        was_reset.and(outcome)
    }

    /// The flow in `slot` has taken `segment`; now it takes what continues it.
    #[inline(never)]
    fn follow<'a, R: Recorder>(
        &mut self,
        (now, ts_now): (Instant, u32),
        slot: u32,
        segment: &Segment<'a>,
        followers: &mut Followers<'a>,
        recorder: &mut R,
    ) {
        let Stack { flows, env, counters, .. } = self;
        let flow = &mut flows[slot];
        let mut seq = segment.seq + segment.payload.len() as u32;
        while flow.is_streaming(seq)
            && let Some(next) = followers.next(segment, seq)
        {
            seq += next.payload.len() as u32;
            counters.rx_frames += 1;
            counters.rx_continued += 1;
            match flow.handle_continued(now, ts_now, slot, env, recorder, &next) {
                Ok(()) => counters.rx_used += 1,
                Err(reason) => counters.drops.count(reason),
            }
        }
    }

    /// The peer holds everything up to `op` of the flow `id`, which is or was in `slot`.
    pub fn handle_committed(
        &mut self,
        now: Instant,
        (slot, id): (u32, FlowId),
        op: u64,
        progress: Progress,
    ) {
        if !self.flows.is_used(slot) {
            return;
        }
        // Another flow may be in this slot by now, of another log; and what has not been brought up has no records in one.
        let flow = &self.flows[slot];
        let is_it = flow.id == id && flow.era == self.groups[flow.group as usize].eras.present;
        if is_it && self.flows[slot].handle_committed(now, &self.env, op, progress) {
            self.settle(now, slot);
        }
    }

    /// Does what has come due.
    pub fn handle_timeouts<R: Recorder>(&mut self, now: Instant, recorder: &mut R) {
        // After a takeover all flows share one idle time-out: what is due beyond the budget waits for the next poll.
        let mut steps = TIMER_STEPS_MAX;
        while let Some(slot) = self.wheel.poll_expired(now, &mut steps) {
            if !self.bring_up(now, slot) {
                continue;
            }
            let group = self.flows[slot].group;
            match self.groups[group as usize].mode {
                Mode::Serving => {
                    let lent = self.lend(now, slot);
                    self.flows[slot].handle_timer(now, slot, &mut self.env, recorder);
                    self.attend(now, slot, lent, recorder);
                    self.widen_window(now, slot, recorder);
                    self.settle(now, slot);
                }
                // It is looked at when the group is served again.
                Mode::Frozen => self.ready.push(group, slot),
                Mode::Silent | Mode::Off => {}
            }
        }
        self.sweep_some(now);
        self.purge_some(now, recorder);
        self.deal_tables();
        self.serve_queues(now, recorder);
        self.ask_neighbors(now);
        self.probe_promoted(now);
        self.replies.begin_round(now);
    }

    /// When something comes due next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let announce = (self.announce_at != Instant::MAX).then_some(self.announce_at);
        let ask = (self.ask_at() != Instant::MAX).then(|| self.ask_at());
        let timers = [self.wheel.poll_timeout(), announce, self.probes.poll_timeout(), ask];
        let sweeps = [self.turnover_timeout(), self.purge_timeout()];
        let of_servers = [self.queues_timeout(), self.tables_timeout()];
        timers.into_iter().chain(sweeps).chain(of_servers).flatten().min()
    }

    /// Whether `poll_transmit` may have something to say.
    pub fn has_work(&self) -> bool {
        !self.ready.is_empty(self.speaking) || !self.replies.is_empty()
    }
}
