//! One piece of a flight, and the queues that pieces are in.

use super::InFlightPool;
use crate::pool::NONE;
use crate::seq::Seq;
use crate::time::Instant;

/// A moment in microseconds, modulo 2^32; two can be compared while they are less than 35 minutes apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tick(pub u32);

impl Tick {
    /// The tick of a moment.
    pub const fn of(now: Instant) -> Tick {
        Tick(now.micros_wrapping())
    }

    /// Microseconds from `earlier` to `self`, modulo 2^32.
    pub const fn since(self, earlier: Tick) -> u32 {
        self.0.wrapping_sub(earlier.0)
    }

    /// `self > other`.
    pub const fn after(self, other: Tick) -> bool {
        (self.0.wrapping_sub(other.0) as i32) > 0
    }
}

/// What is believed about a piece.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(in crate::tcp) enum Place {
    /// On its way; in the network queue.
    #[default]
    Network,
    /// Never arrived; in the lost queue.
    Lost,
    /// Held by the client, who may still drop it; in no queue.
    Sacked,
}

/// One unacknowledged piece of the sequence space: a segment as it was sent, or a run of selectively
/// acknowledged ones.
#[derive(Clone, Copy, Debug, Default)]
pub struct Segment {
    /// First sequence number.
    pub(in crate::tcp) seq: Seq,
    /// Sequence numbers covered, never 0.
    pub(in crate::tcp) len: u32,
    /// The latest transmission.
    pub(in crate::tcp) sent: Tick,
    pub(super) prev: u32,
    pub(super) next: u32,
    pub(super) queue_prev: u32,
    pub(super) queue_next: u32,
    /// Segments merged into a run, at most `RUN_SEGMENTS_MAX`.
    pub(super) segments: u8,
    pub(in crate::tcp) place: Place,
    /// Sent more than once.
    pub(in crate::tcp) resent: bool,
    /// The last number is the FIN.
    pub(in crate::tcp) fin: bool,
}

const _: () = assert!(core::mem::size_of::<Segment>() == 32);

impl Segment {
    /// One past the last sequence number.
    pub(in crate::tcp) fn end(&self) -> Seq {
        self.seq + self.len
    }
}

/// A doubly linked list through `queue_prev` and `queue_next`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Queue {
    pub head: u32,
    pub tail: u32,
}

impl Queue {
    pub const EMPTY: Queue = Queue { head: NONE, tail: NONE };

    pub fn push(&mut self, pool: &mut InFlightPool, index: u32) {
        self.insert_after(pool, self.tail, index);
    }

    /// `before` NONE: at the front.
    pub fn insert_after(&mut self, pool: &mut InFlightPool, before: u32, index: u32) {
        let after = if before == NONE { self.head } else { pool[before].queue_next };
        pool[index].queue_prev = before;
        pool[index].queue_next = after;
        if before == NONE {
            self.head = index
        } else {
            pool[before].queue_next = index
        }
        if after == NONE { self.tail = index } else { pool[after].queue_prev = index }
    }

    pub fn remove(&mut self, pool: &mut InFlightPool, index: u32) {
        let Segment { queue_prev: prev, queue_next: next, .. } = pool[index];
        if prev == NONE {
            self.head = next
        } else {
            pool[prev].queue_next = next
        }
        if next == NONE { self.tail = prev } else { pool[next].queue_prev = prev }
    }
}
