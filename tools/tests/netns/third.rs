//! Three nodes share the services: two deaths one after the other, and both at once.

use std::io::{ErrorKind, Read, Write};

use dataplane::control::status::{Role, Status};
use tools::demo::KillMode;
use tools::demo::bed::Layout;

use super::traffic::Traffic;
use super::{MIDDLE, SECONDS};
use crate::dialogue::{connect_echo, echo};
use crate::scene::{Scene, has_role, play_on};

const THREE: u8 = 3;

fn with_three(story: impl FnOnce(&mut Scene<'_>)) {
    play_on(Layout { nodes: THREE, ..Layout::default() }, story);
}

/// Whether the copies of every service are complete at `peer`.
fn is_copied_to(status: &Status, peer: u8) -> bool {
    status.groups.iter().all(|group| group.peer == Some(peer) && group.in_sync)
}

/// Owner, peer and the third, which holds nothing. A service that begins takes whom it hears first for its peer, so two
/// services may differ; that they do not, the third begins anew and comes when all are protected.
fn roles(scene: &mut Scene<'_>) -> (u8, u8, u8) {
    let owner = scene.owner;
    let last = if owner == THREE { THREE - 1 } else { THREE };
    let peer = 6 - owner - last;
    scene.cluster.kill(last, KillMode::Sigkill).unwrap();
    scene.cluster.wait_gone(last).unwrap();
    scene.wait_for("one peer for every service", || {
        scene.cluster.status(owner).is_ok_and(|status| is_copied_to(&status, peer))
    });
    scene.cluster.revive(last, KillMode::Sigkill).unwrap();
    scene.wait_for("the third to know the others", || {
        scene.cluster.status(last).is_ok_and(|status| has_heard(&status, &[owner, peer]))
    });
    (owner, peer, last)
}

fn has_heard(status: &Status, others: &[u8]) -> bool {
    let heard = |other: &u8| {
        status
            .cluster
            .nodes
            .iter()
            .any(|node| node.node == *other && node.heartbeat_age_us.is_some())
    };
    others.iter().all(heard)
}

/// The owner dies and then its heir, or the peer and then the owner: the last of them carries every connection on.
fn two_deaths(does_owner_die_first: bool) {
    with_three(|scene| {
        let (owner, peer, last) = roles(scene);
        let mut traffic = Traffic::start(scene, 2 * SECONDS);
        let mut idle = connect_echo(scene);
        echo(&mut idle, 1).unwrap();
        traffic.until(MIDDLE / 2);
        let (first, second) = if does_owner_die_first { (owner, peer) } else { (peer, owner) };
        let killed_ns = scene.cluster.kill(first, KillMode::Sigkill).unwrap();
        scene.cluster.wait_gone(first).unwrap();
        scene.wait_for("the last node to hold every copy", || {
            let status = scene.cluster.status(second);
            status.is_ok_and(|s| has_role(&s, Role::Owner) && is_copied_to(&s, last))
        });
        echo(&mut idle, 2).unwrap();
        scene.cluster.kill(second, KillMode::Sigkill).unwrap();
        scene.cluster.wait_gone(second).unwrap();
        scene.wait_owns(last);
        traffic.assert_still_running();
        echo(&mut idle, 3).unwrap();
        traffic.finish(scene, KillMode::Sigkill, killed_ns);
    });
}

#[test]
fn the_owner_and_then_its_heir_die() {
    two_deaths(true);
}

#[test]
fn the_peer_and_then_the_owner_die() {
    two_deaths(false);
}

/// Nobody holds the connections any more: the next in the order serves, and says so to whoever asks.
///
/// Two signals are never one moment, and a survivor could fill the third in between. So the witness is stopped while they
/// die: without it nobody can be named peer.
#[test]
fn when_owner_and_peer_die_at_once_the_third_answers_their_clients() {
    with_three(|scene| {
        let (owner, peer, last) = roles(scene);
        let mut idle = connect_echo(scene);
        echo(&mut idle, 1).unwrap();
        scene.cluster.stop_witness().unwrap();
        for node in [owner, peer] {
            scene.cluster.kill(node, KillMode::Sigkill).unwrap();
        }
        for node in [owner, peer] {
            scene.cluster.wait_gone(node).unwrap();
        }
        scene.cluster.resume_witness().unwrap();
        scene.wait_owns(last);
        let _ = idle.write_all(b"is anybody there?");
        let answer = idle.read(&mut [0; 16]).map_err(|error| error.kind());
        assert_eq!(answer, Err(ErrorKind::ConnectionReset), "a reset, not silence");
        let mut fresh = connect_echo(scene);
        echo(&mut fresh, 2).unwrap();
    });
}

/// Two lose their power at once and nothing tells: the third waits for the operator's word, and then serves.
#[test]
fn after_a_loss_of_power_of_two_the_third_serves_on_the_operators_word() {
    with_three(|scene| {
        let (owner, peer, last) = roles(scene);
        let mut idle = connect_echo(scene);
        echo(&mut idle, 1).unwrap();
        let confirm = |scene: &Scene<'_>, node: u8, more: &[&str]| {
            let node = node.to_string();
            scene.understudy(last, &[&["confirm-dead", &node], more].concat())
        };
        let refused = confirm(scene, owner, &["--it-is-off"]).unwrap_err();
        assert!(refused.contains("lives"), "{refused}");
        for node in [owner, peer] {
            scene.cluster.kill(node, KillMode::Power).unwrap();
        }
        for node in [owner, peer] {
            scene.cluster.wait_gone(node).unwrap();
        }
        let refused = confirm(scene, owner, &[]).unwrap_err();
        assert!(refused.contains("--it-is-off"), "{refused}");
        for node in [owner, peer] {
            scene.wait_for("the node to be silent for long enough", || {
                confirm(scene, node, &["--it-is-off"]).is_ok()
            });
        }
        scene.wait_owns(last);
        let why = scene.done(last, &["why", "echo"]);
        assert!(why.contains(&format!("an operator has said that node {owner} is dead")), "{why}");
        let _ = idle.write_all(b"is anybody there?");
        let answer = idle.read(&mut [0; 16]).map_err(|error| error.kind());
        assert_eq!(answer, Err(ErrorKind::ConnectionReset));
        let mut fresh = connect_echo(scene);
        echo(&mut fresh, 2).unwrap();
    });
}
