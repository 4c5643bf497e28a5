//! What runs through the service while something happens to its owner: a `curl` download and upload,
//! paced connections, fast ones, echoes, and new connections all the time.

use std::thread;
use std::time::{Duration, Instant};

use dataplane::control::status::Role;
use tools::demo::client::Load;
use tools::demo::curl::{self, Curls, With};
use tools::demo::outcome::{Moment, Restored, Row, RunOutcome, Summary};
use tools::demo::{KillMode, text, voices};
use tools::load::report::Percentiles;

use crate::scene::{PATIENCE, Scene, UNDERSTUDY, has_role};

/// Between two looks at the progress.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Bytes per second of each `curl`.
const CURL_RATE: u64 = 4_000_000;

/// Connections of the load that last, half of them downloads, half uploads.
const CONNECTIONS: u64 = 100;

/// Bytes per second of each of these.
const RATE: u64 = 50_000;

/// Frames of a former owner behind the first of the next one: what one burst may hold that was checked before.
const LATE_MAX: u64 = 64;

/// The running load.
pub struct Traffic {
    curls: Curls,
    load: Load,
    /// Whose turn it was last, and whose it is to be next.
    turns: (u8, u8),
    /// Late frames of turns before.
    late: u64,
}

impl Traffic {
    /// Starts everything, to last about so many seconds.
    pub fn start(scene: &Scene<'_>, seconds: u64) -> Traffic {
        let size = CURL_RATE * seconds;
        curl::prepare(&scene.dir, size).unwrap();
        let curls = Curls::start(scene.bed, &scene.dir, size, seconds, With::Web).unwrap();
        let options = [
            ("--downloads", CONNECTIONS / 2),
            ("--uploads", CONNECTIONS / 2),
            ("--rate", RATE),
            ("--fresh-every-ms", 20),
            ("--seconds", seconds),
        ];
        let load = Load::start_with(scene.bed, UNDERSTUDY.as_ref(), &scene.dir, &options).unwrap();
        let turns = (scene.owner, scene.survivor());
        voices::watch(scene.bed, turns.0, turns.1).unwrap();
        Traffic { curls, load, turns, late: 0 }
    }

    /// Waits until every connection has moved bytes and the download is so far.
    pub fn until(&mut self, percent: u64) {
        let limit = Instant::now() + PATIENCE;
        loop {
            let progress = self.load.progress();
            let everyone = progress.all_move();
            if everyone && self.curls.percent() >= percent {
                return;
            }
            assert!(progress.failed == 0, "connections failed: {progress:?}");
            assert!(Instant::now() < limit, "the load does not get on: {progress:?}");
            thread::sleep(LOOK_EVERY);
        }
    }

    /// From here on late frames are counted: before, the first owner may have had its turn again.
    pub fn count_late_anew(&self, scene: &Scene<'_>) {
        voices::watch(scene.bed, self.turns.0, self.turns.1).unwrap();
    }

    /// The node that took over is the owner whose turn ends next: late frames are counted for it as well.
    pub fn next_turn(&mut self, scene: &Scene<'_>) {
        let late = voices::late(scene.bed).unwrap();
        assert!(late <= LATE_MAX, "{late} frames of a former owner");
        self.late += late;
        self.turns = (scene.owner, scene.survivor());
        voices::watch(scene.bed, self.turns.0, self.turns.1).unwrap();
    }

    /// Nobody is to take over: every frame of the peer for a connection of the owner is one too many.
    pub fn stays(&mut self, scene: &Scene<'_>) {
        self.turns = (scene.survivor(), scene.owner);
        voices::watch(scene.bed, self.turns.0, self.turns.1).unwrap();
    }

    /// Asserts that what just happened came before the end of any transfer.
    pub fn assert_still_running(&mut self) {
        let ended = self.curls.ended().unwrap() || self.load.ended().unwrap();
        assert!(!ended, "the transfers were over before the test had done its part");
    }

    /// Waits for the end; every connection must have survived with every byte right. Prints gaps, and how many frames of
    /// a former owner came late.
    pub fn finish(self, scene: &Scene<'_>, mode: KillMode, killed_ns: u64) {
        let curls = self.curls.verify().unwrap();
        let result = self.load.finish().unwrap_or_else(|error| panic!("{error:#}"));
        let takeovers = scene.cluster.takeovers(scene.owner);
        let restored = Restored::NotNeeded;
        let moments = [Moment { what: "kill", at_ns: killed_ns }];
        let outcome = RunOutcome::new(&mode, &moments, &result, curls, takeovers, restored);
        let summary = Summary::of(vec![outcome]);
        println!("{}", text::report(&summary));
        let late = Self::late_frames(scene, self.turns);
        let beyond = late.map(|late| late.saturating_sub(LATE_MAX));
        println!("{}", outcome_line(&summary, late.map(|late| late + self.late).zip(beyond)));
        assert!(late.is_none_or(|late| late <= LATE_MAX), "{late:?} frames of a former owner");
        assert!(summary.passed(), "connections did not survive");
    }

    /// Frames of the first owner for connections that the next one had answered; `None` if it came back.
    fn late_frames(scene: &Scene<'_>, (_, next): (u8, u8)) -> Option<u64> {
        let owns = scene.cluster.status(next).is_ok_and(|status| has_role(&status, Role::Owner));
        owns.then(|| voices::late(scene.bed).unwrap())
    }
}

/// What `cargo xtask scenario` reads.
fn outcome_line(summary: &Summary, late: Option<(u64, u64)>) -> String {
    let sum = |count: fn(&Row) -> u64| summary.rows.iter().map(count).sum::<u64>();
    let gaps = summary.rows.iter().flat_map(|row| &row.gaps_ns).copied().collect();
    let Percentiles { p50, p99, max, .. } = Percentiles::of(gaps);
    let (all, survived) = summary.totals();
    format!(
        "outcome: survived={survived}/{all} resets={} wrong_bytes={}{} gaps_us={}/{}/{}",
        sum(|row| row.resets),
        sum(|row| row.wrong_bytes),
        late.map_or(String::new(), |(late, beyond)| {
            format!(" late_frames={late} two_voices={beyond}")
        }),
        p50 / 1_000,
        p99 / 1_000,
        max / 1_000,
    )
}
