//! `understudy servers` and `understudy server`: to whom connections are passed on, how they are, and whether they are to be
//! used.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use dataplane::control::servers::{CheckOutcome, CheckStatus, ServerOrder, ServerStatus, Servers};
use dataplane::control::status::Role;
use dataplane::control::{Reply, Request};

use crate::handover::finish;
use crate::status::{ask, bytes, json, socket, span, table};

/// Arguments of `understudy servers`.
#[derive(Args, Debug, Clone)]
#[command(
    after_help = "The owner of a service decides which servers are used, and its peer holds the same. Exit codes: 0 the node \
                  answered, 1 it did not, 2 wrong usage."
)]
pub struct ServersArgs {
    /// Only this service.
    pub service: Option<String>,
    /// The node's control socket. Default: the only one in /run/understudy.
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Print the node's answer as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `understudy server`.
#[derive(Args, Debug, Clone)]
#[command(
    after_help = "Run it on the node that owns the service. Every core of it and the peer know of the order when the command \
                  ends, or will before anything else; it holds until the next one, whoever takes over. Exit codes: 0 done, 1 not \
                  (the reason is on standard error), 2 wrong usage."
)]
pub struct ServerArgs {
    /// The service and the server, as SERVICE/NAME.
    #[arg(value_name = "SERVICE/NAME", value_parser = path)]
    pub server: (String, String),
    /// What to do.
    #[command(subcommand)]
    pub order: Order,
    /// The node's control socket. Default: the only one in /run/understudy.
    #[arg(long, value_name = "PATH", global = true)]
    pub socket: Option<PathBuf>,
}

/// What to do with a server.
#[derive(Subcommand, Debug, Clone, Copy)]
pub enum Order {
    /// No new connections, but for clients that stick to it; those that it has go on.
    Drain,
    /// No new connections at all; those that it has go on, or are reset with `on_server_down = "reset"`.
    Maint,
    /// Connections as usual.
    Ready,
    /// Another share of the connections, 0 to 256.
    Weight {
        /// The share.
        weight: u16,
    },
}

/// Shows the servers.
pub fn servers(args: &ServersArgs) -> ExitCode {
    finish(text(args))
}

/// Orders what is to be done with a server.
pub fn server(args: &ServerArgs) -> ExitCode {
    let order = || {
        let (service, server) = args.server.clone();
        let order = match args.order {
            Order::Drain => ServerOrder::Drain,
            Order::Maint => ServerOrder::Maint,
            Order::Ready => ServerOrder::Ready,
            Order::Weight { weight } => ServerOrder::Weight(weight),
        };
        let socket = socket(args.socket.as_deref())?;
        ask(&socket, &Request::Server { service, server, order }).map(|_| String::new())
    };
    finish(order())
}

fn path(text: &str) -> Result<(String, String), String> {
    let (service, server) = text.split_once('/').ok_or("write SERVICE/NAME, web/a for example")?;
    Ok((service.into(), server.into()))
}

fn text(args: &ServersArgs) -> Result<String, String> {
    let servers = read(&socket(args.socket.as_deref())?, args.service.clone())?;
    if args.json { json(&servers) } else { Ok(render(&servers)) }
}

/// The servers of a service, or of all, as the node behind `socket` knows them.
pub(crate) fn read(socket: &Path, service: Option<String>) -> Result<Servers, String> {
    match ask(socket, &Request::Servers { service })? {
        Reply::Servers { servers } => Ok(*servers),
        _ => Err("the node answered something else".into()),
    }
}

fn render(servers: &Servers) -> String {
    if servers.services.is_empty() {
        return format!("no service of node {} passes connections on to servers\n", servers.node);
    }
    let mut text = String::new();
    for service in &servers.services {
        let (node, name) = (servers.node, &service.service);
        let role = match service.role {
            Role::None => "does not serve it".to_string(),
            role => format!("is its {role}"),
        };
        let queued = match service.queued {
            0 => String::new(),
            queued => format!("; {queued} clients WAIT for a server with room"),
        };
        let limit = match service.max_connections {
            0 => String::new(),
            max => format!("; {max} connections at most"),
        };
        let clients = match (service.clients, service.received_bytes + service.sent_bytes) {
            (0, 0) => String::new(),
            (clients, _) => format!(
                "; {clients} new clients so far, {} from all and {} to them",
                bytes(service.received_bytes),
                bytes(service.sent_bytes)
            ),
        };
        let _ = writeln!(text, "{name}: node {node} {role}{limit}{clients}{queued}");
        let over = service.ended.iter().filter(|ended| ended.connections > 0);
        let over: Vec<String> = over
            .map(|ended| {
                format!("{} {} {}", ended.by, ended.how.replace('_', " "), ended.connections)
            })
            .collect();
        if !over.is_empty() {
            let _ = writeln!(text, "over, by whom and how: {}", over.join(", "));
        }
        let rows = service.servers.iter().map(row).collect();
        let head = [
            "server",
            "at",
            "state",
            "since",
            "weight",
            "connections",
            "opened",
            "failed",
            "to it",
            "from it",
            "last check",
        ];
        table(&mut text, head, rows);
    }
    text
}

fn row(server: &ServerStatus) -> [String; 11] {
    let weight = match server.weight == server.configured_weight {
        true => server.weight.to_string(),
        false => format!("{} (configured: {})", server.weight, server.configured_weight),
    };
    let address = match server.address.contains(':') {
        true => format!("[{}]:{}", server.address, server.port),
        false => format!("{}:{}", server.address, server.port),
    };
    [
        if server.backup { format!("{} (backup)", server.name) } else { server.name.clone() },
        address,
        server.state.to_string(),
        server.since_us.map_or("the start".into(), |us| format!("{} ago", span(us))),
        weight,
        match server.max_connections {
            0 => server.connections.to_string(),
            max => format!("{} of {max}", server.connections),
        },
        server.opened.to_string(),
        server.failed.to_string(),
        bytes(server.sent_bytes),
        bytes(server.received_bytes),
        server.check.as_ref().map_or("-".into(), check),
    ]
}

fn check(check: &CheckStatus) -> String {
    let (reason, took, age) = (&check.reason, span(check.took_us), span(check.age_us));
    let outcome = match check.last {
        CheckOutcome::None => return "none yet".into(),
        CheckOutcome::Passed => format!("{reason} in {took}"),
        CheckOutcome::Failed => format!("FAILED: {reason}"),
        CheckOutcome::Unable => format!("NOT POSSIBLE from this node: {reason}"),
    };
    format!("{outcome}, {age} ago")
}
