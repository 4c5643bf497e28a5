//! The fuzz targets with bytes of their own, on stable: an example of what each takes, changed here and there.
//!
//! Each must come past the first thing that could refuse it often enough: a target whose inputs are all refused tests nothing.
//!
//! `ROUNDS=100000 cargo test -p tests --test fuzz` plays more; a failure prints the seed, and `SEED=7` plays that one alone.
//! With a nightly toolchain and cargo-fuzz, `cargo fuzz run segments` in `fuzz/` goes further.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use tests::fuzz::{Target, targets};
use tests::kit::random::Random;

/// Rounds of each target unless `ROUNDS` says otherwise.
const ROUNDS: u64 = 300;

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// The example, with bytes of it changed, left out, doubled or added.
fn mutated(example: &[u8], seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut bytes = example.to_vec();
    // Half of the time a little, so that much of what makes sense is left.
    let most = if seed.is_multiple_of(2) { 3 } else { 8 };
    for _ in 0..random.below(most) {
        let at = random.below(bytes.len() as u64 + 1) as usize;
        let to = (at + random.below(40) as usize).min(bytes.len());
        match random.below(5) {
            0 => drop(bytes.drain(at..to)),
            1 => {
                let piece = bytes[at..to].to_vec();
                bytes.splice(at..at, piece);
            }
            2 => {
                let len = random.below(20) as usize;
                bytes.splice(at..at, random.bytes(len));
            }
            _ if at < bytes.len() => bytes[at] = random.draw() as u8,
            _ => {}
        }
    }
    bytes
}

fn play(name: &str) {
    let Target { play, example, deep_percent_least, .. } =
        targets().into_iter().find(|known| known.name == name).expect("a target");
    let only = from_environment("SEED");
    let rounds = from_environment("ROUNDS").unwrap_or(ROUNDS);
    let mut deep = 0;
    for seed in only.map_or(0..rounds, |seed| seed..seed + 1) {
        let bytes = mutated(&example, seed);
        match catch_unwind(AssertUnwindSafe(|| play(&bytes))) {
            Ok(is_deep) => deep += u64::from(is_deep),
            Err(panic) => {
                eprintln!("SEED={seed} cargo test -p tests --test fuzz -- {name}: {bytes:?}");
                resume_unwind(panic);
            }
        }
    }
    if only.is_none() {
        println!("{name}: {deep} of {rounds} came past the first that could refuse them");
        let least = rounds * deep_percent_least / 100;
        assert!(deep >= least, "{deep} of {rounds}: {name} tests nothing with so few");
    }
}

/// One test for each target.
macro_rules! smoke {
    ($($name:ident)*) => {$(
        #[test]
        fn $name() {
            play(stringify!($name));
        }
    )*

        #[test]
        fn every_target_is_played() {
            let played = [$(stringify!($name)),*];
            assert_eq!(targets().iter().map(|target| target.name).collect::<Vec<_>>(), played);
        }
    };
}

smoke!(frames options segments http datagrams messages snapshots stores configuration header control haproxy);
