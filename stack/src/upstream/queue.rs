//! Clients that wait until a server takes one more connection: first come, first served.
//!
//! It is this core's own and not mirrored: whoever takes over finds the clients that lack a server, and lets them queue
//! again. An entry may outlive its client; who looks at it sees that.
//!
//! Bounds: as many as the service says.

use crate::flow::FlowId;
use crate::time::Instant;
use alloc::collections::VecDeque;

/// The clients of one service that wait on this core.
#[derive(Default)]
pub struct Queue {
    waiting: VecDeque<Waiting>,
    max: usize,
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
        Queue { waiting: VecDeque::with_capacity(max), max, has_news: false }
    }

    /// For so many from now on; those that wait already go on waiting.
    pub fn set_max(&mut self, max: u32) {
        self.max = max as usize;
        self.waiting.reserve(self.max.saturating_sub(self.waiting.len()));
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
        }
    }

    /// Keeps those that still wait.
    pub fn retain(&mut self, is_there: impl Fn(&Waiting) -> bool) {
        self.waiting.retain(is_there);
    }

    /// Nobody waits here any more.
    pub fn clear(&mut self) {
        self.waiting.clear();
    }
}
