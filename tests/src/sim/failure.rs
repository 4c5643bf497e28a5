//! What is kept of a story that failed: every event, and every frame for Wireshark.

use crate::sim::capture;
use crate::sim::story::{Budget, Outcome, Script, play};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Plays a story once more into two files of this directory; says which.
///
/// # Errors
///
/// The directory or a file cannot be written.
pub fn keep(dir: &Path, script: &Script) -> io::Result<String> {
    let outcome = play(&Script { trace: true, capture: true, ..script.clone() });
    let beyond = if script.budget == Budget::Beyond { "-beyond" } else { "" };
    let path = |ending: &str| dir.join(format!("seed-{}{beyond}.{ending}", script.seed));
    let (trace, frames) = (path("trace"), path("pcapng"));
    fs::create_dir_all(dir)?;
    write_trace(&trace, &outcome)?;
    write_frames(&frames, &outcome)?;
    let (lines, count) = (outcome.trace.len(), outcome.frames.len());
    Ok(format!(
        "{lines} events are in {}, {count} frames in {}.",
        trace.display(),
        frames.display()
    ))
}

/// The frames of a story that was told to keep them.
///
/// # Errors
///
/// The file cannot be written.
pub fn write_frames(path: &Path, outcome: &Outcome) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    capture::write(&mut file, &outcome.frames)?;
    file.flush()
}

fn write_trace(path: &Path, outcome: &Outcome) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    let failure = outcome.failure.iter().map(|failure| format!("FAILED: {failure}"));
    for line in outcome.diary.iter().chain(&outcome.trace).cloned().chain(failure) {
        writeln!(file, "{line}")?;
    }
    file.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_and_frames_of_a_story_are_on_disk() {
        let dir = std::env::temp_dir().join(format!("understudy-failure-{}", std::process::id()));
        let said = keep(&dir, &Script::new(3, Budget::Beyond)).unwrap();
        let [trace, frames] =
            ["trace", "pcapng"].map(|ending| dir.join(format!("seed-3-beyond.{ending}")));
        assert!(
            said.contains(&trace.display().to_string())
                && said.contains(&frames.display().to_string())
        );
        let text = fs::read_to_string(&trace).unwrap();
        assert!(text.lines().count() > 100, "{text}");
        assert_eq!(fs::read(&frames).unwrap()[..4], [0x0a, 0x0d, 0x0d, 0x0a]);
        fs::remove_dir_all(&dir).unwrap();
    }
}
