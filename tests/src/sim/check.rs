//! What must hold at every frame: judged by what passes, and by what the other node holds.
//!
//! None of it asks the gate, the lease or the log of the node that speaks.

use crate::kit::settings::{self, Settings};
use crate::sim::node::Life;
use cluster::id::Epoch;
use dataplane::port::BURST;
use stack::flow::Standing;
use stack::key::FlowKey;
use stack::seq::Seq;
use stack::tcp::state::State;
use stack::wire::{Flags, Frame, Mac, Segment, parse};
use std::collections::BTreeMap;

/// What one flow has told its client so far.
#[derive(Clone, Copy, Debug)]
struct Told {
    /// SEG.SEQ of our SYN: a reused port begins anew.
    iss: Seq,
    /// Scale of our windows; `None` until our SYN was seen to carry one.
    scale: u8,
    /// The highest right edge.
    edge: Seq,
    /// Behind our FIN, once it was sent.
    end: Option<Seq>,
    /// The newest TSval, and in which epoch it was said.
    tsval: Option<(u32, Epoch)>,
    /// The group of the flow.
    group: usize,
}

/// Who has spoken for a group.
#[derive(Clone, Copy, Debug, Default)]
struct Voice {
    /// In the newest epoch that was heard.
    epoch: Epoch,
    /// Frames that were heard in older ones since.
    late: usize,
}

/// The checks of one world.
#[derive(Debug, Default)]
pub struct Check {
    told: BTreeMap<FlowKey, Told>,
    voices: Vec<Voice>,
    /// Frames of a former owner, of which each is within its burst.
    pub late: u64,
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
    /// Bursts that may have been under way: one for each core of the node.
    pub bursts: usize,
    /// The node that speaks.
    pub owner: &'a Life,
    /// The in-sync peer of that very epoch, if the owner believes to have one.
    pub peer: Option<&'a Life>,
}

impl Check {
    /// For so many groups.
    pub fn new(groups: usize) -> Check {
        Check { voices: vec![Voice::default(); groups], ..Check::default() }
    }

    /// A frame leaves a node for the clients. Errors: which rule it breaks.
    pub fn note(&mut self, leaving: &Leaving<'_>) -> Result<(), String> {
        self.note_voice(leaving)?;
        let to: Mac = leaving.frame[..6].try_into().expect("frames have headers");
        let Ok(Frame::Tcp(segment)) = parse(leaving.frame, &to, &[]) else { return Ok(()) };
        if segment.flags.has(Flags::RST) {
            self.resets += 1;
            return Ok(());
        }
        let key = FlowKey {
            remote: segment.destination,
            local: segment.source,
            remote_port: segment.destination_port,
            local_port: segment.source_port,
        };
        self.note_manners(leaving, &key, &segment)?;
        self.compare(leaving, &key, &segment)
    }

    /// After the first frame of an epoch at most one burst of each core of an older one.
    fn note_voice(&mut self, leaving: &Leaving<'_>) -> Result<(), String> {
        let voice = &mut self.voices[leaving.group];
        if leaving.epoch > voice.epoch {
            *voice = Voice { epoch: leaving.epoch, late: 0 };
        } else if leaving.epoch < voice.epoch {
            voice.late += 1;
            self.late += 1;
            if voice.late > leaving.bursts * BURST {
                return Err(format!(
                    "two voices: {} frames of epoch {:?} after {:?} had spoken",
                    voice.late, leaving.epoch, voice.epoch
                ));
            }
        }
        Ok(())
    }

    /// The window never shrinks, nothing follows a FIN, TSval never goes back.
    fn note_manners(
        &mut self,
        leaving: &Leaving<'_>,
        key: &FlowKey,
        segment: &Segment<'_>,
    ) -> Result<(), String> {
        if leaving.epoch < self.voices[leaving.group].epoch {
            // A late burst: its client takes it as overtaken by what the new owner said.
            return Ok(());
        }
        let is_syn = segment.flags.has(Flags::SYN);
        if is_syn {
            let scale = segment.options.window_scale.unwrap_or(0);
            let edge = segment.ack + u32::from(segment.window);
            let tsval = segment.options.timestamps.map(|(tsval, _)| (tsval, leaving.epoch));
            let group = leaving.group;
            let told = Told { iss: segment.seq, scale, edge, end: None, tsval, group };
            self.told.entry(*key).and_modify(|known| {
                if known.iss != told.iss {
                    *known = told;
                }
            });
            self.told.entry(*key).or_insert(told);
            return Ok(());
        }
        let Some(told) = self.told.get_mut(key) else { return Ok(()) };
        if leaving.is_flow && told.group != leaving.group {
            let (was, is) = (told.group, leaving.group);
            return Err(format!("a connection of group {was} goes on in group {is}, {key:?}"));
        }
        let edge = segment.ack + (u32::from(segment.window) << told.scale);
        if edge.before(told.edge) {
            let by = told.edge.since(edge);
            // An older promise of the same owner that is sent again is no withdrawal if the edge is rounded down.
            if by >= 1 << told.scale {
                return Err(format!("the window shrank by {by} bytes, {key:?}"));
            }
        }
        told.edge = told.edge.max(edge);
        let end = segment.seq + segment.payload.len() as u32;
        if let Some(fin) = told.end
            && (end + 1).after(fin)
            && !segment.payload.is_empty()
        {
            return Err(format!("payload behind the FIN, {key:?}"));
        }
        if segment.flags.has(Flags::FIN) {
            let fin = end + 1;
            if told.end.is_some_and(|known| known != fin) {
                return Err(format!("two places of the FIN, {key:?}"));
            }
            told.end = Some(fin);
        }
        if let Some((tsval, _)) = segment.options.timestamps {
            let is_back = told.tsval.is_some_and(|(known, _)| Seq(tsval).before(Seq(known)));
            if is_back {
                return Err(format!("TSval went back, {key:?}"));
            }
            told.tsval = Some((tsval, leaving.epoch));
        }
        Ok(())
    }

    /// Nothing is acknowledged or offered that the in-sync peer does not hold.
    fn compare(
        &mut self,
        leaving: &Leaving<'_>,
        key: &FlowKey,
        segment: &Segment<'_>,
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
        if segment.flags.has(Flags::ACK) && segment.ack.after(copy.contract.rcv_nxt) {
            let beyond = segment.ack.since(copy.contract.rcv_nxt);
            return Err(format!(
                "acknowledged {beyond} bytes that the peer does not hold, {key:?}"
            ));
        }
        Ok(())
    }
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

/// Position of the service whose address is the source of a frame to the clients, or is announced in it.
pub fn service_of(settings: &Settings, frame: &[u8]) -> Option<usize> {
    let is_v4 = |port: &settings::Port, source: &[u8]| source == settings::address(port.host);
    let is_v6 = |port: &settings::Port, source: &[u8]| source == settings::address_6(port.host);
    let position = |is_it: &dyn Fn(&settings::Port) -> bool| settings.ports.iter().position(is_it);
    match frame.get(12..14)? {
        [8, 0] => position(&|port| is_v4(port, &frame[26..30])),
        [8, 6] => position(&|port| is_v4(port, &frame[28..32])),
        _ => position(&|port| is_v6(port, frame.get(22..38).unwrap_or(&[]))),
    }
}
