//! What a configuration says of one service: `[[services]]` and what stands in it.

use super::super::health::Check;
use super::super::value::{Mac, PortRange};
use super::{duration, node_id, node_ids};
use cluster::id::NodeId;
use serde::Serialize;
use stack::time::Duration;
use std::net::IpAddr;
use std::path::PathBuf;

/// One of `[[services]]`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Service {
    /// By what all nodes know it, whatever else is in their files: follows from the name.
    #[serde(skip)]
    pub id: u32,
    /// Its place on this node: a running node gives places away as services come and go.
    #[serde(skip)]
    pub place: u8,
    /// The file does not name it any more, since this reload; it serves the connections that it has.
    #[serde(skip)]
    pub leaving: Option<u32>,
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
    /// `receive_buffer`: bytes offered to a client at most. Default 524288; of a proxy 1048576, with `ack = "held"`
    /// 262144, and no more.
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
    /// Addresses that move with it.
    pub fn held_addresses(&self) -> Vec<IpAddr> {
        let own = &self.addresses;
        let sources = self.sources().iter().filter(|source| !own.contains(source));
        own.iter().chain(sources).copied().collect()
    }

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
