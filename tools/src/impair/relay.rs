//! One direction of the relay: a thread that reads, lets fate decide, and sends what is due.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::Duration;

use hdrhistogram::Histogram;
use nix::sys::prctl::set_timerslack;

use super::fate::{Direction, Fate, Odds, has_payload, is_ip};
use super::line::{Counters, DelayLine, Shape};
use super::wire::PacketSocket;
use crate::load::report::Percentiles;
use crate::load::wire::monotonic_ns;

/// The longest frame taken: MTU 9000 with room to spare.
const FRAME_MAX: usize = 9_216;

/// Frames read or sent before the other side of the work gets its turn.
const BURST: usize = 64;

/// Between two looks at the orders.
const LOOK_EVERY_NS: u64 = 50_000_000;

/// Lateness beyond this is recorded as this.
const LATE_MAX_NS: u64 = 60_000_000_000;

/// What a direction is told.
#[derive(Debug, Default)]
pub struct Orders {
    /// Set to have it report.
    pub report: AtomicBool,
    /// Set to end it.
    pub stop: AtomicBool,
}

/// What a direction says of itself.
pub type Account = (Counters, Percentiles);

/// One direction.
#[derive(Debug)]
pub struct Side {
    from: PacketSocket,
    to: PacketSocket,
    seed: u64,
    direction: Direction,
    odds: Odds,
    line: DelayLine,
    number: u64,
    late: Histogram<u64>,
}

impl Side {
    /// Opens both sockets.
    pub fn open(
        from: &str,
        to: &str,
        seed: u64,
        direction: Direction,
        odds: Odds,
        shape: Shape,
    ) -> anyhow::Result<Side> {
        Ok(Side {
            from: PacketSocket::receiver(from)?,
            to: PacketSocket::sender(to)?,
            seed,
            direction,
            odds,
            line: DelayLine::new(shape),
            number: 0,
            late: Histogram::new_with_bounds(1, LATE_MAX_NS, 2)?,
        })
    }

    /// Relays until it is told to stop, and reports then and whenever it is told to. What is on its
    /// way at the end is dropped.
    pub fn run(&mut self, orders: &Orders, reports: &Sender<Account>) -> anyhow::Result<()> {
        // The default would add 50 microseconds to every wait.
        set_timerslack(1)?;
        while !orders.stop.load(Ordering::Relaxed) {
            if orders.report.swap(false, Ordering::Relaxed) {
                reports.send(self.account()?)?;
            }
            self.read()?;
            self.send()?;
            let next_ns = self.line.next_ns().unwrap_or(u64::MAX);
            let idle_ns = next_ns.saturating_sub(monotonic_ns()).min(LOOK_EVERY_NS);
            if idle_ns > 0 {
                self.from.wait(Duration::from_nanos(idle_ns))?;
            }
        }
        reports.send(self.account()?)?;
        Ok(())
    }

    fn read(&mut self) -> io::Result<()> {
        let mut buffer = [0; FRAME_MAX];
        for _ in 0..BURST {
            let Some(len) = self.from.receive(&mut buffer)? else { break };
            let Some(frame) = buffer.get(..len) else {
                self.line.counters.oversized += 1;
                continue;
            };
            let fate = self.fate(frame);
            self.line.admit(monotonic_ns(), frame, &fate);
        }
        Ok(())
    }

    /// The fate of the next frame, as far as it is meant.
    fn fate(&mut self, frame: &[u8]) -> Fate {
        let fate = self.odds.fate(self.seed, self.direction, self.number);
        self.number += 1;
        if self.odds.data_only && !has_payload(frame) {
            return Fate { jitter_ns: fate.jitter_ns, ..Fate::default() };
        }
        Fate { flips: fate.flips.filter(|_| is_ip(frame)), ..fate }
    }

    fn send(&mut self) -> io::Result<()> {
        for _ in 0..BURST {
            let Some(due) = self.line.poll(monotonic_ns()) else { break };
            let taken = self.to.send(&due.frame)?;
            let counters = &mut self.line.counters;
            counters.refused += u64::from(!taken);
            counters.frames_out += u64::from(taken);
            counters.bytes_out += if taken { due.frame.len() as u64 } else { 0 };
            self.late.saturating_record(monotonic_ns().saturating_sub(due.due_ns));
            self.line.recycle(due.frame);
        }
        Ok(())
    }

    fn account(&mut self) -> io::Result<Account> {
        self.line.counters.overrun += self.from.overrun()?;
        let late = Percentiles {
            count: self.late.len(),
            p50: self.late.value_at_quantile(0.5),
            p99: self.late.value_at_quantile(0.99),
            max: self.late.max(),
        };
        Ok((self.line.counters, late))
    }
}
