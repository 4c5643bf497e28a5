//! Why a port could not be opened, in words that say what to do.

use super::{FRAME_OVERHEAD_BYTES, FRAMES_MAX, JUMBO_BYTES_MAX};
use std::fmt;
use std::io;

/// Why a port could not be opened.
#[derive(Debug)]
pub enum OpenError {
    /// `frames` is no power of two between the second number and [`FRAMES_MAX`].
    Frames(u32, u32),
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
            OpenError::Frames(frames, least) => write!(
                f,
                "a port cannot have {frames} frames at this MTU: give a power of two from {least} \
                 to {FRAMES_MAX}"
            ),
            OpenError::Interface(name, e) => write!(f, "cannot use interface {name}: {e}"),
            OpenError::Mtu(name, mtu) => write!(
                f,
                "the MTU of {name} is {mtu}: a port takes frames of up to {JUMBO_BYTES_MAX} bytes, \
                 so set it to {} or less",
                JUMBO_BYTES_MAX - FRAME_OVERHEAD_BYTES
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
