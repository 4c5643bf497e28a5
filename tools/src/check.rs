//! `understudy check`: what is wrong with a configuration, and what it amounts to.
//!
//! Problems go to standard error in the form of a compiler's, the summary to standard output. With
//! several files, which must be those of one cluster's nodes, they are compared too.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use dataplane::config::{self, Config, Loaded, Severity};
use serde_json::json;

use crate::print;

/// Arguments of `understudy check`.
#[derive(Args, Debug, Clone)]
#[command(
    after_help = "Exit codes: 0 no errors (there may be warnings), 1 errors, 2 wrong usage.\n\n\
                  Nothing of this host is looked at but the files that the configuration names."
)]
pub struct CheckArgs {
    /// Configuration files; several are compared as those of one cluster's nodes.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Print the configuration with every default spelt out, as TOML.
    #[arg(long, conflicts_with = "json")]
    pub effective: bool,
    /// Print problems and effective configuration as one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// Checks the files.
pub fn main(args: &CheckArgs) -> ExitCode {
    let loaded: Vec<Loaded> = args.files.iter().map(|file| config::load(file)).collect();
    let disagreements = disagreements(&loaded);
    if args.json {
        print(&format!("{}\n", as_json(&loaded, &disagreements)));
    } else {
        for loaded in &loaded {
            eprint!("{}", loaded.render(color()));
        }
        for sentence in &disagreements {
            eprintln!("error: {sentence}\n");
        }
        for loaded in &loaded {
            match &loaded.config {
                Some(config) if args.effective => print(&config.effective()),
                _ => print(&format!("{}\n", summary(loaded))),
            }
        }
    }
    match disagreements.is_empty() && loaded.iter().all(|loaded| loaded.config.is_some()) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Loads a file for a command that needs it; problems are printed, an error ends the command.
pub fn load_or_explain(file: &Path) -> Result<Config, ExitCode> {
    let loaded = config::load(file);
    eprint!("{}", loaded.render(color()));
    if loaded.config.is_none() {
        let errors = counted(loaded.count(Severity::Error), "error");
        eprintln!("error: {} cannot be used: {errors}", loaded.file);
    }
    loaded.config.ok_or(ExitCode::FAILURE)
}

/// Whether standard error likes colours.
fn color() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// Each file against the first that can be read.
fn disagreements(loaded: &[Loaded]) -> Vec<String> {
    let mut configs = loaded.iter().filter_map(|loaded| loaded.config.as_ref());
    let Some(first) = configs.next() else { return Vec::new() };
    configs.flat_map(|config| config::agree(first, config)).collect()
}

/// "no errors", "1 warning", "3 errors".
fn counted(n: usize, what: &str) -> String {
    match n {
        0 => format!("no {what}s"),
        1 => format!("1 {what}"),
        _ => format!("{n} {what}s"),
    }
}

/// One line about a file, or a few if it can be used.
fn summary(loaded: &Loaded) -> String {
    let errors = counted(loaded.count(Severity::Error), "error");
    let warnings = counted(loaded.count(Severity::Warning), "warning");
    let mut text = format!("{}: {errors}, {warnings}", loaded.file);
    let Some(config) = &loaded.config else { return text };
    let cores = config.cores.pin.len();
    let mebibytes = config.memory_bytes().div_ceil(1 << 20);
    let (idle, active) = config.limits.idle_and_active_bytes(cores);
    text += &format!(
        "\nnode {} of cluster {:?} with {}; {}; about {mebibytes} MiB of memory at start, of it {idle} bytes \
         for each of {} flows{} and {} MiB for what only active ones need",
        config.node.id,
        config.cluster.name,
        counted(config.others().count(), "other node"),
        counted(config.services.len(), "service"),
        config.limits.flows,
        if config.services.iter().any(|service| !service.sources().is_empty()) {
            " (a connection that is passed on is two)"
        } else {
            ""
        },
        active.div_ceil(1 << 20),
    );
    for service in &config.services {
        let addresses: Vec<String> = service.addresses.iter().map(ToString::to_string).collect();
        let ports: Vec<String> = service.ports.iter().map(ToString::to_string).collect();
        let peers: Vec<String> = service.peers.iter().map(ToString::to_string).collect();
        let peers = match peers.is_empty() {
            true => "unprotected".to_string(),
            false => format!("peer {}", peers.join(", then ")),
        };
        text += &format!(
            "\n  service {}: {} port {}, {}, home {}, {peers}",
            service.name,
            addresses.join(" "),
            ports.join(" "),
            service.presence(),
            service.home,
        );
    }
    text
}

fn as_json(loaded: &[Loaded], disagreements: &[String]) -> serde_json::Value {
    let file = |loaded: &Loaded| {
        let problems = loaded.diagnostics.iter().map(|d| d.line(&loaded.file, &loaded.text));
        json!({
            "file": loaded.file,
            "errors": loaded.count(Severity::Error),
            "warnings": loaded.count(Severity::Warning),
            "problems": problems.collect::<Vec<_>>(),
            "effective": loaded.config,
        })
    };
    let files: Vec<_> = loaded.iter().map(file).collect();
    json!({ "files": files, "disagreements": disagreements })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absent_file_is_an_error_in_every_form() {
        let loaded = vec![config::load(Path::new("/nonexistent/node.toml"))];
        assert_eq!(summary(&loaded[0]), "/nonexistent/node.toml: 1 error, no warnings");
        assert!(loaded[0].render(false).starts_with("error: cannot be opened"));
        let json = as_json(&loaded, &disagreements(&loaded));
        assert_eq!(json["files"][0]["problems"][0]["kind"], "unreadable");
        assert!(json["files"][0]["effective"].is_null());
    }
}
