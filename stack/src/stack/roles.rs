//! What this node is to a group, and the copies that a peer holds: served, silent, promoted, forgotten.
//! (Handing over without a failure is in `handover.rs`.)
//!
//! Bounds: a change of role looks at every slot once; it is no part of a segment's path.

use super::{Mode, Stack};
use crate::fact::{Fact, Open};
use crate::flow::{Flow, FlowId, Standing};
use crate::limits::{GRACE, PROBE_AFTER, PROBE_INTERVAL};
use crate::pool::NONE;
use crate::tcp::deadline::Heard;
use crate::tcp::state::State;
use crate::time::{Duration, Instant};
use alloc::vec::Vec;

impl Stack {
    /// Sets what this node is to a group. Flows of a group that is switched off are forgotten.
    pub fn set_mode(&mut self, now: Instant, group: u8, mode: Mode) {
        if mode == Mode::Off {
            self.forget(group);
        }
        let state = &mut self.groups[group as usize];
        // One voice is enough to say where an address is.
        let announces = mode == Mode::Serving && self.place.core == 0;
        state.announced_from = announces.then_some((now, 0));
        state.mode = mode;
        self.schedule_announcement();
    }

    /// Forgets every flow of a group.
    pub fn forget(&mut self, group: u8) {
        for slot in 0..self.flows.capacity() as u32 {
            if self.flows.is_used(slot) && self.flows[slot].group == group {
                self.remove(slot);
            }
        }
        self.groups[group as usize].is_mirrored = false;
    }

    /// From now on new flows of the group are recorded, or not.
    pub fn set_mirrored(&mut self, group: u8, is_mirrored: bool) {
        self.groups[group as usize].is_mirrored = is_mirrored;
    }

    /// Nothing of the group is recorded any more: everything counts as committed.
    pub fn detach(&mut self, now: Instant, group: u8) {
        self.set_mirrored(group, false);
        for slot in 0..self.flows.capacity() as u32 {
            if self.flows.is_used(slot) && self.flows[slot].group == group {
                self.detach_flow(now, slot);
            }
        }
    }

    /// Nothing of the flow in `slot` is recorded any more.
    pub fn detach_flow(&mut self, now: Instant, slot: u32) {
        let flow = &mut self.flows[slot];
        if flow.standing == Standing::Copied {
            self.groups[flow.group as usize].copied -= 1;
        }
        flow.standing = Standing::Absent;
        flow.local.committed = flow.progress();
        (flow.local.last_op, flow.local.hold_op) = (0, 0);
        self.settle(now, slot);
    }

    /// The flow in `slot` is copied from here on: `op` is the last of its capture.
    pub fn attach(&mut self, slot: u32, op: u64) {
        let flow = &mut self.flows[slot];
        debug_assert_eq!(flow.standing, Standing::Absent);
        flow.standing = Standing::Copied;
        flow.local.last_op = op;
        flow.local.hold_op = op;
        self.groups[flow.group as usize].copied += 1;
    }

    /// Sets the group's clock to read `clock` now.
    pub fn set_clock(&mut self, now: Instant, group: u8, clock: Instant) {
        self.groups[group as usize].clock_offset = clock.0.wrapping_sub(now.0);
    }

    /// As peer: a flow begins. `None` if the table is full, the key is taken or it is no flow of this core.
    pub fn open_copy(&mut self, now: Instant, open: &Open, id: FlowId, group: u8) -> Option<u32> {
        let service = self.env.services.get(open.service as usize)?;
        let is_taken = self.find(&open.key).is_some() || !self.is_at_home(&open.key, id);
        if open.options.mss > service.mss_for(&open.key.local) || is_taken {
            return None;
        }
        let slot = self.insert(open, id, group)?;
        self.flows[slot].local.heard = Heard::at(now);
        self.name_copy(slot);
        Some(slot)
    }

    /// As peer: puts an imported flow into a slot; `None` if the table is full, the key is taken or it is no
    /// flow of this core.
    pub fn adopt_copy(&mut self, now: Instant, mut flow: Flow) -> Option<u32> {
        let is_taken = self.find(&flow.key).is_some() || !self.is_at_home(&flow.key, flow.id);
        if is_taken || self.flows.available() == 0 {
            flow.release(&mut self.env);
            return None;
        }
        flow.local.heard = Heard::at(now);
        let slot = self.flows.take(flow)?;
        self.enter(slot);
        self.name_copy(slot);
        Some(slot)
    }

    /// Gives back what an imported flow holds that is not adopted.
    pub fn discard_import(&mut self, mut flow: Flow) {
        flow.release(&mut self.env);
    }

    /// As peer: applies a fact to a copy. `Ok(true)` if the flow is over and gone.
    pub fn apply(
        &mut self,
        now: Instant,
        slot: u32,
        fact: &Fact,
    ) -> Result<bool, crate::output::OutOfMemory> {
        let flow = &mut self.flows[slot];
        flow.local.heard = Heard::at(now);
        flow.apply(&mut self.env, fact)?;
        let is_over = flow.contract.state == State::Closed;
        if is_over {
            self.remove(slot);
        }
        Ok(is_over)
    }

    /// As peer: where the group's copy with this name is. A node that came back for one group may have given the
    /// names of its former life again before it learnt, from another group, that they are in use.
    #[inline]
    pub fn copy_of(&self, group: u8, id: FlowId) -> Option<u32> {
        let is_it = |&slot: &u32| self.flows[slot].id == id && self.flows[slot].group == group;
        self.copies.find(hash(id), is_it).copied()
    }

    /// As peer: where the copy with this name very likely is, or `NONE`. The first with a like hash: to compare
    /// names would be to wait for the flow.
    #[inline]
    pub fn guess_copy(&self, id: FlowId) -> u32 {
        self.copies.find(hash(id), |_| true).copied().unwrap_or(NONE)
    }

    /// As peer: forgets the group's copy with this name, if there is one.
    pub fn discard_copy_of(&mut self, group: u8, id: FlowId) {
        if let Some(slot) = self.copy_of(group, id) {
            self.remove(slot);
        }
    }

    /// The flow in `slot` is a copy from here on: it is found by its name.
    pub(super) fn name_copy(&mut self, slot: u32) {
        let Stack { copies, flows, .. } = self;
        copies.insert_unique(hash(flows[slot].id), slot, |&slot| hash(flows[slot].id));
    }

    /// The flow in `slot` is no copy any more.
    pub(super) fn unname_copy(&mut self, slot: u32) {
        let id = hash(self.flows[slot].id);
        if let Ok(entry) = self.copies.find_entry(id, |&known| known == slot) {
            entry.remove();
        }
    }

    /// Begins to serve the copies of a group. Every flow that was active within `recently` is kicked,
    /// the last heard first; behind these every flow is probed at a low rate.
    pub fn promote(&mut self, now: Instant, group: u8, recently: Duration) -> u32 {
        self.set_mode(now, group, Mode::Serving);
        self.env.grace_until[group as usize] = now + GRACE;
        let clock_ms = self.groups[group as usize].clock(now).millis() as u32;
        let mut flows = 0;
        for slot in 0..self.flows.capacity() as u32 {
            if !self.flows.is_used(slot) || self.flows[slot].group != group {
                continue;
            }
            flows += 1;
            self.unname_copy(slot);
            let flow = &mut self.flows[slot];
            let heard = flow.local.heard;
            let ts_offset = self.keys.timestamp_offset(&flow.key);
            let ts_now = clock_ms.wrapping_add(ts_offset);
            let service = &self.env.services[flow.service as usize];
            flow.resume(now, ts_now, ts_offset, service);
            if flow.contract.state == State::SynReceived && !flow.contract.is_active {
                flow.local.is_half_open = true;
                self.syn_received += 1;
            }
            // Whoever opens must say so again: nobody will ask.
            let is_opening = flow.contract.is_active && !flow.contract.state.is_synchronized();
            if heard.silence(now) <= recently || is_opening {
                self.kicks.push((heard.age(now), slot));
            }
            self.unprobed.push(slot);
            let deadline = self.flows[slot].poll_timeout(now, &self.env);
            self.wheel.arm(slot, deadline);
        }
        self.kicks.sort_unstable_by(|a, b| b.cmp(a));
        while let Some((_, slot)) = self.kicks.pop() {
            self.flows[slot].owe_kick();
            self.ready.push(slot);
        }
        self.probe_at = if self.unprobed.is_empty() { Instant::MAX } else { now + PROBE_AFTER };
        // All of them within half of the time in which their answers are believed.
        let share = GRACE.0 / 2 / self.unprobed.len().max(1) as u64;
        self.probe_every = Duration(share.min(PROBE_INTERVAL.0));
        flows
    }

    /// Writes everything that a peer needs to carry the flow in `slot` on.
    pub fn export(&self, slot: u32, out: &mut Vec<u8>) {
        self.flows[slot].export(&self.env, out);
    }

    /// Reads what `export` wrote, into the pools of this stack.
    pub fn import(&mut self, group: u8, bytes: &[u8]) -> Result<Flow, crate::codec::ImportError> {
        Flow::import(&mut self.env, group, bytes)
    }

    /// What two holders of a flow must agree on at equal op.
    pub fn digest(&self, slot: u32, scratch: &mut Vec<u8>) -> u64 {
        self.flows[slot].digest(&self.env, scratch)
    }
}

/// Names are counters of an owner: a multiplication spreads them well enough.
#[inline]
fn hash(id: FlowId) -> u64 {
    id.0.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(26)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::AppConfig;
    use crate::content::Content;
    use crate::fact::Syn;
    use crate::key::FlowKey;
    use crate::limits::CONNECT_TIMEOUT;
    use crate::seq::Seq;
    use crate::service::{HOP_LIMIT, Service};
    use crate::shard::Place;
    use crate::stack::StackConfig;
    use crate::tcp::contract::Options;
    use crate::tcp::sender::SenderConfig;
    use crate::wire::Address;
    use alloc::vec;

    fn service(port: u16) -> Service {
        Service {
            addresses: vec![Address::v4([10, 0, 0, 1])],
            ports: vec![(port, port)],
            app: AppConfig::Discard,
            content: Content::default(),
            receive_buffer: 16 << 10,
            idle_timeout: None,
            keep_alive: None,
            connect_timeout: CONNECT_TIMEOUT,
            sender: SenderConfig::default(),
            mss: 1460,
            nodelay: true,
            hop_limit: HOP_LIMIT,
        }
    }

    fn open(stack: &Stack, group: u8, shard: u8) -> Open {
        let key = |remote_port| FlowKey {
            remote: Address::v4([10, 0, 0, 9]),
            local: Address::v4([10, 0, 0, 1]),
            remote_port,
            local_port: 80 + group as u16,
        };
        let key = (1..).map(key).find(|key| stack.shard_of(key) == shard).unwrap();
        let options = Options { mss: 1460, ..Options::default() };
        let syn = Some(Syn { irs: Seq(1), ts_recent: 0, snd_wnd: 1000 });
        Open { key, service: group, next_hop: [2; 6], iss: Seq(7), options, syn }
    }

    /// Two owners may have given one name: what is said of one copy never reaches the other.
    #[test]
    fn copies_of_two_groups_may_have_one_name() {
        let config = StackConfig {
            node: 2,
            place: Place::ALONE,
            mac: [2; 6],
            secret: [7; 32],
            flows_max: 4,
            active_max: 4,
            segments_max: 4,
            chunks_max: 64,
            pieces_max: 64,
            uploads_max: 1,
            reassemblies_max: 1,
        };
        let mut stack = Stack::new(&config, vec![service(80), service(81)]);
        let (now, id) = (Instant(1 << 40), FlowId::new(1, 5, 1));
        let slots = [0, 1].map(|group| {
            stack.set_mode(now, group, Mode::Silent);
            let open = open(&stack, group, 5);
            stack.discard_copy_of(group, id);
            stack.open_copy(now, &open, id, group).expect("there is room")
        });
        assert_eq!([0, 1].map(|group| stack.copy_of(group, id)), slots.map(Some));
        stack.discard_copy_of(1, id);
        assert_eq!([0, 1].map(|group| stack.copy_of(group, id)), [Some(slots[0]), None]);
    }
}
