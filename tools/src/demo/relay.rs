//! A bad link between the switch and the client, or a node's end of the cluster link.
//!
//! ```text
//!   client eth0 ── client-eth0   [understudy impair]   relay-a ── relay-b ── br0 ── nodes
//! ```
//!
//! A cable is taken out of its bridge and joined to it again by `understudy impair`, which runs beside the bridge. With
//! the client's, both nodes lie behind the bad link, and a takeover happens on it; with a node's on the cluster
//! link, everything between it and the other node or the witness does.

use std::io::{BufRead, BufReader, Lines};
use std::path::Path;
use std::process::{ChildStdout, Stdio};

use anyhow::{Context, bail};
use nix::sys::signal::Signal;

use super::bed::{Bed, Place, run};
use super::process::Process;
use crate::impair::{Line, Report};

/// The cable that is bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The client's.
    Client,
    /// This node's on the cluster link.
    Cluster(u8),
}

impl Way {
    /// The far end, the switch's port, the bridge.
    fn ends(self) -> ((Place, &'static str), String, &'static str) {
        match self {
            Way::Client => ((Place::Client, "eth0"), "client-eth0".into(), "br0"),
            Way::Cluster(id) => ((Place::Node(id), "eth1"), format!("node{id}-eth1"), "br1"),
        }
    }
}

/// The relay as a process in the switch's namespace.
#[derive(Debug)]
pub struct Relay {
    process: Process,
    lines: Lines<BufReader<ChildStdout>>,
}

/// Takes the cable out of its bridge and lays a second one beside it. From now on nothing passes unless a [`Relay`]
/// runs. One cable of a bed can be bad at a time.
pub fn lay(bed: &Bed, way: Way) -> anyhow::Result<()> {
    let ((place, end), port, bridge) = way.ends();
    let queues = "numrxqueues 1 numtxqueues 1";
    let pair = format!("link add relay-a {queues} type veth peer name relay-b {queues}");
    let out = format!("link set {port} nomaster");
    let joined = format!("link set relay-b master {bridge} up");
    for words in [&pair, &out, "link set relay-a up", &joined] {
        bed.ip(Place::Switch, words)?;
    }
    // Where bridges ask the packet filter, that drops packets whose headers were changed: they are
    // for the nodes to drop. (`-e`: where they do not, there is no such switch.)
    let unfiltered = ["-qew", "net.bridge.bridge-nf-call-iptables=0"];
    run(bed.command(Place::Switch, "sysctl").args(unfiltered))?;
    bed.plain(place, end)?;
    bed.plain(Place::Switch, "relay-b")
}

impl Relay {
    /// Starts the relay with these options of `understudy impair`; it runs when this returns.
    pub fn start(
        bed: &Bed,
        program: &Path,
        dir: &Path,
        way: Way,
        options: &str,
    ) -> anyhow::Result<Relay> {
        let log = dir.join("relay.log");
        let mut command = bed.command(Place::Switch, program);
        command.args(["impair", "--a", &way.ends().1, "--b", "relay-a"]);
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
