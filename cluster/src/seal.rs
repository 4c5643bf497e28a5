//! Sealed datagrams: what crosses the cluster's links is read and written by holders of its key alone.
//!
//! Three kinds leave a node. A *statement* is sealed under the pre-shared key itself: the handshake, and a
//! surrender. A *message* carries what agents and the witness say, under the keys of a session of two lives; a
//! *mirror* datagram carries records and acknowledgements between two cores, under keys of the same session.
//!
//! ```text
//! 0       2         3      4
//! magic | version | kind | ...
//! statement: key id (4) | from: node (1), incarnation (8) | salt (16) | sealed body | tag (16)
//! message:   session (4) | counter (8)                                | sealed body | tag (16)
//! mirror:    session (4) | to core (1) | from core (1) | counter (6)  | sealed body | tag (16)
//! ```
//!
//! Everything in front of the sealed body is authenticated with it; nothing behind it is looked at before the
//! tag is right. [`Party`] makes sessions and speaks for agents and the witness, [`LinkSeal`] for a core.
//!
//! Pure like the rest of this crate: keys and a seed for random numbers come in through constructors, `now` with
//! every call. All integers little-endian.
//!
//! Spec: PROTOCOL.md, Sealing; the Noise protocol framework, revision 34, `Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s`;
//! AES-256-GCM (NIST SP 800-38D). Left out: identities; whoever holds the key may speak for every node.

mod cipher;
mod handshake;
mod key;
mod link;
mod party;
mod session;
mod statement;
mod window;

pub use cipher::SEED_BYTES;
pub use key::{BadKey, KEYS_MAX, Key, KeyId, Keyring};
pub use link::{LinkKeys, LinkSeal, LinkSealCounters, LinkSession};
pub use party::{Counters, Opened, Party, Standing};
pub use statement::surrender;

use crate::id::{Incarnation, Member, NodeId};

/// Unlike the first bytes of what is not sealed.
const MAGIC: u16 = 0x5ea1;
const VERSION: u8 = 3;

/// Bytes of a tag behind the sealed body.
const TAG_BYTES: usize = 16;

/// Bytes in front of the body of a message or a mirror datagram.
const HEADER_BYTES: usize = 16;

/// Where a mirror datagram says which core it is for.
const TO_CORE_AT: usize = 8;

/// What sealing adds to a message or a mirror datagram.
pub const OVERHEAD_BYTES: usize = HEADER_BYTES + TAG_BYTES;

/// What a datagram is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
enum Kind {
    Statement = 1,
    Message = 2,
    Mirror = 3,
}

/// Why a datagram was not opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unopened {
    /// It ends before its tag.
    Short,
    /// It is not sealed, or nothing of ours.
    Unsealed,
    /// It speaks another version, or is of a kind that this receiver does not take.
    OtherVersion,
    /// It is sealed under a key that this node does not hold.
    OtherKey,
    /// Its session is not known here, or no longer.
    UnknownSession,
    /// Its tag is wrong.
    Forged,
    /// It was opened before, or is too old to tell.
    Repeated,
    /// It answers what was not asked, or no longer.
    Late,
    /// It is for another node, or says that it comes from another one than whoever sealed it.
    Misattributed,
}

impl Unopened {
    /// How many reasons there are.
    pub const COUNT: usize = 9;

    /// Every reason, in their order.
    pub const ALL: [Unopened; Unopened::COUNT] = [
        Unopened::Short,
        Unopened::Unsealed,
        Unopened::OtherVersion,
        Unopened::OtherKey,
        Unopened::UnknownSession,
        Unopened::Forged,
        Unopened::Repeated,
        Unopened::Late,
        Unopened::Misattributed,
    ];

    /// Its name among the counters.
    pub fn key(self) -> &'static str {
        match self {
            Unopened::Short => "short",
            Unopened::Unsealed => "unsealed",
            Unopened::OtherVersion => "other_version",
            Unopened::OtherKey => "other_key",
            Unopened::UnknownSession => "unknown_session",
            Unopened::Forged => "forged",
            Unopened::Repeated => "repeated",
            Unopened::Late => "late",
            Unopened::Misattributed => "misattributed",
        }
    }
}

/// Whether a datagram claims to be sealed. For those who seal nothing and want to say so.
pub fn is_sealed(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC.to_le_bytes())
}

/// Which core a mirror datagram says that it is for; nothing else of it is looked at.
#[inline]
pub fn to_core(bytes: &[u8]) -> Option<u8> {
    let head: &[u8; TO_CORE_AT + 1] = bytes.first_chunk()?;
    let is_ours =
        head[..2] == MAGIC.to_le_bytes() && head[2] == VERSION && head[3] == Kind::Mirror as u8;
    is_ours.then_some(head[TO_CORE_AT])
}

/// What a datagram is, by its outer header.
#[inline]
fn kind(bytes: &[u8]) -> Result<Kind, Unopened> {
    let Some(&[a, b, version, kind]) = bytes.first_chunk() else { return Err(Unopened::Short) };
    if [a, b] != MAGIC.to_le_bytes() {
        return Err(Unopened::Unsealed);
    }
    match (version, kind) {
        (VERSION, 1) => Ok(Kind::Statement),
        (VERSION, 2) => Ok(Kind::Message),
        (VERSION, 3) => Ok(Kind::Mirror),
        _ => Err(Unopened::OtherVersion),
    }
}

/// The outer header of a message or a mirror datagram: `place` is a counter, or two cores and a counter.
#[inline]
fn header(kind: Kind, session: u32, place: [u8; 8]) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..2].copy_from_slice(&MAGIC.to_le_bytes());
    (header[2], header[3]) = (VERSION, kind as u8);
    header[4..8].copy_from_slice(&session.to_le_bytes());
    header[8..].copy_from_slice(&place);
    header
}

/// Reads what [`header`] has written: session and place.
#[inline]
fn read_header(bytes: &[u8]) -> Result<(u32, [u8; 8]), Unopened> {
    let header: &[u8; HEADER_BYTES] = bytes.first_chunk().ok_or(Unopened::Short)?;
    let [_, _, _, _, a, b, c, d, place @ ..] = *header;
    Ok((u32::from_le_bytes([a, b, c, d]), place))
}

/// A member as nine bytes.
fn member_bytes(member: Member) -> [u8; 9] {
    let mut bytes = [0; 9];
    bytes[0] = member.node.0;
    bytes[1..].copy_from_slice(&member.incarnation.0.to_le_bytes());
    bytes
}

fn read_member(bytes: &[u8; 9]) -> Member {
    let [node, life @ ..] = *bytes;
    Member { node: NodeId(node), incarnation: Incarnation(u64::from_le_bytes(life)) }
}
