//! `understudy witness`: the keeper of the registers.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

/// Arguments of `understudy witness`.
#[derive(Args, Debug, Clone)]
pub struct WitnessArgs {
    /// UDP address and port to listen on, as `cluster.witness` of the nodes names it.
    #[arg(long)]
    pub listen: SocketAddr,
    /// The file that holds the registers; written durably before every answer.
    #[arg(long)]
    pub store: PathBuf,
    /// Begin with an empty store. Only for the first start of a new cluster: with an empty store in
    /// place of a lost one, two nodes could own the same service.
    #[arg(long)]
    pub bootstrap: bool,
}

/// Runs the witness.
pub fn main(_args: &WitnessArgs) -> ExitCode {
    eprintln!("error: the witness is not built yet");
    ExitCode::FAILURE
}
