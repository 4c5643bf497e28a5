//! How this node reaches its clients: the carrier of the client-side interface, and whether next hops answer.
//!
//! A thread of its own measures and publishes; the agent says it in its heartbeats, and an owner whose path is worse
//! than its peer's hands over (`cluster/src/path.rs`). A next hop is asked by an ARP probe (`arp_probe`). The
//! question takes the way through the kernel: poll cores that do not move are found out by other means.
//!
//! ```text
//! every 10 ms: carrier? answers?   every 100 ms: ask each next hop   a hop silent for 500 ms is lost
//! ```
//!
//! A thread that was itself late waits that much longer for its answers. Bounds: [`HOPS_MAX`] next hops.

use crate::arp_probe::{Answer, probe};
use crate::clock;
use crate::shared::Shared;
use crate::sys::{self, ArpSocket};
use stack::time::{Duration, Instant};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::{io, thread};

/// Next hops at most.
pub const HOPS_MAX: usize = 8;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(10);
/// Between two questions to a next hop.
const ASK: Duration = Duration::from_millis(100);
/// A next hop that has not answered for so long is lost: four of five answers may be lost on the way.
const LOST: Duration = Duration::from_millis(500);

/// Measures until `stopping` is set.
pub fn start(
    interface: &str,
    hops: &[Ipv4Addr],
    shared: Arc<Shared>,
    stopping: Arc<AtomicBool>,
) -> io::Result<thread::JoinHandle<()>> {
    let now = clock::now();
    let mac = sys::interface_mac(interface)?;
    let socket = (!hops.is_empty()).then(|| ArpSocket::open(interface)).transpose()?;
    let mut watch = Watch {
        interface: interface.into(),
        mac,
        socket,
        // Each gets its time to answer for the first time.
        hops: hops.iter().map(|hop| (*hop, now)).collect(),
        looked_at: now,
        ask_at: now,
    };
    thread::Builder::new().name("client path".into()).spawn(move || {
        while !stopping.load(Ordering::Relaxed) {
            let (carrier, answering) = watch.look(clock::now());
            shared.publish_path(carrier, watch.hops.len() as u8, answering);
            watch.rest();
        }
    })
}

struct Watch {
    interface: String,
    mac: [u8; 6],
    socket: Option<ArpSocket>,
    /// Each next hop, and when it answered last.
    hops: Vec<(Ipv4Addr, Instant)>,
    looked_at: Instant,
    ask_at: Instant,
}

impl Watch {
    /// The carrier, if it is known, and how many next hops answer.
    fn look(&mut self, now: Instant) -> (Option<bool>, u8) {
        let late = now.since(self.looked_at + LOOK);
        self.looked_at = now;
        self.hops.iter_mut().for_each(|(_, answered)| *answered += late);
        self.hear(now);
        if now >= self.ask_at {
            self.ask_at = now + ASK;
            self.ask();
        }
        let answering = self.hops.iter().filter(|(_, answered)| now.since(*answered) < LOST);
        (sys::interface_carrier(&self.interface).ok(), answering.count() as u8)
    }

    fn ask(&self) {
        let Some(socket) = &self.socket else { return };
        for (hop, _) in &self.hops {
            // A question that cannot be sent is one without an answer.
            let _ = socket.send(&probe(self.mac, self.mac, *hop));
        }
    }

    fn hear(&mut self, now: Instant) {
        let Some(socket) = &self.socket else { return };
        let mut buffer = [0; 64];
        while let Some(frame) = socket.receive(&mut buffer) {
            let Some(answer) = Answer::read(frame) else { continue };
            let known = self.hops.iter_mut().filter(|(hop, _)| *hop == answer.address);
            known.for_each(|(_, answered)| *answered = now);
        }
    }

    fn rest(&self) {
        let fds: Vec<_> = self.socket.iter().map(ArpSocket::fd).collect();
        let _ = sys::wait_readable(&fds, LOOK.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hop_is_lost_after_a_while_and_not_because_nobody_looked() {
        let hop = Ipv4Addr::new(10, 88, 0, 1);
        let start = Instant(1 << 40);
        let mut watch = Watch {
            interface: "lo".into(),
            mac: [0; 6],
            socket: None,
            hops: vec![(hop, start)],
            looked_at: start,
            ask_at: start,
        };
        let mut now = start;
        while watch.look(now).1 == 1 {
            now += LOOK;
        }
        assert_eq!(now, start + LOST);
        watch.hops[0].1 = now;
        // Five seconds without a look: of them the hop is to blame for ten milliseconds.
        now += Duration::from_secs(5);
        assert_eq!(watch.look(now), (Some(true), 1));
    }
}
