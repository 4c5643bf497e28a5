//! The bed: client, servers, switch, nodes and witness as network namespaces on this machine.
//!
//! ```text
//!             br0 10.88.0.0/24                 br1 10.99.0.0/24
//!   client ───┬── node1 eth0           node1 eth1 ──┬── witness
//!   servers ──┴── node2 eth0           node2 eth1 ──┘
//! ```
//!
//! With a third node, where the layout says so.
//!
//! Both bridges live in the namespace of the switch. The switch's ports towards the nodes do not
//! leave checksums to hardware that does not exist (`tx off`): a node reads frames from its
//! interface as they are. Names carry the process id and a number, so several beds can stand side by
//! side, and a bed whose maker died without clearing up is recognised and removed by the next. A
//! [`Layout`] changes the client's way to the first node: through the switch, by a cable of their
//! own, or through whatever the maker of the bed puts between two ends in the switch.
//!
//! Everything is removed when the last of [`Bed`] goes: processes by their ids, then the
//! namespaces.

use std::ffi::OsStr;
use std::fs::File;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

pub use layout::{Arp, Cable, Layout, Snoop};

use super::process::Process;

mod layout;

/// Name of namespaces that the next run may remove when their maker is gone.
const PREFIX: &str = "usdemo";
/// Name of namespaces that were asked to stay.
const PREFIX_KEPT: &str = "uskept";

/// Beds built by this process.
static BEDS: AtomicU32 = AtomicU32::new(0);

/// How long killed processes may take to go.
const GONE_WITHIN: Duration = Duration::from_secs(3);

/// Nodes in a bed, unless its layout has a third.
pub const NODES: [u8; 2] = [1, 2];

/// The servers' host, to which proxying nodes pass connections on.
pub const SERVERS_ADDRESS: &str = "10.88.0.20";

/// The address that clients know.
pub const SERVICE_ADDRESS: &str = "10.88.0.100";

/// Its IPv6 address. The machines of the bed speak IPv4 alone until a test says otherwise.
pub const SERVICE_ADDRESS_6: &str = "fd88::100";

/// The address of the echo service.
pub const ECHO_ADDRESS: &str = "10.88.0.101";

/// Its IPv6 address.
pub const ECHO_ADDRESS_6: &str = "fd88::101";

/// Where the witness listens.
pub const WITNESS: &str = "10.99.0.9:7948";

/// A namespace of the bed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Where the clients run.
    Client,
    /// Where servers run to which connections are passed on.
    Servers,
    /// Where the bridges are.
    Switch,
    /// A machine under test.
    Node(u8),
    /// The keeper of the register.
    Witness,
}

impl Place {
    fn all(nodes: u8) -> impl Iterator<Item = Place> {
        [Place::Client, Place::Servers, Place::Switch, Place::Witness]
            .into_iter()
            .chain((1..=nodes).map(Place::Node))
    }

    fn name(self) -> String {
        match self {
            Place::Client => "client".into(),
            Place::Servers => "servers".into(),
            Place::Switch => "switch".into(),
            Place::Node(id) => format!("node{id}"),
            Place::Witness => "witness".into(),
        }
    }
}

/// A standing bed.
#[derive(Debug)]
pub struct Bed {
    prefix: String,
    dir: PathBuf,
    layout: Layout,
    teardown: Arc<Teardown>,
}

/// One machine of the bed.
#[derive(Debug, Clone, Copy)]
pub struct Node<'a> {
    bed: &'a Bed,
    id: u8,
}

impl Bed {
    /// Builds the bed; processes started in it write their logs to `dir`. Needs root.
    pub fn new(dir: &Path, keep: bool) -> anyhow::Result<Bed> {
        Bed::laid_out(dir, keep, Layout::default())
    }

    /// Builds a bed that differs from the usual one.
    pub fn laid_out(dir: &Path, keep: bool, layout: Layout) -> anyhow::Result<Bed> {
        if !nix::unistd::geteuid().is_root() {
            bail!("network namespaces can only be made by root; run this as root");
        }
        sweep();
        let prefix = if keep { PREFIX_KEPT } else { PREFIX };
        let number = BEDS.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("{prefix}{}-{number}", std::process::id());
        let namespaces = Place::all(layout.nodes).map(|place| format!("{prefix}-{}", place.name()));
        let teardown = Arc::new(Teardown {
            namespaces: namespaces.collect(),
            keep,
            done: AtomicBool::new(false),
        });
        // From here on a failure clears up what was made so far.
        let bed = Bed { prefix, dir: dir.to_path_buf(), layout, teardown };
        bed.build().context("building the bed of network namespaces")?;
        Ok(bed)
    }

    /// What removes the bed; for a signal handler.
    pub fn teardown(&self) -> Arc<Teardown> {
        self.teardown.clone()
    }

    /// Name of a namespace.
    pub fn namespace(&self, place: Place) -> String {
        format!("{}-{}", self.prefix, place.name())
    }

    /// Processes that run in a namespace.
    pub fn pids(&self, place: Place) -> Vec<i32> {
        pids(&self.namespace(place))
    }

    /// One of the nodes.
    pub fn node(&self, id: u8) -> Node<'_> {
        assert!((1..=self.layout.nodes).contains(&id), "the bed has no node {id}");
        Node { bed: self, id }
    }

    /// The nodes.
    pub fn nodes(&self) -> RangeInclusive<u8> {
        1..=self.layout.nodes
    }

    /// A command that will run inside a namespace.
    pub fn command(&self, place: Place, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(place)]).arg(program);
        command.stdin(Stdio::null());
        // A Ctrl-C at the terminal is ours to handle.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command
    }

    /// Starts a program inside a namespace, both of its outputs in `<name>.log`.
    pub fn spawn<S: AsRef<OsStr>>(
        &self,
        place: Place,
        name: &str,
        program: &Path,
        args: &[S],
    ) -> anyhow::Result<Process> {
        let log = self.dir.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log)?;
        let mut command = self.command(place, program);
        command.args(args).stdout(file.try_clone()?).stderr(file);
        let process = Process::start(name, command, Some(log))?;
        Ok(if self.teardown.keep { process.left() } else { process })
    }

    fn build(&self) -> anyhow::Result<()> {
        for place in Place::all(self.layout.nodes) {
            let namespace = self.namespace(place);
            ip(&["netns", "add", &namespace])?;
            let quiet = "net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1";
            let settings: Vec<&str> = quiet.split(' ').collect();
            run(self.command(place, "sysctl").arg("-qw").args(settings))?;
            self.ip(place, "link set lo up")?;
        }
        // A switch forwards frames; this kernel would also lead them through its firewall's hooks for packets.
        let filters = ["iptables", "ip6tables", "arptables"]
            .map(|name| format!("net.bridge.bridge-nf-call-{name}=0"));
        run(self.command(Place::Switch, "sysctl").arg("-qew").args(filters))?;
        for bridge in ["br0", "br1"] {
            let options = "type bridge mcast_snooping 0 stp_state 0 forward_delay 0";
            self.ip(Place::Switch, &format!("link add {bridge} {options}"))?;
            self.ip(Place::Switch, &format!("link set {bridge} up"))?;
        }
        let Layout { cable, mtu, link_mtu, .. } = self.layout;
        self.link(Place::Witness, "eth1", Some("br1"), "10.99.0.9/24", link_mtu)?;
        for id in self.nodes() {
            let address = format!("10.99.0.{id}/24");
            self.link(Place::Node(id), "eth1", Some("br1"), &address, link_mtu)?;
        }
        for id in self.nodes().skip(1) {
            self.link(Place::Node(id), "eth0", Some("br0"), &format!("10.88.0.1{id}/24"), mtu)?;
        }
        let (client, node) = (Place::Client, Place::Node(1));
        let servers = format!("{SERVERS_ADDRESS}/24");
        self.link(Place::Servers, "eth0", Some("br0"), &servers, mtu)?;
        let addresses = ["10.88.0.1/24", "10.88.0.11/24"];
        if cable == Cable::Direct {
            self.wire((client, "eth0"), (node, "eth0"), mtu)?;
        }
        for (place, address) in [client, node].into_iter().zip(addresses) {
            match cable {
                Cable::Switched => self.link(place, "eth0", Some("br0"), address, mtu)?,
                Cable::Direct => self.end(place, "eth0", address)?,
                Cable::Relayed => {
                    self.link(place, "eth0", None, address, mtu)?;
                    self.plain(Place::Switch, &port(place, "eth0"))?;
                }
            }
            if cable != Cable::Switched {
                self.plain(place, "eth0")?;
            }
        }
        Ok(())
    }

    /// A cable from `place` to the switch, and there to a bridge; `address` is that of its end.
    fn link(
        &self,
        place: Place,
        end: &str,
        bridge: Option<&str>,
        address: &str,
        mtu: u32,
    ) -> anyhow::Result<()> {
        let port = port(place, end);
        self.wire((place, end), (Place::Switch, &port), mtu)?;
        if let Some(bridge) = bridge {
            self.ip(Place::Switch, &format!("link set {port} master {bridge}"))?;
            if self.layout.snoop == Snoop::Hub && matches!(place, Place::Node(_)) {
                // Before the first frame could come.
                self.ip(Place::Switch, &format!("link set {port} type bridge_slave learning off"))?;
            }
        }
        self.ip(Place::Switch, &format!("link set {port} up"))?;
        self.end(place, end, address)?;
        if matches!(place, Place::Node(_)) {
            run(self.command(Place::Switch, "ethtool").args(["-K", &port, "tx", "off"]))?;
        }
        Ok(())
    }

    /// A cable between two machines, its ends down.
    fn wire(&self, a: (Place, &str), b: (Place, &str), mtu: u32) -> anyhow::Result<()> {
        // The sending end's queue chooses the receiving end's: both have as many.
        let ends = [a.0, b.0].into_iter();
        let node = ends.filter_map(|place| match place {
            Place::Node(id) => self.layout.queues.get(usize::from(id - 1)).copied(),
            _ => None,
        });
        let count = node.max().unwrap_or(1);
        let queues = &format!("numrxqueues {count} numtxqueues {count}");
        let (at, to) = (self.namespace(a.0), self.namespace(b.0));
        let peer = format!("peer name {} netns {to} mtu {mtu} {queues}", b.1);
        ip_words(&format!("link add {} netns {at} mtu {mtu} {queues} type veth {peer}", a.1))
    }

    /// An end of a cable gets its address and goes up.
    fn end(&self, place: Place, end: &str, address: &str) -> anyhow::Result<()> {
        self.ip(place, &format!("addr add {address} dev {end}"))?;
        self.ip(place, &format!("link set {end} up"))
    }

    /// An interface leaves nothing to hardware.
    pub fn plain(&self, place: Place, interface: &str) -> anyhow::Result<()> {
        let off = ["tx", "off", "tso", "off", "gso", "off", "gro", "off"];
        run(self.command(place, "ethtool").args(["-K", interface]).args(off)).map(drop)
    }

    /// Runs `ip` inside a machine.
    pub fn ip(&self, place: Place, words: &str) -> anyhow::Result<()> {
        ip_words(&format!("-n {} {words}", self.namespace(place)))
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.teardown.run();
    }
}

impl Node<'_> {
    /// Starts a program on this node.
    pub fn spawn<S: AsRef<OsStr>>(&self, program: &Path, args: &[S]) -> anyhow::Result<Process> {
        let name = format!("node{}", self.id);
        self.bed.spawn(Place::Node(self.id), &name, program, args)
    }

    /// Runs a short command on this node; what it wrote to standard output.
    pub fn run(&self, program: &str, args: &[&str]) -> anyhow::Result<String> {
        run(self.bed.command(Place::Node(self.id), program).args(args))
    }

    /// Takes both of the switch's ports towards this node down: nothing goes in or out any more.
    pub fn cut(&self) -> anyhow::Result<()> {
        self.ports("down")
    }

    /// Takes both ports up again.
    pub fn restore(&self) -> anyhow::Result<()> {
        self.ports("up")
    }

    fn ports(&self, state: &str) -> anyhow::Result<()> {
        for end in ["eth0", "eth1"] {
            let port = port(Place::Node(self.id), end);
            self.bed.ip(Place::Switch, &format!("link set {port} {state}"))?;
        }
        Ok(())
    }
}

/// The switch's end of a cable, as a name of at most 15 bytes.
fn port(place: Place, end: &str) -> String {
    format!("{}-{end}", place.name())
}

/// Removes a bed, once.
#[derive(Debug)]
pub struct Teardown {
    namespaces: Vec<String>,
    keep: bool,
    done: AtomicBool,
}

impl Teardown {
    /// Ends every process in the bed and removes its namespaces; says how to enter it if it is to
    /// be kept.
    pub fn run(&self) {
        if self.done.swap(true, Ordering::SeqCst) {
            return;
        }
        if !self.keep {
            remove(&self.namespaces);
            return;
        }
        eprintln!("The bed was kept. Enter one of its machines with `ip netns exec NAME bash`:");
        for namespace in &self.namespaces {
            eprintln!("  {namespace}");
        }
        eprintln!("Remove each with `ip netns pids NAME | xargs -r kill -9; ip netns del NAME`.");
    }
}

fn remove(namespaces: &[String]) {
    let limit = Instant::now() + GONE_WITHIN;
    loop {
        let pids: Vec<i32> = namespaces.iter().flat_map(|name| pids(name)).collect();
        if pids.is_empty() || Instant::now() > limit {
            break;
        }
        for pid in pids {
            // Gone already is as good.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        thread::sleep(Duration::from_millis(5));
    }
    for namespace in namespaces {
        // One that was never made cannot be removed; nothing depends on the answer.
        let _ = ip(&["netns", "del", namespace]);
    }
}

fn pids(namespace: &str) -> Vec<i32> {
    let output = Command::new("ip").args(["netns", "pids", namespace]).output();
    let text = output.map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&text).lines().filter_map(|line| line.trim().parse().ok()).collect()
}

/// Removes beds whose makers died before they could.
fn sweep() {
    let output = Command::new("ip").args(["netns", "list"]).output();
    let text = output.map(|output| output.stdout).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let names = text.lines().filter_map(|line| line.split_whitespace().next());
    let orphans: Vec<String> = names.filter(|name| is_orphan(name)).map(String::from).collect();
    remove(&orphans);
}

fn is_orphan(namespace: &str) -> bool {
    let maker = namespace.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
    let maker = maker.and_then(|pid| pid.parse::<u32>().ok());
    maker.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
}

fn ip_words(words: &str) -> anyhow::Result<()> {
    ip(&words.split_whitespace().collect::<Vec<_>>())
}

fn ip(args: &[&str]) -> anyhow::Result<()> {
    run(Command::new("ip").args(args)).map(drop)
}

/// Runs a command to its end; what it wrote to standard output.
pub fn run(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?} failed ({}): {}", output.status, error.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_ports_fit_an_interface() {
        for place in Place::all(3) {
            assert!(port(place, "eth0").len() <= 15, "{}", port(place, "eth0"));
        }
    }

    #[test]
    fn only_beds_of_dead_makers_are_orphans() {
        assert!(!is_orphan(&format!("{PREFIX}{}-0-client", std::process::id())));
        assert!(is_orphan(&format!("{PREFIX}4294967295-client")));
        assert!(!is_orphan(&format!("{PREFIX_KEPT}4294967295-client")));
        assert!(!is_orphan("somebody-else"));
    }
}
