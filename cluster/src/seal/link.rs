//! Sealing for one core's side of the mirror link: datagrams sealed where the NIC takes them, opened where it put them.
//!
//! The agent's thread makes the keys; a core is given them ([`LinkSeal::install`]) and keeps two generations of each
//! node: what arrives is opened under either, what leaves is sealed under the newer one as soon as the other node is
//! known to have it, because something came under it, or a while has passed. Each pair of cores counts for itself, and
//! both cores are in the counter's place: so no place is used twice under one key, and a datagram that is sent again is
//! sealed anew.
//!
//! Path: step 6 and the peer's first. Nothing is allocated but by an order of the agent.
//! Bounds: [`NodeId::MAX`] nodes, [`CORES_MAX`] cores each, [`SESSION_DATAGRAMS_MAX`] datagrams.

use super::cipher::Cipher;
use super::handshake::Keys;
use super::window::Window;
use super::{HEADER_BYTES, Kind, OVERHEAD_BYTES, TAG_BYTES, Unopened, header, kind, read_header};
use crate::id::{Member, NodeId};
use crate::limits::{CORES_MAX, SESSION_DATAGRAMS_MAX, SESSION_KEPT, SESSION_SETTLED};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use stack::time::Instant;

/// The keys of a session's mirror datagrams, on their way from the agent to the cores.
#[derive(Clone)]
pub struct LinkKeys {
    session: u32,
    peer: Member,
    send: [u8; 32],
    receive: [u8; 32],
}

impl LinkKeys {
    pub(super) fn new(session: u32, peer: Member, keys: &Keys) -> LinkKeys {
        LinkKeys { session, peer, send: keys.send, receive: keys.receive }
    }

    /// The life at the other end.
    pub fn peer(&self) -> Member {
        self.peer
    }

    /// What one core needs of them; made by the agent's thread.
    pub fn session(&self) -> Box<LinkSession> {
        Box::new(LinkSession {
            id: self.session,
            peer: self.peer,
            send: Cipher::new(&self.send),
            receive: Cipher::new(&self.receive),
            next: [0; CORES_MAX as usize],
            windows: [Window::default(); CORES_MAX as usize],
        })
    }
}

impl fmt::Debug for LinkKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LinkKeys({:08x} with {:?}, not shown)", self.session, self.peer)
    }
}

/// A session as one core uses it.
pub struct LinkSession {
    id: u32,
    peer: Member,
    send: Cipher,
    receive: Cipher,
    /// The counter of the next datagram to each core of the peer.
    next: [u64; CORES_MAX as usize],
    /// What has come from each core of the peer.
    windows: [Window; CORES_MAX as usize],
}

/// What the sealing of a core's link has counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LinkSealCounters {
    /// Datagrams opened.
    pub opened: u64,
    /// Datagrams sealed.
    pub sealed: u64,
    /// Datagrams not opened, by reason (the order of [`Unopened`]).
    pub unopened: [u64; Unopened::COUNT],
    /// Datagrams not sent for want of a session.
    pub no_session: u64,
}

/// One other node.
struct Pair {
    current: Box<LinkSession>,
    /// The one before, of the same life.
    former: Option<Box<LinkSession>>,
    /// The keys of that are gone. Its memory stays until another takes its place: a core that serves gives none back.
    is_former_over: bool,
    /// From when on the current one is known to the other side.
    settled: Instant,
}

/// The sealing of one core's side of the mirror link.
pub struct LinkSeal {
    core: u8,
    pairs: Vec<Pair>,
    counters: LinkSealCounters,
}

impl LinkSeal {
    /// For this core; it seals and opens nothing before it is given a session.
    pub fn new(core: u8) -> LinkSeal {
        let pairs = Vec::with_capacity(NodeId::MAX as usize);
        LinkSeal { core, pairs, counters: LinkSealCounters::default() }
    }

    /// Counters so far.
    pub fn counters(&self) -> LinkSealCounters {
        self.counters
    }

    /// Takes the newest session with another node. A session with its former life is over.
    pub fn install(&mut self, now: Instant, session: Box<LinkSession>) {
        let node = session.peer.node;
        match self.pairs.iter_mut().find(|pair| pair.current.peer.node == node) {
            Some(pair) => {
                let replaced = core::mem::replace(&mut pair.current, session);
                let is_same_life = replaced.peer == pair.current.peer;
                pair.former = is_same_life.then_some(replaced);
                pair.is_former_over = false;
                pair.settled = now + SESSION_SETTLED;
            }
            None => self.pairs.push(Pair {
                current: session,
                former: None,
                is_former_over: false,
                settled: now,
            }),
        }
    }

    /// Whether there is a session with that life; counted if not.
    #[inline]
    pub fn has_session(&mut self, with: Member) -> bool {
        let is_known = self.pairs.iter().any(|pair| pair.current.peer == with);
        self.counters.no_session += !is_known as u64;
        is_known
    }

    /// Writes the sealed form of `plain`, for a core of another node, into `buffer`; answers its length, or `None` if
    /// there is no session with that life or no room.
    #[inline]
    pub fn seal(
        &mut self,
        now: Instant,
        (to, to_core): (Member, u8),
        buffer: &mut [u8],
        plain: &[u8],
    ) -> Option<usize> {
        let core = self.core;
        let sealed = self
            .session_to(now, to)
            .and_then(|session| session.seal((core, to_core), buffer, plain));
        match sealed {
            Some(_) => self.counters.sealed += 1,
            None => self.counters.no_session += 1,
        }
        sealed
    }

    fn session_to(&mut self, now: Instant, to: Member) -> Option<&mut LinkSession> {
        let pair = self.pairs.iter_mut().find(|pair| pair.current.peer == to)?;
        if now >= pair.settled + SESSION_KEPT {
            pair.end_former();
        }
        match &mut pair.former {
            Some(former) if now < pair.settled => Some(former),
            _ => Some(&mut pair.current),
        }
    }

    /// Opens a datagram in place: whose it is, and what it says.
    #[inline]
    pub fn open<'a>(
        &mut self,
        now: Instant,
        bytes: &'a mut [u8],
    ) -> Result<(Member, &'a [u8]), Unopened> {
        let opened = self.try_open(now, bytes);
        match opened {
            Ok(_) => self.counters.opened += 1,
            Err(reason) => self.counters.unopened[reason as usize] += 1,
        }
        opened
    }

    fn try_open<'a>(
        &mut self,
        now: Instant,
        bytes: &'a mut [u8],
    ) -> Result<(Member, &'a [u8]), Unopened> {
        if kind(bytes)? != Kind::Mirror {
            return Err(Unopened::OtherVersion);
        }
        let (id, place) = read_header(bytes)?;
        for pair in &mut self.pairs {
            if pair.current.id == id {
                let len = pair.current.open(self.core, place, bytes)?;
                pair.settled = pair.settled.min(now);
                return Ok((pair.current.peer, &bytes[HEADER_BYTES..HEADER_BYTES + len]));
            }
            let is_over = pair.is_former_over;
            let former = pair.former.as_mut().filter(|former| former.id == id && !is_over);
            if let Some(former) = former {
                let len = former.open(self.core, place, bytes)?;
                return Ok((former.peer, &bytes[HEADER_BYTES..HEADER_BYTES + len]));
            }
        }
        Err(Unopened::UnknownSession)
    }
}

impl Pair {
    /// What was sealed under the former session opens no more, whoever reads this memory.
    fn end_former(&mut self) {
        if let Some(former) = &mut self.former
            && !self.is_former_over
        {
            (former.send, former.receive) = (Cipher::new(&[0; 32]), Cipher::new(&[0; 32]));
            self.is_former_over = true;
        }
    }
}

/// Where a datagram is among all of its direction: to which core, from which, the n-th.
#[inline]
fn place(to_core: u8, from_core: u8, counter: u64) -> [u8; 8] {
    let [a, b, c, d, e, f, ..] = counter.to_le_bytes();
    [to_core, from_core, a, b, c, d, e, f]
}

impl LinkSession {
    fn seal(
        &mut self,
        (from_core, to_core): (u8, u8),
        buffer: &mut [u8],
        plain: &[u8],
    ) -> Option<usize> {
        let next = self.next.get_mut(to_core as usize)?;
        if *next >= SESSION_DATAGRAMS_MAX {
            return None;
        }
        let len = plain.len() + OVERHEAD_BYTES;
        let buffer = buffer.get_mut(..len)?;
        let place = place(to_core, from_core, *next);
        *next += 1;
        let header = header(Kind::Mirror, self.id, place);
        let (head, rest) = buffer.split_at_mut(HEADER_BYTES);
        head.copy_from_slice(&header);
        let (body, end) = rest.split_at_mut(plain.len());
        body.copy_from_slice(plain);
        end.copy_from_slice(&self.send.seal(place, &header, body));
        Some(len)
    }

    fn open(&mut self, core: u8, place: [u8; 8], bytes: &mut [u8]) -> Result<usize, Unopened> {
        if bytes.len() < HEADER_BYTES + TAG_BYTES {
            return Err(Unopened::Short);
        }
        let [to_core, from_core, counter @ ..] = place;
        let [a, b, c, d, e, f] = counter;
        let counter = u64::from_le_bytes([a, b, c, d, e, f, 0, 0]);
        let window = self.windows.get_mut(from_core as usize).filter(|_| to_core == core);
        let window = window.ok_or(Unopened::Misattributed)?;
        if !window.is_new(counter) {
            return Err(Unopened::Repeated);
        }
        let (header, body) = bytes.split_at_mut(HEADER_BYTES);
        let len = self.receive.open(place, header, body).ok_or(Unopened::Forged)?;
        window.note(counter);
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Incarnation;

    const CORES: [u8; 2] = [0, 3];

    fn member(node: u8, life: u64) -> Member {
        Member { node: NodeId(node), incarnation: Incarnation(life) }
    }

    /// Both ends of a session between node 1 and that life of node 2.
    fn keys(session: u8, life: u64) -> (LinkKeys, LinkKeys) {
        let (one, other) = ([session; 32], [session ^ 0x80; 32]);
        let there = Keys { send: one, receive: other };
        let back = Keys { send: other, receive: one };
        let id = u32::from(session);
        (LinkKeys::new(id, member(2, life), &there), LinkKeys::new(id, member(1, 1), &back))
    }

    fn pair() -> (LinkSeal, LinkSeal) {
        let (mut a, mut b) = (LinkSeal::new(CORES[0]), LinkSeal::new(CORES[1]));
        let (there, back) = keys(1, 1);
        a.install(Instant(0), there.session());
        b.install(Instant(0), back.session());
        (a, b)
    }

    fn sealed(a: &mut LinkSeal, now: Instant, plain: &[u8]) -> Option<Vec<u8>> {
        let mut buffer = [0; 256];
        let len = a.seal(now, (member(2, 1), CORES[1]), &mut buffer, plain)?;
        Some(buffer[..len].to_vec())
    }

    fn opened(b: &mut LinkSeal, now: Instant, bytes: &[u8]) -> Result<Vec<u8>, Unopened> {
        let mut bytes = bytes.to_vec();
        let (from, plain) = b.open(now, &mut bytes)?;
        assert_eq!(from, member(1, 1));
        Ok(plain.to_vec())
    }

    #[test]
    fn the_same_records_are_never_sealed_alike_and_open_once() {
        let (mut a, mut b) = pair();
        let now = Instant(1);
        let first = sealed(&mut a, now, b"records").unwrap();
        let again = sealed(&mut a, now, b"records").unwrap();
        assert_eq!(first.len(), 7 + OVERHEAD_BYTES);
        assert_ne!(first[HEADER_BYTES..], again[HEADER_BYTES..]);
        assert_eq!(opened(&mut b, now, &again), Ok(b"records".to_vec()));
        assert_eq!(opened(&mut b, now, &first), Ok(b"records".to_vec()));
        assert_eq!(opened(&mut b, now, &first), Err(Unopened::Repeated));
        for at in 0..again.len() {
            let mut forged = sealed(&mut a, now, b"records").unwrap();
            forged[at] ^= 0x10;
            assert!(opened(&mut b, now, &forged).is_err(), "byte {at}");
            assert!(opened(&mut b, now, &forged[..at]).is_err(), "cut at {at}");
        }
        assert_eq!((a.counters().sealed, b.counters().opened), (2 + again.len() as u64, 2));
    }

    #[test]
    fn each_pair_of_cores_counts_for_itself() {
        let (mut a, mut b) = pair();
        let now = Instant(1);
        let mut other = LinkSeal::new(9);
        other.install(now, keys(1, 1).0.session());
        let to_other_core = {
            let mut buffer = [0; 256];
            let len = a.seal(now, (member(2, 1), 4), &mut buffer, b"records").unwrap();
            buffer[..len].to_vec()
        };
        assert_eq!(super::super::to_core(&to_other_core), Some(4));
        assert_eq!(opened(&mut b, now, &to_other_core), Err(Unopened::Misattributed));
        // The first of two cores, each with the first counter.
        for from in [&mut a, &mut other] {
            let first = sealed(from, now, b"records").unwrap();
            assert_eq!(opened(&mut b, now, &first), Ok(b"records".to_vec()));
        }
    }

    #[test]
    fn two_generations_live_while_keys_change() {
        let (mut a, mut b) = pair();
        let mut now = Instant(1);
        let late = sealed(&mut a, now, b"late").unwrap();
        let (there, back) = keys(2, 1);
        a.install(now, there.session());
        // The other core does not have it yet: what leaves is still under the former one.
        let between = sealed(&mut a, now, b"between").unwrap();
        assert!(opened(&mut b, now, &between).is_ok());
        b.install(now, back.session());
        now += SESSION_SETTLED;
        let new = sealed(&mut a, now, b"new").unwrap();
        assert_ne!(new[4..8], between[4..8]);
        assert!(opened(&mut b, now, &new).is_ok() && opened(&mut b, now, &late).is_ok());
        // Hearing something under the new one is as good as waiting.
        let mut buffer = [0; 256];
        let len = b.seal(now, (member(1, 1), CORES[0]), &mut buffer, b"ack").unwrap();
        assert_eq!(buffer[4..8], new[4..8]);
        assert!(a.open(now, &mut buffer[..len]).is_ok());
        // A while later the former one is gone.
        now += SESSION_KEPT;
        assert!(b.seal(now, (member(1, 1), CORES[0]), &mut buffer, b"ack").is_some());
        let end = opened(&mut b, now, &between);
        assert_eq!(end, Err(Unopened::UnknownSession));
    }

    #[test]
    fn nothing_is_sent_to_another_life_or_beyond_the_counters() {
        let (mut a, mut b) = pair();
        let now = Instant(1);
        let old = sealed(&mut a, now, b"old").unwrap();
        a.install(now, keys(2, 2).0.session());
        assert_eq!(sealed(&mut a, now, b"records"), None);
        assert!(!a.has_session(member(2, 1)) && a.has_session(member(2, 2)));
        assert_eq!(a.counters().no_session, 2);
        let mut b2 = LinkSeal::new(CORES[1]);
        assert_eq!(opened(&mut b2, now, &old), Err(Unopened::UnknownSession));
        b.pairs[0].current.next[0] = SESSION_DATAGRAMS_MAX;
        let mut buffer = [0; 256];
        assert_eq!(b.seal(now, (member(1, 1), 0), &mut buffer, b"ack"), None);
    }
}
