//! Whether a group is protected, all cores together.

use super::told;
use crate::config::{Service, Snoop};
use crate::control::status as shown;
use crate::shared::CoreSnapshot;
use cluster::agent::status::{GroupStatus, Status};
use cluster::engine::GroupStatus as Engine;
use cluster::id::GroupId;
use cluster::message::Role;
use cluster::register::Register;
use std::collections::BTreeMap;

/// A generation that nobody owns is worth a line only if its service has no other.
pub(super) fn is_shown(agent: &Status, group: &GroupStatus) -> bool {
    let is_live = |other: &GroupStatus| other.register.is_live();
    let is_same = |other: &&GroupStatus| other.group.service() == group.group.service();
    let has_live = agent.groups.iter().filter(is_same).any(is_live);
    is_live(group) || (!has_live && group.group.generation() == 0)
}

/// How the groups stand, all cores together.
pub(super) fn totals(cores: &[CoreSnapshot]) -> BTreeMap<GroupId, Engine> {
    let mut totals: BTreeMap<GroupId, Engine> = BTreeMap::new();
    for group in cores.iter().flat_map(|core| &core.groups) {
        totals.entry(group.id).and_modify(|total| *total += *group).or_insert(*group);
    }
    totals
}

/// Connections that have a copy, and all of them: as the owner or the peer counts them, as the owner has told anybody else.
pub(super) fn copies(agent: &Status, group: &GroupStatus, engine: &Engine) -> (u32, u32) {
    let owner = agent.nodes.iter().find(|node| node.member == group.register.owner);
    let told = owner.and_then(told).and_then(|state| {
        let known = state.groups.iter().find(|known| known.group == group.group)?;
        Some((known.counts.copied, known.counts.flows))
    });
    told.filter(|_| group.role == Role::Idle).unwrap_or((engine.copied, engine.all()))
}

pub(super) fn protection(
    register: &Register,
    (copied, total): (u32, u32),
    is_known: bool,
    has_arbiter: bool,
) -> shown::Protection {
    use shown::Protection as P;
    let filling = P::Filling { copied: copied.into(), total: total.into() };
    match (is_known, register.peer, register.in_sync) {
        (false, ..) => P::Unknown,
        (_, _, true) if !has_arbiter => P::UnprotectedNoArbiter,
        // A copy was given up and is being captured again, or holds too much to be captured.
        (_, _, true) if copied < total => filling,
        (_, _, true) => P::Protected,
        (_, None, _) => P::UnprotectedNoPeer,
        (_, Some(_), false) => filling,
    }
}

/// Of the bytes that the log has told a peer that listens, how many it has heard.
pub(super) fn hears_percent(service: &Service, engine: &Engine) -> Option<u8> {
    let listens = service.snoop == Snoop::Wire && engine.role == cluster::engine::Role::Peer;
    let told = engine.backup.bytes;
    (listens && told > 0).then(|| (engine.heard_bytes * 100 / told).min(100) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cluster::id::{Epoch, Incarnation, Member, NodeId};
    use shown::Protection as P;

    /// DESIGN 1.4: in sync by the register is not enough to call a service protected.
    #[test]
    fn a_copy_that_was_given_up_is_not_protected() {
        let member = |node| Member { node: NodeId(node), incarnation: Incarnation(node.into()) };
        let register = Register {
            epoch: Epoch(3),
            owner: member(1),
            peer: Some(member(2)),
            in_sync: true,
            ..Register::NEVER
        };
        let filling = P::Filling { copied: 4, total: 5 };
        for (copied, expected) in [(5, P::Protected), (4, filling.clone())] {
            assert_eq!(protection(&register, (copied, 5), true, true), expected);
        }
        let peer = Engine { flows: 4, copied: 4, awaited: 1, ..Engine::default() };
        assert_eq!(protection(&register, (peer.copied, peer.all()), true, true), filling);
        assert_eq!(protection(&register, (5, 5), true, false), P::UnprotectedNoArbiter);
    }
}
