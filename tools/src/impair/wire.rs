//! Raw packet sockets: every frame that comes in at an interface, and whatever we send.
//!
//! An AF_PACKET socket bound to one interface sees incoming frames whatever their destination, and
//! with `PACKET_IGNORE_OUTGOING` none of those that leave. Its receive buffer is large, because
//! this process may not run for milliseconds on a busy machine; what the kernel drops nevertheless
//! is counted.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context, bail};
use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrLike, bind, getsockopt,
    recv, send, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeSpec;
use nix::{getsockopt_impl, setsockopt_impl, sockopt_impl};

/// Receive buffer: some 10 000 full frames, 100 ms at 1 Gbit/s.
const RECEIVE_BUFFER: usize = 32 << 20;

sockopt_impl!(
    /// Leave out what this interface sends.
    IgnoreOutgoing,
    SetOnly,
    nix::libc::SOL_PACKET,
    nix::libc::PACKET_IGNORE_OUTGOING,
    bool
);
sockopt_impl!(
    /// Frames seen and frames dropped since the last look.
    Statistics,
    GetOnly,
    nix::libc::SOL_PACKET,
    nix::libc::PACKET_STATISTICS,
    [u32; 2]
);

/// A socket on one interface.
#[derive(Debug)]
pub struct PacketSocket {
    fd: OwnedFd,
}

impl PacketSocket {
    /// Reads from an interface of this network namespace.
    pub fn receiver(interface: &str) -> anyhow::Result<PacketSocket> {
        let socket = PacketSocket::open(SockProtocol::EthAll)?;
        setsockopt(&socket.fd, IgnoreOutgoing, &true)?;
        setsockopt(&socket.fd, sockopt::RcvBufForce, &RECEIVE_BUFFER)?;
        bind_to(&socket.fd, interface)?;
        // What other interfaces received before the socket was bound.
        let mut frame = [0; 1];
        while socket.receive(&mut frame)?.is_some() {}
        socket.overrun()?;
        Ok(socket)
    }

    /// Only sends.
    pub fn sender(interface: &str) -> anyhow::Result<PacketSocket> {
        let socket = PacketSocket::open(None)?;
        bind_to(&socket.fd, interface)?;
        Ok(socket)
    }

    /// Without a protocol nothing is received.
    fn open(protocol: impl Into<Option<SockProtocol>>) -> anyhow::Result<PacketSocket> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Packet, SockType::Raw, flags, protocol)
            .context("opening a packet socket (needs CAP_NET_RAW)")?;
        Ok(PacketSocket { fd })
    }

    /// The next frame, if there is one: its length, which may exceed that of the buffer.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match recv(self.fd.as_raw_fd(), buffer, MsgFlags::MSG_TRUNC) {
            Ok(len) => Ok(Some(len)),
            // The interface was down; it may come up again.
            Err(Errno::EAGAIN | Errno::EINTR | Errno::ENETDOWN) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Sends a frame; whether the interface took it.
    pub fn send(&self, frame: &[u8]) -> io::Result<bool> {
        match send(self.fd.as_raw_fd(), frame, MsgFlags::empty()) {
            Ok(_) => Ok(true),
            Err(Errno::EAGAIN | Errno::ENOBUFS | Errno::ENETDOWN | Errno::EMSGSIZE) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Waits for a frame, at most so long.
    pub fn wait(&self, timeout: Duration) -> io::Result<()> {
        let mut fds = [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)];
        match ppoll(&mut fds, Some(TimeSpec::from(timeout)), None) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Frames that the kernel dropped since the last look, for want of room in the receive buffer.
    pub fn overrun(&self) -> io::Result<u64> {
        let [_, dropped] = getsockopt(&self.fd, Statistics)?;
        Ok(u64::from(dropped))
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Binds with the link-layer address of the interface, as the kernel lists it: it carries the index
/// and leaves the protocol to the socket.
fn bind_to(fd: &OwnedFd, interface: &str) -> anyhow::Result<()> {
    let listed = getifaddrs()?.filter(|listed| listed.interface_name == interface);
    let mut addresses = listed.filter_map(|listed| listed.address);
    let packet = Some(AddressFamily::Packet);
    let Some(address) = addresses.find(|address| address.family() == packet) else {
        let error = io::Error::from(ErrorKind::NotFound);
        bail!("no interface {interface} here: {error}");
    };
    let Some(link) = address.as_link_addr() else { bail!("{interface} has no link-layer address") };
    bind(fd.as_raw_fd(), link).with_context(|| format!("binding to {interface}"))
}
