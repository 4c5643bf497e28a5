//! Three nodes: deaths one after the other and at once, hints, orders given where the owner is not.

use super::role;
use super::world::{Event, Fault, GROUP, World};
use cluster::agent::handover::{Order, OrderError};
use cluster::agent::{Arbiter, Reason, Survivor};
use cluster::id::{Epoch, NodeId};
use cluster::lease::Timers;
use cluster::message::{Message, Role, decode};
use cluster::register::Refusal;
use cluster::role::Command;

/// Protected, with a third node that follows nothing.
fn three(seed: u64) -> World {
    let mut world = World::protected(seed, 3);
    world.run(500);
    assert_eq!(world.voices(), [0]);
    assert_eq!((role(&world, 1), role(&world, 2)), (Role::Peer, Role::Idle));
    world
}

fn has_reason(world: &World, index: usize, wanted: Reason) -> bool {
    let reasons = world.group(index).map(|group| group.reasons).unwrap_or_default();
    reasons.iter().any(|decision| decision.reason == wanted)
}

fn has_started_afresh(world: &World, index: usize) -> bool {
    let commands = world.nodes[index].commands.iter();
    commands.clone().any(|command| matches!(command, Command::Serve { .. }))
}

/// Whoever dies first and second: with time to refill between, the last one holds every flow.
#[test]
fn two_deaths_one_after_the_other_lose_nothing_in_any_order() {
    for seed in 0..10 {
        for (first, second) in [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)] {
            for is_told in [false, true] {
                let mut world = three(seed);
                let death = |node| if is_told { Fault::Die(node, 1) } else { Fault::Crash(node) };
                let last = 3 - first - second;
                world.fault(death(first));
                world.run(400);
                world.until(5_000, "protected again", World::is_protected);
                world.run(2_500);
                world.fault(death(second));
                world.until(3_000, "served", |world| world.voices() == [last]);
                if last != 0 {
                    assert!(!has_started_afresh(&world, last), "{first} {second}");
                }
                let group = world.group(last).unwrap();
                assert_eq!(group.register.owner.node, NodeId(last as u8 + 1));
            }
        }
    }
}

/// Both who held the flows are gone, and say so: the next in the order starts afresh, and only then.
#[test]
fn both_at_once_leave_the_group_to_the_next_in_the_order() {
    for seed in 0..10 {
        let mut world = three(seed);
        world.fault(Fault::Die(0, 1));
        world.fault(Fault::Die(1, 1));
        let longest = Timers::bed().longest_promise().millis();
        let silent = world.until(8 * longest, "served", |world| world.voices() == [2]);
        println!("seed {seed}: both die: served afresh after {silent} ms");
        assert!(has_started_afresh(&world, 2));
    }
}

/// Two that fall silent at once may be alive and serve: nobody takes their place until one of them is known to be over.
#[test]
fn both_silent_at_once_are_not_replaced_before_one_comes_back() {
    for seed in 0..5 {
        let mut world = three(seed);
        world.fault(Fault::Crash(0));
        world.fault(Fault::Crash(1));
        world.run(100);
        for _ in 0..150 {
            assert_eq!(world.voices(), []);
            world.run(100);
        }
        world.fault(Fault::Start(1));
        world.until(15_000, "served", |world| world.voices().len() == 1);
    }
}

/// A node that does not hear the owner tells the peer, and sends it what clients say; nothing else follows from it.
#[test]
fn a_hint_is_a_reason_to_look_and_never_a_claim() {
    for seed in 0..10 {
        let mut world = three(seed);
        let epoch = world.group(0).unwrap().register.epoch;
        assert_eq!(world.nodes[2].route, Some((epoch, NodeId(1))));
        world.fault(Fault::Cut(0, 2));
        world.until(1_000, "hinted", |world| has_reason(world, 1, Reason::Hinted(NodeId(3))));
        assert!(has_reason(&world, 2, Reason::GaveHint(NodeId(2))));
        assert_eq!(world.nodes[2].route, Some((epoch, NodeId(2))), "frames travel along");
        world.run(3_000);
        assert_eq!((world.voices(), world.group(1).unwrap().register.epoch), (vec![0], epoch));
        world.fault(Fault::Join(0, 2));
        world.run(50);
        assert_eq!(world.nodes[2].route, Some((epoch, NodeId(1))));
        // It dies in truth: the frames of a third node and the peer's own wait for the peer.
        world.fault(Fault::Crash(0));
        world.until(200, "taken over", |world| world.voices() == [1]);
        assert_eq!(world.nodes[1].route, Some((epoch, NodeId(2))), "kept for itself");
        world.run(20);
        assert_eq!(world.nodes[2].route.map(|route| route.1), Some(NodeId(2)));
    }
}

fn order(to: u8, epoch: Option<Epoch>) -> Order {
    Order::Handover { group: GROUP, to: NodeId(to), epoch, force: false }
}

/// Whichever node the operator talks to, the owner carries the order out, once.
#[test]
fn an_order_reaches_the_owner_from_any_node() {
    for seed in 0..20 {
        for at in [1, 2] {
            let mut world = three(seed);
            let before = world.group(0).unwrap().register.epoch;
            world.loss = 30;
            assert_eq!(world.ask_for(at, order(2, Some(before))), None);
            world.until(1_500, "an answer", |world| !world.outcomes.is_empty());
            world.loss = 0;
            let outcome = world.outcomes[0];
            assert_eq!(outcome.owner, NodeId(1));
            match outcome.result {
                Ok(()) => world.until(6_000, "handed over", |world| world.voices() == [1]),
                // Every answer was lost, or the peer had to be filled again meanwhile.
                Err(OrderError::OwnerSilent(NodeId(1)) | OrderError::OtherEpoch(_)) => continue,
                Err(other) => panic!("{other:?}"),
            };
            world.run(1_000);
            assert_eq!(world.voices(), [1], "once");
        }
    }
}

#[test]
fn an_order_is_void_in_another_epoch_and_answered_when_the_owner_is_silent() {
    let mut world = three(1);
    assert_eq!(world.ask_for(2, order(2, Some(Epoch(1)))), None);
    world.until(100, "an answer", |world| !world.outcomes.is_empty());
    let epoch = world.group(0).unwrap().register.epoch;
    assert_eq!(world.outcomes.remove(0).result, Err(OrderError::OtherEpoch(epoch)));
    assert_eq!(world.ask_for(2, order(1, None)), None);
    world.until(100, "an answer", |world| !world.outcomes.is_empty());
    assert_eq!(world.outcomes.remove(0).result, Err(OrderError::OwnsAlready));
    world.fault(Fault::Cut(0, 2));
    assert_eq!(world.ask_for(2, order(2, None)), None);
    world.until(600, "an answer", |world| !world.outcomes.is_empty());
    assert_eq!(world.outcomes.remove(0).result, Err(OrderError::OwnerSilent(NodeId(1))));
}

/// Neither hears the other any more.
fn part(world: &mut World, one: usize, other: usize) {
    world.fault(Fault::Cut(one, other));
    world.fault(Fault::Cut(other, one));
}

/// Of two that lost their power together nothing tells: an operator does, at any node that lives.
#[test]
fn two_that_lost_their_power_are_replaced_on_an_operators_word() {
    for seed in 0..10 {
        let mut world = three(seed);
        world.fault(Fault::Crash(0));
        world.fault(Fault::Crash(1));
        world.loss = 20;
        world.run(4_000);
        assert_eq!(world.voices(), []);
        for dead in [1, 2] {
            assert_eq!(world.ask_for(2, Order::Dead(NodeId(dead))), None);
        }
        let longest = Timers::bed().longest_promise().millis();
        let waited = world.until(8 * longest, "served", |world| world.voices() == [2]);
        println!("seed {seed}: served afresh {waited} ms after the word");
        assert!(has_reason(&world, 2, Reason::Declared(NodeId(1))));
        assert!(has_started_afresh(&world, 2));
        world.loss = 0;
        world.fault(Fault::Start(0));
        world.until(15_000, "protected again", World::is_protected);
    }
}

/// Nobody is left who has heard the dead: neither the third node nor the witness remembers them but by their registers.
#[test]
fn the_word_counts_also_where_nobody_has_heard_that_life() {
    for seed in 0..10 {
        let mut world = three(seed);
        let witness = world.witness_index();
        for index in [0, 1, witness, 2] {
            world.fault(Fault::Crash(index));
        }
        world.run(500);
        world.fault(Fault::Start(witness));
        world.fault(Fault::Start(2));
        world.run(15_000);
        assert_eq!(world.voices(), [], "they might live");
        for dead in [1, 2] {
            assert_eq!(world.ask_for(2, Order::Dead(NodeId(dead))), None);
        }
        world.until(15_000, "served", |world| world.voices() == [2]);
    }
}

#[test]
fn who_is_heard_is_not_believed_dead() {
    let mut world = three(1);
    let epoch = world.group(0).unwrap().register.epoch;
    assert_eq!(world.ask_for(2, Order::Dead(NodeId(1))), Some(OrderError::Lives));
    assert_eq!(world.ask_for(2, Order::Dead(NodeId(9))), Some(OrderError::UnknownNode));
    // The third believes it, but its peer and the witness hear the owner.
    world.fault(Fault::Cut(0, 2));
    world.run(4_000);
    assert_eq!(world.ask_for(2, Order::Dead(NodeId(1))), None);
    world.run(4_000);
    assert_eq!((world.voices(), world.group(1).unwrap().register.epoch), (vec![0], epoch));
    world.fault(Fault::Join(0, 2));
    world.until(15_000, "protected", World::is_protected);
}

/// The operator errs: the owner lives, alone on its side of the cut. It says nothing there, and comes back as the peer.
#[test]
fn an_owner_that_is_said_to_be_dead_while_it_is_cut_off_comes_back_as_the_peer() {
    for seed in 0..10 {
        let mut world = three(seed);
        world.fault(Fault::Crash(1));
        let others = [1, 2, world.witness_index()];
        others.iter().for_each(|other| part(&mut world, 0, *other));
        world.run(6_000);
        for dead in [1, 2] {
            assert_eq!(world.ask_for(2, Order::Dead(NodeId(dead))), None);
        }
        world.until(15_000, "served", |world| world.voices() == [2]);
        for other in others {
            world.fault(Fault::Join(0, other));
            world.fault(Fault::Join(other, 0));
        }
        world.until(15_000, "protected", World::is_protected);
        assert_eq!(world.voices(), [2]);
    }
}

/// Whoever is asked knows of the deaths already; the witness, which was started anew, does not.
#[test]
fn the_word_reaches_a_witness_that_has_forgotten_the_surrenders() {
    for seed in 0..5 {
        let mut world = three(seed);
        let witness = world.witness_index();
        world.fault(Fault::Crash(witness));
        world.fault(Fault::Die(0, 1));
        world.fault(Fault::Die(1, 1));
        world.run(500);
        world.fault(Fault::Start(witness));
        world.run(20_000);
        assert_eq!(world.voices(), []);
        for dead in [1, 2] {
            assert_eq!(world.ask_for(2, Order::Dead(NodeId(dead))), None);
        }
        world.until(30_000, "served", |world| world.voices() == [2]);
    }
}

/// The operator errs about a life that whoever is asked knows by the register alone: once it is heard it counts again.
#[test]
fn a_life_that_is_wrongly_said_to_be_dead_is_believed_when_it_is_heard() {
    for seed in 0..5 {
        let mut world = three(seed);
        part(&mut world, 0, 2);
        world.fault(Fault::Crash(0));
        world.run(500);
        world.fault(Fault::Start(0));
        world.run(3_000);
        if world.register(2, 0).peer.map(|peer| peer.node) != Some(NodeId(1)) {
            let _ = world.ask_for(1, order(1, None));
            world.run(5_000);
        }
        assert_eq!(world.ask_for(2, Order::Dead(NodeId(1))), None);
        world.run(2_000);
        world.fault(Fault::Join(0, 2));
        world.fault(Fault::Join(2, 0));
        world.run(6_000);
        world.fault(Fault::Crash(1));
        world.until(20_000, "protected", World::is_protected);
    }
}

/// The operator spoke the truth about former lives; his word comes late, to a witness that has lost its store.
#[test]
fn a_late_word_about_a_former_life_harms_no_later_one() {
    for seed in 0..5 {
        let mut world = three(seed);
        let witness = world.witness_index();
        world.heard = Some(Vec::new());
        world.fault(Fault::Crash(0));
        world.fault(Fault::Crash(1));
        world.run(4_000);
        for dead in [1, 2] {
            assert_eq!(world.ask_for(2, Order::Dead(NodeId(dead))), None);
        }
        let is_word = |bytes: &[u8]| matches!(decode(bytes), Ok((_, Message::Dead { .. })));
        let said = world.heard.take().unwrap().into_iter();
        let said: Vec<Vec<u8>> = said
            .filter(|(to, bytes, from)| (*to, *from) == (witness, 2) && is_word(bytes))
            .map(|(_, bytes, _)| bytes)
            .collect();
        assert!(said.len() >= 2);
        world.until(20_000, "served", |world| world.voices() == [2]);
        for index in [0, 1] {
            world.fault(Fault::Start(index));
        }
        world.until(20_000, "protected", World::is_protected);
        for to in [1, 2] {
            world.run(3_000);
            let at = world.voices()[0];
            if at + 1 != usize::from(to) {
                assert_eq!(world.ask_for(at, order(to, None)), None);
            }
            world.until(20_000, "handed over", |world| {
                world.voices() == [usize::from(to) - 1] && world.is_protected()
            });
        }
        world.run(1_000);
        // Owner and peer lose the witness and the third, and serve on.
        for node in [0, 1] {
            part(&mut world, node, witness);
        }
        world.fault(Fault::Crash(witness));
        world.disk = None;
        world.fault(Fault::Start(witness));
        world.run(5_000);
        for node in [0, 1] {
            part(&mut world, node, 2);
        }
        for bytes in said {
            world.at(1, Event::Deliver { to: witness, bytes, reply_to: 2 });
        }
        world.run(60_000);
        assert_eq!(world.voices(), [1]);
    }
}

/// The link is cut one way: the third does not hear an owner that hears it, and says every second that it is dead.
#[test]
fn a_wrong_word_does_not_mute_who_hears_it() {
    let mut world = three(1);
    world.fault(Fault::Cut(0, 2));
    world.fault(Fault::Crash(1));
    world.run(6_000);
    assert_eq!(world.ask_for(2, Order::Dead(NodeId(1))), None);
    let mut silent = 0;
    for _ in 0..10_000 {
        world.run(1);
        silent = if world.voices() == [0] { 0 } else { silent + 1 };
        assert!(silent < 20, "it renews its lease as if nothing had been said");
    }
}

/// A node comes back in a life that the witness never hears, and the witness knows its former one only. It lives all
/// the same: whoever is cut off with it serves on with its leases, and nobody else may.
#[test]
fn a_life_that_the_witness_has_never_heard_is_not_taken_for_dead() {
    for seed in 0..10 {
        for has_other in [true, false] {
            let mut world = three(seed);
            let witness = world.witness_index();
            part(&mut world, 1, witness);
            world.fault(Fault::Crash(1));
            world.fault(Fault::Crash(2));
            world.run(1_000);
            world.fault(Fault::Start(1));
            world.run(3_000);
            assert!(has_reason(&world, 0, Reason::Refused(Refusal::PeerUnregistered)));
            assert_eq!((world.voices(), world.is_protected()), (vec![0], false));
            if has_other {
                world.fault(Fault::Start(2));
                world.until(1_000, "protected by the next in the order", World::is_protected);
                world.run(3_000);
            }
            // The owner and that node are left to each other.
            for node in [0, 1] {
                part(&mut world, node, 2);
            }
            part(&mut world, 0, witness);
            world.fault(Fault::Start(2));
            world.until(20_000, "served", |world| world.voices() == [2]);
            world.run(20_000);
            assert_eq!(world.voices(), [2]);
            world.heal();
            world.until(20_000, "protected", World::is_protected);
        }
    }
}

/// Without an arbiter only the survivor goes on alone: to tell the other would change nothing, and it says so.
#[test]
fn without_an_arbiter_the_word_is_for_the_survivor() {
    let arbiter = Arbiter::None { survivor: Survivor::Node(NodeId(1)) };
    let mut world = World::booted_with(1, 2, arbiter, Timers::bed());
    world.until(20_000, "protected", World::is_protected);
    world.fault(Fault::Crash(0));
    world.run(4_000);
    assert_eq!(world.ask_for(1, Order::Dead(NodeId(1))), Some(OrderError::NotSurvivor));
}
