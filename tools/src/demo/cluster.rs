//! Witness and nodes as processes in the bed: start, find the owner, kill it, bring it back.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use dataplane::control::status::Status;
use dataplane::control::{self, Reply, Request};
use nix::sys::signal::Signal;

use super::bed::{Arp, Bed, ECHO_ADDRESS, Place, SERVERS_ADDRESS, SERVICE_ADDRESS, Snoop, WITNESS};
use super::files::{self, NodeFiles, SERVICES, Services};
use super::process::Process;
use super::servers::{self, REAL};
use super::status::{self, Takeover};
use super::{Appliance, KillMode};
use crate::load::wire::monotonic_ns;

/// Between two looks at a status.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What is started, and where its files go.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The program `understudy`.
    pub program: PathBuf,
    /// What serves.
    pub appliance: Appliance,
    /// What is passed on is acknowledged once the peer holds it, not end to end.
    pub held: bool,
    /// The set of timers of nodes and witness, as the configuration names it.
    pub timers: &'static str,
    /// Cores of the first two nodes; the bed has as many queues. Others have one.
    pub cores: [u8; 2],
    /// How the services' addresses move between the nodes.
    pub arp: Arp,
    /// How frames for the owner reach its peer as well.
    pub snoop: Snoop,
    /// How services go back to a home that has returned, as the configuration calls it.
    pub failback: Option<&'static str>,
    /// Configuration, store and logs.
    pub dir: PathBuf,
    /// The nodes' control sockets; a short path.
    pub sockets: PathBuf,
    /// What is written in the nodes' files, and what shall stand there instead.
    pub edits: Vec<(String, String)>,
}

/// The processes under test.
#[derive(Debug)]
pub struct Cluster<'a> {
    bed: &'a Bed,
    setup: Setup,
    files: Vec<NodeFiles>,
    nodes: Vec<Process>,
    witness: Option<Process>,
    /// To whom the nodes pass their connections on.
    servers: Vec<Process>,
}

impl<'a> Cluster<'a> {
    /// Writes the configuration and starts witness and nodes.
    pub fn start(bed: &'a Bed, setup: Setup) -> anyhow::Result<Cluster<'a>> {
        let count = *bed.nodes().end();
        let appliance = setup.appliance;
        let backend = (appliance == Appliance::Proxy).then_some(SERVERS_ADDRESS);
        let Setup { dir, sockets, timers, cores, arp, snoop, held, failback, .. } = &setup;
        let (held, failback) = (*held, *failback);
        let services = Services { arp: *arp, snoop: *snoop, backend, held, failback };
        let files = files::write(dir, sockets, timers, count, *cores, services)?;
        files::edit(&files, &setup.edits)?;
        let nodes = Vec::new();
        let mut cluster = Cluster { bed, setup, files, nodes, witness: None, servers: Vec::new() };
        match appliance {
            Appliance::Understudy | Appliance::Proxy | Appliance::Failback => {
                if appliance == Appliance::Proxy {
                    cluster.start_servers()?;
                }
                cluster.start_witness()?;
                for id in bed.nodes() {
                    let node = cluster.spawn(id)?;
                    cluster.nodes.push(node);
                }
            }
            Appliance::Kernel => {
                let node = cluster.serve_plainly(1)?;
                cluster.nodes.push(node);
            }
        }
        Ok(cluster)
    }

    /// Starts what the nodes pass connections on to.
    fn start_servers(&mut self) -> anyhow::Result<()> {
        self.servers = servers::start(self.bed, &self.setup.dir)?;
        let args = ["load", "serve", "--listen", SERVERS_ADDRESS];
        let serve = self.bed.spawn(Place::Servers, "serve", &self.setup.program, &args)?;
        self.servers.push(serve);
        Ok(())
    }

    /// Names of the services.
    pub fn services(&self) -> impl Iterator<Item = &'static str> {
        let real = if self.setup.appliance == Appliance::Proxy { &REAL[..] } else { &[] };
        let names = SERVICES.into_iter().map(|(name, ..)| name);
        names.chain(real.iter().map(|real| real.name))
    }

    /// Starts the witness, with the store that it may have left.
    pub fn start_witness(&mut self) -> anyhow::Result<()> {
        let key = files::write_key(&self.setup.dir)?;
        self.start_witness_under(&[key])
    }

    /// The same under these keys; unsealed without any.
    pub fn start_witness_under(&mut self, keys: &[PathBuf]) -> anyhow::Result<()> {
        let store = self.setup.dir.join("witness.store").display().to_string();
        let timers = self.setup.timers;
        let mut args = vec!["witness", "--listen", WITNESS, "--store", &store];
        args.extend(["--cluster", files::CLUSTER, "--timers", timers, "--bootstrap"]);
        let keys: Vec<String> = keys.iter().map(|key| key.display().to_string()).collect();
        args.extend(keys.iter().flat_map(|key| ["--key", key]));
        if keys.is_empty() {
            args.push("--unsealed");
        }
        let witness = self.bed.spawn(Place::Witness, "witness", &self.setup.program, &args)?;
        self.witness = Some(witness);
        Ok(())
    }

    /// Kills the witness and waits for its end.
    pub fn kill_witness(&mut self) -> anyhow::Result<()> {
        let Some(mut witness) = self.witness.take() else { return Ok(()) };
        witness.signal(Signal::SIGKILL)?;
        witness.wait().map(drop)
    }

    /// Stops the witness: it answers nobody until it is let run on, and then reads what was sent to it meanwhile.
    pub fn stop_witness(&mut self) -> anyhow::Result<()> {
        self.witness.as_mut().context("no witness runs")?.stop()
    }

    /// Lets a stopped witness run on.
    pub fn resume_witness(&mut self) -> anyhow::Result<()> {
        self.witness.as_mut().context("no witness runs")?.signal(Signal::SIGCONT)
    }

    /// Waits until every service has an owner and is protected; returns the owner of the first.
    pub fn wait_protected(&mut self, bound: Duration) -> anyhow::Result<u8> {
        if self.setup.appliance == Appliance::Kernel {
            return self.wait_listening(bound);
        }
        let limit = Instant::now() + bound;
        loop {
            let seen: Vec<(u8, anyhow::Result<Status>)> =
                self.bed.nodes().map(|id| (id, self.status(id))).collect();
            let owner = |service: &str| {
                let mut known =
                    seen.iter().filter_map(|(id, seen)| Some((*id, seen.as_ref().ok()?)));
                known.find(|(_, status)| status::serves_protected(status, service))
            };
            if self.services().all(|name| owner(name).is_some())
                && let Some((owner, _)) = owner(SERVICES[0].0)
            {
                return Ok(owner);
            }
            self.still_running()?;
            if Instant::now() > limit {
                let seconds = bound.as_secs();
                let last = seen.iter().map(|(id, seen)| match seen {
                    Ok(status) => format!("  node {id}: {}\n", status::in_words(status)),
                    Err(error) => format!("  node {id}: {error:#}\n"),
                });
                let last: String = last.collect();
                bail!("not protected within {seconds} s; last seen:\n{last}{}", self.logs());
            }
            thread::sleep(LOOK_EVERY);
        }
    }

    /// Waits until a node says so of itself.
    pub fn wait_for(
        &mut self,
        id: u8,
        what: &str,
        bound: Duration,
        is_so: impl Fn(&Status) -> bool,
    ) -> anyhow::Result<()> {
        let limit = Instant::now() + bound;
        while !self.status(id).is_ok_and(|status| is_so(&status)) {
            if Instant::now() > limit {
                let last = self.status(id).map(|status| status::in_words(&status));
                let last = last.unwrap_or_else(|error| format!("{error:#}"));
                bail!("node {id} does not {what} within {bound:?}: {last}\n{}", self.logs());
            }
            thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// Has a node asked to hand a service over.
    pub fn order(&self, at: u8, service: &str, to: u8) -> anyhow::Result<()> {
        let service = service.to_string();
        let order = Request::Handover { service, to, epoch: None, force: false };
        match control::ask(self.socket(at), &order)? {
            Reply::Error { message } => bail!("{message}"),
            _ => Ok(()),
        }
    }

    /// Does to a node what the mode says; returns the moment, `CLOCK_MONOTONIC`.
    pub fn kill(&mut self, owner: u8, mode: KillMode) -> anyhow::Result<u64> {
        let moment = monotonic_ns();
        match mode {
            KillMode::Sigkill => self.node(owner).signal(Signal::SIGKILL)?,
            KillMode::Sigstop => self.node(owner).signal(Signal::SIGSTOP)?,
            KillMode::Power => {
                self.bed.node(owner).cut()?;
                self.node(owner).signal(Signal::SIGKILL)?;
            }
            KillMode::None => {}
        }
        if self.setup.appliance == Appliance::Kernel && mode != KillMode::None {
            self.bed.node(owner).run("ip", &["link", "set", "eth0", "down"])?;
            let node = self.serve_plainly(2)?;
            self.nodes.push(node);
        }
        Ok(moment)
    }

    /// Sends a signal to a node.
    pub fn signal(&mut self, id: u8, signal: Signal) -> anyhow::Result<()> {
        self.node(id).signal(signal)
    }

    /// Stops a node, and waits until none of its threads runs any more.
    pub fn stop(&mut self, id: u8) -> anyhow::Result<()> {
        self.node(id).stop()
    }

    /// Waits for the end of a killed node.
    pub fn wait_gone(&mut self, id: u8) -> anyhow::Result<()> {
        self.node(id).wait().map(drop)
    }

    /// Lets a stopped node run on.
    pub fn resume(&mut self, id: u8) -> anyhow::Result<()> {
        self.node(id).signal(Signal::SIGCONT)
    }

    /// Brings a dead node back.
    pub fn revive(&mut self, id: u8, mode: KillMode) -> anyhow::Result<()> {
        if self.setup.appliance == Appliance::Kernel
            || matches!(mode, KillMode::None | KillMode::Sigstop)
        {
            return Ok(());
        }
        self.wait_gone(id)?;
        if mode == KillMode::Power {
            self.bed.node(id).restore()?;
        }
        let node = self.spawn(id)?;
        self.nodes[usize::from(id) - 1] = node;
        Ok(())
    }

    /// The last takeovers as the survivor of `dead` tells them.
    pub fn takeovers(&self, dead: u8) -> Vec<Takeover> {
        let survivors = self.bed.nodes().filter(|id| *id != dead);
        let told = survivors.filter_map(|id| self.status(id).ok());
        told.flat_map(|status| status::takeovers(&status)).collect()
    }

    fn spawn(&self, id: u8) -> anyhow::Result<Process> {
        let config = &self.files[usize::from(id) - 1].config;
        self.bed.node(id).spawn(&self.setup.program, &["run".as_ref(), config.as_os_str()])
    }

    /// A kernel server that holds the address.
    fn serve_plainly(&self, id: u8) -> anyhow::Result<Process> {
        let node = self.bed.node(id);
        for address in [SERVICE_ADDRESS, ECHO_ADDRESS] {
            node.run("ip", &["addr", "add", &format!("{address}/24"), "dev", "eth0"])?;
        }
        // The kernel announces its addresses when the interface gets another MAC.
        node.run("sysctl", &["-qw", "net.ipv4.conf.eth0.arp_notify=1"])?;
        let mac = format!("02:00:00:88:00:0{id}");
        node.run("ip", &["link", "set", "eth0", "address", &mac])?;
        node.spawn(&self.setup.program, &["load", "serve", "--listen", "0.0.0.0"])
    }

    fn wait_listening(&mut self, bound: Duration) -> anyhow::Result<u8> {
        let limit = Instant::now() + bound;
        let owner = self.nodes.len() as u8;
        while self.bed.node(owner).run("curl", &["-sfo/dev/null", &plain_url()]).is_err() {
            self.still_running()?;
            if Instant::now() > limit {
                bail!("the plain server does not answer\n{}", self.logs());
            }
            thread::sleep(LOOK_EVERY);
        }
        Ok(owner)
    }

    /// What a node says of itself.
    pub fn status(&self, id: u8) -> anyhow::Result<Status> {
        status::read(&self.files[usize::from(id) - 1].socket)
    }

    /// A node's configuration file; what is written there is read when the node starts again.
    pub fn config(&self, id: u8) -> &std::path::Path {
        &self.files[usize::from(id) - 1].config
    }

    /// A node's control socket.
    pub fn socket(&self, id: u8) -> &std::path::Path {
        &self.files[usize::from(id) - 1].socket
    }

    fn node(&mut self, id: u8) -> &mut Process {
        &mut self.nodes[usize::from(id) - 1]
    }

    fn still_running(&mut self) -> anyhow::Result<()> {
        let others = self.witness.iter_mut().chain(&mut self.servers);
        for process in self.nodes.iter_mut().chain(others) {
            if let Some(status) = process.ended()? {
                let (name, log) = (process.name(), process.log_tail());
                return Err(anyhow!("{name} has ended ({status}); {log}"));
            }
        }
        Ok(())
    }

    /// How the logs of all end.
    pub fn logs(&self) -> String {
        let others = self.witness.iter().chain(&self.servers);
        self.nodes.iter().chain(others).map(Process::log_tail).collect()
    }
}

fn plain_url() -> String {
    format!("http://{SERVICE_ADDRESS}/generate/16?seed=1")
}
