//! What one life of a node, or of the witness, says and hears under seal: its sessions with all others.
//!
//! Of two parties the one with the lower id begins every handshake (the witness has the highest), so there is never
//! more than one under way in each direction; only it has timers.
//!
//! ```text
//! begins: no session | it is old or used up | silent | told of another life -> Begin, again with longer pauses
//! A (lower)                               B
//!   | Begin(to: B's life or zero, n) ---->|   not its present life: nothing is computed
//!   |<-------------------- Life(echo n) --|
//!   | Begin(to: B's life, n+1) ---------->|   a session, not used before A has spoken in it
//!   |<------------------- Answer(n+1) ----|
//!   | (empty message) ------------------->|   now it is used by both; the one before is kept for a while
//! ```
//!
//! A number is taken once from each life, and a Begin names the life that it is for: so what was recorded is of no use,
//! and B computes a handshake only for who holds the key and has just asked. A restarted B does not know the session of
//! A's messages and says `Life`; that is a hint which A checks by beginning, and so is a session in which nothing
//! is heard any more.
//!
//! Use: [`Party::open`] for what arrives, [`Party::seal`] for what leaves, [`Party::handle_timeout`] at least once a
//! heartbeat; then [`Party::poll_datagram`] and [`Party::poll_keys`] until empty.
//!
//! Bounds: one entry for each of [`NodeId::MAX`] nodes and the witness; of each [`HANDSHAKES_PENDING_MAX`] handshakes
//! under way in each direction, two sessions, [`LIVES_MAX`] lives.

use super::cipher::{Entropy, SEED_BYTES};
use super::handshake::{Initiator, NOISE_BYTES, prologue, respond};
use super::key::{KeyId, Keyring};
use super::link::LinkKeys;
use super::session::Session;
use super::statement::{self, SALT_BYTES, Statement};
use super::{HEADER_BYTES, Kind, TAG_BYTES, Unopened, kind, read_header};
use crate::id::{Incarnation, Member, NodeId};
use crate::limits::{
    HANDSHAKE_PAUSE, HANDSHAKE_PAUSE_MAX, HANDSHAKES_PENDING_MAX, HINTS_PER_SECOND, SESSION_KEPT,
    SESSION_RENEW, SESSION_SILENT,
};
use crate::message;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use stack::time::{Duration, Instant};

mod peer;

use peer::{Attempt, Peer};

/// What arrived, opened.
#[derive(Debug, PartialEq, Eq)]
pub enum Opened<'a> {
    /// What an agent, the witness or a guardian says.
    Datagram(&'a [u8]),
    /// Nothing but this answer, to where it came from.
    Reply(Vec<u8>),
    /// Nothing to be done.
    Nothing,
}

/// What a party counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Datagrams opened, handshakes included.
    pub opened: u64,
    /// Messages sealed.
    pub sealed: u64,
    /// Datagrams not opened, by reason (the order of [`Unopened`]).
    pub unopened: [u64; Unopened::COUNT],
    /// Messages not sent for want of a session.
    pub no_session: u64,
    /// Handshakes begun.
    pub begun: u64,
    /// Handshakes answered.
    pub answered: u64,
    /// Sessions that came into use.
    pub sessions: u64,
    /// Hints not given because others were given just before.
    pub hints_withheld: u64,
}

/// How one party stands towards another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Standing {
    /// The other one.
    pub node: NodeId,
    /// Under which pre-shared key their session was made; `None` if there is no session.
    pub key: Option<KeyId>,
    /// Time since its keys were made.
    pub age: Duration,
    /// Whether nothing was heard in it for a while although something was said.
    pub is_silent: bool,
}

/// One life of a node or of the witness.
pub struct Party {
    me: Member,
    ring: Keyring,
    entropy: Entropy,
    peers: Vec<Peer>,
    /// Counts this life's beginnings.
    number: u64,
    outbox: VecDeque<(NodeId, Vec<u8>)>,
    fresh: VecDeque<LinkKeys>,
    hints: Hints,
    counters: Counters,
}

impl Party {
    /// `others`: with whom it speaks; who is not among them is taken up when it is heard (by the witness, say). `seed`:
    /// random bytes that nobody else has.
    pub fn new(
        now: Instant,
        me: Member,
        ring: Keyring,
        others: impl IntoIterator<Item = NodeId>,
        seed: [u8; SEED_BYTES],
    ) -> Party {
        let others = others.into_iter().filter(|node| *node != me.node);
        Party {
            me,
            ring,
            entropy: Entropy::new(seed),
            peers: others.map(|node| Peer::new(now, node)).collect(),
            number: 0,
            outbox: VecDeque::new(),
            fresh: VecDeque::new(),
            hints: Hints { since: now, given: 0 },
            counters: Counters::default(),
        }
    }

    /// What it counted.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// What its keys are called, the one that it speaks under first.
    pub fn keys(&self) -> impl Iterator<Item = KeyId> + '_ {
        self.ring.ids()
    }

    /// How it stands towards each other.
    pub fn standings(&self, now: Instant) -> impl Iterator<Item = Standing> + '_ {
        self.peers.iter().map(move |peer| {
            let session = peer.current.as_ref();
            Standing {
                node: peer.node,
                key: session.map(|session| session.key),
                age: session.map_or(Duration::ZERO, |session| now.since(session.born)),
                is_silent: session.is_some_and(|session| session.is_silent(now, SESSION_SILENT)),
            }
        })
    }

    /// Seals a message; `None` without a session: it is as if the network had lost it.
    pub fn seal(&mut self, now: Instant, to: NodeId, plain: &[u8]) -> Option<Vec<u8>> {
        let peer = self.peers.iter_mut().find(|peer| peer.node == to);
        let session = peer.and_then(|peer| peer.current.as_mut());
        let sealed = session.and_then(|session| session.seal(now, plain));
        match sealed {
            Some(_) => self.counters.sealed += 1,
            None => self.counters.no_session += 1,
        }
        sealed
    }

    /// Begins the handshakes that are due, and forgets keys that are not needed any more.
    pub fn handle_timeout(&mut self, now: Instant) {
        for index in 0..self.peers.len() {
            let peer = &mut self.peers[index];
            if peer.current.as_ref().is_some_and(|current| now >= current.born + SESSION_KEPT) {
                peer.former = None;
            }
            if self.me.node < peer.node && peer.wants_session(now) && now >= peer.begin_at {
                self.begin(now, index);
            }
        }
    }

    /// The next datagram of a handshake: to whom.
    pub fn poll_datagram(&mut self) -> Option<(NodeId, Vec<u8>)> {
        self.outbox.pop_front()
    }

    /// Keys of a session that has come into use, for the cores. To be given to them before anything else is sealed.
    pub fn poll_keys(&mut self) -> Option<LinkKeys> {
        self.fresh.pop_front()
    }

    /// Opens what has arrived, in place. What is wrong with it is counted.
    pub fn open<'a>(&mut self, now: Instant, bytes: &'a mut [u8]) -> Result<Opened<'a>, Unopened> {
        let opened = match kind(bytes) {
            Ok(Kind::Message) => self.open_message(now, bytes),
            Ok(Kind::Statement) => self.open_statement(now, bytes),
            Ok(Kind::Mirror) => Err(Unopened::OtherVersion),
            Err(reason) => Err(reason),
        };
        match &opened {
            Ok(_) => self.counters.opened += 1,
            Err(reason) => self.counters.unopened[*reason as usize] += 1,
        }
        opened
    }

    /// What a stranger to its session is told, if it is worth an answer: call it after [`Unopened::UnknownSession`] and
    /// [`Unopened::OtherKey`]. It is shorter than what it answers.
    pub fn hint(&mut self, now: Instant, unopened: &[u8]) -> Option<Vec<u8>> {
        // Who changes keys may hold the other one only.
        let key = self.hints.given as usize % self.ring.keys.len();
        // Longer than a hint: no hint answers another.
        if unopened.len() <= statement::LIFE_BYTES || !self.hints.give(now) {
            self.counters.hints_withheld += 1;
            return None;
        }
        let salt = self.salt();
        let life = Statement::Life { echo: 0 };
        Some(statement::seal(&self.ring.keys[key], self.me, salt, &life))
    }

    fn open_message<'a>(
        &mut self,
        now: Instant,
        bytes: &'a mut [u8],
    ) -> Result<Opened<'a>, Unopened> {
        let (id, place) = read_header(bytes)?;
        if bytes.len() < HEADER_BYTES + TAG_BYTES {
            return Err(Unopened::Short);
        }
        let mut peers = self.peers.iter_mut();
        let known = peers.find_map(|peer| Some((peer.session(id)?.peer, peer)));
        let (from, peer) = known.ok_or(Unopened::UnknownSession)?;
        let session = peer.session(id).ok_or(Unopened::UnknownSession)?;
        let len = session.open(now, place, bytes)?;
        if peer.confirm(id) {
            self.counters.sessions += 1;
            self.fresh.extend(peer.current.as_ref().map(Session::link_keys));
        }
        let datagram = &bytes[HEADER_BYTES..HEADER_BYTES + len];
        match message::header(datagram) {
            // Nothing but the word that a session is in use.
            _ if datagram.is_empty() => Ok(Opened::Nothing),
            Ok(header) if header.from != from => Err(Unopened::Misattributed),
            _ => Ok(Opened::Datagram(datagram)),
        }
    }

    fn open_statement<'a>(
        &mut self,
        now: Instant,
        bytes: &'a mut [u8],
    ) -> Result<Opened<'a>, Unopened> {
        let (key, from, statement) = statement::open(&self.ring, bytes)?;
        if from.node == self.me.node {
            return Err(Unopened::Misattributed);
        }
        match statement {
            Statement::Begin { to, number, noise } => {
                self.answer(now, (key, from), to, number, noise)
            }
            Statement::Answer { number, noise } => self.finish(now, from, number, noise),
            Statement::Life { echo } => self.note_life(now, from, echo),
            Statement::Surrender(datagram) if statement::is_surrender_of(from, datagram) => {
                Ok(Opened::Datagram(datagram))
            }
            Statement::Surrender(_) => Err(Unopened::Misattributed),
        }
    }

    fn begin(&mut self, now: Instant, index: usize) {
        let random = self.entropy.draw();
        let salt = self.salt();
        self.number += 1;
        let (me, number) = (self.me, self.number);
        let peer = &mut self.peers[index];
        // An answer may need the other key: whoever changes keys does so node by node.
        let key = peer.tries as usize % self.ring.keys.len();
        let held = &self.ring.keys[key];
        let to = Member { node: peer.node, incarnation: peer.life };
        let (noise, first) =
            Initiator::begin(&held.key, &prologue(self.ring.cluster, me, to, number), random);
        let attempt = Attempt { number, key, to, noise };
        let statement = Statement::Begin { to, number, noise: &first };
        self.outbox.push_back((peer.node, statement::seal(held, me, salt, &statement)));
        peer.note_begun(now, attempt);
        self.counters.begun += 1;
    }

    /// A Begin from `from` under that key.
    fn answer<'a>(
        &mut self,
        now: Instant,
        (key, from): (usize, Member),
        to: Member,
        number: u64,
        noise: &[u8; NOISE_BYTES],
    ) -> Result<Opened<'a>, Unopened> {
        let is_node = (1..=NodeId::MAX).contains(&from.node.0);
        if to.node != self.me.node || from.node > self.me.node || !is_node {
            return Err(Unopened::Misattributed);
        }
        let salt = self.salt();
        if to.incarnation != self.me.incarnation {
            let life = Statement::Life { echo: number };
            return Ok(Opened::Reply(statement::seal(&self.ring.keys[key], self.me, salt, &life)));
        }
        let random = self.entropy.draw();
        let index = self.peers.iter().position(|peer| peer.node == from.node);
        let index = index.unwrap_or_else(|| {
            self.peers.push(Peer::new(now, from.node));
            self.peers.len() - 1
        });
        let (peer, held) = (&mut self.peers[index], &self.ring.keys[key]);
        if !peer.is_new(from.incarnation, number) {
            return Err(Unopened::Repeated);
        }
        let prologue = prologue(self.ring.cluster, from, to, number);
        let (second, secrets) =
            respond(&held.key, &prologue, random, noise).ok_or(Unopened::Forged)?;
        peer.note_answered(Session::new(now, &secrets, from, held.id, false));
        self.counters.answered += 1;
        let answer = Statement::Answer { number, noise: &second };
        Ok(Opened::Reply(statement::seal(held, self.me, salt, &answer)))
    }

    /// An Answer to one of our beginnings.
    fn finish<'a>(
        &mut self,
        now: Instant,
        from: Member,
        number: u64,
        noise: &[u8; NOISE_BYTES],
    ) -> Result<Opened<'a>, Unopened> {
        let peer = self.peers.iter_mut().find(|peer| peer.node == from.node);
        let peer = peer.ok_or(Unopened::Late)?;
        let attempt = peer.attempt(number).filter(|attempt| attempt.to == from);
        let attempt = attempt.ok_or(Unopened::Late)?;
        let secrets = attempt.noise.finish(noise).ok_or(Unopened::Forged)?;
        let key = self.ring.keys[attempt.key].id;
        let mut session = Session::new(now, &secrets, from, key, true);
        self.fresh.push_back(session.link_keys());
        // The other side uses it when it has heard something in it.
        self.outbox.extend(session.seal(now, &[]).map(|bytes| (from.node, bytes)));
        peer.use_session(session);
        peer.note_finished(now);
        self.counters.sessions += 1;
        Ok(Opened::Nothing)
    }

    /// The other's present life, by its own word; fresh if `echo` is the number of a beginning of ours.
    fn note_life<'a>(
        &mut self,
        now: Instant,
        from: Member,
        echo: u64,
    ) -> Result<Opened<'a>, Unopened> {
        let index = self.peers.iter().position(|peer| peer.node == from.node);
        let index = index.filter(|_| self.me.node < from.node).ok_or(Unopened::Late)?;
        let peer = &mut self.peers[index];
        if echo == 0 {
            peer.note_hint(now, from.incarnation);
        } else if !peer.note_fresh_life(echo, from.incarnation) {
            return Err(Unopened::Late);
        }
        // A fresh word is answered at once: there is one for each beginning.
        if peer.wants_session(now) && (echo != 0 || now >= peer.begin_at) {
            self.begin(now, index);
        }
        Ok(Opened::Nothing)
    }

    fn salt(&mut self) -> [u8; SALT_BYTES] {
        *self.entropy.draw().first_chunk().expect("a draw of 32 bytes")
    }
}

/// How many hints were given in this second.
struct Hints {
    since: Instant,
    given: u64,
}

impl Hints {
    fn give(&mut self, now: Instant) -> bool {
        if now.since(self.since) >= Duration::from_secs(1) {
            *self = Hints { since: now, given: 0 };
        }
        let is_given = self.given < HINTS_PER_SECOND;
        self.given += is_given as u64;
        is_given
    }
}

#[cfg(test)]
mod tests;
