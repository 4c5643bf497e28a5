//! Planned handover: undisturbed, refused, and with every fault at every moment of it.

use super::world::{Event, Fault, GROUP, MISHAPS, World};
use super::{PROTECTED_AGAIN_MS, role};
use cluster::agent::handover::{Failure, Order, OrderError};
use cluster::agent::{Arbiter, Reason, Survivor};
use cluster::id::{Epoch, NodeId};
use cluster::lease::Timers;
use cluster::message::Role;
use cluster::message::advertise::Failback;
use cluster::role::Command;
use stack::time::Duration;

/// Events between an order and the end of the handover, and some more.
const HANDOVER_EVENTS: usize = 120;

fn to(node: u8) -> Order {
    Order::Handover { group: GROUP, to: NodeId(node), epoch: None, force: false }
}

fn epoch(world: &World, index: usize) -> u64 {
    world.group(index).map_or(0, |group| group.register.epoch.0)
}

fn failure(world: &World, index: usize) -> Option<Failure> {
    let reasons = world.group(index)?.reasons;
    reasons.iter().rev().find_map(|decision| match decision.reason {
        Reason::HandoverFailed(failure) => Some(failure),
        _ => None,
    })
}

#[test]
fn owner_and_peer_change_places_within_milliseconds_and_stay_protected() {
    for seed in 0..20 {
        let mut world = World::protected(seed, 2);
        world.run(500);
        let before = epoch(&world, 0);
        assert_eq!(world.ask_for(0, to(2)), None);
        let took = world.until(100, "handed over", |world| world.voices() == [1]);
        assert!(took <= 12, "{took} ms");
        world.run(20);
        assert!(world.is_protected());
        assert_eq!(epoch(&world, 1), before + 1, "one change of the register");
        assert_eq!((role(&world, 0), role(&world, 1)), (Role::Peer, Role::Owner));
        assert!(matches!(world.nodes[0].commands.last(), Some(Command::Yield { .. })));
        assert!(matches!(world.nodes[1].commands.last(), Some(Command::Assume { .. })));
        let handed = world.group(0).and_then(|group| group.handed).expect("shown");
        assert_eq!((handed.flows, handed.lost, handed.to.node), (14, 0, NodeId(2)));
        let frozen = handed.swapped.since(handed.froze).millis();
        assert!(frozen <= 5, "{frozen} ms: nothing but cores and messages is waited for");
        // And back, and the former owner can still die.
        assert_eq!(world.ask_for(1, to(1)), None);
        world.until(100, "handed back", |world| world.voices() == [0]);
        world.run(20);
        world.fault(Fault::Crash(0));
        world.until(100, "taken over", |world| world.voices() == [1]);
    }
}

#[test]
fn the_former_owner_takes_over_when_the_new_one_dies() {
    for seed in 0..20 {
        let mut world = World::protected(seed, 2);
        world.run(500);
        world.fault(Fault::HandTo(1));
        world.until(100, "handed over", |world| world.voices() == [1]);
        world.run(5);
        world.fault(Fault::Crash(1));
        let took = world.until(200, "taken over", |world| world.voices() == [0]);
        assert!(took <= 45, "{took} ms");
        assert!(matches!(world.nodes[0].commands.last(), Some(Command::Promote { .. })));
    }
}

/// Each fault, on each node, at each event of a handover: one voice at most, and protected in the end.
#[test]
fn every_fault_at_every_moment_of_a_handover() {
    for moment in 0..HANDOVER_EVENTS {
        for (kind, long) in MISHAPS {
            for node in 0..3 {
                let mut world = World::protected(moment as u64 % 7, 2);
                world.run(300);
                world.fault(Fault::HandTo(1));
                (0..moment).for_each(|_| world.step());
                let (begin, end) = kind(node);
                world.fault(begin);
                world.run(long);
                world.fault(end);
                world.until(PROTECTED_AGAIN_MS, "protected", World::is_protected);
            }
        }
    }
}

#[test]
fn every_cut_at_every_moment_of_a_handover() {
    for moment in 0..HANDOVER_EVENTS {
        for cut in 0..6 {
            for long in [10, 600] {
                let mut world = World::protected(moment as u64 % 5, 2);
                world.run(300);
                world.fault(Fault::HandTo(1));
                (0..moment).for_each(|_| world.step());
                match cut {
                    0..3 => world.isolate(cut, true),
                    3 => world.link(0, 1, true),
                    4 => world.link(0, 2, true),
                    _ => world.link(1, 2, true),
                }
                world.run(long);
                assert!(long == 10 || cut == 2 || world.voices().len() == 1, "cut {cut}");
                world.heal();
                world.until(PROTECTED_AGAIN_MS, "protected", World::is_protected);
            }
        }
    }
}

#[test]
fn orders_that_make_no_sense_are_refused_with_the_reason() {
    let mut world = World::booted(3, 3);
    assert_eq!(world.ask_for(0, to(2)), Some(OrderError::NotOwner(None)));
    world.until(20_000, "protected", World::is_protected);
    let now = epoch(&world, 0);
    let at = |node, epoch| Order::Handover {
        group: GROUP,
        to: NodeId(node),
        epoch: Some(Epoch(epoch)),
        force: false,
    };
    assert_eq!(world.ask_for(0, at(2, now - 1)), Some(OrderError::OtherEpoch(Epoch(now))));
    assert_eq!(world.ask_for(0, to(1)), Some(OrderError::OwnsAlready));
    assert_eq!(world.ask_for(0, to(9)), Some(OrderError::NotDesignated));
    world.fault(Fault::Drain(1));
    world.run(20);
    assert_eq!(world.ask_for(0, to(2)), Some(OrderError::Draining));
    world.fault(Fault::Undrain(1));
    world.fault(Fault::Crash(2));
    world.run(100);
    assert_eq!(world.ask_for(0, to(3)), Some(OrderError::NotAlive));
    assert_eq!(world.ask_for(0, at(2, now)), None);
    assert_eq!(world.ask_for(0, to(2)), Some(OrderError::UnderWay));
    world.until(100, "handed over", |world| world.voices() == [1]);
}

#[test]
fn a_silent_arbiter_is_found_out_before_anything_is_frozen() {
    let mut world = World::protected(4, 2);
    world.run(500);
    world.fault(Fault::Crash(2));
    world.longest_silence = 0;
    assert_eq!(world.ask_for(0, to(2)), None);
    world.run(5_000);
    assert_eq!(failure(&world, 0), Some(Failure::ArbiterSilent));
    assert_eq!((world.voices(), world.longest_silence), (vec![0], 0));
    assert!(!world.nodes[0].commands.iter().any(|c| matches!(c, Command::Freeze { .. })));
}

#[test]
fn cores_that_do_not_freeze_are_thawed_and_the_late_word_is_not_believed() {
    let mut world = World::protected(5, 2);
    world.run(500);
    world.freeze_ms = 100_000;
    assert_eq!(world.ask_for(0, to(2)), None);
    world.until(1_000, "thawed", |world| {
        matches!(world.nodes[0].commands.last(), Some(Command::Thaw { .. }))
    });
    assert_eq!(failure(&world, 0), Some(Failure::NotFrozen));
    assert_eq!(world.voices(), [0]);
    // The word of the first attempt arrives during the second.
    assert_eq!(world.ask_for(0, to(2)), None);
    let freezes = |world: &World| {
        let commands = world.nodes[0].commands.iter();
        commands.filter(|command| matches!(command, Command::Freeze { .. })).count()
    };
    world.until(1_000, "freezing again", |world| freezes(world) == 2);
    let (life, epoch) = (world.nodes[0].life, epoch(&world, 0));
    let (node, attempt, absent) = (0, 2, 0);
    world.at(0, Event::Frozen { group: GROUP, node, life, epoch, attempt, absent });
    world.run(20);
    assert_eq!(role(&world, 0), Role::Owner);
}

#[test]
fn connections_without_a_copy_are_in_the_way_unless_the_operator_insists() {
    let mut world = World::protected(6, 2);
    world.run(500);
    world.absent = 2;
    assert_eq!(world.ask_for(0, to(2)), None);
    world.run(10_000);
    assert_eq!(failure(&world, 0), Some(Failure::Absent(4)));
    assert_eq!(world.voices(), [0]);
    let force = Order::Handover { group: GROUP, to: NodeId(2), epoch: None, force: true };
    assert_eq!(world.ask_for(0, force), None);
    world.until(100, "handed over", |world| world.voices() == [1]);
    world.run(10);
    let handed = world.group(0).and_then(|group| group.handed).expect("shown");
    assert_eq!((handed.flows, handed.lost), (10, 4));
}

#[test]
fn connections_that_get_their_copy_in_time_are_waited_for() {
    let mut world = World::protected(7, 2);
    world.run(500);
    world.absent = 1;
    assert_eq!(world.ask_for(0, to(2)), None);
    world.run(600);
    assert_eq!(world.voices(), [0]);
    world.absent = 0;
    world.until(1_000, "handed over", |world| world.voices() == [1]);
}

#[test]
fn a_third_node_is_made_the_peer_first() {
    let mut world = World::protected(8, 3);
    world.run(500);
    assert_eq!(world.ask_for(0, to(3)), None);
    world.until(2_000, "handed over", |world| world.voices() == [2]);
    world.run(20);
    assert!(world.is_protected());
    assert_eq!(role(&world, 0), Role::Peer);
}

#[test]
fn a_drained_node_owns_nothing_and_is_not_designated_until_it_is_undrained() {
    let mut world = World::protected(9, 3);
    world.run(500);
    assert_eq!(world.ask_for(0, Order::Drain), None);
    world.until(200, "drained", |world| world.voices() == [1]);
    world.run(2_500);
    // The owner loses its peer: the drained node itself dies and comes back, drained again.
    world.fault(Fault::Crash(0));
    world.until(5_000, "protected by the third", World::is_protected);
    assert_eq!(role(&world, 2), Role::Peer);
    world.fault(Fault::Start(0));
    world.fault(Fault::Drain(0));
    world.run(2_500);
    world.fault(Fault::Crash(2));
    world.run(3_000);
    assert_eq!((role(&world, 0), world.voices()), (Role::Idle, vec![1]));
    world.fault(Fault::Undrain(0));
    world.until(5_000, "protected", World::is_protected);
}

#[test]
fn a_home_that_is_back_gets_its_group_after_the_hold_down() {
    let mut world = World::new(10, 2, Arbiter::Witness, Timers::bed());
    world.failback = (Failback::All, Duration::from_millis(700));
    (0..=2).for_each(|index| world.fault(Fault::Start(index)));
    world.until(20_000, "protected", World::is_protected);
    world.run(2_500);
    world.fault(Fault::Crash(0));
    world.until(200, "taken over", |world| world.voices() == [1]);
    world.fault(Fault::Start(0));
    world.until(5_000, "protected", World::is_protected);
    let took = world.until(2_000, "handed back", |world| world.voices() == [0]);
    assert!((690..900).contains(&took), "{took} ms");
    world.run(3_000);
    assert_eq!(world.voices(), [0], "it stays");
}

#[test]
fn without_a_hold_down_policy_the_home_only_is_ready() {
    let mut world = World::protected(11, 2);
    world.run(2_500);
    world.fault(Fault::Crash(0));
    world.until(200, "taken over", |world| world.voices() == [1]);
    world.fault(Fault::Start(0));
    world.until(5_000, "protected", World::is_protected);
    world.run(3_000);
    assert_eq!(world.voices(), [1]);
    assert!(world.group(1).is_some_and(|group| group.home_ready));
}

/// Without an arbiter only the survivor may give the register away: nobody else changes it while it does.
#[test]
fn without_an_arbiter_the_survivor_alone_hands_over() {
    let arbiter = Arbiter::None { survivor: Survivor::Node(NodeId(1)) };
    let mut world = World::booted_with(12, 2, arbiter, Timers::bed());
    world.until(10_000, "protected", World::is_protected);
    world.run(500);
    assert_eq!(world.ask_for(0, to(2)), None);
    world.until(100, "handed over", |world| world.voices() == [1]);
    world.run(100);
    assert!(world.is_protected());
    assert_eq!(world.ask_for(1, to(1)), Some(OrderError::NotSurvivor));
    let is_bound = |index| world.group(index).unwrap().is_bound;
    assert_eq!((is_bound(0), is_bound(1)), (false, true), "and the status says so");
}
