//! An operator looks at connections, and ends one.

use cluster::id::Epoch;
use stack::flow::FlowId;
use stack::limits::LIST_SLOTS_MAX;
use stack::stack::{Ended, Filter, Listed};
use stack::tcp::state::State;
use stack::time::Duration;
use stack::wire::Flags;
use std::collections::BTreeSet;
use tests::kit::dialogue::{Dialogue, Step};
use tests::kit::kill::Case;
use tests::kit::settings::{DISCARD, ECHO, PROXY, Settings};
use tests::kit::world::World;

/// Everything on a node that the filter lets through, so many at a time.
fn list(world: &World, node: usize, filter: &Filter, room: usize) -> Vec<Listed> {
    let mut all = Vec::new();
    let mut from = Some(0);
    while let Some(slot) = from {
        let mut found = Vec::with_capacity(room);
        from = world.nodes[node].stack().list(world.now, slot, filter, &mut found);
        assert!(
            found.len() <= found.capacity()
                && from.is_none_or(|next| next > slot || found.len() == room)
        );
        all.extend(found);
    }
    all
}

#[test]
fn every_connection_is_listed_once_however_small_the_pieces() {
    let flows_max = 3 * LIST_SLOTS_MAX as usize + 5;
    let mut world = World::mirrored(Settings { flows_max, ..Settings::default() });
    for n in 0..9 {
        world.open_raw(if n % 3 == 0 { DISCARD } else { ECHO });
    }
    world.run_for(Duration::from_millis(50));
    let all = list(&world, 0, &Filter::default(), 4);
    let names: BTreeSet<u64> = all.iter().map(|listed| listed.id.0).collect();
    assert_eq!((all.len(), names.len()), (9, 9));
    let echo = all.iter().filter(|listed| listed.key.local_port == ECHO);
    let group = echo.clone().next().expect("one").group;
    assert_eq!(echo.count(), 6);
    let only = |filter: Filter| list(&world, 0, &filter, 2).len();
    assert_eq!(only(Filter { groups: Some(1 << group), ..Filter::default() }), 6);
    assert_eq!(only(Filter { client: Some(all[3].key.remote), ..Filter::default() }), 1);
    assert_eq!(only(Filter { state: Some(State::Established), ..Filter::default() }), 9);
    assert_eq!(only(Filter { state: Some(State::TimeWait), ..Filter::default() }), 0);
    assert_eq!(only(Filter { is_copied: Some(true), ..Filter::default() }), 9);
    assert_eq!(only(Filter { is_copied: Some(false), ..Filter::default() }), 0);
    let copies = list(&world, 1, &Filter::default(), 100);
    assert_eq!(copies.iter().map(|listed| listed.id.0).collect::<BTreeSet<_>>(), names);
    assert!(copies.iter().all(|listed| listed.is_copied.is_none()), "the peer's are copies");
}

/// The client is told once the peer holds it; both nodes forget the connection. Nobody but the owner may.
#[test]
fn a_connection_is_ended_by_the_operators_word() {
    let mut world = World::mirrored(Settings::default());
    let raw = world.open_raw(ECHO);
    let other = world.open_raw(ECHO);
    world.run_for(Duration::from_millis(20));
    let key = world.raws[raw].key();
    let id = world.nodes[0].find(&key).expect("a flow").id;
    let now = world.now;
    assert_eq!(world.nodes[1].end_flow(now, id), Ended::NotServed);
    assert_eq!(world.nodes[0].end_flow(now, FlowId(id.0 ^ 1 << 20)), Ended::NoFlow);
    assert_eq!(world.nodes[0].end_flow(now, id), Ended::Yes);
    world.run_for(Duration::from_millis(50));
    assert!(world.raws[raw].heard.iter().any(|heard| heard.flags.has(Flags::RST)));
    for node in [0, 1] {
        assert!(world.nodes[node].find(&key).is_none(), "node {node}");
        assert!(world.nodes[node].find(&world.raws[other].key()).is_some(), "the other goes on");
    }
    assert_eq!(world.nodes[0].stack().counters().ended, 1);
    world.promote(1, Epoch(3));
    world.run_for(Duration::from_millis(50));
    assert!(world.nodes[1].find(&key).is_none());
}

/// A connection that is passed on is one: it is listed with both ends, and both are reset by either name.
#[test]
fn a_proxied_connection_is_listed_and_ended_as_one() {
    for by_servers_name in [false, true] {
        let says = |name, port, len: usize| {
            let steps = vec![Step::Send(vec![7; len]), Step::Receive(len), Step::End];
            Dialogue::new(name, port, steps)
        };
        let case = Case::proxied(says("client", PROXY, 500), says("server", 0, 500));
        let mut world = case.start();
        world.run_for(Duration::from_millis(200));
        let all = list(&world, 0, &Filter::default(), 10);
        assert_eq!(all.len(), 1, "{all:?}");
        let (key, state) = all[0].server.expect("it is passed on");
        assert_eq!((all[0].state, state), (State::Established, State::Established));
        let by_server = Filter { server: Some(key.remote), ..Filter::default() };
        assert_eq!(list(&world, 0, &by_server, 10), all);
        let id = if by_servers_name { all[0].id.other_leg() } else { all[0].id };
        let now = world.now;
        assert_eq!(world.nodes[0].end_flow(now, id), Ended::Yes);
        world.run_for(Duration::from_millis(200));
        for node in [0, 1] {
            assert_eq!(world.nodes[node].flows().count(), 0, "node {node}");
        }
        assert!(world.clients.iter().all(|client| client.is_closed()), "both were reset");
    }
}
