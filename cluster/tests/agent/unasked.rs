//! Home comes back to three nodes, of which another one is the peer by then.

use super::role;
use super::world::{Fault, GROUP, World};
use cluster::agent::Arbiter;
use cluster::agent::Reason;
use cluster::agent::handover::{Cause, Failure};
use cluster::id::NodeId;
use cluster::lease::Timers;
use cluster::message::Role;
use cluster::message::advertise::Failback;
use stack::time::Duration;

const HOLD_DOWN_MS: u64 = 700;

/// Node 1, the home, is dead; node 2 owns the group, and node 3 is in sync.
fn without_home(seed: u64, failback: Failback) -> World {
    let mut world = World::new(seed, 3, Arbiter::Witness, Timers::bed());
    world.failback = (failback, Duration::from_millis(HOLD_DOWN_MS));
    (0..=3).for_each(|index| world.fault(Fault::Start(index)));
    world.until(20_000, "protected", World::is_protected);
    world.run(2_500);
    world.fault(Fault::Crash(0));
    world.until(200, "taken over", |world| world.voices() == [1]);
    world.until(5_000, "protected by the third", World::is_protected);
    assert_eq!(role(&world, 2), Role::Peer);
    world.run(2_500);
    world
}

fn reasons(world: &World, index: usize) -> Vec<Reason> {
    let group = world.group(index).expect("it runs");
    group.reasons.iter().map(|decision| decision.reason).collect()
}

#[test]
fn a_home_that_finds_another_peer_gets_the_copies_and_then_the_group() {
    for seed in 0..10 {
        let mut world = without_home(seed, Failback::All);
        world.fault(Fault::Start(0));
        let waited = world.until(5_000, "home is called", |world| role(world, 0) != Role::Idle);
        assert!(waited + 10 >= HOLD_DOWN_MS, "{waited} ms");
        world.until(5_000, "protected by home", World::is_protected);
        assert_eq!((role(&world, 0), role(&world, 2)), (Role::Peer, Role::Idle));
        assert!(reasons(&world, 1).contains(&Reason::Ordered(NodeId(1), Cause::Copies)));
        let waited = world.until(5_000, "handed back", |world| world.voices() == [0]);
        assert!(waited + 10 >= HOLD_DOWN_MS, "{waited} ms: it holds every copy for as long");
        world.run(5_000);
        assert_eq!((world.voices(), role(&world, 1)), (vec![0], Role::Peer), "it stays");
        assert!(world.is_protected());
    }
}

/// Whoever knows that home lives can tell that it will be called, be it known to work to the owner yet or not: until then the group may
/// lose its protection any moment.
#[test]
fn a_home_that_the_owner_has_not_heard_of_is_awaited() {
    for (failback, is_awaited) in [(Failback::All, true), (Failback::Manual, false)] {
        let mut world = without_home(4, failback);
        let awaits = |world: &World, index: usize| {
            world.nodes[index].agent.as_ref().expect("it runs").awaits_home(GROUP)
        };
        assert_eq!([awaits(&world, 1), awaits(&world, 2)], [is_awaited, false]);
        world.fault(Fault::Start(0));
        assert_eq!(awaits(&world, 1), is_awaited, "it has not said anything");
        if is_awaited {
            world.until(5_000, "home is called", |world| !awaits(world, 1));
        }
    }
}

#[test]
fn where_the_failback_is_by_hand_the_peer_stays() {
    let mut world = without_home(1, Failback::Manual);
    world.fault(Fault::Start(0));
    world.run(10_000);
    assert_eq!(
        (world.voices(), role(&world, 0), role(&world, 2)),
        (vec![1], Role::Idle, Role::Peer)
    );
}

/// The peer gives way only if the arbiter answers: else the owner would be mute until it does.
#[test]
fn without_an_arbiter_that_answers_the_peer_stays_and_the_owner_speaks_on() {
    let mut world = without_home(2, Failback::All);
    let witness = world.witness_index();
    world.fault(Fault::Start(0));
    world.run(HOLD_DOWN_MS / 2);
    world.fault(Fault::Crash(witness));
    world.longest_silence = 0;
    world.run(10_000);
    assert_eq!((world.voices(), world.longest_silence), (vec![1], 0));
    assert_eq!(role(&world, 2), Role::Peer);
    assert!(reasons(&world, 1).contains(&Reason::HandoverFailed(Failure::ArbiterSilent)));
    world.fault(Fault::Start(witness));
    world.until(10_000, "handed back", |world| world.voices() == [0]);
}

/// Home dies at each moment from its return on, and comes back: the owner, or the peer that is in sync by then, serves on,
/// and home gets its group in the end.
#[test]
fn a_home_that_dies_again_at_any_moment_costs_nothing() {
    for moment in 0..60 {
        let mut world = without_home(moment % 5, Failback::All);
        world.fault(Fault::Start(0));
        world.run(HOLD_DOWN_MS - 20);
        world.run(2 * moment);
        let is_back = world.voices() == [0];
        world.fault(Fault::Crash(0));
        world.until(500, "served", |world| world.voices() == [1]);
        assert!(!is_back, "moment {moment}: it holds every copy for the hold-down first");
        world.until(5_000, "protected again", World::is_protected);
        world.fault(Fault::Start(0));
        world.until(20_000, "handed back", |world| world.voices() == [0]);
    }
}

/// A home that begins anew again and again is not called: each life has to last for the hold-down.
#[test]
fn a_home_that_does_not_stay_is_not_called() {
    let mut world = without_home(3, Failback::All);
    for _ in 0..8 {
        world.fault(Fault::Start(0));
        world.run(HOLD_DOWN_MS * 3 / 4);
        assert_eq!((role(&world, 2), world.is_protected()), (Role::Peer, true));
        world.fault(Fault::Crash(0));
        world.run(50);
    }
    assert!(!reasons(&world, 1).contains(&Reason::Ordered(NodeId(1), Cause::Copies)));
}
