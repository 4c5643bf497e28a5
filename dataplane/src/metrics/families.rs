//! The status as metric families: node, cluster, service, server, core, port.
//!
//! Names follow Prometheus' conventions (base units, `_total` on what only grows) under the prefix `understudy_`. What
//! the status keeps by name (drops, events, ring counters) becomes a label, so that a new one needs no new family.

use crate::control::servers::{ServerState, ServerStatus, Servers, ServiceServers};
use crate::control::status::{
    CoreStatus, GroupStatus, Histogram, PHASE_BOUNDS_US, PortStatus, Protection, Role, Status,
    SteeringStatus,
};
use prometheus::proto::{self, LabelPair, Metric, MetricFamily, MetricType};
use std::collections::BTreeMap;

/// One sample: labels and value.
type Sample = (Vec<(&'static str, String)>, f64);

/// Every family that has a sample.
pub fn families(status: &Status, servers: &Servers) -> Vec<MetricFamily> {
    let mut families = Families::default();
    node(&mut families, status);
    cluster(&mut families, status);
    services(&mut families, &status.groups);
    self::servers(&mut families, &servers.services);
    cores(&mut families, &status.cores);
    ports(&mut families, &status.ports);
    steering(&mut families, &status.steering);
    families.0
}

#[derive(Default)]
struct Families(Vec<MetricFamily>);

impl Families {
    /// What goes up and down.
    fn gauge(&mut self, name: &str, help: &str, samples: impl IntoIterator<Item = Sample>) {
        let metric = |(labels, value): Sample| {
            let (mut metric, mut gauge) = (labelled(labels), proto::Gauge::default());
            gauge.set_value(value);
            metric.set_gauge(gauge);
            metric
        };
        self.push(name, help, MetricType::GAUGE, samples.into_iter().map(metric).collect());
    }

    /// What only grows while the process lives. The name ends in `_total`.
    fn counter(&mut self, name: &str, help: &str, samples: impl IntoIterator<Item = Sample>) {
        let metric = |(labels, value): Sample| {
            let (mut metric, mut counter) = (labelled(labels), proto::Counter::default());
            counter.set_value(value);
            metric.set_counter(counter);
            metric
        };
        self.push(name, help, MetricType::COUNTER, samples.into_iter().map(metric).collect());
    }

    fn push(&mut self, name: &str, help: &str, kind: MetricType, metrics: Vec<Metric>) {
        // A family without a sample is none.
        if metrics.is_empty() {
            return;
        }
        let mut family = MetricFamily::default();
        family.set_name(format!("understudy_{name}"));
        family.set_help(help.into());
        family.set_field_type(kind);
        family.set_metric(metrics);
        self.0.push(family);
    }
}

fn labelled(labels: Vec<(&'static str, String)>) -> Metric {
    let pair = |(name, value): (&str, String)| {
        let mut pair = LabelPair::default();
        pair.set_name(name.into());
        pair.set_value(value);
        pair
    };
    Metric::from_label(labels.into_iter().map(pair).collect())
}

fn one(value: f64) -> [Sample; 1] {
    [(Vec::new(), value)]
}

/// A moment's length in the base unit.
fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

fn flag(is_so: bool) -> f64 {
    f64::from(u8::from(is_so))
}

/// A sample for each named counter, with what else is known of its place.
fn named<'a>(
    place: &'a [(&'static str, String)],
    label: &'static str,
    counters: &'a BTreeMap<String, u64>,
) -> impl Iterator<Item = Sample> + 'a {
    counters.iter().map(move |(name, count)| {
        let labels = place.iter().cloned().chain([(label, name.clone())]);
        (labels.collect(), *count as f64)
    })
}

fn node(families: &mut Families, status: &Status) {
    let labels = vec![("node", status.node.to_string()), ("version", status.version.clone())];
    families.gauge("build_info", "Node id and version of the program.", [(labels, 1.0)]);
    let uptime = one(seconds(status.uptime_us));
    families.gauge("node_uptime_seconds", "Time since the process started.", uptime);
    let draining = one(flag(status.draining));
    families.gauge("node_draining", "An operator wants this node to own nothing.", draining);
    let gap = one(seconds(status.largest_gap_us));
    let help = "Longest pause of the heartbeat thread in the last ten minutes.";
    families.gauge("node_heartbeat_gap_max_seconds", help, gap);
    let guardian = one(flag(status.guardian.process.is_some()));
    let help = "Whether a guardian process would tell of a crash at once.";
    families.gauge("node_guardian_running", help, guardian);
    let restarts = one(status.guardian.restarts as f64);
    let help = "Times that a guardian had to be started again.";
    families.counter("node_guardian_restarts_total", help, restarts);
    let dropped = one(status.log_dropped as f64);
    let help = "Records that the log has dropped because they came too fast.";
    families.counter("node_log_dropped_total", help, dropped);
    let timers = status.timers.iter().flat_map(|timer| {
        let place = |value: &str| vec![("timer", timer.name.clone()), ("value", value.into())];
        [
            (place("configured"), seconds(timer.configured_us)),
            (place("effective"), seconds(timer.effective_us)),
        ]
    });
    families.gauge("node_timer_seconds", "Timers, as configured and as in force.", timers);
    let path = &status.path;
    let carrier = path.carrier.map(|carrier| (Vec::new(), flag(carrier)));
    families.gauge("client_path_carrier", "Whether the client-side link is up.", carrier);
    let hops = one(path.next_hops.into());
    families.gauge("client_path_next_hops", "Next hops asked for a sign of life.", hops);
    let answering = one(path.answering.into());
    let help = "Next hops that have answered lately.";
    families.gauge("client_path_next_hops_answering", help, answering);
}

fn cluster(families: &mut Families, status: &Status) {
    let cluster = &status.cluster;
    let labels = vec![("kind", cluster.arbiter.clone())];
    families.gauge("cluster_arbiter_info", "Who keeps the registers.", [(labels, 1.0)]);
    let age = cluster.arbiter_answer_age_us.map(|age| (Vec::new(), seconds(age)));
    let help = "Time since the arbiter answered; absent if it never did or there is none.";
    families.gauge("cluster_arbiter_answer_age_seconds", help, age);
    let split = one(flag(cluster.split_brain_possible));
    let help = "Nodes that lose each other would both serve.";
    families.gauge("cluster_split_brain_possible", help, split);
    let sealed = one(flag(!cluster.keys.is_empty()));
    families.gauge("cluster_sealed", "Whether the cluster's datagrams are sealed.", sealed);
    let sealing = named(&[], "event", &cluster.sealing);
    let help = "What sealing has counted of what agents and the witness say.";
    families.counter("cluster_sealing_events_total", help, sealing);
    let agent = named(&[], "event", &cluster.agent);
    let help = "What the agent has counted: datagrams, leases granted, nodes refused as peer.";
    families.counter("cluster_agent_events_total", help, agent);
    let ages = cluster.nodes.iter().filter_map(|node| {
        Some((vec![("peer_node", node.node.to_string())], seconds(node.heartbeat_age_us?)))
    });
    let help = "Time since another node's last heartbeat; absent if it was never heard.";
    families.gauge("cluster_node_heartbeat_age_seconds", help, ages);
    let draining = cluster
        .nodes
        .iter()
        .map(|node| (vec![("peer_node", node.node.to_string())], flag(node.draining)));
    families.gauge("cluster_node_draining", "Another node is to own nothing.", draining);
}

/// What tells a group from all others: its service and, of two generations of that, which one, if it is the second.
fn name(group: &GroupStatus) -> Vec<(&'static str, String)> {
    let generation = Some(group.generation).filter(|generation| *generation > 0);
    let generation = generation.map(|generation| ("generation", generation.to_string()));
    [("service", group.service.clone())].into_iter().chain(generation).collect()
}

/// One sample for each service.
fn each<'a>(
    groups: &'a [GroupStatus],
    value: impl Fn(&GroupStatus) -> f64 + 'a,
) -> impl Iterator<Item = Sample> + 'a {
    groups.iter().map(move |group| (name(group), value(group)))
}

fn services(families: &mut Families, groups: &[GroupStatus]) {
    let states = |pairs: Vec<(String, bool)>, group: &GroupStatus, label: &'static str| {
        let sample = |(state, is_it): (String, bool)| {
            (name(group).into_iter().chain([(label, state)]).collect::<Vec<_>>(), flag(is_it))
        };
        pairs.into_iter().map(sample).collect::<Vec<_>>()
    };
    let roles = groups.iter().flat_map(|group| {
        let all = [Role::Owner, Role::Peer, Role::None];
        let pairs = all.map(|role| (role.to_string(), role == group.role));
        states(pairs.into(), group, "role")
    });
    families.gauge("service_role", "What this node is for the service: one of them is 1.", roles);
    let protections = groups.iter().flat_map(|group| {
        let pairs = protections(&group.protection);
        states(pairs, group, "state")
    });
    let help = "What a failure of the owner now would cost: one of them is 1.";
    families.gauge("service_protection", help, protections);
    let help = "Version of the register, as this node knows it.";
    families.gauge("service_epoch", help, each(groups, |group| group.epoch as f64));
    let help = "Flows of the service on this node: connections, and each side of those that are passed on.";
    families.gauge("service_flows", help, each(groups, |group| group.flows as f64));
    let help = "Flows whose copy is complete.";
    families.gauge("service_flows_copied", help, each(groups, |group| group.flows_copied as f64));
    let help = "Records that the peer has not acknowledged.";
    families.gauge("service_lag_records", help, each(groups, |group| group.lag.ops as f64));
    let help = "Bytes of records that the peer has not acknowledged.";
    families.gauge("service_lag_bytes", help, each(groups, |group| group.lag.bytes as f64));
    let help = "How long this node may still transmit for the service.";
    let lease = each(groups, |group| seconds(group.lease_remaining_us));
    families.gauge("service_lease_remaining_seconds", help, lease);
    let home_ready = each(groups, |group| flag(group.home_ready));
    families.gauge("service_home_ready", "Home waits for an operator's handover.", home_ready);
    let bytes = |group: &GroupStatus| group.counters.get("log_bytes_sent").copied();
    let sent = each(groups, move |group| bytes(group).unwrap_or(0) as f64);
    families.counter("service_log_sent_bytes_total", "Bytes mirrored to the peer.", sent);
    let mut events = Vec::new();
    for group in groups {
        let counters = group.counters.iter().filter(|(name, _)| *name != "log_bytes_sent");
        let counters = counters.map(|(name, count)| (name.clone(), *count)).collect();
        events.extend(named(&name(group), "event", &counters));
    }
    let help = "What mirroring has counted: records, datagrams, repetitions, lost copies, digests.";
    families.counter("service_mirror_events_total", help, events);
    takeovers(families, groups);
}

/// Every state, and whether it is the present one.
fn protections(present: &Protection) -> Vec<(String, bool)> {
    let is_filling = matches!(present, Protection::Filling { .. });
    let plain = [
        Protection::Protected,
        Protection::UnprotectedNoPeer,
        Protection::UnprotectedNoArbiter,
        Protection::NotServed,
        Protection::Unknown,
    ];
    let pairs = plain.into_iter().map(|state| (state.to_string(), state == *present));
    pairs.chain([("filling".into(), is_filling)]).collect()
}

fn takeovers(families: &mut Families, groups: &[GroupStatus]) {
    let mut metrics = Vec::new();
    for group in groups {
        for (phase, histogram) in &group.takeover_phases {
            let labels = name(group).into_iter().chain([("phase", phase.clone())]);
            let mut metric = labelled(labels.collect());
            metric.set_histogram(distribution(histogram));
            metrics.push(metric);
        }
    }
    let help = "How long each phase of this node's takeovers took.";
    families.push("service_takeover_phase_seconds", help, MetricType::HISTOGRAM, metrics);
}

fn distribution(histogram: &Histogram) -> proto::Histogram {
    let mut cumulative = 0;
    let bucket = |(bound, count): (&u64, &u64)| {
        cumulative += count;
        let mut bucket = proto::Bucket::default();
        bucket.set_upper_bound(seconds(*bound));
        bucket.set_cumulative_count(cumulative);
        bucket
    };
    let buckets = PHASE_BOUNDS_US.iter().zip(&histogram.buckets).map(bucket).collect();
    let mut distribution = proto::Histogram::default();
    distribution.set_bucket(buckets);
    distribution.set_sample_count(histogram.count);
    distribution.set_sample_sum(seconds(histogram.sum_us));
    distribution
}

/// One sample for each server that has the value.
fn each_server<'a>(
    services: &'a [ServiceServers],
    value: impl Fn(&ServerStatus) -> Option<f64> + 'a,
) -> impl Iterator<Item = Sample> + 'a {
    let all = services.iter().flat_map(|service| {
        service.servers.iter().map(move |server| (service.service.as_str(), server))
    });
    all.filter_map(move |(service, server)| {
        let labels = vec![("service", service.to_string()), ("server", server.name.clone())];
        Some((labels, value(server)?))
    })
}

/// What has come and gone through services that pass connections on.
fn clients(families: &mut Families, services: &[ServiceServers]) {
    let name = |service: &ServiceServers| vec![("service", service.service.clone())];
    let each = |value: fn(&ServiceServers) -> u64| {
        services.iter().map(move |service| (name(service), value(service) as f64))
    };
    let help = "Clients whose connection was opened, to be passed on.";
    families.counter("service_clients_total", help, each(|service| service.clients));
    let help = "Bytes that clients have said.";
    families.counter("service_received_bytes_total", help, each(|service| service.received_bytes));
    let help = "Bytes that servers have said to clients.";
    families.counter("service_sent_bytes_total", help, each(|service| service.sent_bytes));
    let ended = services.iter().flat_map(|service| {
        service.ended.iter().map(move |ended| {
            let how = [("by", ended.by.clone()), ("how", ended.how.clone())];
            (name(service).into_iter().chain(how).collect(), ended.connections as f64)
        })
    });
    let help = "Connections that are over, by who ended them and how.";
    families.counter("service_ended_total", help, ended);
}

fn servers(families: &mut Families, services: &[ServiceServers]) {
    let queued = services
        .iter()
        .map(|service| (vec![("service", service.service.clone())], service.queued as f64));
    families.gauge("service_queued", "Clients that wait for a server with room.", queued);
    self::clients(families, services);
    let all = [
        ServerState::Up,
        ServerState::Down,
        ServerState::Unreachable,
        ServerState::Drain,
        ServerState::Maint,
        ServerState::Retired,
    ];
    let states = all.into_iter().flat_map(|state| {
        each_server(services, move |server| Some(flag(server.state == state))).map(
            move |(mut labels, value)| {
                labels.push(("state", state.to_string().to_ascii_lowercase()));
                (labels, value)
            },
        )
    });
    let help = "Whether the server gets new connections, and why not: one of them is 1.";
    families.gauge("server_state", help, states);
    let connections = each_server(services, |server| Some(server.connections as f64));
    families.gauge("server_connections", "Connections to the server now.", connections);
    let weight = each_server(services, |server| Some(server.weight.into()));
    families.gauge("server_weight", "The server's share of the connections.", weight);
    let opened = each_server(services, |server| Some(server.opened as f64));
    families.counter("server_opened_total", "Connections opened to the server.", opened);
    let failed = each_server(services, |server| Some(server.failed as f64));
    let help = "Connections to the server that were refused or not answered.";
    families.counter("server_failed_total", help, failed);
    let sent = each_server(services, |server| Some(server.sent_bytes as f64));
    let help = "Bytes that clients have said to the server.";
    families.counter("server_sent_bytes_total", help, sent);
    let received = each_server(services, |server| Some(server.received_bytes as f64));
    let help = "Bytes that the server has said to clients.";
    families.counter("server_received_bytes_total", help, received);
    let help =
        "Whether this node's checks have found the server up; absent while that is not known.";
    let is_up = each_server(services, |server| Some(flag(server.check.as_ref()?.is_up?)));
    families.gauge("server_check_up", help, is_up);
    let passed = each_server(services, |server| Some(server.check.as_ref()?.passed as f64));
    families.counter("server_checks_passed_total", "Checks passed.", passed);
    let failed = each_server(services, |server| Some(server.check.as_ref()?.failed as f64));
    families.counter("server_checks_failed_total", "Checks failed.", failed);
}

fn cores(families: &mut Families, cores: &[CoreStatus]) {
    let place = |core: &CoreStatus| vec![("core", core.core.to_string())];
    let each = |value: fn(&CoreStatus) -> u64| {
        cores.iter().map(move |core| (place(core), value(core) as f64))
    };
    let rounds = each(|core| core.progress);
    families.counter("core_rounds_total", "Rounds of the poll loop.", rounds);
    let busy = cores.iter().map(|core| (place(core), seconds(core.busy_us)));
    let help = "Time of the rounds that moved a frame, system calls included.";
    families.counter("core_busy_seconds_total", help, busy);
    let sampled = cores.iter().map(|core| (place(core), seconds(core.sampled_us)));
    families.counter("core_sampled_seconds_total", "Time of every seventeenth round.", sampled);
    let cpu = cores.iter().map(|core| (place(core), seconds(core.sampled_cpu_us)));
    let help = "For how long of that the scheduler let the core run; others took its processor for the rest.";
    families.counter("core_sampled_cpu_seconds_total", help, cpu);
    let busy_rounds = each(|core| core.busy_rounds);
    families.counter("core_busy_rounds_total", "Rounds that moved a frame.", busy_rounds);
    let received = each(|core| core.segments_in);
    families.counter("core_frames_received_total", "Frames of the client side taken.", received);
    let help = "Of these, segments that continued the one before in a burst.";
    families.counter("core_frames_continued_total", help, each(|core| core.segments_continued));
    let sent = each(|core| core.segments_out);
    families.counter("core_frames_sent_total", "Frames of the client side made.", sent);
    let help = "Frames handed over to another core.";
    families.counter("core_frames_crossed_total", help, each(|core| core.crossed_out));
    let help = "Flows held, owned and copied.";
    families.gauge("core_flows", help, each(|core| core.flows));
    type Counters = fn(&CoreStatus) -> &BTreeMap<String, u64>;
    let all = |label: &'static str, counters: Counters| {
        let of = |core| named(&place(core), label, counters(core)).collect::<Vec<_>>();
        cores.iter().flat_map(of).collect::<Vec<_>>()
    };
    let drops = all("reason", |core| &core.drops);
    families.counter("core_drops_total", "Frames dropped, by reason.", drops);
    let icmp = all("kind", |core| &core.icmp);
    let help = "ICMP errors about segments in flight, by kind.";
    families.counter("core_icmp_errors_total", help, icmp);
    let help = "What became of connections, and what was asked of others.";
    families.counter("core_events_total", help, all("event", |core| &core.events));
}

fn ports(families: &mut Families, ports: &[PortStatus]) {
    const SHOWN: [(&str, &str, &str); 4] = [
        ("rx_frames", "port_received_frames_total", "Frames received."),
        ("rx_bytes", "port_received_bytes_total", "Bytes received."),
        ("tx_frames", "port_sent_frames_total", "Frames given to the kernel to send."),
        ("tx_bytes", "port_sent_bytes_total", "Bytes given to the kernel to send."),
    ];
    let place = |port: &PortStatus| {
        vec![("interface", port.interface.clone()), ("queue", port.queue.to_string())]
    };
    for (counter, name, help) in SHOWN {
        let sample = |port: &PortStatus| Some((place(port), *port.counters.get(counter)? as f64));
        families.counter(name, help, ports.iter().filter_map(sample));
    }
    let mut events = Vec::new();
    let mut rings = Vec::new();
    for port in ports {
        let others =
            port.counters.iter().filter(|(name, _)| SHOWN.iter().all(|(shown, ..)| shown != name));
        let others = others.map(|(name, count)| (name.clone(), *count)).collect();
        events.extend(named(&place(port), "event", &others));
        rings.extend(named(&place(port), "event", &port.rings));
    }
    let help = "What else a port has counted: kicks, frames withdrawn, discarded, dropped.";
    families.counter("port_events_total", help, events);
    let help = "The kernel's own counters of the AF_XDP rings.";
    families.counter("port_ring_events_total", help, rings);
}

fn steering(families: &mut Families, programs: &[SteeringStatus]) {
    let mut frames = Vec::new();
    for program in programs {
        let place = vec![("interface", program.interface.clone())];
        frames.extend(named(&place, "verdict", &program.frames));
    }
    let help = "What the XDP program has done with frames, by the rule that decided.";
    families.counter("steered_frames_total", help, frames);
}

#[cfg(test)]
mod tests;
