//! What happens to a machine: rounds of cores, looks of agents, frames and datagrams that arrive.

use super::asks::Asked;
use super::{Event, Interruption, Node, Said, World, describe_frame};
use crate::kit::client;
use crate::sim::check::{Leaving, answers_stranger, is_question, key_of, service_of};
use crate::sim::fault::MS;
use crate::sim::host::Host;
use crate::sim::network::{Plug, Side};
use crate::sim::node::{Life, Polled, SimCore, cluster_mac};
use crate::sim::workload::Caller;
use cluster::agent::Destination;
use cluster::engine::Engine;
use cluster::id::{Epoch, NodeId};
use cluster::message::WITNESS;
use cluster::seal::Opened;
use cluster::witness::Effect;
use stack::time::Instant;
use std::hash::{DefaultHasher, Hasher};

/// A frame, and under what it was made.
type Tagged = (Vec<u8>, Said);

/// A core's round without frames, in nanoseconds.
const ROUND: u64 = 700;
/// What a frame adds to it.
const PER_FRAME: u64 = 250;
/// A core that has something to do whenever it is asked is asked again after so long.
const AGAIN: u64 = 20_000;
/// An agent sleeps at most so long: it looks whether cores make progress.
const AGENT_SLEEP: u64 = 5 * MS;
/// A report wakes an agent within so long.
const AGENT_WAKES: u64 = 20_000;
/// A core sleeps at most so long: it is to be seen to make progress.
const CORE_SLEEP: u64 = 4 * MS;
/// Datagrams that a paused agent's socket holds.
const SOCKET_MAX: usize = 256;

impl World {
    /// A client's machine is switched on and connects.
    pub fn connect(&mut self, caller: Caller) {
        let index = self.hosts.len();
        let number = self.servers.len() + index;
        let host = Host::new(Instant(self.now), number, self.seed, caller);
        self.hosts.push(host);
        self.clients.add(Plug::Host(index));
        self.run_host(index);
    }

    pub(super) fn run_host(&mut self, index: usize) {
        let now = Instant(self.now);
        for frame in self.hosts[index].poll(now) {
            self.switch(Plug::Host(index), &frame);
        }
        if let Some(at) = self.hosts[index].poll_timeout(now) {
            // smoltcp may round a deadline down to a microsecond that has begun.
            self.push(at.0.max(self.now + 1_000), Event::Host { index });
        }
    }

    pub(super) fn run_server(&mut self, index: usize) {
        let now = Instant(self.now);
        let server = &mut self.servers[index];
        let frames = server.poll(now);
        if let Some(complaint) = &server.complaint {
            let message = format!("server {index}: {complaint}");
            self.fail(message);
        }
        for frame in frames {
            self.switch(Plug::Server(index), &frame);
        }
        if let Some(at) = self.servers[index].poll_timeout(now) {
            self.push(at.0.max(self.now + 1_000), Event::Server { index });
        }
    }

    /// A frame goes from a plug through the switch of the clients' network.
    fn switch(&mut self, from: Plug, frame: &[u8]) {
        if !matches!(from, Plug::Node(_)) {
            let denied = self.check.note_heard(self.now, frame);
            denied.into_iter().for_each(|key| self.note_denied(key));
        }
        for to in self.clients.route(from, frame) {
            if !self.listens(to, frame) {
                continue;
            }
            let copies = self.clients.carry(self.now, (from, to), frame, &mut self.random);
            for (at, frame) in copies {
                self.push(at, Event::Frame { to, frame });
            }
        }
        if let Plug::Server(server) = from {
            self.close_trap(server, frame);
        }
    }

    /// A NIC passes on what is sent to it or to everybody; that of a node, everything.
    fn listens(&self, to: Plug, frame: &[u8]) -> bool {
        let number = match to {
            Plug::Host(index) => self.servers.len() + index,
            Plug::Server(index) => index,
            Plug::Node(_) | Plug::Witness => return true,
        };
        frame[0] & 1 == 1 || frame[..6] == client::mac(number)
    }

    pub(super) fn deliver_frame(&mut self, to: Plug, frame: Vec<u8>) {
        self.tally.frames += 1;
        match to {
            Plug::Host(index) => {
                self.check_let_in(index, &frame);
                let may_refuse = self.may_refuse(self.hosts[index].key().local_port);
                let host = &mut self.hosts[index];
                let before = host.client.ending;
                let answer = host.handle_frame(Instant(self.now), &frame, may_refuse);
                self.excuse_denied(index, before);
                answer.iter().for_each(|answer| self.switch(to, answer));
                self.run_host(index);
            }
            Plug::Server(index) => {
                let answer = self.servers[index].handle_frame(Instant(self.now), &frame);
                answer.iter().for_each(|answer| self.switch(to, answer));
                self.run_server(index);
            }
            Plug::Node(node) => {
                self.note_came(node, &frame);
                self.receive(node, Side::Client, frame);
            }
            Plug::Witness => {}
        }
    }

    pub(super) fn deliver_datagram(&mut self, node: usize, mut frame: Vec<u8>) {
        self.tally.frames += 1;
        self.note_hopped(node, &frame);
        let part = self.part_of(node, &mut frame);
        if self.receive(node, Side::Cluster, frame) {
            part.iter().for_each(|part| self.hops.note(part));
        }
    }

    /// A NIC puts a frame into the queue of one core or another; `false` if nobody will see it.
    fn receive(&mut self, node: usize, side: Side, frame: Vec<u8>) -> bool {
        let cores = self.nodes[node].cores;
        let core = match self.shape.deals_by_hash {
            true => (hash_of_ends(&frame) % u64::from(cores)) as usize,
            false => self.random.below(cores.into()) as usize,
        };
        let Some(life) = &self.nodes[node].life else { return false };
        let queue = match side {
            Side::Client => &life.cores[core].client,
            Side::Cluster => &life.cores[core].cluster,
        };
        let has_room = queue.put(frame);
        let wake = 500 + self.random.below(15_000);
        self.wake_core(node, core, self.now + wake);
        has_room
    }

    /// A core is polled at `at` at the latest.
    pub(super) fn wake_core(&mut self, node: usize, core: usize, at: u64) {
        let now = self.now;
        let Some(life) = &mut self.nodes[node].life else { return };
        let (incarnation, core_state) = (life.member.incarnation.0, &mut life.cores[core]);
        if core_state.due > now && core_state.due <= at {
            return;
        }
        core_state.due = at;
        self.push(at, Event::Core { node, life: incarnation, core });
    }

    /// The life that an event was meant for, unless it is over.
    fn life(&mut self, node: usize, incarnation: u64) -> Option<&mut Life> {
        let life = self.nodes[node].life.as_mut()?;
        (life.member.incarnation.0 == incarnation).then_some(life)
    }

    pub(super) fn run_core(&mut self, node: usize, incarnation: u64, core: usize) {
        let Node { paused_until, per_frame, .. } = self.nodes[node];
        let now = self.now;
        let Some(life) = self.life(node, incarnation) else { return };
        if life.cores[core].due != now {
            return;
        }
        let state = &life.cores[core];
        let free = paused_until.max(state.stuck_until).max(state.busy_until);
        if free > now {
            return self.wake_core(node, core, free);
        }
        let before = life.handed_over(core);
        let has_input = life.cores[core].client.has_incoming();
        let interruption = match has_input {
            true => std::mem::take(&mut self.nodes[node].interruptions[core]),
            false => Interruption::default(),
        };
        let Some(life) = self.life(node, incarnation) else { return };
        let before_check = if interruption.is_checked { 0 } else { interruption.time };
        let mut polled = life.poll(now, core, before_check);
        let looked = polled.at;
        polled.at += interruption.time - before_check;
        let has_crossed = life.handed_over(core) != before;
        let frames = polled.round.received + polled.round.sent;
        let end = polled.at + ROUND + (PER_FRAME + per_frame) * frames as u64;
        let timeout = life.core_timeout(core);
        let next = match timeout {
            _ if frames > 0 => end,
            Some(at) if at <= end => end + AGAIN,
            Some(at) => at.min(end + CORE_SLEEP),
            None => end + CORE_SLEEP,
        };
        if polled.allocations > 0 {
            self.fail(format!("node {} allocated {} times", node + 1, polled.allocations));
        }
        let Polled { at, frames, datagrams, .. } = polled;
        self.check_decisions((node, core));
        let frames = self.tagged((node, core), frames);
        self.check_lease(node, looked, &frames);
        self.put_out(node, at, (frames, datagrams));
        if has_crossed {
            let cores = usize::from(self.nodes[node].cores);
            (0..cores).filter(|other| *other != core).for_each(|other| {
                self.wake_core(node, other, end);
            });
        }
        if let Some(life) = self.life(node, incarnation) {
            let state = &mut life.cores[core];
            (state.due, state.busy_until) = (0, end);
            let wakes_at = end + AGENT_WAKES;
            if life.has_reports() && life.agent_due > wakes_at {
                life.agent_due = wakes_at;
                self.push(wakes_at, Event::Agent { node, life: incarnation });
            }
        }
        self.wake_core(node, core, next);
    }

    /// What a core has kicked, and under what each frame was made.
    fn tagged(&mut self, (node, core): (usize, usize), frames: Vec<Vec<u8>>) -> Vec<Tagged> {
        let mut tagged = Vec::with_capacity(frames.len());
        for frame in frames {
            let said = self.said((node, core), &frame).unwrap_or_default();
            if let (Some(key), Some(group), true) = (key_of(&frame), said.group, said.is_flow) {
                self.nodes[node].spoke.insert(key, group as u8);
            }
            tagged.push((frame, said));
        }
        tagged
    }

    /// A core kicks nothing for a group of which the node had no lease when it looked last.
    fn check_lease(&mut self, node: usize, looked: u64, frames: &[Tagged]) {
        let state = &self.nodes[node];
        let Some(life) = &state.life else { return };
        let looked = state.machine.local(looked);
        let lacks_lease = |said: &Said| said.group.is_some_and(|group| life.lease(group) <= looked);
        if let Some((frame, _)) = frames.iter().find(|(_, said)| lacks_lease(said)) {
            let frame = describe_frame(frame);
            self.fail(format!("node {} speaks without a lease: {frame}", node + 1));
        }
    }

    /// For which group, and in which epoch of it, a core of a node says this.
    fn said(&self, (node, core): (usize, usize), frame: &[u8]) -> Option<Said> {
        let life = self.nodes[node].life.as_ref()?;
        let service = service_of(&self.shape.settings, frame)?;
        let key = key_of(frame);
        let flow = key.and_then(|key| life.find(&key));
        let former = || self.nodes[node].spoke.get(&key?).copied();
        // Not every core knows at once of a generation that takes the newcomers.
        let newest = || Some(life.engines().nth(core)?.stack().newest_of(service as u8));
        // Each generation asks for its servers: whichever of them has a lease, if one has.
        let services = self.shape.settings.ports.len();
        let generations = (service..life.leases()).step_by(services);
        let asker = || generations.max_by_key(|group| life.lease(*group)).map(|group| group as u8);
        let other = || match frame {
            _ if is_question(frame) => asker(),
            // Whoever is in no connection hears that from who would begin one, whatever was before.
            _ if answers_stranger(frame) => newest(),
            _ => former().or_else(newest),
        };
        let group = usize::from(flow.map(|flow| flow.group).or_else(other)?);
        let epoch = life.engines().map(|engine| engine.status_of(group).epoch).max()?;
        Some(Said { group: Some(group), epoch, is_flow: flow.is_some() })
    }

    /// What a round has kicked leaves when it was kicked, under the epoch in which the core served then.
    fn put_out(&mut self, node: usize, at: u64, (frames, datagrams): (Vec<Tagged>, Vec<Vec<u8>>)) {
        let Some(life) = &self.nodes[node].life else { return };
        let life = life.member.incarnation.0;
        if !frames.is_empty() {
            self.push(at, Event::Leave { node, life, side: Side::Client, frames });
        }
        if !datagrams.is_empty() {
            let frames = datagrams.into_iter().map(|frame| (frame, Said::default())).collect();
            self.push(at, Event::Leave { node, life, side: Side::Cluster, frames });
        }
    }

    pub(super) fn leave(
        &mut self,
        (node, incarnation): (usize, u64),
        side: Side,
        frames: Vec<(Vec<u8>, Said)>,
    ) {
        if self.life(node, incarnation).is_none() {
            return;
        }
        let from = Plug::Node(node);
        for (frame, said) in frames {
            if side == Side::Client {
                self.check_leaving(node, &frame, said);
                self.switch(from, &frame);
                continue;
            }
            let to = (0..self.nodes.len()).find(|to| frame[..6] == cluster_mac(*to));
            let Some(to) = to.filter(|to| *to != node) else { continue };
            self.note_left(node, &frame);
            let path = (from, Plug::Node(to));
            for (at, frame) in self.cluster.carry(self.now, path, &frame, &mut self.random) {
                self.push(at, Event::Datagram { node: to, frame });
            }
        }
    }

    /// Whether nothing keeps a core of a node from working.
    pub(super) fn is_hale(&self, node: usize) -> bool {
        let state = &self.nodes[node];
        // An interruption is over when the round is that it fell into.
        let is_at_work = |core: &SimCore| core.stuck_until.max(core.busy_until) <= self.now + MS;
        let works = |life: &Life| life.cores.iter().all(is_at_work);
        state.paused_until <= self.now
            && state.interruptions.iter().all(|interruption| interruption.time == 0)
            && state.life.as_ref().is_some_and(works)
    }

    fn check_leaving(&mut self, node: usize, frame: &[u8], said: Said) {
        let Said { group: Some(group), epoch, is_flow } = said else {
            return self.fail(format!("node {} sent a frame of no service", node + 1));
        };
        let Some(owner) = &self.nodes[node].life else { return };
        let register = owner.registers[group];
        let is_current = register.epoch == epoch && register.owner == owner.member;
        let peer = register.in_sync_peer().filter(|_| is_current).and_then(|peer| {
            let life = self.nodes[usize::from(peer.node.0) - 1].life.as_ref()?;
            (life.member == peer).then_some(life)
        });
        let is_left = |engine: &Engine| engine.stack().is_left(group as u8);
        let is_behind = is_flow && owner.engines().all(is_left);
        let bursts = owner.cores.len();
        let now = self.now;
        let is_hale = self.is_hale(node);
        let leaving = Leaving { frame, group, is_flow, epoch, now, bursts, owner, is_hale, peer };
        if let Err(broken) = self.check.note(&leaving) {
            self.fail(format!("node {}: {broken}", node + 1));
        }
        self.tally.behind += u64::from(is_behind);
        if epoch > self.newest[group] {
            self.tally.takeovers += u64::from(self.newest[group] > Epoch(0));
            self.newest[group] = epoch;
        }
    }

    pub(super) fn run_agent(&mut self, node: usize, incarnation: u64) {
        let (now, paused_until) = (self.now, self.nodes[node].paused_until);
        let Some(life) = self.life(node, incarnation) else { return };
        if life.agent_due != now {
            return;
        }
        if paused_until > now {
            life.agent_due = paused_until;
            return self.push(paused_until, Event::Agent { node, life: incarnation });
        }
        let has_carrier = self.clients.has_carrier(Plug::Node(node));
        let Some(life) = self.life(node, incarnation) else { return };
        life.note_carrier(has_carrier);
        let messages = life.run_agent(now);
        self.say(node, messages);
    }

    /// What an agent has decided: datagrams leave, cores are woken, its next look is planned.
    fn say(&mut self, node: usize, messages: Vec<(Destination, Vec<u8>)>) {
        for (destination, bytes) in messages {
            let to = match destination {
                Destination::Node(NodeId(id)) => Plug::Node(usize::from(id) - 1),
                Destination::Witness => Plug::Witness,
            };
            self.transmit(Plug::Node(node), to, bytes);
        }
        let has_news = self.nodes[node].life.as_mut().is_some_and(Life::take_news);
        if has_news {
            self.wake_cores(node);
        }
        let now = self.now;
        let Some(life) = &mut self.nodes[node].life else { return };
        let next = life.agent_timeout().max(now + 20_000).min(now + AGENT_SLEEP);
        life.agent_due = next;
        let incarnation = life.member.incarnation.0;
        self.push(next, Event::Agent { node, life: incarnation });
        self.check_agent(node);
    }

    /// A datagram of agents, guardians and the witness: the kernel's checksum makes damage a loss.
    pub(super) fn transmit(&mut self, from: Plug, to: Plug, bytes: Vec<u8>) {
        for (at, copy) in self.cluster.carry(self.now, (from, to), &bytes, &mut self.random) {
            if copy == bytes {
                self.push(at, Event::Message { to, from, bytes: copy });
            }
        }
    }

    pub(super) fn deliver_message(&mut self, to: Plug, from: Plug, bytes: Vec<u8>) {
        let now = self.now;
        match to {
            Plug::Node(node) => {
                let paused_until = self.nodes[node].paused_until;
                let Some(life) = &mut self.nodes[node].life else { return };
                if paused_until > now {
                    // The socket keeps it until the process goes on.
                    let waiting = self.queue.range((paused_until, 0)..(paused_until + 1, 0));
                    if waiting.count() < SOCKET_MAX {
                        self.push(paused_until, Event::Message { to, from, bytes });
                    }
                    return;
                }
                let messages = life.handle_message(now, destination(from), bytes);
                self.say(node, messages);
            }
            Plug::Witness => self.ask_witness(from, bytes),
            Plug::Host(_) | Plug::Server(_) => {}
        }
    }

    fn ask_witness(&mut self, from: Plug, mut bytes: Vec<u8>) {
        let state = &mut self.witness;
        if state.busy_until > self.now {
            let event = Event::Message { to: Plug::Witness, from, bytes };
            return self.push(self.witness.busy_until, event);
        }
        state.before = None;
        let local = state.machine.local(self.now);
        let Some((witness, sealing)) = &mut state.witness else { return };
        let request = match sealing.open(local, &mut bytes) {
            Ok(Opened::Datagram(request)) => request,
            Ok(Opened::Reply(reply)) => return self.transmit(Plug::Witness, from, reply),
            Ok(Opened::Nothing) => return,
            Err(reason) => {
                let hint = sealing.hint(local, reason, &bytes);
                return hint.into_iter().for_each(|hint| self.transmit(Plug::Witness, from, hint));
            }
        };
        let asked = Asked::of(witness, request);
        let effect = witness.handle_request(local, request);
        let step = asked.map(|asked| (asked.check(witness), asked));
        match effect {
            Ok(Effect::Reply(reply)) => {
                if let Some(reply) = sealing.seal(local, node_of(from), reply) {
                    self.transmit(Plug::Witness, from, reply);
                }
            }
            Ok(Effect::Persist(pending)) => {
                let mut written = None;
                let write = |bytes: &[u8]| {
                    written = Some(bytes.to_vec());
                    Ok::<(), ()>(())
                };
                let reply = witness.release(pending, write).expect("the disk works");
                let reply = sealing.seal(local, node_of(from), reply);
                state.before =
                    Some(std::mem::replace(&mut state.disk, written).unwrap_or_default());
                // Flushing takes its time, and nothing else is answered meanwhile.
                state.busy_until = self.now + 100_000 + self.random.below(4 * MS);
                let at = state.busy_until;
                let path = (Plug::Witness, from);
                let copies =
                    reply.map(|reply| self.cluster.carry(at, path, &reply, &mut self.random));
                for (at, bytes) in copies.into_iter().flatten() {
                    self.push(at, Event::Message { to: from, from: Plug::Witness, bytes });
                }
            }
            Ok(Effect::Nothing) | Err(_) => {}
        }
        if let Some((step, asked)) = step {
            self.check_step(&asked, step);
        }
    }
}

/// A NIC's hash of both ends of a connection: addresses and ports, where they stand without options.
fn hash_of_ends(frame: &[u8]) -> u64 {
    let ends = match frame.get(12..14) {
        Some([8, 0]) => frame.get(26..38),
        Some([0x86, 0xdd]) => frame.get(22..58),
        _ => None,
    };
    let mut hasher = DefaultHasher::new();
    hasher.write(ends.unwrap_or(&[]));
    hasher.finish()
}

/// Who has a plug of the cluster's network.
fn node_of(plug: Plug) -> NodeId {
    match plug {
        Plug::Node(index) => NodeId(index as u8 + 1),
        _ => WITNESS,
    }
}

fn destination(plug: Plug) -> Destination {
    match node_of(plug) {
        WITNESS => Destination::Witness,
        node => Destination::Node(node),
    }
}
