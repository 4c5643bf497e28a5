//! The memory of a port's frames, in chunks of one page each.
//!
//! Units: addresses are offsets from the start of the memory, as in the descriptors.

use super::mapping::Mapping;
use std::io;

/// Bytes of a chunk: one frame of ordinary length.
pub const CHUNK_BYTES: usize = 4096;

/// Frames' memory, shared with the kernel.
pub struct Umem {
    map: Mapping,
    chunks: u32,
    huge: bool,
}

impl Umem {
    /// Takes memory for so many chunks, all of it at once.
    pub fn new(chunks: u32) -> io::Result<Umem> {
        let (map, huge) = Mapping::anonymous(chunks as usize * CHUNK_BYTES)?;
        Ok(Umem { map, chunks, huge })
    }

    /// Whether it lies in huge pages.
    pub fn is_huge(&self) -> bool {
        self.huge
    }

    /// What the kernel is told of it, and whether chunks may begin anywhere.
    pub fn registration(&self, begin_anywhere: bool) -> libc::xdp_umem_reg {
        libc::xdp_umem_reg {
            addr: self.map.at(0, 0) as u64,
            len: self.chunks as u64 * CHUNK_BYTES as u64,
            chunk_size: CHUNK_BYTES as u32,
            headroom: 0,
            flags: if begin_anywhere { libc::XDP_UMEM_UNALIGNED_CHUNK_FLAG } else { 0 },
            tx_metadata_len: 0,
        }
    }

    /// The chunk in which `address` lies.
    #[inline]
    pub fn chunk_of(address: u64) -> u32 {
        u32::try_from(address / CHUNK_BYTES as u64).expect("addresses are within the memory")
    }

    /// Where a chunk starts.
    #[inline]
    pub fn address_of(chunk: u32) -> u64 {
        chunk as u64 * CHUNK_BYTES as u64
    }

    /// Where in the memory the bytes of a descriptor begin: of a chunk that began anywhere the kernel says where it begins, and in
    /// the upper bits how far behind that they do.
    #[inline]
    pub fn offset_of(address: u64) -> u64 {
        let base = address & libc::XSK_UNALIGNED_BUF_ADDR_MASK;
        base + (address >> libc::XSK_UNALIGNED_BUF_OFFSET_SHIFT)
    }

    /// The bytes of a received frame, or of a part of one.
    ///
    /// # Safety
    /// The kernel must not write there while the slice lives.
    #[inline]
    pub unsafe fn bytes(&self, address: u64, len: u32) -> &[u8] {
        let (offset, len) = (address as usize, len as usize);
        let start = self.map.at(offset, len);
        // SAFETY: inside the mapping (`at`), initialised (zeroed at start); nobody writes, as the
        // caller promises.
        unsafe { std::slice::from_raw_parts(start, len) }
    }

    /// The same, to be changed.
    ///
    /// # Safety
    /// The kernel must neither read nor write there while the slice lives.
    #[inline]
    pub unsafe fn bytes_mut(&mut self, address: u64, len: u32) -> &mut [u8] {
        let (offset, len) = (address as usize, len as usize);
        let start = self.map.at(offset, len);
        // SAFETY: inside the mapping (`at`), initialised (zeroed at start), exclusive by `&mut
        // self` and by what the caller promises of the kernel.
        unsafe { std::slice::from_raw_parts_mut(start, len) }
    }

    /// Neighbouring chunks from `first` on.
    ///
    /// # Safety
    /// The kernel must not have any of them, and nobody may write to them, while the slice lives.
    #[inline]
    pub unsafe fn chunks(&self, first: u32, chunks: u32) -> &[u8] {
        let len = chunks as usize * CHUNK_BYTES;
        let start = self.map.at(first as usize * CHUNK_BYTES, len);
        // SAFETY: inside the mapping (`at`), initialised (zeroed at start); nobody writes, as the caller promises.
        unsafe { std::slice::from_raw_parts(start, len) }
    }

    /// Neighbouring chunks from `first` on, to be written.
    ///
    /// # Safety
    /// The kernel must not have any of them while the slice lives.
    #[inline]
    pub unsafe fn chunks_mut(&mut self, first: u32, chunks: u32) -> &mut [u8] {
        let len = chunks as usize * CHUNK_BYTES;
        let start = self.map.at(first as usize * CHUNK_BYTES, len);
        // SAFETY: inside the mapping (`at`), initialised (zeroed at start), exclusive by `&mut
        // self` and by what the caller promises of the kernel.
        unsafe { std::slice::from_raw_parts_mut(start, len) }
    }
}
