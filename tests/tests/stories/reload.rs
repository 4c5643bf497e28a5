//! Files that name a service, and do not name it any more.

use tests::sim::fault::Fault;
use tests::sim::named::{Cast, play};

/// A service leaves the files, one node after the other, while everybody talks; its owner dies, and its next life does not know
/// it; the other one serves it on. Then both name it again, and the other one dies.
#[test]
fn connections_of_a_service_that_leaves_outlive_either_node() {
    play(Cast::talking(9_000), [[0, 1], [1, 0]], |stage, order| {
        for node in order {
            stage.fault(Fault::Name { node, service: 0, is_named: false });
            stage.run(100);
        }
        stage.protected();
        stage.outlive(0);
        stage.run(1_000);
        stage.expect(stage.world.speaker(0) == Some(1), "served by the one that knows it");
        stage.expect(
            stage.world.register(0).peer.is_none(),
            "without a peer that knows nothing of it",
        );
        for node in order {
            stage.fault(Fault::Name { node, service: 0, is_named: true });
            stage.run(100);
        }
        stage.protected();
        stage.outlive(1);
        stage.protected();
    });
}

/// One file names it, the other one does not, the owner's or its peer's: either way the peer takes over.
#[test]
fn a_service_may_have_left_one_file_when_its_owner_dies() {
    play(Cast::talking(9_000), [0, 1], |stage, node| {
        stage.fault(Fault::Name { node, service: 0, is_named: false });
        stage.run(200);
        stage.protected();
        stage.outlive(0);
        stage.run(200);
        stage.fault(Fault::Name { node, service: 0, is_named: true });
        stage.protected();
        stage.outlive(1);
        stage.protected();
    });
}

/// Seed 709449: it has left one node's file, and that node's next life does not know it: its owner has no peer, and what it serves dies
/// with it. Whoever waits is told by the next life, and everybody else's connection goes on.
#[test]
fn what_only_one_file_names_dies_with_its_owner() {
    let counts = play(Cast::talking(9_000), [false, true], |stage, is_told| {
        stage.fault(Fault::Name { node: 1, service: 0, is_named: false });
        stage.run(100);
        stage.protected();
        stage.outlive(1);
        stage.run(1_000);
        stage.expect(stage.world.register(0).peer.is_none(), "without a peer that knows it");
        stage.fault(Fault::Crash { node: 0, is_told });
        stage.run(100);
        stage.start(0);
        stage.run(100);
        stage.fault(Fault::Name { node: 1, service: 0, is_named: true });
        stage.protected();
    });
    assert!(counts.unheld > 0 && counts.survived > 0, "{counts}");
}
