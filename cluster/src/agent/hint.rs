//! The third system: a node that sees an owner silent tells the designated peer, and sends there what clients say.
//!
//! A hint is a reason to look, never a claim: the peer takes over when its own promise has run out or the owner has
//! surrendered, as without it, and judges that anew at once. What the hint adds is that clients' frames travel along to
//! whoever will answer them, and that the peer's history says who else saw the silence.
//!
//! Spec: PROTOCOL.md, "The third system".

use super::{Agent, Reason};
use crate::id::{Epoch, GroupId, Member};
use crate::message::{Message, Role};
use crate::role::Command;
use stack::time::{Duration, Instant};

impl Agent {
    /// For how long a group's owner has been silent here, if for longer than its lease.
    fn owner_silent(&self, now: Instant, at: usize) -> Option<Duration> {
        let entry = &self.groups[at];
        let owner = entry.register.owner;
        let silent = now.since(self.detector.heard_at(owner).max(entry.since));
        let is_gone = self.detector.ended(owner).is_some() || self.detector.is_superseded(owner);
        (is_gone || silent > self.timers().lease && now >= self.accuse_at).then_some(silent)
    }

    /// Tells the peer that its owner is silent here, once in a lease.
    pub(super) fn give_hint(&mut self, now: Instant, at: usize) {
        let entry = &self.groups[at];
        let me = self.config.me;
        let heir = entry.register.in_sync_peer().filter(|peer| peer.node != me.node);
        let Some(heir) = heir.filter(|_| entry.role != Role::Owner && now >= entry.hint_at) else {
            return;
        };
        let (group, epoch) = (entry.config.group, entry.register.epoch);
        if let Some(silent) = self.owner_silent(now, at) {
            self.groups[at].hint_at = now + self.timers().lease;
            self.groups[at].note(now, Reason::GaveHint(heir.node));
            self.send(heir, &Message::Hint { group, epoch, silent });
        }
    }

    /// Another node does not hear the owner. What follows is decided right after, from what this node knows itself.
    pub(super) fn handle_hint(&mut self, now: Instant, from: Member, group: GroupId, epoch: Epoch) {
        if let Some(at) = self.find(group)
            && self.groups[at].role == Role::Peer
            && self.groups[at].register.epoch == epoch
        {
            self.groups[at].note(now, Reason::Hinted(from.node));
        }
    }

    /// Tells the cores who answers the clients, if this node does not: the owner, or while it is silent the peer in
    /// sync. That may be this node itself, which then keeps what clients say until it knows.
    pub(super) fn tell_route(&mut self, now: Instant, at: usize) {
        let entry = &self.groups[at];
        let (group, register) = (entry.config.group, entry.register);
        let epoch = register.epoch;
        let me = self.config.me;
        let is_elsewhere = register.is_live() && register.owner.node != me.node;
        let heir = register.in_sync_peer().filter(|_| is_elsewhere);
        let heir = heir.filter(|peer| *peer != me || entry.role == Role::Peer);
        let heir = heir.filter(|_| self.owner_silent(now, at).is_some());
        let to = heir.unwrap_or(register.owner);
        let cores = if to == me { Some(self.config.cores) } else { self.detector.cores_of(to) };
        let route = cores.filter(|_| is_elsewhere).map(|cores| (epoch, to, cores));
        if let Some((epoch, to, cores)) = route
            && entry.route != route
        {
            self.commands.push_back(Command::Route { group, epoch, to, cores });
        }
        self.groups[at].route = route;
    }
}
