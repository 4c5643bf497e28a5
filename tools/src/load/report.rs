//! What the load generator reports, as JSON; the demo reads it back.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::series::Series;

/// Kinds of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Generated object, read at a slow rate.
    Download,
    /// Generated body, written at a slow rate.
    Upload,
    /// Generated object, read at a high rate.
    BulkDownload,
    /// Generated body, written at a high rate.
    BulkUpload,
    /// One small message and its echo every millisecond.
    Echo,
    /// A connection opened for one small request.
    Fresh,
    /// `redis-cli`, counting.
    Redis,
    /// `ssh`, whose every line comes back.
    Ssh,
    /// A WebSocket, whose every message comes back.
    WebSocket,
}

impl Kind {
    /// Every kind, in the order of the report.
    pub const ALL: [Kind; 9] = [
        Kind::Download,
        Kind::Upload,
        Kind::BulkDownload,
        Kind::BulkUpload,
        Kind::Echo,
        Kind::Fresh,
        Kind::Redis,
        Kind::Ssh,
        Kind::WebSocket,
    ];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Kind::Download => "paced downloads",
            Kind::Upload => "paced uploads",
            Kind::BulkDownload => "fast downloads",
            Kind::BulkUpload => "fast uploads",
            Kind::Echo => "echo",
            Kind::Fresh => "new connections",
            Kind::Redis => "redis-cli",
            Kind::Ssh => "ssh",
            Kind::WebSocket => "WebSocket",
        })
    }
}

/// What became of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It ended as it should, every byte right.
    Survived,
    /// The other side reset it, or closed it before its end.
    Reset,
    /// A byte or a checksum was not what it should be.
    WrongBytes,
    /// It did not end within its time.
    Stalled,
    /// It never came to be.
    Refused,
}

/// A time without progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interval {
    /// Last progress before it.
    pub start_ns: u64,
    /// First progress after it.
    pub end_ns: u64,
}

impl Interval {
    /// How long it lasted.
    pub fn len_ns(&self) -> u64 {
        self.end_ns.saturating_sub(self.start_ns)
    }
}

/// One connection.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ConnectionReport {
    /// Its kind.
    pub kind: Kind,
    /// Its number; also the seed of its bytes.
    pub id: u64,
    /// What became of it.
    pub outcome: Outcome,
    /// Why, if it did not survive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Payload that made progress.
    pub bytes: u64,
    /// When it was begun, `CLOCK_MONOTONIC`.
    pub start_ns: u64,
    /// When its SYN had been answered; known of fresh connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_ns: Option<u64>,
    /// When it ended, `CLOCK_MONOTONIC`.
    pub end_ns: u64,
    /// Median time between two steps of progress.
    pub ordinary_ns: u64,
    /// The longest times without progress, longest first.
    pub longest: Vec<Interval>,
}

impl ConnectionReport {
    /// The longest time without progress that touches `from..to`, minus what is ordinary for this
    /// connection.
    pub fn gap_ns(&self, from: u64, to: u64) -> u64 {
        self.longest_ns(|interval| interval.end_ns > from && interval.start_ns < to)
    }

    /// The same of those that ended in `from..to`.
    pub fn gap_within_ns(&self, from: u64, to: u64) -> u64 {
        self.longest_ns(|interval| (from..to).contains(&interval.end_ns))
    }

    fn longest_ns(&self, is_meant: impl Fn(&Interval) -> bool) -> u64 {
        let meant = self.longest.iter().filter(|interval| is_meant(interval));
        meant.map(Interval::len_ns).max().unwrap_or(0).saturating_sub(self.ordinary_ns)
    }
}

/// A distribution in a few numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Percentiles {
    /// How many values.
    pub count: u64,
    /// Half are at most this.
    pub p50: u64,
    /// 99 of 100 are at most this.
    pub p99: u64,
    /// None is more than this.
    pub max: u64,
}

impl Percentiles {
    /// Of a list of values (nearest rank).
    pub fn of(mut values: Vec<u64>) -> Percentiles {
        values.sort_unstable();
        let rank = |percent: usize| {
            let index = (values.len() * percent).div_ceil(100).saturating_sub(1);
            values.get(index).copied().unwrap_or(0)
        };
        Percentiles { count: values.len() as u64, p50: rank(50), p99: rank(99), max: rank(100) }
    }
}

/// Where the load stands while it runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// When that was, `CLOCK_MONOTONIC`.
    pub at_ns: u64,
    /// Connections that are meant to last (fresh ones are not counted).
    pub wanted: u64,
    /// Of these, how many have moved payload so far.
    pub active: u64,
    /// Of these, how many have ended well.
    pub survived: u64,
    /// Connections of any kind that ended badly.
    pub failed: u64,
    /// Fresh connections that ended well.
    pub fresh: u64,
    /// Payload of all connections so far.
    pub bytes: u64,
}

impl Progress {
    /// Whether every connection that is meant to last has moved payload.
    pub fn all_move(&self) -> bool {
        self.wanted > 0 && self.active == self.wanted
    }
}

/// The final word.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LoadResult {
    /// Every connection.
    pub connections: Vec<ConnectionReport>,
    /// Round trips of the echo connections, nanoseconds.
    pub echo_rtt_ns: Percentiles,
    /// Goodput over time.
    pub series: Series,
}

/// One line of output.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Line {
    /// While it runs.
    Progress(Progress),
    /// At the end.
    Result(Box<LoadResult>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_counts_only_where_it_touches_the_window() {
        let report = ConnectionReport {
            kind: Kind::Echo,
            id: 1,
            outcome: Outcome::Survived,
            note: None,
            bytes: 0,
            start_ns: 0,
            open_ns: None,
            end_ns: 1_000,
            ordinary_ns: 10,
            longest: vec![
                Interval { start_ns: 0, end_ns: 300 },
                Interval { start_ns: 450, end_ns: 550 },
            ],
        };
        assert_eq!(report.gap_ns(500, 900), 90);
        assert_eq!(report.gap_ns(100, 900), 290);
        assert_eq!(report.gap_ns(600, 900), 0);
    }

    #[test]
    fn percentiles_use_the_nearest_rank() {
        let all = Percentiles::of((1..=100).rev().collect());
        assert_eq!((all.p50, all.p99, all.max), (50, 99, 100));
        let one = Percentiles::of(vec![7]);
        assert_eq!((one.count, one.p50, one.p99, one.max), (1, 7, 7, 7));
        assert_eq!(Percentiles::of(Vec::new()), Percentiles::default());
    }
}
