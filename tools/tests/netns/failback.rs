//! A home that returns gets its connections back, as the configuration says; nobody speaks out of turn.

use dataplane::control::status::{GroupStatus, Role};
use tools::demo::bed::{ECHO_ADDRESS, Layout};
use tools::demo::files::{HOME, SERVICES};
use tools::demo::{KillMode, status, voices};

use crate::dialogue::{connect_echo, echo};
use crate::scene::{PATIENCE, Scene, play_on};
use crate::traffic::Traffic;
use crate::{CONNECTIONS, SECONDS};

/// On a busy machine the other node may have been there first: what it owns goes home by itself.
fn begin_at_home(scene: &mut Scene<'_>) {
    scene.wait_owns(HOME);
    scene.owner = scene.wait_protected();
    assert_eq!(scene.owner, HOME);
}

/// Home has died and is back; from here on the switch counts who speaks out of turn.
fn home_returns(scene: &mut Scene<'_>) -> (u8, u8, u64) {
    let (home, other) = (HOME, scene.survivor());
    let killed_ns = scene.take_over(KillMode::Sigkill);
    voices::watch(scene.bed, other, home).unwrap();
    scene.cluster.revive(home, KillMode::Sigkill).unwrap();
    (home, other, killed_ns)
}

#[test]
fn transfers_survive_a_failback_and_the_death_of_the_other_node() {
    play_on(Layout { failback: Some("all"), ..Layout::default() }, |scene| {
        begin_at_home(scene);
        let mut traffic = Traffic::start(scene, 3 * SECONDS);
        traffic.until(10);
        let (home, other, killed_ns) = home_returns(scene);
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

/// Old connections stay at the other node, which dies with them: home takes them over beside the new ones.
#[test]
fn transfers_survive_a_failback_of_new_connections_and_the_death_of_the_old_owner() {
    play_on(Layout { failback: Some("new-connections"), ..Layout::default() }, |scene| {
        begin_at_home(scene);
        let mut traffic = Traffic::start(scene, 3 * SECONDS);
        let mut old: Vec<_> = (0..CONNECTIONS).map(|_| connect_echo(scene)).collect();
        traffic.until(10);
        let (home, other, killed_ns) = home_returns(scene);
        scene.wait_for("home to take the new connections", || {
            scene.cluster.status(home).is_ok_and(|status| status::takes_new_connections(&status))
        });
        assert_eq!(scene.neighbor(ECHO_ADDRESS), scene.mac(home));
        let mut new: Vec<_> = (0..CONNECTIONS).map(|_| connect_echo(scene)).collect();
        for (n, stream) in (0..).zip(old.iter_mut().chain(&mut new)) {
            echo(stream, n).unwrap();
        }
        let flows = |service: &str, is_closed: bool| {
            let status = scene.cluster.status(home).unwrap();
            let is_it = |g: &&GroupStatus| g.service == service && g.is_closed == is_closed;
            status.groups.iter().find(is_it).map_or(0, |group| group.flows)
        };
        assert!(flows("echo", true) >= CONNECTIONS && flows("echo", false) >= CONNECTIONS);
        traffic.assert_still_running();
        scene.cluster.kill(other, KillMode::Sigkill).unwrap();
        scene.cluster.wait_gone(other).unwrap();
        scene.wait_for("home to own both generations", || {
            scene.cluster.status(home).is_ok_and(|status| {
                status::owns_all(&status) && status.groups.len() == 2 * SERVICES.len()
            })
        });
        for (n, stream) in (0..).zip(old.iter_mut().chain(&mut new)) {
            echo(stream, 100 + n).unwrap();
        }
        traffic.assert_still_running();
        traffic.finish(scene, KillMode::Sigkill, killed_ns);
        assert_eq!(voices::late(scene.bed).unwrap(), 0, "frames out of turn");
        // The last old connections end: nothing is left but what home took.
        drop(old);
        // Whatever the service closed itself waits for a minute (TIME-WAIT).
        scene.wait_within(3 * PATIENCE, "the old generation to be over", || {
            scene.cluster.status(home).is_ok_and(|status| {
                status.groups.len() == SERVICES.len() && status::owns_all(&status)
            })
        });
        for (n, stream) in (0..).zip(&mut new) {
            echo(stream, 200 + n).unwrap();
        }
        let roles = scene.cluster.status(home).unwrap();
        assert!(roles.groups.iter().all(|group| group.role == Role::Owner && !group.is_closed));
    });
}
