//! `understudy run`: a node, from its configuration until it is told to end.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use dataplane::log;
use dataplane::node::Node;
use dataplane::sys::{Signal, Signals};

use crate::{check, manager};

/// Arguments of `understudy run`.
#[derive(Args, Debug, Clone)]
#[command(
    after_help = "SIGTERM or SIGINT ends it, and its peer takes over at once; `understudy drain` before that costs clients \
                  less. SIGHUP is `understudy reload`.\n\n\
                  Exit codes: 0 ended as it was told, 1 it could not start, or a part of it has failed (the reason is on standard \
                  error), 2 wrong usage."
)]
pub struct RunArgs {
    /// The node's configuration file.
    pub file: PathBuf,
}

/// Runs the node until SIGINT or SIGTERM; SIGHUP has it read its configuration again.
pub fn main(args: &RunArgs) -> ExitCode {
    let config = match check::load_or_explain(&args.file) {
        Ok(config) => config,
        Err(code) => return code,
    };
    // Before the first thread starts, so that all of them leave these signals to this one.
    let signals = match Signals::block() {
        Ok(signals) => signals,
        Err(error) => return fail(&format!("cannot wait for signals: {error}")),
    };
    let node = match Node::start(&config, &args.file) {
        Ok(node) => node,
        Err(error) => return fail(&error.to_string()),
    };
    log::notice(node.summary());
    let socket = config.control.socket.display();
    log::notice(format!("running; `understudy status --socket {socket}`"));
    manager::ready();
    let outcome = wait(&signals, &node);
    manager::stopping();
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

/// Waits for a signal to end, or for a thread that has ended by itself; reloads when asked to.
fn wait(signals: &Signals, node: &Node) -> io::Result<()> {
    loop {
        match signals.wait(std::time::Duration::from_millis(500))? {
            Some(Signal::End) => return Ok(()),
            // The log tells the outcome.
            Some(Signal::Reload) => drop(node.reload()),
            None => {}
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
