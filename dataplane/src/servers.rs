//! The servers to whom connections are passed on: how they are, and the operator's orders about them.
//!
//! Both go to every core by the channel of its orders; none waits for another. What is decided is the same on all of
//! them; connections are added up.

use crate::clock;
use crate::config::{self, Application, Proxy};
use crate::control::Reply;
use crate::control::servers::{
    CheckOutcome, CheckStatus, EndedStatus, ServerOrder, ServerState, ServerStatus, Servers,
    ServiceServers,
};
use crate::control::status::Role;
use crate::health::Checked;
use crate::health::verdict::Outcome;
use crate::orders::service_index;
use crate::report::{LATE, PATIENCE, Reporter};
use crate::shared::{ToCore, Upstreams};
use cluster::engine;
use cluster::id::GroupId;
use stack::app::proxy::end::End;
use stack::time::Instant;
use stack::upstream::ServerStatus as Known;
use stack::upstream::WEIGHT_MAX;
use stack::upstream::decision::{Admin, Change, Decided};

impl Reporter {
    /// How the servers are, of one service or of all.
    pub fn servers(&self, service: Option<&str>) -> Reply {
        let config = self.config();
        if let Some(message) = service.and_then(|name| service_index(&config, name).err()) {
            return Reply::Error { message };
        }
        let Some(cores) = self.each_core(ToCore::Servers) else {
            return Reply::Error { message: LATE.into() };
        };
        let now = clock::now();
        let mut services = Vec::new();
        for known in &config.services {
            let Application::Proxy(proxy) = &known.application else { continue };
            if service.is_none_or(|name| name == known.name) {
                let of_service = |core: &&Upstreams| core.service == known.id;
                let cores: Vec<&Upstreams> = cores.iter().flatten().filter(of_service).collect();
                let checked = self.board.service(known.place.into());
                services.push(service_servers(now, (&known.name, proxy), &cores, &checked));
            }
        }
        Reply::Servers { servers: Box::new(Servers { node: self.me.node.0, services }) }
    }

    /// Carries out the operator's order about a server.
    pub fn order_server(&self, service: &str, server: &str, order: ServerOrder) -> Reply {
        match self.try_order_server(service, server, order) {
            Ok(()) => Reply::Done,
            Err(message) => Reply::Error { message },
        }
    }

    fn try_order_server(
        &self,
        service: &str,
        server: &str,
        order: ServerOrder,
    ) -> Result<(), String> {
        let config = self.config();
        let index = service_index(&config, service)?;
        let Application::Proxy(Proxy { servers, .. }) = &config.services[index].application else {
            return Err(format!("{service:?} passes no connections on to servers"));
        };
        let Some(server) = place(servers, server) else {
            let known = servers.iter().filter(|known| !known.is_retired);
            let known: Vec<_> = known.map(|known| known.name.as_str()).collect();
            let known = known.join(", ");
            return Err(format!("{service} has no server {server:?}; there are: {known}"));
        };
        let change = match order {
            ServerOrder::Drain => Change::Admin(Admin::Drain),
            ServerOrder::Maint => Change::Admin(Admin::Maintenance),
            ServerOrder::Ready => Change::Admin(Admin::Ready),
            ServerOrder::Weight(weight) if weight > WEIGHT_MAX => {
                return Err(format!("the weight {weight} is more than {WEIGHT_MAX}"));
            }
            ServerOrder::Weight(weight) => Change::Weight(weight),
        };
        let id = config.services[index].id;
        let decide = |answer| ToCore::Decide(id, server as u16, change, answer);
        let done = self.each_core(decide).ok_or(LATE)?;
        if done.iter().all(|done| *done) {
            return Ok(());
        }
        if done.iter().any(|done| *done) {
            let message = "changed hands meanwhile: give the order again to the node that owns it";
            return Err(format!("{service} {message}"));
        }
        Err(self.not_owner(id, service))
    }

    fn not_owner(&self, id: u32, service: &str) -> String {
        let answer = self.ask_agent().and_then(|agent| agent.recv_timeout(PATIENCE).ok());
        let register = answer.and_then(|answer| {
            let mut groups = answer.agent.groups.iter();
            Some(groups.find(|group| group.group == GroupId::new(id, 0))?.register)
        });
        let me = self.me.node;
        match register.filter(|register| register.epoch.0 > 0).map(|register| register.owner.node) {
            Some(owner) if owner != me => {
                format!("node {owner} owns {service}, not node {me}: give the order there")
            }
            Some(_) => format!("node {me} is handing {service} over: give the order again"),
            None => format!("node {me} does not own {service}, and does not know who does"),
        }
    }
}

/// Where the server of this name is. One that has left the file keeps its place, and its name is free.
fn place(servers: &[config::Server], name: &str) -> Option<usize> {
    servers.iter().position(|known| !known.is_retired && known.name == name)
}

fn service_servers(
    now: Instant,
    (service, proxy): (&str, &Proxy),
    cores: &[&Upstreams],
    checked: &[Checked],
) -> ServiceServers {
    let of_role = |role| cores.iter().find(|core| core.role == role);
    let deciding = of_role(engine::Role::Owner).or(of_role(engine::Role::Peer)).copied();
    let servers = proxy.servers.iter().enumerate().map(|(n, config)| {
        // A core that is being reloaded may not have heard of it yet.
        let known: Vec<&Known> = cores.iter().filter_map(|core| core.servers.get(n)).collect();
        let decided = deciding.and_then(|core| core.servers.get(n)).map(|server| server.decided);
        let decided = decided.unwrap_or_default();
        let sum = |count: fn(&Known) -> u64| known.iter().map(|server| count(server)).sum();
        let since = known.iter().map(|server| server.decided_at).max().unwrap_or_default();
        ServerStatus {
            name: config.name.clone(),
            address: config.address.to_string(),
            port: config.port,
            state: state(config.is_retired, decided, &known),
            since_us: (since > Instant::ZERO).then(|| now.since(since).micros()),
            weight: decided.weight.unwrap_or(config.weight),
            configured_weight: config.weight,
            backup: config.backup,
            max_connections: config.max_connections,
            connections: sum(|server| server.connections.into()),
            opened: sum(|server| server.opened),
            failed: sum(|server| server.failed),
            sent_bytes: sum(|server| server.said.by_clients),
            received_bytes: sum(|server| server.said.by_servers),
            check: checked.get(n).map(|checked| check(now, checked)),
        }
    });
    let role = match deciding.map(|core| core.role) {
        Some(engine::Role::Owner) => Role::Owner,
        Some(engine::Role::Peer) => Role::Peer,
        Some(engine::Role::Idle) | None => Role::None,
    };
    ServiceServers {
        service: service.into(),
        role,
        queued: cores.iter().map(|core| core.queued as u64).sum(),
        max_connections: proxy.max_connections,
        clients: cores.iter().map(|core| core.tally.clients).sum(),
        received_bytes: cores.iter().map(|core| core.tally.said.by_clients).sum(),
        sent_bytes: cores.iter().map(|core| core.tally.said.by_servers).sum(),
        ended: ended(cores),
        servers: servers.collect(),
    }
}

/// Connections that are over, all cores together, by what ended them.
fn ended(cores: &[&Upstreams]) -> Vec<EndedStatus> {
    let of = |end: End| {
        let all = cores.iter().flat_map(|core| core.tally.ended());
        let connections = all.filter(|(known, _)| *known == end).map(|(_, count)| count).sum();
        EndedStatus { by: end.by().into(), how: end.key().into(), connections }
    };
    End::ALL.map(of).into()
}

fn check(now: Instant, checked: &Checked) -> CheckStatus {
    let Checked { verdict, last, passed, failed } = checked;
    let mut status = CheckStatus {
        is_up: verdict.is_up(),
        passed: *passed,
        failed: *failed,
        ..CheckStatus::default()
    };
    if let Some((ended, took, outcome)) = last {
        (status.age_us, status.took_us) = (now.since(*ended).micros(), took.micros());
        (status.last, status.reason) = match outcome {
            Outcome::Passed(how) => (CheckOutcome::Passed, how.clone()),
            Outcome::Failed(why) => (CheckOutcome::Failed, why.clone()),
            Outcome::Unable(why) => (CheckOutcome::Unable, why.clone()),
        };
    }
    status
}

fn state(is_retired: bool, decided: Decided, known: &[&Known]) -> ServerState {
    let is_unreachable = known.iter().any(|server| server.is_unreachable())
        && known.iter().all(|server| server.mac.is_none());
    match (decided.admin, decided.is_down) {
        _ if is_retired => ServerState::Retired,
        (Admin::Maintenance, _) => ServerState::Maint,
        (_, true) => ServerState::Down,
        (Admin::Drain, _) => ServerState::Drain,
        (Admin::Ready, _) if is_unreachable => ServerState::Unreachable,
        (Admin::Ready, _) => ServerState::Up,
    }
}
