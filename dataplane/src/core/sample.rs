//! What others take of a poll core's processor: of every sixteenth round, how long it took and for how long of that the scheduler let the
//! core run. (To ask the scheduler takes a microsecond where system calls are dear, as long as a small round; so not of each.)

use crate::clock;
use stack::time::Instant;

/// One round of so many is looked at.
const SAMPLE_EVERY: u64 = 16;

/// What the sampled rounds have taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sampled {
    /// By the clock, nanoseconds.
    pub ns: u64,
    /// For how long of that the core ran.
    pub cpu_ns: u64,
    /// When the sampled round began, and for how long the core had run by then; while one is under way.
    open: Option<(Instant, u64)>,
}

impl Sampled {
    /// Round `number` begins at `now`.
    #[inline]
    pub fn begin(&mut self, number: u64, now: Instant) {
        self.end(now);
        if number.is_multiple_of(SAMPLE_EVERY) {
            self.open = Some((now, clock::thread_cpu_ns()));
        }
    }

    /// A round has ended at `now`. As at its beginning, the clock was read before the scheduler is asked: so what asking takes is
    /// in both times.
    #[inline]
    pub fn end(&mut self, now: Instant) {
        if let Some((began, cpu_ns)) = self.open.take() {
            self.ns += now.since(began).0;
            self.cpu_ns += clock::thread_cpu_ns() - cpu_ns;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;
    use std::time::Duration;

    /// Of a round in which the thread sleeps the scheduler gives it little, and rounds that are not sampled change nothing.
    #[test]
    fn what_the_scheduler_gave_to_others_is_not_the_cores() {
        let mut sampled = Sampled::default();
        for number in [0, 1, 15, 16] {
            sampled.begin(number, clock::now());
            thread::sleep(Duration::from_millis(5));
            sampled.end(clock::now());
            let rounds = if number < 16 { 1 } else { 2 };
            assert!(sampled.ns >= rounds * 5_000_000, "it slept");
            assert!(2 * sampled.cpu_ns < sampled.ns, "{sampled:?}");
        }
        let before = sampled;
        sampled.begin(17, clock::now());
        sampled.end(clock::now());
        assert_eq!(sampled, before);
    }

    /// One after which the next follows at once ends where that begins.
    #[test]
    fn a_round_without_a_pause_ends_with_the_next() {
        let mut sampled = Sampled::default();
        let began = clock::now();
        sampled.begin(0, began);
        sampled.begin(1, began + stack::time::Duration(700));
        sampled.begin(2, began + stack::time::Duration(900));
        assert_eq!(sampled.ns, 700);
    }
}
