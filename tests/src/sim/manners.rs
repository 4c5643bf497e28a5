//! RFC manners: what a flow may say, judged by everything that passed before.
//!
//! The window never shrinks, nothing follows a FIN, TSval never goes back; nothing is acknowledged, selectively or not,
//! that was never sent.
//!
//! Who has restarted, or has forgotten a connection that is over, answers a SYN of ours that comes again by a SYN of its own
//! that is another one: so what one side says is several streams, of which a connection takes one.
//!
//! Spec: RFC 9293 3.8.6 (SHLD-14), RFC 7323 3.2, RFC 2018 4, RFC 2883 4.

use cluster::id::Epoch;
use stack::key::FlowKey;
use stack::seq::Seq;
use stack::wire::{Flags, Segment};
use std::collections::BTreeMap;

/// What one flow has said and heard so far.
#[derive(Clone, Copy, Debug)]
struct Told {
    /// SEG.SEQ of our SYN: a reused port begins anew.
    iss: Seq,
    /// Scale of our windows.
    scale: u8,
    /// The highest right edge, once one was offered.
    edge: Option<Seq>,
    /// Behind our FIN, once it was sent.
    end: Option<Seq>,
    /// The newest TSval, and the epoch in which it was said.
    tsval: Option<(u32, Epoch)>,
    /// The group of the flow, once that is known.
    group: Option<usize>,
    /// Where the stream begins that it acknowledges, once it has.
    hears: Option<Seq>,
}

/// What the other side says behind one SYN.
#[derive(Clone, Copy, Debug)]
struct Stream {
    /// What that SYN acknowledged, if it answered one of ours.
    answers: Option<Seq>,
    /// Behind it.
    start: Seq,
    /// Behind the last byte.
    end: Seq,
}

impl Stream {
    fn has(&self, seq: Seq) -> bool {
        !seq.before(self.start) && !seq.after(self.end)
    }

    /// Whether a connection may acknowledge this one.
    fn is_for(&self, told: &Told) -> bool {
        match told.hears {
            Some(start) => self.start == start,
            None => self.answers.is_none_or(|answered| answered == told.iss + 1),
        }
    }
}

/// TSval jumps at a takeover by twice the lease and a second: at least by so many milliseconds.
const JUMP_MS: u32 = 1000;

/// Who says something, as far as it is known.
#[derive(Clone, Copy, Debug)]
pub struct SaidBy {
    /// The group of the flow, if it is one.
    pub group: Option<usize>,
    /// The epoch of that group.
    pub epoch: Epoch,
    /// With this epoch its peer took the group over, and its clock jumped.
    pub taken_over: Epoch,
}

/// Everything said and heard, flow by flow.
#[derive(Debug, Default)]
pub struct Manners {
    told: BTreeMap<FlowKey, Told>,
    /// What the other side has sent, the newest stream last.
    heard: BTreeMap<FlowKey, Vec<Stream>>,
}

impl Manners {
    /// A client or server says something.
    pub fn note_heard(&mut self, key: &FlowKey, segment: &Segment) {
        if segment.flags.has(Flags::RST) {
            return;
        }
        let end = end_of(segment);
        let streams = self.heard.entry(*key).or_default();
        let place = match segment.flags.has(Flags::SYN) {
            true => segment.seq + 1,
            false => segment.seq,
        };
        if let Some(known) = streams.iter_mut().rev().find(|known| known.has(place)) {
            known.end = known.end.max(end);
        } else if segment.flags.has(Flags::SYN) {
            let answers = segment.flags.has(Flags::ACK).then_some(segment.ack);
            streams.push(Stream { answers, start: place, end });
        }
    }

    /// A node says something that is no reset; answers the right edge that it offers, and by how much that may have
    /// been rounded. Errors: which rule it breaks.
    pub fn note_said(
        &mut self,
        key: &FlowKey,
        segment: &Segment,
        by: SaidBy,
    ) -> Result<Option<(Seq, u32)>, String> {
        if segment.flags.has(Flags::SYN) {
            let edge = self.note_syn(key, segment, by.epoch);
            if edge.is_some() {
                self.check_acknowledged(key, segment)?;
            }
            return Ok(edge.map(|edge| (edge, 1)));
        }
        self.check_acknowledged(key, segment)?;
        let Some(told) = self.told.get_mut(key) else { return Ok(None) };
        if let (Some(was), Some(is)) = (told.group, by.group)
            && was != is
        {
            return Err(format!("a connection of group {was} goes on in group {is}"));
        }
        told.group = told.group.or(by.group);
        let edge = segment.ack + (u32::from(segment.window) << told.scale);
        if let Some(known) = told.edge
            && edge.before(known)
            // A promise that is said again may be rounded down to what the scale can say.
            && known.since(edge) >= 1 << told.scale
        {
            return Err(format!("the window shrank by {} bytes", known.since(edge)));
        }
        told.edge = Some(told.edge.map_or(edge, |known| known.max(edge)));
        let end = segment.seq + segment.payload.len() as u32;
        if let Some(fin) = told.end
            && (end + 1).after(fin)
            && !segment.payload.is_empty()
        {
            return Err("payload behind the FIN".into());
        }
        if segment.flags.has(Flags::FIN) {
            if told.end.is_some_and(|known| known != end + 1) {
                return Err("two places of the FIN".into());
            }
            told.end = Some(end + 1);
        }
        if let Some((tsval, _)) = segment.options.timestamps {
            if let Some((known, epoch)) = told.tsval {
                if Seq(tsval).before(Seq(known)) {
                    return Err("TSval went back".into());
                }
                let has_jumped = epoch < by.taken_over && by.taken_over <= by.epoch;
                if has_jumped && Seq(tsval).since(Seq(known)) < JUMP_MS {
                    return Err("TSval did not jump at a takeover".into());
                }
            }
            told.tsval = Some((tsval, by.epoch));
        }
        // A closed window offers nothing, also behind a FIN that came right at the edge.
        Ok((segment.window > 0).then_some((edge, 1 << told.scale)))
    }

    /// The window in a SYN is not scaled.
    fn note_syn(&mut self, key: &FlowKey, segment: &Segment, epoch: Epoch) -> Option<Seq> {
        let has_ack = segment.flags.has(Flags::ACK);
        let edge = has_ack.then(|| segment.ack + u32::from(segment.window));
        let told = Told {
            iss: segment.seq,
            scale: segment.options.window_scale.unwrap_or(0),
            edge,
            end: None,
            tsval: segment.options.timestamps.map(|(tsval, _)| (tsval, epoch)),
            group: None,
            hears: None,
        };
        let known = self.told.entry(*key).or_insert(told);
        if known.iss != told.iss {
            *known = told;
        }
        edge
    }

    /// A connection acknowledges one stream, from its first acknowledgement on.
    fn check_acknowledged(&mut self, key: &FlowKey, segment: &Segment) -> Result<(), String> {
        let Some(streams) = self.heard.get(key) else { return Ok(()) };
        let mut told = self.told.get_mut(key);
        let may_be = |stream: &&Stream| told.as_ref().is_none_or(|told| stream.is_for(told));
        let mut candidates = streams.iter().rev().filter(may_be);
        let Some(&Stream { start, end: heard, .. }) =
            candidates.clone().find(|s| s.has(segment.ack))
        else {
            let newest = candidates.next().map(|stream| segment.ack.distance(stream.end));
            return Err(match newest {
                Some(beyond) => format!("acknowledged {beyond} bytes never sent"),
                None => "acknowledged what was said to another connection".into(),
            });
        };
        if let Some(told) = &mut told {
            told.hears = Some(start);
        }
        let blocks = segment.options.sack.iter().flatten();
        for (index, &(from, to)) in blocks.enumerate() {
            if !from.before(to) || to.after(heard) {
                return Err(format!("a SACK block of bytes never sent: {from:?} to {to:?}"));
            }
            // The first may tell of what came twice (RFC 2883), wherever that lies.
            if index > 0 && !from.after(segment.ack) {
                return Err(format!("a SACK block of what is acknowledged: {from:?} to {to:?}"));
            }
        }
        Ok(())
    }
}

/// Behind the last byte of a segment, SYN and FIN counted.
pub(super) fn end_of(segment: &Segment) -> Seq {
    let marks = [Flags::SYN, Flags::FIN].map(|flag| u32::from(segment.flags.has(flag)));
    segment.seq + segment.payload.len() as u32 + marks[0] + marks[1]
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
    const SYN_ACK: Flags = Flags(Flags::SYN.0 | Flags::ACK.0);
    const BY: SaidBy = SaidBy { group: Some(0), epoch: Epoch(1), taken_over: Epoch(0) };

    fn segment(flags: Flags, seq: u32, ack: u32, payload: &[u8]) -> Segment<'_> {
        Segment {
            source_mac: [2; 6],
            source: KEY.remote,
            destination: KEY.local,
            source_port: KEY.remote_port,
            destination_port: KEY.local_port,
            seq: Seq(seq),
            ack: Seq(ack),
            flags,
            window: 1_000,
            options: SegmentOptions::default(),
            payload,
        }
    }

    /// We open, and the server answers.
    fn opened(iss: u32, irs: u32) -> Manners {
        let mut manners = Manners::default();
        open(&mut manners, iss, irs);
        manners
    }

    fn open(manners: &mut Manners, iss: u32, irs: u32) {
        manners.note_said(&KEY, &segment(Flags::SYN, iss, 0, b""), BY).expect("a SYN");
        manners.note_heard(&KEY, &segment(SYN_ACK, irs, iss + 1, b""));
    }

    fn acknowledge(manners: &mut Manners, iss: u32, ack: u32) -> Result<(), String> {
        manners.note_said(&KEY, &segment(Flags::ACK, iss + 1, ack, b""), BY).map(|_| ())
    }

    #[test]
    fn what_was_never_sent_is_not_acknowledged() {
        let mut manners = opened(100, 5_000);
        manners.note_heard(&KEY, &segment(Flags::ACK, 5_001, 101, b"hello"));
        assert_eq!(acknowledge(&mut manners, 100, 5_006), Ok(()));
        assert!(acknowledge(&mut manners, 100, 5_007).is_err());
        manners.note_heard(&KEY, &segment(Flags::ACK.with(Flags::FIN), 5_006, 101, b""));
        assert_eq!(acknowledge(&mut manners, 100, 5_007), Ok(()));
        assert!(acknowledge(&mut manners, 100, 4_000).is_err(), "nobody has begun there");
    }

    /// A server that has forgotten a connection answers its SYN, which comes again, by another one: the connection
    /// that is over goes by the first, whatever the second is.
    #[test]
    fn a_connection_goes_by_the_stream_that_it_has_acknowledged() {
        for other in [90, 1 << 31] {
            let mut manners = opened(100, 5_000);
            assert_eq!(acknowledge(&mut manners, 100, 5_001), Ok(()));
            manners.note_heard(&KEY, &segment(SYN_ACK, other, 101, b""));
            assert_eq!(acknowledge(&mut manners, 100, 5_001), Ok(()));
            assert!(acknowledge(&mut manners, 100, other + 1).is_err(), "it has taken the first");
            // Bytes of the one are none of the other.
            manners.note_heard(&KEY, &segment(Flags::ACK, other + 1, 101, b"hello"));
            assert!(acknowledge(&mut manners, 100, 5_006).is_err());
        }
    }

    #[test]
    fn the_next_connection_of_the_same_ends_acknowledges_nothing_of_the_one_before() {
        let mut manners = opened(100, 5_000);
        assert_eq!(acknowledge(&mut manners, 100, 5_001), Ok(()));
        open(&mut manners, 300, 70_000);
        assert!(acknowledge(&mut manners, 300, 5_001).is_err());
        assert_eq!(acknowledge(&mut manners, 300, 70_001), Ok(()));
    }

    #[test]
    fn a_syn_ack_acknowledges_the_syn() {
        for (ack, is_right) in [(8_001, true), (8_000, false), (8_002, false)] {
            let mut manners = Manners::default();
            manners.note_heard(&KEY, &segment(Flags::SYN, 8_000, 0, b""));
            let said = manners.note_said(&KEY, &segment(SYN_ACK, 1, ack, b""), BY);
            assert_eq!(said.is_ok(), is_right, "{ack}");
        }
    }
}
