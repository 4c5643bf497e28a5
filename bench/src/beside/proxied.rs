//! What an idle proxied connection takes: resident memory of owner and peer with many of them open, minus the same with few.
//!
//! Clients and servers are the kernel's: processes of `understudy bench idle`, and nginx with as many workers, which take
//! the connections and wait for a request. Nothing counts until every connection stands at both ends of the node
//! and the peer holds a copy of both its legs. At the end of the large turn the owner is killed, and each connection says its
//! first word to the peer.
//!
//! Units: bytes.

use std::fs;
use std::net::SocketAddrV4;

use anyhow::{Context, bail};
use clap::Args;
use dataplane::control::status::{GroupStatus, Status};
use nix::sys::signal::Signal;
use tools::demo::bed::{Layout, Place, SERVERS_ADDRESS, run as run_command};
use tools::demo::process::Process;

use crate::Common;
use crate::balancers::usage::slab;
use crate::bulk::places;
use crate::config::{NodeSetup, POOL_ADDRESS, POOL_PORTS, Serves};
use crate::flows::{Resident, resident};
use crate::held::Held;
use crate::report::{Bound, Fact, Report};
use crate::stage::{Contender, Server, Stage};

/// Bytes that an idle proxied connection may take on each node.
const GOAL_BYTES: f64 = 1024.0;

/// Flows beside those of the connections that are measured: half of all may be half open.
const ROOM_FLOWS: u32 = 4096;

/// Connections of one process of ours, and those that a worker of nginx takes by chance above its share.
const PROCESS_MAX: u32 = 18_000;

/// Arguments of `beside proxied`.
#[derive(Args, Clone, Debug)]
pub struct ProxiedArgs {
    #[command(flatten)]
    pub common: Common,
    /// Connections of the large turn.
    #[arg(long, default_value_t = 100_000)]
    many: u32,
    /// Connections of the small turn.
    #[arg(long, default_value_t = 1_000)]
    few: u32,
}

/// What one turn found out.
struct Turn {
    /// Owner and peer.
    nodes: [Resident; 2],
    /// Bytes by which the kernel's slabs have grown: the sockets of clients and servers.
    sockets: u64,
    /// How many were answered by the peer after the owner's death.
    answered: u32,
}

/// Measures.
pub fn run(args: &ProxiedArgs, common: &Common) -> anyhow::Result<Report> {
    let most = PROCESS_MAX * POOL_PORTS.len() as u32;
    if args.many <= args.few || args.many > most {
        bail!("--many must be more than --few, and at most {most}");
    }
    let stage = Stage::new(common, "proxied", Layout::default())?;
    let mut servers = start_servers(&stage, common)?;
    let few = turn(&stage, common, args.few)?;
    let many = turn(&stage, common, args.many)?;
    // The bed ends what this has not.
    let _ = servers.signal(Signal::SIGTERM);
    let _ = servers.wait();
    let each = |few: u64, many: u64| (many as f64 - few as f64) / f64::from(args.many - args.few);
    let mut facts = Vec::new();
    for (node, (few, many)) in ["owner", "peer"].iter().zip(few.nodes.iter().zip(&many.nodes)) {
        let name = format!("{node}, an idle proxied connection takes");
        let goal = Bound::AtMost(GOAL_BYTES);
        facts.push(Fact::new(name, each(few.rss, many.rss), "bytes").goal(goal));
        let mib = many.rss as f64 / f64::from(1 << 20);
        facts.push(Fact::new(format!("{node}, resident with all of them"), mib, "MiB"));
    }
    let name = "the kernel's sockets at both ends of one take";
    facts.push(Fact::new(name, each(few.sockets, many.sockets), "bytes"));
    let goal = Bound::AtLeast(f64::from(args.many));
    let name = "answered by the peer after the owner was killed";
    facts.push(Fact::new(name, f64::from(many.answered), "").goal(goal));
    let conditions = vec![
        format!(
            "{} connections, then {}, each from one kernel's socket to another's through the pair; all copied, all idle.",
            args.few, args.many
        ),
        places(common),
    ];
    Ok(Report::new("proxied", conditions, Vec::new(), facts))
}

fn turn(stage: &Stage<'_>, common: &Common, connections: u32) -> anyhow::Result<Turn> {
    let flows = 2 * connections + ROOM_FLOWS;
    let setup = NodeSetup {
        flows,
        active: ROOM_FLOWS,
        idle_secs: 86_400,
        serves: Serves::Pool,
        ..stage.setup()
    };
    let mut server = stage.start_with(Contender::Mirrored, &setup)?;
    let before = slab();
    let mut held = Vec::new();
    for (process, port) in (0..).zip(POOL_PORTS) {
        let count = POOL_PORTS.len() as u32;
        let share = connections / count + u32::from(process < connections % count);
        let target = SocketAddrV4::new(POOL_ADDRESS.parse()?, port);
        held.push(Held::begin(stage, common.client_cpu, target, share)?);
    }
    for held in &mut held {
        held.wait_open()?;
    }
    wait_copied(&mut server, connections)?;
    for place in [Place::Client, Place::Servers] {
        let sockets = sockets(stage, place)?;
        if sockets < connections {
            bail!("{place:?} has {sockets} sockets in use of {connections}");
        }
    }
    let nodes = [resident(server.node_pid(1))?, resident(server.node_pid(2))?];
    let sockets = slab().saturating_sub(before);
    eprintln!(
        "{connections} proxied connections are established and copied; resident: owner {} bytes, peer {}",
        nodes[0].rss, nodes[1].rss
    );
    server.signal_node(1, Signal::SIGKILL)?;
    held.iter_mut().for_each(Held::begin_to_ask);
    let mut answered = 0;
    for held in held {
        answered += held.finish()?;
    }
    eprintln!("{answered} of them were answered after the owner was killed");
    Ok(Turn { nodes, sockets, answered })
}

/// Waits until both legs of every connection are established and copied.
fn wait_copied(server: &mut Server<'_>, connections: u32) -> anyhow::Result<()> {
    let legs = 2 * u64::from(connections);
    let is_whole = |group: &GroupStatus| (group.flows, group.flows_copied) == (legs, legs);
    let all = |status: &Status| status.groups.iter().all(is_whole);
    server.wait_for("every connection to be copied", all)?;
    // It acknowledges what it holds, and applies it a little later.
    server.wait_for_at(2, "the peer to hold every connection", |status| {
        status.groups.iter().map(|group| group.flows).sum::<u64>() == legs
    })
}

/// TCP sockets of a machine that are in use.
fn sockets(stage: &Stage<'_>, place: Place) -> anyhow::Result<u32> {
    let text = run_command(stage.bed.command(place, "cat").arg("/proc/net/sockstat"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("TCP: inuse "));
    let count = line.and_then(|rest| rest.split(' ').next()?.parse().ok());
    count.with_context(|| format!("/proc/net/sockstat says {text:?}"))
}

/// A web server whose workers share each port evenly.
fn start_servers(stage: &Stage<'_>, common: &Common) -> anyhow::Result<Process> {
    let dir = stage.dir();
    let listen: String = POOL_PORTS
        .map(|port| format!("        listen {SERVERS_ADDRESS}:{port} reuseport backlog=4096;\n"))
        .collect();
    let text = format!(
        r#"daemon off;
user root;
worker_processes {workers};
worker_rlimit_nofile 20000;
pid "{dir}/nginx.pid";
error_log stderr;
events {{ worker_connections 19900; }}
http {{
    access_log off;
    client_header_timeout 1d;
    client_body_temp_path "{dir}/nginx-body";
    server {{
{listen}        location / {{ return 200 "here"; }}
    }}
}}
"#,
        workers = POOL_PORTS.len(),
        dir = dir.display()
    );
    let file = dir.join("nginx.conf");
    fs::write(&file, text)?;
    let (cpu, file) = (common.client_cpu.to_string(), file.display().to_string());
    let words = ["-c", &cpu, "nginx", "-e", "stderr", "-c", &file];
    let mut process = stage.bed.spawn(Place::Servers, "nginx", "taskset".as_ref(), &words)?;
    stage.wait_listening(Place::Servers, *POOL_PORTS.end(), Some(&mut process))?;
    Ok(process)
}
