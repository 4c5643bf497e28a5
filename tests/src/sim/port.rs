//! A NIC's queue: frames in up to a bound, frames out when they are kicked.
//!
//! What it allocates for frames is the wire's doing, not its core's.

use crate::nic::{cut, is_prepared};
use assert_no_alloc::permit_alloc;
use dataplane::port::{BURST, Port, PortCounters, RxFrame};
use stack::limits::SUPERFRAME_BYTES_MAX;
use stack::wire::Superframe;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

/// Frames that a queue holds which its core has not fetched; what arrives beyond is lost.
pub const QUEUE_FRAMES: usize = 512;

/// The end of a queue that the world sees.
#[derive(Clone, Default)]
pub struct Queue(Rc<RefCell<Frames>>);

#[derive(Default)]
struct Frames {
    incoming: VecDeque<Vec<u8>>,
    outgoing: Vec<Vec<u8>>,
    overflowed: u64,
}

impl Queue {
    /// A frame arrives; `false` if there was no room.
    pub fn put(&self, frame: Vec<u8>) -> bool {
        let mut frames = self.0.borrow_mut();
        let has_room = frames.incoming.len() < QUEUE_FRAMES;
        match has_room {
            true => frames.incoming.push_back(frame),
            false => frames.overflowed += 1,
        }
        has_room
    }

    /// What was kicked.
    pub fn take(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.0.borrow_mut().outgoing)
    }

    /// Whether frames wait for the core.
    pub fn has_incoming(&self) -> bool {
        !self.0.borrow().incoming.is_empty()
    }

    /// Frames that found no room.
    pub fn overflowed(&self) -> u64 {
        self.0.borrow().overflowed
    }
}

/// The end that a core sees.
pub struct SimPort {
    queue: Queue,
    frame_bytes: usize,
    burst: Vec<Vec<u8>>,
    staged: Vec<Vec<u8>>,
    /// Where superframes are written; empty if this NIC cuts none.
    superframe: Vec<u8>,
    counters: PortCounters,
}

impl SimPort {
    /// The core's end of `queue`, for frames of at most `frame_bytes`.
    pub fn new(queue: Queue, frame_bytes: usize) -> SimPort {
        SimPort {
            queue,
            frame_bytes,
            burst: Vec::new(),
            staged: Vec::new(),
            superframe: Vec::new(),
            counters: PortCounters::default(),
        }
    }

    /// The same of a NIC that cuts superframes.
    pub fn cutting(self) -> SimPort {
        SimPort { superframe: vec![0; SUPERFRAME_BYTES_MAX], ..self }
    }
}

impl Port for SimPort {
    fn receive(&mut self, burst: &mut Vec<RxFrame>) -> usize {
        assert!(self.burst.is_empty() && burst.is_empty(), "the last burst was given back");
        let mut frames = self.queue.0.borrow_mut();
        let count = frames.incoming.len().min(BURST);
        permit_alloc(|| self.burst.extend(frames.incoming.drain(..count)));
        for (address, frame) in self.burst.iter().enumerate() {
            burst.push(RxFrame { address: address as u64, len: frame.len() as u32 });
            self.counters.rx_bytes += frame.len() as u64;
        }
        self.counters.rx_frames += count as u64;
        count
    }

    fn frame(&self, frame: &RxFrame) -> &[u8] {
        &self.burst[frame.address as usize]
    }

    fn frame_mut(&mut self, frame: &RxFrame) -> &mut [u8] {
        &mut self.burst[frame.address as usize]
    }

    fn recycle(&mut self, burst: &mut Vec<RxFrame>) {
        assert_eq!(burst.len(), self.burst.len(), "every frame is given back once");
        burst.clear();
        permit_alloc(|| self.burst.clear());
    }

    fn stage(&mut self, write: impl FnOnce(&mut [u8]) -> usize) -> Option<usize> {
        if self.staged.len() >= BURST {
            self.counters.tx_no_room += 1;
            return None;
        }
        let mut frame = permit_alloc(|| vec![0; self.frame_bytes]);
        let len = write(&mut frame);
        permit_alloc(|| {
            if len > 0 {
                frame.truncate(len);
                self.staged.push(frame);
            }
        });
        Some(len)
    }

    fn stage_superframe(
        &mut self,
        write: impl FnOnce(&mut [u8], usize) -> Option<(Superframe, u8)>,
    ) -> Option<u8> {
        let most = BURST.saturating_sub(self.staged.len());
        if self.superframe.is_empty() || most < 2 {
            return None;
        }
        let (superframe, group) = write(&mut self.superframe, most)?;
        let frame = &self.superframe[..superframe.bytes];
        permit_alloc(|| {
            assert!(is_prepared(frame, &superframe), "the checksum of the pseudo-header");
            self.staged.extend(cut(frame, &superframe));
        });
        self.counters.tx_superframes += 1;
        Some(group)
    }

    fn staged(&self) -> usize {
        self.staged.len()
    }

    fn kick(&mut self) -> io::Result<()> {
        self.counters.kicks += 1;
        self.counters.tx_frames += self.staged.len() as u64;
        self.counters.tx_bytes += self.staged.iter().map(|frame| frame.len() as u64).sum::<u64>();
        permit_alloc(|| self.queue.0.borrow_mut().outgoing.append(&mut self.staged));
        Ok(())
    }

    fn discard(&mut self) {
        self.counters.tx_discarded += self.staged.len() as u64;
        permit_alloc(|| self.staged.clear());
    }

    fn counters(&self) -> PortCounters {
        self.counters
    }
}
