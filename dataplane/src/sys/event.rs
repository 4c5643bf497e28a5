//! A descriptor that one thread makes readable to wake another (eventfd).

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// An event that has been raised or not.
pub struct Event(File);

impl Event {
    /// One that is not raised.
    pub fn new() -> io::Result<Event> {
        // SAFETY: the call touches no memory of ours.
        let descriptor = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        super::check(descriptor)?;
        // SAFETY: the descriptor was just opened and nobody else has it.
        Ok(Event(unsafe { OwnedFd::from_raw_fd(descriptor) }.into()))
    }

    /// Makes the descriptor readable.
    pub fn raise(&self) {
        // Fails only if it was raised 2^64 times and never lowered: then it is raised.
        let _ = (&self.0).write(&1u64.to_ne_bytes());
    }

    /// Makes the descriptor unreadable again.
    pub fn lower(&self) {
        // Fails if it was not raised, which is as good.
        let _ = (&self.0).read(&mut [0; 8]);
    }

    /// What to wait for.
    pub fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::wait_readable;

    #[test]
    fn it_wakes_until_it_is_lowered() {
        let event = Event::new().unwrap();
        event.lower();
        assert!(!wait_readable(&[event.fd()], 1000).unwrap());
        event.raise();
        event.raise();
        assert!(wait_readable(&[event.fd()], 10_000_000_000).unwrap());
        event.lower();
        assert!(!wait_readable(&[event.fd()], 1000).unwrap());
    }
}
