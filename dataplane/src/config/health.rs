//! Reads `check`, in `[services.application]` with `type = "proxy"`: how servers are asked whether they work.

use serde::{Serialize, Serializer};
use stack::time::Duration;

use super::diagnostic::Kind;
use super::reader::{Reader, Table};
use super::service::span;
use super::types::duration;

/// Shortest `fast_interval`.
const FAST_INTERVAL_MIN: Duration = Duration::from_millis(50);

/// `check`; `check = {}` takes every default.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Check {
    /// `type`: "tcp" (a connection is enough) or "http". Default "tcp".
    #[serde(flatten)]
    pub kind: CheckKind,
    /// `port`: where the servers are asked, if not at their own port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// `interval`: from the beginning of a check to that of the next. Default "2s".
    #[serde(serialize_with = "duration")]
    pub interval: Duration,
    /// `fast_interval`: the same while a server is about to change between up and down. Default: a quarter of `interval`,
    /// "50ms" at least.
    #[serde(serialize_with = "duration")]
    pub fast_interval: Duration,
    /// `timeout`: an answer that takes longer is none. Default "1s".
    #[serde(serialize_with = "duration")]
    pub timeout: Duration,
    /// `rise`: so many checks passed in a row bring a server up, 1..=100. Default 2.
    pub rise: u8,
    /// `fall`: so many failures in a row take a server down, 1..=100. Default 3.
    pub fall: u8,
}

/// What is asked.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum CheckKind {
    /// Nothing: whoever takes a connection works.
    #[default]
    Tcp,
    /// A request, of which the status counts.
    Http {
        /// `method`. Default "GET".
        method: String,
        /// `path`, with a query if there is one. Default "/".
        path: String,
        /// `host`: the `Host` of the request. Default: the server's address and port.
        #[serde(skip_serializing_if = "Option::is_none")]
        host: Option<String>,
        /// `status`: "200" or a range, "200-299". Default "200-399".
        status: StatusRange,
    },
}

/// Statuses that pass, the last one included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StatusRange {
    /// The first.
    pub first: u16,
    /// The last.
    pub last: u16,
}

impl CheckKind {
    /// `type = "http"` with nothing else written.
    pub fn default_http() -> CheckKind {
        let status = StatusRange { first: 200, last: 399 };
        CheckKind::Http { method: "GET".into(), path: "/".into(), host: None, status }
    }
}

impl Default for Check {
    fn default() -> Check {
        Check {
            kind: CheckKind::default(),
            port: None,
            interval: Duration::from_secs(2),
            fast_interval: Duration::from_millis(500),
            timeout: Duration::from_secs(1),
            rise: 2,
            fall: 3,
        }
    }
}

impl Serialize for StatusRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{}-{}", self.first, self.last))
    }
}

/// Off unless the table is written; what it leaves out has a default.
pub fn check(reader: &mut Reader, table: &mut Table<'_>) -> Option<Check> {
    let path = table.path("check");
    let mut table = table.table(reader, "check");
    let default = Check::default();
    let kind = kind(reader, &mut table);
    let port = table.integer(reader, "port", 1..=65535).map(|port| port as u16);
    let interval = span(reader, &mut table, "interval", "100ms", "1h").unwrap_or(default.interval);
    let fast_interval = span(reader, &mut table, "fast_interval", "50ms", "1h");
    let timeout = span(reader, &mut table, "timeout", "10ms", "5m");
    let rise = table.integer(reader, "rise", 1..=100);
    let fall = table.integer(reader, "fall", 1..=100);
    if fast_interval.is_some_and(|fast| fast > interval) {
        let message = "`fast_interval` is longer than `interval`";
        reader.reject(&table.path("fast_interval"), Kind::Inconsistent, message);
    }
    table.finish(reader);
    reader.written(&path).then(|| Check {
        kind,
        port,
        interval,
        fast_interval: fast_interval.unwrap_or(Duration(interval.0 / 4).max(FAST_INTERVAL_MIN)),
        timeout: timeout.unwrap_or(default.timeout),
        rise: rise.unwrap_or(default.rise.into()) as u8,
        fall: fall.unwrap_or(default.fall.into()) as u8,
    })
}

fn kind(reader: &mut Reader, table: &mut Table<'_>) -> CheckKind {
    let words = [("tcp", false), ("http", true)];
    let is_http = table.choice(reader, "type", &words).unwrap_or(false);
    let is_known = reader.good(&table.path("type"));
    let method = table.parsed(reader, "method", "a method of HTTP", method);
    let request_path = table.parsed(reader, "path", "a path", request_path);
    let host = table.parsed(reader, "host", "a host", word);
    let status = table.parsed(reader, "status", "a status or a range, \"200-299\"", status);
    if is_http {
        return CheckKind::Http {
            method: method.unwrap_or("GET".into()),
            path: request_path.unwrap_or("/".into()),
            host,
            status: status.unwrap_or(StatusRange { first: 200, last: 399 }),
        };
    }
    for key in ["method", "path", "host", "status"] {
        let path = table.path(key);
        if is_known && reader.written(&path) {
            let message = format!("`{key}` is asked for by HTTP only");
            reader.reject_with_help(&path, Kind::Inconsistent, message, "add `type = \"http\"`");
        }
    }
    CheckKind::Tcp
}

fn method(text: &str) -> Result<String, String> {
    let is_method = (1..=16).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_uppercase());
    is_method.then(|| text.into()).ok_or(format!("{text:?} is no method of HTTP; \"GET\" is one"))
}

fn request_path(text: &str) -> Result<String, String> {
    match text.starts_with('/') {
        true => word(text),
        false => Err(format!("{text:?} is no path: one begins with `/`")),
    }
}

/// One word of a request.
fn word(text: &str) -> Result<String, String> {
    let is_word = (1..=512).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    is_word.then(|| text.into()).ok_or(format!("{text:?} is not 1 to 512 visible ASCII characters"))
}

fn status(text: &str) -> Result<StatusRange, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| text.parse().ok().filter(|status| (100..=599).contains(status));
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => Ok(StatusRange { first, last }),
        _ => Err(format!("{text:?} is not a status of 100 to 599, nor a range of them")),
    }
}
