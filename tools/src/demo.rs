//! `understudy demo`: the promise, shown on one machine.
//!
//! A client, servers, a switch, two nodes and a witness as network namespaces; real clients speak
//! with real servers through the service, beside many paced connections; the owner is killed in the
//! middle; every byte is compared, and the gap of every connection is measured by the clients
//! themselves.
//!
//! Exit code 0: every connection survived, byte-exact. 1: some did not. 2: the demo itself could
//! not run.

pub mod bed;
pub mod client;
pub mod cluster;
pub mod curl;
pub mod dialogue;
mod failback;
pub mod files;
pub mod html;
mod narrator;
pub mod outcome;
pub mod process;
pub mod relay;
pub mod servers;
pub mod status;
pub mod story;
pub mod table;
pub mod text;
pub mod voices;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use anyhow::Context;
use clap::{Args, ValueEnum};

use ::cluster::limits::CORES_MAX;
use bed::{Snoop, Teardown};
use outcome::{RunOutcome, Summary};
use table::Table;

/// What the signal handler has to remove.
static STANDING: Mutex<Option<Arc<Teardown>>> = Mutex::new(None);

/// Arguments of `understudy demo`.
#[derive(Args, Debug, Clone)]
pub struct DemoArgs {
    /// What happens to the owner in the middle of the load.
    #[arg(long, value_enum, default_value_t = KillMode::Sigkill)]
    pub kill: KillMode,
    /// Paced connections, half downloads and half uploads.
    #[arg(long, default_value_t = 100)]
    pub connections: u32,
    /// Bytes of each curl transfer.
    #[arg(long, default_value_t = 200 * 1024 * 1024)]
    pub size: u64,
    /// How long the transfers last, in seconds; the kill comes in the middle. Default: 10, or what the story takes.
    #[arg(long, value_parser = clap::value_parser!(u64).range(4..=300))]
    pub seconds: Option<u64>,
    /// How often the whole story is told.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub runs: u32,
    /// Leave the namespaces standing at the end and say how to enter them.
    #[arg(long)]
    pub keep: bool,
    /// Print the outcome as JSON instead of a table.
    #[arg(long)]
    pub json: bool,
    /// Where logs, configuration files and the report go.
    #[arg(long, default_value = "out/demo")]
    pub out: PathBuf,
    /// Poll cores of each node: one number for both, or two with a comma.
    #[arg(long, default_value = "1", value_name = "N[,M]")]
    pub cores: NodeCores,
    /// The peer listens to what clients say to the owner, which reaches it in this way: what was on the wire when the owner
    /// died need not be said again.
    #[arg(long, value_enum, default_value_t = Snoop::Off, value_name = "WAY")]
    pub snoop: Snoop,
    /// What serves: the appliance before real servers, the appliance itself, or plain kernel servers for comparison
    /// (their connections die). `failback`: the killed node returns and gets its connections back, then the other is killed.
    #[arg(long = "story", visible_alias = "appliance", value_enum, default_value_t = Appliance::Proxy)]
    pub appliance: Appliance,
    /// Instead of one story, many and a table: what a small request costs in each way of hearing. `--runs` for each row.
    #[arg(long, value_enum, conflicts_with_all = ["kill", "snoop", "appliance", "keep"])]
    pub table: Option<Table>,
    /// With `--table`: only this row, `sigkill:flooded` say; may be repeated.
    #[arg(long = "row", value_name = "KILL:WAY", value_parser = table::cell, requires = "table")]
    pub cells: Vec<table::Cell>,
    /// What is passed on is acknowledged once the peer holds it (`ack = "held"`), not end to end.
    #[arg(long)]
    pub held: bool,
}

/// Poll cores of node 1 and node 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeCores(pub [u8; 2]);

impl std::str::FromStr for NodeCores {
    type Err = String;

    fn from_str(text: &str) -> Result<NodeCores, String> {
        let number = |text: &str| match text.trim().parse() {
            Ok(cores) if (1..=CORES_MAX).contains(&cores) => Ok(cores),
            _ => Err(format!("{text:?} is no number of cores: give 1 to {CORES_MAX}")),
        };
        let (first, second) = text.split_once(',').unwrap_or((text, text));
        Ok(NodeCores([number(first)?, number(second)?]))
    }
}

/// What happens to the owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum KillMode {
    /// The process is killed.
    Sigkill,
    /// The process is stopped, and continued two seconds later, when it is no longer the owner.
    Sigstop,
    /// Both cables are cut, then the process is killed.
    Power,
    /// Nothing: what the load looks like in peace.
    None,
}

/// What serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Appliance {
    /// `understudy run`, passing every connection on: to nginx, redis, sshd and a WebSocket for real clients, to
    /// `understudy load serve` for the load.
    Proxy,
    /// `understudy run`, serving generated objects and echoes itself.
    Understudy,
    /// The same, and services go back to a home that has returned.
    Failback,
    /// `understudy load serve`, with the address moved by hand.
    Kernel,
}

impl DemoArgs {
    /// How long the transfers last.
    fn transfers_last(&self) -> u64 {
        let usual = if self.appliance == Appliance::Failback { failback::SECONDS } else { 10 };
        self.seconds.unwrap_or(usual)
    }
}

/// Runs the demo.
pub fn main(args: &DemoArgs) -> ExitCode {
    match run(args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("understudy demo: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(args: &DemoArgs) -> anyhow::Result<bool> {
    std::fs::create_dir_all(&args.out)
        .with_context(|| format!("cannot make {}", args.out.display()))?;
    let out = args.out.canonicalize()?;
    ctrlc::set_handler(|| {
        clear_up();
        std::process::exit(130);
    })?;
    if args.table.is_some() {
        return tabulate(args, &out);
    }
    let mut runs: Vec<RunOutcome> = Vec::new();
    for number in 1..=args.runs {
        let told = story::tell(args, &out, number);
        forget_standing();
        runs.push(told?);
        if args.runs > 1 && !args.json {
            print!("{}", text::one_line(number, &runs[runs.len() - 1]));
        }
    }
    let summary = Summary::of(runs);
    if args.json {
        println!("{}", serde_json::to_string_pretty(&summary)?);
    } else {
        print!("{}", text::report(&summary));
    }
    let page = out.join("report.html");
    std::fs::write(&page, html::page(&summary))?;
    eprintln!("Picture: {}", page.display());
    Ok(summary.passed())
}

fn tabulate(args: &DemoArgs, out: &Path) -> anyhow::Result<bool> {
    let rows = table::play(args, out, |row| {
        eprint!("{}", table::render(std::slice::from_ref(row)));
    })?;
    match args.json {
        true => println!("{}", serde_json::to_string_pretty(&rows)?),
        false => print!("{}", table::render(&rows)),
    }
    Ok(table::passed(&rows))
}

/// Nothing stands any more.
fn forget_standing() {
    STANDING.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
}

/// Tells the signal handler what stands.
fn standing(teardown: Arc<Teardown>) {
    *STANDING.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(teardown);
}

fn clear_up() {
    let standing = STANDING.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
    if let Some(teardown) = standing {
        teardown.run();
    }
}
