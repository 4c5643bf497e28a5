//! One download over a link that is long and loses data, on purpose and from a seed.
//!
//! Between client and node lies `understudy impair`: half of the round-trip time each way, and of the node's
//! segments with payload so many of a million are lost. The same seed and the same order of turns for all:
//! each turn has a relay of its own, which begins at frame one.
//!
//! Units: samples are Mbit/s of payload.

use std::io::{BufRead, BufReader, Lines};
use std::process::{ChildStdout, Stdio};

use anyhow::{Context, bail};
use clap::Args;
use nix::sys::signal::Signal;
use tools::bench::bulk::Moved;
use tools::demo::bed::{Cable, Layout, Place};
use tools::demo::process::Process;
use tools::impair::{Line, Report as Impaired};

use crate::Common;
use crate::bulk::places;
use crate::report::{Bound, Case, Fact, Report};
use crate::stage::{Contender, Service, Stage};

/// Of the kernel's goodput.
const GOAL: f64 = 0.9;

/// Arguments of `beside lossy`.
#[derive(Args, Clone, Debug)]
pub struct LossyArgs {
    #[command(flatten)]
    pub common: Common,
    /// Round-trip time of the link, in milliseconds.
    #[arg(long, default_value_t = 20)]
    rtt: u32,
    /// Segments lost, of a million.
    #[arg(long, default_value_t = 10_000)]
    loss: u32,
    /// How long each download is measured, in seconds. Goodput under loss has a long memory: a short turn says
    /// little.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Who serves besides the kernel.
    #[arg(long, value_enum, default_value_t = Versus::Alone)]
    versus: Versus,
    /// What the losses of the first round are drawn from; the next round has the next.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Who serves besides the kernel.
#[derive(clap::ValueEnum, Clone, Copy, Debug)]
enum Versus {
    /// A node alone.
    Alone,
    /// A pair.
    Mirrored,
}

/// Measures.
pub fn run(args: &LossyArgs, common: &Common) -> anyhow::Result<Report> {
    let ours = match args.versus {
        Versus::Alone => Contender::Alone,
        Versus::Mirrored => Contender::Mirrored,
    };
    let contenders = [Contender::Kernel, ours];
    let name = format!("download, {} ms, {} of a million lost", args.rtt, args.loss);
    let case = Case::new(name, "Mbit/s", &contenders.map(Contender::name));
    let mut case = case.goal(ours.name(), Bound::AtLeast(GOAL));
    let layout = Layout { cable: Cable::Relayed, ..Layout::default() };
    let stage = Stage::new(common, "lossy", layout)?;
    let (mut lost, mut passed) = (0, 0);
    for round in 1..=common.rounds {
        for contender in contenders {
            let name = contender.name();
            let relay = Relay::start(&stage, args, u64::from(round))?;
            let server = stage.start(contender).with_context(|| name.to_string())?;
            let words = [
                "download".into(),
                format!("--target={}", server.target(Service::Web)),
                format!("--ms={}", args.seconds * 1000),
            ];
            let moved: Moved = stage.ask(&words).with_context(|| name.to_string())?;
            let goodput = moved.gigabits() * 1000.0;
            case.add(name, goodput);
            let counters = relay.finish()?;
            lost += counters.b_to_a.lost;
            passed += counters.b_to_a.frames_in;
            eprintln!("round {round} of {}: {name}, {goodput:.1} Mbit/s", common.rounds);
        }
    }
    if lost == 0 {
        bail!("the link lost nothing, so nothing was measured");
    }
    let conditions =
        vec![format!("{} rounds of {} s each.", common.rounds, args.seconds), places(common)];
    let share = lost as f64 * 1e6 / passed as f64;
    let facts = vec![Fact::new("frames lost, of a million from the node", share, "")];
    Ok(Report::new("lossy", conditions, vec![case], facts))
}

/// The bad link; it is ended when this is dropped.
struct Relay {
    process: Process,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Relay {
    fn start(stage: &Stage<'_>, args: &LossyArgs, round: u64) -> anyhow::Result<Relay> {
        let mut command = stage.bed.command(Place::Switch, stage.program());
        command.args(["impair", "--a", "client-eth0", "--b", "node1-eth0"]);
        command.args(["--direction", "b-to-a", "--data-only"]);
        for (name, value) in [
            ("--seed", (args.seed + round - 1).to_string()),
            ("--loss", args.loss.to_string()),
            ("--delay", format!("{}", f64::from(args.rtt) / 2.0)),
        ] {
            command.args([name, &value]);
        }
        command.stdout(Stdio::piped());
        let mut process = Process::start("relay", command, None)?;
        let output = process.take_stdout().context("the relay has no output")?;
        let mut relay = Relay { process, lines: BufReader::new(output).lines() };
        match relay.line()? {
            Line::Ready(_) => Ok(relay),
            Line::Counters(_) => bail!("the relay reports before it is ready"),
        }
    }

    /// Ends it; what happened in all.
    fn finish(mut self) -> anyhow::Result<Impaired> {
        self.process.signal(Signal::SIGTERM)?;
        match self.line()? {
            Line::Counters(report) => Ok(*report),
            Line::Ready(_) => bail!("the relay is ready twice"),
        }
    }

    fn line(&mut self) -> anyhow::Result<Line> {
        let line = self.lines.next().context("the relay has ended")?;
        Ok(serde_json::from_str(&line?)?)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.process.signal(Signal::SIGKILL);
        let _ = self.process.wait();
    }
}
