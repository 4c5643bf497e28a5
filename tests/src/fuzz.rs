//! What a hostile network, peer, file or operator can say, as functions of plain bytes: nothing of it may panic, nothing leak.
//!
//! `tests/tests/fuzz.rs` plays each with bytes of its own on stable; `fuzz/` hands the same functions to libFuzzer. Most of
//! what is said is refused by the first thing that looks at it: a checksum, a magic number. So targets mend what they have
//! changed, unless a bit of the input says otherwise, and each tells whether its input came past that.
//!
//! Bounds: a target plays at most [`STEPS_MAX`] steps of what it is given.

mod agents;
mod frames;
mod operator;
mod options;
mod segments;
mod stores;

use crate::kit::settings::{ECHO, HTTP, Settings};
use crate::kit::world::{World, stack_config};
use cluster::mirror;
use cluster::role::Command;
use stack::app::proxy;
use stack::app::proxy::header::HeaderVersion;
use stack::app::proxy::header::heard::{Heard, hear};
use stack::codec::Reader;
use stack::shard::Place;
use stack::stack::{Mode, Stack};
use stack::time::Duration;
use stack::wire::{Flags, SegmentOptions};

pub use agents::messages;
pub use frames::frames;
pub use operator::{configuration, control, haproxy};
pub use options::options;
pub use segments::segments;
pub use stores::stores;

/// Steps of one input.
const STEPS_MAX: usize = 200;

/// Plays an input; whether that came past the first thing which could refuse it.
pub type Play = fn(&[u8]) -> bool;

/// What can be fuzzed.
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// Plays an input.
    pub play: Play,
    /// An example of what it takes, to begin with.
    pub example: Vec<u8>,
    /// Of examples that are changed here and there, so many out of a hundred must come past what could refuse them: a
    /// target whose inputs are all refused tests nothing.
    pub deep_percent_least: u64,
}

/// Every target.
pub fn targets() -> Vec<Target> {
    let text = |text: &str| text.as_bytes().to_vec();
    let target = |name, play, deep_percent_least, example| Target {
        name,
        play,
        example,
        deep_percent_least,
    };
    vec![
        target("frames", frames as Play, 80, scattered(160)),
        target("options", options, 80, scattered(60)),
        target("segments", segments, 80, scattered(120)),
        target("http", http, 60, text("\x1eGET /generate/99 HTTP/1.1\r\nHost: x\r\n\r\n")),
        target("datagrams", datagrams, 50, record_example()),
        target("messages", messages, 70, scattered(160)),
        target("snapshots", snapshots, 25, snapshot_example()),
        target("stores", stores, 25, stores::example()),
        target("configuration", configuration, 20, text(CONFIGURATION)),
        target(
            "header",
            header,
            25,
            text("PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\nGET / HTTP/1.1\r\n"),
        ),
        target(
            "control",
            control,
            15,
            text(r#"{"command":"handover","service":"web","to":2,"epoch":7}"#),
        ),
        target("haproxy", haproxy, 80, text(operator::COMMANDS)),
    ]
}

/// So many bytes of all sizes: for a target that reads them as what to do next.
fn scattered(len: u32) -> Vec<u8> {
    (0..len).map(|n| (n * n + n / 16) as u8).collect()
}

/// Reads numbers from the front of what is given; zeros when it ends.
struct Dice<'a>(&'a [u8]);

impl<'a> Dice<'a> {
    fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    fn word(&mut self) -> u16 {
        u16::from(self.byte()) << 8 | u16::from(self.byte())
    }

    /// At most so many bytes; fewer when it ends.
    fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        bytes
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Changes a few bytes, mostly near the front, where headers are; now and then cuts the end off. What must be right is
    /// mended by `mend`, but for one in four.
    fn spoil(&mut self, bytes: &mut Vec<u8>, mend: fn(&mut [u8])) {
        let how = self.byte();
        for _ in 0..how % 4 {
            let near = if how & 4 == 0 { 80 } else { usize::MAX };
            let at = usize::from(self.word()) % bytes.len().min(near).max(1);
            let value = self.byte();
            bytes.get_mut(at).into_iter().for_each(|byte| *byte = value);
        }
        if how >= 240 {
            bytes.truncate(usize::from(self.word()) % bytes.len().max(1));
        }
        if how & 0x18 != 0 {
            mend(bytes);
        }
    }
}

fn small() -> Settings {
    Settings { flows_max: 8, chunks_max: 128, segments_max: 32, ..Settings::default() }
}

/// A client by hand that has connected.
fn open(world: &mut World, port: u16) -> usize {
    let asked =
        SegmentOptions { mss: Some(1200), sack_permitted: true, ..SegmentOptions::default() };
    open_with(world, port, asked, SegmentOptions::default())
}

/// The same with these options in its SYN, and those behind it.
fn open_with(world: &mut World, port: u16, asked: SegmentOptions, then: SegmentOptions) -> usize {
    let raw = world.raw(port);
    world.raws[raw].options = asked;
    world.say_raw(raw, Flags::SYN, &[]);
    world.run_for(Duration::from_millis(2));
    world.raws[raw].options = then;
    world.say_raw(raw, Flags::ACK, &[]);
    world.run_for(Duration::from_millis(2));
    raw
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

/// A request of any bytes, in segments as long as its first byte says.
pub fn http(data: &[u8]) -> bool {
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
    !world.raws[raw].received.is_empty()
}

/// Records and acknowledgements of any bytes, as if a member of the cluster said them.
pub fn datagrams(data: &[u8]) -> bool {
    let said = mirror::decode(data);
    if let Ok((_, mirror::Body::Records { bytes, .. })) = said {
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
    said.is_ok()
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

/// Whole flows of any bytes: refused, or served and given back.
pub fn snapshots(data: &[u8]) -> bool {
    let world = World::serving(small());
    let config = stack_config(2, Place::ALONE, [2; 6], &world.settings);
    let mut stack = Stack::new(&config, world.settings.services());
    let now = world.now;
    let imported = stack.import(0, data);
    let is_served = imported.is_ok();
    if let Ok(captured) = imported {
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
    is_served
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

/// What a client says first where the PROXY protocol is accepted.
pub fn header(data: &[u8]) -> bool {
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
    !matches!(whole, Heard::Bad)
}

/// A file with many mistakes is a better beginning than one with none.
const CONFIGURATION: &str = include_str!("../snapshots/config/proxy.toml");
