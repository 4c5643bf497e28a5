//! Segments without a flow: they open one, find a cookie's memory, or are answered with RST; and the small
//! questions that are about addresses, not flows.
//!
//! Path: step 3. Spec: RFC 9293 3.10.7.1 and 3.10.7.2, RFC 4987 3.6, RFC 6191, RFC 826, 4861, 792.

use super::{Mode, Origin, Stack, spread};
use crate::drop::Drop;
use crate::fact::{Fact, Open, Syn, Tick};
use crate::flow::{Flow, FlowId, Standing};
use crate::key::FlowKey;
use crate::limits::COOKIE_GRACE;
use crate::recorder::{Lane, Recorder};
use crate::reply::Reply;
use crate::seq::Seq;
use crate::service::ArpPolicy;
use crate::tcp::contract::Options;
use crate::tcp::state::State;
use crate::time::Instant;
use crate::wire::{Address, Flags, Frame, Mac, Segment};

impl Stack {
    /// A segment without a flow: it may open one, or is answered with RST.
    pub(super) fn handle_stray<R: Recorder>(
        &mut self,
        now: Instant,
        key: FlowKey,
        segment: &Segment,
        recorder: &mut R,
    ) -> Result<(), Drop> {
        let Some(index) = self.newcomers_of(&key) else { return Err(Drop::NoService) };
        if self.groups[index].mode != Mode::Serving {
            return Err(self.groups[index].refusal());
        }
        if !self.place.holds(self.shard_of(&key)) {
            return Err(Drop::OtherCore);
        }
        if self.groups[index].is_closed {
            return Err(Drop::Frozen);
        }
        if self.groups[index].asked.is_some() && self.origin != Origin::Answer {
            return Err(Drop::NotOwner);
        }
        if segment.flags.has(Flags::RST) {
            return Err(Drop::StrayReset);
        }
        // What was promised by a cookie is kept.
        let is_promised = segment.flags.has(Flags::ACK) && now < self.groups[index].cookies_until;
        if self.groups[index].is_leaving && !is_promised {
            self.reset(segment, index as u8)?;
            return Err(Drop::Leaving);
        }
        if self.env.services[index].connects_from(&key.local, key.local_port) {
            self.reset(segment, index as u8)?;
            return Err(Drop::NoFlow);
        }
        if self.origin == Origin::Overheard && !segment.flags.has(Flags::SYN) {
            return Err(Drop::ForwardedUnknown);
        }
        if segment.flags.has(Flags::ACK) {
            let opened = self.open_by_cookie(now, key, index as u8, segment, recorder);
            return opened.or_else(|reason| {
                let is_later = match reason {
                    // What finds no room now does when the client says it again: the cookie is still good.
                    Drop::LogFull | Drop::PoolExhausted => true,
                    // Only the first segment shows what the cookie is of; this one may have overtaken it.
                    Drop::BadCookie => now < self.groups[index].cookies_until,
                    _ => false,
                };
                if !is_later {
                    self.reset(segment, index as u8)?;
                }
                Err(reason)
            });
        }
        if !segment.flags.has(Flags::SYN) || segment.flags.has(Flags::FIN) {
            self.reset(segment, index as u8)?;
            return Err(Drop::NoFlow);
        }
        let is_heard = self.origin == Origin::Overheard;
        if self.syn_received >= self.backlog_max
            || is_heard
            || self.has_cookie(now, &key, index, segment)
        {
            return self.send_cookie(now, key, index as u8, segment);
        }
        let clock = self.groups[index].clock(now);
        let iss = self.keys.iss(&key, clock);
        let open = self.opening(key, index as u8, segment, iss);
        self.open(now, open, index as u8, recorder).map(|_| ())
    }

    /// What a SYN and our limits agree on.
    fn opening(&self, key: FlowKey, service: u8, segment: &Segment, iss: Seq) -> Open {
        Open {
            key,
            next_hop: segment.source_mac,
            iss,
            options: Options::agreed(segment, &self.env.services[service as usize]),
            syn: Some(Syn::of(segment)),
        }
    }

    /// A flow begins, opened by either side.
    pub(super) fn open<R: Recorder>(
        &mut self,
        now: Instant,
        open: Open,
        group: u8,
        recorder: &mut R,
    ) -> Result<u32, Drop> {
        let is_mirrored = self.groups[group as usize].is_mirrored;
        if !self.env.memory.has_room_for(0) {
            return Err(Drop::PoolExhausted);
        }
        let shard = self.shard_of(&open.key);
        if is_mirrored && recorder.room(Lane { group, shard }, 0, false).is_none() {
            return Err(Drop::LogFull);
        }
        let births = &mut self.births[shard as usize];
        *births += 1;
        let id = FlowId::new(self.node, shard, *births);
        self.make_room(now);
        let slot = self.insert(&open, id, group, None).ok_or(Drop::FlowTableFull)?;
        let standing = if is_mirrored { Standing::Copied } else { Standing::Absent };
        self.begin(now, slot, open, standing, recorder);
        self.counters.opened += 1;
        Ok(slot)
    }

    /// The new flow in `slot` is served from here on.
    pub(super) fn begin<R: Recorder>(
        &mut self,
        now: Instant,
        slot: u32,
        open: Open,
        standing: Standing,
        recorder: &mut R,
    ) {
        let group = self.flows[slot].group;
        let clock_ms = self.groups[group as usize].clock(now).millis() as u32;
        let ts_offset = self.keys.timestamp_offset(&open.key);
        let ts_now = clock_ms.wrapping_add(ts_offset);
        let flow = &mut self.flows[slot];
        flow.serve_new(now, ts_now, ts_offset, &self.env.services[group as usize]);
        flow.standing = standing;
        self.groups[group as usize].copied += (standing == Standing::Copied) as u32;
        flow.local.is_half_open = open.syn.is_some();
        flow.enact(slot, &mut self.env, recorder, &Fact::Open(open));
        self.syn_received += open.syn.is_some() as u32;
        self.settle(now, slot);
    }

    /// Puts a flow that begins with `open` into a free slot; `client` is the other leg if it is one towards a server.
    pub(super) fn insert(
        &mut self,
        open: &Open,
        id: FlowId,
        group: u8,
        client: Option<u32>,
    ) -> Option<u32> {
        let service = &self.env.services[group as usize];
        let slot = self.flows.take(Flow::open(open, id, group, service))?;
        if let Some(client) = client {
            self.link(slot, client);
        }
        self.enter(slot);
        Some(slot)
    }

    pub(super) fn enter(&mut self, slot: u32) {
        let id = self.flows[slot].id;
        if id.node() == self.node {
            // A flow of a former life of this node came back: its name is taken.
            let births = &mut self.births[id.shard() as usize];
            *births = (*births).max(id.counter());
        }
        let hash = spread(self.keys.flow_hash(&self.flows[slot].key));
        let Stack { table, flows, keys, .. } = self;
        table.insert_unique(hash, slot, |&slot| spread(keys.flow_hash(&flows[slot].key)));
        self.name(slot);
        let flow = &mut self.flows[slot];
        let group = &mut self.groups[flow.group as usize];
        flow.era = group.eras.present;
        group.flows += 1;
        self.count_leg(slot);
    }

    /// Whether this SYN may have been answered by a cookie: a number of its connection's own would contradict that, and who
    /// acknowledges the cookie would be reset.
    fn has_cookie(&mut self, now: Instant, key: &FlowKey, group: usize, segment: &Segment) -> bool {
        now < self.groups[group].cookies_until
            && self.recent.holds(now, self.keys.syn_hash(key, segment.seq))
    }

    /// SYNs that come faster than they may be answered: repeated ones are answered first.
    fn send_cookie(
        &mut self,
        now: Instant,
        key: FlowKey,
        service: u8,
        segment: &Segment,
    ) -> Result<(), Drop> {
        let clock = self.groups[service as usize].clock(now);
        let mss = segment.options.mss.unwrap_or(536);
        let iss = self.keys.cookie(&key, segment.seq, mss, clock);
        let open = self.opening(key, service, segment, iss);
        let ts = (clock.millis() as u32).wrapping_add(self.keys.timestamp_offset(&key));
        let settings = &self.env.services[service as usize];
        let hash = self.keys.syn_hash(&key, segment.seq);
        let is_repeated = self.recent.holds(now, hash);
        self.recent.note(now, hash);
        self.replies.push(Reply::cookie(&open, service, segment, settings, ts), is_repeated)?;
        self.counters.cookies_sent += 1;
        self.groups[service as usize].cookies_until = now + COOKIE_GRACE;
        Ok(())
    }

    /// An acknowledgement without a flow may be the answer to a cookie that this node or its former
    /// owner gave out; the first data segment will do as well (RFC 4987 3.6).
    fn open_by_cookie<R: Recorder>(
        &mut self,
        now: Instant,
        key: FlowKey,
        group: u8,
        segment: &Segment,
        recorder: &mut R,
    ) -> Result<(), Drop> {
        if segment.flags.has(Flags::SYN) {
            return Err(Drop::NoFlow);
        }
        let clock = self.groups[group as usize].clock(now);
        let (irs, iss) = (segment.seq - 1, segment.ack - 1);
        let cookie = self.keys.check_cookie(&key, irs, iss, clock).ok_or(Drop::BadCookie)?;
        let offset = self.keys.timestamp_offset(&key);
        let syn_options = Reply::cookie_options(segment, cookie.mss);
        let syn = Segment { seq: irs, options: syn_options, ..*segment };
        let open = self.opening(key, group, &syn, iss);
        let slot = self.open(now, open, group, recorder)?;
        self.counters.cookies_accepted += 1;
        let flow = &mut self.flows[slot];
        // The SYN-ACK has left as a cookie.
        flow.local.snd_nxt = iss + 1;
        flow.local.owed.syn_ack = false;
        flow.local.rcv_acked = segment.seq;
        let offered = self.env.services[group as usize].first_window().min(0xffff);
        flow.local.adv_edge = segment.seq + offered;
        let ts_now = (clock.millis() as u32).wrapping_add(offset);
        let outcome = flow.handle_segment(now, ts_now, slot, &mut self.env, recorder, segment);
        if flow.contract.state == State::SynReceived {
            // The segment found no room: a real SYN-ACK makes the client say it again.
            flow.local.snd_nxt = iss;
            flow.local.owed.syn_ack = true;
        }
        self.attend(now, slot, None, recorder);
        self.settle(now, slot);
        outcome
    }

    /// RFC 6191, RFC 9293 3.10.7.4: a newer SYN takes the place of a connection in TIME-WAIT.
    pub(super) fn replace_time_wait<R: Recorder>(
        &mut self,
        now: Instant,
        slot: u32,
        key: FlowKey,
        segment: &Segment,
        recorder: &mut R,
    ) -> Result<(), Drop> {
        let is_copied = self.flows[slot].standing == Standing::Copied;
        if is_copied && recorder.room(self.flows[slot].lane(), 0, false).is_none() {
            return Err(Drop::LogFull);
        }
        let lent = self.lend(now, slot);
        let flow = &mut self.flows[slot];
        flow.enact(slot, &mut self.env, recorder, &Fact::Tick(Tick::TimeWaitOver));
        self.attend(now, slot, lent, recorder);
        self.unlist(slot);
        self.settle(now, slot);
        self.handle_stray(now, key, segment, recorder)
    }

    /// ARP, neighbour discovery, ICMP echo.
    pub(super) fn handle_query(&mut self, now: Instant, frame: &Frame) -> Result<(), Drop> {
        let is_next_hop = self.learn_neighbor(now, frame);
        let is_claim = matches!(frame, Frame::AddressQuery { is_claim: true, .. });
        self.has_learnt = is_next_hop && is_claim;
        match self.answer_query(now, frame) {
            // Not ours, but what it says of a next hop was asked for.
            Err(Drop::NoService) if is_next_hop => Ok(()),
            outcome => outcome,
        }
    }

    fn answer_query(&mut self, now: Instant, frame: &Frame) -> Result<(), Drop> {
        match *frame {
            Frame::AddressQuery { sender_mac, sender, target, is_claim } => {
                // RFC 5227 2.4: whoever sends as one of our addresses claims it, whatever is asked.
                if is_claim || self.service_of(&sender).is_some() {
                    return self.handle_claim(
                        now,
                        sender_mac,
                        if is_claim { target } else { sender },
                    );
                }
                let index = self.served(&target)?;
                if self.env.services[index].arp == ArpPolicy::None {
                    return Err(Drop::NotAnnounced);
                }
                self.reply(Reply::address(sender_mac, sender, target, index as u8))
            }
            Frame::Echo { source_mac, source, destination, identifier, sequence, payload } => {
                let index = self.served(&destination)?;
                let reply = Reply::echo(
                    source_mac,
                    source,
                    destination,
                    (identifier, sequence),
                    payload,
                    index as u8,
                );
                self.reply(reply.ok_or(Drop::Unasked)?)
            }
            Frame::Tcp(_) | Frame::Error(_) => Err(Drop::Unasked),
        }
    }

    /// Somebody says that one of our addresses is his.
    fn handle_claim(&mut self, now: Instant, mac: Mac, address: Address) -> Result<(), Drop> {
        let index = self.served(&address)?;
        let service = &self.env.services[index];
        // One that is closed waits for somebody to take the addresses.
        let is_ours = [service.mac(&self.mac), service.source_mac(&self.mac)].contains(&mac);
        if is_ours || self.groups[index].is_closed {
            return Err(Drop::Unasked);
        }
        if service.arp == ArpPolicy::None {
            return Err(Drop::NotAnnounced);
        }
        self.defend(now, index, address, mac);
        Ok(())
    }

    /// The service with this address, if it is served here.
    fn served(&self, address: &Address) -> Result<usize, Drop> {
        let index = self.service_of(address).ok_or(Drop::NoService)?;
        match self.groups[index].mode {
            Mode::Serving => Ok(index),
            _ => Err(self.groups[index].refusal()),
        }
    }

    pub(super) fn reply(&mut self, reply: Reply) -> Result<(), Drop> {
        self.replies.push(reply, false)
    }
}

/// RFC 9293 3.10.7.4 and RFC 6191: a SYN that cannot be an old one of the connection in TIME-WAIT.
pub(super) fn is_newer_syn(flow: &Flow, segment: &Segment) -> bool {
    let is_syn = segment.flags.has(Flags::SYN)
        && !segment.flags.has(Flags::ACK)
        && !segment.flags.has(Flags::RST);
    let is_newer = match (flow.contract.options.timestamps, segment.options.timestamps) {
        // An equal timestamp proves nothing: then the sequence number decides.
        (true, Some((value, _))) if value != flow.local.ts_recent => {
            value.wrapping_sub(flow.local.ts_recent) as i32 > 0
        }
        _ => segment.seq.after(flow.contract.rcv_nxt),
    };
    is_syn && is_newer
}
