//! A bulk flow over a bottleneck with a virtual clock: a sender, a link that loses, reorders and
//! duplicates by a seed, and a receiver that keeps ranges.
//!
//! After every step the sender's sums are counted again. A failure names the seed.

extern crate std;

mod tests;

use super::{Ack, Algorithm, Sender, SenderConfig, TimeoutOutcome};
use crate::seq::Seq;
use crate::tcp::in_flight::InFlightPool;
use crate::time::{Duration, Instant};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

const MSS: u32 = 1_000;
/// For how long the client delays an acknowledgement.
const DELAY: Duration = Duration::from_millis(40);
const START: Seq = Seq(u32::MAX - 50_000);

/// xorshift64*.
pub(super) struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// True in `n` of 1000 cases.
    pub fn permille(&mut self, n: u64) -> bool {
        self.next() % 1_000 < n
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// The path in both directions.
#[derive(Clone, Copy)]
pub(super) struct Path {
    pub algorithm: Algorithm,
    pub sack: bool,
    pub timestamps: bool,
    pub one_way: Duration,
    /// Serialisation of one segment.
    pub per_segment: Duration,
    /// Segments that the bottleneck holds.
    pub queue_max: u64,
    pub loss_permille: u64,
    pub reorder_permille: u64,
    pub duplicate_permille: u64,
    pub ack_loss_permille: u64,
    /// Numbers of transmissions that are lost whatever the chance.
    pub lost: &'static [u64],
    /// The client delays its acknowledgements: one for two segments in order.
    pub delayed: bool,
    /// How often the node looks at the wire: the acknowledgements that came in between are all handled before
    /// anything is sent. 0: each is a burst of its own.
    pub looks_every: Duration,
    /// In milliseconds from the beginning: when the bottleneck stands still, and when it goes on.
    pub pause: Option<(u64, u64)>,
}

pub(super) const CLEAN: Path = Path {
    algorithm: Algorithm::Cubic,
    sack: true,
    timestamps: true,
    one_way: Duration::from_millis(20),
    per_segment: Duration::from_micros(100),
    queue_max: 200,
    loss_permille: 0,
    reorder_permille: 0,
    duplicate_permille: 0,
    ack_loss_permille: 0,
    lost: &[],
    delayed: false,
    looks_every: Duration(0),
    pause: None,
};

enum Event {
    Segment {
        offset: u32,
        len: u32,
        sent: Instant,
    },
    /// The client's delay is over; it acknowledges if that is still news.
    Late {
        ack: u32,
    },
    Ack {
        ack: u32,
        sack: Vec<(u32, u32)>,
        echo: Instant,
    },
}

/// The client: offsets from `START`.
#[derive(Default)]
struct Receiver {
    nxt: u32,
    /// A segment in order has not been acknowledged.
    waiting: bool,
    /// Ranges above `nxt`, most recently changed first.
    ranges: Vec<(u32, u32)>,
    recent: Instant,
}

impl Receiver {
    fn receive(&mut self, offset: u32, len: u32, sent: Instant) -> (u32, Vec<(u32, u32)>) {
        let (mut start, mut end) = (offset, offset + len);
        let held = end <= self.nxt || self.ranges.iter().any(|r| r.0 <= start && end <= r.1);
        let mut sack = Vec::new();
        if held {
            sack.push((start, end));
        }
        if start <= self.nxt {
            self.recent = sent;
        }
        if end > self.nxt {
            self.ranges.retain(|r| {
                let apart = r.1 < start || r.0 > end;
                if !apart {
                    (start, end) = (start.min(r.0), end.max(r.1));
                }
                apart
            });
            if start <= self.nxt {
                self.nxt = end;
            } else {
                self.ranges.insert(0, (start, end));
            }
        }
        sack.extend(self.ranges.iter().copied());
        sack.truncate(3);
        (self.nxt, sack)
    }
}

/// What a run has shown.
#[derive(Default, Debug)]
pub(super) struct Report {
    pub took: Duration,
    pub timeouts: u32,
    pub probes: u32,
    pub recoveries: u32,
    pub resent: u32,
    pub sent: u64,
}

pub(super) struct World {
    pub path: Path,
    pub now: Instant,
    pub pool: InFlightPool,
    pub sender: Sender,
    pub report: Report,
    started: Instant,
    events: BTreeMap<(Instant, u64), Event>,
    serial: u64,
    link_free: Instant,
    receiver: Receiver,
    random: Random,
    total: u32,
    sent: u32,
}

impl World {
    pub fn new(path: Path, seed: u64, total: u32) -> World {
        let now = Instant(5_000_000_000);
        let config = SenderConfig { algorithm: path.algorithm, ..SenderConfig::default() };
        World {
            path,
            now,
            pool: InFlightPool::new(4_000),
            sender: Sender::new(now, &config, START, MSS as u16, path.sack),
            report: Report::default(),
            started: now,
            events: BTreeMap::new(),
            serial: 0,
            link_free: now,
            receiver: Receiver::default(),
            random: Random(seed * 2 + 1),
            total,
            sent: 0,
        }
    }

    /// Until everything is acknowledged.
    pub fn run(mut self) -> Report {
        let started = self.started;
        self.transmit();
        while self.sender.snd_una() != START + self.total {
            assert!(self.now.since(started) < Duration::from_secs(3_600), "does not end");
            self.step();
        }
        assert_eq!(self.receiver.nxt, self.total);
        assert_eq!(self.pool.used(), 0);
        assert_eq!(self.sender.poll_timeout(), None);
        self.report.took = self.now.since(started);
        self.report.resent = self.sender.resent_segments();
        self.report
    }

    /// The next event or time-out.
    pub fn step(&mut self) {
        let event_at = self.events.keys().next().copied();
        let timeout_at = self.sender.poll_timeout();
        let due = timeout_at.filter(|at| event_at.is_none_or(|event| *at <= event.0));
        if let Some(at) = due {
            self.now = self.now.max(at);
            match self.sender.handle_timeout(self.now, &mut self.pool) {
                TimeoutOutcome::Retransmit => self.report.timeouts += 1,
                TimeoutOutcome::Probe => self.report.probes += 1,
                TimeoutOutcome::GiveUp => panic!("gave up"),
                TimeoutOutcome::Nothing | TimeoutOutcome::Reorder => {}
            }
        } else {
            let key = event_at.expect("neither event nor time-out: deadlock");
            self.now = key.0;
            match self.events.remove(&key).unwrap() {
                Event::Segment { offset, len, sent } => self.deliver(offset, len, sent),
                Event::Late { ack } if self.receiver.waiting && self.receiver.nxt == ack => {
                    self.receiver.waiting = false;
                    self.answer(ack, Vec::new());
                }
                Event::Late { .. } => {}
                Event::Ack { ack, sack, echo } => self.acknowledge(ack, &sack, echo),
            }
        }
        if self.events.keys().next().is_none_or(|next| next.0 > self.now) {
            self.transmit();
        }
        self.sender.flight.check(&self.pool);
        assert!(self.sender.is_idle() || self.sender.poll_timeout().is_some());
    }

    fn deliver(&mut self, offset: u32, len: u32, sent: Instant) {
        let in_order = offset == self.receiver.nxt && self.receiver.ranges.is_empty();
        let (ack, sack) = self.receiver.receive(offset, len, sent);
        let waits = self.path.delayed && in_order && !self.receiver.waiting && ack < self.total;
        self.receiver.waiting = waits;
        if waits {
            self.schedule(self.now + DELAY, Event::Late { ack });
            return;
        }
        if !self.random.permille(self.path.ack_loss_permille) {
            self.answer(ack, sack);
        }
    }

    /// The client sends an acknowledgement; the node sees it when it looks.
    fn answer(&mut self, ack: u32, sack: Vec<(u32, u32)>) {
        let at = self.now + self.path.one_way;
        let step = self.path.looks_every.0.max(1);
        let seen = Instant(at.0.div_ceil(step) * step);
        self.schedule(seen, Event::Ack { ack, sack, echo: self.receiver.recent });
    }

    fn acknowledge(&mut self, ack: u32, sack: &[(u32, u32)], echo: Instant) {
        let sack: Vec<_> = sack.iter().map(|(from, to)| (START + *from, START + *to)).collect();
        let outcome = self.sender.handle_ack(
            self.now,
            &mut self.pool,
            &Ack {
                ack: START + ack,
                sack: if self.path.sack { &sack } else { &[] },
                rtt: self.path.timestamps.then(|| self.now.since(echo)),
                ..Ack::default()
            },
        );
        self.report.recoveries += outcome.entered_recovery as u32;
    }

    fn transmit(&mut self) {
        let more = self.sent < self.total;
        while let Some(resend) = self.sender.poll_resend(&mut self.pool, more) {
            self.sender.handle_resent(self.now, &mut self.pool, resend);
            self.emit(resend.seq.since(START), resend.len);
        }
        while self.sent < self.total {
            let len = MSS.min(self.total - self.sent);
            if self.sender.window_left(self.now) < len {
                break;
            }
            let seq = START + self.sent;
            if self.sender.handle_sent(self.now, &mut self.pool, seq, len, false).is_err() {
                break;
            }
            self.emit(self.sent, len);
            self.sent += len;
        }
    }

    fn emit(&mut self, offset: u32, len: u32) {
        let number = self.report.sent;
        self.report.sent += 1;
        let (now, path) = (self.now, self.path);
        if let Some((from, until)) = path.pause {
            let at = |ms| self.started + Duration::from_millis(ms);
            let is_paused = now >= at(from) && now < at(until);
            self.link_free = self.link_free.max(if is_paused { at(until) } else { now });
        }
        let queued = self.link_free.since(now).0 / path.per_segment.0;
        if queued >= path.queue_max
            || path.lost.contains(&number)
            || self.random.permille(path.loss_permille)
        {
            return;
        }
        self.link_free = self.link_free.max(now) + path.per_segment;
        let mut at = self.link_free + path.one_way;
        if self.random.permille(path.reorder_permille) {
            at += Duration(self.random.below(path.one_way.0 / 2));
        }
        self.schedule(at, Event::Segment { offset, len, sent: now });
        if self.random.permille(path.duplicate_permille) {
            let at = at + Duration(self.random.below(path.one_way.0));
            self.schedule(at, Event::Segment { offset, len, sent: now });
        }
    }

    fn schedule(&mut self, at: Instant, event: Event) {
        self.serial += 1;
        self.events.insert((at, self.serial), event);
    }
}
