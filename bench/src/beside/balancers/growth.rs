//! How a takeover grows with the number of connections: the busy ones should hardly notice that very many idle ones are there.
//!
//! Small and large turn have nodes with the same limits, and the same paced connections at a pace that shows a gap of some
//! milliseconds; idle ones are made of frames ([`crate::flows`]). It is the takeover of `beside crash --flows`: of services that the
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

/// Connections in all of the large turn.
const MANY: u32 = 100_000;

/// Seconds that the two deaths of a run take.
pub const RUN_SECONDS: f64 = 26.0;

/// Metrics of a turn: gaps at two ranks, and the share of connections that survived.
type Names = [&'static str; 3];

const FEW_NAMES: Names = ["100 flows: gap p50", "100 flows: gap p99", "100 flows: survived"];
const MANY_NAMES: Names =
    ["100 000 flows: gap p50", "100 000 flows: gap p99", "100 000 flows: survived"];

/// The ranks at which gaps are compared, and the metrics of both turns.
pub const COMPARED: [(&str, [&str; 2]); 2] =
    [("p50", [MANY_NAMES[0], FEW_NAMES[0]]), ("p99", [MANY_NAMES[1], FEW_NAMES[1]])];

/// One death with few connections, and one with many.
pub fn take(common: &Common) -> anyhow::Result<Vec<Sample>> {
    let stage = Stage::new(common, "growth", Layout::default())?;
    let mut setup = stage.setup();
    setup.flows = setup.flows.max(MANY + 1_000);
    setup.idle_secs = 86_400;
    let mut samples = Vec::new();
    for (idle, names) in [(0, FEW_NAMES), (MANY - BUSY as u32, MANY_NAMES)] {
        let death = die(&stage, common, &setup, (BUSY, idle))?;
        let (from, all) = (death.killed_ns, &death.connections);
        let gaps = all.iter().map(|one| one.gap_ns(from, from + WINDOW_NS)).collect();
        let found = Percentiles::of(gaps);
        let survived = all.iter().filter(|one| one.outcome == Outcome::Survived).count();
        let share = survived as f64 * 100.0 / all.len().max(1) as f64;
        let values = [(ms(found.p50), "ms"), (ms(found.p99), "ms"), (share, "%")];
        let named = names.into_iter().zip(values);
        samples.extend(named.map(|(metric, (value, unit))| Sample { metric, unit, value }));
    }
    Ok(samples)
}
