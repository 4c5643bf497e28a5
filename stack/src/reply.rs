//! Small answers that belong to no flow: ARP and neighbour answers, ICMP echo, RST, SYN cookies.
//!
//! Each is kept until the port has room and the lease allows it. Bounds: [`REPLIES_MAX`]; one more is
//! dropped and counted, and whoever asked will ask again.

use crate::fact::Open;
use crate::limits::{ECHO_BYTES_MAX, REPLIES_MAX};
use crate::service::Service;
use crate::wire::{
    Address, Flags, Header, Mac, Path, Segment, SegmentOptions, emit_address, emit_echo_reply,
    emit_tcp,
};
use alloc::collections::VecDeque;

/// One small answer.
pub struct Reply {
    group: u8,
    kind: Kind,
}

#[allow(clippy::large_enum_variant)] // a bounded queue of them is taken at start
enum Kind {
    Address { address: Address, to: Option<(Mac, Address)> },
    Segment { path: Path, header: Header },
    Echo { path: Path, identifier: u16, sequence: u16, len: u16, payload: [u8; ECHO_BYTES_MAX] },
}

/// The queue of small answers.
pub struct Replies(VecDeque<Reply>);

impl Replies {
    /// Takes memory.
    pub fn new() -> Replies {
        Replies(VecDeque::with_capacity(REPLIES_MAX))
    }

    /// Queues an answer; `false` if there is no room.
    pub fn push(&mut self, reply: Reply) -> bool {
        let has_room = self.0.len() < REPLIES_MAX;
        if has_room {
            self.0.push_back(reply);
        }
        has_room
    }

    /// The next answer.
    pub fn pop(&mut self) -> Option<Reply> {
        self.0.pop_front()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Default for Replies {
    fn default() -> Replies {
        Replies::new()
    }
}

impl Reply {
    /// The group whose lease the answer needs.
    pub fn group(&self) -> u8 {
        self.group
    }

    /// Tells everybody that `address` is here.
    pub fn announce(address: Address, group: u8) -> Reply {
        Reply { group, kind: Kind::Address { address, to: None } }
    }

    /// Tells `asker` that `address` is here.
    pub fn address(mac: Mac, asker: Address, address: Address, group: u8) -> Reply {
        Reply { group, kind: Kind::Address { address, to: Some((mac, asker)) } }
    }

    /// Answers an echo request; `None` if its payload is too large.
    pub fn echo(
        mac: Mac,
        asker: Address,
        address: Address,
        (identifier, sequence): (u16, u16),
        payload: &[u8],
        group: u8,
    ) -> Option<Reply> {
        let mut copy = [0; ECHO_BYTES_MAX];
        copy.get_mut(..payload.len())?.copy_from_slice(payload);
        let path = Path { destination_mac: mac, source: address, destination: asker, ..NOWHERE };
        let len = payload.len() as u16;
        Some(Reply { group, kind: Kind::Echo { path, identifier, sequence, len, payload: copy } })
    }

    /// RFC 9293 3.10.7.1: the reset that answers a segment of no connection.
    pub fn reset(segment: &Segment, group: u8) -> Reply {
        let mut header = Header {
            source_port: segment.destination_port,
            destination_port: segment.source_port,
            ..Header::default()
        };
        if segment.flags.has(Flags::ACK) {
            (header.seq, header.flags) = (segment.ack, Flags::RST);
        } else {
            header.ack = segment.seq + segment.len();
            header.flags = Flags::RST.with(Flags::ACK);
        }
        Reply { group, kind: Kind::Segment { path: back(segment), header } }
    }

    /// A SYN-ACK whose sequence number, and whose timestamp's low bits, remember the SYN.
    pub fn cookie(open: &Open, segment: &Segment, service: &Service, ts: u32) -> Reply {
        let options = open.options;
        // Without a timestamp to carry them, scale and SACK cannot be remembered and are not offered.
        let bits =
            (options.snd_scale as u32) | (options.scaling as u32) << 4 | (options.sack as u32) << 5;
        let stamped = options.timestamps;
        let stamp = (ts & !63) | bits;
        // Never ahead of the clock: what follows would look older than the SYN-ACK (PAWS).
        let stamp = if stamp.wrapping_sub(ts) as i32 > 0 { stamp.wrapping_sub(64) } else { stamp };
        let header = Header {
            source_port: open.key.local_port,
            destination_port: open.key.remote_port,
            seq: open.iss,
            ack: segment.seq + 1,
            flags: Flags::SYN.with(Flags::ACK),
            window: service.receive_buffer.min(0xffff) as u16,
            options: SegmentOptions {
                mss: Some(service.mss_for(&open.key.local)),
                window_scale: (stamped && options.scaling).then_some(options.rcv_scale),
                sack_permitted: stamped && options.sack,
                sack: [None; 4],
                timestamps: segment.options.timestamps.map(|(value, _)| (stamp, value)),
            },
        };
        Reply { group: open.service, kind: Kind::Segment { path: back(segment), header } }
    }

    /// The options of the SYN that a cookie's answer belongs to.
    pub fn cookie_options(segment: &Segment, mss: u16) -> SegmentOptions {
        let bits = segment.options.timestamps.map_or(0, |(_, echo)| echo & 63);
        let scaling = bits & 16 != 0;
        SegmentOptions {
            mss: Some(mss),
            window_scale: scaling.then_some((bits & 15) as u8),
            sack_permitted: bits & 32 != 0,
            sack: [None; 4],
            timestamps: segment.options.timestamps,
        }
    }

    /// Writes the answer; returns the length of the frame.
    pub fn emit(&self, mac: &Mac, hop_limit: u8, buffer: &mut [u8]) -> usize {
        match &self.kind {
            Kind::Address { address, to } => emit_address(buffer, mac, address, *to),
            Kind::Segment { path, header } => {
                emit_tcp(buffer, &Path { source_mac: *mac, hop_limit, ..*path }, header, 0)
            }
            Kind::Echo { path, identifier, sequence, len, payload } => {
                let path = Path { source_mac: *mac, hop_limit, ..*path };
                emit_echo_reply(buffer, &path, *identifier, *sequence, &payload[..*len as usize])
            }
        }
    }
}

/// A path of which nothing is known yet; source and hop limit are filled in when the reply is written.
const NOWHERE: Path = Path {
    source_mac: [0; 6],
    destination_mac: [0; 6],
    source: Address([0; 16]),
    destination: Address([0; 16]),
    hop_limit: 0,
};

/// The way back to where a segment came from.
fn back(segment: &Segment) -> Path {
    Path {
        destination_mac: segment.source_mac,
        source: segment.destination,
        destination: segment.source,
        ..NOWHERE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queue_is_bounded() {
        let mut replies = Replies::new();
        for _ in 0..REPLIES_MAX {
            assert!(replies.push(Reply::announce(Address::v4([1, 2, 3, 4]), 0)));
        }
        assert!(!replies.push(Reply::announce(Address::v4([1, 2, 3, 4]), 0)));
        assert!(replies.pop().is_some() && !replies.is_empty());
    }
}
