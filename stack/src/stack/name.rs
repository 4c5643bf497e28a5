//! Clients that must say who is behind them before a server is looked for: the PROXY protocol, accepted.
//!
//! What a client says stays in the backlog of its leg until a server has answered. A header is read there, by whoever
//! serves the flow and by whoever follows it, and taken off when the rest goes to the server: so it is no state of its own.
//! Who is named counts as the client: for the choice of a server, for whoever returns to one, and in what servers are told.
//!
//! Bounds: [`crate::app::proxy::header::heard::ACCEPTED_BYTES_MAX`]; a client that says nothing has its idle time-out.

use super::Stack;
use crate::app::proxy::end::End;
use crate::app::proxy::header::heard::{Heard, hear_said};
use crate::fact::Tick;
use crate::key::FlowKey;
use crate::recorder::Recorder;
use crate::time::Instant;

impl Stack {
    /// What the client of the leg in `slot` has said of itself; `None` if it need not.
    fn hear_name(&self, slot: u32) -> Option<Heard> {
        let flow = &self.flows[slot];
        let upstream = &self.env.services[flow.group as usize].upstream;
        let must_say = upstream.accepts_header;
        must_say.then(|| hear_said(&flow.backlog, &self.env.memory.chunks))
    }

    /// Both ends of a client's connection, or those that it names; `None` if it must name them and has not, or that is
    /// past.
    pub(super) fn named_client(&self, slot: u32) -> Option<FlowKey> {
        let own = self.flows[slot].key;
        match self.hear_name(slot) {
            None => Some(own),
            Some(Heard::Whole { client, .. }) => Some(client.unwrap_or(own)),
            Some(Heard::More | Heard::Bad) => None,
        }
    }

    /// Whether the client of the leg in `slot` has yet to say who is behind it. Who says something else is reset.
    pub(super) fn is_nameless<R: Recorder>(
        &mut self,
        now: Instant,
        slot: u32,
        recorder: &mut R,
    ) -> bool {
        let has_ended = self.flows[slot].contract.fin_received;
        match self.hear_name(slot) {
            None | Some(Heard::Whole { .. }) => false,
            Some(Heard::More) if !has_ended => true,
            Some(Heard::More | Heard::Bad) => {
                self.counters.bad_header += 1;
                self.note_end(slot, End::NoHeader);
                self.flows[slot].tick(now, slot, &mut self.env, recorder, Tick::Abort);
                self.settle(now, slot);
                true
            }
        }
    }
}
