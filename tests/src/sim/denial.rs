//! Who denies what it said into a closed window.
//!
//! Whoever is offered no window says its next byte all the same, now and then (RFC 9293 3.8.6.1), and whoever has room by then takes
//! it. To smoltcp that byte is unsaid: what it says next begins with the same number. As long as the acknowledgement comes in a segment
//! that it takes it believes that. But a promoted peer begins where its copy stands, and may say what has come already: smoltcp
//! refuses such a segment whole, acknowledgement included, and answers with the number of the byte that it denies. That lies
//! before what the peer takes, so its answer is refused as well, and neither side ever moves. A TCP that counts its probes as
//! said (`SND.NXT` in RFC 9293) is taken at its word.
//!
//! A denial stands from then on until anything is said from behind that byte, or more than it from its place.

use stack::key::FlowKey;
use stack::seq::Seq;
use stack::wire::{Flags, Segment};
use std::collections::BTreeMap;

/// One side of a connection that was offered no window.
#[derive(Clone, Copy, Debug)]
struct Shut {
    /// The next byte, when that was said.
    at: Seq,
    /// It has said that byte, and nothing beyond it.
    has_probed: bool,
    /// It was told that the byte has come.
    is_told: bool,
    /// It has spoken since as if it had never said it.
    denies: bool,
}

/// Connections of which the other side was offered no window.
#[derive(Debug, Default)]
pub struct Denials(BTreeMap<FlowKey, Shut>);

impl Denials {
    /// A node says something.
    pub fn note_told(&mut self, key: &FlowKey, segment: &Segment) {
        if segment.flags.has(Flags::SYN) {
            self.0.remove(key);
        } else if let Some(shut) = self.0.get_mut(key).filter(|shut| shut.has_probed) {
            shut.is_told |= segment.ack.after(shut.at);
        } else if segment.window == 0 {
            let (at, [has_probed, is_told, denies]) = (segment.ack, [false; 3]);
            self.0.insert(*key, Shut { at, has_probed, is_told, denies });
        }
    }

    /// The other side says something; answers whether it begins to deny what it has said.
    pub fn note_heard(&mut self, key: &FlowKey, segment: &Segment) -> bool {
        let Some(shut) = self.0.get_mut(key) else { return false };
        let Segment { seq, flags, payload, .. } = segment;
        let goes_on = seq.after(shut.at) || (*seq + payload.len() as u32).after(shut.at + 1);
        if goes_on || flags.has(Flags::SYN) || flags.has(Flags::RST) {
            self.0.remove(key);
            return false;
        }
        let is_there = *seq == shut.at;
        shut.has_probed |= is_there && !payload.is_empty();
        let is_denied = is_there && shut.is_told && payload.is_empty();
        is_denied && !std::mem::replace(&mut shut.denies, true)
    }

    /// Whether the other side has denied what it said, and not taken that back.
    pub fn stands(&self, key: &FlowKey) -> bool {
        self.0.get(key).is_some_and(|shut| shut.denies)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stack::wire::{Address, SegmentOptions};

    const KEY: FlowKey = FlowKey {
        remote: Address::v4([10, 1, 0, 1]),
        local: Address::v4([10, 0, 0, 101]),
        remote_port: 80,
        local_port: 20_000,
    };

    fn segment(seq: u32, ack: u32, window: u16, payload: &[u8]) -> Segment<'_> {
        Segment {
            source_mac: [2; 6],
            source: KEY.remote,
            destination: KEY.local,
            source_port: KEY.remote_port,
            destination_port: KEY.local_port,
            seq: Seq(seq),
            ack: Seq(ack),
            flags: Flags::ACK,
            window,
            options: SegmentOptions::default(),
            payload,
        }
    }

    /// The other side has said everything up to 5000, is offered no window, and says one byte more.
    fn probed() -> Denials {
        let mut denials = Denials::default();
        denials.note_told(&KEY, &segment(100, 5_000, 0, b"word"));
        assert!(!denials.note_heard(&KEY, &segment(5_000, 104, 6_000, b"p")));
        denials
    }

    /// Seed 702526: the byte is taken, and the promoted peer says what has come before.
    #[test]
    fn who_speaks_as_if_its_probe_were_unsaid_denies_it() {
        let mut denials = probed();
        assert!(!denials.note_heard(&KEY, &segment(5_000, 104, 6_000, b"")), "nobody has taken it");
        denials.note_told(&KEY, &segment(50, 5_001, 2_528, b"before"));
        assert!(denials.note_heard(&KEY, &segment(5_000, 104, 6_000, b"")));
        assert!(!denials.note_heard(&KEY, &segment(5_000, 104, 6_000, b"")), "it has begun to");
        assert!(denials.stands(&KEY));
    }

    #[test]
    fn who_counts_its_probe_as_said_denies_nothing() {
        let mut denials = probed();
        denials.note_told(&KEY, &segment(50, 5_001, 2_528, b"before"));
        assert!(!denials.note_heard(&KEY, &segment(5_001, 104, 6_000, b"")));
        assert!(!denials.note_heard(&KEY, &segment(5_000, 104, 6_000, b"")), "an old one");
        assert!(!denials.stands(&KEY));
    }

    #[test]
    fn a_denial_that_is_taken_back_is_none() {
        for (seq, payload) in [(5_001, &b""[..]), (5_000, b"probe")] {
            let mut denials = probed();
            denials.note_told(&KEY, &segment(50, 5_001, 2_528, b"before"));
            assert!(denials.note_heard(&KEY, &segment(5_000, 104, 6_000, b"")));
            denials.note_heard(&KEY, &segment(seq, 104, 6_000, payload));
            assert!(!denials.stands(&KEY), "{seq}");
        }
    }

    #[test]
    fn what_is_said_into_an_open_window_is_no_probe() {
        let mut denials = Denials::default();
        denials.note_told(&KEY, &segment(100, 5_000, 1, b"word"));
        denials.note_heard(&KEY, &segment(5_000, 104, 6_000, b"p"));
        denials.note_told(&KEY, &segment(50, 5_001, 2_528, b"before"));
        assert!(!denials.note_heard(&KEY, &segment(5_000, 104, 6_000, b"")));
    }
}
