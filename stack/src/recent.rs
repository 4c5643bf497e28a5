//! SYNs that went without an answer, remembered for a few seconds so that the second one has it.
//!
//! Under a flood there are answers for some of the SYNs only. A client says its SYN again, with the same
//! ports and sequence number; what a flood makes up it hardly repeats. So a repeated SYN is answered before
//! any first one. Two Bloom filters take turns (Bloom, "Space/time trade-offs in hash coding with allowable
//! errors", 1970): the younger is written, both are asked, and the older is emptied when they change places.
//! Whoever was noted is found; a few who were not are found, too, and are answered sooner than they should be.
//!
//! The hash is keyed: a flood cannot aim at the memory of somebody else's SYN, only fill all of it.
//!
//! Bounds: two filters of [`RECENT_BITS`], whatever comes. Units: time is the node's clock.

use crate::limits::{RECENT_BITS, RECENT_SYN};
use crate::time::Instant;
use alloc::boxed::Box;
use alloc::vec;

/// The memory.
pub struct Recent {
    /// Written, and the one before it.
    halves: [Box<[u64]>; 2],
    /// Whether there is a bit in either.
    is_written: [bool; 2],
    turned_at: Instant,
}

const _: () = assert!(RECENT_BITS.is_power_of_two() && RECENT_BITS.ilog2() == 22);

impl Recent {
    /// Takes memory.
    pub fn new() -> Recent {
        let half = || vec![0; RECENT_BITS / 64].into_boxed_slice();
        Recent { halves: [half(), half()], is_written: [false; 2], turned_at: Instant::default() }
    }

    /// Notes what a hash stands for.
    pub fn note(&mut self, now: Instant, hash: u64) {
        self.turn(now);
        self.is_written[0] = true;
        for (word, bit) in places(hash) {
            self.halves[0][word] |= bit;
        }
    }

    /// Whether this was noted lately.
    pub fn holds(&mut self, now: Instant, hash: u64) -> bool {
        self.turn(now);
        let has = |half: &[u64]| places(hash).iter().all(|&(word, bit)| half[word] & bit != 0);
        (0..2).any(|n| self.is_written[n] && has(&self.halves[n]))
    }

    /// The younger becomes the older; both are empty if that should have happened long ago.
    fn turn(&mut self, now: Instant) {
        let age = now.since(self.turned_at);
        if age < RECENT_SYN {
            return;
        }
        self.turned_at = now;
        self.halves.swap(0, 1);
        self.is_written.swap(0, 1);
        let is_stale = age.0 >= 2 * RECENT_SYN.0;
        for n in 0..=is_stale as usize {
            if core::mem::take(&mut self.is_written[n]) {
                self.halves[n].fill(0);
            }
        }
    }
}

impl Default for Recent {
    fn default() -> Recent {
        Recent::new()
    }
}

/// Three bits: words and masks.
fn places(hash: u64) -> [(usize, u64); 3] {
    [0, 21, 42].map(|shift| {
        let bit = (hash >> shift) as usize % RECENT_BITS;
        (bit / 64, 1 << (bit % 64))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Duration;

    fn spread(n: u64) -> u64 {
        let z = (n ^ n >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    #[test]
    fn whoever_was_noted_is_found_for_two_seconds_and_forgotten_after_four() {
        let mut recent = Recent::new();
        let start = Instant(7_000_000_000);
        for n in 0..40 {
            recent.note(start + Duration::from_millis(n * 100), spread(n));
        }
        let end = start + Duration::from_millis(3900);
        for n in 20..40 {
            assert!(recent.holds(end, spread(n)), "{n}");
        }
        let later = start + Duration::from_secs(9);
        assert!((0..40).all(|n| !recent.holds(later, spread(n))));
    }

    #[test]
    fn few_others_are_found_among_the_syns_of_a_flood() {
        let mut recent = Recent::new();
        let start = Instant(1_000_000_000);
        for n in 1..=800_000u64 {
            recent.note(start + Duration::from_micros(n * 5), spread(n));
        }
        let now = start + Duration::from_secs(4);
        let found = (1_000_001..=1_010_000).filter(|&n| recent.holds(now, spread(n))).count();
        assert!(found < 500, "{found} of 10000");
    }
}
