//! What works inside a namespace: clients over the kernel's TCP, generators of frames.
//!
//! A hand is this program started again. It does one thing, says what it found out as one line of JSON
//! and ends; its exit code is 0 if it could do it.

use std::net::SocketAddrV4;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use serde::Serialize;
use tools::bench::bulk::{self, Stream};

use crate::{flood, flows, pingpong, smol};

/// Arguments of a hand.
#[derive(Args, Debug)]
pub struct HandArgs {
    /// The processor to run on.
    #[arg(long)]
    cpu: u16,
    #[command(subcommand)]
    work: Work,
}

#[derive(Subcommand, Debug)]
enum Work {
    /// Reads as fast as it can.
    Download(Stream),
    /// Writes as fast as it can.
    Upload(Stream),
    /// Uploads a little and compares the hash that comes back.
    Prove {
        /// The web service.
        #[arg(long)]
        target: SocketAddrV4,
    },
    /// Small exchanges, one after another.
    Pingpong {
        /// The echo service.
        #[arg(long)]
        target: SocketAddrV4,
        /// Bytes of each.
        #[arg(long)]
        bytes: usize,
        /// How many.
        #[arg(long)]
        count: usize,
    },
    /// Opens flows and leaves them alone.
    Flows {
        /// The service.
        #[arg(long)]
        target: SocketAddrV4,
        /// The node's Ethernet address.
        #[arg(long)]
        mac: String,
        /// How many.
        #[arg(long)]
        count: u32,
    },
    /// Says SYN from everywhere.
    Flood {
        /// The service.
        #[arg(long)]
        target: SocketAddrV4,
        /// The node's Ethernet address.
        #[arg(long)]
        mac: String,
        /// SYNs a second.
        #[arg(long)]
        rate: u32,
        /// How long.
        #[arg(long)]
        seconds: u64,
    },
    /// Connects again and again.
    Connects {
        /// The web service.
        #[arg(long)]
        target: SocketAddrV4,
        /// How often.
        #[arg(long)]
        count: u32,
        /// Spread over so long.
        #[arg(long)]
        seconds: u64,
    },
    /// Serves over smoltcp's TCP, in a node's namespace, until it is killed.
    Smoltcp,
}

/// Does its work.
pub fn main(args: &HandArgs) -> ExitCode {
    let outcome = pin(args.cpu).and_then(|()| match &args.work {
        Work::Download(stream) => said(bulk::download(stream)),
        Work::Upload(stream) => said(bulk::upload(stream)),
        Work::Prove { target } => said(bulk::prove(*target)),
        Work::Pingpong { target, bytes, count } => {
            said(pingpong::exchange(*target, *bytes, *count))
        }
        Work::Flows { target, mac, count } => said(flows::open(*target, mac, *count)),
        Work::Flood { target, mac, rate, seconds } => {
            said(flood::flood(*target, mac, *rate, *seconds))
        }
        Work::Connects { target, count, seconds } => {
            said(flood::connects(*target, *count, *seconds))
        }
        Work::Smoltcp => said(smol::serve()),
    });
    match outcome {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("beside hand: {error:#}");
            ExitCode::from(1)
        }
    }
}

fn said<T: Serialize>(outcome: anyhow::Result<T>) -> anyhow::Result<String> {
    Ok(serde_json::to_string(&outcome?)?)
}

fn pin(cpu: u16) -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    set.set(usize::from(cpu))?;
    sched_setaffinity(Pid::from_raw(0), &set)
        .with_context(|| format!("cannot run on processor {cpu} alone"))
}
