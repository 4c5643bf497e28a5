//! What is decided about the servers of a proxied service, told to the peer.
//!
//! ```text
//! checks of this node -> verdicts -.
//!                                   >-- the owner decides --> `Servers` in every lane --> the peer's own roster
//! the operator's orders -----------'
//! ```
//!
//! Every core of a node is told of every verdict and order, and tells its own lanes; so each core of the peer hears it from
//! each core that shares flows with it. A new session begins with everything that was ever decided, so that a joining peer knows
//! it before the first flow.
//!
//! A core that is stuck when its node dies has not told its part of the peer. So the cores of a new owner tell each other:
//! under the epoch in which they began to own, for a word may lie with a stuck core until its node is something else.
//!
//! Bounds: one record of [`PART_BYTES`] for each lane and poll.

use super::{Engine, Role};
use crate::id::Epoch;
use crate::limits::PART_BYTES;
use crate::mirror::RecordKind;
use alloc::vec::Vec;
use stack::stack::Ending;
use stack::time::Instant;
use stack::upstream::decision::Change;
use stack::wire::Address;

impl Engine {
    /// This node's own checks have found that servers of the service with this id are up (`true`) or down.
    pub fn set_verdicts(&mut self, now: Instant, service: u32, verdicts: &[(u16, bool)]) {
        let Engine { stack, groups, .. } = self;
        for (index, _) in (0..).zip(groups).filter(|(_, group)| group.id.service() == service) {
            stack.set_verdicts(now, index, verdicts);
        }
    }

    /// The operator's order about a server of the service with this id. `false` if this node owns no group of it, or is about to hand it
    /// over: then nothing has changed.
    pub fn decide(&mut self, now: Instant, service: u32, server: u16, change: Change) -> bool {
        let Engine { stack, groups, .. } = self;
        let mut is_decided = false;
        for (index, _) in (0..).zip(groups).filter(|(_, group)| group.id.service() == service) {
            is_decided |= stack.decide(now, index, server, change);
        }
        is_decided
    }

    /// What the other cores of this node should be told of a client and its server.
    pub fn poll_stick(&mut self) -> Option<(u8, Address, u16)> {
        self.stack.poll_stick()
    }

    /// Whether the other cores of this node should hear something about servers.
    #[inline]
    pub fn has_untold(&self) -> bool {
        self.stack.has_untold()
    }

    /// What they should hear next: of the group with which index, and since which epoch this node owns it.
    pub fn poll_untold(&mut self) -> Option<(u8, Epoch, &[u8])> {
        self.scratch.clear();
        let index = self.stack.poll_untold(&mut self.scratch)?;
        Some((index, self.groups[usize::from(index)].owned_from, &self.scratch))
    }

    /// Another core of this node tells it. One that is about to be told to serve under that epoch believes it, too.
    pub fn hear_decided(&mut self, now: Instant, index: u8, owned_from: Epoch, word: &[u8]) {
        let group = &self.groups[usize::from(index)];
        let is_meant = match group.role {
            Role::Owner => group.owned_from == owned_from,
            Role::Peer => group.epoch < owned_from,
            Role::Idle => false,
        };
        if is_meant {
            self.stack.hear_decided(now, index, word);
        }
    }

    /// Exchanges the connections that have ended for an empty list.
    pub fn swap_endings(&mut self, endings: &mut Vec<Ending>) {
        self.stack.swap_endings(endings);
    }

    /// Another core of this node tells it.
    pub fn hear_stick(&mut self, now: Instant, service: u8, client: Address, server: u16) {
        self.stack.hear_stick(now, service, client, server);
    }

    /// Tells the peer what was decided since it was told last.
    pub(super) fn tell_servers(&mut self, index: usize) {
        let Engine { stack, logs, scratch, .. } = self;
        let decided = stack.roster(index as u8).changes();
        for lane in logs.0[index].iter_mut().filter(|lane| lane.told != decided) {
            if lane.frozen.is_some() || lane.log.room(PART_BYTES, true).is_none() {
                continue;
            }
            scratch.clear();
            lane.told = stack.export_decisions(index as u8, lane.told, PART_BYTES, scratch);
            if !scratch.is_empty() {
                lane.log.note(RecordKind::Servers, Default::default(), scratch, None);
            }
        }
    }

    /// Whether the peer has yet to be told something.
    pub(super) fn is_telling(&self, index: usize) -> bool {
        let decided = self.stack.roster(index as u8).changes();
        self.logs.0[index].iter().any(|lane| lane.told != decided && lane.frozen.is_none())
    }
}
