//! `cargo xtask scenario`: a named story, played by its tests, with what came of it in one table.
//!
//! The names and their tests stand in `tests/SPECIFICATION.md`, under "Scenarios". Each test says in a line what
//! became of its connections (`outcome: ...`), as far as it has counted that; the world of agents has none, checks at
//! every event that there is one voice at most, and says nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};
use clap::Args;

use crate::promises::{Test, all_tests, named};

/// Arguments of `cargo xtask scenario`.
#[derive(Args, Debug)]
pub struct ScenarioArgs {
    /// Its name; more than one may be given.
    names: Vec<String>,
    /// Lists the names and the tests of each.
    #[arg(long, conflicts_with_all = ["names", "all"])]
    list: bool,
    /// Plays all of them.
    #[arg(long, conflicts_with = "names")]
    all: bool,
}

/// A story and the names of its tests.
#[derive(Debug, PartialEq, Eq)]
struct Scenario {
    name: String,
    tests: Vec<String>,
}

/// What tests count beside the connections that survived, each with the head of its column.
const COUNTED: [(&str, &str); 5] = [
    ("unheld", "unheld"),
    ("resets", "resets"),
    ("wrong_bytes", "wrong bytes"),
    ("late_frames", "late frames"),
    ("two_voices", "two voices"),
];

/// What became of it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    tests: usize,
    /// Tests that could not be played here, and why.
    skipped: Vec<String>,
    failed: Vec<String>,
    connections: u64,
    survived: u64,
    /// What is in [`COUNTED`], as far as a test has.
    counts: BTreeMap<&'static str, u64>,
    /// p50, p99 and max of the gaps; the worst test counts.
    gaps_us: Option<[u64; 3]>,
}

/// Runs the subcommand; answers whether every test passed.
pub fn run(root: &Path, args: &ScenarioArgs) -> anyhow::Result<bool> {
    let text = std::fs::read_to_string(root.join("tests/SPECIFICATION.md"))?;
    let scenarios = read(&text);
    if args.list {
        for Scenario { name, tests } in &scenarios {
            println!("{name}\n    {}", tests.join("\n    "));
        }
        return Ok(true);
    }
    for name in &args.names {
        if !scenarios.iter().any(|scenario| scenario.name == *name) {
            bail!("there is no scenario {name:?}; `cargo xtask scenario --list` names them all");
        }
    }
    if args.names.is_empty() && !args.all {
        bail!("which? `--list` names them, `--all` plays all");
    }
    let tests = all_tests(root)?;
    let wanted = scenarios.iter().filter(|one| args.all || args.names.contains(&one.name));
    let mut played = Vec::new();
    for scenario in wanted {
        eprintln!("{} ...", scenario.name);
        played.push((scenario.name.clone(), play(root, scenario, &tests)?));
    }
    print!("{}", table(&played));
    Ok(played.iter().all(|(_, outcome)| outcome.failed.is_empty() && outcome.skipped.is_empty()))
}

/// The rows under "Scenarios": name, what happens, tests.
fn read(text: &str) -> Vec<Scenario> {
    let section = text.split("\n## ").find(|section| section.starts_with("Scenarios"));
    let rows = section.unwrap_or_default().lines().filter_map(|line| {
        let cells: Vec<&str> = line.strip_prefix("| ")?.split(" | ").collect();
        let [name, .., tests] = cells[..] else { return None };
        let tests = tests.split('`').skip(1).step_by(2).map(str::to_string).collect();
        Some(Scenario { name: name.to_string(), tests })
    });
    rows.filter(|scenario| !scenario.tests.is_empty()).collect()
}

/// Runs the tests of a scenario, those of one program together.
fn play(root: &Path, scenario: &Scenario, all: &[Test]) -> anyhow::Result<Outcome> {
    let tests: Vec<&Test> = scenario.tests.iter().flat_map(|name| named(name, all)).collect();
    let programs: BTreeSet<_> = tests.iter().map(|test| (&test.package, &test.target)).collect();
    let mut outcome = Outcome::default();
    let is_nothing = |name: &&String| named(name, all).is_empty();
    let missing = scenario.tests.iter().filter(is_nothing);
    outcome.failed.extend(missing.map(|name| format!("there is no test {name:?}")));
    for (package, target) in programs {
        let mut command = Command::new(env!("CARGO"));
        command.current_dir(root).args(["test", "-q", "-p", package]);
        match target {
            Some(target) => command.args(["--test", target]),
            None => command.arg("--lib"),
        };
        let of_program =
            tests.iter().filter(|one| (&one.package, &one.target) == (package, target));
        let of_program: Vec<&&Test> = of_program.collect();
        let paths = of_program.iter().flat_map(|test| test.paths_in_program());
        command.args(["--", "--nocapture", "--exact"]).args(paths);
        let output = command.output().with_context(|| format!("running {command:?}"))?;
        let text =
            String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        let passed = outcome.add(&text);
        let wanted = of_program.len();
        if !output.status.success() || passed != wanted {
            outcome.failed.push(format!("{command:?}: {passed} of {wanted} passed\n{text}"));
        }
    }
    Ok(outcome)
}

impl Outcome {
    /// Takes what the tests of one program have said; answers how many have passed.
    fn add(&mut self, text: &str) -> usize {
        let mut passed = 0;
        for line in text.lines() {
            if let Some((_, result)) = line.split_once("test result: ") {
                let counts = result.split_once(". ").map_or("", |(_, counts)| counts);
                passed += counts.split(' ').next().map_or(0, |count| count.parse().unwrap_or(0));
            }
            if let Some((_, reason)) = line.split_once("skipped: ") {
                self.skipped.push(reason.to_string());
            }
            let Some(at) = line.find("outcome: ") else { continue };
            for word in line[at..].split(' ') {
                let Some((key, value)) = word.split_once('=') else { continue };
                let numbers: Vec<u64> = value.split('/').filter_map(|n| n.parse().ok()).collect();
                self.note(key, &numbers);
            }
        }
        self.tests += passed;
        passed
    }

    fn note(&mut self, key: &str, numbers: &[u64]) {
        match (key, numbers) {
            ("survived", [survived, connections]) => {
                self.survived += survived;
                self.connections += connections;
            }
            ("gaps_us", &[p50, p99, max]) => {
                let worst = self.gaps_us.get_or_insert([0; 3]);
                *worst = [worst[0].max(p50), worst[1].max(p99), worst[2].max(max)];
            }
            (_, [count]) => {
                let known = COUNTED.iter().find(|(known, _)| *known == key);
                if let Some((known, _)) = known {
                    *self.counts.entry(known).or_default() += count;
                }
            }
            _ => {}
        }
    }
}

fn table(played: &[(String, Outcome)]) -> String {
    let mut text = format!("{:<28}{:>7}{:>15}", "scenario", "tests", "survived");
    for (_, head) in COUNTED {
        text += &format!("{head:>13}");
    }
    text += &format!("{:>26}\n", "gap p50/p99/max ms");
    for (name, outcome) in played {
        let survived = match outcome.connections {
            0 => "of agents".to_string(),
            connections => format!("{}/{connections}", outcome.survived),
        };
        text += &format!("{name:<28}{:>7}{survived:>15}", outcome.tests);
        for (key, _) in COUNTED {
            let count = outcome.counts.get(key).map_or("-".to_string(), u64::to_string);
            text += &format!("{count:>13}");
        }
        let gaps = outcome.gaps_us.map_or("-".to_string(), |gaps| {
            gaps.map(|us| format!("{:.1}", us as f64 / 1_000.0)).join("/")
        });
        text += &format!("{gaps:>26}");
        text += &match (outcome.failed.is_empty(), outcome.skipped.len()) {
            (false, _) => "  FAILED\n".to_string(),
            (true, 0) => "\n".to_string(),
            (true, skipped) => format!("  {skipped} SKIPPED\n"),
        };
    }
    for (name, outcome) in played {
        for reason in &outcome.skipped {
            text += &format!("\n{name}: a test was skipped: {reason}\n");
        }
        for failure in &outcome.failed {
            text += &format!("\n{failure}\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_scenarios_is_read() {
        let text = "# x\n\n## Scenarios\n\nWords.\n\n| scenario | story | test |\n|---|---|---|\n\
            | crash | it dies | `a::b`, `c` |\n\n## Else\n\n| crash | no | `d` |\n";
        let tests = vec!["a::b".to_string(), "c".to_string()];
        assert_eq!(read(text), [Scenario { name: "crash".into(), tests }]);
    }

    #[test]
    fn outcomes_add_up_and_the_worst_gap_counts() {
        let mut outcome = Outcome::default();
        outcome
            .add("x outcome: survived=3/4 resets=1 wrong_bytes=0 late_frames=2 gaps_us=5/6/70\n");
        let last = "outcome: survived=1/1 gaps_us=9/1/7\ntest result: ok. 2 passed; 0 failed\n";
        assert_eq!(outcome.add(last), 2);
        assert_eq!((outcome.survived, outcome.connections, outcome.tests), (4, 5, 2));
        let counts = ["resets", "wrong_bytes", "late_frames", "unheld"];
        let counts = counts.map(|key| outcome.counts.get(key).copied());
        assert_eq!(counts, [Some(1), Some(0), Some(2), None], "nobody counted the last");
        assert_eq!(outcome.gaps_us, Some([9, 6, 70]));
        let shown = table(&[("crash".into(), outcome)]);
        assert!(shown.contains("4/5") && shown.contains("0.0/0.0/0.1"), "{shown}");
    }
    /// What was not played has not passed.
    #[test]
    fn a_skipped_test_is_told_and_counts_as_none() {
        let mut outcome = Outcome::default();
        let passed = outcome.add("skipped: needs CAP_BPF\ntest result: ok. 1 passed; 0 failed\n");
        assert_eq!((passed, outcome.skipped.len()), (1, 1));
        let shown = table(&[("crash".into(), outcome)]);
        assert!(shown.contains("1 SKIPPED") && shown.contains("needs CAP_BPF"), "{shown}");
        let mut outcome = Outcome::default();
        assert_eq!(outcome.add("test result: ok. 0 passed; 0 failed; 7 filtered out"), 0);
        let text = "test a ... ok\ntest b ... FAILED\ntest result: FAILED. 1 passed; 1 failed\n";
        assert_eq!(outcome.add(text), 1);
    }
}
