//! What the story needs to know of a node: who owns, who is protected, how long the last takeover
//! took.

use std::path::Path;

use anyhow::bail;
use dataplane::control::status::{GroupStatus, Protection, Role, Status};
use dataplane::control::{self, Reply, Request};
use serde::{Deserialize, Serialize};

/// How long each phase took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Takeover {
    /// Service.
    pub service: String,
    /// Connections assumed.
    pub flows: u64,
    /// Name and microseconds.
    pub phases: Vec<(String, u64)>,
}

/// Asks the node behind `socket`, as `understudy status` does.
pub fn read(socket: &Path) -> anyhow::Result<Status> {
    match control::ask(socket, &Request::Status)? {
        Reply::Status { status } => Ok(*status),
        Reply::Error { message } => bail!("{message}"),
        _ => bail!("the node took the question for an order"),
    }
}

/// Whether this node owns the service, and a failure now would cost nothing.
pub fn serves_protected(status: &Status, service: &str) -> bool {
    let safe = |group: &GroupStatus| {
        group.role == Role::Owner && group.protection == Protection::Protected
    };
    status.groups.iter().any(|group| group.service == service && safe(group))
}

/// Whether this node owns every service, in every generation that there is.
pub fn owns_all(status: &Status) -> bool {
    !status.groups.is_empty() && status.groups.iter().all(|group| group.role == Role::Owner)
}

/// Whether this node owns the service, in every generation that there is of it.
pub fn owns(status: &Status, service: &str) -> bool {
    let mut of_service = status.groups.iter().filter(|group| group.service == service).peekable();
    of_service.peek().is_some() && of_service.all(|group| group.role == Role::Owner)
}

/// Whether this node takes the new connections of every service, while others are left at the other node, and a failure
/// of either would cost nothing.
pub fn takes_new_connections(status: &Status) -> bool {
    let is_right = |group: &GroupStatus| {
        let role = if group.is_closed { Role::Peer } else { Role::Owner };
        group.role == role && group.protection == Protection::Protected
    };
    let mut closed = status.groups.iter().filter(|group| group.is_closed);
    closed.next().is_some() && status.groups.iter().all(is_right)
}

/// The last takeovers by this node.
pub fn takeovers(status: &Status) -> Vec<Takeover> {
    let groups = status.groups.iter();
    let taken = groups.filter_map(|group| Some((&group.service, group.last_takeover.as_ref()?)));
    let told = taken.map(|(service, times)| {
        let phases = [
            ("detect", times.detect_us),
            ("grant", times.grant_us),
            ("apply", times.apply_us),
            ("announce", times.announce_us),
            ("first byte", times.first_byte_us),
        ];
        let phases = phases.into_iter().map(|(name, us)| (name.to_string(), us)).collect();
        Takeover { service: service.clone(), flows: times.flows, phases }
    });
    told.collect()
}

/// In a few words, for an error message.
pub fn in_words(status: &Status) -> String {
    let groups = status.groups.iter();
    let words = groups.map(|g| format!("{}: {:?}, {}", g.service, g.role, g.protection));
    words.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use dataplane::control::status::Takeover as Times;

    fn status(role: Role, protection: Protection) -> Status {
        let times = Times { flows: 7, detect_us: 30_000, grant_us: 400, ..Times::default() };
        let last_takeover = Some(times);
        let service = "web".to_string();
        let group = GroupStatus { service, role, protection, last_takeover, ..Default::default() };
        Status { groups: vec![group], ..Status::default() }
    }

    #[test]
    fn only_an_owner_with_a_peer_serves_protected() {
        assert!(serves_protected(&status(Role::Owner, Protection::Protected), "web"));
        assert!(!serves_protected(&status(Role::Owner, Protection::Protected), "echo"));
        assert!(!serves_protected(&status(Role::Peer, Protection::Protected), "web"));
        assert!(!serves_protected(&status(Role::Owner, Protection::UnprotectedNoPeer), "web"));
    }

    #[test]
    fn a_service_is_owned_in_every_generation_or_not() {
        let mut status = status(Role::Owner, Protection::Protected);
        assert!(owns(&status, "web") && !owns(&status, "echo"));
        status.groups.push(GroupStatus { role: Role::Peer, ..status.groups[0].clone() });
        assert!(!owns(&status, "web"));
    }

    #[test]
    fn the_phases_of_a_takeover_keep_their_order() {
        let takeovers = takeovers(&status(Role::Owner, Protection::Protected));
        assert_eq!(takeovers[0].flows, 7);
        assert_eq!(takeovers[0].phases[0], ("detect".to_string(), 30_000));
        assert_eq!(takeovers[0].phases[4].0, "first byte");
    }
}
