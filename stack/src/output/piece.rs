//! One stretch of an output: where its bytes come from, how they are read and moved.

use alloc::vec::Vec;

use super::{Cursor, Memory, NOWHERE, OutOfMemory, Output};
use crate::bytes::{self, ByteQueue, Chunks, Place};
use crate::codec::{ImportError, Put, Reader};
use crate::content::{Content, ObjectId};
use crate::generate;
use crate::limits::GENERATED_BYTES_MAX;

/// One stretch of an output.
#[derive(Clone, Default, Debug)]
pub struct Piece {
    /// Stream offset of the first byte still held.
    pub(super) at: u64,
    /// Bytes still held; never 0 in a chain.
    pub(super) len: u64,
    /// The piece behind this one.
    pub(super) next: u32,
    pub(super) source: Source,
}

/// Where the bytes of a piece come from.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// They are here.
    Bytes(ByteQueue),
    /// From `start` of a pinned object.
    Object { id: ObjectId, start: u64 },
    /// From `start` of the generated stream of a seed.
    Generated { seed: u64, start: u64 },
}

impl Default for Source {
    fn default() -> Source {
        Source::Bytes(ByteQueue::new())
    }
}

impl Piece {
    /// Drops the first `n` bytes, fewer than there are; answers how many of them lay in chunks.
    pub(super) fn cut(&mut self, chunks: &mut Chunks, n: u64) -> u64 {
        self.at += n;
        self.len -= n;
        match &mut self.source {
            Source::Bytes(queue) => {
                queue.consume(chunks, n as usize);
                n
            }
            Source::Object { start, .. } | Source::Generated { start, .. } => {
                *start += n;
                0
            }
        }
    }

    /// Fills `buf`, which is not empty and lies within the piece, from stream offset `at` on.
    pub(super) fn read(
        &self,
        memory: &Memory,
        content: &Content,
        cursor: &Cursor,
        at: u64,
        buf: &mut [u8],
    ) -> Place {
        let skip = at - self.at;
        match &self.source {
            Source::Bytes(queue) => {
                let place = if cursor.place == NOWHERE {
                    queue.place(&memory.chunks, skip as usize)
                } else {
                    bytes::advance(&memory.chunks, cursor.place, (at - cursor.last) as usize)
                };
                bytes::copy_from(&memory.chunks, place, buf)
            }
            Source::Object { id, start } => {
                let object = content.get(*id).expect("a piece names pinned content");
                let from = (start + skip) as usize;
                buf.copy_from_slice(&object.bytes[from..from + buf.len()]);
                NOWHERE
            }
            Source::Generated { seed, start } => {
                generate::fill(*seed, start + skip, buf);
                NOWHERE
            }
        }
    }

    /// Writes source and length behind `out`.
    pub(super) fn export(&self, memory: &Memory, out: &mut Vec<u8>) {
        let Piece { at: _, len, next: _, source } = self;
        match source {
            Source::Bytes(queue) => {
                out.put_u8(0);
                queue.export(&memory.chunks, out);
            }
            Source::Object { id, start } => {
                out.put_u8(1);
                out.put_u32(id.0);
                out.put_u64(*start);
                out.put_u64(*len);
            }
            Source::Generated { seed, start } => {
                out.put_u8(2);
                out.put_u64(*seed);
                out.put_u64(*start);
                out.put_u64(*len);
            }
        }
    }
}

/// Writes so many bytes as [`Piece::export`] writes a piece of them; they are filled in where they stand.
pub(super) fn export_bytes(len: u32, out: &mut Vec<u8>, fill: impl FnOnce(&mut [u8])) {
    out.put_u8(0);
    out.put_u32(len);
    let at = out.len();
    out.resize(at + len as usize, 0);
    fill(&mut out[at..]);
}

/// Reads what [`Piece::export`] wrote and produces it.
pub(super) fn import(
    output: &mut Output,
    memory: &mut Memory,
    content: &Content,
    reader: &mut Reader,
) -> Result<(), ImportError> {
    let exhausted = |_: OutOfMemory| ImportError::OutOfMemory;
    match reader.u8()? {
        0 => {
            // A piece of its own, as it was: whoever holds the same bytes exports them alike.
            let mut queue = ByteQueue::import(&mut memory.chunks, reader)?;
            let pushed = output.push_queue(memory, &mut queue);
            queue.clear(&mut memory.chunks);
            pushed.map_err(exhausted)
        }
        1 => {
            let (id, start, len) = (ObjectId(reader.u32()?), reader.u64()?, reader.u64()?);
            let object = content.get(id).ok_or(ImportError::Invalid)?;
            let fits = start.checked_add(len).is_some_and(|end| end <= object.bytes.len() as u64);
            if !fits {
                return Err(ImportError::Invalid);
            }
            output.push_object(memory, id, start, len).map_err(exhausted)
        }
        2 => {
            let (seed, start, len) = (reader.u64()?, reader.u64()?, reader.u64()?);
            if start.checked_add(len).is_none_or(|end| end > GENERATED_BYTES_MAX) {
                return Err(ImportError::Invalid);
            }
            output.push_generated(memory, seed, start, len).map_err(exhausted)
        }
        _ => Err(ImportError::Invalid),
    }
}
