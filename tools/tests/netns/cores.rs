//! Nodes with several poll cores: veth deals frames out to the queues as it likes, so frames must cross over to the
//! core that serves their flow.

use super::traffic::Traffic;
use super::{CONNECTIONS, MIDDLE, SECONDS};
use crate::dialogue::{connect_echo, echo};
use crate::scene::{Scene, play_on};
use tools::demo::KillMode;
use tools::demo::bed::Layout;

#[test]
fn transfers_survive_a_killed_owner_on_two_cores() {
    transfers_survive([2, 2]);
}

#[test]
fn transfers_survive_a_killed_owner_of_two_cores_and_a_peer_of_one() {
    transfers_survive([2, 1]);
}

#[test]
fn transfers_survive_a_killed_owner_of_one_core_and_a_peer_of_two() {
    transfers_survive([1, 2]);
}

fn transfers_survive(cores: [u8; 2]) {
    play_on(Layout { queues: cores, ..Layout::default() }, |scene| {
        let mut echoes: Vec<_> = (0..CONNECTIONS).map(|_| connect_echo(scene)).collect();
        let mut traffic = Traffic::start(scene, SECONDS);
        traffic.until(MIDDLE);
        for (n, stream) in (0..).zip(&mut echoes) {
            echo(stream, n).unwrap();
        }
        assert_crossed(scene, scene.owner, cores);
        let killed_ns = scene.take_over(KillMode::Sigkill);
        traffic.assert_still_running();
        for (n, stream) in (0..).zip(&mut echoes) {
            echo(stream, 100 + n).unwrap();
        }
        traffic.finish(scene, KillMode::Sigkill, killed_ns);
        assert_crossed(scene, scene.survivor(), cores);
    });
}

/// Every core of a node with several has flows, and frames have crossed over; none was lost on the way.
fn assert_crossed(scene: &Scene<'_>, node: u8, cores: [u8; 2]) {
    let status = scene.cluster.status(node).unwrap();
    let count = usize::from(cores[usize::from(node - 1)]);
    assert_eq!(status.cores.len(), count);
    let crossed: Vec<_> =
        status.cores.iter().map(|core| (core.flows, core.crossed_in, core.crossed_out)).collect();
    println!("node {node}: flows, frames crossed in and out of each core: {crossed:?}");
    for core in &status.cores {
        assert_eq!(core.drops.get("other_core"), None, "a frame stayed on the wrong core");
        assert!(core.progress > 0 && core.flows > 0, "{crossed:?}");
    }
    // In the generic path the kernel may bring every frame to one queue: then only one core hands over.
    assert!(count == 1 || status.cores.iter().any(|core| core.crossed_in > 0), "{crossed:?}");
}
