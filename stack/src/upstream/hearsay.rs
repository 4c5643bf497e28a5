//! What is decided about servers that have no place here, kept for the day on which they have one.
//!
//! Nodes are reloaded one after the other. So an owner may decide something about a server that its peer's file does not have
//! yet, or no longer, and says it once; and one core of a node may hear from another of a server before its own reload. A
//! [`Word`] about such a server waits here. A reload that gives the server a place takes it from here, and one that gives a
//! server's place to another leaves what was decided about it here: what is in force for a server is in one of the two, and is
//! told on from there, to the next peer and to the other cores.
//!
//! Bounds: [`HEARSAY_MAX`] servers, of which the one is forgotten, and counted, about which nothing was decided for longest:
//! most that come to be here have left the files for good.

use super::decision::Word;
use crate::limits::HEARSAY_MAX;
use crate::wire::Address;
use alloc::vec::Vec;
use core::cmp::Ordering;

/// A word about a server that has no place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Heard {
    pub word: Word,
    /// Which change of the roster that was.
    pub change: u64,
    /// The other cores of this node have yet to hear of it.
    pub is_untold: bool,
}

/// The words that wait.
#[derive(Debug, Default)]
pub(super) struct Hearsay {
    heard: Vec<Heard>,
    max: usize,
    /// Words that were forgotten for want of room, since this was last asked.
    forgotten: u64,
}

impl Hearsay {
    /// Room for as many as may be needed, or, where there are no servers, for none. Nothing is allocated later.
    pub fn new(has_servers: bool) -> Hearsay {
        let max = if has_servers { HEARSAY_MAX } else { 0 };
        Hearsay { heard: Vec::with_capacity(max), max, forgotten: 0 }
    }

    /// Takes over what `old` has, if that had room for anything. Nothing is allocated.
    pub fn succeed(&mut self, old: &mut Hearsay) {
        if self.max == old.max {
            core::mem::swap(self, old);
        }
    }

    /// How a word stands to what is known of its server: it counts if it is newer.
    pub fn compare(&self, word: &Word) -> Ordering {
        let known = self.heard.iter().find(|heard| heard.word.is_about(&word.address, word.port));
        word.told().cmp(&known.map(|heard| heard.word.told()).unwrap_or_default())
    }

    /// Keeps a word in place of what is known of its server.
    pub fn keep(&mut self, heard: Heard) {
        let Word { address, port, .. } = heard.word;
        self.take(&address, port);
        if self.max == 0 {
            self.forgotten += 1;
            return;
        }
        if self.heard.len() == self.max {
            let oldest = self.heard.iter().enumerate().min_by_key(|(_, heard)| heard.change);
            let (at, _) = oldest.expect("it is full");
            self.heard.swap_remove(at);
            self.forgotten += 1;
        }
        self.heard.push(heard);
    }

    /// What is known of a server, which has a place from now on.
    pub fn take(&mut self, address: &Address, port: u16) -> Option<Heard> {
        let at = self.heard.iter().position(|heard| heard.word.is_about(address, port))?;
        Some(self.heard.swap_remove(at))
    }

    /// All of it.
    pub fn iter(&self) -> impl Iterator<Item = &Heard> {
        self.heard.iter()
    }

    /// All of it, to be told to the other cores or told.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Heard> {
        self.heard.iter_mut()
    }

    /// Somebody else will say what is in force.
    pub fn clear(&mut self) {
        self.heard.clear();
    }

    /// Words that were forgotten since this was last asked.
    pub fn take_forgotten(&mut self) -> u64 {
        core::mem::take(&mut self.forgotten)
    }
}

#[cfg(test)]
mod tests {
    use super::super::decision::{Admin, Decided};
    use super::*;

    fn heard(server: u16, revision: u32, change: u64) -> Heard {
        let decided = Decided { admin: Admin::Drain, ..Decided::default() };
        let word = Word { address: Address::v4([10, 2, 0, 1]), port: server, revision, decided };
        Heard { word, change, is_untold: false }
    }

    #[test]
    fn the_newest_word_about_each_server_waits() {
        let mut hearsay = Hearsay::new(true);
        assert_eq!(hearsay.compare(&heard(80, 1, 1).word), Ordering::Greater);
        hearsay.keep(heard(80, 2, 1));
        hearsay.keep(heard(81, 1, 2));
        assert_eq!(hearsay.compare(&heard(80, 1, 3).word), Ordering::Less);
        assert_eq!(hearsay.compare(&heard(80, 2, 3).word), Ordering::Equal);
        hearsay.keep(heard(80, 3, 3));
        let address = Address::v4([10, 2, 0, 1]);
        assert_eq!(hearsay.take(&address, 80), Some(heard(80, 3, 3)));
        assert_eq!(hearsay.take(&address, 80), None, "it has a place now");
        assert_eq!(hearsay.iter().count(), 1);
    }

    #[test]
    fn where_there_is_no_room_the_oldest_is_forgotten_and_counted() {
        let mut hearsay = Hearsay::new(true);
        let room = HEARSAY_MAX as u16;
        (0..room).for_each(|n| hearsay.keep(heard(n, 1, 1 + u64::from(n))));
        hearsay.keep(heard(0, 2, 2000));
        assert_eq!(hearsay.take_forgotten(), 0, "it was there");
        hearsay.keep(heard(room, 1, 2001));
        assert_eq!((hearsay.take_forgotten(), hearsay.take_forgotten()), (1, 0));
        let address = Address::v4([10, 2, 0, 1]);
        assert_eq!(hearsay.take(&address, 1), None);
        assert!(hearsay.take(&address, 0).is_some());
        let capacity = hearsay.heard.capacity();
        assert!((HEARSAY_MAX..2 * HEARSAY_MAX).contains(&capacity), "it is taken at start");
    }

    #[test]
    fn a_service_without_servers_keeps_nothing() {
        let mut hearsay = Hearsay::new(false);
        hearsay.keep(heard(80, 1, 1));
        assert_eq!((hearsay.iter().count(), hearsay.take_forgotten()), (0, 1));
        assert_eq!(hearsay.heard.capacity(), 0);
    }
}
