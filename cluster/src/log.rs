//! The owner's log of one group on one core towards one core of the peer: records in, datagrams out, commits back.
//!
//! Records are appended to a datagram under construction, which leaves in the same poll or, while nobody
//! waits for any of them or another one is under way, a little later and fuller; datagrams lie in a bounded ring until the peer has
//! acknowledged them, so that a lost one is sent again as it was. For each record of a flow the log remembers
//! what may be said once the peer holds it. A full log refuses, and the input is dropped as if the network had
//! lost it; ticks and decisions have reserved room.
//!
//! Path: step 5. Bounds: `limits.rs`. Nothing is allocated after construction.

use crate::id::Op;
use crate::limits::{
    GATHER, LINGER, LOG_DATAGRAMS_MAX, LOG_RECORDS_MAX, LOG_RECORDS_RESERVED, LOG_RESERVED,
    RESEND_BURST_MAX, RESEND_FIRST, RESEND_MAX,
};
use crate::mirror::{
    Kind, RECORD_HEADER_BYTES, RECORDS_OFFSET, RecordKind, Session, put_header, put_record,
};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use stack::codec::Put;
use stack::fact::{FACT_HEADER_BYTES_MAX, Fact};
use stack::flow::FlowId;
use stack::recorder::{FlowName, Progress};
use stack::time::{Duration, Instant};

/// Below this much room in a datagram, payload begins a new one.
const SPLIT_BYTES_MIN: usize = 256;

struct Datagram {
    bytes: Vec<u8>,
    first: Op,
    count: u16,
    sent_at: Instant,
}

/// What becomes true of a flow when a record is committed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Commit {
    /// The record.
    pub op: Op,
    /// Which flow: another may be in its slot by now, of another log.
    pub flow: FlowId,
    /// Where the flow is.
    pub slot: u32,
    /// What may be acknowledged and offered.
    pub progress: Progress,
}

/// Counters of a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogCounters {
    /// Records appended.
    pub records: u64,
    /// Bytes of datagrams sent, again ones included.
    pub bytes_sent: u64,
    /// Datagrams sent for the first time.
    pub datagrams: u64,
    /// Datagrams sent again.
    pub resent: u64,
}

impl core::ops::AddAssign for LogCounters {
    fn add_assign(&mut self, other: LogCounters) {
        let LogCounters { records, bytes_sent, datagrams, resent } = other;
        self.records += records;
        self.bytes_sent += bytes_sent;
        self.datagrams += datagrams;
        self.resent += resent;
    }
}

/// The log of one mirroring session.
pub struct Log {
    session: Session,
    ring: Vec<Datagram>,
    /// Number of the oldest datagram that is not acknowledged; ring positions are numbers modulo its length.
    oldest: u64,
    /// Number of the first datagram never sent.
    unsent: u64,
    /// Number of the datagram under construction.
    building: u64,
    /// Something in the datagram under construction is waited for.
    is_awaited: bool,
    /// When it leaves nevertheless; `None` until somebody has looked at it.
    leaves_at: Option<Instant>,
    /// Datagrams to send again: numbers from the first up to, not including, the second.
    resend: (u64, u64),
    next: Op,
    committed: Op,
    pending: VecDeque<Commit>,
    clock_offset: u64,
    resend_after: Duration,
    progress_at: Instant,
    /// When the peer last acknowledged something, or the first of what waits for it was sent.
    acked_at: Instant,
    /// When the newest datagram that has arrived was sent.
    arrived_sent_at: Instant,
    datagram_bytes: usize,
    counters: LogCounters,
}

impl Log {
    /// A log whose datagrams have at most `datagram_bytes` bytes. `clock_offset` added to this node's clock is
    /// the group's.
    pub fn new(session: Session, datagram_bytes: usize, clock_offset: u64) -> Log {
        assert!(datagram_bytes >= RECORDS_OFFSET + 1280, "a cluster link carries 1280 bytes");
        let datagram = || Datagram {
            bytes: Vec::with_capacity(datagram_bytes),
            first: Op(0),
            count: 0,
            sent_at: Instant::ZERO,
        };
        Log {
            session,
            ring: (0..LOG_DATAGRAMS_MAX).map(|_| datagram()).collect(),
            oldest: 0,
            unsent: 0,
            building: 0,
            is_awaited: false,
            leaves_at: None,
            resend: (0, 0),
            next: Op(1),
            committed: Op(0),
            pending: VecDeque::with_capacity(LOG_RECORDS_MAX),
            clock_offset,
            resend_after: RESEND_FIRST,
            progress_at: Instant::ZERO,
            acked_at: Instant::ZERO,
            arrived_sent_at: Instant::ZERO,
            datagram_bytes,
            counters: LogCounters::default(),
        }
    }

    /// The session.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The last op appended.
    pub fn last(&self) -> Op {
        Op(self.next.0 - 1)
    }

    /// The last op that the peer holds.
    pub fn committed(&self) -> Op {
        self.committed
    }

    /// Records that the peer does not hold.
    pub fn lag(&self) -> u64 {
        self.last().0 - self.committed.0
    }

    /// Bytes of datagrams that the peer has not acknowledged.
    pub fn bytes_pending(&self) -> usize {
        (self.oldest..=self.building).map(|n| self.at(n).bytes.len()).sum()
    }

    /// For how long the peer has acknowledged nothing of what was sent.
    pub fn unanswered(&self, now: Instant) -> Duration {
        if self.oldest < self.unsent { now.since(self.acked_at) } else { Duration::ZERO }
    }

    /// Counters so far.
    pub fn counters(&self) -> LogCounters {
        self.counters
    }

    fn at(&self, number: u64) -> &Datagram {
        &self.ring[number as usize % LOG_DATAGRAMS_MAX]
    }

    fn at_mut(&mut self, number: u64) -> &mut Datagram {
        &mut self.ring[number as usize % LOG_DATAGRAMS_MAX]
    }

    /// Datagrams that can still be begun.
    fn free(&self) -> usize {
        LOG_DATAGRAMS_MAX - 1 - (self.building - self.oldest) as usize
    }

    /// See [`stack::recorder::Recorder::room`].
    pub fn room(&self, wanted: usize, reserved: bool) -> Option<usize> {
        let kept = if reserved { 4 } else { LOG_RESERVED };
        let records = self.pending.len() + if reserved { 4 } else { LOG_RECORDS_RESERVED };
        if self.free() < kept || records > LOG_RECORDS_MAX {
            return None;
        }
        let overhead = RECORD_HEADER_BYTES + FACT_HEADER_BYTES_MAX;
        let whole = self.datagram_bytes - RECORDS_OFFSET - overhead;
        let used = self.at(self.building).bytes.len().max(RECORDS_OFFSET);
        let left = self.datagram_bytes.saturating_sub(used + overhead);
        let room = if left >= wanted.min(SPLIT_BYTES_MIN) { left } else { whole };
        Some(wanted.min(room))
    }

    /// Whether that many whole datagrams can be taken beside the reserved ones.
    pub fn has_room_for_parts(&self, parts: usize) -> bool {
        self.free() >= parts + LOG_RESERVED
            && self.pending.len() + LOG_RECORDS_RESERVED <= LOG_RECORDS_MAX
    }

    /// Appends a fact; returns its op. One that nobody waits for may linger.
    pub fn record(
        &mut self,
        flow: FlowName,
        fact: &Fact,
        progress: Progress,
        is_awaited: bool,
    ) -> Op {
        let bytes = FACT_HEADER_BYTES_MAX + fact.payload_bytes();
        let op = self.append(RecordKind::Fact, flow.id, bytes, |out| fact.encode(out));
        self.is_awaited |= is_awaited;
        self.pending.push_back(Commit { op, flow: flow.id, slot: flow.slot, progress });
        op
    }

    /// The last record changes `flow` as well.
    pub fn follow(&mut self, flow: FlowName, progress: Progress, is_awaited: bool) {
        let op = self.last();
        self.is_awaited |= is_awaited;
        self.pending.push_back(Commit { op, flow: flow.id, slot: flow.slot, progress });
    }

    /// Appends a record that is no fact. For the last part of a capture `commit` says what follows from it.
    pub fn note(
        &mut self,
        kind: RecordKind,
        flow: FlowId,
        bytes: &[u8],
        commit: Option<(u32, Progress)>,
    ) -> Op {
        let op = self.append(kind, flow, bytes.len(), |out| out.put_bytes(bytes));
        self.is_awaited |= kind != RecordKind::Digest;
        if let Some((slot, progress)) = commit {
            self.pending.push_back(Commit { op, flow, slot, progress });
        }
        op
    }

    fn append(
        &mut self,
        kind: RecordKind,
        flow: FlowId,
        bytes_max: usize,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Op {
        let used = self.at(self.building).bytes.len();
        if used > 0 && used + RECORD_HEADER_BYTES + bytes_max > self.datagram_bytes {
            self.seal();
        }
        let (op, session) = (self.next, self.session);
        self.next = op.next();
        self.counters.records += 1;
        let datagram = self.at_mut(self.building);
        if datagram.bytes.is_empty() {
            put_header(&mut datagram.bytes, &session, Kind::Records);
            datagram.bytes.put_u64(op.0);
            // Clock and count are filled in when the datagram leaves.
            datagram.bytes.put_u64(0);
            datagram.bytes.put_u16(0);
            datagram.first = op;
        }
        let start = datagram.bytes.len();
        put_record(&mut datagram.bytes, kind, flow, 0);
        write(&mut datagram.bytes);
        let len = datagram.bytes.len() - start - RECORD_HEADER_BYTES;
        datagram.bytes[start + 7..start + 9].copy_from_slice(&(len as u16).to_le_bytes());
        datagram.count += 1;
        op
    }

    /// Ends the datagram under construction and begins the next.
    fn seal(&mut self) {
        assert!(self.free() > 0, "room was asked for before the record");
        self.building += 1;
        (self.is_awaited, self.leaves_at) = (false, None);
        let datagram = self.at_mut(self.building);
        datagram.bytes.clear();
        datagram.count = 0;
    }

    /// The next datagram to send, if there is one.
    pub fn poll_datagram(&mut self, now: Instant) -> Option<&[u8]> {
        self.schedule_resend(now);
        let number = if self.resend.0 < self.resend.1 {
            self.resend.0 += 1;
            self.counters.resent += 1;
            self.resend.0 - 1
        } else {
            if self.unsent == self.building {
                if self.at(self.building).bytes.is_empty() || self.free() == 0 {
                    return None;
                }
                if !self.is_awaited {
                    self.leaves_at.get_or_insert(now + LINGER);
                }
                // What was recorded together leaves together.
                let goes_along = self.is_awaited && self.under_way_since() == Some(now);
                if self.leaves_at() > now && !goes_along {
                    return None;
                }
                self.seal();
            }
            if self.unsent == self.oldest {
                (self.progress_at, self.acked_at) = (now, now);
            }
            self.unsent += 1;
            self.counters.datagrams += 1;
            self.unsent - 1
        };
        let clock = now.0.wrapping_add(self.clock_offset);
        let datagram = self.at_mut(number);
        datagram.sent_at = now;
        let count = datagram.count;
        let clock_at = RECORDS_OFFSET - 10;
        datagram.bytes[clock_at..clock_at + 8].copy_from_slice(&clock.to_le_bytes());
        datagram.bytes[RECORDS_OFFSET - 2..RECORDS_OFFSET].copy_from_slice(&count.to_le_bytes());
        self.counters.bytes_sent += self.at(number).bytes.len() as u64;
        Some(&self.at(number).bytes)
    }

    /// When the newest of the datagrams that are not acknowledged left, if there is one.
    fn under_way_since(&self) -> Option<Instant> {
        (self.oldest < self.unsent).then(|| self.at(self.unsent - 1).sent_at)
    }

    /// When what is under construction leaves, if nothing makes it full before; ZERO: at once, or nobody has looked at it.
    fn leaves_at(&self) -> Instant {
        match self.under_way_since() {
            _ if !self.is_awaited => self.leaves_at.unwrap_or(Instant::ZERO),
            Some(since) => self.leaves_at.unwrap_or(Instant::MAX).min(since + GATHER),
            None => Instant::ZERO,
        }
    }

    /// Without progress for a while, the oldest datagram is sent again: the answer says what is missing.
    fn schedule_resend(&mut self, now: Instant) {
        let waits = self.oldest < self.unsent && self.resend.0 >= self.resend.1;
        if waits && self.progress_at + self.resend_after <= now {
            self.resend = (self.oldest, self.oldest + 1);
            self.progress_at = now;
            self.resend_after = Duration((2 * self.resend_after.0).min(RESEND_MAX.0));
        }
    }

    /// When `poll_datagram` is due although nothing is appended.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.unsent < self.building || self.resend.0 < self.resend.1 {
            return Some(Instant::ZERO);
        }
        let is_empty = self.at(self.building).bytes.is_empty();
        let leaves_at = (!is_empty).then(|| self.leaves_at());
        let again = (self.oldest < self.unsent).then(|| self.progress_at + self.resend_after);
        leaves_at.into_iter().chain(again).min()
    }

    /// The peer holds every record up to `acked` and misses those in `missing`. Follow with
    /// [`Log::poll_commit`] until it answers `None`.
    pub fn handle_ack(&mut self, now: Instant, acked: Op, missing: Option<(Op, Op)>) {
        if acked > self.last() {
            return;
        }
        if acked > self.committed {
            self.committed = acked;
            (self.progress_at, self.acked_at) = (now, now);
            self.resend_after = RESEND_FIRST;
            while self.oldest < self.unsent && self.end_of(self.oldest) <= acked {
                self.arrived_sent_at = self.arrived_sent_at.max(self.at(self.oldest).sent_at);
                self.oldest += 1;
            }
            self.resend.0 = self.resend.0.max(self.oldest);
        }
        if self.resend.0 >= self.resend.1 {
            self.resend = match missing {
                Some((start, end)) => self.gap(now, start, end),
                None => self.tail(now),
            };
        }
    }

    /// The datagrams that hold the records from `start` up to `end`.
    fn gap(&self, now: Instant, start: Op, end: Op) -> (u64, u64) {
        let first = (self.oldest..self.unsent).find(|&n| self.end_of(n) >= start);
        let Some(first) = first.filter(|&n| self.is_overdue(n, now)) else { return self.resend };
        let last = (first..self.unsent).find(|&n| self.at(n).first >= end);
        (first, last.unwrap_or(self.unsent).min(first + RESEND_BURST_MAX))
    }

    /// The oldest datagrams, as far as they left before one that has arrived: the peer keeps none of them, so
    /// the link has lost them.
    fn tail(&self, now: Instant) -> (u64, u64) {
        let is_lost =
            |&n: &u64| self.at(n).sent_at < self.arrived_sent_at && self.is_overdue(n, now);
        let lost = (self.oldest..self.unsent).take(RESEND_BURST_MAX as usize).take_while(is_lost);
        (self.oldest, self.oldest + lost.count() as u64)
    }

    /// Asked for within the time that a datagram needs, it is on its way.
    fn is_overdue(&self, number: u64, now: Instant) -> bool {
        self.at(number).sent_at + RESEND_FIRST <= now
    }

    fn end_of(&self, number: u64) -> Op {
        let datagram = self.at(number);
        Op(datagram.first.0 + datagram.count as u64 - 1)
    }

    /// The next record that has been committed.
    pub fn poll_commit(&mut self) -> Option<Commit> {
        let commit = *self.pending.front()?;
        if commit.op > self.committed {
            return None;
        }
        self.pending.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Epoch, GroupId, Incarnation, Member, NodeId};
    use crate::mirror::{Body, decode};
    use stack::fact::Acked;
    use stack::seq::Seq;

    fn log() -> Log {
        let member = |n| Member { node: NodeId(n), incarnation: Incarnation(n as u64) };
        let session = Session {
            cluster: 1,
            group: GroupId::new(0, 0),
            epoch: Epoch(3),
            from: member(1),
            from_core: 0,
            to: member(2),
            to_core: 0,
        };
        Log::new(session, 1400, 0)
    }

    fn name(slot: u32) -> FlowName {
        FlowName { group: 0, id: FlowId::new(1, 0, slot as u64), slot }
    }

    #[test]
    fn commits_follow_acknowledgements_in_order() {
        let mut log = log();
        let now = Instant(1_000_000);
        for slot in 0..3 {
            log.record(name(slot), &Fact::Data(&[7; 600]), Progress::default(), true);
        }
        let firsts: Vec<u64> = core::iter::from_fn(|| {
            let bytes = log.poll_datagram(now)?;
            let (_, Body::Records { first, count, .. }) = decode(bytes).unwrap() else { panic!() };
            Some(first.0 * 100 + count as u64)
        })
        .collect();
        assert_eq!(firsts, [102, 301]);
        log.handle_ack(now, Op(2), None);
        assert_eq!(log.poll_commit().map(|c| (c.op, c.slot)), Some((Op(1), 0)));
        assert_eq!(log.poll_commit().map(|c| (c.op, c.slot)), Some((Op(2), 1)));
        assert_eq!(log.poll_commit(), None);
        log.handle_ack(now, Op(99), None);
        assert_eq!(log.committed(), Op(2), "an acknowledgement of what was never sent is ignored");
        log.handle_ack(now, Op(3), None);
        assert_eq!(log.poll_commit().map(|c| c.op), Some(Op(3)));
        assert_eq!((log.poll_datagram(now).is_none(), log.poll_timeout()), (true, None));
    }

    /// What nobody waits for is told of together; what is waited for takes it along at once.
    #[test]
    fn acknowledgements_of_clients_linger() {
        let mut log = log();
        let now = Instant(1_000_000);
        let acked = Fact::Acked(Acked { snd_una: Seq(5), snd_wnd: 1_000, ..Acked::default() });
        log.record(name(0), &acked, Progress::default(), false);
        assert_eq!(log.poll_timeout(), Some(Instant::ZERO), "nobody knows yet since when it waits");
        assert_eq!(log.poll_datagram(now), None);
        assert_eq!(log.poll_timeout(), Some(now + LINGER));
        log.record(name(1), &acked, Progress::default(), false);
        assert_eq!(log.poll_datagram(now + LINGER - Duration(1)), None);
        let count = |bytes: &[u8]| match decode(bytes).unwrap() {
            (_, Body::Records { count, .. }) => count,
            _ => panic!("no records"),
        };
        assert_eq!(log.poll_datagram(now + LINGER).map(count), Some(2));
        log.record(name(0), &acked, Progress::default(), false);
        assert_eq!(log.poll_datagram(now + LINGER), None);
        log.handle_ack(now + LINGER, Op(2), None);
        log.record(name(0), &Fact::Fin, Progress::default(), true);
        assert_eq!(log.poll_timeout(), Some(Instant::ZERO));
        assert_eq!(log.poll_datagram(now + LINGER).map(count), Some(2));
    }

    /// While a datagram is under way, what is waited for leaves with its acknowledgement, or a little later without.
    #[test]
    fn records_gather_while_a_datagram_is_under_way() {
        let mut log = log();
        let now = Instant(1_000_000);
        log.record(name(0), &Fact::Fin, Progress::default(), true);
        assert!(log.poll_datagram(now).is_some(), "who is alone is not kept waiting");
        log.record(name(1), &Fact::Fin, Progress::default(), true);
        assert!(log.poll_datagram(now).is_some(), "nor is the rest of one burst");
        let later = now + Duration(1);
        log.record(name(2), &Fact::Fin, Progress::default(), true);
        assert_eq!(log.poll_datagram(later), None);
        assert_eq!(log.poll_timeout(), Some(now + GATHER));
        log.handle_ack(later, Op(1), None);
        assert_eq!(log.poll_datagram(later), None, "the second is under way");
        log.handle_ack(later, Op(2), None);
        assert_eq!(log.poll_timeout(), Some(Instant::ZERO));
        assert!(log.poll_datagram(later).is_some());
        log.record(name(3), &Fact::Fin, Progress::default(), true);
        assert_eq!(log.poll_datagram(later + GATHER - Duration(1)), None);
        assert!(log.poll_datagram(later + GATHER).is_some(), "no acknowledgement is needed");
    }

    #[test]
    fn a_lost_datagram_is_sent_again_as_it_was() {
        let mut log = log();
        let mut now = Instant(1_000_000);
        log.record(name(0), &Fact::Data(&[7; 600]), Progress::default(), true);
        let first = log.poll_datagram(now).unwrap().to_vec();
        assert!(log.poll_datagram(now).is_none());
        now += RESEND_FIRST;
        let again = log.poll_datagram(now).unwrap().to_vec();
        assert_eq!(first[RECORDS_OFFSET..], again[RECORDS_OFFSET..]);
        assert_eq!(log.counters().resent, 1);
        // A gap that the peer reports is filled by exactly what is missing.
        for slot in 1..5 {
            log.record(name(slot), &Fact::Data(&[7; 1000]), Progress::default(), true);
        }
        while log.poll_datagram(now).is_some() {}
        now += RESEND_FIRST;
        log.handle_ack(now, Op(1), Some((Op(2), Op(4))));
        let mut again = Vec::new();
        while let Some(bytes) = log.poll_datagram(now) {
            let (_, Body::Records { first, .. }) = decode(bytes).unwrap() else { panic!() };
            again.push(first.0);
        }
        assert_eq!(again, [2, 3]);
    }

    /// What is sent again is no progress; an acknowledgement is, and silence where nothing waits is none.
    #[test]
    fn silence_is_counted_from_the_last_acknowledgement() {
        let mut log = log();
        let mut now = Instant(1_000_000);
        assert_eq!(log.unanswered(now + RESEND_MAX), Duration::ZERO);
        for slot in 0..2 {
            log.record(name(slot), &Fact::Data(&[7; 900]), Progress::default(), true);
        }
        for _ in 0..50 {
            while log.poll_datagram(now).is_some() {}
            now += RESEND_MAX;
        }
        assert!(log.counters().resent > 10);
        assert_eq!(log.unanswered(now), Duration(50 * RESEND_MAX.0));
        log.handle_ack(now, Op(1), None);
        assert_eq!(log.unanswered(now + RESEND_MAX), RESEND_MAX);
        log.handle_ack(now, Op(2), None);
        assert_eq!(log.unanswered(now + RESEND_MAX), Duration::ZERO);
    }

    #[test]
    fn a_full_log_refuses_and_keeps_room_for_ticks() {
        let mut log = log();
        let mut refused_at = 0;
        for n in 0..10_000u32 {
            if log.room(1200, false).is_none() {
                refused_at = n;
                break;
            }
            log.record(name(n), &Fact::Data(&[7; 1200]), Progress::default(), true);
        }
        assert!(refused_at > 400);
        for n in 0..LOG_RESERVED as u32 - 4 {
            assert!(log.room(0, true).is_some());
            log.note(RecordKind::Part, FlowId(n as u64), &[0; 1200], None);
        }
    }
}
