//! Connections as an operator looks at them, and the end of one by his word.
//!
//! A core may hold a million connections and must not stop for whoever looks on: it looks at so many slots a call and says
//! where to go on. What comes and goes meanwhile may be seen or not; nothing is seen twice under one name.
//!
//! Bounds: [`LIST_SLOTS_MAX`] slots a call.

use super::{Mode, Stack};
use crate::app::proxy::end::End;
use crate::flow::{Flow, FlowId};
use crate::key::FlowKey;
use crate::limits::LIST_SLOTS_MAX;
use crate::recorder::Recorder;
use crate::tcp::state::State;
use crate::time::{Duration, Instant};
use crate::wire::Address;
use alloc::vec::Vec;

/// Which connections are looked for: those for which everything agrees that is named.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Filter {
    /// The groups of the service, one bit for each.
    pub groups: Option<u64>,
    /// The client's address.
    pub client: Option<Address>,
    /// The server's address, of a connection that is passed on.
    pub server: Option<Address>,
    /// The state of the client's side.
    pub state: Option<State>,
    /// Whether the peer holds it.
    pub is_copied: Option<bool>,
}

/// A connection, both legs of it if it is passed on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Listed {
    /// Its name.
    pub id: FlowId,
    /// Its group.
    pub group: u8,
    /// Its ends on the client's side; of a leg without its other, those of that leg.
    pub key: FlowKey,
    /// The state of that side.
    pub state: State,
    /// The ends on the server's side, and its state; `None` if it is not passed on, or that side is over.
    pub server: Option<(FlowKey, State)>,
    /// Whether the peer holds it; `None` of a copy.
    pub is_copied: Option<bool>,
    /// Time since the client was heard.
    pub silence: Duration,
    /// Bytes of payload taken from the client.
    pub received: u64,
    /// Bytes of payload that the client has acknowledged, as far as recorded.
    pub acknowledged: u64,
}

/// Whether the operator's word has ended a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// It has, or will when the peer holds the fact.
    Yes,
    /// No connection has this name here.
    NoFlow,
    /// Another node serves it.
    NotServed,
}

impl Stack {
    /// Puts connections that `filter` lets through into `found`, as far as that has room, from slot `from` on. Answers
    /// where to go on; `None` if that was all.
    pub fn list(
        &self,
        now: Instant,
        from: u32,
        filter: &Filter,
        found: &mut Vec<Listed>,
    ) -> Option<u32> {
        let end = (from.saturating_add(LIST_SLOTS_MAX)).min(self.slots_max() as u32);
        for slot in from..end {
            if found.len() == found.capacity() {
                return Some(slot);
            }
            let listed = self.flow(slot).and_then(|flow| self.listed(now, flow));
            found.extend(listed.filter(|listed| filter.takes(listed)));
        }
        (end < self.slots_max() as u32).then_some(end)
    }

    /// A connection; `None` of the server's leg of one that is listed by the client's.
    fn listed(&self, now: Instant, flow: &Flow) -> Option<Listed> {
        let other = flow.app.other().and_then(|other| self.flow(other));
        if flow.id.is_server_leg() && other.is_some() {
            return None;
        }
        let group = &self.groups[flow.group as usize];
        Some(Listed {
            id: flow.id,
            group: flow.group,
            key: flow.key,
            state: flow.contract.state,
            server: other.map(|other| (other.key, other.contract.state)),
            is_copied: (group.mode != Mode::Silent).then(|| group.counts_as_copied(flow)),
            silence: flow.local.heard.silence(now),
            received: flow.contract.received,
            acknowledged: flow.contract.una_offset,
        })
    }

    /// Ends the connection with this name by RST on every side, because an operator wants it.
    pub fn end_flow<R: Recorder>(&mut self, now: Instant, id: FlowId, recorder: &mut R) -> Ended {
        let legs = [id.client_leg(), id.client_leg().other_leg()];
        let mut named = (0..self.groups.len() as u8)
            .flat_map(|group| legs.map(|id| (group, id)))
            .filter_map(|(group, id)| self.seek_named(now, group, id));
        let Some(slot) = named.next() else { return Ended::NoFlow };
        if self.groups[self.flows[slot].group as usize].mode != Mode::Serving {
            return Ended::NotServed;
        }
        self.abort(now, slot, End::Ordered, recorder);
        self.counters.ended += 1;
        Ended::Yes
    }
}

impl Filter {
    fn takes(&self, listed: &Listed) -> bool {
        let Filter { groups, client, server, state, is_copied } = *self;
        let at_server = listed.server.map(|(key, _)| key.remote);
        groups.is_none_or(|groups| groups >> listed.group & 1 == 1)
            && client.is_none_or(|client| client == listed.key.remote)
            && server.is_none_or(|server| Some(server) == at_server)
            && state.is_none_or(|state| state == listed.state)
            && is_copied.is_none_or(|is_copied| Some(is_copied) == listed.is_copied)
    }
}
