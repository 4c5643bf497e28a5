//! Written stories: who connects, what goes wrong and when is said, not drawn.
//!
//! A [`Stage`] is a world of the simulator in which clients of every kind talk all the time; a story does to it what it
//! tells of, by name and time. It is played for each of its cases under [`SEEDS`] seeds: each has its own noise, clocks,
//! cores and moments. In the end everything is put right, as after any story, and the connections are counted ([`Counts`]).
//! Every check of the simulator stands beside that: the first broken rule ends a story.
//!
//! Units: a story's own times are milliseconds, gaps nanoseconds.

mod counts;
mod talk;

use crate::kit::random::Random;
use crate::kit::settings::{ECHO, HTTP, PROXY, Port, Settings};
use crate::sim::fault::{Fault, MS};
use crate::sim::network::{Plug, Side};
use crate::sim::story::{self, Budget, Script, Story};
use crate::sim::world::{Shape, World};
use cluster::agent::Arbiter;
use cluster::lease::Timers;
use cluster::message::advertise::Failback;
use stack::app::AppConfig;
use stack::app::proxy::Ack;
use stack::time::{Duration, Instant};
use std::fmt::Debug;

pub use counts::Counts;

/// Seeds under which each case of a story is played.
pub const SEEDS: u64 = 3;

/// Who is on the stage.
#[derive(Clone, Copy, Debug)]
pub struct Cast {
    /// Nodes.
    pub nodes: usize,
    /// For so long, in milliseconds, every client talks: longer than its story takes.
    pub talk_ms: u64,
    /// Who keeps the registers.
    pub arbiter: Arbiter,
    /// What happens when a home node is back, and its hold-down in milliseconds.
    pub failback: (Failback, u64),
    /// Everything on the cluster's network is said again, up to so many milliseconds later.
    pub echo_ms: Option<u64>,
    /// What crosses the cluster's network is sealed; a seed decides if nothing is said.
    pub is_sealed: Option<bool>,
    /// Microseconds per true second of the clock of each of the first nodes; a seed decides if nothing is said.
    pub rates: Option<[u64; 2]>,
}

impl Cast {
    /// Two nodes and a witness, and clients that talk for so many milliseconds.
    pub fn talking(talk_ms: u64) -> Cast {
        Cast {
            nodes: 2,
            talk_ms,
            arbiter: Arbiter::Witness,
            failback: (Failback::Manual, 0),
            echo_ms: None,
            is_sealed: None,
            rates: None,
        }
    }

    fn shape(&self, random: &mut Random) -> Shape {
        let mut settings = Settings { flows_max: 128, chunks_max: 4096, ..Settings::default() };
        settings.ports.retain(|port| [HTTP, ECHO].contains(&port.port));
        let app = AppConfig::Proxy(if random.permille(500) { Ack::EndToEnd } else { Ack::Held });
        settings.ports.push(Port { port: PROXY, app, ..settings.ports[0] });
        settings.servers = 2;
        for (port, host) in settings.ports.iter_mut().zip([102, 103, 110]) {
            port.host = host;
        }
        settings.overheard = if random.permille(300) { 1000 } else { 0 };
        let (failback, hold_down_ms) = self.failback;
        settings.generations = if failback == Failback::NewConnections { 2 } else { 1 };
        Shape {
            settings,
            cores: (0..self.nodes).map(|_| 1 + random.below(2) as u8).collect(),
            timers: Timers::bed(),
            delay: 20_000 + random.below(80_000),
            echoes: self.echo_ms.map_or((0, 0), |ms| (1000, ms * MS)),
            arbiter: self.arbiter,
            failback: (failback, Duration::from_millis(hold_down_ms)),
            is_sealed: self.is_sealed.unwrap_or(random.permille(300)),
            deals_by_hash: false,
            trace: false,
            capture: false,
        }
    }
}

/// A world in which a story is played.
pub struct Stage {
    /// The world.
    pub world: World,
    /// The first thing that was not as the story has it.
    failure: Option<String>,
}

impl Stage {
    /// Everybody is there, every group is protected, and every client talks.
    fn open(seed: u64, cast: Cast) -> Stage {
        let mut random = Random::new(seed);
        let mut world = World::new(seed, cast.shape(&mut random));
        for (node, rate) in cast.rates.into_iter().flatten().enumerate() {
            world.set_rate(node, rate);
        }
        let mut stage = Stage { world, failure: None };
        stage.protected();
        stage.enter(cast.talk_ms);
        stage
    }

    /// Clients of every kind connect, and talk for so many milliseconds.
    pub fn enter(&mut self, talk_ms: u64) {
        for caller in talk::callers(&self.world.shape().settings, talk_ms) {
            self.world.connect(caller);
            self.world.run_for(MS / 4);
        }
        self.run(2 * talk::pause_ms(talk_ms) + 10);
    }

    /// What was to be is not.
    pub fn expect(&mut self, is_so: bool, what: &str) {
        if !is_so && self.failure.is_none() {
            self.failure = Some(format!("at {:.3} ms: not {what}", self.world.now as f64 / 1e6));
        }
    }

    /// Something goes wrong, or is put right, now; clients are still talking.
    pub fn fault(&mut self, fault: Fault) {
        let mut held = self.world.hosts.iter().filter(|host| !host.is_excused);
        let are_talking = held.all(|host| !host.is_done());
        self.expect(are_talking, &format!("in the middle of everybody's talk at {fault:?}"));
        self.world.schedule(0, fault);
        self.world.run_for(0);
    }

    /// So many milliseconds pass.
    pub fn run(&mut self, ms: u64) {
        self.world.run_for(ms * MS);
    }

    /// So many microseconds pass.
    pub fn run_us(&mut self, us: u64) {
        self.world.run_for(us * 1_000);
    }

    /// Time passes until it is so, at most so many milliseconds.
    pub fn until(&mut self, ms: u64, what: &str, is_so: impl FnMut(&World) -> bool) {
        let is_so = self.world.run_until(ms * MS, is_so);
        self.expect(is_so, what);
    }

    /// Time passes until every group is protected, and every copy is what it should be.
    pub fn protected(&mut self) {
        if let Err(what) = story::await_protection(&mut self.world, "in a written story") {
            self.failure.get_or_insert(what);
        }
    }

    /// Time passes until this node may speak for every group that there is.
    pub fn owned_by(&mut self, node: usize) {
        let groups = self.groups();
        let is_its = |world: &World, group| {
            !world.register(group).is_live() || world.speaker(group) == Some(node)
        };
        let all = move |world: &World| (0..groups).all(|group| is_its(world, group));
        self.until(20_000, "owned by the one that is left", all);
    }

    /// Nobody may speak for any group.
    pub fn expect_silence(&mut self) {
        let is_silent = (0..self.groups()).all(|group| self.world.speaker(group).is_none());
        self.expect(is_silent, "silent");
    }

    /// Groups that there may be: the first generation of each service, then the second if it may have one.
    pub fn groups(&self) -> usize {
        self.world.shape().settings.groups().len()
    }

    /// A node's program dies, and nobody says so.
    pub fn crash(&mut self, node: usize) {
        self.fault(Fault::Crash { node, is_told: false });
    }

    /// It is started again.
    pub fn start(&mut self, node: usize) {
        self.fault(Fault::Start { node });
    }

    /// It dies, the other one takes all of its groups, and it is back.
    pub fn outlive(&mut self, node: usize) {
        self.crash(node);
        self.owned_by(1 - node);
        self.start(node);
    }

    /// Two ends of the cluster's network lose each other, or hear each other again.
    pub fn set_cut(&mut self, one: Plug, other: Plug, is_cut: bool) {
        self.set_deaf(one, other, is_cut);
        self.set_deaf(other, one, is_cut);
    }

    /// What one says there does not reach the other, or does again.
    pub fn set_deaf(&mut self, from: Plug, to: Plug, is_cut: bool) {
        self.fault(Fault::Cut { side: Side::Cluster, from, to, is_cut });
    }

    /// Whose connection nobody holds by now may lose it.
    pub fn give_up(&mut self) {
        let held: Vec<bool> = (0..self.groups()).map(|group| self.world.is_held(group)).collect();
        let ports: Vec<u16> =
            self.world.shape().settings.ports.iter().map(|port| port.port).collect();
        for host in self.world.hosts.iter_mut().filter(|host| !host.is_done()) {
            let group = ports.iter().position(|port| *port == host.key().local_port);
            host.is_excused |= group.is_some_and(|group| !held[group]);
        }
    }

    /// Everything is put right, everybody is done; what came of it.
    fn close(mut self) -> (Counts, Option<String>) {
        let script = Script::new(0, Budget::One);
        self.world.heal();
        self.protected();
        Story::new(&script).settle(&mut self.world);
        let now = Instant(self.world.now);
        let mut counts = Counts::of(&self.world.tally());
        for host in &mut self.world.hosts {
            counts.add_host(now, host);
        }
        let failure = self.world.failure.take().or(self.failure);
        (counts, failure.or(self.world.check_end().err()))
    }
}

/// Plays a story for each of its cases under each seed, says what came of its connections in the line that `cargo xtask
/// scenario` reads, and panics if any that somebody held was lost, reset or altered, or any rule was broken.
pub fn play<T: Clone + Debug>(
    cast: Cast,
    cases: impl IntoIterator<Item = T>,
    story: impl Fn(&mut Stage, T),
) -> Counts {
    let mut counts = Counts::default();
    let mut failures = Vec::new();
    for case in cases {
        for seed in 0..SEEDS {
            let mut stage = Stage::open(seed, cast);
            story(&mut stage, case.clone());
            let (came, failure) = stage.close();
            let failure = failure.or_else(|| came.failure());
            failures.extend(failure.map(|what| format!("case {case:?}, seed {seed}: {what}")));
            counts.add(came);
        }
    }
    println!("{counts}");
    assert!(failures.is_empty(), "a story did not end well:\n{}", failures.join("\n"));
    counts
}
