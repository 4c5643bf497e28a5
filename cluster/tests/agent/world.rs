//! A small deterministic world: agents, their witness, clocks that drift, a network that loses,
//! doubles, delays and cuts; the real encoding on every wire.
//!
//! Every event checks that at most one node holds a lease that its own clock says is in force. A
//! paused node keeps its published lease (its cores go on without their agent); a crashed one has
//! none.

#[path = "world/cores.rs"]
mod cores;
#[path = "world/faults.rs"]
mod faults;
#[path = "world/wire.rs"]
mod wire;

use super::fault::Clock;
pub use super::fault::{Event, Fault, MISHAPS, MS, Noise};
use super::sealing::{self, Heard};
use cluster::agent::handover::{Order, OrderError};
use cluster::agent::pass::Outcome;
use cluster::agent::status::GroupStatus;
use cluster::agent::{Agent, Arbiter, Config, Destination, GroupConfig};
use cluster::id::{Epoch, GroupId, Incarnation, Member, NodeId};
use cluster::lease::Timers;
use cluster::message::advertise::{Advertise, Failback, OnPeerLoss};
use cluster::message::{Header, Heartbeat, Message, Role, WITNESS, any_life, encode};
use cluster::path::Health;
use cluster::register::Register;
use cluster::role::{Command, Report};
use cluster::seal::{Party, surrender};
use cluster::witness::{Effect, Witness};
use stack::time::{Duration, Instant};
use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

pub const GROUP: GroupId = GroupId::new(0, 0);
/// The other generation of its service, in worlds that have two.
pub const YOUNGER: GroupId = GroupId::new(0, 1);
/// Both, by index.
pub const GENERATIONS: [GroupId; 2] = [GROUP, YOUNGER];
const CLUSTER: u64 = 0xc0ffee;

/// Cores of every node; each reports for itself.
const CORES: u8 = 2;

/// What a node's file says of the service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum File {
    Names,
    /// Nothing any more, since this attempt.
    Left(u32),
    /// Nothing.
    Without,
}

pub struct Node {
    pub agent: Option<Agent>,
    /// How it speaks, in a sealed world.
    party: Option<Party>,
    clock: Clock,
    pub life: u64,
    paused: bool,
    stuck: bool,
    /// Its cores have ended: whatever its agent publishes, nobody transmits.
    coreless: bool,
    /// What the cores see of each generation; renewed after every input, kept while the agent is paused.
    published: [Instant; 2],
    held: Vec<(Vec<u8>, usize)>,
    wake: u64,
    /// Its cores were told to serve.
    serves: [bool; 2],
    /// They carry copies on that lack what another has served since.
    carries_old: [bool; 2],
    /// Its cores were told to take and say nothing more, the n-th time.
    frozen: [Option<u32>; 2],
    /// Its cores were told to let no flow begin until they hear more.
    closing: [bool; 2],
    /// To which generation its cores were told that newcomers belong, and whether they are taken.
    pub newcomers: Option<(GroupId, bool)>,
    /// As its interface is; the measurement is told to its agent at the start and on every change.
    path: Health,
    /// What it declares from its next life on.
    pub declares: Advertise,
    /// What its file says of the service.
    pub file: File,
    /// What its cores were told, but for routes and newcomers.
    pub commands: Vec<Command>,
    /// The same for the other generation.
    pub younger: Vec<Command>,
    /// Where its cores send what they do not serve: since which epoch, to whom.
    pub route: Option<(Epoch, NodeId)>,
}

impl Node {
    /// What its cores were told about a generation.
    pub fn told(&self, group: GroupId) -> &Vec<Command> {
        if group == YOUNGER { &self.younger } else { &self.commands }
    }

    fn told_mut(&mut self, group: GroupId) -> &mut Vec<Command> {
        if group == YOUNGER { &mut self.younger } else { &mut self.commands }
    }

    fn becomes(&mut self, generation: usize, serves: bool) {
        self.serves[generation] = serves;
        (self.frozen[generation], self.closing[generation]) = (None, false);
        self.carries_old[generation] = false;
    }
}

pub struct World {
    pub now: u64,
    pub nodes: Vec<Node>,
    pub witness: Option<Witness>,
    witness_party: Option<Party>,
    is_sealed: bool,
    pub disk: Option<Vec<u8>>,
    pub noise: Noise,
    pub seed_flag: bool,
    pub loss: u64,
    cut: BTreeSet<(usize, usize)>,
    queue: BinaryHeap<Reverse<(u64, u64, Event)>>,
    order: u64,
    lives: u64,
    witness_clock: Clock,
    pub timers: Timers,
    arbiter: Arbiter,
    on_peer_loss: OnPeerLoss,
    pub failback: (Failback, Duration),
    /// Connections without a copy that a frozen core reports.
    pub absent: u32,
    /// Cores freeze within so many milliseconds.
    pub freeze_ms: u64,
    /// Every datagram that was sent, if they are kept: to whom, what, from whom.
    pub heard: Option<Vec<(usize, Vec<u8>, usize)>>,
    /// Who holds every copy, in which life; and of these, whose copies lack what was served since.
    filled: BTreeSet<(GroupId, u8, u64)>,
    outdated: BTreeSet<(GroupId, u8, u64)>,
    generations: usize,
    pub split_allowed: bool,
    pub silent_since: Option<u64>,
    pub longest_silence: u64,
    /// What became of orders that were passed on.
    pub outcomes: Vec<Outcome>,
}

impl World {
    pub fn new(seed: u64, count: usize, arbiter: Arbiter, timers: Timers) -> World {
        let mut noise = Noise::new(seed + 1);
        let mut clock = || Clock {
            offset: noise.below(1 << 45),
            // Within the configured drift of each other.
            rate: 1_000_000 + noise.below(u64::from(timers.drift_ppm)),
        };
        let witness_clock = clock();
        let node = |_| Node {
            agent: None,
            party: None,
            clock: clock(),
            life: 0,
            paused: false,
            stuck: false,
            coreless: false,
            published: [Instant::ZERO; 2],
            held: Vec::new(),
            wake: 0,
            serves: [false; 2],
            carries_old: [false; 2],
            frozen: [None; 2],
            closing: [false; 2],
            newcomers: None,
            path: Health { carrier: Some(true), ..Health::default() },
            declares: Advertise::default(),
            file: File::Names,
            commands: Vec::new(),
            younger: Vec::new(),
            route: None,
        };
        let nodes: Vec<Node> = (0..count).map(node).collect();
        World {
            now: 0,
            nodes,
            witness: None,
            witness_party: None,
            is_sealed: false,
            disk: None,
            noise,
            seed_flag: true,
            loss: 0,
            cut: BTreeSet::new(),
            queue: BinaryHeap::new(),
            order: 0,
            lives: 0,
            witness_clock,
            timers,
            arbiter,
            on_peer_loss: OnPeerLoss::Serve,
            failback: (Failback::Manual, Duration::from_secs(1)),
            absent: 0,
            freeze_ms: 3,
            heard: None,
            filled: BTreeSet::new(),
            outdated: BTreeSet::new(),
            generations: 1,
            split_allowed: false,
            silent_since: None,
            longest_silence: 0,
            outcomes: Vec::new(),
        }
    }

    /// Everything started at once.
    pub fn booted(seed: u64, count: usize) -> World {
        World::booted_with(seed, count, Arbiter::Witness, Timers::bed())
    }

    pub fn booted_with(seed: u64, count: usize, arbiter: Arbiter, timers: Timers) -> World {
        World::new(seed, count, arbiter, timers).start_all()
    }

    /// The same over sealed links.
    pub fn booted_sealed(seed: u64, count: usize) -> World {
        World::booted_sealed_with(seed, count, Arbiter::Witness, Timers::bed())
    }

    pub fn booted_sealed_with(seed: u64, count: usize, arbiter: Arbiter, timers: Timers) -> World {
        let mut world = World::new(seed, count, arbiter, timers);
        world.is_sealed = true;
        world.start_all()
    }

    /// The service has two generations: home gets the newcomers back after that long.
    pub fn booted_in_generations(seed: u64, count: usize, hold_down: Duration) -> World {
        let mut world = World::new(seed, count, Arbiter::Witness, Timers::bed());
        (world.generations, world.failback) = (2, (Failback::NewConnections, hold_down));
        world.start_all()
    }

    fn start_all(mut self) -> World {
        let world = &mut self;
        let count = world.nodes.len();
        for index in 0..=count {
            world.fault(Fault::Start(index));
        }
        self
    }

    /// The same, and run until the group is protected.
    pub fn protected(seed: u64, count: usize) -> World {
        let mut world = World::booted(seed, count);
        world.until(20_000, "protected", World::is_protected);
        world
    }

    pub fn stop_on_peer_loss(&mut self) {
        self.on_peer_loss = OnPeerLoss::Stop;
    }

    /// The index of the witness among the ends of links.
    pub fn witness_index(&self) -> usize {
        self.nodes.len()
    }

    pub fn at(&mut self, after_ms: u64, event: Event) {
        self.push(self.now + after_ms * MS, event);
    }

    fn push(&mut self, time: u64, event: Event) {
        self.order += 1;
        self.queue.push(Reverse((time, self.order, event)));
    }

    /// How fast the clocks of the first nodes run: their microseconds per true second.
    pub fn set_rates(&mut self, rates: [u64; 2]) {
        for (node, rate) in self.nodes.iter_mut().zip(rates) {
            node.clock.rate = rate;
        }
    }

    /// A node's clock has not counted so many nanoseconds.
    pub fn set_back(&mut self, index: usize, by: u64) {
        self.nodes[index].clock.offset -= by;
    }

    /// Who may transmit now: by its own clock, under the lease that its cores see.
    pub fn voices(&self) -> Vec<usize> {
        self.voices_in(0)
    }

    /// The same for a generation.
    pub fn voices_in(&self, generation: usize) -> Vec<usize> {
        let speaks = |node: &Node| node.published[generation] > node.clock.local(self.now);
        (0..self.nodes.len()).filter(|index| speaks(&self.nodes[*index])).collect()
    }

    /// Who lets flows begin now, and in which generation.
    pub fn openers(&self) -> Vec<(usize, usize)> {
        let opens = |(index, generation): &(usize, usize)| {
            let node = &self.nodes[*index];
            let is_theirs = node.newcomers == Some((GENERATIONS[*generation], true));
            is_theirs && !node.closing[*generation] && self.voices_in(*generation).contains(index)
        };
        let all = (0..self.nodes.len()).flat_map(|index| [(index, 0), (index, 1)]);
        all.filter(opens).collect()
    }

    pub fn group(&self, index: usize) -> Option<GroupStatus> {
        self.group_in(index, 0)
    }

    /// The same for a generation.
    pub fn group_in(&self, index: usize, generation: usize) -> Option<GroupStatus> {
        let node = &self.nodes[index];
        let agent = node.agent.as_ref()?;
        agent.status(node.clock.local(self.now)).groups.into_iter().nth(generation)
    }

    /// The register of a generation as a node knows it.
    pub fn register(&self, index: usize, generation: usize) -> Register {
        let agent = self.nodes[index].agent.as_ref();
        agent.map_or(Register::NEVER, |agent| agent.register(GENERATIONS[generation]))
    }

    pub fn is_protected(&self) -> bool {
        self.is_protected_in(0)
    }

    /// The same for a generation.
    pub fn is_protected_in(&self, generation: usize) -> bool {
        let [voice] = self.voices_in(generation)[..] else { return false };
        if !self.register(voice, generation).in_sync {
            return false;
        }
        let owner = self.group_in(voice, generation).filter(|group| group.protected);
        let Some(owner) = owner else { return false };
        let peer = owner.register.peer.map_or(0, |peer| peer.node.0);
        let Some(index) = usize::from(peer).checked_sub(1) else { return false };
        self.group_in(index, generation)
            .is_some_and(|group| group.role == Role::Peer && group.register == owner.register)
    }

    /// Everything that there is to know, for a story that went wrong.
    fn tell(&self) {
        for (index, node) in self.nodes.iter().enumerate() {
            eprintln!(
                "node {}: life {}, paused {}, stuck {}",
                index + 1,
                node.life,
                node.paused,
                node.stuck
            );
            if let Some(agent) = &node.agent {
                let status = agent.status(node.clock.local(self.now));
                eprintln!(
                    "  core_ok {}, superseded {}, witness {:?}",
                    status.core_ok, status.superseded, status.witness
                );
                eprintln!("  counters {:?}", agent.counters());
                for other in &status.nodes {
                    eprintln!("  {other:?}");
                }
                for group in &status.groups {
                    eprintln!("  {:?} {:?}, known {}", group.role, group.register, group.known);
                    eprintln!(
                        "  asking {:?}, lease {:?}, promise {:?}",
                        group.asking, group.lease, group.promise
                    );
                    for reason in &group.reasons {
                        eprintln!("    {reason:?}");
                    }
                }
            }
        }
        eprintln!("witness: {:#?}", self.witness);
    }

    pub fn run(&mut self, ms: u64) {
        let end = self.now + ms * MS;
        while self.queue.peek().is_some_and(|Reverse((time, _, _))| *time <= end) {
            self.step();
        }
        self.now = end;
    }

    /// Runs until `done`, at most `ms`; returns the milliseconds that it took.
    pub fn until(&mut self, ms: u64, what: &str, done: impl Fn(&World) -> bool) -> u64 {
        let start = self.now;
        while !done(self) {
            if self.now > start + ms * MS {
                self.tell();
                panic!("not {what} within {ms} ms");
            }
            self.step();
        }
        (self.now - start) / MS
    }

    pub fn step(&mut self) {
        let Some(Reverse((time, _, event))) = self.queue.pop() else { return };
        self.now = self.now.max(time);
        match event {
            Event::Fault(fault) => self.fault(fault),
            Event::Deliver { to, bytes, reply_to } => self.deliver(to, bytes, reply_to),
            Event::Say { from, to, bytes } => self.transmit(from, to, bytes),
            Event::Wake { node, life } => {
                let due = self.nodes[node].life == life && self.nodes[node].wake <= self.now;
                if due && !self.nodes[node].paused {
                    self.touch(node, |agent, now| agent.handle_timeout(now));
                }
            }
            Event::Filled { group, node, life, epoch, peer } => {
                self.fill(group, (node, life), epoch, peer);
            }
            Event::Frozen { group, node, life, epoch, attempt, absent } => {
                self.report_frozen(group, (node, life), epoch, (attempt, absent));
            }
            Event::Promoted { group, node, life, epoch } => {
                if self.nodes[node].life == life && !self.nodes[node].paused {
                    for core in 0..CORES {
                        let report = Report::Promoted {
                            group,
                            epoch: Epoch(epoch),
                            core,
                            flows: 7,
                            apply: Duration::from_millis(1),
                        };
                        self.touch(node, |agent, now| agent.handle_report(now, report));
                    }
                }
            }
        }
        self.check();
    }

    fn check(&mut self) {
        let (voices, younger) = (self.voices(), self.voices_in(1));
        if (voices.len() > 1 || younger.len() > 1) && !self.split_allowed {
            self.tell();
            panic!("two voices at {} ms: {voices:?}, {younger:?}", self.now / MS);
        }
        if !self.split_allowed {
            self.check_copies();
        }
        let openers = self.openers();
        if openers.len() > 1 {
            self.tell();
            panic!("newcomers are taken twice at {} ms: {openers:?}", self.now / MS);
        }
        if !voices.is_empty() {
            if let Some(since) = self.silent_since.take() {
                self.longest_silence = self.longest_silence.max(self.now - since);
            }
        } else if self.silent_since.is_none() {
            self.silent_since = Some(self.now);
        }
    }

    /// Gives the agent an input, then takes everything that comes out of it.
    fn touch(&mut self, index: usize, input: impl FnOnce(&mut Agent, Instant)) {
        let node = &mut self.nodes[index];
        let now = node.clock.local(self.now);
        let Some(agent) = &mut node.agent else { return };
        input(agent, now);
        let lease = |group| if node.coreless { Instant::ZERO } else { agent.lease(group) };
        node.published = GENERATIONS.map(lease);
        node.wake = node.clock.when(agent.poll_timeout()).max(self.now);
        self.outcomes.extend(std::iter::from_fn(|| agent.poll_outcome()));
        let (wake, life) = (node.wake, node.life);
        let messages: Vec<_> = std::iter::from_fn(|| agent.poll_message()).collect();
        if let Some(party) = &mut node.party {
            party.handle_timeout(now);
            while party.poll_keys().is_some() {}
        }
        let shakes = std::iter::from_fn(|| node.party.as_mut()?.poll_datagram()).collect();
        let commands: Vec<_> = std::iter::from_fn(|| agent.poll_command()).collect();
        self.push(wake, Event::Wake { node: index, life });
        for (destination, datagram) in messages {
            let to = match destination {
                Destination::Node(node) => node,
                Destination::Witness => WITNESS,
            };
            let sealed = sealing::seal(&mut self.nodes[index].party, now, to, datagram);
            if let Some(bytes) = sealed {
                self.transmit(index, self.index_of(to), bytes);
            }
        }
        for (to, bytes) in Vec::<(NodeId, Vec<u8>)>::into_iter(shakes) {
            self.transmit(index, self.index_of(to), bytes);
        }
        for command in commands {
            self.obey(index, life, command);
        }
    }
}
