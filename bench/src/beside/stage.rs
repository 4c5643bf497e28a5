//! Where contenders serve, one at a time: a bed of namespaces, the server in its node, clients in theirs.

use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use dataplane::control::status::{GroupStatus, Protection, Role, Status};
use dataplane::control::{self, Reply, Request};
use nix::sys::signal::Signal;
use serde::de::DeserializeOwned;
use tools::demo::bed::{Bed, Layout, Place, WITNESS, run};
use tools::demo::files::write_key;
use tools::demo::process::Process;
use tools::demo::status;

use crate::config::{self, CLUSTER, NodeSetup, SERVICES, Serves, TIMERS};
use crate::report::KERNEL;
use crate::smol;
use crate::{Common, Seal};

/// How long anything may take to be ready.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// How long a server may take to listen.
const LISTENING_WITHIN: Duration = Duration::from_secs(10);

/// Between two looks at something that will come.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Who serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contender {
    /// A plain program over the kernel's TCP.
    Kernel,
    /// smoltcp's TCP over the same AF_XDP port as a node's.
    Smoltcp,
    /// One node without a peer.
    Alone,
    /// Two nodes: the second holds the copies.
    Mirrored,
}

impl Contender {
    /// In the order of their turns.
    pub const ALL: [Contender; 4] =
        [Contender::Kernel, Contender::Smoltcp, Contender::Alone, Contender::Mirrored];

    /// As reports name it.
    pub fn name(self) -> &'static str {
        match self {
            Contender::Kernel => KERNEL,
            Contender::Smoltcp => "smoltcp",
            Contender::Alone => "alone",
            Contender::Mirrored => "mirrored",
        }
    }

    /// Names of all.
    pub fn names() -> [&'static str; 4] {
        Contender::ALL.map(Contender::name)
    }
}

/// What a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Generated objects, uploads answered with their hash.
    Web,
    /// Every byte comes back.
    Echo,
    /// Every byte is forgotten.
    Discard,
}

/// A standing bed.
pub struct Stage<'a> {
    /// Its namespaces.
    pub bed: Bed,
    common: &'a Common,
    dir: PathBuf,
}

/// A contender that is ready; it is ended when this is dropped.
pub struct Server<'a> {
    stage: &'a Stage<'a>,
    contender: Contender,
    processes: Vec<Process>,
    sockets: Vec<PathBuf>,
    files: Vec<PathBuf>,
}

impl<'a> Stage<'a> {
    /// Builds the bed; `name` is the directory of its logs.
    pub fn new(common: &'a Common, name: &str, layout: Layout) -> anyhow::Result<Stage<'a>> {
        let dir = common.out.join(name);
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let bed = Bed::laid_out(&dir, false, layout)?;
        Ok(Stage { bed, common, dir })
    }

    /// How a node of this run is set up unless a subject wants otherwise.
    pub fn setup(&self) -> NodeSetup {
        let pins = [self.common.server_cpu, self.common.peer_cpu()];
        NodeSetup {
            pins,
            flows: 65536,
            active: 65536,
            chunks: 65536,
            idle_secs: 60,
            seal: self.common.seal,
            serves: Serves::Itself,
            hears: false,
        }
    }

    /// Starts a contender and waits until it is ready.
    pub fn start(&self, contender: Contender) -> anyhow::Result<Server<'_>> {
        self.start_with(contender, &self.setup())
    }

    /// Starts a contender whose nodes are set up like this.
    pub fn start_with(
        &self,
        contender: Contender,
        setup: &NodeSetup,
    ) -> anyhow::Result<Server<'_>> {
        let (processes, sockets, files) = (Vec::new(), Vec::new(), Vec::new());
        let mut server = Server { stage: self, contender, processes, sockets, files };
        let nodes: &[u8] = match contender {
            Contender::Kernel => {
                let args = ["load", "serve", "--listen", "0.0.0.0"];
                let process =
                    self.spawn(Place::Node(1), "kernel", self.common.server_cpu, &args)?;
                server.processes.push(process);
                &[]
            }
            Contender::Smoltcp => {
                let (cpu, hand) = (self.common.server_cpu.to_string(), std::env::current_exe()?);
                let words = ["hand", "--cpu", &cpu, "smoltcp"];
                server.processes.push(self.bed.spawn(Place::Node(1), "smoltcp", &hand, &words)?);
                &[]
            }
            Contender::Alone => &[1],
            Contender::Mirrored => {
                let store = self.dir.join("witness.store");
                // Every start is a first one.
                let _ = fs::remove_file(&store);
                let store = store.display().to_string();
                let mut args = vec!["witness", "--listen", WITNESS, "--store", &store];
                args.extend(["--cluster", CLUSTER, "--timers", TIMERS, "--bootstrap"]);
                let key = write_key(&self.dir)?.display().to_string();
                match setup.seal {
                    Seal::Noise => args.extend(["--key", &key]),
                    Seal::None => args.push("--unsealed"),
                }
                let cpu = self.common.peer_cpu();
                server.processes.push(self.spawn(Place::Witness, "witness", cpu, &args)?);
                &[1, 2]
            }
        };
        for &id in nodes {
            let (file, socket) = config::write(&self.dir, id, nodes, setup)?;
            server.processes.push(self.spawn_node(id, &file)?);
            server.sockets.push(socket);
            server.files.push(file);
            if server.contender == Contender::Mirrored && id == 1 {
                // On a busy machine the second could be there before it, and become the owner.
                server.wait_for("the first node to own every service", is_owner)?;
            }
        }
        server.wait_ready()?;
        Ok(server)
    }

    /// Each on a processor of its own, as other balancers: its agent takes no time of the other one's.
    fn spawn_node(&self, id: u8, file: &Path) -> anyhow::Result<Process> {
        let cpu = if id == 1 { self.common.server_cpu } else { self.common.peer_cpu() };
        let file = file.display().to_string();
        self.spawn(Place::Node(id), &format!("node{id}"), cpu, &["run", &file])
    }

    fn spawn(&self, place: Place, name: &str, cpu: u16, args: &[&str]) -> anyhow::Result<Process> {
        let (cpu, program) = (cpu.to_string(), self.program().display().to_string());
        let mut words = vec!["-c", &cpu, &program];
        words.extend(args);
        self.bed.spawn(place, name, "taskset".as_ref(), &words)
    }

    /// Waits until somebody listens on a port.
    pub fn wait_listening(
        &self,
        place: Place,
        port: u16,
        mut process: Option<&mut Process>,
    ) -> anyhow::Result<()> {
        let limit = Instant::now() + LISTENING_WITHIN;
        let (bed, port) = (&self.bed, port.to_string());
        loop {
            let text = run(bed.command(place, "ss").args(["-Hltn", "sport", "=", &port]))?;
            if !text.trim().is_empty() {
                return Ok(());
            }
            let ended = process.as_mut().map(|process| process.ended()).transpose()?.flatten();
            if ended.is_some() || Instant::now() > limit {
                let log = process.map_or(String::new(), |process| process.log_tail());
                bail!("nobody listens on port {port} ({ended:?})\n{log}");
            }
            thread::sleep(LOOK_EVERY);
        }
    }

    /// Where logs and configuration files go.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The program under test.
    pub fn program(&self) -> PathBuf {
        self.common.program.clone().expect("found before anything is measured")
    }

    /// This program as a hand: a client in the client's namespace.
    pub fn hand(&self, words: &[String]) -> anyhow::Result<Command> {
        let mut command = self.bed.command(Place::Client, std::env::current_exe()?);
        command.args(["hand", "--cpu", &self.common.client_cpu.to_string()]).args(words);
        Ok(command)
    }

    /// Runs a hand to its end; what it found out.
    pub fn ask<T: DeserializeOwned>(&self, words: &[String]) -> anyhow::Result<T> {
        let text = run(&mut self.hand(words)?)?;
        serde_json::from_str(&text).with_context(|| format!("a client said {text:?}"))
    }

    /// Starts a hand.
    pub fn begin(&self, words: &[String]) -> anyhow::Result<Hand> {
        let mut command = self.hand(words)?;
        command.stdout(Stdio::piped());
        let child = command.spawn().context("cannot start a client")?;
        Ok(Hand { child: Some(child) })
    }
}

/// A hand at work; it is ended when this is dropped.
pub struct Hand {
    child: Option<std::process::Child>,
}

impl Hand {
    /// Waits for its end; what it found out.
    pub fn finish<T: DeserializeOwned>(mut self) -> anyhow::Result<T> {
        let child = self.child.take().expect("finished once");
        let output = child.wait_with_output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            bail!("a client failed ({}): {text}", output.status);
        }
        serde_json::from_str(&text).with_context(|| format!("a client said {text:?}"))
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Gone already is as good.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Server<'_> {
    /// Where a client finds a service.
    pub fn target(&self, service: Service) -> SocketAddrV4 {
        let (_, address, port, _) = SERVICES[service as usize];
        let address: Ipv4Addr = match self.contender {
            Contender::Kernel => Ipv4Addr::new(10, 88, 0, 11),
            Contender::Smoltcp => smol::ADDRESS.parse().expect("an address"),
            _ => address.parse().expect("an address"),
        };
        SocketAddrV4::new(address, port)
    }

    /// What a node says of itself.
    pub fn status(&self, node: usize) -> anyhow::Result<Status> {
        status::read(&self.sockets[node - 1])
    }

    /// The process of a node.
    pub fn node_pid(&self, node: usize) -> u32 {
        self.processes[self.node_at(node)].id()
    }

    fn node_at(&self, node: usize) -> usize {
        self.processes.len() - self.sockets.len() + node - 1
    }

    /// Sends a signal to a node's process.
    pub fn signal_node(&mut self, node: usize, signal: Signal) -> anyhow::Result<()> {
        let at = self.node_at(node);
        self.processes[at].signal(signal)
    }

    /// Starts a node again whose process has been killed.
    pub fn revive_node(&mut self, node: usize) -> anyhow::Result<()> {
        let at = self.node_at(node);
        self.processes[at].wait()?;
        self.processes[at] = self.stage.spawn_node(node as u8, &self.files[node - 1])?;
        Ok(())
    }

    /// Gives a node an order, as an operator would.
    pub fn order(&self, node: usize, order: &Request) -> anyhow::Result<()> {
        match control::ask(&self.sockets[node - 1], order)? {
            Reply::Begun => Ok(()),
            Reply::Error { message } => bail!("{message}"),
            _ => bail!("the node took the order for something else"),
        }
    }

    /// Waits until `is_so` of the first node's status.
    pub fn wait_for(&mut self, what: &str, is_so: impl Fn(&Status) -> bool) -> anyhow::Result<()> {
        self.wait_for_at(1, what, is_so)
    }

    /// Waits until `is_so` of the status of a node.
    pub fn wait_for_at(
        &mut self,
        node: usize,
        what: &str,
        is_so: impl Fn(&Status) -> bool,
    ) -> anyhow::Result<()> {
        self.wait(what, |server| {
            let seen = server.status(node);
            let done = seen.as_ref().is_ok_and(&is_so);
            done.then_some(()).ok_or_else(|| match seen {
                Ok(status) => status::in_words(&status),
                Err(error) => format!("{error:#}"),
            })
        })
    }

    fn wait_ready(&mut self) -> anyhow::Result<()> {
        match self.contender {
            Contender::Kernel => {
                let bed = &self.stage.bed;
                let port = self.target(Service::Discard).port().to_string();
                let listening = ["-Hltn", "sport", "=", &port];
                self.wait("the kernel's server to listen", |_| {
                    match run(bed.command(Place::Node(1), "ss").args(listening)) {
                        Ok(text) if !text.trim().is_empty() => Ok(()),
                        Ok(_) => Err("it does not yet".into()),
                        Err(error) => Err(format!("{error:#}")),
                    }
                })
            }
            Contender::Smoltcp => self.wait("smoltcp to serve", |server| {
                let said: String = server.processes.iter().map(Process::log_tail).collect();
                said.contains(smol::SERVES).then_some(()).ok_or(said)
            }),
            Contender::Alone => {
                let serves =
                    |group: &GroupStatus| group.role == Role::Owner && group.lease_remaining_us > 0;
                self.wait_for("the node to serve", |status| status.groups.iter().all(serves))
            }
            Contender::Mirrored => self.wait_for("the pair to be protected", is_safe),
        }
    }

    fn wait(
        &mut self,
        what: &str,
        mut look: impl FnMut(&Self) -> Result<(), String>,
    ) -> anyhow::Result<()> {
        let limit = Instant::now() + READY_WITHIN;
        while let Err(last) = look(self) {
            for process in &mut self.processes {
                if let Some(status) = process.ended()? {
                    let (name, log) = (process.name(), process.log_tail());
                    return Err(anyhow!("{name} has ended ({status}); {log}"));
                }
            }
            if Instant::now() > limit {
                let logs: String = self.processes.iter().map(Process::log_tail).collect();
                bail!("waited in vain for {what}; last seen: {last}\n{logs}");
            }
            thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }
}

/// Whether this node owns every service.
fn is_owner(status: &Status) -> bool {
    status.groups.iter().all(|group| group.role == Role::Owner)
}

/// Whether this node owns every service, and a failure now would cost nothing.
pub fn is_safe(status: &Status) -> bool {
    let safe = |group: &GroupStatus| {
        group.role == Role::Owner && group.protection == Protection::Protected
    };
    status.groups.iter().all(safe)
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        for process in &mut self.processes {
            // Gone already is as good.
            let _ = process.signal(Signal::SIGKILL);
        }
        for process in &mut self.processes {
            let _ = process.wait();
        }
        for socket in &self.sockets {
            let _ = fs::remove_file(socket);
        }
    }
}
