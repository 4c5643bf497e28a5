//! Connections for whoever looks on, and the end of one by his word.
//!
//! Every core is asked piece by piece (`stack/src/stack/list.rs`), so that none stops for it; the memory of an answer is
//! taken and freed here.

use crate::address;
use crate::config::Config;
use crate::control::Reply;
use crate::control::flows::{FLOWS_MAX, FlowFilter, FlowStatus, Flows};
use crate::orders::service_index;
use crate::report::{LATE, PATIENCE, Reporter};
use crate::shared::ToCore;
use crossbeam_channel::bounded;
use stack::flow::FlowId;
use stack::key::FlowKey;
use stack::stack::{Ended, Filter, Listed};
use stack::tcp::state::State;
use stack::wire::Address;
use std::net::SocketAddr;

/// Connections that a core puts into one piece of an answer.
const PIECE_FLOWS: usize = 256;

impl Reporter {
    /// The connections that the filter lets through.
    pub fn flows(&self, filter: &FlowFilter) -> Reply {
        match self.try_flows(filter) {
            Ok(flows) => Reply::Flows { flows: Box::new(flows) },
            Err(message) => Reply::Error { message },
        }
    }

    fn try_flows(&self, filter: &FlowFilter) -> Result<Flows, String> {
        let limit = filter.limit.unwrap_or(FLOWS_MAX).clamp(1, FLOWS_MAX) as usize;
        let (config, filter) = (self.config(), self.filter(filter)?);
        let mut flows = Flows { node: self.me.node.0, ..Flows::default() };
        for core in 0..self.orders.len() {
            let mut from = Some(0);
            while let Some(slot) = from.filter(|_| flows.flows.len() < limit) {
                let room = PIECE_FLOWS.min(limit - flows.flows.len());
                let (answer, piece) = bounded(1);
                let order = ToCore::List(slot, filter, Vec::with_capacity(room), answer);
                self.orders[core].try_send(order).map_err(|_| LATE)?;
                let (found, next) = piece.recv_timeout(PATIENCE).map_err(|_| LATE)?;
                let shown = |listed| shown(&config, core, listed);
                flows.flows.extend(found.iter().map(shown));
                from = next;
            }
            flows.has_more |= from.is_some();
        }
        Ok(flows)
    }

    fn filter(&self, filter: &FlowFilter) -> Result<Filter, String> {
        let FlowFilter { service, client, server, state, is_copied, limit: _ } = filter;
        let config = self.config();
        let groups = |name: &String| {
            service_index(&config, name).map(|position| groups_of(&config, position))
        };
        let state_of = |name: &String| {
            let states = State::ALL;
            let found = states.iter().find(|state| state.to_string().eq_ignore_ascii_case(name));
            found.copied().ok_or_else(|| {
                let known: Vec<_> = states.iter().map(ToString::to_string).collect();
                format!("{name:?} is no state of TCP; there are: {}", known.join(", "))
            })
        };
        Ok(Filter {
            groups: service.as_ref().map(groups).transpose()?,
            client: client.as_ref().map(address::to_stack),
            server: server.as_ref().map(address::to_stack),
            state: state.as_ref().map(state_of).transpose()?,
            is_copied: *is_copied,
        })
    }

    /// Ends the connection with this name.
    pub fn end_flow(&self, id: &str) -> Reply {
        match self.try_end_flow(id) {
            Ok(()) => Reply::Done,
            Err(message) => Reply::Error { message },
        }
    }

    fn try_end_flow(&self, id: &str) -> Result<(), String> {
        let id = u64::from_str_radix(id, 16).map(FlowId).map_err(|_| {
            format!(
                "{id:?} is no name of a connection: `understudy flows` shows them, in hexadecimal"
            )
        })?;
        let mut is_elsewhere = false;
        for orders in &self.orders {
            let (answer, ended) = bounded(1);
            orders.try_send(ToCore::EndFlow(id, answer)).map_err(|_| LATE)?;
            match ended.recv_timeout(PATIENCE).map_err(|_| LATE)? {
                Ended::Yes => return Ok(()),
                Ended::NotServed => is_elsewhere = true,
                Ended::NoFlow => {}
            }
        }
        Err(match is_elsewhere {
            true => format!(
                "node {} holds a copy of it only: give the order to its owner",
                self.me.node
            ),
            false => format!("node {} has no connection {:x}", self.me.node, id.0),
        })
    }
}

fn shown(config: &Config, core: usize, listed: &Listed) -> FlowStatus {
    let Listed { id, group, key, state, server, is_copied, silence, received, acknowledged } =
        listed;
    let service = config.service_at(*group);
    let local = |key: &FlowKey| end(&key.local, key.local_port);
    let remote = |key: &FlowKey| end(&key.remote, key.remote_port);
    FlowStatus {
        id: format!("{:x}", id.0),
        service: service.map_or(String::new(), |service| service.name.clone()),
        core: config.cores.pin[core],
        client: remote(key),
        address: local(key),
        state: state.to_string(),
        server: server.as_ref().map(|(key, _)| remote(key)),
        server_state: server.as_ref().map(|(_, state)| state.to_string()),
        standing: match is_copied {
            Some(true) => "copied",
            Some(false) => "not copied",
            None => "copy",
        }
        .into(),
        silent_us: silence.micros(),
        received_bytes: *received,
        acknowledged_bytes: *acknowledged,
    }
}

/// The groups of a service, one bit for each.
fn groups_of(config: &Config, service: usize) -> u64 {
    let groups = config.groups_of(&config.services[service]);
    groups.fold(0, |bits, (index, _)| bits | 1u64 << index)
}

fn end(address: &Address, port: u16) -> String {
    SocketAddr::new(address::to_ip(address), port).to_string()
}
