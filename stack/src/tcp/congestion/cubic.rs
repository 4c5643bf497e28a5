//! CUBIC congestion avoidance in integers.
//!
//! The window follows a cubic of the time since the avoidance began, flat where the last loss was:
//! `W_cubic(t) = C (t - K)^3 + W_max`, never below what Reno would have. Time that the application did
//! not use does not count.
//!
//! ```text
//! W_max --------------------_____.------
//!                     ,--''      |     `  convex: probing
//!                  ,-'           |
//! cwnd at start  -'  concave     K (seconds after the start)
//! ```
//!
//! Spec: RFC 9438 (C = 0.4, beta = 0.7, fast convergence, Reno-friendly region).
//! Bounds: times beyond `TIME_MS_MAX` count as that; the cube root takes 21 steps.
//! Units: bytes; milliseconds.

use crate::tcp::in_flight::Tick;

/// beta_cubic = 7 / 10.
const BETA: (u64, u64) = (7, 10);

/// alpha_cubic = 3 (1 - beta) / (1 + beta) = 9 / 17.
const ALPHA: (u64, u64) = (9, 17);

/// Distance from K at most: there the cubic is millions of segments away from W_max.
const TIME_MS_MAX: u64 = 1 << 18;

/// State of congestion avoidance.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::tcp) struct Cubic {
    /// W_max.
    w_max: u32,
    /// cwnd_prior: the window at the last loss.
    cwnd_prior: u32,
    /// W_est: what Reno would have; 0 while no avoidance has begun since the last loss.
    w_est: u32,
    /// Bytes acknowledged since W_est last grew.
    acked: u32,
    /// K.
    k_ms: u32,
    /// t: time in avoidance.
    elapsed_ms: u32,
    /// Until when `elapsed_ms` has been counted.
    counted: Tick,
}

impl Cubic {
    /// `cwnd`: the window at which slow start ended.
    pub fn new(cwnd: u32) -> Cubic {
        Cubic { w_max: cwnd, cwnd_prior: cwnd, ..Cubic::default() }
    }

    /// Lets time go on; it counts while the window is in full use.
    pub fn advance(&mut self, now: Tick, limited: bool) {
        let passed_ms = now.since(self.counted) / 1_000;
        if !limited || self.w_est == 0 {
            self.counted = now;
        } else {
            self.counted = Tick(self.counted.0.wrapping_add(passed_ms * 1_000));
            self.elapsed_ms = self.elapsed_ms.saturating_add(passed_ms);
        }
    }

    /// The window after `acked` more bytes (RFC 9438 4.2 to 4.5).
    pub fn grow(&mut self, cwnd: u32, mss: u32, acked: u32, srtt_us: u32) -> u32 {
        if self.w_est == 0 {
            self.begin(cwnd, mss);
        }
        self.grow_estimate(cwnd, mss, acked);
        if self.window(self.elapsed_ms, mss) < self.w_est {
            return cwnd.max(self.w_est);
        }
        let ahead_ms = self.elapsed_ms.saturating_add(srtt_us / 1_000);
        let target = self.window(ahead_ms, mss).clamp(cwnd, cwnd.saturating_add(cwnd / 2));
        let step = (target - cwnd) as u64 * acked as u64 / cwnd as u64;
        cwnd + step.min((target - cwnd) as u64) as u32
    }

    /// A loss: returns the new threshold (RFC 9438 4.6, 4.7).
    pub fn reduce(&mut self, cwnd: u32, flight: u32) -> u32 {
        self.w_max = if cwnd < self.w_max {
            // Fast convergence: somebody else has come; make room.
            (cwnd as u64 * (BETA.0 + BETA.1) / (2 * BETA.1)) as u32
        } else {
            cwnd
        };
        self.cwnd_prior = cwnd;
        self.w_est = 0;
        (flight as u64 * BETA.0 / BETA.1) as u32
    }

    /// The last loss was none: the next avoidance begins where the window was (RFC 9438 4.9.2).
    pub fn undo(&mut self) {
        self.w_max = self.w_max.max(self.cwnd_prior);
        self.w_est = 0;
    }

    /// A time-out: the next avoidance begins with K = 0 (RFC 9438 4.8).
    pub fn forget(&mut self) {
        self.w_max = 0;
        self.w_est = 0;
    }

    fn begin(&mut self, cwnd: u32, mss: u32) {
        self.w_est = cwnd;
        self.acked = 0;
        self.elapsed_ms = 0;
        if cwnd >= self.w_max {
            self.w_max = cwnd;
            self.k_ms = 0;
        } else {
            // K = cbrt((W_max - cwnd) / C), in segments and seconds; 1 / C = 5 / 2.
            let missing = (self.w_max - cwnd) as u64;
            self.k_ms = cube_root(missing * 2_500_000_000 / mss as u64);
        }
    }

    /// RFC 9438 4.3: alpha segments per window; one segment once the old window is reached.
    fn grow_estimate(&mut self, cwnd: u32, mss: u32, acked: u32) {
        self.acked = self.acked.saturating_add(acked);
        let cost = if self.w_est >= self.cwnd_prior {
            cwnd as u64
        } else {
            cwnd as u64 * ALPHA.1 / ALPHA.0
        };
        if self.acked as u64 >= cost {
            self.acked = (self.acked as u64 - cost).min(cost) as u32;
            self.w_est = self.w_est.saturating_add(mss);
        }
    }

    /// W_cubic(t).
    fn window(&self, at_ms: u32, mss: u32) -> u32 {
        let distance = (at_ms.abs_diff(self.k_ms) as u64).min(TIME_MS_MAX);
        let cube = distance * distance * distance;
        // 0.4 mss d^3 / 10^9, dividing first where the product would not fit.
        let bytes = if distance < 1 << 14 {
            cube * (4 * mss as u64) / 10_000_000_000
        } else {
            cube / 10_000 * (4 * mss as u64) / 1_000_000
        };
        let bytes = bytes.min(super::CWND_MAX as u64) as u32;
        if at_ms < self.k_ms {
            self.w_max.saturating_sub(bytes)
        } else {
            self.w_max.saturating_add(bytes)
        }
    }
}

/// The largest integer whose cube is at most `n`, bit by bit.
fn cube_root(n: u64) -> u32 {
    let mut root = 0u64;
    for bit in (0..21).rev() {
        let candidate = root | 1 << bit;
        if candidate * candidate * candidate <= n {
            root = candidate;
        }
    }
    root as u32
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;

    const MSS: u32 = 1_448;

    #[test]
    fn cube_roots() {
        for n in [0, 1, 7, 8, 26, 27, 999, 1_000, u32::MAX as u64, 9_000_000_000_000_000_000] {
            let root = cube_root(n) as u64;
            assert!(root.pow(3) <= n && ((root + 1).pow(3) > n || root == (1 << 21) - 1), "{n}");
        }
    }

    /// One acknowledgement per segment, round after round; `check` sees seconds and segments.
    fn curve(cubic: &mut Cubic, mut cwnd: u32, rtt_ms: u32, rounds: u32, check: impl Fn(f64, f64)) {
        let mut now_us = 0u64;
        cubic.advance(Tick(0), true);
        for _ in 0..rounds {
            let acks = cwnd / MSS;
            let window = cwnd;
            for n in 0..acks {
                let at = now_us + rtt_ms as u64 * 1_000 * n as u64 / acks as u64;
                cubic.advance(Tick(at as u32), true);
                cwnd = cubic.grow(cwnd, MSS, window / acks, rtt_ms * 1_000);
            }
            now_us += rtt_ms as u64 * 1_000;
            check(now_us as f64 / 1e6, cwnd as f64 / MSS as f64);
        }
    }

    /// RFC 9438 4.2: within 2 % of W_cubic, concave and convex.
    #[test]
    fn rfc9438_window_follows_the_cubic() {
        let before = 1_000 * MSS;
        let mut cubic = Cubic::new(before);
        let threshold = cubic.reduce(before, before);
        assert_eq!(threshold, 700 * MSS);
        let k = (300.0f64 / 0.4).cbrt();
        curve(&mut cubic, threshold, 100, 200, |t, window| {
            let expected = 0.4 * (t - k).powi(3) + 1_000.0;
            let error = (window - expected).abs() / expected;
            // The window is what the cubic will be a round trip later, for a round trip.
            assert!(error < 0.02, "at {t} s: {window} for {expected}");
        });
    }

    /// RFC 9438 4.3: on a short path it grows as Reno would.
    #[test]
    fn rfc9438_reno_friendly_region() {
        let before = 20 * MSS;
        let mut cubic = Cubic::new(before);
        let threshold = cubic.reduce(before, before);
        curve(&mut cubic, threshold, 1, 40, |t, window| {
            let reno = (14.0 + t * 1_000.0 * 9.0 / 17.0).min(24.0);
            assert!(window >= reno * 0.85, "at {t} s: {window} for {reno}");
        });
    }

    /// RFC 9438 4.7: a window below the last maximum gives way.
    #[test]
    fn rfc9438_fast_convergence() {
        let mut cubic = Cubic::new(1_000_000);
        cubic.reduce(1_000_000, 1_000_000);
        assert_eq!(cubic.w_max, 1_000_000);
        cubic.reduce(800_000, 800_000);
        assert_eq!((cubic.w_max, cubic.cwnd_prior), (680_000, 800_000));
    }

    /// RFC 9438 4.8: after a time-out K is 0 and W_max the window at which avoidance begins.
    #[test]
    fn rfc9438_after_a_timeout() {
        let mut cubic = Cubic::new(1_000_000);
        cubic.reduce(1_000_000, 1_000_000);
        cubic.forget();
        cubic.grow(700_000, MSS, MSS, 10_000);
        assert_eq!((cubic.k_ms, cubic.w_max), (0, 700_000));
    }

    /// RFC 9438 4.2: idle time is not time on the curve.
    #[test]
    fn rfc9438_unused_time_does_not_count() {
        let mut cubic = Cubic::new(1_000_000);
        cubic.reduce(1_000_000, 1_000_000);
        cubic.advance(Tick(0), true);
        cubic.grow(700_000, MSS, MSS, 10_000);
        cubic.advance(Tick(5_000_000), false);
        cubic.advance(Tick(5_010_000), true);
        assert_eq!(cubic.elapsed_ms, 10);
    }

    #[test]
    fn extremes_do_not_overflow() {
        for (cwnd, mss, acked) in [(1, 1, 1), (1 << 30, 65_535, u32::MAX), (1 << 30, 1, 1 << 30)] {
            let mut cubic = Cubic::new(1 << 30);
            cubic.reduce(1 << 30, 1 << 30);
            for n in 0..50u32 {
                cubic.advance(Tick(n.wrapping_mul(400_000_000)), true);
                assert!(cubic.grow(cwnd, mss, acked, u32::MAX) >= cwnd);
            }
        }
    }
}
