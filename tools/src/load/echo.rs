//! Ping-pong on one persistent connection: a small message every millisecond, and its echo.

use std::net::SocketAddrV4;

use super::engine::{Bench, Exchange, Plan};
use super::pattern;
use super::report::Outcome;
use super::track::Track;
use super::wire::{Step, Wire, outcome_of};

/// Bytes of one message.
const MESSAGE: usize = 64;

/// Time between two messages, unless the echo takes longer.
const PERIOD_NS: u64 = 1_000_000;

/// The connection and how far it is.
#[derive(Debug)]
pub struct Echo {
    track: Track,
    wire: Option<Wire>,
    /// When to stop.
    until_ns: u64,
    sent_ns: u64,
    /// Stream bytes written and, checked, read back. A round is over when both are equal.
    written: u64,
    read: u64,
    /// End of the round under way.
    round_end: u64,
}

impl Echo {
    /// Begins to connect.
    pub fn begin(now: u64, plan: &Plan, target: SocketAddrV4, until_ns: u64) -> Echo {
        let mut track = Track::new(now, plan.kind, plan.id);
        let wire = Wire::connect(target, None)
            .map_err(|error| track.end(now, outcome_of(&error), Some(error.to_string())))
            .ok();
        Echo { track, wire, until_ns, sent_ns: 0, written: 0, read: 0, round_end: 0 }
    }

    fn write(&mut self, now: u64) {
        if self.read == self.round_end {
            if now >= self.until_ns {
                return self.end(now, Outcome::Survived, None);
            }
            if now < self.sent_ns + PERIOD_NS {
                return;
            }
            self.round_end += MESSAGE as u64;
            self.sent_ns = now;
        }
        let mut message = [0u8; MESSAGE];
        let rest = &mut message[..(self.round_end - self.written) as usize];
        let Some(wire) = self.wire.as_ref().filter(|_| !rest.is_empty()) else { return };
        pattern::fill(self.track.id, self.written, rest);
        match wire.write(rest) {
            Step::Bytes(len) => self.written += len as u64,
            Step::Later | Step::Closed => {}
            Step::Failed(error) => self.fail(now, &error),
        }
    }

    fn read(&mut self, now: u64, bench: &mut Bench) {
        while let Some(wire) = self.wire.as_ref() {
            match wire.read(&mut bench.buffer) {
                Step::Bytes(len) => self.take(now, len, bench),
                Step::Later => return,
                Step::Closed => {
                    let note = format!("closed after {} bytes", self.read);
                    self.end(now, Outcome::Reset, Some(note));
                }
                Step::Failed(error) => self.fail(now, &error),
            }
        }
    }

    fn take(&mut self, now: u64, len: usize, bench: &mut Bench) {
        let bytes = &bench.buffer[..len];
        let wrong = pattern::first_difference(self.track.id, self.read, bytes);
        if wrong.is_some() || self.read + len as u64 > self.written {
            let note = format!("wrong echo after {} bytes", self.read);
            return self.end(now, Outcome::WrongBytes, Some(note));
        }
        self.read += len as u64;
        if self.read == self.round_end {
            bench.echo_rtt(now - self.sent_ns);
            self.track.progress(now, MESSAGE as u64, &mut bench.series);
        }
    }

    fn fail(&mut self, now: u64, error: &std::io::Error) {
        self.end(now, outcome_of(error), Some(format!("{error} after {} bytes", self.read)));
    }

    fn end(&mut self, now: u64, outcome: Outcome, note: Option<String>) {
        self.track.end(now, outcome, note);
        self.wire = None;
    }
}

impl Exchange for Echo {
    fn wire(&self) -> Option<&Wire> {
        self.wire.as_ref()
    }

    fn ready(&mut self, now: u64, bench: &mut Bench) {
        self.read(now, bench);
        self.write(now);
    }

    fn tick(&mut self, now: u64, _bench: &mut Bench) {
        self.write(now);
    }

    fn track(&self) -> &Track {
        &self.track
    }

    fn into_track(self: Box<Self>) -> Track {
        self.track
    }
}
