//! What a world is built from: links, limits, services.

use crate::kit::client;
use cluster::id::GroupId;
use stack::app::AppConfig;
use stack::app::generate::GenerateConfig;
use stack::app::http::HttpConfig;
use stack::app::proxy::Ack;
use stack::app::proxy::header::HeaderVersion;
use stack::content::Content;
use stack::limits::CONNECT_TIMEOUT;
use stack::service::{ArpPolicy, HOP_LIMIT, KeepAlive, Service};
use stack::tcp::sender::SenderConfig;
use stack::time::Duration;
use stack::upstream::{Balance, Server, Upstream};
use stack::wire::Address;

/// The IPv4 address of every service.
pub const ADDRESS: [u8; 4] = [10, 0, 0, 100];

/// Its IPv6 address.
pub const ADDRESS_6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 100];

/// The IPv4 address of a service on `host`; [`ADDRESS`] is that of host 100.
pub const fn address(host: u8) -> [u8; 4] {
    [ADDRESS[0], ADDRESS[1], ADDRESS[2], host]
}

/// The same of IPv6.
pub const fn address_6(host: u8) -> [u8; 16] {
    let mut address = ADDRESS_6;
    address[15] = host;
    address
}

/// The address from which servers are connected to.
pub const SOURCE: [u8; 4] = [10, 0, 0, 101];

/// The same of IPv6.
pub const SOURCE_6: [u8; 16] = address_6(SOURCE[3]);

/// How a link treats what crosses it.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// One way.
    pub delay: Duration,
    /// Up to so much more, drawn for each frame: frames overtake each other.
    pub jitter: Duration,
    /// Frames lost, in a thousand.
    pub loss_permille: u64,
    /// Frames that arrive twice, in a thousand.
    pub twice_permille: u64,
}

impl Link {
    /// A link without faults.
    pub const fn clean(delay: Duration) -> Link {
        Link { delay, jitter: Duration::ZERO, loss_permille: 0, twice_permille: 0 }
    }
}

/// What the cluster link does to forwarded frames, beside what it does to everything.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hops {
    /// Nothing.
    Arrive,
    /// They are lost.
    Lost,
    /// They arrive twice.
    Twice,
    /// They arrive so much later.
    Late(Duration),
}

/// What runs behind a port.
#[derive(Clone, Copy, Debug)]
pub struct Port {
    /// The port.
    pub port: u16,
    /// Last octet of its [`address`].
    pub host: u8,
    /// That of a second one, if it has one.
    pub second: Option<u8>,
    /// The application.
    pub app: AppConfig,
    /// See [`Service`].
    pub receive_buffer: u32,
    /// See [`Service`].
    pub idle_timeout: Option<Duration>,
    /// See [`Service`].
    pub keep_alive: Option<KeepAlive>,
    /// See [`Service`].
    pub connect_timeout: Duration,
    /// See [`Service`].
    pub mss: u16,
    /// See [`Service`].
    pub arp: ArpPolicy,
}

/// What a world is built from.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Of everything random.
    pub seed: u64,
    /// Between clients and nodes.
    pub client_link: Link,
    /// Between the nodes.
    pub cluster_link: Link,
    /// What happens to forwarded frames on it.
    pub hops: Hops,
    /// Of what clients say to a node, the other one hears so many frames out of a thousand.
    pub overheard: u64,
    /// Flows of a node at most.
    pub flows_max: usize,
    /// Payload chunks of a node.
    pub chunks_max: usize,
    /// Payload chunks of node 1, if it has others.
    pub peer_chunks_max: Option<usize>,
    /// How fast a node may wake its clients: a quarter of this link is the kicks'.
    pub link_mbits: u32,
    /// Segments in flight of a node.
    pub segments_max: usize,
    /// Flows of a node with something in flight at most, if not all.
    pub active_max: Option<usize>,
    /// Uploads of a node at most, if not one for each flow.
    pub uploads_max: Option<usize>,
    /// Each record travels in a datagram of its own, so that a kill can fall between any two.
    pub split_records: bool,
    /// A planted defect: every record counts as held by the peer as soon as it is sent.
    pub forge_acknowledgements: bool,
    /// A planted defect: the oldest record that was on its way at a death is skipped as if it had not been.
    pub skip_hole: bool,
    /// Cores of the two nodes.
    pub cores: [u8; 2],
    /// Generations of each service, each a group of its own; the nodes begin with the first.
    pub generations: u8,
    /// Prints what arrives where.
    pub trace: bool,
    /// What runs.
    pub ports: Vec<Port>,
    /// So many of the first clients are servers, to whom [`PROXY`] passes its connections on.
    pub servers: usize,
    /// The last so many of them are reached by IPv6.
    pub servers_6: usize,
    /// One that has left the configuration: it gets no new connections.
    pub retired: Option<usize>,
    /// Each node has them in other places: moved on by its index.
    pub is_shuffled: bool,
    /// How one is chosen.
    pub balance: Balance,
    /// Clients must say who is behind them.
    pub accepts_header: bool,
    /// Tells them who their client is.
    pub header: Option<HeaderVersion>,
    /// How long a server may say nothing.
    pub server_idle: Option<Duration>,
    /// How long either side may where one has closed.
    pub half_closed: Option<Duration>,
    /// See [`Upstream`].
    pub resets_when_down: bool,
    /// See [`Upstream`]; clients wait for longer than any server may take to answer.
    pub connections_max: u32,
    /// See [`Upstream`].
    pub queue_max: u32,
}

/// The port of `http`.
pub const HTTP: u16 = 80;
/// The port of `echo`.
pub const ECHO: u16 = 7;
/// The port of `discard`.
pub const DISCARD: u16 = 9;
/// The port of `generate` that closes behind its stream.
pub const GENERATE: u16 = 19;
/// The port of `generate` that stays open.
pub const GENERATE_STAY: u16 = 20;
/// The port of an `http` that gives up idle clients soon.
pub const HTTP_IMPATIENT: u16 = 81;

/// The port of `proxy`, where there is one ([`Settings::proxied`]).
pub const PROXY: u16 = 8080;

/// Seed and length of what `generate` sends.
pub const GENERATED: (u64, u64) = (11, 9000);

impl Default for Settings {
    fn default() -> Settings {
        let http = AppConfig::Http(HttpConfig { upload_bytes_max: 1 << 20 });
        let (seed, len) = GENERATED;
        let generate = |stay_open| AppConfig::Generate(GenerateConfig { seed, len, stay_open });
        let port = |port, app| Port {
            port,
            host: ADDRESS[3],
            second: None,
            app,
            receive_buffer: 16 << 10,
            idle_timeout: None,
            keep_alive: None,
            connect_timeout: CONNECT_TIMEOUT,
            mss: 1460,
            arp: ArpPolicy::default(),
        };
        Settings {
            seed: 1,
            client_link: Link::clean(Duration::from_micros(100)),
            cluster_link: Link::clean(Duration::from_micros(70)),
            hops: Hops::Arrive,
            overheard: 0,
            flows_max: 16,
            chunks_max: 512,
            peer_chunks_max: None,
            link_mbits: 10_000,
            segments_max: 1024,
            active_max: None,
            uploads_max: None,
            split_records: false,
            forge_acknowledgements: false,
            skip_hole: false,
            cores: [1, 1],
            generations: 1,
            trace: false,
            servers: 0,
            servers_6: 0,
            retired: None,
            is_shuffled: false,
            balance: Balance::RoundRobin,
            accepts_header: false,
            header: None,
            server_idle: None,
            half_closed: None,
            resets_when_down: false,
            connections_max: 0,
            queue_max: 0,
            ports: vec![
                port(HTTP, http),
                port(ECHO, AppConfig::Echo),
                port(DISCARD, AppConfig::Discard),
                port(GENERATE, generate(false)),
                port(GENERATE_STAY, generate(true)),
                Port {
                    idle_timeout: Some(Duration::from_millis(300)),
                    ..port(HTTP_IMPATIENT, http)
                },
            ],
        }
    }
}

impl Settings {
    /// The services, one for each port; again for each further generation.
    pub fn services(&self) -> Vec<Service> {
        let snoop = self.overheard > 0;
        let service = |port: &Port| Service { snoop, ..port.service(self.upstream()) };
        let count = self.ports.len() * usize::from(self.generations);
        self.ports.iter().map(service).cycle().take(count).collect()
    }

    /// Their groups.
    pub fn groups(&self) -> Vec<GroupId> {
        let services = 0..self.ports.len() as u32;
        let of = |generation| services.clone().map(move |service| (service, generation));
        let all = (0..self.generations).flat_map(of);
        all.map(|(service, generation)| GroupId::new(service, generation)).collect()
    }

    /// The same world with a proxied service alone, in front of so many servers: the first clients of the world.
    pub fn proxied(servers: usize) -> Settings {
        let settings = Settings::default();
        let app = AppConfig::Proxy(Ack::default());
        let port = Port { port: PROXY, app, ..settings.ports[0] };
        Settings { ports: vec![port], servers, ..settings }
    }

    /// A world whose connections may hold more than can be captured.
    pub fn large() -> Settings {
        let mut settings = Settings { chunks_max: 4096, ..Settings::default() };
        settings.ports.iter_mut().for_each(|port| port.receive_buffer = 2 << 20);
        settings
    }

    /// Whether something runs behind a port.
    pub fn serves(&self, port: u16) -> bool {
        self.position_of(port).is_some()
    }

    /// Position of the service behind a port.
    pub fn position_of(&self, port: u16) -> Option<usize> {
        self.ports.iter().position(|known| known.port == port)
    }

    /// Whether a server is reached by IPv6.
    pub fn is_server_6(&self, server: usize) -> bool {
        server + self.servers_6 >= self.servers
    }

    fn upstream(&self) -> Upstream {
        let sources = [Address::v4(SOURCE), Address(SOURCE_6)];
        let server = |index| {
            let address = match self.is_server_6(index) {
                false => Address::v4(client::address(index)),
                true => Address(client::address_6(index)),
            };
            Server {
                address,
                port: client::port(index),
                weight: u16::from(self.retired != Some(index)),
                next_hop: address,
                is_retired: self.retired == Some(index),
                is_backup: false,
                connections_max: 0,
            }
        };
        Upstream {
            servers: (0..self.servers).map(server).collect(),
            sources: sources[..1 + usize::from(self.servers_6 > 0)].to_vec(),
            balance: self.balance,
            attempts_max: 3,
            accepts_header: self.accepts_header,
            header: self.header,
            server_idle: self.server_idle,
            half_closed: self.half_closed,
            resets_when_down: self.resets_when_down,
            connections_max: self.connections_max,
            queue_max: self.queue_max,
            queue_timeout: Duration::from_secs(150),
            slow_start: Duration::ZERO,
            logs: true,
            stick: Duration::ZERO,
        }
    }
}

impl Port {
    /// Last octets of its addresses.
    pub fn hosts(&self) -> impl Iterator<Item = u8> {
        [Some(self.host), self.second].into_iter().flatten()
    }

    fn service(&self, upstream: Upstream) -> Service {
        let addresses = |host| [Address::v4(address(host)), Address(address_6(host))];
        Service {
            addresses: self.hosts().flat_map(addresses).collect(),
            arp: self.arp,
            ports: vec![(self.port, self.port)],
            app: self.app,
            content: Content::default(),
            receive_buffer: self.receive_buffer,
            idle_timeout: self.idle_timeout,
            keep_alive: self.keep_alive,
            connect_timeout: self.connect_timeout,
            sender: SenderConfig::default(),
            mss: self.mss,
            nodelay: true,
            hop_limit: HOP_LIMIT,
            snoop: false,
            upstream: match self.app {
                AppConfig::Proxy(_) => upstream,
                _ => Upstream::default(),
            },
        }
    }
}
