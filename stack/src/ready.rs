//! The flows that may have something to say, in the order in which they were touched.
//!
//! A singly linked list in one array: a flow is in it at most once. Almost always the one at the front leaves;
//! one that leaves from elsewhere is marked and passed over, or, if it comes back first, has kept its place.

use alloc::vec::Vec;

/// Not in the queue.
const OUTSIDE: u32 = DEAD - 2;
/// Behind the last one.
const END: u32 = DEAD - 1;
/// Added to the link of one that has left.
const DEAD: u32 = 1 << 31;

/// A queue of slots.
pub struct Ready {
    next: Vec<u32>,
    /// Never a dead one.
    head: u32,
    tail: u32,
}

impl Ready {
    /// Bytes of one place.
    pub const PLACE_BYTES: usize = size_of::<u32>();

    /// Takes memory for slots below `capacity`.
    pub fn new(capacity: usize) -> Ready {
        assert!(capacity < OUTSIDE as usize);
        Ready { next: alloc::vec![OUTSIDE; capacity], head: END, tail: END }
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.head == END
    }

    /// Reads what is known of `slot`, so that its memory is on its way.
    #[inline]
    pub(crate) fn touch(&self, slot: u32) -> u64 {
        self.next[slot as usize] as u64
    }

    /// Puts a slot at the end, unless it is in the queue.
    #[inline]
    pub fn push(&mut self, slot: u32) {
        if self.next[slot as usize] != OUTSIDE {
            self.next[slot as usize] &= !DEAD;
            return;
        }
        self.next[slot as usize] = END;
        match self.head {
            END => self.head = slot,
            // The last one may be marked.
            _ => self.next[self.tail as usize] = self.next[self.tail as usize] & DEAD | slot,
        }
        self.tail = slot;
    }

    /// The slot at the front.
    #[inline]
    pub fn front(&self) -> Option<u32> {
        (self.head != END).then_some(self.head)
    }

    /// Takes a slot out, wherever it stands.
    #[inline]
    pub fn remove(&mut self, slot: u32) {
        if self.head != slot {
            if self.next[slot as usize] != OUTSIDE {
                self.next[slot as usize] |= DEAD;
            }
            return;
        }
        self.next[slot as usize] |= DEAD;
        while self.head != END && self.next[self.head as usize] & DEAD != 0 {
            let next = self.next[self.head as usize] & !DEAD;
            self.next[self.head as usize] = OUTSIDE;
            self.head = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_order_without_repeats() {
        let mut ready = Ready::new(5);
        for slot in [3, 1, 3, 4, 0] {
            ready.push(slot);
        }
        ready.remove(1);
        ready.remove(2);
        let mut order = Vec::new();
        while let Some(slot) = ready.front() {
            order.push(slot);
            ready.remove(slot);
        }
        assert_eq!(order, [3, 4, 0]);
        ready.push(1);
        ready.remove(1);
        assert!(ready.is_empty());
    }

    /// Against a list: marked ones at the end and in the middle, taken back, passed over.
    #[test]
    fn who_leaves_from_the_middle_is_passed_over() {
        let (mut ready, mut model) = (Ready::new(6), Vec::new());
        let mut random = 9u32;
        for _ in 0..20_000 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let slot = (random >> 16) % 6;
            if (random >> 28) < 8 {
                let was_marked = ready.next[slot as usize] & DEAD != 0;
                ready.push(slot);
                if was_marked {
                    // It has its old place: where that is, the queue itself knows best.
                    model = order(&ready);
                } else if !model.contains(&slot) {
                    model.push(slot);
                }
            } else {
                ready.remove(slot);
                model.retain(|other| *other != slot);
            }
            assert_eq!(order(&ready), model);
            assert_eq!(ready.front(), model.first().copied());
            assert_eq!(ready.is_empty(), model.is_empty());
        }
    }

    fn order(ready: &Ready) -> Vec<u32> {
        let mut order = Vec::new();
        let mut slot = ready.head;
        while slot != END {
            if ready.next[slot as usize] & DEAD == 0 {
                order.push(slot);
            }
            slot = ready.next[slot as usize] & !DEAD;
        }
        order
    }
}
