//! What an application wants to send, by stream offset, without materialising what can be had again.
//!
//! An [`Output`] is a chain of pieces: bytes that exist nowhere else (echoed data, response heads) in
//! pooled chunks, and references to pinned objects and generated streams. The TCP reads it at any
//! offset, straight into a frame, for the first transmission and for every retransmission; what the
//! other side has acknowledged is trimmed. Offsets count from the first byte behind the SYN.
//!
//! ```text
//!            start                       end
//!   trimmed    |  held: read_at works     |  not produced yet
//! ```
//!
//! `start` may lie beyond `end`: after a takeover a client may acknowledge what the old owner sent and
//! this node has not produced yet. What is produced below `start` is dropped at once.
//!
//! Bounds: the pools of [`Memory`]; 65 535 pieces; the applications keep to `OUTPUT_PIECES_MAX`. Units: bytes.

mod memory;
mod piece;

pub use memory::{Memory, OutOfMemory};
pub use piece::Piece;

use alloc::vec::Vec;

use crate::bytes::{ByteQueue, Place};
use crate::codec::{ImportError, Put, Reader};
use crate::content::{Content, ObjectId};
use crate::limits::STREAM_BYTES_MAX;
use crate::pool::NONE;

use piece::Source;

/// Where the last read ended, so that the next one need not walk from the head. Local state of one
/// reader of one output, until that is cleared or imported anew; a default one is merely slow.
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
    /// Bytes held in chunks.
    stored: u32,
    pieces: u16,
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
        Output { head: NONE, tail: NONE, stored: 0, pieces: 0, closed: false, start: 0, end: 0 }
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
        self.stored.into()
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
            let stored =
                u32::try_from(kept.len()).ok().and_then(|len| self.stored.checked_add(len));
            let stored = stored.ok_or(OutOfMemory)?;
            if !self.extend_tail(memory, kept)? {
                let mut queue = ByteQueue::new();
                let has_room = memory.pieces.available() > 0 && self.pieces < u16::MAX;
                if !has_room || !queue.append(&mut memory.chunks, kept) {
                    return Err(OutOfMemory);
                }
                let at = self.end + skip as u64;
                self.link(memory, at, kept.len() as u64, Source::Bytes(queue))?;
            }
            self.stored = stored;
        }
        self.end = end;
        Ok(())
    }

    /// Produces what is in `queue`, which is empty then: nothing is copied. All or nothing.
    pub fn push_queue(
        &mut self,
        memory: &mut Memory,
        queue: &mut ByteQueue,
    ) -> Result<(), OutOfMemory> {
        let len = queue.len() as u64;
        let skip = self.skipped(len);
        let end = self.end_after(len)?;
        let stored = u32::try_from(len - skip).ok().and_then(|len| self.stored.checked_add(len));
        let stored = stored.ok_or(OutOfMemory)?;
        if skip < len {
            if memory.pieces.available() == 0 || self.pieces == u16::MAX {
                return Err(OutOfMemory);
            }
            let mut kept = core::mem::take(queue);
            kept.consume(&mut memory.chunks, skip as usize);
            self.link(memory, self.end + skip, len - skip, Source::Bytes(kept))?;
        }
        queue.clear(&mut memory.chunks);
        (self.stored, self.end) = (stored, end);
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

    /// `len` bytes count as produced that are not needed any more: they must lie below `start`.
    pub fn pass_over(&mut self, len: u32) -> Result<(), OutOfMemory> {
        let end = self.end_after(len.into())?;
        if len > 0 && end > self.start {
            return Err(OutOfMemory);
        }
        self.end = end;
        Ok(())
    }

    /// Takes the last `len` bytes back. What is left must be bytes, and few: they are copied.
    pub fn take_back(&mut self, memory: &mut Memory, len: u32) -> Result<(), OutOfMemory> {
        if len == 0 {
            return Ok(());
        }
        let Output { start, closed, .. } = *self;
        let end = self.end.saturating_sub(len.into());
        let mut kept = alloc::vec![0; end.saturating_sub(start) as usize];
        self.read_bytes(memory, &mut kept);
        self.clear(memory);
        (self.start, self.end) = (start, start.min(end));
        self.push_bytes(memory, &kept)?;
        (self.end, self.closed) = (end, closed);
        Ok(())
    }

    /// The first bytes that are held, which must be bytes.
    fn read_bytes(&self, memory: &Memory, buf: &mut [u8]) {
        let (content, mut cursor) = (Content::default(), Cursor::default());
        let read = self.read_at(memory, &content, &mut cursor, self.start, buf);
        assert_eq!(read, buf.len(), "they are held");
    }

    /// Drops everything below `upto`, now and when it is produced.
    pub fn trim(&mut self, memory: &mut Memory, upto: u64) {
        self.start = self.start.max(upto);
        while self.head != NONE {
            let piece = &mut memory.pieces[self.head];
            let cut = self.start.saturating_sub(piece.at);
            if cut < piece.len {
                self.stored -= piece.cut(&mut memory.chunks, cut) as u32;
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
        let mut steps = 0;
        while !rest.is_empty() {
            steps += 1;
            assert!(steps <= 2 * self.pieces as u32, "a cursor of another output");
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
        if self.pieces == u16::MAX {
            return Err(OutOfMemory);
        }
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
            self.stored -= piece.len as u32;
        }
        self.head = piece.next;
        if self.head == NONE {
            self.tail = NONE;
        }
        self.pieces -= 1;
    }
}

/// Replication: what is held goes to the peer whole, and comes back in pieces of that node's pools.
impl Output {
    /// Writes everything that is held behind `out` but for the last `ahead` bytes, of which the log knows nothing. If there
    /// are any, what is left must be bytes.
    pub fn export(&self, memory: &Memory, ahead: u32, out: &mut Vec<u8>) {
        if ahead > 0 {
            return self.export_beginning(memory, ahead, out);
        }
        let Output { head, tail: _, pieces, stored: _, start, end, closed } = self;
        out.put_u64(*start);
        out.put_u64(*end);
        out.put_bool(*closed);
        out.put_u32(u32::from(*pieces));
        let mut index = *head;
        while index != NONE {
            memory.pieces[index].export(memory, out);
            index = memory.pieces[index].next;
        }
    }

    fn export_beginning(&self, memory: &Memory, ahead: u32, out: &mut Vec<u8>) {
        let end = self.end.saturating_sub(ahead.into());
        let len = end.saturating_sub(self.start) as u32;
        out.put_u64(self.start);
        out.put_u64(end);
        out.put_bool(self.closed);
        out.put_u32(u32::from(len > 0));
        if len > 0 {
            piece::export_bytes(len, out, |bytes| self.read_bytes(memory, bytes));
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
            piece::import(self, memory, content, reader)?;
            if self.end == before || self.end > end {
                return Err(ImportError::Invalid);
            }
        }
        if self.end == end { Ok(()) } else { Err(ImportError::Invalid) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::CHUNK_BYTES;
    use crate::{content, generate};
    use alloc::vec;

    fn content() -> Content {
        let bytes = (0..5000u32).map(|i| (i / 7) as u8).collect();
        let source =
            content::Source { path: "/o".into(), content_type: "text/plain".into(), bytes };
        Content::new(vec![source]).unwrap()
    }

    struct Random(u64);

    impl Random {
        fn below(&mut self, n: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 11) % n
        }
    }

    /// Pushes something random to both.
    fn push(random: &mut Random, output: &mut Output, memory: &mut Memory, model: &mut Vec<u8>) {
        let len = random.below(4000);
        let start = random.below(1000);
        let mut bytes = vec![0; len as usize];
        match random.below(4) {
            0 => {
                generate::fill(3, start, &mut bytes);
                output.push_generated(memory, 3, start, len).unwrap();
            }
            1 => {
                let content = content();
                bytes
                    .copy_from_slice(&content.objects()[0].bytes[start as usize..][..len as usize]);
                output.push_object(memory, ObjectId(0), start, len).unwrap();
            }
            _ => {
                generate::fill(random.below(99), 0, &mut bytes);
                output.push_bytes(memory, &bytes).unwrap();
            }
        }
        model.extend(bytes);
    }

    fn moved(output: &mut Output, memory: &mut Memory, content: &Content) {
        let mut out = Vec::new();
        output.export(memory, 0, &mut out);
        output.clear(memory);
        assert!(memory.is_unused());
        let mut reader = Reader::new(&out);
        *output = Output::import(memory, content, &mut reader).unwrap();
        assert_eq!(reader.remaining(), 0);
    }

    #[test]
    fn an_output_reads_like_the_whole_stream_at_any_offset() {
        let content = content();
        let mut random = Random(0x5eed);
        for _ in 0..40 {
            let mut memory = Memory::new(0, 64, 256);
            let mut output = Output::new();
            let mut model = Vec::new();
            let mut cursor = Cursor::default();
            let mut next = 0;
            for _ in 0..200 {
                if output.pieces() < 60 && output.held() < 200_000 {
                    push(&mut random, &mut output, &mut memory, &mut model);
                }
                match random.below(8) {
                    // Beyond the end, as after a takeover.
                    0 => output.trim(&mut memory, model.len() as u64 + random.below(5000)),
                    1..4 => {
                        let upto = output.start() + random.below(output.held() + 1);
                        output.trim(&mut memory, upto);
                    }
                    4 => {
                        moved(&mut output, &mut memory, &content);
                        cursor = Cursor::default();
                    }
                    _ => {}
                }
                assert_eq!(output.end(), model.len() as u64);
                if random.below(3) == 0 || next < output.start() || next > output.end() {
                    next = output.start() + random.below(output.held() + 1);
                }
                let mut buf = vec![0; random.below(3000) as usize];
                let n = output.read_at(&memory, &content, &mut cursor, next, &mut buf);
                let there = output.end().saturating_sub(next).min(buf.len() as u64);
                assert_eq!(n as u64, there);
                assert_eq!(buf[..n], model[next.min(output.end()) as usize..][..n]);
                next += n as u64;
            }
            output.clear(&mut memory);
            assert!(memory.is_unused());
        }
    }

    #[test]
    fn what_was_exported_is_exported_alike_by_who_has_imported_it() {
        let content = content();
        let mut memory = Memory::new(0, 8, 8);
        let mut output = Output::new();
        output.push_bytes(&mut memory, b"a header").unwrap();
        let mut queue = ByteQueue::new();
        assert!(queue.append(&mut memory.chunks, b"what came before there was a server"));
        output.push_queue(&mut memory, &mut queue).unwrap();
        let mut first = Vec::new();
        output.export(&memory, 0, &mut first);
        moved(&mut output, &mut memory, &content);
        let mut second = Vec::new();
        output.export(&memory, 0, &mut second);
        assert_eq!(first, second);
    }

    #[test]
    fn below_the_start_and_behind_the_end_there_is_nothing() {
        let content = content();
        let mut memory = Memory::new(0, 4, 4);
        let mut output = Output::new();
        let mut cursor = Cursor::default();
        output.push_bytes(&mut memory, b"abcdef").unwrap();
        output.trim(&mut memory, 2);
        let mut buf = [0; 9];
        assert_eq!(output.read_at(&memory, &content, &mut cursor, 1, &mut buf), 0);
        assert_eq!(output.read_at(&memory, &content, &mut cursor, 6, &mut buf), 0);
        assert_eq!(output.read_at(&memory, &content, &mut cursor, 2, &mut buf), 4);
        assert_eq!((output.start(), output.held(), output.stored()), (2, 4, 4));
        output.trim(&mut memory, 10);
        assert!(memory.is_unused());
        output.push_bytes(&mut memory, b"ghijkl").unwrap();
        assert_eq!((output.end(), output.held(), output.stored()), (12, 2, 2));
        assert_eq!(output.read_at(&memory, &content, &mut cursor, 10, &mut buf), 2);
        assert_eq!(&buf[..2], b"kl");
    }

    #[test]
    fn exhausted_pools_refuse_and_change_nothing() {
        let mut memory = Memory::new(0, 1, 1);
        assert!(!memory.has_room_for(0));
        let mut output = Output::new();
        assert_eq!(output.push_bytes(&mut memory, &[0; CHUNK_BYTES + 1]), Err(OutOfMemory));
        assert!(memory.is_unused() && output == Output::new());
        output.push_bytes(&mut memory, b"x").unwrap();
        assert_eq!(output.push_generated(&mut memory, 0, 0, 1), Err(OutOfMemory));
        assert_eq!(output.push_bytes(&mut memory, &[0; CHUNK_BYTES]), Err(OutOfMemory));
        assert_eq!((output.end(), output.pieces(), output.stored()), (1, 1, 1));
    }

    #[test]
    fn hostile_exports_are_refused_and_leave_nothing_behind() {
        let content = content();
        let mut random = Random(77);
        let mut memory = Memory::new(0, 64, 64);
        let mut output = Output::new();
        output.push_bytes(&mut memory, b"abc").unwrap();
        output.push_object(&mut memory, ObjectId(0), 4000, 1000).unwrap();
        output.push_generated(&mut memory, 1, 2, 3).unwrap();
        let mut good = Vec::new();
        output.export(&memory, 0, &mut good);
        output.clear(&mut memory);
        for round in 0..20_000 {
            let mut bad = good.clone();
            for _ in 0..1 + random.below(3) {
                let at = random.below(bad.len() as u64) as usize;
                bad[at] = random.below(256) as u8;
            }
            if round % 2 == 0 {
                bad.truncate(random.below(good.len() as u64) as usize);
            }
            let imported = Output::import(&mut memory, &content, &mut Reader::new(&bad));
            if let Ok(mut output) = imported {
                let start = output.start();
                let mut buf = [0; 4096];
                output.read_at(&memory, &content, &mut Cursor::default(), start, &mut buf);
                output.trim(&mut memory, start + 1);
                output.clear(&mut memory);
            }
            assert!(memory.is_unused());
        }
    }
}
