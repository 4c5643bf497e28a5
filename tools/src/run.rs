//! `understudy run`: a node, from its configuration until it is told to end.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::check;

/// Arguments of `understudy run`.
#[derive(Args, Debug, Clone)]
pub struct RunArgs {
    /// The node's configuration file.
    pub file: PathBuf,
}

/// Runs the node.
pub fn main(args: &RunArgs) -> ExitCode {
    let _config = match check::load_or_explain(&args.file) {
        Ok(config) => config,
        Err(code) => return code,
    };
    eprintln!("error: running a node is not built yet");
    ExitCode::FAILURE
}
