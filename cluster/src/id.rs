//! The names of things in a cluster, as newtypes: mixing them up would be fatal.

use core::fmt;
use stack::sha256::Sha256;

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

/// The unit of ownership: (service, generation). The upper 24 bits are those of the service, the low byte is the generation.
///
/// Which service it is follows from its name alone ([`service_id`]): so nodes agree whatever else is in their files, and
/// in which order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct GroupId(pub u32);

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
    /// No group: no generation has this number.
    pub const NONE: GroupId = GroupId(u32::MAX);

    /// The group of the service with this id ([`service_id`]) in its `generation`.
    pub const fn new(service: u32, generation: u8) -> GroupId {
        GroupId((service << 8) | generation as u32)
    }

    /// The id of the service.
    pub const fn service(self) -> u32 {
        self.0 >> 8
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

/// The id of the service with this name: the first three octets of the SHA-256 of its UTF-8, the first one highest.
///
/// Two names of one configuration may have one id (with 64 services once in 8 000 configurations): whoever reads a
/// configuration refuses that.
pub fn service_id(name: &str) -> u32 {
    let [first, second, third, ..] = Sha256::digest(name.as_bytes());
    u32::from_be_bytes([0, first, second, third])
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
        write!(f, "{:06x}.{}", self.service(), self.generation())
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

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    /// Every node of a cluster must find the same: these numbers are part of the formats.
    #[test]
    fn the_id_of_a_service_is_frozen() {
        for (name, id) in [("web", 0x4b5e57), ("files", 0x3d7db3), ("", 0xe3b0c4)] {
            assert_eq!(service_id(name), id, "{name}");
        }
        let group = GroupId::new(service_id("web"), 1);
        assert_eq!((group.service(), group.generation()), (service_id("web"), 1));
        assert_eq!(group.to_string(), "4b5e57.1");
        assert!(group.is_sibling_of(GroupId::new(service_id("web"), 0)));
        assert!(!group.is_sibling_of(group) && !group.is_sibling_of(GroupId::new(0, 1)));
    }
}
