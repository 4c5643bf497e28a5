//! The world: one heap of events, one seed, real nodes.
//!
//! ```text
//! Host   (smoltcp) --+-- switch that learns -- Node: Agent + poll cores -- cluster network -- Node
//! Server (smoltcp) --'                                                            `-- Witness and its disk
//! ```
//!
//! Every event belongs to one machine. A machine that is paused finds what happened to it meanwhile when it goes on; its
//! NIC's queues fill up as they would. The first broken rule ends the run ([`World::failure`]).

mod apply;
mod asks;
mod decisions;
mod departures;
mod excuses;
mod hops;
mod machines;
mod oddity;
mod roles;
mod strays;

use crate::kit::random::Random;
use crate::kit::settings::Settings;
use crate::sim::capture::Captured;
use crate::sim::check::Check;
use crate::sim::clock::Machine;
use crate::sim::fault::{Fault, MS, Reload};
use crate::sim::host::Host;
use crate::sim::network::{Network, Plug, Side, Weather};
use crate::sim::node::Life;
use crate::sim::server::Server;
use cluster::agent::Arbiter;
use cluster::id::Epoch;
use cluster::lease::Timers;
use cluster::message::advertise::Failback;
use cluster::witness::Witness;
use dataplane::sealing::Sealing;
use decisions::Decisions;
use departures::Departure;
use hops::Hops;
use stack::key::FlowKey;
use stack::time::{Duration, Instant};
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};
use strays::Strays;

pub use oddity::Oddity;
pub use roles::Fate;

/// What a world is built from, beside its seed.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Services and limits.
    pub settings: Settings,
    /// Cores of each node.
    pub cores: Vec<u8>,
    /// Time constants of the cluster.
    pub timers: Timers,
    /// Both networks, when nothing is wrong: one way, in nanoseconds.
    pub delay: u64,
    /// What the cluster's network says twice even then, in a thousand, and up to how much later.
    pub echoes: (u64, u64),
    /// Who keeps the registers.
    pub arbiter: Arbiter,
    /// Failback of every group, and its hold-down.
    pub failback: (Failback, Duration),
    /// What crosses the cluster's network is sealed.
    pub is_sealed: bool,
    /// NICs deal frames to cores by a hash of their own of both ends, so that those of one connection keep their order; else each
    /// frame goes to any core.
    pub deals_by_hash: bool,
    /// Prints every event.
    pub trace: bool,
    /// Keeps every frame that arrives.
    pub capture: bool,
}

impl Shape {
    /// The weather on a network when nothing is wrong.
    pub fn weather(&self, side: Side) -> Weather {
        let fair = Weather::fair(self.delay);
        let (twice, straggling) = self.echoes;
        match side {
            Side::Client => fair,
            Side::Cluster => Weather { twice, straggling, ..fair },
        }
    }
}

/// Something that happens to one machine.
#[derive(Debug)]
enum Event {
    /// A core's next round.
    Core { node: usize, life: u64, core: usize },
    /// The agent's next look.
    Agent { node: usize, life: u64 },
    /// What a round had to say leaves.
    Leave { node: usize, life: u64, side: Side, frames: Vec<(Vec<u8>, Said)> },
    /// A frame arrives on the clients' network.
    Frame { to: Plug, frame: Vec<u8> },
    /// A frame arrives on the cluster's network.
    Datagram { node: usize, frame: Vec<u8> },
    /// A datagram of agents, guardians and the witness arrives.
    Message { to: Plug, from: Plug, bytes: Vec<u8> },
    /// A guardian says something.
    Say { from: usize, to: Plug, bytes: Vec<u8> },
    /// A client's machine has something due.
    Host { index: usize },
    /// A server's machine has something due.
    Server { index: usize },
    /// Something goes wrong, or is put right.
    Fault(Fault),
}

/// Under what a frame was made.
#[derive(Clone, Copy, Debug, Default)]
struct Said {
    /// Index of the group, if the frame is one of a service.
    group: Option<usize>,
    /// The epoch in which the core knew that group.
    epoch: Epoch,
    /// It is of a flow of the group.
    is_flow: bool,
}

/// A core loses its processor in the middle of a round.
#[derive(Clone, Copy, Debug, Default)]
struct Interruption {
    /// For so long.
    time: u64,
    /// Between its look at the lease and the kick.
    is_checked: bool,
}

/// One machine of the cluster, through all its lives.
pub struct Node {
    machine: Machine,
    cores: u8,
    /// The present life, if it has one.
    pub life: Option<Life>,
    paused_until: u64,
    /// What is other in its configuration than it was at first.
    change: Option<Reload>,
    /// Services that its file does not name any more, by their indices, and since which attempt.
    left: BTreeMap<usize, u32>,
    attempts: u32,
    /// Attempts before the present life.
    attempts_before: u32,
    /// In what it is another one than the rest, from its next life on.
    oddity: Option<Oddity>,
    /// What a frame takes beside what it always takes, in nanoseconds.
    per_frame: u64,
    /// Interruption of each core's next round.
    interruptions: Vec<Interruption>,
    /// For which group connections of this life spoke last: what ends one is said when it is gone.
    spoke: BTreeMap<FlowKey, u8>,
}

/// The witness's machine.
struct WitnessMachine {
    machine: Machine,
    witness: Option<(Witness, Sealing)>,
    disk: Option<Vec<u8>>,
    /// What the disk held before the write that is under way, and until when that is.
    before: Option<Vec<u8>>,
    busy_until: u64,
    was_started: bool,
}

/// What a run has cost and seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Events.
    pub events: u64,
    /// Frames that arrived somewhere.
    pub frames: u64,
    /// Changes of owner.
    pub takeovers: u64,
    /// Frames of a former owner that its one burst explains.
    pub late: u64,
    /// Frames of a former owner beyond that.
    pub two_voices: u64,
    /// Segments that were compared with the copy of the peer.
    pub compared: u64,
    /// Segments of connections that stayed where they were while home took the new ones.
    pub behind: u64,
    /// Clients that a service refused because it had left.
    pub refused: u64,
}

/// A whole cluster, its clients and the time that passes.
pub struct World {
    /// The true time, in nanoseconds.
    pub now: u64,
    shape: Shape,
    /// The nodes.
    pub nodes: Vec<Node>,
    witness: WitnessMachine,
    /// The clients.
    pub hosts: Vec<Host>,
    /// To whom proxied connections are passed on.
    pub servers: Vec<Server>,
    clients: Network,
    cluster: Network,
    check: Check,
    strays: Strays,
    hops: Hops,
    decisions: Decisions,
    /// Services that some file has not named, by their indices.
    departures: BTreeMap<usize, Departure>,
    /// Clients of connections in which one side has denied what it said, and in which leg.
    denied: BTreeMap<FlowKey, FlowKey>,
    /// When something went wrong or was put right last.
    calm_since: u64,
    queue: BTreeMap<(u64, u64), Event>,
    order: u64,
    lives: u64,
    random: Random,
    seed: u64,
    hash: DefaultHasher,
    tally: Tally,
    newest: Vec<Epoch>,
    /// How long an owner and its next peer lose each other as soon as that is in sync.
    ambush: Option<u64>,
    /// Which server nobody reaches for how long as soon as it has answered a SYN.
    trap: Option<(usize, u64)>,
    /// Something that was planned is still to come or under way until then.
    trouble_until: u64,
    captured: Vec<Captured>,
    traced: Vec<String>,
    /// The first rule that was broken.
    pub failure: Option<String>,
}

impl World {
    /// A world in which nobody has started yet.
    pub fn new(seed: u64, shape: Shape) -> World {
        let mut random = Random::new(seed ^ 0x51_3a17);
        let drift = u64::from(shape.timers.drift_ppm);
        let mut machine = || Machine {
            offset: 1_000_000_000 + random.below(1 << 45),
            rate: 1_000_000 + random.below(drift),
        };
        let node = |cores: &u8| Node {
            machine: machine(),
            cores: *cores,
            life: None,
            paused_until: 0,
            change: None,
            left: BTreeMap::new(),
            attempts: 0,
            attempts_before: 0,
            oddity: None,
            per_frame: 0,
            interruptions: vec![Interruption::default(); usize::from(*cores)],
            spoke: BTreeMap::new(),
        };
        let nodes: Vec<Node> = shape.cores.iter().map(node).collect();
        let witness = WitnessMachine {
            machine: machine(),
            witness: None,
            disk: None,
            before: None,
            busy_until: 0,
            was_started: false,
        };
        let plugs: Vec<Plug> = (0..nodes.len()).map(Plug::Node).collect();
        let settings = &shape.settings;
        let servers = 0..settings.servers;
        let server = |number| Server::new(Instant::ZERO, number, seed, settings);
        let usual = |side| shape.weather(side);
        let plugged = servers.clone().map(Plug::Server).chain(plugs.clone()).collect();
        let groups = shape.settings.groups().len();
        let mut world = World {
            now: 0,
            witness,
            hosts: Vec::new(),
            servers: servers.map(server).collect(),
            clients: Network::new(usual(Side::Client), plugged),
            cluster: Network::new(usual(Side::Cluster), plugs),
            check: Check::new(groups, shape.settings.link_mbits),
            strays: Strays::default(),
            hops: Hops::default(),
            decisions: Decisions::default(),
            departures: BTreeMap::new(),
            denied: BTreeMap::new(),
            calm_since: 0,
            queue: BTreeMap::new(),
            order: 0,
            lives: 0,
            random,
            seed,
            hash: DefaultHasher::new(),
            tally: Tally::default(),
            newest: vec![Epoch(0); groups],
            ambush: None,
            trap: None,
            trouble_until: 0,
            captured: Vec::new(),
            traced: Vec::new(),
            failure: None,
            nodes,
            shape,
        };
        let boot = world.random.below(40 * MS);
        world.after(boot, Event::Fault(Fault::StartWitness));
        for node in 0..world.nodes.len() {
            let boot = world.random.below(60 * MS);
            world.after(boot, Event::Fault(Fault::Start { node }));
        }
        world
    }

    /// What it is built from.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// What the run has cost and seen so far.
    pub fn tally(&self) -> Tally {
        let Check { late, two_voices, compared, .. } = self.check;
        let refused = self.hosts.iter().filter(|host| host.is_refused).count() as u64;
        Tally { late, two_voices, compared, refused, ..self.tally }
    }

    /// A number that every event has gone into: the same for the same seed on every machine.
    pub fn trace_hash(&self) -> u64 {
        self.hash.finish()
    }

    /// Resets that were sent to clients.
    pub fn resets(&self) -> u64 {
        self.check.resets
    }

    /// Every frame that arrived, if they were to be kept.
    pub fn take_capture(&mut self) -> Vec<Captured> {
        std::mem::take(&mut self.captured)
    }

    /// Every event that somebody would like to read, if they were to be kept.
    pub fn take_trace(&mut self) -> Vec<String> {
        std::mem::take(&mut self.traced)
    }

    fn after(&mut self, wait: u64, event: Event) {
        self.push(self.now + wait, event);
    }

    fn push(&mut self, at: u64, event: Event) {
        self.order += 1;
        self.queue.insert((at.max(self.now), self.order), event);
    }

    /// Something goes wrong, or is put right, after so many nanoseconds.
    pub fn schedule(&mut self, wait: u64, fault: Fault) {
        self.after(wait, Event::Fault(fault));
    }

    /// Lets so many nanoseconds pass, or until a rule is broken.
    pub fn run_for(&mut self, time: u64) {
        let end = self.now + time;
        while self.failure.is_none() && self.step(end) {}
    }

    /// Lets time pass until `is_done`, at most for `time`; answers whether it is.
    pub fn run_until(&mut self, time: u64, mut is_done: impl FnMut(&World) -> bool) -> bool {
        let end = self.now + time;
        let mut looked = self.now;
        while self.failure.is_none() && self.step(end) {
            // A look at everything is dear; nothing that is waited for takes less than this.
            if self.now >= looked + MS / 2 {
                looked = self.now;
                if is_done(self) {
                    return true;
                }
            }
        }
        self.failure.is_none() && is_done(self)
    }

    /// The next event before `end`; `false` if there is none, and then it is `end`.
    fn step(&mut self, end: u64) -> bool {
        let Some(entry) = self.queue.first_entry() else {
            self.now = end;
            return false;
        };
        if entry.key().0 > end {
            self.now = end;
            return false;
        }
        let ((at, _), event) = entry.remove_entry();
        self.now = at;
        self.tally.events += 1;
        self.note(&event);
        // Leases begin where an agent runs; elsewhere they only end.
        let may_begin = matches!(event, Event::Agent { .. } | Event::Message { .. });
        match event {
            Event::Core { node, life, core } => self.run_core(node, life, core),
            Event::Agent { node, life } => self.run_agent(node, life),
            Event::Leave { node, life, side, frames } => self.leave((node, life), side, frames),
            Event::Frame { to, frame } => self.deliver_frame(to, frame),
            Event::Datagram { node, frame } => self.deliver_datagram(node, frame),
            Event::Message { to, from, bytes } => self.deliver_message(to, from, bytes),
            Event::Say { from, to, bytes } => self.transmit(Plug::Node(from), to, bytes),
            Event::Host { index } => self.run_host(index),
            Event::Server { index } => self.run_server(index),
            Event::Fault(fault) => self.apply(fault),
        }
        if may_begin {
            self.check_voices();
            if let Some(broken) = self.check.wakes.overdue(self.now) {
                self.fail(broken);
            }
            self.check_strays();
            self.check_hops();
            self.check_departures();
        }
        true
    }

    /// Goes into the trace hash, and is kept if that is wanted.
    fn note(&mut self, event: &Event) {
        let (kind, who, bytes): (u8, usize, &[u8]) = match event {
            Event::Core { node, core, .. } => (0, node * 16 + core, &[]),
            Event::Agent { node, .. } => (1, *node, &[]),
            Event::Leave { node, .. } => (2, *node, &[]),
            Event::Frame { frame, .. } => (3, 0, frame),
            Event::Datagram { node, frame } => (4, *node, frame),
            Event::Message { bytes, .. } => (5, 0, bytes),
            Event::Say { from, bytes, .. } => (6, *from, bytes),
            Event::Host { index } => (7, *index, &[]),
            Event::Fault(_) => (8, 0, &[]),
            Event::Server { index } => (9, *index, &[]),
        };
        self.hash.write_u64(self.now);
        self.hash.write_u8(kind);
        self.hash.write_u64(who as u64);
        self.hash.write(bytes);
        if self.shape.capture
            && let Some(side) = event.side()
        {
            self.captured.push(Captured { at: self.now, side, frame: bytes.to_vec() });
        }
        if self.shape.trace && kind > 2 && kind != 7 && kind != 9 {
            self.traced.push(format!("{:>12.6} {}", self.now as f64 / 1e6, describe(event)));
        }
    }

    fn fail(&mut self, message: String) {
        if self.failure.is_none() {
            self.failure = Some(format!("at {:.6} ms: {message}", self.now as f64 / 1e6));
        }
    }
}

impl Event {
    /// The network on which it is a frame.
    fn side(&self) -> Option<Side> {
        match self {
            Event::Frame { .. } => Some(Side::Client),
            Event::Datagram { .. } => Some(Side::Cluster),
            _ => None,
        }
    }
}

/// An event in a line.
fn describe(event: &Event) -> String {
    match event {
        Event::Frame { frame, .. } => describe_frame(frame),
        Event::Datagram { node, frame } => {
            format!("datagram of {} bytes -> node {}", frame.len(), node + 1)
        }
        Event::Message { to, from, bytes } => {
            let what = cluster::message::decode(bytes).map(|(_, message)| message);
            format!("{from:?} -> {to:?}: {what:?}")
        }
        other => format!("{other:?}"),
    }
}

/// A frame of the clients' network in a line.
fn describe_frame(frame: &[u8]) -> String {
    use stack::wire::{Frame, parse};
    let to = frame[..6].try_into().expect("frames have headers");
    match parse(frame, &to, &[]) {
        Ok(Frame::Tcp(segment)) => format!(
            "{:?} -> {:?} seq {:?} ack {:?} flags {:#x} window {} len {} {:?}",
            segment.source,
            segment.destination,
            segment.seq,
            segment.ack,
            segment.flags.0,
            segment.window,
            segment.payload.len(),
            segment.options
        ),
        other => format!("{other:?}"),
    }
}
