//! What nodes declare: everybody knows it, and a node that cannot hold what it would be given is refused.

use std::fs;

use super::CONNECTIONS;
use crate::dialogue::connect_echo;
use crate::scene::play;
use dataplane::control::status::{Protection, Role, Status};
use tools::demo::KillMode;
use tools::demo::bed::NODES;
use tools::demo::files::SERVICES;

#[test]
fn a_peer_with_lower_limits_is_refused_and_says_why() {
    play(|scene| {
        let (owner, peer) = (scene.owner, scene.survivor());
        let text = scene.done(peer, &["ownership", "--solicit"]);
        assert!(
            text.contains(&format!("node {owner} (life")) && text.contains("owns it"),
            "{text}"
        );
        assert!(!text.contains("UNFIT") && !text.contains("DIFFERS"), "{text}");
        let config = scene.cluster.config(peer).to_path_buf();
        let good = fs::read_to_string(&config).unwrap();
        fs::write(&config, format!("{good}\n[limits]\nflows = 1024\n")).unwrap();
        scene.cluster.kill(peer, KillMode::Sigkill).unwrap();
        scene.cluster.revive(peer, KillMode::Sigkill).unwrap();
        let why = "its limit `flows` is 1024, lower than the owner's 65536";
        scene.wait_for("both nodes to show that it is refused", || {
            [owner, peer].iter().all(|node| {
                let groups = scene.cluster.status(*node).unwrap().groups;
                let refused = groups.iter().flat_map(|group| &group.declared);
                let refused = refused.filter(|declared| declared.node == peer);
                refused.filter(|declared| declared.unfit.as_deref() == Some(why)).count()
                    == SERVICES.len()
            })
        });
        let status = scene.cluster.status(owner).unwrap();
        assert_eq!(status.cluster.agent["refused_peers"], SERVICES.len() as u64, "once for each");
        let groups = status.groups;
        assert!(groups.iter().all(|group| group.protection == Protection::UnprotectedNoPeer));
        let text = scene.done(owner, &["why", "web"]);
        assert!(text.contains(&format!("refused node {peer} as peer: {why}")), "{text}");
        assert!(scene.done(peer, &["status"]).contains("UNFIT"));
        // Mended, it is taken again.
        fs::write(&config, good).unwrap();
        scene.cluster.kill(peer, KillMode::Sigkill).unwrap();
        scene.cluster.revive(peer, KillMode::Sigkill).unwrap();
        assert_eq!(scene.wait_protected(), owner);
    });
}

#[test]
fn any_node_shows_the_whole_cluster() {
    play(|scene| {
        let (owner, peer) = (scene.owner, scene.survivor());
        let _idle: Vec<_> = (0..CONNECTIONS).map(|_| connect_echo(scene)).collect();
        let shows_all = |status: &Status| {
            let row = |node: u8, role: Role| {
                let mut rows = status.cluster.standings.iter();
                rows.find(|row| (row.service.as_str(), row.node, row.role) == ("echo", node, role))
            };
            let serves = row(owner, Role::Owner)
                .is_some_and(|row| (row.flows, row.flows_copied) == (CONNECTIONS, CONNECTIONS));
            let holds = row(peer, Role::Peer).is_some_and(|row| row.flows == CONNECTIONS);
            let others = status.cluster.nodes.iter().all(|node| {
                node.version == status.version
                    && node.lease_us.is_some()
                    && node.path.answering == 1
            });
            serves && holds && others
        };
        for node in NODES {
            scene.wait_for("a node to show the whole cluster", || {
                shows_all(&scene.cluster.status(node).unwrap())
            });
            let text = scene.done(node, &["status"]);
            assert!(text.contains(&format!("serves, node {peer} is in sync")), "{text}");
            assert!(text.contains(&format!("in sync with node {owner}")), "{text}");
        }
    });
}
