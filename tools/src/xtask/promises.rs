//! The tests that the documents name, checked against those that there are.
//!
//! Every name in backticks in the last column of a table of `tests/SPECIFICATION.md` and `cluster/HAZARDS.md`, of the table of
//! what was found in `tests/SIMULATOR.md`, of the table of claims in `ARCHITECTURE.md` and of the table of features in `README.md`, is a test, a module of tests or a file of tests that exists; every place
//! `file.rs: function` in the column before is there. A `*` stands for anything. Where that column says "no", no test is
//! wanted.

use std::io;
use std::path::{Path, PathBuf};

/// The documents, and what stands in the head of the tables that count.
const DOCUMENTS: [(&str, &str); 5] = [
    ("README.md", "| feature |"),
    ("tests/SPECIFICATION.md", "| promise |"),
    ("cluster/HAZARDS.md", "| hazard |"),
    ("tests/SIMULATOR.md", "| fault |"),
    ("ARCHITECTURE.md", "| point |"),
];

/// A test, as `cargo test` finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Test {
    /// The package.
    pub package: String,
    /// The integration test that it is in; `None` for one of the library or of a program.
    pub target: Option<String>,
    /// Modules and function, behind the target's name if there is one.
    pub path: String,
}

impl Test {
    /// As its own program may name it: an integration test's name is a part of that if it has a module of that name.
    pub fn paths_in_program(&self) -> Vec<&str> {
        let inner = self.target.as_ref().and_then(|_| Some(self.path.split_once("::")?.1));
        inner.into_iter().chain([self.path.as_str()]).collect()
    }
}

/// What was found.
#[derive(Debug, Default)]
pub struct Report {
    /// Rows looked at.
    pub rows: usize,
    /// Rows whose test is still to be written, as they say.
    pub pending: usize,
    /// What is wrong, one sentence each.
    pub mistakes: Vec<String>,
}

/// Checks the documents of the repository at `root`.
pub fn check(root: &Path) -> io::Result<Report> {
    let tests = all_tests(root)?;
    let mut report = Report::default();
    for (document, head) in DOCUMENTS {
        let text = std::fs::read_to_string(root.join(document))?;
        check_document(root, document, &text, head, &tests, &mut report);
    }
    Ok(report)
}

fn check_document(
    root: &Path,
    document: &str,
    text: &str,
    head: &str,
    tests: &[Test],
    report: &mut Report,
) {
    let mut counts = false;
    for (number, line) in (1..).zip(text.lines()) {
        let Some(row) = line.trim().strip_prefix('|').and_then(|row| row.strip_suffix('|')) else {
            counts = false;
            continue;
        };
        let is_head = line.starts_with(head);
        if is_head || !counts || row.starts_with("--") {
            counts |= is_head;
            continue;
        }
        report.rows += 1;
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [.., places, last] = cells[..] else { continue };
        report.pending += usize::from(last.contains("[test pending]"));
        if places != "no" && !last.contains('`') && !last.contains("[test pending]") {
            report.mistakes.push(format!("{document}:{number}: names no test"));
        }
        for name in backticked(last).filter(|name| !exists(root, name, tests)) {
            report.mistakes.push(format!("{document}:{number}: there is no test `{name}`"));
        }
        for (file, name) in backticked(places).filter_map(|place| place.split_once(".rs: ")) {
            let source = std::fs::read_to_string(root.join(format!("{file}.rs")));
            if !source.is_ok_and(|source| source.contains(name)) {
                report.mistakes.push(format!("{document}:{number}: no `{name}` in {file}.rs"));
            }
        }
    }
}

fn backticked(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Whether a name stands for something: a file, a check of the kit, or at least one test.
fn exists(root: &Path, name: &str, tests: &[Test]) -> bool {
    if name.ends_with(".rs") {
        return root.join(name).is_file();
    }
    if name.starts_with("cargo ") || name.starts_with("understudy ") || name.starts_with("make ") {
        return true;
    }
    let of_kit = name.strip_prefix("kit::").map(|name| name.replace("::", "/") + ".rs");
    if of_kit.is_some_and(|file| root.join("tests/src/kit").join(file).is_file()) {
        return true;
    }
    if let Some((module, function)) = name.strip_prefix("kit::").and_then(|n| n.rsplit_once("::")) {
        let file = root.join("tests/src/kit").join(module.replace("::", "/") + ".rs");
        let source = std::fs::read_to_string(file).unwrap_or_default();
        return source.contains(&format!("fn {function}("));
    }
    !named(name, tests).is_empty()
}

/// The tests for which a name stands: a test, all of a module or target, or all that fit a pattern.
pub fn named<'a>(name: &str, tests: &'a [Test]) -> Vec<&'a Test> {
    tests.iter().filter(|test| stands_for(name, &test.path)).collect()
}

fn stands_for(name: &str, path: &str) -> bool {
    let of_path = |wanted: &str| {
        let at_end = path == wanted || path.ends_with(&format!("::{wanted}"));
        let above = format!("{wanted}::");
        at_end || path.starts_with(&above) || path.contains(&format!("::{above}"))
    };
    match name.split_once('*') {
        None => of_path(name),
        Some((before, after)) => {
            let rest = path.find(before).map(|at| &path[at + before.len()..]);
            rest.is_some_and(|rest| rest.ends_with(after))
        }
    }
}

/// Every test of the repository.
pub fn all_tests(root: &Path) -> io::Result<Vec<Test>> {
    let mut tests = Vec::new();
    for package in ["stack", "cluster", "dataplane", "tools", "tests"] {
        collect(&root.join(package).join("src"), package, None, &[], &mut tests)?;
        let targets = root.join(package).join("tests");
        if !targets.is_dir() {
            continue;
        }
        for entry in std::fs::read_dir(&targets)? {
            let path = entry?.path();
            let Some(target) = rust_stem(&path) else { continue };
            let modules = [target.clone()];
            add_file(&path, package, Some(&target), &modules, &mut tests)?;
            collect(&targets.join(&target), package, Some(&target), &modules, &mut tests)?;
        }
    }
    Ok(tests)
}

/// The tests of all files below `folder`, whose modules are below `modules`.
fn collect(
    folder: &Path,
    package: &str,
    target: Option<&str>,
    modules: &[String],
    tests: &mut Vec<Test>,
) -> io::Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let mut below = modules.to_vec();
        if !["lib", "main"].contains(&name.as_str()) {
            below.push(name);
        }
        if path.is_dir() {
            collect(&path, package, target, &below, tests)?;
        } else if rust_stem(&path).is_some() {
            add_file(&path, package, target, &below, tests)?;
        }
    }
    Ok(())
}

fn add_file(
    path: &PathBuf,
    package: &str,
    target: Option<&str>,
    modules: &[String],
    tests: &mut Vec<Test>,
) -> io::Result<()> {
    let source = std::fs::read_to_string(path)?;
    // Unit tests are at the foot of their file, in a module of that name, or in a file of that name.
    let is_at_foot = source.contains("mod tests {");
    for name in super::rfc::tests_of(&source) {
        let inner = if is_at_foot { "tests::" } else { "" };
        let path = modules.join("::") + "::" + inner + &name;
        tests.push(Test { package: package.into(), target: target.map(Into::into), path });
    }
    Ok(())
}

fn rust_stem(path: &Path) -> Option<String> {
    let is_rust = path.extension().is_some_and(|extension| extension == "rs");
    is_rust.then(|| path.file_stem().unwrap_or_default().to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stands_for_a_test_a_module_or_a_pattern() {
        let path = "kill::a_download_survives_every_death";
        for name in
            ["a_download_survives_every_death", path, "kill", "kill::*_survives_every_death"]
        {
            assert!(stands_for(name, path), "{name}");
        }
        for name in ["download", "skill", "kill::a_download", "kill::*_every", "gate"] {
            assert!(!stands_for(name, path), "{name}");
        }
    }

    #[test]
    fn mistakes_are_found() {
        let text = "| promise | where | test |\n|---|---|---|\n| a | b | `kill::real` |\n| c | d | `unreal` |\n\
            | e | f | nothing |\n| g | h | [test pending] |\n| i | no | |\n\n| other | table |\n| x | `unreal` |\n";
        let real = Test { package: "tests".into(), target: None, path: "kill::real".into() };
        let mut report = Report::default();
        check_document(Path::new("."), "x.md", text, "| promise |", &[real], &mut report);
        assert_eq!((report.rows, report.pending), (5, 1));
        assert_eq!(report.mistakes, ["x.md:4: there is no test `unreal`", "x.md:5: names no test"]);
    }

    #[test]
    fn the_documents_name_tests_that_exist() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let report = check(&root).unwrap();
        assert!(report.rows > 60, "{} rows", report.rows);
        assert!(report.mistakes.is_empty(), "{:#?}", report.mistakes);
    }
}
