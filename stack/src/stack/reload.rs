//! A service whose settings change while it serves; services that come and go.
//!
//! Services have *places*: their index, which is that of their group. One that comes takes a place that no service has; one
//! that goes first leaves (it takes no new connections and serves those that it has), and gives its place back when nothing of
//! it is left. Connections carry the index, so nothing on the path of a segment knows that services come and go.
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
//! Bounds: a look at each server, for each of them at what was heard of up to [`crate::limits::HEARSAY_MAX`] that had no place, at
//! each client that waits and, where a place is given to another server, at each of
//! [`crate::upstream::stick::STICKS_MAX`].

use super::{Group, Mode, Stack};
use crate::app::AppConfig;
use crate::content::Content;
use crate::limits::CONNECT_TIMEOUT;
use crate::service::{ArpPolicy, HOP_LIMIT, Service};
use crate::shard::Place;
use crate::tcp::deadline::SILENCE_MAX;
use crate::tcp::sender::SenderConfig;
use crate::time::Instant;
use crate::upstream::{Roster, Upstream};
use alloc::vec::Vec;

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

    /// No service. Nothing is allocated.
    pub fn vacant(place: Place) -> Renewal {
        Renewal::new(Service::vacant(), place)
    }
}

impl Stack {
    /// Another service comes into the place with this index, or with [`Renewal::vacant`] none. What it replaces is left in
    /// `renewal`. `false`: something of the service of before is left, and nothing has changed.
    pub fn occupy(&mut self, index: u8, renewal: &mut Renewal) -> bool {
        let at = usize::from(index);
        while self.groups.len() <= at {
            self.add_place();
        }
        // A flow that was forgotten counts among its service's until it is looked at.
        let is_free = self.env.services[at].is_vacant() || !self.is_turning();
        if self.groups[at].mode != Mode::Off || self.groups[at].flows > 0 || !is_free {
            return false;
        }
        let Renewal { service, roster } = renewal;
        core::mem::swap(&mut self.env.services[at], service);
        core::mem::swap(&mut self.rosters[at], roster);
        let eras = self.groups[at].eras;
        self.groups[at] = Group { eras, newest: index, ..Group::default() };
        self.env.grace_until[at] = Instant::ZERO;
        self.listening &= !(1 << index);
        self.listening |= u64::from(self.env.services[at].snoop) << index;
        self.untold &= !(1 << index);
        self.sticks.retain(|(service, ..)| *service != index);
        self.note_speaking(index);
        self.schedule_announcement();
        true
    }

    /// One more place, without a service.
    fn add_place(&mut self) {
        let Renewal { service, roster } = Renewal::vacant(self.place);
        self.groups.push(Group { newest: self.groups.len() as u8, ..Group::default() });
        self.env.services.push(service);
        self.env.grace_until.push(Instant::ZERO);
        self.rosters.push(roster);
    }

    /// No flow begins in the group any more, or flows begin in it again.
    pub fn set_leaving(&mut self, group: u8, is_leaving: bool) {
        self.groups[group as usize].is_leaving = is_leaving;
    }

    /// Whether the group's service leaves and has nothing left: no flow, and no client that was told of one by a cookie alone.
    pub fn is_through(&self, now: Instant, group: u8) -> bool {
        let state = &self.groups[group as usize];
        state.is_leaving && state.flows == 0 && now >= state.cookies_until
    }

    /// The service with this index has other settings from now on. What they replace is left in `renewal`.
    pub fn reconfigure(&mut self, now: Instant, index: u8, renewal: &mut Renewal) {
        let Renewal { service, roster } = renewal;
        let known = &mut self.env.services[index as usize];
        assert!(known.may_become(service), "only what may change has changed");
        let old = (&mut self.rosters[index as usize], &known.upstream);
        let is_serving = self.groups[index as usize].mode == Mode::Serving;
        roster.succeed(now, old, &service.upstream, is_serving);
        self.counters.decisions_forgotten += roster.take_forgotten();
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
    /// That of a place that no service has: nothing is sent to it.
    fn vacant() -> Service {
        Service {
            addresses: Vec::new(),
            arp: ArpPolicy::None,
            snoop: false,
            ports: Vec::new(),
            app: AppConfig::Discard,
            content: Content::default(),
            receive_buffer: 0,
            idle_timeout: None,
            keep_alive: None,
            connect_timeout: CONNECT_TIMEOUT,
            sender: SenderConfig::default(),
            mss: 0,
            nodelay: true,
            hop_limit: HOP_LIMIT,
            upstream: Upstream::default(),
        }
    }

    fn is_vacant(&self) -> bool {
        self.addresses.is_empty()
    }

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
