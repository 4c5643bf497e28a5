//! Small models of the rules by which a peer carries connections on, visited state by state.
//!
//! The kill tests show that the code keeps these rules wherever a death falls; here it is shown that the rules are enough, and
//! that none of them is too much: without any single one something goes wrong, and the way there is told.
//!
//! `cargo test -p tests --test model -- --nocapture` prints how many states were visited, and each way.

mod answer;
mod passage;
mod search;

use answer::{Plot, Rule};
use search::{Model, Verdict, search};
use std::fmt::Debug;

const PLOTS: [Plot; 4] = [Plot::Plain, Plot::Impatient, Plot::Joined, Plot::HandedOver];

fn assert_sound(name: impl Debug, world: impl Model) {
    match search(world) {
        Verdict::Sound(states) => println!("{name:?}: {states} states, all sound"),
        other => panic!("{name:?}: {other:#?}"),
    }
}

fn assert_needed(rule: impl Debug, world: impl Model) {
    let (what, way) = match search(world) {
        Verdict::Sound(states) => panic!("{rule:?} is not needed in any of {states} states"),
        Verdict::Broken { why, way } => (why, way),
        Verdict::Stuck { way, state } => (format!("somebody waits for ever, {state}"), way),
    };
    println!("without {rule:?}, in {} steps: {what}\n    {}", way.len(), way.join("\n    "));
}

#[test]
fn an_answered_connection_survives_with_every_rule() {
    for plot in PLOTS {
        assert_sound(plot, answer::World::new(plot, None));
    }
}

#[test]
fn an_answered_connection_needs_each_rule() {
    for rule in answer::RULES {
        let plot = match rule {
            Rule::AckIsHeld | Rule::OpenIsHeld | Rule::EdgeIsHeld | Rule::AcceptsBeyond => {
                Plot::Plain
            }
            Rule::TickIsHeld | Rule::MakesNothingUp => Plot::Impatient,
            Rule::FillIsGated => Plot::Joined,
            Rule::HandsOverAll => Plot::HandedOver,
        };
        assert_needed(rule, answer::World::new(plot, Some(rule)));
    }
}

#[test]
fn a_connection_that_is_passed_on_survives_with_every_rule() {
    assert_sound("passed on", passage::World::new(None));
}

#[test]
fn a_connection_that_is_passed_on_needs_each_rule() {
    for rule in passage::RULES {
        assert_needed(rule, passage::World::new(Some(rule)));
    }
}
