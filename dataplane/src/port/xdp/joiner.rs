//! Received frames that lie in several chunks, and not one after the other, made whole: each is copied once into memory of its
//! own, so that whoever reads it sees one slice.
//!
//! The chunks go back to the kernel as soon as they are copied; the copy stays until the burst is
//! recycled. A frame that is longer than any that the interface's MTU allows (a super-frame of an
//! offload that was left on) is dropped and counted.
//!
//! Path: first step. Bounds: [`SLOTS`] frames, taken at start.

use super::super::{BURST, RxFrame};

/// Frames at once: a burst.
const SLOTS: usize = BURST;
/// Marks the address of a joined frame: no descriptor's address has this bit.
const JOINED: u64 = 1 << 63;

/// Where the frame under construction is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Progress {
    /// There is none.
    Idle,
    /// So many bytes are there.
    Joining(usize),
    /// It is too long; what is left of it is skipped.
    Skipping,
}

/// What became of a part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Joined {
    /// More parts follow.
    Partly,
    /// The frame is whole.
    Whole(RxFrame),
    /// The frame is over and was too long.
    TooLong,
}

/// Memory for a burst of joined frames, and the frame under construction.
pub struct Joiner {
    memory: Vec<u8>,
    slot_bytes: usize,
    /// The slot of the frame under construction.
    slot: usize,
    /// Joined frames that the core has.
    held: usize,
    progress: Progress,
}

impl Joiner {
    /// For frames of up to `frame_bytes` bytes; with 0 nothing can be joined.
    pub fn new(frame_bytes: usize) -> Joiner {
        let slot_bytes = frame_bytes.next_multiple_of(64);
        let memory = vec![0; SLOTS * slot_bytes];
        Joiner { memory, slot_bytes, slot: 0, held: 0, progress: Progress::Idle }
    }

    /// Whether another part can be taken.
    #[inline]
    pub fn has_room(&self) -> bool {
        self.held < SLOTS
    }

    /// Whether a frame of `len` bytes is not too long.
    #[inline]
    pub fn fits(&self, len: usize) -> bool {
        len <= self.slot_bytes
    }

    /// Whether the next part continues a frame.
    #[inline]
    pub fn is_busy(&self) -> bool {
        self.progress != Progress::Idle
    }

    /// Takes the next part of a frame; there is room.
    pub fn add(&mut self, part: &[u8], more: bool) -> Joined {
        assert!(self.has_room(), "joined frames are recycled before there are more");
        let had = match self.progress {
            Progress::Idle => Some(0),
            Progress::Joining(had) => Some(had),
            Progress::Skipping => None,
        };
        let len = had.map(|had| had + part.len()).filter(|len| self.fits(*len));
        self.progress = match (len, had) {
            (Some(len), Some(had)) => {
                let start = self.slot * self.slot_bytes;
                self.memory[start + had..start + len].copy_from_slice(part);
                Progress::Joining(len)
            }
            _ => Progress::Skipping,
        };
        if more {
            return Joined::Partly;
        }
        match std::mem::replace(&mut self.progress, Progress::Idle) {
            Progress::Joining(len) => {
                let address = JOINED | (self.slot * self.slot_bytes) as u64;
                self.slot = (self.slot + 1) % SLOTS;
                self.held += 1;
                Joined::Whole(RxFrame { address, len: len as u32 })
            }
            _ => Joined::TooLong,
        }
    }

    /// Whether a frame was joined here.
    #[inline]
    pub fn has(frame: &RxFrame) -> bool {
        frame.address & JOINED != 0
    }

    /// The bytes of a joined frame.
    #[inline]
    pub fn bytes(&self, frame: &RxFrame) -> &[u8] {
        let start = (frame.address & !JOINED) as usize;
        &self.memory[start..start + frame.len as usize]
    }

    /// The same, to be changed.
    #[inline]
    pub fn bytes_mut(&mut self, frame: &RxFrame) -> &mut [u8] {
        let start = (frame.address & !JOINED) as usize;
        &mut self.memory[start..start + frame.len as usize]
    }

    /// The core has read a joined frame.
    #[inline]
    pub fn recycled(&mut self) {
        assert!(self.held > 0, "a joined frame is recycled once");
        self.held -= 1;
        if self.held == 0 && self.progress == Progress::Idle {
            // The same memory again and again stays in the cache.
            self.slot = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(joined: Joined) -> RxFrame {
        let Joined::Whole(frame) = joined else { panic!("{joined:?}") };
        frame
    }

    #[test]
    fn parts_become_one_frame_and_slots_come_back() {
        let mut joiner = Joiner::new(100);
        for round in 0..3u8 {
            let mut frames = Vec::new();
            for n in 0..SLOTS as u8 {
                assert_eq!(joiner.add(&[n; 60], true), Joined::Partly);
                assert!(joiner.is_busy());
                frames.push(whole(joiner.add(&[round; 40], false)));
            }
            assert!(!joiner.has_room() && !joiner.is_busy());
            for (n, frame) in frames.iter().enumerate() {
                assert!(Joiner::has(frame));
                assert_eq!(joiner.bytes(frame)[..60], [n as u8; 60]);
                assert_eq!(joiner.bytes(frame)[60..], [round; 40]);
            }
            frames.iter().for_each(|_| joiner.recycled());
        }
    }

    #[test]
    fn a_frame_that_is_too_long_is_skipped_to_its_end() {
        let mut joiner = Joiner::new(128);
        for part in 0..20 {
            assert_eq!(joiner.add(&[7; 100], true), Joined::Partly, "{part}");
        }
        assert_eq!(joiner.add(&[7; 1], false), Joined::TooLong);
        let frame = {
            joiner.add(&[1; 100], true);
            whole(joiner.add(&[2; 28], false))
        };
        assert_eq!((joiner.bytes(&frame)[0], joiner.bytes(&frame)[127]), (1, 2));
        assert_eq!(Joiner::new(0).add(&[1], false), Joined::TooLong);
    }

    #[test]
    fn a_frame_under_construction_survives_the_recycling_of_others() {
        let mut joiner = Joiner::new(100);
        joiner.add(&[1; 50], true);
        let first = whole(joiner.add(&[1; 50], false));
        joiner.add(&[2; 50], true);
        assert!(Joiner::has(&first));
        joiner.recycled();
        let second = whole(joiner.add(&[2; 50], false));
        assert_eq!(joiner.bytes(&second), [2; 100]);
    }
}
