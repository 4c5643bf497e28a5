//! What arrives: heartbeats, grants, answers of the witness, advertisements.

use super::ask::Pace;
use super::{Agent, Arbiter, Group, Reason, Survivor, WITNESS_LIVES_MAX};
use crate::detector::Hearing;
use crate::id::{GroupId, Member};
use crate::lease::Lessor;
use crate::message::{
    Answer, Drop, Entry, Grant, Heartbeat, Message, RenewGrant, Role, Verdict, WITNESS, decode,
};
use crate::register::{Refusal, Register};
use alloc::vec::Vec;
use stack::time::{Duration, Instant};

impl Agent {
    pub(super) fn receive(&mut self, now: Instant, bytes: &[u8]) -> Result<(), Drop> {
        let (header, message) = decode(bytes)?;
        if header.cluster != self.config.cluster {
            return Err(Drop::OtherCluster);
        }
        if !header.is_for(self.config.me) {
            return Err(Drop::NotForMe);
        }
        let from = header.from;
        if from.node == WITNESS {
            let Message::Answer(answer) = message else { return Err(Drop::Unexpected) };
            return self.handle_answer(now, from, answer);
        }
        if let Message::Surrender { at } = message {
            return self.handle_surrender(now, from, at);
        }
        let echo = match &message {
            Message::Heartbeat(beat) if header.to == self.config.me => Some(beat.echo),
            _ => None,
        };
        match self.detector.handle_heard(now, from, echo) {
            Hearing::Present => {}
            Hearing::Unproven => {
                if let Message::Heartbeat(beat) = message {
                    self.send_heartbeat(now, from, beat.sent);
                }
                return Err(Drop::Unproven);
            }
            Hearing::Stranger => return Err(Drop::UnknownSender),
        }
        match message {
            Message::Heartbeat(heartbeat) => {
                let exact = header.to == self.config.me;
                self.handle_heartbeat(now, from, exact, &heartbeat);
            }
            Message::RenewGrant(grant) => self.handle_grant(now, from, &grant),
            Message::Advertise(said) => return self.handle_advertisement(now, from, said),
            Message::State(state) => self.handle_state(now, from, state),
            Message::Solicit { group } => {
                let at = self.find(group).ok_or(Drop::UnknownGroup)?;
                let message = Message::Advertise(self.declaration(at));
                self.send(from, &message);
            }
            Message::Dead { life } => return self.handle_dead(now, life),
            Message::Hint { group, epoch, .. } => self.handle_hint(now, from, group, epoch),
            Message::Order(order) => self.handle_passed(now, from, order),
            Message::Ordered { request, refused } => self.handle_ordered(request, refused),
            _ => return Err(Drop::Unexpected),
        }
        Ok(())
    }

    pub(super) fn find(&self, group: GroupId) -> Option<usize> {
        self.groups.iter().position(|entry| entry.config.group == group)
    }

    pub(super) fn entry(&self, group: GroupId) -> Option<&Group> {
        self.groups.iter().find(|entry| entry.config.group == group)
    }

    pub(super) fn entry_mut(&mut self, group: GroupId) -> Option<&mut Group> {
        self.groups.iter_mut().find(|entry| entry.config.group == group)
    }

    /// Nobody of that life can speak any more: what was waited for because it might is not waited
    /// for any longer.
    fn handle_surrender(&mut self, now: Instant, from: Member, said: Instant) -> Result<(), Drop> {
        let patience = self.config.timers.longest_promise();
        self.detector.handle_surrender(now, from, said, patience)?;
        self.note_ended(now, from, Reason::Surrendered(from.node));
        Ok(())
    }

    /// Whoever waited for that life decides anew, at once.
    pub(super) fn note_ended(&mut self, now: Instant, life: Member, reason: Reason) {
        for entry in self.groups.iter_mut().filter(|entry| entry.register.names(life)) {
            entry.ask_at = now;
            entry.note(now, reason);
        }
    }

    fn handle_heartbeat(&mut self, now: Instant, from: Member, exact: bool, beat: &Heartbeat) {
        let is_news = self.detector.handle_heartbeat(now, from, beat);
        self.detector.refute(from, self.config.timers.longest_promise());
        let mut grants = Vec::new();
        for entry in &beat.entries {
            let Some(at) = self.find(entry.group) else {
                self.counters.dropped[Drop::UnknownGroup as usize] += 1;
                continue;
            };
            if entry.register.is_written() {
                self.yield_to(now, at, entry.register);
                self.learn(now, at, entry.register);
            }
            // Whoever said this long ago may be dead: it is no sign of life, and a lease that counts from then is none.
            if !is_news {
                continue;
            }
            self.note_said(now, at, from, (beat.sent, entry));
            if let Some(lease) = entry.renew
                && exact
                && self.may_grant(at, from, entry, lease)
                && !self.is_deaf(now, at, entry.has_lease, lease)
            {
                let promise = now + self.config.timers.promise(lease);
                let group = &mut self.groups[at];
                group.promise = group.promise.max(promise);
                group.renewed_at = now;
                group.leased = group.leased.max(lease);
                let epoch = group.register.epoch;
                grants.push(Grant { group: entry.group, epoch, lease });
            }
        }
        if !grants.is_empty() {
            self.counters.granted += grants.len() as u64;
            self.send(from, &Message::RenewGrant(RenewGrant { sent: beat.sent, grants }));
        }
    }

    /// What the owner and the peer of a group say of themselves.
    fn note_said(
        &mut self,
        now: Instant,
        at: usize,
        from: Member,
        (sent, said): (Instant, &Entry),
    ) {
        let group = &mut self.groups[at];
        let is_of_epoch = group.register == said.register;
        if group.register.owner == from && said.has_lease {
            group.voiced_at = now;
            if let Some(lease) = said.renew.filter(|_| is_of_epoch)
                && group.voiced.is_none_or(|(before, _)| before < sent)
            {
                group.voiced = Some((sent, lease));
            }
        }
        if is_of_epoch && group.register.in_sync_peer() == Some(from) {
            group.is_forsaken = said.role == Role::Idle;
        }
    }

    /// Whether this node is the lessor of `from` for this group, and free to promise.
    fn may_grant(&self, at: usize, from: Member, asked: &Entry, lease: Duration) -> bool {
        let entry = &self.groups[at];
        let register = entry.register;
        entry.register == asked.register
            && register.owner == from
            && self.lessor(at) == Lessor::Node(self.config.me)
            && (entry.role == Role::Peer || !register.in_sync)
            && !entry.is_mute()
            && self.core_ok
            && !self.superseded
            && self.detector.ended(from).is_none()
            && lease <= self.config.timers.longest_lease()
    }

    /// Whether the owner of a group does not hear what it is granted: its lease has run out, and it asked again for as
    /// long as a promise lasts. It serves nobody, and would keep this node, which hears it, from serving.
    fn is_deaf(&mut self, now: Instant, at: usize, has_lease: bool, lease: Duration) -> bool {
        let patience = self.config.timers.promise(lease);
        let group = &mut self.groups[at];
        let epoch = group.register.epoch;
        let known = group.deaf_since.filter(|(of, _)| *of == epoch && !has_lease);
        let since = known.map_or(now, |(_, since)| since);
        group.deaf_since = (!has_lease).then_some((epoch, since));
        now.since(since) > patience
    }

    /// Two owners of one epoch are possible only where the configuration lets both survive: when
    /// they hear each other again, the lower node id stays.
    fn yield_to(&mut self, now: Instant, at: usize, theirs: Register) {
        let ours = self.groups[at].register;
        let split = self.config.arbiter == Arbiter::None { survivor: Survivor::Both };
        if split
            && theirs.epoch == ours.epoch
            && theirs.owner != ours.owner
            && theirs.owner.node < ours.owner.node
        {
            self.adopt(now, at, theirs);
        }
    }

    fn handle_grant(&mut self, now: Instant, from: Member, grant: &RenewGrant) {
        for granted in &grant.grants {
            let Some(at) = self.find(granted.group) else { continue };
            let valid = self.groups[at].register.epoch == granted.epoch && self.wants_lease(at);
            if !valid || self.lessor(at) != Lessor::Node(from) {
                continue;
            }
            let entry = &mut self.groups[at];
            let lessor = Lessor::Node(from);
            let by_arbiter = entry.lease.from() == Lessor::Arbiter;
            let first = entry.lease.renew(now, lessor, grant.sent, granted.lease);
            if entry.lease.from() == lessor {
                entry.granted_at = entry.granted_at.max(grant.sent.min(now));
            }
            if first && by_arbiter {
                entry.release_at = Some(now);
            }
        }
    }

    fn handle_answer(&mut self, now: Instant, from: Member, answer: Answer) -> Result<(), Drop> {
        if self.config.arbiter != Arbiter::Witness {
            return Err(Drop::Unexpected);
        }
        if self.witness_past.contains(&from.incarnation) || from.incarnation.0 == 0 {
            return Err(Drop::UnknownSender);
        }
        self.witness_heard = now;
        if let Some(former) = self.witness.replace(from)
            && former != from
        {
            if self.witness_past.len() == WITNESS_LIVES_MAX {
                self.witness_past.pop_front();
            }
            self.witness_past.push_back(former.incarnation);
            self.registered = false;
            // The present one has heard of nothing that is under way.
            let pace = Pace::new(now, self.config.timers);
            self.groups
                .iter_mut()
                .filter_map(|entry| entry.ask.as_mut())
                .for_each(|ask| ask.pace = pace);
        }
        match answer.verdict {
            Verdict::Refused(Refusal::Superseded) => self.end_life(now),
            Verdict::Refused(Refusal::NotRegistered) => self.registered = false,
            Verdict::Noted if answer.register.is_none() => self.registered = true,
            Verdict::Ticket => self.send_witness(&Message::Hello { ticket: answer.request }),
            _ => {}
        }
        if let Some(at) = self.find(answer.group)
            && !self.superseded
        {
            self.handle_outcome(now, at, &answer);
        }
        Ok(())
    }

    fn handle_outcome(&mut self, now: Instant, at: usize, answer: &Answer) {
        if let Some(register) = answer.register {
            self.learn(now, at, register);
        }
        let entry = &mut self.groups[at];
        let current = answer.register == Some(entry.register);
        if current {
            entry.sounded_at = now;
        }
        // What was meant for a former life of the witness is not carried out, but may have been said to this one as well.
        if let Some(ask) = &entry.ask
            && ask.request == answer.request
            && let Verdict::Refused(why) = answer.verdict
            && !matches!(why, Refusal::NotRegistered | Refusal::OtherLife)
        {
            self.close_refused(now, at, why, answer.wait);
        }
        if let Some((sent, lease)) = answer.leased
            && current
            && self.wants_lease(at)
            && self.lessor(at) == Lessor::Arbiter
        {
            self.groups[at].lease.renew(now, Lessor::Arbiter, sent, lease);
        }
        let entry = &mut self.groups[at];
        let released = entry.register.in_sync && answer.request == 0;
        if released && answer.verdict == Verdict::Done && current {
            entry.release_at = None;
        }
    }
}
