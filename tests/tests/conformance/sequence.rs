//! Which segments count in a connection: RFC 9293 3.4, 3.10.7.4, RFC 5961.

use super::desk::{
    BOTH, Desk, FIN_ACK, Family, PLAIN, RST_ACK, SYNCHRONIZED, Say, Setup, generate, in_state,
    payload,
};
use stack::app::AppConfig;
use stack::tcp::state::State;
use stack::wire::Flags;

fn echo(family: Family) -> Desk {
    Desk::connected(Setup::new(family, AppConfig::Echo), PLAIN)
}

/// A client that has filled the window of an `echo` whose answers it does not acknowledge.
fn with_closed_window(family: Family) -> Desk {
    let mut desk = echo(family);
    desk.window = 0;
    let una = desk.rcv_nxt;
    while desk.snd_nxt != desk.flow().expect("open").contract.rcv_edge {
        let say = Say { ack: una, ..desk.segment(Flags::ACK, &[5; 1024]) };
        desk.snd_nxt += 1024;
        desk.hear(say);
    }
    desk.wait_ms(100);
    assert_eq!(desk.flow().expect("open").contract.rcv_nxt, desk.snd_nxt);
    desk
}

/// RFC 9293 3.10.7.4, first, no data, open window: within the window it counts, outside it is
/// answered.
#[test]
fn acceptable_without_data_in_an_open_window() {
    for family in BOTH {
        let mut desk = echo(family);
        let next = desk.snd_nxt;
        for (seq, counts) in
            [(next, true), (next + 16_383, true), (next + 16_386, false), (next - 1, false)]
        {
            desk.wait_ms(60);
            let answer = desk.say_at(seq, Flags::ACK, &[]);
            assert_eq!(answer.is_empty(), counts, "{seq:?}: {answer:?}");
            assert!(answer.iter().all(|heard| heard.flags == Flags::ACK && heard.ack == next));
        }
    }
}

/// RFC 9293 3.10.7.4, first, no data, closed window: only RCV.NXT itself counts.
#[test]
fn acceptable_without_data_in_a_closed_window() {
    let mut desk = with_closed_window(Family::V4);
    let next = desk.snd_nxt;
    for (seq, counts) in [(next, true), (next + 1, false), (next - 1, false)] {
        desk.wait_ms(60);
        let una = desk.flow().expect("open").local.snd_una;
        let say = Say { seq, ack: una, ..desk.segment(Flags::ACK, &[]) };
        assert_eq!(desk.hear(say).is_empty(), counts, "{seq:?}");
    }
}

/// RFC 9293 3.10.7.4, first, data, open window: what begins or ends in the window counts, and only
/// the part inside is taken.
#[test]
fn acceptable_with_data_in_an_open_window() {
    for family in BOTH {
        let mut desk = echo(family);
        desk.say(Flags::ACK, b"hello");
        let next = desk.snd_nxt;
        assert_eq!(payload(&desk.say_at(next - 5, Flags::ACK, b"helloworld")), b"world");
        let next = next + 5;
        for seq in [next - 5, next - 60_000, next + 200_000, next + 0x7000_0000] {
            let answer = desk.say_at(seq, Flags::ACK, b"again");
            assert_eq!(answer.len(), 1, "{seq:?}");
            assert_eq!((answer[0].flags, answer[0].ack), (Flags::ACK, next));
        }
        // Beyond the right edge nothing is taken.
        let edge = desk.flow().expect("open").contract.rcv_edge;
        desk.say_at(edge - 3, Flags::ACK, b"abcdef");
        let room = edge.since(next) as usize;
        let say = Say { seq: next, ..desk.segment(Flags::ACK, &vec![1; 1400]) };
        let mut seq = next;
        while seq.before(edge - 3) {
            let len = (edge - 3).since(seq).min(1400) as usize;
            let bytes = vec![1; len];
            desk.put(&Say { seq, payload: bytes, ..say.clone() });
            seq += len as u32;
        }
        desk.poll();
        desk.wait_ms(30);
        let taken = desk.flow().expect("open").contract.received as usize;
        assert_eq!(taken, 10 + room);
    }
}

/// RFC 9293 3.10.7.4, first, data, closed window: nothing is taken, and it is answered: that is how
/// a client probes.
#[test]
fn a_probe_of_our_closed_window_is_answered() {
    let mut desk = with_closed_window(Family::V4);
    let (next, una) = (desk.snd_nxt, desk.flow().expect("open").local.snd_una);
    for _ in 0..3 {
        desk.wait_ms(300);
        let say = Say { ack: una, ..desk.segment(Flags::ACK, b"?") };
        let answer = desk.hear(say);
        assert_eq!(answer.len(), 1);
        assert_eq!((answer[0].ack, answer[0].window), (next, 0));
    }
}

/// RFC 9293 MUST-66: with a closed window ACKs and resets at its edge still count.
#[test]
fn must_66_a_closed_window_takes_acks_and_resets() {
    let mut desk = with_closed_window(Family::V4);
    let una = desk.flow().expect("open").local.snd_una;
    desk.window = 4000;
    let say = Say { ack: una, ..desk.segment(Flags::ACK, b"?") };
    let answer = desk.hear(say);
    assert!(!payload(&answer).is_empty(), "the window of its ACK was taken");
    let say = Say { window: 0, ..desk.segment(Flags::RST, &[]) };
    desk.hear(say);
    assert_eq!(desk.state(), None);
}

/// RFC 9293 3.10.7.4, second, RFC 5961 3.2: in every state a reset must be exact; one in the window
/// is questioned, any other ignored. RFC 1337 is not followed: an exact reset ends TIME-WAIT as
/// well.
#[test]
fn resets_in_every_state() {
    for family in BOTH {
        for state in SYNCHRONIZED {
            let mut desk = in_state(family, state);
            let next = desk.snd_nxt;
            desk.wait_ms(60);
            let answer = desk.say_at(next + 10, Flags::RST, &[]);
            assert_eq!(answer.len(), 1, "{state}: {answer:?}");
            assert_eq!((answer[0].flags, answer[0].ack), (Flags::ACK, next), "{state}");
            desk.wait_ms(60);
            for seq in [next - 1000, next + 100_000] {
                assert!(desk.say_at(seq, RST_ACK, &[]).is_empty(), "{state} {seq:?}");
            }
            assert_eq!(desk.state(), Some(state));
            assert!(desk.say_at(next, Flags::RST, &[]).is_empty());
            assert_eq!(desk.state(), None, "{state}");
        }
    }
}

/// RFC 9293 SHLD-2: a reset may carry data.
#[test]
fn shld_2_a_reset_may_carry_data() {
    let mut desk = echo(Family::V4);
    assert!(desk.say(RST_ACK, b"because").is_empty());
    assert_eq!(desk.state(), None);
}

/// RFC 9293 3.10.7.4, fourth, RFC 5961 4.2: in every state a SYN is questioned wherever it lies,
/// and harms nothing.
#[test]
fn a_syn_in_every_state_is_questioned() {
    for state in SYNCHRONIZED {
        let mut desk = in_state(Family::V6, state);
        let next = desk.snd_nxt;
        // In TIME-WAIT a higher SYN opens anew instead.
        let higher = if state == State::TimeWait { next - 7 } else { next + 7 };
        for seq in [higher, next - 1000] {
            desk.wait_ms(60);
            let answer = desk.say_at(seq, Flags::SYN, &[]);
            assert_eq!(answer.len(), 1, "{state} {seq:?}: {answer:?}");
            assert_eq!((answer[0].flags, answer[0].ack), (Flags::ACK, next), "{state}");
            assert_eq!(desk.state(), Some(state));
        }
    }
}

/// RFC 5961 4.2: that holds for a SYN without the agreed timestamps, too: its sender has forgotten
/// all.
#[test]
fn a_syn_without_timestamps_is_questioned() {
    let offer = super::desk::Offer { timestamps: Some(500), ..PLAIN };
    let mut desk = Desk::connected(Setup::new(Family::V4, AppConfig::Echo), offer);
    let next = desk.snd_nxt;
    let say = Say { options: Vec::new(), ..desk.segment(Flags::SYN, &[]) };
    let answer = desk.hear(Say { seq: next + 1_000_000, ..say });
    assert_eq!(answer.len(), 1);
    assert_eq!((answer[0].flags, answer[0].ack), (Flags::ACK, next));
}

/// RFC 9293 3.10.7.4, fifth: what acknowledges nothing is dropped.
#[test]
fn without_ack_nothing_is_taken() {
    let mut desk = echo(Family::V4);
    assert!(desk.say_at(desk.snd_nxt, Flags::PSH, b"hello").is_empty());
    assert_eq!(desk.flow().expect("open").contract.received, 0);
}

/// RFC 9293 3.10.7.4, fifth, MAY-12 (RFC 5961 5.2): an ACK of what was never sent is answered and
/// dropped, and so is one older than any window; an old one inside that range is harmless and its
/// data counts.
#[test]
fn may_12_acks_of_the_future_and_of_the_past() {
    for family in BOTH {
        let mut desk = echo(family);
        desk.say(Flags::ACK, b"hello");
        desk.say(Flags::ACK, &[]);
        let (next, una) = (desk.snd_nxt, desk.rcv_nxt);
        for ack in [una + 1, una + 1_000_000, una - 70_000, una - 0x7000_0000] {
            desk.wait_ms(60);
            let say = Say { ack, ..desk.segment(Flags::ACK, b"evil") };
            let answer = desk.hear(say);
            assert_eq!(answer.len(), 1, "{ack:?}");
            assert_eq!((answer[0].flags, answer[0].ack), (Flags::ACK, next));
        }
        let say = Say { ack: una - 3, ..desk.segment(Flags::ACK, b"good") };
        assert_eq!(payload(&desk.hear(say)), b"good");
    }
}

/// RFC 5961 7: answers to what proves nothing are limited, and those withheld are counted.
#[test]
fn challenges_are_limited() {
    let mut desk = echo(Family::V4);
    let (next, mut answers) = (desk.snd_nxt, 0);
    for _ in 0..100 {
        answers += desk.say_at(next + 10, Flags::RST, &[]).len();
        desk.wait_ms(1);
    }
    assert!((1..=3).contains(&answers), "{answers}");
    assert_eq!(desk.stack.counters().challenges_withheld, 100 - answers as u64);
}

/// RFC 9293 3.10.7.4, seventh: behind the client's FIN nothing more is taken.
#[test]
fn data_behind_the_fin_is_ignored() {
    let mut desk = in_state(Family::V4, State::CloseWait);
    let before = desk.flow().expect("open").contract.received;
    let say = Say { window: 1, ..desk.segment(FIN_ACK, b"more") };
    desk.hear(say);
    let contract = &desk.flow().expect("open").contract;
    assert_eq!((contract.received, contract.rcv_nxt), (before, desk.snd_nxt));
}

/// RFC 9293 3.10.7.4, fifth: SND.WND follows the newest segment, by SND.WL1 and then SND.WL2.
#[test]
fn the_window_follows_the_newest_segment() {
    let mut desk = echo(Family::V4);
    let window = |desk: &Desk| desk.flow().expect("open").local.snd_wnd;
    desk.say(Flags::ACK, b"hello");
    desk.window = 5000;
    desk.say(Flags::ACK, b"x");
    assert_eq!(window(&desk), 5000);
    // Older by SEG.SEQ, though it brings something: no matter what it says.
    let (seq, una) = (desk.snd_nxt - 2, desk.rcv_nxt - 1);
    desk.hear(Say { seq, ack: una, window: 9, ..desk.segment(Flags::ACK, b"oxy") });
    desk.snd_nxt += 1;
    assert_eq!(window(&desk), 5000);
    // The same SEG.SEQ with an older SEG.ACK.
    let next = desk.snd_nxt;
    let (ack, una) = (desk.rcv_nxt, desk.rcv_nxt - 1);
    desk.hear(Say { ack, window: 6000, ..desk.segment(Flags::ACK, &[]) });
    desk.hear(Say { ack: una, window: 9, ..desk.segment(Flags::ACK, &[]) });
    assert_eq!((window(&desk), desk.snd_nxt), (6000, next));
    // The same numbers again: a window update.
    desk.hear(Say { ack, window: 7000, ..desk.segment(Flags::ACK, &[]) });
    assert_eq!(window(&desk), 7000);
}

/// A segment that we have taken in part may be the first to acknowledge something: its window comes along. (RFC 9293 leaves
/// the window as it was, and so would have us send beyond what was offered.)
#[test]
fn what_acknowledges_more_brings_its_window_along() {
    let mut desk = Desk::with(Setup::new(Family::V4, generate(50_000, true)));
    desk.window = 4000;
    desk.syn(PLAIN);
    let first = desk.say(Flags::ACK, b"w");
    assert_eq!(payload(&first).len(), 4000);
    let una = first[0].seq;
    desk.hear(Say { ack: una, ..desk.segment(Flags::ACK, b"x") });
    // 3000 bytes were taken, and nobody has read them.
    let (seq, ack, window) = (desk.snd_nxt - 1, una + 3000, 1000);
    let answer = desk.hear(Say { seq, ack, window, ..desk.segment(Flags::ACK, b"wxy") });
    assert!(payload(&answer).is_empty(), "beyond what was offered: {answer:?}");
    let flow = desk.flow().expect("open");
    assert_eq!(flow.local.snd_una + flow.local.snd_wnd, una + 4000);
    // And the next one's counts as before.
    desk.snd_nxt += 2;
    let next = desk.hear(Say { ack, window: 3000, ..desk.segment(Flags::ACK, &[]) });
    assert_eq!(payload(&next).len(), 2000);
}
