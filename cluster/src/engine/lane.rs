//! The logs of a core: for each group that it owns one towards each core of the peer with which it shares flows.
//!
//! A *lane* is such a log and what is kept beside it. A flow's shard leads to its lane, so all records of a flow are
//! in one log, in order, and arrive at the core that will serve the flow.

use crate::id::{Member, Op};
use crate::limits::STALLED_AFTER;
use crate::log::{Log, LogCounters};
use crate::mirror::Session;
use alloc::vec::Vec;
use stack::fact::Fact;
use stack::flow::FlowId;
use stack::recorder::{self, FlowName, Progress, Recorder};
use stack::shard::{Place, SHARDS};
use stack::time::Instant;

/// One log and how far it is.
pub(super) struct Lane {
    pub log: Log,
    /// The op of the word that every flow of the lane has been captured.
    pub filled: Option<Op>,
    /// Flows that were passed over on this walk, because they hold too much to be captured.
    pub passed: u32,
    /// So many of them the peer was told of last.
    pub missing: u32,
    /// The op of the last word that a lost flow is over.
    pub gone: Op,
    /// The op of the word that the owner is frozen, or of the last record before it let no flow begin any more.
    pub frozen: Option<Op>,
    /// So many changes of what is decided about the servers were told.
    pub told: u64,
}

/// The lanes of one group; none while it is not mirrored.
pub(super) struct Lanes {
    route: [u8; SHARDS],
    lanes: Vec<Lane>,
}

/// The lanes of all groups, by index.
pub(super) struct Logs(pub Vec<Lanes>);

impl Lane {
    /// Whether the peer was told that this walk is through, and what it has passed over.
    pub fn has_told_passed(&self) -> bool {
        self.filled.is_some() && self.missing == self.passed
    }
}

impl Lanes {
    pub const fn none() -> Lanes {
        Lanes { route: [0; SHARDS], lanes: Vec::new() }
    }

    /// One for each core of the `peer`, which has `peer_cores`, that shares a shard with the core at `place`.
    /// `session` is that of the first, whichever that is.
    pub fn new(
        session: Session,
        place: Place,
        (peer, peer_cores): (Member, u8),
        (datagram_bytes, clock_offset): (usize, u64),
    ) -> Lanes {
        let mut lanes = Lanes::none();
        for to_core in 0..peer_cores {
            let theirs = Place { core: to_core, cores: peer_cores };
            if !place.shares_with(theirs) {
                continue;
            }
            for shard in theirs.shards() {
                lanes.route[shard as usize] = lanes.lanes.len() as u8;
            }
            let session = Session { from_core: place.core, to: peer, to_core, ..session };
            let log = Log::new(session, datagram_bytes, clock_offset);
            lanes.lanes.push(Lane {
                log,
                filled: None,
                passed: 0,
                missing: 0,
                gone: Op(0),
                frozen: None,
                told: 0,
            });
        }
        lanes
    }

    pub fn iter(&self) -> impl Iterator<Item = &Lane> {
        self.lanes.iter()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Lane> {
        self.lanes.iter_mut()
    }

    pub fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    #[inline]
    pub fn of_shard(&self, shard: u8) -> Option<&Lane> {
        self.lanes.get(self.route[shard as usize] as usize)
    }

    #[inline]
    pub fn of_shard_mut(&mut self, shard: u8) -> Option<&mut Lane> {
        self.lanes.get_mut(self.route[shard as usize] as usize)
    }

    /// The lane of a flow. A stack takes only flows whose shard is its own, so there is one while the group is
    /// mirrored.
    pub fn of_flow(&mut self, flow: FlowId) -> &mut Lane {
        self.of_shard_mut(flow.shard()).expect("every shard of a mirrored core has a lane")
    }

    /// The lane whose peer says `session`.
    pub fn of_session(&mut self, session: Session) -> Option<&mut Lane> {
        self.lanes.iter_mut().find(|lane| *lane.log.session() == session)
    }

    /// Whether the peer holds every flow.
    pub fn are_filled(&self) -> bool {
        let is_filled = |lane: &Lane| lane.filled.is_some_and(|op| lane.log.committed() >= op);
        self.lanes.iter().all(is_filled)
    }

    /// Whether the peer holds every record of a frozen owner.
    pub fn are_frozen(&self) -> bool {
        !self.lanes.is_empty()
            && self.iter().all(|lane| lane.frozen.is_some() && lane.log.lag() == 0)
    }

    /// Whether the peer holds every record up to where the owner let no flow begin any more.
    pub fn have_passed(&self) -> bool {
        let has_passed = |lane: &Lane| lane.frozen.is_some_and(|op| lane.log.committed() >= op);
        !self.lanes.is_empty() && self.iter().all(has_passed)
    }

    /// Whether the peer has long acknowledged nothing of what one of them has sent.
    pub fn is_stalled(&self, now: Instant) -> bool {
        self.iter().any(|lane| lane.log.unanswered(now) >= STALLED_AFTER)
    }

    pub fn counters(&self) -> LogCounters {
        let mut sum = LogCounters::default();
        self.iter().for_each(|lane| sum += lane.log.counters());
        sum
    }
}

impl Recorder for Logs {
    #[inline]
    fn room(&self, lane: recorder::Lane, wanted: usize, reserved: bool) -> Option<usize> {
        self.0[lane.group as usize].of_shard(lane.shard)?.log.room(wanted, reserved)
    }

    #[inline]
    fn record(&mut self, flow: FlowName, fact: &Fact, progress: Progress, is_awaited: bool) -> u64 {
        let lane = self.0[flow.group as usize].of_shard_mut(flow.id.shard());
        lane.expect("a copied flow has a log").log.record(flow, fact, progress, is_awaited).0
    }

    #[inline]
    fn follow(&mut self, flow: FlowName, progress: Progress, is_awaited: bool) {
        let lane = self.0[flow.group as usize].of_shard_mut(flow.id.shard());
        lane.expect("a copied flow has a log").log.follow(flow, progress, is_awaited);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Epoch, GroupId, Incarnation, NodeId};

    #[test]
    fn every_shard_leads_to_the_core_that_serves_it() {
        let member = |n| Member { node: NodeId(n), incarnation: Incarnation(n as u64) };
        for (cores, peer_cores, expected) in [(1, 1, 1), (2, 2, 1), (2, 3, 3), (1, 3, 3), (6, 4, 2)]
        {
            for core in 0..cores {
                let place = Place { core, cores };
                let session = Session {
                    cluster: 1,
                    group: GroupId::new(0, 0),
                    epoch: Epoch(2),
                    from: member(1),
                    from_core: core,
                    to: member(2),
                    to_core: 0,
                };
                let lanes = Lanes::new(session, place, (member(2), peer_cores), (1400, 0));
                assert_eq!(lanes.iter().count(), expected, "{cores} {peer_cores}");
                for shard in place.shards() {
                    let session = lanes.of_shard(shard).expect("a lane").log.session();
                    assert_eq!(session.to_core, shard % peer_cores);
                    assert_eq!(session.from_core, core);
                }
            }
        }
    }
}
