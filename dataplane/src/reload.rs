//! A configuration that changes while the node runs.
//!
//! ```text
//! file -> read whole or refused -> compared with what runs -> something that cannot change: refused, nothing changes
//!      -> cores: settings of the services that differ -> agent: declared to the other nodes
//!      -> nobody confirms in time: the same way back
//! ```
//!
//! Nodes are reloaded one after the other. Meanwhile they declare different settings, which every status shows; a peer in
//! sync stays the peer, for it holds the connections as they are, but nobody else becomes one until the declarations agree.
//!
//! A server that leaves the file keeps its place until it has no connections left (`stack/src/stack/reload.rs`) and another
//! one needs it, so the configuration that runs may have more servers than the file.
//!
//! A service that comes gets a place of its own on every core before the agent hears of it. One that leaves the file takes no
//! new connections from then on and serves those that it has; when the agent has given it up ([`cluster::agent`]) its place is
//! free ([`Reporter::bury`]).
//!
//! Every core takes the settings or none does: if one takes no order in time, those that were told are told to go back.

use crate::clock;
use crate::config::change::{self, in_words};
use crate::config::{self, Application, Config, Loaded, duration_text};
use crate::control::status::Configuration;
use crate::control::{CONFIRM_MAX, Reply};
use crate::log::{self, Level, Record};
use crate::node::group_configs;
use crate::report::{PATIENCE, Reporter};
use crate::shared::{ToAgent, ToCore, Upstreams};
use cluster::id::GroupId;
use crossbeam_channel::bounded;
use plan::{Plan, Step};
use stack::service::Service;
use stack::time::{Duration, Instant};
use std::path::PathBuf;
use std::sync::{Arc, MutexGuard, PoisonError};
use told::Told;

mod plan;
mod told;

/// What could not be undone is tried again after so long.
const UNDO_AGAIN: Duration = Duration::from_secs(5);

/// What a reload must know of what runs.
pub struct Origin {
    /// The file that a reload reads.
    file: PathBuf,
    /// What it said when it was taken.
    config: Config,
    /// The services as the cores have them.
    services: Vec<Service>,
    settled: Settled,
    /// Attempts to change something; they number those of services to leave.
    attempts: u32,
    /// When the configuration was taken.
    taken: Instant,
    reloads: u64,
    undone: u64,
    unconfirmed: Option<Unconfirmed>,
}

/// What was settled when the node started, because memory was taken by it.
#[derive(Clone)]
struct Settled {
    /// MTU of the client side.
    mtu: usize,
    /// Frames of clients to other nodes are kept.
    hears: bool,
    /// There was a service by which frames are as long as they are.
    has_services: bool,
}

impl Settled {
    fn new(config: &Config, mtu: usize) -> Settled {
        Settled { mtu, hears: config.hears(), has_services: !config.services.is_empty() }
    }

    /// Errors: what the file asks for does not fit into what was taken at start.
    fn refuse(&self, running: &Config, file: &Config) -> Result<(), String> {
        let restart =
            "nothing was changed; restart the nodes with the new file, one after the other";
        if !self.hears && file.hears() {
            return Err(format!(
                "no service was listened to (`snoop`) when this node started, and memory for that is taken then: {restart}"
            ));
        }
        if !self.has_services && !file.services.is_empty() {
            return Err(format!("this node was started without any service: {restart}"));
        }
        let is_named = |known: &config::Service| file.services.iter().any(|s| s.id == known.id);
        let gone = running.services.iter().find(|known| !is_named(known));
        match gone.filter(|_| running.generations() > 1) {
            Some(gone) => Err(format!(
                "{} cannot go while the node runs where a service has `failback = \"new-connections\"`: {restart}",
                gone.name
            )),
            None => Ok(()),
        }
    }
}

/// A reload that is undone unless somebody confirms it.
struct Unconfirmed {
    before: Config,
    until: Instant,
}

impl Origin {
    /// The node has started with this configuration out of `file`.
    pub fn new(file: PathBuf, config: Config, services: Vec<Service>, mtu: usize) -> Origin {
        let (taken, settled) = (clock::now(), Settled::new(&config, mtu));
        let (attempts, reloads, undone, unconfirmed) = (0, 0, 0, None);
        Origin { file, config, services, settled, attempts, taken, reloads, undone, unconfirmed }
    }

    /// As the status shows it.
    pub fn shown(&self, now: Instant) -> Configuration {
        let unconfirmed = self.unconfirmed.as_ref();
        Configuration {
            file: self.file.display().to_string(),
            age_us: now.since(self.taken).micros(),
            reloads: self.reloads,
            undone: self.undone,
            confirm_left_us: unconfirmed.map(|wait| wait.until.since(now).micros()),
        }
    }
}

impl Reporter {
    /// What a reload must know of what runs; held for moments only, because every status asks it.
    pub(crate) fn origin(&self) -> MutexGuard<'_, Origin> {
        self.origin.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the file again and takes what differs; undone after so long unless it is confirmed. The log is told.
    pub fn reload(&self, confirm_within_us: Option<u64>) -> Reply {
        let reply = self.try_reload(confirm_within_us).unwrap_or_else(|message| {
            log::error(format!("not reloaded: {message}"));
            Reply::Error { message }
        });
        let Reply::Reloaded { changes, warnings, .. } = &reply else { return reply };
        if !warnings.is_empty() {
            log::warning(warnings.trim_start_matches("warning: ").trim_end());
        }
        match &changes[..] {
            [] => log::notice("reloaded: the file says what runs already"),
            changes => Record::new(Level::Notice, format!("reloaded: {}", changes.join("; ")))
                .with("changes", changes.len())
                .say(),
        }
        reply
    }

    fn try_reload(&self, confirm_within_us: Option<u64>) -> Result<Reply, String> {
        let confirm_within = confirm_within_us.map(span_to_confirm).transpose()?;
        let _turn = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        let file = self.file_to_reload()?;
        let loaded = config::load(&file);
        let (before, changes) = self.take(&loaded)?;
        let confirm_within = confirm_within.filter(|_| !changes.is_empty());
        self.origin().unconfirmed =
            confirm_within.map(|span| Unconfirmed { before, until: clock::now() + span });
        let warnings = loaded.render(false);
        let confirm_within_us = confirm_within.map(Duration::micros);
        Ok(Reply::Reloaded { changes, warnings, confirm_within_us })
    }

    /// The file, unless an earlier reload waits for somebody.
    fn file_to_reload(&self) -> Result<PathBuf, String> {
        let origin = self.origin();
        let Some(Unconfirmed { until, .. }) = &origin.unconfirmed else {
            return Ok(origin.file.clone());
        };
        let left = Duration::from_secs(until.since(clock::now()).millis().div_ceil(1000));
        let left = duration_text(left);
        Err(format!(
            "the last reload waits to be confirmed: `understudy confirm`, or it is undone in {left}"
        ))
    }

    /// The last reload stays.
    pub fn confirm(&self) -> Reply {
        match self.origin().unconfirmed.take() {
            Some(_) => Reply::Done,
            None => Reply::Error { message: "no reload waits to be confirmed".into() },
        }
    }

    /// Undoes a reload that nobody has confirmed in time; tries again later if that cannot be done.
    pub(crate) fn undo_unconfirmed(&self, now: Instant) {
        // Who holds it is about to be told that a reload waits.
        let Ok(_turn) = self.reloading.try_lock() else { return };
        let is_due = |wait: &mut Unconfirmed| wait.until <= now;
        let Some(wait) = self.origin().unconfirmed.take_if(is_due) else { return };
        match self.apply(wait.before.clone()) {
            Ok(()) => {
                self.origin().undone += 1;
                log::warning("nobody has confirmed the last reload: it is undone");
            }
            Err(error) => {
                let again = duration_text(UNDO_AGAIN);
                log::error(format!(
                    "the last reload, which nobody has confirmed, cannot be undone: {error}; again in {again}"
                ));
                self.origin().unconfirmed = Some(Unconfirmed { until: now + UNDO_AGAIN, ..wait });
            }
        }
    }

    /// Takes what the file says; answers what was before, and what has changed, in words.
    fn take(&self, loaded: &Loaded) -> Result<(Config, Vec<String>), String> {
        let before = self.origin().config.clone();
        let running = self.config();
        let changes = change::changes(&before, &running, loaded).map_err(|reasons| {
            let mut refused = loaded.clone();
            refused.diagnostics = reasons;
            format!("nothing was changed:\n\n{}", refused.render(false).trim_end())
        })?;
        let Some(config) = loaded.config.clone().filter(|_| !changes.is_empty()) else {
            return Ok((before, Vec::new()));
        };
        self.apply(config)?;
        self.origin().reloads += 1;
        Ok((before, in_words(&changes)))
    }

    /// Lets the node run under what the file says, which differs from what runs only in what may change. All cores take it,
    /// or none.
    fn apply(&self, file: Config) -> Result<(), String> {
        let (before, services, settled, attempt) = {
            let mut origin = self.origin();
            origin.attempts += 1;
            let Origin { config, services, settled, attempts, .. } = &*origin;
            (config.clone(), services.clone(), settled.clone(), *attempts)
        };
        let running = self.config();
        let free = self.free_places(&running);
        let next = Plan::new((&running, &services), file, &settled, &free, attempt)?;
        // What stays must not be given up by the agent when a core takes newcomers for it again; and it hears of nothing that
        // the cores do not have.
        if next.is_recall() {
            self.tell_agent(&next, |group| next.arrivals().all(|(.., comes)| comes != group))?;
        }
        self.steer(&next)?;
        let told = Told::tell(&self.orders, self.orders.len(), &next.steps);
        let late = match told.late {
            Some(core) => format!("poll core {core} takes no orders in time"),
            None => match self.tell_agent(&next, |_| true) {
                Ok(()) => {
                    self.adopt(next);
                    told.finish();
                    return Ok(());
                }
                Err(late) => late,
            },
        };
        self.go_back(told, (before, attempt), next, &settled).map_or_else(
            |worse| Err(format!("{late}, and {worse}")),
            |()| Err(format!("{late}; nothing was changed")),
        )
    }

    /// Not everybody has taken it: whoever has is told to go back. What has come leaves, and is gone soon.
    fn go_back(
        &self,
        told: Told,
        (before, attempt): (Config, u32),
        next: Plan,
        settled: &Settled,
    ) -> Result<(), String> {
        let back = Plan::new((&next.config, &next.services), before, settled, &[], attempt)?;
        let told_back = Told::tell(&self.orders, told.replaced.len(), &back.steps);
        told.finish();
        if let Some(core) = told_back.late {
            self.adopt(next);
            return Err(format!(
                "poll core {core} could not be told to go back: they differ in what they serve. Restart this node"
            ));
        }
        // It has heard of the change at most; one that it hears of late is of what runs then.
        let _ = self.tell_agent(&back, |_| true);
        // Newcomers among servers and services keep the places that they were given.
        self.adopt(back);
        told_back.finish();
        Ok(())
    }

    /// Frames to the services that come are this node's; their groups have their indices. All of it, or nothing.
    fn steer(&self, plan: &Plan) -> Result<(), String> {
        for (service, index, group) in plan.arrivals() {
            if group.generation() == 0
                && let Err(error) = self.steering.arrive(service)
            {
                for (service, index, _) in plan.arrivals() {
                    self.steering.depart(service.id);
                    self.shared.set_group(index.into(), GroupId::NONE);
                }
                return Err(format!("{}: {error}; nothing was changed", service.name));
            }
            self.shared.set_group(index.into(), group);
        }
        Ok(())
    }

    /// Tells the agent of these groups, and waits until it knows.
    fn tell_agent(&self, plan: &Plan, is_told: impl Fn(GroupId) -> bool) -> Result<(), String> {
        let mut groups = group_configs(&plan.config, &plan.file, &plan.services);
        groups.retain(|config| is_told(config.group));
        let (answer, knows) = bounded(1);
        let sent = self.questions.send_timeout(ToAgent::Reconfigure(groups, answer), PATIENCE);
        match sent.ok().and_then(|()| knows.recv_timeout(PATIENCE).ok()) {
            Some(()) => Ok(()),
            None => Err("the agent takes no orders in time".into()),
        }
    }

    /// Services that have left, and of which the agent has nothing left: their places are free.
    pub(crate) fn bury(&self) {
        let is_leaving = |service: &&config::Service| service.leaving.is_some();
        if !self.config().services.iter().any(|service| service.leaving.is_some()) {
            return;
        }
        let Ok(_turn) = self.reloading.try_lock() else { return };
        let Some(agent) = self.ask_agent().and_then(|agent| agent.recv_timeout(PATIENCE).ok())
        else {
            return;
        };
        let running = self.config();
        let is_known = |group| agent.agent.groups.iter().any(|known| known.group == group);
        for service in running.services.iter().filter(is_leaving) {
            let groups: Vec<(u8, GroupId)> = running.groups_of(service).collect();
            if groups.iter().any(|(_, group)| is_known(*group)) {
                continue;
            }
            let steps: Vec<_> = groups.iter().map(|(index, _)| (*index, Step::Vacate)).collect();
            // What is not done yet is tried again at the next look.
            if Told::tell(&self.orders, self.orders.len(), &steps).finish() {
                self.forget(service, &groups);
            }
        }
    }

    fn forget(&self, service: &config::Service, groups: &[(u8, GroupId)]) {
        self.steering.depart(service.id);
        for (index, _) in groups {
            self.shared.set_group((*index).into(), GroupId::NONE);
        }
        let mut config = (*self.config()).clone();
        let at = config.services.iter().position(|known| known.id == service.id);
        let at = at.expect("nobody else changes the configuration");
        config.services.remove(at);
        self.board.reconfigure(&config);
        self.set_config(Arc::new(config));
        self.origin().services.remove(at);
        log::notice(format!(
            "{} is gone: it has left the file, and nothing of it is left",
            service.name
        ));
    }

    /// The places of retired servers to which no core has a connection left, service by service. There will be none: nobody
    /// is led to a retired server, and copies that come name it by its address. Of a core that does not answer in time
    /// nothing is known, and nothing is free.
    fn free_places(&self, running: &Config) -> Vec<Vec<usize>> {
        let has_retired = |service: &config::Service| match &service.application {
            Application::Proxy(proxy) => proxy.servers.iter().any(|server| server.is_retired),
            _ => false,
        };
        if !running.services.iter().any(has_retired) {
            return Vec::new();
        }
        let Some(cores) = self.each_core(ToCore::Servers) else { return Vec::new() };
        let of_service = |service: &config::Service| {
            let Application::Proxy(proxy) = &service.application else { return Vec::new() };
            let known = cores.iter().flatten().filter(|known| known.service == service.id);
            let is_free = |&place: &usize| {
                let at_most = |known: &Upstreams| known.servers.get(place).map(|s| s.connections);
                proxy.servers[place].is_retired
                    && known.clone().all(|known| at_most(known) == Some(0))
            };
            (0..proxy.servers.len()).filter(is_free).collect()
        };
        running.services.iter().map(of_service).collect()
    }

    /// What was sent will be done, however late: it runs from here on.
    fn adopt(&self, plan: Plan) {
        let Plan { file, config, services, steps: _ } = plan;
        self.board.reconfigure(&config);
        self.set_config(Arc::new(config));
        let mut origin = self.origin();
        (origin.config, origin.services, origin.taken) = (file, services, clock::now());
    }
}

/// A time to confirm a reload, within its bounds.
fn span_to_confirm(us: u64) -> Result<Duration, String> {
    match Duration(us.saturating_mul(1000)) {
        span if span == Duration::ZERO || span > CONFIRM_MAX => {
            let most = duration_text(CONFIRM_MAX);
            Err(format!(
                "a reload may be confirmed within {most} at most, and not nothing; nothing was changed"
            ))
        }
        span => Ok(span),
    }
}

#[cfg(test)]
mod tests;
