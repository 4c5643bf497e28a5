//! A packet socket: frames of one kind, past every protocol of the kernel.

use super::{check, interface_index};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// A socket for the ARP frames of one interface, own ones excepted. What an XDP program has taken does not arrive.
pub struct ArpSocket(OwnedFd);

impl ArpSocket {
    /// Opens it. Needs CAP_NET_RAW.
    pub fn open(interface: &str) -> io::Result<ArpSocket> {
        let protocol = (libc::ETH_P_ARP as u16).to_be();
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: takes numbers only.
        let fd = unsafe { libc::socket(libc::AF_PACKET, kind, protocol.into()) };
        check(fd)?;
        // SAFETY: the descriptor was just made and is nobody else's.
        let socket = ArpSocket(unsafe { OwnedFd::from_raw_fd(fd) });
        // SAFETY: `sockaddr_ll` is plain data.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = protocol;
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
