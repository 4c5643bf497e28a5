//! An owner, its peer and their clients in one process: established flows, and requests in bursts.
//!
//! Every request finds its flow in the same state whatever the number of flows is: all that was echoed has
//! been acknowledged, and every timer of the last request has run out. So what differs between two beds is
//! the number of flows and nothing else. Time is made up: a burst takes a second.

use crate::client::{Client, Clients, PORT, SERVICE, Say};
use crate::pair::{self, BURST_SEGMENTS, Link, Pair};
use crate::step::{PerStep, Step, step_ack};
use stack::app::AppConfig;
use stack::time::Duration;

/// Bytes that the bed itself takes for each client: its state and its place in the random order.
pub const CLIENT_BYTES: usize = size_of::<Client>() + size_of::<u32>();

/// How long the client takes to acknowledge the echo.
const CLIENT_DELAY: Duration = Duration::from_micros(200);
/// From one burst to the next: longer than every timer that a request sets.
const REST: Duration = Duration::from_secs(1);

/// See the module.
pub struct Bed {
    /// The owner and its peer.
    pub pair: Pair,
    clients: Clients,
    order: Vec<u32>,
    at: usize,
}

impl Bed {
    /// A pair with room for `flows` flows, no flow yet.
    pub fn new(flows: usize, link: Link) -> Bed {
        let service = pair::service(AppConfig::Echo, SERVICE, PORT, link);
        Bed {
            pair: Pair::new(flows, link, &service),
            clients: Clients::new(flows),
            order: shuffled(flows),
            at: 0,
        }
    }

    /// Opens every flow, and has each echo `payload` bytes once.
    pub fn open_all(&mut self, payload: usize) {
        let all: Vec<u32> = (0..self.order.len() as u32).collect();
        let unmeasured = &mut PerStep::default();
        for burst in all.chunks(BURST_SEGMENTS) {
            self.exchange(burst, Say::Syn, unmeasured);
            self.request(burst, payload, unmeasured);
        }
        self.pair.check();
    }

    /// Has the next flows of the random order echo `payload` bytes each, in `bursts` bursts. Adds the
    /// nanoseconds of each step to `spent`; answers the number of segments.
    pub fn run(&mut self, bursts: usize, payload: usize, spent: &mut PerStep) -> usize {
        let mut burst = [0; BURST_SEGMENTS];
        for _ in 0..bursts {
            for index in &mut burst {
                *index = self.order[self.at];
                self.at = (self.at + 1) % self.order.len();
            }
            self.request(&burst, payload, spent);
        }
        self.pair.check();
        bursts * BURST_SEGMENTS
    }

    /// One segment of each client, its echo, the acknowledgement of that, and a rest.
    fn request(&mut self, clients: &[u32], payload: usize, spent: &mut PerStep) {
        let echoed = self.exchange(clients, Say::Data(payload), spent);
        assert_eq!(echoed, clients.len() * payload, "every byte comes back at once");
        self.pair.now += CLIENT_DELAY;
        self.say(clients, Say::Ack);
        let Pair { owner, now, frames, out, .. } = &mut self.pair;
        out.clear();
        pair::timed(Step::Ack, spent, || step_ack(owner, *now, frames, out));
        self.clients.receive(&self.pair.out);
        self.pair.now += REST;
        self.pair.let_timers_run(spent);
        self.clients.receive(&self.pair.out);
    }

    /// One segment of each client through owner and peer; answers the bytes of payload that came back.
    fn exchange(&mut self, clients: &[u32], say: Say, spent: &mut PerStep) -> usize {
        self.say(clients, say);
        self.pair.exchange(spent);
        self.clients.receive(&self.pair.out)
    }

    fn say(&mut self, clients: &[u32], say: Say) {
        self.pair.frames.clear();
        for &client in clients {
            self.clients.emit(self.pair.now, client, say, &mut self.pair.frames);
        }
    }
}

/// The numbers below `count` in an order without pattern, the same in every run.
fn shuffled(count: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..count as u32).collect();
    let mut state = 0x5eed_u64;
    for at in (1..count).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        order.swap(at, (state % (at as u64 + 1)) as usize);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_flows_echo_and_the_peer_holds_them_all() {
        let mut bed = Bed::new(100, Link { mtu: 1500, is_sealed: true, is_heard: true });
        bed.open_all(64);
        let mut spent = PerStep::default();
        assert_eq!(bed.run(10, 64, &mut spent) + bed.run(10, 1448, &mut spent), 1280);
        assert!(Step::ALL.iter().all(|&step| spent.of(step) > 0.0));
        assert_eq!(bed.pair.owner.stack().counters().opened, 100);
    }
}
