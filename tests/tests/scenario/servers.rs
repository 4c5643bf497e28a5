//! What is decided about servers outlives the node that decided it.

use cluster::engine::Engine;
use cluster::id::Epoch;
use cluster::role::Command;
use stack::service::Service;
use stack::time::Duration;
use stack::upstream::Server;
use stack::upstream::decision::{Admin, Change, Decided};
use tests::kit::settings::{Link, Settings};
use tests::kit::world::World;

const DOWN: Decided = Decided { is_down: true, admin: Admin::Ready, weight: None };
const DRAINED: Decided = Decided { is_down: false, admin: Admin::Drain, weight: Some(7) };

fn settings(cores: [u8; 2]) -> Settings {
    Settings { cores, ..Settings::proxied(3) }
}

/// What every core of a node holds about the servers; all the same.
fn decided(world: &World, node: usize) -> Vec<Decided> {
    let of = |stack: &stack::stack::Stack| -> Vec<Decided> {
        stack.roster(0).servers().iter().map(|server| server.decided).collect()
    };
    let cores: Vec<_> = world.nodes[node].stacks().map(of).collect();
    assert!(
        cores.iter().all(|core| *core == cores[0]),
        "the cores of node {node} differ: {cores:?}"
    );
    cores[0].clone()
}

/// The checks and the operator of a node have something to say to each of its cores.
fn decide(world: &mut World, node: usize) {
    let now = world.now;
    for engine in &mut world.nodes[node].engines {
        engine.set_verdicts(now, 0, &[(0, false), (1, true)]);
        assert!(engine.decide(now, 0, 2, Change::Admin(Admin::Drain)));
        assert!(engine.decide(now, 0, 2, Change::Weight(7)));
        assert!(!engine.decide(now, 0, 3, Change::Weight(7)), "there is no such server");
    }
    world.drive(node);
}

const CORES: [[u8; 2]; 4] = [[1, 1], [2, 2], [2, 3], [3, 1]];

#[test]
fn the_peer_is_told_and_carries_it_on() {
    for cores in CORES {
        let mut world = World::mirrored(settings(cores));
        decide(&mut world, 0);
        world.run_for(Duration::from_millis(5));
        let expected = [DOWN, Decided::default(), DRAINED];
        assert_eq!(decided(&world, 1), expected);
        // The peer decides nothing, and what its checks find does not count yet.
        let now = world.now;
        for engine in &mut world.nodes[1].engines {
            assert!(!engine.decide(now, 0, 2, Change::Admin(Admin::Ready)));
            engine.set_verdicts(now, 0, &[(1, false)]);
        }
        assert_eq!(decided(&world, 1), expected);
        world.kill(0);
        world.promote(1, Epoch(3));
        // Where it has looked itself it knows better; the rest it carries on.
        assert_eq!(decided(&world, 1), [DOWN, DOWN, DRAINED]);
        // A peer that joins is told everything.
        world.restart(0);
        world.mirror(1, Epoch(4));
        world.run_for(Duration::from_millis(5));
        assert_eq!(decided(&world, 0), [DOWN, DOWN, DRAINED]);
    }
}

/// Files are changed one after the other: what is decided about a server that the peer's file lacks for a while holds when it is
/// there again, for nobody says it twice.
#[test]
fn an_order_about_a_server_that_the_peer_lacks_for_a_while_holds_when_it_is_back() {
    for cores in CORES {
        let mut world = World::mirrored(settings(cores));
        let retire = |world: &mut World, is_retired: bool| {
            let now = world.now;
            world.nodes[1].reconfigure(now, 0, |service| {
                service.upstream.servers[2].is_retired = is_retired;
            });
        };
        retire(&mut world, true);
        decide(&mut world, 0);
        world.run_for(Duration::from_millis(5));
        retire(&mut world, false);
        assert_eq!(decided(&world, 1), [DOWN, Decided::default(), DRAINED], "{cores:?}");
        world.kill(0);
        world.promote(1, Epoch(3));
        assert_eq!(decided(&world, 1), [DOWN, Decided::default(), DRAINED], "{cores:?}");
    }
}

/// The owner is reloaded first: what is decided about a server of which its peer has never heard holds as soon as the peer's file
/// has it, before a takeover or after that, on every core and for the next peer.
#[test]
fn an_order_about_a_server_that_is_new_to_the_owner_alone_holds_on_the_peer() {
    let fourth = |service: &mut Service| {
        let servers = &mut service.upstream.servers;
        servers.push(Server { port: 9, ..servers[2] });
    };
    for (cores, is_late) in CORES.into_iter().flat_map(|cores| [(cores, false), (cores, true)]) {
        let mut world = World::mirrored(settings(cores));
        let now = world.now;
        world.nodes[0].reconfigure(now, 0, fourth);
        for engine in &mut world.nodes[0].engines {
            assert!(engine.decide(now, 0, 3, Change::Admin(Admin::Drain)));
            assert!(engine.decide(now, 0, 3, Change::Weight(7)));
        }
        world.drive(0);
        world.run_for(Duration::from_millis(5));
        let reload = |world: &mut World| {
            let now = world.now;
            world.nodes[1].reconfigure(now, 0, fourth);
        };
        if !is_late {
            reload(&mut world);
            assert_eq!(decided(&world, 1)[3], DRAINED, "{cores:?}");
        }
        world.kill(0);
        world.promote(1, Epoch(3));
        world.run_for(Duration::from_millis(5));
        // The former owner is back, and its file has the server.
        world.restart(0);
        let now = world.now;
        world.nodes[0].reconfigure(now, 0, fourth);
        world.mirror(1, Epoch(4));
        world.run_for(Duration::from_millis(5));
        assert_eq!(decided(&world, 0)[3], DRAINED, "{cores:?}, {is_late}");
        if is_late {
            reload(&mut world);
        }
        assert_eq!(decided(&world, 1)[3], DRAINED, "{cores:?}, {is_late}");
    }
}

/// A core that is stuck takes no order, and its node loses the service for that: every core of the next owner holds what those
/// know that were told, whichever of them that is.
#[test]
fn an_order_that_reached_only_one_core_holds_on_every_core_of_the_next_owner() {
    for (cores, told) in
        CORES.into_iter().filter(|cores| cores[0] > 1).flat_map(|c| [(c, 0), (c, 1)])
    {
        let mut world = World::mirrored(settings(cores));
        decide(&mut world, 0);
        let now = world.now;
        let order = |engine: &mut Engine| {
            assert!(engine.decide(now, 0, 0, Change::Admin(Admin::Maintenance)));
            assert!(engine.decide(now, 0, 2, Change::Admin(Admin::Ready)));
        };
        order(&mut world.nodes[0].engines[told]);
        world.drive(0);
        world.run_for(Duration::from_millis(5));
        world.kill(0);
        world.promote(1, Epoch(3));
        let kept_out = Decided { admin: Admin::Maintenance, ..DOWN };
        let ready = Decided { admin: Admin::Ready, ..DRAINED };
        assert_eq!(decided(&world, 1), [kept_out, Decided::default(), ready], "{cores:?}, {told}");
    }
}

/// While some cores are frozen already and others are not, an order reaches these alone; nothing comes of the handover.
#[test]
fn an_order_in_the_middle_of_a_freeze_holds_on_every_core_or_on_none() {
    let mut world = World::mirrored(settings([3, 2]));
    decide(&mut world, 0);
    let (now, group) = (world.now, world.nodes[0].status().next().expect("a group").id);
    let freeze = Command::Freeze { group, epoch: Epoch(2), attempt: 1 };
    let [first, second, third] = &mut world.nodes[0].engines[..] else { panic!("three cores") };
    first.handle_command(now, freeze);
    assert!(!first.decide(now, 0, 1, Change::Weight(9)));
    second.handle_command(now, freeze);
    assert!(third.decide(now, 0, 1, Change::Weight(9)));
    third.handle_command(now, freeze);
    world.thaw(0);
    world.drive(0);
    let expected = [DOWN, Decided { weight: Some(9), ..Decided::default() }, DRAINED];
    assert_eq!(decided(&world, 0), expected);
    world.run_for(Duration::from_millis(5));
    assert_eq!(decided(&world, 1), expected);
}

/// The link loses and repeats, and datagrams overtake each other: the decisions are in the log like everything else.
#[test]
fn a_bad_link_changes_nothing() {
    for seed in 1..=10 {
        let cluster_link = Link {
            delay: Duration::from_micros(70),
            jitter: Duration::from_micros(300),
            loss_permille: 200,
            twice_permille: 100,
        };
        let mut world = World::mirrored_slowly(Settings { seed, cluster_link, ..settings([2, 2]) });
        decide(&mut world, 0);
        let now = world.now;
        for engine in &mut world.nodes[0].engines {
            engine.set_verdicts(now, 0, &[(0, true)]);
            engine.set_verdicts(now, 0, &[(0, false)]);
        }
        world.drive(0);
        world.run_for(Duration::from_secs(1));
        assert_eq!(decided(&world, 1), [DOWN, Decided::default(), DRAINED], "seed {seed}");
    }
}

/// While a service is handed over nobody decides; what the checks find meanwhile is decided by whoever serves afterwards.
#[test]
fn a_handover_takes_decisions_along() {
    for cores in CORES {
        let mut world = World::mirrored(settings(cores));
        decide(&mut world, 0);
        world.freeze(0, Epoch(2), 1);
        let now = world.now;
        for engine in &mut world.nodes[0].engines {
            assert!(!engine.decide(now, 0, 1, Change::Weight(1)));
            engine.set_verdicts(now, 0, &[(1, false)]);
        }
        assert_eq!(decided(&world, 0), [DOWN, Decided::default(), DRAINED]);
        assert!(world.run_until(Duration::from_secs(2), |world| world.is_frozen(0, 1)));
        world.thaw(0);
        assert_eq!(decided(&world, 0), [DOWN, DOWN, DRAINED]);
        assert!(world.swap(0, Epoch(2), 2));
        world.run_for(Duration::from_millis(5));
        for node in 0..2 {
            assert_eq!(decided(&world, node), [DOWN, DOWN, DRAINED], "node {node}");
        }
        // And back, with what the new owner has found.
        let now = world.now;
        for engine in &mut world.nodes[1].engines {
            engine.set_verdicts(now, 0, &[(0, true)]);
        }
        world.drive(1);
        assert!(world.swap(1, Epoch(4), 1));
        world.run_for(Duration::from_millis(5));
        let verdicts_of_0 = [DOWN, DOWN, DRAINED];
        assert_eq!(decided(&world, 0), verdicts_of_0, "it has found otherwise itself");
        assert_eq!(decided(&world, 1), verdicts_of_0);
    }
}
