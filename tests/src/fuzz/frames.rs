//! Frames into a node with connections: what clients, routers and neighbours say, changed here and there, and bytes as they are.

use super::{Dice, STEPS_MAX, assert_nothing_leaks, open, small};
use crate::kit::raw::Raw;
use crate::kit::settings::{ADDRESS, ADDRESS_6, ECHO, GENERATE_STAY, HTTP};
use crate::kit::world::World;
use stack::seq::Seq;
use stack::time::Duration;
use stack::wire::{
    Address, Flags, Header, Mac, Path, SegmentOptions, emit_address, emit_echo_reply, emit_query,
    emit_tcp, parse,
};

/// Where bytes of an IPv4 and an IPv6 packet begin behind their headers.
const BODY_AT: [usize; 2] = [34, 54];

/// Frames into a live stack.
pub fn frames(data: &[u8]) -> bool {
    let mut world = World::serving(small());
    let raws = [ECHO, HTTP, GENERATE_STAY].map(|port| open(&mut world, port));
    let mac = world.neighbor().expect("announced");
    let (mut dice, mut said, mut parsed) = (Dice(data), 0, 0);
    for _ in 0..STEPS_MAX {
        if dice.is_empty() {
            break;
        }
        let raw = raws[usize::from(dice.byte()) % raws.len()];
        let mut frame = draw(&mut dice, &mut world.raws[raw], mac);
        dice.spoil(&mut frame, mend);
        if frame.len() < 14 {
            continue;
        }
        frame[..6].copy_from_slice(&mac);
        said += 1;
        parsed += usize::from(parse(&frame, &mac, &[]).is_ok());
        world.send_request(frame);
        if dice.byte() >= 128 {
            world.run_for(Duration::from_micros(300));
        }
    }
    world.run_for(Duration::from_millis(3));
    assert_nothing_leaks(&mut world);
    2 * parsed > said
}

/// A frame as it is made by those who mean well; or bytes.
fn draw(dice: &mut Dice, raw: &mut Raw, mac: Mac) -> Vec<u8> {
    let family = usize::from(dice.byte()) % 2;
    let path = path(raw, mac, family);
    let mut buffer = [0; 2048];
    let len = match dice.byte() % 16 {
        0..6 => return segment(dice, raw, mac),
        6 => {
            // To a service that this client has not spoken to: by either family.
            let header = Header {
                source_port: dice.word(),
                destination_port: ECHO,
                flags: Flags(dice.byte() & 0x3f),
                seq: Seq(dice.word().into()),
                ack: Seq(dice.word().into()),
                window: dice.word(),
                options: drawn_options(dice),
            };
            emit_tcp(&mut buffer, &path, &header, usize::from(dice.byte()))
        }
        7 => emit_query(&mut buffer, &path.source_mac, &path.source, &path.destination),
        8 => emit_address(&mut buffer, &path.source_mac, &path.source, None),
        9 => {
            // Who claims the service's own address.
            let to = (dice.byte().is_multiple_of(2)).then_some((mac, path.source));
            emit_address(&mut buffer, &path.source_mac, &path.destination, to)
        }
        10..12 => {
            let len = emit_echo_reply(&mut buffer, &path, dice.word(), dice.word(), b"ping");
            buffer[BODY_AT[family]] = [8, 128][family];
            len
        }
        12..15 => error(dice, raw, (&path, family), &mut buffer),
        _ => {
            let len = usize::from(dice.word() % 1515);
            return dice.bytes(len).to_vec();
        }
    };
    mend(&mut buffer[..len]);
    buffer[..len].to_vec()
}

fn path(raw: &Raw, mac: Mac, family: usize) -> Path {
    let key = raw.key();
    let mut neighbor = ADDRESS_6;
    neighbor[15] = 9;
    let (source, destination) = match family {
        0 => (key.remote, Address::v4(ADDRESS)),
        _ => (Address(neighbor), Address(ADDRESS_6)),
    };
    let source_mac = raw.mac();
    Path { source_mac, destination_mac: mac, source, destination, hop_limit: 255 }
}

/// The next segment of the connection, or one like it with other flags and options.
fn segment(dice: &mut Dice, raw: &mut Raw, mac: Mac) -> Vec<u8> {
    let payload = &b"GET /generate/3000 HTTP/1.1\r\nHost: x\r\n\r\n"[..];
    let ack = Flags::ACK.with(Flags::PSH);
    match dice.byte() % 8 {
        0..3 => raw.send(ack, payload),
        3 => raw.send(Flags::ACK, &[]),
        4 => raw.send(ack.with(Flags::FIN), &[]),
        5 => raw.send(Flags::SYN, &[]),
        _ => {
            raw.options = drawn_options(dice);
            raw.window = dice.word();
            let (seq, back) = (raw.snd_nxt, Seq(raw.rcv_nxt.0 - u32::from(dice.byte())));
            let payload = &payload[..usize::from(dice.byte()) % payload.len()];
            raw.send_exactly(seq, back, Flags(dice.byte()), payload);
            raw.options = SegmentOptions::default();
            raw.window = 0xffff;
        }
    }
    raw.poll_frame(mac).expect("it was queued")
}

fn drawn_options(dice: &mut Dice) -> SegmentOptions {
    let has = dice.byte();
    let mut draw = |bit: u8| (has & bit != 0).then(|| dice.word());
    let (mss, scale, stamp, block) = (draw(1), draw(2), draw(4), draw(8));
    let block = block.map(|at| (Seq(at.into()), Seq(at.into()) + 99));
    SegmentOptions {
        mss,
        window_scale: scale.map(|scale| scale as u8),
        sack_permitted: has & 16 != 0,
        sack: [block, None, None, None],
        timestamps: stamp.map(|stamp| (stamp.into(), stamp.into())),
    }
}

/// An ICMP error about something that was said to this client: what is too big, unreachable, too far.
fn error(dice: &mut Dice, raw: &Raw, (path, family): (&Path, usize), buffer: &mut [u8]) -> usize {
    let key = raw.key();
    let said = Path { source: path.destination, destination: path.source, ..*path };
    let header = Header {
        source_port: key.local_port,
        destination_port: key.remote_port,
        seq: Seq(raw.rcv_nxt.0 - u32::from(dice.byte())),
        flags: Flags::ACK,
        ..Header::default()
    };
    let mut quoted = [0; 256];
    let len = emit_tcp(&mut quoted, &said, &header, 100);
    // An error's header is as long as an echo's, and is written over it.
    let len = emit_echo_reply(buffer, path, 0, 0, &quoted[14..len.min(14 + 48)]);
    let [high, low] = dice.word().to_be_bytes();
    let kinds = [[[3, 4], [3, 1], [11, 0], [12, 0]], [[2, 0], [1, 4], [3, 0], [4, 1]]];
    let [kind, code] = kinds[family][usize::from(dice.byte()) % 4];
    let at = BODY_AT[family];
    buffer[at..at + 8].copy_from_slice(&[kind, code, 0, 0, 0, 0, high, low]);
    len
}

/// Gives a frame the checksums that belong to what it says, as far as it is long enough to have some.
pub(super) fn mend(frame: &mut [u8]) {
    let Some(packet) = frame.get_mut(14..) else { return };
    let field = |at: usize| usize::from(u16::from_be_bytes([packet[at], packet[at + 1]]));
    let (protocol, addresses, head, end) = match packet.first().map(|first| first >> 4) {
        Some(4) if packet.len() >= 20 => {
            (packet[9], 12..20, 4 * usize::from(packet[0] & 15), field(2))
        }
        Some(6) if packet.len() >= 40 => (packet[6], 8..40, 40, 40 + field(4)),
        _ => return,
    };
    let end = end.min(packet.len());
    if !(20..=end).contains(&head) {
        return;
    }
    if addresses.start == 12 {
        put_checksum(&mut packet[..head], 10, &[]);
    }
    let len = ((end - head) as u32).to_be_bytes();
    let pseudo = [&packet[addresses], &[0, 0, 0, protocol], &len].concat();
    match protocol {
        6 => put_checksum(&mut packet[head..end], 16, &pseudo),
        1 => put_checksum(&mut packet[head..end], 2, &[]),
        58 => put_checksum(&mut packet[head..end], 2, &pseudo),
        _ => {}
    }
}

/// RFC 1071, word by word: into its place, where it counts as zero.
fn put_checksum(bytes: &mut [u8], at: usize, pseudo: &[u8]) {
    let Some(field) = bytes.get_mut(at..at + 2) else { return };
    field.fill(0);
    let words = pseudo.chunks(2).chain(bytes.chunks(2));
    let sum: u32 =
        words.map(|word| u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = ((folded & 0xffff) + (folded >> 16)) as u16;
    bytes[at..at + 2].copy_from_slice(&(!folded).to_be_bytes());
}
