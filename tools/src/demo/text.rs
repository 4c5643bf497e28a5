//! The outcome for a terminal.

use std::fmt::Write;

use super::outcome::{Picture, Restored, RunOutcome, Summary};
use crate::load::report::Kind;

/// What the gap of a table is.
pub const GAP_NOTE: &str = "Gap: the longest time without progress after the kill, less what is \
    ordinary for the connection;\nfor new connections: from connect to the last byte, if under way \
    within 1 s behind the kill.";

/// Columns of the picture.
const COLUMNS: usize = 100;

/// Shown before the kill.
const BEFORE_NS: u64 = 100_000_000;

/// Shown behind the kill at least, and at most.
const AFTER_MIN_NS: u64 = 400_000_000;
const AFTER_MAX_NS: u64 = 2_400_000_000;

const MS: f64 = 1_000_000.0;

/// Table, phases, picture and verdict.
pub fn report(summary: &Summary) -> String {
    let mut text = String::from("\n");
    table(&mut text, summary);
    if summary.runs.len() > 1 {
        phases(&mut text, &summary.runs);
    }
    if let Some(run) = summary.runs.last() {
        text += "\n";
        takeover(&mut text, run);
        sparklines(&mut text, run);
        for failure in &run.failures {
            let _ = writeln!(text, "Failed: {}", failure.trim_end());
        }
    }
    let (all, survived) = summary.totals();
    let _ = match summary.passed() {
        true => writeln!(text, "\nAll {all} connections survived, byte-exact."),
        false if all == survived => writeln!(text, "\nTwo nodes have spoken for one connection."),
        false => writeln!(text, "\n{} of {all} connections did not survive.", all - survived),
    };
    text
}

/// One run of several.
pub fn one_line(number: u32, run: &RunOutcome) -> String {
    let sum = |count: fn(&super::outcome::Row) -> u64| run.rows.iter().map(count).sum::<u64>();
    let (all, survived) = (sum(|row| row.connections), sum(|row| row.survived));
    let gap = run.rows.iter().flat_map(|row| &row.gaps_ns).max().copied().unwrap_or(0);
    let gap = gap as f64 / MS;
    let late = run.late_voices.map_or(String::new(), |late| format!(", {late} frames out of turn"));
    format!(
        "run {number}: {survived} of {all} connections survived, largest gap {gap:.1} ms{late}\n"
    )
}

fn table(text: &mut String, summary: &Summary) {
    let _ = writeln!(
        text,
        "{:<17}{:>12}{:>10}{:>8}{:>13}{:>9}{:>9}{:>13}{:>10}{:>10}",
        "",
        "connections",
        "survived",
        "resets",
        "wrong bytes",
        "stalled",
        "refused",
        "gap p50 ms",
        "p99 ms",
        "max ms"
    );
    for row in &summary.rows {
        let _ = write!(
            text,
            "{:<17}{:>12}{:>10}{:>8}{:>13}{:>9}{:>9}",
            row.name,
            row.connections,
            row.survived,
            row.resets,
            row.wrong_bytes,
            row.stalled,
            row.refused
        );
        let _ = match row.gap_ns() {
            Some(gap) => writeln!(
                text,
                "{:>13.1}{:>10.1}{:>10.1}",
                gap.p50 as f64 / MS,
                gap.p99 as f64 / MS,
                gap.max as f64 / MS
            ),
            None => writeln!(text, "{:>13}{:>10}{:>10}", "-", "-", "-"),
        };
    }
    let _ = writeln!(text, "{GAP_NOTE}");
}

/// The phases of all takeovers, and when clients saw the first byte.
fn phases(text: &mut String, runs: &[RunOutcome]) {
    let mut spans: Vec<(String, Vec<u64>)> = Vec::new();
    let mut add = |name: &str, us: u64| match spans.iter_mut().find(|(known, _)| known == name) {
        Some((_, span)) => span.push(us),
        None => spans.push((name.to_string(), vec![us])),
    };
    for run in runs {
        for (name, us) in run.takeovers.iter().flat_map(|takeover| &takeover.phases) {
            add(name, *us);
        }
        if let Some(first) = run.first_byte_ns.filter(|_| run.kill != "none") {
            add("first byte at a client", first / 1_000);
        }
    }
    let _ = writeln!(
        text,
        "\n{:<24}{:>10}{:>12}{:>12}{:>12}",
        "takeover phase", "", "p50", "p99", "max"
    );
    for (name, mut span) in spans {
        span.sort_unstable();
        let at = |share: usize| micros(span[(span.len() * share).div_ceil(100).max(1) - 1]);
        let _ = writeln!(
            text,
            "{name:<24}{:>10}{:>12}{:>12}{:>12}",
            format!("n = {}", span.len()),
            at(50),
            at(99),
            at(100)
        );
    }
}

fn takeover(text: &mut String, run: &RunOutcome) {
    for takeover in &run.takeovers {
        let phases = takeover.phases.iter().map(|(name, us)| format!("{name} {}", micros(*us)));
        let phases: Vec<String> = phases.collect();
        let (service, flows) = (&takeover.service, takeover.flows);
        let _ = writeln!(text, "Takeover of {service}, {flows} flows: {}.", phases.join(", "));
    }
    if let Some(first) = run.first_byte_ns.filter(|_| run.kill != "none") {
        let _ =
            writeln!(text, "First byte at a client {:.1} ms after the kill.", first as f64 / MS);
    }
    let rtt = &run.echo_rtt_ns;
    let _ = writeln!(
        text,
        "Echo round trip over the whole run: p50 {}, p99 {}, max {}.",
        micros(rtt.p50 / 1_000),
        micros(rtt.p99 / 1_000),
        micros(rtt.max / 1_000)
    );
    stages(text, run);
    let _ = match &run.restored {
        Restored::NotNeeded => Ok(()),
        Restored::After { ms } => {
            writeln!(text, "Protected again {ms} ms after the node came back.")
        }
        Restored::Failed { why } => {
            let first = why.lines().next().unwrap_or_default();
            writeln!(text, "The pair was not protected again: {first}")
        }
    };
}

/// What each moment of the story cost, and whether anybody spoke out of turn.
fn stages(text: &mut String, run: &RunOutcome) {
    for stage in &run.stages {
        let gap = &stage.gap_ns;
        let [p50, p99, max] = [gap.p50, gap.p99, gap.max].map(|ns| ns as f64 / MS);
        let (what, at) = (&stage.what, stage.after_ns as f64 / 1e9);
        let _ = writeln!(
            text,
            "At {at:6.2} s, {what:<28} gap p50 {p50:7.1} ms, p99 {p99:7.1} ms, max {max:7.1} ms ({} connections).",
            gap.count
        );
    }
    if let Some(late) = run.late_voices {
        let _ = writeln!(
            text,
            "Frames of a node for a connection that the other had answered since: {late}."
        );
    }
}

fn sparklines(text: &mut String, run: &RunOutcome) {
    let gap = run.rows.iter().flat_map(|row| &row.gaps_ns).max().copied().unwrap_or(0);
    let after = (gap + gap / 2).clamp(AFTER_MIN_NS, AFTER_MAX_NS);
    let bins = ((BEFORE_NS + after) / run.picture.bin_ns.max(1)) as usize;
    let per_column = bins.div_ceil(COLUMNS).max(1);
    let column_ms = per_column as u64 * run.picture.bin_ns / 1_000_000;
    let kill_column = (BEFORE_NS / 1_000_000 / column_ms.max(1)) as usize;
    let _ = writeln!(text, "\nGoodput around the kill, one column is {column_ms} ms:");
    let _ = writeln!(text, "{:<17}{:kill_column$}v", "", "");
    for kind in Kind::ALL {
        if let Some(line) = sparkline(&run.picture, kind, per_column) {
            let _ = writeln!(text, "{kind:<17}{line}");
        }
    }
}

/// One kind, each column against the highest of the row.
fn sparkline(picture: &Picture, kind: Kind, per_column: usize) -> Option<String> {
    const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let row = picture.bytes.get(&kind)?;
    let skip = (-picture.start_ns).saturating_sub(BEFORE_NS as i64).max(0) as u64;
    let first = (skip / picture.bin_ns.max(1)) as usize;
    let columns = row.get(first..)?.chunks(per_column).take(COLUMNS);
    let sums: Vec<u64> = columns.map(|bins| bins.iter().map(|b| u64::from(*b)).sum()).collect();
    let highest = sums.iter().copied().max().filter(|highest| *highest > 0)?;
    let level = |sum: u64| match sum {
        0 => ' ',
        sum => LEVELS[(sum * 8).div_ceil(highest).saturating_sub(1) as usize],
    };
    Some(sums.into_iter().map(level).collect())
}

/// Microseconds in a readable unit.
pub fn micros(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} us"),
        1_000..10_000_000 => format!("{:.1} ms", us as f64 / 1_000.0),
        _ => format!("{:.1} s", us as f64 / 1_000_000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::super::outcome::tests::sample;
    use super::*;
    use crate::load::report::Outcome;

    #[test]
    fn the_report_says_what_happened() {
        let text = report(&sample(Outcome::Survived));
        assert!(text.contains("All 3 connections survived, byte-exact."), "{text}");
        assert!(text.contains("Takeover of web, 3 flows: detect 30.0 ms, grant 400 us."), "{text}");
        assert!(text.contains("First byte at a client 40.0 ms after the kill."), "{text}");
        let mut twice = sample(Outcome::Survived);
        twice.runs.push(twice.runs[0].clone());
        let words: Vec<String> = report(&twice)
            .lines()
            .filter(|line| line.starts_with("detect"))
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        assert_eq!(words, ["detect n = 2 30.0 ms 30.0 ms 30.0 ms"]);
        let text = report(&sample(Outcome::Reset));
        assert!(text.contains("1 of 3 connections did not survive."), "{text}");
        assert!(text.contains("Failed: paced downloads number 2: Reset: gone"), "{text}");
    }

    #[test]
    fn the_silence_is_seen_where_the_kill_is() {
        let summary = sample(Outcome::Survived);
        let line = sparkline(&summary.runs[0].picture, Kind::Download, 1).unwrap();
        let columns: Vec<char> = line.chars().collect();
        assert_eq!((columns[9], columns[10], columns[29], columns[30]), ('█', ' ', ' ', '█'));
    }
}
