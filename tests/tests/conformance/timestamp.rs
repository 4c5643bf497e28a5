//! Timestamps and PAWS: RFC 7323 3 to 5.

use super::desk::{BOTH, Desk, Family, Offer, PLAIN, Say, Setup, generate, payload, timestamps};
use stack::app::AppConfig;
use stack::drop::Drop;
use stack::wire::Flags;

const STAMPED: Offer = Offer { timestamps: Some(1000), ..PLAIN };

fn echo(family: Family) -> Desk {
    Desk::connected(Setup::new(family, AppConfig::Echo), STAMPED)
}

/// RFC 7323 3.2: once agreed on, every segment of ours carries them, and TSval follows a clock of 1
/// ms.
#[test]
fn every_segment_is_stamped() {
    for family in BOTH {
        let mut desk = Desk::with(Setup::new(family, generate(4000, false)));
        let first = desk.syn(STAMPED)[0].timestamps.expect("stamped");
        desk.wait_ms(50);
        let mut answer = desk.say(Flags::ACK, &[]);
        let (value, echo) = answer[0].timestamps.expect("stamped");
        assert_eq!((value.wrapping_sub(first.0), echo), (50, 1000));
        answer.extend(desk.wait_ms(300_000));
        assert!(answer.iter().any(|heard| heard.flags.has(Flags::RST)));
        assert!(answer.iter().all(|heard| heard.timestamps.is_some()));
    }
}

/// RFC 7323 3.2: a segment without them is dropped in silence; an RST needs none.
#[test]
fn a_segment_without_timestamps_is_dropped() {
    let mut desk = echo(Family::V4);
    let say = Say { options: Vec::new(), ..desk.segment(Flags::ACK, b"hello") };
    assert!(desk.hear(say).is_empty());
    assert_eq!(desk.drops(Drop::BadTcp), 1);
    let say = Say { options: Vec::new(), ..desk.segment(Flags::RST, &[]) };
    desk.hear(say);
    assert_eq!(desk.state(), None);
}

/// RFC 7323 3.2: where they were not agreed on they mean nothing.
#[test]
fn unasked_timestamps_mean_nothing() {
    let mut desk = Desk::connected(Setup::new(Family::V4, AppConfig::Echo), PLAIN);
    let say = Say { options: timestamps(7, 7), ..desk.segment(Flags::ACK, b"hello") };
    let answer = desk.hear(say);
    assert_eq!((payload(&answer), answer[0].timestamps), (b"hello".to_vec(), None));
}

/// RFC 7323 4.3: TSecr is that of the segment at the left edge, not of one beyond a hole, and of
/// the oldest that a delayed ACK covers.
#[test]
fn what_is_echoed() {
    let mut desk = Desk::connected(Setup::new(Family::V4, AppConfig::Discard), STAMPED);
    let echoed = |answer: &[super::desk::Heard]| {
        answer.last().and_then(|heard| heard.timestamps).expect("stamped").1
    };
    desk.tsval = Some(1010);
    let hole = desk.snd_nxt;
    let answer = desk.say_at(hole + 100, Flags::ACK, &[1; 100]);
    assert_eq!(echoed(&answer), 1000, "beyond a hole");
    desk.tsval = Some(1020);
    let answer = desk.say_at(hole, Flags::ACK, &[1; 100]);
    assert_eq!(echoed(&answer), 1020, "it fills the hole");
    desk.snd_nxt = hole + 200;
    desk.tsval = Some(1030);
    let mut answer = desk.say(Flags::ACK, &[1; 40]);
    desk.tsval = Some(1040);
    answer.extend(desk.say(Flags::ACK, &[1; 40]));
    answer.extend(desk.wait_ms(100));
    assert_eq!(echoed(&answer), 1030, "the older of two");
}

/// RFC 7323 5.3 R1: an older segment is answered and dropped, across the wrap of the clock as well.
#[test]
fn an_old_segment_is_dropped() {
    for family in BOTH {
        let offer = Offer { timestamps: Some(0xffff_fff0), ..PLAIN };
        let mut desk = Desk::connected(Setup::new(family, AppConfig::Echo), offer);
        desk.tsval = Some(5);
        assert_eq!(payload(&desk.say(Flags::ACK, b"new")), b"new");
        let next = desk.snd_nxt;
        for old in [4, 0xffff_fff0] {
            desk.tsval = Some(old);
            let answer = desk.say_at(next, Flags::ACK, b"old");
            assert_eq!(answer.len(), 1);
            assert_eq!((answer[0].flags, answer[0].ack), (Flags::ACK, next));
        }
        assert_eq!(desk.drops(Drop::OldTimestamp), 2);
        desk.tsval = Some(5);
        assert_eq!(payload(&desk.say(Flags::ACK, b"same")), b"same");
    }
}

/// RFC 7323 5.2, 5.3: a reset is not subject to PAWS.
#[test]
fn a_reset_may_be_old() {
    let mut desk = echo(Family::V4);
    desk.tsval = Some(1);
    desk.say(Flags::RST, &[]);
    assert_eq!(desk.state(), None);
}

/// RFC 7323 5.5: after 24 days of silence an older timestamp proves nothing any more.
#[test]
fn paws_expires_after_24_days() {
    let mut desk = echo(Family::V4);
    desk.say(Flags::ACK, b"x");
    desk.say(Flags::ACK, &[]);
    desk.wait_ms(25 * 24 * 3600 * 1000);
    desk.tsval = Some(1000u32.wrapping_add(0x8000_1000));
    assert_eq!(payload(&desk.say(Flags::ACK, b"hello")), b"hello");
}

/// A flow that sleeps for months, past the range of every clock that it keeps in four bytes (71 minutes and 104
/// days): nothing of it comes alive again, and it wakes as it went to sleep.
#[test]
fn a_sleep_of_months_brings_nothing_back_to_life() {
    for days in [53, 105, 130, 209, 1_000] {
        let mut desk = echo(Family::V4);
        // Sets every deadline that an open flow has, and leaves one of each kind behind.
        let edge = desk.flow().expect("open").contract.rcv_edge;
        desk.say(Flags::ACK, b"x");
        desk.say(Flags::ACK, &[]);
        desk.say_at(edge + 5, Flags::ACK, &[]);
        let said = desk.wait_ms(days * 24 * 3600 * 1000);
        assert!(said.len() <= 2, "{days} days: {} segments", said.len());
        let flow = desk.flow().expect("nothing has ended it");
        assert_eq!(flow.local.deadlines.first(desk.now), stack::time::Instant::MAX);
        // What it was asked then is forgotten: it is answered at once.
        assert_eq!(desk.say_at(edge + 5, Flags::ACK, &[]).len(), 1);
        desk.tsval = Some(1000u32.wrapping_add(0x8000_1000));
        assert_eq!(payload(&desk.say(Flags::ACK, b"hello")), b"hello", "{days} days");
    }
}

/// RFC 7323 4.1, RFC 9293 MUST-18: the echo tells the original from its repetition, so that the
/// round trip is right.
#[test]
fn the_round_trip_is_measured_by_the_echo() {
    let mut desk = echo(Family::V4);
    desk.wait_ms(10);
    desk.say(Flags::ACK, b"hello");
    desk.wait_ms(40);
    desk.say(Flags::ACK, &[]);
    let senders = &desk.stack.env.senders;
    let srtt = desk.flow().expect("open").sender.hint(senders).srtt_us;
    assert!((1..=45_000).contains(&srtt), "{srtt}");
}
