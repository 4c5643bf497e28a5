//! The configuration files of the demo's nodes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::bed::{
    Arp, ECHO_ADDRESS, ECHO_ADDRESS_6, SERVICE_ADDRESS, SERVICE_ADDRESS_6, Snoop, WITNESS,
};
use super::servers::REAL;

/// The services of every story: name, addresses, port, application.
pub const SERVICES: [(&str, [&str; 2], u16, &str); 2] = [
    ("web", [SERVICE_ADDRESS, SERVICE_ADDRESS_6], 80, "http"),
    ("echo", [ECHO_ADDRESS, ECHO_ADDRESS_6], 7, "echo"),
];

/// The node that the services prefer.
pub const HOME: u8 = 1;

/// The cluster's name.
pub const CLUSTER: &str = "demo";

/// Where each node tells scrapers how it is, inside its namespace.
pub const METRICS: &str = "127.0.0.1:7949";

/// The hardware address of the n-th service, with [`Arp::VirtualMac`].
pub fn virtual_mac(n: usize) -> String {
    format!("00:00:5e:00:01:{:02x}", n + 1)
}

/// The same with [`Snoop::Group`].
pub fn group_mac(n: usize) -> String {
    format!("03:00:5e:00:01:{:02x}", n + 1)
}

/// Paths of one node.
#[derive(Debug, Clone)]
pub struct NodeFiles {
    /// Its configuration.
    pub config: PathBuf,
    /// Its control socket.
    pub socket: PathBuf,
}

/// What the services of a bed are like.
#[derive(Debug, Clone, Copy, Default)]
pub struct Services<'a> {
    /// How their addresses move between the nodes.
    pub arp: Arp,
    /// How frames for the owner reach its peer as well.
    pub snoop: Snoop,
    /// The nodes serve nothing themselves, pass everything on to this host, and have a service more for each of the real
    /// servers.
    pub backend: Option<&'a str>,
    /// That is acknowledged once the peer holds it, not end to end.
    pub held: bool,
    /// How they go back to their home, as the configuration calls it, after a second.
    pub failback: Option<&'a str>,
}

/// Writes the configuration of so many nodes, with this set of timers and so many cores of the first two, into `dir`.
/// Sockets go to `sockets`: their paths must be short.
pub fn write(
    dir: &Path,
    sockets: &Path,
    timers: &str,
    nodes: u8,
    cores: [u8; 2],
    services: Services<'_>,
) -> anyhow::Result<Vec<NodeFiles>> {
    let secret = dir.join("secret.key");
    fs::write(&secret, "5e".repeat(32) + "\n")?;
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600))?;
    write_key(dir)?;
    let mut files = Vec::new();
    for id in 1..=nodes {
        let cores = cores.get(usize::from(id - 1)).copied().unwrap_or(1);
        let node = NodeFiles {
            config: dir.join(format!("node{id}.toml")),
            socket: sockets.join(format!("node{id}.sock")),
        };
        let text = config((id, nodes), &node.socket, timers, cores);
        fs::write(&node.config, text + &tables(nodes, services))?;
        files.push(node);
    }
    Ok(files)
}

/// Puts something else in the place of what stands in every node's configuration.
pub fn edit(files: &[NodeFiles], edits: &[(String, String)]) -> anyhow::Result<()> {
    for file in files {
        let mut text = fs::read_to_string(&file.config)?;
        for (from, to) in edits {
            anyhow::ensure!(
                text.contains(from),
                "{} says nothing of {from:?}",
                file.config.display()
            );
            text = text.replace(from, to);
        }
        fs::write(&file.config, text)?;
    }
    Ok(())
}

/// Writes the cluster's key, if there is none, and answers where it is.
pub fn write_key(dir: &Path) -> anyhow::Result<PathBuf> {
    let key = dir.join("cluster.key");
    match dataplane::sealing::write_new_key(&key) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error.into()),
        _ => Ok(key),
    }
}

fn config((id, nodes): (u8, u8), socket: &Path, timers: &str, cores: u8) -> String {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let pin: Vec<usize> = (0..cores).map(|core| usize::from(id - 1 + core) % processors).collect();
    let queues: Vec<u8> = (0..cores).collect();
    let mut text = format!(
        r#"[node]
id = {id}

[cluster]
name = "{CLUSTER}"
address = "10.99.0.{id}"
agent_port = 7946
data_port = 7947
secret_file = "secret.key"
key_files = ["cluster.key"]
arbiter = "witness"
witness = "{WITNESS}"
timers = "{timers}"

[interfaces]
client = {{ name = "eth0", queues = {queues:?}, next_hops = ["10.88.0.1"] }}
cluster = {{ name = "eth1", queues = {queues:?} }}

[cores]
pin = {pin:?}
idle = "adaptive"

[control]
socket = "{}"

[metrics]
listen = "{METRICS}"
"#,
        socket.display()
    );
    for node in 1..=nodes {
        text += &format!("\n[[cluster.nodes]]\nid = {node}\naddress = \"10.99.0.{node}\"\n");
    }
    text
}

fn tables(nodes: u8, services: Services<'_>) -> String {
    let Services { arp, snoop, backend, held, failback } = services;
    let failback = failback.map_or(String::new(), |mode| {
        format!("failback = \"{mode}\"\nfailback_hold_down = \"1s\"\n")
    });
    let mut text = String::new();
    let mut count = 0;
    let mut service = |name, addresses: &[&str], port, application: String| {
        let kept = |mac| format!("\"virtual-mac\"\nmac = \"{mac}\"");
        let arp = match (snoop, arp) {
            (Snoop::Flooded, _) | (_, Arp::VirtualMac) => kept(virtual_mac(count)),
            (Snoop::Group, _) => kept(group_mac(count)),
            (_, Arp::Gratuitous) => "\"gratuitous\"".to_string(),
            (_, Arp::None) => "\"none\"".to_string(),
        };
        let snoop = if snoop == Snoop::Off { "off" } else { "wire" };
        count += 1;
        let peers: Vec<u8> = (2..=nodes).collect();
        text += &format!(
            r#"
[[services]]
name = "{name}"
home = {HOME}
peers = {peers:?}
addresses = {addresses:?}
ports = {port}
protocol = "tcp"
arp = {arp}
snoop = "{snoop}"
{failback}
[services.application]
{application}"#
        );
    };
    for (name, addresses, port, application) in SERVICES {
        let application = match backend {
            Some(host) => proxy(host, port, held),
            None if application == "http" => "type = \"http\"\ngenerate = true\n".into(),
            None => format!("type = \"{application}\"\n"),
        };
        service(name, &addresses, port, application);
    }
    if let Some(host) = backend {
        for real in REAL {
            service(real.name, &[real.address], real.port, proxy(host, real.server_port, held));
        }
    }
    text
}

fn proxy(host: &str, port: u16, held: bool) -> String {
    let ack = if held { "ack = \"held\"\n" } else { "" };
    let server = format!("name = \"only\", address = \"{host}\", port = {port}");
    format!("type = \"proxy\"\n{ack}servers = [{{ {server} }}]\n")
}
