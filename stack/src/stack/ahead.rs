//! The memory that a burst will need, asked for all at once.
//!
//! With many flows, each segment would wait for the flow table, then for its flow line by line, then for its
//! timer, a hundred nanoseconds and more each time. Before a burst is handled, a little of each of these
//! lines is read for all of its flows: the reads do not depend on each other, so the waits overlap. The slots
//! found are kept as guesses for the frames that follow, in their order: a right one saves the second hash, a
//! wrong one costs a line. The same hash says which core of the node a frame belongs to.
//!
//! Path: before step 1. Bounds: [`AHEAD_FLOWS_MAX`] flows; what lies beyond is merely slower.

use super::error::key_of;
use super::{Stack, spread};
use crate::flow::Flow;
use crate::key::FlowKey;
use crate::pool::NONE;
use crate::shard::shard_of;
use crate::wire::{Address, guess_quoted};

/// Flows looked up ahead at most: a burst.
pub const AHEAD_FLOWS_MAX: usize = 64;

impl Stack {
    /// Reads ahead what [`Stack::handle_frames`] will need for `frames`.
    pub fn look_ahead<'a>(&mut self, frames: impl Iterator<Item = &'a [u8]>) {
        let mut count = 0;
        let (mut last_key, mut last_hash) = (None, None);
        for (hash, frame) in self.ahead.hashes.iter_mut().zip(frames) {
            let key = guess_key(frame);
            if key != last_key {
                (last_key, last_hash) = (key, key.map(|key| self.keys.flow_hash(&key)));
            }
            *hash = last_hash;
            count += 1;
        }
        self.guess(count);
    }

    /// The same for frames that have crossed over from another core, which has hashed them.
    pub fn look_ahead_hashed(&mut self, hashes: impl Iterator<Item = u64>) {
        let mut count = 0;
        for (kept, hash) in self.ahead.hashes.iter_mut().zip(hashes) {
            *kept = Some(hash);
            count += 1;
        }
        self.guess(count);
    }

    /// If the next frame of the burst belongs to another core: to whom. It is passed over and must not be handed
    /// to [`Stack::handle_frames`].
    #[inline]
    pub fn pass_over(&mut self) -> Option<Elsewhere> {
        if self.place.cores == 1 || self.ahead.next == self.ahead.count {
            return None;
        }
        let hash = self.ahead.hashes[self.ahead.next]?;
        let core = self.place.core_of(shard_of(hash));
        if core == self.place.core {
            return None;
        }
        self.ahead.next += 1;
        Some(Elsewhere { core, hash })
    }

    /// Looks up the flows of the frames whose hashes are there.
    fn guess(&mut self, count: usize) {
        let mut slots = [NONE; AHEAD_FLOWS_MAX];
        for (slot, hash) in slots.iter_mut().zip(&self.ahead.hashes[..count]) {
            let ours = hash.filter(|&hash| self.place.holds(shard_of(hash)));
            // The first entry with a like hash: to compare keys would be to wait for the flow.
            let found = ours.and_then(|hash| self.table.find(spread(hash), |_| true).copied());
            *slot = found.unwrap_or(NONE);
        }
        self.look_ahead_at(&slots[..count]);
        (self.ahead.slots, self.ahead.next, self.ahead.count) = (slots, 0, count);
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

/// A frame that belongs to another core.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Elsewhere {
    /// The core.
    pub core: u8,
    /// The hash of the flow, which that core need not compute again.
    pub hash: u64,
}

/// Where the flows of the frames that follow are believed to be.
pub(super) struct Guesses {
    slots: [u32; AHEAD_FLOWS_MAX],
    /// Of the frames that are TCP segments or errors about them.
    hashes: [Option<u64>; AHEAD_FLOWS_MAX],
    next: usize,
    count: usize,
}

impl Guesses {
    /// No guess.
    pub(super) const NONE: Guesses = Guesses {
        slots: [NONE; AHEAD_FLOWS_MAX],
        hashes: [None; AHEAD_FLOWS_MAX],
        next: 0,
        count: 0,
    };

    /// The guess for the next frame, or `NONE`.
    #[inline]
    pub(super) fn take(&mut self) -> u32 {
        if self.next == self.count {
            return NONE;
        }
        self.next += 1;
        self.slots[self.next - 1]
    }

    /// So many frames more were taken with the last one.
    #[inline]
    pub(super) fn skip(&mut self, frames: usize) {
        self.next = (self.next + frames).min(self.count);
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

/// The key of whatever `handle_frames` may find to be a TCP segment, or an ICMP error about one, unchecked.
#[inline]
fn guess_key(frame: &[u8]) -> Option<FlowKey> {
    let header: &[u8; 38] = frame.first_chunk()?;
    if header[12..15] != [8, 0, 0x45] || header[23] != 6 {
        return guess_key_v6(frame);
    }
    let [a, b, c, d, e, f, g, h, i, j, k, l] = *header.last_chunk()?;
    Some(FlowKey {
        remote: Address::v4([a, b, c, d]),
        local: Address::v4([e, f, g, h]),
        remote_port: u16::from_be_bytes([i, j]),
        local_port: u16::from_be_bytes([k, l]),
    })
}

fn guess_key_v6(frame: &[u8]) -> Option<FlowKey> {
    let header: &[u8; 58] = frame.first_chunk()?;
    if header[12..14] != [0x86, 0xdd] || header[14] >> 4 != 6 || header[20] != 6 {
        return guess_quoted(frame).map(|quoted| key_of(&quoted));
    }
    let [i, j, k, l] = *header.last_chunk()?;
    Some(FlowKey {
        remote: Address(header[22..38].try_into().ok()?),
        local: Address(header[38..54].try_into().ok()?),
        remote_port: u16::from_be_bytes([i, j]),
        local_port: u16::from_be_bytes([k, l]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Flags, Header, Path, emit_tcp, parse};

    fn frame(source: Address, destination: Address) -> ([u8; 128], usize) {
        let (source_mac, destination_mac) = ([2; 6], [4; 6]);
        let path = Path { source_mac, destination_mac, source, destination, hop_limit: 64 };
        let header = Header {
            source_port: 4711,
            destination_port: 80,
            flags: Flags::SYN,
            ..Header::default()
        };
        let mut frame = [0; 128];
        let len = emit_tcp(&mut frame, &path, &header, 0);
        (frame, len)
    }

    #[test]
    fn a_guess_is_what_parsing_finds() {
        let v6 = |n| Address([0xfd, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, n]);
        let (a, b) = (Address::v4([10, 1, 2, 3]), Address::v4([192, 0, 2, 1]));
        for (source, destination, headers) in [(a, b, 38), (v6(1), v6(2), 58)] {
            let (mut frame, len) = frame(source, destination);
            let Ok(crate::wire::Frame::Tcp(segment)) = parse(&frame[..len], &[4; 6], &[]) else {
                panic!("a good segment")
            };
            let key = guess_key(&frame[..len]).unwrap();
            assert_eq!((key.remote, key.local), (segment.source, segment.destination));
            assert_eq!((key.remote_port, key.local_port), (4711, 80));
            for cut in 0..headers {
                assert!(guess_key(&frame[..cut]).is_none());
            }
            frame[13] = 6;
            assert!(guess_key(&frame).is_none());
        }
    }

    /// RFC 792, RFC 4443: an error goes to the core that the segment came from which it quotes.
    #[test]
    fn an_error_goes_where_its_flow_is() {
        let v6 = |n| Address([0xfd, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, n]);
        let (a, b) = (Address::v4([10, 1, 2, 3]), Address::v4([192, 0, 2, 1]));
        for (ours, theirs, protocol_at, protocol, kind) in
            [(a, b, 23, 1, 3), (v6(1), v6(2), 20, 58, 2)]
        {
            let (outer, _) = frame(theirs, ours);
            let (quoted, len) = frame(ours, theirs);
            let head = 14 + ours.header_bytes();
            let mut error = outer[..head].to_vec();
            error[protocol_at] = protocol;
            error.extend([kind, 4, 0, 0, 0, 0, 0, 0]);
            error.extend(&quoted[14..len]);
            let key = guess_key(&error).unwrap();
            assert_eq!((key.local, key.remote), (ours, theirs));
            assert_eq!((key.local_port, key.remote_port), (4711, 80));
            for cut in 0..head + 8 + ours.header_bytes() + 8 {
                assert!(guess_key(&error[..cut]).is_none());
            }
            error[head] = if protocol == 1 { 5 } else { 128 };
            assert!(guess_key(&error).is_none(), "no error");
        }
    }
}
