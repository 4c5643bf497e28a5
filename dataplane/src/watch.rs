//! A node that watches itself: what a status alone would forget between two looks.
//!
//! A thread looks at the agent every [`LOOK`] and keeps how long the phases of each takeover took. It costs the cores
//! nothing: it asks the agent, and reads what cores publish of themselves.
//!
//! A takeover is counted once, when it is [`SETTLED`] long ago: what has not happened by then (the first byte of a
//! service that nobody uses) is no phase of it.

use crate::control::status::{Histogram, Takeover};
use crate::report::Reporter;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(500);

/// A takeover so long ago has had all of its phases.
const SETTLED: stack::time::Duration = stack::time::Duration::from_secs(2);

/// The running watch; it ends when this is dropped.
pub struct Watch {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Watches the node that `reporter` tells of.
    pub fn start(reporter: Arc<Reporter>) -> io::Result<Watch> {
        let (stop, stopped) = bounded(0);
        let thread = thread::Builder::new().name("watch".into());
        let thread = thread.spawn(move || watch(&reporter, &stopped))?;
        Ok(Watch { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn watch(reporter: &Reporter, stopped: &Receiver<()>) {
    while stopped.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
        reporter.look();
    }
}

/// How long the phases of a group's takeovers took.
#[derive(Default)]
pub struct Phases {
    /// The epoch of the last takeover that was counted.
    counted: u64,
    /// By name.
    pub histograms: BTreeMap<String, Histogram>,
}

impl Phases {
    /// Counts the last takeover, if that was not done and it is long enough ago. `heard` says whether the addresses were
    /// announced and a segment has left.
    pub fn look(&mut self, takeover: &Takeover, granted: stack::time::Duration, heard: [bool; 2]) {
        if takeover.epoch == self.counted || granted < SETTLED {
            return;
        }
        self.counted = takeover.epoch;
        let [announced, has_spoken] = heard;
        for (phase, us, has_been) in [
            ("detect", takeover.detect_us, true),
            ("grant", takeover.grant_us, true),
            ("apply", takeover.apply_us, true),
            ("announce", takeover.announce_us, announced),
            ("first_byte", takeover.first_byte_us, has_spoken),
        ] {
            if has_been {
                self.histograms.entry(phase.into()).or_default().record(us);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_takeover_is_counted_once_when_it_has_settled() {
        let mut phases = Phases::default();
        let takeover =
            Takeover { epoch: 3, detect_us: 30_000, grant_us: 900, ..Takeover::default() };
        let ago = stack::time::Duration::from_millis;
        phases.look(&takeover, ago(1_999), [true, true]);
        assert!(phases.histograms.is_empty());
        phases.look(&takeover, ago(2_000), [true, false]);
        phases.look(&takeover, ago(9_000), [true, true]);
        let counts: Vec<_> = phases.histograms.iter().map(|(name, h)| (&**name, h.count)).collect();
        assert_eq!(counts, [("announce", 1), ("apply", 1), ("detect", 1), ("grant", 1)]);
        let next = Takeover { epoch: 5, detect_us: 40_000_000, ..takeover };
        phases.look(&next, ago(2_000), [true, true]);
        let detect = &phases.histograms["detect"];
        assert_eq!((detect.count, detect.sum_us), (2, 40_030_000));
        assert_eq!(detect.buckets[5], 1, "50 ms");
        assert_eq!(detect.buckets.iter().sum::<u64>(), 1, "the other is above every bound");
    }
}
