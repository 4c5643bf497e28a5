//! HyStart++: ends the first slow start when round trips grow, before the queue overflows.
//!
//! Every round (the data that was in flight at its beginning) has a smallest round trip. When that
//! exceeds the last round's by an eighth (4 to 16 ms), growth goes on at a quarter for up to five
//! rounds; if the round trip falls again, it was noise and slow start resumes.
//!
//! Spec: RFC 9406, for the first slow start only, as it recommends.
//! Units: microseconds.

use super::Progress;
use crate::seq::Seq;

/// MIN_RTT_THRESH.
const THRESHOLD_US_MIN: u32 = 4_000;
/// MAX_RTT_THRESH.
const THRESHOLD_US_MAX: u32 = 16_000;
/// MIN_RTT_DIVISOR.
const DIVISOR: u32 = 8;
/// N_RTT_SAMPLE.
const SAMPLES: u8 = 8;
/// CSS_GROWTH_DIVISOR.
const CONSERVATIVE_DIVISOR: u32 = 4;
/// CSS_ROUNDS.
const CONSERVATIVE_ROUNDS: u8 = 5;

const INFINITE: u32 = u32::MAX;

/// State of the first slow start.
#[derive(Clone, Copy, Debug)]
pub(in crate::tcp) struct HyStart {
    /// windowEnd.
    round_end: Seq,
    /// lastRoundMinRTT.
    last_min_us: u32,
    /// currentRoundMinRTT.
    current_min_us: u32,
    /// cssBaselineMinRtt; infinite outside conservative slow start.
    baseline_us: u32,
    /// rttSampleCount, saturating.
    samples: u8,
    /// Rounds begun in conservative slow start.
    rounds: u8,
}

impl HyStart {
    pub const fn new(snd_nxt: Seq) -> HyStart {
        HyStart {
            round_end: snd_nxt,
            last_min_us: INFINITE,
            current_min_us: INFINITE,
            baseline_us: INFINITE,
            samples: 0,
            rounds: 0,
        }
    }

    /// Slow start has ended without a loss.
    pub fn is_over(&self) -> bool {
        self.rounds >= CONSERVATIVE_ROUNDS
    }

    /// What of `bytes` the window grows by.
    pub fn growth(&self, bytes: u32) -> u32 {
        if self.baseline_us == INFINITE { bytes } else { bytes / CONSERVATIVE_DIVISOR }
    }

    pub fn handle_ack(&mut self, progress: &Progress) {
        if let Some(us) = progress.rtt_us {
            self.current_min_us = self.current_min_us.min(us);
            self.samples = self.samples.saturating_add(1);
        }
        self.judge();
        if progress.snd_una.after_eq(self.round_end) {
            self.round_end = progress.snd_nxt;
            self.last_min_us = self.current_min_us;
            self.current_min_us = INFINITE;
            self.samples = 0;
            if self.baseline_us != INFINITE {
                self.rounds += 1;
            }
        }
    }

    fn judge(&mut self) {
        if self.samples < SAMPLES {
            return;
        }
        if self.baseline_us == INFINITE {
            let threshold = (self.last_min_us / DIVISOR).clamp(THRESHOLD_US_MIN, THRESHOLD_US_MAX);
            if self.last_min_us != INFINITE && self.current_min_us >= self.last_min_us + threshold {
                self.baseline_us = self.current_min_us;
                self.rounds = 0;
            }
        } else if self.current_min_us < self.baseline_us {
            self.baseline_us = INFINITE;
            self.rounds = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tcp::in_flight::Tick;

    /// One round of ten acknowledgements with round trip `us`.
    fn round(start: &mut HyStart, round: u32, us: u32) {
        for n in 1..=10 {
            start.handle_ack(&Progress {
                now: Tick(0),
                acked: 1,
                snd_una: Seq(round * 10 + n),
                snd_nxt: Seq(round * 10 + 10 + n),
                rtt_us: Some(us),
                srtt_us: us,
                limited: true,
                after_timeout: false,
            });
        }
    }

    /// RFC 9406 4.2: growing round trips lead to a quarter of the growth, five rounds later to the end.
    #[test]
    fn rfc9406_growing_round_trips_end_slow_start() {
        let mut start = HyStart::new(Seq(10));
        (0..3).for_each(|n| round(&mut start, n, 40_000));
        assert_eq!(start.growth(1_000), 1_000);
        round(&mut start, 3, 46_000);
        assert_eq!(start.growth(1_000), 250);
        (4..9).for_each(|n| round(&mut start, n, 47_000));
        assert!(start.is_over());
    }

    /// RFC 9406 4.2: when the round trip falls below the baseline, it was noise.
    #[test]
    fn rfc9406_noise_is_forgiven() {
        let mut start = HyStart::new(Seq(10));
        (0..3).for_each(|n| round(&mut start, n, 40_000));
        round(&mut start, 3, 46_000);
        round(&mut start, 4, 41_000);
        assert_eq!(start.growth(1_000), 1_000);
        (5..20).for_each(|n| round(&mut start, n, 41_000));
        assert!(!start.is_over());
    }
}
