//! Opening: RFC 9293 3.5 and 3.10.7, RFC 7323, RFC 4987.

use stack::seq::Seq;
use stack::time::Duration;
use stack::wire::Flags;
use tests::kit::raw::Heard;
use tests::kit::settings::{ECHO, Settings};
use tests::kit::world::World;

fn exchange(world: &mut World, raw: usize) -> Vec<Heard> {
    world.send_raw(raw);
    world.run_for(Duration::from_millis(2));
    world.raws[raw].heard.drain(..).collect()
}

/// RFC 9293 MUST-15: without the option segments carry 536 bytes at most.
#[test]
fn must_15_without_an_mss_option_segments_have_536_bytes() {
    let mut world = World::mirrored(Settings::default());
    let raw = world.raw(ECHO);
    world.raws[raw].send(Flags::SYN, &[]);
    let answer = exchange(&mut world, raw);
    assert_eq!(answer.len(), 1);
    let options = answer[0].options;
    assert_eq!((options.window_scale, options.timestamps), (None, None));
    assert!(!options.sack_permitted && options.mss.is_some());
    world.raws[raw].send(Flags::ACK, &[1; 1400]);
    let answer = exchange(&mut world, raw);
    let echoed: usize = answer.iter().map(|heard| heard.payload.len()).sum();
    assert_eq!(echoed, 1400);
    assert!(answer.iter().all(|heard| heard.payload.len() <= 536));
}

/// RFC 9293 3.10.7.1: a segment for no connection is answered with RST at the right number.
#[test]
fn a_segment_for_no_connection_is_reset() {
    let mut world = World::mirrored(Settings::default());
    let raw = world.raw(ECHO);
    world.raws[raw].send_exactly(Seq(5), Seq(77), Flags::ACK, b"abc");
    let answer = exchange(&mut world, raw);
    assert_eq!((answer[0].flags, answer[0].seq), (Flags::RST, Seq(77)));
    world.raws[raw].send_exactly(Seq(5), Seq(0), Flags::FIN, b"abc");
    let answer = exchange(&mut world, raw);
    assert_eq!((answer[0].flags, answer[0].ack), (Flags::RST.with(Flags::ACK), Seq(9)));
    world.raws[raw].send_exactly(Seq(5), Seq(77), Flags::RST, &[]);
    assert!(exchange(&mut world, raw).is_empty(), "no RST for an RST");
}

/// A SYN that comes again is answered by the same SYN-ACK.
#[test]
fn a_repeated_syn_is_answered_again() {
    let mut world = World::mirrored(Settings::default());
    let raw = world.raw(ECHO);
    let seq = world.raws[raw].snd_nxt;
    world.raws[raw].send_at(seq, Flags::SYN, &[]);
    let first = exchange(&mut world, raw);
    world.raws[raw].send_at(seq, Flags::SYN, &[]);
    let second = exchange(&mut world, raw);
    assert_eq!((first.len(), second.len()), (1, 1));
    assert_eq!((first[0].seq, first[0].ack), (second[0].seq, second[0].ack));
}

/// RFC 9293 3.10.7.4: whoever does not know our number cannot open, nor send a byte.
#[test]
fn an_unacceptable_ack_in_syn_received_opens_nothing() {
    let mut world = World::mirrored(Settings::default());
    let raw = world.raw(ECHO);
    world.raws[raw].send(Flags::SYN, &[]);
    let answer = exchange(&mut world, raw);
    let iss = answer[0].seq;
    for wrong in [iss, iss - 1, iss - 30_000, iss + 2, iss + 30_000] {
        let seq = world.raws[raw].snd_nxt;
        world.raws[raw].send_exactly(seq, wrong, Flags::ACK, b"evil");
        let answer = exchange(&mut world, raw);
        assert!(answer.iter().all(|heard| heard.payload.is_empty()), "{wrong:?} {answer:?}");
    }
    world.raws[raw].send(Flags::ACK, b"good");
    let answer = exchange(&mut world, raw);
    assert_eq!(answer.concat_payload(), b"good");
}

/// RFC 4987 3.6: beyond the backlog no state is kept; the answer to a cookie opens.
#[test]
fn cookies_hold_no_state_and_open() {
    let mut world = World::mirrored(Settings { flows_max: 4, ..Settings::default() });
    for _ in 0..6 {
        let raw = world.raw(ECHO);
        world.raws[raw].send(Flags::SYN, &[]);
        assert_eq!(exchange(&mut world, raw).len(), 1);
    }
    assert_eq!(world.nodes[0].stack().slots().count(), 2);
    world.raws[5].send(Flags::ACK, b"hello");
    let answer = exchange(&mut world, 5);
    assert_eq!(answer.concat_payload(), b"hello");
    // A guess does not open.
    world.raws[4].rcv_nxt += 1;
    world.raws[4].send(Flags::ACK, b"hello");
    let answer = exchange(&mut world, 4);
    assert!(answer.iter().all(|heard| heard.flags.has(Flags::RST)));
}

/// ICMP echo (RFC 792) and ARP (RFC 826) are answered by the owner alone.
#[test]
fn the_owner_answers_echo_requests() {
    let mut world = World::mirrored(Settings::default());
    let mac = world.neighbor().expect("announced");
    let mut frame = Vec::from(mac);
    frame.extend_from_slice(&[2, 1, 0, 0, 0, 9, 8, 0]);
    frame.extend_from_slice(&[0x45, 0, 0, 36, 0, 0, 0, 0, 64, 1, 0, 0, 10, 1, 0, 9, 10, 0, 0, 100]);
    let sum = !checksum(&frame[14..34]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame.extend_from_slice(&[8, 0, 0, 0, 0x12, 0x34, 0, 7, 1, 2, 3, 4, 5, 6, 7, 8]);
    let sum = !checksum(&frame[34..50]);
    frame[36..38].copy_from_slice(&sum.to_be_bytes());
    world.send_request(frame);
    world.run_for(Duration::from_millis(1));
    assert_eq!(world.pongs, [(0x1234, 7)]);
}

fn checksum(bytes: &[u8]) -> u16 {
    let sum: u32 = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    (sum & 0xffff) as u16 + (sum >> 16) as u16
}

trait Payload {
    fn concat_payload(&self) -> Vec<u8>;
}

impl Payload for Vec<Heard> {
    fn concat_payload(&self) -> Vec<u8> {
        self.iter().flat_map(|heard| heard.payload.clone()).collect()
    }
}
