//! What an operator, or whoever has got hold of his tools, can say: configurations and commands.

use super::STEPS_MAX;
use dataplane::config;
use dataplane::control::haproxy::Session;
use dataplane::control::servers::{ServerState, ServerStatus, Servers, ServiceServers};
use dataplane::control::status::{CoreStatus, GroupStatus, Role, Status};
use dataplane::control::{Reply, Request};
use std::path::Path;
use std::sync::{Arc, Mutex};

/// A line of HAProxy's commands.
pub(super) const COMMANDS: &str = "show stat shop; set server shop/a state drain; get weight shop/b; set weight shop/b 50%;\
     show stat 3 6 1; disable server shop/a; show servers state; enable server shop/b; set server shop/b weight 7; show info";

/// A configuration of any text: an answer with places that lie in it, and never a panic.
pub fn configuration(data: &[u8]) -> bool {
    let text = String::from_utf8_lossy(data).into_owned();
    let loaded = config::parse("node.toml", text, Path::new("/nowhere"));
    assert_eq!(loaded.config.is_none(), loaded.count(config::Severity::Error) > 0);
    let _ = loaded.render(false);
    !loaded.diagnostics.iter().any(|said| said.kind == config::Kind::Syntax)
}

/// A request to the control socket.
pub fn control(data: &[u8]) -> bool {
    let Ok(request) = serde_json::from_slice::<Request>(data) else { return false };
    let again = serde_json::to_vec(&request).expect("it can be written");
    assert_eq!(serde_json::from_slice::<Request>(&again).ok(), Some(request));
    true
}

/// A line of HAProxy's commands: answered, and its orders are those of its commands one by one.
pub fn haproxy(data: &[u8]) -> bool {
    let asked = Arc::<Mutex<Asked>>::default();
    let node = asked.clone();
    let handler = move |request: Request| {
        let mut asked = node.lock().expect("no panic");
        asked.requests += 1;
        answer(&mut asked.orders, request)
    };
    let taken = || std::mem::take(&mut asked.lock().expect("no panic").orders);
    let line = String::from_utf8_lossy(data);
    let commands: Vec<&str> = line.split(';').collect();
    let answer = Session::default().answer(data, &handler);
    let at_once = taken();
    assert!(at_once.len() <= commands.len());
    if commands.len() > STEPS_MAX.min(64) {
        assert!(at_once.is_empty(), "a line that is too long is refused whole");
        return false;
    }
    for table in
        answer.iter().flat_map(|text| text.split("\n\n")).filter(|t| t.starts_with("# pxname"))
    {
        let columns = |row: &str| row.matches(',').count();
        let head = table.lines().next().map(columns);
        assert!(table.lines().filter(|row| !row.is_empty()).all(|row| Some(columns(row)) == head));
    }
    let mut session = Session::default();
    for command in commands {
        if session.answer(command.as_bytes(), &handler).is_none() || has_quit(command) {
            break;
        }
    }
    assert_eq!(at_once, taken(), "one by one they are the same orders");
    asked.lock().expect("no panic").requests > 0
}

fn has_quit(command: &str) -> bool {
    command.split_whitespace().eq(["quit"])
}

/// What a node was asked.
#[derive(Default)]
struct Asked {
    requests: u64,
    orders: Vec<Request>,
}

/// A node with two services, one of which has servers; what it is ordered is kept.
fn answer(orders: &mut Vec<Request>, request: Request) -> Reply {
    match request {
        Request::Status => {
            let group = |service: &str| GroupStatus {
                service: service.into(),
                role: Role::Owner,
                flows: 6,
                ..GroupStatus::default()
            };
            let status = Status {
                node: 1,
                uptime_us: u64::MAX,
                groups: ["echo", "echo", "shop"].map(group).into(),
                cores: vec![CoreStatus { flows: 12, ..CoreStatus::default() }],
                ..Status::default()
            };
            Reply::Status { status: Box::new(status) }
        }
        Request::Servers { service } if service.as_deref().is_none_or(|name| name == "shop") => {
            let server = |(name, state): (&str, ServerState)| ServerStatus {
                name: name.into(),
                address: "10.2.0.1".into(),
                state,
                weight: 3,
                configured_weight: u16::MAX,
                opened: u64::MAX / 8,
                ..ServerStatus::default()
            };
            let states =
                [ServerState::Retired, ServerState::Up, ServerState::Maint, ServerState::Down];
            let servers = ["a", "a", "b", "c"].into_iter().zip(states).map(server).collect();
            let shop =
                ServiceServers { service: "shop".into(), servers, ..ServiceServers::default() };
            Reply::Servers { servers: Box::new(Servers { node: 1, services: vec![shop] }) }
        }
        Request::Server { ref server, .. } if server == "a" || server == "b" => {
            orders.push(request);
            Reply::Done
        }
        other => Reply::Error { message: format!("there is no such thing: {other:?}") },
    }
}
