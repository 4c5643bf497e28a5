//! A hierarchical timer wheel: one timer for each flow, whose cost does not depend on their number.
//!
//! Four levels of 256 slots; a tick is 2^16 ns (65.5 us), so the levels span 16.8 ms, 4.3 s, 18 minutes
//! and 3.3 days. A timer lies in an intrusive list of its slot; when a level's slot comes due, its timers
//! move down. Timers fire never early and at most one tick late. A timer farther out than the wheel
//! goes round until it is due.
//!
//! Source: Varghese and Lauck, "Hashed and hierarchical timing wheels" (SOSP 1987).
//! Bounds: arm and disarm constant; [`Wheel::poll_expired`] moves and fires no more timers than it is told: a
//! million may share one deadline, and whoever asks has other things to do.

use crate::pool::NONE;
use crate::time::Instant;
use alloc::vec::Vec;

const LEVELS: usize = 4;
const SLOTS: usize = 256;
const TICK_SHIFT: u32 = 16;
/// The expired list, behind the slots of all levels.
const EXPIRED: u16 = (LEVELS * SLOTS) as u16;
const UNARMED: u16 = u16::MAX;
/// The last tick that there is: 2^64 ns.
const TICK_MAX: u64 = (1 << 48) - 1;

#[derive(Clone, Copy)]
struct Link {
    next: u32,
    previous: u32,
    /// The tick when it is due, above 16 bits of the slot where it lies.
    deadline_slot: u64,
}

impl Link {
    const UNARMED: Link = Link { next: NONE, previous: NONE, deadline_slot: UNARMED as u64 };

    #[inline]
    fn deadline(&self) -> u64 {
        self.deadline_slot >> 16
    }

    #[inline]
    fn slot(&self) -> u16 {
        self.deadline_slot as u16
    }

    #[inline]
    fn set_slot(&mut self, slot: u16) {
        self.deadline_slot = self.deadline_slot & !0xffff | slot as u64;
    }
}

/// Timers addressed by the index of their owner.
pub struct Wheel {
    links: Vec<Link>,
    heads: Vec<u32>,
    /// One bit for each slot that has timers.
    occupied: [[u64; SLOTS / 64]; LEVELS],
    /// The tick up to which time has passed.
    tick: u64,
    /// Some timers of slots that come due at `tick` have yet to be moved.
    is_moving: bool,
    armed: u32,
}

impl Wheel {
    /// Bytes of one timer.
    pub const TIMER_BYTES: usize = size_of::<Link>();

    /// Takes memory for `capacity` timers; time begins at zero.
    pub fn new(capacity: usize) -> Wheel {
        Wheel {
            links: alloc::vec![Link::UNARMED; capacity],
            heads: alloc::vec![NONE; LEVELS * SLOTS + 1],
            occupied: [[0; SLOTS / 64]; LEVELS],
            tick: 0,
            is_moving: false,
            armed: 0,
        }
    }

    /// Sets the timer of `index` to fire at `deadline`, in place of what it was set to.
    #[inline]
    pub fn arm(&mut self, index: u32, deadline: Instant) {
        let tick = tick_behind(deadline);
        let link = &self.links[index as usize];
        if link.slot() != UNARMED {
            if link.deadline() == tick {
                return;
            }
            self.disarm(index);
        }
        self.links[index as usize].deadline_slot = tick << 16 | UNARMED as u64;
        self.place(index);
        self.armed += 1;
    }

    /// Whether the timer of `index` is set.
    #[inline]
    pub fn is_armed(&self, index: u32) -> bool {
        self.links[index as usize].slot() != UNARMED
    }

    /// Whether the timer of `index` is set to fire no later than `deadline`.
    #[inline]
    pub fn is_armed_by(&self, index: u32, deadline: Instant) -> bool {
        let link = &self.links[index as usize];
        link.slot() != UNARMED && link.deadline() <= tick_behind(deadline)
    }

    /// Reads a little of the timer of `index`, so that its memory is on its way.
    #[inline]
    pub(crate) fn touch(&self, index: u32) -> u64 {
        self.links[index as usize].deadline_slot
    }

    /// Stops the timer of `index`, if it is set.
    #[inline]
    pub fn disarm(&mut self, index: u32) {
        if self.links[index as usize].slot() != UNARMED {
            self.unlink(index);
            self.armed -= 1;
        }
    }

    /// Timers set.
    pub fn armed(&self) -> usize {
        self.armed as usize
    }

    /// The next owner whose timer has come due at `now`; its timer is no longer set. Every timer that is moved
    /// or fires takes one of `steps`; where there are none left, [`Wheel::poll_timeout`] says that more is due.
    pub fn poll_expired(&mut self, now: Instant, steps: &mut u32) -> Option<u32> {
        self.advance(now.0 >> TICK_SHIFT, steps);
        let index = self.heads[EXPIRED as usize];
        if index == NONE || !take_step(steps) {
            return None;
        }
        self.disarm(index);
        Some(index)
    }

    /// When [`Wheel::poll_expired`] should be called next; a timer of a higher level may make this
    /// earlier than the timer is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.armed == 0 {
            return None;
        }
        if self.is_moving || self.heads[EXPIRED as usize] != NONE {
            return Some(Instant(self.tick << TICK_SHIFT));
        }
        (0..LEVELS).filter_map(|level| self.next_due(level)).min().map(|t| Instant(t << TICK_SHIFT))
    }

    /// The tick at which the next occupied slot of `level` comes due.
    #[inline]
    fn next_due(&self, level: usize) -> Option<u64> {
        let words = &self.occupied[level];
        let shift = 8 * level as u32;
        let current = self.tick >> shift;
        let first = (current as usize + 1) & 0xff;
        // The slots from `first` on, round to the current one: five words, the first one twice.
        for step in 0..=words.len() {
            let at = (first / 64 + step) % words.len();
            let mask = match step {
                0 => u64::MAX << (first % 64),
                4 => !(u64::MAX << (first % 64)),
                _ => u64::MAX,
            };
            let found = words[at] & mask;
            if found != 0 {
                let slot = at * 64 + found.trailing_zeros() as usize;
                let ahead = (slot.wrapping_sub(first) & 0xff) as u64 + 1;
                return Some((current + ahead) << shift);
            }
        }
        None
    }

    fn advance(&mut self, to: u64, steps: &mut u32) {
        loop {
            if self.is_moving && !self.move_due(steps) {
                return;
            }
            self.is_moving = false;
            let due = (0..LEVELS).filter_map(|level| self.next_due(level)).min();
            let Some(due) = due.filter(|&due| due <= to) else {
                self.tick = self.tick.max(to);
                return;
            };
            self.tick = due;
            self.is_moving = true;
        }
    }

    /// Moves what comes due at `tick`; false if there were too few steps for all of it. What is armed in between
    /// is never put into these slots: it would lie a whole turn ahead.
    fn move_due(&mut self, steps: &mut u32) -> bool {
        for level in (1..LEVELS).rev() {
            let shift = 8 * level as u32;
            if self.tick & ((1 << shift) - 1) == 0 {
                let slot = level * SLOTS + ((self.tick >> shift) as usize & 0xff);
                if !self.empty(slot, steps, Wheel::place) {
                    return false;
                }
            }
        }
        let slot = self.tick as usize & 0xff;
        self.empty(slot, steps, |wheel, index| wheel.link(index, EXPIRED))
    }

    fn empty(&mut self, slot: usize, steps: &mut u32, place: impl Fn(&mut Wheel, u32)) -> bool {
        while self.heads[slot] != NONE {
            if !take_step(steps) {
                return false;
            }
            let index = self.heads[slot];
            self.unlink(index);
            place(self, index);
        }
        true
    }

    /// Puts a timer into the slot that its deadline asks for.
    fn place(&mut self, index: u32) {
        let deadline = self.links[index as usize].deadline();
        if deadline <= self.tick {
            self.link(index, EXPIRED);
            return;
        }
        let ahead = deadline - self.tick;
        let level = (0..LEVELS).find(|&level| ahead < 1 << (8 * (level as u32 + 1)));
        let (level, deadline) = match level {
            Some(level) => (level, deadline),
            None => (LEVELS - 1, self.tick + (1 << (8 * LEVELS as u32)) - (1 << 24)),
        };
        let slot = (deadline >> (8 * level as u32)) as usize & 0xff;
        self.link(index, (level * SLOTS + slot) as u16);
    }

    fn link(&mut self, index: u32, slot: u16) {
        let head = self.heads[slot as usize];
        if head != NONE {
            self.links[head as usize].previous = index;
        }
        let link = &mut self.links[index as usize];
        (link.next, link.previous) = (head, NONE);
        link.set_slot(slot);
        self.heads[slot as usize] = index;
        if slot != EXPIRED {
            let (level, slot) = (slot as usize / SLOTS, slot as usize % SLOTS);
            self.occupied[level][slot / 64] |= 1 << (slot % 64);
        }
    }

    fn unlink(&mut self, index: u32) {
        let link = self.links[index as usize];
        let (Link { next, previous, .. }, slot) = (link, link.slot());
        match previous {
            NONE => self.heads[slot as usize] = next,
            _ => self.links[previous as usize].next = next,
        }
        if next != NONE {
            self.links[next as usize].previous = previous;
        }
        if slot != EXPIRED && self.heads[slot as usize] == NONE {
            let (level, slot) = (slot as usize / SLOTS, slot as usize % SLOTS);
            self.occupied[level][slot / 64] &= !(1 << (slot % 64));
        }
        self.links[index as usize].set_slot(UNARMED);
    }
}

/// The first tick behind `deadline`: a timer never fires early.
#[inline]
fn tick_behind(deadline: Instant) -> u64 {
    ((deadline.0 >> TICK_SHIFT) + 1).min(TICK_MAX)
}

fn take_step(steps: &mut u32) -> bool {
    let has_one = *steps > 0;
    *steps -= has_one as u32;
    has_one
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Duration;
    use alloc::collections::BTreeMap;

    #[test]
    fn fires_in_time_and_never_early() {
        let mut wheel = Wheel::new(512);
        let mut expected: BTreeMap<u32, u64> = BTreeMap::new();
        let mut state = 7u64;
        let mut random = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let mut now = Instant::ZERO;
        for round in 0..200_000u64 {
            let index = (random() % 512) as u32;
            match random() % 4 {
                0 => {
                    wheel.disarm(index);
                    expected.remove(&index);
                }
                _ => {
                    let span = 1u64 << (random() % 42);
                    let deadline = now + Duration(random() % span);
                    wheel.arm(index, deadline);
                    expected.insert(index, deadline.0);
                }
            }
            if round % 3 == 0 {
                now += Duration(random() % (1 << (random() % 34)));
            }
            // Often there are too few steps for what is due: the rest fires when it is asked for again.
            let few = (random() % 8) as u32;
            for polls in 0..u32::MAX {
                let mut steps = if polls < 16 { few } else { u32::MAX };
                let Some(index) = wheel.poll_expired(now, &mut steps) else {
                    if steps > 0 {
                        break;
                    }
                    continue;
                };
                let deadline = expected.remove(&index).expect("armed");
                assert!(deadline <= now.0, "fired early");
            }
            let tick = 1u64 << TICK_SHIFT;
            assert!(expected.values().all(|&d| d + tick >= now.0), "fired late");
            assert_eq!(wheel.armed(), expected.len());
            if let (Some(wake), Some(first)) = (wheel.poll_timeout(), expected.values().min()) {
                assert!(wake.0 <= first + tick && wake.0 + tick > now.0);
            }
        }
    }

    #[test]
    fn a_timer_beyond_the_wheel_goes_round() {
        let mut wheel = Wheel::new(1);
        wheel.arm(0, Instant(1 << 51));
        let mut expired = |now| wheel.poll_expired(Instant(now), &mut 100);
        assert_eq!(expired(1 << 40), None);
        assert_eq!(expired(1 << 50), None);
        assert_eq!(expired((1 << 51) + (1 << TICK_SHIFT)), Some(0));
        assert_eq!(wheel.poll_timeout(), None);
    }

    /// However many come due together: no poll moves or fires more than it may, and all of them fire.
    #[test]
    fn a_shared_deadline_is_spread_over_polls() {
        const TIMERS: u32 = 10_000;
        let (mut wheel, at) = (Wheel::new(TIMERS as usize + 1), Instant(3_600 << 30));
        (0..TIMERS).for_each(|index| wheel.arm(index, at));
        let now = at + Duration::from_millis(1);
        let (mut fired, mut polls) = (0, 0);
        while wheel.poll_timeout().is_some_and(|at| at <= now) {
            let mut steps = 100;
            while wheel.poll_expired(now, &mut steps).is_some() {
                fired += 1;
            }
            polls += 1;
            if polls == 50 {
                // In the middle of it all, somebody sets a timer.
                wheel.arm(TIMERS, now + Duration::from_secs(1));
            }
            assert!(polls < TIMERS, "no end");
        }
        assert_eq!((fired, wheel.armed()), (TIMERS, 1));
        assert!(polls >= TIMERS / 50, "each is moved once at least, and fires: {polls} polls");
        let mut steps = 10;
        assert_eq!(wheel.poll_expired(now + Duration::from_secs(2), &mut steps), Some(TIMERS));
    }
}
