//! Parts of the status: what agent, cores and sealing say of themselves, as it is shown.

use crate::address;
use crate::agent_thread::refused::in_words;
use crate::config::Mac;
use crate::control::status as shown;
use crate::orders;
use crate::sealing::SealingSnapshot;
use crate::shared::CoreSnapshot;
use cluster::agent::Counters;
use cluster::agent::declare::Fitness;
use cluster::agent::status::{DeclaredStatus, PathStatus};
use cluster::engine::GroupStatus as Engine;
use cluster::id::NodeId;
use cluster::lease::Timers;
use cluster::message::advertise::{self, Advertise};
use cluster::message::{Drop, Role};
use cluster::seal::Unopened;
use stack::stack::Conflict;
use stack::time::Instant;
use std::collections::BTreeMap;

pub(super) fn role_shown(role: Role) -> shown::Role {
    match role {
        Role::Owner => shown::Role::Owner,
        Role::Peer => shown::Role::Peer,
        Role::Idle | Role::Filling => shown::Role::None,
    }
}

/// How `node` is spoken with.
pub(super) fn sealed(sealing: &SealingSnapshot, node: NodeId) -> shown::SealedStatus {
    let standing = sealing.standings.iter().find(|standing| standing.node == node);
    let session = standing.filter(|standing| standing.key.is_some());
    let is_heard = session.is_some_and(|session| !session.is_silent);
    let refused = sealing.refused.iter().find(|(id, ..)| *id == node && !is_heard);
    shown::SealedStatus {
        key: session.and_then(|session| session.key).map(|key| key.to_string()),
        age_us: session.map_or(0, |session| session.age.micros()),
        refused: refused.map(|(_, reason, _)| in_words(*reason).into()),
        refused_age_us: refused.map_or(0, |(.., age)| age.micros()),
    }
}

pub(super) fn sealing_counters(sealing: &SealingSnapshot) -> BTreeMap<String, u64> {
    let counters = &sealing.counters;
    let unopened = Unopened::ALL.into_iter().zip(counters.unopened);
    let unopened = unopened.map(|(reason, count)| (reason.key(), count));
    let counted = [
        ("opened", counters.opened),
        ("sealed", counters.sealed),
        ("no_session", counters.no_session),
        ("handshakes_begun", counters.begun),
        ("handshakes_answered", counters.answered),
        ("sessions", counters.sessions),
        ("hints_withheld", counters.hints_withheld),
    ];
    counted.into_iter().chain(unopened).map(|(name, count)| (name.into(), count)).collect()
}

pub(super) fn agent_counters(counters: &Counters) -> BTreeMap<String, u64> {
    let dropped = Drop::ALL.into_iter().zip(counters.dropped);
    let dropped = dropped.map(|(reason, count)| (format!("dropped_{}", reason.key()), count));
    let counted = [
        ("received", counters.received),
        ("sent", counters.sent),
        ("overflowed", counters.overflowed),
        ("granted", counters.granted),
        ("late", counters.late),
        ("claims", counters.claims),
        ("refused_peers", counters.refused_peers),
    ];
    counted.map(|(name, count)| (name.to_string(), count)).into_iter().chain(dropped).collect()
}

/// What a core's stack has counted beside frames.
pub(super) fn events(core: &CoreSnapshot) -> BTreeMap<String, u64> {
    let stack = &core.stack;
    let astray = core.forward.events().into_iter().chain(core.hearing.events());
    let events = [
        ("opened", stack.opened),
        ("closed", stack.closed),
        ("ended_by_operator", stack.ended),
        ("endings_not_logged", stack.endings_lost),
        ("connects", stack.connects),
        ("connects_refused", stack.refused),
        ("bad_proxy_header", stack.bad_header),
        ("no_server", stack.no_server),
        ("no_source_port", stack.no_source_port),
        ("server_down_resets", stack.server_down),
        ("server_decisions_forgotten", stack.decisions_forgotten),
        ("queue_full", stack.queue_full),
        ("queue_timeouts", stack.queue_timeouts),
        ("cookies_sent", stack.cookies_sent),
        ("cookies_accepted", stack.cookies_accepted),
        ("address_conflicts", stack.address_conflicts),
        ("active_refused", core.places_refused),
        ("given_up_for_memory", core.given_up_for_memory),
    ];
    events.into_iter().chain(astray).map(|(name, count)| (name.to_string(), count)).collect()
}

pub(super) fn group_counters(engine: &Engine, differed: u64) -> BTreeMap<String, u64> {
    let (log, backup) = (&engine.log, &engine.backup);
    [
        ("log_records", log.records),
        ("log_datagrams", log.datagrams),
        ("log_bytes_sent", log.bytes_sent),
        ("log_resent", log.resent),
        ("copy_records", backup.records),
        ("copy_bytes", backup.bytes),
        ("copy_heard_bytes", engine.heard_bytes),
        ("copy_repeated", backup.repeated),
        ("copy_stash_full", backup.stash_full),
        ("copy_malformed", backup.malformed),
        ("copy_lost", backup.lost),
        ("copy_unknown", backup.unknown),
        ("digests", backup.digests),
        ("digest_mismatches", differed),
    ]
    .map(|(name, count)| (name.to_string(), count))
    .into()
}

/// What a node declares about a group.
pub(super) fn declared(declared: &DeclaredStatus) -> shown::Declared {
    let DeclaredStatus { by, age, said, fitness, agrees_on_policy } = declared;
    let Advertise { service, addresses, protocol, application, macs, limits, digest, .. } = said;
    let port = |(first, last): &(u16, u16)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    shown::Declared {
        node: by.node.0,
        incarnation: by.incarnation.to_string(),
        age_us: age.micros(),
        service: service.clone(),
        owner: said.epoch.0.gt(&0).then_some(said.owner.node.0),
        epoch: said.epoch.0,
        home: said.home.0,
        order: said.order.iter().map(|node| node.0).collect(),
        failback: match said.failback {
            advertise::Failback::Manual => "manual",
            advertise::Failback::All => "all",
            advertise::Failback::NewConnections => "new-connections",
        }
        .into(),
        on_peer_loss: match said.on_peer_loss {
            advertise::OnPeerLoss::Serve => "serve",
            advertise::OnPeerLoss::Stop => "stop",
        }
        .into(),
        addresses: addresses.iter().map(ToString::to_string).collect(),
        ports: said.ports.iter().map(port).collect(),
        protocol: if *protocol == 6 { "tcp".into() } else { protocol.to_string() },
        application: application.clone(),
        arp: match said.arp {
            advertise::ArpPolicy::Gratuitous => "gratuitous",
            advertise::ArpPolicy::VirtualMac => "virtual-mac",
            advertise::ArpPolicy::None => "none",
        }
        .into(),
        macs: macs.iter().map(|mac| Mac(*mac).to_string()).collect(),
        limits: limits.named().map(|(name, limit)| (name.into(), limit.into())).into(),
        digest: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        behaviour: said.behaviour,
        unfit: match fitness {
            Fitness::Unfit(why) => Some(orders::unfit_text(*why)),
            Fitness::Fit | Fitness::Undeclared => None,
        },
        agrees_on_policy: *agrees_on_policy,
    }
}

/// Another host claims one of the group's addresses.
pub(super) fn conflict(now: Instant, conflict: Conflict) -> shown::Conflict {
    let Conflict { address, mac, at, count } = conflict;
    let (address, mac) = (address::to_ip(&address).to_string(), Mac(mac).to_string());
    shown::Conflict { address, mac, count, age_us: now.since(at).micros() }
}

/// How a node reaches its clients.
pub(super) fn path(path: &PathStatus) -> shown::ClientPath {
    let health = path.health;
    shown::ClientPath {
        carrier: health.carrier,
        next_hops: health.hops,
        answering: health.answering,
        silent_ms: (health.silent_ms < u32::MAX).then_some(health.silent_ms.into()),
        dips: path.dips,
    }
}

pub(super) fn timers(configured: &Timers, effective: &Timers) -> Vec<shown::TimerStatus> {
    let value = |timers: &Timers| {
        [
            ("heartbeat", timers.heartbeat),
            ("lease", timers.lease),
            ("promise", timers.promise(timers.lease)),
            ("stuck_core", timers.stuck),
            ("peer_silent", timers.peer_silent),
            ("lease_alone", timers.alone_lease),
        ]
    };
    let pairs = value(configured).into_iter().zip(value(effective));
    pairs
        .map(|((name, configured), (_, effective))| shown::TimerStatus {
            name: name.into(),
            configured_us: configured.micros(),
            effective_us: effective.micros(),
        })
        .collect()
}
