//! What a promoted peer says first.

use cluster::id::Epoch;
use stack::time::Duration;
use stack::wire::Flags;
use tests::kit::client::ClientSettings;
use tests::kit::dialogue::{Dialogue, Step};
use tests::kit::settings::{DISCARD, ECHO, GENERATE_STAY, HTTP, Settings};
use tests::kit::world::World;

fn take_over(world: &mut World) {
    world.kill(0);
    world.run_for(Duration::from_millis(30));
    world.promote(1, Epoch(3));
    world.run_for(Duration::from_millis(1));
}

#[test]
fn a_flow_with_nothing_to_say_is_kicked_by_one_ack_and_then_probed_once() {
    let mut world = World::mirrored(Settings::default());
    let raw = world.open_raw(ECHO);
    world.raws[raw].take_all();
    take_over(&mut world);
    let first = world.raws[raw].take_all();
    assert_eq!(first.len(), 1, "{first:?}");
    assert_eq!((first[0].flags, first[0].payload.len()), (Flags::ACK, 0));
    assert_eq!(first[0].ack, world.raws[raw].snd_nxt);
    world.run_for(Duration::from_secs(5));
    let later = world.raws[raw].take_all();
    assert_eq!(later.len(), 1, "{later:?}");
    assert_eq!(later[0].seq, first[0].seq - 1);
}

#[test]
fn unacknowledged_data_is_kicked_by_its_oldest_segment_alone() {
    let mut world = World::mirrored(Settings::default());
    let raw = world.open_raw(GENERATE_STAY);
    let said = world.raws[raw].take_all();
    assert_eq!(said.iter().map(|heard| heard.payload.len()).sum::<usize>(), 9000);
    take_over(&mut world);
    let kick = world.raws[raw].take_all();
    assert_eq!(kick.len(), 1, "{kick:?}");
    assert_eq!((kick[0].seq, kick[0].payload.len()), (said[0].seq, said[0].payload.len()));
    // The client has everything that the former owner said: the rest is not repeated.
    world.raws[raw].send(Flags::ACK, &[]);
    world.send_raw(raw);
    world.run_for(Duration::from_secs(3));
    let later = world.raws[raw].take_all();
    assert!(later.iter().all(|heard| heard.payload.is_empty()), "{later:?}");
}

#[test]
fn a_half_open_flow_is_kicked_by_its_syn_ack() {
    let mut world = World::mirrored(Settings::default());
    let raw = world.raw(ECHO);
    world.raws[raw].send(Flags::SYN, &[]);
    world.send_raw(raw);
    world.run_for(Duration::from_millis(2));
    let syn_ack = world.raws[raw].take_all();
    take_over(&mut world);
    let kick = world.raws[raw].take_all();
    assert_eq!(kick.len(), 1, "{kick:?}");
    assert_eq!((kick[0].flags, kick[0].seq), (syn_ack[0].flags, syn_ack[0].seq));
}

/// A router has taken another's place during a connection: who takes over knows the way without asking.
#[test]
fn a_client_behind_another_router_is_kicked_by_way_of_that_one() {
    let mut world = World::mirrored(Settings::default());
    let raw = world.open_raw(ECHO);
    world.raws[raw].router = Some([2, 7, 0, 0, 0, 1]);
    world.raws[raw].send(Flags::ACK, b"by another way");
    world.send_raw(raw);
    world.run_for(Duration::from_millis(5));
    let echo = world.raws[raw].take_all();
    assert_eq!(
        echo.iter().flat_map(|heard| heard.payload.clone()).collect::<Vec<_>>(),
        b"by another way"
    );
    take_over(&mut world);
    assert_eq!(world.raws[raw].take_all().len(), 1, "the kick");
}

#[test]
fn a_closed_window_is_kicked_by_one_byte() {
    let mut world = World::mirrored(Settings::default());
    let raw = world.open_raw(GENERATE_STAY);
    let said = world.raws[raw].take_all();
    world.raws[raw].window = 0;
    world.raws[raw].send(Flags::ACK, &[]);
    world.send_raw(raw);
    world.run_for(Duration::from_millis(20));
    let _ = said;
    take_over(&mut world);
    let kick = world.raws[raw].take_all();
    assert!(kick.len() <= 1 && kick.iter().all(|heard| heard.payload.len() <= 1), "{kick:?}");
}

#[test]
fn the_announcement_leaves_at_once_and_again() {
    let mut world = World::mirrored(Settings::default());
    let before = world.neighbor();
    take_over(&mut world);
    assert_ne!(world.neighbor(), before, "the clients know within a millisecond");
}

/// The reset that a client sent into the outage is not known to the peer; the client's answer tells.
#[test]
fn a_connection_that_the_client_has_forgotten_ends() {
    let mut world = World::mirrored(Settings::default());
    let raw = world.open_raw(ECHO);
    take_over(&mut world);
    let kick = world.raws[raw].take_all();
    let seq = kick[0].ack;
    world.raws[raw].send_at(seq, Flags::RST, &[]);
    world.send_raw(raw);
    world.run_for(Duration::from_millis(5));
    assert_eq!(world.nodes[1].stack().slots().count(), 0);
}

/// A node that comes back must not give the names of its former life's flows to new ones.
#[test]
fn flow_names_are_not_given_twice() {
    let mut world = World::mirrored(Settings::default());
    let old = world.open_raw(ECHO);
    take_over(&mut world);
    world.restart(0);
    world.mirror(1, Epoch(4));
    world.run_for(Duration::from_millis(10));
    world.kill(1);
    world.run_for(Duration::from_millis(10));
    world.promote(0, Epoch(5));
    world.run_for(Duration::from_millis(5));
    let new = world.open_raw(ECHO);
    let stack = world.nodes[0].stack();
    let id = |world: &World, raw: usize| {
        stack.flow(stack.find(&world.raws[raw].key()).expect("alive")).expect("in use").id
    };
    assert_ne!(id(&world, old), id(&world, new));
}

/// Nor if it comes back with another number of cores, on which its former flows lie elsewhere.
#[test]
fn flow_names_are_not_given_twice_on_other_cores() {
    let mut world = World::mirrored(Settings {
        cores: [2, 3],
        flows_max: 64,
        chunks_max: 2048,
        ..Settings::default()
    });
    let old: Vec<usize> = (0..12).map(|_| world.open_raw(ECHO)).collect();
    take_over(&mut world);
    world.settings.cores = [3, 3];
    world.restart(0);
    world.mirror(1, Epoch(4));
    world.run_for(Duration::from_millis(10));
    world.kill(1);
    world.run_for(Duration::from_millis(10));
    world.promote(0, Epoch(5));
    world.run_for(Duration::from_millis(5));
    let new: Vec<usize> = (0..12).map(|_| world.open_raw(ECHO)).collect();
    let id = |raw: &usize| world.nodes[0].find(&world.raws[*raw].key()).expect("alive").id;
    let mut ids: Vec<_> = old.iter().chain(&new).map(id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 24);
}

/// The addresses are announced by one core alone.
#[test]
fn several_cores_announce_an_address_once() {
    let mut worlds = [[1, 1], [2, 3]].map(|cores| {
        let mut world = World::mirrored(Settings { cores, ..Settings::default() });
        take_over(&mut world);
        world
    });
    let frames = |world: &World| {
        world.nodes[1].stacks().map(|stack| stack.counters().tx_frames).sum::<u64>()
    };
    assert!(frames(&worlds[0]) > 0);
    assert_eq!(frames(&worlds[0]), frames(&worlds[1]));
    for world in &mut worlds {
        world.run_for(Duration::from_secs(5));
    }
    assert_eq!(frames(&worlds[0]), frames(&worlds[1]));
}

/// TSval after a takeover is beyond anything that the former owner can have said.
#[test]
fn timestamps_jump_ahead() {
    let mut world = World::mirrored(Settings::default());
    let raw = world.raw(ECHO);
    world.raws[raw].options.timestamps = Some((5, 0));
    world.raws[raw].send(Flags::SYN, &[]);
    world.send_raw(raw);
    world.run_for(Duration::from_millis(1));
    let before = world.raws[raw].take().and_then(|heard| heard.options.timestamps);
    let (before, _) = before.expect("timestamps were agreed on");
    take_over(&mut world);
    let after = world.raws[raw].take_all()[0].options.timestamps.expect("in every segment").0;
    assert!(after.wrapping_sub(before) >= 1400, "{before} {after}");
}

/// One client with a real TCP, in the middle of a response, gets on within two round trips and a kick.
#[test]
fn a_download_resumes_within_milliseconds_of_the_promotion() {
    for cores in [[1, 1], [2, 3]] {
        a_download_resumes(Settings { cores, ..Settings::default() });
    }
}

fn a_download_resumes(settings: Settings) {
    let mut world = World::mirrored(settings);
    let get = b"GET /generate/3000000 HTTP/1.1\r\nHost: x\r\n\r\n".to_vec();
    let steps = vec![Step::Send(get), Step::Responses(1)];
    let client = world.connect(ClientSettings::default(), Dialogue::new("download", HTTP, steps));
    world.run_until(Duration::from_secs(1), |world| world.clients[client].received.len() > 90_000);
    world.kill(0);
    world.run_for(Duration::from_millis(30));
    let before = world.clients[client].received.len();
    world.promote(1, Epoch(3));
    let resumed = world.run_until(Duration::from_millis(5), |world| {
        world.clients[client].received.len() > before + 20_000
    });
    assert!(resumed, "{before} {}", world.clients[client].describe());
}

/// DESIGN 9, hold-back: the newest full segment of an upload stays unacknowledged for a moment, so that the
/// kick has an acknowledgement to advance.
#[test]
fn the_kick_of_an_upload_advances_the_acknowledgement() {
    let mut world = World::mirrored(Settings::default());
    let raw = world.open_raw(DISCARD);
    for _ in 0..5 {
        world.raws[raw].send(Flags::ACK, &[7; 1460]);
    }
    world.send_raw(raw);
    world.run_for(Duration::from_millis(1));
    let before = world.raws[raw].take_all().last().expect("acknowledged").ack;
    assert_eq!(before, world.raws[raw].snd_nxt - 1460);
    take_over(&mut world);
    assert_eq!(world.raws[raw].take_all()[0].ack, world.raws[raw].snd_nxt);
}

/// What a router says of the segment at `seq`: it takes 1000 bytes.
fn too_big(world: &World, raw: usize, seq: stack::seq::Seq) -> Vec<u8> {
    let key = world.raws[raw].key();
    let [server, client] = [key.local, key.remote].map(|end| end.as_v4().expect("IPv4"));
    let ip = |bytes: u16, protocol: u8, source: [u8; 4], destination: [u8; 4]| {
        let mut header = vec![0x45, 0];
        header.extend(bytes.to_be_bytes());
        header.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
        header.extend(source);
        header.extend(destination);
        header
    };
    let mut icmp = vec![3, 4, 0, 0, 0, 0, 0x03, 0xe8];
    icmp.extend(ip(1500, 6, server, client));
    icmp.extend(key.local_port.to_be_bytes());
    icmp.extend(key.remote_port.to_be_bytes());
    icmp.extend(seq.0.to_be_bytes());
    let mut packet = ip(20 + icmp.len() as u16, 1, [10, 9, 9, 9], server);
    for (bytes, at) in [(&mut icmp, 2), (&mut packet, 10)] {
        let words = bytes.chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
        let sum = words.sum::<u32>();
        let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
        bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    }
    let mut frame = Vec::from(world.neighbor().expect("announced"));
    frame.extend(world.raws[raw].mac());
    frame.extend([8, 0]);
    frame.extend(packet);
    frame.extend(icmp);
    frame
}

/// RFC 1191 under DESIGN 4: the path MTU is local. A promoted flow does not know it, is told, and sends its kick
/// again in pieces that fit.
#[test]
fn the_path_mtu_is_learnt_again_after_a_takeover() {
    // The error comes in at a core that need not be the flow's.
    let mut world = World::mirrored(Settings { cores: [3, 2], ..Settings::default() });
    let raw = world.open_raw(GENERATE_STAY);
    let una = world.raws[raw].take_all()[0].seq;
    let frame = too_big(&world, raw, una);
    world.send_request(frame);
    world.run_for(Duration::from_millis(1));
    let again = world.raws[raw].take_all();
    assert_eq!((again[0].seq, again[0].payload.len()), (una, 960));
    take_over(&mut world);
    let kick = world.raws[raw].take_all();
    assert_eq!((kick.len(), kick[0].seq, kick[0].payload.len()), (1, una, 1460));
    let frame = too_big(&world, raw, una);
    world.send_request(frame);
    world.run_for(Duration::from_millis(1));
    let again: Vec<_> =
        world.raws[raw].take_all().iter().map(|heard| (heard.seq, heard.payload.len())).collect();
    assert_eq!(again, [(una, 960), (una + 960, 500)], "the kicked segment and no more");
    world.raws[raw].acknowledges = true;
    world.raws[raw].send(Flags::ACK, &[]);
    world.send_raw(raw);
    world.run_for(Duration::from_secs(3));
    assert_eq!(world.raws[raw].received.len(), 9000);
    assert_eq!(world.resets, 0);
}
