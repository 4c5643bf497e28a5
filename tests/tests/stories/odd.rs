//! Nodes that are other ones than the rest.

use cluster::agent::Reason;
use cluster::id::NodeId;
use cluster::message::advertise::Unfit;
use tests::sim::named::{Cast, Stage, play};
use tests::sim::world::{Oddity, World};

/// The other node.
const OTHER: NodeId = NodeId(2);

/// Why node 1 has refused the other one as peer of its groups, each time.
fn refusals(world: &World) -> Vec<Unfit> {
    let groups = world.status(0).into_iter().flat_map(|status| status.groups);
    let reasons = groups.flat_map(|group| group.reasons);
    let refused = reasons.filter_map(|decision| match decision.reason {
        Reason::RefusedPeer(OTHER, why) => Some(why),
        _ => None,
    });
    refused.collect()
}

/// The other node dies and comes back as a stranger: it is nobody's peer, for this reason, and its return costs nothing.
/// Mended, it is the peer again, and carries on.
fn returns_as(oddity: Oddity, why: Option<Unfit>) {
    let cast = Cast { is_sealed: Some(true), ..Cast::talking(8_000) };
    play(cast, [()], |stage: &mut Stage, ()| {
        stage.crash(1);
        stage.owned_by(0);
        stage.world.set_oddity(1, Some(oddity));
        stage.start(1);
        stage.run(2_000);
        let has_peer = (0..stage.groups()).any(|n| stage.world.register(n).peer.is_some());
        stage.expect(!has_peer, "without a peer");
        // Once for each group; who is not understood declares nothing.
        let expected: Vec<Unfit> = why.into_iter().cycle().take(stage.groups()).collect();
        stage.expect(refusals(&stage.world) == expected, "refused with that reason");
        stage.crash(1);
        stage.world.set_oddity(1, None);
        stage.start(1);
        stage.protected();
        stage.outlive(0);
        stage.protected();
    });
}

#[test]
fn a_node_that_takes_less_is_nobodys_peer() {
    returns_as(Oddity::LowerLimits, Some(Unfit::LowerLimit("flows", 127, 128)));
}

#[test]
fn a_node_with_another_key_is_nobodys_peer() {
    returns_as(Oddity::OtherKey, None);
}

#[test]
fn a_node_of_another_behaviour_is_nobodys_peer() {
    returns_as(Oddity::OtherBehaviour, Some(Unfit::OtherBehaviour(2, 1)));
}
