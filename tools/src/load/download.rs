//! A download of a generated object, read at a rate, every byte checked.
//!
//! When bytes *arrive* is what tells about the other side, not when they are read: the
//! edge-triggered event marks the arrival and the kernel's count of received bytes says how many
//! came. A small receive window keeps the sender from running far ahead of the reading.

use std::net::SocketAddrV4;

use super::engine::{Bench, Exchange, Plan};
use super::http::{ResponseHead, get_generated, get_paced};
use super::pattern;
use super::report::Outcome;
use super::track::Track;
use super::wire::{Step, Wire, outcome_of};

/// Smallest receive buffer: a segment or two.
const BUFFER_MIN: u64 = 2 * 1024;

/// The connection and how far it is.
#[derive(Debug)]
pub struct Download {
    track: Track,
    wire: Option<Wire>,
    request: Vec<u8>,
    head: ResponseHead,
    /// Set once the head has been read.
    body_from_ns: Option<u64>,
    size: u64,
    rate: u64,
    /// Between two looks at whether more may be read; 0: it is read as it comes.
    pace_ns: u64,
    /// Bytes of the body read and checked.
    offset: u64,
    /// The kernel's count at the last look.
    received: u64,
    read_at_ns: u64,
}

/// Half of what one interval carries (the kernel doubles it), so that it is filled again at once when it has been read.
fn fitting_buffer(rate: u64, pace_ns: u64) -> usize {
    (rate.saturating_mul(pace_ns) / 1_000_000_000).max(BUFFER_MIN) as usize
}

impl Download {
    /// Begins to connect.
    pub fn begin(now: u64, plan: &Plan, target: SocketAddrV4) -> Download {
        let mut track = Track::new(now, plan.kind, plan.id);
        let Plan { id, size, rate, mut pace_ns, .. } = *plan;
        let mut fitting = fitting_buffer(rate, pace_ns);
        let mut request = get_generated(target.ip(), size, id, false);
        if plan.is_server_paced {
            let step = rate.saturating_mul(pace_ns) / 1_000_000_000;
            request = get_paced(target.ip(), size, id, step.max(1), pace_ns / 1_000_000);
            // What comes is read at once, into what the kernel gives.
            (pace_ns, fitting) = (0, 0);
        }
        let buffer = plan.receive_buffer.unwrap_or(fitting);
        let wire = Wire::connect(target, Some(buffer).filter(|buffer| *buffer > 0))
            .map_err(|error| track.end(now, outcome_of(&error), Some(error.to_string())))
            .ok();
        Download {
            track,
            wire,
            request,
            head: ResponseHead::default(),
            body_from_ns: None,
            size,
            rate,
            pace_ns,
            offset: 0,
            received: 0,
            read_at_ns: now,
        }
    }

    fn request(&mut self, now: u64) {
        let Some(wire) = self.wire.as_ref().filter(|_| !self.request.is_empty()) else { return };
        match wire.write(&self.request) {
            Step::Bytes(len) => drop(self.request.drain(..len)),
            Step::Later | Step::Closed => {}
            Step::Failed(error) => self.fail(now, &error),
        }
    }

    /// Reads as much as the rate allows by now.
    fn read(&mut self, now: u64, bench: &mut Bench) {
        self.read_at_ns = now;
        while let Some(wire) = self.wire.as_ref() {
            let due = self.body_from_ns.filter(|_| self.pace_ns > 0).map(|from| {
                ((now - from + self.pace_ns) as u128 * self.rate as u128 / 1_000_000_000) as u64
            });
            // All or nothing: a buffer read in part would open its window in part, and the other
            // side would send driblets or wait for its persist timer.
            if due.is_some_and(|due| due < self.offset) {
                return;
            }
            match wire.read(&mut bench.buffer) {
                Step::Bytes(len) => {
                    // It made room: what comes is due from now on.
                    self.track.await_from(now);
                    self.take(now, &bench.buffer[..len]);
                }
                Step::Later => return,
                Step::Closed => {
                    let note = format!("closed after {} of {} bytes", self.offset, self.size);
                    self.end(now, Outcome::Reset, Some(note));
                }
                Step::Failed(error) => self.fail(now, &error),
            }
        }
    }

    fn take(&mut self, now: u64, bytes: &[u8]) {
        let mut body = bytes;
        if self.body_from_ns.is_none() {
            match self.head.push(bytes) {
                Ok(None) => return,
                Ok(Some((answer, used))) => {
                    if answer.status != 200 || answer.content_length != self.size {
                        let note = format!("unexpected answer {answer:?}");
                        return self.end(now, Outcome::WrongBytes, Some(note));
                    }
                    self.body_from_ns = Some(now);
                    body = &bytes[used..];
                }
                Err(note) => return self.end(now, Outcome::WrongBytes, Some(note)),
            }
        }
        if let Some(at) = pattern::first_difference(self.track.id, self.offset, body) {
            let note = format!("wrong byte at {at} of {}", self.size);
            return self.end(now, Outcome::WrongBytes, Some(note));
        }
        self.offset += body.len() as u64;
        if self.offset == self.size {
            self.end(now, Outcome::Survived, None);
        } else if self.offset > self.size {
            self.end(now, Outcome::WrongBytes, Some("more bytes than promised".into()));
        }
    }

    fn fail(&mut self, now: u64, error: &std::io::Error) {
        let note = format!("{error} after {} of {} bytes", self.offset, self.size);
        self.end(now, outcome_of(error), Some(note));
    }

    fn end(&mut self, now: u64, outcome: Outcome, note: Option<String>) {
        self.track.end(now, outcome, note);
        self.wire = None;
    }
}

impl Exchange for Download {
    fn wire(&self) -> Option<&Wire> {
        self.wire.as_ref()
    }

    fn ready(&mut self, now: u64, bench: &mut Bench) {
        self.request(now);
        if let Some(wire) = &self.wire {
            let received = wire.received();
            self.track.progress(now, received - self.received, &mut bench.series);
            self.received = received;
        }
        // Pending errors and the head are taken at once, the body at its pace.
        if self.body_from_ns.is_none() || now - self.read_at_ns >= self.pace_ns {
            self.read(now, bench);
        }
    }

    fn tick(&mut self, now: u64, bench: &mut Bench) {
        if now - self.read_at_ns >= self.pace_ns {
            self.read(now, bench);
        }
    }

    fn track(&self) -> &Track {
        &self.track
    }

    fn into_track(self: Box<Self>) -> Track {
        self.track
    }
}
