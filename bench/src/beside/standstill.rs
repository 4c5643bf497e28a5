//! Whether the machine itself stood still: a gap that everybody on it has is nobody's.
//!
//! A thread that goes before every other of its processor naps for a moment at a time and looks at the clock. That it
//! wakes late can only be the processor's doing: a host that has taken it away, or a kernel that will not be interrupted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Context;
use tools::load::wire::monotonic_ns;

/// One nap.
const NAP: Duration = Duration::from_micros(500);

/// Before the agents of the nodes.
const PRIORITY: i32 = 90;

/// The watch over one processor.
pub struct Standstill {
    over: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Standstill {
    /// Begins to watch.
    pub fn watch(processor: u16) -> anyhow::Result<Standstill> {
        let over = Arc::new(AtomicBool::new(false));
        let told = over.clone();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let thread = thread::spawn(move || {
            let pinned = dataplane::sys::pin_to_core(processor.into());
            let _ = ready.send(pinned.and_then(|()| dataplane::sys::set_realtime(PRIORITY)));
            let (mut longest, mut last) = (0, monotonic_ns());
            while !told.load(Ordering::Relaxed) {
                thread::sleep(NAP);
                let now = monotonic_ns();
                longest = longest.max(now - last);
                last = now;
            }
            longest.saturating_sub(NAP.as_nanos() as u64)
        });
        is_ready.recv()?.context("cannot go before the others of a processor")?;
        Ok(Standstill { over, thread })
    }

    /// The longest time for which it stood still, in nanoseconds.
    pub fn end(self) -> u64 {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().expect("it only looks at the clock")
    }
}
