//! The real program in network namespaces, against the kernel's own TCP.
//!
//! Each test builds its own bed (client, switch, two nodes, witness), waits until the pair is
//! protected, does something to it, and asks one thing of every connection: that it ended as it
//! should, byte for byte. Times are printed, never asserted. Tests take turns, because two nodes
//! and their clients need what cores there are. They need root and AF_XDP; without, they fail and
//! say so. A test that fails shows the ends of the logs and the status of both nodes.

#[path = "netns/arp.rs"]
mod arp;
#[path = "netns/control.rs"]
mod control;
#[path = "netns/cores.rs"]
mod cores;
#[path = "netns/cuts.rs"]
mod cuts;
#[path = "netns/dialogue.rs"]
mod dialogue;
#[path = "netns/doctor.rs"]
mod doctor;
#[path = "netns/failback.rs"]
mod failback;
#[path = "netns/guardian.rs"]
mod guardian;
#[path = "netns/handover.rs"]
mod handover;
#[path = "netns/kernels.rs"]
mod kernels;
#[path = "netns/link.rs"]
mod link;
#[path = "netns/log.rs"]
mod log;
#[path = "netns/metrics.rs"]
mod metrics;
#[path = "netns/ownership.rs"]
mod ownership;
#[path = "netns/proxy.rs"]
mod proxy;
#[path = "netns/reload.rs"]
mod reload;
#[path = "netns/scene.rs"]
mod scene;
#[path = "netns/seal.rs"]
mod seal;
#[path = "netns/servers.rs"]
mod servers;
#[path = "netns/snoop.rs"]
mod snoop;
#[path = "netns/third.rs"]
mod third;
#[path = "netns/traffic.rs"]
mod traffic;

use std::io::ErrorKind;
use std::time::Duration;

use dataplane::control::status::{Protection, Role};
use dataplane::port::BURST;
use dialogue::{Browser, Chat, connect_echo, echo};
use scene::{Scene, UNDERSTUDY, has_role, play, play_on};
use tools::demo::KillMode;
use tools::demo::bed::{ECHO_ADDRESS_6, Layout, NODES, Place, SERVICE_ADDRESS, SERVICE_ADDRESS_6};
use tools::demo::files::SERVICES;
use tools::load::pattern;
use tools::load::wire::monotonic_ns;
use traffic::Traffic;

/// Seconds that the transfers last.
const SECONDS: u64 = 4;

/// Per cent of the download before anything happens.
const MIDDLE: u64 = 30;

/// How long nobody must answer to be taken for silent.
const SILENCE: Duration = Duration::from_secs(1);

/// Connections of each kind in the tests that drive them one by one.
const CONNECTIONS: u64 = 12;

/// What `curl` downloads under a limit of its own: it takes megabytes at once, if they are there, before the limit counts.
const LIMITED_BYTES: u64 = 40_000_000;

#[test]
fn transfers_survive_a_killed_owner() {
    play(|scene| {
        let mut traffic = Traffic::start(scene, SECONDS);
        traffic.until(MIDDLE);
        let killed_ns = scene.take_over(KillMode::Sigkill);
        traffic.assert_still_running();
        traffic.finish(scene, KillMode::Sigkill, killed_ns);
    });
}

#[test]
fn transfers_in_jumbo_frames_survive_a_killed_owner() {
    play_on(Layout { mtu: 9000, link_mtu: 9000, ..Layout::default() }, |scene| {
        let mut traffic = Traffic::start(scene, SECONDS);
        traffic.until(MIDDLE);
        let killed_ns = scene.take_over(KillMode::Sigkill);
        traffic.assert_still_running();
        traffic.finish(scene, KillMode::Sigkill, killed_ns);
    });
}

#[test]
fn transfers_survive_the_loss_of_power() {
    play(|scene| {
        let mut traffic = Traffic::start(scene, SECONDS);
        traffic.until(MIDDLE);
        let killed_ns = scene.take_over(KillMode::Power);
        traffic.assert_still_running();
        traffic.finish(scene, KillMode::Power, killed_ns);
    });
}

#[test]
fn a_hanging_owner_comes_back_as_peer_and_disturbs_nobody() {
    play(|scene| {
        let mut traffic = Traffic::start(scene, SECONDS);
        traffic.until(MIDDLE);
        let (owner, survivor) = (scene.owner, scene.survivor());
        let stopped_ns = scene.take_over(KillMode::Sigstop);
        let said = scene.frames_from(owner);
        scene.cluster.resume(owner).unwrap();
        traffic.assert_still_running();
        scene.wait_for("the resumed node to be the peer", || {
            scene.cluster.status(owner).is_ok_and(|status| has_role(&status, Role::Peer))
        });
        assert_eq!(scene.wait_protected(), survivor);
        traffic.finish(scene, KillMode::Sigstop, stopped_ns);
        scene.wait_owns(survivor);
        // It may have been stopped between its last look at the lease and the kick.
        let late = scene.frames_from(owner) - said;
        assert!(late <= BURST as u64, "{late} frames of an old epoch");
    });
}

/// Clients still reach the old owner, and it lives; but what they send it can no longer mirror.
#[test]
fn an_owner_cut_off_from_the_cluster_says_nothing_more() {
    play(|scene| {
        let set = |scene: &Scene<'_>, owner: u8, state: &str| {
            scene.ip(Place::Switch, &format!("link set node{owner}-eth1 {state}"));
        };
        let cut = |scene: &Scene<'_>, owner| set(scene, owner, "down");
        cuts::lose_the_cluster(scene, cut, |scene, owner| set(scene, owner, "up"));
    });
}

#[test]
fn an_owner_cut_off_from_its_clients_hands_over() {
    play(|scene| lose_the_clients(scene, "down", "up"));
}

/// The cable is in, and behind it is nothing: only the next hop's silence tells.
#[test]
fn an_owner_whose_next_hop_is_silent_hands_over() {
    play(|scene| lose_the_clients(scene, "nomaster", "master br0"));
}

/// Does something to the switch's port towards the owner, and undoes it.
fn lose_the_clients(scene: &mut Scene<'_>, lost: &str, found: &str) {
    let mut traffic = Traffic::start(scene, SECONDS);
    traffic.until(MIDDLE);
    let (owner, survivor) = (scene.owner, scene.survivor());
    let port = |state: &str| format!("link set node{owner}-eth0 {state}");
    let cut_ns = monotonic_ns();
    scene.ip(Place::Switch, &port(lost));
    scene.wait_owns(survivor);
    traffic.assert_still_running();
    assert_eq!(scene.wait_protected(), survivor, "a planned handover leaves a peer in sync");
    let status = scene.cluster.status(owner).unwrap();
    let handed = status.groups.iter().filter_map(|group| group.last_handover.as_ref());
    let causes: Vec<_> = handed.map(|handed| (handed.cause.as_str(), handed.lost)).collect();
    assert_eq!(causes, [("the peer reaches the clients better", 0); SERVICES.len()]);
    scene.ip(Place::Switch, &port(found));
    traffic.finish(scene, KillMode::Power, cut_ns);
    scene.wait_owns(survivor);
}

#[test]
fn a_client_link_that_flaps_moves_ownership_once() {
    play(|scene| {
        let mut traffic = Traffic::start(scene, 2 * SECONDS);
        traffic.until(MIDDLE / 2);
        let (owner, survivor) = (scene.owner, scene.survivor());
        // A takeover on a busy machine is another matter.
        let handovers = |scene: &Scene<'_>, node: u8| {
            let groups = scene.cluster.status(node).unwrap().groups;
            let decisions = groups.iter().flat_map(|group| &group.decisions);
            decisions.filter(|text| text.contains("reaches the clients better")).count()
        };
        let began_ns = monotonic_ns();
        for _ in 0..6 {
            for (state, is_up) in [("down", false), ("up", true)] {
                scene.ip(Place::Switch, &format!("link set node{owner}-eth0 {state}"));
                scene.wait_for("the node to notice", || {
                    let status = scene.cluster.status(owner).unwrap();
                    status.path.carrier == Some(is_up)
                });
            }
        }
        scene.ip(Place::Switch, &format!("link set node{owner}-eth0 down"));
        scene.wait_owns(survivor);
        scene.ip(Place::Switch, &format!("link set node{owner}-eth0 up"));
        traffic.finish(scene, KillMode::Power, began_ns);
        assert_eq!((handovers(scene, owner), handovers(scene, survivor)), (SERVICES.len(), 0));
    });
}

#[test]
fn transfers_survive_two_takeovers() {
    play(|scene| {
        let mut traffic = Traffic::start(scene, 2 * SECONDS);
        traffic.until(MIDDLE / 2);
        let first = scene.owner;
        let killed_ns = scene.take_over(KillMode::Sigkill);
        scene.cluster.revive(first, KillMode::Sigkill).unwrap();
        let second = scene.wait_protected();
        assert_ne!(first, second);
        scene.owner = second;
        traffic.next_turn(scene);
        scene.take_over(KillMode::Sigkill);
        traffic.assert_still_running();
        traffic.finish(scene, KillMode::Sigkill, killed_ns);
    });
}

#[test]
fn idle_connections_survive_unasked() {
    play(|scene| {
        let mut silent: Vec<_> = (0..CONNECTIONS).map(|_| Browser::connect(scene)).collect();
        let mut served: Vec<_> = (0..CONNECTIONS).map(|_| Browser::connect(scene)).collect();
        let mut halfway: Vec<_> = (0..CONNECTIONS).map(|_| Browser::connect(scene)).collect();
        let mut echoes: Vec<_> = (0..CONNECTIONS).map(|_| connect_echo(scene)).collect();
        for (n, browser) in (0..).zip(&mut served) {
            browser.get(n);
        }
        for (n, browser) in (0..).zip(&mut halfway) {
            browser.begin(n);
        }
        for (n, stream) in (0..).zip(&mut echoes) {
            echo(stream, n).unwrap();
        }
        scene.take_over(KillMode::Sigkill);
        for round in 0..2 {
            for browser in [&mut silent, &mut served, &mut halfway] {
                for (n, browser) in (0..).zip(browser) {
                    // The second half of a request whose first half the dead owner took must fit.
                    browser.get(n + 100 * round);
                }
            }
            for (n, stream) in (0..).zip(&mut echoes) {
                echo(stream, n + 100 * round).unwrap();
            }
        }
    });
}

#[test]
fn new_connections_are_served_after_a_takeover() {
    play(|scene| {
        let fetch = |scene: &Scene<'_>, seed: u64| {
            let url = format!("http://{SERVICE_ADDRESS}/generate/10000?seed={seed}");
            let mut curl = scene.bed.command(Place::Client, "curl");
            let output = curl.args(["-sS", "--fail", "--max-time", "20", &url]).output().unwrap();
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "curl {seed}: {} {error}", output.status);
            assert_eq!(output.stdout.len(), 10_000);
            assert_eq!(pattern::first_difference(seed, 0, &output.stdout), None);
        };
        fetch(scene, 0);
        assert_eq!(scene.neighbor(SERVICE_ADDRESS), scene.mac(scene.owner));
        scene.take_over(KillMode::Sigkill);
        for seed in 1..=20 {
            fetch(scene, seed);
        }
        assert_eq!(scene.neighbor(SERVICE_ADDRESS), scene.mac(scene.survivor()));
    });
}

#[test]
fn the_nodes_own_addresses_answer_throughout() {
    play(|scene| {
        let own = |node: u8| format!("10.88.0.1{node}");
        let mut servers = Vec::new();
        for node in NODES {
            let (name, address) = (format!("kernel{node}"), own(node));
            let args = ["load", "serve", "--listen", &address];
            let place = Place::Node(node);
            servers.push(scene.bed.spawn(place, &name, UNDERSTUDY.as_ref(), &args).unwrap());
        }
        let begin = |node: u8| {
            let connects = || scene.connect(&own(node), 7).is_ok();
            scene.wait_for("the kernel's server", connects);
            Chat::start(scene.connect(&own(node), 7).unwrap())
        };
        let chats = NODES.map(begin);
        let mut traffic = Traffic::start(scene, SECONDS);
        traffic.until(MIDDLE);
        let killed_ns = scene.take_over(KillMode::Sigkill);
        for node in NODES {
            // A client that has just arrived must find them, too.
            scene.ip(Place::Client, &format!("neigh del {} dev eth0", own(node)));
            echo(&mut scene.connect(&own(node), 7).unwrap(), 1).unwrap();
            assert_eq!(scene.neighbor(&own(node)), scene.mac(node));
        }
        traffic.finish(scene, KillMode::Sigkill, killed_ns);
        let rounds = chats.map(Chat::finish);
        println!("rounds with the nodes' own addresses: {rounds:?}");
        assert!(rounds.iter().all(|rounds| *rounds > 0));
    });
}

#[test]
fn ipv6_connections_survive_a_killed_owner() {
    play(|scene| {
        scene.speak_ipv6();
        let mut idle = scene.connect(ECHO_ADDRESS_6, 7).unwrap();
        let chat = Chat::start(scene.connect(ECHO_ADDRESS_6, 7).unwrap());
        assert_eq!(scene.neighbor(ECHO_ADDRESS_6), scene.mac(scene.owner));
        let url = format!("http://[{SERVICE_ADDRESS_6}]/generate/{LIMITED_BYTES}?seed=6");
        let (began, file) = (monotonic_ns(), scene.dir.join("download-6"));
        let mut curl = scene.bed.command(Place::Client, "curl");
        curl.args(["-sSfg", "--limit-rate", "8M", &url, "-o"]).arg(&file);
        let mut curl = curl.spawn().unwrap();
        scene.wait_for("the download to be under way", || {
            std::fs::metadata(&file).is_ok_and(|file| file.len() > 500_000)
        });
        let killed_ns = scene.take_over(KillMode::Sigkill);
        assert!(killed_ns > began);
        assert_eq!(curl.try_wait().unwrap(), None, "it was over too soon");
        scene.wait_for("the address to have moved", || {
            scene.neighbor(ECHO_ADDRESS_6) == scene.mac(scene.survivor())
        });
        echo(&mut idle, 1).unwrap();
        assert!(curl.wait().unwrap().success());
        let bytes = std::fs::read(&file).unwrap();
        let difference = pattern::first_difference(6, 0, &bytes);
        assert_eq!((bytes.len() as u64, difference), (LIMITED_BYTES, None));
        assert!(chat.finish() > 0);
        // A host that knows nothing yet finds the survivor by asking.
        scene.ip(Place::Client, "neigh flush dev eth0");
        echo(&mut scene.connect(ECHO_ADDRESS_6, 7).unwrap(), 2).unwrap();
        assert_eq!(scene.neighbor(ECHO_ADDRESS_6), scene.mac(scene.survivor()));
    });
}

#[test]
fn a_witness_that_is_gone_disturbs_nobody() {
    play(|scene| {
        let epochs = |scene: &Scene<'_>| {
            let status = scene.cluster.status(scene.owner).unwrap();
            status.groups.iter().map(|group| group.epoch).collect::<Vec<_>>()
        };
        let mut idle = connect_echo(scene);
        let before = epochs(scene);
        let mut traffic = Traffic::start(scene, SECONDS);
        traffic.until(MIDDLE);
        let killed_ns = monotonic_ns();
        traffic.stays(scene);
        scene.cluster.kill_witness().unwrap();
        traffic.assert_still_running();
        traffic.finish(scene, KillMode::None, killed_ns);
        scene.wait_owns(scene.owner);
        assert_eq!(epochs(scene), before, "ownership has changed");
        echo(&mut idle, 1).unwrap();
        // Once it is back, the next failure costs nothing again.
        scene.cluster.start_witness().unwrap();
        scene.take_over(KillMode::Sigkill);
        echo(&mut idle, 2).unwrap();
    });
}

#[test]
fn a_witness_that_is_gone_is_shown() {
    play(|scene| {
        scene.cluster.kill_witness().unwrap();
        scene.wait_for("a status that shows the loss of the witness", || {
            NODES.iter().all(|node| {
                let status = scene.cluster.status(*node).unwrap();
                let groups = &status.groups;
                groups.iter().all(|group| group.protection == Protection::UnprotectedNoArbiter)
            })
        });
    });
}

#[test]
fn a_dead_node_leaves_nothing_behind() {
    play(|scene| {
        let (owner, survivor) = (scene.owner, scene.survivor());
        assert!(has_program(scene, owner) && has_program(scene, survivor));
        scene.take_over(KillMode::Sigkill);
        scene.wait_for("the owner's XDP program to go", || !has_program(scene, owner));
        assert!(has_program(scene, survivor));
        scene.cluster.kill(survivor, KillMode::Sigkill).unwrap();
        scene.cluster.wait_gone(survivor).unwrap();
        scene.wait_for("the survivor's XDP program to go", || !has_program(scene, survivor));
        // Only the kernels are left. Each answers for its own address and for none of the service.
        for node in NODES {
            let mac = scene.mac(node);
            let neighbor = format!("{SERVICE_ADDRESS} lladdr {mac} dev eth0 nud permanent");
            scene.ip(Place::Client, &format!("neigh replace {neighbor}"));
            let own = scene.connect(&format!("10.88.0.1{node}"), 1).unwrap_err();
            assert_eq!(own.kind(), ErrorKind::ConnectionRefused);
            let service = scene.connect_within(SERVICE_ADDRESS, 80, SILENCE).unwrap_err();
            assert_eq!(service.kind(), ErrorKind::TimedOut);
        }
        scene.ip(Place::Client, &format!("neigh del {SERVICE_ADDRESS} dev eth0"));
        let service = scene.connect_within(SERVICE_ADDRESS, 80, SILENCE).unwrap_err();
        let silent = [ErrorKind::TimedOut, ErrorKind::HostUnreachable];
        assert!(silent.contains(&service.kind()), "{service}");
        assert_eq!(scene.neighbor(SERVICE_ADDRESS), "");
    });
}

/// Whether frames of a node's client interface go through an XDP program.
fn has_program(scene: &Scene<'_>, node: u8) -> bool {
    scene.ip(Place::Node(node), "-d link show eth0").contains("prog/xdp")
}
