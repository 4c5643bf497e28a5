//! Failback of new connections: two generations of one service, and what may die on the way.
//!
//! At every event the world checks, beside the one voice of each generation, that newcomers are taken in one place at
//! most.

use super::world::{Event, Fault, GROUP, MISHAPS, Noise, World};
use super::{PROTECTED_AGAIN_MS, plan_faults};
use cluster::agent::handover::Failure;
use cluster::agent::{Arbiter, Reason};
use cluster::message::Role;
use cluster::register::Phase;
use cluster::role::Command;
use stack::time::Duration;

/// Events from the moment when the failback may begin until it is over, and some more.
const FAILBACK_EVENTS: usize = 160;

const HOLD_DOWN: Duration = Duration::from_millis(300);

/// Home has died, the other node owns everything, and home is back and about to be filled.
fn home_is_back(seed: u64, count: usize) -> World {
    let mut world = World::booted_in_generations(seed, count, HOLD_DOWN);
    world.until(20_000, "protected", World::is_protected);
    world.run(300);
    world.fault(Fault::Crash(0));
    world.until(3_000, "taken over", |world| world.voices() == [1]);
    world.fault(Fault::Start(0));
    world.until(5_000, "protected", |world| world.voices() == [1] && world.is_protected());
    world
}

/// Somebody takes newcomers, and every generation that has an owner is protected.
fn is_whole(world: &World) -> bool {
    let is_safe = |generation: usize| {
        let is_live = (0..2).any(|index| world.register(index, generation).is_live());
        !is_live || world.is_protected_in(generation)
    };
    world.openers().len() == 1 && is_safe(0) && is_safe(1)
}

#[test]
fn a_home_that_is_back_gets_the_newcomers_and_the_old_connections_stay() {
    for seed in 0..20 {
        let mut world = home_is_back(seed, 2);
        let took = world.until(1_000, "failed back", |world| world.openers() == [(0, 1)]);
        assert!((250..400).contains(&took), "{took} ms");
        world.until(500, "protected", is_whole);
        assert_eq!((world.voices_in(0), world.voices_in(1)), (vec![1], vec![0]));
        assert_eq!(world.register(0, 0).phase, Phase::Closed);
        assert!(world.is_protected(), "the old connections were protected throughout");
        world.run(3_000);
        assert_eq!(world.openers(), [(0, 1)], "it stays");
        // The last old connection ends: the slot is free again.
        world.last_flow_ends(1, 0);
        world.until(100, "over", |world| world.register(0, 0).phase == Phase::Over);
        world.run(50);
        assert_eq!((world.voices_in(0), world.voices_in(1)), (vec![], vec![0]));
        assert_eq!(world.group_in(0, 0).map(|group| group.role), Some(Role::Idle));
    }
}

/// The next failback uses the slot that the first one left; while that is in use it waits.
#[test]
fn generations_take_turns() {
    let mut world = home_is_back(3, 2);
    world.until(1_000, "failed back", |world| world.openers() == [(0, 1)]);
    world.until(500, "protected", is_whole);
    for (old, new) in [(0, 1), (1, 0), (0, 1)] {
        // The arbiter's promise of before the peer was in sync is released by then.
        world.run(100);
        world.fault(Fault::Crash(0));
        world.until(500, "taken over", |world| world.openers() == [(1, new)]);
        world.fault(Fault::Start(0));
        world.until(PROTECTED_AGAIN_MS, "protected", is_whole);
        world.run(2_000);
        assert_eq!(world.openers(), [(1, new)], "old connections are in the place of the next");
        world.last_flow_ends(1, old);
        world.until(1_000, "failed back", |world| world.openers() == [(0, old)]);
        world.until(500, "protected", is_whole);
        assert_eq!(world.register(0, new).phase, Phase::Closed);
    }
}

#[test]
fn the_owner_of_the_old_generation_dies_and_home_has_both() {
    for seed in 0..20 {
        let mut world = home_is_back(seed, 2);
        world.until(1_000, "failed back", |world| world.openers() == [(0, 1)]);
        world.until(500, "protected", is_whole);
        world.run(100);
        world.fault(Fault::Crash(1));
        world.until(1_000, "taken over", |world| world.voices_in(0) == [0]);
        assert_eq!(world.register(0, 0).phase, Phase::Closed, "it stays closed");
        world.fault(Fault::Start(1));
        world.until(PROTECTED_AGAIN_MS, "protected", is_whole);
        assert_eq!((world.voices_in(0), world.voices_in(1)), (vec![0], vec![0]));
    }
}

/// Each fault, on each node and the witness, at each event of a failback: the checks of every event hold, and in the end
/// somebody takes newcomers and everything is protected.
#[test]
fn every_fault_at_every_moment_of_a_failback() {
    for moment in 0..FAILBACK_EVENTS {
        for (kind, long) in MISHAPS {
            for node in 0..3 {
                let mut world = about_to_fail_back(moment as u64 % 7);
                (0..moment).for_each(|_| world.step());
                let (begin, end) = kind(node);
                world.fault(begin);
                world.run(long);
                world.fault(end);
                world.until(PROTECTED_AGAIN_MS, "whole", is_whole);
            }
        }
    }
}

#[test]
fn every_cut_at_every_moment_of_a_failback() {
    for moment in 0..FAILBACK_EVENTS {
        for cut in 0..6 {
            for long in [10, 600] {
                let mut world = about_to_fail_back(moment as u64 % 5);
                (0..moment).for_each(|_| world.step());
                match cut {
                    0..3 => world.isolate(cut, true),
                    3 => world.link(0, 1, true),
                    4 => world.link(0, 2, true),
                    _ => world.link(1, 2, true),
                }
                world.run(long);
                world.heal();
                world.until(PROTECTED_AGAIN_MS, "whole", is_whole);
            }
        }
    }
}

/// Longer than every lease, promise and patience: everybody has given up whom it does not hear.
#[test]
fn a_long_cut_at_every_moment_of_a_failback_heals() {
    for moment in (0..FAILBACK_EVENTS).step_by(5) {
        for (from, to) in [(0, 1), (1, 0), (0, 2), (2, 0), (1, 2), (2, 1)] {
            let mut world = about_to_fail_back(moment as u64 % 5);
            (0..moment).for_each(|_| world.step());
            world.fault(Fault::Cut(from, to));
            world.run(6_000);
            world.heal();
            world.until(PROTECTED_AGAIN_MS, "whole", is_whole);
        }
    }
}

/// The witness writes and is not heard, for a while, from each event on: nobody's connections are given up for it.
#[test]
fn lost_answers_of_the_witness_at_every_moment_of_a_failback_only_delay() {
    for moment in 0..FAILBACK_EVENTS {
        let mut world = about_to_fail_back(moment as u64 % 5);
        let begun = |world: &World, index: usize| {
            let is_fresh = |command: &&Command| matches!(command, Command::Serve { group, .. } if *group == GROUP);
            world.nodes[index].commands.iter().filter(is_fresh).count()
        };
        let before = [0, 1].map(|index| begun(&world, index));
        (0..moment).for_each(|_| world.step());
        (0..2).for_each(|node| world.fault(Fault::Cut(2, node)));
        world.run(400);
        world.heal();
        world.until(PROTECTED_AGAIN_MS, "whole", is_whole);
        world.until(PROTECTED_AGAIN_MS, "failed back", |world| world.openers() == [(0, 1)]);
        assert!(world.register(1, 0).is_live(), "the old connections are where they were");
        assert_eq!([0, 1].map(|index| begun(&world, index)), before, "moment {moment}");
    }
}

/// While one death at any moment of a failback is being dealt with, whoever dies next does so at any moment of that.
#[test]
fn every_second_death_on_the_way_from_the_first_heals() {
    for moment in (0..FAILBACK_EVENTS).step_by(13) {
        for later in [0, 3, 20, 60, 300] {
            for (first, second) in [(0, 1), (1, 0), (0, 2), (2, 0), (1, 2), (2, 1)] {
                for surrenders in [false, true] {
                    let mut world = about_to_fail_back((moment + later) as u64 % 7);
                    (0..moment).for_each(|_| world.step());
                    world.fault(if surrenders {
                        Fault::Die(first, 1)
                    } else {
                        Fault::Crash(first)
                    });
                    (0..later).for_each(|_| world.step());
                    world.fault(Fault::Crash(first));
                    world.fault(Fault::Crash(second));
                    world.run(150);
                    world.fault(Fault::Start(first));
                    world.run(later as u64);
                    world.fault(Fault::Start(second));
                    world.until(PROTECTED_AGAIN_MS, "whole", is_whole);
                }
            }
        }
    }
}

/// All that was said in one failback is said again, in any order, during the next one and the deaths in between.
#[test]
fn a_failback_that_is_replayed_during_the_next_changes_nothing() {
    for seed in 0..12 {
        let mut world = World::booted_in_generations(seed, 2, HOLD_DOWN);
        world.heard = Some(Vec::new());
        world.until(20_000, "protected", World::is_protected);
        for (old, new) in [(0, 1), (1, 0), (0, 1)] {
            let said = world.heard.replace(Vec::new()).expect("it is kept");
            for _ in 0..3_000.min(said.len()) {
                let pick = world.noise.below(said.len() as u64) as usize;
                let (to, bytes, reply_to) = said[pick].clone();
                let after = world.noise.below(3_000);
                world.at(after, Event::Deliver { to, bytes, reply_to });
            }
            world.run(100);
            world.fault(Fault::Crash(0));
            world.until(3_000, "taken over", |world| world.openers() == [(1, old)]);
            world.fault(Fault::Start(0));
            world.until(PROTECTED_AGAIN_MS, "protected", is_whole);
            if world.register(1, new).is_live() {
                world.last_flow_ends(1, new);
            }
            world.until(5_000, "failed back", |world| world.openers() == [(0, new)]);
            world.until(5_000, "protected", is_whole);
            assert_eq!((world.voices_in(old), world.voices_in(new)), (vec![1], vec![0]));
            world.last_flow_ends(1, old);
            world.until(500, "over", |world| world.register(0, old).phase == Phase::Over);
        }
    }
}

/// Faults at random, while home gets the newcomers and old connections end: never two places for newcomers, and in the end
/// one.
#[test]
fn random_stories_of_two_generations() {
    for (count, seeds) in [(2, 60), (3, 30)] {
        for seed in 0..seeds {
            let mut world = home_is_back(seed, count);
            let mut noise = Noise::new(seed ^ 0x9e4e_0000);
            world.run(noise.below(600));
            let end = plan_faults(&mut world, seed, &mut noise, Arbiter::Witness);
            for _ in 0..end / 50 {
                world.run(50);
                let (node, generation) =
                    (noise.below(count as u64) as usize, noise.below(2) as usize);
                let is_closed = world.register(node, generation).phase == Phase::Closed;
                if is_closed && noise.percent(10) {
                    world.last_flow_ends(node, generation);
                }
            }
            world.heal();
            world.until(PROTECTED_AGAIN_MS, "whole", is_whole);
        }
    }
}

/// A few milliseconds before the owner closes its generation.
fn about_to_fail_back(seed: u64) -> World {
    let mut world = home_is_back(seed, 2);
    world.run(HOLD_DOWN.millis() - 5);
    assert!(world.group(1).is_some_and(|group| group.handover.is_none()), "not begun yet");
    world
}

/// Connections of which home has no copy could not be told from newcomers there.
#[test]
fn nothing_is_closed_while_connections_have_no_copy() {
    let mut world = World::booted_in_generations(5, 2, HOLD_DOWN);
    world.until(20_000, "protected", World::is_protected);
    world.run(2_500);
    world.fault(Fault::Crash(0));
    world.until(200, "taken over", |world| world.voices() == [1]);
    world.fault(Fault::Start(0));
    world.absent = 1;
    world.run(9_000);
    assert_eq!((world.voices_in(0), world.voices_in(1)), (vec![1], vec![]));
    assert_eq!(world.register(1, 0).phase, Phase::Open, "newcomers are taken where they were");
    let failures = world.group(1).map(|group| group.reasons).unwrap_or_default();
    let failed = |decision: &cluster::agent::Decision| {
        decision.reason == Reason::HandoverFailed(Failure::Absent(2))
    };
    assert!(failures.iter().any(failed), "{failures:?}");
    world.absent = 0;
    world.until(1_000, "failed back", |world| world.openers() == [(0, 1)]);
}

/// Whichever two of three nodes die one after the other, the third has both generations, and newcomers are taken there.
#[test]
fn three_nodes_and_two_deaths_leave_one_place_for_newcomers() {
    for first in 0..3 {
        for second in (0..3).filter(|second| *second != first) {
            let mut world = World::booted_in_generations(first as u64, 3, HOLD_DOWN);
            world.until(20_000, "protected", World::is_protected);
            // While the third is away home becomes the peer when it is back.
            world.fault(Fault::Crash(2));
            world.run(300);
            world.fault(Fault::Crash(0));
            world.until(3_000, "taken over", |world| world.voices() == [1]);
            world.fault(Fault::Start(0));
            world.until(5_000, "failed back", |world| world.openers() == [(0, 1)]);
            world.fault(Fault::Start(2));
            world.until(5_000, "protected", is_whole);
            for dies in [first, second] {
                world.run(100);
                world.fault(Fault::Crash(dies));
                world.run(500);
                let is_last = dies == second;
                world.until(PROTECTED_AGAIN_MS, "served", |world| is_last || is_whole(world));
            }
            let left = (0..3).find(|node| ![first, second].contains(node)).unwrap();
            world.until(5_000, "served", |world| {
                world.openers() == [(left, 1)] && world.voices_in(0) == [left]
            });
        }
    }
}
