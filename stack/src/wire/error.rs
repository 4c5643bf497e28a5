//! ICMP errors: what a router, or the other end, says of a packet of ours.
//!
//! An error quotes the beginning of the packet that it is about, as far as the ports and the sequence number
//! (RFC 792, RFC 4443 3). Whoever has not seen that packet cannot quote it, which is all the proof there is: the
//! flow looks whether it is in flight (RFC 5927 4.1). A quote that no packet of ours can have begun like is
//! refused here. Parsed by hand: smoltcp wants the whole of a quoted packet that an error carries the head of.
//!
//! Spec: RFC 792, 1122 3.2.2, 1191 4, 4443 2.4 (c) and 3, 4884 (what follows the quote is not looked at).
//! Left out: redirects (the next hop is learnt from the client's frames), source quench (RFC 6633).

use super::{Address, Frame};
use crate::drop::Drop;
use crate::seq::Seq;
use smoltcp::wire::{Icmpv4Packet, Icmpv6Packet, Ipv6Address};

/// What an error says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ErrorKind {
    /// The packet does not fit into the next link, which takes so many bytes; 0 if the router is too old to tell.
    TooBig {
        /// Bytes of an IP packet.
        mtu: u32,
    },
    /// Destination unreachable, whatever the reason.
    Unreachable,
    /// The hop limit was reached on the way.
    TimeExceeded,
    /// A header was not understood.
    ParameterProblem,
}

/// The packet that an error is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quoted {
    /// Its sender: one of our addresses.
    pub source: Address,
    /// Its receiver.
    pub destination: Address,
    /// Our port.
    pub source_port: u16,
    /// The receiver's port.
    pub destination_port: u16,
    /// SEG.SEQ
    pub seq: Seq,
    /// Bytes of the whole IP packet.
    pub bytes: u32,
}

/// An ICMP error with a good checksum, about a TCP segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IcmpError {
    /// What it says.
    pub kind: ErrorKind,
    /// About which packet.
    pub quoted: Quoted,
}

/// An ICMP message that is an error; `None` if it is none.
pub(super) fn parse_icmpv4<'a>(
    message: &'a [u8],
    destination: &Address,
) -> Option<Result<Frame<'a>, Drop>> {
    let kind = match *message.first_chunk::<8>()? {
        [3, 4, _, _, _, _, high, low] => {
            ErrorKind::TooBig { mtu: u16::from_be_bytes([high, low]) as u32 }
        }
        [3, ..] => ErrorKind::Unreachable,
        // RFC 9293 MUST-55, RFC 6633: source quench is dropped in silence.
        [4, ..] => return Some(Err(Drop::Unasked)),
        [11, ..] => ErrorKind::TimeExceeded,
        [12, ..] => ErrorKind::ParameterProblem,
        _ => return None,
    };
    if !Icmpv4Packet::new_unchecked(message).verify_checksum() {
        return Some(Err(Drop::BadIp));
    }
    Some(error(kind, quoted_ipv4(&message[8..]), destination))
}

/// An ICMPv6 message that is an error; `None` if it is none.
pub(super) fn parse_icmpv6<'a>(
    message: &'a [u8],
    source: &Address,
    destination: &Address,
) -> Option<Result<Frame<'a>, Drop>> {
    let kind = match *message.first_chunk::<8>()? {
        [1, ..] => ErrorKind::Unreachable,
        [2, _, _, _, a, b, c, d] => ErrorKind::TooBig { mtu: u32::from_be_bytes([a, b, c, d]) },
        [3, ..] => ErrorKind::TimeExceeded,
        [4, ..] => ErrorKind::ParameterProblem,
        _ => return None,
    };
    let (from, to) = (Ipv6Address::from(source.0), Ipv6Address::from(destination.0));
    if !Icmpv6Packet::new_unchecked(message).verify_checksum(&from, &to) {
        return Some(Err(Drop::BadIp));
    }
    Some(error(kind, quoted_ipv6(&message[8..]), destination))
}

/// What a frame quotes if it is an ICMP error; nothing else of it is checked.
#[cold]
pub fn guess_quoted(frame: &[u8]) -> Option<Quoted> {
    let (ethernet, packet) = frame.split_first_chunk::<14>()?;
    match *ethernet.last_chunk()? {
        [8, 0] if packet.get(9) == Some(&1) && packet[0] == 0x45 => match packet.get(20)? {
            3 | 11 | 12 => quoted_ipv4(packet.get(28..)?),
            _ => None,
        },
        [0x86, 0xdd] if packet.get(6) == Some(&58) => match packet.get(40)? {
            1..=4 => quoted_ipv6(packet.get(48..)?),
            _ => None,
        },
        _ => None,
    }
}

fn error<'a>(
    kind: ErrorKind,
    quoted: Option<Quoted>,
    destination: &Address,
) -> Result<Frame<'a>, Drop> {
    // RFC 1122 3.2.2: an error goes to the sender of what it quotes.
    let quoted = quoted.filter(|quoted| quoted.source == *destination).ok_or(Drop::BadQuote)?;
    Ok(Frame::Error(IcmpError { kind, quoted }))
}

/// Our packets have neither options nor fragments.
fn quoted_ipv4(packet: &[u8]) -> Option<Quoted> {
    let (header, rest) = packet.split_first_chunk::<20>()?;
    let is_ours = header[0] == 0x45 && header[9] == 6 && header[6] & 0x3f == 0 && header[7] == 0;
    let [a, b, c, d, e, f, g, h] = *header.last_chunk::<8>()?;
    let addresses = (Address::v4([a, b, c, d]), Address::v4([e, f, g, h]));
    let bytes = u16::from_be_bytes([header[2], header[3]]) as u32;
    is_ours.then(|| quoted(addresses, bytes, rest))?
}

/// Our packets have no extension headers.
fn quoted_ipv6(packet: &[u8]) -> Option<Quoted> {
    let (header, rest) = packet.split_first_chunk::<40>()?;
    let is_ours = header[0] >> 4 == 6 && header[6] == 6;
    let source = Address(*header[8..].first_chunk()?);
    let destination = Address(*header[24..].first_chunk()?);
    let bytes = 40 + u16::from_be_bytes([header[4], header[5]]) as u32;
    is_ours.then(|| quoted((source, destination), bytes, rest))?
}

fn quoted((source, destination): (Address, Address), bytes: u32, tcp: &[u8]) -> Option<Quoted> {
    let [a, b, c, d, seq @ ..] = *tcp.first_chunk::<8>()?;
    Some(Quoted {
        source,
        destination,
        source_port: u16::from_be_bytes([a, b]),
        destination_port: u16::from_be_bytes([c, d]),
        seq: Seq(u32::from_be_bytes(seq)),
        bytes,
    })
}
