//! Whose connection may be reset although only one thing goes wrong: which, and why.
//!
//! - *Nobody else holds it.* A service that some file does not name may be served by a node without a peer: nobody else knows it, or
//!   the one that has just left has nothing of it yet (`cluster/PROTOCOL.md`, services that come and go). What such an owner serves
//!   dies with it.
//! - *Its other side denies what it has said* ([`crate::sim::denial`]), and so neither side ever moves.

use super::World;
use crate::kit::client::Ending;
use crate::sim::node::Life;
use stack::key::FlowKey;

impl World {
    /// A life is over: whose connection it served, of a service that some file does not name, and nobody holds now, may lose it.
    pub(super) fn excuse_unheld(&mut self, life: &Life) {
        let is_away =
            |service: &usize| self.nodes.iter().any(|node| node.left.contains_key(service));
        let away = self.departures.keys().copied().filter(is_away);
        let groups = away.flat_map(|service| self.groups_of(service));
        let unheld: Vec<usize> = groups.filter(|group| !self.is_held(*group)).collect();
        for host in &mut self.hosts {
            let flow = life.find(&host.key());
            host.is_excused |= flow.is_some_and(|flow| unheld.contains(&flow.group.into()));
        }
    }

    /// Somebody begins to deny what it has said in a connection: whose client that concerns.
    pub(super) fn note_denied(&mut self, key: FlowKey) {
        let client_of = |life: &Life| {
            let leg = life.find(&key)?;
            let mut flows = life.flows(leg.group.into());
            Some(flows.find(|flow| flow.id == leg.id.other_leg())?.key)
        };
        let is_client = self.hosts.iter().any(|host| host.key() == key);
        let client = match is_client {
            true => Some(key),
            false => self.lives().find_map(client_of),
        };
        self.denied.extend(client.map(|client| (client, key)));
    }

    /// A client has heard something: a reset is excused while the other end of its connection, or it itself, denies what it has said.
    pub(super) fn excuse_denied(&mut self, index: usize, before: Ending) {
        let host = &mut self.hosts[index];
        if before == Ending::Open && host.client.ending == Ending::Reset {
            let key = self.denied.get(&host.key());
            host.is_excused |= key.is_some_and(|key| self.check.is_denied(key));
        }
    }
}
