//! What a node knows of a connection that is over: who ended it, and how.

use cluster::id::Epoch;
use stack::app::AppConfig;
use stack::app::proxy::end::End;
use stack::app::proxy::{Ack, NO_SERVER, Side};
use stack::generate;
use stack::stack::Ending;
use stack::time::Duration;
use tests::kit::client::{self, Opener};
use tests::kit::dialogue::{Dialogue, Step};
use tests::kit::kill::Case;
use tests::kit::settings::PROXY;

fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    generate::fill(seed, 0, &mut bytes);
    bytes
}

fn proxied(name: &'static str, client: Vec<Step>, server: Vec<Step>) -> Case {
    Case::proxied(Dialogue::new(name, PROXY, client), Dialogue::new("server", 0, server))
}

/// With the other way of acknowledging.
fn held(mut case: Case) -> Case {
    for port in &mut case.settings.ports {
        port.app = AppConfig::Proxy(Ack::Held);
    }
    case
}

/// The client asks, the server answers, the client closes; in between it waits for so long.
fn dialogue(up: usize, down: usize, wait: Duration) -> Case {
    let (ask, answer) = (Step::Send(pattern(1, up)), Step::Send(pattern(2, down)));
    let client = vec![ask, Step::Idle(wait), Step::Receive(down), Step::Close, Step::End];
    proxied("dialogue", client, vec![Step::Receive(up), answer, Step::End, Step::Close])
}

/// Everything that ended in the case's world, as the owner tells it; it dies in the middle where `dies` says so.
fn endings(case: &Case, dies: bool) -> Vec<Ending> {
    let mut world = case.start();
    for node in &mut world.nodes {
        assert!(node.endings(16).is_empty(), "nothing has ended");
    }
    if dies {
        world.run_for(Duration::from_millis(20));
        world.kill(0);
        world.promote(1, Epoch(3));
    }
    world.run_for(Duration::from_secs(20));
    world.nodes.iter_mut().flat_map(|node| node.endings(0)).collect()
}

fn only(case: &Case, dies: bool) -> Ending {
    let endings = endings(case, dies);
    assert_eq!(endings.len(), 1, "once each, and by the owner alone: {endings:?}");
    endings[0]
}

/// By whichever way of acknowledging, and however long the other side takes to follow.
#[test]
fn who_closes_first_has_ended_it() {
    let (close, end) = (Step::Close, Step::End);
    let asks = vec![Step::Send(pattern(1, 3000)), Step::Receive(2000)];
    let answers = vec![Step::Receive(3000), Step::Send(pattern(2, 2000))];
    let with = |steps: &[Step], more: &[&Step]| {
        steps.iter().chain(more.iter().copied()).cloned().collect::<Vec<_>>()
    };
    for (name, by, client, server) in [
        ("the client closes", Side::Client, [&close, &end], [&end, &close]),
        ("the server closes", Side::Server, [&end, &close], [&close, &end]),
    ] {
        let case = proxied(name, with(&asks, &client), with(&answers, &server));
        for case in [case.clone(), held(case)] {
            let ending = only(&case, false);
            assert_eq!((ending.end, ending.server), (End::Closed(by), 0), "{name}");
            assert_eq!((ending.received_bytes, ending.acknowledged_bytes), (3000, 2000), "{name}");
            assert_eq!(ending.client.remote_port, client::port(1));
            assert!(!ending.is_taken_over && ending.served_ms < 20_000);
        }
    }
}

#[test]
fn a_reset_is_told_of_who_made_it() {
    let much = || Step::Send(pattern(2, 20_000));
    for (by, client, server) in [
        (Side::Client, vec![Step::Receive(5000), Step::Abort], vec![much()]),
        (Side::Server, vec![Step::Send(pattern(1, 100))], vec![Step::Receive(100), Step::Abort]),
    ] {
        let case = proxied("a reset", client, server);
        for case in [case.clone(), held(case)] {
            assert_eq!(only(&case, false).end, End::Reset(by));
        }
    }
}

/// Who carries a connection on tells of its end, with what it knows.
#[test]
fn a_promoted_peer_tells_of_the_end() {
    let case = dialogue(3000, 5000, Duration::from_secs(3));
    for case in [case.clone(), held(case)] {
        let ending = only(&case, true);
        assert_eq!((ending.end, ending.is_taken_over), (End::Closed(Side::Client), true));
        assert_eq!((ending.received_bytes, ending.acknowledged_bytes), (3000, 5000));
    }
}

/// What was over when its owner died is not over once more: it still waits in TIME-WAIT, and is told of by nobody else.
#[test]
fn what_was_over_before_a_takeover_is_told_once() {
    let case = dialogue(3000, 5000, Duration::ZERO);
    for case in [case.clone(), held(case)] {
        let mut world = case.start();
        assert!(world.nodes.iter_mut().all(|node| node.endings(16).is_empty()));
        world.run_for(Duration::from_secs(5));
        assert_eq!(world.nodes[0].endings(0).len(), 1);
        assert!(world.nodes[1].flows().next().is_some(), "its peer holds it for a while");
        world.kill(0);
        world.promote(1, Epoch(3));
        world.run_for(Duration::from_secs(5));
        assert_eq!(world.nodes[1].endings(0), []);
        assert!(world.nodes[1].stack().roster(0).tally.ended().all(|(_, count)| count == 0));
    }
}

#[test]
fn a_node_that_gives_up_says_why() {
    let wait = Step::Idle(Duration::from_secs(15));
    let mut case = proxied("nobody serves", vec![wait.clone()], Vec::new());
    case.servers[0].0.opener = Opener::Nobody;
    let ending = only(&case, false);
    assert_eq!(ending.end, End::NoServer);
    let mut case = proxied("down", vec![Step::Send(pattern(1, 10)), wait.clone()], vec![wait]);
    case.settings.resets_when_down = true;
    case.verdicts = vec![(Duration::from_millis(300), 0, false)];
    let ending = only(&case, false);
    assert_eq!((ending.end, ending.server), (End::ServerDown, 0));
    assert_ne!(ending.server, NO_SERVER);
}

/// A node counts what has passed through it, each connection while it serves it; what a client says before a server has answered
/// is that server's as well.
#[test]
fn what_passes_is_counted_for_service_and_server() {
    let case = dialogue(3000, 5000, Duration::from_secs(3));
    for case in [case.clone(), held(case)] {
        for dies in [false, true] {
            let mut world = case.start();
            world.run_for(Duration::from_millis(20));
            if dies {
                world.kill(0);
                world.promote(1, Epoch(3));
            }
            world.run_for(Duration::from_secs(20));
            let of = |node: usize| world.nodes[node].stack().roster(0);
            let (clients, said, server) =
                (of(0).tally.clients, of(0).tally.said, of(0).servers()[0].said);
            assert_eq!((clients, said.by_clients, said.by_servers), (1, 3000, 5000));
            assert_eq!(server, said);
            let ended = |node: usize, end: End| {
                of(node).tally.ended().find(|(known, _)| *known == end).map(|(_, count)| count)
            };
            let all = [ended(0, End::Closed(Side::Client)), ended(1, End::Closed(Side::Client))];
            assert_eq!(all, [Some(u64::from(!dies)), Some(u64::from(dies))]);
            let again = of(1).tally;
            assert_eq!((again.clients, again.said.by_clients), (0, 0), "the first has counted it");
        }
    }
}

/// What nobody has brought memory for is counted, and nothing is taken for it.
#[test]
fn what_nobody_fetches_is_counted() {
    let mut world = dialogue(100, 100, Duration::ZERO).start();
    world.run_for(Duration::from_secs(5));
    assert!(world.nodes[0].endings(0).is_empty());
    let lost: u64 = world.nodes[0].stacks().map(|stack| stack.counters().endings_lost).sum();
    assert_eq!(lost, 1);
}
