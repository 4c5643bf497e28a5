//! Ownership advertisements: what this node declares, what the others do, and who is fit to be a peer by that.
//!
//! ```text
//! boot, a change of the register, every second (owner) or five (others) -> to every node
//! Solicit from anybody                                                   -> to the asker
//! owner looks for a peer -> declared nothing in this life: solicit it, look again
//!                        -> declared something else or less: refused, with the reason
//! ```
//!
//! What a node said in a former life does not count. Bounds: one advertisement for each group and node; a node that
//! has to be solicited is asked once in [`SOLICIT_PERIOD`].

use super::{Agent, Group, GroupConfig, Reason};
use crate::id::{Epoch, GroupId, Member, NodeId};
use crate::message::advertise::{Advertise, Unfit};
use crate::message::{Drop, Message, Role};
use alloc::vec::Vec;
use stack::time::{Duration, Instant};

/// Between two advertisements of an owner.
const OWNER_PERIOD: Duration = Duration::from_secs(1);
/// Between two advertisements of another node.
const OTHER_PERIOD: Duration = Duration::from_secs(5);
/// Between two advertisements of a node whose file does not name the service any more.
const LEAVING_PERIOD: Duration = Duration::from_millis(100);
/// What a node has declared does not count any more if it is alive and has not said it for so long: it has forgotten it.
const DECLARED_FOR: Duration = Duration::from_secs(15);
/// A node that lives and has no word of a service for so long, though it was asked, does not know it.
pub(super) const UNKNOWN_AFTER: Duration = Duration::from_secs(1);
/// Between two questions to nodes that have not declared anything.
const SOLICIT_PERIOD: Duration = Duration::from_millis(20);
/// Who claims a group under an epoch that is over for so long does not merely speak late.
const CLAIM_GRACE: Duration = Duration::from_secs(2);

/// What another node has declared about a group.
#[derive(Clone, Debug)]
pub struct Declared {
    /// Who, in which life.
    pub by: Member,
    /// When it was heard last.
    pub at: Instant,
    /// What.
    pub said: Advertise,
    /// For what it was refused as peer in this life, as has been noted.
    refused: Option<Unfit>,
}

/// Whether a node can hold the copies of a group, by what it and the owner declare.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fitness {
    /// It can.
    Fit,
    /// It, or the owner, has not declared anything in its present life.
    Undeclared,
    /// It cannot.
    Unfit(Unfit),
}

/// A claim that contradicts the register, or another group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Claim {
    /// Who claims.
    pub by: Member,
    /// The group that it believes to own: this one, or another with an address of this one.
    pub group: GroupId,
    /// Under which epoch.
    pub epoch: Epoch,
    /// When it was heard last.
    pub at: Instant,
    /// How often.
    pub count: u64,
}

impl Agent {
    /// Asks every other node for everything that it declares.
    pub fn handle_solicit(&mut self, now: Instant) {
        self.observe(now);
        for index in 0..self.detector.nodes().len() {
            let to = self.detector.nodes()[index].member;
            for at in 0..self.groups.len() {
                let group = self.groups[at].config.group;
                self.send(to, &Message::Solicit { group });
            }
        }
    }

    /// Groups have other settings from now on, as far as a running node can take them, or are new; they are declared at once.
    /// The peer in sync stays what it is, though it may declare something else: it holds every connection as it is. A group
    /// that is said to leave goes when nothing of it is left.
    pub fn handle_settings(&mut self, now: Instant, settings: Vec<GroupConfig>) {
        self.observe(now);
        for config in settings {
            let Some(at) = self.find(config.group) else {
                self.groups.push(Group::arrived(now, config, self.config.cores));
                continue;
            };
            let entry = &mut self.groups[at];
            if entry.config != config {
                let reason = match (entry.config.leaving, config.leaving) {
                    (None, Some(_)) => Reason::Leaves,
                    (Some(_), None) => Reason::Stays,
                    _ => Reason::Reconfigured,
                };
                entry.config = config;
                (entry.advertise_at, entry.ask_at) = (now, entry.ask_at.min(now));
                entry.note(now, reason);
            }
        }
        self.decide_all(now);
    }

    /// Tells every other node what this one declares about the group, if it is time.
    pub(super) fn advertise(&mut self, now: Instant, at: usize) {
        let entry = &mut self.groups[at];
        if now < entry.advertise_at || self.superseded {
            return;
        }
        let period = match entry.role {
            Role::Owner => OWNER_PERIOD,
            // It will not be said for long, and the others should know.
            _ if entry.config.leaving.is_some() => LEAVING_PERIOD,
            _ => OTHER_PERIOD,
        };
        entry.advertise_at = now + period;
        self.forget_declared(now, at);
        let message = Message::Advertise(self.declaration(at));
        for index in 0..self.detector.nodes().len() {
            let to = self.detector.nodes()[index].member;
            self.send(to, &message);
        }
    }

    /// What this node declares about the group.
    pub(super) fn declaration(&self, at: usize) -> Advertise {
        let entry = &self.groups[at];
        let config = &entry.config;
        Advertise {
            group: config.group,
            owner: entry.register.owner,
            epoch: entry.register.epoch,
            home: config.home,
            order: config.peers.clone(),
            failback: config.failback,
            on_peer_loss: config.on_peer_loss,
            is_leaving: config.leaving.is_some(),
            ..config.advertisement.clone()
        }
    }

    /// Another node has declared something.
    pub(super) fn handle_advertisement(
        &mut self,
        now: Instant,
        by: Member,
        said: Advertise,
    ) -> Result<(), Drop> {
        let at = self.find(said.group).ok_or(Drop::UnknownGroup)?;
        if said.owner == by {
            self.check_claim(now, at, by, &said);
        }
        let entry = &mut self.groups[at];
        let known = entry.declared.iter_mut().find(|known| known.by.node == by.node);
        match known {
            Some(known) => {
                known.refused = known.refused.filter(|_| known.by == by);
                (known.by, known.at, known.said) = (by, now, said);
            }
            None => entry.declared.push(Declared { by, at: now, said, refused: None }),
        }
        Ok(())
    }

    /// Whoever claims to own a group contradicts nobody: neither the register nor the owner of its addresses.
    fn check_claim(&mut self, now: Instant, at: usize, by: Member, said: &Advertise) {
        let register = self.groups[at].register;
        let is_old = said.epoch < register.epoch;
        let has_settled = now.since(self.groups[at].since) > CLAIM_GRACE;
        if register.owner != by && (said.epoch == register.epoch || is_old && has_settled) {
            self.note_claim(now, at, by, said);
        }
        // Generations of one service have its addresses together.
        let service = said.group.service();
        for other in 0..self.groups.len() {
            if self.groups[other].config.group.service() == service {
                continue;
            }
            let ours = &self.groups[other].config.advertisement.addresses;
            if said.addresses.iter().any(|address| ours.contains(address)) {
                self.note_claim(now, other, by, said);
            }
        }
    }

    fn note_claim(&mut self, now: Instant, at: usize, by: Member, said: &Advertise) {
        self.counters.claims += 1;
        let entry = &mut self.groups[at];
        let count = entry.claim.map_or(0, |claim| claim.count) + 1;
        entry.claim = Some(Claim { by, group: said.group, epoch: said.epoch, at: now, count });
    }

    /// What a node declares in its present life, as far as is known here, about the service itself: of its own this node
    /// does not look up who owns it and who fails over to whom, which is no reason to refuse anybody.
    fn declared_by(&self, at: usize, member: Member) -> Option<&Advertise> {
        let entry = &self.groups[at];
        if member == self.config.me {
            return Some(&entry.config.advertisement);
        }
        self.word_of(at, member)
    }

    /// Whether a node can hold the copies of the group.
    pub(super) fn fitness(&self, at: usize, node: Member) -> Fitness {
        let owner = self.declared_by(at, self.groups[at].register.owner);
        let (Some(owner), Some(node)) = (owner, self.declared_by(at, node)) else {
            return Fitness::Undeclared;
        };
        owner.refuses(node).map_or(Fitness::Fit, Fitness::Unfit)
    }

    /// As owner: what is known of the nodes that could be its peer is brought up to date: the silent are solicited, and
    /// that others are refused is noted once.
    pub(super) fn examine(&mut self, now: Instant, at: usize) {
        let me = self.config.me.node;
        let is_time = now >= self.groups[at].solicit_at;
        for index in 0..self.detector.nodes().len() {
            let (node, member) =
                (self.detector.nodes()[index].node, self.detector.nodes()[index].member);
            let is_designated = self.groups[at].rank(node).is_some() && node != me;
            if !is_designated || !self.is_fit(now, node) {
                continue;
            }
            match self.fitness(at, member) {
                Fitness::Fit => {}
                Fitness::Undeclared => {
                    if is_time {
                        self.solicit(now, at, member);
                    }
                    self.note_unknown(now, at, member);
                }
                Fitness::Unfit(why) => self.note_refused(now, at, node, why),
            }
        }
    }

    /// Asks a node what it declares about a group.
    pub(super) fn solicit(&mut self, now: Instant, at: usize, member: Member) {
        self.groups[at].solicit_at = now + SOLICIT_PERIOD;
        let group = self.groups[at].config.group;
        self.send(member, &Message::Solicit { group });
    }

    /// A node that lives has no word of a group, though it was asked for long: it does not know the service.
    fn note_unknown(&mut self, now: Instant, at: usize, member: Member) {
        let entry = &mut self.groups[at];
        let is_news = entry.unknown_there != Some(member);
        if is_news && now.since(entry.since) > UNKNOWN_AFTER {
            entry.unknown_there = Some(member);
            entry.note(now, Reason::UnknownThere(member.node));
        }
    }

    /// What nodes that live have not said again is no word of theirs any more.
    fn forget_declared(&mut self, now: Instant, at: usize) {
        let Agent { groups, detector, config, .. } = self;
        let longest = config.timers.longest_promise();
        groups[at].declared.retain(|known| {
            now.since(known.at) < DECLARED_FOR || !detector.is_alive(now, known.by, longest)
        });
    }

    /// What a node has declared in its present life, if anything.
    pub(super) fn word_of(&self, at: usize, member: Member) -> Option<&Advertise> {
        let known = self.groups[at].declared.iter().find(|known| known.by == member);
        known.map(|known| &known.said)
    }

    fn note_refused(&mut self, now: Instant, at: usize, node: NodeId, why: Unfit) {
        let entry = &mut self.groups[at];
        let known = entry.declared.iter_mut().find(|known| known.by.node == node);
        if let Some(known) = known.filter(|known| known.refused != Some(why)) {
            known.refused = Some(why);
            self.counters.refused_peers += 1;
            self.groups[at].note(now, Reason::RefusedPeer(node, why));
        }
    }
}
