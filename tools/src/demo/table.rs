//! A table instead of one story: what a small request costs when its owner dies, in each way of hearing, and without.
//!
//! The echo connections of the load say a line, wait for it, and pause for longer than a round trip: so at most one
//! request is on the wire when the owner dies, and nothing follows that could make up for it.

use std::fmt::Write;
use std::path::Path;

use clap::ValueEnum;
use serde::Serialize;

use super::bed::Snoop;
use super::outcome::RunOutcome;
use super::{Appliance, DemoArgs, KillMode, story};
use crate::load::report::{Kind, Percentiles};

/// Which table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Table {
    /// Crash and loss of power, with every way of hearing and without.
    Snoop,
}

/// Seconds that the transfers of one run last, unless told otherwise.
const SECONDS: u64 = 4;

/// What happens to the owners.
const KILLS: [KillMode; 2] = [KillMode::Sigkill, KillMode::Power];

/// Bytes of each curl transfer at most: it is the small requests that the table is about.
const SIZE_MAX: u64 = 16 << 20;

/// What happens to the owner, and how its peer hears.
pub type Cell = (KillMode, Snoop);

/// Reads one, `sigkill:flooded` say.
pub fn cell(text: &str) -> Result<Cell, String> {
    let (kill, snoop) = text.split_once(':').ok_or("write KILL:WAY, sigkill:flooded say")?;
    let kill = KillMode::from_str(kill, false).map_err(|_| format!("{kill}: no such kill"))?;
    let snoop = Snoop::from_str(snoop, false).map_err(|_| format!("{snoop}: no such way"))?;
    if !KILLS.contains(&kill) {
        return Err("the table is of sigkill and power".into());
    }
    Ok((kill, snoop))
}

/// The run with the longest silence of a row, and where that takeover spent its time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Worst {
    /// Which run, from 1.
    pub run: usize,
    /// The silence.
    pub gap_ns: u64,
    /// Phases of the slowest takeover of that run: names and microseconds.
    pub phases: Vec<(String, u64)>,
}

/// A row: what happened to the owner, and how its peer heard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// What happened.
    pub kill: String,
    /// The way of hearing.
    pub snoop: String,
    /// How often.
    pub runs: u32,
    /// Of these, with every connection byte-exact.
    pub passed: u32,
    /// Echo connections of all runs.
    pub connections: u64,
    /// Of these, the ones that survived.
    pub survived: u64,
    /// The longest silence of each of them around the kill.
    pub gap_ns: Percentiles,
    /// The longest of them.
    pub worst: Option<Worst>,
}

/// Runs every cell `args.runs` times. `tell_row` hears of each row when it is complete.
pub fn play(
    args: &DemoArgs,
    out: &Path,
    mut tell_row: impl FnMut(&Row),
) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for kill in KILLS {
        for snoop in Snoop::value_variants() {
            if !args.cells.is_empty() && !args.cells.contains(&(kill, *snoop)) {
                continue;
            }
            let args = DemoArgs {
                kill,
                snoop: *snoop,
                appliance: Appliance::Understudy,
                seconds: args.seconds.or(Some(SECONDS)),
                size: args.size.min(SIZE_MAX),
                ..args.clone()
            };
            let runs = (1..=args.runs).map(|number| {
                let told = story::tell(&args, out, number);
                super::forget_standing();
                told
            });
            let row = row(kill, *snoop, &runs.collect::<anyhow::Result<Vec<_>>>()?);
            tell_row(&row);
            rows.push(row);
        }
    }
    Ok(rows)
}

fn row(kill: KillMode, snoop: Snoop, runs: &[RunOutcome]) -> Row {
    let name = Kind::Echo.to_string();
    let echoes = runs.iter().flat_map(|run| run.rows.iter().filter(|row| row.name == name));
    let gaps = echoes.clone().flat_map(|row| row.gaps_ns.iter().copied()).collect();
    Row {
        kill: word(&kill),
        snoop: word(&snoop),
        runs: runs.len() as u32,
        passed: runs.iter().filter(|run| is_whole(run)).count() as u32,
        connections: echoes.clone().map(|row| row.connections).sum(),
        survived: echoes.map(|row| row.survived).sum(),
        gap_ns: Percentiles::of(gaps),
        worst: worst(runs, &name),
    }
}

fn worst(runs: &[RunOutcome], name: &str) -> Option<Worst> {
    let longest = |run: &RunOutcome| {
        let rows = run.rows.iter().filter(|row| row.name == name);
        rows.flat_map(|row| row.gaps_ns.iter().copied()).max()
    };
    let gaps = runs.iter().enumerate().filter_map(|(at, run)| Some((longest(run)?, at)));
    let (gap_ns, at) = gaps.max()?;
    let takeovers = runs[at].takeovers.iter();
    let slowest =
        takeovers.max_by_key(|takeover| takeover.phases.iter().map(|(_, us)| us).sum::<u64>());
    let phases = slowest.map_or(Vec::new(), |takeover| takeover.phases.clone());
    Some(Worst { run: at + 1, gap_ns, phases })
}

fn is_whole(run: &RunOutcome) -> bool {
    !run.rows.is_empty() && run.rows.iter().all(|row| row.survived == row.connections)
}

/// As it is written on the command line.
fn word(value: &impl ValueEnum) -> String {
    value.to_possible_value().map_or(String::new(), |value| value.get_name().to_string())
}

/// Whether nothing was lost in any run.
pub fn passed(rows: &[Row]) -> bool {
    !rows.is_empty() && rows.iter().all(|row| row.passed == row.runs && row.runs > 0)
}

/// The table in text.
pub fn render(rows: &[Row]) -> String {
    let mut text = format!(
        "{:<10}{:<12}{:>8}{:>12}{:>12}{:>12}{:>12}\n",
        "kill", "hears by", "runs", "survived", "p50 ms", "p99 ms", "max ms"
    );
    for row in rows {
        let ms = |ns: u64| format!("{:.1}", ns as f64 / 1e6);
        let Percentiles { p50, p99, max, .. } = row.gap_ns;
        let _ = writeln!(
            text,
            "{:<10}{:<12}{:>8}{:>12}{:>12}{:>12}{:>12}",
            row.kill,
            row.snoop,
            format!("{}/{}", row.passed, row.runs),
            format!("{}/{}", row.survived, row.connections),
            ms(p50),
            ms(p99),
            ms(max),
        );
        if let Some(worst) = &row.worst {
            let phases = worst.phases.iter().map(|(name, us)| format!("{name} {}", ms(us * 1_000)));
            let phases = phases.collect::<Vec<_>>().join(", ");
            let _ = writeln!(text, "  longest {} in run {}: {phases}", ms(worst.gap_ns), worst.run);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::outcome::tests::sample;
    use super::*;
    use crate::load::report::Outcome;

    #[test]
    fn a_row_is_named_by_its_kill_and_its_way() {
        assert_eq!(cell("power:port-down"), Ok((KillMode::Power, Snoop::PortDown)));
        for wrong in ["sigkill", "sigkill:radio", "none:off", "power:"] {
            assert!(cell(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_row_holds_the_echoes_and_a_lost_connection_fails_the_table() {
        let good = sample(Outcome::Survived).runs;
        let of_good = row(KillMode::Power, Snoop::PortDown, &good);
        assert_eq!((of_good.connections, of_good.survived, of_good.passed), (1, 1, 1));
        assert_eq!(of_good.gap_ns.max, 41_000_000);
        let text = render(std::slice::from_ref(&of_good));
        assert!(text.contains("power     port-down"), "{text}");
        assert!(text.contains("41.0"), "{text}");
        assert!(text.contains("longest 41.0 in run 1: detect"), "{text}");
        let bad = row(KillMode::Sigkill, Snoop::Off, &sample(Outcome::Reset).runs);
        assert!(passed(std::slice::from_ref(&of_good)));
        assert!(!passed(&[of_good, bad]) && !passed(&[]));
    }
}
