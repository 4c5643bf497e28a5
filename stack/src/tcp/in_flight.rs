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

mod segment;
#[cfg(test)]
mod tests;

use crate::pool::{NONE, Pool};
use crate::seq::Seq;
pub(super) use segment::Place;
use segment::Queue;
pub use segment::{Segment, Tick};

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
    pub const fn new(una: Seq) -> InFlight {
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

    /// Everything in the network of which `is_lost` says so is lost. The lost queue is in sequence order afterwards.
    /// Returns the bytes newly lost. Walks all items.
    pub fn lose_sent(
        &mut self,
        pool: &mut InFlightPool,
        is_lost: impl Fn(&Segment) -> bool,
    ) -> u32 {
        let before = self.lost_bytes;
        let mut index = self.head;
        while index != NONE {
            let Segment { place, next, .. } = pool[index];
            let is_lost = place == Place::Network && is_lost(&pool[index]);
            if is_lost || place == Place::Lost {
                self.mark_lost(pool, index);
            }
            index = next;
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
}

fn some(index: u32) -> Option<u32> {
    (index != NONE).then_some(index)
}
