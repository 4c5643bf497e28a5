//! Superframes out: what AF_XDP cannot send, and what must not overtake it.
//!
//! AF_XDP has no segmentation offload, and where it copies, each frame costs an allocation, a copy and a passage through the
//! kernel. So a port in copy mode whose interface cuts segments hands superframes to a packet socket instead: one of each for
//! up to 64 KiB. Both ways send within our system call, one after the other, so order is kept: what is staged in a burst
//! behind a superframe takes this way as well, the burst's earlier frames leave by the ring before.
//!
//! In zero-copy mode there is none of this: the two ways would be two queues of the NIC, and frames would overtake each other.
//!
//! Path: last step. Bounds: [`SUPERFRAMES_MAX`] a burst, their memory taken at start; one system call for each frame.

use super::super::BURST;
use crate::sys::{Cuts, CuttingSocket};
use stack::limits::SUPERFRAME_BYTES_MAX;
use stack::wire::Superframe;
use std::io;

/// Superframes of a burst: half a megabyte that was checked under one lease.
pub const SUPERFRAMES_MAX: usize = 8;

/// Bytes that may be on their way through the kernel (it counts each frame with its overhead).
const SEND_BUFFER_BYTES: i32 = 16 << 20;

/// Where a frame lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lies {
    /// In this slot of [`Superframes`].
    Slot(usize),
    /// In the port's memory, as this frame.
    Frame(u32),
}

impl Lies {
    /// Whether it is a superframe.
    pub fn is_slot(self) -> bool {
        matches!(self, Lies::Slot(_))
    }
}

/// A staged frame.
#[derive(Clone, Copy, Debug)]
pub struct Staged {
    /// Where it lies.
    pub at: Lies,
    /// Its length.
    pub len: usize,
    /// How it is to be cut.
    pub cuts: Cuts,
}

/// The packet socket, memory for superframes, and what is staged for it.
pub struct Superframes {
    socket: CuttingSocket,
    memory: Vec<u8>,
    used: usize,
    staged: Vec<Staged>,
    /// Those of `staged` that were sent.
    sent: usize,
}

impl Superframes {
    /// For this interface.
    pub fn open(interface: &str) -> io::Result<Superframes> {
        Ok(Superframes {
            socket: CuttingSocket::open(interface, SEND_BUFFER_BYTES)?,
            memory: vec![0; SUPERFRAMES_MAX * SUPERFRAME_BYTES_MAX],
            used: 0,
            staged: Vec::with_capacity(BURST),
            sent: 0,
        })
    }

    /// Whether what comes next must come this way.
    #[inline]
    pub fn is_busy(&self) -> bool {
        !self.staged.is_empty()
    }

    /// Whether no further superframe fits into the burst.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.used == SUPERFRAMES_MAX
    }

    /// Frames staged and not sent.
    #[inline]
    pub fn staged(&self) -> usize {
        self.staged.len() - self.sent
    }

    /// Frames of the port's memory among what is staged, sent or not.
    pub fn staged_frames(&self) -> usize {
        self.staged.iter().filter(|staged| !staged.at.is_slot()).count()
    }

    /// Offers memory for one to `write`; there is room.
    pub fn stage<T>(
        &mut self,
        write: impl FnOnce(&mut [u8]) -> Option<(Superframe, T)>,
    ) -> Option<T> {
        let memory = &mut self.memory[self.used * SUPERFRAME_BYTES_MAX..][..SUPERFRAME_BYTES_MAX];
        let (frame, rest) = write(memory)?;
        let (at, len) = (Lies::Slot(self.used), frame.bytes);
        self.used += 1;
        self.staged.push(Staged { at, len, cuts: Cuts::of(&frame) });
        Some(rest)
    }

    /// An ordinary frame that lies in the port's memory follows.
    pub fn stage_frame(&mut self, frame: u32, len: usize) {
        self.staged.push(Staged { at: Lies::Frame(frame), len, cuts: Cuts::NONE });
    }

    /// Sends what is staged, in order, until one is refused: that and what follows stays staged. `bytes_of`: a frame of the
    /// port's memory.
    pub fn send<'a>(&mut self, bytes_of: impl Fn(u32, usize) -> &'a [u8]) -> io::Result<()> {
        while let Some(staged) = self.staged.get(self.sent) {
            let bytes = match staged.at {
                Lies::Slot(slot) => &self.memory[slot * SUPERFRAME_BYTES_MAX..][..staged.len],
                Lies::Frame(frame) => bytes_of(frame, staged.len),
            };
            self.socket.send(staged.cuts, bytes)?;
            self.sent += 1;
        }
        Ok(())
    }

    /// Ends the burst: what was sent, and what is thrown away.
    pub fn end(&mut self) -> impl Iterator<Item = (Staged, bool)> {
        let sent = std::mem::take(&mut self.sent);
        self.used = 0;
        self.staged.drain(..).enumerate().map(move |(at, staged)| (staged, at < sent))
    }
}
