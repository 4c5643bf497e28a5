//! What a user would pick to outlive a machine: keepalived, which moves the addresses, and on each of two machines HAProxy, or
//! the kernel's NAT with conntrackd, which tells the other kernel of every connection.
//!
//! keepalived says every 10 ms that it lives, the most often that it can; the addresses that are moved are those of our services, so
//! the clients are the same. HAProxy's connections die with their machine: what can be told is how many outlive it, and when a
//! newcomer is answered. Behind NAT clients talk to the servers themselves, and go on.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::bail;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tools::demo::bed::{Place, SERVERS_ADDRESS, SERVICE_ADDRESS, run as run_command};
use tools::demo::process::Process;
use tools::load::wire::monotonic_ns;

use super::arena::Arena;
use super::rival::{Ask, Rival, haproxy_pair};
use super::takeover::{BEFORE, Death, Run, SECONDS};
use crate::Common;
use crate::config::PROXIED;
use crate::moving::{self, Paced};

/// How long the pair may take until one of them has the addresses, and until a program is ready.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// As the heartbeats of a node: without it a busy machine makes the pair change places for nothing.
const PRIORITY: u8 = 50;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What stands behind the addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behind {
    /// A proxy that the other machine knows nothing of.
    Haproxy,
    /// NAT of the kernel, whose connections conntrackd copies into the other machine's.
    Conntrackd,
}

/// The pair; it is ended when this is dropped.
struct Pair<'a> {
    arena: &'a Arena<'a>,
    behind: Behind,
    dir: PathBuf,
    processes: Vec<Process>,
}

/// The first machine of the pair loses its power under paced connections.
pub fn run(
    arena: &Arena<'_>,
    common: &Common,
    behind: Behind,
    paced: Paced,
) -> anyhow::Result<Run> {
    let dir = arena.stage.dir().join(behind.name());
    fs::create_dir_all(&dir)?;
    let mut pair = Pair { arena, behind, dir, processes: Vec::new() };
    // The second finds the first in its place: else they would change places once more while clients begin.
    pair.start(common, 1)?;
    pair.wait_for_addresses()?;
    pair.start(common, 2)?;
    for node in [1, 2] {
        pair.wait_ready(node)?;
    }
    let load = moving::begin_paced(&arena.stage, Paced { seconds: SECONDS, ..paced })?;
    thread::sleep(BEFORE);
    arena.stage.bed.node(1).cut()?;
    let at_ns = monotonic_ns();
    pair.kill(1);
    let result = load.finish();
    arena.stage.bed.node(1).restore()?;
    Run::of(behind.rival(), Death::Power, at_ns, &result?).if_calm()
}

impl Behind {
    /// As whom the report has it.
    pub fn rival(self) -> Rival {
        match self {
            Behind::Haproxy => Rival::Haproxy,
            Behind::Conntrackd => Rival::Nat,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Behind::Haproxy => "keepalived",
            Behind::Conntrackd => "conntrackd",
        }
    }

    /// What a machine's kernel must do for it.
    fn settings(self) -> &'static [&'static str] {
        match self {
            Behind::Haproxy => &["net.ipv4.ip_nonlocal_bind=1"],
            // Windows are not copied. Clients and servers share a network: nobody is to be led past the machine.
            Behind::Conntrackd => &[
                "net.ipv4.ip_forward=1",
                "net.netfilter.nf_conntrack_tcp_be_liberal=1",
                "net.ipv4.conf.all.send_redirects=0",
                "net.ipv4.conf.eth0.send_redirects=0",
            ],
        }
    }
}

impl Pair<'_> {
    fn start(&mut self, common: &Common, node: u8) -> anyhow::Result<()> {
        let (bed, place) = (&self.arena.stage.bed, Place::Node(node));
        let settings = self.behind.settings();
        run_command(bed.command(place, "sysctl").arg("-qw").args(settings))?;
        let vrrp = self.file(&format!("keepalived{node}.conf"), &keepalived(node))?;
        let pids = ["parent", "vrrp"].map(|name| self.path(&format!("{name}{node}.pid")));
        let moves = ["keepalived", "-nlP", "-f", &vrrp, "-p", &pids[0], "-r", &pids[1]];
        let serves = match self.behind {
            Behind::Haproxy => {
                ["haproxy".into(), "-f".into(), self.file("haproxy.cfg", &haproxy_pair())?]
            }
            Behind::Conntrackd => {
                let rules = self.file("nat.nft", &nat())?;
                run_command(bed.command(place, "nft").args(["-f", &rules]))?;
                // One that was killed has left it, and it would be taken for alive.
                let _ = fs::remove_file(self.path(&format!("conntrackd{node}.lock")));
                let text = conntrackd(node, &self.dir, &self.socket(node));
                let file = self.file(&format!("conntrackd{node}.conf"), &text)?;
                ["conntrackd".into(), "-C".into(), file]
            }
        };
        let cpu = if node == 1 { common.server_cpu } else { common.peer_cpu() };
        for (name, command) in
            [("serves", serves.to_vec()), ("keepalived", moves.map(String::from).into())]
        {
            let name = format!("{}-{name}{node}", self.behind.name());
            self.processes.push(self.arena.spawn(place, &name, cpu, &command)?);
        }
        Ok(())
    }

    /// Writes a file of the pair; its path.
    fn file(&self, name: &str, text: &str) -> anyhow::Result<String> {
        fs::write(self.dir.join(name), text)?;
        Ok(self.path(name))
    }

    fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    /// Where conntrackd takes orders: a path that is short wherever the figures go.
    fn socket(&self, node: u8) -> PathBuf {
        std::env::temp_dir().join(format!("beside-{}-conntrackd{node}", std::process::id()))
    }

    /// Until the first machine has the addresses.
    fn wait_for_addresses(&mut self) -> anyhow::Result<()> {
        self.wait("keepalived to bring the addresses up", |pair| {
            let words = ["-4", "addr", "show", "dev", "eth0"];
            let node = pair.arena.stage.bed.node(1);
            Ok(node.run("ip", &words)?.contains(SERVICE_ADDRESS))
        })
    }

    fn wait_ready(&mut self, node: u8) -> anyhow::Result<()> {
        match self.behind {
            Behind::Haproxy => {
                let port = PROXIED[Ask::Objects as usize].2;
                self.arena.stage.wait_listening(Place::Node(node), port, None)
            }
            Behind::Conntrackd => {
                self.wait("conntrackd to take orders", |pair| Ok(pair.socket(node).exists()))
            }
        }
    }

    fn wait(
        &mut self,
        what: &str,
        is_so: impl Fn(&Self) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let limit = Instant::now() + READY_WITHIN;
        while !is_so(self)? {
            for process in &mut self.processes {
                if let Some(status) = process.ended()? {
                    bail!("{} has ended ({status})\n{}", process.name(), process.log_tail());
                }
            }
            if Instant::now() > limit {
                let logs: String = self.processes.iter().map(Process::log_tail).collect();
                bail!("waited in vain for {what}\n{logs}");
            }
            thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// Ends every process of a machine at once.
    fn kill(&self, node: u8) {
        for pid in self.arena.stage.bed.pids(Place::Node(node)) {
            // Gone already is as good.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

impl Drop for Pair<'_> {
    fn drop(&mut self) {
        let bed = &self.arena.stage.bed;
        for node in [1, 2] {
            self.kill(node);
            for (_, address, ..) in PROXIED {
                // Whoever was killed leaves its addresses; the other never had them.
                let _ = bed.ip(Place::Node(node), &format!("addr del {address}/24 dev eth0"));
            }
            if self.behind == Behind::Conntrackd {
                // The next subject's frames are not to be looked at by it.
                let _ =
                    run_command(bed.command(Place::Node(node), "nft").args(["flush", "ruleset"]));
                let _ = run_command(
                    bed.command(Place::Node(node), "sysctl").args(["-qw", "net.ipv4.ip_forward=0"]),
                );
                let _ = fs::remove_file(self.socket(node));
            }
        }
        for process in &mut self.processes {
            let _ = process.wait();
        }
    }
}

fn keepalived(node: u8) -> String {
    let (other, priority) = if node == 1 { (2, 150) } else { (1, 100) };
    let addresses: String =
        PROXIED.iter().map(|(_, address, ..)| format!("        {address}/24 dev eth0\n")).collect();
    format!(
        r#"global_defs {{
    vrrp_version 3
    vrrp_garp_master_delay 0
    vrrp_rt_priority {PRIORITY}
}}
vrrp_instance pair {{
    state BACKUP
    interface eth1
    virtual_router_id 51
    priority {priority}
    advert_int 0.01
    unicast_src_ip 10.99.0.{node}
    unicast_peer {{
        10.99.0.{other}
    }}
    virtual_ipaddress {{
{addresses}    }}
}}
"#
    )
}

/// Every service led to its server, which answers by the same way.
fn nat() -> String {
    let (mut there, mut back) = (String::new(), String::new());
    for (_, address, port, server_port) in PROXIED {
        let _ = writeln!(
            there,
            "        ip daddr {address} tcp dport {port} dnat to {SERVERS_ADDRESS}:{server_port}"
        );
        let _ = writeln!(
            back,
            "        ip daddr {SERVERS_ADDRESS} tcp dport {server_port} ct original ip daddr {address} snat to {address}"
        );
    }
    format!(
        "table ip nat {{\n    chain there {{\n        type nat hook prerouting priority dstnat;\n{there}    }}\n    \
         chain back {{\n        type nat hook postrouting priority srcnat;\n{back}    }}\n}}\n"
    )
}

/// What is known of connections goes into the other machine's kernel at once, not when that takes over: the faster way.
fn conntrackd(node: u8, dir: &Path, socket: &Path) -> String {
    let other = 3 - node;
    format!(
        r#"Sync {{
    Mode FTFW {{
        DisableExternalCache yes
        StartupResync yes
    }}
    UDP {{
        IPv4_address 10.99.0.{node}
        IPv4_Destination_Address 10.99.0.{other}
        Port 3780
        Interface eth1
        SndSocketBuffer 1249280
        RcvSocketBuffer 1249280
        Checksum on
    }}
}}
General {{
    HashSize 32768
    HashLimit 262144
    LogFile {dir}/conntrackd{node}.txt
    LockFile {dir}/conntrackd{node}.lock
    UNIX {{
        Path {socket}
    }}
    NetlinkBufferSize 2097152
    NetlinkBufferSizeMaxGrowth 8388608
    Filter From Userspace {{
        Protocol Accept {{
            TCP
        }}
        Address Ignore {{
            IPv4_address 127.0.0.1
            IPv4_address 10.99.0.{node}
            IPv4_address 10.99.0.{other}
        }}
    }}
}}
"#,
        dir = dir.display(),
        socket = socket.display()
    )
}
