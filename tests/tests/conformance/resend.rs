//! Retransmission and congestion control as a client sees them: RFC 9293 3.8.1 to 3.8.3, RFC 5681,
//! 6298, 6928.

use super::desk::{BOTH, Desk, Family, Heard, Offer, PLAIN, Say, Setup, generate};
use stack::seq::Seq;
use stack::wire::Flags;

fn downloading(family: Family, len: u64, offer: Offer) -> (Desk, Vec<Heard>) {
    let mut desk = Desk::with(Setup::new(family, generate(len, true)));
    desk.syn(offer);
    let answer = desk.say(Flags::ACK, &[]);
    (desk, answer)
}

fn bytes(heard: &[Heard]) -> usize {
    heard.iter().map(|segment| segment.payload.len()).sum()
}

/// RFC 6928 2: ten segments to begin with, and not more than 14600 bytes with large ones.
#[test]
fn ten_segments_to_begin_with() {
    for family in BOTH {
        let (_, answer) = downloading(family, 100_000, PLAIN);
        assert_eq!((answer.len(), bytes(&answer)), (10, 10_000));
        let (_, answer) = downloading(family, 100_000, Offer { mss: Some(1440), ..PLAIN });
        assert!((10..=11).contains(&answer.len()) && bytes(&answer) <= 14_600);
    }
}

/// RFC 9293 MUST-19 (RFC 5681 3.1): slow start sends twice as much each round trip.
#[test]
fn must_19_slow_start_doubles() {
    let (mut desk, answer) = downloading(Family::V4, 1_000_000, PLAIN);
    let mut rounds = vec![bytes(&answer)];
    for _ in 0..2 {
        desk.wait_ms(50);
        let (una, end) = (desk.flow().expect("open").local.snd_una, desk.rcv_nxt);
        let (mut ack, mut sent) = (una, 0);
        while ack != end {
            ack = end.min(ack + 2000);
            sent += bytes(&desk.acknowledge(ack));
        }
        rounds.push(sent);
    }
    assert!(
        rounds.windows(2).all(|w| w[1] >= w[0] * 17 / 10 && w[1] <= w[0] * 2 + 2000),
        "{rounds:?}"
    );
}

/// RFC 9293 MUST-19, MUST-18 (RFC 6298 5): a time-out repeats the oldest segment, doubles, and
/// leads to one segment a time.
#[test]
fn must_19_time_outs_back_off() {
    for family in BOTH {
        let (mut desk, first) = downloading(family, 10_000, PLAIN);
        let sent_at = desk.now;
        let answer = desk.wait_ms(60_000);
        let una = first[0].seq;
        let times: Vec<u64> = answer
            .iter()
            .filter(|heard| heard.seq == una)
            .map(|heard| heard.at.since(sent_at).millis())
            .collect();
        assert!(times.len() >= 5 && times[0] >= 200, "{times:?}");
        assert!(times.windows(3).all(|w| w[2] - w[1] >= (w[1] - w[0]) * 19 / 10), "{times:?}");
        assert!(answer.iter().all(|heard| heard.seq == una), "nothing but the oldest");
    }
}

/// RFC 9293 MUST-20, MUST-21, SHLD-10, SHLD-11: at R2, which is a setting of 180 s, the connection
/// is closed and the client is told.
#[test]
fn must_20_a_silent_client_is_given_up() {
    let (mut desk, _) = downloading(Family::V4, 10_000, PLAIN);
    let begun = desk.now;
    let answer = desk.wait_ms(1_000_000);
    let last = answer.last().expect("repeated");
    assert!(last.flags.has(Flags::RST) && answer.len() > 4);
    let after = last.at.since(begun).millis();
    assert!((100_000..=400_000).contains(&after), "{after} ms");
    assert_eq!(desk.state(), None);
}

/// RFC 5681 3.2: without SACK the third duplicate ACK, and not the second, brings the lost segment
/// back.
#[test]
fn the_third_duplicate_brings_it_back() {
    let (mut desk, first) = downloading(Family::V4, 50_000, PLAIN);
    let una = first[0].seq;
    let repeats = |answer: &[Heard]| answer.iter().filter(|heard| heard.seq == una).count();
    desk.wait_ms(20);
    assert_eq!(repeats(&desk.acknowledge(una)), 0);
    assert_eq!(repeats(&desk.acknowledge(una)), 0);
    assert_eq!(repeats(&desk.acknowledge(una)), 1);
    assert_eq!(repeats(&desk.acknowledge(una)), 0, "once");
}

/// RFC 9293 3.8.1, MAY-7: what is repeated is the same bytes, whatever window the client offers by
/// then.
#[test]
fn repetitions_are_the_same_bytes() {
    let (mut desk, first) = downloading(Family::V4, 3_000, PLAIN);
    let una = first[0].seq;
    let again: Vec<Heard> = desk.wait_ms(4_000);
    let repeated = again.iter().find(|heard| heard.seq == una).expect("repeated");
    assert_eq!(repeated.payload, first[0].payload);
    let say = Say { ack: una + 1000, window: 0, ..desk.segment(Flags::ACK, &[]) };
    let mut later = desk.hear(say);
    later.extend(desk.wait_ms(20_000));
    let repeated = later.iter().find(|heard| heard.seq == una + 1000).expect("repeated");
    assert_eq!(repeated.payload, first[1].payload);
}

/// RFC 9293 3.4: the sequence numbers of a long stream wrap, ours and the client's.
#[test]
fn sequence_numbers_wrap() {
    let mut desk = Desk::with(Setup::new(Family::V6, stack::app::AppConfig::Echo));
    desk.snd_nxt = Seq(u32::MAX - 2);
    desk.open(PLAIN);
    for n in 0..10u8 {
        desk.say(Flags::ACK, &[n; 3]);
    }
    assert!(desk.snd_nxt.0 < 100);
    assert_eq!(desk.received.len(), 30);
}
