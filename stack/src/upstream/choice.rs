//! Which server is next.
//!
//! ```text
//! usable: in use, weight above 0, next hop known      free: usable, and below its limit
//! any usable one that is no backup? -> those, else the backups -> of these the free ones -> the algorithm
//! ```
//!
//! Bounds: a choice looks at each server a few times at most.

use super::{Balance, NoServer, Roster, ServerStatus, Upstream};
use crate::limits::DEAL_STEPS_MAX;
use crate::time::{Duration, Instant};
use crate::wire::Mac;

/// For whom a server is chosen.
pub struct Wish<F: Fn(u16) -> u64> {
    /// The one that was asked in vain; it is taken only if there is no other.
    pub last: u16,
    /// A hash of the client's address.
    pub client: u64,
    /// How well a server suits the client's address.
    pub suits: F,
    /// Two numbers out of a hat.
    pub drawn: [u32; 2],
    /// Where the client was led last, if that counts.
    pub stuck: Option<u16>,
}

/// What a weight of 1 counts: a server that has just come counts less, down to a part of this.
const WHOLE: u32 = 64;

impl Roster {
    /// The server for the next connection, and the Ethernet address of its next hop.
    pub fn choose<F: Fn(u16) -> u64>(
        &mut self,
        now: Instant,
        upstream: &Upstream,
        wish: &Wish<F>,
    ) -> Result<(u16, Mac), NoServer> {
        let stuck = wish.stuck.filter(|&server| server != wish.last);
        if let Some(server) = stuck.filter(|&server| self.may_return(upstream, server)) {
            let mac = self.servers[server as usize].mac.expect("it can be reached");
            return Ok((server, mac));
        }
        let all = 0..self.servers.len() as u16;
        let is_backup = |index: u16| upstream.servers[index as usize].is_backup;
        let has_first = all.clone().any(|n| self.is_usable(upstream, n) && !is_backup(n));
        if !has_first && self.is_any_coming(upstream, |index| !is_backup(index)) {
            return Err(NoServer::NotYet);
        }
        let has_usable =
            all.clone().any(|n| self.is_usable(upstream, n) && is_backup(n) != has_first);
        if !has_usable {
            let is_coming = self.is_any_coming(upstream, is_backup);
            return Err(if is_coming { NoServer::NotYet } else { NoServer::AllDown });
        }
        let is_free = |roster: &Roster, index: u16| {
            roster.is_usable(upstream, index)
                && is_backup(index) != has_first
                && roster.has_room(upstream, index)
        };
        let others = all.filter(|&index| index != wish.last && is_free(self, index)).count();
        let candidate = |roster: &Roster, index: u16| {
            is_free(roster, index) && (index != wish.last || others == 0)
        };
        let chosen = match upstream.balance {
            Balance::RoundRobin => self.take_turn(now, upstream, candidate),
            Balance::LeastConnections => self
                .indices()
                .filter(|&index| candidate(self, index))
                .reduce(|a, b| if self.is_freer(now, upstream, b, a) { b } else { a }),
            Balance::Source => self.best(wish, candidate),
            Balance::Maglev => self
                .asked_in_order(wish.client)
                .find(|&index| candidate(self, index))
                .or_else(|| self.best(wish, candidate)),
            Balance::RandomTwo => {
                let nth = |n: u32| {
                    let count = self.indices().filter(|&index| candidate(self, index)).count();
                    let mut all = self.indices().filter(|&index| candidate(self, index));
                    all.nth(n as usize % count.max(1))
                };
                let (a, b) = (nth(wish.drawn[0]), nth(wish.drawn[1]));
                a.zip(b).map(|(a, b)| if self.is_freer(now, upstream, b, a) { b } else { a })
            }
        };
        let server = chosen.ok_or(NoServer::Full)?;
        let mac = self.servers[server as usize].mac.expect("a usable server has an address");
        Ok((server, mac))
    }

    fn indices(&self) -> impl Iterator<Item = u16> + use<> {
        0..self.servers.len() as u16
    }

    fn is_usable(&self, upstream: &Upstream, index: u16) -> bool {
        let status = &self.servers[index as usize];
        status.mac.is_some() && self.may_serve(upstream, index)
    }

    fn may_serve(&self, upstream: &Upstream, index: u16) -> bool {
        let is_retired = upstream.servers[index as usize].is_retired;
        let is_in_use = self.servers[index as usize].decided.is_in_use();
        is_in_use && !is_retired && self.weight(upstream, index) > 0
    }

    /// Whether a client may go on to the server that it had.
    fn may_return(&self, upstream: &Upstream, index: u16) -> bool {
        let known = self.servers.get(index as usize).zip(upstream.servers.get(index as usize));
        let is_there = known.is_some_and(|(status, server)| {
            status.mac.is_some() && !status.decided.is_out_of_service() && !server.is_retired
        });
        is_there && self.has_room(upstream, index)
    }

    /// Whether the next hop of a server that might be used is still being asked for.
    fn is_any_coming(&self, upstream: &Upstream, is_wanted: impl Fn(u16) -> bool) -> bool {
        self.indices().any(|index| {
            let status = &self.servers[index as usize];
            let is_asked = status.mac.is_none() && !status.is_unreachable();
            is_asked && is_wanted(index) && self.may_serve(upstream, index)
        })
    }

    /// Whether a server takes one more connection.
    fn has_room(&self, upstream: &Upstream, index: u16) -> bool {
        let within = |connections: u32, max: u32| max == 0 || connections < max;
        within(self.connections, upstream.connections_max)
            && within(
                self.servers[index as usize].connections,
                upstream.servers[index as usize].connections_max,
            )
    }

    /// The server that suits a client best; the others keep theirs when one comes or goes.
    fn best<F: Fn(u16) -> u64>(
        &self,
        wish: &Wish<F>,
        candidate: impl Fn(&Roster, u16) -> bool,
    ) -> Option<u16> {
        self.indices().filter(|&n| candidate(self, n)).max_by_key(|&n| (wish.suits)(n))
    }

    fn asked_in_order(&self, client: u64) -> impl Iterator<Item = u16> + '_ {
        self.maglev.iter().flat_map(move |table| table.servers(client))
    }

    /// Goes on dealing the places of the table out, if a weight has changed.
    pub fn deal_some(&mut self, upstream: &Upstream) {
        let Some(mut table) = self.maglev.take() else { return };
        if core::mem::take(&mut self.is_stale) {
            table.begin(self.indices().map(|index| {
                let server = &upstream.servers[index as usize];
                let is_out = server.is_backup || server.is_retired;
                let weight = if is_out { 0 } else { self.weight(upstream, index) };
                (server.address, server.port, weight)
            }));
        }
        table.deal(DEAL_STEPS_MAX);
        self.maglev = Some(table);
    }

    /// Whether a table is being dealt: until it is whole clients are led by the one before.
    pub fn is_dealing(&self) -> bool {
        self.maglev.as_ref().is_some_and(|table| self.is_stale || table.is_dealing())
    }

    /// What a server counts now, in parts of [`WHOLE`] for each 1 of its weight.
    fn share(&self, now: Instant, upstream: &Upstream, index: u16) -> u32 {
        let whole = u32::from(self.weight(upstream, index)) * WHOLE;
        match self.servers[index as usize].warmth(now, upstream.slow_start) {
            Some(permille) => (whole * permille / 1000).max(1),
            None => whole,
        }
    }

    /// Smooth weighted round robin: whoever has waited longest for its share.
    fn take_turn(
        &mut self,
        now: Instant,
        upstream: &Upstream,
        candidate: impl Fn(&Roster, u16) -> bool,
    ) -> Option<u16> {
        let mut total = 0;
        let mut best: Option<u16> = None;
        for index in self.indices() {
            if !candidate(self, index) {
                continue;
            }
            let share = self.share(now, upstream, index) as i32;
            total += share;
            self.servers[index as usize].credit += share;
            let credit = |index: u16| self.servers[index as usize].credit;
            if best.is_none_or(|best| credit(index) > credit(best)) {
                best = Some(index);
            }
        }
        self.servers[best? as usize].credit -= total;
        best
    }

    /// Whether `a` has fewer connections for its share than `b`.
    fn is_freer(&self, now: Instant, upstream: &Upstream, a: u16, b: u16) -> bool {
        let load = |index: u16| u64::from(self.servers[index as usize].connections) + 1;
        let share = |index: u16| u64::from(self.share(now, upstream, index));
        load(a) * share(b) < load(b) * share(a)
    }
}

impl ServerStatus {
    /// How far a server that has come into use is from its whole share, in thousandths; `None` once it has that.
    fn warmth(&self, now: Instant, slow_start: Duration) -> Option<u32> {
        let age = now.since(self.used_from);
        let is_new = self.used_from > Instant::ZERO && age < slow_start;
        is_new.then(|| (age.0 / (slow_start.0 / 1000).max(1)).min(999) as u32)
    }
}
