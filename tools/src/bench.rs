//! `understudy bench`: clients that load a service and say how it did.
//!
//! Each kind of load answers one question: how many connections or requests a service takes (`connect`, `request`),
//! how long a small message takes (`pingpong`), how fast bytes move (`bulk`), whether they are right and when they stand
//! still (`paced`), what it costs to hold connections that say nothing (`idle`).
//!
//! Without `--rate` the loop is closed: each connection begins its next exchange when the last one has ended. With
//! `--rate` it is open: exchanges have an intended time whatever became of those before, and their latency counts from
//! there. So a server that stands still for a second is charged with everything that was due in it, not with one slow
//! answer (what is known as coordinated omission).
//!
//! One thread and one `epoll` drive all connections over the kernel's own TCP.
//!
//! Units: times in nanoseconds (`_ns`).

pub mod bulk;
pub mod engine;
pub mod idle;
pub mod lane;
pub mod outcome;
pub mod paced;
pub mod schedule;
#[cfg(test)]
mod tests;

use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::print;
use outcome::Outcome;

/// Arguments of `understudy bench`.
#[derive(Args, Debug, Clone)]
#[command(
    after_help = "Exit codes: 0 measured and nothing went wrong, 1 an exchange failed or it could not be \
measured, 2 wrong usage.\n\nExamples:\n  understudy load serve --listen 127.0.0.1                # something to \
measure\n  understudy bench request --target 127.0.0.1:80 --path '/generate/256?seed=1' --rate 2000\n  understudy \
bench pingpong --target 127.0.0.1:7 --hgrm pingpong.hgrm"
)]
pub struct BenchArgs {
    /// What the clients do.
    #[command(subcommand)]
    pub kind: Kind,
}

/// What the clients do.
#[derive(Subcommand, Debug, Clone)]
pub enum Kind {
    /// A new connection for every HTTP request; the server closes it.
    Connect(HttpArgs),
    /// HTTP requests on connections that stay.
    Request(HttpArgs),
    /// Small messages to an echo service, every byte of the echo compared.
    Pingpong(PingpongArgs),
    /// One connection at full speed.
    Bulk(bulk::BulkArgs),
    /// Paced downloads and uploads, every byte verified; how long each stood still.
    Paced(paced::PacedArgs),
    /// Connections that are opened and then say nothing.
    Idle(idle::IdleArgs),
}

/// HTTP requests.
#[derive(Args, Debug, Clone)]
pub struct HttpArgs {
    /// Where, how many and how long.
    #[command(flatten)]
    pub load: LoadArgs,
    /// What is asked for.
    #[arg(long, default_value = "/")]
    pub path: String,
    /// Connections at the same time.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    pub connections: u32,
}

/// Small messages.
#[derive(Args, Debug, Clone)]
pub struct PingpongArgs {
    /// Where, how many and how long.
    #[command(flatten)]
    pub load: LoadArgs,
    /// Bytes of a message.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub bytes: u32,
    /// Connections at the same time.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub connections: u32,
}

/// What every load of exchanges takes.
#[derive(Args, Debug, Clone)]
pub struct LoadArgs {
    /// The service.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub target: SocketAddrV4,
    /// Exchanges a second (an open loop). Not given: as many as the connections manage (a closed loop).
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub rate: Option<u32>,
    /// How long is measured.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 5_000)]
    pub ms: u64,
    /// How long it runs before that.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 500)]
    pub warm_ms: u64,
    /// Print the outcome as JSON.
    #[arg(long)]
    pub json: bool,
    /// Write the distribution of latencies to a file, as HdrHistogram's plotters read it.
    #[arg(long, value_name = "FILE")]
    pub hgrm: Option<PathBuf>,
}

/// Runs the subcommand.
pub fn main(args: &BenchArgs) -> ExitCode {
    let outcome = match &args.kind {
        Kind::Connect(args) => exchange("connect", &args.load, args.plan(true)),
        Kind::Request(args) => exchange("request", &args.load, args.plan(false)),
        Kind::Pingpong(args) => {
            let talk = lane::Talk::Echo { bytes: args.bytes as usize };
            exchange("pingpong", &args.load, (talk, args.connections))
        }
        Kind::Bulk(args) => bulk::main(args),
        Kind::Paced(args) => paced::main(args),
        Kind::Idle(args) => idle::main(args),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("understudy bench: {error:#}");
            ExitCode::from(1)
        }
    }
}

impl HttpArgs {
    fn plan(&self, closes: bool) -> (lane::Talk, u32) {
        let (path, host) = (&self.path, self.load.target);
        let connection = if closes { "Connection: close\r\n" } else { "" };
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{connection}\r\n").into();
        (lane::Talk::Http { request, closes }, self.connections)
    }
}

/// Exchanges, then what they came to; whether all went well.
fn exchange(kind: &str, args: &LoadArgs, plan: (lane::Talk, u32)) -> anyhow::Result<bool> {
    let measured = engine::run(args, plan.0, plan.1)?;
    if let Some(file) = &args.hgrm {
        std::fs::write(file, outcome::hgrm(&measured.latency))?;
    }
    let outcome = Outcome::new(kind, args, measured);
    let text = if args.json { outcome.json()? } else { outcome.to_string() };
    print(&text);
    Ok(outcome.failed == 0)
}
