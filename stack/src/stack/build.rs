//! How a stack begins: with all the memory that it will ever have.

use super::kick::Kicks;
use super::roles::Probes;
use super::turnover::{Sweep, Walk};
use super::{Counters, Origin, Renewal, Stack, ahead};
use crate::flow::Env;
use crate::key::Keys;
use crate::limits::{BACKLOG_FLOWS_MAX, GROUPS_MAX, KICK_LINK_PARTS, STICKS_TOLD_MAX};
use crate::output::Memory;
use crate::pool::Pool;
use crate::ready::Ready;
use crate::recent::Recent;
use crate::reply::Replies;
use crate::service::Service;
use crate::shard::{Place, SHARDS};
use crate::tcp::seat::Senders;
use crate::time::{Duration, Instant};
use crate::wheel::Wheel;
use crate::wire::Mac;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use hashbrown::HashTable;

/// What a stack is built with.
pub struct StackConfig {
    /// This node's id: the first part of the names of flows born here.
    pub node: u8,
    /// Which of the node's cores this is the stack of.
    pub place: Place,
    /// The Ethernet address of the client-side interface.
    pub mac: Mac,
    /// The cluster's secret.
    pub secret: [u8; 32],
    /// Flows at most.
    pub flows_max: usize,
    /// Flows with something in flight at most.
    pub active_max: usize,
    /// Segments in flight at most, all flows together.
    pub segments_max: usize,
    /// Payload chunks of [`crate::limits::CHUNK_BYTES`] bytes, all flows together.
    pub chunks_max: usize,
    /// Pieces of output, all flows together.
    pub pieces_max: usize,
    /// Uploads whose body is being hashed at most.
    pub uploads_max: usize,
    /// Flows with a hole in what they received, at most.
    pub reassemblies_max: usize,
    /// What the client-side link takes, in Mbit/s.
    pub link_mbits: u32,
}

impl Stack {
    /// Takes all memory, that of services to come but for their settings. Service `n` has the group with index `n`.
    pub fn new(config: &StackConfig, services: Vec<Service>) -> Stack {
        let count = services.len();
        assert!(count <= GROUPS_MAX, "{count} groups; {GROUPS_MAX} at most");
        let mut stack = Stack::without_services(config);
        for (index, service) in (0..).zip(services) {
            stack.occupy(index, &mut Renewal::new(service, config.place));
        }
        stack
    }

    fn without_services(config: &StackConfig) -> Stack {
        Stack {
            mac: config.mac,
            service_macs: Vec::with_capacity(GROUPS_MAX),
            node: config.node,
            keys: Keys::new(&config.secret),
            env: Env {
                memory: Memory::new(config.uploads_max, config.pieces_max, config.chunks_max),
                senders: Senders::new(config.active_max, config.segments_max),
                reassembly: Pool::new(config.reassemblies_max),
                grace_until: Vec::with_capacity(GROUPS_MAX),
                services: Vec::with_capacity(GROUPS_MAX),
                scratch: Env::new_scratch(),
                across: None,
            },
            ready: Ready::new(config.flows_max, GROUPS_MAX),
            rosters: Vec::with_capacity(GROUPS_MAX),
            has_learnt: false,
            groups: Vec::with_capacity(GROUPS_MAX),
            flows: Pool::new(config.flows_max),
            table: HashTable::with_capacity(config.flows_max),
            names: HashTable::with_capacity(config.flows_max),
            wheel: Wheel::new(config.flows_max),
            replies: Replies::new(),
            recent: Recent::new(),
            counters: Counters::default(),
            place: config.place,
            births: [0; SHARDS],
            syn_received: 0,
            backlog_max: (config.place.part_of(BACKLOG_FLOWS_MAX as usize))
                .min(config.flows_max / 2) as u32,
            kicks: Kicks::new(config.flows_max, kick_interval(config)),
            sweep: Sweep::default(),
            probes: Probes::default(),
            purge: Walk::default(),
            sticks: VecDeque::with_capacity(STICKS_TOLD_MAX),
            untold: 0,
            endings: Vec::new(),
            announce_at: Instant::MAX,
            speaking: 0,
            ahead: ahead::Guesses::NONE,
            turn: 0,
            origin: Origin::Direct,
            listening: 0,
        }
    }
}

/// Bits of a frame of usual size on the wire: preamble, gap and checksum included.
const FRAME_BITS: u64 = 8 * 1_538;

/// How long one kick of full size may take the link: a quarter of it is the kicks', and each core has its share of that.
fn kick_interval(config: &StackConfig) -> Duration {
    let bits = FRAME_BITS * KICK_LINK_PARTS * config.place.cores as u64;
    Duration(bits * 1_000 / u64::from(config.link_mbits.max(1)))
}
