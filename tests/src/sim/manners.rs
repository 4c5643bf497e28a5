//! RFC manners: what a flow may say, judged by everything that passed before.
//!
//! The window never shrinks, nothing follows a FIN, TSval never goes back; nothing is acknowledged, selectively or not,
//! that was never sent.
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
    /// Behind the last byte that the other side has sent.
    heard: BTreeMap<FlowKey, Seq>,
}

impl Manners {
    /// A client or server says something.
    pub fn note_heard(&mut self, key: &FlowKey, segment: &Segment) {
        if segment.flags.has(Flags::RST) {
            return;
        }
        let end = end_of(segment);
        if segment.flags.has(Flags::SYN) {
            self.heard.insert(*key, end);
        } else if let Some(known) = self.heard.get_mut(key) {
            *known = known.max(end);
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
            return Ok(self.note_syn(key, segment, by.epoch).map(|edge| (edge, 1)));
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
        };
        let known = self.told.entry(*key).or_insert(told);
        if known.iss != told.iss {
            *known = told;
        }
        edge
    }

    fn check_acknowledged(&self, key: &FlowKey, segment: &Segment) -> Result<(), String> {
        let Some(&heard) = self.heard.get(key) else { return Ok(()) };
        if segment.ack.after(heard) {
            return Err(format!("acknowledged {} bytes never sent", segment.ack.since(heard)));
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
