//! The owner dies at every op, and the client must not notice.
//!
//! A case is played once undisturbed, and what its clients received is the reference. Then it is played again
//! from the start for every *point*: the owner dies right after its n-th frame or datagram; what it had said to
//! the clients arrives or is lost; and of the datagrams that were on their way to the peer the first k
//! arrive. Datagrams carry one record each, so k runs over every prefix of the log that the peer can hold. Then
//! the peer is promoted and the same clients go on.
//!
//! The oracle is what the clients' own TCP delivered, and the contract that the peer held at the promotion. The
//! gate's bookkeeping is never asked.

mod handover;

pub use handover::{Mishap, assert_handed_over, handed_over};

use crate::kit::client::{Client, ClientSettings, Ending, Opener};
use crate::kit::dialogue::Dialogue;
use crate::kit::random::Random;
use crate::kit::settings::{Link, Settings};
use crate::kit::world::{Node, World};
use cluster::id::Epoch;
use cluster::role::Report;
use stack::tcp::contract::Contract;
use stack::tcp::state::State;
use stack::time::Duration;
use std::collections::BTreeSet;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};

/// Frames of a burst that leave after one look at the lease.
const BURST_MAX: usize = 64;

/// Points played by this process.
static POINTS: AtomicU64 = AtomicU64::new(0);

/// Overheard frames that promoted peers have used in this process.
static USED: AtomicU64 = AtomicU64::new(0);

/// How many frames promoted peers have used that they had overheard.
pub fn overheard_used() -> u64 {
    USED.load(Ordering::Relaxed)
}

/// Says something past the test harness, which keeps what passing tests print to itself.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// From the death to the promotion: several time-outs of the clients.
const OUTAGE: Duration = Duration::from_millis(35);

/// The clients must be done by so long after the promotion.
const PATIENCE: Duration = Duration::from_secs(200);

/// Most are done by then, and no time-out of ours has run out.
const SETTLED: Duration = Duration::from_secs(40);

/// After so long every flow has left the table, TIME-WAIT and FIN-WAIT-2 included.
const FORGOTTEN: Duration = Duration::from_secs(200);

/// Failures that are told in full.
const FAILURES_TOLD: usize = 6;

/// Clients, what they say, and under which circumstances.
#[derive(Clone, Debug)]
pub struct Case {
    /// For messages.
    pub name: &'static str,
    /// The world; only the ports that are spoken to are built.
    pub settings: Settings,
    /// The clients' buffers and options.
    pub client: ClientSettings,
    /// Who says what.
    pub dialogues: Vec<Dialogue>,
    /// What the servers say to whom the node passes its connections on; they are the first clients of the world.
    pub servers: Vec<(ClientSettings, Dialogue)>,
    /// SYNs that are never answered: they fill the backlog first.
    pub half_open: usize,
    /// Every n-th output is a point; more than 1 where clients wait for long and little happens.
    pub stride: usize,
    /// A reset is a legal end (time-outs after a takeover make nothing up; the client aborts).
    pub may_reset: bool,
    /// In a handover some segment may have to be said again, by whoever's timer: of a proxied connection one leg may be
    /// served before the other's straggler arrives.
    pub may_repeat: bool,
    /// So long after the clients begin, the checks of both nodes find a server up or down.
    pub verdicts: Vec<(Duration, u16, bool)>,
}

impl Case {
    /// One client in a faultless world.
    pub fn new(dialogue: Dialogue) -> Case {
        let mut settings = Settings { split_records: true, ..Settings::default() };
        settings.ports.retain(|port| port.port == dialogue.port);
        Case {
            name: dialogue.name,
            settings,
            client: ClientSettings::default(),
            dialogues: vec![dialogue],
            servers: Vec::new(),
            half_open: 0,
            stride: 1,
            may_reset: false,
            may_repeat: false,
            verdicts: Vec::new(),
        }
    }

    /// A client and the server to which it is passed on, in a faultless world.
    pub fn proxied(client: Dialogue, server: Dialogue) -> Case {
        let settings = ClientSettings { opener: Opener::Proxy, ..ClientSettings::default() };
        let mut case = Case { servers: vec![(settings, server)], ..Case::new(client) };
        case.settings = Settings { split_records: true, ..Settings::proxied(1) };
        case
    }

    /// The cluster link is much slower than the clients': many records are on their way at any time.
    pub fn with_slow_cluster(mut self) -> Case {
        self.settings.cluster_link = Link::clean(Duration::from_micros(900));
        self
    }

    /// Both links lose, repeat and reorder, as `seed` says; every n-th output is a point.
    pub fn with_rough_links(mut self, seed: u64, stride: usize) -> Case {
        let link = |delay, jitter| Link {
            delay: Duration::from_micros(delay),
            jitter: Duration::from_micros(jitter),
            loss_permille: 40,
            twice_permille: 20,
        };
        self.settings.seed = seed;
        (self.settings.client_link, self.settings.cluster_link) = (link(100, 150), link(200, 300));
        self.stride = stride;
        self
    }

    /// The world in which the case is played, at its beginning.
    pub fn start(&self) -> World {
        let mut world = World::mirrored(self.settings.clone());
        for (settings, dialogue) in &self.servers {
            world.connect(*settings, dialogue.clone());
        }
        if !self.servers.is_empty() {
            // The node learns where they are.
            world.run_for(Duration::from_millis(300));
        }
        for n in 0..self.half_open {
            let raw = world.raw(self.dialogues[0].port);
            assert_eq!(raw, n);
            world.raws[raw].send(stack::wire::Flags::SYN, &[]);
            world.send_raw(raw);
        }
        if self.half_open > 0 {
            world.run_for(Duration::from_millis(2));
        }
        world.nodes[0].outputs = 0;
        for dialogue in &self.dialogues {
            world.connect(self.client, dialogue.clone());
        }
        for &(time, server, is_up) in &self.verdicts {
            world.find_later(time, server, is_up);
        }
        world.open(0);
        world
    }
}

/// Where the owner dies, and what outlives it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Point {
    /// Right after so many frames and datagrams.
    pub output: u64,
    /// What it had said to the clients arrives.
    pub is_heard: bool,
    /// Of the datagrams on their way to the peer, so many arrive.
    pub prefix: usize,
}

/// What a case is without a death.
#[derive(Clone, Debug, Default)]
pub struct Reference {
    /// What each client received.
    pub received: Vec<Vec<u8>>,
    /// Frames and datagrams of the owner.
    pub outputs: u64,
    /// Records of the owner.
    pub records: u64,
}

/// How a case went.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Points played.
    pub points: u64,
    /// Points where the clients noticed, and what.
    pub failures: Vec<(Point, String)>,
    /// The undisturbed run.
    pub reference: Reference,
}

/// Plays a case undisturbed.
pub fn reference(case: &Case) -> Reference {
    let mut world = case.start();
    let before = world.records(0);
    let done = world.run_until(PATIENCE, all_done);
    let clients = world.clients.iter().map(|client| client.describe());
    assert!(done, "{}: {:?}", case.name, clients.collect::<Vec<_>>());
    assert!(case.may_reset || world.resets == 0, "{}: a reset without a death", case.name);
    Reference {
        received: world.clients.iter().map(|client| client.received.clone()).collect(),
        outputs: world.nodes[0].outputs,
        records: world.records(0) - before,
    }
}

/// Whether every core of both nodes has a flow of the case, and frames and datagrams have to cross over to reach it.
pub fn are_all_cores_used(case: &Case) -> bool {
    let mut world = case.start();
    let mut used = BTreeSet::new();
    world.run_until(PATIENCE, |world| {
        for (index, node) in world.nodes.iter().enumerate() {
            let stacks = node.stacks().enumerate();
            let busy = stacks.filter(|(_, stack)| stack.slots().next().is_some());
            used.extend(busy.map(|(core, _)| (index, core)));
        }
        all_done(world)
    });
    let has_crossed = |node: &Node| node.crossed > 0 || node.cores() == 1;
    let cores: u8 = world.nodes.iter().map(Node::cores).sum();
    used.len() == cores as usize && world.nodes.iter().all(has_crossed)
}

/// Plays every point of a case.
pub fn every_point(case: &Case) -> Summary {
    let reference = reference(case);
    let mut summary = Summary { reference, ..Summary::default() };
    for output in (1..=summary.reference.outputs).step_by(case.stride) {
        for is_heard in [true, false] {
            let mut prefix = 0;
            loop {
                let point = Point { output, is_heard, prefix };
                let (outstanding, result) = play(case, &summary.reference, point);
                summary.points += 1;
                if let Err(what) = result {
                    summary.failures.push((point, what));
                }
                if prefix >= outstanding {
                    break;
                }
                prefix += 1;
            }
        }
    }
    summary
}

/// Plays every point of a case, prints how many there were, and panics if a client noticed.
pub fn assert_unnoticed(case: &Case) -> u64 {
    let summary = every_point(case);
    let Reference { outputs, records, .. } = summary.reference;
    let all = POINTS.fetch_add(summary.points, Ordering::Relaxed) + summary.points;
    say(&format!(
        "kill points: {} of {} ({records} records, {outputs} outputs), {all} so far",
        summary.points, case.name
    ));
    for (point, what) in summary.failures.iter().take(FAILURES_TOLD) {
        println!("  {point:?}: {what}");
    }
    let (failed, points) = (summary.failures.len(), summary.points);
    say_outcome(case, &summary.reference, points, failed as u64);
    assert!(failed == 0, "{}: a client noticed at {failed} of {points} points", case.name);
    points
}

/// What `cargo xtask scenario` reads: at so many points no client noticed. Where a reset is a legal end it says nothing.
fn say_outcome(case: &Case, reference: &Reference, points: u64, failed: u64) {
    let clients = reference.received.len() as u64;
    if !case.may_reset && clients > 0 {
        let survived = (points - failed) * clients;
        say(&format!("outcome: survived={survived}/{}", points * clients));
    }
}

/// Plays `count` pairs of deaths, drawn from `seed`; panics if a client noticed.
pub fn assert_unnoticed_twice(case: &Case, seed: u64, count: u64) {
    let reference = reference(case);
    let mut random = Random::new(seed);
    let mut failures = Vec::new();
    for _ in 0..count {
        let mut point = || Point {
            output: 1 + random.below(reference.outputs),
            is_heard: random.permille(500),
            prefix: random.below(12) as usize,
        };
        let (first, second) = (point(), point());
        if let Err(what) = play_twice(case, &reference, first, second) {
            failures.push((first, second, what));
        }
    }
    say(&format!("kill points: {count} pairs of deaths of {}", case.name));
    for (first, second, what) in failures.iter().take(FAILURES_TOLD) {
        println!("  {first:?}, {second:?}: {what}");
    }
    let failed = failures.len();
    say_outcome(case, &reference, count, failed as u64);
    assert!(failed == 0, "{}: a client noticed {failed} of {count} pairs of deaths", case.name);
}

/// Plays one point; answers how many datagrams were on their way, and what a client noticed.
pub fn play(case: &Case, reference: &Reference, point: Point) -> (usize, Result<(), String>) {
    let mut world = case.start();
    world.nodes[0].dies_after = Some(point.output);
    let died = world.run_until(PATIENCE, |world| !world.nodes[0].is_alive);
    assert!(died, "the run is the same as the reference up to here");
    let outstanding = hand_over(&mut world, 0, point);
    let outcome = finish(case, reference, &mut world);
    let engines = world.nodes.iter().flat_map(|node| &node.engines);
    let used = engines.map(|engine| engine.hearing_counters().used).sum();
    USED.fetch_add(used, Ordering::Relaxed);
    (outstanding, outcome)
}

/// Two deaths: the promoted peer fills a node that came back, and dies in turn.
pub fn play_twice(
    case: &Case,
    reference: &Reference,
    first: Point,
    second: Point,
) -> Result<(), String> {
    let mut world = case.start();
    world.nodes[0].dies_after = Some(first.output);
    world.run_until(PATIENCE, |world| !world.nodes[0].is_alive || all_done(world));
    hand_over(&mut world, 0, first);
    world.run_for(OUTAGE);
    check_said(&world, 0)?;
    take_over(&mut world, 1, Epoch(3));
    world.restart(0);
    world.mirror(1, Epoch(4));
    world.run_until(PATIENCE, |world| is_filled(world, 1) || all_done(world));
    if is_filled(&world, 1) {
        world.nodes[1].dies_after = Some(world.nodes[1].outputs + second.output);
        world.run_until(PATIENCE, |world| !world.nodes[1].is_alive || all_done(world));
        hand_over(&mut world, 1, second);
        world.run_for(OUTAGE);
        check_said(&world, 1)?;
        take_over(&mut world, 0, Epoch(5));
    }
    conclude(case, reference, &mut world, 0)
}

/// Plays every point once more with an owner that is not dead but paused: what it had on its way to the clients (a
/// burst, checked before the pause) reaches them only after the new owner has spoken. Panics if a client noticed.
pub fn assert_unnoticed_late(case: &Case) -> u64 {
    let reference = reference(case);
    let (mut points, mut late) = (0, 0);
    for output in 1..=reference.outputs {
        for prefix in [0, usize::MAX] {
            let mut world = case.start();
            world.nodes[0].dies_after = Some(output);
            assert!(world.run_until(PATIENCE, |world| !world.nodes[0].is_alive));
            let burst = world.take_answers(0);
            assert!(burst.len() <= BURST_MAX, "{} frames were on their way", burst.len());
            late += burst.len();
            hand_over(&mut world, 0, Point { output, is_heard: true, prefix });
            world.run_for(OUTAGE);
            let said = check_said(&world, 0);
            take_over(&mut world, 1, Epoch(3));
            world.run_until(Duration::from_millis(20), |world| world.nodes[1].outputs > 0);
            world.put_answers(0, burst);
            let outcome = said.and_then(|()| conclude(case, &reference, &mut world, 1));
            assert_eq!(outcome, Ok(()), "{}: output {output}, prefix {prefix}", case.name);
            points += 1;
        }
    }
    say(&format!(
        "kill points: {points} of {}, {late} frames later than the new owner's",
        case.name
    ));
    assert!(late > 0, "no frame was late");
    points
}

fn is_filled(world: &World, node: usize) -> bool {
    world.nodes[node].reports.iter().any(|report| matches!(report, Report::Filled { .. }))
}

/// The node dies, if it has not; what `point` says of its last words comes true.
fn hand_over(world: &mut World, node: usize, point: Point) -> usize {
    world.kill(node);
    if !point.is_heard {
        world.lose_answers(node);
    }
    let datagrams = world.take_datagrams(1 - node);
    for (index, frame) in datagrams.iter().take(point.prefix).enumerate() {
        if !world.settings.skip_hole {
            world.hand_datagram(1 - node, frame);
        } else if index > 0 {
            let frame = world.skip_hole(1 - node, frame);
            world.hand_datagram(1 - node, &frame);
        }
    }
    datagrams.len()
}

fn finish(case: &Case, reference: &Reference, world: &mut World) -> Result<(), String> {
    world.run_for(OUTAGE);
    check_said(world, 0)?;
    take_over(world, 1, Epoch(3));
    conclude(case, reference, world, 1)
}

/// `node` is promoted. A connection whose beginning was never committed was never begun: it is opened anew.
fn take_over(world: &mut World, node: usize, epoch: Epoch) {
    world.promote(node, epoch);
    world.open(node);
}

/// The clients end in peace, with what they should have, and `node` forgets them.
fn conclude(
    case: &Case,
    reference: &Reference,
    world: &mut World,
    node: usize,
) -> Result<(), String> {
    let is_settled = world.run_until(SETTLED, all_done);
    // Nobody hears the end of a client that never says it again: it waits for that until a time-out of ours resets it.
    let is_in_vain = !is_settled && nothing_follows(world);
    let rest = Duration(PATIENCE.0 - SETTLED.0);
    let done = is_settled || (!is_in_vain && world.run_until(rest, all_done));
    let now = world.now;
    let is_endless = world.clients.iter_mut().any(|client| client.has_lost_its_timer(now));
    for (client, expected) in world.clients.iter_mut().zip(&reference.received) {
        let is_reset = client.ending == Ending::Reset;
        if is_reset && !case.may_reset {
            return Err(format!("reset: {}", client.describe()));
        }
        let is_over = client.is_done() || is_reset || client.has_lost_its_timer(now);
        let waits_in_vain = is_endless && client.waits_for_the_end();
        if !(done || is_over || waits_in_vain) {
            return Err(format!("stalled: {}", client.describe()));
        }
        let is_right = if is_reset || case.may_reset {
            expected.starts_with(&client.received) || client.received.starts_with(expected)
        } else {
            client.received == *expected
        };
        if !is_right {
            return Err(format!("other bytes: {}", client.describe()));
        }
    }
    if world.second_voices > 0 {
        return Err("a former owner was heard".into());
    }
    if is_endless {
        // Its flow may stay.
        return Ok(());
    }
    world.run_for(FORGOTTEN);
    check_forgotten(world, node)
}

/// Whether a client never says its end again, and the others are done or wait for an end.
fn nothing_follows(world: &mut World) -> bool {
    let now = world.now;
    let clients = &mut world.clients;
    let is_endless = clients.iter_mut().any(|client| client.has_lost_its_timer(now));
    let rests = |client: &mut Client| {
        client.is_done() || client.has_lost_its_timer(now) || client.waits_for_the_end()
    };
    is_endless && clients.iter_mut().all(rests)
}

fn all_done(world: &World) -> bool {
    world.clients.iter().all(|client| {
        // A server that nobody needed is done as well; who needed one shows that himself.
        let is_idle = client.opener() == Opener::Proxy && client.is_waiting();
        client.is_done() || client.ending == Ending::Reset || is_idle
    })
}

/// Nothing was acknowledged, offered or begun that the peer does not hold.
fn check_said(world: &World, node: usize) -> Result<(), String> {
    let (owner, peer) = (&world.nodes[node], &world.nodes[1 - node]);
    for key in world.begun.keys() {
        let is_open = owner.find(key).is_some_and(|flow| flow.contract.state != State::Closed);
        if is_open && peer.find(key).is_none() {
            return Err("a SYN was sent for a flow that the peer knows nothing of".into());
        }
    }
    let has_cookies = owner.stacks().any(|stack| stack.counters().cookies_sent > 0);
    for (key, said) in &world.said {
        let ours = owner.find(key);
        let Some(copy) = peer.find(key) else {
            let is_cookie =
                has_cookies && ours.is_none_or(|flow| said.ack == flow.contract.irs + 1);
            match ours {
                Some(flow) if flow.contract.state != State::Closed && !is_cookie => {
                    return Err(format!(
                        "the peer knows nothing of a flow in {}",
                        flow.contract.state
                    ));
                }
                _ => continue,
            }
        };
        if said.ack.after(copy.contract.rcv_nxt) {
            let beyond = said.ack.since(copy.contract.rcv_nxt);
            return Err(format!("acknowledged {beyond} bytes that the peer does not hold"));
        }
        // A FIN may stand at the edge of a closed window: its acknowledgement offers nothing, and lies one beyond.
        let Contract { rcv_nxt, rcv_edge, .. } = copy.contract;
        let edge = if rcv_nxt.after(rcv_edge) { rcv_nxt } else { rcv_edge };
        if said.edge.after(edge) {
            let beyond = said.edge.since(edge);
            return Err(format!("offered {beyond} bytes that the peer does not know of"));
        }
    }
    Ok(())
}

/// Every flow is gone and has given back what it held.
fn check_forgotten(world: &World, node: usize) -> Result<(), String> {
    let left: Vec<String> = world.nodes[node]
        .flows()
        .map(|flow| format!("{} {:?}", flow.contract.state, flow.local))
        .collect();
    if !left.is_empty() {
        return Err(format!("flows stay for ever: {left:?}"));
    }
    for env in world.nodes[node].stacks().map(|stack| &stack.env) {
        if !env.memory.is_unused() || !env.senders.is_unused() || env.reassembly.used() > 0 {
            return Err("flows are gone and something is still held".into());
        }
    }
    Ok(())
}
