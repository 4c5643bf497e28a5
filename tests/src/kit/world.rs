//! The world: clients, a switch, two nodes and the time that passes.
//!
//! Time jumps from event to event. An event is the arrival of a frame; between arrivals, whoever has a timer
//! due is polled. A node is driven in the order that [`cluster::engine`] prescribes; each frame that it
//! puts out counts, and a node can be told to die right after any of them.

use crate::kit::client::{self, Client, ClientSettings, Ending, Opener};
use crate::kit::dialogue::Dialogue;
use crate::kit::random::Random;
use crate::kit::raw::Raw;
use crate::kit::settings::{ADDRESS, ADDRESS_6, Link, Port, Settings};
use cluster::engine::{Engine, EngineConfig};
use cluster::id::{Epoch, GroupId, Incarnation, Member, NodeId, Op};
use cluster::link::{self, Endpoint};
use cluster::mirror::{Body, decode, next_record, put_header, put_record};
use cluster::role::{Command, Report};
use stack::codec::{Put, Reader};
use stack::key::FlowKey;
use stack::stack::StackConfig;
use stack::time::{Duration, Instant};
use stack::wire::{Address, Flags, Frame, Mac, Segment, parse};
use std::collections::BTreeMap;

/// The MTU of both links.
pub const MTU: usize = 1500;

/// TSval jumps by this much at a promotion.
pub const CLOCK_JUMP: Duration = Duration::from_millis(1400);

/// What is on its way.
#[derive(Clone, Debug)]
enum Event {
    /// From a client to the node that owned its Ethernet destination when it left.
    Request { node: usize, frame: Vec<u8> },
    /// From a node to the clients.
    Answer { node: usize, frame: Vec<u8> },
    /// From a node to the other one.
    Datagram { node: usize, frame: Vec<u8> },
}

/// What the switch has seen of a flow, from its nodes to its client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Said {
    /// The highest SEG.ACK.
    pub ack: stack::seq::Seq,
    /// The highest right edge offered, scaled.
    pub edge: stack::seq::Seq,
    /// Scale of the windows, from the SYN-ACK.
    pub scale: u8,
}

/// One node.
pub struct Node {
    /// The real thing.
    pub engine: Engine,
    /// It gets frames and is polled.
    pub is_alive: bool,
    /// The epoch under which it speaks.
    pub epoch: Epoch,
    /// Frames and datagrams that it has put out.
    pub outputs: u64,
    /// It dies right after this many.
    pub dies_after: Option<u64>,
    /// What it told the agent.
    pub reports: Vec<Report>,
    mac: Mac,
    endpoint: Endpoint,
    member: Member,
}

/// Clients, a switch, two nodes.
pub struct World {
    /// The time.
    pub now: Instant,
    /// What it was built from.
    pub settings: Settings,
    /// The nodes.
    pub nodes: Vec<Node>,
    /// Clients with a TCP of their own.
    pub clients: Vec<Client>,
    /// Clients made by hand.
    pub raws: Vec<Raw>,
    /// What was said in each flow, by the client's address and port.
    pub said: BTreeMap<FlowKey, Said>,
    /// Flows that a node began by a SYN, and the scale of the windows that it offered.
    pub begun: BTreeMap<FlowKey, u8>,
    /// Resets that reached clients.
    pub resets: u64,
    /// Frames of a node that spoke in an epoch older than another had spoken in.
    pub second_voices: u64,
    /// ICMP echo replies that reached clients: identifier, sequence number.
    pub pongs: Vec<(u16, u16)>,
    epoch_heard: Epoch,
    neighbor: Option<Mac>,
    events: BTreeMap<(Instant, u64), Event>,
    events_count: u64,
    random: Random,
    spins: u32,
}

impl World {
    /// A world in which nobody serves yet.
    pub fn new(settings: Settings) -> World {
        let nodes = (0..2).map(|index| Node::new(index, 1, &settings)).collect();
        let mut world = World {
            now: Instant(1_000_000_000),
            random: Random::new(settings.seed),
            settings,
            nodes,
            clients: Vec::new(),
            raws: Vec::new(),
            said: BTreeMap::new(),
            begun: BTreeMap::new(),
            resets: 0,
            second_voices: 0,
            pongs: Vec::new(),
            epoch_heard: Epoch(0),
            neighbor: None,
            events: BTreeMap::new(),
            events_count: 0,
            spins: 0,
        };
        world.introduce();
        world
    }

    /// The nodes learn each other's place on the cluster link.
    fn introduce(&mut self) {
        for node in 0..2 {
            let endpoint = self.nodes[1 - node].endpoint;
            let id = self.nodes[1 - node].member.node;
            self.nodes[node].engine.set_neighbor(id, endpoint);
        }
    }

    /// A node comes back with nothing but its configuration.
    pub fn restart(&mut self, index: usize) {
        let life = self.nodes[index].member.incarnation.0 % 100 + 1;
        self.nodes[index] = Node::new(index, life, &self.settings);
        self.introduce();
    }

    /// A world in which node 0 owns every group, alone.
    pub fn serving(settings: Settings) -> World {
        let mut world = World::new(settings);
        world.each_group(|world, group| {
            world.command(0, Command::Serve { group, epoch: Epoch(1) });
        });
        world.run_for(Duration::from_millis(1));
        world
    }

    /// A world in which node 0 owns every group and node 1 holds the copies.
    pub fn mirrored(settings: Settings) -> World {
        let mut world = World::serving(settings);
        world.mirror(0, Epoch(2));
        world.run_for(Duration::from_millis(5));
        let filled = world.nodes[0].reports.len();
        assert_eq!(filled, world.settings.ports.len(), "every group is filled");
        world
    }

    /// The same over links that may lose: every group is filled in the end.
    pub fn mirrored_slowly(settings: Settings) -> World {
        let mut world = World::serving(settings);
        world.mirror(0, Epoch(2));
        let groups = world.settings.ports.len();
        let is_filled = |world: &World| world.nodes[0].reports.len() == groups;
        assert!(world.run_until(Duration::from_secs(10), is_filled), "every group is filled");
        // The announcements of the address may be lost; they come again for three seconds.
        let is_known = |world: &World| world.neighbor.is_some();
        assert!(world.run_until(Duration::from_secs(10), is_known), "the address is known");
        world.nodes[0].reports.clear();
        world
    }

    /// `owner` mirrors every group to the other node.
    pub fn mirror(&mut self, owner: usize, epoch: Epoch) {
        let (from, peer) = (self.nodes[owner].member, self.nodes[1 - owner].member);
        self.each_group(|world, group| {
            world.command(1 - owner, Command::Follow { group, epoch, owner: from });
            world.command(owner, Command::Mirror { group, epoch, peer });
        });
    }

    /// The register was changed: `node` owns every group from its copies.
    pub fn promote(&mut self, node: usize, epoch: Epoch) {
        self.each_group(|world, group| {
            world.command(node, Command::Promote { group, epoch, clock_jump: CLOCK_JUMP });
        });
        self.nodes[node].epoch = epoch;
        self.drive(node);
    }

    /// Calls `f` with every group.
    pub fn each_group(&mut self, mut f: impl FnMut(&mut World, GroupId)) {
        for index in 0..self.settings.ports.len() {
            f(self, GroupId::new(index as u8, 0));
        }
    }

    /// Gives a node an order.
    pub fn command(&mut self, node: usize, command: Command) {
        let now = self.now;
        self.nodes[node].engine.handle_command(now, command);
        if let Command::Serve { epoch, .. } = command {
            self.nodes[node].epoch = epoch;
        }
    }

    /// A client begins a dialogue; answers its index.
    pub fn connect(&mut self, settings: ClientSettings, dialogue: Dialogue) -> usize {
        let index = self.clients.len();
        let client = Client::new(self.now, index, self.settings.seed, settings, dialogue);
        self.clients.push(client);
        self.drive_client(index);
        index
    }

    /// `node` opens the connections that it is to open and knows nothing of, unless the client has heard of one.
    pub fn open(&mut self, node: usize) {
        for index in 0..self.clients.len() {
            let client = &self.clients[index];
            let key = client.key(index);
            let is_known = self.nodes[node].engine.stack().find(&key).is_some();
            if client.opener() == Opener::Client || !client.is_waiting() || is_known {
                continue;
            }
            let serves = |port: &Port| port.port == key.local_port;
            let service = self.settings.ports.iter().position(serves).expect("a service") as u8;
            let now = self.now;
            let opened = self.nodes[node].engine.connect(now, service, key, client::mac(index));
            assert!(opened.is_ok(), "{opened:?}");
        }
    }

    /// A client made by hand, to the service behind `port`; answers its index.
    pub fn raw(&mut self, port: u16) -> usize {
        let index = self.raws.len();
        self.raws.push(Raw::new(1000 + index, port));
        index
    }

    /// Sends what a client made by hand has queued.
    pub fn send_raw(&mut self, index: usize) {
        while let Some(frame) = self.raws[index].poll_frame(self.neighbor.unwrap_or([0; 6])) {
            self.send_request(frame);
        }
    }

    /// The same, to a node that has not announced itself.
    pub fn send_raw_to(&mut self, index: usize, node: usize) {
        let mac = self.nodes[node].mac;
        while let Some(frame) = self.raws[index].poll_frame(mac) {
            self.send_request(frame);
        }
    }

    /// Puts a frame of a client on the wire; its Ethernet destination says to which node.
    pub fn send_request(&mut self, frame: Vec<u8>) {
        let node = self.nodes.iter().position(|node| frame[..6] == node.mac);
        let link = self.settings.client_link;
        if let Some(node) = node {
            self.put(link, Event::Request { node, frame });
        }
    }

    /// Where the clients believe the service to be.
    pub fn neighbor(&self) -> Option<Mac> {
        self.neighbor
    }

    /// Lets time pass.
    pub fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.step(end) {}
    }

    /// Lets time pass until `is_done`, at most for `time`; answers whether it is.
    pub fn run_until(&mut self, time: Duration, mut is_done: impl FnMut(&World) -> bool) -> bool {
        let end = self.now + time;
        while !is_done(self) {
            if !self.step(end) {
                return is_done(self);
            }
        }
        true
    }

    /// The next thing that happens before `end`; `false` if there is none, and then it is `end`.
    pub fn step(&mut self, end: Instant) -> bool {
        let at = self.next_at().max(self.now);
        if at > end {
            self.now = end;
            return false;
        }
        self.spins = if at == self.now { self.spins + 1 } else { 0 };
        assert!(self.spins < 20_000, "something is always due and never done");
        self.now = at;
        if self.events.first_key_value().is_some_and(|((when, _), _)| *when <= at) {
            let (_, event) = self.events.pop_first().expect("just seen");
            self.deliver(event);
            return true;
        }
        for node in 0..self.nodes.len() {
            let due = self.nodes[node].engine.poll_timeout();
            if self.nodes[node].is_alive && due.is_some_and(|due| due <= at) {
                self.drive(node);
            }
        }
        for index in 0..self.clients.len() {
            if self.clients[index].poll_timeout(at).is_some_and(|due| due <= at) {
                self.drive_client(index);
            }
        }
        true
    }

    fn next_at(&mut self) -> Instant {
        let now = self.now;
        let events = self.events.first_key_value().map(|((at, _), _)| *at);
        // A node that has something to do whenever it is polled is polled now and then.
        let soon = now + Duration::from_micros(20);
        let alive = self.nodes.iter().filter(|node| node.is_alive);
        let nodes = alive.filter_map(|node| node.engine.poll_timeout());
        let nodes = nodes.map(|at| if at <= now { soon } else { at }).min();
        let clients = self.clients.iter_mut().filter_map(|client| client.poll_timeout(now)).min();
        // smoltcp may round a deadline down to a microsecond that has begun.
        let clients = clients.map(|at| if at <= now { now + Duration::from_micros(1) } else { at });
        [events, nodes, clients].into_iter().flatten().min().unwrap_or(Instant::MAX)
    }

    fn deliver(&mut self, event: Event) {
        if self.settings.trace {
            self.print(&event);
        }
        match event {
            Event::Request { node, frame } => {
                if self.nodes[node].is_alive {
                    self.nodes[node].engine.handle_frame(self.now, &frame);
                    self.drive(node);
                }
            }
            Event::Datagram { node, frame } => {
                if self.nodes[node].is_alive {
                    self.nodes[node].engine.handle_datagram(self.now, &frame);
                    self.drive(node);
                }
            }
            Event::Answer { node, frame } => self.deliver_answer(node, &frame),
        }
    }

    fn print(&self, event: &Event) {
        let (frame, what) = match event {
            Event::Request { node, frame } => (frame, format!("client -> {node}")),
            Event::Answer { node, frame } => (frame, format!("client <- {node}")),
            Event::Datagram { node, frame } => {
                let Ok((_, body)) = decode(link_payload(frame)) else { return };
                match body {
                    Body::Records { first, count, bytes, .. } => {
                        let record = next_record(&mut Reader::new(bytes)).map(|record| record.kind);
                        println!("{:?} records {first}+{count} -> {node} {record:?}", self.now);
                    }
                    Body::Ack { acked, missing, .. } => {
                        println!("{:?} ack {acked} -> {node}, missing {missing:?}", self.now);
                    }
                }
                return;
            }
        };
        let to: Mac = frame[..6].try_into().expect("frames have headers");
        if let Ok(Frame::Tcp(segment)) = parse(frame, &to, &[]) {
            let Segment { seq, ack, window, flags, payload, options, .. } = segment;
            let (len, flags) = (payload.len(), flags.0);
            let sack: Vec<_> = options.sack.iter().flatten().collect();
            println!(
                "{:?} {what} port {} seq {seq:?} ack {ack:?} flags {flags:#x} window {window} len {len} {sack:?}",
                self.now,
                segment.source_port.max(segment.destination_port),
            );
        }
    }

    fn deliver_answer(&mut self, node: usize, frame: &[u8]) {
        let to: Mac = frame[..6].try_into().expect("frames have headers");
        match parse(frame, &to, &[]) {
            Ok(Frame::AddressQuery { sender_mac, target, is_claim: true, .. }) => {
                if target == Address::v4(ADDRESS) || target == Address(ADDRESS_6) {
                    self.neighbor = Some(sender_mac);
                }
            }
            Ok(Frame::Tcp(segment)) => self.deliver_segment(node, frame, to, &segment),
            _ => self.note_pong(frame),
        }
    }

    fn deliver_segment(&mut self, node: usize, frame: &[u8], to: Mac, segment: &Segment) {
        let epoch = self.nodes[node].epoch;
        if epoch < self.epoch_heard {
            self.second_voices += 1;
        }
        self.epoch_heard = self.epoch_heard.max(epoch);
        let is_reset = segment.flags.has(Flags::RST);
        self.resets += is_reset as u64;
        if let Some(index) = (0..self.clients.len()).find(|&index| client::mac(index) == to) {
            let was_closed = self.clients[index].is_closed();
            self.clients[index].handle_packet(&frame[14..]);
            let ending = self.clients[index].ending;
            self.drive_client(index);
            if is_reset && !was_closed && ending == Ending::Open {
                let client = &mut self.clients[index];
                if client.is_closed() {
                    client.ending = Ending::Reset;
                }
            }
        }
        let now = self.now;
        if let Some(raw) = self.raws.iter_mut().find(|raw| raw.mac() == to) {
            raw.handle_segment(now, segment);
        }
    }

    fn note_pong(&mut self, frame: &[u8]) {
        // Ethernet 14, IPv4 20, ICMP: type, code, checksum, identifier, sequence number.
        if frame.len() >= 42 && frame[23] == 1 && frame[34] == 0 {
            let word = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
            self.pongs.push((word(38), word(40)));
        }
    }

    fn drive_client(&mut self, index: usize) {
        let now = self.now;
        self.clients[index].handle_timeouts(now);
        while let Some(packet) = self.clients[index].poll_packet() {
            let Some(to) = self.neighbor else { continue };
            let mut frame = Vec::with_capacity(14 + packet.len());
            frame.extend_from_slice(&to);
            frame.extend_from_slice(&client::mac(index));
            let is_v6 = packet[0] >> 4 == 6;
            frame.extend_from_slice(if is_v6 { &[0x86, 0xdd] } else { &[8, 0] });
            frame.extend_from_slice(&packet);
            self.send_request(frame);
        }
    }

    /// Polls a node until it has nothing more to say, or dies.
    pub fn drive(&mut self, node: usize) {
        let now = self.now;
        self.nodes[node].engine.handle_timeouts(now);
        let mut buffer = [0; 2048];
        while self.nodes[node].is_alive {
            let Some(len) = self.nodes[node].engine.poll_datagram(now, &mut buffer) else { break };
            self.put_datagram(node, &buffer[..len]);
        }
        while self.nodes[node].is_alive {
            let Some((len, _)) = self.nodes[node].engine.poll_frame(now, &mut buffer) else {
                break;
            };
            let frame = buffer[..len].to_vec();
            self.note_said(&frame);
            let link = self.settings.client_link;
            self.put(link, Event::Answer { node, frame });
            self.count_output(node);
        }
        while let Some(report) = self.nodes[node].engine.poll_report() {
            self.nodes[node].reports.push(report);
        }
    }

    fn count_output(&mut self, node: usize) {
        let node = &mut self.nodes[node];
        node.outputs += 1;
        if node.dies_after == Some(node.outputs) {
            node.is_alive = false;
        }
    }

    fn put_datagram(&mut self, node: usize, frame: &[u8]) {
        if self.settings.forge_acknowledgements {
            self.forge_acknowledgement(node, frame);
        }
        let to = 1 - node;
        let link = self.settings.cluster_link;
        if !self.settings.split_records {
            self.put(link, Event::Datagram { node: to, frame: frame.to_vec() });
            self.count_output(node);
            return;
        }
        for payload in split(link_payload(frame)) {
            let frame = self.datagram_frame(node, &payload);
            self.put(link, Event::Datagram { node: to, frame });
            self.count_output(node);
            if !self.nodes[node].is_alive {
                return;
            }
        }
    }

    fn datagram_frame(&self, from: usize, payload: &[u8]) -> Vec<u8> {
        let mut buffer = [0; 2048];
        let (a, b) = (self.nodes[from].endpoint, self.nodes[1 - from].endpoint);
        let len = link::emit(&mut buffer, &a, &b, payload);
        buffer[..len].to_vec()
    }

    /// The planted defect: the owner is told at once that the peer holds what it has just been sent.
    fn forge_acknowledgement(&mut self, node: usize, frame: &[u8]) {
        let Ok((session, Body::Records { first, count, .. })) = decode(link_payload(frame)) else {
            return;
        };
        let mut ack = Vec::new();
        put_header(&mut ack, &session.reversed(), true);
        ack.put_u64(first.0 + count as u64 - 1);
        ack.put_u64(0);
        ack.put_u64(0);
        ack.put_u8(0);
        let frame = self.datagram_frame(1 - node, &ack);
        let now = self.now;
        self.nodes[node].engine.handle_datagram(now, &frame);
    }

    /// Remembers what a node has told a client, at the moment it leaves.
    fn note_said(&mut self, frame: &[u8]) {
        let to: Mac = frame[..6].try_into().expect("frames have headers");
        let Ok(Frame::Tcp(segment)) = parse(frame, &to, &[]) else { return };
        if segment.flags.has(Flags::RST) {
            return;
        }
        let key = FlowKey {
            remote: segment.destination,
            local: segment.source,
            remote_port: segment.destination_port,
            local_port: segment.source_port,
        };
        let is_syn = segment.flags.has(Flags::SYN);
        let scale = segment.options.window_scale.unwrap_or(0);
        if !segment.flags.has(Flags::ACK) {
            self.begun.insert(key, scale);
            return;
        }
        if is_syn {
            let edge = segment.ack + segment.window as u32;
            self.said.insert(key, Said { ack: segment.ack, edge, scale });
            return;
        }
        if let Some(&scale) = self.begun.get(&key) {
            // Every client here scales its windows, so that what our SYN offered is agreed on.
            let edge = segment.ack + ((segment.window as u32) << scale);
            self.said.entry(key).or_insert(Said { ack: segment.ack, edge, scale });
        }
        let Some(said) = self.said.get_mut(&key) else { return };
        let edge = segment.ack + ((segment.window as u32) << said.scale);
        said.ack = said.ack.max(segment.ack);
        said.edge = said.edge.max(edge);
    }

    fn put(&mut self, link: Link, event: Event) {
        if self.random.permille(link.loss_permille) {
            return;
        }
        let copies = 1 + self.random.permille(link.twice_permille) as u64;
        for _ in 0..copies {
            let jitter = self.random.below(link.jitter.0 + 1);
            let at = self.now + link.delay + Duration(jitter);
            self.events_count += 1;
            self.events.insert((at, self.events_count), event.clone());
        }
    }

    /// Ends a node. What it has put out is on its way.
    pub fn kill(&mut self, node: usize) {
        self.nodes[node].is_alive = false;
    }

    /// Takes the datagrams to `node` that are on their way, oldest first.
    pub fn take_datagrams(&mut self, node: usize) -> Vec<Vec<u8>> {
        let is_wanted =
            |event: &Event| matches!(event, Event::Datagram { node: to, .. } if *to == node);
        let events = std::mem::take(&mut self.events);
        let (taken, kept): (Vec<_>, Vec<_>) =
            events.into_iter().partition(|(_, event)| is_wanted(event));
        self.events = kept.into_iter().collect();
        let frame = |(_, event)| match event {
            Event::Datagram { frame, .. } => frame,
            _ => unreachable!("only datagrams were taken"),
        };
        taken.into_iter().map(frame).collect()
    }

    /// Hands a node a datagram now, whatever the link is like.
    pub fn hand_datagram(&mut self, node: usize, frame: &[u8]) {
        let now = self.now;
        self.nodes[node].engine.handle_datagram(now, frame);
    }

    /// The planted defect: a datagram of records as if the one before it had never been.
    pub fn skip_hole(&self, to: usize, frame: &[u8]) -> Vec<u8> {
        let Ok((session, Body::Records { first, clock, count, bytes })) =
            decode(link_payload(frame))
        else {
            return frame.to_vec();
        };
        let mut out = Vec::new();
        put_header(&mut out, &session, false);
        out.put_u64(first.0 - 1);
        out.put_u64(clock);
        out.put_u16(count);
        out.put_bytes(bytes);
        self.datagram_frame(1 - to, &out)
    }

    /// What a node has put out to clients and is on its way is lost.
    pub fn lose_answers(&mut self, node: usize) {
        self.events
            .retain(|_, event| !matches!(event, Event::Answer { node: from, .. } if *from == node));
    }

    /// Takes the frames of a node that are on their way to clients, oldest first: a burst that was checked and
    /// whose kick is late.
    pub fn take_answers(&mut self, node: usize) -> Vec<Vec<u8>> {
        let events = std::mem::take(&mut self.events);
        let mut taken = Vec::new();
        for (at, event) in events {
            match event {
                Event::Answer { node: from, frame } if from == node => taken.push(frame),
                event => drop(self.events.insert(at, event)),
            }
        }
        taken
    }

    /// Lets frames of a node reach the clients now, whatever happened since they were made.
    pub fn put_answers(&mut self, node: usize, frames: Vec<Vec<u8>>) {
        for frame in frames {
            self.events_count += 1;
            self.events.insert((self.now, self.events_count), Event::Answer { node, frame });
        }
    }

    /// Records that a node has logged, all groups together.
    pub fn records(&self, node: usize) -> u64 {
        self.nodes[node].engine.status().map(|status| status.log.records).sum()
    }
}

impl Node {
    fn new(index: usize, life: u64, settings: &Settings) -> Node {
        let id = index as u8 + 1;
        let member = Member { node: NodeId(id), incarnation: Incarnation(100 * id as u64 + life) };
        let endpoint = Endpoint { mac: [2, 3, 0, 0, 0, id], address: [10, 9, 0, id], port: 7947 };
        let mac = [2, 2, 0, 0, 0, id];
        let config = EngineConfig {
            member,
            cluster: 1,
            endpoint,
            link_mtu: MTU,
            wall_offset: 1_700_000_000_000_000_000 + index as u64 * 12_345_678_901,
            stack: StackConfig {
                node: id,
                mac,
                secret: [7; 32],
                flows_max: settings.flows_max,
                segments_max: settings.segments_max,
                chunks_max: match settings.peer_chunks_max {
                    Some(chunks) if index == 1 => chunks,
                    _ => settings.chunks_max,
                },
                pieces_max: 64 * settings.flows_max,
                reassemblies_max: settings.flows_max,
            },
        };
        let groups: Vec<GroupId> =
            (0..settings.ports.len()).map(|index| GroupId::new(index as u8, 0)).collect();
        Node {
            engine: Engine::new(&config, settings.services(), &groups),
            is_alive: true,
            epoch: Epoch(0),
            outputs: 0,
            dies_after: None,
            reports: Vec::new(),
            mac,
            endpoint,
            member,
        }
    }

    /// This life of this node.
    pub fn member(&self) -> Member {
        self.member
    }

    /// Its end of the cluster link.
    pub fn endpoint(&self) -> Endpoint {
        self.endpoint
    }
}

fn link_payload(frame: &[u8]) -> &[u8] {
    &frame[link::LINK_HEADER_BYTES..]
}

/// Datagrams with one record each that say what `payload` says.
fn split(payload: &[u8]) -> Vec<Vec<u8>> {
    let Ok((session, Body::Records { first, clock, count, bytes })) = decode(payload) else {
        return vec![payload.to_vec()];
    };
    let mut reader = Reader::new(bytes);
    let single = |n: u64| {
        let record = next_record(&mut reader).expect("an owner's records can be read");
        let mut out = Vec::new();
        put_header(&mut out, &session, false);
        out.put_u64(Op(first.0 + n).0);
        out.put_u64(clock);
        out.put_u16(1);
        put_record(&mut out, record.kind, record.flow, record.bytes.len());
        out.put_bytes(record.bytes);
        out
    };
    (0..count as u64).map(single).collect()
}
