//! A client's machine: one connection of an independent TCP, and an ARP cache that may lag.

use crate::kit::client::{self, Client, ClientSettings, Ending};
use crate::kit::dialogue::Dialogue;
use crate::kit::settings;
use crate::kit::workload::Expected;
use stack::time::Instant;
use stack::wire::{Address, Flags, Frame, Mac, Segment, parse};

/// Packets that wait for an address.
const WAITING_PACKETS: usize = 8;
/// Pause between two questions for the same address, in nanoseconds.
const ASK_AGAIN: u64 = 200_000_000;
/// Nothing was heard for so long of an address that is spoken to: it is asked for again.
const DOUBT: u64 = 1_000_000_000;

/// One client's machine.
pub struct Host {
    index: usize,
    /// Last octet of the service that it talks to.
    service: u8,
    /// Its TCP and its dialogue.
    pub client: Client,
    /// What it must have received in the end.
    pub expected: Expected,
    neighbor: Option<Mac>,
    /// A claim that it has heard and will believe then.
    claimed: Option<(Instant, Mac)>,
    /// How long it takes to believe a claim, in nanoseconds.
    lag: u64,
    waiting: Vec<Vec<u8>>,
    asked_at: Instant,
    heard_at: Instant,
    /// Segments with RST that it was sent.
    pub resets: u64,
}

impl Host {
    /// A machine that has just begun to connect.
    pub fn new(
        now: Instant,
        index: usize,
        seed: u64,
        settings: ClientSettings,
        (dialogue, expected): (Dialogue, Expected),
        lag: u64,
    ) -> Host {
        Host {
            index,
            service: settings.host,
            client: Client::new(now, index, seed, settings, dialogue),
            expected,
            neighbor: None,
            claimed: None,
            lag,
            waiting: Vec::new(),
            asked_at: Instant::ZERO,
            heard_at: now,
            resets: 0,
        }
    }

    /// Whether its dialogue is over, one way or the other.
    pub fn is_done(&self) -> bool {
        self.client.is_done() || self.client.ending == Ending::Reset
    }

    /// When [`Host::poll`] is due.
    pub fn poll_timeout(&mut self, now: Instant) -> Option<Instant> {
        let at = self.client.poll_timeout(now);
        let claimed = self.claimed.map(|(at, _)| at);
        let ask = (!self.waiting.is_empty()).then(|| Instant(self.asked_at.0 + ASK_AGAIN));
        [at, claimed, ask].into_iter().flatten().min()
    }

    /// Does what is due; frames to send come out.
    pub fn poll(&mut self, now: Instant) -> Vec<Vec<u8>> {
        if let Some((at, mac)) = self.claimed
            && at <= now
        {
            (self.neighbor, self.claimed) = (Some(mac), None);
        }
        self.client.handle_timeouts(now);
        let mut frames = Vec::new();
        while let Some(packet) = self.client.poll_packet() {
            self.waiting.push(packet);
            if self.waiting.len() > WAITING_PACKETS {
                self.waiting.remove(0);
            }
            self.flush(&mut frames);
        }
        self.flush(&mut frames);
        let in_doubt = !frames.is_empty() && now.0 > self.heard_at.0 + DOUBT;
        let wants = !self.waiting.is_empty() || in_doubt;
        if wants && now.0 >= self.asked_at.0 + ASK_AGAIN {
            self.asked_at = now;
            frames.push(self.question());
        }
        frames
    }

    fn flush(&mut self, frames: &mut Vec<Vec<u8>>) {
        let Some(to) = self.neighbor else { return };
        for packet in self.waiting.drain(..) {
            let mut frame = Vec::with_capacity(14 + packet.len());
            frame.extend_from_slice(&to);
            frame.extend_from_slice(&client::mac(self.index));
            frame.extend_from_slice(&[8, 0]);
            frame.extend_from_slice(&packet);
            frames.push(frame);
        }
    }

    /// An ARP request for the service's address.
    fn question(&self) -> Vec<u8> {
        let mut frame = vec![0xff; 6];
        frame.extend_from_slice(&client::mac(self.index));
        frame.extend_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
        frame.extend_from_slice(&client::mac(self.index));
        frame.extend_from_slice(&client::address(self.index));
        frame.extend_from_slice(&[0; 6]);
        frame.extend_from_slice(&settings::address(self.service));
        frame
    }

    /// Takes a frame from the switch.
    pub fn handle_frame(&mut self, now: Instant, frame: &[u8]) {
        let own = client::mac(self.index);
        let is_broadcast = frame[0] & 1 == 1;
        if frame[..6] != own && !is_broadcast {
            return;
        }
        let to: Mac = frame[..6].try_into().expect("frames have headers");
        match parse(frame, &to, &[]) {
            Ok(Frame::AddressQuery { sender_mac, target, is_claim: true, .. }) => {
                self.handle_claim(now, target, sender_mac);
            }
            Ok(Frame::Tcp(segment)) => self.handle_segment(now, frame, &segment),
            _ => self.handle_answer(now, frame),
        }
    }

    fn handle_claim(&mut self, now: Instant, address: Address, mac: Mac) {
        if address == Address::v4(settings::address(self.service)) {
            // A cache lags behind announcements; one that knows nothing believes at once.
            let at = if self.neighbor.is_none() { now } else { Instant(now.0 + self.lag) };
            self.claimed = Some((at, mac));
        }
    }

    /// An ARP reply is no claim for a node, but one for its asker.
    fn handle_answer(&mut self, now: Instant, frame: &[u8]) {
        let is_reply = frame.len() >= 42 && frame[12..14] == [8, 6] && frame[20..22] == [0, 2];
        if is_reply && frame[28..32] == settings::address(self.service) {
            let mac = frame[22..28].try_into().expect("six bytes");
            self.claimed = Some((now, mac));
            self.heard_at = now;
        }
    }

    fn handle_segment(&mut self, now: Instant, frame: &[u8], segment: &Segment) {
        self.heard_at = now;
        let is_reset = segment.flags.has(Flags::RST);
        self.resets += is_reset as u64;
        let (was_closed, ending) = (self.client.is_closed(), self.client.ending);
        self.client.handle_packet(&frame[14..]);
        self.client.handle_timeouts(now);
        if is_reset && !was_closed && ending == Ending::Open && self.client.is_closed() {
            self.client.ending = Ending::Reset;
        }
    }
}
