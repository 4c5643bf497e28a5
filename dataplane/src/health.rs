//! Checks of the servers, from this node and on a thread of its own.
//!
//! ```text
//! due -> connect -> exchange -> outcome -> verdict -- changed? --> every core, and the status
//! ```
//!
//! Every node that may own a service checks its servers, owner or not: so a peer that takes over has looked itself. The checks go
//! through the kernel, from this node's own address: a service's addresses are its owner's alone, and poll cores have no time
//! for it. So they say whether a server works and this machine reaches it; that the poll cores reach its next hop is known
//! apart from that. A node whose kernel has no way to a server cannot check, says so, and changes nothing.
//!
//! What came in is looked at before a time-out counts, and a thread that was itself late gives that much more time: a busy
//! machine takes no server down. Bounds: [`CHECKS_AT_ONCE_MAX`], each for its time-out at most; a core that takes no order
//! has one verdict waiting for each server.

use crate::clock;
use crate::config::{Application, Check, Config, ProxyProtocol, duration_text};
use crate::log;
use crate::shared::ToCore;
use crossbeam_channel::Sender;
use exchange::Exchange;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use stack::time::{Duration, Instant};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use verdict::{Outcome, Rule, Verdict};

mod exchange;
pub mod verdict;

/// Checks under way at once; the next ones wait.
pub const CHECKS_AT_ONCE_MAX: usize = 256;

/// One that waits is looked at again after so long.
const AGAIN: Duration = Duration::from_millis(10);

/// Longest time between two looks at whether to end, and at cores that took no order.
const LOOK: Duration = Duration::from_millis(100);

/// Who looks so much too late has been late itself.
const LATE: Duration = Duration::from_millis(20);

/// The first checks are spread over so long, or one interval.
const SPREAD: Duration = Duration::from_secs(1);

/// What is known of the servers, for the status, and what a reload has made of them.
pub struct Board {
    known: Mutex<Vec<Vec<Checked>>>,
    /// What is to be checked from now on.
    wanted: Mutex<Option<Vec<Target>>>,
}

/// What is known of one server.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    /// What this node makes of it.
    pub verdict: Verdict,
    /// When the last check ended, how long it took and what came of it.
    pub last: Option<(Instant, Duration, Outcome)>,
    /// Checks passed.
    pub passed: u64,
    /// Checks failed.
    pub failed: u64,
}

impl Board {
    fn new(targets: &[Target]) -> Board {
        Board { known: Mutex::new(blank(targets)), wanted: Mutex::new(None) }
    }

    /// The servers are those of this configuration from now on.
    pub fn reconfigure(&self, config: &Config) {
        *self.wanted.lock().unwrap_or_else(PoisonError::into_inner) = Some(targets(config));
    }

    /// The servers of the service in this place; none if they are not checked here.
    pub fn service(&self, service: usize) -> Vec<Checked> {
        self.lock().get(service).cloned().unwrap_or_default()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Vec<Checked>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place for each server that is checked, by that of its service and its own.
fn blank(targets: &[Target]) -> Vec<Vec<Checked>> {
    let mut known: Vec<Vec<Checked>> = Vec::new();
    for target in targets {
        let (service, server) = (target.service, target.server as usize);
        known.resize_with(known.len().max(service + 1), Vec::new);
        let servers = known[service].len().max(server + 1);
        known[service].resize_with(servers, Checked::default);
    }
    known
}

/// Checks until `stopping` is set; answers where the results are. A proxied service may come later.
pub fn start(
    config: &Config,
    orders: Vec<Sender<ToCore>>,
    stopping: Arc<AtomicBool>,
) -> io::Result<(Arc<Board>, thread::JoinHandle<()>)> {
    let targets = targets(config);
    let board = Arc::new(Board::new(&targets));
    let mut checker = Checker::new(clock::now(), targets, board.clone(), orders)?;
    let run = move || {
        while !stopping.load(Ordering::Relaxed) {
            if let Err(error) = checker.round() {
                log::error(format!("the checks of the servers have ended: {error}"));
                return;
            }
        }
    };
    let thread = thread::Builder::new().name("health".into()).spawn(run)?;
    Ok((board, thread))
}

/// What this node checks: the servers of services that it may come to own.
fn targets(config: &Config) -> Vec<Target> {
    let mut targets = Vec::new();
    for settings in &config.services {
        let may_own = settings.home == config.node.id || settings.peers.contains(&config.node.id);
        let Application::Proxy(proxy) = &settings.application else { continue };
        let Some(check) = proxy.check.as_ref().filter(|_| may_own) else { continue };
        let (id, settings_place) = (settings.id, usize::from(settings.place));
        for (server, settings) in proxy.servers.iter().enumerate().filter(|(_, s)| !s.is_retired) {
            let port = check.port.unwrap_or(settings.port);
            targets.push(Target {
                service: settings_place,
                id,
                server: server as u16,
                address: SocketAddr::new(settings.address, port),
                authority: SocketAddr::new(settings.address, settings.port).to_string(),
                check: (**check).clone(),
                header: proxy.proxy_protocol,
                began: Instant::ZERO,
                due: Instant::ZERO,
                attempt: None,
            });
        }
    }
    targets
}

/// One server that is checked.
struct Target {
    /// The place of the service.
    service: usize,
    /// Its id.
    id: u32,
    server: u16,
    address: SocketAddr,
    authority: String,
    check: Check,
    header: Option<ProxyProtocol>,
    /// When the last check began.
    began: Instant,
    /// When the check under way is over, or the next one begins.
    due: Instant,
    attempt: Option<Attempt>,
}

/// A check under way.
struct Attempt {
    stream: TcpStream,
    exchange: Exchange,
    is_connected: bool,
    /// It was given more time, because this thread was late.
    is_prolonged: bool,
}

/// Servers that are up (`true`) or down, by the id of the service and server: the newest that is known of each.
type News = BTreeMap<u32, BTreeMap<u16, bool>>;

struct Checker {
    poll: Poll,
    events: Events,
    targets: Vec<Target>,
    /// Every target, by when it is due.
    due: BTreeSet<(Instant, usize)>,
    running: usize,
    board: Arc<Board>,
    orders: Vec<Sender<ToCore>>,
    /// What has yet to be told, core by core.
    news: Vec<News>,
}

impl Checker {
    fn new(
        now: Instant,
        mut targets: Vec<Target>,
        board: Arc<Board>,
        orders: Vec<Sender<ToCore>>,
    ) -> io::Result<Checker> {
        let count = targets.len().max(1) as u64;
        for (n, target) in (0..).zip(&mut targets) {
            target.due = now + Duration(target.check.interval.min(SPREAD).0 / count * n);
        }
        Ok(Checker {
            poll: Poll::new()?,
            events: Events::with_capacity(CHECKS_AT_ONCE_MAX),
            due: targets.iter().enumerate().map(|(n, target)| (target.due, n)).collect(),
            targets,
            running: 0,
            board,
            news: orders.iter().map(|_| News::new()).collect(),
            orders,
        })
    }

    /// Waits until something happens or is due, and does it.
    fn round(&mut self) -> io::Result<()> {
        let next = self.due.first().map_or(LOOK, |(at, _)| at.since(clock::now()));
        let wait = std::time::Duration::from_nanos(next.min(LOOK).0);
        match self.poll.poll(&mut self.events, Some(wait)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        let now = clock::now();
        if let Some(wanted) = self.take_wanted() {
            return self.replace(now, wanted);
        }
        let ready: Vec<usize> = self.events.iter().map(|event| event.token().0).collect();
        let mut changed = Vec::new();
        for n in ready {
            let attempt = self.targets[n].attempt.as_mut();
            if let Some(outcome) = attempt.and_then(Attempt::advance) {
                changed.extend(self.conclude(now, n, outcome));
            }
        }
        while let Some((at, n)) = self.due.first().copied().filter(|(at, _)| *at <= now) {
            match &mut self.targets[n].attempt {
                Some(attempt) if now.since(at) > LATE && !attempt.is_prolonged => {
                    attempt.is_prolonged = true;
                    let more = now.since(at).min(self.targets[n].check.timeout);
                    self.set_due(n, now + more);
                }
                Some(_) => {
                    let within = duration_text(self.targets[n].check.timeout);
                    let outcome = Outcome::Failed(format!("no answer within {within}"));
                    changed.extend(self.conclude(now, n, outcome));
                }
                None if self.running == CHECKS_AT_ONCE_MAX => self.set_due(n, now + AGAIN),
                None => changed.extend(self.begin(now, n)),
            }
        }
        self.spread_news(&changed);
        Ok(())
    }

    fn take_wanted(&self) -> Option<Vec<Target>> {
        self.board.wanted.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Checks these from now on. Servers that stay keep their verdicts; one that is not checked any more counts as up.
    fn replace(&mut self, now: Instant, mut targets: Vec<Target>) -> io::Result<()> {
        let mut known = blank(&targets);
        let mut lost: Vec<(u32, u16, bool)> = Vec::new();
        for old in &self.targets {
            let (service, server) = (old.service, old.server as usize);
            let checked = std::mem::take(&mut self.board.lock()[service][server]);
            let is_it = |new: &&mut Target| {
                (new.id, new.server, &new.authority) == (old.id, old.server, &old.authority)
            };
            match targets.iter_mut().find(is_it) {
                Some(new) => {
                    new.due = if old.attempt.is_some() { now } else { old.due };
                    known[service][server] = checked;
                }
                None if checked.verdict.is_up() == Some(false) => {
                    lost.push((old.id, old.server, true));
                }
                None => {}
            }
        }
        targets.iter_mut().for_each(|target| target.due = target.due.max(now));
        *self.board.lock() = known;
        self.due = targets.iter().enumerate().map(|(n, target)| (target.due, n)).collect();
        // What was under way is closed with the old ones.
        (self.targets, self.running) = (targets, 0);
        self.spread_news(&lost);
        Ok(())
    }

    fn set_due(&mut self, n: usize, at: Instant) {
        let target = &mut self.targets[n];
        self.due.remove(&(target.due, n));
        target.due = at;
        self.due.insert((at, n));
    }

    /// Begins a check; what changed if it is over at once.
    fn begin(&mut self, now: Instant, n: usize) -> Option<(u32, u16, bool)> {
        let target = &mut self.targets[n];
        target.began = now;
        let stream = TcpStream::connect(target.address).and_then(|mut stream| {
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut stream, Token(n), interest)?;
            Ok(stream)
        });
        match stream {
            Ok(stream) => {
                let exchange = Exchange::new(&target.check, target.header, &target.authority);
                let (is_connected, is_prolonged) = (false, false);
                target.attempt = Some(Attempt { stream, exchange, is_connected, is_prolonged });
                let deadline = now + target.check.timeout;
                self.running += 1;
                self.set_due(n, deadline);
                None
            }
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                self.conclude(now, n, Outcome::Failed(in_words(&error)))
            }
            // Nothing has left this machine: that is nobody's fault but its own.
            Err(error) => self.conclude(now, n, Outcome::Unable(error.to_string())),
        }
    }

    /// A check is over; what changed by that.
    fn conclude(&mut self, now: Instant, n: usize, outcome: Outcome) -> Option<(u32, u16, bool)> {
        let target = &mut self.targets[n];
        self.running -= target.attempt.take().is_some() as usize;
        let rule = Rule {
            rise: target.check.rise,
            fall: target.check.fall,
            interval: target.check.interval,
            fast_interval: target.check.fast_interval,
        };
        let (service, id) = (target.service, target.id);
        let (server, began) = (target.server, target.began);
        let mut board = self.board.lock();
        let checked = &mut board[service][server as usize];
        let before = checked.verdict;
        checked.verdict = before.after(&rule, &outcome);
        checked.passed += matches!(outcome, Outcome::Passed(_)) as u64;
        checked.failed += matches!(outcome, Outcome::Failed(_)) as u64;
        checked.last = Some((now, now.since(began), outcome));
        let verdict = checked.verdict;
        drop(board);
        self.set_due(n, (began + verdict.interval(&rule)).max(now));
        let is_up = verdict.is_up().filter(|_| verdict.is_up() != before.is_up())?;
        Some((id, server, is_up))
    }

    /// Tells every core what has changed, as soon as it takes the order.
    fn spread_news(&mut self, changed: &[(u32, u16, bool)]) {
        for (core, news) in self.orders.iter().zip(&mut self.news) {
            for &(service, server, is_up) in changed {
                news.entry(service).or_default().insert(server, is_up);
            }
            while let Some(service) = news.first_entry() {
                let verdicts = service.get().iter().map(|(server, is_up)| (*server, *is_up));
                let order = ToCore::Verdicts(*service.key(), verdicts.collect());
                if core.try_send(order).is_err() {
                    break;
                }
                service.remove();
            }
        }
    }
}

impl Attempt {
    /// Goes on as far as the socket allows; the outcome if there is one.
    fn advance(&mut self) -> Option<Outcome> {
        match self.try_advance() {
            Ok(outcome) => outcome,
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => Some(Outcome::Failed(in_words(&error))),
        }
    }

    fn try_advance(&mut self) -> io::Result<Option<Outcome>> {
        if !self.is_connected {
            if let Some(error) = self.stream.take_error()? {
                return Err(error);
            }
            match self.stream.peer_addr() {
                Err(error) if error.kind() == ErrorKind::NotConnected => return Ok(None),
                peer => peer.map(drop)?,
            }
            self.is_connected = true;
            if let Some(outcome) = self.exchange.handle_connected() {
                return Ok(Some(outcome));
            }
        }
        while !self.exchange.say().is_empty() {
            let bytes = self.stream.write(self.exchange.say())?;
            self.exchange.said(bytes);
        }
        let mut buffer = [0; 1024];
        loop {
            match self.stream.read(&mut buffer)? {
                0 => return Ok(Some(self.exchange.handle_end())),
                bytes => {
                    if let Some(outcome) = self.exchange.hear(&buffer[..bytes]) {
                        return Ok(Some(outcome));
                    }
                }
            }
        }
    }
}

fn in_words(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::ConnectionRefused => "connection refused".into(),
        ErrorKind::ConnectionReset => "connection reset".into(),
        ErrorKind::HostUnreachable => "nobody answers for its address".into(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests;
