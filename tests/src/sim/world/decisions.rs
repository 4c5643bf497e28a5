//! What is decided about servers: every core of both nodes knows the same, and nothing that was replaced comes back.
//!
//! Of two words about a server the newer one counts, whichever comes last: orders race each other over cores and nodes, and a
//! core that was stuck tells late what it knows. So what a core knows never gets older in an ownership or by a takeover, nor what all
//! agree on from one time at which the service is protected to the next.

use super::World;
use crate::kit::settings::PROXY;
use crate::sim::node::Life;
use cluster::engine::Engine;
use cluster::id::Epoch;
use stack::stack::Mode;
use stack::upstream::decision::Decided;
use std::collections::BTreeMap;

/// What is known about each server of a group, and in which revision.
type Known = Vec<(u32, Decided)>;

/// What was known when it was looked at last.
#[derive(Debug, Default)]
pub(super) struct Decisions {
    /// By each core of a node, of each group, and in which ownership.
    cores: BTreeMap<(usize, usize, usize), (Epoch, Known)>,
    /// By everybody, of each group.
    agreed: BTreeMap<usize, Known>,
}

impl Decisions {
    /// A node's cores know nothing any more.
    pub fn forget_node(&mut self, node: usize) {
        self.cores.retain(|(known, ..), _| *known != node);
    }

    /// A service begins anew, or may do so.
    pub fn forget_groups(&mut self, groups: impl IntoIterator<Item = usize>) {
        for group in groups {
            self.agreed.remove(&group);
        }
    }
}

impl World {
    /// Position of the service whose connections are passed on.
    pub(super) fn proxied(&self) -> Option<usize> {
        self.shape.settings.position_of(PROXY)
    }

    /// Both generations of a service.
    pub(super) fn groups_of(&self, service: usize) -> impl Iterator<Item = usize> + use<> {
        (service..self.newest.len()).step_by(self.shape.settings.ports.len())
    }

    /// What a core knows about servers is no older than what it knew before.
    pub(super) fn check_decisions(&mut self, (node, core): (usize, usize)) {
        let Some(service) = self.proxied() else { return };
        for group in self.groups_of(service) {
            let Some(life) = &self.nodes[node].life else { return };
            let Some(engine) = life.engines().nth(core) else { return };
            // Who is nothing to a group has forgotten what was decided, and hears of it anew.
            let stack = Some(engine.stack());
            let stack = stack.filter(|stack| stack.group(group as u8).mode != Mode::Off);
            let servers = stack.map_or(&[][..], |stack| stack.roster(group as u8).servers());
            let known = servers.iter().map(|server| (server.revision, server.decided));
            let epoch = engine.status_of(group).epoch;
            let is_promoted = self.check.taken_over(group) == epoch;
            let before = self.decisions.cores.entry((node, core, group)).or_default();
            // Whoever takes over goes on from what it has followed, and may be told in the same round what another core has.
            let goes_on = before.0 == epoch || is_promoted && before.0.next() == epoch;
            let is_same = before.0 == epoch && known.clone().eq(before.1.iter().copied());
            let is_older = goes_on && is_older(known.clone(), &before.1);
            if is_older {
                let known: Known = known.collect();
                let was = std::mem::take(&mut before.1);
                let what = "an older decision replaced a newer";
                self.fail(format!("node {}: {what}: {was:?} became {known:?}", node + 1));
            } else if !is_same {
                *before = (epoch, known.collect());
            }
        }
    }

    /// Every core of both nodes knows the same about servers, and nothing older than when that was looked at last.
    pub(super) fn check_agreement(&mut self, group: usize) -> Result<(), String> {
        let register = self.register(group);
        let life = |member| self.lives().find(|life| life.member == member);
        let pair = life(register.owner).zip(register.in_sync_peer().and_then(life));
        let Some((owner, peer)) = pair else { return Ok(()) };
        let Some(known) = compare_decisions(group, owner, peer)? else { return Ok(()) };
        let before = self.decisions.agreed.insert(group, known.clone()).unwrap_or_default();
        match is_older(known.iter().copied(), &before) {
            false => Ok(()),
            true => Err(format!("decisions of group {group} got older: {before:?} and {known:?}")),
        }
    }
}

/// Whether anything is known in an older revision than before.
fn is_older(known: impl Iterator<Item = (u32, Decided)>, before: &Known) -> bool {
    known.zip(before).any(|(known, before)| known < *before)
}

/// What every core of both nodes knows about servers, as soon as everything that was recorded has arrived.
fn compare_decisions(group: usize, owner: &Life, peer: &Life) -> Result<Option<Known>, String> {
    let has_told = owner.is_told() && peer.is_told();
    let is_on_its_way = owner.engines().any(|engine| engine.status_of(group).lag_ops > 0);
    if !has_told || is_on_its_way {
        return Ok(None);
    }
    let known = |engine: &Engine| -> Known {
        let servers = engine.stack().roster(group as u8).servers().iter();
        servers.map(|server| (server.revision, server.decided)).collect()
    };
    let mut all = owner.engines().chain(peer.engines()).map(known);
    let first = all.next();
    let decided = |known: &Known| known.iter().map(|(_, decided)| *decided).collect::<Vec<_>>();
    let other = all.find(|other| Some(decided(other)) != first.as_ref().map(decided));
    match (first, other) {
        (Some(one), Some(other)) => {
            let (one, other) = (decided(&one), decided(&other));
            Err(format!("decisions differ in group {group}: {one:?} and {other:?}"))
        }
        (first, _) => Ok(first),
    }
}
