//! `understudy ownership`: what each node declares about the services, and whether the owner takes it as peer by that.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use dataplane::control::Request;
use dataplane::control::status::{Declared, GroupStatus, Status};

use crate::handover::finish;
use crate::status::{ask, json, read, service_groups, socket, span};

/// How long answers to a solicitation are waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// Between two looks at the status.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Arguments of `understudy ownership`.
#[derive(Args, Debug, Clone)]
#[command(
    after_help = "Every node declares at boot, on every change and periodically what it serves and how; this shows the \
                  newest of each. Exit codes: 0 the node answered, 1 it did not, 2 wrong usage."
)]
pub struct OwnershipArgs {
    /// Only this service.
    pub service: Option<String>,
    /// Ask every node anew, and wait for the answers of those that live (at most a second).
    #[arg(long)]
    pub solicit: bool,
    /// The node's control socket. Default: the only one in /run/understudy.
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Print the declarations as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Asks the node and prints what it knows.
pub fn main(args: &OwnershipArgs) -> ExitCode {
    finish(text(args))
}

fn text(args: &OwnershipArgs) -> Result<String, String> {
    let socket = socket(args.socket.as_deref())?;
    let status = if args.solicit { solicited(&socket)? } else { read(&socket)? };
    let groups: Vec<&GroupStatus> = match &args.service {
        // Both generations of a service are declared alike.
        Some(service) => service_groups(&status, service)?.into_iter().take(1).collect(),
        None => status.groups.iter().filter(|group| !group.is_closed).collect(),
    };
    if args.json {
        let declared = |group: &&GroupStatus| (group.service.clone(), group.declared.clone());
        return json(&groups.iter().map(declared).collect::<std::collections::BTreeMap<_, _>>());
    }
    Ok(groups.iter().map(|group| render(&status, group)).collect::<Vec<_>>().join("\n"))
}

/// The status after every node that lives has answered a solicitation, or the time is up.
fn solicited(socket: &Path) -> Result<Status, String> {
    let asked = Instant::now();
    ask(socket, &Request::Solicit)?;
    loop {
        // Before the status: an age in it that is less began after the question.
        let since = asked.elapsed();
        let status = read(socket)?;
        let is_new = |group: &GroupStatus, node: u8| {
            let mut declared = group.declared.iter();
            declared.any(|d| d.node == node && u128::from(d.age_us) < since.as_micros())
        };
        let mut living = status.cluster.nodes.iter().filter(|node| {
            node.heartbeat_age_us.is_some_and(|age| u128::from(age) < PATIENCE.as_micros())
        });
        if living.all(|node| status.groups.iter().all(|group| is_new(group, node.node)))
            || since > PATIENCE
        {
            return Ok(status);
        }
        thread::sleep(LOOK_EVERY);
    }
}

fn render(status: &Status, group: &GroupStatus) -> String {
    let mut text = format!("{}\n", group.service);
    for declared in &group.declared {
        node(&mut text, status, group, declared);
    }
    for node in &status.cluster.nodes {
        if group.declared.iter().all(|declared| declared.node != node.node) {
            let _ = writeln!(text, "  node {}: has declared nothing yet", node.node);
        }
    }
    if let Some(claim) = &group.claim {
        let (node, service, epoch, count) = (claim.node, &claim.service, claim.epoch, claim.count);
        let _ = writeln!(
            text,
            "  CONFLICTING CLAIM: node {node} says that it owns {service} under epoch {epoch} ({count} times, last {} ago)",
            span(claim.age_us)
        );
    }
    text
}

fn node(text: &mut String, status: &Status, group: &GroupStatus, declared: &Declared) {
    let Declared { node, incarnation, addresses, ports, protocol, application, .. } = declared;
    let order: Vec<String> = declared.order.iter().map(ToString::to_string).collect();
    let said = match *node == status.node {
        true => "this node".into(),
        false => format!("{} ago", span(declared.age_us)),
    };
    let what = match declared.owner {
        Some(owner) if owner == *node => "owns it".into(),
        Some(owner) => format!("knows node {owner} as owner"),
        None => "knows no owner".to_string(),
    };
    let _ = writeln!(
        text,
        "  node {node} (life {incarnation}, {said}): {what}, epoch {}",
        declared.epoch
    );
    let _ = writeln!(
        text,
        "    {} {protocol} port {}, {application}; arp {}, MAC {}",
        addresses.join(" "),
        ports.join(" "),
        declared.arp,
        declared.macs.join(" ")
    );
    let _ = writeln!(
        text,
        "    home {}, then {}; failback {}; without a peer {}{}",
        declared.home,
        if order.is_empty() { "nobody".into() } else { order.join(", ") },
        declared.failback,
        declared.on_peer_loss,
        if declared.agrees_on_policy { "" } else { "  (DIFFERS from this node's)" }
    );
    let limits: Vec<String> =
        declared.limits.iter().map(|(name, limit)| format!("{name} {limit}")).collect();
    let digest = declared.digest.get(..16).unwrap_or(&declared.digest);
    let _ = writeln!(
        text,
        "    limits: {}; content {digest}..., behaviour {}",
        limits.join(", "),
        declared.behaviour
    );
    if let Some(why) = &declared.unfit {
        let _ = writeln!(text, "    UNFIT as peer of node {}: {why}", group.owner.unwrap_or(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dataplane::control::status::NodeStatus;

    fn declared(node: u8) -> Declared {
        Declared {
            node,
            incarnation: "00000000000000aa".into(),
            age_us: 1_200_000,
            owner: Some(1),
            epoch: 7,
            home: 1,
            order: vec![2, 3],
            failback: "manual".into(),
            on_peer_loss: "serve".into(),
            addresses: vec!["10.88.0.100".into()],
            ports: vec!["80".into()],
            protocol: "tcp".into(),
            application: "http".into(),
            arp: "gratuitous".into(),
            macs: vec!["02:00:00:00:00:01".into()],
            limits: [("flows".into(), 65536)].into(),
            digest: "0123456789abcdef0123".into(),
            agrees_on_policy: true,
            ..Declared::default()
        }
    }

    #[test]
    fn every_field_of_every_node_is_shown() {
        let unfit = Some("its limit `flows` is 1, lower than the owner's 2".into());
        let other = Declared { unfit, agrees_on_policy: false, ..declared(2) };
        let group = GroupStatus {
            service: "web".into(),
            owner: Some(1),
            declared: vec![declared(1), other],
            ..GroupStatus::default()
        };
        let mut status = Status { node: 1, ..Status::default() };
        status.cluster.nodes = [2, 3].map(|node| NodeStatus { node, ..Default::default() }).into();
        let expected = "\
web
  node 1 (life 00000000000000aa, this node): owns it, epoch 7
    10.88.0.100 tcp port 80, http; arp gratuitous, MAC 02:00:00:00:00:01
    home 1, then 2, 3; failback manual; without a peer serve
    limits: flows 65536; content 0123456789abcdef..., behaviour 0
  node 2 (life 00000000000000aa, 1.2 s ago): knows node 1 as owner, epoch 7
    10.88.0.100 tcp port 80, http; arp gratuitous, MAC 02:00:00:00:00:01
    home 1, then 2, 3; failback manual; without a peer serve  (DIFFERS from this node's)
    limits: flows 65536; content 0123456789abcdef..., behaviour 0
    UNFIT as peer of node 1: its limit `flows` is 1, lower than the owner's 2
  node 3: has declared nothing yet
";
        assert_eq!(render(&status, &group), expected);
    }
}
