//! What an agent shows of itself: plain values for `status` and `why`.

use super::declare::{Claim, Fitness};
use super::handover::{Handed, Handover};
use super::{Agent, Arbiter, Counters, Decision, Survivor, Takeover};
use crate::id::{GroupId, Incarnation, Member};
use crate::lease::{Lessor, Timers};
use crate::message::Role;
use crate::message::advertise::Advertise;
use crate::message::state::NodeState;
use crate::path::{Health, Path};
use crate::register::{Change, Register};
use alloc::vec::Vec;
use stack::time::{Duration, Instant};

/// The agent as a whole.
#[derive(Clone, Debug)]
pub struct Status {
    /// This node, in its present life.
    pub me: Member,
    /// Whether another life of this node ended this one.
    pub superseded: bool,
    /// Whether its cores make progress.
    pub core_ok: bool,
    /// Whether an operator wants it to own nothing.
    pub draining: bool,
    /// How it reaches its clients.
    pub path: PathStatus,
    /// The configured time constants.
    pub configured: Timers,
    /// The ones in force.
    pub effective: Timers,
    /// The largest gap of this node in ten minutes.
    pub largest_gap: Duration,
    /// The life of the witness that answered last; `None` if none did or there is none.
    pub witness: Option<Incarnation>,
    /// Time since it answered; `None` if it never did or there is none.
    pub witness_age: Option<Duration>,
    /// Whether the configuration lets two nodes own one group at the same time.
    pub split_brain_possible: bool,
    /// What it has counted.
    pub counters: Counters,
    /// How this node is, as it tells the others.
    pub state: NodeState,
    /// The other nodes.
    pub nodes: Vec<NodeStatus>,
    /// The groups.
    pub groups: Vec<GroupStatus>,
}

/// Another node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeStatus {
    /// Its life heard last; incarnation zero if none.
    pub member: Member,
    /// Time since it was heard; `None` if never.
    pub age: Option<Duration>,
    /// Whether its cores make progress, as it said last.
    pub core_ok: bool,
    /// Whether an operator wants it to own nothing, as it said last.
    pub draining: bool,
    /// Its hardware address on the cluster's data link.
    pub mac: [u8; 6],
    /// How it reaches its clients.
    pub path: PathStatus,
    /// How it is, and how its groups stand, as it told last in its present life; and time since.
    pub told: Option<(NodeState, Duration)>,
}

/// What a node declares about a group.
#[derive(Clone, Debug)]
pub struct DeclaredStatus {
    /// Who, in which life.
    pub by: Member,
    /// Time since it was heard; zero for this node.
    pub age: Duration,
    /// What.
    pub said: Advertise,
    /// Whether the owner takes it as peer by this.
    pub fitness: Fitness,
    /// Whether both declare the same about who fails over to whom.
    pub agrees_on_policy: bool,
}

/// How a node reaches its clients.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PathStatus {
    /// As it was measured, or said, last.
    pub health: Health,
    /// How often it became worse in the last ten minutes.
    pub dips: u32,
}

impl PathStatus {
    fn new(now: Instant, path: &Path) -> PathStatus {
        PathStatus { health: path.health(), dips: path.dips(now) }
    }
}

/// One group.
#[derive(Clone, Debug)]
pub struct GroupStatus {
    /// The group.
    pub group: GroupId,
    /// What this node is for it.
    pub role: Role,
    /// Its service is not configured here any more.
    pub is_leaving: bool,
    /// The newest register that is known here.
    pub register: Register,
    /// Whether that was confirmed by anybody.
    pub known: bool,
    /// Whether the register says that the peer is in sync.
    pub protected: bool,
    /// Who gives the owner its lease.
    pub lessor: Lessor,
    /// Until when this node may transmit; zero is never.
    pub lease: Instant,
    /// Until when this node, as lessor, asks for nothing.
    pub promise: Instant,
    /// Whether the home node holds the copies and is fit: a handover to it would do.
    pub home_ready: bool,
    /// This node owns the group and may hand it over to nobody: there is no arbiter, and another node is the survivor.
    pub is_bound: bool,
    /// A handover under way.
    pub handover: Option<Handover>,
    /// The last one that this node made.
    pub handed: Option<Handed>,
    /// The change whose outcome is not known.
    pub asking: Option<Change>,
    /// The last takeover by this life.
    pub takeover: Option<Takeover>,
    /// What each node declares, this one first.
    pub declared: Vec<DeclaredStatus>,
    /// The last claim that contradicts the register.
    pub claim: Option<Claim>,
    /// Copies that differed from their connections, in this life of the node.
    pub differed: u64,
    /// The last decisions, oldest first.
    pub reasons: Vec<Decision>,
}

impl Agent {
    /// Everything that there is to show.
    pub fn status(&self, now: Instant) -> Status {
        let node = |heard: &crate::detector::Heard| NodeStatus {
            member: heard.member,
            age: (heard.member.incarnation.0 != 0).then(|| now.since(heard.at)),
            core_ok: heard.core_ok,
            draining: heard.draining,
            mac: heard.mac,
            path: PathStatus::new(now, &heard.path),
            told: {
                let told = self.told.iter().find(|told| told.by == heard.member);
                told.map(|told| (told.state.clone(), now.since(told.at)))
            },
        };
        Status {
            me: self.config.me,
            superseded: self.superseded,
            core_ok: self.core_ok,
            draining: self.draining,
            path: PathStatus::new(now, &self.path),
            configured: self.config.timers,
            effective: self.timers(),
            largest_gap: self.gaps.largest(),
            witness: self.witness.map(|witness| witness.incarnation),
            witness_age: self.witness.map(|_| now.since(self.witness_heard)),
            split_brain_possible: self.config.arbiter == Arbiter::None { survivor: Survivor::Both },
            counters: self.counters,
            state: NodeState {
                groups: (0..self.groups.len()).map(|at| self.group_state(at)).collect(),
                ..self.node_state(now)
            },
            nodes: self.detector.nodes().iter().map(node).collect(),
            groups: (0..self.groups.len()).map(|at| self.group_status(now, at)).collect(),
        }
    }

    fn declared(&self, now: Instant, at: usize) -> Vec<DeclaredStatus> {
        let ours = self.declaration(at);
        let status = |by: Member, age: Duration, said: &Advertise| DeclaredStatus {
            by,
            age,
            fitness: self.fitness(at, by),
            agrees_on_policy: ours.agrees_on_policy(said),
            said: said.clone(),
        };
        let own = status(self.config.me, Duration::ZERO, &ours);
        let others = self.groups[at].declared.iter();
        let others = others.map(|known| status(known.by, now.since(known.at), &known.said));
        core::iter::once(own).chain(others).collect()
    }

    fn group_status(&self, now: Instant, at: usize) -> GroupStatus {
        let entry = &self.groups[at];
        GroupStatus {
            group: entry.config.group,
            role: entry.role,
            is_leaving: entry.config.leaving.is_some(),
            register: entry.register,
            known: entry.known,
            protected: entry.register.in_sync,
            lessor: self.lessor(at),
            lease: self.lease(entry.config.group),
            promise: entry.promise,
            home_ready: self.is_home_ready(now, at),
            is_bound: entry.role == Role::Owner && !self.may_swap(),
            handover: entry.handover,
            handed: entry.handed,
            asking: entry.ask.as_ref().map(|ask| ask.change),
            takeover: entry.takeover,
            declared: self.declared(now, at),
            claim: entry.claim,
            differed: entry.differed,
            reasons: entry.reasons.iter().copied().collect(),
        }
    }
}
