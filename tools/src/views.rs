//! `understudy services`, `cores` and `peers`: one part of the status each.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use dataplane::control::status::Status;

use crate::handover::finish;
use crate::status::{cores, json, nodes, read, services, socket};

/// Arguments of `understudy services`, `cores` and `peers`.
#[derive(Args, Debug, Clone)]
#[command(after_help = "Exit codes: 0 the node answered, 1 it did not, 2 wrong usage.")]
pub struct ViewArgs {
    /// The node's control socket. Default: the only one in /run/understudy.
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Print this part of the node's answer as JSON.
    #[arg(long)]
    pub json: bool,
}

/// A part of the status.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum View {
    /// What is served, by whom, and how well it is protected.
    Services,
    /// The poll cores and their ports.
    Cores,
    /// The nodes of the cluster.
    Peers,
}

/// Shows one part of a node's status.
pub fn main(view: View, args: &ViewArgs) -> ExitCode {
    let show = || {
        let status = read(&socket(args.socket.as_deref())?)?;
        if args.json { as_json(view, &status) } else { Ok(render(view, &status)) }
    };
    finish(show())
}

fn as_json(view: View, status: &Status) -> Result<String, String> {
    match view {
        View::Services => json(&status.groups),
        View::Cores => json(&status.cores),
        View::Peers => json(&status.cluster.nodes),
    }
}

fn render(view: View, status: &Status) -> String {
    let mut text = String::new();
    match view {
        View::Services => services(&mut text, status),
        View::Cores => cores(&mut text, status),
        View::Peers => nodes(&mut text, status),
    }
    text.trim_start_matches('\n').to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use dataplane::control::status::{CoreStatus, GroupStatus, NodeStatus};

    #[test]
    fn each_view_shows_its_part_and_nothing_else() {
        let mut status = Status { node: 1, ..Status::default() };
        status.groups.push(GroupStatus { service: "web".into(), ..GroupStatus::default() });
        status.cores.push(CoreStatus { core: 7, ..CoreStatus::default() });
        status.cluster.nodes.push(NodeStatus { node: 2, ..NodeStatus::default() });
        let marks = ["web", "core 7", "node 2"];
        for (n, view) in [View::Services, View::Cores, View::Peers].into_iter().enumerate() {
            let text = render(view, &status);
            let shown: Vec<bool> = marks.iter().map(|mark| text.contains(mark)).collect();
            assert_eq!(shown, [n == 0, n == 1, n == 2], "{text}");
            assert!(as_json(view, &status).is_ok_and(|json| json.starts_with('[')));
        }
    }
}
