//! Proxied connections that have ended: counted, and told to whoever keeps a log of them.
//!
//! One is over when its client's side is (nothing of it is left but TIME-WAIT), for the node that serves it. Those that are told
//! wait in memory that whoever fetches them has brought; where that is full, or nobody has brought any, they are lost and counted.
//!
//! Bounds: the capacity of that memory. Units: bytes, milliseconds.

use super::{Mode, Stack};
use crate::app::proxy::Side;
use crate::app::proxy::end::End;
use crate::key::FlowKey;
use crate::time::Instant;
use alloc::vec::Vec;

/// One connection that has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ending {
    /// Whose it was.
    pub service: u8,
    /// Both ends of the client's side.
    pub client: FlowKey,
    /// Position of its server among those of the service; [`crate::app::proxy::NO_SERVER`] if it had none.
    pub server: u16,
    /// What ended it.
    pub end: End,
    /// Bytes that the client has said.
    pub received_bytes: u64,
    /// Bytes that the client has acknowledged.
    pub acknowledged_bytes: u64,
    /// For so long it was served by this node.
    pub served_ms: u32,
    /// Another node served it before.
    pub is_taken_over: bool,
}

impl Stack {
    /// Exchanges what has ended since the last time for an empty list, into which as much will fit as it has room for.
    pub fn swap_endings(&mut self, endings: &mut Vec<Ending>) {
        core::mem::swap(&mut self.endings, endings);
    }

    /// The leg in `slot` is over, or all but.
    pub(super) fn note_ending(&mut self, now: Instant, slot: u32) {
        let flow = &mut self.flows[slot];
        let group = &self.groups[flow.group as usize];
        if group.mode != Mode::Serving {
            return;
        }
        let clock_ms = group.clock(now).millis() as u32;
        let local = &flow.local;
        let served_ms = clock_ms.wrapping_add(local.ts_offset).wrapping_sub(local.ts_first);
        let (service, is_taken_over) = (flow.group, local.is_resumed);
        let (received_bytes, acknowledged_bytes) =
            // The number behind our FIN is no byte.
            (flow.contract.received, flow.contract.una_offset.min(flow.output.end()));
        let client = flow.key;
        let Some(leg) = flow.app.leg_mut().filter(|leg| leg.side == Side::Client) else { return };
        if core::mem::replace(&mut leg.is_end_told, true) {
            return;
        }
        self.rosters[service as usize].tally.note_end(leg.end);
        if !self.env.services[service as usize].upstream.logs {
            return;
        }
        if self.endings.len() == self.endings.capacity() {
            self.counters.endings_lost += 1;
            return;
        }
        self.endings.push(Ending {
            service,
            client,
            server: leg.server,
            end: leg.end,
            received_bytes,
            acknowledged_bytes,
            served_ms,
            is_taken_over,
        });
    }

    /// The connection of which the leg in `slot` is one is about to be ended by this node; the other leg has lent.
    pub(super) fn note_end(&mut self, slot: u32, end: End) {
        if let Some(leg) = self.flows[slot].app.leg_mut().filter(|leg| leg.side == Side::Client) {
            leg.note_end(end);
        } else if let Some(across) = &mut self.env.across {
            across.leg.note_end(end);
        }
    }
}
