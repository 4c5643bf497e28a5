//! Headers, checksums, addresses, ICMP: RFC 9293 3.1, 3.9.2, RFC 1122 3.2.

use super::desk::{BOTH, Desk, Family, PLAIN, Say, Setup, frame, payload, sum};
use stack::app::AppConfig;
use stack::drop::Drop;
use stack::wire::{Address, Flags};

fn echo(family: Family) -> Desk {
    Desk::connected(Setup::new(family, AppConfig::Echo), PLAIN)
}

/// RFC 9293 MUST-2, MUST-3: a wrong checksum costs the segment; ours are right (every test looks).
#[test]
fn must_3_a_wrong_checksum_is_dropped() {
    for family in BOTH {
        let mut desk = echo(family);
        let good = frame(&desk.segment(Flags::ACK, b"hello"));
        for at in [good.len() - 1, good.len() - 9, 30] {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            desk.put_frame(&bad);
            assert!(desk.poll().is_empty());
        }
        assert_eq!(desk.flow().expect("open").contract.received, 0);
        desk.put_frame(&good);
        assert_eq!(payload(&desk.poll()), b"hello");
    }
}

/// RFC 9293 3.1: a data offset that is too small or too large costs the segment.
#[test]
fn a_wrong_data_offset_is_dropped() {
    let mut desk = echo(Family::V4);
    for offset in [0u8, 4, 15] {
        let mut bytes = frame(&desk.segment(Flags::ACK, b"hello"));
        let before = u16::from_be_bytes([bytes[46], bytes[47]]);
        bytes[46] = offset << 4;
        let old = u16::from_be_bytes([bytes[50], bytes[51]]);
        let after = u16::from_be_bytes([bytes[46], bytes[47]]);
        // RFC 1624: the checksum follows the changed word.
        let words = [!old, !before, after].map(|word| word.to_be_bytes()).concat();
        bytes[50..52].copy_from_slice(&(!sum(&words, 0)).to_be_bytes());
        desk.put_frame(&bytes);
        assert!(desk.poll().is_empty(), "offset {offset}");
    }
    assert_eq!(desk.drops(Drop::BadTcp), 3);
}

/// RFC 9293 MUST-63, MUST-57: a SYN from nobody in particular, or to a group, is dropped
/// in silence.
#[test]
fn must_63_martians_are_dropped() {
    let v4 = [[0, 0, 0, 0], [127, 0, 0, 1], [224, 0, 0, 1], [255, 255, 255, 255]].map(Address::v4);
    let mut desk = Desk::new(Family::V4, AppConfig::Echo);
    for source in v4 {
        let say = Say { source, ..desk.segment(Flags::SYN, &[]) };
        assert!(desk.hear(say).is_empty(), "from {source}");
    }
    assert_eq!(desk.drops(Drop::Martian), 4);
    let said = [Flags::SYN, Flags::ACK, Flags::FIN.with(Flags::ACK), Flags::RST];
    for destination in [[224, 0, 0, 1], [255, 255, 255, 255], [10, 0, 0, 255]].map(Address::v4) {
        for flags in said {
            let say = Say { destination, ..desk.segment(flags, &[]) };
            assert!(desk.hear(say).is_empty(), "{flags:?} to {destination}");
        }
    }
    let mut desk = Desk::new(Family::V6, AppConfig::Echo);
    let group = Address([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    let mut loopback = Address([0; 16]);
    loopback.0[15] = 1;
    for source in [group, loopback, Address([0; 16])] {
        let say = Say { source, ..desk.segment(Flags::SYN, &[]) };
        assert!(desk.hear(say).is_empty(), "from {source}");
    }
    for flags in said {
        let say = Say { destination: group, ..desk.segment(flags, &[]) };
        assert!(desk.hear(say).is_empty(), "{flags:?}");
    }
    assert_eq!(desk.stack.slots().count(), 0);
}

/// RFC 1122 3.2.1.3, LAND: a segment from its own destination, or from port 0, is dropped in
/// silence.
#[test]
fn land_is_dropped() {
    for family in BOTH {
        let mut desk = Desk::new(family, AppConfig::Echo);
        let say = desk.segment(Flags::SYN, &[]);
        let land = Say { source: say.destination, source_port: super::desk::PORT, ..say.clone() };
        assert!(desk.hear(land).is_empty());
        assert!(desk.hear(Say { source_port: 0, ..say }).is_empty());
        assert_eq!((desk.drops(Drop::Martian), desk.stack.slots().count()), (2, 0));
    }
}

/// RFC 1122 3.3.6: a segment that was sent to everybody on the link is for nobody.
#[test]
fn a_segment_to_everybody_is_dropped() {
    for family in BOTH {
        let mut desk = Desk::new(family, AppConfig::Echo);
        let mut shouted = frame(&desk.segment(Flags::SYN, &[]));
        shouted[..6].fill(0xff);
        desk.put_frame(&shouted);
        assert!(desk.poll().is_empty());
        assert_eq!((desk.drops(Drop::AlienMac), desk.stack.slots().count()), (1, 0));
    }
}

/// RFC 9293 MUST-49: the TTL or hop limit of everything that is sent is the service's.
#[test]
fn must_49_the_hop_limit_is_configured() {
    for family in BOTH {
        for hop_limit in [64, 255, 3] {
            let setup = Setup { hop_limit, ..Setup::new(family, AppConfig::Echo) };
            let mut desk = Desk::with(setup);
            let stray = desk.say_at(desk.snd_nxt - 9, Flags::ACK, &[]);
            assert!(stray[0].flags.has(Flags::RST));
            let answers = [stray, desk.syn(PLAIN), desk.say(Flags::ACK, b"hello")].concat();
            assert_eq!(answers.len(), 3);
            assert!(answers.iter().all(|heard| heard.hop_limit == hop_limit), "{answers:?}");
        }
    }
}

/// RFC 9293 3.8.5: urgent data is delivered in band, in its place.
#[test]
fn urgent_data_is_delivered_in_band() {
    let mut desk = echo(Family::V4);
    let urgent = Flags(Flags::ACK.0 | 0x20);
    let say = Say { urgent: 3, ..desk.segment(urgent, b"urgent") };
    let answer = desk.hear(say);
    assert_eq!(payload(&answer), b"urgent");
    assert!(!answer[0].flags.has(Flags(0x20)));
}

/// RFC 9293 3.1: reserved bits and flags that we do not speak (ECN) are ignored and never sent.
#[test]
fn unknown_flags_are_ignored() {
    let mut desk = Desk::new(Family::V4, AppConfig::Echo);
    let ecn = Flags(0xc0);
    let answer = desk.say(Flags::SYN.with(ecn), &[]);
    assert_eq!(answer[0].flags, Flags::SYN.with(Flags::ACK));
    let answer = desk.say(Flags::ACK.with(ecn), b"hello");
    assert_eq!(payload(&answer), b"hello");
    assert_eq!(answer[0].flags.0 & 0xc0, 0);
}

/// RFC 791: what a fragment or a packet with options says is not believed; each is dropped under
/// its name.
#[test]
fn fragments_and_ip_options_are_dropped_by_name() {
    let mut desk = echo(Family::V4);
    let mut fragment = frame(&desk.segment(Flags::ACK, b"hello"));
    fragment[20] = 0x20;
    fragment[24..26].fill(0);
    let checksum = !sum(&fragment[14..34], 0);
    fragment[24..26].copy_from_slice(&checksum.to_be_bytes());
    desk.put_frame(&fragment);
    assert!(desk.poll().is_empty());
    assert_eq!(desk.drops(Drop::Fragment), 1);
}
