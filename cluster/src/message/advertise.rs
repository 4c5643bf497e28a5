//! The ownership advertisement: what a node declares about a group.
//!
//! Every node sends its own at boot, on every change and periodically, and to whoever solicits it; that of the owner
//! is the ownership information proper. Nobody decides on it who may speak (that is the register's business). An owner
//! compares a node's with its own before it makes that node its peer ([`Advertise::refuses`]), and `status` shows all.
//!
//! Bounds: the `*_MAX` constants of this file.

use super::Drop;
use super::codec::{Reader, Writer};
use crate::id::{Epoch, GroupId, Member, NodeId};
use alloc::string::String;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Designated peers in the order: every other node.
pub const ORDER_MAX: usize = 63;
/// Addresses of one service.
pub const ADDRESSES_MAX: usize = 32;
/// Port ranges of one service.
pub const RANGES_MAX: usize = 8;
/// Hardware addresses of one service.
pub const MACS_MAX: usize = 8;
/// Octets of the name of a service or an application.
pub const NAME_MAX: usize = 32;

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

/// What a node takes of connections and of what they need: all of it, for all of its services.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Limits {
    /// Connections.
    pub flows: u32,
    /// Connections with something in flight.
    pub active_flows: u32,
    /// Uploads.
    pub uploads: u32,
    /// Chunks of payload.
    pub chunks: u32,
    /// Pieces of output.
    pub pieces: u32,
    /// Segments in flight.
    pub segments: u32,
    /// Bytes of a segment's payload.
    pub mss: u32,
}

impl Limits {
    /// Each with its name in the configuration.
    pub fn named(&self) -> [(&'static str, u32); 7] {
        let Limits { flows, active_flows, uploads, chunks, pieces, segments, mss } = *self;
        [
            ("flows", flows),
            ("active_flows", active_flows),
            ("uploads", uploads),
            ("chunks", chunks),
            ("pieces", pieces),
            ("segments", segments),
            ("mss", mss),
        ]
    }

    fn write(&self, w: &mut Writer) {
        self.named().iter().for_each(|(_, limit)| w.u32(*limit));
    }

    fn read(r: &mut Reader<'_>) -> Result<Limits, Drop> {
        Ok(Limits {
            flows: r.u32()?,
            active_flows: r.u32()?,
            uploads: r.u32()?,
            chunks: r.u32()?,
            pieces: r.u32()?,
            segments: r.u32()?,
            mss: r.u32()?,
        })
    }
}

/// Why a node cannot hold the copies of a group, as its advertisement says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unfit {
    /// The group is another service there, whose name has the same id.
    OtherService,
    /// It has other addresses, or finds them in another way, or by another hardware address.
    OtherAddresses,
    /// It has other ports, or another protocol.
    OtherPorts,
    /// Its program treats flows in another way: the behaviour revision there, and the owner's.
    OtherBehaviour(u16, u16),
    /// Another application runs there.
    OtherApplication,
    /// Its file does not name the service any more.
    Leaving,
    /// Its application is configured differently, or has other content.
    OtherContent,
    /// A limit is lower there: its name in the configuration, the node's and the owner's value.
    LowerLimit(&'static str, u32, u32),
}

/// What a node declares about a group.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Advertise {
    /// The group.
    pub group: GroupId,
    /// The service's name.
    pub service: String,
    /// Its owner, as the sender knows: node id and incarnation.
    pub owner: Member,
    /// The epoch under which that one owns.
    pub epoch: Epoch,
    /// The preferred owner.
    pub home: NodeId,
    /// Order of the designated peers.
    pub order: Vec<NodeId>,
    /// What happens when the home node is back.
    pub failback: Failback,
    /// What the owner does whose peer is lost.
    pub on_peer_loss: OnPeerLoss,
    /// The addresses.
    pub addresses: Vec<IpAddr>,
    /// Ranges of ports, first and last.
    pub ports: Vec<(u16, u16)>,
    /// IP protocol number.
    pub protocol: u8,
    /// The application.
    pub application: String,
    /// How neighbours learn where the addresses are.
    pub arp: ArpPolicy,
    /// Hardware addresses tied to the addresses.
    pub macs: Vec<[u8; 6]>,
    /// What the sender takes.
    pub limits: Limits,
    /// Digest of the application's configuration and content.
    pub digest: [u8; 32],
    /// How the sender's program treats flows ([`stack::stack::BEHAVIOUR`]): only where this is the same do the same
    /// facts give the same flow.
    pub behaviour: u16,
    /// The sender's file does not name the service any more: it goes when its connections have ended.
    pub is_leaving: bool,
}

impl Advertise {
    /// Why the owner who declares this refuses the node that declares `other` as peer; `None` if it does not. Who may
    /// fail over to whom, and when, is no reason: that is the owner's to decide.
    pub fn refuses(&self, other: &Advertise) -> Option<Unfit> {
        // A hardware address that moves with the service is the service's; another is its node's own.
        let is_same_mac = self.arp != ArpPolicy::VirtualMac || self.macs == other.macs;
        let lower = || {
            let mut both = self.limits.named().into_iter().zip(other.limits.named());
            let (ours, theirs) = both.find(|(ours, theirs)| theirs.1 < ours.1)?;
            Some(Unfit::LowerLimit(ours.0, theirs.1, ours.1))
        };
        if self.service != other.service {
            Some(Unfit::OtherService)
        } else if other.is_leaving && !self.is_leaving {
            Some(Unfit::Leaving)
        } else if self.addresses != other.addresses || self.arp != other.arp || !is_same_mac {
            Some(Unfit::OtherAddresses)
        } else if self.ports != other.ports || self.protocol != other.protocol {
            Some(Unfit::OtherPorts)
        } else if self.behaviour != other.behaviour {
            Some(Unfit::OtherBehaviour(other.behaviour, self.behaviour))
        } else if self.application != other.application {
            Some(Unfit::OtherApplication)
        } else if self.digest != other.digest {
            Some(Unfit::OtherContent)
        } else {
            lower()
        }
    }

    /// Whether both declare the same about who fails over to whom, and when.
    pub fn agrees_on_policy(&self, other: &Advertise) -> bool {
        let policy = |a: &Advertise| (a.home, a.failback, a.on_peer_loss);
        self.order == other.order && policy(self) == policy(other)
    }

    pub(super) fn write(&self, w: &mut Writer) {
        w.u32(self.group.0);
        w.list(self.service.as_bytes(), |w, octet| w.u8(*octet));
        w.member(self.owner);
        w.u64(self.epoch.0);
        w.u8(self.home.0);
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
        w.list(&self.ports, |w, (first, last)| {
            w.u16(*first);
            w.u16(*last);
        });
        w.u8(self.protocol);
        w.list(self.application.as_bytes(), |w, octet| w.u8(*octet));
        w.u8(self.arp as u8);
        w.list(&self.macs, |w, mac| w.bytes(mac));
        self.limits.write(w);
        w.bytes(&self.digest);
        w.u16(self.behaviour);
        w.u8(u8::from(self.is_leaving));
    }

    pub(super) fn read(r: &mut Reader<'_>) -> Result<Advertise, Drop> {
        Ok(Advertise {
            group: r.group()?,
            service: read_name(r)?,
            owner: r.member()?,
            epoch: r.epoch()?,
            home: NodeId(r.u8()?),
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
            ports: r.list(RANGES_MAX, |r| Ok((r.u16()?, r.u16()?)))?,
            protocol: r.u8()?,
            application: read_name(r)?,
            arp: match r.u8()? {
                0 => ArpPolicy::Gratuitous,
                1 => ArpPolicy::VirtualMac,
                2 => ArpPolicy::None,
                _ => return Err(Drop::BadField),
            },
            macs: r.list(MACS_MAX, |r| r.array())?,
            limits: Limits::read(r)?,
            digest: r.array()?,
            behaviour: r.u16()?,
            is_leaving: r.bool()?,
        })
    }
}

fn read_name(r: &mut Reader<'_>) -> Result<String, Drop> {
    String::from_utf8(r.list(NAME_MAX, |r| r.u8())?).map_err(|_| Drop::BadField)
}

fn read_address(r: &mut Reader<'_>) -> Result<IpAddr, Drop> {
    match r.u8()? {
        4 => Ok(IpAddr::V4(Ipv4Addr::from(r.array::<4>()?))),
        6 => Ok(IpAddr::V6(Ipv6Addr::from(r.array::<16>()?))),
        _ => Err(Drop::BadField),
    }
}
