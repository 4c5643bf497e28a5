//! ICMP errors, judged: whose they are, whether they can be true, what follows.
//!
//! A path MTU changes how the flow is served. Everything else is a soft error, whatever its code says: it is
//! counted and the flow goes on, for the network may recover, and ends it by its time-out if it does not (RFC
//! 1122 4.2.3.9, RFC 5461). RFC 1122 would have a connection end at once for a hard error, but an error is so
//! easily forged that current systems do not (RFC 5927 5.2).
//!
//! Bounds: an error costs a look at the flow table; see `tcp/path.rs` for what it can make us do.

use super::{Mode, Stack};
use crate::drop::Drop;
use crate::key::FlowKey;
use crate::time::Instant;
use crate::wire::{ErrorKind, IcmpError, Quoted};

/// ICMP errors about segments in flight, by kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct IcmpCounters {
    /// A path MTU became smaller.
    pub too_big: u64,
    /// Destination unreachable.
    pub unreachable: u64,
    /// Time exceeded.
    pub time_exceeded: u64,
    /// Parameter problem.
    pub parameter_problem: u64,
}

impl IcmpCounters {
    /// Each with the name under which it is shown.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let IcmpCounters { too_big, unreachable, time_exceeded, parameter_problem } = *self;
        [
            ("too_big", too_big),
            ("unreachable", unreachable),
            ("time_exceeded", time_exceeded),
            ("parameter_problem", parameter_problem),
        ]
        .into_iter()
    }

    fn count(&mut self, kind: ErrorKind) {
        *match kind {
            ErrorKind::TooBig { .. } => &mut self.too_big,
            ErrorKind::Unreachable => &mut self.unreachable,
            ErrorKind::TimeExceeded => &mut self.time_exceeded,
            ErrorKind::ParameterProblem => &mut self.parameter_problem,
        } += 1;
    }
}

impl Stack {
    /// Takes an ICMP error about a segment that one of our addresses has sent.
    pub(super) fn handle_error(&mut self, now: Instant, error: &IcmpError) -> Result<(), Drop> {
        let quoted = &error.quoted;
        let slot = self.seek(now, &key_of(quoted)).ok_or(Drop::IcmpStray)?;
        let flow = &mut self.flows[slot];
        if self.groups[flow.group as usize].mode != Mode::Serving {
            return Err(self.groups[flow.group as usize].refusal());
        }
        // RFC 5927 4.1.
        if !flow.has_in_flight(quoted.seq) {
            return Err(Drop::IcmpStray);
        }
        if let ErrorKind::TooBig { mtu } = error.kind {
            flow.handle_too_big(now, &mut self.env, mtu, quoted.bytes)?;
            self.settle(now, slot);
        }
        self.counters.icmp.count(error.kind);
        Ok(())
    }
}

/// The flow that a quoted packet belongs to.
pub(super) fn key_of(quoted: &Quoted) -> FlowKey {
    FlowKey {
        remote: quoted.destination,
        local: quoted.source,
        remote_port: quoted.destination_port,
        local_port: quoted.source_port,
    }
}
