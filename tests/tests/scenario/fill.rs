//! A peer joins while flows are active.

use cluster::id::Epoch;
use cluster::limits::{DIGEST_INTERVAL, FILL_FLOWS_PER_POLL, FILL_PACE, TEND_EVERY};
use cluster::mirror::{Body, Kind, RecordKind, decode, put_header, put_record};
use cluster::role::Report;
use stack::codec::Put;
use stack::flow::{Flow, Standing};
use stack::time::Duration;
use tests::kit::client::{ClientSettings, Ending};
use tests::kit::dialogue::{Dialogue, Step};
use tests::kit::random::Random;
use tests::kit::settings::{ECHO, HTTP, Link, Settings};
use tests::kit::world::World;

fn upload(len: usize) -> Dialogue {
    let mut bytes =
        format!("PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: {len}\r\n\r\n").into_bytes();
    bytes.extend(Random::new(len as u64).bytes(len));
    let steps = vec![Step::Send(bytes), Step::Responses(1), Step::Close, Step::End, Step::Gone];
    Dialogue::new("upload", HTTP, steps)
}

fn download(len: usize) -> Dialogue {
    let get = format!("GET /generate/{len} HTTP/1.1\r\nHost: x\r\n\r\n").into_bytes();
    let steps = vec![Step::Send(get), Step::Responses(1), Step::Close, Step::End, Step::Gone];
    Dialogue {
        reading: Some((2000, Duration::from_micros(300))),
        ..Dialogue::new("download", HTTP, steps)
    }
}

fn echo(len: usize) -> Dialogue {
    let bytes = Random::new(len as u64).bytes(len);
    let steps = vec![Step::Send(bytes), Step::Receive(len), Step::Close, Step::End, Step::Gone];
    Dialogue {
        reading: Some((700, Duration::from_micros(300))),
        ..Dialogue::new("echo", ECHO, steps)
    }
}

fn filled(world: &World) -> usize {
    let is_filled = |report: &&Report| matches!(report, Report::Filled { .. });
    world.nodes[0].reports.iter().filter(is_filled).count()
}

fn all_done(world: &World) -> bool {
    world.clients.iter().all(|client| client.is_done() || client.ending == Ending::Reset)
}

/// Every client is served without a peer; one joins at `join`; when it is filled and `wait` has passed, the owner
/// dies. Nobody may notice.
fn join_and_die(settings: Settings, join: Duration, wait: Duration) {
    let mut world = World::serving(settings);
    for n in 0..8 {
        for dialogue in [download(30_000 + n), upload(20_000 + n), echo(20_000 + n)] {
            world.connect(ClientSettings::default(), dialogue);
        }
    }
    world.run_for(join);
    world.mirror(0, Epoch(2));
    let groups = world.settings.ports.len();
    assert!(world.run_until(Duration::from_secs(5), |world| filled(world) == groups));
    world.run_for(wait);
    assert!(world.nodes[0].flows().all(|flow| flow.standing == Standing::Copied));
    world.kill(0);
    world.run_for(Duration::from_millis(40));
    world.promote(1, Epoch(3));
    let done = world.run_until(Duration::from_secs(300), all_done);
    let left = world.clients.iter().filter(|client| !client.is_done());
    assert!(done, "{:?}", left.map(|client| client.describe()).collect::<Vec<_>>());
    assert_eq!(world.resets, 0);
    for (index, client) in world.clients.iter().enumerate() {
        let expected = match index % 3 {
            0 => tests::kit::dialogue::bodies(&client.received)[0].len() == 30_000 + index / 3,
            1 => client.received.windows(7).any(|window| window == b"sha256="),
            _ => {
                client.received == Random::new(20_000 + index as u64 / 3).bytes(20_000 + index / 3)
            }
        };
        assert!(expected, "client {index}: {}", client.describe());
    }
}

fn settings() -> Settings {
    Settings { flows_max: 64, chunks_max: 2048, ..Settings::default() }
}

#[test]
fn flows_that_began_without_a_peer_survive_once_it_is_filled() {
    for join_us in [0, 150, 400, 900, 1700, 2600, 4000] {
        for wait_us in [0, 300, 1500] {
            let (join, wait) = (Duration::from_micros(join_us), Duration::from_micros(wait_us));
            join_and_die(settings(), join, wait);
        }
    }
}

/// However many flows there are, so many are captured in their time and no more, and then all of them are.
#[test]
fn a_fill_keeps_its_pace_and_ends() {
    const FLOWS: usize = 300;
    let settings = Settings { flows_max: FLOWS, chunks_max: 2048, ..Settings::default() };
    let mut world = World::serving(settings);
    for _ in 0..FLOWS {
        world.open_raw(ECHO);
    }
    world.run_for(Duration::from_millis(5));
    let is_copied = |flow: &&Flow| flow.standing == Standing::Copied;
    world.mirror(0, Epoch(2));
    let begin = world.now;
    let mut history = vec![(begin, 0)];
    let groups = world.settings.ports.len();
    while filled(&world) < groups {
        world.run_for(Duration(FILL_PACE.0 / 4));
        history.push((world.now, world.nodes[0].flows().filter(is_copied).count()));
        assert!(world.now < begin + Duration::from_millis(50), "{:?}", history.last());
    }
    for (n, (from, before)) in history.iter().enumerate() {
        for (to, after) in &history[n..] {
            let rounds = to.since(*from).0 / FILL_PACE.0 + 1;
            let most = rounds as usize * FILL_FLOWS_PER_POLL;
            assert!(after - before <= most, "{} within {} rounds", after - before, rounds);
        }
    }
    // It is no slower than its pace either: half again for what is on its way at the end.
    let pace = FILL_PACE.0 * (FLOWS / FILL_FLOWS_PER_POLL) as u64;
    let took = world.now.since(begin);
    assert!((pace..pace * 3 / 2 + 500_000).contains(&took.0), "{took:?}");
    assert_eq!(history.last().map(|(_, copied)| *copied), Some(FLOWS));
}

/// Each core of the owner fills every core of the peer with which it shares flows.
#[test]
fn a_peer_with_another_number_of_cores_is_filled() {
    for cores in [[2, 3], [3, 1]] {
        for join_us in [0, 900, 2600] {
            let settings = Settings { cores, ..settings() };
            join_and_die(settings, Duration::from_micros(join_us), Duration::from_micros(300));
        }
    }
}

#[test]
fn a_lossy_cluster_link_changes_nothing() {
    for seed in 1..=5 {
        let cluster_link = Link {
            delay: Duration::from_micros(100),
            jitter: Duration::from_micros(200),
            loss_permille: 100,
            twice_permille: 50,
        };
        let settings = Settings { seed, cluster_link, ..settings() };
        join_and_die(settings, Duration::from_millis(1), Duration::from_millis(1));
    }
}

/// The peer has less memory than the owner: it gives copies up, says so, and takes them when it can.
/// One connection holds more than can be captured. The others are protected without it; what the peer lacks both sides count,
/// until that one holds less.
#[test]
fn what_is_too_large_to_be_copied_is_counted_on_both_sides() {
    let mut world = World::serving(Settings::large());
    let raw = world.open_raw(ECHO);
    world.stuff(raw);
    world.mirror(0, Epoch(2));
    let groups = world.settings.ports.len();
    assert!(world.run_until(Duration::from_secs(5), |world| filled(world) == groups));
    let told = world.nodes[0].reports.iter().map(|report| match report {
        Report::Filled { missing, .. } => *missing,
        _ => 0,
    });
    assert_eq!(told.sum::<u32>(), 1);
    let counts = |world: &World| {
        [0, 1].map(|node| {
            let status = world.nodes[node].status();
            status.fold((0, 0), |sum, group| (sum.0 + group.copied, sum.1 + group.all()))
        })
    };
    assert_eq!(counts(&world), [(0, 1); 2]);
    world.drain(raw, |world| counts(world) == [(1, 1); 2]);
}

#[test]
fn a_copy_that_the_peer_gives_up_is_captured_again() {
    let settings = Settings { peer_chunks_max: Some(50), ..settings() };
    let mut world = World::mirrored(settings);
    for n in 0..20 {
        let bytes = Random::new(n).bytes(6000);
        let pause = Step::Pause(Duration::from_millis(500));
        let steps =
            vec![Step::Send(bytes), pause, Step::Receive(6000), Step::Idle(Duration::from_secs(9))];
        let buffers = ClientSettings { receive_buffer: 1000, ..ClientSettings::default() };
        world.connect(buffers, Dialogue::new("echo", ECHO, steps));
    }
    world.run_for(Duration::from_millis(400));
    let standing = |world: &World, wanted: Standing| {
        let stack = world.nodes[0].stack();
        let flows = stack.slots().filter_map(|slot| stack.flow(slot));
        flows.filter(|flow| flow.standing == wanted).count()
    };
    let absent = standing(&world, Standing::Absent);
    assert!(absent > 0, "the peer's memory is too small for all");
    let lost: u64 = world.nodes[1].status().map(|status| status.backup.lost).sum();
    assert!(lost >= absent as u64);
    world.run_for(Duration::from_secs(4));
    assert_eq!(standing(&world, Standing::Copied), 20, "all are copied once there is room");
    world.kill(0);
    world.run_for(Duration::from_millis(40));
    world.promote(1, Epoch(3));
    assert!(world.run_until(Duration::from_secs(100), all_done));
    for (n, client) in world.clients.iter().enumerate() {
        assert_eq!(client.received, Random::new(n as u64).bytes(6000));
    }
}

/// Owner and copy differ, whatever made them: the peer tells it, and the flow is captured anew.
#[test]
fn a_copy_that_differs_is_told_and_captured_again() {
    let mut settings = settings();
    settings.ports.retain(|port| port.port == ECHO);
    let mut world = World::mirrored(settings);
    world.tapped = Some(Vec::new());
    let steps =
        vec![Step::Send(vec![7; 100]), Step::Receive(100), Step::Idle(Duration::from_secs(9))];
    world.connect(ClientSettings::default(), Dialogue::new("echo", ECHO, steps));
    world.run_for(Duration::from_millis(50));
    let tapped = world.tapped.take().expect("it was listened to");
    let records = tapped.iter().rev().filter(|(node, _)| *node == 0);
    let told =
        records.filter_map(|(_, datagram)| decode(datagram).ok()).find_map(|told| match told {
            (session, Body::Records { first, clock, count, .. }) => {
                Some((session, first.0 + u64::from(count), clock))
            }
            _ => None,
        });
    let (session, next, clock) = told.expect("the flow was mirrored");
    let flow = world.nodes[0].flows().next().expect("a flow").id;
    let mut datagram = Vec::new();
    put_header(&mut datagram, &session, Kind::Records);
    datagram.put_u64(next);
    datagram.put_u64(clock);
    datagram.put_u16(1);
    put_record(&mut datagram, RecordKind::Digest, flow, 8);
    datagram.put_u64(0xbad);
    world.hand_payload(1, &datagram);
    world.drive(1);
    let owner = session.from;
    let differed = Report::Differed { group: session.group, owner, count: 1 };
    assert!(world.nodes[1].reports.contains(&differed), "{:?}", world.nodes[1].reports);
    assert_eq!(world.nodes[1].flows().count(), 0, "it is given up");
    world.run_for(Duration::from_secs(2));
    let copied = world.nodes[0].flows().filter(|flow| flow.standing == Standing::Copied);
    assert_eq!((copied.count(), world.nodes[1].flows().count()), (1, 1), "and is here again");
}

/// However often a core goes round, its groups are looked after every [`TEND_EVERY`], so digests leave when they are due.
#[test]
fn a_group_with_nothing_to_do_is_looked_after_in_time() {
    let mut world = World::mirrored(settings());
    let steps =
        vec![Step::Send(vec![7; 100]), Step::Receive(100), Step::Idle(Duration::from_secs(9))];
    world.connect(ClientSettings::default(), Dialogue::new("echo", ECHO, steps));
    world.run_for(Duration::from_millis(50));
    const ROUND: Duration = Duration::from_micros(5);
    const ROUNDS: u64 = 4_000;
    let (before, mut now) = (world.records(0), world.now);
    let engine = &mut world.nodes[0].engines[0];
    for _ in 0..ROUNDS {
        now += ROUND;
        engine.handle_timeouts(now);
    }
    let time = ROUND.0 * ROUNDS;
    let digests = world.records(0) - before;
    let least = time / (DIGEST_INTERVAL.0 + TEND_EVERY.0 + ROUND.0);
    assert!((least..=time / DIGEST_INTERVAL.0 + 1).contains(&digests), "{digests} of one flow");
}

/// One client; the peer joins right after the owner's `output`th frame or datagram, so that the flow is captured as
/// it stands there, and the owner dies as soon as the peer is filled. Answers whether the owner got that far.
fn captured_after(dialogue: &Dialogue, output: u64, expected: &mut Option<Vec<u8>>) -> bool {
    let mut world = World::serving(Settings::default());
    world.connect(ClientSettings::default(), dialogue.clone());
    let patience = Duration::from_secs(300);
    let reached = world
        .run_until(patience, |world| world.nodes[0].outputs >= output || all_done(world))
        && world.nodes[0].outputs >= output;
    if reached {
        world.mirror(0, Epoch(2));
        let groups = world.settings.ports.len();
        assert!(world.run_until(Duration::from_secs(5), |world| filled(world) == groups));
        world.kill(0);
        world.run_for(Duration::from_millis(40));
        world.promote(1, Epoch(3));
    }
    assert!(world.run_until(patience, all_done), "{} at {output}", dialogue.name);
    assert_eq!(world.resets, 0, "{} at {output}", dialogue.name);
    let received = &world.clients[0].received;
    assert_eq!(received, expected.get_or_insert_with(|| received.clone()), "at {output}");
    reached
}

#[test]
fn a_flow_captured_at_any_op_carries_on_with_the_same_bytes() {
    let mut captures = 0;
    for dialogue in [download(20_000), upload(20_000), echo(6_000)] {
        // Without a death first: what the client must receive.
        let mut expected = None;
        captured_after(&dialogue, u64::MAX, &mut expected);
        let mut output = 1;
        while captured_after(&dialogue, output, &mut expected) {
            output += 1;
        }
        captures += output - 1;
    }
    println!("{captures} captures");
    assert!(captures > 60, "{captures}");
}

/// A takeover wakes so many copies at once and the others in turn; the next peer joins meanwhile, and is filled only when it
/// holds those as well.
#[test]
fn a_peer_that_joins_while_copies_are_being_woken_gets_all_of_them() {
    const FLOWS: usize = 60;
    let settings = Settings { link_mbits: 40, flows_max: 128, ..Settings::default() };
    let mut world = World::mirrored(settings);
    for _ in 0..FLOWS {
        let stay = Step::Idle(Duration::from_secs(5));
        let steps = vec![Step::Send(vec![7]), Step::Receive(1), stay, Step::Close, Step::Gone];
        world.connect(ClientSettings::default(), Dialogue::new("stays", ECHO, steps));
    }
    world.run_for(Duration::from_millis(200));
    assert_eq!(world.nodes[1].flows().count(), FLOWS);
    world.kill(0);
    world.promote(1, Epoch(3));
    world.restart(0);
    world.mirror(1, Epoch(4));
    assert!(world.nodes[1].stack().is_turning(), "nobody waits to be woken");
    let is_filled = |world: &World| {
        let reports = world.nodes[1].reports.iter();
        let filled = reports.filter(|report| matches!(report, Report::Filled { .. }));
        filled.count() == world.settings.ports.len()
    };
    assert!(world.run_until(Duration::from_secs(2), is_filled));
    assert!(world.nodes[1].flows().all(|flow| flow.standing == Standing::Copied));
    assert_eq!(world.nodes[0].flows().count(), FLOWS);
}
