//! What can go wrong and when: numbers, events, faults, clocks.

use cluster::id::GroupId;
use stack::time::Instant;

/// Nanoseconds of a millisecond.
pub const MS: u64 = 1_000_000;

/// Repeatable numbers.
pub struct Noise(u64);

impl Noise {
    pub fn new(seed: u64) -> Noise {
        Noise(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound.max(1)
    }

    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    pub fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Event {
    Deliver {
        to: usize,
        bytes: Vec<u8>,
        reply_to: usize,
    },
    /// A guardian says something; it does not need its node for that.
    Say {
        from: usize,
        to: usize,
        bytes: Vec<u8>,
    },
    Wake {
        node: usize,
        life: u64,
    },
    Filled {
        group: GroupId,
        node: usize,
        life: u64,
        epoch: u64,
        peer: (u8, u64),
    },
    /// The cores of a frozen owner have everything committed.
    Frozen {
        group: GroupId,
        node: usize,
        life: u64,
        epoch: u64,
        attempt: u32,
        absent: u32,
    },
    Promoted {
        group: GroupId,
        node: usize,
        life: u64,
        epoch: u64,
    },
    Fault(Fault),
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Fault {
    Crash(usize),
    /// The cores of a node end and its guardian says so; its agent outlives them by that many
    /// milliseconds and knows nothing.
    Die(usize, u64),
    /// Somebody says that a living node has surrendered.
    Forge(usize),
    Start(usize),
    Pause(usize),
    Resume(usize),
    Stick(usize),
    Unstick(usize),
    Cut(usize, usize),
    Join(usize, usize),
    Loss(u64),
    /// An operator asks whoever owns the group to hand it to this node.
    HandTo(usize),
    /// A node's client-side interface has lost its carrier, or has it again.
    Dark(usize),
    Bright(usize),
    Drain(usize),
    Undrain(usize),
}

/// A clock that started anywhere and runs a little fast or slow.
#[derive(Clone, Copy)]
pub struct Clock {
    pub offset: u64,
    /// Its microseconds per true second.
    pub rate: u64,
}

impl Clock {
    pub fn local(&self, now: u64) -> Instant {
        Instant(self.offset + now / 1_000_000 * self.rate + now % 1_000_000 * self.rate / 1_000_000)
    }

    /// The earliest true time at which the clock shows at least `local`.
    pub fn when(&self, local: Instant) -> u64 {
        let passed = local.0.saturating_sub(self.offset);
        (u128::from(passed) * 1_000_000 / u128::from(self.rate)) as u64 + 2
    }
}

/// A fault of a node (or of the witness), and what ends it.
type Mishap = fn(usize) -> (Fault, Fault);

/// What may befall anybody at any moment, and after how many milliseconds it ends.
pub const MISHAPS: [(Mishap, u64); 5] = [
    (|node| (Fault::Crash(node), Fault::Start(node)), 200),
    (|node| (Fault::Pause(node), Fault::Resume(node)), 15),
    (|node| (Fault::Pause(node), Fault::Resume(node)), 300),
    (|node| (Fault::Die(node, 1), Fault::Start(node)), 50),
    (|node| (Fault::Stick(node), Fault::Unstick(node)), 60),
];
