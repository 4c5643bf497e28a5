//! Overheard: what clients say to the owner of a group whose copies are here (DESIGN 10).
//!
//! Hearing is not speaking. A heard segment changes nothing: whoever keeps it hands it to
//! [`Stack::handle_again`] if this node takes the group over, and then it is judged like any other. TCP's tolerance
//! for duplicates is all that correctness needs; what the copies have learnt from the log by then is skipped only
//! because it would be answered as a duplicate.
//!
//! Bounds: a second parse, for frames to other hardware addresses only, and only while a group is listened to.

use super::{Mode, Stack};
use crate::key::FlowKey;
use crate::seq::Seq;
use crate::wire::{Flags, Frame, Segment, parse_heard};

/// A client's segment to the owner of a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Heard {
    /// The index of the group.
    pub group: u8,
    /// Bytes of payload.
    pub bytes: u32,
    /// It asks for a connection.
    pub is_syn: bool,
    /// It brings nothing that a flow would miss: a bare acknowledgement.
    pub is_idle: bool,
    key: FlowKey,
    /// RCV.NXT of a flow that needs it no more.
    end: Seq,
}

impl Stack {
    /// Whether a frame was overheard, and what. `None`: hand it to [`Stack::handle_frame`].
    #[inline]
    pub fn hear(&mut self, frame: &[u8]) -> Option<Heard> {
        if self.listening == 0 || self.is_sent_here(frame) { None } else { self.listen(frame) }
    }

    fn is_sent_here(&self, frame: &[u8]) -> bool {
        frame.starts_with(&self.mac) || self.service_macs.iter().any(|mac| frame.starts_with(mac))
    }

    fn listen(&mut self, frame: &[u8]) -> Option<Heard> {
        let Ok(Frame::Tcp(segment)) = parse_heard(frame) else { return None };
        let key = FlowKey {
            remote: segment.source,
            local: segment.destination,
            remote_port: segment.source_port,
            local_port: segment.destination_port,
        };
        let takes = |index: &u8| {
            let service = &self.env.services[*index as usize];
            self.listening >> *index & 1 != 0 && service.takes(&key.local, key.local_port)
        };
        let group = (0..self.groups.len() as u8).find(takes)?;
        self.ahead.take();
        self.counters.rx_frames += 1;
        self.counters.rx_heard += 1;
        let Segment { seq, flags, .. } = segment;
        // A reset takes no number, yet what comes next in order has not seen it.
        let len = segment.len() + flags.has(Flags::RST) as u32;
        Some(Heard {
            group,
            bytes: segment.payload.len() as u32,
            is_syn: flags.has(Flags::SYN),
            is_idle: len == 0,
            key,
            end: seq + len,
        })
    }

    /// Whether the copy has what was heard.
    pub fn has_taken(&self, heard: &Heard) -> bool {
        let flow = self.find(&heard.key).map(|slot| &self.flows[slot]);
        flow.is_some_and(|flow| !flow.contract.rcv_nxt.before(heard.end))
    }

    /// A group's mode has changed.
    pub(super) fn note_listening(&mut self, group: u8) {
        let listens = self.env.services[group as usize].snoop
            && self.groups[group as usize].mode == Mode::Silent;
        self.listening = self.listening & !(1 << group) | (listens as u64) << group;
    }
}
