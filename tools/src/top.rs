//! `understudy top`: what a node does now, in rates, again and again.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::Args;
use dataplane::control::servers::{ServerStatus, Servers, ServiceServers};
use dataplane::control::status::{CoreStatus, PortStatus, Status};

use crate::handover::finish;
use crate::print;
use crate::servers;
use crate::status::{behind, read, socket, span, table};

/// Arguments of `understudy top`.
#[derive(Args, Debug, Clone)]
#[command(
    after_help = "Ctrl-C ends it. Exit codes: 0 shown, 1 the node does not answer, 2 wrong usage."
)]
pub struct TopArgs {
    /// The node's control socket. Default: the only one in /run/understudy.
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Between two screens.
    #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub interval: u64,
    /// So many screens, then end; by default until interrupted.
    #[arg(long, value_name = "SCREENS")]
    pub count: Option<u64>,
}

/// Shows rates until interrupted.
pub fn main(args: &TopArgs) -> ExitCode {
    finish(show(args).map(|()| String::new()))
}

fn show(args: &TopArgs) -> Result<(), String> {
    let socket = socket(args.socket.as_deref())?;
    let clear = if std::io::stdout().is_terminal() { "\x1b[H\x1b[2J" } else { "" };
    let look =
        || Ok::<_, String>(Look { status: read(&socket)?, servers: servers::read(&socket, None)? });
    let mut before = look()?;
    let mut left = args.count.unwrap_or(u64::MAX);
    while left > 0 {
        thread::sleep(Duration::from_secs(args.interval));
        let after = look()?;
        print(&format!("{clear}{}", screen(&before, &after)));
        before = after;
        left -= 1;
    }
    Ok(())
}

/// What a node says of itself at one time.
#[derive(Default)]
struct Look {
    status: Status,
    servers: Servers,
}

/// What has happened between two looks. One that was born between them is shown since then.
fn screen(before: &Look, after: &Look) -> String {
    let since_birth = Look::default();
    let is_one_life = before.status.incarnation == after.status.incarnation;
    let Look { status: before, servers: known } = if is_one_life { before } else { &since_birth };
    let Look { status: after, servers } = after;
    let rates = Rates { us: after.uptime_us.saturating_sub(before.uptime_us).max(1) };
    let mut text = format!("node {}, up {}\n", after.node, span(after.uptime_us));
    services(&mut text, after);
    passed_on(&mut text, &rates, known, servers);
    cores(&mut text, &rates, &before.cores, &after.cores);
    ports(&mut text, &rates, &before.ports, &after.ports);
    text
}

/// Counts over a time.
struct Rates {
    us: u64,
}

impl Rates {
    /// Microseconds of work as a share of the time.
    fn share(&self, before_us: u64, after_us: u64) -> String {
        format!("{}%", after_us.saturating_sub(before_us) * 100 / self.us)
    }

    /// So many a second, rounded; 0 if the counter began anew.
    fn of(&self, before: u64, after: u64) -> u64 {
        let grown = u128::from(after.saturating_sub(before)) * 1_000_000;
        (grown / u128::from(self.us)) as u64
    }

    /// As [`Rates::of`], by name.
    fn of_named(
        &self,
        name: &str,
        before: &BTreeMap<String, u64>,
        after: &BTreeMap<String, u64>,
    ) -> u64 {
        let count = |counters: &BTreeMap<String, u64>| counters.get(name).copied().unwrap_or(0);
        self.of(count(before), count(after))
    }
}

fn services(text: &mut String, status: &Status) {
    let row = |group: &dataplane::control::status::GroupStatus| {
        [
            group.service.clone(),
            group.role.to_string(),
            group.protection.to_string(),
            group.flows.to_string(),
            behind(&group.lag),
        ]
    };
    let head = ["service", "role", "protection", "flows", "peer behind"];
    table(text, head, status.groups.iter().map(row).collect());
}

/// Services that pass connections on, and below each its servers.
fn passed_on(text: &mut String, rates: &Rates, before: &Servers, after: &Servers) {
    let mut rows = Vec::new();
    for service in &after.services {
        let known = before.services.iter().find(|known| known.service == service.service);
        let none = ServiceServers::default();
        let before = known.unwrap_or(&none);
        rows.push([
            service.service.clone(),
            format!("{} wait", service.queued),
            service.servers.iter().map(|server| server.connections).sum::<u64>().to_string(),
            rates.of(before.clients, service.clients).to_string(),
            bits(rates.of(before.received_bytes, service.received_bytes)),
            bits(rates.of(before.sent_bytes, service.sent_bytes)),
        ]);
        for server in &service.servers {
            let none = ServerStatus::default();
            let is_it = |known: &&ServerStatus| {
                (&known.address, known.port) == (&server.address, server.port)
            };
            let before = before.servers.iter().find(is_it).unwrap_or(&none);
            rows.push([
                format!("  {}", server.name),
                server.state.to_string(),
                server.connections.to_string(),
                rates.of(before.opened, server.opened).to_string(),
                bits(rates.of(before.sent_bytes, server.sent_bytes)),
                bits(rates.of(before.received_bytes, server.received_bytes)),
            ]);
        }
    }
    let head = ["passed on", "state", "connections", "opened/s", "from clients", "to clients"];
    table(text, head, rows);
}

fn cores(text: &mut String, rates: &Rates, before: &[CoreStatus], after: &[CoreStatus]) {
    let none = CoreStatus::default();
    let row = |(n, core): (usize, &CoreStatus)| {
        let known = before.get(n).unwrap_or(&none);
        let event = |name| rates.of_named(name, &known.events, &core.events).to_string();
        let drops = |core: &CoreStatus| core.drops.values().sum();
        [
            format!("core {}", core.core),
            core.flows.to_string(),
            rates.share(known.busy_us, core.busy_us),
            event("opened"),
            event("closed"),
            rates.of(known.segments_in, core.segments_in).to_string(),
            rates.of(known.segments_out, core.segments_out).to_string(),
            rates.of(drops(known), drops(core)).to_string(),
        ]
    };
    let head = ["core", "flows", "busy", "opened/s", "closed/s", "frames in/s", "out/s", "drops/s"];
    table(text, head, after.iter().enumerate().map(row).collect());
}

fn ports(text: &mut String, rates: &Rates, before: &[PortStatus], after: &[PortStatus]) {
    let none = PortStatus::default();
    let row = |(n, port): (usize, &PortStatus)| {
        let known = before.get(n).unwrap_or(&none);
        let rate = |name| rates.of_named(name, &known.counters, &port.counters);
        [
            format!("{} queue {}", port.interface, port.queue),
            bits(rate("rx_bytes")),
            bits(rate("tx_bytes")),
            rate("rx_frames").to_string(),
            rate("tx_frames").to_string(),
        ]
    };
    let head = ["port", "in", "out", "frames in/s", "out/s"];
    table(text, head, after.iter().enumerate().map(row).collect());
}

/// Bytes a second as bits a second, in a unit that suits them.
fn bits(bytes: u64) -> String {
    let mut text = String::new();
    let _ = match bytes.saturating_mul(8) {
        bits @ 0..1_000_000 => write!(text, "{} kbit/s", bits / 1_000),
        bits @ 1_000_000..1_000_000_000 => {
            write!(text, "{}.{} Mbit/s", bits / 1_000_000, bits / 100_000 % 10)
        }
        bits => write!(text, "{}.{:02} Gbit/s", bits / 1_000_000_000, bits / 10_000_000 % 100),
    };
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(seconds: u64, opened: u64, bytes: u64) -> Look {
        let events = BTreeMap::from([("opened".to_string(), opened)]);
        let drops = BTreeMap::from([("bad_checksum".to_string(), opened / 10)]);
        let (segments_in, busy_us) = (opened * 4, opened * 1_000);
        let core = CoreStatus { events, drops, segments_in, busy_us, ..CoreStatus::default() };
        let counters = BTreeMap::from([("rx_bytes".to_string(), bytes)]);
        let port = PortStatus { interface: "eth0".into(), counters, ..PortStatus::default() };
        let server = ServerStatus { name: "a".into(), opened, ..ServerStatus::default() };
        let service = ServiceServers {
            service: "shop".into(),
            clients: opened,
            received_bytes: bytes,
            servers: vec![server],
            ..ServiceServers::default()
        };
        let status = Status {
            incarnation: "a".into(),
            uptime_us: seconds * 1_000_000,
            cores: vec![core],
            ports: vec![port],
            ..Status::default()
        };
        Look { status, servers: Servers { node: 1, services: vec![service] } }
    }

    #[test]
    fn rates_are_what_was_counted_over_the_time_between() {
        let text = screen(&look(10, 100, 1_000), &look(12, 300, 2_501_000));
        let core = text.lines().find(|line| line.starts_with("core 0")).expect("a row");
        let cells: Vec<&str> = core.split_whitespace().collect();
        assert_eq!(cells, ["core", "0", "0", "10%", "100", "0", "400", "0", "10"], "{text}");
        let cells = |name: &str| -> Vec<String> {
            let line = text.lines().find(|line| line.trim_start().starts_with(name));
            line.expect("a row").split_whitespace().map(String::from).collect()
        };
        assert_eq!(cells("eth0")[3..5], ["10.0", "Mbit/s"], "{text}");
        assert_eq!(cells("shop")[3..6], ["0", "100", "10.0"], "{text}");
        assert_eq!(cells("a ")[..4], ["a", "up", "0", "100"], "{text}");
    }

    #[test]
    fn a_node_that_began_anew_has_no_negative_rates() {
        let mut young = look(1, 5, 0);
        young.status.incarnation = "b".into();
        let text = screen(&look(1000, 900, 5_000_000), &young);
        let core = text.lines().find(|line| line.starts_with("core 0")).expect("a row");
        assert_eq!(core.split_whitespace().nth(4), Some("5"), "{text}");
        assert_eq!([bits(0), bits(125_000_000)], ["0 kbit/s", "1.00 Gbit/s"]);
        assert_eq!(bits(u64::MAX).split(' ').nth(1), Some("Gbit/s"));
    }
}
