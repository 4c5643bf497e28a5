//! Frames as values: what arrives is parsed into a [`Frame`], what leaves is written from headers.
//!
//! Parsing and emission of every header is smoltcp's; this file is the only one that names it. A TCP
//! segment borrows its payload from the frame. An emitted segment gets its payload first (the caller
//! copies it into place, see [`payload_offset`]) and its headers after, so that payload is copied once.
//!
//! Path: step 1 (parse) and the last (emit).
//! Spec: RFC 894, 826, 791, 8200, 792, 4443, 4861, 9293 3.1, 7323 2.2 and 3.2, 2018. Left out: VLAN tags,
//! IP options, fragments and extension headers are named drops.

use crate::drop::Drop;
use crate::seq::Seq;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol,
    Icmpv4Packet, Icmpv4Repr, Icmpv6Packet, Icmpv6Repr, IpAddress, IpProtocol, Ipv4Address,
    Ipv4Packet, Ipv6Address, Ipv6Packet, NdiscNeighborFlags, NdiscRepr, RawHardwareAddress,
    TcpOption, TcpPacket, TcpSeqNumber,
};

/// An Ethernet address.
pub type Mac = [u8; 6];

/// The Ethernet broadcast address.
pub const BROADCAST: Mac = [0xff; 6];

/// Bytes of an Ethernet header.
pub const ETHERNET_BYTES: usize = 14;

/// An IP address of either family; IPv4 is kept as `::ffff:a.b.c.d`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Address(pub [u8; 16]);

impl Address {
    /// From the four bytes of an IPv4 address.
    pub const fn v4(a: [u8; 4]) -> Address {
        Address([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a[0], a[1], a[2], a[3]])
    }

    /// The four bytes, if this is an IPv4 address.
    #[inline]
    pub fn as_v4(&self) -> Option<[u8; 4]> {
        let [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d] = self.0 else { return None };
        Some([a, b, c, d])
    }

    /// Neither unspecified, multicast, broadcast nor loopback.
    pub fn is_unicast(&self) -> bool {
        match self.as_v4() {
            Some([a, ..]) => a != 0 && a != 127 && a < 224,
            None => self.0[0] != 0xff && self.0[..15] != [0; 15],
        }
    }

    /// Bytes of the IP header that carries this address.
    #[inline]
    pub fn header_bytes(&self) -> usize {
        if self.as_v4().is_some() { 20 } else { 40 }
    }

    fn to_wire(self) -> IpAddress {
        match self.as_v4() {
            Some(a) => IpAddress::Ipv4(Ipv4Address::from(a)),
            None => IpAddress::Ipv6(Ipv6Address::from(self.0)),
        }
    }
}

impl core::fmt::Display for Address {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.to_wire().fmt(f)
    }
}

/// TCP flags, as in the header.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Flags(pub u8);

impl Flags {
    /// FIN.
    pub const FIN: Flags = Flags(0x01);
    /// SYN.
    pub const SYN: Flags = Flags(0x02);
    /// RST.
    pub const RST: Flags = Flags(0x04);
    /// PSH.
    pub const PSH: Flags = Flags(0x08);
    /// ACK.
    pub const ACK: Flags = Flags(0x10);

    /// Both.
    pub const fn with(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    /// Whether every flag of `other` is set.
    pub const fn has(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }
}

/// The options of a segment that this stack understands; others are skipped.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct SegmentOptions {
    /// Maximum segment size.
    pub mss: Option<u16>,
    /// Window scale, at most 14 (RFC 7323 2.3).
    pub window_scale: Option<u8>,
    /// SACK permitted.
    pub sack_permitted: bool,
    /// SACK blocks, in the order of the option.
    pub sack: [Option<(Seq, Seq)>; 4],
    /// TSval, TSecr.
    pub timestamps: Option<(u32, u32)>,
}

/// A received TCP segment.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// Ethernet source: the next hop on the way back.
    pub source_mac: Mac,
    /// Sender.
    pub source: Address,
    /// Receiver: one of our addresses.
    pub destination: Address,
    /// Sender's port.
    pub source_port: u16,
    /// Our port.
    pub destination_port: u16,
    /// SEG.SEQ
    pub seq: Seq,
    /// SEG.ACK, meaningful with the ACK flag.
    pub ack: Seq,
    /// Flags.
    pub flags: Flags,
    /// SEG.WND, not scaled.
    pub window: u16,
    /// Options.
    pub options: SegmentOptions,
    /// Payload.
    pub payload: &'a [u8],
}

impl Segment<'_> {
    /// SEG.LEN: payload, SYN and FIN counted.
    pub fn len(&self) -> u32 {
        self.payload.len() as u32
            + self.flags.has(Flags::SYN) as u32
            + self.flags.has(Flags::FIN) as u32
    }

    /// Whether the segment occupies no sequence space.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A received frame that may concern a service.
#[derive(Clone, Copy, Debug)]
pub enum Frame<'a> {
    /// A TCP segment with a good checksum.
    Tcp(Segment<'a>),
    /// Someone asks for the Ethernet address of `target`, or claims it (`sender == target`).
    AddressQuery {
        /// Asker's Ethernet address.
        sender_mac: Mac,
        /// Asker's address; unspecified in an ARP probe.
        sender: Address,
        /// The address asked for.
        target: Address,
        /// Whether the frame claims the address instead of asking for it.
        is_claim: bool,
    },
    /// An ICMP echo request; the payload follows identifier and sequence number.
    Echo {
        /// Asker's Ethernet address.
        source_mac: Mac,
        /// Asker's address.
        source: Address,
        /// Our address.
        destination: Address,
        /// Identifier.
        identifier: u16,
        /// Sequence number.
        sequence: u16,
        /// Payload to return.
        payload: &'a [u8],
    },
}

/// Parses a frame that was sent to `own_mac`, to one of `extra_macs` or to everybody.
pub fn parse<'a>(frame: &'a [u8], own_mac: &Mac, extra_macs: &[Mac]) -> Result<Frame<'a>, Drop> {
    let ethernet = EthernetFrame::new_checked(frame).map_err(|_| Drop::Truncated)?;
    let to = ethernet.dst_addr().0;
    let source_mac = ethernet.src_addr().0;
    if to == *own_mac || extra_macs.contains(&to) {
        return parse_body(frame, ethernet.ethertype(), source_mac);
    }
    if to[0] & 1 == 0 {
        return Err(Drop::AlienMac);
    }
    // RFC 1122 3.3.6: only questions about an address are put to everybody.
    match parse_body(frame, ethernet.ethertype(), source_mac)? {
        query @ Frame::AddressQuery { .. } => Ok(query),
        _ => Err(Drop::AlienMac),
    }
}

#[inline]
fn parse_body<'a>(
    frame: &'a [u8],
    protocol: EthernetProtocol,
    source_mac: Mac,
) -> Result<Frame<'a>, Drop> {
    let body = EthernetFrame::new_unchecked(frame).payload();
    match protocol {
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

fn parse_ipv4<'a>(body: &'a [u8], source_mac: Mac) -> Result<Frame<'a>, Drop> {
    let packet = Ipv4Packet::new_checked(body).map_err(|_| Drop::Truncated)?;
    if packet.version() != 4 || !packet.verify_checksum() {
        return Err(Drop::BadIp);
    }
    if packet.header_len() != 20 {
        return Err(Drop::IpOptions);
    }
    if packet.more_frags() || packet.frag_offset() != 0 {
        return Err(Drop::Fragment);
    }
    let source = Address::v4(packet.src_addr().octets());
    let destination = Address::v4(packet.dst_addr().octets());
    let protocol = packet.next_header();
    let payload = &body[20..packet.total_len() as usize];
    match protocol {
        IpProtocol::Tcp => parse_tcp(payload, source_mac, source, destination),
        IpProtocol::Icmp => {
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
    let packet = TcpPacket::new_checked(bytes).map_err(|_| Drop::BadTcp)?;
    if !packet.verify_checksum(&source.to_wire(), &destination.to_wire()) {
        return Err(Drop::BadTcpChecksum);
    }
    // RFC 9293 MUST-63 and 3.9.2.3: nobody may speak for a group of hosts; LAND.
    if !source.is_unicast()
        || packet.src_port() == 0
        || (source == destination && packet.src_port() == packet.dst_port())
    {
        return Err(Drop::Martian);
    }
    let header_bytes = packet.header_len() as usize;
    let options = parse_options(&bytes[20..header_bytes])?;
    Ok(Frame::Tcp(Segment {
        source_mac,
        source,
        destination,
        source_port: packet.src_port(),
        destination_port: packet.dst_port(),
        seq: Seq(packet.seq_number().0 as u32),
        ack: Seq(packet.ack_number().0 as u32),
        flags: Flags(bytes[13] & 0x3f),
        window: packet.window_len(),
        options,
        payload: &bytes[header_bytes..],
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

/// Where a frame goes: the addresses of every header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Path {
    /// Ethernet source.
    pub source_mac: Mac,
    /// Ethernet destination: the next hop.
    pub destination_mac: Mac,
    /// Sender.
    pub source: Address,
    /// Receiver.
    pub destination: Address,
}

/// The TCP header of a segment to send.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Header {
    /// Our port.
    pub source_port: u16,
    /// Their port.
    pub destination_port: u16,
    /// SEG.SEQ
    pub seq: Seq,
    /// SEG.ACK
    pub ack: Seq,
    /// Flags.
    pub flags: Flags,
    /// SEG.WND as it goes into the header.
    pub window: u16,
    /// Options.
    pub options: SegmentOptions,
}

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
            // Two NOPs first: receivers have a fast path for exactly this layout (RFC 7323 appendix A).
            buffer = TcpOption::NoOperation.emit(buffer);
            buffer = TcpOption::NoOperation.emit(buffer);
            buffer = TcpOption::TimeStamp { tsval, tsecr }.emit(buffer);
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
    let tcp_bytes = 20 + header.options.header_bytes() + payload_bytes;
    let start = emit_ip(buffer, path, IpProtocol::Tcp, tcp_bytes);
    let bytes = &mut buffer[start..start + tcp_bytes];
    let mut packet = TcpPacket::new_unchecked(&mut *bytes);
    packet.set_src_port(header.source_port);
    packet.set_dst_port(header.destination_port);
    packet.set_seq_number(TcpSeqNumber(header.seq.0 as i32));
    packet.set_ack_number(TcpSeqNumber(header.ack.0 as i32));
    packet.clear_flags();
    packet.set_header_len((20 + header.options.header_bytes()) as u8);
    packet.set_window_len(header.window);
    packet.set_urgent_at(0);
    header.options.emit(packet.options_mut());
    bytes[13] = header.flags.0;
    let mut packet = TcpPacket::new_unchecked(bytes);
    packet.fill_checksum(&path.source.to_wire(), &path.destination.to_wire());
    start + tcp_bytes
}

/// Writes Ethernet and IP headers for `payload_bytes`; returns where the IP payload begins.
fn emit_ip(buffer: &mut [u8], path: &Path, protocol: IpProtocol, payload_bytes: usize) -> usize {
    let mut ethernet = EthernetFrame::new_unchecked(&mut *buffer);
    ethernet.set_src_addr(EthernetAddress(path.source_mac));
    ethernet.set_dst_addr(EthernetAddress(path.destination_mac));
    match (path.source.as_v4(), path.destination.as_v4()) {
        (Some(source), Some(destination)) => {
            ethernet.set_ethertype(EthernetProtocol::Ipv4);
            let mut ip = Ipv4Packet::new_unchecked(&mut buffer[ETHERNET_BYTES..]);
            ip.set_version(4);
            ip.set_header_len(20);
            ip.set_dscp(0);
            ip.set_ecn(0);
            ip.set_total_len((20 + payload_bytes) as u16);
            ip.set_ident(0);
            ip.clear_flags();
            ip.set_dont_frag(true);
            ip.set_frag_offset(0);
            ip.set_hop_limit(64);
            ip.set_next_header(protocol);
            ip.set_src_addr(Ipv4Address::from(source));
            ip.set_dst_addr(Ipv4Address::from(destination));
            ip.fill_checksum();
            ETHERNET_BYTES + 20
        }
        _ => {
            ethernet.set_ethertype(EthernetProtocol::Ipv6);
            let mut ip = Ipv6Packet::new_unchecked(&mut buffer[ETHERNET_BYTES..]);
            ip.set_version(6);
            ip.set_traffic_class(0);
            ip.set_flow_label(0);
            ip.set_payload_len(payload_bytes as u16);
            ip.set_next_header(protocol);
            // RFC 4861 4.3, 4.4: neighbour messages need 255; nothing else minds.
            ip.set_hop_limit(if protocol == IpProtocol::Icmpv6 { 255 } else { 64 });
            ip.set_src_addr(Ipv6Address::from(path.source.0));
            ip.set_dst_addr(Ipv6Address::from(path.destination.0));
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
    let path = Path { source_mac: *own_mac, destination_mac, source: *address, destination };
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

#[cfg(test)]
mod tests {
    use super::*;

    const A: Mac = [2, 0, 0, 0, 0, 1];
    const B: Mac = [2, 0, 0, 0, 0, 2];

    fn path(v6: bool) -> Path {
        let address = |n: u8| {
            if v6 {
                let mut a = [0; 16];
                a[0] = 0xfd;
                a[15] = n;
                Address(a)
            } else {
                Address::v4([10, 0, 0, n])
            }
        };
        Path { source_mac: A, destination_mac: B, source: address(1), destination: address(2) }
    }

    #[test]
    fn a_segment_written_is_the_segment_read() {
        for v6 in [false, true] {
            let options = SegmentOptions {
                mss: Some(1460),
                window_scale: Some(7),
                sack_permitted: true,
                sack: [Some((Seq(5), Seq(9))), Some((Seq(20), Seq(30))), None, None],
                timestamps: None,
            };
            let header = Header {
                source_port: 80,
                destination_port: 4000,
                seq: Seq(0xffff_fff0),
                ack: Seq(7),
                flags: Flags::ACK.with(Flags::PSH),
                window: 1000,
                options,
            };
            let mut buffer = [0; 256];
            let at = payload_offset(&path(v6).destination, &options);
            buffer[at..at + 5].copy_from_slice(b"hello");
            let len = emit_tcp(&mut buffer, &path(v6), &header, 5);
            let Ok(Frame::Tcp(segment)) = parse(&buffer[..len], &B, &[]) else { panic!() };
            assert_eq!(segment.payload, b"hello");
            assert_eq!((segment.seq, segment.ack, segment.window), (header.seq, header.ack, 1000));
            assert_eq!((segment.flags, segment.options), (header.flags, options));
            assert_eq!((segment.source, segment.source_mac), (path(v6).source, A));
            assert_eq!(parse(&buffer[..len], &A, &[]).err(), Some(Drop::AlienMac));
            buffer[at] ^= 1;
            assert_eq!(parse(&buffer[..len], &B, &[]).err(), Some(Drop::BadTcpChecksum));
        }
    }

    #[test]
    fn an_address_is_announced_and_answered() {
        let mut buffer = [0; 256];
        for v6 in [false, true] {
            let Path { source, destination, .. } = path(v6);
            let len = emit_address(&mut buffer, &A, &source, None);
            let Ok(Frame::AddressQuery { target, is_claim, sender_mac, .. }) =
                parse(&buffer[..len], &B, &[])
            else {
                panic!()
            };
            assert_eq!((target, is_claim, sender_mac), (source, true, A));
            let len = emit_address(&mut buffer, &A, &source, Some((B, destination)));
            assert!(matches!(
                parse(&buffer[..len], &B, &[]),
                Ok(Frame::AddressQuery { is_claim: true, .. })
            ));
        }
    }

    #[test]
    fn hostile_frames_are_named_drops() {
        let mut buffer = [0u8; 200];
        let header = Header { source_port: 1, destination_port: 2, ..Header::default() };
        let len = emit_tcp(&mut buffer, &path(false), &header, 40);
        let mut state = 1u64;
        for round in 0..200_000u32 {
            let mut frame = buffer;
            for _ in 0..1 + round % 4 {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                frame[(state >> 33) as usize % len] = (state >> 20) as u8;
            }
            let cut = if round % 3 == 0 { (state >> 40) as usize % (len + 1) } else { len };
            let _ = parse(&frame[..cut], &B, &[]);
        }
        for cut in 0..len {
            assert!(parse(&buffer[..cut], &B, &[]).is_err());
        }
    }
}
