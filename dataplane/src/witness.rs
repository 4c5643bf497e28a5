//! The witness as a process: its state machine behind a socket and a file.
//!
//! Every change is written and flushed (`witness/store.rs`) before the answer leaves; so what a node was
//! told survives a loss of power. A takeover waits for that answer, so the witness runs ahead of ordinary
//! work where that is allowed.

use crate::sealing::Sealing;
use crate::{clock, random, sys};
use cluster::id::Member;
use cluster::lease::Timers;
use cluster::message::{self, WITNESS};
use cluster::seal::{Key, Opened};
use cluster::witness::{Effect, Knowledge, Witness};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::time::Duration;
use store::Store;

mod store;

/// Changes that are written together at most: as many groups as a dead node may have had.
const CHANGES_PER_WRITE_MAX: usize = 256;

/// Priority among the real-time threads: that of the agents who ask it.
const PRIORITY: i32 = 50;

/// A running witness.
pub struct WitnessProcess {
    witness: Witness,
    socket: UdpSocket,
    store: Store,
    sealing: Sealing,
    warning: Option<String>,
}

impl WitnessProcess {
    /// Listens on `listen` and reads `store`. Nodes are spoken to under `keys`, unsealed without any. `bootstrap` is the
    /// operator's word that a missing store is that of a new cluster.
    ///
    /// Errors: the address is taken, the store cannot be read, or there is none and `bootstrap` is not given.
    pub fn open(
        listen: SocketAddr,
        store: &Path,
        cluster: u64,
        (timers, keys): (Timers, &[Key]),
        bootstrap: bool,
    ) -> io::Result<WitnessProcess> {
        let path = store;
        let (store, bytes) = Store::open(path).map_err(|error| named(path, error))?;
        if bytes.is_none() && !bootstrap {
            let message = "there is no such store; give --bootstrap if the cluster is new, or \
                           bring the store back";
            return Err(named(path, io::Error::new(io::ErrorKind::NotFound, message)));
        }
        let socket = UdpSocket::bind(listen)?;
        socket.set_read_timeout(Some(Duration::from_millis(200)))?;
        let life = random::incarnation()?;
        let seed = bootstrap && bytes.is_none();
        let now = clock::now();
        let me = Member { node: WITNESS, incarnation: life };
        let sealing = Sealing::new(cluster, me, keys, [])?;
        let (witness, unreadable) =
            Witness::new(now, life, cluster, timers, bytes.as_deref(), seed);
        let warning = unreadable.map(|why| {
            format!(
                "{} is unreadable ({why:?}): this witness answers `unknown` and changes nothing",
                path.display()
            )
        });
        // Without it, it only answers later on a busy machine.
        let _ = sys::set_realtime(PRIORITY);
        Ok(WitnessProcess { witness, socket, store, sealing, warning })
    }

    /// What an operator must know about the store.
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    /// Whether the store may be believed.
    pub fn knowledge(&self) -> Knowledge {
        self.witness.knowledge()
    }

    /// Answers what has arrived, or returns after 0.2 s without a datagram.
    ///
    /// Changes that arrive together are written together: the last snapshot holds them all, and every answer
    /// waits for it. A dead node's services are so taken over by one write, not by one after another.
    pub fn poll(&mut self) -> io::Result<()> {
        let mut waiting = Vec::new();
        self.sealing.handle_timeout(clock::now());
        self.socket.set_nonblocking(false)?;
        while let Some((effect, from)) = self.receive()? {
            match effect {
                // A reply that is lost is asked for again.
                Effect::Reply(reply) => self.send(reply, from),
                Effect::Persist(pending) => waiting.push((pending, from)),
                Effect::Nothing => {}
            }
            if waiting.len() == CHANGES_PER_WRITE_MAX {
                break;
            }
            self.socket.set_nonblocking(true)?;
        }
        let Some((last, from)) = waiting.pop() else { return Ok(()) };
        let store = &mut self.store;
        let written = self.witness.release(last, |snapshot| store.write(snapshot))?;
        self.send(written, from);
        for (pending, from) in waiting {
            let release = self.witness.release::<io::Error>(pending, |_| Ok(()))?;
            self.send(release, from);
        }
        Ok(())
    }

    /// Seals and sends what a node is answered.
    fn send(&mut self, reply: Vec<u8>, address: SocketAddr) {
        let Ok(header) = message::header(&reply) else { return };
        if let Some(bytes) = self.sealing.seal(clock::now(), header.to.node, reply) {
            let _ = self.socket.send_to(&bytes, address);
        }
    }

    /// Takes the next datagram; `None` if there is none.
    fn receive(&mut self) -> io::Result<Option<(Effect, SocketAddr)>> {
        let mut buffer = [0; 2048];
        let (len, from) = match self.socket.recv_from(&mut buffer) {
            Ok(received) => received,
            Err(error) if is_silence(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let (now, bytes) = (clock::now(), &mut buffer[..len]);
        let effect = match self.sealing.open(now, bytes) {
            // What is not for us, or broken, is dropped unanswered.
            Ok(Opened::Datagram(datagram)) => {
                self.witness.handle_request(now, datagram).unwrap_or(Effect::Nothing)
            }
            Ok(Opened::Reply(reply)) => {
                let _ = self.socket.send_to(&reply, from);
                Effect::Nothing
            }
            Ok(Opened::Nothing) => Effect::Nothing,
            Err(reason) => {
                if let Some(hint) = self.sealing.hint(now, reason, bytes) {
                    let _ = self.socket.send_to(&hint, from);
                }
                Effect::Nothing
            }
        };
        Ok(Some((effect, from)))
    }
}

fn is_silence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock
            | io::ErrorKind::TimedOut
            | io::ErrorKind::Interrupted
            | io::ErrorKind::ConnectionRefused
    )
}

fn named(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_store_needs_the_operators_word() {
        let path = std::env::temp_dir().join("understudy-no-such-store");
        let listen = "127.0.0.1:0".parse().expect("an address");
        let refused = WitnessProcess::open(listen, &path, 1, (Timers::ci(), &[]), false);
        let message = refused.err().expect("refused").to_string();
        assert!(message.contains("--bootstrap"), "{message}");
        let opened =
            WitnessProcess::open(listen, &path, 1, (Timers::ci(), &[]), true).expect("opened");
        assert!(matches!(opened.knowledge(), Knowledge::Collecting(_)));
    }
}
