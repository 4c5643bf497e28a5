//! What an owner's core sends beside facts: whole flows for a joining peer, digests for comparison.
//!
//! A flow is captured whole at one op of its lane. When every slot was looked at, each lane says so, and how many flows
//! were passed over because they hold too much; when the peer holds that word in all lanes, the core has filled it. The walk is
//! repeated as long as there are such flows, and the word whenever their number has changed: so both sides count what
//! the peer lacks.
//!
//! Bounds: [`FILL_FLOWS_PER_POLL`] captures and [`FILL_SLOTS_PER_POLL`] slots a round, so that serving never stalls, and
//! [`FILL_PACE`] between two such rounds, so that whoever shares a processor with the peer does not either.

use super::{Engine, Group};
use crate::id::{Epoch, Member};
use crate::limits::{
    CAPTURE_AGAIN, DIGEST_BYTES_MAX, DIGEST_INTERVAL, DIGEST_LAG_MAX, FILL_FLOWS_PER_POLL,
    FILL_PACE, FILL_SLOTS_PER_POLL, PART_BYTES, PARTS_MAX,
};
use crate::log::Log;
use crate::mirror::RecordKind;
use crate::role::Report;
use stack::flow::{Flow, FlowId, Standing};
use stack::pool::NONE;
use stack::recorder::FlowName;
use stack::stack::Stack;
use stack::tcp::state::State;
use stack::time::Instant;

/// The capture of a group's flows for a joining peer.
pub(super) struct Fill {
    epoch: Epoch,
    peer: Member,
    next_slot: u32,
    /// When to capture the next ones.
    pub next_at: Instant,
    /// When to look for flows without a copy again; MAX if none was given up or passed over.
    pub again_at: Instant,
    reported: bool,
}

impl Fill {
    /// Whether the agent was told that it is through.
    pub fn is_reported(&self) -> bool {
        self.reported
    }

    pub fn new(epoch: Epoch, peer: Member) -> Fill {
        Fill {
            epoch,
            peer,
            next_slot: 0,
            next_at: Instant::ZERO,
            again_at: Instant::MAX,
            reported: false,
        }
    }

    /// Nothing is to be captured but what is given up later.
    pub fn complete(epoch: Epoch, peer: Member) -> Fill {
        Fill { next_slot: u32::MAX, reported: true, ..Fill::new(epoch, peer) }
    }
}

impl Engine {
    /// Captures a few flows that the peer does not hold.
    pub(super) fn fill_some(&mut self, now: Instant, index: usize) {
        let Engine { stack, logs, groups, scratch, reports, .. } = self;
        let lanes = &mut logs.0[index];
        let Some(fill) = groups[index].fill.as_mut().filter(|_| !lanes.is_empty()) else {
            return;
        };
        // What a change of role has not reached is not yet what is to be captured.
        if stack.is_turning() {
            return;
        }
        if fill.again_at <= now {
            (fill.again_at, fill.next_slot) = (Instant::MAX, 0);
            lanes.iter_mut().for_each(|lane| lane.passed = 0);
        }
        let mut budget = if fill.next_at <= now { FILL_FLOWS_PER_POLL } else { 0 };
        let slots = stack.slots_max() as u32;
        let scan_end = fill.next_slot.saturating_add(FILL_SLOTS_PER_POLL).min(slots);
        while budget > 0 && fill.next_slot < scan_end {
            let slot = fill.next_slot;
            if let Some(flow) = wanted(stack, slot, index) {
                scratch.clear();
                stack.export(slot, scratch);
                let parts = scratch.len().div_ceil(PART_BYTES);
                let lane = lanes.of_flow(flow);
                if parts > PARTS_MAX {
                    // It stays alone, as the status shows, until it holds less.
                    (fill.again_at, lane.passed) = (now + CAPTURE_AGAIN, lane.passed + 1);
                } else if lane.log.has_room_for_parts(parts) {
                    capture(stack, &mut lane.log, slot, scratch);
                } else {
                    break;
                }
                budget -= 1;
                if budget == 0 {
                    fill.next_at = now + FILL_PACE;
                }
            }
            fill.next_slot += 1;
        }
        if fill.next_slot == slots {
            for lane in lanes.iter_mut().filter(|lane| !lane.has_told_passed()) {
                if lane.log.room(0, false).is_some() {
                    let word = lane.passed.to_le_bytes();
                    let op = lane.log.note(RecordKind::FillDone, Default::default(), &word, None);
                    lane.filled.get_or_insert(op);
                    lane.missing = lane.passed;
                }
            }
        }
        if !fill.reported && lanes.are_filled() {
            fill.reported = true;
            let (epoch, core, peer) = (fill.epoch, stack.place().core, fill.peer);
            let missing = lanes.iter().map(|lane| lane.missing).sum();
            let group = groups[index].id;
            reports.push_back(Report::Filled { group, epoch, core, peer, missing });
        }
    }

    /// Whether captures are under way.
    pub(super) fn is_filling(&self, index: usize) -> bool {
        let slots = self.stack.slots_max() as u32;
        let is_walking = |fill: &Fill| fill.next_slot < slots;
        let fill = self.groups[index].fill.as_ref();
        fill.is_some_and(is_walking)
            || self.logs.0[index].iter().any(|lane| !lane.has_told_passed())
    }

    /// Sends the digest of one flow after another, for the peer to compare.
    pub(super) fn digest_one(&mut self, now: Instant, index: usize) {
        let group: &mut Group = &mut self.groups[index];
        let is_wanted = self.stack.group(index as u8).copied() > 0 && !self.stack.is_turning();
        if now < group.digest_at || !is_wanted {
            return;
        }
        group.digest_at = now + DIGEST_INTERVAL;
        let slots = self.stack.slots_max() as u32;
        for _ in 0..64 {
            let slot = group.digest_slot;
            group.digest_slot = (slot + 1) % slots;
            let wanted = self.stack.flow(slot).filter(|flow| {
                flow.group == index as u8
                    && flow.standing == Standing::Copied
                    && flow.contract.state != State::Closed
                    && flow.output.stored() + flow.backlog.len() as u64 <= DIGEST_BYTES_MAX
            });
            let Some(id) = wanted.map(|flow| flow.id) else { continue };
            let log = &mut self.logs.0[index].of_flow(id).log;
            if log.lag() <= DIGEST_LAG_MAX && log.room(0, false).is_some() {
                let digest = self.stack.digest(slot, &mut self.snapshot);
                log.note(RecordKind::Digest, id, &digest.to_le_bytes(), None);
            }
            return;
        }
    }
}

/// The flow in `slot`, if it is one of the group that the peer does not hold.
fn wanted(stack: &Stack, slot: u32, index: usize) -> Option<FlowId> {
    let flow = stack.flow(slot)?;
    let is_wanted = flow.group == index as u8
        && flow.standing == Standing::Absent
        && flow.contract.state != State::Closed
        // The leg towards a server is captured with the client's.
        && (!flow.id.is_server_leg() || other_of(flow).is_none());
    is_wanted.then_some(flow.id)
}

/// Where the other leg of a proxied connection is.
fn other_of(flow: &Flow) -> Option<u32> {
    flow.app.leg().map(|leg| leg.other).filter(|&other| other != NONE)
}

/// Records a whole flow, both legs of it, as one run of parts, for which the log has room.
fn capture(stack: &mut Stack, log: &mut Log, slot: u32, bytes: &[u8]) {
    let flow = stack.flow(slot).expect("captured flows exist");
    let (id, progress) = (flow.id, flow.progress());
    let other = other_of(flow);
    let mut parts = bytes.chunks(PART_BYTES).peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_some() {
            log.note(RecordKind::Part, id, part, None);
        } else {
            let op = log.note(RecordKind::LastPart, id, part, Some((slot, progress)));
            stack.attach(slot, op.0);
            if let Some(other) = other {
                let leg = stack.flow(other).expect("a linked leg exists");
                let name = FlowName { group: leg.group, id: leg.id, slot: other };
                log.follow(name, leg.progress(), true);
                stack.attach(other, op.0);
            }
        }
    }
}
