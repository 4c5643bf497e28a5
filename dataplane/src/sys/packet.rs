//! Packet sockets: ARP frames past the kernel's own, and hardware addresses that an interface takes beside its own.

use super::{check, interface_index};
use std::io;
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

/// A socket for the ARP frames of one interface, own ones excepted. What an XDP program has taken does not arrive.
pub struct ArpSocket(OwnedFd);

impl ArpSocket {
    /// Opens it. Needs CAP_NET_RAW.
    pub fn open(interface: &str) -> io::Result<ArpSocket> {
        let socket = ArpSocket(packet_socket(libc::ETH_P_ARP as u16)?);
        // SAFETY: `sockaddr_ll` is plain data.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = (libc::ETH_P_ARP as u16).to_be();
        address.sll_ifindex = interface_index(interface)? as i32;
        let length = size_of_val(&address) as libc::socklen_t;
        // SAFETY: `address` is a `sockaddr_ll` of that length.
        check(unsafe { libc::bind(socket.fd(), (&raw const address).cast(), length) })?;
        Ok(socket)
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
