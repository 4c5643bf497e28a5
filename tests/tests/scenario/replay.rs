//! What was said on the cluster link in sessions that are over is said again.

use cluster::id::Epoch;
use stack::time::Duration;
use tests::kit::client::{ClientSettings, Ending};
use tests::kit::dialogue::{Dialogue, Step};
use tests::kit::random::Random;
use tests::kit::settings::{ECHO, Settings};
use tests::kit::world::World;

fn echo(n: u64) -> Dialogue {
    let bytes = Random::new(n).bytes(9000);
    let steps = vec![Step::Send(bytes), Step::Receive(9000), Step::Close, Step::End, Step::Gone];
    Dialogue {
        reading: Some((700, Duration::from_millis(1))),
        ..Dialogue::new("echo", ECHO, steps)
    }
}

/// Every datagram of two sessions, records and acknowledgements, reaches both nodes again, in any order, while the third
/// session mirrors living flows. Nothing of it is taken: no copy changes, nothing counts as held that is not.
#[test]
fn datagrams_of_former_sessions_change_nothing() {
    for seed in 1..=10 {
        let mut random = Random::new(seed);
        let mut world =
            World::new(Settings { flows_max: 64, chunks_max: 2048, ..Settings::default() });
        world.tapped = Some(Vec::new());
        world.each_group(|world, group| {
            world.command(0, cluster::role::Command::Serve { group, epoch: Epoch(1) });
        });
        world.run_for(Duration::from_millis(1));
        world.mirror(0, Epoch(2));
        world.run_for(Duration::from_millis(5));
        for n in 0..4 {
            world.connect(ClientSettings::default(), echo(n));
        }
        world.run_for(Duration::from_millis(3));
        world.kill(0);
        world.run_for(Duration::from_millis(30));
        world.promote(1, Epoch(3));
        world.restart(0);
        world.mirror(1, Epoch(4));
        world.run_for(Duration::from_millis(3));
        let old = world.tapped.take().expect("it was listened to");
        // The register named the same peer anew.
        world.alone(1, Epoch(5));
        world.mirror(1, Epoch(6));
        world.run_for(Duration::from_millis(1));
        assert!(old.len() > 20, "{}", old.len());
        for _ in 0..400 {
            let (_, datagram) = &old[random.below(old.len() as u64) as usize];
            world.hand_payload(random.below(2) as usize, datagram);
            world.run_for(Duration::from_micros(random.below(100)));
        }
        let is_done = |world: &World| {
            world.clients.iter().all(|client| client.is_done() || client.ending == Ending::Reset)
        };
        assert!(world.run_until(Duration::from_secs(100), is_done));
        for (n, client) in (0..).zip(&world.clients) {
            assert_eq!(client.received, Random::new(n).bytes(9000));
        }
        let refused: u64 =
            world.nodes.iter().map(|node| node.engines[0].link_counters().other_session).sum();
        assert!(refused >= 400, "{refused}");
        for status in world.nodes[0].status() {
            assert_eq!((status.backup.mismatches, status.backup.malformed), (0, 0));
        }
    }
}

/// A node that was not upgraded yet, or was before this one: its records are not taken for broken ones.
#[test]
fn a_datagram_of_the_version_before_is_counted_by_name() {
    let mut world = World::mirrored(Settings::default());
    world.tapped = Some(Vec::new());
    world.connect(ClientSettings::default(), echo(1));
    world.run_for(Duration::from_millis(3));
    let tapped = world.tapped.take().expect("it was listened to");
    let mut datagrams = tapped.into_iter().filter(|(node, _)| *node == 0);
    let (_, mut datagram) = datagrams.next().expect("something was mirrored");
    let counters = |world: &World| {
        let counters = world.nodes[1].engines[0].link_counters();
        (counters.other_version, counters.malformed)
    };
    let before = counters(&world);
    datagram[2] -= 1;
    world.hand_payload(1, &datagram);
    datagram.truncate(2);
    world.hand_payload(1, &datagram);
    assert_eq!(counters(&world), (before.0 + 1, before.1 + 1));
}
