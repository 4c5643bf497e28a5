//! `understudy load`: clients that know every byte they should see, for the demo and the tests.
//!
//! One thread and one `epoll` drive all connections over the kernel's own TCP, so that a thousand
//! paced connections cost a few per cent of a core and the machine under test keeps the rest. Every
//! byte is checked against the generator, and every connection notes when its bytes made progress;
//! the times are `CLOCK_MONOTONIC`, which all network namespaces share, so whoever starts the load
//! can lay the moment of a kill beside them. Results leave as JSON lines on standard output:
//! `{"progress": …}` every 200 ms and one `{"result": …}` at the end.
//!
//! Units: times in nanoseconds (`_ns`), rates in bytes per second.

pub mod download;
pub mod echo;
pub mod engine;
pub mod fresh;
pub mod http;
pub mod pattern;
pub mod report;
pub mod series;
pub mod serve;
pub mod track;
pub mod upload;
pub mod wire;

use std::net::Ipv4Addr;
use std::process::ExitCode;

use clap::{Args, Subcommand};

/// Arguments of `understudy load`.
#[derive(Args, Debug, Clone)]
pub struct LoadArgs {
    /// What to be: the clients, or a plain kernel server to try them against.
    #[command(subcommand)]
    pub role: Role,
}

/// What to be.
#[derive(Subcommand, Debug, Clone)]
pub enum Role {
    /// Drive clients against an address and report what became of each connection.
    Run(RunArgs),
    /// Serve http (80), echo (7) and discard (9) over the kernel's TCP.
    Serve(ServeArgs),
}

/// How many clients of which kind, and how fast.
#[derive(Args, Debug, Clone)]
pub struct RunArgs {
    /// Address of the http service.
    #[arg(long)]
    pub target: Ipv4Addr,
    /// Address of the echo service, if it is another one.
    #[arg(long)]
    pub echo_target: Option<Ipv4Addr>,
    /// Paced downloads.
    #[arg(long, default_value_t = 50)]
    pub downloads: u32,
    /// Paced uploads.
    #[arg(long, default_value_t = 50)]
    pub uploads: u32,
    /// Rate of each paced connection, bytes per second.
    #[arg(long, default_value_t = 100_000)]
    pub rate: u64,
    /// Milliseconds between two steps of a paced or fast connection: the more connections, the longer, or the clients'
    /// machine has more to do than it can.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    pub pace_ms: u64,
    /// Milliseconds between two steps of a paced download whose server (`understudy load serve`) waits between them; 0: the
    /// client waits, who reads it at that pace into a receive buffer that holds little more.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=1_000))]
    pub server_pace_ms: u64,
    /// Fast downloads.
    #[arg(long, default_value_t = 1)]
    pub bulk_downloads: u32,
    /// Fast uploads.
    #[arg(long, default_value_t = 1)]
    pub bulk_uploads: u32,
    /// Rate of each fast connection, bytes per second.
    #[arg(long, default_value_t = 4_000_000)]
    pub bulk_rate: u64,
    /// Echo connections, one round every millisecond.
    #[arg(long, default_value_t = 4)]
    pub echo: u32,
    /// Milliseconds between two fresh connections; 0 opens none.
    #[arg(long, default_value_t = 5)]
    pub fresh_every_ms: u64,
    /// Receive buffer of each download in bytes, instead of one that fits its rate; 0: as the kernel
    /// sees fit.
    #[arg(long)]
    pub receive_buffer: Option<usize>,
    /// How long the load lasts, in seconds.
    #[arg(long, default_value_t = 12)]
    pub seconds: u64,
}

/// Where the plain server listens.
#[derive(Args, Debug, Clone)]
pub struct ServeArgs {
    /// Address to listen on.
    #[arg(long)]
    pub listen: Ipv4Addr,
}

/// Runs the subcommand. Exit code 0: it ran (the report says what it saw); 1: it could not run.
pub fn main(args: &LoadArgs) -> ExitCode {
    let outcome = match &args.role {
        Role::Run(run) => engine::run(run, engine::emit).map(drop),
        Role::Serve(serve) => serve::serve(serve.listen),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("understudy load: {error:#}");
            ExitCode::from(1)
        }
    }
}
