//! A node, put together: from a configuration to running threads.
//!
//! ```text
//! agent thread (SCHED_FIFO) -- leases, orders --> poll cores -- frames --> ports, each other
//!        ^                  <-- progress, reports --
//! control thread -- questions --> both
//! ```
//!
//! Everything that can fail for a reason outside fails here, before the first frame: interfaces, the XDP
//! program, sockets, memory, files. What a running node needs was taken when [`Node::start`] returns.

mod member;
mod poll;
mod ports;
mod services;

pub(crate) use member::group_configs;
pub(crate) use services::{build_service, load_content};

use crate::agent_thread::AgentThread;
use crate::client_path;
use crate::clock;
use crate::config::{self, Config};
use crate::connections::Connections;
use crate::control::{self, Reply, Request};
use crate::core::{Clock, Core};
use crate::crossing::Crossing;
use crate::ears::Ears;
use crate::guardian::{Charge, Guard};
use crate::health;
use crate::log::{self, Log};
use crate::memory;
use crate::metrics;
use crate::port::xdp::XdpPort;
use crate::random;
use crate::reload::Origin;
use crate::report::Reporter;
use crate::sealing::Sealing;
use crate::shared::Shared;
use crate::steering::Steering;
use crate::sys;
use crate::sys::event::Event;
use crate::waking::waking;
use crate::watch::Watch;
use crate::xdp_program::XdpProgram;
use cluster::agent::Agent;
use cluster::engine::{Engine, EngineConfig};
use cluster::id::{GroupId, Member, NodeId};
use cluster::link::Endpoint;
use crossbeam_channel::bounded;
use stack::service::Service;
use stack::sha256::Sha256;
use stack::shard::Place;
use stack::time::Instant;
use std::io;
use std::net::UdpSocket;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::{fmt, thread};

use member::{agent_config, peers};
use ports::{deal, effective_mtu, open_ports, steer_cluster};
use services::build_services;

/// Orders that may wait for a core.
const ORDERS_MAX: usize = 1024;

/// Reports that may wait for the agent.
const REPORTS_MAX: usize = 1024;

/// What an interface takes, in Mbit/s, that does not know it.
const LINK_MBITS_UNKNOWN: u32 = 1_000;

/// Why a node did not start.
#[derive(Debug)]
pub struct StartError {
    /// What was being done.
    pub doing: String,
    /// What went wrong.
    pub cause: String,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}: {}", self.doing, self.cause)
    }
}

impl std::error::Error for StartError {}

/// Says what was being done when something failed.
fn failed<E: fmt::Display>(doing: impl Into<String>) -> impl FnOnce(E) -> StartError {
    let doing = doing.into();
    move |cause| StartError { doing, cause: cause.to_string() }
}

/// A running node; it ends when it is dropped.
pub struct Node {
    stopping: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<()>>,
    guard: Arc<Guard>,
    _control: control::Server,
    _metrics: Option<metrics::Server>,
    _watch: Watch,
    _connections: Connections,
    reporter: Arc<Reporter>,
    /// The last to end: all others may have something to say.
    _log: Log,
    summary: String,
}

struct MachineClock;

impl Clock for MachineClock {
    #[inline]
    fn now(&self) -> Instant {
        clock::now()
    }
}

impl Node {
    /// Takes everything that the node needs and starts its threads.
    ///
    /// `file` is where a reload finds the configuration.
    pub fn start(config: &Config, file: &Path) -> Result<Node, StartError> {
        let _ = sys::no_core_dump();
        memory::take_at_once();
        let log = log::start(&config.log).map_err(failed("open the log"))?;
        let incarnation = random::incarnation().map_err(failed("draw an incarnation"))?;
        let me = Member { node: config.node.id, incarnation };
        let groups: Vec<GroupId> = config.groups().into_iter().map(|(_, group)| group).collect();
        let cores = config.cores.pin.len();
        let shared = Arc::new(Shared::new(&groups, cores));
        let socket = agent_socket(config)?;
        let (client_program, client) = open_ports(config, &config.interfaces.client)?;
        let (cluster_program, cluster) = open_ports(config, &config.interfaces.cluster)?;
        let mut programs = vec![client_program, cluster_program];
        let mtu = effective_mtu(&config.interfaces.client.name, &client)?;
        let link_mtu = effective_mtu(&config.interfaces.cluster.name, &cluster)?;
        let services = build_services(config, mtu)?;
        let (orders, commands): (Vec<_>, Vec<_>) = (0..cores).map(|_| bounded(ORDERS_MAX)).unzip();
        let wake = Arc::new(Event::new().map_err(failed("make an event"))?);
        let (report, reports) = waking(REPORTS_MAX, &wake);
        let (question, questions) = waking(16, &wake);
        let stopping = Arc::new(AtomicBool::new(false));
        let guard = Guard::new(Charge::new(config, me)).map_err(failed("share a page"))?;
        let others = config.others().map(|node| node.id);
        let sealing = match config.cluster.arbiter {
            config::Arbiter::Witness { .. } => {
                sealing(config, me, others.chain([cluster::message::WITNESS]))
            }
            config::Arbiter::None { .. } => sealing(config, me, others),
        };
        let mut agent = AgentThread {
            sealing: sealing?,
            agent: Agent::new(clock::now(), agent_config(config, me, &services)?),
            socket,
            peers: peers(config),
            shared: shared.clone(),
            guard: guard.clone(),
            commands: orders.clone(),
            reports,
            questions,
            wake,
            passed_on: Vec::new(),
            ears: None,
            stopping: stopping.clone(),
        };
        let (board, checks) = health::start(config, orders.clone(), stopping.clone())
            .map_err(failed("start the checks of the servers"))?;
        let origin = Origin::new(file.into(), config.clone(), services.clone(), mtu);
        let (shared_, guard_, asked) = (shared.clone(), guard.clone(), (orders, question));
        let summary = summary(config, &programs, &client, me);
        steer_cluster(config, &mut programs[1])?;
        let zero_copy = [&client, &cluster].map(|ports| ports.iter().all(XdpPort::is_zero_copy));
        let steering = Steering::new(config, programs, zero_copy)
            .map_err(failed("steer the frames of the services"))?;
        agent.ears = config.hears().then(|| ears(&steering, config, &services));
        let reporter =
            Reporter::new((config, origin), me, shared_, guard_, asked, (board, steering));
        let reporter = Arc::new(reporter);
        let metrics = metrics_server(config, &reporter)?;
        let answerer = reporter.clone();
        let answer = move |request: Request| match request {
            Request::Status => match answerer.status() {
                Some(status) => Reply::Status { status: Box::new(status) },
                None => Reply::Error { message: "the node does not answer in time".into() },
            },
            order => answerer.order(order),
        };
        let path = &config.control.socket;
        let control = control::Server::start(path, Box::new(answer))
            .map_err(failed(format!("open the control socket {}", path.display())))?;
        let engines = build_engines(config, me, &services, &groups, link_mtu)?;
        // Ethernet header and VLAN tag beside the MTU.
        let crossings = Crossing::among(cores, mtu.max(link_mtu) + 18)
            .map_err(failed("take memory for frames between cores"))?;
        let ports = deal(client, cores).into_iter().zip(deal(cluster, cores));
        let parts = engines.into_iter().zip(ports).zip(crossings).zip(commands);
        let mut threads = Vec::with_capacity(cores + 3);
        threads.push(checks);
        for (n, (((engine, ports), crossing), commands)) in parts.enumerate() {
            let channels = (commands, report.clone());
            let core = Core::new(engine, MachineClock, ports, crossing, shared.clone(), channels);
            threads.push(poll::start(config, n, core, guard.clone(), stopping.clone())?);
        }
        guard.clone().keep(guardian()).map_err(failed("start the guardian's keeper"))?;
        threads.push(agent.start().map_err(failed("start the agent's thread"))?);
        let client = &config.interfaces.client;
        let path = client_path::start(&client.name, &client.next_hops, shared, stopping.clone());
        threads.push(path.map_err(failed(format!("watch the link of {}", client.name)))?);
        let watch = Watch::start(reporter.clone()).map_err(failed("start the watch"))?;
        let connections =
            Connections::start(reporter.clone()).map_err(failed("start the log of connections"))?;
        Ok(Node {
            stopping,
            threads,
            guard,
            _control: control,
            _metrics: metrics,
            _watch: watch,
            _connections: connections,
            reporter,
            _log: log,
            summary,
        })
    }

    /// What was taken, for the operator.
    pub fn summary(&self) -> &str {
        &self.summary
    }

    /// Reads the configuration file again and takes what differs.
    pub fn reload(&self) -> Reply {
        self.reporter.reload(None)
    }

    /// Whether a thread has ended although nobody asked it to.
    pub fn has_failed(&self) -> bool {
        self.threads.iter().any(thread::JoinHandle::is_finished)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        // The last frame has left. The guardian says so, too, if there is one.
        self.guard.surrender();
    }
}

/// This program as a guardian: the very file that runs, though another may have its name by now.
fn guardian() -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("understudy").arg("guardian");
    command
}

/// What follows the roles in what the XDP program lets through.
fn ears(steering: &Steering, config: &Config, services: &[Service]) -> Ears {
    let mut ears = Ears::new(steering.services());
    group_configs(config, config, services).iter().for_each(|config| ears.note(config));
    ears
}

fn agent_socket(config: &Config) -> Result<UdpSocket, StartError> {
    let address = (config.cluster.address, config.cluster.agent_port);
    let doing = format!("listen for heartbeats on {}:{}", address.0, address.1);
    let socket = UdpSocket::bind(address).map_err(|error| {
        let help = match error.kind() {
            io::ErrorKind::AddrNotAvailable => format!(
                "; no interface of this host has the address: `ip address add {}/PREFIX dev {}`, or another \
                 `cluster.address`",
                address.0, config.interfaces.cluster.name
            ),
            io::ErrorKind::AddrInUse => "; does a node run here already?".into(),
            _ => String::new(),
        };
        failed(&doing)(format!("{error}{help}"))
    })?;
    socket.set_nonblocking(true).map_err(failed(&doing))?;
    Ok(socket)
}

/// The listener for scrapers, if one is configured.
fn metrics_server(
    config: &Config,
    reporter: &Arc<Reporter>,
) -> Result<Option<metrics::Server>, StartError> {
    let Some(config::Metrics { listen }) = config.metrics else { return Ok(None) };
    let reporter = reporter.clone();
    let source = move || {
        let Reply::Servers { servers } = reporter.servers(None) else { return None };
        Some((reporter.status()?, *servers))
    };
    let server = metrics::Server::start(listen, Arc::new(source));
    server.map(Some).map_err(failed(format!("listen for scrapers of metrics on {listen}")))
}

/// The cluster's id: names are for people, numbers for datagrams.
pub fn cluster_id(name: &str) -> u64 {
    let digest = Sha256::digest(name.as_bytes());
    u64::from_le_bytes(digest[..8].try_into().expect("eight bytes"))
}

/// One for each core. They share the pinned content and nothing else.
fn build_engines(
    config: &Config,
    me: Member,
    services: &[Service],
    groups: &[GroupId],
    link_mtu: usize,
) -> Result<Vec<Engine>, StartError> {
    let (client, cluster) = (&config.interfaces.client.name, &config.interfaces.cluster.name);
    let limits = &config.limits;
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let wall = since_epoch.map_or(0, |d| d.as_nanos() as u64);
    let endpoint = Endpoint {
        mac: sys::interface_mac(cluster).map_err(failed(format!("use {cluster}")))?,
        address: config.cluster.address.octets(),
        port: config.cluster.data_port,
    };
    let mac = sys::interface_mac(client).map_err(failed(format!("use {client}")))?;
    // Who does not say is taken for slow: it only makes the kicks of a takeover follow each other less closely.
    let link_mbits = sys::interface_mbits(client).ok().flatten().unwrap_or(LINK_MBITS_UNKNOWN);
    let cores = config.cores.pin.len() as u8;
    let engine_config = |place: Place| EngineConfig {
        member: me,
        cluster: cluster_id(&config.cluster.name) as u32,
        endpoint,
        link_mtu,
        is_sealed: config.cluster.seal == config::Seal::Noise,
        wall_offset: wall.wrapping_sub(clock::boottime_ns()),
        stack: limits.stack(place, me.node.0, mac, config.cluster.secret.0, link_mbits),
    };
    let places = (0..cores).map(|core| Place { core, cores });
    // A generation is a group of its own with the same service.
    let generations = usize::from(config.generations());
    let copies = |service: &Service| std::iter::repeat_n(service.clone(), generations);
    let each = || services.iter().flat_map(copies).collect();
    Ok(places.map(|at| Engine::new(&engine_config(at), each(), groups)).collect())
}

fn sealing(
    config: &Config,
    me: Member,
    others: impl Iterator<Item = NodeId>,
) -> Result<Sealing, StartError> {
    let id = cluster_id(&config.cluster.name);
    Sealing::new(id, me, &config.cluster.keys, others).map_err(failed("draw a seed"))
}

fn summary(config: &Config, programs: &[XdpProgram], ports: &[XdpPort], me: Member) -> String {
    let limits = &config.limits;
    let (idle, active) = limits.idle_and_active_bytes(config.cores.pin.len());
    let mode = |program: &XdpProgram| if program.is_native() { "native" } else { "generic" };
    format!(
        "node {} (incarnation {}): {} services, {} flows at most, {} MiB taken at start: {idle} bytes for each flow \
         and {} MiB for what only active ones need among it\n\
         client side {} ({} XDP, {}), cluster side {} ({} XDP), poll cores on processors {}",
        me.node,
        me.incarnation,
        config.services.len(),
        limits.flows,
        config.memory_bytes() >> 20,
        active >> 20,
        config.interfaces.client.name,
        mode(&programs[0]),
        if ports.iter().all(XdpPort::is_zero_copy) { "zero copy" } else { "copy" },
        config.interfaces.cluster.name,
        mode(&programs[1]),
        config.cores.pin.iter().map(u16::to_string).collect::<Vec<_>>().join(", "),
    )
}
