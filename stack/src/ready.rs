//! The flows that may have something to say, in the order in which they were touched.
//!
//! A doubly linked list in two arrays: a flow is in it at most once, and is taken out wherever it stands.

use crate::pool::NONE;
use alloc::vec::Vec;

const OUTSIDE: u32 = u32::MAX - 1;

/// A queue of slots.
pub struct Ready {
    next: Vec<u32>,
    previous: Vec<u32>,
    head: u32,
    tail: u32,
}

impl Ready {
    /// Takes memory for slots below `capacity`.
    pub fn new(capacity: usize) -> Ready {
        Ready {
            next: alloc::vec![OUTSIDE; capacity],
            previous: alloc::vec![NONE; capacity],
            head: NONE,
            tail: NONE,
        }
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.head == NONE
    }

    /// Reads what is known of `slot`, so that its memory is on its way.
    #[inline]
    pub(crate) fn touch(&self, slot: u32) -> u64 {
        (self.next[slot as usize] ^ self.previous[slot as usize]) as u64
    }

    /// Puts a slot at the end, unless it is in the queue.
    #[inline]
    pub fn push(&mut self, slot: u32) {
        if self.next[slot as usize] != OUTSIDE {
            return;
        }
        self.next[slot as usize] = NONE;
        self.previous[slot as usize] = self.tail;
        match self.tail {
            NONE => self.head = slot,
            tail => self.next[tail as usize] = slot,
        }
        self.tail = slot;
    }

    /// The slot at the front.
    #[inline]
    pub fn front(&self) -> Option<u32> {
        (self.head != NONE).then_some(self.head)
    }

    /// Takes a slot out, wherever it stands.
    #[inline]
    pub fn remove(&mut self, slot: u32) {
        let (next, previous) = (self.next[slot as usize], self.previous[slot as usize]);
        if next == OUTSIDE {
            return;
        }
        match previous {
            NONE => self.head = next,
            _ => self.next[previous as usize] = next,
        }
        match next {
            NONE => self.tail = previous,
            _ => self.previous[next as usize] = previous,
        }
        self.next[slot as usize] = OUTSIDE;
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
}
