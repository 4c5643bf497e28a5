//! Two generations of a service on one core: which of them the newcomers belong to, and when it cannot be told whether
//! somebody is one.
//!
//! A client without a flow in this node's table may have one in the closed generation, if this node does not hold every
//! flow of that: then its owner is asked, by forwarding, and the newest generation opens nothing. So no connection can
//! ever be in both.
//!
//! Spec: GENERATIONS.md, "Whose is a frame".

use super::{Engine, Group, Role};
use crate::id::GroupId;
use stack::time::Instant;

impl Engine {
    /// The other generation of the service of the group with this index.
    fn sibling(&self, index: usize) -> Option<usize> {
        let id = self.groups[index].id;
        self.groups.iter().position(|group| group.id.is_sibling_of(id))
    }

    /// Whoever has no flow belongs to this generation from now on.
    pub(super) fn set_newcomers(
        &mut self,
        now: Instant,
        group: GroupId,
        are_taken: bool,
        is_shared: bool,
    ) {
        let Some(index) = self.index_of(group) else { return };
        let Some(other) = self.sibling(index) else { return };
        self.end_closing(other);
        if !are_taken {
            self.end_closing(index);
        }
        let is_closed = !are_taken || self.is_closing(index);
        self.stack.set_newest(now, index as u8, other as u8);
        self.stack.set_closed(index as u8, is_closed);
        self.groups[index].older = is_shared.then_some(other);
        self.groups[other].older = None;
    }

    /// Whether this core knows of every flow of the group.
    fn holds_all(group: &Group) -> bool {
        let has_copies = || group.backups.iter().all(|copies| copies.awaited() == 0);
        match group.role {
            Role::Owner => true,
            Role::Peer => group.in_sync && has_copies(),
            Role::Idle => false,
        }
    }

    /// Where newcomers may be told from clients of the other generation, and where not.
    pub(super) fn note_shared(&mut self) {
        for index in 0..self.groups.len() {
            let older = self.groups[index].older;
            let asked = older.filter(|older| !Engine::holds_all(&self.groups[*older]));
            self.stack.set_asked(index as u8, asked.map(|older| older as u8));
        }
    }

    /// The other generation's clock, as far as it is known here.
    pub(super) fn clock_of_sibling(&self, now: Instant, index: usize) -> Option<Instant> {
        let other = self.sibling(index)?;
        let group = &self.groups[other];
        match group.role {
            Role::Owner => Some(self.stack.group(other as u8).clock(now)),
            _ => group.backups.iter().map(|copies| copies.clock(now)).max(),
        }
    }
}
