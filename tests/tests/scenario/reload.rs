//! Settings that change under live connections.

use cluster::engine::Setting;
use cluster::id::{Epoch, GroupId};
use cluster::role::{Command, Report};
use stack::drop::Drop;
use stack::service::KeepAlive;
use stack::stack::Renewal;
use stack::tcp::state::State;
use stack::time::Duration;
use stack::wire::Flags;
use tests::kit::settings::{ECHO, Settings};
use tests::kit::world::World;

/// A sign of life.
fn speak(world: &mut World, raw: usize) {
    world.raws[raw].send(Flags::ACK, b"");
    world.send_raw(raw);
    world.run_for(Duration::from_millis(50));
}

fn is_open(world: &World) -> bool {
    world.nodes[0].flows().any(|flow| flow.contract.state == State::Established)
}

fn service_of(world: &World, port: u16) -> u8 {
    world.settings.ports.iter().position(|known| known.port == port).expect("it runs") as u8
}

/// A connection is ended by the idle time-out that holds when it was heard last, and not by that of before.
#[test]
fn an_idle_time_out_holds_from_the_next_sign_of_life_on() {
    let seconds = Duration::from_secs;
    for (before, after) in [(60, 5), (5, 60)] {
        let mut settings = Settings::default();
        settings.ports.iter_mut().for_each(|port| port.idle_timeout = Some(seconds(before)));
        let mut world = World::serving(settings);
        let echo = service_of(&world, ECHO);
        let raw = world.open_raw(ECHO);
        speak(&mut world, raw);
        let now = world.now;
        world.nodes[0]
            .reconfigure(now, echo, |service| service.idle_timeout = Some(seconds(after)));
        speak(&mut world, raw);
        world.run_for(seconds(after - 1));
        assert!(is_open(&world), "{before} s -> {after} s");
        world.run_for(seconds(2));
        assert!(!is_open(&world), "{before} s -> {after} s");
    }
}

/// Keep-alive that is switched on asks those who were connected before, too.
#[test]
fn keep_alive_can_be_switched_on_and_off() {
    let mut world = World::serving(Settings::default());
    let echo = service_of(&world, ECHO);
    let raw = world.open_raw(ECHO);
    let now = world.now;
    let second = Duration::from_secs(1);
    let asked = KeepAlive { idle: second, interval: second, count: 2 };
    world.nodes[0].reconfigure(now, echo, |service| service.keep_alive = Some(asked));
    speak(&mut world, raw);
    world.run_for(Duration::from_secs(10));
    assert!(!is_open(&world), "it was asked and did not answer");
    let raw = world.open_raw(ECHO);
    let now = world.now;
    world.nodes[0].reconfigure(now, echo, |service| service.keep_alive = None);
    speak(&mut world, raw);
    world.run_for(Duration::from_secs(10));
    assert!(is_open(&world), "nobody asks it any more");
}

/// A client that asks for a connection; the flags of what it is told.
fn knock(world: &mut World) -> Option<Flags> {
    let raw = world.raw(ECHO);
    world.raws[raw].options.mss = Some(1460);
    world.say_raw(raw, Flags::SYN, &[]);
    world.run_for(Duration::from_millis(5));
    world.raws[raw].take().map(|heard| heard.flags)
}

/// In which attempts the first node has said that a group without flows leaves.
fn said_empty(world: &World) -> Vec<u32> {
    let attempts = world.nodes[0].reports.iter().filter_map(|report| match report {
        Report::Empty { attempt, .. } => Some(*attempt),
        _ => None,
    });
    attempts.collect()
}

/// Whoever is connected does not notice; whoever comes is refused like at a closed port; the agent hears of the end. Then the
/// place is another service's: not before the flows of the one before it are gone.
#[test]
fn a_service_that_leaves_refuses_newcomers_and_serves_what_it_has() {
    let mut world = World::serving(Settings::default());
    let echo = service_of(&world, ECHO);
    let raw = world.open_raw(ECHO);
    let now = world.now;
    assert!(world.nodes[0].change(now, echo, |_| Setting::Leave(Some(1))));
    let refused = knock(&mut world).expect("an answer");
    assert!(refused.has(Flags::RST), "{refused:?}");
    let drops = &world.nodes[0].engines[0].stack().counters().drops;
    assert_eq!(drops.of(Drop::Leaving), 1);
    speak(&mut world, raw);
    assert!(is_open(&world) && said_empty(&world).is_empty());
    // It stays, and leaves again.
    world.nodes[0].change(world.now, echo, |_| Setting::Leave(None));
    assert!(knock(&mut world).is_some_and(|flags| flags.has(Flags::SYN)));
    world.nodes[0].change(world.now, echo, |_| Setting::Leave(Some(2)));
    let vacate = |place| Setting::Occupy(GroupId::NONE, Renewal::vacant(place));
    assert!(!world.nodes[0].change(world.now, echo, vacate), "it is in use");
    let names: Vec<_> = world.nodes[0].flows().map(|flow| flow.id).collect();
    for name in names {
        world.nodes[0].engines[0].end_flow(world.now, name);
    }
    world.run_for(Duration::from_secs(1));
    assert_eq!(said_empty(&world), [2], "once, and of this attempt");
    assert!(!world.nodes[0].change(world.now, echo, vacate), "the agent has not given it up");
    let group = GroupId::new(echo.into(), 0);
    world.command(0, Command::Stop { group });
    assert!(!world.nodes[0].change(world.now, echo, vacate), "flows may not be looked at yet");
    world.run_for(Duration::from_secs(1));
    assert!(world.nodes[0].change(world.now, echo, vacate));
    assert_eq!(knock(&mut world), None, "nobody has the port");
    // Another group comes into the place, and one behind all the others.
    let service = world.settings.services()[usize::from(echo)].clone();
    let next = GroupId::new(0x00ab_cdef, 0);
    let arrive = |place| Setting::Occupy(next, Renewal::new(service.clone(), place));
    assert!(world.nodes[0].change(world.now, echo, arrive));
    world.command(0, Command::Serve { group: next, epoch: Epoch(7) });
    assert!(knock(&mut world).is_some_and(|flags| flags.has(Flags::SYN)));
    let last = world.settings.ports.len() as u8;
    assert!(world.nodes[0].change(world.now, last + 1, vacate), "places in between are empty");
    let known: Vec<_> = world.nodes[0].engines[0].status().map(|status| status.id).collect();
    assert_eq!((known.len(), known[usize::from(echo)]), (usize::from(last), next));
}
