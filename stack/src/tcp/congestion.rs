//! Congestion control: how much may be in the network.
//!
//! One value per flow: `cwnd`, `ssthresh`, and what the phase in which the flow is needs besides. The
//! first slow start is watched by HyStart++; a later one runs to `ssthresh`. What happens during a
//! recovery is the business of `prr`; here is what comes before and after.
//!
//! ```text
//! slow start (HyStart++) --round trips grow--> conservative slow start --5 rounds--> avoidance
//!        |                                             |                                |
//!        +----------------------- loss: ssthresh, recovery, avoidance ------------------+
//!                                 time-out: one segment, slow start up to ssthresh
//! ```
//!
//! A window that was not used says nothing about the path: it does not grow while the application or
//! the client's window is the limit, and an idle time halves it for every time-out that it lasted, as
//! RFC 2861 has it (RFC 5681 4.1 would restart at once from the initial window; RFC 7661 would keep it
//! longer). `ssthresh` remembers three quarters of it.
//!
//! Spec: RFC 5681, 3465 (L = 8 with HyStart++, 1 after a time-out), 6928, 9406, 9438. Left out: ECN.
//! Bounds: `CWND_MAX`.
//! Units: bytes; microseconds.

mod cubic;
mod hystart;
mod reno;

use crate::seq::Seq;
use crate::tcp::in_flight::Tick;
use cubic::Cubic;
use hystart::HyStart;
use reno::Reno;

/// The largest window: what window scaling can advertise.
pub const CWND_MAX: u32 = 1 << 30;

/// Segments by which slow start grows per acknowledgement at most (RFC 9406 4.2).
const BURST_SEGMENTS: u32 = 8;

/// Which congestion control a flow uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Algorithm {
    /// RFC 9438.
    #[default]
    Cubic,
    /// RFC 5681.
    Reno,
}

/// The initial window (RFC 6928 2).
pub const fn initial_window(mss: u16) -> u32 {
    let mss = mss as u32;
    let bound = if 2 * mss > 14_600 { 2 * mss } else { 14_600 };
    if 10 * mss < bound { 10 * mss } else { bound }
}

/// What a phase needs.
#[derive(Clone, Copy, Debug)]
enum Phase {
    /// Never a loss so far; what comes afterwards.
    First(HyStart, Algorithm),
    Cubic(Cubic),
    Reno(Reno),
}

/// An acknowledgement as congestion control sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Progress {
    pub now: Tick,
    /// Bytes by which `snd_una` moved.
    pub acked: u32,
    pub snd_una: Seq,
    pub snd_nxt: Seq,
    /// A clean sample of the round trip.
    pub rtt_us: Option<u32>,
    pub srtt_us: u32,
    /// The window was in full use.
    pub limited: bool,
    /// In the recovery after a time-out.
    pub after_timeout: bool,
}

/// Window and threshold of one flow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Congestion {
    pub cwnd: u32,
    pub ssthresh: u32,
    phase: Phase,
}

impl Default for Congestion {
    fn default() -> Congestion {
        Congestion::new(Algorithm::default(), 536, Seq(0))
    }
}

impl Congestion {
    pub const fn new(algorithm: Algorithm, mss: u16, snd_nxt: Seq) -> Congestion {
        Congestion {
            cwnd: initial_window(mss),
            ssthresh: u32::MAX,
            phase: Phase::First(HyStart::new(snd_nxt), algorithm),
        }
    }

    /// Slow start from half of a window known to have been right, up to the whole. The path is empty:
    /// no acknowledgement would pace more.
    pub fn resume(&mut self, cwnd: u32) {
        if cwnd > 0 {
            let cwnd = cwnd.min(CWND_MAX);
            self.ssthresh = cwnd.max(self.cwnd);
            self.cwnd = self.cwnd.max(cwnd / 2);
            self.leave_first(0);
        }
    }

    /// As new, for what the handshake has negotiated; a lost SYN costs the initial window (RFC 6928 2).
    pub fn renew(&self, mss: u16, snd_nxt: Seq, syn_resent: bool) -> Congestion {
        let mut fresh = Congestion::new(self.algorithm(), mss, snd_nxt);
        if syn_resent {
            fresh.cwnd = mss as u32;
        }
        fresh
    }

    fn algorithm(&self) -> Algorithm {
        match self.phase {
            Phase::First(_, algorithm) => algorithm,
            Phase::Cubic(_) => Algorithm::Cubic,
            Phase::Reno(_) => Algorithm::Reno,
        }
    }

    pub fn in_slow_start(&self) -> bool {
        self.cwnd < self.ssthresh
    }

    /// New data was acknowledged, outside fast recovery.
    pub fn handle_ack(&mut self, mss: u32, progress: &Progress) {
        if let Phase::First(start, _) = &mut self.phase {
            start.handle_ack(progress);
            if start.is_over() {
                self.ssthresh = self.cwnd;
                self.leave_first(0);
            }
        }
        if let Phase::Cubic(cubic) = &mut self.phase {
            cubic.advance(progress.now, progress.limited);
        }
        if !progress.limited {
            return;
        }
        let mut acked = progress.acked;
        if self.in_slow_start() {
            acked = self.slow_start(mss, acked, progress.after_timeout);
        }
        if acked > 0 && !self.in_slow_start() {
            self.cwnd = match &mut self.phase {
                Phase::First(..) => self.cwnd,
                Phase::Reno(reno) => reno.grow(self.cwnd, mss, acked),
                Phase::Cubic(cubic) => cubic.grow(self.cwnd, mss, acked, progress.srtt_us),
            };
        }
        self.cwnd = self.cwnd.min(CWND_MAX);
    }

    /// Returns the bytes beyond `ssthresh`, which count for avoidance.
    fn slow_start(&mut self, mss: u32, acked: u32, after_timeout: bool) -> u32 {
        let burst = if after_timeout { mss } else { BURST_SEGMENTS * mss };
        let mut growth = acked.min(burst);
        if let Phase::First(start, _) = &self.phase {
            growth = start.growth(growth);
        }
        let used = growth.min(self.ssthresh - self.cwnd);
        self.cwnd += used;
        growth - used
    }

    /// Segments become smaller: the window holds as many of them as before (RFC 5681 3.1).
    pub fn handle_mss(&mut self, before: u32, after: u32) {
        if after < before {
            let scaled = self.cwnd as u64 * after as u64 / before as u64;
            self.cwnd = (scaled as u32).max(after);
        }
    }

    /// A loss was found: `ssthresh` comes down; the window follows by `prr`. `flight`: bytes outstanding.
    pub fn handle_loss(&mut self, mss: u32, flight: u32) {
        self.leave_first(self.cwnd);
        let flight = flight.min(self.cwnd);
        self.ssthresh = match &mut self.phase {
            Phase::Cubic(cubic) => cubic.reduce(self.cwnd, flight),
            _ => flight / 2,
        }
        .max(2 * mss);
    }

    /// The last reduction was needless: `before` are window and threshold at that time. What `pipe` leaves of the
    /// window is not sent at once (RFC 3708 3 asks for slow start).
    pub fn undo(&mut self, mss: u32, before: (u32, u32), pipe: u32, snd_nxt: Seq) {
        let (cwnd, ssthresh) = before;
        if ssthresh == u32::MAX {
            // There was no loss yet.
            self.ssthresh = u32::MAX;
            self.phase = Phase::First(HyStart::new(snd_nxt), self.algorithm());
        } else {
            self.ssthresh = self.ssthresh.max(ssthresh).max(cwnd);
        }
        if let Phase::Cubic(cubic) = &mut self.phase {
            cubic.undo();
        }
        self.cwnd = self.cwnd.max(cwnd.min(pipe.saturating_add(BURST_SEGMENTS * mss)));
    }

    /// A retransmission time-out: one segment. `first`: of this loss (RFC 5681 3.1).
    pub fn handle_timeout(&mut self, mss: u32, flight: u32, first: bool) {
        if first {
            self.handle_loss(mss, flight);
        }
        if let Phase::Cubic(cubic) = &mut self.phase {
            cubic.forget();
        }
        self.cwnd = mss;
    }

    /// The window after `idle_us` without anything in flight (RFC 2861).
    pub fn idle_window(&self, mss: u16, idle_us: u32, rto_us: u32) -> u32 {
        let floor = initial_window(mss).min(self.cwnd);
        let halvings = (idle_us / rto_us.max(1)).min(31);
        (self.cwnd >> halvings).max(floor)
    }

    /// Sending resumes after an idle time, with the window that `idle_window` gave.
    pub fn handle_idle(&mut self, now: Tick, window: u32) {
        if let Phase::Cubic(cubic) = &mut self.phase {
            cubic.advance(now, false);
        }
        if window < self.cwnd {
            if self.ssthresh != u32::MAX {
                self.ssthresh = self.ssthresh.max(self.cwnd / 4 * 3);
            }
            self.cwnd = window;
        }
    }

    fn leave_first(&mut self, cwnd: u32) {
        if let Phase::First(_, algorithm) = self.phase {
            self.phase = match algorithm {
                Algorithm::Cubic => Phase::Cubic(Cubic::new(cwnd)),
                Algorithm::Reno => Phase::Reno(Reno::default()),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(acked: u32) -> Progress {
        Progress {
            now: Tick(0),
            acked,
            snd_una: Seq(0),
            snd_nxt: Seq(1),
            rtt_us: None,
            srtt_us: 50_000,
            limited: true,
            after_timeout: false,
        }
    }

    /// RFC 6928 2.
    #[test]
    fn rfc6928_initial_window() {
        assert_eq!(initial_window(1_460), 14_600);
        assert_eq!(initial_window(536), 5_360);
        assert_eq!(initial_window(8_960), 17_920);
    }

    /// RFC 5681 3.1 and RFC 3465 2.2: slow start grows by what was acknowledged, at most L segments.
    #[test]
    fn rfc5681_slow_start() {
        let mut congestion = Congestion::new(Algorithm::Reno, 1_000, Seq(0));
        congestion.handle_ack(1_000, &progress(2_000));
        assert_eq!(congestion.cwnd, 12_000);
        congestion.handle_ack(1_000, &progress(90_000));
        assert_eq!(congestion.cwnd, 20_000);
        // RFC 3465 2.3: no more than one segment after a time-out.
        congestion.ssthresh = 100_000;
        congestion.handle_ack(1_000, &Progress { after_timeout: true, ..progress(5_000) });
        assert_eq!(congestion.cwnd, 21_000);
    }

    /// RFC 5681 3.1 equation 4, and the lower bound of two segments.
    #[test]
    fn rfc5681_loss_and_timeout() {
        let mut congestion = Congestion::new(Algorithm::Reno, 1_000, Seq(0));
        congestion.handle_loss(1_000, 8_000);
        assert_eq!(congestion.ssthresh, 4_000);
        congestion.handle_timeout(1_000, 1_000, true);
        assert_eq!((congestion.cwnd, congestion.ssthresh), (1_000, 2_000));
        congestion.ssthresh = 5_000;
        congestion.handle_timeout(1_000, 1_000, false);
        assert_eq!(congestion.ssthresh, 5_000, "held constant while the same segment times out");
    }

    /// RFC 2861, RFC 7661: unused window neither grows nor lasts.
    #[test]
    fn rfc2861_unused_window() {
        let mut congestion = Congestion::new(Algorithm::Cubic, 1_000, Seq(0));
        congestion.handle_ack(1_000, &Progress { limited: false, ..progress(5_000) });
        assert_eq!(congestion.cwnd, 10_000);
        congestion.cwnd = 80_000;
        assert_eq!(congestion.idle_window(1_000, 100, 200), 80_000);
        assert_eq!(congestion.idle_window(1_000, 450, 200), 20_000);
        assert_eq!(congestion.idle_window(1_000, 4_000_000, 200), 10_000);
    }

    #[test]
    fn resuming_starts_at_half_of_the_hint() {
        let mut congestion = Congestion::new(Algorithm::Cubic, 1_000, Seq(0));
        congestion.resume(100_000);
        assert_eq!((congestion.cwnd, congestion.ssthresh), (50_000, 100_000));
        let mut congestion = Congestion::new(Algorithm::Cubic, 1_000, Seq(0));
        congestion.resume(3_000);
        assert_eq!((congestion.cwnd, congestion.ssthresh), (10_000, 10_000));
    }
}
