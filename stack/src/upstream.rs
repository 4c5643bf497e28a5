//! The servers of a proxied service: what the configuration says of them, what this core knows, which one is next.
//!
//! A choice is the owner's decision and recorded as the opening of a server's leg. What is decided about the servers
//! themselves ([`decision`]) is told to the peer; the rest of what is known here is this core's own. A server is *usable*
//! while it is up, no order keeps it out of use, its weight is not 0 and its next hop has answered; one that was not asked
//! yet is waited for.
//!
//! Bounds: [`SERVERS_MAX`] servers; a choice looks at each once. Spec: RFC 826, 4861 7.2 for the questions.

pub mod decision;

use crate::app::proxy::header::HeaderVersion;
use crate::limits::{NEIGHBOR_AGAIN, NEIGHBOR_ASKS_MAX, NEIGHBOR_FRESH, NEIGHBOR_LOST_AGAIN};
use crate::time::{Duration, Instant};
use crate::wire::{Address, Mac};
use alloc::vec::Vec;
use decision::{Change, Decided};

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
    /// It is none any more: it keeps its place as long as connections to it are left, and gets no new ones.
    pub is_retired: bool,
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
    /// Tells a server who its client is, before anything else.
    pub header: Option<HeaderVersion>,
    /// A server that says nothing for so long ends the connection, as a client does by the service's own time-out.
    pub server_idle: Option<Duration>,
    /// So does either side where one of them has closed.
    pub half_closed: Option<Duration>,
    /// Both sides of a connection are reset when its server is out of service.
    pub resets_when_down: bool,
}

impl Upstream {
    /// Position of the server at this address and port.
    pub fn position(&self, address: &Address, port: u16) -> Option<u16> {
        let is_it = |server: &Server| server.is_at(address, port) && !server.is_retired;
        self.servers.iter().position(is_it).map(|index| index as u16)
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
    /// What this node's own checks have found last: up, or down; `None` before they have found anything.
    pub verdict: Option<bool>,
    /// Connections to it on this core, copies included.
    pub connections: u32,
    /// Connections opened to it.
    pub opened: u64,
    /// Of these, refused or not answered.
    pub failed: u64,
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
    /// None is up.
    AllDown,
}

/// What this core knows of the servers of one service.
pub struct Roster {
    servers: Vec<ServerStatus>,
    /// How often something was decided.
    changes: u64,
    /// When [`Roster::poll_query`] is due.
    ask_at: Instant,
}

impl Roster {
    /// Nothing is known yet.
    pub fn new(upstream: &Upstream) -> Roster {
        let servers = alloc::vec![ServerStatus::default(); upstream.servers.len()];
        Roster { servers, changes: 0, ask_at: Instant::MAX }
    }

    /// The servers, in the order of the configuration.
    pub fn servers(&self) -> &[ServerStatus] {
        &self.servers
    }

    /// One of them; `None` for a number that is none.
    pub fn server_mut(&mut self, server: u16) -> Option<&mut ServerStatus> {
        self.servers.get_mut(server as usize)
    }

    /// The servers are others from now on, those that stay in their places. Who is new is asked for at once if this node
    /// serves.
    pub fn reconfigure(&mut self, now: Instant, old: &Upstream, new: &Upstream, is_serving: bool) {
        self.servers.resize(new.servers.len(), ServerStatus::default());
        for (index, (status, server)) in self.servers.iter_mut().zip(&new.servers).enumerate() {
            let known = old.servers.get(index);
            match known.filter(|known| known.is_at(&server.address, server.port)) {
                Some(known) if known.next_hop == server.next_hop => continue,
                Some(_) => (status.mac, status.asks) = (None, 0),
                None => {
                    assert!(status.connections == 0, "a place with connections is kept");
                    *status = ServerStatus::default();
                }
            }
            status.ask_at = now;
            if is_serving {
                self.ask_at = self.ask_at.min(now);
            }
        }
    }

    /// From now on this node serves: the addresses of all next hops are asked for, and what its own checks have found
    /// is decided.
    pub fn begin(&mut self, now: Instant) {
        for server in &mut self.servers {
            (server.asks, server.ask_at) = (0, now);
        }
        self.ask_at = if self.servers.is_empty() { Instant::MAX } else { now };
        self.adopt_verdicts(now);
    }

    /// This node's own checks have found that; nothing follows from it yet.
    pub fn set_verdict(&mut self, server: u16, is_up: bool) {
        if let Some(status) = self.servers.get_mut(server as usize) {
            status.verdict = Some(is_up);
        }
    }

    /// Decides what this node's own checks have found.
    pub fn adopt_verdicts(&mut self, now: Instant) {
        for index in 0..self.servers.len() {
            let ServerStatus { decided, verdict, .. } = self.servers[index];
            if let Some(is_up) = verdict {
                self.put(now, index, Decided { is_down: !is_up, ..decided });
            }
        }
    }

    /// Changes what is in force for a server; `false` if there is no such server.
    pub fn decide(&mut self, now: Instant, server: u16, change: Change) -> bool {
        let Some(status) = self.servers.get(server as usize) else { return false };
        self.put(now, server as usize, status.decided.after(change));
        true
    }

    /// What the owner has decided about a server.
    pub fn follow(&mut self, now: Instant, server: u16, decided: Decided) {
        self.put(now, server as usize, decided);
    }

    fn put(&mut self, now: Instant, server: usize, decided: Decided) {
        let status = &mut self.servers[server];
        if status.decided != decided {
            self.changes += 1;
            (status.decided, status.decided_at, status.change) = (decided, now, self.changes);
        }
    }

    /// Whether any server is out of service.
    pub fn has_out_of_service(&self) -> bool {
        self.servers.iter().any(|server| server.decided.is_out_of_service())
    }

    /// Forgets what was decided: somebody else will say what is.
    pub fn forget_decisions(&mut self) {
        for status in &mut self.servers {
            (status.decided, status.decided_at, status.change) = Default::default();
        }
    }

    /// How often something was decided.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Servers about which something was decided since there were `told` changes, with the number of the last one
    /// about each, in that order.
    pub fn changed_since(&self, told: u64) -> Vec<(u64, u16)> {
        let servers = self.servers.iter().zip(0..).filter(|(server, _)| server.change > told);
        let mut changed: Vec<(u64, u16)> = servers.map(|(server, n)| (server.change, n)).collect();
        changed.sort_unstable();
        changed
    }

    /// Share of the connections that a server gets: the operator's word goes before the configuration.
    pub fn weight(&self, upstream: &Upstream, server: u16) -> u16 {
        let configured = upstream.servers[server as usize].weight;
        self.servers[server as usize].decided.weight.unwrap_or(configured)
    }

    /// Nobody is asked any more.
    pub fn end(&mut self) {
        self.ask_at = Instant::MAX;
    }

    /// When [`Roster::poll_query`] is due.
    pub fn poll_timeout(&self) -> Instant {
        self.ask_at
    }

    /// The next address that is to be asked for, with the family's source; `None` when that was all for now.
    pub fn poll_query(&mut self, now: Instant, upstream: &Upstream) -> Option<Address> {
        if now < self.ask_at {
            return None;
        }
        let due = self.servers.iter().position(|server| server.ask_at <= now);
        let Some(index) = due else {
            self.ask_at = self.servers.iter().map(|s| s.ask_at).min().unwrap_or(Instant::MAX);
            return None;
        };
        let next_hop = upstream.servers[index].next_hop;
        // One question does for all servers behind the same next hop.
        for (server, config) in self.servers.iter_mut().zip(&upstream.servers) {
            if config.next_hop == next_hop {
                server.asks = server.asks.saturating_add(1);
                if server.asks > NEIGHBOR_ASKS_MAX {
                    server.mac = None;
                }
                let is_lost = server.asks > NEIGHBOR_ASKS_MAX;
                server.ask_at = now + if is_lost { NEIGHBOR_LOST_AGAIN } else { NEIGHBOR_AGAIN };
            }
        }
        Some(next_hop)
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
                is_known = true;
            }
        }
        is_known
    }

    /// The server for the next connection, and the Ethernet address of its next hop. `last` was asked in vain and is
    /// taken only if there is no other; `hash` is one of the client's address, `drawn` two numbers out of a hat.
    pub fn choose(
        &mut self,
        upstream: &Upstream,
        last: u16,
        hash: impl Fn(u16) -> u64,
        drawn: [u32; 2],
    ) -> Result<(u16, Mac), NoServer> {
        let count = self.servers.len() as u16;
        let is_usable = |roster: &Roster, index: u16| {
            let status = &roster.servers[index as usize];
            status.mac.is_some() && roster.may_serve(upstream, index)
        };
        let others = (0..count).filter(|&index| is_usable(self, index) && index != last).count();
        let candidate = |roster: &Roster, index: u16| {
            is_usable(roster, index) && (index != last || others == 0)
        };
        let chosen = match upstream.balance {
            Balance::RoundRobin => self.take_turn(upstream, candidate),
            Balance::LeastConnections => (0..count)
                .filter(|&index| candidate(self, index))
                .reduce(|a, b| if self.is_freer(upstream, b, a) { b } else { a }),
            Balance::Source => {
                (0..count).filter(|&index| candidate(self, index)).max_by_key(|&n| hash(n))
            }
            Balance::RandomTwo => {
                let count = (0..count).filter(|&index| candidate(self, index)).count();
                let nth = |n: u32| {
                    let mut all =
                        (0..self.servers.len() as u16).filter(|&index| candidate(self, index));
                    all.nth(n as usize % count.max(1))
                };
                let (a, b) = (nth(drawn[0]), nth(drawn[1]));
                a.zip(b).map(|(a, b)| if self.is_freer(upstream, b, a) { b } else { a })
            }
        };
        let Some(server) = chosen else { return Err(self.why_none(upstream)) };
        let mac = self.servers[server as usize].mac.expect("a usable server has an address");
        Ok((server, mac))
    }

    /// Smooth weighted round robin: whoever has waited longest for its share.
    fn take_turn(
        &mut self,
        upstream: &Upstream,
        candidate: impl Fn(&Roster, u16) -> bool,
    ) -> Option<u16> {
        let mut total = 0;
        let mut best: Option<u16> = None;
        for index in 0..self.servers.len() as u16 {
            if !candidate(self, index) {
                continue;
            }
            let weight = i32::from(self.weight(upstream, index));
            total += weight;
            self.servers[index as usize].credit += weight;
            let credit = |index: u16| self.servers[index as usize].credit;
            if best.is_none_or(|best| credit(index) > credit(best)) {
                best = Some(index);
            }
        }
        self.servers[best? as usize].credit -= total;
        best
    }

    /// Whether `a` has fewer connections for its weight than `b`.
    fn is_freer(&self, upstream: &Upstream, a: u16, b: u16) -> bool {
        let load = |index: u16| u64::from(self.servers[index as usize].connections) + 1;
        let weight = |index: u16| u64::from(self.weight(upstream, index));
        load(a) * weight(b) < load(b) * weight(a)
    }

    fn may_serve(&self, upstream: &Upstream, index: u16) -> bool {
        let is_retired = upstream.servers[index as usize].is_retired;
        let is_in_use = self.servers[index as usize].decided.is_in_use();
        is_in_use && !is_retired && self.weight(upstream, index) > 0
    }

    fn why_none(&self, upstream: &Upstream) -> NoServer {
        let is_coming = (0..).zip(&self.servers).any(|(index, status)| {
            let is_asked = status.mac.is_none() && !status.is_unreachable();
            is_asked && self.may_serve(upstream, index)
        });
        if is_coming { NoServer::NotYet } else { NoServer::AllDown }
    }
}

#[cfg(test)]
mod tests {
    use super::decision::Admin;
    use super::*;
    use alloc::vec;

    fn address(n: u8) -> Address {
        Address::v4([10, 2, 0, n])
    }

    fn upstream(balance: Balance, weights: &[u16]) -> Upstream {
        let server = |(n, &weight)| {
            let address = address(n as u8 + 1);
            Server { address, port: 80, weight, next_hop: address, is_retired: false }
        };
        let servers = weights.iter().enumerate().map(server).collect();
        Upstream { servers, balance, attempts_max: 3, ..Upstream::default() }
    }

    fn roster(upstream: &Upstream) -> Roster {
        let mut roster = Roster::new(upstream);
        let now = Instant(1_000_000_000);
        roster.begin(now);
        for n in 0..upstream.servers.len() as u8 {
            assert!(roster.learn(now, upstream, &address(n + 1), [n; 6]));
        }
        roster
    }

    fn chosen(roster: &mut Roster, upstream: &Upstream, last: u16) -> Result<u16, NoServer> {
        roster.choose(upstream, last, |n| u64::from(n) * 7 % 5, [3, 8]).map(|(server, _)| server)
    }

    const NONE: u16 = u16::MAX;

    fn set_down(roster: &mut Roster, server: u16) {
        roster.set_verdict(server, false);
        roster.adopt_verdicts(Instant(2_000_000_000));
    }

    #[test]
    fn turns_are_dealt_by_weight_and_evenly_spread() {
        let upstream = upstream(Balance::RoundRobin, &[3, 1, 0]);
        let mut roster = roster(&upstream);
        let turns: Vec<u16> =
            (0..8).map(|_| chosen(&mut roster, &upstream, NONE).unwrap()).collect();
        assert_eq!(turns, [0, 0, 1, 0, 0, 0, 1, 0]);
    }

    #[test]
    fn who_failed_is_asked_again_only_if_there_is_nobody_else() {
        for balance in
            [Balance::RoundRobin, Balance::LeastConnections, Balance::Source, Balance::RandomTwo]
        {
            let upstream = upstream(balance, &[1, 1]);
            let mut roster = roster(&upstream);
            for last in [0, 1, 0, 0] {
                assert_eq!(chosen(&mut roster, &upstream, last), Ok(1 - last), "{balance:?}");
            }
            set_down(&mut roster, 1);
            assert_eq!(chosen(&mut roster, &upstream, 0), Ok(0), "{balance:?}");
            set_down(&mut roster, 0);
            assert_eq!(chosen(&mut roster, &upstream, 0), Err(NoServer::AllDown), "{balance:?}");
        }
    }

    #[test]
    fn the_fewest_connections_count_by_weight() {
        let upstream = upstream(Balance::LeastConnections, &[2, 1]);
        let mut roster = roster(&upstream);
        let mut counts = [0; 2];
        for _ in 0..9 {
            let server = chosen(&mut roster, &upstream, NONE).unwrap();
            roster.server_mut(server).unwrap().connections += 1;
            counts[server as usize] += 1;
        }
        assert_eq!(counts, [6, 3]);
    }

    #[test]
    fn a_client_keeps_its_server_when_others_come_and_go() {
        let upstream = upstream(Balance::Source, &[1, 1, 1]);
        let mut roster = roster(&upstream);
        // By the hashes of `chosen`: 0, 2, 4.
        assert_eq!(chosen(&mut roster, &upstream, NONE), Ok(2));
        set_down(&mut roster, 0);
        assert_eq!(chosen(&mut roster, &upstream, NONE), Ok(2));
        set_down(&mut roster, 2);
        assert_eq!(chosen(&mut roster, &upstream, NONE), Ok(1));
    }

    /// Places and what is known of them stay; a retired server gets nothing, and its place goes to another when it is free.
    #[test]
    fn servers_come_and_go_and_those_that_stay_keep_what_is_known_of_them() {
        let before = upstream(Balance::RoundRobin, &[1, 1]);
        let mut roster = roster(&before);
        for server in [0, 1, 0] {
            let status = roster.server_mut(server).unwrap();
            (status.connections, status.opened) = (status.connections + 1, status.opened + 1);
        }
        let mut after = upstream(Balance::RoundRobin, &[0, 3, 1]);
        after.servers[0].is_retired = true;
        let now = Instant(2_000_000_000);
        roster.reconfigure(now, &before, &after, true);
        assert_eq!(roster.servers().len(), 3);
        assert_eq!((roster.servers()[0].connections, roster.servers()[1].opened), (2, 1));
        assert_eq!(roster.poll_query(now, &after), Some(address(3)));
        assert_eq!(roster.poll_query(now, &after), None, "the others are known");
        assert!(roster.learn(now, &after, &address(3), [3; 6]));
        let turns = (0..4).map(|_| chosen(&mut roster, &after, NONE).unwrap());
        assert_eq!(turns.collect::<Vec<_>>(), [1, 1, 2, 1]);
        assert_eq!(after.position(&address(1), 80), None);
        assert_eq!(after.position(&address(3), 80), Some(2));
        roster.server_mut(0).unwrap().connections = 0;
        let mut later = after.clone();
        let newcomer =
            Server { address: address(9), next_hop: address(9), weight: 1, ..after.servers[1] };
        later.servers[0] = newcomer;
        roster.reconfigure(now, &after, &later, true);
        assert_eq!((roster.servers()[0].opened, roster.servers()[1].opened), (0, 1));
        assert_eq!(roster.poll_query(now, &later), Some(address(9)));
        assert_eq!(later.position(&address(9), 80), Some(0));
        // A router in between is asked for before anything goes its way.
        let mut routed = later.clone();
        routed.servers.iter_mut().for_each(|server| server.next_hop = address(7));
        roster.reconfigure(now, &later, &routed, true);
        assert_eq!(chosen(&mut roster, &routed, NONE), Err(NoServer::NotYet));
    }

    /// The operator's order and weight hold whatever the checks find, and each change is told once to whoever has to know.
    #[test]
    fn decisions_are_kept_apart_and_told_in_order() {
        let upstream = upstream(Balance::RoundRobin, &[1, 1, 1]);
        let mut roster = roster(&upstream);
        let now = Instant(3_000_000_000);
        assert!(roster.decide(now, 1, Change::Admin(Admin::Drain)));
        set_down(&mut roster, 2);
        assert!(!roster.decide(now, 3, Change::Weight(3)));
        assert_eq!(roster.changed_since(0), [(1, 1), (2, 2)]);
        for _ in 0..4 {
            assert_eq!(chosen(&mut roster, &upstream, NONE), Ok(0));
        }
        roster.decide(now, 1, Change::Weight(5));
        roster.decide(now, 1, Change::Weight(5));
        assert_eq!((roster.changes(), roster.changed_since(1)), (3, vec![(2, 2), (3, 1)]));
        let expected = Decided { is_down: false, admin: Admin::Drain, weight: Some(5) };
        assert_eq!(roster.servers()[1].decided, expected);
        roster.decide(now, 1, Change::Admin(Admin::Ready));
        let turns = (0..6).map(|_| chosen(&mut roster, &upstream, NONE).unwrap());
        assert_eq!(turns.filter(|server| *server == 1).count(), 5);
        roster.decide(now, 0, Change::Weight(0));
        roster.decide(now, 1, Change::Admin(Admin::Maintenance));
        assert_eq!(chosen(&mut roster, &upstream, NONE), Err(NoServer::AllDown));
        roster.forget_decisions();
        assert_eq!(roster.changed_since(0), []);
        // A new owner decides what it has found itself.
        roster.begin(now);
        assert!(roster.servers()[2].decided.is_down);
        assert_eq!(roster.changed_since(0), [(7, 2)]);
    }

    #[test]
    fn next_hops_are_asked_for_and_given_up() {
        let upstream = upstream(Balance::RoundRobin, &[1, 1]);
        let mut roster = Roster::new(&upstream);
        let mut now = Instant(1_000_000_000);
        roster.begin(now);
        assert_eq!(chosen(&mut roster, &upstream, NONE), Err(NoServer::NotYet));
        let mut asked = vec![];
        for _ in 0..20 {
            asked.extend(core::iter::from_fn(|| roster.poll_query(now, &upstream)));
            now = roster.poll_timeout();
            roster.learn(now, &upstream, &address(2), [2; 6]);
        }
        assert_eq!(asked[..2], [address(1), address(2)]);
        assert!(roster.servers()[0].is_unreachable());
        assert_eq!(chosen(&mut roster, &upstream, NONE), Ok(1));
        // What was known is forgotten when nobody answers for it any more.
        let silent_from = now;
        while roster.servers()[1].mac.is_some() {
            while roster.poll_query(now, &upstream).is_some() {}
            now = roster.poll_timeout();
        }
        assert!(now < silent_from + NEIGHBOR_FRESH + Duration::from_secs(5));
        assert_eq!(chosen(&mut roster, &upstream, NONE), Err(NoServer::AllDown));
    }
}
