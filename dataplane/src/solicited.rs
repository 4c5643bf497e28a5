//! Membership in the multicast groups to which neighbours address their solicitations.
//!
//! Whoever looks for an IPv6 address asks the group that is made of its last three bytes (RFC 4861
//! 7.2.2, RFC 4291 2.7.1), not everybody. A NIC drops groups that nobody joined, and a switch that
//! listens to MLD (RFC 3810) does not even send them. So the kernel is asked to join them on its
//! interface: it programs the NIC and tells the switch. The frames themselves still go to the port.
//! It leaves the groups when [`Solicited`] is dropped or the process dies.
//!
//! The kernel joins nothing on an interface whose IPv6 is off; then only what the switch floods
//! arrives, and the operator is told.

use crate::sys;
use std::io;
use std::net::{IpAddr, Ipv6Addr, UdpSocket};

/// Groups joined on one interface.
pub struct Solicited {
    _socket: Option<UdpSocket>,
}

impl Solicited {
    /// Joins the groups of these addresses; those of IPv4 have none.
    pub fn join(interface: &str, addresses: &[IpAddr]) -> io::Result<Solicited> {
        let v6 = |address: &IpAddr| match address {
            IpAddr::V6(v6) => Some(group_of(v6)),
            IpAddr::V4(_) => None,
        };
        let mut groups: Vec<Ipv6Addr> = addresses.iter().filter_map(v6).collect();
        groups.sort_unstable();
        groups.dedup();
        if groups.is_empty() {
            return Ok(Solicited { _socket: None });
        }
        let index = sys::interface_index(interface)?;
        // Membership does not depend on what the socket is bound to; nobody else reaches this address.
        let socket = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0))?;
        for group in &groups {
            socket.join_multicast_v6(group, index)?;
        }
        Ok(Solicited { _socket: Some(socket) })
    }
}

/// RFC 4291 2.7.1: the solicited-node address.
fn group_of(address: &Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_made_of_the_last_three_bytes() {
        let address = "4037::01:800:200e:8c6c".parse().unwrap();
        assert_eq!(group_of(&address), "ff02::1:ff0e:8c6c".parse::<Ipv6Addr>().unwrap());
    }

    #[test]
    fn ipv4_needs_no_group() {
        let v4 = [IpAddr::from([10, 0, 0, 1])];
        assert!(Solicited::join("no-such", &v4).unwrap()._socket.is_none());
        assert!(Solicited::join("no-such", &["fd00::1".parse().unwrap()]).is_err());
    }
}
