//! A bed with a witness and two protected nodes, for one test at a time.

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use dataplane::control::status::{Role, Status};
use tools::demo::bed::{
    Bed, ECHO_ADDRESS, ECHO_ADDRESS_6, Layout, NODES, Place, SERVICE_ADDRESS, SERVICE_ADDRESS_6,
    run,
};
use tools::demo::cluster::{Cluster, Setup};
use tools::demo::files::SERVICES;
use tools::demo::{Appliance, KillMode};

/// How long anything may take on a machine that is busy with other things.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Between two looks at something that will come.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The program under test.
pub const UNDERSTUDY: &str = env!("CARGO_BIN_EXE_understudy");

/// Nodes that share their cores with a dozen other threads.
const TIMERS: &str = "ci";

/// Two nodes and their load want the machine for themselves.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// What a test acts on.
pub struct Scene<'a> {
    pub bed: &'a Bed,
    pub cluster: Cluster<'a>,
    pub owner: u8,
    pub dir: PathBuf,
}

/// Builds a bed, waits until the pair is protected, and runs `story`. If that fails, tells what the
/// nodes say of themselves and keeps their logs. Without what it needs it fails and says what that is.
pub fn play(story: impl FnOnce(&mut Scene<'_>)) {
    play_on(Layout::default(), story);
}

/// The same on a bed that differs from the usual one.
pub fn play_on(layout: Layout, story: impl FnOnce(&mut Scene<'_>)) {
    play_with(Appliance::Understudy, layout, story);
}

/// The same with nodes that serve nothing themselves, or whatever else.
pub fn play_with(appliance: Appliance, layout: Layout, story: impl FnOnce(&mut Scene<'_>)) {
    play_edited((appliance, false), layout, Vec::new(), story);
}

/// The same, and what is passed on may be acknowledged once the peer holds it.
pub fn play_as(appliance: (Appliance, bool), layout: Layout, story: impl FnOnce(&mut Scene<'_>)) {
    play_edited(appliance, layout, Vec::new(), story);
}

/// The same with something else in the place of what stands in the nodes' configuration.
pub fn play_edited(
    (appliance, held): (Appliance, bool),
    layout: Layout,
    edits: Vec<(String, String)>,
    story: impl FnOnce(&mut Scene<'_>),
) {
    if let Some(reason) = missing() {
        panic!("{reason}; `cargo test --workspace --lib --bins` runs the tests that need nothing");
    }
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let id = format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let dir = std::env::temp_dir().join(format!("understudy-netns-{id}"));
    fs::create_dir_all(&dir).unwrap();
    let bed = Bed::laid_out(&dir, false, layout).unwrap();
    let setup = Setup {
        program: UNDERSTUDY.into(),
        appliance,
        held,
        timers: TIMERS,
        cores: layout.queues,
        arp: layout.arp,
        snoop: layout.snoop,
        failback: layout.failback,
        dir: dir.clone(),
        sockets: dir.clone(),
        edits,
    };
    let cluster = Cluster::start(&bed, setup).unwrap();
    let mut scene = Scene { bed: &bed, cluster, owner: 0, dir };
    scene.owner = scene.wait_protected();
    scene.count_voices();
    story(&mut scene);
}

/// Why these tests cannot run here.
fn missing() -> Option<&'static str> {
    let protocols = fs::read_to_string("/proc/net/protocols").unwrap_or_default();
    if !nix::unistd::geteuid().is_root() {
        Some("network namespaces need root")
    } else if !protocols.lines().any(|line| line.starts_with("XDP ")) {
        Some("this kernel has no AF_XDP sockets")
    } else {
        None
    }
}

impl Scene<'_> {
    /// The other node.
    pub fn survivor(&self) -> u8 {
        NODES.into_iter().find(|id| *id != self.owner).unwrap()
    }

    /// Waits until every service is protected; returns the owner.
    pub fn wait_protected(&mut self) -> u8 {
        self.cluster.wait_protected(PATIENCE).unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// Waits until `node` owns every service.
    pub fn wait_owns(&self, node: u8) {
        self.wait_for(&format!("node {node} to own every service"), || {
            self.cluster.status(node).is_ok_and(|status| has_role(&status, Role::Owner))
        });
    }

    /// Does to the owner what the mode says and waits until the other node serves; returns the
    /// moment of it, `CLOCK_MONOTONIC`.
    pub fn take_over(&mut self, mode: KillMode) -> u64 {
        let moment = self.cluster.kill(self.owner, mode).unwrap();
        if mode != KillMode::Sigstop {
            self.cluster.wait_gone(self.owner).unwrap();
        }
        self.wait_owns(self.survivor());
        moment
    }

    /// What `understudy` prints when it is run beside this node; its complaint if it refuses, or is used wrongly.
    pub fn understudy(&self, node: u8, words: &[&str]) -> Result<String, String> {
        let mut command = Command::new(UNDERSTUDY);
        command.args(words).arg("--socket").arg(self.cluster.socket(node));
        let output = command.output().unwrap();
        let [printed, complaint] =
            [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        match output.status.code() {
            Some(0) => Ok(printed),
            Some(1 | 2) => Err(complaint),
            _ => panic!("{words:?} at node {node}: {}\n{complaint}", output.status),
        }
    }

    /// The same, for what must not fail.
    pub fn done(&self, node: u8, words: &[&str]) -> String {
        let done = self.understudy(node, words);
        done.unwrap_or_else(|complaint| panic!("{words:?} at node {node}: {complaint}"))
    }

    /// Waits until `is_so`; fails if that does not come.
    pub fn wait_for(&self, what: &str, is_so: impl Fn() -> bool) {
        self.wait_within(PATIENCE, what, is_so);
    }

    /// The same, for what takes longer than the usual.
    pub fn wait_within(&self, patience: Duration, what: &str, is_so: impl Fn() -> bool) {
        let limit = Instant::now() + patience;
        while !is_so() {
            assert!(Instant::now() < limit, "waited in vain for {what}");
            thread::sleep(LOOK_EVERY);
        }
    }

    /// Runs `f` on a thread inside the client.
    pub fn at_client<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        let namespace = self.client_namespace();
        thread::scope(|scope| {
            let thread = scope.spawn(move || {
                dataplane::sys::enter_network_namespace(&namespace).unwrap();
                f()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Path of the client's namespace.
    pub fn client_namespace(&self) -> PathBuf {
        Path::new("/run/netns").join(self.bed.namespace(Place::Client))
    }

    /// A connection of the client's kernel.
    pub fn connect(&self, address: &str, port: u16) -> std::io::Result<TcpStream> {
        self.connect_within(address, port, PATIENCE)
    }

    /// The same, with less patience for the handshake.
    pub fn connect_within(
        &self,
        address: &str,
        port: u16,
        bound: Duration,
    ) -> std::io::Result<TcpStream> {
        let address: IpAddr = address.parse().unwrap();
        let to = SocketAddr::new(address, port);
        let stream = self.at_client(|| TcpStream::connect_timeout(&to, bound))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// Runs `ip` inside a machine; what it printed.
    pub fn ip(&self, place: Place, words: &str) -> String {
        let mut command = Command::new("ip");
        command.args(["-n", &self.bed.namespace(place)]).args(words.split(' '));
        run(&mut command).unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// Gives the client an IPv6 address in the network of the services.
    pub fn speak_ipv6(&self) {
        let mut sysctl = self.bed.command(Place::Client, "sysctl");
        run(sysctl.args(["-qw", "net.ipv6.conf.eth0.disable_ipv6=0"])).unwrap();
        self.ip(Place::Client, "addr add fd88::1/64 dev eth0 nodad");
    }

    /// The hardware address of a node's client interface.
    pub fn mac(&self, node: u8) -> String {
        self.read(Place::Node(node), "eth0/address")
    }

    /// Frames that have come out of a node for a service: what it says of an address, and segments from it. How the
    /// node itself asks for its next hops is nobody's voice.
    pub fn frames_from(&self, node: u8) -> u64 {
        let counter = format!("list counter bridge voices node{node}");
        let mut command = self.bed.command(Place::Switch, "nft");
        let text = run(command.arg(counter)).unwrap_or_else(|error| panic!("{error:#}"));
        let mut words = text.split_whitespace().skip_while(|word| *word != "packets");
        words.nth(1).and_then(|count| count.parse().ok()).expect("nft counts packets")
    }

    /// Has the switch count, for [`Scene::frames_from`].
    fn count_voices(&self) {
        let v4 = format!("{{ {SERVICE_ADDRESS}, {ECHO_ADDRESS} }}");
        let v6 = format!("{{ {SERVICE_ADDRESS_6}, {ECHO_ADDRESS_6} }}");
        let mut rules = "add table bridge voices; add chain bridge voices said \
                         { type filter hook prerouting priority 0; policy accept; }"
            .to_string();
        for node in self.bed.nodes() {
            rules += &format!("; add counter bridge voices node{node}");
            for what in
                [format!("ip saddr {v4}"), format!("ip6 saddr {v6}"), format!("arp saddr ip {v4}")]
            {
                let from = format!("iifname \"node{node}-eth0\" {what} counter name node{node}");
                rules += &format!("; add rule bridge voices said {from}");
            }
        }
        let mut command = self.bed.command(Place::Switch, "nft");
        run(command.arg(rules)).unwrap_or_else(|error| panic!("{error:#}"));
    }

    /// What the kernel of a machine says of one of its interfaces.
    fn read(&self, place: Place, what: &str) -> String {
        let path = format!("/sys/class/net/{what}");
        let text = run(self.bed.command(place, "cat").arg(path));
        text.unwrap_or_else(|error| panic!("{error:#}")).trim().to_string()
    }

    /// Which hardware address the client's kernel uses for an address; empty if it knows none.
    pub fn neighbor(&self, address: &str) -> String {
        let line = self.ip(Place::Client, &format!("neigh show {address} dev eth0"));
        let mut words = line.split_whitespace().skip_while(|word| *word != "lladdr");
        words.nth(1).unwrap_or_default().to_string()
    }
}

impl Drop for Scene<'_> {
    fn drop(&mut self) {
        if !thread::panicking() {
            // What stays behind harms nobody.
            let _ = fs::remove_dir_all(&self.dir);
            return;
        }
        eprintln!("logs and configuration are kept in {}", self.dir.display());
        eprintln!("{}", self.cluster.logs());
        for node in self.bed.nodes() {
            match self.cluster.status(node).map(|status| serde_json::to_string_pretty(&status)) {
                Ok(Ok(status)) => eprintln!("node {node}: {status}"),
                Ok(Err(error)) => eprintln!("node {node}: {error}"),
                Err(error) => eprintln!("node {node}: {error:#}"),
            }
        }
    }
}

/// Whether a node has this role for every service.
pub fn has_role(status: &Status, role: Role) -> bool {
    status.groups.len() >= SERVICES.len() && status.groups.iter().all(|group| group.role == role)
}
