//! Connections that are opened and then say nothing.
//!
//! When all are open a line says so; they stay until the time is over or this process is ended. With `--ask` they stay until
//! standard input ends; then each says its first word, an HTTP request, and has to be answered. Where connections come
//! from one address there are at most as many as it has free ports.

use std::io::{self, Read, Write};
use std::net::{SocketAddrV4, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Context, ensure};
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
    /// They stay until standard input ends instead; then each asks for this path and has to be answered.
    #[arg(long, value_name = "PATH", conflicts_with = "ms")]
    pub ask: Option<String>,
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

/// All connections have asked.
#[derive(Debug, Serialize, Deserialize)]
pub struct Answered {
    /// How many were answered.
    pub answered: u32,
}

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Opens, says so, and holds; whether all are there, and were answered if they asked.
pub fn main(args: &IdleArgs) -> anyhow::Result<bool> {
    raise_descriptors(u64::from(args.connections))?;
    let mut held = Vec::with_capacity(args.connections as usize);
    for number in 1..=args.connections {
        let stream = TcpStream::connect(args.target)
            .with_context(|| format!("connection {number} of {}", args.connections))?;
        held.push(stream);
    }
    let open = held.len() as u32;
    tell(args, &Open { open }, format!("{open} connections are open"))?;
    let Some(path) = &args.ask else {
        thread::sleep(Duration::from_millis(args.ms));
        return Ok(true);
    };
    io::copy(&mut io::stdin(), &mut io::sink())?;
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", args.target);
    let mut answered = 0;
    for (number, stream) in (1..).zip(held) {
        match ask(stream, &request) {
            Ok(()) => answered += 1,
            Err(error) => eprintln!("connection {number} of {open}: {error:#}"),
        }
    }
    tell(args, &Answered { answered }, format!("{answered} of {open} were answered"))?;
    Ok(answered == open)
}

fn tell(args: &IdleArgs, found: &impl Serialize, words: String) -> anyhow::Result<()> {
    let line = if args.json { serde_json::to_string(found)? } else { words };
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// One request, whose answer ends the connection.
fn ask(mut stream: TcpStream, request: &str) -> anyhow::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).context("no whole answer")?;
    let head = String::from_utf8_lossy(&answer[..answer.len().min(64)]).into_owned();
    ensure!(head.starts_with("HTTP/1.1 200 "), "the answer begins with {head:?}");
    Ok(())
}
