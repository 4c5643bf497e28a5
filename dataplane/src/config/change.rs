//! What differs between the configuration that runs and a new one, and what of it can be changed while a node runs.
//!
//! Both are compared in the form in which they are written, value by value, so nothing that a file can say is overlooked: a key
//! that is not named in [`may_change`] cannot be changed at run time, and is refused by its name. Servers are
//! compared by name, so that one that goes does not make those behind it look changed.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use stack::sha256::Sha256;

use super::diagnostic::{Diagnostic, Kind};
use super::{Config, Loaded, Service};

/// Changes shown of one reload at most.
const SHOWN_MAX: usize = 64;

/// One value that differs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// What: services and servers by their names, "services[web].idle_timeout".
    pub name: String,
    /// Where in the file: "services[1].idle_timeout".
    pub path: String,
    /// What it was; `None` if it was not there.
    pub old: Option<String>,
    /// What it is; `None` if it is not there any more.
    pub new: Option<String>,
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Change { name, old, new, .. } = self;
        match (old, new) {
            (Some(old), Some(new)) => write!(f, "{name}: {old} -> {new}"),
            (Some(old), None) => write!(f, "{name}: {old} -> none"),
            (None, new) => write!(f, "{name}: none -> {}", new.as_deref().unwrap_or("none")),
        }
    }
}

/// What changes from `old` to what the file says; or why it cannot, with every reason. A file with errors of its own
/// is not even compared.
///
/// `running` has the services that have left the file before and are not gone: one that comes back is compared with what it was.
pub fn changes(
    old: &Config,
    running: &Config,
    file: &Loaded,
) -> Result<Vec<Change>, Vec<Diagnostic>> {
    let Some(new) = &file.config else { return Err(file.diagnostics.clone()) };
    let mut known = old.clone();
    let leaving = running.services.iter().filter(|service| service.leaving.is_some());
    known.services.extend(leaving.filter(|service| !names(old, service)).cloned());
    let all = differences(old, &known, new);
    // Two generations of each service, or one: that is settled when the node starts.
    let is_settled = |name: &str| {
        let is_failback = name.ends_with("].failback") || name == "services";
        is_failback && running.generations() != new.generations()
    };
    let refused = all.iter().filter(|c| !may_change(&c.name) || is_settled(&c.name));
    let mut refused: Vec<Diagnostic> = refused.map(|change| refusal(change, file)).collect();
    refused.extend(collisions(&known, new, file));
    if refused.is_empty() { Ok(all) } else { Err(refused) }
}

/// Whether the configuration has a service of this name.
fn names(config: &Config, service: &Service) -> bool {
    config.services.iter().any(|known| known.name == service.name)
}

/// What comes must not have what belongs to a service that leaves: that may serve for as long as it has connections.
fn collisions(known: &Config, new: &Config, file: &Loaded) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for (i, service) in new.services.iter().enumerate().filter(|(_, s)| !names(known, s)) {
        let held = service.held_addresses();
        for other in known.services.iter().filter(|other| !names(new, other)) {
            let address = other.held_addresses().into_iter().find(|a| held.contains(a));
            let what = match address {
                _ if other.id == service.id => "its id, which is a hash of the name".to_string(),
                Some(address) => format!("{address}"),
                None if other.mac.is_some() && other.mac == service.mac => "its MAC address".into(),
                None => continue,
            };
            let (name, left) = (&service.name, &other.name);
            let message = format!(
                "`services[{name}]` cannot come yet: {what} belongs to {left:?}, which leaves"
            );
            let help = format!(
                "nothing was changed; {left} keeps what it has until its last connection has ended (`understudy flows \
                 service={left}`): take it from the file first, and reload again when `understudy status` does not show it"
            );
            let place = file.place(&format!("services[{i}].name"));
            found.push(Diagnostic::error(Kind::NotNow, place, message).help(help));
        }
    }
    found
}

/// The changes in words, one line each, as far as an answer has room.
pub fn in_words(changes: &[Change]) -> Vec<String> {
    let mut lines: Vec<String> = changes.iter().take(SHOWN_MAX).map(ToString::to_string).collect();
    if let Some(more @ 1..) = changes.len().checked_sub(SHOWN_MAX) {
        lines.push(format!("and {more} more"));
    }
    lines
}

/// Of a service, what a running node can take another value of.
const OF_SERVICES: [&str; 7] = [
    "idle_timeout",
    "keep_alive",
    "nodelay",
    "hop_limit",
    "failback",
    "failback_hold_down",
    "on_peer_loss",
];

/// The same of `application` with `type = "proxy"`.
const OF_PROXIES: [&str; 15] = [
    "log_connections",
    "balance",
    "attempts",
    "connect_timeout",
    "server_timeout",
    "half_closed_timeout",
    "gateway",
    "max_connections",
    "queue",
    "queue_timeout",
    "slow_start",
    "stick",
    "on_server_down",
    "check",
    "servers",
];

/// Whether a running node can take another value for this.
fn may_change(name: &str) -> bool {
    if name == "services" {
        return true;
    }
    let inside = name.strip_prefix("services[").and_then(|rest| rest.split_once("]."));
    let Some((_, key)) = inside else { return false };
    let (keys, key) = match key.strip_prefix("application.") {
        Some(key) => (&OF_PROXIES[..], key),
        None => (&OF_SERVICES[..], key),
    };
    keys.contains(&key.split(['.', '[']).next().unwrap_or(key))
}

fn refusal(change: &Change, file: &Loaded) -> Diagnostic {
    let Change { name, path, old, .. } = change;
    let was = old.as_ref().map(|old| format!(": it is {old}")).unwrap_or_default();
    let message = format!("`{name}` cannot be changed while the node runs{was}");
    let restart = "restart the nodes with the new file, one after the other: the peer of each carries its connections on";
    let help = match name.starts_with("services[") {
        true => format!(
            "nothing was changed; under another name and address the service comes as a new one; or {restart}"
        ),
        false => format!("nothing was changed; {restart}"),
    };
    Diagnostic::error(Kind::NotNow, file.place(path), message).help(help)
}

/// Values by what they are of, each with its place in the file.
type Values = BTreeMap<String, (String, String)>;

/// Every value that differs; what is inside of a service that comes or goes says nothing more.
fn differences(old: &Config, known: &Config, new: &Config) -> Vec<Change> {
    let stay: BTreeSet<&str> = (new.services.iter().filter(|service| names(known, service)))
        .map(|service| service.name.as_str())
        .collect();
    let is_told = |name: &str| {
        let inside = name.strip_prefix("services[").and_then(|rest| rest.split_once(']'));
        inside.is_none_or(|(service, _)| stay.contains(service))
    };
    let (mut before, mut after) = (values(known), values(new));
    before.insert("services".into(), service_names(old));
    after.insert("services".into(), service_names(new));
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let change = |name: &String| {
        let (before, after) = (before.get(name), after.get(name));
        let path = after.or(before).map(|(path, _)| path.clone()).unwrap_or_default();
        let text = |value: Option<&(String, String)>| value.map(|(_, text)| text.clone());
        let change = Change { name: name.clone(), path, old: text(before), new: text(after) };
        (change.old != change.new).then_some(change)
    };
    names.into_iter().filter(|name| is_told(name)).filter_map(change).collect()
}

/// Which services there are, whatever their order.
fn service_names(config: &Config) -> (String, String) {
    let mut names: Vec<&str> = config.services.iter().map(|s| s.name.as_str()).collect();
    names.sort_unstable();
    ("services".into(), names.join(", "))
}

fn values(config: &Config) -> Values {
    let mut values = Values::new();
    let tree = serde_json::to_value(config).expect("a configuration can be written");
    flatten(("", ""), &tree, &mut values);
    // What files hold is not written, and as much a part of the configuration.
    let digest = Sha256::digest(&config.cluster.secret.0);
    let secret =
        format!("a secret that begins with {:02x}{:02x} when hashed", digest[0], digest[1]);
    let keys: Vec<String> = config.cluster.keys.iter().map(|key| key.id().to_string()).collect();
    for (path, content) in [("cluster.secret_file", secret), ("cluster.key_files", keys.join(", "))]
    {
        values.insert(format!("{path}, its content"), (path.into(), content));
    }
    values
}

/// Puts every value below `tree` into `values`. A server is one value: it comes and goes as a whole.
fn flatten((name, path): (&str, &str), tree: &Value, values: &mut Values) {
    let dot = if name.is_empty() { "" } else { "." };
    match tree {
        Value::Object(entries) if !name.ends_with(']') || !name.contains(".servers[") => {
            for (key, value) in entries {
                let inner = (format!("{name}{dot}{key}"), format!("{path}{dot}{key}"));
                flatten((&inner.0, &inner.1), value, values);
            }
        }
        Value::Array(elements) if elements.iter().any(Value::is_object) => {
            for (n, element) in elements.iter().enumerate() {
                let known = element["name"].as_str().map(String::from);
                let inner =
                    (format!("{name}[{}]", known.unwrap_or(n.to_string())), format!("{path}[{n}]"));
                flatten((&inner.0, &inner.1), element, values);
            }
        }
        value => {
            values.insert(name.into(), (path.into(), value.to_string()));
        }
    }
}
