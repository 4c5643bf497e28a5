//! Opening connections ourselves: RFC 9293 3.5, 3.10.1 and 3.10.7.3.

use super::desk::{
    BOTH, CLIENT_MAC, Desk, FIN_ACK, Family, Heard, Offer, PLAIN, RST_ACK, SYN_ACK, Say, Setup,
    generate, payload,
};
use stack::app::AppConfig;
use stack::drop::Drop;
use stack::key::FlowKey;
use stack::limits::REPLIES_MAX;
use stack::recorder::Unmirrored;
use stack::seq::Seq;
use stack::stack::{ConnectError, Mode};
use stack::tcp::state::State;
use stack::time::Duration;
use stack::wire::{Address, Flags};

const ALL: Offer = Offer { mss: Some(1200), scale: Some(5), sack: true, timestamps: Some(900) };

/// A desk whose stack has sent a SYN, and that SYN.
fn opening(family: Family, app: AppConfig) -> (Desk, Heard) {
    let mut desk = Desk::new(family, app);
    let mut heard = desk.connect();
    assert_eq!((heard.len(), desk.state()), (1, Some(State::SynSent)));
    (desk, heard.remove(0))
}

/// 3.10.1: <SEQ=ISS><CTL=SYN>, with all that we can do; MUST-14, SHLD-5, MAY-3, MUST-67 for the MSS.
#[test]
fn our_syn_offers_everything() {
    for family in BOTH {
        let (_, syn) = opening(family, AppConfig::Echo);
        assert_eq!((syn.flags, syn.ack, syn.window), (Flags::SYN, Seq(0), 16 << 10));
        assert_eq!((syn.mss, syn.scale, syn.sack_permitted), (Some(1440), Some(0), true));
        // RFC 7323 3.2: there is nothing to echo yet.
        assert_eq!(syn.timestamps.map(|(_, echo)| echo), Some(0));
    }
}

/// RFC 6528 for a connection opened by us: the number is that of the clock and both ends.
#[test]
fn our_syn_has_a_number_of_its_own() {
    let (_, first) = opening(Family::V4, AppConfig::Echo);
    let mut later = Desk::new(Family::V4, AppConfig::Echo);
    later.wait(Duration::from_micros(4_000));
    let second = later.connect().remove(0);
    assert_eq!(second.seq, first.seq + 1_000);
    let mut other = Desk::new(Family::V4, AppConfig::Echo);
    other.port += 1;
    assert_ne!(other.connect()[0].seq, first.seq);
}

/// 3.10.7.3, fourth: the SYN-ACK opens and is acknowledged; what it brings is agreed on.
#[test]
fn a_syn_ack_opens() {
    for family in BOTH {
        for offer in [ALL, PLAIN, Offer::default()] {
            let (mut desk, syn) = opening(family, AppConfig::Echo);
            let heard = desk.answer_syn(offer, SYN_ACK, &[]);
            assert_eq!((heard.len(), desk.state()), (1, Some(State::Established)));
            assert_eq!((heard[0].flags, heard[0].seq), (Flags::ACK, syn.seq + 1));
            assert_eq!((heard[0].ack, heard[0].window), (desk.snd_nxt, 16 << 10));
            assert_eq!(heard[0].timestamps.is_some(), offer.timestamps.is_some());
            let default = if family == Family::V4 { 536 } else { 1220 };
            let options = desk.flow().expect("open").contract.options;
            assert_eq!(options.mss, offer.mss.unwrap_or(default));
            assert_eq!((options.scaling, options.sack), (offer.scale.is_some(), offer.sack));
            desk.say(Flags::ACK.with(Flags::PSH), b"hello");
            assert_eq!(desk.received, b"hello");
            desk.say(FIN_ACK, &[]);
            desk.say(Flags::ACK, &[]);
            assert_eq!(desk.state(), None);
        }
    }
}

/// 3.10.7.3, fourth: data that was waiting goes out with the acknowledgement; our application speaks first.
#[test]
fn who_opens_may_speak_first() {
    let (mut desk, syn) = opening(Family::V4, generate(300, false));
    let heard = desk.answer_syn(PLAIN, SYN_ACK, &[]);
    assert_eq!(payload(&heard).len(), 300);
    assert_eq!((heard[0].seq, heard[0].ack), (syn.seq + 1, desk.snd_nxt));
    assert!(heard[0].flags.has(FIN_ACK));
}

/// 3.10.7.3, fourth: controls and text of a SYN-ACK are taken at once.
#[test]
fn a_syn_ack_may_carry_data_and_fin() {
    let (mut desk, _) = opening(Family::V4, AppConfig::Echo);
    let heard = desk.answer_syn(PLAIN, SYN_ACK.with(Flags::FIN), b"hello");
    assert_eq!(payload(&heard), b"hello");
    assert!(heard.iter().all(|segment| segment.ack == desk.snd_nxt));
    assert_eq!(desk.state(), Some(State::LastAck));
}

/// 3.10.7.3, first: whoever acknowledges anything but our SYN is reset, and our SYN is repeated.
#[test]
fn an_unacceptable_ack_in_syn_sent_is_reset() {
    for flags in [Flags::ACK, SYN_ACK, FIN_ACK] {
        let (mut desk, syn) = opening(Family::V4, AppConfig::Echo);
        for wrong in [syn.seq, syn.seq - 1, syn.seq + 2, syn.seq + 70_000] {
            desk.rcv_nxt = wrong;
            let heard = desk.say_at(desk.snd_nxt, flags, b"evil");
            assert_eq!(heard.len(), 1);
            assert_eq!((heard[0].flags, heard[0].seq), (Flags::RST, wrong));
            // No reset answers a reset.
            assert!(desk.say_at(desk.snd_nxt, RST_ACK, &[]).is_empty());
            assert_eq!(desk.state(), Some(State::SynSent));
        }
        assert_eq!((desk.drops(Drop::AckUnsent), desk.drops(Drop::StrayReset)), (4, 4));
        assert_eq!(desk.wait_ms(10)[0].flags, Flags::SYN);
        assert_eq!(desk.wait_ms(1_100)[0].flags, Flags::SYN, "and after the time-out as ever");
    }
}

/// 3.5.1, figure 9: the other side may have kept a connection from before a crash. It is reset, and behind that our SYN is said again:
/// not after a time-out, and not as if a SYN had been lost.
#[test]
fn a_syn_that_meets_a_connection_of_before_is_said_again_soon() {
    for family in BOTH {
        let (mut desk, syn) = opening(family, generate(30_000, false));
        desk.rcv_nxt = syn.seq - 70_000;
        let heard = desk.say_at(desk.snd_nxt + 5_000, Flags::ACK, &[]);
        assert_eq!((heard.len(), heard[0].flags), (1, Flags::RST));
        let again = desk.wait_ms(40);
        assert_eq!(again.len(), 1);
        assert_eq!((again[0].flags, again[0].seq), (Flags::SYN, syn.seq));
        assert_eq!((again[0].mss, again[0].scale), (syn.mss, syn.scale));
        desk.rcv_nxt = syn.seq + 1;
        let heard = desk.answer_syn(PLAIN, SYN_ACK, &[]);
        assert_eq!(heard[0].ack, desk.snd_nxt, "it is open");
        assert!(heard.len() >= 4, "the initial window: {heard:?}");
        assert!(desk.wait_ms(8).iter().all(|heard| !heard.flags.has(Flags::SYN)));
    }
}

/// As nothing proves such an answer, it brings no more SYNs than challenges: one in 50 ms. What says RST as well brings none.
#[test]
fn a_syn_is_not_said_again_for_every_answer() {
    let (mut desk, syn) = opening(Family::V4, AppConfig::Echo);
    desk.rcv_nxt = syn.seq - 70_000;
    assert!(desk.say_at(desk.snd_nxt, RST_ACK, &[]).is_empty());
    assert!(desk.wait_ms(10).is_empty());
    let mut syns = 0;
    for _ in 0..100 {
        desk.rcv_nxt = syn.seq - 70_000;
        let mut heard = desk.say_at(desk.snd_nxt, Flags::ACK, &[]);
        heard.extend(desk.wait_ms(5));
        syns += heard.iter().filter(|heard| heard.flags == Flags::SYN).count();
        assert_eq!(heard.iter().filter(|heard| heard.flags == Flags::RST).count(), 1);
    }
    assert!((8..=10).contains(&syns), "{syns} in half a second");
}

/// Whose SYN was to be said again and crosses that of the other side answers it, and says no more SYNs.
#[test]
fn a_syn_that_was_to_be_said_again_is_not_once_another_has_come() {
    let (mut desk, syn) = opening(Family::V4, AppConfig::Echo);
    desk.rcv_nxt = syn.seq - 70_000;
    assert_eq!(desk.say_at(desk.snd_nxt, Flags::ACK, &[])[0].flags, Flags::RST);
    let heard = desk.answer_syn(PLAIN, Flags::SYN, &[]);
    assert_eq!((heard.len(), heard[0].flags), (1, SYN_ACK));
    assert!(desk.wait_ms(100).is_empty());
    assert!(!desk.flow().expect("opening").local.owed.ack_new);
}

/// What is answered in the very moment in which it was to be said again is not said again.
#[test]
fn a_syn_that_was_to_be_said_again_is_forgotten_once_it_is_answered() {
    let (mut desk, syn) = opening(Family::V4, AppConfig::Echo);
    desk.rcv_nxt = syn.seq - 70_000;
    assert_eq!(desk.say_at(desk.snd_nxt, Flags::ACK, &[])[0].flags, Flags::RST);
    desk.now += Duration::from_millis(4);
    desk.stack.handle_timeouts(desk.now, &mut Unmirrored);
    assert!(desk.flow().expect("opening").local.owed.syn_ack);
    desk.rcv_nxt = syn.seq + 1;
    let heard = desk.answer_syn(PLAIN, SYN_ACK, &[]);
    assert_eq!((heard.len(), heard[0].flags), (1, Flags::ACK));
    assert!(!desk.flow().expect("open").local.owed.syn_ack);
}

/// Nothing ends the connection of before if there is no room for a reset: our SYN would meet the same answer.
#[test]
fn a_syn_is_not_said_again_if_nothing_was_reset() {
    let (mut desk, syn) = opening(Family::V4, AppConfig::Echo);
    let stray = desk.segment(Flags::ACK, &[]);
    // Resets may take half of the places.
    for port in 1..=REPLIES_MAX as u16 / 2 {
        desk.put(&Say { source_port: port, ..stray.clone() });
    }
    desk.put(&Say { ack: syn.seq - 70_000, ..stray });
    assert_eq!((desk.drops(Drop::ReplyQueueFull), desk.drops(Drop::AckUnsent)), (1, 0));
    desk.poll();
    assert!(desk.wait_ms(40).is_empty());
    assert_eq!(desk.state(), Some(State::SynSent));
}

/// RFC 6298 3, Karn's rule: nobody knows which of two SYNs is answered, unless the answer has a timestamp.
#[test]
fn a_syn_that_was_said_twice_measures_no_round_trip() {
    for (offer, is_measured) in [(ALL, true), (PLAIN, false)] {
        let (mut desk, syn) = opening(Family::V4, AppConfig::Echo);
        desk.rcv_nxt = syn.seq - 70_000;
        desk.say_at(desk.snd_nxt, Flags::ACK, &[]);
        assert_eq!(desk.wait_ms(40).len(), 1);
        desk.rcv_nxt = syn.seq + 1;
        desk.answer_syn(offer, SYN_ACK, &[]);
        let flow = desk.flow().expect("open");
        let srtt = flow.sender.hint(&desk.stack.env.senders).srtt_us;
        assert_eq!(srtt > 0, is_measured, "{srtt}");
    }
}

/// 3.10.7.3, second, and RFC 5961 3.2: only a reset that acknowledges our SYN refuses the connection.
#[test]
fn a_reset_in_syn_sent_refuses() {
    let (mut desk, _) = opening(Family::V4, AppConfig::Echo);
    assert!(desk.say_at(desk.snd_nxt, Flags::RST, &[]).is_empty());
    assert_eq!((desk.state(), desk.drops(Drop::StrayReset)), (Some(State::SynSent), 1));
    assert!(desk.say_at(Seq(0), RST_ACK, &[]).is_empty());
    assert_eq!((desk.state(), desk.stack.counters().refused), (None, 1));
    assert!(desk.wait(Duration::from_secs(300)).is_empty());
}

/// 3.10.7.3, fifth: what is neither SYN nor RST is dropped.
#[test]
fn without_syn_nothing_opens() {
    let (mut desk, _) = opening(Family::V4, AppConfig::Echo);
    assert!(desk.say_at(desk.snd_nxt, Flags::ACK, b"hello").is_empty());
    assert!(desk.say_at(desk.snd_nxt, Flags::FIN, b"hello").is_empty());
    assert_eq!((desk.state(), desk.drops(Drop::NoSyn)), (Some(State::SynSent), 2));
}

/// MUST-10 and 3.5, figure 8: both ends open at once.
#[test]
fn must_10_syns_that_cross_open_one_connection() {
    for offer in [ALL, PLAIN] {
        let (mut desk, syn) = opening(Family::V4, AppConfig::Echo);
        let irs = desk.snd_nxt;
        let heard = desk.answer_syn(offer, Flags::SYN, &[]);
        assert_eq!((heard.len(), desk.state()), (1, Some(State::SynReceived)));
        assert_eq!((heard[0].flags, heard[0].seq, heard[0].ack), (SYN_ACK, syn.seq, irs + 1));
        assert_eq!(heard[0].scale.is_some(), offer.scale.is_some());
        // The other side's SYN once more: so is our answer.
        desk.snd_nxt = irs;
        let heard = desk.answer_syn(offer, Flags::SYN, &[]);
        assert_eq!((heard.len(), heard[0].flags), (1, SYN_ACK));
        // Its SYN-ACK.
        desk.snd_nxt = irs;
        let heard = desk.answer_syn(offer, SYN_ACK, &[]);
        assert_eq!((heard.len(), desk.state()), (1, Some(State::Established)));
        assert_eq!((heard[0].flags, heard[0].ack), (Flags::ACK, irs + 1));
        desk.say(Flags::ACK.with(Flags::PSH), b"hello");
        assert_eq!(desk.received, b"hello");
    }
}

/// MUST-10: an ACK of our SYN-ACK opens as well, and data of the SYN is left to its retransmission.
#[test]
fn crossed_syns_open_by_an_ack() {
    let (mut desk, _) = opening(Family::V4, AppConfig::Echo);
    let irs = desk.snd_nxt;
    let heard = desk.answer_syn(PLAIN, Flags::SYN, b"early");
    assert_eq!(heard[0].ack, irs + 1);
    desk.snd_nxt = irs + 1;
    desk.say(Flags::ACK.with(Flags::PSH), b"early");
    assert_eq!((desk.state(), desk.received.as_slice()), (Some(State::Established), &b"early"[..]));
}

/// The windows of SYN and SYN-ACK are never scaled (RFC 7323 2.2), also when the SYNs cross.
#[test]
fn the_window_of_a_crossed_syn_ack_is_not_scaled() {
    let (mut desk, _) = opening(Family::V4, generate(9_000, true));
    (desk.window, desk.rcv_nxt) = (2_048, desk.rcv_nxt);
    let irs = desk.snd_nxt;
    desk.answer_syn(ALL, Flags::SYN, &[]);
    desk.snd_nxt = irs;
    let heard = desk.answer_syn(ALL, SYN_ACK, &[]);
    let sent = payload(&heard).len();
    assert!((1..=2_048).contains(&sent), "{sent} bytes into a window of 2048");
}

/// MUST-11: a reset in SYN-RECEIVED that we came to from SYN-SENT ends the attempt.
#[test]
fn must_11_a_reset_after_crossed_syns_refuses() {
    let (mut desk, _) = opening(Family::V4, AppConfig::Echo);
    desk.answer_syn(PLAIN, Flags::SYN, &[]);
    assert!(desk.say(Flags::RST, &[]).is_empty());
    assert_eq!((desk.state(), desk.stack.counters().refused), (None, 1));
    assert!(desk.wait(Duration::from_secs(300)).is_empty());
}

/// MUST-22, MUST-23, RFC 6298 5: our SYN is repeated with growing pauses, for three minutes; then the
/// connection is given up, and nobody is told.
#[test]
fn must_23_our_syn_is_repeated_for_three_minutes() {
    let (mut desk, first) = opening(Family::V4, AppConfig::Echo);
    let heard = desk.wait(Duration::from_secs(179));
    let pauses: Vec<u64> = heard.iter().map(|syn| syn.at.since(first.at).millis()).collect();
    let expected = [1_000, 3_000, 7_000, 15_000, 31_000, 63_000, 123_000];
    assert_eq!(pauses.len(), expected.len(), "{pauses:?}");
    assert!(pauses.iter().zip(expected).all(|(at, wanted)| at.abs_diff(wanted) < 10));
    assert!(heard.iter().all(|syn| (syn.flags, syn.seq) == (Flags::SYN, first.seq)));
    assert_eq!(desk.state(), Some(State::SynSent));
    assert!(desk.wait(Duration::from_secs(10)).is_empty());
    assert_eq!(desk.state(), None);
    assert_eq!(desk.stack.env.senders.in_flight.used(), 0);
}

/// MUST-21 for SYNs: who opens says how long he waits. Behind crossed SYNs the other side is told.
#[test]
fn must_21_a_connect_time_out_can_be_seconds() {
    let connect_timeout = Duration::from_millis(2_500);
    let setup = Setup { connect_timeout, ..Setup::new(Family::V4, AppConfig::Echo) };
    let mut desk = Desk::with(setup.clone());
    desk.connect();
    desk.wait_ms(2_400);
    assert_eq!(desk.state(), Some(State::SynSent));
    assert!(desk.wait_ms(200).is_empty());
    assert_eq!(desk.state(), None);
    let mut desk = Desk::with(setup);
    desk.connect();
    desk.answer_syn(PLAIN, Flags::SYN, &[]);
    let heard = desk.wait_ms(2_600);
    assert_eq!((heard.last().expect("a word").flags, desk.state()), (RST_ACK, None));
}

/// 3.10.1, MUST-41, MUST-46: what cannot be opened, and why.
#[test]
fn must_46_what_cannot_be_opened() {
    let mut desk = Desk::new(Family::V4, AppConfig::Echo);
    let good = desk.key();
    let try_to = |desk: &mut Desk, service: u8, key: FlowKey| {
        desk.stack.connect(desk.now, service, key, CLIENT_MAC, &mut Unmirrored).map(|_| ())
    };
    let remote = |a| FlowKey { remote: Address::v4(a), ..good };
    let cases = [
        (9, good, ConnectError::NoService),
        (1, good, ConnectError::AlienLocal),
        (0, FlowKey { local_port: 0, ..good }, ConnectError::AlienLocal),
        (0, FlowKey { remote_port: 0, ..good }, ConnectError::BadRemote),
        (0, remote([224, 0, 0, 1]), ConnectError::BadRemote),
        (0, remote([255, 255, 255, 255]), ConnectError::BadRemote),
        (0, FlowKey { remote: Family::V6.address(1, 1), ..good }, ConnectError::BadRemote),
        (
            0,
            FlowKey { remote: good.local, remote_port: good.local_port, ..good },
            ConnectError::SelfConnect,
        ),
    ];
    for (service, key, error) in cases {
        assert_eq!(try_to(&mut desk, service, key), Err(error), "{key:?}");
    }
    assert_eq!(try_to(&mut desk, 0, good), Ok(()));
    assert_eq!(try_to(&mut desk, 0, good), Err(ConnectError::PortTaken));
    for port in 1..16 {
        assert_eq!(try_to(&mut desk, 0, FlowKey { remote_port: port, ..good }), Ok(()));
    }
    let one_more = FlowKey { remote_port: 99, ..good };
    assert_eq!(try_to(&mut desk, 0, one_more), Err(ConnectError::TableFull));
    desk.stack.set_mode(desk.now, 0, Mode::Off);
    assert_eq!(try_to(&mut desk, 0, one_more), Err(ConnectError::NotServing));
}

/// Connections that we open do not fill the backlog: SYNs of others still open flows, not cookies.
#[test]
fn connects_do_not_count_as_a_flood() {
    let mut desk = Desk::new(Family::V4, AppConfig::Echo);
    let good = desk.key();
    for port in 1..10 {
        let key = FlowKey { remote_port: port, ..good };
        let opened = desk.stack.connect(desk.now, 0, key, CLIENT_MAC, &mut Unmirrored);
        assert!(opened.is_ok());
    }
    desk.poll();
    desk.open(PLAIN);
    assert_eq!(desk.stack.counters().cookies_sent, 0);
    assert_eq!(desk.state(), Some(State::Established));
}

/// RFC 6298 5.7, RFC 6928 2: a SYN that had to be repeated leaves one segment to begin with.
#[test]
fn a_lost_syn_makes_for_a_careful_start() {
    for (is_lost, segments) in [(false, 9), (true, 1)] {
        let (mut desk, _) = opening(Family::V4, generate(9_000, true));
        if is_lost {
            assert_eq!(desk.wait_ms(1_100).len(), 1);
        }
        let heard = desk.answer_syn(PLAIN, SYN_ACK, &[]);
        let full = heard.iter().filter(|segment| segment.payload.len() == 1_000).count();
        assert_eq!(full, segments);
    }
}
