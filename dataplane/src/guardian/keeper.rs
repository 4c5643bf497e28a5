//! The node's side: the page, the words of the poll threads, and a guardian that is there.
//!
//! The keeper is a thread that starts the guardian as soon as every poll thread holds its word, waits
//! for its end and starts the next one, each time a little later. It never forks: a large process would
//! pay for every page.

use super::Charge;
use crate::clock;
use crate::log;
use crate::sys::robust::{Held, WORDS_MAX, Words};
use crossbeam_channel::{Receiver, Sender, bounded};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;
use std::{io, thread};

/// Pause before the first restart; doubled each time.
const PAUSE_FIRST: Duration = Duration::from_millis(10);

/// Longest such pause.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// What the keeper and its guardian are to the rest of the node.
pub struct Guard {
    words: Arc<Words>,
    charge: Charge,
    holding: (Sender<()>, Receiver<()>),
    /// The guardian's process number; zero while there is none.
    process: AtomicU32,
    restarts: AtomicU64,
}

/// Whether somebody stands ready to speak for this node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct State {
    /// The guardian's process number, if there is one.
    pub process: Option<u32>,
    /// Times that one had to be started again.
    pub restarts: u64,
}

impl Guard {
    /// The page for a node with this charge.
    pub fn new(charge: Charge) -> io::Result<Arc<Guard>> {
        assert!(charge.threads > 0 && charge.threads <= WORDS_MAX, "a word for each poll thread");
        Ok(Arc::new(Guard {
            words: Arc::new(Words::create(&serde_json::to_vec(&charge)?)?),
            holding: bounded(charge.threads),
            charge,
            process: AtomicU32::new(0),
            restarts: AtomicU64::new(0),
        }))
    }

    /// Holds the calling poll thread's word; to be dropped after its last frame.
    pub fn hold(&self, index: usize) -> io::Result<Held> {
        let held = self.words.hold(index)?;
        // The channel has room for every thread.
        let _ = self.holding.0.try_send(());
        Ok(held)
    }

    /// Whether no poll thread has ended yet.
    pub fn is_whole(&self) -> bool {
        (0..self.charge.threads).all(|index| !self.words.has_ended(index))
    }

    /// Whether there is a guardian.
    pub fn state(&self) -> State {
        let process = self.process.load(Ordering::Relaxed);
        State {
            process: (process != 0).then_some(process),
            restarts: self.restarts.load(Ordering::Relaxed),
        }
    }

    /// Surrenders once, from the node itself. Only after its poll threads have ended.
    pub fn surrender(&self) {
        assert!((0..self.charge.threads).all(|index| !self.words.is_held(index)), "one can speak");
        if let Ok(socket) = self.charge.socket() {
            self.charge.surrender(&socket, clock::now());
        }
    }

    /// Keeps a guardian that `command` starts, as long as there is something to guard. The thread is
    /// not waited for: it ends with the process, and the guardian after it.
    pub fn keep(self: Arc<Guard>, command: Command) -> io::Result<()> {
        let body = move || self.run(command);
        thread::Builder::new().name("guardian-keeper".into()).spawn(body).map(drop)
    }

    fn run(&self, mut command: Command) {
        for _ in 0..self.charge.threads {
            if self.holding.1.recv().is_err() {
                return;
            }
        }
        let mut pause = PAUSE_FIRST;
        while self.is_whole() {
            let outcome = self.start(&mut command).and_then(|mut child| {
                self.process.store(child.id(), Ordering::Relaxed);
                child.wait()
            });
            self.process.store(0, Ordering::Relaxed);
            if !self.is_whole() {
                return;
            }
            let end = outcome.map_or_else(|error| error.to_string(), |status| status.to_string());
            log::warning(format!("the guardian has ended ({end}); starting another"));
            self.restarts.fetch_add(1, Ordering::Relaxed);
            thread::sleep(pause);
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    fn start(&self, command: &mut Command) -> io::Result<Child> {
        let page = Stdio::from(self.words.file().try_clone()?);
        command.stdin(page).stdout(Stdio::null()).spawn()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cluster::message::{Message, decode};
    use std::net::{Ipv4Addr, UdpSocket};

    fn guard(threads: usize) -> (Arc<Guard>, UdpSocket) {
        let witness = UdpSocket::bind("127.0.0.1:0").unwrap();
        witness.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let others = vec![(255, witness.local_addr().unwrap())];
        let address = Ipv4Addr::LOCALHOST;
        let (process, keys) = (u32::MAX, vec![]);
        let charge = Charge {
            cluster: 5,
            node: 1,
            incarnation: 11,
            process,
            threads,
            address,
            others,
            keys,
        };
        (Guard::new(charge).unwrap(), witness)
    }

    #[test]
    fn a_node_is_whole_until_one_of_its_threads_ends() {
        let (guard, witness) = guard(2);
        assert!(guard.is_whole());
        let first = guard.hold(0).unwrap();
        let other = guard.clone();
        thread::spawn(move || drop(other.hold(1).unwrap())).join().unwrap();
        assert!(!guard.is_whole());
        drop(first);
        guard.surrender();
        let mut bytes = [0; 100];
        let len = witness.recv(&mut bytes).unwrap();
        let (header, message) = decode(&bytes[..len]).unwrap();
        assert_eq!((header.cluster, header.from.node.0, header.from.incarnation.0), (5, 1, 11));
        assert!(matches!(message, Message::Surrender { .. }));
    }

    #[test]
    fn a_guardian_that_dies_is_replaced_and_counted() {
        let (guard, _) = guard(1);
        let held = guard.hold(0).unwrap();
        guard.clone().keep(Command::new("false")).unwrap();
        while guard.state().restarts < 2 {
            thread::yield_now();
        }
        drop(held);
    }
}
