//! What a node's guardian says of its end, and what happens when there is none to say it.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tools::demo::KillMode;
use tools::load::wire::monotonic_ns;

use crate::dialogue::{connect_echo, echo};
use crate::scene::{Scene, play};
use crate::traffic::Traffic;
use crate::{MIDDLE, SECONDS};

/// The guardian of a node, as soon as there is one.
fn guardian(scene: &Scene<'_>, node: u8) -> Pid {
    let process = || scene.cluster.status(node).ok().and_then(|status| status.guardian.process);
    scene.wait_for(&format!("a guardian of node {node}"), || process().is_some());
    Pid::from_raw(process().unwrap() as i32)
}

fn is_running(process: Pid) -> bool {
    kill(process, None).is_ok()
}

/// Whether the new owner took every service over because the old one had surrendered; prints how
/// long that took.
fn was_told(scene: &Scene<'_>) -> bool {
    let status = scene.cluster.status(scene.survivor()).unwrap();
    for group in &status.groups {
        println!("{}: {:?}", group.service, group.last_takeover);
    }
    let told = |decision: &String| decision.contains("to take over: the owner has surrendered");
    status.groups.iter().all(|group| group.decisions.iter().any(told))
}

#[test]
fn a_crash_is_told_by_the_guardian_which_then_ends() {
    play(|scene| {
        let guardian = guardian(scene, scene.owner);
        let mut traffic = Traffic::start(scene, SECONDS);
        traffic.until(MIDDLE);
        let killed_ns = scene.take_over(KillMode::Sigkill);
        traffic.assert_still_running();
        assert!(was_told(scene));
        scene.wait_for("the guardian to end", || !is_running(guardian));
        traffic.finish(scene, KillMode::Sigkill, killed_ns);
    });
}

#[test]
fn with_the_guardian_dead_too_silence_tells() {
    play(|scene| {
        let guardian = guardian(scene, scene.owner);
        let mut traffic = Traffic::start(scene, SECONDS);
        traffic.until(MIDDLE);
        kill(guardian, Signal::SIGKILL).unwrap();
        let killed_ns = scene.take_over(KillMode::Sigkill);
        traffic.assert_still_running();
        assert!(!was_told(scene));
        traffic.finish(scene, KillMode::Sigkill, killed_ns);
    });
}

#[test]
fn a_guardian_that_speaks_late_disturbs_nobody() {
    play(|scene| {
        let guardian = guardian(scene, scene.owner);
        let mut idle = connect_echo(scene);
        kill(guardian, Signal::SIGSTOP).unwrap();
        scene.take_over(KillMode::Sigkill);
        assert!(!was_told(scene));
        let owner = scene.owner;
        scene.cluster.revive(owner, KillMode::Sigkill).unwrap();
        assert_eq!(scene.wait_protected(), scene.survivor());
        // The dead life surrenders when the next one is long the peer.
        kill(guardian, Signal::SIGCONT).unwrap();
        scene.wait_for("the guardian to end", || !is_running(guardian));
        echo(&mut idle, 1).unwrap();
        assert_eq!(scene.wait_protected(), scene.survivor());
        let status = scene.cluster.status(scene.survivor()).unwrap();
        let surrendered = |decision: &String| decision.contains("surrendered");
        assert!(!status.groups.iter().any(|group| group.decisions.iter().any(surrendered)));
    });
}

#[test]
fn a_guardian_that_dies_is_replaced() {
    play(|scene| {
        let first = guardian(scene, scene.owner);
        let mut idle = connect_echo(scene);
        kill(first, Signal::SIGKILL).unwrap();
        scene.wait_for("the next guardian", || {
            let guardian = scene.cluster.status(scene.owner).unwrap().guardian;
            guardian.restarts == 1 && guardian.process.is_some_and(|p| p as i32 != first.as_raw())
        });
        echo(&mut idle, 1).unwrap();
        scene.take_over(KillMode::Sigkill);
        assert!(was_told(scene));
        echo(&mut idle, 2).unwrap();
    });
}

#[test]
fn a_node_that_stops_in_order_surrenders() {
    play(|scene| {
        let guardian = guardian(scene, scene.owner);
        let mut traffic = Traffic::start(scene, SECONDS);
        traffic.until(MIDDLE);
        let stopped_ns = monotonic_ns();
        scene.cluster.signal(scene.owner, Signal::SIGTERM).unwrap();
        scene.wait_owns(scene.survivor());
        assert!(was_told(scene));
        scene.cluster.wait_gone(scene.owner).unwrap();
        scene.wait_for("the guardian to end", || !is_running(guardian));
        traffic.finish(scene, KillMode::Sigkill, stopped_ns);
    });
}
