//! Acknowledgements end to end: nobody's bytes are acknowledged before the other side has them, nobody's FIN before the
//! other side has that, and no payload crosses the cluster link.

use crate::{PROXY, assert_both_unnoticed, held, pattern, up_and_down};
use cluster::id::Epoch;
use cluster::seal::OVERHEAD_BYTES;
use stack::flow::Flow;
use stack::limits::UNA_FLUSH;
use stack::seq::Seq;
use stack::time::Duration;
use stack::wire::{Flags, SegmentOptions};
use tests::kit::client::Client;
use tests::kit::dialogue::Step;
use tests::kit::kill::{Case, assert_unnoticed};
use tests::kit::settings::Link;
use tests::kit::world::World;

/// What the server's TCP takes without being read.
const SERVER_BUFFER: usize = 3000;

/// Ethernet, IPv4, UDP.
const HEADER_BYTES: usize = 14 + 20 + 8;

/// More than every buffer on the way takes.
const MUCH: usize = 40_000;

fn is_done(world: &World) -> bool {
    world.clients.iter().all(Client::is_done)
}

fn world_after(case: &Case, time: Duration) -> World {
    let mut world = case.start();
    world.run_for(time);
    world
}

/// The server reads nothing for a while.
fn deaf_server(client: Vec<Step>) -> Case {
    let pause = Step::Pause(Duration::from_secs(3));
    let server = vec![pause, Step::Receive(MUCH), Step::End, Step::Close, Step::Gone];
    let mut case = up_and_down("the server reads nothing", client, server);
    case.servers[0].0.receive_buffer = SERVER_BUFFER;
    case.client.send_buffer = 2 * MUCH;
    case
}

#[test]
fn a_byte_is_acknowledged_when_the_other_side_has_it() {
    let client = vec![Step::Send(pattern(1, MUCH)), Step::Close, Step::End, Step::Gone];
    let case = deaf_server(client);
    let acknowledged = |case: &Case| {
        let world = world_after(case, Duration::from_secs(1));
        MUCH - world.clients[1].unacknowledged()
    };
    assert_eq!(acknowledged(&case), SERVER_BUFFER);
    let receive_buffer = case.settings.ports[0].receive_buffer as usize;
    assert!(acknowledged(&held(case.clone())) >= receive_buffer);
    assert_unnoticed(&Case { stride: 7, ..case });
}

/// A side is offered what the other one offers: nothing lies with the node that nobody will acknowledge for hours.
#[test]
fn a_window_is_that_of_the_other_side() {
    let client = vec![Step::Send(pattern(1, MUCH)), Step::Close, Step::End, Step::Gone];
    let mut case = deaf_server(client);
    // Less than the server's TCP takes before it is known what that is.
    case.settings.ports[0].receive_buffer = 2000;
    let mut world = world_after(&case, Duration::from_secs(1));
    assert_eq!(MUCH - world.clients[1].unacknowledged(), SERVER_BUFFER);
    let is_through = |flow: &Flow| flow.app.leg().is_some_and(|leg| leg.ahead.bytes == 0);
    assert!(world.nodes[0].flows().all(is_through));
    assert!(world.run_until(Duration::from_secs(60), is_done));
    assert_eq!(world.clients[0].received, pattern(1, MUCH));
}

/// A client sends what it is offered, in whole units of that, until it sees a closed window.
fn fill_window(world: &mut World, raw: usize, scale: u8) {
    let is_closed = (0..1000).any(|_| {
        let client = &world.raws[raw];
        let heard = client.heard.back().expect("it was answered");
        let edge = heard.ack + (u32::from(heard.window) << scale);
        let bytes = edge.distance(client.snd_nxt).clamp(0, 992) as usize;
        world.say_raw(raw, Flags::ACK, &vec![7; bytes]);
        world.run_for(Duration::from_millis(30));
        world.raws[raw].heard.back().is_some_and(|heard| heard.window == 0)
    });
    assert!(is_closed, "it is offered more and more");
}

/// What is left of a window is less than its scale can say, the server's word that it has read gets lost, and the client probes as
/// Linux does, by an acknowledgement before its edge.
#[test]
fn who_sees_a_closed_window_is_told_when_it_is_open() {
    const SCALE: u8 = 5;
    const READ: usize = 40_000;
    let pause = Step::Pause(Duration::from_secs(60));
    let steps = vec![Step::Receive(READ), pause, Step::Receive(2 * READ)];
    let mut case = up_and_down("a probed window", vec![], steps);
    case.dialogues.clear();
    case.settings.ports[0].receive_buffer = 0xffff << SCALE;
    case.servers[0].0.receive_buffer = 3008 + 8;
    let mut world = case.start();
    let raw = world.raw(PROXY);
    world.raws[raw].options =
        SegmentOptions { mss: Some(1460), window_scale: Some(0), ..SegmentOptions::default() };
    world.say_raw(raw, Flags::SYN, &[]);
    world.raws[raw].options = SegmentOptions::default();
    world.run_for(Duration::from_millis(5));
    fill_window(&mut world, raw, SCALE);
    let heard = world.raws[raw].heard.back().cloned().expect("an answer");
    assert_eq!(heard.ack, world.raws[raw].snd_nxt, "everything has come through");
    let is_rest = |flow: &Flow| (1..1 << SCALE).contains(&flow.contract.window());
    assert!(world.nodes[0].flows().any(is_rest), "a few bytes are left");
    let link = world.settings.client_link;
    world.settings.client_link.loss_permille = 1000;
    let sent = heard.ack.since(Seq(7_000 + 1)) as usize;
    let is_read = |world: &World| world.clients[0].received.len() == sent;
    assert!(!is_read(&world), "it rests");
    assert!(world.run_until(Duration::from_secs(100), is_read));
    world.run_for(Duration::from_millis(10));
    world.settings.client_link = link;
    world.raws[raw].heard.clear();
    let client = &mut world.raws[raw];
    client.send_exactly(client.snd_nxt - 1, client.rcv_nxt, Flags::ACK, &[]);
    world.send_raw(raw);
    world.run_for(Duration::from_millis(200));
    let windows = world.raws[raw].heard.iter().map(|heard| heard.window);
    assert_eq!(
        windows.collect::<Vec<_>>(),
        [0, (3008 + 8) >> SCALE],
        "closed, as far as is known, and then not"
    );
}

/// The server's TCP has the last byte, and the FIN has reached it; that is the last to be acknowledged.
#[test]
fn a_fin_is_acknowledged_when_the_other_side_has_it() {
    let mut case = up_and_down(
        "a half-close",
        vec![Step::Send(pattern(1, 4000)), Step::Close, Step::Receive(6000), Step::End],
        vec![Step::End, Step::Send(pattern(2, 6000)), Step::Close, Step::Gone],
    );
    // One way takes 40 ms: the client's FIN is with the node, the server's answer is not.
    case.settings.client_link = Link::clean(Duration::from_millis(40));
    let mut world = case.start();
    let is_closing = |world: &World| world.clients[1].awaits_end();
    assert!(world.run_until(Duration::from_secs(5), is_closing));
    // To the node and back: a node that holds what it is told would have answered.
    let (soon, late) = (Duration::from_millis(90), Duration::from_millis(170));
    let is_heard = |world: &World| !world.clients[1].awaits_end();
    let mut other = held(case.clone()).start();
    assert!(other.run_until(Duration::from_secs(5), is_closing));
    assert!(other.run_until(soon, is_heard), "held, a FIN is acknowledged by the node");
    assert!(!world.run_until(soon, is_heard), "nobody but the node has the FIN");
    assert!(world.run_until(late, is_heard), "the server has it");
    case.settings.client_link = Link::clean(Duration::from_millis(3));
    assert_both_unnoticed(&case);
}

/// Bytes on the cluster link, both ways, headers and seals included, for so many bytes of payload one way.
fn mirrored(case: &Case) -> usize {
    let mut world = case.start();
    world.tapped = Some(Vec::new());
    assert!(world.run_until(Duration::from_secs(60), is_done));
    let datagrams = world.tapped.take().expect("it was listened to");
    datagrams.iter().map(|(_, bytes)| bytes.len() + HEADER_BYTES + OVERHEAD_BYTES).sum()
}

#[test]
fn mirroring_costs_a_hundredth_of_the_payload() {
    const BYTES: usize = 4 << 20;
    let says = vec![Step::Send(pattern(1, BYTES)), Step::Close, Step::End, Step::Gone];
    let hears = vec![Step::Receive(BYTES), Step::End, Step::Close, Step::Gone];
    let upload = up_and_down("an upload", says.clone(), hears.clone());
    let download = up_and_down("a download", hears, says);
    for (case, delay_us) in [(&upload, 100), (&upload, 5000), (&download, 100), (&download, 5000)] {
        let mut case = case.clone();
        case.settings.split_records = false;
        case.settings.chunks_max = 4096;
        case.settings.client_link = Link::clean(Duration::from_micros(delay_us));
        // In a large table a flow is compared now and then, not every millisecond.
        case.settings.flows_max = 1 << 13;
        // As the configuration has it.
        case.settings.ports[0].receive_buffer = 256 << 10;
        for settings in [&mut case.client, &mut case.servers[0].0] {
            (settings.receive_buffer, settings.send_buffer) = (256 << 10, 256 << 10);
        }
        let (cost, of_held) = (mirrored(&case), mirrored(&held(case.clone())));
        println!("{}, {delay_us} us: {cost}, held: {of_held} bytes of {BYTES}", case.name);
        assert!(100 * cost <= BYTES, "{}: {cost} bytes of {BYTES}", case.name);
        assert!(of_held > BYTES, "{}: {of_held} bytes of {BYTES}", case.name);
    }
}

/// Requests on a connection that stays, one every millisecond: what is acknowledged goes with the next word, or the one after
/// that, however long an answer of one segment is. (What is taken is always a little ahead of what the peer holds.)
#[test]
fn words_and_their_answers_are_acknowledged_by_each_other() {
    for answers in [400, 1_000, 1_440] {
        dialogue(400, (60, answers));
    }
}

/// So many words and their answers, of so many bytes.
fn dialogue(count: usize, (asks, answers): (usize, usize)) {
    let words = |n: usize| [Step::Send(pattern(n as u64, asks)), Step::Receive((n + 1) * answers)];
    let replies =
        |n: usize| [Step::Receive((n + 1) * asks), Step::Send(pattern(n as u64, answers))];
    let client = (0..count).flat_map(words);
    let server = (0..count).flat_map(replies);
    let mut case = up_and_down("words", client.collect(), server.collect());
    case.settings.split_records = false;
    case.settings.client_link = Link::clean(Duration::from_micros(250));
    case.settings.flows_max = 1 << 13;
    case.settings.ports[0].receive_buffer = 64 << 10;
    for settings in [&mut case.client, &mut case.servers[0].0] {
        (settings.receive_buffer, settings.send_buffer) = (64 << 10, 64 << 10);
    }
    let mut world = case.start();
    world.tapped = Some(Vec::new());
    assert!(world.run_until(Duration::from_secs(5), is_done));
    let segments = world.segments as usize;
    let datagrams = world.tapped.take().expect("it was listened to").len();
    println!("{segments} segments, {datagrams} datagrams: {count} answers of {answers} bytes");
    assert!(segments <= 2 * count + count / 8, "{segments} for {count} words and answers");
    // Two records for each word, and their answers.
    assert!(datagrams <= 4 * count + count / 8, "{datagrams} datagrams");
}

/// A connection for one request, which both sides close: the word, its answer and both ends are acknowledged by what is said
/// anyway, but for the last end.
#[test]
fn a_connection_of_one_word_takes_six_frames() {
    let (asks, answers) = (60, 400);
    let client = [Step::Send(pattern(1, asks)), Step::Receive(answers), Step::End, Step::Close];
    let server = [Step::Receive(asks), Step::Send(pattern(2, answers)), Step::Close, Step::End];
    let mut case = up_and_down("one word", client.into(), server.into());
    case.settings.split_records = false;
    case.settings.ports[0].receive_buffer = 64 << 10;
    for settings in [&mut case.client, &mut case.servers[0].0] {
        (settings.receive_buffer, settings.send_buffer) = (64 << 10, 64 << 10);
    }
    let mut world = case.start();
    assert!(world.run_until(Duration::from_secs(5), is_done));
    world.run_for(Duration::from_millis(100));
    assert_eq!(world.segments, 6);
}

/// Whoever was sending learns from the first word of the promoted peer that something has come through, and goes on.
#[test]
fn the_kick_of_a_stream_advances_the_acknowledgement() {
    let says = vec![Step::Send(pattern(1, 400_000))];
    let mut case = up_and_down("a stream", says, vec![Step::Receive(400_000)]);
    case.settings.split_records = false;
    case.settings.ports[0].receive_buffer = 64 << 10;
    for settings in [&mut case.client, &mut case.servers[0].0] {
        (settings.receive_buffer, settings.send_buffer) = (64 << 10, 64 << 10);
    }
    let mut world = case.start();
    let is_half = |world: &World| world.clients[0].received.len() >= 200_000;
    assert!(world.run_until(Duration::from_secs(5), is_half));
    world.kill(0);
    // What the peer was told and what the client was told has arrived.
    world.run_for(Duration::from_millis(1));
    let acknowledged = |world: &World| {
        let key = world.clients[1].key(1);
        world.said[&key].ack
    };
    let before = acknowledged(&world);
    world.promote(1, Epoch(3));
    world.run_for(Duration::from_micros(150));
    let advance = acknowledged(&world).distance(before);
    assert!(advance >= 1460 - 12, "{advance} bytes, less than a full segment with timestamps");
}

/// Both sides close at once, and their FINs cross in the node: so each hears of the other's end before its own is
/// acknowledged, and may have to say it again. (What the node knows of that is in another order: that the server's FIN
/// has passed, and then that the client's has. It must not take the second for an answer to the first.)
#[test]
fn ends_that_cross_survive_every_death() {
    let crossing = |idle_ms: u64| {
        let idle = |ms| Step::Idle(Duration::from_millis(ms));
        let mut case = up_and_down(
            "ends that cross",
            vec![Step::Send(pattern(1, 100)), idle(idle_ms), Step::Close, Step::End, Step::Gone],
            vec![Step::Receive(100), idle(20), Step::Close, Step::End, Step::Gone],
        );
        // One way: when the client's FIN must leave depends on how long the connection takes to open.
        case.settings.client_link = Link::clean(Duration::from_millis(3));
        case
    };
    let is_crossed = |case: &Case| {
        case.start().run_until(Duration::from_secs(1), |world| {
            let legs = world.nodes[0].flows().filter_map(|flow| flow.app.leg());
            legs.filter(|leg| leg.ahead.fin).count() == 2
        })
    };
    let cases: Vec<Case> = (20..40).map(crossing).filter(is_crossed).collect();
    // Half way: what either side has said of the other's end arrives at the same time, and neither is acknowledged.
    assert_both_unnoticed(&cases[cases.len() / 2]);
}

/// A client made by hand, whose connection to a server the peer hears.
fn heard_upload() -> (World, usize) {
    let mut case = up_and_down("an upload", vec![], vec![Step::Receive(MUCH)]);
    case.dialogues.clear();
    case.settings.overheard = 1000;
    case.servers[0].0.receive_buffer = 64 << 10;
    let mut world = case.start();
    let raw = world.open_raw(PROXY);
    world.raws[raw].acknowledges = true;
    (world, raw)
}

/// A step of an upload, a full segment and a small one, is on the wire when its owner dies, or has just reached the server: the
/// promoted peer has heard it, and passes it on at once.
#[test]
fn what_was_heard_of_an_upload_is_passed_on_at_once() {
    for us_before in [0, 110, 210, 310, 410] {
        let (mut world, raw) = heard_upload();
        let mut said = 0;
        for _ in 0..5 {
            world.say_raw(raw, Flags::ACK, &[7; 1448]);
            world.say_raw(raw, Flags::ACK.with(Flags::PSH), &[7; 12]);
            said += 1460;
            world.run_for(Duration::from_millis(50));
            assert_eq!(world.clients[0].received.len(), said);
        }
        if us_before == 0 {
            world.kill(0);
        }
        world.say_raw(raw, Flags::ACK, &[7; 1448]);
        world.say_raw(raw, Flags::ACK.with(Flags::PSH), &[7; 12]);
        world.run_for(Duration::from_micros(us_before));
        if us_before > 0 {
            world.kill(0);
        }
        world.run_for(Duration::from_millis(3));
        world.raws[raw].heard.clear();
        world.promote(1, Epoch(3));
        // Both before the server answers: it may delay the acknowledgement of one.
        world.run_for(Duration::from_micros(150));
        assert_eq!(world.clients[0].received.len(), said + 1460, "{us_before} us");
        world.run_for(Duration::from_millis(3));
        // The small one's acknowledgement may be delayed.
        let acked = world.raws[raw].heard.iter().map(|heard| heard.ack).next_back();
        let least = world.raws[raw].snd_nxt - 12;
        assert!(acked.is_some_and(|acked| acked.after_eq(least)), "{us_before} us: {acked:?}");
    }
}

/// Of segments that come together all but the first are judged by what they say alone, and all go through.
#[test]
fn a_burst_of_an_upload_is_passed_on_in_one_run() {
    let (mut world, raw) = heard_upload();
    world.say_raw(raw, Flags::ACK.with(Flags::PSH), &[7; 100]);
    world.run_for(Duration::from_millis(100));
    let continued = |world: &World| world.nodes[0].stack().counters().rx_continued;
    let before = continued(&world);
    for _ in 0..6 {
        world.say_raw(raw, Flags::ACK, &[7; 1448]);
    }
    world.run_for(Duration::from_millis(100));
    assert_eq!(continued(&world) - before, 5);
    assert_eq!(world.clients[0].received, [7; 100 + 6 * 1448]);
    let acked = world.raws[raw].heard.iter().map(|heard| heard.ack).next_back();
    assert_eq!(acked, Some(world.raws[raw].snd_nxt));
}

/// However much was heard, what may be with the server already is said again by two segments until it has answered.
#[test]
fn of_much_that_was_heard_two_segments_are_said_at_first() {
    let (mut world, raw) = heard_upload();
    world.say_raw(raw, Flags::ACK.with(Flags::PSH), &[7; 100]);
    world.run_for(Duration::from_millis(100));
    world.kill(0);
    for _ in 0..6 {
        world.say_raw(raw, Flags::ACK, &[7; 1448]);
    }
    world.run_for(Duration::from_millis(3));
    world.promote(1, Epoch(3));
    world.run_for(Duration::from_micros(150));
    assert_eq!(world.clients[0].received.len(), 100 + 2 * 1448);
    world.run_for(Duration::from_micros(250));
    assert_eq!(world.clients[0].received.len(), 100 + 6 * 1448, "the rest once it has");
}

/// The server has a step of an upload, a full segment and a small one, of which the peer has heard the first alone.
#[test]
fn what_the_server_has_beyond_what_was_heard_is_passed_too() {
    let (mut world, raw) = heard_upload();
    world.say_raw(raw, Flags::ACK.with(Flags::PSH), &[7; 100]);
    world.run_for(Duration::from_millis(100));
    world.say_raw(raw, Flags::ACK, &[7; 1448]);
    world.settings.overheard = 0;
    world.say_raw(raw, Flags::ACK.with(Flags::PSH), &[7; 12]);
    // To the node and on to the server, and no further.
    world.run_for(Duration::from_micros(290));
    world.kill(0);
    world.run_for(Duration::from_millis(3));
    assert_eq!(world.clients[0].received.len(), 100 + 1448 + 12);
    world.raws[raw].heard.clear();
    world.promote(1, Epoch(3));
    world.run_for(Duration::from_millis(5));
    let acked = |world: &World| world.raws[raw].heard.iter().map(|heard| heard.ack).next_back();
    let end = world.raws[raw].snd_nxt;
    assert_eq!(acked(&world), Some(end - 12), "what was heard");
    world.raws[raw].send_at(end - 12, Flags::ACK.with(Flags::PSH), &[7; 12]);
    world.send_raw(raw);
    world.run_for(UNA_FLUSH);
    assert_eq!(acked(&world), Some(end), "and the rest, when it is said again");
}
