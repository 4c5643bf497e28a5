//! The options of TCP segments: what the parser makes of them, against another one of ours; and what a node answers to a SYN
//! and a segment that have them.

use super::frames::mend;
use super::{Dice, assert_nothing_leaks, small};
use crate::kit::settings::ECHO;
use crate::kit::world::World;
use stack::seq::Seq;
use stack::time::Duration;
use stack::wire::{Flags, Frame, SegmentOptions, parse};

/// Bytes of the options of a segment at most.
const OPTIONS_BYTES_MAX: usize = 40;
/// Where they begin in a frame of IPv4.
const OPTIONS_AT: usize = 54;

/// Options of a SYN, and of the segments behind it.
pub fn options(data: &[u8]) -> bool {
    let mut world = World::serving(small());
    let mac = world.neighbor().expect("announced");
    let raw = world.raw(ECHO);
    let mut dice = Dice(data);
    let asked = draw(&mut dice);
    world.raws[raw].send(Flags::SYN, &[]);
    say(&mut world, raw, &asked);
    let Some(answer) = world.raws[raw].take() else {
        assert_eq!(read(&asked), None, "a SYN that can be understood is answered");
        assert_nothing_leaks(&mut world);
        return false;
    };
    let asked = read(&asked).expect("what cannot be understood is not answered");
    assert!(answer.flags.has(Flags::SYN.with(Flags::ACK)), "{answer:?}");
    // RFC 7323 2.2 and 3.2, RFC 2018 2: what was not offered is not accepted.
    let accepted = answer.options;
    assert!(asked.window_scale.is_some() || accepted.window_scale.is_none());
    assert!(asked.sack_permitted || !accepted.sack_permitted);
    assert_eq!(asked.timestamps.map(|(value, _)| value), accepted.timestamps.map(|(_, echo)| echo));
    for n in 0..8 {
        let flags = if n == 0 { Flags::ACK } else { Flags::ACK.with(Flags::PSH) };
        let payload: &[u8] = if n % 2 == 0 { &[] } else { b"hello" };
        world.raws[raw].send(flags, payload);
        say(&mut world, raw, &draw(&mut dice));
        for heard in world.raws[raw].take_all() {
            // RFC 7323 3.2: in every segment or in none, but for resets; and SACK only if it was permitted.
            let is_reset = heard.flags.has(Flags::RST);
            assert!(is_reset || heard.options.timestamps.is_some() == asked.timestamps.is_some());
            assert!(accepted.sack_permitted || heard.options.sack == [None; 4]);
            assert_eq!(heard.options.mss, None);
        }
    }
    let _ = parse(&[], &mac, &[]);
    assert_nothing_leaks(&mut world);
    true
}

/// Says what is queued, with these options.
fn say(world: &mut World, raw: usize, options: &[u8]) {
    let mac = world.neighbor().expect("announced");
    let plain = world.raws[raw].poll_frame(mac).expect("it was queued");
    let mut frame = [&plain[..OPTIONS_AT], options, &plain[OPTIONS_AT..]].concat();
    frame[46] = ((20 + options.len()) as u8 / 4) << 4;
    let total = (frame.len() - 14) as u16;
    frame[16..18].copy_from_slice(&total.to_be_bytes());
    mend(&mut frame);
    let parsed = match parse(&frame, &mac, &[]) {
        Ok(Frame::Tcp(segment)) => Some(segment.options),
        _ => None,
    };
    assert_eq!(parsed, read(options), "{options:?}");
    world.send_request(frame);
    world.run_for(Duration::from_millis(1));
}

/// Options that make sense, one behind the other, and bytes that need not; filled up to whole words.
fn draw(dice: &mut Dice) -> Vec<u8> {
    let mut options = Vec::new();
    let end = 4 * usize::from(dice.byte() % 11);
    while options.len() < end {
        let mut put = |kind: u8, bytes: &[u8]| {
            options.extend([kind, bytes.len() as u8 + 2]);
            options.extend(bytes);
        };
        match dice.byte() % 16 {
            0..2 => put(2, &dice.word().to_be_bytes()),
            2..4 => put(3, &[dice.byte()]),
            4..6 => put(4, &[]),
            6..9 => {
                let blocks = 8 * (1 + usize::from(dice.byte() % 3));
                let mut bytes = dice.bytes(blocks).to_vec();
                bytes.resize(blocks, 7);
                put(5, &bytes);
            }
            9..12 => {
                let (value, echo) = (u32::from(dice.word()), u32::from(dice.word()));
                put(8, &[value.to_be_bytes(), echo.to_be_bytes()].concat());
            }
            12 => options.push(dice.byte() % 2),
            13 => {
                let len = usize::from(dice.byte() % 8);
                let kind = dice.byte().max(9);
                put(kind, dice.bytes(len));
            }
            14 => options.push(dice.byte()),
            _ => options.push(1),
        }
    }
    options.truncate(OPTIONS_BYTES_MAX);
    while !options.len().is_multiple_of(4) {
        options.push(0);
    }
    options
}

/// What options say (RFC 9293 3.1, 7323 2.2 and 3.2, 2018 3); `None` if they cannot be understood.
fn read(mut bytes: &[u8]) -> Option<SegmentOptions> {
    let mut options = SegmentOptions::default();
    loop {
        let len = match *bytes {
            [] | [0, ..] => return Some(options),
            [1, ..] => 1,
            [_] | [_, 0..2, ..] => return None,
            [_, len, ..] => usize::from(len),
        };
        let (option, rest) = bytes.split_at_checked(len)?;
        let numbers =
            || option[2..].chunks_exact(4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
        match *option {
            [2, 4, high, low] => options.mss = Some(u16::from_be_bytes([high, low])),
            [3, 3, scale] => options.window_scale = Some(scale.min(14)),
            [4, 2] => options.sack_permitted = true,
            [5, 10 | 18 | 26 | 34, ..] => {
                let edges: Vec<u32> = numbers().collect();
                let blocks = edges.chunks_exact(2).map(|edge| (Seq(edge[0]), Seq(edge[1])));
                let mut said = blocks.map(Some).take(3);
                options.sack[..3].fill_with(|| said.next().flatten());
            }
            [8, 10, ..] => {
                let numbers: Vec<u32> = numbers().collect();
                options.timestamps = Some((numbers[0], numbers[1]));
            }
            // RFC 9293 MUST-7: those that are known and have another length are broken.
            [2..=5, ..] => return None,
            _ => {}
        }
        bytes = rest;
    }
}
