//! How long either side of a proxied connection may say nothing.

use crate::{assert_both_unnoticed, held, pattern, up_and_down};
use stack::service::KeepAlive;
use stack::time::Duration;
use tests::kit::client::Ending;
use tests::kit::dialogue::Step;
use tests::kit::kill::Case;
use tests::kit::world::World;

/// The time-out under test.
const PATIENCE: Duration = Duration::from_millis(300);

/// A timer may come so much later: handshake, request, the grain of a silence.
const LATEST: Duration = Duration::from_millis(380);

/// Longer than anybody waits.
const LONG: Duration = Duration::from_secs(2);

/// The client says something, closes or does not, and then neither says anything for long. A reset that got lost is
/// sent again to whoever says something then.
fn silent(name: &'static str, closes: bool) -> Case {
    let (idle, close, end) = (Step::Idle(LONG), Step::Close, Step::End);
    let mut says = vec![Step::Send(pattern(1, 500)), idle.clone(), close.clone(), end.clone()];
    if closes {
        says.swap(1, 2);
    }
    let mut case = up_and_down(name, says, vec![Step::Receive(500), idle, close, end]);
    case.may_reset = true;
    case
}

/// When both sides are reset; `None` if they are not.
fn ends_after(case: &Case) -> Option<Duration> {
    let mut world = case.start();
    let begin = world.now;
    let is_over = |ending: &Ending| *ending == Ending::Reset;
    let ends = world.run_until(Duration::from_secs(3), |world| {
        world.clients.iter().all(|client| is_over(&client.ending))
    });
    ends.then(|| world.now.since(begin))
}

fn assert_in_time(case: &Case) {
    let after = ends_after(case).expect("it times out");
    assert!((PATIENCE..LATEST).contains(&after), "{}: {after:?}", case.name);
}

#[test]
fn each_side_has_a_time_out_of_its_own() {
    let case = silent("nobody says anything", false);
    assert_eq!(ends_after(&case), None);
    let mut client = case.clone();
    client.settings.ports[0].idle_timeout = Some(PATIENCE);
    assert_in_time(&client);
    let mut server = case;
    server.settings.ports[0].idle_timeout = Some(LONG);
    server.settings.server_idle = Some(PATIENCE);
    assert_in_time(&server);
    server.stride = 7;
    assert_both_unnoticed(&server);
}

#[test]
fn a_half_closed_connection_has_another() {
    let with = |mut case: Case| {
        case.settings.half_closed = Some(PATIENCE);
        case
    };
    assert_eq!(ends_after(&with(silent("nobody closes", false))), None);
    let case = with(silent("the client closes", true));
    assert_in_time(&case);
    assert_in_time(&held(case));
}

#[test]
fn a_server_that_is_gone_is_found_out_when_its_client_has_closed() {
    let mut case = silent("the server vanishes", true);
    let interval = Duration::from_millis(100);
    case.settings.ports[0].keep_alive = Some(KeepAlive { idle: interval, interval, count: 2 });
    let mut world = case.start();
    let has_heard = |world: &World| world.clients[0].received.len() == 500;
    assert!(world.run_until(Duration::from_secs(1), has_heard));
    world.clients[0].vanish();
    let is_reset = |world: &World| world.clients[1].ending == Ending::Reset;
    assert!(world.run_until(Duration::from_secs(1), is_reset));
}
