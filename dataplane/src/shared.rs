//! What a node's threads share: leases, progress, the moments of a takeover.
//!
//! Everything that a core touches in its loop is an atomic with one writer. The agent publishes leases and
//! cores read them; cores publish progress and the agent reads it. Orders and reports travel in bounded
//! channels, and a core's counters are asked for by an order.

use crate::port::PortCounters;
use cluster::engine::{GroupStatus, LinkCounters};
use cluster::id::{GroupId, NodeId};
use cluster::link::Endpoint;
use cluster::role::Command;
use crossbeam_channel::Sender;
use stack::stack::Counters;
use stack::time::{Duration, Instant};
use std::sync::atomic::{AtomicU64, Ordering};

/// Groups that one node can hold: a burst's groups are one word.
pub const GROUPS_MAX: usize = 64;

/// What one group's lease and last takeover look like to the cores.
#[derive(Default)]
pub struct Lease {
    /// Until when this node may transmit, in nanoseconds of its clock. Written by the agent.
    pub until: AtomicU64,
    /// When the flows of the last takeover were ready. Written by the core, like all that follow.
    pub promoted_at: AtomicU64,
    /// How long applying the tail and rebuilding local state took, in nanoseconds.
    pub apply_ns: AtomicU64,
    /// When the addresses were first announced after that.
    pub announced_at: AtomicU64,
    /// When the first segment left after that.
    pub first_byte_at: AtomicU64,
}

/// What a node's threads share.
pub struct Shared {
    /// Rounds of the poll loop.
    pub progress: AtomicU64,
    /// By the index of the group.
    pub leases: Vec<Lease>,
    groups: Vec<GroupId>,
}

/// An order to a core.
pub enum ToCore {
    /// A change of roles.
    Command(Command),
    /// Where another node is on the cluster link.
    Neighbor(NodeId, Endpoint),
    /// Answer with how the core is.
    Snapshot(Sender<Box<CoreSnapshot>>),
}

/// A core as the status shows it.
#[derive(Clone, Debug, Default)]
pub struct CoreSnapshot {
    /// Groups, in the order of the configuration.
    pub groups: Vec<GroupStatus>,
    /// The stack.
    pub stack: Counters,
    /// The cluster link.
    pub link: LinkCounters,
    /// Ports towards the clients.
    pub client_ports: Vec<PortCounters>,
    /// Ports towards the cluster.
    pub cluster_ports: Vec<PortCounters>,
    /// Rounds of the poll loop.
    pub rounds: u64,
    /// Bursts thrown away because a lease had run out.
    pub late_bursts: u64,
    /// Kicks that the kernel refused.
    pub kick_errors: u64,
}

impl Shared {
    /// For these groups, none of which may transmit.
    pub fn new(groups: &[GroupId]) -> Shared {
        assert!(groups.len() <= GROUPS_MAX, "a burst's groups are one word");
        Shared {
            progress: AtomicU64::new(0),
            leases: groups.iter().map(|_| Lease::default()).collect(),
            groups: groups.to_vec(),
        }
    }

    /// The groups, by index.
    pub fn groups(&self) -> &[GroupId] {
        &self.groups
    }

    /// Whether every group whose bit is set may transmit at `at`.
    #[inline]
    pub fn may_speak(&self, groups: u64, at: Instant) -> bool {
        let speaks = |(index, lease): (usize, &Lease)| {
            groups >> index & 1 == 0 || at < Instant(lease.until.load(Ordering::Acquire))
        };
        self.leases.iter().enumerate().all(speaks)
    }

    /// The takeover of a group is ready to speak.
    pub fn note_promoted(&self, group: GroupId, at: Instant, spent: Duration) {
        let index = self.groups.iter().position(|&known| known == group);
        let Some(lease) = index.map(|index| &self.leases[index]) else { return };
        lease.announced_at.store(0, Ordering::Relaxed);
        lease.first_byte_at.store(0, Ordering::Relaxed);
        lease.apply_ns.store(spent.0, Ordering::Relaxed);
        lease.promoted_at.store(at.0, Ordering::Release);
    }

    /// Frames of these groups have left; those in `segments` said more than an address.
    #[inline]
    pub fn note_spoken(&self, groups: u64, segments: u64, at: Instant) {
        for (index, lease) in self.leases.iter().enumerate() {
            if groups >> index & 1 == 0 || lease.promoted_at.load(Ordering::Relaxed) == 0 {
                continue;
            }
            if lease.announced_at.load(Ordering::Relaxed) == 0 {
                lease.announced_at.store(at.0, Ordering::Relaxed);
            }
            if segments >> index & 1 == 1 && lease.first_byte_at.load(Ordering::Relaxed) == 0 {
                lease.first_byte_at.store(at.0, Ordering::Relaxed);
            }
        }
    }
}
