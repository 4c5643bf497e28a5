//! Receiving: RFC 9293 3.10.7.4, RFC 5961, RFC 7323 5, RFC 2018.

use stack::seq::Seq;
use stack::time::Duration;
use stack::wire::Flags;
use tests::kit::raw::Heard;
use tests::kit::settings::{ECHO, Settings};
use tests::kit::world::World;

fn connected(world: &mut World) -> usize {
    let raw = world.raw(ECHO);
    world.raws[raw].options.mss = Some(1460);
    world.raws[raw].options.sack_permitted = true;
    world.raws[raw].options.timestamps = Some((100, 0));
    world.raws[raw].send(Flags::SYN, &[]);
    world.raws[raw].options =
        stack::wire::SegmentOptions { timestamps: Some((101, 0)), ..Default::default() };
    exchange(world, raw);
    world.raws[raw].send(Flags::ACK, &[]);
    exchange(world, raw);
    raw
}

fn exchange(world: &mut World, raw: usize) -> Vec<Heard> {
    world.send_raw(raw);
    world.run_for(Duration::from_millis(2));
    world.raws[raw].heard.drain(..).collect()
}

/// RFC 2018 4: what lies beyond a hole is reported, the newest block first.
#[test]
fn what_lies_beyond_a_hole_is_sacked_and_kept() {
    let mut world = World::mirrored(Settings::default());
    let raw = connected(&mut world);
    let start = world.raws[raw].snd_nxt;
    world.raws[raw].send_at(start + 10, Flags::ACK, b"cccc");
    let answer = exchange(&mut world, raw);
    assert_eq!(answer[0].ack, start);
    assert_eq!(answer[0].options.sack[0], Some((start + 10, start + 14)));
    world.raws[raw].send_at(start + 20, Flags::ACK, b"dddd");
    let answer = exchange(&mut world, raw);
    assert_eq!(answer[0].options.sack[0], Some((start + 20, start + 24)));
    assert_eq!(answer[0].options.sack[1], Some((start + 10, start + 14)));
    world.raws[raw].send_at(start, Flags::ACK, b"aaaaabbbbb");
    let answer = exchange(&mut world, raw);
    let echoed: Vec<u8> = answer.iter().flat_map(|heard| heard.payload.clone()).collect();
    assert_eq!(echoed, b"aaaaabbbbbcccc");
    assert_eq!(answer.last().expect("answered").ack, start + 14);
}

/// RFC 9293 3.10.7.4: an old segment is answered with an ACK and changes nothing.
#[test]
fn old_and_alien_segments_are_answered_with_an_ack() {
    let mut world = World::mirrored(Settings::default());
    let raw = connected(&mut world);
    world.raws[raw].send(Flags::ACK, b"hello");
    exchange(&mut world, raw);
    let next = world.raws[raw].snd_nxt;
    for seq in [next - 5, next - 60_000, next + 200_000, next + 0x7000_0000] {
        world.raws[raw].send_at(seq, Flags::ACK, b"again");
        let answer = exchange(&mut world, raw);
        assert_eq!(answer.len(), 1, "{seq:?}: {answer:?}");
        assert_eq!((answer[0].ack, answer[0].payload.len()), (next, 0));
    }
}

/// RFC 5961 3.2: a reset must be exact; one in the window is questioned, any other ignored.
#[test]
fn only_an_exact_reset_ends_a_connection() {
    let mut world = World::mirrored(Settings::default());
    let raw = connected(&mut world);
    let next = world.raws[raw].snd_nxt;
    world.raws[raw].send_at(next + 100, Flags::RST, &[]);
    let answer = exchange(&mut world, raw);
    assert_eq!((answer.len(), answer[0].flags, answer[0].ack), (1, Flags::ACK, next));
    world.raws[raw].send_at(next + 5_000_000, Flags::RST, &[]);
    assert!(exchange(&mut world, raw).is_empty());
    assert_eq!(world.nodes[0].stack().slots().count(), 1);
    world.raws[raw].send_at(next, Flags::RST, &[]);
    assert!(exchange(&mut world, raw).is_empty());
    assert_eq!(world.nodes[0].stack().slots().count(), 0);
    assert_eq!(world.nodes[1].stack().slots().count(), 0, "the peer knows");
}

/// RFC 5961 4.2: a SYN in a connection is questioned.
#[test]
fn a_syn_in_a_connection_is_questioned() {
    let mut world = World::mirrored(Settings::default());
    let raw = connected(&mut world);
    let next = world.raws[raw].snd_nxt;
    world.raws[raw].send_at(next, Flags::SYN, &[]);
    let answer = exchange(&mut world, raw);
    assert_eq!((answer.len(), answer[0].flags, answer[0].ack), (1, Flags::ACK, next));
}

/// RFC 7323 5.3: a segment with an older timestamp is answered and dropped.
#[test]
fn a_segment_with_an_old_timestamp_is_dropped() {
    let mut world = World::mirrored(Settings::default());
    let raw = connected(&mut world);
    world.raws[raw].options.timestamps = Some((200, 0));
    world.raws[raw].send(Flags::ACK, b"new");
    exchange(&mut world, raw);
    let next = world.raws[raw].snd_nxt;
    world.raws[raw].options.timestamps = Some((150, 0));
    world.raws[raw].send_at(next, Flags::ACK, b"old");
    let answer = exchange(&mut world, raw);
    assert_eq!((answer.len(), answer[0].ack, answer[0].payload.len()), (1, next, 0));
}

/// RFC 9293 SHLD-19, MUST-40: every second full segment is acknowledged, the last one within 500
/// ms.
#[test]
fn must_40_acknowledgements_are_delayed_but_not_for_long() {
    let mut world = World::mirrored(Settings::default());
    let raw = world.raw(tests::kit::settings::DISCARD);
    world.raws[raw].send(Flags::SYN, &[]);
    exchange(&mut world, raw);
    world.raws[raw].send(Flags::ACK, &[]);
    exchange(&mut world, raw);
    for _ in 0..3 {
        world.raws[raw].send(Flags::ACK, &[7; 1000]);
    }
    let answer = exchange(&mut world, raw);
    assert!(!answer.is_empty(), "two segments are acknowledged at once");
    world.run_for(Duration::from_millis(100));
    let last = world.raws[raw].heard.back().cloned().or(answer.last().cloned());
    assert_eq!(last.map(|heard| heard.ack), Some(world.raws[raw].snd_nxt));
}

/// RFC 5961 7, and no storm between two ends that find each other unacceptable.
#[test]
fn answers_that_prove_nothing_are_limited() {
    let mut world = World::mirrored(Settings::default());
    let raw = connected(&mut world);
    let mut answers = 0;
    for _ in 0..200 {
        world.raws[raw].send_exactly(Seq(1), Seq(1), Flags::ACK, &[]);
        answers += exchange(&mut world, raw).len();
    }
    assert!((1..=12).contains(&answers), "{answers} answers in 400 ms");
}
