//! Where frames wait that reached a node which does not serve them: until it does, or until they have left for the node
//! that does; and where forwarded ones are put together again.
//!
//! Bounds: [`SHELF_FRAMES_MAX`] frames, [`SHELF_TIME_MAX`] each, [`ASSEMBLIES_MAX`] in parts; the memory is taken at
//! start.

use crate::id::{Epoch, Member};
use crate::limits::{ASSEMBLIES_MAX, SHELF_FRAMES_MAX, SHELF_TIME_MAX};
use crate::mirror::FramePart;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use stack::stack::Stray;
use stack::time::Instant;

/// What became of frames that reached a node which does not serve them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ForwardCounters {
    /// Kept here for a while, until it is known who serves them.
    pub held: u64,
    /// Sent to the owner.
    pub sent: u64,
    /// Taken from another node.
    pub received: u64,
    /// Asked about by another node, and given back: no flow is known here.
    pub returned: u64,
    /// Dropped: the way to whoever serves them is not known.
    pub no_route: u64,
    /// Dropped: no room to keep them.
    pub full: u64,
    /// Dropped: kept for so long that their client has said them again.
    pub expired: u64,
    /// Dropped: forwarded to this node, which does not serve them (any more). There is one hop only.
    pub second_hop: u64,
    /// Dropped: forwarded under an epoch before the one since which this node owns the group.
    pub old_epoch: u64,
    /// Dropped: a part was lost on the way.
    pub incomplete: u64,
    /// Dropped: longer than any frame of a client.
    pub too_long: u64,
}

impl ForwardCounters {
    /// What was dropped, each with the name under which it is shown.
    pub fn drops(&self) -> [(&'static str, u64); 7] {
        [
            ("forward_no_route", self.no_route),
            ("forward_full", self.full),
            ("forward_expired", self.expired),
            ("forward_second_hop", self.second_hop),
            ("forward_old_epoch", self.old_epoch),
            ("forward_incomplete", self.incomplete),
            ("forward_too_long", self.too_long),
        ]
    }

    /// What was not, the same way.
    pub fn events(&self) -> [(&'static str, u64); 4] {
        [
            ("forward_held", self.held),
            ("forward_sent", self.sent),
            ("forward_received", self.received),
            ("forward_returned", self.returned),
        ]
    }
}

/// A frame on the shelf.
pub(super) struct Kept {
    pub stray: Stray,
    /// By which epoch another node knew this one as the owner, if it forwarded the frame.
    pub hopped: Option<Epoch>,
    since: Instant,
    pub frame: Vec<u8>,
}

impl Kept {
    /// It goes to the owner, as if its client had sent it here, and not back to who forwarded it.
    pub fn on_its_way(self) -> Kept {
        Kept { hopped: None, ..self }
    }
}

/// A forwarded frame of which some parts are there, in whatever order they came.
struct Assembly {
    from: (Member, u8),
    number: u32,
    total: usize,
    /// Where the parts begin that are there; none if it waits for nothing.
    offsets: Vec<u16>,
    /// Bytes of all of them.
    held: usize,
    frame: Vec<u8>,
}

/// Parts of a frame at most; of the longest, in the shortest datagrams.
const FRAME_PARTS_MAX: usize = 64;

/// The frames of one core.
pub(super) struct Shelf {
    free: Vec<Vec<u8>>,
    frame_bytes: usize,
    held: VecDeque<Kept>,
    leaving: VecDeque<Kept>,
    /// Bytes of the first leaving frame that have left.
    sent: usize,
    /// Its number.
    number: u32,
    assemblies: Vec<Assembly>,
    oldest: usize,
    pub counters: ForwardCounters,
}

/// Bytes that a shelf takes for frames of up to `frame_bytes`.
pub fn shelf_memory_bytes(frame_bytes: usize) -> usize {
    let offsets = FRAME_PARTS_MAX * size_of::<u16>();
    SHELF_FRAMES_MAX * frame_bytes + ASSEMBLIES_MAX * (frame_bytes + offsets)
}

impl Shelf {
    /// Takes all memory.
    pub fn new(frame_bytes: usize) -> Shelf {
        let buffer = || Vec::with_capacity(frame_bytes);
        let assembly = |_| Assembly {
            from: (Member::default(), 0),
            number: 0,
            total: 0,
            offsets: Vec::with_capacity(FRAME_PARTS_MAX),
            held: 0,
            frame: buffer(),
        };
        Shelf {
            free: (0..SHELF_FRAMES_MAX).map(|_| buffer()).collect(),
            frame_bytes,
            held: VecDeque::with_capacity(SHELF_FRAMES_MAX),
            leaving: VecDeque::with_capacity(SHELF_FRAMES_MAX),
            sent: 0,
            number: 0,
            assemblies: (0..ASSEMBLIES_MAX).map(assembly).collect(),
            oldest: 0,
            counters: ForwardCounters::default(),
        }
    }

    /// Keeps a copy of a frame, if there is room.
    pub fn keep(
        &mut self,
        now: Instant,
        stray: Stray,
        hopped: Option<Epoch>,
        frame: &[u8],
    ) -> Option<Kept> {
        if frame.len() > self.frame_bytes {
            self.counters.too_long += 1;
            return None;
        }
        let Some(mut buffer) = self.free.pop() else {
            self.counters.full += 1;
            return None;
        };
        buffer.clear();
        buffer.extend_from_slice(frame);
        Some(Kept { stray, hopped, since: now, frame: buffer })
    }

    /// Holds a frame until it is known who serves it.
    pub fn hold(&mut self, kept: Kept) {
        self.held.push_back(kept);
    }

    /// A frame is to leave for the owner.
    pub fn send(&mut self, kept: Kept) {
        self.leaving.push_back(kept);
    }

    /// Gives back what a frame took.
    pub fn release(&mut self, kept: Kept) {
        self.free.push(kept.frame);
    }

    /// How many frames are held.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// The frame that is held longest.
    pub fn pop_held(&mut self) -> Option<Kept> {
        self.held.pop_front()
    }

    /// Drops what is held too long.
    pub fn expire(&mut self, now: Instant) {
        while self.held.front().is_some_and(|kept| now >= kept.since + SHELF_TIME_MAX) {
            self.counters.expired += 1;
            let kept = self.held.pop_front().expect("just seen");
            self.release(kept);
        }
    }

    /// When something is to be done next; ZERO if there is something to do now.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if !self.leaving.is_empty() {
            return Some(Instant::ZERO);
        }
        self.held.front().map(|kept| kept.since + SHELF_TIME_MAX)
    }

    /// Whose the next leaving frame is, and whether it goes back to the node that asked about it.
    pub fn next_leaving(&self) -> Option<(Stray, bool)> {
        self.leaving.front().map(|kept| (kept.stray, kept.hopped.is_some()))
    }

    /// The next part of that, with at most so many bytes.
    pub fn next_part(&self, room: usize) -> Option<FramePart<'_>> {
        let frame = &self.leaving.front()?.frame;
        let end = frame.len().min(self.sent + room);
        Some(FramePart {
            number: self.number,
            total: frame.len() as u16,
            offset: self.sent as u16,
            bytes: &frame[self.sent..end],
        })
    }

    /// So many bytes of it have left.
    pub fn note_left(&mut self, bytes: usize) {
        self.sent += bytes;
        if self.leaving.front().is_some_and(|kept| kept.frame.len() == self.sent) {
            self.counters.sent += 1;
            self.drop_leaving();
        }
    }

    /// Nobody takes it.
    pub fn lose_leaving(&mut self) {
        self.counters.no_route += 1;
        self.drop_leaving();
    }

    fn drop_leaving(&mut self) {
        if let Some(kept) = self.leaving.pop_front() {
            self.release(kept);
        }
        self.sent = 0;
        self.number = self.number.wrapping_add(1);
    }

    /// Takes a part of a frame from a core of another node; the frame if it is whole. Give it back
    /// ([`Shelf::give_back`]).
    pub fn assemble(&mut self, from: (Member, u8), part: &FramePart) -> Option<Vec<u8>> {
        if part.total as usize > self.frame_bytes {
            self.counters.too_long += 1;
            return None;
        }
        let (total, offset) = (usize::from(part.total), usize::from(part.offset));
        let is_it = |assembly: &Assembly| {
            !assembly.offsets.is_empty()
                && (assembly.from, assembly.number) == (from, part.number)
                && assembly.total == total
        };
        let known = self.assemblies.iter().position(is_it);
        let is_free = |assembly: &Assembly| assembly.offsets.is_empty();
        let at = known.or_else(|| self.assemblies.iter().position(is_free)).unwrap_or_else(|| {
            self.oldest = (self.oldest + 1) % ASSEMBLIES_MAX;
            self.oldest
        });
        let assembly = &mut self.assemblies[at];
        if known.is_none() {
            self.counters.incomplete += u64::from(!assembly.offsets.is_empty());
            assembly.offsets.clear();
            (assembly.from, assembly.number, assembly.total) = (from, part.number, total);
            assembly.held = 0;
            assembly.frame.clear();
            assembly.frame.resize(total, 0);
        }
        let is_new = !assembly.offsets.contains(&part.offset);
        let end = offset + part.bytes.len();
        if !is_new || end > total || assembly.offsets.len() == FRAME_PARTS_MAX {
            return None;
        }
        assembly.frame[offset..end].copy_from_slice(part.bytes);
        assembly.offsets.push(part.offset);
        assembly.held += part.bytes.len();
        if assembly.held < total {
            return None;
        }
        assembly.offsets.clear();
        Some(core::mem::take(&mut assembly.frame))
    }

    /// What [`Shelf::assemble`] lent.
    pub fn give_back(&mut self, mut frame: Vec<u8>) {
        frame.clear();
        let mut assemblies = self.assemblies.iter_mut();
        if let Some(assembly) = assemblies.find(|assembly| assembly.frame.capacity() == 0) {
            assembly.frame = frame;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Incarnation, NodeId};

    const STRAY: Stray = Stray { group: 0, shard: 3, is_newcomer: false };

    fn sender(node: u8) -> (Member, u8) {
        (Member { node: NodeId(node), incarnation: Incarnation(9) }, 0)
    }

    fn parts(shelf: &mut Shelf, room: usize) -> Vec<(u32, u16, u16, Vec<u8>)> {
        let mut parts = Vec::new();
        while let Some(part) = shelf.next_part(room) {
            let FramePart { number, total, offset, bytes } = part;
            let bytes = bytes.to_vec();
            shelf.note_left(bytes.len());
            parts.push((number, total, offset, bytes));
        }
        parts
    }

    #[test]
    fn a_frame_comes_in_parts_or_not_at_all() {
        let (mut from, mut to) = (Shelf::new(1600), Shelf::new(1600));
        let frame: Vec<u8> = (0..1500).map(|n| n as u8).collect();
        for _ in 0..3 {
            let kept = from.keep(Instant::ZERO, STRAY, None, &frame).unwrap();
            from.send(kept);
        }
        let parts = parts(&mut from, 700);
        assert_eq!((parts.len(), from.counters.sent), (9, 3));
        // The second part of the second frame is lost, and another node's frame comes in between.
        let mut whole = 0;
        for (at, (number, total, offset, bytes)) in parts.iter().enumerate() {
            if at == 4 {
                continue;
            }
            let part = FramePart { number: *number, total: *total, offset: *offset, bytes };
            if let Some(got) = to.assemble(sender(1), &part) {
                assert_eq!(got, frame);
                whole += 1;
                to.give_back(got);
            }
            let other = FramePart { number: 7, total: 1, offset: 0, bytes: b"x" };
            let got = to.assemble(sender(2), &other).unwrap();
            assert_eq!(got, b"x");
            to.give_back(got);
        }
        assert_eq!((whole, to.counters.incomplete), (2, 0));
        assert!(to.assemblies.iter().all(|assembly| assembly.frame.capacity() > 0));
    }

    /// A NIC deals the datagrams of one sender to several queues: so its parts overtake each other, and with them frames.
    #[test]
    fn parts_come_in_any_order_and_twice_and_what_lacks_one_gives_way() {
        let (mut from, mut to) = (Shelf::new(1600), Shelf::new(1600));
        let frame: Vec<u8> = (0..1500).map(|n| n as u8).collect();
        let frames = ASSEMBLIES_MAX + 2;
        for _ in 0..frames {
            let kept = from.keep(Instant::ZERO, STRAY, None, &frame).unwrap();
            from.send(kept);
        }
        let parts = parts(&mut from, 800);
        let mut whole = 0;
        let mut take = |to: &mut Shelf, at: usize| {
            let (number, total, offset, bytes) = &parts[at];
            let part = FramePart { number: *number, total: *total, offset: *offset, bytes };
            if let Some(got) = to.assemble(sender(1), &part) {
                assert_eq!(got, frame);
                to.give_back(got);
                whole += 1;
            }
            whole
        };
        // The first two frames, last part first and each part twice, mixed.
        for (at, expected) in [(1, 0), (3, 0), (3, 0), (1, 0), (0, 1), (2, 2)] {
            assert_eq!(take(&mut to, at), expected);
        }
        // Of all others the second part alone: the longest kept gives way.
        (2..frames).for_each(|n| assert_eq!(take(&mut to, 2 * n + 1), 2));
        assert_eq!(to.counters.incomplete, 0);
        assert_eq!(take(&mut to, 1), 2, "it is a new one by now");
        assert_eq!(to.counters.incomplete, 1);
    }

    #[test]
    fn what_finds_no_room_or_is_too_long_is_counted() {
        let mut shelf = Shelf::new(100);
        assert!(shelf.keep(Instant::ZERO, STRAY, None, &[0; 101]).is_none());
        for n in 0..SHELF_FRAMES_MAX as u64 {
            let kept = shelf.keep(Instant(n), STRAY, None, &[0; 100]).unwrap();
            shelf.hold(kept);
        }
        assert!(shelf.keep(Instant::ZERO, STRAY, None, &[0; 100]).is_none());
        assert_eq!((shelf.counters.too_long, shelf.counters.full), (1, 1));
        let end = Instant::ZERO + SHELF_TIME_MAX;
        assert_eq!(shelf.poll_timeout(), Some(end));
        shelf.expire(Instant(end.0 + 9));
        assert_eq!((shelf.counters.expired, shelf.held()), (10, SHELF_FRAMES_MAX - 10));
        let part = FramePart { number: 0, total: 101, offset: 0, bytes: &[0; 101] };
        assert!(shelf.assemble(sender(1), &part).is_none());
        assert_eq!(shelf.counters.too_long, 2);
    }
}
