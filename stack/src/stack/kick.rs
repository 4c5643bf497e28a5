//! Whom to wake first after a takeover: the busiest, in an order that is found without touching a flow.
//!
//! A peer notes beside its copies how much each has moved lately (*heat*: bytes, halved every 134 ms). At a takeover these
//! notes are read twice: once to count how many copies there are of each power of two, once to put the busiest of them
//! into a list in that order. Then one after another is woken, at most a quarter of the link's rate, and a quarter of a
//! burst in one poll. (A second segment, of what was heard, is no part of that: a flow that was heard of is up before.)
//!
//! Source: DESIGN 9. Bounds: [`KICK_SLOTS_MAX`] notes read and [`KICKS_PER_POLL`] woken in one poll; [`KICKS_MAX`] are put
//! into order, the rest is woken as the sweep finds it, at the same rate.

use super::{Group, Mode};
use crate::limits::{KICK_RECENT, KICK_SLOTS_MAX, KICKS_MAX, KICKS_PER_POLL};
use crate::time::{Duration, Instant};
use alloc::vec::Vec;

/// A note's unit of time: 2^27 ns. It comes round after two hours and a half; what it says is checked at the flow.
const TICK_SHIFT: u32 = 27;

/// For so long a copy counts as active, one for the rounding.
const RECENT_TICKS: u64 = (KICK_RECENT.0 >> TICK_SHIFT) + 1;

/// Powers of two of bytes, and nothing at all.
const CLASSES: usize = u32::BITS as usize + 1;

/// How much a copy has moved lately.
#[derive(Clone, Copy, Default)]
struct Heat {
    /// Bytes, as of `tick`.
    volume: u32,
    tick: u16,
    group: u8,
    is_copy: bool,
}

impl Heat {
    /// Whether it is a copy that is served now and was active lately.
    fn is_chosen(&self, tick: u16, groups: &[Group]) -> bool {
        self.is_copy
            && tick.wrapping_sub(self.tick) as u64 <= RECENT_TICKS
            && groups[self.group as usize].mode == Mode::Serving
    }

    fn volume_at(&self, tick: u16) -> u32 {
        self.volume.checked_shr(tick.wrapping_sub(self.tick) as u32).unwrap_or(0)
    }

    fn class_at(&self, tick: u16) -> usize {
        (u32::BITS - self.volume_at(tick).leading_zeros()) as usize
    }
}

enum Phase {
    Idle,
    /// How many there are of each class; the next slot to read.
    Counting(u32),
    /// Into the list; the next slot to read.
    Placing(u32),
    /// The list is there; the next of it to wake.
    Waking(usize),
}

/// The notes about copies, and the order in which they are woken.
pub(super) struct Kicks {
    heat: Vec<Heat>,
    phase: Phase,
    /// When the choice began, in ticks: so both readings see the same.
    begun: u16,
    /// How many there are of each class, then where the next of it goes.
    classes: [u32; CLASSES],
    list: Vec<u32>,
    /// When the next may be woken, and how long one takes at a quarter of the link's rate.
    next_at: Instant,
    every: Duration,
}

impl Kicks {
    /// Bytes for each slot.
    pub const NOTE_BYTES: usize = size_of::<Heat>();

    /// Takes memory for slots below `capacity`; one is woken `every` so often.
    pub fn new(capacity: usize, every: Duration) -> Kicks {
        Kicks {
            heat: alloc::vec![Heat::default(); capacity],
            phase: Phase::Idle,
            begun: 0,
            classes: [0; CLASSES],
            list: Vec::with_capacity(capacity.min(KICKS_MAX)),
            next_at: Instant::ZERO,
            every,
        }
    }

    /// There is a copy in `slot` now.
    pub fn note_copy(&mut self, now: Instant, slot: u32, group: u8) {
        self.heat[slot as usize] = Heat { volume: 0, tick: tick_of(now), group, is_copy: true };
    }

    /// The copy in `slot` has moved on by so many bytes.
    #[inline]
    pub fn note(&mut self, now: Instant, slot: u32, bytes: u32) {
        let heat = &mut self.heat[slot as usize];
        let tick = tick_of(now);
        heat.volume = heat.volume_at(tick).saturating_add(bytes);
        heat.tick = tick;
    }

    /// There is no copy in `slot`, or it is served.
    pub fn forget(&mut self, slot: u32) {
        self.heat[slot as usize] = Heat::default();
    }

    /// Copies are served from now on: the choice begins, anew if it was under way; who has been woken is no copy any more.
    pub fn begin(&mut self, now: Instant) {
        self.begun = tick_of(now);
        self.classes = [0; CLASSES];
        self.phase = Phase::Counting(0);
    }

    /// When there is something to do next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.phase {
            Phase::Idle => None,
            Phase::Counting(_) | Phase::Placing(_) => Some(Instant::ZERO),
            Phase::Waking(_) => Some(self.next_at),
        }
    }

    /// Goes on with the choice.
    pub fn select(&mut self, groups: &[Group]) {
        let mut budget = KICK_SLOTS_MAX;
        if let Phase::Counting(from) = self.phase {
            let to = self.heat.len().min(from as usize + budget);
            for heat in
                self.heat[from as usize..to].iter().filter(|h| h.is_chosen(self.begun, groups))
            {
                self.classes[heat.class_at(self.begun)] += 1;
            }
            budget -= to - from as usize;
            self.phase = Phase::Counting(to as u32);
            if to == self.heat.len() {
                self.begin_placing();
            }
        }
        if let Phase::Placing(from) = self.phase {
            let to = self.heat.len().min(from as usize + budget);
            for slot in from as usize..to {
                let heat = &self.heat[slot];
                if heat.is_chosen(self.begun, groups) {
                    let place = &mut self.classes[heat.class_at(self.begun)];
                    if let Some(entry) = self.list.get_mut(*place as usize) {
                        *entry = slot as u32;
                    }
                    *place += 1;
                }
            }
            self.phase =
                if to == self.heat.len() { Phase::Waking(0) } else { Phase::Placing(to as u32) };
        }
    }

    /// The next to wake, if it is its turn.
    pub fn next(&mut self, now: Instant) -> Option<u32> {
        let Phase::Waking(at) = self.phase else { return None };
        let Some(&slot) = self.list.get(at) else {
            self.phase = Phase::Idle;
            return None;
        };
        self.take_turn(now).ok()?;
        self.phase = Phase::Waking(at + 1);
        Some(slot)
    }

    /// One more may be woken now; otherwise when. A poll that came late makes up for what one poll may wake.
    pub fn take_turn(&mut self, now: Instant) -> Result<(), Instant> {
        if now < self.next_at {
            return Err(self.next_at);
        }
        let late_most = Duration(self.every.0 * KICKS_PER_POLL as u64);
        let earliest = Instant(now.0.saturating_sub(late_most.0));
        self.next_at = self.next_at.max(earliest) + self.every;
        Ok(())
    }

    /// The busiest come first.
    fn begin_placing(&mut self) {
        let mut sum = 0;
        for place in self.classes.iter_mut().rev() {
            sum += core::mem::replace(place, sum);
        }
        self.list.clear();
        self.list.resize((sum as usize).min(KICKS_MAX), u32::MAX);
        self.phase = Phase::Placing(0);
    }
}

fn tick_of(now: Instant) -> u16 {
    (now.0 >> TICK_SHIFT) as u16
}
