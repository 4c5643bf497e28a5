//! How this node is, told to the others once a second, so that any node can show the whole cluster.
//!
//! Nothing is decided by it: roles follow the register, protection follows heartbeats. What cores count arrives by
//! [`Agent::handle_counts`]. Bounds: one state for each other node.

use super::Agent;
use crate::id::{GroupId, Member};
use crate::message::state::{Counts, GroupState, NodeState, STATE_ENTRIES_MAX};
use crate::message::{Message, Role};
use alloc::vec::Vec;
use stack::time::{Duration, Instant};

/// Between two words.
const TELL_PERIOD: Duration = Duration::from_secs(1);

/// What another node has told last.
#[derive(Clone, Debug)]
pub struct Told {
    /// Who, in which life.
    pub by: Member,
    /// When.
    pub at: Instant,
    /// The node, and its groups from as many datagrams as it took.
    pub state: NodeState,
}

impl Agent {
    /// What the cores of this node count.
    pub fn handle_counts(&mut self, counts: impl Iterator<Item = (GroupId, Counts)>) {
        for (group, counts) in counts {
            if let Some(entry) = self.entry_mut(group) {
                entry.counts = counts;
            }
        }
    }

    /// How this node is.
    pub(super) fn node_state(&self, now: Instant) -> NodeState {
        let timers = self.timers();
        NodeState {
            version: self.config.version.clone(),
            largest_gap: self.gaps.largest(),
            lease: timers.lease,
            peer_silent: timers.peer_silent,
            witness_age: self.witness.map(|_| now.since(self.witness_heard)),
            groups: Vec::new(),
        }
    }

    /// How a group stands here.
    pub(super) fn group_state(&self, at: usize) -> GroupState {
        let entry = &self.groups[at];
        let counts = if entry.role == Role::Idle { Counts::default() } else { entry.counts };
        GroupState { group: entry.config.group, role: entry.role, register: entry.register, counts }
    }

    /// Tells every other node, if it is time.
    pub(super) fn tell(&mut self, now: Instant) {
        if now < self.tell_at || self.superseded {
            return;
        }
        self.tell_at = now + TELL_PERIOD;
        self.repeat_declared();
        let node = self.node_state(now);
        let groups: Vec<GroupState> =
            (0..self.groups.len()).map(|at| self.group_state(at)).collect();
        for chunk in groups.chunks(STATE_ENTRIES_MAX) {
            let message = Message::State(NodeState { groups: chunk.to_vec(), ..node.clone() });
            for index in 0..self.detector.nodes().len() {
                let to = self.detector.nodes()[index].member;
                self.send(to, &message);
            }
        }
    }

    /// Another node has told how it is.
    pub(super) fn handle_state(&mut self, now: Instant, by: Member, mut state: NodeState) {
        state.groups.retain(|group| self.find(group.group).is_some());
        let known = self.told.iter().position(|told| told.by.node == by.node);
        let known = known.map(|at| self.told.swap_remove(at)).filter(|told| told.by == by);
        // What this datagram does not say of its groups another one has said.
        for group in known.into_iter().flat_map(|told| told.state.groups) {
            if state.groups.iter().all(|said| said.group != group.group) {
                state.groups.push(group);
            }
        }
        self.told.push(Told { by, at: now, state });
    }
}
