//! `cargo xtask defects`: do the simulator's checks bite?
//!
//! `tests/defects.toml` lists deliberate defects, each a piece of source and what it is replaced by. All are planted in one
//! copy of the tree under `target/`, each behind a switch, so that one build serves them all; then the simulator plays
//! seeds with one after the other turned on until one fails. The product itself knows neither defects nor the switch.
//!
//! Bounds: `--count` seeds of each budget for a defect.

use anyhow::{Context, bail};
use clap::Args;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What the copy's lowest crate gets: the switch, which its simulator sets from the environment.
const SWITCH: &str = "
/// The deliberate defect that is turned on.
pub static PLANTED: core::sync::atomic::AtomicUsize = core::sync::atomic::AtomicUsize::new(usize::MAX);
/// Whether it is this one.
pub fn is_planted(index: usize) -> bool {
    PLANTED.load(core::sync::atomic::Ordering::Relaxed) == index
}
";
/// Where the simulator sets it.
const MAIN: &str = "fn main() -> ExitCode {\n";
const SET: &str = "    if let Ok(index) = std::env::var(\"PLANTED\") {
        stack::PLANTED.store(index.parse().expect(\"an index\"), Ordering::Relaxed);
    }
";
/// The document with the table, and what stands around it.
const DOCUMENT: &str = "tests/SIMULATOR.md";
const BEGIN: &str = "<!-- written by `cargo xtask defects --write` -->\n";
const END: &str = "<!-- end -->";

/// Arguments of `cargo xtask defects`.
#[derive(Args, Clone, Debug)]
pub struct DefectsArgs {
    /// Seeds of each budget that are played with a defect before it counts as not found.
    #[arg(long, default_value_t = 2000)]
    count: u64,
    /// Only defects whose name contains this.
    #[arg(long)]
    only: Option<String>,
    /// Defects that are hunted at once; as many as there are processors if not said.
    #[arg(long)]
    jobs: Option<usize>,
    /// Writes the table into tests/SIMULATOR.md; rows of defects that are not hunted stay as they are.
    #[arg(long)]
    write: bool,
}

/// The list.
#[derive(Deserialize, Debug)]
pub struct List {
    /// Its defects.
    pub defect: Vec<Defect>,
}

/// One deliberate defect.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Defect {
    /// What it is, in a few words. Several of one name are one that stands in several places.
    pub name: String,
    /// Where, from the root of the tree.
    pub file: PathBuf,
    /// The piece of source; it occurs once.
    pub before: String,
    /// What stands there instead; PLANTED is true while this defect is turned on.
    pub after: String,
}

impl List {
    /// The switch of a defect: the position of the first of its name.
    fn switch_of(&self, defect: &Defect) -> usize {
        let is_it = |known: &Defect| known.name == defect.name;
        self.defect.iter().position(is_it).expect("it is in the list")
    }
}

/// Reads the list of the tree at `root`.
pub fn read(root: &Path) -> anyhow::Result<List> {
    let path = root.join("tests/defects.toml");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    toml::from_str(&text).with_context(|| path.display().to_string())
}

impl Defect {
    /// Its file's text with the defect in it. Errors: the piece of source is not there, or not only once.
    fn plant(&self, index: usize, source: &str) -> anyhow::Result<String> {
        let before = self.before.trim_end();
        let found = source.matches(before).count();
        if found != 1 || !self.after.contains("PLANTED") {
            bail!("`{}`: its source occurs {found} times in {}", self.name, self.file.display());
        }
        let krate = if self.file.starts_with("stack") { "crate" } else { "::stack" };
        let after = self.after.replace("PLANTED", &format!("{krate}::is_planted({index})"));
        Ok(source.replacen(before, after.trim_end(), 1))
    }
}

/// Every file that is not as git has it: with its defects, or with the switch.
pub fn planted(root: &Path, list: &List) -> anyhow::Result<BTreeMap<PathBuf, String>> {
    let mut files: BTreeMap<PathBuf, String> = BTreeMap::new();
    let mut change = |file: &Path, by: &dyn Fn(&str) -> anyhow::Result<String>| {
        let source = match files.get(file) {
            Some(source) => source.clone(),
            None => {
                fs::read_to_string(root.join(file)).with_context(|| file.display().to_string())?
            }
        };
        files.insert(file.into(), by(&source)?);
        anyhow::Ok(())
    };
    for defect in &list.defect {
        let index = list.switch_of(defect);
        change(&defect.file, &|source| defect.plant(index, source))?;
    }
    change(Path::new("stack/src/lib.rs"), &|source| Ok(format!("{source}{SWITCH}")))?;
    change(Path::new("tests/src/bin/sim.rs"), &|source| {
        let (head, tail) = source.split_once(MAIN).context("the simulator has a `main`")?;
        Ok([head, MAIN, SET, tail].concat())
    })?;
    Ok(files)
}

/// What came of a defect.
#[derive(Debug)]
struct Found {
    /// The seed that found it; all before it were played and did not.
    seed: Option<u64>,
    is_beyond: bool,
    /// What the check said.
    word: String,
}

impl Found {
    fn row(&self, defect: &Defect) -> String {
        let by = match (self.seed, self.is_beyond) {
            (Some(seed), false) => format!("{}", seed + 1),
            (Some(seed), true) => format!("{}, beyond the budget", seed + 1),
            (None, _) => "NOT FOUND".into(),
        };
        format!("| {} | {by} | {} |\n", defect.name, self.word)
    }
}

/// Hunts for one defect after the other. `Ok(false)`: at least one was not found.
pub fn run(root: &Path, args: &DefectsArgs) -> anyhow::Result<bool> {
    let list = read(root)?;
    let tree = root.join("target/defects/tree");
    copy(root, &tree, &planted(root, &list)?)?;
    build(&tree)?;
    let is_wanted =
        |defect: &Defect| args.only.as_ref().is_none_or(|part| defect.name.contains(part));
    let rows: Mutex<BTreeMap<usize, anyhow::Result<Found>>> = Mutex::default();
    let (next, tree) = (AtomicUsize::new(0), &tree);
    let jobs =
        args.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(defect) = list.defect.get(index) else { break };
                    if list.switch_of(defect) == index && is_wanted(defect) {
                        let found = hunt(tree, index, args.count);
                        if let Ok(found) = &found {
                            eprint!("{}", found.row(defect));
                        }
                        rows.lock().expect("no hunt panicked").insert(index, found);
                    }
                }
            });
        }
    });
    let mut rows = rows.into_inner().expect("no hunt panicked");
    let path = root.join(DOCUMENT);
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let (head, known, tail) = around(&text)?;
    let mut table =
        "| defect | seeds to find it | what the check said |\n|---|---|---|\n".to_string();
    let mut all = true;
    for (index, defect) in list.defect.iter().enumerate() {
        match rows.remove(&index) {
            Some(found) => {
                let found = found.with_context(|| defect.name.clone())?;
                all &= found.seed.is_some();
                table += &found.row(defect);
            }
            None if args.write && list.switch_of(defect) == index => {
                table += row_of(known, defect).unwrap_or_default();
            }
            None => {}
        }
    }
    match args.write {
        true => fs::write(&path, [head, BEGIN, &table, END, tail].concat())?,
        false => print!("{table}"),
    }
    Ok(all)
}

/// What stands before the table in its document, the table, and what stands behind it.
fn around(text: &str) -> anyhow::Result<(&str, &str, &str)> {
    let (head, rest) = text.split_once(BEGIN).context("the document has no place for the table")?;
    let (table, tail) = rest.split_once(END).context("the table has no end")?;
    Ok((head, table, tail))
}

/// The row that a table has for a defect.
fn row_of<'a>(table: &'a str, defect: &Defect) -> Option<&'a str> {
    let begin = format!("| {} | ", defect.name);
    table.split_inclusive('\n').find(|row| row.starts_with(&begin))
}

/// Copies the files that git knows, with what is planted in them; what is equal is left alone, so that little is built again.
fn copy(root: &Path, tree: &Path, planted: &BTreeMap<PathBuf, String>) -> anyhow::Result<()> {
    let output = Command::new("git").args(["ls-files", "-z"]).current_dir(root).output()?;
    if !output.status.success() {
        bail!("git does not list the files of {}", root.display());
    }
    let names = String::from_utf8(output.stdout).context("names of files")?;
    for name in names.split('\0').filter(|name| !name.is_empty()) {
        let (from, to) = (root.join(name), tree.join(name));
        let bytes = match planted.get(Path::new(name)) {
            Some(text) => text.clone().into_bytes(),
            None => fs::read(&from).with_context(|| from.display().to_string())?,
        };
        if fs::read(&to).is_ok_and(|known| known == bytes) {
            continue;
        }
        fs::create_dir_all(to.parent().context("a file lies in a folder")?)?;
        fs::write(&to, bytes).with_context(|| to.display().to_string())?;
    }
    Ok(())
}

fn build(tree: &Path) -> anyhow::Result<()> {
    let build = Command::new(env!("CARGO"))
        .args(["build", "--profile", "sim", "-q", "-p", "tests", "--bin", "sim"])
        .args(["--target-dir", "../target"])
        .current_dir(tree)
        .status()?;
    if !build.success() {
        bail!("the copy with the defects does not build");
    }
    Ok(())
}

/// Plays seeds within and beyond the budget until one fails.
fn hunt(tree: &Path, index: usize, count: u64) -> anyhow::Result<Found> {
    for is_beyond in [false, true] {
        let mut sim = Command::new(tree.join("../target/sim/sim"));
        // One thread: the first seed that fails is the first that finds it.
        sim.args(["--count", &count.to_string(), "--jobs", "1", "--fail-fast"]);
        sim.env("PLANTED", index.to_string()).args(is_beyond.then_some("--beyond"));
        let output = sim.current_dir(tree).output()?;
        let text = String::from_utf8_lossy(&output.stderr);
        let Some(line) = text.lines().find(|line| line.contains("--seed")) else {
            if !output.status.success() {
                bail!("the simulator says no seed: {text}");
            }
            continue;
        };
        let words = line.split_once("--seed ").map_or("", |(_, rest)| rest);
        let seed = words.split([' ', ':']).next().and_then(|seed| seed.parse().ok());
        let word = words.split_once(": ").map_or(words, |(_, word)| word);
        return Ok(Found { seed, is_beyond, word: gist(word) });
    }
    Ok(Found { seed: None, is_beyond: true, word: String::new() })
}

/// What holds for any flow and moment in what a check has said.
fn gist(word: &str) -> String {
    let word = word.split_once(" ms: ").map_or(word, |(_, word)| word);
    word.split(", FlowKey").next().unwrap_or(word).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_defect_can_still_be_planted() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let list = read(&root).expect("the list can be read");
        assert!(!list.defect.is_empty());
        let planted = planted(&root, &list).expect("every piece of source is there");
        assert!(planted.len() > 2);
    }

    #[test]
    fn the_table_has_a_row_for_every_defect_and_each_was_found() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let list = read(&root).expect("the list can be read");
        let text = fs::read_to_string(root.join(DOCUMENT)).expect("the document can be read");
        let (_, table, _) = around(&text).expect("it has a table");
        for defect in &list.defect {
            let row = row_of(table, defect).unwrap_or_else(|| panic!("no row for {}", defect.name));
            let seeds = row.split(" | ").nth(1).expect("a row has columns");
            assert!(seeds.starts_with(|first: char| first.is_ascii_digit()), "{row}");
        }
    }
}
