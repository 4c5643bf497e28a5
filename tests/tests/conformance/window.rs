//! Windows, probes, silly windows, delayed acknowledgements: RFC 9293 3.8.6.

use super::desk::{BOTH, Desk, Family, Offer, PLAIN, Say, Setup, generate, payload};
use stack::app::AppConfig;
use stack::drop::Drop;
use stack::seq::Seq;
use stack::tcp::state::State;
use stack::wire::Flags;

/// A desk whose client has closed its window after the first segments; answers SND.UNA.
fn stalled(family: Family) -> (Desk, Seq) {
    let mut desk = Desk::with(Setup::new(family, generate(50_000, true)));
    desk.window = 2000;
    desk.syn(PLAIN);
    let answer = desk.say(Flags::ACK, &[]);
    assert_eq!(payload(&answer).len(), 2000);
    desk.window = 0;
    assert!(desk.say(Flags::ACK, &[]).is_empty());
    let una = desk.rcv_nxt;
    (desk, una)
}

/// RFC 9293 MUST-35, MUST-36, SHLD-29, SHLD-30: a closed window is probed, first after about a
/// time-out, then in growing pauses; MUST-37: for as long as the client answers.
#[test]
fn must_36_a_closed_window_is_probed() {
    for family in BOTH {
        let (mut desk, una) = stalled(family);
        let begun = desk.now;
        let mut times = Vec::new();
        for _ in 0..6000 {
            for probe in desk.wait_ms(100) {
                assert!(probe.seq.before_eq(una) && probe.payload.len() <= 1);
                times.push(probe.at.since(begun).millis());
                desk.say(Flags::ACK, &[]);
            }
        }
        assert!((150..=1100).contains(&times[0]), "{times:?}");
        assert!(times.windows(3).take(5).all(|w| w[2] - w[1] > w[1] - w[0]), "{times:?}");
        assert!(times.windows(2).all(|w| w[1] - w[0] <= 61_000), "{times:?}");
        assert_eq!(desk.state(), Some(State::Established), "for ten minutes");
        desk.window = 3000;
        assert_eq!(payload(&desk.say(Flags::ACK, &[])).len(), 3000);
    }
}

/// RFC 9293 MUST-20: a client that does not answer the probes is given up in the end, as one that
/// does not answer data.
#[test]
fn must_20_a_silent_closed_window_is_given_up() {
    let (mut desk, _) = stalled(Family::V4);
    let answer = desk.wait_ms(1_200_000);
    assert!(answer.last().expect("probed").flags.has(Flags::RST), "{:?}", answer.last());
    assert_eq!(desk.state(), None);
}

/// RFC 9293 MUST-34, SHLD-15, SHLD-16, SHLD-17: when the client takes window back, nothing new goes
/// out, what is in flight is repeated, and the connection goes on when the window opens.
#[test]
fn must_34_a_shrinking_window_is_survived() {
    let mut desk = Desk::with(Setup::new(Family::V4, generate(50_000, true)));
    desk.window = 8000;
    desk.syn(PLAIN);
    let first = desk.say(Flags::ACK, &[]);
    assert_eq!(payload(&first).len(), 8000);
    let (una, end) = (first[0].seq, desk.rcv_nxt);
    let say = Say { ack: una + 1000, window: 1000, ..desk.segment(Flags::ACK, &[]) };
    let mut answer = desk.hear(say);
    answer.extend(desk.wait_ms(5_000));
    assert!(!answer.is_empty(), "the old is repeated");
    assert!(answer.iter().all(|h| (h.seq + h.payload.len() as u32).before_eq(end)), "nothing new");
    assert_eq!(desk.state(), Some(State::Established));
    desk.window = 8000;
    let mut answer = desk.say(Flags::ACK, &[]);
    answer.extend(desk.wait_ms(1_000));
    assert!(answer.iter().any(|heard| heard.seq.after_eq(end)));
}

/// RFC 9293 SHLD-14: our right edge never moves left, whatever arrives.
#[test]
fn shld_14_our_window_does_not_shrink() {
    let mut desk = Desk::connected(Setup::new(Family::V4, AppConfig::Echo), PLAIN);
    let (una, mut edge) = (desk.rcv_nxt, Seq(0));
    for round in 0..60u32 {
        let say = Say { ack: una, ..desk.segment(Flags::ACK, &[1; 301]) };
        let ack = if round > 30 { desk.rcv_nxt } else { una };
        let mut answer = desk.hear(Say { ack, ..say });
        answer.extend(desk.wait_ms(3));
        for heard in &answer {
            let right = heard.ack + u32::from(heard.window);
            assert!(edge == Seq(0) || right.after_eq(edge), "{edge:?}, then {right:?}");
            edge = right;
        }
        desk.snd_nxt = desk.flow().expect("open").contract.rcv_nxt;
    }
}

/// RFC 9293 3.10.7.4: a FIN behind the last byte that the window takes is taken, and beyond it there is no window left, so
/// whatever else comes is outside: neither kept, nor an in-window RST to be challenged.
#[test]
fn a_fin_at_the_edge_leaves_no_window() {
    let mut desk = Desk::connected(Setup::new(Family::V4, AppConfig::Echo), PLAIN);
    let una = desk.rcv_nxt;
    let left = |desk: &Desk| desk.flow().expect("open").contract.rcv_edge.since(desk.snd_nxt);
    // Nothing of the echo is acknowledged, so our window closes.
    while left(&desk) > 1024 {
        let say = Say { ack: una, ..desk.segment(Flags::ACK, &[5; 1024]) };
        desk.snd_nxt += 1024;
        desk.hear(say);
    }
    let last = left(&desk);
    let fin =
        Say { ack: una, ..desk.segment(Flags::ACK.with(Flags::FIN), &[5; 1024][..last as usize]) };
    desk.snd_nxt += last + 1;
    let mut heard = desk.hear(fin);
    heard.extend(desk.wait_ms(50));
    assert_eq!(desk.state(), Some(State::LastAck), "the echo has closed, too");
    let acknowledged = heard.iter().filter(|heard| heard.ack == desk.snd_nxt);
    assert!(
        acknowledged.clone().count() > 0 && acknowledged.clone().all(|heard| heard.window == 0)
    );
    for ahead in [1, 50_000, 1 << 30] {
        let before = desk.drops(Drop::OutOfWindow);
        let seq = desk.snd_nxt + ahead;
        desk.hear(Say { seq, ack: una, ..desk.segment(Flags::ACK, b"beyond") });
        assert_eq!(desk.drops(Drop::OutOfWindow), before + 1, "{ahead} beyond");
    }
    desk.hear(Say { seq: desk.snd_nxt + 50_000, ..desk.segment(Flags::RST, &[]) });
    assert_eq!(desk.state(), Some(State::LastAck));
}

/// RFC 9293 MUST-38: a window that opens by a little is not filled with little segments, until
/// waiting has been in vain.
#[test]
fn must_38_no_silly_segments() {
    let (mut desk, una) = stalled(Family::V4);
    for window in [1, 10, 100, 500] {
        desk.window = window;
        assert!(desk.acknowledge(una).is_empty(), "{window} bytes are not worth a segment");
    }
    let answer = desk.wait_ms(1_500);
    assert!(answer.iter().any(|heard| heard.payload.len() == 500), "but in the end they are");
    let (mut desk, una) = stalled(Family::V4);
    desk.window = 1000;
    assert_eq!(payload(&desk.acknowledge(una)).len(), 1000, "a full segment goes at once");
}

/// RFC 9293 MUST-39: our closed window opens in steps that are worth a segment.
#[test]
fn must_39_our_window_opens_in_worthy_steps() {
    let mut desk = Desk::connected(Setup::new(Family::V4, AppConfig::Echo), PLAIN);
    let una = desk.rcv_nxt;
    while desk.snd_nxt != desk.flow().expect("open").contract.rcv_edge {
        let say = Say { ack: una, ..desk.segment(Flags::ACK, &[5; 1024]) };
        desk.snd_nxt += 1024;
        desk.hear(say);
    }
    desk.wait_ms(100);
    let mut edge = desk.snd_nxt;
    let mut opened = 0;
    for n in 1..=160 {
        for heard in desk.acknowledge(una + 100 * n) {
            let right = heard.ack + u32::from(heard.window);
            let step = right.since(edge);
            assert!(step == 0 || step >= 1000, "a step of {step}");
            opened += (step > 0) as u32;
            edge = right;
        }
    }
    assert!(opened > 0);
}

/// RFC 9293 SHLD-18, MUST-40: a single segment is acknowledged after a while, and within half a
/// second; SHLD-19: the second full one at once, or soon.
#[test]
fn must_40_acknowledgements_are_delayed_a_little() {
    for family in BOTH {
        let mut desk = Desk::connected(Setup::new(family, AppConfig::Discard), PLAIN);
        assert!(desk.say(Flags::ACK, b"hello").is_empty());
        let asked = desk.now;
        let answer = desk.wait_ms(500);
        assert_eq!((answer.len(), answer[0].ack), (1, desk.snd_nxt));
        assert!(answer[0].at.since(asked).millis() >= 10);
        desk.say(Flags::ACK, &[0; 1000]);
        let mut answer = desk.say(Flags::ACK, &[0; 1000]);
        answer.extend(desk.wait_ms(3));
        assert_eq!(answer.last().map(|heard| heard.ack), Some(desk.snd_nxt));
        for _ in 0..10 {
            let before = desk.flow().expect("open").local.rcv_acked;
            desk.say(Flags::ACK, &[0; 1000]);
            desk.say(Flags::ACK, &[0; 1000]);
            assert!(desk.flow().expect("open").local.rcv_acked.after(before), "every second");
        }
    }
}

/// RFC 9293 SHLD-19 speaks of full segments: small ones are acknowledged at once when they are worth two of these, and else
/// with what answers them, or after a while.
#[test]
fn shld_19_small_segments_are_no_full_ones() {
    for family in BOTH {
        let mut desk = Desk::connected(Setup::new(family, AppConfig::Discard), PLAIN);
        let put = |desk: &mut Desk, count: u32| {
            for _ in 0..count {
                let say = desk.segment(Flags::ACK.with(Flags::PSH), &[1; 60]);
                desk.snd_nxt += 60;
                desk.put(&say);
            }
            desk.poll()
        };
        assert!(put(&mut desk, 17).is_empty(), "1020 bytes");
        let answer = put(&mut desk, 1);
        assert_eq!((answer.len(), answer[0].ack), (1, desk.snd_nxt));
        assert!(put(&mut desk, 2).is_empty());
        let answer = desk.wait_ms(500);
        assert_eq!((answer.len(), answer[0].ack), (1, desk.snd_nxt));
    }
}

/// Who writes at a pace waits for nothing of ours that would take the acknowledgement along: each step is acknowledged when it is whole.
#[test]
fn shld_19_the_end_of_a_step_is_acknowledged_at_once() {
    for family in BOTH {
        let mut desk = Desk::connected(Setup::new(family, AppConfig::Discard), PLAIN);
        desk.say(Flags::ACK, &[1; 1000]);
        let answer = desk.say(Flags::ACK.with(Flags::PSH), &[2; 30]);
        assert!(answer.is_empty(), "the first is one that may be answered");
        desk.wait_ms(50);
        for _ in 0..10 {
            assert!(desk.say(Flags::ACK, &[1; 1000]).is_empty());
            let answer = desk.say(Flags::ACK.with(Flags::PSH), &[2; 30]);
            assert_eq!((answer.len(), answer[0].ack), (1, desk.snd_nxt), "of several segments");
            assert!(desk.wait_ms(50).is_empty());
        }
        for _ in 0..10 {
            let answer = desk.say(Flags::ACK.with(Flags::PSH), &[3; 1000]);
            assert_eq!((answer.len(), answer[0].ack), (1, desk.snd_nxt), "of one");
            assert!(desk.wait_ms(50).is_empty());
        }
    }
}

/// SHLD-18, SHLD-19: a full pushed segment right behind another may be a stream's. Its acknowledgement waits for the next, but not
/// for long.
#[test]
fn shld_18_the_second_of_two_pushed_segments_is_acknowledged_soon() {
    let mut desk = Desk::connected(Setup::new(Family::V4, AppConfig::Discard), PLAIN);
    let says = |desk: &mut Desk| desk.say(Flags::ACK.with(Flags::PSH), &[1; 1000]).len();
    assert_eq!((says(&mut desk), says(&mut desk)), (0, 1), "two full ones");
    desk.wait_ms(10);
    assert_eq!((says(&mut desk), says(&mut desk)), (1, 0), "and after a pause");
    let answer = desk.wait_ms(3);
    assert_eq!((answer.len(), answer[0].ack), (1, desk.snd_nxt));
}

/// RFC 9293 MUST-58, MUST-59: segments that arrive together are all taken before one ACK answers
/// them.
#[test]
fn must_59_one_ack_for_a_burst() {
    let mut desk = Desk::connected(Setup::new(Family::V4, AppConfig::Discard), PLAIN);
    for _ in 0..8 {
        let say = desk.segment(Flags::ACK.with(Flags::PSH), &[1; 1000]);
        desk.snd_nxt += 1000;
        desk.put(&say);
    }
    let answer = desk.poll();
    assert_eq!((answer.len(), answer[0].ack), (1, desk.snd_nxt));
}

/// RFC 9293 MUST-17: nothing waits for acknowledgements to grow; Nagle's algorithm is off.
#[test]
fn must_17_small_segments_go_out_at_once() {
    let mut desk = Desk::connected(Setup::new(Family::V4, AppConfig::Echo), PLAIN);
    let una = desk.rcv_nxt;
    for n in 0..5u8 {
        let say = Say { ack: una, ..desk.segment(Flags::ACK, &[n]) };
        desk.snd_nxt += 1;
        assert_eq!(payload(&desk.hear(say)), [n]);
    }
}

/// RFC 9293 SHLD-7, 3.7.4: with Nagle's algorithm a small tail waits until everything before it is
/// acknowledged, and grows meanwhile; full segments do not wait.
#[test]
fn shld_7_small_segments_wait_where_the_service_asks() {
    for family in BOTH {
        let setup = Setup { nodelay: false, ..Setup::new(family, AppConfig::Echo) };
        let mut desk = Desk::connected(setup, PLAIN);
        let una = desk.rcv_nxt;
        let say = |desk: &mut Desk, bytes: &[u8]| {
            let say = Say { ack: una, ..desk.segment(Flags::ACK, bytes) };
            desk.snd_nxt += bytes.len() as u32;
            payload(&desk.hear(say))
        };
        assert_eq!(say(&mut desk, b"a"), b"a", "nothing was unacknowledged");
        for byte in [b"b", b"c", b"d"] {
            assert_eq!(say(&mut desk, byte), b"");
        }
        assert_eq!(payload(&desk.acknowledge(una + 1)), b"bcd");
        assert_eq!(desk.acknowledge(una + 4).len(), 0);
        assert_eq!(say(&mut desk, &[1; 300]).len(), 300);
        assert_eq!(say(&mut desk, &[2; 600]).len(), 0);
        assert_eq!(say(&mut desk, &[3; 600]).len(), 1000, "a full segment goes");
        assert_eq!(payload(&desk.acknowledge(una + 1304)), [3; 200]);
    }
}

/// RFC 9293 3.7.4: what nothing can follow does not wait: the last bytes go with the FIN.
#[test]
fn the_last_bytes_do_not_wait() {
    let setup = Setup { nodelay: false, ..Setup::new(Family::V4, generate(2500, false)) };
    let mut desk = Desk::with(setup);
    desk.syn(PLAIN);
    let answer = desk.say(Flags::ACK, &[]);
    let sizes: Vec<usize> = answer.iter().map(|heard| heard.payload.len()).collect();
    assert_eq!(sizes, [1000, 1000, 500]);
    assert!(answer[2].flags.has(Flags::FIN));
    let setup = Setup { nodelay: false, ..Setup::new(Family::V4, generate(2500, true)) };
    let mut desk = Desk::with(setup);
    desk.syn(PLAIN);
    assert_eq!(desk.say(Flags::ACK, &[]).len(), 2, "more may follow");
}

/// RFC 8985 7.3: a small tail that waits is what a tail loss probe sends.
#[test]
fn a_waiting_tail_is_the_probe() {
    let setup = Setup { nodelay: false, ..Setup::new(Family::V4, AppConfig::Echo) };
    let mut desk = Desk::connected(setup, Offer { sack: true, ..PLAIN });
    let una = desk.rcv_nxt;
    // A round trip is measured.
    desk.say(Flags::ACK, &[0; 100]);
    desk.wait_ms(20);
    desk.acknowledge(una + 100);
    for bytes in [&[1; 100][..], &[2; 50]] {
        let say = Say { ack: una + 100, ..desk.segment(Flags::ACK, bytes) };
        desk.snd_nxt += bytes.len() as u32;
        desk.hear(say);
    }
    let answer = desk.wait_ms(280);
    assert_eq!(payload(&answer), [2; 50], "new data, not a repetition");
}

/// RFC 9293 MUST-60, MUST-61, SHLD-27: PSH is in the last segment of what there is to send, and in
/// no other.
#[test]
fn must_61_the_last_segment_is_pushed() {
    let mut desk = Desk::with(Setup::new(Family::V4, generate(4500, true)));
    desk.syn(PLAIN);
    let answer = desk.say(Flags::ACK, &[]);
    let pushed: Vec<bool> = answer.iter().map(|heard| heard.flags.has(Flags::PSH)).collect();
    assert_eq!(pushed, [false, false, false, false, true]);
}
