//! Compares the sections of a configuration with each other, and the files of several nodes.
//!
//! Every rule looks only at values that were read without an error, so that one mistake is one
//! message. Rules that a node cannot live without are errors; what merely leaves a service less safe
//! than the operator may think is a warning.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use cluster::id::NodeId;
use cluster::message::advertise;
use stack::time::Duration;

use super::diagnostic::{Diagnostic, Kind};
use super::reader::Reader;
use super::types::*;
use super::value::duration_text;

/// Port ranges of one address over all services: what an entry of the steering map holds.
const RANGES_PER_ADDRESS_MAX: usize = advertise::RANGES_MAX;

/// Every rule over more than one value.
pub fn check(reader: &mut Reader, config: &Config) {
    nodes(reader, config);
    this_node(reader, config);
    arbiter(reader, config);
    interfaces(reader, config);
    services(reader, config);
    overlaps(reader, config);
    sources(reader, config);
}

/// `[cluster.timers]` in itself, at `path`.
pub fn timers(reader: &mut Reader, path: &str, timers: &Timers) {
    let mut longer = |key: &str, value: Duration, than: Duration, why: &str| {
        if value < than {
            let (value, than) = (duration_text(value), duration_text(than));
            let message = format!("`{key}` is {value}; it must be at least {than}: {why}");
            reader.reject(&format!("{path}.{key}"), Kind::Inconsistent, message);
        }
    };
    let why = "three heartbeats, so that one or two may be lost";
    longer("lease", timers.lease, Duration(timers.heartbeat.0.saturating_mul(3)), why);
    let promise = timers.values().promise(timers.lease);
    let why = "what the peer promises, within which it would have taken over";
    longer("peer_silent", timers.peer_silent, promise, why);
    let why = "the lease, which may only stretch";
    longer("adaptive_cap", timers.adaptive_cap, timers.lease, why);
    let why = "the lease under a peer";
    longer("lease_alone", timers.lease_alone, timers.lease, why);
}

fn nodes(reader: &mut Reader, config: &Config) {
    let nodes = &config.cluster.nodes;
    let path = |i: usize, key: &str| format!("cluster.nodes[{i}].{key}");
    if nodes.is_empty() && reader.written("cluster.nodes") && reader.good("cluster.nodes") {
        reader.reject("cluster.nodes", Kind::OutOfRange, "the cluster has no node");
    }
    for (i, node) in nodes.iter().enumerate() {
        let same_id = nodes[..i].iter().position(|other| other.id == node.id);
        if let Some(first) = same_id.filter(|_| reader.good(&path(i, "id"))) {
            let message = format!("node {} is listed twice", node.id);
            twice(reader, message, &path(i, "id"), &path(first, "id"));
        }
        let same_address = nodes[..i].iter().position(|other| other.address == node.address);
        if let Some(first) = same_address.filter(|_| reader.good(&path(i, "address"))) {
            let message = format!("{} is the address of two nodes", node.address);
            twice(reader, message, &path(i, "address"), &path(first, "address"));
        }
        if reader.good(&path(i, "address")) && !is_host(node.address) {
            let message = format!("{} cannot be the address of a node", node.address);
            reader.reject(&path(i, "address"), Kind::BadValue, message);
        }
    }
}

fn twice(reader: &mut Reader, message: String, second: &str, first: &str) {
    let error = Diagnostic::error(Kind::Duplicate, reader.place(second), message);
    reader.push(error.related(reader.place(first), "first here"));
}

/// Whether one machine can have the address.
fn is_host(address: Ipv4Addr) -> bool {
    !(address.is_unspecified()
        || address.is_loopback()
        || address.is_multicast()
        || address.is_broadcast())
}

fn this_node(reader: &mut Reader, config: &Config) {
    let cluster = &config.cluster;
    if cluster.agent_port == cluster.data_port {
        let message = format!("`data_port` is {}, as is `agent_port`", cluster.data_port);
        let help = "the agent's port is the kernel's, the data port is not: choose another";
        let path = if reader.written("cluster.data_port") { "data_port" } else { "agent_port" };
        let path = format!("cluster.{path}");
        reader.reject_with_help(&path, Kind::Inconsistent, message, help);
    }
    if !reader.good("node.id") || !reader.good("cluster.nodes") || cluster.nodes.is_empty() {
        return;
    }
    let found = cluster.nodes.iter().position(|node| node.id == config.node.id);
    let Some(i) = found else {
        let message = format!("node {} is not in `[[cluster.nodes]]`", config.node.id);
        let help = format!("listed: {}; add this node or correct `id`", listed(config));
        return reader.reject_with_help("node.id", Kind::Inconsistent, message, &help);
    };
    let path = format!("cluster.nodes[{i}].address");
    let (own, entry) = (cluster.address, cluster.nodes[i].address);
    if own != entry && reader.good("cluster.address") && reader.good(&path) {
        let message = format!("this node's address is {own} here and {entry} in its list entry");
        let place = reader.place("cluster.address");
        let error = Diagnostic::error(Kind::Inconsistent, place, message);
        reader.push(error.related(reader.place(&path), format!("node {}", config.node.id)));
    }
}

/// "1, 2".
fn listed(config: &Config) -> String {
    let ids: Vec<String> = config.cluster.nodes.iter().map(|node| node.id.to_string()).collect();
    ids.join(", ")
}

fn arbiter(reader: &mut Reader, config: &Config) {
    let nodes = &config.cluster.nodes;
    let alone = matches!(config.cluster.arbiter, Arbiter::None { .. });
    if alone && nodes.len() > 2 && reader.good("cluster.arbiter") {
        let message = format!("{} nodes without an arbiter are not built yet", nodes.len());
        let help = "use `arbiter = \"witness\"`, or two nodes";
        reader.reject_with_help("cluster.arbiter", Kind::NotYet, message, help);
    }
    match config.cluster.arbiter {
        Arbiter::Witness { witness } => {
            let same = nodes.iter().find(|node| IpAddr::V4(node.address) == witness.ip());
            let Some(node) = same.filter(|_| reader.good("cluster.witness")) else { return };
            let message = format!("the witness runs on node {}", node.id);
            let place = reader.place("cluster.witness");
            let help = "when that machine dies the witness dies with it, and nobody may take over; \
                        run it on a third machine";
            reader.push(Diagnostic::warning(Kind::Risky, place, message).help(help));
        }
        Arbiter::None { survivor: Survivor::Node(id) } => {
            if nodes.iter().all(|node| node.id != id) && reader.good("cluster.survivor") {
                let message = format!("the survivor, node {id}, is not in `[[cluster.nodes]]`");
                let help = format!("listed: {}", listed(config));
                reader.reject_with_help("cluster.survivor", Kind::Inconsistent, message, &help);
            }
        }
        Arbiter::None { survivor: Survivor::Both } => {
            if nodes.len() > 1 && reader.good("cluster.survivor") {
                let place = reader.place("cluster.survivor");
                let message = "split-brain possible: nodes that lose each other both serve";
                let help = "name one survivor, or use `arbiter = \"witness\"`";
                reader.push(Diagnostic::warning(Kind::Risky, place, message).help(help));
            }
        }
    }
}

fn interfaces(reader: &mut Reader, config: &Config) {
    let (client, cluster) = (&config.interfaces.client, &config.interfaces.cluster);
    let good = reader.good("interfaces.client.name") && reader.good("interfaces.cluster.name");
    if good && !client.name.is_empty() && client.name == cluster.name {
        let message = format!("{:?} is both the client and the cluster interface", client.name);
        let place = reader.place("interfaces.cluster.name");
        let error = Diagnostic::error(Kind::Inconsistent, place, message);
        let error = error.related(reader.place("interfaces.client.name"), "the client interface");
        reader.push(error.help("clients' traffic must not delay the leases: use two interfaces"));
    }
    let cores = config.cores.pin.len();
    for (side, interface) in [("client", client), ("cluster", cluster)] {
        let queues = interface.queues.len();
        let good = reader.good("cores.pin") && reader.good(&format!("interfaces.{side}.queues"));
        if cores > queues && good {
            let message =
                format!("{cores} cores for {queues} {side} queue(s): some would have none");
            let help = format!(
                "list as many `queues` of the {side} interface as there are cores (`ethtool -l \
                 {}` shows how many it has)",
                interface.name
            );
            reader.reject_with_help("cores.pin", Kind::Inconsistent, message, &help);
        }
    }
}

fn services(reader: &mut Reader, config: &Config) {
    if config.services.is_empty() && reader.good("services") {
        let message = "no `[[services]]`: this node serves nothing";
        reader.push(Diagnostic::warning(Kind::Risky, None, message));
    }
    for (i, service) in config.services.iter().enumerate() {
        let path = |key: &str| format!("services[{i}].{key}");
        let named = |other: &Service| other.name == service.name;
        let first = config.services[..i].iter().position(named);
        if let Some(first) = first.filter(|_| reader.good(&path("name"))) {
            let message = format!("two services have the name {:?}", service.name);
            twice(reader, message, &path("name"), &format!("services[{first}].name"));
        }
        let shares_id = |other: &Service| other.id == service.id && other.name != service.name;
        if let Some(first) = config.services[..i].iter().position(shares_id) {
            ids_collide(reader, config, i, first);
        }
        order(reader, config, i, service);
        generations(reader, config, i, service);
        keep_alive(reader, i, service);
        virtual_mac(reader, config, i, service);
        for (a, address) in service.addresses.iter().enumerate() {
            virtual_address(reader, config, &path(&format!("addresses[{a}]")), *address);
        }
    }
}

/// Nodes know a service by 24 bits of its name's hash: two names of one file must differ in them.
fn ids_collide(reader: &mut Reader, config: &Config, i: usize, first: usize) {
    let names = [first, i].map(|n| &config.services[n].name);
    let message = format!(
        "services {:?} and {:?} have one id, {:06x}: nodes could not tell them apart",
        names[0], names[1], config.services[i].id
    );
    let place = |n: usize| reader.place(&format!("services[{n}].name"));
    let error = Diagnostic::error(Kind::Duplicate, place(i), message);
    let error = error.related(place(first), "the other one is here");
    reader.push(error.help("the id is a hash of the name: rename one"));
}

/// Where old connections stay behind, each service is two groups, and somebody must say which of them is the newest.
fn generations(reader: &mut Reader, config: &Config, i: usize, service: &Service) {
    let path = format!("services[{i}].failback");
    let is_wanted = service.failback == Failback::NewConnections;
    if !is_wanted || !reader.good(&path) || !reader.good("cluster.arbiter") {
        return;
    }
    if matches!(config.cluster.arbiter, Arbiter::None { .. }) {
        let message = "failback of new connections without an arbiter is not built yet".to_string();
        let help = "use `arbiter = \"witness\"`, or `failback = \"all\"`";
        reader.reject_with_help(&path, Kind::NotYet, message, help);
    } else if config.groups().len() > Config::SERVICES_MAX {
        let most = Config::SERVICES_MAX / 2;
        let message =
            format!("{} services; {most} at most with this failback", config.services.len());
        let help = "each service takes the place of two; use `failback = \"all\"`";
        reader.reject_with_help(&path, Kind::OutOfRange, message, help);
    }
}

/// A hardware address that belongs to the service: one that no machine has, and no other service.
fn virtual_mac(reader: &mut Reader, config: &Config, i: usize, service: &Service) {
    let path = |key: &str| format!("services[{i}].{key}");
    if !reader.good(&path("arp")) || !reader.good(&path("mac")) {
        return;
    }
    let help = "one of the block that is kept for this, \"00:00:5e:00:01:01\" for example, or a locally administered \
                one, \"02:00:00:00:00:01\" for example";
    let Some(mac) = service.mac else {
        if service.arp == ArpPolicy::VirtualMac {
            let message = "`arp = \"virtual-mac\"` needs the service's own `mac`".to_string();
            reader.reject_with_help(&path("arp"), Kind::MissingKey, message, help);
        }
        return;
    };
    if service.arp != ArpPolicy::VirtualMac {
        let message = "`mac` has a meaning only with `arp = \"virtual-mac\"`";
        return reader.reject(&path("mac"), Kind::Inconsistent, message);
    }
    // RFC 9568 7.3: the block of virtual routers. RFC 9542 2.1: bit 0 says group, bit 1 locally administered.
    let is_virtual = mac.0.starts_with(&[0, 0, 0x5e, 0, 1]) || mac.0[0] & 3 == 2;
    let is_group = mac.0[0] & 1 == 1;
    if is_group && service.snoop == Snoop::Off {
        let message = format!("{mac} is a group address, and nothing can be said from one");
        let help =
            "with `snoop = \"wire\"` nothing is: owner and peer both take what is sent to it";
        return reader.reject_with_help(&path("mac"), Kind::Inconsistent, message, help);
    }
    if !is_virtual && (mac.0[0] & 3 != 3) {
        let message = format!("{mac} may be the address of a machine, or of a group of others");
        return reader.reject_with_help(&path("mac"), Kind::BadValue, message, help);
    }
    let first = config.services[..i].iter().position(|other| other.mac == Some(mac));
    if let Some(first) = first {
        let message = format!("{mac} belongs to service {:?} already", config.services[first].name);
        twice(reader, message, &path("mac"), &format!("services[{first}].mac"));
    }
}

/// Keep-alive that would begin after the end of every idle connection.
fn keep_alive(reader: &mut Reader, i: usize, service: &Service) {
    let path = |key: &str| format!("services[{i}].{key}");
    let Some(KeepAlive { idle, .. }) = service.keep_alive else { return };
    let is_good = ["keep_alive", "keep_alive.idle", "idle_timeout"].map(path);
    if idle < service.idle_timeout || !is_good.iter().all(|path| reader.good(path)) {
        return;
    }
    let (idle, end) = (duration_text(idle), duration_text(service.idle_timeout));
    let message =
        format!("`keep_alive` begins after {idle}, `idle_timeout` ends the connection after {end}");
    let help = "write a shorter `idle`, or a longer `idle_timeout`";
    reader.reject_with_help(&path("keep_alive"), Kind::Inconsistent, message, help);
}

/// Home and peers are nodes of the cluster, each once.
fn order(reader: &mut Reader, config: &Config, i: usize, service: &Service) {
    let path = |key: &str| format!("services[{i}].{key}");
    let known = |id: NodeId| config.cluster.nodes.iter().any(|node| node.id == id);
    let nodes_known = reader.good("cluster.nodes") && !config.cluster.nodes.is_empty();
    let mut unknown = |key: &str, id: NodeId| {
        if nodes_known && !known(id) && reader.good(&path(key)) {
            let message = format!("node {id} is not in `[[cluster.nodes]]`");
            let help = format!("listed: {}", listed(config));
            reader.reject_with_help(&path(key), Kind::Inconsistent, message, &help);
        }
    };
    unknown("home", service.home);
    let places: Vec<String> = (0..service.peers.len()).map(|p| format!("peers[{p}]")).collect();
    for (place, id) in places.iter().zip(&service.peers) {
        unknown(place, *id);
    }
    for (p, id) in service.peers.iter().enumerate() {
        if !reader.good(&path(&places[p])) {
            continue;
        }
        if *id == service.home && reader.good(&path("home")) {
            let message = format!("node {id} cannot be the peer of its own service: it is `home`");
            reader.reject(&path(&places[p]), Kind::Inconsistent, message);
        } else if service.peers[..p].contains(id) {
            let message = format!("node {id} is listed twice in `peers`");
            reader.reject(&path(&places[p]), Kind::Duplicate, message);
        }
    }
    if service.peers.is_empty() && reader.good(&path("peers")) {
        let place = reader.place(&path("peers"));
        let message =
            format!("no other node can assume service {:?}: it is unprotected", service.name);
        let help = "name the nodes that hold its copies, `peers = [2]` for example";
        reader.push(Diagnostic::warning(Kind::Risky, place, message).help(help));
    }
}

fn virtual_address(reader: &mut Reader, config: &Config, path: &str, address: IpAddr) {
    let IpAddr::V4(v4) = address else { return };
    if !reader.good(path) {
        return;
    }
    if !is_host(v4) {
        let message = format!("{address} cannot be a service's address");
        return reader.reject(path, Kind::BadValue, message);
    }
    let own = config.cluster.nodes.iter().position(|node| node.address == v4);
    if let Some(node) = own {
        let message =
            format!("{address} is the cluster address of node {}", config.cluster.nodes[node].id);
        let related = reader.place(&format!("cluster.nodes[{node}].address"));
        let error = Diagnostic::error(Kind::Inconsistent, reader.place(path), message);
        let help = "a service's address moves between nodes and must not be configured on any";
        reader.push(error.related(related, "here").help(help));
    }
}

/// No two services have the same address: an address moves as one, and so must what is behind it. No
/// address has too many ranges.
fn overlaps(reader: &mut Reader, config: &Config) {
    for (i, service) in config.services.iter().enumerate() {
        for (a, address) in service.addresses.iter().enumerate() {
            let path = format!("services[{i}].addresses[{a}]");
            if !reader.good(&path) {
                continue;
            }
            let mut earlier = config.services[..i].iter().enumerate();
            if let Some((o, other)) = earlier.find(|(_, s)| s.addresses.contains(address)) {
                shared(reader, *address, &path, (o, other));
            }
            // Answers to what we open come to any port.
            let ranges = service.ports.len() + usize::from(service.sources().contains(address));
            if ranges > RANGES_PER_ADDRESS_MAX {
                let message =
                    format!("{address} has {ranges} port ranges; {RANGES_PER_ADDRESS_MAX} at most");
                let help = "join neighbouring ports to ranges, or use another address";
                reader.reject_with_help(&path, Kind::OutOfRange, message, help);
            }
        }
    }
}

/// An address from which servers are connected to moves with its service, so it is no other's.
fn sources(reader: &mut Reader, config: &Config) {
    for (i, service) in config.services.iter().enumerate() {
        for (a, address) in service.sources().iter().enumerate() {
            let path = format!("services[{i}].application.source[{a}]");
            if !reader.written(&path) {
                continue;
            }
            virtual_address(reader, config, &path, *address);
            let has_it =
                |s: &Service| s.addresses.contains(address) || s.sources().contains(address);
            let mut others = config.services.iter().enumerate().filter(|(o, _)| *o != i);
            if let Some((o, other)) = others.find(|(_, other)| has_it(other))
                && reader.good(&path)
            {
                shared(reader, *address, &path, (o, other));
            }
        }
    }
}

fn shared(reader: &mut Reader, address: IpAddr, path: &str, (o, other): (usize, &Service)) {
    let message = format!("{address} is already an address of service {:?}", other.name);
    let related = reader.place(&format!("services[{o}].addresses"));
    let error = Diagnostic::error(Kind::Overlap, reader.place(path), message);
    let help = "an address moves between nodes as one, so it belongs to one service: give this \
                service an address of its own";
    reader.push(error.related(related, "here").help(help));
}

/// The service without the place of its files, which may differ; their content is compared by the
/// running nodes.
fn placeless(service: &Service) -> Service {
    let mut service = service.clone();
    if let Application::Http { root: Some(root), .. } = &mut service.application {
        root.clear();
    }
    service
}

/// Where the configurations of two nodes of one cluster must be the same and are not: one sentence
/// each. The first of each pair is `a`'s.
pub fn agree(a: &Config, b: &Config) -> Vec<String> {
    let mut differences = Vec::new();
    let mut differ = |what: &str, same: bool| {
        if !same {
            let (a, b) = (a.node.id, b.node.id);
            differences.push(format!("nodes {a} and {b} disagree on {what}"));
        }
    };
    let (x, y) = (&a.cluster, &b.cluster);
    differ("the cluster's name", x.name == y.name);
    differ(
        "the ports of agent or data",
        (x.agent_port, x.data_port) == (y.agent_port, y.data_port),
    );
    differ("the secret", x.secret == y.secret);
    differ("whether datagrams are sealed", x.seal == y.seal);
    let shares_key = x.keys.is_empty() || x.keys.iter().any(|key| y.keys.contains(key));
    differ("every key of the cluster's datagrams", shares_key || x.seal != y.seal);
    differ("the arbiter", x.arbiter == y.arbiter);
    differ("the timers", x.timers == y.timers);
    differ("the list of nodes", x.nodes == y.nodes);
    differ("the flows held (limits.flows)", a.limits.flows == b.limits.flows);
    let names =
        |config: &Config| config.services.iter().map(|s| s.name.clone()).collect::<BTreeSet<_>>();
    differ("which services there are", names(a) == names(b));
    let other = |x: &Service| b.services.iter().find(|y| y.name == x.name);
    for (x, y) in a.services.iter().filter_map(|x| Some((x, other(x)?))) {
        differ(&format!("service {:?}", x.name), placeless(x) == placeless(y));
    }
    if a.node.id == b.node.id {
        differences.push(format!("two files are for node {}", a.node.id));
    }
    differences
}
