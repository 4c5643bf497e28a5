//! What a peer has overheard of the clients of the groups whose copies it holds: the last frames that its copies
//! have not learnt from the log. If it takes a group over, the flows get them before anybody is asked to say them again.
//!
//! ```text
//! client -- request --> owner (dies)
//!              `------> peer: kept -- promoted --> handled as if it had just come
//! ```
//!
//! Nothing depends on it: a frame that is not here is said again by its client's timer. A handover uses none of it:
//! its owner lives and forwards what it is told.
//!
//! Bounds: [`HEARD_FRAMES_MAX`] frames, taken at start if a service wants it; the oldest makes room. Requests for
//! connections have a quarter of their own, and segments that no copy would take are not kept, so that strangers
//! displace nothing. Nothing older than [`HEARD_TIME_MAX`] is used.

use super::Engine;
use crate::limits::{FORGOTTEN_PER_POLL, HEARD_FRAMES_MAX, HEARD_SYNS_MAX, HEARD_TIME_MAX};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use stack::stack::{Overheard, Stack, Worth};
use stack::time::Instant;

/// What became of overheard frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HearingCounters {
    /// Kept: the copy did not have them yet.
    pub kept: u64,
    /// Not kept: they bring nothing that a flow would miss.
    pub idle: u64,
    /// Not needed: the copy has them from the log, or has ended.
    pub covered: u64,
    /// Handled after a takeover.
    pub used: u64,
    /// Dropped: no copy here would take them.
    pub strangers: u64,
    /// Dropped: others came after them and there was no more room.
    pub displaced: u64,
    /// Dropped: so old that their client has said them again.
    pub expired: u64,
    /// Dropped: longer than any frame of a client.
    pub too_long: u64,
}

impl HearingCounters {
    /// What was dropped though it might have been used, each with the name under which it is shown.
    pub fn drops(&self) -> [(&'static str, u64); 4] {
        [
            ("heard_strangers", self.strangers),
            ("heard_displaced", self.displaced),
            ("heard_expired", self.expired),
            ("heard_too_long", self.too_long),
        ]
    }

    /// What was not, the same way.
    pub fn events(&self) -> [(&'static str, u64); 4] {
        [
            ("heard_kept", self.kept),
            ("heard_idle", self.idle),
            ("heard_covered", self.covered),
            ("heard_used", self.used),
        ]
    }
}

struct Kept {
    heard: Overheard,
    since: Instant,
    frame: Vec<u8>,
}

/// Segments of flows, and requests for connections.
const SEGMENTS: usize = 0;
const OPENINGS: usize = 1;

/// Frames of each at most.
const KEPT_MAX: [usize; 2] = [HEARD_FRAMES_MAX - HEARD_SYNS_MAX, HEARD_SYNS_MAX];

/// The overheard frames of one core.
pub(super) struct Hearing {
    free: Vec<Vec<u8>>,
    frame_bytes: usize,
    /// Oldest first.
    kept: [VecDeque<Kept>; 2],
    /// Where the next look at the openings begins.
    at: usize,
    pub counters: HearingCounters,
}

/// Bytes that the frames take, of up to `frame_bytes` each.
pub fn hearing_memory_bytes(frame_bytes: usize) -> usize {
    HEARD_FRAMES_MAX * frame_bytes
}

impl Hearing {
    /// Takes all memory; none if no service is listened to.
    pub fn new(is_wanted: bool, frame_bytes: usize) -> Hearing {
        let count = if is_wanted { HEARD_FRAMES_MAX } else { 0 };
        Hearing {
            free: (0..count).map(|_| Vec::with_capacity(frame_bytes)).collect(),
            frame_bytes,
            kept: KEPT_MAX.map(|max| VecDeque::with_capacity(count.min(max))),
            at: 0,
            counters: HearingCounters::default(),
        }
    }

    fn keep(&mut self, now: Instant, stack: &Stack, heard: Overheard, frame: &[u8]) {
        if frame.len() > self.frame_bytes {
            self.counters.too_long += 1;
            return;
        }
        let which = if heard.worth == Worth::Opening { OPENINGS } else { SEGMENTS };
        let queue = &mut self.kept[which];
        if queue.len() == KEPT_MAX[which]
            && let Some(oldest) = queue.pop_front()
        {
            let is_wanted = stack.is_wanted(&oldest.heard);
            self.counters.displaced += u64::from(is_wanted);
            self.counters.covered += u64::from(!is_wanted);
            self.free.push(oldest.frame);
        }
        let Some(mut buffer) = self.free.pop() else { return };
        buffer.clear();
        buffer.extend_from_slice(frame);
        self.counters.kept += 1;
        queue.push_back(Kept { heard, since: now, frame: buffer });
    }

    /// Why a frame is of no use any more, if it is not.
    fn reason<'a>(
        counters: &'a mut HearingCounters,
        now: Instant,
        stack: &Stack,
        kept: &Kept,
    ) -> Option<&'a mut u64> {
        if !stack.is_wanted(&kept.heard) {
            Some(&mut counters.covered)
        } else if now >= kept.since + HEARD_TIME_MAX {
            Some(&mut counters.expired)
        } else {
            None
        }
    }
}

impl Engine {
    /// What became of overheard frames.
    pub fn hearing_counters(&self) -> HearingCounters {
        self.hearing.counters
    }

    /// Handles or keeps an overheard frame.
    pub(super) fn note_heard(&mut self, now: Instant, heard: Overheard, frame: &[u8]) {
        let Engine { hearing, stack, logs, groups, .. } = self;
        groups[heard.group as usize].heard_bytes += u64::from(heard.bytes);
        let counters = &mut hearing.counters;
        match heard.worth {
            Worth::Served => {
                counters.used += 1;
                stack.handle_overheard(now, frame, logs);
            }
            Worth::Opening | Worth::News => hearing.keep(now, stack, heard, frame),
            Worth::Covered => counters.covered += 1,
            Worth::Idle => counters.idle += 1,
            Worth::Stranger => counters.strangers += 1,
        }
    }

    /// Lets go of frames that are of no use any more: the oldest, and wherever among the openings.
    pub(super) fn forget_heard(&mut self, now: Instant) {
        let Hearing { free, kept, at, counters, .. } = &mut self.hearing;
        for queue in &mut *kept {
            while let Some(oldest) = queue.front() {
                let Some(count) = Hearing::reason(counters, now, &self.stack, oldest) else {
                    break;
                };
                *count += 1;
                free.extend(queue.pop_front().map(|kept| kept.frame));
            }
        }
        // One that was answered by a cookie, or whose connection has ended, would keep the others here.
        let openings = &mut kept[OPENINGS];
        for _ in 0..FORGOTTEN_PER_POLL.min(openings.len()) {
            *at = if *at < openings.len() { *at } else { 0 };
            let Some(kept) = openings.get(*at) else { break };
            match Hearing::reason(counters, now, &self.stack, kept) {
                Some(count) => {
                    *count += 1;
                    free.extend(openings.remove(*at).map(|kept| kept.frame));
                }
                None => *at += 1,
            }
        }
    }

    /// The group with this index was taken over: its flows get what was heard and the log had not told.
    pub(super) fn use_heard(&mut self, now: Instant, index: usize) {
        for which in [SEGMENTS, OPENINGS] {
            for _ in 0..self.hearing.kept[which].len() {
                let Hearing { free, kept, counters, .. } = &mut self.hearing;
                let Some(oldest) = kept[which].pop_front() else { break };
                if usize::from(oldest.heard.group) != index {
                    kept[which].push_back(oldest);
                    continue;
                }
                match Hearing::reason(counters, now, &self.stack, &oldest) {
                    Some(count) => *count += 1,
                    None => {
                        counters.used += 1;
                        self.stack.handle_overheard(now, &oldest.frame, &mut self.logs);
                    }
                }
                free.push(oldest.frame);
            }
        }
    }
}
