//! The clock: CLOCK_MONOTONIC, read without entering the kernel.
//!
//! A core reads it once per poll and once before every kick; everything below gets the value as an
//! argument. All processes of a machine see the same clock; it does not count time in suspend.
//!
//! Units: nanoseconds since the machine started.

use stack::time::Instant;

/// Nanoseconds since the machine started. Never goes back.
#[inline]
pub fn monotonic_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the result and lives across the call.
    let outcome = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    assert_eq!(outcome, 0, "CLOCK_MONOTONIC is always there");
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// The same as the stack's type.
#[inline]
pub fn now() -> Instant {
    Instant(monotonic_ns())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_goes_back() {
        let mut last = now();
        for _ in 0..1000 {
            let next = now();
            assert!(next >= last && next > Instant::ZERO);
            last = next;
        }
    }
}
