//! Keep-alive: RFC 9293 3.8.4, RFC 1122 4.2.3.6.

use super::desk::{Desk, Family, Heard, PLAIN, RST_ACK, Setup, generate};
use stack::app::AppConfig;
use stack::service::KeepAlive;
use stack::tcp::state::State;
use stack::time::Duration;
use stack::wire::Flags;

const SECOND: Duration = Duration::from_secs(1);

/// Ten seconds, then every second, three times.
const SOON: KeepAlive = KeepAlive { idle: Duration::from_secs(10), interval: SECOND, count: 3 };

fn connected(app: AppConfig, keep_alive: KeepAlive) -> Desk {
    let setup = Setup { keep_alive: Some(keep_alive), ..Setup::new(Family::V4, app) };
    Desk::connected(setup, PLAIN)
}

/// Whether it is a probe: an empty ACK below what we would send next.
fn is_probe(desk: &Desk, heard: &Heard) -> bool {
    (heard.flags, heard.seq, heard.ack) == (Flags::ACK, desk.rcv_nxt - 1, desk.snd_nxt)
        && heard.payload.is_empty()
}

/// MUST-24, MUST-27, SHLD-12: the first probe leaves after the idle time; it has no data.
#[test]
fn must_27_an_idle_connection_is_probed() {
    let mut desk = connected(AppConfig::Echo, SOON);
    assert!(desk.wait_ms(9_900).is_empty());
    let heard = desk.wait_ms(200);
    assert!(heard.len() == 1 && is_probe(&desk, &heard[0]), "{heard:?}");
    // What is answered is asked again after as long a silence.
    assert!(desk.say(Flags::ACK, &[]).is_empty());
    assert!(desk.wait_ms(9_800).is_empty());
    assert_eq!(desk.wait_ms(400).len(), 1);
    assert!(desk.say(Flags::ACK, &[]).is_empty());
    assert_eq!(desk.state(), Some(State::Established));
}

/// MUST-25: without being asked for, nothing is ever probed.
#[test]
fn must_25_keep_alive_is_off() {
    let mut desk = Desk::connected(Setup::new(Family::V4, AppConfig::Echo), PLAIN);
    assert!(desk.wait(Duration::from_secs(100_000)).is_empty());
    assert_eq!(desk.state(), Some(State::Established));
}

/// MUST-28: whoever asks for it without saying when gets two hours.
#[test]
fn must_28_the_default_is_two_hours() {
    let mut desk = connected(AppConfig::Echo, KeepAlive::default());
    assert!(desk.wait(Duration::from_secs(7_199)).is_empty());
    assert_eq!(desk.wait(Duration::from_secs(2)).len(), 1);
}

/// MUST-26: whatever arrives puts the first probe off; while something is in flight there is none.
#[test]
fn must_26_only_idle_connections_are_probed() {
    let mut desk = connected(AppConfig::Discard, SOON);
    for _ in 0..5 {
        desk.wait_ms(6_000);
        let heard = desk.say(Flags::ACK.with(Flags::PSH), b"x");
        assert!(heard.iter().all(|heard| !is_probe(&desk, heard)));
    }
    // The client is silent: its data is repeated, and that is all.
    let mut desk = connected(generate(100, true), SOON);
    let heard = desk.wait(Duration::from_secs(60));
    assert!(heard.len() > 4 && heard.iter().all(|heard| heard.payload.len() == 100), "{heard:?}");
}

/// MUST-29: probes without an answer prove nothing until `count` of them have gone; then the flow is reset.
#[test]
fn must_29_one_lost_answer_proves_nothing() {
    let mut desk = connected(AppConfig::Echo, SOON);
    let heard = desk.wait_ms(12_900);
    assert_eq!((heard.len(), desk.state()), (3, Some(State::Established)));
    assert!(heard.iter().all(|heard| is_probe(&desk, heard)));
    // The last one is answered.
    desk.say(Flags::ACK, &[]);
    let heard = desk.wait_ms(12_900);
    assert_eq!((heard.len(), desk.state()), (3, Some(State::Established)));
    let heard = desk.wait_ms(1_000);
    assert_eq!((heard.len(), heard[0].flags, desk.state()), (1, RST_ACK, None));
}

/// The idle time-out is about silence of those who use the connection: an answer to a probe does not break it.
#[test]
fn answers_to_probes_do_not_put_off_the_idle_time_out() {
    let idle_timeout = Some(Duration::from_secs(25));
    let (app, keep_alive) = (AppConfig::Echo, Some(SOON));
    let setup = Setup { keep_alive, idle_timeout, ..Setup::new(Family::V4, app) };
    let mut desk = Desk::connected(setup, PLAIN);
    for _ in 0..2 {
        assert_eq!(desk.wait_ms(10_200).len(), 1);
        desk.say(Flags::ACK, &[]);
    }
    assert_eq!(desk.state(), Some(State::Established));
    let heard = desk.wait_ms(5_000);
    assert_eq!((heard.len(), heard[0].flags, desk.state()), (1, RST_ACK, None));
}

/// In FIN-WAIT-2 a time-out of its own runs.
#[test]
fn what_is_being_closed_is_not_probed() {
    let mut desk = connected(generate(100, false), SOON);
    desk.say(Flags::ACK, &[]);
    assert_eq!(desk.state(), Some(State::FinWait2));
    assert!(desk.wait(Duration::from_secs(59)).is_empty());
}
