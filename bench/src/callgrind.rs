//! Instructions by function, counted by valgrind's callgrind in a child process.
//!
//! The bench runs itself again under callgrind. Collection is off except inside the steps, and
//! [`end_of_phase`] has callgrind write out and zero what it has, so each phase is a file of its own. The file
//! format lists, under each function, what it cost itself and what its calls cost.
//!
//! Spec: "Callgrind Format Specification" of the valgrind manual. Left out: everything but `fn=`, `calls=`
//! and cost lines; recursion (a step never calls itself).

use crate::step::{PerStep, Step};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, io};

/// Instructions of one phase.
#[derive(Debug, Default)]
pub struct Profile {
    /// Of each function itself, calls not counted.
    pub own: HashMap<String, u64>,
    /// Of each function with all its calls.
    pub with_calls: HashMap<String, u64>,
}

/// Whether callgrind can be used.
pub fn is_available() -> bool {
    let asked = Command::new("valgrind").arg("--version").output();
    asked.is_ok_and(|output| output.status.success())
}

/// Callgrind writes out what it has counted since the last call.
#[inline(never)]
pub fn end_of_phase() {
    std::hint::black_box(());
}

/// Runs this program again with `arguments` under callgrind and reads the first `phases` phases.
pub fn profile(arguments: &[String], phases: usize) -> io::Result<Vec<Profile>> {
    let directory = Directory::new()?;
    let out = directory.0.join("out");
    let mut command = Command::new("valgrind");
    command
        .args(["--tool=callgrind", "--quiet", "--collect-atstart=no"])
        .args(["--compress-strings=no", "--compress-pos=no", "--dump-line=no"])
        .arg("--dump-after=*end_of_phase*")
        .arg(format!("--callgrind-out-file={}", out.display()));
    for step in Step::ALL {
        command.arg(format!("--toggle-collect=*{}*", step.function()));
    }
    let output = command.arg(std::env::current_exe()?).args(arguments).output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(io::Error::other(format!("valgrind: {}: {said}", output.status)));
    }
    let read = |phase: usize| read(&out.with_extension(phase.to_string()));
    (1..=phases).map(read).collect()
}

fn read(path: &Path) -> io::Result<Profile> {
    let text = fs::read_to_string(path)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
    Ok(Profile::parse(&text))
}

impl Profile {
    /// Reads one file of callgrind.
    pub fn parse(text: &str) -> Profile {
        let mut profile = Profile::default();
        let mut function = "";
        let mut is_call = false;
        for line in text.lines() {
            if let Some(name) = line.strip_prefix("fn=") {
                function = name;
            } else if line.starts_with("calls=") {
                is_call = true;
            } else if line.starts_with(|c: char| c.is_ascii_digit()) {
                // Position, then instructions.
                let Some(cost) = line.split(' ').nth(1).and_then(|cost| cost.parse().ok()) else {
                    continue;
                };
                let cost: u64 = cost;
                *profile.with_calls.entry(function.into()).or_default() += cost;
                if !is_call {
                    *profile.own.entry(function.into()).or_default() += cost;
                }
                is_call = false;
            }
        }
        profile
    }

    /// Instructions of each step.
    pub fn steps(&self) -> PerStep {
        let of = |step: Step| {
            let is_step = |name: &str| name.ends_with(step.function());
            let costs = self.with_calls.iter().filter(|(name, _)| is_step(name));
            costs.map(|(_, &cost)| cost).sum::<u64>() as f64
        };
        PerStep(Step::ALL.map(of))
    }

    /// The functions that cost most themselves, the costliest first.
    pub fn top(&self, count: usize) -> Vec<(&str, u64)> {
        let mut all: Vec<_> = self.own.iter().map(|(name, &cost)| (name.as_str(), cost)).collect();
        all.sort_unstable_by_key(|&(name, cost)| (std::cmp::Reverse(cost), name));
        all.truncate(count);
        all
    }
}

/// A directory of this process that goes when it is dropped.
struct Directory(PathBuf);

impl Directory {
    fn new() -> io::Result<Directory> {
        let path = std::env::temp_dir().join(format!("segment-path-{}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Directory(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_count_for_the_caller_and_not_for_its_own() {
        let text = "events: Ir\n\nfl=a.rs\nfn=bench::step::step_input\n0 10\ncfn=inner\n\
                    calls=3 0\n0 90\n0 5\n\nfn=inner\n0 90\n\ntotals: 105\n";
        let profile = Profile::parse(text);
        assert_eq!(profile.steps().of(Step::Input), 105.0);
        assert_eq!(profile.steps().of(Step::Record), 0.0);
        assert_eq!(profile.top(2), [("inner", 90), ("bench::step::step_input", 15)]);
    }
}
