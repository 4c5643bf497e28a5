//! An owner that its clients do not reach: it hands over to a peer that they do, and a link that flaps moves nothing.

use super::world::{Fault, GROUP, World};
use super::{PROTECTED_AGAIN_MS, role};
use cluster::agent::Arbiter;
use cluster::agent::handover::{Cause, Order, OrderError};
use cluster::id::NodeId;
use cluster::lease::Timers;
use cluster::message::Role;
use cluster::message::advertise::Failback;
use cluster::path::DIPS_MAX;
use cluster::role::Command;
use stack::time::Duration;

fn epoch(world: &World) -> u64 {
    let epochs = (0..world.nodes.len()).filter_map(|index| world.group(index));
    epochs.map(|group| group.register.epoch.0).max().unwrap_or(0)
}

#[test]
fn an_owner_whose_clients_are_gone_hands_over_in_order() {
    for seed in 0..20 {
        let mut world = World::protected(seed, 2);
        world.run(500);
        let before = epoch(&world);
        world.fault(Fault::Dark(0));
        let took = world.until(300, "handed over", |world| world.voices() == [1]);
        assert!((100..=125).contains(&took), "{took} ms");
        world.run(20);
        assert!(world.is_protected());
        assert_eq!(epoch(&world), before + 1, "one change of the register");
        assert!(matches!(world.nodes[0].commands.last(), Some(Command::Yield { .. })));
        let handed = world.group(0).and_then(|group| group.handed).expect("shown");
        assert_eq!((handed.cause, handed.lost), (Cause::Path, 0));
        // It stays there when the link is back: nobody is worse than the other.
        world.fault(Fault::Bright(0));
        world.run(5_000);
        assert_eq!((epoch(&world), world.voices()), (before + 1, vec![1]));
    }
}

#[test]
fn a_dip_a_dark_peer_and_a_peer_that_is_not_in_sync_move_nothing() {
    let mut world = World::protected(1, 2);
    world.run(500);
    let before = epoch(&world);
    world.fault(Fault::Dark(0));
    world.run(90);
    world.fault(Fault::Bright(0));
    world.run(1_000);
    world.fault(Fault::Dark(1));
    world.run(200);
    world.fault(Fault::Dark(0));
    world.run(2_000);
    assert_eq!((epoch(&world), world.voices()), (before, vec![0]));
    let order = Order::Handover { group: GROUP, to: NodeId(2), epoch: None, force: false };
    world.fault(Fault::Bright(0));
    world.run(10);
    assert_eq!(world.ask_for(0, order), Some(OrderError::WorsePath));
    world.fault(Fault::Dark(0));
    world.fault(Fault::Bright(1));
    world.until(1_000, "handed over", |world| world.voices() == [1]);
    world.until(100, "protected", World::is_protected);
    // Alone, a dark owner serves on: it may be the only one to reach anybody at all.
    world.run(2_500);
    world.fault(Fault::Crash(0));
    world.until(1_000, "alone", |world| {
        world.group(1).is_some_and(|group| group.register.peer.is_none())
    });
    world.fault(Fault::Dark(1));
    world.run(3_000);
    assert_eq!(world.voices(), [1]);
}

#[test]
fn a_dark_node_is_designated_only_if_there_is_no_other() {
    let mut world = World::protected(2, 3);
    world.run(2_500);
    // The peer begins a new life: both others are there when the owner looks for the next one.
    world.fault(Fault::Dark(1));
    world.fault(Fault::Crash(1));
    world.fault(Fault::Start(1));
    world.run(1_000);
    world.until(5_000, "protected", World::is_protected);
    assert_eq!((role(&world, 1), role(&world, 2)), (Role::Idle, Role::Peer));
    world.fault(Fault::Crash(2));
    world.run(1_000);
    world.until(5_000, "protected by the dark one", World::is_protected);
    assert_eq!(role(&world, 1), Role::Peer);
}

/// However long a link flaps, its node loses what it owns once and gets it back only when the link is quiet.
#[test]
fn one_link_that_flaps_moves_ownership_once() {
    for (period, failback) in
        [(200, Failback::Manual), (700, Failback::All), (3_000, Failback::All)]
    {
        let mut world = World::new(3, 2, Arbiter::Witness, Timers::bed());
        world.failback = (failback, Duration::from_millis(700));
        (0..=2).for_each(|index| world.fault(Fault::Start(index)));
        world.until(20_000, "protected", World::is_protected);
        world.run(500);
        let before = epoch(&world);
        for _ in 0..2 * DIPS_MAX {
            world.fault(Fault::Dark(0));
            world.run(period);
            world.fault(Fault::Bright(0));
            world.run(period);
        }
        // Until the pauses have grown beyond its period, the failback may have believed it a few times.
        let moves = epoch(&world) - before;
        let doublings = (period / 700).checked_ilog2().map_or(0, u64::from);
        assert!(moves <= 1 + 2 * doublings, "{moves} changes at {period} ms");
        world.until(PROTECTED_AGAIN_MS, "protected", World::is_protected);
    }
}

/// Both links flap, one dark while the other is not: ownership follows more and more slowly.
#[test]
fn two_links_that_flap_in_turn_do_not_carry_ownership_along_for_long() {
    let mut world = World::protected(4, 2);
    world.run(500);
    let before = epoch(&world);
    let flaps = 200;
    for n in 0..flaps {
        world.fault(Fault::Dark(n % 2));
        world.fault(Fault::Bright(1 - n % 2));
        world.run(450);
    }
    let moves = epoch(&world) - before;
    assert!((1..=6).contains(&moves), "{moves} changes for {flaps} flaps");
}
