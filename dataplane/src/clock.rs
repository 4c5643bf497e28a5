//! The clock: CLOCK_BOOTTIME, read without entering the kernel.
//!
//! A core reads it once per poll and once before every kick; everything below gets the value as an
//! argument. All processes of a machine see the same clock. Nobody can set it, and it counts the time that the
//! machine sleeps: a lease that was in force before must not look so afterwards.
//!
//! Units: nanoseconds since the machine started.

use stack::time::Instant;

/// Nanoseconds since the machine started. Never goes back.
#[inline]
pub fn boottime_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the result and lives across the call.
    let outcome = unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &mut time) };
    assert_eq!(outcome, 0, "CLOCK_BOOTTIME is always there");
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// For how many nanoseconds the scheduler has let the calling thread run. Enters the kernel.
pub fn thread_cpu_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the result and lives across the call.
    let outcome = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    assert_eq!(outcome, 0, "every thread has that clock");
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// The same as the stack's type.
#[inline]
pub fn now() -> Instant {
    Instant(boottime_ns())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::Command;

    #[test]
    fn never_goes_back() {
        let mut last = now();
        for _ in 0..1000 {
            let next = now();
            assert!(next >= last && next > Instant::ZERO);
            last = next;
        }
    }

    /// In a time namespace the clock is as far ahead as after a sleep of a day; the test runs itself there.
    #[test]
    fn time_in_suspend_counts() {
        const BEFORE: &str = "UNDERSTUDY_CLOCK_BEFORE";
        const ASLEEP_NS: u64 = 86_400_000_000_000;
        if let Ok(before) = std::env::var(BEFORE) {
            let before: u64 = before.parse().unwrap();
            assert!(boottime_ns() >= before + ASLEEP_NS, "the sleep was not counted");
            return;
        }
        let mut command = Command::new("unshare");
        command.args(["--time", "--boottime", &(ASLEEP_NS / 1_000_000_000).to_string()]);
        command.arg(std::env::current_exe().unwrap());
        command.args(["--exact", "clock::tests::time_in_suspend_counts"]);
        let output = command.env(BEFORE, boottime_ns().to_string()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        if text.contains("Operation not permitted") {
            // Not by `eprintln!`, which the test harness hides while tests pass.
            let _ = writeln!(std::io::stderr(), "skipped: a time namespace needs root");
            return;
        }
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{text}{said}");
    }
}
