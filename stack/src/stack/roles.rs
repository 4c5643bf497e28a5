//! What this node is to a group, and the copies that a peer holds: served, silent, promoted, forgotten.
//! (Handing over without a failure is in `handover.rs`.)
//!
//! Bounds: a change of role changes the group; its flows follow (`turnover.rs`).

use super::speak::Announcing;
use super::{Mode, Stack};
use crate::fact::{Fact, Open};
use crate::flow::{Flow, FlowId, Standing};
use crate::limits::{GRACE, PROBE_AFTER, PROBE_INTERVAL, PROBES_PER_POLL, SWEEP_SLOTS_MAX};
use crate::pool::NONE;
use crate::snapshot::Captured;
use crate::tcp::contract::Contract;
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
        (state.mode, state.conflict) = (mode, None);
        self.groups[group as usize].announcing =
            self.announces(group).then(|| Announcing::from(now));
        self.note_speaking(group);
        match mode {
            Mode::Serving => {
                self.rosters[group as usize].begin(now);
                self.tell_cores(group);
                self.begin_purge(group);
            }
            Mode::Off => {
                self.rosters[group as usize].end();
                self.rosters[group as usize].forget_decisions();
            }
            Mode::Frozen | Mode::Silent => self.rosters[group as usize].end(),
        }
        self.schedule_announcement();
    }

    /// Forgets every flow of a group.
    fn forget(&mut self, group: u8) {
        let state = &mut self.groups[group as usize];
        state.eras.forgotten = state.eras.begin();
        (state.flows, state.copied, state.is_mirrored) = (0, 0, false);
        self.begin_sweep();
    }

    /// From now on new flows of the group are recorded, or not.
    pub fn set_mirrored(&mut self, group: u8, is_mirrored: bool) {
        self.groups[group as usize].is_mirrored = is_mirrored;
    }

    /// Nothing of the group is recorded any more: everything counts as committed.
    pub fn detach(&mut self, group: u8) {
        let state = &mut self.groups[group as usize];
        state.eras.begin();
        (state.copied, state.is_mirrored) = (0, false);
        self.begin_sweep();
    }

    /// Nothing of the flow in `slot`, both legs of it, is recorded any more.
    pub fn detach_flow(&mut self, now: Instant, slot: u32) {
        let other = self.flows[slot].app.other();
        self.detach_leg(now, slot);
        if let Some(other) = other {
            self.detach_leg(now, other);
        }
    }

    fn detach_leg(&mut self, now: Instant, slot: u32) {
        let flow = &self.flows[slot];
        if flow.standing == Standing::Copied {
            self.groups[flow.group as usize].copied -= 1;
        }
        self.stand_alone(now, slot);
    }

    /// The flow in `slot` stands alone, whatever it was.
    pub(super) fn stand_alone(&mut self, now: Instant, slot: u32) {
        let flow = &mut self.flows[slot];
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
        let is_taken = self.seek(now, &open.key).is_some() || !self.is_at_home(&open.key, id);
        let client = if id.is_server_leg() { Some(self.client_of(now, group, id)?) } else { None };
        let service = self.env.services.get(group as usize)?;
        if open.options.mss > service.mss_for(&open.key.local) || is_taken {
            return None;
        }
        self.make_room(now);
        let slot = self.insert(open, id, group, client)?;
        self.note_copy(now, slot);
        self.stick(now, slot);
        Some(slot)
    }

    /// As peer: puts an imported flow into a slot; `None` if the table is full, the key is taken or it is no
    /// flow of this core.
    pub fn adopt_copy(&mut self, now: Instant, captured: Captured) -> Option<u32> {
        self.make_room(now);
        let is_refused = captured.legs().any(|flow| {
            self.seek(now, &flow.key).is_some() || !self.is_at_home(&flow.key, flow.id)
        });
        if is_refused || self.flows.available() < captured.legs().count() {
            self.discard_import(captured);
            return None;
        }
        let Captured { flow, server } = captured;
        let slot = self.enter_copy(now, flow)?;
        if let Some(server) = server {
            let position = self.server_of(&server);
            let other = self.enter_copy(now, server)?;
            for (leg, other) in [(slot, other), (other, slot)] {
                if let Some(leg) = self.flows[leg].app.leg_mut() {
                    (leg.other, leg.server) = (other, position);
                }
            }
            self.stick(now, other);
        }
        Some(slot)
    }

    fn enter_copy(&mut self, now: Instant, mut flow: Flow) -> Option<u32> {
        if flow.id.is_server_leg() {
            let position = self.server_of(&flow);
            if let Some(leg) = flow.app.leg_mut() {
                leg.server = position;
            }
        }
        let slot = self.flows.take(flow)?;
        self.enter(slot);
        self.note_copy(now, slot);
        Some(slot)
    }

    /// What is in `slot` is a copy that has just come.
    fn note_copy(&mut self, now: Instant, slot: u32) {
        let flow = &mut self.flows[slot];
        flow.standing = Standing::Silent;
        flow.local.heard = Heard::at(now);
        self.kicks.note_copy(now, slot, flow.group);
    }

    /// Gives back what an imported flow holds that is not adopted.
    pub fn discard_import(&mut self, mut captured: Captured) {
        captured.release(&mut self.env);
    }

    /// As peer: applies a fact to a copy. `Ok(true)` if the flow, or the other leg of it, is over and gone.
    pub fn apply(
        &mut self,
        now: Instant,
        slot: u32,
        fact: &Fact,
    ) -> Result<bool, crate::output::OutOfMemory> {
        let lent = self.lend(now, slot);
        let flow = &mut self.flows[slot];
        flow.local.heard = Heard::at(now);
        let (received, acknowledged) = (flow.contract.rcv_nxt, flow.contract.snd_una);
        let applied = flow.apply(&mut self.env, fact);
        self.get_back(now, lent);
        applied?;
        let Contract { rcv_nxt, snd_una, .. } = self.flows[slot].contract;
        let moved = rcv_nxt.since(received).saturating_add(snd_una.since(acknowledged));
        self.kicks.note(now, slot, moved);
        let mut is_over = false;
        for slot in [Some(slot), lent.map(|lent| lent.slot)].into_iter().flatten() {
            if self.flows[slot].contract.state == State::Closed {
                self.remove(slot);
                is_over = true;
            }
        }
        Ok(is_over)
    }

    /// Where the group's flow with this name is, brought up to what the group has become. A node that came back for one group
    /// may have given the names of its former life again before it learnt, from another group, that they are in use.
    #[inline]
    pub fn seek_named(&mut self, now: Instant, group: u8, id: FlowId) -> Option<u32> {
        // A leg that has failed and the one after it have one name, until the peer knows of the failure.
        let is_it = |&slot: &u32| {
            let flow = &self.flows[slot];
            flow.id == id && flow.group == group && flow.contract.state != State::Closed
        };
        let slot = self.names.find(hash(id), is_it).copied()?;
        self.bring_up(now, slot).then_some(slot)
    }

    /// Where the flow with this name very likely is, or `NONE`. The first with a like hash: to compare names would be to
    /// wait for the flow.
    #[inline]
    pub fn guess_named(&self, id: FlowId) -> u32 {
        self.names.find(hash(id), |_| true).copied().unwrap_or(NONE)
    }

    /// As peer: forgets the group's copy with this name, both legs of it; answers the names of those there were.
    pub fn discard_copy_of(&mut self, now: Instant, group: u8, id: FlowId) -> [Option<FlowId>; 2] {
        [id.client_leg(), id.client_leg().other_leg()].map(|id| {
            let slot = self.seek_named(now, group, id)?;
            self.remove(slot);
            Some(id)
        })
    }

    /// The flow in `slot` is found by its name from here on.
    pub(super) fn name(&mut self, slot: u32) {
        let Stack { names, flows, .. } = self;
        names.insert_unique(hash(flows[slot].id), slot, |&slot| hash(flows[slot].id));
    }

    /// The flow in `slot` is not found by its name any more.
    pub(super) fn unname(&mut self, slot: u32) {
        let id = hash(self.flows[slot].id);
        if let Ok(entry) = self.names.find_entry(id, |&known| known == slot) {
            entry.remove();
        }
    }

    /// Begins to serve the copies of a group; answers how many there are. Those that were active lately are kicked, the
    /// busiest first; behind these every flow is probed at a low rate.
    pub fn promote(&mut self, now: Instant, group: u8) -> u32 {
        self.set_mode(now, group, Mode::Serving);
        self.env.grace_until[group as usize] = now + GRACE;
        let state = &mut self.groups[group as usize];
        state.eras.begin();
        let flows = state.flows;
        self.kicks.begin(now);
        self.begin_sweep();
        self.probes.begin(now, flows);
        flows
    }

    /// Every promoted flow gets one probe, at a low rate: what the former owner took and the
    /// peer never learnt (an RST, say) comes to light by the answer (DESIGN 9).
    pub(super) fn probe_promoted(&mut self, now: Instant) {
        let mut slots = SWEEP_SLOTS_MAX;
        for _ in 0..PROBES_PER_POLL {
            if self.probes.at > now {
                return;
            }
            let is_due = |slot: u32| {
                let flow = &self.flows[slot];
                let group = &self.groups[flow.group as usize];
                let is_resumed = flow.local.is_resumed || flow.standing == Standing::Silent;
                is_resumed && group.mode == Mode::Serving && !group.eras.inherited
            };
            while !(self.flows.is_used(self.probes.next) && is_due(self.probes.next)) {
                self.probes.next += 1;
                slots -= 1;
                if self.probes.next as usize >= self.flows.capacity() {
                    self.probes.at = Instant::MAX;
                    return;
                }
                if slots == 0 {
                    return;
                }
            }
            let slot = self.probes.next;
            self.probes.next += 1;
            self.probes.at += self.probes.every;
            if self.bring_up(now, slot) && self.flows[slot].in_grace(now, &self.env) {
                self.flows[slot].owe_probe();
                self.ready.push(self.flows[slot].group, slot);
            }
        }
    }

    /// Writes everything that a peer needs to carry the flow in `slot` on, both legs of it.
    pub fn export(&self, slot: u32, out: &mut Vec<u8>) {
        let flow = &self.flows[slot];
        let server = flow.app.other().map(|other| &self.flows[other]);
        Captured::export((flow, server), &self.env, out);
    }

    /// Reads what `export` wrote, into the pools of this stack.
    pub fn import(
        &mut self,
        group: u8,
        bytes: &[u8],
    ) -> Result<Captured, crate::codec::ImportError> {
        Captured::import(&mut self.env, group, bytes)
    }

    /// What two holders of a flow must agree on at equal op.
    pub fn digest(&self, slot: u32, scratch: &mut Vec<u8>) -> u64 {
        self.flows[slot].digest(&self.env, scratch)
    }
}

/// The walk over promoted flows that are to be probed.
pub(super) struct Probes {
    /// When the next is due; MAX if there is none.
    at: Instant,
    every: Duration,
    next: u32,
}

impl Default for Probes {
    fn default() -> Probes {
        Probes { at: Instant::MAX, every: PROBE_INTERVAL, next: 0 }
    }
}

impl Probes {
    /// So many flows are to be probed, all of them within half of the time in which their answers are believed.
    fn begin(&mut self, now: Instant, flows: u32) {
        let share = GRACE.0 / 2 / flows.max(1) as u64;
        *self =
            Probes { at: now + PROBE_AFTER, every: Duration(share.min(PROBE_INTERVAL.0)), next: 0 };
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        (self.at != Instant::MAX).then_some(self.at)
    }
}

/// Names are counters of an owner: a multiplication spreads them well enough.
#[inline]
fn hash(id: FlowId) -> u64 {
    id.0.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(26)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::app::AppConfig;
    use crate::content::Content;
    use crate::fact::Syn;
    use crate::key::FlowKey;
    use crate::limits::CONNECT_TIMEOUT;
    use crate::seq::Seq;
    use crate::service::{ArpPolicy, HOP_LIMIT, Service};
    use crate::shard::Place;
    use crate::stack::StackConfig;
    use crate::tcp::contract::Options;
    use crate::tcp::sender::SenderConfig;
    use crate::wire::Address;
    use alloc::vec;

    pub fn service(port: u16) -> Service {
        Service {
            addresses: vec![Address::v4([10, 0, 0, 1])],
            arp: ArpPolicy::default(),
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
            snoop: false,
            upstream: Default::default(),
        }
    }

    pub fn config(flows_max: usize) -> StackConfig {
        StackConfig {
            node: 2,
            place: Place::ALONE,
            mac: [2; 6],
            secret: [7; 32],
            flows_max,
            active_max: 4,
            segments_max: 4,
            chunks_max: 64,
            pieces_max: 64,
            uploads_max: 1,
            reassemblies_max: 1,
            link_mbits: 10_000,
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
        Open { key, next_hop: [2; 6], iss: Seq(7), options, syn }
    }

    /// Two owners may have given one name: what is said of one copy never reaches the other.
    #[test]
    fn copies_of_two_groups_may_have_one_name() {
        let mut stack = Stack::new(&config(4), vec![service(80), service(81)]);
        let (now, id) = (Instant(1 << 40), FlowId::new(1, 5, 1));
        let slots = [0, 1].map(|group| {
            stack.set_mode(now, group, Mode::Silent);
            let open = open(&stack, group, 5);
            stack.discard_copy_of(now, group, id);
            stack.open_copy(now, &open, id, group).expect("there is room")
        });
        let places = |stack: &mut Stack| [0, 1].map(|group| stack.seek_named(now, group, id));
        assert_eq!(places(&mut stack), slots.map(Some));
        stack.discard_copy_of(now, 1, id);
        assert_eq!(places(&mut stack), [Some(slots[0]), None]);
    }

    /// Version, key, name and next hop are before the service of an IPv4 flow of the format before.
    const SERVICE_AT: usize = 1 + 13 + 8 + 6;

    /// The format before knew no legs: nothing follows the flow in it; and it named a service by its position.
    #[test]
    fn the_snapshot_before_is_read() {
        let mut stack = Stack::new(&config(4), vec![service(80)]);
        let (now, id) = (Instant(1 << 40), FlowId::new(1, 5, 1));
        stack.set_mode(now, 0, Mode::Silent);
        let open = open(&stack, 0, 5);
        let slot = stack.open_copy(now, &open, id, 0).expect("there is room");
        let (mut bytes, mut again) = (Vec::new(), Vec::new());
        stack.export(slot, &mut bytes);
        assert_eq!((bytes[0], bytes.pop()), (3, Some(0)));
        bytes[0] = 2;
        bytes.insert(SERVICE_AT, 0);
        stack.discard_copy_of(now, 0, id);
        let captured = stack.import(0, &bytes).expect("a flow of the version before");
        let slot = stack.adopt_copy(now, captured).expect("there is room");
        stack.export(slot, &mut again);
        bytes.remove(SERVICE_AT);
        assert_eq!(again[1..again.len() - 1], bytes[1..]);
    }
}
