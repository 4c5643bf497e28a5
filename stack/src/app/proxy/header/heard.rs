//! The PROXY protocol heard: the first bytes of a client tell who is behind it.
//!
//! Bytes come as they like, so the beginning of a header is no mistake, and everything else that is no header is one: whoever
//! is asked for it must say it first. Spec: "The PROXY protocol, versions 1 & 2" (haproxy.org), 2.1 and 2.2. TLVs are passed
//! over. Bounds: [`ACCEPTED_BYTES_MAX`].

use super::{HEADER_BYTES_MAX, SIGNATURE};
use crate::bytes::{ByteQueue, Chunks};
use crate::key::FlowKey;
use crate::wire::Address;
use core::net::{Ipv4Addr, Ipv6Addr};

/// Bytes of a header of version 2 at most, TLVs included: what everybody takes in one piece (2.2).
pub const ACCEPTED_BYTES_MAX: usize = 536;

/// What the first bytes of a client are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Heard {
    /// The beginning of a header.
    More,
    /// None, or one that cannot be understood.
    Bad,
    /// A header.
    Whole {
        /// How long it is.
        bytes: usize,
        /// Both ends of the client's connection, if it names them.
        client: Option<FlowKey>,
    },
}

/// What a client has said so far, of which nothing was taken.
pub fn hear_said(said: &ByteQueue, chunks: &Chunks) -> Heard {
    let mut bytes = [0; ACCEPTED_BYTES_MAX];
    let len = said.copy_at(chunks, 0, &mut bytes);
    hear(&bytes[..len])
}

/// What these bytes are.
pub fn hear(bytes: &[u8]) -> Heard {
    let begins = |with: &[u8]| {
        let common = bytes.len().min(with.len());
        bytes[..common] == with[..common]
    };
    let heard = if begins(&SIGNATURE) {
        hear_binary(bytes)
    } else if begins(b"PROXY ") {
        hear_line(bytes)
    } else {
        None
    };
    heard.unwrap_or(Heard::Bad)
}

/// Version 2; `None` if it is not to be understood.
fn hear_binary(bytes: &[u8]) -> Option<Heard> {
    let Some((head, rest)) = bytes.split_first_chunk::<16>() else { return Some(Heard::More) };
    let [.., command, family, high, low] = *head;
    let len = usize::from(u16::from_be_bytes([high, low]));
    if !matches!(command, 0x20 | 0x21) || head.len() + len > ACCEPTED_BYTES_MAX {
        return None;
    }
    let Some(body) = rest.get(..len) else { return Some(Heard::More) };
    let client = match (command, family) {
        // LOCAL: the balancer speaks for itself.
        (0x20, _) => None,
        (_, 0x11) => Some(ends(body.split_first_chunk::<12>()?.0, Address::v4)?),
        (_, 0x21) => Some(ends(body.split_first_chunk::<36>()?.0, Address)?),
        // What is behind is not TCP, and allowed: as if it had said nothing.
        (_, 0x00 | 0x12 | 0x22 | 0x31 | 0x32) => None,
        _ => return None,
    };
    Some(Heard::Whole { bytes: head.len() + len, client })
}

/// Two addresses of `N` bytes and two ports.
fn ends<const N: usize>(body: &[u8], address: fn([u8; N]) -> Address) -> Option<FlowKey> {
    let (remote, rest) = body.split_first_chunk::<N>()?;
    let (local, rest) = rest.split_first_chunk::<N>()?;
    let &[a, b, c, d] = rest else { return None };
    let [remote_port, local_port] = [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])];
    of_one_family(address(*remote), address(*local), remote_port, local_port)
}

/// Version 1; `None` if it is not to be understood.
fn hear_line(bytes: &[u8]) -> Option<Heard> {
    let seen = &bytes[..bytes.len().min(HEADER_BYTES_MAX)];
    let Some(end) = seen.windows(2).position(|two| two == b"\r\n") else {
        return (seen.len() < HEADER_BYTES_MAX).then_some(Heard::More);
    };
    let line = core::str::from_utf8(&seen[..end]).ok()?;
    let mut words = line.split(' ').skip(1);
    let family = words.next()?;
    let client = match family {
        // Whatever follows is to be passed over.
        "UNKNOWN" => None,
        _ => {
            let address = |word: &str| match family {
                "TCP4" => Some(Address::v4(word.parse::<Ipv4Addr>().ok()?.octets())),
                "TCP6" => Some(Address(word.parse::<Ipv6Addr>().ok()?.octets())),
                _ => None,
            };
            let (remote, local) = (address(words.next()?)?, address(words.next()?)?);
            let (remote_port, local_port) = (port(words.next()?)?, port(words.next()?)?);
            if words.next().is_some() {
                return None;
            }
            Some(of_one_family(remote, local, remote_port, local_port)?)
        }
    };
    Some(Heard::Whole { bytes: end + 2, client })
}

fn port(word: &str) -> Option<u16> {
    let is_number = word.bytes().all(|byte| byte.is_ascii_digit());
    word.parse().ok().filter(|_| is_number)
}

/// An IPv6 address may be an IPv4 one in disguise; then both must be.
fn of_one_family(
    remote: Address,
    local: Address,
    remote_port: u16,
    local_port: u16,
) -> Option<FlowKey> {
    let is_one = remote.as_v4().is_some() == local.as_v4().is_some();
    is_one.then_some(FlowKey { remote, local, remote_port, local_port })
}

#[cfg(test)]
mod tests {
    use super::super::{Header, HeaderVersion};
    use super::*;
    use alloc::vec::Vec;

    fn client(remote: Address, local: Address) -> FlowKey {
        FlowKey { remote, local, remote_port: 56_324, local_port: 443 }
    }

    fn clients() -> [FlowKey; 2] {
        let v6 = |n: u8| Address([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, n]);
        [
            client(Address::v4([192, 168, 0, 1]), Address::v4([192, 168, 0, 11])),
            client(v6(1), v6(2)),
        ]
    }

    /// Whatever is said to servers is understood from clients, and every beginning of it asks for more.
    #[test]
    fn what_we_say_we_understand_however_it_is_cut() {
        for client in clients() {
            for version in [HeaderVersion::V1, HeaderVersion::V2] {
                let header = Header::new(version, &client);
                let bytes = header.bytes().len();
                let mut said = header.bytes().to_vec();
                said.extend_from_slice(b"GET / HTTP/1.1\r\n");
                for n in 0..bytes {
                    assert_eq!(hear(&said[..n]), Heard::More, "{n} bytes of {version:?}");
                }
                for n in bytes..=said.len() {
                    assert_eq!(hear(&said[..n]), Heard::Whole { bytes, client: Some(client) });
                }
            }
        }
    }

    #[test]
    fn a_header_may_name_nobody() {
        let whole = |bytes: &[u8]| Heard::Whole { bytes: bytes.len(), client: None };
        for line in [&b"PROXY UNKNOWN\r\n"[..], b"PROXY UNKNOWN ffff::1 whatever\r\n"] {
            assert_eq!(hear(line), whole(line));
        }
        for (command, family, len) in
            [(0x20, 0, 0), (0x20, 0x11, 7), (0x21, 0, 3), (0x21, 0x31, 216)]
        {
            let mut bytes = [&SIGNATURE[..], &[command, family, 0, len]].concat();
            bytes.resize(16 + usize::from(len), 0xa5);
            assert_eq!(hear(&bytes), whole(&bytes), "{command:x} {family:x}");
        }
    }

    /// TLVs are passed over, up to the bound.
    #[test]
    fn what_follows_the_addresses_is_passed_over() {
        let [v4, _] = clients();
        let mut bytes = Header::new(HeaderVersion::V2, &v4).bytes().to_vec();
        bytes.resize(ACCEPTED_BYTES_MAX, 0x04);
        bytes[14..16].copy_from_slice(&(ACCEPTED_BYTES_MAX as u16 - 16).to_be_bytes());
        assert_eq!(hear(&bytes), Heard::Whole { bytes: ACCEPTED_BYTES_MAX, client: Some(v4) });
        bytes[14..16].copy_from_slice(&(ACCEPTED_BYTES_MAX as u16 - 15).to_be_bytes());
        assert_eq!(hear(&bytes), Heard::Bad, "more than anybody has to take");
    }

    #[test]
    fn what_is_no_header_is_refused_at_once() {
        for bytes in [
            &b"G"[..],
            b"GET / HTTP/1.1\r\n",
            b"proxy ",
            b"PROXY\t",
            b"\r\n\r\n\0\r\nQUIT\r",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1 65536\r\n",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 +1 2\r\n",
            b"PROXY TCP4 1.2.3.4 5.6.7.8  2\r\n",
            b"PROXY TCP4 1.2.3.4 ::1 1 2\r\n",
            b"PROXY TCP4 1.2.3.256 5.6.7.8 1 2\r\n",
            b"PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n",
            b"PROXY TCP6 ::ffff:1.2.3.4 2001:db8::1 1 2\r\n",
            b"PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n",
            b"PROXY \xff\r\n",
            b"PROXY \r\n",
            b"\r\n\r\n\0\r\nQUIT\n\x11\x11\0\x0c",
            b"\r\n\r\n\0\r\nQUIT\n\x22\x11\0\x0c",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x08\0",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x41\0\0",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0b01234567890",
        ] {
            assert_eq!(hear(bytes), Heard::Bad, "{}", bytes.escape_ascii());
        }
        let long: Vec<u8> = b"PROXY TCP4 ".iter().copied().chain([b'1'; 200]).collect();
        assert_eq!(hear(&long[..HEADER_BYTES_MAX - 1]), Heard::More);
        assert_eq!(hear(&long[..HEADER_BYTES_MAX]), Heard::Bad);
    }
}
