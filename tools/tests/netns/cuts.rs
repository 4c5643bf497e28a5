//! Cables that are cut on both sides or in one direction only, and whole sites without power.

use std::io::ErrorKind;

use dataplane::control::status::{Protection, Role};
use nix::sys::signal::Signal;
use tools::demo::KillMode;
use tools::demo::bed::{NODES, Place, run};
use tools::load::wire::monotonic_ns;

use crate::dialogue::{connect_echo, echo};
use crate::scene::{Scene, has_role, play};
use crate::traffic::Traffic;
use crate::{MIDDLE, SECONDS};

/// What becomes of half a cable: what a node says on the cluster link is lost, or what it is told.
enum Half {
    Said,
    Heard,
}

/// Has the switch drop that.
fn cut_half(scene: &Scene<'_>, node: u8, half: Half) {
    let way = match half {
        Half::Said => "iifname",
        Half::Heard => "oifname",
    };
    drop_frames(scene, &format!("{way} \"node{node}-eth1\""));
}

/// Has the switch drop such frames.
fn drop_frames(scene: &Scene<'_>, such: &str) {
    let rules = format!(
        "add table bridge half; \
         add chain bridge half way {{ type filter hook forward priority 0; policy accept; }}; \
         add rule bridge half way {such} drop"
    );
    run(scene.bed.command(Place::Switch, "nft").arg(rules)).unwrap();
}

fn join_half(scene: &Scene<'_>) {
    run(scene.bed.command(Place::Switch, "nft").arg("delete table bridge half")).unwrap();
}

/// The owner loses the cluster, and lives; the other one serves, and has it back as its peer when that is mended.
pub fn lose_the_cluster(
    scene: &mut Scene<'_>,
    cut: impl Fn(&Scene<'_>, u8),
    mend: impl Fn(&Scene<'_>, u8),
) {
    let mut traffic = Traffic::start(scene, SECONDS);
    traffic.until(MIDDLE);
    let (owner, survivor) = (scene.owner, scene.survivor());
    assert!(scene.frames_from(owner) > 0);
    let cut_ns = monotonic_ns();
    cut(scene, owner);
    scene.wait_owns(survivor);
    let said = scene.frames_from(owner);
    traffic.until(2 * MIDDLE);
    assert_eq!(scene.frames_from(owner), said, "an old epoch has spoken while cut off");
    mend(scene, owner);
    scene.wait_for("the old owner to be the peer", || {
        scene.cluster.status(owner).is_ok_and(|status| has_role(&status, Role::Peer))
    });
    assert_eq!(scene.wait_protected(), survivor);
    traffic.finish(scene, KillMode::Power, cut_ns);
    assert_eq!(scene.frames_from(owner), said, "the peer has spoken");
}

#[test]
fn an_owner_without_any_cable_lives_on_and_comes_back_as_peer() {
    play(|scene| {
        lose_the_cluster(
            scene,
            |scene, owner| scene.bed.node(owner).cut().unwrap(),
            |scene, owner| scene.bed.node(owner).restore().unwrap(),
        );
    });
}

#[test]
fn an_owner_that_nobody_hears_is_replaced() {
    play(|scene| {
        lose_the_cluster(
            scene,
            |scene, owner| cut_half(scene, owner, Half::Said),
            |scene, _| join_half(scene),
        );
    });
}

/// It is heard, and says that it has no lease; it does not hear that another one serves.
#[test]
fn an_owner_that_hears_nobody_is_replaced() {
    play(|scene| {
        lose_the_cluster(
            scene,
            |scene, owner| cut_half(scene, owner, Half::Heard),
            |scene, _| join_half(scene),
        );
    });
}

/// Only the peer has lost the witness: it could not take over, so its owner does not say that it is protected.
#[test]
fn an_owner_whose_peer_has_lost_the_witness_says_so() {
    play(|scene| {
        let (owner, peer) = (scene.owner, scene.survivor());
        drop_frames(scene, &format!("iifname \"node{peer}-eth1\" oifname \"witness-eth1\""));
        scene.wait_for("a status that shows the loss of the witness", || {
            let groups = scene.cluster.status(owner).unwrap().groups;
            groups.iter().all(|group| group.protection == Protection::UnprotectedNoArbiter)
        });
        join_half(scene);
        assert_eq!(scene.wait_protected(), owner);
    });
}

/// Nobody is left to say that the owner is alone: it waits until somebody is, and then goes on with every connection.
#[test]
fn with_witness_and_peer_gone_the_owner_waits_and_goes_on() {
    play(|scene| {
        let (owner, peer) = (scene.owner, scene.survivor());
        let mut stream = connect_echo(scene);
        echo(&mut stream, 1).unwrap();
        scene.cluster.kill_witness().unwrap();
        scene.cluster.signal(peer, Signal::SIGKILL).unwrap();
        scene.cluster.wait_gone(peer).unwrap();
        scene.wait_for("the owner to be silent", || {
            let status = scene.cluster.status(owner).unwrap();
            status.groups.iter().all(|group| group.lease_remaining_us == 0)
        });
        scene.cluster.start_witness().unwrap();
        echo(&mut stream, 2).unwrap();
        scene.cluster.revive(peer, KillMode::Sigkill).unwrap();
        assert_eq!(scene.wait_protected(), owner);
        scene.take_over(KillMode::Sigkill);
        echo(&mut stream, 3).unwrap();
    });
}

/// Nobody holds anything any more: clients get an answer instead of silence, and whoever comes is served.
#[test]
fn after_a_loss_of_power_everywhere_clients_are_answered_and_served() {
    play(|scene| {
        let mut old = connect_echo(scene);
        echo(&mut old, 1).unwrap();
        scene.cluster.kill_witness().unwrap();
        for node in NODES {
            scene.cluster.signal(node, Signal::SIGKILL).unwrap();
        }
        for node in NODES {
            scene.cluster.revive(node, KillMode::Sigkill).unwrap();
        }
        scene.cluster.start_witness().unwrap();
        scene.wait_protected();
        assert_eq!(echo(&mut old, 2).unwrap_err().kind(), ErrorKind::ConnectionReset);
        let mut new = connect_echo(scene);
        echo(&mut new, 3).unwrap();
    });
}
