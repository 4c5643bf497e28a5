//! A port on AF_XDP: one socket on one queue of an interface, with memory and rings of its own.
//!
//! A frame that fits into one buffer is never copied by us: a received frame is read where the
//! kernel put it, a frame to send is written where the kernel takes it. A longer one (jumbo MTU) is
//! received in several buffers, which in copy mode lie so that it is whole as it comes (`receiving`),
//! and which else are joined by one copy (`joiner`); it is sent from neighbouring chunks
//! with a descriptor each. `frames` knows who has which frame, so that each is in one place and none
//! is lost.
//!
//! ```text
//!   memory:  [ chunks to receive into ][ frames to send, `parts` chunks each ]
//!   a frame to send:  |      chunk 0       |      chunk 1      |      chunk 2      |
//!                             ^ the frame starts here (`lead`) and fills what follows
//! ```
//!
//! Staging writes the descriptors behind the published end of the transmit ring, where the kernel
//! does not look; `kick` publishes and, where the kernel asks for it, makes one system call. In copy
//! mode that call sends the frames before it returns; if it stops on the way it is repeated a bounded
//! number of times. What is still left is of a burst whose lease was checked at that time; `discard`
//! withdraws it: its descriptors are overwritten with one that the kernel refuses, so that no later
//! call, and no `poll` of an idle core, sends it under a lease that has run out. (In zero-copy mode
//! the driver takes published frames in its own time; they are of a checked burst as well.) If the
//! interface is down the whole burst is taken back and stays staged.
//!
//! Path: first and last step.
//!
//! Bounds: [`FRAMES_MIN`] (with jumbo frames that times the parts of a frame) to [`FRAMES_MAX`]
//! chunks, half of them for each direction, so that no ring can be too small; [`KICK_CALLS_MAX`]
//! system calls per kick; frames up to [`JUMBO_BYTES_MAX`].
//!
//! Spec: Linux `Documentation/networking/af_xdp.rst`.

use super::{BURST, Port, PortCounters, RingCounters, RxFrame};
use crate::sys;
use frames::{FrameState, Frames};
use joiner::Joined;
use receiving::Receiving;
use socket::{Request, Socket};
use stack::wire::Superframe;
use std::io;
use std::os::fd::RawFd;
use superframes::Superframes;
use umem::{CHUNK_BYTES, Umem};

mod error;
mod frames;
mod joiner;
mod mapping;
mod receiving;
mod ring;
mod sending;
mod socket;
mod superframes;
mod umem;

pub use error::OpenError;
pub use superframes::SUPERFRAMES_BYTES;

/// Frames of a port at least: one burst of each direction in the kernel and one with the core.
pub const FRAMES_MIN: u32 = 4 * BURST as u32;
/// Frames of a port at most: 1 GiB.
pub const FRAMES_MAX: u32 = 1 << 18;
/// What the kernel keeps of a received frame's chunk for itself, in front of the frame (`XDP_PACKET_HEADROOM`).
const HEADROOM_BYTES: usize = 256;
/// Bytes of a frame in one buffer at most, Ethernet header and VLAN tag included.
pub const FRAME_BYTES_MAX: u32 = (CHUNK_BYTES - HEADROOM_BYTES) as u32;
/// Bytes of a frame at most, in as many buffers as that takes.
pub const JUMBO_BYTES_MAX: u32 = 4 * FRAME_BYTES_MAX;
/// System calls of one kick at most, beside one for each withdrawn descriptor: one for each frame, and
/// as many again. Each call either makes progress or finds a buffer full that empties within
/// microseconds.
pub const KICK_CALLS_MAX: u32 = 2 * BURST as u32;

/// Ethernet header and VLAN tag.
const FRAME_OVERHEAD_BYTES: u32 = 14 + 4;

/// Whether the driver is to work on our memory itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ZeroCopy {
    /// If it can; else the kernel copies.
    #[default]
    Auto,
    /// No. The right choice where the XDP program runs in the generic path.
    Never,
    /// Yes, or the port does not open.
    Require,
}

/// What a port is opened with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct XdpConfig {
    /// The interface, in the calling thread's network namespace.
    pub interface: String,
    /// Its queue.
    pub queue: u32,
    /// Chunks of memory (4 KiB each), a power of two.
    pub frames: u32,
    /// How to bind.
    pub zero_copy: ZeroCopy,
    /// Whether frames may lie in several buffers where the MTU asks for it: the XDP program must be
    /// one that takes them. Without, the port's MTU is bounded ([`XdpPort::mtu`]).
    pub multi_buffer: bool,
    /// Whether superframes are sent where they leave at once.
    pub superframes: bool,
}

/// One queue of an interface through AF_XDP.
pub struct XdpPort {
    // The socket goes before the memory that the kernel was told of.
    socket: Socket,
    umem: Umem,
    mtu: u32,
    /// Chunks to receive into: the first of the memory.
    receiving: Receiving,
    /// Frames to send, of `parts` chunks each: behind them.
    sending: Frames,
    /// The chunk in which the first frame to send begins.
    sending_from: u32,
    /// Chunks of a frame to send.
    parts: u32,
    /// Where in its first chunk a frame to send begins: what does not fill its chunks is in front, so
    /// that the kernel's copy of the first part is short and its allocation small.
    lead: usize,
    /// Frames staged and their descriptors, in the order of these.
    staged: Vec<(u32, u8)>,
    staged_bytes: u64,
    /// Where superframes leave, if they do.
    superframes: Option<Superframes>,
    /// Copy mode: published descriptors that the kernel has not taken in the last kick.
    left: u32,
    counters: PortCounters,
}

impl XdpPort {
    /// Takes the memory, opens the socket and gives the kernel frames to receive into.
    pub fn open(config: &XdpConfig) -> Result<XdpPort, OpenError> {
        let name = &config.interface;
        let unusable = |e| OpenError::Interface(name.clone(), e);
        let mtu = sys::interface_mtu(name).map_err(unusable)?;
        if mtu > JUMBO_BYTES_MAX - FRAME_OVERHEAD_BYTES {
            return Err(OpenError::Mtu(name.clone(), mtu));
        }
        let single = FRAME_BYTES_MAX - FRAME_OVERHEAD_BYTES;
        if mtu > single && config.multi_buffer {
            match XdpPort::open_with(config, mtu) {
                // A kernel or a driver that knows one buffer only says so.
                Err(OpenError::Bind(_)) => {}
                outcome => return outcome,
            }
        }
        XdpPort::open_with(config, mtu.min(single))
    }

    fn open_with(config: &XdpConfig, mtu: u32) -> Result<XdpPort, OpenError> {
        let frame_bytes = mtu + FRAME_OVERHEAD_BYTES;
        let is_jumbo = frame_bytes > FRAME_BYTES_MAX;
        let parts = if is_jumbo { frame_bytes.div_ceil(CHUNK_BYTES as u32) } else { 1 };
        let (chunks, least) = (config.frames, FRAMES_MIN * parts.next_power_of_two());
        if !chunks.is_power_of_two() || !(least..=FRAMES_MAX).contains(&chunks) {
            return Err(OpenError::Frames(chunks, least));
        }
        let name = &config.interface;
        let index =
            sys::interface_index(name).map_err(|e| OpenError::Interface(name.clone(), e))?;
        let umem =
            Umem::new(chunks).map_err(|e| OpenError::Memory(chunks as usize * CHUNK_BYTES, e))?;
        let half = chunks / 2;
        let request = Request {
            interface: index,
            queue: config.queue,
            ring: half,
            burst: BURST as u32 * parts,
            zero_copy: config.zero_copy,
            multi_buffer: is_jumbo,
        };
        let socket = Socket::open(&umem, &request)?;
        let joined_bytes = if is_jumbo { frame_bytes as usize } else { 0 };
        let mut port = XdpPort {
            receiving: Receiving::new(half, joined_bytes, socket.takes_overlapping()),
            socket,
            umem,
            mtu,
            sending: Frames::new(half / parts),
            sending_from: half,
            parts,
            lead: if is_jumbo { parts as usize * CHUNK_BYTES - frame_bytes as usize } else { 0 },
            staged: Vec::with_capacity(BURST),
            staged_bytes: 0,
            superframes: None,
            left: 0,
            counters: PortCounters::default(),
        };
        if config.superframes && !port.is_zero_copy() && superframes::leave_at_once(name) {
            // Without, every segment leaves as a frame of its own.
            port.superframes = Superframes::open(name).ok();
        }
        port.receiving.refill(&mut port.socket.fill);
        Ok(port)
    }

    /// The socket, for the XDP program's map and for waiting.
    pub fn fd(&self) -> RawFd {
        self.socket.fd()
    }

    /// Bytes of a frame's payload at most: the interface's MTU, or less where kernel, driver or program
    /// can only do with frames of one buffer.
    pub fn mtu(&self) -> u32 {
        self.mtu
    }

    /// Whether the driver works on our memory itself.
    pub fn is_zero_copy(&self) -> bool {
        self.socket.is_zero_copy()
    }

    /// Whether it sends superframes.
    pub fn sends_superframes(&self) -> bool {
        self.superframes.is_some()
    }

    /// Whether the frames lie in huge pages.
    pub fn is_huge(&self) -> bool {
        self.umem.is_huge()
    }

    /// The kernel's own counters of the socket.
    pub fn statistics(&self) -> io::Result<libc::xdp_statistics> {
        self.socket.statistics()
    }

    /// Frames that were shown to the kernel and have not come back.
    pub fn tx_in_flight(&self) -> u32 {
        self.sending.count(FrameState::Tx)
    }

    /// Shows the staged frames to the kernel and does not tell it, as a kick that got nowhere. For tests.
    #[doc(hidden)]
    pub fn publish_only(&mut self) {
        self.show();
        self.left = self.socket.transmit.unconsumed();
        self.note_shown();
    }

    /// Takes completed frames back and panics if a frame is lost or in two places. For tests and
    /// rare checks.
    pub fn check(&mut self) {
        self.reap();
        self.receiving.check();
        self.sending.check();
        let elsewhere = self.superframes.as_ref().map_or(0, Superframes::staged_frames);
        assert_eq!(self.sending.count(FrameState::Staged) as usize, self.staged.len() + elsewhere);
    }
}

impl Port for XdpPort {
    #[inline]
    fn receive(&mut self, burst: &mut Vec<RxFrame>) -> usize {
        self.reap();
        let (mut count, mut is_empty) = (0, true);
        while count < BURST && self.receiving.has_room() {
            let Some(descriptor) = self.socket.receive.take() else { break };
            is_empty = false;
            let frame = match self.receiving.take(&self.umem, &descriptor) {
                Joined::Partly => continue,
                Joined::Whole(frame) => frame,
                Joined::TooLong => {
                    self.counters.rx_too_long += 1;
                    continue;
                }
            };
            burst.push(frame);
            self.counters.rx_bytes += u64::from(frame.len);
            count += 1;
        }
        if !is_empty {
            self.socket.receive.release();
            self.counters.rx_frames += count as u64;
        } else if self.socket.fill.needs_wakeup() {
            self.socket.tell_fill();
        }
        count
    }

    #[inline]
    fn frame(&self, frame: &RxFrame) -> &[u8] {
        self.receiving.bytes(&self.umem, frame)
    }

    #[inline]
    fn frame_mut(&mut self, frame: &RxFrame) -> &mut [u8] {
        self.receiving.bytes_mut(&mut self.umem, frame)
    }

    #[inline]
    fn recycle(&mut self, burst: &mut Vec<RxFrame>) {
        for frame in burst.drain(..) {
            self.receiving.recycle(&frame);
        }
        self.receiving.refill(&mut self.socket.fill);
    }

    #[inline]
    fn stage(&mut self, write: impl FnOnce(&mut [u8]) -> usize) -> Option<usize> {
        if !self.has_room() {
            self.counters.tx_no_room += u64::from(!self.is_full_of_superframes());
            return None;
        }
        let frame = self.sending.take_staged();
        let chunk = self.sending_from + frame * self.parts;
        // SAFETY: the frame was free and is now staged: the kernel does not have it before `kick`.
        let memory = unsafe { self.umem.chunks_mut(chunk, self.parts) };
        let memory = &mut memory[self.lead..];
        let room = memory.len();
        let len = write(memory);
        assert!(len <= room, "a frame fits into its chunks");
        if len == 0 {
            self.sending.discarded(frame);
            return Some(0);
        }
        if let Some(superframes) = &mut self.superframes
            && superframes.is_busy()
        {
            superframes.stage_frame(frame, len);
            return Some(len);
        }
        let parts = self.describe(chunk, len);
        self.staged.push((frame, parts));
        self.staged_bytes += len as u64;
        Some(len)
    }

    #[inline]
    fn stage_superframe(
        &mut self,
        write: impl FnOnce(&mut [u8], usize) -> Option<(Superframe, u8)>,
    ) -> Option<u8> {
        let most = BURST.saturating_sub(self.staged());
        let superframes = self.superframes.as_mut()?;
        if self.left > 0 || most < 2 || superframes.is_full() {
            return None;
        }
        superframes.stage(|buffer| write(buffer, most))
    }

    #[inline]
    fn staged(&self) -> usize {
        let behind = self.superframes.as_ref().map_or(0, Superframes::staged);
        self.staged.len() + self.left as usize + behind
    }

    fn kick(&mut self) -> io::Result<()> {
        if !self.staged.is_empty() || self.left > 0 {
            self.kick_ring()?;
        }
        self.send_superframes()
    }

    fn discard(&mut self) {
        self.discard_ring();
        self.end_superframes();
    }

    fn counters(&self) -> PortCounters {
        // The socket is open, so the kernel answers; if it does not, the numbers are missing and
        // nothing else.
        let Ok(kernel) = self.statistics() else { return self.counters };
        // What it drops is either too long for our buffers or found none free; only the latter is
        // counted at the fill ring as well.
        let too_long = kernel.rx_dropped.saturating_sub(kernel.rx_fill_ring_empty_descs);
        PortCounters {
            rx_kernel_dropped: kernel.rx_dropped - too_long + kernel.rx_ring_full,
            rx_too_long: self.counters.rx_too_long + too_long,
            rings: RingCounters {
                rx_dropped: kernel.rx_dropped,
                rx_invalid: kernel.rx_invalid_descs,
                rx_ring_full: kernel.rx_ring_full,
                fill_ring_empty: kernel.rx_fill_ring_empty_descs,
                tx_invalid: kernel.tx_invalid_descs,
                tx_ring_empty: kernel.tx_ring_empty_descs,
            },
            ..self.counters
        }
    }
}
