//! The witness: the small keeper of the registers, asked only when a register changes.
//!
//! A pure state machine: [`Witness::handle_request`] takes a datagram and returns an [`Effect`]. A
//! change that must survive a crash comes out as [`Effect::Persist`], whose reply is sealed inside
//! until the shell has written the snapshot ([`Witness::release`] takes the writing as a closure
//! and gives the reply only for its `Ok`). As long as a snapshot is owed, every other effect owes
//! it too, so nothing that is not durable is ever shown.
//!
//! Three things make repeated, late and lost datagrams harmless: a request counts up per life of
//! its sender, is carried out once and answered alike ever after; a request names the life of the
//! witness that it is meant for, so a restart closes all that were under way; and every answer
//! carries the register as it stands. A promise is not durable: after a restart the witness counts
//! the longest one for every group, and lets nobody replace an owner before it has run out. It does
//! renew the lease of the owner that the store names: that is no new voice.
//!
//! A store that is empty or unreadable, or older than what a node has seen, answers `Unknown` until
//! the operator seeds it: then it collects what the nodes know for one longest promise, takes the
//! newest register of each group, and only then answers. A first start is seeded like that too.
//!
//! A life is over if another one of its node was registered after it, or a surrender or an operator's word names it
//! (`witness/ended.rs`).
//!
//! Bounds: [`GROUPS_MAX`], 64 nodes, [`PAST_LIVES`] former lives of each, [`ENDED_MAX`].
//! Units: nanoseconds of the witness's own clock.

mod ended;
mod request;
mod store;

use crate::id::{GroupId, Incarnation, Member, NodeId};
use crate::lease::Timers;
use crate::message::{
    Answer, ChangeRequest, Drop, Header, Message, Verdict, WITNESS, decode, encode,
};
use crate::register::{Refusal, Register};
use crate::surrender::Ended;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use stack::time::{Duration, Instant};

pub use store::Unreadable;

/// Groups that one witness keeps.
pub const GROUPS_MAX: usize = 256;
/// Former lives of a node that are remembered, so that a late hello does not revive one.
pub const PAST_LIVES: usize = 16;
/// Lives that are remembered as ended by a word of their guardian or of an operator.
pub const ENDED_MAX: usize = 64;

/// The keeper of the registers.
#[derive(Debug)]
pub struct Witness {
    me: Member,
    cluster: u64,
    timers: Timers,
    knowledge: Knowledge,
    groups: BTreeMap<GroupId, Group>,
    nodes: BTreeMap<NodeId, Node>,
    /// Lives that have ended, not those before a registered one. Volatile: then silence must tell, or the word again.
    ended: VecDeque<(Member, Ended)>,
    /// The ticket with which the next life of each node registers. Volatile: a hello with a ticket
    /// names the life of the witness that gave it.
    tickets: BTreeMap<NodeId, u64>,
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
    /// When this life last asked for something, on its own clock. Volatile: as above.
    asked: Instant,
}

impl Node {
    /// What is registered with its hello.
    fn new(now: Instant, life: Incarnation, past: VecDeque<Incarnation>) -> Node {
        Node { life, past, registered: now, heard: now, asked: Instant::ZERO }
    }
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
            ended: VecDeque::new(),
            tickets: BTreeMap::new(),
            started: now,
            dirty: false,
        };
        let error = store.and_then(|bytes| witness.restore(bytes).err());
        if seed {
            // An old store's lives are as old as it is. Those that live say hello again.
            witness.nodes.clear();
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
        if let Message::Surrender { at } = message {
            return self.handle_surrender(now, header.from, at).map(|()| Effect::Nothing);
        }
        let same_life = header.to.incarnation == self.me.incarnation;
        if let Message::Dead { life } = message {
            // What was said to a former life of this witness may be long out of date.
            let said = if same_life {
                self.handle_dead(now, header.from, life)
            } else {
                Err(Drop::NotForMe)
            };
            return said.map(|()| Effect::Nothing);
        }
        if let Some(node) = self.nodes.get_mut(&header.from.node)
            && node.life == header.from.incarnation
        {
            node.heard = now;
            if let Message::Renew { sent, .. } | Message::Change(ChangeRequest { sent, .. }) =
                message
            {
                self.note_asked(header.from, sent);
            }
        }
        let answer = match message {
            Message::Hello { ticket } => {
                self.handle_hello(now, header.from, if same_life { ticket } else { 0 })
            }
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
            && entry.register.is_live()
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
