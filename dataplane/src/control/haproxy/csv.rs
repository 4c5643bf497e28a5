//! `show stat`: services and servers as HAProxy's CSV.

use super::{FIRST_ID, Handler, ServerState, ServerStatus, servers, status};
use crate::control::servers::{CheckOutcome, ServiceServers};
use crate::control::status::{GroupStatus, Role};

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
    let (groups, servers) = (status(handler)?.groups, servers(handler, None)?);
    let mut lines = Vec::new();
    for (group, iid) in groups.iter().zip(FIRST_ID..) {
        let passed_on = servers.services.iter().find(|service| service.service == group.service);
        lines.push(frontend(group, iid, passed_on));
        if let Some(service) = passed_on {
            let ids = service.servers.iter().zip(1..);
            lines.extend(ids.map(|(server, sid)| self::server(&group.service, server, iid, sid)));
            lines.push(backend(service, iid));
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
    let is_kept = |line: &Line| {
        let is_proxy = proxy == "-1" || proxy == line.iid.to_string() || proxy == line.values[0].1;
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

fn frontend(group: &GroupStatus, iid: usize, servers: Option<&ServiceServers>) -> Line {
    let is_owner = group.role == Role::Owner;
    // A connection that is passed on has two legs.
    let connections = if servers.is_some() { group.flows.div_ceil(2) } else { group.flows };
    Line::new(&group.service, "FRONTEND", Kind::Frontend, (iid, 0)).with([
        ("scur", connections.to_string()),
        ("status", if is_owner { "OPEN" } else { "STOP" }.into()),
    ])
}

fn server(service: &str, server: &ServerStatus, iid: usize, sid: usize) -> Line {
    let is_active = server.state == ServerState::Up;
    let line = Line::new(service, &server.name, Kind::Server, (iid, sid)).with([
        ("scur", server.connections.to_string()),
        ("stot", server.opened.to_string()),
        ("econ", server.failed.to_string()),
        ("status", word(server.state).into()),
        ("weight", server.weight.to_string()),
        ("act", u8::from(is_active).to_string()),
        ("bck", u8::from(server.backup).to_string()),
        ("slim", limit(server.max_connections)),
        ("lastchg", (server.since_us.unwrap_or(0) / 1_000_000).to_string()),
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
    let active = sum(|server| u64::from(server.state == ServerState::Up));
    let weight = sum(|server| u64::from(server.weight));
    Line::new(&service.service, "BACKEND", Kind::Backend, (iid, 0)).with([
        ("scur", sum(|server| server.connections).to_string()),
        ("stot", sum(|server| server.opened).to_string()),
        ("econ", sum(|server| server.failed).to_string()),
        ("qcur", service.queued.to_string()),
        ("slim", limit(service.max_connections)),
        ("status", if active > 0 { "UP" } else { "DOWN" }.into()),
        ("weight", weight.to_string()),
        ("act", active.to_string()),
        ("bck", "0".into()),
        ("lbtot", sum(|server| server.opened).to_string()),
    ])
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
