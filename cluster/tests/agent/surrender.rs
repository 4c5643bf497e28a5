//! Surrender: at every moment, lost, late, doubled, and of a life that has not ended.

use super::world::{Fault, World};
use super::{PROTECTED_AGAIN_MS, role};
use cluster::agent::{Arbiter, Reason, Survivor};
use cluster::id::{Incarnation, Member, NodeId};
use cluster::lease::Timers;
use cluster::message::Role;

/// Events between the first voice and the end of the last change on the way to a protected pair.
const OPENING_EVENTS: usize = 300;

#[test]
fn a_surrender_is_taken_over_in_a_round_trip_or_two() {
    for seed in 0..20 {
        let mut world = World::protected(seed, 2);
        world.run(500);
        world.fault(Fault::Die(0, 0));
        let took = world.until(1_000, "taken over", |world| world.voices() == [1]);
        assert!(took <= 3, "{took} ms");
        world.run(100);
        let group = world.group(1).expect("alive");
        assert!(group.reasons.iter().any(|d| d.reason == Reason::AskedTakeOverSurrendered));
        assert_eq!(group.register.peer, None, "a life that has ended is nobody's peer");
        world.fault(Fault::Start(0));
        world.until(2_000, "protected", World::is_protected);
        assert_eq!(world.voices(), [1]);
    }
}

#[test]
fn a_peer_that_surrenders_leaves_the_owner_alone_at_once() {
    for seed in 0..20 {
        let mut world = World::protected(seed, 2);
        world.run(500);
        world.fault(Fault::Die(1, 0));
        world.until(3, "alone", |world| {
            world.group(0).is_some_and(|group| group.register.peer.is_none())
                && world.voices() == [0]
        });
        world.fault(Fault::Start(1));
        world.until(2_000, "protected", World::is_protected);
    }
}

#[test]
fn at_every_moment_a_surrender_leaves_one_voice_and_heals() {
    for dies in 0..2 {
        for moment in 0..OPENING_EVENTS {
            let mut world = World::booted(moment as u64 / 60, 2);
            world.until(10_000, "served", |world| world.voices() == [0]);
            for _ in 0..moment {
                world.step();
            }
            world.fault(Fault::Die(dies, moment as u64 % 4));
            world.run(40);
            world.fault(Fault::Start(dies));
            world.until(PROTECTED_AGAIN_MS, "protected", World::is_protected);
        }
    }
}

#[test]
fn an_agent_that_outlives_its_cores_does_no_harm() {
    for seed in 0..20 {
        let mut world = World::protected(seed, 3);
        world.run(500);
        world.fault(Fault::Die(0, 1_000));
        world.until(5, "taken over", |world| world.voices() == [1]);
        world.run(900);
        assert_eq!(world.voices(), [1]);
        assert_eq!(role(&world, 2), Role::Peer, "not the coreless node");
    }
}

#[test]
fn right_after_in_sync_the_arbiters_promise_is_waived_too() {
    for seed in 0..20 {
        let mut world = World::booted(seed, 2);
        let in_sync = |world: &World| role(world, 1) == Role::Peer;
        world.until(10_000, "in sync", in_sync);
        world.fault(Fault::Die(0, 0));
        world.until(20, "served", |world| world.voices() == [1]);
    }
}

#[test]
fn a_surrender_that_is_lost_falls_back_to_the_lease() {
    for cut in [1, 2] {
        let mut world = World::protected(3, 2);
        world.run(500);
        // Only the peer, or only the witness, does not hear it.
        world.fault(Fault::Cut(0, cut));
        world.fault(Fault::Die(0, 0));
        let took = world.until(100, "taken over", |world| world.voices() == [1]);
        assert!((cut == 1) == (took > 20), "{took} ms without the link to {cut}");
    }
}

#[test]
fn without_an_arbiter_the_survivor_goes_on_at_once() {
    let arbiter = Arbiter::None { survivor: Survivor::Node(NodeId(2)) };
    let mut world = World::booted_with(14, 2, arbiter, Timers::bed());
    world.until(10_000, "protected", World::is_protected);
    assert_eq!(world.voices(), [1], "the survivor has created it");
    world.run(500);
    world.fault(Fault::Die(1, 0));
    world.run(200);
    assert!(world.voices().is_empty(), "the heir waits for the survivor's leases");
    world.fault(Fault::Start(1));
    world.until(3_000, "protected", World::is_protected);
    assert_eq!(world.voices(), [0]);
    world.run(500);
    world.fault(Fault::Die(0, 0));
    world.until(5, "taken over", |world| world.voices() == [1]);
}

#[test]
fn an_owner_alone_that_surrenders_is_replaced_as_soon_as_the_order_allows() {
    let mut world = World::booted(21, 2);
    world.fault(Fault::Cut(0, 1));
    world.fault(Fault::Cut(1, 0));
    world.until(10_000, "served", |world| world.voices() == [0]);
    world.run(3_000);
    world.heal();
    world.run(10);
    // Being filled, perhaps; in sync it is not.
    world.fault(Fault::Die(0, 0));
    world.until(500, "served afresh", |world| world.voices() == [1]);
}

#[test]
fn whoever_is_alive_after_all_is_not_shunned_for_ever() {
    let mut world = World::protected(5, 2);
    world.run(500);
    // Nothing but a seal can prevent this: until the owner hears of the new epoch both speak.
    world.split_allowed = true;
    world.fault(Fault::Forge(0));
    world.until(20, "taken over", |world| world.voices() == [1]);
    world.split_allowed = false;
    world.run(1_000);
    assert_eq!(role(&world, 0), Role::Idle);
    world.until(5_000, "protected", World::is_protected);
    assert_eq!((role(&world, 0), role(&world, 1)), (Role::Peer, Role::Owner));
    let former = Member { node: NodeId(1), incarnation: Incarnation(world.nodes[0].life) };
    assert_eq!(world.group(1).and_then(|group| group.register.peer), Some(former));
}

/// Shows that the check for two voices sees what a guardian that speaks too early would do.
#[test]
#[should_panic(expected = "two voices")]
fn a_surrender_of_cores_that_still_speak_is_caught() {
    let mut world = World::protected(6, 2);
    world.run(500);
    world.fault(Fault::Forge(0));
    world.fault(Fault::Cut(1, 0));
    world.run(20);
}
