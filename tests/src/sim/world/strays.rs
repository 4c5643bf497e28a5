//! Frames that reached the wrong node are handed on to the right one: soon, and once in each ownership.
//!
//! They are followed by their bytes, from NIC to NIC; the shelf of the node that hands them on is not asked. Where the cluster's
//! network is sealed none of it can be read.
//!
//! Bounds: [`SOON`] from a frame's arrival, if nothing goes wrong meanwhile.

use super::{Node, World};
use crate::sim::fault::MS;
use crate::sim::node::client_mac;
use cluster::id::{Epoch, GroupId};
use cluster::link::LINK_HEADER_BYTES;
use cluster::mirror::{Body, decode};
use stack::flow::{Flow, Standing};
use stack::key::FlowKey;
use stack::tcp::state::State;
use stack::wire::{Frame, parse};
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};

/// Within so long a node that knows who serves a flow has handed on what was said to it, in nanoseconds.
const SOON: u64 = 50 * MS;
/// Bytes of a frame by which it is known again; a longer one comes in parts of which the first has as many.
const PRINT_BYTES: usize = 1_000;
/// The Ethernet address to which a frame is sent: that changes on its way.
const TO_BYTES: usize = 6;

/// A frame, known by its bytes, at a node.
type Seen = (usize, u64);

/// How often a frame came to a node.
#[derive(Debug, Default)]
struct Came {
    /// Over the clients' network.
    directly: u64,
    /// From another node, under these ownerships.
    hops: Vec<(GroupId, Epoch)>,
}

/// A frame that a node has to hand on.
#[derive(Debug)]
struct Due {
    at: u64,
    group: usize,
    epoch: Epoch,
}

/// All frames that came to nodes, and what was handed on.
#[derive(Debug, Default)]
pub(super) struct Strays {
    came: BTreeMap<Seen, Came>,
    left: BTreeMap<(Seen, GroupId, Epoch), u64>,
    due: BTreeMap<Seen, Due>,
}

impl Strays {
    /// Something goes wrong: nobody is blamed for what is not done meanwhile.
    pub fn excuse(&mut self) {
        self.due.clear();
    }

    /// A node hands a frame on. Errors: it has done so as often as the frame came.
    fn hand_on(&mut self, seen: Seen, group: GroupId, epoch: Epoch) -> Result<(), String> {
        self.due.remove(&seen);
        let left = self.left.entry((seen, group, epoch)).or_default();
        *left += 1;
        let is_before = |(of, under): &&(GroupId, Epoch)| *of != group || *under < epoch;
        let came = self
            .came
            .get(&seen)
            .map_or(0, |came| came.directly + came.hops.iter().filter(is_before).count() as u64);
        match *left > came {
            false => Ok(()),
            true => {
                Err(format!("handed a frame on {left} times in {epoch:?} that came {came} times"))
            }
        }
    }
}

impl World {
    /// A frame has come to a node over the clients' network.
    pub(super) fn note_came(&mut self, node: usize, frame: &[u8]) {
        if self.shape.is_sealed || self.nodes[node].life.is_none() {
            return;
        }
        let seen = (node, print(frame.len(), frame));
        self.strays.came.entry(seen).or_default().directly += 1;
        if let Some((group, epoch)) = self.whose(node, frame) {
            let due = Due { at: self.now + SOON, group, epoch };
            self.strays.due.entry(seen).or_insert(due);
        }
    }

    /// A datagram has come to a node over the cluster's network.
    pub(super) fn note_hopped(&mut self, node: usize, datagram: &[u8]) {
        if let Some((print, group, epoch)) = self.forwarded(datagram) {
            self.strays.came.entry((node, print)).or_default().hops.push((group, epoch));
        }
    }

    /// A datagram leaves a node over the cluster's network.
    pub(super) fn note_left(&mut self, node: usize, datagram: &[u8]) {
        if let Some((print, group, epoch)) = self.forwarded(datagram)
            && let Err(broken) = self.strays.hand_on((node, print), group, epoch)
        {
            self.fail(format!("node {} {broken}", node + 1));
        }
    }

    /// No frame waits for longer than it should.
    pub(super) fn check_strays(&mut self) {
        let is_late = |(_, due): &(&Seen, &Due)| due.at <= self.now;
        let Some((&seen, _)) = self.strays.due.iter().find(is_late) else { return };
        let Some(due) = self.strays.due.remove(&seen) else { return };
        let register = self.nodes[seen.0].life.as_ref().map(|life| life.registers[due.group]);
        if register.is_some_and(|register| register.epoch == due.epoch) {
            let message = format!("node {} did not hand on what it knows whose it is", seen.0 + 1);
            self.fail(message);
        }
    }

    /// The frame that a datagram hands on, if it does.
    fn forwarded(&self, datagram: &[u8]) -> Option<(u64, GroupId, Epoch)> {
        if self.shape.is_sealed {
            return None;
        }
        let Ok((session, Body::Frame(part))) = decode(datagram.get(LINK_HEADER_BYTES..)?) else {
            return None;
        };
        let is_first = part.offset == 0;
        is_first.then(|| (print(part.total.into(), part.bytes), session.group, session.epoch))
    }

    /// If a frame to a node is of a flow that another one serves, and nothing keeps it from knowing that and from saying so: the
    /// flow's group, and the epoch in which it is served.
    fn whose(&self, node: usize, frame: &[u8]) -> Option<(usize, Epoch)> {
        let to = client_mac(node);
        let is_able = self.cluster.is_well(self.now) && self.nodes[node].per_frame == 0;
        if !frame.starts_with(&to) || !is_able || !self.is_hale(node) {
            return None;
        }
        let Ok(Frame::Tcp(segment)) = parse(frame, &to, &[]) else { return None };
        let key = FlowKey::of(&segment);
        let here = self.nodes[node].life.as_ref()?;
        if here.find(&key).is_some_and(|flow| flow.standing != Standing::Silent) {
            return None;
        }
        // What is over stays where it was served until the peer is known to know that; the copy is gone by then.
        let is_served = |flow: &&Flow| {
            flow.standing != Standing::Silent && flow.contract.state != State::Closed
        };
        let served = |other: &Node| {
            let life = other.life.as_ref()?;
            let flow = life.find(&key).filter(is_served)?;
            let group = usize::from(flow.group);
            let register = life.registers[group];
            let has_voice = life.lease(group) > other.machine.local(self.now);
            (has_voice && register.owner == life.member).then_some((group, register))
        };
        let (group, register) = self.nodes.iter().find_map(served)?;
        (here.registers[group] == register).then_some((group, register.epoch))
    }
}

/// A frame of so many bytes, of which these are the first, whomever it is sent to.
fn print(total: usize, bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write_usize(total);
    hasher.write(&bytes[TO_BYTES.min(bytes.len())..bytes.len().min(PRINT_BYTES)]);
    hasher.finish()
}
