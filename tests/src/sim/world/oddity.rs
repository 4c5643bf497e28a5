//! What a written story makes of single machines: a node that is another one than the rest, a clock, a witness's store.

use super::World;
use super::apply::CLUSTER;
use cluster::id::NodeId;
use cluster::message::advertise::{Advertise, Limits};
use cluster::seal::{Key, Keyring};

/// In what a node is another one than the rest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Oddity {
    /// It takes fewer connections.
    LowerLimits,
    /// Its program is of another behaviour revision.
    OtherBehaviour,
    /// It has another key.
    OtherKey,
}

/// What every node declares of its program.
const BEHAVIOUR: u16 = 1;
/// Connections fewer than others take.
const FEWER: usize = 1;

impl World {
    /// A node is so from its next life on.
    pub fn set_oddity(&mut self, node: usize, oddity: Option<Oddity>) {
        self.nodes[node].oddity = oddity;
    }

    /// A node's clock counts so many microseconds in a second, before anybody has started.
    pub fn set_rate(&mut self, node: usize, rate: u64) {
        assert!(self.now == 0 && self.nodes[node].life.is_none(), "no clock changes its rate");
        self.nodes[node].machine.rate = rate;
    }

    /// What is on the witness's disk.
    pub fn witness_store(&self) -> Option<Vec<u8>> {
        self.witness.disk.clone()
    }

    /// A dead witness gets another disk; when it starts next it believes it, or what the nodes know if an operator says so.
    pub fn replace_witness_store(&mut self, disk: Option<Vec<u8>>, is_seeded: bool) {
        assert!(self.witness.witness.is_none(), "a disk is replaced when nobody writes to it");
        (self.witness.disk, self.witness.before) = (disk, None);
        self.witness.was_started = !is_seeded;
    }

    /// Connections that a node takes.
    pub(super) fn flows_of(&self, node: usize) -> usize {
        let is_lower = self.nodes[node].oddity == Some(Oddity::LowerLimits);
        self.shape.settings.flows_max - if is_lower { FEWER } else { 0 }
    }

    /// What a node declares of every group, beside its policy.
    pub(super) fn declared_by(&self, node: usize) -> Advertise {
        let is_other = self.nodes[node].oddity == Some(Oddity::OtherBehaviour);
        let limits = Limits { flows: self.flows_of(node) as u32, ..Limits::default() };
        let behaviour = BEHAVIOUR + u16::from(is_other);
        Advertise { limits, behaviour, ..Advertise::default() }
    }

    /// The keys of a node, or the witness.
    pub(super) fn keyring_of(&self, node: NodeId) -> Keyring {
        let state = usize::from(node.0).checked_sub(1).and_then(|index| self.nodes.get(index));
        let is_other = state.is_some_and(|state| state.oddity == Some(Oddity::OtherKey));
        Keyring::new(CLUSTER, &[Key::new([if is_other { 8 } else { 9 }; 32])])
    }
}
