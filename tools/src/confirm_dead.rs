//! `understudy confirm-dead`: an operator's word for a death of which nothing else tells.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use dataplane::control::Request;

use crate::handover::finish;
use crate::status::{ask, json, read, socket};

/// Arguments of `understudy confirm-dead`.
#[derive(Args, Debug, Clone)]
#[command(
    after_help = "Needed when owner and peer of a service lost their power together: the other nodes cannot tell that from \
                  two that are only cut off, and wait. Give it at any node that lives, for each dead node; the next in the order then \
                  serves, and answers the clients of connections that nobody holds by RST.\n\n\
                  First see to it that the machine is off and stays off: if it still serves, two nodes speak for one connection. \
                  A node that was heard a moment ago is not believed dead.\n\nExit codes: 0 said, 1 refused, 2 wrong usage."
)]
pub struct ConfirmDeadArgs {
    /// The node that is dead.
    pub node: u8,
    /// It is off, and stays off: said by you, checked by nobody.
    #[arg(long, required = true)]
    pub it_is_off: bool,
    /// A node's control socket. Default: the only one in /run/understudy.
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Print the outcome as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Says that a node is dead.
pub fn main(args: &ConfirmDeadArgs) -> ExitCode {
    finish(confirm(args))
}

fn confirm(args: &ConfirmDeadArgs) -> Result<String, String> {
    let socket = socket(args.socket.as_deref())?;
    let asked = read(&socket)?.node;
    ask(&socket, &Request::ConfirmDead { node: args.node })?;
    let node = args.node;
    if args.json {
        return json(&serde_json::json!({ "dead": node, "told": asked }));
    }
    Ok(format!(
        "node {node} is dead by your word: node {asked} tells the others; `understudy why SERVICE` shows what follows\n"
    ))
}
