//! The record of one connection: when its bytes made progress, and how it ended.

use super::report::{ConnectionReport, Interval, Kind, Outcome};
use super::series::Series;

/// Longest intervals kept per connection. A kill shows as one of them unless the machine itself
/// stumbled more often than that.
const LONGEST_MAX: usize = 64;

/// Intervals from which the ordinary one is taken.
const ORDINARY_SAMPLES: usize = 256;

/// Shorter intervals are never a gap worth keeping.
const INTERVAL_MIN_NS: u64 = 500_000;

/// What is known of one connection.
#[derive(Debug)]
pub struct Track {
    /// Its kind.
    pub kind: Kind,
    /// Its number; also the seed of its bytes.
    pub id: u64,
    /// How it ended, once it has.
    pub outcome: Option<Outcome>,
    /// Payload that made progress.
    pub bytes: u64,
    note: Option<String>,
    start_ns: u64,
    /// When its SYN had been answered, if anybody says so.
    pub open_ns: Option<u64>,
    end_ns: u64,
    last_ns: Option<u64>,
    ordinary: Vec<u64>,
    longest: Vec<Interval>,
}

impl Track {
    /// A connection begun at `now`.
    pub fn new(now: u64, kind: Kind, id: u64) -> Track {
        Track {
            kind,
            id,
            outcome: None,
            bytes: 0,
            note: None,
            start_ns: now,
            open_ns: None,
            end_ns: 0,
            last_ns: None,
            ordinary: Vec::new(),
            longest: Vec::with_capacity(LONGEST_MAX + 1),
        }
    }

    /// `bytes` more made progress at `now`.
    pub fn progress(&mut self, now: u64, bytes: u64, series: &mut Series) {
        if bytes == 0 {
            return;
        }
        self.bytes += bytes;
        series.add(now, self.kind, bytes);
        if let Some(last) = self.last_ns.replace(now) {
            self.interval(Interval { start_ns: last, end_ns: now });
        }
    }

    /// Until `now` nothing was due: that silence is nobody's.
    pub fn await_from(&mut self, now: u64) {
        if let Some(last) = &mut self.last_ns {
            *last = now.max(*last);
        }
    }

    /// When it last made progress, was asked to, or began.
    pub fn moved_ns(&self) -> u64 {
        self.last_ns.unwrap_or(self.start_ns)
    }

    /// Notes a time without progress.
    pub fn interval(&mut self, interval: Interval) {
        if self.ordinary.len() < ORDINARY_SAMPLES {
            self.ordinary.push(interval.len_ns());
        }
        let len = interval.len_ns();
        let shortest = self.longest.last().map_or(0, Interval::len_ns);
        if len < INTERVAL_MIN_NS || (self.longest.len() == LONGEST_MAX && len <= shortest) {
            return;
        }
        let at = self.longest.partition_point(|kept| kept.len_ns() >= len);
        self.longest.insert(at, interval);
        self.longest.truncate(LONGEST_MAX);
    }

    /// Ends the connection. A connection ends once: the first outcome stays.
    pub fn end(&mut self, now: u64, outcome: Outcome, note: Option<String>) {
        if self.outcome.is_some() {
            return;
        }
        self.outcome = Some(outcome);
        self.note = note;
        self.end_ns = now;
        // A connection that died or stood still shows the silence up to its end.
        if outcome != Outcome::Survived
            && let Some(last) = self.last_ns
        {
            self.interval(Interval { start_ns: last, end_ns: now });
        }
    }

    /// Whether it has ended.
    pub fn is_over(&self) -> bool {
        self.outcome.is_some()
    }

    /// The report; a connection that has not ended stands still.
    pub fn report(mut self, now: u64) -> ConnectionReport {
        self.end(now, Outcome::Stalled, Some("not finished in time".into()));
        self.ordinary.sort_unstable();
        let ordinary_ns = match self.kind {
            // Its whole life is the interval.
            Kind::Fresh => 0,
            _ => self.ordinary.get(self.ordinary.len() / 2).copied().unwrap_or(0),
        };
        ConnectionReport {
            kind: self.kind,
            id: self.id,
            outcome: self.outcome.unwrap_or(Outcome::Stalled),
            note: self.note,
            bytes: self.bytes,
            start_ns: self.start_ns,
            open_ns: self.open_ns,
            end_ns: self.end_ns,
            ordinary_ns,
            longest: self.longest,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn the_longest_intervals_are_kept_in_order() {
        let mut series = Series::new(0);
        let mut track = Track::new(0, Kind::Download, 1);
        let mut now = 0;
        track.progress(now, 1, &mut series);
        let steps = 2 * LONGEST_MAX as u64;
        for step in 1..=steps {
            now += step % 20 * MS + MS;
            track.progress(now, 1, &mut series);
        }
        track.end(now, Outcome::Survived, None);
        let report = track.report(now);
        assert_eq!(report.longest.len(), LONGEST_MAX);
        assert!(report.longest.windows(2).all(|pair| pair[0].len_ns() >= pair[1].len_ns()));
        assert_eq!(report.longest[0].len_ns(), 20 * MS);
        assert_eq!(report.bytes, steps + 1);
    }

    /// What is written every 50 ms is acknowledged after one: a death in between is noticed by whom it keeps waiting, and only so
    /// long as that waits.
    #[test]
    fn silence_counts_from_when_something_was_due() {
        let mut series = Series::new(0);
        let mut track = Track::new(0, Kind::Upload, 1);
        let mut now = 0;
        for round in 0..10 {
            track.await_from(now);
            now += if round == 5 { 34 * MS } else { MS };
            track.progress(now, 1, &mut series);
            now = (now / (50 * MS) + 1) * 50 * MS;
        }
        track.end(now, Outcome::Survived, None);
        let report = track.report(now);
        assert_eq!((report.ordinary_ns, report.longest[0].len_ns()), (MS, 34 * MS));
        assert_eq!(report.gap_ns(0, now), 33 * MS);
    }

    #[test]
    fn what_never_ended_is_stalled_and_shows_its_silence() {
        let mut series = Series::new(0);
        let mut track = Track::new(0, Kind::Echo, 1);
        track.progress(MS, 1, &mut series);
        let report = track.report(9 * MS);
        assert_eq!(report.outcome, Outcome::Stalled);
        assert_eq!(report.longest, [Interval { start_ns: MS, end_ns: 9 * MS }]);
    }

    #[test]
    fn the_first_outcome_stays() {
        let mut track = Track::new(0, Kind::Echo, 1);
        track.end(1, Outcome::Reset, None);
        track.end(2, Outcome::Survived, None);
        assert_eq!(track.report(3).outcome, Outcome::Reset);
    }
}
