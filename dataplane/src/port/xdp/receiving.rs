//! The receiving half of a port: chunks for the kernel to receive into, and frames that lie in several of them.
//!
//! The kernel fills chunks in the order in which it was given them, each from [`HEADROOM_BYTES`] on to its end, and in copy mode
//! does nothing with what is in front of that. So there the chunks of a jumbo port overlap: each begins as far before the end of
//! the last one as its headroom is long, they are given in the order of their places, and the parts of a frame are one slice where
//! the kernel has put them.
//!
//! ```text
//!   chunk 0:  [ headroom |        bytes of the frame         ]
//!   chunk 1:                                      [ headroom |        bytes of the frame         ]
//! ```
//!
//! A frame that goes on from the last chunk to the first is joined by a copy (`joiner`), and so are all where a driver works on our
//! memory itself: it may write in front of a frame, and gives chunks back in an order of its own.
//!
//! Path: first step. Bounds: half of the port's chunks.

use super::frames::{FrameState, Frames};
use super::joiner::{Joined, Joiner};
use super::ring::Producer;
use super::umem::{CHUNK_BYTES, Umem};
use super::{HEADROOM_BYTES, RxFrame};
use std::ops::Range;

/// Bytes of a frame in one chunk.
const PART_BYTES: u64 = (CHUNK_BYTES - HEADROOM_BYTES) as u64;

/// Chunks to receive into, and the frame of which not all parts have come.
pub struct Receiving {
    frames: Frames,
    /// Whether the chunks overlap.
    is_seamless: bool,
    /// What has come of a frame, where the kernel has put it.
    begun: Option<RxFrame>,
    joiner: Joiner,
}

impl Receiving {
    /// So many chunks, for frames of up to `joined_bytes` where they may lie in several.
    pub fn new(chunks: u32, joined_bytes: usize, is_seamless: bool) -> Receiving {
        let frames = if is_seamless { Frames::in_order(chunks) } else { Frames::new(chunks) };
        Receiving { frames, is_seamless, begun: None, joiner: Joiner::new(joined_bytes) }
    }

    /// Whether another received part can be taken.
    #[inline]
    pub fn has_room(&self) -> bool {
        self.joiner.has_room()
    }

    /// Gives the kernel every chunk that the core does not hold.
    #[inline]
    pub fn refill(&mut self, fill: &mut Producer<u64>) {
        let mut is_given = false;
        // The kernel shows a received frame before it shows that it took its address from this ring, so a ring that looks full
        // may not be. What does not fit waits for the next round.
        while self.frames.has_next() && fill.has_room_for(1) {
            let chunk = self.frames.take_fill();
            let written = fill.write(self.address_of(chunk));
            assert!(written, "there is room, as asked above");
            is_given = true;
        }
        if is_given {
            fill.publish();
        }
    }

    /// The kernel has received a frame, or a part of one.
    #[inline]
    pub fn take(&mut self, umem: &Umem, descriptor: &libc::xdp_desc) -> Joined {
        let part = RxFrame { address: Umem::offset_of(descriptor.addr), len: descriptor.len };
        for chunk in self.chunks_of(&part) {
            self.frames.received(chunk);
        }
        let more = descriptor.options & libc::XDP_PKT_CONTD != 0;
        if more || self.begun.is_some() || self.joiner.is_busy() {
            return self.join(umem, part, more);
        }
        Joined::Whole(part)
    }

    /// Puts a part of a frame behind the last one: most often it is there.
    #[inline(never)]
    fn join(&mut self, umem: &Umem, part: RxFrame, more: bool) -> Joined {
        if self.is_seamless && !self.joiner.is_busy() {
            let whole = match self.begun.take() {
                None => Some(part),
                Some(begun) => self.extended(&begun, &part).or_else(|| {
                    self.copy(umem, begun, true);
                    None
                }),
            };
            match whole {
                Some(begun) if more => {
                    self.begun = Some(begun);
                    return Joined::Partly;
                }
                Some(whole) => return Joined::Whole(whole),
                None => {}
            }
        }
        self.copy(umem, part, more)
    }

    /// Both as one, if they are and it is not too long.
    fn extended(&self, begun: &RxFrame, part: &RxFrame) -> Option<RxFrame> {
        let len = begun.len + part.len;
        let follows = part.address == begun.address + u64::from(begun.len);
        (follows && self.joiner.fits(len as usize)).then_some(RxFrame { len, ..*begun })
    }

    /// Copies a part of a frame; its chunks are free again.
    fn copy(&mut self, umem: &Umem, part: RxFrame, more: bool) -> Joined {
        // SAFETY: the part's chunks were received and go back to the kernel by `refill`, later.
        let bytes = unsafe { umem.bytes(part.address, part.len) };
        let joined = self.joiner.add(bytes, more);
        for chunk in self.chunks_of(&part) {
            self.frames.recycled(chunk);
        }
        joined
    }

    /// The bytes of a received frame.
    #[inline]
    pub fn bytes<'a>(&'a self, umem: &'a Umem, frame: &RxFrame) -> &'a [u8] {
        if Joiner::has(frame) {
            return self.joiner.bytes(frame);
        }
        assert!(self.holds(frame), "a received frame is read before it is recycled");
        // SAFETY: the frame is held by the core, as asserted; it goes back to the kernel by `recycle`, which needs `&mut self` and
        // so cannot happen while the slice lives.
        unsafe { umem.bytes(frame.address, frame.len) }
    }

    /// The same, to be changed.
    #[inline]
    pub fn bytes_mut<'a>(&'a mut self, umem: &'a mut Umem, frame: &RxFrame) -> &'a mut [u8] {
        if Joiner::has(frame) {
            return self.joiner.bytes_mut(frame);
        }
        assert!(self.holds(frame), "a received frame is changed before it is recycled");
        // SAFETY: the frame is held by the core, as asserted; it goes back to the kernel by `recycle`, which needs `&mut self` and
        // so cannot happen while the slice lives. Chunks that overlap it are given back without what the frame has of them.
        unsafe { umem.bytes_mut(frame.address, frame.len) }
    }

    /// The core has read a received frame.
    #[inline]
    pub fn recycle(&mut self, frame: &RxFrame) {
        if Joiner::has(frame) {
            return self.joiner.recycled();
        }
        for chunk in self.chunks_of(frame) {
            self.frames.recycled(chunk);
        }
    }

    /// Panics if a chunk is lost or in two places.
    pub fn check(&self) {
        self.frames.check();
    }

    #[inline]
    fn holds(&self, frame: &RxFrame) -> bool {
        self.chunks_of(frame).all(|chunk| self.frames.state(chunk) == FrameState::Held)
    }

    /// The chunks in which a frame lies that the kernel has put there.
    #[inline]
    fn chunks_of(&self, frame: &RxFrame) -> Range<u32> {
        if self.is_seamless {
            let first = ((frame.address - HEADROOM_BYTES as u64) / PART_BYTES) as u32;
            return first..first + u64::from(frame.len).div_ceil(PART_BYTES).max(1) as u32;
        }
        let first = Umem::chunk_of(frame.address);
        let end = frame.address as usize % CHUNK_BYTES + frame.len as usize;
        assert!(end <= CHUNK_BYTES, "a part of a frame ends within its chunk");
        first..first + 1
    }

    /// Where a chunk begins, as the kernel is told.
    #[inline]
    fn address_of(&self, chunk: u32) -> u64 {
        match self.is_seamless {
            true => u64::from(chunk) * PART_BYTES,
            false => Umem::address_of(chunk),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    const CHUNKS: u32 = 16;
    const LONGEST: usize = 9_000;

    /// A kernel that copies: what it was given, and where it puts a frame.
    struct Kernel {
        umem: Umem,
        fill: VecDeque<u64>,
        seed: u8,
    }

    impl Kernel {
        fn new() -> Kernel {
            Kernel { umem: Umem::new(CHUNKS).unwrap(), fill: VecDeque::new(), seed: 0 }
        }

        /// As [`Receiving::refill`] does it.
        fn refill(&mut self, receiving: &mut Receiving) {
            while receiving.frames.has_next() {
                let chunk = receiving.frames.take_fill();
                self.fill.push_back(receiving.address_of(chunk));
            }
        }

        /// A frame of `len` bytes arrives: its bytes, and the last answer to its parts.
        fn receive(&mut self, receiving: &mut Receiving, len: usize) -> (Vec<u8>, Joined) {
            self.seed = self.seed.wrapping_add(7);
            let frame: Vec<u8> = (0..len).map(|at| (at / 3) as u8 ^ self.seed).collect();
            let mut parts = frame.chunks(PART_BYTES as usize).peekable();
            loop {
                let (part, address) = (parts.next().unwrap(), self.fill.pop_front().unwrap());
                let at = address + HEADROOM_BYTES as u64;
                // SAFETY: nobody else has the memory at this time.
                unsafe { self.umem.bytes_mut(at, part.len() as u32) }.copy_from_slice(part);
                let addr = match receiving.is_seamless {
                    true => address | (HEADROOM_BYTES as u64) << 48,
                    false => at,
                };
                let more = parts.peek().is_some();
                let options = if more { libc::XDP_PKT_CONTD } else { 0 };
                let descriptor = libc::xdp_desc { addr, len: part.len() as u32, options };
                let joined = receiving.take(&self.umem, &descriptor);
                if !more {
                    return (frame, joined);
                }
                assert_eq!(joined, Joined::Partly);
            }
        }
    }

    /// Bursts of frames of many lengths; how many there were, and how many of them were joined by a copy.
    fn exchange(is_seamless: bool) -> (usize, usize) {
        let mut kernel = Kernel::new();
        let mut receiving = Receiving::new(CHUNKS, LONGEST, is_seamless);
        let (mut count, mut copied) = (0, 0);
        for round in 0..500 {
            kernel.refill(&mut receiving);
            assert_eq!(kernel.fill.len(), CHUNKS as usize, "all of them come back");
            let lens = (0..5).map(|n| 1 + (round * 977 + n * 3_331) % LONGEST);
            let burst: Vec<_> = lens.map(|len| kernel.receive(&mut receiving, len)).collect();
            for (bytes, joined) in &burst {
                let Joined::Whole(frame) = joined else { panic!("{joined:?}") };
                assert!(receiving.bytes(&kernel.umem, frame) == bytes, "round {round}");
                assert_eq!(receiving.bytes_mut(&mut kernel.umem, frame).len(), bytes.len());
                count += 1;
                copied += usize::from(Joiner::has(frame));
            }
            for (_, joined) in burst {
                let Joined::Whole(frame) = joined else { panic!("{joined:?}") };
                receiving.recycle(&frame);
            }
            receiving.check();
        }
        (count, copied)
    }

    #[test]
    fn overlapping_chunks_make_a_frame_whole_but_where_they_end() {
        let (count, copied) = exchange(true);
        // Each time around at most one.
        assert!(copied > 100 && copied * 8 < count, "{copied} of {count}");
    }

    #[test]
    fn chunks_that_are_apart_are_joined_by_a_copy() {
        let (count, copied) = exchange(false);
        assert!(copied * 2 > count, "{copied} of {count}");
    }

    #[test]
    fn a_frame_that_is_too_long_is_skipped_and_the_next_one_is_whole_where_it_is() {
        let mut kernel = Kernel::new();
        let mut receiving = Receiving::new(CHUNKS, LONGEST, true);
        for _ in 0..50 {
            kernel.refill(&mut receiving);
            let (_, joined) = kernel.receive(&mut receiving, 4 * LONGEST);
            assert_eq!(joined, Joined::TooLong);
            let (bytes, joined) = kernel.receive(&mut receiving, LONGEST);
            let Joined::Whole(frame) = joined else { panic!("{joined:?}") };
            assert!(receiving.bytes(&kernel.umem, &frame) == bytes);
            receiving.recycle(&frame);
            receiving.check();
        }
    }

    #[test]
    #[should_panic(expected = "read before it is recycled")]
    fn a_frame_is_not_read_when_one_of_its_chunks_was_given_back() {
        let mut kernel = Kernel::new();
        let mut receiving = Receiving::new(CHUNKS, LONGEST, true);
        kernel.refill(&mut receiving);
        let (_, joined) = kernel.receive(&mut receiving, LONGEST);
        let Joined::Whole(frame) = joined else { panic!("{joined:?}") };
        receiving.frames.recycled(2);
        receiving.bytes(&kernel.umem, &frame);
    }
}
