//! What a configuration says, read and checked: plain values.
//!
//! A [`Config`] exists only if its file had no error, so whoever holds one need not ask again
//! whether a home node exists or two services overlap. It is serialised in the same form in which it
//! is written, so `check --effective` prints a file that means the same with every default spelt out.
//!
//! Units: times are [`Duration`] and written "20ms"; sizes are bytes; limits say what they count.

mod service;

pub use service::*;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use crate::port::xdp::SUPERFRAMES_BYTES;
use cluster::engine::{group_memory_bytes, hearing_memory_bytes, shelf_memory_bytes};
use cluster::id::{GroupId, NodeId};
use cluster::lease;
use cluster::seal::Key;
use serde::{Serialize, Serializer};
use stack::limits::GROUPS_MAX;
use stack::shard::Place;
use stack::stack::{StackConfig, memory_bytes};
use stack::time::Duration;

use super::value;
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
    /// `[[services]]`: what is served. Nodes know a service by its name; the order in the file means nothing.
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
        let superframes = SUPERFRAMES_BYTES * interfaces.client.queues.len();
        (all + superframes) as u64
            + u64::from(limits.frames) * 4096 * ports as u64
            + limits.content_bytes
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
    /// `segmentation`: whether several segments of a flow may leave as one superframe, which the interface or the kernel cuts.
    /// Default "auto"; of the client side only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segmentation: Option<Segmentation>,
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

/// Whether several segments of a flow may leave as one superframe.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Segmentation {
    /// On a virtual cable (veth).
    #[default]
    Auto,
    /// Every segment leaves as a frame of its own.
    Never,
}

/// `[cores]`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Cores {
    /// `pin`: the processors on which poll loops run, one loop each. Default `[0]`.
    pub pin: Vec<u16>,
    /// `idle`: what a loop does when there is nothing to do. Default "adaptive".
    pub idle: Idle,
    /// `gather`: while many connections are busy, a loop looks for frames this often, and not at once again after a few: they share a
    /// round, a system call and an interrupt, as with a network card that spares interrupts; half as often where frames come thick.
    /// "0s": at once. Default "50us".
    #[serde(serialize_with = "duration")]
    pub gather: Duration,
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
    /// `chunks`: pieces of 2048 bytes for payload that cannot be had again, or is passed on, shared out among the
    /// cores; when less than half are free a connection is offered and holds a part of these at most. Default 65536.
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

impl Config {
    /// Most services that one configuration may hold: each has a group.
    pub const SERVICES_MAX: usize = GROUPS_MAX;

    /// Groups of each service: one, or two if any of them may leave its connections behind.
    pub fn generations(&self) -> u8 {
        let needs_two = |service: &Service| service.failback == Failback::NewConnections;
        1 + u8::from(self.services.iter().any(needs_two))
    }

    /// The groups, each with its index on this node: the generations of a service are side by side.
    pub fn groups(&self) -> Vec<(u8, GroupId)> {
        self.services.iter().flat_map(|service| self.groups_of(service)).collect()
    }

    /// Those of one service.
    pub fn groups_of(&self, service: &Service) -> impl Iterator<Item = (u8, GroupId)> + use<> {
        let (count, id, place) = (self.generations(), service.id, service.place);
        (0..count).map(move |n| (place * count + n, GroupId::new(id, n)))
    }

    /// The service of this group.
    pub fn service(&self, group: GroupId) -> Option<&Service> {
        self.services.iter().find(|service| service.id == group.service())
    }

    /// The service of the group with this index.
    pub fn service_at(&self, index: u8) -> Option<&Service> {
        let place = index / self.generations();
        self.services.iter().find(|service| service.place == place)
    }

    /// The other nodes of the cluster.
    pub fn others(&self) -> impl Iterator<Item = &ClusterNode> {
        self.cluster.nodes.iter().filter(|node| node.id != self.node.id)
    }

    /// The configuration with every default spelt out, as a TOML file. Paths are as they resolved.
    pub fn effective(&self) -> String {
        let text = toml::to_string(self);
        let text = text.unwrap_or_else(|error| format!("# cannot be written: {error}\n"));
        format!(
            "# What [limits] says is taken at start, for all services together: those that a reload brings share it, and a reload\n\
             # cannot change it.\n{text}"
        )
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
        Cores { pin: vec![0], idle: Idle::default(), gather: Duration::from_micros(50) }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            flows: 65536,
            active_flows: 65536,
            uploads: 65536,
            chunks: 65536,
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
