//! What `understudy servers` shows and `understudy server` orders, as it crosses the control socket.
//!
//! Units: times end in `_us`. A reader tolerates fields that are missing.

use crate::control::status::Role;
use serde::{Deserialize, Serialize};

/// The servers of a node's services, as one node knows them.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Servers {
    /// The node that answers.
    pub node: u8,
    /// Services that pass connections on, in the order of the configuration.
    pub services: Vec<ServiceServers>,
}

/// The servers of one service.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceServers {
    /// The service's name.
    pub service: String,
    /// What the node that answers is to it: only the owner decides, and only it opens connections.
    pub role: Role,
    /// Clients that wait for a server with room.
    pub queued: u64,
    /// Connections at most, all servers together; 0: as many as come.
    pub max_connections: u32,
    /// Clients that have come since this node began; as all counts, of what this node has served.
    pub clients: u64,
    /// Bytes that they have said.
    pub received_bytes: u64,
    /// Bytes that servers have said to them.
    pub sent_bytes: u64,
    /// Their connections that are over, by who ended them and how.
    pub ended: Vec<EndedStatus>,
    /// In the order of the configuration.
    pub servers: Vec<ServerStatus>,
}

/// One server.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ServerStatus {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: String,
    /// Its port.
    pub port: u16,
    /// Whether it gets new connections, and why not.
    pub state: ServerState,
    /// Time since the checks or the operator last changed something; `None` if they never have.
    pub since_us: Option<u64>,
    /// Its share of the connections.
    pub weight: u16,
    /// The weight that the configuration gives it.
    pub configured_weight: u16,
    /// It is used only while no other server is.
    pub backup: bool,
    /// Connections to it at most; 0: as many as come.
    pub max_connections: u32,
    /// Connections to it now.
    pub connections: u64,
    /// Connections opened to it.
    pub opened: u64,
    /// Of these, refused or not answered.
    pub failed: u64,
    /// Bytes that clients have said to it.
    pub sent_bytes: u64,
    /// Bytes that it has said to them.
    pub received_bytes: u64,
    /// What the checks of the node that answers have found; `None` if it does not check.
    pub check: Option<CheckStatus>,
}

/// How many connections have ended in one way.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct EndedStatus {
    /// Who did it: "client", "server", "node", "operator", or "unknown".
    pub by: String,
    /// How: "closed", "reset", "silent" and others, as the log of connections has it in words.
    pub how: String,
    /// How many.
    pub connections: u64,
}

/// What a node's own checks of a server have found.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CheckStatus {
    /// Whether the server works; `None` while that is not known.
    pub is_up: Option<bool>,
    /// What came of the last check.
    pub last: CheckOutcome,
    /// How that showed, or why.
    pub reason: String,
    /// Time since it ended.
    pub age_us: u64,
    /// How long it took.
    pub took_us: u64,
    /// Checks passed.
    pub passed: u64,
    /// Checks failed.
    pub failed: u64,
}

/// What came of a check.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckOutcome {
    /// There was none.
    #[default]
    None,
    /// The server works.
    Passed,
    /// It does not.
    Failed,
    /// The node could not check.
    Unable,
}

/// Whether a server gets new connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServerState {
    /// It does.
    #[default]
    Up,
    /// The checks have found it down.
    Down,
    /// Nobody answers for its address.
    Unreachable,
    /// By the operator's order it gets none, but for clients that stick to it.
    Drain,
    /// By the operator's order it gets none.
    Maint,
    /// It has left the configuration, and keeps the connections that it has.
    Retired,
}

/// What to do with a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServerOrder {
    /// No new connections, but for clients that stick to it; those that it has go on.
    Drain,
    /// No new connections at all; those that it has go on, or are reset with `on_server_down = "reset"`.
    Maint,
    /// Connections as usual.
    Ready,
    /// This share of the connections.
    Weight(u16),
}

impl std::fmt::Display for ServerState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            ServerState::Up => "up",
            ServerState::Down => "DOWN",
            ServerState::Unreachable => "UNREACHABLE",
            ServerState::Drain => "drain",
            ServerState::Maint => "maint",
            ServerState::Retired => "retired",
        })
    }
}
