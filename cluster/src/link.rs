//! Frames of the cluster link: mirror datagrams in UDP over IPv4, written and read without a kernel.
//!
//! Spec: RFC 768, 791. Left out: fragments; the datagram fits the link's MTU.

use smoltcp::phy::{Checksum, ChecksumCapabilities};
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
    emit_with(buffer, from, to, Guard::Checksum, |room| {
        room.get_mut(..payload.len())?.copy_from_slice(payload);
        Some(payload.len())
    })
}

/// What tells that a frame was changed on its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Guard {
    /// The checksum of UDP.
    Checksum,
    /// Its payload is sealed: the checksum is left out, as RFC 768 allows.
    Seal,
}

/// Writes a frame whose payload is written by `write`, which answers its length; returns the frame's length, or 0 if
/// there is no payload or no room.
#[inline]
pub fn emit_with(
    buffer: &mut [u8],
    from: &Endpoint,
    to: &Endpoint,
    guard: Guard,
    write: impl FnOnce(&mut [u8]) -> Option<usize>,
) -> usize {
    let Some(room) = buffer.get_mut(LINK_HEADER_BYTES..) else { return 0 };
    let Some(payload_len) = write(room) else { return 0 };
    let len = LINK_HEADER_BYTES + payload_len;
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
        payload_len: 8 + payload_len,
        hop_limit: 64,
    };
    let mut checksum = ChecksumCapabilities::default();
    if guard == Guard::Seal {
        checksum.udp = Checksum::None;
    }
    ip.emit(&mut Ipv4Packet::new_unchecked(&mut buffer[14..]), &checksum);
    let udp = UdpRepr { src_port: from.port, dst_port: to.port };
    udp.emit(
        &mut UdpPacket::new_unchecked(&mut buffer[34..]),
        &IpAddress::Ipv4(source),
        &IpAddress::Ipv4(destination),
        payload_len,
        |_| {},
        &checksum,
    );
    len
}

/// The payload of a frame that was sent to `to`; `None` for any other or broken one.
#[inline]
pub fn parse<'a>(frame: &'a mut [u8], to: &Endpoint) -> Option<&'a mut [u8]> {
    let len = payload_len(frame, to)?;
    frame.get_mut(LINK_HEADER_BYTES..LINK_HEADER_BYTES + len)
}

/// Bytes of that payload.
fn payload_len(frame: &[u8], to: &Endpoint) -> Option<usize> {
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
    (udp.len() as usize).checked_sub(8).filter(|len| 8 + len <= bytes.len())
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
        let parsed = |frame: &[u8], to| parse(&mut frame.to_vec(), to).map(|bytes| bytes.to_vec());
        let records = Some(b"records".to_vec());
        assert_eq!(parsed(&buffer[..len], &b), records);
        assert_eq!(parsed(&buffer[..len], &a), None);
        for cut in 0..len {
            assert_eq!(parsed(&buffer[..cut], &b), None);
        }
        for at in 34..len {
            let mut broken = buffer;
            broken[at] ^= 0x10;
            assert_ne!(parsed(&broken[..len], &b), records, "byte {at}");
        }
        // What is sealed has no checksum, and is found all the same.
        let write = |room: &mut [u8]| {
            room[..7].copy_from_slice(b"records");
            Some(7)
        };
        let len = emit_with(&mut buffer, &a, &b, Guard::Seal, write);
        assert_eq!((&buffer[40..42], parsed(&buffer[..len], &b)), (&[0, 0][..], records));
        assert_eq!(emit(&mut buffer[..20], &a, &b, b"records"), 0);
    }
}
