//! `understudy status`: how a running node is, in full words and with units.

mod group;
#[cfg(test)]
mod tests;

use std::fmt::Write;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::Args;
use dataplane::control::status::{
    ClusterStatus, Configuration, GroupStatus, Lag, Role, SealedStatus, Standing, Status,
};
use dataplane::control::{self, Reply, Request};

use crate::handover::finish;
use crate::print;

use group::{details, groups};
pub(crate) use group::{handed_over, handovers, unfit};

/// Where nodes put their sockets unless told otherwise.
const SOCKETS: &str = "/run/understudy";

/// Arguments of `understudy status`.
#[derive(Args, Debug, Clone)]
#[command(after_help = "Exit codes: 0 the node answered, 1 it did not, 2 wrong usage.")]
pub struct StatusArgs {
    /// The node's control socket. Default: the only one in /run/understudy.
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Print the node's answer as JSON.
    #[arg(long)]
    pub json: bool,
    /// Again and again, every so many seconds, until interrupted.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1")]
    pub watch: Option<u64>,
}

/// Asks the node and prints what it says.
pub fn main(args: &StatusArgs) -> ExitCode {
    match args.watch {
        Some(seconds) => watch(args, Duration::from_secs(seconds.max(1))),
        None => finish(text(args)),
    }
}

/// A node that does not answer may come back: it is asked again.
fn watch(args: &StatusArgs, pause: Duration) -> ExitCode {
    let clear = if args.json || !std::io::stdout().is_terminal() { "" } else { "\x1b[H\x1b[2J" };
    loop {
        let text = text(args).unwrap_or_else(|message| format!("error: {message}\n"));
        print(&format!("{clear}{text}"));
        thread::sleep(pause);
    }
}

fn text(args: &StatusArgs) -> Result<String, String> {
    let status = read(&socket(args.socket.as_deref())?)?;
    if args.json { json(&status) } else { Ok(render(&status)) }
}

/// The control socket to use: the one that is named, or the only one there is.
pub(crate) fn socket(named: Option<&Path>) -> Result<PathBuf, String> {
    named.map_or_else(|| only_socket(Path::new(SOCKETS)), |path| Ok(path.into()))
}

/// Asks the node behind `socket` how it is.
pub(crate) fn read(socket: &Path) -> Result<Status, String> {
    match ask(socket, &Request::Status)? {
        Reply::Status { status } => Ok(*status),
        _ => Err("the node answered something else".into()),
    }
}

/// Asks the node behind `socket`; what it refuses is an error.
pub(crate) fn ask(socket: &Path, request: &Request) -> Result<Reply, String> {
    match control::ask(socket, request) {
        Ok(Reply::Error { message }) => Err(message),
        Ok(reply) => Ok(reply),
        Err(error) => {
            let socket = socket.display();
            Err(format!(
                "no node answers at {socket}: {error}; is it running, and may you open the socket?"
            ))
        }
    }
}

/// The groups of a service, the one that takes new connections first.
pub(crate) fn service_groups<'a>(
    status: &'a Status,
    name: &str,
) -> Result<Vec<&'a GroupStatus>, String> {
    let mut groups: Vec<_> = status.groups.iter().filter(|group| group.service == name).collect();
    groups.sort_by_key(|group| group.is_closed);
    if groups.is_empty() {
        let known: Vec<_> = status.groups.iter().map(|group| group.service.as_str()).collect();
        return Err(format!("there is no service {name:?}; there are: {}", known.join(", ")));
    }
    Ok(groups)
}

/// A value as JSON, for people and programs.
pub(crate) fn json(value: &impl serde::Serialize) -> Result<String, String> {
    serde_json::to_string_pretty(value).map(|json| json + "\n").map_err(|error| error.to_string())
}

/// The socket in `directory`, if there is exactly one.
fn only_socket(directory: &Path) -> Result<PathBuf, String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let is_socket = |path: &PathBuf| path.extension().is_some_and(|end| end == "sock");
    let mut sockets: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_socket).collect();
    sockets.sort();
    match &sockets[..] {
        [socket] => Ok(socket.clone()),
        [] => Err(format!("no socket in {}; name one with --socket", directory.display())),
        [first, ..] => {
            let (n, first) = (sockets.len(), first.display());
            Err(format!("{n} sockets in {}; name one: --socket {first}", directory.display()))
        }
    }
}

/// The status as text.
fn render(status: &Status) -> String {
    let mut text = String::new();
    head(&mut text, status);
    services(&mut text, status);
    cores(&mut text, status);
    timers(&mut text, status);
    text
}

/// What is served, and what there is to say of each.
pub(crate) fn services(text: &mut String, status: &Status) {
    groups(text, status);
    for group in &status.groups {
        details(text, group);
    }
}

fn head(text: &mut String, status: &Status) {
    let cluster = &status.cluster;
    let _ = writeln!(
        text,
        "node {} of cluster {}, version {}, up {}, incarnation {}",
        status.node,
        cluster.name,
        status.version,
        span(status.uptime_us),
        status.incarnation
    );
    configuration(text, &status.configuration);
    let answered = match cluster.arbiter_answer_age_us {
        Some(age) => format!(", last answer {} ago", span(age)),
        None if cluster.arbiter == "none" => String::new(),
        None => ", no answer yet".into(),
    };
    let _ = writeln!(text, "arbiter {}{answered}", cluster.arbiter);
    let guardian = &status.guardian;
    let restarts = guardian.restarts;
    let _ = match guardian.process {
        Some(process) => {
            writeln!(text, "guardian running (process {process}, {restarts} restarts)")
        }
        None => {
            writeln!(text, "guardian ABSENT ({restarts} restarts): silence must tell of a crash")
        }
    };
    let _ = match cluster.keys.first() {
        Some(key) => writeln!(text, "sealed under key {key}{}", told(&cluster.witness_sealed)),
        None => {
            writeln!(text, "NOT SEALED: whoever reaches the cluster link can speak for every node")
        }
    };
    if cluster.split_brain_possible {
        let _ = writeln!(text, "SPLIT-BRAIN POSSIBLE: nodes that lose each other both serve");
    }
    if status.draining {
        let _ = writeln!(text, "DRAINING: this node hands its services over and takes no new role");
    }
    nodes(text, status);
    standings(text, cluster);
}

/// A configuration that is not the one with which the node has started.
fn configuration(text: &mut String, configuration: &Configuration) {
    let Configuration { file, age_us, reloads, undone, confirm_left_us } = configuration;
    if *reloads > 0 {
        let _ = write!(
            text,
            "{file} reloaded {reloads} times, what runs was taken {} ago",
            span(*age_us)
        );
        let _ = match undone {
            0 => writeln!(text),
            undone => writeln!(text, "; undone {undone} times because nobody confirmed it"),
        };
    }
    if let Some(left) = confirm_left_us {
        let left = span(*left);
        let _ = writeln!(
            text,
            "NOT CONFIRMED: undone in {left} unless `understudy confirm` comes first"
        );
    }
}

/// Every node: this one as it is, the others as they were heard.
pub(crate) fn nodes(text: &mut String, status: &Status) {
    let timer = |name: &str| status.timers.iter().find(|timer| timer.name == name);
    let in_use = |name| timer(name).map(|timer| timer.effective_us);
    let optional = |us: Option<u64>| us.map_or("-".into(), span);
    let life = |life: &str| if life.is_empty() { "-".into() } else { life.to_string() };
    let mut rows = vec![[
        format!("node {}", status.node),
        "this node".into(),
        life(&status.incarnation),
        status.version.clone(),
        span(status.largest_gap_us),
        optional(in_use("lease")),
        optional(in_use("peer_silent")),
        optional(status.cluster.arbiter_answer_age_us),
        status.path.to_string(),
    ]];
    for node in &status.cluster.nodes {
        let mut heard = match node.heartbeat_age_us {
            Some(age) => format!("{} ago", span(age)),
            None => "NEVER".into(),
        };
        if node.draining {
            heard += ", DRAINING";
        }
        heard += &told(&node.sealed);
        rows.push([
            format!("node {} at {}", node.node, node.address),
            heard,
            life(&node.incarnation),
            life(&node.version),
            optional(node.largest_gap_us),
            optional(node.lease_us),
            optional(node.peer_silent_us),
            optional(node.arbiter_answer_age_us),
            node.path.to_string(),
        ]);
    }
    let head = [
        "node",
        "heard",
        "life",
        "version",
        "largest gap",
        "lease",
        "peer silent",
        "arbiter heard",
        "path to the clients",
    ];
    table(text, head, rows);
    if !status.cluster.sealing.is_empty() {
        let _ = writeln!(text, "agents' datagrams: {}", counters(&status.cluster.sealing));
    }
    if !status.cluster.agent.is_empty() {
        let _ = writeln!(text, "agent: {}", counters(&status.cluster.agent));
    }
}

/// What is to be said of how a party is spoken with.
fn told(sealed: &SealedStatus) -> String {
    match (&sealed.refused, &sealed.key) {
        (Some(refused), _) => {
            format!("; NOT UNDERSTOOD {} ago: {refused}", span(sealed.refused_age_us))
        }
        (None, Some(_)) => format!(", session {} old", span(sealed.age_us)),
        (None, None) => String::new(),
    }
}

/// Every group on every node that was heard.
fn standings(text: &mut String, cluster: &ClusterStatus) {
    let rows = cluster.standings.iter().map(|standing| {
        let node = |id: Option<u8>| id.map_or("nobody".into(), |id| format!("node {id}"));
        let Standing { role, flows, flows_copied, lag, .. } = standing;
        let connections = match role {
            Role::Owner => format!("{flows}, {flows_copied} copied"),
            Role::Peer => format!("{flows} held"),
            Role::None => "-".into(),
        };
        let stands = match (role, &standing.unfit, standing.peer, standing.in_sync) {
            (_, Some(why), ..) => format!("UNFIT as peer: {why}"),
            (Role::Owner, _, None, _) => "serves alone".into(),
            (Role::Owner, _, peer, true) => format!("serves, {} is in sync", node(peer)),
            (Role::Owner, _, peer, false) => format!("serves, {} is being filled", node(peer)),
            (Role::Peer, ..) => format!("in sync with {}", node(standing.owner)),
            (_, _, Some(peer), false) if peer == standing.node => {
                format!("being filled by {}", node(standing.owner))
            }
            _ => format!("idle; {} owns it", node(standing.owner)),
        };
        // A word that is due every second is old after three.
        let age = match standing.age_us {
            ..3_000_000 => String::new(),
            age => format!(" (as of {} ago)", span(age)),
        };
        [
            name(&standing.service, standing.generation),
            format!("node {}", standing.node),
            role.to_string(),
            standing.epoch.to_string(),
            connections,
            behind(lag),
            format!("{stands}{age}"),
        ]
    });
    let head = ["service", "node", "role", "epoch", "flows", "peer behind", "stands"];
    table(text, head, rows.collect());
}

/// A service, and which generation of it if that is the second.
fn name(service: &str, generation: u8) -> String {
    match generation {
        0 => service.to_string(),
        generation => format!("{service} (generation {generation})"),
    }
}

/// How far the peer is behind.
pub(crate) fn behind(lag: &Lag) -> String {
    if lag.ops == 0 { "-".into() } else { format!("{} records", lag.ops) }
}

/// The poll cores and their ports.
pub(crate) fn cores(text: &mut String, status: &Status) {
    let core = |core: &dataplane::control::status::CoreStatus| {
        [
            format!("core {}", core.core),
            core.flows.to_string(),
            core.segments_in.to_string(),
            core.segments_out.to_string(),
            core.crossed_in.to_string(),
            core.crossed_out.to_string(),
            counters(&core.drops),
        ]
    };
    let head =
        ["core", "flows", "segments in", "segments out", "crossed in", "crossed out", "drops"];
    table(text, head, status.cores.iter().map(core).collect());
    for core in &status.cores {
        let (number, events) = (core.core, counters(&core.events));
        let _ = writeln!(text, "core {number}: {events}; ICMP errors: {}", counters(&core.icmp));
    }
    let port = |port: &dataplane::control::status::PortStatus| {
        let name = format!("{} queue {}", port.interface, port.queue);
        [name, port.mode.clone(), counters(&port.counters)]
    };
    table(text, ["port", "mode", "counters"], status.ports.iter().map(port).collect());
    for program in &status.steering {
        let _ = writeln!(text, "{}: {}", program.interface, counters(&program.frames));
    }
}

fn timers(text: &mut String, status: &Status) {
    let timer = |timer: &dataplane::control::status::TimerStatus| {
        [timer.name.clone(), span(timer.configured_us), span(timer.effective_us)]
    };
    let head = ["timer", "configured", "in use"];
    table(text, head, status.timers.iter().map(timer).collect());
    let _ = writeln!(text, "\nlargest gap of this node: {}", span(status.largest_gap_us));
}

/// Counters that are not zero: "no_room 3, checksum 1", or "none".
fn counters(counters: &std::collections::BTreeMap<String, u64>) -> String {
    let counted = counters.iter().filter(|(_, value)| **value > 0);
    let words: Vec<String> = counted.map(|(name, value)| format!("{name} {value}")).collect();
    if words.is_empty() { "none".into() } else { words.join(", ") }
}

/// A time with a unit that suits it.
pub(crate) fn span(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} us"),
        1_000..1_000_000 => format!("{}.{} ms", us / 1_000, us % 1_000 / 100),
        1_000_000..60_000_000 => format!("{}.{} s", us / 1_000_000, us % 1_000_000 / 100_000),
        60_000_000..3_600_000_000 => {
            format!("{} min {} s", us / 60_000_000, us / 1_000_000 % 60)
        }
        _ => format!("{} h {} min", us / 3_600_000_000, us / 60_000_000 % 60),
    }
}

/// So many bytes, in a unit that suits them.
pub(crate) fn bytes(bytes: u64) -> String {
    let (unit, shift) = match bytes {
        0..0x2800 => return format!("{bytes} B"),
        0x2800..0xa0_0000 => ("KiB", 10),
        0xa0_0000..0x2_8000_0000 => ("MiB", 20),
        _ => ("GiB", 30),
    };
    format!("{} {unit}", bytes >> shift)
}

/// Columns as wide as their widest cell, two spaces apart, a blank line before; nothing if empty.
pub(crate) fn table<const N: usize>(text: &mut String, head: [&str; N], rows: Vec<[String; N]>) {
    if rows.is_empty() {
        return;
    }
    let mut lines = vec![head.map(String::from)];
    lines.extend(rows);
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max();
    let widths: Vec<usize> = (0..N).map(|column| width(column).unwrap_or(0)).collect();
    text.push('\n');
    for line in &lines {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        let _ = writeln!(text, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}
