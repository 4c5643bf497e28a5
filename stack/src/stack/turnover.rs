//! A change of role reaches the group at once, and each of its flows when it is next touched: by a segment, a timer or a
//! record, and at the latest when the sweep comes by.
//!
//! ```text
//! promote, detach, forget, demote: the group's era ends
//! bring_up(slot): of an earlier era?   forgotten since -> gone
//!                                      served, and handed over since -> a silent copy
//!                                      a copy, and served now -> resumed (copied, if the former owner has it all)
//!                                      recorded for a peer that is none any more -> stands alone
//! ```
//!
//! So taking a million connections over costs no more than taking over one, until each of them is needed. Everything that
//! looks at a flow asks [`Stack::bring_up`] first; what only counts or shows flows passes over those that are forgotten.
//!
//! Bounds: [`SWEEP_SLOTS_MAX`] slots looked at and [`SWEEP_FLOWS_MAX`] flows brought up in one poll.

use super::{Mode, Stack};
use crate::app::proxy::Proxy;
use crate::flow::Standing;
use crate::limits::{KICK_RECENT, KICKS_PER_POLL, SWEEP_FLOWS_MAX, SWEEP_SLOTS_MAX};
use crate::tcp::deadline::Wait;
use crate::tcp::state::State;
use crate::time::Instant;

/// What has become of a group, counted: a flow carries the era in which it was last brought up.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Eras {
    /// The present one.
    pub present: u32,
    /// Flows of earlier ones are forgotten.
    pub forgotten: u32,
    /// What was served in earlier ones was handed over.
    pub yielded: u32,
    /// Copies that are served now are held by their former owner, too.
    pub inherited: bool,
}

impl Eras {
    /// A new era begins. Once round would take four billion changes between two sweeps.
    pub fn begin(&mut self) -> u32 {
        self.present += 1;
        self.inherited = false;
        self.present
    }
}

/// A walk over all slots, some of them in one poll. What begins it anew makes it go once round from where it is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Walk {
    next: u32,
    left: u32,
}

impl Walk {
    /// Over so many slots.
    pub fn begin(&mut self, slots: usize) {
        self.left = slots as u32;
    }

    /// Whether some have not been looked at.
    pub fn is_under_way(&self) -> bool {
        self.left > 0
    }

    /// The slot to look at.
    pub fn slot(&self) -> Option<u32> {
        self.is_under_way().then_some(self.next)
    }

    /// The next one, of so many.
    pub fn advance(&mut self, slots: usize) {
        self.next = (self.next + 1) % slots as u32;
        self.left -= 1;
    }
}

/// The walk over all slots after a change.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sweep {
    walk: Walk,
    /// Where it waits for a kick's turn: until then.
    again_at: Instant,
}

impl Stack {
    /// The flows of all groups are looked at once from here on.
    pub(super) fn begin_sweep(&mut self) {
        self.sweep.walk.begin(self.flows.capacity());
        self.sweep.again_at = Instant::ZERO;
    }

    /// Whether some flows may not have been brought up yet.
    pub fn is_turning(&self) -> bool {
        self.sweep.walk.is_under_way()
    }

    /// Whether some of the busiest wait to be woken: clients stand still meanwhile.
    pub fn is_waking(&self) -> bool {
        self.kicks.poll_timeout().is_some()
    }

    /// When the sweep or the kicks go on.
    pub(super) fn turnover_timeout(&self) -> Option<Instant> {
        self.kicks.poll_timeout().or(self.is_turning().then_some(self.sweep.again_at))
    }

    /// Whether the flow in `slot` is of a time before its group was forgotten.
    pub(super) fn is_forgotten(&self, slot: u32) -> bool {
        let flow = &self.flows[slot];
        flow.era < self.groups[flow.group as usize].eras.forgotten
    }

    /// Brings the flow in `slot` up to what its group has become; `false` if it is gone by that.
    #[inline]
    pub(super) fn bring_up(&mut self, now: Instant, slot: u32) -> bool {
        let flow = &self.flows[slot];
        flow.era == self.groups[flow.group as usize].eras.present || self.turn_over(now, slot)
    }

    #[cold]
    fn turn_over(&mut self, now: Instant, slot: u32) -> bool {
        self.counters.turned_over += 1;
        if self.is_forgotten(slot) {
            self.remove(slot);
            return false;
        }
        let flow = &mut self.flows[slot];
        let group = &self.groups[flow.group as usize];
        if flow.standing != Standing::Silent && flow.era < group.eras.yielded {
            if flow.contract.state == State::Closed || flow.standing == Standing::Absent {
                self.remove(slot);
                return false;
            }
            self.fall_silent(now, slot);
        }
        let flow = &mut self.flows[slot];
        let group = &self.groups[flow.group as usize];
        flow.era = group.eras.present;
        if matches!(group.mode, Mode::Serving | Mode::Frozen) {
            match flow.standing {
                Standing::Silent => self.resume(now, slot),
                Standing::Copied => self.stand_alone(now, slot),
                Standing::Absent => {}
            }
        }
        // One that was over and waited only for the peer to hold that is gone.
        self.flows.is_used(slot)
    }

    /// What an owner served becomes a copy.
    fn fall_silent(&mut self, now: Instant, slot: u32) {
        self.wheel.disarm(slot);
        let flow = &mut self.flows[slot];
        self.ready.remove(flow.group, slot);
        self.syn_received -= flow.local.is_half_open as u32;
        flow.fall_silent(&mut self.env);
        self.kicks.note_copy(now, slot, flow.group);
    }

    /// A copy is served from here on. If it was active lately it wakes its client.
    fn resume(&mut self, now: Instant, slot: u32) {
        self.kicks.forget(slot);
        let is_due = self.is_kick_due(now, slot);
        let flow = &mut self.flows[slot];
        let group = &self.groups[flow.group as usize];
        let ts_offset = self.keys.timestamp_offset(&flow.key);
        let ts_now = (group.clock(now).millis() as u32).wrapping_add(ts_offset);
        let service = &self.env.services[flow.group as usize];
        flow.resume(now, ts_now, ts_offset, service);
        if group.eras.inherited {
            flow.standing = Standing::Copied;
        }
        if flow.contract.state == State::SynReceived && !flow.contract.is_active {
            flow.local.is_half_open = true;
            self.syn_received += 1;
        }
        if flow.app.leg().is_some_and(Proxy::lacks_server) {
            flow.local.deadlines.set(Wait::Room, now);
        }
        if flow.contract.state == State::TimeWait {
            self.uncount_leg(slot);
        }
        let flow = &mut self.flows[slot];
        let deadline = flow.poll_timeout(now, &self.env);
        self.wheel.arm(slot, deadline);
        if is_due {
            flow.owe_kick();
            self.ready.push(flow.group, slot);
        }
    }

    /// Whether the copy in `slot` wakes its client when it is served.
    fn is_kick_due(&self, now: Instant, slot: u32) -> bool {
        let flow = &self.flows[slot];
        let is_served = self.groups[flow.group as usize].mode == Mode::Serving;
        // Whoever opens must say so again: nobody will ask.
        let is_opening = flow.contract.is_active && !flow.contract.state.is_synchronized();
        is_served
            && !self.is_forgotten(slot)
            && flow.standing == Standing::Silent
            && (flow.local.heard.silence(now) <= KICK_RECENT || is_opening)
    }

    /// Goes on with what a change of role has left to do: the kicks first, then every other flow.
    pub(super) fn sweep_some(&mut self, now: Instant) {
        self.kick_some(now);
        if !self.is_turning() || self.kicks.poll_timeout().is_some() {
            return;
        }
        let Sweep { mut walk, .. } = self.sweep;
        let mut again_at = Instant::ZERO;
        let mut flows = SWEEP_FLOWS_MAX;
        for _ in 0..SWEEP_SLOTS_MAX {
            let Some(next) = walk.slot() else { break };
            if self.is_behind(next) {
                if flows == 0 {
                    break;
                }
                // More were active than could be put into order: they are woken as they come.
                if self.is_kick_due(now, next)
                    && let Err(at) = self.kicks.take_turn(now)
                {
                    again_at = at;
                    break;
                }
                self.turn_over(now, next);
                flows -= 1;
            }
            self.counters.swept += 1;
            walk.advance(self.flows.capacity());
        }
        self.sweep = Sweep { walk, again_at };
    }

    fn is_behind(&self, slot: u32) -> bool {
        self.flows.is_used(slot) && {
            let flow = &self.flows[slot];
            flow.era != self.groups[flow.group as usize].eras.present
        }
    }

    /// Wakes a few of the busiest copies that are served now, if it is their turn.
    fn kick_some(&mut self, now: Instant) {
        self.kicks.select(&self.groups);
        for _ in 0..KICKS_PER_POLL {
            let Some(slot) = self.kicks.next(now) else { break };
            if self.is_behind(slot) {
                self.turn_over(now, slot);
            }
        }
    }

    /// A table that is full of what is forgotten has room.
    pub(super) fn make_room(&mut self, now: Instant) {
        if self.flows.available() == 0 && self.is_turning() {
            self.sweep_some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::roles::tests::{config, service};
    use super::*;
    use crate::fact::{Acked, Fact, Open, Syn};
    use crate::flow::FlowId;
    use crate::key::FlowKey;
    use crate::limits::KICKS_MAX;
    use crate::recorder::Unmirrored;
    use crate::seq::Seq;
    use crate::tcp::contract::Options;
    use crate::time::Duration;
    use crate::wire::Address;
    use alloc::vec;
    use alloc::vec::Vec;

    const FLOWS: u32 = 20_000;
    const START: Instant = Instant(1 << 40);

    fn key(n: u32) -> FlowKey {
        FlowKey {
            remote: Address::v4([10, 1, (n >> 8) as u8, n as u8]),
            local: Address::v4([10, 0, 0, 1]),
            remote_port: 1_000 + (n >> 16) as u16,
            local_port: 80,
        }
    }

    /// A peer with established copies, of which every thousandth has moved some bytes, the later ones more.
    fn peer(flows: u32) -> Stack {
        let mut stack = Stack::new(&config(flows as usize), vec![service(80)]);
        stack.set_mode(START, 0, Mode::Silent);
        for n in 0..flows {
            let syn = Some(Syn { irs: Seq(1), ts_recent: 0, snd_wnd: 1_000 });
            let options = Options { mss: 1460, ..Options::default() };
            let key = key(n);
            let open = Open { key, next_hop: [2; 6], iss: Seq(7), options, syn };
            let id = FlowId::new(1, stack.shard_of(&key), n as u64);
            let slot = stack.open_copy(START, &open, id, 0).expect("there is room");
            let acked = Acked { snd_una: Seq(8), snd_wnd: 1_000, ..Acked::default() };
            stack.apply(START, slot, &Fact::Acked(acked)).expect("it is its SYN");
        }
        stack
    }

    fn copy_of(stack: &Stack, n: u32) -> u32 {
        stack.find(&key(n)).expect("it is there")
    }

    /// The most that one poll of those until nothing is left has brought up and has looked at, and how many polls.
    fn sweep(stack: &mut Stack, now: &mut Instant) -> (u64, u64, u32) {
        let (mut flows, mut slots, mut polls) = (0, 0, 0);
        while stack.is_turning() {
            let (before, swept) = (stack.counters.turned_over, stack.counters.swept);
            stack.handle_timeouts(*now, &mut Unmirrored);
            flows = flows.max(stack.counters.turned_over - before);
            slots = slots.max(stack.counters.swept - swept);
            *now += Duration::from_micros(100);
            polls += 1;
        }
        (flows, slots, polls)
    }

    /// However many flows: an order touches none of them, and no poll more than it may.
    #[test]
    fn a_change_of_role_is_spread_over_polls() {
        let mut stack = peer(FLOWS);
        let mut now = START + Duration::from_secs(60);
        type Change = fn(&mut Stack, Instant);
        let changes: [(&str, Change); 6] = [
            ("promote", |stack, now| assert_eq!(stack.promote(now, 0), FLOWS)),
            ("attach_all", |stack, _| {
                stack.detach(0);
                stack.attach_all(0);
            }),
            ("detach", |stack, _| stack.detach(0)),
            ("freeze, demote", |stack, _| {
                stack.attach_all(0);
                stack.freeze(0);
                stack.demote(0);
            }),
            ("mute, voice", |stack, _| {
                stack.set_voice(0, false);
                stack.set_voice(0, true);
            }),
            ("off", |stack, now| stack.set_mode(now, 0, Mode::Off)),
        ];
        for (name, change) in changes {
            let before = (stack.counters.turned_over, stack.counters.swept);
            change(&mut stack, now);
            assert_eq!((stack.counters.turned_over, stack.counters.swept), before, "{name}");
            let (flows, slots, _) = sweep(&mut stack, &mut now);
            assert!(flows <= (SWEEP_FLOWS_MAX + KICKS_PER_POLL) as u64, "{name}: {flows} flows");
            assert!(slots <= SWEEP_SLOTS_MAX as u64, "{name}: {slots} slots");
        }
        assert_eq!((stack.flows.used(), stack.group(0).flows()), (0, 0));
        assert!(stack.names.is_empty() && stack.table.is_empty() && stack.wheel.armed() == 0);
    }

    /// The busiest of those that were active lately come first; silent ones are not kicked at all.
    #[test]
    fn the_busiest_are_woken_first() {
        let mut stack = peer(FLOWS);
        let mut now = START + Duration::from_secs(60);
        let busy: Vec<u32> = (0..10).map(|n| copy_of(&stack, n * 1_777)).collect();
        for (n, &slot) in busy.iter().enumerate() {
            let moved = vec![7; 4 << n];
            stack.apply(now, slot, &Fact::Data(&moved)).expect("there is room");
        }
        now += Duration::from_millis(500);
        assert!(!stack.is_waking());
        stack.promote(now, 0);
        assert!(stack.is_waking());
        let (mut woken, mut buffer) = (Vec::new(), [0; 2048]);
        while woken.len() < busy.len() {
            stack.handle_timeouts(now, &mut Unmirrored);
            while let Some((bytes, _)) = stack.poll_transmit(now, &mut buffer) {
                if bytes >= 54 && buffer[12..14] == [8, 0] {
                    woken.push(u32::from_be_bytes(buffer[30..34].try_into().unwrap()));
                }
            }
            now += Duration::from_micros(5);
        }
        let source = |slot: &u32| {
            let remote = stack.flows[*slot].key.remote.as_v4().expect("an IPv4 client");
            u32::from_be_bytes(remote)
        };
        let expected: Vec<u32> = busy.iter().rev().map(source).collect();
        assert_eq!(woken, expected);
        sweep(&mut stack, &mut now);
        let kicked = stack.slots().filter(|&slot| stack.flows[slot].local.owed.kick).count();
        assert_eq!(kicked, 0, "nobody else was active");
        assert!(!stack.is_waking());
    }

    /// More were active than can be put into order: all of them are woken, no faster than a quarter of the link takes.
    #[test]
    fn more_active_copies_than_the_list_holds_are_all_woken() {
        let flows = KICKS_MAX as u32 + 3_000;
        let mut stack = peer(flows);
        let mut now = START + Duration::from_secs(1);
        stack.promote(now, 0);
        let begun = now;
        sweep(&mut stack, &mut now);
        let owing = stack.slots().filter(|&slot| stack.flows[slot].local.owed.kick).count();
        assert_eq!(owing, flows as usize);
        // A frame of full size takes 1.23 us of 10 Gbit/s, and a quarter is the kicks'.
        assert!(now.0 - begun.0 >= (flows - KICKS_PER_POLL) as u64 * 4_900);
    }

    /// A segment does not wait for the sweep: its flow is brought up, answers, and is what it was.
    #[test]
    fn a_flow_that_is_needed_is_brought_up_at_once() {
        let mut stack = peer(FLOWS);
        let now = START + Duration::from_secs(60);
        stack.promote(now, 0);
        let slot = stack.seek(now, &key(FLOWS - 1)).expect("it is served");
        assert_eq!(stack.flows[slot].standing, Standing::Absent);
        assert!(stack.flows[slot].local.is_resumed && stack.wheel.is_armed(slot));
        assert_eq!(stack.counters.turned_over, 1);
        stack.set_mode(now, 0, Mode::Off);
        assert_eq!((stack.find(&key(1)), stack.slots().count()), (None, 0));
        assert_eq!(stack.seek(now, &key(1)), None, "it is forgotten");
    }

    /// Roles that change faster than the sweep goes round: handed over, and back again before it has come by.
    #[test]
    fn changes_that_overtake_each_other_end_in_the_last() {
        let mut stack = peer(2_000);
        let mut now = START + Duration::from_secs(60);
        stack.promote(now, 0);
        stack.attach_all(0);
        sweep(&mut stack, &mut now);
        let alone = copy_of(&stack, 5);
        stack.detach_flow(now, alone);
        stack.freeze(0);
        stack.demote(0);
        stack.promote(now, 0);
        stack.attach_all(0);
        sweep(&mut stack, &mut now);
        // The one that the other node never held is gone, whatever came of it there.
        let group = stack.group(0);
        assert_eq!((stack.find(&key(5)), group.flows(), group.copied()), (None, 1_999, 1_999));
        assert!(stack.slots().all(|slot| stack.flows[slot].local.is_resumed));
        assert!(stack.slots().all(|slot| stack.flows[slot].standing == Standing::Copied));
        stack.promote(now, 0);
        stack.detach(0);
        sweep(&mut stack, &mut now);
        assert_eq!(stack.group(0).copied(), 0);
        assert!(stack.slots().all(|slot| stack.flows[slot].standing == Standing::Absent));
    }

    /// A table full of what is forgotten takes new copies at once.
    #[test]
    fn what_is_forgotten_makes_room() {
        let mut stack = peer(3_000);
        let now = START + Duration::from_secs(60);
        stack.set_mode(now, 0, Mode::Off);
        stack.set_mode(now, 0, Mode::Silent);
        for n in 0..2_000 {
            let options = Options { mss: 1460, ..Options::default() };
            let key = key(n);
            let open = Open { key, next_hop: [2; 6], iss: Seq(9), options, syn: None };
            let id = FlowId::new(1, stack.shard_of(&key), n as u64);
            stack.open_copy(now, &open, id, 0).expect("what is forgotten makes room");
        }
        assert_eq!((stack.group(0).flows(), stack.slots().count()), (2_000, 2_000));
    }
}
