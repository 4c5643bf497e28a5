//! `understudy doctor`: whether this host and its network can do what a configuration asks for.
//!
//! `check` looks at the file alone and runs anywhere; this looks at the machine, and says one line about each thing that
//! an operator has to know, with what to do about it. It attaches the XDP program for a moment and sends probes, unless
//! it is told to be `--passive`; where a node runs already it takes the interfaces as that node has them.
//!
//! ```text
//! host: kernel, privileges, memory, cores, clock      link: interfaces, XDP, copies, MTU
//! reach: other nodes and the witness                  hearing: which ways of snooping work here
//! ```

use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use dataplane::config::Config;
use dataplane::control::status::Status;
use serde::Serialize;

use crate::check::load_or_explain;
use crate::{print, status};

mod hearing;
mod host;
mod link;
mod reach;

/// Arguments of `understudy doctor`.
#[derive(Args, Debug, Clone)]
#[command(
    after_help = "Exit codes: 0 nothing stops a node here (there may be warnings), 1 something does, 2 wrong usage.\n\n\
                  Run it as root on the host of the configuration's node. If no node runs there yet, the XDP program is \
                  attached to both interfaces for a moment, which some NICs answer with a short loss of their link."
)]
pub struct DoctorArgs {
    /// The configuration file of the node that runs, or is to run, on this host.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Attach and send nothing; what only that could tell is named.
    #[arg(long)]
    pub passive: bool,
    /// Print the findings as JSON.
    #[arg(long)]
    pub json: bool,
}

/// How good or bad something is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Worth knowing.
    Note,
    /// A node runs here, but not as well as it could.
    Warning,
    /// A node cannot run here, or not as the configuration says.
    Problem,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Level::Ok => "ok",
            Level::Note => "note",
            Level::Warning => "warning",
            Level::Problem => "PROBLEM",
        })
    }
}

/// One line.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub topic: String,
    /// How good or bad it is.
    pub level: Level,
    /// What was found, and what to do if it is not good.
    pub says: String,
}

/// What all looks share.
struct Patient<'a> {
    config: &'a Config,
    /// What the node says that runs here already.
    running: Option<Status>,
    passive: bool,
    findings: Vec<Finding>,
}

impl Patient<'_> {
    fn find(&mut self, topic: impl Into<String>, level: Level, says: impl Into<String>) {
        self.findings.push(Finding { topic: topic.into(), level, says: says.into() });
    }
}

/// Looks at this host.
pub fn main(args: &DoctorArgs) -> ExitCode {
    let config = match load_or_explain(&args.file) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let running = status::read(&config.control.socket).ok();
    let passive = args.passive;
    let mut patient = Patient { config: &config, running, passive, findings: Vec::new() };
    let node = match &patient.running {
        Some(status) => format!("node {} runs here, version {}", status.node, status.version),
        None => format!("no node answers at {}", config.control.socket.display()),
    };
    patient.find("node", Level::Note, node);
    host::look(&mut patient);
    link::look(&mut patient);
    reach::look(&mut patient);
    hearing::look(&mut patient);
    let findings = patient.findings;
    print(&if args.json { as_json(&findings) } else { render(&findings) });
    match count(&findings, Level::Problem) {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn count(findings: &[Finding], level: Level) -> usize {
    findings.iter().filter(|finding| finding.level == level).count()
}

fn render(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.topic.len()).max().unwrap_or(0);
    let line =
        |Finding { topic, level, says }: &Finding| format!("{level:<8} {topic:<width$}  {says}\n");
    let (problems, warnings) = (count(findings, Level::Problem), count(findings, Level::Warning));
    let verdict = match problems {
        0 => "A node can run here.".to_string(),
        n => format!("A node cannot run here as configured: {n} to be mended first."),
    };
    let lines: String = findings.iter().map(line).collect();
    format!("{lines}\n{verdict} Problems: {problems}, warnings: {warnings}.\n")
}

fn as_json(findings: &[Finding]) -> String {
    let (problems, warnings) = (count(findings, Level::Problem), count(findings, Level::Warning));
    let all =
        serde_json::json!({ "problems": problems, "warnings": warnings, "findings": findings });
    format!("{all:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finding_is_a_line_and_problems_decide_the_verdict() {
        let finding = |topic: &str, level| {
            let (topic, says) = (topic.to_string(), format!("about {topic}"));
            Finding { topic, level, says }
        };
        let mut findings = vec![finding("kernel", Level::Ok), finding("cores", Level::Warning)];
        let text = render(&findings);
        assert!(
            text.contains("ok       kernel  about kernel\nwarning  cores   about cores\n"),
            "{text}"
        );
        assert!(text.ends_with("A node can run here. Problems: 0, warnings: 1.\n"), "{text}");
        findings.push(finding("eth0", Level::Problem));
        assert!(render(&findings).contains("cannot run here as configured: 1 to be mended"));
        let json: serde_json::Value = serde_json::from_str(&as_json(&findings)).unwrap();
        assert_eq!(
            (&json["problems"], &json["findings"][2]["level"]),
            (&1.into(), &"problem".into())
        );
    }
}
