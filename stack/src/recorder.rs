//! Where facts go: to a log that a peer acknowledges, or nowhere.
//!
//! The stack applies a fact and then records it, in the same call and only after having asked for room,
//! so that nothing is ever processed unrecorded. What the recorder returns says when the peer will
//! hold it: the stack learns of that by [`crate::stack::Stack::handle_committed`].

use crate::fact::Fact;
use crate::flow::FlowId;
use crate::seq::Seq;

/// What the receiving side of a flow stands at after a fact: what may be acknowledged and offered
/// once the peer holds the fact.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Progress {
    /// RCV.NXT
    pub rcv_nxt: Seq,
    /// The right edge.
    pub rcv_edge: Seq,
}

/// Which flow a fact is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FlowName {
    /// Index of the group in the stack.
    pub group: u8,
    /// The flow's own name, the same on every node.
    pub id: FlowId,
    /// Where this node keeps it.
    pub slot: u32,
}

impl FlowName {
    /// Where the flow's facts go.
    #[inline]
    pub fn lane(&self) -> Lane {
        Lane { group: self.group, shard: self.id.shard() }
    }
}

/// Where facts go: a group has a log for each core of the peer, and a flow's shard leads to one of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lane {
    /// Index of the group in the stack.
    pub group: u8,
    /// The flow's shard.
    pub shard: u8,
}

/// Takes facts. Implemented by the log and by [`Unmirrored`].
pub trait Recorder {
    /// The largest payload that a fact may carry now, at most `wanted`; 0 if no fact at all can be taken
    /// (then the input is dropped as if the network had lost it). `reserved` asks for the room that is kept
    /// for ticks and decisions.
    fn room(&self, lane: Lane, wanted: usize, reserved: bool) -> Option<usize>;

    /// Takes a fact that [`Recorder::room`] had room for; returns its op. If it `is_awaited`, something is said or
    /// let go once the peer holds it.
    fn record(&mut self, flow: FlowName, fact: &Fact, progress: Progress, is_awaited: bool) -> u64;

    /// What was just recorded changes `flow` as well, the other leg of the same proxied connection: it learns with
    /// the first when the peer holds that. If it `is_awaited`, that leg has something to say then.
    fn follow(&mut self, flow: FlowName, progress: Progress, is_awaited: bool);
}

/// A stack without a peer.
pub struct Unmirrored;

impl Recorder for Unmirrored {
    fn room(&self, _lane: Lane, wanted: usize, _reserved: bool) -> Option<usize> {
        Some(wanted)
    }

    fn record(
        &mut self,
        _flow: FlowName,
        _fact: &Fact,
        _progress: Progress,
        _is_awaited: bool,
    ) -> u64 {
        unreachable!("no flow of an unmirrored stack is copied")
    }

    fn follow(&mut self, _flow: FlowName, _progress: Progress, _is_awaited: bool) {
        unreachable!("no flow of an unmirrored stack is copied")
    }
}
