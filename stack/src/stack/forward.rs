//! Frames that reached the wrong node: handed back by the one that does not serve their group, taken from another node
//! by the one that does.
//!
//! A forwarded segment is judged like any other, but never answered with RST: the node that forwarded it may know its
//! connection where this one does not, and a client that is really unknown will say so to this node itself.
//!
//! Bounds: a second look at the flow table, for frames that are not served here only.

use super::error::key_of;
use super::{Mode, Origin, Stack};
use crate::drop::Drop;
use crate::key::FlowKey;
use crate::pool::NONE;
use crate::recorder::Recorder;
use crate::reply::Reply;
use crate::time::Instant;
use crate::wire::{Followers, Frame, Segment};

/// What a client said to a group that is not served here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stray {
    /// The index of the group.
    pub group: u8,
    /// The flow's shard.
    pub shard: u8,
    /// No flow is known: it belongs to the newest generation of its service.
    pub is_newcomer: bool,
}

impl Stack {
    /// Takes a frame that another node forwarded and that was given this node's Ethernet address. As an answer it is one
    /// that this node asked about: no flow is known where it was asked, and its client spoke to this node itself.
    pub fn handle_forwarded<R: Recorder>(
        &mut self,
        now: Instant,
        frame: &[u8],
        is_answer: bool,
        recorder: &mut R,
    ) -> Option<Stray> {
        let origin = if is_answer { Origin::Answer } else { Origin::Forwarded };
        self.take_frame_of(now, origin, frame, recorder)
    }

    /// Takes a frame once more that was handed back; its group is served by now. Handed back again, it is of another
    /// generation.
    pub fn handle_again<R: Recorder>(
        &mut self,
        now: Instant,
        frame: &[u8],
        is_forwarded: bool,
        recorder: &mut R,
    ) -> Option<Stray> {
        let origin = if is_forwarded { Origin::Forwarded } else { Origin::Direct };
        self.take_frame_of(now, origin, frame, recorder)
    }

    fn take_frame_of<R: Recorder>(
        &mut self,
        now: Instant,
        origin: Origin,
        frame: &[u8],
        recorder: &mut R,
    ) -> Option<Stray> {
        self.origin = origin;
        let stray = self.take_frame(now, NONE, frame, &mut Followers::default(), recorder);
        self.origin = Origin::Direct;
        stray
    }

    /// Whose a refused frame is, if a node that serves its group could do something with it. Questions are not: they
    /// are asked of everybody.
    pub(super) fn stray(&self, reason: Drop, frame: &Result<Frame, Drop>) -> Option<Stray> {
        if !matches!(reason, Drop::Frozen | Drop::NotOwner) {
            return None;
        }
        let key = match frame {
            Ok(Frame::Tcp(segment)) => FlowKey::of(segment),
            Ok(Frame::Error(error)) => key_of(&error.quoted),
            _ => return None,
        };
        let shard = self.shard_of(&key);
        if let Some(slot) = self.find(&key) {
            let group = self.flows[slot].group;
            let is_stray = self.groups[group as usize].mode != Mode::Serving;
            return is_stray.then_some(Stray { group, shard, is_newcomer: false });
        }
        let group = self.newcomers_of(&key)? as u8;
        let state = &self.groups[group as usize];
        match state.asked {
            _ if state.mode != Mode::Serving || state.is_closed => {
                Some(Stray { group, shard, is_newcomer: true })
            }
            asked => asked.map(|group| Stray { group, shard, is_newcomer: false }),
        }
    }

    /// Answers a segment with RST, unless it came by another node.
    pub(super) fn reset(&mut self, segment: &Segment, group: u8) -> Result<(), Drop> {
        if matches!(self.origin, Origin::Forwarded | Origin::Overheard) {
            return Err(Drop::ForwardedUnknown);
        }
        self.reply(Reply::reset(segment, group))
    }
}
