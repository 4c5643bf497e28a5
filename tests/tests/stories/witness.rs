//! The witness is gone, unheard, or not to be believed; or there is none.

use cluster::agent::{Arbiter, Survivor};
use cluster::id::NodeId;
use tests::sim::fault::Fault;
use tests::sim::named::{Cast, play};
use tests::sim::network::Plug;

/// Nobody is left to say that the owner is alone: it waits, and goes on when the witness is back.
#[test]
fn with_witness_and_peer_down_every_connection_waits_and_goes_on() {
    play(Cast::talking(10_000), [true, false], |stage, is_witness_first| {
        let witness = Fault::CrashWitness;
        let peer = Fault::Crash { node: 1, is_told: false };
        let [first, second] = if is_witness_first { [witness, peer] } else { [peer, witness] };
        stage.fault(first);
        stage.run(5);
        stage.fault(second);
        stage.run(3_000);
        stage.expect_silence();
        stage.fault(Fault::StartWitness);
        stage.owned_by(0);
        stage.start(1);
        stage.protected();
    });
}

/// It hears everything and is not heard, at each moment of a takeover.
#[test]
fn lost_answers_of_the_witness_only_delay() {
    play(Cast::talking(2_500), [0, 10, 25, 40, 60], |stage, after| {
        stage.crash(0);
        stage.run(after);
        (0..2).for_each(|node| stage.set_deaf(Plug::Witness, Plug::Node(node), true));
        stage.run(400);
        (0..2).for_each(|node| stage.set_deaf(Plug::Witness, Plug::Node(node), false));
        stage.owned_by(1);
        stage.start(0);
        stage.protected();
    });
}

/// It comes back with a store from before two changes of owner: nobody believes it, so an owner whose peer dies then waits
/// until an operator lets it collect what the nodes know.
#[test]
fn a_witness_with_an_old_store_is_not_believed() {
    play(Cast::talking(30_000), [()], |stage, ()| {
        let old = stage.world.witness_store();
        stage.outlive(0);
        stage.protected();
        stage.fault(Fault::CrashWitness);
        stage.world.replace_witness_store(old, false);
        stage.fault(Fault::StartWitness);
        stage.crash(0);
        stage.run(4_000);
        stage.expect_silence();
        stage.fault(Fault::CrashWitness);
        stage.world.replace_witness_store(None, true);
        stage.fault(Fault::StartWitness);
        stage.owned_by(1);
        stage.start(0);
        stage.protected();
    });
}

/// Only one of the two has lost it.
#[test]
fn a_witness_that_one_node_has_lost_costs_nothing() {
    play(Cast::talking(6_000), [0, 1], |stage, node| {
        stage.set_cut(Plug::Witness, Plug::Node(node), true);
        stage.run(3_000);
        stage.set_cut(Plug::Witness, Plug::Node(node), false);
        stage.protected();
    });
}

/// A node comes back that the witness has never heard: it is nobody's peer, and carries nothing on, until it is heard.
#[test]
fn a_node_that_the_witness_has_never_heard_is_nobodys_peer() {
    play(Cast::talking(6_000), [()], |stage, ()| {
        stage.crash(1);
        stage.owned_by(0);
        stage.set_cut(Plug::Witness, Plug::Node(1), true);
        stage.start(1);
        stage.run(2_000);
        let has_peer = (0..stage.groups()).any(|n| stage.world.register(n).in_sync);
        stage.expect(!has_peer, "without a peer");
        stage.set_cut(Plug::Witness, Plug::Node(1), false);
        stage.protected();
        stage.outlive(0);
        stage.protected();
    });
}

/// What happens where there is no arbiter, and node 1 is the survivor.
#[derive(Clone, Copy, Debug)]
enum Loss {
    /// Its peer dies.
    Peer,
    /// It dies, its guardian says so at once, and it is started again.
    Survivor,
    /// They lose each other.
    Link,
}

/// Without an arbiter only the named survivor goes on by itself; the other one does when it was told of that one's death,
/// and the next life of it lends it its voice.
#[test]
fn without_an_arbiter_the_survivor_goes_on() {
    let arbiter = Arbiter::None { survivor: Survivor::Node(NodeId(1)) };
    let cast = Cast { arbiter, ..Cast::talking(4_000) };
    play(cast, [Loss::Peer, Loss::Survivor, Loss::Link], |stage, loss| {
        match loss {
            Loss::Peer => stage.crash(1),
            Loss::Survivor => {
                stage.fault(Fault::Crash { node: 0, is_told: true });
                stage.run(300);
                stage.start(0);
            }
            Loss::Link => stage.set_cut(Plug::Node(0), Plug::Node(1), true),
        }
        stage.owned_by(if matches!(loss, Loss::Survivor) { 1 } else { 0 });
        stage.run(500);
        stage.set_cut(Plug::Node(0), Plug::Node(1), false);
        (0..2).for_each(|node| stage.start(node));
        stage.protected();
    });
}
