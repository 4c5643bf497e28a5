//! An owner and its peer in one process, the one mirroring to the other. Time is made up.

use crate::burst::Burst;
use crate::client::OWNER_MAC;
use crate::step::{
    PerStep, Step, step_commit, step_hear, step_input, step_output, step_peer, step_record,
    step_timers,
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

/// Payload chunks, pieces and segments in flight: some bursts' worth.
const POOL_ITEMS: usize = 2048;
/// How long the peer takes to acknowledge.
const PEER_DELAY: Duration = Duration::from_micros(50);

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
pub struct Pair {
    /// The owner.
    pub owner: Engine,
    /// Its peer.
    pub peer: Engine,
    /// The time.
    pub now: Instant,
    /// What is said to the owner.
    pub frames: Burst,
    /// What the owner says.
    pub out: Burst,
    is_heard: bool,
    datagrams: Burst,
    acks: Burst,
}

impl Pair {
    /// Two engines with this service and room for `flows` flows, no flow yet.
    pub fn new(flows: usize, link: Link, service: &Service) -> Pair {
        let mut pair = Pair {
            owner: engine(1, flows, link, service),
            peer: engine(2, flows, link, service),
            now: Instant(1_000_000_000),
            frames: Burst::default(),
            out: Burst::default(),
            is_heard: link.is_heard,
            datagrams: Burst::default(),
            acks: Burst::default(),
        };
        if link.is_sealed {
            pair.seal();
        }
        pair.begin_mirroring();
        pair
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

    /// What is said to the owner goes through both, and what they say of it is in `out`.
    pub fn exchange(&mut self, spent: &mut PerStep) {
        let Pair { owner, now, frames, out, .. } = self;
        out.clear();
        timed(Step::Input, spent, || step_input(owner, *now, frames));
        self.mirror(spent);
    }

    /// What the owner has recorded goes to the peer, and what may be said before and after that to `out`.
    pub fn mirror(&mut self, spent: &mut PerStep) {
        let Pair { owner, peer, is_heard, now, frames, out, datagrams, acks } = self;
        datagrams.clear();
        acks.clear();
        timed(Step::Record, spent, || step_record(owner, *now, datagrams));
        timed(Step::Output, spent, || step_output(owner, *now, out));
        if *is_heard {
            timed(Step::Hear, spent, || step_hear(peer, *now, frames));
        }
        timed(Step::Peer, spent, || step_peer(peer, *now, datagrams, acks));
        *now += PEER_DELAY;
        timed(Step::Commit, spent, || step_commit(owner, *now, acks));
        timed(Step::Output, spent, || step_output(owner, *now, out));
    }

    /// Whatever is due: once for what the timers say, once for what the peer answers to that.
    pub fn let_timers_run(&mut self, spent: &mut PerStep) {
        let Pair { owner, peer, now, out, datagrams, acks, .. } = self;
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
    }

    /// Nothing was dropped, lost or misunderstood.
    pub fn check(&self) {
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

/// Adds the nanoseconds of `run` to those of a step.
#[inline(always)]
pub fn timed(step: Step, spent: &mut PerStep, run: impl FnOnce()) {
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

/// A service at this address and port; all else is as usual.
pub fn service(app: AppConfig, address: [u8; 4], port: u16, link: Link) -> Service {
    Service {
        addresses: vec![Address::v4(address)],
        arp: ArpPolicy::default(),
        ports: vec![(port, port)],
        app,
        content: Content::new(Vec::new()).expect("no content is content"),
        receive_buffer: 64 << 10,
        idle_timeout: None,
        keep_alive: None,
        connect_timeout: stack::limits::CONNECT_TIMEOUT,
        sender: SenderConfig::default(),
        mss: 1460,
        nodelay: true,
        hop_limit: HOP_LIMIT,
        snoop: link.is_heard,
        upstream: Default::default(),
    }
}

/// An engine with one service and room for `flows` flows.
fn engine(node: u8, flows: usize, link: Link, service: &Service) -> Engine {
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
    Engine::new(&config, vec![service.clone()], &[GroupId::new(0, 0)])
}
