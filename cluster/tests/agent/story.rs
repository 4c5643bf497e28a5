//! Named stories: what can happen to a cluster, one thing at each moment of another.

use super::role;
use super::world::{Event, Fault, MS, World};
use cluster::agent::Arbiter;
use cluster::lease::Timers;
use cluster::message::Role;
use cluster::role::Command;

/// Events between a start and a protected group, and between a death and the end of a takeover, and some more.
const BOOT_EVENTS: usize = 240;
const TAKEOVER_EVENTS: usize = 90;

/// From there on whoever has not answered is not waited for any more.
const SERVED_WITHIN_MS: u64 = 15_000;

fn has_begun_afresh(world: &World, index: usize) -> bool {
    world.nodes[index].commands.iter().any(|command| matches!(command, Command::Serve { .. }))
}

/// How often each node has begun without any flow.
fn begun_afresh(world: &World) -> Vec<usize> {
    let is_fresh = |command: &&Command| matches!(command, Command::Serve { .. });
    world.nodes.iter().map(|node| node.commands.iter().filter(is_fresh).count()).collect()
}

/// The witness hears everything and is not heard, for a while, from each event on.
#[test]
fn lost_answers_of_the_witness_at_every_step_only_delay() {
    let silence = |world: &mut World| {
        (0..2).for_each(|node| world.fault(Fault::Cut(2, node)));
        world.run(400);
        world.heal();
        world.until(SERVED_WITHIN_MS, "protected", World::is_protected);
    };
    for moment in 0..BOOT_EVENTS {
        let mut world = World::booted(moment as u64 % 5, 2);
        (0..moment).for_each(|_| world.step());
        silence(&mut world);
    }
    for moment in 0..TAKEOVER_EVENTS {
        for dead in 0..2 {
            let mut world = World::protected(moment as u64 % 5, 2);
            world.run(2_500);
            world.fault(Fault::Crash(dead));
            (0..moment).for_each(|_| world.step());
            silence(&mut world);
            assert!(!has_begun_afresh(&world, 1), "the copies were there");
        }
    }
}

/// The node comes back at each moment of the takeover that its death has brought about: it changes nothing.
#[test]
fn a_node_that_returns_during_its_takeover_becomes_the_peer() {
    for moment in 0..TAKEOVER_EVENTS {
        for surrenders in [false, true] {
            let mut world = World::protected(moment as u64 % 5, 2);
            world.run(2_500);
            world.fault(if surrenders { Fault::Die(0, 0) } else { Fault::Crash(0) });
            // Its agent is gone, too.
            world.run(0);
            (0..moment).for_each(|_| world.step());
            world.fault(Fault::Crash(0));
            world.fault(Fault::Start(0));
            world.until(60, "taken over", |world| world.voices() == [1]);
            world.until(3_000, "protected", World::is_protected);
            assert_eq!((role(&world, 0), role(&world, 1)), (Role::Peer, Role::Owner));
            assert!(!has_begun_afresh(&world, 1));
        }
    }
}

/// Whoever is being filled dies, at each moment of the fill: the owner speaks on.
#[test]
fn a_peer_that_dies_during_the_fill_costs_the_owner_nothing() {
    for moment in 0..BOOT_EVENTS {
        let mut world = World::protected(moment as u64 % 5, 2);
        world.run(2_500);
        world.fault(Fault::Crash(1));
        world.until(1_000, "alone", |world| {
            world.voices() == [0] && world.group(0).is_some_and(|g| g.register.peer.is_none())
        });
        world.fault(Fault::Start(1));
        (0..moment).for_each(|_| world.step());
        // It may be its lessor already, and then is waited for.
        let was_lessor =
            world.group(0).is_some_and(|group| group.register.in_sync || group.asking.is_some());
        world.longest_silence = 0;
        world.fault(Fault::Crash(1));
        world.run(1_000);
        assert_eq!(world.voices(), [0]);
        assert!(was_lessor || world.longest_silence == 0, "moment {moment}: it fell silent");
        world.fault(Fault::Start(1));
        world.until(3_000, "protected", World::is_protected);
    }
}

/// The owner dies while a node that came back is being filled. That one is never granted what it does not hold: it
/// takes over when it is in sync, and otherwise begins afresh when the owner is known to be dead.
#[test]
fn a_returning_node_is_never_granted_what_it_does_not_hold() {
    let (mut inherited, mut afresh) = (0, 0);
    for moment in 0..BOOT_EVENTS {
        let mut world = World::protected(moment as u64 % 5, 2);
        world.run(2_500);
        world.fault(Fault::Crash(0));
        world.until(200, "taken over", |world| world.voices() == [1]);
        world.fault(Fault::Start(0));
        (0..moment).for_each(|_| world.step());
        let in_sync = world.group(1).is_some_and(|group| group.register.in_sync);
        world.fault(Fault::Crash(1));
        // `Command::Promote` without the copies is caught by the world.
        world.until(2 * SERVED_WITHIN_MS, "served", |world| world.voices() == [0]);
        match has_begun_afresh(&world, 0) {
            true => afresh += 1,
            false => inherited += 1,
        }
        assert!(!(in_sync && has_begun_afresh(&world, 0)), "the copies were there");
        world.fault(Fault::Start(1));
        world.until(3_000, "protected", World::is_protected);
    }
    assert!(inherited > 20 && afresh > 20, "{inherited} {afresh}");
}

/// Nobody may say that the owner is alone: it falls silent and goes on when the witness is back.
#[test]
fn with_witness_and_peer_down_the_owner_waits_and_goes_on() {
    for first in [1, 2] {
        let mut world = World::protected(first as u64, 2);
        world.run(2_500);
        world.fault(Fault::Crash(first));
        world.run(5);
        world.fault(Fault::Crash(3 - first));
        world.run(4_000);
        assert!(world.voices().is_empty());
        world.fault(Fault::Start(2));
        world.until(3_500, "served", |world| world.voices() == [0]);
        assert!(!has_begun_afresh(&world, 1));
        world.fault(Fault::Start(1));
        world.until(3_000, "protected", World::is_protected);
    }
}

/// One direction of a node's cable is dead: nothing reaches it any more, or nothing that it says reaches anybody. The
/// other one serves, and goes on for as long as that lasts.
#[test]
fn a_node_with_half_a_cable_serves_nobody_and_keeps_nobody_from_serving() {
    for seed in 0..10 {
        for (half, is_deaf) in [(0, true), (0, false), (1, true), (1, false)] {
            let mut world = World::protected(seed, 2);
            world.run(500);
            let begun = begun_afresh(&world);
            for other in [1 - half, 2] {
                let (from, to) = if is_deaf { (other, half) } else { (half, other) };
                world.fault(Fault::Cut(from, to));
            }
            for _ in 0..8 {
                world.run(1_000);
                assert_eq!(world.voices(), [1 - half], "node {half}, deaf: {is_deaf}");
            }
            world.heal();
            world.until(5_000, "protected", World::is_protected);
            assert_eq!(begun_afresh(&world), begun, "no flow was given up");
        }
    }
}

/// A link goes down and up, in one direction or both, faster and slower than anybody's patience.
#[test]
fn a_flapping_link_leaves_one_voice_and_heals() {
    for period in [7, 30, 90, 200, 700] {
        for (one, other) in [(0, 1), (0, 2), (1, 2)] {
            for both in [false, true] {
                let mut world = World::protected(period, 2);
                world.run(500);
                for n in 0..20 {
                    let (down, up) = (2 * n * period, (2 * n + 1) * period);
                    for (from, to) in
                        [(one, other), (other, one)].into_iter().take(1 + usize::from(both))
                    {
                        world.at(down, Event::Fault(Fault::Cut(from, to)));
                        world.at(up, Event::Fault(Fault::Join(from, to)));
                    }
                }
                world.run(40 * period);
                world.heal();
                world.until(5_000, "protected", World::is_protected);
                assert!(!has_begun_afresh(&world, 1), "no flow was given up");
            }
        }
    }
}

/// Everything that was ever said is said again, much later and in another order.
#[test]
fn old_epochs_that_are_replayed_change_nothing() {
    for seed in 0..10 {
        let mut world = World::new(seed, 2, Arbiter::Witness, Timers::bed());
        world.heard = Some(Vec::new());
        (0..=2).for_each(|index| world.fault(Fault::Start(index)));
        world.until(10_000, "protected", World::is_protected);
        world.run(300);
        world.fault(Fault::Die(0, 1));
        world.until(200, "taken over", |world| world.voices() == [1]);
        world.run(20);
        world.fault(Fault::Start(0));
        world.until(3_000, "protected", World::is_protected);
        world.fault(Fault::HandTo(0));
        world.until(200, "handed over", |world| world.voices() == [0]);
        world.run(200);
        let register = world.group(0).expect("it runs").register;
        let said = world.heard.take().expect("it was kept");
        assert!(said.len() > 1_000);
        for _ in 0..2_000 {
            let pick = world.noise.below(said.len() as u64) as usize;
            let (to, bytes, reply_to) = said[pick].clone();
            let after = world.noise.below(300);
            world.at(after, Event::Deliver { to, bytes, reply_to });
        }
        world.run(400);
        assert!(world.is_protected());
        assert_eq!(world.group(0).expect("it runs").register, register);
    }
}

/// What a dead owner has said comes again and again, late: that renews nothing, and its peer does not wait for it.
#[test]
fn requests_that_come_late_renew_nothing() {
    for seed in 0..5 {
        let mut world = World::protected(seed, 2);
        world.heard = Some(Vec::new());
        world.run(100);
        let mut said = world.heard.take().expect("it was kept");
        said.retain(|(to, _, from)| (*to, *from) == (1, 0));
        // All that something later was heard of.
        said.truncate(said.len() - 5);
        assert!(said.len() > 20);
        world.fault(Fault::Crash(0));
        for n in 0..400 {
            let (to, bytes, reply_to) = said[n % said.len()].clone();
            world.at(5 * n as u64, Event::Deliver { to, bytes, reply_to });
        }
        let took = world.until(1_000, "taken over", |world| world.voices() == [1]);
        assert!(took <= 100, "{took} ms");
    }
}

/// The witness comes back with a store from before two changes of owner. It writes nothing until the operator says
/// so, and then takes what the nodes know.
#[test]
fn a_witness_restored_from_an_old_store_writes_nothing_until_it_is_seeded() {
    for cut_off in [false, true] {
        let mut world = World::protected(5, 2);
        world.run(500);
        let old = world.disk.clone();
        world.fault(Fault::Crash(0));
        world.until(200, "taken over", |world| world.voices() == [1]);
        world.fault(Fault::Start(0));
        world.until(3_000, "protected", World::is_protected);
        world.run(2_500);
        let epoch = |world: &World, index| world.group(index).map_or(0, |g| g.register.epoch.0);
        let before = epoch(&world, 1);
        world.fault(Fault::Crash(2));
        world.disk = old;
        world.seed_flag = false;
        world.isolate(1, cut_off);
        world.fault(Fault::Start(2));
        // A node that has forgotten everything may ask as well.
        world.fault(Fault::Crash(0));
        world.fault(Fault::Start(0));
        world.run(10_000);
        // The owner's lessor is gone and nobody believes the witness; cut off, it has given up its voice.
        assert!(cut_off || world.voices().is_empty());
        world.heal();
        world.run(1_000);
        world.fault(Fault::Crash(2));
        world.disk = None;
        world.seed_flag = true;
        world.fault(Fault::Start(2));
        world.until(2 * SERVED_WITHIN_MS, "protected", World::is_protected);
        assert!(epoch(&world, 1) > before, "the newest register was taken");
        assert!(!has_begun_afresh(&world, 1), "and its owner has its flows");
    }
}

/// Power is lost everywhere, and comes back in each order.
#[test]
fn after_a_loss_of_power_everywhere_the_group_is_served_again() {
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        for pause in [0, 30, 700] {
            let mut world = World::protected(pause + 1, 2);
            world.run(500);
            (0..=2).for_each(|index| world.fault(Fault::Crash(index)));
            world.run(100);
            for index in order {
                world.fault(Fault::Start(index));
                world.run(pause);
            }
            world.until(2 * SERVED_WITHIN_MS, "protected", World::is_protected);
            let voice = world.voices()[0];
            assert!(has_begun_afresh(&world, voice), "nobody holds anything");
        }
    }
}

/// The clocks of owner and peer drift apart as far as the configuration allows, either way.
#[test]
fn clocks_at_both_ends_of_the_allowed_drift_make_no_second_voice() {
    let drift = u64::from(Timers::bed().drift_ppm);
    for rates in [[1_000_000, 1_000_000 + drift], [1_000_000 + drift, 1_000_000]] {
        for seed in 0..10 {
            let mut world = World::new(seed, 2, Arbiter::Witness, Timers::bed());
            world.set_rates(rates);
            (0..=2).for_each(|index| world.fault(Fault::Start(index)));
            world.until(10_000, "protected", World::is_protected);
            world.run(2_500 + seed * 37);
            world.fault(Fault::Pause(0));
            world.until(200, "taken over", |world| world.voices() == [1]);
            world.fault(Fault::Resume(0));
            world.until(3_000, "protected", World::is_protected);
        }
    }
}

/// A machine sleeps, and its clock with it: a clock that does not count that time would show a lease in force.
#[test]
#[should_panic(expected = "two voices")]
fn a_clock_that_stands_still_in_suspend_is_caught() {
    let mut world = World::protected(3, 2);
    world.run(500);
    world.fault(Fault::Pause(0));
    world.until(200, "taken over", |world| world.voices() == [1]);
    let slept = world.now;
    world.run(100);
    // It wakes, and its cores look at the clock before its agent has heard of anything.
    world.set_back(0, world.now - slept + 100 * MS);
    world.run(1);
}
