//! The thread of the agent: heartbeats, leases and the register, apart from the path of segments.
//!
//! It runs under SCHED_FIFO where that is allowed, so that a heartbeat does not queue behind anything; it
//! carries the progress of the poll core, so that a node whose core is stuck renews nothing. Its datagrams
//! go through the kernel, by a socket of their own.

use crate::clock;
use crate::ears::Ears;
use crate::guardian::Guard;
use crate::log;
use crate::sealing::Sealing;
use crate::shared::{AgentSnapshot, Ordered, Shared, ToAgent, ToCore};
use crate::sys;
use crate::sys::event::Event;
use crate::xdp_program::XdpError;
use cluster::agent::handover::Begun;
use cluster::agent::pass::Outcome;
use cluster::agent::{Agent, Destination};
use cluster::id::NodeId;
use cluster::link::Endpoint;
use cluster::message::{self, WITNESS};
use cluster::role::{Command, Report};
use cluster::seal::{Opened, Unopened};
use crossbeam_channel::{Receiver, Sender};
use stack::time::{Duration, Instant};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::{io, thread};

/// Priority among the real-time threads: above everything that is not a kernel thread of its own.
const PRIORITY: i32 = 50;

/// Longest time between two looks at the progress of the cores and whether they live.
const LOOK: Duration = Duration::from_millis(5);

/// Datagrams taken in one round.
const DATAGRAMS_PER_ROUND: usize = 64;

pub(crate) mod refused;

use refused::Refused;

/// Where the others are.
pub struct Peers {
    /// Every other node: its address on the cluster interface.
    pub nodes: Vec<(NodeId, Ipv4Addr)>,
    /// Port of their agents.
    pub agent_port: u16,
    /// Port of their mirrored records.
    pub data_port: u16,
    /// The witness, if there is one.
    pub witness: Option<SocketAddr>,
}

impl Peers {
    /// Whose address this is. Anybody may forge it: for eyes only.
    fn speaker(&self, from: SocketAddr) -> Option<NodeId> {
        let at = self.nodes.iter().find(|(_, ip)| from.ip() == *ip);
        let node = at.map(|(node, _)| *node);
        node.or((self.witness == Some(from)).then_some(WITNESS))
    }
}

/// What the agent's thread works with.
pub struct AgentThread {
    /// The machine.
    pub agent: Agent,
    /// Its socket, bound.
    pub socket: UdpSocket,
    /// Where the others are.
    pub peers: Peers,
    /// How they are spoken to.
    pub sealing: Sealing,
    /// Leases and progress.
    pub shared: Arc<Shared>,
    /// Whether the poll threads live.
    pub guard: Arc<Guard>,
    /// Orders to the cores, one sender each.
    pub commands: Vec<Sender<ToCore>>,
    /// Reports of the cores.
    pub reports: Receiver<Report>,
    /// Questions and orders of the operator.
    pub questions: Receiver<ToAgent>,
    /// Raised by whoever reports or asks.
    pub wake: Arc<Event>,
    /// Orders that other nodes carry out, by their numbers, and who waits for the answer.
    pub passed_on: Vec<(u64, Sender<Ordered>)>,
    /// What the XDP program lets through, if this node listens.
    pub(crate) ears: Option<Ears>,
    /// Ends the thread.
    pub stopping: Arc<AtomicBool>,
}

/// So often at most the log speaks of copies that differ.
const ALARM_EVERY: Duration = Duration::from_secs(60);

/// Copies that differ from their connections are a defect of this program: its operator must know before anybody needs
/// them.
fn alarm(now: Instant, said_at: &mut Option<Instant>, report: &Report) {
    let Report::Differed { group, owner, count } = report else { return };
    if said_at.is_some_and(|at| now.since(at) < ALARM_EVERY) {
        return;
    }
    *said_at = Some(now);
    log::error(format!(
        "alarm: {count} copies of connections of node {} (group {group}) differed from them. They are captured anew, and \
         nothing is lost while that node lives. This is a defect: please report it, with both nodes' logs",
        owner.node
    ));
}

impl AgentThread {
    /// Starts the thread; it returns the agent's socket to nobody and ends when `stopping` is set.
    pub fn start(self) -> io::Result<thread::JoinHandle<()>> {
        thread::Builder::new().name("agent".into()).spawn(move || {
            if let Err(error) = sys::set_realtime(PRIORITY) {
                log::warning(format!(
                    "heartbeats without real-time priority ({error}): a busy machine \
                     may be taken for dead"
                ));
            }
            self.run();
        })
    }

    fn run(mut self) {
        let mut buffer = [0u8; 2048];
        let mut progress = vec![(0, clock::now()); self.shared.cores()];
        let mut neighbors: Vec<(NodeId, [u8; 6])> = Vec::new();
        let mut refused = Refused::default();
        let mut alarmed_at = None;
        while !self.stopping.load(Ordering::Relaxed) {
            let now = clock::now();
            if now >= self.agent.poll_timeout() {
                self.agent.handle_counts(self.shared.counts());
                self.agent.handle_timeout(now);
                self.publish();
                self.tell_neighbors(&mut neighbors);
            }
            // Bounded, so that a flood starves neither heartbeats nor leases.
            for _ in 0..DATAGRAMS_PER_ROUND {
                let Ok((len, from)) = self.socket.recv_from(&mut buffer) else { break };
                self.receive(from, &mut buffer[..len], &mut refused);
            }
            self.sealing.handle_timeout(now);
            self.wake.lower();
            while let Ok(report) = self.reports.try_recv() {
                alarm(now, &mut alarmed_at, &report);
                self.agent.handle_report(clock::now(), report);
                self.publish();
            }
            self.watch_progress(&mut progress);
            self.carry_out(&mut neighbors);
            self.answer_passed();
            while let Ok(question) = self.questions.try_recv() {
                self.answer(question, &refused);
                self.carry_out(&mut neighbors);
            }
            self.rest();
        }
        // Nobody renews from here on.
        for lease in &self.shared.leases {
            lease.until.store(0, Ordering::Release);
        }
    }

    /// Takes a datagram: nothing of it is believed before it is opened.
    fn receive(&mut self, from: SocketAddr, bytes: &mut [u8], refused: &mut Refused) {
        let now = clock::now();
        match self.sealing.open(now, bytes) {
            Ok(Opened::Datagram(datagram)) => {
                if matches!(message::header(datagram), Err(message::Drop::BadVersion)) {
                    refused.note(now, self.peers.speaker(from), Unopened::OtherVersion);
                }
                self.agent.handle_message(now, datagram);
                self.publish();
            }
            Ok(Opened::Reply(reply)) => drop(self.socket.send_to(&reply, from)),
            Ok(Opened::Nothing) => {}
            Err(reason) => {
                refused.note(now, self.peers.speaker(from), reason);
                if let Some(hint) = self.sealing.hint(now, reason, bytes) {
                    let _ = self.socket.send_to(&hint, from);
                }
            }
        }
    }

    fn answer(&mut self, question: ToAgent, refused: &Refused) {
        let now = clock::now();
        match question {
            ToAgent::Status(answer) => {
                let mut sealing = self.sealing.snapshot(now);
                sealing.refused = refused.recent(now).collect();
                let agent = self.agent.status(now);
                let _ = answer.try_send(Box::new(AgentSnapshot { agent, sealing }));
            }
            ToAgent::Solicit => {
                self.agent.handle_solicit(now);
                self.publish();
            }
            ToAgent::Reconfigure(settings, answer) => {
                if let Some(ears) = &mut self.ears {
                    settings.iter().for_each(|config| ears.note(config));
                }
                self.agent.handle_settings(now, settings);
                self.publish();
                let _ = answer.try_send(());
            }
            ToAgent::Order(order, answer) => {
                let me = self.agent.node();
                match self.agent.handle_order(now, order) {
                    Ok(Begun::Here) => drop(answer.try_send((me, Ok(())))),
                    Ok(Begun::PassedOn(number)) => self.passed_on.push((number, answer)),
                    Err(why) => drop(answer.try_send((me, Err(why)))),
                }
                self.publish();
            }
        }
    }

    /// Hands on what other nodes have answered to orders.
    fn answer_passed(&mut self) {
        while let Some(Outcome { request, owner, result }) = self.agent.poll_outcome() {
            if let Some(at) = self.passed_on.iter().position(|(number, _)| *number == request) {
                let (_, answer) = self.passed_on.swap_remove(at);
                let _ = answer.try_send((owner, result));
            }
        }
    }

    /// Sleeps until a datagram, a report or a question comes, a heartbeat is due or it is time to look.
    fn rest(&self) {
        let now = clock::now();
        let until = self.agent.poll_timeout().min(now + LOOK);
        let _ = sys::wait_readable(&[self.socket.as_raw_fd(), self.wake.fd()], until.since(now).0);
    }

    /// Publishes every lease: it can end at once.
    fn publish(&self) {
        for (index, group) in self.shared.groups() {
            let lease = &self.shared.leases[index];
            lease.until.store(self.agent.lease(group).0, Ordering::Release);
        }
    }

    /// A core that has not gone round for too long is stuck, and a node with a stuck core is.
    fn watch_progress(&mut self, last: &mut [(u64, Instant)]) {
        let now = clock::now();
        let limit = self.agent.timers().stuck;
        let mut is_late = false;
        for (core, last) in last.iter_mut().enumerate() {
            let rounds = self.shared.progress(core);
            if rounds != last.0 {
                *last = (rounds, now);
            }
            is_late |= rounds == 0 || now.since(last.1) > limit;
        }
        let is_stuck = is_late || !self.guard.is_whole();
        self.agent.handle_progress(now, !is_stuck);
        self.agent.handle_path(now, self.shared.path(now));
        self.publish();
    }

    /// Sends what the agent has to say and orders what it has decided.
    fn carry_out(&mut self, neighbors: &mut Vec<(NodeId, [u8; 6])>) {
        // Before anything is said in a session or ordered because of what was heard in it.
        while let Some(keys) = self.sealing.poll_keys() {
            if keys.peer().node == WITNESS {
                continue;
            }
            for core in 0..self.commands.len() {
                self.order(core, ToCore::Session(keys.session()));
            }
        }
        while let Some(command) = self.agent.poll_command() {
            self.tell_neighbors(neighbors);
            self.turn_ears(Ears::prick, &command);
            for core in 0..self.commands.len() {
                self.order(core, ToCore::Command(command));
            }
            self.turn_ears(Ears::lower, &command);
        }
        while let Some((destination, datagram)) = self.agent.poll_message() {
            let to = match destination {
                Destination::Node(node) => node,
                Destination::Witness => WITNESS,
            };
            if let Some(bytes) = self.sealing.seal(clock::now(), to, datagram) {
                self.send(to, &bytes);
            }
        }
        while let Some((to, bytes)) = self.sealing.poll_datagram() {
            self.send(to, &bytes);
        }
    }

    /// An order that is lost would leave the core in a role that it no longer has: better no core.
    fn order(&self, core: usize, order: ToCore) {
        if self.commands[core].try_send(order).is_err() {
            log::error(format!("poll core {core} takes no orders any more"));
            self.stopping.store(true, Ordering::Relaxed);
        }
    }

    /// A node that serves and does not hear its clients would be worse than none.
    fn turn_ears(
        &mut self,
        turn: fn(&mut Ears, &Command) -> Result<(), XdpError>,
        command: &Command,
    ) {
        let turned = self.ears.as_mut().map_or(Ok(()), |ears| turn(ears, command));
        if let Err(error) = turned {
            log::error(format!("{error}"));
            self.stopping.store(true, Ordering::Relaxed);
        }
    }

    /// What is lost is said again; an unreachable network is silence.
    fn send(&self, to: NodeId, bytes: &[u8]) {
        let known = self.peers.nodes.iter().find(|(id, _)| *id == to);
        let node = known.map(|(_, ip)| SocketAddr::from((*ip, self.peers.agent_port)));
        let address = if to == WITNESS { self.peers.witness } else { node };
        if let Some(address) = address {
            let _ = self.socket.send_to(bytes, address);
        }
    }

    /// Tells the core where the others are on the data link, as their heartbeats say.
    fn tell_neighbors(&self, known: &mut Vec<(NodeId, [u8; 6])>) {
        for (id, mac) in self.agent.neighbors() {
            if known.contains(&(id, mac)) {
                continue;
            }
            let Some((_, ip)) = self.peers.nodes.iter().find(|(other, _)| *other == id) else {
                continue;
            };
            let endpoint = Endpoint { mac, address: ip.octets(), port: self.peers.data_port };
            let tell =
                |core: &&Sender<ToCore>| core.try_send(ToCore::Neighbor(id, endpoint)).is_ok();
            // Who was told before is told again until all have been.
            if self.commands.iter().filter(tell).count() == self.commands.len() {
                known.retain(|(other, _)| *other != id);
                known.push((id, mac));
            }
        }
    }
}
