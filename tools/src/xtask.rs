//! `cargo xtask`: what developers run that is not part of the appliance.
//!
//! Exit codes: 0 all is well; 1 the check found mistakes, or could not run.

#[path = "xtask/defects.rs"]
mod defects;
#[path = "xtask/peers.rs"]
mod peers;
#[path = "xtask/promises.rs"]
mod promises;
#[path = "xtask/rfc.rs"]
mod rfc;
#[path = "xtask/scenario.rs"]
mod scenario;

use clap::Parser;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

#[derive(Parser)]
#[command(name = "cargo xtask")]
enum Task {
    /// Checks that every requirement which stack/RFC.md claims has a test.
    Rfc,
    /// Plays whole clusters, each from a seed, with something going wrong again and again; `sim --help` says how.
    Sim {
        /// What the simulator is told.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Plants one deliberate defect after the other and lets the simulator find it.
    Defects(defects::DefectsArgs),
    /// Checks that every test and place named in README.md, tests/SPECIFICATION.md, cluster/HAZARDS.md and ARCHITECTURE.md exists.
    Promises,
    /// Plays named stories and prints what came of them.
    Scenario(scenario::ScenarioArgs),
    /// Measures goodput through bad links beside the kernel's own. Needs root.
    Peers(peers::PeersArgs),
}

fn main() -> ExitCode {
    match Task::parse() {
        Task::Rfc => check_rfc(),
        Task::Sim { args } => run_sim(&args),
        Task::Defects(args) => match defects::run(&root(), &args) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => {
                eprintln!("At least one defect was not found.");
                ExitCode::FAILURE
            }
            Err(error) => {
                eprintln!("cargo xtask defects: {error:#}");
                ExitCode::FAILURE
            }
        },
        Task::Promises => check_promises(),
        Task::Scenario(args) => match scenario::run(&root(), &args) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => {
                eprintln!("cargo xtask scenario: {error:#}");
                ExitCode::FAILURE
            }
        },
        Task::Peers(args) => match peers::run_all(&args) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("cargo xtask peers: {error:#}");
                ExitCode::FAILURE
            }
        },
    }
}

/// The simulator is a program of the crate that may see all others; it is built for speed.
fn run_sim(args: &[String]) -> ExitCode {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["run", "--profile", "sim", "-q", "-p", "tests", "--bin", "sim", "--"]).args(args);
    match cargo.status() {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("cargo cannot be run: {error}.");
            ExitCode::FAILURE
        }
    }
}

/// The root of the tree.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn check_promises() -> ExitCode {
    let report = match promises::check(&root()) {
        Ok(report) => report,
        Err(error) => {
            eprintln!("The documents or the sources cannot be read: {error}.");
            return ExitCode::FAILURE;
        }
    };
    println!("{} promises, hazards and claims; {} tests pending.", report.rows, report.pending);
    for mistake in &report.mistakes {
        eprintln!("{mistake}");
    }
    if report.mistakes.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn check_rfc() -> ExitCode {
    let report = match rfc::check(&root()) {
        Ok(report) => report,
        Err(error) => {
            eprintln!("stack/RFC.md or the sources cannot be read: {error}.");
            return ExitCode::FAILURE;
        }
    };
    println!(
        "stack/RFC.md: {} requirements in, {} partly, {} out, {} not applicable; {} tests named.",
        report.rows_in,
        report.rows_partly,
        report.rows_out,
        report.rows_not_applicable,
        report.tests,
    );
    for mistake in &report.mistakes {
        eprintln!("{mistake}");
    }
    if report.mistakes.is_empty() {
        return ExitCode::SUCCESS;
    }
    eprintln!("{} mistakes: write the test, or say in the table why not.", report.mistakes.len());
    ExitCode::FAILURE
}
