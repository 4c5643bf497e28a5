//! The cluster link of one core: records and acknowledgements in, the same out.
//!
//! A datagram names the core that it is for. One that reached another core of the node is handed over, unread
//! beyond that name ([`Engine::core_of_datagram`]); whoever it is for checks all of it.

use super::{Endpoint, Engine};
use crate::id::{NodeId, Op};
use crate::limits::CAPTURE_AGAIN;
use crate::link::{self, LINK_HEADER_BYTES};
use crate::mirror::{self, Body, RecordKind, Session, decode, lost_flows};
use stack::flow::{FlowId, Standing};
use stack::time::Instant;

/// Counters of the cluster link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkCounters {
    /// Datagrams received.
    pub received: u64,
    /// Frames that are no datagram for this node.
    pub alien: u64,
    /// Datagrams that cannot be read.
    pub malformed: u64,
    /// Datagrams of another cluster, session or incarnation.
    pub other_session: u64,
    /// Datagrams that could not be sent because the peer's Ethernet address is unknown.
    pub no_neighbor: u64,
}

impl Engine {
    /// Which other core of this node a frame of the cluster-side interface is for, by what it says of itself.
    #[inline]
    pub fn core_of_datagram(&self, frame: &[u8]) -> Option<u8> {
        let place = self.stack.place();
        if place.cores == 1 {
            return None;
        }
        let core = mirror::to_core(frame.get(LINK_HEADER_BYTES..)?)?;
        (core < place.cores && core != place.core).then_some(core)
    }

    /// Takes a frame of the cluster-side interface.
    pub fn handle_datagram(&mut self, now: Instant, frame: &[u8]) {
        let Some(payload) = link::parse(frame, &self.endpoint) else {
            self.counters.alien += 1;
            return;
        };
        self.counters.received += 1;
        let Ok((session, body)) = decode(payload) else {
            self.counters.malformed += 1;
            return;
        };
        let index = self.index_of(session.group);
        let is_ours = session.to == self.member && session.cluster == self.cluster;
        let is_known = match index.filter(|_| is_ours) {
            Some(index) => self.handle_body(now, index, session, body),
            None => false,
        };
        if !is_known {
            self.counters.other_session += 1;
        }
    }

    /// Takes what a datagram says; `false` if its session is none of this core's.
    fn handle_body(&mut self, now: Instant, index: usize, session: Session, body: Body) -> bool {
        match body {
            Body::Records { first, clock, count, bytes } => {
                let mut backups = self.groups[index].backups.iter_mut();
                let Some(backup) = backups.find(|backup| *backup.session() == session) else {
                    return false;
                };
                backup.handle_records(now, &mut self.stack, first, (clock, count), bytes);
            }
            Body::Ack { acked, missing, lost } => {
                let lane = self.logs.0[index].of_session(session.reversed());
                let Some(lane) = lane else { return false };
                // One that others have overtaken may name a copy as lost that is held again.
                let lost = if acked < lane.log.committed() { &[] } else { lost };
                lane.log.handle_ack(now, acked, missing);
                while let Some(commit) = lane.log.poll_commit() {
                    let place = (commit.slot, commit.flow);
                    self.stack.handle_committed(now, place, commit.op.0, commit.progress);
                }
                // Answered once a round trip: what was said before may not have arrived yet.
                let is_answered = lane.log.committed() < lane.gone;
                for (flow, op) in lost_flows(lost) {
                    let is_answered = is_answered || self.groups[index].freeze.is_some();
                    match self.stack.seek_named(now, index as u8, flow) {
                        Some(slot) => self.capture_again(now, index, slot, op),
                        None if is_answered => {}
                        None => self.tell_gone(index, session.reversed(), flow),
                    }
                }
            }
        }
        true
    }

    /// The peer gave a copy up: the flow stands alone until it is captured anew.
    fn capture_again(&mut self, now: Instant, index: usize, slot: u32, op: Op) {
        // Said of a copy before the one that is held or on its way.
        let is_stale = self
            .stack
            .flow(slot)
            .is_none_or(|known| known.standing == Standing::Absent || op.0 < known.local.hold_op);
        if is_stale {
            return;
        }
        self.stack.detach_flow(now, slot);
        if let Some(fill) = &mut self.groups[index].fill {
            fill.again_at = fill.again_at.min(now + CAPTURE_AGAIN);
        }
    }

    /// The peer told as lost what is over: there is nothing to capture.
    fn tell_gone(&mut self, index: usize, session: Session, flow: FlowId) {
        let lane = self.logs.0[index].of_session(session);
        if let Some(lane) = lane.filter(|lane| lane.log.room(0, true).is_some()) {
            lane.gone = lane.log.note(RecordKind::Gone, flow, &[], None);
        }
    }

    /// Writes the next frame for the cluster link into `buffer`; `None` if there is none.
    pub fn poll_datagram(&mut self, now: Instant, buffer: &mut [u8]) -> Option<usize> {
        for index in 0..self.groups.len() {
            for backup in self.groups[index].backups.iter_mut().filter(|b| b.has_ack()) {
                let owner = backup.session().from.node;
                let Some(to) = endpoint_of(&self.neighbors, owner) else {
                    self.counters.no_neighbor += 1;
                    continue;
                };
                self.snapshot.clear();
                backup.poll_ack(&mut self.snapshot);
                return Some(link::emit(buffer, &self.endpoint, &to, &self.snapshot));
            }
            for lane in self.logs.0[index].iter_mut() {
                let Some(to) = endpoint_of(&self.neighbors, lane.log.session().to.node) else {
                    self.counters.no_neighbor += 1;
                    continue;
                };
                if let Some(bytes) = lane.log.poll_datagram(now) {
                    return Some(link::emit(buffer, &self.endpoint, &to, bytes));
                }
            }
        }
        None
    }
}

fn endpoint_of(neighbors: &[(NodeId, Endpoint)], node: NodeId) -> Option<Endpoint> {
    neighbors.iter().find(|(id, _)| *id == node).map(|(_, endpoint)| *endpoint)
}
