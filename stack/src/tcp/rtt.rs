//! Round-trip time and the retransmission time-out.
//!
//! The variance term of the time-out has a floor of `rto_min` instead of the whole: on a path of steady
//! 300 ms the variance decays to nothing, and a time-out of 301 ms would fire at the first delayed
//! acknowledgement. A sample is taken at every acknowledgement; the floor also makes up for the faster
//! decay that this brings (RFC 7323 appendix G).
//!
//! Spec: RFC 6298 with a minimum of 200 ms instead of 1 s, as all current stacks have it; RFC 8985 6.2
//! step 1 (minimum over a window).
//! Bounds: back-off 2^`BACKOFF_MAX`, then `rto_max`.
//! Units: microseconds, in `u32`.

use crate::time::{Duration, Instant};

/// Doublings of the time-out at most; `rto_max` takes effect long before.
const BACKOFF_MAX: u8 = 16;

/// Seconds for which a minimum is believed: routes change.
const MIN_WINDOW_SECS: u16 = 300;

/// RFC 6298 2.1.
const RTO_INITIAL_US: u32 = 1_000_000;

/// RFC 6298 5.7: after a time-out of the SYN.
const RTO_AFTER_SYN_LOSS_US: u32 = 3_000_000;

/// A sample is at most this: what a client echoes is not trusted beyond.
const SAMPLE_US_MAX: u32 = 120_000_000;

/// Estimates of one flow.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rtt {
    /// Smoothed, times 8; 0 before the first sample.
    srtt_8us: u32,
    /// Mean deviation, times 4.
    rttvar_4us: u32,
    /// Smallest in the window; 0 before the first sample.
    min_us: u32,
    /// When `min_us` was taken, in seconds modulo 2^16.
    min_at_secs: u16,
    rto_min_ms: u16,
    rto_max_secs: u8,
    /// Doublings of the time-out since the last sample.
    backoff: u8,
    /// Consecutive time-outs without progress, saturating.
    timeouts: u8,
    /// The SYN had to be sent again.
    syn_lost: bool,
}

impl Rtt {
    pub const EMPTY: Rtt = Rtt {
        srtt_8us: 0,
        rttvar_4us: 0,
        min_us: 0,
        min_at_secs: 0,
        rto_min_ms: 0,
        rto_max_secs: 0,
        backoff: 0,
        timeouts: 0,
        syn_lost: false,
    };

    pub fn new(rto_min: Duration, rto_max: Duration) -> Rtt {
        Rtt {
            rto_min_ms: rto_min.millis().clamp(1, 60_000) as u16,
            rto_max_secs: (rto_max.millis() / 1_000).clamp(1, 255) as u8,
            ..Rtt::default()
        }
    }

    /// A smoothed time that somebody else measured; no back-off, no minimum.
    pub fn seed(&mut self, srtt_us: u32) {
        if srtt_us > 0 {
            self.first(srtt_us.min(SAMPLE_US_MAX));
        }
    }

    pub fn srtt_us(&self) -> Option<u32> {
        (self.srtt_8us > 0).then_some((self.srtt_8us / 8).max(1))
    }

    pub fn rttvar_us(&self) -> u32 {
        self.rttvar_4us / 4
    }

    pub fn min_us(&self) -> Option<u32> {
        (self.min_us > 0).then_some(self.min_us)
    }

    /// The time-out, back-off included.
    pub fn rto_us(&self) -> u32 {
        let base = if self.srtt_8us > 0 {
            self.srtt_8us / 8 + self.rttvar_4us.max(self.rto_min_ms as u32 * 1_000)
        } else if self.syn_lost {
            RTO_AFTER_SYN_LOSS_US
        } else {
            RTO_INITIAL_US
        };
        let backed_off = (base as u64) << self.backoff;
        backed_off.min(self.rto_max_secs as u64 * 1_000_000) as u32
    }

    /// Consecutive time-outs without progress.
    pub fn timeouts(&self) -> u8 {
        self.timeouts
    }

    /// The time-out has passed: returns how often in a row.
    pub fn handle_timeout(&mut self) -> u8 {
        self.timeouts = self.timeouts.saturating_add(1);
        self.timeouts
    }

    /// Something was acknowledged. The back-off stays until there is a sample (Karn's algorithm).
    pub fn handle_progress(&mut self) {
        self.timeouts = 0;
    }

    /// RFC 6298 5.5.
    pub fn back_off(&mut self) {
        self.backoff = (self.backoff + 1).min(BACKOFF_MAX);
    }

    /// RFC 6298 5.7.
    pub fn handle_syn_loss(&mut self) {
        self.backoff = 0;
        self.syn_lost = true;
    }

    /// A sample that Karn's rule allows; it also ends the back-off.
    pub fn sample(&mut self, us: u32) {
        let us = us.clamp(1, SAMPLE_US_MAX);
        self.backoff = 0;
        if self.srtt_8us == 0 {
            self.first(us);
            return;
        }
        // RFC 6298 2.3: rttvar first, with the old srtt.
        let deviation = us.abs_diff(self.srtt_8us / 8);
        self.rttvar_4us = self.rttvar_4us - self.rttvar_4us / 4 + deviation;
        self.srtt_8us = self.srtt_8us - self.srtt_8us / 8 + us;
    }

    /// A sample for the minimum alone: the newest segment, without the client's delay.
    pub fn sample_min(&mut self, now: Instant, us: u32) {
        let us = us.clamp(1, SAMPLE_US_MAX);
        let secs = (now.millis() / 1_000) as u16;
        let aged = secs.wrapping_sub(self.min_at_secs) > MIN_WINDOW_SECS;
        if self.min_us == 0 || us <= self.min_us || aged {
            self.min_us = us;
            self.min_at_secs = secs;
        }
    }

    /// RFC 6298 2.2.
    fn first(&mut self, us: u32) {
        self.srtt_8us = us * 8;
        self.rttvar_4us = us * 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rtt() -> Rtt {
        Rtt::new(Duration::from_millis(200), Duration::from_secs(60))
    }

    /// RFC 6298 2.1 to 2.3.
    #[test]
    fn rfc6298_first_and_later_samples() {
        let mut rtt = rtt();
        assert_eq!((rtt.rto_us(), rtt.srtt_us()), (1_000_000, None));
        rtt.sample(400_000);
        assert_eq!((rtt.srtt_us(), rtt.rttvar_us()), (Some(400_000), 200_000));
        assert_eq!(rtt.rto_us(), 400_000 + 800_000);
        rtt.sample(600_000);
        // rttvar = 3/4 * 200 + 1/4 * 200 = 200; srtt = 7/8 * 400 + 1/8 * 600 = 425.
        assert_eq!((rtt.srtt_us(), rtt.rttvar_us()), (Some(425_000), 200_000));
        assert_eq!(rtt.rto_us(), 1_225_000);
    }

    /// RFC 6298 2.4: a floor under the variance, so that a steady path does not time out by itself.
    #[test]
    fn rfc6298_steady_path_keeps_the_floor() {
        let mut rtt = rtt();
        (0..1_000).for_each(|_| rtt.sample(300_000));
        assert_eq!(rtt.srtt_us(), Some(300_000));
        assert_eq!(rtt.rto_us(), 500_000);
        (0..1_000).for_each(|_| rtt.sample(20));
        assert_eq!(rtt.srtt_us(), Some(20));
    }

    /// RFC 6298 5.5 and 2.5: doubles up to the bound; a sample ends it.
    #[test]
    fn rfc6298_back_off() {
        let mut rtt = rtt();
        rtt.sample(100_000);
        let base = rtt.rto_us();
        rtt.back_off();
        assert_eq!(rtt.rto_us(), 2 * base);
        (0..100).for_each(|_| rtt.back_off());
        assert_eq!(rtt.rto_us(), 60_000_000);
        rtt.sample(100_000);
        assert!(rtt.rto_us() <= base);
    }

    /// RFC 6298 5.7.
    #[test]
    fn rfc6298_three_seconds_after_syn_loss() {
        let mut rtt = rtt();
        rtt.back_off();
        rtt.handle_syn_loss();
        assert_eq!(rtt.rto_us(), 3_000_000);
    }

    #[test]
    fn the_minimum_ages() {
        let mut rtt = rtt();
        let at = |secs: u64| Instant(secs * 1_000_000_000);
        rtt.sample_min(at(1), 500);
        rtt.sample_min(at(200), 900);
        assert_eq!(rtt.min_us(), Some(500));
        rtt.sample_min(at(302), 900);
        assert_eq!(rtt.min_us(), Some(900));
    }

    #[test]
    fn extreme_samples_do_not_overflow() {
        let mut rtt = rtt();
        for n in 0..10_000u32 {
            rtt.sample(if n % 3 == 0 { u32::MAX } else { 0 });
            assert!(rtt.rto_us() <= 60_000_000);
        }
    }
}
