//! Paced downloads and uploads, every byte verified, and how long each of them stood still.
//!
//! The clients are those of the demo ([`crate::load`]); this is their table for people. With `--json` their lines of JSON come
//! as they are: progress while they run, and every connection at the end.

use std::fmt::Write;

use clap::Args;

use crate::load::RunArgs;
use crate::load::engine;
use crate::load::report::{ConnectionReport, Kind, LoadResult, Outcome, Percentiles};
use crate::print;

/// Arguments of `understudy bench paced`.
#[derive(Args, Debug, Clone)]
pub struct PacedArgs {
    /// How many of which kind.
    #[command(flatten)]
    pub run: RunArgs,
    /// Print progress and every connection as JSON lines.
    #[arg(long)]
    pub json: bool,
}

/// Runs them; whether every connection ended as it should.
pub fn main(args: &PacedArgs) -> anyhow::Result<bool> {
    let result = match args.json {
        true => engine::run(&args.run, engine::emit)?,
        false => engine::run(&args.run, |_| Ok(()))?,
    };
    if !args.json {
        print(&table(&result));
    }
    Ok(result.connections.iter().all(survived))
}

fn survived(connection: &ConnectionReport) -> bool {
    connection.outcome == Outcome::Survived
}

fn table(result: &LoadResult) -> String {
    let mut text = String::new();
    let head = ["connections", "survived", "MB", "still p50", "p99", "longest, ms"];
    let head: String = head.iter().map(|word| format!("{word:>13}")).collect();
    let _ = writeln!(text, "{:<18}{head}", "");
    for kind in Kind::ALL {
        let of_kind = || result.connections.iter().filter(|one| one.kind == kind);
        if of_kind().next().is_none() {
            continue;
        }
        let still = Percentiles::of(of_kind().map(|one| one.gap_ns(0, u64::MAX)).collect());
        let bytes: u64 = of_kind().map(|one| one.bytes).sum();
        let well = of_kind().filter(|one| survived(one)).count();
        let _ = write!(text, "{kind:<18}{:>13}{well:>13}", of_kind().count());
        let _ = write!(text, "{:>13.1}", bytes as f64 / 1e6);
        for ns in [still.p50, still.p99, still.max] {
            let _ = write!(text, "{:>13.1}", ns as f64 / 1e6);
        }
        text.push('\n');
    }
    for one in result.connections.iter().filter(|one| !survived(one)) {
        let note = one.note.as_deref().unwrap_or("no reason known");
        let _ = writeln!(text, "{} {}: {:?}, {note}", one.kind, one.id, one.outcome);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::report::Interval;
    use crate::load::series::Series;

    #[test]
    fn each_kind_has_its_row_and_each_loss_its_reason() {
        let connection = |id, outcome| ConnectionReport {
            kind: Kind::Download,
            id,
            outcome,
            note: Some("connection reset".into()),
            bytes: 2_000_000,
            start_ns: 0,
            open_ns: None,
            end_ns: 10,
            ordinary_ns: 1_000_000,
            longest: vec![Interval { start_ns: 0, end_ns: 41_000_000 }],
        };
        let connections = vec![connection(1, Outcome::Survived), connection(2, Outcome::Reset)];
        let (echo_rtt_ns, series) = (Percentiles::default(), Series::new(0));
        let text = table(&LoadResult { connections, echo_rtt_ns, series });
        let row = text.lines().find(|line| line.starts_with("paced downloads")).unwrap();
        let cells: Vec<&str> = row.split_whitespace().skip(2).collect();
        assert_eq!(cells, ["2", "1", "4.0", "40.0", "40.0", "40.0"], "{text}");
        assert!(text.contains("paced downloads 2: Reset, connection reset"), "{text}");
    }
}
