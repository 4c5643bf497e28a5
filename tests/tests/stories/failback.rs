//! Home comes back.

use cluster::message::advertise::Failback;
use tests::sim::fault::Fault;
use tests::sim::named::{Cast, play};

/// For how long home has to hold every copy.
const HOLD_DOWN_MS: u64 = 400;

/// Every connection goes home by itself, or when an operator says so; and then the other one dies.
#[test]
fn connections_go_home_under_load_and_the_other_node_may_die() {
    for failback in [Failback::All, Failback::Manual] {
        let cast = Cast { failback: (failback, HOLD_DOWN_MS), ..Cast::talking(6_000) };
        play(cast, [()], |stage, ()| {
            stage.outlive(0);
            stage.protected();
            if failback == Failback::Manual {
                stage.run(2 * HOLD_DOWN_MS);
                stage.expect(stage.world.speaker(0) == Some(1), "left where it is");
                stage.fault(Fault::Handover { group: 0, to: 0 });
            }
            stage.until(5_000, "home again", |world| world.speaker(0) == Some(0));
            stage.protected();
            stage.outlive(1);
            stage.protected();
        });
    }
}

/// Newcomers go home, the old connections stay where they are; either node may die.
#[test]
fn newcomers_go_home_and_the_old_connections_stay() {
    let failback = (Failback::NewConnections, HOLD_DOWN_MS);
    play(Cast { failback, ..Cast::talking(6_000) }, [0, 1], |stage, dead| {
        stage.outlive(0);
        stage.protected();
        let younger = stage.groups() / 2;
        stage.until(5_000, "the younger at home", |world| world.speaker(younger) == Some(0));
        stage.expect(stage.world.speaker(0) == Some(1), "the older left where it is");
        stage.protected();
        stage.enter(1_500);
        stage.outlive(dead);
        stage.protected();
    });
}

/// Home comes back to three nodes of which another one is the peer by then: it gets the copies first, and then everything,
/// though it dies once more at some moment of that.
#[test]
fn a_home_that_finds_another_peer_gets_everything_back() {
    let cast = Cast { nodes: 3, failback: (Failback::All, HOLD_DOWN_MS), ..Cast::talking(8_000) };
    let moments = [None, Some(HOLD_DOWN_MS + 10), Some(HOLD_DOWN_MS + 30), Some(2 * HOLD_DOWN_MS)];
    play(cast, moments, |stage, dies_after| {
        stage.crash(0);
        stage.protected();
        stage.start(0);
        if let Some(ms) = dies_after {
            stage.run(ms);
            stage.crash(0);
            stage.run(300);
            stage.start(0);
        }
        stage.until(10_000, "home again", |world| world.speaker(0) == Some(0));
        stage.protected();
        stage.crash(1);
        stage.protected();
        stage.start(1);
        stage.protected();
    });
}
