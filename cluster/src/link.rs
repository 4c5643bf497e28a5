//! Frames of the cluster link: mirror datagrams in UDP over IPv4, written and read without a kernel.
//!
//! Spec: RFC 768, 791. Left out: fragments; the datagram fits the link's MTU.

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, IpAddress, IpProtocol, Ipv4Address,
    Ipv4Packet, Ipv4Repr, UdpPacket, UdpRepr,
};

/// Bytes of Ethernet, IPv4 and UDP headers.
pub const LINK_HEADER_BYTES: usize = 14 + 20 + 8;

/// One end of the link.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Endpoint {
    /// Ethernet address.
    pub mac: [u8; 6],
    /// IPv4 address.
    pub address: [u8; 4],
    /// UDP port.
    pub port: u16,
}

/// Writes a frame that carries `payload`; returns its length, or 0 if `buffer` is too small.
pub fn emit(buffer: &mut [u8], from: &Endpoint, to: &Endpoint, payload: &[u8]) -> usize {
    let len = LINK_HEADER_BYTES + payload.len();
    let Some(buffer) = buffer.get_mut(..len) else { return 0 };
    let mut ethernet = EthernetFrame::new_unchecked(&mut *buffer);
    ethernet.set_src_addr(EthernetAddress(from.mac));
    ethernet.set_dst_addr(EthernetAddress(to.mac));
    ethernet.set_ethertype(EthernetProtocol::Ipv4);
    let (source, destination) = (Ipv4Address::from(from.address), Ipv4Address::from(to.address));
    let ip = Ipv4Repr {
        src_addr: source,
        dst_addr: destination,
        next_header: IpProtocol::Udp,
        payload_len: 8 + payload.len(),
        hop_limit: 64,
    };
    let checksum = ChecksumCapabilities::default();
    ip.emit(&mut Ipv4Packet::new_unchecked(&mut buffer[14..]), &checksum);
    let udp = UdpRepr { src_port: from.port, dst_port: to.port };
    udp.emit(
        &mut UdpPacket::new_unchecked(&mut buffer[34..]),
        &IpAddress::Ipv4(source),
        &IpAddress::Ipv4(destination),
        payload.len(),
        |bytes| bytes.copy_from_slice(payload),
        &checksum,
    );
    len
}

/// The payload of a frame that was sent to `to`; `None` for any other or broken one.
pub fn parse<'a>(frame: &'a [u8], to: &Endpoint) -> Option<&'a [u8]> {
    let ethernet = EthernetFrame::new_checked(frame).ok()?;
    if ethernet.dst_addr().0 != to.mac || ethernet.ethertype() != EthernetProtocol::Ipv4 {
        return None;
    }
    let ip = Ipv4Packet::new_checked(frame.get(14..)?).ok()?;
    let checksum = ChecksumCapabilities::default();
    let repr = Ipv4Repr::parse(&ip, &checksum).ok()?;
    let is_whole = !ip.more_frags() && ip.frag_offset() == 0 && ip.header_len() == 20;
    if repr.dst_addr.octets() != to.address || repr.next_header != IpProtocol::Udp || !is_whole {
        return None;
    }
    let bytes = frame.get(34..14 + ip.total_len() as usize)?;
    let udp = UdpPacket::new_checked(bytes).ok()?;
    let (source, destination) = (IpAddress::Ipv4(repr.src_addr), IpAddress::Ipv4(repr.dst_addr));
    if udp.dst_port() != to.port || !udp.verify_checksum(&source, &destination) {
        return None;
    }
    bytes.get(8..udp.len() as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_crosses_and_others_do_not() {
        let a = Endpoint { mac: [2, 0, 0, 0, 0, 1], address: [10, 0, 0, 1], port: 7947 };
        let b = Endpoint { mac: [2, 0, 0, 0, 0, 2], address: [10, 0, 0, 2], port: 7947 };
        let mut buffer = [0; 256];
        let len = emit(&mut buffer, &a, &b, b"records");
        assert_eq!(parse(&buffer[..len], &b), Some(&b"records"[..]));
        assert_eq!(parse(&buffer[..len], &a), None);
        for cut in 0..len {
            assert_eq!(parse(&buffer[..cut], &b), None);
        }
        for at in 34..len {
            let mut broken = buffer;
            broken[at] ^= 0x10;
            assert_ne!(parse(&broken[..len], &b), Some(&b"records"[..]), "byte {at}");
        }
        assert_eq!(emit(&mut buffer[..20], &a, &b, b"records"), 0);
    }
}
