//! A node dies under paced connections that it passes on: how long each stands still, and when newcomers are answered.
//!
//! A newcomer begins every millisecond, so one of them begins just before somebody answers again. Those whose first SYN nobody
//! answers wait for their own timer, a second.
//!
//! Units: milliseconds in figures, nanoseconds in lists.

use std::fmt::Write;
use std::thread;
use std::time::Duration;

use anyhow::{Context, ensure};
use nix::sys::signal::Signal;
use serde::Serialize;
use tools::demo::bed::Place;
use tools::load::report::{ConnectionReport, Kind, LoadResult, Outcome, Percentiles};
use tools::load::wire::monotonic_ns;

use super::arena::Arena;
use super::measure::Sample;
use super::rival::Rival;
use crate::moving::{self, Paced, WINDOW_NS, ms};

/// The connections run for so many seconds.
pub const SECONDS: u64 = 7;

/// Of these, with all of them moving, before the death.
pub const BEFORE: Duration = Duration::from_millis(700);

/// Of these, those just before the death in which nobody may stand still for longer than [`CALM`]: what does is the bed's doing,
/// and so a gap would be.
const LAST: Duration = Duration::from_millis(500);

/// 99 of 100 connections, beyond what is ordinary for them: the goal for the gap of a crash.
const CALM: Duration = Duration::from_millis(40);

/// Newcomers are counted that begin within this time after the death.
const NEWCOMERS: Duration = Duration::from_secs(1);

/// A newcomer that nobody answers has waited so long.
const UNANSWERED_NS: u64 = 3_000_000_000;

/// The switch's end of the cable between the first node and its clients and servers.
const CLIENTS_CABLE: &str = "node1-eth0";

/// Seconds that a run takes, start and end included.
pub const RUN_SECONDS: f64 = 12.0;

/// How a node dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Death {
    /// SIGKILL.
    Crash,
    /// Its links go down, then SIGKILL.
    Power,
    /// SIGSTOP: its process is there, and does nothing any more.
    Hang,
    /// Its cable towards clients and servers is cut. It lives, and hands over.
    Cut,
}

/// Names of the metrics of a death.
macro_rules! metrics {
    ($death:literal) => {
        [
            concat!($death, ": survived"),
            concat!($death, ": download gap p50"),
            concat!($death, ": download gap p99"),
            concat!($death, ": download gap longest"),
            concat!($death, ": upload gap p50"),
            concat!($death, ": upload gap p99"),
            concat!($death, ": upload gap longest"),
            concat!($death, ": echo gap p50"),
            concat!($death, ": echo gap p99"),
            concat!($death, ": echo gap longest"),
            concat!($death, ": newcomer's wait p50"),
            concat!($death, ": newcomer's wait p99"),
            concat!($death, ": newcomer's wait longest"),
            concat!($death, ": first SYN-ACK"),
            concat!($death, ": stood still before, p99"),
        ]
    };
}

/// One death.
#[derive(Debug, Clone, Serialize)]
pub struct Run {
    /// Who stood there.
    pub who: Rival,
    /// How it died.
    pub death: Death,
    /// Paced connections, and those that ended as they should.
    pub connections: usize,
    /// Of these, with every byte to their end.
    pub survived: usize,
    /// 99 of 100 stood still for no longer just before it died.
    pub before_ns: u64,
    /// How long each download stood still.
    pub downloads_ns: Vec<u64>,
    /// And each upload.
    pub uploads_ns: Vec<u64>,
    /// And each dialogue of small messages.
    pub echoes_ns: Vec<u64>,
    /// How long each newcomer of the first second after the death waited for its SYN-ACK; [`UNANSWERED_NS`] if it was refused or never
    /// had one.
    pub newcomers_ns: Vec<u64>,
    /// From the death to the first SYN-ACK for a newcomer that began after it.
    pub first_ns: Option<u64>,
    /// What became of those that did not survive, and why.
    pub lost: Vec<String>,
}

impl Death {
    /// All.
    pub const ALL: [Death; 4] = [Death::Crash, Death::Power, Death::Hang, Death::Cut];

    /// As people read it.
    pub fn title(self) -> &'static str {
        match self {
            Death::Crash => "SIGKILL",
            Death::Power => "Power loss",
            Death::Hang => "SIGSTOP",
            Death::Cut => "Clients' cable cut",
        }
    }

    /// As figures name it.
    pub fn name(self) -> &'static str {
        match self {
            Death::Crash => "crash",
            Death::Power => "power",
            Death::Hang => "hang",
            Death::Cut => "cut",
        }
    }

    /// Names of a run's metrics.
    fn metrics(self) -> [&'static str; 15] {
        match self {
            Death::Crash => metrics!("crash"),
            Death::Power => metrics!("power"),
            Death::Hang => metrics!("hang"),
            Death::Cut => metrics!("cut"),
        }
    }
}

/// One run of a pair of ours.
pub fn run(arena: &Arena<'_>, pair: Rival, death: Death, paced: Paced) -> anyhow::Result<Run> {
    let mut standing = arena.start(pair)?;
    let load = moving::begin_paced(&arena.stage, Paced { seconds: SECONDS, ..paced })?;
    thread::sleep(BEFORE);
    let nodes = standing.nodes.as_mut().context("a pair has nodes")?;
    let bed = &arena.stage.bed;
    match death {
        Death::Power => bed.node(1).cut()?,
        Death::Cut => bed.ip(Place::Switch, &format!("link set {CLIENTS_CABLE} down"))?,
        Death::Crash | Death::Hang => {}
    }
    // Whoever began before the links were down may have been answered by the dying.
    let at_ns = monotonic_ns();
    match death {
        Death::Crash | Death::Power => nodes.signal_node(1, Signal::SIGKILL)?,
        Death::Hang => nodes.signal_node(1, Signal::SIGSTOP)?,
        Death::Cut => {}
    }
    let result = load.finish();
    match death {
        Death::Power => bed.node(1).restore()?,
        Death::Cut => bed.ip(Place::Switch, &format!("link set {CLIENTS_CABLE} up"))?,
        Death::Crash | Death::Hang => {}
    }
    Run::of(pair, death, at_ns, &result?).if_calm()
}

impl Run {
    /// What connections through `who` came to, of which a machine died at `at_ns`.
    pub fn of(who: Rival, death: Death, at_ns: u64, result: &LoadResult) -> Run {
        let all = &result.connections;
        let gaps = |kind| {
            let of_kind = all.iter().filter(|one| one.kind == kind);
            of_kind.map(|one| one.gap_ns(at_ns, at_ns + WINDOW_NS)).collect()
        };
        let paced = || all.iter().filter(|one| one.kind != Kind::Fresh);
        let survived = |one: &&ConnectionReport| one.outcome == Outcome::Survived;
        let last_ns = LAST.as_nanos() as u64;
        let before = paced().map(|one| one.gap_within_ns(at_ns.saturating_sub(last_ns), at_ns));
        let late = || all.iter().filter(|one| one.kind == Kind::Fresh && one.start_ns >= at_ns);
        let newcomers = late().filter(|one| one.start_ns - at_ns < NEWCOMERS.as_nanos() as u64);
        let waited =
            |one: &ConnectionReport| one.open_ns.map_or(UNANSWERED_NS, |open| open - one.start_ns);
        Run {
            who,
            death,
            connections: paced().count(),
            survived: paced().filter(survived).count(),
            before_ns: Percentiles::of(before.collect()).p99,
            downloads_ns: gaps(Kind::Download),
            uploads_ns: gaps(Kind::Upload),
            echoes_ns: gaps(Kind::Echo),
            newcomers_ns: newcomers.map(waited).collect(),
            lost: paced().filter(|one| !survived(one)).map(epitaph).collect(),
            first_ns: late().filter_map(|one| one.open_ns).min().map(|first| first - at_ns),
        }
    }

    /// The run itself, unless it tells of its bed instead.
    pub fn if_calm(self) -> anyhow::Result<Run> {
        let before = ms(self.before_ns);
        ensure!(
            Duration::from_nanos(self.before_ns) <= CALM,
            "the machine is too busy: one of a hundred connections stood still for {before:.0} ms before anything had died"
        );
        Ok(self)
    }

    /// Whether its connections can outlive their machine. Of others neither gaps nor reasons tell anything.
    pub fn outlives(&self) -> bool {
        self.who != Rival::Haproxy
    }

    /// Its figures. Where connections die with their machine: how many did not, and when newcomers are answered.
    pub fn samples(&self) -> Vec<Sample> {
        let [survived, .., p50, p99, longest, first, _] = self.death.metrics();
        let of_all = [survived, p50, p99, longest, first];
        let told = |sample: &Sample| self.outlives() || of_all.contains(&sample.metric);
        self.all_samples().into_iter().filter(told).collect()
    }

    /// How long each connection stood still, or waited for its beginning, by their kinds.
    pub fn gaps(&self) -> [(&'static str, &Vec<u64>); 4] {
        [
            ("download", &self.downloads_ns),
            ("upload", &self.uploads_ns),
            ("echo", &self.echoes_ns),
            ("newcomer", &self.newcomers_ns),
        ]
    }

    fn all_samples(&self) -> Vec<Sample> {
        let share = self.survived as f64 * 100.0 / self.connections.max(1) as f64;
        let mut values = vec![(share, "%")];
        for (_, gaps) in self.gaps() {
            let found = Percentiles::of(gaps.clone());
            values.extend([found.p50, found.p99, found.max].map(|ns| (ms(ns), "ms")));
        }
        let [.., first, before] = self.death.metrics();
        let named = self.death.metrics().into_iter().zip(values);
        let named = named.chain(self.first_ns.map(|ns| (first, (ms(ns), "ms"))));
        let named = named.chain([(before, (ms(self.before_ns), "ms"))]);
        named.map(|(metric, (value, unit))| Sample { metric, unit, value }).collect()
    }
}

fn epitaph(one: &ConnectionReport) -> String {
    let note = one.note.as_deref().unwrap_or("no reason known");
    format!("{} {}: {:?}, {note}", one.kind, one.id, one.outcome)
}

/// Every gap of every run as comma-separated values.
pub fn csv(runs: &[Run]) -> String {
    let mut text = String::from("run,contender,death,kind,gap_ns\n");
    for (number, run) in (1..).zip(runs) {
        for (kind, gaps) in run.gaps() {
            for ns in gaps {
                let _ =
                    writeln!(text, "{number},{},{},{kind},{ns}", run.who.name(), run.death.name());
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use tools::load::report::Interval;
    use tools::load::series::Series;

    fn connection(kind: Kind, start_ns: u64, open_ns: Option<u64>) -> ConnectionReport {
        ConnectionReport {
            kind,
            id: start_ns,
            outcome: Outcome::Survived,
            note: None,
            bytes: 1,
            start_ns,
            open_ns,
            end_ns: 9_000_000,
            ordinary_ns: 0,
            longest: vec![Interval { start_ns: 900_000, end_ns: 3_000_000 }],
        }
    }

    #[test]
    fn a_bed_that_stands_still_by_itself_tells_nothing_of_a_death() {
        let with = |start_ms: u64, end_ms: u64| {
            let longest = vec![
                Interval { start_ns: 990_000_000, end_ns: 1_090_000_000 },
                Interval { start_ns: start_ms * 1_000_000, end_ns: end_ms * 1_000_000 },
            ];
            let one = ConnectionReport { longest, ..connection(Kind::Download, 1, None) };
            let (echo_rtt_ns, series) = (Percentiles::default(), Series::new(0));
            let result = LoadResult { connections: vec![one], echo_rtt_ns, series };
            Run::of(Rival::Mirrored, Death::Crash, 1_000_000_000, &result).if_calm()
        };
        assert_eq!(with(700, 741).unwrap_err().to_string().matches("41 ms").count(), 1);
        assert_eq!(with(700, 740).unwrap().before_ns, 40_000_000);
        assert_eq!(with(400, 499).unwrap().before_ns, 0, "that was too long ago");
        assert_eq!(with(400, 990).unwrap_err().to_string().matches("590 ms").count(), 1);
    }

    #[test]
    fn a_newcomer_that_was_before_the_death_tells_nothing() {
        let dead = ConnectionReport {
            outcome: Outcome::Stalled,
            note: Some("not finished in time".into()),
            ..connection(Kind::Upload, 2, None)
        };
        let connections = vec![
            dead,
            connection(Kind::Download, 1, None),
            connection(Kind::Echo, 3, None),
            connection(Kind::Fresh, 999_999, Some(1_100_000)),
            connection(Kind::Fresh, 1_000_500, Some(6_000_000)),
            connection(Kind::Fresh, 5_000_000, Some(5_500_000)),
            connection(Kind::Fresh, 5_100_000, None),
            connection(Kind::Fresh, 1_001_000_000, Some(1_002_000_000)),
        ];
        let (echo_rtt_ns, series) = (Percentiles::default(), Series::new(0));
        let result = LoadResult { connections, echo_rtt_ns, series };
        let run = Run::of(Rival::Mirrored, Death::Crash, 1_000_000, &result);
        assert_eq!((run.connections, run.survived), (3, 2));
        assert_eq!(run.lost, ["paced uploads 2: Stalled, not finished in time"]);
        assert_eq!((run.first_ns, run.before_ns), (Some(4_500_000), 0));
        let samples = run.samples();
        let of = |metric| samples.iter().find(|one| one.metric == metric).unwrap().value;
        assert_eq!(of("crash: download gap p50"), 2.1);
        assert_eq!(of("crash: echo gap longest"), 2.1);
        assert_eq!(run.newcomers_ns, [4_999_500, 500_000, UNANSWERED_NS], "of the first second");
        assert_eq!(of("crash: newcomer's wait p50"), 4.9995);
        assert_eq!(of("crash: first SYN-ACK"), 4.5);
        assert_eq!(samples.len(), run.death.metrics().len());
        let kinds = ["download,2100000", "upload,2100000", "echo,2100000", "newcomer,4999500"];
        let text = csv(&[run]);
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("run,contender,death,kind,gap_ns"));
        for kind in kinds {
            assert_eq!(lines.next(), Some(format!("1,mirrored,crash,{kind}").as_str()));
        }
        assert_eq!(lines.count(), 2);
    }
}
