//! Small answers that belong to no flow: ARP and neighbour answers, ICMP echo, RST, SYN cookies; and our own
//! questions about neighbours.
//!
//! Each is kept until the port has room and the lease allows it. What they may cost is bounded twice, so that
//! whoever asks for very many takes nothing from the flows: each kind has so many a second, and the queue so
//! many places. The last half of both is for what must not be refused: answers to repeated SYNs, our own
//! announcements and, but for the last quarter of the places, our own questions. Bounds: [`REPLIES_MAX`] and the rates in
//! `limits.rs`; one more is dropped and counted, and
//! whoever asked will ask again.

use crate::drop::Drop;
use crate::fact::Open;
use crate::limits::{
    ADDRESSES_PER_SECOND, COOKIES_PER_SECOND, ECHO_BYTES_MAX, ECHOES_PER_SECOND,
    QUESTIONS_PER_SECOND, REPLIES_FIRST, REPLIES_MAX, REPLY_BURSTS_PER_SECOND, RESETS_PER_SECOND,
};
use crate::service::Service;
use crate::time::{Duration, Instant};
use crate::wire::{
    Address, Flags, Header, Mac, Path, Segment, SegmentOptions, emit_address, emit_echo_reply,
    emit_query, emit_tcp,
};
use alloc::collections::VecDeque;

/// One small answer.
pub struct Reply {
    group: u8,
    kind: Kind,
}

#[allow(clippy::large_enum_variant)] // a bounded queue of them is taken at start
enum Kind {
    Address { address: Address, to: Option<(Mac, Address)> },
    Query { source: Address, target: Address },
    Segment { path: Path, header: Header },
    Echo { path: Path, identifier: u16, sequence: u16, len: u16, payload: [u8; ECHO_BYTES_MAX] },
}

/// The queue of small answers.
pub struct Replies {
    queue: VecDeque<Reply>,
    /// What each kind may still cost: [`Reply::budget`].
    budgets: [Budget; 5],
    /// As of when time has given every kind more.
    now: Instant,
    /// Answers that left since then.
    said: u8,
}

impl Replies {
    /// Takes memory.
    pub fn new() -> Replies {
        let rates = [
            COOKIES_PER_SECOND,
            RESETS_PER_SECOND,
            ECHOES_PER_SECOND,
            ADDRESSES_PER_SECOND,
            QUESTIONS_PER_SECOND,
        ];
        Replies {
            queue: VecDeque::with_capacity(REPLIES_MAX),
            budgets: rates.map(Budget::new),
            now: Instant::ZERO,
            said: 0,
        }
    }

    /// Once a round: time goes on.
    pub fn begin_round(&mut self, now: Instant) {
        (self.now, self.said) = (now, 0);
    }

    /// Queues an answer. One that is `urgent` may use what is kept from the others.
    pub fn push(&mut self, reply: Reply, urgent: bool) -> Result<(), Drop> {
        let places = match reply.kind {
            // Whoever takes over asks for all of its servers while it says where the addresses are.
            Kind::Query { .. } => REPLIES_MAX / 4 * 3,
            _ if urgent => REPLIES_MAX,
            _ => REPLIES_MAX / 2,
        };
        if self.queue.len() >= places {
            return Err(Drop::ReplyQueueFull);
        }
        let budget = &mut self.budgets[reply.budget()];
        // Time has given every kind some more.
        budget.refill(self.now);
        if !budget.take(urgent) {
            return Err(Drop::ReplyRate);
        }
        self.queue.push_back(reply);
        Ok(())
    }

    /// The next answer that goes before the flows.
    pub fn pop_first(&mut self) -> Option<Reply> {
        if self.said >= REPLIES_FIRST { None } else { self.pop() }
    }

    /// Whether there is one that goes before what flows have to say.
    pub fn has_first(&self) -> bool {
        self.said < REPLIES_FIRST && !self.queue.is_empty()
    }

    /// The next answer.
    pub fn pop(&mut self) -> Option<Reply> {
        let reply = self.queue.pop_front()?;
        self.said = self.said.saturating_add(1);
        Some(reply)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

/// So many a second, and 10 ms' worth at once.
struct Budget {
    per_second: u32,
    left: u32,
    /// What `left` takes into account.
    until: Instant,
}

impl Budget {
    const fn new(per_second: u32) -> Budget {
        Budget { per_second, left: per_second / REPLY_BURSTS_PER_SECOND, until: Instant::ZERO }
    }

    fn refill(&mut self, now: Instant) {
        let all = self.per_second / REPLY_BURSTS_PER_SECOND;
        let each = 1_000_000_000 / u64::from(self.per_second);
        let more = now.since(self.until).0 / each;
        if more >= u64::from(all) {
            (self.left, self.until) = (all, now);
        } else {
            self.left = all.min(self.left + more as u32);
            self.until += Duration(more * each);
        }
    }

    fn take(&mut self, urgent: bool) -> bool {
        let kept = if urgent { 0 } else { self.per_second / REPLY_BURSTS_PER_SECOND / 2 };
        let has = self.left > kept;
        self.left -= u32::from(has);
        has
    }
}

impl Default for Replies {
    fn default() -> Replies {
        Replies::new()
    }
}

impl Reply {
    /// The group whose lease the answer needs.
    pub fn group(&self) -> u8 {
        self.group
    }

    /// Which budget it is of.
    fn budget(&self) -> usize {
        match &self.kind {
            Kind::Segment { header, .. } if header.flags.has(Flags::SYN) => 0,
            Kind::Segment { .. } => 1,
            Kind::Echo { .. } => 2,
            Kind::Address { .. } => 3,
            Kind::Query { .. } => 4,
        }
    }

    /// Tells everybody that `address` is here.
    pub fn announce(address: Address, group: u8) -> Reply {
        Reply { group, kind: Kind::Address { address, to: None } }
    }

    /// Tells `asker` that `address` is here.
    pub fn address(mac: Mac, asker: Address, address: Address, group: u8) -> Reply {
        Reply { group, kind: Kind::Address { address, to: Some((mac, asker)) } }
    }

    /// Asks everybody where `target` is; the answer goes to `source`, an address of ours of the same family.
    pub fn query(source: Address, target: Address, group: u8) -> Reply {
        Reply { group, kind: Kind::Query { source, target } }
    }

    /// Answers an echo request; `None` if its payload is too large.
    pub fn echo(
        mac: Mac,
        asker: Address,
        address: Address,
        (identifier, sequence): (u16, u16),
        payload: &[u8],
        group: u8,
    ) -> Option<Reply> {
        let mut copy = [0; ECHO_BYTES_MAX];
        copy.get_mut(..payload.len())?.copy_from_slice(payload);
        let path = Path { destination_mac: mac, source: address, destination: asker, ..NOWHERE };
        let len = payload.len() as u16;
        Some(Reply { group, kind: Kind::Echo { path, identifier, sequence, len, payload: copy } })
    }

    /// RFC 9293 3.10.7.1: the reset that answers a segment of no connection.
    pub fn reset(segment: &Segment, group: u8) -> Reply {
        let mut header = Header {
            source_port: segment.destination_port,
            destination_port: segment.source_port,
            ..Header::default()
        };
        if segment.flags.has(Flags::ACK) {
            (header.seq, header.flags) = (segment.ack, Flags::RST);
        } else {
            header.ack = segment.seq + segment.len();
            header.flags = Flags::RST.with(Flags::ACK);
        }
        Reply { group, kind: Kind::Segment { path: back(segment), header } }
    }

    /// A SYN-ACK whose sequence number, and whose timestamp's low bits, remember the SYN.
    pub fn cookie(open: &Open, group: u8, segment: &Segment, service: &Service, ts: u32) -> Reply {
        let options = open.options;
        // Without a timestamp to carry them, scale and SACK cannot be remembered and are not offered.
        let bits =
            (options.snd_scale as u32) | (options.scaling as u32) << 4 | (options.sack as u32) << 5;
        let stamped = options.timestamps;
        let stamp = (ts & !63) | bits;
        // Never ahead of the clock: what follows would look older than the SYN-ACK (PAWS).
        let stamp = if stamp.wrapping_sub(ts) as i32 > 0 { stamp.wrapping_sub(64) } else { stamp };
        let header = Header {
            source_port: open.key.local_port,
            destination_port: open.key.remote_port,
            seq: open.iss,
            ack: segment.seq + 1,
            flags: Flags::SYN.with(Flags::ACK),
            window: service.first_window().min(0xffff) as u16,
            options: SegmentOptions {
                mss: Some(service.mss_for(&open.key.local)),
                window_scale: (stamped && options.scaling).then_some(options.rcv_scale),
                sack_permitted: stamped && options.sack,
                sack: [None; 4],
                timestamps: segment.options.timestamps.map(|(value, _)| (stamp, value)),
            },
        };
        Reply { group, kind: Kind::Segment { path: back(segment), header } }
    }

    /// The options of the SYN that a cookie's answer belongs to.
    pub fn cookie_options(segment: &Segment, mss: u16) -> SegmentOptions {
        let bits = segment.options.timestamps.map_or(0, |(_, echo)| echo & 63);
        let scaling = bits & 16 != 0;
        SegmentOptions {
            mss: Some(mss),
            window_scale: scaling.then_some((bits & 15) as u8),
            sack_permitted: bits & 32 != 0,
            sack: [None; 4],
            timestamps: segment.options.timestamps,
        }
    }

    /// Writes the answer; returns the length of the frame.
    pub fn emit(&self, mac: &Mac, hop_limit: u8, buffer: &mut [u8]) -> usize {
        match &self.kind {
            Kind::Address { address, to } => emit_address(buffer, mac, address, *to),
            Kind::Query { source, target } => emit_query(buffer, mac, source, target),
            Kind::Segment { path, header } => {
                emit_tcp(buffer, &Path { source_mac: *mac, hop_limit, ..*path }, header, 0)
            }
            Kind::Echo { path, identifier, sequence, len, payload } => {
                let path = Path { source_mac: *mac, hop_limit, ..*path };
                emit_echo_reply(buffer, &path, *identifier, *sequence, &payload[..*len as usize])
            }
        }
    }
}

/// A path of which nothing is known yet; source and hop limit are filled in when the reply is written.
const NOWHERE: Path = Path {
    source_mac: [0; 6],
    destination_mac: [0; 6],
    source: Address([0; 16]),
    destination: Address([0; 16]),
    hop_limit: 0,
};

/// The way back to where a segment came from.
fn back(segment: &Segment) -> Path {
    Path {
        destination_mac: segment.source_mac,
        source: segment.destination,
        destination: segment.source,
        ..NOWHERE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn announcement() -> Reply {
        Reply::announce(Address::v4([1, 2, 3, 4]), 0)
    }

    fn answer() -> Reply {
        Reply::address([2; 6], Address::v4([1, 2, 3, 5]), Address::v4([1, 2, 3, 4]), 0)
    }

    #[test]
    fn the_queue_is_bounded_and_keeps_places_for_the_urgent() {
        let mut replies = Replies::new();
        for _ in 0..REPLIES_MAX / 2 {
            assert_eq!(replies.push(announcement(), false), Ok(()));
        }
        assert_eq!(replies.push(announcement(), false), Err(Drop::ReplyQueueFull));
        for _ in 0..REPLIES_MAX / 2 {
            assert_eq!(replies.push(announcement(), true), Ok(()));
        }
        assert_eq!(replies.push(announcement(), true), Err(Drop::ReplyQueueFull));
        assert!(replies.pop().is_some() && !replies.is_empty());
    }

    #[test]
    fn a_second_has_so_many_answers() {
        let mut replies = Replies::new();
        let mut sent = 0;
        for ms in 0..1000 {
            replies.begin_round(Instant(1_000_000_000 + ms * 1_000_000));
            while replies.push(answer(), false).is_ok() {
                sent += 1;
                replies.pop();
            }
            assert_eq!(replies.push(answer(), false), Err(Drop::ReplyRate));
        }
        let rate = ADDRESSES_PER_SECOND;
        assert!((rate - 10..=rate + rate / REPLY_BURSTS_PER_SECOND).contains(&sent), "{sent}");
        assert_eq!(replies.push(answer(), true), Ok(()));
    }

    /// However many servers there are to ask for, the addresses are announced at once.
    #[test]
    fn our_own_questions_leave_room_for_announcements() {
        let mut replies = Replies::new();
        let question = || {
            let (source, target) = (Address::v4([1, 2, 3, 4]), Address::v4([1, 2, 3, 9]));
            Reply::query(source, target, 0)
        };
        for ms in 0..10 {
            replies.begin_round(Instant(1_000_000_000 + ms * 1_000_000));
            while replies.push(question(), true).is_ok() {}
            for _ in 0..REPLIES_MAX / 4 {
                assert_eq!(replies.push(announcement(), true), Ok(()), "{ms} ms");
            }
            while replies.pop().is_some() {}
        }
    }

    #[test]
    fn some_go_before_the_flows_and_the_others_after() {
        let mut replies = Replies::new();
        for _ in 0..20 {
            assert_eq!(replies.push(announcement(), true), Ok(()));
        }
        assert_eq!(core::iter::from_fn(|| replies.pop_first()).count(), REPLIES_FIRST as usize);
        assert!(replies.pop().is_some() && replies.pop_first().is_none());
        replies.begin_round(Instant(1));
        assert_eq!(core::iter::from_fn(|| replies.pop_first()).count(), 3);
    }
}
