//! Moments that a flow keeps, in four bytes each.
//!
//! Two clocks, both of which wrap: *deadlines* are microseconds modulo 2^32 (71 minutes) and never lie farther
//! ahead than [`AHEAD_MAX`]; the *last sign of life* is in steps of 2.1 ms modulo 2^32 (104 days).
//!
//! A flow may sleep for longer than either. So nothing here compares by half of the range:
//!
//! - What seems to lie farther ahead than `AHEAD_MAX` lies behind: it is due. Whatever happened to the clock
//!   (a node stopped for an hour, say), a deadline is at most `AHEAD_MAX` late.
//! - A sign of life older than [`SILENCE_MAX`] is set to [`SILENCE_KEPT`] by a timer of its own, which every
//!   flow has that has no shorter one: so it never comes round. The silent copies of a peer have no timers; the
//!   worst that can happen to one that nobody has heard for 104 days is a needless kick.
//!
//! Units: [`Tick`] microseconds; [`Heard`] 2^21 ns. Deadlines are rounded up: nothing is early.

use crate::limits::{PERSIST_MAX, TIME_WAIT, TS_RECENT_VALID};
use crate::tcp::in_flight::Tick;
use crate::time::{Duration, Instant};

/// How far ahead a deadline may lie.
pub const AHEAD_MAX: Duration = Duration::from_secs(64);

/// The longest silence that is measured: half of the range.
pub const SILENCE_MAX: Duration = Duration((1 << 31) << HEARD_SHIFT);

/// As what a longer one counts; idle time-outs must be shorter.
pub const SILENCE_KEPT: Duration = Duration::from_secs(25 * 24 * 3600);

const _: () = assert!(TIME_WAIT.0 <= AHEAD_MAX.0 && PERSIST_MAX.0 <= AHEAD_MAX.0);
const _: () = assert!(TS_RECENT_VALID.0 < SILENCE_KEPT.0 && SILENCE_KEPT.0 < SILENCE_MAX.0);

const HEARD_SHIFT: u32 = 21;

/// What a flow waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Wait {
    /// A delayed ACK goes out; in SYN-SENT, the SYN once more.
    Ack,
    /// What is held back may be acknowledged.
    HoldBack,
    /// `snd_una` is recorded although no record is due.
    UnaFlush,
    /// The client's closed window is probed, or what found no room is tried again.
    Persist,
    /// What found no room is tried again: a tick, what is in order but was not taken, what is to be sent.
    Room,
    /// TIME-WAIT ends.
    TimeWait,
}

const WAITS: usize = 6;

/// In `set`, beside the deadlines: one was set since the flow's timer was.
const IS_FRESH: u8 = 1 << 6;
/// The same: something else changed that the flow's timer depends on.
const IS_OTHER: u8 = 1 << 7;

const _: () = assert!(1 << WAITS <= IS_FRESH);

/// What may ask for an earlier timer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// Nothing.
    Nothing,
    /// A deadline was set.
    Deadline,
    /// Everything.
    All,
}

/// The deadlines of one flow, each set or not.
#[derive(Clone, Copy, Debug, Default)]
pub struct Deadlines {
    at: [Tick; WAITS],
    /// One bit for each that is set.
    set: u8,
}

const _: () = assert!(size_of::<Deadlines>() == 4 * WAITS + 4);

impl Deadlines {
    /// Sets one to `at`, which is at most `AHEAD_MAX` away, in place of what it was.
    #[inline]
    pub fn set(&mut self, wait: Wait, at: Instant) {
        self.at[wait as usize] = rounded_up(at);
        self.set |= 1 << wait as u8 | IS_FRESH;
    }

    /// Whatever the flow's timer depends on has to be looked at again.
    #[inline]
    pub fn note_change(&mut self) {
        self.set |= IS_OTHER;
    }

    /// Whether [`Deadlines::take_change`] has something to tell.
    #[inline]
    pub fn has_changed(&self) -> bool {
        self.set & (IS_OTHER | IS_FRESH) != 0
    }

    /// What has changed since this was last asked. What is not said here has not become due earlier.
    #[inline]
    pub fn take_change(&mut self) -> Change {
        let set = self.set;
        self.set &= IS_FRESH - 1;
        match set {
            _ if set & IS_OTHER != 0 => Change::All,
            _ if set & IS_FRESH != 0 => Change::Deadline,
            _ => Change::Nothing,
        }
    }

    /// Nothing is waited for any more.
    #[inline]
    pub fn clear(&mut self, wait: Wait) {
        self.set &= !(1 << wait as u8);
    }

    /// Whether it is set.
    #[inline]
    pub fn is_set(&self, wait: Wait) -> bool {
        self.set & 1 << wait as u8 != 0
    }

    /// Whether it is set and has come.
    #[inline]
    pub fn is_due(&self, now: Instant, wait: Wait) -> bool {
        self.is_set(wait) && ahead_us(Tick::of(now), self.at[wait as usize]) == 0
    }

    /// Whether it is set and is still to come.
    #[inline]
    pub fn is_ahead(&self, now: Instant, wait: Wait) -> bool {
        self.is_set(wait) && ahead_us(Tick::of(now), self.at[wait as usize]) > 0
    }

    /// Clears it if it has come, and says so.
    #[inline]
    pub fn take_due(&mut self, now: Instant, wait: Wait) -> bool {
        let is_due = self.is_due(now, wait);
        if is_due {
            self.clear(wait);
        }
        is_due
    }

    /// When one of them is due.
    #[inline]
    pub fn at(&self, now: Instant, wait: Wait) -> Instant {
        if self.is_set(wait) { instant(now, self.at[wait as usize]) } else { Instant::MAX }
    }

    /// When the first one is due; MAX if none is set.
    #[inline]
    pub fn first(&self, now: Instant) -> Instant {
        let mut rest = self.set & (IS_FRESH - 1);
        if rest == 0 {
            return Instant::MAX;
        }
        let (now_us, mut first) = (now.0 / 1_000, AHEAD_MAX.micros() as u32);
        while rest != 0 {
            first =
                first.min(ahead_us(Tick(now_us as u32), self.at[rest.trailing_zeros() as usize]));
            rest &= rest - 1;
        }
        Instant((now_us + first as u64) * 1_000)
    }
}

/// Whether a moment set by [`rounded_up`], `span` ahead at that time, lies ahead.
#[inline]
pub(crate) fn is_ahead(now: Instant, at: Tick, span: Duration) -> bool {
    let ahead = ahead_us(Tick::of(now), at);
    ahead > 0 && ahead as u64 <= span.micros() + 1
}

/// The tick at `at` or behind it.
#[inline]
pub(crate) fn rounded_up(at: Instant) -> Tick {
    Tick::of(Instant(at.0.saturating_add(999)))
}

/// Microseconds until `at`; 0 if it has come.
#[inline]
fn ahead_us(now: Tick, at: Tick) -> u32 {
    let ahead = at.since(now);
    if ahead as u64 <= AHEAD_MAX.micros() { ahead } else { 0 }
}

#[inline]
fn instant(now: Instant, at: Tick) -> Instant {
    Instant((now.0 / 1_000 + ahead_us(Tick::of(now), at) as u64) * 1_000)
}

/// When a flow was last heard.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Heard(u32);

impl Heard {
    /// Now.
    #[inline]
    pub const fn at(now: Instant) -> Heard {
        Heard((now.0 >> HEARD_SHIFT) as u32)
    }

    /// For how long nothing was heard, rounded down.
    #[inline]
    pub const fn silence(self, now: Instant) -> Duration {
        Duration((self.age(now) as u64) << HEARD_SHIFT)
    }

    /// For how many steps of 2.1 ms nothing was heard.
    #[inline]
    pub const fn age(self, now: Instant) -> u32 {
        Heard::at(now).0.wrapping_sub(self.0)
    }

    /// When the silence will have lasted for `span`.
    #[inline]
    pub const fn until(self, now: Instant, span: Duration) -> Instant {
        let begun = (now.0 >> HEARD_SHIFT << HEARD_SHIFT).saturating_sub(self.silence(now).0);
        Instant(begun.saturating_add(span.0).saturating_add(1 << HEARD_SHIFT))
    }

    /// Keeps a long silence from coming round.
    #[inline]
    pub fn clamp(&mut self, now: Instant) {
        if self.silence(now) >= SILENCE_MAX {
            let kept = now.0.saturating_sub(SILENCE_KEPT.0);
            *self = Heard::at(Instant(kept));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    #[test]
    fn deadlines_come_in_time_wherever_the_clock_stands() {
        let wrap = 1u64 << 32;
        for start_us in [0, 1, wrap - 30_000_000, wrap - 1, wrap, 7 * wrap + 12_345] {
            let now = Instant(start_us * 1_000 + 1);
            let mut deadlines = Deadlines::default();
            assert_eq!(deadlines.first(now), Instant::MAX);
            deadlines.set(Wait::TimeWait, now + TIME_WAIT);
            deadlines.set(Wait::Ack, now + Duration(25_000_500));
            let first = deadlines.first(now);
            assert!(first >= now + Duration(25_000_500) && first.0 - now.0 <= 25_001_500);
            assert!(!deadlines.is_due(Instant(first.0 - 1), Wait::Ack));
            assert!(deadlines.take_due(first, Wait::Ack) && !deadlines.is_set(Wait::Ack));
            assert!(deadlines.is_ahead(first, Wait::TimeWait));
            assert!(deadlines.is_due(now + TIME_WAIT + Duration(1_000), Wait::TimeWait));
        }
    }

    /// A node that was stopped for any time at all: late by `AHEAD_MAX` at most.
    #[test]
    fn no_deadline_comes_alive_again() {
        let start = Instant(1 << 50);
        let mut deadlines = Deadlines::default();
        deadlines.set(Wait::UnaFlush, start + Duration::from_millis(10));
        for minutes in 1..10_000 {
            let now = start + Duration::from_secs(60 * minutes);
            let first = deadlines.first(now);
            assert!(first <= now + AHEAD_MAX, "{minutes} minutes");
            assert!(deadlines.is_due(first, Wait::UnaFlush), "{minutes} minutes");
        }
    }

    #[test]
    fn silence_is_never_rounded_up_and_never_forgotten() {
        let start = Instant(123_456_789_123);
        let mut heard = Heard::at(start);
        let span = Duration::from_secs(60);
        let until = heard.until(start, span);
        assert!(until >= start + span && until.0 - (start + span).0 <= 2 << HEARD_SHIFT);
        assert_eq!(heard.until(start + span, span), until);
        // As its timer does: a visit whenever the longest silence has passed.
        let mut now = start;
        for _ in 0..20 {
            now = heard.until(now, SILENCE_MAX);
            heard.clamp(now);
            assert!(heard.silence(now) >= TS_RECENT_VALID);
            assert!(heard.silence(now + DAY) > heard.silence(now));
        }
        assert!(now.since(start) > Duration(400 * DAY.0));
    }
}
