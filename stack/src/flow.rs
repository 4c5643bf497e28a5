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

use crate::app::{App, Context, Tick as AppTick, Verdict};
use crate::bytes::ByteQueue;
use crate::fact::{Acked, Answered, Fact, Open, Tick};
use crate::key::FlowKey;
use crate::legs::{Across, passing};
use crate::limits::{RESUME_SRTT_US, TIME_WAIT};
use crate::output::{Memory, OutOfMemory, Output};
use crate::pool::{NONE, Pool};
use crate::recorder::{FlowName, Lane, Progress, Recorder};
use crate::seq::Seq;
use crate::service::Service;
use crate::tcp::contract::Contract;
use crate::tcp::deadline::{Deadlines, Heard, Wait};
use crate::tcp::delayed_ack::DelayedAck;
use crate::tcp::in_flight;
use crate::tcp::reassembly::Reassembly;
use crate::tcp::seat::{Seat, Senders};
use crate::tcp::sender::Sender;
use crate::tcp::state::{Event, State};
use crate::time::Instant;
use crate::wire::Mac;
use alloc::vec::Vec;

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

/// What this node knows of a flow and would have to learn anew after a takeover.
#[derive(Clone, Debug, Default)]
pub struct Local {
    /// Oldest unacknowledged sequence number.
    pub snd_una: Seq,
    /// Next sequence number to send.
    pub snd_nxt: Seq,
    /// Client's window, scaled.
    pub snd_wnd: u32,
    /// The largest window that the client ever offered.
    pub snd_wnd_max: u32,
    /// SEG.SEQ of the segment that last changed `snd_wnd`.
    pub snd_wl1: Seq,
    /// SEG.ACK of that segment.
    pub snd_wl2: Seq,
    /// The last SEG.ACK that we sent.
    pub rcv_acked: Seq,
    /// The right edge that we last advertised.
    pub adv_edge: Seq,
    /// What the peer holds: SEG.ACK never goes beyond.
    pub committed: Progress,
    /// The last op of this flow; 0 once the peer holds it.
    pub last_op: u64,
    /// Output waits until this op is committed; 0 once it is. A copy begins with such an op: while it waits, what
    /// the peer says about earlier ones may be about a former copy.
    pub hold_op: u64,
    /// TS.Recent.
    pub ts_recent: u32,
    /// When a segment of the client was last used.
    pub heard: Heard,
    /// Added to the group's millisecond clock, this is TSval.
    pub ts_offset: u32,
    /// TSval of our first segment; an echo older than that is a former owner's.
    pub ts_first: u32,
    /// What time will bring.
    pub deadlines: Deadlines,
    /// The newest full segment without PSH begins here and stays unacknowledged until `Wait::HoldBack`.
    pub hold_back: Seq,
    /// Largest payload seen from the client.
    pub rcv_mss: u16,
    /// What the path takes if it is less than what was agreed on, in the units of an MSS; 0 if nothing is known.
    pub path_mss: u16,
    /// When that was learnt, in seconds modulo 2^16.
    pub path_since_secs: u16,
    /// How often it was learnt since the whole was last tried.
    pub path_changes: u8,
    /// Bytes that arrived twice and are not reported yet (RFC 2883); 0 if there are none.
    pub duplicate_bytes: u16,
    /// Where they begin.
    pub duplicate: Seq,
    /// When the next answer to a segment that proves nothing may go out.
    pub challenge_at: in_flight::Tick,
    /// What time has brought and the log had no room for.
    pub tick_waiting: Option<Tick>,
    /// Times that the zero window was probed without an answer.
    pub persist_count: u8,
    /// An answer to a segment that proves nothing was just withheld; the stack counts it.
    pub is_withheld: bool,
    /// Keep-alive probes without an answer.
    pub probes_unanswered: u8,
    /// When the last of them left, or was answered.
    pub probed: Heard,
    /// What is owed to the client.
    pub owed: Owed,
    /// Our FIN went out with the acknowledgement of the other side's, and nobody can have said it before.
    pub fin_answers: bool,
    /// How much of [`crate::limits::EARLY_RECORDS_MAX`] is used up.
    pub early_records: u8,
    /// Who may be waiting for an acknowledgement.
    pub delayed_ack: DelayedAck,
    /// Counted as half open by the stack.
    pub is_half_open: bool,
    /// Carried on after a takeover: a former owner may have said what this node does not know.
    pub is_resumed: bool,
}

/// Segments that are due whatever the windows say.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Owed {
    /// SYN-ACK; in SYN-SENT a SYN.
    pub syn_ack: bool,
    /// RST, as the last thing the flow says.
    pub rst: bool,
    /// An ACK even if it acknowledges nothing new (duplicate, challenge).
    pub ack: bool,
    /// An ACK as soon as it acknowledges something new.
    pub ack_new: bool,
    /// As much as the client's window takes, though that is less than silly-window avoidance asks for.
    pub partial: bool,
    /// A probe below `snd_una`, answered by every TCP with its present state.
    pub probe: bool,
    /// The one segment with which a promoted flow wakes its client.
    pub kick: bool,
    /// The client has not answered the data of the kick yet: only that may be sent again.
    pub kick_unanswered: bool,
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

    /// Begins to serve a new flow.
    pub fn serve_new(&mut self, now: Instant, ts_now: u32, ts_offset: u32, service: &Service) {
        let contract = &self.contract;
        let (mss, sack) = (contract.options.payload_max(), contract.options.sack);
        self.sender = Seat::new(&Sender::new(now, &service.sender, contract.iss, mss, sack));
        let committed = Progress { rcv_nxt: contract.rcv_nxt, rcv_edge: contract.rcv_nxt };
        self.local = Local {
            snd_una: contract.iss,
            snd_nxt: contract.iss,
            committed,
            ..self.local_at_rest(now, ts_now, ts_offset)
        };
        self.local.owed.syn_ack = true;
    }

    /// Begins to serve a copied flow whose owner is gone: slow start from the hint, one segment to wake the
    /// client, and trust in what the client acknowledges.
    pub fn resume(&mut self, now: Instant, ts_now: u32, ts_offset: u32, service: &Service) {
        let Contract { snd_una, options, mut hint, .. } = self.contract;
        if hint.srtt_us == 0 && self.contract.state != State::SynSent {
            hint.srtt_us = RESUME_SRTT_US;
        }
        let (mss, sack) = (options.payload_max(), options.sack);
        self.sender = Seat::new(&Sender::resume(now, &service.sender, snd_una, mss, sack, hint));
        let contract = &self.contract;
        self.local = Local {
            snd_una: contract.snd_una,
            snd_nxt: contract.snd_una,
            is_resumed: true,
            committed: self.progress(),
            ..self.local_at_rest(now, ts_now, ts_offset)
        };
        self.standing = Standing::Absent;
        let is_over = self.contract.state == State::TimeWait;
        if let Some(leg) = self.app.leg_mut().filter(|_| is_over) {
            // The former owner has counted it, and told of it.
            leg.is_end_told = true;
        }
    }

    /// What an owner served becomes a copy: of how it was served here nothing is left.
    pub fn fall_silent(&mut self, env: &mut Env) {
        self.sender.release(&mut env.senders);
        self.drop_reassembly(env);
        self.forget_ahead(env);
        self.sender = Seat::default();
        self.local = Local { heard: self.local.heard, ..Local::default() };
        self.standing = Standing::Silent;
    }

    /// A promoted flow wakes its client with one segment (DESIGN 9): the oldest unacknowledged data, a
    /// SYN-ACK, or an acknowledgement, whatever its state has to say. FIN-WAIT-2 and TIME-WAIT say nothing.
    pub fn owe_kick(&mut self) {
        if !matches!(self.contract.state, State::FinWait2 | State::TimeWait | State::Closed) {
            self.local.owed.kick = true;
        }
    }

    /// A promoted flow asks its client how it stands: what the former owner took and never passed on comes to
    /// light by the answer.
    pub fn owe_probe(&mut self) {
        let state = self.contract.state;
        self.local.owed.probe = state.is_synchronized() && state != State::TimeWait;
    }

    /// Local state of a flow of which nothing was sent or received by this node.
    fn local_at_rest(&self, now: Instant, ts_now: u32, ts_offset: u32) -> Local {
        let contract = &self.contract;
        let mut deadlines = Deadlines::default();
        if contract.state == State::TimeWait {
            deadlines.set(Wait::TimeWait, now + TIME_WAIT);
        }
        Local {
            snd_wnd: contract.snd_wnd,
            snd_wnd_max: contract.snd_wnd,
            snd_wl1: contract.rcv_nxt - 1,
            snd_wl2: contract.snd_una,
            rcv_acked: contract.rcv_nxt,
            adv_edge: contract.rcv_nxt,
            ts_recent: contract.ts_recent,
            heard: Heard::at(now),
            probed: Heard::at(now),
            challenge_at: in_flight::Tick::of(now),
            ts_first: ts_now,
            ts_offset,
            deadlines,
            ..Local::default()
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

    /// Applies a fact: the one place where a contract changes, the same on owner and peer.
    ///
    /// The owner has made sure that memory suffices; on a peer an error means that this copy is spoilt.
    pub fn apply(&mut self, env: &mut Env, fact: &Fact) -> Result<(), OutOfMemory> {
        if self.contract.state == State::Closed {
            return Ok(());
        }
        let edge_before = self.contract.snd_edge();
        match fact {
            Fact::Open(_) => return Ok(()),
            Fact::Answered(answered) => self.apply_answered(env, answered)?,
            Fact::Acked(acked) => {
                self.apply_acked(env, acked)?;
                self.apply_passed(env, acked.passed)?;
            }
            Fact::Data(bytes) => self.apply_data(env, bytes)?,
            Fact::Fin => {
                self.contract.rcv_nxt += 1;
                self.contract.fin_received = true;
                self.contract.state = self.contract.state.next(Event::FinArrived);
                self.finish_input(env)?;
            }
            Fact::Reset => self.contract.state = self.contract.state.next(Event::Aborted),
            Fact::Tick(tick) => self.apply_tick(env, *tick)?,
            Fact::NextHop(mac) => {
                self.next_hop = *mac;
                return Ok(());
            }
            Fact::Room => {}
            Fact::Unread(bytes) => self.apply_unread(*bytes),
        }
        self.contract.follow(&self.output);
        self.note_end(env, fact);
        self.follow_across(env, fact);
        let opened = self.contract.snd_edge().distance(edge_before).max(0) as u32;
        self.widen_across(env, opened);
        self.extend_window(env);
        Ok(())
    }

    fn apply_answered(&mut self, env: &mut Env, answered: &Answered) -> Result<(), OutOfMemory> {
        if self.contract.state != State::SynSent {
            return Ok(());
        }
        let first_window = env.services[self.group as usize].first_window();
        self.contract.answer(answered, first_window);
        if answered.is_acknowledged {
            self.with_app(env, |app, context| app.open(context))?;
            self.join(env)?;
        }
        Ok(())
    }

    fn apply_acked(&mut self, env: &mut Env, acked: &Acked) -> Result<(), OutOfMemory> {
        let contract = &mut self.contract;
        let Acked { snd_una, snd_wnd, ts_recent, hint, passed: _ } = *acked;
        (contract.snd_wnd, contract.ts_recent, contract.hint) = (snd_wnd, ts_recent, hint);
        if !snd_una.after(contract.snd_una) {
            return Ok(());
        }
        let mut delta = snd_una.since(contract.snd_una) as u64;
        contract.snd_una = snd_una;
        if contract.state == State::SynReceived {
            delta -= 1;
            contract.state = State::Established;
            contract.una_offset = delta;
            self.with_app(env, |app, context| app.open(context))?;
            self.join(env)?;
        } else {
            contract.una_offset += delta;
        }
        self.output.trim(&mut env.memory, self.contract.una_offset);
        if !self.backlog.is_empty() { self.feed_backlog(env) } else { Ok(()) }
    }

    fn apply_data(&mut self, env: &mut Env, bytes: &[u8]) -> Result<(), OutOfMemory> {
        self.contract.rcv_nxt += bytes.len() as u32;
        self.contract.received += bytes.len() as u64;
        if self.is_deaf() {
            // The application has closed: what the client still sends is taken and thrown away.
            return Ok(());
        }
        let mut rest = bytes;
        if self.backlog.is_empty() {
            let consumed = self.with_app(env, |app, context| app.receive(context, rest))?;
            rest = &rest[consumed..];
            if self.is_deaf() || rest.is_empty() {
                return Ok(());
            }
        }
        if !self.backlog.append(&mut env.memory.chunks, rest) {
            return Err(OutOfMemory);
        }
        self.feed_backlog(env)
    }

    /// Offers the backlog until the application takes no more of it.
    fn feed_backlog(&mut self, env: &mut Env) -> Result<(), OutOfMemory> {
        let mut scratch = core::mem::take(&mut env.scratch);
        let mut result = Ok(());
        while !self.backlog.is_empty() && !self.app.blocked(&self.output) {
            if self.is_deaf() {
                self.backlog.clear(&mut env.memory.chunks);
                break;
            }
            let n = self.backlog.copy_at(&env.memory.chunks, 0, &mut scratch);
            match self.with_app(env, |app, context| app.receive(context, &scratch[..n])) {
                Ok(0) => break,
                Ok(consumed) => self.backlog.consume(&mut env.memory.chunks, consumed),
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
        }
        env.scratch = scratch;
        result?;
        if self.contract.fin_received { self.finish_input(env) } else { Ok(()) }
    }

    /// Tells the application that nothing follows, once it has had its chance to take what is left.
    fn finish_input(&mut self, env: &mut Env) -> Result<(), OutOfMemory> {
        let is_kept = !self.backlog.is_empty() || self.app.leg().is_some();
        let waits = is_kept && self.app.blocked(&self.output);
        if waits || self.is_deaf() {
            return Ok(());
        }
        self.backlog.clear(&mut env.memory.chunks);
        self.with_app(env, |app, context| app.finish(context))
    }

    fn apply_tick(&mut self, env: &mut Env, tick: Tick) -> Result<(), OutOfMemory> {
        let event = match tick {
            Tick::Idle => {
                match self.with_app(env, |app, context| app.tick(context, AppTick::Idle))? {
                    Verdict::Continue => return Ok(()),
                    Verdict::Abort => Event::Aborted,
                }
            }
            Tick::Abort => Event::Aborted,
            Tick::TimeWaitOver => Event::TimeWaitOver,
        };
        self.contract.state = self.contract.state.next(event);
        Ok(())
    }

    fn with_app<T>(&mut self, env: &mut Env, call: impl FnOnce(&mut App, &mut Context) -> T) -> T {
        let mut context = Context {
            content: &env.services[self.group as usize].content,
            memory: &mut env.memory,
            output: Flow::sink(&mut self.output, &mut env.across),
        };
        call(&mut self.app, &mut context)
    }

    /// Moves the right edge as far as the application has room.
    ///
    /// RFC 9293 MUST-39 and 3.8.6.2.2: only in steps that are worth a segment, and never to the left.
    fn extend_window(&mut self, env: &Env) {
        if let Some(edge) = self.wider_edge(env) {
            self.contract.rcv_edge = edge;
        }
    }

    /// Where the right edge may be moved to, if that is worth a segment.
    pub(crate) fn wider_edge(&self, env: &Env) -> Option<Seq> {
        let buffer = env.services[self.group as usize].receive_buffer;
        let sink = env.across.as_ref().map_or(&self.output, |across| &across.output);
        if let App::Proxy(leg) = &self.app
            && leg.passes_ahead()
        {
            let other = env.across.as_ref().map(|across| (&across.contract, &across.output));
            return passing::wider_edge(&self.contract, leg, other, buffer, 0);
        }
        let room = self.app.window_room(sink, buffer);
        let room = room.saturating_sub(self.backlog.len() as u32);
        worth_a_step(&self.contract, self.contract.rcv_nxt + room, buffer)
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

/// Where the right edge may be moved to, if that is worth a segment.
fn worth_a_step(contract: &Contract, edge: Seq, buffer: u32) -> Option<Seq> {
    let step = u32::from(contract.options.mss).min(buffer / 2) as i32;
    (edge.distance(contract.rcv_edge) >= step).then_some(edge)
}
