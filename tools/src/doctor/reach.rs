//! The other nodes and the witness: whether they answer, and whether packets as long as the link's MTU reach them.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use dataplane::config::Arbiter;
use dataplane::sys::{self, EchoSocket, WAY_BYTES_MIN};

use super::{Level, Patient};

/// Questions to one host.
const ASKED: usize = 3;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_millis(500);

/// Who was not heard for so long is not well: heartbeats come every few milliseconds, the witness is asked every second.
const SILENT_US: u64 = 5_000_000;

/// Looks at each.
pub fn look(patient: &mut Patient<'_>) {
    let config = patient.config;
    let mut hosts: Vec<(String, IpAddr)> =
        config.others().map(|node| (format!("node {}", node.id), node.address.into())).collect();
    match config.cluster.arbiter {
        Arbiter::Witness { witness } => hosts.push(("witness".into(), witness.ip())),
        Arbiter::None { .. } => {
            patient.find(
                "witness",
                Level::Note,
                "none is configured: see what `survivor` says of a split",
            );
        }
    }
    let mut echo = match patient.passive {
        true => None,
        // Answers are told from those of others by the process.
        false => EchoSocket::open(std::process::id() as u16).ok(),
    };
    let mtu = sys::interface_mtu(&config.interfaces.cluster.name).unwrap_or(1500) as usize;
    for (who, address) in hosts {
        match (&mut echo, address) {
            (Some(echo), IpAddr::V4(address)) => ask(patient, echo, &who, address, mtu),
            _ => patient.find(&who, Level::Note, format!("not asked: {address}")),
        }
    }
    told(patient);
}

/// By a packet as small and one as long as can be.
fn ask(patient: &mut Patient<'_>, echo: &mut EchoSocket, who: &str, address: Ipv4Addr, mtu: usize) {
    let mut fastest = |bytes| {
        let times = (0..ASKED).map(|_| echo.ask(address, bytes, PATIENCE));
        let times: Result<Vec<_>, _> = times.collect();
        times.map(|times| times.into_iter().flatten().min())
    };
    let short = fastest(WAY_BYTES_MIN);
    let (level, says) = match short.and_then(|short| Ok((short, fastest(mtu)?))) {
        Ok((Some(time), Some(_))) => (
            Level::Ok,
            format!("{address} answers in {} us, to packets of {mtu} bytes too", time.as_micros()),
        ),
        Ok((Some(_), None)) => (
            Level::Problem,
            format!(
                "{address} answers, but not to packets of {mtu} bytes: give every interface and switch on the way that MTU"
            ),
        ),
        Ok((None, _)) => (
            Level::Warning,
            format!("{address} does not answer to ping: it is off, cut off, or keeps silent"),
        ),
        Err(error) => (Level::Warning, format!("{address} cannot be reached: {error}")),
    };
    patient.find(who, level, says);
}

/// What the running node says of them.
fn told(patient: &mut Patient<'_>) {
    let Some(status) = &patient.running else { return };
    let mut lines = Vec::new();
    for node in &status.cluster.nodes {
        let (level, says) = match (node.heartbeat_age_us, &node.sealed.refused) {
            (_, Some(why)) => (Level::Problem, format!("it is not understood: {why}")),
            (Some(age), None) => {
                (by_age(age), format!("its last heartbeat came {} ms ago", age / 1_000))
            }
            (None, None) => (Level::Warning, "the running node has never heard it".into()),
        };
        lines.push((format!("node {}", node.node), level, says));
    }
    if status.cluster.arbiter == "witness" {
        let (level, says) =
            match (status.cluster.arbiter_answer_age_us, &status.cluster.witness_sealed.refused) {
                (_, Some(why)) => (Level::Problem, format!("it is not understood: {why}")),
                (Some(age), None) => {
                    (by_age(age), format!("its last answer came {} ms ago", age / 1_000))
                }
                (None, None) => (Level::Warning, "it has never answered the running node".into()),
            };
        lines.push(("witness".into(), level, says));
    }
    lines.into_iter().for_each(|(topic, level, says)| patient.find(topic, level, says));
}

fn by_age(age_us: u64) -> Level {
    if age_us < SILENT_US { Level::Ok } else { Level::Warning }
}
