//! `understudy run`: a node, from its configuration until it is told to end.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use dataplane::node::Node;

use crate::check;

/// Arguments of `understudy run`.
#[derive(Args, Debug, Clone)]
pub struct RunArgs {
    /// The node's configuration file.
    pub file: PathBuf,
}

/// Runs the node until SIGINT or SIGTERM.
pub fn main(args: &RunArgs) -> ExitCode {
    let config = match check::load_or_explain(&args.file) {
        Ok(config) => config,
        Err(code) => return code,
    };
    // Before the first thread starts, so that all of them leave these signals to this one.
    let signals = match dataplane::sys::TerminationSignals::block() {
        Ok(signals) => signals,
        Err(error) => return fail(&format!("cannot wait for signals: {error}")),
    };
    let node = match Node::start(&config) {
        Ok(node) => node,
        Err(error) => return fail(&error.to_string()),
    };
    eprintln!("{}", node.summary());
    eprintln!("running; `understudy status --socket {}`", config.control.socket.display());
    let outcome = wait(&signals, &node);
    drop(node);
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string()),
    }
}

/// Guards the node that started this process, until that has ended.
pub fn guard() -> ExitCode {
    match dataplane::guardian::watch() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("cannot guard a node: {error}; only a node starts this")),
    }
}

/// Waits for a signal, or for a thread that has ended by itself.
fn wait(signals: &dataplane::sys::TerminationSignals, node: &Node) -> io::Result<()> {
    loop {
        if signals.wait(std::time::Duration::from_millis(500))? {
            return Ok(());
        }
        if node.has_failed() {
            return Err(io::Error::other("a thread of the node has ended; its reason is above"));
        }
    }
}

fn fail(message: &str) -> ExitCode {
    eprintln!("error: {message}");
    ExitCode::FAILURE
}
