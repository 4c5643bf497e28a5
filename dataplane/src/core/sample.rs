//! What others take of a poll core's processor: of every seventeenth round, how long it took and for how long of that the scheduler let the
//! core run. (To ask the scheduler takes a microsecond where system calls are dear, as long as a small round; so not of each.)

use stack::time::Instant;

/// One round of so many is looked at; a prime, as busy rounds and idle ones may alternate.
const SAMPLE_EVERY: u64 = 17;

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
    /// Round `number` begins at `now`; `ran` tells for how long the core has run.
    #[inline]
    pub fn begin(&mut self, number: u64, now: Instant, ran: impl Fn() -> u64) {
        self.end(now, &ran);
        if number.is_multiple_of(SAMPLE_EVERY) {
            self.open = Some((now, ran()));
        }
    }

    /// A round has ended at `now`. As at its beginning, the clock was read before the scheduler is asked: so what asking takes is
    /// in both times.
    #[inline]
    pub fn end(&mut self, now: Instant, ran: impl Fn() -> u64) {
        if let Some((began, ran_before)) = self.open.take() {
            self.ns += now.since(began).0;
            self.cpu_ns += ran() - ran_before;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of rounds that take 10 ns, for 7 of which the core runs, the first and the eighteenth are looked at.
    #[test]
    fn of_every_seventeenth_round_it_is_seen_for_how_long_the_core_ran() {
        let mut sampled = Sampled::default();
        for number in 0..20 {
            sampled.begin(number, Instant(100 * number), || 1_000 * number);
            sampled.end(Instant(100 * number + 10), || 1_000 * number + 7);
        }
        assert_eq!((sampled.ns, sampled.cpu_ns), (20, 14));
    }

    /// One after which the next follows at once ends where that begins.
    #[test]
    fn a_round_without_a_pause_ends_with_the_next() {
        let mut sampled = Sampled::default();
        for (number, at) in [(0, 100), (1, 800), (2, 900)] {
            sampled.begin(number, Instant(at), || at / 2);
        }
        assert_eq!((sampled.ns, sampled.cpu_ns), (700, 350));
    }
}
