//! `cargo xtask sim`: plays stories of the simulator and says what came of them.
//!
//! The first story that fails is shortened, and played once more into two files: every event, and every frame for Wireshark.
//!
//! Exit codes: 0 every story ended well; 1 at least one did not, or a file could not be written.

use assert_no_alloc::AllocDisabler;
use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use tests::sim::failure::{keep, write_frames};
use tests::sim::shrink::shrink;
use tests::sim::story::{Budget, Outcome, Script, play};

/// Tells when a core allocates.
#[global_allocator]
static ALLOCATOR: AllocDisabler = AllocDisabler;

/// Plays whole clusters, each from a seed, with something going wrong again and again.
#[derive(Parser, Clone, Debug)]
#[command(name = "cargo xtask sim")]
struct Args {
    /// Plays this one seed, and says what went wrong in it.
    #[arg(long)]
    seed: Option<u64>,
    /// How many seeds are played.
    #[arg(long, default_value_t = 1000)]
    count: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Several things go wrong at once: connections may be lost, but nothing may be altered.
    #[arg(long)]
    beyond: bool,
    /// Only these clients and mishaps of the one seed, by their numbers; what a shrunken failure prints.
    #[arg(long, requires = "seed", value_delimiter = ',')]
    only: Option<Vec<usize>>,
    /// Leaves out of the one seed whatever its failure does not need.
    #[arg(long, requires = "seed")]
    shrink: bool,
    /// Threads; as many as there are processors if not said.
    #[arg(long)]
    jobs: Option<usize>,
    /// Prints every event of the one seed.
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Where the frames of the one seed are written for Wireshark.
    #[arg(long, requires = "seed")]
    capture: Option<PathBuf>,
    /// Where trace and frames of the first failure go.
    #[arg(long, value_name = "DIR", default_value = "target/failures")]
    failures: PathBuf,
    /// Ends with the first failure, and tells it as it is.
    #[arg(long)]
    fail_fast: bool,
}

impl Args {
    fn script(&self, seed: u64) -> Script {
        let budget = if self.beyond { Budget::Beyond } else { Budget::One };
        let only = self.only.as_ref().map(|only| only.iter().copied().collect());
        Script { only, ..Script::new(seed, budget) }
    }
}

/// What all stories together have cost and seen.
#[derive(Default)]
struct Totals {
    stories: u64,
    time: u64,
    events: u64,
    frames: u64,
    takeovers: u64,
    late: u64,
    compared: u64,
    behind: u64,
    refused: u64,
    clients: usize,
    resets: usize,
    failures: Vec<(u64, String)>,
}

impl Totals {
    fn add(&mut self, seed: u64, outcome: Outcome) {
        self.stories += 1;
        self.time += outcome.time;
        self.events += outcome.tally.events;
        self.frames += outcome.tally.frames;
        self.takeovers += outcome.tally.takeovers;
        self.late += outcome.tally.late;
        self.compared += outcome.tally.compared;
        self.behind += outcome.tally.behind;
        self.refused += outcome.tally.refused;
        self.clients += outcome.clients.0;
        self.resets += outcome.clients.1;
        self.failures.extend(outcome.failure.map(|failure| (seed, failure)));
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let ended = match args.seed {
        Some(seed) => play_one(&args, seed),
        None => play_many(&args),
    };
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("What it looked like cannot be written: {error}.");
            ExitCode::FAILURE
        }
    }
}

/// One story, told in full.
fn play_one(args: &Args, seed: u64) -> std::io::Result<bool> {
    let mut script = args.script(seed);
    if args.shrink {
        script = shrink(&script).0;
        println!("The shortest that fails: {}", script.command());
    }
    let script = Script { trace: args.trace, capture: args.capture.is_some(), ..script };
    let outcome = play(&script);
    for line in &outcome.diary {
        println!("{line}");
    }
    outcome.trace.iter().for_each(|line| println!("{line}"));
    if let Some(path) = &args.capture {
        write_frames(path, &outcome)?;
        println!("{} frames are in {}.", outcome.frames.len(), path.display());
    }
    println!(
        "Seed {seed}: {:.3} simulated seconds, {} frames, {} clients ({} reset), trace hash {:016x}.",
        outcome.time as f64 / 1e9,
        outcome.tally.frames,
        outcome.clients.0,
        outcome.clients.1,
        outcome.trace_hash,
    );
    match &outcome.failure {
        None => println!("It ended well."),
        Some(failure) => println!("FAILED: {failure}"),
    }
    Ok(outcome.failure.is_none())
}

/// Many stories on every processor, and their sum.
fn play_many(args: &Args) -> std::io::Result<bool> {
    let began = Instant::now();
    let jobs =
        args.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let (next, totals) = (AtomicU64::new(0), Mutex::new(Totals::default()));
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some(seed) = take(&next, args) {
                    let outcome = play(&args.script(seed));
                    let mut totals = totals.lock().expect("no story panicked");
                    if let Some(failure) = &outcome.failure {
                        eprintln!("{}: {failure}", args.script(seed).command());
                        if args.fail_fast {
                            next.store(args.count, Ordering::Relaxed);
                        }
                    }
                    totals.add(seed, outcome);
                    if totals.stories % 500 == 0 {
                        eprintln!("{} of {} stories", totals.stories, args.count);
                    }
                }
            });
        }
    });
    let totals = totals.into_inner().expect("no story panicked");
    tell(&totals, began.elapsed().as_secs_f64());
    let Some((seed, _)) = totals.failures.iter().min() else { return Ok(true) };
    if args.fail_fast {
        return Ok(false);
    }
    let (shortest, outcome) = shrink(&args.script(*seed));
    println!("The first that fails, shortened: {}", shortest.command());
    outcome.diary.iter().for_each(|line| println!("{line}"));
    println!("{}", keep(&args.failures, &shortest)?);
    Ok(false)
}

fn take(next: &AtomicU64, args: &Args) -> Option<u64> {
    let n = next.fetch_add(1, Ordering::Relaxed);
    (n < args.count).then_some(args.first + n)
}

fn tell(totals: &Totals, seconds: f64) {
    let simulated = totals.time as f64 / 1e9;
    println!(
        "{} stories, {} failed, in {seconds:.1} s: {:.0} simulated seconds and {:.0} frames each second.",
        totals.stories,
        totals.failures.len(),
        simulated / seconds,
        totals.frames as f64 / seconds,
    );
    println!(
        "{} clients ({} reset), {} changes of owner, {} frames of a late burst, {} segments compared with the peer's copy, {} of connections that stayed behind, {} newcomers refused.",
        totals.clients,
        totals.resets,
        totals.takeovers,
        totals.late,
        totals.compared,
        totals.behind,
        totals.refused,
    );
}
