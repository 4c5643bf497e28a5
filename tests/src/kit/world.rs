//! The world: clients, a switch, two nodes and the time that passes.
//!
//! Time jumps from event to event. An event is the arrival of a frame; between arrivals, whoever has a timer
//! due is polled. A node is driven in the order that [`cluster::engine`] prescribes; each frame that it
//! puts out counts, and a node can be told to die right after any of them.

mod node;
mod switch;
mod wire;

pub use node::{Node, stack_config};

use crate::kit::client::{self, Client, ClientSettings, Opener};
use crate::kit::dialogue::Dialogue;
use crate::kit::random::Random;
use crate::kit::raw::Raw;
use crate::kit::settings::{Link, Port, Settings};
use cluster::id::{Epoch, GroupId};
use cluster::limits::CAPTURE_BYTES_MAX;
use cluster::role::{Command, Report};
use stack::flow::Flow;
use stack::key::FlowKey;
use stack::stack::AHEAD_FLOWS_MAX;
use stack::time::{Duration, Instant};
use stack::wire::{Flags, Mac};
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
    /// The checks of a node have found something.
    Verdict { node: usize, server: u16, is_up: bool },
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
    /// Segments that nodes have said to clients and servers.
    pub segments: u64,
    /// Resets that reached clients.
    pub resets: u64,
    /// Frames of a node that spoke in an epoch older than another had spoken in.
    pub second_voices: u64,
    /// Segments that a client had to say again.
    pub repeats: u64,
    /// ICMP echo replies that reached clients: identifier, sequence number.
    pub pongs: Vec<(u16, u16)>,
    /// What the nodes have put out on the cluster link, if it is listened to: the sender and the datagram.
    pub tapped: Option<Vec<(usize, Vec<u8>)>>,
    epoch_heard: Epoch,
    /// The end of what each client has sent.
    sent: BTreeMap<FlowKey, stack::seq::Seq>,
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
            segments: 0,
            resets: 0,
            second_voices: 0,
            repeats: 0,
            sent: BTreeMap::new(),
            pongs: Vec::new(),
            tapped: None,
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
            let engines = self.nodes[node].engines.iter_mut();
            engines.for_each(|engine| engine.set_neighbor(id, endpoint));
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
        let (owner_cores, peer_cores) = (self.nodes[owner].cores(), self.nodes[1 - owner].cores());
        self.each_group(|world, group| {
            let follow = Command::Follow { group, epoch, owner: from, owner_cores };
            world.command(1 - owner, follow);
            world.route(1 - owner, group, epoch);
            world.command(owner, Command::Mirror { group, epoch, peer, peer_cores });
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

    /// `node` freezes every group, for the n-th time.
    pub fn freeze(&mut self, node: usize, epoch: Epoch, attempt: u32) {
        self.each_group(|world, group| {
            world.command(node, Command::Freeze { group, epoch, attempt });
        });
        self.drive(node);
    }

    /// Whether the n-th freeze of every group of `node` is committed on every core.
    pub fn is_frozen(&self, node: usize, attempt: u32) -> bool {
        let is_it = |report: &&Report| matches!(report, Report::Frozen { attempt: n, absent: 0, .. } if *n == attempt);
        let wanted = self.settings.ports.len() * self.nodes[node].cores() as usize;
        self.nodes[node].reports.iter().filter(is_it).count() == wanted
    }

    /// `node` serves on what it froze.
    pub fn thaw(&mut self, node: usize) {
        self.each_group(|world, group| world.command(node, Command::Thaw { group }));
        self.drive(node);
    }

    /// The register was changed: `node`, the peer of a frozen owner, owns every group.
    pub fn assume(&mut self, node: usize, epoch: Epoch) {
        self.each_group(|world, group| world.command(node, Command::Assume { group, epoch }));
        self.nodes[node].epoch = epoch;
        self.drive(node);
    }

    /// The register was changed: `node`, the frozen owner, is the peer of every group.
    pub fn yield_up(&mut self, node: usize, epoch: Epoch) {
        self.each_group(|world, group| {
            world.command(node, Command::Yield { group, epoch });
            world.route(node, group, epoch);
        });
        self.drive(node);
    }

    /// `owner` hands every group over, in this epoch and by its n-th freeze; `false` if it did not freeze.
    pub fn swap(&mut self, owner: usize, epoch: Epoch, attempt: u32) -> bool {
        self.freeze(owner, epoch, attempt);
        let is_frozen = |world: &World| world.is_frozen(owner, attempt);
        if !self.run_until(Duration::from_secs(2), is_frozen) {
            return false;
        }
        self.assume(1 - owner, epoch.next());
        self.yield_up(owner, epoch.next());
        true
    }

    /// `node` learns that the other one owns a group.
    pub fn route(&mut self, node: usize, group: GroupId, epoch: Epoch) {
        let (to, cores) = (self.nodes[1 - node].member, self.nodes[1 - node].cores());
        self.command(node, Command::Route { group, epoch, to, cores });
    }

    /// `node` owns every group without a peer.
    pub fn alone(&mut self, node: usize, epoch: Epoch) {
        self.each_group(|world, group| world.command(node, Command::Alone { group, epoch }));
        self.nodes[node].epoch = epoch;
        self.drive(node);
    }

    /// Calls `f` with every group.
    pub fn each_group(&mut self, mut f: impl FnMut(&mut World, GroupId)) {
        for index in 0..self.settings.ports.len() {
            f(self, GroupId::new(index as u32, 0));
        }
    }

    /// Gives a node an order.
    pub fn command(&mut self, node: usize, command: Command) {
        let now = self.now;
        self.nodes[node].handle_command(now, command);
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
            let is_known = self.nodes[node].find(&key).is_some();
            let is_opened = matches!(client.opener(), Opener::Node | Opener::Both);
            if !is_opened || !client.is_waiting() || is_known {
                continue;
            }
            let serves = |port: &Port| port.port == key.local_port;
            let service = self.settings.ports.iter().position(serves).expect("a service") as u8;
            let now = self.now;
            let opened = self.nodes[node].connect(now, service, key, client::mac(index));
            assert!(opened.is_ok(), "{opened:?}");
        }
    }

    /// A client made by hand, to the service behind `port`; answers its index.
    pub fn raw(&mut self, port: u16) -> usize {
        let index = self.raws.len();
        self.raws.push(Raw::new(1000 + index, port));
        index
    }

    /// A client made by hand whose connection to the service behind `port` is open; its SYN-ACK has been taken.
    pub fn open_raw(&mut self, port: u16) -> usize {
        let raw = self.raw(port);
        self.raws[raw].options.mss = Some(1460);
        self.say_raw(raw, Flags::SYN, &[]);
        self.raws[raw].options.mss = None;
        self.run_for(Duration::from_millis(1));
        let answer = self.raws[raw].take();
        assert!(answer.is_some_and(|heard| heard.flags.has(Flags::SYN)), "a SYN-ACK");
        self.say_raw(raw, Flags::ACK, &[]);
        self.run_for(Duration::from_millis(2));
        raw
    }

    /// A client made by hand says something.
    pub fn say_raw(&mut self, index: usize, flags: Flags, payload: &[u8]) {
        self.raws[index].send(flags, payload);
        self.send_raw(index);
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

    /// A client made by hand speaks to node 0's echo and acknowledges nothing, until its connection holds more than can be
    /// captured.
    pub fn stuff(&mut self, index: usize) {
        let held = |flow: &Flow| flow.output.stored();
        let una = self.raws[index].rcv_nxt;
        self.raws[index].acknowledges = false;
        while self.nodes[0].flows().map(held).sum::<u64>() < CAPTURE_BYTES_MAX as u64 + 100_000 {
            let seq = self.raws[index].snd_nxt;
            self.raws[index].send_exactly(seq, una, Flags::ACK.with(Flags::PSH), &[7; 1400]);
            self.raws[index].snd_nxt = seq + 1400;
            self.send_raw_to(index, 0);
            self.run_for(Duration::from_micros(300));
        }
    }

    /// It acknowledges what it hears, until `done`.
    pub fn drain(&mut self, index: usize, done: impl Fn(&World) -> bool) {
        self.raws[index].acknowledges = true;
        self.raws[index].send(Flags::ACK, &[]);
        let is_done = (0..20_000).any(|_| {
            self.send_raw_to(index, 0);
            self.run_until(Duration::from_micros(300), &done)
        });
        assert!(is_done, "it is captured once it holds less");
    }

    /// Puts a frame of a client on the wire; its Ethernet destination says to which node.
    pub fn send_request(&mut self, frame: Vec<u8>) {
        let node = self.nodes.iter().position(|node| frame[..6] == node.mac);
        let link = self.settings.client_link;
        if let Some(node) = node {
            if self.random.permille(self.settings.overheard) {
                self.put(link, Event::Request { node: 1 - node, frame: frame.clone() });
            }
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
            let due = self.nodes[node].poll_timeout();
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
        let nodes = alive.filter_map(|node| node.poll_timeout());
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
                let frames = self.burst_from(node, frame);
                if self.nodes[node].is_alive {
                    let frames: Vec<&[u8]> = frames.iter().map(|frame| &frame[..]).collect();
                    self.nodes[node].handle_frames(self.now, &frames);
                    self.drive(node);
                }
            }
            Event::Datagram { node, frame } => {
                if self.nodes[node].is_alive {
                    self.nodes[node].handle_datagram(self.now, &frame);
                    self.drive(node);
                }
            }
            Event::Answer { node, frame } => self.deliver_answer(node, &frame),
            Event::Verdict { node, server, is_up } => {
                if self.nodes[node].is_alive {
                    let engines = self.nodes[node].engines.iter_mut();
                    engines.for_each(|e| e.set_verdicts(self.now, 0, &[(server, is_up)]));
                    self.drive(node);
                }
            }
        }
    }

    /// What reaches a node at the same time is a burst: this frame and the others.
    fn burst_from(&mut self, node: usize, first: Vec<u8>) -> Vec<Vec<u8>> {
        let mut burst = vec![first];
        let due = self.events.range(..=(self.now, u64::MAX));
        let is_its =
            |event: &Event| matches!(event, Event::Request { node: to, .. } if *to == node);
        let keys = due.filter(|(_, event)| is_its(event)).map(|(key, _)| *key);
        for key in keys.take(AHEAD_FLOWS_MAX - 1).collect::<Vec<_>>() {
            let event = self.events.remove(&key).expect("just seen");
            if self.settings.trace {
                self.print(&event);
            }
            if let Event::Request { frame, .. } = event {
                burst.push(frame);
            }
        }
        burst
    }

    /// So much later the checks of both nodes find a server up or down.
    pub fn find_later(&mut self, time: Duration, server: u16, is_up: bool) {
        for node in 0..self.nodes.len() {
            self.events_count += 1;
            let event = Event::Verdict { node, server, is_up };
            self.events.insert((self.now + time, self.events_count), event);
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
            self.note_sent(&frame);
            self.send_request(frame);
        }
    }

    /// Polls a node until it has nothing more to say, or dies.
    pub fn drive(&mut self, node: usize) {
        let now = self.now;
        self.nodes[node].handle_timeouts(now);
        let mut buffer = [0; 2048];
        while self.nodes[node].is_alive {
            let Some(len) = self.nodes[node].poll_datagram(now, &mut buffer) else { break };
            self.put_datagram(node, &buffer[..len]);
        }
        while self.nodes[node].is_alive {
            let Some(len) = self.nodes[node].poll_frame(now, &mut buffer) else { break };
            let frame = buffer[..len].to_vec();
            self.note_said(&frame);
            let link = self.settings.client_link;
            self.put(link, Event::Answer { node, frame });
            self.nodes[node].count_output();
        }
        self.nodes[node].gather_reports();
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

    /// Records that a node has logged, all groups together.
    pub fn records(&self, node: usize) -> u64 {
        self.nodes[node].status().map(|status| status.log.records).sum()
    }
}
