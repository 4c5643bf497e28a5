//! What a NIC does with a superframe, written from what Linux expects of one (`Documentation/networking/segmentation-offloads`)
//! and not from what the stack believes.

use smoltcp::wire::{
    EthernetFrame, EthernetProtocol, IpAddress, Ipv4Packet, Ipv6Packet, TcpPacket,
};
use stack::wire::Superframe;

/// FIN and PSH: what belongs to the last segment alone.
const AT_THE_END: u8 = 0b1001;

/// Where TCP has its flags.
const FLAGS_AT: usize = 13;

/// Cuts a superframe into the frames that leave: each with its part of the payload, its sequence number and checksums.
pub fn cut(frame: &[u8], superframe: &Superframe) -> Vec<Vec<u8>> {
    let Superframe { bytes, tcp_at, payload_at, segment_bytes } = *superframe;
    let (tcp_at, payload_at) = (usize::from(tcp_at), usize::from(payload_at));
    assert_eq!(bytes, frame.len());
    if segment_bytes == 0 {
        return vec![frame.to_vec()];
    }
    let payload = &frame[payload_at..];
    assert!(payload.len() > usize::from(segment_bytes), "Linux refuses to cut one segment");
    let count = payload.len().div_ceil(segment_bytes.into());
    let parts = payload.chunks(segment_bytes.into()).enumerate();
    let segment = |(n, part): (usize, &[u8])| {
        let mut segment = frame[..payload_at].to_vec();
        segment.extend_from_slice(part);
        let mut tcp = TcpPacket::new_unchecked(&mut segment[tcp_at..]);
        tcp.set_seq_number(tcp.seq_number() + n * usize::from(segment_bytes));
        if n + 1 < count {
            segment[tcp_at + FLAGS_AT] &= !AT_THE_END;
        }
        finish(&mut segment, tcp_at);
        segment
    };
    parts.map(segment).collect()
}

/// Writes lengths and checksums.
fn finish(frame: &mut [u8], tcp_at: usize) {
    let rest = frame.len() - tcp_at;
    let ethernet = EthernetFrame::new_unchecked(&mut *frame);
    let is_v4 = ethernet.ethertype() == EthernetProtocol::Ipv4;
    let ip = &mut frame[EthernetFrame::<&[u8]>::header_len()..];
    let (from, to): (IpAddress, IpAddress) = if is_v4 {
        let mut ip = Ipv4Packet::new_unchecked(&mut *ip);
        ip.set_total_len((usize::from(ip.header_len()) + rest) as u16);
        ip.fill_checksum();
        (ip.src_addr().into(), ip.dst_addr().into())
    } else {
        let mut ip = Ipv6Packet::new_unchecked(&mut *ip);
        ip.set_payload_len(rest as u16);
        (ip.src_addr().into(), ip.dst_addr().into())
    };
    TcpPacket::new_unchecked(&mut frame[tcp_at..]).fill_checksum(&from, &to);
}

/// Whether the checksum of a superframe is that of its pseudo-header, as whoever cuts it takes for granted.
pub fn is_prepared(frame: &[u8], superframe: &Superframe) -> bool {
    if superframe.segment_bytes == 0 {
        return true;
    }
    let tcp_at = usize::from(superframe.tcp_at);
    let said = TcpPacket::new_unchecked(&frame[tcp_at..]).checksum();
    // The rest of the packet as zeros leaves the pseudo-header alone.
    let mut bare = frame[..tcp_at].to_vec();
    bare.resize(frame.len(), 0);
    finish(&mut bare, tcp_at);
    said == !TcpPacket::new_unchecked(&bare[tcp_at..]).checksum()
}
