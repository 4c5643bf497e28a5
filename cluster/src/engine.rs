//! One core's share of a node: the stack, the logs of the groups it owns, the copies of those it follows.
//!
//! ```text
//! client frame  -> stack -> facts -> log -> datagram -> peer
//! ack datagram  -> log -> commits -> stack: acknowledgements and held output may leave
//! records       -> backup -> silent copies -> ack datagram
//! agent         -> commands: serve, promote, mirror, alone, follow, stop
//! ```
//!
//! Poll in this order: commands, `handle_datagram` for each datagram, `handle_frames` until a burst is taken,
//! `handle_timeouts`, then `poll_datagram` until `None` (what the gate waits for leaves first), then
//! `poll_frame` until `None`, then `poll_report`.

mod datagram;
mod duty;
mod fill;
mod forward;
mod generation;
mod handover;
mod hearing;
mod lane;
mod reload;
mod servers;
mod shelf;
mod status;

pub use datagram::LinkCounters;
pub use hearing::{HearingCounters, hearing_memory_bytes};
pub use reload::Setting;
pub use shelf::{ForwardCounters, shelf_memory_bytes};
pub use status::GroupStatus;

use crate::backup::Backup;
use crate::id::{Epoch, GroupId, Member, NodeId};
use crate::limits::{
    CAPTURE_BYTES_MAX, CORES_MAX, LOG_DATAGRAMS_MAX, LOG_RECORDS_MAX, SNAPSHOT_BYTES_MAX,
    STASH_DATAGRAMS_MAX, TEND_EVERY,
};
use crate::link::{Endpoint, LINK_HEADER_BYTES};
use crate::role::Report;
use crate::seal::{self, LinkSeal, LinkSession};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use fill::Fill;
use forward::Route;
use handover::Freeze;
use hearing::Hearing;
use lane::{Lanes, Logs};
use shelf::Shelf;
use stack::flow::FlowId;
use stack::key::FlowKey;
use stack::limits::GROUPS_MAX;
use stack::service::Service;
use stack::shard::Place;
use stack::stack::{ConnectError, Elsewhere, Ended, Stack, StackConfig};
use stack::time::Instant;
use stack::wire::{Mac, Superframe};

/// What an engine is built with.
pub struct EngineConfig {
    /// This life of this node.
    pub member: Member,
    /// The cluster's id.
    pub cluster: u32,
    /// This node's end of the cluster link.
    pub endpoint: Endpoint,
    /// The MTU of the cluster link.
    pub link_mtu: usize,
    /// Whether datagrams are sealed: nothing is sent or taken without a session then.
    pub is_sealed: bool,
    /// Added to this node's clock, this is the time of day: where the clock of a fresh group begins.
    pub wall_offset: u64,
    /// The stack, and which of the node's cores this is.
    pub stack: StackConfig,
}

/// What this node is to a group, as the status shows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Role {
    /// Neither owner nor peer.
    #[default]
    Idle,
    /// Its owner.
    Owner,
    /// Its peer.
    Peer,
}

#[derive(Default)]
struct Group {
    id: GroupId,
    role: Role,
    epoch: Epoch,
    /// As owner: since which epoch.
    owned_from: Epoch,
    /// Unless this node is the owner: who is.
    route: Option<Route>,
    /// As peer: the register says that every copy is here.
    in_sync: bool,
    /// The other generation of the service, if it may have flows while this one is the newest.
    older: Option<usize>,
    /// Its service leaves, in this attempt.
    leaving: Option<u32>,
    /// As owner of a closed group, or of one whose service leaves: in which epoch and attempt the agent was told that it has no
    /// flows.
    empty: (Epoch, u32),
    /// As peer: the copies from each core of the owner that shares flows with this one.
    backups: Vec<Backup>,
    /// As owner with a peer or as peer: the other one and how many cores it has.
    partner: Option<(Member, u8)>,
    fill: Option<Fill>,
    /// As owner: about to hand over.
    freeze: Option<Freeze>,
    /// As owner: the agent was told that the peer acknowledges nothing.
    stalled: bool,
    digest_at: Instant,
    digest_slot: u32,
    /// As peer: bytes of payload that were overheard.
    heard_bytes: u64,
}

/// Bytes that a group takes on a core that shares flows with one core of the other node: its log as owner, its copies'
/// bookkeeping as peer, whichever it is. With a node of another number of cores it is that for each pair.
pub fn group_memory_bytes(link_mtu: usize) -> usize {
    let log = LOG_DATAGRAMS_MAX * link_mtu + LOG_RECORDS_MAX * size_of::<crate::log::Commit>();
    let copies = STASH_DATAGRAMS_MAX * link_mtu + CAPTURE_BYTES_MAX;
    log.max(copies)
}

/// One core's share of a node.
pub struct Engine {
    member: Member,
    cluster: u32,
    endpoint: Endpoint,
    seal: Option<LinkSeal>,
    datagram_bytes: usize,
    wall_offset: u64,
    stack: Stack,
    groups: Vec<Group>,
    logs: Logs,
    neighbors: Vec<(NodeId, Endpoint)>,
    reports: VecDeque<Report>,
    scratch: Vec<u8>,
    snapshot: Vec<u8>,
    shelf: Shelf,
    hearing: Hearing,
    counters: LinkCounters,
    /// When the groups are looked after next; in every round while they have something to do.
    tend_at: Instant,
}

impl Engine {
    /// Takes all memory. Group `n` of `groups` is that of service `n`.
    pub fn new(config: &EngineConfig, services: Vec<Service>, groups: &[GroupId]) -> Engine {
        assert_eq!(services.len(), groups.len(), "one group for each service");
        let Place { core, cores } = config.stack.place;
        assert!(core < cores && cores <= CORES_MAX, "core {core} of {cores}");
        let overhead = if config.is_sealed { seal::OVERHEAD_BYTES } else { 0 };
        let frame_bytes = services.iter().map(Service::frame_bytes_max).max().unwrap_or(0);
        let is_heard = services.iter().any(|service| service.snoop);
        Engine {
            member: config.member,
            cluster: config.cluster,
            endpoint: config.endpoint,
            seal: config.is_sealed.then(|| LinkSeal::new(core)),
            datagram_bytes: config.link_mtu + 14 - LINK_HEADER_BYTES - overhead,
            wall_offset: config.wall_offset,
            stack: Stack::new(&config.stack, services),
            groups: with_room(groups.iter().map(|&id| Group { id, ..Group::default() })),
            logs: Logs(with_room(groups.iter().map(|_| Lanes::none()))),
            neighbors: Vec::with_capacity(NodeId::MAX as usize),
            reports: VecDeque::with_capacity(64),
            scratch: Vec::with_capacity(SNAPSHOT_BYTES_MAX),
            snapshot: Vec::with_capacity(64 << 10),
            shelf: Shelf::new(frame_bytes),
            hearing: Hearing::new(is_heard, frame_bytes),
            counters: LinkCounters::default(),
            tend_at: Instant::ZERO,
        }
    }

    /// The stack.
    pub fn stack(&self) -> &Stack {
        &self.stack
    }

    /// Counters of the cluster link.
    pub fn link_counters(&self) -> LinkCounters {
        let sealing = self.seal.as_ref().map(LinkSeal::counters).unwrap_or_default();
        LinkCounters { sealing, ..self.counters }
    }

    /// The newest session with another node. Without sealing there is nothing to be done with it.
    pub fn install_session(&mut self, now: Instant, session: Box<LinkSession>) {
        if let Some(seal) = &mut self.seal {
            seal.install(now, session);
        }
    }

    /// Where another node is on the cluster link.
    pub fn set_neighbor(&mut self, node: NodeId, endpoint: Endpoint) {
        match self.neighbors.iter_mut().find(|(id, _)| *id == node) {
            Some((_, known)) => *known = endpoint,
            None => self.neighbors.push((node, endpoint)),
        }
    }

    /// Gives or takes the right to speak for the group with this index: the lease as it stands.
    #[inline]
    pub fn set_voice(&mut self, group: u8, has_voice: bool) {
        self.stack.set_voice(group, has_voice);
    }

    /// Reads ahead what `handle_frames` will need for a burst, so that the waits for memory overlap. It changes
    /// nothing; call it once the burst is there, before its first frame is handled.
    #[inline]
    pub fn look_ahead<'a>(&mut self, frames: impl Iterator<Item = &'a [u8]>) {
        self.stack.look_ahead(frames);
    }

    /// The same for frames that have crossed over from another core, by the hashes that it computed.
    #[inline]
    pub fn look_ahead_hashed(&mut self, hashes: impl Iterator<Item = u64>) {
        self.stack.look_ahead_hashed(hashes);
    }

    /// If the next frame of the burst belongs to another core: to whom. It is passed over: hand it to that core instead
    /// of calling [`Engine::handle_frames`].
    #[inline]
    pub fn pass_over(&mut self) -> Option<Elsewhere> {
        self.stack.pass_over()
    }

    /// Takes a frame of the client-side interface.
    #[inline]
    pub fn handle_frame(&mut self, now: Instant, frame: &[u8]) {
        self.handle_frames(now, &[frame]);
    }

    /// Takes the first of these frames, of which there is one at least, and those behind it that continue what it says; answers how
    /// many. See [`Stack::handle_frames`].
    pub fn handle_frames(&mut self, now: Instant, frames: &[&[u8]]) -> usize {
        if let Some(heard) = self.stack.hear(now, frames[0]) {
            self.note_heard(now, heard, frames[0]);
            return 1;
        }
        let (taken, stray) = self.stack.handle_frames(now, frames, &mut self.logs);
        if let Some(stray) = stray {
            self.handle_stray(now, stray, None, frames[0]);
        }
        taken
    }

    /// Whether the last frame was an answer that tells where a server is: hand it to the engines of all other cores.
    #[inline]
    pub fn take_learnt(&mut self) -> bool {
        self.stack.take_learnt()
    }

    /// Opens a connection of the service with this index, from `key.local` to `key.remote` by way of
    /// `next_hop`; answers its slot. The SYN leaves when the peer holds the decision.
    pub fn connect(
        &mut self,
        now: Instant,
        service: u8,
        key: FlowKey,
        next_hop: Mac,
    ) -> Result<u32, ConnectError> {
        self.stack.connect(now, service, key, next_hop, &mut self.logs)
    }

    /// Ends the connection with this name, because an operator wants it.
    pub fn end_flow(&mut self, now: Instant, id: FlowId) -> Ended {
        self.stack.end_flow(now, id, &mut self.logs)
    }

    /// Does what has come due: timers, captures, digests.
    pub fn handle_timeouts(&mut self, now: Instant) {
        self.stack.handle_timeouts(now, &mut self.logs);
        self.shelf.expire(now);
        (0..self.groups.len()).for_each(|index| self.note_empty(now, index));
        if now >= self.tend_at {
            self.tend_groups(now);
        }
    }

    /// Looks after the groups: what a change of role has them do, and what is seldom.
    fn tend_groups(&mut self, now: Instant) {
        self.forget_heard(now);
        for index in 0..self.groups.len() {
            self.note_stalled(now, index);
            self.tell_servers(index);
            if self.groups[index].freeze.is_some() {
                self.freeze_some(now, index);
            } else if !self.logs.0[index].is_empty() {
                self.fill_some(now, index);
                self.digest_one(now, index);
            }
        }
        let is_busy = |index: usize| {
            let Group { freeze, fill, .. } = &self.groups[index];
            let fills = fill.as_ref().is_some_and(|fill| !fill.is_reported());
            freeze.is_some() || fills || self.is_telling(index) || self.is_filling(index)
        };
        self.tend_at = if (0..self.groups.len()).any(is_busy) { now } else { now + TEND_EVERY };
    }

    /// A peer that lives and acknowledges nothing cannot read or carry out what it is sent: the agent decides.
    fn note_stalled(&mut self, now: Instant, index: usize) {
        let is_stalled = self.logs.0[index].is_stalled(now);
        let state = &mut self.groups[index];
        if let (true, false, Some((peer, _))) = (is_stalled, state.stalled, state.partner) {
            state.stalled = true;
            let group = state.id;
            self.report(Report::Stalled { group, peer });
        }
    }

    /// When something comes due next; ZERO if there is something to do now.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.stack.has_work() || self.groups.iter().any(Group::has_ack) {
            return Some(Instant::ZERO);
        }
        let lanes = self.logs.0.iter().flat_map(Lanes::iter);
        let logs = lanes.filter_map(|lane| lane.log.poll_timeout());
        let digests = self.groups.iter().enumerate().filter_map(|(index, group)| {
            let is_wanted =
                !self.logs.0[index].is_empty() && self.stack.group(index as u8).copied() > 0;
            is_wanted.then_some(group.digest_at)
        });
        let groups = 0..self.groups.len();
        let has_words = |index| self.is_freezing(index) || self.is_telling(index);
        let freezing = groups.clone().any(has_words).then_some(Instant::ZERO);
        let filling = groups.filter(|&index| self.is_filling(index));
        let filling = filling.filter_map(|index| self.groups[index].fill.as_ref());
        let filling = filling.map(|fill| fill.next_at);
        let fills = self.groups.iter().filter_map(|group| group.fill.as_ref());
        let again = fills.map(|fill| fill.again_at).filter(|at| *at != Instant::MAX);
        let tended = digests.chain(freezing).chain(filling).chain(again).min();
        let tended = tended.map(|at| at.max(self.tend_at));
        let own = self.stack.poll_timeout().into_iter().chain(self.shelf.poll_timeout());
        logs.chain(own).chain(tended).min()
    }

    /// Writes the next frame for the clients into `buffer`: its length and the index of its group, under
    /// whose lease it must leave.
    #[inline]
    pub fn poll_frame(&mut self, now: Instant, buffer: &mut [u8]) -> Option<(usize, u8)> {
        self.stack.poll_transmit(now, buffer)
    }

    /// The same if it is a superframe; else `None`, and [`Engine::poll_frame`] knows. See [`Stack::poll_superframe`].
    #[inline]
    pub fn poll_superframe(
        &mut self,
        now: Instant,
        buffer: &mut [u8],
        segments_max: usize,
    ) -> Option<(Superframe, u8)> {
        self.stack.poll_superframe(now, buffer, segments_max)
    }
}

/// What there is for each group, and room for all that may come.
fn with_room<T>(of_groups: impl Iterator<Item = T>) -> Vec<T> {
    let mut all = Vec::with_capacity(GROUPS_MAX);
    all.extend(of_groups);
    all
}

impl Group {
    fn has_ack(&self) -> bool {
        self.backups.iter().any(Backup::has_ack)
    }
}
