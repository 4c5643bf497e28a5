//! SIGINT and SIGTERM as something to wait for, in place of a handler.

use std::io;
use std::time::Duration;

/// The signals that end a node, blocked for the thread that blocked them and for those it starts.
pub struct TerminationSignals(libc::sigset_t);

impl TerminationSignals {
    /// Blocks SIGINT and SIGTERM. Call before the first thread is started.
    pub fn block() -> io::Result<TerminationSignals> {
        // SAFETY: an all-zero set is a valid place for sigemptyset to write to.
        let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
        // SAFETY: `set` is valid for each call; both signals exist.
        let outcome = unsafe {
            libc::sigemptyset(&mut set);
            libc::sigaddset(&mut set, libc::SIGINT);
            libc::sigaddset(&mut set, libc::SIGTERM);
            libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut())
        };
        if outcome != 0 {
            return Err(io::Error::from_raw_os_error(outcome));
        }
        Ok(TerminationSignals(set))
    }

    /// Waits for one of the signals (true) or until the time is up (false).
    pub fn wait(&self, timeout: Duration) -> io::Result<bool> {
        let time = libc::timespec {
            tv_sec: timeout.as_secs() as libc::time_t,
            tv_nsec: timeout.subsec_nanos() as libc::c_long,
        };
        // SAFETY: set and time are valid for the call; no information is asked for.
        let signal = unsafe { libc::sigtimedwait(&self.0, std::ptr::null_mut(), &time) };
        if signal > 0 {
            return Ok(true);
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EAGAIN | libc::EINTR) => Ok(false),
            _ => Err(error),
        }
    }
}
