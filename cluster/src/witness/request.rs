//! The requests, one by one: what each may do, and on which evidence.

use super::{
    Closed, GROUPS_MAX, Group, Knowledge, NOTHING_KNOWN, Node, PAST_LIVES, Witness, refused,
};
use crate::id::{Epoch, GroupId, Member};
use crate::message::{Answer, ChangeRequest, Verdict};
use crate::register::{Change, Evidence, Phase, Refusal, Register};
use alloc::collections::{BTreeMap, VecDeque};
use stack::time::{Duration, Instant};

impl Witness {
    /// Registers a life that presents its ticket. A ticket is good for one registration of a node,
    /// so the late hello of a life that has ended meanwhile registers nothing.
    pub(super) fn handle_hello(&mut self, now: Instant, from: Member, presented: u64) -> Answer {
        match self.registration(from) {
            None => return Answer { verdict: Verdict::Noted, ..NOTHING_KNOWN },
            Some(Refusal::Superseded) => {
                return Answer { verdict: refused(Refusal::Superseded), ..NOTHING_KNOWN };
            }
            Some(_) => {}
        }
        let ticket = self.tickets.entry(from.node).or_insert(1);
        if presented != *ticket {
            return Answer { verdict: Verdict::Ticket, request: *ticket, ..NOTHING_KNOWN };
        }
        *ticket += 1;
        let mut past = VecDeque::new();
        if let Some(former) = self.nodes.remove(&from.node) {
            past = former.past;
            if past.len() == PAST_LIVES {
                past.pop_front();
            }
            past.push_back(former.life);
        }
        self.nodes.insert(from.node, Node::new(now, from.incarnation, past));
        self.note_lives(from);
        self.dirty = true;
        Answer { verdict: Verdict::Noted, ..NOTHING_KNOWN }
    }

    pub(super) fn handle_read(&mut self, now: Instant, group: GroupId, copy: Register) -> Answer {
        let promise = now + self.timers.longest_promise();
        let known = self.groups.contains_key(&group);
        if !known && copy.is_written() && self.groups.len() < GROUPS_MAX {
            // Remembered as never written, so that what follows finds it older than the copy.
            self.groups.insert(group, Group::new(Register::NEVER, promise));
        }
        if let Some(entry) = self.groups.get_mut(&group)
            && copy.epoch > entry.register.epoch
        {
            if matches!(self.knowledge, Knowledge::Collecting(_)) {
                *entry = Group::new(copy, promise);
                self.dirty = true;
            } else {
                entry.suspect = true;
            }
        }
        self.answer(group, 0, Verdict::Noted)
    }

    pub(super) fn handle_renew(
        &mut self,
        now: Instant,
        from: Member,
        group: GroupId,
        epoch: Epoch,
        lease: (Instant, Duration),
    ) -> Answer {
        if let Some(refusal) = self.registration(from) {
            return self.answer(group, 0, refused(refusal));
        }
        let longest = self.timers.longest_lease();
        let Some(entry) = self.groups.get_mut(&group) else {
            return self.answer(group, 0, refused(Refusal::NeverWritten));
        };
        entry.suspect |= epoch > entry.register.epoch;
        let verdict = if entry.register.owner != from {
            refused(Refusal::NotOwner)
        } else if epoch != entry.register.epoch {
            refused(Refusal::Stale)
        } else if !entry.register.is_live() {
            refused(Refusal::Over)
        } else if entry.register.in_sync {
            refused(Refusal::AlreadyInSync)
        } else if lease.1 > longest {
            refused(Refusal::Limit)
        } else {
            Verdict::Done
        };
        self.answer_leased(now, from, group, 0, verdict, lease)
    }

    /// The owner uses no lease of ours any more: the promise has nobody left to protect.
    pub(super) fn handle_release(
        &mut self,
        now: Instant,
        from: Member,
        group: GroupId,
        epoch: Epoch,
    ) -> Answer {
        if let Some(entry) = self.groups.get_mut(&group)
            && entry.register.owner == from
            && entry.register.epoch == epoch
            && entry.register.in_sync
        {
            entry.promise = entry.promise.min(now);
            return self.answer(group, 0, Verdict::Done);
        }
        self.answer(group, 0, refused(Refusal::Stale))
    }

    pub(super) fn handle_change(
        &mut self,
        now: Instant,
        from: Member,
        request: ChangeRequest,
    ) -> Answer {
        let (group, number) = (request.group, request.request);
        if let Some(refusal) = self.registration(from) {
            return self.answer(group, number, refused(refusal));
        }
        if self.knowledge != Knowledge::Known {
            return self.answer(group, number, Verdict::Unknown);
        }
        if !self.groups.contains_key(&group) {
            if self.groups.len() == GROUPS_MAX && !self.make_room() {
                return self.answer(group, number, refused(Refusal::Limit));
            }
            self.groups.insert(group, Group::new(Register::NEVER, now));
        }
        let evidence = self.evidence(now, group, from);
        let is_known = |peer| self.registration(peer).is_none();
        let names_stranger = matches!(request.change, Change::AddPeer(peer) if !is_known(peer));
        let Some(entry) = self.groups.get_mut(&group) else {
            return self.answer(group, number, Verdict::Unknown);
        };
        entry.suspect |= request.expected > entry.register.epoch;
        if entry.suspect {
            return self.answer(group, number, Verdict::Unknown);
        }
        let mut wait = Duration::ZERO;
        let verdict = match entry.verdicts.get(&from.node) {
            Some(closed) if closed.life == from.incarnation && number == closed.request => {
                closed.verdict
            }
            Some(closed) if closed.life == from.incarnation && number < closed.request => {
                refused(Refusal::Old)
            }
            _ => {
                let (verdict, until) =
                    entry.carry_out(now, from, &request, (evidence, names_stranger));
                wait = until;
                self.dirty |= verdict == Verdict::Done;
                verdict
            }
        };
        let lease = (request.sent, request.lease);
        let answer = self.answer_leased(now, from, group, number, verdict, lease);
        Answer { wait, ..answer }
    }

    /// Forgets a group that is over: services come and go under ever new names. `false`: there is none.
    fn make_room(&mut self) -> bool {
        let over = self.groups.iter().filter(|(_, entry)| entry.register.phase == Phase::Over);
        let Some(group) = over.map(|(group, _)| *group).next() else { return false };
        self.groups.remove(&group);
        true
    }

    /// What is known about the death of those whom the register names.
    fn evidence(&self, now: Instant, group: GroupId, asker: Member) -> Evidence {
        let Some(entry) = self.groups.get(&group) else { return Evidence::default() };
        let register = entry.register;
        let longest = self.timers.longest_promise();
        let promise_over = now >= entry.promise && now >= self.started + longest;
        let owner_gone = self.died(register.owner).is_some();
        let Some(peer) = register.in_sync_peer() else {
            return Evidence { owner_dead: owner_gone || promise_over, peer_dead: true };
        };
        let peer_died = self.died(peer);
        // A dead lessor renews nothing: once its last promise must have run out, its owner is mute.
        let mute = promise_over && peer_died.is_some_and(|at| now >= at + longest);
        // A living peer of a dead owner would have taken over long ago.
        let heard = self.nodes.get(&peer.node).map_or(self.started, |node| node.heard);
        let forsaken = owner_gone && now >= heard.max(self.started) + self.timers.forsaken();
        // A peer that asks for a fresh start says itself that it has lost the copies.
        let peer_dead = peer_died.is_some() || forsaken || peer == asker;
        Evidence { owner_dead: owner_gone || mute, peer_dead }
    }

    pub(super) fn registration(&self, from: Member) -> Option<Refusal> {
        match self.nodes.get(&from.node) {
            Some(node) if node.life == from.incarnation => None,
            Some(node) if node.past.contains(&from.incarnation) => Some(Refusal::Superseded),
            _ => Some(Refusal::NotRegistered),
        }
    }
}

impl Group {
    pub(super) fn new(register: Register, promise: Instant) -> Group {
        Group { register, promise, suspect: false, verdicts: BTreeMap::new() }
    }

    /// Carries a request out, once, and closes it: whatever comes of it, it is never tried again.
    fn carry_out(
        &mut self,
        now: Instant,
        from: Member,
        request: &ChangeRequest,
        (evidence, names_stranger): (Evidence, bool),
    ) -> (Verdict, Duration) {
        let mut wait = Duration::ZERO;
        let replaces = matches!(request.change, Change::TakeOver | Change::Fresh);
        let result = if request.expected != self.register.epoch {
            Err(Refusal::Stale)
        } else {
            self.register.apply(request.change, from, evidence)
        };
        let verdict = match result {
            Err(refusal) => refused(refusal),
            Ok(_) if names_stranger => refused(Refusal::PeerUnregistered),
            // What was promised to the owner before its peer was in sync is not yet released.
            Ok(_) if replaces && now < self.promise && !evidence.owner_dead => {
                wait = self.promise.since(now);
                refused(Refusal::NotYet)
            }
            Ok(next) => {
                if next.owner != self.register.owner {
                    self.promise = now;
                }
                self.register = next;
                Verdict::Done
            }
        };
        let closed = Closed { life: from.incarnation, request: request.request, verdict };
        self.verdicts.insert(from.node, closed);
        (verdict, wait)
    }
}
