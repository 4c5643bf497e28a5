//! What an operator sees of connections, and what he can do to one.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;

use crate::dialogue::{connect_echo, echo};
use crate::scene::{Scene, UNDERSTUDY, play_with};
use dataplane::control::flows::Flows;
use tools::demo::Appliance;
use tools::demo::bed::Layout;

/// What a command answers, asked of a node: its exit code and what it printed.
fn ask(scene: &Scene<'_>, node: u8, words: &str) -> (Option<i32>, String) {
    let mut command = Command::new(UNDERSTUDY);
    command.args(words.split(' ')).arg("--socket").arg(scene.cluster.socket(node));
    let output = command.output().unwrap();
    let printed = if output.status.success() { output.stdout } else { output.stderr };
    (output.status.code(), String::from_utf8(printed).unwrap())
}

fn flows(scene: &Scene<'_>, node: u8, filter: &str) -> Flows {
    let (code, printed) = ask(scene, node, &format!("flows {filter} --json"));
    assert_eq!(code, Some(0), "{printed}");
    serde_json::from_str(&printed).unwrap()
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
        let (code, said) = ask(scene, survivor, &format!("flow kill {}", first.id));
        assert!(code == Some(1) && said.contains("copy of it only"), "{said}");
        let (code, said) = ask(scene, owner, "flow kill 5");
        assert!(code == Some(1) && said.contains("has no connection 5"), "{said}");
        let (code, said) = ask(scene, owner, &format!("flow kill {}", first.id));
        assert_eq!(code, Some(0), "{said}");
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
        let (code, said) = ask(scene, owner, "flows state=open");
        assert!(code == Some(1) && said.contains("is no state of TCP"), "{said}");
        for (words, expected) in [
            ("services", "protected"),
            ("cores", "core 0"),
            ("peers", "this node"),
            ("top --count 1", "opened/s"),
        ] {
            let (code, said) = ask(scene, 1, words);
            assert!(code == Some(0) && said.contains(expected), "{words}: {said}");
        }
    });
}
