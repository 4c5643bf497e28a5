//! The end of a connection: RFC 9293 3.6, 3.10.7.4 (fifth and eighth).

use super::desk::{
    BOTH, Desk, FIN_ACK, Family, PLAIN, SYNCHRONIZED, Say, Setup, generate, in_state, payload,
};
use stack::app::AppConfig;
use stack::tcp::state::State;
use stack::wire::Flags;

/// RFC 9293 3.10.7.4, eighth: what a FIN does in each state.
#[test]
fn a_fin_in_every_state() {
    for family in BOTH {
        for (state, then) in [
            (State::Established, State::LastAck), // `echo` closes as soon as its client has
            (State::FinWait1, State::TimeWait),   // it acknowledges our FIN
            (State::FinWait2, State::TimeWait),
            (State::CloseWait, State::CloseWait),
            (State::Closing, State::Closing),
            (State::LastAck, State::LastAck),
            (State::TimeWait, State::TimeWait),
        ] {
            let mut desk = in_state(family, state);
            let had_fin = !matches!(state, State::Established | State::FinWait1 | State::FinWait2);
            let seq = if had_fin { desk.snd_nxt - 1 } else { desk.snd_nxt };
            let ack = match state {
                State::Closing | State::LastAck | State::CloseWait => {
                    desk.flow().expect("open").local.snd_una
                }
                _ => desk.rcv_nxt,
            };
            desk.snd_nxt = seq + 1;
            desk.wait_ms(60);
            let answer = desk.hear(Say { seq, ack, window: 1, ..desk.segment(FIN_ACK, &[]) });
            assert_eq!(answer.last().map(|heard| heard.ack), Some(seq + 1), "{state}: {answer:?}");
            assert_eq!(desk.state(), Some(then), "{state}");
        }
    }
}

/// RFC 9293 3.6.1: a FIN that acknowledges all data and not our FIN is a simultaneous close.
#[test]
fn a_simultaneous_close() {
    for family in BOTH {
        let mut desk = in_state(family, State::Closing);
        desk.say(Flags::ACK, &[]);
        assert_eq!(desk.state(), Some(State::TimeWait));
    }
}

/// RFC 9293 3.6: a client that has closed still gets everything (half-close).
#[test]
fn a_half_closed_client_gets_the_rest() {
    let mut desk = Desk::with(Setup::new(Family::V4, generate(30_000, true)));
    desk.syn(PLAIN);
    desk.say(FIN_ACK, &[]);
    for _ in 0..60 {
        desk.acknowledge(desk.rcv_nxt);
    }
    assert_eq!(desk.received.len(), 30_000);
    assert_eq!(desk.state(), None, "the last ACK has ended it");
}

/// RFC 9293 3.10.7.4: after our FIN the client may go on sending; it is acknowledged.
#[test]
fn after_our_fin_data_is_acknowledged() {
    for state in [State::FinWait1, State::FinWait2] {
        let mut desk = in_state(Family::V4, state);
        desk.say(Flags::ACK, &[7; 900]);
        desk.say(Flags::ACK, &[7; 900]);
        desk.wait_ms(500);
        assert_eq!(desk.flow().expect("open").local.rcv_acked, desk.snd_nxt, "{state}");
        desk.say(FIN_ACK, &[]);
        assert_eq!(desk.state(), Some(State::TimeWait));
    }
}

/// RFC 9293 3.10.7.4: a FIN beyond a hole waits until the hole is filled.
#[test]
fn a_fin_beyond_a_hole_waits() {
    let mut desk = Desk::connected(Setup::new(Family::V6, AppConfig::Echo), PLAIN);
    let start = desk.snd_nxt;
    desk.say_at(start + 5, FIN_ACK, b"world");
    assert_eq!(desk.state(), Some(State::Established));
    let answer = desk.say_at(start, Flags::ACK, b"hello");
    assert_eq!(payload(&answer), b"helloworld");
    assert_eq!(
        (desk.state(), answer.last().map(|h| h.ack)),
        (Some(State::LastAck), Some(start + 11))
    );
}

/// RFC 9293 MUST-13: TIME-WAIT lasts for two maximum segment lifetimes (of 30 s), and a repeated
/// FIN is acknowledged and starts them anew.
#[test]
fn must_13_time_wait_lasts_and_starts_anew() {
    let mut desk = in_state(Family::V4, State::TimeWait);
    desk.wait_ms(59_000);
    let fin = Say { seq: desk.snd_nxt - 1, ..desk.segment(FIN_ACK, &[]) };
    let answer = desk.hear(fin);
    assert_eq!(answer.len(), 1);
    assert_eq!((answer[0].flags, answer[0].ack), (Flags::ACK, desk.snd_nxt));
    desk.wait_ms(59_000);
    assert_eq!(desk.state(), Some(State::TimeWait));
    desk.wait_ms(2_000);
    assert_eq!(desk.state(), None);
}

/// RFC 9293 3.10.7.4: an ACK of all in LAST-ACK is the end; in TIME-WAIT an ACK changes nothing.
#[test]
fn the_last_ack_ends_it() {
    for family in BOTH {
        let mut desk = in_state(family, State::LastAck);
        desk.say(Flags::ACK, &[]);
        assert_eq!(desk.state(), None);
        let mut desk = in_state(family, State::TimeWait);
        assert!(desk.say(Flags::ACK, &[]).is_empty());
        assert_eq!(desk.state(), Some(State::TimeWait));
    }
}

/// RFC 9293 3.10.4, 3.10.8: our FIN is sent again until it is acknowledged, whichever state we are
/// in.
#[test]
fn our_fin_is_repeated() {
    for state in [State::FinWait1, State::Closing, State::LastAck] {
        let mut desk = in_state(Family::V4, state);
        let answer = desk.wait_ms(3_000);
        let fins = answer.iter().filter(|heard| heard.flags.has(Flags::FIN)).count();
        assert!(fins >= 2, "{state}: {answer:?}");
    }
}

/// RFC 9293 3.10.8: FIN-WAIT-2 does not last for ever when the client never closes; it learns by
/// RST.
#[test]
fn fin_wait_2_is_given_up() {
    let mut desk = in_state(Family::V4, State::FinWait2);
    let answer = desk.wait_ms(61_000);
    assert!(answer.iter().any(|heard| heard.flags.has(Flags::RST)));
    assert_eq!(desk.state(), None);
}

/// RFC 9293 MUST-12: nothing of an ended connection is left behind, however it ends.
#[test]
fn must_12_nothing_is_left_of_a_reset_connection() {
    for state in SYNCHRONIZED {
        let mut desk = in_state(Family::V4, state);
        desk.say(Flags::RST, &[]);
        let env = &desk.stack.env;
        assert!(env.memory.is_unused(), "{state}");
        assert_eq!((env.senders.in_flight.used(), env.reassembly.used()), (0, 0), "{state}");
    }
}
