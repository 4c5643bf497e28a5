//! What ended a proxied connection, and who did it: the first thing that closed or gave up either side.
//!
//! It is noted at the client's leg, by the facts that owner and peer share, so whoever takes over knows it too; of what only
//! the owner knows (why it gave up) the peer knows that it did.

use super::{Proxy, Side};

/// What came first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum End {
    /// Not yet, or before this node knew the connection.
    #[default]
    Unknown,
    /// That side has said all.
    Closed(Side),
    /// That side has reset it.
    Reset(Side),
    /// That side was silent for too long.
    Silent(Side),
    /// The client has not said who is behind it, which it must.
    NoHeader,
    /// There was no server for it, or none with room.
    NoServer,
    /// Its server is out of service.
    ServerDown,
    /// An operator has ended it.
    Ordered,
}

impl End {
    /// All of them.
    pub const ALL: [End; 11] = [
        End::Unknown,
        End::Closed(Side::Client),
        End::Closed(Side::Server),
        End::Reset(Side::Client),
        End::Reset(Side::Server),
        End::Silent(Side::Client),
        End::Silent(Side::Server),
        End::NoHeader,
        End::NoServer,
        End::ServerDown,
        End::Ordered,
    ];

    /// What it was, in one word: whoever counts them shows it.
    pub fn key(self) -> &'static str {
        match self {
            End::Unknown => "unknown",
            End::Closed(_) => "closed",
            End::Reset(_) => "reset",
            End::Silent(_) => "silent",
            End::NoHeader => "no_header",
            End::NoServer => "no_server",
            End::ServerDown => "server_down",
            End::Ordered => "ordered",
        }
    }

    /// Who did it.
    pub fn by(self) -> &'static str {
        match self {
            End::Unknown => "unknown",
            End::Closed(side) | End::Reset(side) | End::Silent(side) => side.name(),
            End::NoHeader => Side::Client.name(),
            End::NoServer | End::ServerDown => "node",
            End::Ordered => "operator",
        }
    }

    /// What it was, in words that end the sentence "the connection was ended:".
    pub fn why(self) -> &'static str {
        match self {
            End::Unknown => "in a way that this node has not seen",
            End::Closed(Side::Client) => "the client closed",
            End::Closed(Side::Server) => "the server closed",
            End::Reset(Side::Client) => "the client reset it",
            End::Reset(Side::Server) => "the server reset it",
            End::Silent(Side::Client) => "the client was silent for too long",
            End::Silent(Side::Server) => "the server was silent for too long",
            End::NoHeader => "the client did not say who is behind it",
            End::NoServer => "there was no server for it",
            End::ServerDown => "its server is out of service",
            End::Ordered => "an operator ended it",
        }
    }
}

impl Side {
    /// The other one.
    pub fn other(self) -> Side {
        match self {
            Side::Client => Side::Server,
            Side::Server => Side::Client,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Side::Client => "client",
            Side::Server => "server",
        }
    }
}

impl Proxy {
    /// Notes what ends the connection, unless something has before.
    pub fn note_end(&mut self, end: End) {
        if self.end == End::Unknown {
            self.end = end;
        }
    }
}
