//! What arrives twice is reported: RFC 2883. And reports ride on data: RFC 2018 3.
//!
//! That a report waits for the peer is shown in `scenario/gate.rs`.

use super::desk::{BOTH, Desk, Family, Heard, Offer, PLAIN, Say, Setup, payload};
use stack::app::AppConfig;
use stack::seq::Seq;
use stack::wire::Flags;

const SELECTIVE: Offer = Offer { sack: true, ..PLAIN };

fn desk(family: Family, offer: Offer) -> Desk {
    Desk::connected(Setup::new(family, AppConfig::Discard), offer)
}

/// The blocks of the one answer.
fn blocks(answer: &[Heard]) -> Vec<(Seq, Seq)> {
    assert_eq!(answer.len(), 1, "{answer:?}");
    answer[0].sack.clone()
}

/// RFC 2883 4.1.1: a segment that was acknowledged comes again; it is reported once.
#[test]
fn rfc2883_a_repeated_segment_is_reported_once() {
    for family in BOTH {
        let mut desk = desk(family, SELECTIVE);
        let start = desk.snd_nxt;
        desk.say(Flags::ACK, &[1; 500]);
        desk.say(Flags::ACK, &[2; 500]);
        let answer = desk.say_at(start + 500, Flags::ACK, &[2; 500]);
        assert_eq!(answer[0].ack, start + 1000);
        assert_eq!(blocks(&answer), [(start + 500, start + 1000)]);
        // A window probe asks for an answer; nothing is left to report.
        assert!(blocks(&desk.say_at(start + 999, Flags::ACK, &[])).is_empty());
    }
}

/// RFC 2883 4.1.2: the duplicate first, then what lies beyond the hole.
#[test]
fn rfc2883_a_duplicate_below_beside_a_hole() {
    let mut desk = desk(Family::V4, SELECTIVE);
    let start = desk.snd_nxt;
    desk.say(Flags::ACK, &[1; 500]);
    let kept = (start + 1000, start + 1500);
    assert_eq!(blocks(&desk.say_at(kept.0, Flags::ACK, &[3; 500])), [kept]);
    let answer = desk.say_at(start, Flags::ACK, &[1; 500]);
    assert_eq!(answer[0].ack, start + 500);
    assert_eq!(blocks(&answer), [(start, start + 500), kept]);
}

/// RFC 2883 4.1.3: a duplicate of data that is kept: the second block is the whole that it lies in,
/// though another is newer.
#[test]
fn rfc2883_a_duplicate_within_a_block() {
    let mut desk = desk(Family::V4, SELECTIVE);
    let start = desk.snd_nxt;
    for at in [500, 1000, 1500, 3000] {
        desk.say_at(start + at, Flags::ACK, &[3; 500]);
    }
    let answer = desk.say_at(start + 1000, Flags::ACK, &[3; 500]);
    assert_eq!(
        blocks(&answer),
        [(start + 1000, start + 1500), (start + 500, start + 2000), (start + 3000, start + 3500)]
    );
}

/// RFC 2883 4.2: a segment of which a part is new: the other part is reported, the first if there are two.
#[test]
fn rfc2883_partial_duplicates() {
    let mut below = desk(Family::V4, SELECTIVE);
    let start = below.snd_nxt;
    below.say(Flags::ACK, &[1; 500]);
    let answer = below.say_at(start + 200, Flags::ACK, &[1; 600]);
    assert_eq!(answer[0].ack, start + 800);
    assert_eq!(blocks(&answer), [(start + 200, start + 500)]);

    let mut above = desk(Family::V4, SELECTIVE);
    let start = above.snd_nxt;
    above.say_at(start + 500, Flags::ACK, &[1; 100]);
    above.say_at(start + 800, Flags::ACK, &[1; 100]);
    let answer = above.say_at(start + 550, Flags::ACK, &[1; 300]);
    assert_eq!(
        blocks(&answer),
        [(start + 550, start + 600), (start + 500, start + 900)],
        "of two duplicates the first"
    );
}

/// RFC 2883: only what was really received is reported, and only to whom it was agreed with.
#[test]
fn rfc2883_what_is_no_duplicate() {
    let mut unasked = desk(Family::V4, PLAIN);
    let start = unasked.snd_nxt;
    unasked.say(Flags::ACK, &[1; 500]);
    assert!(blocks(&unasked.say_at(start, Flags::ACK, &[1; 500])).is_empty(), "not agreed on");

    let mut asked = desk(Family::V4, SELECTIVE);
    let start = asked.snd_nxt;
    asked.say(Flags::ACK, &[1; 500]);
    for below in [start - 1000, start - 100_000, start - 0x7000_0000] {
        assert!(blocks(&asked.say_at(below, Flags::ACK, &[1; 500])).is_empty(), "never received");
    }
    // A keep-alive probe carries one octet below RCV.NXT, which was received.
    assert_eq!(blocks(&asked.say_at(start + 499, Flags::ACK, &[0])), [(start + 499, start + 500)]);
}

/// RFC 7323 5.3, RFC 2883: a copy that the network held up is answered for what it is.
#[test]
fn rfc2883_a_delayed_original_is_reported() {
    let mut desk = desk(Family::V4, Offer { timestamps: Some(1000), ..SELECTIVE });
    let start = desk.snd_nxt;
    desk.tsval = Some(2000);
    desk.say(Flags::ACK, &[1; 500]);
    desk.say(Flags::ACK, &[1; 500]);
    desk.tsval = Some(1500);
    let answer = desk.say_at(start, Flags::ACK, &[1; 500]);
    assert_eq!(blocks(&answer), [(start, start + 500)]);
}

/// RFC 2018 3: an echo with a hole in its input reports it on its data, and every segment still fits.
#[test]
fn rfc2018_blocks_ride_on_data() {
    for (timestamps, most) in [(Some(5), 3), (None, 4)] {
        let offer = Offer { timestamps, ..SELECTIVE };
        let mut desk = Desk::connected(Setup::new(Family::V4, AppConfig::Echo), offer);
        let una = desk.rcv_nxt;
        let start = desk.snd_nxt;
        for n in 1..6u32 {
            desk.say_at(start + 2000 + 200 * n, Flags::ACK, &[9; 100]);
        }
        // What is before the hole comes back.
        let first = Say { ack: una, ..desk.segment(Flags::ACK, &[7; 1000]) };
        let mut answer = desk.hear(first);
        desk.snd_nxt += 1000;
        let second = Say { ack: una, ..desk.segment(Flags::ACK, &[8; 1000]) };
        desk.snd_nxt += 1000;
        answer.extend(desk.hear(second));
        assert_eq!(payload(&answer).len(), 2000);
        let data: Vec<&Heard> = answer.iter().filter(|heard| !heard.payload.is_empty()).collect();
        for heard in &data {
            assert_eq!(heard.sack.len(), most, "{heard:?}");
            assert_eq!(heard.sack[0], (start + 3000, start + 3100), "the newest first");
            let stamps = if timestamps.is_some() { 12 } else { 0 };
            assert!(heard.payload.len() + stamps + 4 + 8 * most <= 1000, "{heard:?}");
        }
        assert!(data.len() >= 3);
        // A repetition is as long as it was: it carries what fits.
        let again = desk.wait_ms(1500);
        let again: Vec<&Heard> = again.iter().filter(|heard| heard.seq == una).collect();
        assert_eq!(again[0].payload, data[0].payload);
        assert_eq!(again[0].sack.len(), most);
    }
}
