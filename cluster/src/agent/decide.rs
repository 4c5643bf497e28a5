//! What to ask for: judged anew after every event, from the register, promises and silence alone.

use super::declare::Fitness;
use super::{Agent, Arbiter, Reason, Survivor};
use crate::id::Member;
use crate::lease::Lessor;
use crate::message::Role;
use crate::register::Change;
use stack::time::{Duration, Instant};

impl Agent {
    pub(super) fn decide_all(&mut self, now: Instant) {
        self.say_hello(now);
        self.repeat_orders(now);
        self.tell(now);
        for at in 0..self.groups.len() {
            self.renew_own(now, at);
            self.keep_in_touch(now, at);
            self.tell_cores(at);
            self.tell_newcomers(at);
            self.tell_route(now, at);
            self.give_hint(now, at);
            let entry = &self.groups[at];
            if entry.ask.is_none() && now >= entry.ask_at && self.core_ok && !self.superseded {
                match entry.role {
                    Role::Owner => self.decide_as_owner(now, at),
                    Role::Peer => self.decide_as_peer(now, at),
                    Role::Idle | Role::Filling => self.decide_as_bystander(now, at),
                }
            }
            self.advertise(now, at);
        }
        self.let_go(now);
    }

    /// The survivor of a cluster without arbiter is its own lessor, as long as its cores live.
    fn renew_own(&mut self, now: Instant, at: usize) {
        if self.wants_lease(at) && self.lessor(at) == Lessor::Own {
            let length = self.config.timers.alone_lease;
            self.groups[at].lease.renew(now, Lessor::Own, now, length);
        }
    }

    fn decide_as_owner(&mut self, now: Instant, at: usize) {
        let timers = self.timers();
        let entry = &self.groups[at];
        let register = entry.register;
        if self.consider_retiring(now, at) {
            return;
        }
        let entry = &self.groups[at];
        let Some(peer) = register.peer else {
            if entry
                .handover
                .is_some_and(|handover| now.since(handover.since) > super::handover::REPLACE_MAX)
            {
                self.give_up(now, at, super::handover::Failure::NoPeer);
            }
            self.examine(now, at);
            let entry = &self.groups[at];
            if entry.lease.until() > now
                && let Some(peer) = self.candidate(now, at)
            {
                self.ask(now, at, Change::AddPeer(peer), Reason::AskedPeer(peer));
            }
            return;
        };
        if self.detector.is_superseded(peer) {
            return self.ask(now, at, Change::Alone, Reason::AskedAloneNewLife(peer.node));
        }
        if self.detector.ended(peer).is_some() {
            return self.ask(now, at, Change::Alone, Reason::AskedAloneSurrendered);
        }
        let entry = &self.groups[at];
        // In sync, only its grants count; filling, its life does.
        let word = if register.in_sync {
            entry.granted_at
        } else {
            self.detector.heard_at(peer).max(entry.since)
        };
        let silent = now.since(word);
        // Whoever has heard the other side of late, or the arbiter since, is not deaf.
        let hears = silent.0 <= timers.peer_silent.0 / 2 || self.hears_arbiter(word);
        if hears && entry.is_stalled(peer) {
            self.ask(now, at, Change::Alone, Reason::AskedAloneStalled(peer.node));
        } else if silent > timers.peer_silent && now >= self.accuse_at && hears {
            self.ask(now, at, Change::Alone, Reason::AskedAlone(silent));
        } else if !register.in_sync && entry.filled.is_complete() {
            let reason = Reason::AskedInSync(peer, entry.missing);
            self.ask(now, at, Change::InSync(peer), reason);
        } else {
            self.consider_handover(now, at);
            self.pursue(now, at);
        }
    }

    /// The first designated node that lives, whose cores work, that has not stalled as peer, that the witness knows and
    /// that declares what this owner does; one that reaches no client only if there is no other.
    pub(super) fn candidate(&self, now: Instant, at: usize) -> Option<Member> {
        let config = &self.groups[at].config;
        let me = self.config.me.node;
        let wanted = self.groups[at].handover.map(|handover| handover.to);
        let allowed = |node| match self.config.arbiter {
            // Without an arbiter one of the two must be the survivor, or nobody could go on.
            Arbiter::None { survivor: Survivor::Node(survivor) } => {
                survivor == me || survivor == node
            }
            _ => true,
        };
        let order = wanted.into_iter().chain(config.order());
        let fit = order
            .filter(|node| *node != me && allowed(*node) && self.is_fit(now, *node))
            .filter_map(|node| self.detector.node(node))
            .filter(|heard| !self.groups[at].shuns(now, heard.member))
            .filter(|heard| !self.groups[at].passes_over(now, heard.member))
            .filter(|heard| self.fitness(at, heard.member) == Fitness::Fit);
        let bright = fit.clone().find(|heard| !heard.path.health().is_dark());
        bright.or_else(|| fit.clone().next()).map(|heard| heard.member)
    }

    fn decide_as_peer(&mut self, now: Instant, at: usize) {
        let entry = &self.groups[at];
        if self.may_have_gone_on(at) {
            self.forsake(now, at);
        } else if self.detector.ended(entry.register.owner).is_some() {
            // Neither the promise nor this node's own lateness matters: that life says nothing more.
            self.ask(now, at, Change::TakeOver, Reason::AskedTakeOverSurrendered);
        } else if now >= entry.promise
            && now >= self.accuse_at
            && self.hears_arbiter(entry.renewed_at)
        {
            let silent = now.since(entry.renewed_at);
            self.ask(now, at, Change::TakeOver, Reason::AskedTakeOver(silent));
        }
    }

    /// Without an arbiter the survivor goes on alone and tells nobody else. If it has died, only a surrender soon after its
    /// last word shows that it did not: it held a lease of this node then, and its patience had not run out.
    fn may_have_gone_on(&self, at: usize) -> bool {
        let entry = &self.groups[at];
        let owner = entry.register.owner;
        let survives = Arbiter::None { survivor: Survivor::Node(owner.node) };
        if self.config.arbiter != survives || !self.detector.is_dead(owner) {
            return false;
        }
        let Some(ended) = self.detector.ended(owner) else { return true };
        entry.voiced.is_none_or(|(sent, lease)| {
            let patience = self.config.timers.patience(lease).0.saturating_sub(entry.leased.0);
            ended.said > sent + Duration(patience)
        })
    }

    /// Nobody's turn but this node's: after patience that grows with the place in the order.
    fn decide_as_bystander(&mut self, now: Instant, at: usize) {
        let entry = &self.groups[at];
        let without_arbiter = self.config.arbiter != Arbiter::Witness;
        let longest = self.config.timers.longest_promise();
        let Some(rank) = entry.rank(self.config.me.node) else { return };
        let is_leaving = entry.config.leaving.is_some();
        if is_leaving || self.draining || now < self.accuse_at || (!entry.known && !without_arbiter)
        {
            return;
        }
        let patience = |turns: u64| Duration(longest.0 * turns);
        let register = entry.register;
        if !register.is_live() {
            if self.is_first(at) && self.awaits_home_word(now, at, rank) {
                return;
            }
            // Without an arbiter, whoever owns the group must first have had time to say so.
            let opens_at = self.opens_at(now, at, rank, without_arbiter);
            if opens_at.is_some_and(|at| now >= at) {
                let is_first = self.groups[at].config.group.generation() == 0 && self.is_first(at);
                let reason = if is_first { Reason::AskedFirst } else { Reason::AskedNext };
                self.ask(now, at, Change::Create, reason);
            }
            return;
        }
        let ready = if register.owner.node == self.config.me.node {
            self.started + longest
        } else if let Some(ended) = self.detector.ended(register.owner) {
            // It says nothing more: only the order of those who are left is to be kept.
            ended.heard.max(entry.since) + Duration(self.config.timers.peer_silent.0 * rank)
        } else {
            // One that lives and has no lease, because no arbiter hears it, serves nobody: it is as good as silent.
            entry.voiced_at.max(entry.since) + patience(1 + rank)
        };
        let heir = register.in_sync_peer();
        // Where there is an arbiter an heir without the copies asks for itself.
        let heir = heir.filter(|_| !(without_arbiter && entry.is_forsaken));
        let heir_lives = heir.is_some_and(|peer| self.detector.is_alive(now, peer, longest));
        if now >= ready && now >= self.started + longest && !heir_lives {
            self.ask(now, at, Change::Fresh, Reason::AskedFresh);
        }
    }
}
