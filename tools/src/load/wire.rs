//! A non-blocking kernel TCP connection, as far as the load generator needs it.

use std::ffi::OsString;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddrV4, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, connect, getsockopt, setsockopt, socket, sockopt,
};
use nix::time::{ClockId, clock_gettime};
use nix::{getsockopt_impl, sockopt_impl};

use super::report::Outcome;

sockopt_impl!(
    /// The first 136 bytes of the kernel's `struct tcp_info`.
    TcpInfo,
    GetOnly,
    nix::libc::IPPROTO_TCP,
    nix::libc::TCP_INFO,
    [u64; 17]
);

/// Word of `struct tcp_info` that counts the bytes the other side acknowledged.
const BYTES_ACKED: usize = 15;
/// Word of `struct tcp_info` that counts the bytes received in order.
const BYTES_RECEIVED: usize = 16;

/// `CLOCK_MONOTONIC` in nanoseconds: the same clock in every network namespace.
pub fn monotonic_ns() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("CLOCK_MONOTONIC exists");
    time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64
}

/// One connection.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
}

/// What a read or write came to.
#[derive(Debug)]
pub enum Step {
    /// So many bytes, at least one.
    Bytes(usize),
    /// Nothing now.
    Later,
    /// The other side sent its FIN (reads only).
    Closed,
    /// The connection is gone.
    Failed(io::Error),
}

impl Wire {
    /// Begins to connect; `receive_buffer` bounds what the kernel takes before it is read.
    pub fn connect(target: SocketAddrV4, receive_buffer: Option<usize>) -> io::Result<Wire> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let fd = socket(AddressFamily::Inet, SockType::Stream, flags, None)?;
        if let Some(bytes) = receive_buffer {
            setsockopt(&fd, sockopt::RcvBuf, &bytes)?;
        }
        setsockopt(&fd, sockopt::TcpNoDelay, &true)?;
        use_cubic(&fd);
        let stream = TcpStream::from(fd);
        match connect(std::os::fd::AsRawFd::as_raw_fd(&stream), &SockaddrIn::from(target)) {
            Ok(()) | Err(Errno::EINPROGRESS) => Ok(Wire { stream }),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Reads what is there.
    pub fn read(&self, buf: &mut [u8]) -> Step {
        match (&self.stream).read(buf) {
            Ok(0) if !buf.is_empty() => Step::Closed,
            Ok(0) => Step::Later,
            Ok(len) => Step::Bytes(len),
            Err(error) => Step::of(error),
        }
    }

    /// Writes what fits. A connection that is still being made takes nothing yet.
    pub fn write(&self, bytes: &[u8]) -> Step {
        match (&self.stream).write(bytes) {
            Ok(0) => Step::Later,
            Ok(len) => Step::Bytes(len),
            Err(error) => Step::of(error),
        }
    }

    /// Bytes that the other side has acknowledged.
    pub fn acked(&self) -> u64 {
        acked(&self.stream)
    }

    /// Bytes that have arrived in order, read or not.
    pub fn received(&self) -> u64 {
        info(&self.stream, BYTES_RECEIVED)
    }
}

/// CUBIC, so that figures compare from machine to machine whatever their default. A kernel without
/// it, or that forbids it, keeps its own.
pub fn use_cubic(socket: &impl AsFd) {
    let _ = setsockopt(socket, sockopt::TcpCongestion, &OsString::from("cubic"));
}

/// Bytes that the other side of a connection has acknowledged; its SYN and FIN count as one each.
pub fn acked(stream: &TcpStream) -> u64 {
    info(stream, BYTES_ACKED)
}

fn info(stream: &TcpStream, word: usize) -> u64 {
    getsockopt(stream, TcpInfo).map_or(0, |info| info[word])
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl Step {
    fn of(error: io::Error) -> Step {
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::Interrupted => Step::Later,
            _ => Step::Failed(error),
        }
    }
}

/// What a failed call says about the connection.
pub fn outcome_of(error: &io::Error) -> Outcome {
    match error.kind() {
        ErrorKind::ConnectionRefused => Outcome::Refused,
        ErrorKind::TimedOut | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
            Outcome::Stalled
        }
        _ => Outcome::Reset,
    }
}
