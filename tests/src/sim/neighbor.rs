//! What a machine on the clients' network knows of where an address is; its knowledge may lag.
//!
//! Frames are those of ARP and of IPv6's neighbour discovery; the machine asks, answers, believes announcements after a
//! while, and asks again when it has heard nothing for long.
//!
//! Bounds: [`WAITING_PACKETS`] packets wait for an answer, the oldest is lost first.

use crate::kit::settings;
use stack::time::Instant;
use stack::wire::{Address, Frame, Mac, emit_address, emit_query};
use std::collections::VecDeque;

/// Packets that wait for an address.
const WAITING_PACKETS: usize = 8;
/// Pause between two questions for the same address, in nanoseconds.
const ASK_AGAIN: u64 = 200_000_000;
/// Nothing was heard for so long of an address that is spoken to: it is asked for again.
const DOUBT: u64 = 1_000_000_000;

/// Where a machine looks for one address of the cluster.
pub struct Neighbor {
    own: (Mac, Address),
    target: Address,
    known: Option<Mac>,
    /// A claim that it has heard and will believe then.
    claimed: Option<(Instant, Mac)>,
    /// How long it takes to believe a claim, in nanoseconds.
    lag: u64,
    waiting: VecDeque<Vec<u8>>,
    asked_at: Instant,
    heard_at: Instant,
}

impl Neighbor {
    /// For the machine `own`, which speaks to `target` and believes announcements after `lag` nanoseconds.
    pub fn new(now: Instant, own: (Mac, Address), target: Address, lag: u64) -> Neighbor {
        Neighbor {
            own,
            target,
            known: None,
            claimed: None,
            lag,
            waiting: VecDeque::new(),
            asked_at: Instant::ZERO,
            heard_at: now,
        }
    }

    /// When [`Neighbor::poll`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let claimed = self.claimed.map(|(at, _)| at);
        let ask = (!self.waiting.is_empty()).then(|| Instant(self.asked_at.0 + ASK_AGAIN));
        [claimed, ask].into_iter().flatten().min()
    }

    /// Takes packets that are to be sent; whole frames come out.
    pub fn poll(&mut self, now: Instant, packets: impl Iterator<Item = Vec<u8>>) -> Vec<Vec<u8>> {
        if let Some((at, mac)) = self.claimed
            && at <= now
        {
            (self.known, self.claimed) = (Some(mac), None);
        }
        let mut frames = Vec::new();
        for packet in packets {
            self.waiting.push_back(packet);
            if self.waiting.len() > WAITING_PACKETS {
                self.waiting.pop_front();
            }
            self.flush(&mut frames);
        }
        self.flush(&mut frames);
        let in_doubt = !frames.is_empty() && now.0 > self.heard_at.0 + DOUBT;
        let wants = !self.waiting.is_empty() || in_doubt;
        if wants && now.0 >= self.asked_at.0 + ASK_AGAIN {
            self.asked_at = now;
            let mut buffer = [0; 128];
            let len = emit_query(&mut buffer, &self.own.0, &self.own.1, &self.target);
            frames.push(buffer[..len].to_vec());
        }
        frames
    }

    fn flush(&mut self, frames: &mut Vec<Vec<u8>>) {
        let Some(to) = self.known else { return };
        let kind = if self.target.as_v4().is_some() { [8, 0] } else { [0x86, 0xdd] };
        for packet in self.waiting.drain(..) {
            frames.push([&to[..], &self.own.0, &kind, &packet].concat());
        }
    }

    /// Something was heard of the address.
    pub fn note_heard(&mut self, now: Instant) {
        self.heard_at = now;
    }

    /// A frame that is no segment came in, to this Ethernet address; an answer may come out.
    pub fn handle_frame(&mut self, now: Instant, to: Mac, frame: &Frame) -> Option<Vec<u8>> {
        let Frame::AddressQuery { sender_mac, sender, target, is_claim } = frame else {
            return None;
        };
        if *is_claim && *target == self.target {
            let is_answer = to == self.own.0;
            // A cache lags behind announcements; an answer, or anything if nothing was known, is believed at once.
            let lag = if is_answer || self.known.is_none() { 0 } else { self.lag };
            self.claimed = Some((Instant(now.0 + lag), *sender_mac));
            if is_answer {
                self.heard_at = now;
            }
        }
        if *is_claim || *target != self.own.1 {
            return None;
        }
        let mut buffer = [0; 128];
        let asker = Some((*sender_mac, *sender));
        let len = emit_address(&mut buffer, &self.own.0, target, asker);
        Some(buffer[..len].to_vec())
    }
}

/// The address of the service on `host`, of either family.
pub fn service_address(host: u8, ipv6: bool) -> Address {
    match ipv6 {
        false => Address::v4(settings::address(host)),
        true => Address(settings::address_6(host)),
    }
}
