//! The loop that drives exchanges: what is due begins on a free connection, events end it.
//!
//! A connection of `connect` is used once: its answer counts when its last byte is here, and the connection is free for
//! the next one when the server has closed it. What is due while no connection is free waits, and its time runs.
//!
//! Bounds: as many connections as were asked for; after the end of the run, [`GRACE_NS`] for what is under way.

use std::collections::VecDeque;
use std::net::SocketAddrV4;
use std::os::fd::AsFd;

use anyhow::{Context, bail, ensure};
use hdrhistogram::Histogram;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use super::LoadArgs;
use super::lane::{Lane, Talk, Turn};
use super::schedule::Schedule;
use crate::load::wire::monotonic_ns;

/// Behind the end of the run, so long is waited for answers.
const GRACE_NS: u64 = 2_000_000_000;

/// More failures end the run.
const FAILURES_MAX: u64 = 10_000;

/// Latencies up to a minute are told apart.
const LATENCY_MAX_NS: u64 = 60_000_000_000;

/// Most sleep between two looks at the clock, in milliseconds.
const LOOK_EVERY_MS: u8 = 10;

/// The event of the timer among those of the connections.
const TIMER: u64 = u64::MAX;

/// What a run came to.
#[derive(Debug)]
pub struct Measured {
    /// Latencies of the exchanges that ended within the measured time, and of those that never did.
    pub latency: Histogram<u64>,
    /// Exchanges that ended well within the measured time.
    pub counted: u64,
    /// Exchanges that ended well, warming up included.
    pub completed: u64,
    /// Exchanges that went wrong.
    pub failed: u64,
    /// Exchanges that were due and had not ended when the run was over.
    pub unfinished: u64,
    /// Why the first one failed.
    pub first_failure: Option<String>,
}

/// Drives `connections` clients of this talk.
pub fn run(args: &LoadArgs, talk: Talk, connections: u32) -> anyhow::Result<Measured> {
    raise_descriptors(u64::from(connections))?;
    let start = monotonic_ns();
    let warm_until_ns = start + args.warm_ms * 1_000_000;
    let end_ns = warm_until_ns + args.ms * 1_000_000;
    let schedule = Schedule::new(start, end_ns, args.rate);
    let mut pool = Pool::new(args.target, talk, connections, schedule)?;
    pool.counts = (warm_until_ns, end_ns);
    pool.run()
}

/// Lets this process hold so many connections.
pub fn raise_descriptors(connections: u64) -> anyhow::Result<()> {
    /// Standard streams, timers and the like.
    const OTHERS: u64 = 64;
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    ensure!(
        connections + OTHERS <= hard,
        "{connections} connections are more than this process may hold ({hard}); raise `ulimit -Hn`"
    );
    Ok(setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?)
}

struct Pool {
    target: SocketAddrV4,
    talk: Talk,
    epoll: Epoll,
    timer: TimerFd,
    lanes: Vec<Option<Lane>>,
    /// Lanes on which nothing is under way.
    free: VecDeque<usize>,
    schedule: Schedule,
    /// What ends between these times counts.
    counts: (u64, u64),
    number: u64,
    buffer: Vec<u8>,
    measured: Measured,
}

impl Pool {
    fn new(
        target: SocketAddrV4,
        talk: Talk,
        connections: u32,
        schedule: Schedule,
    ) -> anyhow::Result<Pool> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        epoll.add(timer.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, TIMER))?;
        Ok(Pool {
            target,
            talk,
            epoll,
            timer,
            lanes: (0..connections).map(|_| None).collect(),
            free: (0..connections as usize).collect(),
            schedule,
            counts: (0, 0),
            number: 0,
            buffer: vec![0; 64 * 1024],
            measured: Measured {
                latency: Histogram::new_with_bounds(1_000, LATENCY_MAX_NS, 3)?,
                counted: 0,
                completed: 0,
                failed: 0,
                unfinished: 0,
                first_failure: None,
            },
        })
    }

    fn run(mut self) -> anyhow::Result<Measured> {
        let mut events = [EpollEvent::empty(); 256];
        loop {
            let now = monotonic_ns();
            self.begin_due(now)?;
            if self.measured.failed > FAILURES_MAX {
                let why = self.measured.first_failure.unwrap_or_default();
                bail!("more than {FAILURES_MAX} exchanges failed; the first: {why}");
            }
            let is_idle = self.free.len() == self.lanes.len();
            if (now >= self.counts.1 && is_idle) || now >= self.counts.1 + GRACE_NS {
                return Ok(self.conclude(now));
            }
            self.set_timer()?;
            let count = match self.epoll.wait(&mut events, EpollTimeout::from(LOOK_EVERY_MS)) {
                Ok(count) => count,
                Err(Errno::EINTR) => 0,
                Err(errno) => return Err(errno).context("waiting for sockets"),
            };
            for event in events[..count].iter().filter(|event| event.data() != TIMER) {
                self.handle(event.data() as usize);
            }
        }
    }

    /// Wakes this loop when the next exchange is due, if a connection is free for it.
    fn set_timer(&mut self) -> anyhow::Result<()> {
        let Some(at) = self.schedule.next_ns().filter(|_| !self.free.is_empty()) else {
            return Ok(self.timer.unset()?);
        };
        let at = TimeSpec::from_duration(std::time::Duration::from_nanos(at));
        let flags = TimerSetTimeFlags::TFD_TIMER_ABSTIME;
        Ok(self.timer.set(Expiration::OneShot(at), flags)?)
    }

    fn begin_due(&mut self, now: u64) -> anyhow::Result<()> {
        // A closed loop is always due: each free connection begins once.
        for _ in 0..self.free.len() {
            let Some(due) = self.schedule.poll_due(now) else { break };
            let slot = self.free.pop_front().expect("as many as there were");
            self.begin(slot, due)?;
        }
        Ok(())
    }

    fn begin(&mut self, slot: usize, due: u64) -> anyhow::Result<()> {
        if self.lanes[slot].is_none() {
            let lane = Lane::connect(self.target).context("cannot open a connection")?;
            let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLRDHUP;
            let event = EpollEvent::new(flags | EpollFlags::EPOLLET, slot as u64);
            self.epoll.add(lane.wire(), event)?;
            self.lanes[slot] = Some(lane);
        }
        self.number += 1;
        let lane = self.lanes[slot].as_mut().expect("made above");
        let turn = lane.begin(&self.talk, self.number, due);
        self.settle(slot, turn);
        Ok(())
    }

    fn handle(&mut self, slot: usize) {
        while let Some(lane) = &mut self.lanes[slot] {
            let turn = lane.ready(&self.talk, &mut self.buffer);
            if !self.settle(slot, turn) {
                break;
            }
        }
    }

    /// Takes what an event came to; whether there may be more of this connection.
    fn settle(&mut self, slot: usize, turn: Turn) -> bool {
        match turn {
            Turn::Later => false,
            Turn::Answered => {
                let now = monotonic_ns();
                let closes = matches!(self.talk, Talk::Http { closes: true, .. });
                let Some(lane) = &mut self.lanes[slot] else { return false };
                let due = lane.due_ns;
                self.measured.completed += 1;
                if (self.counts.0..self.counts.1).contains(&now) {
                    self.measured.counted += 1;
                    self.measured.latency.saturating_record(now - due);
                }
                if !closes {
                    lane.is_taken = false;
                    self.free.push_back(slot);
                }
                closes
            }
            Turn::Closed | Turn::Failed(_) => {
                let was_taken = self.lanes[slot].take().is_some_and(|lane| lane.is_taken);
                if let Turn::Failed(why) = turn
                    && was_taken
                {
                    self.measured.failed += 1;
                    self.measured.first_failure.get_or_insert(why);
                }
                if was_taken {
                    self.free.push_back(slot);
                }
                false
            }
        }
    }

    /// What has not ended is as old as it is by now.
    fn conclude(mut self, now: u64) -> Measured {
        let lanes = self.lanes.iter().flatten().filter(|lane| lane.awaits());
        let under_way: Vec<u64> = lanes.map(|lane| lane.due_ns).collect();
        let missed = std::iter::from_fn(|| self.schedule.poll_missed());
        for due in under_way.into_iter().chain(missed) {
            self.measured.unfinished += 1;
            self.measured.latency.saturating_record(now - due);
        }
        self.measured
    }
}
