//! Selective acknowledgements: RFC 2018, and data out of order: RFC 9293 SHLD-31.

use super::desk::{BOTH, Desk, Family, Offer, PLAIN, Say, Setup, generate, payload, sack};
use stack::app::AppConfig;
use stack::tcp::reassembly::RANGES_MAX;
use stack::wire::Flags;

/// More holes than one flow may have.
const HOLES: u32 = RANGES_MAX as u32 + 8;
const SELECTIVE: Offer = Offer { sack: true, ..PLAIN };

fn echo(family: Family, offer: Offer) -> Desk {
    Desk::connected(Setup::new(family, AppConfig::Echo), offer)
}

/// RFC 9293 SHLD-31, MAY-13: what arrives out of order is kept, and answered at once.
#[test]
fn shld_31_out_of_order_data_is_kept() {
    for family in BOTH {
        let mut desk = echo(family, PLAIN);
        let start = desk.snd_nxt;
        for at in [12, 4, 8] {
            let answer = desk.say_at(start + at, Flags::ACK, &[b'a' + at as u8; 4]);
            assert_eq!((answer.len(), answer[0].ack), (1, start));
            assert!(answer[0].sack.is_empty(), "not agreed on");
        }
        let answer = desk.say_at(start, Flags::ACK, b"AAAA");
        assert_eq!(payload(&answer), b"AAAAeeeeiiiimmmm");
        assert_eq!(answer.last().expect("answered").ack, start + 16);
    }
}

/// RFC 5681 4.2: what comes behind a hole, and what fills it, is acknowledged at once and whole: nothing of a
/// stream is held back there, or its sender would take it for lost as well.
#[test]
fn nothing_is_held_back_at_a_hole() {
    const FULL: u32 = 1000;
    let full = [7; FULL as usize];
    let mut desk = Desk::connected(Setup::new(Family::V4, AppConfig::Discard), SELECTIVE);
    let start = desk.snd_nxt;
    for n in 0..4 {
        desk.say_at(start + n * FULL, Flags::ACK, &full);
    }
    let answer = desk.say_at(start + 5 * FULL, Flags::ACK, &full);
    assert_eq!((answer.len(), answer[0].ack), (1, start + 4 * FULL));
    assert_eq!(answer[0].sack, [(start + 5 * FULL, start + 6 * FULL)]);
    let answer = desk.say_at(start + 4 * FULL, Flags::ACK, &full);
    assert_eq!((answer.len(), answer[0].ack), (1, start + 6 * FULL));
}

/// RFC 2018 3, 4: the block that holds the newest segment first, then the others; three beside
/// timestamps, else four.
#[test]
fn the_newest_block_comes_first() {
    for (timestamps, most) in [(Some(5), 3), (None, 4)] {
        let mut desk = echo(Family::V4, Offer { timestamps, ..SELECTIVE });
        let start = desk.snd_nxt;
        for (count, n) in [1u32, 2, 3, 5, 4].into_iter().enumerate() {
            let at = start + 100 * n;
            let answer = desk.say_at(at, Flags::ACK, &[9; 10]);
            assert_eq!(answer[0].sack[0], (at, at + 10));
            assert_eq!(answer[0].sack.len(), (count + 1).min(most));
        }
        let answer = desk.say_at(start + 110, Flags::ACK, &[9; 20]);
        assert_eq!(answer[0].sack[0], (start + 100, start + 130), "the whole block");
        assert_eq!(answer[0].sack.len(), most);
        // RFC 2018 4: no block lies below SEG.ACK.
        let answer = desk.say_at(start, Flags::ACK, &[9; 100]);
        let last = answer.last().expect("answered");
        assert_eq!(last.ack, start + 130);
        assert!(last.sack.iter().all(|(from, _)| from.after(last.ack)));
    }
}

/// Holes are bounded: what needs one more is dropped as if it had been lost, and nothing else
/// suffers.
#[test]
fn holes_are_bounded() {
    let mut desk = echo(Family::V4, SELECTIVE);
    let start = desk.snd_nxt;
    for n in 0..HOLES {
        desk.say_at(start + 10 + 20 * n, Flags::ACK, &[2; 10]);
    }
    let mut seq = start;
    while seq.before(start + 20 * HOLES) {
        desk.say_at(seq, Flags::ACK, &[2; 50]);
        seq += 50;
    }
    desk.snd_nxt = start + 20 * HOLES;
    desk.wait_ms(100);
    desk.say(Flags::ACK, &[]);
    assert_eq!(desk.received, vec![2; 20 * HOLES as usize]);
    assert_eq!(desk.stack.env.reassembly.used(), 0);
}

/// RFC 2018 5, RFC 6675: what was reported is not sent again; what lies below three reported
/// segments is, once.
#[test]
fn the_hole_is_sent_again_and_nothing_else() {
    for family in BOTH {
        let mut desk = Desk::with(Setup::new(family, generate(9000, true)));
        desk.syn(SELECTIVE);
        let first = desk.say(Flags::ACK, &[]);
        let (una, end) = (first[0].seq, first[8].seq + 1000);
        desk.wait_ms(20);
        let mut again = Vec::new();
        for n in 2..=9 {
            let options = sack(&[(una + 1000, una + 1000 * n)]);
            let say = Say { ack: una, options, ..desk.segment(Flags::ACK, &[]) };
            again.extend(desk.hear(say));
        }
        assert_eq!(end, una + 9000);
        assert_eq!(again.len(), 1, "{again:?}");
        assert_eq!((again[0].seq, again[0].payload.len()), (una, 1000));
    }
}

/// RFC 2018 5.1, 8: blocks are advice: nonsense in them is ignored, and what was reported is kept
/// until it is acknowledged.
#[test]
fn nonsense_blocks_are_ignored() {
    let mut desk = Desk::with(Setup::new(Family::V4, generate(5000, true)));
    desk.syn(SELECTIVE);
    let una = desk.say(Flags::ACK, &[])[0].seq;
    for block in [
        (una + 90_000, una + 91_000),
        (una + 2000, una + 1000),
        (una - 5000, una - 4000),
        (una + 1000, una + 1000),
        (una - 10, una + 0x7fff_0000),
    ] {
        let say = Say { ack: una, options: sack(&[block]), ..desk.segment(Flags::ACK, &[]) };
        desk.hear(say);
    }
    // Everything was reported and then forgotten by the client: it still comes again.
    let options = sack(&[(una + 1000, una + 5000)]);
    let say = Say { ack: una, options, ..desk.segment(Flags::ACK, &[]) };
    desk.hear(say);
    let mut again = desk.wait_ms(2_000);
    for n in 1..5 {
        again.extend(desk.acknowledge(una + 1000 * n));
        again.extend(desk.wait_ms(2_000));
    }
    for n in 0..5 {
        assert!(again.iter().any(|heard| heard.seq == una + 1000 * n), "segment {n}");
    }
}
