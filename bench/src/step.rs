//! The steps of a request, each a function of its own that is never inlined: what callgrind counts by name
//! and what the clock is read around.
//!
//! ```text
//! data in ─> input ─> record ─> output ─> echo out          owner
//!                       └─> peer ─> commit ─> output        peer, owner
//! data in ─> hear ─> (peer: forgotten)                      a peer that listens
//! acknowledgement in ─> ack                                 owner
//! a second later ─> timers ─> peer ─> timers                owner, peer
//! ```

use crate::burst::Burst;
use crate::pair::BURST_SEGMENTS;
use cluster::engine::Engine;
use stack::time::Instant;

/// A step. The discriminant is its place in [`Step::ALL`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Parse, demux, judge, apply, application, append to the log.
    Input,
    /// Datagrams of the log for the peer.
    Record,
    /// Frames for the clients.
    Output,
    /// The peer's acknowledgement: what waited for it may leave.
    Commit,
    /// The peer's work: apply the records, acknowledge.
    Peer,
    /// The client's acknowledgement of the echo.
    Ack,
    /// What comes due within a second: delayed acknowledgement, record of `snd_una`, digests.
    Timers,
    /// A peer that listens: the clients' segments themselves, before their records are there.
    Hear,
}

impl Step {
    /// Every step, in the order of a request.
    pub const ALL: [Step; 8] = [
        Step::Input,
        Step::Record,
        Step::Output,
        Step::Commit,
        Step::Peer,
        Step::Ack,
        Step::Timers,
        Step::Hear,
    ];

    /// The steps between a data segment's arrival and its echo and acknowledgement, on the owner.
    pub const SEGMENT: [Step; 4] = [Step::Input, Step::Record, Step::Output, Step::Commit];

    /// Its name in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Step::Input => "input",
            Step::Record => "record",
            Step::Output => "output",
            Step::Commit => "commit",
            Step::Peer => "peer",
            Step::Ack => "ack",
            Step::Timers => "timers",
            Step::Hear => "hear",
        }
    }

    /// The function that callgrind is to count.
    pub const fn function(self) -> &'static str {
        match self {
            Step::Input => "step_input",
            Step::Record => "step_record",
            Step::Output => "step_output",
            Step::Commit => "step_commit",
            Step::Peer => "step_peer",
            Step::Ack => "step_ack",
            Step::Timers => "step_timers",
            Step::Hear => "step_hear",
        }
    }
}

/// A figure for each step, by [`Step`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PerStep(pub [f64; Step::ALL.len()]);

impl PerStep {
    /// The figure of one step.
    pub fn of(&self, step: Step) -> f64 {
        self.0[step as usize]
    }

    /// The sum over [`Step::SEGMENT`].
    pub fn segment(&self) -> f64 {
        Step::SEGMENT.iter().map(|&step| self.of(step)).sum()
    }

    /// The sum over all that the owner does.
    pub fn owner(&self) -> f64 {
        let is_owners = |step: &Step| !matches!(step, Step::Peer | Step::Hear);
        Step::ALL.into_iter().filter(is_owners).map(|step| self.of(step)).sum()
    }

    /// The median of each step over several runs. Panics without any.
    pub fn medians(runs: &[PerStep]) -> PerStep {
        PerStep(Step::ALL.map(|step| {
            let mut figures: Vec<f64> = runs.iter().map(|run| run.of(step)).collect();
            figures.sort_unstable_by(f64::total_cmp);
            figures[figures.len() / 2]
        }))
    }

    /// The figures divided by `count`.
    pub fn per(&self, count: usize) -> PerStep {
        PerStep(self.0.map(|figure| figure / count as f64))
    }
}

/// A burst, as a core hands it over.
#[inline(always)]
fn take(engine: &mut Engine, now: Instant, frames: &Burst) {
    let mut burst: [&[u8]; BURST_SEGMENTS] = [&[]; BURST_SEGMENTS];
    for (place, frame) in burst.iter_mut().zip(frames.iter()) {
        *place = frame;
    }
    let mut rest = &burst[..frames.len()];
    engine.look_ahead(rest.iter().copied());
    while !rest.is_empty() {
        rest = &rest[engine.handle_frames(now, rest)..];
    }
}

/// Client frames in.
#[inline(never)]
pub fn step_input(owner: &mut Engine, now: Instant, frames: &Burst) {
    take(owner, now, frames);
}

/// Datagrams out.
#[inline(never)]
pub fn step_record(owner: &mut Engine, now: Instant, datagrams: &mut Burst) {
    while let Some(len) = owner.poll_datagram(now, datagrams.room()) {
        datagrams.push(len);
    }
}

/// Client frames out.
#[inline(never)]
pub fn step_output(owner: &mut Engine, now: Instant, frames: &mut Burst) {
    while let Some((len, _)) = owner.poll_frame(now, frames.room()) {
        frames.push(len);
    }
}

/// The peer's acknowledgements in.
#[inline(never)]
pub fn step_commit(owner: &mut Engine, now: Instant, acks: &mut Burst) {
    for ack in acks.iter_mut() {
        owner.handle_datagram(now, ack);
    }
}

/// The peer: datagrams in, acknowledgement out.
#[inline(never)]
pub fn step_peer(peer: &mut Engine, now: Instant, datagrams: &mut Burst, acks: &mut Burst) {
    for datagram in datagrams.iter_mut() {
        peer.handle_datagram(now, datagram);
    }
    peer.handle_timeouts(now);
    while let Some(len) = peer.poll_datagram(now, acks.room()) {
        acks.push(len);
    }
}

/// What clients say to the owner, as its peer hears it.
#[inline(never)]
pub fn step_hear(peer: &mut Engine, now: Instant, frames: &Burst) {
    // Else the compiler makes one function of this and [`step_input`], and callgrind counts that under one of the names.
    std::hint::black_box(Step::Hear);
    take(peer, now, frames);
}

/// Clients' acknowledgements in, and whatever follows.
#[inline(never)]
pub fn step_ack(owner: &mut Engine, now: Instant, frames: &Burst, out: &mut Burst) {
    take(owner, now, frames);
    while let Some((len, _)) = owner.poll_frame(now, out.room()) {
        out.push(len);
    }
}

/// One poll without client frames: acknowledgements in, timers, datagrams and frames out.
#[inline(never)]
pub fn step_timers(
    owner: &mut Engine,
    now: Instant,
    acks: &mut Burst,
    datagrams: &mut Burst,
    out: &mut Burst,
) {
    for ack in acks.iter_mut() {
        owner.handle_datagram(now, ack);
    }
    owner.handle_timeouts(now);
    while let Some(len) = owner.poll_datagram(now, datagrams.room()) {
        datagrams.push(len);
    }
    while let Some((len, _)) = owner.poll_frame(now, out.room()) {
        out.push(len);
    }
}
