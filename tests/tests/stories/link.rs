//! The cluster's network, and clocks.

use cluster::lease::Timers;
use tests::sim::fault::{Fault, MS};
use tests::sim::named::{Cast, play};
use tests::sim::network::Plug;
use tests::sim::world::World;

/// Owner and peer lose each other, for less and for more than anybody's patience; both see the witness.
#[test]
fn owner_and_peer_that_lose_each_other_keep_every_connection() {
    play(Cast::talking(2_000), [5, 40, 700], |stage, ms| {
        stage.set_cut(Plug::Node(0), Plug::Node(1), true);
        stage.run(ms);
        stage.expect(ms < 700 || !stage.world.is_protected(), "known to be alone");
        stage.set_cut(Plug::Node(0), Plug::Node(1), false);
        stage.protected();
    });
}

/// The link between owner and peer, or between either and the witness, goes down and up.
#[test]
fn a_link_that_flaps_costs_nothing() {
    let (owner, peer) = (Plug::Node(0), Plug::Node(1));
    let links = [(owner, peer), (owner, Plug::Witness), (peer, Plug::Witness)];
    let cases = [7, 90].into_iter().flat_map(|ms| links.map(|link| (ms, link)));
    play(Cast::talking(8_000), cases, |stage, (ms, (one, other))| {
        for _ in 0..6 {
            stage.set_cut(one, other, true);
            stage.run(ms);
            stage.set_cut(one, other, false);
            stage.run(ms);
        }
        stage.protected();
    });
}

/// One direction of a node's cable is dead: nobody hears it, or it hears nobody.
#[test]
fn half_a_cable_costs_nothing() {
    play(Cast::talking(6_000), [true, false], |stage, is_deaf| {
        let ends = |other| match is_deaf {
            true => (other, Plug::Node(0)),
            false => (Plug::Node(0), other),
        };
        let paths = [Plug::Node(1), Plug::Witness].map(ends);
        paths.iter().for_each(|(from, to)| stage.set_deaf(*from, *to, true));
        stage.owned_by(1);
        stage.run(1_000);
        paths.iter().for_each(|(from, to)| stage.set_deaf(*from, *to, false));
        // One that heard nothing while it was filled is no peer for half a minute.
        stage.until(45_000, "protected again", World::is_protected);
    });
}

/// Everything that is said on the cluster's network is said again within two and a half seconds, in any order, while nodes
/// die and come back and groups change hands.
#[test]
fn what_is_said_again_in_later_epochs_changes_nothing() {
    let cast = Cast { echo_ms: Some(2_400), ..Cast::talking(6_000) };
    play(cast, [0, 1], |stage, first| {
        for node in [first, 1 - first] {
            stage.crash(node);
            stage.owned_by(1 - node);
            stage.run(20);
            stage.start(node);
            stage.protected();
            stage.fault(Fault::Handover { group: 0, to: node });
            stage.until(2_000, "handed over", |world| world.speaker(0) == Some(node));
            stage.protected();
        }
    });
}

/// The clocks of owner and peer run as far apart as they may, either way; the owner sleeps, and wakes when it is none.
#[test]
fn clocks_at_both_ends_of_the_allowed_drift_change_nothing() {
    let fast = 1_000_000 + u64::from(Timers::bed().drift_ppm);
    for rates in [[1_000_000, fast], [fast, 1_000_000]] {
        let cast = Cast { rates: Some(rates), ..Cast::talking(2_500) };
        play(cast, [0, 1], |stage, sleeper| {
            stage.fault(Fault::Pause { node: sleeper, time: 500 * MS });
            stage.owned_by(1 - sleeper);
            stage.run(600);
            stage.protected();
        });
    }
}
