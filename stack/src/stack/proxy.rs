//! Proxied connections: a server is found for each client, and the two legs are kept together.
//!
//! ```text
//! client's leg open -> choose a server, a source and a port -> Open of the server's leg, recorded (a decision)
//!      ^                                                           |
//!      `---- refused, or no answer in time: the next server -------'    none left: the client is reset
//! ```
//!
//! The local port is chosen so that both legs are of one shard. So no two cores, and no two nodes, ever choose the same
//! port of the same source towards the same server: whoever serves a shard knows all of its connections, and
//! nobody else may open one there. Where the search begins comes from the flow's name, so ports are not soon used again; what
//! it comes by is kept for the next connections of other shards ([`crate::upstream`]).
//!
//! Spec: RFC 6056 3.3.3 for the choice of ports. Bounds: [`SOURCE_PORTS_TRIED`].

use super::{Mode, Stack};
use crate::app::proxy::end::End;
use crate::app::proxy::{NO_SERVER, Phase, Proxy, Side};
use crate::drop::Drop;
use crate::fact::{Fact, Open, Passed, Tick};
use crate::flow::{Flow, FlowId, Standing};
use crate::key::FlowKey;
use crate::legs::Lent;
use crate::limits::{
    CONNECT_AGAIN, NEIGHBOR_QUERIES_PER_POLL, SOURCE_PORT_FIRST, SOURCE_PORTS_TRIED,
    STICKS_TOLD_MAX, TICK_AGAIN,
};
use crate::pool::NONE;
use crate::recorder::Recorder;
use crate::reply::Reply;
use crate::tcp::contract::Options;
use crate::tcp::deadline::{Heard, Wait};
use crate::tcp::state::State;
use crate::time::{Duration, Instant};
use crate::upstream::choice::Wish;
use crate::upstream::stick::Stick;
use crate::upstream::{NoServer, Roster, Server};
use crate::wire::{Address, Frame, Mac};

/// Ports of a source from which connections may be opened.
const SOURCE_PORTS: u64 = (u16::MAX - SOURCE_PORT_FIRST) as u64 + 1;

/// What became of a search for a server.
pub(super) enum Search {
    /// It is being asked.
    Found,
    /// When one has room.
    Full,
    /// Not yet: again in a moment.
    Later,
    /// There is none.
    Nobody,
}

impl Stack {
    /// What this core knows of a service's servers.
    pub fn roster(&self, service: u8) -> &Roster {
        &self.rosters[service as usize]
    }

    /// The other leg of a proxied connection lends what facts of the one in `slot` may change.
    #[inline]
    pub(super) fn lend(&mut self, now: Instant, slot: u32) -> Option<Lent> {
        let other = self.flows[slot].app.other()?;
        if !self.bring_up(now, other) {
            return None;
        }
        let lent = Lent::of(other, &self.flows[other]);
        self.env.across = self.flows[other].lend();
        Some(lent)
    }

    /// It gets it back; answers whether it may have something new to say.
    #[inline]
    pub(super) fn get_back(&mut self, now: Instant, lent: Option<Lent>) -> bool {
        let Some(lent) = lent else { return false };
        let across = self.env.across.take().expect("it was lent");
        let flow = &mut self.flows[lent.slot];
        let has_news = flow.get_back(across, &lent);
        if flow.closes() && !lent.closes {
            // Another time-out is in force, from now on.
            flow.local.heard = Heard::at(now);
        }
        has_news
    }

    /// The leg in `slot` was touched and `lent` has lent: the other one speaks, and what is missing is seen to.
    #[inline]
    pub(super) fn attend<R: Recorder>(
        &mut self,
        now: Instant,
        slot: u32,
        lent: Option<Lent>,
        recorder: &mut R,
    ) {
        if self.flows[slot].app.leg().is_none() {
            return;
        }
        let mut has_news = self.get_back(now, lent);
        self.find_server(now, slot, recorder);
        self.write_off(now, slot, recorder);
        if let Some(Lent { slot: other, .. }) = lent {
            has_news |= self.write_off(now, other, recorder);
            has_news |= self.pass_resumed(now, other, recorder);
            self.widen_window(now, other, recorder);
            self.find_server(now, other, recorder);
            if has_news {
                self.settle(now, other);
            }
        }
    }

    /// Records that the leg in `slot` may be sent more, if its other side is about to run out of room.
    pub(super) fn widen_window<R: Recorder>(&mut self, now: Instant, slot: u32, recorder: &mut R) {
        let flow = &self.flows[slot];
        let half = self.env.services[flow.group as usize].receive_buffer / 2;
        let is_short = flow.contract.state.can_receive() && flow.contract.window() < half;
        // End to end, what has passed makes the room, and says so itself; who is alone is not kept waiting by anybody.
        let is_asked = flow.app.leg().is_some_and(|leg| !leg.is_waiting() && !leg.passes_ahead());
        if !is_short || !is_asked {
            return;
        }
        let lent = self.lend(now, slot);
        let flow = &mut self.flows[slot];
        if flow.wider_edge(&self.env).is_some() {
            if flow.check_log(recorder).is_ok() {
                flow.enact(slot, &mut self.env, recorder, &Fact::Room);
            } else {
                flow.local.deadlines.set(Wait::Room, now + TICK_AGAIN);
            }
            self.settle(now, slot);
        }
        self.get_back(now, lent);
    }

    /// What the leg in `slot` has ahead of the log, and nobody is left to acknowledge, is recorded. Answers whether there
    /// was such a thing.
    fn write_off<R: Recorder>(&mut self, now: Instant, slot: u32, recorder: &mut R) -> bool {
        let flow = &mut self.flows[slot];
        if !flow.has_unread() {
            return false;
        }
        // Twice: bytes, and a FIN.
        if flow.check_log(recorder).is_ok() {
            flow.write_off(slot, &mut self.env, recorder);
        } else {
            flow.local.deadlines.set(Wait::Room, now + TICK_AGAIN);
        }
        true
    }

    /// After a takeover, bytes come again that the side of the leg in `slot` acknowledged to the former owner. Answers
    /// whether there were any.
    fn pass_resumed<R: Recorder>(&mut self, now: Instant, slot: u32, recorder: &mut R) -> bool {
        let flow = &self.flows[slot];
        let waits = flow.local.deadlines.is_ahead(now, Wait::UnaFlush);
        if !flow.local.is_resumed || waits || flow.passed() == Passed::default() {
            return false;
        }
        let lent = self.lend(now, slot);
        self.flows[slot].record_acknowledged(now, slot, &mut self.env, recorder);
        self.get_back(now, lent);
        true
    }

    /// Finds a server for the client's leg in `slot` if it lacks one.
    fn find_server<R: Recorder>(&mut self, now: Instant, slot: u32, recorder: &mut R) {
        let flow = &self.flows[slot];
        let (service, id) = (flow.group as usize, flow.id);
        let lacks = flow.app.leg().is_some_and(Proxy::lacks_server);
        let is_ending = flow.local.tick_waiting.is_some();
        let waits = is_ending || flow.local.deadlines.is_ahead(now, Wait::Room);
        if !lacks || !flow.contract.state.is_synchronized() || waits {
            return;
        }
        if self.is_nameless(now, slot, recorder) {
            return;
        }
        if self.is_behind_others(slot) {
            return self.queue_up(now, slot, recorder);
        }
        match self.search(now, slot, recorder) {
            Search::Found => self.rosters[service].queue.remove(slot, id),
            Search::Full => self.queue_up(now, slot, recorder),
            Search::Later => {
                self.flows[slot].local.deadlines.set(Wait::Room, now + CONNECT_AGAIN);
                self.settle(now, slot);
            }
            Search::Nobody => self.turn_away(now, slot, recorder),
        }
    }

    /// There is no server for the client's leg in `slot`: it is reset.
    pub(super) fn turn_away<R: Recorder>(&mut self, now: Instant, slot: u32, recorder: &mut R) {
        let (service, id) = (self.flows[slot].group as usize, self.flows[slot].id);
        self.rosters[service].queue.remove(slot, id);
        self.counters.no_server += 1;
        self.note_end(slot, End::NoServer);
        self.flows[slot].tick(now, slot, &mut self.env, recorder, Tick::Abort);
        self.settle(now, slot);
    }

    /// Ends the connection of which a leg is in `slot` by RST on every side; that is its end, unless it had one before.
    pub(super) fn abort<R: Recorder>(
        &mut self,
        now: Instant,
        slot: u32,
        end: End,
        recorder: &mut R,
    ) {
        let lent = self.lend(now, slot);
        self.note_end(slot, end);
        self.flows[slot].tick(now, slot, &mut self.env, recorder, Tick::Abort);
        self.attend(now, slot, lent, recorder);
        self.settle(now, slot);
    }

    pub(super) fn search<R: Recorder>(
        &mut self,
        now: Instant,
        slot: u32,
        recorder: &mut R,
    ) -> Search {
        let flow = &self.flows[slot];
        let (id, service) = (flow.id, flow.group);
        let client = self.named_client(slot).unwrap_or(flow.key);
        let Some(&Proxy { failures, server: last, .. }) = flow.app.leg() else {
            return Search::Nobody;
        };
        let Stack { keys, rosters, env, .. } = self;
        let upstream = &env.services[service as usize].upstream;
        if failures >= upstream.attempts_max {
            return Search::Nobody;
        }
        let suits = |index: u16| {
            let server = &upstream.servers[index as usize];
            keys.server_hash(&client.remote, &server.address, server.port)
        };
        let draw = keys.draw(id.0, failures);
        let drawn = [draw as u32, (draw >> 32) as u32];
        let hash = keys.client_hash(&client.remote);
        let stuck = rosters[service as usize].stick(now, hash, &client.remote);
        let stuck = stuck.map(|stick| stick.server);
        let wish = Wish { last, client: hash, suits, drawn, stuck };
        let (server, mac) = match rosters[service as usize].choose(now, upstream, &wish) {
            Ok(chosen) => chosen,
            Err(NoServer::Full) => return Search::Full,
            Err(NoServer::NotYet) => return Search::Later,
            Err(NoServer::AllDown) => return Search::Nobody,
        };
        let Some(key) = self.local_end(service, server, id, draw) else {
            self.counters.no_source_port += 1;
            return Search::Nobody;
        };
        match self.open_leg(now, slot, server, (key, mac), recorder) {
            Ok(()) => Search::Found,
            Err(Drop::FlowTableFull) => Search::Nobody,
            Err(_) => Search::Later,
        }
    }

    /// Both ends of a new connection to a server, of the same shard as the flow `id`. `draw` says where to begin.
    fn local_end(&mut self, group: u8, server: u16, id: FlowId, draw: u64) -> Option<FlowKey> {
        let shard = id.shard();
        while let Some(at) = self.rosters[group as usize].take_passed(server, shard) {
            let key = self.end_at(group, server, at)?;
            if self.shard_of(&key) == shard && self.is_free_end(group, &key) {
                return Some(key);
            }
        }
        let count = self.ends_of(group, server).count() as u64 * SOURCE_PORTS;
        (0..u64::from(SOURCE_PORTS_TRIED).min(count)).find_map(|n| {
            let at = ((draw % count + n) % count) as u32;
            let key = self.end_at(group, server, at)?;
            let found = self.shard_of(&key);
            if found != shard {
                if self.place.holds(found) {
                    self.rosters[group as usize].note_passed(server, found, at);
                }
                return None;
            }
            self.is_free_end(group, &key).then_some(key)
        })
    }

    /// The sources from which a server can be reached.
    fn ends_of(&self, group: u8, server: u16) -> impl Iterator<Item = &Address> {
        let upstream = &self.env.services[group as usize].upstream;
        let is_v4 = upstream.servers[server as usize].address.as_v4().is_some();
        upstream.sources.iter().filter(move |source| source.as_v4().is_some() == is_v4)
    }

    /// Both ends of a connection to a server, from the local end at this position among all.
    fn end_at(&self, group: u8, server: u16, at: u32) -> Option<FlowKey> {
        let at = u64::from(at);
        let local = *self.ends_of(group, server).nth((at / SOURCE_PORTS) as usize)?;
        let local_port = SOURCE_PORT_FIRST + (at % SOURCE_PORTS) as u16;
        let Server { address: remote, port: remote_port, .. } =
            self.env.services[group as usize].upstream.servers[server as usize];
        Some(FlowKey { remote, local, remote_port, local_port })
    }

    /// Whether a connection may be opened between these ends.
    fn is_free_end(&self, group: u8, key: &FlowKey) -> bool {
        self.env.services[group as usize].connects_from(&key.local, key.local_port)
            && (key.remote, key.remote_port) != (key.local, key.local_port)
            && self.find(key).is_none()
    }

    /// A leg towards `server` begins, for the client's leg in `slot`.
    fn open_leg<R: Recorder>(
        &mut self,
        now: Instant,
        slot: u32,
        server: u16,
        (key, next_hop): (FlowKey, Mac),
        recorder: &mut R,
    ) -> Result<(), Drop> {
        let client = &self.flows[slot];
        let (group, lane) = (client.group, client.lane());
        let (standing, id) = (client.standing, client.id.other_leg());
        if standing == Standing::Copied && recorder.room(lane, 0, true).is_none() {
            return Err(Drop::LogFull);
        }
        let clock = self.groups[group as usize].clock(now);
        let options = Options::offered(&self.env.services[group as usize], &key.local);
        let iss = self.keys.iss(&key, clock);
        let open = Open { key, next_hop, iss, options, syn: None };
        let leg = self.insert(&open, id, group, Some(slot)).ok_or(Drop::FlowTableFull)?;
        self.stick(now, leg);
        self.begin(now, leg, open, standing, recorder);
        if let Some(status) = self.rosters[group as usize].server_mut(server) {
            status.opened += 1;
        }
        self.counters.connects += 1;
        Ok(())
    }

    /// The flow in `leg` is towards a server: it belongs to the client's leg in `slot`, in which it is noted who is asked.
    pub(super) fn link(&mut self, leg: u32, slot: u32) {
        let server = self.server_of(&self.flows[leg]);
        if let Some(client) = self.flows[slot].app.leg_mut() {
            (client.other, client.server) = (leg, server);
            let app = Proxy::server(client.ack, server, slot);
            self.flows[leg].app = crate::app::App::Proxy(app);
        }
    }

    /// Position of the server at the other end of this leg.
    pub(super) fn server_of(&self, leg: &Flow) -> u16 {
        let upstream = &self.env.services[leg.group as usize].upstream;
        upstream.position(&leg.key.remote, leg.key.remote_port).unwrap_or(NO_SERVER)
    }

    /// The client of the server's leg in `slot` was led to that server: it will be again.
    pub(super) fn stick(&mut self, now: Instant, slot: u32) {
        let Some(&Proxy { side: Side::Server, server, other, .. }) = self.flows[slot].app.leg()
        else {
            return;
        };
        let service = self.flows[slot].group;
        if other == NONE || self.env.services[service as usize].upstream.stick == Duration::ZERO {
            return;
        }
        // Whose name has gone on to the server with everything else leads nobody.
        let Some(client) = self.named_client(other).map(|key| key.remote) else { return };
        let is_news = self.hear_stick(now, service, client, server) && self.place.cores > 1;
        // One that finds no place is told the next time.
        if is_news && self.sticks.len() < STICKS_TOLD_MAX {
            self.sticks.push_back((service, client, server));
        }
    }

    /// A client was led to a server by this core or by another one of this node; answers whether that is news.
    pub fn hear_stick(&mut self, now: Instant, service: u8, client: Address, server: u16) -> bool {
        let Some(settings) = self.env.services.get(service as usize) else { return false };
        let (hash, time) = (self.keys.client_hash(&client), settings.upstream.stick);
        let stick = Stick { client, hash, server, until: now };
        self.rosters[service as usize].note_stick(now, time, stick)
    }

    /// What the other cores of this node should be told: service, client, server.
    pub fn poll_stick(&mut self) -> Option<(u8, Address, u16)> {
        self.sticks.pop_front()
    }

    /// Cuts the link of the leg in `slot`, which is about to be forgotten whatever its state.
    pub(super) fn unlink(&mut self, slot: u32) {
        if let Some(other) = self.flows[slot].app.other()
            && let Some(leg) = self.flows[other].app.leg_mut()
        {
            leg.other = NONE;
        }
    }

    /// The client's leg to which a server's leg of this name belongs, if it waits for one.
    pub(super) fn client_of(&mut self, now: Instant, group: u8, id: FlowId) -> Option<u32> {
        let client = self.seek_named(now, group, id.client_leg())?;
        self.flows[client].app.leg().is_some_and(Proxy::lacks_server).then_some(client)
    }

    /// Counts the leg in `slot` among the connections of its server.
    pub(super) fn count_leg(&mut self, slot: u32) {
        let flow = &mut self.flows[slot];
        let service = flow.group as usize;
        if let Some(leg) = flow.app.leg_mut()
            && leg.side == Side::Server
        {
            leg.is_counted = true;
            self.rosters[service].note_connection(leg.server);
        }
    }

    /// Takes the leg in `slot` out of them again, if it is among them.
    pub(super) fn uncount_leg(&mut self, slot: u32) {
        let flow = &mut self.flows[slot];
        let service = flow.group as usize;
        if let Some(leg) = flow.app.leg_mut()
            && leg.is_counted
        {
            leg.is_counted = false;
            self.rosters[service].note_end(leg.server);
        }
    }

    /// The leg in `slot` is forgotten, whatever it is.
    pub(super) fn note_leg_over(&mut self, slot: u32) {
        self.uncount_leg(slot);
        let flow = &self.flows[slot];
        let Some(&Proxy { side: Side::Server, server, phase, .. }) = flow.app.leg() else { return };
        let was_refused = flow.contract.state == State::Closed && phase == Phase::Waiting;
        if let Some(status) = self.rosters[flow.group as usize].server_mut(server) {
            status.failed += u64::from(was_refused);
        }
    }

    /// Goes on with tables of servers whose weights have changed.
    pub(super) fn deal_tables(&mut self) {
        for (roster, service) in self.rosters.iter_mut().zip(&self.env.services) {
            if roster.is_dealing() {
                roster.deal_some(&service.upstream);
            }
        }
    }

    /// When [`Stack::deal_tables`] is due.
    pub(super) fn tables_timeout(&self) -> Option<Instant> {
        self.rosters.iter().any(Roster::is_dealing).then_some(Instant::ZERO)
    }

    /// Asks for the next hops of servers whose answer is due. What a flood of other questions leaves no room for is
    /// asked a little later, and does not count as asked.
    pub(super) fn ask_neighbors(&mut self, now: Instant) {
        let Stack { groups, rosters, env, replies, .. } = self;
        for (index, (group, roster)) in groups.iter().zip(rosters).enumerate() {
            if roster.poll_timeout() > now || group.is_mute {
                continue;
            }
            let upstream = &env.services[index].upstream;
            for _ in 0..NEIGHBOR_QUERIES_PER_POLL {
                let Some(target) = roster.poll_query(now, upstream) else { break };
                let same = |source: &&Address| source.as_v4().is_some() == target.as_v4().is_some();
                if let Some(source) = upstream.sources.iter().find(same) {
                    let query = Reply::query(*source, target, index as u8);
                    if replies.push(query, true).is_err() {
                        roster.put_off_queries(now);
                        break;
                    }
                }
                roster.note_asked(now, upstream, target);
            }
        }
    }

    /// When [`Stack::ask_neighbors`] is due.
    pub(super) fn ask_at(&self) -> Instant {
        let groups = self.groups.iter().zip(&self.rosters).filter(|(group, _)| !group.is_mute);
        groups.map(|(_, roster)| roster.poll_timeout()).min().unwrap_or(Instant::MAX)
    }

    /// Whether the last frame was an answer that tells where a server is: every core of the node must hear it.
    #[inline]
    pub fn take_learnt(&mut self) -> bool {
        core::mem::take(&mut self.has_learnt)
    }

    /// Somebody says where an address is: it may be a server's next hop. Answers whether it is.
    pub(super) fn learn_neighbor(&mut self, now: Instant, frame: &Frame) -> bool {
        let Frame::AddressQuery { sender_mac, sender, .. } = frame else { return false };
        let mut is_known = false;
        for index in 0..self.groups.len() {
            if self.groups[index].mode == Mode::Serving {
                let upstream = &self.env.services[index].upstream;
                is_known |= self.rosters[index].learn(now, upstream, sender, *sender_mac);
            }
        }
        is_known
    }
}
