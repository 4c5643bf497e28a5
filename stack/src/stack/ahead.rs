//! The memory that a burst will need, asked for all at once.
//!
//! With many flows, each segment would wait for the flow table, then for its flow line by line, then for its
//! timer, a hundred nanoseconds and more each time. Before a burst is handled, a little of each of these
//! lines is read for all of its flows: the reads do not depend on each other, so the waits overlap. The slots
//! found are kept as guesses for the frames that follow, in their order: a right one saves the second hash, a
//! wrong one costs a line.
//!
//! Path: before step 1. Bounds: [`AHEAD_FLOWS_MAX`] flows; what lies beyond is merely slower.

use super::Stack;
use crate::flow::Flow;
use crate::key::FlowKey;
use crate::pool::NONE;
use crate::wire::Address;

/// Flows looked up ahead at most: a burst.
pub const AHEAD_FLOWS_MAX: usize = 64;

impl Stack {
    /// Reads ahead what [`Stack::handle_frame`] will need for `frames`.
    pub fn look_ahead<'a>(&mut self, frames: impl Iterator<Item = &'a [u8]>) {
        let mut hashes = [None; AHEAD_FLOWS_MAX];
        let mut count = 0;
        for (hash, frame) in hashes.iter_mut().zip(frames) {
            *hash = guess_key(frame).map(|key| self.keys.flow_hash(&key));
            count += 1;
        }
        let mut slots = [NONE; AHEAD_FLOWS_MAX];
        for (slot, hash) in slots.iter_mut().zip(&hashes[..count]) {
            // The first entry with a like hash: to compare keys would be to wait for the flow.
            let found = hash.and_then(|hash| self.table.find(hash, |_| true).copied());
            *slot = found.unwrap_or(NONE);
        }
        self.look_ahead_at(&slots[..count]);
        self.ahead = Guesses { slots, next: 0, count };
    }

    /// Reads ahead what handling or applying something will need for the flows in `slots`; `NONE` is nothing.
    pub fn look_ahead_at(&self, slots: &[u32]) {
        let mut sum = 0;
        for &slot in slots.iter().filter(|&&slot| slot != NONE) {
            sum ^= self.flows[slot].touch() ^ self.wheel.touch(slot) ^ self.ready.touch(slot);
        }
        core::hint::black_box(sum);
    }
}

/// Where the flows of the frames that follow are believed to be.
pub(super) struct Guesses {
    slots: [u32; AHEAD_FLOWS_MAX],
    next: usize,
    count: usize,
}

impl Guesses {
    /// No guess.
    pub(super) const NONE: Guesses = Guesses { slots: [NONE; AHEAD_FLOWS_MAX], next: 0, count: 0 };

    /// The guess for the next frame, or `NONE`.
    #[inline]
    pub(super) fn take(&mut self) -> u32 {
        if self.next == self.count {
            return NONE;
        }
        self.next += 1;
        self.slots[self.next - 1]
    }
}

impl Flow {
    /// Reads a little of each of its cache lines.
    #[inline]
    fn touch(&self) -> u64 {
        let Flow { key, id, contract, output, backlog, local, sender, .. } = self;
        let contract = contract.received ^ contract.rcv_nxt.0 as u64;
        let local = local.last_op ^ local.snd_una.0 as u64 ^ local.owed.ack as u64;
        let streams = output.end() ^ backlog.len() as u64;
        key.remote_port as u64 ^ id.0 ^ contract ^ local ^ streams ^ sender.touch()
    }
}

/// The key of a TCP segment over IPv4, unchecked: `handle_frame` will look properly.
#[inline]
fn guess_key(frame: &[u8]) -> Option<FlowKey> {
    let header: &[u8; 38] = frame.first_chunk()?;
    if header[12..15] != [8, 0, 0x45] || header[23] != 6 {
        return None;
    }
    let [a, b, c, d, e, f, g, h, i, j, k, l] = *header.last_chunk()?;
    Some(FlowKey {
        remote: Address::v4([a, b, c, d]),
        local: Address::v4([e, f, g, h]),
        remote_port: u16::from_be_bytes([i, j]),
        local_port: u16::from_be_bytes([k, l]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Flags, Header, Path, emit_tcp, parse};

    #[test]
    fn a_guess_is_what_parsing_finds() {
        let path = Path {
            source_mac: [2; 6],
            destination_mac: [4; 6],
            source: Address::v4([10, 1, 2, 3]),
            destination: Address::v4([192, 0, 2, 1]),
            hop_limit: 64,
        };
        let header = Header {
            source_port: 4711,
            destination_port: 80,
            flags: Flags::SYN,
            ..Header::default()
        };
        let mut frame = [0; 128];
        let len = emit_tcp(&mut frame, &path, &header, 0);
        let Ok(crate::wire::Frame::Tcp(segment)) = parse(&frame[..len], &[4; 6], &[]) else {
            panic!("a good segment")
        };
        let key = guess_key(&frame[..len]).unwrap();
        assert_eq!((key.remote, key.local), (segment.source, segment.destination));
        assert_eq!((key.remote_port, key.local_port), (4711, 80));
        for cut in 0..38 {
            assert!(guess_key(&frame[..cut]).is_none());
        }
        frame[13] = 6;
        assert!(guess_key(&frame).is_none());
    }
}
