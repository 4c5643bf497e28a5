//! What waits for the peer, and what does not.

use cluster::id::Epoch;
use cluster::mirror::RECORDS_OFFSET;
use cluster::role::{Command, Report};
use stack::seq::Seq;
use stack::service::KeepAlive;
use stack::time::Duration;
use stack::wire::Flags;
use tests::kit::client::{ClientSettings, Ending};
use tests::kit::dialogue::{Dialogue, Step};
use tests::kit::random::Random;
use tests::kit::settings::{DISCARD, ECHO, HTTP, HTTP_IMPATIENT, Link, Settings};
use tests::kit::world::World;

/// A cluster link on which nothing arrives.
const CUT: Link =
    Link { delay: Duration::ZERO, jitter: Duration::ZERO, loss_permille: 1000, twice_permille: 0 };

fn upload(len: usize) -> Dialogue {
    let mut bytes =
        format!("PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: {len}\r\n\r\n").into_bytes();
    bytes.extend(Random::new(5).bytes(len));
    Dialogue::new("upload", HTTP, vec![Step::Send(bytes), Step::Responses(1)])
}

fn download(len: usize) -> Dialogue {
    let get = format!("GET /generate/{len} HTTP/1.1\r\nHost: x\r\n\r\n").into_bytes();
    Dialogue::new("download", HTTP, vec![Step::Send(get), Step::Responses(1)])
}

/// A burst of runs of several connections, of which some belong to another core than received them.
#[test]
fn runs_of_one_burst_come_to_the_cores_that_they_are_for() {
    let mut world = World::mirrored(Settings { cores: [2, 2], ..Settings::default() });
    let raws: Vec<usize> = (0..6).map(|_| world.open_raw(DISCARD)).collect();
    for _ in 0..2 {
        for &raw in &raws {
            for _ in 0..3 {
                world.say_raw(raw, Flags::ACK, &[7; 1000]);
            }
        }
    }
    world.run_for(Duration::from_millis(100));
    for &raw in &raws {
        let acked = world.raws[raw].heard.iter().map(|heard| heard.ack).next_back();
        assert_eq!(acked, Some(world.raws[raw].snd_nxt));
    }
    let counters = || world.nodes[0].engines.iter().map(|engine| engine.stack().counters());
    assert!(counters().all(|counters| counters.drops.total() == 0 && counters.rx_strays == 0));
    // Frames that cross over are handed over one by one here.
    let continued: u64 = counters().map(|counters| counters.rx_continued).sum();
    assert!(world.nodes[0].crossed > 0 && continued > 0, "{continued}");
}

/// Whoever asks to be alone says nothing until that is written: what ends meanwhile waits for a peer that is none any more.
#[test]
fn a_connection_that_ends_while_its_owner_asks_to_be_alone_is_forgotten_once() {
    let mut world = World::mirrored(Settings::default());
    let raw = world.open_raw(ECHO);
    world.kill(1);
    let groups = world.settings.ports.len() as u8;
    (0..groups).for_each(|group| world.nodes[0].set_voice(group, false));
    world.say_raw(raw, Flags::RST, &[]);
    world.run_for(Duration::from_millis(1));
    assert_eq!(world.nodes[0].stack().slots().count(), 1, "its end waits for the peer");
    (0..groups).for_each(|group| world.nodes[0].set_voice(group, true));
    world.each_group(|world, group| world.command(0, Command::Alone { group, epoch: Epoch(3) }));
    // Among very many flows its turn to speak comes before the sweep has seen it.
    let now = world.now;
    assert_eq!(world.nodes[0].engines[0].poll_frame(now, &mut [0; 2048]), None);
    assert_eq!(world.nodes[0].stack().slots().count(), 0);
}

/// DESIGN 5, rule 1: SEG.ACK never exceeds what the peer holds; a SYN-ACK waits for its record.
#[test]
fn a_silent_peer_stops_acknowledgements_and_handshakes() {
    for cores in [[1, 1], [2, 3]] {
        a_silent_peer_stops(Settings { cores, ..Settings::default() });
    }
}

fn a_silent_peer_stops(settings: Settings) {
    let mut world = World::mirrored(settings);
    let client = world.connect(ClientSettings::default(), upload(40_000));
    world.run_for(Duration::from_millis(1));
    world.settings.cluster_link = CUT;
    world.run_for(Duration::from_millis(1));
    let key = *world.said.keys().next().expect("one flow");
    let said = world.said[&key].ack;
    let raw = world.raw(ECHO);
    world.raws[raw].send(Flags::SYN, &[]);
    world.send_raw(raw);
    world.run_for(Duration::from_secs(2));
    let copy = world.nodes[1].find(&key).expect("copied");
    assert_eq!(world.said[&key].ack, said, "nothing more is acknowledged");
    assert!(said.before_eq(copy.contract.rcv_nxt));
    assert!(world.raws[raw].heard.is_empty(), "no SYN-ACK");
    assert!(!world.clients[client].is_done());
    let is_stalled = |report: &Report| matches!(report, Report::Stalled { .. });
    assert!(world.nodes[0].reports.iter().any(is_stalled), "the agent is told");
    // The register says that the peer is gone: everything that waited flows.
    for index in 0..world.settings.ports.len() {
        let group = cluster::id::GroupId::new(index as u32, 0);
        world.command(0, Command::Alone { group, epoch: Epoch(3) });
    }
    world.drive(0);
    assert!(world.run_until(Duration::from_secs(60), |world| world.clients[client].is_done()));
    assert!(world.raws[raw].heard.iter().any(|heard| heard.flags.has(Flags::SYN)));
}

/// DESIGN 5: the data path of a download does not wait for the peer.
#[test]
fn a_download_goes_on_while_the_peer_is_silent() {
    let mut world = World::mirrored(Settings::default());
    let client = world.connect(ClientSettings::default(), download(2_000_000));
    world.run_until(Duration::from_secs(1), |world| world.clients[client].received.len() > 20_000);
    world.settings.cluster_link = CUT;
    let done = world.run_until(Duration::from_secs(20), |world| world.clients[client].is_done());
    assert!(done, "{}", world.clients[client].describe());
}

/// DESIGN 5, rule 2: what follows from a tick waits until the peer holds the tick.
#[test]
fn the_answer_to_an_idle_time_out_waits_for_the_peer() {
    let mut world = World::mirrored(Settings::default());
    let steps = vec![Step::Send(b"GET /x HT".to_vec()), Step::Responses(1)];
    let dialogue = Dialogue::new("impatient", HTTP_IMPATIENT, steps);
    let client = world.connect(ClientSettings::default(), dialogue);
    world.run_for(Duration::from_millis(50));
    world.settings.cluster_link = CUT;
    world.run_for(Duration::from_millis(450));
    assert_eq!(world.clients[client].received.len(), 0, "408 is held");
    world.settings.cluster_link = Link::clean(Duration::from_micros(70));
    assert!(world.run_until(Duration::from_secs(5), |world| world.clients[client].is_done()));
}

/// DESIGN 5: without room in the log, input is dropped as if the network had lost it; nothing is reset.
#[test]
fn a_full_log_drops_input_and_recovers() {
    let mut settings = Settings { flows_max: 128, chunks_max: 4096, ..Settings::default() };
    for port in &mut settings.ports {
        port.receive_buffer = 64 << 10;
    }
    let mut world = World::mirrored(settings);
    let buffers = ClientSettings { send_buffer: 64 << 10, ..ClientSettings::default() };
    for _ in 0..40 {
        world.connect(buffers, upload(200_000));
    }
    world.run_for(Duration::from_millis(2));
    world.settings.cluster_link = CUT;
    world.run_for(Duration::from_millis(400));
    let dropped = world.nodes[0].stack().counters().drops.of(stack::drop::Drop::LogFull);
    assert!(dropped > 0, "the log was full");
    world.settings.cluster_link = Link::clean(Duration::from_micros(70));
    let done = world.run_until(Duration::from_secs(120), |world| {
        world.clients.iter().all(|client| client.is_done())
    });
    assert!(done && world.resets == 0);
    assert!(world.clients.iter().all(|client| client.ending != Ending::Reset));
}

/// DESIGN 5, rule 3: no window beyond what the peer knows, and its edge never moves left.
#[test]
fn the_right_edge_never_moves_left() {
    let mut world = World::mirrored(Settings {
        cluster_link: Link::clean(Duration::from_micros(700)),
        ..Settings::default()
    });
    let raw = world.raw(ECHO);
    world.raws[raw].send(Flags::SYN, &[]);
    world.send_raw(raw);
    world.run_for(Duration::from_millis(5));
    world.raws[raw].acknowledges = true;
    let mut edge = Seq(0);
    for n in 0..300 {
        let bytes = vec![n as u8; 400];
        world.raws[raw].send(Flags::ACK, &bytes);
        world.send_raw(raw);
        world.run_for(Duration::from_micros(150));
        world.send_raw(raw);
        while let Some(heard) = world.raws[raw].take() {
            let right = heard.ack + heard.window as u32;
            assert!(edge == Seq(0) || right.after_eq(edge), "{edge:?} then {heard:?}");
            edge = right;
        }
    }
}

/// DESIGN 6: without a lease nothing leaves, not even an answer to ARP; with one, everything goes on.
#[test]
fn a_node_without_a_lease_is_silent_and_goes_on_with_one() {
    let mut world = World::mirrored(Settings::default());
    let client = world.connect(ClientSettings::default(), download(900_000));
    world.run_until(Duration::from_secs(1), |world| world.clients[client].received.len() > 50_000);
    let groups = world.settings.ports.len() as u8;
    for group in 0..groups {
        world.nodes[0].set_voice(group, false);
    }
    // What had left before arrives.
    world.run_for(Duration::from_millis(1));
    let (received, frames) =
        (world.clients[client].received.len(), world.nodes[0].stack().counters().tx_frames);
    world.run_for(Duration::from_millis(700));
    assert_eq!(world.clients[client].received.len(), received);
    assert_eq!(world.nodes[0].stack().counters().tx_frames, frames);
    for group in 0..groups {
        world.nodes[0].set_voice(group, true);
    }
    world.drive(0);
    assert!(world.run_until(Duration::from_secs(60), |world| world.clients[client].is_done()));
    assert_eq!(world.resets, 0);
}

/// RFC 2883 under rule 1: a copy of what we have taken and the peer does not hold lies above SEG.ACK. It is
/// not reported, nor anything else there, until the peer holds it; then it is, once.
#[test]
fn a_duplicate_is_reported_when_the_peer_holds_it() {
    let mut world = World::mirrored(Settings::default());
    let raw = world.raw(DISCARD);
    world.raws[raw].options.sack_permitted = true;
    world.raws[raw].send(Flags::SYN, &[]);
    world.send_raw(raw);
    world.run_for(Duration::from_millis(5));
    world.raws[raw].options.sack_permitted = false;
    world.raws[raw].heard.clear();
    world.settings.cluster_link = CUT;
    let start = world.raws[raw].snd_nxt;
    world.raws[raw].send(Flags::ACK, &[1; 700]);
    for _ in 0..3 {
        world.raws[raw].send_at(start, Flags::ACK, &[1; 700]);
        world.send_raw(raw);
        world.run_for(Duration::from_millis(20));
    }
    let flow = world.nodes[0].stack();
    let flow = flow.flow(flow.find(&world.raws[raw].key()).expect("open")).expect("in use");
    assert_eq!(flow.contract.rcv_nxt, start + 700, "taken");
    assert!(world.raws[raw].heard.len() >= 3, "every copy is answered");
    for heard in world.raws[raw].heard.drain(..) {
        assert_eq!((heard.ack, heard.options.sack), (start, [None; 4]), "nothing is said of it");
    }
    world.settings.cluster_link = Link::clean(Duration::from_micros(70));
    world.run_for(Duration::from_millis(100));
    let heard: Vec<_> = world.raws[raw].heard.drain(..).collect();
    assert_eq!(heard.len(), 1, "{heard:?}");
    assert_eq!(heard[0].ack, start + 700);
    assert_eq!(heard[0].options.sack, [Some((start, start + 700)), None, None, None]);
}

/// Under rule 1 bytes before a hole may wait for the peer. Until SEG.ACK can say where the hole begins, nothing
/// is said of what lies beyond it: the client would take all from SEG.ACK on for lost.
#[test]
fn a_hole_is_reported_when_its_beginning_is_known() {
    let mut world = World::mirrored(Settings::default());
    let raw = world.raw(DISCARD);
    world.raws[raw].options.sack_permitted = true;
    world.raws[raw].send(Flags::SYN, &[]);
    world.send_raw(raw);
    world.run_for(Duration::from_millis(5));
    world.raws[raw].options.sack_permitted = false;
    world.raws[raw].heard.clear();
    world.settings.cluster_link = CUT;
    let start = world.raws[raw].snd_nxt;
    world.raws[raw].send(Flags::ACK, &[1; 1000]);
    for beyond in [2000, 3000, 4000] {
        world.raws[raw].send_at(start + beyond, Flags::ACK, &[2; 1000]);
    }
    world.send_raw(raw);
    world.run_for(Duration::from_millis(20));
    assert!(world.raws[raw].heard.is_empty(), "{:?}", world.raws[raw].heard);
    world.settings.cluster_link = Link::clean(Duration::from_micros(70));
    world.run_for(Duration::from_millis(100));
    let heard: Vec<_> = world.raws[raw].heard.drain(..).collect();
    assert_eq!(heard.len(), 1, "{heard:?}");
    assert_eq!(heard[0].ack, start + 1000);
    assert_eq!(heard[0].options.sack, [Some((start + 2000, start + 5000)), None, None, None]);
    // And once all is known, every further one is answered at once.
    world.raws[raw].send_at(start + 5000, Flags::ACK, &[2; 1000]);
    world.send_raw(raw);
    world.run_for(Duration::from_micros(500));
    assert_eq!(world.raws[raw].heard.len(), 1);
}

/// DESIGN 5, rule 2: the end that follows from unanswered keep-alive probes is recorded and waits for the peer.
#[test]
fn the_end_by_keep_alive_waits_for_the_peer() {
    let second = Duration::from_secs(1);
    let mut settings = Settings::default();
    settings.ports.retain(|port| port.port == ECHO);
    settings.ports[0].keep_alive = Some(KeepAlive { idle: second, interval: second, count: 2 });
    let mut world = World::mirrored(settings);
    let raw = world.raw(ECHO);
    world.raws[raw].send(Flags::SYN, &[]);
    world.send_raw(raw);
    world.run_for(Duration::from_millis(1));
    world.raws[raw].send(Flags::ACK, &[]);
    world.send_raw(raw);
    world.run_for(Duration::from_millis(2_500));
    let probes = world.raws[raw].heard.drain(..).filter(|heard| heard.flags == Flags::ACK).count();
    assert_eq!(probes, 2);
    world.settings.cluster_link = CUT;
    world.run_for(Duration::from_secs(2));
    assert!(world.raws[raw].heard.is_empty(), "no reset before the peer knows");
    world.settings.cluster_link = Settings::default().cluster_link;
    world.run_for(second);
    assert!(world.raws[raw].heard.iter().any(|heard| heard.flags.has(Flags::RST)));
    let key = world.raws[raw].key();
    assert!(world.nodes.iter().all(|node| node.find(&key).is_none()));
}

/// A record that the peer cannot read is not acknowledged, and nothing behind it: the owner hears of it, and goes on
/// without that peer.
#[test]
fn a_record_that_cannot_be_read_does_not_keep_the_gate_shut() {
    let mut world = World::mirrored(Settings::default());
    let client = world.connect(ClientSettings::default(), upload(40_000));
    world.run_for(Duration::from_millis(1));
    let mut spoilt = 0;
    while !world.nodes[0].reports.iter().any(|report| matches!(report, Report::Stalled { .. })) {
        for mut frame in world.take_datagrams(1) {
            let (from, to) = (world.nodes[0].endpoint(), world.nodes[1].endpoint());
            let mut payload = cluster::link::parse(&mut frame, &to).expect("a datagram").to_vec();
            if let Some(kind) = payload.get_mut(RECORDS_OFFSET) {
                *kind = 0xee;
                spoilt += 1;
            }
            let mut buffer = [0; 2048];
            let len = cluster::link::emit(&mut buffer, &from, &to, &payload);
            world.hand_datagram(1, &buffer[..len]);
            world.drive(1);
        }
        world.run_for(Duration::from_micros(20));
        assert!(spoilt < 10_000, "nobody is told");
    }
    let group = cluster::id::GroupId::new(0, 0);
    let status = world.nodes[1].status().find(|status| status.id == group);
    assert!(status.is_some_and(|status| status.backup.malformed > 0));
    for index in 0..world.settings.ports.len() {
        let group = cluster::id::GroupId::new(index as u32, 0);
        world.command(0, Command::Alone { group, epoch: Epoch(3) });
    }
    assert!(world.run_until(Duration::from_secs(2), |world| world.clients[client].is_done()));
}
