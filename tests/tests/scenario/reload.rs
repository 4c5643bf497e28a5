//! Settings that change under live connections.

use stack::service::KeepAlive;
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
