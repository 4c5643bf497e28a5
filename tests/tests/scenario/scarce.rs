//! Pools that run dry: what gives memory back is never refused for want of it.

use cluster::id::Epoch;
use stack::drop::Drop;
use stack::output::Memory;
use stack::tcp::state::State;
use stack::time::Duration;
use stack::wire::Flags;
use tests::kit::client::ClientSettings;
use tests::kit::dialogue::{Dialogue, Step};
use tests::kit::random::Random;
use tests::kit::raw::Heard;
use tests::kit::settings::{DISCARD, ECHO, GENERATE, HTTP, Settings};
use tests::kit::world::World;

const CHUNKS: usize = 40;

fn scarce() -> World {
    World::serving(Settings { chunks_max: CHUNKS, ..Settings::default() })
}

/// A raw client with an open connection that acknowledges what it gets.
fn open(world: &mut World, port: u16) -> usize {
    let raw = world.open_raw(port);
    world.raws[raw].acknowledges = true;
    raw
}

/// One byte every ten, behind a hole: each takes a chunk.
fn fill_with_holes(world: &mut World) -> usize {
    let raw = open(world, DISCARD);
    for n in 0..CHUNKS as u32 {
        let seq = world.raws[raw].snd_nxt + 100 + 10 * n;
        world.raws[raw].send_at(seq, Flags::ACK, b"x");
    }
    world.send_raw(raw);
    world.run_for(Duration::from_millis(50));
    raw
}

fn memory(world: &World) -> &Memory {
    &world.nodes[0].stack().env.memory
}

fn chunks_used(world: &World) -> usize {
    memory(world).chunks.used()
}

#[test]
fn out_of_order_payload_leaves_room_to_fill_the_hole() {
    let mut world = scarce();
    let raw = fill_with_holes(&mut world);
    let used = chunks_used(&world);
    assert!(used > CHUNKS / 4 && used <= CHUNKS * 3 / 4, "{used} of {CHUNKS} chunks");
    let seq = world.raws[raw].snd_nxt;
    world.raws[raw].send_at(seq, Flags::ACK, &[0; 600]);
    world.send_raw(raw);
    world.run_for(Duration::from_millis(50));
    assert_eq!(chunks_used(&world), 0, "the hole is filled and nothing is kept");
}

#[test]
fn a_reset_frees_what_its_flow_holds_however_short_memory_is() {
    let mut world = scarce();
    let raw = fill_with_holes(&mut world);
    let seq = world.raws[raw].snd_nxt;
    world.raws[raw].send_at(seq, Flags::ACK.with(Flags::RST), b"");
    world.send_raw(raw);
    world.run_for(Duration::from_millis(50));
    assert_eq!(chunks_used(&world), 0);
    assert_eq!(world.nodes[0].stack().slots().count(), 0);
}

#[test]
fn time_wait_ends_while_memory_is_short() {
    let mut world = scarce();
    let raw = open(&mut world, GENERATE);
    world.run_for(Duration::from_millis(200));
    world.raws[raw].send(Flags::ACK.with(Flags::FIN), b"");
    world.send_raw(raw);
    world.run_for(Duration::from_millis(200));
    for extra in 0..2u32 {
        let (seq, ack) = (world.raws[raw].snd_nxt, world.raws[raw].rcv_nxt + extra);
        world.raws[raw].send_exactly(seq, ack, Flags::ACK, b"");
        world.send_raw(raw);
        world.run_for(Duration::from_millis(50));
    }
    let waits = |world: &World| {
        let stack = world.nodes[0].stack();
        let states = stack.slots().filter_map(|slot| Some(stack.flow(slot)?.contract.state));
        states.filter(|state| *state == State::TimeWait).count()
    };
    assert_eq!(waits(&world), 1);
    fill_with_holes(&mut world);
    world.run_for(Duration::from_secs(70));
    assert_eq!(waits(&world), 0);
    let counters = world.nodes[0].stack().counters();
    assert!(counters.drops.of(Drop::PoolExhausted) > 0, "memory was short");
}

/// Clients that acknowledge nothing of what they are sent, who would be held twice what there is: whoever comes then is served
/// as well, and the memory is had back long before patience with them is at its end.
#[test]
fn who_acknowledges_nothing_leaves_room_for_who_comes() {
    const DEAF: usize = 80;
    const CHUNKS: usize = 4096;
    let mut settings = Settings { chunks_max: CHUNKS, flows_max: 200, ..Settings::default() };
    settings.ports.iter_mut().for_each(|port| port.receive_buffer = 256 << 10);
    let mut world = World::serving(settings);
    for _ in 0..DEAF {
        let raw = world.open_raw(ECHO);
        say_deaf(&mut world, raw, 160);
    }
    let held: Vec<u64> = world.nodes[0].flows().map(|flow| flow.output.stored()).collect();
    assert!(held.iter().all(|&held| held >= 8 * 1400), "everybody has a share: {held:?}");
    assert!(exhausted(&world, 0) > 0, "more was said than there is room for");
    world.connect(ClientSettings::default(), echo(20_000));
    let before = exhausted(&world, 0);
    assert!(world.run_until(Duration::from_millis(100), all_done), "whoever comes is served");
    assert_eq!(exhausted(&world, 0), before, "and is offered no more than there is room for");
    let (used, given_up) = (chunks_used(&world), |world: &World| memory(world).given_up);
    assert!(used > 7 * CHUNKS / 8 && given_up(&world) == 0, "{used} chunks are held");
    world.run_for(Duration::from_secs(20));
    assert!(chunks_used(&world) < 7 * CHUNKS / 8, "{} chunks are held", chunks_used(&world));
    let (flows, given_up) = (world.nodes[0].flows().count(), given_up(&world));
    assert!((1..DEAF as u64).contains(&given_up), "{given_up} given up, no more than it takes");
    assert_eq!(flows + given_up as usize, DEAF);
    assert_eq!(world.resets, given_up);
}

/// Says so much without acknowledging what comes back.
fn say_deaf(world: &mut World, raw: usize, segments: usize) {
    let una = world.raws[raw].rcv_nxt;
    for _ in 0..segments {
        let seq = world.raws[raw].snd_nxt;
        world.raws[raw].send_exactly(seq, una, Flags::ACK, &[7; 1400]);
        world.raws[raw].snd_nxt = seq + 1400;
        world.send_raw(raw);
        world.run_for(Duration::from_micros(300));
    }
}

/// RFC 9293 SHLD-14: what an owner has offered is not taken back by a peer that has less memory.
#[test]
fn a_takeover_moves_no_right_edge_to_the_left() {
    let mut settings = Settings { peer_chunks_max: Some(96), ..Settings::default() };
    settings.ports.iter_mut().for_each(|port| port.receive_buffer = 64 << 10);
    let mut world = World::mirrored(settings);
    let raw = world.open_raw(ECHO);
    world.raws[raw].acknowledges = true;
    world.say_raw(raw, Flags::ACK, b"x");
    world.run_for(Duration::from_millis(100));
    let edge = |heard: &Heard| heard.ack + u32::from(heard.window);
    let before = world.raws[raw].heard.iter().map(edge).next_back().expect("an echo");
    for _ in 0..8 {
        let deaf = world.open_raw(ECHO);
        say_deaf(&mut world, deaf, 10);
    }
    let share = world.nodes[1].stack().env.memory.share();
    assert!(share < before.distance(world.raws[raw].snd_nxt) as usize, "{share} bytes");
    world.kill(0);
    world.raws[raw].heard.clear();
    world.promote(1, Epoch(3));
    world.run_for(Duration::from_millis(300));
    let edges: Vec<_> = world.raws[raw].heard.iter().map(edge).collect();
    assert!(!edges.is_empty(), "it is woken");
    assert!(edges.iter().all(|edge| edge.after_eq(before)), "{edges:?}, and before {before:?}");
}

fn put(len: usize) -> Vec<u8> {
    let mut bytes =
        format!("PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: {len}\r\n\r\n").into_bytes();
    bytes.extend(Random::new(len as u64).bytes(len));
    bytes
}

/// An upload that stops in its middle for a while.
fn slow_upload(len: usize, pause: Duration) -> Dialogue {
    let mut bytes = put(len);
    let rest = bytes.split_off(bytes.len() / 2);
    let steps = vec![
        Step::Send(bytes),
        Step::Pause(pause),
        Step::Send(rest),
        Step::Responses(1),
        Step::Close,
        Step::End,
        Step::Gone,
    ];
    Dialogue::new("upload", HTTP, steps)
}

fn echo(len: usize) -> Dialogue {
    let bytes = Random::new(len as u64).bytes(len);
    let steps = vec![Step::Send(bytes), Step::Receive(len), Step::Close, Step::End, Step::Gone];
    Dialogue::new("echo", ECHO, steps)
}

fn refused(world: &World, node: usize) -> u64 {
    world.nodes[node].stack().env.senders.refused
}

fn exhausted(world: &World, node: usize) -> u64 {
    world.nodes[node].stack().counters().drops.of(Drop::PoolExhausted)
}

fn all_done(world: &World) -> bool {
    world.clients.iter().all(|client| client.is_done())
}

/// Two places for eight flows that all have something to say, handshakes included: who finds none waits, and
/// everybody ends, also when the owner dies among it.
#[test]
fn more_flows_with_something_in_flight_than_places() {
    for dies_after in [None, Some(30), Some(120), Some(300)] {
        let settings = Settings { active_max: Some(2), chunks_max: 2048, ..Settings::default() };
        let mut world = World::mirrored(settings);
        for n in 0..8 {
            world.connect(ClientSettings::default(), echo(20_000 + n));
        }
        if let Some(ms) = dies_after {
            world.run_for(Duration::from_millis(ms));
            world.kill(0);
            world.run_for(Duration::from_millis(40));
            world.promote(1, Epoch(2));
        }
        assert!(world.run_until(Duration::from_secs(100), all_done), "{dies_after:?}");
        for (n, client) in world.clients.iter().enumerate() {
            assert_eq!(client.received, Random::new(20_000 + n as u64).bytes(20_000 + n));
        }
        assert!(refused(&world, 0) + refused(&world, 1) > 0, "there were too few places");
        let serving = if dies_after.is_some() { 1 } else { 0 };
        world.run_for(Duration::from_secs(1));
        assert!(world.nodes[serving].stack().env.senders.is_unused());
    }
}

/// One hash for five uploads: the others wait until their clients send again, and what needs none is served.
#[test]
fn more_uploads_than_hashes() {
    let settings = Settings { uploads_max: Some(1), chunks_max: 2048, ..Settings::default() };
    let mut world = World::mirrored(settings);
    for n in 0..5 {
        world
            .connect(ClientSettings::default(), slow_upload(5_000 + n, Duration::from_millis(300)));
    }
    world.run_for(Duration::from_millis(100));
    assert_eq!(world.nodes[0].stack().env.memory.hashes.available(), 0);
    let get = b"GET /generate/3000 HTTP/1.1\r\nHost: x\r\n\r\n".to_vec();
    let steps = vec![Step::Send(get), Step::Responses(1), Step::Close, Step::End, Step::Gone];
    let reader = world.connect(ClientSettings::default(), Dialogue::new("get", HTTP, steps));
    let before = exhausted(&world, 0);
    assert!(before > 0, "the others were told nothing");
    world.run_for(Duration::from_millis(100));
    assert!(world.clients[reader].received.len() > 3000, "a download needs no hash");
    assert!(world.run_until(Duration::from_secs(60), all_done));
    let lost: u64 = world.nodes[1].status().map(|status| status.backup.lost).sum();
    assert_eq!(lost, 0, "the peer applied what the owner accepted");
    assert!(world.nodes.iter().all(|node| node.stack().env.memory.hashes.used() == 0));
}

/// As many uploads in one segment as one hash can take in turn, and one that waits in the backlog.
#[test]
fn pipelined_uploads_take_turns_with_one_hash() {
    let settings = Settings { uploads_max: Some(1), ..Settings::default() };
    let mut world = World::mirrored(settings);
    for _ in 0..2 {
        let bytes = [put(10), put(20), b"GET /ten HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), put(30)];
        let steps = vec![
            Step::Send(bytes.concat()),
            Step::Responses(4),
            Step::Close,
            Step::End,
            Step::Gone,
        ];
        world.connect(ClientSettings::default(), Dialogue::new("pipelined", HTTP, steps));
    }
    assert!(world.run_until(Duration::from_secs(60), all_done));
}
