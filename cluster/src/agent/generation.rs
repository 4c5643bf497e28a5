//! Generations of a service: where the new connections go while old ones stay where they are.
//!
//! ```text
//! owner of the open generation      home, its peer in sync
//!   Freeze's like: no newcomers, records committed -> Close
//!                                     closed -> Create of the other generation: it takes the newcomers
//!   ... the last old flow ends -> Retire: the slot is free for the next failback
//! ```
//!
//! Of the two generations at most one is open, at any true moment: the first one is created only where nothing was ever
//! written, the other one only under a register that says closed, and a closed one is over only when its follower has been
//! seen. Each is a group with a register, a lease, a peer and logs of its own; who speaks for a flow is decided by its
//! group's register alone, and no flow ever changes its group.
//!
//! Spec: GENERATIONS.md.

use super::handover::Cause;
use super::{Agent, Arbiter, Reason};
use crate::gather::Gather;
use crate::id::{Epoch, GroupId, NodeId};
use crate::message::Role;
use crate::message::advertise::Failback;
use crate::register::{Change, Phase};
use crate::role::Command;
use stack::time::{Duration, Instant};

/// Which generation of a service takes the newcomers, as the cores were told last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Newcomers {
    group: GroupId,
    /// It is open; else they wait for the next.
    are_taken: bool,
    /// The other generation may have flows.
    is_shared: bool,
}

impl Agent {
    /// The other generation of the same service, if it has two.
    pub(super) fn sibling(&self, at: usize) -> Option<usize> {
        let group = self.groups[at].config.group;
        self.groups.iter().position(|entry| entry.config.group.is_sibling_of(group))
    }

    /// Tells the cores which generation the newcomers of this one's service belong to, if that has changed. While two
    /// seem to be open what is known of one of them is old, and will be made up for in a moment.
    pub(super) fn tell_newcomers(&mut self, at: usize) {
        let Some(other) = self.sibling(at) else { return };
        let phase = |at: usize| {
            let register = self.groups[at].register;
            register.is_live().then_some(register.phase)
        };
        let (newest, shared) = match (phase(at), phase(other)) {
            (Some(Phase::Open), Some(Phase::Open)) | (None, None) => return,
            (Some(Phase::Closed), Some(Phase::Closed)) => return,
            (Some(Phase::Open), _) | (Some(_), None) => (at, other),
            _ => (other, at),
        };
        let told = Newcomers {
            group: self.groups[newest].config.group,
            are_taken: self.groups[newest].register.phase == Phase::Open,
            // Of what nobody has told yet the worst is believed.
            is_shared: !self.groups[shared].known || self.groups[shared].register.is_live(),
        };
        if self.groups[at].newcomers == Some(told) {
            return;
        }
        (self.groups[at].newcomers, self.groups[other].newcomers) = (Some(told), Some(told));
        let Newcomers { group, are_taken, is_shared } = told;
        self.commands.push_back(Command::Newcomers { group, are_taken, is_shared });
    }

    /// A home that is back and has held every copy for long enough gets the newcomers, if its configuration says so and
    /// the other generation is free.
    pub(super) fn wants_to_close(&self, now: Instant, at: usize) -> bool {
        let is_wanted = self.groups[at].config.failback == Failback::NewConnections;
        is_wanted && self.may_close(at) && self.has_home_settled(now, at)
    }

    /// Whether the group is open, and the other generation free to follow it.
    pub(super) fn may_close(&self, at: usize) -> bool {
        let is_free = self.sibling(at).is_some_and(|other| {
            let other = &self.groups[other];
            other.known && !other.register.is_live()
        });
        let has_arbiter = self.config.arbiter == Arbiter::Witness;
        self.groups[at].register.phase == Phase::Open && has_arbiter && is_free
    }

    /// Closes the group: every record that was made is at the peer, and the cores let no flow begin.
    pub(super) fn ask_close(&mut self, now: Instant, at: usize) {
        let home = self.groups[at].config.home;
        self.ask(now, at, Change::Close, Reason::AskedClose(home));
    }

    /// When this node may create a generation that nobody owns; `None`: it is not to. Who holds every flow of the closed one
    /// does so at once if it is the first in the order that lives; the others wait for each before them.
    pub(super) fn opens_at(
        &self,
        now: Instant,
        at: usize,
        rank: u64,
        is_first_delayed: bool,
    ) -> Option<Instant> {
        let entry = &self.groups[at];
        let longest = self.config.timers.longest_promise();
        let after = |since: Instant, turns: u64| since + Duration(longest.0 * turns);
        let closed = self.sibling(at).map(|other| &self.groups[other]);
        match closed.filter(|closed| closed.register.is_written()) {
            // Never written; or given up when its service left, which happens only where there is one generation.
            None if entry.config.group.generation() == 0
                && (!entry.register.is_written() || closed.is_none()) =>
            {
                let since = entry.since.max(entry.awaited_at);
                Some(after(since, rank + u64::from(is_first_delayed)))
            }
            None => None,
            Some(closed) => {
                let is_next = closed.register.is_live() && closed.register.phase == Phase::Closed;
                let holds_all = matches!(closed.role, Role::Owner | Role::Peer);
                let order = entry.config.order();
                let before = order.take(rank as usize).filter(|node| self.is_fit(now, *node));
                (is_next && holds_all).then(|| after(closed.since, before.count() as u64))
            }
        }
    }

    /// A core holds no flow of a closed generation any more, or of a service that leaves. What was said in an earlier
    /// attempt to leave does not count in a later one: flows may have begun between.
    pub(super) fn note_empty(
        &mut self,
        (group, epoch): (GroupId, Epoch),
        (core, attempt): (u8, u32),
    ) {
        let cores = self.config.cores;
        if let Some(entry) = self.entry_mut(group)
            && entry.role == Role::Owner
            && entry.register.epoch == epoch
            && attempt >= entry.emptied
        {
            if attempt > entry.emptied {
                (entry.empty, entry.emptied) = (Gather::new(cores), attempt);
            }
            entry.empty.note(core);
        }
    }

    /// Gives up a closed generation without flows, once its follower has an owner, and a group whose service has left.
    /// `true`: that was asked for.
    pub(super) fn consider_retiring(&mut self, now: Instant, at: usize) -> bool {
        let entry = &self.groups[at];
        if entry.has_left() && entry.handover.is_none() {
            self.ask(now, at, Change::Retire, Reason::AskedRetireLeft);
            return true;
        }
        let Some(other) = self.sibling(at) else { return false };
        let (entry, follower) = (&self.groups[at], &self.groups[other].register);
        let is_followed = follower.is_live() && follower.phase == Phase::Open;
        let is_done = entry.register.phase == Phase::Closed && entry.empty.is_complete();
        let is_over = is_done && is_followed && entry.handover.is_none();
        if is_over {
            self.ask(now, at, Change::Retire, Reason::AskedRetire);
        }
        is_over
    }

    /// Of a service in two generations: which one an order to move it is about. The one that the operator saw in this
    /// epoch; else what is not there yet, the old connections before the new ones.
    pub(super) fn left_to_move(&self, group: GroupId, to: NodeId, epoch: Option<Epoch>) -> GroupId {
        let Some(at) = self.find(group) else { return group };
        let both = [Some(at), self.sibling(at)].into_iter().flatten();
        let live = both.map(|at| &self.groups[at]).filter(|entry| entry.register.is_live());
        let seen = live.clone().find(|entry| Some(entry.register.epoch) == epoch);
        let moves = live.filter(|entry| entry.register.owner.node != to);
        let old = moves.clone().find(|entry| entry.register.phase == Phase::Closed);
        let found = seen.or(old).or(moves.clone().next());
        found.map_or(group, |entry| entry.config.group)
    }

    /// Whether the handover under way is one that closes the group, so that the next generation opens at home.
    pub(super) fn is_closing(&self, at: usize) -> bool {
        self.groups[at].handover.is_some_and(|handover| handover.cause == Cause::NewConnections)
    }
}
