//! Connections to servers that are out of service are reset, where the service says so.
//!
//! Every leg towards such a server is given up by a tick, which is recorded: so the peer holds it before either side is told. A
//! pass over the table finds them; whatever puts a server out of service begins a new pass, and so do a change of role, which
//! may have ended the former owner's, and a reload.
//!
//! Bounds: [`SWEEP_SLOTS_MAX`] slots looked at and [`SWEEP_FLOWS_MAX`] connections reset in one poll.

use super::{Mode, Stack};
use crate::app::proxy::end::End;
use crate::app::proxy::{Proxy, Side};
use crate::limits::{SWEEP_FLOWS_MAX, SWEEP_SLOTS_MAX};
use crate::recorder::Recorder;
use crate::tcp::state::State;
use crate::time::Instant;

impl Stack {
    /// Looks for connections to servers of a service that are out of service, if it is to reset them.
    pub(super) fn begin_purge(&mut self, service: u8) {
        let resets = self.env.services[service as usize].upstream.resets_when_down;
        if resets && self.rosters[service as usize].has_out_of_service() {
            self.purge.begin(self.flows.capacity());
        }
    }

    /// The same, if a server has just gone out of service: those of before were looked for then.
    pub(super) fn purge_lost(&mut self, service: u8) {
        if self.rosters[service as usize].take_lost() {
            self.begin_purge(service);
        }
    }

    /// Goes on with it. A change of role comes first: what it has not reached is looked at behind it.
    pub(super) fn purge_some<R: Recorder>(&mut self, now: Instant, recorder: &mut R) {
        if self.is_turning() {
            return;
        }
        let mut flows = SWEEP_FLOWS_MAX;
        for _ in 0..SWEEP_SLOTS_MAX {
            let Some(slot) = self.purge.slot().filter(|_| flows > 0) else { return };
            self.purge.advance(self.flows.capacity());
            if self.is_to_be_purged(slot) {
                flows -= 1;
                self.counters.server_down += 1;
                self.abort(now, slot, End::ServerDown, recorder);
            }
        }
    }

    fn is_to_be_purged(&self, slot: u32) -> bool {
        if !self.flows.is_used(slot) || self.is_forgotten(slot) {
            return false;
        }
        let flow = &self.flows[slot];
        // What it does not count any more the server has forgotten as well.
        let Some(&Proxy { side: Side::Server, server, is_counted: true, .. }) = flow.app.leg()
        else {
            return false;
        };
        let resets = self.env.services[flow.group as usize].upstream.resets_when_down;
        let status = self.rosters[flow.group as usize].servers().get(server as usize);
        resets
            && self.groups[flow.group as usize].mode == Mode::Serving
            && status.is_some_and(|status| status.decided.is_out_of_service())
            && flow.contract.state != State::Closed
    }

    /// When [`Stack::purge_some`] is due.
    pub(super) fn purge_timeout(&self) -> Option<Instant> {
        (self.purge.is_under_way() && !self.is_turning()).then_some(Instant::ZERO)
    }
}
