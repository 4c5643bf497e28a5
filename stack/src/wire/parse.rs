//! Frames in: every header checked once, each failure a named drop.
//!
//! Path: step 1. Bounds: nothing is copied; options are walked once.

use super::checksum::Checksum;
use super::{Address, ETHERNET_BYTES, Flags, Frame, Mac, Segment, SegmentOptions, error};
use crate::drop::Drop;
use crate::seq::Seq;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetProtocol, Icmpv4Packet, Icmpv4Repr, Icmpv6Packet,
    Icmpv6Repr, IpProtocol, Ipv6Address, Ipv6Packet, NdiscRepr, TcpOption,
};

/// Parses a frame that was sent to `own_mac`, to one of `extra_macs` or to everybody.
pub fn parse<'a>(frame: &'a [u8], own_mac: &Mac, extra_macs: &[Mac]) -> Result<Frame<'a>, Drop> {
    if frame.starts_with(own_mac) || extra_macs.iter().any(|mac| frame.starts_with(mac)) {
        return parse_heard(frame);
    }
    if frame.len() >= ETHERNET_BYTES && frame[0] & 1 == 0 {
        return Err(Drop::AlienMac);
    }
    // RFC 1122 3.3.6: only questions about an address are put to everybody.
    match parse_heard(frame)? {
        query @ Frame::AddressQuery { .. } => Ok(query),
        _ => Err(Drop::AlienMac),
    }
}

/// Parses a frame whoever it was sent to: one that was overheard.
#[inline]
pub fn parse_heard(frame: &[u8]) -> Result<Frame<'_>, Drop> {
    let (ethernet, body) = frame.split_first_chunk::<ETHERNET_BYTES>().ok_or(Drop::Truncated)?;
    let [.., a, b, c, d, e, f, high, low] = *ethernet;
    let source_mac = [a, b, c, d, e, f];
    match EthernetProtocol::from(u16::from_be_bytes([high, low])) {
        EthernetProtocol::Ipv4 => parse_ipv4(body, source_mac),
        EthernetProtocol::Ipv6 => parse_ipv6(body, source_mac),
        EthernetProtocol::Arp => parse_arp(body),
        _ => Err(Drop::UnknownProtocol),
    }
}

fn parse_arp<'a>(body: &'a [u8]) -> Result<Frame<'a>, Drop> {
    let packet = ArpPacket::new_checked(body).map_err(|_| Drop::Truncated)?;
    let ArpRepr::EthernetIpv4 {
        operation,
        source_hardware_addr,
        source_protocol_addr,
        target_protocol_addr,
        ..
    } = ArpRepr::parse(&packet).map_err(|_| Drop::UnknownProtocol)?
    else {
        return Err(Drop::UnknownProtocol);
    };
    let sender = Address::v4(source_protocol_addr.octets());
    let target = Address::v4(target_protocol_addr.octets());
    let is_claim = sender == target || operation == ArpOperation::Reply;
    let target = if operation == ArpOperation::Reply { sender } else { target };
    Ok(Frame::AddressQuery { sender_mac: source_hardware_addr.0, sender, target, is_claim })
}

#[inline]
fn parse_ipv4<'a>(body: &'a [u8], source_mac: Mac) -> Result<Frame<'a>, Drop> {
    let header: &[u8; 20] = body.first_chunk().ok_or(Drop::Truncated)?;
    let header_bytes = usize::from(header[0] & 0xf) * 4;
    let total_bytes = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if header_bytes < 20 || header_bytes > total_bytes || total_bytes > body.len() {
        return Err(Drop::Truncated);
    }
    let is_right = match header_bytes {
        20 => Checksum::default().add(header).is_right(),
        _ => Checksum::default().add(&body[..header_bytes]).is_right(),
    };
    if header[0] >> 4 != 4 || !is_right {
        return Err(Drop::BadIp);
    }
    if header_bytes != 20 {
        return Err(Drop::IpOptions);
    }
    // "More fragments", or an offset.
    if u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0 {
        return Err(Drop::Fragment);
    }
    let [.., a, b, c, d, e, f, g, h] = *header;
    let (source, destination) = (Address::v4([a, b, c, d]), Address::v4([e, f, g, h]));
    let protocol = IpProtocol::from(header[9]);
    let payload = &body[20..total_bytes];
    match protocol {
        IpProtocol::Tcp => parse_tcp(payload, source_mac, source, destination),
        IpProtocol::Icmp => {
            if let Some(error) = error::parse_icmpv4(payload, &destination) {
                return error;
            }
            let icmp = Icmpv4Packet::new_checked(payload).map_err(|_| Drop::Truncated)?;
            let repr = Icmpv4Repr::parse(&icmp, &ChecksumCapabilities::default());
            match repr.map_err(|_| Drop::BadIp)? {
                Icmpv4Repr::EchoRequest { ident, seq_no, .. } => Ok(Frame::Echo {
                    source_mac,
                    source,
                    destination,
                    identifier: ident,
                    sequence: seq_no,
                    payload: &payload[8..],
                }),
                _ => Err(Drop::Unasked),
            }
        }
        _ => Err(Drop::UnknownProtocol),
    }
}

fn parse_ipv6<'a>(body: &'a [u8], source_mac: Mac) -> Result<Frame<'a>, Drop> {
    let packet = Ipv6Packet::new_checked(body).map_err(|_| Drop::Truncated)?;
    if packet.version() != 6 {
        return Err(Drop::BadIp);
    }
    let source = Address(packet.src_addr().octets());
    let destination = Address(packet.dst_addr().octets());
    let payload = &body[40..40 + packet.payload_len() as usize];
    match packet.next_header() {
        IpProtocol::Tcp => parse_tcp(payload, source_mac, source, destination),
        IpProtocol::Icmpv6 => {
            parse_icmpv6(payload, source_mac, source, destination, packet.hop_limit())
        }
        IpProtocol::HopByHop
        | IpProtocol::Ipv6Route
        | IpProtocol::Ipv6Frag
        | IpProtocol::Ipv6Opts => Err(Drop::IpOptions),
        _ => Err(Drop::UnknownProtocol),
    }
}

fn parse_icmpv6<'a>(
    payload: &'a [u8],
    source_mac: Mac,
    source: Address,
    destination: Address,
    hop_limit: u8,
) -> Result<Frame<'a>, Drop> {
    if let Some(error) = error::parse_icmpv6(payload, &source, &destination) {
        return error;
    }
    let icmp = Icmpv6Packet::new_checked(payload).map_err(|_| Drop::Truncated)?;
    let (from, to) = (Ipv6Address::from(source.0), Ipv6Address::from(destination.0));
    match Icmpv6Repr::parse(&from, &to, &icmp, &ChecksumCapabilities::default()) {
        Ok(Icmpv6Repr::EchoRequest { ident, seq_no, .. }) => Ok(Frame::Echo {
            source_mac,
            source,
            destination,
            identifier: ident,
            sequence: seq_no,
            payload: &payload[8..],
        }),
        // RFC 4861 7.1.1: a neighbour solicitation that was routed is not one.
        Ok(Icmpv6Repr::Ndisc(NdiscRepr::NeighborSolicit { target_addr, .. }))
            if hop_limit == 255 =>
        {
            Ok(Frame::AddressQuery {
                sender_mac: source_mac,
                sender: source,
                target: Address(target_addr.octets()),
                is_claim: false,
            })
        }
        Ok(Icmpv6Repr::Ndisc(NdiscRepr::NeighborAdvert { target_addr, .. }))
            if hop_limit == 255 =>
        {
            let target = Address(target_addr.octets());
            Ok(Frame::AddressQuery {
                sender_mac: source_mac,
                sender: target,
                target,
                is_claim: true,
            })
        }
        Ok(_) => Err(Drop::Unasked),
        Err(_) => Err(Drop::BadIp),
    }
}

fn parse_tcp<'a>(
    bytes: &'a [u8],
    source_mac: Mac,
    source: Address,
    destination: Address,
) -> Result<Frame<'a>, Drop> {
    let header: &[u8; 20] = bytes.first_chunk().ok_or(Drop::BadTcp)?;
    let header_bytes = usize::from(header[12] >> 4) * 4;
    if header_bytes < 20 || header_bytes > bytes.len() {
        return Err(Drop::BadTcp);
    }
    let sum = Checksum::of_pseudo_header(&source, &destination, bytes.len());
    if !sum.add(bytes).is_right() {
        return Err(Drop::BadTcpChecksum);
    }
    let short = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let seq = |at: usize| {
        Seq(u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]))
    };
    let (source_port, destination_port) = (short(0), short(2));
    // RFC 9293 MUST-63 and 3.9.2.3: nobody may speak for a group of hosts; LAND.
    if !source.is_unicast()
        || source_port == 0
        || (source == destination && source_port == destination_port)
    {
        return Err(Drop::Martian);
    }
    let (options, payload) = bytes[20..].split_at(header_bytes - 20);
    Ok(Frame::Tcp(Segment {
        source_mac,
        source,
        destination,
        source_port,
        destination_port,
        seq: seq(4),
        ack: seq(8),
        flags: Flags(header[13] & 0x3f),
        window: short(14),
        options: parse_options(options)?,
        payload,
    }))
}

/// Parses the options area. RFC 9293 MUST-6, MUST-7: unknown options are skipped, broken ones are an error.
fn parse_options(mut bytes: &[u8]) -> Result<SegmentOptions, Drop> {
    let mut options = SegmentOptions::default();
    // What Linux sends in every segment: two NOPs and timestamps.
    if let [1, 1, 8, 10, a, b, c, d, e, f, g, h] = *bytes {
        let (value, echo) = (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]));
        options.timestamps = Some((value, echo));
        return Ok(options);
    }
    while !bytes.is_empty() {
        let (rest, option) = TcpOption::parse(bytes).map_err(|_| Drop::BadTcp)?;
        match option {
            TcpOption::EndOfList => break,
            TcpOption::NoOperation | TcpOption::Unknown { .. } => {}
            TcpOption::MaxSegmentSize(mss) => options.mss = Some(mss),
            TcpOption::WindowScale(scale) => options.window_scale = Some(scale.min(14)),
            TcpOption::SackPermitted => options.sack_permitted = true,
            TcpOption::SackRange(ranges) => {
                for (slot, range) in options.sack.iter_mut().zip(ranges) {
                    *slot = range.map(|(from, to)| (Seq(from), Seq(to)));
                }
            }
            TcpOption::TimeStamp { tsval, tsecr } => options.timestamps = Some((tsval, tsecr)),
        }
        bytes = rest;
    }
    Ok(options)
}
