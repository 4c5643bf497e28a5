//! What an application wants to send, by stream offset, without materialising what can be had again.
//!
//! An [`Output`] is a chain of pieces: bytes that exist nowhere else (echoed data, response heads) in
//! pooled chunks, and references to pinned objects and generated streams. The TCP reads it at any offset, straight
//! into a frame, for the first transmission and for every retransmission; what the other side has
//! acknowledged is trimmed. Offsets count from the first byte behind the SYN.
//!
//! ```text
//!            start                       end
//!   trimmed    |  held: read_at works     |  not produced yet
//! ```
//!
//! `start` may lie beyond `end`: after a takeover a client may acknowledge what the old owner sent and
//! this node has not produced yet. What is produced below `start` is dropped at once.
//!
//! Bounds: the pools of [`Memory`]; the applications keep to `OUTPUT_PIECES_MAX`. Units: bytes.

use alloc::vec::Vec;

use crate::bytes::{self, ByteQueue, Chunks, Place};
use crate::codec::{ImportError, Put, Reader};
use crate::content::{Content, ObjectId};
use crate::generate;
use crate::limits::{
    CHUNK_BYTES, GENERATED_BYTES_MAX, HTTP_OUTPUT_CHUNKS_MAX, OUTPUT_PIECES_MAX, STREAM_BYTES_MAX,
};
use crate::pool::{NONE, Pool};
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
    /// Hashes of uploads: one for every flow, so that no upload waits for another flow's.
    pub hashes: Pool<Sha256>,
}

impl Memory {
    /// Takes memory for `flows` flows, `pieces` pieces and `chunks` chunks of `CHUNK_BYTES` bytes.
    pub fn new(flows: usize, pieces: usize, chunks: usize) -> Memory {
        Memory { chunks: Chunks::new(chunks), pieces: Pool::new(pieces), hashes: Pool::new(flows) }
    }

    /// Whether any application can take `input_bytes` of input (or, with 0, an end, a tick, the
    /// backlog) without failing. The owner asks before it records a fact; a refusal is as if the
    /// network had lost the segment.
    pub fn has_room_for(&self, input_bytes: usize) -> bool {
        let chunks = input_bytes.div_ceil(CHUNK_BYTES) + 1 + HTTP_OUTPUT_CHUNKS_MAX;
        self.chunks.available() >= chunks && self.pieces.available() >= OUTPUT_PIECES_MAX
    }

    /// Whether no flow holds anything: what must be true when all flows are gone.
    pub fn is_unused(&self) -> bool {
        self.chunks.used() + self.pieces.used() + self.hashes.used() == 0
    }
}

/// One stretch of an output.
#[derive(Clone, Default, Debug)]
pub struct Piece {
    /// Stream offset of the first byte still held.
    at: u64,
    /// Bytes still held; never 0 in a chain.
    len: u64,
    next: u32,
    source: Source,
}

/// Where the bytes of a piece come from.
#[derive(Clone, Debug)]
enum Source {
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

/// Where the last read ended, so that the next one need not walk from the head. Local state of one
/// reader of one output; any cursor is safe with its output, a default one is merely slow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cursor {
    piece: u32,
    /// Of byte `last`; chunk `NONE` in pieces without chunks.
    place: Place,
    /// Stream offset of the last byte read. While it is held, so are its piece and its chunk.
    last: u64,
}

const NOWHERE: Place = Place { chunk: NONE, within: 0 };

impl Default for Cursor {
    fn default() -> Cursor {
        Cursor { piece: NONE, place: NOWHERE, last: 0 }
    }
}

/// The bytes that an application has produced and the other side has not acknowledged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Output {
    head: u32,
    tail: u32,
    pieces: u32,
    /// Bytes held in chunks.
    stored: u64,
    /// Everything below is dropped. May lie beyond `end`.
    start: u64,
    /// Bytes produced so far.
    end: u64,
    /// Nothing will follow.
    closed: bool,
}

impl Default for Output {
    fn default() -> Output {
        Output::new()
    }
}

impl Output {
    /// Nothing produced yet.
    pub const fn new() -> Output {
        Output { head: NONE, tail: NONE, pieces: 0, stored: 0, start: 0, end: 0, closed: false }
    }

    /// The stream offset below which everything is dropped.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// The stream offset behind the last byte produced.
    #[inline]
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Bytes of the stream that are still held, materialised or not.
    pub fn held(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// Bytes held in chunks.
    pub fn stored(&self) -> u64 {
        self.stored
    }

    /// Pieces held.
    pub fn pieces(&self) -> usize {
        self.pieces as usize
    }

    /// Whether nothing follows the bytes up to `end`: a FIN belongs there.
    #[inline]
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Declares that nothing will follow.
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// Produces `input`, all or nothing.
    pub fn push_bytes(&mut self, memory: &mut Memory, input: &[u8]) -> Result<(), OutOfMemory> {
        let skip = self.skipped(input.len() as u64) as usize;
        let kept = &input[skip..];
        let end = self.end_after(input.len() as u64)?;
        if !kept.is_empty() {
            if !self.extend_tail(memory, kept)? {
                let mut queue = ByteQueue::new();
                if memory.pieces.available() == 0 || !queue.append(&mut memory.chunks, kept) {
                    return Err(OutOfMemory);
                }
                let at = self.end + skip as u64;
                self.link(memory, at, kept.len() as u64, Source::Bytes(queue))?;
            }
            self.stored += kept.len() as u64;
        }
        self.end = end;
        Ok(())
    }

    /// Produces `len` bytes of a pinned object from `start` on. The caller knows that it has them.
    pub fn push_object(
        &mut self,
        memory: &mut Memory,
        id: ObjectId,
        start: u64,
        len: u64,
    ) -> Result<(), OutOfMemory> {
        let start = start + self.skipped(len);
        self.push_reference(memory, len, Source::Object { id, start })
    }

    /// Produces `len` bytes of the generated stream of `seed` from `start` on.
    pub fn push_generated(
        &mut self,
        memory: &mut Memory,
        seed: u64,
        start: u64,
        len: u64,
    ) -> Result<(), OutOfMemory> {
        let start = start + self.skipped(len);
        self.push_reference(memory, len, Source::Generated { seed, start })
    }

    /// Drops everything below `upto`, now and when it is produced.
    pub fn trim(&mut self, memory: &mut Memory, upto: u64) {
        self.start = self.start.max(upto);
        while self.head != NONE {
            let piece = &mut memory.pieces[self.head];
            let cut = self.start.saturating_sub(piece.at);
            if cut < piece.len {
                piece.at += cut;
                piece.len -= cut;
                match &mut piece.source {
                    Source::Bytes(queue) => {
                        queue.consume(&mut memory.chunks, cut as usize);
                        self.stored -= cut;
                    }
                    Source::Object { start, .. } | Source::Generated { start, .. } => *start += cut,
                }
                return;
            }
            self.drop_head(memory);
        }
    }

    /// Copies bytes from stream offset `offset` on into `buf`; answers how many there are, which is
    /// fewer than asked for only at `end`, and 0 below `start`.
    pub fn read_at(
        &self,
        memory: &Memory,
        content: &Content,
        cursor: &mut Cursor,
        offset: u64,
        buf: &mut [u8],
    ) -> usize {
        if offset < self.start || offset >= self.end {
            return 0;
        }
        let len = buf.len().min((self.end - offset).min(usize::MAX as u64) as usize);
        let mut rest = &mut buf[..len];
        let mut at = offset;
        let usable = cursor.piece != NONE && cursor.last >= self.start && at >= cursor.last;
        if !usable {
            *cursor = Cursor { piece: self.head, place: NOWHERE, last: self.start };
        }
        while !rest.is_empty() {
            let piece = &memory.pieces[cursor.piece];
            let skip = at - piece.at;
            if skip >= piece.len {
                *cursor = Cursor { piece: piece.next, place: NOWHERE, last: at };
                continue;
            }
            let n = rest.len().min((piece.len - skip).min(usize::MAX as u64) as usize);
            let (now, later) = rest.split_at_mut(n);
            cursor.place = piece.read(memory, content, cursor, at, now);
            at += n as u64;
            cursor.last = at - 1;
            rest = later;
        }
        len
    }

    /// Gives everything back. The output is as new.
    pub fn clear(&mut self, memory: &mut Memory) {
        while self.head != NONE {
            self.drop_head(memory);
        }
        *self = Output::new();
    }

    /// How many of the next `len` bytes lie below `start`.
    fn skipped(&self, len: u64) -> u64 {
        self.start.saturating_sub(self.end).min(len)
    }

    fn end_after(&self, len: u64) -> Result<u64, OutOfMemory> {
        self.end.checked_add(len).filter(|end| *end <= STREAM_BYTES_MAX).ok_or(OutOfMemory)
    }

    /// Appends to the last piece if it holds bytes; answers whether it does.
    fn extend_tail(&self, memory: &mut Memory, bytes: &[u8]) -> Result<bool, OutOfMemory> {
        if self.tail == NONE {
            return Ok(false);
        }
        let tail = &mut memory.pieces[self.tail];
        let Source::Bytes(queue) = &mut tail.source else { return Ok(false) };
        if !queue.append(&mut memory.chunks, bytes) {
            return Err(OutOfMemory);
        }
        tail.len += bytes.len() as u64;
        Ok(true)
    }

    fn push_reference(
        &mut self,
        memory: &mut Memory,
        len: u64,
        source: Source,
    ) -> Result<(), OutOfMemory> {
        let skip = self.skipped(len);
        let end = self.end_after(len)?;
        if skip < len {
            self.link(memory, self.end + skip, len - skip, source)?;
        }
        self.end = end;
        Ok(())
    }

    fn link(
        &mut self,
        memory: &mut Memory,
        at: u64,
        len: u64,
        source: Source,
    ) -> Result<(), OutOfMemory> {
        let piece = Piece { at, len, next: NONE, source };
        let index = memory.pieces.take(piece).ok_or(OutOfMemory)?;
        if self.tail == NONE {
            self.head = index;
        } else {
            memory.pieces[self.tail].next = index;
        }
        self.tail = index;
        self.pieces += 1;
        Ok(())
    }

    fn drop_head(&mut self, memory: &mut Memory) {
        let piece = memory.pieces.give(self.head);
        if let Source::Bytes(mut queue) = piece.source {
            queue.clear(&mut memory.chunks);
            self.stored -= piece.len;
        }
        self.head = piece.next;
        if self.head == NONE {
            self.tail = NONE;
        }
        self.pieces -= 1;
    }
}

impl Piece {
    /// Fills `buf`, which is not empty and lies within the piece, from stream offset `at` on.
    fn read(
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
                let place = if cursor.place.chunk == NONE {
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

    fn export(&self, memory: &Memory, out: &mut Vec<u8>) {
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

/// Replication: what is held goes to the peer whole, and comes back in pieces of that node's pools.
impl Output {
    /// Writes everything that is held behind `out`.
    pub fn export(&self, memory: &Memory, out: &mut Vec<u8>) {
        let Output { head, tail: _, pieces, stored: _, start, end, closed } = self;
        out.put_u64(*start);
        out.put_u64(*end);
        out.put_bool(*closed);
        out.put_u32(*pieces);
        let mut index = *head;
        while index != NONE {
            memory.pieces[index].export(memory, out);
            index = memory.pieces[index].next;
        }
    }

    /// Reads what `export` wrote on a node with the same content.
    pub fn import(
        memory: &mut Memory,
        content: &Content,
        reader: &mut Reader,
    ) -> Result<Output, ImportError> {
        let mut output = Output::new();
        let imported = output.import_pieces(memory, content, reader);
        if imported.is_err() {
            output.clear(memory);
        }
        imported.map(|()| output)
    }

    fn import_pieces(
        &mut self,
        memory: &mut Memory,
        content: &Content,
        reader: &mut Reader,
    ) -> Result<(), ImportError> {
        self.start = reader.u64()?;
        let end = reader.u64()?;
        self.closed = reader.bool()?;
        let pieces = reader.u32()?;
        if self.start > STREAM_BYTES_MAX || end > STREAM_BYTES_MAX {
            return Err(ImportError::Invalid);
        }
        self.end = self.start.min(end);
        for _ in 0..pieces {
            let before = self.end;
            import_piece(self, memory, content, reader)?;
            if self.end == before || self.end > end {
                return Err(ImportError::Invalid);
            }
        }
        if self.end == end { Ok(()) } else { Err(ImportError::Invalid) }
    }
}

fn import_piece(
    output: &mut Output,
    memory: &mut Memory,
    content: &Content,
    reader: &mut Reader,
) -> Result<(), ImportError> {
    let exhausted = |_: OutOfMemory| ImportError::OutOfMemory;
    match reader.u8()? {
        0 => {
            let len = reader.u32()?;
            let bytes = reader.bytes(len as usize)?;
            output.push_bytes(memory, bytes).map_err(exhausted)
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
