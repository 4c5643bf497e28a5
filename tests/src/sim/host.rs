//! A client's machine: one connection of an independent TCP.

use crate::kit::client::{self, Client, Ending};
use crate::kit::workload::Expected;
use crate::sim::neighbor::{Neighbor, service_address};
use crate::sim::pulse::Pulse;
use crate::sim::workload::Caller;
use stack::key::FlowKey;
use stack::time::Instant;
use stack::wire::{Address, Flags, Frame, Mac, parse};

/// One client's machine.
pub struct Host {
    number: usize,
    /// Its TCP and its dialogue.
    pub client: Client,
    /// What it must have received in the end.
    pub expected: Expected,
    /// It resets its connection in the end, and may not have heard everything.
    pub is_abrupt: bool,
    /// It may be reset: nobody is waiting for it, or the server of its connection may have failed.
    pub is_excused: bool,
    /// Its connection is passed on to a server.
    pub is_proxied: bool,
    /// When it began to connect, in true time.
    pub since: u64,
    /// It was refused by a service that may do so.
    pub is_refused: bool,
    neighbor: Neighbor,
    /// Segments with RST that it was sent.
    pub resets: u64,
    /// How long its transfer has stood still.
    pub pulse: Pulse,
}

impl Host {
    /// A machine that has just begun to connect; `number` is its own among clients and servers.
    pub fn new(now: Instant, number: usize, seed: u64, caller: Caller) -> Host {
        let Caller { settings, dialogue, expected, lag, is_abrupt, is_excused, is_proxied } =
            caller;
        let address = match settings.ipv6 {
            false => Address::v4(client::address(number)),
            true => Address(client::address_6(number)),
        };
        let service = service_address(settings.host, settings.ipv6);
        Host {
            number,
            client: Client::new(now, number, seed, settings, dialogue),
            expected,
            is_abrupt,
            is_excused,
            is_proxied,
            since: now.0,
            is_refused: false,
            neighbor: Neighbor::new(now, (client::mac(number), address), service, lag),
            resets: 0,
            pulse: Pulse::new(now),
        }
    }

    /// Whether its dialogue is over, one way or the other.
    pub fn is_done(&self) -> bool {
        self.client.is_done() || self.client.ending == Ending::Reset
    }

    /// Both ends of its connection, as a node names them.
    pub fn key(&self) -> FlowKey {
        self.client.key(self.number)
    }

    /// When [`Host::poll`] is due.
    pub fn poll_timeout(&mut self, now: Instant) -> Option<Instant> {
        let at = self.client.poll_timeout(now);
        [at, self.neighbor.poll_timeout()].into_iter().flatten().min()
    }

    /// Does what is due; frames to send come out.
    pub fn poll(&mut self, now: Instant) -> Vec<Vec<u8>> {
        self.client.handle_timeouts(now);
        self.note_progress(now);
        let Host { client, neighbor, .. } = self;
        neighbor.poll(now, std::iter::from_fn(|| client.poll_packet()))
    }

    /// Takes a frame from the switch; an answer to a question may come out. Who has not been let in yet may be refused, or not.
    pub fn handle_frame(
        &mut self,
        now: Instant,
        frame: &[u8],
        may_refuse: bool,
    ) -> Option<Vec<u8>> {
        let to: Mac = frame[..6].try_into().expect("frames have headers");
        match parse(frame, &to, &[]) {
            Ok(Frame::Tcp(segment)) => {
                let is_waiting = self.client.is_waiting() && self.client.ending == Ending::Open;
                self.handle_segment(now, frame, segment.flags.has(Flags::RST));
                let is_refused = is_waiting && self.client.ending == Ending::Reset;
                self.is_refused |= may_refuse && is_refused;
                None
            }
            Ok(other) => self.neighbor.handle_frame(now, to, &other),
            Err(_) => None,
        }
    }

    fn handle_segment(&mut self, now: Instant, frame: &[u8], is_reset: bool) {
        self.neighbor.note_heard(now);
        self.resets += is_reset as u64;
        let (was_closed, ending) = (self.client.is_closed(), self.client.ending);
        self.client.handle_packet(&frame[14..]);
        self.client.handle_timeouts(now);
        if is_reset && !was_closed && ending == Ending::Open && self.client.is_closed() {
            self.client.ending = Ending::Reset;
        }
        self.note_progress(now);
    }

    /// What comes of the connection when its dialogue is over is no progress.
    fn note_progress(&mut self, now: Instant) {
        if !self.is_done() {
            let (heard, waiting) = (self.client.received.len(), self.client.unacknowledged());
            self.pulse.note(now, heard, waiting);
        }
    }
}
