//! `beside`: the appliance side by side with the kernel, on one machine.
//!
//! ```text
//! beside SUBJECT -> stage (namespaces, contenders) -> hands (clients inside a namespace) -> report
//! ```
//!
//! A *subject* is what is measured (`beside/bulk.rs` and its neighbours), a *contender* is who serves:
//! the kernel's TCP, smoltcp's over our ports, a node alone, or a node with a peer. Contenders take turns within each round, so that
//! what else happens on the machine happens to all; figures are medians over the rounds, ratios are made
//! within a round. Progress goes to standard error, the table (or JSON) to standard output, and every
//! figure into one file of `--out`.
//!
//! Exit code 0: every goal was met. 1: at least one was not. 2: it could not be measured.

mod balancers;
mod bulk;
mod config;
mod crash;
mod flood;
mod flows;
mod hand;
mod handover;
mod held;
mod lossy;
mod maker;
mod moving;
mod pingpong;
mod proxied;
mod refill;
mod report;
mod smol;
mod stage;
mod standstill;

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand};

use report::Report;

#[derive(Parser)]
#[command(name = "beside", about = "Measures the appliance side by side with the kernel.")]
struct Cli {
    #[command(subcommand)]
    subject: Subject,
}

#[derive(Subcommand)]
enum Subject {
    /// HAProxy, nginx, nobody, a node and a pair before the same service: rates, latencies, costs, takeovers; one report.
    #[command(mut_arg("rounds", |arg| arg.default_value(balancers::ROUNDS)), mut_arg("out", |arg| arg.default_value("out/bench")))]
    Balancers(balancers::BalancersArgs),
    /// One connection at full speed, down and up.
    Bulk(bulk::BulkArgs),
    /// Small exchanges on one connection: how long each takes.
    Pingpong(pingpong::PingpongArgs),
    /// A SYN flood, while transfers run and others want to connect.
    Flood(flood::FloodArgs),
    /// What an idle flow takes on owner and peer.
    Flows(flows::FlowsArgs),
    /// What an idle proxied connection takes on owner and peer; all of them outlive the owner.
    Proxied(proxied::ProxiedArgs),
    /// A large owner is killed while connections run.
    Crash(crash::CrashArgs),
    /// A peer that comes back is filled while small exchanges run.
    Refill(refill::RefillArgs),
    /// Owner and peer change places while connections run.
    Handover(handover::HandoverArgs),
    /// One download over a long link that loses data.
    Lossy(lossy::LossyArgs),
    /// Works inside a namespace for the other subcommands.
    #[command(hide = true)]
    Hand(hand::HandArgs),
}

/// What protects the cluster link.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seal {
    /// Sealed datagrams, as an appliance has them.
    Noise,
    /// Nothing: what sealing costs is the difference.
    None,
}

/// Processor of the clients unless the command line says otherwise.
pub const CLIENT_CPU: u16 = 0;

/// And that of the server.
pub const SERVER_CPU: u16 = 1;

/// What every subject takes.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// How often each contender has its turn.
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// Print the figures as JSON instead of a table.
    #[arg(long)]
    pub json: bool,
    /// Where figures, logs and configuration files go.
    #[arg(long, default_value = "out/beside")]
    pub out: PathBuf,
    /// The program `understudy`. Not given: it is built, and lies beside this program.
    #[arg(long)]
    pub program: Option<PathBuf>,
    /// What protects the cluster link of a mirrored contender.
    #[arg(long, value_enum, default_value_t = Seal::Noise)]
    pub seal: Seal,
    /// Processor of the clients.
    #[arg(long, default_value_t = CLIENT_CPU)]
    pub client_cpu: u16,
    /// Processor of the server: the kernel's program, or the owner's poll core.
    #[arg(long, default_value_t = SERVER_CPU)]
    pub server_cpu: u16,
    /// Processor of the peer's poll core. Not given: that of the clients on a machine with two.
    #[arg(long)]
    pub peer_cpu: Option<u16>,
}

impl Common {
    /// Processor of the peer's poll core.
    pub fn peer_cpu(&self) -> u16 {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        self.peer_cpu.unwrap_or(if processors > 2 { 2 } else { self.client_cpu })
    }

    /// Paths made whole, and the program under test found or built.
    fn prepared(mut self) -> anyhow::Result<Common> {
        std::fs::create_dir_all(&self.out)
            .with_context(|| format!("cannot make {}", self.out.display()))?;
        self.out = self.out.canonicalize()?;
        let program = match self.program.take() {
            Some(program) => program,
            None => built()?,
        };
        self.program = Some(program.canonicalize().with_context(|| {
            format!("there is no {}: build it with `cargo build --release`", program.display())
        })?);
        Ok(self)
    }
}

/// The program `understudy` beside this one, fresh if cargo started this one.
fn built() -> anyhow::Result<PathBuf> {
    let mine = std::env::current_exe()?;
    if let Ok(cargo) = std::env::var("CARGO") {
        let mut build = Command::new(cargo);
        build.args(["build", "-q", "-p", "tools", "--bin", "understudy"]);
        if !cfg!(debug_assertions) {
            build.arg("--release");
        }
        if !build.status().context("cannot start cargo")?.success() {
            bail!("building understudy failed");
        }
    }
    Ok(mine.with_file_name("understudy"))
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().subject {
        Subject::Hand(args) => return hand::main(&args),
        Subject::Balancers(args) => balancers::run(&args),
        Subject::Bulk(args) => present(args.common.clone(), |common| bulk::run(&args, common)),
        Subject::Pingpong(args) => {
            present(args.common.clone(), |common| pingpong::run(&args, common))
        }
        Subject::Flood(args) => present(args.common.clone(), |common| flood::run(&args, common)),
        Subject::Lossy(args) => present(args.common.clone(), |common| lossy::run(&args, common)),
        Subject::Crash(args) => present(args.common.clone(), |common| crash::run(&args, common)),
        Subject::Proxied(args) => {
            present(args.common.clone(), |common| proxied::run(&args, common))
        }
        Subject::Refill(args) => present(args.common.clone(), |common| refill::run(&args, common)),
        Subject::Handover(args) => {
            present(args.common.clone(), |common| handover::run(&args, common))
        }
        Subject::Flows(args) => present(args.common.clone(), |common| flows::run(&args, common)),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("beside: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Measures, saves and prints; whether every goal was met.
fn present(
    common: Common,
    measure: impl FnOnce(&Common) -> anyhow::Result<Report>,
) -> anyhow::Result<bool> {
    let common = common.prepared()?;
    let report = measure(&common)?;
    let json = serde_json::to_string_pretty(&report)? + "\n";
    let file = common.out.join(format!("{}.json", report.subject));
    std::fs::write(&file, &json).with_context(|| format!("cannot write {}", file.display()))?;
    tools::print(if common.json { &json } else { &report.text }.as_str());
    eprintln!("Figures: {}", file.display());
    Ok(report.passed)
}
