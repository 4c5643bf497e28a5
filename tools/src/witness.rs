//! `understudy witness`: the keeper of the registers.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use cluster::seal::{KEYS_MAX, Key};
use dataplane::config::{TimerSet, Timers};
use dataplane::node::cluster_id;
use dataplane::sealing::read_key;
use dataplane::witness::WitnessProcess;

use crate::manager;

/// Arguments of `understudy witness`.
#[derive(Args, Debug, Clone)]
#[command(
    after_help = "SIGTERM ends it: nobody is served worse while it is away, but ownership cannot change.\n\n\
                  Exit codes: 1 it could not start, or its store cannot be written (the reason is on standard error), 2 wrong \
                  usage."
)]
pub struct WitnessArgs {
    /// UDP address and port to listen on, as `cluster.witness` of the nodes names it.
    #[arg(long)]
    pub listen: SocketAddr,
    /// The file that holds the registers; written durably before every answer.
    #[arg(long)]
    pub store: PathBuf,
    /// The cluster's name, as the nodes' configuration has it.
    #[arg(long)]
    pub cluster: String,
    /// The set of timers that the nodes use.
    #[arg(long, value_enum, default_value_t = Set::Isolated)]
    pub timers: Set,
    /// The file with the cluster's key, as `understudy keygen` has made it; twice while the cluster changes keys, the new
    /// one first.
    #[arg(long = "key", value_name = "FILE", required_unless_present = "unsealed")]
    pub keys: Vec<PathBuf>,
    /// Seal nothing, as nodes with `seal = "none"` do: whoever reaches the cluster link can change the registers.
    #[arg(long, conflicts_with = "keys")]
    pub unsealed: bool,
    /// Begin with an empty store. Only for the first start of a new cluster: with an empty store in
    /// place of a lost one, two nodes could own the same service.
    #[arg(long)]
    pub bootstrap: bool,
}

/// A set of timers by name.
#[derive(ValueEnum, Clone, Copy, Debug)]
pub enum Set {
    /// Pinned cores that nobody else uses.
    Isolated,
    /// Several nodes on two shared cores.
    Bed,
    /// A busy build machine.
    Ci,
}

/// Runs the witness until it is ended.
pub fn main(args: &WitnessArgs) -> ExitCode {
    let timers = Timers::of(match args.timers {
        Set::Isolated => TimerSet::Isolated,
        Set::Bed => TimerSet::Bed,
        Set::Ci => TimerSet::Ci,
    });
    let id = cluster_id(&args.cluster);
    let keys = match keys(&args.keys) {
        Ok(keys) => keys,
        Err(message) => return fail(&message),
    };
    let with = (timers.values(), &keys[..]);
    let opened = WitnessProcess::open(args.listen, &args.store, id, with, args.bootstrap);
    let mut witness = match opened {
        Ok(witness) => witness,
        Err(error) => return fail(&error.to_string()),
    };
    if let Some(warning) = witness.warning() {
        eprintln!("warning: {warning}");
    }
    eprintln!("witness of {} on {}, store {}", args.cluster, args.listen, args.store.display());
    match keys.first() {
        Some(key) => eprintln!("sealed under key {}", key.id()),
        None => eprintln!("NOT SEALED: whoever reaches the cluster link can change the registers"),
    }
    manager::ready();
    loop {
        if let Err(error) = witness.poll() {
            return fail(&error.to_string());
        }
    }
}

fn keys(files: &[PathBuf]) -> Result<Vec<Key>, String> {
    if files.len() > KEYS_MAX {
        return Err(format!(
            "{} keys; give one, or two while the cluster changes them",
            files.len()
        ));
    }
    let read = |file: &PathBuf| {
        read_key(file).map_err(|reason| format!("the key file {}: {reason}", file.display()))
    };
    files.iter().map(read).collect()
}

fn fail(message: &str) -> ExitCode {
    eprintln!("error: {message}");
    ExitCode::FAILURE
}
