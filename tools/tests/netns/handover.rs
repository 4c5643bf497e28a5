//! Nobody dies: an operator moves live connections from node to node, in the middle of transfers.

use std::process::Command;

use super::traffic::Traffic;
use super::{CONNECTIONS, MIDDLE, SECONDS};
use crate::dialogue::{Chat, connect_echo, echo};
use crate::scene::{Scene, UNDERSTUDY, play};
use tools::demo::KillMode;
use tools::demo::bed::ECHO_ADDRESS;
use tools::demo::files::SERVICES;
use tools::load::wire::monotonic_ns;

/// What `understudy` says when it is run beside this node; whether it was done.
pub fn understudy(scene: &Scene<'_>, node: u8, words: &[&str]) -> (bool, String) {
    let mut command = Command::new(UNDERSTUDY);
    command.args(words).arg("--socket").arg(scene.cluster.socket(node));
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

pub fn done(scene: &Scene<'_>, node: u8, words: &[&str]) -> String {
    let (success, text) = understudy(scene, node, words);
    assert!(success, "{words:?}: {text}");
    print!("{text}");
    text
}

#[test]
fn transfers_survive_a_drain_there_and_back() {
    play(|scene| {
        let mut traffic = Traffic::start(scene, 2 * SECONDS);
        let mut echoes: Vec<_> = (0..CONNECTIONS).map(|_| connect_echo(scene)).collect();
        let chat = Chat::start(scene.connect(ECHO_ADDRESS, 7).unwrap());
        traffic.until(MIDDLE / 2);
        let (first, second) = (scene.owner, scene.survivor());
        let ordered_ns = monotonic_ns();
        done(scene, first, &["drain", &first.to_string()]);
        scene.wait_owns(second);
        assert_eq!(scene.wait_protected(), second, "protected without a fill");
        for (n, stream) in (0..).zip(&mut echoes) {
            echo(stream, n).unwrap();
        }
        let text = done(scene, first, &["status"]);
        assert!(text.contains("DRAINING"), "{text}");
        let (success, text) = understudy(scene, second, &["drain", &first.to_string()]);
        assert!(!success && text.contains("run this where that one runs"), "{text}");
        done(scene, first, &["undrain", &first.to_string()]);
        done(scene, second, &["drain", &second.to_string()]);
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
            let (success, text) =
                understudy(scene, first, &["handover", service, "--to", &to, "--epoch", "1"]);
            assert!(!success && text.contains("look again"), "{text}");
            let text = done(scene, first, &["handover", service, "--to", &to]);
            assert!(text.contains(&format!("over to node {second}")), "{text}");
            let (success, text) = understudy(scene, first, &["handover", service, "--to", &to]);
            let refused = format!("node {second} owns {service} already");
            assert!(!success && text.contains(&refused), "{text}");
            let text = done(scene, first, &["why", service]);
            assert!(text.contains(&format!("owned by node {second}")), "{text}");
            assert!(text.contains("ordered by the operator"), "{text}");
            done(scene, second, &["why", service]);
            // Back and there again, ordered where the owner is not.
            let back = first.to_string();
            let text = done(scene, first, &["handover", service, "--to", &back]);
            assert!(text.contains(&format!("over to node {first}")), "{text}");
            done(scene, second, &["handover", service, "--to", &to]);
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
