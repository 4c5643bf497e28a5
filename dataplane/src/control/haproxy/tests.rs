//! The words of HAProxy, spoken to a node that is a closure.

use super::*;
use crate::control::servers::{EndedStatus, ServiceServers};
use crate::control::status::{ClusterStatus, CoreStatus, GroupStatus, Role};
use std::sync::{Arc, Mutex};

/// A node with two services, one of which has a server up, one in maintenance, a backup, and one of the first's name
/// that has left; orders are kept.
fn node(orders: Arc<Mutex<Vec<Request>>>) -> impl Fn(Request) -> Reply + Send + Sync {
    move |request| match request {
        Request::Status => {
            let group = |service: &str, role| GroupStatus {
                service: service.into(),
                role,
                flows: 6,
                ..GroupStatus::default()
            };
            let cluster = ClusterStatus { name: "demo".into(), ..ClusterStatus::default() };
            let core = CoreStatus { flows: 12, ..CoreStatus::default() };
            // Two generations of `echo`.
            let groups =
                ["echo", "echo", "shop"].into_iter().zip([Role::Peer, Role::None, Role::Owner]);
            let groups = groups.map(|(service, role)| group(service, role)).collect();
            let status = Status {
                node: 1,
                version: "0.1.0".into(),
                uptime_us: 93_784_000_000,
                cluster,
                groups,
                cores: vec![core],
                ..Status::default()
            };
            Reply::Status { status: Box::new(status) }
        }
        Request::Servers { service } if service.as_deref().is_none_or(|name| name == "shop") => {
            let server = |name: &str, state| ServerStatus {
                name: name.into(),
                address: "10.2.0.1".into(),
                port: 80,
                state,
                weight: 3,
                configured_weight: 4,
                connections: 2,
                opened: 9,
                sent_bytes: 300,
                received_bytes: 4000,
                ..ServerStatus::default()
            };
            let backup = ServerStatus { backup: true, ..server("c", ServerState::Up) };
            let left = ServerStatus { weight: 0, ..server("a", ServerState::Retired) };
            let (up, maint) = (server("a", ServerState::Up), server("b", ServerState::Maint));
            let servers = vec![left, up, maint, backup];
            let shop = ServiceServers {
                service: "shop".into(),
                role: Role::Owner,
                queued: 5,
                max_connections: 100,
                clients: 40,
                received_bytes: 1000,
                sent_bytes: 20_000,
                ended: [("client", 5), ("server", 6)]
                    .map(|(by, connections)| EndedStatus {
                        by: by.into(),
                        how: "reset".into(),
                        connections,
                    })
                    .into(),
                servers,
            };
            let services = vec![shop];
            Reply::Servers { servers: Box::new(Servers { node: 1, services }) }
        }
        Request::Server { ref server, .. } if server == "a" => {
            orders.lock().expect("no panic").push(request);
            Reply::Done
        }
        other => Reply::Error { message: format!("there is no such thing: {other:?}") },
    }
}

fn say(line: &str) -> (Option<String>, Vec<Request>) {
    let orders = Arc::<Mutex<Vec<Request>>>::default();
    let answer = Session::default().answer(line.as_bytes(), &node(orders.clone()));
    let orders = orders.lock().expect("no panic").clone();
    (answer, orders)
}

fn said(line: &str) -> String {
    say(line).0.expect("an answer")
}

/// One line of the table by column.
fn row<'a>(table: &'a str, proxy: &str, part: &str, column: &str) -> &'a str {
    let mut lines = table.lines();
    let head = lines.next().and_then(|line| line.strip_prefix("# ")).expect("a head");
    let at = head.split(',').position(|name| name == column).expect("a column");
    let line = lines.find(|line| line.starts_with(&format!("{proxy},{part},"))).expect("a line");
    assert_eq!(line.matches(',').count(), head.matches(',').count(), "{line}");
    line.split(',').nth(at).expect("a value")
}

#[test]
fn the_table_has_a_line_for_each_service_and_server() {
    let table = said("show stat\n");
    assert_eq!(row(&table, "shop", "FRONTEND", "status"), "OPEN");
    assert_eq!(row(&table, "shop", "FRONTEND", "scur"), "3", "two legs each");
    assert_eq!(row(&table, "echo", "FRONTEND", "status"), "STOP");
    assert_eq!(row(&table, "echo", "FRONTEND", "scur"), "12", "in both generations");
    assert_eq!(table.matches("echo,FRONTEND").count(), 1);
    assert_eq!(row(&table, "shop", "a", "status"), "UP");
    assert_eq!(row(&table, "shop", "b", "status"), "MAINT");
    assert_eq!(row(&table, "shop", "a", "addr"), "10.2.0.1:80");
    let counted = ["act", "bck", "weight"].map(|column| row(&table, "shop", "BACKEND", column));
    assert_eq!(counted, ["1", "1", "3"], "the backup's weight does not count yet");
    assert_eq!(["act", "bck"].map(|column| row(&table, "shop", "c", column)), ["0", "1"]);
    assert_eq!(row(&table, "shop", "BACKEND", "stot"), "36", "of those that have left, too");
    assert_eq!([row(&table, "shop", "a", "sid"), row(&table, "shop", "b", "sid")], ["2", "3"]);
    assert_eq!(row(&table, "shop", "BACKEND", "qcur"), "5");
    assert_eq!(
        [row(&table, "shop", "BACKEND", "slim"), row(&table, "shop", "a", "slim")],
        ["100", ""]
    );
    assert_eq!(row(&table, "shop", "BACKEND", "type"), "1");
    let of = |part, columns: [&str; 3]| columns.map(|column| row(&table, "shop", part, column));
    assert_eq!(of("FRONTEND", ["stot", "bin", "bout"]), ["40", "1000", "20000"]);
    assert_eq!(of("BACKEND", ["bin", "cli_abrt", "srv_abrt"]), ["1000", "5", "6"]);
    assert_eq!(of("a", ["stot", "bin", "bout"]), ["9", "300", "4000"]);
    assert!(table.ends_with(",\n\n"), "an empty line ends it");
    let part = |line: &str| said(line).lines().filter(|line| line.contains(',')).count() - 1;
    assert_eq!(
        [part("show stat 3 2 -1"), part("show stat shop"), part("show stat -1 1 -1")],
        [1, 5, 2]
    );
    assert_eq!([part("show stat 3 6 2"), part("show stat 3 6 1")], [1, 0]);
    assert_eq!(said("show stat nobody"), "No such proxy.\n\n");
}

#[test]
fn the_process_and_the_servers_are_shown() {
    let info = said("show info");
    for line in ["Name: Understudy", "Uptime: 1d 2h03m04s", "CurrConns: 12", "node: 1"] {
        assert!(info.lines().any(|known| known == line), "{line} in {info}");
    }
    let state = said("show servers state shop");
    let lines: Vec<&str> = state.lines().collect();
    assert_eq!(lines[0], "1");
    assert_eq!(
        lines[2], "3 shop 2 a 10.2.0.1 2 0 3 4 0 1 0 0 0 0 0 0 - 80 - 0 0 - - 0",
        "ids as in show stat"
    );
    assert_eq!(lines[1].split(' ').count() - 1, lines[2].split(' ').count(), "head and line");
    assert_eq!(said("get weight shop/a"), "3 (initial 4)\n\n");
}

#[test]
fn orders_reach_the_node() {
    let order = |line: &str| {
        let (answer, orders) = say(line);
        assert_eq!(answer.as_deref(), Some("\n"), "{line}: silence is success");
        match &orders[..] {
            [Request::Server { service, order, .. }] if service == "shop" => *order,
            other => panic!("{line}: {other:?}"),
        }
    };
    assert_eq!(order("disable server shop/a"), ServerOrder::Maint);
    assert_eq!(order("enable server shop/a"), ServerOrder::Ready);
    assert_eq!(order("set server shop/a state drain"), ServerOrder::Drain);
    assert_eq!(order("set server shop/a weight 7"), ServerOrder::Weight(7));
    assert_eq!(order("set weight shop/a 50%"), ServerOrder::Weight(2), "of the configured one");
}

#[test]
fn whatever_else_is_said_is_an_answer_and_no_order() {
    for line in [
        "set server shop/a",
        "set server shop/a weight -1",
        "set server shop/a weight 99999999999999999999",
        "set server shop/a state gone",
        "set weight shop/a %",
        "enable server shop",
        "enable server shop/nobody",
        "get weight /",
        "get weight shop/nobody",
        "show stat shop x",
        "show servers state nobody",
        "set timeout cli soon",
        "clear table",
        "z\u{0}\u{1b}[2J",
    ] {
        let (answer, orders) = say(line);
        assert!(answer.is_some_and(|text| text.trim().len() > 3), "{line}");
        assert_eq!(orders, [], "{line}");
    }
    let many = ["disable server shop/a"; COMMANDS_MAX + 1].join(";");
    let (answer, orders) = say(&many);
    assert!(answer.is_some_and(|text| text.contains("none was carried out")));
    assert_eq!(orders, []);
    let most = ["get weight shop/a"; COMMANDS_MAX].join(";");
    assert_eq!(said(&most).matches("initial").count(), COMMANDS_MAX);
    assert!(said("\u{fffd}help").starts_with("Unknown command"));
}

#[test]
fn a_prompt_makes_it_a_dialogue() {
    let node = node(Arc::default());
    let mut session = Session::default();
    assert!(session.is_command(b"prompt") && session.is_command(b"  show info"));
    assert!(
        ![&b"{\"command\":\"status\"}"[..], b"", b"[", b"\"a\"", b"\xff"]
            .iter()
            .any(|line| session.is_command(line))
    );
    assert!(!session.goes_on());
    assert_eq!(session.answer(b"prompt\n", &node).as_deref(), Some("\n> "));
    assert_eq!(session.answer(b"set timeout cli 60\n", &node).as_deref(), Some("\n> "));
    assert_eq!(session.patience, Some(Duration::from_secs(60)));
    assert!(session.goes_on() && session.is_command(b""));
    assert!(session.answer(b"show info; help", &node).is_some_and(|text| text.ends_with("\n\n> ")));
    assert_eq!(session.answer(b"quit\n", &node), None);
    assert!(!session.goes_on());
}
