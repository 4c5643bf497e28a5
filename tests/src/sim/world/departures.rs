//! Services that no file names any more, for a while.
//!
//! While some nodes' files name a service and others' do not, who connects may be taken or refused. From the moment on in which no
//! core takes newcomers of it any more each of them is refused, by a reset, as long as somebody serves the service. Who is
//! connected is none of them: its connection goes on.
//!
//! Bounds: [`REFUSED_WITHIN`] from a client's first SYN to its reset, if nothing goes wrong meanwhile.

use super::World;
use crate::sim::check::is_syn;
use crate::sim::fault::MS;
use crate::sim::host::Host;

/// Who connects is refused within so long: its SYN may be lost once.
const REFUSED_WITHIN: u64 = 3_000 * MS;
/// So long after the last file names a service again the last core may still refuse.
const HEARD_AFTER: u64 = 20 * MS;

/// What holds for the newcomers of a service.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Departure {
    /// Until then they may be refused.
    until: u64,
    /// Since when they must be.
    since: Option<u64>,
}

impl World {
    /// A node's file names a service or does not: who is about to connect may be refused.
    pub(super) fn note_named(&mut self, service: usize) {
        let is_left = self.nodes.iter().any(|node| node.left.contains_key(&service));
        let departure = self.departures.entry(service).or_default();
        departure.since = None;
        departure.until = if is_left { u64::MAX } else { self.now + HEARD_AFTER };
    }

    /// Whether who connects to the service behind a port may be refused now.
    pub(super) fn may_refuse(&self, port: u16) -> bool {
        let departure = self.shape.settings.position_of(port).map(|at| self.departures.get(&at));
        departure.flatten().is_some_and(|departure| self.now <= departure.until)
    }

    /// Whoever has connected since no core takes newcomers is refused, and soon.
    pub(super) fn check_departures(&mut self) {
        for (service, departure) in self.departures.clone() {
            let Some(since) = departure.since else {
                let has_left = |node: &super::Node| {
                    let knows = node.life.as_ref().is_none_or(|life| life.is_told());
                    node.left.contains_key(&service) && knows
                };
                if self.nodes.iter().all(has_left) {
                    let since = Some(self.now);
                    self.departures.insert(service, Departure { since, ..departure });
                }
                continue;
            };
            let port = self.shape.settings.ports[service].port;
            let from = since.max(self.calm_since);
            let is_forgotten = |host: &&Host| {
                let is_newcomer = host.key().local_port == port && host.since >= from;
                is_newcomer && host.client.is_waiting() && self.now > host.since + REFUSED_WITHIN
            };
            let is_served = self.groups_of(service).any(|group| self.speaker(group).is_some());
            let forgotten = self.hosts.iter().find(is_forgotten);
            if let Some(host) = forgotten.filter(|_| is_served && self.is_calm()) {
                self.fail(format!("a newcomer is not refused, {:?}", host.key()));
            }
        }
    }

    /// Whether nothing is wrong with any network or node.
    fn is_calm(&self) -> bool {
        let is_able = |node: usize| self.nodes[node].per_frame == 0 && self.is_hale(node);
        self.clients.is_well(self.now)
            && self.cluster.is_well(self.now)
            && (0..self.nodes.len()).all(is_able)
    }

    /// A frame reaches a client: who has connected since no core takes newcomers is not let in.
    pub(super) fn check_let_in(&mut self, index: usize, frame: &[u8]) {
        let host = &self.hosts[index];
        let service = self.shape.settings.position_of(host.key().local_port);
        let departure = service.and_then(|service| self.departures.get(&service));
        let since = departure.and_then(|departure| departure.since);
        if since.is_some_and(|since| host.since >= since) && is_syn(frame) {
            self.fail(format!("a newcomer of a service that has left is let in, {:?}", host.key()));
        }
    }
}
