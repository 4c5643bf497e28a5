//! A peer that hears what clients say to the owner, in each way in which frames can reach it.

use std::io::{Read, Write};

use super::dialogue::{connect_echo, echo};
use crate::scene::{Scene, play_on};
use tools::demo::KillMode;
use tools::demo::bed::{ECHO_ADDRESS, Layout, Snoop};
use tools::demo::files::{group_mac, virtual_mac};

/// A small request, of which there is no second segment that could make up for it.
const REQUEST: &[u8] = b"a small request";

/// What a node has counted under this name.
fn counted(scene: &Scene<'_>, node: u8, name: &str) -> u64 {
    let status = scene.cluster.status(node).unwrap();
    status.cores.iter().filter_map(|core| core.events.get(name)).sum()
}

/// How much of what clients send to the echo service the peer hears.
fn hears_percent(scene: &Scene<'_>, node: u8) -> Option<u8> {
    let status = scene.cluster.status(node).unwrap();
    status.groups.iter().find(|group| group.service == "echo").unwrap().hears_percent
}

/// A request leaves while its owner is stopped, so that it is never processed there; then the owner dies.
fn a_request_outlives_its_owner(snoop: Snoop) {
    play_on(Layout { snoop, ..Layout::default() }, |scene| {
        let mut stream = connect_echo(scene);
        echo(&mut stream, 1).unwrap();
        match snoop {
            Snoop::Flooded => assert_eq!(scene.neighbor(ECHO_ADDRESS), virtual_mac(1)),
            Snoop::Group => assert_eq!(scene.neighbor(ECHO_ADDRESS), group_mac(1)),
            Snoop::Off | Snoop::Hub | Snoop::PortDown => {}
        }
        let peer = scene.survivor();
        scene.wait_for("all to be heard", || hears_percent(scene, peer) == Some(100));
        let idle = scene.cluster.status(peer).unwrap().steering[0].frames["drop_idle"];
        assert!(idle > 0, "an acknowledgement has reached the core of the peer");
        assert_eq!(counted(scene, peer, "heard_idle"), 0);
        let before = counted(scene, peer, "heard_kept");
        scene.cluster.stop(scene.owner).unwrap();
        stream.write_all(REQUEST).unwrap();
        scene.wait_for("the peer to have heard it", || counted(scene, peer, "heard_kept") > before);
        scene.take_over(KillMode::Sigkill);
        let mut answer = [0; REQUEST.len()];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer, REQUEST);
        assert!(counted(scene, peer, "heard_used") > 0);
        echo(&mut stream, 2).unwrap();
    });
}

#[test]
fn what_is_sent_to_a_flooded_mac_outlives_its_owner() {
    a_request_outlives_its_owner(Snoop::Flooded);
}

#[test]
fn what_is_sent_to_a_group_outlives_its_owner() {
    a_request_outlives_its_owner(Snoop::Group);
}

#[test]
fn what_a_hub_repeats_outlives_its_owner() {
    a_request_outlives_its_owner(Snoop::Hub);
}

/// A switch forgets what it had learnt of a port that goes down, and floods: nothing need be set up for that.
#[test]
fn what_is_sent_after_a_port_went_down_is_heard() {
    play_on(Layout { snoop: Snoop::PortDown, ..Layout::default() }, |scene| {
        let mut stream = connect_echo(scene);
        echo(&mut stream, 1).unwrap();
        let peer = scene.survivor();
        scene.wait_for("the log to have told of it", || hears_percent(scene, peer).is_some());
        assert_eq!(hears_percent(scene, peer), Some(0), "a switch that has learnt keeps to it");
        scene.cluster.kill(scene.owner, KillMode::Power).unwrap();
        stream.write_all(REQUEST).unwrap();
        scene.wait_owns(peer);
        let mut answer = [0; REQUEST.len()];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer, REQUEST);
        assert!(counted(scene, peer, "heard_used") > 0);
    });
}
