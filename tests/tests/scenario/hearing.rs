//! A peer that hears what clients say to the owner.

use cluster::engine::HearingCounters;
use cluster::id::Epoch;
use cluster::limits::{HEARD_FRAMES_MAX, HEARD_SYNS_MAX, HEARD_TIME_MAX};
use stack::time::Duration;
use stack::wire::Flags;
use tests::kit::raw::Heard;
use tests::kit::settings::{ECHO, HTTP, Settings};
use tests::kit::world::World;

/// A world in which the peer hears everything, or nothing.
fn world(overheard: u64) -> World {
    World::mirrored(Settings { overheard, ..Settings::default() })
}

fn promote(world: &mut World) {
    world.promote(1, Epoch(3));
    world.run_for(Duration::from_millis(1));
}

fn payload(heard: &[Heard]) -> Vec<u8> {
    heard.iter().flat_map(|heard| heard.payload.clone()).collect()
}

fn counters(world: &World) -> HearingCounters {
    world.nodes[1].engines[0].hearing_counters()
}

/// The case for which mirroring alone is not enough: a small request is on the wire when its owner dies.
#[test]
fn a_request_to_a_dead_owner_is_answered_without_being_said_again() {
    for (overheard, answer) in [(0, &b""[..]), (1000, b"a small request")] {
        let mut world = world(overheard);
        let raw = world.open_raw(ECHO);
        world.kill(0);
        world.say_raw(raw, Flags::ACK, b"a small request");
        world.run_for(Duration::from_millis(30));
        assert_eq!(world.raws[raw].take_all(), [], "a peer says nothing");
        promote(&mut world);
        let said = world.raws[raw].take_all();
        assert_eq!(payload(&said), answer);
        assert_eq!(counters(&world).used, overheard / 1000);
        assert_eq!((world.repeats, world.resets), (0, 0));
    }
}

/// What the owner had taken and acknowledged is held by the log; what it had taken and not told is heard.
#[test]
fn a_request_that_the_owner_took_and_never_told_is_answered_too() {
    let mut world = world(1000);
    let raw = world.open_raw(ECHO);
    world.say_raw(raw, Flags::ACK, b"taken");
    // It arrives, and the owner dies before its record has.
    world.run_for(Duration::from_micros(110));
    world.kill(0);
    world.run_for(Duration::from_millis(30));
    world.raws[raw].take_all();
    promote(&mut world);
    let said = world.raws[raw].take_all();
    assert_eq!(payload(&said), b"taken");
    assert_eq!(said[0].ack, world.raws[raw].snd_nxt);
}

#[test]
fn a_connection_begun_in_the_outage_is_accepted_at_once() {
    let mut world = world(1000);
    world.kill(0);
    let raw = world.raw(HTTP);
    world.raws[raw].options.mss = Some(1460);
    world.say_raw(raw, Flags::SYN, &[]);
    world.run_for(Duration::from_millis(30));
    assert_eq!(world.raws[raw].take_all(), []);
    promote(&mut world);
    let said = world.raws[raw].take_all();
    assert!(said.len() == 1 && said[0].flags.has(Flags::SYN), "{said:?}");
}

/// The peer that heard a whole dialogue holds all of it by the log: it repeats nothing and answers nothing twice.
#[test]
fn what_the_log_has_told_is_not_used_again() {
    let mut world = world(1000);
    let raw = world.open_raw(ECHO);
    for _ in 0..20 {
        world.say_raw(raw, Flags::ACK, &[7; 100]);
        world.run_for(Duration::from_millis(1));
        let said = world.raws[raw].take_all();
        assert_eq!(payload(&said).len(), 100);
    }
    world.say_raw(raw, Flags::ACK, &[]);
    world.run_for(Duration::from_millis(20));
    world.raws[raw].take_all();
    let HearingCounters { kept, covered, idle, .. } = counters(&world);
    let mut groups = world.nodes[1].engines[0].status();
    let echo = groups.find(|group| group.backup.bytes > 0).unwrap();
    assert_eq!((echo.heard_bytes, echo.backup.bytes), (2000, 2000));
    drop(groups);
    assert!(kept > 0 && covered >= 21 && idle >= 1, "{:?}", counters(&world));
    world.kill(0);
    promote(&mut world);
    let said = world.raws[raw].take_all();
    assert_eq!((said.len(), payload(&said).len()), (1, 0), "the kick alone: {said:?}");
    assert_eq!(counters(&world).used, 0);
}

#[test]
fn what_was_heard_long_ago_is_not_used() {
    let mut world = world(1000);
    let raw = world.open_raw(ECHO);
    world.kill(0);
    world.say_raw(raw, Flags::ACK, b"long ago");
    world.run_for(Duration(HEARD_TIME_MAX.0 + 1_000_000));
    promote(&mut world);
    assert_eq!(payload(&world.raws[raw].take_all()), b"");
    assert_eq!((counters(&world).used, counters(&world).expired), (0, 1));
}

/// Strangers who ask for connections in the outage have their share, and a request keeps its place.
#[test]
fn a_flood_of_requests_for_connections_displaces_nothing() {
    let mut world = world(1000);
    let raw = world.open_raw(ECHO);
    world.kill(0);
    world.say_raw(raw, Flags::ACK, b"still here");
    for _ in 0..3 * HEARD_SYNS_MAX {
        let stranger = world.raw(ECHO);
        world.say_raw(stranger, Flags::SYN, &[]);
    }
    world.run_for(Duration::from_millis(30));
    assert_eq!(counters(&world).displaced, 2 * HEARD_SYNS_MAX as u64, "older ones of their kind");
    promote(&mut world);
    assert_eq!(payload(&world.raws[raw].take_all()), b"still here");
}

/// What no copy would take is not kept: of no connection, or far beyond the window.
#[test]
fn a_flood_of_other_segments_displaces_nothing() {
    let mut world = world(1000);
    let raw = world.open_raw(ECHO);
    world.kill(0);
    world.say_raw(raw, Flags::ACK, b"still here");
    let stranger = world.raw(ECHO);
    for n in 0..2 * HEARD_FRAMES_MAX as u32 {
        world.say_raw(stranger, Flags::ACK, b"from nowhere");
        let snd_nxt = world.raws[raw].snd_nxt;
        world.raws[raw].snd_nxt = snd_nxt + (1 << 20) + n;
        world.say_raw(raw, Flags::ACK, b"far away");
        world.raws[raw].snd_nxt = snd_nxt;
    }
    world.run_for(Duration::from_millis(30));
    assert_eq!(counters(&world).strangers, 4 * HEARD_FRAMES_MAX as u64);
    promote(&mut world);
    assert_eq!(payload(&world.raws[raw].take_all()), b"still here");
}

/// The owner may have answered a SYN that the log knows nothing of by a cookie: who takes over must not contradict it.
#[test]
fn a_heard_syn_is_answered_by_a_cookie() {
    let mut world = world(1000);
    world.kill(0);
    let raw = world.raw(HTTP);
    world.raws[raw].options.mss = Some(1460);
    world.say_raw(raw, Flags::SYN, &[]);
    world.run_for(Duration::from_millis(30));
    promote(&mut world);
    assert_eq!(world.raws[raw].take_all().len(), 1);
    let stack = world.nodes[1].engines[0].stack();
    assert_eq!((stack.counters().cookies_sent, stack.slots().count()), (1, 0));
    world.raws[raw].options.mss = None;
    world.say_raw(raw, Flags::ACK, b"GET /generate/10 HTTP/1.1\r\nHost: x\r\n\r\n");
    world.run_for(Duration::from_millis(1));
    assert!(payload(&world.raws[raw].take_all()).starts_with(b"HTTP/1.1 200"));
}

/// The network may bring a SYN twice, and only the first one before the promotion. An answer with another number than the
/// cookie's would have whoever acknowledges the cookie reset.
#[test]
fn a_syn_that_was_answered_by_a_cookie_is_answered_by_it_again() {
    let mut world = world(1000);
    world.kill(0);
    let raw = world.raw(HTTP);
    let first = world.raws[raw].snd_nxt;
    world.raws[raw].options.mss = Some(1460);
    world.say_raw(raw, Flags::SYN, &[]);
    world.run_for(Duration::from_millis(30));
    promote(&mut world);
    world.raws[raw].send_at(first, Flags::SYN, &[]);
    world.send_raw(raw);
    world.run_for(Duration::from_millis(1));
    let said = world.raws[raw].take_all();
    assert!(said.len() == 2 && said[0].seq == said[1].seq, "{said:?}");
    world.raws[raw].options.mss = None;
    world.say_raw(raw, Flags::ACK, b"GET /generate/10 HTTP/1.1\r\nHost: x\r\n\r\n");
    world.run_for(Duration::from_millis(1));
    assert!(payload(&world.raws[raw].take_all()).starts_with(b"HTTP/1.1 200"));
    assert_eq!(world.resets, 0);
}

/// Frames reach any core, so data may overtake the segment that shows the cookie: it is not reset, and opens nothing.
#[test]
fn data_that_overtakes_the_answer_to_a_cookie_is_not_reset() {
    let mut world = world(1000);
    world.kill(0);
    let raw = world.raw(ECHO);
    world.raws[raw].options.mss = Some(1460);
    world.say_raw(raw, Flags::SYN, &[]);
    world.run_for(Duration::from_millis(30));
    promote(&mut world);
    world.raws[raw].take_all();
    world.raws[raw].options.mss = None;
    let first = world.raws[raw].snd_nxt;
    world.raws[raw].send_at(first + 5, Flags::ACK, b" later");
    world.send_raw(raw);
    world.run_for(Duration::from_millis(1));
    assert!(world.raws[raw].take_all().is_empty(), "neither an answer nor a reset");
    // All of it was lost, and a client says it again after a second (RFC 6298 2.1).
    world.run_for(Duration::from_millis(1_050));
    world.raws[raw].send_at(first + 5, Flags::ACK, b" later");
    world.send_raw(raw);
    world.run_for(Duration::from_millis(1));
    assert!(world.raws[raw].take_all().is_empty(), "nor when it is said again");
    world.raws[raw].send_at(first, Flags::ACK, b"first");
    world.send_raw(raw);
    world.raws[raw].send_at(first + 5, Flags::ACK, b" later");
    world.send_raw(raw);
    world.run_for(Duration::from_millis(1));
    assert_eq!(payload(&world.raws[raw].take_all()), b"first later");
}

/// Whoever has handed its connections over listens in turn.
#[test]
fn the_former_owner_listens_after_a_handover() {
    let mut world = world(1000);
    let raw = world.open_raw(ECHO);
    assert!(world.swap(0, Epoch(2), 1));
    world.run_for(Duration::from_millis(5));
    world.raws[raw].take_all();
    world.kill(1);
    world.send_raw(raw);
    world.say_raw(raw, Flags::ACK, b"to whom it was handed");
    world.run_for(Duration::from_millis(30));
    assert_eq!(payload(&world.raws[raw].take_all()), b"");
    world.promote(0, Epoch(4));
    world.run_for(Duration::from_millis(1));
    assert_eq!(payload(&world.raws[raw].take_all()), b"to whom it was handed");
    assert_eq!(world.nodes[0].engines[0].hearing_counters().used, 1);
}

/// Clients speak to the former owner's hardware address until they have learnt the new one.
#[test]
fn what_is_heard_just_after_a_takeover_is_handled_at_once() {
    let mut world = world(1000);
    let raw = world.open_raw(ECHO);
    world.kill(0);
    world.run_for(Duration::from_millis(30));
    promote(&mut world);
    world.raws[raw].take_all();
    world.raws[raw].send(Flags::ACK, b"to the dead");
    world.send_raw_to(raw, 0);
    world.run_for(Duration::from_millis(1));
    assert_eq!(payload(&world.raws[raw].take_all()), b"to the dead");
}

/// A reset that only the peer heard ends the connection there.
#[test]
fn a_reset_is_heard() {
    let mut world = world(1000);
    let raw = world.open_raw(ECHO);
    world.kill(0);
    world.say_raw(raw, Flags::RST, &[]);
    world.run_for(Duration::from_millis(30));
    promote(&mut world);
    world.raws[raw].take_all();
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.raws[raw].take_all(), [], "nobody is asked whether he lives");
    assert_eq!(world.nodes[1].engines[0].stack().slots().count(), 0);
}
