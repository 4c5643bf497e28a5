//! What a flow reports of its input beside SEG.ACK: RFC 2018's blocks, and RFC 2883's duplicates.
//!
//! A block says what lies beyond a hole. It is advice: its sender keeps the bytes until SEG.ACK has passed
//! them (RFC 2018 8), which it does only when the peer holds them; so a peer may be promoted without them.
//!
//! A duplicate (DSACK) is the first block, and lies below SEG.ACK or within the second block. SEG.ACK is capped
//! at what the peer holds, so that a copy of what we have taken may lie *above* it: reported there, it would be
//! an ordinary block, and say of a byte that is in order that it has arrived when nobody but us holds it. Such a
//! duplicate waits until SEG.ACK has passed it whole. The acknowledgement that then leaves reports it, and the
//! client learns what is true: its repetition was needless, the delay was no loss.
//!
//! Nor is a hole reported while bytes before it wait for the peer: from a capped SEG.ACK and the blocks its
//! sender would read that these are lost as well, send them again, and find by the timestamp that it need not
//! have: Linux then undoes its recovery and may wait for its timer with the real hole. To the sender the wait
//! is a longer round trip.
//!
//! Path: step 7. Spec: RFC 2018 3, 4; RFC 2883 4. A segment with more than one duplicate part reports the first
//! (RFC 2883 4.2.3).
//! Bounds: one duplicate waits; a newer one takes its place (RFC 2883 4 (1)).

use crate::flow::{Env, Flow};
use crate::pool::NONE;
use crate::seq::Seq;
use crate::wire::Segment;

/// Bytes of options that a TCP header has room for.
const OPTION_BYTES_MAX: usize = 40;

/// SACK blocks, in the order of the option.
pub(super) type Blocks = [Option<(Seq, Seq)>; 4];

impl Flow {
    /// `segment`, or the beginning of it, was taken before.
    pub(super) fn note_taken_before(&mut self, segment: &Segment) {
        let rcv_nxt = self.contract.rcv_nxt;
        let below = rcv_nxt.distance(segment.seq);
        // What was never received, whatever its number says, is no duplicate.
        let was_received = below > 0 && below as u64 <= self.contract.received + 1;
        if was_received && !segment.payload.is_empty() {
            self.note_duplicate(segment.seq, rcv_nxt.min(segment.seq + segment.len()));
        }
    }

    /// What lies between has arrived twice.
    pub(super) fn note_duplicate(&mut self, start: Seq, end: Seq) {
        if self.contract.options.sack {
            self.local.duplicate = start;
            // If it must wait for the peer, it does not wait for anything else.
            self.local.owed.ack_new = true;
            self.local.duplicate_bytes = end.since(start).min(u16::MAX as u32) as u16;
        }
    }

    /// Whether SEG.ACK cannot say yet where the hole begins: what lies before it waits for the peer.
    #[inline]
    pub(super) fn is_hole_uncertain(&self) -> bool {
        self.reassembly != NONE && self.local.committed.rcv_nxt != self.contract.rcv_nxt
    }

    /// Whether there may be something to report.
    #[inline]
    pub(super) fn has_blocks(&self) -> bool {
        (self.reassembly != NONE || self.local.duplicate_bytes > 0) && self.contract.options.sack
    }

    /// The blocks for a segment with SEG.ACK `ack` and `payload_bytes` of payload, as many as fit, and whether
    /// the duplicate is among them.
    pub(super) fn blocks(&self, env: &Env, ack: Seq, payload_bytes: usize) -> (Blocks, bool) {
        let mut blocks = [None; 4];
        let stamps = if self.contract.options.timestamps { 12 } else { 0 };
        let left = (self.mss() as usize).saturating_sub(stamps + payload_bytes);
        let most = left.min(OPTION_BYTES_MAX - stamps).saturating_sub(4) / 8;
        let is_told = self.reassembly != NONE && !self.is_hole_uncertain();
        let reassembly = is_told.then(|| &env.reassembly[self.reassembly]);
        let duplicate = (self.local.duplicate_bytes > 0).then(|| {
            let start = self.local.duplicate;
            (start, start + self.local.duplicate_bytes as u32)
        });
        let around = duplicate.zip(reassembly).and_then(|((start, end), kept)| {
            kept.containing(start, end).filter(|(start, _)| start.after(ack))
        });
        let is_reported = match duplicate {
            Some((_, end)) if end.before_eq(ack) => most >= 1,
            Some(_) => around.is_some() && most >= 2,
            None => false,
        };
        let mut at = 0;
        if is_reported {
            blocks[0] = duplicate;
            at = 1;
        }
        // The newest first, but right behind a duplicate what it lies in.
        let first = around.filter(|_| is_reported);
        let rest = reassembly.into_iter().flat_map(|kept| kept.blocks());
        let rest = rest.filter(|block| block.0.after(ack) && Some(*block) != first);
        for block in first.into_iter().chain(rest).take(most.saturating_sub(at)) {
            if let Some(slot) = blocks.get_mut(at) {
                *slot = Some(block);
                at += 1;
            }
        }
        (blocks, is_reported)
    }
}
