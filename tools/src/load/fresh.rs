//! A connection opened for one small request: what a new client meets.

use std::net::SocketAddrV4;

use super::engine::{Bench, Exchange, Plan};
use super::http::{ResponseHead, get_generated};
use super::pattern;
use super::report::{Interval, Outcome};
use super::track::Track;
use super::wire::{Step, Wire, outcome_of};

/// The connection and how far it is.
#[derive(Debug)]
pub struct Fresh {
    track: Track,
    wire: Option<Wire>,
    begun_ns: u64,
    request: Vec<u8>,
    head: ResponseHead,
    /// Bytes of the body, once the head is complete.
    body: Option<Vec<u8>>,
    size: u64,
}

impl Fresh {
    /// Begins to connect.
    pub fn begin(now: u64, plan: &Plan, target: SocketAddrV4) -> Fresh {
        let mut track = Track::new(now, plan.kind, plan.id);
        let wire = Wire::connect(target, None)
            .map_err(|error| track.end(now, outcome_of(&error), Some(error.to_string())))
            .ok();
        Fresh {
            track,
            wire,
            begun_ns: now,
            request: get_generated(target.ip(), plan.size, plan.id, true),
            head: ResponseHead::default(),
            body: None,
            size: plan.size,
        }
    }

    fn request(&mut self, now: u64) {
        let Some(wire) = self.wire.as_ref().filter(|_| !self.request.is_empty()) else { return };
        match wire.write(&self.request) {
            Step::Bytes(len) => {
                self.track.open_ns.get_or_insert(now);
                drop(self.request.drain(..len));
            }
            Step::Later | Step::Closed => {}
            Step::Failed(error) => self.end(now, outcome_of(&error), Some(error.to_string())),
        }
    }

    fn take(&mut self, now: u64, bytes: &[u8], bench_series: &mut super::series::Series) {
        let mut part = bytes;
        let body = match &mut self.body {
            Some(body) => body,
            None => match self.head.push(bytes) {
                Ok(None) => return,
                Ok(Some((_, used))) => {
                    part = &bytes[used..];
                    self.body.insert(Vec::with_capacity(self.size as usize))
                }
                Err(note) => return self.end(now, Outcome::WrongBytes, Some(note)),
            },
        };
        body.extend_from_slice(part);
        if (body.len() as u64) < self.size {
            return;
        }
        let wrong = pattern::first_difference(self.track.id, 0, body);
        if wrong.is_some() || body.len() as u64 > self.size {
            return self.end(
                now,
                Outcome::WrongBytes,
                Some("wrong bytes in a small answer".into()),
            );
        }
        self.track.progress(now, self.size, bench_series);
        self.track.interval(Interval { start_ns: self.begun_ns, end_ns: now });
        self.end(now, Outcome::Survived, None);
    }

    fn end(&mut self, now: u64, outcome: Outcome, note: Option<String>) {
        if outcome != Outcome::Survived {
            self.track.interval(Interval { start_ns: self.begun_ns, end_ns: now });
        }
        self.track.end(now, outcome, note);
        self.wire = None;
    }
}

impl Exchange for Fresh {
    fn wire(&self) -> Option<&Wire> {
        self.wire.as_ref()
    }

    fn ready(&mut self, now: u64, bench: &mut Bench) {
        self.request(now);
        while let Some(wire) = self.wire.as_ref() {
            match wire.read(&mut bench.buffer) {
                Step::Bytes(len) => self.take(now, &bench.buffer[..len], &mut bench.series),
                Step::Later => return,
                Step::Closed => {
                    self.end(now, Outcome::Reset, Some("closed before the answer".into()));
                }
                Step::Failed(error) => self.end(now, outcome_of(&error), Some(error.to_string())),
            }
        }
    }

    fn tick(&mut self, _now: u64, _bench: &mut Bench) {}

    fn track(&self) -> &Track {
        &self.track
    }

    fn into_track(self: Box<Self>) -> Track {
        self.track
    }
}
