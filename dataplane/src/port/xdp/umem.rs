//! The memory of a port's frames, in chunks of one page each.
//!
//! Units: addresses are offsets from the start of the memory, as in the descriptors.

use super::mapping::Mapping;
use std::io;

/// Bytes of a chunk: one frame.
pub const CHUNK_BYTES: usize = 4096;

/// Frames' memory, shared with the kernel.
pub struct Umem {
    map: Mapping,
    frames: u32,
    huge: bool,
}

impl Umem {
    /// Takes memory for `frames` frames, all of it at once.
    pub fn new(frames: u32) -> io::Result<Umem> {
        let (map, huge) = Mapping::anonymous(frames as usize * CHUNK_BYTES)?;
        Ok(Umem { map, frames, huge })
    }

    /// Whether it lies in huge pages.
    pub fn is_huge(&self) -> bool {
        self.huge
    }

    /// What the kernel is told of it.
    pub fn registration(&self) -> libc::xdp_umem_reg {
        libc::xdp_umem_reg {
            addr: self.map.at(0, 0) as u64,
            len: self.frames as u64 * CHUNK_BYTES as u64,
            chunk_size: CHUNK_BYTES as u32,
            headroom: 0,
            flags: 0,
            tx_metadata_len: 0,
        }
    }

    /// The frame in which `address` lies.
    #[inline]
    pub fn frame_of(address: u64) -> u32 {
        u32::try_from(address / CHUNK_BYTES as u64).expect("addresses are within the memory")
    }

    /// Where a frame's chunk starts.
    #[inline]
    pub fn address_of(frame: u32) -> u64 {
        frame as u64 * CHUNK_BYTES as u64
    }

    /// The bytes of a received frame. Panics if they are not within one chunk.
    ///
    /// # Safety
    /// The kernel must not have the frame while the slice lives.
    #[inline]
    pub unsafe fn bytes(&self, address: u64, len: u32) -> &[u8] {
        let (offset, len) = (address as usize, len as usize);
        assert!(offset % CHUNK_BYTES + len <= CHUNK_BYTES, "a frame ends within its chunk");
        let start = self.map.at(offset, len);
        // SAFETY: inside the mapping (`at`), initialised (zeroed at start); nobody writes, as the
        // caller promises.
        unsafe { std::slice::from_raw_parts(start, len) }
    }

    /// A frame's chunk, to be written.
    ///
    /// # Safety
    /// The kernel must not have the frame while the slice lives.
    #[inline]
    pub unsafe fn chunk_mut(&mut self, frame: u32) -> &mut [u8] {
        let start = self.map.at(frame as usize * CHUNK_BYTES, CHUNK_BYTES);
        // SAFETY: inside the mapping (`at`), initialised (zeroed at start), exclusive by `&mut
        // self` and by what the caller promises of the kernel.
        unsafe { std::slice::from_raw_parts_mut(start, CHUNK_BYTES) }
    }
}
