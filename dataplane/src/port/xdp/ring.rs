//! The rings shared with the kernel: one side writes descriptors, the other takes them.
//!
//! Both positions are free-running `u32` that wrap; the slot is the position modulo the (power of
//! two) size. Our own position runs ahead of the published one: a [`Producer`] shows the kernel
//! nothing before [`Producer::publish`] and can take it all back before that; a [`Consumer`] gives
//! slots back with [`Consumer::release`].
//!
//! ```text
//!   consumer (kernel)      published            written
//!        |  the kernel may read  |  private to us  |        free
//!   -----+-----------------------+-----------------+------------------
//! ```
//!
//! Spec: Linux `Documentation/networking/af_xdp.rst`; ordering is release on our position, acquire
//! on theirs.

use super::mapping::Mapping;
use std::io;
use std::marker::PhantomData;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU32, Ordering};

/// Where in a ring's mapping things lie, as the kernel tells.
#[derive(Clone, Copy)]
pub struct Layout {
    /// Offset of the producer's position.
    pub producer: usize,
    /// Offset of the consumer's position.
    pub consumer: usize,
    /// Offset of the flags.
    pub flags: usize,
    /// Offset of the descriptors.
    pub descriptors: usize,
}

/// What both sides have in common: the mapping and typed access to it.
struct Shared<T> {
    map: Mapping,
    layout: Layout,
    size: u32,
    descriptor: PhantomData<T>,
}

impl<T: Copy> Shared<T> {
    fn new(map: Mapping, size: u32, layout: Layout) -> Shared<T> {
        assert!(size.is_power_of_two());
        let shared: Shared<T> = Shared { map, layout, size, descriptor: PhantomData };
        for offset in [layout.producer, layout.consumer, layout.flags] {
            assert!(shared.map.at(offset, 4).cast::<AtomicU32>().is_aligned());
        }
        assert!(shared.slot(size - 1).is_aligned());
        shared
    }

    #[inline]
    fn word(&self, offset: usize) -> &AtomicU32 {
        let word = self.map.at(offset, 4).cast::<AtomicU32>();
        // SAFETY: inside the mapping (`at`), aligned (`new`), lives as long as the mapping, and all
        // accesses to it, ours and the kernel's, are atomic.
        unsafe { &*word }
    }

    #[inline]
    fn slot(&self, position: u32) -> *mut T {
        let index = (position & (self.size - 1)) as usize;
        self.map.at(self.layout.descriptors + index * size_of::<T>(), size_of::<T>()).cast()
    }
}

/// The side of a ring on which we write: fill and transmit.
pub struct Producer<T> {
    shared: Shared<T>,
    written: u32,
    published: u32,
    consumed: u32,
}

impl<T: Copy> Producer<T> {
    /// Maps a ring of the socket.
    pub fn map(fd: RawFd, size: u32, offset: libc::off_t, layout: Layout) -> io::Result<Self> {
        let len = layout.descriptors + size as usize * size_of::<T>();
        Ok(Producer::new(Mapping::ring(fd, len, offset)?, size, layout))
    }

    fn new(map: Mapping, size: u32, layout: Layout) -> Producer<T> {
        let shared = Shared::new(map, size, layout);
        let published = shared.word(layout.producer).load(Ordering::Relaxed);
        let consumed = shared.word(layout.consumer).load(Ordering::Acquire);
        Producer { shared, written: published, published, consumed }
    }

    /// Writes a descriptor that the kernel does not see yet; false if the ring is full.
    #[inline]
    pub fn write(&mut self, descriptor: T) -> bool {
        if self.written.wrapping_sub(self.consumed) == self.shared.size {
            self.unconsumed();
            if self.written.wrapping_sub(self.consumed) == self.shared.size {
                return false;
            }
        }
        // SAFETY: `slot` points into the mapping; the slot is not between the kernel's position and
        // the published one, so the kernel does not read it.
        unsafe { self.shared.slot(self.written).write(descriptor) };
        self.written = self.written.wrapping_add(1);
        true
    }

    /// Whether so many descriptors can be written.
    #[inline]
    pub fn has_room_for(&mut self, count: u32) -> bool {
        let room = |ring: &Self| ring.shared.size - ring.written.wrapping_sub(ring.consumed);
        if room(self) < count {
            self.unconsumed();
        }
        room(self) >= count
    }

    /// Shows the kernel everything written.
    #[inline]
    pub fn publish(&mut self) {
        self.published = self.written;
        self.shared.word(self.shared.layout.producer).store(self.published, Ordering::Release);
    }

    /// Takes back everything written and not published.
    #[inline]
    pub fn rollback(&mut self) {
        self.written = self.published;
    }

    /// Takes back the last `count` published descriptors, which stay written. Only right while the
    /// kernel cannot have looked at the ring since.
    pub fn unpublish(&mut self, count: u32) {
        assert!(count <= self.unconsumed(), "what the kernel has taken cannot be taken back");
        self.published = self.published.wrapping_sub(count);
        self.shared.word(self.shared.layout.producer).store(self.published, Ordering::Release);
    }

    /// Writes `instead` over every published descriptor that the kernel has not taken, and hands
    /// those to `withdrawn`. The kernel has noted how far the ring was published, so that they cannot
    /// be taken back; `instead` is to be one that it refuses. Only right while the kernel does not
    /// look at the ring.
    pub fn withdraw(&mut self, instead: T, mut withdrawn: impl FnMut(T)) {
        for n in (1..=self.unconsumed()).rev() {
            let slot = self.shared.slot(self.published.wrapping_sub(n));
            // SAFETY: inside the mapping (`slot`) and written by us; the kernel does not look at it
            // now, as the caller promises.
            withdrawn(unsafe { slot.replace(instead) });
        }
    }

    /// Published descriptors that the kernel has not taken yet.
    #[inline]
    pub fn unconsumed(&mut self) -> u32 {
        self.consumed = self.shared.word(self.shared.layout.consumer).load(Ordering::Acquire);
        let unconsumed = self.published.wrapping_sub(self.consumed);
        assert!(unconsumed <= self.shared.size, "the kernel took more than there was");
        unconsumed
    }

    /// Whether the kernel wants to be told of new descriptors by a system call.
    #[inline]
    pub fn needs_wakeup(&self) -> bool {
        let flags = self.shared.word(self.shared.layout.flags).load(Ordering::Relaxed);
        flags & libc::XDP_RING_NEED_WAKEUP != 0
    }
}

/// The side of a ring on which we take: receive and completion.
pub struct Consumer<T> {
    shared: Shared<T>,
    taken: u32,
    produced: u32,
}

impl<T: Copy> Consumer<T> {
    /// Maps a ring of the socket.
    pub fn map(fd: RawFd, size: u32, offset: libc::off_t, layout: Layout) -> io::Result<Self> {
        let len = layout.descriptors + size as usize * size_of::<T>();
        Ok(Consumer::new(Mapping::ring(fd, len, offset)?, size, layout))
    }

    fn new(map: Mapping, size: u32, layout: Layout) -> Consumer<T> {
        let shared = Shared::new(map, size, layout);
        let taken = shared.word(layout.consumer).load(Ordering::Relaxed);
        Consumer { shared, taken, produced: taken }
    }

    /// Takes the next descriptor if there is one.
    #[inline]
    pub fn take(&mut self) -> Option<T> {
        if self.taken == self.produced {
            self.produced = self.shared.word(self.shared.layout.producer).load(Ordering::Acquire);
            let produced = self.produced.wrapping_sub(self.taken);
            assert!(
                produced <= self.shared.size,
                "the kernel produced more than there is room for"
            );
            if produced == 0 {
                return None;
            }
        }
        // SAFETY: `slot` points into the mapping; the kernel has published the slot (acquired
        // above) and writes it again only after `release`.
        let descriptor = unsafe { self.shared.slot(self.taken).read() };
        self.taken = self.taken.wrapping_add(1);
        Some(descriptor)
    }

    /// Gives the slots of everything taken back to the kernel.
    #[inline]
    pub fn release(&mut self) {
        self.shared.word(self.shared.layout.consumer).store(self.taken, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYOUT: Layout = Layout { producer: 0, consumer: 64, flags: 128, descriptors: 192 };

    /// A ring in ordinary memory whose positions are about to wrap.
    fn memory() -> Mapping {
        let (map, _) = Mapping::anonymous(4096).unwrap();
        for offset in [LAYOUT.producer, LAYOUT.consumer] {
            word(&map, offset).store(u32::MAX - 1, Ordering::Relaxed);
        }
        map
    }

    fn word(map: &Mapping, offset: usize) -> &AtomicU32 {
        // SAFETY: inside the mapping, aligned, and only accessed atomically.
        unsafe { &*map.at(offset, 4).cast::<AtomicU32>() }
    }

    #[test]
    fn producer_wraps_fills_and_shows_only_what_is_published() {
        let mut ring: Producer<u64> = Producer::new(memory(), 4, LAYOUT);
        assert!((0..4).all(|n| ring.write(n)) && !ring.write(9));
        assert_eq!((ring.unconsumed(), ring.published), (0, u32::MAX - 1));
        ring.rollback();
        assert!((10..13).all(|n| ring.write(n)));
        ring.publish();
        assert_eq!((ring.unconsumed(), ring.published), (3, 1));
        // The kernel takes two.
        ring.shared.word(LAYOUT.consumer).store(0, Ordering::Release);
        assert!((13..16).all(|n| ring.write(n)) && !ring.write(9));
        ring.rollback();
        assert_eq!(ring.unconsumed(), 1);
        ring.unpublish(1);
        assert_eq!((ring.unconsumed(), ring.written), (0, 1));
        assert_eq!(ring.shared.word(LAYOUT.producer).load(Ordering::Acquire), 0);
        ring.rollback();
        assert_eq!(ring.written, 0);
    }

    #[test]
    fn withdrawn_descriptors_are_replaced_where_they_are() {
        let mut ring: Producer<u64> = Producer::new(memory(), 4, LAYOUT);
        assert!(ring.has_room_for(4) && !ring.has_room_for(5));
        assert!((0..4).all(|n| ring.write(n)));
        ring.publish();
        ring.shared.word(LAYOUT.consumer).store(u32::MAX, Ordering::Release);
        let mut withdrawn = Vec::new();
        ring.withdraw(77, |old| withdrawn.push(old));
        assert_eq!((withdrawn, ring.unconsumed()), (vec![1, 2, 3], 3));
        assert!(ring.has_room_for(1) && !ring.has_room_for(2));
        assert!(ring.write(5));
        // SAFETY: inside the mapping; nobody else writes here.
        let read = |position: u32| unsafe { ring.shared.slot(position).read() };
        assert_eq!([0, 1, 2, 3].map(|n| read(u32::MAX.wrapping_add(n))), [77, 77, 77, 5]);
    }

    #[test]
    #[should_panic(expected = "cannot be taken back")]
    fn what_was_consumed_cannot_be_unpublished() {
        let mut ring: Producer<u64> = Producer::new(memory(), 4, LAYOUT);
        ring.write(1);
        ring.publish();
        ring.shared.word(LAYOUT.consumer).store(u32::MAX, Ordering::Release);
        ring.unpublish(1);
    }

    #[test]
    fn consumer_wraps_and_gives_slots_back() {
        let mut ring: Consumer<u64> = Consumer::new(memory(), 4, LAYOUT);
        assert_eq!(ring.take(), None);
        let mut position = u32::MAX - 1;
        for round in 0..3u64 {
            for n in 0..4 {
                // SAFETY: inside the mapping; nobody else writes here.
                unsafe { ring.shared.slot(position).write(round * 4 + n) };
                position = position.wrapping_add(1);
            }
            ring.shared.word(LAYOUT.producer).store(position, Ordering::Release);
            for n in 0..4 {
                assert_eq!(ring.take(), Some(round * 4 + n));
            }
            assert_eq!(ring.take(), None);
            ring.release();
            assert_eq!(ring.shared.word(LAYOUT.consumer).load(Ordering::Acquire), position);
        }
    }

    #[test]
    #[should_panic(expected = "more than there is room for")]
    fn an_impossible_position_is_not_believed() {
        let mut ring: Consumer<u64> = Consumer::new(memory(), 4, LAYOUT);
        ring.shared.word(LAYOUT.producer).store(77, Ordering::Release);
        ring.take();
    }
}
