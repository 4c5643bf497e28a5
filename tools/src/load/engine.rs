//! The loop that drives all connections: events as they come, a tick every millisecond.

use std::collections::VecDeque;
use std::io::Write;
use std::net::SocketAddrV4;

use anyhow::Context;
use hdrhistogram::Histogram;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::RunArgs;
use super::download::Download;
use super::echo::Echo;
use super::fresh::Fresh;
use super::report::{ConnectionReport, Kind, Line, LoadResult, Outcome, Percentiles, Progress};
use super::series::Series;
use super::track::Track;
use super::upload::Upload;
use super::wire::{Wire, monotonic_ns};

const TICK_NS: u64 = 1_000_000;
const PROGRESS_NS: u64 = 200_000_000;
const SECOND_NS: u64 = 1_000_000_000;

/// Time between the first steps of two connections, so that they do not come as one burst.
const STAGGER_NS: u64 = 2_000_000;

/// After the planned end a connection that stands still for so long is given up; one that moves may finish.
const GRACE_NS: u64 = 20 * SECOND_NS;

/// But not for ever.
const LATE_NS_MAX: u64 = 300 * SECOND_NS;

/// Fresh connections under way at most; more are not opened until some have ended.
const FRESH_MAX: usize = 2_048;

/// Body of the answer to a fresh connection.
const FRESH_SIZE: u64 = 256;

const HTTP_PORT: u16 = 80;
const ECHO_PORT: u16 = 7;

/// One connection as the engine sees it.
pub trait Exchange {
    /// The socket, while there is one.
    fn wire(&self) -> Option<&Wire>;
    /// Something happened on the socket (edge-triggered).
    fn ready(&mut self, now: u64, bench: &mut Bench);
    /// A millisecond or more has passed.
    fn tick(&mut self, now: u64, bench: &mut Bench);
    /// What is known of it.
    fn track(&self) -> &Track;
    /// What is known of it, at its end.
    fn into_track(self: Box<Self>) -> Track;
}

/// What the connections share.
pub struct Bench {
    /// Scratch space for one read or write.
    pub buffer: Vec<u8>,
    /// Goodput over time.
    pub series: Series,
    echo_rtt: Histogram<u64>,
}

impl Bench {
    /// Notes one round trip.
    pub fn echo_rtt(&mut self, ns: u64) {
        self.echo_rtt.saturating_record(ns);
    }
}

/// A connection to be opened.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// When.
    pub at_ns: u64,
    /// Which kind.
    pub kind: Kind,
    /// Its number; also the seed of its bytes.
    pub id: u64,
    /// Bytes of its object.
    pub size: u64,
    /// Bytes per second.
    pub rate: u64,
    /// Time between two looks at whether more is due.
    pub pace_ns: u64,
    /// Whether the server paces a download, not the reading of it.
    pub is_server_paced: bool,
    /// Receive buffer, if not one that fits the rate.
    pub receive_buffer: Option<usize>,
}

impl Plan {
    /// A connection that takes what it can get.
    fn unpaced(at_ns: u64, kind: Kind, id: u64, size: u64) -> Plan {
        let (rate, pace_ns, is_server_paced, receive_buffer) = (0, 0, false, None);
        Plan { at_ns, kind, id, size, rate, pace_ns, is_server_paced, receive_buffer }
    }
}

/// Drives the load that `args` describe and hands on every line of its report; the last of them, as well.
pub fn run(
    args: &RunArgs,
    tell: impl Fn(&Line) -> anyhow::Result<()>,
) -> anyhow::Result<LoadResult> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    let mut engine = Engine::new(monotonic_ns(), args)?;
    while !engine.is_over(monotonic_ns()) {
        engine.step(&tell)?;
    }
    let line = Line::Result(Box::new(engine.finish()));
    tell(&line)?;
    match line {
        Line::Result(result) => Ok(*result),
        Line::Progress(_) => unreachable!("made above"),
    }
}

struct Engine {
    args: RunArgs,
    epoll: Epoll,
    bench: Bench,
    plans: VecDeque<Plan>,
    slots: Vec<Option<Box<dyn Exchange>>>,
    free: Vec<usize>,
    done: Vec<ConnectionReport>,
    fresh_open: usize,
    fresh_at_ns: u64,
    fresh_id: u64,
    end_ns: u64,
    tick_at_ns: u64,
    progress_at_ns: u64,
}

impl Engine {
    fn new(now: u64, args: &RunArgs) -> anyhow::Result<Engine> {
        let bench = Bench {
            buffer: vec![0; 64 * 1024],
            series: Series::new(now),
            echo_rtt: Histogram::new_with_bounds(1_000, 60 * SECOND_NS, 3)?,
        };
        Ok(Engine {
            args: args.clone(),
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            bench,
            plans: plan(now, args),
            slots: Vec::new(),
            free: Vec::new(),
            done: Vec::new(),
            fresh_open: 0,
            fresh_at_ns: now,
            fresh_id: 1_000_000,
            end_ns: now + args.seconds * SECOND_NS,
            tick_at_ns: now,
            progress_at_ns: now,
        })
    }

    fn is_over(&self, now: u64) -> bool {
        let idle = self.free.len() == self.slots.len() && self.plans.is_empty();
        if now < self.end_ns + GRACE_NS {
            return idle && now >= self.end_ns;
        }
        let mut open = self.slots.iter().flatten().map(|exchange| exchange.track());
        now >= self.end_ns + LATE_NS_MAX || !open.any(|track| now < track.moved_ns() + GRACE_NS)
    }

    fn step(&mut self, tell: impl Fn(&Line) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let mut events = [EpollEvent::empty(); 256];
        let count = match self.epoll.wait(&mut events, EpollTimeout::from(1u8)) {
            Ok(count) => count,
            Err(nix::errno::Errno::EINTR) => 0,
            Err(errno) => return Err(errno).context("waiting for sockets"),
        };
        for event in &events[..count] {
            let slot = event.data() as usize;
            // Read anew for each: handling hundreds of events takes its time.
            let now = monotonic_ns();
            if let Some(exchange) = self.slots.get_mut(slot).and_then(Option::as_mut) {
                exchange.ready(now, &mut self.bench);
                self.settle(now, slot);
            }
        }
        let now = monotonic_ns();
        if now >= self.tick_at_ns {
            self.tick_at_ns = now + TICK_NS;
            self.tick(now)?;
        }
        if now >= self.progress_at_ns {
            self.progress_at_ns = now + PROGRESS_NS;
            tell(&Line::Progress(self.progress(now)))?;
        }
        Ok(())
    }

    fn tick(&mut self, now: u64) -> anyhow::Result<()> {
        for slot in 0..self.slots.len() {
            if let Some(exchange) = &mut self.slots[slot] {
                exchange.tick(now, &mut self.bench);
                self.settle(now, slot);
            }
        }
        while let Some(plan) = self.plans.front().copied().filter(|plan| plan.at_ns <= now) {
            self.plans.pop_front();
            self.open(now, &plan)?;
        }
        let every_ns = self.args.fresh_every_ms * TICK_NS;
        if every_ns > 0 && now >= self.fresh_at_ns && now < self.end_ns {
            self.fresh_at_ns = (self.fresh_at_ns + every_ns).max(now - every_ns);
            if self.fresh_open < FRESH_MAX {
                self.fresh_id += 1;
                self.fresh_open += 1;
                self.open(now, &Plan::unpaced(now, Kind::Fresh, self.fresh_id, FRESH_SIZE))?;
            }
        }
        Ok(())
    }

    fn open(&mut self, now: u64, plan: &Plan) -> anyhow::Result<()> {
        let http = SocketAddrV4::new(self.args.target, HTTP_PORT);
        let echo = self.args.echo_target.unwrap_or(self.args.target);
        let echo = SocketAddrV4::new(echo, ECHO_PORT);
        let exchange: Box<dyn Exchange> = match plan.kind {
            Kind::Download | Kind::BulkDownload => Box::new(Download::begin(now, plan, http)),
            Kind::Upload | Kind::BulkUpload => Box::new(Upload::begin(now, plan, http)),
            Kind::Echo => Box::new(Echo::begin(now, plan, echo, self.end_ns)),
            Kind::Fresh => Box::new(Fresh::begin(now, plan, http)),
            Kind::Redis | Kind::Ssh | Kind::WebSocket => {
                unreachable!("the demo holds its dialogues itself")
            }
        };
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        if let Some(wire) = exchange.wire() {
            let flags = EpollFlags::EPOLLIN
                | EpollFlags::EPOLLOUT
                | EpollFlags::EPOLLRDHUP
                | EpollFlags::EPOLLET;
            self.epoll.add(wire, EpollEvent::new(flags, slot as u64))?;
        }
        self.slots[slot] = Some(exchange);
        self.settle(now, slot);
        Ok(())
    }

    /// Takes a connection that has ended out of its slot.
    fn settle(&mut self, now: u64, slot: usize) {
        let over = self.slots[slot].take_if(|exchange| exchange.track().is_over());
        if let Some(exchange) = over {
            let track = exchange.into_track();
            self.fresh_open -= usize::from(track.kind == Kind::Fresh);
            self.done.push(track.report(now));
            self.free.push(slot);
        }
    }

    fn progress(&self, now: u64) -> Progress {
        let args = &self.args;
        let wanted =
            args.downloads + args.uploads + args.bulk_downloads + args.bulk_uploads + args.echo;
        let wanted = u64::from(wanted);
        let mut progress = Progress { at_ns: now, wanted, ..Progress::default() };
        for done in &self.done {
            let survived = done.outcome == Outcome::Survived;
            progress.failed += u64::from(!survived);
            progress.bytes += done.bytes;
            match done.kind {
                Kind::Fresh => progress.fresh += u64::from(survived),
                _ => {
                    progress.survived += u64::from(survived);
                    progress.active += u64::from(done.bytes > 0);
                }
            }
        }
        for exchange in self.slots.iter().flatten() {
            let track = exchange.track();
            progress.bytes += track.bytes;
            progress.active += u64::from(track.kind != Kind::Fresh && track.bytes > 0);
        }
        progress
    }

    fn finish(mut self) -> LoadResult {
        let now = monotonic_ns();
        let open = self.slots.into_iter().flatten();
        self.done.extend(open.map(|exchange| exchange.into_track().report(now)));
        let rtt = &self.bench.echo_rtt;
        let echo_rtt_ns = Percentiles {
            count: rtt.len(),
            p50: rtt.value_at_quantile(0.5),
            p99: rtt.value_at_quantile(0.99),
            max: rtt.max(),
        };
        let (connections, series) = (self.done, self.bench.series);
        LoadResult { connections, echo_rtt_ns, series }
    }
}

/// The connections that last, in the order of opening: kinds mixed, so that the stagger favours
/// none.
fn plan(now: u64, args: &RunArgs) -> VecDeque<Plan> {
    let slow = args.rate;
    let fast = args.bulk_rate;
    let mut wanted = [
        (Kind::BulkDownload, args.bulk_downloads, fast),
        (Kind::BulkUpload, args.bulk_uploads, fast),
        (Kind::Echo, args.echo, 0),
        (Kind::Download, args.downloads, slow),
        (Kind::Upload, args.uploads, slow),
    ];
    let mut plans = VecDeque::new();
    while wanted.iter().any(|(_, left, _)| *left > 0) {
        for (kind, left, rate) in wanted.iter_mut().filter(|(_, left, _)| *left > 0) {
            *left -= 1;
            let id = plans.len() as u64 + 1;
            let size = (*rate * args.seconds).max(1);
            let is_server_paced = *kind == Kind::Download && args.server_pace_ms > 0;
            let pace_ms = if is_server_paced { args.server_pace_ms } else { args.pace_ms };
            plans.push_back(Plan {
                rate: *rate,
                pace_ns: pace_ms * 1_000_000,
                is_server_paced,
                receive_buffer: args.receive_buffer,
                ..Plan::unpaced(now + id * STAGGER_NS, *kind, id, size)
            });
        }
    }
    plans
}

/// Writes a line of JSON to standard output.
pub fn emit(line: &Line) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, line)?;
    out.write_all(b"\n")?;
    out.flush().context("writing the report")
}
