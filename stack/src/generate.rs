//! Bytes that can be made again at any offset, for generated objects and load.
//!
//! The stream of a seed is a sequence of 64-bit words, little-endian. Eight words make a block; a block's hash
//! is that of seed and number (the output function of SplitMix64), and its words are that hash turned by
//! bytes, each with a number of its own added: so a copy costs little more than one from memory, and a word in
//! the wrong place still shows. Any range of terabytes of "content" costs no memory, owner and peer agree on
//! it, and a client can check every byte.

/// Words of one block.
const BLOCK_WORDS: u64 = 8;

/// Bytes of one block.
const BLOCK_BYTES: usize = 8 * BLOCK_WORDS as usize;

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// The hash of a block: SplitMix64's output at that place.
#[inline]
const fn block(seed: u64, number: u64) -> u64 {
    let z = seed.wrapping_add(number.wrapping_add(1).wrapping_mul(GOLDEN));
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The `place`th word of a block with this hash.
#[inline]
const fn word_of(hash: u64, place: u64) -> u64 {
    hash.rotate_left(8 * place as u32).wrapping_add(place.wrapping_mul(GOLDEN))
}

/// A block of the stream.
#[inline]
fn write_block(seed: u64, number: u64, bytes: &mut [u8; BLOCK_BYTES]) {
    let hash = block(seed, number);
    let (words, _) = bytes.as_chunks_mut::<8>();
    for (place, word) in words.iter_mut().enumerate() {
        *word = word_of(hash, place as u64).to_le_bytes();
    }
}

/// Fills `buf` with the stream of `seed` from byte `offset` on.
pub fn fill(seed: u64, offset: u64, buf: &mut [u8]) {
    let mut number = offset / BLOCK_BYTES as u64;
    let skip = offset as usize % BLOCK_BYTES;
    let mut cut = [0; BLOCK_BYTES];
    let mut rest = buf;
    if skip != 0 {
        let (first, later) = rest.split_at_mut(rest.len().min(BLOCK_BYTES - skip));
        write_block(seed, number, &mut cut);
        first.copy_from_slice(&cut[skip..skip + first.len()]);
        number = number.wrapping_add(1);
        rest = later;
    }
    let (blocks, last) = rest.as_chunks_mut::<BLOCK_BYTES>();
    for bytes in blocks {
        write_block(seed, number, bytes);
        number = number.wrapping_add(1);
    }
    if !last.is_empty() {
        write_block(seed, number, &mut cut);
        last.copy_from_slice(&cut[..last.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The word at `index` of the stream of `seed`.
    fn word(seed: u64, index: u64) -> u64 {
        word_of(block(seed, index / BLOCK_WORDS), index % BLOCK_WORDS)
    }

    #[test]
    fn blocks_are_hashed_as_splitmix64_does_and_words_differ() {
        // Known outputs of the reference generator for seed 1234567.
        assert_eq!(word(1234567, 0), 6457827717110365317);
        assert_eq!(word(1234567, 8), 3203168211198807973);
        let words: alloc::vec::Vec<u64> = (0..4096).map(|index| word(7, index)).collect();
        let distinct: alloc::collections::BTreeSet<&u64> = words.iter().collect();
        assert_eq!(distinct.len(), words.len());
    }

    #[test]
    fn any_range_equals_that_part_of_the_whole() {
        let mut whole = [0; 400];
        fill(9, 0, &mut whole);
        for start in 0..160 {
            for len in 0..200 {
                let mut part = [0; 200];
                fill(9, start as u64, &mut part[..len]);
                assert_eq!(part[..len], whole[start..start + len]);
            }
        }
        fill(9, u64::MAX - 3, &mut whole);
    }
}
