//! Connections passed on to servers over the kernel's TCP, and to servers as everybody runs them: clients and servers both
//! outlive the node between them.

use super::traffic::Traffic;
use super::{CONNECTIONS, MIDDLE, SECONDS};
use crate::dialogue::{connect_echo, echo};
use crate::scene::play_as;
use tools::demo::bed::Layout;
use tools::demo::curl::{self, Curls, With};
use tools::demo::dialogue::Dialogues;
use tools::demo::{Appliance, KillMode};
use tools::load::report::Outcome;

#[test]
fn proxied_transfers_survive_a_killed_owner() {
    proxied_transfers_survive([1, 1], KillMode::Sigkill, false);
}

#[test]
fn proxied_transfers_acknowledged_end_to_end_survive_a_killed_owner() {
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
fn real_servers_and_their_clients_survive_a_killed_owner_end_to_end() {
    real_servers_and_their_clients_survive(true);
}

fn real_servers_and_their_clients_survive(end_to_end: bool) {
    const BYTES: u64 = 8_000_000;
    play_as((Appliance::Proxy, end_to_end), Layout::default(), |scene| {
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

fn proxied_transfers_survive(cores: [u8; 2], mode: KillMode, end_to_end: bool) {
    let layout = Layout { queues: cores, ..Layout::default() };
    play_as((Appliance::Proxy, end_to_end), layout, |scene| {
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
