//! Reads `[[services]]`.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use cluster::id::{NodeId, service_id};
use cluster::limits::{LOG_DATAGRAMS_MAX, LOG_RESERVED};
use cluster::message::advertise::ADDRESSES_MAX;
use stack::service::HOP_LIMIT;
use stack::time::Duration;

use super::diagnostic::Kind;
use super::proxy;
use super::reader::{Reader, Table};
use super::types::*;
use super::value::{self, PortRange, duration_text};

/// Receive buffer where the configuration names none: a burst of 64 frames and its successor, so that a
/// client need not stop for the acknowledgement of a burst; one connection's window still fits into the
/// log of a mirroring session (what is passed on end to end does not go there: [`proxy`]). One upload at MTU 1500 between two namespaces, medians of 7 interleaved
/// rounds on a busy two-core machine: 0.89 Gbit/s with 256 KiB, 1.12 with 512 KiB, 1.15 with 1 MiB.
const RECEIVE_BUFFER_BYTES: u64 = 512 << 10;

/// How long a client may say nothing.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a home node that is back must have been in sync before it gets its connections back.
const HOLD_DOWN: Duration = Duration::from_secs(10);

const _: () = assert!(
    (LOG_DATAGRAMS_MAX - LOG_RESERVED) as u64 * 1280 > RECEIVE_BUFFER_BYTES,
    "a window fits into the log"
);

/// Every service of the file.
pub fn services(reader: &mut Reader, root: &mut Table<'_>, directory: &Path) -> Vec<Service> {
    let tables = root.tables(reader, "services").unwrap_or_default();
    if tables.len() > Config::SERVICES_MAX {
        let message = format!("{} services; {} at most", tables.len(), Config::SERVICES_MAX);
        reader.reject("services", Kind::OutOfRange, message);
    }
    tables.into_iter().map(|table| service(reader, table, directory)).collect()
}

/// A duration between two others.
pub fn span(
    reader: &mut Reader,
    table: &mut Table<'_>,
    key: &'static str,
    low: &str,
    high: &str,
) -> Option<Duration> {
    let duration =
        table.parsed(reader, key, "a duration, \"20ms\" for example", value::duration)?;
    let limit = |text| value::duration(text).expect("a duration of this file");
    if !(limit(low)..=limit(high)).contains(&duration) {
        let is = duration_text(duration);
        let message = format!("`{key}` is {is}; it must be in {low}..={high}");
        reader.reject(&table.path(key), Kind::OutOfRange, message);
        return None;
    }
    Some(duration)
}

fn service(reader: &mut Reader, mut table: Table<'_>, directory: &Path) -> Service {
    let service = service_values(reader, &mut table, directory);
    refuse_what_is_not_built(reader, &table, &service);
    table.finish(reader);
    service
}

fn service_values(reader: &mut Reader, table: &mut Table<'_>, directory: &Path) -> Service {
    let name = table.parsed(reader, "name", "a string", service_name);
    let name = table.required(reader, "name", name, "name = \"web\"").unwrap_or_default();
    let home = table.integer(reader, "home", 1..=u64::from(NodeId::MAX));
    let home = table.required(reader, "home", home, "home = 1").unwrap_or(0);
    let peers = peers(reader, table);
    let words = [("serve", OnPeerLoss::Serve), ("stop", OnPeerLoss::Stop)];
    let on_peer_loss = table.choice(reader, "on_peer_loss", &words).unwrap_or_default();
    let words = [
        ("all", Failback::All),
        ("new-connections", Failback::NewConnections),
        ("manual", Failback::Manual),
    ];
    let failback = table.choice(reader, "failback", &words).unwrap_or_default();
    let failback_hold_down = span(reader, table, "failback_hold_down", "100ms", "24h");
    let addresses = addresses(reader, table);
    let ports = ports(reader, table);
    let words = [("tcp", Protocol::Tcp), ("udp", Protocol::Udp)];
    let protocol = table.choice(reader, "protocol", &words).unwrap_or_default();
    let words = [
        ("gratuitous", ArpPolicy::Gratuitous),
        ("virtual-mac", ArpPolicy::VirtualMac),
        ("none", ArpPolicy::None),
    ];
    let arp = table.choice(reader, "arp", &words).unwrap_or_default();
    let mac = table.parsed(reader, "mac", "a MAC address", value::mac);
    let words = [("off", Snoop::Off), ("wire", Snoop::Wire)];
    let snoop = table.choice(reader, "snoop", &words).unwrap_or_default();
    let receive_buffer = table.integer(reader, "receive_buffer", 4096..=16 << 20);
    let nodelay = table.boolean(reader, "nodelay").unwrap_or(true);
    let hop_limit = table.integer(reader, "hop_limit", 1..=255);
    let idle_timeout = span(reader, table, "idle_timeout", "1s", "24h");
    let keep_alive = keep_alive(reader, table);
    let application = application(reader, table, directory, &addresses, idle_timeout);
    let is_proxy = matches!(application, Application::Proxy(_));
    let idle_default = if is_proxy { proxy::IDLE_TIMEOUT } else { IDLE_TIMEOUT };
    let is_held = matches!(&application, Application::Proxy(proxy) if proxy.ack == Ack::Held);
    let default = match (is_proxy, is_held) {
        (false, _) => RECEIVE_BUFFER_BYTES,
        (true, false) => proxy::RECEIVE_BUFFER_BYTES,
        (true, true) => proxy::HELD_BUFFER_BYTES,
    };
    let receive_buffer = receive_buffer.unwrap_or(default);
    if is_held && receive_buffer > proxy::HELD_BUFFER_BYTES {
        let most = proxy::HELD_BUFFER_BYTES;
        let message = format!("with `ack = \"held\"` a connection buffers {most} bytes at most");
        let help = "with more, both directions would not fit into one capture for the peer";
        reader.reject_with_help(&table.path("receive_buffer"), Kind::OutOfRange, message, help);
    }
    Service {
        id: service_id(&name),
        place: 0,
        leaving: None,
        name,
        home: NodeId(home as u8),
        peers,
        on_peer_loss,
        failback,
        failback_hold_down: failback_hold_down.unwrap_or(HOLD_DOWN),
        addresses,
        ports,
        protocol,
        arp,
        mac,
        snoop,
        receive_buffer: receive_buffer as u32,
        nodelay,
        hop_limit: hop_limit.unwrap_or(u64::from(HOP_LIMIT)) as u8,
        idle_timeout: idle_timeout.unwrap_or(idle_default),
        keep_alive,
        application,
    }
}

/// Off unless the table is written; what it leaves out has a default.
fn keep_alive(reader: &mut Reader, table: &mut Table<'_>) -> Option<KeepAlive> {
    let path = table.path("keep_alive");
    let mut table = table.table(reader, "keep_alive");
    let default = stack::service::KeepAlive::default();
    let idle = span(reader, &mut table, "idle", "1s", "24h");
    let interval = span(reader, &mut table, "interval", "1s", "1h");
    let count = table.integer(reader, "count", 2..=100);
    table.finish(reader);
    reader.written(&path).then(|| KeepAlive {
        idle: idle.unwrap_or(default.idle),
        interval: interval.unwrap_or(default.interval),
        count: count.unwrap_or(u64::from(default.count)) as u8,
    })
}

fn service_name(text: &str) -> Result<String, String> {
    match text.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '-')) {
        Some(c) => Err(format!("a service's name has a-z, 0-9 and `-`, not {c:?}")),
        None => value::name(text, 32),
    }
}

fn peers(reader: &mut Reader, table: &mut Table<'_>) -> Vec<NodeId> {
    let path = table.path("peers");
    let wanted = "an array of node ids";
    let elements =
        table.value(reader, "peers").and_then(|value| reader.array(&path, value, wanted));
    let elements = table.required(reader, "peers", elements, "peers = [2]").unwrap_or_default();
    // Zero where an id is wrong, so that the others keep their positions.
    let id = |(path, value): (String, _)| reader.integer(&path, value, 1..=64).unwrap_or(0);
    elements.into_iter().map(id).map(|id| NodeId(id as u8)).collect()
}

fn addresses(reader: &mut Reader, table: &mut Table<'_>) -> Vec<IpAddr> {
    let path = table.path("addresses");
    let elements = table
        .value(reader, "addresses")
        .and_then(|value| reader.array(&path, value, "an array of addresses"));
    let example = "addresses = [\"10.88.0.100\"]";
    let elements = table.required(reader, "addresses", elements, example);
    if elements.as_ref().is_some_and(|elements| elements.is_empty()) {
        reader.reject(&path, Kind::OutOfRange, "`addresses` must name at least one");
    }
    if let Some(count) = elements.as_ref().map(Vec::len).filter(|count| *count > ADDRESSES_MAX) {
        let message = format!("{count} addresses; a service has {ADDRESSES_MAX} at most");
        reader.reject(&path, Kind::OutOfRange, message);
    }
    let mut addresses: Vec<IpAddr> = Vec::new();
    for (path, value) in elements.unwrap_or_default() {
        let address = reader.parsed(&path, value, "an address", virtual_address);
        if address.is_some_and(|address| addresses.contains(&address)) {
            reader.reject(&path, Kind::Duplicate, "this address is listed twice");
        }
        // A placeholder where an address is wrong, so that the others keep their positions.
        addresses.push(address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)));
    }
    addresses
}

/// An address that many hosts can reach as one host's.
pub fn virtual_address(text: &str) -> Result<IpAddr, String> {
    let address: IpAddr = text.parse().map_err(|_| format!("{text:?} is no IP address"))?;
    let why = match address {
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => "an IPv4 address in disguise",
        IpAddr::V6(v6) if v6.is_unicast_link_local() => "a link-local address",
        address if address.is_multicast() => "a multicast address",
        address if address.is_loopback() => "a loopback address",
        address if address.is_unspecified() => "the unspecified address",
        IpAddr::V4(v4) if v4.is_broadcast() => "the broadcast address",
        _ => return Ok(address),
    };
    Err(format!("{text:?} is {why}: a service needs a unicast address that its clients can reach"))
}

/// `80`, `"80"`, `"8000-8010"` or an array of these.
fn ports(reader: &mut Reader, table: &mut Table<'_>) -> Vec<PortRange> {
    let path = table.path("ports");
    let value = table.value(reader, "ports");
    let example = "ports = \"80\"` or `ports = [80, \"8000-8010\"]";
    let Some(value) = table.required(reader, "ports", value, example) else { return Vec::new() };
    let elements = match value.is_array() {
        true => reader.array(&path, value, "ports").unwrap_or_default(),
        false => vec![(path.clone(), value)],
    };
    if elements.is_empty() {
        reader.reject(&path, Kind::OutOfRange, "`ports` must name at least one");
    }
    let mut ports: Vec<PortRange> = Vec::new();
    for (path, value) in elements {
        let range = match value.is_integer() {
            true => reader
                .integer(&path, value, 1..=65535)
                .map(|port| PortRange { first: port as u16, last: port as u16 }),
            false => reader.parsed(&path, value, "a port or a range of ports", value::port_range),
        };
        let Some(range) = range else { continue };
        if let Some(other) = ports.iter().find(|other| other.overlaps(range)) {
            let message = format!("ports {range} and {other} of one service overlap");
            reader.reject(&path, Kind::Duplicate, message);
        }
        ports.push(range);
    }
    ports.sort();
    ports
}

fn application(
    reader: &mut Reader,
    table: &mut Table<'_>,
    directory: &Path,
    addresses: &[IpAddr],
    idle_timeout: Option<Duration>,
) -> Application {
    #[derive(Clone, Copy)]
    enum Type {
        Http,
        Echo,
        Discard,
        Generate,
        Proxy,
    }
    let words = [
        ("http", Type::Http),
        ("echo", Type::Echo),
        ("discard", Type::Discard),
        ("generate", Type::Generate),
        ("proxy", Type::Proxy),
    ];
    let example = "[services.application]` with `type = \"http\"";
    let mut table = table.required_table(reader, "application", example);
    let kind = table.choice(reader, "type", &words);
    let kind = table.required(reader, "type", kind, "type = \"http\"");
    let application = match kind {
        Some(Type::Http) => http(reader, &mut table, directory),
        Some(Type::Generate) => {
            // A TOML integer is signed.
            let seed = table.integer(reader, "seed", 0..=i64::MAX as u64).unwrap_or(0);
            let length = table.integer(reader, "length", 1..=i64::MAX as u64);
            let length = table.required(reader, "length", length, "length = 1000000");
            let close = table.boolean(reader, "close").unwrap_or(true);
            Application::Generate { seed, length: length.unwrap_or(1), close }
        }
        Some(Type::Echo) => Application::Echo,
        Some(Type::Discard) => Application::Discard,
        Some(Type::Proxy) => {
            Application::Proxy(proxy::proxy(reader, &mut table, addresses, idle_timeout))
        }
        // What else is written cannot be judged without the type.
        None => return Application::Discard,
    };
    table.finish(reader);
    application
}

fn http(reader: &mut Reader, table: &mut Table<'_>, directory: &Path) -> Application {
    let root = table.parsed(reader, "root", "a path", |text| {
        let path = directory.join(text);
        match std::fs::metadata(&path) {
            Ok(data) if data.is_dir() => Ok(path),
            Ok(_) => Err(format!("{text:?} is not a directory")),
            Err(error) => Err(format!("{text:?} cannot be read: {error}")),
        }
    });
    let generate = table.boolean(reader, "generate").unwrap_or(true);
    Application::Http { root, generate }
}

/// What the format can say and this version cannot do: refused, never ignored.
fn refuse_what_is_not_built(reader: &mut Reader, table: &Table<'_>, service: &Service) {
    let mut refuse = |key: &str, what: &str, instead: &str| {
        let message = format!("{what} is not built yet");
        reader.reject_with_help(&table.path(key), Kind::NotYet, message, instead);
    };
    if service.failback == Failback::NewConnections && !service.sources().is_empty() {
        refuse(
            "failback",
            "failback of new connections of a proxy",
            "two nodes could choose the same port towards a server; use `failback = \"all\"`",
        );
    }
    if service.protocol == Protocol::Udp {
        refuse("protocol", "UDP", "use `protocol = \"tcp\"`");
    }
}
