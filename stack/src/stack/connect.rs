//! Opening connections to others (RFC 9293 3.10.1, the active OPEN).
//!
//! The flow belongs to a service and its group: it is mirrored, moves and ends with it, and the service's
//! application runs on it. Who opens chooses both ends and knows the next hop. The SYN leaves when the
//! peer holds the decision; the flow is in SYN-SENT until then and until it is answered.
//!
//! Spec: RFC 9293 3.10.1, MUST-46; RFC 6528. Left out: a local port is not chosen here.

use super::{Mode, Stack};
use crate::drop::Drop;
use crate::fact::Open;
use crate::key::FlowKey;
use crate::recorder::Recorder;
use crate::tcp::contract::Options;
use crate::time::Instant;
use crate::wire::Mac;
use core::fmt;

/// Why a connection cannot be opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConnectError {
    /// There is no service with this index.
    NoService,
    /// This node does not serve the service's group.
    NotServing,
    /// The local address is none of the service's, or the local port is 0.
    AlienLocal,
    /// The remote address is no unicast address, of another family than the local one, or the remote port
    /// is 0 (RFC 9293 MUST-46).
    BadRemote,
    /// Both ends are the same.
    SelfConnect,
    /// The flow belongs to another core of this node.
    OtherCore {
        /// Which one: open it there.
        core: u8,
    },
    /// There is a flow between these two ends, perhaps in TIME-WAIT.
    PortTaken,
    /// The table of flows is full.
    TableFull,
    /// A pool is exhausted.
    PoolExhausted,
    /// The log has no room.
    LogFull,
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ConnectError::NoService => "there is no such service",
            ConnectError::NotServing => "this node does not serve the group",
            ConnectError::AlienLocal => "the local address and port are not the service's to use",
            ConnectError::BadRemote => "the remote address and port name no single host",
            ConnectError::SelfConnect => "both ends are the same",
            ConnectError::OtherCore { .. } => "the connection belongs to another core",
            ConnectError::PortTaken => "there is a connection between these ends; use another port",
            ConnectError::TableFull => "the table of flows is full",
            ConnectError::PoolExhausted => "the memory for payload is exhausted",
            ConnectError::LogFull => "the log has no room; try again when the peer has caught up",
        })
    }
}

impl core::error::Error for ConnectError {}

impl Stack {
    /// Opens a connection of a service from `key.local` to `key.remote` by way of `next_hop`; answers its slot.
    pub fn connect<R: Recorder>(
        &mut self,
        now: Instant,
        service: u8,
        key: FlowKey,
        next_hop: Mac,
        recorder: &mut R,
    ) -> Result<u32, ConnectError> {
        self.check_ends(now, service, &key)?;
        let clock = self.groups[service as usize].clock(now);
        let open = Open {
            key,
            next_hop,
            iss: self.keys.iss(&key, clock),
            options: Options::offered(&self.env.services[service as usize], &key.local),
            syn: None,
        };
        let slot = self.open(now, open, service, recorder).map_err(|reason| match reason {
            Drop::FlowTableFull => ConnectError::TableFull,
            Drop::LogFull => ConnectError::LogFull,
            _ => ConnectError::PoolExhausted,
        })?;
        self.counters.connects += 1;
        Ok(slot)
    }

    fn check_ends(&mut self, now: Instant, service: u8, key: &FlowKey) -> Result<(), ConnectError> {
        let settings = self.env.services.get(service as usize).ok_or(ConnectError::NoService)?;
        if self.groups[service as usize].mode != Mode::Serving {
            return Err(ConnectError::NotServing);
        }
        if !settings.holds(&key.local) || key.local_port == 0 {
            return Err(ConnectError::AlienLocal);
        }
        let is_same_family = key.local.as_v4().is_some() == key.remote.as_v4().is_some();
        if !key.remote.is_unicast() || !is_same_family || key.remote_port == 0 {
            return Err(ConnectError::BadRemote);
        }
        if key.remote == key.local && key.remote_port == key.local_port {
            return Err(ConnectError::SelfConnect);
        }
        let core = self.place.core_of(self.shard_of(key));
        if core != self.place.core {
            return Err(ConnectError::OtherCore { core });
        }
        if self.seek(now, key).is_some() {
            return Err(ConnectError::PortTaken);
        }
        Ok(())
    }
}
