//! Frames that reach a node which does not serve them travel on, once in each ownership.

use cluster::id::{Epoch, GroupId, Incarnation, Member, NodeId};
use cluster::link::{self, Endpoint};
use cluster::mirror::{FramePart, Kind, Session, put_frame, put_header};
use cluster::role::Command;
use stack::time::Duration;
use stack::wire::Flags;
use tests::kit::settings::{ECHO, Settings};
use tests::kit::world::World;

const ACK: Flags = Flags::ACK;

/// Node 0 has handed everything over to node 1, in epoch 3; a client has an echo under way.
fn handed_over(cores: [u8; 2]) -> (World, usize) {
    let mut settings = Settings { cores, ..Settings::default() };
    settings.ports.retain(|port| port.port == ECHO);
    let mut world = World::mirrored_slowly(settings);
    let raw = world.raw(ECHO);
    world.raws[raw].send(Flags::SYN, &[]);
    world.send_raw(raw);
    world.run_for(Duration::from_millis(2));
    world.raws[raw].acknowledges = true;
    world.raws[raw].send(ACK, &[]);
    world.send_raw(raw);
    world.run_for(Duration::from_millis(2));
    assert!(world.swap(0, Epoch(2), 1));
    world.run_for(Duration::from_millis(2));
    (world, raw)
}

fn count(world: &World, node: usize, name: &str) -> u64 {
    let counters = world.nodes[node].forwarded();
    counters.iter().find(|(known, _)| *known == name).expect("a counter").1
}

#[test]
fn what_reaches_the_former_owner_is_answered_by_the_new_one() {
    for cores in [[1, 1], [2, 1], [1, 3], [3, 2]] {
        let (mut world, raw) = handed_over(cores);
        // The second is too long for one datagram of the cluster link.
        for len in [5, 1460] {
            let before = world.raws[raw].received.len();
            world.raws[raw].send(ACK.with(Flags::PSH), &vec![b'x'; len]);
            world.send_raw_to(raw, 0);
            world.run_for(Duration::from_millis(1));
            assert_eq!(world.raws[raw].received.len() - before, len, "{cores:?}");
        }
        let newcomer = world.raw(ECHO);
        world.raws[newcomer].send(Flags::SYN, &[]);
        world.send_raw_to(newcomer, 0);
        world.run_for(Duration::from_millis(1));
        let answer = world.raws[newcomer].take().expect("an answer");
        assert_eq!(answer.flags, ACK.with(Flags::SYN), "a connection may begin like that");
        assert_eq!(count(&world, 0, "forward_sent"), count(&world, 1, "forward_received"));
        assert_eq!(world.resets, 0);
    }
}

#[test]
fn a_forwarded_segment_without_a_flow_is_not_answered() {
    let (mut world, _) = handed_over([1, 1]);
    let stranger = world.raw(ECHO);
    for (node, resets) in [(0, 0), (1, 1)] {
        world.raws[stranger].send(ACK, b"who am I?");
        world.send_raw_to(stranger, node);
        world.run_for(Duration::from_millis(5));
        assert_eq!(world.resets, resets, "at node {node}");
    }
    let drops = &world.nodes[1].stack().counters().drops;
    assert_eq!(drops.of(stack::drop::Drop::ForwardedUnknown), 1);
}

#[test]
fn a_late_forwarded_frame_goes_on_to_the_next_owner_and_is_void_in_a_later_ownership() {
    let (mut world, raw) = handed_over([1, 1]);
    world.raws[raw].send(ACK, b"late");
    world.send_raw_to(raw, 0);
    world.run_until(Duration::from_millis(1), |world| count(world, 0, "forward_sent") == 1);
    let datagrams = world.take_datagrams(1);
    let frame = datagrams.last().expect("it left last");
    assert!(world.swap(1, Epoch(3), 2));
    world.run_for(Duration::from_millis(5));
    world.hand_datagram(1, frame);
    world.drive(1);
    world.run_for(Duration::from_millis(1));
    assert_eq!((count(&world, 1, "forward_sent"), count(&world, 0, "forward_received")), (1, 1));
    assert_eq!(world.raws[raw].received, b"late");
    // Once more the same way: the client hears that it has said that already.
    world.hand_datagram(1, frame);
    world.drive(1);
    world.run_for(Duration::from_millis(1));
    assert_eq!((count(&world, 1, "forward_sent"), count(&world, 0, "forward_received")), (2, 2));
    assert!(world.swap(0, Epoch(4), 3));
    world.run_for(Duration::from_millis(5));
    world.hand_datagram(1, frame);
    world.drive(1);
    assert_eq!(count(&world, 1, "forward_old_epoch"), 1);
    assert_eq!((world.raws[raw].received.as_slice(), world.resets), (&b"late"[..], 0));
}

/// Everybody speaks to the home that is back, which passes it on, while the owner is about to hand over to that very node:
/// what the frozen owner holds comes back to where it came from.
#[test]
fn what_the_next_owner_has_forwarded_to_a_frozen_one_comes_back() {
    for cores in [[1, 1], [2, 1], [1, 3], [3, 2]] {
        let (mut world, raw) = handed_over(cores);
        world.freeze(1, Epoch(3), 2);
        assert!(world.run_until(Duration::from_millis(5), |world| world.is_frozen(1, 2)));
        world.raws[raw].send(ACK, b"to whoever is next");
        world.send_raw_to(raw, 0);
        world.run_for(Duration::from_millis(1));
        assert_eq!((count(&world, 0, "forward_sent"), count(&world, 1, "forward_held")), (1, 1));
        world.yield_up(1, Epoch(4));
        world.run_for(Duration::from_millis(1));
        assert_eq!((count(&world, 1, "forward_sent"), count(&world, 0, "forward_held")), (1, 1));
        world.assume(0, Epoch(4));
        world.run_for(Duration::from_millis(1));
        assert_eq!(world.raws[raw].received, b"to whoever is next", "{cores:?}");
        assert_eq!(world.resets, 0);
    }
}

#[test]
fn who_does_not_know_yet_that_it_owns_holds_what_is_forwarded() {
    let (mut world, raw) = handed_over([1, 1]);
    world.freeze(1, Epoch(3), 2);
    assert!(world.run_until(Duration::from_millis(5), |world| world.is_frozen(1, 2)));
    world.raws[raw].send(ACK, b"to whoever is next");
    world.send_raw_to(raw, 1);
    world.yield_up(1, Epoch(4));
    world.run_for(Duration::from_millis(1));
    assert_eq!((count(&world, 1, "forward_held"), count(&world, 0, "forward_held")), (0, 1));
    assert!(world.raws[raw].received.is_empty());
    world.assume(0, Epoch(4));
    world.run_for(Duration::from_millis(1));
    assert_eq!(world.raws[raw].received, b"to whoever is next");
}

#[test]
fn what_is_held_for_too_long_or_finds_no_room_is_dropped_and_counted() {
    let (mut world, raw) = handed_over([1, 1]);
    world.freeze(1, Epoch(3), 2);
    for _ in 0..300 {
        world.raws[raw].send(ACK, b"0123456789");
    }
    world.send_raw_to(raw, 1);
    world.run_for(Duration::from_millis(150));
    assert_eq!(count(&world, 1, "forward_held"), 256);
    assert_eq!(count(&world, 1, "forward_full"), 300 - 256);
    world.run_for(Duration::from_millis(100));
    assert_eq!(count(&world, 1, "forward_expired"), 256);
    world.thaw(1);
    world.raws[raw].snd_nxt = world.raws[raw].snd_nxt - 3000;
    world.raws[raw].send(ACK, b"again");
    world.send_raw_to(raw, 1);
    world.run_for(Duration::from_millis(5));
    assert_eq!(world.raws[raw].received, b"again");
}

/// A third node that does not hear the owner sends what clients say to the peer, under the epoch in force.
#[test]
fn what_reaches_the_peer_of_a_silent_owner_waits_for_its_promotion() {
    let (mut world, raw) = handed_over([1, 1]);
    world.kill(1);
    let heir = world.nodes[0].member();
    world.each_group(|world, group| {
        world.command(0, Command::Route { group, epoch: Epoch(3), to: heir, cores: 1 });
    });
    // One comes from its client, the next from the third node.
    world.raws[raw].send(ACK, b"hello, ");
    world.send_raw_to(raw, 0);
    world.run_for(Duration::from_millis(1));
    world.raws[raw].send(ACK, b"who is next?");
    let frame = world.raws[raw].poll_frame([9; 6]).expect("queued");
    let third = Member { node: NodeId(3), incarnation: Incarnation(301) };
    let session = Session {
        cluster: 1,
        group: GroupId::new(0, 0),
        epoch: Epoch(3),
        from: third,
        from_core: 0,
        to: heir,
        to_core: 0,
    };
    let mut payload = Vec::new();
    put_header(&mut payload, &session, Kind::Frame);
    let total = frame.len() as u16;
    put_frame(&mut payload, &FramePart { number: 0, total, offset: 0, bytes: &frame });
    let mut buffer = [0; 2048];
    let sender = Endpoint { mac: [2, 3, 0, 0, 0, 3], address: [10, 9, 0, 3], port: 7947 };
    let len = link::emit(&mut buffer, &sender, &world.nodes[0].endpoint(), &payload);
    world.hand_datagram(0, &buffer[..len]);
    world.run_for(Duration::from_millis(30));
    assert!(world.raws[raw].received.is_empty(), "a peer says nothing");
    assert_eq!(count(&world, 0, "forward_held"), 2);
    world.promote(0, Epoch(4));
    world.run_for(Duration::from_millis(2));
    assert_eq!(world.raws[raw].received, b"hello, who is next?");
}
