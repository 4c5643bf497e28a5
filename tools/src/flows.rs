//! `understudy flows` and `understudy flow kill`: connections, one by one.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use dataplane::control::flows::{FLOWS_MAX, FlowFilter, FlowStatus, Flows};
use dataplane::control::{Reply, Request};

use crate::handover::finish;
use crate::status::{ask, json, socket, span, table};

/// Arguments of `understudy flows`.
#[derive(Args, Debug, Clone)]
#[command(
    after_help = "A filter is one of service=NAME, client=ADDRESS, server=ADDRESS, state=ESTABLISHED, copied=yes or copied=no; \
                  several must all agree.\n\n\
                  Exit codes: 0 the node answered, 1 it did not, 2 wrong usage."
)]
pub struct FlowsArgs {
    /// Which connections.
    #[arg(value_name = "FILTER", value_parser = part)]
    pub filter: Vec<FlowFilter>,
    /// So many at most.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=i64::from(FLOWS_MAX)))]
    pub limit: u32,
    /// The node's control socket. Default: the only one in /run/understudy.
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Print the node's answer as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `understudy flow`.
#[derive(Args, Debug, Clone)]
pub struct FlowArgs {
    #[command(subcommand)]
    command: FlowCommand,
}

#[derive(Subcommand, Debug, Clone)]
enum FlowCommand {
    /// End a connection: both of its sides are reset.
    #[command(
        after_help = "Exit codes: 0 it is ended, 1 not (the reason is on standard error), 2 wrong usage."
    )]
    Kill {
        /// Its name, as `understudy flows` shows it.
        id: String,
        /// The owner's control socket. Default: the only one in /run/understudy.
        #[arg(long, value_name = "PATH")]
        socket: Option<PathBuf>,
    },
}

/// Lists connections.
pub fn list(args: &FlowsArgs) -> ExitCode {
    let list = || {
        let filter = FlowFilter { limit: Some(args.limit), ..joined(&args.filter) };
        match ask(&socket(args.socket.as_deref())?, &Request::Flows { filter })? {
            Reply::Flows { flows } if args.json => json(&flows),
            Reply::Flows { flows } => Ok(render(&flows)),
            _ => Err("the node answered something else".into()),
        }
    };
    finish(list())
}

/// What is done to one connection.
pub fn flow(args: &FlowArgs) -> ExitCode {
    let FlowCommand::Kill { id, socket: named } = &args.command;
    let kill = || {
        ask(&socket(named.as_deref())?, &Request::EndFlow { id: id.clone() })?;
        Ok(format!("connection {id} is ended\n"))
    };
    finish(kill())
}

/// One word of a filter.
fn part(word: &str) -> Result<FlowFilter, String> {
    let (key, value) = word.split_once('=').ok_or("a filter is KEY=VALUE")?;
    let address =
        || value.parse::<IpAddr>().map(Some).map_err(|_| format!("{value:?} is no address"));
    let none = FlowFilter::default();
    Ok(match key {
        "service" => FlowFilter { service: Some(value.into()), ..none },
        "client" => FlowFilter { client: address()?, ..none },
        "server" => FlowFilter { server: address()?, ..none },
        "state" => FlowFilter { state: Some(value.into()), ..none },
        "copied" => match value {
            "yes" => FlowFilter { is_copied: Some(true), ..none },
            "no" => FlowFilter { is_copied: Some(false), ..none },
            _ => return Err("copied is yes or no".into()),
        },
        _ => return Err(format!("{key:?} is none of service, client, server, state, copied")),
    })
}

/// Everything that the parts name.
fn joined(parts: &[FlowFilter]) -> FlowFilter {
    parts.iter().cloned().fold(FlowFilter::default(), |all, part| FlowFilter {
        service: part.service.or(all.service),
        client: part.client.or(all.client),
        server: part.server.or(all.server),
        state: part.state.or(all.state),
        is_copied: part.is_copied.or(all.is_copied),
        limit: part.limit.or(all.limit),
    })
}

fn render(flows: &Flows) -> String {
    let row = |flow: &FlowStatus| {
        let to_server = match (&flow.server, &flow.server_state) {
            (Some(server), Some(state)) => format!("{server} {state}"),
            _ => "-".into(),
        };
        [
            flow.id.clone(),
            flow.service.clone(),
            flow.core.to_string(),
            flow.client.clone(),
            flow.state.clone(),
            to_server,
            flow.standing.clone(),
            span(flow.silent_us),
            flow.received_bytes.to_string(),
            flow.acknowledged_bytes.to_string(),
        ]
    };
    let head = [
        "connection",
        "service",
        "core",
        "client",
        "state",
        "server",
        "stands",
        "silent",
        "bytes in",
        "bytes out",
    ];
    let mut text = String::new();
    table(&mut text, head, flows.flows.iter().map(row).collect());
    let count = flows.flows.len();
    text += &match flows.has_more {
        true => format!("\n{count} connections, and there are more: --limit, or a filter\n"),
        false => format!("\n{count} connections\n"),
    };
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_read_and_joined() {
        let parts: Vec<_> = ["service=web", "client=10.88.0.1", "copied=no"]
            .map(|word| part(word).expect("a filter"))
            .into();
        let expected = FlowFilter {
            service: Some("web".into()),
            client: Some([10, 88, 0, 1].into()),
            is_copied: Some(false),
            ..FlowFilter::default()
        };
        assert_eq!(joined(&parts), expected);
        for wrong in ["web", "client=web", "copied=maybe", "colour=red", "=", ""] {
            assert!(part(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_list_shows_both_sides_and_says_if_there_are_more() {
        let flow = FlowStatus {
            id: "5a".into(),
            client: "10.88.0.1:4000".into(),
            server: Some("10.88.0.3:80".into()),
            server_state: Some("ESTABLISHED".into()),
            standing: "copied".into(),
            ..FlowStatus::default()
        };
        let text = render(&Flows { node: 1, flows: vec![flow], has_more: true });
        assert!(
            text.contains("10.88.0.1:4000") && text.contains("10.88.0.3:80 ESTABLISHED"),
            "{text}"
        );
        assert!(
            text.ends_with("1 connections, and there are more: --limit, or a filter\n"),
            "{text}"
        );
        assert!(render(&Flows::default()).ends_with("\n0 connections\n"));
    }
}
