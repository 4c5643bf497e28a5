//! A port: where a core's frames come from and go to.
//!
//! One port is one queue of one interface, owned by one core. Received frames stay in the port's
//! memory while the core looks at them as a burst; frames to send are written straight into it. A
//! frame that was written is *staged*: nobody but this core knows of it until [`Port::kick`], so the
//! core can read the clock and the lease after the last descriptor is written and throw everything
//! away with [`Port::discard`] if the lease has run out.
//!
//! Order of calls in one poll: `receive`, `frame` for each, `recycle`, then `stage` as often as there is
//! something to say, then either `kick` or `discard`.
//!
//! Bounds: at most [`BURST`] frames per `receive` and per `kick`.

use stack::wire::Superframe;
use std::io;

#[cfg(doc)]
use stack::limits::SUPERFRAME_BYTES_MAX;

pub mod xdp;

/// Frames in one burst, in either direction (DESIGN: a burst is at most 64 frames).
pub const BURST: usize = 64;

/// A received frame: where it lies in the port's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RxFrame {
    /// Offset in the port's memory.
    pub address: u64,
    /// Bytes.
    pub len: u32,
}

/// Counters of a port, cumulative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortCounters {
    /// Frames handed to the core.
    pub rx_frames: u64,
    /// Bytes handed to the core.
    pub rx_bytes: u64,
    /// Frames given to the kernel to send, a superframe as one.
    pub tx_frames: u64,
    /// Bytes given to the kernel to send.
    pub tx_bytes: u64,
    /// Those of the frames that were superframes, several segments in one.
    pub tx_superframes: u64,
    /// Staged frames thrown away before the kick.
    pub tx_discarded: u64,
    /// Times there was no free frame or descriptor to stage into.
    pub tx_no_room: u64,
    /// System calls made to tell the kernel of staged frames.
    pub kicks: u64,
    /// Frames that the kernel had been shown, had not taken and will never see again.
    pub tx_withdrawn: u64,
    /// Frames that the kernel dropped because the receive or fill ring had no room.
    pub rx_kernel_dropped: u64,
    /// Frames longer than the MTU allows: super-frames whose sender leaves cutting and checksums to a
    /// NIC that is not there. `ethtool -K INTERFACE tx off` at the sending end ends it.
    pub rx_too_long: u64,
    /// What the kernel says of the rings.
    pub rings: RingCounters,
}

/// The kernel's own counters of a port's rings (`XDP_STATISTICS`), cumulative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingCounters {
    /// Frames dropped because they were too long or no buffer was free.
    pub rx_dropped: u64,
    /// Buffers offered for receiving that are none.
    pub rx_invalid: u64,
    /// Frames dropped because the receive ring was full.
    pub rx_ring_full: u64,
    /// Times that the kernel found no buffer to receive into.
    pub fill_ring_empty: u64,
    /// Descriptors given to send that are none.
    pub tx_invalid: u64,
    /// Times that the kernel was told to send and found nothing.
    pub tx_ring_empty: u64,
}

/// A queue of frames in both directions. Implemented by AF_XDP and by the simulated wire.
pub trait Port {
    /// Appends up to [`BURST`] received frames to `burst`; returns how many.
    fn receive(&mut self, burst: &mut Vec<RxFrame>) -> usize;

    /// The bytes of a received frame, from its Ethernet header on. Valid until `recycle`.
    fn frame(&self, frame: &RxFrame) -> &[u8];

    /// The same, to be changed where it lies.
    fn frame_mut(&mut self, frame: &RxFrame) -> &mut [u8];

    /// Gives every frame of the burst back to the port and empties it.
    fn recycle(&mut self, burst: &mut Vec<RxFrame>);

    /// Offers memory for one frame (at least the port's MTU plus 14 bytes) to `write`, which
    /// returns the frame's length, or 0 for "nothing to send" (the memory stays free). Returns the
    /// length staged; `None` if there is no room for a frame now (ring full, no free frame, burst full).
    fn stage(&mut self, write: impl FnOnce(&mut [u8]) -> usize) -> Option<usize>;

    /// Offers memory for one superframe ([`SUPERFRAME_BYTES_MAX`] bytes), and says of how many segments at most, to `write`, which
    /// returns what it has written there and of which group. It counts as its segments, leaves after what was staged before it
    /// and before what is staged later. `None`: there was nothing, or no room, or this port has nobody who cuts superframes.
    fn stage_superframe(
        &mut self,
        write: impl FnOnce(&mut [u8], usize) -> Option<(Superframe, u8)>,
    ) -> Option<u8> {
        let _ = write;
        None
    }

    /// Frames staged and not yet kicked, superframes as their segments.
    fn staged(&self) -> usize;

    /// Gives every staged frame to the kernel. On an error what it did not take is still staged: kick
    /// again, or discard it.
    fn kick(&mut self) -> io::Result<()>;

    /// Throws every staged frame away, also what an earlier kick could not get rid of.
    fn discard(&mut self);

    /// Counters so far.
    fn counters(&self) -> PortCounters;
}
