//! A home that returns gets its connections back, as the configuration says; nobody speaks out of turn.

use tools::demo::bed::Layout;
use tools::demo::{Appliance, KillMode, voices};

use crate::SECONDS;
use crate::scene::play_with;
use crate::traffic::Traffic;

#[test]
fn transfers_survive_a_failback_and_the_death_of_the_other_node() {
    play_with(Appliance::Failback, Layout::default(), |scene| {
        let mut traffic = Traffic::start(scene, 3 * SECONDS);
        traffic.until(10);
        let (home, other) = (scene.owner, scene.survivor());
        let killed_ns = scene.take_over(KillMode::Sigkill);
        voices::watch(scene.bed, other, home).unwrap();
        scene.cluster.revive(home, KillMode::Sigkill).unwrap();
        scene.wait_owns(home);
        assert_eq!(scene.wait_protected(), home, "what came home stays there");
        traffic.assert_still_running();
        scene.cluster.kill(other, KillMode::Sigkill).unwrap();
        scene.cluster.wait_gone(other).unwrap();
        traffic.assert_still_running();
        traffic.finish(scene, KillMode::Sigkill, killed_ns);
        scene.wait_owns(home);
        assert_eq!(voices::late(scene.bed).unwrap(), 0, "frames of the node that had handed over");
    });
}
