//! What the demo says while it runs: steps, and one line of progress that is rewritten on a
//! terminal.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Without a terminal, so often a line of progress is printed.
const PLAIN_EVERY: Duration = Duration::from_secs(1);

/// Speaks to standard error.
#[derive(Debug)]
pub struct Narrator {
    start: Instant,
    terminal: bool,
    open: bool,
    last: Option<Instant>,
}

impl Narrator {
    /// Time starts now.
    pub fn new() -> Narrator {
        let terminal = std::io::stderr().is_terminal();
        Narrator { start: Instant::now(), terminal, open: false, last: None }
    }

    /// A step of the story.
    pub fn say(&mut self, text: &str) {
        self.close();
        eprintln!("{:7.3} s  {text}", self.start.elapsed().as_secs_f64());
    }

    /// Progress within a step.
    pub fn update(&mut self, text: &str) {
        if self.terminal {
            eprint!("\r\x1b[K           {text}");
            // Progress that is not seen harms nothing.
            let _ = std::io::stderr().flush();
            self.open = true;
        } else if self.last.is_none_or(|last| last.elapsed() >= PLAIN_EVERY) {
            self.last = Some(Instant::now());
            self.say(text);
        }
    }

    fn close(&mut self) {
        if std::mem::take(&mut self.open) {
            eprintln!();
        }
    }
}

impl Drop for Narrator {
    fn drop(&mut self) {
        self.close();
    }
}
