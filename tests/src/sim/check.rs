//! What must hold at every frame: judged by what passes, and by what the other node holds.
//!
//! None of it asks the gate, the lease or the log of the node that speaks.

use crate::kit::settings::{self, Settings};
use crate::sim::denial::Denials;
use crate::sim::manners::{Manners, SaidBy, end_of};
use crate::sim::node::Life;
use crate::sim::wake::Wakes;
use cluster::id::Epoch;
use dataplane::port::BURST;
use stack::app::proxy::Ack;
use stack::flow::{Flow, Standing};
use stack::key::FlowKey;
use stack::seq::Seq;
use stack::tcp::contract::Contract;
use stack::tcp::state::State;
use stack::wire::{Flags, Frame, Mac, Segment, parse};

/// Who has spoken for a group.
#[derive(Clone, Copy, Debug)]
struct Voice {
    /// In the newest epoch that was heard.
    epoch: Epoch,
    /// The epoch of the last takeover, as the register has it.
    taken_over: Epoch,
    /// Frames that were heard in older ones since.
    late: usize,
}

/// The checks of one world.
#[derive(Debug, Default)]
pub struct Check {
    manners: Manners,
    /// Who denies what it has said.
    denials: Denials,
    /// Whom a takeover has to wake.
    pub wakes: Wakes,
    voices: Vec<Voice>,
    /// Frames of a former owner, of which each is within its burst.
    pub late: u64,
    /// Frames beyond that burst: a second voice.
    pub two_voices: u64,
    /// Segments that were compared with the copy that the peer holds.
    pub compared: u64,
    /// Resets sent to clients.
    pub resets: u64,
}

/// A frame that leaves a node, and under what.
pub struct Leaving<'a> {
    /// The frame.
    pub frame: &'a [u8],
    /// Index of its group.
    pub group: usize,
    /// It is of a flow of that group.
    pub is_flow: bool,
    /// The epoch in which its core serves the group.
    pub epoch: Epoch,
    /// When it leaves.
    pub now: u64,
    /// Bursts that may have been under way: one for each core of the node.
    pub bursts: usize,
    /// The node that speaks.
    pub owner: &'a Life,
    /// Nothing keeps any of its cores from working.
    pub is_hale: bool,
    /// The in-sync peer of that very epoch, if the owner believes to have one.
    pub peer: Option<&'a Life>,
}

impl Check {
    /// For so many groups, behind a link of so many megabits a second.
    pub fn new(groups: usize, link_mbits: u32) -> Check {
        let nobody = Voice { epoch: Epoch(0), taken_over: Epoch(0), late: 0 };
        let wakes = Wakes::new(link_mbits);
        Check { voices: vec![nobody; groups], wakes, ..Check::default() }
    }

    /// A register has got this epoch, by a takeover or not. What was written before and lost with the witness's power does
    /// not count.
    pub fn note_step(&mut self, group: usize, epoch: Epoch, is_takeover: bool) {
        if !is_takeover {
            self.wakes.forget_moved(group);
        }
        let known = &mut self.voices[group].taken_over;
        if is_takeover {
            *known = epoch;
        } else if *known >= epoch {
            *known = Epoch(0);
        }
    }

    /// The epoch with which a group was taken over last, as far as that stands.
    pub fn taken_over(&self, group: usize) -> Epoch {
        self.voices[group].taken_over
    }

    /// A frame leaves a node for the clients. Errors: which rule it breaks.
    pub fn note(&mut self, leaving: &Leaving<'_>) -> Result<(), String> {
        self.note_voice(leaving)?;
        let to: Mac = leaving.frame[..6].try_into().expect("frames have headers");
        let Ok(Frame::Tcp(segment)) = parse(leaving.frame, &to, &[]) else { return Ok(()) };
        let key = FlowKey {
            remote: segment.destination,
            local: segment.source,
            remote_port: segment.destination_port,
            local_port: segment.source_port,
        };
        if segment.flags.has(Flags::RST) {
            self.resets += 1;
            self.wakes.forget(&key);
            return compare_reset(leaving, &key);
        }
        self.denials.note_told(&key, &segment);
        let part = (segment.seq, end_of(&segment));
        self.wakes.note_said(leaving.group, leaving.epoch, &key, part);
        // A late burst is no bad manners: its client takes it as overtaken by what the new owner said.
        let voice = self.voices[leaving.group];
        let is_late = leaving.epoch < voice.epoch;
        let edge = match is_late {
            false => {
                let said_by = SaidBy {
                    group: leaving.is_flow.then_some(leaving.group),
                    epoch: leaving.epoch,
                    taken_over: voice.taken_over,
                };
                let said = self.manners.note_said(&key, &segment, said_by);
                said.map_err(|why| format!("{why}, {key:?}"))?
            }
            true => None,
        };
        self.compare(leaving, &key, &segment, edge)
    }

    /// A client or server sends a frame; answers in which connection it begins to deny what it has said.
    pub fn note_heard(&mut self, now: u64, frame: &[u8]) -> Option<FlowKey> {
        let to: Mac = frame[..6].try_into().expect("frames have headers");
        let Ok(Frame::Tcp(segment)) = parse(frame, &to, &[]) else { return None };
        let key = FlowKey {
            remote: segment.source,
            local: segment.destination,
            remote_port: segment.source_port,
            local_port: segment.destination_port,
        };
        self.manners.note_heard(&key, &segment);
        match segment.flags.has(Flags::RST) {
            true => self.wakes.forget(&key),
            false => self.wakes.note_heard(now, &key, (segment.ack, segment.payload.len())),
        }
        self.denials.note_heard(&key, &segment).then_some(key)
    }

    /// Whether the other side of a connection has denied what it said, and not taken that back.
    pub fn is_denied(&self, key: &FlowKey) -> bool {
        self.denials.stands(key)
    }

    /// After the first frame of an epoch at most one burst of each core of an older one.
    fn note_voice(&mut self, leaving: &Leaving<'_>) -> Result<(), String> {
        let voice = &mut self.voices[leaving.group];
        if leaving.epoch > voice.epoch {
            let (group, epoch) = (leaving.group, leaving.epoch);
            // Who has changed places with the former owner has nobody to wake.
            let has_taken_over =
                voice.epoch > Epoch(0) && (voice.epoch.next()..=epoch).contains(&voice.taken_over);
            *voice = Voice { epoch, late: 0, ..*voice };
            if has_taken_over {
                let holds = |key: &FlowKey, heard: Seq| {
                    let flow = leaving.owner.find(key).filter(|_| leaving.is_hale);
                    flow.is_some_and(|flow| has_more(flow, heard))
                };
                self.wakes.begin(leaving.now, group, epoch, holds);
            }
        } else if leaving.epoch < voice.epoch {
            voice.late += 1;
            self.late += 1;
            if voice.late > leaving.bursts * BURST {
                self.two_voices += 1;
                return Err(format!(
                    "two voices: {} frames of epoch {:?} after {:?} had spoken",
                    voice.late, leaving.epoch, voice.epoch
                ));
            }
        }
        Ok(())
    }

    /// Nothing is acknowledged or offered that the in-sync peer does not hold.
    fn compare(
        &mut self,
        leaving: &Leaving<'_>,
        key: &FlowKey,
        segment: &Segment<'_>,
        edge: Option<(Seq, u32)>,
    ) -> Result<(), String> {
        let Some(peer) = leaving.peer else { return Ok(()) };
        let Some(flow) = leaving.owner.find(key) else { return Ok(()) };
        if flow.standing == Standing::Absent || flow.contract.state == State::Closed {
            return Ok(());
        }
        let Some(copy) = peer.find(key).filter(|copy| copy.id == flow.id) else {
            return Err(format!(
                "the peer knows nothing of a flow in {}, {key:?}",
                flow.contract.state
            ));
        };
        self.compared += 1;
        compare_contracts(flow, copy)?;
        if segment.flags.has(Flags::ACK) && segment.ack.after(copy.contract.rcv_nxt) {
            let beyond = segment.ack.since(copy.contract.rcv_nxt);
            return Err(format!(
                "acknowledged {beyond} bytes that the peer does not hold, {key:?}"
            ));
        }
        self.compare_passed(leaving.owner, flow, segment)?;
        compare_output(flow, copy, segment).map_err(|why| format!("{why}, {key:?}"))?;
        // What the scale cannot say is rounded up where the window would shrink else. A FIN may stand at the edge.
        let Contract { rcv_nxt, rcv_edge, .. } = copy.contract;
        let known = if rcv_nxt.after(rcv_edge) { rcv_nxt } else { rcv_edge };
        if let Some((edge, unit)) = edge
            && edge.after(known)
            && edge.since(known) >= unit
        {
            let beyond = edge.since(known);
            return Err(format!(
                "offered {beyond} bytes of window that the peer does not know of, {key:?}"
            ));
        }
        Ok(())
    }

    /// With acknowledgements end to end nothing is acknowledged to its sender that its receiver has not acknowledged.
    fn compare_passed(&self, owner: &Life, flow: &Flow, segment: &Segment) -> Result<(), String> {
        let leg = flow.app.leg().filter(|leg| leg.ack == Ack::EndToEnd && leg.is_joined());
        let Some(leg) = leg else { return Ok(()) };
        let mut flows = owner.flows(flow.group.into());
        let Some(other) = flows.find(|other| other.id == flow.id.other_leg()) else {
            return Ok(());
        };
        let Some(heard) = self.wakes.heard(&other.key) else { return Ok(()) };
        let arrived = other.contract.offset_of(heard).unwrap_or(0);
        let is_closing =
            other.output.is_closed() || other.app.leg().is_some_and(|leg| leg.behind.fin);
        let outstanding = (other.output.end() + u64::from(is_closing)).saturating_sub(arrived);
        // The header of the PROXY protocol before it is the node's own.
        let outstanding = outstanding.min(flow.contract.received + u64::from(is_closing));
        let taken = flow.contract.rcv_nxt + u32::from(leg.ahead.fin);
        let kept = i64::from(taken.distance(segment.ack));
        match kept < outstanding as i64 {
            false => Ok(()),
            true => Err(format!(
                "acknowledged {} bytes too early, {:?}",
                outstanding as i64 - kept,
                flow.key
            )),
        }
    }
}

/// Whether a frame asks where somebody is.
pub fn is_question(frame: &[u8]) -> bool {
    let to = frame.get(..6).and_then(|to| to.try_into().ok()).unwrap_or_default();
    matches!(parse(frame, &to, &[]), Ok(Frame::AddressQuery { is_claim: false, .. }))
}

/// Whether a frame is a reset that answers a segment of no connection: it has the number that this acknowledges, or none (RFC
/// 9293 3.10.7.1). One that ends a connection has its own, and acknowledges.
pub fn answers_stranger(frame: &[u8]) -> bool {
    let to = frame.get(..6).and_then(|to| to.try_into().ok()).unwrap_or_default();
    let Ok(Frame::Tcp(segment)) = parse(frame, &to, &[]) else { return false };
    let has_own = segment.flags.has(Flags::ACK) && segment.seq != Seq(0);
    segment.flags.has(Flags::RST) && !has_own
}

/// Whether a frame opens a connection, or answers one that does.
pub fn is_syn(frame: &[u8]) -> bool {
    let to = frame.get(..6).and_then(|to| to.try_into().ok()).unwrap_or_default();
    matches!(parse(frame, &to, &[]), Ok(Frame::Tcp(segment)) if segment.flags.has(Flags::SYN))
}

/// Whether a flow has something to say to a client that has heard everything before.
fn has_more(flow: &Flow, heard: Seq) -> bool {
    let contract = &flow.contract;
    let bytes = flow.output.end().saturating_sub(contract.una_offset) as u32;
    let end = contract.snd_una + bytes + u32::from(flow.output.is_closed());
    contract.state.is_synchronized() && end.after(heard)
}

/// The connection of a segment that leaves.
pub fn key_of(frame: &[u8]) -> Option<FlowKey> {
    let to: Mac = frame[..6].try_into().ok()?;
    let Ok(Frame::Tcp(segment)) = parse(frame, &to, &[]) else { return None };
    Some(FlowKey {
        remote: segment.destination,
        local: segment.source,
        remote_port: segment.destination_port,
        local_port: segment.source_port,
    })
}

/// A copy holds what its flow does, as soon as it has all that was recorded.
pub fn compare_contracts(flow: &Flow, copy: &Flow) -> Result<(), String> {
    match flow.is_committed() && flow.recorded() != copy.contract {
        false => Ok(()),
        true => Err(format!(
            "a copy differs, {:?}: {:?} and {:?}",
            flow.key,
            flow.recorded(),
            copy.contract
        )),
    }
}

/// Nothing is said that the peer, which has heard all that the owner has, would not say by itself: what follows from time and
/// decisions waits for it. (What an application keeps back follows acknowledgements, which may lag; what one leg of a proxied
/// connection says follows the other.)
fn compare_output(flow: &Flow, copy: &Flow, segment: &Segment<'_>) -> Result<(), String> {
    let (owner, peer) = (&flow.contract, &copy.contract);
    let has_heard_all = peer.state.is_synchronized() && peer.rcv_nxt == owner.rcv_nxt;
    let is_open = flow.app.leg().is_some() || copy.app.blocked(&copy.output);
    // After a takeover a client may have had more from the former owner: what says nothing stands behind that.
    let says_nothing = end_of(segment) == segment.seq;
    if segment.flags.has(Flags::SYN) || says_nothing || !has_heard_all || is_open {
        return Ok(());
    }
    let said = owner.offset_of(end_of(segment)).unwrap_or(0);
    let known = copy.output.end() + u64::from(copy.output.is_closed());
    match said.checked_sub(known) {
        None | Some(0) => Ok(()),
        Some(beyond) => Err(format!("said {beyond} bytes that the peer would not say")),
    }
}

/// A connection that its owner has ended is told so only when the peer knows of that end.
fn compare_reset(leaving: &Leaving<'_>, key: &FlowKey) -> Result<(), String> {
    let lives = |life: &Life| {
        let flow = life.find(key).filter(|flow| flow.contract.state != State::Closed)?;
        Some(flow.id)
    };
    let Some(peer) = leaving.peer else { return Ok(()) };
    match (lives(leaving.owner), lives(peer)) {
        (None, Some(copy)) => {
            Err(format!("reset a connection that the peer would carry on, {copy:?}, {key:?}"))
        }
        _ => Ok(()),
    }
}

/// Position of the service whose address is the source of a frame to the clients, or is announced in it.
pub fn service_of(settings: &Settings, frame: &[u8]) -> Option<usize> {
    let connects = |port: &settings::Port| port.port == settings::PROXY;
    let is_v4 = |port: &settings::Port, source: &[u8]| {
        let is_own = port.hosts().any(|host| source == settings::address(host));
        is_own || connects(port) && source == settings::SOURCE
    };
    let is_v6 = |port: &settings::Port, source: &[u8]| {
        let is_own = port.hosts().any(|host| source == settings::address_6(host));
        is_own || connects(port) && source == settings::SOURCE_6
    };
    let position = |is_it: &dyn Fn(&settings::Port) -> bool| settings.ports.iter().position(is_it);
    match frame.get(12..14)? {
        [8, 0] => position(&|port| is_v4(port, &frame[26..30])),
        [8, 6] => position(&|port| is_v4(port, &frame[28..32])),
        _ => position(&|port| is_v6(port, frame.get(22..38).unwrap_or(&[]))),
    }
}
