//! What `understudy flows` asks and shows, as it crosses the control socket.
//!
//! Units: times end in `_us`. A reader tolerates fields that are missing.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Connections in one answer at most.
pub const FLOWS_MAX: u32 = 20_000;

/// Which connections: those for which everything agrees that is named.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FlowFilter {
    /// The service's name.
    pub service: Option<String>,
    /// The client's address.
    pub client: Option<IpAddr>,
    /// The server's address.
    pub server: Option<IpAddr>,
    /// The state of the client's side, as TCP names it.
    pub state: Option<String>,
    /// Whether the peer holds it.
    pub is_copied: Option<bool>,
    /// So many at most; [`FLOWS_MAX`] if it is not named.
    pub limit: Option<u32>,
}

/// Connections of a node.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Flows {
    /// The node that answers.
    pub node: u8,
    /// The connections, core by core.
    pub flows: Vec<FlowStatus>,
    /// There are more.
    pub has_more: bool,
}

/// One connection.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct FlowStatus {
    /// Its name, hexadecimal; the same on every node.
    pub id: String,
    /// The service.
    pub service: String,
    /// The processor that serves it.
    pub core: u16,
    /// The client's address and port.
    pub client: String,
    /// The address and port that it has connected to.
    pub address: String,
    /// The state of the client's side.
    pub state: String,
    /// The address and port of the server, of a connection that is passed on.
    pub server: Option<String>,
    /// The state of the server's side.
    pub server_state: Option<String>,
    /// Where it stands: "copied", "not copied", or "copy" on the node that holds the copy.
    pub standing: String,
    /// Time since the client was heard.
    pub silent_us: u64,
    /// Bytes taken from the client.
    pub received_bytes: u64,
    /// Bytes that the client has acknowledged, as far as the node has told its peer.
    pub acknowledged_bytes: u64,
}
