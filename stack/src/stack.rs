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

pub use ahead::AHEAD_FLOWS_MAX;

use crate::drop::{Drop, Drops};
use crate::fact::{Fact, Open, Tick};
use crate::flow::{Env, Flow, FlowId, Standing};
use crate::key::{FlowKey, Keys};
use crate::limits::{
    ANNOUNCE_AFTER_MS, BACKLOG_FLOWS_MAX, PROBE_AFTER, PROBE_INTERVAL, TURN_FRAMES,
};
use crate::output::Memory;
use crate::pool::Pool;
use crate::ready::Ready;
use crate::recorder::{Progress, Recorder};
use crate::reply::{Replies, Reply};
use crate::service::Service;
use crate::tcp::contract::Options;
use crate::tcp::state::State;
use crate::time::{Duration, Instant};
use crate::wheel::Wheel;
use crate::wire::{Flags, Frame, Mac, Segment, parse};
use alloc::vec::Vec;
use hashbrown::HashTable;

/// What a stack is built with.
pub struct StackConfig {
    /// This node's id: the first part of the names of flows born here.
    pub node: u8,
    /// The Ethernet address of the client-side interface.
    pub mac: Mac,
    /// The cluster's secret.
    pub secret: [u8; 32],
    /// Flows at most.
    pub flows_max: usize,
    /// Segments in flight at most, all flows together.
    pub segments_max: usize,
    /// Payload chunks of [`crate::limits::CHUNK_BYTES`] bytes, all flows together.
    pub chunks_max: usize,
    /// Pieces of output, all flows together.
    pub pieces_max: usize,
    /// Flows with a hole in what they received, at most.
    pub reassemblies_max: usize,
}

/// What this node is to a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    /// Nothing.
    #[default]
    Off,
    /// Its owner: the stack answers for its addresses.
    Serving,
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
    /// When the addresses were taken over, and how often they were announced since.
    announced_from: Option<(Instant, u8)>,
    flows: u32,
    copied: u32,
}

impl Group {
    /// The group's clock.
    #[inline]
    pub fn clock(&self, now: Instant) -> Instant {
        Instant(now.0.wrapping_add(self.clock_offset))
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
    /// Frames dropped, by reason.
    pub drops: Drops,
    /// Frames produced.
    pub tx_frames: u64,
    /// Flows opened.
    pub opened: u64,
    /// Flows gone.
    pub closed: u64,
    /// SYNs answered with cookies.
    pub cookies_sent: u64,
    /// Flows opened by a cookie.
    pub cookies_accepted: u64,
    /// Frames of others that claim one of our addresses.
    pub address_conflicts: u64,
}

/// A node's stack on one core.
pub struct Stack {
    mac: Mac,
    node: u8,
    keys: Keys,
    /// What flows share.
    pub env: Env,
    groups: Vec<Group>,
    flows: Pool<Flow>,
    table: HashTable<u32>,
    wheel: Wheel,
    ready: Ready,
    replies: Replies,
    counters: Counters,
    births: u64,
    syn_received: u32,
    /// Scratch of a promotion: what to kick, by when it was last heard.
    kicks: Vec<(Instant, u32)>,
    /// Promoted flows that are to be probed, one after another.
    unprobed: Vec<u32>,
    probe_at: Instant,
    announce_at: Instant,
    /// Frames that the flow at the front of the queue has sent in its turn.
    turn: u8,
}

impl Stack {
    /// Takes all memory. Service `n` has the group with index `n`.
    pub fn new(config: &StackConfig, services: Vec<Service>) -> Stack {
        let groups = services.iter().map(|_| Group::default()).collect();
        Stack {
            mac: config.mac,
            node: config.node,
            keys: Keys::new(&config.secret),
            env: Env {
                memory: Memory::new(config.flows_max, config.pieces_max, config.chunks_max),
                in_flight: Pool::new(config.segments_max),
                reassembly: Pool::new(config.reassemblies_max),
                services,
                scratch: Env::new_scratch(),
            },
            groups,
            flows: Pool::new(config.flows_max),
            table: HashTable::with_capacity(config.flows_max),
            wheel: Wheel::new(config.flows_max),
            ready: Ready::new(config.flows_max),
            replies: Replies::new(),
            counters: Counters::default(),
            births: 0,
            syn_received: 0,
            kicks: Vec::with_capacity(config.flows_max),
            unprobed: Vec::with_capacity(config.flows_max),
            probe_at: Instant::MAX,
            announce_at: Instant::MAX,
            turn: 0,
        }
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

    /// A flow, by slot.
    pub fn flow(&self, slot: u32) -> Option<&Flow> {
        self.flows.is_used(slot).then(|| &self.flows[slot])
    }

    /// Slots in use.
    pub fn slots(&self) -> impl Iterator<Item = u32> + '_ {
        self.flows.indices()
    }

    /// Slots in total.
    pub fn slots_max(&self) -> usize {
        self.flows.capacity()
    }

    /// The slot of the flow with this key.
    #[inline]
    pub fn find(&self, key: &FlowKey) -> Option<u32> {
        let hash = self.keys.flow_hash(key);
        self.table.find(hash, |&slot| self.flows[slot].key == *key).copied()
    }

    /// Takes a frame of the client-side interface.
    pub fn handle_frame<R: Recorder>(&mut self, now: Instant, frame: &[u8], recorder: &mut R) {
        self.counters.rx_frames += 1;
        let outcome = match parse(frame, &self.mac, &[]) {
            Ok(Frame::Tcp(segment)) => self.handle_segment(now, &segment, recorder),
            Ok(frame) => self.handle_query(&frame),
            Err(reason) => Err(reason),
        };
        match outcome {
            Ok(()) => self.counters.rx_used += 1,
            Err(reason) => self.counters.drops.count(reason),
        }
    }

    fn handle_segment<R: Recorder>(
        &mut self,
        now: Instant,
        segment: &Segment,
        recorder: &mut R,
    ) -> Result<(), Drop> {
        let key = FlowKey {
            remote: segment.source,
            local: segment.destination,
            remote_port: segment.source_port,
            local_port: segment.destination_port,
        };
        let Some(slot) = self.find(&key) else {
            return self.handle_stray(now, key, segment, recorder);
        };
        let flow = &mut self.flows[slot];
        let group = &self.groups[flow.group as usize];
        if group.mode != Mode::Serving {
            return Err(Drop::NotOwner);
        }
        if flow.contract.state == State::TimeWait && is_newer_syn(flow, segment) {
            return self.replace_time_wait(now, slot, key, segment, recorder);
        }
        let ts_now = (group.clock(now).millis() as u32).wrapping_add(flow.local.ts_offset);
        let outcome = flow.handle_segment(now, ts_now, slot, &mut self.env, recorder, segment);
        self.settle(now, slot);
        outcome
    }

    /// A segment without a flow: it may open one, or is answered with RST.
    fn handle_stray<R: Recorder>(
        &mut self,
        now: Instant,
        key: FlowKey,
        segment: &Segment,
        recorder: &mut R,
    ) -> Result<(), Drop> {
        let owner = |service: &Service| service.owns(&key.local, key.local_port);
        let Some(index) = self.env.services.iter().position(owner) else {
            return Err(Drop::NoService);
        };
        if self.groups[index].mode != Mode::Serving {
            return Err(Drop::NotOwner);
        }
        if segment.flags.has(Flags::RST) {
            return Err(Drop::StrayReset);
        }
        if segment.flags.has(Flags::ACK) {
            let opened = self.open_by_cookie(now, key, index as u8, segment, recorder);
            return opened.or_else(|reason| {
                self.reply(Reply::reset(segment, index as u8))?;
                Err(reason)
            });
        }
        if !segment.flags.has(Flags::SYN) || segment.flags.has(Flags::FIN) {
            self.reply(Reply::reset(segment, index as u8))?;
            return Err(Drop::NoFlow);
        }
        if self.syn_received >= BACKLOG_FLOWS_MAX.min(self.flows.capacity() as u32 / 2) {
            return self.send_cookie(now, key, index as u8, segment);
        }
        let clock = self.groups[index].clock(now);
        let iss = self.keys.iss(&key, clock);
        let open = self.opening(key, index as u8, segment, iss);
        self.open(now, open, index as u8, recorder).map(|_| ())
    }

    /// What a SYN and our limits agree on.
    fn opening(&self, key: FlowKey, service: u8, segment: &Segment, iss: crate::seq::Seq) -> Open {
        let settings = &self.env.services[service as usize];
        let offered = &segment.options;
        // RFC 9293 MUST-15: without the option the client takes 536 bytes (IPv6: 1220).
        let default = if key.remote.as_v4().is_some() { 536 } else { 1220 };
        Open {
            key,
            service,
            next_hop: segment.source_mac,
            irs: segment.seq,
            iss,
            options: Options {
                mss: offered.mss.unwrap_or(default).max(64).min(settings.mss),
                snd_scale: offered.window_scale.unwrap_or(0),
                rcv_scale: offered.window_scale.map_or(0, |_| settings.window_scale()),
                scaling: offered.window_scale.is_some(),
                sack: offered.sack_permitted,
                timestamps: offered.timestamps.is_some(),
            },
            ts_recent: offered.timestamps.map_or(0, |(value, _)| value),
            snd_wnd: segment.window as u32,
        }
    }

    fn open<R: Recorder>(
        &mut self,
        now: Instant,
        open: Open,
        group: u8,
        recorder: &mut R,
    ) -> Result<u32, Drop> {
        let is_mirrored = self.groups[group as usize].is_mirrored;
        if !self.env.memory.has_room_for(0) {
            return Err(Drop::PoolExhausted);
        }
        if is_mirrored && recorder.room(group, 0, false).is_none() {
            return Err(Drop::LogFull);
        }
        self.births += 1;
        let id = FlowId::new(self.node, self.births);
        let slot = self.insert(&open, id, group).ok_or(Drop::FlowTableFull)?;
        let clock_ms = self.groups[group as usize].clock(now).millis() as u32;
        let ts_offset = self.keys.timestamp_offset(&open.key);
        let ts_now = clock_ms.wrapping_add(ts_offset);
        let flow = &mut self.flows[slot];
        flow.serve_new(now, ts_now, ts_offset, &self.env.services[open.service as usize]);
        if is_mirrored {
            flow.standing = Standing::Copied;
            self.groups[group as usize].copied += 1;
        }
        flow.local.is_half_open = true;
        flow.enact(slot, &mut self.env, recorder, &Fact::Open(open));
        self.syn_received += 1;
        self.counters.opened += 1;
        self.settle(now, slot);
        Ok(slot)
    }

    /// Puts a flow that begins with `open` into a free slot.
    fn insert(&mut self, open: &Open, id: FlowId, group: u8) -> Option<u32> {
        let service = &self.env.services[open.service as usize];
        let slot = self.flows.take(Flow::open(open, id, group, service))?;
        self.enter(slot);
        Some(slot)
    }

    fn enter(&mut self, slot: u32) {
        let id = self.flows[slot].id;
        if id.node() == self.node {
            // A flow of a former life of this node came back: its name is taken.
            self.births = self.births.max(id.counter());
        }
        let hash = self.keys.flow_hash(&self.flows[slot].key);
        let Stack { table, flows, keys, .. } = self;
        table.insert_unique(hash, slot, |&slot| keys.flow_hash(&flows[slot].key));
        self.groups[self.flows[slot].group as usize].flows += 1;
    }

    fn send_cookie(
        &mut self,
        now: Instant,
        key: FlowKey,
        service: u8,
        segment: &Segment,
    ) -> Result<(), Drop> {
        let clock = self.groups[service as usize].clock(now);
        let mss = segment.options.mss.unwrap_or(536);
        let iss = self.keys.cookie(&key, segment.seq, mss, clock);
        let open = self.opening(key, service, segment, iss);
        let ts = (clock.millis() as u32).wrapping_add(self.keys.timestamp_offset(&key));
        let settings = &self.env.services[service as usize];
        self.reply(Reply::cookie(&open, segment, settings, ts))?;
        self.counters.cookies_sent += 1;
        Ok(())
    }

    /// An acknowledgement without a flow may be the answer to a cookie that this node or its former
    /// owner gave out; the first data segment will do as well (RFC 4987 3.6).
    fn open_by_cookie<R: Recorder>(
        &mut self,
        now: Instant,
        key: FlowKey,
        group: u8,
        segment: &Segment,
        recorder: &mut R,
    ) -> Result<(), Drop> {
        if segment.flags.has(Flags::SYN) {
            return Err(Drop::NoFlow);
        }
        let clock = self.groups[group as usize].clock(now);
        let (irs, iss) = (segment.seq - 1, segment.ack - 1);
        let cookie = self.keys.check_cookie(&key, irs, iss, clock).ok_or(Drop::BadCookie)?;
        let offset = self.keys.timestamp_offset(&key);
        let syn_options = Reply::cookie_options(segment, cookie.mss);
        let syn = Segment { seq: irs, options: syn_options, ..*segment };
        let open = self.opening(key, group, &syn, iss);
        let slot = self.open(now, open, group, recorder)?;
        self.counters.cookies_accepted += 1;
        let flow = &mut self.flows[slot];
        // The SYN-ACK has left as a cookie.
        flow.local.snd_nxt = iss + 1;
        flow.local.owed.syn_ack = false;
        flow.local.rcv_acked = segment.seq;
        let ts_now = (clock.millis() as u32).wrapping_add(offset);
        let outcome = flow.handle_segment(now, ts_now, slot, &mut self.env, recorder, segment);
        if flow.contract.state == State::SynReceived {
            // The segment found no room: a real SYN-ACK makes the client say it again.
            flow.local.snd_nxt = iss;
            flow.local.owed.syn_ack = true;
        }
        self.settle(now, slot);
        outcome
    }

    /// RFC 6191, RFC 9293 3.10.7.4: a newer SYN takes the place of a connection in TIME-WAIT.
    fn replace_time_wait<R: Recorder>(
        &mut self,
        now: Instant,
        slot: u32,
        key: FlowKey,
        segment: &Segment,
        recorder: &mut R,
    ) -> Result<(), Drop> {
        let group = self.flows[slot].group;
        let is_copied = self.flows[slot].standing == Standing::Copied;
        if is_copied && recorder.room(group, 0, false).is_none() {
            return Err(Drop::LogFull);
        }
        let flow = &mut self.flows[slot];
        flow.enact(slot, &mut self.env, recorder, &Fact::Tick(Tick::TimeWaitOver));
        self.unlist(slot);
        self.settle(now, slot);
        self.handle_stray(now, key, segment, recorder)
    }

    /// Takes a slot out of the flow table, if the table leads to it.
    fn unlist(&mut self, slot: u32) {
        let hash = self.keys.flow_hash(&self.flows[slot].key);
        if let Ok(entry) = self.table.find_entry(hash, |&other| other == slot) {
            entry.remove();
        }
    }

    /// ARP, neighbour discovery, ICMP echo.
    fn handle_query(&mut self, frame: &Frame) -> Result<(), Drop> {
        let target = match frame {
            Frame::AddressQuery { target, .. } => target,
            Frame::Echo { destination, .. } => destination,
            Frame::Tcp(_) => return Err(Drop::Unasked),
        };
        let owns = |service: &Service| service.addresses.contains(target);
        let index = self.env.services.iter().position(owns).ok_or(Drop::NoService)?;
        if self.groups[index].mode != Mode::Serving {
            return Err(Drop::NotOwner);
        }
        match *frame {
            Frame::AddressQuery { is_claim: true, sender_mac, .. } => {
                if sender_mac == self.mac {
                    return Err(Drop::Unasked);
                }
                // Somebody else claims our address: it is announced again at once (RFC 5227 2.4 (b)).
                self.counters.address_conflicts += 1;
                self.reply(Reply::announce(*target, index as u8))
            }
            Frame::AddressQuery { sender_mac, sender, target, .. } => {
                self.reply(Reply::address(sender_mac, sender, target, index as u8))
            }
            Frame::Echo { source_mac, source, destination, identifier, sequence, payload } => {
                let reply = Reply::echo(
                    source_mac,
                    source,
                    destination,
                    (identifier, sequence),
                    payload,
                    index as u8,
                );
                self.reply(reply.ok_or(Drop::Unasked)?)
            }
            Frame::Tcp(_) => Err(Drop::Unasked),
        }
    }

    fn reply(&mut self, reply: Reply) -> Result<(), Drop> {
        if self.replies.push(reply) { Ok(()) } else { Err(Drop::ReplyQueueFull) }
    }

    /// What must follow whenever a flow was touched: it is queued to speak, its timer is set, and if it is
    /// over and the peer knows that, it is gone.
    fn settle(&mut self, now: Instant, slot: u32) {
        let flow = &mut self.flows[slot];
        if flow.local.is_half_open && flow.contract.state != State::SynReceived {
            flow.local.is_half_open = false;
            self.syn_received -= 1;
        }
        if flow.contract.state == State::TimeWait && flow.local.time_wait_until == Instant::MAX {
            flow.local.time_wait_until = now + crate::limits::TIME_WAIT;
        }
        if flow.contract.state == State::Closed {
            if flow.is_committed() && !flow.local.owed.rst {
                self.remove(slot);
                return;
            }
            self.wheel.disarm(slot);
        } else {
            let deadline = flow.poll_timeout(&self.env);
            if deadline == Instant::MAX {
                self.wheel.disarm(slot);
            } else if !self.wheel.is_armed_by(slot, deadline) {
                self.wheel.arm(slot, deadline);
            }
        }
        self.ready.push(slot);
    }

    fn remove(&mut self, slot: u32) {
        self.unlist(slot);
        self.wheel.disarm(slot);
        self.ready.remove(slot);
        let mut flow = self.flows.give(slot);
        flow.release(&mut self.env);
        if flow.local.is_half_open {
            self.syn_received -= 1;
        }
        let group = &mut self.groups[flow.group as usize];
        group.flows -= 1;
        if flow.standing == Standing::Copied {
            group.copied -= 1;
        }
        if group.mode == Mode::Serving {
            self.counters.closed += 1;
        }
    }

    /// The peer holds everything of the flow in `slot` up to `op`.
    pub fn handle_committed(&mut self, now: Instant, slot: u32, op: u64, progress: Progress) {
        if !self.flows.is_used(slot) {
            return;
        }
        let flow = &mut self.flows[slot];
        if flow.standing == Standing::Absent || op < flow.local.first_op {
            // About a copy that was given up since, or about a former flow in this slot.
            return;
        }
        flow.local.committed_op = op;
        flow.local.committed = progress;
        self.settle(now, slot);
    }

    /// Does what has come due.
    pub fn handle_timeouts<R: Recorder>(&mut self, now: Instant, recorder: &mut R) {
        // Each flow's timer is looked at once a round: one that is due again at once waits for the next.
        for _ in 0..self.flows.capacity() {
            let Some(slot) = self.wheel.poll_expired(now) else { break };
            let flow = &mut self.flows[slot];
            if self.groups[flow.group as usize].mode == Mode::Serving {
                flow.handle_timer(now, slot, &mut self.env, recorder);
                self.settle(now, slot);
            }
        }
        self.probe_promoted(now);
    }

    /// Every promoted flow gets one probe, at a low rate: what the former owner took and the
    /// peer never learnt (an RST, say) comes to light by the answer (DESIGN 9).
    fn probe_promoted(&mut self, now: Instant) {
        while self.probe_at <= now {
            let Some(slot) = self.unprobed.pop() else {
                self.probe_at = Instant::MAX;
                return;
            };
            self.probe_at += PROBE_INTERVAL;
            if self.flows.is_used(slot) && self.flows[slot].in_grace(now) {
                self.flows[slot].owe_probe();
                self.ready.push(slot);
            }
        }
    }

    /// When something comes due next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let announce = (self.announce_at != Instant::MAX).then_some(self.announce_at);
        let probe = (self.probe_at != Instant::MAX).then_some(self.probe_at);
        [self.wheel.poll_timeout(), announce, probe].into_iter().flatten().min()
    }

    /// Whether `poll_transmit` may have something to say.
    pub fn has_work(&self) -> bool {
        !self.ready.is_empty() || !self.replies.is_empty()
    }

    /// Writes the next frame into `buffer`; answers its length and its group. `None`: nothing to say now.
    pub fn poll_transmit(&mut self, now: Instant, buffer: &mut [u8]) -> Option<(usize, u8)> {
        if let Some(sent) = self.transmit_small(now, buffer) {
            self.counters.tx_frames += 1;
            return Some(sent);
        }
        while let Some(slot) = self.ready.front() {
            let flow = &mut self.flows[slot];
            let group = &self.groups[flow.group as usize];
            if group.mode == Mode::Serving && !group.is_mute {
                let ts_now = (group.clock(now).millis() as u32).wrapping_add(flow.local.ts_offset);
                let bytes = flow.poll_transmit(now, ts_now, &mut self.env, &self.mac, buffer);
                if bytes > 0 {
                    let group = flow.group;
                    self.counters.tx_frames += 1;
                    self.turn += 1;
                    if self.turn >= TURN_FRAMES {
                        self.turn = 0;
                        self.ready.remove(slot);
                        self.ready.push(slot);
                    }
                    return Some((bytes, group));
                }
                // Nothing more to say: its timer is set anew, and if it is over it goes.
                self.settle(now, slot);
            }
            self.turn = 0;
            self.ready.remove(slot);
        }
        None
    }

    fn transmit_small(&mut self, now: Instant, buffer: &mut [u8]) -> Option<(usize, u8)> {
        if now >= self.announce_at {
            self.announce(now);
        }
        while let Some(reply) = self.replies.pop() {
            let group = &self.groups[reply.group() as usize];
            if group.mode == Mode::Serving && !group.is_mute {
                return Some((reply.emit(&self.mac, buffer), reply.group()));
            }
        }
        None
    }

    /// Queues the announcements that are due.
    fn announce(&mut self, now: Instant) {
        for index in 0..self.groups.len() {
            if self.groups[index].next_announcement().is_some_and(|at| at <= now) {
                self.groups[index].count_announcement();
                for address in &self.env.services[index].addresses {
                    self.replies.push(Reply::announce(*address, index as u8));
                }
            }
        }
        self.schedule_announcement();
    }

    fn schedule_announcement(&mut self) {
        let next = self.groups.iter().filter_map(Group::next_announcement).min();
        self.announce_at = next.unwrap_or(Instant::MAX);
    }

    /// Gives or takes the right to speak for a group; what waited for it is asked again.
    #[inline]
    pub fn set_voice(&mut self, group: u8, has_voice: bool) {
        if self.groups[group as usize].is_mute != has_voice {
            return;
        }
        self.groups[group as usize].is_mute = !has_voice;
        self.schedule_announcement();
        for slot in 0..self.flows.capacity() as u32 {
            if has_voice && self.flows.is_used(slot) && self.flows[slot].group == group {
                self.ready.push(slot);
            }
        }
    }

    /// Sets what this node is to a group. Flows of a group that is switched off are forgotten.
    pub fn set_mode(&mut self, now: Instant, group: u8, mode: Mode) {
        if mode == Mode::Off {
            self.forget(group);
        }
        let state = &mut self.groups[group as usize];
        state.announced_from = (mode == Mode::Serving).then_some((now, 0));
        state.mode = mode;
        self.schedule_announcement();
    }

    /// Forgets every flow of a group.
    pub fn forget(&mut self, group: u8) {
        for slot in 0..self.flows.capacity() as u32 {
            if self.flows.is_used(slot) && self.flows[slot].group == group {
                self.remove(slot);
            }
        }
        self.groups[group as usize].is_mirrored = false;
    }

    /// From now on new flows of the group are recorded, or not.
    pub fn set_mirrored(&mut self, group: u8, is_mirrored: bool) {
        self.groups[group as usize].is_mirrored = is_mirrored;
    }

    /// Nothing of the group is recorded any more: everything counts as committed.
    pub fn detach(&mut self, now: Instant, group: u8) {
        self.set_mirrored(group, false);
        for slot in 0..self.flows.capacity() as u32 {
            if self.flows.is_used(slot) && self.flows[slot].group == group {
                self.detach_flow(now, slot);
            }
        }
    }

    /// Nothing of the flow in `slot` is recorded any more.
    pub fn detach_flow(&mut self, now: Instant, slot: u32) {
        let flow = &mut self.flows[slot];
        if flow.standing == Standing::Copied {
            self.groups[flow.group as usize].copied -= 1;
        }
        flow.standing = Standing::Absent;
        flow.local.committed = flow.progress();
        (flow.local.last_op, flow.local.hold_op, flow.local.committed_op) = (0, 0, 0);
        self.settle(now, slot);
    }

    /// The flow in `slot` is copied from here on: `op` is the last of its capture.
    pub fn attach(&mut self, slot: u32, op: u64) {
        let flow = &mut self.flows[slot];
        debug_assert_eq!(flow.standing, Standing::Absent);
        flow.standing = Standing::Copied;
        flow.local.first_op = op;
        flow.local.last_op = op;
        flow.local.hold_op = op;
        flow.local.committed_op = 0;
        self.groups[flow.group as usize].copied += 1;
    }

    /// Sets the group's clock to read `clock` now.
    pub fn set_clock(&mut self, now: Instant, group: u8, clock: Instant) {
        self.groups[group as usize].clock_offset = clock.0.wrapping_sub(now.0);
    }

    /// As peer: a flow begins. `None` if the table is full or the key is taken.
    pub fn open_copy(&mut self, now: Instant, open: &Open, id: FlowId, group: u8) -> Option<u32> {
        let service = self.env.services.get(open.service as usize)?;
        if open.options.mss > service.mss || self.find(&open.key).is_some() {
            return None;
        }
        let slot = self.insert(open, id, group)?;
        self.flows[slot].local.heard_at = now;
        Some(slot)
    }

    /// As peer: puts an imported flow into a slot; `None` if the table is full or the key is taken.
    pub fn adopt_copy(&mut self, now: Instant, mut flow: Flow) -> Option<u32> {
        if self.find(&flow.key).is_some() || self.flows.available() == 0 {
            flow.release(&mut self.env);
            return None;
        }
        flow.local.heard_at = now;
        let slot = self.flows.take(flow)?;
        self.enter(slot);
        Some(slot)
    }

    /// Gives back what an imported flow holds that is not adopted.
    pub fn discard_import(&mut self, mut flow: Flow) {
        flow.release(&mut self.env);
    }

    /// As peer: applies a fact to a copy. `Ok(true)` if the flow is over and gone.
    pub fn apply(
        &mut self,
        now: Instant,
        slot: u32,
        fact: &Fact,
    ) -> Result<bool, crate::output::OutOfMemory> {
        let flow = &mut self.flows[slot];
        flow.local.heard_at = now;
        flow.apply(&mut self.env, fact)?;
        let is_over = flow.contract.state == State::Closed;
        if is_over {
            self.remove(slot);
        }
        Ok(is_over)
    }

    /// As peer: forgets a copy.
    pub fn discard_copy(&mut self, slot: u32) {
        self.remove(slot);
    }

    /// Begins to serve the copies of a group. Every flow that was active within `recently` is kicked,
    /// the last heard first; behind these every flow is probed at a low rate.
    pub fn promote(&mut self, now: Instant, group: u8, recently: Duration) -> u32 {
        self.set_mode(now, group, Mode::Serving);
        let clock_ms = self.groups[group as usize].clock(now).millis() as u32;
        let mut flows = 0;
        for slot in 0..self.flows.capacity() as u32 {
            if !self.flows.is_used(slot) || self.flows[slot].group != group {
                continue;
            }
            flows += 1;
            let flow = &mut self.flows[slot];
            let heard_at = flow.local.heard_at;
            let ts_offset = self.keys.timestamp_offset(&flow.key);
            let ts_now = clock_ms.wrapping_add(ts_offset);
            let service = &self.env.services[flow.service as usize];
            flow.resume(now, ts_now, ts_offset, service);
            if flow.contract.state == State::SynReceived {
                flow.local.is_half_open = true;
                self.syn_received += 1;
            }
            if now.since(heard_at) <= recently {
                self.kicks.push((heard_at, slot));
            }
            self.unprobed.push(slot);
            let deadline = self.flows[slot].poll_timeout(&self.env);
            if deadline != Instant::MAX {
                self.wheel.arm(slot, deadline);
            }
        }
        self.kicks.sort_unstable();
        while let Some((_, slot)) = self.kicks.pop() {
            self.flows[slot].owe_kick();
            self.ready.push(slot);
        }
        self.probe_at = if self.unprobed.is_empty() { Instant::MAX } else { now + PROBE_AFTER };
        flows
    }

    /// Writes everything that a peer needs to carry the flow in `slot` on.
    pub fn export(&self, slot: u32, out: &mut Vec<u8>) {
        self.flows[slot].export(&self.env, out);
    }

    /// Reads what `export` wrote, into the pools of this stack.
    pub fn import(&mut self, group: u8, bytes: &[u8]) -> Result<Flow, crate::codec::ImportError> {
        Flow::import(&mut self.env, group, bytes)
    }

    /// What two holders of a flow must agree on at equal op.
    pub fn digest(&self, slot: u32, scratch: &mut Vec<u8>) -> u64 {
        self.flows[slot].digest(&self.env, scratch)
    }
}

impl Group {
    /// When the addresses are to be announced next.
    fn next_announcement(&self) -> Option<Instant> {
        if self.is_mute {
            return None;
        }
        let (from, count) = self.announced_from?;
        let after = ANNOUNCE_AFTER_MS.get(count as usize)?;
        Some(from + Duration::from_millis(*after))
    }

    fn count_announcement(&mut self) {
        if let Some((_, count)) = &mut self.announced_from {
            *count += 1;
        }
    }
}

/// RFC 9293 3.10.7.4 and RFC 6191: a SYN that cannot be an old one of the connection in TIME-WAIT.
fn is_newer_syn(flow: &Flow, segment: &Segment) -> bool {
    let is_syn = segment.flags.has(Flags::SYN)
        && !segment.flags.has(Flags::ACK)
        && !segment.flags.has(Flags::RST);
    let is_newer = match (flow.contract.options.timestamps, segment.options.timestamps) {
        (true, Some((value, _))) => (value.wrapping_sub(flow.local.ts_recent) as i32) > 0,
        _ => segment.seq.after(flow.contract.rcv_nxt),
    };
    is_syn && is_newer
}
