//! Queues of bytes that live in one pool of equal chunks.
//!
//! A flow's echoed data, response heads and unread input are short-lived and of any length; a core
//! takes one slab at start, and a [`ByteQueue`] is a chain of its chunks. A queue is filled without
//! gaps, so head, offset and length say where every byte is. It does not own its chunks in Rust's sense
//! (state is a plain value): whoever drops a queue clears it first.
//!
//! Bounds: the chunks given at construction; an exhausted pool refuses, nothing is appended in part.

use alloc::vec::Vec;

use crate::codec::{ImportError, Put, Reader};
use crate::limits::CHUNK_BYTES;
use crate::pool::NONE;

/// The link of a chunk that is the last of its queue.
const LAST: u32 = NONE - 1;

/// A pool of chunks of [`CHUNK_BYTES`] bytes.
pub struct Chunks {
    bytes: Vec<u8>,
    /// For a free chunk, the next free one; for a used one, the next of its queue or `LAST`.
    links: Vec<u32>,
    free_head: u32,
    used: u32,
}

impl Chunks {
    /// Takes memory for `capacity` chunks (fewer than 2^32 - 2).
    pub fn new(capacity: usize) -> Chunks {
        assert!(capacity < LAST as usize);
        let links = (1..=capacity as u32).map(|i| if i == capacity as u32 { NONE } else { i });
        Chunks {
            bytes: alloc::vec![0; capacity * CHUNK_BYTES],
            links: links.collect(),
            free_head: if capacity == 0 { NONE } else { 0 },
            used: 0,
        }
    }

    /// Chunks in use.
    pub fn used(&self) -> usize {
        self.used as usize
    }

    /// Chunks that can still be taken.
    pub fn available(&self) -> usize {
        self.links.len() - self.used as usize
    }

    /// Chunks in total.
    pub fn capacity(&self) -> usize {
        self.links.len()
    }

    /// The caller has checked that one is available.
    fn take(&mut self) -> u32 {
        let chunk = self.free_head;
        self.free_head = self.links[chunk as usize];
        self.links[chunk as usize] = LAST;
        self.used += 1;
        chunk
    }

    /// Gives a chunk back; answers what followed it in its queue.
    fn give(&mut self, chunk: u32) -> u32 {
        let next = self.links[chunk as usize];
        self.links[chunk as usize] = self.free_head;
        self.free_head = chunk;
        self.used -= 1;
        next
    }

    fn slice(&self, chunk: u32, from: usize, to: usize) -> &[u8] {
        let start = chunk as usize * CHUNK_BYTES;
        &self.bytes[start + from..start + to]
    }
}

/// A place in a queue, from which a later one is found without walking from the head.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    pub chunk: u32,
    /// Index in the chunk, up to and including its end.
    pub within: u32,
}

/// A chain of chunks holding `len` bytes, the first of them at `offset` in the first chunk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ByteQueue {
    head: u32,
    tail: u32,
    offset: u32,
    len: u32,
}

impl Default for ByteQueue {
    fn default() -> ByteQueue {
        ByteQueue::new()
    }
}

impl ByteQueue {
    /// An empty queue, which holds no chunk.
    pub const fn new() -> ByteQueue {
        ByteQueue { head: NONE, tail: NONE, offset: 0, len: 0 }
    }

    /// Bytes held.
    #[inline]
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether nothing is held.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Free bytes in the last chunk.
    fn slack(&self) -> usize {
        (CHUNK_BYTES - (self.offset as usize + self.len()) % CHUNK_BYTES) % CHUNK_BYTES
    }

    /// Appends all of `input`, or nothing and answers `false` when the pool has too few chunks.
    #[must_use]
    pub fn append(&mut self, chunks: &mut Chunks, mut input: &[u8]) -> bool {
        let needed = input.len().saturating_sub(self.slack()).div_ceil(CHUNK_BYTES);
        if needed > chunks.available() || input.len() >= (u32::MAX - self.len) as usize {
            return false;
        }
        while !input.is_empty() {
            let mut slack = self.slack();
            if slack == 0 {
                let chunk = chunks.take();
                if self.tail == NONE {
                    self.head = chunk;
                } else {
                    chunks.links[self.tail as usize] = chunk;
                }
                self.tail = chunk;
                slack = CHUNK_BYTES;
            }
            let (now, later) = input.split_at(slack.min(input.len()));
            let start = (self.tail as usize + 1) * CHUNK_BYTES - slack;
            chunks.bytes[start..start + now.len()].copy_from_slice(now);
            self.len += now.len() as u32;
            input = later;
        }
        true
    }

    /// Drops the first `n` bytes, all of them if there are fewer.
    pub fn consume(&mut self, chunks: &mut Chunks, n: usize) {
        if n >= self.len() {
            return self.clear(chunks);
        }
        self.offset += n as u32;
        self.len -= n as u32;
        while self.offset as usize >= CHUNK_BYTES {
            self.head = chunks.give(self.head);
            self.offset -= CHUNK_BYTES as u32;
        }
    }

    /// Drops everything and gives every chunk back.
    pub fn clear(&mut self, chunks: &mut Chunks) {
        let mut chunk = self.head;
        while chunk != NONE && chunk != LAST {
            chunk = chunks.give(chunk);
        }
        *self = ByteQueue::new();
    }

    /// Copies bytes from `offset` on into `buf`; answers how many there were.
    pub fn copy_at(&self, chunks: &Chunks, offset: usize, buf: &mut [u8]) -> usize {
        let n = buf.len().min(self.len().saturating_sub(offset));
        if n > 0 {
            copy_from(chunks, self.place(chunks, offset), &mut buf[..n]);
        }
        n
    }

    /// The bytes from the front that lie in one chunk.
    pub fn front<'a>(&self, chunks: &'a Chunks) -> &'a [u8] {
        if self.is_empty() {
            return &[];
        }
        let from = self.offset as usize;
        chunks.slice(self.head, from, CHUNK_BYTES.min(from + self.len()))
    }

    /// Where the byte at `offset` lies. The caller knows that it is held.
    pub(crate) fn place(&self, chunks: &Chunks, offset: usize) -> Place {
        let start = Place { chunk: self.head, within: self.offset };
        advance(chunks, start, offset)
    }

    /// Writes length and bytes behind `out`.
    pub fn export(&self, chunks: &Chunks, out: &mut Vec<u8>) {
        let ByteQueue { head: _, tail: _, offset: _, len } = self;
        out.put_u32(*len);
        let start = out.len();
        out.resize(start + self.len(), 0);
        self.copy_at(chunks, 0, &mut out[start..]);
    }

    /// Reads what `export` wrote, into chunks of this node.
    pub fn import(chunks: &mut Chunks, reader: &mut Reader) -> Result<ByteQueue, ImportError> {
        let len = reader.u32()?;
        let bytes = reader.bytes(len as usize)?;
        let mut queue = ByteQueue::new();
        if !queue.append(chunks, bytes) {
            return Err(ImportError::OutOfMemory);
        }
        Ok(queue)
    }
}

/// The place `n` bytes behind `place`. The caller knows that the byte there is held.
pub(crate) fn advance(chunks: &Chunks, place: Place, n: usize) -> Place {
    let mut chunk = place.chunk;
    let mut within = place.within as usize + n;
    while within >= CHUNK_BYTES {
        chunk = chunks.links[chunk as usize];
        within -= CHUNK_BYTES;
    }
    Place { chunk, within: within as u32 }
}

/// Fills `buf` from `place` on and answers the place of the last byte copied. The caller knows that
/// `buf` is not empty and that all these bytes are held.
pub(crate) fn copy_from(chunks: &Chunks, place: Place, buf: &mut [u8]) -> Place {
    let Place { mut chunk, within } = place;
    let mut from = within as usize;
    let mut done = 0;
    loop {
        let to = CHUNK_BYTES.min(from + buf.len() - done);
        buf[done..done + to - from].copy_from_slice(chunks.slice(chunk, from, to));
        done += to - from;
        if done == buf.len() {
            return Place { chunk, within: to as u32 - 1 };
        }
        chunk = chunks.links[chunk as usize];
        from = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::VecDeque;

    #[test]
    fn a_queue_behaves_like_a_deque_and_gives_every_chunk_back() {
        let mut chunks = Chunks::new(8);
        let mut queue = ByteQueue::new();
        let mut model: VecDeque<u8> = VecDeque::new();
        let mut random = 7u64;
        for step in 0..20_000u32 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let n = (random >> 32) as usize % 3000;
            if random & 1 == 0 {
                let input: Vec<u8> = (0..n).map(|i| (i as u32 + step) as u8).collect();
                if queue.append(&mut chunks, &input) {
                    model.extend(&input);
                }
            } else {
                queue.consume(&mut chunks, n);
                model.drain(..n.min(model.len()));
            }
            assert_eq!(queue.len(), model.len());
            let at = (random >> 20) as usize % (model.len() + 1);
            let mut buf = [0; 2500];
            let read = queue.copy_at(&chunks, at, &mut buf);
            assert!(model.iter().skip(at).take(2500).eq(&buf[..read]));
            assert!(model.iter().take(queue.front(&chunks).len()).eq(queue.front(&chunks)));
            assert_eq!(chunks.used(), (queue.offset as usize + queue.len()).div_ceil(CHUNK_BYTES));
        }
        queue.clear(&mut chunks);
        assert_eq!((chunks.used(), chunks.available()), (0, 8));
    }

    #[test]
    fn append_is_all_or_nothing() {
        let mut chunks = Chunks::new(2);
        let mut queue = ByteQueue::new();
        assert!(queue.append(&mut chunks, &[1; CHUNK_BYTES + 1]));
        assert!(!queue.append(&mut chunks, &[2; CHUNK_BYTES]));
        assert_eq!(queue.len(), CHUNK_BYTES + 1);
        assert!(queue.append(&mut chunks, &[2; CHUNK_BYTES - 1]));
        assert!(!queue.append(&mut chunks, &[3]));
        assert!(queue.append(&mut chunks, &[]));
        queue.consume(&mut chunks, CHUNK_BYTES);
        assert_eq!((chunks.used(), queue.front(&chunks).len()), (1, CHUNK_BYTES));
    }

    #[test]
    fn an_exported_queue_comes_back_and_a_cut_one_is_refused() {
        let mut chunks = Chunks::new(4);
        let mut queue = ByteQueue::new();
        assert!(queue.append(&mut chunks, &[5; 3000]));
        queue.consume(&mut chunks, 100);
        let mut out = Vec::new();
        queue.export(&chunks, &mut out);
        let mut other = Chunks::new(2);
        let copy = ByteQueue::import(&mut other, &mut Reader::new(&out)).unwrap();
        assert_eq!(copy.len(), 2900);
        let cut = ByteQueue::import(&mut other, &mut Reader::new(&out[..2000]));
        assert_eq!(cut, Err(ImportError::Truncated));
        let full = ByteQueue::import(&mut other, &mut Reader::new(&out));
        assert_eq!(full, Err(ImportError::OutOfMemory));
    }
}
