//! What the stack of one core knows of a group, and what its node is to it.

use super::speak::{Announcing, Conflict};
use super::turnover::Eras;
use crate::drop::Drop;
use crate::flow::{Flow, Standing};
use crate::time::Instant;
use crate::wire::Mac;

/// What this node is to a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    /// Nothing.
    #[default]
    Off,
    /// Its owner: the stack answers for its addresses.
    Serving,
    /// Its owner, about to hand it over: nothing comes in, nothing is said, no contract changes.
    Frozen,
    /// Its peer: the stack holds copies and is silent.
    Silent,
}

/// What the stack knows of a group.
#[derive(Clone, Debug, Default)]
pub struct Group {
    /// What this node is to it.
    pub mode: Mode,
    /// This node has no lease: no frame is produced, the flows wait.
    pub is_mute: bool,
    /// New flows are recorded.
    pub is_mirrored: bool,
    /// Added to this node's clock, this is the group's.
    pub clock_offset: u64,
    /// How far the announcement of the addresses is, since they were taken over.
    pub(super) announcing: Option<Announcing>,
    /// Until then a client may have been told of a connection by a cookie alone, and its later segments come first.
    pub(super) cookies_until: Instant,
    /// Claims of others are not answered by announcements before then.
    pub(super) defend_at: Instant,
    /// Until then timers may have been set by other settings than those of now.
    pub(super) rearm_until: Instant,
    /// The last claim of somebody else.
    pub(super) conflict: Option<Conflict>,
    pub(super) flows: u32,
    pub(super) copied: u32,
    pub(super) eras: Eras,
    /// The hardware address that it speaks from.
    pub(super) mac: Mac,
    /// The generation of its service to which whoever has no flow belongs; itself, unless it was left behind.
    pub(super) newest: u8,
    /// No flow begins in it: newcomers wait until the next generation has an owner.
    pub(super) is_closed: bool,
    /// Whoever has no flow here may have one in that generation: only its owner knows.
    pub(super) asked: Option<u8>,
    /// Its service is not configured any more: no flow begins in it, and whoever asks is answered by RST.
    pub(super) is_leaving: bool,
}

impl Group {
    /// The group's clock.
    #[inline]
    pub fn clock(&self, now: Instant) -> Instant {
        Instant(now.0.wrapping_add(self.clock_offset))
    }

    /// Why a frame for a group that is not served here is dropped.
    pub(super) fn refusal(&self) -> Drop {
        if self.mode == Mode::Frozen { Drop::Frozen } else { Drop::NotOwner }
    }

    /// The last claim of somebody else to one of the group's addresses.
    pub fn conflict(&self) -> Option<Conflict> {
        self.conflict
    }

    /// Whether a flow is among those that the peer holds. One that has not been brought up is what the change of role has
    /// made of all.
    pub(super) fn counts_as_copied(&self, flow: &Flow) -> bool {
        let is_behind = flow.era != self.eras.present;
        if is_behind { self.eras.inherited } else { flow.standing == Standing::Copied }
    }

    /// Flows of the group on this core.
    pub fn flows(&self) -> u32 {
        self.flows
    }

    /// Flows of the group that the peer holds or will hold.
    pub fn copied(&self) -> u32 {
        self.copied
    }
}
