//! What a node writes of itself.

use std::fs;
use std::path::Path;

use crate::scene::play;
use nix::sys::signal::Signal;
use serde_json::Value;
use tools::demo::KillMode;

/// The lines of a log that are JSON objects.
fn objects(log: &Path) -> Vec<Value> {
    let text = fs::read_to_string(log).unwrap();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Every decision about ownership is a record with its service and epoch; what a reload comes to is one, too.
#[test]
fn a_log_in_json_tells_of_decisions_and_reloads() {
    play(|scene| {
        let (owner, survivor) = (scene.owner, scene.survivor());
        let path = scene.cluster.config(owner).to_path_buf();
        let log = scene.dir.join(format!("node{owner}.log"));
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text + "\n[log]\nformat = \"json\"\n").unwrap();
        scene.take_over(KillMode::Sigkill);
        assert!(objects(&log).is_empty(), "it wrote text so far");
        scene.cluster.revive(owner, KillMode::Sigkill).unwrap();
        assert_eq!(scene.wait_protected(), survivor);
        let has = |message: &str, service: Option<&str>| {
            objects(&log).iter().any(|record| {
                let is_said = record["message"].as_str().is_some_and(|said| said.contains(message));
                is_said && service.is_none_or(|service| record["service"] == service)
            })
        };
        for service in ["web", "echo"] {
            scene.wait_for("the decision to be logged", || has("became peer", Some(service)));
        }
        let all = objects(&log);
        let is_whole = |record: &Value| record["time"].is_string() && record["level"].is_string();
        assert!(all.iter().all(is_whole), "{all:?}");
        scene.cluster.signal(owner, Signal::SIGHUP).unwrap();
        scene.wait_for("the reload to be logged", || has("the file says what runs already", None));
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replacen("\"json\"", "\"text\"", 1)).unwrap();
        scene.cluster.signal(owner, Signal::SIGHUP).unwrap();
        scene.wait_for("the refusal to be logged", || has("`log.format` cannot be changed", None));
    });
}
