//! Clients for whom no server has room now: they wait in order, and are reset when that takes too long.
//!
//! ```text
//! no server has room -> at the end of the queue -> a connection ends, a server comes -> the first one gets it
//!        |                                 `-> the time is up: reset
//!        `-> the queue is full: reset
//! ```
//!
//! Whoever comes while others wait waits behind them. The legs of a client that waits are as they are in any other search:
//! what it says is kept, within its window.
//!
//! Bounds: [`QUEUE_STEPS_MAX`] looks in one poll.

use super::proxy::Search;
use super::{Group, Mode, Stack};
use crate::app::proxy::Proxy;
use crate::flow::FlowId;
use crate::limits::{CONNECT_AGAIN, QUEUE_STEPS_MAX};
use crate::recorder::Recorder;
use crate::tcp::deadline::{AHEAD_MAX, Wait};
use crate::time::{Duration, Instant};
use crate::upstream::Roster;
use crate::upstream::queue::Waiting;

impl Stack {
    /// Whether others wait before the client's leg in `slot`.
    pub(super) fn is_behind_others(&self, slot: u32) -> bool {
        let flow = &self.flows[slot];
        let front = self.rosters[flow.group as usize].queue.front();
        front.is_some_and(|front| (front.slot, front.id) != (slot, flow.id))
    }

    /// The client's leg in `slot` waits until a server has room, if it may; else it is turned away.
    pub(super) fn queue_up<R: Recorder>(&mut self, now: Instant, slot: u32, recorder: &mut R) {
        let flow = &self.flows[slot];
        let (service, id) = (flow.group as usize, flow.id);
        let until = match self.rosters[service].queue.entry(slot, id) {
            Some(Waiting { until, .. }) if until <= now => {
                self.counters.queue_timeouts += 1;
                return self.turn_away(now, slot, recorder);
            }
            Some(Waiting { until, .. }) => until,
            None => {
                let until = now + self.env.services[service].upstream.queue_timeout;
                let entry = Waiting { slot, id, until };
                if !self.rosters[service].queue.push(entry) && !self.push_after_gone(service, entry)
                {
                    self.counters.queue_full += 1;
                    return self.turn_away(now, slot, recorder);
                }
                until
            }
        };
        // Nothing that lies further ahead can be told from what is past: it is looked at once more before.
        let look_at = until.min(now + Duration(AHEAD_MAX.0 / 2));
        self.flows[slot].local.deadlines.set(Wait::Room, look_at);
        self.settle(now, slot);
    }

    /// The places of those who have gone are for those who come.
    fn push_after_gone(&mut self, service: usize, entry: Waiting) -> bool {
        let Stack { rosters, flows, .. } = self;
        let waits = |entry: &Waiting| flows.is_used(entry.slot) && flows[entry.slot].id == entry.id;
        rosters[service].queue.drop_one(waits);
        rosters[service].queue.push(entry)
    }

    /// Finds servers for those who wait, in their order.
    pub(super) fn serve_queues<R: Recorder>(&mut self, now: Instant, recorder: &mut R) {
        for service in 0..self.rosters.len() {
            if !self.rosters[service].queue.has_news || self.groups[service].mode != Mode::Serving {
                continue;
            }
            self.rosters[service].queue.has_news = false;
            for step in 0..QUEUE_STEPS_MAX {
                let Some(Waiting { slot, id, .. }) = self.rosters[service].queue.front() else {
                    break;
                };
                if self.has_left(now, slot, id) {
                    self.rosters[service].queue.remove(slot, id);
                } else if !self.serve_waiting(now, slot, recorder) {
                    break;
                }
                self.rosters[service].queue.has_news |= step + 1 == QUEUE_STEPS_MAX;
            }
        }
    }

    /// Finds a server for the first who waits; `false` if there is none now.
    fn serve_waiting<R: Recorder>(&mut self, now: Instant, slot: u32, recorder: &mut R) -> bool {
        let (service, id) = (self.flows[slot].group as usize, self.flows[slot].id);
        match self.search(now, slot, recorder) {
            Search::Found => {
                self.rosters[service].queue.remove(slot, id);
                self.flows[slot].local.deadlines.clear(Wait::Room);
                self.settle(now, slot);
                true
            }
            Search::Nobody => {
                self.turn_away(now, slot, recorder);
                true
            }
            Search::Full => false,
            Search::Later => {
                self.flows[slot].local.deadlines.set(Wait::Room, now + CONNECT_AGAIN);
                self.settle(now, slot);
                false
            }
        }
    }

    fn has_left(&mut self, now: Instant, slot: u32, id: FlowId) -> bool {
        let is_there =
            self.flows.is_used(slot) && self.flows[slot].id == id && self.bring_up(now, slot);
        if !is_there {
            return true;
        }
        let flow = &self.flows[slot];
        // One whose end waits for room in the log is as good as gone.
        flow.local.tick_waiting.is_some() || !flow.app.leg().is_some_and(Proxy::lacks_server)
    }

    /// When [`Stack::serve_queues`] is due.
    pub(super) fn queues_timeout(&self) -> Option<Instant> {
        let is_due = |(roster, group): (&Roster, &Group)| {
            roster.queue.has_news && !roster.queue.is_empty() && group.mode == Mode::Serving
        };
        self.rosters.iter().zip(&self.groups).any(is_due).then_some(Instant::ZERO)
    }
}
