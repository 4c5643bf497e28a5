//! The few system calls that the standard library has no words for, as safe functions.
//!
//! Errors are the kernel's own (`io::Error`); the caller decides which are fatal. What belongs to
//! AF_XDP is in `port/xdp`, the clock in `clock`.
//!
//! Bounds: [`WAIT_DESCRIPTORS_MAX`].

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;

mod echo;
pub mod event;
mod interface;
mod packet;
mod process;
pub mod robust;
mod signal;

pub use echo::{EchoSocket, WAY_BYTES_MIN};
pub use interface::{
    Offloads, interface_carrier, interface_driver, interface_index, interface_mac, interface_mbits,
    interface_mtu, interface_offloads,
};
pub use packet::{ArpSocket, Cuts, CuttingSocket, ServiceMacs};
pub use process::{close_descriptors_from, defer_process, leave_session, lock_memory, set_name};
pub use signal::{Signal, Signals};

/// Descriptors that [`wait_readable`] can wait for.
pub const WAIT_DESCRIPTORS_MAX: usize = 64;

/// Lets the calling thread run on this core only.
pub fn pin_to_core(core: usize) -> io::Result<()> {
    // SAFETY: an all-zero `cpu_set_t` is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    if core >= 8 * size_of::<libc::cpu_set_t>() {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: `core` is within the set, as checked above.
    unsafe { libc::CPU_SET(core, &mut set) };
    // SAFETY: `set` is valid for its size; 0 names the calling thread.
    check(unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set) })
}

/// Schedules the calling thread SCHED_FIFO with this priority (1..=99), ahead of every ordinary
/// thread. Threads and processes that it starts are ordinary again. Needs CAP_SYS_NICE.
pub fn set_realtime(priority: i32) -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: priority };
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    // SAFETY: `parameters` is valid for the call; 0 names the calling thread.
    check(unsafe { libc::sched_setscheduler(0, policy, &parameters) })
}

/// No core dump of this process: writing gigabytes would delay the news of its death.
///
/// The limit alone does not stop a dump into a pipe, so the process is made undumpable as well; an
/// unprivileged debugger can then no longer attach.
pub fn no_core_dump() -> io::Result<()> {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `none` is valid for the call.
    check(unsafe { libc::setrlimit(libc::RLIMIT_CORE, &none) })?;
    // SAFETY: PR_SET_DUMPABLE takes one number and touches no memory of ours.
    check(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) })
}

/// Moves the calling thread into the network namespace at `path` (say `/run/netns/NAME`). Sockets
/// and interface names of this thread are those of the namespace from now on.
pub fn enter_network_namespace(path: &Path) -> io::Result<()> {
    let namespace = File::open(path)?;
    // SAFETY: the descriptor is open across the call, which touches no memory.
    check(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) })
}

/// Waits until one of the descriptors is readable (true) or the time is up (false). A signal ends
/// it early (false).
///
/// For AF_XDP sockets in copy mode the kernel also sends what was kicked and not taken before.
pub fn wait_readable(descriptors: &[RawFd], timeout_ns: u64) -> io::Result<bool> {
    assert!(descriptors.len() <= WAIT_DESCRIPTORS_MAX);
    let mut polls =
        [libc::pollfd { fd: -1, events: libc::POLLIN, revents: 0 }; WAIT_DESCRIPTORS_MAX];
    for (poll, descriptor) in polls.iter_mut().zip(descriptors) {
        poll.fd = *descriptor;
    }
    let timeout = libc::timespec {
        tv_sec: (timeout_ns / 1_000_000_000) as libc::time_t,
        tv_nsec: (timeout_ns % 1_000_000_000) as libc::c_long,
    };
    let count = descriptors.len() as libc::nfds_t;
    // SAFETY: `polls` has at least `count` entries; no signal mask is given.
    match unsafe { libc::ppoll(polls.as_mut_ptr(), count, &timeout, std::ptr::null()) } {
        0 => Ok(false),
        ready if ready > 0 => Ok(true),
        _ => match io::Error::last_os_error() {
            e if e.kind() == io::ErrorKind::Interrupted => Ok(false),
            e => Err(e),
        },
    }
}

/// Fills `bytes` from the kernel's random source.
pub fn fill_random(bytes: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    while filled < bytes.len() {
        let rest = &mut bytes[filled..];
        // SAFETY: `rest` is valid for writing its length.
        let got = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
        match usize::try_from(got) {
            Ok(got) => filled += got,
            Err(_) => match io::Error::last_os_error() {
                e if e.kind() == io::ErrorKind::Interrupted => {}
                e => return Err(e),
            },
        }
    }
    Ok(())
}

/// The error of a call that answered -1.
fn check(outcome: libc::c_int) -> io::Result<()> {
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// `name` as C wants it; a NUL inside is an invalid argument.
fn c_string(name: &str) -> io::Result<CString> {
    CString::new(name).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn waits_for_the_readable_one() {
        let (quiet, _quiet_end) = std::os::unix::net::UnixStream::pair().unwrap();
        let (loud, mut loud_end) = std::os::unix::net::UnixStream::pair().unwrap();
        let both = [quiet.as_raw_fd(), loud.as_raw_fd()];
        assert!(!wait_readable(&both, 1000).unwrap());
        loud_end.write_all(b"x").unwrap();
        assert!(wait_readable(&both, 10_000_000_000).unwrap());
        assert!(!wait_readable(&both[..1], 0).unwrap());
    }

    #[test]
    fn refuses_what_does_not_exist() {
        assert_eq!(pin_to_core(1 << 20).unwrap_err().raw_os_error(), Some(libc::EINVAL));
        assert_eq!(pin_to_core(1023).unwrap_err().raw_os_error(), Some(libc::EINVAL));
        assert_eq!(set_realtime(100).unwrap_err().raw_os_error(), Some(libc::EINVAL));
        assert!(enter_network_namespace(Path::new("/does/not/exist")).is_err());
    }

    #[test]
    fn pins_to_the_first_core_that_is_allowed() {
        std::thread::spawn(|| assert!((0..64).any(|core| pin_to_core(core).is_ok())))
            .join()
            .unwrap();
    }
}
