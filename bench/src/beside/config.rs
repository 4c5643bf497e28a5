//! The configuration files of the nodes under measurement.

use std::fmt::Write;
use std::fs;
use std::ops::RangeInclusive;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tools::demo::bed::{SERVERS_ADDRESS, WITNESS};
use tools::demo::files::{virtual_mac, write_key};

use crate::Seal;

/// The one service of nodes before a pool, and its servers: ports of both. A process on either side holds the connections of
/// one of them.
pub const POOL_ADDRESS: &str = "10.88.0.100";
/// See [`POOL_ADDRESS`].
pub const POOL_PORTS: RangeInclusive<u16> = 9001..=9008;

/// The services of every node: name, address, port, application.
pub const SERVICES: [(&str, &str, u16, &str); 3] = [
    ("web", "10.88.0.100", 80, "http"),
    ("echo", "10.88.0.101", 7, "echo"),
    ("discard", "10.88.0.102", 9, "discard"),
];

/// The services of nodes that pass connections on: name, address, port, and the servers' port.
pub const PROXIED: [(&str, &str, u16, u16); 4] = [
    ("objects", "10.88.0.100", 80, 80),
    ("echo", "10.88.0.101", 7, 7),
    ("discard", "10.88.0.102", 9, 9),
    ("pages", "10.88.0.103", 80, 8080),
];

/// What becomes of the connections of a node's services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serves {
    /// [`SERVICES`]: the node answers itself.
    Itself,
    /// [`PROXIED`]: they are passed on; with a line for each application.
    Passing(&'static str),
    /// [`POOL_PORTS`] of one address: they are passed on to as many servers.
    Pool,
}

/// A service of a configuration.
struct Written {
    name: &'static str,
    address: &'static str,
    ports: String,
    /// The lines of its application.
    application: String,
}

/// The cluster's name.
pub const CLUSTER: &str = "beside";

/// The set of timers: several nodes share these processors.
pub const TIMERS: &str = "bed";

/// What differs between the nodes of one run and those of another.
#[derive(Debug, Clone, Copy)]
pub struct NodeSetup {
    /// Processor of each poll core: owner, peer.
    pub pins: [u16; 2],
    /// Connections at most.
    pub flows: u32,
    /// Connections at most that have something under way, or send an upload.
    pub active: u32,
    /// What protects the cluster link.
    pub seal: Seal,
    /// Pieces of payload that cannot be had again or is passed on, of 2048 bytes.
    pub chunks: u32,
    /// A silent connection is ended after so many seconds.
    pub idle_secs: u32,
    /// What becomes of its connections.
    pub serves: Serves,
    /// Whether the peer hears the clients: services have hardware addresses of their own, to which the switch floods.
    pub hears: bool,
}

/// Writes the configuration of node `id` among `nodes`; where it is, and where the node's socket will be.
pub fn write(
    dir: &Path,
    id: u8,
    nodes: &[u8],
    setup: &NodeSetup,
) -> anyhow::Result<(PathBuf, PathBuf)> {
    let secret = dir.join("secret.key");
    // A node that has been started may be reading it.
    if !secret.exists() {
        fs::write(&secret, "5e".repeat(32) + "\n")?;
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600))?;
    }
    write_key(dir)?;
    // The path of a Unix socket must be short, and `dir` may be anywhere.
    let short = std::env::temp_dir().join(format!("beside-{}-{id}.sock", std::process::id()));
    let file = dir.join(format!("node{id}.toml"));
    fs::write(&file, text(&short, id, nodes, setup))?;
    Ok((file, short))
}

fn text(socket: &Path, id: u8, nodes: &[u8], setup: &NodeSetup) -> String {
    let NodeSetup { pins, flows, active, chunks, idle_secs, seal, serves, hears } = setup;
    let seal = match seal {
        Seal::Noise => "key_files = [\"cluster.key\"]",
        Seal::None => "seal = \"none\"",
    };
    let pin = pins[usize::from(id) - 1];
    let arbiter = match nodes.len() {
        1 => "arbiter = \"none\"\nsurvivor = 1".to_string(),
        _ => format!("arbiter = \"witness\"\nwitness = \"{WITNESS}\""),
    };
    let mut text = format!(
        r#"[node]
id = {id}

[cluster]
name = "{CLUSTER}"
address = "10.99.0.{id}"
secret_file = "secret.key"
{seal}
{arbiter}
timers = "{TIMERS}"

[interfaces]
client = {{ name = "eth0", queues = [0] }}
cluster = {{ name = "eth1", queues = [0] }}

[cores]
pin = [{pin}]
idle = "adaptive"

[control]
socket = "{}"

[limits]
flows = {flows}
active_flows = {active}
uploads = {active}
chunks = {chunks}
"#,
        socket.display()
    );
    for node in nodes {
        let _ = write!(text, "\n[[cluster.nodes]]\nid = {node}\naddress = \"10.99.0.{node}\"\n");
    }
    let peers = if nodes.len() > 1 { "[2]" } else { "[]" };
    for (place, service) in services(*serves).into_iter().enumerate() {
        let Written { name, address, ports, application } = service;
        let heard = match hears {
            true => format!(
                "arp = \"virtual-mac\"\nmac = \"{}\"\nsnoop = \"wire\"\n",
                virtual_mac(place)
            ),
            false => String::new(),
        };
        let _ = write!(
            text,
            r#"
[[services]]
name = "{name}"
home = 1
peers = {peers}
addresses = ["{address}"]
ports = {ports}
idle_timeout = "{idle_secs}s"
{heard}
[services.application]
{application}
"#
        );
    }
    text
}

fn services(serves: Serves) -> Vec<Written> {
    let server = |name: &str, port: u16| {
        format!("{{ name = \"{name}\", address = \"{SERVERS_ADDRESS}\", port = {port} }}")
    };
    match serves {
        Serves::Itself => {
            let own = |(name, address, port, application): (_, _, u16, &str)| Written {
                name,
                address,
                ports: port.to_string(),
                application: format!("type = \"{application}\""),
            };
            SERVICES.map(own).into()
        }
        Serves::Passing(line) => {
            let passing = |(name, address, port, server_port): (_, _, u16, _)| {
                let server = server("only", server_port);
                let application = format!("type = \"proxy\"\nservers = [{server}]\n{line}");
                Written { name, address, ports: port.to_string(), application }
            };
            PROXIED.map(passing).into()
        }
        Serves::Pool => {
            let servers = POOL_PORTS.map(|port| server(&format!("s{port}"), port));
            let servers = servers.collect::<Vec<_>>().join(", ");
            vec![Written {
                name: "pool",
                address: POOL_ADDRESS,
                ports: format!("\"{}-{}\"", POOL_PORTS.start(), POOL_PORTS.end()),
                application: format!("type = \"proxy\"\nservers = [{servers}]"),
            }]
        }
    }
}
