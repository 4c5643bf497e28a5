//! Same facts, same contract: long random traffic over bad links, compared copy by copy.

use cluster::engine::GroupStatus;
use stack::shard::Place;
use stack::stack::Stack;
use stack::time::Duration;
use tests::kit::client::{ClientSettings, Ending};
use tests::kit::dialogue::{Dialogue, Step};
use tests::kit::random::Random;
use tests::kit::settings::{ECHO, GENERATE, GENERATE_STAY, HTTP, Link, Settings};
use tests::kit::world::World;

fn link(loss_permille: u64, delay_us: u64) -> Link {
    Link {
        delay: Duration::from_micros(delay_us),
        jitter: Duration::from_micros(delay_us),
        loss_permille,
        twice_permille: loss_permille / 2,
    }
}

fn settings(seed: u64) -> Settings {
    Settings {
        seed,
        client_link: link(10, 100),
        cluster_link: link(20, 150),
        flows_max: 64,
        chunks_max: 2048,
        ..Settings::default()
    }
}

/// A dialogue of any kind.
fn dialogue(random: &mut Random) -> Dialogue {
    let len = random.below(20_000) as usize;
    let mut steps = match random.below(5) {
        0 => {
            let get = format!("GET /generate/{len} HTTP/1.1\r\nHost: x\r\n\r\n");
            vec![Step::Send(get.into_bytes()), Step::Responses(1)]
        }
        1 => {
            let head = format!("PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: {len}\r\n\r\n");
            let mut bytes = head.into_bytes();
            bytes.extend(random.bytes(len));
            vec![Step::Send(bytes), Step::Responses(1)]
        }
        2 => vec![Step::Send(random.bytes(len)), Step::Receive(len)],
        3 => return Dialogue::new("generate", GENERATE, vec![Step::End, Step::Close, Step::Gone]),
        _ => vec![Step::Receive(9000)],
    };
    let port = match &steps[..] {
        [Step::Receive(_)] => GENERATE_STAY,
        [_, Step::Receive(_)] => ECHO,
        _ => HTTP,
    };
    if random.permille(150) {
        steps.truncate(1);
        steps.push(Step::Abort);
    } else {
        steps.extend([Step::Close, Step::End, Step::Gone]);
    }
    Dialogue { reading: None, ..Dialogue::new("any", port, steps) }
}

/// Every flow of `owner` has a copy at `peer` with the same contract; answers how many there are.
fn compare(owner: &Stack, peer: &Stack) -> usize {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let mut flows = 0;
    for slot in owner.slots() {
        let flow = owner.flow(slot).expect("slots in use hold flows");
        let copy = peer.find(&flow.key).expect("every flow has a copy");
        assert_eq!(peer.flow(copy).map(|flow| flow.id), Some(flow.id));
        let digests = (owner.digest(slot, &mut ours), peer.digest(copy, &mut theirs));
        assert_eq!(digests.0, digests.1, "{:?}\n{:?}", flow.contract, peer.flow(copy));
        flows += 1;
    }
    assert_eq!(flows, peer.slots().count());
    flows
}

fn is_drained(world: &World) -> bool {
    world.nodes[0].status().all(|status| status.lag_ops == 0)
}

#[test]
fn copies_equal_their_flows_whatever_the_links_do() {
    let (mut flows, mut digests) = (0, 0);
    for seed in 1..=6 {
        let mut random = Random::new(seed);
        let mut world = World::mirrored(settings(seed));
        for _ in 0..120 {
            if world.clients.len() < 60 {
                let dialogue = dialogue(&mut random);
                let timestamps = random.permille(500);
                world.connect(ClientSettings { timestamps, ..ClientSettings::default() }, dialogue);
            }
            world.run_for(Duration::from_micros(random.below(5000)));
            if world.run_until(Duration::from_millis(50), is_drained) {
                flows += compare(world.nodes[0].stack(), world.nodes[1].stack());
            }
        }
        let done = world.run_until(Duration::from_secs(300), |world| {
            world.clients.iter().all(|client| client.is_done() || client.ending == Ending::Reset)
        });
        let left = world.clients.iter().filter(|client| !client.is_done());
        assert!(done, "{:?}", left.map(|client| client.describe()).collect::<Vec<_>>());
        assert_eq!(world.resets, 0, "seed {seed}");
        for status in world.nodes[1].status() {
            let GroupStatus { backup, .. } = status;
            assert_eq!((backup.mismatches, backup.lost, backup.unknown), (0, 0, 0));
            assert_eq!((backup.malformed, backup.stash_full), (0, 0));
            digests += backup.digests;
        }
    }
    println!("{flows} copies compared by the test, {digests} by their owners");
    assert!(flows > 1000 && digests > 1000);
}

#[test]
fn an_exported_flow_is_the_flow_again_at_any_moment() {
    let mut random = Random::new(9);
    let mut world = World::mirrored(settings(9));
    let mut moved = 0;
    for _ in 0..200 {
        if world.clients.len() < 60 {
            let dialogue = dialogue(&mut random);
            world.connect(ClientSettings::default(), dialogue);
        }
        world.run_for(Duration::from_micros(random.below(3000)));
        let stack = world.nodes[0].stack();
        // The other stack of the kit is empty but for copies of other groups: a third one takes the export.
        let mut third = Stack::new(&stack_config(), world.settings.services());
        let (mut bytes, mut again, mut scratch) = (Vec::new(), Vec::new(), Vec::new());
        for slot in stack.slots() {
            bytes.clear();
            stack.export(slot, &mut bytes);
            let Ok(flow) = third.import(stack.flow(slot).expect("in use").group, &bytes) else {
                let state = stack.flow(slot).expect("in use").contract.state;
                assert_eq!(state, stack::tcp::state::State::Closed, "only tombstones are refused");
                continue;
            };
            let copy = third.adopt_copy(world.now, flow).expect("room for every flow");
            again.clear();
            third.export(copy, &mut again);
            assert_eq!(bytes, again);
            assert_eq!(stack.digest(slot, &mut scratch), third.digest(copy, &mut scratch));
            moved += 1;
        }
    }
    println!("{moved} flows moved");
    assert!(moved > 1000);
}

fn stack_config() -> stack::stack::StackConfig {
    stack::stack::StackConfig {
        node: 3,
        place: Place::ALONE,
        mac: [2, 2, 0, 0, 0, 3],
        secret: [7; 32],
        flows_max: 64,
        active_max: 64,
        uploads_max: 64,
        segments_max: 64,
        chunks_max: 2048,
        pieces_max: 4096,
        reassemblies_max: 8,
        link_mbits: 10_000,
    }
}
