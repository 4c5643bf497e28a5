//! How a node is, for the others to show: versions, time constants in force, and each group in numbers.

use super::Drop;
use super::body::{read_register, read_role, write_register};
use super::codec::{Reader, Writer};
use super::{Register, Role};
use crate::id::GroupId;
use alloc::string::String;
use alloc::vec::Vec;
use stack::time::Duration;

/// Groups in one word; a node with more says several.
pub const STATE_ENTRIES_MAX: usize = 16;

/// Octets of a version.
const VERSION_MAX: usize = 24;

/// How a node is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NodeState {
    /// The version of its program.
    pub version: String,
    /// The largest gap of its own that it has seen in ten minutes.
    pub largest_gap: Duration,
    /// The lease that it asks for.
    pub lease: Duration,
    /// How long its peer may be silent.
    pub peer_silent: Duration,
    /// Time since the witness answered it; `None` if it never did or there is none.
    pub witness_age: Option<Duration>,
    /// How its groups stand.
    pub groups: Vec<GroupState>,
}

/// How a group stands on a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GroupState {
    /// The group.
    pub group: GroupId,
    /// What the node is for it.
    pub role: Role,
    /// The newest register that it knows.
    pub register: Register,
    /// What its cores count.
    pub counts: Counts,
}

/// A group in numbers, all cores together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Flows, served or held.
    pub flows: u32,
    /// Of these, flows that are copied.
    pub copied: u32,
    /// Records that the peer has not acknowledged.
    pub lag_ops: u64,
    /// Their bytes.
    pub lag_bytes: u64,
}

impl NodeState {
    pub(super) fn write(&self, w: &mut Writer) {
        w.list(self.version.as_bytes(), |w, octet| w.u8(*octet));
        w.u64(self.largest_gap.0);
        w.u64(self.lease.0);
        w.u64(self.peer_silent.0);
        w.u8(u8::from(self.witness_age.is_some()));
        if let Some(age) = self.witness_age {
            w.u64(age.0);
        }
        w.list(&self.groups, |w, entry| {
            let Counts { flows, copied, lag_ops, lag_bytes } = entry.counts;
            w.u32(entry.group.0);
            w.u8(entry.role as u8);
            write_register(w, &entry.register);
            w.u32(flows);
            w.u32(copied);
            w.u64(lag_ops);
            w.u64(lag_bytes);
        });
    }

    pub(super) fn read(r: &mut Reader<'_>) -> Result<NodeState, Drop> {
        let version = r.list(VERSION_MAX, |r| r.u8())?;
        Ok(NodeState {
            version: String::from_utf8(version).map_err(|_| Drop::BadField)?,
            largest_gap: r.duration()?,
            lease: r.duration()?,
            peer_silent: r.duration()?,
            witness_age: if r.bool()? { Some(r.duration()?) } else { None },
            groups: r.list(STATE_ENTRIES_MAX, |r| {
                Ok(GroupState {
                    group: r.group()?,
                    role: read_role(r)?,
                    register: read_register(r)?,
                    counts: Counts {
                        flows: r.u32()?,
                        copied: r.u32()?,
                        lag_ops: r.u64()?,
                        lag_bytes: r.u64()?,
                    },
                })
            })?,
        })
    }
}
