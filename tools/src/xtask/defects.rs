//! `cargo xtask defects`: do the simulator's checks bite?
//!
//! `tests/defects.toml` lists deliberate defects, each a piece of source and what it is replaced by. One after the other is
//! planted in a copy of the tree under `target/`, and the simulator plays seeds there until one fails. The product
//! itself knows nothing of defects.
//!
//! Bounds: `--count` seeds of each budget for a defect.

use anyhow::{Context, bail};
use clap::Args;
use serde::Deserialize;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Arguments of `cargo xtask defects`.
#[derive(Args, Clone, Debug)]
pub struct DefectsArgs {
    /// Seeds that are played with a defect before it counts as not found.
    #[arg(long, default_value_t = 2000)]
    count: u64,
    /// Only defects whose name contains this.
    #[arg(long)]
    only: Option<String>,
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
    /// What it is, in a few words.
    pub name: String,
    /// Where, from the root of the tree.
    pub file: PathBuf,
    /// The piece of source; it occurs once.
    pub before: String,
    /// What stands there instead.
    pub after: String,
}

/// Reads the list of the tree at `root`.
pub fn read(root: &Path) -> anyhow::Result<List> {
    let path = root.join("tests/defects.toml");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    toml::from_str(&text).with_context(|| path.display().to_string())
}

impl Defect {
    /// The file with the defect. Errors: the piece of source is not there, or not only once.
    pub fn plant(&self, root: &Path) -> anyhow::Result<String> {
        let path = root.join(&self.file);
        let source = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        match source.matches(self.before.trim_end()).count() {
            1 => Ok(source.replacen(self.before.trim_end(), self.after.trim_end(), 1)),
            n => bail!("`{}`: its source occurs {n} times in {}", self.name, self.file.display()),
        }
    }
}

/// What came of a defect.
struct Found {
    /// The seed that found it, and how many were played before.
    seed: Option<u64>,
    is_beyond: bool,
    /// What the check said.
    word: String,
}

/// Plants one defect after the other. `Ok(false)`: at least one was not found.
pub fn run(root: &Path, args: &DefectsArgs) -> anyhow::Result<bool> {
    let list = read(root)?;
    let tree = root.join("target/defects/tree");
    copy(root, &tree)?;
    println!("| defect | found by seed | what the check said |\n|---|---|---|");
    let mut all = true;
    let is_wanted =
        |defect: &&Defect| args.only.as_ref().is_none_or(|part| defect.name.contains(part));
    for defect in list.defect.iter().filter(is_wanted) {
        let path = tree.join(&defect.file);
        let sound = fs::read_to_string(&path)?;
        fs::write(&path, defect.plant(&tree)?)?;
        let found = hunt(&tree, args.count);
        fs::write(&path, sound)?;
        let found = found.with_context(|| defect.name.clone())?;
        let by = match (found.seed, found.is_beyond) {
            (Some(seed), false) => format!("{seed}"),
            (Some(seed), true) => format!("{seed}, beyond the budget"),
            (None, _) => "NOT FOUND".into(),
        };
        all &= found.seed.is_some();
        println!("| {} | {by} | {} |", defect.name, found.word);
    }
    Ok(all)
}

/// Copies the files that git knows; what is equal is left alone, so that little is built again.
fn copy(root: &Path, tree: &Path) -> anyhow::Result<()> {
    let output = Command::new("git").args(["ls-files", "-z"]).current_dir(root).output()?;
    if !output.status.success() {
        bail!("git does not list the files of {}", root.display());
    }
    let names = String::from_utf8(output.stdout).context("names of files")?;
    for name in names.split('\0').filter(|name| !name.is_empty()) {
        let (from, to) = (root.join(name), tree.join(name));
        let bytes = fs::read(&from).with_context(|| from.display().to_string())?;
        if fs::read(&to).is_ok_and(|known| known == bytes) {
            continue;
        }
        fs::create_dir_all(to.parent().context("a file lies in a folder")?)?;
        fs::copy(&from, &to).with_context(|| to.display().to_string())?;
    }
    Ok(())
}

/// Plays seeds within and beyond the budget until one fails.
fn hunt(tree: &Path, count: u64) -> anyhow::Result<Found> {
    let build = Command::new(env!("CARGO"))
        .args(["build", "--release", "-q", "-p", "tests", "--bin", "sim"])
        .args(["--target-dir", "../target"])
        .current_dir(tree)
        .stderr(Stdio::null())
        .status()?;
    if !build.success() {
        bail!("does not build");
    }
    for is_beyond in [false, true] {
        let mut sim = Command::new(tree.join("../target/release/sim"));
        // One thread: the first seed that fails is the first that finds it.
        sim.args(["--count", &count.to_string(), "--jobs", "1", "--fail-fast"]);
        if is_beyond {
            sim.arg("--beyond");
        }
        let output = sim.current_dir(tree).output()?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let Some(line) = text.lines().find(|line| line.contains("--seed")) else {
            if !output.status.success() {
                let word = text.lines().find(|line| line.contains("panicked"));
                let word = word.unwrap_or("the simulator ended").to_string();
                return Ok(Found { seed: Some(0), is_beyond, word });
            }
            continue;
        };
        let words = line.split_once("--seed ").map_or("", |(_, rest)| rest);
        let seed = words.split([' ', ':']).next().and_then(|seed| seed.parse().ok());
        let word = words.split_once(": ").map_or(words, |(_, word)| word);
        // What holds for any flow is enough.
        let word = word.split(", FlowKey").next().unwrap_or(word).to_string();
        return Ok(Found { seed, is_beyond, word });
    }
    Ok(Found { seed: None, is_beyond: true, word: String::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_defect_can_still_be_planted() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let list = read(&root).expect("the list can be read");
        assert!(!list.defect.is_empty());
        for defect in &list.defect {
            let planted = defect.plant(&root).expect("its source is there");
            assert!(planted.contains(defect.after.trim_end()), "{}", defect.name);
        }
    }
}
