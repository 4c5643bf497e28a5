//! The cluster link is sealed: who has another key, or none, is shown and changes nothing.

use std::fs;
use std::net::UdpSocket;
use std::path::Path;

use cluster::id::{Incarnation, Member, NodeId};
use cluster::message::{Header, Message, any_life, encode};
use dataplane::control::status::{Role, Status};
use dataplane::node::cluster_id;
use dataplane::sealing::write_new_key;
use stack::time::Instant;
use tools::demo::KillMode;
use tools::demo::bed::{ECHO_ADDRESS, Place};
use tools::demo::files::CLUSTER;

use crate::dialogue::{Chat, connect_echo, echo};
use crate::scene::{Scene, has_role, play};

/// What the configuration of a node says of keys, when the bed is built.
const BUILT_WITH: &str = "key_files = [\"cluster.key\"]";

/// Ports of agents and of mirrored records.
const PORTS: [u16; 2] = [7946, 7947];

/// Gives a node another line about keys; it reads it when it is started next.
fn configure(scene: &Scene<'_>, node: u8, line: &str) {
    let file = scene.dir.join(format!("node{node}.toml"));
    let text = fs::read_to_string(&file).unwrap();
    let is_it = |line: &&str| line.starts_with("key_files") || line.starts_with("seal");
    let old = text.lines().find(is_it).unwrap_or(BUILT_WITH).to_string();
    fs::write(&file, text.replace(&old, line)).unwrap();
}

/// Ends a node's life and begins the next one.
fn restart(scene: &mut Scene<'_>, node: u8) {
    scene.cluster.kill(node, KillMode::Sigkill).unwrap();
    scene.cluster.revive(node, KillMode::Sigkill).unwrap();
}

/// The same for a peer; then waits until that new life holds the copies.
fn restart_peer(scene: &mut Scene<'_>, peer: u8) {
    restart(scene, peer);
    scene.wait_for("the next life of the peer to be the peer", || {
        scene.cluster.status(peer).is_ok_and(|status| has_role(&status, Role::Peer))
    });
    assert_ne!(scene.wait_protected(), peer);
}

fn restart_witness(scene: &mut Scene<'_>, keys: &[&str]) {
    let keys: Vec<_> = keys.iter().map(|key| scene.dir.join(key)).collect();
    scene.cluster.kill_witness().unwrap();
    scene.cluster.start_witness_under(&keys).unwrap();
}

/// Why a node does not understand another one, as its status has it.
fn refusal(scene: &Scene<'_>, node: u8, other: u8) -> Option<String> {
    let status = scene.cluster.status(node).ok()?;
    let other = status.cluster.nodes.into_iter().find(|shown| shown.node == other)?;
    other.sealed.refused
}

fn unopened(status: &Status, reason: &str) -> u64 {
    status.cluster.sealing.get(reason).copied().unwrap_or(0)
}

#[test]
fn a_node_with_another_key_is_shown_on_both_sides_and_not_taken_for_dead() {
    play(|scene| {
        let (owner, other) = (scene.owner, scene.survivor());
        let mut idle = connect_echo(scene);
        write_new_key(&scene.dir.join("other.key")).unwrap();
        configure(scene, other, "key_files = [\"other.key\"]");
        restart(scene, other);
        for (node, stranger) in [(owner, other), (other, owner)] {
            let is_shown = || {
                let why = refusal(scene, node, stranger);
                why.is_some_and(|why| why.contains("under a key that this node does not hold"))
            };
            scene.wait_for(&format!("node {node} to show node {stranger}"), is_shown);
            let status = scene.cluster.status(node).unwrap();
            assert!(unopened(&status, "other_key") > 0, "{:?}", status.cluster.sealing);
            let text = scene.done(node, &["status"]);
            assert!(text.contains("NOT UNDERSTOOD"), "{text}");
        }
        let status = scene.cluster.status(other).unwrap();
        assert!(!status.groups.iter().any(|group| group.role == Role::Owner));
        echo(&mut idle, 1).unwrap();
        // With the right one it is the peer again.
        configure(scene, other, BUILT_WITH);
        restart_peer(scene, other);
        assert_eq!(refusal(scene, owner, other), None);
        echo(&mut idle, 2).unwrap();
    });
}

/// Sends datagrams out of a machine, to both ports of a node.
fn send_from(scene: &Scene<'_>, place: Place, node: u8, datagrams: &[Vec<u8>]) {
    let namespace = Path::new("/run/netns").join(scene.bed.namespace(place));
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            dataplane::sys::enter_network_namespace(&namespace).unwrap();
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            for (datagram, port) in datagrams.iter().flat_map(|d| PORTS.map(|port| (d, port))) {
                socket.send_to(datagram, (format!("10.99.0.{node}"), port)).unwrap();
            }
        });
        thread.join().unwrap();
    });
}

#[test]
fn forged_datagrams_are_dropped_and_counted() {
    play(|scene| {
        let (owner, peer) = (scene.owner, scene.survivor());
        let mut idle = connect_echo(scene);
        let life = |node: u8| {
            let status = scene.cluster.status(node).unwrap();
            let incarnation = u64::from_str_radix(&status.incarnation, 16).unwrap();
            Member { node: NodeId(node), incarnation: Incarnation(incarnation) }
        };
        let epochs = |scene: &Scene<'_>| {
            let status = scene.cluster.status(owner).unwrap();
            status.groups.iter().map(|group| group.epoch).collect::<Vec<_>>()
        };
        let before = epochs(scene);
        for (from, to) in [(owner, peer), (peer, owner)] {
            let header =
                Header { cluster: cluster_id(CLUSTER), from: life(from), to: any_life(NodeId(to)) };
            let surrender = encode(header, &Message::Surrender { at: Instant(u64::MAX / 2) });
            let group = cluster::id::GroupId::new(0, 0);
            let solicit = encode(header, &Message::Solicit { group });
            // What looks sealed: a message, a mirror datagram and a statement of nobody.
            let sealed = [1, 2, 3].map(|kind| [&[0xa1, 0x5e, 3, kind][..], &[0; 100]].concat());
            let datagrams = [&[surrender, solicit][..], &sealed[..]].concat();
            for place in [Place::Witness, Place::Node(from)] {
                send_from(scene, place, to, &datagrams);
            }
            let is_counted = || {
                let Ok(status) = scene.cluster.status(to) else { return false };
                let link = |reason: &str| status.cores[0].drops.get(reason).copied().unwrap_or(0);
                unopened(&status, "unsealed") >= 4
                    && unopened(&status, "unknown_session") >= 2
                    && unopened(&status, "other_key") >= 2
                    && link("link_unsealed") >= 4
                    && link("link_unknown_session") >= 2
            };
            scene.wait_for(&format!("node {to} to count what was forged"), is_counted);
        }
        echo(&mut idle, 1).unwrap();
        assert_eq!(scene.wait_protected(), owner);
        assert_eq!(epochs(scene), before, "nobody took anything over");
    });
}

#[test]
fn a_key_is_changed_node_by_node_under_traffic() {
    play(|scene| {
        let mut idle = connect_echo(scene);
        let chat = Chat::start(scene.connect(ECHO_ADDRESS, 7).unwrap());
        write_new_key(&scene.dir.join("new.key")).unwrap();
        let steps: [&[&str]; 2] = [&["new.key", "cluster.key"], &["new.key"]];
        for (n, keys) in (0..).zip(steps) {
            restart_witness(scene, keys);
            for _ in 0..2 {
                // The peer first; after the takeover the other one is that.
                let peer = scene.survivor();
                configure(scene, peer, &format!("key_files = {keys:?}"));
                restart_peer(scene, peer);
                let heir = scene.survivor();
                let owner = scene.owner;
                scene.take_over(KillMode::Sigkill);
                configure(scene, owner, &format!("key_files = {keys:?}"));
                scene.cluster.revive(owner, KillMode::Sigkill).unwrap();
                assert_eq!(scene.wait_protected(), heir);
                scene.owner = heir;
            }
            echo(&mut idle, n).unwrap();
        }
        let status = scene.cluster.status(scene.owner).unwrap();
        assert_eq!(status.cluster.keys.len(), 1);
        let peer = status.cluster.nodes.iter().find(|node| node.node == scene.survivor());
        assert_eq!(peer.unwrap().sealed.key.as_ref(), status.cluster.keys.first());
        assert!(chat.finish() > 0);
    });
}

#[test]
fn a_cluster_that_seals_nothing_says_so_in_every_view() {
    play(|scene| {
        restart_witness(scene, &[]);
        for node in [scene.survivor(), scene.owner] {
            configure(scene, node, "seal = \"none\"");
        }
        // The one that is still sealed does not understand the other.
        let (owner, other) = (scene.owner, scene.survivor());
        restart(scene, other);
        scene.wait_for("the sealed one to show it", || {
            refusal(scene, owner, other).is_some_and(|why| why.contains("does not seal"))
        });
        scene.cluster.kill(owner, KillMode::Sigkill).unwrap();
        scene.cluster.revive(owner, KillMode::Sigkill).unwrap();
        let owner = scene.wait_protected();
        let roles = scene.cluster.status(owner).unwrap();
        assert!(has_role(&roles, Role::Owner));
        assert_eq!(roles.cluster.seal, "none");
        for words in [&["status"][..], &["why", "web"]] {
            let text = scene.done(owner, words);
            assert!(text.contains("NOT SEALED"), "{text}");
        }
    });
}
