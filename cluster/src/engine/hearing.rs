//! What a peer has overheard of the clients of the groups whose copies it holds: the last frames that its copies
//! have not learnt from the log. If it takes a group over, the flows get them before anybody is asked to say them again.
//!
//! ```text
//! client -- request --> owner (dies)
//!              `------> peer: kept -- promoted --> handled as if it had just come
//! ```
//!
//! Nothing depends on it: a frame that is not here is said again by its client's timer.
//!
//! Bounds: [`HEARD_FRAMES_MAX`] frames, taken at start if a service wants it; the oldest makes room. Requests for
//! connections get a quarter, so that a flood of them displaces nothing else. Nothing older than [`HEARD_TIME_MAX`] is used.

use super::Engine;
use crate::limits::{HEARD_FRAMES_MAX, HEARD_SYNS_MAX, HEARD_TIME_MAX};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use stack::stack::Heard;
use stack::time::Instant;

/// What became of overheard frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HearingCounters {
    /// Kept: the copy did not have them yet.
    pub kept: u64,
    /// Not kept: they bring nothing that a flow would miss.
    pub idle: u64,
    /// Not needed: the copy has them from the log.
    pub covered: u64,
    /// Handled after a takeover.
    pub used: u64,
    /// Dropped: others came after them and there was no more room.
    pub displaced: u64,
    /// Dropped: requests for connections, of which there are too many.
    pub syns_refused: u64,
    /// Dropped: so old that their client has said them again.
    pub expired: u64,
    /// Dropped: longer than any frame of a client.
    pub too_long: u64,
}

impl HearingCounters {
    /// What was dropped though it might have been used, each with the name under which it is shown.
    pub fn drops(&self) -> [(&'static str, u64); 4] {
        [
            ("heard_displaced", self.displaced),
            ("heard_syns_refused", self.syns_refused),
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
    heard: Heard,
    since: Instant,
    frame: Vec<u8>,
}

/// The overheard frames of one core, oldest first.
pub(super) struct Hearing {
    free: Vec<Vec<u8>>,
    frame_bytes: usize,
    kept: VecDeque<Kept>,
    syns: usize,
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
            kept: VecDeque::with_capacity(count),
            syns: 0,
            counters: HearingCounters::default(),
        }
    }

    fn keep(&mut self, now: Instant, heard: Heard, frame: &[u8]) {
        if frame.len() > self.frame_bytes {
            self.counters.too_long += 1;
            return;
        }
        if heard.is_syn && self.syns >= HEARD_SYNS_MAX {
            self.counters.syns_refused += 1;
            return;
        }
        let mut buffer = match self.free.pop() {
            Some(buffer) => buffer,
            None => {
                let Some(oldest) = self.pop() else { return };
                self.counters.displaced += 1;
                oldest.frame
            }
        };
        buffer.clear();
        buffer.extend_from_slice(frame);
        self.counters.kept += 1;
        self.syns += usize::from(heard.is_syn);
        self.kept.push_back(Kept { heard, since: now, frame: buffer });
    }

    fn pop(&mut self) -> Option<Kept> {
        let kept = self.kept.pop_front()?;
        self.syns -= usize::from(kept.heard.is_syn);
        Some(kept)
    }
}

impl Engine {
    /// What became of overheard frames.
    pub fn hearing_counters(&self) -> HearingCounters {
        self.hearing.counters
    }

    /// Keeps an overheard frame.
    pub(super) fn note_heard(&mut self, now: Instant, heard: Heard, frame: &[u8]) {
        self.groups[heard.group as usize].heard_bytes += u64::from(heard.bytes);
        if heard.is_idle {
            self.hearing.counters.idle += 1;
        } else if self.stack.has_taken(&heard) {
            self.hearing.counters.covered += 1;
        } else {
            self.hearing.keep(now, heard, frame);
        }
    }

    /// Lets go of the oldest frames that are of no use any more.
    pub(super) fn forget_heard(&mut self, now: Instant) {
        while let Some(oldest) = self.hearing.kept.front() {
            let counters = &mut self.hearing.counters;
            if self.stack.has_taken(&oldest.heard) {
                counters.covered += 1;
            } else if now >= oldest.since + HEARD_TIME_MAX {
                counters.expired += 1;
            } else {
                return;
            }
            if let Some(kept) = self.hearing.pop() {
                self.hearing.free.push(kept.frame);
            }
        }
    }

    /// The group with this index is owned here now: its flows get what was heard and the log had not told.
    pub(super) fn use_heard(&mut self, now: Instant, index: usize) {
        for _ in 0..self.hearing.kept.len() {
            let Some(kept) = self.hearing.pop() else { return };
            if usize::from(kept.heard.group) != index {
                self.hearing.syns += usize::from(kept.heard.is_syn);
                self.hearing.kept.push_back(kept);
                continue;
            }
            let counters = &mut self.hearing.counters;
            if self.stack.has_taken(&kept.heard) {
                counters.covered += 1;
            } else if now >= kept.since + HEARD_TIME_MAX {
                counters.expired += 1;
            } else {
                counters.used += 1;
                self.stack.handle_overheard(now, &kept.frame, &mut self.logs);
            }
            self.hearing.free.push(kept.frame);
        }
    }
}
