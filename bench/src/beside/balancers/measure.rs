//! What is measured of a balancer in one turn, and how.

use std::path::Path;

use clap::ValueEnum;
use serde::Serialize;
use tools::bench::bulk::Moved;
use tools::bench::outcome::Outcome;

use super::arena::{Arena, Standing};
use super::rival::{Ask, Rival};
use super::usage::Spent;

/// Requests a second of [`Measure::Steady`]: a fraction of what every balancer manages.
const STEADY_RATE: u32 = 4_000;

/// Milliseconds before anything counts.
const WARM_MS: u64 = 300;

/// What is measured.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Measure {
    /// A new connection for each request, 64 at a time.
    Connect,
    /// Requests on 64 connections that stay.
    Request,
    /// Requests at a fixed rate, due whatever became of those before.
    Steady,
    /// 64 bytes and their echo on one connection.
    Pingpong,
    /// One download at full speed, MTU 1500, nothing left to the cable.
    Download,
    /// One upload at full speed, MTU 1500, nothing left to the cable.
    Upload,
    /// One download at full speed, MTU 9000.
    JumboDownload,
    /// One upload at full speed, MTU 9000.
    JumboUpload,
    /// What a connection takes that says nothing.
    Idle,
    /// A node that dies, hangs or is cut off: gaps of paced connections, and the first answer to a newcomer.
    Takeover,
    /// A killed node with 100 connections, and with up to a million.
    Growth,
}

/// One figure of a turn.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// What it is.
    pub metric: &'static str,
    /// In what.
    pub unit: &'static str,
    /// How much.
    pub value: f64,
}

/// One turn's place in a run.
pub struct Turn<'a> {
    /// Where.
    pub arena: &'a Arena<'a>,
    /// Who.
    pub standing: &'a Standing<'a>,
    /// How long is measured.
    pub ms: u64,
    /// Where the distribution of latencies goes.
    pub hgrm: &'a Path,
}

impl Measure {
    /// Those in which balancers take turns within each round.
    pub const TURNS: [Measure; 8] = [
        Measure::Connect,
        Measure::Request,
        Measure::Steady,
        Measure::Pingpong,
        Measure::Download,
        Measure::Upload,
        Measure::JumboDownload,
        Measure::JumboUpload,
    ];

    /// As options and files name it.
    pub fn name(self) -> &'static str {
        match self {
            Measure::Connect => "connect",
            Measure::Request => "request",
            Measure::Steady => "steady",
            Measure::Pingpong => "pingpong",
            Measure::Download => "download",
            Measure::Upload => "upload",
            Measure::JumboDownload => "jumbo-download",
            Measure::JumboUpload => "jumbo-upload",
            Measure::Idle => "idle",
            Measure::Takeover => "takeover",
            Measure::Growth => "growth",
        }
    }

    /// As people read it.
    pub fn title(self) -> &'static str {
        match self {
            Measure::Connect => "New connections: one request each, 64 at a time",
            Measure::Request => "Requests on 64 connections that stay",
            Measure::Steady => "4 000 requests a second, latency from when each was due",
            Measure::Pingpong => "Ping-pong of 64 bytes on one connection",
            Measure::Download => "One download, MTU 1500, offloads off",
            Measure::Upload => "One upload, MTU 1500, offloads off",
            Measure::JumboDownload => "One download, MTU 9000, offloads on",
            Measure::JumboUpload => "One upload, MTU 9000, offloads on",
            Measure::Idle => "Idle connections",
            Measure::Takeover => "A node dies under 1 000 paced connections",
            Measure::Growth => "A node dies, with 100 connections and with up to a million",
        }
    }

    /// Of the clients' links.
    pub fn mtu(self) -> u32 {
        match self {
            Measure::JumboDownload | Measure::JumboUpload => 9_000,
            _ => 1_500,
        }
    }

    /// Whether it makes sense for a balancer.
    pub fn suits(self, rival: Rival) -> bool {
        use Measure::*;
        match rival {
            Rival::Nat | Rival::Hearing => self == Takeover,
            Rival::Held => matches!(self, Download | Upload | JumboDownload | JumboUpload),
            Rival::Unsealed => matches!(self, Connect | Request | JumboDownload | JumboUpload),
            _ => true,
        }
    }

    /// Measures once.
    pub fn take(self, turn: &Turn<'_>) -> anyhow::Result<Vec<Sample>> {
        let before = turn.standing.usage()?;
        let words = self.words(turn);
        match self {
            Measure::Connect | Measure::Request | Measure::Steady | Measure::Pingpong => {
                let outcome: Outcome = turn.arena.ask(&words)?;
                let spent = turn.standing.usage()?.since(&before);
                Ok(of_exchanges(&outcome, &spent))
            }
            Measure::Idle | Measure::Takeover | Measure::Growth => {
                unreachable!("they have no turns")
            }
            _ => {
                let moved: Moved = turn.arena.ask(&words)?;
                let spent = turn.standing.usage()?.since(&before);
                Ok(of_bulk(&moved, &spent))
            }
        }
    }

    /// Words of `understudy bench` for it.
    fn words(self, turn: &Turn<'_>) -> Vec<String> {
        let (kind, ask) = match self {
            Measure::Connect => ("connect --connections=64", Ask::Pages),
            Measure::Request => ("request --connections=64", Ask::Pages),
            Measure::Steady => ("request --connections=64", Ask::Pages),
            Measure::Pingpong => ("pingpong --bytes=64", Ask::Echo),
            Measure::Upload | Measure::JumboUpload => ("bulk up", Ask::Discard),
            _ => ("bulk down", Ask::Objects),
        };
        let mut words: Vec<String> = kind.split(' ').map(String::from).collect();
        words.push(format!("--target={}", turn.standing.rival.target(ask)));
        words.push(format!("--ms={}", turn.ms));
        words.push(format!("--warm-ms={WARM_MS}"));
        if self == Measure::Steady {
            words.push(format!("--rate={STEADY_RATE}"));
        }
        if self.has_latency() {
            words.push(format!("--hgrm={}", turn.hgrm.display()));
        }
        words
    }

    /// Whether it tells how long exchanges took.
    pub fn has_latency(self) -> bool {
        use Measure::*;
        matches!(self, Connect | Request | Steady | Pingpong)
    }
}

fn of_exchanges(outcome: &Outcome, spent: &Spent) -> Vec<Sample> {
    let us = |ns: u64| ns as f64 / 1e3;
    let mut samples = vec![Sample { metric: "rate", unit: "1/s", value: outcome.per_second }];
    for (metric, ns) in [
        ("p50", outcome.latency.p50_ns),
        ("p99", outcome.latency.p99_ns),
        ("p99.9", outcome.latency.p999_ns),
    ] {
        samples.push(Sample { metric, unit: "us", value: us(ns) });
    }
    let lost = outcome.failed + outcome.unfinished;
    samples.push(Sample { metric: "failed", unit: "", value: lost as f64 });
    samples.extend(times(spent, "us each", outcome.completed as f64 * 1e3));
    let completed = outcome.completed.max(1) as f64;
    let cluster = spent.cluster_bytes() as f64 / completed;
    samples.push(Sample { metric: "cluster", unit: "bytes each", value: cluster });
    samples.extend(counts(spent, "each", completed));
    samples
}

fn of_bulk(moved: &Moved, spent: &Spent) -> Vec<Sample> {
    let rate = moved.bytes as f64 * 1e3 / moved.ns as f64;
    let mut samples = vec![Sample { metric: "rate", unit: "MB/s", value: rate }];
    samples.extend(times(spent, "s/GB", moved.total as f64));
    let each = spent.cluster_bytes() as f64 / moved.total.max(1) as f64;
    samples.push(Sample { metric: "cluster", unit: "bytes per byte", value: each });
    samples.extend(counts(spent, "a MB", moved.total.max(1) as f64 / 1e6));
    samples
}

/// What a node has counted, over `count`.
fn counts(spent: &Spent, unit: &'static str, count: f64) -> Vec<Sample> {
    let Some(node) = spent.node else { return Vec::new() };
    let each = |metric, events: u64| Sample { metric, unit, value: events as f64 / count };
    vec![
        each("frames in", node.frames_in),
        each("frames out", node.frames_out),
        each("datagrams", node.datagrams),
        each("calls", node.calls),
        each("rounds", node.rounds),
    ]
}

/// What was spent, in nanoseconds over `count`.
fn times(spent: &Spent, unit: &'static str, count: f64) -> Vec<Sample> {
    let time = |metric, ns: u64| Sample { metric, unit, value: ns as f64 / count.max(1.0) };
    vec![
        time("balancer", spent.balancer_ns),
        time("process", spent.process_ns),
        time("peer", spent.peer_ns),
        time("core", spent.core_ns),
        time("machine", spent.machine_ns()),
        Sample { metric: "load", unit: "%", value: spent.load_percent() },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balancers::usage::Counts;

    #[test]
    fn a_gigabyte_in_a_second_of_the_core_costs_a_second() {
        let moved = Moved { bytes: 500_000_000, ns: 1_000_000_000, total: 1_000_000_000 };
        let node = Some(Counts { cluster_bytes: 10_000_000, calls: 2_000, ..Counts::default() });
        let spent = Spent { balancer_ns: 1_000_000_000, node, ..Spent::default() };
        let samples = of_bulk(&moved, &spent);
        let of = |metric| samples.iter().find(|one| one.metric == metric).unwrap().value;
        assert_eq!((of("rate"), of("balancer"), of("cluster")), (500.0, 1.0, 0.01));
        assert_eq!(of("calls"), 2.0, "a megabyte");
    }
}
