//! Single rules, by the RFC that states them.

mod timers;

use super::simulation::Random;
use super::*;
use crate::tcp::in_flight::FLIGHT_ITEMS_MAX;

const MSS: u32 = 1_000;
const RTT_MS: u64 = 40;

struct Fixture {
    pool: InFlightPool,
    sender: Sender,
    now: Instant,
}

impl Fixture {
    /// A path of 40 ms, ten segments in flight, sent 1 ms apart.
    fn new(sack: bool) -> Fixture {
        let now = Instant(1_000_000_000);
        let config = SenderConfig::default();
        let mut sender = Sender::new(now, &config, Seq(0), MSS as u16, sack);
        sender.handle_handshake(now, MSS as u16, sack, Some(Duration::from_millis(RTT_MS)), false);
        let mut fixture = Fixture { pool: InFlightPool::new(1_000), sender, now };
        fixture.send(10);
        fixture
    }

    fn send(&mut self, count: u32) {
        for _ in 0..count {
            let seq = self.sender.snd_nxt();
            self.sender.handle_sent(self.now, &mut self.pool, seq, MSS, false).unwrap();
            self.now += Duration::from_millis(1);
        }
    }

    fn wait(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
    }

    fn ack(&mut self, ack: u32, sack: &[(u32, u32)]) -> AckOutcome {
        let sack: alloc::vec::Vec<_> = sack.iter().map(|(a, b)| (Seq(*a), Seq(*b))).collect();
        let ack = Ack { ack: Seq(ack), sack: &sack, ..Ack::default() };
        let outcome = self.sender.handle_ack(self.now, &mut self.pool, &ack);
        self.sender.flight.check(&self.pool);
        outcome
    }

    /// Sends again all that may be; returns (sequence number, length).
    fn resend(&mut self) -> alloc::vec::Vec<(u32, u32)> {
        let mut all = alloc::vec::Vec::new();
        while let Some(resend) = self.sender.poll_resend(&mut self.pool, false) {
            self.sender.handle_resent(self.now, &mut self.pool, resend);
            self.sender.flight.check(&self.pool);
            all.push((resend.seq.0, resend.len));
        }
        all
    }

    fn timeout(&mut self) -> TimeoutOutcome {
        self.now = self.now.max(self.sender.poll_timeout().unwrap());
        let outcome = self.sender.handle_timeout(self.now, &mut self.pool);
        self.sender.flight.check(&self.pool);
        outcome
    }

    /// Through the probe to the time-out.
    fn retransmission_timeout(&mut self) {
        loop {
            match self.timeout() {
                TimeoutOutcome::Probe => drop(self.resend()),
                TimeoutOutcome::Retransmit => return,
                other => panic!("{other:?}"),
            }
        }
    }
}

/// RFC 5681 3.2, RFC 3042: two duplicates let out a segment each, the third starts fast retransmit.
#[test]
fn rfc5681_third_duplicate_and_rfc3042_limited_transmit() {
    let mut f = Fixture::new(false);
    f.wait(RTT_MS);
    assert_eq!(f.sender.window_left(f.now), 0);
    f.ack(0, &[]);
    f.ack(0, &[]);
    assert_eq!(f.sender.window_left(f.now), 2 * MSS);
    assert!(f.resend().is_empty());
    assert!(f.ack(0, &[]).entered_recovery);
    assert_eq!(f.resend(), [(0, MSS)]);
    assert_eq!(f.sender.ssthresh(), 7_000, "RFC 9438 4.6");
}

/// RFC 5681 2: what carries data or changes the window is no duplicate.
#[test]
fn rfc5681_what_is_no_duplicate() {
    let mut f = Fixture::new(false);
    for ack in
        [Ack { segment_len: 1, ..Ack::default() }, Ack { window_update: true, ..Ack::default() }]
    {
        for _ in 0..5 {
            f.sender.handle_ack(f.now, &mut f.pool, &ack);
        }
    }
    assert!(!f.sender.in_recovery());
    assert_eq!(f.sender.pipe(), 10 * MSS);
}

/// RFC 6582 3.2 step 2: duplicates below `recover` do not start another fast retransmit.
#[test]
fn rfc6582_no_second_fast_retransmit_for_the_same_window() {
    let mut f = Fixture::new(false);
    f.retransmission_timeout();
    f.resend();
    f.wait(RTT_MS);
    assert!(f.ack(10_000, &[]).exited_recovery);
    f.send(5);
    (0..4).for_each(|_| assert!(!f.ack(10_000, &[]).entered_recovery));
    f.ack(11_000, &[]);
    for _ in 0..3 {
        f.ack(11_000, &[]);
    }
    assert!(f.sender.in_recovery());
}

/// RFC 8985 6.2: three segments sacked mean loss at once; RFC 9937: the repetition is not held back.
#[test]
fn rfc8985_fast_retransmit_with_sack() {
    let mut f = Fixture::new(true);
    f.wait(RTT_MS);
    assert!(!f.ack(0, &[(1_000, 3_000)]).entered_recovery);
    let outcome = f.ack(0, &[(1_000, 4_000)]);
    assert_eq!((outcome.entered_recovery, outcome.newly_lost), (true, MSS));
    assert_eq!(f.resend(), [(0, MSS)]);
    f.wait(RTT_MS);
    assert!(f.ack(10_000, &[]).exited_recovery);
    assert_eq!(f.sender.cwnd(), f.sender.ssthresh(), "RFC 9937 6");
}

/// As captured on a link of 20 ms: eleven segments in flight, and all that the client says of them arrives together:
/// 0 to 7 in order, 7 lost, 8 to 11 behind it. The window was eleven segments, not the four that were left of it.
#[test]
fn a_burst_that_ends_with_a_loss_reduces_the_window_that_there_was() {
    let mut f = Fixture::new(true);
    f.sender.congestion.cwnd = 11 * MSS;
    f.send(1);
    f.wait(RTT_MS);
    f.ack(4_000, &[]);
    f.ack(7_000, &[(8_000, 9_000)]);
    f.ack(7_000, &[(8_000, 10_000)]);
    assert!(f.ack(7_000, &[(8_000, 11_000)]).entered_recovery);
    assert_eq!(f.sender.ssthresh(), 7_700, "RFC 9438 4.6");
    assert_eq!(f.resend(), [(7_000, MSS)]);
    assert_eq!(
        f.sender.window_left(f.now) / MSS,
        6,
        "RFC 9937: as much as is meant to be in flight"
    );
    f.send(6);
    f.wait(RTT_MS);
    assert!(f.ack(11_000, &[]).exited_recovery);
    assert_eq!(f.sender.cwnd(), 7_700);
}

/// What was in the network counts, not what the window would have allowed: an application that sends little.
#[test]
fn a_window_that_was_not_full_is_reduced_to_what_was_used() {
    let mut f = Fixture::new(true);
    f.sender.congestion.cwnd = 40 * MSS;
    f.wait(RTT_MS);
    f.ack(6_000, &[]);
    assert!(f.ack(6_000, &[(7_000, 10_000)]).entered_recovery);
    assert_eq!(f.sender.ssthresh(), 7_000);
}

/// RFC 8985 6.2 step 5: fewer wait for the reordering timer.
#[test]
fn rfc8985_reordering_timer() {
    let mut f = Fixture::new(true);
    f.wait(RTT_MS);
    let asked = f.now;
    f.ack(0, &[(1_000, 2_000)]);
    assert!(f.resend().is_empty());
    assert_eq!(f.timeout(), TimeoutOutcome::Reorder);
    let waited = f.now.since(asked);
    assert!((9..=13).contains(&waited.millis()), "{waited:?}");
    assert_eq!(f.resend(), [(0, MSS)]);
}

/// RFC 2018 8: what was sacked and then dropped is sent again: found by an acknowledgement that stops
/// below it, and by a time-out.
#[test]
fn rfc2018_reneging() {
    let mut f = Fixture::new(true);
    f.wait(RTT_MS);
    f.ack(0, &[(5_000, 6_000)]);
    let outcome = f.ack(5_000, &[]);
    assert!(outcome.newly_lost >= MSS && outcome.entered_recovery);
    assert_eq!(f.resend().first(), Some(&(5_000, MSS)));

    let mut f = Fixture::new(true);
    f.wait(RTT_MS);
    f.ack(0, &[(1_000, 10_000)]);
    f.resend();
    f.retransmission_timeout();
    assert_eq!(f.sender.flight.sacked_bytes, 0);
    assert_eq!(f.resend(), [(0, MSS)]);
    f.ack(1_000, &[]);
    assert_eq!(f.resend(), [(1_000, MSS), (2_000, MSS)], "runs are cut to segments again");
}

/// A path whose MSS shrank: lost segments go again in pieces, the FIN with the last.
#[test]
fn smaller_mss_cuts_what_is_sent_again() {
    let mut f = Fixture::new(true);
    f.sender.handle_sent(f.now, &mut f.pool, Seq(10_000), 501, true).unwrap();
    f.sender.handle_mss(400);
    f.timeout();
    let resend = f.sender.poll_resend(&mut f.pool, false).unwrap();
    assert_eq!((resend.seq, resend.len, resend.fin), (Seq(10_100), 401, true));
    f.resend();
    f.retransmission_timeout();
    assert_eq!(f.resend(), [(0, 400)]);
    f.ack(400, &[]);
    assert_eq!(f.resend(), [(400, 400), (800, 200)]);
}

/// RFC 1191 6.5, RFC 8201 5.4: what the path did not take goes again at once, in pieces; what fits stays; the
/// window keeps its segments, and nothing was congestion.
#[test]
fn rfc1191_what_was_too_large_goes_again_at_once() {
    for sack in [true, false] {
        let mut f = Fixture::new(sack);
        f.sender.handle_smaller_path(f.now, &mut f.pool, MSS as u16);
        assert!(f.resend().is_empty() && !f.sender.in_recovery(), "nothing is too large");
        f.sender.handle_smaller_path(f.now, &mut f.pool, 600);
        assert_eq!((f.sender.pipe(), f.sender.cwnd()), (0, 6_000));
        let pieces = |from: u32| [(from, 600), (from + 600, 400)];
        let six: alloc::vec::Vec<_> = (0..6).flat_map(|n| pieces(n * MSS)).collect();
        assert_eq!(f.resend(), six);
        f.wait(RTT_MS);
        f.ack(6_000, &[]);
        let four: alloc::vec::Vec<_> = (6..10).flat_map(|n| pieces(n * MSS)).collect();
        assert_eq!(f.resend(), four);
        assert!(f.sender.in_recovery());
        f.wait(RTT_MS);
        f.ack(10_000, &[]);
        assert!(!f.sender.in_recovery() && f.sender.is_idle());
        assert_eq!(f.sender.ssthresh(), u32::MAX, "no congestion");
        assert!(f.sender.cwnd() >= 6_000);
    }
}

/// After a takeover: half of the hint at once, up to the hint by slow start; SEG.ACK may be beyond.
#[test]
fn resuming_from_a_hint() {
    let config = SenderConfig::default();
    let hint = Hint { srtt_us: 30_000, cwnd: 200_000 };
    let now = Instant(77);
    let mut sender = Sender::resume(now, &config, Seq(500), 1_000, true, hint);
    let mut pool = InFlightPool::new(4);
    assert_eq!((sender.window_left(now), sender.ssthresh()), (100_000, 200_000));
    assert_eq!(sender.rto(), Duration::from_millis(230));
    sender.handle_sent(now, &mut pool, Seq(500), 1_000, false).unwrap();
    let outcome = sender.handle_ack(now, &mut pool, &Ack { ack: Seq(90_500), ..Ack::default() });
    assert_eq!((outcome.newly_acked, sender.snd_nxt()), (90_000, Seq(90_500)));
    assert!(sender.cwnd() <= 101_000, "credit only for what was in flight");
    assert_eq!((pool.used(), sender.poll_timeout()), (0, None));
}

/// RFC 2861: an idle time halves the window for every time-out it lasted.
#[test]
fn rfc2861_idle() {
    let mut f = Fixture::new(true);
    f.wait(RTT_MS);
    f.ack(10_000, &[]);
    f.sender.congestion.cwnd = 80_000;
    assert_eq!(f.sender.window_left(f.now), 80_000);
    let rto = f.sender.rto();
    f.now = f.now + rto + rto;
    let window = f.sender.window_left(f.now);
    assert!(window == 20_000 || window == 40_000, "{window}");
    f.send(1);
    assert_eq!(f.sender.cwnd(), window);
}

/// At the bounds new data is refused and nothing has changed.
#[test]
fn refuses_at_the_bounds() {
    let config = SenderConfig::default();
    let mut pool = InFlightPool::new(1);
    let now = Instant::ZERO;
    let mut sender = Sender::new(now, &config, Seq(0), 1_000, true);
    sender.handle_sent(now, &mut pool, Seq(0), 1, false).unwrap();
    let refused = sender.handle_sent(now, &mut pool, Seq(1), 1, false);
    assert_eq!((refused, sender.snd_nxt()), (Err(SendRefused::PoolExhausted), Seq(1)));
    sender.release(&mut pool);

    let mut pool = InFlightPool::new(FLIGHT_ITEMS_MAX as usize + 1);
    for n in 0..FLIGHT_ITEMS_MAX as u32 {
        sender.handle_sent(now, &mut pool, Seq(1 + n), 1, false).unwrap();
    }
    let seq = sender.snd_nxt();
    let refused = sender.handle_sent(now, &mut pool, seq, 1, false);
    assert_eq!((refused, sender.window_left(now)), (Err(SendRefused::FlightFull), 0));
}

/// One random act of a client, of the network or of the clock.
fn act(random: &mut Random, sender: &mut Sender, pool: &mut InFlightPool, now: &mut Instant) {
    *now += Duration(random.below(20_000_000) * random.below(2));
    let near = |random: &mut Random, sender: &Sender| match random.below(8) {
        0 => Seq(random.next() as u32),
        1 => sender.snd_una(),
        2 => sender.snd_nxt(),
        _ => sender.snd_una() + random.below(sender.flight.outstanding() as u64 + 2) as u32,
    };
    match random.below(8) {
        0..3 => {
            let (seq, len) = (sender.snd_nxt(), 1 + random.below(1_500) as u32);
            let _ = sender.handle_sent(*now, pool, seq, len, random.permille(20));
        }
        3 => {
            if let Some(resend) = sender.poll_resend(pool, random.permille(300)) {
                sender.handle_resent(*now, pool, resend);
            }
        }
        4 => {
            if let Some(at) = sender.poll_timeout()
                && random.permille(500)
            {
                *now = (*now).max(at);
            }
            sender.handle_timeout(*now, pool);
        }
        5 if random.permille(50) => sender.handle_mss(random.below(1_500) as u16),
        6 if random.permille(50) => {
            sender.handle_smaller_path(*now, pool, random.below(1_500) as u16);
        }
        _ => {
            let blocks: [_; 5] =
                core::array::from_fn(|_| (near(random, sender), near(random, sender)));
            let ack = near(random, sender);
            let far = ack.since(sender.snd_una()) > 1 << 30;
            sender.handle_ack(
                *now,
                pool,
                &Ack {
                    ack: if far || random.permille(400) { sender.snd_una() } else { ack },
                    sack: &blocks[..random.below(6) as usize],
                    rtt: random.permille(500).then(|| Duration(random.next() >> random.below(60))),
                    segment_len: random.below(2) as u32,
                    window_update: random.permille(200),
                    window_zero: random.permille(200),
                },
            );
        }
    }
}

/// Nothing that a client can send makes the sender panic, lose an item or miscount.
#[test]
fn random_acknowledgements_corrupt_nothing() {
    for seed in 1..=300 {
        let mut random = Random(seed);
        let mut pool = InFlightPool::new(1 + random.below(200) as usize);
        let mut now = Instant(random.next() >> 20);
        let algorithm = if seed % 3 == 0 { Algorithm::Reno } else { Algorithm::Cubic };
        let config = SenderConfig { algorithm, ..SenderConfig::default() };
        let start = Seq(random.next() as u32);
        let mut sender = Sender::new(now, &config, start, 1_000, seed % 4 != 0);
        for _ in 0..1_500 {
            act(&mut random, &mut sender, &mut pool, &mut now);
            sender.flight.check(&pool);
            assert_eq!(pool.used(), sender.flight.items() as usize, "seed {seed}");
            assert!(sender.cwnd() > 0 && sender.pipe() <= sender.flight.outstanding());
            sender.window_left(now);
        }
        sender.release(&mut pool);
        assert_eq!(pool.used(), 0, "seed {seed}");
    }
}

/// RFC 3708 3: when every repetition is reported as a duplicate, and only then, the reduction is taken back. A
/// duplicate of something else is the network's.
#[test]
fn rfc3708_a_needless_reduction_is_undone() {
    for (reports, undone) in [
        (&[(0, 1_000), (2_000, 3_000)][..], true),
        (&[(0, 1_000)], false),
        (&[(0, 1_000), (4_000, 5_000)], false),
    ] {
        let mut f = Fixture::new(true);
        f.wait(RTT_MS);
        f.ack(0, &[(3_000, 7_000), (1_000, 2_000)]);
        f.ack(0, &[(3_000, 8_000), (1_000, 2_000)]);
        assert!(f.sender.in_recovery());
        let before = (initial_cwnd(), u32::MAX);
        f.wait(1);
        f.ack(0, &[(3_000, 9_000), (1_000, 2_000)]);
        let mut resent = f.resend();
        f.wait(1);
        f.ack(0, &[(3_000, 10_000), (1_000, 2_000)]);
        resent.extend(f.resend());
        assert_eq!(resent, [(0, 1_000), (2_000, 1_000)]);
        assert!(f.sender.ssthresh() < before.1);
        // The originals come, which ends the recovery, then what was sent again.
        f.ack(10_000, &[]);
        assert!(!f.sender.in_recovery() && f.sender.cwnd() < before.0);
        f.send(1);
        for report in reports {
            assert!(!f.sender.rack.has_seen_reordering());
            f.ack(10_000, &[*report]);
        }
        assert_eq!(f.sender.ssthresh() == u32::MAX, undone, "{reports:?}");
        assert_eq!(f.sender.cwnd() >= before.0.min(9 * MSS), undone, "{reports:?}");
        assert_eq!(f.sender.rack.has_seen_reordering(), undone, "{reports:?}");
    }
}

fn initial_cwnd() -> u32 {
    crate::tcp::congestion::initial_window(MSS as u16)
}
