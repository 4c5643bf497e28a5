//! Ownership advertisements: everybody's, and what an owner refuses to be protected by.

use super::role;
use super::world::{Fault, GROUP, World};
use cluster::agent::declare::Fitness;
use cluster::agent::handover::{Order, OrderError};
use cluster::agent::{Arbiter, Reason};
use cluster::id::NodeId;
use cluster::lease::Timers;
use cluster::message::Role;
use cluster::message::advertise::{Advertise, Limits, Unfit};

const LIMITS: Limits = Limits {
    flows: 100,
    active_flows: 50,
    uploads: 20,
    chunks: 10,
    pieces: 10,
    segments: 10,
    mss: 1460,
};

fn declared() -> Advertise {
    Advertise { service: "web".into(), limits: LIMITS, digest: [7; 32], ..Advertise::default() }
}

/// A world whose nodes declare this.
fn world(seed: u64, declared: Vec<Advertise>) -> World {
    let mut world = World::new(seed, declared.len(), Arbiter::Witness, Timers::bed());
    for (index, said) in declared.into_iter().enumerate() {
        world.nodes[index].declares = said;
    }
    (0..=world.nodes.len()).for_each(|index| world.fault(Fault::Start(index)));
    world
}

fn fitness(world: &World, at: usize, node: u8) -> Option<Fitness> {
    let group = world.group(at)?;
    let known = group.declared.iter().find(|known| known.by.node == NodeId(node));
    known.map(|known| known.fitness)
}

fn refusals(world: &World, at: usize) -> Vec<(NodeId, Unfit, u32)> {
    let reasons = world.group(at).expect("a group").reasons;
    let refused = reasons.iter().filter_map(|decision| match decision.reason {
        Reason::RefusedPeer(node, why) => Some((node, why, decision.times)),
        _ => None,
    });
    refused.collect()
}

#[test]
fn every_node_declares_at_boot_and_everybody_knows() {
    let mut world = world(1, vec![declared(), declared(), declared()]);
    world.until(20_000, "protected", World::is_protected);
    world.run(20);
    for at in 0..3 {
        let group = world.group(at).expect("a group");
        assert_eq!(group.declared.len(), 3, "seen from node {}", at + 1);
        for known in &group.declared {
            assert_eq!((known.fitness, known.agrees_on_policy), (Fitness::Fit, true));
            assert_eq!((&known.said.service[..], known.said.home), ("web", NodeId(1)));
            assert_eq!(
                (known.said.owner, known.said.epoch),
                (group.register.owner, group.register.epoch)
            );
        }
    }
}

#[test]
fn a_node_with_lower_limits_or_other_content_is_no_peer_and_the_next_one_is() {
    let lower = Advertise { limits: Limits { flows: 99, ..LIMITS }, ..declared() };
    let other = Advertise { digest: [8; 32], ..declared() };
    let cases = [(lower, Unfit::LowerLimit("flows", 99, 100)), (other, Unfit::OtherContent)];
    for (said, why) in cases {
        let mut world = world(2, vec![declared(), said, declared()]);
        world.until(20_000, "protected", World::is_protected);
        world.run(3_000);
        assert_eq!((role(&world, 1), role(&world, 2)), (Role::Idle, Role::Peer));
        let order = Order::Handover { group: GROUP, to: NodeId(2), epoch: None, force: true };
        assert_eq!(world.ask_for(0, order), Some(OrderError::OtherDeclared));
        // The third dies: no protection is better than one that cannot hold what it promises.
        world.fault(Fault::Crash(2));
        world.run(5_000);
        assert_eq!((world.voices(), role(&world, 1)), (vec![0], Role::Idle));
        assert_eq!(refusals(&world, 0), [(NodeId(2), why, 1)], "said once");
        assert_eq!(fitness(&world, 0, 2), Some(Fitness::Unfit(why)));
        assert_eq!(fitness(&world, 1, 2), Some(Fitness::Unfit(why)), "it knows itself");
        // Mended, it is taken in its next life.
        world.nodes[1].declares = declared();
        world.fault(Fault::Crash(1));
        world.fault(Fault::Start(1));
        world.until(5_000, "protected", World::is_protected);
        assert_eq!(role(&world, 1), Role::Peer);
    }
}

/// A reload, node after node: the peer in sync stays it while they differ, and takes over; nobody else becomes one until they
/// agree.
#[test]
fn a_peer_stays_the_peer_while_nodes_are_reloaded_one_after_the_other() {
    let mut world = world(4, vec![declared(), declared()]);
    world.until(20_000, "protected", World::is_protected);
    let after = Advertise { digest: [9; 32], ..declared() };
    let epoch = world.group(0).expect("a group").register.epoch;
    world.reload(0, after.clone());
    world.until(1_000, "known everywhere", |world| {
        [0, 1].iter().all(|at| fitness(world, *at, 2) == Some(Fitness::Unfit(Unfit::OtherContent)))
    });
    world.run(5_000);
    assert_eq!((role(&world, 0), role(&world, 1)), (Role::Owner, Role::Peer));
    assert_eq!(world.group(0).expect("a group").register.epoch, epoch, "nothing has changed hands");
    world.fault(Fault::Crash(0));
    world.until(1_000, "taken over", |world| world.voices() == [1]);
    world.fault(Fault::Start(0));
    world.run(5_000);
    assert_eq!((world.voices(), role(&world, 0)), (vec![1], Role::Idle), "they differ");
    world.reload(1, after);
    world.until(5_000, "protected", World::is_protected);
    assert_eq!((world.voices(), role(&world, 0)), (vec![1], Role::Peer));
}

/// It may own what it serves itself, and is protected by a node that takes at least as much.
#[test]
fn a_larger_node_protects_a_smaller_one_and_not_the_other_way_round() {
    let larger = Advertise { limits: Limits { flows: 200, ..LIMITS }, ..declared() };
    let mut world = world(3, vec![declared(), larger]);
    world.until(20_000, "protected", World::is_protected);
    world.run(2_500);
    world.fault(Fault::Crash(0));
    world.until(1_000, "taken over", |world| world.voices() == [1]);
    world.fault(Fault::Start(0));
    world.run(5_000);
    assert_eq!((world.voices(), role(&world, 0)), (vec![1], Role::Idle));
    assert_eq!(refusals(&world, 1), [(NodeId(1), Unfit::LowerLimit("flows", 100, 200), 1)]);
}

#[test]
fn a_lost_advertisement_is_solicited() {
    for seed in 0..10 {
        let mut world = world(seed, vec![declared(), declared()]);
        world.loss = 60;
        world.run(2_500);
        world.loss = 0;
        world.until(20_000, "protected", World::is_protected);
    }
}
