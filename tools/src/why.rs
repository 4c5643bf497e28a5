//! `understudy why`: who owns a service, and the decisions that led to it.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use dataplane::control::status::{GroupStatus, Status};

use crate::handover::finish;
use crate::status::{handovers, json, read, service_groups, socket, span, unfit};

/// Arguments of `understudy why`.
#[derive(Args, Debug, Clone)]
#[command(
    after_help = "Exit codes: 0 the node answered, 1 it did not or has no such service, 2 wrong usage."
)]
pub struct WhyArgs {
    /// The service.
    pub service: String,
    /// The node's control socket. Default: the only one in /run/understudy.
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Print what the node knows of the service as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Asks the node and prints its reasons.
pub fn main(args: &WhyArgs) -> ExitCode {
    finish(text(args))
}

fn text(args: &WhyArgs) -> Result<String, String> {
    let status = read(&socket(args.socket.as_deref())?)?;
    let groups = service_groups(&status, &args.service)?;
    if args.json {
        return json(groups[0]);
    }
    let told: Vec<String> = groups.iter().map(|group| render(status.node, group)).collect();
    Ok(told.join("\n") + unsealed(&status))
}

/// What every view says of a cluster whose datagrams are not sealed.
fn unsealed(status: &Status) -> &'static str {
    match status.cluster.keys.is_empty() {
        true => "\nNOT SEALED: whoever reaches the cluster link can speak for every node\n",
        false => "",
    }
}

fn render(node: u8, group: &GroupStatus) -> String {
    let mut text = String::new();
    let name = |id: Option<u8>| id.map_or("nobody".into(), |id| format!("node {id}"));
    let _ = writeln!(
        text,
        "{}{}: owned by {}, copies at {}, {}, epoch {}; node {node} is {}",
        group.service,
        match group {
            GroupStatus { is_leaving: true, .. } => ", which leaves",
            GroupStatus { is_closed: true, .. } => ", connections of before",
            _ => "",
        },
        name(group.owner),
        name(group.peer),
        group.protection,
        group.epoch,
        group.role
    );
    if let Some(takeover) = group.last_takeover {
        let _ = writeln!(
            text,
            "\ntaken over by this node {} ago (epoch {}), {} flows: detect {}, grant {}, apply {}, announce {}, \
             first byte {}",
            span(takeover.age_us),
            takeover.epoch,
            takeover.flows,
            span(takeover.detect_us),
            span(takeover.grant_us),
            span(takeover.apply_us),
            span(takeover.announce_us),
            span(takeover.first_byte_us),
        );
    }
    unfit(&mut text, group);
    handovers(&mut text, group);
    let _ = writeln!(text, "\ndecisions of node {node}, oldest first:");
    for decision in &group.decisions {
        let _ = writeln!(text, "  {decision}");
    }
    if group.decisions.is_empty() {
        let _ = writeln!(text, "  none");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use dataplane::control::status::{Handed, Role};

    #[test]
    fn owner_phases_and_decisions_are_shown() {
        let handed = Handed {
            epoch: 7,
            to: 2,
            connections: 104,
            age_us: 3_000_000,
            prepare_us: 900,
            freeze_us: 1_200,
            swap_us: 800,
            ..Handed::default()
        };
        let group = GroupStatus {
            service: "web".into(),
            role: Role::Peer,
            epoch: 7,
            owner: Some(2),
            peer: Some(1),
            last_handover: Some(handed),
            decisions: vec!["3000 ms ago, epoch 7: handed 104 connections to node 2".into()],
            ..GroupStatus::default()
        };
        let text = render(1, &group);
        assert!(text.starts_with("web: owned by node 2, copies at node 1"), "{text}");
        assert!(text.contains("handed 104 flows over to node 2 3.0 s ago (epoch 7)"));
        assert!(text.contains("prepare 900 us, freeze 1.2 ms, change places 800 us"));
        assert!(text.contains("epoch 7: handed 104"));
    }

    #[test]
    fn a_service_that_nobody_knows_anything_of_says_so() {
        assert!(render(1, &GroupStatus::default()).ends_with("  none\n"));
    }
}
