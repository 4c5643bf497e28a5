//! Whole clusters, each from a seed: see `tests/src/sim.rs`; `cargo xtask sim --help` plays more and single ones.

use std::time::{SystemTime, UNIX_EPOCH};
use tests::sim::story::{Budget, Script, play};

/// Seeds of each budget that are played every time.
const FIXED: u64 = 40;
/// Seeds of each budget that nobody has played before.
const FRESH: u64 = 20;

/// The fixed seeds, and some that the clock chooses; a failure prints the command that plays it again.
fn play_some(budget: Budget, flag: &str) {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let fresh = since.as_nanos() as u64 & 0xffff_ffff;
    let mut failures = Vec::new();
    let (mut compared, mut takeovers, mut behind) = (0, 0, 0);
    for seed in (0..FIXED).chain(fresh..fresh + FRESH) {
        let outcome = play(&Script::new(seed, budget));
        compared += outcome.tally.compared;
        takeovers += outcome.tally.takeovers;
        behind += outcome.tally.behind;
        if let Some(failure) = outcome.failure {
            failures.push(format!("cargo xtask sim --seed {seed}{flag}: {failure}"));
        }
    }
    assert!(failures.is_empty(), "stories failed:\n{}", failures.join("\n"));
    assert!(compared > 0 && takeovers > 0, "nothing was compared, or nobody took over");
    assert!(behind > 0, "no connection stayed behind while home took the new ones");
}

#[test]
fn within_the_budget_no_client_notices() {
    play_some(Budget::One, "");
}

#[test]
fn beyond_the_budget_nothing_is_altered() {
    play_some(Budget::Beyond, " --beyond");
}

/// Failures that were found and mended, as short as they could be made: what it was, seed, budget, clients and mishaps.
const KEPT: [(&str, u64, Budget, &[usize]); 3] = [
    (
        "nobody learnt that a server had died behind a half-closed client",
        162,
        Budget::One,
        &[11, 12, 15],
    ),
    (
        "a copy with a header and early bytes was found to differ",
        100_017,
        Budget::Beyond,
        &[0, 1, 3, 4],
    ),
    (
        "a repeated SYN was taken by another socket of a server",
        100_847,
        Budget::Beyond,
        &[0, 1, 2, 3, 4, 5, 6, 7],
    ),
];

#[test]
fn what_was_found_stays_mended() {
    for (name, seed, budget, only) in KEPT {
        let only = Some(only.iter().copied().collect());
        let outcome = play(&Script { only, ..Script::new(seed, budget) });
        assert_eq!(outcome.failure, None, "{name}: seed {seed}");
    }
}

#[test]
fn a_seed_plays_the_same_story_every_time() {
    let script = Script::new(7, Budget::One);
    assert_eq!(play(&script).trace_hash, play(&script).trace_hash);
}
