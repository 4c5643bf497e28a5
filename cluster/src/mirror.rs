//! The datagrams between the cores of two nodes: records of an owner one way, acknowledgements of its peer the other;
//! and frames of clients that reached a node which does not serve them.
//!
//! ```text
//! 0       2         3      4         8      9    10          11        12
//! magic | version | kind | cluster | from | to | from core | to core | group |
//! 14      22                   30                 38
//! epoch | from's incarnation | to's incarnation |
//! records:  first op (8) | clock (8) | count (2) | count x { kind (1) flow (6) length (2) bytes }
//! ack:      acked op (8) | missing from, to (16) | n (1) | n x { flow (8) op (8) }
//! frame:    number (4) | bytes of the whole frame (2) | bytes before these (2) | bytes
//! ```
//!
//! All integers little-endian. A session joins one core of the owner with one core of the peer; which core a datagram
//! is for is read first, so that it can be handed over whichever core received it. `epoch` is that of the register which
//! named the peer: it stands for the mirroring session, and ops count from 1 in it. A datagram of another session,
//! incarnation or cluster is dropped before its body is looked at. A frame belongs to no session: its epoch is that of the
//! register by which the sender knows the owner. One that is longer than a datagram comes in several, one after another
//! under one number.
//!
//! Units: `clock` is the group's clock in nanoseconds.

use crate::id::{Epoch, GroupId, Incarnation, Member, NodeId, Op};
use stack::codec::{ImportError, Put, Reader};
use stack::flow::FlowId;

const MAGIC: u16 = 0x5544;
const VERSION: u8 = 3;

/// Where a datagram says which core it is for.
const TO_CORE_AT: usize = 11;

/// Bytes of the header.
pub const HEADER_BYTES: usize = 40;

/// Bytes in front of the first record.
pub const RECORDS_OFFSET: usize = HEADER_BYTES + 18;

/// Bytes in front of a forwarded frame's.
pub const FRAME_OFFSET: usize = HEADER_BYTES + 8;

/// Bytes in front of a record's body.
pub const RECORD_HEADER_BYTES: usize = 9;

/// Which session a datagram belongs to, as seen from its sender.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Session {
    /// Which cluster.
    pub cluster: u32,
    /// Which group.
    pub group: GroupId,
    /// The epoch of the register that named the peer.
    pub epoch: Epoch,
    /// Who sends.
    pub from: Member,
    /// Which of its cores.
    pub from_core: u8,
    /// To whom.
    pub to: Member,
    /// To which of its cores.
    pub to_core: u8,
}

impl Session {
    /// The same session, seen from the other side.
    pub fn reversed(self) -> Session {
        Session {
            from: self.to,
            from_core: self.to_core,
            to: self.from,
            to_core: self.from_core,
            ..self
        }
    }
}

/// What a datagram carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    /// Records.
    Records = 0,
    /// An acknowledgement.
    Ack = 1,
    /// A client's frame, or a part of one.
    Frame = 2,
    /// The same, back from the owner of an older generation, where it has no flow.
    Returned = 3,
}

/// A client's frame, or a part of one, on its only hop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FramePart<'a> {
    /// The sender's number for the frame.
    pub number: u32,
    /// Bytes of the whole frame.
    pub total: u16,
    /// Bytes of it before these.
    pub offset: u16,
    /// The bytes, at least one.
    pub bytes: &'a [u8],
}

/// The body of a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Body<'a> {
    /// Records from `first` on.
    Records {
        /// The op of the first record.
        first: Op,
        /// The owner's clock when the datagram was begun.
        clock: u64,
        /// How many records.
        count: u16,
        /// The records.
        bytes: &'a [u8],
    },
    /// What the peer holds.
    Ack {
        /// Every record up to this op.
        acked: Op,
        /// The gap that it sees: from the first missing op up to, not including, the second.
        missing: Option<(Op, Op)>,
        /// Copies that it had to give up: (flow, op), 16 bytes each.
        lost: &'a [u8],
    },
    /// What a client said to a node that does not serve it.
    Frame(FramePart<'a>),
    /// What a client said to the node that receives this, which asked whether it has a flow here: it has none.
    Returned(FramePart<'a>),
}

/// What a record is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum RecordKind {
    /// A fact about a flow.
    Fact = 0,
    /// A part of a captured flow; more follow.
    Part = 1,
    /// The last part of a captured flow.
    LastPart = 2,
    /// The digest of a flow's contract at this op.
    Digest = 3,
    /// Every flow of the group has been captured.
    FillDone = 4,
    /// A flow that the peer has told as lost is over: nothing of it is missing.
    Gone = 5,
    /// The owner is frozen, at this reading of the group's clock: it says nothing that is not known by now, and nothing
    /// later than that.
    Frozen = 6,
    /// What the owner has decided about servers of a proxied service.
    Servers = 7,
}

/// A record as read from a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    /// What it is.
    pub kind: RecordKind,
    /// Whom it is about.
    pub flow: FlowId,
    /// What it says.
    pub bytes: &'a [u8],
}

/// Writes the header of a datagram.
pub fn put_header(out: &mut impl Put, session: &Session, kind: Kind) {
    out.put_u16(MAGIC);
    out.put_u8(VERSION);
    out.put_u8(kind as u8);
    out.put_u32(session.cluster);
    out.put_u8(session.from.node.0);
    out.put_u8(session.to.node.0);
    out.put_u8(session.from_core);
    out.put_u8(session.to_core);
    out.put_u32(session.group.0);
    out.put_u64(session.epoch.0);
    out.put_u64(session.from.incarnation.0);
    out.put_u64(session.to.incarnation.0);
}

/// Writes a record's header.
pub fn put_record(out: &mut impl Put, kind: RecordKind, flow: FlowId, len: usize) {
    out.put_u8(kind as u8);
    out.put_bytes(&flow.0.to_le_bytes()[..6]);
    out.put_u16(len as u16);
}

/// Writes what follows the header of a frame's datagram.
pub fn put_frame(out: &mut impl Put, part: &FramePart) {
    out.put_u32(part.number);
    out.put_u16(part.total);
    out.put_u16(part.offset);
    out.put_bytes(part.bytes);
}

/// Which core a datagram says that it is for; nothing else of it is looked at.
#[inline]
pub fn to_core(bytes: &[u8]) -> Option<u8> {
    let head: &[u8; TO_CORE_AT + 1] = bytes.first_chunk()?;
    let is_ours = head[..2] == MAGIC.to_le_bytes() && head[2] == VERSION;
    is_ours.then_some(head[TO_CORE_AT])
}

/// Whether a datagram that cannot be read is of another version of this format.
pub fn is_of_another_version(bytes: &[u8]) -> bool {
    bytes.len() > 2 && bytes[..2] == MAGIC.to_le_bytes() && bytes[2] != VERSION
}

/// Reads a datagram.
pub fn decode(bytes: &[u8]) -> Result<(Session, Body<'_>), ImportError> {
    let mut reader = Reader::new(bytes);
    if reader.u16()? != MAGIC || reader.u8()? != VERSION {
        return Err(ImportError::Invalid);
    }
    let kind = reader.u8()?;
    let cluster = reader.u32()?;
    let (from, to) = (NodeId(reader.u8()?), NodeId(reader.u8()?));
    let (from_core, to_core) = (reader.u8()?, reader.u8()?);
    let group = GroupId(reader.u32()?);
    let epoch = Epoch(reader.u64()?);
    let from = Member { node: from, incarnation: Incarnation(reader.u64()?) };
    let to = Member { node: to, incarnation: Incarnation(reader.u64()?) };
    let session = Session { cluster, group, epoch, from, from_core, to, to_core };
    let body = match kind {
        0 => decode_records(&mut reader)?,
        1 => {
            let acked = Op(reader.u64()?);
            let (start, end) = (Op(reader.u64()?), Op(reader.u64()?));
            let count = reader.u8()? as usize;
            let lost = reader.bytes(16 * count)?;
            Body::Ack { acked, missing: (end > start).then_some((start, end)), lost }
        }
        2 => Body::Frame(decode_frame(&mut reader)?),
        3 => Body::Returned(decode_frame(&mut reader)?),
        _ => return Err(ImportError::Invalid),
    };
    Ok((session, body))
}

fn decode_records<'a>(reader: &mut Reader<'a>) -> Result<Body<'a>, ImportError> {
    let first = Op(reader.u64()?);
    let clock = reader.u64()?;
    let count = reader.u16()?;
    if first.0 == 0 || first.0.checked_add(count as u64).is_none() {
        return Err(ImportError::Invalid);
    }
    Ok(Body::Records { first, clock, count, bytes: reader.bytes(reader.remaining())? })
}

fn decode_frame<'a>(reader: &mut Reader<'a>) -> Result<FramePart<'a>, ImportError> {
    let number = reader.u32()?;
    let (total, offset) = (reader.u16()?, reader.u16()?);
    let bytes = reader.bytes(reader.remaining())?;
    if bytes.is_empty() || offset as usize + bytes.len() > total as usize {
        return Err(ImportError::Invalid);
    }
    Ok(FramePart { number, total, offset, bytes })
}

/// Reads the next record of a datagram.
pub fn next_record<'a>(reader: &mut Reader<'a>) -> Result<Record<'a>, ImportError> {
    let kind = match reader.u8()? {
        0 => RecordKind::Fact,
        1 => RecordKind::Part,
        2 => RecordKind::LastPart,
        3 => RecordKind::Digest,
        4 => RecordKind::FillDone,
        5 => RecordKind::Gone,
        6 => RecordKind::Frozen,
        7 => RecordKind::Servers,
        _ => return Err(ImportError::Invalid),
    };
    let [a, b, c, d, e, f] = reader.array()?;
    let flow = FlowId(u64::from_le_bytes([a, b, c, d, e, f, 0, 0]));
    let len = reader.u16()? as usize;
    Ok(Record { kind, flow, bytes: reader.bytes(len)? })
}

/// Reads the flows that an acknowledgement names as lost.
pub fn lost_flows(bytes: &[u8]) -> impl Iterator<Item = (FlowId, Op)> + '_ {
    bytes.chunks_exact(16).map(|entry| {
        let mut reader = Reader::new(entry);
        let flow = FlowId(reader.u64().unwrap_or(0));
        (flow, Op(reader.u64().unwrap_or(0)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn a_datagram_comes_back_and_broken_ones_are_errors() {
        let member =
            |n| Member { node: NodeId(n), incarnation: Incarnation(0x0102_0304 + n as u64) };
        let session = Session {
            cluster: 7,
            group: GroupId::new(1, 0),
            epoch: Epoch(9),
            from: member(1),
            from_core: 3,
            to: member(2),
            to_core: 1,
        };
        let mut bytes = Vec::new();
        put_header(&mut bytes, &session, Kind::Records);
        assert_eq!(bytes.len(), HEADER_BYTES);
        bytes.put_u64(5);
        bytes.put_u64(1234);
        bytes.put_u16(1);
        assert_eq!(bytes.len(), RECORDS_OFFSET);
        put_record(&mut bytes, RecordKind::Digest, FlowId(0x0403_0201_0605), 3);
        bytes.put_bytes(b"abc");
        assert_eq!(bytes.len(), RECORDS_OFFSET + RECORD_HEADER_BYTES + 3);
        let (read, body) = decode(&bytes).unwrap();
        assert_eq!((read, to_core(&bytes)), (session, Some(1)));
        let Body::Records { first: Op(5), clock: 1234, count: 1, bytes: records } = body else {
            panic!("{body:?}")
        };
        let record = next_record(&mut Reader::new(records)).unwrap();
        assert_eq!((record.kind, record.bytes), (RecordKind::Digest, &b"abc"[..]));
        assert_eq!(record.flow, FlowId(0x0403_0201_0605));
        for cut in 0..RECORDS_OFFSET {
            assert!(decode(&bytes[..cut]).is_err());
        }
        let mut state = 1u64;
        for _ in 0..100_000 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let mut broken = bytes.clone();
            let at = state as usize % broken.len();
            broken[at] = (state >> 32) as u8;
            if let Ok((_, Body::Records { bytes, .. })) = decode(&broken) {
                let mut reader = Reader::new(bytes);
                while next_record(&mut reader).is_ok() {}
            }
        }
    }
}
