//! What an operator sees of connections, and what he can do to one.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use crate::dialogue::{connect_echo, echo};
use crate::scene::{Scene, play_with};
use dataplane::control::flows::Flows;
use tools::demo::Appliance;
use tools::demo::bed::Layout;

fn flows(scene: &Scene<'_>, node: u8, filter: &str) -> Flows {
    let words: Vec<&str> =
        ["flows"].into_iter().chain(filter.split(' ')).chain(["--json"]).collect();
    serde_json::from_str(&scene.done(node, &words)).unwrap()
}

/// What a node answers to one of HAProxy's commands.
fn say(scene: &Scene<'_>, node: u8, line: &str) -> String {
    let mut stream = UnixStream::connect(scene.cluster.socket(node)).unwrap();
    stream.write_all(format!("{line}\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.trim_end().to_string()
}

/// HAProxy's runtime commands: a server goes into maintenance and comes back; whoever is connected goes on.
#[test]
fn servers_are_taken_out_by_haproxys_commands() {
    play_with(Appliance::Proxy, Layout::default(), |scene| {
        let (owner, survivor) = (scene.owner, scene.survivor());
        let mut stream = connect_echo(scene);
        echo(&mut stream, 1).unwrap();
        let state = |column: usize| {
            let answer = say(scene, owner, "show servers state echo");
            answer.lines().nth(2).unwrap().split(' ').nth(column).unwrap().to_string()
        };
        assert_eq!([state(3), state(5), state(6)], ["only", "2", "0"]);
        assert!(say(scene, owner, "show stat echo 4 -1").contains("echo,only,"));
        let refused = say(scene, survivor, "disable server echo/only");
        assert!(refused.contains(&format!("node {owner} owns echo")), "{refused}");
        assert_eq!(say(scene, owner, "disable server echo/only"), "");
        assert_eq!([state(5), state(6)], ["0", "1"]);
        echo(&mut stream, 2).unwrap();
        let mut second = connect_echo(scene);
        assert!(echo(&mut second, 3).is_err(), "nobody is left to serve a newcomer");
        assert_eq!(
            say(scene, owner, "set server echo/only state ready; set weight echo/only 7"),
            ""
        );
        assert_eq!(say(scene, owner, "get weight echo/only"), "7 (initial 1)");
        let mut third = connect_echo(scene);
        echo(&mut third, 4).unwrap();
        echo(&mut stream, 5).unwrap();
        assert!(say(scene, owner, "show info").contains("Name: Understudy"));
        assert!(say(scene, owner, "shutdown everything").starts_with("Unknown command"));
    });
}

#[test]
fn connections_are_listed_on_both_nodes_and_one_is_ended() {
    play_with(Appliance::Proxy, Layout::default(), |scene| {
        let (owner, survivor) = (scene.owner, scene.survivor());
        let mut echoes: Vec<_> = (0..4).map(|_| connect_echo(scene)).collect();
        for (n, stream) in (0..).zip(&mut echoes) {
            echo(stream, n).unwrap();
        }
        let names =
            |flows: &Flows| flows.flows.iter().map(|f| f.id.clone()).collect::<BTreeSet<_>>();
        let all = flows(scene, owner, "service=echo state=established copied=yes");
        assert_eq!((all.flows.len(), all.has_more), (4, false));
        assert!(all.flows.iter().all(|flow| flow.server_state.as_deref() == Some("ESTABLISHED")));
        let copies = flows(scene, survivor, "service=echo");
        assert_eq!(names(&copies), names(&all), "a connection has one name");
        assert!(copies.flows.iter().all(|flow| flow.standing == "copy"));
        let few = flows(scene, owner, "service=echo --limit 3");
        assert_eq!((few.flows.len(), few.has_more), (3, true));
        let port = echoes[0].local_addr().unwrap().port();
        let is_first = |client: &str| client.ends_with(&format!(":{port}"));
        let first = all.flows.iter().find(|flow| is_first(&flow.client)).unwrap();
        let refused = scene.understudy(survivor, &["flow", "kill", &first.id]).unwrap_err();
        assert!(refused.contains("copy of it only"), "{refused}");
        let refused = scene.understudy(owner, &["flow", "kill", "5"]).unwrap_err();
        assert!(refused.contains("has no connection 5"), "{refused}");
        scene.done(owner, &["flow", "kill", &first.id]);
        let end = echoes[0].read(&mut [0; 16]).unwrap_err();
        assert_eq!(end.kind(), std::io::ErrorKind::ConnectionReset);
        for (n, stream) in (0..).zip(&mut echoes).skip(1) {
            echo(stream, 100 + n).unwrap();
        }
        for node in [owner, survivor] {
            scene.wait_for("the connection to be forgotten", || {
                !names(&flows(scene, node, "service=echo")).contains(&first.id)
            });
        }
        let refused = scene.understudy(owner, &["flows", "state=open"]).unwrap_err();
        assert!(refused.contains("is no state of TCP"), "{refused}");
        for (words, expected) in [
            (&["services"][..], "protected"),
            (&["cores"], "core 0"),
            (&["peers"], "this node"),
            (&["top", "--count", "1"], "opened/s"),
        ] {
            let said = scene.done(1, words);
            assert!(said.contains(expected), "{words:?}: {said}");
        }
    });
}
