//! Which server a client was led to last: it is led there again for a while, whatever the others are.
//!
//! Owner and peer note the same from the same record, the opening of a server's leg, so nothing more is mirrored; a peer that
//! joins knows of clients whose connections it is given. What one core notes the others of its node are told, so that a
//! client's connections meet on one server whichever cores serve them.
//!
//! ```text
//! young: noted or asked for lately    old: the same, before young was full    forgotten: when it is full once more
//! ```
//!
//! Bounds: [`STICKS_MAX`] clients of a service on a core; beyond that those are forgotten that were not seen for longest.

use crate::time::Instant;
use crate::wire::Address;
use hashbrown::HashTable;

/// Clients of one service that a core remembers, half of them at least.
pub const STICKS_MAX: usize = 65_536;

/// A client and its server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stick {
    /// The client.
    pub client: Address,
    /// A keyed hash of that.
    pub hash: u64,
    /// The server's position.
    pub server: u16,
    /// Until when.
    pub until: Instant,
}

/// The clients of one service.
pub struct Sticks {
    young: HashTable<Stick>,
    old: HashTable<Stick>,
    half: usize,
}

impl Sticks {
    /// Room for so many clients is taken.
    pub fn new(max: usize) -> Sticks {
        let half = max / 2;
        let table = || HashTable::with_capacity(half);
        Sticks { young: table(), old: table(), half }
    }

    /// Where a client was led last, if that was not too long ago.
    pub fn get(&self, now: Instant, hash: u64, client: &Address) -> Option<Stick> {
        let is_it = |stick: &Stick| stick.client == *client;
        let found = self.young.find(hash, is_it).or_else(|| self.old.find(hash, is_it));
        found.filter(|stick| now < stick.until).copied()
    }

    /// A client was led somewhere.
    pub fn put(&mut self, stick: Stick) {
        let is_it = |known: &Stick| known.client == stick.client;
        if let Some(known) = self.young.find_mut(stick.hash, is_it) {
            *known = stick;
            return;
        }
        if self.young.len() == self.half {
            core::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
        // What is old of it is hidden by what is young.
        self.young.insert_unique(stick.hash, stick, |stick| stick.hash);
    }

    /// Keeps those alone whose server is still where it was.
    pub fn retain(&mut self, is_kept: impl Fn(&Stick) -> bool) {
        self.young.retain(|stick| is_kept(stick));
        self.old.retain(|stick| is_kept(stick));
    }

    /// Nobody is remembered any more.
    pub fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Duration;

    fn stick(n: u32, server: u16, until: Instant) -> Stick {
        let client = Address::v4(n.to_be_bytes());
        Stick { client, hash: u64::from(n).wrapping_mul(0x9E37_79B9_7F4A_7C15), server, until }
    }

    fn server(sticks: &Sticks, now: Instant, n: u32) -> Option<u16> {
        let Stick { client, hash, .. } = stick(n, 0, now);
        sticks.get(now, hash, &client).map(|stick| stick.server)
    }

    #[test]
    fn clients_are_remembered_for_their_time_and_within_the_bound() {
        let (start, mut sticks) = (Instant(1 << 40), Sticks::new(8));
        let until = start + Duration::from_secs(10);
        for n in 0..4 {
            sticks.put(stick(n, 7, until));
        }
        assert_eq!((0..4).filter(|&n| server(&sticks, start, n) == Some(7)).count(), 4);
        assert_eq!(server(&sticks, until, 0), None, "its time is over");
        // The newest word counts.
        sticks.put(stick(1, 8, until));
        assert_eq!(server(&sticks, start, 1), Some(8));
        for n in 4..8 {
            sticks.put(stick(n, 7, until));
        }
        assert_eq!((0..8).filter(|&n| server(&sticks, start, n).is_some()).count(), 8);
        // Who is seen again outlives those who are not.
        sticks.put(stick(1, 8, until));
        for n in 8..12 {
            sticks.put(stick(n, 7, until));
        }
        let known = (0..12).filter(|&n| server(&sticks, start, n).is_some());
        assert_eq!(known.collect::<alloc::vec::Vec<_>>(), [1, 8, 9, 10, 11]);
        assert!(sticks.young.len() + sticks.old.len() <= 8);
        sticks.clear();
        assert_eq!(server(&sticks, start, 11), None);
    }
}
