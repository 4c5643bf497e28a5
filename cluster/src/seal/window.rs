//! Which counters of a session have been seen: each is taken once, and the newest 1024 in any order.
//!
//! Spec: RFC 6479 (a ring of words, of which the one that the newest is in moves on).
//! Units: counters of datagrams.

/// Bits of a word.
const BITS: u64 = u64::BITS as u64;

/// Words of the ring.
const WORDS: u64 = 17;

/// Counters behind the newest that are still taken: a burst of 64 frames on each of many paths, many times.
pub const WINDOW: u64 = (WORDS - 1) * BITS;

/// The counters seen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Window {
    /// The newest, plus one; zero if there is none.
    next: u64,
    words: [u64; WORDS as usize],
}

impl Window {
    /// Whether a counter may be taken: it is new.
    #[inline]
    pub fn is_new(&self, counter: u64) -> bool {
        if counter >= self.next {
            return true;
        }
        let is_kept = counter + WINDOW >= self.next;
        is_kept && self.words[word(counter)] & bit(counter) == 0
    }

    /// Notes a counter whose datagram was opened. Call it only if it is new.
    #[inline]
    pub fn note(&mut self, counter: u64) {
        if counter >= self.next {
            // Words between the newest counter's and this one's begin anew.
            let newest = self.next.saturating_sub(1) / BITS;
            let passed = (counter / BITS - newest).min(WORDS);
            for n in 1..=passed {
                self.words[((newest + n) % WORDS) as usize] = 0;
            }
            self.next = counter + 1;
        }
        self.words[word(counter)] |= bit(counter);
    }
}

#[inline]
fn word(counter: u64) -> usize {
    (counter / BITS % WORDS) as usize
}

#[inline]
fn bit(counter: u64) -> u64 {
    1 << (counter % BITS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;

    #[test]
    fn each_counter_is_taken_once_and_old_ones_not_at_all() {
        let mut window = Window::default();
        for counter in [0, 5, 3, 1023, 1, 1024, 4000] {
            assert!(window.is_new(counter), "{counter}");
            window.note(counter);
            assert!(!window.is_new(counter), "{counter}");
        }
        assert!(!window.is_new(4000 - WINDOW - 1) && window.is_new(4001 - WINDOW));
        assert!(window.is_new(4001) && window.is_new(u64::MAX >> 16));
    }

    #[test]
    fn it_agrees_with_a_set_whatever_the_order() {
        let (mut window, mut seen, mut newest) = (Window::default(), BTreeSet::new(), 0u64);
        let mut state = 7u64;
        for _ in 0..200_000 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let ahead = if state.is_multiple_of(97) { 3000 } else { 40 };
            let counter = (newest + (state >> 8) % ahead).saturating_sub((state >> 40) % 1200);
            let expected = counter + WINDOW > newest && !seen.contains(&counter);
            assert_eq!(window.is_new(counter), expected, "{counter} beside {newest}");
            if expected {
                window.note(counter);
                seen.insert(counter);
                newest = newest.max(counter);
            }
        }
    }
}
