//! Clients that wait until a server takes one more connection: first come, first served.
//!
//! It is this core's own and not mirrored: whoever takes over finds the clients that lack a server, and lets them queue
//! again. An entry may outlive its client; who looks at it sees that.
//!
//! Bounds: as many as the service says; where it is full, [`QUEUE_STEPS_MAX`] are looked at for each client that comes.

use crate::flow::FlowId;
use crate::limits::QUEUE_STEPS_MAX;
use crate::time::Instant;
use alloc::collections::VecDeque;

/// The clients of one service that wait on this core.
#[derive(Default)]
pub struct Queue {
    waiting: VecDeque<Waiting>,
    max: usize,
    /// Where the search for those who have gone goes on.
    searched: usize,
    /// There may be room for the first of them.
    pub has_news: bool,
}

/// A client that waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Waiting {
    /// Where its leg is kept.
    pub slot: u32,
    /// The leg's name.
    pub id: FlowId,
    /// For so long.
    pub until: Instant,
}

impl Queue {
    /// For so many.
    pub fn new(max: u32) -> Queue {
        let max = max as usize;
        Queue { waiting: VecDeque::with_capacity(max), max, searched: 0, has_news: false }
    }

    /// Takes over from `old`: whoever waits goes on waiting. Nothing is allocated.
    pub fn succeed(&mut self, old: &mut Queue) {
        if self.waiting.capacity() >= old.waiting.len() {
            self.waiting.extend(old.waiting.drain(..));
        } else {
            core::mem::swap(&mut self.waiting, &mut old.waiting);
        }
        self.has_news = true;
    }

    /// Clients that wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Who is first.
    pub fn front(&self) -> Option<Waiting> {
        self.waiting.front().copied()
    }

    /// The entry of a client, if it waits.
    pub fn entry(&self, slot: u32, id: FlowId) -> Option<Waiting> {
        self.waiting.iter().find(|entry| entry.slot == slot && entry.id == id).copied()
    }

    /// One more, at the end; `false` if there is no place.
    pub fn push(&mut self, entry: Waiting) -> bool {
        let has_place = self.waiting.len() < self.max;
        if has_place {
            self.waiting.push_back(entry);
            // Somebody who has gone may stand before it.
            self.has_news = true;
        }
        has_place
    }

    /// A client waits no longer.
    pub fn remove(&mut self, slot: u32, id: FlowId) {
        let is_it = |entry: &Waiting| entry.slot == slot && entry.id == id;
        if let Some(at) = self.waiting.iter().position(is_it) {
            self.waiting.remove(at);
            // Whoever is first now may not have been looked at for as long as it was not.
            self.has_news |= at == 0;
        }
    }

    /// Takes one out that does not wait any more, if there is one among the next few.
    pub fn drop_one(&mut self, waits: impl Fn(&Waiting) -> bool) {
        for _ in 0..self.waiting.len().min(QUEUE_STEPS_MAX as usize) {
            let at = self.searched % self.waiting.len();
            if !waits(&self.waiting[at]) {
                self.waiting.remove(at);
                self.has_news |= at == 0;
                return;
            }
            self.searched = at + 1;
        }
    }

    /// Nobody waits here any more.
    pub fn clear(&mut self) {
        self.waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(n: u32) -> Waiting {
        Waiting { slot: n, id: FlowId(n.into()), until: Instant(1) }
    }

    fn queue(count: u32) -> Queue {
        let mut queue = Queue::new(count);
        assert!((0..count).all(|n| queue.push(waiting(n))));
        queue.has_news = false;
        queue
    }

    /// Behind the first there was nothing to look for; behind nobody there is.
    #[test]
    fn who_becomes_the_first_is_looked_at() {
        let mut queue = queue(3);
        queue.remove(1, FlowId(1));
        assert!(!queue.has_news);
        queue.remove(0, FlowId(0));
        assert!(queue.has_news);
        assert_eq!(queue.front(), Some(waiting(2)));
    }

    /// However many wait, whoever comes costs a few looks; and after some have come, every place was looked at.
    #[test]
    fn a_full_queue_finds_those_who_have_gone_in_bounded_steps() {
        let mut queue = queue(10 * QUEUE_STEPS_MAX);
        let looks = core::cell::Cell::new(0);
        let mut comers = 0;
        while !queue.push(waiting(u32::MAX)) {
            comers += 1;
            looks.set(0);
            queue.drop_one(|entry| {
                looks.set(looks.get() + 1);
                entry.slot != 9 * QUEUE_STEPS_MAX + 1
            });
            assert!(looks.get() <= QUEUE_STEPS_MAX);
        }
        assert_eq!(comers, 10);
        assert_eq!(queue.len() as u32, 10 * QUEUE_STEPS_MAX);
        assert_eq!(queue.front(), Some(waiting(0)), "the others wait as before");
    }
}
