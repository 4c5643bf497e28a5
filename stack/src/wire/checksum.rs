//! The Internet checksum, in one pass over the bytes wherever they come from.
//!
//! The sum is the same in either byte order (RFC 1071 2.B), so words of the machine are added, eight bytes at
//! a time, and carries are folded in at the end. smoltcp's adds pairs of bytes, which costs a long segment
//! four times as many instructions.
//!
//! Path: steps 1 and 8. Spec: RFC 1071, 9293 3.1 and 8200 8.1 (pseudo-header).

use super::Address;

/// A sum under construction.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Checksum(u64);

impl Checksum {
    /// Of what TCP's checksum covers beside the segment: addresses, protocol and length. IPv6 has the same sum, as
    /// far as lengths go that fit into a packet.
    #[inline]
    pub fn of_pseudo_header(source: &Address, destination: &Address, bytes: usize) -> Checksum {
        const TCP: u16 = 6;
        let rest = u64::from(TCP.to_be()) + u64::from((bytes as u16).to_be());
        match (source.as_v4(), destination.as_v4()) {
            (Some(source), Some(destination)) => Checksum(rest).add(&source).add(&destination),
            _ => Checksum(rest).add(&source.0).add(&destination.0),
        }
    }

    /// With `bytes` behind what was added so far, all of which was of even length.
    #[inline]
    pub fn add(self, bytes: &[u8]) -> Checksum {
        let (blocks, rest) = bytes.as_chunks::<32>();
        // Four sums, so that an addition need not wait for the last one's carry.
        let mut sums = [0u128; 4];
        for block in blocks {
            let (words, _) = block.as_chunks::<8>();
            for (sum, word) in sums.iter_mut().zip(words) {
                *sum += u128::from(u64::from_ne_bytes(*word));
            }
        }
        let (words, rest) = rest.as_chunks::<8>();
        for word in words {
            sums[0] += u128::from(u64::from_ne_bytes(*word));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        let total: u128 = sums.iter().sum::<u128>() + u128::from(u64::from_ne_bytes(last));
        let halves = |sum: u64| (sum >> 32) + (sum & 0xffff_ffff);
        Checksum(self.0 + halves(total as u64) + halves((total >> 64) as u64))
    }

    /// What goes into the header, whose own field was zero. 0xffff if the field was there and is right.
    #[inline]
    fn folded(self) -> u16 {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum >> 16) + (sum & 0xffff);
        }
        u16::from_be(sum as u16)
    }

    /// The value of a header's field, which was zero when it was added.
    #[inline]
    pub fn field(self) -> u16 {
        !self.folded()
    }

    /// Whether the field that was added among the rest is right.
    #[inline]
    pub fn is_right(self) -> bool {
        self.folded() == 0xffff
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    /// RFC 1071 1, word by word.
    fn reference(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        }
        while sum > 0xffff {
            sum = (sum >> 16) + (sum & 0xffff);
        }
        sum as u16
    }

    /// RFC 1071 3, the numerical example.
    #[test]
    fn rfc1071_example() {
        let sum = Checksum::default().add(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!((sum.folded(), sum.field()), (0xddf2, 0x220d));
    }

    #[test]
    fn every_length_has_the_sum_of_its_words() {
        let mut bytes = [0u8; 9100];
        crate::generate::fill(5, 3, &mut bytes);
        for len in (0..300).chain([1448, 1460, 8948, 9099, 9100]) {
            assert_eq!(Checksum::default().add(&bytes[..len]).folded(), reference(&bytes[..len]));
        }
        let ones: Vec<u8> = core::iter::repeat_n(0xff, 65_535).collect();
        assert_eq!(Checksum::default().add(&ones).folded(), reference(&ones));
    }

    #[test]
    fn parts_add_up_and_a_right_field_is_recognised() {
        let mut bytes = [0u8; 200];
        crate::generate::fill(6, 0, &mut bytes);
        for cut in (0..200).step_by(2) {
            let parts = Checksum::default().add(&bytes[..cut]).add(&bytes[cut..]);
            assert_eq!(parts.folded(), reference(&bytes));
        }
        bytes[16..18].fill(0);
        let field = Checksum::default().add(&bytes).field();
        bytes[16..18].copy_from_slice(&field.to_be_bytes());
        assert!(Checksum::default().add(&bytes).is_right());
        bytes[99] ^= 1;
        assert!(!Checksum::default().add(&bytes).is_right());
    }

    /// The pseudo-header's sum is smoltcp's, for both families.
    #[test]
    fn rfc9293_pseudo_header() {
        let v6 = |last| Address([0xfd, 0x88, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, last]);
        let pairs = [(Address::v4([10, 0, 0, 1]), Address::v4([192, 168, 7, 9])), (v6(1), v6(200))];
        for (source, destination) in pairs {
            let mut bytes = [0u8; 60];
            crate::generate::fill(7, 0, &mut bytes);
            bytes[12] = 0x50;
            let mut packet = smoltcp::wire::TcpPacket::new_unchecked(&mut bytes[..]);
            packet.fill_checksum(&source.to_wire(), &destination.to_wire());
            let sum = Checksum::of_pseudo_header(&source, &destination, 60);
            assert!(sum.add(&bytes).is_right());
        }
    }
}
