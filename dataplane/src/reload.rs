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
//! Every core takes the settings or none does: if one takes no order in time, those that were told are told to go back.

use crate::clock;
use crate::config::change::{self, in_words};
use crate::config::{self, Application, Config, Loaded, duration_text};
use crate::control::status::Configuration;
use crate::control::{CONFIRM_MAX, Reply};
use crate::log::{self, Level, Record};
use crate::node::{build_service, group_configs};
use crate::report::{PATIENCE, Reporter};
use crate::shared::{Settings, ToAgent, ToCore, Upstreams};
use crossbeam_channel::{Receiver, Sender, bounded};
use stack::service::Service;
use stack::shard::Place;
use stack::stack::Renewal;
use stack::time::{Duration, Instant};
use stack::upstream::SERVERS_MAX;
use std::path::PathBuf;
use std::sync::{Arc, MutexGuard, PoisonError};

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
    /// MTU of the client side.
    mtu: usize,
    /// When the configuration was taken.
    taken: Instant,
    reloads: u64,
    undone: u64,
    unconfirmed: Option<Unconfirmed>,
}

/// A reload that is undone unless somebody confirms it.
struct Unconfirmed {
    before: Config,
    until: Instant,
}

impl Origin {
    /// The node has started with this configuration out of `file`.
    pub fn new(file: PathBuf, config: Config, services: Vec<Service>, mtu: usize) -> Origin {
        let taken = clock::now();
        let (reloads, undone, unconfirmed) = (0, 0, None);
        Origin { file, config, services, mtu, taken, reloads, undone, unconfirmed }
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
        let changes = change::changes(&before, loaded).map_err(|reasons| {
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
        let (before, services, mtu) = {
            let origin = self.origin();
            (origin.config.clone(), origin.services.clone(), origin.mtu)
        };
        let running = self.config();
        let next = Plan::new(&running, file, &services, mtu, &self.free_places(&running))?;
        let told = Told::tell(&self.orders, self.orders.len(), &next.settings);
        let late = match told.late {
            Some(core) => format!("poll core {core} takes no orders in time"),
            None => {
                let groups = group_configs(&next.file, &next.config.groups(), &next.services);
                match self.questions.send_timeout(ToAgent::Reconfigure(groups), PATIENCE) {
                    Ok(()) => {
                        self.adopt(next);
                        told.finish();
                        return Ok(());
                    }
                    Err(_) => "the agent takes no orders in time".into(),
                }
            }
        };
        let cores = told.replaced.len();
        if cores == 0 {
            return Err(format!("{late}; nothing was changed"));
        }
        let back = Plan::new(&next.config, before, &next.services, mtu, &[])?;
        let told_back = Told::tell(&self.orders, cores, &back.settings);
        told.finish();
        if let Some(core) = told_back.late {
            self.adopt(next);
            return Err(format!(
                "{late}, and poll core {core} could not be told to go back: they differ in what they serve. Restart this node"
            ));
        }
        // Newcomers among the servers keep the places that they were given.
        self.adopt(back);
        told_back.finish();
        Err(format!("{late}; nothing was changed"))
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
        let Plan { file, config, services, settings: _ } = plan;
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

/// What shall run, and what the cores are told of it.
struct Plan {
    file: Config,
    config: Config,
    services: Vec<Service>,
    /// Of the services that differ, by the indices of their groups.
    settings: Vec<(u8, Service)>,
}

impl Plan {
    /// What the file says, where `running` and `services` are what runs. `free` has the places of retired servers without
    /// connections, service by service.
    fn new(
        running: &Config,
        file: Config,
        services: &[Service],
        mtu: usize,
        free: &[Vec<usize>],
    ) -> Result<Plan, String> {
        let config = succeed(running, &file, free)?;
        let is_changed = |n: usize| config.services[n] != running.services[n];
        let mut services = services.to_vec();
        for (n, service) in services.iter_mut().enumerate().filter(|(n, _)| is_changed(*n)) {
            *service = build_service(&config.services[n], mtu, service.content.clone());
        }
        // Each generation of a service has its settings.
        let groups = config.groups();
        let settings = groups.iter().zip(0..).filter_map(|(group, index)| {
            let n = config.position(*group)?;
            is_changed(n).then(|| (index, services[n].clone()))
        });
        let settings = settings.collect();
        Ok(Plan { file, config, services, settings })
    }
}

/// Cores that were told of other settings.
struct Told {
    /// What the settings replace is given back, to be freed here.
    replaced: Vec<Receiver<Settings>>,
    /// The core that took no order in time; those after it were told nothing.
    late: Option<usize>,
}

impl Told {
    /// Tells the first `count` of all cores. What each needs for the settings is made here: it has no time for that.
    fn tell(cores: &[Sender<ToCore>], count: usize, settings: &[(u8, Service)]) -> Told {
        let mut replaced = Vec::with_capacity(count);
        let late = cores[..count].iter().zip(0..).position(|(orders, core)| {
            let place = Place { core, cores: cores.len() as u8 };
            let renewed =
                |(group, service): &(u8, Service)| (*group, Renewal::new(service.clone(), place));
            let settings: Settings = settings.iter().map(renewed).collect();
            let (answer, given_back) = bounded(1);
            replaced.push(given_back);
            orders.send_timeout(ToCore::Reconfigure(settings, answer), PATIENCE).is_err()
        });
        replaced.truncate(late.unwrap_or(count));
        Told { replaced, late }
    }

    /// Waits for what was replaced, and frees it.
    fn finish(self) {
        for replaced in self.replaced {
            drop(replaced.recv_timeout(PATIENCE));
        }
    }
}

/// The configuration that runs when `next` follows `running`: services and servers keep their places.
fn succeed(running: &Config, next: &Config, free: &[Vec<usize>]) -> Result<Config, String> {
    let mut config = next.clone();
    // Whatever the order in the file: each service keeps its place.
    let place =
        |service: &config::Service| running.services.iter().position(|s| s.id == service.id);
    config.services.sort_by_key(place);
    for (n, (service, known)) in config.services.iter_mut().zip(&running.services).enumerate() {
        let (Application::Proxy(new), Application::Proxy(old)) =
            (&mut service.application, &known.application)
        else {
            continue;
        };
        new.servers = places(&old.servers, &new.servers, free.get(n).map_or(&[], Vec::as_slice));
        if new.servers.len() > SERVERS_MAX {
            return Err(format!(
                "{} has no place for more servers: {SERVERS_MAX} at most, and those that have left keep theirs while \
                 they have connections; nothing was changed",
                service.name
            ));
        }
    }
    Ok(config)
}

/// The servers by their places: those that stay where they are, those that are gone retired, newcomers in places that
/// are `free` or behind them.
fn places(
    running: &[config::Server],
    next: &[config::Server],
    free: &[usize],
) -> Vec<config::Server> {
    let is_same =
        |a: &config::Server, b: &config::Server| (a.address, a.port) == (b.address, b.port);
    let stays = |known: &config::Server| {
        let next = next.iter().find(|server| is_same(server, known));
        next.cloned().unwrap_or(config::Server { is_retired: true, weight: 0, ..known.clone() })
    };
    let mut servers: Vec<config::Server> = running.iter().map(stays).collect();
    let is_new = |server: &&config::Server| !running.iter().any(|known| is_same(known, server));
    // One that has come back has its place again.
    let free = free.iter().copied().filter(|&place| servers[place].is_retired);
    let mut free = free.collect::<Vec<_>>().into_iter();
    for newcomer in next.iter().filter(is_new).cloned() {
        match free.next() {
            Some(place) => servers[place] = newcomer,
            None => servers.push(newcomer),
        }
    }
    servers
}

#[cfg(test)]
mod tests;
