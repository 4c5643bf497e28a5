//! What an agent knows and has been told about one group.

use super::{GroupConfig, REASONS_MAX};
use crate::agent::ask::Ask;
use crate::agent::declare::{Claim, Declared};
use crate::agent::generation::Newcomers;
use crate::agent::handover::{Cause, Failure, Handed, Handover};
use crate::gather::Gather;
use crate::id::{Epoch, Member, NodeId};
use crate::lease::Lease;
use crate::limits::{SHUNNED_FOR, UNREGISTERED_FOR};
use crate::message::Role;
use crate::message::advertise::Unfit;
use crate::message::state::Counts;
use crate::register::{Change, Refusal, Register};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use stack::time::{Duration, Instant};

/// One group on this node.
#[derive(Debug)]
pub(super) struct Group {
    pub config: GroupConfig,
    /// The newest register that was read or told.
    pub register: Register,
    /// Whether anybody who must know has said what the register is.
    pub known: bool,
    /// What the cores were told to be.
    pub role: Role,
    /// When the register became what it is, here (or was first confirmed).
    pub since: Instant,
    /// As owner: the right to transmit.
    pub lease: Lease,
    /// As owner with a peer in sync: its last grant.
    pub granted_at: Instant,
    /// When the owner was heard last with a lease.
    pub voiced_at: Instant,
    /// As peer in sync: when the owner of this epoch said last that it has a lease, on its clock, and for how long it asks.
    pub voiced: Option<(Instant, Duration)>,
    /// As lessor: the longest lease that was granted in this epoch.
    pub leased: Duration,
    /// The peer in sync of this epoch says that it does not hold the copies.
    pub is_forsaken: bool,
    /// As lessor: until when this node has sworn not to ask.
    pub promise: Instant,
    /// As lessor: when the owner last asked for a renewal.
    pub renewed_at: Instant,
    /// As lessor: since when the owner of this epoch says that it has no lease, whatever is granted.
    pub deaf_since: Option<(Epoch, Instant)>,
    /// While the other side is silent: when to ask next whether the witness is heard.
    pub doubt_at: Instant,
    /// The change that was asked for and whose outcome is not known.
    pub ask: Option<Ask>,
    /// Asks for nothing before then.
    pub ask_at: Instant,
    /// The cores are to mirror or to follow, and it is not known how many cores the other side has.
    pub awaits_cores: bool,
    /// Where the cores were told to send what clients say to this node: since which epoch, to whom, on how many cores.
    pub route: Option<(Epoch, Member, u8)>,
    /// The last peer that acknowledged nothing of what waited for it, and when that was told.
    pub stalled: Option<(Member, Instant)>,
    /// The node that was last refused as peer because the witness does not know its life, and when.
    pub passed_over: Option<(Member, Instant)>,
    /// Cores that reported the peer filled, in this epoch.
    pub filled: Gather,
    /// Connections of which these could make no copy.
    pub missing: u32,
    /// Cores that reported the group without flows, in this epoch.
    pub empty: Gather,
    /// In which attempt of its service to leave they have; zero: none.
    pub emptied: u32,
    /// What the cores know of the generations of its service.
    pub newcomers: Option<Newcomers>,
    /// When to read the register next.
    pub read_at: Instant,
    /// When to renew at the arbiter next.
    pub renew_at: Instant,
    /// The arbiter has to be told that its lease is no longer used; when next.
    pub release_at: Option<Instant>,
    /// No hint is given before then.
    pub hint_at: Instant,
    /// When to advertise next.
    pub advertise_at: Instant,
    /// When nodes that have declared nothing may be solicited next.
    pub solicit_at: Instant,
    /// When home lived last without knowing the service.
    pub awaited_at: Instant,
    /// The node that was last noted as knowing nothing of the service.
    pub unknown_there: Option<Member>,
    /// What each other node has declared.
    pub declared: Vec<Declared>,
    /// The last claim that contradicts the register.
    pub claim: Option<Claim>,
    /// What the cores count.
    pub counts: Counts,
    /// Copies that differed from their flows, in this life.
    pub differed: u64,
    pub takeover: Option<Takeover>,
    /// As owner: on the way to another.
    pub handover: Option<Handover>,
    /// The last one that this node made.
    pub handed: Option<Handed>,
    /// Attempts to freeze so far.
    pub attempt: u32,
    /// When the arbiter last confirmed the register as it is known here.
    pub sounded_at: Instant,
    /// When every core had frozen, the last time.
    pub committed_at: Instant,
    /// When a handover failed, the last time.
    pub failed_at: Instant,
    /// No handover is begun by itself before then.
    pub handover_at: Instant,
    pub reasons: VecDeque<Decision>,
}

/// The last takeover by this node, phase by phase. Times on this node's clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Takeover {
    /// The epoch that it made.
    pub epoch: Epoch,
    /// The owner's last renewal.
    pub silent_since: Instant,
    /// When the promise had run out and the change was asked for.
    pub asked: Instant,
    /// When the register said so.
    pub granted: Instant,
    /// The cores that are ready.
    pub promoted: Gather,
    /// Flows assumed, of all of these.
    pub flows: u32,
    /// The slowest core's time for applying the tail and rebuilding.
    pub apply: Duration,
}

/// One decision about ownership, for a later "why".
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Decision {
    /// When, on this node's clock; the last time if it was repeated.
    pub at: Instant,
    /// How often in a row.
    pub times: u32,
    /// Under which epoch.
    pub epoch: Epoch,
    /// What and why.
    pub reason: Reason,
}

/// What was decided.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// A newer register was learned: this node is now that.
    Became(Role),
    /// Asked because the group was never written and it is this node's turn.
    AskedFirst,
    /// The configuration was changed while the node runs.
    Reconfigured,
    /// The service has come into the configuration while the node runs.
    Arrived,
    /// The service is not configured any more: it takes no new connections, and goes when those that it has have ended.
    Leaves,
    /// It is configured again before it was gone.
    Stays,
    /// Did not begin to serve: this home lives, and its file does not name the service (yet, or any more).
    AwaitsHome(NodeId),
    /// This designated node lives and has no word of the service: its file does not name it yet.
    UnknownThere(NodeId),
    /// Asked because a designated peer is alive.
    AskedPeer(Member),
    /// Asked because every core reported the peer filled, but for so many connections that hold too much to be copied.
    AskedInSync(Member, u32),
    /// Asked to be alone because the peer granted nothing for that long.
    AskedAlone(Duration),
    /// Asked to be alone because the peer lives and acknowledges nothing of what it is sent.
    AskedAloneStalled(NodeId),
    /// Asked to be alone because the peer's node has a new life.
    AskedAloneNewLife(NodeId),
    /// Asked to take over because the owner's renewals stayed away for that long.
    AskedTakeOver(Duration),
    /// Owner or peer on this node has surrendered: what follows does not wait for its silence.
    Surrendered(NodeId),
    /// An operator has said that owner or peer on this node is dead, which counts like its surrender.
    Declared(NodeId),
    /// Asked to take over because the owner has surrendered.
    AskedTakeOverSurrendered,
    /// Asked to be alone because the peer has surrendered.
    AskedAloneSurrendered,
    /// Gave the copies up: there is no arbiter, and this owner, which has died, may have gone on alone before.
    CopiesStale(NodeId),
    /// Told this peer that its owner is silent here.
    GaveHint(NodeId),
    /// This node does not hear the owner either, or no more.
    Hinted(NodeId),
    /// Asked for a fresh start because nobody who held the flows seems to live.
    AskedFresh,
    /// The arbiter refused what was asked.
    Refused(Refusal),
    /// Did not go on alone: there is no arbiter, and the configuration names another survivor.
    NotSurvivor,
    /// Another life of this node is registered: this one is over.
    Superseded,
    /// A handover to this node was begun.
    Ordered(NodeId, Cause),
    /// Asked to be alone because this node, not the peer, is to own the group.
    AskedAloneForHandover(NodeId),
    /// Asked to change places with this peer: it holds everything, and the cores are frozen.
    AskedSwap(NodeId),
    /// This node owns the group now, and so many connections.
    HandedOver(NodeId, u32),
    /// This former owner has handed the group over.
    TookOverFrom(NodeId),
    /// This node is alive and designated, and was not made the peer for what it declares.
    RefusedPeer(NodeId, Unfit),
    /// Copies of this owner's connections differed from them, and are captured anew: a defect of this program.
    CopiesDiffered(NodeId),
    /// Asked to close the group: this home gets the new connections.
    AskedClose(NodeId),
    /// Asked for the next generation, because this one is closed.
    AskedNext,
    /// Asked to end the group: it is closed, and its last connection has ended.
    AskedRetire,
    /// Asked to end the group: its service is not configured any more, and its last connection has ended.
    AskedRetireLeft,
    /// Nothing came of a handover; the group is served on.
    HandoverFailed(Failure),
}

impl Reason {
    /// The same decision, whatever silence led to it.
    fn is_like(&self, other: &Reason) -> bool {
        match (self, other) {
            (Reason::AskedAlone(_), Reason::AskedAlone(_)) => true,
            (Reason::AskedTakeOver(_), Reason::AskedTakeOver(_)) => true,
            _ => self == other,
        }
    }
}

impl Group {
    pub fn new(now: Instant, config: GroupConfig, cores: u8) -> Group {
        Group {
            config,
            register: Register::NEVER,
            known: false,
            role: Role::Idle,
            since: now,
            lease: Lease::default(),
            granted_at: now,
            voiced_at: Instant::ZERO,
            voiced: None,
            leased: Duration::ZERO,
            is_forsaken: false,
            promise: Instant::ZERO,
            renewed_at: Instant::ZERO,
            deaf_since: None,
            doubt_at: Instant::ZERO,
            ask: None,
            ask_at: now,
            awaits_cores: false,
            route: None,
            stalled: None,
            passed_over: None,
            filled: Gather::new(cores),
            missing: 0,
            empty: Gather::new(cores),
            emptied: 0,
            newcomers: None,
            read_at: now,
            renew_at: now,
            release_at: None,
            hint_at: now,
            advertise_at: now,
            solicit_at: now,
            awaited_at: Instant::ZERO,
            unknown_there: None,
            declared: Vec::new(),
            claim: None,
            counts: Counts::default(),
            differed: 0,
            takeover: None,
            handover: None,
            handed: None,
            attempt: 0,
            sounded_at: Instant::ZERO,
            committed_at: Instant::ZERO,
            failed_at: Instant::ZERO,
            handover_at: now,
            reasons: VecDeque::new(),
        }
    }

    /// Whether a change is under way that forbids to renew, to grant and to transmit until its
    /// outcome is known: one that takes the voice from its lessor or from its owner.
    pub fn is_mute(&self) -> bool {
        match &self.ask {
            None => false,
            Some(ask) => match ask.change {
                Change::TakeOver | Change::Swap | Change::Fresh | Change::Create => true,
                Change::Retire => true,
                Change::Alone => self.register.in_sync,
                Change::AddPeer(_) | Change::InSync(_) | Change::Close => false,
            },
        }
    }

    /// Whether the peer has stalled since it became the peer.
    pub fn is_stalled(&self, peer: Member) -> bool {
        self.stalled.is_some_and(|(member, at)| member == peer && at >= self.since)
    }

    /// Whether this life was a peer that stalled, not long ago.
    pub fn shuns(&self, now: Instant, member: Member) -> bool {
        self.stalled.is_some_and(|(known, at)| known == member && now.since(at) < SHUNNED_FOR)
    }

    /// Whether the witness did not know this life, a moment ago.
    pub fn passes_over(&self, now: Instant, member: Member) -> bool {
        self.passed_over
            .is_some_and(|(known, at)| known == member && now.since(at) < UNREGISTERED_FOR)
    }

    /// The node's place in the order: home first. `None` if it is not designated.
    pub fn rank(&self, node: NodeId) -> Option<u64> {
        self.config.order().position(|designated| designated == node).map(|rank| rank as u64)
    }

    pub fn note(&mut self, at: Instant, reason: Reason) {
        let epoch = self.register.epoch;
        // An ask and its refusal take turns: such a pair is counted, not listed again and again.
        let mut latest = self.reasons.iter_mut().rev().take(2);
        if let Some(same) = latest.find(|last| last.epoch == epoch && last.reason.is_like(&reason))
        {
            same.at = at;
            same.times += 1;
            return;
        }
        if self.reasons.len() == REASONS_MAX {
            self.reasons.pop_front();
        }
        self.reasons.push_back(Decision { at, times: 1, epoch, reason });
    }
}
