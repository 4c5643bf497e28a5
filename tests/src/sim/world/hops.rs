//! Frames that are handed on in parts are put together again at the core that they are for, or counted.
//!
//! Which parts reach a node is seen on the wire. A NIC deals them to its queues one by one, so they overtake each other on the
//! way to their core; how many frames its cores have had they count themselves. No frame may be missing there once nothing is
//! on the way to them. Where the cluster's network is sealed none of it can be read.

use super::World;
use crate::sim::node::{Life, endpoint};
use cluster::engine::Engine;
use cluster::id::Member;
use cluster::link;
use cluster::mirror::{Body, FramePart, decode};
use std::collections::{BTreeMap, BTreeSet};

/// A frame that is handed on, by the number that the core has given it which sends it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Hop {
    from: (Member, u8),
    to: (Member, u8),
    number: u32,
}

/// A part of one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    hop: Hop,
    offset: u16,
    bytes: usize,
    total: usize,
}

/// What has come of a frame.
#[derive(Debug, Default)]
struct Parts {
    offsets: BTreeSet<u16>,
    bytes: usize,
}

/// Forwarded frames that have come to nodes.
#[derive(Debug, Default)]
pub(super) struct Hops {
    parts: BTreeMap<Hop, Parts>,
    /// How many came whole to each life.
    whole: BTreeMap<Member, u64>,
}

impl Hops {
    /// A part has come into a queue of its node.
    pub fn note(&mut self, part: &Part) {
        let parts = self.parts.entry(part.hop).or_default();
        if parts.offsets.insert(part.offset) {
            parts.bytes += part.bytes;
            let is_whole = parts.bytes == part.total;
            *self.whole.entry(part.hop.to.0).or_default() += u64::from(is_whole);
        }
    }

    /// Errors: a life has had fewer frames than came to it.
    fn check(&self, life: &Life) -> Result<(), String> {
        let Some(&came) = self.whole.get(&life.member) else { return Ok(()) };
        if life.has_mail() {
            return Ok(());
        }
        let had: u64 = life.engines().map(had).sum::<u64>() + life.lost_parcels();
        match had < came {
            false => Ok(()),
            true => Err(format!("{came} frames were handed on to it, it has had {had}")),
        }
    }
}

/// Frames that others have handed on to a core, those that it has given up included.
fn had(engine: &Engine) -> u64 {
    let counters = engine.forward_counters();
    counters.received + counters.incomplete + counters.too_long
}

impl World {
    /// The part of a frame that a datagram brings to a node, if it does and is whole.
    pub(super) fn part_of(&self, node: usize, datagram: &mut [u8]) -> Option<Part> {
        if self.shape.is_sealed {
            return None;
        }
        let payload = link::parse(datagram, &endpoint(node))?;
        let (session, part) = match decode(payload) {
            Ok((session, Body::Frame(part) | Body::Returned(part))) => (session, part),
            _ => return None,
        };
        let FramePart { number, total, offset, bytes } = part;
        let from = (session.from, session.from_core);
        let hop = Hop { from, to: (session.to, session.to_core), number };
        Some(Part { hop, offset, bytes: bytes.len(), total: total.into() })
    }

    /// No core waits for what came.
    pub(super) fn check_hops(&mut self) {
        let lives = self.nodes.iter().filter_map(|node| node.life.as_ref());
        let broken = lives.map(|life| (life.member.node, self.hops.check(life)));
        let broken = broken.filter_map(|(node, checked)| Some((node, checked.err()?)));
        if let Some((node, broken)) = broken.min() {
            self.fail(format!("node {node}: {broken}"));
        }
    }
}
