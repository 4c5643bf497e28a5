//! An operator's word that a node is dead: for the deaths of which nothing tells.
//!
//! A surrender or a later life tells that a life is over. Where both who held a group lost their power, nothing does, and
//! nobody may start it afresh: they might live, cut off together. Whoever has seen to it that the machine is off says so,
//! at any node; that one tells the witness and the others, once a second for as long as a register names that life.
//! It counts like a surrender, and is refuted like one.
//!
//! Whoever has heard that life less than a longest promise ago does not believe it.
//!
//! Spec: PROTOCOL.md, "The operator's word". Bounds: one life for each group's owner and peer.

use super::handover::OrderError;
use super::{Agent, Arbiter, Reason, Survivor};
use crate::id::{Member, NodeId};
use crate::message::{Drop, Message};
use alloc::vec::Vec;
use stack::time::Instant;

impl Agent {
    /// Takes an operator's word for it that `node` is dead.
    pub(super) fn declare_dead(&mut self, now: Instant, node: NodeId) -> Result<(), OrderError> {
        let heard = self.detector.node(node).ok_or(OrderError::UnknownNode)?;
        if let Arbiter::None { survivor } = self.config.arbiter
            && survivor != Survivor::Both
            && survivor != Survivor::Node(self.config.me.node)
        {
            // Whoever is not the survivor does not go on alone, whatever became of the other.
            return Err(OrderError::NotSurvivor);
        }
        let present = heard.member;
        let named = self.groups.iter().flat_map(|entry| {
            [Some(entry.register.owner), entry.register.peer].into_iter().flatten()
        });
        let mut lives: Vec<Member> = Vec::new();
        for life in named.filter(|life| life.node == node).chain([present]) {
            if life.incarnation.0 != 0 && !lives.contains(&life) {
                lives.push(life);
            }
        }
        if present.incarnation.0 == 0 && lives.is_empty() {
            return Err(OrderError::UnknownNode);
        }
        let patience = self.config.timers.longest_promise();
        if lives.iter().any(|life| self.detector.is_alive(now, *life, patience)) {
            return Err(OrderError::Lives);
        }
        for life in lives {
            // Also what is known here: the witness may have forgotten it, or never heard it.
            let _ = self.believe_dead(now, life);
            if self.detector.is_dead(life) && !self.declared.contains(&life) {
                self.declared.push(life);
            }
        }
        self.repeat_declared();
        Ok(())
    }

    /// Another node's operator says that `life` has ended.
    pub(super) fn handle_dead(&mut self, now: Instant, life: Member) -> Result<(), Drop> {
        if life == self.config.me { Err(Drop::Refuted) } else { self.believe_dead(now, life) }
    }

    fn believe_dead(&mut self, now: Instant, life: Member) -> Result<(), Drop> {
        self.detector.handle_dead(now, life, self.config.timers.longest_promise())?;
        self.note_ended(now, life, Reason::Declared(life.node));
        Ok(())
    }

    /// Tells the witness and every node again what an operator has said here and a register still waits for.
    pub(super) fn repeat_declared(&mut self) {
        let mut declared = core::mem::take(&mut self.declared);
        declared.retain(|life| {
            self.detector.is_dead(*life)
                && self.groups.iter().any(|entry| entry.register.names(*life))
        });
        for life in &declared {
            let message = Message::Dead { life: *life };
            self.send_witness(&message);
            for index in 0..self.detector.nodes().len() {
                let to = self.detector.nodes()[index].member;
                self.send(to, &message);
            }
        }
        self.declared = declared;
    }
}
