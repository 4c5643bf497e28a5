//! What has come and gone through a proxied service, counted since this node began, each connection by the node that serves it.
//!
//! Counts are this core's own: no peer is told of them, and who takes over counts on from its own.
//!
//! Units: bytes of payload, as each side has said them; what was said again counts once.

use crate::app::proxy::end::End;

/// Bytes said by either side.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Said {
    /// By clients.
    pub by_clients: u64,
    /// By servers.
    pub by_servers: u64,
}

/// Of one service.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Clients whose connection was opened.
    pub clients: u64,
    /// What they and their servers have said.
    pub said: Said,
    /// Connections that are over, by the position of what ended them in [`End::ALL`].
    ended: [u64; End::ALL.len()],
}

impl Tally {
    /// A connection is over.
    pub fn note_end(&mut self, end: End) {
        let position = End::ALL.iter().position(|known| *known == end);
        self.ended[position.expect("all are there")] += 1;
    }

    /// Connections that are over, by what ended them.
    pub fn ended(&self) -> impl Iterator<Item = (End, u64)> + '_ {
        End::ALL.into_iter().zip(self.ended)
    }
}
