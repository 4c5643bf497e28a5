//! What suites of raw packets ask of a server in every state: RFC 9293 3.4, 3.8.6, 3.10.7.4.

use super::desk::{
    BOTH, Desk, FIN_ACK, Family, Heard, PLAIN, SYNCHRONIZED, Say, Setup, generate, in_state,
    payload,
};
use stack::app::AppConfig;
use stack::tcp::state::State;
use stack::wire::Flags;

/// The one answer is an empty ACK that says where we stand, and nothing else has changed.
fn is_an_empty_ack(desk: &Desk, state: State, answer: &[Heard], what: &str) {
    let what = format!("{what} in {state:?}");
    assert_eq!(answer.len(), 1, "{what}: {answer:?}");
    let flow = desk.flow().expect("still there");
    assert_eq!((answer[0].flags, answer[0].payload.len()), (Flags::ACK, 0), "{what}");
    assert_eq!(answer[0].seq, flow.local.snd_nxt, "{what}");
    assert_eq!(answer[0].ack, desk.snd_nxt, "{what}");
    assert_eq!((flow.contract.state, flow.contract.rcv_nxt), (state, desk.snd_nxt), "{what}");
}

/// RFC 9293 3.10.7.4, first: what lies outside the window is answered with where we stand, in every state.
#[test]
fn outside_the_window_in_every_state() {
    const FAR: u32 = 1 << 20;
    for family in BOTH {
        for state in SYNCHRONIZED {
            for (what, beyond, flags, bytes) in [
                ("data beyond", true, Flags::ACK, 10),
                ("data far below", false, Flags::ACK, 10),
                ("a FIN beyond", true, FIN_ACK, 0),
                ("a FIN far below", false, FIN_ACK, 0),
                ("an ACK beyond", true, Flags::ACK, 0),
                ("no ACK beyond", true, Flags(0), 10),
            ] {
                let mut desk = in_state(family, state);
                let seq = if beyond { desk.snd_nxt + FAR } else { desk.snd_nxt - FAR };
                let answer = desk.say_at(seq, flags, &vec![1; bytes]);
                is_an_empty_ack(&desk, state, &answer, what);
            }
        }
    }
}

/// RFC 9293 3.10.7.4, fifth: an ACK of what was never sent is answered, and what comes with it is not taken, in
/// every state.
#[test]
fn an_ack_of_the_future_in_every_state() {
    for family in BOTH {
        for state in SYNCHRONIZED {
            for flags in [Flags::ACK, FIN_ACK] {
                let mut desk = in_state(family, state);
                let ack = desk.flow().expect("there").local.snd_nxt + 1;
                let answer = desk.hear(Say { ack, ..desk.segment(flags, b"evil") });
                is_an_empty_ack(&desk, state, &answer, "an ACK of the future");
            }
        }
    }
}

/// RFC 9293 3.5.1, RFC 5961 4: a client that was restarted and has forgotten everything opens again from the same
/// port: its SYN is questioned, it answers with a reset, and its next SYN opens.
#[test]
fn a_client_that_has_forgotten_gets_through() {
    for family in BOTH {
        let mut desk = Desk::connected(Setup::new(family, AppConfig::Echo), PLAIN);
        desk.say(Flags::ACK, b"before");
        let forgotten = desk.rcv_nxt;
        desk.snd_nxt += 12_345_678;
        let challenge = desk.syn(PLAIN);
        assert_eq!(challenge[0].flags, Flags::ACK);
        assert!(desk.say_at(challenge[0].ack, Flags::RST, &[]).is_empty());
        assert_eq!(desk.state(), None);
        desk.snd_nxt = desk.snd_nxt - 1;
        desk.open(PLAIN);
        assert_ne!(desk.rcv_nxt, forgotten);
        assert_eq!(payload(&desk.say(Flags::ACK, b"after")), b"after");
    }
}

/// RFC 9293 3.8.6.2.1: a window that never is as large as a segment is filled whole, and each segment carries
/// the acknowledgement.
#[test]
fn a_window_smaller_than_a_segment_is_filled() {
    let mut desk = Desk::new(Family::V4, AppConfig::Echo);
    desk.window = 300;
    desk.open(PLAIN);
    let answer = desk.say(Flags::ACK.with(Flags::PSH), &[7; 1000]);
    assert_eq!((answer.len(), answer[0].payload.len(), answer[0].ack), (1, 300, desk.snd_nxt));
    for expected in [300, 300, 100] {
        let answer = desk.say(Flags::ACK, &[]);
        assert_eq!((answer.len(), answer[0].payload.len()), (1, expected));
    }
}

/// RFC 9293 3.8.6: what was offered is taken, in however small segments it comes.
#[test]
fn the_offered_window_holds_small_segments() {
    for size in [1usize, 7] {
        let mut desk = Desk::connected(Setup::new(Family::V4, AppConfig::Echo), PLAIN);
        desk.window = 0;
        let una = desk.rcv_nxt;
        let edge = desk.flow().expect("open").contract.rcv_edge;
        while edge.since(desk.snd_nxt) as usize >= size {
            let say = Say { ack: una, ..desk.segment(Flags::ACK, &vec![3; size]) };
            desk.snd_nxt += size as u32;
            desk.hear(say);
        }
        desk.wait_ms(100);
        assert_eq!(desk.flow().expect("open").contract.rcv_nxt, desk.snd_nxt, "by {size}");
        assert_eq!(desk.drops(stack::drop::Drop::PoolExhausted), 0);
    }
}

/// RFC 9293 3.10.4: a FIN takes no room in the client's buffer: it goes into a closed window, and is repeated.
#[test]
fn a_fin_goes_into_a_closed_window() {
    let mut desk = Desk::connected(Setup::new(Family::V4, AppConfig::Echo), PLAIN);
    desk.window = 0;
    let answer = desk.say(FIN_ACK, &[]);
    assert!(answer[0].flags.has(Flags::FIN), "{answer:?}");
    let again = desk.wait_ms(2_000);
    assert!(again.iter().any(|heard| heard.flags.has(Flags::FIN)));
    assert_eq!(desk.state(), Some(State::LastAck));
}

/// RFC 6298 5.5, RFC 9293 3.10.8: the last data and the FIN are repeated as one segment, ever more slowly, and
/// with the same bytes.
#[test]
fn the_last_data_is_repeated_with_its_fin() {
    let mut desk = Desk::with(Setup::new(Family::V4, generate(300, false)));
    desk.syn(PLAIN);
    let first = desk.say(Flags::ACK, &[]);
    assert!(first[0].flags.has(FIN_ACK));
    let again = desk.wait_ms(8_000);
    assert!(again.len() >= 3, "{again:?}");
    let mut before = (first[0].at, stack::time::Duration::ZERO);
    for heard in &again {
        assert_eq!((heard.seq, &heard.payload), (first[0].seq, &first[0].payload));
        assert!(heard.flags.has(FIN_ACK));
        let pause = heard.at.since(before.0);
        assert!(pause > before.1, "pauses grow");
        before = (heard.at, pause);
    }
}
