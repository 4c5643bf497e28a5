//! A service whose settings change while it serves.
//!
//! Connections name their server by its position, so positions stay: a server that goes is retired, and keeps its place
//! until it has no connections left on any core; one that comes takes such a place, or a new one. What nodes tell each other
//! names a server by address and port; they may have them in different places.
//!
//! What a core needs for the new settings is made by whoever may take the time ([`Renewal`]), and what it does not need any
//! more is given back to it: on the core nothing is allocated, freed or dealt, whatever changes.
//!
//! Timers that were set by the settings of before may be later than the new ones ask for: until the last of them has fired,
//! each connection that is touched gets its timer anew. One that is not touched keeps the one that it has.
//!
//! What is negotiated with clients or decides which bytes a connection carries (receive buffer, MSS, application) stays as
//! it is: the peer, which may not have the new settings yet, applies the same facts.
//!
//! Bounds: a look at each server, at each client that waits and, where a place is given to another server, at each of
//! [`crate::upstream::stick::STICKS_MAX`].

use super::{Mode, Stack};
use crate::service::Service;
use crate::shard::Place;
use crate::tcp::deadline::SILENCE_MAX;
use crate::time::Instant;
use crate::upstream::Roster;

/// Settings of a service, with all that one core of a node needs for them.
pub struct Renewal {
    service: Service,
    roster: Roster,
}

impl Renewal {
    /// Takes all memory.
    pub fn new(service: Service, place: Place) -> Renewal {
        let service = service.on_core(place);
        let roster = Roster::new(&service.upstream);
        Renewal { service, roster }
    }
}

impl Stack {
    /// The service with this index has other settings from now on. What they replace is left in `renewal`.
    pub fn reconfigure(&mut self, now: Instant, index: u8, renewal: &mut Renewal) {
        let Renewal { service, roster } = renewal;
        let known = &mut self.env.services[index as usize];
        assert!(known.may_become(service), "only what may change has changed");
        let old = (&mut self.rosters[index as usize], &known.upstream);
        let is_serving = self.groups[index as usize].mode == Mode::Serving;
        roster.succeed(now, old, &service.upstream, is_serving);
        let upstream = &known.upstream;
        let of_sides = [upstream.server_idle, upstream.half_closed].into_iter().flatten();
        let idle = known.idle_timeout.unwrap_or(SILENCE_MAX);
        let longest = of_sides.fold(idle.max(known.connect_timeout), Ord::max);
        self.groups[index as usize].rearm_until = now + longest;
        core::mem::swap(known, service);
        core::mem::swap(&mut self.rosters[index as usize], roster);
        self.choose_macs();
        self.begin_purge(index);
    }
}

impl Service {
    /// The same with one core's share of the limits.
    pub(super) fn on_core(self, place: Place) -> Service {
        Service { upstream: self.upstream.on_core(place), ..self }
    }

    /// Whether connections of this service can go on under the settings of `other`.
    fn may_become(&self, other: &Service) -> bool {
        let fixed = |service: &Service| (service.receive_buffer, service.mss, service.arp);
        let upstream = (&self.upstream, &other.upstream);
        self.addresses == other.addresses
            && self.ports == other.ports
            && fixed(self) == fixed(other)
            && core::mem::discriminant(&self.app) == core::mem::discriminant(&other.app)
            && upstream.0.sources == upstream.1.sources
            && upstream.0.header == upstream.1.header
            && upstream.0.accepts_header == upstream.1.accepts_header
            && upstream.0.servers.len() <= upstream.1.servers.len()
    }
}
