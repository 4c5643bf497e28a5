//! How a takeover grows with the number of connections: the busy ones should hardly notice that very many idle ones are there.
//!
//! Small and large turn have nodes with the same limits (but for the largest), and the same paced connections at a pace that shows a
//! gap of some milliseconds; idle ones are made of frames ([`crate::flows`]). It is the takeover of `beside crash --flows`: of services that the
//! nodes answer themselves, so that no kernel stands behind 100 000 connections.
//!
//! Units: milliseconds.

use tools::demo::bed::Layout;
use tools::load::report::{Outcome, Percentiles};

use super::measure::Sample;
use crate::Common;
use crate::crash::die;
use crate::moving::{WINDOW_NS, ms};
use crate::stage::Stage;

/// Connections that move.
const BUSY: u64 = 100;

/// Metrics of a turn: gaps at two ranks, and the share of connections that survived.
type Names = [&'static str; 3];

/// Names of a turn's metrics.
macro_rules! names {
    ($flows:literal) => {
        [
            concat!($flows, " flows: gap p50"),
            concat!($flows, " flows: gap p99"),
            concat!($flows, " flows: survived"),
        ]
    };
}

const FEW: Turn = (100, names!("100"));
const MANY: Turn = (100_000, names!("100 000"));

/// A turn: connections in all, and the names.
pub type Turn = (u32, Names);

/// Each run has these.
pub const COMPARED_TURNS: [Turn; 2] = [FEW, MANY];

/// And the first one these: to open a million takes half a minute.
pub const FURTHER_TURNS: [Turn; 3] =
    [(1_000, names!("1 000")), (10_000, names!("10 000")), (1_000_000, names!("1 000 000"))];

/// Seconds that the deaths of a run take.
pub fn run_seconds(run: u32) -> f64 {
    if run == 1 { 110.0 } else { 26.0 }
}

/// The ranks at which gaps are compared, and the metrics of both turns.
pub const COMPARED: [(&str, [&str; 2]); 2] =
    [("p50", [MANY.1[0], FEW.1[0]]), ("p99", [MANY.1[1], FEW.1[1]])];

/// A death in each of these turns.
pub fn take(common: &Common, turns: &[Turn]) -> anyhow::Result<Vec<Sample>> {
    let stage = Stage::new(common, "growth", Layout::default())?;
    let mut samples = Vec::new();
    for (flows, names) in turns {
        let mut setup = stage.setup();
        setup.flows = (*flows).max(MANY.0) + 1_000;
        setup.idle_secs = 86_400;
        let death = die(&stage, common, &setup, (BUSY, flows - BUSY as u32))?;
        let (from, all) = (death.killed_ns, &death.connections);
        let gaps = all.iter().map(|one| one.gap_ns(from, from + WINDOW_NS)).collect();
        let found = Percentiles::of(gaps);
        let survived = all.iter().filter(|one| one.outcome == Outcome::Survived).count();
        let share = survived as f64 * 100.0 / all.len().max(1) as f64;
        let values = [(ms(found.p50), "ms"), (ms(found.p99), "ms"), (share, "%")];
        let named = names.iter().copied().zip(values);
        samples.extend(named.map(|(metric, (value, unit))| Sample { metric, unit, value }));
    }
    Ok(samples)
}
