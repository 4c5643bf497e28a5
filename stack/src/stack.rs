//! The stack of one core: flow table, timers, and everything between a frame and its flow.
//!
//! ```text
//! handle_frame -> parse -> demux -> flow.handle_segment -> facts -> recorder
//! handle_committed, handle_timeouts, apply                     -> ready queue
//! poll_transmit <- ready queue <- flow.poll_transmit, replies, announcements
//! ```
//!
//! Poll in this order: `look_ahead` for a burst, `handle_frame` for each frame of it, `handle_timeouts`, then `poll_transmit`
//! until it answers `None`; sleep until `poll_timeout`.
//!
//! A flow that is closed stays in the table until the peer holds the fact that closed it: so a segment
//! that finds no flow at all may be answered with RST at once.
//!
//! Path: steps 1 to 3 and 7. Bounds: `limits.rs` and [`StackConfig`]; nothing is allocated after `new`.

mod ahead;
mod behaviour;
mod connect;
mod decide;
mod ending;
mod error;
mod forward;
mod generation;
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
mod traffic;
mod turnover;

pub use ahead::{AHEAD_FLOWS_MAX, Elsewhere};
pub use behaviour::BEHAVIOUR;
pub use connect::ConnectError;
pub use ending::Ending;
pub use error::IcmpCounters;
pub use forward::Stray;
pub use hear::{Overheard, Worth};
pub use list::{Ended, Filter, Listed};
pub use memory::{IDLE_FLOW_BYTES_MAX, StackMemory, memory_bytes, table_bytes};
pub use reload::Renewal;
use speak::Announcing;
pub use speak::Conflict;

use crate::drop::{Drop, Drops};
use crate::flow::{Env, Flow, FlowId, Standing};
use crate::key::{FlowKey, Keys};
use crate::limits::{
    BACKLOG_FLOWS_MAX, GROUPS_MAX, KICK_LINK_PARTS, STICKS_TOLD_MAX, TIMER_STEPS_MAX,
};
use crate::output::Memory;
use crate::pool::Pool;
use crate::ready::Ready;
use crate::recent::Recent;
use crate::recorder::{Progress, Recorder};
use crate::reply::Replies;
use crate::service::Service;
use crate::shard::{Place, SHARDS, shard_of};
use crate::tcp::deadline::{Change, Wait};
use crate::tcp::seat::Senders;
use crate::tcp::state::State;
use crate::time::{Duration, Instant};
use crate::upstream::Roster;
use crate::wheel::Wheel;
use crate::wire::{Address, Frame, Mac, Segment, parse};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use hashbrown::HashTable;
use kick::Kicks;
use roles::Probes;
use turnover::{Eras, Sweep, Walk};

/// What a stack is built with.
pub struct StackConfig {
    /// This node's id: the first part of the names of flows born here.
    pub node: u8,
    /// Which of the node's cores this is the stack of.
    pub place: Place,
    /// The Ethernet address of the client-side interface.
    pub mac: Mac,
    /// The cluster's secret.
    pub secret: [u8; 32],
    /// Flows at most.
    pub flows_max: usize,
    /// Flows with something in flight at most.
    pub active_max: usize,
    /// Segments in flight at most, all flows together.
    pub segments_max: usize,
    /// Payload chunks of [`crate::limits::CHUNK_BYTES`] bytes, all flows together.
    pub chunks_max: usize,
    /// Pieces of output, all flows together.
    pub pieces_max: usize,
    /// Uploads whose body is being hashed at most.
    pub uploads_max: usize,
    /// Flows with a hole in what they received, at most.
    pub reassemblies_max: usize,
    /// What the client-side link takes, in Mbit/s.
    pub link_mbits: u32,
}

/// What this node is to a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    /// Nothing.
    #[default]
    Off,
    /// Its owner: the stack answers for its addresses.
    Serving,
    /// Its owner, about to hand it over: nothing comes in, nothing is said, no contract changes.
    Frozen,
    /// Its peer: the stack holds copies and is silent.
    Silent,
}

/// What the stack knows of a group.
#[derive(Clone, Debug, Default)]
pub struct Group {
    /// What this node is to it.
    pub mode: Mode,
    /// This node has no lease: no frame is produced, the flows wait.
    pub is_mute: bool,
    /// New flows are recorded.
    pub is_mirrored: bool,
    /// Added to this node's clock, this is the group's.
    pub clock_offset: u64,
    /// How far the announcement of the addresses is, since they were taken over.
    announcing: Option<Announcing>,
    /// Until then a client may have been told of a connection by a cookie alone, and its later segments come first.
    cookies_until: Instant,
    /// Claims of others are not answered by announcements before then.
    defend_at: Instant,
    /// Until then timers may have been set by other settings than those of now.
    rearm_until: Instant,
    /// The last claim of somebody else.
    conflict: Option<Conflict>,
    flows: u32,
    copied: u32,
    eras: Eras,
    /// The hardware address that it speaks from.
    mac: Mac,
    /// The generation of its service to which whoever has no flow belongs; itself, unless it was left behind.
    newest: u8,
    /// No flow begins in it: newcomers wait until the next generation has an owner.
    is_closed: bool,
    /// Whoever has no flow here may have one in that generation: only its owner knows.
    asked: Option<u8>,
    /// Its service is not configured any more: no flow begins in it, and whoever asks is answered by RST.
    is_leaving: bool,
}

impl Group {
    /// The group's clock.
    #[inline]
    pub fn clock(&self, now: Instant) -> Instant {
        Instant(now.0.wrapping_add(self.clock_offset))
    }

    /// Why a frame for a group that is not served here is dropped.
    fn refusal(&self) -> Drop {
        if self.mode == Mode::Frozen { Drop::Frozen } else { Drop::NotOwner }
    }

    /// The last claim of somebody else to one of the group's addresses.
    pub fn conflict(&self) -> Option<Conflict> {
        self.conflict
    }

    /// Whether a flow is among those that the peer holds. One that has not been brought up is what the change of role has
    /// made of all.
    fn counts_as_copied(&self, flow: &Flow) -> bool {
        let is_behind = flow.era != self.eras.present;
        if is_behind { self.eras.inherited } else { flow.standing == Standing::Copied }
    }

    /// Flows of the group on this core.
    pub fn flows(&self) -> u32 {
        self.flows
    }

    /// Flows of the group that the peer holds or will hold.
    pub fn copied(&self) -> u32 {
        self.copied
    }
}

/// Counters of a stack.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// Frames handed in.
    pub rx_frames: u64,
    /// Frames that did something.
    pub rx_used: u64,
    /// Frames of clients whose group is not served here: handed back, for whoever serves it.
    pub rx_strays: u64,
    /// Frames of clients to the owner of a group that is listened to: handed back, for whoever keeps them.
    pub rx_heard: u64,
    /// Frames dropped, by reason.
    pub drops: Drops,
    /// Frames produced.
    pub tx_frames: u64,
    /// Flows opened, by either side.
    pub opened: u64,
    /// Flows that we began to open.
    pub connects: u64,
    /// Of these, refused by a reset before they were open.
    pub refused: u64,
    /// Clients reset because they did not begin with the header that they must say.
    pub bad_header: u64,
    /// Clients reset because no server could be had.
    pub no_server: u64,
    /// Of these, because every local port towards a server was taken.
    pub no_source_port: u64,
    /// Connections reset because their server is out of service.
    pub server_down: u64,
    /// Clients reset because no server had room and the queue was full.
    pub queue_full: u64,
    /// Clients reset because no server had room for too long.
    pub queue_timeouts: u64,
    /// Flows gone.
    pub closed: u64,
    /// Connections whose end nobody was told of, because nobody fetched what was told before.
    pub endings_lost: u64,
    /// Connections ended by an operator's word.
    pub ended: u64,
    /// SYNs answered with cookies.
    pub cookies_sent: u64,
    /// Flows opened by a cookie.
    pub cookies_accepted: u64,
    /// Frames of others that claim one of our addresses.
    pub address_conflicts: u64,
    /// Answers that were due to segments that prove nothing, and withheld because there were many.
    pub challenges_withheld: u64,
    /// ICMP errors about segments in flight.
    pub icmp: IcmpCounters,
    /// Flows brought up after a change of role.
    pub turned_over: u64,
    /// Slots looked at for flows to bring up.
    pub swept: u64,
}

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

/// The hash as the flow table takes it: its tags and places come from bits that say nothing about the shard,
/// which all flows of a core have in common.
#[inline]
const fn spread(hash: u64) -> u64 {
    hash.rotate_right(18)
}

/// Bits of a frame of usual size on the wire: preamble, gap and checksum included.
const FRAME_BITS: u64 = 8 * 1_538;

/// How long one kick of full size may take the link: a quarter of it is the kicks', and each core has its share of that.
fn kick_interval(config: &StackConfig) -> Duration {
    let bits = FRAME_BITS * KICK_LINK_PARTS * config.place.cores as u64;
    Duration(bits * 1_000 / u64::from(config.link_mbits.max(1)))
}

impl Stack {
    /// Takes all memory, that of services to come but for their settings. Service `n` has the group with index `n`.
    pub fn new(config: &StackConfig, services: Vec<Service>) -> Stack {
        let count = services.len();
        assert!(count <= GROUPS_MAX, "{count} groups; {GROUPS_MAX} at most");
        let mut stack = Stack::without_services(config);
        for (index, service) in (0..).zip(services) {
            stack.occupy(index, &mut Renewal::new(service, config.place));
        }
        stack
    }

    fn without_services(config: &StackConfig) -> Stack {
        Stack {
            mac: config.mac,
            service_macs: Vec::with_capacity(GROUPS_MAX),
            node: config.node,
            keys: Keys::new(&config.secret),
            env: Env {
                memory: Memory::new(config.uploads_max, config.pieces_max, config.chunks_max),
                senders: Senders::new(config.active_max, config.segments_max),
                reassembly: Pool::new(config.reassemblies_max),
                grace_until: Vec::with_capacity(GROUPS_MAX),
                services: Vec::with_capacity(GROUPS_MAX),
                scratch: Env::new_scratch(),
                across: None,
            },
            ready: Ready::new(config.flows_max, GROUPS_MAX),
            rosters: Vec::with_capacity(GROUPS_MAX),
            has_learnt: false,
            groups: Vec::with_capacity(GROUPS_MAX),
            flows: Pool::new(config.flows_max),
            table: HashTable::with_capacity(config.flows_max),
            names: HashTable::with_capacity(config.flows_max),
            wheel: Wheel::new(config.flows_max),
            replies: Replies::new(),
            recent: Recent::new(),
            counters: Counters::default(),
            place: config.place,
            births: [0; SHARDS],
            syn_received: 0,
            backlog_max: (config.place.part_of(BACKLOG_FLOWS_MAX as usize))
                .min(config.flows_max / 2) as u32,
            kicks: Kicks::new(config.flows_max, kick_interval(config)),
            sweep: Sweep::default(),
            probes: Probes::default(),
            purge: Walk::default(),
            sticks: VecDeque::with_capacity(STICKS_TOLD_MAX),
            untold: 0,
            endings: Vec::new(),
            announce_at: Instant::MAX,
            speaking: 0,
            ahead: ahead::Guesses::NONE,
            turn: 0,
            origin: Origin::Direct,
            listening: 0,
        }
    }

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

    /// A flow, by slot.
    pub fn flow(&self, slot: u32) -> Option<&Flow> {
        let is_there = self.flows.is_used(slot) && !self.is_forgotten(slot);
        is_there.then(|| &self.flows[slot])
    }

    /// Slots in use.
    pub fn slots(&self) -> impl Iterator<Item = u32> + '_ {
        self.flows.indices().filter(|&slot| !self.is_forgotten(slot))
    }

    /// Slots in total.
    pub fn slots_max(&self) -> usize {
        self.flows.capacity()
    }

    /// The slot of the flow with this key.
    #[inline]
    pub fn find(&self, key: &FlowKey) -> Option<u32> {
        self.find_any(key).filter(|&slot| !self.is_forgotten(slot))
    }

    /// The same, be it forgotten.
    #[inline]
    fn find_any(&self, key: &FlowKey) -> Option<u32> {
        let hash = spread(self.keys.flow_hash(key));
        self.table.find(hash, |&slot| self.flows[slot].key == *key).copied()
    }

    /// The flow with this key, brought up to what its group has become.
    #[inline]
    fn seek(&mut self, now: Instant, key: &FlowKey) -> Option<u32> {
        let slot = self.find_any(key)?;
        self.bring_up(now, slot).then_some(slot)
    }

    /// The shard of the flow with this key.
    fn shard_of(&self, key: &FlowKey) -> u8 {
        shard_of(self.keys.flow_hash(key))
    }

    /// Whether a flow is named after its shard, and that is one of this core's.
    fn is_at_home(&self, key: &FlowKey, id: FlowId) -> bool {
        let shard = self.shard_of(key);
        id.shard() == shard && self.place.holds(shard)
    }

    /// Takes a frame of the client-side interface. What a client has to say to a group that is not served here is
    /// handed back.
    pub fn handle_frame<R: Recorder>(
        &mut self,
        now: Instant,
        frame: &[u8],
        recorder: &mut R,
    ) -> Option<Stray> {
        let guess = self.ahead.take();
        self.take_frame(now, guess, frame, recorder)
    }

    fn take_frame<R: Recorder>(
        &mut self,
        now: Instant,
        guess: u32,
        frame: &[u8],
        recorder: &mut R,
    ) -> Option<Stray> {
        self.counters.rx_frames += 1;
        let parsed = parse(frame, &self.mac, &self.service_macs);
        let outcome = match &parsed {
            Ok(Frame::Tcp(segment)) => self.handle_segment(now, guess, segment, recorder),
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

    fn handle_segment<R: Recorder>(
        &mut self,
        now: Instant,
        guess: u32,
        segment: &Segment,
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
        let said = flow.contract.received - received;
        if was_opening && flow.contract.state == State::Closed {
            // RFC 9293 MUST-11 and 3.10.7.3: connection refused.
            self.counters.refused += 1;
        }
        if outcome.is_err() && core::mem::take(&mut flow.local.is_withheld) {
            self.counters.challenges_withheld += 1;
        }
        self.attend(now, slot, lent, recorder);
        if said > 0 || was_opening {
            self.note_said(slot, said, was_opening);
        }
        self.settle(now, slot);
        if let (Err(Drop::AckUnsent), Some(group)) = (outcome, alien_to) {
            self.reset(segment, group)?;
        }
        outcome
    }

    /// Takes a slot out of the flow table, if the table leads to it.
    fn unlist(&mut self, slot: u32) {
        let hash = spread(self.keys.flow_hash(&self.flows[slot].key));
        if let Ok(entry) = self.table.find_entry(hash, |&other| other == slot) {
            entry.remove();
        }
    }

    /// What must follow whenever a flow was touched: it is queued to speak, and if it is over and the peer
    /// knows that, it is gone. Its timer is set when it leaves the queue ([`Stack::rest`]).
    fn settle(&mut self, now: Instant, slot: u32) {
        let flow = &mut self.flows[slot];
        if flow.local.is_half_open && flow.contract.state != State::SynReceived {
            flow.local.is_half_open = false;
            self.syn_received -= 1;
            self.note_opened(slot);
        }
        let flow = &mut self.flows[slot];
        if flow.contract.state == State::TimeWait && !flow.local.deadlines.is_set(Wait::TimeWait) {
            flow.local.deadlines.set(Wait::TimeWait, now + crate::limits::TIME_WAIT);
            // The server has forgotten it, or will by itself.
            self.uncount_leg(slot);
        }
        let flow = &mut self.flows[slot];
        if matches!(flow.contract.state, State::Closed | State::TimeWait) {
            self.note_ending(now, slot);
        }
        let flow = &mut self.flows[slot];
        if flow.contract.state == State::Closed {
            if flow.is_committed() && !flow.local.owed.rst {
                self.remove(slot);
                return;
            }
            self.wheel.disarm(slot);
        }
        self.ready.push(self.flows[slot].group, slot);
    }

    /// A flow has nothing more to say now: it leaves the queue, and its timer is set. If what it said last was
    /// its end, it is gone.
    fn rest(&mut self, now: Instant, slot: u32) {
        let flow = &mut self.flows[slot];
        self.ready.remove(flow.group, slot);
        if flow.sender.leave(&mut self.env.senders) {
            // From now on the client's silence counts (RFC 9293 MUST-26).
            flow.local.deadlines.note_change();
        }
        if flow.contract.state == State::Closed {
            if flow.is_committed() && !flow.local.owed.rst {
                self.remove(slot);
            }
            return;
        }
        let change = flow.local.deadlines.take_change();
        let is_right =
            self.wheel.is_armed(slot) && now >= self.groups[flow.group as usize].rearm_until;
        let change = if is_right { change } else { Change::All };
        let deadline = flow.poll_sooner(now, &self.env, change);
        if !self.wheel.is_armed_by(slot, deadline) {
            self.wheel.arm(slot, deadline);
        }
        debug_assert!(self.wheel.is_armed_by(slot, self.flows[slot].poll_timeout(now, &self.env)));
    }

    fn remove(&mut self, slot: u32) {
        let is_forgotten = self.is_forgotten(slot);
        self.unlink(slot);
        self.note_leg_over(slot);
        self.unlist(slot);
        self.unname(slot);
        self.kicks.forget(slot);
        self.wheel.disarm(slot);
        self.ready.remove(self.flows[slot].group, slot);
        let mut flow = self.flows.give(slot);
        flow.release(&mut self.env);
        if flow.local.is_half_open {
            self.syn_received -= 1;
        }
        if is_forgotten {
            return;
        }
        let group = &mut self.groups[flow.group as usize];
        group.flows -= 1;
        group.copied -= group.counts_as_copied(&flow) as u32;
        if group.mode == Mode::Serving {
            self.counters.closed += 1;
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
        self.replies.refill(now);
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
