//! Connections that are opened and then say nothing.
//!
//! When all are open a line says so; they stay until the time is over or this process is ended. Where connections come from
//! one address there are at most as many as it has free ports.

use std::io::Write;
use std::net::{SocketAddrV4, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use serde::{Deserialize, Serialize};

use super::engine::raise_descriptors;

/// Arguments of `understudy bench idle`.
#[derive(Args, Debug, Clone)]
pub struct IdleArgs {
    /// The service.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub target: SocketAddrV4,
    /// How many.
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub connections: u32,
    /// How long they stay once all are open.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 10_000)]
    pub ms: u64,
    /// Print the line as JSON.
    #[arg(long)]
    pub json: bool,
}

/// All connections are open.
#[derive(Debug, Serialize, Deserialize)]
pub struct Open {
    /// How many.
    pub open: u32,
}

/// Opens, says so, and holds; whether all are there.
pub fn main(args: &IdleArgs) -> anyhow::Result<bool> {
    raise_descriptors(u64::from(args.connections))?;
    let mut held = Vec::with_capacity(args.connections as usize);
    for number in 1..=args.connections {
        let stream = TcpStream::connect(args.target)
            .with_context(|| format!("connection {number} of {}", args.connections))?;
        held.push(stream);
    }
    let open = held.len() as u32;
    let line = match args.json {
        true => serde_json::to_string(&Open { open })?,
        false => format!("{open} connections are open"),
    };
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()?;
    thread::sleep(Duration::from_millis(args.ms));
    Ok(true)
}
