//! `understudy impair`: a bad network between two interfaces, for the tests and the benchmarks.
//!
//! Every frame that arrives at one interface leaves at the other, unless the seed says that it is
//! lost, changed, repeated, overtaken or late. What happens to a frame follows from the seed, the
//! direction and the frame's number alone ([`fate`]), so a failure can be had again; only the
//! timing is the machine's. Each direction has a thread, a raw socket to read from and one to write
//! to ([`wire`]) and an ordered queue of what is on its way ([`line`]). (Kernels are built without
//! netem often enough, ours among them.)
//!
//! ```text
//! a ── socket ── fate ── bottleneck (rate, queue) ── delay, jitter ── socket ── b
//! ```
//!
//! Standard output has one JSON line when both directions run (`{"ready": true}`), one with all
//! counters for each SIGUSR1, and one at the end (SIGTERM or SIGINT). Neither interface should have
//! addresses, and what sends to them must not leave work to hardware: `ethtool -K DEV tx off tso
//! off gso off` at the far ends.
//!
//! Units: `_ns` nanoseconds, `_ppm` parts of a million, `delay` and `jitter` milliseconds, `rate`
//! Mbit/s.

pub mod fate;
pub mod line;
mod relay;
pub mod wire;

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, JoinHandle};

use anyhow::{Context, anyhow};
use clap::{Args, ValueEnum};
use nix::sys::signal::{SigSet, Signal};
use serde::{Deserialize, Serialize};

use crate::load::report::Percentiles;
use fate::{Direction, Odds};
use line::{Counters, Shape};
use relay::{Account, Orders, Side};

/// Frames of the bottleneck's queue unless told otherwise: 12 ms at 1 Gbit/s and 1500 bytes.
const QUEUE_FRAMES: usize = 1_000;

/// Arguments of `understudy impair`.
#[derive(Args, Debug, Clone)]
pub struct ImpairArgs {
    /// One interface.
    #[arg(long)]
    pub a: String,
    /// The other one.
    #[arg(long)]
    pub b: String,
    /// What everything that happens to a frame is drawn from.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// What to do to the frames.
    #[command(flatten)]
    pub link: LinkArgs,
}

/// What a link does to its frames.
#[derive(Args, Debug, Clone, Default)]
pub struct LinkArgs {
    /// Frames lost, of a million.
    #[arg(long, default_value_t = 0, value_name = "PPM")]
    pub loss: u32,
    /// Frames sent twice, of a million.
    #[arg(long, default_value_t = 0, value_name = "PPM")]
    pub duplicate: u32,
    /// Frames that up to eight later ones overtake, of a million.
    #[arg(long, default_value_t = 0, value_name = "PPM")]
    pub reorder: u32,
    /// IP packets with up to three bits of one 16-bit word flipped, of a million. No checksum
    /// misses that. (ARP has none, so it is spared.)
    #[arg(long, default_value_t = 0, value_name = "PPM")]
    pub corrupt: u32,
    /// One-way delay.
    #[arg(long, default_value_t = 0.0, value_name = "MS")]
    pub delay: f64,
    /// Delay on top, evenly from nothing to this; frames stay in order.
    #[arg(long, default_value_t = 0.0, value_name = "MS")]
    pub jitter: f64,
    /// Rate of the bottleneck; 0 is none.
    #[arg(long, default_value_t = 0, value_name = "MBIT")]
    pub rate: u64,
    /// Frames that wait at the bottleneck at most; later ones are dropped.
    #[arg(long, default_value_t = QUEUE_FRAMES, value_name = "FRAMES")]
    pub queue: usize,
    /// The direction in which frames are lost, repeated, overtaken and changed. Delay and rate are
    /// those of both.
    #[arg(long, value_enum, default_value_t = Which::Both)]
    pub direction: Which,
    /// Lose, repeat, overtake and change only TCP segments with payload.
    #[arg(long)]
    pub data_only: bool,
}

/// A direction, or both.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Which {
    /// Both.
    #[default]
    Both,
    /// What comes in at `a`.
    AToB,
    /// What comes in at `b`.
    BToA,
}

/// A line of the output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Line {
    /// Both directions run.
    Ready(bool),
    /// What happened so far.
    Counters(Box<Report>),
}

/// What happened so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// From `a` to `b`.
    pub a_to_b: Counters,
    /// From `b` to `a`.
    pub b_to_a: Counters,
    /// Nanoseconds that frames left later than they should have, from `a` to `b`.
    pub a_to_b_late_ns: Percentiles,
    /// The same from `b` to `a`.
    pub b_to_a_late_ns: Percentiles,
}

/// Runs the subcommand until SIGTERM or SIGINT.
pub fn main(args: &ImpairArgs) -> ExitCode {
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("understudy impair: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &ImpairArgs) -> anyhow::Result<()> {
    let signals = SigSet::from_iter([Signal::SIGUSR1, Signal::SIGTERM, Signal::SIGINT]);
    // Before the threads start, so that they inherit it.
    signals.thread_block()?;
    let mut sides = [start(args, Direction::AToB)?, start(args, Direction::BToA)?];
    emit(&Line::Ready(true))?;
    while signals.wait()? == Signal::SIGUSR1 {
        for side in &sides {
            side.orders.report.store(true, Ordering::Relaxed);
        }
        emit(&report(&mut sides)?)?;
    }
    for side in &sides {
        side.orders.stop.store(true, Ordering::Relaxed);
    }
    emit(&report(&mut sides)?)
}

/// A direction that runs.
struct Running {
    orders: Arc<Orders>,
    accounts: Receiver<Account>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

fn start(args: &ImpairArgs, direction: Direction) -> anyhow::Result<Running> {
    let (from, to) = match direction {
        Direction::AToB => (&args.a, &args.b),
        Direction::BToA => (&args.b, &args.a),
    };
    let (odds, shape) = (args.link.odds(direction), args.link.shape());
    let mut side = Side::open(from, to, args.seed, direction, odds, shape)
        .with_context(|| format!("relaying from {from} to {to}"))?;
    let orders = Arc::new(Orders::default());
    let (sender, accounts) = channel();
    let told = orders.clone();
    let thread = Some(thread::spawn(move || side.run(&told, &sender)));
    Ok(Running { orders, accounts, thread })
}

fn report(sides: &mut [Running; 2]) -> anyhow::Result<Line> {
    let mut accounts = Vec::new();
    for side in sides {
        match side.accounts.recv() {
            Ok(account) => accounts.push(account),
            Err(_) => return Err(side.failure()),
        }
    }
    let [(a_to_b, a_to_b_late_ns), (b_to_a, b_to_a_late_ns)] = accounts[..] else {
        unreachable!("there are two directions");
    };
    let report = Report { a_to_b, b_to_a, a_to_b_late_ns, b_to_a_late_ns };
    Ok(Line::Counters(Box::new(report)))
}

impl Running {
    /// Why a direction has ended that was not told to.
    fn failure(&mut self) -> anyhow::Error {
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(Err(error))) => error,
            _ => anyhow!("a direction has ended"),
        }
    }
}

fn emit(line: &Line) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, line)?;
    out.write_all(b"\n")?;
    out.flush().context("writing the counters")
}

impl LinkArgs {
    /// What may happen to a frame in this direction.
    pub fn odds(&self, direction: Direction) -> Odds {
        let meant = match self.direction {
            Which::Both => true,
            Which::AToB => direction == Direction::AToB,
            Which::BToA => direction == Direction::BToA,
        };
        let ppm = |ppm: u32| if meant { ppm } else { 0 };
        Odds {
            loss_ppm: ppm(self.loss),
            duplicate_ppm: ppm(self.duplicate),
            reorder_ppm: ppm(self.reorder),
            corrupt_ppm: ppm(self.corrupt),
            jitter_ns: nanoseconds(self.jitter),
            data_only: self.data_only,
        }
    }

    /// How frames travel.
    pub fn shape(&self) -> Shape {
        Shape { delay_ns: nanoseconds(self.delay), rate_mbit: self.rate, queue_frames: self.queue }
    }
}

fn nanoseconds(milliseconds: f64) -> u64 {
    (milliseconds * 1_000_000.0) as u64
}

impl Report {
    /// Both directions added up.
    pub fn total(&self) -> Counters {
        self.a_to_b.plus(&self.b_to_a)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_direction_leaves_the_other_alone() {
        let link = LinkArgs { loss: 7, jitter: 1.5, direction: Which::AToB, ..LinkArgs::default() };
        assert_eq!(link.odds(Direction::AToB).loss_ppm, 7);
        assert_eq!(link.odds(Direction::BToA).loss_ppm, 0);
        assert_eq!(link.odds(Direction::BToA).jitter_ns, 1_500_000);
    }

    #[test]
    fn the_counters_read_back_as_written() {
        let counters = Counters { lost: 3, ..Counters::default() };
        let line = Line::Counters(Box::new(Report { a_to_b: counters, ..Report::default() }));
        let text = serde_json::to_string(&line).unwrap();
        assert_eq!(serde_json::from_str::<Line>(&text).unwrap(), line);
    }
}
