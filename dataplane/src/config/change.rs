//! What differs between the configuration that runs and a new one, and what of it can be changed while a node runs.
//!
//! Both are compared in the form in which they are written, value by value, so nothing that a file can say is overlooked: a key
//! that is not named in [`may_change`] cannot be changed at run time, and is refused by its name. Servers are
//! compared by name, so that one that goes does not make those behind it look changed.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use stack::sha256::Sha256;

use super::diagnostic::{Diagnostic, Kind};
use super::{Config, Loaded};

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
pub fn changes(old: &Config, file: &Loaded) -> Result<Vec<Change>, Vec<Diagnostic>> {
    let Some(new) = &file.config else { return Err(file.diagnostics.clone()) };
    let all = differences(old, new);
    // Two generations of each service, or one: that is settled when the node starts.
    let is_settled = |name: &str| name.ends_with("].failback") && old.groups() != new.groups();
    let refused = all.iter().filter(|c| !may_change(&c.name) || is_settled(&c.name));
    let refused: Vec<Diagnostic> = refused.map(|change| refusal(change, file)).collect();
    if refused.is_empty() { Ok(all) } else { Err(refused) }
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
    let help = "nothing was changed; restart the nodes with the new file, one after the other: the peer of each carries \
                its connections on";
    Diagnostic::error(Kind::NotNow, file.place(path), message).help(help)
}

/// Values by what they are of, each with its place in the file.
type Values = BTreeMap<String, (String, String)>;

/// Every value that differs.
fn differences(old: &Config, new: &Config) -> Vec<Change> {
    let (old, new) = (values(old), values(new));
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let change = |name: &String| {
        let (before, after) = (old.get(name), new.get(name));
        let path = after.or(before).map(|(path, _)| path.clone()).unwrap_or_default();
        let text = |value: Option<&(String, String)>| value.map(|(_, text)| text.clone());
        let change = Change { name: name.clone(), path, old: text(before), new: text(after) };
        (change.old != change.new).then_some(change)
    };
    let changes: Vec<Change> = names.into_iter().filter_map(change).collect();
    // With other services, what is inside of those that are new or gone says nothing more.
    let list = changes.iter().find(|change| change.name == "services").cloned();
    match list {
        Some(list) => {
            let others = changes.into_iter().filter(|change| !change.name.starts_with("services"));
            others.chain([list]).collect()
        }
        None => changes,
    }
}

fn values(config: &Config) -> Values {
    let mut values = Values::new();
    let tree = serde_json::to_value(config).expect("a configuration can be written");
    flatten(("", ""), &tree, &mut values);
    let mut names: Vec<&str> = config.services.iter().map(|s| s.name.as_str()).collect();
    names.sort_unstable();
    values.insert("services".into(), ("services".into(), names.join(", ")));
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
