//! Memory taken once: a slab of equal items, and a pool of payload chunks, both addressed by index.
//!
//! Nothing is allocated after construction. An exhausted pool answers `None`, and its user refuses
//! the newest work and counts it. Indices are `u32`; [`NONE`] is "no item".
//!
//! Bounds: the capacity given at construction.

use alloc::vec::Vec;

/// The index of nothing.
pub const NONE: u32 = u32::MAX;

/// Bytes that an item takes beside itself.
pub const LINK_BYTES: usize = size_of::<u32>();

/// A fixed number of equal items with a free list.
pub struct Pool<T> {
    items: Vec<T>,
    /// For a free item, the index of the next free one; for a used one, `USED`.
    links: Vec<u32>,
    free_head: u32,
    used: u32,
}

const USED: u32 = u32::MAX - 1;

impl<T: Clone + Default> Pool<T> {
    /// Takes memory for `capacity` items (fewer than 2^32 - 2).
    pub fn new(capacity: usize) -> Pool<T> {
        assert!(capacity < USED as usize);
        let links = (0..capacity as u32)
            .map(|i| if i + 1 == capacity as u32 { NONE } else { i + 1 })
            .collect();
        let free_head = if capacity == 0 { NONE } else { 0 };
        Pool { items: alloc::vec![T::default(); capacity], links, free_head, used: 0 }
    }

    /// Takes an item and sets it to `value`; `None` when the pool is exhausted.
    #[inline]
    pub fn take(&mut self, value: T) -> Option<u32> {
        self.take_with(|item| *item = value)
    }

    /// Takes an item, which `set` makes anew from whatever it is; `None` when the pool is exhausted.
    #[inline]
    pub fn take_with(&mut self, set: impl FnOnce(&mut T)) -> Option<u32> {
        let index = self.free_head;
        if index == NONE {
            return None;
        }
        self.free_head = self.links[index as usize];
        self.links[index as usize] = USED;
        set(&mut self.items[index as usize]);
        self.used += 1;
        Some(index)
    }

    /// Gives an item back as it is: for items that [`Pool::take_with`] makes anew. Panics if it is not in use.
    #[inline]
    pub fn give_unread(&mut self, index: u32) {
        assert!(self.links[index as usize] == USED, "item given back twice");
        self.links[index as usize] = self.free_head;
        self.free_head = index;
        self.used -= 1;
    }

    /// Gives an item back and returns its value. Panics if it is not in use: that is our bug.
    #[inline]
    pub fn give(&mut self, index: u32) -> T {
        self.give_unread(index);
        core::mem::take(&mut self.items[index as usize])
    }

    /// Whether `index` names an item in use.
    #[inline]
    pub fn is_used(&self, index: u32) -> bool {
        self.links.get(index as usize) == Some(&USED)
    }

    /// Items in use.
    pub fn used(&self) -> usize {
        self.used as usize
    }

    /// Items that can still be taken.
    pub fn available(&self) -> usize {
        self.items.len() - self.used as usize
    }

    /// Items in total.
    pub fn capacity(&self) -> usize {
        self.items.len()
    }

    /// Indices in use, ascending.
    pub fn indices(&self) -> impl Iterator<Item = u32> + '_ {
        self.links.iter().enumerate().filter(|(_, link)| **link == USED).map(|(i, _)| i as u32)
    }
}

impl<T> core::ops::Index<u32> for Pool<T> {
    type Output = T;
    #[inline]
    fn index(&self, index: u32) -> &T {
        &self.items[index as usize]
    }
}

impl<T> core::ops::IndexMut<u32> for Pool<T> {
    #[inline]
    fn index_mut(&mut self, index: u32) -> &mut T {
        &mut self.items[index as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_all_then_refuses_then_reuses() {
        let mut pool: Pool<u8> = Pool::new(3);
        let all: Vec<u32> = (0..3).map(|n| pool.take(n).unwrap()).collect();
        assert_eq!(pool.take(9), None);
        assert_eq!(pool.give(all[1]), 1);
        assert!(!pool.is_used(all[1]) && pool.is_used(all[2]));
        assert_eq!(pool.take(7), Some(all[1]));
        assert_eq!((pool.used(), pool.available(), pool.capacity()), (3, 0, 3));
        assert_eq!(pool.indices().collect::<Vec<_>>(), alloc::vec![0, 1, 2]);
    }

    #[test]
    #[should_panic(expected = "given back twice")]
    fn giving_back_twice_is_a_bug() {
        let mut pool: Pool<u8> = Pool::new(1);
        let index = pool.take(1).unwrap();
        pool.give(index);
        pool.give(index);
    }
}
