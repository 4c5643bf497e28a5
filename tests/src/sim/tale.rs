//! A whole story, drawn from its seed and not played yet: the world, who connects when, what goes wrong.

use crate::kit::random::Random;
use crate::kit::settings::{ECHO, GENERATE_STAY, HTTP, HTTP_IMPATIENT, PROXY, Port, Settings};
use crate::sim::fault::{Fault, MS};
use crate::sim::mishap::{Mishap, Plan};
use crate::sim::story::{Budget, Script};
use crate::sim::workload::{self, Caller};
use crate::sim::world::Shape;
use cluster::agent::Arbiter;
use cluster::lease::Timers;
use cluster::message::advertise::Failback;
use stack::app::AppConfig;
use stack::app::proxy::Ack;
use stack::app::proxy::header::HeaderVersion;
use stack::service::{ArpPolicy, KeepAlive};
use stack::time::Duration;
use stack::upstream::Balance;

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

/// A client, or something that goes wrong; with its number in the story.
pub(super) type Item<T> = (usize, T);

/// One thing goes wrong, while clients come and go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Round {
    /// Who connects before, and how long after the one before that.
    pub before: Vec<Item<(Caller, u64)>>,
    /// How long it then takes until something goes wrong.
    pub wait: u64,
    pub mishap: Item<Mishap>,
    /// Who connects meanwhile.
    pub during: Vec<Item<(Caller, u64)>>,
    /// How long it lasts.
    pub length: u64,
}

/// A whole story, drawn and not played yet.
#[derive(Clone, Debug)]
pub(super) struct Tale {
    pub shape: Shape,
    pub rounds: Vec<Round>,
    pub items: usize,
}

impl Tale {
    /// Draws it.
    pub fn draw(script: &Script) -> Tale {
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
    let nodes = match random.below(20) {
        0 => 5,
        1 => 4,
        2..=6 => 3,
        _ => 2,
    };
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
