//! Connections that a node opens, and what of it waits for the peer.

use cluster::id::{Epoch, GroupId};
use cluster::role::Command;
use stack::drop::Drop;
use stack::seq::Seq;
use stack::tcp::state::State;
use stack::time::Duration;
use stack::wire::Flags;
use tests::kit::raw::Heard;
use tests::kit::settings::{ECHO, Link, Settings};
use tests::kit::world::World;

const SYN_ACK: Flags = Flags::SYN.with(Flags::ACK);

/// A cluster link on which nothing arrives.
const CUT: Link =
    Link { delay: Duration::ZERO, jitter: Duration::ZERO, loss_permille: 1000, twice_permille: 0 };

/// One service, echo.
fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.ports.retain(|port| port.port == ECHO);
    settings
}

/// Node 0 opens a connection to a client made by hand.
fn connect(world: &mut World) -> usize {
    let raw = world.raw(ECHO);
    let (key, mac, now) = (world.raws[raw].key(), world.raws[raw].mac(), world.now);
    let opened = world.nodes[0].connect(now, 0, key, mac);
    assert!(opened.is_ok(), "{opened:?}");
    world.run_for(Duration::from_millis(1));
    raw
}

fn exchange(world: &mut World, raw: usize) -> Vec<Heard> {
    world.send_raw(raw);
    world.run_for(Duration::from_millis(1));
    world.raws[raw].take_all()
}

fn state(world: &World, node: usize, raw: usize) -> Option<State> {
    world.nodes[node].find(&world.raws[raw].key()).map(|flow| flow.contract.state)
}

fn take_over(world: &mut World) {
    world.kill(0);
    world.run_for(Duration::from_millis(30));
    world.promote(1, Epoch(3));
    world.run_for(Duration::from_millis(1));
}

/// DESIGN 5, rule 2: to begin is a decision; the SYN waits for its record, and so does every answer.
#[test]
fn a_syn_of_ours_waits_for_the_peer() {
    let mut world = World::mirrored(settings());
    world.settings.cluster_link = CUT;
    let raw = connect(&mut world);
    world.run_for(Duration::from_secs(3));
    assert!(world.raws[raw].take_all().is_empty());
    // Not even a reset tells of it.
    world.raws[raw].send_exactly(Seq(5), Seq(77), Flags::ACK, &[]);
    assert!(exchange(&mut world, raw).is_empty());
    assert_eq!(world.nodes[0].stack().counters().drops.of(Drop::AckUnsent), 1);
    // The register says that the peer is gone: what waited flows.
    world.command(0, Command::Alone { group: GroupId::new(0, 0), epoch: Epoch(3) });
    world.drive(0);
    world.run_for(Duration::from_millis(1));
    let syn = world.raws[raw].take_all();
    assert_eq!((syn.len(), syn[0].flags), (1, Flags::SYN));
    world.raws[raw].send_exactly(Seq(5), Seq(77), Flags::ACK, &[]);
    let reset = exchange(&mut world, raw);
    assert_eq!((reset[0].flags, reset[0].seq), (Flags::RST, Seq(77)));
}

/// DESIGN 5, rule 1: the ACK of a SYN-ACK waits for the record of that.
#[test]
fn the_ack_of_a_syn_ack_waits_for_the_peer() {
    let mut world = World::mirrored(settings());
    let raw = connect(&mut world);
    assert_eq!(world.raws[raw].take_all()[0].flags, Flags::SYN);
    world.settings.cluster_link = CUT;
    world.raws[raw].send(SYN_ACK, &[]);
    assert!(exchange(&mut world, raw).is_empty());
    assert_eq!(state(&world, 0, raw), Some(State::Established));
    // The peer has not heard of the SYN-ACK: it repeats the SYN, and takes the SYN-ACK when it comes again.
    let behind_syn = world.raws[raw].rcv_nxt;
    take_over(&mut world);
    let again = world.raws[raw].take_all();
    assert_eq!((again.len(), again[0].flags, again[0].seq), (1, Flags::SYN, behind_syn - 1));
    world.settings.cluster_link = Settings::default().cluster_link;
    world.raws[raw].snd_nxt = Seq(7_000);
    world.raws[raw].send(SYN_ACK, &[]);
    let ack = exchange(&mut world, raw);
    assert_eq!((ack.len(), ack[0].flags, ack[0].ack), (1, Flags::ACK, Seq(7_001)));
}

/// However long nothing was heard: a promoted flow in SYN-SENT repeats the SYN at once, with the same number.
#[test]
fn a_promoted_flow_repeats_its_syn() {
    let mut world = World::mirrored(settings());
    let raw = connect(&mut world);
    let first = world.raws[raw].take_all();
    world.run_for(Duration::from_millis(5_500));
    world.raws[raw].take_all();
    assert_eq!(state(&world, 1, raw), Some(State::SynSent));
    take_over(&mut world);
    let again = world.raws[raw].take_all();
    assert_eq!((again.len(), again[0].flags, again[0].seq), (1, Flags::SYN, first[0].seq));
    // It goes on as any SYN does.
    world.run_for(Duration::from_millis(1_500));
    assert_eq!(world.raws[raw].take_all().len(), 1);
}

/// A SYN-ACK that answers the former owner's SYN opens, though the new one has not said anything yet.
#[test]
fn a_syn_ack_for_a_former_owner_opens() {
    let mut world = World::mirrored(settings());
    let raw = connect(&mut world);
    assert_eq!(world.raws[raw].take_all()[0].flags, Flags::SYN);
    // Without the lease nothing is said.
    world.nodes[1].set_voice(0, false);
    take_over(&mut world);
    assert!(world.raws[raw].take_all().is_empty());
    world.raws[raw].send(SYN_ACK, &[]);
    world.send_raw_to(raw, 1);
    world.run_for(Duration::from_millis(1));
    assert_eq!(state(&world, 1, raw), Some(State::Established));
    assert!(world.raws[raw].take_all().is_empty());
    world.nodes[1].set_voice(0, true);
    world.drive(1);
    world.run_for(Duration::from_millis(1));
    let ack = world.raws[raw].take_all();
    assert!(ack.iter().all(|ack| (ack.flags, ack.ack) == (Flags::ACK, Seq(7_001))), "{ack:?}");
    assert!(!ack.is_empty());
}

/// A flow that is being opened is captured like any other.
#[test]
fn a_flow_in_syn_sent_is_captured() {
    let mut world = World::serving(settings());
    let raw = connect(&mut world);
    let first = world.raws[raw].take_all();
    world.mirror(0, Epoch(2));
    world.run_for(Duration::from_millis(5));
    assert_eq!(state(&world, 1, raw), Some(State::SynSent));
    take_over(&mut world);
    let again = world.raws[raw].take_all();
    assert_eq!((again[0].flags, again[0].seq), (Flags::SYN, first[0].seq));
    world.raws[raw].send(SYN_ACK, &[]);
    exchange(&mut world, raw);
    world.raws[raw].send(Flags::ACK.with(Flags::PSH), b"hello");
    assert_eq!(exchange(&mut world, raw)[0].payload, b"hello");
}
