//! What a user would pick to outlive a machine: HAProxy on two of them, and keepalived, which moves the addresses.
//!
//! keepalived says every 10 ms that it lives, the most often that it can; the addresses that are moved are those of our services, so
//! the clients are the same. Connections die with their machine: what can be told is how many outlive it, and when a newcomer
//! is answered.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::bail;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tools::demo::bed::{Place, SERVICE_ADDRESS, run as run_command};
use tools::demo::process::Process;
use tools::load::wire::monotonic_ns;

use super::arena::Arena;
use super::rival::{Ask, haproxy_pair};
use super::takeover::{BEFORE, Death, Run, SECONDS};
use crate::Common;
use crate::config::PROXIED;
use crate::moving::{self, Paced};

/// How long the pair may take until one of them has the addresses.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// As the heartbeats of a node: without it a busy machine makes the pair change places for nothing.
const PRIORITY: u8 = 50;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The pair; it is ended when this is dropped.
struct Pair<'a> {
    arena: &'a Arena<'a>,
    processes: Vec<Process>,
}

/// The first machine of the pair loses its power under paced connections.
pub fn run(arena: &Arena<'_>, common: &Common, paced: Paced) -> anyhow::Result<Run> {
    let mut pair = Pair { arena, processes: Vec::new() };
    // The second finds the first in its place: else they would change places once more while clients begin.
    pair.start(common, 1)?;
    pair.wait_for_addresses()?;
    pair.start(common, 2)?;
    for node in [1, 2] {
        let port = PROXIED[Ask::Objects as usize].2;
        arena.stage.wait_listening(Place::Node(node), port, None)?;
    }
    let load = moving::begin_paced(&arena.stage, Paced { seconds: SECONDS, ..paced })?;
    thread::sleep(BEFORE);
    arena.stage.bed.node(1).cut()?;
    let at_ns = monotonic_ns();
    pair.kill(1);
    let result = load.finish();
    arena.stage.bed.node(1).restore()?;
    Ok(Run::of(Death::Power, at_ns, &result?))
}

impl Pair<'_> {
    fn start(&mut self, common: &Common, node: u8) -> anyhow::Result<()> {
        let (stage, place) = (&self.arena.stage, Place::Node(node));
        let early = "net.ipv4.ip_nonlocal_bind=1";
        run_command(stage.bed.command(place, "sysctl").args(["-qw", early]))?;
        let dir = stage.dir().join("keepalived");
        fs::create_dir_all(&dir)?;
        let file = |name: &str| dir.join(name).display().to_string();
        let proxy = file("haproxy.cfg");
        fs::write(&proxy, haproxy_pair())?;
        let vrrp = file(&format!("keepalived{node}.conf"));
        fs::write(&vrrp, configuration(node))?;
        let cpu = if node == 1 { common.server_cpu } else { common.peer_cpu() };
        let pids = [file(&format!("parent{node}.pid")), file(&format!("vrrp{node}.pid"))];
        let commands: [(&str, Vec<String>); 2] = [
            ("haproxy", ["haproxy", "-f", &proxy].map(String::from).into()),
            (
                "keepalived",
                ["keepalived", "-nlP", "-f", &vrrp, "-p", &pids[0], "-r", &pids[1]]
                    .map(String::from)
                    .into(),
            ),
        ];
        for (name, command) in commands {
            let name = format!("{name}{node}");
            self.processes.push(self.arena.spawn(place, &name, cpu, &command)?);
        }
        Ok(())
    }

    /// Until the first machine has the addresses.
    fn wait_for_addresses(&mut self) -> anyhow::Result<()> {
        let limit = Instant::now() + READY_WITHIN;
        let node = self.arena.stage.bed.node(1);
        while !node.run("ip", &["-4", "addr", "show", "dev", "eth0"])?.contains(SERVICE_ADDRESS) {
            for process in &mut self.processes {
                if let Some(status) = process.ended()? {
                    bail!("{} has ended ({status})\n{}", process.name(), process.log_tail());
                }
            }
            if Instant::now() > limit {
                let logs: String = self.processes.iter().map(Process::log_tail).collect();
                bail!("keepalived does not bring the addresses up\n{logs}");
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
        for node in [1, 2] {
            self.kill(node);
            for (_, address, ..) in PROXIED {
                // Whoever was killed leaves its addresses; the other never had them.
                let words = format!("addr del {address}/24 dev eth0");
                let _ = self.arena.stage.bed.ip(Place::Node(node), &words);
            }
        }
        for process in &mut self.processes {
            let _ = process.wait();
        }
    }
}

fn configuration(node: u8) -> String {
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
