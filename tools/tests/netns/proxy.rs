//! Connections passed on to servers over the kernel's TCP, and to servers as everybody runs them: clients and servers both
//! outlive the node between them.

use std::fs;

use super::traffic::Traffic;
use super::{CONNECTIONS, MIDDLE, SECONDS};
use crate::dialogue::{connect_echo, echo};
use crate::scene::{Scene, UNDERSTUDY, play_as, play_edited, play_with};
use tools::demo::bed::{Layout, Place, SERVERS_ADDRESS, SERVICE_ADDRESS};
use tools::demo::client::Load;
use tools::demo::curl::{self, Curls, With};
use tools::demo::dialogue::Dialogues;
use tools::demo::{Appliance, KillMode};
use tools::load::pattern;
use tools::load::report::Outcome;

#[test]
fn proxied_transfers_survive_a_killed_owner() {
    proxied_transfers_survive([1, 1], KillMode::Sigkill, false);
}

#[test]
fn proxied_transfers_that_the_peer_holds_survive_a_killed_owner() {
    proxied_transfers_survive([1, 1], KillMode::Sigkill, true);
}

#[test]
fn proxied_transfers_survive_an_owner_without_power() {
    proxied_transfers_survive([1, 1], KillMode::Power, false);
}

/// Both legs of a connection are on one core, whichever queue their frames come in by.
#[test]
fn proxied_transfers_survive_a_killed_owner_on_two_cores() {
    proxied_transfers_survive([2, 1], KillMode::Sigkill, false);
}

/// `curl` with nginx, `redis-cli`, `ssh`, and a WebSocket.
#[test]
fn real_servers_and_their_clients_survive_a_killed_owner() {
    real_servers_and_their_clients_survive(false);
}

#[test]
fn real_servers_and_their_clients_survive_a_killed_owner_that_acknowledges_early() {
    real_servers_and_their_clients_survive(true);
}

fn real_servers_and_their_clients_survive(held: bool) {
    const BYTES: u64 = 8_000_000;
    play_as((Appliance::Proxy, held), Layout::default(), |scene| {
        curl::prepare(&scene.dir, BYTES).unwrap();
        let dialogues = Dialogues::begin(scene.bed, &scene.dir).unwrap();
        let mut curls = Curls::start(scene.bed, &scene.dir, BYTES, SECONDS, With::Nginx).unwrap();
        scene.wait_for("the download to be in its middle", || curls.percent() >= MIDDLE);
        scene.take_over(KillMode::Sigkill);
        assert!(!curls.ended().unwrap(), "the transfers were over before the owner was");
        let mut count = 0;
        dialogues.finish(|report, _| {
            assert_eq!(report.outcome, Outcome::Survived, "{report:?}");
            count += 1;
        });
        assert_eq!(count, 12, "four of each kind");
        for report in curls.verify().unwrap() {
            assert_eq!(report.outcome, Outcome::Survived, "{report:?}");
        }
    });
}

/// Behind another balancer, as `curl` plays it: each connection says first whose it is, and survives as any other. One that does
/// not say it is reset.
#[test]
fn clients_of_another_balancer_survive_a_killed_owner() {
    // Twelve seconds; the takeover of a slow machine that is busy has ten of them. The server paces it: curl's own limit
    // lets megabytes pass at once.
    const BYTES: u64 = 6_000_000;
    const PACE: &str = "step=5000&every_ms=10";
    let accepting = "type = \"proxy\"\naccept_proxy = true";
    let edits = vec![("type = \"proxy\"".to_string(), accepting.to_string())];
    play_edited((Appliance::Proxy, true), Layout::default(), edits, |scene| {
        let file = scene.dir.join("named.bin");
        let url = format!("http://{SERVICE_ADDRESS}/generate/{BYTES}?seed=5&{PACE}");
        let common = ["--silent", "--show-error", "--fail", &url];
        let named = ["--haproxy-protocol", "--output", file.to_str().unwrap()];
        let args = [&common[..], &named].concat();
        let mut curl = scene.bed.spawn(Place::Client, "named", "curl".as_ref(), &args).unwrap();
        let arrived = || fs::metadata(&file).map_or(0, |file| file.len());
        scene.wait_for("the download to be in its middle", || arrived() >= BYTES / 6);
        scene.take_over(KillMode::Sigkill);
        assert!(arrived() < BYTES, "the download was over before the owner was");
        assert!(curl.wait().unwrap().success());
        let bytes = fs::read(&file).unwrap();
        assert_eq!(bytes.len() as u64, BYTES);
        assert_eq!(pattern::first_difference(5, 0, &bytes), None);
        let output = scene.bed.command(Place::Client, "curl").args(common).output().unwrap();
        assert_eq!(output.status.code(), Some(56), "reset: {output:?}");
        let status = scene.cluster.status(scene.survivor()).unwrap();
        let refused = status.cores.iter().filter_map(|core| core.events.get("bad_proxy_header"));
        assert_eq!(refused.sum::<u64>(), 1);
    });
}

/// Who has little memory opens its window by less than a segment at a time. A server who were offered just that, after he has
/// been offered more, would wait for his persist timer at each step (RFC 9293 3.8.6.2.1).
#[test]
fn a_client_with_little_memory_is_served_as_well_as_without_a_node_between() {
    play_with(Appliance::Proxy, Layout::default(), |scene| {
        let direct = downloads_with_little_memory(scene, SERVERS_ADDRESS);
        let proxied = downloads_with_little_memory(scene, SERVICE_ADDRESS);
        assert!(proxied < 3 * direct, "{proxied} ns, directly {direct}");
    });
}

/// How long the longest of some paced downloads takes whose receive buffers hold less than a segment.
fn downloads_with_little_memory(scene: &Scene<'_>, target: &str) -> u64 {
    let options = [
        ("--downloads", 8),
        ("--receive-buffer", 1200),
        ("--rate", 20_000),
        ("--pace-ms", 10),
        ("--seconds", 4),
        ("--uploads", 0),
        ("--bulk-downloads", 0),
        ("--bulk-uploads", 0),
        ("--echo", 0),
    ];
    let program = UNDERSTUDY.as_ref();
    let load = Load::start_at((target, target), scene.bed, program, &scene.dir, &options).unwrap();
    let connections = load.finish().unwrap().connections;
    let took = connections.iter().map(|report| {
        assert_eq!(report.outcome, Outcome::Survived, "{report:?}");
        report.end_ns - report.start_ns
    });
    took.max().unwrap()
}

fn proxied_transfers_survive(cores: [u8; 2], mode: KillMode, held: bool) {
    let layout = Layout { queues: cores, ..Layout::default() };
    play_as((Appliance::Proxy, held), layout, |scene| {
        let mut echoes: Vec<_> = (0..CONNECTIONS).map(|_| connect_echo(scene)).collect();
        let mut traffic = Traffic::start(scene, 2 * SECONDS);
        traffic.until(MIDDLE);
        for (n, stream) in (0..).zip(&mut echoes) {
            echo(stream, n).unwrap();
        }
        let killed_ns = scene.take_over(mode);
        traffic.assert_still_running();
        for (n, stream) in (0..).zip(&mut echoes) {
            echo(stream, 100 + n).unwrap();
        }
        traffic.finish(scene, mode, killed_ns);
    });
}
