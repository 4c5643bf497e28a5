//! Frames as values: what arrives is parsed into a [`Frame`], what leaves is written from headers.
//!
//! Parsing and emission are smoltcp's, which only this module and its parts name, but for what comes by the million and would cost much
//! of a small segment one accessor at a time: Ethernet's, IPv4's and TCP's headers, and checksums ([`checksum`]). A TCP
//! segment borrows its payload from the frame. An emitted segment gets its payload first (the caller
//! copies it into place, see [`payload_offset`]) and its headers after, so that payload is copied once.
//!
//! Path: step 1 (parse) and the last (emit).
//! Spec: RFC 894, 826, 791, 8200, 792, 4443, 4861, 9293 3.1, 7323 2.2 and 3.2, 2018. Left out: VLAN tags,
//! IP options, fragments and extension headers are named drops.

use crate::seq::Seq;
use smoltcp::wire::{IpAddress, Ipv4Address, Ipv6Address};

mod checksum;
mod emit;
mod error;
mod parse;
mod run;

pub use emit::{
    emit_address, emit_echo_reply, emit_query, emit_superframe, emit_tcp, emit_whole,
    payload_offset,
};
pub use error::{ErrorKind, IcmpError, Quoted, guess_quoted};
pub use parse::{parse, parse_heard};
pub use run::Followers;

/// An Ethernet address.
pub type Mac = [u8; 6];

/// The Ethernet broadcast address.
pub const BROADCAST: Mac = [0xff; 6];

/// Bytes of an Ethernet header.
pub const ETHERNET_BYTES: usize = 14;

/// Where an IPv4 address is mapped to.
const V4_PREFIX: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

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
        // Compared as words: this is asked several times a segment.
        let (prefix, address) = self.0.split_first_chunk::<12>()?;
        if *prefix == V4_PREFIX { address.try_into().ok() } else { None }
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

    /// What is left of the segment once its SYN is taken.
    pub fn without_syn(&self) -> Self {
        Segment { seq: self.seq + 1, flags: Flags(self.flags.0 & !Flags::SYN.0), ..*self }
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
    /// An ICMP error about a segment that one of our addresses has sent.
    Error(IcmpError),
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
    /// TTL or hop limit.
    pub hop_limit: u8,
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

/// Several segments of one flow written as one frame, to be cut by whoever sends it (TCP segmentation offload).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Superframe {
    /// Its length.
    pub bytes: usize,
    /// Where the TCP header begins; its checksum is that of the pseudo-header.
    pub tcp_at: u16,
    /// Where the payload begins.
    pub payload_at: u16,
    /// Payload of each segment, but for the last, which may have less. 0: it is one segment, and goes as it is.
    pub segment_bytes: u16,
}

impl Superframe {
    /// How many segments it is.
    pub fn segments(&self) -> usize {
        let payload_bytes = self.bytes - usize::from(self.payload_at);
        match self.segment_bytes {
            0 => 1,
            each => payload_bytes.div_ceil(each.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drop::Drop;

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
        let (source, destination) = (address(1), address(2));
        Path { source_mac: A, destination_mac: B, source, destination, hop_limit: 9 }
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

    /// Addresses, ports, SEG.SEQ, SEG.ACK, SEG.WND, whether it is a SYN or FIN, payload.
    type Read<'a> = ([Address; 2], [u16; 2], [u32; 2], u16, [bool; 2], &'a [u8]);

    /// What smoltcp reads in a segment's headers; `None` if it refuses them.
    fn read_by_smoltcp(frame: &[u8]) -> Option<Read<'_>> {
        use smoltcp::wire::{EthernetFrame, Ipv4Packet, Ipv6Packet, TcpPacket};
        let ethernet = EthernetFrame::new_checked(frame).ok()?;
        let body = ethernet.payload();
        let (source, destination, bytes) = match frame[12..14] {
            [8, 0] => {
                let ip = Ipv4Packet::new_checked(body).ok()?;
                let is_plain = ip.version() == 4 && ip.verify_checksum() && ip.header_len() == 20;
                let is_whole = !ip.more_frags() && ip.frag_offset() == 0;
                let (from, to) = (ip.src_addr().octets(), ip.dst_addr().octets());
                let is_tcp = ip.next_header() == smoltcp::wire::IpProtocol::Tcp;
                (is_plain && is_whole && is_tcp).then_some(())?;
                (Address::v4(from), Address::v4(to), &body[20..ip.total_len() as usize])
            }
            [0x86, 0xdd] => {
                let ip = Ipv6Packet::new_checked(body).ok()?;
                let is_tcp = ip.next_header() == smoltcp::wire::IpProtocol::Tcp;
                (ip.version() == 6 && is_tcp).then_some(())?;
                let bytes = &body[40..40 + ip.payload_len() as usize];
                (Address(ip.src_addr().octets()), Address(ip.dst_addr().octets()), bytes)
            }
            _ => return None,
        };
        let tcp = TcpPacket::new_checked(bytes).ok()?;
        tcp.verify_checksum(&source.to_wire(), &destination.to_wire()).then_some(())?;
        let (seq, ack) = (tcp.seq_number().0 as u32, tcp.ack_number().0 as u32);
        let (from, to) = (tcp.src_port(), tcp.dst_port());
        let payload = &bytes[tcp.header_len() as usize..];
        let flags = [tcp.syn(), tcp.fin()];
        Some(([source, destination], [from, to], [seq, ack], tcp.window_len(), flags, payload))
    }

    /// Segments as they are written, then damaged, cut and padded: read as smoltcp reads them, or refused as it refuses them.
    #[test]
    fn headers_are_read_as_smoltcp_reads_them() {
        let mut state = 7u64;
        let mut draw = |below: usize| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as usize % below
        };
        let (mut good, mut refused) = (0, 0);
        for round in 0..60_000u32 {
            let path = path(round % 2 == 0);
            let timestamps = (round % 3 == 0).then_some((round, 9));
            let header = Header {
                source_port: 1 + draw(65_535) as u16,
                destination_port: draw(65_536) as u16,
                seq: Seq(draw(1 << 31) as u32),
                ack: Seq(draw(1 << 31) as u32),
                flags: Flags(draw(64) as u8),
                window: draw(65_536) as u16,
                options: SegmentOptions { timestamps, ..SegmentOptions::default() },
            };
            let mut frame = [0; 200];
            let mut len = emit_tcp(&mut frame, &path, &header, draw(90));
            match round % 4 {
                0 => frame[12 + draw(len - 12)] ^= 1 << draw(8),
                1 => len = draw(len + 1),
                2 => len += draw(10),
                _ => {}
            }
            let frame = &frame[..len];
            let ours = match parse(frame, &B, &[]) {
                Ok(Frame::Tcp(segment)) => Some(segment),
                // The rest is about what the headers say, and none of smoltcp's business.
                Err(Drop::Martian) => continue,
                _ => None,
            };
            fn read<'a>(s: Segment<'a>) -> Read<'a> {
                let flags = [s.flags.has(Flags::SYN), s.flags.has(Flags::FIN)];
                let ports = [s.source_port, s.destination_port];
                ([s.source, s.destination], ports, [s.seq.0, s.ack.0], s.window, flags, s.payload)
            }
            assert_eq!(ours.map(read), read_by_smoltcp(frame), "{frame:x?}");
            *(if ours.is_some() { &mut good } else { &mut refused }) += 1;
        }
        assert!(good > 25_000 && refused > 20_000, "{good} read, {refused} refused");
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
    fn a_neighbour_is_asked_for() {
        let mut buffer = [0; 256];
        for v6 in [false, true] {
            let Path { source, destination, .. } = path(v6);
            let len = emit_query(&mut buffer, &A, &source, &destination);
            // RFC 2464 7: a solicited-node group has an Ethernet address of its own.
            let groups = [buffer[..6].try_into().unwrap()];
            let Ok(Frame::AddressQuery { target, is_claim, sender_mac, sender }) =
                parse(&buffer[..len], &B, &groups)
            else {
                panic!()
            };
            assert_eq!((sender, target, is_claim, sender_mac), (source, destination, false, A));
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
