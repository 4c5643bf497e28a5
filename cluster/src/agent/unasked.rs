//! Handovers that an owner begins by itself: it is drained, its clients do not reach it, or its group's home is back.
//!
//! A group goes home in two steps where another node is the peer: a register names one peer, so that one gives way, home is
//! filled, and when home has held everything for the hold-down it gets the group. While it is filled the group is
//! unprotected, as whenever a peer is replaced: so nothing is begun before home has lived for the hold-down as well,
//! and never by hand, where nobody waits for it.
//!
//! Spec: PROTOCOL.md, "Handover". Bounds: one attempt in each hold-down.

use super::declare::Fitness;
use super::handover::Cause;
use super::{Agent, Arbiter};
use crate::id::{GroupId, NodeId};
use crate::message::Role;
use crate::message::advertise::Failback;
use stack::time::Instant;

impl Agent {
    /// Whether a node reaches its clients worse than this one.
    pub(super) fn reaches_worse(&self, node: NodeId) -> bool {
        let own = self.path.health().quality();
        let theirs = self.detector.node(node).and_then(|heard| heard.path.health().quality());
        matches!((own, theirs), (Some(own), Some(theirs)) if theirs < own)
    }

    /// The peer in sync that reaches the clients better, and has for long enough.
    fn brighter_peer(&self, now: Instant, at: usize) -> Option<NodeId> {
        let peer = self.groups[at].register.in_sync_peer()?.node;
        let heard = self.detector.node(peer)?;
        (self.is_fit(now, peer) && self.path.is_worse_than(now, &heard.path)).then_some(peer)
    }

    /// A node that is drained, whose clients do not reach it, or whose home is ready, begins by itself.
    pub(super) fn consider_handover(&mut self, now: Instant, at: usize) {
        let entry = &self.groups[at];
        if entry.handover.is_some() || now < entry.handover_at || !self.may_swap() {
            return;
        }
        if self.draining {
            // The peer in sync if there is one; else whoever is next and gets filled.
            let peer = entry.register.in_sync_peer().map(|peer| peer.node);
            let to = peer.filter(|peer| self.is_fit(now, *peer));
            let to = to.or_else(|| self.candidate(now, at).map(|member| member.node));
            if let Some(to) = to {
                self.begin_handover(now, at, to, Cause::Drain, false);
            }
        } else if let Some(peer) = self.brighter_peer(now, at) {
            self.begin_handover(now, at, peer, Cause::Path, false);
        } else if entry.config.failback == Failback::All && self.has_home_settled(now, at) {
            self.begin_handover(now, at, entry.config.home, Cause::Failback, false);
        } else if self.wants_to_close(now, at) {
            let home = self.groups[at].config.home;
            self.begin_handover(now, at, home, Cause::NewConnections, false);
        } else if self.misses_home(at) {
            // What it declares was perhaps said before anybody took it for alive.
            self.examine(now, at);
            if self.may_call_home(now, at) {
                let home = self.groups[at].config.home;
                self.begin_handover(now, at, home, Cause::Copies, false);
            }
        }
    }

    /// Whether another node than home is the peer of a group that is to go home.
    fn misses_home(&self, at: usize) -> bool {
        let entry = &self.groups[at];
        let home = entry.config.home;
        let is_wanted = match entry.config.failback {
            Failback::All => true,
            Failback::NewConnections => self.may_close(at),
            Failback::Manual => false,
        };
        let has_other = entry.register.in_sync_peer().is_some_and(|peer| peer.node != home);
        let is_away = entry.role == Role::Owner && home != self.config.me.node;
        is_wanted && is_away && has_other && self.config.arbiter == Arbiter::Witness
    }

    /// Whether home could be the peer in its place.
    fn wants_home(&self, now: Instant, at: usize) -> bool {
        let home = self.groups[at].config.home;
        self.misses_home(at)
            && !self.reaches_worse(home)
            && self.candidate(now, at).is_some_and(|member| member.node == home)
    }

    /// Whether the home node of a group that this node owns will get the copies of it, if it lives, when nothing stands against it
    /// any more and it has been there for long enough: the group is unprotected for as long as that takes.
    pub fn awaits_home(&self, group: GroupId) -> bool {
        let Some(at) = self.find(group).filter(|at| self.misses_home(*at)) else { return false };
        let home = self.detector.node(self.groups[at].config.home).map(|heard| heard.member);
        home.is_none_or(|home| !matches!(self.fitness(at, home), Fitness::Unfit(_)))
    }

    /// Whether it gets them now: this life of it has lasted for the hold-down, and nothing has happened meanwhile.
    fn may_call_home(&self, now: Instant, at: usize) -> bool {
        let entry = &self.groups[at];
        let began = self.detector.node(entry.config.home).map_or(now, |heard| heard.since);
        let waited = now.since(began.max(entry.since).max(entry.failed_at));
        let is_settled = waited >= entry.config.hold_down && self.has_settled_path(now, at);
        is_settled && self.wants_home(now, at)
    }

    /// A home whose path flaps has to wait longer each time.
    fn has_settled_path(&self, now: Instant, at: usize) -> bool {
        let (home, hold_down) = (self.groups[at].config.home, self.groups[at].config.hold_down);
        self.detector.node(home).is_some_and(|heard| {
            heard.path.dips(now) == 0 || heard.path.settled_for(now, hold_down)
        })
    }

    /// Whether the home node has held every copy, without incident, for the hold-down.
    pub(super) fn has_home_settled(&self, now: Instant, at: usize) -> bool {
        let entry = &self.groups[at];
        let waited = now.since(entry.since.max(entry.failed_at));
        let is_settled = waited >= entry.config.hold_down && self.has_settled_path(now, at);
        self.is_home_ready(now, at) && is_settled
    }

    /// Whether the home node is the in-sync peer of this owner.
    pub(super) fn is_home_ready(&self, now: Instant, at: usize) -> bool {
        let entry = &self.groups[at];
        let home = entry.config.home;
        entry.role == Role::Owner
            && entry.register.in_sync_peer().is_some_and(|peer| peer.node == home)
            && self.is_fit(now, home)
            && !self.reaches_worse(home)
    }
}
