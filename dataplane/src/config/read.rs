//! From the tree to values, section by section. What one section cannot know is left to `check`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use cluster::id::NodeId;
use cluster::limits::CORES_MAX;
use cluster::seal::{KEYS_MAX, Key};
use toml::de::DeTable;

use crate::sealing;

use super::diagnostic::{Diagnostic, Kind};
use super::reader::{Reader, Table};
use super::types::*;
use super::{check, service, value};
use crate::client_path::HOPS_MAX;

/// Bytes of a path to a Unix socket at most: `sun_path` less room for a temporary name.
const SOCKET_PATH_MAX: usize = 90;

/// TCP port of the metrics where none is written.
const METRICS_PORT: u16 = 7949;

/// Every section of the file, with placeholders where something is wrong.
pub fn config(reader: &mut Reader, tree: &DeTable<'_>, directory: &Path) -> Config {
    let mut root = Table::root(tree);
    let mut node = root.required_table(reader, "node", "[node]");
    let id = node_id(reader, &mut node, "id");
    node.finish(reader);
    let cluster = cluster(reader, &mut root, directory);
    let interfaces = interfaces(reader, &mut root);
    let cores = cores(reader, &mut root);
    let control = control(reader, &mut root, directory, id);
    let metrics = metrics(reader, &mut root);
    let log = log(reader, &mut root);
    let limits = limits(reader, &mut root);
    let mut services = service::services(reader, &mut root, directory);
    (0..).zip(&mut services).for_each(|(place, service)| service.place = place);
    root.finish(reader);
    let node = NodeConfig { id };
    let config =
        Config { node, cluster, interfaces, cores, control, metrics, log, limits, services };
    check::check(reader, &config);
    config
}

/// A required node id.
fn node_id(reader: &mut Reader, table: &mut Table<'_>, key: &'static str) -> NodeId {
    let id = table.integer(reader, key, 1..=u64::from(NodeId::MAX));
    let id = table.required(reader, key, id, &format!("{key} = 1"));
    NodeId(id.unwrap_or(0) as u8)
}

fn ipv4(text: &str) -> Result<Ipv4Addr, String> {
    text.parse().map_err(|_| format!("{text:?} is no IPv4 address, \"10.99.0.1\" for example"))
}

/// A required IPv4 address.
fn address(reader: &mut Reader, table: &mut Table<'_>) -> Ipv4Addr {
    let found = table.parsed(reader, "address", "an IPv4 address", ipv4);
    let found = table.required(reader, "address", found, "address = \"10.99.0.1\"");
    found.unwrap_or(Ipv4Addr::UNSPECIFIED)
}

fn cluster(reader: &mut Reader, root: &mut Table<'_>, directory: &Path) -> ClusterConfig {
    let defaults = ClusterConfig::default();
    let mut table = root.required_table(reader, "cluster", "[cluster]");
    let name = table.parsed(reader, "name", "a string", |text| value::name(text, 64));
    let name = table.required(reader, "name", name, "name = \"demo\"").unwrap_or_default();
    let address_ = address(reader, &mut table);
    let port = |reader: &mut Reader, table: &mut Table<'_>, key, default| {
        table.integer(reader, key, 1..=65535).map_or(default, |port| port as u16)
    };
    let agent_port = port(reader, &mut table, "agent_port", defaults.agent_port);
    let data_port = port(reader, &mut table, "data_port", defaults.data_port);
    let (secret_file, secret) = secret(reader, &mut table, directory);
    let (seal, key_files, keys) = keys(reader, &mut table, directory);
    let arbiter = arbiter(reader, &mut table);
    let timers = timers(reader, &mut table);
    let nodes = nodes(reader, &mut table);
    table.finish(reader);
    ClusterConfig {
        name,
        address: address_,
        agent_port,
        data_port,
        secret_file,
        secret,
        seal,
        key_files,
        keys,
        arbiter,
        timers,
        nodes,
    }
}

fn secret(reader: &mut Reader, table: &mut Table<'_>, directory: &Path) -> (PathBuf, Secret) {
    let key = "secret_file";
    let path = table.parsed(reader, key, "a path", |text| Ok(directory.join(text)));
    let Some(path) = table.required(reader, key, path, "secret_file = \"secret.key\"") else {
        return Default::default();
    };
    let secret = match std::fs::read(&path) {
        Ok(bytes) => value::secret(&String::from_utf8_lossy(&bytes)),
        Err(error) => Err(format!("cannot be read: {error}")),
    };
    match secret {
        Ok(secret) => {
            warn_of_permissions(reader, &table.path(key), &path);
            (path, Secret(secret))
        }
        Err(reason) => {
            let help = "every node needs the same file; `od -An -tx1 -N32 /dev/urandom | \
                        tr -d ' \\n' > secret.key` makes one";
            let message = format!("the secret file is of no use: {reason}");
            reader.reject_with_help(&table.path(key), Kind::Unreadable, message, help);
            (path, Secret::default())
        }
    }
}

fn warn_of_permissions(reader: &mut Reader, key: &str, path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(path).map_or(0, |data| data.permissions().mode());
    if mode & 0o077 != 0 {
        let message = format!("others may read the secret file: its mode is {:o}", mode & 0o777);
        let warning = Diagnostic::warning(Kind::Risky, reader.place(key), message);
        reader.push(warning.help("chmod 600 it"));
    }
}

fn keys(
    reader: &mut Reader,
    table: &mut Table<'_>,
    directory: &Path,
) -> (Seal, Vec<PathBuf>, Vec<Key>) {
    let words = [("noise", Seal::Noise), ("none", Seal::None)];
    let seal = table.choice(reader, "seal", &words).unwrap_or_default();
    let path = table.path("key_files");
    let list = table.value(reader, "key_files");
    let Some(list) = list else {
        if seal == Seal::Noise {
            let example = "key_files = [\"cluster.key\"]` (`understudy keygen cluster.key` makes one) or `seal = \"none\"";
            table.required(reader, "key_files", None::<()>, example);
        } else {
            warn_unsealed(reader, &table.path("seal"));
        }
        return (seal, Vec::new(), Vec::new());
    };
    if seal == Seal::None {
        let message = "`key_files` has no meaning with `seal = \"none\"`".to_string();
        reader.reject_with_help(&path, Kind::Inconsistent, message, "remove one of the two");
        return (seal, Vec::new(), Vec::new());
    }
    let (mut files, mut keys): (Vec<PathBuf>, Vec<Key>) = (Vec::new(), Vec::new());
    for (path, value) in reader.array(&path, list, "an array of paths").unwrap_or_default() {
        let file = reader.parsed(&path, value, "a path", |text| Ok(directory.join(text)));
        let Some(file) = file else { continue };
        match sealing::read_key(&file) {
            Ok(key) if keys.contains(&key) => {
                reader.reject(&path, Kind::Duplicate, format!("key {} is listed twice", key.id()));
            }
            Ok(key) => keys.push(key),
            Err(reason) => {
                let message = format!("the key file is of no use: {reason}");
                let help = "every node and the witness need the same one; `understudy keygen FILE` makes it";
                reader.reject_with_help(&path, Kind::Unreadable, message, help);
            }
        }
        files.push(file);
    }
    if !(1..=KEYS_MAX).contains(&files.len()) && reader.good(&path) {
        let message = format!("{} key files; there are one or two", files.len());
        reader.reject(&path, Kind::OutOfRange, message);
    }
    (seal, files, keys)
}

fn warn_unsealed(reader: &mut Reader, key: &str) {
    let message = "nothing is sealed: whoever reaches the cluster link can speak for every node";
    let warning = Diagnostic::warning(Kind::Risky, reader.place(key), message);
    reader
        .push(warning.help("`understudy keygen cluster.key` and `key_files = [\"cluster.key\"]`"));
}

fn arbiter(reader: &mut Reader, table: &mut Table<'_>) -> Arbiter {
    let words = [("witness", Some(true)), ("none", Some(false)), ("etcd", None)];
    let kind = table.choice(reader, "arbiter", &words);
    if kind == Some(None) {
        let message = "an etcd as arbiter is not built yet";
        let help = "use `arbiter = \"witness\"` and run `understudy witness` on a third machine";
        reader.reject_with_help("cluster.arbiter", Kind::NotYet, message.into(), help);
    }
    let kind = table.required(reader, "arbiter", kind, "arbiter = \"witness\"").flatten();
    let wanted = "an address with a port, \"10.99.0.9:7948\" for example";
    let witness = table.parsed(reader, "witness", wanted, |text| {
        text.parse::<SocketAddr>().map_err(|_| format!("{text:?} is not {wanted}"))
    });
    let survivor = survivor(reader, table);
    let unspecified = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let foreign = |reader: &mut Reader, key: &str, arbiter: &str| {
        let path = format!("cluster.{key}");
        if reader.written(&path) {
            let message = format!("`{key}` has no meaning with `arbiter = \"{arbiter}\"`");
            let help = "remove it, or change the arbiter";
            reader.reject_with_help(&path, Kind::Inconsistent, message, help);
        }
    };
    match kind {
        Some(true) => {
            let example = "witness = \"10.99.0.9:7948\"";
            let witness = table.required(reader, "witness", witness, example);
            foreign(reader, "survivor", "witness");
            Arbiter::Witness { witness: witness.unwrap_or(unspecified) }
        }
        Some(false) => {
            foreign(reader, "witness", "none");
            let example = "survivor = 1` (the node that goes on alone) or `survivor = \"both\"";
            let survivor = table.required(reader, "survivor", survivor, example);
            Arbiter::None { survivor: survivor.unwrap_or(Survivor::Both) }
        }
        None => Arbiter::Witness { witness: unspecified },
    }
}

fn survivor(reader: &mut Reader, table: &mut Table<'_>) -> Option<Survivor> {
    let value = table.value(reader, "survivor")?;
    let path = table.path("survivor");
    if value.is_integer() {
        let id = reader.integer(&path, value, 1..=u64::from(NodeId::MAX))?;
        return Some(Survivor::Node(NodeId(id as u8)));
    }
    reader.parsed(&path, value, "a node id or \"both\"", |text| match text {
        "both" => Ok(Survivor::Both),
        _ => Err(format!("{text:?} is neither a node id nor \"both\"")),
    })
}

const TIMER_SETS: [(&str, TimerSet); 3] =
    [("isolated", TimerSet::Isolated), ("bed", TimerSet::Bed), ("ci", TimerSet::Ci)];

fn timers(reader: &mut Reader, table: &mut Table<'_>) -> Timers {
    let path = table.path("timers");
    let is_name = table.value(reader, "timers").is_some_and(|value| value.is_string());
    if is_name {
        let set = table.choice(reader, "timers", &TIMER_SETS);
        return Timers::of(set.unwrap_or_default());
    }
    let mut table = table.table(reader, "timers");
    let set = table.choice(reader, "set", &TIMER_SETS).unwrap_or_default();
    let mut timers = Timers::of(set);
    let fields = [
        ("heartbeat", &mut timers.heartbeat),
        ("lease", &mut timers.lease),
        ("guard", &mut timers.guard),
        ("stuck_core", &mut timers.stuck_core),
        ("peer_silent", &mut timers.peer_silent),
        ("lease_alone", &mut timers.lease_alone),
        ("adaptive_cap", &mut timers.adaptive_cap),
    ];
    for (key, field) in fields {
        *field = service::span(reader, &mut table, key, "1ms", "1m").unwrap_or(*field);
    }
    let drift = table.integer(reader, "drift_ppm", 0..=100_000);
    timers.drift_ppm = drift.map_or(timers.drift_ppm, |drift| drift as u32);
    timers.adaptive = table.boolean(reader, "adaptive").unwrap_or(timers.adaptive);
    table.finish(reader);
    check::timers(reader, &path, &timers);
    timers
}

fn nodes(reader: &mut Reader, table: &mut Table<'_>) -> Vec<ClusterNode> {
    let tables = table.tables(reader, "nodes");
    let example = "[[cluster.nodes]]` for each node, with its `id` and `address";
    let tables = table.required(reader, "nodes", tables, example);
    let read = |mut table: Table<'_>| {
        let id = node_id(reader, &mut table, "id");
        let address = address(reader, &mut table);
        table.finish(reader);
        ClusterNode { id, address }
    };
    tables.unwrap_or_default().into_iter().map(read).collect()
}

fn interfaces(reader: &mut Reader, root: &mut Table<'_>) -> Interfaces {
    let mut table = root.required_table(reader, "interfaces", "[interfaces]");
    let client = interface(reader, &mut table, "client", "client = { name = \"eth0\" }");
    let cluster = interface(reader, &mut table, "cluster", "cluster = { name = \"eth1\" }");
    table.finish(reader);
    Interfaces { client, cluster }
}

fn interface(
    reader: &mut Reader,
    table: &mut Table<'_>,
    key: &'static str,
    example: &str,
) -> Interface {
    let mut table = table.required_table(reader, key, example);
    // IFNAMSIZ is 16 with the NUL.
    let name = table.parsed(reader, "name", "a string", |text| value::name(text, 15));
    let name = table.required(reader, "name", name, "name = \"eth0\"").unwrap_or_default();
    let queues = numbers(reader, &mut table, "queues", 1023).unwrap_or(vec![0]);
    let modes =
        [("auto", XdpMode::Auto), ("native", XdpMode::Native), ("generic", XdpMode::Generic)];
    let mode = table.choice(reader, "mode", &modes).unwrap_or_default();
    let copies =
        [("auto", CopyMode::Auto), ("zero-copy", CopyMode::ZeroCopy), ("copy", CopyMode::Copy)];
    let copy = table.choice(reader, "copy", &copies).unwrap_or_default();
    let (mut next_hops, mut segmentation) = (Vec::new(), None);
    if key == "client" {
        next_hops = self::next_hops(reader, &mut table);
        let choices = [("auto", Segmentation::Auto), ("never", Segmentation::Never)];
        segmentation = Some(table.choice(reader, "segmentation", &choices).unwrap_or_default());
    }
    table.finish(reader);
    Interface { name, queues, mode, copy, segmentation, next_hops }
}

/// Different IPv4 addresses, few enough to be asked all the time.
fn next_hops(reader: &mut Reader, table: &mut Table<'_>) -> Vec<Ipv4Addr> {
    let path = table.path("next_hops");
    let value = table.value(reader, "next_hops");
    let elements = value.and_then(|value| reader.array(&path, value, "an array of addresses"));
    let elements = elements.unwrap_or_default();
    if elements.len() > HOPS_MAX {
        let message = format!("{} next hops; at most {HOPS_MAX} are asked", elements.len());
        reader.reject(&path, Kind::OutOfRange, message);
    }
    let mut hops = Vec::new();
    for (path, value) in elements {
        let Some(hop) = reader.parsed(&path, value, "an IPv4 address", ipv4) else { continue };
        if hops.contains(&hop) {
            reader.reject(&path, Kind::Duplicate, format!("{hop} is listed twice"));
        }
        hops.push(hop);
    }
    hops
}

/// Different numbers in 0..=max, at least one.
fn numbers(
    reader: &mut Reader,
    table: &mut Table<'_>,
    key: &'static str,
    max: u64,
) -> Option<Vec<u16>> {
    let path = table.path(key);
    let value = table.value(reader, key)?;
    let mut numbers = Vec::new();
    for (path, value) in reader.array(&path, value, "an array of numbers")? {
        let Some(number) = reader.integer(&path, value, 0..=max) else { continue };
        if numbers.contains(&(number as u16)) {
            reader.reject(&path, Kind::Duplicate, format!("{number} is listed twice in `{key}`"));
        }
        numbers.push(number as u16);
    }
    if numbers.is_empty() && reader.good(&path) {
        reader.reject(&path, Kind::OutOfRange, format!("`{key}` must name at least one"));
    }
    Some(numbers)
}

fn cores(reader: &mut Reader, root: &mut Table<'_>) -> Cores {
    let mut table = root.table(reader, "cores");
    let pin = numbers(reader, &mut table, "pin", 4095).unwrap_or(vec![0]);
    let words = [("busy", Idle::Busy), ("adaptive", Idle::Adaptive)];
    let idle = table.choice(reader, "idle", &words).unwrap_or_default();
    let gather = service::span(reader, &mut table, "gather", "0s", "1ms");
    if pin.len() > usize::from(CORES_MAX) && reader.good("cores.pin") {
        let message = format!("{} poll cores: a node has at most {CORES_MAX}", pin.len());
        reader.reject("cores.pin", Kind::OutOfRange, message);
    }
    table.finish(reader);
    Cores { pin, idle, gather: gather.unwrap_or(Cores::default().gather) }
}

fn control(reader: &mut Reader, root: &mut Table<'_>, directory: &Path, id: NodeId) -> Control {
    let mut table = root.table(reader, "control");
    let socket = table.parsed(reader, "socket", "a path", |text| {
        let path = directory.join(text);
        match path.as_os_str().len() {
            _ if text.is_empty() => Err("a path cannot be empty".into()),
            0..=SOCKET_PATH_MAX => Ok(path),
            length => Err(format!("{length} bytes; a socket's path has at most {SOCKET_PATH_MAX}")),
        }
    });
    table.finish(reader);
    Control { socket: socket.unwrap_or_else(|| format!("/run/understudy/{id}.sock").into()) }
}

/// On if the section is written, be it empty.
fn metrics(reader: &mut Reader, root: &mut Table<'_>) -> Option<Metrics> {
    let mut table = root.table(reader, "metrics");
    let wanted = "an address with a port, \"127.0.0.1:7949\" for example";
    let listen = table.parsed(reader, "listen", wanted, |text| match text.parse::<SocketAddr>() {
        Ok(address) if address.port() != 0 => Ok(address),
        _ => Err(format!("{text:?} is not {wanted}")),
    });
    table.finish(reader);
    let listen = listen.unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, METRICS_PORT)));
    reader.written("metrics").then_some(Metrics { listen })
}

fn log(reader: &mut Reader, root: &mut Table<'_>) -> Log {
    let mut table = root.table(reader, "log");
    let targets = [("stderr", LogTarget::Stderr), ("journald", LogTarget::Journald)];
    let target = table.choice(reader, "target", &targets).unwrap_or_default();
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    let format = table.choice(reader, "format", &formats).unwrap_or_default();
    table.finish(reader);
    if target == LogTarget::Journald && format == LogFormat::Json {
        let message =
            "`format` has no meaning with `target = \"journald\"`: the journal has fields";
        let help = "remove it, or log to \"stderr\"";
        reader.reject_with_help("log.format", Kind::Inconsistent, message.into(), help);
    }
    Log { target, format }
}

fn limits(reader: &mut Reader, root: &mut Table<'_>) -> Limits {
    const GIB: u64 = 1 << 30;
    let mut table = root.table(reader, "limits");
    let mut limits = Limits::default();
    let counts = [
        ("flows", &mut limits.flows, 16..=1 << 24),
        ("active_flows", &mut limits.active_flows, 16..=1 << 24),
        ("uploads", &mut limits.uploads, 16..=1 << 24),
        ("chunks", &mut limits.chunks, 64..=1 << 24),
        ("pieces", &mut limits.pieces, 64..=1 << 26),
        ("segments", &mut limits.segments, 64..=1 << 26),
        ("frames", &mut limits.frames, 256..=1 << 20),
    ];
    for (key, field, range) in counts {
        *field = table.integer(reader, key, range).map_or(*field, |number| number as u32);
    }
    if !limits.frames.is_power_of_two() {
        let (frames, next) = (limits.frames, limits.frames.next_power_of_two());
        let message =
            format!("`frames` is {frames}; a ring has a power of two, {next} for example");
        reader.reject("limits.frames", Kind::BadValue, message);
    }
    let content = table.integer(reader, "content_bytes", 0..=1024 * GIB);
    limits.content_bytes = content.unwrap_or(limits.content_bytes);
    table.finish(reader);
    limits
}
