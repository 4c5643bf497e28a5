//! What the switch sees: frames from nodes to clients, and what was said in them.

use super::{Said, World};
use crate::kit::client::{self, Ending};
use crate::kit::settings::{ADDRESS, ADDRESS_6};
use stack::key::FlowKey;
use stack::wire::{Address, Flags, Frame, Mac, Segment, emit_address, parse};

impl World {
    pub(super) fn deliver_answer(&mut self, node: usize, frame: &[u8]) {
        let to: Mac = frame[..6].try_into().expect("frames have headers");
        match parse(frame, &to, &[]) {
            Ok(Frame::AddressQuery { sender_mac, target, is_claim: true, .. }) => {
                if target == Address::v4(ADDRESS) || target == Address(ADDRESS_6) {
                    self.neighbor = Some(sender_mac);
                }
            }
            Ok(Frame::AddressQuery { sender_mac, sender, target, is_claim: false }) => {
                self.answer_query(sender_mac, sender, target);
            }
            Ok(Frame::Tcp(segment)) => self.deliver_segment(node, frame, to, &segment),
            _ => self.note_pong(frame),
        }
    }

    /// A node asks for an address: whichever client has it answers.
    fn answer_query(&mut self, asker: Mac, sender: Address, target: Address) {
        let has_it = |index: &usize| self.clients[*index].key(*index).remote == target;
        if let Some(index) = (0..self.clients.len()).find(has_it) {
            let mut buffer = [0; 128];
            let to = Some((asker, sender));
            let len = emit_address(&mut buffer, &client::mac(index), &target, to);
            self.send_request(buffer[..len].to_vec());
        }
    }

    fn deliver_segment(&mut self, node: usize, frame: &[u8], to: Mac, segment: &Segment) {
        let epoch = self.nodes[node].epoch;
        if epoch < self.epoch_heard {
            self.second_voices += 1;
        }
        self.epoch_heard = self.epoch_heard.max(epoch);
        self.segments += 1;
        let is_reset = segment.flags.has(Flags::RST);
        self.resets += is_reset as u64;
        let now = self.now;
        let is_it =
            |&index: &usize| client::mac(index) == to && !self.clients[index].is_absent(now);
        if let Some(index) = (0..self.clients.len()).find(is_it) {
            let was_closed = self.clients[index].is_closed();
            self.clients[index].handle_packet(&frame[14..]);
            let ending = self.clients[index].ending;
            self.drive_client(index);
            if is_reset && !was_closed && ending == Ending::Open {
                let client = &mut self.clients[index];
                if client.is_closed() {
                    client.ending = Ending::Reset;
                }
            }
        }
        if let Some(raw) = self.raws.iter_mut().find(|raw| raw.mac() == to) {
            raw.handle_segment(now, segment);
        }
    }

    fn note_pong(&mut self, frame: &[u8]) {
        // Ethernet 14, IPv4 20, ICMP: type, code, checksum, identifier, sequence number.
        if frame.len() >= 42 && frame[23] == 1 && frame[34] == 0 {
            let word = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
            self.pongs.push((word(38), word(40)));
        }
    }

    /// Remembers how far a client has come, at the moment it speaks.
    pub(super) fn note_sent(&mut self, frame: &[u8]) {
        let to: Mac = frame[..6].try_into().expect("frames have headers");
        let Ok(Frame::Tcp(segment)) = parse(frame, &to, &[]) else { return };
        let marks = [Flags::SYN, Flags::FIN].map(|flag| u32::from(segment.flags.has(flag)));
        let len = segment.payload.len() as u32 + marks[0] + marks[1];
        if len == 0 || segment.flags.has(Flags::RST) {
            return;
        }
        let key = FlowKey {
            remote: segment.source,
            local: segment.destination,
            remote_port: segment.source_port,
            local_port: segment.destination_port,
        };
        let end = segment.seq + len;
        let known = self.sent.entry(key).or_insert(segment.seq);
        if end.after(*known) {
            *known = end;
        } else {
            self.repeats += 1;
        }
    }

    /// Remembers what a node has told a client, at the moment it leaves.
    pub(super) fn note_said(&mut self, frame: &[u8]) {
        let to: Mac = frame[..6].try_into().expect("frames have headers");
        let Ok(Frame::Tcp(segment)) = parse(frame, &to, &[]) else { return };
        if segment.flags.has(Flags::RST) {
            return;
        }
        let key = FlowKey {
            remote: segment.destination,
            local: segment.source,
            remote_port: segment.destination_port,
            local_port: segment.source_port,
        };
        let is_syn = segment.flags.has(Flags::SYN);
        let scale = segment.options.window_scale.unwrap_or(0);
        if !segment.flags.has(Flags::ACK) {
            self.begun.insert(key, scale);
            return;
        }
        if is_syn {
            let edge = segment.ack + segment.window as u32;
            self.said.insert(key, Said { ack: segment.ack, edge, scale });
            return;
        }
        if let Some(&scale) = self.begun.get(&key) {
            // Every client here scales its windows, so that what our SYN offered is agreed on.
            let edge = segment.ack + ((segment.window as u32) << scale);
            self.said.entry(key).or_insert(Said { ack: segment.ack, edge, scale });
        }
        let Some(said) = self.said.get_mut(&key) else { return };
        let edge = segment.ack + ((segment.window as u32) << said.scale);
        said.ack = said.ack.max(segment.ack);
        said.edge = said.edge.max(edge);
    }
}
