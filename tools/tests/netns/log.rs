//! What a node writes of itself.

use std::fs;
use std::path::Path;

use crate::dialogue::{connect_echo, echo};
use crate::scene::{play, play_edited};
use dataplane::control::flows::Flows;
use nix::sys::signal::Signal;
use serde_json::Value;
use tools::demo::bed::Layout;
use tools::demo::{Appliance, KillMode};

/// The lines of a log that are JSON objects.
fn objects(log: &Path) -> Vec<Value> {
    let text = fs::read_to_string(log).unwrap();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// One record for each connection that is over, by whoever serves it: who ended it, and how.
#[test]
fn a_log_of_connections_tells_who_ended_them() {
    let logging = "type = \"proxy\"\nlog_connections = true".to_string();
    let json = "[control]".to_string();
    let edits = vec![
        ("type = \"proxy\"".to_string(), logging),
        (json.clone(), "[log]\nformat = \"json\"\n".to_string() + &json),
    ];
    play_edited((Appliance::Proxy, false), Layout::default(), edits, |scene| {
        let dir = scene.dir.clone();
        let told = |node: u8, by: &str, is_taken_over: bool| {
            let log = dir.join(format!("node{node}.log"));
            let of_echo = |record: &Value| {
                record["service"] == "echo"
                    && record["by"] == by
                    && record["taken_over"].is_string() == is_taken_over
            };
            objects(&log).into_iter().find(of_echo)
        };
        let mut closed = connect_echo(scene);
        let mut killed = connect_echo(scene);
        let mut kept = connect_echo(scene);
        for (n, stream) in (1..).zip([&mut closed, &mut killed, &mut kept]) {
            echo(stream, n).unwrap();
        }
        let client = closed.local_addr().unwrap().to_string();
        drop(closed);
        let (owner, survivor) = (scene.owner, scene.survivor());
        scene.wait_for("the end of the first to be logged", || {
            told(owner, "client", false).is_some()
        });
        let record = told(owner, "client", false).unwrap();
        assert_eq!((&record["client"], &record["server"]), (&client.into(), &"only".into()));
        let port = killed.local_addr().unwrap().port();
        let flows = scene.done(owner, &["flows", "service=echo", "--json"]);
        let flows: Flows = serde_json::from_str(&flows).unwrap();
        let is_it = |client: &str| client.ends_with(&format!(":{port}"));
        let id = &flows.flows.iter().find(|flow| is_it(&flow.client)).unwrap().id;
        scene.done(owner, &["flow", "kill", id]);
        scene.wait_for("the end of the second to be logged", || {
            told(owner, "operator", false).is_some()
        });
        scene.take_over(KillMode::Sigkill);
        echo(&mut kept, 4).unwrap();
        drop(kept);
        scene.wait_for("the end of the third to be logged", || {
            told(survivor, "client", true).is_some()
        });
    });
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
