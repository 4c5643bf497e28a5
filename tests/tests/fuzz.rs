//! The fuzz targets with bytes of their own, on stable: an example of what each takes, changed here and there.
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
    for _ in 0..random.below(8) {
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

fn play(name: &str, target: Target, example: &[u8]) {
    let only = from_environment("SEED");
    let rounds = from_environment("ROUNDS").unwrap_or(ROUNDS);
    for seed in only.map_or(0..rounds, |seed| seed..seed + 1) {
        let bytes = mutated(example, seed);
        let played = catch_unwind(AssertUnwindSafe(|| target(&bytes)));
        if let Err(panic) = played {
            eprintln!("SEED={seed} cargo test -p tests --test fuzz -- {name}: {bytes:?}");
            resume_unwind(panic);
        }
    }
}

/// One test for each target.
macro_rules! smoke {
    ($($name:ident)*) => {$(
        #[test]
        fn $name() {
            let name = stringify!($name);
            let (_, target, example) =
                targets().into_iter().find(|(known, ..)| *known == name).expect("a target");
            play(name, target, &example);
        }
    )*

        #[test]
        fn every_target_is_played() {
            let played = [$(stringify!($name)),*];
            assert_eq!(targets().iter().map(|(name, ..)| *name).collect::<Vec<_>>(), played);
        }
    };
}

smoke!(frames segments http datagrams messages snapshots stores configuration header control);
