//! A piece of memory from the kernel, given back when dropped.

use std::io;
use std::os::fd::RawFd;
use std::ptr::{self, NonNull};

/// Length of a huge page where they are used (x86-64, aarch64 with 4 KiB pages).
const HUGE_PAGE_BYTES: usize = 2 << 20;

/// Mapped memory. Only whoever holds it knows what in it may be touched, so it hands out pointers.
pub struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: a mapping belongs to the process, not to the thread that made it.
unsafe impl Send for Mapping {}

impl Mapping {
    /// `len` zeroed bytes, all present: in huge pages (true) if there are enough of them, else in
    /// ordinary ones. Not part of core dumps and not inherited by child processes.
    pub fn anonymous(len: usize) -> io::Result<(Mapping, bool)> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE;
        let huge_len = len.next_multiple_of(HUGE_PAGE_BYTES);
        let (mapping, huge) = match Mapping::map(huge_len, flags | libc::MAP_HUGETLB, -1, 0) {
            Ok(mapping) => (mapping, true),
            Err(_) => (Mapping::map(len, flags, -1, 0)?, false),
        };
        for advice in [libc::MADV_DONTDUMP, libc::MADV_DONTFORK] {
            // SAFETY: the range is the whole mapping; neither advice changes what is in it.
            let done = unsafe { libc::madvise(mapping.start.as_ptr().cast(), mapping.len, advice) };
            if done != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok((mapping, huge))
    }

    /// The ring that the AF_XDP socket offers at `offset`.
    pub fn ring(socket: RawFd, len: usize, offset: libc::off_t) -> io::Result<Mapping> {
        Mapping::map(len, libc::MAP_SHARED | libc::MAP_POPULATE, socket, offset)
    }

    fn map(len: usize, flags: i32, fd: RawFd, offset: libc::off_t) -> io::Result<Mapping> {
        assert!(len > 0);
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the kernel chooses the address, so nothing that exists is replaced.
        let start = unsafe { libc::mmap(ptr::null_mut(), len, access, flags, fd, offset) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).expect("mmap does not choose address zero");
        Ok(Mapping { start, len })
    }

    /// Where `len` bytes at `offset` start. Panics unless they lie within the mapping.
    #[inline]
    pub fn at(&self, offset: usize, len: usize) -> *mut u8 {
        assert!(offset <= self.len && len <= self.len - offset, "outside of the mapping");
        // SAFETY: `offset` is within the mapping, as asserted.
        unsafe { self.start.as_ptr().add(offset) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: start and length are those of the mapping; its holder has dropped every pointer
        // into it.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}
