//! Reads `[services.application]` with `type = "proxy"`: servers, and how we reach them.

use std::net::IpAddr;

use cluster::limits::CAPTURE_BYTES_MAX;
use stack::limits::UNA_FLUSH_BYTES;
use stack::time::Duration;
use stack::upstream::{SERVERS_MAX, WEIGHT_MAX};

use super::diagnostic::Kind;
use super::reader::{Reader, Table};
use super::service::{span, virtual_address};
use super::types::*;
use super::value;

/// For how long a server may leave a connection unanswered: three SYNs.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections that a limit may name.
const CONNECTIONS_MAX: u64 = 100_000_000;

/// Clients that may wait for a server with room, and how many of them a service may allow.
const QUEUE: u64 = 1024;
const QUEUE_MAX: u64 = 16_384;

/// For how long they wait, as long as a server may take to answer.
const QUEUE_TIMEOUT: Duration = CONNECT_TIMEOUT;

/// How long a client that is passed on may say nothing: dialogues rest for longer than requests.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);

/// How long either side may say nothing where only one way is open.
const HALF_CLOSED_TIMEOUT: Duration = Duration::from_secs(300);

/// Servers that are asked for one client, as HAProxy's `retries 3` has it.
const ATTEMPTS: u64 = 3;

/// Receive buffer of what is passed on end to end, where the configuration names none. An acknowledgement goes by the other side and
/// by the peer, and is recorded twice for each window; only what is under way takes memory. At MTU 9000 on a busy two-core
/// machine a download had 0.7 of the throughput with 256 KiB, and its GB cost 1.4 times as much.
pub const RECEIVE_BUFFER_BYTES: u64 = 1 << 20;

const _: () =
    assert!(2 * UNA_FLUSH_BYTES as u64 <= RECEIVE_BUFFER_BYTES, "two records for each window");

/// Receive buffer with `ack = "held"`, at most and where the configuration names none: both directions of a connection, unread by
/// either side, must fit into one capture of the flow.
pub const HELD_BUFFER_BYTES: u64 = 256 << 10;

const _: () = assert!(
    2 * HELD_BUFFER_BYTES < CAPTURE_BYTES_MAX as u64,
    "both directions fit into one capture"
);

/// What the table says; `addresses` and `idle_timeout` are the service's own.
pub fn proxy(
    reader: &mut Reader,
    table: &mut Table<'_>,
    addresses: &[IpAddr],
    idle_timeout: Option<Duration>,
) -> Proxy {
    let words = [("end-to-end", Ack::EndToEnd), ("held", Ack::Held)];
    let ack = table.choice(reader, "ack", &words).unwrap_or_default();
    let words = [
        ("round-robin", Balance::RoundRobin),
        ("least-connections", Balance::LeastConnections),
        ("source", Balance::Source),
        ("random-two", Balance::RandomTwo),
        ("maglev", Balance::Maglev),
    ];
    let balance = table.choice(reader, "balance", &words).unwrap_or_default();
    let attempts = table.integer(reader, "attempts", 1..=16).unwrap_or(ATTEMPTS) as u8;
    let connect_timeout = span(reader, table, "connect_timeout", "100ms", "10m");
    let server_timeout = span(reader, table, "server_timeout", "1s", "24h");
    let half_closed_timeout = span(reader, table, "half_closed_timeout", "1s", "24h");
    let gateway = table.parsed(reader, "gateway", "an address", host_address);
    let words = [("v1", ProxyProtocol::V1), ("v2", ProxyProtocol::V2)];
    let proxy_protocol = table.choice(reader, "proxy_protocol", &words);
    let log_connections = table.boolean(reader, "log_connections").unwrap_or(false);
    let accept_proxy = table.boolean(reader, "accept_proxy").unwrap_or(false);
    if accept_proxy && ack == Ack::EndToEnd {
        let message = "`accept_proxy` takes what a client says first, which end to end nobody would acknowledge";
        let help = "add `ack = \"held\"`";
        let path = table.path("accept_proxy");
        reader.reject_with_help(&path, Kind::Inconsistent, message.into(), help);
    }
    let source = source(reader, table, addresses);
    let max_connections = table.integer(reader, "max_connections", 0..=CONNECTIONS_MAX);
    let queue = table.integer(reader, "queue", 0..=QUEUE_MAX).unwrap_or(QUEUE) as u32;
    let queue_timeout = span(reader, table, "queue_timeout", "10ms", "10m");
    let slow_start = span(reader, table, "slow_start", "0s", "1h").unwrap_or(Duration::ZERO);
    let stick = span(reader, table, "stick", "0s", "24h").unwrap_or(Duration::ZERO);
    let words = [("keep", OnServerDown::Keep), ("reset", OnServerDown::Reset)];
    let on_server_down = table.choice(reader, "on_server_down", &words).unwrap_or_default();
    let check = super::health::check(reader, table).map(Box::new);
    let servers = servers(reader, table);
    let proxy = Proxy {
        ack,
        balance,
        attempts,
        connect_timeout: connect_timeout.unwrap_or(CONNECT_TIMEOUT),
        server_timeout: server_timeout.or(idle_timeout).unwrap_or(IDLE_TIMEOUT),
        half_closed_timeout: half_closed_timeout.unwrap_or(HALF_CLOSED_TIMEOUT),
        gateway,
        log_connections,
        accept_proxy,
        proxy_protocol,
        source,
        max_connections: max_connections.unwrap_or(0) as u32,
        queue,
        queue_timeout: queue_timeout.unwrap_or(QUEUE_TIMEOUT),
        slow_start,
        stick,
        on_server_down,
        check,
        servers,
    };
    families(reader, table, &proxy);
    first_servers(reader, table, &proxy);
    proxy
}

/// Somebody has to serve before the backups do.
fn first_servers(reader: &mut Reader, table: &Table<'_>, proxy: &Proxy) {
    let path = table.path("servers");
    let has_servers = reader.good(&path) && !proxy.servers.is_empty();
    if has_servers && proxy.servers.iter().all(|server| server.backup) {
        let message = "every server is a backup";
        let help = "leave `backup` out of those that serve while all is well";
        reader.reject_with_help(&path, Kind::Inconsistent, message.into(), help);
    }
}

/// An address from which we connect is one that moves with the service, and reads like one.
fn source(reader: &mut Reader, table: &mut Table<'_>, own: &[IpAddr]) -> Vec<IpAddr> {
    let path = table.path("source");
    let Some(value) = table.value(reader, "source") else { return own.to_vec() };
    let elements = reader.array(&path, value, "an array of addresses").unwrap_or_default();
    if elements.is_empty() {
        let message = "`source` must name at least one; without it the service's own are used";
        reader.reject(&path, Kind::OutOfRange, message);
    }
    let mut sources = Vec::new();
    for (path, value) in elements {
        let whole = |text: &str| {
            let text = text.strip_suffix("/32").or(text.strip_suffix("/128")).unwrap_or(text);
            virtual_address(text)
        };
        let Some(address) = reader.parsed(&path, value, "an address", whole) else { continue };
        if sources.contains(&address) {
            reader.reject(&path, Kind::Duplicate, "this address is listed twice");
        }
        sources.push(address);
    }
    sources
}

fn servers(reader: &mut Reader, table: &mut Table<'_>) -> Vec<Server> {
    let path = table.path("servers");
    let tables = table.tables(reader, "servers");
    let example = "servers = [{ name = \"a\", address = \"10.0.0.11\", port = 80 }]";
    let tables = table.required(reader, "servers", tables, example).unwrap_or_default();
    let written = tables.len();
    if (written == 0 && reader.good(&path) && reader.written(&path)) || written > SERVERS_MAX {
        let message = format!("{written} servers; there must be 1 to {SERVERS_MAX}");
        reader.reject(&path, Kind::OutOfRange, message);
    }
    let mut servers: Vec<Server> = Vec::new();
    for table in tables {
        let (name_path, address_path) = (table.path("name"), table.path("address"));
        let server = server(reader, table);
        if servers.iter().any(|other| other.name == server.name) && reader.good(&name_path) {
            let message = format!("two servers are called {:?}", server.name);
            reader.reject(&name_path, Kind::Duplicate, message);
        }
        let is_twin =
            |other: &&Server| other.address == server.address && other.port == server.port;
        if let Some(other) = servers.iter().find(is_twin)
            && reader.good(&address_path)
        {
            let message = format!("{:?} is at this address and port already", other.name);
            reader.reject(&address_path, Kind::Duplicate, message);
        }
        servers.push(server);
    }
    servers
}

fn server(reader: &mut Reader, mut table: Table<'_>) -> Server {
    let name = table.parsed(reader, "name", "a string", |text| value::name(text, 32));
    let name = table.required(reader, "name", name, "name = \"a\"").unwrap_or_default();
    let address = table.parsed(reader, "address", "an address", host_address);
    let address = table.required(reader, "address", address, "address = \"10.0.0.11\"");
    let port = table.integer(reader, "port", 1..=65535);
    let port = table.required(reader, "port", port, "port = 80").unwrap_or(1) as u16;
    let weight = table.integer(reader, "weight", 0..=u64::from(WEIGHT_MAX)).unwrap_or(1) as u16;
    let backup = table.boolean(reader, "backup").unwrap_or(false);
    let max_connections = table.integer(reader, "max_connections", 0..=CONNECTIONS_MAX);
    let max_connections = max_connections.unwrap_or(0) as u32;
    table.finish(reader);
    // A placeholder where the address is wrong, which was said.
    let address = address.unwrap_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED));
    Server { name, address, port, weight, backup, max_connections, is_retired: false }
}

/// The address of one host.
fn host_address(text: &str) -> Result<IpAddr, String> {
    virtual_address(text).map_err(|_| format!("{text:?} is not the unicast address of a host"))
}

/// Every server can be reached from some source, and through the gateway.
fn families(reader: &mut Reader, table: &Table<'_>, proxy: &Proxy) {
    let path = table.path("servers");
    let is_readable = reader.good(&path) && reader.good(&table.path("source"));
    for (s, server) in proxy.servers.iter().enumerate().filter(|_| is_readable) {
        let path = format!("{path}[{s}].address");
        let is_same = |address: &IpAddr| address.is_ipv4() == server.address.is_ipv4();
        if !reader.good(&path) {
            continue;
        }
        if !proxy.source.iter().any(is_same) && !proxy.source.is_empty() {
            let message = format!("no address of `source` can reach {}", server.address);
            let help = "IPv4 servers need an IPv4 source, IPv6 servers an IPv6 one";
            reader.reject_with_help(&path, Kind::Inconsistent, message, help);
        }
        if proxy.gateway.is_some_and(|gateway| !is_same(&gateway)) {
            let message = format!("{} cannot be reached through the gateway", server.address);
            let help = "`gateway` and servers must be of one family";
            reader.reject_with_help(&path, Kind::Inconsistent, message, help);
        }
    }
}
