//! A seed decides on clients, links and deaths; whatever it decides, no client may notice.
//!
//! `SEEDS=1000 cargo test -p tests --test simulation` plays more; `SEED=7` plays one and prints every frame.

use cluster::id::Epoch;
use cluster::role::Report;
use stack::time::Duration;
use tests::kit::client::{ClientSettings, Ending, Opener};
use tests::kit::random::Random;
use tests::kit::settings::{ADDRESS, Link, Settings};
use tests::kit::workload;
use tests::kit::world::World;

/// Seeds played unless `SEEDS` says otherwise.
const SEEDS: u64 = 60;

fn link(random: &mut Random, faults: u64) -> Link {
    Link {
        delay: Duration::from_micros(20 + random.below(800)),
        jitter: Duration::from_micros(random.below(400)),
        loss_permille: random.below(faults + 1),
        twice_permille: random.below(faults + 1),
    }
}

fn is_filled(world: &World, node: usize) -> bool {
    let is_filled = |report: &&Report| matches!(report, Report::Filled { .. });
    world.nodes[node].reports.iter().filter(is_filled).count() == world.settings.ports.len()
}

fn all_done(world: &World) -> bool {
    world.clients.iter().all(|client| client.is_done() || client.ending == Ending::Reset)
}

fn play(seed: u64, trace: bool) {
    let mut random = Random::new(seed);
    let faults = [0, 0, 10, 40][random.below(4) as usize];
    let mut settings =
        Settings { seed, flows_max: 64, chunks_max: 4096, trace, ..Settings::default() };
    settings.client_link = link(&mut random, faults);
    settings.cluster_link = link(&mut random, faults);
    for port in &mut settings.ports {
        port.receive_buffer = 2048 << random.below(5);
        port.mss = [500, 1200, 1460][random.below(3) as usize];
    }
    let mut world = World::mirrored_slowly(settings);
    let mut expected = Vec::new();
    let (mut owner, mut epoch) = (0, 2);
    for _ in 0..3 {
        for _ in 0..1 + random.below(6) {
            let (dialogue, bytes) = workload::draw(&mut random);
            let client = ClientSettings {
                receive_buffer: 1500 << random.below(5),
                send_buffer: 1500 << random.below(5),
                timestamps: random.permille(500),
                nagle: false,
                ipv6: random.permille(300),
                opener: [Opener::Client, Opener::Client, Opener::Node, Opener::Both]
                    [random.below(4) as usize],
                host: ADDRESS[3],
                absent: Duration::ZERO,
            };
            world.connect(client, dialogue);
            world.open(owner);
            expected.push(bytes);
            world.run_for(Duration::from_micros(random.below(1500)));
        }
        world.run_for(Duration::from_micros(random.below(9000)));
        world.kill(owner);
        if random.permille(500) {
            world.lose_answers(owner);
        }
        let datagrams = world.take_datagrams(1 - owner);
        for frame in datagrams.iter().take(random.below(12) as usize) {
            world.hand_datagram(1 - owner, frame);
        }
        world.run_for(Duration::from_millis(random.below(500)));
        (owner, epoch) = (1 - owner, epoch + 2);
        world.promote(owner, Epoch(epoch - 1));
        world.open(owner);
        world.run_for(Duration::from_micros(random.below(2000)));
        world.restart(1 - owner);
        world.mirror(owner, Epoch(epoch));
        assert!(
            world.run_until(Duration::from_secs(60), |world| is_filled(world, owner)),
            "seed {seed}"
        );
        world.nodes[owner].reports.clear();
        // The clients' time-outs come between two deaths, see `has_lost_its_timer`.
        world.run_for(Duration::from_millis(1500));
    }
    let done = world.run_until(Duration::from_secs(200), all_done);
    let now = world.now;
    let mut left: Vec<_> = world.clients.iter_mut().filter(|client| !client.is_done()).collect();
    left.retain_mut(|client| !client.has_lost_its_timer(now));
    let left: Vec<_> = left.iter().map(|client| client.describe()).collect();
    assert!(done || left.is_empty(), "seed {seed}: {left:?}");
    for (client, expected) in world.clients.iter().zip(&expected) {
        let is_right = expected.is_all_of(&client.received);
        assert!(is_right && client.ending != Ending::Reset, "seed {seed}: {}", client.describe());
    }
    for status in world.nodes[1 - owner].status() {
        assert_eq!((status.backup.mismatches, status.backup.lost), (0, 0), "seed {seed}");
    }
}

#[test]
fn whatever_a_seed_decides_no_client_notices() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = number("SEED") {
        return play(seed, true);
    }
    for seed in 0..number("SEEDS").unwrap_or(SEEDS) {
        play(seed, false);
    }
}
