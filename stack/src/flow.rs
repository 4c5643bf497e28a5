//! A flow: one client connection with all that hangs on it.
//!
//! A flow is a plain value. Its *contract* ([`Contract`], application, output, backlog) changes only in
//! [`Flow::apply`], which owner and peer share; its *local* part ([`Local`], [`Seat`]) is how this node
//! serves it now, and is rebuilt when a peer is promoted.
//!
//! ```text
//! segment -> judge (tcp/input) -> fact -> apply -> record      owner
//!                                 fact -> apply                peer
//! ```

use crate::app::App;
use crate::bytes::ByteQueue;
use crate::fact::{Fact, Open};
use crate::key::FlowKey;
use crate::legs::Across;
use crate::output::{Memory, Output};
use crate::pool::{NONE, Pool};
use crate::recorder::{FlowName, Lane, Progress, Recorder};
use crate::service::Service;
use crate::tcp::contract::Contract;
use crate::tcp::reassembly::Reassembly;
use crate::tcp::seat::{Seat, Senders};
use crate::time::Instant;
use crate::wire::Mac;
use alloc::vec::Vec;

mod apply;
mod local;

pub use local::{Local, Owed};

/// Bytes of backlog that an application sees in one slice: a whole request head and what follows.
const SCRATCH_BYTES: usize = 2 * crate::limits::HTTP_HEAD_BYTES_MAX;

/// The name of a flow, given by the node where it was born: the node id (7 bits; one more tells the legs of a proxied
/// connection apart), the flow's shard (6 bits), a counter of that shard (34 bits). Whoever serves a shard knows all flows of
/// it: so a node that comes back with another number of cores gives no name twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct FlowId(pub u64);

/// Bits of a flow's counter.
const COUNTER_BITS: u32 = 34;

impl FlowId {
    /// The `counter`th flow of a shard of a node.
    pub const fn new(node: u8, shard: u8, counter: u64) -> FlowId {
        let shard = (shard as u64 & 63) << COUNTER_BITS;
        FlowId((node as u64) << 40 | shard | counter & ((1 << COUNTER_BITS) - 1))
    }

    /// The node where the flow was born.
    pub const fn node(self) -> u8 {
        (self.0 >> 40) as u8 & 127
    }

    /// The flow's shard.
    #[inline]
    pub const fn shard(self) -> u8 {
        (self.0 >> COUNTER_BITS) as u8 & 63
    }

    /// Which flow of that shard of that node it is.
    pub const fn counter(self) -> u64 {
        self.0 & ((1 << COUNTER_BITS) - 1)
    }
}

/// Where a flow stands towards the peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Standing {
    /// The peer knows nothing of it; nothing of it is recorded.
    #[default]
    Absent,
    /// The peer holds a copy, or will once what is in the log has reached it.
    Copied,
    /// This is the copy: another node serves the flow.
    Silent,
}

/// The pools and settings that all flows of a core share.
pub struct Env {
    /// Payload and pieces of applications.
    pub memory: Memory,
    /// What is in flight.
    pub senders: Senders,
    /// Out-of-order payload.
    pub reassembly: Pool<Reassembly>,
    /// Services, in the order of the configuration.
    pub services: Vec<Service>,
    /// Until when a SEG.ACK beyond `snd_nxt` is believed to be due to a former owner, by group; ZERO if never.
    pub grace_until: Vec<Instant>,
    /// Where a backlog is laid out in one slice.
    pub scratch: Vec<u8>,
    /// What the other leg lends while one of a proxied connection is touched.
    pub across: Option<Across>,
}

impl Env {
    /// Memory for laying out a backlog.
    pub fn new_scratch() -> Vec<u8> {
        alloc::vec![0; SCRATCH_BYTES]
    }
}

/// One client connection with all that hangs on it.
#[derive(Clone, Debug)]
pub struct Flow {
    /// Both ends.
    pub key: FlowKey,
    /// Its name.
    pub id: FlowId,
    /// Next hop towards the client.
    pub next_hop: Mac,
    /// Index of the group, and of its service, in the stack.
    pub group: u8,
    /// Where it stands towards the peer.
    pub standing: Standing,
    /// The era of its group in which it was last touched.
    pub era: u32,
    /// The contract of the TCP connection.
    pub contract: Contract,
    /// The application.
    pub app: App,
    /// What the application has produced.
    pub output: Output,
    /// What the application has not consumed.
    pub backlog: ByteQueue,
    /// Index of the out-of-order payload, or `NONE`.
    pub reassembly: u32,
    /// How this node serves the flow.
    pub local: Local,
    /// Loss recovery and congestion control.
    pub sender: Seat,
}

impl Default for Flow {
    fn default() -> Flow {
        Flow {
            key: FlowKey::default(),
            id: FlowId::default(),
            next_hop: Mac::default(),
            group: 0,
            standing: Standing::Absent,
            era: 0,
            contract: Contract::default(),
            app: App::default(),
            output: Output::default(),
            backlog: ByteQueue::new(),
            reassembly: NONE,
            local: Local::default(),
            sender: Seat::default(),
        }
    }
}

impl Flow {
    /// The contract of a new flow; its local part is empty until [`Flow::serve_new`].
    pub fn open(open: &Open, id: FlowId, group: u8, service: &Service) -> Flow {
        Flow {
            key: open.key,
            id,
            next_hop: open.next_hop,
            group,
            contract: Contract::open(open, service.first_window()),
            app: App::new(&service.app),
            ..Flow::default()
        }
    }

    /// What the flow is called in `slot`.
    #[inline]
    pub fn name(&self, slot: u32) -> FlowName {
        FlowName { group: self.group, id: self.id, slot }
    }

    /// Where its facts go.
    #[inline]
    pub fn lane(&self) -> Lane {
        Lane { group: self.group, shard: self.id.shard() }
    }

    /// Applies and records a fact of a flow that this node serves.
    pub fn enact<R: Recorder>(&mut self, slot: u32, env: &mut Env, recorder: &mut R, fact: &Fact) {
        let (before, progress) = (self.contract.state, self.progress());
        let other = self.app.leg().map_or(NONE, |leg| leg.other);
        let across_before = env.across.as_ref().map(Across::standing);
        let told_before = env.across.as_ref().map(Across::progress);
        let applied = self.apply(env, fact);
        assert!(applied.is_ok(), "memory was asked for before the fact");
        if self.contract.state != before {
            // Its time-outs are others.
            self.local.deadlines.note_change();
        }
        if self.standing == Standing::Absent {
            self.local.committed = self.progress();
            return;
        }
        // What the other side has acknowledged is waited for only where it opens the window or ends the flow: a peer
        // that does not know of it sends that again.
        let is_minor = matches!(fact, Fact::Acked(_) | Fact::NextHop(_));
        let has_moved = self.progress() != progress || self.contract.state != before;
        let name = self.name(slot);
        let op = recorder.record(name, fact, self.progress(), !is_minor || has_moved);
        self.local.last_op = op;
        if fact.holds_output() {
            self.local.hold_op = op;
        }
        let must_hold = env.across.as_ref().map(Across::standing) != across_before;
        if must_hold || env.across.as_ref().map(Across::progress) != told_before {
            self.tell_across(env, recorder, (op, fact), (other, must_hold));
        }
    }

    /// Whether everything of the flow that was recorded is held by the peer.
    #[inline]
    pub fn is_committed(&self) -> bool {
        self.standing == Standing::Absent || self.local.last_op == 0
    }

    /// Whether output must wait for the peer.
    #[inline]
    pub fn is_held(&self) -> bool {
        self.standing == Standing::Copied && self.local.hold_op != 0
    }

    /// Whether a former owner may have said what this node does not know.
    #[inline]
    pub fn in_grace(&self, now: Instant, env: &Env) -> bool {
        self.local.is_resumed && now < env.grace_until[self.group as usize]
    }

    /// The peer holds everything of the flow up to `op`. What is said about a copy that was given up since, or
    /// about a former flow in this slot, is ignored. Answers whether there may be something to say now.
    pub fn handle_committed(
        &mut self,
        now: Instant,
        env: &Env,
        op: u64,
        progress: Progress,
    ) -> bool {
        if self.standing == Standing::Absent || op < self.local.hold_op {
            return false;
        }
        let was_held = self.is_held();
        self.hold_back_passed(now, progress);
        let local = &mut self.local;
        local.committed = progress;
        if op >= local.last_op {
            local.last_op = 0;
        }
        local.hold_op = 0;
        was_held || self.is_stirred(now, env)
    }

    /// Gives everything that the flow holds in the pools back.
    pub fn release(&mut self, env: &mut Env) {
        self.app.release(&mut env.memory);
        self.output.clear(&mut env.memory);
        self.backlog.clear(&mut env.memory.chunks);
        self.sender.release(&mut env.senders);
        self.drop_reassembly(env);
    }

    /// Forgets the out-of-order payload.
    pub fn drop_reassembly(&mut self, env: &mut Env) {
        if self.reassembly != NONE {
            env.reassembly[self.reassembly].clear(&mut env.memory.chunks);
            env.reassembly.give(self.reassembly);
            self.reassembly = NONE;
        }
    }
}
