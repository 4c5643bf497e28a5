//! The cluster link of one core: records and acknowledgements in, the same out.
//!
//! A datagram names the core that it is for. One that reached another core of the node is handed over, unread
//! beyond that name ([`Engine::core_of_datagram`]); whoever it is for checks all of it.

use super::{Endpoint, Engine};
use crate::id::{Member, NodeId, Op};
use crate::limits::CAPTURE_AGAIN;
use crate::link::{self, Guard, LINK_HEADER_BYTES};
use crate::mirror::{self, Body, RecordKind, Session, decode, lost_flows};
use crate::role::Report;
use crate::seal::{self, LinkSeal, LinkSealCounters};
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
    /// Datagrams of a node whose release has another version of the format.
    pub other_version: u64,
    /// Datagrams of another cluster, session or incarnation.
    pub other_session: u64,
    /// Datagrams that could not be sent because the peer's Ethernet address is unknown.
    pub no_neighbor: u64,
    /// What sealing has counted.
    pub sealing: LinkSealCounters,
}

impl Engine {
    /// Which other core of this node a frame of the cluster-side interface is for, by what it says of itself.
    #[inline]
    pub fn core_of_datagram(&self, frame: &[u8]) -> Option<u8> {
        let place = self.stack.place();
        if place.cores == 1 {
            return None;
        }
        let datagram = frame.get(LINK_HEADER_BYTES..)?;
        let core = match self.seal {
            Some(_) => seal::to_core(datagram)?,
            None => mirror::to_core(datagram)?,
        };
        (core < place.cores && core != place.core).then_some(core)
    }

    /// Takes a frame of the cluster-side interface; it is opened where it lies.
    pub fn handle_datagram(&mut self, now: Instant, frame: &mut [u8]) {
        let Some(payload) = link::parse(frame, &self.endpoint) else {
            self.counters.alien += 1;
            return;
        };
        self.counters.received += 1;
        let (sender, datagram) = match &mut self.seal {
            None => (None, &*payload),
            // What is not opened has been counted.
            Some(seal) => match seal.open(now, payload) {
                Ok((sender, datagram)) => (Some(sender), datagram),
                Err(_) => return,
            },
        };
        let Ok((session, body)) = decode(datagram) else {
            let is_of_another = mirror::is_of_another_version(datagram);
            self.counters.other_version += u64::from(is_of_another);
            self.counters.malformed += u64::from(!is_of_another);
            return;
        };
        if sender.is_some_and(|sender| sender != session.from) {
            self.counters.other_session += 1;
            return;
        }
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
            Body::Frame(part) => self.handle_hop(now, index, session, (&part, false)),
            Body::Returned(part) => self.handle_hop(now, index, session, (&part, true)),
            Body::Records { first, clock, count, bytes } => {
                let mut backups = self.groups[index].backups.iter_mut();
                let Some(backup) = backups.find(|backup| *backup.session() == session) else {
                    return false;
                };
                let before = backup.counters().mismatches;
                backup.handle_records(now, &mut self.stack, first, (clock, count), bytes);
                let count = backup.counters().mismatches - before;
                if count > 0 {
                    let (group, owner) = (session.group, session.from);
                    self.report(Report::Differed { group, owner, count });
                }
                if self.stack.is_left(index as u8) {
                    // A copy that was given up, or is here again, changes of whom it is known that he is a newcomer.
                    self.note_shared();
                }
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
        let Engine { seal, neighbors, endpoint, counters, .. } = self;
        let mut road = Road { now, seal, neighbors, endpoint, counters };
        for index in 0..self.groups.len() {
            for backup in self.groups[index].backups.iter_mut().filter(|b| b.has_ack()) {
                let owner = (backup.session().from, backup.session().from_core);
                let Some(to) = road.leads_to(owner.0) else { continue };
                self.snapshot.clear();
                backup.poll_ack(&mut self.snapshot);
                if let Some(len) = road.emit(buffer, (owner, &to), &self.snapshot) {
                    return Some(len);
                }
            }
            for lane in self.logs.0[index].iter_mut() {
                let peer = (lane.log.session().to, lane.log.session().to_core);
                let Some(to) = road.leads_to(peer.0) else { continue };
                let datagram = lane.log.poll_datagram(now);
                if let Some(len) = datagram.and_then(|bytes| road.emit(buffer, (peer, &to), bytes))
                {
                    return Some(len);
                }
            }
        }
        self.poll_hop(now, buffer)
    }
}

/// How a datagram gets to another node: its address, and the session under which it is sealed.
pub(super) struct Road<'a> {
    pub now: Instant,
    pub seal: &'a mut Option<LinkSeal>,
    pub neighbors: &'a [(NodeId, Endpoint)],
    pub endpoint: &'a Endpoint,
    pub counters: &'a mut LinkCounters,
}

impl Road<'_> {
    /// Where that life of a node is, if anything can be sent there now. Without, nothing is lost: it is not made.
    pub fn leads_to(&mut self, to: Member) -> Option<Endpoint> {
        let found = self.neighbors.iter().find(|(id, _)| *id == to.node);
        self.counters.no_neighbor += found.is_none() as u64;
        let has_session = self.seal.as_mut().is_none_or(|seal| seal.has_session(to));
        found.filter(|_| has_session).map(|(_, endpoint)| *endpoint)
    }

    /// Writes the frame that carries `bytes` to a core of a node.
    #[inline]
    pub fn emit(
        &mut self,
        buffer: &mut [u8],
        (to, at): ((Member, u8), &Endpoint),
        bytes: &[u8],
    ) -> Option<usize> {
        let len = match self.seal {
            None => link::emit(buffer, self.endpoint, at, bytes),
            Some(seal) => link::emit_with(buffer, self.endpoint, at, Guard::Seal, |room| {
                seal.seal(self.now, to, room, bytes)
            }),
        };
        (len > 0).then_some(len)
    }
}
