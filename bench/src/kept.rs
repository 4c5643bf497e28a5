//! Instruction counts that are kept in a file, so that growth does not pass unseen.
//!
//! ```text
//! profile -> compiler, processor, and the instructions of each step by what they were counted of
//! ```
//!
//! They are the same on every machine of the same processor that compiles the same code with the same compiler and profile; those of
//! another compiler or processor are not compared. `cargo bench -p bench` counts what a node costs (profile `release`); `make test` what it builds anyway (`dev`).
//! A step that grows by more than [`MARGIN`] and [`FLOOR`] is named; whoever means it keeps the new counts (`--keep`) and
//! writes the reason into the commit.

use crate::report::{Load, Row};
use crate::step::Step;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// Growth that is let pass, as a share: what an inlining decision elsewhere may move.
pub const MARGIN: f64 = 0.03;

/// And in instructions, for the small steps.
pub const FLOOR: f64 = 10.0;

/// The compiler of this program.
const COMPILER: &str = env!("COMPILER");

/// Where the processor is described.
const CPUINFO: &str = "/proc/cpuinfo";

/// The profile that it was compiled with.
const PROFILE: &str = if cfg!(debug_assertions) { "dev" } else { "release" };

/// Instructions for each segment, by what they were counted of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// Whose code it was.
    compiler: String,
    /// What counted: copies, sums and ciphers are other code on other processors. Empty: not known, and any will do.
    #[serde(default)]
    processor: String,
    instructions: BTreeMap<String, f64>,
}

/// What a comparison came to.
#[derive(Debug, PartialEq)]
pub enum Compared {
    /// A sentence for each step that has grown.
    Grown(Vec<String>),
    /// They cannot be compared: why.
    Not(String),
}

impl Kept {
    /// Where they are kept.
    pub fn file() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.json")
    }

    /// Of a run of this program.
    pub fn of(rows: &[Row]) -> Kept {
        let name = |row: &Row, step: &str| match row.load {
            Load::Echo => format!("{:>7} flows, {:>4} bytes, {step}", row.flows, row.payload),
            load => format!("{}, {:>4} bytes, {step}", load.name(), row.payload),
        };
        let mut instructions = BTreeMap::new();
        for row in rows {
            for step in Step::ALL {
                instructions.insert(name(row, step.name()), row.instructions.of(step).round());
            }
        }
        Kept { compiler: COMPILER.into(), processor: processor(), instructions }
    }

    /// Those of the file that were counted with this profile; `None` if there are none.
    pub fn read(path: &Path) -> io::Result<Option<Kept>> {
        Ok(profiles(path)?.remove(PROFILE))
    }

    /// Keeps these. Of the file stays what this compiler made and was not counted now, and what other profiles have.
    pub fn write(mut self, path: &Path) -> io::Result<()> {
        let mut all = profiles(path)?;
        let is_same =
            |kept: &Kept| kept.compiler == self.compiler && kept.processor == self.processor;
        if let Some(before) = all.remove(PROFILE).filter(is_same) {
            for (name, count) in before.instructions {
                self.instructions.entry(name).or_insert(count);
            }
        }
        all.insert(PROFILE.into(), self);
        fs::write(path, serde_json::to_string_pretty(&all)? + "\n")
    }

    /// What has grown since `before`.
    pub fn growth(&self, before: &Kept) -> Compared {
        let (ours, theirs) = (&self.compiler, &before.compiler);
        if ours != theirs {
            return Compared::Not(format!("the kept ones are {theirs}'s, these {ours}'s"));
        }
        let (ours, theirs) = (&self.processor, &before.processor);
        if ours != theirs && !theirs.is_empty() {
            return Compared::Not(format!("the kept ones are of {theirs}, these of {ours}"));
        }
        let pairs = self
            .instructions
            .iter()
            .filter_map(|(name, now)| Some((name, *now, *before.instructions.get(name)?)));
        let grown = pairs.filter(|(_, now, then)| now - then > (then * MARGIN).max(FLOOR));
        let sentence = |(name, now, then): (&String, f64, f64)| {
            let percent = (now / then.max(1.0) - 1.0) * 100.0;
            format!("{name}: {then} instructions were kept, now {now} (+{percent:.1} %)")
        };
        Compared::Grown(grown.map(sentence).collect())
    }
}

/// This machine's processor: its name, and a sum of all that it can do.
fn processor() -> String {
    let text = fs::read_to_string(CPUINFO).unwrap_or_default();
    let value = |key: &str| {
        let line = text.lines().find(|line| line.starts_with(key));
        line.and_then(|line| line.split_once(':')).map_or("", |(_, value)| value.trim())
    };
    let flags = value("flags")
        .bytes()
        .fold(0x811c_9dc5u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("{} {flags:08x}", value("model name"))
}

/// Every profile of the file; none if there is no file.
fn profiles(path: &Path) -> io::Result<BTreeMap<String, Kept>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(serde_json::from_str(&text)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step::PerStep;

    fn kept(instructions: [f64; Step::ALL.len()]) -> Kept {
        let nanoseconds = PerStep::default();
        let instructions = PerStep(instructions);
        Kept::of(&[Row { load: Load::Echo, flows: 100, payload: 64, instructions, nanoseconds }])
    }

    fn grown(now: Kept, before: &Kept) -> Vec<String> {
        match now.growth(before) {
            Compared::Grown(sentences) => sentences,
            Compared::Not(why) => panic!("{why}"),
        }
    }

    #[test]
    fn growth_beyond_the_margin_is_named() {
        let mut counts = [1_000.0; Step::ALL.len()];
        let before = kept(counts);
        counts[0] = 1_030.0;
        counts[1] = 500.0;
        assert_eq!(grown(kept(counts), &before), Vec::<String>::new());
        counts[0] = 1_031.0;
        let grown = grown(kept(counts), &before);
        assert_eq!(grown.len(), 1);
        assert!(grown[0].contains("100 flows,   64 bytes, input: 1000"), "{grown:?}");
    }

    #[test]
    fn a_small_step_may_grow_by_a_few_instructions() {
        let mut counts = [80.0; Step::ALL.len()];
        let before = kept(counts);
        counts[0] = 90.0;
        assert!(grown(kept(counts), &before).is_empty());
        counts[0] = 91.0;
        assert_eq!(grown(kept(counts), &before).len(), 1);
    }

    #[test]
    fn counts_of_another_compiler_or_processor_are_not_compared() {
        let before = Kept { compiler: "rustc 1.0.0".into(), ..kept([1.0; Step::ALL.len()]) };
        let found = kept([1_000.0; Step::ALL.len()]).growth(&before);
        let why = format!("the kept ones are rustc 1.0.0's, these {COMPILER}'s");
        assert!(COMPILER.starts_with("rustc 1."), "{COMPILER}");
        assert_eq!(found, Compared::Not(why));
        let other = Kept { processor: "another".into(), ..kept([1.0; Step::ALL.len()]) };
        let found = kept([1_000.0; Step::ALL.len()]).growth(&other);
        assert!(matches!(found, Compared::Not(why) if why.contains("another")));
        let unknown = Kept { processor: String::new(), ..other };
        assert!(matches!(kept([1.0; Step::ALL.len()]).growth(&unknown), Compared::Grown(_)));
    }

    #[test]
    fn what_was_not_counted_stays_as_it_was_kept_unless_another_compiler_made_it() {
        let path = std::env::temp_dir().join(format!("kept-{}.json", std::process::id()));
        let nothing = Kept { instructions: BTreeMap::new(), ..kept([0.0; Step::ALL.len()]) };
        let counted = kept([7.0; Step::ALL.len()]);
        assert_eq!(Kept::read(&path).unwrap(), None);
        counted.clone().write(&path).unwrap();
        nothing.clone().write(&path).unwrap();
        assert_eq!(Kept::read(&path).unwrap(), Some(counted.clone()));
        Kept { compiler: "rustc 1.0.0".into(), ..counted }.write(&path).unwrap();
        nothing.clone().write(&path).unwrap();
        assert_eq!(Kept::read(&path).unwrap(), Some(nothing));
        fs::remove_file(&path).unwrap();
    }
}
