//! What a configuration says, read and checked: plain values.
//!
//! A [`Config`] exists only if its file had no error, so whoever holds one need not ask again
//! whether a home node exists or two services overlap. It is serialised in the same form in which it
//! is written, so `check --effective` prints a file that means the same with every default spelt out.
//!
//! Units: times are [`Duration`] and written "20ms"; sizes are bytes; limits say what they count.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use cluster::engine::{group_memory_bytes, hearing_memory_bytes, shelf_memory_bytes};
use cluster::id::{GroupId, NodeId};
use cluster::lease;
use cluster::seal::Key;
use serde::{Serialize, Serializer};
use stack::limits::GROUPS_MAX;
use stack::shard::Place;
use stack::stack::{StackConfig, memory_bytes};
use stack::time::Duration;

use super::health::Check;
use super::value::{self, Mac, PortRange};
use crate::crossing::Crossing;

/// One node's configuration.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Config {
    /// `[node]`: who this is.
    pub node: NodeConfig,
    /// `[cluster]`: with whom, and by which rules.
    pub cluster: ClusterConfig,
    /// `[interfaces]`: where frames come from and go to.
    pub interfaces: Interfaces,
    /// `[cores]`: where the poll loops run.
    pub cores: Cores,
    /// `[control]`: how an operator reaches this node.
    pub control: Control,
    /// `[metrics]`: where scrapers ask; nowhere unless the section is written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Metrics>,
    /// `[log]`: what the node says of itself, and to whom.
    pub log: Log,
    /// `[limits]`: what is taken at start.
    pub limits: Limits,
    /// `[[services]]`: what is served, in the order of the file. A service's position is part of its
    /// group's name, so every node lists the same services in the same order.
    pub services: Vec<Service>,
}

impl Config {
    /// Whether this node listens to clients of an owner whose copies it holds.
    pub fn hears(&self) -> bool {
        self.services.iter().any(|service| service.snoop == Snoop::Wire)
    }

    /// Bytes of memory that the node takes at start, pinned content at its limit and a cluster link of 1500 bytes.
    ///
    /// Each core takes its part of every limit (and the slack of [`Place::part_of`]) and a log for each
    /// group; this is with a peer of as many cores.
    pub fn memory_bytes(&self) -> u64 {
        let Config { limits, interfaces, cores, .. } = self;
        let ports = interfaces.client.queues.len() + interfaces.cluster.queues.len();
        let cores = cores.pin.len();
        let hearing = if self.hears() { hearing_memory_bytes(1518) } else { 0 };
        let core = |place: Place| {
            let stack = limits.stack(place, 0, [0; 6], [0; 32], 0);
            let memory = memory_bytes(&stack);
            let groups = self.groups().len() * group_memory_bytes(1500) + shelf_memory_bytes(1518);
            memory.flows + memory.active + groups + hearing
        };
        let all = places(cores).map(core).sum::<usize>() + Crossing::memory_bytes(cores, 1518);
        all as u64 + u64::from(limits.frames) * 4096 * ports as u64 + limits.content_bytes
    }
}

/// `[node]`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct NodeConfig {
    /// `id`: 1..=64, unique in the cluster.
    #[serde(serialize_with = "node_id")]
    pub id: NodeId,
}

/// `[cluster]`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct ClusterConfig {
    /// `name`: nodes of another name are not listened to.
    pub name: String,
    /// `address`: this node on the cluster interface.
    pub address: Ipv4Addr,
    /// `agent_port`: UDP port of heartbeats and leases, through the kernel. Default 7946.
    pub agent_port: u16,
    /// `data_port`: UDP port of mirrored records, through AF_XDP. Default 7947.
    pub data_port: u16,
    /// `secret_file`: holds 64 hex digits; relative to the configuration file.
    pub secret_file: PathBuf,
    /// What `secret_file` holds. Never printed.
    #[serde(skip)]
    pub secret: Secret,
    /// `seal`: what protects datagrams between nodes and with the witness. Default "noise".
    pub seal: Seal,
    /// `key_files`: each holds a key that `understudy keygen` has made. The first is spoken under; a second one is heard
    /// as well, while a cluster changes keys.
    pub key_files: Vec<PathBuf>,
    /// What they hold; none with `seal = "none"`.
    #[serde(skip)]
    pub keys: Vec<Key>,
    /// `arbiter`, and `witness` or `survivor` with it.
    #[serde(flatten)]
    pub arbiter: Arbiter,
    /// `timers`: a set by name, or a table with single values changed.
    pub timers: Timers,
    /// `[[cluster.nodes]]`: every node, this one included.
    pub nodes: Vec<ClusterNode>,
}

/// One of `[[cluster.nodes]]`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct ClusterNode {
    /// `id`: 1..=64.
    #[serde(serialize_with = "node_id")]
    pub id: NodeId,
    /// `address`: on the cluster interface.
    pub address: Ipv4Addr,
}

/// Who keeps the registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(tag = "arbiter", rename_all = "kebab-case")]
pub enum Arbiter {
    /// `arbiter = "witness"`: `understudy witness` at this UDP address.
    Witness {
        /// `witness`: its address and port.
        witness: SocketAddr,
    },
    /// `arbiter = "none"`: nobody; the operator has named who goes on alone.
    None {
        /// `survivor`: a node id, or "both", which risks two owners at once.
        survivor: Survivor,
    },
}

/// Who goes on alone when the nodes lose each other and there is no arbiter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Survivor {
    /// This node; the others stop.
    Node(NodeId),
    /// Every node: split-brain possible.
    Both,
}

/// What protects datagrams between nodes and with the witness.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Seal {
    /// Noise sessions under a pre-shared key.
    #[default]
    Noise,
    /// Nothing: whoever reaches the cluster link may speak for every node.
    None,
}

/// The cluster's secret: 32 bytes that every node shares.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Secret(pub [u8; 32]);

/// The named sets of timers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TimerSet {
    /// Pinned cores that nobody else uses. The default.
    #[default]
    Isolated,
    /// Several nodes on two shared cores.
    Bed,
    /// A busy build machine.
    Ci,
}

/// `[cluster.timers]`: how fast silence is noticed. `set` gives the values that are not written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Timers {
    /// `set`: "isolated", "bed" or "ci".
    pub set: TimerSet,
    /// `heartbeat`: time between two heartbeats.
    #[serde(serialize_with = "duration")]
    pub heartbeat: Duration,
    /// `lease`: how long an owner may transmit after it sent a renewal that was granted.
    #[serde(serialize_with = "duration")]
    pub lease: Duration,
    /// `guard`: what the lessor waits beyond the lease, beside the drift of the clocks.
    #[serde(serialize_with = "duration")]
    pub guard: Duration,
    /// `drift_ppm`: most that two clocks differ in speed, in parts per million.
    pub drift_ppm: u32,
    /// `stuck_core`: a poll core without progress for this long stops the renewals.
    #[serde(serialize_with = "duration")]
    pub stuck_core: Duration,
    /// `peer_silent`: an owner asks to be alone when its peer has been silent for this long.
    #[serde(serialize_with = "duration")]
    pub peer_silent: Duration,
    /// `lease_alone`: lease of an owner without a peer, granted by the arbiter.
    #[serde(serialize_with = "duration")]
    pub lease_alone: Duration,
    /// `adaptive`: stretch leases to three times the largest gap seen in ten minutes.
    pub adaptive: bool,
    /// `adaptive_cap`: most that a lease may stretch to.
    #[serde(serialize_with = "duration")]
    pub adaptive_cap: Duration,
}

/// `[interfaces]`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Interfaces {
    /// `client`: towards clients and servers.
    pub client: Interface,
    /// `cluster`: towards the other nodes and the witness.
    pub cluster: Interface,
}

/// One network interface.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Interface {
    /// `name`: as `ip link` shows it.
    pub name: String,
    /// `queues`: the receive queues that are polled. Default `[0]`.
    pub queues: Vec<u16>,
    /// `mode`: where the XDP program runs. Default "auto".
    pub mode: XdpMode,
    /// `copy`: whether frames are copied between NIC and process. Default "auto".
    pub copy: CopyMode,
    /// `next_hops`: routers or hosts on the client side that are asked for a sign of life; a node that hears fewer of
    /// them than its peer does hands over. Default none: only the carrier counts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub next_hops: Vec<Ipv4Addr>,
}

/// Where the XDP program runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum XdpMode {
    /// Where frames are copied least: in the driver if it can (veth: generic), else in the kernel's generic path.
    #[default]
    Auto,
    /// In the driver or not at all.
    Native,
    /// In the kernel's generic path.
    Generic,
}

/// Whether frames are copied between NIC and process.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CopyMode {
    /// Zero copy if the driver can, else copy.
    #[default]
    Auto,
    /// Zero copy or not at all.
    ZeroCopy,
    /// Always copy.
    Copy,
}

/// `[cores]`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Cores {
    /// `pin`: the processors on which poll loops run, one loop each. Default `[0]`.
    pub pin: Vec<u16>,
    /// `idle`: what a loop does when there is nothing to do. Default "adaptive".
    pub idle: Idle,
}

/// What a poll loop does when there is nothing to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Idle {
    /// Polls on: lowest latency, one whole processor.
    Busy,
    /// Polls a while, then sleeps until a frame or a timer comes.
    #[default]
    Adaptive,
}

/// `[control]`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Control {
    /// `socket`: the Unix socket of `understudy status`. Default `/run/understudy/ID.sock`.
    pub socket: PathBuf,
}

/// `[metrics]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Metrics {
    /// `listen`: address and TCP port. Default "127.0.0.1:7949".
    pub listen: SocketAddr,
}

/// `[log]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Log {
    /// `target`: "stderr" or "journald". Default "stderr".
    pub target: LogTarget,
    /// `format`: "text" or "json", on standard error. Default "text".
    pub format: LogFormat,
}

/// Where records go.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogTarget {
    /// Standard error.
    #[default]
    Stderr,
    /// The journal, field by field.
    Journald,
}

/// How records look on standard error.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// A sentence and its fields.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// `[limits]`: memory is taken at start by these numbers. Each service takes a log and room for copies
/// beside them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Limits {
    /// `flows`: connections held, owned and copied together; one that is passed on to a server takes two. Default 65536.
    pub flows: u32,
    /// `active_flows`: connections of these with something sent and not yet acknowledged; more of them wait with
    /// what is new. Default 65536.
    pub active_flows: u32,
    /// `uploads`: connections of these whose request body is being read; the next one waits until its client sends
    /// again. Default 65536.
    pub uploads: u32,
    /// `chunks`: pieces of 2048 bytes for payload that cannot be had again. Default 16384.
    pub chunks: u32,
    /// `pieces`: parts of output, queued or unacknowledged. Default 131072.
    pub pieces: u32,
    /// `segments`: segments sent and not yet acknowledged. Default 262144.
    pub segments: u32,
    /// `frames`: frames of 4096 bytes of each port. Default 4096, a power of two.
    pub frames: u32,
    /// `content_bytes`: files pinned in memory, for the whole node. Default 256 MiB.
    pub content_bytes: u64,
}

/// One of `[[services]]`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Service {
    /// `name`: lower-case letters, digits and `-`; unique.
    pub name: String,
    /// `home`: the node that should own the service when all is well.
    #[serde(serialize_with = "node_id")]
    pub home: NodeId,
    /// `peers`: who holds the copies and takes over, in this order.
    #[serde(serialize_with = "node_ids")]
    pub peers: Vec<NodeId>,
    /// `on_peer_loss`: what an owner without a peer does. Default "serve".
    pub on_peer_loss: OnPeerLoss,
    /// `failback`: what happens when the home node is back. Default "manual".
    pub failback: Failback,
    /// `failback_hold_down`: how long the home node must have held every copy, without incident, before connections
    /// go back by themselves. Default "10s".
    #[serde(serialize_with = "duration")]
    pub failback_hold_down: Duration,
    /// `addresses`: the virtual addresses.
    pub addresses: Vec<IpAddr>,
    /// `ports`: single ports and ranges, sorted, none overlapping.
    pub ports: Vec<PortRange>,
    /// `protocol`. Default "tcp".
    pub protocol: Protocol,
    /// `arp`: how the addresses move between nodes. Default "gratuitous".
    pub arp: ArpPolicy,
    /// `mac`: the service's own MAC address; only with `arp = "virtual-mac"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// `snoop`: whether who holds the copies listens to what clients say to the owner. Default "off".
    pub snoop: Snoop,
    /// `receive_buffer`: bytes offered to a client at most. Default 524288.
    pub receive_buffer: u32,
    /// `nodelay`: small segments go at once; `false` switches Nagle's algorithm on. Default true.
    pub nodelay: bool,
    /// `hop_limit`: TTL or hop limit of what is sent, 1..=255. Default 64.
    pub hop_limit: u8,
    /// `idle_timeout`: a connection that is silent for this long is ended. Default "60s"; "1h" with
    /// `type = "proxy"`, where it is the clients'.
    #[serde(serialize_with = "duration")]
    pub idle_timeout: Duration,
    /// `keep_alive`: idle connections are asked for a sign of life. Off unless written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_alive: Option<KeepAlive>,
    /// `[services.application]`: what runs on the connections.
    pub application: Application,
}

/// How a peer hears what clients say to the owner.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Snoop {
    /// Not at all: it waits until clients say again what was lost with the owner.
    #[default]
    Off,
    /// By whatever frames for the owner reach its own client-side interface.
    Wire,
}

impl Service {
    /// How neighbours find its addresses, in words.
    pub fn presence(&self) -> String {
        match (self.arp, self.mac) {
            (ArpPolicy::VirtualMac, Some(mac)) => format!("virtual MAC {mac}"),
            (ArpPolicy::None, _) => "behind a router".into(),
            _ => "gratuitous ARP".into(),
        }
    }
}

/// `keep_alive`; `keep_alive = {}` takes every default.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct KeepAlive {
    /// `idle`: silence before the first probe. Default "2h" (RFC 9293 MUST-28).
    #[serde(serialize_with = "duration")]
    pub idle: Duration,
    /// `interval`: between probes without an answer. Default "75s".
    #[serde(serialize_with = "duration")]
    pub interval: Duration,
    /// `count`: so many of them end the connection, 2..=100. Default 9.
    pub count: u8,
}

impl KeepAlive {
    /// As the stack takes it.
    pub fn values(&self) -> stack::service::KeepAlive {
        let KeepAlive { idle, interval, count } = *self;
        stack::service::KeepAlive { idle, interval, count }
    }
}

/// What an owner without a peer does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnPeerLoss {
    /// Serves on, unprotected, and says so.
    #[default]
    Serve,
    /// Stops.
    Stop,
}

/// What happens when the home node is back and filled.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Failback {
    /// Every connection moves back.
    All,
    /// New connections go home; the others stay where they are.
    NewConnections,
    /// Nothing, until the operator says so.
    #[default]
    Manual,
}

/// The transport of a service.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

/// How a service's addresses move between nodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ArpPolicy {
    /// The address moves to the new owner's MAC, announced by gratuitous ARP.
    #[default]
    Gratuitous,
    /// The address keeps one MAC that belongs to the service.
    VirtualMac,
    /// A router brings the traffic to the owner's own address; nobody announces or answers for the service's.
    None,
}

/// What runs on a service's connections.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Application {
    /// `type = "http"`: static files, generated objects, uploads answered with their hash.
    Http {
        /// `root`: directory of the files, loaded at start; relative to the configuration file.
        #[serde(skip_serializing_if = "Option::is_none")]
        root: Option<PathBuf>,
        /// `generate`: serve `/generate/LENGTH?seed=N`. Default true.
        generate: bool,
    },
    /// `type = "echo"`: every byte comes back.
    Echo,
    /// `type = "discard"`: every byte is acknowledged and forgotten.
    Discard,
    /// `type = "generate"`: sends bytes as soon as a client connects.
    Generate {
        /// `seed`: chooses the bytes. Default 0.
        seed: u64,
        /// `length`: how many bytes.
        length: u64,
        /// `close`: close after the last one. Default true.
        close: bool,
    },
    /// `type = "proxy"`: every connection is passed on to a server.
    Proxy(Proxy),
}

/// `[services.application]` with `type = "proxy"`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Proxy {
    /// `ack`: when what one side says is acknowledged to it. Default "end-to-end".
    pub ack: Ack,
    /// `balance`: how a server is chosen. Default "round-robin".
    pub balance: Balance,
    /// `attempts`: after so many servers that refused or did not answer, the client is reset. Default 3.
    pub attempts: u8,
    /// `connect_timeout`: a server that has not answered for so long is given up. Default "5s".
    #[serde(serialize_with = "duration")]
    pub connect_timeout: Duration,
    /// `server_timeout`: a server that says and acknowledges nothing for so long ends the connection; for clients there is
    /// the service's `idle_timeout`. Default: the same.
    #[serde(serialize_with = "duration")]
    pub server_timeout: Duration,
    /// `half_closed_timeout`: the same for either side where one of them has closed. Default "5m".
    #[serde(serialize_with = "duration")]
    pub half_closed_timeout: Duration,
    /// `gateway`: the router to the servers, if they are not on the link of the client interface.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// `log_connections`: one record in the log for each connection that has ended, with who ended it and why. Default
    /// false.
    pub log_connections: bool,
    /// `accept_proxy`: each client begins with a header of the PROXY protocol, version 1 or 2, and counts as whom that
    /// names; one without is reset. Needs `ack = "held"`. Default false.
    pub accept_proxy: bool,
    /// `proxy_protocol`: "v1" or "v2": each connection to a server begins with who its client is. Off unless written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<ProxyProtocol>,
    /// `source`: addresses from which servers are connected to; they move with the service. Default: its own.
    pub source: Vec<IpAddr>,
    /// `max_connections`: connections at most, all servers together; 0: as many as come. Default 0. The cores of a node
    /// keep their shares of this and the other limits, each at least 1.
    pub max_connections: u32,
    /// `queue`: so many clients wait while no server has room; the next one is reset. Default 1024.
    pub queue: u32,
    /// `queue_timeout`: a client that has waited for so long is reset. Default "5s".
    #[serde(serialize_with = "duration")]
    pub queue_timeout: Duration,
    /// `slow_start`: a server that has come into use gets its whole share after so long, and less before. Default "0s".
    #[serde(serialize_with = "duration")]
    pub slow_start: Duration,
    /// `stick`: a client is led to the same server again for so long after its last connection, while that server is not
    /// down, full or in maintenance. Default "0s": it is not.
    #[serde(serialize_with = "duration")]
    pub stick: Duration,
    /// `on_server_down`: what becomes of the connections to a server that the checks find down, or that is taken into
    /// maintenance. Default "keep".
    pub on_server_down: OnServerDown,
    /// `check`: servers are asked whether they work. Off unless written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check: Option<Box<Check>>,
    /// `servers`: in an order that is the same on every node.
    pub servers: Vec<Server>,
}

/// What becomes of the connections to a server that is out of service.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnServerDown {
    /// They go on for as long as the server carries them.
    #[default]
    Keep,
    /// Both sides are reset.
    Reset,
}

/// When what one side of a proxied connection says is acknowledged to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ack {
    /// Once the other side has acknowledged it: no payload crosses the cluster link.
    #[default]
    EndToEnd,
    /// Once the peer holds it: slow clients do not hold servers up.
    Held,
}

/// How a server is told who its client is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProxyProtocol {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// How a server is chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Balance {
    /// In turn, by weight.
    #[default]
    RoundRobin,
    /// The one with the fewest connections for its weight.
    LeastConnections,
    /// By the client's address.
    Source,
    /// The better of two drawn ones.
    RandomTwo,
    /// By the client's address and a table that changes little when servers come and go.
    Maglev,
}

/// One of `servers`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Server {
    /// `name`: unique in the service.
    pub name: String,
    /// `address`.
    pub address: IpAddr,
    /// `port`.
    pub port: u16,
    /// `weight`: its share; 0 gets nothing new. Default 1.
    pub weight: u16,
    /// `backup`: it is used only while no other server is. Default false.
    pub backup: bool,
    /// `max_connections`: connections to it at most; 0: as many as come. Default 0.
    pub max_connections: u32,
    /// It has left the file while the node runs, and keeps its place for the connections that are left.
    #[serde(skip)]
    pub is_retired: bool,
}

impl Service {
    /// Addresses from which servers are connected to.
    pub fn sources(&self) -> &[IpAddr] {
        if let Application::Proxy(proxy) = &self.application { &proxy.source } else { &[] }
    }
}

impl Config {
    /// Most services that one configuration may hold: each has a group.
    pub const SERVICES_MAX: usize = GROUPS_MAX;

    /// The groups, in the order in which every node of the cluster has them: the first generation of each service, then
    /// the second one of each, if any of them may need it.
    pub fn groups(&self) -> Vec<GroupId> {
        let needs_two = |service: &Service| service.failback == Failback::NewConnections;
        let generations = 1 + u8::from(self.services.iter().any(needs_two));
        let services = 0..self.services.len() as u8;
        let all = (0..generations).flat_map(|generation| {
            services.clone().map(move |service| GroupId::new(service, generation))
        });
        all.collect()
    }

    /// The other nodes of the cluster.
    pub fn others(&self) -> impl Iterator<Item = &ClusterNode> {
        self.cluster.nodes.iter().filter(|node| node.id != self.node.id)
    }

    /// The configuration with every default spelt out, as a TOML file. Paths are as they resolved.
    pub fn effective(&self) -> String {
        toml::to_string(self).unwrap_or_else(|error| format!("# cannot be written: {error}\n"))
    }
}

/// Flows with a hole in what they received, at most: a burst of losses on every path at once.
const REASSEMBLIES_MAX: u32 = 4096;

fn places(cores: usize) -> impl Iterator<Item = Place> {
    let cores = cores as u8;
    (0..cores).map(move |core| Place { core, cores })
}

impl Limits {
    /// Of what a node takes at start: bytes that one more idle flow takes, and bytes that only active ones need, all together.
    pub fn idle_and_active_bytes(&self, cores: usize) -> (u64, u64) {
        let (mut idle, mut active) = (0, 0);
        for place in places(cores) {
            let stack = self.stack(place, 0, [0; 6], [0; 32], 0);
            let memory = memory_bytes(&stack);
            idle += memory.flows as u64;
            active += memory.active as u64;
        }
        (idle.div_ceil(self.flows.into()), active)
    }

    /// What a core's stack is built with.
    pub fn stack(
        &self,
        place: Place,
        node: u8,
        mac: [u8; 6],
        secret: [u8; 32],
        link_mbits: u32,
    ) -> StackConfig {
        let part = |limit: u32| place.part_of(limit as usize);
        StackConfig {
            node,
            place,
            mac,
            secret,
            flows_max: part(self.flows),
            active_max: part(self.flows.min(self.active_flows)),
            uploads_max: part(self.flows.min(self.uploads)),
            segments_max: part(self.segments),
            chunks_max: part(self.chunks),
            pieces_max: part(self.pieces),
            reassemblies_max: part(self.flows.min(REASSEMBLIES_MAX)),
            link_mbits,
        }
    }
}

impl Default for ClusterConfig {
    fn default() -> Self {
        ClusterConfig {
            name: String::new(),
            address: Ipv4Addr::UNSPECIFIED,
            agent_port: 7946,
            data_port: 7947,
            secret_file: PathBuf::new(),
            secret: Secret::default(),
            seal: Seal::default(),
            key_files: Vec::new(),
            keys: Vec::new(),
            arbiter: Arbiter::None { survivor: Survivor::Both },
            timers: Timers::of(TimerSet::default()),
            nodes: Vec::new(),
        }
    }
}

impl Timers {
    /// A named set.
    pub fn of(set: TimerSet) -> Timers {
        let values = match set {
            TimerSet::Isolated => lease::Timers::isolated(),
            TimerSet::Bed => lease::Timers::bed(),
            TimerSet::Ci => lease::Timers::ci(),
        };
        Timers {
            set,
            heartbeat: values.heartbeat,
            lease: values.lease,
            guard: values.guard,
            drift_ppm: values.drift_ppm,
            stuck_core: values.stuck,
            peer_silent: values.peer_silent,
            lease_alone: values.alone_lease,
            adaptive: values.adaptive,
            adaptive_cap: values.adaptive_cap,
        }
    }

    /// As the agent takes them.
    pub fn values(&self) -> lease::Timers {
        lease::Timers {
            heartbeat: self.heartbeat,
            lease: self.lease,
            guard: self.guard,
            stuck: self.stuck_core,
            peer_silent: self.peer_silent,
            alone_lease: self.lease_alone,
            drift_ppm: self.drift_ppm,
            adaptive: self.adaptive,
            adaptive_cap: self.adaptive_cap,
        }
    }
}

impl Default for Cores {
    fn default() -> Self {
        Cores { pin: vec![0], idle: Idle::default() }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            flows: 65536,
            active_flows: 65536,
            uploads: 65536,
            chunks: 16384,
            pieces: 131072,
            segments: 262144,
            frames: 4096,
            content_bytes: 256 << 20,
        }
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(not shown)")
    }
}

impl Serialize for Survivor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Survivor::Node(id) => serializer.serialize_u8(id.0),
            Survivor::Both => serializer.serialize_str("both"),
        }
    }
}

fn node_id<S: Serializer>(id: &NodeId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u8(id.0)
}

fn node_ids<S: Serializer>(ids: &[NodeId], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(ids.iter().map(|id| id.0))
}

pub(super) fn duration<S: Serializer>(
    duration: &Duration,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&value::duration_text(*duration))
}
