//! What is decided about a server: the operator's orders, and what the checks have found.
//!
//! Decisions are the owner's alone and are told to the peer in the log; so whoever takes over knows which servers are
//! down, and carries the operator's orders on. A node's own checks give *verdicts*, whatever it is to the service; they become
//! decisions when it owns it ([`super::Roster::begin`]).
//!
//! ```text
//! a server in a record:  family (1) address (4 or 16) port (2) | revision (4) | is down, order, has a weight (1) | weight (2)
//! ```
//!
//! A server is named by its address and port: nodes whose configurations differ for a while mean the same one. Its *revision*
//! is how often that was changed. An order goes to each core of a node; of two cores that differ, because one of them
//! was stuck when its node lost the service, the higher revision is right.

use crate::codec::{ImportError, Put, Reader};
use crate::wire::Address;

/// Bytes of one server in a record at most.
pub const DECISION_BYTES_MAX: usize = 26;

/// What the operator wants of a server.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
#[repr(u8)]
pub enum Admin {
    /// Connections as usual.
    #[default]
    Ready = 0,
    /// No new connections, but for clients that stick to it; those that it has go on.
    Drain = 1,
    /// No new connections at all; those that it has go on.
    Maintenance = 2,
}

/// What is in force for a server. Every node of a service holds the same. (Its order tells what holds where two of one
/// revision differ; it means nothing else.)
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Decided {
    /// The checks say so: nothing new is sent there.
    pub is_down: bool,
    /// What the operator wants.
    pub admin: Admin,
    /// The operator's weight, in place of the configured one.
    pub weight: Option<u16>,
}

/// What changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// The operator's order.
    Admin(Admin),
    /// The operator's weight.
    Weight(u16),
}

impl Decided {
    /// What is in force after a change.
    pub fn after(self, change: Change) -> Decided {
        match change {
            Change::Admin(admin) => Decided { admin, ..self },
            Change::Weight(weight) => Decided { weight: Some(weight), ..self },
        }
    }

    /// Whether it gets new connections of clients that never had one to it.
    pub fn is_in_use(&self) -> bool {
        !self.is_down && self.admin == Admin::Ready
    }

    /// Whether nothing new is sent there, whoever wants it.
    pub fn is_out_of_service(&self) -> bool {
        self.is_down || self.admin == Admin::Maintenance
    }

    /// Writes it behind `out`, in this revision, about the server at this address and port.
    pub fn encode(&self, (address, port): (&Address, u16), revision: u32, out: &mut impl Put) {
        let Decided { is_down, admin, weight } = *self;
        match address.as_v4() {
            Some(v4) => {
                out.put_u8(4);
                out.put_bytes(&v4);
            }
            None => {
                out.put_u8(6);
                out.put_bytes(&address.0);
            }
        }
        out.put_u16(port);
        out.put_u32(revision);
        out.put_u8(is_down as u8 | (admin as u8) << 1 | (weight.is_some() as u8) << 3);
        out.put_u16(weight.unwrap_or(0));
    }

    /// Reads what [`Decided::encode`] wrote: where the server is, and what is in force for it in which revision.
    pub fn decode(reader: &mut Reader) -> Result<(Address, u16, (u32, Decided)), ImportError> {
        let address = match reader.u8()? {
            4 => Address::v4(reader.array()?),
            6 => Address(reader.array()?),
            _ => return Err(ImportError::Invalid),
        };
        let (port, revision) = (reader.u16()?, reader.u32()?);
        let (flags, weight) = (reader.u8()?, reader.u16()?);
        let admin = match flags >> 1 & 3 {
            0 => Admin::Ready,
            1 => Admin::Drain,
            2 => Admin::Maintenance,
            _ => return Err(ImportError::Invalid),
        };
        if flags > 0b1111 || weight > super::WEIGHT_MAX {
            return Err(ImportError::Invalid);
        }
        let weight = (flags & 8 != 0).then_some(weight);
        Ok((address, port, (revision, Decided { is_down: flags & 1 != 0, admin, weight })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn every_decision_comes_back_and_broken_ones_are_errors() {
        let admins = [Admin::Ready, Admin::Drain, Admin::Maintenance];
        for address in [Address::v4([10, 2, 0, 1]), Address([0xfd; 16])] {
            for (admin, is_down, weight) in
                admins.iter().flat_map(|&a| [(a, false, None), (a, true, Some(256))])
            {
                let decided = Decided { is_down, admin, weight };
                let mut bytes = Vec::new();
                decided.encode((&address, 8080), 70_000, &mut bytes);
                assert!(bytes.len() <= DECISION_BYTES_MAX);
                let read = Decided::decode(&mut Reader::new(&bytes));
                assert_eq!(read, Ok((address, 8080, (70_000, decided))));
                for cut in 0..bytes.len() {
                    assert!(Decided::decode(&mut Reader::new(&bytes[..cut])).is_err());
                }
                let flags = bytes.len() - 3;
                for wrong in [0b110, 0b1_0000] {
                    bytes[flags] = wrong;
                    assert!(Decided::decode(&mut Reader::new(&bytes)).is_err());
                }
            }
        }
    }
}
