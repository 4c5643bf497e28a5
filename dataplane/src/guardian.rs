//! The guardian: a small process that tells the cluster at once that its node has died.
//!
//! A crash is otherwise noticed by silence, after a promise. The guardian shares one page with the
//! node (`sys/robust.rs`) on which every poll thread holds a word for its life; the kernel wakes it
//! when one dies, however large the process is. When all of them have ended, and not before, it says
//! `Surrender` for that life to every other node and to the witness, several times, and ends. So it
//! also speaks for a node that stops in order, after its last frame.
//!
//! ```text
//! node: Guard::new -> poll threads: Guard::hold -> keeper thread: starts the guardian, again if it dies
//! guardian: page and charge from its standard input -> waits for each word -> surrenders -> ends
//! ```
//!
//! It depends on the node for nothing: a session of its own, no descriptor but the page, real-time
//! priority and memory that stays present where that is allowed. If it is not there the node serves on,
//! status says so, and a crash is noticed by silence.
//!
//! Spec: cluster/PROTOCOL.md, Surrender. Bounds: [`WORDS_MAX`] poll threads.

use crate::config::{Arbiter, Config};
use crate::node::cluster_id;
use crate::{clock, random, sys};
use cluster::id::{Incarnation, Member, NodeId};
use cluster::message::{Header, Message, WITNESS, any_life, encode};
use cluster::seal::{self, Key, Keyring};
use serde::{Deserialize, Serialize};
use stack::time::Instant;
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;
use sys::robust::{WORDS_MAX, Words};

mod keeper;

pub use keeper::{Guard, State};

/// When the surrender is said, in milliseconds after the end: one may be lost, or a receiver busy.
const SAID_AFTER_MS: [u64; 4] = [0, 1, 5, 20];

/// Priority among the real-time threads: that of the agent, whose place it takes.
const PRIORITY: i32 = 50;

/// The first descriptor that is not a standard one.
const DESCRIPTORS_FROM: u32 = 3;

/// What a guardian is told about its node.
#[derive(Clone, Serialize, Deserialize)]
pub struct Charge {
    /// Which cluster.
    pub cluster: u64,
    /// The node.
    pub node: u8,
    /// Its present life.
    pub incarnation: u64,
    /// The node's process.
    pub process: u32,
    /// Poll threads, and so words on the page.
    pub threads: usize,
    /// The node's address on the cluster interface.
    pub address: Ipv4Addr,
    /// Who has to know: every other node's agent, and the witness.
    pub others: Vec<(u8, SocketAddr)>,
    /// Under which keys they are told, as their files hold them; unsealed without any. On the page that node and guardian
    /// share, and nowhere else.
    pub keys: Vec<String>,
}

impl Charge {
    /// The charge for the node with this configuration, in this life.
    pub fn new(config: &Config, me: Member) -> Charge {
        let port = config.cluster.agent_port;
        let nodes = config.others().map(|node| (node.id.0, (node.address, port).into()));
        let witness = match config.cluster.arbiter {
            Arbiter::Witness { witness } => Some((WITNESS.0, witness)),
            Arbiter::None { .. } => None,
        };
        Charge {
            cluster: cluster_id(&config.cluster.name),
            node: me.node.0,
            incarnation: me.incarnation.0,
            process: std::process::id(),
            threads: config.cores.pin.len(),
            address: config.cluster.address,
            others: nodes.chain(witness).collect(),
            keys: config.cluster.keys.iter().map(Key::to_text).collect(),
        }
    }

    /// Says once that this life has ended. What the network refuses is lost, and said again.
    pub fn surrender(&self, socket: &UdpSocket, at: Instant) {
        let incarnation = Incarnation(self.incarnation);
        let from = Member { node: NodeId(self.node), incarnation };
        for (node, address) in &self.others {
            let to = any_life(NodeId(*node));
            let header = Header { cluster: self.cluster, from, to };
            for bytes in self.sealed(from, encode(header, &Message::Surrender { at })) {
                let _ = socket.send_to(&bytes, address);
            }
        }
    }

    /// The datagram as it is sent: once under each key. There is no session that could be made any more.
    fn sealed(&self, from: Member, datagram: Vec<u8>) -> Vec<Vec<u8>> {
        if self.keys.is_empty() {
            return vec![datagram];
        }
        let keys: Vec<Key> =
            self.keys.iter().filter_map(|text| Key::from_text(text).ok()).collect();
        match random::bytes() {
            Ok(salt) if !keys.is_empty() => {
                seal::surrender(&Keyring::new(self.cluster, &keys), from, salt, &datagram)
            }
            // Silence must tell.
            _ => Vec::new(),
        }
    }

    /// The socket to say it through.
    pub fn socket(&self) -> io::Result<UdpSocket> {
        let socket = UdpSocket::bind((self.address, 0))?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    }
}

/// The guardian's whole life, with the page as standard input.
///
/// Errors: standard input is no such page, a poll thread does not hold its word, or the cluster's
/// address cannot be used.
pub fn watch() -> io::Result<()> {
    // Nothing of the node may live on through a descriptor that was left open.
    sys::close_descriptors_from(DESCRIPTORS_FROM)?;
    let _signals = sys::Signals::block()?;
    // Whoever started it from a shell of its own has no session to leave.
    let _ = sys::leave_session();
    sys::set_name(c"guardian");
    let words = Words::open(File::from(io::stdin().as_fd().try_clone_to_owned()?))?;
    let charge: Charge = serde_json::from_slice(&words.text()?)?;
    if charge.threads == 0 || charge.threads > WORDS_MAX {
        return Err(io::Error::other("a page without words for its threads"));
    }
    let socket = charge.socket()?;
    // Without these it is slower on a busy machine, or dies with others of a large one.
    let _ = sys::set_realtime(PRIORITY);
    let _ = sys::lock_memory();
    let _ = fs::write("/proc/self/oom_score_adj", "-1000");
    if !(0..charge.threads).all(|index| words.is_held(index) || words.has_ended(index)) {
        return Err(io::Error::other("a poll thread does not hold its word"));
    }
    for index in 0..charge.threads {
        words.wait_ended(index)?;
    }
    let at = clock::now();
    for after in SAID_AFTER_MS {
        let passed = clock::now().since(at).millis();
        thread::sleep(Duration::from_millis(after.saturating_sub(passed)));
        charge.surrender(&socket, at);
        // Whoever of it is last gives its memory back, in the kernel, at the priority that it has: the agent is
        // a real-time thread, and this machine may have better things to do.
        sys::defer_process(charge.process);
    }
    Ok(())
}
