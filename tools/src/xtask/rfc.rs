//! The table `stack/RFC.md`, checked against the tests that it names.
//!
//! A row is `| label | asks | status | where | test or reason |`. What is `in` names at least one
//! test in backticks; what is `partly`, `out` or `not applicable` says why. Every name in backticks
//! in the last column is a test that exists in `tests/` or `stack/src/`. Every place in the fourth,
//! `file.rs: name`, is there: below `stack/src/`, or in `dataplane/`. Every label of RFC 9293's
//! appendix B has a row.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

/// The labels of RFC 9293, appendix B: prefix and highest number.
const LABELS: [(&str, u32); 4] = [("MUST", 69), ("SHLD", 31), ("MAY", 18), ("REC", 1)];

/// What was found.
#[derive(Debug, Default)]
pub struct Report {
    /// Rows that are `in`.
    pub rows_in: usize,
    /// Rows that are `partly` in.
    pub rows_partly: usize,
    /// Rows that are `out`.
    pub rows_out: usize,
    /// Rows that are not applicable.
    pub rows_not_applicable: usize,
    /// Different tests that are named.
    pub tests: usize,
    /// What is wrong, one sentence each.
    pub mistakes: Vec<String>,
}

/// Checks the table of the repository at `root`.
pub fn check(root: &Path) -> io::Result<Report> {
    let table = std::fs::read_to_string(root.join("stack/RFC.md"))?;
    let mut tests = BTreeSet::new();
    for folder in ["tests/tests", "tests/src", "stack/src"] {
        collect_tests(&root.join(folder), &mut tests)?;
    }
    let mut report = check_table(&table, &tests);
    for (label, file, name) in table.lines().filter_map(cells).flat_map(|cells| places(&cells)) {
        let path = match file.strip_prefix("dataplane/") {
            Some(rest) => root.join("dataplane/src").join(rest),
            None => root.join("stack/src").join(&file),
        };
        let source = std::fs::read_to_string(path).unwrap_or_default();
        if source.is_empty() || !source.contains(&name) {
            report.mistakes.push(format!("{label}: there is no `{name}` in {file}"));
        }
    }
    Ok(report)
}

/// The places in a row: label, file, what is in it (empty: anything).
fn places(cells: &[&str]) -> Vec<(String, String, String)> {
    let [label, _, _, places, _] = cells[..] else { return Vec::new() };
    let place = |place: &str| {
        let (file, name) = place.split_once(": ").unwrap_or((place, ""));
        let name = name.rsplit("::").next().unwrap_or_default();
        let is_file = file.ends_with(".rs");
        is_file.then(|| (label.to_string(), file.to_string(), name.to_string()))
    };
    places.split(", ").filter_map(place).collect()
}

fn check_table(table: &str, tests: &BTreeSet<String>) -> Report {
    let mut report = Report::default();
    let (mut seen, mut named) = (BTreeSet::new(), BTreeSet::new());
    for (number, line) in table.lines().enumerate() {
        let Some(cells) = cells(line) else { continue };
        let [label, _, status, _, last] = cells[..] else {
            report.mistakes.push(format!("line {}: a row has five columns", number + 1));
            continue;
        };
        if label == "label" || label.starts_with("--") {
            continue;
        }
        if !seen.insert(label.to_string()) {
            report.mistakes.push(format!("{label}: has two rows"));
        }
        let names: Vec<&str> = last.split('`').skip(1).step_by(2).collect();
        for name in names.iter().filter(|name| !tests.contains(**name)) {
            report.mistakes.push(format!("{label}: there is no test `{name}`"));
        }
        check_status(label, status, last, names.len(), &mut report);
        named.extend(names.into_iter().map(str::to_string));
    }
    for (prefix, highest) in LABELS {
        for label in (1..=highest).map(|n| format!("{prefix}-{n}")) {
            if !seen.contains(&label) {
                report.mistakes.push(format!("{label}: has no row"));
            }
        }
    }
    report.tests = named.len();
    report
}

fn check_status(label: &str, status: &str, last: &str, names: usize, report: &mut Report) {
    let has_reason = last.split('`').step_by(2).any(|text| text.contains(char::is_alphabetic));
    let (count, is_complete, lack) = match status {
        "in" => (&mut report.rows_in, names > 0, "names no test"),
        "partly" => (&mut report.rows_partly, has_reason, "gives no reason"),
        "out" => (&mut report.rows_out, has_reason, "gives no reason"),
        "not applicable" => (&mut report.rows_not_applicable, has_reason, "gives no reason"),
        _ => {
            report.mistakes.push(format!("{label}: `{status}` is no status"));
            return;
        }
    };
    *count += 1;
    if !is_complete {
        report.mistakes.push(format!("{label}: is {status} and {lack}"));
    }
}

/// The cells of a row of a table; `None` if the line is none.
fn cells(line: &str) -> Option<Vec<&str>> {
    let row = line.trim().strip_prefix('|')?.strip_suffix('|')?;
    Some(row.split('|').map(str::trim).collect())
}

/// Adds the name of every function behind `#[test]` in the Rust files below `folder`.
fn collect_tests(folder: &Path, tests: &mut BTreeSet<String>) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect_tests(&path, tests)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            tests.extend(tests_of(&std::fs::read_to_string(&path)?));
        }
    }
    Ok(())
}

pub fn tests_of(source: &str) -> Vec<String> {
    let after = |part: &str| {
        let (_, rest) = part.split_once("fn ")?;
        rest.split_once('(').map(|(name, _)| name.to_string())
    };
    source.split("#[test]").skip(1).filter_map(after).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read() {
        let row = ["MUST-1", "x", "in", "wire.rs: Options::emit, flow.rs, by design", "y"];
        let place = |file: &str, name: &str| ("MUST-1".into(), file.into(), name.into());
        assert_eq!(places(&row), [place("wire.rs", "emit"), place("flow.rs", "")]);
    }

    #[test]
    fn mistakes_are_found() {
        let tests = BTreeSet::from_iter(tests_of("#[test]\nfn real() {}\nfn helper() {}"));
        assert_eq!(tests.len(), 1);
        let table = "| label | asks | status | where | test |\n|---|---|---|---|---|\n\
            | MUST-1 | x | in | y | `real` |\n| MUST-2 | x | in | y | nothing |\n\
            | MUST-3 | x | in | y | `unreal` |\n| MUST-4 | x | out | y | |\n| MUST-5 | x |\n\
            | MUST-1 | x | maybe | y | z |\n";
        let report = check_table(table, &tests);
        let rest = report.mistakes.iter().filter(|mistake| !mistake.ends_with("has no row"));
        assert_eq!(
            rest.collect::<Vec<_>>(),
            [
                "MUST-2: is in and names no test",
                "MUST-3: there is no test `unreal`",
                "MUST-4: is out and gives no reason",
                "line 7: a row has five columns",
                "MUST-1: has two rows",
                "MUST-1: `maybe` is no status",
            ]
        );
        assert_eq!(report.mistakes.len() - 6, 69 + 31 + 18 + 1 - 4);
        assert_eq!((report.rows_in, report.rows_out, report.tests), (3, 1, 2));
    }
}
