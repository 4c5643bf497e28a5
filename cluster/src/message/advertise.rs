//! The ownership advertisement: what a node declares about a group.
//!
//! Sent at boot, on every change and periodically by the owner, and to whoever solicits it. Nobody
//! decides on it who may speak (that is the register's business); a peer compares limits and digest
//! with its own, and `status` shows it.
//!
//! Bounds: the `*_MAX` constants of this file.

use super::Drop;
use super::codec::{Reader, Writer};
use crate::id::{Epoch, GroupId, Member, NodeId};
use alloc::string::String;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Designated peers in the order.
pub const ORDER_MAX: usize = 8;
/// Addresses of one service.
pub const ADDRESSES_MAX: usize = 16;
/// Hardware addresses of one service.
pub const MACS_MAX: usize = 8;
/// Octets of an application's name.
pub const APPLICATION_MAX: usize = 32;

/// What an owner does whose peer is lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub enum OnPeerLoss {
    /// It serves on, unprotected, and says so.
    #[default]
    Serve = 0,
    /// It is silent unless its peer is in sync.
    Stop = 1,
}

/// What happens when the home node is back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub enum Failback {
    /// Nothing until the operator says so.
    #[default]
    Manual = 0,
    /// Every flow moves back.
    All = 1,
    /// New connections open at home.
    NewConnections = 2,
}

/// How neighbours learn where the addresses are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub enum ArpPolicy {
    /// The addresses move to the owner's hardware address, announced.
    #[default]
    Gratuitous = 0,
    /// The addresses keep one hardware address.
    VirtualMac = 1,
    /// A router brings the traffic.
    None = 2,
}

/// What a node declares about a group.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Advertise {
    /// The group.
    pub group: GroupId,
    /// Its owner: node id and incarnation.
    pub owner: Member,
    /// The epoch under which it owns.
    pub epoch: Epoch,
    /// Order of the designated peers.
    pub order: Vec<NodeId>,
    /// What happens when the home node is back.
    pub failback: Failback,
    /// What the owner does whose peer is lost.
    pub on_peer_loss: OnPeerLoss,
    /// The addresses.
    pub addresses: Vec<IpAddr>,
    /// First and last port.
    pub ports: (u16, u16),
    /// IP protocol number.
    pub protocol: u8,
    /// The application.
    pub application: String,
    /// How neighbours learn where the addresses are.
    pub arp: ArpPolicy,
    /// Hardware addresses tied to the addresses.
    pub macs: Vec<[u8; 6]>,
    /// Most flows that the owner takes.
    pub flows_max: u32,
    /// Digest of the application's configuration and content.
    pub digest: [u8; 32],
}

impl Advertise {
    pub(super) fn write(&self, w: &mut Writer) {
        w.u16(self.group.0);
        w.member(self.owner);
        w.u64(self.epoch.0);
        w.list(&self.order, |w, node| w.u8(node.0));
        w.u8(self.failback as u8);
        w.u8(self.on_peer_loss as u8);
        w.list(&self.addresses, |w, address| match address {
            IpAddr::V4(v4) => {
                w.u8(4);
                w.bytes(&v4.octets());
            }
            IpAddr::V6(v6) => {
                w.u8(6);
                w.bytes(&v6.octets());
            }
        });
        w.u16(self.ports.0);
        w.u16(self.ports.1);
        w.u8(self.protocol);
        w.list(self.application.as_bytes(), |w, octet| w.u8(*octet));
        w.u8(self.arp as u8);
        w.list(&self.macs, |w, mac| w.bytes(mac));
        w.u32(self.flows_max);
        w.bytes(&self.digest);
    }

    pub(super) fn read(r: &mut Reader<'_>) -> Result<Advertise, Drop> {
        Ok(Advertise {
            group: r.group()?,
            owner: r.member()?,
            epoch: r.epoch()?,
            order: r.list(ORDER_MAX, |r| Ok(NodeId(r.u8()?)))?,
            failback: match r.u8()? {
                0 => Failback::Manual,
                1 => Failback::All,
                2 => Failback::NewConnections,
                _ => return Err(Drop::BadField),
            },
            on_peer_loss: match r.u8()? {
                0 => OnPeerLoss::Serve,
                1 => OnPeerLoss::Stop,
                _ => return Err(Drop::BadField),
            },
            addresses: r.list(ADDRESSES_MAX, read_address)?,
            ports: (r.u16()?, r.u16()?),
            protocol: r.u8()?,
            application: String::from_utf8(r.list(APPLICATION_MAX, |r| r.u8())?)
                .map_err(|_| Drop::BadField)?,
            arp: match r.u8()? {
                0 => ArpPolicy::Gratuitous,
                1 => ArpPolicy::VirtualMac,
                2 => ArpPolicy::None,
                _ => return Err(Drop::BadField),
            },
            macs: r.list(MACS_MAX, |r| r.array())?,
            flows_max: r.u32()?,
            digest: r.array()?,
        })
    }
}

fn read_address(r: &mut Reader<'_>) -> Result<IpAddr, Drop> {
    match r.u8()? {
        4 => Ok(IpAddr::V4(Ipv4Addr::from(r.array::<4>()?))),
        6 => Ok(IpAddr::V6(Ipv6Addr::from(r.array::<16>()?))),
        _ => Err(Drop::BadField),
    }
}
