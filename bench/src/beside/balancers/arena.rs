//! A bed with servers in it, and one balancer at a time before them.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail};
use dataplane::control::status::Status;
use nix::sys::signal::Signal;
use serde::de::DeserializeOwned;
use tools::demo::bed::{Layout, Place, SERVERS_ADDRESS, run};
use tools::demo::process::Process;

use super::rival::{Ask, PAGES_FILE, Rival, nginx_pages};
use super::usage::{Counts, Look, Usage};
use super::vigil;
use crate::config::{NodeSetup, PROXIED, Serves};
use crate::stage::{Contender, Server, Stage};
use crate::{Common, Seal};

/// Connections that a node has room for: what a run closes stays for a minute.
const FLOWS: u32 = 131_072;

/// Seconds that a client may take beside the time for which it measures, until it is ended: one turn is lost then, not all.
const PATIENCE_SECS: u64 = 30;

/// From this MTU on, balancers of the kernel may leave cutting and checksums to the cable.
const OFFLOADS_FROM_MTU: u32 = 4_000;

/// See the module.
pub struct Arena<'a> {
    /// Bed and nodes.
    pub stage: Stage<'a>,
    common: &'a Common,
    servers: Vec<Process>,
    /// Seconds after which a client that has not ended is ended.
    patience_secs: u64,
}

/// A balancer that is ready; it is ended when this is dropped.
pub struct Standing<'a> {
    /// Who.
    pub rival: Rival,
    arena: &'a Arena<'a>,
    process: Option<Process>,
    /// Nodes of ours.
    pub nodes: Option<Server<'a>>,
}

/// Of the kernel's TCP wherever it ends connections.
const PORTS: &str = "net.ipv4.ip_local_port_range=1024 65000";

/// Of its congestion controls the one that a distribution has by itself, whatever this machine's is: a BBR sender paces, and then
/// costs and lumps are its timer's. A machine may not allow it to namespaces; to their routes it may not refuse it.
const CONGESTION_CONTROL: &str = "congctl cubic";

impl<'a> Arena<'a> {
    /// Builds the bed, `name` is the directory of its files, and starts the servers. Clients measure for `ms` milliseconds.
    pub fn new(common: &'a Common, name: &str, mtu: u32, ms: u64) -> anyhow::Result<Arena<'a>> {
        // A jumbo frame's record needs room for its headers on the cluster's link.
        let link_mtu = if mtu >= OFFLOADS_FROM_MTU { 9216 } else { 1500 };
        let layout = Layout { mtu, link_mtu, ..Layout::default() };
        let stage = Stage::new(common, name, layout)?;
        if mtu < OFFLOADS_FROM_MTU {
            for place in [Place::Client, Place::Servers, Place::Node(1)] {
                stage.bed.plain(place, "eth0")?;
            }
        }
        for place in [Place::Client, Place::Servers, Place::Node(1)] {
            run(stage.bed.command(place, "sysctl").args(["-qw", PORTS]))?;
            let show = ["-4", "route", "show", "dev", "eth0"];
            for route in run(stage.bed.command(place, "ip").args(show))?.lines() {
                stage
                    .bed
                    .ip(place, &format!("route change {route} dev eth0 {CONGESTION_CONTROL}"))?;
            }
        }
        let patience_secs = PATIENCE_SECS + ms / 1_000;
        let mut arena = Arena { stage, common, servers: Vec::new(), patience_secs };
        arena.receive_elsewhere()?;
        arena.start_servers()?;
        Ok(arena)
    }

    /// What the balancing machine has sent is received on the processor of clients and servers, as by machines of their own:
    /// a virtual cable would have it received on the sender's, and charge a balancer with what they do.
    fn receive_elsewhere(&self) -> anyhow::Result<()> {
        let processors = 1u64 << self.common.client_cpu;
        for port in ["node1-eth0", "node1-eth1"] {
            let file = format!("/sys/class/net/{port}/queues/rx-0/rps_cpus");
            let words = format!("echo {processors:x} > {file}");
            run(self.stage.bed.command(Place::Switch, "sh").args(["-c", &words]))?;
        }
        Ok(())
    }

    /// How a node is set up.
    pub fn setup(&self, rival: Rival, flows: u32) -> NodeSetup {
        let line = if rival == Rival::Held { "ack = \"held\"" } else { "" };
        let serves = Serves::Passing(line);
        let hears = rival == Rival::Hearing;
        let mut setup = NodeSetup { flows, idle_secs: 3_600, serves, hears, ..self.stage.setup() };
        if rival == Rival::Unsealed {
            setup.seal = Seal::None;
        }
        setup
    }

    /// Starts a balancer and waits until it serves.
    pub fn start(&self, rival: Rival) -> anyhow::Result<Standing<'_>> {
        let standing = self.start_with(rival, &self.setup(rival, FLOWS))?;
        // The next of its kind writes over them.
        let kept = self.stage.dir().join(rival.name());
        fs::create_dir_all(&kept)?;
        for name in rival.files() {
            fs::copy(self.stage.dir().join(name), kept.join(name))?;
        }
        Ok(standing)
    }

    /// The same with nodes that are set up like this.
    pub fn start_with(&self, rival: Rival, setup: &NodeSetup) -> anyhow::Result<Standing<'_>> {
        // A node reads frames as they are; a kernel may leave checksums to its cable.
        let tx = if rival.is_ours() { "off" } else { "on" };
        let port = ["-K", "node1-eth0", "tx", tx];
        run(self.stage.bed.command(Place::Switch, "ethtool").args(port))?;
        let mut standing = Standing { rival, arena: self, process: None, nodes: None };
        match rival {
            Rival::Direct => {}
            Rival::Nat => bail!("it stands only where a machine dies"),
            Rival::Haproxy | Rival::Nginx => {
                let command = rival.command(self.stage.dir())?;
                let cpu = self.common.server_cpu;
                let process = self.spawn(Place::Node(1), rival.name(), cpu, &command)?;
                standing.process = Some(process);
                let port = rival.target(Ask::Objects).port();
                self.stage.wait_listening(Place::Node(1), port, standing.process.as_mut())?;
            }
            Rival::Alone => standing.nodes = Some(self.stage.start_with(Contender::Alone, setup)?),
            Rival::Mirrored | Rival::Held | Rival::Unsealed | Rival::Hearing => {
                standing.nodes = Some(self.stage.start_with(Contender::Mirrored, setup)?);
            }
        }
        let prove = ["bulk", "prove"].map(String::from);
        let target = format!("--target={}", rival.target(Ask::Objects));
        let _: serde_json::Value = self.ask(&[prove.as_slice(), &[target]].concat())?;
        Ok(standing)
    }

    /// Runs `understudy bench WORDS --json` as the client; what it found out.
    pub fn ask<T: DeserializeOwned>(&self, words: &[String]) -> anyhow::Result<T> {
        let (program, cpu) = (self.stage.program(), self.common.client_cpu.to_string());
        let mut command = self.stage.bed.command(Place::Client, "timeout");
        command.args(["-k", "1", &self.patience_secs.to_string(), "taskset", "-c", &cpu]);
        command.arg(program).arg("bench").args(words).arg("--json");
        let output = command.output().context("cannot start a client")?;
        let text = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr);
            bail!("`understudy bench {}` failed: {text}{why}", words.join(" "));
        }
        serde_json::from_str(&text).with_context(|| format!("a client said {text:?}"))
    }

    /// Starts a program pinned to a processor.
    pub fn spawn(
        &self,
        place: Place,
        name: &str,
        cpu: u16,
        command: &[String],
    ) -> anyhow::Result<Process> {
        let mut words = vec!["-c".to_string(), cpu.to_string()];
        words.extend_from_slice(command);
        self.stage.bed.spawn(place, name, "taskset".as_ref(), &words)
    }

    fn start_servers(&mut self) -> anyhow::Result<()> {
        let dir = self.stage.dir();
        let file = dir.join(PAGES_FILE);
        fs::write(&file, nginx_pages(dir))?;
        let program = self.stage.program().display().to_string();
        let serve = ["load", "serve", "--listen", SERVERS_ADDRESS].map(String::from);
        let commands: [(&str, Vec<String>); 2] = [
            ("pages", ["nginx", "-e", "stderr", "-c", &path(&file)].map(String::from).into()),
            ("serve", [[program].as_slice(), serve.as_slice()].concat()),
        ];
        for (name, command) in commands {
            let process = self.spawn(Place::Servers, name, self.common.client_cpu, &command)?;
            self.servers.push(process);
        }
        for (_, _, _, port) in PROXIED {
            self.stage.wait_listening(Place::Servers, port, None)?;
        }
        Ok(())
    }
}

impl Drop for Arena<'_> {
    fn drop(&mut self) {
        for process in &mut self.servers {
            // The bed ends what this has not.
            let _ = process.signal(Signal::SIGTERM);
            let _ = process.wait();
        }
    }
}

impl Standing<'_> {
    /// What has been spent so far.
    pub fn usage(&self) -> anyhow::Result<Usage> {
        let node = match &self.nodes {
            None => None,
            Some(nodes) => Some(Counts::of(&nodes.status(1)?)),
        };
        let common = self.arena.common;
        let processors = [common.server_cpu, common.client_cpu];
        Usage::of(&Look { pids: [1, 2].map(|node| self.pids(node)), processors, node })
    }

    /// What both nodes of a pair say; of others nothing.
    pub fn pair_says(&self) -> anyhow::Result<Option<[Status; 2]>> {
        let nodes = self.nodes.as_ref().filter(|_| vigil::PAIRS.contains(&self.rival));
        nodes.map(|nodes| Ok([nodes.status(1)?, nodes.status(2)?])).transpose()
    }

    /// Processes of a node's machine.
    pub fn pids(&self, node: u8) -> Vec<i32> {
        self.arena.stage.bed.pids(Place::Node(node))
    }
}

impl Drop for Standing<'_> {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.signal(Signal::SIGTERM);
            let _ = process.wait();
        }
    }
}

fn path(path: &Path) -> String {
    path.display().to_string()
}
