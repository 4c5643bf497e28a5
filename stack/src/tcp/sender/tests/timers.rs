//! Rules of the time-out and of the tail loss probe, by the RFC that states them.

use super::*;

/// RFC 8985 7.2, 7.3: the probe comes after two round trips, is new data if there is any, else the last
/// segment, and there is only one.
#[test]
fn rfc8985_tail_loss_probe() {
    let mut f = Fixture::new(true);
    let sent = f.now;
    assert_eq!(f.timeout(), TimeoutOutcome::Probe);
    assert!((75..=82).contains(&f.now.since(sent).millis()), "{:?}", f.now.since(sent));
    assert_eq!(f.sender.poll_resend(&mut f.pool, true), None);
    assert_eq!(f.sender.window_left(f.now), MSS);
    let mut with_new =
        Fixture { pool: InFlightPool::new(64), sender: f.sender.clone(), now: f.now };
    assert_eq!(f.resend(), [(9_000, MSS)]);
    assert_eq!(f.timeout(), TimeoutOutcome::Retransmit);
    // The clone shares no pool; it only shows that new data takes the probe's place.
    with_new.sender.flight = InFlight::new(Seq(10_000));
    with_new.send(1);
    assert_eq!(with_new.sender.window_left(with_new.now), 9 * MSS);
}

/// RFC 8985 7.4: a repetition that repaired the loss is answered by a smaller window; one that was
/// reported as duplicate is not.
#[test]
fn rfc8985_loss_repaired_by_the_probe_counts() {
    for (dsack, reduced) in [(false, true), (true, false)] {
        let mut f = Fixture::new(true);
        let before = f.sender.cwnd();
        f.timeout();
        f.resend();
        f.wait(RTT_MS);
        f.ack(10_000, &[]);
        if dsack {
            assert!(f.ack(10_000, &[(9_000, 10_000)]).duplicate_reported);
        }
        f.send(1);
        f.wait(RTT_MS);
        f.ack(11_000, &[]);
        assert_eq!(f.sender.cwnd() < before, reduced, "{}", f.sender.cwnd());
    }
}

/// RFC 6298 5.1 to 5.3: runs while something is outstanding, and restarts with progress.
#[test]
fn rfc6298_timer_management() {
    let mut f = Fixture::new(false);
    let rto = f.sender.rto();
    assert_eq!(f.sender.poll_timeout(), Some(Instant(1_000_000_000) + rto));
    f.ack(1_000, &[]);
    assert_eq!(f.sender.poll_timeout(), Some(f.now + f.sender.rto()));
    f.ack(10_000, &[]);
    assert_eq!(f.sender.poll_timeout(), None);
}

/// RFC 6298 5.4 to 5.6, RFC 5681 3.1: one segment goes, the time-out doubles, slow start follows.
#[test]
fn rfc6298_timeout() {
    let mut f = Fixture::new(true);
    let rto = f.sender.rto();
    f.retransmission_timeout();
    assert_eq!((f.sender.rto().0, f.sender.cwnd()), (2 * rto.0, MSS));
    assert_eq!(f.resend(), [(0, MSS)]);
    f.retransmission_timeout();
    assert_eq!(f.sender.ssthresh(), 7_000, "RFC 5681 3.1: not again for the same segment");
    assert_eq!((f.sender.rto().0, f.sender.timeouts()), (4 * rto.0, 2));
    f.resend();
    f.ack(1_000, &[]);
    assert_eq!(f.sender.rto().0, 4 * rto.0, "Karn: no sample from a repeated segment");
    assert_eq!((f.sender.timeouts(), f.sender.cwnd()), (0, 2 * MSS));
    assert_eq!(f.resend(), [(1_000, MSS), (2_000, MSS)]);
    let echo = Some(Duration::from_millis(RTT_MS));
    f.sender.handle_ack(f.now, &mut f.pool, &Ack { ack: Seq(3_000), rtt: echo, ..Ack::default() });
    assert!(f.sender.rto() <= rto, "RFC 7323 4.1: the echo is a sample");
}

/// RFC 3522: the echo says whether the first segment or its repetition has arrived.
#[test]
fn rfc3522_a_needless_timeout_is_taken_back() {
    for (late_ms, times, is_needless) in
        [(30, 1, true), (30, 2, true), (0, 1, false), (0, 2, false)]
    {
        let mut f = Fixture::new(true);
        let sent = f.now;
        let mut repeated = f.now;
        for nth in 0..times {
            f.retransmission_timeout();
            repeated = if nth == 0 { f.now } else { repeated };
            assert_eq!(f.resend(), [(0, MSS)]);
        }
        f.wait(30);
        let echoed = if is_needless { sent } else { repeated + Duration::from_millis(late_ms) };
        let echo = Some(f.now.since(echoed));
        let ack = Ack { ack: Seq(1_000), rtt: echo, ..Ack::default() };
        f.sender.handle_ack(f.now, &mut f.pool, &ack);
        f.sender.flight.check(&f.pool);
        assert_eq!(f.sender.in_recovery(), !is_needless);
        assert_eq!(f.sender.ssthresh() == u32::MAX, is_needless);
        assert_eq!(
            f.sender.pipe(),
            if is_needless { 9 * MSS } else { 0 },
            "the rest is on its way"
        );
        assert_eq!(f.resend().is_empty(), is_needless);
        assert_eq!(f.sender.cwnd() >= initial_cwnd(), is_needless);
    }
}

/// RFC 5682 3.1, for a client without timestamps: after progress new data goes instead of repetitions; what is
/// acknowledged next tells. Without new data there is no test, and a hole beyond answers it.
#[test]
fn rfc5682_new_data_tests_a_timeout() {
    let testing = || {
        let mut f = Fixture::new(true);
        f.retransmission_timeout();
        assert_eq!(f.resend(), [(0, MSS)]);
        f.wait(30);
        f.ack(1_000, &[]);
        f
    };
    let mut f = testing();
    assert_eq!(f.sender.poll_resend(&mut f.pool, true), None);
    assert_eq!((f.sender.window_left(f.now), f.sender.is_probe_due()), (2 * MSS, true));
    f.send(2);
    assert_eq!((f.sender.window_left(f.now), f.sender.is_probe_due()), (0, false));
    assert!(f.resend().is_empty(), "the test is under way");
    f.ack(2_000, &[]);
    assert!(!f.sender.in_recovery() && f.resend().is_empty());
    assert_eq!((f.sender.pipe(), f.sender.ssthresh()), (10 * MSS, u32::MAX));

    let mut f = testing();
    assert_eq!(f.sender.poll_resend(&mut f.pool, true), None);
    f.send(2);
    f.ack(1_000, &[(10_000, 11_000)]);
    assert!(f.sender.in_recovery());
    assert_eq!(f.resend().first(), Some(&(1_000, MSS)));

    let mut f = testing();
    assert_eq!(f.resend(), [(1_000, MSS), (2_000, MSS)], "nothing new to send");
    f.ack(2_000, &[]);
    assert!(f.sender.in_recovery());
}

/// RFC 9293 3.8.3 R2: by count, and by time.
#[test]
fn rfc9293_gives_up() {
    let silent = |config: &SenderConfig| {
        let mut pool = InFlightPool::new(4);
        let mut sender = Sender::new(Instant::ZERO, config, Seq(0), 1_000, true);
        sender.handle_sent(Instant::ZERO, &mut pool, Seq(0), 1_000, false).unwrap();
        let mut times = 0;
        loop {
            let now = sender.poll_timeout().unwrap();
            if sender.handle_timeout(now, &mut pool) == TimeoutOutcome::GiveUp {
                assert_eq!(sender.poll_timeout(), None);
                sender.release(&mut pool);
                assert_eq!(pool.used(), 0);
                return (times, now.millis() / 1_000);
            }
            let resend = sender.poll_resend(&mut pool, false).unwrap();
            sender.handle_resent(now, &mut pool, resend);
            times += 1;
        }
    };
    let (times, after) = silent(&SenderConfig { timeouts_max: 3, ..SenderConfig::default() });
    assert_eq!((times, after), (3, 1 + 2 + 4 + 8));
    let (_, after) = silent(&SenderConfig::default());
    assert!((180..=260).contains(&after), "{after}");
}

/// RFC 9293 MUST-37: a client that keeps answering with a closed window is not given up.
#[test]
fn rfc9293_closed_window_is_alive() {
    let mut f = Fixture::new(true);
    for _ in 0..40 {
        f.retransmission_timeout();
        f.resend();
        let ack = Ack { window_zero: true, ..Ack::default() };
        f.sender.handle_ack(f.now, &mut f.pool, &ack);
    }
}

/// RFC 6928 2, RFC 6298 5.7: a lost SYN costs the initial window and starts at 3 s.
#[test]
fn rfc6928_lost_syn() {
    let mut pool = InFlightPool::new(4);
    let mut sender = Sender::new(Instant::ZERO, &SenderConfig::default(), Seq(7), 536, false);
    sender.handle_sent(Instant::ZERO, &mut pool, Seq(7), 1, false).unwrap();
    assert_eq!(sender.poll_timeout(), Some(Instant(1_000_000_000)));
    let now = Instant(1_000_000_000);
    assert_eq!(sender.handle_timeout(now, &mut pool), TimeoutOutcome::Retransmit);
    let resend = sender.poll_resend(&mut pool, false).unwrap();
    sender.handle_resent(now, &mut pool, resend);
    sender.handle_ack(now, &mut pool, &Ack { ack: Seq(8), ..Ack::default() });
    sender.handle_handshake(now, 1_460, true, None, true);
    assert_eq!((sender.cwnd(), sender.ssthresh()), (1_460, u32::MAX));
    assert_eq!((sender.rto(), sender.in_recovery()), (Duration::from_secs(3), false));
}
