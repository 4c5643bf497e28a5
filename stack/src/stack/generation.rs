//! Generations of a service: groups with the same addresses, of which one takes the newcomers.
//!
//! The newest generation has the addresses: it announces them, answers for them and opens flows, or answers RST. Those left
//! behind serve what they have, from this node's own hardware address: one that belongs to the service is where the newest
//! is. A generation that is closed before there is a next one hands newcomers back, for they may belong to that.
//!
//! Bounds: none, a look at the group.

use super::speak::Announcing;
use super::{Mode, Stack};
use crate::key::FlowKey;
use crate::service::{ArpPolicy, Service};
use crate::time::Instant;
use crate::wire::Address;

impl Stack {
    /// Of two generations of one service `group` is the newest from now on.
    pub fn set_newest(&mut self, now: Instant, group: u8, other: u8) {
        self.groups[other as usize].announcing = None;
        if self.groups[group as usize].newest != group {
            self.groups[group as usize].announcing =
                self.announces(group).then(|| Announcing::from(now));
        }
        for generation in [group, other] {
            let state = &mut self.groups[generation as usize];
            (state.newest, state.is_closed, state.asked) = (group, false, None);
        }
        self.note_speaking(group);
        self.schedule_announcement();
    }

    /// Whether this core says where the addresses of the group are: one voice is enough.
    pub(super) fn announces(&self, group: u8) -> bool {
        let state = &self.groups[group as usize];
        let is_announced = self.env.services[group as usize].arp != ArpPolicy::None;
        state.mode == Mode::Serving && state.newest == group && self.place.core == 0 && is_announced
    }

    /// Whether newcomers wait for a next generation.
    pub fn set_closed(&mut self, group: u8, is_closed: bool) {
        self.groups[group as usize].is_closed = is_closed;
    }

    /// Whether newcomers wait for a next generation.
    pub fn is_closed(&self, group: u8) -> bool {
        self.groups[group as usize].is_closed
    }

    /// Whether flows do not begin in this group any more: newcomers are another one's.
    pub fn is_left(&self, group: u8) -> bool {
        self.groups[group as usize].newest != group
    }

    /// Where whoever is in no flow that is known here may have one after all.
    pub fn set_asked(&mut self, group: u8, asked: Option<u8>) {
        self.groups[group as usize].asked = asked;
    }

    /// The generation that takes the newcomers of the service of `group`.
    pub fn newest_of(&self, group: u8) -> u8 {
        self.groups[group as usize].newest
    }

    /// Where whoever has no flow with this key belongs.
    pub(super) fn newcomers_of(&self, key: &FlowKey) -> Option<usize> {
        let takes = |service: &Service| service.takes(&key.local, key.local_port);
        let index = self.env.services.iter().position(takes)?;
        Some(self.groups[index].newest as usize)
    }

    /// The newest generation of the service with which this address moves.
    pub(super) fn service_of(&self, address: &Address) -> Option<usize> {
        let index = self.env.services.iter().position(|service| service.holds(address))?;
        Some(self.groups[index].newest as usize)
    }
}
