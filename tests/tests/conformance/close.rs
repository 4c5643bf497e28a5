//! Closing: RFC 9293 3.6.

use stack::tcp::state::State;
use stack::time::Duration;
use stack::wire::Flags;
use tests::kit::raw::Heard;
use tests::kit::settings::{ECHO, GENERATE, Settings};
use tests::kit::world::World;

fn exchange(world: &mut World, raw: usize) -> Vec<Heard> {
    world.send_raw(raw);
    world.run_for(Duration::from_millis(2));
    world.raws[raw].heard.drain(..).collect()
}

fn connected(world: &mut World, port: u16) -> usize {
    let raw = world.raw(port);
    world.raws[raw].options.mss = Some(1460);
    world.raws[raw].send(Flags::SYN, &[]);
    world.raws[raw].options.mss = None;
    exchange(world, raw);
    raw
}

fn state(world: &World, raw: usize) -> Option<State> {
    let stack = world.nodes[0].stack();
    let slot = stack.find(&world.raws[raw].key())?;
    stack.flow(slot).map(|flow| flow.contract.state)
}

const FIN_ACK: Flags = Flags::FIN.with(Flags::ACK);

#[test]
fn the_client_closes_first() {
    let mut world = World::mirrored(Settings::default());
    let raw = connected(&mut world, ECHO);
    world.raws[raw].send(FIN_ACK, &[]);
    let answer = exchange(&mut world, raw);
    let fins = answer.iter().filter(|heard| heard.flags.has(Flags::FIN)).count();
    assert_eq!((fins, state(&world, raw)), (1, Some(State::LastAck)));
    assert_eq!(answer.last().expect("answered").ack, world.raws[raw].snd_nxt);
    world.raws[raw].send(Flags::ACK, &[]);
    exchange(&mut world, raw);
    assert_eq!(state(&world, raw), None);
    assert_eq!(world.nodes[1].stack().slots().count(), 0);
}

#[test]
fn the_server_closes_first_and_waits() {
    let mut world = World::mirrored(Settings::default());
    let raw = connected(&mut world, GENERATE);
    world.raws[raw].acknowledges = true;
    world.raws[raw].send(Flags::ACK, &[]);
    for _ in 0..4 {
        exchange(&mut world, raw);
    }
    assert_eq!(world.raws[raw].received.len(), 9000);
    assert_eq!(state(&world, raw), Some(State::FinWait2));
    world.raws[raw].send(FIN_ACK, &[]);
    exchange(&mut world, raw);
    assert_eq!(state(&world, raw), Some(State::TimeWait));
    // A repeated FIN is acknowledged again.
    let fin = world.raws[raw].snd_nxt - 1;
    world.raws[raw].send_at(fin, FIN_ACK, &[]);
    assert_eq!(exchange(&mut world, raw).len(), 1);
    world.run_for(Duration::from_secs(61));
    assert_eq!(state(&world, raw), None);
}

#[test]
fn both_close_at_once() {
    let mut world = World::mirrored(Settings::default());
    let raw = connected(&mut world, GENERATE);
    world.raws[raw].send(Flags::ACK, &[]);
    exchange(&mut world, raw);
    assert_eq!(state(&world, raw), Some(State::FinWait1));
    // The client's FIN acknowledges all payload, and not the FIN.
    let (seq, ack) = (world.raws[raw].snd_nxt, world.raws[raw].rcv_nxt - 1);
    world.raws[raw].send_exactly(seq, ack, FIN_ACK, &[]);
    world.raws[raw].snd_nxt = seq + 1;
    exchange(&mut world, raw);
    assert_eq!(state(&world, raw), Some(State::Closing));
    world.raws[raw].send(Flags::ACK, &[]);
    exchange(&mut world, raw);
    assert_eq!(state(&world, raw), Some(State::TimeWait));
}

/// RFC 6191, RFC 9293 3.10.7.4: a newer SYN opens anew in place of TIME-WAIT.
#[test]
fn a_newer_syn_ends_time_wait() {
    let mut world = World::mirrored(Settings::default());
    let raw = connected(&mut world, GENERATE);
    world.raws[raw].acknowledges = true;
    world.raws[raw].send(Flags::ACK, &[]);
    for _ in 0..4 {
        exchange(&mut world, raw);
    }
    world.raws[raw].send(FIN_ACK, &[]);
    exchange(&mut world, raw);
    assert_eq!(state(&world, raw), Some(State::TimeWait));
    world.raws[raw].snd_nxt += 100_000;
    world.raws[raw].send(Flags::SYN, &[]);
    let answer = exchange(&mut world, raw);
    assert!(answer.iter().any(|heard| heard.flags.has(Flags::SYN)), "{answer:?}");
    assert_eq!(world.nodes[1].stack().slots().count(), 1, "the peer follows");
    assert_eq!(world.nodes[1].status().map(|s| s.backup.lost).sum::<u64>(), 0);
}
