//! The wires: what is on its way, taken, lost, handed over, printed; and the planted defects of the cluster link.

use super::{Event, World};
use crate::kit::settings::Hops;
use cluster::id::Op;
use cluster::link;
use cluster::mirror::{Body, Kind, decode, next_record, put_header, put_record};
use stack::codec::{Put, Reader};
use stack::wire::{Frame, Mac, Segment, parse};

impl World {
    pub(super) fn put_datagram(&mut self, node: usize, frame: &[u8]) {
        if self.settings.forge_acknowledgements {
            self.forge_acknowledgement(node, frame);
        }
        if let Some(tapped) = &mut self.tapped {
            tapped.push((node, link_payload(frame).to_vec()));
        }
        let to = 1 - node;
        let mut link = self.settings.cluster_link;
        if let Ok((_, Body::Frame(_) | Body::Returned(_))) = decode(link_payload(frame)) {
            match self.settings.hops {
                Hops::Arrive => {}
                Hops::Lost => link.loss_permille = 1000,
                Hops::Twice => link.twice_permille = 1000,
                Hops::Late(time) => link.delay.0 += time.0,
            }
        }
        if !self.settings.split_records {
            self.put(link, Event::Datagram { node: to, frame: frame.to_vec() });
            self.nodes[node].count_output();
            return;
        }
        for payload in split(link_payload(frame)) {
            let frame = self.datagram_frame(node, &payload);
            self.put(link, Event::Datagram { node: to, frame });
            self.nodes[node].count_output();
            if !self.nodes[node].is_alive {
                return;
            }
        }
    }

    fn datagram_frame(&self, from: usize, payload: &[u8]) -> Vec<u8> {
        let mut buffer = [0; 2048];
        let (a, b) = (self.nodes[from].endpoint, self.nodes[1 - from].endpoint);
        let len = link::emit(&mut buffer, &a, &b, payload);
        buffer[..len].to_vec()
    }

    /// The planted defect: the owner is told at once that the peer holds what it has just been sent.
    fn forge_acknowledgement(&mut self, node: usize, frame: &[u8]) {
        let Ok((session, Body::Records { first, count, .. })) = decode(link_payload(frame)) else {
            return;
        };
        let mut ack = Vec::new();
        put_header(&mut ack, &session.reversed(), Kind::Ack);
        ack.put_u64(first.0 + count as u64 - 1);
        ack.put_u64(0);
        ack.put_u64(0);
        ack.put_u8(0);
        let frame = self.datagram_frame(1 - node, &ack);
        let now = self.now;
        self.nodes[node].handle_datagram(now, &frame);
    }

    /// Takes the datagrams to `node` that are on their way, oldest first.
    pub fn take_datagrams(&mut self, node: usize) -> Vec<Vec<u8>> {
        let is_wanted =
            |event: &Event| matches!(event, Event::Datagram { node: to, .. } if *to == node);
        let events = std::mem::take(&mut self.events);
        let (taken, kept): (Vec<_>, Vec<_>) =
            events.into_iter().partition(|(_, event)| is_wanted(event));
        self.events = kept.into_iter().collect();
        let frame = |(_, event)| match event {
            Event::Datagram { frame, .. } => frame,
            _ => unreachable!("only datagrams were taken"),
        };
        taken.into_iter().map(frame).collect()
    }

    /// Hands a node a datagram now, whatever the link is like.
    pub fn hand_datagram(&mut self, node: usize, frame: &[u8]) {
        let now = self.now;
        self.nodes[node].handle_datagram(now, frame);
    }

    /// The same with what the other node says in a datagram.
    pub fn hand_payload(&mut self, node: usize, payload: &[u8]) {
        let frame = self.datagram_frame(1 - node, payload);
        self.hand_datagram(node, &frame);
    }

    /// The planted defect: a datagram of records as if the one before it had never been.
    pub fn skip_hole(&self, to: usize, frame: &[u8]) -> Vec<u8> {
        let Ok((session, Body::Records { first, clock, count, bytes })) =
            decode(link_payload(frame))
        else {
            return frame.to_vec();
        };
        let mut out = Vec::new();
        put_header(&mut out, &session, Kind::Records);
        out.put_u64(first.0 - 1);
        out.put_u64(clock);
        out.put_u16(count);
        out.put_bytes(bytes);
        self.datagram_frame(1 - to, &out)
    }

    /// What a node has put out to clients and is on its way is lost.
    pub fn lose_answers(&mut self, node: usize) {
        self.events
            .retain(|_, event| !matches!(event, Event::Answer { node: from, .. } if *from == node));
    }

    /// Takes the frames of a node that are on their way to clients, oldest first: a burst that was checked and
    /// whose kick is late.
    pub fn take_answers(&mut self, node: usize) -> Vec<Vec<u8>> {
        let events = std::mem::take(&mut self.events);
        let mut taken = Vec::new();
        for (at, event) in events {
            match event {
                Event::Answer { node: from, frame } if from == node => taken.push(frame),
                event => drop(self.events.insert(at, event)),
            }
        }
        taken
    }

    /// Lets frames of a node reach the clients now, whatever happened since they were made.
    pub fn put_answers(&mut self, node: usize, frames: Vec<Vec<u8>>) {
        for frame in frames {
            self.events_count += 1;
            self.events.insert((self.now, self.events_count), Event::Answer { node, frame });
        }
    }

    pub(super) fn print(&self, event: &Event) {
        let (frame, what) = match event {
            Event::Request { node, frame } => (frame, format!("client -> {node}")),
            Event::Answer { node, frame } => (frame, format!("client <- {node}")),
            Event::Datagram { node, frame } => {
                let Ok((_, body)) = decode(link_payload(frame)) else { return };
                match body {
                    Body::Records { first, count, bytes, .. } => {
                        let record = next_record(&mut Reader::new(bytes)).map(|record| record.kind);
                        println!("{:?} records {first}+{count} -> {node} {record:?}", self.now);
                    }
                    Body::Ack { acked, missing, .. } => {
                        println!("{:?} ack {acked} -> {node}, missing {missing:?}", self.now);
                    }
                    Body::Frame(part) | Body::Returned(part) => {
                        let (number, offset, total) = (part.number, part.offset, part.total);
                        println!("{:?} frame {number} {offset}/{total} -> {node}", self.now);
                    }
                }
                return;
            }
            Event::Verdict { node, server, is_up } => {
                println!("{:?} node {node} finds server {server} up: {is_up}", self.now);
                return;
            }
        };
        let to: Mac = frame[..6].try_into().expect("frames have headers");
        if let Ok(Frame::Tcp(segment)) = parse(frame, &to, &[]) {
            let Segment { seq, ack, window, flags, payload, options, .. } = segment;
            let (len, flags) = (payload.len(), flags.0);
            let sack: Vec<_> = options.sack.iter().flatten().collect();
            println!(
                "{:?} {what} port {} seq {seq:?} ack {ack:?} flags {flags:#x} window {window} len {len} {sack:?}",
                self.now,
                segment.source_port.max(segment.destination_port),
            );
        }
    }
}

fn link_payload(frame: &[u8]) -> &[u8] {
    &frame[link::LINK_HEADER_BYTES..]
}

/// Datagrams with one record each that say what `payload` says.
fn split(payload: &[u8]) -> Vec<Vec<u8>> {
    let Ok((session, Body::Records { first, clock, count, bytes })) = decode(payload) else {
        return vec![payload.to_vec()];
    };
    let mut reader = Reader::new(bytes);
    let single = |n: u64| {
        let record = next_record(&mut reader).expect("an owner's records can be read");
        let mut out = Vec::new();
        put_header(&mut out, &session, Kind::Records);
        out.put_u64(Op(first.0 + n).0);
        out.put_u64(clock);
        out.put_u16(1);
        put_record(&mut out, record.kind, record.flow, record.bytes.len());
        out.put_bytes(record.bytes);
        out
    };
    (0..count as u64).map(single).collect()
}
