//! Out-of-order payload, kept until the hole before it is filled.
//!
//! Local state: nothing here was acknowledged, so whoever sent it still holds it, and a peer starts
//! without it. Ranges lie sorted and disjoint in a small array, each with its bytes in pooled chunks; a
//! segment that would need one range more than there is room for is dropped as if it had been lost.
//!
//! Spec: RFC 9293 3.10.7.4, RFC 2018 4 (the first block is the newest).
//! Bounds: [`RANGES_MAX`] ranges for each flow; pooled, taken only while there is a hole.

use crate::bytes::{ByteQueue, Chunks};
use crate::seq::Seq;

/// Holes that one flow may have at a time: beyond that, loss is so dense that SACK's three or four
/// blocks cannot describe it either.
pub const RANGES_MAX: usize = 32;

#[derive(Clone, Debug, Default)]
struct Range {
    start: Seq,
    bytes: ByteQueue,
}

impl Range {
    fn end(&self) -> Seq {
        self.start + self.bytes.len() as u32
    }
}

/// The out-of-order payload of one flow.
#[derive(Clone, Debug, Default)]
pub struct Reassembly {
    ranges: [Range; RANGES_MAX],
    used: u8,
    /// Index of the range that grew last.
    newest: u8,
    /// The sequence number of the client's FIN, if it arrived out of order.
    fin: Option<Seq>,
}

/// Why a segment was not kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoRoom;

impl Reassembly {
    /// Keeps the parts of `payload` at `seq` (after RCV.NXT, within the window) that are not kept yet.
    pub fn insert(
        &mut self,
        chunks: &mut Chunks,
        mut seq: Seq,
        mut payload: &[u8],
    ) -> Result<(), NoRoom> {
        let mut at = 0;
        while !payload.is_empty() {
            while at < self.used as usize && self.ranges[at].end().before_eq(seq) {
                at += 1;
            }
            let next = (at < self.used as usize).then(|| self.ranges[at].start);
            if next.is_some_and(|start| start.before_eq(seq)) {
                // Already kept up to the end of this range.
                let skip = (self.ranges[at].end().since(seq) as usize).min(payload.len());
                self.newest = at as u8;
                (seq, payload) = (seq + skip as u32, &payload[skip..]);
                continue;
            }
            let room = next.map_or(payload.len(), |start| start.since(seq) as usize);
            let (piece, rest) = payload.split_at(room.min(payload.len()));
            at = self.place(chunks, at, seq, piece)?;
            (seq, payload) = (seq + piece.len() as u32, rest);
        }
        Ok(())
    }

    /// Puts a piece that fits before range `at`: behind the previous range if it touches it, else as a
    /// range of its own. Returns where it is.
    fn place(
        &mut self,
        chunks: &mut Chunks,
        at: usize,
        seq: Seq,
        piece: &[u8],
    ) -> Result<usize, NoRoom> {
        if at > 0 && self.ranges[at - 1].end() == seq {
            if !self.ranges[at - 1].bytes.append(chunks, piece) {
                return Err(NoRoom);
            }
            self.newest = at as u8 - 1;
            return Ok(at - 1);
        }
        if self.used as usize == RANGES_MAX {
            return Err(NoRoom);
        }
        let mut bytes = ByteQueue::new();
        if !bytes.append(chunks, piece) {
            return Err(NoRoom);
        }
        self.ranges[at..=self.used as usize].rotate_right(1);
        self.ranges[at] = Range { start: seq, bytes };
        self.used += 1;
        self.newest = at as u8;
        Ok(at)
    }

    /// Remembers the client's FIN.
    pub fn insert_fin(&mut self, seq: Seq) {
        self.fin = Some(seq);
    }

    /// The kept bytes that begin at `rcv_nxt` or before: a slice of them that is not longer than one chunk.
    /// Follow with [`Reassembly::consume`].
    pub fn front<'a>(&mut self, chunks: &'a mut Chunks, rcv_nxt: Seq) -> Option<&'a [u8]> {
        while self.used > 0 && self.ranges[0].start.before(rcv_nxt) {
            let stale =
                (rcv_nxt.since(self.ranges[0].start) as usize).min(self.ranges[0].bytes.len());
            self.consume(chunks, stale);
        }
        if self.used == 0 || self.ranges[0].start != rcv_nxt {
            return None;
        }
        Some(self.ranges[0].bytes.front(chunks))
    }

    /// Drops the first `n` bytes of the first range.
    pub fn consume(&mut self, chunks: &mut Chunks, n: usize) {
        let first = &mut self.ranges[0];
        first.bytes.consume(chunks, n);
        first.start += n as u32;
        if first.bytes.is_empty() {
            self.ranges[..self.used as usize].rotate_left(1);
            self.used -= 1;
            self.newest = self.newest.saturating_sub(1);
        }
    }

    /// Whether the client's FIN is at `rcv_nxt`.
    pub fn fin_is_next(&self, rcv_nxt: Seq) -> bool {
        self.fin == Some(rcv_nxt)
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.used == 0 && self.fin.is_none()
    }

    /// What is kept, as SACK blocks: the newest first, then the others (RFC 2018 4).
    pub fn blocks(&self) -> impl Iterator<Item = (Seq, Seq)> {
        let (runs, count) = self.runs();
        let newest = self.ranges[self.newest as usize].start;
        let is_newest = |run: &(Seq, Seq)| run.0.before_eq(newest) && newest.before(run.1);
        let first = runs[..count].iter().position(is_newest).unwrap_or(0);
        let order = core::iter::once(first).chain((0..count).rev().filter(move |&i| i != first));
        order.take(count).map(move |i| runs[i])
    }

    /// The ranges by sequence number, those that touch each other as one (RFC 2018 3: a block is isolated).
    fn runs(&self) -> ([(Seq, Seq); RANGES_MAX], usize) {
        let mut runs = [(Seq(0), Seq(0)); RANGES_MAX];
        let mut count = 0;
        for range in self.used() {
            match runs[..count].last_mut() {
                Some(run) if run.1 == range.start => run.1 = range.end(),
                _ => {
                    runs[count] = (range.start, range.end());
                    count += 1;
                }
            }
        }
        (runs, count)
    }

    /// The first part of what lies between `start` and `end` that is kept already.
    pub fn overlap(&self, start: Seq, end: Seq) -> Option<(Seq, Seq)> {
        let (runs, count) = self.runs();
        let run = runs[..count].iter().find(|run| run.1.after(start))?;
        let (start, end) = (run.0.max(start), run.1.min(end));
        start.before(end).then_some((start, end))
    }

    /// The block that all of what lies between `start` and `end` is in.
    pub fn containing(&self, start: Seq, end: Seq) -> Option<(Seq, Seq)> {
        let (runs, count) = self.runs();
        let is_around = |run: &&(Seq, Seq)| run.0.before_eq(start) && end.before_eq(run.1);
        runs[..count].iter().find(is_around).copied()
    }

    fn used(&self) -> impl Iterator<Item = &Range> {
        self.ranges[..self.used as usize].iter()
    }

    /// Gives every chunk back.
    pub fn clear(&mut self, chunks: &mut Chunks) {
        for range in &mut self.ranges[..self.used as usize] {
            range.bytes.clear(chunks);
        }
        *self = Reassembly::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn any_order_gives_the_stream_and_returns_every_chunk() {
        let stream: Vec<u8> = (0..6000u32).map(|n| ((n * 7) >> 2) as u8).collect();
        let mut state = 3u64;
        let mut random = move |n: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % n as u64) as usize
        };
        for round in 0..300 {
            let mut chunks = Chunks::new(64);
            let base = Seq(u32::MAX - 3000);
            let mut reassembly = Reassembly::default();
            let mut received = Vec::new();
            for _ in 0..4000 {
                if received.len() == stream.len() {
                    break;
                }
                // Every fourth segment is the one that the sender misses an acknowledgement of.
                let hole = received.len();
                let from = if random(4) == 0 { hole } else { random(stream.len()) };
                let to = (from + 1 + random(900)).min(stream.len());
                let from = from.max(received.len());
                if from >= to {
                    continue;
                }
                let _ = reassembly.insert(&mut chunks, base + from as u32, &stream[from..to]);
                loop {
                    let rcv_nxt = base + received.len() as u32;
                    let Some(bytes) = reassembly.front(&mut chunks, rcv_nxt) else { break };
                    let n = bytes.len();
                    received.extend_from_slice(bytes);
                    reassembly.consume(&mut chunks, n);
                }
                for (start, end) in reassembly.blocks() {
                    assert!(start.before(end));
                    assert!(start.after(base + received.len() as u32));
                    assert_eq!(reassembly.containing(start, end), Some((start, end)));
                    assert_eq!(reassembly.overlap(start - 1, end + 1), Some((start, end)));
                }
            }
            assert!(received == stream[..received.len()], "round {round}");
            assert_eq!(received.len(), stream.len());
            reassembly.clear(&mut chunks);
            assert_eq!(chunks.used(), 0);
        }
    }

    #[test]
    fn the_newest_block_is_first() {
        let mut chunks = Chunks::new(16);
        let mut reassembly = Reassembly::default();
        for start in [100, 300, 200] {
            reassembly.insert(&mut chunks, Seq(start), &[0; 10]).unwrap();
        }
        let blocks: Vec<_> = reassembly.blocks().collect();
        let expected = [200, 300, 100].map(|start| (Seq(start), Seq(start + 10)));
        assert_eq!(blocks, expected);
        for n in 0..40u32 {
            let _ = reassembly.insert(&mut chunks, Seq(1000 + 20 * n), &[0; 10]);
        }
        assert_eq!(reassembly.used as usize, chunks.used());
        reassembly.clear(&mut chunks);
        assert_eq!(chunks.used(), 0);
    }
}
