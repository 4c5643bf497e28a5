//! One core's share of a node: the stack, the logs of the groups it owns, the copies of those it follows.
//!
//! ```text
//! client frame  -> stack -> facts -> log -> datagram -> peer
//! ack datagram  -> log -> commits -> stack: acknowledgements and held output may leave
//! records       -> backup -> silent copies -> ack datagram
//! agent         -> commands: serve, promote, mirror, alone, follow, stop
//! ```
//!
//! Poll in this order: commands, `handle_datagram` and `handle_frame` for each frame of the bursts,
//! `handle_timeouts`, then `poll_datagram` until `None` (what the gate waits for leaves first), then
//! `poll_frame` until `None`, then `poll_report`.

use crate::backup::{Backup, BackupCounters};
use crate::id::{Epoch, GroupId, Member, NodeId, Op};
use crate::limits::{
    CAPTURE_AGAIN, DIGEST_BYTES_MAX, DIGEST_INTERVAL, DIGEST_LAG_MAX, FILL_FLOWS_PER_POLL,
    FILL_SLOTS_PER_POLL, KICK_RECENT, LOG_DATAGRAMS_MAX, LOG_RECORDS_MAX, PART_BYTES, PARTS_MAX,
    SNAPSHOT_BYTES_MAX, STASH_DATAGRAMS_MAX,
};
use crate::link::{self, Endpoint, LINK_HEADER_BYTES};
use crate::log::{Log, LogCounters};
use crate::mirror::{Body, RecordKind, Session, decode, lost_flows};
use crate::role::{Command, Report};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use stack::fact::Fact;
use stack::flow::{FlowId, Standing};
use stack::key::FlowKey;
use stack::recorder::{FlowName, Progress, Recorder};
use stack::service::Service;
use stack::stack::{ConnectError, Mode, Stack, StackConfig};
use stack::tcp::state::State;
use stack::time::{Duration, Instant};
use stack::wire::Mac;

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
    /// Added to this node's clock, this is the time of day: where the clock of a fresh group begins.
    pub wall_offset: u64,
    /// The stack.
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
    backup: Option<Backup>,
    fill: Option<Fill>,
    digest_at: Instant,
    digest_slot: u32,
    /// The op of the last word that a lost flow is over.
    gone: Op,
}

/// The capture of a group's flows for a joining peer.
struct Fill {
    epoch: Epoch,
    peer: Member,
    next_slot: u32,
    /// When to look for flows without a copy again; MAX if none was given up.
    again_at: Instant,
    /// The op of the last capture, once all are in the log.
    done: Option<Op>,
    reported: bool,
}

/// The logs of the groups that this node owns, by group.
struct Logs(Vec<Option<Log>>);

impl Recorder for Logs {
    fn room(&self, group: u8, wanted: usize, reserved: bool) -> Option<usize> {
        self.0[group as usize].as_ref()?.room(wanted, reserved)
    }

    fn record(&mut self, flow: FlowName, fact: &Fact, progress: Progress) -> u64 {
        let log = self.0[flow.group as usize].as_mut().expect("a copied flow has a log");
        log.record(flow, fact, progress).0
    }
}

/// Counters of the cluster link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkCounters {
    /// Datagrams received.
    pub received: u64,
    /// Frames that are no datagram for this node.
    pub alien: u64,
    /// Datagrams that cannot be read.
    pub malformed: u64,
    /// Datagrams of another cluster, session or incarnation.
    pub other_session: u64,
    /// Datagrams that could not be sent because the peer's Ethernet address is unknown.
    pub no_neighbor: u64,
}

/// How a group stands on this core.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupStatus {
    /// The group.
    pub id: GroupId,
    /// What this node is to it.
    pub role: Role,
    /// The epoch of the last command.
    pub epoch: Epoch,
    /// Flows.
    pub flows: u32,
    /// Flows that the peer holds or, as peer, that are held here.
    pub copied: u32,
    /// Records that the peer has not acknowledged.
    pub lag_ops: u64,
    /// Bytes that the peer has not acknowledged.
    pub lag_bytes: u64,
    /// The log, as owner.
    pub log: LogCounters,
    /// The copies, as peer.
    pub backup: BackupCounters,
}

/// Bytes that a group takes: its log as owner, its copies' bookkeeping as peer, whichever it is.
pub fn group_memory_bytes(link_mtu: usize, flows: usize) -> usize {
    let log = LOG_DATAGRAMS_MAX * link_mtu + LOG_RECORDS_MAX * size_of::<crate::log::Commit>();
    let copies = STASH_DATAGRAMS_MAX * link_mtu + SNAPSHOT_BYTES_MAX + flows * 24;
    log.max(copies)
}

/// One core's share of a node.
pub struct Engine {
    member: Member,
    cluster: u32,
    endpoint: Endpoint,
    datagram_bytes: usize,
    wall_offset: u64,
    stack: Stack,
    groups: Vec<Group>,
    logs: Logs,
    neighbors: Vec<(NodeId, Endpoint)>,
    reports: VecDeque<Report>,
    scratch: Vec<u8>,
    snapshot: Vec<u8>,
    counters: LinkCounters,
}

impl Engine {
    /// Takes all memory. Group `n` of `groups` is that of service `n`.
    pub fn new(config: &EngineConfig, services: Vec<Service>, groups: &[GroupId]) -> Engine {
        assert_eq!(services.len(), groups.len(), "one group for each service");
        Engine {
            member: config.member,
            cluster: config.cluster,
            endpoint: config.endpoint,
            datagram_bytes: config.link_mtu + 14 - LINK_HEADER_BYTES,
            wall_offset: config.wall_offset,
            stack: Stack::new(&config.stack, services),
            groups: groups.iter().map(|&id| Group { id, ..Group::default() }).collect(),
            logs: Logs(groups.iter().map(|_| None).collect()),
            neighbors: Vec::with_capacity(NodeId::MAX as usize),
            reports: VecDeque::with_capacity(64),
            scratch: Vec::with_capacity(SNAPSHOT_BYTES_MAX),
            snapshot: Vec::with_capacity(64 << 10),
            counters: LinkCounters::default(),
        }
    }

    /// The stack.
    pub fn stack(&self) -> &Stack {
        &self.stack
    }

    /// Counters of the cluster link.
    pub fn link_counters(&self) -> LinkCounters {
        self.counters
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

    /// How the groups stand.
    pub fn status(&self) -> impl Iterator<Item = GroupStatus> + '_ {
        self.groups.iter().enumerate().map(|(index, group)| {
            let state = self.stack.group(index as u8);
            let log = self.logs.0[index].as_ref();
            GroupStatus {
                id: group.id,
                role: group.role,
                epoch: group.epoch,
                flows: state.flows(),
                copied: match group.role {
                    Role::Peer => state.flows(),
                    _ => state.copied(),
                },
                lag_ops: log.map_or(0, Log::lag),
                lag_bytes: log.map_or(0, |log| log.bytes_pending() as u64),
                log: log.map(Log::counters).unwrap_or_default(),
                backup: group.backup.as_ref().map(Backup::counters).unwrap_or_default(),
            }
        })
    }

    /// Carries out an order of the agent.
    pub fn handle_command(&mut self, now: Instant, command: Command) {
        match command {
            Command::Serve { group, epoch } => self.serve(now, group, epoch),
            Command::Promote { group, epoch, clock_jump } => {
                self.promote(now, group, epoch, clock_jump);
            }
            Command::Mirror { group, epoch, peer } => self.mirror(now, group, epoch, peer),
            Command::Alone { group, epoch } => self.alone(now, group, epoch),
            Command::Follow { group, epoch, owner } => self.follow(now, group, epoch, owner),
            Command::Protected { group, epoch } | Command::FollowInSync { group, epoch } => {
                if let Some(index) = self.index_of(group) {
                    self.groups[index].epoch = epoch;
                }
            }
            Command::Stop { group } => self.stop(now, group),
        }
    }

    fn index_of(&self, group: GroupId) -> Option<usize> {
        self.groups.iter().position(|known| known.id == group)
    }

    fn serve(&mut self, now: Instant, group: GroupId, epoch: Epoch) {
        let Some(index) = self.index_of(group) else { return };
        self.clear(now, index);
        let clock = Instant(now.0.wrapping_add(self.wall_offset));
        self.stack.set_clock(now, index as u8, clock);
        self.stack.set_mode(now, index as u8, Mode::Serving);
        self.groups[index].role = Role::Owner;
        self.groups[index].epoch = epoch;
    }

    fn promote(&mut self, now: Instant, group: GroupId, epoch: Epoch, clock_jump: Duration) {
        let Some(index) = self.index_of(group) else { return };
        let Some(backup) = self.groups[index].backup.take() else {
            // Without copies there is nothing to carry on, but the service must be served: whoever held a
            // connection is answered by RST.
            self.serve(now, group, epoch);
            let report = Report::Promoted { group, epoch, flows: 0, apply: Duration::ZERO };
            return self.report(report);
        };
        // What lies beyond a gap was never acknowledged; it is thrown away with the backup.
        let clock = backup.clock(now) + clock_jump;
        self.stack.set_clock(now, index as u8, clock);
        let flows = self.stack.promote(now, index as u8, KICK_RECENT);
        self.groups[index].role = Role::Owner;
        self.groups[index].epoch = epoch;
        self.report(Report::Promoted { group, epoch, flows, apply: Duration::ZERO });
    }

    fn mirror(&mut self, now: Instant, group: GroupId, epoch: Epoch, peer: Member) {
        let Some(index) = self.index_of(group) else { return };
        if self.groups[index].role != Role::Owner {
            return;
        }
        self.stack.detach(now, index as u8);
        let session = Session { cluster: self.cluster, group, epoch, from: self.member, to: peer };
        let offset = self.stack.group(index as u8).clock_offset;
        self.logs.0[index] = Some(Log::new(session, self.datagram_bytes, offset));
        self.stack.set_mirrored(index as u8, true);
        let state = &mut self.groups[index];
        (state.epoch, state.gone) = (epoch, Op(0));
        state.digest_at = now;
        state.fill = Some(Fill {
            epoch,
            peer,
            next_slot: 0,
            again_at: Instant::MAX,
            done: None,
            reported: false,
        });
    }

    fn alone(&mut self, now: Instant, group: GroupId, epoch: Epoch) {
        let Some(index) = self.index_of(group) else { return };
        if self.groups[index].role != Role::Owner {
            return;
        }
        self.logs.0[index] = None;
        self.groups[index].fill = None;
        self.groups[index].epoch = epoch;
        self.stack.detach(now, index as u8);
    }

    fn follow(&mut self, now: Instant, group: GroupId, epoch: Epoch, owner: Member) {
        let Some(index) = self.index_of(group) else { return };
        self.clear(now, index);
        let session = Session { cluster: self.cluster, group, epoch, from: owner, to: self.member };
        let flows_max = self.stack.slots_max();
        let backup = Backup::new(session, index as u8, flows_max, self.datagram_bytes);
        self.stack.set_mode(now, index as u8, Mode::Silent);
        let state = &mut self.groups[index];
        (state.role, state.epoch, state.backup) = (Role::Peer, epoch, Some(backup));
    }

    fn stop(&mut self, now: Instant, group: GroupId) {
        if let Some(index) = self.index_of(group) {
            self.clear(now, index);
        }
    }

    /// Forgets everything about a group.
    fn clear(&mut self, now: Instant, index: usize) {
        self.logs.0[index] = None;
        let state = &mut self.groups[index];
        (state.role, state.backup, state.fill) = (Role::Idle, None, None);
        self.stack.set_mode(now, index as u8, Mode::Off);
    }

    fn report(&mut self, report: Report) {
        self.reports.push_back(report);
    }

    /// The next thing to tell the agent.
    pub fn poll_report(&mut self) -> Option<Report> {
        self.reports.pop_front()
    }

    /// Reads ahead what `handle_frame` will need for a burst, so that the waits for memory overlap. It changes
    /// nothing; call it once the burst is there, before its first frame is handled.
    #[inline]
    pub fn look_ahead<'a>(&mut self, frames: impl Iterator<Item = &'a [u8]>) {
        self.stack.look_ahead(frames);
    }

    /// Takes a frame of the client-side interface.
    #[inline]
    pub fn handle_frame(&mut self, now: Instant, frame: &[u8]) {
        self.stack.handle_frame(now, frame, &mut self.logs);
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

    /// Takes a frame of the cluster-side interface.
    pub fn handle_datagram(&mut self, now: Instant, frame: &[u8]) {
        let Some(payload) = link::parse(frame, &self.endpoint) else {
            self.counters.alien += 1;
            return;
        };
        self.counters.received += 1;
        let Ok((session, body)) = decode(payload) else {
            self.counters.malformed += 1;
            return;
        };
        if session.to != self.member || session.cluster != self.cluster {
            self.counters.other_session += 1;
            return;
        }
        let Some(index) = self.index_of(session.group) else {
            self.counters.other_session += 1;
            return;
        };
        match body {
            Body::Records { first, clock, count, bytes } => {
                let backup = self.groups[index].backup.as_mut();
                let Some(backup) = backup.filter(|backup| *backup.session() == session) else {
                    self.counters.other_session += 1;
                    return;
                };
                backup.handle_records(now, &mut self.stack, first, (clock, count), bytes);
            }
            Body::Ack { acked, missing, lost } => {
                let log = self.logs.0[index].as_mut();
                let Some(log) = log.filter(|log| *log.session() == session.reversed()) else {
                    self.counters.other_session += 1;
                    return;
                };
                log.handle_ack(now, acked, missing);
                while let Some(commit) = log.poll_commit() {
                    let (op, slot) = (commit.op.0, commit.slot);
                    self.stack.handle_committed(now, slot, op, commit.progress);
                }
                // Answered once a round trip: what was said before may not have arrived yet.
                let is_answered = log.committed() < self.groups[index].gone;
                for (flow, op) in lost_flows(lost) {
                    match self.slot_of(flow) {
                        Some(slot) => self.capture_again(now, index, slot, op),
                        None if is_answered => {}
                        None => self.tell_gone(index, flow),
                    }
                }
            }
        }
    }

    /// The peer gave a copy up: the flow stands alone until it is captured anew.
    fn capture_again(&mut self, now: Instant, index: usize, slot: u32, op: Op) {
        // Said of a copy before the one that is held or on its way.
        let is_stale = self
            .stack
            .flow(slot)
            .is_none_or(|known| known.standing == Standing::Absent || op.0 < known.local.first_op);
        if is_stale {
            return;
        }
        self.stack.detach_flow(now, slot);
        if let Some(fill) = &mut self.groups[index].fill {
            fill.again_at = fill.again_at.min(now + CAPTURE_AGAIN);
        }
    }

    /// The peer told as lost what is over: there is nothing to capture.
    fn tell_gone(&mut self, index: usize, flow: FlowId) {
        if let Some(log) = self.logs.0[index].as_mut().filter(|log| log.room(0, true).is_some()) {
            self.groups[index].gone = log.note(RecordKind::Gone, flow, &[], None);
        }
    }

    /// Where a flow is kept. A scan: only the rare word of a lost copy asks by name.
    fn slot_of(&self, flow: FlowId) -> Option<u32> {
        let is_it = |&slot: &u32| self.stack.flow(slot).is_some_and(|known| known.id == flow);
        self.stack.slots().find(is_it)
    }

    /// Does what has come due: timers, captures, digests.
    pub fn handle_timeouts(&mut self, now: Instant) {
        self.stack.handle_timeouts(now, &mut self.logs);
        for index in 0..self.groups.len() {
            if self.logs.0[index].is_some() {
                self.fill_some(now, index);
                self.digest_one(now, index);
            }
        }
    }

    /// Captures a few flows that the peer does not hold.
    fn fill_some(&mut self, now: Instant, index: usize) {
        let Engine { stack, logs, groups, scratch, reports, .. } = self;
        let (Some(fill), Some(log)) = (&mut groups[index].fill, &mut logs.0[index]) else {
            return;
        };
        if fill.again_at <= now {
            (fill.again_at, fill.next_slot) = (Instant::MAX, 0);
        }
        let mut budget = FILL_FLOWS_PER_POLL;
        let slots = stack.slots_max() as u32;
        let scan_end = fill.next_slot.saturating_add(FILL_SLOTS_PER_POLL).min(slots);
        while budget > 0 && fill.next_slot < scan_end {
            let slot = fill.next_slot;
            let wanted = stack.flow(slot).is_some_and(|flow| {
                flow.group == index as u8
                    && flow.standing == Standing::Absent
                    && flow.contract.state != State::Closed
            });
            if wanted {
                scratch.clear();
                stack.export(slot, scratch);
                let parts = scratch.len().div_ceil(PART_BYTES);
                if parts > PARTS_MAX {
                    // It stays alone, as the status shows, until it holds less.
                    fill.again_at = now + CAPTURE_AGAIN;
                } else if log.has_room_for_parts(parts) {
                    capture(stack, log, slot, scratch);
                } else {
                    break;
                }
                budget -= 1;
            }
            fill.next_slot += 1;
        }
        if fill.next_slot == slots && fill.done.is_none() && log.room(0, false).is_some() {
            let op = log.note(RecordKind::FillDone, Default::default(), &[], None);
            fill.done = Some(op);
        }
        if !fill.reported && fill.done.is_some_and(|op| log.committed() >= op) {
            fill.reported = true;
            let group = groups[index].id;
            let Some(Fill { epoch, peer, .. }) = groups[index].fill else { return };
            reports.push_back(Report::Filled { group, epoch, peer });
        }
    }

    /// Sends the digest of one flow after another, for the peer to compare.
    fn digest_one(&mut self, now: Instant, index: usize) {
        let group = &mut self.groups[index];
        if now < group.digest_at || self.stack.group(index as u8).copied() == 0 {
            return;
        }
        group.digest_at = now + DIGEST_INTERVAL;
        if self.logs.0[index].as_ref().is_none_or(|log| log.lag() > DIGEST_LAG_MAX) {
            return;
        }
        let slots = self.stack.slots_max() as u32;
        for _ in 0..64 {
            let slot = group.digest_slot;
            group.digest_slot = (slot + 1) % slots;
            let is_wanted = self.stack.flow(slot).is_some_and(|flow| {
                flow.group == index as u8
                    && flow.standing == Standing::Copied
                    && flow.contract.state != State::Closed
                    && flow.output.stored() + flow.backlog.len() as u64 <= DIGEST_BYTES_MAX
            });
            let Some(log) = self.logs.0[index].as_mut().filter(|_| is_wanted) else { continue };
            if log.room(0, false).is_none() {
                return;
            }
            let digest = self.stack.digest(slot, &mut self.snapshot);
            let id = self.stack.flow(slot).expect("just seen").id;
            log.note(RecordKind::Digest, id, &digest.to_le_bytes(), None);
            return;
        }
    }

    /// When something comes due next; ZERO if there is something to do now.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.stack.has_work() || self.groups.iter().any(Group::has_ack) {
            return Some(Instant::ZERO);
        }
        let logs = self.logs.0.iter().flatten().filter_map(Log::poll_timeout);
        let digests = self.groups.iter().enumerate().filter_map(|(index, group)| {
            let is_wanted =
                self.logs.0[index].is_some() && self.stack.group(index as u8).copied() > 0;
            is_wanted.then_some(group.digest_at)
        });
        let filling = self.groups.iter().any(Group::is_filling).then_some(Instant::ZERO);
        let fills = self.groups.iter().filter_map(|group| group.fill.as_ref());
        let again = fills.map(|fill| fill.again_at).filter(|at| *at != Instant::MAX);
        logs.chain(digests).chain(self.stack.poll_timeout()).chain(filling).chain(again).min()
    }

    /// Writes the next frame for the cluster link into `buffer`; `None` if there is none.
    pub fn poll_datagram(&mut self, now: Instant, buffer: &mut [u8]) -> Option<usize> {
        for index in 0..self.groups.len() {
            if let Some(backup) = self.groups[index].backup.as_mut().filter(|b| b.has_ack()) {
                let owner = backup.session().from.node;
                let Some(to) = endpoint_of(&self.neighbors, owner) else {
                    self.counters.no_neighbor += 1;
                    continue;
                };
                self.snapshot.clear();
                backup.poll_ack(&mut self.snapshot);
                return Some(link::emit(buffer, &self.endpoint, &to, &self.snapshot));
            }
            if let Some(log) = &mut self.logs.0[index] {
                let Some(to) = endpoint_of(&self.neighbors, log.session().to.node) else {
                    self.counters.no_neighbor += 1;
                    continue;
                };
                if let Some(bytes) = log.poll_datagram(now) {
                    return Some(link::emit(buffer, &self.endpoint, &to, bytes));
                }
            }
        }
        None
    }

    /// Writes the next frame for the clients into `buffer`: its length and the index of its group, under
    /// whose lease it must leave.
    #[inline]
    pub fn poll_frame(&mut self, now: Instant, buffer: &mut [u8]) -> Option<(usize, u8)> {
        self.stack.poll_transmit(now, buffer)
    }
}

/// Records a whole flow as one run of parts, for which the log has room.
fn capture(stack: &mut Stack, log: &mut Log, slot: u32, bytes: &[u8]) {
    let (id, progress) = {
        let flow = stack.flow(slot).expect("captured flows exist");
        (flow.id, flow.progress())
    };
    let mut parts = bytes.chunks(PART_BYTES).peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_some() {
            log.note(RecordKind::Part, id, part, None);
        } else {
            let op = log.note(RecordKind::LastPart, id, part, Some((slot, progress)));
            stack.attach(slot, op.0);
        }
    }
}

fn endpoint_of(neighbors: &[(NodeId, Endpoint)], node: NodeId) -> Option<Endpoint> {
    neighbors.iter().find(|(id, _)| *id == node).map(|(_, endpoint)| *endpoint)
}

impl Group {
    fn has_ack(&self) -> bool {
        self.backup.as_ref().is_some_and(Backup::has_ack)
    }

    fn is_filling(&self) -> bool {
        self.fill.as_ref().is_some_and(|fill| fill.done.is_none())
    }
}
