//! What leaves: announcements and a few small answers, then the flows that have something to say, in turn, then
//! the other small answers: however many ask, flows have most of a burst.
//!
//! Path: step 7. Without the lease a group is mute: its flows wait in their queue.

use super::{Group, Mode, Stack};
use crate::limits::{
    ANNOUNCE_AFTER_MS, ANNOUNCE_AGAIN, ANNOUNCE_PAUSE, DEFEND_INTERVAL, SILENT_FLOWS_MAX,
    TURN_FRAMES,
};
use crate::reply::{Replies, Reply};
use crate::service::ArpPolicy;
use crate::time::{Duration, Instant};
use crate::wire::{Address, Mac, Superframe};
use core::ops::Range;

/// Where a frame says from which hardware address it comes.
const SOURCE_MAC: Range<usize> = 6..12;

/// How far the announcement of a group's addresses is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Announcing {
    from: Instant,
    /// How often every address was announced since.
    rounds: usize,
    /// Addresses announced in this round.
    told: usize,
}

impl Stack {
    /// Writes the next frame into `buffer`; answers its length and its group. `None`: nothing to say now.
    pub fn poll_transmit(&mut self, now: Instant, buffer: &mut [u8]) -> Option<(usize, u8)> {
        if now >= self.announce_at {
            self.announce(now);
        }
        if let Some(sent) = self.transmit_small(Replies::pop_first, buffer) {
            return Some(sent);
        }
        // A group that changes its role has all of its flows asked: not in one poll.
        for _ in 0..SILENT_FLOWS_MAX {
            let Some(slot) = self.ready.front(self.speaking) else { break };
            if !self.bring_up(now, slot) {
                continue;
            }
            let flow = &mut self.flows[slot];
            let group = flow.group;
            let state = &self.groups[group as usize];
            let ts_now = (state.clock(now).millis() as u32).wrapping_add(flow.local.ts_offset);
            let bytes = flow.poll_transmit(now, ts_now, &mut self.env, &state.mac, buffer);
            if bytes > 0 {
                self.count_turn(now, slot, 1);
                return Some((bytes, group));
            }
            self.rest(now, slot);
            self.end_turn(group);
        }
        self.transmit_small(Replies::pop, buffer)
    }

    /// Writes the next frame into `buffer`, of [`SUPERFRAME_BYTES_MAX`] bytes, if it is a superframe, of up to `segments_max`
    /// segments; answers it and its group. `None`: it is none, ask [`Stack::poll_transmit`]. For whoever has them cut.
    ///
    /// [`SUPERFRAME_BYTES_MAX`]: crate::limits::SUPERFRAME_BYTES_MAX
    pub fn poll_superframe(
        &mut self,
        now: Instant,
        buffer: &mut [u8],
        segments_max: usize,
    ) -> Option<(Superframe, u8)> {
        if now >= self.announce_at || self.replies.has_first() {
            return None;
        }
        let slot = self.ready.front(self.speaking)?;
        if !self.bring_up(now, slot) {
            return None;
        }
        let flow = &mut self.flows[slot];
        let group = flow.group;
        let state = &self.groups[group as usize];
        let ts_now = (state.clock(now).millis() as u32).wrapping_add(flow.local.ts_offset);
        let room = (buffer, segments_max as u32);
        let frame = flow.poll_superframe(now, ts_now, &mut self.env, &state.mac, room)?;
        self.count_turn(now, slot, TURN_FRAMES);
        Some((frame, group))
    }

    /// A flow has said something, which counts as so many frames of its turn: it goes on, or others have theirs.
    #[inline]
    fn count_turn(&mut self, now: Instant, slot: u32, frames: u8) {
        self.counters.tx_frames += 1;
        let flow = &self.flows[slot];
        let group = flow.group;
        if !flow.has_more(&self.env) {
            self.rest(now, slot);
            self.end_turn(group);
            return;
        }
        self.turn += frames;
        if self.turn >= TURN_FRAMES {
            self.ready.remove(group, slot);
            self.ready.push(group, slot);
            self.end_turn(group);
        }
    }

    /// A flow of the group had its turn.
    #[inline]
    fn end_turn(&mut self, group: u8) {
        self.ready.pass_turn(group);
        self.turn = 0;
    }

    fn transmit_small(
        &mut self,
        next: impl Fn(&mut Replies) -> Option<Reply>,
        buffer: &mut [u8],
    ) -> Option<(usize, u8)> {
        while let Some(reply) = next(&mut self.replies) {
            let group = &self.groups[reply.group() as usize];
            if group.mode == Mode::Serving && !group.is_mute {
                self.counters.tx_frames += 1;
                let service = &self.env.services[reply.group() as usize];
                let (mac, hop_limit) = (service.mac(&self.mac), service.hop_limit);
                let bytes = reply.emit(&mac, hop_limit, buffer);
                buffer[SOURCE_MAC].copy_from_slice(&group.mac);
                return Some((bytes, reply.group()));
            }
        }
        None
    }

    /// Queues the announcements that are due. Those that find no room come in a moment, before those of any other round.
    pub(super) fn announce(&mut self, now: Instant) {
        for (index, group) in self.groups.iter_mut().enumerate() {
            if group.next_announcement().is_none_or(|at| at > now) {
                continue;
            }
            let service = &self.env.services[index];
            let Some(announcing) = &mut group.announcing else { continue };
            for address in service.held_addresses().skip(announcing.told) {
                if self.replies.push(Reply::announce(*address, index as u8), true).is_err() {
                    self.announce_at = now + ANNOUNCE_PAUSE;
                    return;
                }
                announcing.told += 1;
            }
            let is_kept = matches!(service.arp, ArpPolicy::VirtualMac(_)) && !service.snoop;
            announcing.end_round(now, is_kept);
        }
        self.schedule_announcement();
    }

    /// Somebody else claims an address of a served group: it is announced again, at once and repeatedly.
    pub(super) fn defend(&mut self, now: Instant, index: usize, address: Address, mac: Mac) {
        self.counters.address_conflicts += 1;
        let group = &mut self.groups[index];
        let count = group.conflict.map_or(0, |conflict| conflict.count) + 1;
        group.conflict = Some(Conflict { address, mac, at: now, count });
        if now >= group.defend_at {
            group.defend_at = now + DEFEND_INTERVAL;
            group.announcing = Some(Announcing::from(now));
            self.schedule_announcement();
        }
    }

    pub(super) fn schedule_announcement(&mut self) {
        let next = self.groups.iter().filter_map(Group::next_announcement).min();
        self.announce_at = next.unwrap_or(Instant::MAX);
    }

    /// Gives or takes the right to speak for a group; what waits for it waits in its queue.
    #[inline]
    pub fn set_voice(&mut self, group: u8, has_voice: bool) {
        if self.groups[group as usize].is_mute != has_voice {
            return;
        }
        self.groups[group as usize].is_mute = !has_voice;
        self.note_speaking(group);
        self.schedule_announcement();
    }

    /// A group has got or lost its voice, or is served or not.
    pub(super) fn note_speaking(&mut self, group: u8) {
        let state = &self.groups[group as usize];
        let speaks = state.mode == Mode::Serving && !state.is_mute;
        self.speaking = self.speaking & !(1 << group) | (speaks as u64) << group;
        self.choose_macs();
    }

    /// From which hardware address each group speaks. What is sent to one that belongs to a service is taken only by who
    /// serves it.
    pub(super) fn choose_macs(&mut self) {
        for (index, group) in self.groups.iter_mut().enumerate() {
            let is_left = group.newest as usize != index;
            let own = self.env.services[index].source_mac(&self.mac);
            group.mac = if is_left { self.mac } else { own };
        }
        let groups = self.groups.iter().zip(&self.env.services).enumerate();
        let macs = groups.filter_map(|(index, (group, service))| match service.arp {
            ArpPolicy::VirtualMac(mac)
                if group.mode == Mode::Serving && group.newest as usize == index =>
            {
                Some(mac)
            }
            _ => None,
        });
        self.service_macs.clear();
        self.service_macs.extend(macs);
    }
}

/// Somebody else has claimed an address of ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Conflict {
    /// The address.
    pub address: Address,
    /// Who claimed it last.
    pub mac: Mac,
    /// When.
    pub at: Instant,
    /// How often somebody claimed one of the group's.
    pub count: u64,
}

impl Conflict {
    /// What two cores have seen: the later one, and how many in all.
    pub fn joined(self, other: Conflict) -> Conflict {
        let last = if other.at > self.at { other } else { self };
        Conflict { count: self.count + other.count, ..last }
    }
}

impl Group {
    /// When the addresses are to be announced next.
    pub(super) fn next_announcement(&self) -> Option<Instant> {
        if self.is_mute {
            return None;
        }
        let Announcing { from, rounds, .. } = self.announcing?;
        let after = ANNOUNCE_AFTER_MS.get(rounds)?;
        Some(from + Duration::from_millis(*after))
    }
}

impl Announcing {
    /// Nothing is announced yet.
    pub fn from(now: Instant) -> Announcing {
        Announcing { from: now, rounds: 0, told: 0 }
    }

    /// Every address was announced. A hardware address that moves with the service is announced for ever.
    fn end_round(&mut self, now: Instant, is_kept: bool) {
        self.told = 0;
        self.rounds += 1;
        let last = ANNOUNCE_AFTER_MS.len() - 1;
        if is_kept && self.rounds > last {
            let again = Duration(ANNOUNCE_AGAIN.0 - ANNOUNCE_AFTER_MS[last] * 1_000_000);
            (self.from, self.rounds) = (now + again, last);
        }
    }
}
