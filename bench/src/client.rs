//! Clients as a frame generator: twelve bytes for each, no timers, no loss.
//!
//! The address and port of a client follow from its index, and the index from these: no table is searched.
//! Frames from the engine are read at fixed offsets, since this side must not cost more than the measured one.

use crate::burst::Burst;
use stack::seq::Seq;
use stack::time::Instant;
use stack::wire::{Address, Flags, Header, Mac, Path, SegmentOptions, emit_tcp, payload_offset};

/// The Ethernet address of the owner's client-side interface.
pub const OWNER_MAC: Mac = [2, 0, 0, 0, 0, 1];
/// The Ethernet address of the clients' router.
pub const ROUTER_MAC: Mac = [2, 0, 0, 0, 0, 9];
/// The service's address.
pub const SERVICE: [u8; 4] = [192, 0, 2, 1];
/// The service's port.
pub const PORT: u16 = 7;
/// Clients at most: an address of 10.0.0.0/8 has 16 of them.
pub const CLIENTS_MAX: usize = 16 << 20;

const PORT_FIRST: u16 = 10_000;
const PORT_STEP: u16 = 1_237;
const WINDOW_SCALE: u8 = 7;

/// What a client remembers.
#[derive(Clone, Copy)]
pub struct Client {
    snd_nxt: Seq,
    rcv_nxt: Seq,
    ts_echo: u32,
}

/// Every client.
pub struct Clients {
    all: Vec<Client>,
    payload: Vec<u8>,
}

/// What one client says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Say {
    /// SYN.
    Syn,
    /// An acknowledgement of everything received.
    Ack,
    /// That many bytes of payload.
    Data(usize),
}

impl Clients {
    /// So many clients that have said nothing yet.
    pub fn new(clients: usize) -> Clients {
        assert!(clients <= CLIENTS_MAX);
        let new = |n: usize| Client {
            snd_nxt: Seq((n as u32).wrapping_mul(0x9e37_79b9)),
            rcv_nxt: Seq(0),
            ts_echo: 0,
        };
        Clients { all: (0..clients).map(new).collect(), payload: vec![0x5a; 2048] }
    }

    /// Writes what client `index` says into `burst`.
    pub fn emit(&mut self, now: Instant, index: u32, say: Say, burst: &mut Burst) {
        let client = &mut self.all[index as usize];
        let (source, source_port) = end_of(index);
        let path = Path {
            source_mac: ROUTER_MAC,
            destination_mac: OWNER_MAC,
            source,
            destination: Address::v4(SERVICE),
            hop_limit: 64,
        };
        let mut options = SegmentOptions {
            timestamps: Some(((now.0 / 1_000_000) as u32, client.ts_echo)),
            ..SegmentOptions::default()
        };
        let (flags, bytes) = match say {
            Say::Syn => {
                options.mss = Some(1460);
                options.window_scale = Some(WINDOW_SCALE);
                options.sack_permitted = true;
                (Flags::SYN, 0)
            }
            Say::Ack => (Flags::ACK, 0),
            Say::Data(bytes) => (Flags::ACK.with(Flags::PSH), bytes),
        };
        let header = Header {
            source_port,
            destination_port: PORT,
            seq: client.snd_nxt,
            ack: client.rcv_nxt,
            flags,
            window: 0xffff,
            options,
        };
        client.snd_nxt += bytes as u32 + (say == Say::Syn) as u32;
        let buffer = burst.room();
        let at = payload_offset(&path.destination, &options);
        buffer[at..at + bytes].copy_from_slice(&self.payload[..bytes]);
        let len = emit_tcp(buffer, &path, &header, bytes);
        burst.push(len);
    }

    /// Takes the engine's frames; answers how many bytes of payload came in order. Frames that are no
    /// segments (announcements of the address) are passed over.
    pub fn receive(&mut self, burst: &Burst) -> usize {
        burst.iter().map(|frame| self.receive_one(frame)).sum()
    }

    fn receive_one(&mut self, frame: &[u8]) -> usize {
        if frame[12..14] != [8, 0] || frame[23] != 6 {
            return 0;
        }
        let word = |at: usize| {
            u32::from_be_bytes([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]])
        };
        let index = index_of(word(30), (word(34) & 0xffff) as u16);
        let (seq, flags) = (Seq(word(38)), Flags(frame[47]));
        assert!(!flags.has(Flags::RST), "the engine resets client {index}");
        let client = &mut self.all[index];
        // Timestamps stand first among the options, behind two NOPs.
        client.ts_echo = word(58);
        if flags.has(Flags::SYN) {
            client.rcv_nxt = seq + 1;
            return 0;
        }
        let header = 14 + 20 + 4 * (frame[46] >> 4) as usize;
        let bytes = 14 + (word(14) & 0xffff) as usize - header;
        if bytes > 0 {
            assert_eq!(seq, client.rcv_nxt, "client {index}: the engine sends out of order");
            client.rcv_nxt += bytes as u32;
        }
        bytes
    }
}

fn end_of(index: u32) -> (Address, u16) {
    let [_, a, b, c] = (index / 16 + 1).to_be_bytes();
    (Address::v4([10, a, b, c]), PORT_FIRST + (index % 16) as u16 * PORT_STEP)
}

fn index_of(address: u32, port: u16) -> usize {
    let host = (address & 0x00ff_ffff) - 1;
    host as usize * 16 + ((port - PORT_FIRST) / PORT_STEP) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_found_again() {
        for index in [0, 1, 15, 16, 99, 65_535, 999_999] {
            let (address, port) = end_of(index);
            let word = u32::from_be_bytes(address.as_v4().unwrap());
            assert_eq!(index_of(word, port), index as usize);
        }
    }
}
