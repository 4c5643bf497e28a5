//! What a stack counts.

use super::error::IcmpCounters;
use crate::drop::Drops;

/// Counters of a stack.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// Frames handed in.
    pub rx_frames: u64,
    /// Frames that did something.
    pub rx_used: u64,
    /// Of all frames, those judged as the continuation of the one before ([`crate::wire::Followers`]).
    pub rx_continued: u64,
    /// Frames of clients whose group is not served here: handed back, for whoever serves it.
    pub rx_strays: u64,
    /// Frames of clients to the owner of a group that is listened to: handed back, for whoever keeps them.
    pub rx_heard: u64,
    /// Frames dropped, by reason.
    pub drops: Drops,
    /// Frames produced.
    pub tx_frames: u64,
    /// Flows opened, by either side.
    pub opened: u64,
    /// Flows that we began to open.
    pub connects: u64,
    /// Of these, refused by a reset before they were open.
    pub refused: u64,
    /// Clients reset because they did not begin with the header that they must say.
    pub bad_header: u64,
    /// Clients reset because no server could be had.
    pub no_server: u64,
    /// Of these, because every local port towards a server was taken.
    pub no_source_port: u64,
    /// Connections reset because their server is out of service.
    pub server_down: u64,
    /// Decisions about servers that are not in this node's file, forgotten for want of room.
    pub decisions_forgotten: u64,
    /// Clients reset because no server had room and the queue was full.
    pub queue_full: u64,
    /// Clients reset because no server had room for too long.
    pub queue_timeouts: u64,
    /// Flows gone.
    pub closed: u64,
    /// Connections whose end nobody was told of, because nobody fetched what was told before.
    pub endings_lost: u64,
    /// Connections ended by an operator's word.
    pub ended: u64,
    /// SYNs answered with cookies.
    pub cookies_sent: u64,
    /// Flows opened by a cookie.
    pub cookies_accepted: u64,
    /// Frames of others that claim one of our addresses.
    pub address_conflicts: u64,
    /// Answers that were due to segments that prove nothing, and withheld because there were many.
    pub challenges_withheld: u64,
    /// ICMP errors about segments in flight.
    pub icmp: IcmpCounters,
    /// Flows brought up after a change of role.
    pub turned_over: u64,
    /// Slots looked at for flows to bring up.
    pub swept: u64,
}
