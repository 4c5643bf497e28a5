//! Goodput over time, in bins of 5 ms, one row per kind of connection.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::report::Kind;

/// Width of a bin.
pub const BIN_NS: u64 = 5_000_000;

/// Bins at most: five minutes. What comes later is not drawn (and not needed: a run lasts seconds).
const BINS_MAX: usize = 60_000;

/// Bytes that made progress, per kind and bin.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Series {
    /// Start of the first bin, `CLOCK_MONOTONIC`.
    pub start_ns: u64,
    /// Width of a bin.
    pub bin_ns: u64,
    /// Bytes per bin.
    pub bytes: BTreeMap<Kind, Vec<u32>>,
}

impl Series {
    /// Nothing seen yet.
    pub fn new(start_ns: u64) -> Series {
        Series { start_ns, bin_ns: BIN_NS, bytes: BTreeMap::new() }
    }

    /// Notes `bytes` of progress at `now`.
    pub fn add(&mut self, now: u64, kind: Kind, bytes: u64) {
        let bin = (now.saturating_sub(self.start_ns) / self.bin_ns) as usize;
        if bin >= BINS_MAX {
            return;
        }
        let row = self.bytes.entry(kind).or_default();
        if row.len() <= bin {
            row.resize(bin + 1, 0);
        }
        row[bin] = row[bin].saturating_add(bytes.min(u64::from(u32::MAX)) as u32);
    }

    /// Adds what another series has seen.
    pub fn add_all(&mut self, other: &Series) {
        for (kind, row) in &other.bytes {
            for (bin, bytes) in (0..).zip(row).filter(|(_, bytes)| **bytes > 0) {
                self.add(other.start_ns + bin * other.bin_ns, *kind, u64::from(*bytes));
            }
        }
    }

    /// Bytes of one kind in the bin that holds `at`.
    pub fn at(&self, kind: Kind, at: u64) -> u32 {
        let Some(since) = at.checked_sub(self.start_ns) else { return 0 };
        let bin = (since / self.bin_ns) as usize;
        self.bytes.get(&kind).and_then(|row| row.get(bin)).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_falls_into_its_bin() {
        let mut series = Series::new(1_000);
        series.add(1_000, Kind::Download, 10);
        series.add(1_000 + BIN_NS - 1, Kind::Download, 5);
        series.add(1_000 + BIN_NS, Kind::Download, 7);
        assert_eq!(series.bytes[&Kind::Download], [15, 7]);
        assert_eq!(series.at(Kind::Download, 1_000 + BIN_NS), 7);
        assert_eq!(series.at(Kind::Download, 0), 0);
        assert_eq!(series.at(Kind::Echo, 1_000), 0);
        let mut other = Series::new(1_000 + 2 * BIN_NS);
        other.add(1_000 + 2 * BIN_NS, Kind::Download, 3);
        series.add_all(&other);
        assert_eq!(series.bytes[&Kind::Download], [15, 7, 3]);
    }
}
