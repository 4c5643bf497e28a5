//! A small deterministic world: agents, their witness, clocks that drift, a network that loses,
//! doubles, delays and cuts; the real encoding on every wire.
//!
//! Every event checks that at most one node holds a lease that its own clock says is in force. A
//! paused node keeps its published lease (its cores go on without their agent); a crashed one has
//! none.

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
    }
}

/// Which group an order to the cores is about.
fn group_of(command: &Command) -> GroupId {
    match *command {
        Command::Serve { group, .. }
        | Command::Promote { group, .. }
        | Command::Mirror { group, .. }
        | Command::Protected { group, .. }
        | Command::Alone { group, .. }
        | Command::Follow { group, .. }
        | Command::FollowInSync { group, .. }
        | Command::Freeze { group, .. }
        | Command::Close { group, .. }
        | Command::Thaw { group, .. }
        | Command::Assume { group, .. }
        | Command::Yield { group, .. }
        | Command::Route { group, .. }
        | Command::Newcomers { group, .. }
        | Command::Stop { group } => group,
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
    filled: BTreeSet<(GroupId, u8, u64)>,
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
            frozen: [None; 2],
            closing: [false; 2],
            newcomers: None,
            path: Health { carrier: Some(true), ..Health::default() },
            declares: Advertise::default(),
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

    /// The cores of a node have no flow of a generation any more, if it is one that was left behind.
    pub fn last_flow_ends(&mut self, node: usize, generation: usize) {
        let Some(status) = self.group_in(node, generation) else { return };
        for core in 0..CORES {
            let (group, epoch) = (GENERATIONS[generation], status.register.epoch);
            let report = Report::Empty { group, epoch, core };
            self.touch(node, |agent, now| agent.handle_report(now, report));
        }
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

    /// The owner's core reports the peer filled, once the peer's core has been told to follow.
    fn fill(&mut self, group: GroupId, (node, life): (usize, u64), epoch: u64, peer: (u8, u64)) {
        let owner = &self.nodes[node];
        let heir = &self.nodes[usize::from(peer.0) - 1];
        let mirrors = matches!(owner.told(group).last(),
            Some(Command::Mirror { epoch: named, .. }) if named.0 == epoch);
        let follows = matches!(heir.told(group).last(),
            Some(Command::Follow { epoch: named, .. }) if named.0 == epoch);
        if owner.life != life || heir.life != peer.1 || !mirrors {
            return;
        }
        if owner.paused || !follows {
            return self.at(3, Event::Filled { group, node, life, epoch, peer });
        }
        self.filled.insert((group, peer.0, peer.1));
        let generation = usize::from(group.generation());
        for core in 0..CORES {
            let status = self.group_in(node, generation);
            let in_sync = status.is_some_and(|group| group.register.in_sync);
            assert!(!in_sync, "core {core} has not reported");
            let report = Report::Filled {
                group,
                epoch: Epoch(epoch),
                core,
                peer: Member { node: NodeId(peer.0), incarnation: Incarnation(peer.1) },
            };
            self.touch(node, |agent, now| agent.handle_report(now, report));
        }
    }

    /// Every core reports, also if it was thawed meanwhile: what was said is on its way.
    fn report_frozen(
        &mut self,
        group: GroupId,
        (node, life): (usize, u64),
        epoch: u64,
        (attempt, absent): (u32, u32),
    ) {
        if self.nodes[node].life != life {
            return;
        }
        if self.nodes[node].paused {
            let event = Event::Frozen { group, node, life, epoch, attempt, absent };
            return self.at(2, event);
        }
        for core in 0..CORES {
            let epoch = Epoch(epoch);
            let report = Report::Frozen { group, epoch, core, attempt, flows: 7, absent };
            self.touch(node, |agent, now| agent.handle_report(now, report));
        }
    }

    /// Whoever changes places with the owner must find it frozen, and holding what it served, or dead.
    fn check_assumed(&self, index: usize, of: usize) {
        let group = |index: usize| self.group_in(index, of);
        let Some(peer) = group(index).and_then(|group| group.register.peer) else { return };
        let former = &self.nodes[usize::from(peer.node.0) - 1];
        let is_other_life = former.life != peer.incarnation.0 || former.coreless;
        // A late word of the swap may reach a node after the other has taken over again.
        let epoch = |index: usize| group(index).map_or(0, |group| group.register.epoch.0);
        let has_moved_on = epoch(usize::from(peer.node.0) - 1) > epoch(index);
        let is_silent = former.frozen[of].is_some() || !former.serves[of] || has_moved_on;
        if !is_other_life && !is_silent {
            self.tell();
        }
        assert!(is_other_life || is_silent, "node {} assumed from a living owner", index + 1);
    }

    fn check(&mut self) {
        let (voices, younger) = (self.voices(), self.voices_in(1));
        if (voices.len() > 1 || younger.len() > 1) && !self.split_allowed {
            self.tell();
            panic!("two voices at {} ms: {voices:?}, {younger:?}", self.now / MS);
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

    fn index_of(&self, node: NodeId) -> usize {
        if node == WITNESS { self.witness_index() } else { usize::from(node.0) - 1 }
    }

    /// A node that is awake hears a datagram.
    fn hear(&mut self, to: usize, bytes: Vec<u8>, reply_to: usize) {
        let node = &mut self.nodes[to];
        let now = node.clock.local(self.now);
        if node.agent.is_none() {
            return;
        }
        match sealing::open(&mut node.party, now, bytes) {
            Heard::Datagram(bytes) => {
                self.touch(to, |agent, now| agent.handle_message(now, &bytes))
            }
            Heard::Reply(reply) => self.transmit(to, reply_to, reply),
            // What its party has to say leaves as after any input.
            Heard::Nothing => self.touch(to, |_, _| {}),
        }
    }

    fn obey(&mut self, index: usize, life: u64, command: Command) {
        if let Command::Newcomers { group, are_taken, .. } = command {
            return self.hear_of_newcomers(index, group, are_taken);
        }
        let group = group_of(&command);
        let of = usize::from(group.generation());
        let name = (group, index as u8 + 1, life);
        match command {
            Command::Mirror { epoch, peer, peer_cores, .. } => {
                assert_eq!(peer_cores, CORES);
                let peer = (peer.node.0, peer.incarnation.0);
                let after = self.noise.between(1, 80);
                self.at(after, Event::Filled { group, node: index, life, epoch: epoch.0, peer });
            }
            Command::Promote { epoch, .. } | Command::Assume { epoch, .. } => {
                // Copies that were served are no copies any more.
                let held = self.filled.remove(&name);
                assert!(held, "node {} was promoted without the copies", index + 1);
                if matches!(command, Command::Assume { .. }) {
                    self.check_assumed(index, of);
                }
                self.nodes[index].becomes(of, true);
                self.at(1, Event::Promoted { group, node: index, life, epoch: epoch.0 });
            }
            Command::Follow { .. } | Command::Stop { .. } => {
                self.filled.remove(&name);
                self.nodes[index].becomes(of, false);
            }
            Command::Freeze { epoch, attempt, .. } | Command::Close { epoch, attempt, .. } => {
                let node = &mut self.nodes[index];
                let is_free = node.frozen[of].is_none() && !node.closing[of];
                assert!(node.serves[of] && is_free, "frozen is who serves, once");
                match command {
                    Command::Close { .. } => node.closing[of] = true,
                    _ => node.frozen[of] = Some(attempt),
                }
                let (after, absent) = (self.noise.between(0, self.freeze_ms), self.absent);
                let (node, epoch) = (index, epoch.0);
                self.at(after, Event::Frozen { group, node, life, epoch, attempt, absent });
            }
            Command::Thaw { .. } => {
                let node = &mut self.nodes[index];
                let is_thawed =
                    node.frozen[of].take().is_some() | std::mem::take(&mut node.closing[of]);
                assert!(is_thawed, "only the frozen are thawed");
            }
            Command::Yield { .. } => {
                let node = &mut self.nodes[index];
                let is_frozen = node.frozen[of].take().is_some();
                assert!(node.serves[of] && is_frozen, "only the frozen yield");
                node.serves[of] = false;
                self.filled.insert(name);
            }
            Command::Alone { .. } => {
                (self.nodes[index].frozen[of], self.nodes[index].closing[of]) = (None, false);
            }
            Command::Route { epoch, to, .. } => {
                // Says nothing of what this node is.
                self.nodes[index].route = Some((epoch, to.node));
                return;
            }
            Command::Serve { .. } => self.nodes[index].becomes(of, true),
            _ => {}
        }
        self.nodes[index].told_mut(group).push(command);
    }

    /// A generation is closed by what its cores hear of the newest; one that may let flows begin again is not.
    fn hear_of_newcomers(&mut self, index: usize, group: GroupId, are_taken: bool) {
        let node = &mut self.nodes[index];
        let of = usize::from(group.generation());
        node.newcomers = Some((group, are_taken));
        node.closing[1 - of] = false;
        node.closing[of] &= are_taken;
    }

    fn transmit(&mut self, from: usize, to: usize, bytes: Vec<u8>) {
        if self.cut.contains(&(from, to)) {
            return;
        }
        if let Some(heard) = &mut self.heard {
            heard.push((to, bytes.clone(), from));
        }
        let copies = 1 + u64::from(self.noise.percent(self.loss / 2));
        for _ in 0..copies {
            if self.noise.percent(self.loss) {
                continue;
            }
            let slow = self.loss > 0 && self.noise.percent(5);
            let delay = if slow {
                self.noise.between(0, 300 * MS)
            } else {
                self.noise.between(20_000, 400_000)
            };
            let bytes = bytes.clone();
            self.push(self.now + delay, Event::Deliver { to, bytes, reply_to: from });
        }
    }

    fn deliver(&mut self, to: usize, bytes: Vec<u8>, reply_to: usize) {
        if to < self.nodes.len() {
            if self.nodes[to].paused {
                self.nodes[to].held.push((bytes, reply_to));
            } else {
                self.hear(to, bytes, reply_to);
            }
            return;
        }
        let now = self.witness_clock.local(self.now);
        let Some(witness) = &mut self.witness else { return };
        let bytes = match sealing::open(&mut self.witness_party, now, bytes) {
            Heard::Datagram(bytes) => bytes,
            Heard::Reply(reply) => return self.transmit(to, reply_to, reply),
            Heard::Nothing => return,
        };
        let reply = match witness.handle_request(now, &bytes) {
            Ok(Effect::Reply(reply)) => reply,
            Ok(Effect::Persist(pending)) => {
                let disk = &mut self.disk;
                let write = |bytes: &[u8]| {
                    *disk = Some(bytes.to_vec());
                    Ok::<(), ()>(())
                };
                witness.release(pending, write).expect("the disk works")
            }
            Ok(Effect::Nothing) | Err(_) => return,
        };
        let node = NodeId(reply_to as u8 + 1);
        if let Some(bytes) = sealing::seal(&mut self.witness_party, now, node, reply) {
            self.transmit(to, reply_to, bytes);
        }
    }

    pub fn fault(&mut self, fault: Fault) {
        let witness = self.witness_index();
        match fault {
            Fault::Crash(index) if index == witness => self.witness = None,
            Fault::Start(index) if index == witness => self.start_witness(),
            Fault::Crash(index) => {
                let node = &mut self.nodes[index];
                node.agent = None;
                node.published = [Instant::ZERO; 2];
                node.life = 0;
                node.paused = false;
                node.held.clear();
            }
            Fault::Die(index, outlives_ms) => {
                if index < witness && self.nodes[index].agent.is_some() {
                    self.nodes[index].coreless = true;
                    self.nodes[index].published = [Instant::ZERO; 2];
                    self.surrender(index, MS);
                }
                self.at(outlives_ms, Event::Fault(Fault::Crash(index)));
            }
            Fault::Forge(index) => self.surrender(index, 0),
            Fault::Start(index) => self.start_node(index),
            Fault::Pause(index) => {
                if index < witness {
                    self.nodes[index].paused = true;
                }
            }
            Fault::Resume(index) => self.resume(index),
            Fault::Stick(index) | Fault::Unstick(index) => {
                if index < witness && !self.nodes[index].paused {
                    let ok = matches!(fault, Fault::Unstick(_));
                    self.nodes[index].stuck = !ok;
                    self.touch(index, |agent, now| agent.handle_progress(now, ok));
                }
            }
            Fault::Dark(index) | Fault::Bright(index) => {
                let carrier = Some(matches!(fault, Fault::Bright(_)));
                self.nodes[index].path = Health { carrier, ..Health::default() };
                let path = self.nodes[index].path;
                self.touch(index, |agent, now| agent.handle_path(now, path));
            }
            Fault::Cut(from, to) => {
                self.cut.insert((from, to));
            }
            Fault::Join(from, to) => {
                self.cut.remove(&(from, to));
            }
            Fault::Loss(percent) => self.loss = percent,
            Fault::HandTo(index) => self.hand_to(index),
            Fault::Drain(index) => self.order(index, Order::Drain),
            Fault::Undrain(index) => self.order(index, Order::Undrain),
        }
    }

    /// Whoever believes to own the group is told to hand it over.
    fn hand_to(&mut self, to: usize) {
        for index in 0..self.nodes.len() {
            let to = NodeId(to as u8 + 1);
            let order = Order::Handover { group: GROUP, to, epoch: None, force: false };
            self.order(index, order);
        }
    }

    fn order(&mut self, index: usize, order: Order) {
        if index < self.nodes.len() && !self.nodes[index].paused {
            self.touch(index, |agent, now| _ = agent.handle_order(now, order));
        }
    }

    /// What one node answers to an order.
    pub fn ask_for(&mut self, index: usize, order: Order) -> Option<OrderError> {
        let mut answer = None;
        self.touch(index, |agent, now| answer = agent.handle_order(now, order).err());
        answer
    }

    /// A node declares something else from now on.
    pub fn reload(&mut self, index: usize, declares: Advertise) {
        self.nodes[index].declares = declares;
        let groups = self.group_configs(index);
        self.touch(index, |agent, now| agent.handle_settings(now, groups.clone()));
    }

    fn group_configs(&self, index: usize) -> Vec<GroupConfig> {
        let nodes = 2..=self.nodes.len() as u8;
        let config = |group: &GroupId| GroupConfig {
            group: *group,
            home: NodeId(1),
            peers: nodes.clone().map(NodeId).collect(),
            on_peer_loss: self.on_peer_loss,
            failback: self.failback.0,
            hold_down: self.failback.1,
            advertisement: self.nodes[index].declares.clone(),
        };
        GENERATIONS[..self.generations].iter().map(config).collect()
    }

    /// Something that a former life of a node said to another arrives now: to whichever life there is.
    pub fn late_word(&mut self, from: usize, life: u64, to: usize) {
        let sender = Member { node: NodeId(from as u8 + 1), incarnation: Incarnation(life) };
        let header = Header { cluster: CLUSTER, from: sender, to: any_life(NodeId(to as u8 + 1)) };
        let beat = Heartbeat {
            sequence: 1,
            sent: Instant(1),
            echo: Instant(1),
            core_ok: true,
            draining: false,
            cores: CORES,
            mac: [0; 6],
            path: Health::default(),
            entries: Vec::new(),
        };
        let bytes = encode(header, &Message::Heartbeat(beat));
        self.push(self.now, Event::Deliver { to, bytes, reply_to: from });
    }

    /// A guardian's four words to everybody, the first after `wake` nanoseconds.
    fn surrender(&mut self, index: usize, wake: u64) {
        let node = &self.nodes[index];
        let from = Member { node: NodeId(index as u8 + 1), incarnation: Incarnation(node.life) };
        let at = node.clock.local(self.now + wake);
        for to in (0..=self.nodes.len()).filter(|to| *to != index) {
            let name = if to == self.witness_index() { WITNESS } else { NodeId(to as u8 + 1) };
            let header = Header { cluster: CLUSTER, from, to: any_life(name) };
            let datagram = encode(header, &Message::Surrender { at });
            let bytes = match self.is_sealed {
                true => {
                    let salt = [to as u8 ^ self.now as u8; 16];
                    surrender(&sealing::keyring(CLUSTER), from, salt, &datagram).remove(0)
                }
                false => datagram,
            };
            for pause in [0, 1, 5, 20] {
                let say = Event::Say { from: index, to, bytes: bytes.clone() };
                self.push(self.now + wake + pause * MS, say);
            }
        }
    }

    fn start_witness(&mut self) {
        if self.witness.is_some() || self.arbiter != Arbiter::Witness {
            return;
        }
        self.lives += 1;
        let life = Incarnation(self.lives);
        let now = self.witness_clock.local(self.now);
        let disk = self.disk.as_deref();
        let seed = self.seed_flag && disk.is_none();
        self.witness = Some(Witness::new(now, life, CLUSTER, self.timers, disk, seed).0);
        let me = Member { node: WITNESS, incarnation: life };
        let count = self.nodes.len();
        self.witness_party = self.is_sealed.then(|| sealing::party(now, CLUSTER, me, count));
    }

    fn start_node(&mut self, index: usize) {
        if self.nodes[index].agent.is_some() {
            return;
        }
        self.lives += 1;
        let life = self.lives;
        let nodes: Vec<NodeId> = (1..=self.nodes.len() as u8).map(NodeId).collect();
        let groups = self.group_configs(index);
        let config = Config {
            me: Member { node: NodeId(index as u8 + 1), incarnation: Incarnation(life) },
            cluster: CLUSTER,
            version: "test".into(),
            mac: [2, 0, 0, 0, 0, index as u8],
            cores: CORES,
            groups,
            nodes,
            timers: self.timers,
            arbiter: self.arbiter,
        };
        let now = self.nodes[index].clock.local(self.now);
        let node = &mut self.nodes[index];
        let (me, count) = (config.me, config.nodes.len());
        node.party = self.is_sealed.then(|| sealing::party(now, CLUSTER, me, count));
        node.agent = Some(Agent::new(now, config));
        node.life = life;
        node.stuck = false;
        node.coreless = false;
        (0..2).for_each(|of| node.becomes(of, false));
        node.newcomers = None;
        node.commands.clear();
        node.younger.clear();
        let path = node.path;
        self.touch(index, |agent, now| {
            agent.handle_progress(now, true);
            agent.handle_path(now, path);
        });
    }

    fn resume(&mut self, index: usize) {
        if index >= self.nodes.len() || !self.nodes[index].paused {
            return;
        }
        self.nodes[index].paused = false;
        for (bytes, reply_to) in std::mem::take(&mut self.nodes[index].held) {
            self.hear(index, bytes, reply_to);
        }
        self.touch(index, |agent, now| agent.handle_timeout(now));
    }

    /// Cuts a node off from everybody, or joins it again.
    pub fn isolate(&mut self, index: usize, cut: bool) {
        for other in (0..=self.nodes.len()).filter(|other| *other != index) {
            for (from, to) in [(index, other), (other, index)] {
                self.fault(if cut { Fault::Cut(from, to) } else { Fault::Join(from, to) });
            }
        }
    }

    /// Cuts or joins one link, both ways.
    pub fn link(&mut self, one: usize, other: usize, cut: bool) {
        for (from, to) in [(one, other), (other, one)] {
            self.fault(if cut { Fault::Cut(from, to) } else { Fault::Join(from, to) });
        }
    }

    /// Ends every fault.
    pub fn heal(&mut self) {
        self.loss = 0;
        self.cut.clear();
        let pending = std::mem::take(&mut self.queue);
        self.queue = pending
            .into_iter()
            .filter(|Reverse((_, _, event))| !matches!(event, Event::Fault(_)))
            .collect();
        for index in 0..self.nodes.len() {
            if self.nodes[index].coreless {
                self.fault(Fault::Crash(index));
            }
            self.fault(Fault::Resume(index));
            self.fault(Fault::Unstick(index));
            self.fault(Fault::Undrain(index));
            self.fault(Fault::Bright(index));
            self.fault(Fault::Start(index));
        }
        self.fault(Fault::Start(self.nodes.len()));
    }
}
