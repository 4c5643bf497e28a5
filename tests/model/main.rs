//! Small models of the rules by which a peer carries connections on, visited state by state.
//!
//! The kill tests show that the code keeps these rules wherever a death falls; here it is shown that the rules are enough, and
//! that none of them is too much: without any single one something goes wrong, and the way there is told. `MODEL.md` says
//! what is modelled and what is not, how large the worlds are, and what goes wrong without each rule.
//!
//! `cargo test -p tests --test model -- --nocapture` prints how many states were visited, and each way.

mod answer;
mod passage;
mod search;

use search::{Model, Verdict, search};
use std::fmt::Debug;

/// What a TCP may say: the oldest that is not acknowledged again, or something new.
fn places(una: u8, nxt: u8) -> impl Iterator<Item = u8> {
    [Some(una), (nxt > una).then_some(nxt)].into_iter().flatten()
}

fn assert_sound(name: impl Debug, world: impl Model) {
    match search(world) {
        Verdict::Sound(states) => println!("{name:?}: {states} states, all sound"),
        other => panic!("{name:?}: {other:#?}"),
    }
}

/// Without the rule something goes wrong, at the earliest after so many steps.
fn assert_needed(rule: impl Debug, world: impl Model, steps: usize) {
    let (what, way) = match search(world) {
        Verdict::Sound(states) => panic!("{rule:?} is not needed in any of {states} states"),
        Verdict::Broken { why, way } => (why, way),
        Verdict::Stuck { way, state } => (format!("somebody waits for ever, {state}"), way),
    };
    println!("without {rule:?}, in {} steps: {what}\n    {}", way.len(), way.join("\n    "));
    assert_eq!(way.len(), steps, "without {rule:?}: MODEL.md tells of another way");
}

#[test]
fn an_answered_connection_survives_with_every_rule() {
    for plot in answer::PLOTS {
        assert_sound(plot, answer::World::new(plot, None));
    }
}

#[test]
fn an_answered_connection_needs_each_rule() {
    for (rule, plot, steps) in answer::RULES {
        assert_needed((rule, plot), answer::World::new(plot, Some(rule)), steps);
    }
}

fn assert_passage_is_sound(plots: &[passage::Plot], mode: passage::Mode) {
    for &plot in plots {
        assert_sound((plot, mode), passage::World::new(plot, mode, None));
    }
}

#[test]
fn a_connection_that_is_passed_on_end_to_end_survives_with_every_rule() {
    assert_passage_is_sound(&passage::END_TO_END, passage::Mode::EndToEnd);
}

#[test]
fn a_connection_that_is_passed_on_and_held_survives_with_every_rule() {
    assert_passage_is_sound(&passage::HELD, passage::Mode::Held);
}

#[test]
fn a_connection_that_is_passed_on_and_held_survives_the_rest_as_well() {
    assert_passage_is_sound(&passage::HELD_TOO, passage::Mode::Held);
}

#[test]
fn a_connection_that_is_passed_on_needs_each_rule() {
    for (rule, plot, mode, steps) in passage::RULES {
        let world = passage::World::new(plot, mode, Some(rule));
        assert_needed((rule, plot, mode), world, steps);
    }
}
