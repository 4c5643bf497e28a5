//! Time: one true time for the world, and a clock of its own for each machine.

use dataplane::core::Clock;
use stack::time::Instant;
use std::cell::Cell;
use std::rc::Rc;

/// What passes between two readings of the clock within one round of a core, in nanoseconds.
const READING: u64 = 60;

/// A machine's clock: it started anywhere and runs a little fast or slow.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// What it showed when the world began, in nanoseconds.
    pub offset: u64,
    /// Its microseconds per true second.
    pub rate: u64,
}

impl Machine {
    /// What it shows at a true time.
    pub fn local(&self, now: u64) -> Instant {
        let (whole, rest) = (now / 1_000_000, now % 1_000_000);
        Instant(self.offset + whole * self.rate + rest * self.rate / 1_000_000)
    }

    /// Whether its NIC cuts superframes: drawn with its clock.
    pub fn cuts_superframes(&self) -> bool {
        self.offset & 1 == 1
    }

    /// The earliest true time at which it shows at least `local`.
    pub fn when(&self, local: Instant) -> u64 {
        let passed = local.0.saturating_sub(self.offset);
        (u128::from(passed) * 1_000_000 / u128::from(self.rate)) as u64 + 2
    }
}

/// The clock that a core reads. Within a round it moves a little with each reading; a round can be interrupted after
/// its first reading, as by a scheduler that gives the processor to somebody else.
#[derive(Clone, Debug)]
pub struct CoreClock(Rc<Round>);

#[derive(Debug)]
struct Round {
    machine: Machine,
    began: Cell<u64>,
    readings: Cell<u64>,
    interruption: Cell<u64>,
}

impl CoreClock {
    /// A core's view of its machine's clock.
    pub fn new(machine: Machine) -> CoreClock {
        let zero = || Cell::new(0);
        CoreClock(Rc::new(Round { machine, began: zero(), readings: zero(), interruption: zero() }))
    }

    /// A round begins at the true time `now` and is interrupted for so many nanoseconds.
    pub fn begin(&self, now: u64, interruption: u64) {
        self.0.began.set(now);
        self.0.readings.set(0);
        self.0.interruption.set(interruption);
    }

    /// The true time at its last reading.
    fn at(&self) -> u64 {
        let readings = self.0.readings.get();
        let interruption = if readings > 1 { self.0.interruption.get() } else { 0 };
        self.0.began.get() + readings * READING + interruption
    }

    /// The true time at which the round ends, whether its clock was read again or not.
    pub fn end(&self) -> u64 {
        self.0.began.get() + self.0.readings.get() * READING + self.0.interruption.get()
    }
}

impl Clock for CoreClock {
    fn now(&self) -> Instant {
        self.0.readings.set(self.0.readings.get() + 1);
        self.0.machine.local(self.at())
    }
}
