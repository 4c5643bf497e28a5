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
//! A server that leaves the file keeps its place until it has no connections left (`stack/src/stack/reload.rs`), so the
//! configuration that runs may have more servers than the file.

use crate::clock;
use crate::config::change::{self, in_words};
use crate::config::{self, Application, Config, Loaded, duration_text};
use crate::control::Reply;
use crate::control::status::Configuration;
use crate::log::{self, Level, Record};
use crate::node::{build_service, group_configs};
use crate::report::{PATIENCE, Reporter};
use crate::shared::{ToAgent, ToCore};
use crossbeam_channel::bounded;
use stack::service::Service;
use stack::time::{Duration, Instant};
use stack::upstream::SERVERS_MAX;
use std::path::PathBuf;
use std::sync::{Arc, MutexGuard, PoisonError};

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
    /// One reload at a time.
    pub(crate) fn origin(&self) -> MutexGuard<'_, Origin> {
        self.origin.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the file again and takes what differs; undone after `confirm_within` unless it is confirmed. The log is told.
    pub fn reload(&self, confirm_within: Option<Duration>) -> Reply {
        let reply = self.try_reload(confirm_within);
        if let Reply::Reloaded { warnings, .. } = &reply
            && !warnings.is_empty()
        {
            log::warning(warnings.trim_start_matches("warning: ").trim_end());
        }
        match &reply {
            Reply::Reloaded { changes, .. } if changes.is_empty() => {
                log::notice("reloaded: the file says what runs already");
            }
            Reply::Reloaded { changes, .. } => {
                let record =
                    Record::new(Level::Notice, format!("reloaded: {}", changes.join("; ")));
                record.with("changes", changes.len()).say();
            }
            Reply::Error { message } => log::error(format!("not reloaded: {message}")),
            _ => {}
        }
        reply
    }

    fn try_reload(&self, confirm_within: Option<Duration>) -> Reply {
        let mut origin = self.origin();
        let now = clock::now();
        if let Some(Unconfirmed { until, .. }) = &origin.unconfirmed {
            let left = Duration::from_secs(until.since(now).millis().div_ceil(1000));
            let message = format!(
                "the last reload waits to be confirmed: `understudy confirm`, or it is undone in {}",
                duration_text(left)
            );
            return Reply::Error { message };
        }
        let loaded = config::load(&origin.file);
        match self.take(&mut origin, &loaded) {
            Ok((before, changes)) => {
                let confirm_within = confirm_within.filter(|_| !changes.is_empty());
                origin.unconfirmed =
                    confirm_within.map(|span| Unconfirmed { before, until: now + span });
                let warnings = loaded.render(false);
                let confirm_within_us = confirm_within.map(Duration::micros);
                Reply::Reloaded { changes, warnings, confirm_within_us }
            }
            Err(message) => Reply::Error { message },
        }
    }

    /// The last reload stays.
    pub fn confirm(&self) -> Reply {
        match self.origin().unconfirmed.take() {
            Some(_) => Reply::Done,
            None => Reply::Error { message: "no reload waits to be confirmed".into() },
        }
    }

    /// Undoes a reload that nobody has confirmed in time.
    pub(crate) fn undo_unconfirmed(&self, now: Instant) {
        let mut origin = self.origin();
        let is_due = |wait: &mut Unconfirmed| wait.until <= now;
        let Some(Unconfirmed { before, .. }) = origin.unconfirmed.take_if(is_due) else { return };
        match self.apply(&mut origin, before) {
            Ok(()) => {
                origin.undone += 1;
                log::warning("nobody has confirmed the last reload: it is undone");
            }
            Err(error) => log::error(format!("the last reload cannot be undone: {error}")),
        }
    }

    /// Takes what the file says; answers what was before, and what has changed, in words.
    fn take(&self, origin: &mut Origin, loaded: &Loaded) -> Result<(Config, Vec<String>), String> {
        let changes = change::changes(&origin.config, loaded).map_err(|reasons| {
            let mut refused = loaded.clone();
            refused.diagnostics = reasons;
            format!("nothing was changed:\n\n{}", refused.render(false).trim_end())
        })?;
        let before = origin.config.clone();
        let Some(config) = loaded.config.clone().filter(|_| !changes.is_empty()) else {
            return Ok((before, Vec::new()));
        };
        self.apply(origin, config)?;
        origin.reloads += 1;
        Ok((before, in_words(&changes)))
    }

    /// Lets the node run under `config`, which differs from what runs only in what may change.
    fn apply(&self, origin: &mut Origin, config: Config) -> Result<(), String> {
        let running = self.config();
        let next = succeed(&running, &config)?;
        let changed: Vec<usize> =
            (0..next.services.len()).filter(|&n| next.services[n] != running.services[n]).collect();
        let mut services = origin.services.clone();
        for &n in &changed {
            let content = services[n].content.clone();
            services[n] = build_service(&next.services[n], origin.mtu, content);
        }
        // Each generation of a service has its settings.
        let groups = next.groups();
        if self.orders.iter().any(|orders| orders.is_full()) {
            return Err("a core takes no orders in time; nothing was changed".into());
        }
        let answers = self.orders.iter().map(|orders| {
            let settings = groups.iter().zip(0..).filter_map(|(group, index)| {
                let n = usize::from(group.service());
                changed.contains(&n).then(|| (index, services[n].clone()))
            });
            let settings = settings.collect();
            let (answer, replaced) = bounded(1);
            let sent = orders.send_timeout(ToCore::Reconfigure(settings, answer), PATIENCE);
            sent.map(|()| replaced).map_err(|_| "a core takes no orders any more".to_string())
        });
        let answers: Vec<_> = answers.collect::<Result<_, _>>()?;
        let settings = group_configs(&config, &groups, &services);
        let told = self.questions.send_timeout(ToAgent::Reconfigure(settings), PATIENCE);
        // What was sent will be done, however late: it runs from here on.
        self.board.reconfigure(&next);
        self.set_config(Arc::new(next));
        (origin.config, origin.services, origin.taken) = (config, services, clock::now());
        told.map_err(|_| "the agent takes no orders any more".to_string())?;
        for replaced in answers {
            drop(replaced.recv_timeout(PATIENCE));
        }
        Ok(())
    }
}

/// The configuration that runs when `next` follows `running`: servers keep their places.
fn succeed(running: &Config, next: &Config) -> Result<Config, String> {
    let mut config = next.clone();
    for (service, known) in config.services.iter_mut().zip(&running.services) {
        let (Application::Proxy(new), Application::Proxy(old)) =
            (&mut service.application, &known.application)
        else {
            continue;
        };
        new.servers = places(&old.servers, &new.servers);
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

/// The servers by their places: those that stay where they are, those that are gone retired, newcomers behind them.
fn places(running: &[config::Server], next: &[config::Server]) -> Vec<config::Server> {
    let is_same =
        |a: &config::Server, b: &config::Server| (a.address, a.port) == (b.address, b.port);
    let stays = |known: &config::Server| {
        let next = next.iter().find(|server| is_same(server, known));
        next.cloned().unwrap_or(config::Server { is_retired: true, weight: 0, ..known.clone() })
    };
    let mut servers: Vec<config::Server> = running.iter().map(stays).collect();
    let is_new = |server: &&config::Server| !running.iter().any(|known| is_same(known, server));
    servers.extend(next.iter().filter(is_new).cloned());
    servers
}
