//! `understudy doctor` on a node's machine: what it says of the machine, its links, and the ways of hearing.

use serde_json::Value;
use tools::demo::bed::{Layout, Place, Snoop};

use crate::scene::{Scene, UNDERSTUDY, play_on};

/// What it finds on a node's machine, and whether it thinks that a node can run there.
fn doctor(scene: &Scene<'_>, node: u8) -> (Vec<(String, String, String)>, bool) {
    let mut command = scene.bed.command(Place::Node(node), UNDERSTUDY);
    let output =
        command.arg("doctor").arg(scene.cluster.config(node)).arg("--json").output().unwrap();
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let finding = |finding: &Value| {
        let word = |name: &str| finding[name].as_str().unwrap().to_string();
        (word("topic"), word("level"), word("says"))
    };
    (told["findings"].as_array().unwrap().iter().map(finding).collect(), output.status.success())
}

/// Which of the ways of hearing work, as it says; every one must have been probed.
fn ways(findings: &[(String, String, String)]) -> [bool; 3] {
    ["flooded", "group", "hub or mirror"].map(|way| {
        let topic = format!("hearing: {way}");
        let of_way = findings.iter().find(|(of, ..)| *of == topic);
        let (_, _, says) = of_way.unwrap_or_else(|| panic!("nothing about {topic}: {findings:#?}"));
        assert!(says.starts_with("works") || says.starts_with("does not work"), "{topic}: {says}");
        says.starts_with("works")
    })
}

/// A switch that has learnt where the owner is repeats nothing, and floods what it does not know until it is told not to.
#[test]
fn the_ways_of_hearing_are_probed_beside_running_nodes() {
    play_on(Layout::default(), |scene| {
        let peer = scene.survivor();
        assert_eq!(ways(&doctor(scene, peer).0), [true, true, false]);
        let port = format!("link set node{peer}-eth0 type bridge_slave flood off mcast_flood off");
        scene.ip(Place::Switch, &port);
        assert_eq!(ways(&doctor(scene, peer).0), [false, false, false]);
    });
    play_on(Layout { snoop: Snoop::Hub, ..Layout::default() }, |scene| {
        let (findings, _) = doctor(scene, scene.survivor());
        assert_eq!(ways(&findings), [true, true, true]);
    });
}

#[test]
fn a_machine_without_its_node_is_looked_at_whole() {
    play_on(Layout::default(), |scene| {
        let peer = scene.survivor();
        scene.cluster.signal(peer, nix::sys::signal::Signal::SIGKILL).unwrap();
        scene.cluster.wait_gone(peer).unwrap();
        let (findings, can_run) = doctor(scene, peer);
        assert!(can_run, "{findings:#?}");
        assert_eq!(ways(&findings), [true, true, false]);
        let says = |topic: &str, words: &str| {
            findings
                .iter()
                .any(|(of, level, says)| of == topic && level == "ok" && says.contains(words))
        };
        for (topic, words) in [
            ("kernel", "AF_XDP"),
            ("client link", "generic path"),
            ("cluster link", "generic path"),
            (&format!("node {}", scene.owner), "to packets of 1500 bytes too"),
            ("witness", "to packets of 1500 bytes too"),
        ] {
            assert!(says(topic, words), "{topic} says nothing of {words:?}: {findings:#?}");
        }
        // A switch that takes less than the interfaces, an interface that is down, an address at the wrong place.
        let node = Place::Node(peer);
        scene.ip(Place::Switch, &format!("link set node{}-eth1 mtu 1400", scene.owner));
        scene.ip(node, "addr add 10.88.0.100/32 dev lo");
        let (findings, can_run) = doctor(scene, peer);
        let problems = |findings: &[(String, String, String)]| {
            let problems = findings.iter().filter(|(_, level, _)| level == "problem");
            problems.map(|(topic, ..)| topic.clone()).collect::<Vec<_>>()
        };
        assert!(!can_run);
        assert_eq!(problems(&findings), ["addresses".to_string(), format!("node {}", scene.owner)]);
        scene.ip(node, "link set eth0 down");
        assert!(problems(&doctor(scene, peer).0).contains(&"client link".to_string()));
    });
}
