//! `cargo xtask peers`: goodput through bad links, beside the kernel's own.
//!
//! Two beds stand side by side: in one the appliance serves, a pair with mirroring, in the other
//! the kernel's TCP with CUBIC in the node's place. For each link and direction both get the same
//! relay with the same seed, one after the other, and one client that moves bytes as fast as it can
//! for some seconds. Every byte is checked; the figure is what arrived (or was acknowledged) in
//! that time, slow start included, and the median over the rounds, each with a seed of its own.
//!
//! Units: Mbit/s of payload.

use std::io::Write;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use nix::sys::signal::Signal;
use tools::demo::Appliance;
use tools::demo::bed::{Arp, Bed, Place, Snoop, run};
use tools::demo::client::Load;
use tools::demo::cluster::{Cluster, Setup};
use tools::demo::relay::{Relay, Way, lay};
use tools::load::report::Progress;

/// Arguments of `cargo xtask peers`.
#[derive(Args, Debug)]
pub struct PeersArgs {
    /// Seconds of each transfer.
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Rounds, each with another seed; the median counts.
    #[arg(long, default_value_t = 3)]
    rounds: u64,
    /// Only links whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
}

/// A link and the client's options: name, options of `understudy impair`, settings of the client.
type Case = (&'static str, &'static str, &'static str);

const CASES: [Case; 17] = [
    ("100 Mbit/s, 10 ms", "--rate 100 --delay 5", ""),
    ("the same, queue of 30 frames", "--rate 100 --delay 5 --queue 30", ""),
    ("50 Mbit/s, 80 ms", "--rate 50 --delay 40", ""),
    ("loss 0.1 %", "--rate 100 --delay 5 --loss 1000 --data-only", ""),
    ("loss 1 %", "--rate 100 --delay 5 --loss 10000 --data-only", ""),
    ("loss 5 %", "--rate 100 --delay 5 --loss 50000 --data-only", ""),
    ("loss 1 %, acknowledgements too", "--rate 100 --delay 5 --loss 10000", ""),
    ("loss 1 %, 40 ms", "--rate 100 --delay 20 --loss 10000 --data-only", ""),
    ("loss 1 %, 1 ms", "--rate 100 --delay 0.5 --loss 10000 --data-only", ""),
    ("reordering 2 %", "--rate 100 --delay 5 --reorder 20000", ""),
    ("duplicates 2 %", "--rate 100 --delay 5 --duplicate 20000", ""),
    ("corruption 1 %", "--rate 100 --delay 5 --corrupt 10000", ""),
    ("jitter of 10 ms", "--rate 100 --delay 5 --jitter 10", ""),
    (
        "everything",
        "--rate 100 --delay 5 --jitter 2 --loss 5000 --duplicate 5000 --reorder 10000 --corrupt 2000",
        "",
    ),
    ("loss 1 %, no SACK", "--rate 100 --delay 5 --loss 10000 --data-only", "tcp_sack=0"),
    (
        "loss 1 %, no timestamps",
        "--rate 100 --delay 5 --loss 10000 --data-only",
        "tcp_timestamps=0",
    ),
    (
        "loss 1 %, no options",
        "--rate 100 --delay 5 --loss 10000 --data-only",
        "tcp_sack=0 tcp_timestamps=0 tcp_window_scaling=0",
    ),
];

/// Option of the load for one transfer of a direction.
const DIRECTIONS: [(&str, &str); 2] =
    [("download", "--bulk-downloads"), ("upload", "--bulk-uploads")];

const CONTENDERS: [Appliance; 2] = [Appliance::Understudy, Appliance::Kernel];

/// How long anything may take before the table is given up.
const PATIENCE: Duration = Duration::from_secs(30);

/// Between two looks at a load's progress, which tells every 200 ms.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Where a contender runs.
struct Stage<'a> {
    bed: &'a Bed,
    program: PathBuf,
    dir: PathBuf,
}

/// Prints the table.
pub fn run_all(args: &PeersArgs) -> anyhow::Result<()> {
    let program = std::env::current_exe()?.with_file_name("understudy");
    if !program.exists() {
        bail!("{} is not built; `cargo build -p tools` builds it", program.display());
    }
    let dir = std::env::temp_dir().join(format!("understudy-peers-{}", std::process::id()));
    let mut beds = Vec::new();
    for contender in CONTENDERS {
        let dir = dir.join(format!("{contender:?}"));
        std::fs::create_dir_all(&dir)?;
        beds.push((contender, Bed::new(&dir, false)?, dir));
    }
    let mut stages = Vec::new();
    let mut clusters = Vec::new();
    for (appliance, bed, dir) in &beds {
        let (appliance, program, dir) = (*appliance, program.clone(), dir.clone());
        let sockets = dir.clone();
        let setup = Setup {
            program: program.clone(),
            appliance,
            held: false,
            timers: "ci",
            cores: [1, 1],
            failback: None,
            arp: Arp::default(),
            snoop: Snoop::default(),
            dir,
            sockets,
            edits: Vec::new(),
        };
        let dir = setup.dir.clone();
        let mut cluster = Cluster::start(bed, setup)?;
        cluster.wait_protected(PATIENCE)?;
        clusters.push(cluster);
        let stage = Stage { bed, program, dir };
        lay(bed, Way::Client)?;
        stages.push(stage);
    }
    table(args, &stages)?;
    drop(clusters);
    drop(beds);
    std::fs::remove_dir_all(&dir).context("removing the logs")
}

fn table(args: &PeersArgs, stages: &[Stage<'_>]) -> anyhow::Result<()> {
    println!("{:<34} {:<9} {:>10} {:>8} {:>6}", "link", "", "understudy", "kernel", "ratio");
    for case in CASES.iter().filter(|case| case.0.contains(&args.only)) {
        for (direction, option) in DIRECTIONS {
            let mut figures = vec![Vec::new(); stages.len()];
            for round in 0..args.rounds {
                for (stage, figures) in stages.iter().zip(&mut figures) {
                    figures.push(stage.transfer(case, option, args.seconds, round)?);
                }
            }
            let [ours, theirs] = [median(&mut figures[0]), median(&mut figures[1])];
            let ratio = ours / theirs;
            println!("{:<34} {direction:<9} {ours:>10.1} {theirs:>8.1} {ratio:>6.2}", case.0);
            std::io::stdout().flush()?;
        }
    }
    Ok(())
}

impl Stage<'_> {
    fn sysctl(&self, place: Place, settings: &str) -> anyhow::Result<()> {
        for setting in settings.split_whitespace() {
            let setting = format!("net.ipv4.{setting}");
            run(self.bed.command(place, "sysctl").arg("-qw").arg(setting))?;
        }
        Ok(())
    }

    /// One transfer; what it moved, in Mbit/s.
    fn transfer(
        &self,
        (name, link, settings): &Case,
        option: &str,
        seconds: u64,
        round: u64,
    ) -> anyhow::Result<f64> {
        self.sysctl(Place::Client, "tcp_sack=1 tcp_timestamps=1 tcp_window_scaling=1")?;
        // What the kernel remembers of an earlier link would be no fair start.
        self.sysctl(Place::Client, "tcp_no_metrics_save=1")?;
        self.sysctl(Place::Client, settings)?;
        let link = format!("--seed {} {link}", round + 1);
        let relay = Relay::start(self.bed, &self.program, &self.dir, Way::Client, &link)?;
        let nothing = ["--downloads", "--uploads", "--bulk-downloads", "--bulk-uploads", "--echo"];
        let mut options = nothing.map(|name| (name, u64::from(name == option))).to_vec();
        // More than any link here moves, and the receive buffer as the kernel sees fit.
        options.extend([("--bulk-rate", 1_000_000_000), ("--receive-buffer", 0)]);
        options.extend([("--fresh-every-ms", 0), ("--seconds", seconds + 60)]);
        let mut load = Load::start_with(self.bed, &self.program, &self.dir, &options)?;
        let figure = measure(&load, seconds).with_context(|| format!("{name}, {option}"));
        load.signal(Signal::SIGKILL)?;
        // Its end is ours.
        let _ = load.finish();
        relay.finish()?;
        figure
    }
}

/// Payload per second from the first bytes on, in Mbit/s.
fn measure(load: &Load, seconds: u64) -> anyhow::Result<f64> {
    let since = |from: u64, is_so: &dyn Fn(&Progress) -> bool| {
        let limit = Instant::now() + PATIENCE + Duration::from_secs(seconds);
        loop {
            let progress = load.progress();
            if progress.failed > 0 {
                bail!("the transfer has failed");
            }
            if progress.at_ns > from && is_so(&progress) {
                return Ok(progress);
            }
            if Instant::now() > limit {
                bail!("the transfer does not get on: {progress:?}");
            }
            thread::sleep(LOOK_EVERY);
        }
    };
    let first = since(0, &|progress| progress.bytes > 0)?;
    let until = first.at_ns + seconds * 1_000_000_000;
    let last = since(first.at_ns, &|progress| progress.at_ns >= until)?;
    let moved = (last.bytes - first.bytes) as f64 * 8.0;
    Ok(moved * 1_000.0 / (last.at_ns - first.at_ns) as f64)
}

fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}
