//! A client made by hand: segments as the test wants them, answers as they come.

use crate::kit::settings::ADDRESS;
use stack::key::FlowKey;
use stack::seq::Seq;
use stack::time::Instant;
use stack::wire::{
    Address, Flags, Header, Mac, Path, Segment, SegmentOptions, emit_tcp, payload_offset,
};
use std::collections::VecDeque;

/// A segment that arrived, without borrows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Heard {
    /// When.
    pub at: Instant,
    /// SEG.SEQ
    pub seq: Seq,
    /// SEG.ACK
    pub ack: Seq,
    /// Flags.
    pub flags: Flags,
    /// SEG.WND, not scaled.
    pub window: u16,
    /// Options.
    pub options: SegmentOptions,
    /// Payload.
    pub payload: Vec<u8>,
}

/// A client that does exactly what it is told.
pub struct Raw {
    index: usize,
    port: u16,
    /// Next sequence number to send; moved by [`Raw::send`].
    pub snd_nxt: Seq,
    /// Next sequence number expected; moved by what arrives in order.
    pub rcv_nxt: Seq,
    /// The window that is offered, not scaled.
    pub window: u16,
    /// The options of the next segments; a timestamp is echoed.
    pub options: SegmentOptions,
    /// What arrived and was not taken.
    pub heard: VecDeque<Heard>,
    /// Payload in order so far.
    pub received: Vec<u8>,
    /// The router that its segments come through, if there is one.
    pub router: Option<Mac>,
    /// Acknowledges by itself whatever moves `rcv_nxt`.
    pub acknowledges: bool,
    outgoing: VecDeque<(Header, Vec<u8>)>,
}

impl Raw {
    pub(super) fn new(index: usize, port: u16) -> Raw {
        Raw {
            index,
            port,
            snd_nxt: Seq(7_000),
            rcv_nxt: Seq(0),
            window: 0xffff,
            options: SegmentOptions::default(),
            heard: VecDeque::new(),
            received: Vec::new(),
            router: None,
            acknowledges: false,
            outgoing: VecDeque::new(),
        }
    }

    /// Its Ethernet address, or its router's.
    pub fn mac(&self) -> Mac {
        self.router.unwrap_or(crate::kit::client::mac(self.index))
    }

    /// The flow's name at a node.
    pub fn key(&self) -> FlowKey {
        FlowKey {
            remote: Address::v4(crate::kit::client::address(self.index)),
            local: Address::v4(ADDRESS),
            remote_port: crate::kit::client::port(self.index),
            local_port: self.port,
        }
    }

    /// Queues a segment at `snd_nxt`, which moves on.
    pub fn send(&mut self, flags: Flags, payload: &[u8]) {
        let seq = self.snd_nxt;
        self.send_at(seq, flags, payload);
        let len =
            payload.len() as u32 + flags.has(Flags::SYN) as u32 + flags.has(Flags::FIN) as u32;
        self.snd_nxt = seq + len;
    }

    /// Queues a segment anywhere.
    pub fn send_at(&mut self, seq: Seq, flags: Flags, payload: &[u8]) {
        let ack = if flags.has(Flags::ACK) { self.rcv_nxt } else { Seq(0) };
        self.send_exactly(seq, ack, flags, payload);
    }

    /// Queues a segment with any SEG.ACK.
    pub fn send_exactly(&mut self, seq: Seq, ack: Seq, flags: Flags, payload: &[u8]) {
        let header = Header {
            source_port: crate::kit::client::port(self.index),
            destination_port: self.port,
            seq,
            ack,
            flags,
            window: self.window,
            options: self.options,
        };
        self.outgoing.push_back((header, payload.to_vec()));
    }

    /// The next queued segment, as a frame to this Ethernet address.
    pub fn poll_frame(&mut self, to: Mac) -> Option<Vec<u8>> {
        let (header, payload) = self.outgoing.pop_front()?;
        let path = Path {
            source_mac: self.mac(),
            destination_mac: to,
            source: Address::v4(crate::kit::client::address(self.index)),
            destination: Address::v4(ADDRESS),
            hop_limit: 64,
        };
        let mut buffer = [0; 2048];
        let at = payload_offset(&path.destination, &header.options);
        buffer[at..at + payload.len()].copy_from_slice(&payload);
        let len = emit_tcp(&mut buffer, &path, &header, payload.len());
        Some(buffer[..len].to_vec())
    }

    pub(super) fn handle_segment(&mut self, at: Instant, segment: &Segment) {
        self.heard.push_back(Heard {
            at,
            seq: segment.seq,
            ack: segment.ack,
            flags: segment.flags,
            window: segment.window,
            options: segment.options,
            payload: segment.payload.to_vec(),
        });
        if segment.flags.has(Flags::RST) {
            return;
        }
        let (mut seq, mut payload) = (segment.seq, segment.payload);
        if segment.flags.has(Flags::SYN) {
            self.rcv_nxt = segment.seq + 1;
            return;
        }
        if seq.before(self.rcv_nxt) {
            let known = (self.rcv_nxt.since(seq) as usize).min(payload.len());
            (seq, payload) = (seq + known as u32, &payload[known..]);
        }
        let before = self.rcv_nxt;
        if seq == self.rcv_nxt {
            self.received.extend_from_slice(payload);
            self.rcv_nxt += payload.len() as u32 + segment.flags.has(Flags::FIN) as u32;
        }
        if self.acknowledges && (self.rcv_nxt != before || !segment.is_empty()) {
            self.send(Flags::ACK, &[]);
        }
    }

    /// Takes the oldest segment that arrived.
    pub fn take(&mut self) -> Option<Heard> {
        self.heard.pop_front()
    }

    /// Takes every segment that arrived.
    pub fn take_all(&mut self) -> Vec<Heard> {
        self.heard.drain(..).collect()
    }
}
