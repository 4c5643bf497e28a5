//! SIGINT, SIGTERM and SIGHUP as something to wait for, in place of a handler.

use std::io;
use std::time::Duration;

/// What a signal asks of a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Signal {
    /// SIGINT or SIGTERM: to end.
    End,
    /// SIGHUP: to read its configuration again.
    Reload,
}

/// The signals that a node waits for, blocked for the thread that blocked them and for those it starts.
pub struct Signals(libc::sigset_t);

impl Signals {
    /// Blocks them. Call before the first thread is started.
    pub fn block() -> io::Result<Signals> {
        // SAFETY: an all-zero set is a valid place for sigemptyset to write to.
        let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
        // SAFETY: `set` is valid for each call; all signals exist.
        let outcome = unsafe {
            libc::sigemptyset(&mut set);
            libc::sigaddset(&mut set, libc::SIGINT);
            libc::sigaddset(&mut set, libc::SIGTERM);
            libc::sigaddset(&mut set, libc::SIGHUP);
            libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut())
        };
        if outcome != 0 {
            return Err(io::Error::from_raw_os_error(outcome));
        }
        Ok(Signals(set))
    }

    /// Waits for one of the signals; `None` when the time is up.
    pub fn wait(&self, timeout: Duration) -> io::Result<Option<Signal>> {
        let time = libc::timespec {
            tv_sec: timeout.as_secs() as libc::time_t,
            tv_nsec: timeout.subsec_nanos() as libc::c_long,
        };
        // SAFETY: set and time are valid for the call; no information is asked for.
        let signal = unsafe { libc::sigtimedwait(&self.0, std::ptr::null_mut(), &time) };
        if signal > 0 {
            let is_reload = signal == libc::SIGHUP;
            return Ok(Some(if is_reload { Signal::Reload } else { Signal::End }));
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EAGAIN | libc::EINTR) => Ok(None),
            _ => Err(error),
        }
    }
}
