//! Which lives are over, as far as the witness can know: what a later registration, a guardian and an operator tell.
//!
//! It is asked about lives that a register names, and a register names none that was not registered when it was
//! written (`request.rs` refuses strangers as peers). So where another life of that node is registered now, it is a
//! later one. Where none is, nothing is known of that node, and it counts as alive.
//!
//! Spec: PROTOCOL.md, "Surrender", "The operator's word". Bounds: [`ENDED_MAX`]; lives that a register names are
//! forgotten last.

use super::{ENDED_MAX, Witness};
use crate::id::Member;
use crate::message::Drop;
use crate::surrender::Ended;
use stack::time::Instant;

impl Witness {
    /// When this life was alive last, at the latest; `None`: it is not known to be over.
    pub(super) fn died(&self, life: Member) -> Option<Instant> {
        let told = self.ended.iter().find(|(known, _)| *known == life);
        let node = self.nodes.get(&life.node);
        let later = node.filter(|node| node.life != life.incarnation);
        told.map(|(_, ended)| ended.heard).or(later.map(|node| node.registered))
    }

    /// The guardian of `life` says that it has ended.
    pub(super) fn handle_surrender(
        &mut self,
        now: Instant,
        life: Member,
        said: Instant,
    ) -> Result<(), Drop> {
        self.note_ended(life, Ended { said, heard: now })
    }

    /// An operator says at `from` that `life` has ended: as good as its surrender, unless it was heard here within a
    /// longest promise.
    pub(super) fn handle_dead(
        &mut self,
        now: Instant,
        from: Member,
        life: Member,
    ) -> Result<(), Drop> {
        if self.registration(from).is_some() {
            return Err(Drop::UnknownSender);
        }
        let present = self.nodes.get(&life.node).filter(|node| node.life == life.incarnation);
        if present.is_some_and(|node| now.since(node.heard) <= self.timers.longest_promise()) {
            return Err(Drop::Refuted);
        }
        let said = present.map_or(Instant::ZERO, |node| node.asked);
        self.note_ended(life, Ended { said, heard: now })
    }

    fn note_ended(&mut self, life: Member, ended: Ended) -> Result<(), Drop> {
        if self.died(life).is_some() {
            return Err(Drop::Surrendered);
        }
        let present = self.nodes.get(&life.node).filter(|node| node.life == life.incarnation);
        let asked = present.map_or(Instant::ZERO, |node| node.asked);
        if ended.is_refuted_by(asked, self.timers.longest_promise()) {
            return Err(Drop::Refuted);
        }
        if self.ended.len() == ENDED_MAX {
            let unnamed = self.ended.iter().position(|(known, _)| !self.is_named(*known));
            self.ended.remove(unnamed.unwrap_or(0));
        }
        self.ended.push_back((life, ended));
        Ok(())
    }

    /// The registered life of a node has asked for its voice at `sent`, on its clock: long after its end it has not ended.
    pub(super) fn note_asked(&mut self, life: Member, sent: Instant) {
        let patience = self.timers.longest_promise();
        let Some(node) = self.nodes.get_mut(&life.node) else { return };
        node.asked = node.asked.max(sent);
        let asked = node.asked;
        self.ended.retain(|(known, ended)| *known != life || !ended.is_refuted_by(asked, patience));
    }

    /// A life that registers has not ended, whatever was said of it.
    pub(super) fn note_lives(&mut self, life: Member) {
        self.ended.retain(|(known, _)| *known != life);
    }

    fn is_named(&self, life: Member) -> bool {
        self.groups.values().any(|entry| entry.register.names(life))
    }
}
