//! What agents say to each other and to the witness.
//!
//! One datagram is one message: a header (magic, version, cluster, sender, destination, kind) and a
//! body of fixed little-endian fields. [`encode`] and [`decode`] are the only way in and out; what
//! [`encode`] makes is sealed whole by [`crate::seal::Party`]. Every message may be lost, doubled,
//! delayed or reordered; PROTOCOL.md says why each is safe then.
//!
//! Bounds: [`DATAGRAM_MAX`] octets, [`ENTRIES_MAX`] groups in one heartbeat; a longer list is
//! refused.
//! Units: times are nanoseconds of the sender's clock and mean something to that clock only.

pub mod advertise;
mod body;
pub mod codec;
pub mod state;

use crate::agent::handover::OrderError;
use crate::id::{Epoch, GroupId, Incarnation, Member, NodeId};
use crate::path::Health;
use crate::register::{Change, Refusal, Register};
use advertise::Advertise;
use alloc::vec::Vec;
use codec::{Reader, Writer};
use stack::time::{Duration, Instant};
use state::NodeState;

pub(crate) use body::{read_register, write_register};

/// First octets of every datagram.
pub const MAGIC: [u8; 4] = *b"USTA";
/// Version of the format.
pub const VERSION: u8 = 3;
/// The node id under which the witness speaks; no machine has it.
pub const WITNESS: NodeId = NodeId(255);
/// Longest datagram, in octets: fits any Ethernet without fragments.
pub const DATAGRAM_MAX: usize = 1_400;
/// Groups in one heartbeat or one grant; a node with more sends several.
pub const ENTRIES_MAX: usize = 24;

/// Who speaks to whom.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Which cluster; a datagram of another is dropped.
    pub cluster: u64,
    /// The sender's present life.
    pub from: Member,
    /// The receiver's life; incarnation zero means whichever life there is.
    pub to: Member,
}

/// One message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message {
    /// Agent to every other agent, every heartbeat period.
    Heartbeat(Heartbeat),
    /// Lessor to owner: the renewals that it promised to honour.
    RenewGrant(RenewGrant),
    /// The ownership advertisement of one group.
    Advertise(Advertise),
    /// How the sender is: nothing is decided by it.
    State(NodeState),
    /// Asks for the advertisement of one group.
    Solicit {
        /// The group.
        group: GroupId,
    },
    /// Every poll thread of the sender's life is dead, so it transmits for no group any more: said
    /// on its behalf by its guardian, or by itself when it stops.
    Surrender {
        /// When that was known, on the clock of the sender's machine.
        at: Instant,
    },
    /// An operator says that this life has ended: nobody is left who could.
    Dead {
        /// Whose.
        life: Member,
    },
    /// To the in-sync peer: its owner is silent here. A reason to look, never a claim.
    Hint {
        /// The group.
        group: GroupId,
        /// The epoch that the sender knows.
        epoch: Epoch,
        /// For how long the sender has heard nothing of the owner.
        silent: Duration,
    },
    /// To the owner: an operator has ordered this at the sender's node.
    Order(PassedOrder),
    /// From the owner: what became of an order.
    Ordered {
        /// The sender's number of the order.
        request: u64,
        /// Why nothing was begun, if nothing was.
        refused: Option<OrderError>,
    },
    /// Agent to witness: this is my present life.
    Hello {
        /// The ticket that the witness gave to this life; zero to ask for one.
        ticket: u64,
    },
    /// Agent to witness: what does the register say?
    Read {
        /// The group.
        group: GroupId,
        /// The newest register that the sender knows (shows the witness whether its store is old).
        copy: Register,
    },
    /// Agent to witness: change the register, if its epoch is still the expected one.
    Change(ChangeRequest),
    /// Agent to witness: renew my lease, I own the group alone.
    Renew {
        /// The group.
        group: GroupId,
        /// The epoch under which the sender owns it.
        epoch: Epoch,
        /// Send time on the sender's clock.
        sent: Instant,
        /// Length of the lease that the sender counts from there.
        lease: Duration,
    },
    /// Owner to witness: the peer is my lessor now, I use no lease of yours any more.
    Release {
        /// The group.
        group: GroupId,
        /// The epoch in which the peer is in sync.
        epoch: Epoch,
    },
    /// Witness to agent.
    Answer(Answer),
}

/// A handover that an operator has ordered at a node which does not own the group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PassedOrder {
    /// The sender's number: the order is repeated under it until it is answered.
    pub request: u64,
    /// The group.
    pub group: GroupId,
    /// Who shall own it.
    pub to: NodeId,
    /// The epoch that the operator, or the sender, saw: in any other the order is void, so it is done once at most.
    pub epoch: Epoch,
    /// Though connections of which nobody holds a copy are lost by it.
    pub force: bool,
}

/// A sign of life that carries everything an owner and its peer must agree on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Heartbeat {
    /// Counts this sender's heartbeats to this receiver's node.
    pub sequence: u64,
    /// Send time on the sender's clock.
    pub sent: Instant,
    /// Newest send time that the sender has seen from the receiver.
    pub echo: Instant,
    /// Whether the sender's cores make progress.
    pub core_ok: bool,
    /// Whether an operator wants it to own nothing: nobody designates it.
    pub draining: bool,
    /// How many it has, by which owner and peer deal their flows out.
    pub cores: u8,
    /// The sender's hardware address on the cluster's data link.
    pub mac: [u8; 6],
    /// How the sender reaches its clients.
    pub path: Health,
    /// What the sender knows, group by group.
    pub entries: Vec<Entry>,
}

/// One group in a heartbeat.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The group.
    pub group: GroupId,
    /// What the sender is for it.
    pub role: Role,
    /// The newest register that the sender has read or been told.
    pub register: Register,
    /// The lease that the sender asks of the receiver, counted from `sent`.
    pub renew: Option<Duration>,
    /// Whether the sender, as owner, holds a lease.
    pub has_lease: bool,
}

/// What a node is for a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub enum Role {
    /// Nothing.
    #[default]
    Idle = 0,
    /// It serves the group, as long as it holds a lease.
    Owner = 1,
    /// It is being given the copies.
    Filling = 2,
    /// It holds the copies and is the lessor.
    Peer = 3,
}

/// Renewals granted; each lease runs from the echoed send time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RenewGrant {
    /// The send time of the heartbeat that asked.
    pub sent: Instant,
    /// The groups granted.
    pub grants: Vec<Grant>,
}

/// One group in a grant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Grant {
    /// The group.
    pub group: GroupId,
    /// The epoch for which it is granted.
    pub epoch: Epoch,
    /// The length that was asked for.
    pub lease: Duration,
}

/// A compare-and-swap on a register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChangeRequest {
    /// The group.
    pub group: GroupId,
    /// The epoch that the register must have.
    pub expected: Epoch,
    /// Counts this life's requests, so that a repeated one is answered alike and done once.
    pub request: u64,
    /// The step.
    pub change: Change,
    /// Send time of this very datagram on the sender's clock.
    pub sent: Instant,
    /// The lease that the sender counts from there if the step makes it owner alone.
    pub lease: Duration,
}

/// What the witness answers to everything.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answer {
    /// The group; meaningless in the answer to a hello.
    pub group: GroupId,
    /// The request that is answered; zero if it had none. With [`Verdict::Ticket`], the ticket.
    pub request: u64,
    /// What became of it.
    pub verdict: Verdict,
    /// The register as it stands in the store; absent if the witness does not know it.
    pub register: Option<Register>,
    /// Set if the arbiter's promise runs: the lease counts from this echoed send time.
    pub leased: Option<(Instant, Duration)>,
    /// With [`Refusal::NotYet`], how long to wait.
    pub wait: Duration,
}

/// What became of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Read, or registered.
    Noted,
    /// Not registered yet: say hello again with this ticket.
    Ticket,
    /// The change is durable, or the lease renewed.
    Done,
    /// Not done, and this request never will be. Except [`Refusal::NotRegistered`], and [`Refusal::OtherLife`]: that tells of what
    /// was said to a former life, and the same may have been said to this one.
    Refused(Refusal),
    /// The store is empty, unreadable or older than what the asker knows.
    Unknown,
}

/// Why a datagram was dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Drop {
    /// It ends in the middle of a field.
    Truncated,
    /// It is no datagram of this protocol.
    BadMagic,
    /// It speaks another version of the format.
    BadVersion,
    /// It belongs to another cluster.
    OtherCluster,
    /// Its kind is not known.
    UnknownKind,
    /// A field has no meaning.
    BadField,
    /// Something follows the message.
    TrailingBytes,
    /// It is meant for another node or another life of this one.
    NotForMe,
    /// Its sender is not in the configuration, or is a former life of a node.
    UnknownSender,
    /// A kind that this receiver does not take.
    Unexpected,
    /// A surrender that was heard before.
    Surrendered,
    /// A surrender of a life that has spoken since.
    Refuted,
    /// Its sender is not the life that is known, and has yet to prove that it lives now.
    Unproven,
    /// It is about a group that is not configured here (yet, or any more), or an entry of it is.
    UnknownGroup,
}

impl Drop {
    /// How many reasons there are.
    pub const COUNT: usize = 14;

    /// All of them, in their order.
    pub const ALL: [Drop; Drop::COUNT] = [
        Drop::Truncated,
        Drop::BadMagic,
        Drop::BadVersion,
        Drop::OtherCluster,
        Drop::UnknownKind,
        Drop::BadField,
        Drop::TrailingBytes,
        Drop::NotForMe,
        Drop::UnknownSender,
        Drop::Unexpected,
        Drop::Surrendered,
        Drop::Refuted,
        Drop::Unproven,
        Drop::UnknownGroup,
    ];

    /// Its name among the counters.
    pub fn key(self) -> &'static str {
        match self {
            Drop::Truncated => "truncated",
            Drop::BadMagic => "bad_magic",
            Drop::BadVersion => "bad_version",
            Drop::OtherCluster => "other_cluster",
            Drop::UnknownKind => "unknown_kind",
            Drop::BadField => "bad_field",
            Drop::TrailingBytes => "trailing_bytes",
            Drop::NotForMe => "not_for_me",
            Drop::UnknownSender => "unknown_sender",
            Drop::Unexpected => "unexpected",
            Drop::Surrendered => "surrendered",
            Drop::Refuted => "refuted",
            Drop::Unproven => "unproven",
            Drop::UnknownGroup => "unknown_group",
        }
    }
}

impl Header {
    /// Whether it is meant for `me`.
    pub fn is_for(&self, me: Member) -> bool {
        let to = self.to;
        to.node == me.node && (to.incarnation.0 == 0 || to.incarnation == me.incarnation)
    }
}

/// Whichever life of `node` there is.
pub fn any_life(node: NodeId) -> Member {
    Member { node, incarnation: Incarnation(0) }
}

/// The datagram that carries `message`.
pub fn encode(header: Header, message: &Message) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.bytes(&MAGIC);
    writer.u8(VERSION);
    writer.u64(header.cluster);
    writer.member(header.from);
    writer.member(header.to);
    message.write(&mut writer);
    writer.0
}

/// The message in a datagram.
///
/// Errors: the reason to drop it. Never panics, whatever the bytes are.
pub fn decode(bytes: &[u8]) -> Result<(Header, Message), Drop> {
    let mut reader = Reader::new(bytes);
    let header = read_header(&mut reader)?;
    let message = Message::read(&mut reader)?;
    reader.finish()?;
    Ok((header, message))
}

/// Who speaks to whom in a datagram; the message is not looked at.
pub fn header(bytes: &[u8]) -> Result<Header, Drop> {
    read_header(&mut Reader::new(bytes))
}

fn read_header(reader: &mut Reader) -> Result<Header, Drop> {
    if reader.array()? != MAGIC {
        return Err(Drop::BadMagic);
    }
    if reader.u8()? != VERSION {
        return Err(Drop::BadVersion);
    }
    Ok(Header { cluster: reader.u64()?, from: reader.member()?, to: reader.member()? })
}

#[cfg(test)]
mod tests;
