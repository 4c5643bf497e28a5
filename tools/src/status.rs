//! `understudy status`: how a running node is, in full words and with units.

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

fn groups(text: &mut String, status: &Status) {
    let mut rows = Vec::new();
    for group in &status.groups {
        let node = |id: Option<u8>| id.map_or("none".into(), |id| format!("node {id}"));
        let mut name = name(&group.service, group.generation);
        if group.is_closed {
            name += ", closed to new connections";
        }
        rows.push([
            name,
            group.role.to_string(),
            node(group.owner),
            node(group.peer),
            group.protection.to_string(),
            format!("{} ({} copied)", group.flows, group.flows_copied),
            behind(&group.lag),
            span(group.lease_remaining_us),
            group.epoch.to_string(),
        ]);
    }
    let head = [
        "service",
        "role",
        "owner",
        "peer",
        "protection",
        "flows",
        "peer behind",
        "lease",
        "epoch",
    ];
    table(text, head, rows);
}

fn details(text: &mut String, group: &GroupStatus) {
    let lag = group.lag;
    if lag.ops > 0 {
        let name = &group.service;
        let _ = writeln!(text, "\n{name}: peer is {} records, {} bytes behind", lag.ops, lag.bytes);
    }
    if let Some(percent) = group.hears_percent {
        let name = &group.service;
        let _ = writeln!(text, "\n{name}: hears {percent} % of what clients send to the owner");
    }
    if let Some(takeover) = group.last_takeover {
        let _ = writeln!(
            text,
            "\n{}: took over {} flows {} ago (epoch {}) in {}: detect {}, grant {}, \
             apply {}, announce {}, first byte {}",
            group.service,
            takeover.flows,
            span(takeover.age_us),
            takeover.epoch,
            span(takeover.total_us()),
            span(takeover.detect_us),
            span(takeover.grant_us),
            span(takeover.apply_us),
            span(takeover.announce_us),
            span(takeover.first_byte_us),
        );
    }
    unfit(text, group);
    if let Some(count) = group.counters.get("digest_mismatches").filter(|count| **count > 0) {
        let _ = writeln!(
            text,
            "\n{}: {count} COPIES DIFFERED from their connections and were captured anew: a defect, please report it",
            group.service
        );
    }
    if let Some(conflict) = &group.conflict {
        let _ = writeln!(
            text,
            "\n{}: {} IS ALSO CLAIMED by the host with {}, {} times, last {} ago: find it and take the address from it",
            group.service,
            conflict.address,
            conflict.mac,
            conflict.count,
            span(conflict.age_us),
        );
    }
    handovers(text, group);
    if !group.counters.is_empty() {
        let _ = writeln!(text, "\n{}: {}", group.service, counters(&group.counters));
    }
    for decision in group.decisions.iter().rev().take(3).rev() {
        let _ = writeln!(text, "  {decision}");
    }
}

/// Who cannot be the peer, and who claims what is not his.
pub(crate) fn unfit(text: &mut String, group: &GroupStatus) {
    let name = &group.service;
    for declared in &group.declared {
        if let Some(why) = &declared.unfit {
            let _ = writeln!(text, "\n{name}: node {} is UNFIT as peer: {why}", declared.node);
        }
    }
    if let Some(claim) = &group.claim {
        let (node, service, epoch) = (claim.node, &claim.service, claim.epoch);
        let _ = writeln!(
            text,
            "\n{name}: CONFLICTING CLAIM of node {node}, which says that it owns {service} under epoch {epoch} ({} times, last \
             {} ago)",
            claim.count,
            span(claim.age_us)
        );
    }
}

/// What there is to say of handovers.
pub(crate) fn handovers(text: &mut String, group: &GroupStatus) {
    let name = &group.service;
    if group.home_ready {
        let home = group.peer.unwrap_or(0);
        let _ = writeln!(
            text,
            "\n{name}: home is ready; understudy handover {name} --to {home} gives it back"
        );
    }
    if group.is_bound {
        let _ = writeln!(
            text,
            "\n{name}: not handed over from here, whatever its failback: without an arbiter only the one node \
             that `survivor` names may. It goes back when this node ends or restarts"
        );
    }
    if let Some(handover) = &group.handover {
        let _ = writeln!(
            text,
            "\n{name}: being handed over to node {} since {}, {} ({})",
            handover.to,
            span(handover.age_us),
            handover.phase,
            handover.cause
        );
    }
    if let Some(handed) = &group.last_handover {
        let _ = writeln!(text, "\n{name}: {}", handed_over(handed));
    }
    if let Some(failure) = &group.last_failure {
        let _ = writeln!(text, "\n{name}: the last handover came to nothing: {failure}");
    }
}

/// A handover in one sentence.
pub(crate) fn handed_over(handed: &dataplane::control::status::Handed) -> String {
    let lost = match handed.lost {
        0 => String::new(),
        lost => format!(", {lost} LOST"),
    };
    format!(
        "handed {} flows over to node {} {} ago (epoch {}{lost}): prepare {}, freeze {}, change places {}",
        handed.connections,
        handed.to,
        span(handed.age_us),
        handed.epoch,
        span(handed.prepare_us),
        span(handed.freeze_us),
        span(handed.swap_us),
    )
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

#[cfg(test)]
mod tests {
    use super::*;
    use dataplane::control::status::*;

    fn example() -> Status {
        let takeover = Takeover {
            epoch: 5,
            flows: 104,
            age_us: 3_000_000,
            detect_us: 30_100,
            grant_us: 900,
            apply_us: 2_300,
            announce_us: 40,
            first_byte_us: 120,
        };
        let group = GroupStatus {
            service: "web".into(),
            role: Role::Owner,
            epoch: 7,
            owner: Some(2),
            peer: Some(1),
            protection: Protection::Filling { copied: 60, total: 104 },
            lease_remaining_us: 21_400,
            flows: 104,
            flows_copied: 60,
            lag: Lag { ops: 12, bytes: 2048 },
            last_takeover: Some(takeover),
            ..GroupStatus::default()
        };
        let dark = ClientPath { carrier: Some(false), dips: 1, ..ClientPath::default() };
        let path =
            ClientPath { carrier: Some(true), next_hops: 2, answering: 1, ..ClientPath::default() };
        let key = Some("1a2b3c4d".to_string());
        let refused = Some("it does not seal".to_string());
        let nodes = vec![
            NodeStatus {
                node: 1,
                address: "10.99.0.1".into(),
                sealed: SealedStatus { refused, refused_age_us: 1_000, ..SealedStatus::default() },
                ..NodeStatus::default()
            },
            NodeStatus {
                node: 3,
                heartbeat_age_us: Some(1_500),
                largest_gap_us: Some(900),
                path: dark,
                sealed: SealedStatus { key, age_us: 3_000_000, ..SealedStatus::default() },
                ..NodeStatus::default()
            },
        ];
        let standing = Standing {
            service: "web".into(),
            epoch: 7,
            owner: Some(2),
            peer: Some(1),
            ..Standing::default()
        };
        let lag = Lag { ops: 12, bytes: 2048 };
        let (flows, flows_copied) = (104, 60);
        let owner =
            Standing { node: 2, role: Role::Owner, flows, flows_copied, lag, ..standing.clone() };
        let peer = Standing { node: 1, ..standing.clone() };
        let why = Some("its content".into());
        let unfit = Standing { node: 3, epoch: 6, age_us: 4_000_000, unfit: why, ..standing };
        let timers = [TimerStatus { name: "lease".into(), configured_us: 1, effective_us: 25_000 }];
        let cluster = ClusterStatus {
            name: "demo".into(),
            arbiter: "witness".into(),
            arbiter_answer_age_us: Some(1_200_000),
            nodes,
            keys: vec!["1a2b3c4d".into()],
            sealing: [("unsealed".to_string(), 3)].into(),
            standings: vec![owner, peer, unfit],
            ..ClusterStatus::default()
        };
        let drops = [("no_flow".to_string(), 3), ("checksum".to_string(), 0)].into();
        let counted = |name: &str| [(name.into(), 4), ("nothing".into(), 0)].into();
        let (events, icmp) = (counted("active_refused"), counted("too_big"));
        let core =
            CoreStatus { core: 1, segments_in: 5, drops, events, icmp, ..CoreStatus::default() };
        Status {
            node: 2,
            version: "0.1.0".into(),
            incarnation: "00000000000000aa".into(),
            uptime_us: 3_700_000_000,
            cluster,
            path,
            guardian: GuardianStatus { process: Some(4242), restarts: 1 },
            largest_gap_us: 3_100,
            timers: timers.into(),
            groups: vec![group],
            cores: vec![core],
            ..Status::default()
        }
    }

    #[test]
    fn a_status_is_shown_in_full_words_with_units() {
        let expected = "\
node 2 of cluster demo, version 0.1.0, up 1 h 1 min, incarnation 00000000000000aa
arbiter witness, last answer 1.2 s ago
guardian running (process 4242, 1 restarts)
sealed under key 1a2b3c4d

node                 heard                                               life              version  largest gap  lease    peer silent  arbiter heard  path to the clients
node 2               this node                                           00000000000000aa  0.1.0    3.1 ms       25.0 ms  -            1.2 s          up, 1 of 2 next hops answer
node 1 at 10.99.0.1  NEVER; NOT UNDERSTOOD 1.0 ms ago: it does not seal  -                 -        -            -        -            -              not known
node 3 at            1.5 ms ago, session 3.0 s old                       -                 -        900 us       -        -            -              DARK: no carrier; worse once in ten minutes
agents' datagrams: unsealed 3

service  node    role   epoch  flows           peer behind  stands
web      node 2  owner  7      104, 60 copied  12 records   serves, node 1 is being filled
web      node 1  none   7      -               -            being filled by node 2
web      node 3  none   6      -               -            UNFIT as peer: its content (as of 4.0 s ago)

service  role   owner   peer    protection         flows            peer behind  lease    epoch
web      owner  node 2  node 1  filling 60 of 104  104 (60 copied)  12 records   21.4 ms  7

web: peer is 12 records, 2048 bytes behind

web: took over 104 flows 3.0 s ago (epoch 5) in 33.4 ms: detect 30.1 ms, grant 900 us, \
apply 2.3 ms, announce 40 us, first byte 120 us

core    flows  segments in  segments out  crossed in  crossed out  drops
core 1  0      5            0             0           0            no_flow 3
core 1: active_refused 4; ICMP errors: too_big 4

timer  configured  in use
lease  1 us        25.0 ms

largest gap of this node: 3.1 ms
";
        assert_eq!(render(&example()), expected);
    }

    #[test]
    fn a_guardian_that_is_not_there_is_never_silent() {
        let mut status = example();
        status.guardian.process = None;
        assert!(render(&status).contains("guardian ABSENT (1 restarts)"));
    }

    #[test]
    fn a_cluster_that_seals_nothing_is_never_silent() {
        let mut status = example();
        status.cluster.keys.clear();
        assert!(render(&status).contains("NOT SEALED"));
    }

    #[test]
    fn split_brain_is_never_silent() {
        let mut status = example();
        status.cluster.split_brain_possible = true;
        assert!(render(&status).contains("SPLIT-BRAIN POSSIBLE"));
    }

    #[test]
    fn a_node_that_does_not_run_is_an_error_with_advice() {
        let socket = Some(PathBuf::from("/nonexistent/1.sock"));
        let error =
            text(&StatusArgs { socket, json: false, watch: None }).expect_err("nobody answers");
        assert!(error.contains("/nonexistent/1.sock") && error.contains("is it running"));
        assert!(only_socket(Path::new("/nonexistent")).is_err());
    }
}
