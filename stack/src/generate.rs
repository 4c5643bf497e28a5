//! Bytes that can be made again at any offset, for generated objects and load.
//!
//! The stream of a seed is a sequence of 64-bit words, little-endian, each a hash of seed and index
//! (the output function of SplitMix64). So any range of terabytes of "content" costs no memory, owner
//! and peer agree on it, and a client can check every byte.

/// The word at `index` of the stream of `seed`.
#[inline]
pub const fn word(seed: u64, index: u64) -> u64 {
    let z = seed.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Fills `buf` with the stream of `seed` from byte `offset` on.
pub fn fill(seed: u64, offset: u64, buf: &mut [u8]) {
    let mut index = offset / 8;
    let skip = (offset % 8) as usize;
    let mut rest = buf;
    if skip != 0 {
        let n = rest.len().min(8 - skip);
        let (first, later) = rest.split_at_mut(n);
        first.copy_from_slice(&word(seed, index).to_le_bytes()[skip..skip + n]);
        index = index.wrapping_add(1);
        rest = later;
    }
    let (words, last) = rest.as_chunks_mut::<8>();
    for bytes in words {
        *bytes = word(seed, index).to_le_bytes();
        index = index.wrapping_add(1);
    }
    last.copy_from_slice(&word(seed, index).to_le_bytes()[..last.len()]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_those_of_splitmix64() {
        // Known outputs of the reference generator for seed 1234567.
        assert_eq!(word(1234567, 0), 6457827717110365317);
        assert_eq!(word(1234567, 1), 3203168211198807973);
    }

    #[test]
    fn any_range_equals_that_part_of_the_whole() {
        let mut whole = [0; 100];
        fill(9, 0, &mut whole);
        for start in 0..40 {
            for len in 0..40 {
                let mut part = [0; 40];
                fill(9, start as u64, &mut part[..len]);
                assert_eq!(part[..len], whole[start..start + len]);
            }
        }
        fill(9, u64::MAX - 3, &mut whole);
    }
}
