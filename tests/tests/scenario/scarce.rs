//! Pools that run dry: what gives memory back is never refused for want of it.

use stack::drop::Drop;
use stack::tcp::state::State;
use stack::time::Duration;
use stack::wire::Flags;
use tests::kit::settings::{DISCARD, GENERATE, Settings};
use tests::kit::world::World;

const CHUNKS: usize = 40;

fn scarce() -> World {
    World::serving(Settings { chunks_max: CHUNKS, ..Settings::default() })
}

/// A raw client with an open connection that acknowledges what it gets.
fn open(world: &mut World, port: u16) -> usize {
    let raw = world.raw(port);
    world.raws[raw].acknowledges = true;
    world.raws[raw].send(Flags::SYN, b"");
    world.send_raw(raw);
    world.run_for(Duration::from_millis(5));
    world.raws[raw].send(Flags::ACK, b"");
    world.send_raw(raw);
    world.run_for(Duration::from_millis(50));
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

fn chunks_used(world: &World) -> usize {
    world.nodes[0].stack().env.memory.chunks.used()
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
