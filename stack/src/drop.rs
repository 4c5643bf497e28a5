//! Why a frame died: one counter and one sentence for each reason.
//!
//! Every received frame is used, handed back because another node serves it, or dropped with exactly one of these
//! reasons, so `received = used + handed back + sum(drops)` always holds.

macro_rules! drops {
    ($($(#[doc = $doc:literal])+ $name:ident = $key:literal,)+) => {
        /// Why a frame was dropped.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u8)]
        pub enum Drop {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Drop {
            /// Every reason, in the order of its code.
            pub const ALL: &'static [Drop] = &[$(Drop::$name,)+];

            /// The name under which the reason is counted.
            pub const fn key(self) -> &'static str {
                match self { $(Drop::$name => $key,)+ }
            }

            /// The reason as a sentence.
            pub const fn sentence(self) -> &'static str {
                match self { $(Drop::$name => concat!($($doc,)+),)+ }
            }
        }
    };
}

drops! {
    /// The frame is shorter than its headers say.
    Truncated = "truncated",
    /// The Ethernet destination is neither ours nor, for a question about an address, everybody.
    AlienMac = "alien_mac",
    /// The frame's protocol is none that a service speaks.
    UnknownProtocol = "unknown_protocol",
    /// A fragment of an IP packet: fragments are not reassembled.
    Fragment = "fragment",
    /// An IPv4 header with options, or an IPv6 extension header.
    IpOptions = "ip_options",
    /// A header or checksum of the IP layer is wrong.
    BadIp = "bad_ip",
    /// The TCP checksum is wrong.
    BadTcpChecksum = "bad_tcp_checksum",
    /// The TCP header or its options contradict themselves.
    BadTcp = "bad_tcp",
    /// Source and destination are equal, or the source is no unicast address.
    Martian = "martian",
    /// No service owns the destination.
    NoService = "no_service",
    /// This node does not own the group of the address that is asked for.
    NotOwner = "not_owner",
    /// The group of the address that is asked for is being handed over: whoever owns it next is asked again.
    Frozen = "frozen",
    /// No flow, and the segment cannot open one; answered with RST unless it was one.
    NoFlow = "no_flow",
    /// A newcomer to a service that is not configured any more and serves what it has; answered with RST.
    Leaving = "leaving",
    /// A reset that found no flow, or that was out of the window.
    StrayReset = "stray_reset",
    /// The flow is closed and waits only for the peer to know it.
    Closing = "closing",
    /// The table of flows is full.
    FlowTableFull = "flow_table_full",
    /// A pool (payload chunks, pieces, segments) is exhausted.
    PoolExhausted = "pool_exhausted",
    /// The log has no room: dropped as if the network had lost it.
    LogFull = "log_full",
    /// Outside the receive window; answered with an ACK.
    OutOfWindow = "out_of_window",
    /// Older than what the flow has seen (PAWS); answered with an ACK.
    OldTimestamp = "old_timestamp",
    /// Acknowledges what was never sent; answered with an ACK.
    AckUnsent = "ack_unsent",
    /// A SYN inside a connection; answered with a challenge ACK.
    SynInWindow = "syn_in_window",
    /// No ACK flag where one is needed.
    NoAck = "no_ack",
    /// Neither SYN nor RST where one of them is needed: the connection is not open yet.
    NoSyn = "no_syn",
    /// An ARP, ICMP or neighbour message that asks nothing of us.
    Unasked = "unasked",
    /// Asks for, or claims, an address to which a router brings the traffic: nobody answers.
    NotAnnounced = "not_announced",
    /// An ICMP error that quotes no segment of ours.
    BadQuote = "bad_quote",
    /// An ICMP error about a segment that is not in flight.
    IcmpStray = "icmp_stray",
    /// An ICMP error with a path MTU that is no news or cannot be, or one too many.
    IcmpRefused = "icmp_refused",
    /// The queue of small replies (ARP, ICMP, RST, cookies) is full.
    ReplyQueueFull = "reply_queue_full",
    /// A small reply more than its kind may cost in a second: whoever asked will ask again.
    ReplyRate = "reply_rate",
    /// An ACK that could have been a cookie's but is not.
    BadCookie = "bad_cookie",
    /// A segment that another node forwarded and no flow here knows: RST is for whoever has it from its client.
    ForwardedUnknown = "forwarded_unknown",
    /// The flow would be another core's: the frame should have crossed over.
    OtherCore = "other_core",
}

/// One counter for each [`Drop`].
#[derive(Clone, Debug)]
pub struct Drops([u64; Drop::ALL.len()]);

impl Default for Drops {
    fn default() -> Drops {
        Drops([0; Drop::ALL.len()])
    }
}

impl Drops {
    /// Counts one dropped frame.
    #[inline]
    pub fn count(&mut self, reason: Drop) {
        self.0[reason as usize] += 1;
    }

    /// Frames dropped for `reason`.
    pub fn of(&self, reason: Drop) -> u64 {
        self.0[reason as usize]
    }

    /// Frames dropped.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Reasons that have occurred, with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (Drop, u64)> + '_ {
        Drop::ALL.iter().map(|&reason| (reason, self.of(reason))).filter(|(_, n)| *n > 0)
    }
}
