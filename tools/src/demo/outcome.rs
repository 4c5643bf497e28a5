//! What a run came to: counts, gaps, phases and the picture around the kill.

use std::collections::BTreeMap;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::KillMode;
use super::curl::CurlReport;
use super::status::Takeover;
use crate::load::report::{ConnectionReport, Kind, LoadResult, Outcome, Percentiles};
use crate::load::series::{BIN_NS, Series};

/// A time without progress belongs to the kill if it touches the five seconds behind it.
const WINDOW_NS: u64 = 5_000_000_000;

/// New connections are judged if they were under way in the second behind the kill.
const FRESH_WINDOW_NS: u64 = 1_000_000_000;

/// The picture: so much before the kill, and so much behind it.
const PICTURE_BEFORE_NS: u64 = 500_000_000;
const PICTURE_AFTER_NS: u64 = 3_000_000_000;

/// Failures told in words.
const FAILURES_MAX: usize = 8;

/// Something that happened to the nodes while the load ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// In a word or two.
    pub what: &'static str,
    /// When, `CLOCK_MONOTONIC`.
    pub at_ns: u64,
}

/// The gaps that belong to one moment of several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// What happened.
    pub what: String,
    /// When, counted from the first moment.
    pub after_ns: u64,
    /// Over the connections of all kinds.
    pub gap_ns: Percentiles,
}

/// Connections of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// The kind in words.
    pub name: String,
    /// How many there were.
    pub connections: u64,
    /// Ended as they should, every byte right.
    pub survived: u64,
    /// Reset, or closed before their end.
    pub resets: u64,
    /// A byte or checksum wrong.
    pub wrong_bytes: u64,
    /// Not ended in time.
    pub stalled: u64,
    /// Never came to be.
    pub refused: u64,
    /// The gap of each; empty if it cannot be measured.
    pub gaps_ns: Vec<u64>,
}

/// Whether the pair was protected again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restored {
    /// Nobody was killed.
    NotNeeded,
    /// It was.
    After {
        /// Milliseconds from the restart on.
        ms: u64,
    },
    /// It was not.
    Failed {
        /// What was seen instead.
        why: String,
    },
}

/// Goodput around the kill.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Picture {
    /// Start of the first bin, relative to the kill.
    pub start_ns: i64,
    /// Width of a bin.
    pub bin_ns: u64,
    /// Bytes per bin.
    pub bytes: BTreeMap<Kind, Vec<u32>>,
}

/// One run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunOutcome {
    /// How the owner was killed.
    pub kill: String,
    /// One row per kind.
    pub rows: Vec<Row>,
    /// The moments of the story, if there were several.
    pub stages: Vec<Stage>,
    /// Frames of a node for a connection that the other had answered before; `None` if nobody counted them.
    pub late_voices: Option<u64>,
    /// Round trips of the echo connections over the whole run.
    pub echo_rtt_ns: Percentiles,
    /// The first progress of any silenced connection, counted from the kill.
    pub first_byte_ns: Option<u64>,
    /// Phases as the new owner tells them.
    pub takeovers: Vec<Takeover>,
    /// Whether the pair was protected again.
    pub restored: Restored,
    /// Failures in words; not all if there are many.
    pub failures: Vec<String>,
    /// Goodput around the kill.
    pub picture: Picture,
}

/// All runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Over all runs.
    pub rows: Vec<Row>,
    /// Each run.
    pub runs: Vec<RunOutcome>,
}

impl Row {
    fn count(&mut self, outcome: Outcome) {
        self.connections += 1;
        *match outcome {
            Outcome::Survived => &mut self.survived,
            Outcome::Reset => &mut self.resets,
            Outcome::WrongBytes => &mut self.wrong_bytes,
            Outcome::Stalled => &mut self.stalled,
            Outcome::Refused => &mut self.refused,
        } += 1;
    }

    fn merge(&mut self, other: &Row) {
        self.connections += other.connections;
        self.survived += other.survived;
        self.resets += other.resets;
        self.wrong_bytes += other.wrong_bytes;
        self.stalled += other.stalled;
        self.refused += other.refused;
        self.gaps_ns.extend_from_slice(&other.gaps_ns);
    }

    /// The gaps in three numbers.
    pub fn gap_ns(&self) -> Option<Percentiles> {
        (!self.gaps_ns.is_empty()).then(|| Percentiles::of(self.gaps_ns.clone()))
    }
}

impl RunOutcome {
    /// Puts together what clients and cluster told; the first of the moments is the kill.
    pub fn new(
        kill: &KillMode,
        moments: &[Moment],
        load: &LoadResult,
        curls: Vec<CurlReport>,
        takeovers: Vec<Takeover>,
        restored: Restored,
    ) -> RunOutcome {
        let mut rows = Vec::new();
        let mut failures = Vec::new();
        for curl in curls {
            let mut row = Row { name: curl.name.clone(), ..Row::default() };
            row.count(curl.outcome);
            rows.push(row);
            if curl.outcome != Outcome::Survived {
                failures.push(format!("{}: {}", curl.name, curl.note));
            }
        }
        for kind in Kind::ALL {
            let of_kind = load.connections.iter().filter(|connection| connection.kind == kind);
            let row = row(kind, moments, of_kind);
            rows.extend((row.connections > 0).then_some(row));
        }
        let failed = load.connections.iter().filter(|one| one.outcome != Outcome::Survived);
        failures.extend(failed.take(FAILURES_MAX).map(failure));
        let killed_ns = moments.first().map_or(0, |moment| moment.at_ns);
        let kill_name = kill.to_possible_value().map(|value| value.get_name().to_string());
        RunOutcome {
            kill: kill_name.unwrap_or_default(),
            rows,
            stages: stages(moments, load),
            late_voices: None,
            echo_rtt_ns: load.echo_rtt_ns,
            first_byte_ns: first_byte(killed_ns, load),
            takeovers,
            restored,
            failures,
            picture: Picture::around(killed_ns, &load.series),
        }
    }
}

impl Summary {
    /// Over these runs.
    pub fn of(runs: Vec<RunOutcome>) -> Summary {
        let mut rows: Vec<Row> = Vec::new();
        for row in runs.iter().flat_map(|run| &run.rows) {
            match rows.iter_mut().find(|known| known.name == row.name) {
                Some(known) => known.merge(row),
                None => rows.push(row.clone()),
            }
        }
        Summary { rows, runs }
    }

    /// Whether every connection survived, byte-exact, and no connection was answered by a node after another.
    pub fn passed(&self) -> bool {
        let is_quiet = self.runs.iter().all(|run| run.late_voices.unwrap_or(0) == 0);
        let is_whole = self.rows.iter().all(|row| row.survived == row.connections);
        !self.rows.is_empty() && is_whole && is_quiet
    }

    /// Connections of all kinds: all, and those that survived.
    pub fn totals(&self) -> (u64, u64) {
        let sum = |count: fn(&Row) -> u64| self.rows.iter().map(count).sum();
        (sum(|row| row.connections), sum(|row| row.survived))
    }

    /// The largest gap of any connection.
    pub fn gap_max_ns(&self) -> u64 {
        self.rows.iter().flat_map(|row| &row.gaps_ns).copied().max().unwrap_or(0)
    }
}

impl Picture {
    fn around(killed_ns: u64, series: &Series) -> Picture {
        let bins = (PICTURE_BEFORE_NS + PICTURE_AFTER_NS) / BIN_NS;
        // Bins start where the series' own do, or a bin of silence would be blurred.
        let wanted = killed_ns.saturating_sub(PICTURE_BEFORE_NS).max(series.start_ns);
        let first = wanted - (wanted - series.start_ns) % BIN_NS;
        let bytes = series.bytes.keys().map(|kind| {
            let row = (0..bins).map(|bin| series.at(*kind, first + bin * BIN_NS));
            (*kind, row.collect())
        });
        let start_ns = first as i64 - killed_ns as i64;
        Picture { start_ns, bin_ns: BIN_NS, bytes: bytes.collect() }
    }
}

fn row<'a>(
    kind: Kind,
    moments: &[Moment],
    connections: impl Iterator<Item = &'a ConnectionReport>,
) -> Row {
    let mut row = Row { name: kind.to_string(), ..Row::default() };
    for connection in connections {
        row.count(connection.outcome);
        row.gaps_ns
            .extend(windows(moments).filter_map(|(_, from, to)| gap(connection, from, to)).max());
    }
    row
}

/// Each moment, and the time whose silence belongs to it.
fn windows(moments: &[Moment]) -> impl Iterator<Item = (&Moment, u64, u64)> {
    moments.iter().enumerate().map(|(n, moment)| {
        let next = moments.get(n + 1).map_or(u64::MAX, |next| next.at_ns);
        (moment, moment.at_ns, next.min(moment.at_ns + WINDOW_NS))
    })
}

/// The gap of a connection, if it has a part in that time.
fn gap(connection: &ConnectionReport, from: u64, to: u64) -> Option<u64> {
    let touched = connection.end_ns > from && connection.start_ns < to.min(from + FRESH_WINDOW_NS);
    (connection.kind != Kind::Fresh || touched).then(|| connection.gap_ns(from, to))
}

fn stages(moments: &[Moment], load: &LoadResult) -> Vec<Stage> {
    if moments.len() < 2 {
        return Vec::new();
    }
    let stage = |(moment, from, to): (&Moment, u64, u64)| {
        let gaps = load.connections.iter().filter_map(|connection| gap(connection, from, to));
        let (what, after_ns) = (moment.what.to_string(), from - moments[0].at_ns);
        Stage { what, after_ns, gap_ns: Percentiles::of(gaps.collect()) }
    };
    windows(moments).map(stage).collect()
}

/// The earliest end of the long-lived connections' longest silences, from the kill on.
fn first_byte(killed_ns: u64, load: &LoadResult) -> Option<u64> {
    let silences =
        load.connections.iter().filter(|one| one.kind != Kind::Fresh).filter_map(|one| {
            let covers = |at: &&crate::load::report::Interval| {
                at.end_ns > killed_ns && at.start_ns < killed_ns + WINDOW_NS
            };
            let survived = one.outcome == Outcome::Survived;
            one.longest.iter().find(covers).filter(|_| survived)
        });
    silences.map(|interval| interval.end_ns - killed_ns).min()
}

fn failure(connection: &ConnectionReport) -> String {
    let note = connection.note.as_deref().unwrap_or("no reason known");
    format!("{} number {}: {:?}: {note}", connection.kind, connection.id, connection.outcome)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::load::report::Interval;

    const MS: u64 = 1_000_000;

    fn connection(kind: Kind, id: u64, outcome: Outcome, gap_ms: u64) -> ConnectionReport {
        let kill = 1_000 * MS;
        ConnectionReport {
            kind,
            id,
            outcome,
            note: (outcome != Outcome::Survived).then(|| "gone".into()),
            bytes: 1,
            start_ns: kill - MS,
            open_ns: None,
            end_ns: 3_000 * MS,
            ordinary_ns: 0,
            longest: vec![Interval { start_ns: kill - MS, end_ns: kill - MS + gap_ms * MS }],
        }
    }

    /// A run with the given fate of one of its connections.
    pub fn sample(fate: Outcome) -> Summary {
        let mut series = Series::new(0);
        for at in (0..950).chain(1_050..3_000) {
            series.add(at * MS, Kind::Download, 100);
        }
        let load = LoadResult {
            connections: vec![
                connection(Kind::Download, 1, Outcome::Survived, 51),
                connection(Kind::Download, 2, fate, 61),
                connection(Kind::Echo, 3, Outcome::Survived, 41),
            ],
            echo_rtt_ns: Percentiles { count: 9, p50: 50_000, p99: 90_000, max: 41 * MS },
            series,
        };
        let phases = vec![("detect".to_string(), 30_000), ("grant".to_string(), 400)];
        let takeovers = vec![Takeover { service: "web".into(), flows: 3, phases }];
        let restored = Restored::After { ms: 900 };
        let kill = KillMode::Sigkill;
        let moments = [Moment { what: "kill", at_ns: 1_000 * MS }];
        Summary::of(vec![RunOutcome::new(&kill, &moments, &load, vec![], takeovers, restored)])
    }

    #[test]
    fn a_run_passes_only_if_every_connection_survived() {
        assert!(sample(Outcome::Survived).passed());
        for fate in [Outcome::Reset, Outcome::WrongBytes, Outcome::Stalled, Outcome::Refused] {
            let summary = sample(fate);
            assert!(!summary.passed());
            assert_eq!(summary.totals(), (3, 2));
            assert_eq!(summary.runs[0].failures.len(), 1);
        }
        assert!(!Summary::of(Vec::new()).passed());
    }

    #[test]
    fn gaps_and_first_byte_are_counted_from_the_kill() {
        let summary = sample(Outcome::Survived);
        assert_eq!(summary.gap_max_ns(), 61 * MS);
        assert_eq!(summary.runs[0].first_byte_ns, Some(40 * MS));
    }

    #[test]
    fn a_node_that_speaks_after_another_fails_the_run() {
        let mut summary = sample(Outcome::Survived);
        summary.runs[0].late_voices = Some(0);
        assert!(summary.passed());
        summary.runs[0].late_voices = Some(1);
        assert!(!summary.passed());
    }

    #[test]
    fn each_moment_has_the_gaps_up_to_the_next() {
        let connections = vec![connection(Kind::Echo, 1, Outcome::Survived, 41)];
        let (echo_rtt_ns, series) = (Percentiles::default(), Series::new(0));
        let load = LoadResult { connections, echo_rtt_ns, series };
        let moment = |what, ms| Moment { what, at_ns: ms * MS };
        let stages = stages(&[moment("kill", 1_000), moment("failback", 1_500)], &load);
        let told: Vec<_> =
            stages.iter().map(|s| (s.what.as_str(), s.after_ns, s.gap_ns.max)).collect();
        assert_eq!(told, [("kill", 0, 41 * MS), ("failback", 500 * MS, 0)]);
    }

    #[test]
    fn the_picture_is_aligned_with_the_bins() {
        let picture = sample(Outcome::Survived).runs.remove(0).picture;
        assert_eq!(picture.start_ns, -500 * MS as i64);
        let row = &picture.bytes[&Kind::Download];
        assert_eq!(row.len(), 700);
        assert_eq!((row[89], row[90], row[109], row[110]), (500, 0, 0, 500));
    }
}
