//! What the text says is what the status says, in a form that scrapers and their linters accept.

use super::*;
use crate::control::servers::{CheckStatus, EndedStatus};
use crate::control::status::{
    ClusterStatus, GuardianStatus, Lag, NodeStatus, PortStatus, TimerStatus,
};
use crate::metrics;
use crate::port::PortCounters;
use std::collections::BTreeSet;

/// A status in which every family has a sample, with a name that needs escaping.
fn status() -> Status {
    let count = |name: &str, count| BTreeMap::from([(name.to_string(), count)]);
    let mut phases = Histogram::default();
    [900, 30_000, 60_000_000].into_iter().for_each(|us| phases.record(us));
    let group = GroupStatus {
        service: "we\"b\\".into(),
        role: Role::Owner,
        epoch: 5,
        protection: Protection::Filling { copied: 3, total: 4 },
        flows: 4,
        flows_copied: 3,
        lag: Lag { ops: 7, bytes: 900 },
        lease_remaining_us: 12_500,
        takeover_phases: BTreeMap::from([("detect".into(), phases)]),
        counters: count("log_records", 11).into_iter().chain(count("log_bytes_sent", 99)).collect(),
        ..GroupStatus::default()
    };
    let core = CoreStatus {
        core: 1,
        progress: 1 << 40,
        busy_us: 2_500_000,
        flows: 4,
        drops: count("bad_checksum", 2),
        icmp: count("fragmentation_needed", 1),
        events: count("opened", 9),
        ..CoreStatus::default()
    };
    let peer = NodeStatus { node: 2, heartbeat_age_us: Some(2_000), ..NodeStatus::default() };
    let timer = TimerStatus { name: "lease".into(), configured_us: 20_000, effective_us: 25_000 };
    Status {
        node: 1,
        version: "0.1.0".into(),
        cluster: ClusterStatus {
            arbiter: "witness".into(),
            arbiter_answer_age_us: Some(500_000),
            sealing: count("opened", 3),
            agent: count("refused_peers", 2),
            nodes: vec![peer],
            ..ClusterStatus::default()
        },
        groups: vec![group],
        cores: vec![core],
        ports: vec![PortStatus::new("eth0", 0, "", &PortCounters::default())],
        timers: vec![timer],
        guardian: GuardianStatus { process: Some(7), restarts: 1 },
        path: crate::control::status::ClientPath { carrier: Some(true), ..Default::default() },
        ..Status::default()
    }
}

/// Two servers, one of which is checked.
fn servers() -> Servers {
    let server = |name: &str, state| ServerStatus {
        name: name.into(),
        state,
        weight: 2,
        connections: 3,
        opened: 40,
        failed: 1,
        sent_bytes: 500,
        received_bytes: 6000,
        ..ServerStatus::default()
    };
    let check = CheckStatus { is_up: Some(false), passed: 7, failed: 5, ..CheckStatus::default() };
    let checked = ServerStatus { check: Some(check), ..server("b", ServerState::Down) };
    let servers = vec![server("a", ServerState::Up), checked];
    let reset = EndedStatus { by: "client".into(), how: "reset".into(), connections: 2 };
    let service = ServiceServers {
        service: "shop".into(),
        queued: 6,
        clients: 80,
        received_bytes: 1000,
        sent_bytes: 12_000,
        ended: vec![reset],
        servers,
        ..ServiceServers::default()
    };
    Servers { node: 1, services: vec![service] }
}

fn text(status: &Status) -> String {
    metrics::text(status, &servers())
}

/// A family as the text shows it: help, type, and each line's name, labels and value.
#[derive(Default)]
struct Read {
    help: String,
    kind: String,
    samples: Vec<(String, BTreeMap<String, String>, f64)>,
}

/// Reads the text format, by its specification and not by our encoder.
fn read(text: &str) -> BTreeMap<String, Read> {
    assert!(text.ends_with('\n'), "the last line ends");
    let mut families: BTreeMap<String, Read> = BTreeMap::new();
    let mut present = String::new();
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            let [what, name, rest] = [(); 3].map(|()| words.next().expect("three words"));
            present = name.to_string();
            let family = families.entry(present.clone()).or_default();
            let field = if what == "HELP" { &mut family.help } else { &mut family.kind };
            assert!(field.is_empty(), "{name} has one {what}");
            *field = rest.to_string();
            continue;
        }
        let (name, labels, value) = sample(line);
        assert!(name.starts_with(&present), "{line} stands below {present}");
        families.get_mut(&present).expect("a head").samples.push((name, labels, value));
    }
    families
}

fn sample(line: &str) -> (String, BTreeMap<String, String>, f64) {
    let end = line.find(['{', ' ']).expect("a name");
    let (name, mut rest) = line.split_at(end);
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while let Some((label, after)) = rest.split_once("=\"") {
            let mut value = String::new();
            let mut letters = after.char_indices();
            let closed = loop {
                match letters.next().expect("a closing quote") {
                    (at, '"') => break at,
                    (_, '\\') => match letters.next().expect("an escaped letter").1 {
                        'n' => value.push('\n'),
                        other => value.push(other),
                    },
                    (_, other) => value.push(other),
                }
            };
            let label = label.trim_start_matches(',').to_string();
            assert!(labels.insert(label, value).is_none(), "{line}: a label twice");
            rest = &after[closed + 1..];
            if rest.starts_with('}') {
                break;
            }
        }
        rest = rest.strip_prefix('}').expect("a closing brace");
    }
    let value = match rest.trim() {
        "+Inf" => f64::INFINITY,
        number => number.parse().expect("a number"),
    };
    (name.to_string(), labels, value)
}

fn value(families: &BTreeMap<String, Read>, name: &str, wanted: &[(&str, &str)]) -> f64 {
    let is_it = |labels: &BTreeMap<String, String>| {
        wanted.iter().all(|(label, value)| labels.get(*label).is_some_and(|v| v == value))
    };
    let all = families.values().flat_map(|family| &family.samples);
    let found: Vec<_> = all.filter(|(n, labels, _)| n == name && is_it(labels)).collect();
    assert_eq!(found.len(), 1, "{name} {wanted:?}: {found:?}");
    found[0].2
}

#[test]
fn the_text_says_what_the_status_says() {
    let families = read(&text(&status()));
    let service = ("service", "we\"b\\");
    let value = |name: &str, labels: &[(&str, &str)]| value(&families, name, labels);
    assert_eq!(value("understudy_build_info", &[("node", "1"), ("version", "0.1.0")]), 1.0);
    assert_eq!(value("understudy_service_role", &[service, ("role", "owner")]), 1.0);
    assert_eq!(value("understudy_service_role", &[service, ("role", "peer")]), 0.0);
    assert_eq!(value("understudy_service_protection", &[service, ("state", "filling")]), 1.0);
    assert_eq!(value("understudy_service_protection", &[service, ("state", "protected")]), 0.0);
    assert_eq!(value("understudy_service_flows", &[service]), 4.0);
    assert_eq!(value("understudy_service_flows_copied", &[service]), 3.0);
    assert_eq!(value("understudy_service_lag_records", &[service]), 7.0);
    assert_eq!(value("understudy_service_lease_remaining_seconds", &[service]), 0.0125);
    assert_eq!(value("understudy_service_log_sent_bytes_total", &[service]), 99.0);
    let records = [service, ("event", "log_records")];
    assert_eq!(value("understudy_service_mirror_events_total", &records), 11.0);
    assert_eq!(value("understudy_core_busy_seconds_total", &[("core", "1")]), 2.5);
    assert_eq!(value("understudy_core_rounds_total", &[("core", "1")]), (1u64 << 40) as f64);
    let drops = [("core", "1"), ("reason", "bad_checksum")];
    assert_eq!(value("understudy_core_drops_total", &drops), 2.0);
    assert_eq!(value("understudy_cluster_arbiter_answer_age_seconds", &[]), 0.5);
    let ring = [("interface", "eth0"), ("queue", "0"), ("event", "fill_ring_empty")];
    assert_eq!(value("understudy_port_ring_events_total", &ring), 0.0);
    let lease = [("timer", "lease"), ("value", "effective")];
    assert_eq!(value("understudy_node_timer_seconds", &lease), 0.025);
    let phase = [service, ("phase", "detect")];
    let name = "understudy_service_takeover_phase_seconds";
    let bucket = |bound| value(&format!("{name}_bucket"), &[phase[0], phase[1], ("le", bound)]);
    assert_eq!(["0.001", "0.025", "0.05", "10", "+Inf"].map(bucket), [1.0, 1.0, 2.0, 2.0, 3.0]);
    assert_eq!(value(&format!("{name}_count"), &phase), 3.0);
    assert_eq!(value(&format!("{name}_sum"), &phase), 60.0309);
}

#[test]
fn the_servers_are_shown_each_with_its_state() {
    let families = read(&text(&status()));
    let of = |name: &str, server: &str, more: &[(&str, &str)]| {
        let labels = [&[("service", "shop"), ("server", server)], more].concat();
        value(&families, &format!("understudy_server_{name}"), &labels)
    };
    assert_eq!(
        [of("state", "a", &[("state", "up")]), of("state", "a", &[("state", "down")])],
        [1.0, 0.0]
    );
    assert_eq!(
        [of("state", "b", &[("state", "up")]), of("state", "b", &[("state", "down")])],
        [0.0, 1.0]
    );
    assert_eq!([of("connections", "a", &[]), of("weight", "b", &[])], [3.0, 2.0]);
    assert_eq!([of("opened_total", "a", &[]), of("failed_total", "b", &[])], [40.0, 1.0]);
    assert_eq!([of("check_up", "b", &[]), of("checks_passed_total", "b", &[])], [0.0, 7.0]);
    assert_eq!(of("checks_failed_total", "b", &[]), 5.0);
    assert_eq!(
        [of("sent_bytes_total", "a", &[]), of("received_bytes_total", "b", &[])],
        [500.0, 6000.0]
    );
    let of = |name: &str, more: &[(&str, &str)]| {
        let labels = [&[("service", "shop")], more].concat();
        value(&families, &format!("understudy_service_{name}"), &labels)
    };
    assert_eq!([of("queued", &[]), of("clients_total", &[])], [6.0, 80.0]);
    assert_eq!([of("received_bytes_total", &[]), of("sent_bytes_total", &[])], [1000.0, 12_000.0]);
    assert_eq!(of("ended_total", &[("by", "client"), ("how", "reset")]), 2.0);
    assert!(families["understudy_server_check_up"].samples.len() == 1, "the other is not checked");
}

#[test]
fn an_empty_status_is_a_valid_text() {
    let families = read(&metrics::text(&Status::default(), &Servers::default()));
    assert_eq!(value(&families, "understudy_node_draining", &[]), 0.0);
    assert!(!families.contains_key("understudy_service_flows"));
}

/// The rules of `promtool check metrics`, which a build machine need not have.
#[test]
fn names_help_and_types_are_what_linters_ask_for() {
    let families = read(&text(&status()));
    assert!(families.len() > 40, "{} families", families.len());
    for (name, family) in &families {
        let words: Vec<&str> = name.split('_').collect();
        let is_plain = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '_');
        assert!(name.chars().all(is_plain), "{name}: lower case, no colon");
        assert!(family.help.ends_with('.'), "{name}: a sentence explains it");
        assert_eq!(words.last() == Some(&"total"), family.kind == "counter", "{name}");
        for word in ["gauge", "counter", "histogram", "count", "sum", "bucket"] {
            assert!(!words.contains(&word), "{name}: {word} is said by its type");
        }
        for unit in ["ms", "us", "ns", "s", "sec", "milliseconds", "microseconds", "kb", "mb"] {
            assert!(!words.contains(&unit), "{name}: base units, written out");
        }
        let mut seen = BTreeSet::new();
        for (line, labels, value) in &family.samples {
            assert!(value.is_finite(), "{line}");
            assert!(seen.insert((line, labels)), "{line} {labels:?} twice");
            let suffix = line.strip_prefix(name.as_str()).expect("the family's name");
            let parts: &[&str] =
                if family.kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
            assert!(parts.contains(&suffix), "{line} belongs to no {}", family.kind);
            assert_eq!(labels.contains_key("le"), suffix == "_bucket", "{line}");
            assert!(!labels.contains_key("quantile"), "{line}: reserved");
        }
    }
}
