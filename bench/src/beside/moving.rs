//! Paced connections whose every byte is checked, and how long they stood still when something was done to their server.
//!
//! Units: milliseconds.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::bail;
use tools::demo::client::Load;
use tools::load::report::{ConnectionReport, Outcome, Percentiles};

use crate::report::{Bound, Fact};
use crate::stage::Stage;

/// How long connections may take until all of them move.
const PATIENCE: Duration = Duration::from_secs(5);

/// Bytes a second of a paced connection.
pub const RATE: u64 = 100_000;

/// Milliseconds between two steps of a paced connection.
const PACE_MS: u64 = 5;

/// Between two looks at a load.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A pause belongs to what was done if it touches this time behind it: whoever waits for his timer has begun to by then. Later a
/// shared machine stands still by itself, and the longest of many waits is its.
pub const WINDOW_NS: u64 = 1_000_000_000;

/// Paced connections, half of them downloads.
#[derive(Clone, Copy, Debug)]
pub struct Paced {
    /// How many.
    pub connections: u64,
    /// Of these, dialogues: 64 bytes and their echo every millisecond, at whatever pace the others go.
    pub echoes: u64,
    /// Bytes a second of each.
    pub rate: u64,
    /// Milliseconds between two of its steps.
    pub pace_ms: u64,
    /// The same of downloads that the server paces; 0: the reading of them does.
    pub server_pace_ms: u64,
    /// Milliseconds between two newcomers beside them; 0: there are none.
    pub fresh_every_ms: u64,
    /// How long they run.
    pub seconds: u64,
}

/// Starts that many paced connections for so many seconds, and waits until all move.
pub fn begin(stage: &Stage<'_>, connections: u64, seconds: u64) -> anyhow::Result<Load> {
    let (rate, pace_ms) = (RATE, PACE_MS);
    begin_paced(
        stage,
        Paced {
            connections,
            echoes: 0,
            rate,
            pace_ms,
            server_pace_ms: 0,
            fresh_every_ms: 0,
            seconds,
        },
    )
}

/// The same of any pace.
pub fn begin_paced(stage: &Stage<'_>, paced: Paced) -> anyhow::Result<Load> {
    let Paced { connections, echoes, rate, pace_ms, server_pace_ms, fresh_every_ms, seconds } =
        paced;
    let (echoes, moving) = (echoes.min(connections), connections.saturating_sub(echoes));
    let options = [
        ("--downloads", moving - moving / 2),
        ("--uploads", moving / 2),
        ("--rate", rate),
        ("--pace-ms", pace_ms),
        ("--server-pace-ms", server_pace_ms),
        ("--bulk-downloads", 0),
        ("--bulk-uploads", 0),
        ("--echo", echoes),
        ("--fresh-every-ms", fresh_every_ms),
        ("--seconds", seconds),
    ];
    let load = Load::start_with(&stage.bed, &stage.program(), stage.dir(), &options)?;
    until_moving(&load)?;
    Ok(load)
}

/// Waits until every connection of a load has moved something.
pub fn until_moving(load: &Load) -> anyhow::Result<()> {
    let limit = Instant::now() + PATIENCE;
    loop {
        let progress = load.progress();
        if progress.wanted > 0 && progress.active == progress.wanted {
            return Ok(());
        }
        if Instant::now() > limit {
            bail!("the transfers do not begin: {progress:?}");
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// What became of connections over several runs.
#[derive(Default)]
pub struct Fates {
    all: u64,
    survived: u64,
    gaps_ns: Vec<u64>,
}

impl Fates {
    /// Takes a run in which something was done at `at_ns`; its gaps in few words.
    pub fn take(&mut self, connections: &[ConnectionReport], at_ns: u64) -> String {
        let gaps: Vec<u64> =
            connections.iter().map(|one| one.gap_ns(at_ns, at_ns + WINDOW_NS)).collect();
        for one in connections {
            self.all += 1;
            self.survived += u64::from(one.outcome == Outcome::Survived);
            if one.outcome != Outcome::Survived {
                let note = one.note.as_deref().unwrap_or("no note");
                eprintln!("{} {}: {:?}, {note}", one.kind, one.id, one.outcome);
            }
        }
        let found = Percentiles::of(gaps.clone());
        self.gaps_ns.extend(gaps);
        let [p50, p99, max] = [found.p50, found.p99, found.max].map(ms);
        format!("gap p50 {p50:.1}, p99 {p99:.1}, longest {max:.1} ms")
    }

    /// The figures of all runs; `goals` for the median and the 99th percentile.
    pub fn facts(self, goals: Option<(f64, f64)>) -> Vec<Fact> {
        let mut facts = vec![
            Fact::new("connections", self.all as f64, ""),
            Fact::new("of them byte-exact to their end", self.survived as f64, "")
                .goal(Bound::AtLeast(self.all as f64)),
        ];
        facts.extend(self.gaps("gap", goals));
        facts
    }

    /// The gaps alone, by this name.
    pub fn gaps(self, name: &str, goals: Option<(f64, f64)>) -> Vec<Fact> {
        let found = Percentiles::of(self.gaps_ns);
        let gap = |which: &str, ns, goal: Option<f64>| {
            let fact = Fact::new(format!("{name}, {which}"), ms(ns), "ms");
            match goal {
                Some(goal) => fact.goal(Bound::AtMost(goal)),
                None => fact,
            }
        };
        vec![
            gap("p50", found.p50, goals.map(|goals| goals.0)),
            gap("p99", found.p99, goals.map(|goals| goals.1)),
            gap("longest", found.max, None),
        ]
    }
}

/// Nanoseconds as milliseconds.
pub fn ms(ns: u64) -> f64 {
    ns as f64 / 1e6
}
