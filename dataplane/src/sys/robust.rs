//! Words in shared memory that say whether a thread lives: written by the kernel when it dies.
//!
//! Each thread that is to be watched writes its number into a word of a page that is shared with
//! another process, and tells the kernel where the word is. When the thread ends, however it ends,
//! the kernel marks the word and wakes who waits for it; that happens in the exit of the thread
//! itself, after its last system call and before the memory of its process is freed.
//!
//! ```text
//! 0 -- hold --> thread's number [| FUTEX_WAITERS] -- end of thread, or drop --> FUTEX_OWNER_DIED
//! ```
//!
//! Spec: the kernel's robust-futex ABI (Documentation/locking/robust-futex-ABI.rst). A thread has one
//! list; while it holds a word the list is ours, so such a thread locks no robust mutex of libc.
//! Bounds: [`WORDS_MAX`] words, one page.

use super::check;
use std::fs::File;
use std::io::{self, Write};
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::FileExt;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Words in a page, each on a cache line of its own.
pub const WORDS_MAX: usize = PAGE_BYTES / LINE_BYTES;

const PAGE_BYTES: usize = 4096;
const LINE_BYTES: usize = 64;

/// Longest text that may lie behind the words.
const TEXT_BYTES_MAX: usize = 64 << 10;

/// A word of a thread that is gone. Also written by a thread that lets go in order.
const ENDED: u32 = libc::FUTEX_OWNER_DIED;

/// A page of words and a text, in memory that another process can map.
pub struct Words {
    file: File,
    start: NonNull<AtomicU32>,
}

// SAFETY: the page is only ever touched through atomics, and belongs to the process.
unsafe impl Send for Words {}
// SAFETY: as above.
unsafe impl Sync for Words {}

impl Words {
    /// A new page with this text behind it. The file is closed on exec.
    pub fn create(text: &[u8]) -> io::Result<Words> {
        assert!(text.len() <= TEXT_BYTES_MAX);
        let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
        // SAFETY: the name is a C string.
        let fd = unsafe { libc::memfd_create(c"understudy-guardian".as_ptr(), flags) };
        check(fd)?;
        // SAFETY: the descriptor was just made and is nobody else's.
        let mut file = unsafe { File::from_raw_fd(fd) };
        file.write_all(&[0; PAGE_BYTES])?;
        file.write_all(text)?;
        let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
        // SAFETY: the descriptor is open; the call touches no memory of ours.
        check(unsafe { libc::fcntl(fd, libc::F_ADD_SEALS, seals) })?;
        Words::map(file)
    }

    /// The page that another process made.
    ///
    /// Errors: it is no such file, or one that could become shorter under us.
    pub fn open(file: File) -> io::Result<Words> {
        // SAFETY: the descriptor is open; the call touches no memory of ours.
        let seals = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GET_SEALS) };
        let len = file.metadata()?.len();
        let limit = (PAGE_BYTES + TEXT_BYTES_MAX) as u64;
        if seals < 0 || seals & libc::F_SEAL_SHRINK == 0 || len < PAGE_BYTES as u64 || len > limit {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        Words::map(file)
    }

    fn map(file: File) -> io::Result<Words> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let fd = file.as_raw_fd();
        // SAFETY: the kernel chooses the address, so nothing that exists is replaced.
        let start =
            unsafe { libc::mmap(ptr::null_mut(), PAGE_BYTES, access, libc::MAP_SHARED, fd, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).expect("mmap does not choose address zero");
        Ok(Words { file, start })
    }

    /// The file, to be given to the other process.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The text behind the words.
    pub fn text(&self) -> io::Result<Vec<u8>> {
        let len = self.file.metadata()?.len().saturating_sub(PAGE_BYTES as u64);
        let mut text = vec![0; len as usize];
        self.file.read_exact_at(&mut text, PAGE_BYTES as u64)?;
        Ok(text)
    }

    /// Holds a word for the calling thread until the value is dropped or the thread ends.
    ///
    /// Errors: the kernel keeps no robust lists.
    pub fn hold(self: &Arc<Words>, index: usize) -> io::Result<Held> {
        let word = self.word(index);
        assert_eq!(word.load(Ordering::Relaxed), 0, "one thread for each word");
        let mut former = (ptr::null_mut::<Head>(), 0usize);
        // SAFETY: both places are valid for writing; 0 names the calling thread.
        check_long(unsafe {
            libc::syscall(libc::SYS_get_robust_list, 0, &mut former.0, &mut former.1)
        })?;
        let empty = Entry { next: ptr::null() };
        let head = Head { list: empty, futex_offset: 0, list_op_pending: ptr::null() };
        let list = Box::into_raw(Box::new(List { head, entry: Entry { next: ptr::null() } }));
        // SAFETY: `list` is valid, and nobody else knows it yet.
        unsafe {
            let (head, entry) = (&raw const (*list).head.list, &raw const (*list).entry);
            (*list).head.list.next = entry;
            (*list).entry.next = head;
            (*list).head.futex_offset = word.as_ptr() as libc::c_long - entry as libc::c_long;
        }
        let mut held = Held { words: self.clone(), index, list, former, _thread: PhantomData };
        held.set_list(list.cast(), size_of::<Head>())?;
        // SAFETY: the call has no arguments.
        let thread = unsafe { libc::syscall(libc::SYS_gettid) } as u32;
        word.store(thread & libc::FUTEX_TID_MASK, Ordering::Release);
        Ok(held)
    }

    /// Whether a thread holds the word and lives.
    pub fn is_held(&self, index: usize) -> bool {
        self.word(index).load(Ordering::Acquire) & libc::FUTEX_TID_MASK != 0
    }

    /// Whether a thread held the word and has ended, or let go of it.
    pub fn has_ended(&self, index: usize) -> bool {
        let word = self.word(index).load(Ordering::Acquire);
        word & libc::FUTEX_TID_MASK == 0 && word & ENDED != 0
    }

    /// Waits until nobody holds the word any more.
    pub fn wait_ended(&self, index: usize) -> io::Result<()> {
        let word = self.word(index);
        loop {
            let value = word.load(Ordering::Acquire);
            if value & libc::FUTEX_TID_MASK == 0 {
                return Ok(());
            }
            let waited = value | libc::FUTEX_WAITERS;
            if word.compare_exchange(value, waited, Ordering::AcqRel, Ordering::Relaxed).is_err() {
                continue;
            }
            let (place, wait) = (word.as_ptr(), libc::FUTEX_WAIT);
            let forever = ptr::null::<libc::timespec>();
            // SAFETY: the word lies in a mapping that lives across the call. Not a private wait:
            // the kernel wakes by the page, whoever mapped it.
            match check_long(unsafe {
                libc::syscall(libc::SYS_futex, place, wait, waited, forever)
            }) {
                Ok(()) => {}
                Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EINTR)) => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn word(&self, index: usize) -> &AtomicU32 {
        assert!(index < WORDS_MAX);
        // SAFETY: the word lies within the mapping, which lives as long as `self`; zero is a valid
        // value and every access to it, by either process, is atomic.
        unsafe { self.start.byte_add(index * LINE_BYTES).as_ref() }
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        // SAFETY: this is the mapping made in `map`; no reference into it outlives `self`.
        unsafe { libc::munmap(self.start.as_ptr().cast(), PAGE_BYTES) };
    }
}

#[repr(C)]
struct Entry {
    next: *const Entry,
}

#[repr(C)]
struct Head {
    list: Entry,
    futex_offset: libc::c_long,
    list_op_pending: *const Entry,
}

/// What the kernel walks through when the thread ends: the head and its only entry.
#[repr(C)]
struct List {
    head: Head,
    entry: Entry,
}

/// A word held by the thread that made this; it cannot leave the thread.
pub struct Held {
    words: Arc<Words>,
    index: usize,
    list: *mut List,
    former: (*mut Head, usize),
    _thread: PhantomData<*const ()>,
}

impl Held {
    fn set_list(&mut self, head: *mut Head, len: usize) -> io::Result<()> {
        // SAFETY: the kernel reads the list when this thread ends; it is either ours, which `drop`
        // takes back before it frees it, or the one that was there before.
        check_long(unsafe { libc::syscall(libc::SYS_set_robust_list, head, len) })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let word = self.words.word(self.index);
        if word.load(Ordering::Relaxed) != 0 && word.swap(ENDED, Ordering::AcqRel) != ENDED {
            let (place, wake) = (word.as_ptr(), libc::FUTEX_WAKE);
            // SAFETY: the word lies in a mapping that lives across the call.
            unsafe { libc::syscall(libc::SYS_futex, place, wake, i32::MAX) };
        }
        let (head, len) = self.former;
        if self.set_list(head, len).is_ok() {
            // SAFETY: `list` came out of a box, and the kernel does not know it any more.
            drop(unsafe { Box::from_raw(self.list) });
        }
    }
}

/// The error of a raw system call that answered -1.
fn check_long(outcome: libc::c_long) -> io::Result<()> {
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use std::thread;

    /// Has a thread hold word 3 and end as `end` says while another waits for it.
    fn story(end: fn(Held)) {
        let words = Arc::new(Words::create(b"text").unwrap());
        let other = Words::open(words.file().try_clone().unwrap()).unwrap();
        assert_eq!(other.text().unwrap(), b"text");
        let (held, is_held) = channel();
        let (go, told) = channel::<()>();
        let holder = words.clone();
        let thread = thread::spawn(move || {
            let word = holder.hold(3).unwrap();
            held.send(()).unwrap();
            told.recv().unwrap();
            end(word);
        });
        is_held.recv().unwrap();
        assert!(other.is_held(3) && !other.has_ended(3) && !other.is_held(2));
        let waiter = thread::spawn(move || {
            other.wait_ended(3).unwrap();
            assert!(other.has_ended(3));
        });
        go.send(()).unwrap();
        waiter.join().unwrap();
        thread.join().unwrap();
        assert!(words.has_ended(3));
    }

    #[test]
    fn who_lets_go_has_ended() {
        story(drop);
    }

    #[test]
    fn the_kernel_lets_go_for_a_thread_that_does_not() {
        story(std::mem::forget);
    }

    #[test]
    fn a_thread_that_let_go_may_use_the_libcs_robust_list_again() {
        let words = Arc::new(Words::create(&[]).unwrap());
        thread::spawn(move || {
            let before = list_of_this_thread();
            let held = words.hold(0).unwrap();
            assert_ne!(list_of_this_thread(), before);
            drop(held);
            assert_eq!(list_of_this_thread(), before);
        })
        .join()
        .unwrap();
    }

    fn list_of_this_thread() -> (usize, usize) {
        let mut list = (0usize, 0usize);
        // SAFETY: both places are valid for writing.
        let got = unsafe { libc::syscall(libc::SYS_get_robust_list, 0, &mut list.0, &mut list.1) };
        assert_eq!(got, 0);
        list
    }

    #[test]
    fn what_is_no_page_of_words_is_refused() {
        assert!(Words::open(File::open("/dev/null").unwrap()).is_err());
        assert!(Words::open(File::open("/proc/self/exe").unwrap()).is_err());
    }
}
