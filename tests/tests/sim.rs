//! Whole clusters, each from a seed: see `tests/src/sim.rs`; `cargo xtask sim --help` plays more and single ones.

use assert_no_alloc::AllocDisabler;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};
use tests::sim::failure::keep;
use tests::sim::shrink::shrink;
use tests::sim::story::{Budget, Script, play};

/// Tells when a core allocates.
#[global_allocator]
static ALLOCATOR: AllocDisabler = AllocDisabler;

/// Seeds of each budget that are played every time.
const FIXED: u64 = 40;
/// Seeds of each budget that nobody has played before.
const FRESH: u64 = 20;

/// The fixed seeds, and some that the clock chooses; a failure prints the command that plays it again.
fn play_some(budget: Budget) {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let fresh = since.as_nanos() as u64 & 0xffff_ffff;
    let mut failures = Vec::new();
    let (mut compared, mut takeovers, mut behind) = (0, 0, 0);
    for seed in (0..FIXED).chain(fresh..fresh + FRESH) {
        let script = Script::new(seed, budget);
        let outcome = play(&script);
        compared += outcome.tally.compared;
        takeovers += outcome.tally.takeovers;
        behind += outcome.tally.behind;
        if let Some(failure) = outcome.failure {
            failures.push((script, failure));
        }
    }
    if let Some((script, _)) = failures.first() {
        let shortest = shrink(script).0;
        let kept = keep(Path::new(env!("CARGO_TARGET_TMPDIR")), &shortest);
        let told =
            |(script, failure): &(Script, String)| format!("{}: {failure}", script.command());
        let told: Vec<String> = failures.iter().map(told).collect();
        let (told, shortest) = (told.join("\n"), shortest.command());
        panic!("stories failed:\n{told}\nThe first of them, shortened: {shortest}\n{kept:?}");
    }
    assert!(compared > 0 && takeovers > 0, "nothing was compared, or nobody took over");
    // Where anything goes wrong at any time, home hardly ever holds every copy for long enough.
    let is_rare = budget == Budget::Beyond;
    assert!(is_rare || behind > 0, "no connection stayed behind while home took the new ones");
}

#[test]
fn within_the_budget_no_client_notices() {
    play_some(Budget::One);
}

#[test]
fn beyond_the_budget_nothing_is_altered() {
    play_some(Budget::Beyond);
}

#[test]
fn a_seed_plays_the_same_story_every_time() {
    let script = Script::new(7, Budget::One);
    let hash = play(&script).trace_hash;
    assert_eq!(hash, play(&script).trace_hash);
    // Nor does it hang on anything that is another in every process.
    for _ in 0..2 {
        let told = Command::new(env!("CARGO_BIN_EXE_sim")).args(["--seed", "7"]).output().unwrap();
        let told = String::from_utf8_lossy(&told.stdout).into_owned();
        assert!(told.contains(&format!("trace hash {hash:016x}")), "{told}");
    }
}
