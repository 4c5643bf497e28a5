//! The flows of a core: where each is, what must follow when one was touched, and how one goes.

use super::{Mode, Stack};
use crate::flow::{Flow, FlowId};
use crate::key::FlowKey;
use crate::shard::shard_of;
use crate::tcp::deadline::{Change, Wait};
use crate::tcp::state::State;
use crate::time::Instant;

/// The hash as the flow table takes it: its tags and places come from bits that say nothing about the shard,
/// which all flows of a core have in common.
#[inline]
pub(super) const fn spread(hash: u64) -> u64 {
    hash.rotate_right(18)
}

impl Stack {
    /// A flow, by slot.
    pub fn flow(&self, slot: u32) -> Option<&Flow> {
        let is_there = self.flows.is_used(slot) && !self.is_forgotten(slot);
        is_there.then(|| &self.flows[slot])
    }

    /// Slots in use.
    pub fn slots(&self) -> impl Iterator<Item = u32> + '_ {
        self.flows.indices().filter(|&slot| !self.is_forgotten(slot))
    }

    /// Slots in total.
    pub fn slots_max(&self) -> usize {
        self.flows.capacity()
    }

    /// The slot of the flow with this key.
    #[inline]
    pub fn find(&self, key: &FlowKey) -> Option<u32> {
        self.find_any(key).filter(|&slot| !self.is_forgotten(slot))
    }

    /// The same, be it forgotten.
    #[inline]
    pub(super) fn find_any(&self, key: &FlowKey) -> Option<u32> {
        let hash = spread(self.keys.flow_hash(key));
        self.table.find(hash, |&slot| self.flows[slot].key == *key).copied()
    }

    /// The flow with this key, brought up to what its group has become.
    #[inline]
    pub(super) fn seek(&mut self, now: Instant, key: &FlowKey) -> Option<u32> {
        let slot = self.find_any(key)?;
        self.bring_up(now, slot).then_some(slot)
    }

    /// The shard of the flow with this key.
    pub(super) fn shard_of(&self, key: &FlowKey) -> u8 {
        shard_of(self.keys.flow_hash(key))
    }

    /// Whether a flow is named after its shard, and that is one of this core's.
    pub(super) fn is_at_home(&self, key: &FlowKey, id: FlowId) -> bool {
        let shard = self.shard_of(key);
        id.shard() == shard && self.place.holds(shard)
    }

    /// Takes a slot out of the flow table, if the table leads to it.
    pub(super) fn unlist(&mut self, slot: u32) {
        let hash = spread(self.keys.flow_hash(&self.flows[slot].key));
        if let Ok(entry) = self.table.find_entry(hash, |&other| other == slot) {
            entry.remove();
        }
    }

    /// What must follow whenever a flow was touched: it is queued to speak, and if it is over and the peer
    /// knows that, it is gone. Its timer is set when it leaves the queue ([`Stack::rest`]).
    pub(super) fn settle(&mut self, now: Instant, slot: u32) {
        let flow = &mut self.flows[slot];
        if flow.local.is_half_open && flow.contract.state != State::SynReceived {
            flow.local.is_half_open = false;
            self.syn_received -= 1;
            self.note_opened(slot);
        }
        let flow = &mut self.flows[slot];
        if flow.contract.state == State::TimeWait && !flow.local.deadlines.is_set(Wait::TimeWait) {
            flow.local.deadlines.set(Wait::TimeWait, now + crate::limits::TIME_WAIT);
            // The server has forgotten it, or will by itself.
            self.uncount_leg(slot);
        }
        let flow = &mut self.flows[slot];
        if matches!(flow.contract.state, State::Closed | State::TimeWait) {
            self.note_ending(now, slot);
        }
        let flow = &mut self.flows[slot];
        if flow.contract.state == State::Closed {
            if flow.is_committed() && !flow.local.owed.rst {
                self.remove(slot);
                return;
            }
            self.wheel.disarm(slot);
        }
        self.ready.push(self.flows[slot].group, slot);
    }

    /// A flow has nothing more to say now: it leaves the queue, and its timer is set. If what it said last was
    /// its end, it is gone.
    pub(super) fn rest(&mut self, now: Instant, slot: u32) {
        let flow = &mut self.flows[slot];
        self.ready.remove(flow.group, slot);
        if flow.sender.leave(&mut self.env.senders) {
            // From now on the client's silence counts (RFC 9293 MUST-26).
            flow.local.deadlines.note_change();
        }
        if flow.contract.state == State::Closed {
            if flow.is_committed() && !flow.local.owed.rst {
                self.remove(slot);
            }
            return;
        }
        let change = flow.local.deadlines.take_change();
        let is_right =
            self.wheel.is_armed(slot) && now >= self.groups[flow.group as usize].rearm_until;
        let change = if is_right { change } else { Change::All };
        let deadline = flow.poll_sooner(now, &self.env, change);
        if !self.wheel.is_armed_by(slot, deadline) {
            self.wheel.arm(slot, deadline);
        }
        debug_assert!(self.wheel.is_armed_by(slot, self.flows[slot].poll_timeout(now, &self.env)));
    }

    pub(super) fn remove(&mut self, slot: u32) {
        let is_forgotten = self.is_forgotten(slot);
        self.unlink(slot);
        self.note_leg_over(slot);
        self.unlist(slot);
        self.unname(slot);
        self.kicks.forget(slot);
        self.wheel.disarm(slot);
        self.ready.remove(self.flows[slot].group, slot);
        let mut flow = self.flows.give(slot);
        flow.release(&mut self.env);
        if flow.local.is_half_open {
            self.syn_received -= 1;
        }
        if is_forgotten {
            return;
        }
        let group = &mut self.groups[flow.group as usize];
        group.flows -= 1;
        group.copied -= group.counts_as_copied(&flow) as u32;
        if group.mode == Mode::Serving {
            self.counters.closed += 1;
        }
    }
}
