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

    /// What one flow may hold in chunks, and is offered at most: a part of what is free, the smaller the less that is, for what
    /// others hold is not given back because there is less (dynamic thresholds as of Choudhury and Hahne, IEEE/ACM Transactions on
    /// Networking 6(2), 1998, have one and the same part, and count on queues that drain).
    #[inline]
    pub fn share(&self) -> usize {
        let (free, all) = (self.chunks.available(), self.chunks.capacity());
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
