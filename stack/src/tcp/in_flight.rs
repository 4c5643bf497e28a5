//! What has been sent and not yet acknowledged: the scoreboard of RFC 6675, kept as two linked lists.
//!
//! Every piece of unacknowledged sequence space is one item of a pool that all flows of a core share.
//! All items of a flow are linked in sequence order. An item is besides this in at most one of two
//! queues: the *network* queue (believed to be on its way, in order of transmission, which is what
//! RACK walks) or the *lost* queue (to be sent again, in order of discovery). A selectively
//! acknowledged item is in neither, and adjacent ones are merged into one, so that the walk of a SACK
//! passes holes and runs, not segments.
//!
//! ```text
//! sequence order   [lost] [run of sacked] [lost] [network] [network]
//! network queue                                  oldest -> newest transmission
//! lost queue         ->                    ->
//! ```
//!
//! Spec: RFC 2018, RFC 6675 (pipe), RFC 2883. A block that covers a part of an item is not counted
//! until the whole is covered: a client must not be able to make us spend items on its choice of
//! boundaries. A block that begins at `snd_una` is nonsense and ignored.
//! Bounds: `FLIGHT_ITEMS_MAX` items per flow. An ACK without SACK touches only what it acknowledges;
//! a SACK walks the items below its highest block once; a time-out walks all.
//! Units: bytes of sequence space; microseconds.

use crate::pool::{NONE, Pool};
use crate::seq::Seq;
use crate::time::Instant;

/// Items that one flow may have in flight: 32 MiB of full segments (10 Gbit/s over 30 ms), and no
/// flow can take a whole pool. At the bound new data waits.
pub const FLIGHT_ITEMS_MAX: u16 = 24_576;

/// SACK blocks looked at in one segment: four fit into a header without timestamps.
pub(super) const SACK_BLOCKS_MAX: usize = 4;

/// Segments of a run are counted up to this: nobody asks for more (`DUP_THRESH`).
const RUN_SEGMENTS_MAX: u8 = 3;

// Runs are never adjacent, so they are at most half of the items.
const _: () = assert!((FLIGHT_ITEMS_MAX as u32 / 2 + 1) * (RUN_SEGMENTS_MAX as u32) < 1 << 16);

/// The items in which all flows of a core keep their unacknowledged segments.
pub type InFlightPool = Pool<Segment>;

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
pub(super) enum Place {
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
    pub(super) seq: Seq,
    /// Sequence numbers covered, never 0.
    pub(super) len: u32,
    /// The latest transmission.
    pub(super) sent: Tick,
    prev: u32,
    next: u32,
    queue_prev: u32,
    queue_next: u32,
    /// Segments merged into a run, at most `RUN_SEGMENTS_MAX`.
    segments: u8,
    pub(super) place: Place,
    /// Sent more than once.
    pub(super) resent: bool,
    /// The last number is the FIN.
    pub(super) fin: bool,
}

const _: () = assert!(core::mem::size_of::<Segment>() == 32);

impl Segment {
    /// One past the last sequence number.
    pub(super) fn end(&self) -> Seq {
        self.seq + self.len
    }
}

/// A doubly linked list through `queue_prev` and `queue_next`.
#[derive(Clone, Copy, Debug)]
struct Queue {
    head: u32,
    tail: u32,
}

impl Queue {
    const EMPTY: Queue = Queue { head: NONE, tail: NONE };

    fn push(&mut self, pool: &mut InFlightPool, index: u32) {
        self.insert_after(pool, self.tail, index);
    }

    /// `before` NONE: at the front.
    fn insert_after(&mut self, pool: &mut InFlightPool, before: u32, index: u32) {
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

    fn remove(&mut self, pool: &mut InFlightPool, index: u32) {
        let Segment { queue_prev: prev, queue_next: next, .. } = pool[index];
        if prev == NONE {
            self.head = next
        } else {
            pool[prev].queue_next = next
        }
        if next == NONE { self.tail = prev } else { pool[next].queue_prev = prev }
    }
}

/// The pool has no item left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct PoolExhausted;

/// The unacknowledged pieces of one flow.
#[derive(Clone, Debug)]
pub(super) struct InFlight {
    /// First unacknowledged sequence number.
    pub una: Seq,
    /// One past the highest sequence number sent.
    pub nxt: Seq,
    head: u32,
    tail: u32,
    network: Queue,
    lost: Queue,
    /// Bytes in `Place::Sacked`.
    pub sacked_bytes: u32,
    /// Bytes in `Place::Lost`.
    pub lost_bytes: u32,
    items: u16,
    /// Segments in `Place::Sacked`, at most `RUN_SEGMENTS_MAX` of each run.
    sacked_segments: u16,
}

impl Default for InFlight {
    fn default() -> InFlight {
        InFlight::new(Seq(0))
    }
}

impl InFlight {
    pub fn new(una: Seq) -> InFlight {
        InFlight {
            una,
            nxt: una,
            head: NONE,
            tail: NONE,
            network: Queue::EMPTY,
            lost: Queue::EMPTY,
            sacked_bytes: 0,
            lost_bytes: 0,
            items: 0,
            sacked_segments: 0,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.head == NONE
    }

    pub fn is_full(&self) -> bool {
        self.items >= FLIGHT_ITEMS_MAX
    }

    pub fn items(&self) -> u16 {
        self.items
    }

    pub fn sacked_segments(&self) -> u16 {
        self.sacked_segments
    }

    /// Bytes sent and not cumulatively acknowledged (FlightSize of RFC 5681).
    pub fn outstanding(&self) -> u32 {
        self.nxt.since(self.una)
    }

    /// Bytes believed to be in the network (pipe of RFC 6675).
    pub fn pipe(&self) -> u32 {
        self.outstanding() - self.sacked_bytes - self.lost_bytes
    }

    /// The piece at `una`.
    pub fn first(&self) -> Option<u32> {
        some(self.head)
    }

    /// The piece with the highest sequence numbers.
    pub fn last(&self) -> Option<u32> {
        some(self.tail)
    }

    /// The piece whose latest transmission is the oldest of those in the network.
    pub fn oldest(&self) -> Option<u32> {
        some(self.network.head)
    }

    /// The next piece to send again.
    pub fn lost_first(&self) -> Option<u32> {
        some(self.lost.head)
    }

    /// New data. With nothing in flight `seq` may be anywhere; else it continues what is.
    pub fn push(
        &mut self,
        pool: &mut InFlightPool,
        sent: Tick,
        seq: Seq,
        len: u32,
        fin: bool,
    ) -> Result<(), PoolExhausted> {
        assert!(len > 0 && len < 1 << 30 && (seq == self.nxt || self.is_empty()));
        let segment = Segment {
            seq,
            len,
            sent,
            prev: self.tail,
            next: NONE,
            segments: 1,
            fin,
            ..Segment::default()
        };
        let index = pool.take(segment).ok_or(PoolExhausted)?;
        if self.is_empty() {
            self.una = seq;
            self.head = index;
        } else {
            pool[self.tail].next = index;
        }
        self.tail = index;
        self.nxt = seq + len;
        self.items += 1;
        self.network.push(pool, index);
        Ok(())
    }

    /// A piece was sent again: it is the newest in the network.
    pub fn mark_resent(&mut self, pool: &mut InFlightPool, index: u32, sent: Tick) {
        self.unqueue(pool, index);
        pool[index].resent = true;
        pool[index].sent = sent;
        self.enqueue(pool, index, Place::Network);
    }

    /// A piece in the network is lost.
    pub fn mark_lost(&mut self, pool: &mut InFlightPool, index: u32) {
        self.unqueue(pool, index);
        self.enqueue(pool, index, Place::Lost);
    }

    /// SEG.ACK moves to `ack`, which is not before `una`. `each` sees every piece that is hereby
    /// delivered whole and was not sacked before. Returns the bytes delivered hereby.
    pub fn acknowledge(
        &mut self,
        pool: &mut InFlightPool,
        ack: Seq,
        mut each: impl FnMut(&Segment),
    ) -> u32 {
        let mut delivered = 0;
        while let Some(index) = self.first() {
            let segment = pool[index];
            if segment.end().after(ack) {
                delivered += self.trim(pool, index, ack);
                break;
            }
            if segment.place != Place::Sacked {
                delivered += segment.len;
                each(&segment);
            }
            self.drop_item(pool, index);
        }
        self.una = ack;
        self.nxt = self.nxt.max(ack);
        delivered
    }

    /// Cuts what is before `ack` off the first piece.
    fn trim(&mut self, pool: &mut InFlightPool, index: u32, ack: Seq) -> u32 {
        let segment = &mut pool[index];
        let cut = ack.since(segment.seq);
        segment.seq = ack;
        segment.len -= cut;
        match segment.place {
            Place::Network => cut,
            Place::Lost => {
                self.lost_bytes -= cut;
                cut
            }
            Place::Sacked => {
                self.sacked_bytes -= cut;
                0
            }
        }
    }

    /// Applies SACK blocks, whatever they are. `each` sees every piece newly sacked. Returns the
    /// bytes newly sacked. One walk over the items below the highest block.
    pub fn sack(
        &mut self,
        pool: &mut InFlightPool,
        blocks: &[(Seq, Seq)],
        mut each: impl FnMut(&Segment),
    ) -> u32 {
        let (sorted, count) = self.sort_blocks(blocks);
        let mut blocks = &sorted[..count];
        let mut index = self.head;
        let mut newly = 0;
        while index != NONE
            && let [(start, end), rest @ ..] = blocks
        {
            let segment = pool[index];
            let from = segment.seq.since(self.una);
            if *end <= from {
                blocks = rest;
                continue;
            }
            if segment.place != Place::Sacked && *start <= from && from + segment.len <= *end {
                newly += segment.len;
                each(&segment);
                index = self.mark_sacked(pool, index);
            }
            index = pool[index].next;
        }
        newly
    }

    /// The usable blocks as offsets from `una`, by ascending start.
    fn sort_blocks(&self, blocks: &[(Seq, Seq)]) -> ([(u32, u32); SACK_BLOCKS_MAX], usize) {
        let mut sorted = [(0, 0); SACK_BLOCKS_MAX];
        let mut count = 0;
        for (start, end) in blocks.iter().take(SACK_BLOCKS_MAX) {
            let (start, end) = (start.since(self.una), end.since(self.una));
            if start > 0 && start < end && end <= self.outstanding() {
                sorted[count] = (start, end);
                count += 1;
            }
        }
        sorted[..count].sort_unstable();
        (sorted, count)
    }

    /// Returns the item that now holds the piece: the run it was merged into.
    fn mark_sacked(&mut self, pool: &mut InFlightPool, index: u32) -> u32 {
        self.unqueue(pool, index);
        self.enqueue(pool, index, Place::Sacked);
        let Segment { prev, next, .. } = pool[index];
        self.merge(pool, index, next);
        if self.merge(pool, prev, index) { prev } else { index }
    }

    /// Appends `right` to `left` if both are sacked.
    fn merge(&mut self, pool: &mut InFlightPool, left: u32, right: u32) -> bool {
        let sacked = |index: u32| index != NONE && pool[index].place == Place::Sacked;
        if !sacked(left) || !sacked(right) {
            return false;
        }
        let Segment { len, segments, fin, next, .. } = pool[right];
        let into = &mut pool[left];
        let sum = (into.segments + segments).min(RUN_SEGMENTS_MAX);
        self.sacked_segments -= (into.segments + segments - sum) as u16;
        into.len += len;
        into.segments = sum;
        into.fin |= fin;
        into.next = next;
        if next == NONE {
            self.tail = left
        } else {
            pool[next].prev = left
        }
        self.items -= 1;
        pool.give(right);
        true
    }

    /// The client dropped what it had sacked, or may have (RFC 2018 8): all of that is lost, and so is
    /// what `is_lost` says of the pieces in the network. The lost queue is in sequence order afterwards.
    /// Returns the bytes newly lost. Walks all items.
    pub fn lose(
        &mut self,
        pool: &mut InFlightPool,
        mut is_lost: impl FnMut(&Segment) -> bool,
    ) -> u32 {
        let before = self.lost_bytes;
        let mut index = self.head;
        while index != NONE {
            if pool[index].place != Place::Network || is_lost(&pool[index]) {
                self.unqueue(pool, index);
                self.enqueue(pool, index, Place::Lost);
            }
            index = pool[index].next;
        }
        self.lost_bytes - before
    }

    /// Cuts a piece after `len` bytes; both halves are where it was. Returns the second half, `None` if
    /// there is no item for it.
    pub fn split(&mut self, pool: &mut InFlightPool, index: u32, len: u32) -> Option<u32> {
        let whole = pool[index];
        assert!(len > 0 && len < whole.len && whole.place != Place::Sacked);
        let rest = Segment { seq: whole.seq + len, len: whole.len - len, prev: index, ..whole };
        if self.is_full() {
            return None;
        }
        let second = pool.take(rest)?;
        let first = &mut pool[index];
        first.len = len;
        first.fin = false;
        first.next = second;
        if whole.next == NONE {
            self.tail = second
        } else {
            pool[whole.next].prev = second
        }
        self.items += 1;
        let queue = if whole.place == Place::Lost { &mut self.lost } else { &mut self.network };
        queue.insert_after(pool, index, second);
        Some(second)
    }

    /// Gives every item back; `una` and `nxt` stay.
    pub fn release(&mut self, pool: &mut InFlightPool) {
        while let Some(index) = self.first() {
            self.drop_item(pool, index);
        }
        self.una = self.nxt;
    }

    fn drop_item(&mut self, pool: &mut InFlightPool, index: u32) {
        self.unqueue(pool, index);
        self.head = pool[index].next;
        if self.head == NONE {
            self.tail = NONE
        } else {
            pool[self.head].prev = NONE
        }
        self.items -= 1;
        pool.give(index);
    }

    fn unqueue(&mut self, pool: &mut InFlightPool, index: u32) {
        let Segment { place, len, segments, .. } = pool[index];
        match place {
            Place::Network => self.network.remove(pool, index),
            Place::Lost => {
                self.lost.remove(pool, index);
                self.lost_bytes -= len;
            }
            Place::Sacked => {
                self.sacked_bytes -= len;
                self.sacked_segments -= segments as u16;
            }
        }
    }

    fn enqueue(&mut self, pool: &mut InFlightPool, index: u32, place: Place) {
        pool[index].place = place;
        let Segment { len, segments, .. } = pool[index];
        match place {
            Place::Network => self.network.push(pool, index),
            Place::Lost => {
                self.lost.push(pool, index);
                self.lost_bytes += len;
            }
            Place::Sacked => {
                self.sacked_bytes += len;
                self.sacked_segments += segments as u16;
            }
        }
    }

    /// Every sum and link, counted again.
    #[cfg(test)]
    pub fn check(&self, pool: &InFlightPool) {
        let (mut index, mut prev, mut at) = (self.head, NONE, self.una);
        let (mut items, mut sacked, mut lost, mut segments) = (0, 0, 0, 0);
        let mut networked = 0;
        while index != NONE {
            let segment = &pool[index];
            assert!(pool.is_used(index) && segment.seq == at && segment.len > 0);
            assert_eq!(segment.prev, prev);
            match segment.place {
                Place::Network => networked += 1,
                Place::Lost => lost += segment.len,
                Place::Sacked => {
                    sacked += segment.len;
                    segments += segment.segments as u16;
                }
            }
            (prev, at, items) = (index, segment.end(), items + 1);
            index = segment.next;
        }
        assert_eq!((prev, at, items), (self.tail, self.nxt, self.items));
        assert_eq!(
            (sacked, lost, segments),
            (self.sacked_bytes, self.lost_bytes, self.sacked_segments)
        );
        let mut sent = None;
        for (queue, place) in [(self.network, Place::Network), (self.lost, Place::Lost)] {
            let (mut index, mut prev) = (queue.head, NONE);
            while index != NONE {
                assert!(pool[index].place == place && pool[index].queue_prev == prev);
                if place == Place::Network {
                    networked -= 1;
                    assert!(sent.is_none_or(|sent| !Tick::after(sent, pool[index].sent)));
                    sent = Some(pool[index].sent);
                } else {
                    lost -= pool[index].len;
                }
                prev = index;
                index = pool[index].queue_next;
            }
            assert_eq!(prev, queue.tail);
        }
        assert_eq!((networked, lost), (0, 0));
    }
}

fn some(index: u32) -> Option<u32> {
    (index != NONE).then_some(index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn filled(count: u32) -> (InFlightPool, InFlight) {
        let mut pool = InFlightPool::new(64);
        let mut flight = InFlight::new(Seq(u32::MAX - 150));
        for n in 0..count {
            flight.push(&mut pool, Tick(n), flight.nxt, 100, false).unwrap();
        }
        flight.check(&pool);
        (pool, flight)
    }

    fn at(flight: &InFlight, from: u32, to: u32) -> (Seq, Seq) {
        (flight.una + from, flight.una + to)
    }

    #[test]
    fn acknowledging_pops_whole_pieces_and_trims_the_next() {
        let (mut pool, mut flight) = filled(5);
        let mut seen = 0;
        let ack = flight.una + 250;
        assert_eq!(flight.acknowledge(&mut pool, ack, |_| seen += 1), 250);
        flight.check(&pool);
        assert_eq!((seen, flight.outstanding(), flight.pipe(), pool.used()), (2, 250, 250, 3));
        let ack = flight.nxt + 1_000;
        assert_eq!(flight.acknowledge(&mut pool, ack, |_| ()), 250);
        flight.check(&pool);
        assert_eq!((flight.una, flight.nxt, pool.used()), (ack, ack, 0));
    }

    /// RFC 2018: blocks may come in any order; runs are merged and give their items back.
    #[test]
    fn sacked_neighbours_become_one_run() {
        let (mut pool, mut flight) = filled(6);
        let blocks = [at(&flight, 300, 400), at(&flight, 100, 200)];
        assert_eq!(flight.sack(&mut pool, &blocks, |_| ()), 200);
        flight.check(&pool);
        assert_eq!((pool.used(), flight.pipe(), flight.sacked_segments()), (6, 400, 2));
        let blocks = [at(&flight, 100, 500)];
        let mut seqs = Vec::new();
        assert_eq!(flight.sack(&mut pool, &blocks, |s| seqs.push(s.seq)), 200);
        flight.check(&pool);
        assert_eq!(seqs, [flight.una + 200, flight.una + 400]);
        assert_eq!((pool.used(), flight.sacked_bytes, flight.sacked_segments()), (3, 400, 3));
    }

    #[test]
    fn useless_blocks_change_nothing() {
        let (mut pool, mut flight) = filled(4);
        for (from, to) in [(0, 100), (150, 190), (200, 200), (300, 200), (100, 500), (!0, 100)] {
            let blocks = [at(&flight, from, to)];
            assert_eq!(flight.sack(&mut pool, &blocks, |_| ()), 0);
            flight.check(&pool);
        }
    }

    #[test]
    fn lost_pieces_queue_in_order_of_discovery_and_split() {
        let (mut pool, mut flight) = filled(4);
        let first = flight.first().unwrap();
        let last = flight.last().unwrap();
        flight.mark_lost(&mut pool, last);
        flight.mark_lost(&mut pool, first);
        flight.check(&pool);
        assert_eq!((flight.lost_first(), flight.pipe()), (Some(last), 200));
        let rest = flight.split(&mut pool, last, 30).unwrap();
        flight.check(&pool);
        assert_eq!((pool[rest].len, flight.last()), (70, Some(rest)));
        flight.mark_resent(&mut pool, last, Tick(9));
        flight.check(&pool);
        assert_eq!((flight.lost_first(), flight.pipe()), (Some(rest), 230));
        flight.release(&mut pool);
        assert_eq!(pool.used(), 0);
    }

    /// RFC 2018 8: a time-out forgets what was sacked, and the queue is in sequence order again.
    #[test]
    fn losing_all_restores_sequence_order() {
        let (mut pool, mut flight) = filled(5);
        let last = flight.last().unwrap();
        flight.mark_lost(&mut pool, last);
        let blocks = [at(&flight, 100, 300)];
        flight.sack(&mut pool, &blocks, |_| ());
        assert_eq!(flight.lose(&mut pool, |_| true), 400);
        flight.check(&pool);
        assert_eq!((flight.pipe(), flight.lost_first()), (0, flight.first()));
    }
}
