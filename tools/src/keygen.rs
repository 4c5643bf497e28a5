//! `understudy keygen`: a key for the cluster's datagrams.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use dataplane::sealing::write_new_key;

use crate::print;

/// Arguments of `understudy keygen`.
#[derive(Args, Debug, Clone)]
#[command(
    after_help = "Exit codes: 0 written, 1 not (the reason is on standard error), 2 wrong usage."
)]
pub struct KeygenArgs {
    /// Where to write it; a file that is there is left alone.
    pub file: PathBuf,
}

/// Writes a new key.
pub fn main(args: &KeygenArgs) -> ExitCode {
    let file = args.file.display();
    match write_new_key(&args.file) {
        Ok(id) => {
            print(&format!(
                "key {id} is in {file}. Copy it to every node (`key_files`) and to the witness (`--key`), readable by \
                 its owner alone.\n"
            ));
            ExitCode::SUCCESS
        }
        Err(error) => {
            let help = match error.kind() {
                ErrorKind::AlreadyExists => "; a key is never overwritten: name another file",
                _ => "",
            };
            eprintln!("error: {file}: {error}{help}");
            ExitCode::FAILURE
        }
    }
}
