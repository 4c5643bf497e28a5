//! RACK: a segment is lost when one that was sent sufficiently later has been delivered.
//!
//! What counts is the order of transmission, not of sequence numbers, so that a lost retransmission is
//! found as well, and a tail shorter than three segments. "Sufficiently" is the reordering window: zero
//! until reordering has been seen (then three selectively acknowledged segments still mean loss at
//! once), else steps of a quarter of the minimum round trip, a step more for every round with a
//! DSACK, until sixteen recoveries went by without one.
//!
//! ```text
//! network queue   [sent 1] [sent 4] [sent 5] | [sent 9] [sent 10]
//!                 lost if overdue ->         ^ newest delivered was sent at 8: the walk ends here
//! ```
//!
//! Spec: RFC 8985 6. Deviation: the walk ends at the first segment that is not overdue, and the timer
//! is set for the newest delivered one, whose deadline no waiting segment's exceeds.
//! Bounds: the walk touches one segment more than it finds lost.
//! Units: microseconds.

use crate::seq::Seq;
use crate::tcp::in_flight::{InFlight, InFlightPool, Segment, Tick};
use crate::tcp::rtt::Rtt;

/// Duplicate acknowledgements, or segments acknowledged selectively, that mean a loss (RFC 5681 3.2).
pub(super) const DUP_THRESH: u16 = 3;

/// Recoveries without a DSACK after which the window is one step again (RFC 8985 6.2 step 4).
const PERSIST_RECOVERIES: u8 = 16;

/// Steps of the window at most; it is bounded by srtt besides.
const MULTIPLIER_MAX: u8 = 64;

/// By how much a round trip from a timestamp may be too long: one tick of the slowest clock we offer.
pub(super) const TIMESTAMP_TICK_US: u32 = 1_000;

/// RACK's variables of one flow.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rack {
    /// RACK.xmit_ts: transmission of the newest segment delivered.
    sent: Tick,
    /// RACK.end_seq of that segment.
    end: Seq,
    /// RACK.rtt: its round trip; 0 before anything was delivered.
    rtt_us: u32,
    /// RACK.fack: the highest sequence number delivered.
    fack: Seq,
    /// RACK.dsack_round: the window grows no more before this is acknowledged.
    dsack_round: Seq,
    in_dsack_round: bool,
    reordering: Reordering,
}

/// What a path has shown of reordering.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reordering {
    /// RACK.reordering_seen.
    seen: bool,
    /// RACK.reo_wnd_mult, at least 1.
    multiplier: u8,
    /// RACK.reo_wnd_persist.
    persist: u8,
}

impl Rack {
    pub const fn new(snd_una: Seq) -> Rack {
        let reordering = Reordering { seen: false, multiplier: 1, persist: 0 };
        Rack::resume(snd_una, reordering)
    }

    /// With nothing in flight, knowing about reordering.
    pub const fn resume(snd_una: Seq, reordering: Reordering) -> Rack {
        Rack {
            sent: Tick(0),
            end: Seq(0),
            rtt_us: 0,
            fack: snd_una,
            dsack_round: Seq(0),
            in_dsack_round: false,
            reordering,
        }
    }

    #[cfg(test)]
    pub fn has_seen_reordering(&self) -> bool {
        self.reordering.seen
    }

    /// What is known about reordering.
    pub fn reordering(&self) -> Reordering {
        self.reordering
    }

    /// What was sent again had arrived: the path reorders, though step 3 cannot see it.
    pub fn note_reordering(&mut self) {
        self.reordering.seen = true;
    }

    /// Steps 2 and 3. `echo_us`: round trip by the echoed timestamp, if the echo is this segment's,
    /// which it can be only for what is acknowledged cumulatively.
    pub fn handle_delivered(
        &mut self,
        now: Tick,
        segment: &Segment,
        rtt: &Rtt,
        echo_us: Option<u32>,
    ) {
        let end = segment.end();
        if end.after(self.fack) {
            self.fack = end;
        } else if !segment.resent {
            self.reordering.seen = true;
        }
        let rtt_us = now.since(segment.sent);
        if segment.resent {
            // Was it an earlier transmission that arrived?
            let by_echo =
                echo_us.is_some_and(|echo| echo > rtt_us.saturating_add(TIMESTAMP_TICK_US));
            if by_echo || rtt.min_us().is_some_and(|min| rtt_us < min) {
                return;
            }
        }
        if self.rtt_us == 0 || sent_after(segment.sent, end, self.sent, self.end) {
            self.sent = segment.sent;
            self.end = end;
            self.rtt_us = rtt_us.max(1);
        }
    }

    /// Step 4, what an acknowledgement says: `snd_una` and `snd_nxt` now, and whether it had a DSACK.
    pub fn handle_round(&mut self, snd_una: Seq, snd_nxt: Seq, dsack: bool) {
        if self.in_dsack_round && snd_una.after_eq(self.dsack_round) {
            self.in_dsack_round = false;
        }
        if dsack && !self.in_dsack_round {
            self.in_dsack_round = true;
            self.dsack_round = snd_nxt;
            self.reordering.multiplier = (self.reordering.multiplier + 1).min(MULTIPLIER_MAX);
            self.reordering.persist = PERSIST_RECOVERIES;
        }
    }

    /// Step 4: a recovery has ended.
    pub fn handle_recovered(&mut self) {
        self.reordering.persist = self.reordering.persist.saturating_sub(1);
        if self.reordering.persist == 0 {
            self.reordering.multiplier = 1;
        }
    }

    /// Step 4: the reordering window.
    fn window_us(&self, rtt: &Rtt, in_recovery: bool, sacked_segments: u16) -> u32 {
        if !self.reordering.seen && (in_recovery || sacked_segments >= DUP_THRESH) {
            return 0;
        }
        let step = rtt.min_us().unwrap_or(0) as u64 / 4;
        let window = step * self.reordering.multiplier as u64;
        window.min(rtt.srtt_us().unwrap_or(0) as u64) as u32
    }

    /// Step 5: marks what is lost; returns after how many microseconds to look again.
    pub fn detect(
        &self,
        now: Tick,
        flight: &mut InFlight,
        pool: &mut InFlightPool,
        rtt: &Rtt,
        in_recovery: bool,
    ) -> Option<u32> {
        if self.rtt_us == 0 {
            return None;
        }
        let allowed =
            self.rtt_us.saturating_add(self.window_us(rtt, in_recovery, flight.sacked_segments()));
        while let Some(index) = flight.oldest() {
            let segment = &pool[index];
            if !sent_after(self.sent, self.end, segment.sent, segment.end()) {
                return None;
            }
            if now.since(segment.sent) < allowed {
                return Some(allowed.saturating_sub(now.since(self.sent)).max(1));
            }
            flight.mark_lost(pool, index);
        }
        None
    }

    /// At a retransmission time-out: is this piece lost by its age (6.3)?
    pub fn is_overdue(&self, now: Tick, segment: &Segment, rtt: &Rtt) -> bool {
        let allowed = self.rtt_us.saturating_add(self.window_us(rtt, true, 0));
        now.since(segment.sent) >= allowed
    }
}

/// RACK_sent_after: ties within a microsecond are broken by sequence.
fn sent_after(a: Tick, a_end: Seq, b: Tick, b_end: Seq) -> bool {
    a.after(b) || (a == b && a_end.after(b_end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{Duration, Instant};

    const RTT_US: u32 = 40_000;

    struct Fixture {
        pool: InFlightPool,
        flight: InFlight,
        rack: Rack,
        rtt: Rtt,
    }

    impl Fixture {
        /// Ten segments of 100, one per 100 us, on a path of 40 ms.
        fn new() -> Fixture {
            let mut pool = InFlightPool::new(32);
            let mut flight = InFlight::new(Seq(0));
            for n in 0..10 {
                flight.push(&mut pool, Tick(n * 100), Seq(n * 100), 100, false).unwrap();
            }
            let mut rtt = Rtt::new(Duration::from_millis(200), Duration::from_secs(60));
            rtt.sample(RTT_US);
            rtt.sample_min(Instant(0), RTT_US);
            Fixture { pool, flight, rack: Rack::new(Seq(0)), rtt }
        }

        fn sack(&mut self, now: u32, from: u32, to: u32) {
            let (rack, rtt) = (&mut self.rack, &self.rtt);
            self.flight.sack(&mut self.pool, &[(Seq(from), Seq(to))], |segment| {
                rack.handle_delivered(Tick(now), segment, rtt, None)
            });
        }

        fn detect(&mut self, now: u32, in_recovery: bool) -> Option<u32> {
            self.rack.detect(Tick(now), &mut self.flight, &mut self.pool, &self.rtt, in_recovery)
        }
    }

    /// RFC 8985 6.2 step 4: three segments sacked and no reordering seen: lost at once.
    #[test]
    fn rfc8985_three_sacked_mean_loss_without_waiting() {
        let mut f = Fixture::new();
        f.sack(RTT_US + 100, 100, 200);
        f.sack(RTT_US + 200, 200, 300);
        assert!(f.detect(RTT_US + 200, false).is_some());
        assert_eq!(f.flight.lost_bytes, 0);
        f.sack(RTT_US + 300, 300, 400);
        assert_eq!(f.detect(RTT_US + 300, false), None);
        assert_eq!(f.flight.lost_bytes, 100);
    }

    /// RFC 8985 6.2 step 5: otherwise after the reordering window of min_rtt / 4.
    #[test]
    fn rfc8985_one_sacked_means_loss_after_the_window() {
        let mut f = Fixture::new();
        let now = RTT_US + 100;
        f.sack(now, 100, 200);
        let wait = f.detect(now, false).unwrap();
        assert_eq!(wait, RTT_US / 4);
        f.detect(now + wait - 101, false);
        assert_eq!(f.flight.lost_bytes, 0);
        assert_eq!(f.detect(now + wait, false), None);
        assert_eq!(f.flight.lost_bytes, 100);
        f.flight.check(&f.pool);
    }

    /// RFC 8985 6.2 step 3: a late original shows reordering; from then on even recovery waits.
    #[test]
    fn rfc8985_reordering_is_learnt() {
        let mut f = Fixture::new();
        f.sack(RTT_US, 300, 500);
        assert!(!f.rack.reordering.seen);
        f.sack(RTT_US + 50, 200, 300);
        assert!(f.rack.reordering.seen);
        f.sack(RTT_US + 600, 500, 600);
        assert!(f.detect(RTT_US + 600, true).is_some());
        assert_eq!(f.flight.lost_bytes, 0);
    }

    /// RFC 8985 6.2 step 4: DSACK widens once a round; sixteen clean recoveries narrow again.
    #[test]
    fn rfc8985_dsack_widens_the_window() {
        let mut f = Fixture::new();
        let window = |f: &Fixture| f.rack.window_us(&f.rtt, false, 0);
        f.rack.handle_round(Seq(0), Seq(1_000), true);
        f.rack.handle_round(Seq(500), Seq(1_500), true);
        assert_eq!(window(&f), 2 * RTT_US / 4);
        f.rack.handle_round(Seq(1_000), Seq(2_000), true);
        assert_eq!(window(&f), 3 * RTT_US / 4);
        (0..15).for_each(|_| f.rack.handle_recovered());
        assert_eq!(window(&f), 3 * RTT_US / 4);
        f.rack.handle_recovered();
        assert_eq!(window(&f), RTT_US / 4);
        (0..200).for_each(|n| f.rack.handle_round(Seq(n << 16), Seq(n << 16), true));
        assert_eq!(window(&f), RTT_US, "bounded by srtt");
    }

    /// RFC 8985 6.2 step 2: an answer faster than the path can be is to an earlier transmission.
    #[test]
    fn rfc8985_answers_to_the_original_do_not_count() {
        let mut f = Fixture::new();
        let first = f.flight.first().unwrap();
        f.flight.mark_resent(&mut f.pool, first, Tick(50_000));
        let (segment, rtt) = (f.pool[first], f.rtt);
        f.rack.handle_delivered(Tick(50_100), &segment, &rtt, None);
        assert_eq!(f.rack.rtt_us, 0);
        f.rack.handle_delivered(Tick(95_000), &segment, &rtt, Some(95_000));
        assert_eq!(f.rack.rtt_us, 0);
        f.rack.handle_delivered(Tick(95_000), &segment, &rtt, Some(45_500));
        assert_eq!(f.rack.rtt_us, 45_000);
    }

    /// RFC 8985 3.1: a retransmission that is lost itself is found by one sent later.
    #[test]
    fn rfc8985_lost_retransmission_is_found() {
        let mut f = Fixture::new();
        f.sack(RTT_US, 100, 500);
        f.detect(RTT_US, false);
        let first = f.flight.lost_first().unwrap();
        f.flight.mark_resent(&mut f.pool, first, Tick(RTT_US));
        f.flight.push(&mut f.pool, Tick(RTT_US + 10), Seq(1_000), 100, false).unwrap();
        f.sack(2 * RTT_US + 10, 500, 1_100);
        f.detect(2 * RTT_US + 10, true);
        assert_eq!(f.flight.lost_first(), Some(first));
    }
}
