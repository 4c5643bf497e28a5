//! An owner, its peer and their clients in one process: established flows, and requests in bursts.
//!
//! Every request finds its flow in the same state whatever the number of flows is: all that was echoed has
//! been acknowledged, and every timer of the last request has run out. So what differs between two beds is
//! the number of flows and nothing else. Time is made up: a burst takes a second.

use crate::burst::Burst;
use crate::client::{Client, Clients, OWNER_MAC, PORT, SERVICE, Say};
use crate::step::{
    PerStep, Step, step_ack, step_commit, step_hear, step_input, step_output, step_peer,
    step_record, step_timers,
};
use cluster::engine::{Engine, EngineConfig};
use cluster::id::{Epoch, GroupId, Incarnation, Member, NodeId};
use cluster::link::Endpoint;
use cluster::role::{Command, Report};
use cluster::seal::{Key, Keyring, Opened, Party, SEED_BYTES};
use stack::app::AppConfig;
use stack::content::Content;
use stack::service::{ArpPolicy, HOP_LIMIT, Service};
use stack::shard::Place;
use stack::stack::StackConfig;
use stack::tcp::sender::SenderConfig;
use stack::time::{Duration, Instant};
use stack::wire::Address;
use std::time::Instant as Clock;

/// Segments in a burst.
pub const BURST_SEGMENTS: usize = 64;

/// Bytes that the bed itself takes for each client: its state and its place in the random order.
pub const CLIENT_BYTES: usize = size_of::<Client>() + size_of::<u32>();

/// Bytes that a client may send ahead of the application.
const RECEIVE_BUFFER: u32 = 64 << 10;
/// Payload chunks, pieces and segments in flight: some bursts' worth.
const POOL_ITEMS: usize = 2048;
/// How long the client takes to acknowledge the echo.
const CLIENT_DELAY: Duration = Duration::from_micros(200);
/// How long the peer takes to acknowledge.
const PEER_DELAY: Duration = Duration::from_micros(50);
/// From one burst to the next: longer than every timer that a request sets.
const REST: Duration = Duration::from_secs(1);

/// The link between owner and peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Link {
    /// Its MTU.
    pub mtu: usize,
    /// Whether datagrams are sealed.
    pub is_sealed: bool,
    /// Whether the peer hears the clients, too (`snoop = "wire"`).
    pub is_heard: bool,
}

/// See the module.
pub struct Bed {
    /// The owner.
    pub owner: Engine,
    /// Its peer.
    pub peer: Engine,
    is_heard: bool,
    clients: Clients,
    order: Vec<u32>,
    at: usize,
    now: Instant,
    frames: Burst,
    out: Burst,
    datagrams: Burst,
    acks: Burst,
}

impl Bed {
    /// Two engines with room for `flows` flows, the one mirroring to the other, no flow yet.
    pub fn new(flows: usize, link: Link) -> Bed {
        let mut bed = Bed {
            owner: engine(1, flows, link),
            peer: engine(2, flows, link),
            is_heard: link.is_heard,
            clients: Clients::new(flows),
            order: shuffled(flows),
            at: 0,
            now: Instant(1_000_000_000),
            frames: Burst::default(),
            out: Burst::default(),
            datagrams: Burst::default(),
            acks: Burst::default(),
        };
        if link.is_sealed {
            bed.seal();
        }
        bed.begin_mirroring();
        bed
    }

    /// Makes a session between the two, as their agents would.
    fn seal(&mut self) {
        let now = self.now;
        let party = |node: u8, other: u8| {
            let ring = Keyring::new(1, &[Key::new([1; 32])]);
            Party::new(now, member(node), ring, [NodeId(other)], [node; SEED_BYTES])
        };
        let (mut a, mut b) = (party(1, 2), party(2, 1));
        a.handle_timeout(now);
        while let Some((_, mut bytes)) = a.poll_datagram() {
            if let Ok(Opened::Reply(mut reply)) = b.open(now, &mut bytes) {
                a.open(now, &mut reply).expect("what a holder of the key answers");
            }
        }
        let keys = |party: &mut Party| party.poll_keys().expect("a session").session();
        self.owner.install_session(now, keys(&mut a));
        self.peer.install_session(now, keys(&mut b));
    }

    fn begin_mirroring(&mut self) {
        let (group, epoch, now) = (GroupId::new(0, 0), Epoch(2), self.now);
        self.owner.set_neighbor(NodeId(2), endpoint(2));
        self.peer.set_neighbor(NodeId(1), endpoint(1));
        self.owner.handle_command(now, Command::Serve { group, epoch: Epoch(1) });
        self.owner
            .handle_command(now, Command::Mirror { group, epoch, peer: member(2), peer_cores: 1 });
        self.peer.handle_command(
            now,
            Command::Follow { group, epoch, owner: member(1), owner_cores: 1 },
        );
        // A fill looks at some thousand slots a round.
        for _ in 0..1_000 {
            self.let_timers_run(&mut PerStep::default());
            if let Some(Report::Filled { .. }) = self.owner.poll_report() {
                return;
            }
        }
        panic!("the peer was never filled");
    }

    /// Opens every flow, and has each echo `payload` bytes once.
    pub fn open_all(&mut self, payload: usize) {
        let all: Vec<u32> = (0..self.order.len() as u32).collect();
        let unmeasured = &mut PerStep::default();
        for burst in all.chunks(BURST_SEGMENTS) {
            self.exchange(burst, Say::Syn, unmeasured);
            self.request(burst, payload, unmeasured);
        }
        self.check();
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
        self.check();
        bursts * BURST_SEGMENTS
    }

    /// One segment of each client, its echo, the acknowledgement of that, and a rest.
    fn request(&mut self, clients: &[u32], payload: usize, spent: &mut PerStep) {
        let echoed = self.exchange(clients, Say::Data(payload), spent);
        assert_eq!(echoed, clients.len() * payload, "every byte comes back at once");
        self.now += CLIENT_DELAY;
        self.frames.clear();
        for &client in clients {
            self.clients.emit(self.now, client, Say::Ack, &mut self.frames);
        }
        let Bed { owner, now, frames, out, .. } = self;
        out.clear();
        timed(Step::Ack, spent, || step_ack(owner, *now, frames, out));
        self.clients.receive(&self.out);
        self.now += REST;
        self.let_timers_run(spent);
    }

    /// One segment of each client through owner and peer; answers the bytes of payload that came back.
    fn exchange(&mut self, clients: &[u32], say: Say, spent: &mut PerStep) -> usize {
        self.frames.clear();
        for &client in clients {
            self.clients.emit(self.now, client, say, &mut self.frames);
        }
        let Bed { owner, peer, is_heard, now, frames, out, datagrams, acks, .. } = self;
        for burst in [&mut *out, datagrams, acks] {
            burst.clear();
        }
        timed(Step::Input, spent, || step_input(owner, *now, frames));
        timed(Step::Record, spent, || step_record(owner, *now, datagrams));
        timed(Step::Output, spent, || step_output(owner, *now, out));
        if *is_heard {
            timed(Step::Hear, spent, || step_hear(peer, *now, frames));
        }
        timed(Step::Peer, spent, || step_peer(peer, *now, datagrams, acks));
        *now += PEER_DELAY;
        timed(Step::Commit, spent, || step_commit(owner, *now, acks));
        timed(Step::Output, spent, || step_output(owner, *now, out));
        self.clients.receive(&self.out)
    }

    /// Whatever is due: once for what the timers say, once for what the peer answers to that.
    fn let_timers_run(&mut self, spent: &mut PerStep) {
        let Bed { owner, peer, now, out, datagrams, acks, .. } = self;
        acks.clear();
        out.clear();
        for _ in 0..2 {
            datagrams.clear();
            timed(Step::Timers, spent, || step_timers(owner, *now, acks, datagrams, out));
            acks.clear();
            timed(Step::Peer, spent, || step_peer(peer, *now, datagrams, acks));
            *now += PEER_DELAY;
        }
        step_commit(owner, *now, acks);
        self.clients.receive(&self.out);
    }

    /// Nothing was dropped, lost or misunderstood.
    fn check(&self) {
        let counters = self.owner.stack().counters();
        let drops: Vec<_> = counters.drops.iter().map(|(reason, n)| (reason.key(), n)).collect();
        assert!(drops.is_empty(), "the owner dropped frames: {drops:?}");
        let (owner, peer) = (self.owner.status().next(), self.peer.status().next());
        let (owner, peer) = (owner.expect("one group"), peer.expect("one group"));
        assert_eq!(owner.log.resent, 0, "{:?}", owner.log);
        assert_eq!(owner.flows, peer.copied, "the peer holds every flow");
        let backup = peer.backup;
        let bad = backup.lost + backup.mismatches + backup.unknown + backup.malformed;
        assert_eq!(bad, 0, "the copies are good: {backup:?}");
        let heard = self.peer.hearing_counters();
        assert_eq!(heard.kept > 0, self.is_heard, "{heard:?}");
        assert_eq!((heard.strangers, heard.used), (0, 0), "{heard:?}");
    }
}

#[inline(always)]
fn timed(step: Step, spent: &mut PerStep, run: impl FnOnce()) {
    let before = Clock::now();
    run();
    spent.0[step as usize] += before.elapsed().as_nanos() as f64;
}

fn member(node: u8) -> Member {
    Member { node: NodeId(node), incarnation: Incarnation(node as u64) }
}

fn endpoint(node: u8) -> Endpoint {
    Endpoint { mac: [2, 0, 0, 1, 0, node], address: [10, 255, 0, node], port: 7947 }
}

/// An engine with one service, `echo`, and room for `flows` flows.
fn engine(node: u8, flows: usize, link: Link) -> Engine {
    let service = Service {
        addresses: vec![Address::v4(SERVICE)],
        arp: ArpPolicy::default(),
        ports: vec![(PORT, PORT)],
        app: AppConfig::Echo,
        content: Content::new(Vec::new()).expect("no content is content"),
        receive_buffer: RECEIVE_BUFFER,
        idle_timeout: None,
        keep_alive: None,
        connect_timeout: stack::limits::CONNECT_TIMEOUT,
        sender: SenderConfig::default(),
        mss: 1460,
        nodelay: true,
        hop_limit: HOP_LIMIT,
        snoop: link.is_heard,
        upstream: Default::default(),
    };
    let stack = StackConfig {
        node,
        place: Place::ALONE,
        mac: if node == 1 { OWNER_MAC } else { [2, 0, 0, 0, 0, node] },
        secret: [7; 32],
        // Half of them may be half open: a burst of SYNs must not be answered with cookies.
        flows_max: flows + 2 * BURST_SEGMENTS,
        active_max: POOL_ITEMS,
        uploads_max: POOL_ITEMS,
        segments_max: POOL_ITEMS,
        chunks_max: POOL_ITEMS,
        pieces_max: POOL_ITEMS,
        reassemblies_max: BURST_SEGMENTS,
        link_mbits: 10_000,
    };
    let config = EngineConfig {
        member: member(node),
        cluster: 1,
        endpoint: endpoint(node),
        link_mtu: link.mtu,
        is_sealed: link.is_sealed,
        wall_offset: 0,
        stack,
    };
    Engine::new(&config, vec![service], &[GroupId::new(0, 0)])
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
        assert_eq!(bed.owner.stack().counters().opened, 100);
    }
}
