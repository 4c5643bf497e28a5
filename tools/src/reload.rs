//! `understudy reload` and `confirm`: another configuration for a running node, and the way back.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use dataplane::config::parse_duration;
use dataplane::control::{self, Reply, Request};
use serde_json::json;

use crate::handover::finish;
use crate::status::{ask, json, socket, span};

/// Longest time in which a reload may be confirmed.
const CONFIRM_MAX: Duration = Duration::from_nanos(control::CONFIRM_MAX.0);

/// Arguments of `understudy reload`.
#[derive(Args, Debug, Clone)]
#[command(
    after_help = "The node reads the file that it was started with. A file with an error, or with a change that a running node cannot \
                  take, changes nothing. SIGHUP does the same and says the outcome in the node's log.\n\n\
                  Reload one node after the other, the owners of services last: until both agree, status shows them as unfit to \
                  become each other's peer, and a peer in sync stays what it is.\n\n\
                  Exit codes: 0 the node runs what the file says, 1 nothing was changed (the reason is on standard error), 2 wrong \
                  usage."
)]
pub struct ReloadArgs {
    /// Undo it after so long, "60s" for example, unless `understudy confirm` comes first.
    #[arg(long, value_name = "TIME", value_parser = confirm_within)]
    pub confirm_within: Option<Duration>,
    /// The node's control socket. Default: the only one in /run/understudy.
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Print the outcome as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `understudy confirm`.
#[derive(Args, Debug, Clone)]
#[command(after_help = "Exit codes: 0 the last reload stays, 1 none waited for it, 2 wrong usage.")]
pub struct ConfirmArgs {
    /// The node's control socket. Default: the only one in /run/understudy.
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
}

/// Has the node read its configuration again.
pub fn reload(args: &ReloadArgs) -> ExitCode {
    finish(try_reload(args))
}

/// Has the last reload stay.
pub fn confirm(args: &ConfirmArgs) -> ExitCode {
    let confirm = || {
        ask(&socket(args.socket.as_deref())?, &Request::Confirm)?;
        Ok("confirmed: the last reload stays\n".into())
    };
    finish(confirm())
}

fn confirm_within(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        span if span.is_zero() || span > CONFIRM_MAX => Err("at most 24h, and not nothing".into()),
        span => Ok(span),
    }
}

fn try_reload(args: &ReloadArgs) -> Result<String, String> {
    let confirm_within_us = args.confirm_within.map(|span| span.as_micros() as u64);
    let reply = ask(&socket(args.socket.as_deref())?, &Request::Reload { confirm_within_us })?;
    match &reply {
        Reply::Reloaded { changes, confirm_within_us, .. } if args.json => {
            json(&json!({ "changes": changes, "confirm_within_us": confirm_within_us }))
        }
        reply => outcome(reply).ok_or("the node answered something else".into()),
    }
}

/// What came of a reload, in words.
fn outcome(reply: &Reply) -> Option<String> {
    let Reply::Reloaded { changes, warnings, confirm_within_us } = reply else { return None };
    let mut text = warnings.clone();
    text += match changes.len() {
        0 => "reloaded: the file says what runs already\n",
        _ => "reloaded:\n",
    };
    text.extend(changes.iter().map(|change| format!("  {change}\n")));
    if let Some(us) = confirm_within_us {
        text += &format!("undone in {} unless `understudy confirm` comes first\n", span(*us));
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_says_what_changed_and_what_is_to_be_done() {
        let changes = vec!["services[web].idle_timeout: \"60s\" -> \"30s\"".to_string()];
        let reloaded = |changes: &[String], confirm_within_us| Reply::Reloaded {
            changes: changes.to_vec(),
            warnings: String::new(),
            confirm_within_us,
        };
        let text = outcome(&reloaded(&changes, Some(60_000_000))).expect("an outcome");
        assert_eq!(
            text,
            "reloaded:\n  services[web].idle_timeout: \"60s\" -> \"30s\"\nundone in 1 min 0 s unless `understudy confirm` \
             comes first\n"
        );
        let text = outcome(&reloaded(&[], None)).expect("an outcome");
        assert_eq!(text, "reloaded: the file says what runs already\n");
        assert_eq!(outcome(&Reply::Begun), None);
    }

    #[test]
    fn the_time_to_confirm_has_a_unit_and_bounds() {
        assert_eq!(confirm_within("60s"), Ok(Duration::from_secs(60)));
        for wrong in ["60", "0s", "25h", "soon", ""] {
            assert!(confirm_within(wrong).is_err(), "{wrong}");
        }
    }
}
