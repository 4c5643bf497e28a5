//! `understudy handover`, `drain` and `undrain`: an operator moves live connections while everybody lives.
//!
//! An order goes to the node that owns, by its control socket; it answers at once whether it has begun. Then the
//! status is read until the outcome is there.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use dataplane::control::Request;
use dataplane::control::status::{GroupStatus, Handed, Role, Status};

use crate::print;
use crate::status::{ask, handed_over, json, read, socket};

/// Between two looks at the status.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Arguments of `understudy handover`.
#[derive(Args, Debug, Clone)]
#[command(
    after_help = "Any node passes the order on to the owner. Exit codes: 0 handed over, 1 not (the reason is on standard error, and \
                  the service is served on), 2 wrong usage."
)]
pub struct HandoverArgs {
    /// The service.
    pub service: String,
    /// The node that shall own it: its home or one of its peers.
    #[arg(long, value_name = "NODE")]
    pub to: u8,
    /// Only if this epoch, seen in `understudy status`, is still in force.
    #[arg(long)]
    pub epoch: Option<u64>,
    /// Also if connections of which nobody holds a copy are lost by it.
    #[arg(long)]
    pub force: bool,
    /// A node's control socket. Default: the only one in /run/understudy.
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// How long to wait for the outcome.
    #[arg(long, value_name = "SECONDS", default_value_t = 150)]
    pub wait: u64,
    /// Print the outcome as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `understudy drain` and `understudy undrain`.
#[derive(Args, Debug, Clone)]
#[command(
    after_help = "Run it on the node. A restart of the node ends a drain. Exit codes: 0 it owns nothing (undrain: it \
                  takes roles), 1 not, 2 wrong usage."
)]
pub struct DrainArgs {
    /// The node: a check that the right one is asked.
    pub node: u8,
    /// The node's control socket. Default: the only one in /run/understudy.
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// How long to wait until it owns nothing.
    #[arg(long, value_name = "SECONDS", default_value_t = 150)]
    pub wait: u64,
    /// Print the outcome as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Hands a service over.
pub fn handover(args: &HandoverArgs) -> ExitCode {
    finish(hand_over(args))
}

/// Drains a node.
pub fn drain(args: &DrainArgs) -> ExitCode {
    finish(drain_node(args))
}

/// Ends the drain of a node.
pub fn undrain(args: &DrainArgs) -> ExitCode {
    let end = || {
        let socket = right_socket(args)?;
        ask(&socket, &Request::Undrain)?;
        let text = format!("node {} takes roles again\n", args.node);
        if args.json {
            json(&serde_json::json!({ "node": args.node, "draining": false }))
        } else {
            Ok(text)
        }
    };
    finish(end())
}

/// Prints the outcome of a command; its exit code.
pub(crate) fn finish(outcome: Result<String, String>) -> ExitCode {
    match outcome {
        Ok(text) => {
            print(&text);
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

fn hand_over(args: &HandoverArgs) -> Result<String, String> {
    let socket = socket(args.socket.as_deref())?;
    let known = left_to_move(&read(&socket)?, &args.service, args.to);
    let generation = known.as_ref().map_or(0, |group| group.generation);
    let before = known.as_ref().map_or(0, |group| group.epoch);
    let is_owner = known.is_some_and(|group| group.role == Role::Owner);
    let (service, to, epoch, force) = (args.service.clone(), args.to, args.epoch, args.force);
    ask(&socket, &Request::Handover { service, to, epoch, force })?;
    if !is_owner {
        return watch(args, &socket, (generation, before));
    }
    let handed = wait(&socket, args.wait, |status| {
        let group = group(status, &args.service, generation)?;
        if group.handover.is_some() {
            return None;
        }
        let done = group.last_handover.filter(|done| done.to == args.to && done.epoch > before);
        Some(done.ok_or_else(|| why_not(&group.last_failure)))
    })?;
    if args.json {
        return json(&handed);
    }
    Ok(format!("{}: {}\n", args.service, handed_over(&handed)))
}

/// The owner, another node, has begun: all that is seen of it here is the register.
fn watch(
    args: &HandoverArgs,
    socket: &Path,
    (generation, before): (u8, u64),
) -> Result<String, String> {
    let epoch = wait(socket, args.wait, |status| {
        let group = group(status, &args.service, generation)?;
        (group.owner == Some(args.to) && group.epoch > before).then_some(Ok(group.epoch))
    })
    .map_err(|error| format!("{error} on the node that owned it"))?;
    if args.json {
        return json(&serde_json::json!({ "to": args.to, "epoch": epoch }));
    }
    let (service, to) = (&args.service, args.to);
    Ok(format!("{service}: handed over to node {to} in epoch {epoch}, by the node that owned it\n"))
}

fn why_not(failure: &Option<String>) -> String {
    let why = failure.as_deref().unwrap_or("the reason is not known; see `understudy why`");
    format!("not handed over: {why}")
}

fn drain_node(args: &DrainArgs) -> Result<String, String> {
    let socket = right_socket(args)?;
    ask(&socket, &Request::Drain)?;
    let handed: Vec<(String, Handed)> = wait(&socket, args.wait, |status| {
        let owns = status.groups.iter().any(|group| group.role == Role::Owner);
        let handed =
            |group: &GroupStatus| Some((group.service.clone(), group.last_handover.clone()?));
        (!owns).then(|| Ok(status.groups.iter().filter_map(handed).collect()))
    })
    .map_err(|error| {
        format!("{error}; it goes on draining until `understudy undrain {}`", args.node)
    })?;
    if args.json {
        return json(&serde_json::json!({ "node": args.node, "draining": true, "handed": handed }));
    }
    let mut text = format!("node {} owns nothing and takes no new role\n", args.node);
    for (service, handed) in &handed {
        text += &format!("{service}: {}\n", handed_over(handed));
    }
    Ok(text)
}

/// The socket, if the wanted node is behind it.
fn right_socket(args: &DrainArgs) -> Result<PathBuf, String> {
    let socket = socket(args.socket.as_deref())?;
    let node = read(&socket)?.node;
    if node == args.node {
        return Ok(socket);
    }
    let (socket, wanted) = (socket.display(), args.node);
    Err(format!("node {node} answers at {socket}, not node {wanted}; run this where that one runs"))
}

/// Reads the status until there is an outcome.
fn wait<T>(
    socket: &Path,
    seconds: u64,
    outcome: impl Fn(&Status) -> Option<Result<T, String>>,
) -> Result<T, String> {
    let limit = Instant::now() + Duration::from_secs(seconds);
    loop {
        if let Some(outcome) = outcome(&read(socket)?) {
            return outcome;
        }
        if Instant::now() > limit {
            return Err(format!("no outcome within {seconds} s; see `understudy why`"));
        }
        thread::sleep(LOOK_EVERY);
    }
}

fn group(status: &Status, service: &str, generation: u8) -> Option<GroupStatus> {
    let is_it = |group: &&GroupStatus| group.service == service && group.generation == generation;
    status.groups.iter().find(is_it).cloned()
}

/// Of a service in two generations: the one that an order to move it to `to` is about, as the nodes choose it.
fn left_to_move(status: &Status, service: &str, to: u8) -> Option<GroupStatus> {
    let of_service = || status.groups.iter().filter(|group| group.service == service);
    let moves = || of_service().filter(|group| group.owner != Some(to));
    let found = moves().find(|group| group.is_closed).or_else(|| moves().next());
    found.or_else(|| of_service().next()).cloned()
}
