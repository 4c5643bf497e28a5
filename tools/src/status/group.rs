//! How each service stands: one row, and what else there is to say of it.

use super::{behind, counters, name, span, table};
use dataplane::control::status::{GroupStatus, Handed, Status};
use std::fmt::Write;

pub(super) fn groups(text: &mut String, status: &Status) {
    let mut rows = Vec::new();
    for group in &status.groups {
        let node = |id: Option<u8>| id.map_or("none".into(), |id| format!("node {id}"));
        let mut name = name(&group.service, group.generation);
        if group.is_closed {
            name += ", closed to new connections";
        }
        if group.is_leaving {
            name += ", leaving";
        }
        rows.push([
            name,
            group.role.to_string(),
            node(group.owner),
            node(group.peer),
            group.protection.to_string(),
            format!("{} ({} copied)", group.flows, group.flows_copied),
            behind(&group.lag),
            span(group.lease_remaining_us),
            group.epoch.to_string(),
        ]);
    }
    let head = [
        "service",
        "role",
        "owner",
        "peer",
        "protection",
        "flows",
        "peer behind",
        "lease",
        "epoch",
    ];
    table(text, head, rows);
}

pub(super) fn details(text: &mut String, group: &GroupStatus) {
    let lag = group.lag;
    if lag.ops > 0 {
        let name = &group.service;
        let _ = writeln!(text, "\n{name}: peer is {} records, {} bytes behind", lag.ops, lag.bytes);
    }
    if let Some(percent) = group.hears_percent {
        let name = &group.service;
        let _ = writeln!(text, "\n{name}: hears {percent} % of what clients send to the owner");
    }
    if let Some(takeover) = group.last_takeover {
        let _ = writeln!(
            text,
            "\n{}: took over {} flows {} ago (epoch {}) in {}: detect {}, grant {}, \
             apply {}, announce {}, first byte {}",
            group.service,
            takeover.flows,
            span(takeover.age_us),
            takeover.epoch,
            span(takeover.total_us()),
            span(takeover.detect_us),
            span(takeover.grant_us),
            span(takeover.apply_us),
            span(takeover.announce_us),
            span(takeover.first_byte_us),
        );
    }
    unfit(text, group);
    if let Some(count) = group.counters.get("digest_mismatches").filter(|count| **count > 0) {
        let _ = writeln!(
            text,
            "\n{}: {count} COPIES DIFFERED from their connections and were captured anew: a defect, please report it",
            group.service
        );
    }
    if let Some(conflict) = &group.conflict {
        let _ = writeln!(
            text,
            "\n{}: {} IS ALSO CLAIMED by the host with {}, {} times, last {} ago: find it and take the address from it",
            group.service,
            conflict.address,
            conflict.mac,
            conflict.count,
            span(conflict.age_us),
        );
    }
    handovers(text, group);
    if !group.counters.is_empty() {
        let _ = writeln!(text, "\n{}: {}", group.service, counters(&group.counters));
    }
    for decision in group.decisions.iter().rev().take(3).rev() {
        let _ = writeln!(text, "  {decision}");
    }
}

/// Who cannot be the peer, and who claims what is not his.
pub(crate) fn unfit(text: &mut String, group: &GroupStatus) {
    let name = &group.service;
    for declared in &group.declared {
        if let Some(why) = &declared.unfit {
            let _ = writeln!(text, "\n{name}: node {} is UNFIT as peer: {why}", declared.node);
        }
    }
    if let Some(claim) = &group.claim {
        let (node, service, epoch) = (claim.node, &claim.service, claim.epoch);
        let _ = writeln!(
            text,
            "\n{name}: CONFLICTING CLAIM of node {node}, which says that it owns {service} under epoch {epoch} ({} times, last \
             {} ago)",
            claim.count,
            span(claim.age_us)
        );
    }
}

/// What there is to say of handovers.
pub(crate) fn handovers(text: &mut String, group: &GroupStatus) {
    let name = &group.service;
    if group.home_ready {
        let home = group.peer.unwrap_or(0);
        let _ = writeln!(
            text,
            "\n{name}: home is ready; understudy handover {name} --to {home} gives it back"
        );
    }
    if group.is_bound {
        let _ = writeln!(
            text,
            "\n{name}: not handed over from here, whatever its failback: without an arbiter only the one node \
             that `survivor` names may. It goes back when this node ends or restarts"
        );
    }
    if let Some(handover) = &group.handover {
        let _ = writeln!(
            text,
            "\n{name}: being handed over to node {} since {}, {} ({})",
            handover.to,
            span(handover.age_us),
            handover.phase,
            handover.cause
        );
    }
    if let Some(handed) = &group.last_handover {
        let _ = writeln!(text, "\n{name}: {}", handed_over(handed));
    }
    if let Some(failure) = &group.last_failure {
        let _ = writeln!(text, "\n{name}: the last handover came to nothing: {failure}");
    }
}

/// A handover in one sentence.
pub(crate) fn handed_over(handed: &Handed) -> String {
    let lost = match handed.lost {
        0 => String::new(),
        lost => format!(", {lost} LOST"),
    };
    format!(
        "handed {} flows over to node {} {} ago (epoch {}{lost}): prepare {}, freeze {}, change places {}",
        handed.connections,
        handed.to,
        span(handed.age_us),
        handed.epoch,
        span(handed.prepare_us),
        span(handed.freeze_us),
        span(handed.swap_us),
    )
}
