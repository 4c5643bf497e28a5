//! What a bulk flow makes of a path, by the RFC or the story.

use super::*;

/// Bytes per second.
fn rate(total: u32, report: &Report) -> u64 {
    total as u64 * 1_000_000 / report.took.micros()
}

#[test]
fn nothing_gets_stuck_whatever_the_path_does() {
    for seed in 1..=400 {
        let mut random = Random(seed * 7_919 + 1);
        let path = Path {
            algorithm: if seed % 2 == 0 { Algorithm::Cubic } else { Algorithm::Reno },
            sack: seed % 4 != 3,
            timestamps: seed % 3 != 0,
            one_way: Duration::from_micros(100 << random.below(10)),
            per_segment: Duration::from_micros(1 + random.below(300)),
            queue_max: 5 + random.below(200),
            loss_permille: random.below(120),
            reorder_permille: random.below(200),
            duplicate_permille: random.below(50),
            ack_loss_permille: random.below(150),
            lost: &[],
            delayed: seed % 5 == 0,
            looks_every: Duration::from_micros(random.below(2) * random.below(2_000)),
            pause: (seed % 6 == 0).then(|| (random.below(500), 500 + random.below(2_000))),
        };
        let run = || World::new(path, seed, 150_000 + seed as u32).run();
        std::panic::catch_unwind(run).unwrap_or_else(|_| panic!("seed {seed}"));
    }
}

/// A clean path whose queue is as large as its delay product: it is used to nine tenths.
#[test]
fn a_clean_path_is_filled() {
    let path = Path { queue_max: 450, ..CLEAN };
    for algorithm in [Algorithm::Cubic, Algorithm::Reno] {
        let total = 100_000_000;
        let report = World::new(Path { algorithm, ..path }, 1, total).run();
        assert!(rate(total, &report) > 9_000_000, "{algorithm:?} {report:?}");
        assert_eq!(report.timeouts, 0, "{algorithm:?} {report:?}");
    }
}

/// Mathis: MSS / RTT * 1.22 / sqrt(p) = 305 kB/s; CUBIC is a little above that at this product.
#[test]
fn one_percent_loss_costs_what_theory_says() {
    for (algorithm, low, high) in
        [(Algorithm::Reno, 220_000, 420_000), (Algorithm::Cubic, 220_000, 600_000)]
    {
        let total = 12_000_000;
        let path = Path { algorithm, loss_permille: 10, ..CLEAN };
        let report = World::new(path, 3, total).run();
        let rate = rate(total, &report);
        assert!((low..high).contains(&rate), "{algorithm:?}: {rate} {report:?}");
        assert!(report.timeouts <= 3, "{algorithm:?} {report:?}");
    }
}

/// RFC 8985 7.3: the last segments are lost; a probe finds it, no time-out does.
#[test]
fn rfc8985_tail_loss_is_repaired_without_a_timeout() {
    for lost in [&[9][..], &[8, 9], &[7, 8, 9]] {
        let report = World::new(Path { lost, ..CLEAN }, 1, 10 * MSS).run();
        assert_eq!((report.timeouts, report.probes), (0, 1), "{lost:?} {report:?}");
        assert!(report.took < Duration::from_millis(350), "{report:?}");
    }
}

/// RFC 8985 3.1: a loss, and the loss of its repetition, cost no time-out while data flows.
#[test]
fn rfc8985_lost_retransmission_costs_no_timeout() {
    let report = World::new(Path { lost: &[30, 60, 61, 62], ..CLEAN }, 1, 300 * MSS).run();
    assert_eq!(report.timeouts, 0, "{report:?}");
}

/// RFC 6582: several losses in one window without SACK: one recovery, no time-out.
#[test]
fn rfc6582_partial_acknowledgements_without_sack() {
    let path = Path { sack: false, lost: &[30, 33, 36], ..CLEAN };
    let report = World::new(path, 1, 300 * MSS).run();
    assert_eq!((report.timeouts, report.recoveries, report.resent), (0, 1, 3), "{report:?}");
}

/// RFC 8985 6.2: a path that reorders within a quarter of its round trip is soon not taken for lossy.
#[test]
fn rfc8985_reordering_is_tolerated() {
    let path = Path { reorder_permille: 100, ..CLEAN };
    let report = World::new(path, 5, 20_000_000).run();
    assert_eq!(report.timeouts, 0, "{report:?}");
    assert!(report.resent < 200, "{report:?}");
}

/// RFC 9438 4.3, RFC 3465: growth counts bytes, so a client that acknowledges every second segment costs
/// little, and at 20 ms and 1 % loss the window is what theory says: 1.22 / sqrt(p) segments, or close.
#[test]
fn a_client_that_delays_acknowledgements_costs_little() {
    let path = Path { one_way: Duration::from_millis(10), loss_permille: 10, ..CLEAN };
    let (total, seeds) = (20_000_000, 1..=10);
    for algorithm in [Algorithm::Reno, Algorithm::Cubic] {
        let mean = |delayed| {
            let run = |seed| {
                let report = World::new(Path { algorithm, delayed, ..path }, seed, total).run();
                rate(total, &report)
            };
            seeds.clone().map(run).sum::<u64>() / 10
        };
        let (prompt, delayed) = (mean(false), mean(true));
        assert!(delayed * 100 >= prompt * 85, "{algorithm:?}: {delayed} of {prompt}");
        assert!((500_000..700_000).contains(&delayed), "{algorithm:?}: {delayed}");
    }
}

/// A round's acknowledgements arrive as one burst and are all handled before anything is sent: at the third report
/// of a loss hardly anything is outstanding. The window comes down from what the network held in this round, so the
/// path is used nearly as well as if they had come one by one.
#[test]
fn acknowledgements_in_bursts_cost_little() {
    let (one_way, per_segment) = (Duration::from_millis(10), Duration::from_micros(1));
    let total = 30_000_000;
    for (sack, delayed) in [(true, true), (true, false), (false, true), (false, false)] {
        let path = Path { one_way, per_segment, loss_permille: 10, sack, delayed, ..CLEAN };
        let mean = |looks_every| {
            let run = |seed| {
                let path = Path { looks_every, ..path };
                rate(total, &World::new(path, seed, total).run())
            };
            (1..=10).map(run).sum::<u64>() / 10
        };
        let (single, bursts) = (mean(Duration(0)), mean(Duration::from_micros(100)));
        let case = (sack, delayed);
        assert!(bursts * 100 >= single * 87, "SACK, delayed {case:?}: {bursts} of {single}");
    }
}

/// RFC 3708: where frames overtake each other, a download is as fast as on a path that keeps their order.
#[test]
fn rfc3708_a_path_that_reorders_is_filled() {
    for seed in 1..=5 {
        let run = |reorder_permille| {
            let path = Path { queue_max: 450, reorder_permille, ..CLEAN };
            rate(20_000_000, &World::new(path, seed, 20_000_000).run())
        };
        let (with, without) = (run(20), run(0));
        assert!(with > without * 9 / 10, "seed {seed}: {with} of {without} bytes per second");
    }
}

/// RFC 3522, RFC 5682: a path that stands still for longer than the time-out loses nothing, so nothing but the probe
/// and the first segment is sent again, and the window is what it was.
#[test]
fn rfc5682_a_path_that_stood_still_is_not_filled_with_repetitions() {
    for (timestamps, delayed) in [(true, true), (true, false), (false, true), (false, false)] {
        let pause = Some((200, 1_100));
        let path = Path { queue_max: 20_000, timestamps, delayed, ..CLEAN };
        let undisturbed = World::new(path, 1, 3_000_000).run();
        let report = World::new(Path { pause, ..path }, 1, 3_000_000).run();
        assert_eq!(undisturbed.resent, 0);
        assert!(report.timeouts > 0 && report.resent <= report.timeouts + 1, "{report:?}");
        let cost = Duration(report.took.0 - undisturbed.took.0);
        assert!(cost < Duration::from_millis(1_000), "{cost:?} {report:?}");
    }
}
