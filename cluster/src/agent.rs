//! The ownership machine of one node, over all its groups.
//!
//! Every heartbeat period the agent tells every other node what it knows and asks its lessors to
//! renew. What it decides depends only on its newest copy of the register, on promises and on
//! silence; each decision is one [`crate::register::Change`] asked of the arbiter, and what comes
//! of it arrives as a newer register, whoever brings it. So there is one place that changes roles
//! (`adopt`), one that judges (`decide`), and lost, doubled, late and reordered messages only
//! delay.
//!
//! ```text
//! never written -> Create -> owner alone -> AddPeer -> (cores fill) -> InSync -> protected
//!   owner silent:  peer's promise runs out -> TakeOver -> Promote
//!   peer silent:   own lease runs out      -> Alone    -> serve on, alone
//!   either surrenders: the same, at once (`crate::surrender`)
//!   both dead:     longest promise over    -> Fresh    -> serve from an empty state
//! ```
//!
//! Order of use: any `handle_*`, then [`Agent::poll_command`] and [`Agent::poll_message`] until
//! empty, publish [`Agent::lease`] of every group, wait until [`Agent::poll_timeout`]. The lease
//! must be published after *every* `handle_*`: it can end at once.
//!
//! Spec: PROTOCOL.md. A planned handover is in `agent/handover.rs`.
//! Bounds: [`MESSAGES_MAX`], [`REASONS_MAX`]; commands are at most two per change.

mod adopt;
mod ask;
mod dead;
mod decide;
pub mod declare;
mod generation;
mod group;
pub mod handover;
mod hint;
mod leave;
pub mod pass;
mod receive;
pub mod status;
pub mod tell;
mod unasked;

use crate::detector::{Detector, Gaps};
use crate::id::{GroupId, Incarnation, Member, NodeId};
use crate::lease::{Lessor, Timers};
use crate::message::advertise::{Advertise, Failback, OnPeerLoss};
use crate::message::{
    Drop, ENTRIES_MAX, Entry, Header, Heartbeat, Message, Role, WITNESS, any_life, encode,
};
use crate::path::{Health, Path};
use crate::register::Register;
use crate::role::{Command, Report};
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use group::Group;
use stack::time::{Duration, Instant};

pub use group::{Decision, Reason, Takeover};

/// Datagrams that wait to be sent; the newest beyond that are lost, as on a network, and counted.
pub const MESSAGES_MAX: usize = 1_024;
/// Decisions that are remembered per group.
pub const REASONS_MAX: usize = 32;
/// Former lives of the witness that are remembered.
const WITNESS_LIVES_MAX: usize = 8;

/// What the configuration says about this node and its cluster.
#[derive(Clone, Debug)]
pub struct Config {
    /// This node, in its present life.
    pub me: Member,
    /// Which cluster.
    pub cluster: u64,
    /// The version of the program, for the others to show.
    pub version: String,
    /// Hardware address on the cluster's data link.
    pub mac: [u8; 6],
    /// Cores of this node, at most [`crate::limits::CORES_MAX`]; each reports for itself.
    pub cores: u8,
    /// Every node, this one included.
    pub nodes: Vec<NodeId>,
    /// The groups.
    pub groups: Vec<GroupConfig>,
    /// Time constants, the same on every node and on the witness (but for the adaptive part).
    pub timers: Timers,
    /// Who keeps the registers.
    pub arbiter: Arbiter,
}

/// What the configuration says about one group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupConfig {
    /// The group.
    pub group: GroupId,
    /// The preferred owner.
    pub home: NodeId,
    /// The designated peers, in their order.
    pub peers: Vec<NodeId>,
    /// What the owner does without a peer in sync.
    pub on_peer_loss: OnPeerLoss,
    /// What happens when the home node is back and holds the copies.
    pub failback: Failback,
    /// How long it must have done so, without incident, before the group goes back by itself.
    pub hold_down: Duration,
    /// What is declared about it beside the above, owner and epoch.
    pub advertisement: Advertise,
    /// The service is not configured any more, since this attempt of the operator's: its connections go on, and the group is
    /// given up when they have ended.
    pub leaving: Option<u32>,
}

impl GroupConfig {
    /// The nodes that may own the group, in the order in which they come to it.
    pub fn order(&self) -> impl Iterator<Item = NodeId> + Clone + '_ {
        core::iter::once(self.home).chain(self.peers.iter().copied())
    }
}

/// Who keeps the registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arbiter {
    /// The witness.
    Witness,
    /// Nobody: the nodes themselves, and only the survivor may go on after silence. For two nodes.
    None {
        /// Who may.
        survivor: Survivor,
    },
}

/// Who may go on after silence if there is no arbiter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Survivor {
    /// This node.
    Node(NodeId),
    /// Either: both may own at once while they do not hear each other.
    Both,
}

/// Where a datagram goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Destination {
    /// To this node's agent.
    Node(NodeId),
    /// To the witness.
    Witness,
}

/// What the agent counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Datagrams taken.
    pub received: u64,
    /// Datagrams dropped, by reason (the order of [`Drop`]).
    pub dropped: [u64; Drop::COUNT],
    /// Datagrams sent.
    pub sent: u64,
    /// Datagrams that found the queue full.
    pub overflowed: u64,
    /// Renewals granted to others.
    pub granted: u64,
    /// Times that this node was itself late and did not accuse.
    pub late: u64,
    /// Advertisements that claim what belongs to another.
    pub claims: u64,
    /// Nodes that were refused as peer for what they declare.
    pub refused_peers: u64,
}

/// The ownership machine of one node.
#[derive(Debug)]
pub struct Agent {
    config: Config,
    detector: Detector,
    gaps: Gaps,
    groups: Vec<Group>,
    started: Instant,
    core_ok: bool,
    /// How this node reaches its clients.
    path: Path,
    /// The present life of the witness, once it has answered.
    witness: Option<Member>,
    /// When it answered last.
    witness_heard: Instant,
    witness_past: VecDeque<Incarnation>,
    registered: bool,
    hello: ask::Pace,
    /// Another life of this node is registered: this one is over.
    superseded: bool,
    /// An operator wants this node to own nothing.
    draining: bool,
    request: u64,
    sequence: u64,
    heartbeat_at: Instant,
    /// When to tell the others how this node is.
    tell_at: Instant,
    /// How the others are.
    told: Vec<tell::Told>,
    /// This node was late: it accuses nobody before then.
    accuse_at: Instant,
    messages: VecDeque<(Destination, Vec<u8>)>,
    commands: VecDeque<Command>,
    /// Lives that an operator has declared dead here, and a register still names.
    declared: Vec<Member>,
    /// Orders that were passed on and not answered yet.
    passed: Vec<pass::Passed>,
    outcomes: VecDeque<pass::Outcome>,
    counters: Counters,
}

impl Agent {
    /// An agent that has just started and knows nothing.
    ///
    /// Panics if the configuration names no node, this node not, or itself with incarnation zero:
    /// the configuration was checked before.
    pub fn new(now: Instant, config: Config) -> Agent {
        assert!(config.nodes.contains(&config.me.node), "this node is not in the cluster");
        assert!(config.me.incarnation.0 != 0 && config.cores > 0, "no incarnation or no core");
        let others = config.nodes.iter().copied().filter(|node| *node != config.me.node);
        let detector = Detector::new(others);
        let groups = config.groups.iter();
        let groups = groups.map(|group| Group::new(now, group.clone(), config.cores)).collect();
        let hello = ask::Pace::new(now, config.timers);
        Agent {
            config,
            detector,
            gaps: Gaps::new(now),
            groups,
            started: now,
            core_ok: false,
            path: Path::default(),
            witness: None,
            witness_heard: now,
            witness_past: VecDeque::new(),
            registered: false,
            hello,
            superseded: false,
            draining: false,
            request: 0,
            sequence: 0,
            heartbeat_at: now,
            tell_at: now,
            told: Vec::new(),
            accuse_at: now,
            messages: VecDeque::new(),
            commands: VecDeque::new(),
            declared: Vec::new(),
            passed: Vec::new(),
            outcomes: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// Until when this node may transmit for the group, on its own clock; zero is never.
    pub fn lease(&self, group: GroupId) -> Instant {
        let Some(entry) = self.entry(group) else {
            return Instant::ZERO;
        };
        let allowed = entry.config.on_peer_loss == OnPeerLoss::Serve || entry.register.in_sync;
        if allowed && entry.role == Role::Owner && !self.superseded {
            entry.lease.until()
        } else {
            Instant::ZERO
        }
    }

    /// The nodes that were heard, and where each is on the cluster's data link.
    pub fn neighbors(&self) -> impl Iterator<Item = (NodeId, [u8; 6])> + '_ {
        let heard = self.detector.nodes().iter().filter(|heard| heard.member.incarnation.0 != 0);
        heard.map(|heard| (heard.member.node, heard.mac))
    }

    /// This node.
    pub fn node(&self) -> NodeId {
        self.config.me.node
    }

    /// The newest register of a group that is known here.
    pub fn register(&self, group: GroupId) -> Register {
        self.entry(group).map_or(Register::NEVER, |entry| entry.register)
    }

    /// What it counted.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The time constants in force.
    pub fn timers(&self) -> Timers {
        self.config.timers.effective(self.gaps.largest())
    }

    /// Takes a datagram of another agent or of the witness. What is wrong with it is counted.
    pub fn handle_message(&mut self, now: Instant, bytes: &[u8]) {
        self.observe(now);
        match self.receive(now, bytes) {
            Ok(()) => self.counters.received += 1,
            Err(reason) => self.counters.dropped[reason as usize] += 1,
        }
        self.decide_all(now);
    }

    /// Takes what a core reports.
    pub fn handle_report(&mut self, now: Instant, report: Report) {
        self.observe(now);
        match report {
            Report::Filled { group, epoch, core, peer, missing } => {
                if let Some(entry) = self.entry_mut(group)
                    && entry.role == Role::Owner
                    && entry.register.epoch == epoch
                    && entry.register.peer == Some(peer)
                    && entry.filled.note(core)
                {
                    entry.missing += missing;
                }
            }
            Report::Frozen { group, epoch, core, attempt, flows, absent } => {
                self.note_frozen((group, epoch), (core, attempt), (flows, absent));
            }
            Report::Differed { group, owner, count } => {
                if let Some(entry) = self.entry_mut(group) {
                    entry.differed += count;
                    entry.note(now, Reason::CopiesDiffered(owner.node));
                }
            }
            Report::Empty { group, epoch, core, attempt } => {
                self.note_empty((group, epoch), (core, attempt));
            }
            Report::Stalled { group, peer } => {
                if let Some(entry) = self.entry_mut(group)
                    && entry.role == Role::Owner
                    && entry.register.peer == Some(peer)
                {
                    entry.stalled = Some((peer, now));
                }
            }
            Report::Promoted { group, epoch, core, flows, apply } => {
                if let Some(entry) = self.entry_mut(group)
                    && let Some(takeover) = &mut entry.takeover
                    && takeover.epoch == epoch
                    && takeover.promoted.note(core)
                {
                    takeover.flows += flows;
                    takeover.apply = takeover.apply.max(apply);
                }
            }
        }
        self.decide_all(now);
    }

    /// Whether every core of this node makes progress; a node whose cores do not asks for nothing
    /// and grants nothing.
    pub fn handle_progress(&mut self, now: Instant, core_ok: bool) {
        self.observe(now);
        if core_ok && !self.core_ok {
            // While it was stuck it asked for no renewal: the silence was its own.
            for entry in &mut self.groups {
                entry.granted_at = entry.granted_at.max(now);
            }
        }
        self.core_ok = core_ok;
    }

    /// How this node reaches its clients, as it was just measured. The others learn of a change at once.
    pub fn handle_path(&mut self, now: Instant, health: Health) {
        self.observe(now);
        if self.path.health().quality() != health.quality() {
            self.heartbeat_at = self.heartbeat_at.min(now);
        }
        self.path.note(now, health);
    }

    /// The time of [`Agent::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.observe(now);
        self.decide_all(now);
        if now >= self.heartbeat_at {
            self.heartbeat_at = now + self.config.timers.heartbeat;
            self.send_heartbeats(now);
        }
    }

    /// The next datagram to send.
    pub fn poll_message(&mut self) -> Option<(Destination, Vec<u8>)> {
        self.messages.pop_front()
    }

    /// The next order to the cores.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// When to call [`Agent::handle_timeout`] next.
    pub fn poll_timeout(&self) -> Instant {
        self.heartbeat_at
    }

    /// How late is this node itself? If very, it hears the others first.
    fn observe(&mut self, now: Instant) {
        if self.heartbeat_at == self.started {
            // Before its first heartbeat it has planned nothing: a node takes its memory meanwhile.
            return;
        }
        let late = now.since(self.heartbeat_at);
        self.gaps.record(now, late);
        let timers = &self.config.timers;
        if late.0 > timers.promise(timers.lease).0 / 2 {
            self.accuse_at = now + Duration(3 * timers.heartbeat.0);
            self.counters.late += 1;
        }
    }

    fn send_heartbeats(&mut self, now: Instant) {
        if self.superseded {
            return;
        }
        for index in 0..self.detector.nodes().len() {
            let heard = &self.detector.nodes()[index];
            // If that life is over, the next one must hear of this one.
            let is_silent = now.since(heard.at) > self.timers().peer_silent;
            let to = if is_silent { any_life(heard.node) } else { heard.member };
            self.send_heartbeat(now, to, heard.sent);
        }
    }

    /// Everything that a heartbeat says, to one node.
    fn send_heartbeat(&mut self, now: Instant, to: Member, echo: Instant) {
        let lease = self.timers().lease;
        let entries: Vec<Entry> = (0..self.groups.len())
            .map(|at| Entry {
                group: self.groups[at].config.group,
                role: self.groups[at].role,
                register: self.groups[at].register,
                renew: self.asks_renewal_of(at, to).then_some(lease),
                has_lease: self.groups[at].lease.until() > now,
            })
            .collect();
        // A node without groups still gives its sign of life.
        let chunks = entries.chunks(ENTRIES_MAX).chain(entries.is_empty().then_some(&[][..]));
        for chunk in chunks {
            self.sequence += 1;
            let heartbeat = Heartbeat {
                sequence: self.sequence,
                sent: now,
                echo,
                core_ok: self.core_ok,
                draining: self.draining,
                cores: self.config.cores,
                mac: self.config.mac,
                path: self.path.health(),
                entries: chunk.to_vec(),
            };
            self.send(to, &Message::Heartbeat(heartbeat));
        }
    }

    /// Whether a heartbeat to `to` asks for a renewal.
    fn asks_renewal_of(&self, at: usize, to: Member) -> bool {
        self.wants_lease(at) && self.lessor(at) == Lessor::Node(to)
    }

    /// Whether this node owns the group and may ask for a lease now.
    fn wants_lease(&self, at: usize) -> bool {
        let entry = &self.groups[at];
        entry.role == Role::Owner && self.core_ok && !self.superseded && !entry.is_mute()
    }

    /// Who gives the owner of this group its lease, under the register as it is known here.
    fn lessor(&self, at: usize) -> Lessor {
        let register = &self.groups[at].register;
        match (register.in_sync_peer(), self.config.arbiter) {
            (Some(peer), _) => Lessor::Node(peer),
            (None, Arbiter::Witness) => Lessor::Arbiter,
            (None, Arbiter::None { survivor: Survivor::Both }) => Lessor::Own,
            (None, Arbiter::None { survivor: Survivor::Node(node) }) => {
                if node == register.owner.node {
                    Lessor::Own
                } else if node == self.config.me.node {
                    Lessor::Node(self.config.me)
                } else {
                    self.detector
                        .node(node)
                        .map_or(Lessor::Nobody, |heard| Lessor::Node(heard.member))
                }
            }
        }
    }

    fn send(&mut self, to: Member, message: &Message) {
        let destination =
            if to.node == WITNESS { Destination::Witness } else { Destination::Node(to.node) };
        if self.messages.len() == MESSAGES_MAX {
            self.counters.overflowed += 1;
            return;
        }
        self.counters.sent += 1;
        let header = Header { cluster: self.config.cluster, from: self.config.me, to };
        self.messages.push_back((destination, encode(header, message)));
    }

    fn send_witness(&mut self, message: &Message) {
        let to = self.witness.unwrap_or(any_life(WITNESS));
        self.send(to, message);
    }
}

#[cfg(test)]
mod tests;
