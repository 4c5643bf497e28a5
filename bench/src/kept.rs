//! Instruction counts that are kept in a file, so that growth does not pass unseen.
//!
//! The counts are those of `cargo bench -p bench`: the same on every machine that compiles the same code with the same compiler.
//! A step that grows by more than [`MARGIN`] and [`FLOOR`] is named; whoever means it keeps the new counts (`--keep`) and
//! writes the reason into the commit.

use crate::report::Row;
use crate::step::Step;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// Growth that is let pass, as a share: what an inlining decision elsewhere may move.
pub const MARGIN: f64 = 0.03;

/// And in instructions, for the small steps.
pub const FLOOR: f64 = 10.0;

/// Instructions for each segment, by what they were counted of.
#[derive(Debug, Default, PartialEq)]
pub struct Kept(BTreeMap<String, f64>);

impl Kept {
    /// Where they are kept.
    pub fn file() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.json")
    }

    /// Of a run.
    pub fn of(rows: &[Row]) -> Kept {
        let name = |row: &Row, step: &str| {
            format!("{:>7} flows, {:>4} bytes, {step}", row.flows, row.payload)
        };
        let mut all = BTreeMap::new();
        for row in rows {
            for step in Step::ALL {
                all.insert(name(row, step.name()), row.instructions.of(step).round());
            }
        }
        Kept(all)
    }

    /// Those of the file.
    pub fn read(path: &Path) -> io::Result<Kept> {
        Ok(Kept(serde_json::from_str(&fs::read_to_string(path)?)?))
    }

    /// Keeps these, and those of the file that were not counted now.
    pub fn write(self, path: &Path) -> io::Result<()> {
        let mut all = Kept::read(path).unwrap_or_default().0;
        all.extend(self.0);
        fs::write(path, serde_json::to_string_pretty(&all)? + "\n")
    }

    /// What has grown since `before`, a sentence each.
    pub fn growth(&self, before: &Kept) -> Vec<String> {
        let pairs =
            self.0.iter().filter_map(|(name, now)| Some((name, *now, *before.0.get(name)?)));
        let grown = pairs.filter(|(_, now, then)| now - then > (then * MARGIN).max(FLOOR));
        let sentence = |(name, now, then): (&String, f64, f64)| {
            let percent = (now / then.max(1.0) - 1.0) * 100.0;
            format!("{name}: {then} instructions were kept, now {now} (+{percent:.1} %)")
        };
        grown.map(sentence).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step::PerStep;

    fn kept(instructions: [f64; Step::ALL.len()]) -> Kept {
        let nanoseconds = PerStep::default();
        let instructions = PerStep(instructions);
        Kept::of(&[Row { flows: 100, payload: 64, instructions, nanoseconds }])
    }

    #[test]
    fn growth_beyond_the_margin_is_named() {
        let mut counts = [1_000.0; Step::ALL.len()];
        let before = kept(counts);
        counts[0] = 1_030.0;
        counts[1] = 500.0;
        assert_eq!(kept(counts).growth(&before), Vec::<String>::new());
        counts[0] = 1_031.0;
        let grown = kept(counts).growth(&before);
        assert_eq!(grown.len(), 1);
        assert!(grown[0].contains("100 flows,   64 bytes, input: 1000"), "{grown:?}");
    }

    #[test]
    fn a_small_step_may_grow_by_a_few_instructions() {
        let mut counts = [80.0; Step::ALL.len()];
        let before = kept(counts);
        counts[0] = 90.0;
        assert!(kept(counts).growth(&before).is_empty());
        counts[0] = 91.0;
        assert_eq!(kept(counts).growth(&before).len(), 1);
    }

    #[test]
    fn what_was_not_counted_stays_as_it_was_kept() {
        let path = std::env::temp_dir().join(format!("kept-{}.json", std::process::id()));
        kept([7.0; Step::ALL.len()]).write(&path).unwrap();
        Kept::default().write(&path).unwrap();
        let read = Kept::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!(read, kept([7.0; Step::ALL.len()]));
    }
}
