//! A service whose settings change while it serves.
//!
//! Connections name their server by its position, so positions stay: a server that goes is retired, and keeps its place
//! until it has no connections left; one that comes takes a new place, or that of a retired one without connections.
//! What nodes tell each other names a server by address and port; they may have them in different places.
//!
//! Timers that were set by the settings of before may be later than the new ones ask for: until the last of them has fired,
//! each connection that is touched gets its timer anew. One that is not touched keeps the one that it has.
//!
//! What is negotiated with clients or decides which bytes a connection carries (receive buffer, MSS, application) stays as
//! it is: the peer, which may not have the new settings yet, applies the same facts.

use super::{Mode, Stack};
use crate::service::Service;
use crate::tcp::deadline::SILENCE_MAX;
use crate::time::Instant;

impl Stack {
    /// The service with this index has other settings from now on. What they replace is left in `service`, for whoever may
    /// take the time to free it.
    pub fn reconfigure(&mut self, now: Instant, index: u8, service: &mut Service) {
        let upstream = core::mem::take(&mut service.upstream);
        service.upstream = upstream.on_core(self.place);
        let known = &mut self.env.services[index as usize];
        assert!(known.may_become(service), "only what may change has changed");
        let roster = &mut self.rosters[index as usize];
        let is_serving = self.groups[index as usize].mode == Mode::Serving;
        roster.reconfigure(now, &known.upstream, &service.upstream, is_serving);
        let upstream = &known.upstream;
        let of_sides = [upstream.server_idle, upstream.half_closed].into_iter().flatten();
        let idle = known.idle_timeout.unwrap_or(SILENCE_MAX);
        let longest = of_sides.fold(idle.max(known.connect_timeout), Ord::max);
        self.groups[index as usize].rearm_until = now + longest;
        core::mem::swap(known, service);
        self.begin_purge(index);
    }
}

impl Service {
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
            && upstream.0.servers.len() <= upstream.1.servers.len()
    }
}
