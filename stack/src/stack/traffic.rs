//! Counts what passes through proxied services ([`crate::upstream::traffic`]).
//!
//! `Path:` once for each segment of a proxied connection that brings payload. What a client has said before a server took it
//! counts for that server once it has.

use super::Stack;
use crate::app::proxy::{Proxy, Side};

impl Stack {
    /// The leg in `slot` has taken so many bytes from its side; `has_joined` if its server has just answered.
    pub(super) fn note_said(&mut self, slot: u32, bytes: u64, has_joined: bool) {
        let flow = &self.flows[slot];
        let Some(&Proxy { side, server, other, .. }) = flow.app.leg() else { return };
        let is_joined = flow.app.leg().is_some_and(|leg| !leg.is_waiting());
        let before = has_joined && is_joined && other != crate::pool::NONE;
        let before = if before { self.flows[other].contract.received } else { 0 };
        let roster = &mut self.rosters[flow.group as usize];
        match side {
            Side::Client => roster.tally.said.by_clients += bytes,
            Side::Server => roster.tally.said.by_servers += bytes,
        }
        let Some(status) = roster.server_mut(server).filter(|_| is_joined) else { return };
        match side {
            Side::Client => status.said.by_clients += bytes,
            Side::Server => {
                status.said.by_servers += bytes;
                status.said.by_clients += before;
            }
        }
    }

    /// The flow in `slot` is open, or has ended before it was.
    pub(super) fn note_opened(&mut self, slot: u32) {
        let flow = &self.flows[slot];
        let is_client = flow.app.leg().is_some_and(|leg| leg.side == Side::Client);
        if is_client && flow.contract.state.is_synchronized() {
            self.rosters[flow.group as usize].tally.clients += 1;
        }
    }
}
