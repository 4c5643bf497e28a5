//! The servers of a proxied service: what the configuration says of them, what this core knows, which one is next.
//!
//! A choice is the owner's decision and recorded as the opening of a server's leg. What is decided about the servers
//! themselves ([`decision`]) is told to the peer; the rest of what is known here is this core's own. A server is *usable*
//! while it is up, no order keeps it out of use, its weight is not 0 and its next hop has answered; one that was not asked
//! yet is waited for.
//!
//! Bounds: [`SERVERS_MAX`] servers; a choice looks at each a few times. Spec: RFC 826, 4861 7.2 for the questions.

pub mod choice;
pub mod decision;
mod hearsay;
pub mod maglev;
mod passed_by;
pub mod queue;
pub mod stick;
pub mod traffic;

use crate::app::proxy::header::HeaderVersion;
use crate::limits::{
    NEIGHBOR_AGAIN, NEIGHBOR_ASKS_MAX, NEIGHBOR_FRESH, NEIGHBOR_LOST_AGAIN, NEIGHBOR_REFUSED_AGAIN,
};
use crate::shard::Place;
use crate::time::{Duration, Instant};
use crate::wire::{Address, Mac};
use alloc::vec::Vec;
use decision::Decided;
use hearsay::{Heard, Hearsay};
use maglev::Maglev;
use passed_by::PassedBy;
use queue::Queue;
use stick::{STICKS_MAX, Stick, Sticks};
use traffic::{Said, Tally};

/// Servers of one service at most.
pub const SERVERS_MAX: usize = 1024;

/// Weight of a server at most.
pub const WEIGHT_MAX: u16 = 256;

/// One server, as configured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Server {
    /// Where it is.
    pub address: Address,
    /// The port to connect to.
    pub port: u16,
    /// Its share of the connections; 0 gets none.
    pub weight: u16,
    /// Who brings frames there: itself, or a router.
    pub next_hop: Address,
    /// It is none any more and gets no new connections: it keeps its place as long as some are left, and until another
    /// server needs it.
    pub is_retired: bool,
    /// It is used only while no other one is.
    pub is_backup: bool,
    /// Connections to it at most; 0: as many as come.
    pub connections_max: u32,
}

impl Server {
    /// Whether it is at this address and port.
    pub fn is_at(&self, address: &Address, port: u16) -> bool {
        self.address == *address && self.port == port
    }
}

/// How a server is chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Balance {
    /// In turn, each as often as its weight says.
    #[default]
    RoundRobin,
    /// The one with the fewest connections for its weight.
    LeastConnections,
    /// The same one for each client address, whatever the others are.
    Source,
    /// The better of two that are drawn.
    RandomTwo,
    /// By the client's address and a table that changes little when servers do.
    Maglev,
}

/// Servers of a service and how to reach them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Upstream {
    /// The servers, in the order of the configuration.
    pub servers: Vec<Server>,
    /// Addresses from which we connect to them.
    pub sources: Vec<Address>,
    /// How one is chosen.
    pub balance: Balance,
    /// After so many that did not answer or refused the client is reset.
    pub attempts_max: u8,
    /// A client begins with a header that says who is behind it, and counts as that one.
    pub accepts_header: bool,
    /// Tells a server who its client is, before anything else.
    pub header: Option<HeaderVersion>,
    /// A server that says nothing for so long ends the connection, as a client does by the service's own time-out.
    pub server_idle: Option<Duration>,
    /// So does either side where one of them has closed.
    pub half_closed: Option<Duration>,
    /// Both sides of a connection are reset when its server is out of service.
    pub resets_when_down: bool,
    /// Connections at most, all servers together; 0: as many as come.
    pub connections_max: u32,
    /// So many clients may wait until a server has room.
    pub queue_max: u32,
    /// For so long.
    pub queue_timeout: Duration,
    /// A server that has come into use gets its whole share after so long; ZERO: at once.
    pub slow_start: Duration,
    /// The end of each connection is told to whoever keeps a log.
    pub logs: bool,
    /// A client is led to the same server again for so long after its last connection; ZERO: it is not.
    pub stick: Duration,
}

impl Upstream {
    /// Position of the server at this address and port.
    pub fn position(&self, address: &Address, port: u16) -> Option<u16> {
        let is_it = |server: &Server| server.is_at(address, port) && !server.is_retired;
        self.servers.iter().position(is_it).map(|index| index as u16)
    }

    /// The same, be it retired or not.
    pub fn place_of(&self, address: &Address, port: u16) -> Option<u16> {
        let place = self.servers.iter().position(|server| server.is_at(address, port));
        place.map(|index| index as u16)
    }

    /// The same with one core's share of the limits: at least 1 each.
    pub fn on_core(mut self, place: Place) -> Upstream {
        let Upstream { servers, connections_max, queue_max, .. } = &mut self;
        let limits = servers.iter_mut().map(|server| &mut server.connections_max);
        for limit in limits.chain([connections_max, queue_max]) {
            *limit = place.share_of(*limit);
        }
        self
    }
}

/// What this core knows of a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ServerStatus {
    /// Its next hop's Ethernet address.
    pub mac: Option<Mac>,
    /// What is in force for it.
    pub decided: Decided,
    /// When that was last changed, by this node's clock; ZERO if never.
    pub decided_at: Instant,
    /// Which change of the roster that was; 0 if it never was.
    change: u64,
    /// How often it was changed by those who owned the service.
    pub revision: u32,
    /// The other cores of this node have yet to hear of it.
    is_untold: bool,
    /// What this node's own checks have found last: up, or down; `None` before they have found anything.
    pub verdict: Option<bool>,
    /// Since when it is in use, if it was not before; ZERO if it always was.
    used_from: Instant,
    /// Connections to it on this core, copies included.
    pub connections: u32,
    /// Connections opened to it.
    pub opened: u64,
    /// Of these, refused or not answered.
    pub failed: u64,
    /// What it and its clients have said.
    pub said: Said,
    /// Questions about the next hop that have no answer yet.
    asks: u8,
    /// When the next hop is asked for next.
    ask_at: Instant,
    /// What is left of its turn.
    credit: i32,
}

impl ServerStatus {
    /// Nobody has answered for it, and that was asked for long enough.
    pub fn is_unreachable(&self) -> bool {
        self.mac.is_none() && self.asks >= NEIGHBOR_ASKS_MAX
    }
}

/// Why there is no server to connect to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoServer {
    /// The next hop of one is being asked for.
    NotYet,
    /// Every one that is up has as many connections as it takes.
    Full,
    /// None is up.
    AllDown,
}

/// What this core knows of the servers of one service.
pub struct Roster {
    servers: Vec<ServerStatus>,
    /// What is decided about others.
    hearsay: Hearsay,
    /// Local ends of connections to each of them that searches for others have come by.
    passed_by: Vec<PassedBy>,
    /// How often something was decided.
    changes: u64,
    /// A server has gone out of service since that was last asked.
    has_lost: bool,
    /// With [`Balance::Maglev`]: the table.
    maglev: Option<Maglev>,
    /// A weight has changed since that was begun to be dealt.
    is_stale: bool,
    /// Connections, all servers together.
    connections: u32,
    /// Clients that wait for one.
    pub queue: Queue,
    /// What has come and gone.
    pub tally: Tally,
    /// Where clients were led, if that counts.
    sticks: Option<Sticks>,
    /// When [`Roster::poll_query`] is due.
    ask_at: Instant,
}

impl Roster {
    /// Nothing is known yet. All memory is taken, and a table is dealt: that takes its time.
    pub fn new(upstream: &Upstream) -> Roster {
        let servers = alloc::vec![ServerStatus::default(); upstream.servers.len()];
        let passed_by = alloc::vec![PassedBy::default(); upstream.servers.len()];
        let is_maglev = upstream.balance == Balance::Maglev;
        let mut roster = Roster {
            servers,
            hearsay: Hearsay::new(!upstream.servers.is_empty()),
            passed_by,
            changes: 0,
            has_lost: false,
            maglev: is_maglev.then(Maglev::default),
            is_stale: is_maglev,
            connections: 0,
            queue: Queue::new(upstream.queue_max),
            tally: Tally::default(),
            sticks: (upstream.stick > Duration::ZERO).then(|| Sticks::new(STICKS_MAX)),
            ask_at: Instant::MAX,
        };
        while roster.is_dealing() {
            roster.deal_some(upstream);
        }
        roster
    }

    /// The servers, in the order of the configuration.
    pub fn servers(&self) -> &[ServerStatus] {
        &self.servers
    }

    /// A connection to a server begins.
    pub fn note_connection(&mut self, server: u16) {
        if let Some(status) = self.servers.get_mut(server as usize) {
            status.connections += 1;
            self.connections += 1;
        }
    }

    /// A connection to a server is over: there may be room for the next client.
    pub fn note_end(&mut self, server: u16) {
        if let Some(status) = self.servers.get_mut(server as usize) {
            status.connections -= 1;
            self.connections -= 1;
            self.queue.has_news = true;
        }
    }

    /// Where a client was led last.
    pub fn stick(&self, now: Instant, hash: u64, client: &Address) -> Option<Stick> {
        self.sticks.as_ref()?.get(now, hash, client)
    }

    /// A client was led somewhere; answers whether the other cores should know.
    pub fn note_stick(&mut self, now: Instant, time: Duration, stick: Stick) -> bool {
        let Some(sticks) = &mut self.sticks else { return false };
        let known = sticks.get(now, stick.hash, &stick.client);
        sticks.put(Stick { until: now + time, ..stick });
        // Who comes all the time is told of now and then.
        let is_known = |known: Stick| {
            known.server == stick.server && known.until.since(now).0 > time.0 / 4 * 3
        };
        !known.is_some_and(is_known)
    }

    /// A local end of that shard that a search has come by, of a connection to this server; it may be taken.
    #[inline]
    pub fn take_passed(&mut self, server: u16, shard: u8) -> Option<u32> {
        self.passed_by[server as usize].take(shard)
    }

    /// A search has come by the local end at this position.
    #[inline]
    pub fn note_passed(&mut self, server: u16, shard: u8, at: u32) {
        self.passed_by[server as usize].keep(shard, at);
    }

    /// One of them; `None` for a number that is none.
    pub fn server_mut(&mut self, server: u16) -> Option<&mut ServerStatus> {
        self.servers.get_mut(server as usize)
    }

    /// Takes over from `old`, which knows the servers of `old_upstream`: these are others from now on, those that stay in
    /// their places. Who is new is asked for at once if this node serves. What is not needed any more is left there.
    pub fn succeed(
        &mut self,
        now: Instant,
        (old, old_upstream): (&mut Roster, &Upstream),
        upstream: &Upstream,
        is_serving: bool,
    ) {
        let Roster { changes, has_lost, connections, tally, ask_at, .. } = *old;
        (self.changes, self.has_lost, self.connections) = (changes, has_lost, connections);
        (self.tally, self.ask_at) = (tally, ask_at);
        self.queue.succeed(&mut old.queue);
        if self.sticks.is_some() && old.sticks.is_some() {
            core::mem::swap(&mut self.sticks, &mut old.sticks);
        }
        self.hearsay.succeed(&mut old.hearsay);
        let mut has_new_tenant = false;
        for (index, (status, server)) in self.servers.iter_mut().zip(&upstream.servers).enumerate()
        {
            let known = old.servers.get(index).zip(old_upstream.servers.get(index));
            let same = known.filter(|(_, known)| known.is_at(&server.address, server.port));
            if let Some((known, before)) = same {
                *status = *known;
                if before.next_hop == server.next_hop {
                    continue;
                }
                (status.mac, status.asks) = (None, 0);
            } else if let Some((known, before)) = known {
                assert!(known.connections == 0, "a place with connections is kept");
                has_new_tenant = true;
                if known.revision > 0 {
                    let ServerStatus { change, is_untold, .. } = *known;
                    self.hearsay.keep(Heard { word: known.word(before), change, is_untold });
                }
            }
            status.ask_at = now;
            if is_serving {
                self.ask_at = self.ask_at.min(now);
            }
        }
        self.place_hearsay(now, upstream);
        // The table was dealt by what is configured.
        self.is_stale = self.servers.iter().any(|server| server.decided.weight.is_some());
        if let Some(sticks) = self.sticks.as_mut().filter(|_| has_new_tenant) {
            let is_kept = |server: u16| {
                let places = old_upstream.servers.get(server as usize);
                let place = places.zip(upstream.servers.get(server as usize));
                place.is_some_and(|(old, new)| old.is_at(&new.address, new.port))
            };
            sticks.retain(|stick| is_kept(stick.server));
        }
    }

    /// Share of the connections that a server gets: the operator's word goes before the configuration.
    pub fn weight(&self, upstream: &Upstream, server: u16) -> u16 {
        let configured = upstream.servers[server as usize].weight;
        self.servers[server as usize].decided.weight.unwrap_or(configured)
    }

    /// Nobody is asked any more.
    pub fn end(&mut self) {
        self.ask_at = Instant::MAX;
        self.queue.clear();
    }

    /// When [`Roster::poll_query`] is due.
    pub fn poll_timeout(&self) -> Instant {
        self.ask_at
    }

    /// The next hop that is to be asked for; `None` when that was all for now.
    pub fn poll_query(&mut self, now: Instant, upstream: &Upstream) -> Option<Address> {
        if now < self.ask_at {
            return None;
        }
        // Nobody will be led to a server that is retired, and those that are there know the way.
        let servers = self.servers.iter().zip(&upstream.servers);
        let asked = servers.filter(|(_, server)| !server.is_retired);
        if let Some((_, due)) = asked.clone().find(|(status, _)| status.ask_at <= now) {
            return Some(due.next_hop);
        }
        self.ask_at = asked.map(|(status, _)| status.ask_at).min().unwrap_or(Instant::MAX);
        None
    }

    /// The next hop was asked for, or there is nobody to ask it: one question does for all servers behind it.
    pub fn note_asked(&mut self, now: Instant, upstream: &Upstream, next_hop: Address) {
        for (server, config) in self.servers.iter_mut().zip(&upstream.servers) {
            if config.next_hop == next_hop {
                server.asks = server.asks.saturating_add(1);
                let is_lost = server.asks > NEIGHBOR_ASKS_MAX;
                if is_lost {
                    server.mac = None;
                }
                server.ask_at = now + if is_lost { NEIGHBOR_LOST_AGAIN } else { NEIGHBOR_AGAIN };
            }
        }
    }

    /// Nothing more can be asked now.
    pub fn put_off_queries(&mut self, now: Instant) {
        self.ask_at = now + NEIGHBOR_REFUSED_AGAIN;
    }

    /// `address` is at `mac`; answers whether that is anybody's next hop.
    pub fn learn(
        &mut self,
        now: Instant,
        upstream: &Upstream,
        address: &Address,
        mac: Mac,
    ) -> bool {
        let mut is_known = false;
        for (server, config) in self.servers.iter_mut().zip(&upstream.servers) {
            if config.next_hop == *address {
                (server.mac, server.asks) = (Some(mac), 0);
                server.ask_at = now + NEIGHBOR_FRESH;
                (is_known, self.queue.has_news) = (true, true);
            }
        }
        is_known
    }
}

#[cfg(test)]
mod tests;
