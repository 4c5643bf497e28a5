//! The AF_XDP socket: options, rings, binding, and the calls that move it on.
//!
//! Spec: Linux `Documentation/networking/af_xdp.rst`. One socket per memory and queue; no shared
//! memory, no transmit metadata. Frames of several buffers (Linux 6.6) where they are asked for.
//!
//! Bounds: [`BUSY_WAIT`] for a queue that its last owner has not quite left.

use super::ring::{Consumer, Layout, Producer};
use super::umem::Umem;
use super::{OpenError, ZeroCopy};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

/// How long a queue may answer "busy": the kernel frees it some 10-40 ms after its last owner has
/// gone.
const BUSY_WAIT: Duration = Duration::from_millis(1000);
/// Pause between two tries to bind.
const BUSY_PAUSE: Duration = Duration::from_millis(2);
/// Bytes of packets that may be on their way through the kernel (it counts each frame with its
/// overhead).
const SEND_BUFFER_BYTES: libc::c_int = 16 << 20;
/// Socket option: descriptors taken by one `sendto` in copy mode (32 by itself). Linux 6.18.
const XDP_MAX_TX_SKB_BUDGET: libc::c_int = 9;

/// A bound socket with its four rings. Fields are dropped in this order.
pub struct Socket {
    fd: OwnedFd,
    zero_copy: bool,
    overlaps: bool,
    /// Frames to receive into.
    pub fill: Producer<u64>,
    /// Received frames.
    pub receive: Consumer<libc::xdp_desc>,
    /// Frames to send.
    pub transmit: Producer<libc::xdp_desc>,
    /// Frames sent.
    pub completion: Consumer<u64>,
}

/// What the kernel said when told of staged frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Told {
    /// It has done what it could in one go.
    Done,
    /// It has stopped on the way (budget, buffer, queue): tell it again.
    Again,
    /// It did not look at the ring at all (the interface is down or gone).
    Refused,
}

/// How to open a socket.
#[derive(Clone, Copy)]
pub struct Request {
    /// Index of the interface.
    pub interface: u32,
    /// Its queue.
    pub queue: u32,
    /// Descriptors of a ring.
    pub ring: u32,
    /// Descriptors of one burst.
    pub burst: u32,
    /// How to bind.
    pub zero_copy: ZeroCopy,
    /// Frames may lie in several buffers.
    pub multi_buffer: bool,
}

impl Socket {
    /// Opens a socket and binds it.
    ///
    /// The kernel keeps parts of a failed bind, so that every try starts with a new socket.
    pub fn open(umem: &Umem, request: &Request) -> Result<Socket, OpenError> {
        let modes: &[bool] = match request.zero_copy {
            ZeroCopy::Auto => &[true, false],
            ZeroCopy::Never => &[false],
            ZeroCopy::Require => &[true],
        };
        let start = Instant::now();
        loop {
            let mut outcome = Err(OpenError::Bind(io::ErrorKind::Unsupported.into()));
            for zero_copy in modes {
                outcome = Socket::open_once(umem, request, *zero_copy);
                if !matches!(&outcome, Err(OpenError::Bind(_))) {
                    break;
                }
            }
            match &outcome {
                Err(OpenError::Busy(_)) if start.elapsed() < BUSY_WAIT => {
                    std::thread::sleep(BUSY_PAUSE);
                }
                _ => return outcome,
            }
        }
    }

    fn open_once(umem: &Umem, request: &Request, zero_copy: bool) -> Result<Socket, OpenError> {
        let mut socket = Socket::prepare(umem, request, request.multi_buffer && !zero_copy)?;
        let mode = if zero_copy { libc::XDP_ZEROCOPY } else { libc::XDP_COPY };
        let buffers = if request.multi_buffer { libc::XDP_USE_SG } else { 0 };
        let address = libc::sockaddr_xdp {
            sxdp_family: libc::AF_XDP as u16,
            sxdp_flags: mode | buffers | libc::XDP_USE_NEED_WAKEUP,
            sxdp_ifindex: request.interface,
            sxdp_queue_id: request.queue,
            sxdp_shared_umem_fd: 0,
        };
        let len = size_of::<libc::sockaddr_xdp>() as libc::socklen_t;
        // SAFETY: `address` is a valid AF_XDP address of this length.
        let bound = unsafe { libc::bind(socket.fd(), (&raw const address).cast(), len) };
        if bound != 0 {
            return Err(match io::Error::last_os_error() {
                e if e.raw_os_error() == Some(libc::EBUSY) => OpenError::Busy(e),
                e => OpenError::Bind(e),
            });
        }
        socket.zero_copy = zero_copy;
        Ok(socket)
    }

    /// A socket with memory and rings, not bound.
    fn prepare(umem: &Umem, request: &Request, overlaps: bool) -> Result<Socket, OpenError> {
        let ring = request.ring;
        // SAFETY: no memory is involved.
        let fd = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(OpenError::Socket("socket", io::Error::last_os_error()));
        }
        // SAFETY: the descriptor is new and nobody else's.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let raw = fd.as_raw_fd();
        let step = |name| move |e| OpenError::Socket(name, e);
        set(raw, libc::SOL_XDP, libc::XDP_UMEM_REG, &umem.registration(overlaps))
            .map_err(step("XDP_UMEM_REG"))?;
        // The kernel shows late what it took from the fill ring: room for what is under way.
        let fill_ring = 2 * ring;
        for (name, option, size) in [
            ("XDP_UMEM_FILL_RING", libc::XDP_UMEM_FILL_RING, fill_ring),
            ("XDP_UMEM_COMPLETION_RING", libc::XDP_UMEM_COMPLETION_RING, ring),
            ("XDP_RX_RING", libc::XDP_RX_RING, ring),
            ("XDP_TX_RING", libc::XDP_TX_RING, ring),
        ] {
            set(raw, libc::SOL_XDP, option, &size).map_err(step(name))?;
        }
        // Neither is needed to work, only to be told less often; old kernels and processes without
        // CAP_NET_ADMIN go without.
        let _ = set(raw, libc::SOL_XDP, XDP_MAX_TX_SKB_BUDGET, &request.burst);
        let _ = set(raw, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &SEND_BUFFER_BYTES);
        let offsets = mmap_offsets(raw).map_err(step("XDP_MMAP_OFFSETS"))?;
        let page = |offset: libc::c_ulonglong| offset as libc::off_t;
        let (fill, completion) =
            (page(libc::XDP_UMEM_PGOFF_FILL_RING), page(libc::XDP_UMEM_PGOFF_COMPLETION_RING));
        let mapped = step("mmap of a ring");
        Ok(Socket {
            fill: Producer::map(raw, fill_ring, fill, layout(&offsets.fr)).map_err(mapped)?,
            receive: Consumer::map(raw, ring, libc::XDP_PGOFF_RX_RING, layout(&offsets.rx))
                .map_err(mapped)?,
            transmit: Producer::map(raw, ring, libc::XDP_PGOFF_TX_RING, layout(&offsets.tx))
                .map_err(mapped)?,
            completion: Consumer::map(raw, ring, completion, layout(&offsets.cr))
                .map_err(mapped)?,
            zero_copy: false,
            overlaps,
            fd,
        })
    }

    /// The descriptor, for the program's map and for waiting.
    pub fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Whether the driver works on our memory itself.
    pub fn is_zero_copy(&self) -> bool {
        self.zero_copy
    }

    /// Whether chunks to receive into may overlap.
    pub fn takes_overlapping(&self) -> bool {
        self.overlaps
    }

    /// Tells the kernel that there are frames to send. In copy mode it sends them within this call.
    #[inline]
    pub fn tell_transmit(&self) -> io::Result<Told> {
        // SAFETY: no data and no address are passed.
        let sent = unsafe {
            libc::sendto(self.fd(), std::ptr::null(), 0, libc::MSG_DONTWAIT, std::ptr::null(), 0)
        };
        if sent >= 0 {
            return Ok(Told::Done);
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EAGAIN | libc::EBUSY | libc::ENOBUFS | libc::EINTR) => Ok(Told::Again),
            Some(libc::ENETDOWN | libc::ENXIO) => Ok(Told::Refused),
            _ => Err(error),
        }
    }

    /// Tells the kernel that there are frames to receive into.
    #[inline]
    pub fn tell_fill(&self) {
        let (none, no_address) = (std::ptr::null_mut(), std::ptr::null_mut());
        let no_len = std::ptr::null_mut();
        // SAFETY: no buffer and no address are passed. What goes wrong shows in the next poll, or
        // as link down.
        unsafe { libc::recvfrom(self.fd(), none, 0, libc::MSG_DONTWAIT, no_address, no_len) };
    }

    /// The kernel's own counters of this socket.
    pub fn statistics(&self) -> io::Result<libc::xdp_statistics> {
        // SAFETY: plain numbers; all zeros is valid.
        let zero: libc::xdp_statistics = unsafe { std::mem::zeroed() };
        get(self.fd(), libc::XDP_STATISTICS, zero).map(|(statistics, _)| statistics)
    }
}

/// One `setsockopt`.
fn set<T>(fd: RawFd, level: libc::c_int, option: libc::c_int, value: &T) -> io::Result<()> {
    let len = size_of::<T>() as libc::socklen_t;
    // SAFETY: `value` is valid for reading its size.
    let done = unsafe { libc::setsockopt(fd, level, option, (&raw const *value).cast(), len) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// One `getsockopt` of AF_XDP; `value` is plain numbers. Returns how many bytes of it the kernel
/// wrote.
fn get<T>(fd: RawFd, option: libc::c_int, mut value: T) -> io::Result<(T, usize)> {
    let mut len = size_of::<T>() as libc::socklen_t;
    // SAFETY: `value` is valid for writing `len` bytes.
    let done =
        unsafe { libc::getsockopt(fd, libc::SOL_XDP, option, (&raw mut value).cast(), &mut len) };
    if done == 0 { Ok((value, len as usize)) } else { Err(io::Error::last_os_error()) }
}

/// Where in the rings' mappings things lie. Kernels older than the flags answer less and are
/// refused.
fn mmap_offsets(fd: RawFd) -> io::Result<libc::xdp_mmap_offsets> {
    // SAFETY: plain numbers; all zeros is valid.
    let zero: libc::xdp_mmap_offsets = unsafe { std::mem::zeroed() };
    match get(fd, libc::XDP_MMAP_OFFSETS, zero)? {
        (offsets, len) if len == size_of::<libc::xdp_mmap_offsets>() => Ok(offsets),
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}

fn layout(offset: &libc::xdp_ring_offset) -> Layout {
    Layout {
        producer: offset.producer as usize,
        consumer: offset.consumer as usize,
        flags: offset.flags as usize,
        descriptors: offset.desc as usize,
    }
}
