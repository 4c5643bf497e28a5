//! The witness: the small keeper of the registers, asked only when a register changes.
//!
//! A pure state machine: [`Witness::handle_request`] takes a datagram and returns an [`Effect`]. A
//! change that must survive a crash comes out as [`Effect::Persist`], whose reply is sealed inside
//! until the shell has written the snapshot ([`Witness::release`] takes the writing as a closure and
//! gives the reply only for its `Ok`). As long as a snapshot is owed, every other effect owes it too, so
//! nothing that is not durable is ever shown.
//!
//! Three things make repeated, late and lost datagrams harmless: a request counts up per life of its
//! sender, is carried out once and answered alike ever after; a request names the life of the witness
//! that it is meant for, so a restart closes all that were under way; and every answer carries the
//! register as it stands. A promise is not durable: after a restart the witness counts the longest one
//! for every group, and lets nobody replace an owner before it has run out. It does renew the lease of
//! the owner that the store names: that is no new voice.
//!
//! A store that is empty or unreadable, or older than what a node has seen, answers `Unknown` until
//! the operator seeds it: then it collects what the nodes know for one longest promise, takes the
//! newest register of each group, and only then answers. A first start is seeded like that too.
//!
//! Bounds: [`GROUPS_MAX`], 64 nodes, [`PAST_LIVES`] former lives of each.
//! Units: nanoseconds of the witness's own clock.

mod store;

use crate::id::{Epoch, GroupId, Incarnation, Member, NodeId};
use crate::lease::Timers;
use crate::message::{
    Answer, ChangeRequest, Drop, Header, Message, Verdict, WITNESS, decode, encode,
};
use crate::register::{Change, Evidence, Refusal, Register};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use stack::time::{Duration, Instant};

pub use store::Unreadable;

/// Groups that one witness keeps.
pub const GROUPS_MAX: usize = 256;
/// Former lives of a node that are remembered, so that a late hello does not revive one.
pub const PAST_LIVES: usize = 16;
/// Lives that the operator has declared dead.
pub const DECLARED_MAX: usize = 64;

/// The keeper of the registers.
#[derive(Debug)]
pub struct Witness {
    me: Member,
    cluster: u64,
    timers: Timers,
    knowledge: Knowledge,
    groups: BTreeMap<GroupId, Group>,
    nodes: BTreeMap<NodeId, Node>,
    declared: VecDeque<Member>,
    started: Instant,
    dirty: bool,
}

/// Whether the store may be believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Knowledge {
    /// It was empty or unreadable, and nobody has seeded it.
    Unknown,
    /// Seeded: the newest registers that the nodes know are collected until then.
    Collecting(Instant),
    /// It may.
    Known,
}

/// What the shell must do with the answer to a datagram.
#[derive(Debug)]
pub enum Effect {
    /// Nothing.
    Nothing,
    /// Send this to where the datagram came from.
    Reply(Vec<u8>),
    /// Write the snapshot durably, then send the reply: [`Witness::release`].
    Persist(Pending),
}

/// A reply that waits for its snapshot to be durable.
#[derive(Debug)]
#[must_use = "the asker waits for the reply"]
pub struct Pending {
    snapshot: Vec<u8>,
    reply: Vec<u8>,
}

#[derive(Clone, Debug)]
struct Group {
    /// Durable.
    register: Register,
    /// Until when nobody may replace the owner. Volatile: the longest one after a restart.
    promise: Instant,
    /// A node has seen a newer register than the store. Volatile: found out again.
    suspect: bool,
    /// The last request of each node and what became of it. Volatile: a request names the life of
    /// the witness that it is meant for.
    verdicts: BTreeMap<NodeId, Closed>,
}

#[derive(Clone, Copy, Debug)]
struct Closed {
    life: Incarnation,
    request: u64,
    verdict: Verdict,
}

#[derive(Clone, Debug)]
struct Node {
    /// Durable.
    life: Incarnation,
    /// Durable.
    past: VecDeque<Incarnation>,
    /// When this life was registered. Volatile: the start after a restart.
    registered: Instant,
    /// When this life was heard last. Volatile: the start after a restart.
    heard: Instant,
}

impl Witness {
    /// A witness whose present life is `incarnation`, on the bytes of its store (`None`: there are
    /// none). `seed` is the operator's word that what is missing may be collected from the nodes.
    ///
    /// Returns why the store was not readable, if it was not; the witness then answers `Unknown`
    /// unless it is seeded.
    pub fn new(
        now: Instant,
        incarnation: Incarnation,
        cluster: u64,
        timers: Timers,
        store: Option<&[u8]>,
        seed: bool,
    ) -> (Witness, Option<Unreadable>) {
        let mut witness = Witness {
            me: Member { node: WITNESS, incarnation },
            cluster,
            timers,
            knowledge: Knowledge::Unknown,
            groups: BTreeMap::new(),
            nodes: BTreeMap::new(),
            declared: VecDeque::new(),
            started: now,
            dirty: false,
        };
        let error = store.and_then(|bytes| witness.restore(bytes).err());
        if seed {
            witness.knowledge = Knowledge::Collecting(now + timers.longest_promise());
        }
        (witness, error)
    }

    /// Whether the store may be believed.
    pub fn knowledge(&self) -> Knowledge {
        self.knowledge
    }

    /// The registers, for the operator's eyes.
    pub fn registers(&self) -> impl Iterator<Item = (GroupId, Register)> {
        self.groups.iter().map(|(group, entry)| (*group, entry.register))
    }

    /// The operator's word that this life of a node is dead and will not come back.
    pub fn handle_declared_dead(&mut self, member: Member) {
        if self.declared.len() == DECLARED_MAX {
            self.declared.pop_front();
        }
        self.declared.push_back(member);
    }

    /// Takes one datagram. Errors: why it was dropped unanswered.
    pub fn handle_request(&mut self, now: Instant, bytes: &[u8]) -> Result<Effect, Drop> {
        let (header, message) = decode(bytes)?;
        if header.cluster != self.cluster {
            return Err(Drop::OtherCluster);
        }
        if header.to.node != WITNESS {
            return Err(Drop::NotForMe);
        }
        if header.from.node.0 == 0
            || header.from.node.0 > NodeId::MAX
            || header.from.incarnation.0 == 0
        {
            return Err(Drop::UnknownSender);
        }
        if let Knowledge::Collecting(until) = self.knowledge
            && now >= until
        {
            self.knowledge = Knowledge::Known;
            self.dirty = true;
        }
        if self.knowledge == Knowledge::Unknown {
            // Nothing is noted either: the unreadable store stays as it is for whoever repairs it.
            return Ok(self.effect(self.reply(header.from, unknown(&message))));
        }
        let same_life = header.to.incarnation == self.me.incarnation;
        if let Some(node) = self.nodes.get_mut(&header.from.node)
            && node.life == header.from.incarnation
        {
            node.heard = now;
        }
        let answer = match message {
            Message::Hello => self.handle_hello(now, header.from),
            Message::Read { group, copy } => self.handle_read(now, group, copy),
            Message::Change(request) if !same_life => {
                self.answer(request.group, request.request, refused(Refusal::OtherLife))
            }
            Message::Change(request) => self.handle_change(now, header.from, request),
            Message::Renew { group, .. } | Message::Release { group, .. } if !same_life => {
                self.answer(group, 0, refused(Refusal::OtherLife))
            }
            Message::Renew { group, epoch, sent, lease } => {
                self.handle_renew(now, header.from, group, epoch, (sent, lease))
            }
            Message::Release { group, epoch } => {
                self.handle_release(now, header.from, group, epoch)
            }
            _ => return Err(Drop::Unexpected),
        };
        Ok(self.effect(self.reply(header.from, answer)))
    }

    /// Has `write` make the snapshot durable and, only if it did, gives the reply to send.
    ///
    /// After an error the snapshot is still owed: the next effect carries it again.
    pub fn release<E>(
        &mut self,
        pending: Pending,
        write: impl FnOnce(&[u8]) -> Result<(), E>,
    ) -> Result<Vec<u8>, E> {
        write(&pending.snapshot)?;
        // Another change may have happened since this snapshot was taken.
        if self.snapshot() == pending.snapshot {
            self.dirty = false;
        }
        Ok(pending.reply)
    }

    fn reply(&self, to: Member, answer: Answer) -> Vec<u8> {
        let header = Header { cluster: self.cluster, from: self.me, to };
        encode(header, &Message::Answer(answer))
    }

    fn effect(&self, reply: Vec<u8>) -> Effect {
        if self.dirty {
            Effect::Persist(Pending { snapshot: self.snapshot(), reply })
        } else {
            Effect::Reply(reply)
        }
    }

    fn handle_hello(&mut self, now: Instant, from: Member) -> Answer {
        let verdict = match self.nodes.get_mut(&from.node) {
            Some(node) if node.life == from.incarnation => Verdict::Noted,
            Some(node) if node.past.contains(&from.incarnation) => refused(Refusal::Superseded),
            Some(node) => {
                if node.past.len() == PAST_LIVES {
                    node.past.pop_front();
                }
                node.past.push_back(node.life);
                node.life = from.incarnation;
                node.registered = now;
                node.heard = now;
                self.dirty = true;
                Verdict::Noted
            }
            None => {
                let past = VecDeque::new();
                let node = Node { life: from.incarnation, past, registered: now, heard: now };
                self.nodes.insert(from.node, node);
                self.dirty = true;
                Verdict::Noted
            }
        };
        Answer { verdict, ..NOTHING_KNOWN }
    }

    fn handle_read(&mut self, now: Instant, group: GroupId, copy: Register) -> Answer {
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

    fn handle_renew(
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
    fn handle_release(
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

    fn handle_change(&mut self, now: Instant, from: Member, request: ChangeRequest) -> Answer {
        let (group, number) = (request.group, request.request);
        if let Some(refusal) = self.registration(from) {
            return self.answer(group, number, refused(refusal));
        }
        if self.knowledge != Knowledge::Known {
            return self.answer(group, number, Verdict::Unknown);
        }
        if !self.groups.contains_key(&group) {
            if self.groups.len() == GROUPS_MAX {
                return self.answer(group, number, refused(Refusal::Limit));
            }
            self.groups.insert(group, Group::new(Register::NEVER, now));
        }
        let evidence = self.evidence(now, group);
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
                let (verdict, until) = entry.carry_out(now, from, &request, evidence);
                wait = until;
                self.dirty |= verdict == Verdict::Done;
                verdict
            }
        };
        let lease = (request.sent, request.lease);
        let answer = self.answer_leased(now, from, group, number, verdict, lease);
        Answer { wait, ..answer }
    }

    /// What is known about the death of those whom the register names.
    fn evidence(&self, now: Instant, group: GroupId) -> Evidence {
        let Some(entry) = self.groups.get(&group) else { return Evidence::default() };
        let register = entry.register;
        let longest = self.timers.longest_promise();
        let promise_over = now >= entry.promise && now >= self.started + longest;
        let owner_gone = self.is_dead(register.owner);
        let Some(peer) = register.in_sync_peer() else {
            return Evidence { owner_dead: owner_gone || promise_over, peer_dead: true };
        };
        let peer_gone = self.is_dead(peer);
        // A dead lessor renews nothing: once its last promise must have run out, its owner is mute.
        let mute = peer_gone
            && promise_over
            && self.nodes.get(&peer.node).is_some_and(|node| now >= node.registered + longest);
        // A living peer of a dead owner would have taken over long ago.
        let heard = self.nodes.get(&peer.node).map_or(self.started, |node| node.heard);
        let forsaken = owner_gone && now >= heard.max(self.started) + self.timers.forsaken();
        Evidence { owner_dead: owner_gone || mute, peer_dead: peer_gone || forsaken }
    }

    fn is_dead(&self, member: Member) -> bool {
        self.declared.contains(&member)
            || self.nodes.get(&member.node).is_some_and(|node| node.life != member.incarnation)
    }

    fn registration(&self, from: Member) -> Option<Refusal> {
        match self.nodes.get(&from.node) {
            Some(node) if node.life == from.incarnation => None,
            Some(node) if node.past.contains(&from.incarnation) => Some(Refusal::Superseded),
            _ => Some(Refusal::NotRegistered),
        }
    }

    /// Like [`Witness::answer`], and promises if the asker is now owner alone.
    fn answer_leased(
        &mut self,
        now: Instant,
        from: Member,
        group: GroupId,
        request: u64,
        verdict: Verdict,
        (sent, lease): (Instant, Duration),
    ) -> Answer {
        let mut answer = self.answer(group, request, verdict);
        if answer.verdict != Verdict::Done || lease > self.timers.longest_lease() {
            return answer;
        }
        let promise = now + self.timers.promise(lease);
        if let Some(entry) = self.groups.get_mut(&group)
            && entry.register.owner == from
            && !entry.register.in_sync
        {
            entry.promise = entry.promise.max(promise);
            answer.leased = Some((sent, lease));
        }
        answer
    }

    fn answer(&self, group: GroupId, request: u64, verdict: Verdict) -> Answer {
        let entry = self.groups.get(&group);
        let believed =
            self.knowledge == Knowledge::Known && entry.is_none_or(|entry| !entry.suspect);
        let register = entry.map_or(Register::NEVER, |entry| entry.register);
        let unsettled = matches!(
            verdict,
            Verdict::Noted | Verdict::Done | Verdict::Refused(Refusal::NeverWritten)
        );
        Answer {
            group,
            request,
            verdict: if !believed && unsettled { Verdict::Unknown } else { verdict },
            register: believed.then_some(register),
            leased: None,
            wait: Duration::ZERO,
        }
    }
}

impl Group {
    fn new(register: Register, promise: Instant) -> Group {
        Group { register, promise, suspect: false, verdicts: BTreeMap::new() }
    }

    /// Carries a request out, once, and closes it: whatever comes of it, it is never tried again.
    fn carry_out(
        &mut self,
        now: Instant,
        from: Member,
        request: &ChangeRequest,
        evidence: Evidence,
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

/// What there is to say before anything is known.
const NOTHING_KNOWN: Answer = Answer {
    group: GroupId(0),
    request: 0,
    verdict: Verdict::Unknown,
    register: None,
    leased: None,
    wait: Duration::ZERO,
};

fn unknown(message: &Message) -> Answer {
    match message {
        Message::Change(request) => {
            Answer { group: request.group, request: request.request, ..NOTHING_KNOWN }
        }
        Message::Read { group, .. } | Message::Renew { group, .. } => {
            Answer { group: *group, ..NOTHING_KNOWN }
        }
        _ => NOTHING_KNOWN,
    }
}

fn refused(refusal: Refusal) -> Verdict {
    Verdict::Refused(refusal)
}

#[cfg(test)]
mod tests;
