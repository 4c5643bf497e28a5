//! How far a run is, and how long it still takes.

use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

/// Characters of the bar.
const WIDTH: usize = 24;

/// Steps of known lengths; what they really take corrects the estimate.
pub struct Progress {
    begun: Instant,
    /// Seconds that all steps should take.
    planned: f64,
    /// And those that are done.
    done: f64,
    is_terminal: bool,
}

impl Progress {
    /// A run that should take so many seconds.
    pub fn new(planned: f64) -> Progress {
        Progress { begun: Instant::now(), planned, done: 0.0, is_terminal: stderr().is_terminal() }
    }

    /// Says what begins now.
    pub fn begin(&self, what: &str) {
        let text = line(self.done / self.planned, self.left(self.begun.elapsed()), what);
        let mut out = stderr().lock();
        let _ = match self.is_terminal {
            true => write!(out, "\r\x1b[K{text}"),
            false => writeln!(out, "{text}"),
        };
        let _ = out.flush();
    }

    /// A step of so many planned seconds is done.
    pub fn end(&mut self, planned: f64) {
        self.done = (self.done + planned).min(self.planned);
    }

    /// A line that stays, above the bar.
    pub fn say(&self, text: &str) {
        let clear = if self.is_terminal { "\r\x1b[K" } else { "" };
        eprintln!("{clear}{text}");
    }

    fn left(&self, elapsed: Duration) -> f64 {
        let pace = if self.done > 0.0 { elapsed.as_secs_f64() / self.done } else { 1.0 };
        (self.planned - self.done) * pace
    }
}

fn line(share: f64, left: f64, what: &str) -> String {
    let full = ((share * WIDTH as f64) as usize).min(WIDTH);
    let bar = "#".repeat(full) + &".".repeat(WIDTH - full);
    let left = left.round() as u64;
    format!("[{bar}] {:3.0} %, {}:{:02} to go: {what}", share * 100.0, left / 60, left % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_follows_the_pace_so_far() {
        let mut progress = Progress::new(100.0);
        assert_eq!(progress.left(Duration::ZERO), 100.0);
        progress.end(25.0);
        assert_eq!(progress.left(Duration::from_secs(50)), 150.0);
        assert_eq!(line(0.25, 150.0, "x"), "[######..................]  25 %, 2:30 to go: x");
        progress.end(500.0);
        assert_eq!(progress.left(Duration::from_secs(60)), 0.0);
    }
}
