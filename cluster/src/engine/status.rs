//! How groups stand on a core, as the status shows them.

use super::{Engine, Role};
use crate::backup::BackupCounters;
use crate::id::{Epoch, GroupId};
use crate::log::LogCounters;
use stack::stack::Conflict;

/// How a group stands on this core.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupStatus {
    /// The group.
    pub id: GroupId,
    /// What this node is to it.
    pub role: Role,
    /// The epoch of the last command.
    pub epoch: Epoch,
    /// Flows.
    pub flows: u32,
    /// Flows that the peer holds or, as peer, that are held here.
    pub copied: u32,
    /// As peer: flows without a copy, because it was given up and has not come again or because they hold too much.
    pub awaited: u32,
    /// Records that the peer has not acknowledged.
    pub lag_ops: u64,
    /// Bytes that the peer has not acknowledged.
    pub lag_bytes: u64,
    /// The log, as owner.
    pub log: LogCounters,
    /// The copies, as peer.
    pub backup: BackupCounters,
    /// Bytes of payload that this node, as peer, has overheard, those that were said again included.
    pub heard_bytes: u64,
    /// As owner: the last claim of another host to one of the group's addresses.
    pub conflict: Option<Conflict>,
}

impl GroupStatus {
    /// Flows that there are.
    pub fn all(&self) -> u32 {
        self.flows + self.awaited
    }
}

impl core::ops::AddAssign for GroupStatus {
    /// The same group on another core of the node.
    fn add_assign(&mut self, other: GroupStatus) {
        let GroupStatus {
            id: _,
            role: _,
            epoch: _,
            flows,
            copied,
            awaited,
            lag_ops,
            lag_bytes,
            log,
            backup,
            heard_bytes,
            conflict,
        } = other;
        self.flows += flows;
        self.copied += copied;
        self.awaited += awaited;
        self.lag_ops += lag_ops;
        self.lag_bytes += lag_bytes;
        self.log += log;
        self.backup += backup;
        self.heard_bytes += heard_bytes;
        self.conflict = match (self.conflict, conflict) {
            (Some(one), Some(other)) => Some(one.joined(other)),
            (one, other) => one.or(other),
        };
    }
}

impl Engine {
    /// How the groups stand.
    pub fn status(&self) -> impl Iterator<Item = GroupStatus> + '_ {
        self.places().map(|index| self.status_of(index))
    }

    /// The indices of the groups that there are.
    pub fn places(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.groups.len()).filter(|&index| self.groups[index].id != GroupId::NONE)
    }

    /// One more than the highest index that a group has had.
    #[inline]
    pub fn places_end(&self) -> usize {
        self.groups.len()
    }

    /// How the group with this index stands.
    pub fn status_of(&self, index: usize) -> GroupStatus {
        let group = &self.groups[index];
        let state = self.stack.group(index as u8);
        let lanes = &self.logs.0[index];
        let mut backup = BackupCounters::default();
        group.backups.iter().for_each(|copies| backup += copies.counters());
        GroupStatus {
            id: group.id,
            role: group.role,
            epoch: group.epoch,
            flows: state.flows(),
            copied: match group.role {
                Role::Peer => state.flows(),
                _ => state.copied(),
            },
            awaited: group.backups.iter().map(|copies| copies.awaited() as u32).sum(),
            lag_ops: lanes.iter().map(|lane| lane.log.lag()).sum(),
            lag_bytes: lanes.iter().map(|lane| lane.log.bytes_pending() as u64).sum(),
            log: lanes.counters(),
            backup,
            heard_bytes: group.heard_bytes,
            conflict: state.conflict(),
        }
    }
}
