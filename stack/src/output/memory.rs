//! The pools that all flows of a core share, and the question whether they suffice.
//!
//! Bounds: all memory is taken at construction.

use super::Piece;
use crate::bytes::Chunks;
use crate::limits::{
    CHUNK_BYTES, HTTP_OUTPUT_CHUNKS_MAX, OUTPUT_PIECES_MAX, SCARCE_PARTS, SHARE_BYTES_LEAST,
    SHARE_BYTES_MOST, SHARE_PARTS,
};
use crate::pool::Pool;
use crate::sha256::Sha256;

/// A pool of this core is exhausted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutOfMemory;

/// The pools that all flows of a core share, taken at start.
pub struct Memory {
    /// Bytes that exist nowhere else: unread input, echoed data, response heads.
    pub chunks: Chunks,
    /// Pieces of outputs.
    pub pieces: Pool<Piece>,
    /// Hashes of uploads. Whoever holds one can finish; a flow that finds none waits until its client repeats.
    pub hashes: Pool<Sha256>,
    /// Flows given up early because chunks were scarce.
    pub given_up: u64,
}

impl Memory {
    /// Takes memory for `uploads` hashes, `pieces` pieces and `chunks` chunks of `CHUNK_BYTES` bytes.
    pub fn new(uploads: usize, pieces: usize, chunks: usize) -> Memory {
        Memory {
            chunks: Chunks::new(chunks),
            pieces: Pool::new(pieces),
            hashes: Pool::new(uploads),
            given_up: 0,
        }
    }

    /// Whether any application can take `input_bytes` of input (or, with 0, an end, a tick, the
    /// backlog) without failing. The owner asks before it records a fact; a refusal is as if the
    /// network had lost the segment.
    pub fn has_room_for(&self, input_bytes: usize) -> bool {
        let chunks = input_bytes.div_ceil(CHUNK_BYTES) + 1 + HTTP_OUTPUT_CHUNKS_MAX;
        self.chunks.available() >= chunks && self.pieces.available() >= OUTPUT_PIECES_MAX
    }

    /// What one flow may hold in chunks beside what has arrived out of order, and is offered at most: anything while half is free,
    /// then a part of that, the smaller the less it is, for what others hold is not given back because there is less (dynamic
    /// thresholds as of Choudhury and Hahne, IEEE/ACM Transactions on Networking 6(2), 1998, have one and the same part, and count
    /// on queues that drain).
    #[inline]
    pub fn share(&self) -> usize {
        let (free, all) = (self.chunks.available(), self.chunks.capacity());
        if 2 * free >= all {
            return SHARE_BYTES_MOST;
        }
        let chunks = free * free / all.max(1) / SHARE_PARTS;
        (chunks * CHUNK_BYTES).clamp(SHARE_BYTES_LEAST, SHARE_BYTES_MOST)
    }

    /// Whether so few chunks are free that whoever gets nowhere with what it holds must give it back.
    pub fn is_scarce(&self) -> bool {
        self.chunks.available() * SCARCE_PARTS < self.chunks.capacity()
    }

    /// Whether no flow holds anything: what must be true when all flows are gone.
    pub fn is_unused(&self) -> bool {
        self.chunks.used() + self.pieces.used() + self.hashes.used() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Anything while half is free, then less and less, and never too little for a request's head.
    #[test]
    fn a_share_shrinks_with_what_is_free() {
        let share = |used: usize, all: usize| {
            let mut memory = Memory::new(0, 0, all);
            let mut queue = crate::bytes::ByteQueue::default();
            assert!(queue.append(&mut memory.chunks, &alloc::vec![0; used * CHUNK_BYTES]));
            memory.share()
        };
        assert_eq!((share(0, 4096), share(2048, 4096)), (SHARE_BYTES_MOST, SHARE_BYTES_MOST));
        assert_eq!(share(2049, 4096), 255 * CHUNK_BYTES);
        assert_eq!(share(3072, 4096), 64 * CHUNK_BYTES);
        assert_eq!(share(4000, 4096), SHARE_BYTES_LEAST);
        assert_eq!(share(4096, 4096), SHARE_BYTES_LEAST);
    }
}
