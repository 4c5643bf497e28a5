//! How long a client's transfer stands still: the gap that its user sees.
//!
//! It moves when bytes arrive at its application, and when bytes that its application has said are acknowledged. Units:
//! nanoseconds.

use stack::time::Instant;

/// The pulse of one transfer, from the moment in which its client connects.
#[derive(Clone, Copy, Debug)]
pub struct Pulse {
    moved_at: Instant,
    heard: usize,
    waiting: usize,
    /// The longest time in which it did not move.
    pub gap: u64,
}

impl Pulse {
    /// Of a client that connects now.
    pub fn new(now: Instant) -> Pulse {
        Pulse { moved_at: now, heard: 0, waiting: 0, gap: 0 }
    }

    /// So many bytes have been heard by now, and so many that were said are not acknowledged.
    pub fn note(&mut self, now: Instant, heard: usize, waiting: usize) {
        if heard > self.heard || waiting < self.waiting {
            self.gap = self.gap.max(now.since(self.moved_at).0);
            self.moved_at = now;
        }
        (self.heard, self.waiting) = (heard, waiting);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_arrives_or_is_acknowledged_ends_a_gap() {
        let mut pulse = Pulse::new(Instant(10));
        pulse.note(Instant(13), 0, 500);
        assert_eq!(pulse.gap, 0, "what is said is nothing yet");
        pulse.note(Instant(15), 0, 200);
        assert_eq!(pulse.gap, 5);
        pulse.note(Instant(22), 1, 200);
        pulse.note(Instant(23), 1, 900);
        pulse.note(Instant(24), 2, 900);
        assert_eq!(pulse.gap, 7);
    }
}
