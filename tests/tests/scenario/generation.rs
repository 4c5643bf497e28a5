//! Two generations of one service: newcomers at one node, the connections of before at the other.

use cluster::id::{Epoch, GroupId};
use cluster::role::{Command, Report};
use stack::time::Duration;
use stack::wire::Flags;
use tests::kit::settings::{ECHO, Settings};
use tests::kit::world::World;

const ACK: Flags = Flags::ACK;

/// The generation of before, which node 0 owns, and the one that node 1 is to have.
const OLD: GroupId = GroupId::new(0, 0);
const NEW: GroupId = GroupId::new(0, 1);

const MOMENT: Duration = Duration::from_millis(2);

/// Node 0 owns the service, node 1 holds every copy, and a client has an echo under way.
fn protected(cores: [u8; 2]) -> (World, usize) {
    protected_with(Settings { cores, ..Settings::default() })
}

fn protected_with(settings: Settings) -> (World, usize) {
    let mut settings = Settings { generations: 2, ..settings };
    settings.ports.retain(|port| port.port == ECHO);
    let mut world = World::mirrored_slowly(settings);
    world.command(0, Command::Protected { group: OLD, epoch: Epoch(3) });
    world.command(1, Command::FollowInSync { group: OLD, epoch: Epoch(3) });
    newcomers(&mut world, 0..2, OLD, true, false);
    let raw = world.raw(ECHO);
    world.raws[raw].send(Flags::SYN, &[]);
    world.send_raw(raw);
    world.run_for(MOMENT);
    world.raws[raw].acknowledges = true;
    world.raws[raw].send(ACK, &[]);
    speak(&mut world, raw, 0);
    (world, raw)
}

/// Nodes are told which generation newcomers belong to.
fn newcomers(
    world: &mut World,
    nodes: std::ops::Range<usize>,
    group: GroupId,
    are_taken: bool,
    is_shared: bool,
) {
    for node in nodes {
        world.command(node, Command::Newcomers { group, are_taken, is_shared });
    }
}

/// Node 0 lets no flow begin, and the register says closed.
fn close(world: &mut World) {
    let (group, epoch, attempt) = (OLD, Epoch(3), 1);
    world.command(0, Command::Close { group, epoch, attempt });
    world.drive(0);
    assert!(world.run_until(Duration::from_secs(1), |world| world.is_frozen(0, 1)));
    world.command(0, Command::Protected { group, epoch: Epoch(4) });
    world.command(1, Command::FollowInSync { group, epoch: Epoch(4) });
    newcomers(world, 0..2, OLD, false, false);
    world.route(1, OLD, Epoch(4));
}

/// Node 1 owns the next generation, and node 0 hears of it.
fn open_next(world: &mut World) {
    newcomers(world, 1..2, NEW, true, true);
    world.command(1, Command::Serve { group: NEW, epoch: Epoch(4) });
    world.drive(1);
    newcomers(world, 0..1, NEW, true, true);
    world.route(0, NEW, Epoch(4));
    world.drive(0);
    world.run_for(MOMENT);
}

/// The same as one step: what came of it is a client whose connection stayed at node 0.
fn failed_back(cores: [u8; 2]) -> (World, usize) {
    let (mut world, raw) = protected(cores);
    close(&mut world);
    open_next(&mut world);
    (world, raw)
}

/// The client says something to `node`, and it comes back.
fn speak(world: &mut World, raw: usize, node: usize) {
    let before = world.raws[raw].received.len();
    world.raws[raw].send(ACK.with(Flags::PSH), b"hello");
    world.send_raw_to(raw, node);
    world.run_for(MOMENT);
    // What the client acknowledges leaves for where the address is.
    world.send_raw(raw);
    world.run_for(MOMENT);
    assert_eq!(world.raws[raw].received.len() - before, 5, "an echo by way of node {node}");
}

/// A newcomer's first segment reaches `node`; the flags of the answer, if there is one.
fn knock(world: &mut World, node: usize, flags: Flags) -> (usize, Option<Flags>) {
    let raw = world.raw(ECHO);
    world.raws[raw].send(flags, &[]);
    world.send_raw_to(raw, node);
    world.run_for(MOMENT);
    (raw, world.raws[raw].take().map(|answer| answer.flags))
}

fn flows(world: &World, node: usize) -> [u32; 2] {
    let mut sum = [0; 2];
    for status in world.nodes[node].status() {
        sum[usize::from(status.id.generation())] += status.flows;
    }
    sum
}

fn count(world: &World, node: usize, name: &str) -> u64 {
    let counters = world.nodes[node].forwarded();
    counters.iter().find(|(known, _)| *known == name).expect("a counter").1
}

const SYN_ACK: Flags = Flags(Flags::SYN.0 | Flags::ACK.0);

#[test]
fn newcomers_go_home_and_old_connections_stay() {
    for cores in [[1, 1], [2, 1], [1, 3], [3, 2]] {
        let (mut world, raw) = failed_back(cores);
        assert_eq!(world.neighbor(), Some(world.nodes[1].stacks().next().unwrap().mac()));
        for node in [1, 0] {
            speak(&mut world, raw, node);
            let (_, answer) = knock(&mut world, node, Flags::SYN);
            assert_eq!(answer, Some(SYN_ACK), "by way of node {node}, {cores:?}");
        }
        assert_eq!((flows(&world, 0), flows(&world, 1)), ([1, 0], [1, 2]), "{cores:?}");
        // Whoever is nobody's is told so, by the owner of the newest generation alone.
        let (_, answer) = knock(&mut world, 1, ACK);
        assert_eq!(answer.map(|flags| flags.has(Flags::RST)), Some(true));
        assert_eq!(knock(&mut world, 0, ACK).1, None);
    }
}

#[test]
fn newcomers_wait_while_nobody_takes_them_and_need_not_knock_twice() {
    let (mut world, raw) = protected([1, 1]);
    close(&mut world);
    let (first, answer) = knock(&mut world, 0, Flags::SYN);
    let (second, other) = knock(&mut world, 1, Flags::SYN);
    assert_eq!((answer, other), (None, None));
    // A stranger's segment may be one of the next generation's by now: it is no business of this one's.
    assert_eq!(knock(&mut world, 0, ACK).1, None);
    speak(&mut world, raw, 0);
    open_next(&mut world);
    let answer = world.raws[first].take().map(|answer| answer.flags);
    assert_eq!(answer, Some(SYN_ACK), "it waited at the old owner");
    assert_eq!(world.raws[second].take(), None, "one hop only: it says that again");
    assert_eq!((flows(&world, 0), flows(&world, 1)), ([1, 0], [1, 1]));
}

#[test]
fn newcomers_are_taken_again_when_nothing_comes_of_it() {
    let (mut world, raw) = protected([2, 1]);
    world.command(0, Command::Close { group: OLD, epoch: Epoch(3), attempt: 1 });
    world.drive(0);
    let (waits, answer) = knock(&mut world, 0, Flags::SYN);
    assert_eq!(answer, None);
    world.command(0, Command::Thaw { group: OLD });
    world.drive(0);
    world.run_for(MOMENT);
    assert_eq!(world.raws[waits].take().map(|answer| answer.flags), Some(SYN_ACK));
    speak(&mut world, raw, 0);
}

/// The owner of the newest generation has lost its copies of the other one: it opens nothing and refuses nobody unasked.
#[test]
fn who_cannot_tell_newcomers_asks() {
    for cores in [[1, 1], [2, 1], [1, 3]] {
        let (mut world, raw) = failed_back(cores);
        world.command(0, Command::Alone { group: OLD, epoch: Epoch(5) });
        world.command(1, Command::Stop { group: OLD });
        world.route(1, OLD, Epoch(5));
        speak(&mut world, raw, 1);
        assert_eq!(flows(&world, 1), [0, 0], "nothing was begun here for what is there");
        assert_eq!(knock(&mut world, 1, Flags::SYN).1, Some(SYN_ACK), "{cores:?}");
        let refused = knock(&mut world, 1, ACK).1;
        assert_eq!(refused.map(|flags| flags.has(Flags::RST)), Some(true), "{cores:?}");
        assert_eq!(count(&world, 0, "forward_returned"), 2);
        assert_eq!((flows(&world, 0), flows(&world, 1)), ([1, 0], [0, 1]));
        // It is over: nobody needs to be asked any more.
        newcomers(&mut world, 0..2, NEW, true, false);
        assert_eq!(knock(&mut world, 1, Flags::SYN).1, Some(SYN_ACK));
        assert_eq!(count(&world, 0, "forward_returned"), 2);
    }
}

/// Home lost its copies and is filled again; one old connection holds more than can be captured. Until it holds less home
/// knows that it does not know all of them, and asks: else it would answer that one's client by RST.
#[test]
fn home_asks_while_an_old_connection_is_too_large_to_be_copied() {
    let (mut world, raw) = protected_with(Settings::large());
    close(&mut world);
    open_next(&mut world);
    world.stuff(raw);
    let (epoch, owner, peer) = (Epoch(6), world.nodes[0].member(), world.nodes[1].member());
    world.command(0, Command::Alone { group: OLD, epoch: Epoch(5) });
    world.command(1, Command::Stop { group: OLD });
    world.command(1, Command::Follow { group: OLD, epoch, owner, owner_cores: 1 });
    world.route(1, OLD, epoch);
    world.command(0, Command::Mirror { group: OLD, epoch, peer, peer_cores: 1 });
    (0..2).for_each(|node| world.drive(node));
    let is_filled = |world: &World| {
        let is_it =
            |report: &Report| matches!(report, Report::Filled { epoch: Epoch(6), missing: 1, .. });
        world.nodes[0].reports.iter().any(is_it)
    };
    assert!(world.run_until(Duration::from_millis(500), is_filled));
    world.command(1, Command::FollowInSync { group: OLD, epoch: Epoch(7) });
    // Whoever it is, home asks.
    let refused = knock(&mut world, 1, ACK).1;
    assert_eq!(refused.map(|flags| flags.has(Flags::RST)), Some(true));
    assert_eq!(count(&world, 0, "forward_returned"), 1);
    world.drain(raw, |world| flows(world, 1)[0] == 1);
    world.run_for(MOMENT);
    let refused = knock(&mut world, 1, ACK).1;
    assert_eq!(refused.map(|flags| flags.has(Flags::RST)), Some(true));
    assert_eq!(count(&world, 0, "forward_returned"), 1, "it holds all of them");
}

#[test]
fn home_takes_the_old_connections_over_when_their_owner_dies() {
    let (mut world, raw) = failed_back([1, 2]);
    let (new, _) = knock(&mut world, 1, Flags::SYN);
    world.raws[new].acknowledges = true;
    world.raws[new].send(ACK, &[]);
    speak(&mut world, new, 1);
    world.kill(0);
    let clock_jump = Duration::from_secs(2);
    world.command(1, Command::Promote { group: OLD, epoch: Epoch(5), clock_jump });
    world.drive(1);
    for raw in [raw, new] {
        speak(&mut world, raw, 1);
    }
    assert_eq!((flows(&world, 1), world.resets), ([1, 1], 0));
    assert_eq!(knock(&mut world, 1, Flags::SYN).1, Some(SYN_ACK));
    assert_eq!(flows(&world, 1), [1, 2], "nothing begins in what is closed");
}

/// What an old connection says reaches home first. If its owner has died and nobody knows yet, it was forwarded to nobody; a
/// home that listens has kept it.
#[test]
fn what_was_forwarded_to_a_dead_owner_is_used_by_a_home_that_listens() {
    for overheard in [0, 1] {
        let (mut world, raw) = protected_with(Settings { overheard, ..Settings::default() });
        close(&mut world);
        open_next(&mut world);
        speak(&mut world, raw, 1);
        world.kill(0);
        let before = world.raws[raw].received.len();
        world.raws[raw].send(ACK.with(Flags::PSH), b"last words");
        world.send_raw_to(raw, 1);
        world.run_for(MOMENT);
        let clock_jump = Duration::from_secs(2);
        world.command(1, Command::Promote { group: OLD, epoch: Epoch(5), clock_jump });
        world.drive(1);
        world.run_for(MOMENT);
        let heard = &world.raws[raw].received[before..];
        assert_eq!(heard, if overheard > 0 { &b"last words"[..] } else { b"" });
        assert_eq!(world.resets, 0);
    }
}

#[test]
fn the_end_of_the_last_old_connection_is_reported_once() {
    let (mut world, raw) = failed_back([2, 2]);
    let empty = |world: &World| {
        let is_empty = |report: &&Report| matches!(report, Report::Empty { group: OLD, .. });
        world.nodes[0].reports.iter().filter(is_empty).count()
    };
    // Of two cores one never had a flow of it.
    assert_eq!(empty(&world), 1);
    world.raws[raw].send(Flags::RST, &[]);
    world.send_raw(raw);
    world.run_for(MOMENT);
    assert_eq!((empty(&world), flows(&world, 0)), (2, [0, 0]));
    world.run_for(MOMENT);
    assert_eq!(empty(&world), 2);
}
