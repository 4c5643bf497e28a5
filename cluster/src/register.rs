//! The one durable record per group that says who is owner and who is peer.
//!
//! A register changes by compare-and-swap only, and only along the rows of [`Register::apply`]: one
//! total function from (register, change, asker, evidence) to the next register or a refusal. Its
//! whole matrix is stored beside this file and compared by a test. Who keeps the register (a
//! witness, or the configured survivor) decides whether the *moment* is right; this file decides
//! whether the *step* is one.
//!
//! ```text
//! never written -> alone -> filling -> in sync
//! in sync -> TakeOver, Alone -> alone; Swap -> in sync; filling -> Alone -> alone
//! open -> Close -> closed (any of the above) -> Retire -> over -> Create -> alone, open
//! open, its service gone -> Retire -> over
//! ```
//!
//! Bounds: none, a register is a plain value of 48 bytes.

use crate::id::{Epoch, Member};
use core::fmt;

/// Who owns a group and who holds its copies. Epoch zero is "never written".
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Register {
    /// Version; every change adds one.
    pub epoch: Epoch,
    /// Who may serve the group, as long as it holds a lease.
    pub owner: Member,
    /// Who holds, or is being given, the copies.
    pub peer: Option<Member>,
    /// Whether the peer holds every copy, and so may take over and is the lessor.
    pub in_sync: bool,
    /// Whether flows begin in the group, go on in it, or there are none.
    pub phase: Phase,
}

/// What becomes of a group in the end (`GENERATIONS.md`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Phase {
    /// Flows begin in it.
    #[default]
    Open,
    /// No flow begins in it any more, whoever owns it; those that it has go on.
    Closed,
    /// It has no flows and no owner until it is created again; the epoch goes on where it was.
    Over,
}

/// A step of a register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// The asker becomes the first owner of a group that was never written, or is over.
    Create,
    /// The owner goes on without its peer.
    Alone,
    /// The in-sync peer becomes the owner.
    TakeOver,
    /// The owner, alone, names a node to be filled.
    AddPeer(Member),
    /// The owner declares that the peer, named again, holds everything.
    InSync(Member),
    /// The owner and its in-sync peer change places.
    Swap,
    /// The asker owns the group from an empty state, because all who held its flows are dead.
    Fresh,
    /// The owner, whose peer is in sync, lets no flow begin in the group any more.
    Close,
    /// The owner gives a group up whose last flow has ended: it is closed, or its service is not configured any more.
    Retire,
}

/// What the keeper of the register knows about the death of those named in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Evidence {
    /// The owner is dead or has no lease and can get none.
    pub owner_dead: bool,
    /// The peer is dead or has let its right to take over go by.
    pub peer_dead: bool,
}

/// Why a change was not made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Refusal {
    /// The register was written before.
    AlreadyWritten = 1,
    /// The register was never written.
    NeverWritten = 2,
    /// Only the owner may ask for this.
    NotOwner = 3,
    /// Only the peer that the register names may ask for this, or be named in it.
    NotPeer = 4,
    /// The peer is not in sync.
    NotInSync = 5,
    /// The peer is in sync already.
    AlreadyInSync = 6,
    /// There is a peer already.
    HasPeer = 7,
    /// There is no peer.
    NoPeer = 8,
    /// A node cannot hold the copies of its own flows.
    SameNode = 9,
    /// The asker is the owner.
    StillOwner = 10,
    /// Somebody who holds the flows is not known to be dead.
    NotDead = 11,
    /// The expected epoch is not the register's.
    Stale = 12,
    /// A promise given to the owner is still running: ask again after the stated wait.
    NotYet = 13,
    /// The asker has not said hello to this life of the witness.
    NotRegistered = 14,
    /// A later life of the asker's node is registered.
    Superseded = 15,
    /// The request was meant for another life of the witness and will never be carried out.
    OtherLife = 16,
    /// The request is older than one already answered.
    Old = 17,
    /// A declared limit is reached (groups, length of a lease).
    Limit = 18,
    /// The group has ended.
    Over = 19,
    /// The group is closed already.
    AlreadyClosed = 20,
    /// The life named as peer has not said hello to the witness, which could not tell its death from its absence.
    PeerUnregistered = 22,
}

impl Register {
    /// The register of a group of which nobody has ever been the owner.
    pub const NEVER: Register = Register {
        epoch: Epoch(0),
        owner: Member { node: crate::id::NodeId(0), incarnation: crate::id::Incarnation(0) },
        peer: None,
        in_sync: false,
        phase: Phase::Open,
    };

    /// Whether anybody has ever been the owner.
    pub const fn is_written(&self) -> bool {
        self.epoch.0 != 0
    }

    /// Whether somebody owns it.
    pub fn is_live(&self) -> bool {
        self.is_written() && self.phase != Phase::Over
    }

    /// The peer if it is in sync: the lessor of this epoch.
    pub fn in_sync_peer(&self) -> Option<Member> {
        if self.in_sync { self.peer } else { None }
    }

    /// Whether `life` is its owner or its peer, as long as there is something to own.
    pub fn names(&self, life: Member) -> bool {
        self.is_live() && (self.owner == life || self.peer == Some(life))
    }

    /// The register after `change`, asked for by `asker`.
    ///
    /// Errors: the refusal that names the rule. Never panics, whatever the register holds.
    pub fn apply(
        self,
        change: Change,
        asker: Member,
        evidence: Evidence,
    ) -> Result<Register, Refusal> {
        match change {
            Change::Create if !self.is_live() => {
                Ok(Register { phase: Phase::Open, ..self.step(asker, None, false) })
            }
            Change::Create => Err(Refusal::AlreadyWritten),
            _ if !self.is_written() => Err(Refusal::NeverWritten),
            _ if !self.is_live() => Err(Refusal::Over),
            Change::TakeOver => self.take_over(asker),
            Change::Fresh => self.fresh(asker, evidence),
            _ if asker != self.owner => Err(Refusal::NotOwner),
            Change::AddPeer(peer) => match self.peer {
                Some(_) => Err(Refusal::HasPeer),
                None if peer.node == self.owner.node => Err(Refusal::SameNode),
                None => Ok(self.step(self.owner, Some(peer), false)),
            },
            Change::Alone | Change::InSync(_) | Change::Swap => self.with_peer(change),
            Change::Close if self.phase == Phase::Closed => Err(Refusal::AlreadyClosed),
            Change::Close if !self.in_sync => Err(Refusal::NotInSync),
            Change::Close => {
                let next = self.step(self.owner, self.peer, self.in_sync);
                Ok(Register { phase: Phase::Closed, ..next })
            }
            Change::Retire => {
                Ok(Register { phase: Phase::Over, ..self.step(self.owner, None, false) })
            }
        }
    }

    /// Changes that the owner may ask for only while it has a peer.
    fn with_peer(self, change: Change) -> Result<Register, Refusal> {
        let peer = self.peer.ok_or(Refusal::NoPeer)?;
        match change {
            Change::InSync(named) if named != peer => Err(Refusal::NotPeer),
            Change::InSync(_) if self.in_sync => Err(Refusal::AlreadyInSync),
            Change::InSync(_) => Ok(self.step(self.owner, Some(peer), true)),
            Change::Swap if !self.in_sync => Err(Refusal::NotInSync),
            Change::Swap => Ok(self.step(peer, Some(self.owner), true)),
            _ => Ok(self.step(self.owner, None, false)),
        }
    }

    fn take_over(self, asker: Member) -> Result<Register, Refusal> {
        match self.peer {
            None => Err(Refusal::NoPeer),
            Some(peer) if peer != asker => Err(Refusal::NotPeer),
            Some(_) if !self.in_sync => Err(Refusal::NotInSync),
            Some(peer) => Ok(self.step(peer, None, false)),
        }
    }

    fn fresh(self, asker: Member, evidence: Evidence) -> Result<Register, Refusal> {
        if asker == self.owner {
            Err(Refusal::StillOwner)
        } else if !evidence.owner_dead || (self.in_sync && !evidence.peer_dead) {
            Err(Refusal::NotDead)
        } else {
            Ok(self.step(asker, None, false))
        }
    }

    fn step(self, owner: Member, peer: Option<Member>, in_sync: bool) -> Register {
        Register { epoch: self.epoch.next(), owner, peer, in_sync, phase: self.phase }
    }
}

impl Refusal {
    /// The refusal with this code.
    pub fn from_code(code: u8) -> Option<Refusal> {
        Self::ALL.into_iter().find(|refusal| *refusal as u8 == code)
    }

    /// Every refusal, in the order of its code.
    pub const ALL: [Refusal; 21] = [
        Refusal::AlreadyWritten,
        Refusal::NeverWritten,
        Refusal::NotOwner,
        Refusal::NotPeer,
        Refusal::NotInSync,
        Refusal::AlreadyInSync,
        Refusal::HasPeer,
        Refusal::NoPeer,
        Refusal::SameNode,
        Refusal::StillOwner,
        Refusal::NotDead,
        Refusal::Stale,
        Refusal::NotYet,
        Refusal::NotRegistered,
        Refusal::Superseded,
        Refusal::OtherLife,
        Refusal::Old,
        Refusal::Limit,
        Refusal::Over,
        Refusal::AlreadyClosed,
        Refusal::PeerUnregistered,
    ];
}

impl fmt::Display for Register {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.is_written() {
            return f.write_str("never written");
        }
        if self.phase == Phase::Over {
            return write!(f, "epoch {}: over", self.epoch);
        }
        write!(f, "epoch {}: owner {}", self.epoch, self.owner.node)?;
        match self.peer {
            None => f.write_str(" alone"),
            Some(peer) if self.in_sync => write!(f, ", peer {} in sync", peer.node),
            Some(peer) => write!(f, ", peer {} filling", peer.node),
        }?;
        f.write_str(if self.phase == Phase::Closed { ", closed" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Incarnation, NodeId};
    use alloc::format;
    use alloc::string::String;

    const fn member(node: u8, incarnation: u64) -> Member {
        Member { node: NodeId(node), incarnation: Incarnation(incarnation) }
    }

    const OWNER: Member = member(1, 11);
    const PEER: Member = member(2, 21);
    const THIRD: Member = member(3, 31);

    fn shapes() -> [(&'static str, Register); 8] {
        let at =
            |phase, peer, in_sync| Register { epoch: Epoch(7), owner: OWNER, peer, in_sync, phase };
        [
            ("never", Register::NEVER),
            ("alone", at(Phase::Open, None, false)),
            ("filling", at(Phase::Open, Some(PEER), false)),
            ("in-sync", at(Phase::Open, Some(PEER), true)),
            ("closed, alone", at(Phase::Closed, None, false)),
            ("closed, filling", at(Phase::Closed, Some(PEER), false)),
            ("closed, in-sync", at(Phase::Closed, Some(PEER), true)),
            ("over", at(Phase::Over, None, false)),
        ]
    }

    #[test]
    fn the_matrix_is_as_stored() {
        let none = Evidence::default();
        let owner_dead = Evidence { owner_dead: true, peer_dead: false };
        let both_dead = Evidence { owner_dead: true, peer_dead: true };
        let changes = [
            ("create", Change::Create, none),
            ("alone", Change::Alone, none),
            ("take-over", Change::TakeOver, none),
            ("add-peer(third)", Change::AddPeer(THIRD), none),
            ("add-peer(own next life)", Change::AddPeer(member(1, 12)), none),
            ("in-sync(peer)", Change::InSync(PEER), none),
            ("in-sync(peer's next life)", Change::InSync(member(2, 22)), none),
            ("swap", Change::Swap, none),
            ("fresh", Change::Fresh, none),
            ("fresh, owner dead", Change::Fresh, owner_dead),
            ("fresh, both dead", Change::Fresh, both_dead),
            ("close", Change::Close, none),
            ("retire", Change::Retire, none),
        ];
        let askers = [
            ("owner", OWNER),
            ("owner's next life", member(1, 12)),
            ("peer", PEER),
            ("peer's next life", member(2, 22)),
            ("third", THIRD),
        ];
        let mut matrix = String::new();
        for (shape, register) in shapes() {
            for (name, change, evidence) in changes {
                for (who, asker) in askers {
                    let result = match register.apply(change, asker, evidence) {
                        Ok(next) => format!("{next}"),
                        Err(refusal) => format!("refused: {refusal:?}"),
                    };
                    matrix += &format!("{shape} + {name} by {who} -> {result}\n");
                }
            }
        }
        assert_eq!(matrix, include_str!("register.matrix"));
    }

    #[test]
    fn every_step_adds_one_to_the_epoch() {
        for (_, register) in shapes() {
            for asker in [OWNER, PEER, THIRD] {
                for change in [
                    Change::Create,
                    Change::Alone,
                    Change::TakeOver,
                    Change::Swap,
                    Change::Close,
                    Change::Retire,
                ] {
                    if let Ok(next) = register.apply(change, asker, Evidence::default()) {
                        assert_eq!(next.epoch, register.epoch.next());
                    }
                }
            }
        }
    }

    #[test]
    fn refusal_codes_round_trip() {
        for refusal in Refusal::ALL {
            assert_eq!(Refusal::from_code(refusal as u8), Some(refusal));
        }
        assert_eq!(Refusal::from_code(0), None);
    }
}
