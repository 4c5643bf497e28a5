//! Hostile bytes: frames, datagrams and snapshots may say anything; nobody panics and nothing leaks.

use cluster::role::Command;
use stack::seq::Seq;
use stack::shard::Place;
use stack::stack::{Mode, Stack, StackConfig};
use stack::time::Duration;
use stack::wire::{Flags, SegmentOptions};
use tests::kit::client::{ClientSettings, Opener};
use tests::kit::dialogue::{Dialogue, Step};
use tests::kit::random::Random;
use tests::kit::settings::{
    DISCARD, ECHO, GENERATE, GENERATE_STAY, HTTP, HTTP_IMPATIENT, PROXY, Settings,
};
use tests::kit::world::World;

mod hostile {
    mod flood;
}

const PORTS: [u16; 6] = [HTTP, ECHO, DISCARD, GENERATE, GENERATE_STAY, HTTP_IMPATIENT];

fn settings(seed: u64) -> Settings {
    Settings { seed, flows_max: 24, chunks_max: 400, segments_max: 64, ..Settings::default() }
}

/// Everything of every group is given back.
fn assert_nothing_leaks(world: &mut World, node: usize) {
    world.each_group(|world, group| world.command(node, Command::Stop { group }));
    world.drive(node);
    let stack = world.nodes[node].stack();
    assert_eq!(stack.slots().count(), 0);
    let env = &stack.env;
    assert!(env.memory.is_unused(), "memory is held by nobody");
    assert_eq!((env.senders.in_flight.used(), env.reassembly.used()), (0, 0));
    let counters = stack.counters();
    let settled =
        counters.rx_used + counters.rx_strays + counters.rx_heard + counters.drops.total();
    assert_eq!(counters.rx_frames, settled);
}

/// A segment of a client that may know its connection, and says anything.
fn say_anything(world: &mut World, random: &mut Random, raw: usize) {
    let raw = &mut world.raws[raw];
    let near = |random: &mut Random, seq: Seq| match random.below(6) {
        0 => Seq(random.draw() as u32),
        1 => seq + random.below(70_000) as u32,
        2 => seq - random.below(70_000) as u32,
        3 => seq + random.below(3) as u32,
        _ => seq,
    };
    let (seq, ack) = (near(random, raw.snd_nxt), near(random, raw.rcv_nxt));
    let flags = match random.below(8) {
        0 => Flags(random.draw() as u8),
        1 => Flags::ACK.with(Flags::FIN),
        2 => Flags::SYN,
        3 if random.permille(100) => Flags::RST,
        _ => Flags::ACK.with(Flags::PSH),
    };
    let len = [0, 1, 40, 536, 1400][random.below(5) as usize];
    let mut payload = random.bytes(len);
    if random.permille(500) {
        let text = b"GET /generate/70000 HTTP/1.1\r\nHost: x\r\n\r\nPOST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
        payload = text[..(random.below(text.len() as u64 + 1) as usize)].to_vec();
    }
    raw.window = random.draw() as u16;
    let block = |random: &mut Random| {
        let start = near(random, ack);
        random.permille(300).then(|| (start, start + random.below(5000) as u32))
    };
    raw.options = SegmentOptions {
        mss: (random.permille(200) && payload.len() < 1300).then(|| random.draw() as u16),
        window_scale: random.permille(200).then(|| random.below(15) as u8),
        sack_permitted: random.permille(300),
        sack: [block(random), block(random), None, None],
        timestamps: random.permille(300).then(|| (random.draw() as u32, random.draw() as u32)),
    };
    if raw.options.header_bytes() > 40 {
        raw.options.sack = [None; 4];
    }
    raw.send_exactly(seq, ack, flags, &payload);
    if random.permille(600) {
        raw.snd_nxt = seq + payload.len() as u32 + flags.has(Flags::SYN) as u32;
    }
}

#[test]
fn segments_that_say_anything_harm_nobody() {
    for seed in 1..=8 {
        let mut random = Random::new(seed);
        let mut world = World::mirrored(settings(seed));
        let raws: Vec<usize> = (0..20).map(|n| world.raw(PORTS[n % PORTS.len()])).collect();
        for round in 0..2500 {
            let raw = raws[random.below(raws.len() as u64) as usize];
            if random.permille(60) {
                world.raws[raw].options = SegmentOptions::default();
                world.raws[raw].send(Flags::SYN, &[]);
            } else {
                say_anything(&mut world, &mut random, raw);
            }
            world.send_raw(raw);
            world.run_for(Duration::from_micros(random.below(400)));
            if round % 500 == 499 {
                world.run_for(Duration::from_millis(random.below(1500)));
            }
            world.raws[raw].heard.clear();
        }
        for status in world.nodes[1].status() {
            assert_eq!(status.backup.mismatches, 0, "seed {seed}");
        }
        world.kill(0);
        world.promote(1, cluster::id::Epoch(3));
        for _ in 0..500 {
            let raw = raws[random.below(raws.len() as u64) as usize];
            say_anything(&mut world, &mut random, raw);
            world.send_raw(raw);
            world.run_for(Duration::from_micros(random.below(400)));
        }
        assert_nothing_leaks(&mut world, 1);
        assert_nothing_leaks(&mut world, 0);
    }
}

/// A world with clients of every kind in the middle of what they do.
fn busy(seed: u64) -> World {
    let mut world = World::mirrored(settings(seed));
    let steps = [
        (HTTP, b"GET /generate/9000000 HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        (HTTP, b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n\r\nabcdef".to_vec()),
        (HTTP, b"GET /gener".to_vec()),
        (ECHO, vec![7; 4000]),
        (GENERATE, Vec::new()),
        (GENERATE_STAY, vec![1]),
        (DISCARD, vec![9; 100]),
    ];
    for (port, bytes) in steps {
        let steps = vec![Step::Send(bytes), Step::Pause(Duration::from_secs(1000))];
        world.connect(ClientSettings::default(), Dialogue::new("busy", port, steps));
    }
    world.run_for(Duration::from_millis(5));
    world
}

fn mutate(random: &mut Random, bytes: &mut Vec<u8>, from: usize) {
    for _ in 0..=random.below(4) {
        let at = from + random.below((bytes.len() - from) as u64) as usize;
        bytes[at] = random.draw() as u8;
    }
    if random.permille(100) {
        bytes.truncate(from + random.below((bytes.len() - from) as u64) as usize);
    }
}

#[test]
fn snapshots_that_say_anything_are_refused_or_served() {
    serve_broken_snapshots(&busy(3));
}

#[test]
fn snapshots_of_proxied_connections_are_refused_or_served() {
    let mut world = World::mirrored(Settings { flows_max: 24, ..Settings::proxied(3) });
    let pattern = |len| (0..len).map(|n: usize| n as u8).collect();
    for _ in 0..3 {
        let server = ClientSettings { opener: Opener::Proxy, ..ClientSettings::default() };
        let steps = vec![Step::Send(pattern(9000)), Step::Idle(Duration::from_secs(9))];
        world.connect(server, Dialogue::new("server", 0, steps));
    }
    world.run_for(Duration::from_millis(300));
    for n in 0..3 {
        let reads = Duration::from_millis(3);
        let steps = vec![Step::Send(pattern(5000 * n)), Step::Pause(reads), Step::Close];
        world.connect(ClientSettings::default(), Dialogue::new("client", PROXY, steps));
    }
    world.run_for(Duration::from_millis(2));
    assert_eq!(world.nodes[0].stack().slots().count(), 6, "three connections, two legs each");
    serve_broken_snapshots(&world);
}

/// Mutates what the owner would export; whatever a stack takes of that it serves, and gives back.
fn serve_broken_snapshots(world: &World) {
    let mut random = Random::new(3);
    let stack = world.nodes[0].stack();
    let mut exports = Vec::new();
    for slot in stack.slots() {
        let mut bytes = Vec::new();
        stack.export(slot, &mut bytes);
        exports.push((stack.flow(slot).expect("in use").group, bytes));
    }
    let config = StackConfig {
        node: 3,
        place: Place::ALONE,
        mac: [2, 2, 0, 0, 0, 3],
        secret: [7; 32],
        flows_max: 4,
        active_max: 4,
        uploads_max: 4,
        segments_max: 64,
        chunks_max: 64,
        pieces_max: 64,
        reassemblies_max: 4,
        link_mbits: 10_000,
    };
    let mut third = Stack::new(&config, world.settings.services());
    let (mut taken, mut buffer) = (0, [0; 2048]);
    for round in 0..60_000u64 {
        let (group, mut bytes) = exports[random.below(exports.len() as u64) as usize].clone();
        mutate(&mut random, &mut bytes, 0);
        let mut now = world.now + Duration::from_millis(round);
        if let Ok(flow) = third.import(group, &bytes) {
            taken += 1;
            third.set_mode(now, group, Mode::Silent);
            if third.adopt_copy(now, flow).is_some() {
                third.promote(now, group);
                for _ in 0..6 {
                    while third.poll_transmit(now, &mut buffer).is_some() {}
                    now += Duration::from_millis(300);
                    third.handle_timeouts(now, &mut stack::recorder::Unmirrored);
                }
            }
            third.set_mode(now, group, Mode::Off);
            third.handle_timeouts(now, &mut stack::recorder::Unmirrored);
        }
        assert!(third.env.memory.is_unused() && third.env.senders.in_flight.used() == 0);
    }
    println!("{taken} of 60000 broken snapshots were taken");
}

#[test]
fn datagrams_that_say_anything_harm_nobody() {
    for seed in 1..=4 {
        let mut random = Random::new(seed);
        let mut world = busy(seed);
        for _ in 0..4000 {
            let mut frames: Vec<_> = world.take_datagrams(1).into_iter().map(|f| (1, f)).collect();
            frames.extend(world.take_datagrams(0).into_iter().map(|f| (0, f)));
            for (to, frame) in frames {
                for _ in 0..3 {
                    let mut bytes = frame.clone();
                    mutate(&mut random, &mut bytes, 42);
                    // As if sealed by a member of the cluster: addresses and checksums are good.
                    for node in 0..2 {
                        let bytes = rewrap(&world, 1 - node, &bytes);
                        world.hand_datagram(node, &bytes);
                        world.drive(node);
                    }
                }
                // The real one arrives as well, so that there is more to mutate.
                world.hand_datagram(to, &frame);
                world.drive(to);
            }
            world.run_for(Duration::from_micros(random.below(300)));
        }
        assert_nothing_leaks(&mut world, 0);
        assert_nothing_leaks(&mut world, 1);
    }
}

fn rewrap(world: &World, from: usize, frame: &[u8]) -> Vec<u8> {
    let mut buffer = [0; 2048];
    let (a, b) = (world.nodes[from].endpoint(), world.nodes[1 - from].endpoint());
    let payload = frame.get(42..).unwrap_or(&[]);
    let len = cluster::link::emit(&mut buffer, &a, &b, payload);
    buffer[..len].to_vec()
}

#[test]
fn frames_of_noise_are_named_drops() {
    let mut random = Random::new(5);
    let mut world = busy(5);
    let mac = world.neighbor().expect("announced");
    for _ in 0..30_000 {
        let len = 14 + random.below(100) as usize;
        let mut frame = random.bytes(len);
        frame[..6].copy_from_slice(&mac);
        frame[12..14].copy_from_slice(&[[8, 0], [8, 6], [0x86, 0xdd]][random.below(3) as usize]);
        if random.permille(700) && frame.len() > 34 {
            frame[14] = 0x45;
            frame[16..18].copy_from_slice(&((len - 14) as u16).to_be_bytes());
        }
        world.send_request(frame);
        if random.permille(50) {
            world.run_for(Duration::from_micros(500));
        }
    }
    assert_nothing_leaks(&mut world, 0);
}
