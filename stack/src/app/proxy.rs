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
//!
//! What a side says crosses in one of two ways ([`Ack`]). `held`: the peer holds it, then it is acknowledged. `end-to-end`:
//! it is passed on at once, *ahead* of the log, and counts as received when the other side has acknowledged it; only
//! that is recorded ([`crate::legs::passing`]). So its sender keeps it for us, and no payload crosses the cluster link.

pub mod end;
pub mod header;

use self::end::End;
use super::Context;
use crate::codec::{ImportError, Put, Reader};
use crate::output::OutOfMemory;
use crate::pool::NONE;
use alloc::vec::Vec;

/// When what one side says is acknowledged to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Ack {
    /// Once the other side has acknowledged it.
    #[default]
    EndToEnd,
    /// Once the peer holds it: each side is served at its own pace.
    Held,
}

/// What one side has said, and was passed on, and the log knows nothing of: the other side has not acknowledged it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ahead {
    /// Bytes.
    pub bytes: u32,
    /// And its FIN.
    pub fin: bool,
}

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
    /// When what is said is acknowledged.
    pub ack: Ack,
    /// What this leg's side has said ahead of the log: in the output of the other leg or, while that is waited for, in the
    /// backlog. Only who serves the flow has any; whoever carries it on is told again.
    pub ahead: Ahead,
    /// The same of the other leg: the end of this leg's output.
    pub behind: Ahead,
    /// Servers that did not answer or refused; of the client's leg.
    pub failures: u8,
    /// Position among those of the service of the leg's server, and in the client's leg of the one that was asked last;
    /// [`NO_SERVER`] if it is none of them.
    pub server: u16,
    /// Where this node keeps the other leg; `NONE` if there is none, or none any more.
    pub other: u32,
    /// This node counts it among the connections of its server.
    pub is_counted: bool,
    /// What ended the connection; of the client's leg.
    pub end: End,
    /// That was counted, and told to whoever keeps a log of it.
    pub is_end_told: bool,
}

/// No server that the service knows.
pub const NO_SERVER: u16 = u16::MAX;

impl Proxy {
    /// The leg of a client that has just come.
    pub const fn client(ack: Ack) -> Proxy {
        Proxy::waiting(Side::Client, ack, NO_SERVER, NONE)
    }

    /// The leg towards a server; the client's is in slot `other`.
    pub const fn server(ack: Ack, server: u16, other: u32) -> Proxy {
        Proxy::waiting(Side::Server, ack, server, other)
    }

    const fn waiting(side: Side, ack: Ack, server: u16, other: u32) -> Proxy {
        let none = Ahead { bytes: 0, fin: false };
        let phase = Phase::Waiting;
        Proxy {
            side,
            phase,
            ack,
            ahead: none,
            behind: none,
            failures: 0,
            server,
            other,
            is_counted: false,
            end: End::Unknown,
            is_end_told: false,
        }
    }

    /// Whether what its side says is passed on ahead of the log.
    #[inline]
    pub fn passes_ahead(&self) -> bool {
        self.ack == Ack::EndToEnd && self.phase != Phase::Alone
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
        // Where the other leg is kept is this node's affair, so is what the log knows nothing of, and the place of a server among
        // the others; whoever takes a flow in finds it by the address. What has ended a connection is over soon.
        let Proxy {
            side,
            phase,
            ack,
            ahead: _,
            behind: _,
            failures,
            server: _,
            other: _,
            is_counted: _,
            end: _,
            is_end_told: _,
        } = self;
        let is_end_to_end = *ack == Ack::EndToEnd;
        out.put_u8(u8::from(is_end_to_end) << 5 | (*side as u8) << 4 | *phase as u8);
        out.put_u8(*failures);
    }

    pub(super) fn import(reader: &mut Reader) -> Result<Proxy, ImportError> {
        let code = reader.u8()?;
        // Before there was a choice, everything was held.
        let ack = if code & 0x20 == 0 { Ack::Held } else { Ack::EndToEnd };
        let (side, phase) = match code & !0x20 {
            0x00 => (Side::Client, Phase::Waiting),
            0x01 => (Side::Client, Phase::Joined),
            0x02 => (Side::Client, Phase::Alone),
            0x10 => (Side::Server, Phase::Waiting),
            0x11 => (Side::Server, Phase::Joined),
            0x12 => (Side::Server, Phase::Alone),
            _ => return Err(ImportError::Invalid),
        };
        let failures = reader.u8()?;
        Ok(Proxy { phase, failures, ..Proxy::waiting(side, ack, NO_SERVER, NONE) })
    }
}
