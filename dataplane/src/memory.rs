//! The allocator of the program: ordinary, but for what is large.
//!
//! Pools of flows and bytes are plain vectors of the pure crates; where their memory comes from is
//! decided here. What is large is mapped in huge pages, so that a core misses its translation less
//! often and a process that dies is gone soon (the kernel frees a page at a time, on a core that the
//! survivor may need), and stays out of core dumps. A node takes it at once: afterwards no page is
//! missing when a segment arrives, and what the machine does not have is found out at the start.
//!
//! Bounds: [`BIG_BYTES`] and more is mapped, in multiples of a huge page.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

/// From here on an allocation is large: fewer bytes would waste much of a huge page.
const BIG_BYTES: usize = 4 << 20;

/// Length of a huge page where they are used (x86-64, aarch64 with 4 KiB pages).
const HUGE_PAGE_BYTES: usize = 2 << 20;

/// Whether large memory is taken whole when it is asked for.
static AT_ONCE: AtomicBool = AtomicBool::new(false);

/// The global allocator, to be declared by the program.
pub struct BigPages;

/// From now on large memory is present, in huge pages as far as there are any, before it is given out.
pub fn take_at_once() {
    AT_ONCE.store(true, Ordering::Relaxed);
}

/// Whether memory of this layout is mapped by itself. Depends on the layout only: what was mapped
/// must be unmapped.
fn is_big(layout: &Layout) -> bool {
    layout.size() >= BIG_BYTES && layout.align() <= HUGE_PAGE_BYTES
}

fn mapped_bytes(size: usize) -> Option<usize> {
    size.checked_next_multiple_of(HUGE_PAGE_BYTES)
}

// SAFETY: what is not big is the system's in every call. What is big is a mapping of its own,
// readable and writable, zeroed, aligned to a huge page and at least as long as asked for; it is
// unmapped with the length that the same layout gave. No call panics or allocates.
unsafe impl GlobalAlloc for BigPages {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_big(&layout) {
            return map(layout.size());
        }
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if is_big(&layout) {
            return map(layout.size());
        }
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        if let (true, Some(len)) = (is_big(&layout), mapped_bytes(layout.size())) {
            // SAFETY: this range was mapped for the same layout, and its user is done with it.
            unsafe { libc::munmap(place.cast(), len) };
            return;
        }
        // SAFETY: the caller's promise is passed on; it came from the system.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller assures that the new size is valid with this alignment.
        let next = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        if !is_big(&layout) && !is_big(&next) {
            // SAFETY: the caller's promise is passed on; it came from the system.
            return unsafe { System.realloc(place, layout, size) };
        }
        // SAFETY: `next` is not empty, as the caller assures for `size`.
        let moved = unsafe { self.alloc(next) };
        if !moved.is_null() {
            // SAFETY: both ranges are valid for the shorter length and do not overlap; then the
            // former is given back as it was given out.
            unsafe {
                ptr::copy_nonoverlapping(place, moved, layout.size().min(size));
                self.dealloc(place, layout);
            }
        }
        moved
    }
}

/// Maps zeroed memory of this size; null if there is none.
fn map(size: usize) -> *mut u8 {
    let Some(len) = mapped_bytes(size) else { return ptr::null_mut() };
    let at_once = AT_ONCE.load(Ordering::Relaxed);
    if at_once {
        // Pages that were set aside for this are certain; the others depend on what is free.
        let start = map_anonymous(len, libc::MAP_HUGETLB | libc::MAP_POPULATE);
        if !start.is_null() {
            advise(start, len, libc::MADV_DONTDUMP);
            return start;
        }
    }
    let start = map_aligned(len);
    if start.is_null() {
        return start;
    }
    advise(start, len, libc::MADV_DONTDUMP);
    // Without huge pages it is ordinary ones.
    if at_once {
        advise(start, len, libc::MADV_HUGEPAGE);
        if !advise(start, len, libc::MADV_POPULATE_WRITE) && is_short_of_memory() {
            // SAFETY: the mapping was made above and nobody has it yet.
            unsafe { libc::munmap(start.cast(), len) };
            return ptr::null_mut();
        }
    }
    start
}

/// A mapping that starts at a multiple of a huge page.
fn map_aligned(len: usize) -> *mut u8 {
    let Some(room) = len.checked_add(HUGE_PAGE_BYTES) else { return ptr::null_mut() };
    let start = map_anonymous(room, 0);
    if start.is_null() {
        return start;
    }
    let head = start.align_offset(HUGE_PAGE_BYTES);
    let tail = HUGE_PAGE_BYTES - head;
    // SAFETY: head and tail lie within the mapping, before and behind the part that is used.
    unsafe {
        if head > 0 {
            libc::munmap(start.cast(), head);
        }
        if tail > 0 {
            libc::munmap(start.add(head + len).cast(), tail);
        }
        start.add(head)
    }
}

fn map_anonymous(len: usize, flags: libc::c_int) -> *mut u8 {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let flags = flags | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: the kernel chooses the address, so nothing that exists is replaced.
    let start = unsafe { libc::mmap(ptr::null_mut(), len, access, flags, -1, 0) };
    if start == libc::MAP_FAILED { ptr::null_mut() } else { start.cast() }
}

/// Whether the kernel follows the advice.
fn advise(start: *mut u8, len: usize, advice: libc::c_int) -> bool {
    // SAFETY: the range is a mapping of ours; none of the advice used here changes what is in it.
    unsafe { libc::madvise(start.cast(), len, advice) == 0 }
}

/// Why the last call failed: for want of memory, or because the kernel does not know it.
fn is_short_of_memory() -> bool {
    // SAFETY: the place of the calling thread's errno is always valid.
    unsafe { *libc::__errno_location() == libc::ENOMEM }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(size: usize) -> Layout {
        Layout::from_size_align(size, 64).unwrap()
    }

    /// Pages of the range that are present.
    fn present(start: *mut u8, len: usize) -> usize {
        let mut pages = vec![0u8; len / 4096];
        // SAFETY: the range is mapped, and the vector has a byte for each page.
        assert_eq!(unsafe { libc::mincore(start.cast(), len, pages.as_mut_ptr()) }, 0);
        pages.iter().filter(|page| **page & 1 == 1).count()
    }

    #[test]
    fn what_is_large_is_zeroed_aligned_and_keeps_its_bytes_when_it_grows() {
        // SAFETY: every place is used within its layout and given back with it.
        unsafe {
            for (small, large) in [(1 << 20, 5 << 20), (5 << 20, 9 << 20), (6 << 20, 1 << 10)] {
                let start = BigPages.alloc_zeroed(layout(small));
                assert!(!start.is_null() && (0..small).all(|at| *start.add(at) == 0));
                if small >= BIG_BYTES {
                    assert_eq!(start as usize % HUGE_PAGE_BYTES, 0);
                }
                for at in 0..small {
                    *start.add(at) = at as u8;
                }
                let moved = BigPages.realloc(start, layout(small), large);
                assert!((0..small.min(large)).all(|at| *moved.add(at) == at as u8));
                BigPages.dealloc(moved, layout(large));
            }
        }
    }

    #[test]
    fn a_node_has_its_memory_before_it_uses_it() {
        let bytes = 8 << 20;
        // SAFETY: the places are not touched, and given back with their layout.
        unsafe {
            let later = BigPages.alloc(layout(bytes));
            take_at_once();
            let now = BigPages.alloc(layout(bytes));
            assert!(present(later, bytes) < present(now, bytes));
            assert_eq!(present(now, bytes), bytes / 4096);
            BigPages.dealloc(later, layout(bytes));
            BigPages.dealloc(now, layout(bytes));
        }
    }
}
