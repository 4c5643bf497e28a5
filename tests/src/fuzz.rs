//! What a hostile network, peer, file or operator can say, as functions of plain bytes: nothing of it may panic, nothing leak.
//!
//! `tests/tests/fuzz.rs` plays each with bytes of its own on stable; `fuzz/` hands the same functions to libFuzzer.
//!
//! Bounds: a target plays at most [`STEPS_MAX`] steps of what it is given.

use crate::kit::settings::{ECHO, HTTP, Settings};
use crate::kit::world::{World, stack_config};
use cluster::id::{Epoch, Incarnation, Member, NodeId};
use cluster::lease::Timers;
use cluster::message::{Header, Message, WITNESS, any_life, encode};
use cluster::mirror;
use cluster::role::Command;
use cluster::witness::{Effect, Witness};
use dataplane::config;
use dataplane::control::Request;
use stack::app::proxy;
use stack::app::proxy::header::HeaderVersion;
use stack::app::proxy::header::heard::{Heard, hear};
use stack::codec::Reader;
use stack::seq::Seq;
use stack::shard::Place;
use stack::stack::{Mode, Stack};
use stack::time::{Duration, Instant};
use stack::wire::{Flags, SegmentOptions, parse};
use std::path::Path;

/// Steps of one input.
const STEPS_MAX: usize = 200;

/// What can be fuzzed.
pub type Target = fn(&[u8]);

/// Every target by its name; an example of what it takes, to begin with.
pub fn targets() -> Vec<(&'static str, Target, Vec<u8>)> {
    let text = |text: &str| text.as_bytes().to_vec();
    vec![
        ("frames", frames as Target, frame_example()),
        ("segments", segments, (0..240).map(|n: u32| (n * n) as u8).collect()),
        ("http", http, text("\x1eGET /generate/99 HTTP/1.1\r\nHost: x\r\n\r\n")),
        ("datagrams", datagrams, record_example()),
        ("messages", messages, message_example()),
        ("snapshots", snapshots, snapshot_example()),
        ("stores", stores, store_example()),
        ("configuration", configuration, text(CONFIGURATION)),
        (
            "header",
            header,
            text("PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\nGET / HTTP/1.1\r\n"),
        ),
        ("control", control, text(r#"{"command":"handover","service":"web","to":2,"epoch":7}"#)),
    ]
}

/// Reads numbers from the front of what is given; zeros when it ends.
struct Dice<'a>(&'a [u8]);

impl Dice<'_> {
    fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    fn word(&mut self) -> u16 {
        u16::from(self.byte()) << 8 | u16::from(self.byte())
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn small() -> Settings {
    Settings { flows_max: 8, chunks_max: 128, segments_max: 32, ..Settings::default() }
}

/// Everything that a node holds is given back when its groups are stopped.
fn assert_nothing_leaks(world: &mut World) {
    for node in 0..2 {
        world.each_group(|world, group| world.command(node, Command::Stop { group }));
        world.drive(node);
        let stack = world.nodes[node].stack();
        assert_eq!(stack.slots().count(), 0);
        assert!(stack.env.memory.is_unused(), "memory is held by nobody");
        assert_eq!(stack.env.senders.in_flight.used(), 0);
        let counters = stack.counters();
        let settled = counters.rx_used + counters.rx_strays + counters.drops.total();
        assert_eq!(counters.rx_frames, settled);
    }
}

/// Frames of any bytes, into a node with connections. Each begins with two bytes that say how long it is.
pub fn frames(data: &[u8]) {
    let mut world = World::serving(small());
    open(&mut world, ECHO);
    let mac = world.neighbor().expect("announced");
    let mut dice = Dice(data);
    for _ in 0..STEPS_MAX {
        let len = usize::from(dice.word() % 1515);
        let Some((frame, rest)) = dice.0.split_at_checked(len.max(14).min(dice.0.len())) else {
            break;
        };
        if frame.len() < 14 {
            break;
        }
        dice.0 = rest;
        let mut frame = frame.to_vec();
        frame[..6].copy_from_slice(&mac);
        let _ = parse(&frame, &mac, &[]);
        world.send_request(frame);
    }
    world.run_for(Duration::from_millis(3));
    assert_nothing_leaks(&mut world);
}

fn frame_example() -> Vec<u8> {
    let mut world = World::serving(small());
    let raw = open(&mut world, ECHO);
    world.raws[raw].send(Flags::ACK.with(Flags::PSH), b"hello");
    let frame = world.raws[raw].poll_frame([2; 6]).expect("it was queued");
    [&(frame.len() as u16).to_be_bytes()[..], &frame].concat()
}

/// A client by hand that has connected.
fn open(world: &mut World, port: u16) -> usize {
    let raw = world.raw(port);
    world.raws[raw].options =
        SegmentOptions { mss: Some(1200), sack_permitted: true, ..SegmentOptions::default() };
    world.raws[raw].send(Flags::SYN, &[]);
    world.send_raw(raw);
    world.run_for(Duration::from_millis(2));
    world.raws[raw].options = SegmentOptions::default();
    world.raws[raw].send(Flags::ACK, &[]);
    world.send_raw(raw);
    world.run_for(Duration::from_millis(2));
    raw
}

/// The client's byte at this offset of its stream: wherever it is said again, it is the same.
fn said_at(offset: u32) -> u8 {
    (offset % 251) as u8
}

/// Segments, time, and the owner's death, against a model of the stream: whatever an echo says at an offset is what its client
/// has said there, however often, in pieces and out of order.
pub fn segments(data: &[u8]) {
    let mut world = World::mirrored(small());
    let raw = open(&mut world, ECHO);
    let (first, answers) = (world.raws[raw].snd_nxt, world.raws[raw].rcv_nxt);
    let mut dice = Dice(data);
    let mut is_promoted = false;
    for _ in 0..STEPS_MAX {
        if dice.is_empty() {
            break;
        }
        match dice.byte() {
            op @ 0..=199 => {
                let at = u32::from(dice.word() % 6000);
                let payload: Vec<u8> = (at..at + u32::from(dice.byte()) * 4).map(said_at).collect();
                let client = &mut world.raws[raw];
                client.window = dice.word();
                let ack = client.rcv_nxt - u32::from(op % 3) * u32::from(op);
                let (from, to) = (Seq(dice.word().into()), Seq(dice.word().into()));
                client.options.sack[0] =
                    (op % 5 == 0).then_some((answers + from.0, answers + to.0));
                client.send_exactly(first + at, ack, Flags::ACK, &payload);
                world.send_raw(raw);
            }
            200..=249 => world.run_for(Duration::from_micros(u64::from(dice.word()) * 10)),
            _ if !is_promoted => {
                is_promoted = true;
                world.kill(0);
                world.promote(1, Epoch(3));
            }
            _ => world.run_for(Duration::from_secs(1)),
        }
        while let Some(heard) = world.raws[raw].take() {
            let offset = heard.seq.distance(answers);
            for (n, &byte) in heard.payload.iter().enumerate() {
                let at = offset + n as i32;
                assert_eq!(byte, said_at(at as u32), "the echo at {at}");
            }
        }
    }
    world.run_for(Duration::from_millis(50));
    assert_nothing_leaks(&mut world);
}

/// A request of any bytes, in segments as long as its first byte says.
pub fn http(data: &[u8]) {
    let mut world = World::mirrored(small());
    let raw = open(&mut world, HTTP);
    world.raws[raw].acknowledges = true;
    let mut dice = Dice(data);
    let len = usize::from(dice.byte()).max(1);
    for piece in dice.0.chunks(len).take(STEPS_MAX) {
        world.raws[raw].send(Flags::ACK.with(Flags::PSH), piece);
        world.send_raw(raw);
        world.run_for(Duration::from_micros(500));
        world.send_raw(raw);
    }
    world.run_for(Duration::from_millis(20));
    for status in world.nodes[1].status() {
        assert_eq!(status.backup.mismatches, 0);
    }
    assert_nothing_leaks(&mut world);
}

/// Records and acknowledgements of any bytes, as if a member of the cluster said them.
pub fn datagrams(data: &[u8]) {
    if let Ok((_, mirror::Body::Records { bytes, .. })) = mirror::decode(data) {
        let mut reader = Reader::new(bytes);
        while reader.remaining() > 0 && mirror::next_record(&mut reader).is_ok() {}
    }
    let mut world = World::mirrored(small());
    open(&mut world, ECHO);
    for node in 0..2 {
        world.hand_payload(node, data);
        world.drive(node);
    }
    world.run_for(Duration::from_millis(2));
    assert_nothing_leaks(&mut world);
}

fn record_example() -> Vec<u8> {
    let mut world = World::mirrored(small());
    let raw = open(&mut world, ECHO);
    world.raws[raw].send(Flags::ACK.with(Flags::PSH), b"hello");
    world.send_raw(raw);
    world.run_for(Duration::from_micros(150));
    let frames = world.take_datagrams(1);
    frames.first().expect("records are on their way")[42..].to_vec()
}

/// What agents and the witness say: what can be read is written alike.
pub fn messages(data: &[u8]) {
    let Ok((header, message)) = cluster::message::decode(data) else { return };
    let again = cluster::message::encode(header, &message);
    assert_eq!(cluster::message::decode(&again), Ok((header, message)));
}

fn message_example() -> Vec<u8> {
    request(Message::Surrender { at: Instant(9) })
}

/// A node says something to the witness.
fn request(message: Message) -> Vec<u8> {
    let from = Member { node: NodeId(1), incarnation: Incarnation(7) };
    encode(Header { cluster: 1, from, to: any_life(WITNESS) }, &message)
}

/// Whole flows of any bytes: refused, or served and given back.
pub fn snapshots(data: &[u8]) {
    let world = World::serving(small());
    let config = stack_config(2, Place::ALONE, [2; 6], &world.settings);
    let mut stack = Stack::new(&config, world.settings.services());
    let now = world.now;
    if let Ok(captured) = stack.import(0, data) {
        stack.set_mode(now, 0, Mode::Silent);
        if stack.adopt_copy(now, captured).is_some() {
            stack.promote(now, 0);
            let mut buffer = [0; 2048];
            for n in 0..20 {
                let now = now + Duration::from_millis(100 * n);
                while stack.poll_transmit(now, &mut buffer).is_some() {}
                stack.handle_timeouts(now, &mut stack::recorder::Unmirrored);
            }
        }
        let later = now + Duration::from_secs(5);
        stack.set_mode(later, 0, Mode::Off);
        stack.handle_timeouts(later, &mut stack::recorder::Unmirrored);
    }
    assert!(stack.env.memory.is_unused() && stack.env.senders.in_flight.used() == 0);
}

fn snapshot_example() -> Vec<u8> {
    let mut world = World::serving(small());
    open(&mut world, HTTP);
    let stack = world.nodes[0].stack();
    let slot = stack.slots().next().expect("a connection");
    let mut bytes = Vec::new();
    stack.export(slot, &mut bytes);
    bytes
}

/// What a witness finds on its disk: believed or not, it goes on.
pub fn stores(data: &[u8]) {
    let timers = Timers::bed();
    let (mut witness, _) = Witness::new(Instant(5), Incarnation(3), 1, timers, Some(data), false);
    let _ = witness.handle_request(Instant(6), &message_example());
}

fn store_example() -> Vec<u8> {
    let (life, timers) = (Incarnation(3), Timers::bed());
    let (mut witness, _) = Witness::new(Instant(5), life, 1, timers, None, true);
    let from = Member { node: NodeId(1), incarnation: Incarnation(7) };
    let to = Member { node: WITNESS, incarnation: life };
    let hello = encode(Header { cluster: 1, from, to }, &Message::Hello { ticket: 1 });
    let Ok(Effect::Persist(pending)) = witness.handle_request(Instant(6), &hello) else {
        panic!("the first hello with the first ticket is registered");
    };
    let mut stored = Vec::new();
    let write = |bytes: &[u8]| -> Result<(), ()> {
        stored = bytes.to_vec();
        Ok(())
    };
    witness.release(pending, write).expect("it was written");
    stored
}

/// A configuration of any text: an answer with places that lie in it, and never a panic.
pub fn configuration(data: &[u8]) {
    let text = String::from_utf8_lossy(data).into_owned();
    let loaded = config::parse("node.toml", text, Path::new("/nowhere"));
    assert_eq!(loaded.config.is_none(), loaded.count(config::Severity::Error) > 0);
    let _ = loaded.render(false);
}

/// What a client says first where the PROXY protocol is accepted.
pub fn header(data: &[u8]) {
    let whole = hear(data);
    // However it is cut: every beginning of a header asks for more, and what follows it changes nothing.
    for len in 0..data.len().min(STEPS_MAX) {
        match (hear(&data[..len]), whole) {
            (Heard::More, _) => {}
            (Heard::Whole { bytes, .. }, _) => assert!(bytes <= len && hear(&data[..len]) == whole),
            (Heard::Bad, whole) => assert_eq!(whole, Heard::Bad),
        }
    }
    if let Heard::Whole { client: Some(client), .. } = whole {
        for version in [HeaderVersion::V1, HeaderVersion::V2] {
            let said = proxy::header::Header::new(version, &client);
            let bytes = said.bytes().len();
            assert_eq!(hear(said.bytes()), Heard::Whole { bytes, client: Some(client) });
        }
    }
}

/// A request to the control socket.
pub fn control(data: &[u8]) {
    if let Ok(request) = serde_json::from_slice::<Request>(data) {
        let again = serde_json::to_vec(&request).expect("it can be written");
        assert_eq!(serde_json::from_slice::<Request>(&again).ok(), Some(request));
    }
}

/// A file with many mistakes is a better beginning than one with none.
const CONFIGURATION: &str = include_str!("../snapshots/config/proxy.toml");
