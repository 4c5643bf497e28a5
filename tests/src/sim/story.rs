//! A seed's story: a cluster, clients, one mishap after another, and peace in the end.
//!
//! The whole of it is drawn before it is played ([`Tale`]), so that single clients and mishaps of it can be left out: that
//! is how a failure is made short ([`crate::sim::shrink`]).

use crate::kit::client::Ending;
use crate::kit::random::Random;
use crate::kit::settings::{ECHO, GENERATE_STAY, HTTP, HTTP_IMPATIENT, PROXY, Port, Settings};
use crate::sim::capture::Captured;
use crate::sim::fault::{Fault, MS, Mishap, Plan};
use crate::sim::host::Host;
use crate::sim::workload::{self, Caller};
use crate::sim::world::{Fate, Shape, Tally, World};
use cluster::agent::Arbiter;
use cluster::lease::Timers;
use cluster::message::advertise::Failback;
use stack::app::AppConfig;
use stack::app::proxy::Ack;
use stack::app::proxy::header::HeaderVersion;
use stack::service::{ArpPolicy, KeepAlive};
use stack::time::{Duration, Instant};
use stack::upstream::Balance;
use std::any::Any;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A group that is to be protected is, after so long without faults.
const PEACE: u64 = 30_000 * MS;
/// Clients are done after so long without faults; their own timers double.
const PATIENCE: u64 = 300_000 * MS;
/// Pause between two looks at whether they are.
const LOOK: u64 = 250 * MS;
/// A crowd has so many connections at least, and less than twice as many: far more than one round of a core wakes.
const CROWD: u64 = 50;
/// Connections of a node where there is one.
const CROWD_FLOWS: usize = 384;
/// Megabits a second of a link on which a takeover takes long to wake everybody.
const SLOW_LINK: u32 = 40;
/// Nothing goes wrong for so long now and then where it is sealed: keys are changed, and those before them forgotten.
const LULL: u64 = 126_000 * MS;
/// A server that does not answer is given up after so long.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(700);

/// How much may go wrong at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Budget {
    /// One thing after the other: nobody may lose a connection.
    One,
    /// Anything at any time: connections may be lost, but not silently altered.
    Beyond,
}

/// Which story to play, and how to look at it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Script {
    /// What everything is drawn from.
    pub seed: u64,
    /// How much may go wrong at once.
    pub budget: Budget,
    /// Only these clients and mishaps of it, by their number in the story.
    pub only: Option<BTreeSet<usize>>,
    /// Prints every event.
    pub trace: bool,
    /// Keeps every frame, for [`crate::sim::capture`].
    pub capture: bool,
}

impl Script {
    /// The whole story of a seed.
    pub fn new(seed: u64, budget: Budget) -> Script {
        Script { seed, budget, only: None, trace: false, capture: false }
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
    /// Clients and mishaps that the whole story has.
    pub items: usize,
    /// What happened, in order.
    pub diary: Vec<String>,
    /// Clients, and those of them that were reset.
    pub clients: (usize, usize),
    /// The first rule that was broken.
    pub failure: Option<String>,
    /// Every frame that arrived, if they were to be kept.
    pub frames: Vec<Captured>,
}

/// A client, or something that goes wrong; with its number in the story.
type Item<T> = (usize, T);

/// One thing goes wrong, while clients come and go.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Round {
    /// Who connects before, and how long after the one before that.
    before: Vec<Item<(Caller, u64)>>,
    /// How long it then takes until something goes wrong.
    wait: u64,
    mishap: Item<Mishap>,
    /// Who connects meanwhile.
    during: Vec<Item<(Caller, u64)>>,
    /// How long it lasts.
    length: u64,
}

/// A whole story, drawn and not played yet.
#[derive(Clone, Debug)]
struct Tale {
    shape: Shape,
    rounds: Vec<Round>,
    items: usize,
}

/// Plays a story. Whatever panics in it has failed.
pub fn play(script: &Script) -> Outcome {
    let tale = Tale::draw(script);
    let mut world = World::new(script.seed, tale.shape.clone());
    let mut story = Story::new(script);
    let played = catch_unwind(AssertUnwindSafe(|| story.play(&mut world, &tale)));
    let failure = played.unwrap_or_else(|panic| Err(said_by(panic))).err();
    let resets = world.hosts.iter().filter(|host| host.client.ending == Ending::Reset).count();
    Outcome {
        tally: world.tally(),
        trace_hash: world.trace_hash(),
        time: world.now,
        items: tale.items,
        diary: story.diary,
        clients: (world.hosts.len(), resets),
        failure: world.failure.take().or(failure),
        frames: world.take_capture(),
    }
}

/// What a panic had to say; where it was stands on the standard error output.
fn said_by(panic: Box<dyn Any + Send>) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("without a word");
    format!("panicked: {text}")
}

impl Tale {
    fn draw(script: &Script) -> Tale {
        let mut random = Random::new(script.seed);
        let mut shape = shape(&mut random, script);
        let count = 1 + random.below(6);
        let crowded = random.permille(40).then(|| random.below(count));
        if crowded.is_some() {
            (shape.settings.flows_max, shape.settings.link_mbits) = (CROWD_FLOWS, SLOW_LINK);
        }
        let plan = Plan::of(&shape);
        let mut items = 0;
        let mut draw = |index| match crowded == Some(index) {
            true => Round::draw_crowded(&mut random, (&shape, &plan), &mut items),
            false => Round::draw(&mut random, script.budget, (&shape, &plan), &mut items),
        };
        let rounds = (0..count).map(&mut draw).collect();
        Tale { shape, rounds, items }
    }
}

impl Round {
    fn draw(
        random: &mut Random,
        budget: Budget,
        (shape, plan): (&Shape, &Plan),
        items: &mut usize,
    ) -> Round {
        let before = callers(random, shape, items);
        let wait = match shape.is_sealed && random.permille(8) {
            true => LULL + random.below(10_000 * MS),
            false => random.below(20 * MS),
        };
        let mishap = plan.draw(random);
        let rest = random.below(500 * MS);
        let lasts = mishap.repairs.iter().map(|(wait, _)| wait).sum::<u64>() + rest;
        let length = match budget {
            Budget::One => lasts,
            Budget::Beyond => random.below(lasts + 1),
        };
        let departs = match mishap.fault {
            Fault::Name { service, .. } => Some(service),
            _ => None,
        };
        let mishap = (number(items), mishap);
        let during = match departs {
            None => callers(random, shape, items),
            Some(service) => newcomers(random, shape, (service, lasts), items),
        };
        Round { before, wait, mishap, during, length }
    }

    /// The owner of very many connections dies, and its successor gets a peer while it is still waking their clients.
    fn draw_crowded(
        random: &mut Random,
        (shape, plan): (&Shape, &Plan),
        items: &mut usize,
    ) -> Round {
        let service = shape.settings.position_of(ECHO).expect("every world has an echo");
        let mut before = callers(random, shape, items);
        let busy = callers(random, shape, items);
        let count = CROWD + random.below(CROWD);
        let stays = |_| {
            let caller = workload::draw_stayer(random, &shape.settings);
            (number(items), (caller, random.below(MS / 4)))
        };
        before.extend((0..count).map(stays));
        before.extend(busy);
        let mishap = (number(items), plan.orphan(service, random));
        let during = callers(random, shape, items);
        Round { before, wait: random.below(10 * MS), mishap, during, length: 500 * MS }
    }
}

fn number(items: &mut usize) -> usize {
    *items += 1;
    *items - 1
}

fn callers(random: &mut Random, shape: &Shape, items: &mut usize) -> Vec<Item<(Caller, u64)>> {
    // Now and then a crowd: a change of role takes a while to reach everybody.
    let count = if random.permille(50) { 8 + random.below(16) } else { random.below(4) };
    let caller = |_| {
        let caller = workload::draw(random, &shape.settings);
        let pause = if random.permille(150) { 150 * MS } else { 3 * MS };
        (number(items), (caller, random.below(pause)))
    };
    (0..count).map(caller).collect()
}

fn shape(random: &mut Random, script: &Script) -> Shape {
    let mut settings = Settings { flows_max: 128, chunks_max: 4096, ..Settings::default() };
    let has_impatient = random.permille(300);
    let is_wanted = |port: &Port| {
        [HTTP, ECHO, GENERATE_STAY].contains(&port.port)
            || has_impatient && port.port == HTTP_IMPATIENT
    };
    settings.ports.retain(is_wanted);
    if random.permille(700) {
        let ack = if random.permille(700) { Ack::EndToEnd } else { Ack::Held };
        let port = Port { port: PROXY, app: AppConfig::Proxy(ack), ..settings.ports[0] };
        // A server without power is found out although nobody has anything to say to it.
        let interval = Duration::from_millis(500);
        let keep_alive = Some(KeepAlive { idle: Duration::from_secs(3), interval, count: 5 });
        settings.ports.push(Port { connect_timeout: CONNECT_TIMEOUT, keep_alive, ..port });
        settings.servers = 2;
        settings.servers_6 = random.below(3) as usize;
        settings.balance = [Balance::RoundRobin, Balance::LeastConnections, Balance::RandomTwo]
            [random.below(3) as usize];
        settings.header =
            [None, Some(HeaderVersion::V1), Some(HeaderVersion::V2)][random.below(3) as usize];
    }
    // A peer that listens hears everything with a virtual address, else what the switch floods.
    let is_virtual = random.permille(400);
    settings.overheard = if random.permille(500) { 1000 } else { 0 };
    settings.link_mbits = [10_000, SLOW_LINK][random.below(2) as usize];
    for (index, port) in settings.ports.iter_mut().enumerate() {
        // Host 101 is where servers are connected to from.
        port.host = if port.port == PROXY { 110 } else { 102 + index as u8 };
        port.second = random.permille(300).then_some(120 + index as u8);
        if is_virtual {
            port.arp = ArpPolicy::VirtualMac([2, 4, 0, 0, 0, port.host]);
        }
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
        cores: (0..nodes).map(|_| 1 + random.below(3) as u8).collect(),
        timers: Timers::bed(),
        arbiter: Arbiter::Witness,
        delay: delay(random),
        echoes: echoes(random),
        failback: (failback, Duration::from_millis(100 + random.below(900))),
        is_sealed: random.permille(400),
        deals_by_hash: random.permille(200),
        trace: script.trace,
        capture: script.capture,
    }
}

/// One way through a network: in one room, or between two sites.
fn delay(random: &mut Random) -> u64 {
    match random.permille(200) {
        true => 500_000 + random.below(2_500_000),
        false => 10_000 + random.below(100_000),
    }
}

/// How often in a thousand the cluster's network says something twice, and up to how much later: longer than roles last.
fn echoes(random: &mut Random) -> (u64, u64) {
    match random.permille(300) {
        true => (5 + random.below(30), (300 * MS) << (3 * random.below(2))),
        false => (0, 0),
    }
}

/// Callers who come all the time that a service is away, half of them to it.
fn newcomers(
    random: &mut Random,
    shape: &Shape,
    (service, lasts): (usize, u64),
    items: &mut usize,
) -> Vec<Item<(Caller, u64)>> {
    let count = 2 + random.below(6);
    let port = shape.settings.ports[service].port;
    let newcomer = |_| {
        let wanted = random.permille(500).then_some(port);
        let mut draws = std::iter::repeat_with(|| workload::draw(random, &shape.settings)).take(16);
        let caller = draws.find(|caller| wanted.is_none_or(|port| caller.dialogue.port == port))?;
        Some((number(items), (caller, random.below(2 * lasts / count + 1))))
    };
    (0..count).filter_map(newcomer).collect()
}

/// A story that is being played.
pub(super) struct Story<'a> {
    script: &'a Script,
    diary: Vec<String>,
}

impl Story<'_> {
    /// Its beginning.
    pub fn new(script: &Script) -> Story<'_> {
        Story { script, diary: Vec::new() }
    }

    fn play(&mut self, world: &mut World, tale: &Tale) -> Result<(), String> {
        await_protection(world, "at the start")?;
        for round in &tale.rounds {
            self.connect(world, &round.before);
            world.run_for(round.wait);
            let is_wanted = self.is_wanted(round.mishap.0);
            if is_wanted {
                self.begin(world, &round.mishap);
            }
            self.connect(world, &round.during);
            if is_wanted {
                world.run_for(round.length);
            }
            if self.script.budget == Budget::One {
                await_protection(world, "after a mishap")?;
            }
        }
        world.heal();
        await_protection(world, "in the end")?;
        self.conclude(world)
    }

    fn is_wanted(&self, number: usize) -> bool {
        self.script.only.as_ref().is_none_or(|only| only.contains(&number))
    }

    fn note(&mut self, world: &World, number: usize, what: &str) {
        self.diary.push(format!("{:>12.3} ms  {number:>3}  {what}", world.now as f64 / 1e6));
    }

    fn begin(&mut self, world: &mut World, (number, mishap): &Item<Mishap>) {
        self.note(world, *number, &format!("{:?}, then {:?}", mishap.fault, mishap.repairs));
        world.schedule(0, mishap.fault);
        let mut end = 0;
        for (wait, repair) in &mishap.repairs {
            end += wait;
            world.schedule(end, *repair);
        }
    }

    fn connect(&mut self, world: &mut World, callers: &[Item<(Caller, u64)>]) {
        for (number, (caller, wait)) in callers {
            if self.is_wanted(*number) {
                let steps: Vec<&str> =
                    caller.dialogue.steps.iter().map(|step| step.name()).collect();
                self.note(world, *number, &format!("{:?} {steps:?}", caller.settings));
                world.connect(caller.clone());
                world.run_for(*wait);
            }
        }
    }

    /// After the faults everybody gets what was theirs.
    fn conclude(&self, world: &mut World) -> Result<(), String> {
        self.settle(world);
        let (now, fates) = (Instant(world.now), world.fates());
        for (index, host) in world.hosts.iter_mut().enumerate() {
            self.conclude_one(now, host, fates[index])?;
        }
        world.check_copies()?;
        world.check_end()
    }

    /// Waits until nothing more can come of any client's connection, but not for ever.
    pub fn settle(&self, world: &mut World) {
        let end = world.now + PATIENCE;
        while world.now < end && world.failure.is_none() && !self.are_settled(world) {
            world.run_for(LOOK);
        }
    }

    fn are_settled(&self, world: &mut World) -> bool {
        let (now, fates) = (Instant(world.now), world.fates());
        let mut hosts = world.hosts.iter_mut().enumerate();
        hosts.all(|(index, host)| self.is_settled(now, host, fates[index]))
    }

    /// Whether nothing more can come of a client's connection.
    fn is_settled(&self, now: Instant, host: &mut Host, fate: Fate) -> bool {
        let is_silent = host.client.unacknowledged() == 0;
        // Who only listens hears of no loss; within the budget nothing is lost.
        let may_be_lost = self.script.budget == Budget::Beyond || host.is_excused;
        host.is_done()
            || host.client.has_lost_its_timer(now)
            || may_be_lost && fate != Fate::Known && is_silent
            || fate == Fate::Unborn && is_silent
    }

    fn conclude_one(&self, now: Instant, host: &mut Host, fate: Fate) -> Result<(), String> {
        let is_settled = self.is_settled(now, host, fate);
        let client = &mut host.client;
        let is_reset = client.ending == Ending::Reset;
        if is_reset && self.script.budget == Budget::One && !host.is_excused && !host.is_refused {
            return Err(format!("reset: {}", client.describe()));
        }
        if !is_settled {
            return Err(format!("stalled: {}", client.describe()));
        }
        let is_over = client.is_done() || client.has_lost_its_timer(now);
        let is_right = match is_reset || !is_over || host.is_abrupt {
            true => host.expected.begins_with(&client.received),
            false => host.expected.is_all_of(&client.received),
        };
        match is_right {
            true => Ok(()),
            false => Err(format!("other bytes: {}", client.describe())),
        }
    }
}

/// Waits until every group is protected, and looks at every copy.
pub(super) fn await_protection(world: &mut World, when: &str) -> Result<(), String> {
    // A third node's home may have to wait until its path is believed to be steady.
    let peace = PEACE << (2 * world.nodes.len().saturating_sub(2));
    if world.run_until(peace, World::is_protected) {
        return world.check_copies();
    }
    let groups = 0..world.shape().settings.ports.len();
    let registers: Vec<String> =
        groups.map(|group| format!("{:?}", world.register(group))).collect();
    Err(format!("not protected {when}: {}", registers.join("; ")))
}
