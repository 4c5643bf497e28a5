//! The story of a failback: the home node dies, returns, is filled, gets its connections back, and then the other dies.
//!
//! ```text
//! node 1 owns -- kill 1 --> 2 owns -- 1 returns, is filled --> failback: 1 owns -- kill 2 --> 1 serves on
//! ```
//!
//! The load runs all the time. The switch counts whether a node speaks for a connection after the other one has.

use anyhow::{bail, ensure};

use super::outcome::Moment;
use super::story::{Act, PROTECTED_WITHIN, Told};
use super::{KillMode, voices};
use crate::load::wire::monotonic_ns;

/// How long the transfers last: a restart, a fill, a failback and two kills on a busy machine.
pub const SECONDS: u64 = 20;

/// Of the download, before each kill.
const KILLS_PERCENT: [u64; 2] = [10, 50];

/// Tells it, and leaves the second node dead.
pub fn tell(act: &mut Act<'_>) -> anyhow::Result<Told> {
    let (kill, home) = (act.args.kill, act.owner);
    if !matches!(kill, KillMode::Sigkill | KillMode::Power) {
        bail!("a failback needs a node that was dead: use --kill sigkill or --kill power");
    }
    let other = if home == 1 { 2 } else { 1 };
    act.until_download(KILLS_PERCENT[0])?;
    voices::watch(act.bed, home, other)?;
    let killed = Moment { what: "kill of the owner", at_ns: act.kill()? };
    act.cluster.wait_owner(other, PROTECTED_WITHIN)?;
    act.narrator.say(&format!("Node {other} owns the service. Bringing node {home} back."));
    act.cluster.wait_gone(home)?;
    let early = voices::late(act.bed)?;
    voices::watch(act.bed, other, home)?;
    act.cluster.revive(home, kill)?;
    let owner = act.cluster.wait_protected(PROTECTED_WITHIN)?;
    let returned = Moment { what: "failback of all connections", at_ns: monotonic_ns() };
    act.narrator.say(&format!("Node {home} holds every copy; node {owner} owns the service."));
    act.cluster.wait_owner(home, PROTECTED_WITHIN)?;
    ensure!(act.cluster.wait_protected(PROTECTED_WITHIN)? == home, "the service did not stay");
    act.narrator.say(&format!("Every connection is back at node {home}, and protected."));
    act.until_download(KILLS_PERCENT[1])?;
    let takeovers = act.cluster.takeovers(home);
    act.owner = other;
    let again = Moment { what: "kill of the other node", at_ns: act.kill()? };
    act.cluster.wait_owner(home, PROTECTED_WITHIN)?;
    act.still_running()?;
    act.cluster.wait_gone(other)?;
    let late_voices = Some(early + voices::late(act.bed)?);
    Ok(Told { moments: vec![killed, returned, again], late_voices, takeovers })
}
