//! Segments as bytes: written and read by hand.

use stack::seq::Seq;
use stack::time::Instant;
use stack::wire::{Address, Flags, Mac};

/// The stack.
pub const SERVER_MAC: Mac = [2, 2, 0, 0, 0, 1];
/// The client, or its router.
pub const CLIENT_MAC: Mac = [2, 1, 0, 0, 0, 1];
/// The port that is served.
pub const PORT: u16 = 80;

/// A segment to send.
#[derive(Clone, Debug)]
pub struct Say {
    /// Sender.
    pub source: Address,
    /// Sender's port.
    pub source_port: u16,
    /// Receiver.
    pub destination: Address,
    /// SEG.SEQ
    pub seq: Seq,
    /// SEG.ACK
    pub ack: Seq,
    /// Flags.
    pub flags: Flags,
    /// SEG.WND
    pub window: u16,
    /// Urgent pointer.
    pub urgent: u16,
    /// Options; padded with zeros to four bytes.
    pub options: Vec<u8>,
    /// Payload.
    pub payload: Vec<u8>,
}

/// A segment that came back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Heard {
    /// When.
    pub at: Instant,
    /// Receiver's port.
    pub port: u16,
    /// SEG.SEQ
    pub seq: Seq,
    /// SEG.ACK
    pub ack: Seq,
    /// Flags.
    pub flags: Flags,
    /// SEG.WND, not scaled.
    pub window: u16,
    /// MSS option.
    pub mss: Option<u16>,
    /// Window scale option.
    pub scale: Option<u8>,
    /// SACK-permitted option.
    pub sack_permitted: bool,
    /// SACK blocks.
    pub sack: Vec<(Seq, Seq)>,
    /// TSval, TSecr.
    pub timestamps: Option<(u32, u32)>,
    /// TTL or hop limit.
    pub hop_limit: u8,
    /// Payload.
    pub payload: Vec<u8>,
}

/// A timestamps option, aligned.
pub fn timestamps(value: u32, echo: u32) -> Vec<u8> {
    let mut bytes = vec![1, 1, 8, 10];
    bytes.extend(value.to_be_bytes());
    bytes.extend(echo.to_be_bytes());
    bytes
}

/// SACK blocks, aligned.
pub fn sack(blocks: &[(Seq, Seq)]) -> Vec<u8> {
    let mut bytes = vec![1, 1, 5, 2 + 8 * blocks.len() as u8];
    for (from, to) in blocks {
        bytes.extend(from.0.to_be_bytes());
        bytes.extend(to.0.to_be_bytes());
    }
    bytes
}

/// Writes a frame.
pub fn frame(say: &Say) -> Vec<u8> {
    let mut options = say.options.clone();
    options.resize(options.len().div_ceil(4) * 4, 0);
    let mut tcp = Vec::new();
    tcp.extend(say.source_port.to_be_bytes());
    tcp.extend(PORT.to_be_bytes());
    tcp.extend(say.seq.0.to_be_bytes());
    tcp.extend(say.ack.0.to_be_bytes());
    tcp.extend([((5 + options.len() / 4) << 4) as u8, say.flags.0]);
    tcp.extend(say.window.to_be_bytes());
    tcp.extend([0, 0]);
    tcp.extend(say.urgent.to_be_bytes());
    tcp.extend(options);
    tcp.extend(&say.payload);
    let sum = !sum(&tcp, pseudo_header(&say.source, &say.destination, tcp.len()));
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
    packet(&say.source, &say.destination, 6, &tcp)
}

/// Writes Ethernet and IP headers around a message.
pub fn packet(source: &Address, destination: &Address, protocol: u8, body: &[u8]) -> Vec<u8> {
    let mut frame = Vec::from(SERVER_MAC);
    frame.extend(CLIENT_MAC);
    match (source.as_v4(), destination.as_v4()) {
        (Some(source), Some(destination)) => {
            let len = (20 + body.len()) as u16;
            frame.extend([0x08, 0x00, 0x45, 0]);
            frame.extend(len.to_be_bytes());
            frame.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
            frame.extend(source);
            frame.extend(destination);
            let sum = !sum(&frame[14..34], 0);
            frame[24..26].copy_from_slice(&sum.to_be_bytes());
        }
        _ => {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend((body.len() as u16).to_be_bytes());
            frame.extend([protocol, 64]);
            frame.extend(source.0);
            frame.extend(destination.0);
        }
    }
    frame.extend(body);
    frame
}

/// Reads an answer; `None` if it is no TCP segment. What is malformed fails the test.
pub fn read(at: Instant, frame: &[u8]) -> Option<Heard> {
    let kind = u16::from_be_bytes([frame[12], frame[13]]);
    let (tcp, source, destination) = match kind {
        0x0800 if frame[23] == 6 => {
            assert_eq!(usize::from(word(frame, 16)), frame.len() - 14, "IP length");
            assert_eq!(sum(&frame[14..34], 0), 0xffff, "IP checksum");
            let v4 = |at: usize| Address::v4(frame[at..at + 4].try_into().expect("four bytes"));
            (&frame[34..], v4(26), v4(30))
        }
        0x86dd if frame[20] == 6 => {
            assert_eq!(usize::from(word(frame, 18)), frame.len() - 54, "IP length");
            let v6 = |at: usize| Address(frame[at..at + 16].try_into().expect("sixteen bytes"));
            (&frame[54..], v6(22), v6(38))
        }
        _ => return None,
    };
    // RFC 9293 MUST-2, seen in every test.
    let start = pseudo_header(&source, &destination, tcp.len());
    assert_eq!(sum(tcp, start), 0xffff, "TCP checksum");
    assert_eq!((frame[..6].to_vec(), word(tcp, 0)), (CLIENT_MAC.to_vec(), PORT));
    let offset = usize::from(tcp[12] >> 4) * 4;
    let seq = |at: usize| Seq(u32::from_be_bytes(tcp[at..at + 4].try_into().expect("four bytes")));
    let mut heard = Heard {
        at,
        port: word(tcp, 2),
        seq: seq(4),
        ack: seq(8),
        flags: Flags(tcp[13]),
        window: word(tcp, 14),
        mss: None,
        scale: None,
        sack_permitted: false,
        sack: Vec::new(),
        timestamps: None,
        hop_limit: if kind == 0x0800 { frame[22] } else { frame[21] },
        payload: tcp[offset..].to_vec(),
    };
    read_options(&mut heard, &tcp[20..offset]);
    Some(heard)
}

/// RFC 9293 MUST-68 and MUST-69 are checked here: every option has its length, the padding is
/// zeros.
fn read_options(heard: &mut Heard, mut bytes: &[u8]) {
    let long = |at: &[u8]| u32::from_be_bytes(at[..4].try_into().expect("four bytes"));
    while let [kind, rest @ ..] = bytes {
        if *kind == 1 {
            bytes = rest;
            continue;
        }
        if *kind == 0 {
            assert!(rest.iter().all(|byte| *byte == 0), "padding");
            return;
        }
        let (option, after) = bytes.split_at(usize::from(rest[0]));
        match (*kind, option.len()) {
            (2, 4) => heard.mss = Some(word(option, 2)),
            (3, 3) => heard.scale = Some(option[2]),
            (4, 2) => heard.sack_permitted = true,
            (5, 10 | 18 | 26 | 34) => {
                let block = |b: &[u8]| (Seq(long(b)), Seq(long(&b[4..])));
                heard.sack = option[2..].chunks(8).map(block).collect();
            }
            (8, 10) => heard.timestamps = Some((long(&option[2..]), long(&option[6..]))),
            _ => panic!("option {option:?}"),
        }
        bytes = after;
    }
}

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn pseudo_header(source: &Address, destination: &Address, len: usize) -> u32 {
    let bytes = |address: &Address| match address.as_v4() {
        Some(v4) => v4.to_vec(),
        None => address.0.to_vec(),
    };
    let addresses = u32::from(sum(&bytes(source), 0)) + u32::from(sum(&bytes(destination), 0));
    addresses + 6 + len as u32
}

/// The Internet checksum, not complemented.
pub fn sum(bytes: &[u8], start: u32) -> u16 {
    let pair = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    let mut sum = start + bytes.chunks(2).map(pair).sum::<u32>();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}
