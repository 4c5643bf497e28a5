//! `show stat`: services and servers as HAProxy's CSV.

use super::{Handler, Proxy, ServerState, ServerStatus, numbered, proxies, servers, status};
use crate::control::servers::{CheckOutcome, EndedStatus, ServiceServers};

/// The columns, in HAProxy's order.
const COLUMNS: [&str; 83] = [
    "pxname",
    "svname",
    "qcur",
    "qmax",
    "scur",
    "smax",
    "slim",
    "stot",
    "bin",
    "bout",
    "dreq",
    "dresp",
    "ereq",
    "econ",
    "eresp",
    "wretr",
    "wredis",
    "status",
    "weight",
    "act",
    "bck",
    "chkfail",
    "chkdown",
    "lastchg",
    "downtime",
    "qlimit",
    "pid",
    "iid",
    "sid",
    "throttle",
    "lbtot",
    "tracked",
    "type",
    "rate",
    "rate_lim",
    "rate_max",
    "check_status",
    "check_code",
    "check_duration",
    "hrsp_1xx",
    "hrsp_2xx",
    "hrsp_3xx",
    "hrsp_4xx",
    "hrsp_5xx",
    "hrsp_other",
    "hanafail",
    "req_rate",
    "req_rate_max",
    "req_tot",
    "cli_abrt",
    "srv_abrt",
    "comp_in",
    "comp_out",
    "comp_byp",
    "comp_rsp",
    "lastsess",
    "last_chk",
    "last_agt",
    "qtime",
    "ctime",
    "rtime",
    "ttime",
    "agent_status",
    "agent_code",
    "agent_duration",
    "check_desc",
    "agent_desc",
    "check_rise",
    "check_fall",
    "check_health",
    "agent_rise",
    "agent_fall",
    "agent_health",
    "addr",
    "cookie",
    "mode",
    "algo",
    "conn_rate",
    "conn_rate_max",
    "conn_tot",
    "intercepted",
    "dcon",
    "dses",
];

/// What a line is about, as HAProxy numbers it; a filter is a sum of these.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Frontend = 0,
    Backend = 1,
    Server = 2,
}

/// One line: values by column.
struct Line {
    kind: Kind,
    iid: usize,
    sid: usize,
    values: Vec<(&'static str, String)>,
}

/// The table, or what a filter leaves of it: a proxy's name or id, then a sum of kinds, then a server's id.
pub fn stat(handler: &Handler, filter: Option<&[&str]>) -> Result<String, String> {
    let (proxies, servers) = (proxies(&status(handler)?), servers(handler, None)?);
    let mut lines = Vec::new();
    for proxy in &proxies {
        let passed_on = servers.services.iter().find(|service| service.service == proxy.name);
        lines.push(frontend(proxy, passed_on));
        if let Some(service) = passed_on {
            let ids = numbered(service);
            lines.extend(ids.map(|(sid, server)| self::server(proxy, server, sid)));
            lines.push(backend(service, proxy.id));
        }
    }
    if let Some(filter) = filter {
        keep(&mut lines, filter)?;
    }
    let head = format!("# {},\n", COLUMNS.join(","));
    Ok(head + &lines.iter().map(Line::text).collect::<String>())
}

fn keep(lines: &mut Vec<Line>, filter: &[&str]) -> Result<(), String> {
    let number = |word: Option<&&str>| -> Result<i64, String> {
        word.map_or(Ok(-1), |word| word.parse().map_err(|_| format!("{word:?} is no number.")))
    };
    let (kinds, sid) = (number(filter.get(1))?, number(filter.get(2))?);
    let proxy = filter.first().copied().unwrap_or("-1");
    let is_of =
        |line: &Line| proxy == "-1" || proxy == line.iid.to_string() || proxy == line.values[0].1;
    if !lines.is_empty() && !lines.iter().any(is_of) {
        return Err("No such proxy.".into());
    }
    let is_kept = |line: &Line| {
        let is_proxy = is_of(line);
        let is_kind = kinds < 0 || kinds >> line.kind as i64 & 1 == 1;
        is_proxy && is_kind && (sid < 0 || sid == line.sid as i64)
    };
    lines.retain(is_kept);
    Ok(())
}

impl Line {
    fn new(name: &str, part: &str, kind: Kind, (iid, sid): (usize, usize)) -> Line {
        let values = vec![
            ("pxname", name.into()),
            ("svname", part.into()),
            ("pid", "1".into()),
            ("iid", iid.to_string()),
            ("sid", sid.to_string()),
            ("type", (kind as u8).to_string()),
            ("mode", "tcp".into()),
        ];
        Line { kind, iid, sid, values }
    }

    fn with(mut self, values: impl IntoIterator<Item = (&'static str, String)>) -> Line {
        self.values.extend(values);
        self
    }

    fn text(&self) -> String {
        let value = |column: &str| {
            let found = self.values.iter().find(|(name, _)| *name == column);
            found.map_or("", |(_, value)| value.as_str())
        };
        COLUMNS.map(value).join(",") + ",\n"
    }
}

fn frontend(proxy: &Proxy, servers: Option<&ServiceServers>) -> Line {
    // A connection that is passed on has two legs.
    let connections = if servers.is_some() { proxy.flows.div_ceil(2) } else { proxy.flows };
    let line = Line::new(&proxy.name, "FRONTEND", Kind::Frontend, (proxy.id, 0)).with([
        ("scur", connections.to_string()),
        ("status", if proxy.is_owned { "OPEN" } else { "STOP" }.into()),
    ]);
    let Some(service) = servers else { return line };
    line.with(bytes(service.received_bytes, service.sent_bytes)).with([
        ("stot", service.clients.to_string()),
        ("slim", limit(service.max_connections)),
        ("conn_tot", service.clients.to_string()),
        // Whom nobody could name.
        ("ereq", ended(service, "client", "no_header").to_string()),
    ])
}

/// What clients have said, and servers.
fn bytes(by_clients: u64, by_servers: u64) -> [(&'static str, String); 2] {
    [("bin", by_clients.to_string()), ("bout", by_servers.to_string())]
}

/// Connections that have ended so.
fn ended(service: &ServiceServers, by: &str, how: &str) -> u64 {
    let is_so = |ended: &&EndedStatus| ended.by == by && ended.how == how;
    service.ended.iter().find(is_so).map_or(0, |ended| ended.connections)
}

fn server(proxy: &Proxy, server: &ServerStatus, sid: usize) -> Line {
    let line = Line::new(&proxy.name, &server.name, Kind::Server, (proxy.id, sid)).with([
        ("scur", server.connections.to_string()),
        ("stot", server.opened.to_string()),
        ("econ", server.failed.to_string()),
        ("status", word(server.state).into()),
        ("weight", server.weight.to_string()),
        ("act", u8::from(!server.backup).to_string()),
        ("bck", u8::from(server.backup).to_string()),
        ("slim", limit(server.max_connections)),
        ("lastchg", (server.since_us.unwrap_or(0) / 1_000_000).to_string()),
        ("bin", server.sent_bytes.to_string()),
        ("bout", server.received_bytes.to_string()),
        ("lbtot", server.opened.to_string()),
        ("addr", format!("{}:{}", server.address, server.port)),
    ]);
    let Some(check) = &server.check else { return line };
    let outcome = match check.last {
        CheckOutcome::None | CheckOutcome::Unable => "UNK",
        CheckOutcome::Passed => "L4OK",
        CheckOutcome::Failed => "L4CON",
    };
    line.with([
        ("chkfail", check.failed.to_string()),
        ("check_status", outcome.into()),
        ("check_duration", (check.took_us / 1_000).to_string()),
    ])
}

/// A limit, or nothing if there is none.
fn limit(connections: u32) -> String {
    if connections == 0 { String::new() } else { connections.to_string() }
}

fn backend(service: &ServiceServers, iid: usize) -> Line {
    let sum = |count: fn(&ServerStatus) -> u64| service.servers.iter().map(count).sum::<u64>();
    let up = |is_backup| {
        let is_counted = move |server: &&ServerStatus| {
            server.state == ServerState::Up && server.backup == is_backup
        };
        service.servers.iter().filter(is_counted)
    };
    let (active, backup) = (up(false).count(), up(true).count());
    let used = up(active == 0);
    let weight: u64 = used.map(|server| u64::from(server.weight)).sum();
    Line::new(&service.service, "BACKEND", Kind::Backend, (iid, 0))
        .with([
            ("scur", sum(|server| server.connections).to_string()),
            ("stot", sum(|server| server.opened).to_string()),
            ("econ", sum(|server| server.failed).to_string()),
            ("qcur", service.queued.to_string()),
            ("slim", limit(service.max_connections)),
            ("status", if active + backup > 0 { "UP" } else { "DOWN" }.into()),
            ("weight", weight.to_string()),
            ("act", active.to_string()),
            ("bck", backup.to_string()),
            ("lbtot", sum(|server| server.opened).to_string()),
            ("cli_abrt", ended(service, "client", "reset").to_string()),
            ("srv_abrt", ended(service, "server", "reset").to_string()),
        ])
        .with(bytes(service.received_bytes, service.sent_bytes))
}

/// A server's state in HAProxy's words.
fn word(state: ServerState) -> &'static str {
    match state {
        ServerState::Up => "UP",
        ServerState::Down | ServerState::Unreachable => "DOWN",
        ServerState::Drain => "DRAIN",
        ServerState::Maint | ServerState::Retired => "MAINT",
    }
}
