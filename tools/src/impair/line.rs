//! The line: a bottleneck, a delay, and the frames on their way, in the order of their arrival.
//!
//! ```text
//! admit ──> lost? ──> bottleneck (rate; tail drop) ──> delay + jitter ──> poll
//!                                                  └─> held back until others have passed ─┘
//! ```
//!
//! Jitter keeps the order, as a queue somewhere on the way would; only frames that the fate holds
//! back are overtaken. A frame that nobody overtakes within [`HOLD_NS`] goes on nevertheless.
//!
//! Pure: the caller owns the clock and the sockets. Buffers are used again.
//!
//! Units: `_ns` nanoseconds of any clock that does not go back.
//! Bounds: `queue_frames` before the bottleneck, [`LINE_FRAMES_MAX`] behind it.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use serde::{Deserialize, Serialize};

use super::fate::Fate;

/// Frames on their way at most, whatever the delay: 100 MiB of full frames. Later ones are dropped.
pub const LINE_FRAMES_MAX: usize = 65_536;

/// How long a frame waits to be overtaken.
pub const HOLD_NS: u64 = 5_000_000;

/// How frames travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// One way.
    pub delay_ns: u64,
    /// Of the bottleneck; 0 is none.
    pub rate_mbit: u64,
    /// Frames that wait at the bottleneck at most.
    pub queue_frames: usize,
}

/// What happened in one direction. `frames_in + duplicated` is the sum of `frames_out`, `lost`,
/// `overflowed`, `refused` and what is still on its way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Frames that arrived.
    pub frames_in: u64,
    /// Frames that left.
    pub frames_out: u64,
    /// Their bytes.
    pub bytes_out: u64,
    /// Lost as the seed said.
    pub lost: u64,
    /// Repeated as the seed said.
    pub duplicated: u64,
    /// Overtaken by at least one other.
    pub reordered: u64,
    /// Changed as the seed said.
    pub corrupted: u64,
    /// Dropped because the bottleneck's queue, or the line, was full.
    pub overflowed: u64,
    /// Frames that the outgoing interface did not take.
    pub refused: u64,
    /// Frames that the kernel dropped because this program was too slow; not among `frames_in`.
    pub overrun: u64,
    /// Frames longer than a buffer, dropped; not among `frames_in`.
    pub oversized: u64,
}

/// A frame whose time has come.
#[derive(Debug, PartialEq, Eq)]
pub struct Due {
    /// When it should have left.
    pub due_ns: u64,
    /// The frame; give it back with [`DelayLine::recycle`].
    pub frame: Vec<u8>,
}

/// The line of one direction.
#[derive(Debug)]
pub struct DelayLine {
    shape: Shape,
    /// What happened so far.
    pub counters: Counters,
    waiting: BinaryHeap<Reverse<Waiting>>,
    held: Vec<Held>,
    /// When the frames before the bottleneck leave it, oldest first.
    departures: VecDeque<u64>,
    /// When the bottleneck is free again.
    free_ns: u64,
    last_due_ns: u64,
    /// Ties are broken by the order in which frames were put in line.
    order: u64,
    buffers: Vec<Vec<u8>>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Waiting {
    due_ns: u64,
    order: u64,
    frame: Vec<u8>,
}

/// A frame that waits to be overtaken.
#[derive(Debug)]
struct Held {
    /// Frames that still go first.
    behind: u64,
    overtaken: bool,
    /// When it goes on at the latest.
    due_ns: u64,
    frame: Vec<u8>,
}

impl DelayLine {
    /// An empty line.
    pub fn new(shape: Shape) -> DelayLine {
        DelayLine {
            shape,
            counters: Counters::default(),
            waiting: BinaryHeap::new(),
            held: Vec::new(),
            departures: VecDeque::new(),
            free_ns: 0,
            last_due_ns: 0,
            order: 0,
            buffers: Vec::new(),
        }
    }

    /// A frame arrives and meets its fate.
    pub fn admit(&mut self, now_ns: u64, frame: &[u8], fate: &Fate) {
        self.counters.frames_in += 1;
        if fate.lost {
            self.counters.lost += 1;
            return;
        }
        let Some(departure_ns) = self.depart(now_ns, frame.len()) else {
            self.counters.overflowed += 1;
            return;
        };
        let due_ns = departure_ns + self.shape.delay_ns + fate.jitter_ns;
        let due_ns = due_ns.max(self.last_due_ns);
        self.last_due_ns = due_ns;
        let mut copy = self.copy(frame);
        if let Some(flips) = fate.flips {
            flips.apply(&mut copy);
            self.counters.corrupted += 1;
        }
        if fate.duplicated {
            let again = self.copy(&copy);
            self.put(due_ns, again);
            self.counters.duplicated += 1;
        }
        match fate.behind {
            Some(behind) => {
                let due_ns = due_ns + HOLD_NS;
                self.held.push(Held { behind, overtaken: false, due_ns, frame: copy });
            }
            None => {
                self.put(due_ns, copy);
                self.overtake(due_ns);
            }
        }
    }

    /// The next frame that should have left by now.
    pub fn poll(&mut self, now_ns: u64) -> Option<Due> {
        let held = self.held.iter().map(|held| held.due_ns).min().filter(|due| *due <= now_ns);
        let first = self.waiting.peek().map(|Reverse(first)| first.due_ns);
        if let Some(due_ns) = held.filter(|due| first.is_none_or(|first| *due < first)) {
            let at = self.held.iter().position(|held| held.due_ns == due_ns)?;
            let held = self.held.remove(at);
            self.counters.reordered += u64::from(held.overtaken);
            return Some(Due { due_ns, frame: held.frame });
        }
        first.filter(|due| *due <= now_ns)?;
        let Reverse(first) = self.waiting.pop()?;
        Some(Due { due_ns: first.due_ns, frame: first.frame })
    }

    /// When the next frame should leave.
    pub fn next_ns(&self) -> Option<u64> {
        let first = self.waiting.peek().map(|Reverse(first)| first.due_ns);
        self.held.iter().map(|held| held.due_ns).chain(first).min()
    }

    /// Takes a buffer back.
    pub fn recycle(&mut self, frame: Vec<u8>) {
        self.buffers.push(frame);
    }

    /// Frames on their way.
    pub fn len(&self) -> usize {
        self.waiting.len() + self.held.len()
    }

    /// Whether nothing is on its way.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// When a frame has passed the bottleneck; `None` if there was no room.
    fn depart(&mut self, now_ns: u64, bytes: usize) -> Option<u64> {
        if self.len() >= LINE_FRAMES_MAX {
            return None;
        }
        if self.shape.rate_mbit == 0 {
            return Some(now_ns);
        }
        while self.departures.front().is_some_and(|departure| *departure <= now_ns) {
            self.departures.pop_front();
        }
        if self.departures.len() >= self.shape.queue_frames {
            return None;
        }
        let takes_ns = bytes as u64 * 8 * 1_000 / self.shape.rate_mbit;
        self.free_ns = self.free_ns.max(now_ns) + takes_ns;
        self.departures.push_back(self.free_ns);
        Some(self.free_ns)
    }

    /// A frame due at `due_ns` goes past those held back.
    fn overtake(&mut self, due_ns: u64) {
        let mut at = 0;
        while let Some(held) = self.held.get_mut(at) {
            held.behind -= 1;
            held.overtaken = true;
            if held.behind > 0 {
                at += 1;
                continue;
            }
            let held = self.held.remove(at);
            self.counters.reordered += 1;
            self.put(due_ns, held.frame);
        }
    }

    fn put(&mut self, due_ns: u64, frame: Vec<u8>) {
        self.order += 1;
        self.waiting.push(Reverse(Waiting { due_ns, order: self.order, frame }));
    }

    fn copy(&mut self, frame: &[u8]) -> Vec<u8> {
        let mut copy = self.buffers.pop().unwrap_or_default();
        copy.clear();
        copy.extend_from_slice(frame);
        copy
    }
}

impl Counters {
    /// Both added up.
    pub fn plus(&self, other: &Counters) -> Counters {
        Counters {
            frames_in: self.frames_in + other.frames_in,
            frames_out: self.frames_out + other.frames_out,
            bytes_out: self.bytes_out + other.bytes_out,
            lost: self.lost + other.lost,
            duplicated: self.duplicated + other.duplicated,
            reordered: self.reordered + other.reordered,
            corrupted: self.corrupted + other.corrupted,
            overflowed: self.overflowed + other.overflowed,
            refused: self.refused + other.refused,
            overrun: self.overrun + other.overrun,
            oversized: self.oversized + other.oversized,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::impair::fate::{Direction, Odds};

    const PLAIN: Shape = Shape { delay_ns: 0, rate_mbit: 0, queue_frames: 10 };
    const MS: u64 = 1_000_000;

    fn names(line: &mut DelayLine, now_ns: u64) -> Vec<u8> {
        std::iter::from_fn(|| line.poll(now_ns)).map(|due| due.frame[0]).collect()
    }

    fn admit_all(line: &mut DelayLine, fates: &[Fate]) {
        for (name, fate) in (0..).zip(fates) {
            line.admit(u64::from(name), &[name; 100], fate);
        }
    }

    #[test]
    fn frames_leave_when_they_are_due_and_in_order() {
        let mut line = DelayLine::new(Shape { delay_ns: MS, ..PLAIN });
        let late = Fate { jitter_ns: 10, ..Fate::default() };
        admit_all(&mut line, &[late, Fate::default(), Fate::default()]);
        assert_eq!(line.next_ns(), Some(MS + 10));
        assert!(names(&mut line, MS + 9).is_empty());
        // The jitter of the first holds up those behind it.
        assert_eq!(names(&mut line, MS + 10), [0, 1, 2]);
        assert_eq!((line.next_ns(), line.is_empty()), (None, true));
    }

    #[test]
    fn a_frame_held_back_is_overtaken_by_as_many_as_were_drawn() {
        let mut line = DelayLine::new(PLAIN);
        let held = Fate { behind: Some(2), ..Fate::default() };
        let plain = Fate::default();
        admit_all(&mut line, &[plain, held, plain, plain, plain]);
        assert_eq!(names(&mut line, 10), [0, 2, 3, 1, 4]);
        assert_eq!(line.counters.reordered, 1);
    }

    #[test]
    fn a_frame_that_nobody_overtakes_goes_on() {
        let mut line = DelayLine::new(PLAIN);
        admit_all(&mut line, &[Fate { behind: Some(2), ..Fate::default() }]);
        assert_eq!(line.next_ns(), Some(HOLD_NS));
        assert!(names(&mut line, HOLD_NS - 1).is_empty());
        assert_eq!(names(&mut line, HOLD_NS), [0]);
        assert_eq!(line.counters.reordered, 0);
        // Overtaken by fewer than drawn, it still counts.
        let held = Fate { behind: Some(2), ..Fate::default() };
        line.admit(0, &[7; 20], &held);
        line.admit(0, &[8; 20], &Fate::default());
        assert_eq!(names(&mut line, 2 * HOLD_NS), [8, 7]);
        assert_eq!(line.counters.reordered, 1);
    }

    #[test]
    fn lost_repeated_and_changed_frames_are_counted() {
        let mut line = DelayLine::new(PLAIN);
        let flips = Odds { corrupt_ppm: 1_000_000, ..Odds::default() };
        let flips = flips.fate(1, Direction::AToB, 0).flips;
        let fates = [
            Fate { lost: true, duplicated: true, ..Fate::default() },
            Fate { duplicated: true, ..Fate::default() },
            Fate { flips, ..Fate::default() },
        ];
        admit_all(&mut line, &fates);
        let left: Vec<Vec<u8>> =
            std::iter::from_fn(|| line.poll(10)).map(|due| due.frame).collect();
        assert_eq!(left[..2], [vec![1; 100], vec![1; 100]]);
        assert_ne!(left[2], vec![2; 100]);
        assert_eq!(left.len(), 3);
        let counters = line.counters;
        assert_eq!((counters.lost, counters.duplicated, counters.corrupted), (1, 1, 1));
        assert_eq!(counters.frames_in, 3);
    }

    #[test]
    fn the_bottleneck_spaces_frames_and_drops_at_the_tail() {
        // 100 bytes take 8 microseconds at 100 Mbit/s.
        let mut line = DelayLine::new(Shape { rate_mbit: 100, queue_frames: 2, ..PLAIN });
        for name in 0..3 {
            line.admit(0, &[name; 100], &Fate::default());
        }
        assert_eq!(line.counters.overflowed, 1);
        let due: Vec<u64> =
            std::iter::from_fn(|| line.poll(u64::MAX)).map(|due| due.due_ns).collect();
        assert_eq!(due, [8_000, 16_000]);
        line.admit(8_000, &[3; 100], &Fate::default());
        assert_eq!(line.next_ns(), Some(24_000), "it waits for the one before it");
        line.admit(MS, &[4; 100], &Fate::default());
        assert_eq!(line.poll(MS).unwrap().frame[0], 3);
        assert_eq!(line.next_ns(), Some(MS + 8_000), "an idle bottleneck saves nothing up");
    }

    #[test]
    fn the_line_is_bounded() {
        let mut line = DelayLine::new(Shape { delay_ns: MS, ..PLAIN });
        for _ in 0..LINE_FRAMES_MAX + 5 {
            line.admit(0, &[0; 1], &Fate::default());
        }
        assert_eq!((line.len(), line.counters.overflowed), (LINE_FRAMES_MAX, 5));
    }

    #[test]
    fn nothing_appears_or_disappears() {
        let odds = Odds {
            loss_ppm: 100_000,
            duplicate_ppm: 100_000,
            reorder_ppm: 300_000,
            corrupt_ppm: 100_000,
            jitter_ns: 1_000,
            data_only: false,
        };
        let mut line = DelayLine::new(Shape { delay_ns: 500, rate_mbit: 800, queue_frames: 20 });
        let mut out = 0;
        for number in 0..20_000 {
            let now = number * 700;
            line.admit(now, &[0; 60], &odds.fate(9, Direction::AToB, number));
            while let Some(due) = line.poll(now) {
                assert!(due.due_ns <= now);
                line.recycle(due.frame);
                out += 1;
            }
        }
        out += std::iter::from_fn(|| line.poll(u64::MAX)).count() as u64;
        let counters = line.counters;
        assert!(counters.reordered > 1_000, "{counters:?}");
        assert_eq!(20_000 + counters.duplicated, out + counters.lost + counters.overflowed);
    }
}
