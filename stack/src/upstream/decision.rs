//! What is decided about servers: the operator's orders, and what the checks have found; what a roster says and hears of it.
//!
//! Decisions are the owner's alone and are told to the peer in the log; so whoever takes over knows which servers are
//! down, and carries the operator's orders on. A node's own checks give *verdicts*, whatever it is to the service; they become
//! decisions when it owns it ([`super::Roster::begin`]).
//!
//! ```text
//! a server in a record:  family (1) address (4 or 16) port (2) | revision (4) | is down, order, has a weight (1) | weight (2)
//! ```
//!
//! A server is named by its address and port: nodes whose configurations differ for a while mean the same one. Its *revision*
//! is how often that was changed. An order goes to each core of a node; of two cores that differ, because one of them
//! was stuck when its node lost the service, the higher revision is right. Of a server that is not in a node's file that node
//! keeps the word until it is ([`super::hearsay`]).

use super::hearsay::Heard;
use super::stick::Sticks;
use super::{Roster, Server, ServerStatus, Upstream};
use crate::codec::{ImportError, Put, Reader};
use crate::time::Instant;
use crate::wire::Address;
use core::cmp::Ordering;

/// Bytes of one server in a record at most.
pub const DECISION_BYTES_MAX: usize = 26;

/// What the operator wants of a server.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
#[repr(u8)]
pub enum Admin {
    /// Connections as usual.
    #[default]
    Ready = 0,
    /// No new connections, but for clients that stick to it; those that it has go on.
    Drain = 1,
    /// No new connections at all; those that it has go on.
    Maintenance = 2,
}

/// What is in force for a server. Every node of a service holds the same. (Its order tells what holds where two of one
/// revision differ; it means nothing else.)
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Decided {
    /// The checks say so: nothing new is sent there.
    pub is_down: bool,
    /// What the operator wants.
    pub admin: Admin,
    /// The operator's weight, in place of the configured one.
    pub weight: Option<u16>,
}

/// What changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// The operator's order.
    Admin(Admin),
    /// The operator's weight.
    Weight(u16),
}

impl Decided {
    /// What is in force after a change.
    pub fn after(self, change: Change) -> Decided {
        match change {
            Change::Admin(admin) => Decided { admin, ..self },
            Change::Weight(weight) => Decided { weight: Some(weight), ..self },
        }
    }

    /// Whether it gets new connections of clients that never had one to it.
    pub fn is_in_use(&self) -> bool {
        !self.is_down && self.admin == Admin::Ready
    }

    /// Whether nothing new is sent there, whoever wants it.
    pub fn is_out_of_service(&self) -> bool {
        self.is_down || self.admin == Admin::Maintenance
    }
}

/// What is in force for a server, as nodes and cores tell each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Word {
    /// Where the server is.
    pub address: Address,
    /// Its port.
    pub port: u16,
    /// How often it was decided about.
    pub revision: u32,
    /// What is in force since then.
    pub decided: Decided,
}

impl Word {
    /// Whether it is about the server at this address and port.
    pub fn is_about(&self, address: &Address, port: u16) -> bool {
        self.address == *address && self.port == port
    }

    /// Of two words about a server the one that is greater by this counts.
    pub fn told(&self) -> (u32, Decided) {
        (self.revision, self.decided)
    }

    /// Writes it behind `out`.
    pub fn encode(&self, out: &mut impl Put) {
        let Word { address, port, revision, decided } = *self;
        let Decided { is_down, admin, weight } = decided;
        match address.as_v4() {
            Some(v4) => {
                out.put_u8(4);
                out.put_bytes(&v4);
            }
            None => {
                out.put_u8(6);
                out.put_bytes(&address.0);
            }
        }
        out.put_u16(port);
        out.put_u32(revision);
        out.put_u8(is_down as u8 | (admin as u8) << 1 | (weight.is_some() as u8) << 3);
        out.put_u16(weight.unwrap_or(0));
    }

    /// Reads what [`Word::encode`] wrote.
    pub fn decode(reader: &mut Reader) -> Result<Word, ImportError> {
        let address = match reader.u8()? {
            4 => Address::v4(reader.array()?),
            6 => Address(reader.array()?),
            _ => return Err(ImportError::Invalid),
        };
        let (port, revision) = (reader.u16()?, reader.u32()?);
        let (flags, weight) = (reader.u8()?, reader.u16()?);
        let admin = match flags >> 1 & 3 {
            0 => Admin::Ready,
            1 => Admin::Drain,
            2 => Admin::Maintenance,
            _ => return Err(ImportError::Invalid),
        };
        if flags > 0b1111 || weight > super::WEIGHT_MAX {
            return Err(ImportError::Invalid);
        }
        let weight = (flags & 8 != 0).then_some(weight);
        let decided = Decided { is_down: flags & 1 != 0, admin, weight };
        Ok(Word { address, port, revision, decided })
    }
}

impl ServerStatus {
    /// What others are told of it.
    pub(super) fn word(&self, server: &Server) -> Word {
        let Server { address, port, .. } = *server;
        Word { address, port, revision: self.revision, decided: self.decided }
    }
}

impl Roster {
    /// From now on this node serves: the addresses of all next hops are asked for, and what its own checks have found
    /// is decided. The other cores are to hear what holds here: an order may have reached only some of the cores from which
    /// those of this node know it.
    pub fn begin(&mut self, now: Instant) {
        for server in &mut self.servers {
            (server.asks, server.ask_at) = (0, now);
        }
        self.ask_at = if self.servers.is_empty() { Instant::MAX } else { now };
        self.go_on(now);
    }

    /// This node serves again what it was about to hand over; an order that came meanwhile may have reached only some cores.
    pub fn go_on(&mut self, now: Instant) {
        self.adopt_verdicts(now);
        for server in &mut self.servers {
            server.is_untold = server.change > 0;
        }
        self.hearsay.iter_mut().for_each(|heard| heard.is_untold = true);
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
                self.change(now, index, Decided { is_down: !is_up, ..decided });
            }
        }
    }

    /// Changes what is in force for a server; `false` if there is no such server.
    pub fn decide(&mut self, now: Instant, server: u16, change: Change) -> bool {
        let Some(status) = self.servers.get(server as usize) else { return false };
        self.change(now, server as usize, status.decided.after(change));
        true
    }

    /// What a core of the owner, or another one of this node, holds about a server. It counts if it is newer than what is known
    /// here; answers which of them is.
    pub fn hear(&mut self, now: Instant, upstream: &Upstream, word: Word) -> Ordering {
        if let Some(server) = upstream.place_of(&word.address, word.port) {
            return self.follow(now, server, word.told());
        }
        let order = self.hearsay.compare(&word);
        if order == Ordering::Greater {
            self.changes += 1;
            self.hearsay.keep(Heard { word, change: self.changes, is_untold: false });
        }
        order
    }

    /// The same of a server that has a place.
    pub(super) fn follow(&mut self, now: Instant, server: u16, told: (u32, Decided)) -> Ordering {
        let status = &self.servers[server as usize];
        let order = told.cmp(&(status.revision, status.decided));
        if order == Ordering::Greater {
            self.put(now, server as usize, told);
        }
        order
    }

    /// The next revision, if it is one.
    fn change(&mut self, now: Instant, server: usize, decided: Decided) {
        let status = &self.servers[server];
        if status.decided != decided {
            self.put(now, server, (status.revision.saturating_add(1), decided));
        }
    }

    fn put(&mut self, now: Instant, server: usize, (revision, decided): (u32, Decided)) {
        let status = &mut self.servers[server];
        self.changes += 1;
        // Who joins is told of it even if nothing is in force: else an older order would count as newer there.
        (status.revision, status.change) = (revision, self.changes);
        if status.decided == decided {
            return;
        }
        self.is_stale |= status.decided.weight != decided.weight;
        if decided.is_in_use() && !status.decided.is_in_use() {
            status.used_from = now;
        }
        self.has_lost |= decided.is_out_of_service() && !status.decided.is_out_of_service();
        (status.decided, status.decided_at) = (decided, now);
        self.queue.has_news = true;
    }

    /// What is decided about servers that have a place by now is theirs.
    pub(super) fn place_hearsay(&mut self, now: Instant, upstream: &Upstream) {
        for (server, index) in upstream.servers.iter().zip(0..) {
            if let Some(Heard { word, is_untold, .. }) =
                self.hearsay.take(&server.address, server.port)
            {
                self.follow(now, index, word.told());
                self.servers[usize::from(index)].is_untold |= is_untold;
            }
        }
    }

    /// The other cores of this node are to hear what holds here about a server, about which one of them has said this.
    pub fn tell(&mut self, upstream: &Upstream, word: &Word) {
        if let Some(server) = upstream.place_of(&word.address, word.port) {
            self.servers[usize::from(server)].is_untold = true;
        }
        let is_it = |heard: &&mut Heard| heard.word.is_about(&word.address, word.port);
        self.hearsay.iter_mut().filter(is_it).for_each(|heard| heard.is_untold = true);
    }

    /// What the other cores have yet to hear about a server; they do now.
    pub fn take_untold(&mut self, upstream: &Upstream) -> Option<Word> {
        if let Some(server) = self.servers.iter().position(|server| server.is_untold) {
            self.servers[server].is_untold = false;
            return Some(self.servers[server].word(&upstream.servers[server]));
        }
        let heard = self.hearsay.iter_mut().find(|heard| heard.is_untold)?;
        heard.is_untold = false;
        Some(heard.word)
    }

    /// Words about servers without a place that were forgotten for want of room, since this was last asked.
    pub fn take_forgotten(&mut self) -> u64 {
        self.hearsay.take_forgotten()
    }

    /// The first change since there were `told` of them that was not overtaken by a later one, and what it was.
    pub fn next_change(&self, upstream: &Upstream, told: u64) -> Option<(u64, Word)> {
        let servers = self.servers.iter().zip(&upstream.servers);
        let placed = servers.map(|(status, server)| (status.change, status.word(server)));
        let others = self.hearsay.iter().map(|heard| (heard.change, heard.word));
        let since = placed.chain(others).filter(|(change, _)| *change > told);
        since.min_by_key(|(change, _)| *change)
    }

    /// How often something was decided.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Whether a server has gone out of service since this was last asked.
    pub fn take_lost(&mut self) -> bool {
        core::mem::take(&mut self.has_lost)
    }

    /// Whether any server is out of service.
    pub fn has_out_of_service(&self) -> bool {
        self.servers.iter().any(|server| server.decided.is_out_of_service())
    }

    /// Forgets what was decided: somebody else will say what is.
    pub fn forget_decisions(&mut self) {
        for status in &mut self.servers {
            (status.decided, status.decided_at, status.change) = Default::default();
            (status.revision, status.is_untold) = Default::default();
            status.used_from = Instant::ZERO;
        }
        self.hearsay.clear();
        self.is_stale = true;
        self.sticks.iter_mut().for_each(Sticks::clear);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn every_decision_comes_back_and_broken_ones_are_errors() {
        let admins = [Admin::Ready, Admin::Drain, Admin::Maintenance];
        for address in [Address::v4([10, 2, 0, 1]), Address([0xfd; 16])] {
            for (admin, is_down, weight) in
                admins.iter().flat_map(|&a| [(a, false, None), (a, true, Some(256))])
            {
                let decided = Decided { is_down, admin, weight };
                let word = Word { address, port: 8080, revision: 70_000, decided };
                let mut bytes = Vec::new();
                word.encode(&mut bytes);
                assert!(bytes.len() <= DECISION_BYTES_MAX);
                assert_eq!(Word::decode(&mut Reader::new(&bytes)), Ok(word));
                for cut in 0..bytes.len() {
                    assert!(Word::decode(&mut Reader::new(&bytes[..cut])).is_err());
                }
                let flags = bytes.len() - 3;
                for wrong in [0b110, 0b1_0000] {
                    bytes[flags] = wrong;
                    assert!(Word::decode(&mut Reader::new(&bytes)).is_err());
                }
            }
        }
    }
}
