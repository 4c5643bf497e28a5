//! What a scraper sees of a node that takes over.

use std::process::Command;

use super::traffic::Traffic;
use super::{MIDDLE, SECONDS};
use crate::scene::{Scene, play};
use tools::demo::KillMode;
use tools::demo::bed::{Place, run};
use tools::demo::files::METRICS;

#[test]
fn a_scraper_sees_who_serves_and_how_long_the_takeover_took() {
    play(|scene| {
        let (owner, survivor) = (scene.owner, scene.survivor());
        assert_eq!(sample(scene, owner, "service_role{service=\"web\",role=\"owner\"}"), Some(1.0));
        assert_eq!(
            sample(scene, survivor, "service_role{service=\"web\",role=\"owner\"}"),
            Some(0.0)
        );
        let protected = "service_protection{service=\"web\",state=\"protected\"}";
        assert_eq!(sample(scene, owner, protected), Some(1.0));
        let phases = "service_takeover_phase_seconds_count{service=\"web\",phase=\"detect\"}";
        assert_eq!(sample(scene, survivor, phases), None);
        let mut traffic = Traffic::start(scene, SECONDS);
        traffic.until(MIDDLE);
        let killed_ns = scene.take_over(KillMode::Sigkill);
        let alone = "service_protection{service=\"web\",state=\"unprotected: no peer\"}";
        assert_eq!(sample(scene, survivor, alone), Some(1.0));
        scene.wait_for("the takeover to be counted", || {
            sample(scene, survivor, phases) == Some(1.0)
        });
        let sent = "port_sent_bytes_total{interface=\"eth0\",queue=\"0\"}";
        assert!(sample(scene, survivor, sent).is_some_and(|bytes| bytes > 1e6));
        traffic.finish(scene, KillMode::Sigkill, killed_ns);
    });
}

/// One sample of what a node tells, by name and labels.
fn sample(scene: &Scene<'_>, node: u8, name: &str) -> Option<f64> {
    let url = format!("http://{METRICS}/metrics");
    let mut curl: Command = scene.bed.command(Place::Node(node), "curl");
    let text = run(curl.args(["-sf", "--max-time", "10", &url]));
    let text = text.unwrap_or_else(|error| panic!("{error:#}"));
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("understudy_{name} ")));
    line.map(|value| value.parse().expect("a number"))
}
