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

mod poll;

use crate::address;
use crate::agent_thread::{AgentThread, Peers};
use crate::client_path;
use crate::clock;
use crate::config::{self, Application, Config, CopyMode, XdpMode};
use crate::connections::Connections;
use crate::control::{self, Reply, Request};
use crate::core::{Clock, Core};
use crate::crossing::Crossing;
use crate::ears::Ears;
use crate::files;
use crate::guardian::{Charge, Guard};
use crate::health;
use crate::log::{self, Log};
use crate::memory;
use crate::metrics;
use crate::port::xdp::{XdpConfig, XdpPort, ZeroCopy};
use crate::random;
use crate::reload::Origin;
use crate::report::{Reporter, Steering};
use crate::sealing::Sealing;
use crate::shared::Shared;
use crate::solicited::Solicited;
use crate::sys;
use crate::watch::Watch;
use crate::xdp_program::{AttachMode, XdpProgram};
use cluster::agent::{self, Agent};
use cluster::engine::{Engine, EngineConfig};
use cluster::id::{GroupId, Member, NodeId};
use cluster::link::Endpoint;
use cluster::message::advertise::{Advertise, ArpPolicy, Failback, Limits, OnPeerLoss};
use crossbeam_channel::bounded;
use stack::app::AppConfig;
use stack::app::generate::GenerateConfig;
use stack::app::http::HttpConfig;
use stack::app::proxy::Ack;
use stack::app::proxy::header::HeaderVersion;
use stack::content::Content;
use stack::limits::{CONNECT_TIMEOUT, SOURCE_PORT_FIRST};
use stack::service::{ArpPolicy as ServiceArp, Service};
use stack::sha256::Sha256;
use stack::shard::Place;
use stack::stack::BEHAVIOUR;
use stack::tcp::sender::SenderConfig;
use stack::time::Instant;
use stack::upstream::{self, Upstream};

use std::collections::BTreeMap;
use std::net::{IpAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::{fmt, thread};

/// Orders that may wait for a core.
const ORDERS_MAX: usize = 1024;

/// Reports that may wait for the agent.
const REPORTS_MAX: usize = 1024;

/// Bytes of an upload at most: one that never ends is an attack.
const UPLOAD_BYTES_MAX: u64 = 1 << 40;

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
    _solicited: Option<Solicited>,
    _service_macs: Option<sys::ServiceMacs>,
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
        let groups = config.groups();
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
        let (report, reports) = bounded(REPORTS_MAX);
        let (question, questions) = bounded(16);
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
            agent: Agent::new(clock::now(), agent_config(config, me, &groups, &services)?),
            socket,
            peers: peers(config),
            shared: shared.clone(),
            guard: guard.clone(),
            commands: orders.clone(),
            reports,
            questions,
            passed_on: Vec::new(),
            ears: None,
            stopping: stopping.clone(),
        };
        let (board, checks) = health::start(config, orders.clone(), stopping.clone())
            .map_err(failed("start the checks of the servers"))?;
        let origin = Origin::new(file.into(), config.clone(), services.clone(), mtu);
        let (shared_, guard_, asked) = (shared.clone(), guard.clone(), (orders, question));
        let summary = summary(config, &programs, &client, me);
        steer(config, &mut programs)?;
        agent.ears = ears(config, &mut programs[0])?;
        let zero_copy = [&client, &cluster].map(|ports| ports.iter().all(XdpPort::is_zero_copy));
        let steering = Steering::new(programs, zero_copy);
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
        threads.extend(checks);
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
            _solicited: join_solicited(config),
            _service_macs: accept_service_macs(config),
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

fn agent_socket(config: &Config) -> Result<UdpSocket, StartError> {
    let address = (config.cluster.address, config.cluster.agent_port);
    let doing = format!("listen for heartbeats on {}:{}", address.0, address.1);
    let socket = UdpSocket::bind(address).map_err(failed(&doing))?;
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

/// Attaches the program and opens a port on each queue of an interface.
fn open_ports(
    config: &Config,
    interface: &config::Interface,
) -> Result<(XdpProgram, Vec<XdpPort>), StartError> {
    let name = &interface.name;
    let mode = match interface.mode {
        XdpMode::Auto => AttachMode::Auto,
        XdpMode::Native => AttachMode::Native,
        XdpMode::Generic => AttachMode::Generic,
    };
    let mut program =
        XdpProgram::attach(name, mode).map_err(failed(format!("attach to {name}")))?;
    let zero_copy = match interface.copy {
        CopyMode::Copy => ZeroCopy::Never,
        CopyMode::ZeroCopy => ZeroCopy::Require,
        CopyMode::Auto if program.is_native() => ZeroCopy::Auto,
        CopyMode::Auto => ZeroCopy::Never,
    };
    let mut ports = Vec::new();
    for &queue in &interface.queues {
        let doing = format!("open queue {queue} of {name}");
        let port = XdpPort::open(&XdpConfig {
            interface: name.clone(),
            queue: queue.into(),
            frames: config.limits.frames,
            zero_copy,
            multi_buffer: program.is_multi_buffer(),
        })
        .map_err(failed(&doing))?;
        program.bind_queue(queue.into(), port.fd()).map_err(failed(&doing))?;
        ports.push(port);
    }
    Ok((program, ports))
}

/// Deals the queues of an interface out to the cores in turn.
fn deal(ports: Vec<XdpPort>, cores: usize) -> Vec<Vec<XdpPort>> {
    let mut dealt: Vec<Vec<XdpPort>> = (0..cores).map(|_| Vec::new()).collect();
    ports.into_iter().enumerate().for_each(|(n, port)| dealt[n % cores].push(port));
    dealt
}

/// Makes neighbour solicitations about the IPv6 addresses reach the client-side interface.
fn join_solicited(config: &Config) -> Option<Solicited> {
    let name = &config.interfaces.client.name;
    let addresses: Vec<IpAddr> = config.services.iter().flat_map(held_addresses).collect();
    let joined = Solicited::join(name, &addresses);
    if let Err(error) = &joined {
        log::warning(format!(
            "cannot join the multicast groups of the IPv6 addresses on {name} ({error}): neighbours find \
             them only if NIC and switch pass all multicast; `sysctl net.ipv6.conf.{name}.disable_ipv6=0` helps"
        ));
    }
    joined.ok()
}

/// Makes the NIC of the client side take frames for the services' own hardware addresses, and all that reach it if a service
/// is listened to.
fn accept_service_macs(config: &Config) -> Option<sys::ServiceMacs> {
    let name = &config.interfaces.client.name;
    let macs = config.services.iter().filter_map(|service| service.mac.map(|mac| mac.0));
    let accepted = sys::ServiceMacs::accept(name, macs, config.hears());
    if let Err(error) = &accepted {
        log::warning(format!(
            "{name} cannot be told to take frames for the services' own hardware addresses, or for others where \
             `snoop` listens ({error}): they arrive only if it is promiscuous; `ip link set {name} promisc on` helps"
        ));
    }
    accepted.ok()
}

/// Addresses that move with a service.
fn held_addresses(service: &config::Service) -> Vec<IpAddr> {
    let own = &service.addresses;
    let sources = service.sources().iter().filter(|source| !own.contains(source));
    own.iter().chain(sources).copied().collect()
}

/// Tells the programs which frames are the node's.
fn steer(config: &Config, programs: &mut [XdpProgram]) -> Result<(), StartError> {
    let mut owned: BTreeMap<IpAddr, Vec<RangeInclusive<u16>>> = BTreeMap::new();
    for service in &config.services {
        for address in &service.addresses {
            let ranges = service.ports.iter().map(|range| range.first..=range.last);
            owned.entry(*address).or_default().extend(ranges);
        }
        for source in service.sources() {
            owned.entry(*source).or_default().push(SOURCE_PORT_FIRST..=u16::MAX);
        }
    }
    for (address, ranges) in owned {
        programs[0]
            .set_service(address, &ranges)
            .map_err(failed(format!("steer the frames of {address}")))?;
    }
    let endpoint = IpAddr::V4(config.cluster.address);
    programs[1]
        .set_cluster_endpoint(endpoint, config.cluster.data_port)
        .map_err(failed("steer the cluster's datagrams"))
}

/// Where anybody listens, the program of the client side drops what brings nothing here.
fn ears(config: &Config, program: &mut XdpProgram) -> Result<Option<Ears>, StartError> {
    if !config.hears() {
        return Ok(None);
    }
    let doing = "let the XDP program drop what is said to others and brings nothing";
    let own = sys::interface_mac(&config.interfaces.client.name).map_err(failed(doing))?;
    let macs = config.services.iter().filter_map(|service| service.mac.map(|mac| mac.0));
    program.set_macs(own, &macs.collect::<Vec<_>>()).map_err(failed(doing))?;
    let addresses = config.services.iter().map(held_addresses).collect();
    Ok(Some(Ears::new(program.take_services().map_err(failed(doing))?, addresses)))
}

/// Bytes of a packet that every port of an interface takes. Says so if the interface would take more.
fn effective_mtu(name: &str, ports: &[XdpPort]) -> Result<usize, StartError> {
    let whole = sys::interface_mtu(name).map_err(failed(format!("read the MTU of {name}")))?;
    let mtu = ports.iter().map(XdpPort::mtu).min().unwrap_or(whole);
    if mtu < whole {
        log::warning(format!(
            "kernel or driver take frames of {name} in one buffer only: packets are limited to {mtu} bytes \
             although its MTU is {whole}; longer ones are dropped and counted as rx_too_long"
        ));
    }
    Ok(mtu as usize)
}

fn build_services(config: &Config, mtu: usize) -> Result<Vec<Service>, StartError> {
    let build =
        |service: &config::Service| Ok(build_service(service, mtu, load_content(config, service)?));
    config.services.iter().map(build).collect()
}

/// What an `http` service serves.
fn load_content(config: &Config, service: &config::Service) -> Result<Content, StartError> {
    let mut content = Content::default();
    if let Application::Http { root, generate } = &service.application {
        if let Some(root) = root {
            content = files::load(root, config.limits.content_bytes).map_err(failed(format!(
                "load {} for {}",
                root.display(),
                service.name
            )))?;
        }
        if !generate {
            content = content.without_generated();
        }
    }
    Ok(content)
}

/// A service as the stack takes it.
pub(crate) fn build_service(service: &config::Service, mtu: usize, content: Content) -> Service {
    let (mut upstream, mut connect_timeout) = (Upstream::default(), CONNECT_TIMEOUT);
    let app = match &service.application {
        Application::Echo => AppConfig::Echo,
        Application::Discard => AppConfig::Discard,
        Application::Generate { seed, length, close } => {
            AppConfig::Generate(GenerateConfig { seed: *seed, len: *length, stay_open: !close })
        }
        Application::Http { .. } => {
            AppConfig::Http(HttpConfig { upload_bytes_max: UPLOAD_BYTES_MAX })
        }
        Application::Proxy(proxy) => {
            (upstream, connect_timeout) = (build_upstream(proxy), proxy.connect_timeout);
            AppConfig::Proxy(match proxy.ack {
                config::Ack::EndToEnd => Ack::EndToEnd,
                config::Ack::Held => Ack::Held,
            })
        }
    };
    Service {
        addresses: service.addresses.iter().map(address::to_stack).collect(),
        arp: match (service.arp, service.mac) {
            (config::ArpPolicy::VirtualMac, Some(mac)) => ServiceArp::VirtualMac(mac.0),
            (config::ArpPolicy::None, _) => ServiceArp::None,
            _ => ServiceArp::Gratuitous,
        },
        snoop: service.snoop == config::Snoop::Wire,
        ports: service.ports.iter().map(|range| (range.first, range.last)).collect(),
        app,
        content,
        receive_buffer: service.receive_buffer,
        idle_timeout: Some(service.idle_timeout),
        keep_alive: service.keep_alive.map(|keep_alive| keep_alive.values()),
        connect_timeout,
        sender: SenderConfig::default(),
        mss: mtu.saturating_sub(40).min(usize::from(u16::MAX)) as u16,
        nodelay: service.nodelay,
        hop_limit: service.hop_limit,
        upstream,
    }
}

fn build_upstream(proxy: &config::Proxy) -> Upstream {
    let server = |server: &config::Server| upstream::Server {
        address: address::to_stack(&server.address),
        port: server.port,
        weight: server.weight,
        next_hop: address::to_stack(&proxy.gateway.unwrap_or(server.address)),
        is_retired: server.is_retired,
        is_backup: server.backup,
        connections_max: server.max_connections,
    };
    Upstream {
        servers: proxy.servers.iter().map(server).collect(),
        sources: proxy.source.iter().map(address::to_stack).collect(),
        balance: match proxy.balance {
            config::Balance::RoundRobin => upstream::Balance::RoundRobin,
            config::Balance::LeastConnections => upstream::Balance::LeastConnections,
            config::Balance::Source => upstream::Balance::Source,
            config::Balance::RandomTwo => upstream::Balance::RandomTwo,
            config::Balance::Maglev => upstream::Balance::Maglev,
        },
        attempts_max: proxy.attempts,
        server_idle: Some(proxy.server_timeout),
        half_closed: Some(proxy.half_closed_timeout),
        logs: proxy.log_connections,
        accepts_header: proxy.accept_proxy,
        header: proxy.proxy_protocol.map(|version| match version {
            config::ProxyProtocol::V1 => HeaderVersion::V1,
            config::ProxyProtocol::V2 => HeaderVersion::V2,
        }),
        resets_when_down: proxy.on_server_down == config::OnServerDown::Reset,
        connections_max: proxy.max_connections,
        queue_max: proxy.queue,
        queue_timeout: proxy.queue_timeout,
        slow_start: proxy.slow_start,
        stick: proxy.stick,
    }
}

/// What two nodes must agree on to stand in for each other.
fn digest(config: &config::Service, service: &Service) -> [u8; 32] {
    let text = format!("{:?} {:?}", config.application, config.receive_buffer);
    let mut bytes = text.into_bytes();
    bytes.extend_from_slice(&service.content.digest());
    Sha256::digest(&bytes)
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
    let each =
        || groups.iter().map(|group| services[usize::from(group.service())].clone()).collect();
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

fn agent_config(
    config: &Config,
    me: Member,
    groups: &[GroupId],
    services: &[Service],
) -> Result<agent::Config, StartError> {
    let name = &config.interfaces.cluster.name;
    Ok(agent::Config {
        me,
        cluster: cluster_id(&config.cluster.name),
        version: env!("CARGO_PKG_VERSION").into(),
        mac: sys::interface_mac(name).map_err(failed(format!("use {name}")))?,
        cores: config.cores.pin.len() as u8,
        nodes: config.cluster.nodes.iter().map(|node| node.id).collect(),
        groups: group_configs(config, groups, services),
        timers: config.cluster.timers.values(),
        arbiter: match config.cluster.arbiter {
            config::Arbiter::Witness { .. } => agent::Arbiter::Witness,
            config::Arbiter::None { survivor } => agent::Arbiter::None {
                survivor: match survivor {
                    config::Survivor::Node(node) => agent::Survivor::Node(node),
                    config::Survivor::Both => agent::Survivor::Both,
                },
            },
        },
    })
}

/// What the agent must know of each group.
pub(crate) fn group_configs(
    config: &Config,
    groups: &[GroupId],
    services: &[Service],
) -> Vec<agent::GroupConfig> {
    let group = |group: &GroupId| {
        let index = usize::from(group.service());
        let (service, built) = (&config.services[index], &services[index]);
        agent::GroupConfig {
            group: *group,
            home: service.home,
            peers: service.peers.clone(),
            on_peer_loss: on_peer_loss(service),
            failback: failback(service),
            hold_down: service.failback_hold_down,
            advertisement: advertisement(config, service, built),
        }
    };
    groups.iter().map(group).collect()
}

fn on_peer_loss(service: &config::Service) -> OnPeerLoss {
    match service.on_peer_loss {
        config::OnPeerLoss::Serve => OnPeerLoss::Serve,
        config::OnPeerLoss::Stop => OnPeerLoss::Stop,
    }
}

fn failback(service: &config::Service) -> Failback {
    match service.failback {
        config::Failback::All => Failback::All,
        config::Failback::NewConnections => Failback::NewConnections,
        config::Failback::Manual => Failback::Manual,
    }
}

/// What this node declares about a service, beside what its group's configuration says.
fn advertisement(config: &Config, service: &config::Service, built: &Service) -> Advertise {
    let own = sys::interface_mac(&config.interfaces.client.name).ok();
    let mac = service.mac.map(|mac| mac.0).or(own);
    let config::Limits { flows, active_flows, uploads, chunks, pieces, segments, .. } =
        config.limits;
    let mss = built.mss.into();
    Advertise {
        service: service.name.clone(),
        addresses: held_addresses(service),
        ports: built.ports.clone(),
        protocol: 6,
        application: application_name(&service.application).into(),
        arp: match service.arp {
            config::ArpPolicy::Gratuitous => ArpPolicy::Gratuitous,
            config::ArpPolicy::VirtualMac => ArpPolicy::VirtualMac,
            config::ArpPolicy::None => ArpPolicy::None,
        },
        macs: mac.into_iter().collect(),
        limits: Limits { flows, active_flows, uploads, chunks, pieces, segments, mss },
        digest: digest(service, built),
        behaviour: BEHAVIOUR,
        ..Advertise::default()
    }
}

fn application_name(application: &Application) -> &'static str {
    match application {
        Application::Http { .. } => "http",
        Application::Echo => "echo",
        Application::Discard => "discard",
        Application::Generate { .. } => "generate",
        Application::Proxy(_) => "proxy",
    }
}

fn peers(config: &Config) -> Peers {
    Peers {
        nodes: config.others().map(|node| (node.id, node.address)).collect(),
        agent_port: config.cluster.agent_port,
        data_port: config.cluster.data_port,
        witness: match config.cluster.arbiter {
            config::Arbiter::Witness { witness } => Some(witness),
            config::Arbiter::None { .. } => None,
        },
    }
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
