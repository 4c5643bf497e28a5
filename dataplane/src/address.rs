//! IP addresses as the configuration has them, and as the stack does.

use stack::wire::Address;
use std::net::IpAddr;

/// As the stack has it.
pub fn to_stack(ip: &IpAddr) -> Address {
    match ip {
        IpAddr::V4(v4) => Address::v4(v4.octets()),
        IpAddr::V6(v6) => Address(v6.octets()),
    }
}

/// As people read it.
pub fn to_ip(address: &Address) -> IpAddr {
    match address.as_v4() {
        Some(v4) => IpAddr::from(v4),
        None => IpAddr::from(address.0),
    }
}
