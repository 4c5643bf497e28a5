//! The story of a failback: the home node dies, returns, is filled, gets the new connections back, then all, and then the
//! other one dies.
//!
//! ```text
//! node 1 owns -- kill 1 --> 2 owns -- 1 returns, is filled --> 1 takes the new connections, 2 keeps the others
//!             -- the operator's order --> 1 owns all -- kill 2 --> 1 serves on
//! ```
//!
//! The load runs all the time. The switch counts whether a node speaks for a connection after the other one has.

use anyhow::bail;

use super::files::SERVICES;
use super::outcome::Moment;
use super::story::{Act, PROTECTED_WITHIN, Told};
use super::{KillMode, status, voices};
use crate::load::wire::monotonic_ns;

/// How long the transfers last: a restart, a fill, a failback and two kills on a busy machine.
pub const SECONDS: u64 = 20;

/// Of the download, before the first kill, the order and the second kill.
const PERCENT: [u64; 3] = [10, 35, 55];

/// Tells it, and leaves the second node dead.
pub fn tell(act: &mut Act<'_>) -> anyhow::Result<Told> {
    let (kill, home) = (act.args.kill, act.owner);
    if !matches!(kill, KillMode::Sigkill | KillMode::Power) {
        bail!("a failback needs a node that was dead: use --kill sigkill or --kill power");
    }
    let other = if home == 1 { 2 } else { 1 };
    let within = PROTECTED_WITHIN;
    act.until_download(PERCENT[0])?;
    voices::watch(act.bed, home, other)?;
    let killed = Moment { what: "kill of the owner", at_ns: act.kill()? };
    act.cluster.wait_for(other, "own everything", within, status::owns_all)?;
    act.narrator.say(&format!("Node {other} owns the service. Bringing node {home} back."));
    act.cluster.wait_gone(home)?;
    let early = voices::late(act.bed)?;
    voices::watch(act.bed, other, home)?;
    act.cluster.revive(home, kill)?;
    act.cluster.wait_protected(within)?;
    let returned = Moment { what: "failback of new connections", at_ns: monotonic_ns() };
    act.narrator.say(&format!("Node {home} holds every copy."));
    let takes_new = "take the new connections";
    act.cluster.wait_for(home, takes_new, within, status::takes_new_connections)?;
    act.narrator
        .say(&format!("New connections go to node {home}, the others stay where they are."));
    act.until_download(PERCENT[1])?;
    let ordered = Moment { what: "handover of all others", at_ns: monotonic_ns() };
    for (service, ..) in SERVICES {
        // On a slow machine the last of a service's old connections may have ended by now.
        if let Err(error) = act.cluster.order(other, service, home)
            && !act.cluster.status(home).is_ok_and(|status| status::owns(&status, service))
        {
            return Err(error);
        }
    }
    act.cluster.wait_for(home, "own everything", within, status::owns_all)?;
    act.cluster.wait_protected(within)?;
    act.narrator.say(&format!("Every connection is back at node {home}, and protected."));
    act.until_download(PERCENT[2])?;
    let takeovers = act.cluster.takeovers(home);
    act.owner = other;
    let again = Moment { what: "kill of the other node", at_ns: act.kill()? };
    act.cluster.wait_gone(other)?;
    act.cluster.wait_for(home, "own everything", within, status::owns_all)?;
    act.still_running()?;
    let late_voices = Some(early + voices::late(act.bed)?);
    Ok(Told { moments: vec![killed, returned, ordered, again], late_voices, takeovers })
}
