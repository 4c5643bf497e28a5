//! Overheard: what clients say to the owner of a group whose copies are here (DESIGN 10).
//!
//! Hearing is not speaking. An overheard segment changes nothing: whoever keeps it hands it to
//! [`Stack::handle_overheard`] if this node takes the group over, and then it is judged like any other. TCP's
//! tolerance for duplicates is all that correctness needs; what the copies have learnt from the log by then is
//! skipped only because it would be answered as a duplicate.
//!
//! For a while after the takeover clients still speak to the former owner's hardware address: what is heard then is
//! handled at once.
//!
//! Bounds: a second parse, for frames to other hardware addresses only, and only where a service is listened to.

use super::{Mode, Origin, Stack};
use crate::drop::Drop;
use crate::key::FlowKey;
use crate::pool::NONE;
use crate::recorder::Recorder;
use crate::seq::Seq;
use crate::tcp::state::State;
use crate::time::Instant;
use crate::wire::{Flags, Followers, Frame, Segment, parse_heard};

/// A client's segment to another node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Overheard {
    /// The index of the group.
    pub group: u8,
    /// Bytes of payload.
    pub bytes: u32,
    /// What it may be good for.
    pub worth: Worth,
    key: FlowKey,
    /// RCV.NXT of a flow that needs it no more.
    end: Seq,
}

/// What an overheard segment may be good for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Worth {
    /// The group is served here by now: it is to be handled.
    Served,
    /// It asks for a connection, or answers our own request for one.
    Opening,
    /// It brings what the copy of its flow has not.
    News,
    /// The copy has it.
    Covered,
    /// It brings nothing that a flow would miss: a bare acknowledgement.
    Idle,
    /// Nothing: no flow here takes it.
    Stranger,
}

impl Stack {
    /// Whether a frame was overheard, and what. `None`: hand it to [`Stack::handle_frames`].
    #[inline]
    pub fn hear(&mut self, now: Instant, frame: &[u8]) -> Option<Overheard> {
        if self.listening == 0 || self.is_sent_here(frame) {
            return None;
        }
        let heard = self.overhear(now, frame)?;
        self.ahead.take();
        if heard.worth != Worth::Served {
            self.counters.rx_frames += 1;
            self.counters.rx_heard += 1;
        }
        Some(heard)
    }

    fn is_sent_here(&self, frame: &[u8]) -> bool {
        frame.starts_with(&self.mac) || self.service_macs.iter().any(|mac| frame.starts_with(mac))
    }

    /// What a frame to a service that this node listens to may be good for, whoever it was sent to: one that was sent here
    /// and is forwarded to its group's owner may reach a dead one.
    pub fn overhear(&self, now: Instant, frame: &[u8]) -> Option<Overheard> {
        let Ok(Frame::Tcp(segment)) = parse_heard(frame) else { return None };
        let key = FlowKey::of(&segment);
        let found = self.find(&key);
        let of_flow = found.map(|slot| self.flows[slot].group);
        let group = of_flow.or_else(|| self.newcomers_of(&key).map(|index| index as u8))?;
        let service = &self.env.services[group as usize];
        // RFC 9293 MUST-57: a segment to a group is none, unless the service's own address is a group's.
        let is_meant = frame[0] & 1 == 0 || frame.starts_with(&service.mac(&self.mac));
        if self.listening >> group & 1 == 0 || !is_meant {
            return None;
        }
        // A reset takes no number, yet what comes next in order has not seen it.
        let len = segment.len() + segment.flags.has(Flags::RST) as u32;
        let end = segment.seq + len;
        let worth = match self.groups[group as usize].mode {
            Mode::Silent => self.worth(found, &segment, end),
            Mode::Serving if now < self.env.grace_until[group as usize] => Worth::Served,
            Mode::Serving | Mode::Frozen | Mode::Off => return None,
        };
        Some(Overheard { group, bytes: segment.payload.len() as u32, worth, key, end })
    }

    /// What a segment of the flow in the slot `found`, or of none, may be good for.
    fn worth(&self, found: Option<u32>, segment: &Segment, end: Seq) -> Worth {
        if segment.flags.has(Flags::SYN) {
            let is_open = |slot| self.needs_no_more(slot, end);
            let is_covered = found.is_some_and(is_open);
            return if is_covered { Worth::Covered } else { Worth::Opening };
        }
        if end == segment.seq {
            return Worth::Idle;
        }
        let Some(slot) = found else { return Worth::Stranger };
        if self.needs_no_more(slot, end) {
            return Worth::Covered;
        }
        // What the owner has offered meanwhile may be one buffer more than the copy knows.
        let flow = &self.flows[slot];
        let buffer = self.env.services[flow.group as usize].receive_buffer;
        let is_beyond = segment.seq.after(flow.contract.rcv_edge + buffer);
        if is_beyond { Worth::Stranger } else { Worth::News }
    }

    fn needs_no_more(&self, slot: u32, end: Seq) -> bool {
        let contract = &self.flows[slot].contract;
        contract.state != State::SynSent && !contract.rcv_nxt.before(end)
    }

    /// Whether what was heard may still be good for something.
    pub fn is_wanted(&self, heard: &Overheard) -> bool {
        match self.find(&heard.key) {
            Some(slot) => !self.needs_no_more(slot, heard.end),
            // A copy that is gone has ended, or was given up.
            None => heard.worth == Worth::Opening,
        }
    }

    /// Takes a frame that was sent to another node; this one serves its group. It is never answered with RST: its
    /// connection may have ended in between. Nor does it bring back what the former owner may have kept in a cookie
    /// alone: a SYN is answered by the same cookie, and what follows it waits for its client's next word.
    pub fn handle_overheard<R: Recorder>(&mut self, now: Instant, frame: &[u8], recorder: &mut R) {
        self.origin = Origin::Overheard;
        self.counters.rx_frames += 1;
        let parsed = parse_heard(frame);
        let outcome = match &parsed {
            Ok(Frame::Tcp(segment)) => {
                let nothing = &mut Followers::default();
                self.handle_segment(now, NONE, segment, nothing, recorder)
            }
            Ok(_) => Err(Drop::Unasked),
            Err(reason) => Err(*reason),
        };
        match outcome {
            Ok(()) => self.counters.rx_used += 1,
            Err(reason) => self.counters.drops.count(reason),
        }
        self.origin = Origin::Direct;
    }
}
