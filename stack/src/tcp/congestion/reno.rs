//! Congestion avoidance by RFC 5681: one segment per round trip.
//!
//! Counted in acknowledged bytes (RFC 3465 2.1), so that delayed acknowledgements do not halve it.
//! Units: bytes.

/// Bytes acknowledged since the last growth.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::tcp) struct Reno {
    acked: u32,
}

impl Reno {
    /// The window after `acked` more bytes.
    pub fn grow(&mut self, cwnd: u32, mss: u32, acked: u32) -> u32 {
        self.acked = self.acked.saturating_add(acked);
        if self.acked < cwnd {
            return cwnd;
        }
        self.acked = (self.acked - cwnd).min(cwnd);
        cwnd + mss
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 5681 3.1 with RFC 3465 2.1: a segment for every window acknowledged.
    #[test]
    fn rfc5681_one_segment_per_window() {
        let (mut reno, mut cwnd) = (Reno::default(), 10_000);
        for window in [10_000, 11_000, 12_000] {
            assert_eq!(cwnd, window);
            (0..window / 500).for_each(|_| cwnd = reno.grow(cwnd, 1_000, 500));
        }
        assert_eq!(reno.grow(cwnd, 1_000, u32::MAX), cwnd + 1_000);
    }
}
