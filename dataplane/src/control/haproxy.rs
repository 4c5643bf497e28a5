//! HAProxy's runtime commands, so that tools made for its socket work on a node's.
//!
//! A line on the control socket that begins with a letter is such a command. Each is answered by what a node is
//! asked in JSON, put into HAProxy's words: a service is a frontend and a backend of one name. As there, one line is
//! answered and the connection closed, unless `prompt` has made it interactive; `;` separates commands. A server that
//! has left the configuration is not shown.
//!
//! What a node does not count is an empty field, as in HAProxy.
//! Spec: HAProxy 2.6 management guide 9.1 (CSV), 9.3 (commands). Left out: everything about maps, ACLs, certificates,
//! tables and HTTP.
//! Bounds: [`COMMANDS_MAX`] commands a line; a client may be silent for [`PATIENCE_MAX`] if it says so.

use std::time::Duration;

use super::servers::{ServerOrder, ServerState, ServerStatus, Servers, ServiceServers};
use super::status::{Role, Status};
use super::{Handler, Reply, Request};

mod csv;

/// Commands of one line at most; a longer line is refused whole.
const COMMANDS_MAX: usize = 64;

/// Longest silence of a client that has asked for patience.
const PATIENCE_MAX: Duration = Duration::from_secs(3600);

/// What is said to whom does not know.
const HELP: &str = "\
  help                                 : this text
  prompt                               : answer until quit, with a prompt
  quit                                 : close the connection
  show info                            : the process
  show stat [<proxy>|<iid> <type> <sid>] : services and servers, as CSV
  show servers state [<backend>]       : servers and what is in force for them
  get weight <backend>/<server>        : its present and configured weight
  set weight <backend>/<server> <n>    : another weight
  set server <backend>/<server> state ready|drain|maint
  set server <backend>/<server> weight <n>
  enable server <backend>/<server>     : out of maintenance
  disable server <backend>/<server>    : into maintenance
  set timeout cli <seconds>            : how long this connection may be silent
";

/// One client that speaks so.
#[derive(Default)]
pub struct Session {
    /// It is answered until it leaves.
    is_interactive: bool,
    /// How long it may be silent, if it has said so.
    pub patience: Option<Duration>,
    has_quit: bool,
}

impl Session {
    /// Whether a line is for this.
    pub fn is_command(&self, line: &[u8]) -> bool {
        let first = line.iter().find(|byte| !byte.is_ascii_whitespace());
        self.is_interactive || first.is_some_and(u8::is_ascii_alphabetic)
    }

    /// Answers one line; `None` when the connection is to be closed without a word.
    pub fn answer(&mut self, line: &[u8], handler: &Handler) -> Option<String> {
        let line = String::from_utf8_lossy(line);
        let mut text = String::new();
        let is_too_long = line.split(';').nth(COMMANDS_MAX).is_some();
        if is_too_long {
            text +=
                &format!("A line has at most {COMMANDS_MAX} commands: none was carried out.\n\n");
        }
        for command in line.split(';').take_while(|_| !is_too_long) {
            text += &self.run(command, handler);
            if self.has_quit {
                return (!text.is_empty()).then_some(text);
            }
            text.push('\n');
        }
        if self.is_interactive {
            text += "> ";
        }
        Some(text)
    }

    /// Whether another line may follow.
    pub fn goes_on(&self) -> bool {
        self.is_interactive && !self.has_quit
    }

    fn run(&mut self, command: &str, handler: &Handler) -> String {
        let words: Vec<&str> = command.split_whitespace().collect();
        let answer = match words[..] {
            [] => Ok(String::new()),
            ["help"] => Ok(HELP.into()),
            ["prompt"] => {
                self.is_interactive = true;
                Ok(String::new())
            }
            ["quit"] => {
                self.has_quit = true;
                Ok(String::new())
            }
            ["set", "timeout", "cli", time] => self.set_patience(time),
            ["show", "info"] => status(handler).map(|status| info(&status)),
            ["show", "stat"] => csv::stat(handler, None),
            ["show", "stat", ref filter @ ..] => csv::stat(handler, Some(filter)),
            ["show", "servers", "state"] => state(handler, None),
            ["show", "servers", "state", backend] => state(handler, Some(backend)),
            ["get", "weight", server] => find(handler, server).map(|server| {
                format!("{} (initial {})\n", server.weight, server.configured_weight)
            }),
            ["enable", "server", server] => order(handler, server, ServerOrder::Ready),
            ["disable", "server", server] => order(handler, server, ServerOrder::Maint),
            ["set", "server", server, "state", "ready"] => {
                order(handler, server, ServerOrder::Ready)
            }
            ["set", "server", server, "state", "drain"] => {
                order(handler, server, ServerOrder::Drain)
            }
            ["set", "server", server, "state", "maint"] => {
                order(handler, server, ServerOrder::Maint)
            }
            ["set", "server", server, "weight", weight] | ["set", "weight", server, weight] => {
                weigh(handler, server, weight)
            }
            _ => Err(format!(
                "Unknown command: {:?}, but maybe one of these:\n{HELP}",
                command.trim()
            )),
        };
        answer.unwrap_or_else(|message| format!("{}\n", message.trim_end()))
    }

    fn set_patience(&mut self, time: &str) -> Result<String, String> {
        let seconds = time.trim_end_matches('s').parse().map_err(|_| "Invalid timeout.")?;
        let patience = Duration::from_secs(seconds).clamp(Duration::from_secs(1), PATIENCE_MAX);
        self.patience = Some(patience);
        Ok(String::new())
    }
}

fn status(handler: &Handler) -> Result<Status, String> {
    match handler(Request::Status) {
        Reply::Status { status } => Ok(*status),
        Reply::Error { message } => Err(message),
        _ => Err("the node has answered something else".into()),
    }
}

/// A service, with the number by which HAProxy's tools know it.
struct Proxy {
    id: usize,
    name: String,
    /// Whether this node serves one of its generations.
    is_owned: bool,
    flows: u64,
}

/// The services in the order of the configuration; the generations of one are one.
fn proxies(status: &Status) -> Vec<Proxy> {
    let mut proxies: Vec<Proxy> = Vec::new();
    for group in &status.groups {
        let is_owned = group.role == Role::Owner;
        match proxies.iter_mut().find(|known| known.name == group.service) {
            Some(known) => {
                known.is_owned |= is_owned;
                known.flows += group.flows;
            }
            None => {
                let (id, name) = (FIRST_ID + proxies.len(), group.service.clone());
                proxies.push(Proxy { id, name, is_owned, flows: group.flows });
            }
        }
    }
    proxies
}

/// Servers that are configured, with their numbers: those that have left keep their places.
fn numbered(service: &ServiceServers) -> impl Iterator<Item = (usize, &ServerStatus)> {
    let all = (1..).zip(&service.servers);
    all.filter(|(_, server)| server.state != ServerState::Retired)
}

/// The servers of one service, or of all.
fn servers(handler: &Handler, backend: Option<&str>) -> Result<Servers, String> {
    match handler(Request::Servers { service: backend.map(String::from) }) {
        Reply::Servers { servers } => Ok(*servers),
        Reply::Error { message } => Err(message),
        _ => Err("the node has answered something else".into()),
    }
}

/// What is known of "backend/server".
fn find(handler: &Handler, name: &str) -> Result<ServerStatus, String> {
    let (backend, server) = name.split_once('/').ok_or("Require 'backend/server'.")?;
    let all = servers(handler, Some(backend))?;
    let mut known = all.services.iter().flat_map(numbered);
    let found = known.find(|(_, known)| known.name == server);
    found.map(|(_, server)| server.clone()).ok_or("No such server.".into())
}

fn order(handler: &Handler, name: &str, order: ServerOrder) -> Result<String, String> {
    let (service, server) = name.split_once('/').ok_or("Require 'backend/server'.")?;
    let (service, server) = (service.into(), server.into());
    match handler(Request::Server { service, server, order }) {
        Reply::Done => Ok(String::new()),
        Reply::Error { message } => Err(message),
        _ => Err("the node has answered something else".into()),
    }
}

/// A weight is a number, or a share of the configured one.
fn weigh(handler: &Handler, name: &str, weight: &str) -> Result<String, String> {
    let invalid = "Invalid weight: a number, or a share of the configured one, 50% for example.";
    let weight = match weight.strip_suffix('%') {
        Some(share) => {
            let share: u32 = share.parse().map_err(|_| invalid)?;
            let server = find(handler, name)?;
            let weight = u32::from(server.configured_weight).saturating_mul(share) / 100;
            u16::try_from(weight).map_err(|_| invalid)?
        }
        None => weight.parse().map_err(|_| invalid)?,
    };
    order(handler, name, ServerOrder::Weight(weight))
}

fn info(status: &Status) -> String {
    let seconds = status.uptime_us / 1_000_000;
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let limit = status.groups.iter().find_map(|group| group.declared.first()?.limits.get("flows"));
    let opened = status.cores.iter().filter_map(|core| core.events.get("opened")).sum::<u64>();
    let flows: u64 = status.cores.iter().map(|core| core.flows).sum();
    let uptime = format!("{}d {}h{:02}m{:02}s", hours / 24, hours % 24, minutes % 60, seconds % 60);
    let lines = [
        ("Name", "Understudy".to_string()),
        // Its commands are those of 2.6: programs ask for that before they use them.
        ("Version", format!("2.6.0 (Understudy {})", status.version)),
        ("Release_date", "-".into()),
        ("Nbthread", status.cores.len().to_string()),
        ("Nbproc", "1".into()),
        ("Process_num", "1".into()),
        ("Pid", std::process::id().to_string()),
        ("Uptime", uptime),
        ("Uptime_sec", seconds.to_string()),
        ("Maxconn", limit.copied().unwrap_or(0).to_string()),
        ("CurrConns", flows.to_string()),
        ("CumConns", opened.to_string()),
        ("Maxpipes", "0".into()),
        ("PipesUsed", "0".into()),
        ("Tasks", status.cores.len().to_string()),
        ("Run_queue", "0".into()),
        ("node", status.node.to_string()),
        ("description", format!("node {} of {}", status.node, status.cluster.name)),
    ];
    lines.map(|(name, value)| format!("{name}: {value}\n")).concat()
}

/// `show servers state`, version 1 of that format.
fn state(handler: &Handler, backend: Option<&str>) -> Result<String, String> {
    let (proxies, servers) = (proxies(&status(handler)?), servers(handler, backend)?);
    let mut text = "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight \
                    srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state \
                    srv_agent_state bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord srv_use_ssl srv_check_port \
                    srv_check_addr srv_agent_addr srv_agent_port\n"
        .to_string();
    for service in &servers.services {
        let proxy = proxies.iter().find(|proxy| proxy.name == service.service);
        let id = proxy.map_or(0, |proxy| proxy.id);
        for (sid, server) in numbered(service) {
            let (op, admin) = match server.state {
                ServerState::Up => (2, 0),
                ServerState::Drain => (2, 8),
                ServerState::Maint | ServerState::Retired => (0, 1),
                ServerState::Down | ServerState::Unreachable => (0, 0),
            };
            let ServerStatus { name, address, port, weight, configured_weight, .. } = server;
            let changed = server.since_us.unwrap_or(0) / 1_000_000;
            text += &format!(
                "{id} {} {sid} {name} {address} {op} {admin} {weight} {configured_weight} {changed} 1 0 0 0 0 0 0 - \
                 {port} - 0 0 - - 0\n",
                service.service
            );
        }
    }
    Ok(text)
}

/// The id of the first service: 1 is HAProxy's own.
const FIRST_ID: usize = 2;

#[cfg(test)]
mod tests;
