//! Frames out: headers written around a payload that already lies in place.
//!
//! Path: the last step. Bounds: the caller's buffer holds the frame.

use super::checksum::Checksum;
use super::{Address, BROADCAST, ETHERNET_BYTES, Header, Mac, Path, SegmentOptions, Superframe};
use core::ops::Range;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol,
    Icmpv4Packet, Icmpv4Repr, Icmpv6Packet, Icmpv6Repr, IpProtocol, Ipv4Address, Ipv6Address,
    NdiscNeighborFlags, NdiscRepr, RawHardwareAddress, TcpOption,
};

/// Where the checksum lies in a TCP header.
const TCP_CHECKSUM: Range<usize> = 16..18;

impl SegmentOptions {
    /// Bytes that these options take in a header, padded to four.
    #[inline]
    pub fn header_bytes(&self) -> usize {
        let blocks = self.sack.iter().flatten().count();
        let bytes = if self.mss.is_some() { 4 } else { 0 }
            + if self.window_scale.is_some() { 3 } else { 0 }
            + if self.sack_permitted { 2 } else { 0 }
            + if self.timestamps.is_some() { 12 } else { 0 }
            + if blocks > 0 { 4 + 8 * blocks } else { 0 };
        (bytes + 3) & !3
    }

    fn emit(&self, mut buffer: &mut [u8]) {
        if let Some((tsval, tsecr)) = self.timestamps {
            let (room, rest) = buffer.split_first_chunk_mut::<12>().expect("room for all of them");
            // Two NOPs first: receivers have a fast path for exactly this layout (RFC 7323 appendix A).
            room[..4].copy_from_slice(&[1, 1, 8, 10]);
            room[4..8].copy_from_slice(&tsval.to_be_bytes());
            room[8..].copy_from_slice(&tsecr.to_be_bytes());
            if rest.is_empty() {
                return;
            }
            buffer = rest;
        }
        if let Some(mss) = self.mss {
            buffer = TcpOption::MaxSegmentSize(mss).emit(buffer);
        }
        if self.sack_permitted {
            buffer = TcpOption::SackPermitted.emit(buffer);
        }
        if let Some(scale) = self.window_scale {
            buffer = TcpOption::WindowScale(scale).emit(buffer);
        }
        let blocks = self.sack.iter().flatten().count();
        if blocks > 0 {
            buffer[..4].copy_from_slice(&[1, 1, 5, 2 + 8 * blocks as u8]);
            buffer = &mut buffer[4..];
            for (from, to) in self.sack.iter().flatten() {
                buffer[..4].copy_from_slice(&from.0.to_be_bytes());
                buffer[4..8].copy_from_slice(&to.0.to_be_bytes());
                buffer = &mut buffer[8..];
            }
        }
        // RFC 9293 MUST-69: the padding is zeros.
        buffer.fill(0);
    }
}

/// Where the payload of a segment to `destination` with these options begins in its frame.
#[inline]
pub fn payload_offset(destination: &Address, options: &SegmentOptions) -> usize {
    ETHERNET_BYTES + destination.header_bytes() + 20 + options.header_bytes()
}

/// Writes every header of a segment around `payload_bytes` that already lie in place; returns the
/// length of the frame.
pub fn emit_tcp(buffer: &mut [u8], path: &Path, header: &Header, payload_bytes: usize) -> usize {
    let (start, payload_at, sum) = emit_headers(buffer, path, header, payload_bytes);
    let end = payload_at + payload_bytes;
    let segment = &mut buffer[start..end];
    let sum = sum.add(segment);
    segment[TCP_CHECKSUM].copy_from_slice(&sum.field().to_be_bytes());
    end
}

/// The same for a superframe whose payload is to be cut into segments of `segment_bytes`. Its checksum covers the
/// pseudo-header alone: whoever cuts it completes each segment's.
pub fn emit_superframe(
    buffer: &mut [u8],
    path: &Path,
    header: &Header,
    payload_bytes: usize,
    segment_bytes: u16,
) -> Superframe {
    let (start, payload_at, sum) = emit_headers(buffer, path, header, payload_bytes);
    buffer[start..][TCP_CHECKSUM].copy_from_slice(&(!sum.field()).to_be_bytes());
    Superframe {
        bytes: payload_at + payload_bytes,
        tcp_at: start as u16,
        payload_at: payload_at as u16,
        segment_bytes,
    }
}

/// [`emit_tcp`] where a superframe might have been written.
pub fn emit_whole(
    buffer: &mut [u8],
    path: &Path,
    header: &Header,
    payload_bytes: usize,
) -> Superframe {
    let bytes = emit_tcp(buffer, path, header, payload_bytes);
    let payload_at = (bytes - payload_bytes) as u16;
    let tcp_at = payload_at - 20 - header.options.header_bytes() as u16;
    Superframe { bytes, tcp_at, payload_at, segment_bytes: 0 }
}

/// Writes the headers of a segment; returns where that of TCP begins, whose checksum is zero, where the payload does, and the sum of
/// the pseudo-header.
#[inline]
fn emit_headers(
    buffer: &mut [u8],
    path: &Path,
    header: &Header,
    payload_bytes: usize,
) -> (usize, usize, Checksum) {
    let header_bytes = 20 + header.options.header_bytes();
    let tcp_bytes = header_bytes + payload_bytes;
    let start = emit_ip(buffer, path, IpProtocol::Tcp, tcp_bytes);
    let (fixed, options) = buffer[start..start + header_bytes]
        .split_first_chunk_mut::<20>()
        .expect("a header has twenty bytes at least");
    let Header { source_port, destination_port, seq, ack, flags, window, options: given } = header;
    fixed[..2].copy_from_slice(&source_port.to_be_bytes());
    fixed[2..4].copy_from_slice(&destination_port.to_be_bytes());
    fixed[4..8].copy_from_slice(&seq.0.to_be_bytes());
    fixed[8..12].copy_from_slice(&ack.0.to_be_bytes());
    fixed[12..14].copy_from_slice(&[(header_bytes as u8) << 2, flags.0]);
    fixed[14..16].copy_from_slice(&window.to_be_bytes());
    // Checksum and urgent pointer.
    fixed[16..].fill(0);
    given.emit(options);
    let sum = Checksum::of_pseudo_header(&path.source, &path.destination, tcp_bytes);
    (start, start + header_bytes, sum)
}

/// Writes Ethernet and IP headers for `payload_bytes`; returns where the IP payload begins.
#[inline]
fn emit_ip(buffer: &mut [u8], path: &Path, protocol: IpProtocol, payload_bytes: usize) -> usize {
    let (ethernet, rest) =
        buffer.split_first_chunk_mut::<ETHERNET_BYTES>().expect("room for a frame");
    ethernet[..6].copy_from_slice(&path.destination_mac);
    ethernet[6..12].copy_from_slice(&path.source_mac);
    match (path.source.as_v4(), path.destination.as_v4()) {
        (Some(source), Some(destination)) => {
            ethernet[12..].copy_from_slice(&u16::from(EthernetProtocol::Ipv4).to_be_bytes());
            let ip = rest.first_chunk_mut::<20>().expect("room for a frame");
            // Version 4, a header of five words, no class.
            ip[..2].copy_from_slice(&[0x45, 0]);
            ip[2..4].copy_from_slice(&((20 + payload_bytes) as u16).to_be_bytes());
            // No identification; "don't fragment".
            ip[4..8].copy_from_slice(&[0, 0, 0x40, 0]);
            ip[8..12].copy_from_slice(&[path.hop_limit, protocol.into(), 0, 0]);
            ip[12..16].copy_from_slice(&source);
            ip[16..].copy_from_slice(&destination);
            let sum = Checksum::default().add(ip);
            ip[10..12].copy_from_slice(&sum.field().to_be_bytes());
            ETHERNET_BYTES + 20
        }
        _ => {
            ethernet[12..].copy_from_slice(&u16::from(EthernetProtocol::Ipv6).to_be_bytes());
            let ip = rest.first_chunk_mut::<40>().expect("room for a frame");
            // Version 6, no class, no label.
            ip[..4].copy_from_slice(&[0x60, 0, 0, 0]);
            ip[4..6].copy_from_slice(&(payload_bytes as u16).to_be_bytes());
            ip[6..8].copy_from_slice(&[protocol.into(), path.hop_limit]);
            ip[8..24].copy_from_slice(&path.source.0);
            ip[24..].copy_from_slice(&path.destination.0);
            ETHERNET_BYTES + 40
        }
    }
}

/// Writes an answer to an ICMP echo request; returns the length of the frame.
pub fn emit_echo_reply(
    buffer: &mut [u8],
    path: &Path,
    identifier: u16,
    sequence: u16,
    payload: &[u8],
) -> usize {
    let checksum = ChecksumCapabilities::default();
    let bytes = 8 + payload.len();
    if path.source.as_v4().is_some() {
        let start = emit_ip(buffer, path, IpProtocol::Icmp, bytes);
        let mut packet = Icmpv4Packet::new_unchecked(&mut buffer[start..start + bytes]);
        Icmpv4Repr::EchoReply { ident: identifier, seq_no: sequence, data: payload }
            .emit(&mut packet, &checksum);
        return start + bytes;
    }
    let start = emit_ip(buffer, path, IpProtocol::Icmpv6, bytes);
    let mut packet = Icmpv6Packet::new_unchecked(&mut buffer[start..start + bytes]);
    let (from, to) = (Ipv6Address::from(path.source.0), Ipv6Address::from(path.destination.0));
    Icmpv6Repr::EchoReply { ident: identifier, seq_no: sequence, data: payload }.emit(
        &from,
        &to,
        &mut packet,
        &checksum,
    );
    start + bytes
}

/// Writes an answer to an address query, or an announcement of `address` to everybody if `to` is `None`;
/// returns the length of the frame.
pub fn emit_address(
    buffer: &mut [u8],
    own_mac: &Mac,
    address: &Address,
    to: Option<(Mac, Address)>,
) -> usize {
    match address.as_v4() {
        Some(v4) => emit_arp(buffer, own_mac, v4, to),
        None => emit_neighbor_advert(buffer, own_mac, address, to),
    }
}

fn emit_arp(buffer: &mut [u8], own_mac: &Mac, v4: [u8; 4], to: Option<(Mac, Address)>) -> usize {
    let (target_mac, target) = match to {
        Some((mac, address)) => (mac, address.as_v4().unwrap_or(v4)),
        None => (BROADCAST, v4),
    };
    let mut ethernet = EthernetFrame::new_unchecked(&mut *buffer);
    ethernet.set_src_addr(EthernetAddress(*own_mac));
    ethernet.set_dst_addr(EthernetAddress(target_mac));
    ethernet.set_ethertype(EthernetProtocol::Arp);
    let repr = ArpRepr::EthernetIpv4 {
        // RFC 5227 3: an announcement is a request for one's own address.
        operation: if to.is_some() { ArpOperation::Reply } else { ArpOperation::Request },
        source_hardware_addr: EthernetAddress(*own_mac),
        source_protocol_addr: Ipv4Address::from(v4),
        target_hardware_addr: EthernetAddress(if to.is_some() { target_mac } else { [0; 6] }),
        target_protocol_addr: Ipv4Address::from(target),
    };
    let bytes = repr.buffer_len();
    repr.emit(&mut ArpPacket::new_unchecked(&mut buffer[ETHERNET_BYTES..ETHERNET_BYTES + bytes]));
    ETHERNET_BYTES + bytes
}

/// Writes a question to everybody where `target` is, on behalf of `source` of the same family; returns the length of the
/// frame.
pub fn emit_query(buffer: &mut [u8], own_mac: &Mac, source: &Address, target: &Address) -> usize {
    let (Some(sender), Some(v4)) = (source.as_v4(), target.as_v4()) else {
        return emit_neighbor_solicit(buffer, own_mac, source, target);
    };
    let mut ethernet = EthernetFrame::new_unchecked(&mut *buffer);
    ethernet.set_src_addr(EthernetAddress(*own_mac));
    ethernet.set_dst_addr(EthernetAddress(BROADCAST));
    ethernet.set_ethertype(EthernetProtocol::Arp);
    let repr = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Request,
        source_hardware_addr: EthernetAddress(*own_mac),
        source_protocol_addr: Ipv4Address::from(sender),
        target_hardware_addr: EthernetAddress([0; 6]),
        target_protocol_addr: Ipv4Address::from(v4),
    };
    let bytes = repr.buffer_len();
    repr.emit(&mut ArpPacket::new_unchecked(&mut buffer[ETHERNET_BYTES..ETHERNET_BYTES + bytes]));
    ETHERNET_BYTES + bytes
}

/// RFC 4861 4.3: to the solicited-node group of the target (RFC 4291 2.7.1).
fn emit_neighbor_solicit(
    buffer: &mut [u8],
    own_mac: &Mac,
    source: &Address,
    target: &Address,
) -> usize {
    let [.., a, b, c] = target.0;
    let destination = Address([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c]);
    let repr = Icmpv6Repr::Ndisc(NdiscRepr::NeighborSolicit {
        target_addr: Ipv6Address::from(target.0),
        lladdr: Some(RawHardwareAddress::from_bytes(own_mac)),
    });
    let path = Path {
        source_mac: *own_mac,
        destination_mac: [0x33, 0x33, 0xff, a, b, c],
        source: *source,
        destination,
        hop_limit: 255,
    };
    let bytes = repr.buffer_len();
    let start = emit_ip(buffer, &path, IpProtocol::Icmpv6, bytes);
    repr.emit(
        &Ipv6Address::from(source.0),
        &Ipv6Address::from(destination.0),
        &mut Icmpv6Packet::new_unchecked(&mut buffer[start..start + bytes]),
        &ChecksumCapabilities::default(),
    );
    start + bytes
}

fn emit_neighbor_advert(
    buffer: &mut [u8],
    own_mac: &Mac,
    address: &Address,
    to: Option<(Mac, Address)>,
) -> usize {
    const ALL_NODES: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let (destination_mac, destination, flags) = match to {
        // RFC 4861 7.2.4: an asker without an address is answered through the all-nodes group.
        Some((mac, asker)) if asker.0 != [0; 16] => {
            (mac, asker, NdiscNeighborFlags::SOLICITED | NdiscNeighborFlags::OVERRIDE)
        }
        _ => ([0x33, 0x33, 0, 0, 0, 1], Address(ALL_NODES), NdiscNeighborFlags::OVERRIDE),
    };
    let repr = Icmpv6Repr::Ndisc(NdiscRepr::NeighborAdvert {
        flags,
        target_addr: Ipv6Address::from(address.0),
        lladdr: Some(RawHardwareAddress::from_bytes(own_mac)),
    });
    // RFC 4861 4.3, 4.4: neighbour messages are sent with 255.
    let (source, hop_limit) = (*address, 255);
    let path = Path { source_mac: *own_mac, destination_mac, source, destination, hop_limit };
    let bytes = repr.buffer_len();
    let start = emit_ip(buffer, &path, IpProtocol::Icmpv6, bytes);
    repr.emit(
        &Ipv6Address::from(address.0),
        &Ipv6Address::from(destination.0),
        &mut Icmpv6Packet::new_unchecked(&mut buffer[start..start + bytes]),
        &ChecksumCapabilities::default(),
    );
    start + bytes
}
