//! Proportional rate reduction: how the window comes down during fast recovery.
//!
//! The window is not halved at once but follows what is delivered: for every byte that arrives, so many
//! go out that the flight is at `ssthresh` when the recovery ends. When losses push the flight below
//! `ssthresh`, no more goes out than arrives, plus one segment per acknowledgement while all goes well.
//!
//! Spec: RFC 9937 (which replaces RFC 6937), both reduction bounds. Deviation: RecoverFS is the most that the network
//! held in the round before, see [`Prr::new`].
//! Units: bytes.

/// State of one recovery.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Prr {
    /// prr_delivered.
    delivered: u32,
    /// prr_out.
    out: u32,
    /// RecoverFS, at least 1.
    flight: u32,
}

impl Prr {
    /// Of no recovery.
    pub const NONE: Prr = Prr { delivered: 0, out: 0, flight: 1 };

    /// A recovery begins with `pipe` bytes still to be delivered, of the `peak` that the network held in this round.
    /// What was delivered in between and has not been answered by sending counts as delivered in the recovery.
    pub fn new(pipe: u32, peak: u32) -> Prr {
        Prr { delivered: peak.saturating_sub(pipe), out: 0, flight: pipe.max(peak).max(1) }
    }

    /// Something was sent, new or again.
    pub fn handle_sent(&mut self, len: u32) {
        self.out = self.out.saturating_add(len);
    }

    /// Something was delivered; returns the window. `safe`: `snd_una` moved and nothing new is lost.
    pub fn handle_delivered(
        &mut self,
        delivered: u32,
        pipe: u32,
        ssthresh: u32,
        mss: u32,
        safe: bool,
    ) -> u32 {
        self.delivered = self.delivered.saturating_add(delivered);
        let mut count = if pipe > ssthresh {
            let share = self.delivered as u64 * ssthresh as u64;
            let target = share.div_ceil(self.flight as u64).min(u32::MAX as u64) as u32;
            target.saturating_sub(self.out)
        } else {
            let bound = self.delivered.saturating_sub(self.out).max(delivered);
            let bound = bound.saturating_add(if safe { mss } else { 0 });
            bound.min(ssthresh - pipe)
        };
        if self.out == 0 {
            // The fast retransmission itself always goes.
            count = count.max(mss);
        }
        pipe.saturating_add(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 9937 6: with a flight of 20 and a target of 14, 14 go out for 20 delivered.
    #[test]
    fn rfc9937_proportional_part() {
        let mut prr = Prr::new(20_000, 20_000);
        let mut pipe = 19_000;
        let mut sent = 0;
        for _ in 0..19 {
            let cwnd = prr.handle_delivered(1_000, pipe, 14_000, 1_000, false);
            while pipe + 1_000 <= cwnd {
                pipe += 1_000;
                sent += 1;
                prr.handle_sent(1_000);
            }
            pipe -= 1_000;
        }
        assert!((13..=14).contains(&sent), "{sent}");
        assert!((13_000..=14_000).contains(&pipe), "{pipe}");
    }

    /// RFC 9937 6.2: far below the target, one for one; one more while all goes well.
    #[test]
    fn rfc9937_reduction_bounds() {
        let mut prr = Prr::new(20_000, 20_000);
        assert_eq!(prr.handle_delivered(1_000, 5_000, 14_000, 1_000, false), 6_000);
        prr.handle_sent(1_000);
        assert_eq!(prr.handle_delivered(1_000, 5_000, 14_000, 1_000, true), 7_000);
        assert_eq!(prr.handle_delivered(50_000, 13_500, 14_000, 1_000, true), 14_000);
    }

    /// Of a flight of 11, a burst of acknowledgements has delivered 7 and then three behind a hole; nothing was sent
    /// in between. What goes out now is what is meant to be in the network, not what one acknowledgement lets out.
    #[test]
    fn a_burst_before_the_recovery_is_answered_in_it() {
        let mut prr = Prr::new(4_000, 11_000);
        assert_eq!(prr.handle_delivered(3_000, 0, 7_700, 1_000, false), 7_700);
        let mut small = Prr::new(4_000, 4_000);
        assert_eq!(small.handle_delivered(3_000, 0, 7_700, 1_000, false), 3_000);
    }

    /// RFC 9937 6.2: the first retransmission is never held back.
    #[test]
    fn rfc9937_forced_fast_retransmission() {
        let mut prr = Prr::new(20_000, 20_000);
        assert_eq!(prr.handle_delivered(0, 20_000, 14_000, 1_000, false), 21_000);
    }
}
