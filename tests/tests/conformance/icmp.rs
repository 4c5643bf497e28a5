//! ICMP errors and the path MTU: RFC 9293 3.9.2.2, RFC 1191, 8201, 5461, 5927.

use super::desk::{BOTH, Desk, Family, Heard, Offer, PLAIN, Say, Setup, frame, generate};
use super::desk::{packet, payload, sum};
use stack::app::AppConfig;
use stack::drop::Drop;
use stack::limits::{PATH_CHANGES_MAX, PATH_MTU_AGE_SECS, PATH_MTU_LEAST};
use stack::seq::Seq;
use stack::time::Duration;
use stack::wire::{Address, Flags};

/// Type and code of "does not fit".
fn too_big(family: Family) -> (u8, u8) {
    match family {
        Family::V4 => (3, 4),
        Family::V6 => (2, 0),
    }
}

/// Bytes of an IP and a TCP header.
fn headers(family: Family) -> usize {
    if family == Family::V4 { 40 } else { 60 }
}

/// What a router says of a packet of the server with SEG.SEQ `seq` and `payload` bytes of payload.
#[derive(Clone)]
struct Report {
    kind: u8,
    code: u8,
    mtu: u32,
    seq: Seq,
    payload: usize,
    quote_bytes: usize,
}

impl Report {
    fn new((kind, code): (u8, u8), seq: Seq) -> Report {
        Report { kind, code, mtu: 0, seq, payload: 1000, quote_bytes: 28 }
    }

    fn too_big(family: Family, seq: Seq, mtu: u32) -> Report {
        let quote_bytes = headers(family) - 12;
        Report { mtu, quote_bytes, ..Report::new(too_big(family), seq) }
    }

    /// The frame, with the quoted packet spoilt by `spoil`.
    fn frame(&self, desk: &Desk, spoil: impl Fn(&mut [u8])) -> Vec<u8> {
        let family = desk.family;
        let (client, server) = (family.address(1, 1), family.address(0, 100));
        let say = Say {
            source: server,
            destination: client,
            seq: self.seq,
            ..desk.segment(Flags::ACK, &vec![0; self.payload])
        };
        let mut offending = frame(&say)[14..].to_vec();
        let tcp = headers(family) - 20;
        offending[tcp..tcp + 2].copy_from_slice(&super::desk::PORT.to_be_bytes());
        offending[tcp + 2..tcp + 4].copy_from_slice(&desk.port.to_be_bytes());
        spoil(&mut offending);
        let mut body = vec![self.kind, self.code, 0, 0];
        body.extend(self.mtu.to_be_bytes());
        body.extend(&offending[..self.quote_bytes.max(tcp + 8).min(offending.len())]);
        message(family, &family.address(1, 9), &server, body)
    }

    fn put(&self, desk: &mut Desk) -> Vec<Heard> {
        let frame = self.frame(desk, |_| {});
        desk.put_frame(&frame);
        desk.poll()
    }
}

/// An ICMP message with its checksum.
pub fn message(family: Family, from: &Address, to: &Address, mut body: Vec<u8>) -> Vec<u8> {
    let (protocol, start) = match family {
        Family::V4 => (1, 0),
        Family::V6 => {
            let sums = [sum(&from.0, 0), sum(&to.0, 0)];
            (58, sums.into_iter().map(u32::from).sum::<u32>() + 58 + body.len() as u32)
        }
    };
    let checksum = !sum(&body, start);
    body[2..4].copy_from_slice(&checksum.to_be_bytes());
    packet(from, to, protocol, &body)
}

/// A download of `len` bytes whose first segments are on their way; answers SND.UNA.
fn downloading(family: Family, len: u64, offer: Offer) -> (Desk, Seq) {
    let mut desk = Desk::with(Setup::new(family, generate(len, true)));
    desk.syn(offer);
    let una = desk.rcv_nxt;
    desk.say(Flags::ACK, &[]);
    (desk, una)
}

fn sizes(heard: &[Heard]) -> Vec<usize> {
    heard.iter().map(|heard| heard.payload.len()).collect()
}

const FULL: Offer = Offer { mss: Some(1440), ..PLAIN };

/// RFC 9293 MUST-54, MUST-56, SHLD-26, RFC 5461: no ICMP error ends a connection; those about what is in
/// flight are counted by kind.
#[test]
fn must_56_icmp_ends_nothing() {
    for (family, kinds) in [
        (
            Family::V4,
            &[(3u8, 0u8), (3, 1), (3, 2), (3, 3), (3, 5), (3, 13), (11, 0), (11, 1), (12, 0)][..],
        ),
        (Family::V6, &[(1, 0), (1, 1), (1, 3), (1, 4), (3, 0), (4, 0), (4, 1)]),
    ] {
        let (mut desk, una) = downloading(family, 100_000, PLAIN);
        for kind in kinds {
            let report = Report { quote_bytes: 1000, ..Report::new(*kind, una) };
            assert!(report.put(&mut desk).is_empty());
        }
        let icmp = desk.stack.counters().icmp;
        let counted: u64 = icmp.iter().map(|(_, count)| count).sum();
        assert_eq!((counted, icmp.too_big), (kinds.len() as u64, 0), "{family:?}");
        assert!(icmp.unreachable > 0 && icmp.time_exceeded > 0 && icmp.parameter_problem > 0);
        assert_eq!(desk.stack.counters().drops.total(), 0);
        assert!(!desk.acknowledge(una + 1000).is_empty(), "goes on");
    }
}

/// RFC 9293 MUST-55, RFC 6633: source quench is dropped in silence.
#[test]
fn must_55_source_quench_is_dropped() {
    let (mut desk, una) = downloading(Family::V4, 100_000, PLAIN);
    let cwnd = desk.flow().expect("open").sender.cwnd(&desk.stack.env.senders);
    assert!(Report::new((4, 0), una).put(&mut desk).is_empty());
    assert_eq!(desk.drops(Drop::Unasked), 1);
    assert_eq!(desk.flow().expect("open").sender.cwnd(&desk.stack.env.senders), cwnd);
}

/// RFC 1191 6, RFC 8201 5.2: what the path does not take goes again at once, no segment is larger afterwards, and
/// the stream is whole.
#[test]
fn rfc1191_the_path_mtu_shrinks_segments() {
    for family in BOTH {
        for timestamps in [None, Some(7)] {
            let (mut desk, una) = downloading(family, 20_000, Offer { timestamps, ..FULL });
            let mtu = 1300 + headers(family) - 40;
            // The client has not got any of it.
            (desk.rcv_nxt, desk.received) = (una, Vec::new());
            let report = Report { payload: 1428, ..Report::too_big(family, una, mtu as u32) };
            let mut heard = report.put(&mut desk);
            let most = mtu - headers(family) - if timestamps.is_some() { 12 } else { 0 };
            assert_eq!((heard[0].seq, heard[0].payload.len()), (una, most), "at once");
            while desk.received.len() < 20_000 {
                let answer = desk.acknowledge(desk.rcv_nxt);
                heard.extend(if answer.is_empty() { desk.wait_ms(1000) } else { answer });
            }
            assert!(sizes(&heard).into_iter().all(|bytes| bytes <= most), "{:?}", sizes(&heard));
            assert_eq!(desk.stack.counters().icmp.too_big, 1);
            let mut expected = vec![0; 20_000];
            stack::generate::fill(3, 0, &mut expected);
            assert!(desk.received == expected, "the stream is whole");
        }
    }
}

/// RFC 1191 5, 7: a router that does not name a size gets the next plateau below what was dropped.
#[test]
fn rfc1191_without_a_size_the_next_plateau() {
    let (mut desk, una) = downloading(Family::V4, 20_000, FULL);
    let mut seen = Vec::new();
    for payload in [1440, 966] {
        let report = Report { payload, ..Report::too_big(Family::V4, una, 0) };
        seen.push(report.put(&mut desk)[0].payload.len());
    }
    assert_eq!(seen, [1006 - 40, PATH_MTU_LEAST as usize - 40]);
}

/// RFC 5927 4.1, 7.2, RFC 8201 4: an error is believed only about what is in flight, if it names less than what
/// was dropped and no less than a path must take.
#[test]
fn rfc5927_forged_errors_are_refused() {
    for family in BOTH {
        let (mut desk, una) = downloading(family, 100_000, FULL);
        let next = desk.flow().expect("open").local.snd_nxt;
        let good = Report { payload: 1440, ..Report::too_big(family, una, 1400) };
        let strays = [una - 1, next, next + 5000, una + 0x8000_0000];
        for seq in strays {
            assert!(Report { seq, ..good.clone() }.put(&mut desk).is_empty());
        }
        assert_eq!(desk.drops(Drop::IcmpStray), strays.len() as u64);
        let refused = match family {
            Family::V4 => [1480, 1500, 65_535],
            Family::V6 => [1500, 1279, 0],
        };
        for mtu in refused {
            assert!(Report { mtu, ..good.clone() }.put(&mut desk).is_empty(), "{mtu}");
        }
        let small = Report { payload: 100, ..good.clone() };
        assert!(small.put(&mut desk).is_empty(), "a packet that was smaller than that");
        assert_eq!(desk.drops(Drop::IcmpRefused), refused.len() as u64 + 1);
        let tcp = headers(family) - 20;
        let spoilers: [fn(usize, &mut [u8]); 3] = [
            |_, quoted| quoted[0] ^= 0x30,
            |tcp, quoted| quoted[if tcp == 20 { 9 } else { 6 }] = 17,
            |tcp, quoted| quoted[tcp - 17..][..17].fill(9),
        ];
        for (n, spoil) in spoilers.iter().enumerate() {
            let frame = good.frame(&desk, |quoted| spoil(tcp, quoted));
            desk.put_frame(&frame);
            assert!(desk.poll().is_empty(), "spoiler {n}");
        }
        let ports = good.frame(&desk, |quoted| quoted[tcp + 3] ^= 1);
        desk.put_frame(&ports);
        assert_eq!(desk.drops(Drop::IcmpStray), strays.len() as u64 + 1, "nobody's ports");
        assert_eq!(desk.drops(Drop::BadQuote), 3);
        let mut broken = good.frame(&desk, |_| {});
        *broken.last_mut().expect("not empty") ^= 1;
        desk.put_frame(&broken);
        assert_eq!(desk.drops(Drop::BadIp), 1, "checksum");
        assert_eq!(desk.flow().expect("open").local.path_mss, 0);
        assert!(!good.put(&mut desk).is_empty(), "and the honest one");
    }
}

/// An error cut anywhere is a named drop and changes nothing.
#[test]
fn a_cut_error_changes_nothing() {
    for family in BOTH {
        let (mut desk, una) = downloading(family, 100_000, FULL);
        let (from, to) = (family.address(1, 9), family.address(0, 100));
        let whole = Report::too_big(family, una, 1400).frame(&desk, |_| {});
        let body = whole[14 + headers(family) - 20..].to_vec();
        for len in 4..body.len() {
            desk.put_frame(&message(family, &from, &to, body[..len].to_vec()));
            assert!(desk.poll().is_empty());
        }
        assert_eq!(desk.stack.counters().drops.total(), body.len() as u64 - 4);
        assert_eq!(desk.flow().expect("open").local.path_mss, 0);
    }
}

/// RFC 5927: whoever can forge may make a flow slow but not slower than the floor, and not busy.
#[test]
fn a_flood_of_errors_is_bounded() {
    let (mut desk, una) = downloading(Family::V4, 100_000, FULL);
    let mut resent = 0;
    for n in 0..200 {
        let report = Report { payload: 1440, ..Report::too_big(Family::V4, una, 1470 - n) };
        resent += report.put(&mut desk).len();
    }
    assert_eq!(desk.stack.counters().icmp.too_big, u64::from(PATH_CHANGES_MAX));
    assert!(resent < 20 * usize::from(PATH_CHANGES_MAX), "{resent}");
    let (mut desk, una) = downloading(Family::V4, 100_000, FULL);
    let report = Report { payload: 1440, ..Report::too_big(Family::V4, una, 68) };
    assert_eq!(report.put(&mut desk)[0].payload.len(), PATH_MTU_LEAST as usize - 40);
}

/// RFC 1191 6.3, RFC 8201 4: after ten minutes, and not before five, the whole is tried again.
#[test]
fn rfc1191_the_path_mtu_ages() {
    let mut desk = Desk::connected(Setup::new(Family::V4, AppConfig::Echo), FULL);
    let una = desk.rcv_nxt;
    let say = Say { ack: una, ..desk.segment(Flags::ACK, &[1; 1440]) };
    desk.snd_nxt += 1440;
    assert_eq!(sizes(&desk.hear(say)), [1440]);
    let report = Report { payload: 1440, ..Report::too_big(Family::V4, una, 1000) };
    assert_eq!(sizes(&report.put(&mut desk)), [960, 480]);
    desk.acknowledge(una + 1440);
    desk.rcv_nxt = una + 1440;
    for (wait, expected) in [(300, &[960, 480][..]), (u64::from(PATH_MTU_AGE_SECS), &[1440])] {
        desk.wait(Duration::from_secs(wait));
        let answer = desk.say(Flags::ACK, &[2; 1440]);
        let data: Vec<usize> = sizes(&answer).into_iter().filter(|&bytes| bytes > 0).collect();
        assert_eq!(data, expected, "after {wait} s");
        desk.say(Flags::ACK, &[]);
    }
}

/// RFC 5461 4: an error about a SYN-ACK ends nothing either.
#[test]
fn an_error_about_a_syn_ack_ends_nothing() {
    for family in BOTH {
        let mut desk = Desk::new(family, AppConfig::Echo);
        let iss = desk.syn(PLAIN)[0].seq;
        let kind = if family == Family::V4 { (3, 1) } else { (1, 0) };
        assert!(Report { payload: 0, ..Report::new(kind, iss) }.put(&mut desk).is_empty());
        assert_eq!(desk.stack.counters().icmp.unreachable, 1);
        desk.say(Flags::ACK, &[]);
        assert_eq!(payload(&desk.say(Flags::ACK, b"alive")), b"alive");
    }
}
