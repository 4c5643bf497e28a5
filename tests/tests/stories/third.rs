//! Three nodes.

use tests::sim::fault::Fault;
use tests::sim::named::{Cast, Stage, play};

/// Two die one after the other, in each order: the last of them carries everything on.
#[test]
fn two_of_three_that_die_one_after_the_other_cost_nothing() {
    let orders = [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)];
    let cast = Cast { nodes: 3, ..Cast::talking(4_000) };
    play(cast, orders, |stage, (first, second)| {
        stage.crash(first);
        stage.protected();
        stage.crash(second);
        stage.owned_by(3 - first - second);
        stage.run(100);
        stage.start(first);
        stage.start(second);
        stage.protected();
    });
}

/// Two die at once: what they held between them is over, and whoever asks for it is told; the rest goes on.
#[test]
fn two_of_three_that_die_at_once_cost_only_what_nobody_held() {
    let cast = Cast { nodes: 3, ..Cast::talking(30_000) };
    let counts = play(cast, [(0, 1), (1, 2)], |stage: &mut Stage, (one, other)| {
        for node in [one, other] {
            stage.fault(Fault::Crash { node, is_told: true });
        }
        stage.give_up();
        stage.owned_by(3 - one - other);
        stage.run(500);
        stage.start(one);
        stage.start(other);
        stage.protected();
    });
    assert!(counts.survived > 0 && counts.unheld > 0, "{counts}");
}
