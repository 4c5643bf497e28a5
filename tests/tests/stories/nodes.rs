//! Nodes that die and come back at awkward moments.

use tests::sim::fault::Fault;
use tests::sim::named::{Cast, Counts, Stage, play};

/// The dead owner is started again while its peer takes over.
#[test]
fn a_dead_owner_that_returns_at_once_takes_nothing_back() {
    play(Cast::talking(1_500), [0, 2, 10, 25, 40], |stage, after| {
        stage.crash(0);
        stage.run(after);
        stage.start(0);
        stage.owned_by(1);
        stage.protected();
    });
}

/// Whoever took over dies while the one that came back gets its copies. That one carries on what it holds whole, and
/// nothing of what it does not; whoever asks for one of these connections is told that it is over.
#[test]
fn who_came_back_carries_on_what_it_holds_whole_and_nothing_else() {
    let counts = play(Cast::talking(30_000), [1, 5, 12, 30, 60, 120, 250], |stage, after| {
        stage.outlive(0);
        stage.run(after);
        stage.crash(1);
        stage.give_up();
        stage.run(200);
        stage.start(1);
        stage.protected();
    });
    let Counts { survived, unheld, .. } = counts;
    assert!(survived > 0 && unheld > 0, "{survived} and {unheld}");
}

/// Whoever is being filled dies.
#[test]
fn a_peer_that_dies_while_it_is_filled_costs_nothing() {
    play(Cast::talking(2_500), [1, 5, 12, 30, 60, 120], |stage, after| {
        stage.outlive(1);
        stage.run(after);
        stage.crash(1);
        stage.run(300);
        stage.owned_by(0);
        stage.start(1);
        stage.protected();
    });
}

/// Either side dies at each step of a handover.
#[test]
fn a_handover_that_a_death_interrupts_costs_nothing() {
    let moments = (0..6).map(|n| n * 700);
    let cases = moments.flat_map(|us| [(us, 0), (us, 1)]);
    play(Cast::talking(1_500), cases, |stage, (us, dead)| {
        stage.fault(Fault::Handover { group: 0, to: 1 });
        stage.run_us(us);
        stage.crash(dead);
        stage.owned_by(1 - dead);
        stage.run(50);
        stage.start(dead);
        stage.protected();
    });
}

/// Nodes and witness lose power together and come back in any order: nobody holds anything any more, clients are told so,
/// and whoever comes is served.
#[test]
fn after_a_loss_of_power_everywhere_clients_are_told_and_newcomers_served() {
    let orders = [[0, 1, 2], [2, 1, 0], [1, 2, 0]];
    let counts = play(Cast::talking(30_000), orders, |stage: &mut Stage, order| {
        stage.fault(Fault::CrashWitness);
        (0..2).for_each(|node| stage.crash(node));
        stage.give_up();
        stage.run(300);
        for machine in order {
            let start = Fault::Start { node: machine };
            stage.fault(if machine == 2 { Fault::StartWitness } else { start });
            stage.run(30);
        }
        stage.protected();
        stage.enter(500);
    });
    assert!(counts.survived > 0 && counts.survived == counts.unheld, "{counts}");
}
