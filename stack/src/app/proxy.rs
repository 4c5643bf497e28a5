//! `proxy`: one leg of a connection that is passed on to a server.
//!
//! A proxied connection is two flows, its *legs*: the client's and the server's. Each is a whole TCP connection with
//! a contract, timers and an output of its own; what one receives becomes the other's output. They share a
//! name but for one bit ([`crate::flow::FlowId::other_leg`]), so a shard, a core and a log, and are captured as one.
//!
//! ```text
//! client leg   Waiting --------------- Joined ----> Alone     input is thrown away: nobody is left to read it
//!                 | a server is chosen    ^
//! server leg      `--> Waiting ----------'--------> Alone
//!                      SYN-SENT   its SYN-ACK
//! ```
//!
//! While it waits, the client leg keeps what its client says in its backlog; where a connection fails, that goes to
//! the next server. Whatever one leg does to the other is in [`crate::legs`].

pub mod header;

use super::Context;
use crate::codec::{ImportError, Put, Reader};
use crate::output::OutOfMemory;
use crate::pool::NONE;
use alloc::vec::Vec;

/// Which leg of a proxied connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// Opened by the client.
    Client,
    /// Opened by us.
    Server,
}

/// How a leg stands to the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// The server has not answered yet, or was not chosen.
    Waiting,
    /// Bytes pass from one to the other.
    Joined,
    /// The other is over.
    Alone,
}

/// One leg.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proxy {
    /// Which one.
    pub side: Side,
    /// How it stands to the other.
    pub phase: Phase,
    /// Servers that did not answer or refused; of the client's leg.
    pub failures: u8,
    /// Position among those of the service of the leg's server, and in the client's leg of the one that was asked last;
    /// [`NO_SERVER`] if it is none of them.
    pub server: u16,
    /// Where this node keeps the other leg; `NONE` if there is none, or none any more.
    pub other: u32,
    /// This node counts it among the connections of its server.
    pub is_counted: bool,
}

/// No server that the service knows.
pub const NO_SERVER: u16 = u16::MAX;

impl Proxy {
    /// The leg of a client that has just come.
    pub const fn client() -> Proxy {
        let (side, phase) = (Side::Client, Phase::Waiting);
        Proxy { side, phase, failures: 0, server: NO_SERVER, other: NONE, is_counted: false }
    }

    /// The leg towards a server; the client's is in slot `other`.
    pub const fn server(server: u16, other: u32) -> Proxy {
        let (side, phase) = (Side::Server, Phase::Waiting);
        Proxy { side, phase, failures: 0, server, other, is_counted: false }
    }

    /// Whether the server has yet to answer.
    #[inline]
    pub fn is_waiting(&self) -> bool {
        self.phase == Phase::Waiting
    }

    /// Whether bytes pass from one leg to the other.
    #[inline]
    pub fn is_joined(&self) -> bool {
        self.phase == Phase::Joined
    }

    /// Whether a client has come and no server is being asked.
    pub fn lacks_server(&self) -> bool {
        self.side == Side::Client && self.is_waiting() && self.other == NONE
    }

    pub(super) fn receive(
        &self,
        context: &mut Context,
        input: &[u8],
    ) -> Result<usize, OutOfMemory> {
        match self.phase {
            Phase::Waiting => Ok(0),
            Phase::Joined => super::echo::receive(context, input),
            Phase::Alone => Ok(input.len()),
        }
    }

    pub(super) fn export(&self, out: &mut Vec<u8>) {
        // Where the other leg is kept is this node's affair, and so is the place of a server among the others; whoever
        // takes a flow in finds it by the address.
        let Proxy { side, phase, failures, server: _, other: _, is_counted: _ } = self;
        out.put_u8((*side as u8) << 4 | *phase as u8);
        out.put_u8(*failures);
    }

    pub(super) fn import(reader: &mut Reader) -> Result<Proxy, ImportError> {
        let (side, phase) = match reader.u8()? {
            0x00 => (Side::Client, Phase::Waiting),
            0x01 => (Side::Client, Phase::Joined),
            0x02 => (Side::Client, Phase::Alone),
            0x10 => (Side::Server, Phase::Waiting),
            0x11 => (Side::Server, Phase::Joined),
            0x12 => (Side::Server, Phase::Alone),
            _ => return Err(ImportError::Invalid),
        };
        let (failures, server) = (reader.u8()?, NO_SERVER);
        Ok(Proxy { side, phase, failures, server, other: NONE, is_counted: false })
    }
}
