//! The flows that may have something to say, in the order in which they were touched: one queue for each group.
//!
//! Queues take turns, so that a group with very many flows does not keep the others waiting; one whose group may not speak
//! is passed over whole and keeps its order. Doubly linked lists in one array: a flow is in one of them at most once.

use alloc::vec::Vec;

/// Nobody.
const END: u32 = u32::MAX;
/// As the one before: not in a queue.
const OUTSIDE: u32 = END - 1;

/// Queues at most: as many as a word has bits.
pub const QUEUES_MAX: usize = 64;

#[derive(Clone, Copy)]
struct Place {
    next: u32,
    previous: u32,
}

#[derive(Clone, Copy)]
struct Queue {
    head: u32,
    tail: u32,
}

/// Queues of slots.
pub struct Ready {
    places: Vec<Place>,
    queues: Vec<Queue>,
    /// One bit for each queue in which somebody waits.
    occupied: u64,
    /// The queue whose turn it is.
    turn: u32,
}

impl Ready {
    /// Bytes of one place.
    pub const PLACE_BYTES: usize = size_of::<Place>();

    /// Takes memory for slots below `capacity` and `queues` queues.
    pub fn new(capacity: usize, queues: usize) -> Ready {
        assert!(capacity < OUTSIDE as usize && queues <= QUEUES_MAX);
        Ready {
            places: alloc::vec![Place { next: END, previous: OUTSIDE }; capacity],
            queues: alloc::vec![Queue { head: END, tail: END }; queues],
            occupied: 0,
            turn: 0,
        }
    }

    /// Whether nobody waits in the queues that `open` has a bit for.
    #[inline]
    pub fn is_empty(&self, open: u64) -> bool {
        self.occupied & open == 0
    }

    /// Reads what is known of `slot`, so that its memory is on its way.
    #[inline]
    pub(crate) fn touch(&self, slot: u32) -> u64 {
        self.places[slot as usize].next as u64
    }

    /// Puts a slot at the end of a queue, unless it is in it.
    #[inline]
    pub fn push(&mut self, queue: u8, slot: u32) {
        if self.places[slot as usize].previous != OUTSIDE {
            return;
        }
        let Queue { head, tail } = &mut self.queues[queue as usize];
        self.places[slot as usize] = Place { next: END, previous: *tail };
        match *tail {
            END => *head = slot,
            last => self.places[last as usize].next = slot,
        }
        *tail = slot;
        self.occupied |= 1 << queue;
    }

    /// The slot at the front of the queue whose turn it is, of those that `open` has a bit for.
    #[inline]
    pub fn front(&self, open: u64) -> Option<u32> {
        let waiting = self.occupied & open;
        if waiting == 0 {
            return None;
        }
        let queue = (waiting.rotate_right(self.turn).trailing_zeros() + self.turn) % u64::BITS;
        Some(self.queues[queue as usize].head)
    }

    /// A flow of `queue` had its turn: now it is another queue's.
    #[inline]
    pub fn pass_turn(&mut self, queue: u8) {
        self.turn = (queue as u32 + 1) % u64::BITS;
    }

    /// Takes a slot out of its queue, wherever it stands, if it is in it.
    #[inline]
    pub fn remove(&mut self, queue: u8, slot: u32) {
        let Place { next, previous } = self.places[slot as usize];
        if previous == OUTSIDE {
            return;
        }
        let Queue { head, tail } = &mut self.queues[queue as usize];
        match previous {
            END => *head = next,
            _ => self.places[previous as usize].next = next,
        }
        match next {
            END => *tail = previous,
            _ => self.places[next as usize].previous = previous,
        }
        if *head == END {
            self.occupied &= !(1 << queue);
        }
        self.places[slot as usize].previous = OUTSIDE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_order_without_repeats() {
        let mut ready = Ready::new(5, 1);
        for slot in [3, 1, 3, 4, 0] {
            ready.push(0, slot);
        }
        ready.remove(0, 1);
        ready.remove(0, 2);
        let mut order = Vec::new();
        while let Some(slot) = ready.front(1) {
            order.push(slot);
            ready.remove(0, slot);
        }
        assert_eq!(order, [3, 4, 0]);
        ready.push(0, 1);
        ready.remove(0, 1);
        assert!(ready.is_empty(u64::MAX));
    }

    /// However many wait in one queue, the other has every second turn; one that may not speak keeps its order.
    #[test]
    fn queues_take_turns_and_a_mute_one_waits() {
        let mut ready = Ready::new(8, 2);
        (0..6).for_each(|slot| ready.push(0, slot));
        (6..8).for_each(|slot| ready.push(1, slot));
        let next = |ready: &mut Ready, open| {
            let slot = ready.front(open)?;
            let queue = (slot >= 6) as u8;
            ready.remove(queue, slot);
            ready.pass_turn(queue);
            Some(slot)
        };
        let first: Vec<u32> = (0..3).filter_map(|_| next(&mut ready, 0b11)).collect();
        assert_eq!(first, [0, 6, 1]);
        let rest: Vec<u32> = core::iter::from_fn(|| next(&mut ready, 0b01)).collect();
        assert_eq!(rest, [2, 3, 4, 5]);
        assert!(ready.is_empty(0b01) && !ready.is_empty(0b10));
        assert_eq!(next(&mut ready, 0b11), Some(7));
    }

    /// Against lists: from the ends and from the middle, of two queues.
    #[test]
    fn who_leaves_from_the_middle_leaves_the_order_as_it_is() {
        let (mut ready, mut model) = (Ready::new(8, 2), [Vec::new(), Vec::new()]);
        let mut random = 9u32;
        for _ in 0..20_000 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let slot = (random >> 16) % 8;
            let queue = (slot % 2) as u8;
            let order = &mut model[queue as usize];
            if (random >> 28) < 8 {
                ready.push(queue, slot);
                if !order.contains(&slot) {
                    order.push(slot);
                }
            } else {
                ready.remove(queue, slot);
                order.retain(|other| *other != slot);
            }
            for (queue, order) in model.iter().enumerate() {
                assert_eq!(ready.front(1 << queue), order.first().copied());
                assert_eq!(ready.is_empty(1 << queue), order.is_empty());
                let queue = &ready.queues[queue];
                assert_eq!(walk(&ready, queue.head, |place| place.next), *order);
                let mut reversed = walk(&ready, queue.tail, |place| place.previous);
                reversed.reverse();
                assert_eq!(reversed, *order);
            }
        }
    }

    fn walk(ready: &Ready, from: u32, next: impl Fn(Place) -> u32) -> Vec<u32> {
        let step =
            |slot: &u32| Some(next(ready.places[*slot as usize])).filter(|&slot| slot != END);
        core::iter::successors(Some(from).filter(|&slot| slot != END), step).collect()
    }
}
