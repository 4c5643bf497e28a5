//! The names of things in a cluster, as newtypes: mixing them up would be fatal.

use core::fmt;

/// One machine: 1..=64, from the configuration.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct NodeId(pub u8);

/// Which life of a node: a random number drawn at every process start, never zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Incarnation(pub u64);

/// One life of one node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Member {
    /// The machine.
    pub node: NodeId,
    /// Its life.
    pub incarnation: Incarnation,
}

/// The unit of ownership: (service, generation). The low byte is the generation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct GroupId(pub u16);

/// Version of a group's register. Every change adds one; zero is "never written".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Epoch(pub u64);

/// Position of a record in the log of one (group, shard); never reused within an epoch. The first
/// record has op 1; op 0 is "nothing".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Op(pub u64);

impl NodeId {
    /// The highest node id that a configuration may use.
    pub const MAX: u8 = 64;
}

impl GroupId {
    /// The group of `service` (its position in the configuration) in its `generation`.
    pub const fn new(service: u8, generation: u8) -> GroupId {
        GroupId(((service as u16) << 8) | generation as u16)
    }

    /// The position of the service in the configuration.
    pub const fn service(self) -> u8 {
        (self.0 >> 8) as u8
    }

    /// The generation of the service.
    pub const fn generation(self) -> u8 {
        self.0 as u8
    }

    /// Whether both are generations of one service, and not the same.
    pub const fn is_sibling_of(self, other: GroupId) -> bool {
        self.service() == other.service() && self.0 != other.0
    }
}

impl Epoch {
    /// The epoch after this one.
    pub const fn next(self) -> Epoch {
        Epoch(self.0 + 1)
    }
}

impl Op {
    /// The op after this one.
    pub const fn next(self) -> Op {
        Op(self.0 + 1)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.service(), self.generation())
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
