//! LISTEN and SYN-RECEIVED: RFC 9293 3.5, 3.10.7.2, 3.10.7.4.

use super::desk::{
    BOTH, Desk, FIN_ACK, Family, Offer, PLAIN, RST_ACK, Say, Setup, payload, timestamps,
};
use stack::app::AppConfig;
use stack::drop::Drop;
use stack::seq::Seq;
use stack::tcp::state::State;
use stack::wire::Flags;

const SYN_ACK: Flags = Flags::SYN.with(Flags::ACK);

/// RFC 9293 3.5: the three ways of the handshake; MUST-14, SHLD-5, MAY-3: the MSS option is always
/// there.
#[test]
fn a_handshake_opens() {
    for family in BOTH {
        let mut desk = Desk::new(family, AppConfig::Echo);
        let irs = desk.snd_nxt;
        let answer = desk.syn(PLAIN);
        assert_eq!(answer.len(), 1);
        assert_eq!((answer[0].flags, answer[0].ack, answer[0].mss), (SYN_ACK, irs + 1, Some(1440)));
        assert_eq!(desk.state(), Some(State::SynReceived));
        assert!(desk.say(Flags::ACK, &[]).is_empty());
        assert_eq!(desk.state(), Some(State::Established));
        assert_eq!(payload(&desk.say(Flags::ACK, b"hello")), b"hello");
    }
}

/// RFC 9293 3.10.7.2: data in a SYN is not acknowledged, so its sender says it again; nothing is
/// lost.
#[test]
fn data_in_a_syn_is_left_to_the_retransmission() {
    let mut desk = Desk::new(Family::V4, AppConfig::Echo);
    let irs = desk.snd_nxt;
    let answer = desk.say(Flags::SYN, b"early");
    assert_eq!((answer.len(), answer[0].flags, answer[0].ack), (1, SYN_ACK, irs + 1));
    let answer = desk.say_at(irs + 1, Flags::ACK, b"early");
    assert_eq!(payload(&answer), b"early");
}

/// RFC 9293 3.10.7.2: in LISTEN an RST is ignored, whatever else is set.
#[test]
fn a_reset_to_a_listener_is_ignored() {
    for family in BOTH {
        let mut desk = Desk::new(family, AppConfig::Echo);
        for flags in [Flags::RST, RST_ACK, Flags::RST.with(Flags::SYN), RST_ACK.with(Flags::SYN)] {
            assert!(desk.say_at(Seq(5), flags, &[]).is_empty(), "{flags:?}");
        }
        assert_eq!((desk.state(), desk.drops(Drop::StrayReset)), (None, 4));
    }
}

/// RFC 9293 3.10.7.1, 3.10.7.2: what acknowledges something is reset at SEG.ACK; what does not, at
/// 0 with an ACK of all that it occupies.
#[test]
fn the_numbers_of_a_reset_are_those_of_the_rfc() {
    for family in BOTH {
        let mut desk = Desk::new(family, AppConfig::Echo);
        for flags in [Flags::ACK, SYN_ACK, FIN_ACK] {
            let say = Say { seq: Seq(5), ack: Seq(77), ..desk.segment(flags, b"abc") };
            let answer = desk.hear(say);
            assert_eq!(answer.len(), 1, "{flags:?}");
            assert_eq!((answer[0].flags, answer[0].seq), (Flags::RST, Seq(77)));
        }
        for (flags, len) in [(Flags(0), 3), (Flags::FIN, 4), (Flags::FIN.with(Flags::SYN), 5)] {
            let answer = desk.say_at(Seq(5), flags, b"abc");
            assert_eq!(answer.len(), 1, "{flags:?}");
            let heard = (answer[0].flags, answer[0].seq, answer[0].ack);
            assert_eq!(heard, (RST_ACK, Seq(0), Seq(5) + len), "{flags:?}");
        }
    }
}

/// RFC 9293 3.10.7.4, fifth: in SYN-RECEIVED an ACK of something else is reset at SEG.ACK, and the
/// connection goes on opening.
#[test]
fn an_unacceptable_ack_in_syn_received_is_reset() {
    for family in BOTH {
        let mut desk = Desk::new(family, AppConfig::Echo);
        let iss = desk.syn(PLAIN)[0].seq;
        for wrong in [iss, iss + 2, iss - 1, iss - 100_000, iss + 100_000] {
            let say = Say { ack: wrong, ..desk.segment(Flags::ACK, b"evil") };
            let answer = desk.hear(say);
            assert_eq!(answer.len(), 1, "{wrong:?}");
            assert_eq!((answer[0].flags, answer[0].seq), (Flags::RST, wrong));
            assert_eq!(desk.state(), Some(State::SynReceived));
        }
        assert_eq!(payload(&desk.say(Flags::ACK, b"good")), b"good");
    }
}

/// RFC 9293 3.10.7.4, first: in SYN-RECEIVED what lies outside the window is answered with an ACK.
#[test]
fn an_alien_segment_in_syn_received_is_answered() {
    let mut desk = Desk::new(Family::V4, AppConfig::Echo);
    let iss = desk.syn(PLAIN)[0].seq;
    let far = desk.snd_nxt + 100_000;
    let answer = desk.say_at(far, Flags::ACK, b"far");
    assert_eq!(answer.len(), 1);
    assert_eq!((answer[0].flags, answer[0].seq), (Flags::ACK, iss + 1));
    assert_eq!((answer[0].ack, desk.state()), (desk.snd_nxt, Some(State::SynReceived)));
}

/// RFC 9293 MUST-11 for a passive open: a reset in SYN-RECEIVED leads back to LISTEN.
#[test]
fn must_11_a_reset_in_syn_received_leads_back_to_listen() {
    let mut desk = Desk::new(Family::V4, AppConfig::Echo);
    desk.syn(PLAIN);
    assert!(desk.say(Flags::RST, &[]).is_empty());
    assert_eq!(desk.state(), None);
    desk.open(PLAIN);
    assert_eq!(desk.state(), Some(State::Established));
}

/// RFC 9293 3.10.7.4, seventh: data with the ACK that opens is taken; so is a FIN.
#[test]
fn the_ack_that_opens_may_carry_data_and_fin() {
    for family in BOTH {
        let mut desk = Desk::new(family, AppConfig::Echo);
        desk.syn(PLAIN);
        let answer = desk.say(FIN_ACK, b"bye");
        assert_eq!(payload(&answer), b"bye");
        assert!(answer.iter().any(|heard| heard.flags.has(Flags::FIN)));
        assert_eq!(answer.last().expect("answered").ack, desk.snd_nxt);
        assert_eq!(desk.state(), Some(State::LastAck));
    }
}

/// RFC 9293 3.10.7.2: whatever is neither SYN, ACK nor RST opens nothing. (FIN with SYN is nobody's
/// way to open.)
#[test]
fn what_is_no_syn_opens_nothing() {
    let mut desk = Desk::new(Family::V4, AppConfig::Echo);
    desk.say_at(Seq(5), Flags::SYN.with(Flags::FIN), &[]);
    desk.say_at(Seq(5), Flags(0), b"x");
    assert_eq!((desk.state(), desk.stack.slots().count()), (None, 0));
}

/// RFC 9293 MUST-41, MUST-42: connections of one listener do not disturb each other, nor do two
/// listeners on one port at different addresses.
#[test]
fn must_41_must_42_listeners_do_not_interfere() {
    let mut desk = Desk::new(Family::V4, AppConfig::Echo);
    let (seq, mut iss) = (desk.snd_nxt, Vec::new());
    for (port, to) in [(40_000, 100), (40_001, 100), (40_000, 101)] {
        let say = Say { source_port: port, ..desk.segment(Flags::SYN, &[]) };
        let say = Say { destination: desk.family.address(0, to), ..say };
        iss.push(desk.hear(say)[0].seq);
    }
    for (n, (port, to)) in [(40_000, 100), (40_001, 100), (40_000, 101)].into_iter().enumerate() {
        let bytes = [b'a' + n as u8; 3];
        let say = Say { source_port: port, ..desk.segment(Flags::ACK, &bytes) };
        let destination = desk.family.address(0, to);
        let answer = desk.hear(Say { destination, seq: seq + 1, ack: iss[n] + 1, ..say });
        assert_eq!(payload(&answer), bytes);
    }
    assert_eq!(desk.stack.slots().count(), 3);
}

/// RFC 9293 MUST-8, RFC 6528: the initial sequence number follows a clock, one step every 4
/// microseconds, and differs between connections.
#[test]
fn must_8_the_initial_sequence_number_follows_the_clock() {
    let mut desk = Desk::new(Family::V4, AppConfig::Echo);
    let first = desk.syn(PLAIN)[0].seq;
    desk.say(Flags::RST, &[]);
    let asked = desk.now;
    desk.wait_ms(40);
    let second = desk.syn(PLAIN)[0].seq;
    let steps = desk.now.since(asked).micros() / 4;
    assert!(second.since(first).abs_diff(steps as u32) <= 1);
    desk.port += 1;
    let other = desk.syn(PLAIN)[0].seq;
    assert!(other.since(second).min(second.since(other)) > 10_000);
}

/// RFC 9293 MUST-22, SHLD-11, MUST-23: a SYN-ACK is sent again with growing pauses, for three
/// minutes at least.
#[test]
fn must_23_a_syn_ack_is_repeated_for_three_minutes() {
    let mut desk = Desk::new(Family::V4, AppConfig::Echo);
    let begun = desk.now;
    desk.syn(PLAIN);
    let answer = desk.wait_ms(400_000);
    let (last, again) = answer.split_last().expect("repeated");
    assert!(again.iter().all(|heard| heard.flags == SYN_ACK), "{again:?}");
    let times: Vec<u64> = again.iter().map(|heard| heard.at.since(begun).millis()).collect();
    assert!(times[0] >= 1000 && times.len() >= 5, "{times:?}");
    assert!(times.windows(3).take(4).all(|w| w[2] - w[1] > w[1] - w[0]), "{times:?}");
    assert!(last.flags.has(Flags::RST) && last.at.since(begun).millis() >= 180_000);
    assert_eq!(desk.state(), None);
}

/// RFC 7323 2.2, 3.2, RFC 2018 2: what the SYN did not offer, the SYN-ACK does not answer.
#[test]
fn options_are_answered_only_if_offered() {
    for bits in 0..8 {
        let offer = Offer {
            mss: Some(1000),
            scale: (bits & 1 != 0).then_some(3),
            sack: bits & 2 != 0,
            timestamps: (bits & 4 != 0).then_some(77),
        };
        let mut desk = Desk::new(Family::V4, AppConfig::Echo);
        let answer = desk.syn(offer).remove(0);
        assert_eq!(answer.scale.is_some(), offer.scale.is_some());
        assert_eq!(answer.sack_permitted, offer.sack);
        assert_eq!(answer.timestamps.map(|(_, echo)| echo), offer.timestamps);
    }
}

/// RFC 9293 3.10.7.4: a SYN that comes again is answered by the same SYN-ACK.
#[test]
fn a_syn_again_gets_the_same_syn_ack() {
    let mut desk = Desk::connectable();
    let syn = desk.segment(Flags::SYN, &[]);
    let first = desk.hear(syn.clone()).remove(0);
    desk.wait_ms(5);
    let second = desk.hear(syn).remove(0);
    assert_eq!((first.seq, first.ack, first.flags), (second.seq, second.ack, second.flags));
}

impl Desk {
    fn connectable() -> Desk {
        Desk::with(Setup::new(Family::V6, AppConfig::Echo))
    }
}

/// RFC 6191, RFC 9293 MAY-2, SHLD-4: with timestamps, a SYN with a newer one opens anew in
/// TIME-WAIT, even at a lower sequence number; one that is neither newer nor higher does not.
#[test]
fn shld_4_a_newer_timestamp_ends_time_wait() {
    let offer = Offer { timestamps: Some(1000), ..PLAIN };
    let app = super::desk::generate(10, false);
    let mut desk = Desk::connected(Setup::new(Family::V4, app), offer);
    desk.say(Flags::ACK, &[]);
    desk.say(FIN_ACK, &[]);
    assert_eq!(desk.state(), Some(State::TimeWait));
    desk.snd_nxt = desk.snd_nxt - 50_000;
    let old = Say { options: timestamps(1000, 0), ..desk.segment(Flags::SYN, &[]) };
    assert!(desk.hear(old).iter().all(|heard| !heard.flags.has(Flags::SYN)));
    let new = Say { options: timestamps(1001, 0), ..desk.segment(Flags::SYN, &[]) };
    let answer = desk.hear(new);
    assert!(answer.iter().any(|heard| heard.flags == SYN_ACK), "{answer:?}");
}
