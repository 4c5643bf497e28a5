//! The bytes that clients and appliance agree on.
//!
//! A generated object is a function of a seed and an offset, so any byte of it can be checked
//! without a copy of the object (`stack::generate` says how).

use sha2::{Digest, Sha256};
pub use stack::generate::fill;

/// The first offset at which `bytes`, which claim to start at `offset`, differ from the object.
pub fn first_difference(seed: u64, offset: u64, bytes: &[u8]) -> Option<u64> {
    let mut expected = [0u8; 4096];
    let mut position = offset;
    for chunk in bytes.chunks(expected.len()) {
        let expected = &mut expected[..chunk.len()];
        fill(seed, position, expected);
        if let Some(at) = chunk.iter().zip(expected.iter()).position(|(a, b)| a != b) {
            return Some(position + at as u64);
        }
        position += chunk.len() as u64;
    }
    None
}

/// SHA-256 of the first `len` bytes of the object, in lower-case hexadecimal.
pub fn sha256(seed: u64, len: u64) -> String {
    let mut hash = Sha256::new();
    let mut buf = vec![0u8; 64 * 1024];
    let mut offset = 0;
    while offset < len {
        let take = (len - offset).min(buf.len() as u64) as usize;
        fill(seed, offset, &mut buf[..take]);
        hash.update(&buf[..take]);
        offset += take as u64;
    }
    hex(&hash.finalize())
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_cut_gives_the_same_bytes() {
        let mut whole = [0u8; 100];
        fill(7, 0, &mut whole);
        for from in 0..whole.len() {
            let mut part = vec![0u8; whole.len() - from];
            fill(7, from as u64, &mut part);
            assert_eq!(part, whole[from..]);
        }
    }

    #[test]
    fn the_first_word_is_the_published_one() {
        // First output of splitmix64 for seed 0: the hash of the first block.
        let mut word = [0u8; 8];
        fill(0, 0, &mut word);
        assert_eq!(u64::from_le_bytes(word), 0xE220_A839_7B1D_CDAF);
    }

    #[test]
    fn a_wrong_byte_is_found_where_it_is() {
        let mut bytes = vec![0u8; 9000];
        fill(3, 5, &mut bytes);
        assert_eq!(first_difference(3, 5, &bytes), None);
        bytes[8000] ^= 1;
        assert_eq!(first_difference(3, 5, &bytes), Some(8005));
    }
}
