//! A port on AF_XDP: one socket on one queue of an interface, with memory and rings of its own.
//!
//! Frames are never copied by us: a received frame is read where the kernel put it, a frame to send
//! is written where the kernel takes it. `frames` knows who has which frame, so that each is in one
//! place and none is lost. Staging writes the descriptor behind the published end of the transmit
//! ring, where the kernel does not look; `kick` publishes and, where the kernel asks for it, makes
//! one system call. In copy mode that call sends the frames before it returns; if it stops on the
//! way it is repeated a bounded number of times, and what is still left counts as staged until a
//! later kick gets rid of it. If the interface is down the whole burst is taken back and stays
//! staged.
//!
//! Path: first and last step.
//!
//! Bounds: [`FRAMES_MIN`] to [`FRAMES_MAX`] frames, half of them for each direction, so that no
//! ring can be too small; [`KICK_CALLS_MAX`] system calls per kick; frames up to
//! [`FRAME_BYTES_MAX`].
//!
//! Spec: Linux `Documentation/networking/af_xdp.rst`.

use super::{BURST, Port, PortCounters, RxFrame};
use crate::sys;
use frames::{FrameState, Frames};
use socket::{Socket, Told};
use std::fmt;
use std::io;
use std::os::fd::RawFd;
use umem::{CHUNK_BYTES, Umem};

mod frames;
mod mapping;
mod ring;
mod socket;
mod umem;

/// Frames of a port at least: one burst of each direction in the kernel and one with the core.
pub const FRAMES_MIN: u32 = 4 * BURST as u32;
/// Frames of a port at most: 1 GiB.
pub const FRAMES_MAX: u32 = 1 << 18;
/// Bytes of a frame at most, Ethernet header and VLAN tag included: the kernel keeps 256 bytes of a
/// received frame's chunk for itself.
pub const FRAME_BYTES_MAX: u32 = CHUNK_BYTES as u32 - 256;
/// System calls of one kick at most: one for each frame, and as many again. Each call either makes
/// progress or finds a buffer full that empties within microseconds.
pub const KICK_CALLS_MAX: u32 = 2 * BURST as u32;

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
    /// Frames of memory (4 KiB each), a power of two.
    pub frames: u32,
    /// How to bind.
    pub zero_copy: ZeroCopy,
}

/// Why a port could not be opened.
#[derive(Debug)]
pub enum OpenError {
    /// `frames` is no power of two between [`FRAMES_MIN`] and [`FRAMES_MAX`].
    Frames(u32),
    /// The interface does not exist or cannot be asked.
    Interface(String, io::Error),
    /// Frames of this interface do not fit: its MTU is given.
    Mtu(String, u32),
    /// There is no memory for the frames: bytes asked for.
    Memory(usize, io::Error),
    /// The kernel refuses the socket or one of its options, which is named.
    Socket(&'static str, io::Error),
    /// The queue belongs to another socket, also after waiting.
    Busy(io::Error),
    /// The socket cannot be bound to this queue.
    Bind(io::Error),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Frames(frames) => write!(
                f,
                "a port cannot have {frames} frames: give a power of two from {FRAMES_MIN} to \
                 {FRAMES_MAX}"
            ),
            OpenError::Interface(name, e) => write!(f, "cannot use interface {name}: {e}"),
            OpenError::Mtu(name, mtu) => write!(
                f,
                "the MTU of {name} is {mtu}: a port takes frames of up to {FRAME_BYTES_MAX} bytes, \
                 so set it to {} or less",
                FRAME_BYTES_MAX - FRAME_OVERHEAD_BYTES
            ),
            OpenError::Memory(bytes, e) => write!(f, "cannot take {bytes} bytes for frames: {e}"),
            OpenError::Socket(step, e) => {
                write!(f, "cannot make an AF_XDP socket ({step}): {e}")?;
                match e.raw_os_error() {
                    Some(libc::EPERM) => write!(f, "; it needs CAP_NET_RAW"),
                    Some(libc::ENOBUFS) => {
                        write!(f, "; raise the locked-memory limit or give CAP_IPC_LOCK")
                    }
                    _ => Ok(()),
                }
            }
            OpenError::Busy(e) => write!(f, "another AF_XDP socket has this queue: {e}"),
            OpenError::Bind(e) => write!(f, "cannot bind an AF_XDP socket to this queue: {e}"),
        }
    }
}

impl std::error::Error for OpenError {}

/// Ethernet header and VLAN tag.
const FRAME_OVERHEAD_BYTES: u32 = 14 + 4;

/// One queue of an interface through AF_XDP.
pub struct XdpPort {
    // The socket goes before the memory that the kernel was told of.
    socket: Socket,
    umem: Umem,
    frames: Frames,
    /// Frames staged, in the order of their descriptors.
    staged: Vec<u32>,
    staged_bytes: u64,
    /// Copy mode: published descriptors that the kernel has not taken in the last kick.
    left: u32,
    counters: PortCounters,
}

impl XdpPort {
    /// Takes the memory, opens the socket and gives the kernel frames to receive into.
    pub fn open(config: &XdpConfig) -> Result<XdpPort, OpenError> {
        let frames = config.frames;
        if !frames.is_power_of_two() || !(FRAMES_MIN..=FRAMES_MAX).contains(&frames) {
            return Err(OpenError::Frames(frames));
        }
        let name = &config.interface;
        let unusable = |e| OpenError::Interface(name.clone(), e);
        let index = sys::interface_index(name).map_err(unusable)?;
        let mtu = sys::interface_mtu(name).map_err(unusable)?;
        if mtu > FRAME_BYTES_MAX - FRAME_OVERHEAD_BYTES {
            return Err(OpenError::Mtu(name.clone(), mtu));
        }
        let umem =
            Umem::new(frames).map_err(|e| OpenError::Memory(frames as usize * CHUNK_BYTES, e))?;
        let socket = Socket::open(index, config.queue, &umem, frames / 2, config.zero_copy)?;
        let mut port = XdpPort {
            socket,
            umem,
            frames: Frames::new(frames),
            staged: Vec::with_capacity(BURST),
            staged_bytes: 0,
            left: 0,
            counters: PortCounters::default(),
        };
        port.refill();
        Ok(port)
    }

    /// The socket, for the XDP program's map and for waiting.
    pub fn fd(&self) -> RawFd {
        self.socket.fd()
    }

    /// Whether the driver works on our memory itself.
    pub fn is_zero_copy(&self) -> bool {
        self.socket.is_zero_copy()
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
        self.frames.count(FrameState::Tx)
    }

    /// Takes completed frames back and panics if a frame is lost or in two places. For tests and
    /// rare checks.
    pub fn check(&mut self) {
        self.reap();
        self.frames.check();
        assert_eq!(self.frames.count(FrameState::Staged) as usize, self.staged.len());
    }

    /// Takes back what the kernel has sent.
    #[inline]
    fn reap(&mut self) {
        let mut reaped = false;
        while let Some(address) = self.socket.completion.take() {
            self.frames.completed(Umem::frame_of(address));
            reaped = true;
        }
        if reaped {
            self.socket.completion.release();
        }
    }

    /// Gives the kernel every frame of the receiving half that the core does not hold.
    #[inline]
    fn refill(&mut self) {
        let room = self.frames.receive_room();
        if room == 0 {
            return;
        }
        for _ in 0..room {
            // The kernel shows a received frame before it shows that it took its address from this
            // ring, so a ring that looks full may not be. What does not fit waits for the next round.
            if !self.socket.fill.has_room() {
                break;
            }
            let frame = self.frames.take_fill();
            let written = self.socket.fill.write(Umem::address_of(frame));
            assert!(written, "there is room, as asked above");
        }
        self.socket.fill.publish();
    }

    /// Whether a frame can be staged now.
    #[inline]
    fn has_room(&mut self) -> bool {
        if self.left > 0 || self.staged.len() == BURST {
            return false;
        }
        if self.frames.send_room() == 0 {
            self.reap();
        }
        self.frames.send_room() > 0
    }

    /// Zero copy: wakes the driver if it sleeps; it sends what is published in its own time.
    fn wake_driver(&mut self) -> io::Result<()> {
        if !self.socket.transmit.needs_wakeup() {
            return Ok(());
        }
        self.counters.kicks += 1;
        match self.socket.tell_transmit()? {
            Told::Done | Told::Again => Ok(()),
            Told::Refused => Err(io::ErrorKind::NetworkDown.into()),
        }
    }

    /// Copy mode: makes the kernel send what is published, as far as it goes.
    fn send_all(&mut self) -> io::Result<()> {
        for call in 0..KICK_CALLS_MAX {
            self.counters.kicks += 1;
            let told = self.socket.tell_transmit();
            self.left = self.socket.transmit.unconsumed();
            match told? {
                // Nothing of this kick was looked at if the first call was refused.
                Told::Refused if call == 0 => return Err(io::ErrorKind::NetworkDown.into()),
                Told::Refused => break,
                Told::Done | Told::Again if self.left == 0 => return Ok(()),
                // The completion ring may be what is full.
                Told::Done | Told::Again => self.reap(),
            }
        }
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// Takes the burst back that was just published and not looked at.
    fn take_back(&mut self) {
        self.socket.transmit.unpublish(self.staged.len() as u32);
        for frame in &self.staged {
            self.frames.refused(*frame);
        }
        self.left = 0;
    }
}

impl Port for XdpPort {
    #[inline]
    fn receive(&mut self, burst: &mut Vec<RxFrame>) -> usize {
        self.reap();
        let mut count = 0;
        while count < BURST {
            let Some(descriptor) = self.socket.receive.take() else { break };
            self.frames.received(Umem::frame_of(descriptor.addr));
            burst.push(RxFrame { address: descriptor.addr, len: descriptor.len });
            self.counters.rx_bytes += descriptor.len as u64;
            count += 1;
        }
        if count > 0 {
            self.socket.receive.release();
            self.counters.rx_frames += count as u64;
        } else if self.socket.fill.needs_wakeup() {
            self.socket.tell_fill();
        }
        count
    }

    #[inline]
    fn frame(&self, frame: &RxFrame) -> &[u8] {
        let held = self.frames.state(Umem::frame_of(frame.address)) == FrameState::Held;
        assert!(held, "a received frame is read before it is recycled");
        // SAFETY: the frame is held by the core, as asserted; it goes back to the kernel by
        // `recycle`, which needs `&mut self` and so cannot happen while the slice lives.
        unsafe { self.umem.bytes(frame.address, frame.len) }
    }

    #[inline]
    fn recycle(&mut self, burst: &mut Vec<RxFrame>) {
        for frame in burst.drain(..) {
            self.frames.recycled(Umem::frame_of(frame.address));
        }
        self.refill();
    }

    #[inline]
    fn stage(&mut self, write: impl FnOnce(&mut [u8]) -> usize) -> Option<usize> {
        if !self.has_room() {
            self.counters.tx_no_room += 1;
            return None;
        }
        let frame = self.frames.take_staged();
        // SAFETY: the frame was free and is now staged: the kernel does not have it before `kick`.
        let len = write(unsafe { self.umem.chunk_mut(frame) });
        assert!(len <= CHUNK_BYTES, "a frame fits into its chunk");
        if len == 0 {
            self.frames.discarded(frame);
            return Some(0);
        }
        let addr = Umem::address_of(frame);
        let descriptor = libc::xdp_desc { addr, len: len as u32, options: 0 };
        let written = self.socket.transmit.write(descriptor);
        assert!(written, "the transmit ring has room for the whole half");
        self.staged.push(frame);
        self.staged_bytes += len as u64;
        Some(len)
    }

    #[inline]
    fn staged(&self) -> usize {
        self.staged.len() + self.left as usize
    }

    fn kick(&mut self) -> io::Result<()> {
        if self.staged() == 0 {
            return Ok(());
        }
        let was_left = self.left > 0;
        self.socket.transmit.publish();
        for frame in &self.staged {
            self.frames.kicked(*frame);
        }
        let outcome = if self.socket.is_zero_copy() { self.wake_driver() } else { self.send_all() };
        let refused = matches!(&outcome, Err(e) if e.kind() == io::ErrorKind::NetworkDown);
        if refused && !was_left && !self.socket.is_zero_copy() {
            self.take_back();
            return outcome;
        }
        self.counters.tx_frames += self.staged.len() as u64;
        self.counters.tx_bytes += std::mem::take(&mut self.staged_bytes);
        self.staged.clear();
        outcome
    }

    fn discard(&mut self) {
        self.socket.transmit.rollback();
        self.counters.tx_discarded += self.staged.len() as u64;
        self.staged_bytes = 0;
        for frame in self.staged.drain(..) {
            self.frames.discarded(frame);
        }
    }

    fn counters(&self) -> PortCounters {
        // The socket is open, so the kernel answers; if it does not, the number is missing and
        // nothing else.
        let dropped = self.statistics().map_or(0, |s| s.rx_dropped + s.rx_ring_full);
        PortCounters { rx_kernel_dropped: dropped, ..self.counters }
    }
}
