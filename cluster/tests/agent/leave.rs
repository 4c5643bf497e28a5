//! Services that come into the nodes' files and go from them, one node after the other, whatever happens meanwhile.

use super::role;
use super::world::{Event, Fault, File, MISHAPS, Noise, World};
use cluster::agent::{Arbiter, Reason, Survivor};
use cluster::id::NodeId;
use cluster::lease::Timers;
use cluster::message::{Drop, Role};
use cluster::register::Phase;

/// A world of nodes whose files do not name the service.
fn without(seed: u64, count: usize) -> World {
    let mut world = World::new(seed, count, Arbiter::Witness, Timers::bed());
    world.nodes.iter_mut().for_each(|node| node.file = File::Without);
    (0..=count).for_each(|index| world.fault(Fault::Start(index)));
    world.run(1_000);
    world
}

fn has_noted(world: &World, at: usize, reason: Reason) -> bool {
    let reasons = world.group(at).map(|group| group.reasons).unwrap_or_default();
    reasons.iter().any(|decision| decision.reason == reason)
}

/// Words of groups that a node does not know.
fn unknown(world: &World, at: usize) -> u64 {
    let agent = world.nodes[at].agent.as_ref().expect("it runs");
    agent.counters().dropped[Drop::UnknownGroup as usize]
}

fn is_gone(world: &World) -> bool {
    (0..world.nodes.len()).all(|index| world.group(index).is_none())
}

/// Home's file names it first: it is served at once, and protected when the other one knows it. The other one's file does: it
/// waits for home, and says so.
#[test]
fn a_service_comes_in_either_order_and_its_home_owns_it() {
    for first in [0, 1] {
        let mut world = without(1, 2);
        world.edit(first, File::Names);
        world.run(5_000);
        let (voices, reason) = match first {
            0 => (vec![0], Reason::UnknownThere(NodeId(2))),
            _ => (vec![], Reason::AwaitsHome(NodeId(1))),
        };
        assert_eq!(world.voices(), voices);
        assert!(has_noted(&world, first, reason), "{:?}", world.group(first));
        assert!(world.group(1 - first).is_none() && unknown(&world, 1 - first) > 0);
        world.edit(1 - first, File::Names);
        world.until(10_000, "protected", World::is_protected);
        assert_eq!((world.voices(), role(&world, 1)), (vec![0], Role::Peer));
        assert_eq!(unknown(&world, first), 0, "it knew all that it heard of");
    }
}

/// Home is dead: whoever comes next serves what is in its file.
#[test]
fn a_service_that_comes_while_its_home_is_dead_is_served_by_the_next() {
    let mut world = without(2, 3);
    world.fault(Fault::Crash(0));
    world.run(1_000);
    for index in [1, 2] {
        world.edit(index, File::Names);
    }
    world.until(10_000, "protected", World::is_protected);
    assert_eq!(world.voices(), [1]);
}

/// Until its last connection has ended it is owned, held and protected as before. Then nobody has it, and it may come again.
#[test]
fn a_service_goes_in_either_order_with_its_last_connection_and_comes_again() {
    for first in [0, 1] {
        let mut world = World::protected(3, 2);
        for index in [first, 1 - first] {
            world.edit(index, File::Left(1));
            world.run(3_000);
            assert!(world.is_protected(), "connections are left");
        }
        let epoch = world.register(0, 0).epoch;
        world.last_flow_ends(0, 0);
        world.run(500);
        let register = world.register(0, 0);
        assert_eq!((register.phase, world.voices()), (Phase::Over, vec![]));
        world.until(10_000, "gone", is_gone);
        for index in [1 - first, first] {
            world.edit(index, File::Names);
        }
        world.until(10_000, "protected", World::is_protected);
        assert_eq!(world.voices(), [0]);
        assert!(world.register(0, 0).epoch.0 > epoch.0 + 1, "the epoch goes on");
    }
}

/// Home's file decides: the other one, which still names it, does not begin to serve what home has given up.
#[test]
fn a_service_that_home_has_given_up_is_not_taken_up_by_who_still_names_it() {
    let mut world = World::protected(4, 2);
    world.edit(0, File::Left(1));
    world.last_flow_ends(0, 0);
    world.run(20_000);
    assert!(world.group(0).is_none() && world.voices().is_empty());
    assert!(has_noted(&world, 1, Reason::AwaitsHome(NodeId(1))));
    // Home dies: now it is the other one's.
    world.fault(Fault::Crash(0));
    world.until(10_000, "served", |world| world.voices() == [1]);
}

/// Flows may have begun since: what the cores said of an attempt to leave that was taken back ends nothing.
#[test]
fn what_was_said_before_a_service_stayed_does_not_end_it() {
    let mut world = World::protected(5, 2);
    world.edit(0, File::Left(1));
    let epoch = world.register(0, 0).epoch;
    world.edit(0, File::Names);
    world.report_empty(0, 0, 1);
    world.edit(0, File::Left(2));
    world.report_empty(0, 0, 1);
    world.run(2_000);
    assert_eq!((world.register(0, 0).epoch, world.voices()), (epoch, vec![0]));
    world.last_flow_ends(0, 0);
    world.run(500);
    assert_eq!(world.register(0, 0).phase, Phase::Over);
}

/// The owner dies while the service leaves: its peer serves what is left, to the end; a next life without it is not disturbed.
#[test]
fn connections_of_a_service_that_leaves_outlive_their_owner() {
    let mut world = World::protected(6, 2);
    (0..2).for_each(|index| world.edit(index, File::Left(1)));
    world.run(500);
    world.fault(Fault::Crash(0));
    world.until(5_000, "taken over", |world| world.voices() == [1]);
    world.nodes[0].file = File::Without;
    world.fault(Fault::Start(0));
    world.run(5_000);
    assert_eq!((world.voices(), role(&world, 1)), (vec![1], Role::Owner), "alone, to the end");
    world.last_flow_ends(1, 0);
    world.until(5_000, "gone", is_gone);
}

#[test]
fn without_an_arbiter_a_service_goes_as_well() {
    let arbiter = Arbiter::None { survivor: Survivor::Node(NodeId(1)) };
    let mut world = World::booted_with(7, 2, arbiter, Timers::bed());
    world.until(20_000, "protected", World::is_protected);
    (0..2).for_each(|index| world.edit(index, File::Left(1)));
    world.last_flow_ends(0, 0);
    world.until(10_000, "gone", is_gone);
}

/// Files that name the service and files that do not, connections that end, deaths, pauses and lost datagrams, at random: never
/// two voices, and when all name it again it is served and protected.
#[test]
fn random_stories_of_a_service_that_comes_and_goes() {
    for seed in 0..60 {
        let mut noise = Noise::new(1_000 + seed);
        let mut world = World::protected(seed, 2 + seed as usize % 2);
        let count = world.nodes.len();
        world.loss = noise.below(3) * 10;
        for attempt in 1..20 {
            let index = noise.below(count as u64) as usize;
            match noise.below(5) {
                0 | 1 => world.edit(index, File::Left(attempt)),
                2 => world.edit(index, File::Names),
                3 => world.last_flow_ends(index, 0),
                _ => {
                    let (mishap, after) = MISHAPS[noise.below(MISHAPS.len() as u64) as usize];
                    let (fault, end) = mishap(noise.below(count as u64 + 1) as usize);
                    if !matches!(fault, Fault::Stick(n) | Fault::Die(n, _) | Fault::Pause(n) if n == count)
                    {
                        world.fault(fault);
                        world.at(after, Event::Fault(end));
                    }
                }
            }
            world.run(noise.below(400));
        }
        world.run(1_000);
        world.heal();
        (0..count).for_each(|index| world.edit(index, File::Names));
        world.until(40_000, "protected", World::is_protected);
    }
}
