//! When the next exchange is due.
//!
//! An open loop has times of its own: the n-th exchange is due at `n / rate`, however long those before take. In a closed
//! loop it is due when a connection is free for it.
//!
//! Units: nanoseconds of one clock.

const SECOND_NS: u64 = 1_000_000_000;

/// The times of one run.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    start_ns: u64,
    end_ns: u64,
    /// Exchanges a second; `None` in a closed loop.
    rate: Option<u32>,
    /// How many have been given out.
    given: u64,
}

impl Schedule {
    /// From `start_ns` until `end_ns`.
    pub fn new(start_ns: u64, end_ns: u64, rate: Option<u32>) -> Schedule {
        Schedule { start_ns, end_ns, rate, given: 0 }
    }

    /// When the next exchange is due, in an open loop; `None` after the last one, and in a closed loop.
    pub fn next_ns(&self) -> Option<u64> {
        let after = u128::from(self.given) * u128::from(SECOND_NS) / u128::from(self.rate?);
        let at = self.start_ns + after as u64;
        (at < self.end_ns).then_some(at)
    }

    /// Gives out an exchange that is due by now: the time from which its latency counts.
    pub fn poll_due(&mut self, now: u64) -> Option<u64> {
        let due = match self.rate {
            Some(_) => self.next_ns()?,
            None => now,
        };
        let is_due = due <= now && now < self.end_ns;
        self.given += u64::from(is_due);
        is_due.then_some(due)
    }

    /// Exchanges that were due before the end, and never given out: each with its time.
    pub fn poll_missed(&mut self) -> Option<u64> {
        let due = self.next_ns()?;
        self.given += 1;
        Some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_loop_keeps_its_times_when_nobody_has_looked() {
        let mut schedule = Schedule::new(1_000, 1_000 + SECOND_NS, Some(4));
        assert_eq!(schedule.poll_due(1_000), Some(1_000));
        assert_eq!(schedule.poll_due(1_001), None);
        // Half a second later two are due, and each knows since when.
        let late = 1_000 + SECOND_NS / 2;
        assert_eq!(schedule.poll_due(late), Some(1_000 + SECOND_NS / 4));
        assert_eq!(schedule.poll_due(late), Some(late));
        assert_eq!(schedule.poll_due(late), None);
        // What was never given out is known at the end.
        assert_eq!(schedule.poll_due(1_000 + SECOND_NS), None);
        assert_eq!(schedule.poll_missed(), Some(1_000 + SECOND_NS / 4 * 3));
        assert_eq!(schedule.poll_missed(), None);
    }

    #[test]
    fn a_closed_loop_is_due_whenever_somebody_asks() {
        let mut schedule = Schedule::new(0, 100, None);
        assert_eq!(schedule.next_ns(), None);
        assert_eq!(schedule.poll_due(7), Some(7));
        assert_eq!(schedule.poll_due(7), Some(7));
        assert_eq!(schedule.poll_due(100), None);
        assert_eq!(schedule.poll_missed(), None);
    }
}
