//! Options: RFC 9293 3.1, 3.2, 3.7.1, RFC 7323 2, RFC 6691.

use super::desk::{BOTH, Desk, Family, Offer, PLAIN, Say, Setup, generate, payload, timestamps};
use stack::app::AppConfig;
use stack::drop::Drop;
use stack::wire::Flags;

/// The largest payload that a client with this offer gets.
fn largest(family: Family, our_mss: u16, offer: Offer) -> usize {
    let setup = Setup { mss: our_mss, ..Setup::new(family, generate(9000, true)) };
    let mut desk = Desk::with(setup);
    desk.syn(offer);
    let mut answer = desk.say(Flags::ACK, &[]);
    for _ in 0..30 {
        answer.extend(desk.acknowledge(desk.rcv_nxt));
    }
    assert_eq!(desk.received.len(), 9000);
    answer.iter().map(|heard| heard.payload.len()).max().expect("data")
}

/// RFC 9293 MUST-15: without the option a segment carries 536 bytes at most, or 1220 over IPv6.
#[test]
fn must_15_the_default_mss() {
    let offer = Offer { mss: None, ..PLAIN };
    assert_eq!(largest(Family::V4, 1440, offer), 536);
    assert_eq!(largest(Family::V6, 1440, offer), 1220);
}

/// RFC 9293 MUST-14, MUST-16, RFC 6691: the smaller MSS counts, less the options of the segment;
/// SHLD-28: segments are as large as may be.
#[test]
fn must_16_the_effective_mss() {
    let stamped = Offer { timestamps: Some(1), ..PLAIN };
    for family in BOTH {
        assert_eq!(largest(family, 1440, PLAIN), 1000);
        assert_eq!(largest(family, 1440, Offer { mss: Some(9000), ..PLAIN }), 1440);
        assert_eq!(largest(family, 1440, stamped), 1000 - 12);
        assert_eq!(largest(family, 900, stamped), 900 - 12);
    }
}

/// An MSS of nothing would mean segments of nothing: there is a floor, under which no TCP can
/// offer.
#[test]
fn an_mss_of_zero_does_not_stop_us() {
    assert_eq!(largest(Family::V4, 1440, Offer { mss: Some(0), ..PLAIN }), 64);
}

/// RFC 9293 MUST-65: MSS, window scale and SACK-permitted are in no segment without SYN.
#[test]
fn must_65_options_of_a_syn_stay_there() {
    let offer = Offer { mss: Some(1000), scale: Some(2), sack: true, timestamps: Some(9) };
    let mut desk = Desk::with(Setup::new(Family::V4, generate(5000, false)));
    desk.syn(offer);
    let mut answer = desk.say(Flags::ACK, &[]);
    answer.extend(desk.wait_ms(1000));
    assert!(answer.len() >= 5);
    for heard in &answer {
        assert_eq!((heard.mss, heard.scale, heard.sack_permitted), (None, None, false));
    }
}

/// RFC 9293 MUST-4, MUST-6, MUST-64: EOL, NOP, MSS and unknown options, at any alignment, with
/// anything behind EOL.
#[test]
fn must_6_unknown_options_are_skipped() {
    for options in [
        vec![1, 1, 1, 2, 4, 3, 232],
        vec![254, 4, 9, 9, 2, 4, 3, 232],
        vec![99, 2, 1, 2, 4, 3, 232, 0],
        vec![77, 3, 1, 2, 4, 3, 232, 0, 2, 0, 0xff, 0xff],
        vec![34, 2, 2, 4, 3, 232, 0, 7],
    ] {
        let setup = Setup::new(Family::V4, generate(3000, true));
        let mut desk = Desk::with(setup);
        let say = Say { options: options.clone(), ..desk.segment(Flags::SYN, &[]) };
        desk.snd_nxt += 1;
        assert_eq!(desk.hear(say).len(), 1, "{options:?}");
        let answer = desk.say(Flags::ACK, &[]);
        assert_eq!(answer[0].payload.len(), 1000, "{options:?}");
    }
}

/// RFC 9293 MUST-5: options come in any segment; those of a SYN mean nothing elsewhere.
#[test]
fn must_5_options_in_any_segment() {
    let mut desk = Desk::connected(Setup::new(Family::V6, AppConfig::Echo), PLAIN);
    for options in [vec![1], vec![253, 4, 1, 1], vec![2, 4, 0, 64], vec![3, 3, 9], vec![0]] {
        let say = Say { options, ..desk.segment(Flags::ACK, &[3; 100]) };
        desk.snd_nxt += 100;
        assert_eq!(payload(&desk.hear(say)).len(), 100);
    }
}

/// RFC 9293 MUST-7: a length that cannot be costs the segment, is counted, and harms nothing else.
#[test]
fn must_7_illegal_lengths_are_survived() {
    let mut desk = Desk::connected(Setup::new(Family::V4, AppConfig::Echo), PLAIN);
    let broken: [&[u8]; 7] = [
        &[2, 0, 1, 1],
        &[2, 1, 1, 1],
        &[2, 3, 1, 1],
        &[99, 0, 1, 1],
        &[99, 1, 1, 1],
        &[1, 1, 99, 40],
        &[1, 1, 1, 2],
    ];
    for options in broken {
        let say = Say { options: options.to_vec(), ..desk.segment(Flags::ACK, b"x") };
        assert!(desk.hear(say).is_empty(), "{options:?}");
    }
    assert_eq!(desk.drops(Drop::BadTcp), broken.len() as u64);
    assert_eq!(payload(&desk.say(Flags::ACK, b"x")), b"x");
}

/// RFC 7323 2.3: a shift above 14 counts as 14. 2.2: the window of a SYN is not scaled, all others
/// are. RFC 9293 MUST-1, REC-1: windows are unsigned, with 32 bits.
#[test]
fn must_1_windows_are_large_and_unsigned() {
    for (offered, shift) in [(0, 0), (7, 7), (14, 14), (15, 14), (200, 14)] {
        let setup = Setup::new(Family::V4, AppConfig::Echo);
        let mut desk = Desk::with(setup);
        desk.window = 0xfffe;
        desk.syn(Offer { scale: Some(offered), ..PLAIN });
        assert_eq!(desk.flow().expect("opening").local.snd_wnd, 0xfffe);
        desk.say(Flags::ACK, &[]);
        assert_eq!(desk.flow().expect("open").local.snd_wnd, 0xfffe << shift);
    }
}

/// RFC 7323 2.2, 2.3: our own window is scaled as the SYN-ACK says, and not in the SYN-ACK itself.
#[test]
fn our_window_is_scaled_as_announced() {
    for (buffer, shift) in [(16 << 10, 0), (1 << 20, 5), (3 << 20, 6)] {
        let setup = Setup { receive_buffer: buffer, ..Setup::new(Family::V4, AppConfig::Discard) };
        let mut desk = Desk::with(setup);
        let answer = desk.syn(Offer { scale: Some(3), ..PLAIN }).remove(0);
        assert_eq!((answer.scale, u32::from(answer.window)), (Some(shift), buffer.min(0xffff)));
        desk.say(Flags::ACK, &[]);
        let answer = desk.say_at(desk.snd_nxt + 5, Flags::ACK, b"x").remove(0);
        let window = u32::from(answer.window) << shift;
        assert!(window <= buffer && window > buffer - (1 << shift), "{window} of {buffer}");
    }
}

/// RFC 9293 MUST-7 and RFC 7323: a SYN whose timestamps are cut off opens nothing and costs
/// nothing.
#[test]
fn a_broken_syn_opens_nothing() {
    let mut desk = Desk::new(Family::V4, AppConfig::Echo);
    let options = timestamps(1, 0)[..8].to_vec();
    let say = Say { options, ..desk.segment(Flags::SYN, &[]) };
    assert!(desk.hear(say).is_empty());
    assert_eq!(desk.stack.slots().count(), 0);
}
