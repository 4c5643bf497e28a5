//! Nobody dies: an operator moves live connections from node to node, in the middle of transfers.

use super::traffic::Traffic;
use super::{CONNECTIONS, MIDDLE, SECONDS};
use crate::dialogue::{Chat, connect_echo, echo};
use crate::scene::play;
use tools::demo::KillMode;
use tools::demo::bed::ECHO_ADDRESS;
use tools::demo::files::SERVICES;
use tools::load::wire::monotonic_ns;

#[test]
fn transfers_survive_a_drain_there_and_back() {
    play(|scene| {
        let mut traffic = Traffic::start(scene, 2 * SECONDS);
        let mut echoes: Vec<_> = (0..CONNECTIONS).map(|_| connect_echo(scene)).collect();
        let chat = Chat::start(scene.connect(ECHO_ADDRESS, 7).unwrap());
        traffic.until(MIDDLE / 2);
        let (first, second) = (scene.owner, scene.survivor());
        let ordered_ns = monotonic_ns();
        scene.done(first, &["drain", &first.to_string()]);
        scene.wait_owns(second);
        assert_eq!(scene.wait_protected(), second, "protected without a fill");
        for (n, stream) in (0..).zip(&mut echoes) {
            echo(stream, n).unwrap();
        }
        let text = scene.done(first, &["status"]);
        assert!(text.contains("DRAINING"), "{text}");
        let refused = scene.understudy(second, &["drain", &first.to_string()]).unwrap_err();
        assert!(refused.contains("run this where that one runs"), "{refused}");
        scene.done(first, &["undrain", &first.to_string()]);
        scene.done(second, &["drain", &second.to_string()]);
        scene.wait_owns(first);
        traffic.assert_still_running();
        for (n, stream) in (0..).zip(&mut echoes) {
            echo(stream, 100 + n).unwrap();
        }
        traffic.finish(scene, KillMode::None, ordered_ns);
        assert!(chat.finish() > 0);
    });
}

#[test]
fn a_handover_is_shown_refused_and_followed_by_a_death() {
    play(|scene| {
        let mut traffic = Traffic::start(scene, SECONDS);
        traffic.until(MIDDLE);
        let (first, second) = (scene.owner, scene.survivor());
        let to = second.to_string();
        let ordered_ns = monotonic_ns();
        for (service, ..) in SERVICES {
            let words = ["handover", service, "--to", &to, "--epoch", "1"];
            let refused = scene.understudy(first, &words).unwrap_err();
            assert!(refused.contains("look again"), "{refused}");
            let text = scene.done(first, &["handover", service, "--to", &to]);
            assert!(text.contains(&format!("over to node {second}")), "{text}");
            let refused = scene.understudy(first, &["handover", service, "--to", &to]).unwrap_err();
            let owns_already = format!("node {second} owns {service} already");
            assert!(refused.contains(&owns_already), "{refused}");
            let text = scene.done(first, &["why", service]);
            assert!(text.contains(&format!("owned by node {second}")), "{text}");
            assert!(text.contains("ordered by the operator"), "{text}");
            scene.done(second, &["why", service]);
            // Back and there again, ordered where the owner is not.
            let back = first.to_string();
            let text = scene.done(first, &["handover", service, "--to", &back]);
            assert!(text.contains(&format!("over to node {first}")), "{text}");
            traffic.count_late_anew(scene);
            scene.done(second, &["handover", service, "--to", &to]);
        }
        scene.wait_owns(second);
        traffic.assert_still_running();
        traffic.finish(scene, KillMode::None, ordered_ns);
        // The former owner holds the copies: the new one may die at once.
        let mut idle = connect_echo(scene);
        echo(&mut idle, 1).unwrap();
        assert_eq!(scene.wait_protected(), second);
        scene.owner = second;
        scene.take_over(KillMode::Sigkill);
        echo(&mut idle, 2).unwrap();
    });
}
