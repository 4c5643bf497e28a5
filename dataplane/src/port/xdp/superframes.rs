//! Superframes out: what AF_XDP cannot send, and what must not overtake it.
//!
//! AF_XDP has no segmentation offload, and where it copies, each frame costs an allocation, a copy and a passage through the
//! kernel. So a port in copy mode on a virtual cable hands superframes to a packet socket instead: one of each for up to 64 KiB. The
//! cable cuts them, or passes them on whole to whoever takes that; where its segmentation offload is off the kernel cuts them before,
//! as it does for its own TCP: by the segment that is still cheaper than a frame of its own. On such a cable (veth, which has
//! neither rings nor a queueing discipline) both ways have sent when our system call returns, one after the other: so order is
//! kept, what is staged in a burst behind a superframe takes this way as well, and nothing of a burst leaves later than that.
//!
//! A NIC is another matter: the packet socket's way there is through a queue of the kernel, in which frames of many bursts
//! could wait longer than a lease while later ones overtake them by the ring. There, and in zero-copy mode, segments leave one by one.
//!
//! Path: last step. Bounds: [`SUPERFRAMES_MAX`] a burst, their memory taken at start; a burst holds no more segments with them
//! than without; one system call for each frame.

use super::super::BURST;
use crate::sys::{self, Cuts, CuttingSocket};
use stack::limits::SUPERFRAME_BYTES_MAX;
use stack::wire::Superframe;
use std::io;

/// Superframes of a burst.
const SUPERFRAMES_MAX: usize = 8;

/// Bytes of their memory.
pub const SUPERFRAMES_BYTES: usize = SUPERFRAMES_MAX * SUPERFRAME_BYTES_MAX;

/// Bytes that may be on their way through the kernel (it counts each frame with its overhead): a few bursts.
const SEND_BUFFER_BYTES: i32 = 4 << 20;

/// Whether what is handed over for this interface, superframes cut or whole, has left it when the call returns.
pub fn leave_at_once(interface: &str) -> bool {
    sys::interface_driver(interface).is_ok_and(|driver| driver == "veth")
}

/// Where a frame lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lies {
    /// In this slot of [`Superframes`].
    Slot(usize),
    /// In the port's memory, as this frame.
    Frame(u32),
}

impl Lies {
    /// Whether it may be a superframe.
    pub fn is_slot(self) -> bool {
        matches!(self, Lies::Slot(_))
    }
}

/// What became of a staged frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// Nothing yet.
    Staged,
    /// It has left.
    Sent,
    /// The kernel had no room for it, or for all segments that it has cut it into: as if the network had lost it.
    Refused,
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
    /// Segments that it is.
    pub segments: usize,
    /// What became of it.
    pub fate: Fate,
}

/// The packet socket, memory for superframes, and what is staged for it.
pub struct Superframes {
    socket: CuttingSocket,
    memory: Vec<u8>,
    used: usize,
    staged: Vec<Staged>,
}

impl Superframes {
    /// For this interface.
    pub fn open(interface: &str) -> io::Result<Superframes> {
        Ok(Superframes {
            socket: CuttingSocket::open(interface, SEND_BUFFER_BYTES)?,
            memory: vec![0; SUPERFRAMES_BYTES],
            used: 0,
            staged: Vec::with_capacity(BURST),
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

    /// Segments staged.
    #[inline]
    pub fn staged(&self) -> usize {
        let waiting = self.staged.iter().filter(|staged| staged.fate == Fate::Staged);
        waiting.map(|staged| staged.segments).sum()
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
        let (at, len, segments) = (Lies::Slot(self.used), frame.bytes, frame.segments());
        self.used += 1;
        self.staged.push(Staged { at, len, segments, cuts: Cuts::of(&frame), fate: Fate::Staged });
        Some(rest)
    }

    /// An ordinary frame that lies in the port's memory follows.
    pub fn stage_frame(&mut self, frame: u32, len: usize) {
        let at = Lies::Frame(frame);
        self.staged.push(Staged { at, len, segments: 1, cuts: Cuts::NONE, fate: Fate::Staged });
    }

    /// Sends what is staged, in order. `bytes_of`: a frame of the port's memory. An error: the interface is down or gone, and
    /// what it has not taken stays staged.
    pub fn send<'a>(&mut self, bytes_of: impl Fn(u32, usize) -> &'a [u8]) -> io::Result<()> {
        for staged in self.staged.iter_mut().filter(|staged| staged.fate == Fate::Staged) {
            let bytes = match staged.at {
                Lies::Slot(slot) => &self.memory[slot * SUPERFRAME_BYTES_MAX..][..staged.len],
                Lies::Frame(frame) => bytes_of(frame, staged.len),
            };
            staged.fate = match self.socket.send(staged.cuts, bytes) {
                Ok(()) => Fate::Sent,
                Err(error) if is_gone(&error) => return Err(io::ErrorKind::NetworkDown.into()),
                Err(_) => Fate::Refused,
            };
        }
        Ok(())
    }

    /// Ends the burst: what was staged, and what became of it.
    pub fn end(&mut self) -> impl Iterator<Item = Staged> {
        self.used = 0;
        self.staged.drain(..)
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENETDOWN | libc::ENXIO | libc::ENODEV))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The loopback interface is none.
    #[test]
    fn only_a_virtual_cable_is_trusted_to_send_at_once() {
        assert!(!leave_at_once("lo") && !leave_at_once("no-such"));
    }
}
