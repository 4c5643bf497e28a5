//! A bad link between the client and the switch.
//!
//! ```text
//!   client eth0 ── client-eth0   [understudy impair]   relay-a ── relay-b ── br0 ── nodes
//! ```
//!
//! The client's cable is taken out of the bridge and joined to it again by `understudy impair`,
//! which runs beside the bridge. So both nodes lie behind the bad link, and a takeover happens on
//! it.

use std::io::{BufRead, BufReader, Lines};
use std::path::Path;
use std::process::{ChildStdout, Stdio};

use anyhow::{Context, bail};
use nix::sys::signal::Signal;

use super::bed::{Bed, Place, run};
use super::process::Process;
use crate::impair::{Line, Report};

/// The relay as a process in the switch's namespace.
#[derive(Debug)]
pub struct Relay {
    process: Process,
    lines: Lines<BufReader<ChildStdout>>,
}

/// Takes the client's cable out of the bridge and lays a second one beside it. From now on nothing
/// passes unless a [`Relay`] runs.
pub fn lay(bed: &Bed) -> anyhow::Result<()> {
    let queues = "numrxqueues 1 numtxqueues 1";
    let pair = format!("link add relay-a {queues} type veth peer name relay-b {queues}");
    let words = [&pair, "link set client-eth0 nomaster", "link set relay-a up"];
    for words in words.into_iter().chain(["link set relay-b master br0 up"]) {
        bed.ip(Place::Switch, words)?;
    }
    // Where bridges ask the packet filter, that drops packets whose headers were changed: they are
    // for the nodes to drop. (`-e`: where they do not, there is no such switch.)
    let unfiltered = ["-qew", "net.bridge.bridge-nf-call-iptables=0"];
    run(bed.command(Place::Switch, "sysctl").args(unfiltered))?;
    bed.plain(Place::Client, "eth0")?;
    bed.plain(Place::Switch, "relay-b")
}

impl Relay {
    /// Starts the relay with these options of `understudy impair`; it runs when this returns.
    pub fn start(bed: &Bed, program: &Path, dir: &Path, options: &str) -> anyhow::Result<Relay> {
        let log = dir.join("relay.log");
        let mut command = bed.command(Place::Switch, program);
        command.args(["impair", "--a", "client-eth0", "--b", "relay-a"]);
        command.args(options.split_whitespace());
        let errors = std::fs::File::options().create(true).append(true).open(&log)?;
        command.stdout(Stdio::piped()).stderr(errors);
        let mut process = Process::start("relay", command, Some(log))?;
        let output = process.take_stdout().context("the relay has no output")?;
        let mut relay = Relay { process, lines: BufReader::new(output).lines() };
        match relay.line()? {
            Line::Ready(_) => Ok(relay),
            Line::Counters(_) => bail!("the relay reports before it is ready"),
        }
    }

    /// What happened so far.
    pub fn report(&mut self) -> anyhow::Result<Report> {
        self.process.signal(Signal::SIGUSR1)?;
        self.counters()
    }

    /// Ends it; what happened in all.
    pub fn finish(mut self) -> anyhow::Result<Report> {
        self.process.signal(Signal::SIGTERM)?;
        let report = self.counters()?;
        self.process.wait()?;
        Ok(report)
    }

    fn counters(&mut self) -> anyhow::Result<Report> {
        match self.line()? {
            Line::Counters(report) => Ok(*report),
            Line::Ready(_) => bail!("the relay is ready twice"),
        }
    }

    fn line(&mut self) -> anyhow::Result<Line> {
        let Some(line) = self.lines.next() else {
            bail!("the relay has ended; {}", self.process.log_tail());
        };
        Ok(serde_json::from_str(&line?)?)
    }
}
