//! What is decided about the servers of a proxied service, on one core: by whom, and who hears of it.
//!
//! ```text
//! verdicts, orders -> the owner's core decides -> `Servers` in its logs -> cores of the peer that share flows with it
//!                                   '---- when it begins to serve ----> the other cores of its node
//! ```
//!
//! Each core of a node is given every verdict and order by itself, and may be stuck when its node loses the service: then
//! the peer's cores know what those knew that they followed. So whoever begins to serve tells the others what holds, and is
//! told by those that know better.
//!
//! Bounds: one server for each word between cores.

use super::{Mode, Stack};
use crate::codec::{ImportError, Reader};
use crate::time::Instant;
use crate::upstream::decision::{Change, DECISION_BYTES_MAX, Word};
use alloc::vec::Vec;
use core::cmp::Ordering;

impl Stack {
    /// This node's own checks have found that servers are up (`true`) or down. It is decided if this node serves, else
    /// kept until it does.
    pub fn set_verdicts(&mut self, now: Instant, service: u8, verdicts: &[(u16, bool)]) {
        for &(server, is_up) in verdicts {
            self.rosters[service as usize].set_verdict(server, is_up);
        }
        if self.groups[service as usize].mode == Mode::Serving {
            self.rosters[service as usize].adopt_verdicts(now);
            self.purge_lost(service);
        }
    }

    /// Changes what is in force for a server; only the owner may. `false` if it is not served here, or there is no such
    /// server.
    pub fn decide(&mut self, now: Instant, service: u8, server: u16, change: Change) -> bool {
        let is_decided = self.groups[service as usize].mode == Mode::Serving
            && self.rosters[service as usize].decide(now, server, change);
        self.purge_lost(service);
        is_decided
    }

    /// Writes what is in force for servers behind `out`, as far as `bytes_max` go: those about which something was
    /// decided since there were `told` changes. Answers what is told then.
    pub fn export_decisions(
        &self,
        service: u8,
        told: u64,
        bytes_max: usize,
        out: &mut Vec<u8>,
    ) -> u64 {
        let roster = &self.rosters[service as usize];
        let upstream = &self.env.services[service as usize].upstream;
        let mut last = told;
        while let Some((change, word)) = roster.next_change(upstream, last) {
            if out.len() + DECISION_BYTES_MAX > bytes_max {
                return last;
            }
            word.encode(out);
            last = change;
        }
        roster.changes()
    }

    /// As peer: takes what the owner has decided about servers, also about those that are not in this node's file: they may come
    /// to be, and nobody says it again.
    pub fn follow_decisions(
        &mut self,
        now: Instant,
        service: u8,
        bytes: &[u8],
    ) -> Result<(), ImportError> {
        let mut reader = Reader::new(bytes);
        while reader.remaining() > 0 {
            let word = Word::decode(&mut reader)?;
            self.hear_word(now, service, word);
        }
        Ok(())
    }

    /// Answers whether the word is newer than what is known here about its server.
    fn hear_word(&mut self, now: Instant, service: u8, word: Word) -> Ordering {
        let roster = &mut self.rosters[service as usize];
        let order = roster.hear(now, &self.env.services[service as usize].upstream, word);
        self.counters.decisions_forgotten += roster.take_forgotten();
        order
    }

    /// The other cores of this node are to hear what holds about the servers of a service, which begins to be served here.
    pub(super) fn tell_cores(&mut self, service: u8) {
        if self.place.cores > 1 {
            self.untold |= 1 << service;
        }
    }

    /// Whether there is something that the other cores of this node should hear.
    #[inline]
    pub fn has_untold(&self) -> bool {
        self.untold != 0
    }

    /// The next thing that they should hear, written behind `out`; answers of which service it is.
    pub fn poll_untold(&mut self, out: &mut Vec<u8>) -> Option<u8> {
        while self.untold != 0 {
            let service = self.untold.trailing_zeros() as u8;
            let roster = &mut self.rosters[service as usize];
            let is_serving = self.groups[service as usize].mode == Mode::Serving;
            let upstream = &self.env.services[service as usize].upstream;
            if let Some(word) = roster.take_untold(upstream).filter(|_| is_serving) {
                word.encode(out);
                return Some(service);
            }
            self.untold &= !(1 << service);
        }
        None
    }

    /// What another core of this node holds about a server. If this one knows better, that one will hear it.
    pub fn hear_decided(&mut self, now: Instant, service: u8, bytes: &[u8]) {
        let word = Word::decode(&mut Reader::new(bytes));
        let word = word.expect("cores of one node understand each other");
        let order = self.hear_word(now, service, word);
        if self.groups[service as usize].mode != Mode::Serving {
            return;
        }
        if order == Ordering::Less {
            let upstream = &self.env.services[service as usize].upstream;
            self.rosters[service as usize].tell(upstream, &word);
            self.tell_cores(service);
        }
        self.purge_lost(service);
    }
}
