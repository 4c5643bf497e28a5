//! What a node's threads share: leases, progress, the moments of a takeover.
//!
//! Everything that a core touches in its loop is an atomic with one writer. The agent publishes leases and
//! cores read them; cores publish progress and the agent reads it. Orders and reports travel in bounded
//! channels, and a core's counters are asked for by an order.

use crate::crossing::CrossingCounters;
use crate::port::PortCounters;
use crate::sealing::SealingSnapshot;
use cluster::agent::GroupConfig;
use cluster::agent::handover::{Order, OrderError};
use cluster::engine::{ForwardCounters, GroupStatus, HearingCounters, LinkCounters, Role, Setting};
use cluster::id::{GroupId, NodeId};
use cluster::link::Endpoint;
use cluster::message::state::Counts;
use cluster::path::Health;
use cluster::role::Command;
use cluster::seal::LinkSession;
use crossbeam_channel::Sender;
use stack::flow::FlowId;
use stack::stack::{Counters, Ended, Ending, Filter, Listed};
use stack::time::Instant;
use stack::upstream::ServerStatus;
use stack::upstream::decision::Change;
use stack::upstream::traffic::Tally;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Groups that one node can hold: a burst's groups are one word.
pub const GROUPS_MAX: usize = 64;

/// Until when this node may transmit for one group, in nanoseconds of its clock. Written by the agent, read by
/// all cores.
#[derive(Default)]
pub struct Lease {
    /// See [`Lease`].
    pub until: AtomicU64,
}

/// The last takeover of one group on one core. Written by that core.
#[derive(Default)]
#[repr(align(64))]
struct Moments {
    /// When the flows were ready.
    promoted_at: AtomicU64,
    /// When the addresses were first announced after that.
    announced_at: AtomicU64,
    /// When the first segment left after that.
    first_byte_at: AtomicU64,
}

/// A group in numbers. Written by its core, now and then.
#[derive(Default)]
struct CountWords {
    /// Flows, and of these the copied ones in the upper half.
    flows: AtomicU64,
    lag_ops: AtomicU64,
    lag_bytes: AtomicU64,
}

/// What one core tells the others, on cache lines of its own.
#[repr(align(128))]
struct CoreWords {
    /// Rounds of the poll loop.
    progress: AtomicU64,
    /// When a frame of the client side came in last; zero is never.
    heard_at: AtomicU64,
    /// By the index of the group.
    counts: Vec<CountWords>,
    /// By the index of the group.
    moments: Vec<Moments>,
}

/// The last takeover of a group, all cores together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Takeover {
    /// When the last core was ready.
    pub promoted_at: Instant,
    /// When the first announced; ZERO if none has.
    pub announced_at: Instant,
    /// When the first segment left; ZERO if none has.
    pub first_byte_at: Instant,
}

/// What a node's threads share.
pub struct Shared {
    /// By the index of the group.
    pub leases: Vec<Lease>,
    cores: Vec<CoreWords>,
    /// Which group has which index; [`GroupId::NONE`]: none. Written by whoever lets services come and go.
    groups: Vec<AtomicU32>,
    /// Carrier (0 down, 1 up, 2 unknown), next hops asked, next hops answering: a byte each. Written by the thread that
    /// measures the path to the clients.
    path: AtomicU64,
}

/// An order to a core.
pub enum ToCore {
    /// A change of roles.
    Command(Command),
    /// Where another node is on the cluster link.
    Neighbor(NodeId, Endpoint),
    /// The newest session with another node.
    Session(Box<LinkSession>),
    /// Answer with how the core is.
    Snapshot(Sender<Box<CoreSnapshot>>),
    /// Carry these changes out, by the indices of groups. Answer with what they replace (it is freed elsewhere), and whether all
    /// of them were carried out.
    Reconfigure(Settings, Sender<(Settings, bool)>),
    /// Put connections that the filter lets through into the list, from this slot on, and answer with it and where to go on.
    List(u32, Filter, Vec<Listed>, Sender<(Vec<Listed>, Option<u32>)>),
    /// End the connection with this name; answer whether it was there.
    EndFlow(FlowId, Sender<Ended>),
    /// This node's own checks have found that servers of the service with this id are up (`true`) or down.
    Verdicts(u32, Arc<[(u16, bool)]>),
    /// The operator's order about a server of the service with this id; answer whether it was carried out.
    Decide(u32, u16, Change, Sender<bool>),
    /// Answer with the connections that have ended, and note the next ones in this list.
    Endings(Vec<Ending>, Sender<Vec<Ending>>),
    /// Answer with what is known of the servers of each group.
    Servers(Sender<Vec<Upstreams>>),
}

/// What a core knows of the servers of a group.
#[derive(Clone, Debug)]
pub struct Upstreams {
    /// The id of the service whose they are.
    pub service: u32,
    /// What this node is to the group.
    pub role: Role,
    /// The servers, in the order of the configuration.
    pub servers: Vec<ServerStatus>,
    /// Clients that wait for one with room.
    pub queued: usize,
    /// What has come and gone.
    pub tally: Tally,
}

/// What one core needs for changes of services, by the indices of their groups.
pub type Settings = Vec<(u8, Setting)>;

/// A question or an order to the agent.
pub enum ToAgent {
    /// Answer with how it is.
    Status(Sender<Box<AgentSnapshot>>),
    /// Ask every node what it declares.
    Solicit,
    /// These groups have other settings from now on, or are new; answer when that is so.
    Reconfigure(Vec<GroupConfig>, Sender<()>),
    /// Do this, and answer whether it was begun.
    Order(Order, Sender<Ordered>),
}

/// The agent as the status shows it.
pub struct AgentSnapshot {
    /// What it says of itself.
    pub agent: cluster::agent::status::Status,
    /// How it speaks to others.
    pub sealing: SealingSnapshot,
}

/// Which node has answered an order, and whether it was begun there.
pub type Ordered = (NodeId, Result<(), OrderError>);

/// A core as the status shows it.
#[derive(Clone, Debug, Default)]
pub struct CoreSnapshot {
    /// The groups that there are.
    pub groups: Vec<GroupStatus>,
    /// The stack.
    pub stack: Counters,
    /// How often something new had to wait for a place among the active flows.
    pub places_refused: u64,
    /// Connections given up early because memory for payload was scarce.
    pub given_up_for_memory: u64,
    /// The cluster link.
    pub link: LinkCounters,
    /// Frames that reached a node which does not serve them.
    pub forward: ForwardCounters,
    /// Frames of clients that were overheard.
    pub hearing: HearingCounters,
    /// Ports towards the clients.
    pub client_ports: Vec<PortCounters>,
    /// Ports towards the cluster.
    pub cluster_ports: Vec<PortCounters>,
    /// What crossed over from and to other cores.
    pub crossing: CrossingCounters,
    /// Rounds of the poll loop.
    pub rounds: u64,
    /// What those that moved a frame have taken, system calls included.
    pub busy_ns: u64,
    /// Those rounds.
    pub busy_rounds: u64,
    /// What every seventeenth round has taken.
    pub sampled_ns: u64,
    /// For how long of that the scheduler let the core's thread run: less where others took its processor.
    pub sampled_cpu_ns: u64,
    /// Bursts thrown away because a lease had run out.
    pub late_bursts: u64,
    /// Kicks that the kernel refused.
    pub kick_errors: u64,
}

impl Shared {
    /// For these groups, none of which may transmit, and so many cores. There is room for every group that may come.
    pub fn new(groups: &[GroupId], cores: usize) -> Shared {
        assert!(groups.len() <= GROUPS_MAX, "a burst's groups are one word");
        let none = GROUPS_MAX - groups.len();
        let groups = groups.iter().copied().chain(std::iter::repeat_n(GroupId::NONE, none));
        Shared {
            leases: (0..GROUPS_MAX).map(|_| Lease::default()).collect(),
            cores: (0..cores)
                .map(|_| CoreWords {
                    progress: AtomicU64::new(0),
                    heard_at: AtomicU64::new(0),
                    counts: (0..GROUPS_MAX).map(|_| CountWords::default()).collect(),
                    moments: (0..GROUPS_MAX).map(|_| Moments::default()).collect(),
                })
                .collect(),
            groups: groups.map(|group| AtomicU32::new(group.0)).collect(),
            path: AtomicU64::new(2),
        }
    }

    /// The groups that there are, each with its index.
    pub fn groups(&self) -> impl Iterator<Item = (usize, GroupId)> + '_ {
        let groups = self.groups.iter().map(|group| GroupId(group.load(Ordering::Acquire)));
        groups.enumerate().filter(|(_, group)| *group != GroupId::NONE)
    }

    /// The index of a group.
    fn index_of(&self, group: GroupId) -> Option<usize> {
        self.groups().find(|(_, known)| *known == group).map(|(index, _)| index)
    }

    /// This group has this index from now on, which none had; or, as [`GroupId::NONE`], none has it any more.
    pub fn set_group(&self, index: usize, group: GroupId) {
        for core in &self.cores {
            let Moments { promoted_at, announced_at, first_byte_at } = &core.moments[index];
            let CountWords { flows, lag_ops, lag_bytes } = &core.counts[index];
            for word in [promoted_at, announced_at, first_byte_at, flows, lag_ops, lag_bytes] {
                word.store(0, Ordering::Relaxed);
            }
        }
        self.leases[index].until.store(0, Ordering::Release);
        self.groups[index].store(group.0, Ordering::Release);
    }

    /// Whether every group whose bit is set may transmit at `at`.
    #[inline]
    pub fn may_speak(&self, groups: u64, at: Instant) -> bool {
        bits(groups).all(|index| at < Instant(self.leases[index].until.load(Ordering::Acquire)))
    }

    /// Cores of this node.
    pub fn cores(&self) -> usize {
        self.cores.len()
    }

    /// A core has gone round so many times.
    #[inline]
    pub fn note_progress(&self, core: usize, rounds: u64) {
        self.cores[core].progress.store(rounds, Ordering::Relaxed);
    }

    /// How a group stands on a core, in numbers.
    pub fn publish_counts(&self, core: usize, index: usize, status: &GroupStatus) {
        let words = &self.cores[core].counts[index];
        let flows = u64::from(status.copied) << 32 | u64::from(status.flows);
        words.flows.store(flows, Ordering::Relaxed);
        words.lag_ops.store(status.lag_ops, Ordering::Relaxed);
        words.lag_bytes.store(status.lag_bytes, Ordering::Relaxed);
    }

    /// How each group stands, all cores together.
    pub fn counts(&self) -> impl Iterator<Item = (GroupId, Counts)> + '_ {
        self.groups().map(|(index, group)| {
            let mut sum = Counts::default();
            for core in &self.cores {
                let words = &core.counts[index];
                let flows = words.flows.load(Ordering::Relaxed);
                sum.flows += flows as u32;
                sum.copied += (flows >> 32) as u32;
                sum.lag_ops += words.lag_ops.load(Ordering::Relaxed);
                sum.lag_bytes += words.lag_bytes.load(Ordering::Relaxed);
            }
            (group, sum)
        })
    }

    /// A frame of the client side came in at a core.
    #[inline]
    pub fn note_heard(&self, core: usize, at: Instant) {
        self.cores[core].heard_at.store(at.0, Ordering::Relaxed);
    }

    /// The path to the clients was measured.
    pub fn publish_path(&self, carrier: Option<bool>, hops: u8, answering: u8) {
        let bytes = [carrier.map_or(2, u8::from), hops, answering, 0, 0, 0, 0, 0];
        self.path.store(u64::from_le_bytes(bytes), Ordering::Relaxed);
    }

    /// The path to the clients, as it was measured last.
    pub fn path(&self, now: Instant) -> Health {
        let [carrier, hops, answering, ..] = self.path.load(Ordering::Relaxed).to_le_bytes();
        let cores = self.cores.iter().map(|core| core.heard_at.load(Ordering::Relaxed));
        let heard = cores.max().filter(|at| *at > 0);
        Health {
            carrier: (carrier < 2).then_some(carrier == 1),
            hops,
            answering,
            silent_ms: heard.map_or(u32::MAX, |at| {
                now.since(Instant(at)).millis().min(u32::MAX as u64 - 1) as u32
            }),
        }
    }

    /// How often a core has gone round.
    pub fn progress(&self, core: usize) -> u64 {
        self.cores[core].progress.load(Ordering::Relaxed)
    }

    /// The takeover of a group is ready to speak on a core.
    pub fn note_promoted(&self, core: usize, group: GroupId, at: Instant) {
        let Some(index) = self.index_of(group) else { return };
        let moments = &self.cores[core].moments[index];
        moments.announced_at.store(0, Ordering::Relaxed);
        moments.first_byte_at.store(0, Ordering::Relaxed);
        moments.promoted_at.store(at.0, Ordering::Release);
    }

    /// Frames of these groups have left a core; those in `segments` said more than an address.
    #[inline]
    pub fn note_spoken(&self, core: usize, groups: u64, segments: u64, at: Instant) {
        for index in bits(groups) {
            let moments = &self.cores[core].moments[index];
            if moments.promoted_at.load(Ordering::Relaxed) == 0 {
                continue;
            }
            if moments.announced_at.load(Ordering::Relaxed) == 0 {
                moments.announced_at.store(at.0, Ordering::Relaxed);
            }
            if segments >> index & 1 == 1 && moments.first_byte_at.load(Ordering::Relaxed) == 0 {
                moments.first_byte_at.store(at.0, Ordering::Relaxed);
            }
        }
    }

    /// The last takeover of a group: ready when the last core was, heard when the first spoke.
    pub fn takeover(&self, group: GroupId) -> Takeover {
        let Some(index) = self.index_of(group) else { return Takeover::default() };
        let each = |moment: fn(&Moments) -> &AtomicU64| {
            let cores = self.cores.iter();
            cores.map(move |core| Instant(moment(&core.moments[index]).load(Ordering::Acquire)))
        };
        let first = |moments: &mut dyn Iterator<Item = Instant>| {
            moments.filter(|at| *at > Instant::ZERO).min().unwrap_or_default()
        };
        Takeover {
            promoted_at: each(|moments| &moments.promoted_at).max().unwrap_or_default(),
            announced_at: first(&mut each(|moments| &moments.announced_at)),
            first_byte_at: first(&mut each(|moments| &moments.first_byte_at)),
        }
    }
}

/// The indices of the bits that are set.
fn bits(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let index = (word != 0).then(|| word.trailing_zeros() as usize);
        word &= word.wrapping_sub(1);
        index
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_takeover_is_ready_with_its_last_core_and_heard_with_its_first() {
        let group = GroupId::new(0, 0);
        let shared = Shared::new(&[group], 2);
        assert_eq!(shared.takeover(group), Takeover::default());
        shared.note_spoken(0, 1, 1, Instant(5));
        assert_eq!(shared.takeover(group), Takeover::default(), "nothing was taken over");
        shared.note_promoted(1, group, Instant(10));
        shared.note_spoken(1, 1, 1, Instant(11));
        shared.note_promoted(0, group, Instant(12));
        shared.note_spoken(0, 1, 0, Instant(13));
        shared.note_spoken(0, 1, 1, Instant(14));
        let [promoted_at, announced_at, first_byte_at] = [12, 11, 11].map(Instant);
        assert_eq!(shared.takeover(group), Takeover { promoted_at, announced_at, first_byte_at });
        shared.note_promoted(0, group, Instant(20));
        shared.note_promoted(1, group, Instant(21));
        shared.note_spoken(0, 1, 0, Instant(22));
        shared.note_spoken(1, 1, 1, Instant(23));
        let [promoted_at, announced_at, first_byte_at] = [21, 22, 23].map(Instant);
        assert_eq!(shared.takeover(group), Takeover { promoted_at, announced_at, first_byte_at });
    }

    #[test]
    fn a_burst_may_leave_if_all_of_its_groups_may_speak() {
        let shared = Shared::new(&[], 1);
        for (index, until) in [(0, 5), (3, 9), (63, 7)] {
            shared.leases[index].until.store(until, Ordering::Relaxed);
        }
        for (groups, last) in [(1, 4), (1 << 3, 8), (1 << 3 | 1 << 63, 6), (1 << 63 | 1, 4)] {
            let may = [last, last + 1].map(|at| shared.may_speak(groups, Instant(at)));
            assert_eq!(may, [true, false], "{groups:x}");
        }
        assert!(shared.may_speak(0, Instant(u64::MAX)) && !shared.may_speak(2, Instant(0)));
    }

    /// What the group before it has left says nothing of the next one.
    #[test]
    fn a_place_that_is_given_to_another_group_begins_anew() {
        let (group, next) = (GroupId::new(1, 0), GroupId::new(2, 0));
        let shared = Shared::new(&[group], 1);
        shared.note_promoted(0, group, Instant(10));
        let status = GroupStatus { flows: 3, ..GroupStatus::default() };
        shared.publish_counts(0, 0, &status);
        shared.leases[0].until.store(99, Ordering::Relaxed);
        shared.set_group(0, GroupId::NONE);
        assert_eq!(shared.groups().count(), 0);
        shared.set_group(0, next);
        assert_eq!(shared.groups().collect::<Vec<_>>(), [(0, next)]);
        assert_eq!(shared.counts().collect::<Vec<_>>(), [(next, Counts::default())]);
        assert_eq!((shared.takeover(group), shared.takeover(next)), Default::default());
        assert!(!shared.may_speak(1, Instant(0)));
    }

    #[test]
    fn each_core_has_its_own_progress() {
        let shared = Shared::new(&[], 2);
        shared.note_progress(1, 7);
        assert_eq!((shared.cores(), shared.progress(0), shared.progress(1)), (2, 0, 7));
    }
}
