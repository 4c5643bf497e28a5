//! Packet sockets: ARP frames past the kernel's own, hardware addresses that an interface takes beside its own, and
//! superframes that it cuts.

use super::{check, interface_index};
use stack::wire::{ETHERNET_BYTES, Superframe};
use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Hardware addresses that an interface takes beside its own, until this is dropped or the process dies.
pub struct ServiceMacs {
    _socket: Option<OwnedFd>,
}

impl ServiceMacs {
    /// Makes the interface take frames for these, or, if it `hears_all`, for anybody (packet(7), PACKET_MR_UNICAST and
    /// PACKET_MR_PROMISC). Needs CAP_NET_RAW.
    pub fn accept(
        interface: &str,
        macs: impl Iterator<Item = [u8; 6]>,
        hears_all: bool,
    ) -> io::Result<ServiceMacs> {
        let macs = macs.map(|mac| (libc::PACKET_MR_UNICAST, mac));
        let everybody = hears_all.then_some((libc::PACKET_MR_PROMISC, [0; 6]));
        let mut memberships = macs.chain(everybody).peekable();
        if memberships.peek().is_none() {
            return Ok(ServiceMacs { _socket: None });
        }
        // Of protocol zero: no frame ever arrives at this socket.
        let socket = packet_socket(0)?;
        let index = interface_index(interface)? as i32;
        for (kind, mac) in memberships {
            let mut request = libc::packet_mreq {
                mr_ifindex: index,
                mr_type: kind as u16,
                mr_alen: 6,
                mr_address: [0; 8],
            };
            request.mr_address[..6].copy_from_slice(&mac);
            let length = size_of_val(&request) as libc::socklen_t;
            let (level, option) = (libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP);
            let value = (&raw const request).cast();
            // SAFETY: `request` is a `packet_mreq` of that length.
            check(unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, value, length) })?;
        }
        Ok(ServiceMacs { _socket: Some(socket) })
    }
}

/// A raw packet socket for frames of this protocol.
fn packet_socket(protocol: u16) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: takes numbers only.
    let fd = unsafe { libc::socket(libc::AF_PACKET, kind, protocol.to_be().into()) };
    check(fd)?;
    // SAFETY: the descriptor was just made and is nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Binds a packet socket to an interface, for frames of this protocol.
fn bind_to(socket: &OwnedFd, interface: &str, protocol: u16) -> io::Result<()> {
    // SAFETY: `sockaddr_ll` is plain data.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol.to_be();
    address.sll_ifindex = interface_index(interface)? as i32;
    let length = size_of_val(&address) as libc::socklen_t;
    // SAFETY: `address` is a `sockaddr_ll` of that length.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) })
}

/// A socket for frames and for superframes, which the NIC cuts into segments, or the kernel for one that cannot (any more): past
/// the interface's queueing discipline it would drop them instead.
pub struct CuttingSocket(File);

/// What is said before a frame ([`CuttingSocket::send`]): a `virtio_net_hdr`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Cuts([u8; CUTS_BYTES]);

const CUTS_BYTES: usize = 10;

impl Cuts {
    /// The frame goes as it is.
    pub const NONE: Cuts = Cuts([0; CUTS_BYTES]);

    /// Where this superframe is to be cut, and what of each segment's checksum is still to be done.
    pub fn of(frame: &Superframe) -> Cuts {
        if frame.segment_bytes == 0 {
            return Cuts::NONE;
        }
        // VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_GSO_TCPV4 and _TCPV6 of `linux/virtio_net.h`.
        const NEEDS_CHECKSUM: u8 = 1;
        let kind = if usize::from(frame.tcp_at) == ETHERNET_BYTES + 20 { 1 } else { 4 };
        // Where TCP has its checksum.
        const CHECKSUM_AT: u16 = 16;
        let mut bytes = [0; CUTS_BYTES];
        (bytes[0], bytes[1]) = (NEEDS_CHECKSUM, kind);
        let words = [frame.payload_at, frame.segment_bytes, frame.tcp_at, CHECKSUM_AT];
        for (at, word) in words.into_iter().enumerate() {
            bytes[2 + 2 * at..4 + 2 * at].copy_from_slice(&word.to_ne_bytes());
        }
        Cuts(bytes)
    }
}

impl CuttingSocket {
    /// Opens it for an interface of the calling thread's network namespace; `buffer_bytes` may be on their way. Needs
    /// CAP_NET_RAW.
    pub fn open(interface: &str, buffer_bytes: i32) -> io::Result<CuttingSocket> {
        // Of protocol zero: no frame ever arrives at this socket.
        let socket = packet_socket(0)?;
        bind_to(&socket, interface, 0)?;
        let fd = socket.as_raw_fd();
        set(fd, libc::SOL_PACKET, libc::PACKET_VNET_HDR, 1)?;
        // Without CAP_NET_ADMIN up to the system's bound.
        set(fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, buffer_bytes)
            .or_else(|_| set(fd, libc::SOL_SOCKET, libc::SO_SNDBUF, buffer_bytes))?;
        Ok(CuttingSocket(File::from(socket)))
    }

    /// Sends a frame; does not wait. An error: it was not sent, or of a superframe that the kernel has cut not all of it.
    pub fn send(&self, cuts: Cuts, frame: &[u8]) -> io::Result<()> {
        (&self.0).write_vectored(&[IoSlice::new(&cuts.0), IoSlice::new(frame)]).map(drop)
    }
}

fn set(fd: RawFd, level: i32, option: i32, value: i32) -> io::Result<()> {
    let length = size_of_val(&value) as libc::socklen_t;
    // SAFETY: `value` is a number of that length.
    check(unsafe { libc::setsockopt(fd, level, option, (&raw const value).cast(), length) })
}

/// A socket for the ARP frames of one interface, own ones excepted. What an XDP program has taken does not arrive.
pub struct ArpSocket(OwnedFd);

impl ArpSocket {
    /// Opens it. Needs CAP_NET_RAW.
    pub fn open(interface: &str) -> io::Result<ArpSocket> {
        let socket = packet_socket(libc::ETH_P_ARP as u16)?;
        bind_to(&socket, interface, libc::ETH_P_ARP as u16)?;
        Ok(ArpSocket(socket))
    }

    /// To wait for.
    pub fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Sends a whole frame.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        // SAFETY: `frame` is valid for its length.
        let sent = unsafe { libc::send(self.fd(), frame.as_ptr().cast(), frame.len(), 0) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// The next frame, cut to the buffer; `None` if there is none.
    pub fn receive<'a>(&self, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
        // SAFETY: `buffer` is valid for writing its length.
        let got = unsafe { libc::recv(self.fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
        usize::try_from(got).ok().map(|got| &buffer[..got])
    }
}
