//! What an agent may ask for, and what may become of a register.
//!
//! Judged by who holds what at that true moment, and by a table of its own: neither asks the agent nor the register.

use super::World;
use crate::sim::node::Life;
use cluster::id::{GroupId, Member};
use cluster::message::{ChangeRequest, Message, decode};
use cluster::register::{Change, Register};
use cluster::witness::Witness;
use stack::flow::Flow;
use stack::time::Instant;

/// A change that the witness is asked for, and the register as it was.
pub(super) struct Asked {
    from: Member,
    request: ChangeRequest,
    was: Register,
}

impl Asked {
    /// If that is what a datagram for the witness is.
    pub fn of(witness: &Witness, datagram: &[u8]) -> Option<Asked> {
        let Ok((header, Message::Change(request))) = decode(datagram) else { return None };
        let was = register_of(witness, request.group);
        Some(Asked { from: header.from, request, was })
    }

    /// What has become of the register is what may become of it. Errors: what it became.
    pub fn check(&self, witness: &Witness) -> Result<Register, String> {
        let Asked { from, request, was } = self;
        let is = register_of(witness, request.group);
        let is_right = is == *was
            || is.epoch == was.epoch.next()
                && request.expected == was.epoch
                && may_become(was, &is, *from, request.change == Change::Fresh);
        match is_right {
            true => Ok(is),
            false => Err(format!("{from:?} asked {request:?}, and of {was:?} became {is:?}")),
        }
    }

    /// Whether with this register a peer has become in sync.
    pub fn has_joined(&self, is: &Register) -> bool {
        is.in_sync && !self.was.in_sync
    }

    /// Whether with this register a peer has become the owner.
    pub fn has_taken_over(&self, is: &Register) -> bool {
        is.owner == self.from && self.was.in_sync_peer() == Some(self.from)
    }
}

fn register_of(witness: &Witness, group: GroupId) -> Register {
    let mut registers = witness.registers();
    let found = registers.find(|(known, _)| *known == group);
    found.map_or(Register::NEVER, |(_, register)| register)
}

/// Who holds no copies takes nothing over, and nobody decides for others.
fn may_become(was: &Register, is: &Register, asker: Member, is_fresh: bool) -> bool {
    let is_alone = is.peer.is_none() && !is.in_sync;
    let heir = was.in_sync_peer();
    if !was.is_live() {
        return is.owner == asker && is_alone;
    }
    if asker == was.owner {
        let has_swapped = heir == Some(is.owner) && is.peer == Some(asker) && is.in_sync;
        let has_same = is.peer == was.peer && (is.in_sync || !was.in_sync);
        let has_new = was.peer.is_none() && !is.in_sync;
        return has_swapped || is.owner == asker && (is_alone || has_same || has_new);
    }
    is.owner == asker && is_alone && (heir == Some(asker) || is_fresh)
}

impl World {
    /// What has become of a register at the witness.
    pub(super) fn check_step(&mut self, asked: &Asked, step: Result<Register, String>) {
        let is = match step {
            Err(broken) => return self.fail(broken),
            Ok(is) if is == asked.was => return,
            Ok(is) => is,
        };
        if let Some(group) = self.index_of(asked.request.group) {
            self.check.note_step(group, is.epoch, asked.has_taken_over(&is));
        }
        if asked.has_joined(&is) {
            self.spring(&is);
        }
    }

    /// The register of a group as the witness has it, if that is there.
    pub(super) fn written(&self, group: usize) -> Option<Register> {
        let (witness, _) = self.witness.witness.as_ref()?;
        Some(register_of(witness, self.shape.settings.groups()[group]))
    }

    fn index_of(&self, group: GroupId) -> Option<usize> {
        self.shape.settings.groups().iter().position(|known| *known == group)
    }

    /// What an agent has taken and asked for lately was its own, and true.
    pub(super) fn check_agent(&mut self, node: usize) {
        let Some(life) = &mut self.nodes[node].life else { return };
        let (mistaken, asked) =
            (std::mem::take(&mut life.mistaken), std::mem::take(&mut life.asked));
        if mistaken > 0 {
            self.fail(format!("node {} took a message for another life of it", node + 1));
        }
        for request in asked {
            if let Err(broken) = self.check_asked(node, &request) {
                self.fail(format!("node {}: {broken}", node + 1));
            }
        }
    }

    /// Who asks for what takes its voice has none until the outcome is known; who wants to take over is in sync; and a peer
    /// that is said to be in sync holds every flow.
    fn check_asked(&self, node: usize, request: &ChangeRequest) -> Result<(), String> {
        let Some(life) = &self.nodes[node].life else { return Ok(()) };
        let group = self.index_of(request.group).ok_or("it asks for a group that there is not")?;
        let register = life.registers[group];
        if register.epoch != request.expected {
            return Ok(());
        }
        let costs_voice = match request.change {
            Change::AddPeer(_) | Change::InSync(_) | Change::Close => false,
            Change::Alone => register.in_sync,
            _ => true,
        };
        if costs_voice && life.agent.lease(request.group) > Instant::ZERO {
            return Err(format!("it holds a lease while it asks {:?}", request.change));
        }
        match request.change {
            Change::InSync(peer) => self.check_filled(life, group, peer),
            Change::TakeOver if register.in_sync_peer() != Some(life.member) => {
                Err("it wants to take over and is not in sync".into())
            }
            _ => Ok(()),
        }
    }

    fn check_filled(&self, owner: &Life, group: usize, peer: Member) -> Result<(), String> {
        let copies = self.nodes[usize::from(peer.node.0) - 1].life.as_ref();
        // Who was asleep while the peer became owner asks in vain: the register is another one.
        let is_meant = |life: &&Life| {
            life.member == peer && life.registers[group].epoch <= owner.registers[group].epoch
        };
        let Some(copies) = copies.filter(is_meant) else { return Ok(()) };
        let has_copy = |flow: &&Flow| copies.find(&flow.key).is_some_and(|copy| copy.id == flow.id);
        let lacks =
            owner.flows(group).filter(|flow| flow.is_committed()).find(|flow| !has_copy(flow));
        match lacks {
            None => Ok(()),
            Some(flow) => Err(format!(
                "its peer is said to be in sync and lacks a flow in {}, {:?}",
                flow.contract.state, flow.key
            )),
        }
    }
}
