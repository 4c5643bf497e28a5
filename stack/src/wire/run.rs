//! Runs: frames of a burst that follow one another as segments of a stream do, told by a look at their headers.
//!
//! A frame continues a run if its headers are those of the first one, and its payload begins where that of the last one ended: lengths,
//! identification, SEG.SEQ, checksums and PSH may differ, nothing else. So all that was found out about the headers of the first holds
//! for the rest, but for the checksums, and nothing more is parsed (what a NIC calls large receive offload, without joining anything).
//!
//! Path: step 1. Spec: RFC 791, 8200, 9293 3.1.

use super::checksum::Checksum;
use super::{ETHERNET_BYTES, Flags, Segment};
use crate::seq::Seq;
use core::ops::Range;

/// Where a header's parts lie in a frame.
struct Shape {
    /// Where the length of the datagram is said.
    length_at: usize,
    /// Bytes of the IP header; `length_at` counts them if [`Shape::counts_header`].
    ip_bytes: usize,
    counts_header: bool,
    /// What two segments of a stream have in common, as far as the ports.
    same: [Range<usize>; 3],
}

const V4: Shape = Shape {
    length_at: 16,
    ip_bytes: 20,
    counts_header: true,
    // Ethernet, version and class; flags, offset, TTL and protocol; addresses and ports.
    same: [0..16, 20..24, 26..38],
};

const V6: Shape = Shape {
    length_at: 18,
    ip_bytes: 40,
    counts_header: false,
    // Ethernet, version, class and label; next header and hop limit; addresses and ports.
    same: [0..18, 20..22, 22..58],
};

/// The first byte of Ethernet's word for IPv4, and not of that for IPv6: both frames are known to be, or are compared with, one of the two.
const IPV4_FIRST: u8 = 8;

impl Shape {
    const fn seq_at(&self) -> usize {
        ETHERNET_BYTES + self.ip_bytes + SEQ.start
    }
}

/// Where SEG.SEQ lies in a TCP header.
const SEQ: Range<usize> = 4..8;

/// Frames that may continue the first of a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Followers<'a> {
    first: &'a [u8],
    rest: &'a [&'a [u8]],
    /// Those of the rest that did.
    taken: usize,
}

impl<'a> Followers<'a> {
    /// What is behind the first of `frames`.
    pub fn of(frames: &'a [&'a [u8]]) -> Followers<'a> {
        match frames {
            [first, rest @ ..] => Followers { first, rest, taken: 0 },
            [] => Followers::default(),
        }
    }

    /// How many continued the first one so far.
    pub fn taken(&self) -> usize {
        self.taken
    }

    /// Whether the next frame looks like one that continues `segment`, the first frame's: most often none does, and this sees it.
    #[inline]
    pub fn may_continue(&self, segment: &Segment) -> bool {
        let Some(next) =
            self.rest.first().and_then(|next| next.first_chunk::<{ V6.seq_at() + 4 }>())
        else {
            return false;
        };
        let at = if next[12] == IPV4_FIRST { V4.seq_at() } else { V6.seq_at() };
        let seq = segment.seq + segment.payload.len() as u32;
        next[at..at + 4] == seq.0.to_be_bytes() && !segment.payload.is_empty()
    }

    /// The segment at `seq`, if that is what the next frame is and it continues `segment`, the first frame's.
    #[inline]
    pub fn next(&mut self, segment: &Segment<'a>, seq: Seq) -> Option<Segment<'a>> {
        let next = self.rest.get(self.taken)?;
        let continued = continued(self.first, segment, seq, next)?;
        self.taken += 1;
        Some(continued)
    }
}

/// The segment in `next` if it is at `seq` and its headers are else those of `segment`, which is in `first`.
#[inline]
fn continued<'a>(
    first: &[u8],
    segment: &Segment<'a>,
    seq: Seq,
    next: &'a [u8],
) -> Option<Segment<'a>> {
    let shape = if *first.get(12)? == IPV4_FIRST { V4 } else { V6 };
    if shape.same.into_iter().any(|part| first.get(part.clone()) != next.get(part)) {
        return None;
    }
    let tcp_at = ETHERNET_BYTES + shape.ip_bytes;
    let length = next.get(shape.length_at..shape.length_at + 2)?;
    let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
    let behind_ip = if shape.counts_header { length.checked_sub(shape.ip_bytes)? } else { length };
    let tcp = next.get(tcp_at..tcp_at + behind_ip)?;
    let (header, before) = (tcp.first_chunk::<20>()?, first.get(tcp_at..)?.first_chunk::<20>()?);
    let header_bytes = usize::from(header[12] >> 4) * 4;
    let payload = tcp.get(header_bytes..)?;
    let flags = Flags(header[13]);
    let is_plain = (flags.0 | Flags::PSH.0) == Flags::ACK.with(Flags::PSH).0
        && (before[13] | Flags::PSH.0) == (flags.0 | Flags::PSH.0);
    let is_same = header[8..13] == before[8..13]
        && header[14..16] == before[14..16]
        && header[18..20] == before[18..20]
        && tcp.get(20..header_bytes)? == first.get(tcp_at + 20..tcp_at + header_bytes)?;
    if header[SEQ] != seq.0.to_be_bytes() || !is_plain || !is_same || payload.is_empty() {
        return None;
    }
    let is_ip_right =
        !shape.counts_header || Checksum::default().add(&next[ETHERNET_BYTES..tcp_at]).is_right();
    let sum = Checksum::of_pseudo_header(&segment.source, &segment.destination, tcp.len());
    (is_ip_right && sum.add(tcp).is_right()).then_some(Segment { seq, flags, payload, ..*segment })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Address, Frame, Header, Mac, Path, SegmentOptions, emit_tcp, parse};
    use alloc::vec::Vec;

    const OURS: Mac = [2, 0, 0, 0, 0, 1];

    fn path(is_v6: bool) -> Path {
        let address = |n: u8| match is_v6 {
            true => Address([0xfd, 0x88, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, n]),
            false => Address::v4([10, 0, 0, n]),
        };
        Path {
            source_mac: [2, 0, 0, 0, 0, 2],
            destination_mac: OURS,
            source: address(1),
            destination: address(2),
            hop_limit: 64,
        }
    }

    fn header(seq: u32) -> Header {
        let timestamps = Some((7, 8));
        Header {
            source_port: 4000,
            destination_port: 80,
            seq: Seq(seq),
            ack: Seq(99),
            flags: Flags::ACK,
            window: 500,
            options: SegmentOptions { timestamps, ..SegmentOptions::default() },
        }
    }

    /// A segment with `bytes` bytes of payload.
    fn frame(path: &Path, header: &Header, bytes: usize) -> Vec<u8> {
        let mut frame = alloc::vec![0; 2048];
        let at = crate::wire::payload_offset(&path.destination, &header.options);
        crate::generate::fill(header.seq.0.into(), 0, &mut frame[at..at + bytes]);
        let len = emit_tcp(&mut frame, path, header, bytes);
        frame.truncate(len);
        frame
    }

    fn parsed(frame: &[u8]) -> Segment<'_> {
        match parse(frame, &OURS, &[]) {
            Ok(Frame::Tcp(segment)) => segment,
            other => panic!("{other:?}"),
        }
    }

    /// How many of `rest` continue `first`; each is what parsing it would find.
    fn run(first: &[u8], rest: &[Vec<u8>]) -> usize {
        let frames: Vec<&[u8]> =
            core::iter::once(first).chain(rest.iter().map(|frame| &frame[..])).collect();
        let mut followers = Followers::of(&frames);
        let segment = parsed(first);
        let mut seq = segment.seq + segment.payload.len() as u32;
        assert!(followers.may_continue(&segment) || followers.next(&segment, seq).is_none());
        while let Some(next) = followers.next(&segment, seq) {
            let whole = parsed(frames[followers.taken()]);
            assert_eq!((next.seq, next.ack, next.flags), (whole.seq, whole.ack, whole.flags));
            assert_eq!((next.window, next.options), (whole.window, whole.options));
            assert_eq!((next.payload, next.source_mac), (whole.payload, whole.source_mac));
            assert_eq!((next.source_port, next.source), (whole.source_port, whole.source));
            seq += next.payload.len() as u32;
        }
        followers.taken()
    }

    #[test]
    fn a_stream_is_a_run_and_its_end_may_be_pushed_and_short() {
        for is_v6 in [false, true] {
            let path = path(is_v6);
            let first = frame(&path, &header(1000), 1400);
            let mut rest: Vec<_> =
                (1..5).map(|n| frame(&path, &header(1000 + 1400 * n), 1400)).collect();
            let flags = Flags::ACK.with(Flags::PSH);
            rest.push(frame(&path, &Header { flags, ..header(1000 + 1400 * 5) }, 13));
            assert_eq!(run(&first, &rest), 5);
            assert_eq!(run(&first, &rest[1..]), 0, "one is missing");
            rest.insert(2, frame(&path, &header(1000), 1400));
            assert_eq!(run(&first, &rest), 2, "one is said again");
        }
    }

    #[test]
    fn whoever_says_anything_else_continues_nothing() {
        for is_v6 in [false, true] {
            let path = path(is_v6);
            let first = frame(&path, &header(1000), 700);
            let next = header(1700);
            let follows =
                |path: &Path, header: Header, bytes| run(&first, &[frame(path, &header, bytes)]);
            assert_eq!(follows(&path, next, 700), 1);
            assert_eq!(follows(&path, next, 0), 0, "no payload");
            assert_eq!(follows(&path, Header { ack: Seq(100), ..next }, 700), 0);
            assert_eq!(follows(&path, Header { window: 501, ..next }, 700), 0);
            assert_eq!(follows(&path, Header { source_port: 4001, ..next }, 700), 0);
            assert_eq!(follows(&path, Header { destination_port: 81, ..next }, 700), 0);
            for flag in [Flags::FIN, Flags::SYN, Flags::RST, Flags(0x20), Flags(0x40)] {
                let flags = Flags::ACK.with(flag);
                assert_eq!(follows(&path, Header { flags, ..next }, 700), 0, "{flag:?}");
            }
            for timestamps in [Some((8, 8)), Some((7, 9)), None] {
                let options = SegmentOptions { timestamps, ..next.options };
                assert_eq!(follows(&path, Header { options, ..next }, 700), 0, "{timestamps:?}");
            }
            assert_eq!(follows(&Path { hop_limit: 63, ..path }, next, 700), 0);
            assert_eq!(follows(&Path { source_mac: [2; 6], ..path }, next, 700), 0);
            let stranger = Path { source: path.destination, ..path };
            assert_eq!(follows(&stranger, next, 700), 0);
        }
    }

    /// Puts right what sums a frame has, whatever its headers say.
    fn mend(frame: &mut [u8], is_v6: bool, path: &Path) {
        let tcp_at = if is_v6 { 54 } else { 34 };
        if !is_v6 {
            frame[24..26].fill(0);
            let sum = Checksum::default().add(&frame[14..34]).field();
            frame[24..26].copy_from_slice(&sum.to_be_bytes());
        }
        let said = if is_v6 { 18 } else { 16 };
        let said = usize::from(u16::from_be_bytes([frame[said], frame[said + 1]]));
        let bytes = if is_v6 { said } else { said.saturating_sub(20) };
        let Some(tcp) = frame.get_mut(tcp_at..tcp_at + bytes).filter(|tcp| tcp.len() >= 20) else {
            return;
        };
        tcp[16..18].fill(0);
        let sum = Checksum::of_pseudo_header(&path.source, &path.destination, tcp.len());
        let sum = sum.add(tcp).field();
        tcp[16..18].copy_from_slice(&sum.to_be_bytes());
    }

    /// With every value of every byte of its headers, and sums that are right: nothing panics, and what continues is what parsing finds.
    #[test]
    fn a_forged_header_is_read_as_parsing_reads_it() {
        for is_v6 in [false, true] {
            let path = path(is_v6);
            let first = frame(&path, &header(1000), 100);
            let good = frame(&path, &header(1100), 100);
            let mut taken = Vec::new();
            for at in 0..good.len() - 100 {
                for value in 0..=255 {
                    let mut forged = good.clone();
                    forged[at] = value;
                    mend(&mut forged, is_v6, &path);
                    if run(&first, &[forged.clone()]) > 0 && forged != good {
                        taken.push(at);
                    }
                }
            }
            taken.dedup();
            // The low byte of the length; in IPv4 identification; PSH.
            let may_differ = if is_v6 { &[19, 67][..] } else { &[17, 18, 19, 47][..] };
            assert_eq!(taken, may_differ);
        }
    }

    /// Whatever is wrong with it, and wherever it ends: it is left to who names what is wrong.
    #[test]
    fn a_damaged_frame_continues_nothing() {
        for is_v6 in [false, true] {
            let path = path(is_v6);
            let first = frame(&path, &header(1000), 100);
            let good = frame(&path, &header(1100), 100);
            for at in 0..good.len() {
                let mut bad = good.clone();
                bad[at] ^= 0x10;
                assert_eq!(run(&first, &[bad]), 0, "byte {at}");
                assert_eq!(run(&first, &[good[..at].to_vec()]), 0, "cut at {at}");
            }
            let mut padded = good;
            padded.extend([0; 9]);
            assert_eq!(run(&first, &[padded]), 1, "what is behind a datagram is none of it");
        }
    }
}
