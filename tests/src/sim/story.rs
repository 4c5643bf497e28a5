//! A seed's story: a cluster, clients, one mishap after another, and peace in the end.

use crate::kit::client::{ClientSettings, Ending, Opener};
use crate::kit::random::Random;
use crate::kit::settings::{ECHO, GENERATE_STAY, HTTP, Port, Settings};
use crate::kit::workload;
use crate::sim::capture::Captured;
use crate::sim::fault::MS;
use crate::sim::world::{Shape, Tally, World};
use cluster::lease::Timers;
use cluster::message::advertise::Failback;
use stack::time::{Duration, Instant};

/// A group that is to be protected is, after so long without faults.
const PEACE: u64 = 30_000 * MS;
/// Clients are done after so long without faults; their own timers double.
const PATIENCE: u64 = 300_000 * MS;

/// How much may go wrong at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Budget {
    /// One thing after the other: nobody may lose a connection.
    One,
    /// Anything at any time: connections may be lost, but not silently altered.
    Beyond,
}

/// Which story to play, and how to look at it.
#[derive(Clone, Copy, Debug)]
pub struct Script {
    /// What everything is drawn from.
    pub seed: u64,
    /// How much may go wrong at once.
    pub budget: Budget,
    /// Peace begins after so many mishaps, if the seed does not end them before.
    pub mishaps_max: usize,
    /// Prints every event.
    pub trace: bool,
    /// Keeps every frame, for [`crate::sim::capture`].
    pub capture: bool,
}

impl Script {
    /// The whole story of a seed.
    pub fn new(seed: u64, budget: Budget) -> Script {
        Script { seed, budget, mishaps_max: usize::MAX, trace: false, capture: false }
    }

    /// The same failure with as few mishaps as show it.
    ///
    /// A story that is cut short draws the same until then, so it is a beginning of the whole one.
    pub fn shortest_failure(self) -> Script {
        let short = |mishaps_max| Script { mishaps_max, ..self };
        let mishaps = play(self).mishaps.len();
        let fails = |script: &Script| play(*script).failure.is_some();
        (0..mishaps).map(short).find(fails).unwrap_or(self)
    }
}

/// What came of a story.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// What it cost and saw.
    pub tally: Tally,
    /// Of every event: the same seed gives the same.
    pub trace_hash: u64,
    /// Simulated nanoseconds.
    pub time: u64,
    /// What went wrong, in order.
    pub mishaps: Vec<String>,
    /// Clients, and those of them that were reset.
    pub clients: (usize, usize),
    /// The first rule that was broken.
    pub failure: Option<String>,
    /// Every frame that arrived, if they were to be kept.
    pub frames: Vec<Captured>,
}

/// Plays a story.
pub fn play(script: Script) -> Outcome {
    let mut random = Random::new(script.seed);
    let mut world = World::new(script.seed, shape(&mut random, script));
    let mut story = Story { random, script, mishaps: Vec::new() };
    let failure = story.play(&mut world).err();
    let resets = world.hosts.iter().filter(|host| host.client.ending == Ending::Reset).count();
    Outcome {
        tally: world.tally(),
        trace_hash: world.trace_hash(),
        time: world.now,
        mishaps: story.mishaps,
        clients: (world.hosts.len(), resets),
        failure: world.failure.take().or(failure),
        frames: world.take_capture(),
    }
}

fn shape(random: &mut Random, script: Script) -> Shape {
    let mut settings = Settings { flows_max: 64, chunks_max: 4096, ..Settings::default() };
    let is_wanted = |port: &Port| [HTTP, ECHO, GENERATE_STAY].contains(&port.port);
    settings.ports.retain(is_wanted);
    for (index, port) in settings.ports.iter_mut().enumerate() {
        port.host = 100 + index as u8;
        port.receive_buffer = 4096 << random.below(4);
        port.mss = [536, 1200, 1460][random.below(3) as usize];
    }
    let nodes = 2 + random.below(2) * random.below(2);
    let failback = match random.below(3) {
        0 => Failback::Manual,
        1 => Failback::All,
        _ => Failback::NewConnections,
    };
    settings.generations = if failback == Failback::NewConnections { 2 } else { 1 };
    Shape {
        settings,
        cores: (0..nodes).map(|_| 1 + random.below(2) as u8).collect(),
        timers: Timers::bed(),
        delay: 10_000 + random.below(100_000),
        failback: (failback, Duration::from_millis(100 + random.below(900))),
        trace: script.trace,
        capture: script.capture,
    }
}

struct Story {
    random: Random,
    script: Script,
    mishaps: Vec<String>,
}

impl Story {
    fn play(&mut self, world: &mut World) -> Result<(), String> {
        self.await_protection(world, "at the start")?;
        for _ in 0..1 + self.random.below(6) {
            if self.mishaps.len() >= self.script.mishaps_max {
                break;
            }
            self.clients(world);
            let wait = self.random.below(20 * MS);
            world.run_for(wait);
            let pause = self.mishap(world);
            self.clients(world);
            world.run_for(pause);
            if self.script.budget == Budget::One {
                self.await_protection(world, "after a mishap")?;
            }
        }
        world.heal();
        self.await_protection(world, "in the end")?;
        self.conclude(world)
    }

    /// Something goes wrong; answers for how long.
    fn mishap(&mut self, world: &mut World) -> u64 {
        let mishap = world.plan().draw(&mut self.random);
        let at = world.now as f64 / 1e6;
        self.mishaps.push(format!("{at:.3} ms: {:?}, then {:?}", mishap.fault, mishap.repairs));
        world.schedule(0, mishap.fault);
        let mut end = 0;
        for (wait, repair) in &mishap.repairs {
            end += wait;
            world.schedule(end, *repair);
        }
        let rest = self.random.below(500 * MS);
        match self.script.budget {
            Budget::One => end + rest,
            Budget::Beyond => self.random.below(end + rest + 1),
        }
    }

    fn clients(&mut self, world: &mut World) {
        for _ in 0..self.random.below(4) {
            let (dialogue, expected) = workload::draw(&mut self.random);
            let port = world.shape().settings.ports.iter().find(|port| port.port == dialogue.port);
            let Some(host) = port.map(|port| port.host) else { continue };
            let settings = ClientSettings {
                receive_buffer: 1500 << self.random.below(5),
                send_buffer: 1500 << self.random.below(5),
                timestamps: self.random.permille(500),
                ipv6: false,
                opener: Opener::Client,
                host,
                ..ClientSettings::default()
            };
            let lag = self.random.below(5 * MS);
            world.connect(settings, (dialogue, expected), lag);
            let wait = self.random.below(3 * MS);
            world.run_for(wait);
        }
    }

    fn await_protection(&self, world: &mut World, when: &str) -> Result<(), String> {
        if world.run_until(PEACE, World::is_protected) {
            return Ok(());
        }
        let registers: Vec<String> = (0..world.shape().settings.ports.len())
            .map(|group| format!("{:?}", world.register(group)))
            .collect();
        Err(format!("not protected {when}: {}", registers.join("; ")))
    }

    /// After the faults everybody gets what was theirs.
    fn conclude(&self, world: &mut World) -> Result<(), String> {
        world.run_until(PATIENCE, World::are_clients_done);
        let now = Instant(world.now);
        let known = world.clients_known();
        for (index, host) in world.hosts.iter_mut().enumerate() {
            let client = &mut host.client;
            let is_reset = client.ending == Ending::Reset;
            if is_reset && self.script.budget == Budget::One {
                return Err(format!("reset: {}", client.describe()));
            }
            let is_over = client.is_done() || is_reset || client.has_lost_its_timer(now);
            let is_silent = client.unacknowledged() == 0;
            // Who only listens hears of no loss; within the budget nothing is lost.
            let is_forgotten = self.script.budget == Budget::Beyond && !known.contains(&index);
            if !(is_over || is_forgotten && is_silent) {
                return Err(format!("stalled: {}", client.describe()));
            }
            let is_right = match is_reset || !is_over {
                true => host.expected.begins_with(&client.received),
                false => host.expected.is_all_of(&client.received),
            };
            if !is_right {
                return Err(format!("other bytes: {}", client.describe()));
            }
        }
        match world.mismatches() {
            0 => Ok(()),
            count => Err(format!("{count} copies differ from their flows")),
        }
    }
}
