//! SHA-256 whose half-done state is a plain value: an upload's hash moves to the peer in the middle.
//!
//! The compression function (with the processor's own instructions where there are any) is the
//! library's; padding and buffering are here, because the library's own state is opaque.
//!
//! Spec: FIPS 180-4.

use alloc::vec::Vec;

use crate::codec::{ImportError, Put, Reader};

/// FIPS 180-4 5.3.3.
const INITIAL: [u32; 8] = [
    0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
];

/// A hash being computed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sha256 {
    /// The chaining value after all full blocks.
    state: [u32; 8],
    /// The bytes behind the last full block, then zeros.
    block: [u8; 64],
    /// Bytes hashed so far.
    len: u64,
}

impl Default for Sha256 {
    fn default() -> Sha256 {
        Sha256::new()
    }
}

impl Sha256 {
    /// Of nothing, so far.
    pub const fn new() -> Sha256 {
        Sha256 { state: INITIAL, block: [0; 64], len: 0 }
    }

    /// The hash of `bytes`.
    pub fn digest(bytes: &[u8]) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(bytes);
        hash.finish()
    }

    /// Bytes hashed so far.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing has been hashed yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Hashes more bytes.
    pub fn update(&mut self, mut bytes: &[u8]) {
        let filled = (self.len % 64) as usize;
        self.len = self.len.wrapping_add(bytes.len() as u64);
        if filled > 0 {
            let (now, later) = bytes.split_at(bytes.len().min(64 - filled));
            self.block[filled..filled + now.len()].copy_from_slice(now);
            if filled + now.len() < 64 {
                return;
            }
            sha2::block_api::compress256(&mut self.state, &[self.block]);
            bytes = later;
        }
        let (blocks, rest) = bytes.as_chunks::<64>();
        sha2::block_api::compress256(&mut self.state, blocks);
        self.block = [0; 64];
        self.block[..rest.len()].copy_from_slice(rest);
    }

    /// The hash of everything given. FIPS 180-4 5.1.1: a one bit, zeros, the length in bits.
    pub fn finish(&self) -> [u8; 32] {
        let mut state = self.state;
        let filled = (self.len % 64) as usize;
        let mut last = [[0; 64]; 2];
        last[0] = self.block;
        last[0][filled] = 0x80;
        let blocks = if filled < 56 { 1 } else { 2 };
        last[blocks - 1][56..].copy_from_slice(&self.len.wrapping_mul(8).to_be_bytes());
        sha2::block_api::compress256(&mut state, &last[..blocks]);
        let mut digest = [0; 32];
        for (bytes, word) in digest.chunks_exact_mut(4).zip(state) {
            bytes.copy_from_slice(&word.to_be_bytes());
        }
        digest
    }

    /// Writes the state behind `out`.
    pub fn export(&self, out: &mut Vec<u8>) {
        let Sha256 { state, block, len } = self;
        state.iter().for_each(|word| out.put_u32(*word));
        out.put_u64(*len);
        out.put_bytes(&block[..(len % 64) as usize]);
    }

    /// Reads what `export` wrote.
    pub fn import(reader: &mut Reader) -> Result<Sha256, ImportError> {
        let mut hash = Sha256::new();
        for word in &mut hash.state {
            *word = reader.u32()?;
        }
        hash.len = reader.u64()?;
        let rest = reader.bytes((hash.len % 64) as usize)?;
        hash.block[..rest.len()].copy_from_slice(rest);
        Ok(hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::Digest;

    #[test]
    fn known_vectors() {
        // FIPS 180-2 appendix B: "abc", and the empty message.
        assert_eq!(Sha256::digest(b"abc")[..4], [0xba, 0x78, 0x16, 0xbf]);
        assert_eq!(Sha256::digest(b"")[..4], [0xe3, 0xb0, 0xc4, 0x42]);
    }

    #[test]
    fn any_length_in_any_cuts_moved_half_way_equals_the_library() {
        let bytes: Vec<u8> = (0..600u32).map(|i| (i * i) as u8).collect();
        for len in 0..bytes.len() {
            let cut = len * 5 / 7;
            let mut hash = Sha256::new();
            bytes[..cut].chunks(1 + len % 97).for_each(|part| hash.update(part));
            let mut moved = Vec::new();
            hash.export(&mut moved);
            let mut hash = Sha256::import(&mut Reader::new(&moved)).unwrap();
            hash.update(&bytes[cut..len]);
            assert_eq!(hash.finish()[..], sha2::Sha256::digest(&bytes[..len])[..]);
            assert_eq!(hash.len(), len as u64);
        }
    }

    #[test]
    fn cut_exports_are_refused() {
        let mut hash = Sha256::new();
        hash.update(&[1; 70]);
        let mut out = Vec::new();
        hash.export(&mut out);
        for n in 0..out.len() {
            assert_eq!(Sha256::import(&mut Reader::new(&out[..n])), Err(ImportError::Truncated));
        }
    }
}
