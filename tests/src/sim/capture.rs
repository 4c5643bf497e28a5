//! A story's frames as a pcapng file, which Wireshark opens: one interface for each network.
//!
//! Spec: draft-ietf-opsawg-pcapng: a section header, two interface descriptions with nanoseconds, one enhanced packet
//! for each frame. (Written here because it is three blocks.)

use crate::sim::network::Side;
use std::io::{self, Write};

/// A frame that arrived somewhere.
#[derive(Clone, Debug)]
pub struct Captured {
    /// When, in nanoseconds.
    pub at: u64,
    /// On which network.
    pub side: Side,
    /// From its Ethernet header on.
    pub frame: Vec<u8>,
}

/// Length and padding to whole words.
const fn padded(len: usize) -> usize {
    len.div_ceil(4) * 4
}

/// Type, length, body, length.
fn block(out: &mut impl Write, kind: u32, body: &[u8]) -> io::Result<()> {
    let len = (12 + padded(body.len())) as u32;
    out.write_all(&kind.to_le_bytes())?;
    out.write_all(&len.to_le_bytes())?;
    out.write_all(body)?;
    out.write_all(&[0; 3][..padded(body.len()) - body.len()])?;
    out.write_all(&len.to_le_bytes())
}

/// Writes the file.
pub fn write(out: &mut impl Write, frames: &[Captured]) -> io::Result<()> {
    let mut section = 0x1A2B_3C4D_u32.to_le_bytes().to_vec();
    section.extend_from_slice(&[1, 0, 0, 0]);
    section.extend_from_slice(&(-1i64).to_le_bytes());
    block(out, 0x0A0D_0D0A, &section)?;
    for name in [b"clients", b"cluster"] {
        // Ethernet, no limit; option 2 is the name, option 9 the resolution, option 0 the end.
        let mut interface = vec![1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 7, 0];
        interface.extend_from_slice(name);
        interface.extend_from_slice(&[0, 9, 0, 1, 0, 9, 0, 0, 0, 0, 0, 0, 0]);
        block(out, 1, &interface)?;
    }
    for Captured { at, side, frame } in frames {
        let mut packet = Vec::with_capacity(20 + frame.len());
        packet.extend_from_slice(&u32::from(*side == Side::Cluster).to_le_bytes());
        packet.extend_from_slice(&((at >> 32) as u32).to_le_bytes());
        packet.extend_from_slice(&(*at as u32).to_le_bytes());
        for _ in 0..2 {
            packet.extend_from_slice(&(frame.len() as u32).to_le_bytes());
        }
        packet.extend_from_slice(frame);
        block(out, 6, &packet)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_whole_words_and_say_their_length_twice() {
        let frame = vec![7; 61];
        let mut bytes = Vec::new();
        write(&mut bytes, &[Captured { at: 1 << 40, side: Side::Cluster, frame }])
            .expect("written");
        let mut kinds = Vec::new();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let word = |at: usize| u32::from_le_bytes(rest[at..at + 4].try_into().expect("a word"));
            let len = word(4) as usize;
            assert_eq!((len % 4, word(len - 4)), (0, len as u32));
            kinds.push(word(0));
            rest = &rest[len..];
        }
        assert_eq!(kinds, [0x0A0D_0D0A, 1, 1, 6]);
    }
}
