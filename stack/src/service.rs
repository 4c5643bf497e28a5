//! A service: addresses, ports and the application behind them.

use crate::app::AppConfig;
use crate::app::proxy::Ack;
use crate::content::Content;
use crate::limits::{FIRST_WINDOW_BYTES, SOURCE_PORT_FIRST};
use crate::tcp::sender::SenderConfig;
use crate::time::Duration;
use crate::upstream::Upstream;
use crate::wire::{Address, Mac};
use alloc::vec::Vec;

/// What the stack knows of one service. Each core has its own, over the same content.
#[derive(Clone)]
pub struct Service {
    /// Addresses that the service owns.
    pub addresses: Vec<Address>,
    /// How neighbours learn where they are.
    pub arp: ArpPolicy,
    /// Who holds the copies listens to what clients say to the owner (DESIGN 10). With
    /// [`ArpPolicy::VirtualMac`] nothing is said from that address then, so that switches flood what is sent to it.
    pub snoop: bool,
    /// Ports, as inclusive ranges.
    pub ports: Vec<(u16, u16)>,
    /// What runs behind them.
    pub app: AppConfig,
    /// What `http` serves.
    pub content: Content,
    /// Bytes that a client may send ahead of the application.
    pub receive_buffer: u32,
    /// After this long without a segment that moves anything, the application gets [`Tick::Idle`].
    ///
    /// [`Tick::Idle`]: crate::fact::Tick::Idle
    pub idle_timeout: Option<Duration>,
    /// Keep-alive; `None` switches it off (RFC 9293 MUST-25).
    pub keep_alive: Option<KeepAlive>,
    /// A connection that we open is given up after so long without an answer; by default
    /// [`crate::limits::CONNECT_TIMEOUT`].
    pub connect_timeout: Duration,
    /// Loss recovery and congestion control.
    pub sender: SenderConfig,
    /// Largest segment that our side of the path takes over IPv4 (MTU less IP and TCP headers); see
    /// [`Service::mss_for`].
    pub mss: u16,
    /// What an application writes in small pieces is not held back until what was sent before is acknowledged
    /// (RFC 9293 MUST-17): Nagle's algorithm is off.
    pub nodelay: bool,
    /// TTL or hop limit of what is sent (RFC 9293 MUST-49).
    pub hop_limit: u8,
    /// To whom `proxy` passes connections on; empty for the others.
    pub upstream: Upstream,
}

/// How neighbours learn where a service's addresses are, by ARP or neighbour advertisements.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ArpPolicy {
    /// They move to the owner's hardware address, which is announced.
    #[default]
    Gratuitous,
    /// They keep this hardware address, which belongs to the service. Everything that is said for the service comes from
    /// it, and an announcement teaches switches behind which port it is now; not so with [`Service::snoop`].
    VirtualMac(Mac),
    /// A router brings the traffic: nothing is announced and nobody who asks is answered.
    None,
}

/// TTL or hop limit unless the configuration has another: what every current system uses.
pub const HOP_LIMIT: u8 = 64;

/// How the other side of an idle connection is asked whether it lives (RFC 9293 3.8.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeepAlive {
    /// After so long without a segment the first probe leaves.
    pub idle: Duration,
    /// Between two probes without an answer.
    pub interval: Duration,
    /// So many probes without an answer end the connection.
    pub count: u8,
}

impl Default for KeepAlive {
    /// RFC 9293 MUST-28: two hours at least. Interval and count are those of other systems.
    fn default() -> KeepAlive {
        KeepAlive { idle: Duration::from_secs(7200), interval: Duration::from_secs(75), count: 9 }
    }
}

impl Service {
    /// What a new connection is offered. End to end, that is before anybody knows what the other side will take.
    pub fn first_window(&self) -> u32 {
        match self.app {
            AppConfig::Proxy(Ack::EndToEnd) => self.receive_buffer.min(FIRST_WINDOW_BYTES),
            _ => self.receive_buffer,
        }
    }

    /// Whether a segment to (address, port) is for this service.
    pub fn owns(&self, address: &Address, port: u16) -> bool {
        self.addresses.contains(address)
            && self.ports.iter().any(|&(low, high)| (low..=high).contains(&port))
    }

    /// The hardware address at which neighbours find the service, on a node with this one.
    #[inline]
    pub fn mac(&self, own: &Mac) -> Mac {
        match self.arp {
            ArpPolicy::VirtualMac(mac) => mac,
            ArpPolicy::Gratuitous | ArpPolicy::None => *own,
        }
    }

    /// The hardware address from which the service speaks: the same, unless switches must not learn where it is.
    #[inline]
    pub fn source_mac(&self, own: &Mac) -> Mac {
        if self.snoop { *own } else { self.mac(own) }
    }

    /// Whether `address` moves with the service: clients connect to it, or we connect to servers from it.
    pub fn holds(&self, address: &Address) -> bool {
        self.addresses.contains(address) || self.upstream.sources.contains(address)
    }

    /// Whether we may connect to a server from (address, port).
    pub fn connects_from(&self, address: &Address, port: u16) -> bool {
        port >= SOURCE_PORT_FIRST
            && self.upstream.sources.contains(address)
            && !self.owns(address, port)
    }

    /// Whether a segment to (address, port) is for this service or one of its connections to servers.
    pub fn takes(&self, address: &Address, port: u16) -> bool {
        self.owns(address, port) || self.connects_from(address, port)
    }

    /// Every address that moves with the service.
    pub fn held_addresses(&self) -> impl Iterator<Item = &Address> {
        let sources = self.upstream.sources.iter();
        self.addresses.iter().chain(sources.filter(|source| !self.addresses.contains(source)))
    }

    /// The MSS to offer on a connection to `address`: the header of IPv6 is 20 bytes longer (RFC 6691).
    pub fn mss_for(&self, address: &Address) -> u16 {
        self.mss - if address.as_v4().is_some() { 0 } else { 20 }
    }

    /// Bytes of the longest frame of a client, VLAN tag included.
    pub fn frame_bytes_max(&self) -> usize {
        self.mss as usize + 40 + 18
    }

    /// The window scale to offer: the least with which the receive buffer can be said (RFC 7323 2.3).
    pub fn window_scale(&self) -> u8 {
        (0..14).find(|&scale| self.receive_buffer >> scale <= 0xffff).unwrap_or(14)
    }
}
