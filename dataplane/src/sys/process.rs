//! What a process does to itself so that it outlives another.

use super::check;
use std::io;

/// Takes the calling process out of its session: no terminal and no group of another ends it.
pub fn leave_session() -> io::Result<()> {
    // SAFETY: the call has no arguments.
    check(unsafe { libc::setsid() })
}

/// Closes every descriptor from `first` on. Nothing may own one of them.
pub fn close_descriptors_from(first: u32) -> io::Result<()> {
    // SAFETY: descriptors are numbers; the caller says that nobody uses these.
    check(unsafe { libc::close_range(first, u32::MAX, 0) })
}

/// Keeps all memory of the process present, so that it need not be read back when it matters.
pub fn lock_memory() -> io::Result<()> {
    // SAFETY: the call changes where pages are, not what is in them.
    check(unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE) })
}

/// What `ps` and `top` call the process; at most 15 bytes are shown.
pub fn set_name(name: &std::ffi::CStr) {
    // SAFETY: the name is a C string, of which the kernel copies 15 bytes; it cannot fail.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
}

/// Lets every thread of another process run only when nobody else wants to, as far as that is allowed: it is
/// ordinary and as nice as can be from here on. A process that is gone is no error.
pub fn defer_process(process: u32) {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{process}/task")) else { return };
    let numbers = tasks.flatten().filter_map(|task| task.file_name().to_str()?.parse().ok());
    for task in numbers {
        let parameters = libc::sched_param { sched_priority: 0 };
        // SAFETY: `parameters` is valid for the call, which takes a thread by its number.
        unsafe { libc::sched_setscheduler(task, libc::SCHED_BATCH, &parameters) };
        // SAFETY: takes numbers and touches no memory of ours.
        unsafe { libc::setpriority(libc::PRIO_PROCESS, task as libc::id_t, 19) };
    }
}
