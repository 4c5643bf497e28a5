//! The peer's side of one mirroring session: facts applied to silent copies, in the order of the log.
//!
//! An acknowledgement is an obligation: it is given for what has been applied. A datagram beyond a gap is
//! kept for a while and reported. A copy that cannot be applied is given up and named in the next
//! acknowledgement, so that the owner captures it anew; no node ever dies of a flow.
//!
//! Path: the peer's steps. Bounds: `limits.rs`; the stash and the parts have fixed memory.

use crate::id::Op;
use crate::limits::{CAPTURE_BYTES_MAX, LOST_MAX, STASH_DATAGRAMS_MAX};
use crate::mirror::{Kind, Record, RecordKind, Session, next_record, put_header};
use alloc::vec::Vec;
use stack::codec::{Put, Reader};
use stack::fact::Fact;
use stack::flow::FlowId;
use stack::pool::NONE;
use stack::stack::{AHEAD_FLOWS_MAX, Stack};
use stack::time::Instant;

/// Below so many records in a datagram, to look ahead costs more than it saves.
const AHEAD_RECORDS_MIN: u16 = 4;

/// Counters of a backup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackupCounters {
    /// Records applied.
    pub records: u64,
    /// Bytes of clients' payload in them.
    pub bytes: u64,
    /// Datagrams that came again.
    pub repeated: u64,
    /// Datagrams beyond a gap that found no room in the stash.
    pub stash_full: u64,
    /// Datagrams whose records cannot be read.
    pub malformed: u64,
    /// Copies given up.
    pub lost: u64,
    /// Digests compared.
    pub digests: u64,
    /// Digests that differed.
    pub mismatches: u64,
    /// Records about flows that this node does not hold.
    pub unknown: u64,
}

impl core::ops::AddAssign for BackupCounters {
    fn add_assign(&mut self, other: BackupCounters) {
        let BackupCounters {
            records,
            bytes,
            repeated,
            stash_full,
            malformed,
            lost,
            digests,
            mismatches,
            unknown,
        } = other;
        self.records += records;
        self.bytes += bytes;
        self.repeated += repeated;
        self.stash_full += stash_full;
        self.malformed += malformed;
        self.lost += lost;
        self.digests += digests;
        self.mismatches += mismatches;
        self.unknown += unknown;
    }
}

/// A copy was given up and there is no room left to tell the owner: its record must not be acknowledged.
struct Untold;

/// The copies of one group that come from one core of its owner.
pub struct Backup {
    session: Session,
    group: u8,
    expected: Op,
    stash: Vec<(Op, Vec<u8>)>,
    stash_used: usize,
    part: Vec<u8>,
    part_flow: Option<FlowId>,
    /// Copies given up, as every acknowledgement tells until the owner answers.
    lost: Vec<(FlowId, Op)>,
    ack_due: bool,
    clock: (u64, Instant),
    scratch: Vec<u8>,
    filled: bool,
    /// Flows that the owner could not capture, as it said last.
    missing: u32,
    /// The last record said that the owner is frozen.
    frozen: bool,
    counters: BackupCounters,
}

impl Backup {
    /// An empty copy of `group`; `session` is seen from the owner.
    pub fn new(session: Session, group: u8, datagram_bytes: usize) -> Backup {
        let stash = (0..STASH_DATAGRAMS_MAX).map(|_| (Op(0), Vec::with_capacity(datagram_bytes)));
        Backup {
            session,
            group,
            expected: Op(1),
            stash: stash.collect(),
            stash_used: 0,
            part: Vec::with_capacity(CAPTURE_BYTES_MAX),
            part_flow: None,
            lost: Vec::with_capacity(LOST_MAX),
            ack_due: false,
            clock: (0, Instant::ZERO),
            scratch: Vec::with_capacity(64 << 10),
            filled: false,
            missing: 0,
            frozen: false,
            counters: BackupCounters::default(),
        }
    }

    /// The session, seen from the owner.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The last op applied.
    pub fn applied(&self) -> Op {
        Op(self.expected.0 - 1)
    }

    /// Whether the owner has said that every flow was captured.
    pub fn is_filled(&self) -> bool {
        self.filled
    }

    /// Whether the owner has frozen and recorded nothing since: the copies are what it serves.
    pub fn is_frozen(&self) -> bool {
        self.frozen
    }

    /// What a frozen owner served are the copies now: nothing is missing, and its clock is known.
    pub fn inherit(&mut self, now: Instant, clock: Instant) {
        self.clock = (clock.0, now);
        self.filled = true;
    }

    /// Flows of which there is no copy here: given up, or never captured.
    pub fn awaited(&self) -> usize {
        self.lost.len() + self.missing as usize
    }

    /// Counters so far.
    pub fn counters(&self) -> BackupCounters {
        self.counters
    }

    /// The group's clock at `now`, as far as the owner has told: it never goes back.
    pub fn clock(&self, now: Instant) -> Instant {
        let (clock, at) = self.clock;
        Instant(clock.saturating_add(now.since(at).0))
    }

    /// Takes a datagram of records.
    pub fn handle_records(
        &mut self,
        now: Instant,
        stack: &mut Stack,
        first: Op,
        (clock, count): (u64, u16),
        bytes: &[u8],
    ) {
        self.ack_due = true;
        let end = Op(first.0 + count as u64);
        if end <= self.expected {
            self.counters.repeated += 1;
            return;
        }
        if first > self.expected {
            self.keep(first, count, bytes);
            return;
        }
        if clock > self.clock(now).0 {
            self.clock = (clock, now);
        }
        self.apply_datagram(now, stack, first, count, bytes);
        while let Some(at) = self.stash_next() {
            let (first, kept) = core::mem::take(&mut self.stash[at]);
            let (count, records) = kept.split_at(2);
            let count = u16::from_le_bytes([count[0], count[1]]);
            self.apply_datagram(now, stack, first, count, records);
            self.stash[at] = (Op(0), kept);
            self.stash_used -= 1;
        }
    }

    /// Keeps a datagram beyond a gap.
    fn keep(&mut self, first: Op, count: u16, bytes: &[u8]) {
        if self.stash.iter().any(|(op, _)| *op == first) {
            self.counters.repeated += 1;
            return;
        }
        let free = self
            .stash
            .iter_mut()
            .find(|(op, kept)| *op == Op(0) && kept.capacity() >= 2 + bytes.len());
        let Some((op, kept)) = free else {
            self.counters.stash_full += 1;
            return;
        };
        *op = first;
        kept.clear();
        kept.put_u16(count);
        kept.put_bytes(bytes);
        self.stash_used += 1;
    }

    /// The kept datagram that is next, and room for what is stale.
    fn stash_next(&mut self) -> Option<usize> {
        if self.stash_used == 0 {
            return None;
        }
        let expected = self.expected;
        for (op, kept) in &mut self.stash {
            let is_stale = *op != Op(0) && {
                let count = u16::from_le_bytes([kept[0], kept[1]]);
                Op(op.0 + count as u64) <= expected
            };
            if is_stale {
                *op = Op(0);
                self.stash_used -= 1;
            }
        }
        self.stash.iter().position(|(op, _)| *op != Op(0) && *op <= expected)
    }

    /// Applies the records of a datagram that begins at or before the next op.
    fn apply_datagram(
        &mut self,
        now: Instant,
        stack: &mut Stack,
        first: Op,
        count: u16,
        bytes: &[u8],
    ) {
        if count >= AHEAD_RECORDS_MIN {
            Self::look_ahead(stack, bytes);
        }
        let mut reader = Reader::new(bytes);
        for n in 0..count as u64 {
            let Ok(record) = next_record(&mut reader) else {
                self.counters.malformed += 1;
                return;
            };
            let op = Op(first.0 + n);
            if op < self.expected {
                continue;
            }
            if self.apply(now, stack, op, &record).is_err() {
                // Not acknowledged: the owner sends it again, and its gate stays shut until then.
                return;
            }
            self.expected = op.next();
            self.counters.records += 1;
        }
    }

    /// Has the stack read ahead what the records of a datagram are about.
    fn look_ahead(stack: &Stack, bytes: &[u8]) {
        let mut reader = Reader::new(bytes);
        let records = core::iter::from_fn(|| next_record(&mut reader).ok());
        let mut slots = [NONE; AHEAD_FLOWS_MAX];
        for (slot, record) in slots.iter_mut().zip(records) {
            *slot = stack.guess_named(record.flow);
        }
        stack.look_ahead_at(&slots);
    }

    fn apply(
        &mut self,
        now: Instant,
        stack: &mut Stack,
        op: Op,
        record: &Record,
    ) -> Result<(), Untold> {
        // The word that a lost flow is over changes no copy.
        self.frozen &= record.kind == RecordKind::Gone;
        match record.kind {
            RecordKind::Fact => match Fact::decode(record.bytes) {
                Ok(Fact::Open(open)) => {
                    if !record.flow.is_server_leg() {
                        stack.discard_copy_of(now, self.group, record.flow);
                    }
                    let slot = stack.open_copy(now, &open, record.flow, self.group);
                    self.enter(now, op, record.flow, slot, stack)
                }
                Ok(fact) => self.apply_fact(now, stack, op, record.flow, &fact),
                Err(_) => self.give_up(now, stack, op, record.flow),
            },
            RecordKind::Part | RecordKind::LastPart => self.apply_part(now, stack, op, record),
            RecordKind::Digest => self.compare(now, stack, op, record),
            RecordKind::FillDone => {
                self.filled = true;
                // Each holds more than half a megabyte: there cannot be more.
                let told = Reader::new(record.bytes).u32().unwrap_or(0);
                self.missing = told.min(u16::MAX.into());
                Ok(())
            }
            RecordKind::Frozen => {
                self.frozen = true;
                let told = Reader::new(record.bytes).u64().unwrap_or(0);
                if told > self.clock(now).0 {
                    self.clock = (told, now);
                }
                Ok(())
            }
            RecordKind::Servers => {
                if stack.follow_decisions(now, self.group, record.bytes).is_err() {
                    self.counters.malformed += 1;
                }
                Ok(())
            }
            RecordKind::Gone => {
                self.lost.retain(|(flow, _)| *flow != record.flow);
                Ok(())
            }
        }
    }

    fn apply_fact(
        &mut self,
        now: Instant,
        stack: &mut Stack,
        op: Op,
        flow: FlowId,
        fact: &Fact,
    ) -> Result<(), Untold> {
        let Some(slot) = stack.seek_named(now, self.group, flow) else {
            return self.note_unknown(op, flow);
        };
        self.counters.bytes += fact.payload_bytes() as u64;
        match stack.apply(now, slot, fact) {
            Ok(_) => Ok(()),
            Err(_) => self.give_up(now, stack, op, flow),
        }
    }

    /// A part of a captured flow: with the last one the copy begins.
    fn apply_part(
        &mut self,
        now: Instant,
        stack: &mut Stack,
        op: Op,
        record: &Record,
    ) -> Result<(), Untold> {
        if self.part_flow != Some(record.flow) {
            self.part.clear();
            self.part_flow = Some(record.flow);
        }
        if self.part.len() + record.bytes.len() <= CAPTURE_BYTES_MAX {
            self.part.extend_from_slice(record.bytes);
        }
        if record.kind == RecordKind::Part {
            return Ok(());
        }
        self.part_flow = None;
        // Captured anew: the old copy is stale.
        stack.discard_copy_of(now, self.group, record.flow);
        let slot = match stack.import(self.group, &self.part) {
            Ok(captured) if captured.flow.id == record.flow => stack.adopt_copy(now, captured),
            Ok(captured) => {
                stack.discard_import(captured);
                None
            }
            Err(_) => None,
        };
        self.part.clear();
        self.lost.retain(|(flow, _)| flow.client_leg() != record.flow.client_leg());
        self.enter(now, op, record.flow, slot, stack)
    }

    fn compare(
        &mut self,
        now: Instant,
        stack: &mut Stack,
        op: Op,
        record: &Record,
    ) -> Result<(), Untold> {
        let Some(slot) = stack.seek_named(now, self.group, record.flow) else {
            return self.note_unknown(op, record.flow);
        };
        self.counters.digests += 1;
        let ours = stack.digest(slot, &mut self.scratch);
        if record.bytes != ours.to_le_bytes() {
            self.counters.mismatches += 1;
            return self.give_up(now, stack, op, record.flow);
        }
        Ok(())
    }

    fn enter(
        &mut self,
        now: Instant,
        op: Op,
        flow: FlowId,
        slot: Option<u32>,
        stack: &mut Stack,
    ) -> Result<(), Untold> {
        if slot.is_none() {
            return self.give_up(now, stack, op, flow);
        }
        Ok(())
    }

    /// Gives a copy up and remembers to say so, in every acknowledgement, until the owner has captured the flow
    /// anew or says that it is over: an acknowledgement without that word would be a lie.
    fn give_up(
        &mut self,
        now: Instant,
        stack: &mut Stack,
        op: Op,
        flow: FlowId,
    ) -> Result<(), Untold> {
        self.counters.lost += 1;
        // Of a proxied connection, both legs.
        for leg in stack.discard_copy_of(now, self.group, flow).into_iter().flatten() {
            if leg != flow {
                self.tell_lost(op, leg)?;
            }
        }
        self.tell_lost(op, flow)
    }

    /// A record about a flow that is not held. The owner ignores what it hears if it has captured the flow since.
    fn note_unknown(&mut self, op: Op, flow: FlowId) -> Result<(), Untold> {
        self.counters.unknown += 1;
        self.tell_lost(op, flow)
    }

    fn tell_lost(&mut self, op: Op, flow: FlowId) -> Result<(), Untold> {
        if let Some(entry) = self.lost.iter_mut().find(|(known, _)| *known == flow) {
            entry.1 = op;
        } else if self.lost.len() < LOST_MAX {
            self.lost.push((flow, op));
        } else {
            return Err(Untold);
        }
        Ok(())
    }

    /// Writes the acknowledgement that is due behind `out`; `false` if none is.
    pub fn poll_ack(&mut self, out: &mut Vec<u8>) -> bool {
        if !self.ack_due {
            return false;
        }
        self.ack_due = false;
        put_header(out, &self.session.reversed(), Kind::Ack);
        out.put_u64(self.applied().0);
        let kept = self.stash.iter().map(|(op, _)| op.0).filter(|op| *op > self.expected.0);
        let (start, end) = kept.min().map_or((0, 0), |first| (self.expected.0, first));
        out.put_u64(start);
        out.put_u64(end);
        out.put_u8(self.lost.len() as u8);
        for (flow, op) in &self.lost {
            out.put_u64(flow.0);
            out.put_u64(op.0);
        }
        true
    }

    /// Whether an acknowledgement is due.
    pub fn has_ack(&self) -> bool {
        self.ack_due
    }
}
