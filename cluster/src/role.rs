//! What passes between a node's agent (who decides on roles) and its cores (who carry them out).
//!
//! The agent sends [`Command`]s to every core and receives [`Report`]s from each. A lease does not
//! travel here: it is published in an atomic that the core reads before every kick.

use crate::id::{Epoch, GroupId, Member};
use stack::time::Duration;

/// An order of the agent to a core. Orders for one group arrive in the order in which they were given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Command {
    /// Own the group from an empty state (first owner, or `fresh`), without a peer.
    Serve {
        /// The group.
        group: GroupId,
        /// The epoch of the register under which this node owns.
        epoch: Epoch,
    },
    /// Take the group over from its copies: apply each log's contiguous prefix, open the gate, kick.
    Promote {
        /// The group.
        group: GroupId,
        /// The epoch of the register under which this node owns.
        epoch: Epoch,
        /// How far TSval jumps: twice the lease and a second.
        clock_jump: Duration,
    },
    /// As owner, mirror to `peer` from now on and fill it.
    Mirror {
        /// The group.
        group: GroupId,
        /// The epoch of the register that names the peer.
        epoch: Epoch,
        /// Who holds the copies.
        peer: Member,
        /// On how many cores.
        peer_cores: u8,
    },
    /// As owner, the register now names the filled peer in sync (a new epoch, same peer).
    Protected {
        /// The group.
        group: GroupId,
        /// The epoch of the register that says so.
        epoch: Epoch,
    },
    /// As owner, there is no peer any more: everything recorded counts as committed.
    Alone {
        /// The group.
        group: GroupId,
        /// The epoch of the register that says so.
        epoch: Epoch,
    },
    /// Forget every flow of the group and hold copies for `owner` from now on.
    Follow {
        /// The group.
        group: GroupId,
        /// The epoch of the register that names this node as peer.
        epoch: Epoch,
        /// Who owns it.
        owner: Member,
        /// On how many cores.
        owner_cores: u8,
    },
    /// As peer, the register now names this node in sync (a new epoch, same copies).
    FollowInSync {
        /// The group.
        group: GroupId,
        /// The epoch of the register that says so.
        epoch: Epoch,
    },
    /// As owner, to hand the group over: take no input and say nothing from now on, and report when the peer holds
    /// every record.
    Freeze {
        /// The group.
        group: GroupId,
        /// The epoch of the register.
        epoch: Epoch,
        /// Which time it is tried; the report names it.
        attempt: u32,
    },
    /// As owner, let no flow begin in the group from now on, and report like a frozen core when the peer holds every
    /// record that was made before; what flows there are is served.
    Close {
        /// The group.
        group: GroupId,
        /// The epoch of the register.
        epoch: Epoch,
        /// Which time it is tried; the report names it.
        attempt: u32,
    },
    /// Which generation of its service whoever has no flow belongs to.
    Newcomers {
        /// The newest generation.
        group: GroupId,
        /// It is open; else they wait until the next one is.
        are_taken: bool,
        /// The other generation may have flows.
        is_shared: bool,
    },
    /// As owner, nothing comes of the handover, or of closing: serve on.
    Thaw {
        /// The group.
        group: GroupId,
    },
    /// As peer of a frozen owner, the register now says that the two have changed places: own the group, and mirror to
    /// the former owner, which holds every copy already.
    Assume {
        /// The group.
        group: GroupId,
        /// The epoch of the register that says so.
        epoch: Epoch,
    },
    /// As frozen owner, the register now says that the two have changed places: what was served are the copies.
    Yield {
        /// The group.
        group: GroupId,
        /// The epoch of the register that says so.
        epoch: Epoch,
    },
    /// Somebody else owns the group: what clients say to this node goes there; or, if the owner is silent, to the peer in
    /// sync. If that is this node, it is kept for a while.
    Route {
        /// The group.
        group: GroupId,
        /// The epoch of the register that names it.
        epoch: Epoch,
        /// To whom.
        to: Member,
        /// On how many cores.
        cores: u8,
    },
    /// Neither own nor follow the group: forget its flows, answer for nothing.
    Stop {
        /// The group.
        group: GroupId,
    },
}

/// What a core tells the agent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Report {
    /// Every flow of the group on this core that can be captured is held by `peer` (answer to [`Command::Mirror`]).
    Filled {
        /// The group.
        group: GroupId,
        /// The epoch of the `Mirror` command.
        epoch: Epoch,
        /// Which core.
        core: u8,
        /// Who holds the copies.
        peer: Member,
        /// Flows without a copy: they hold too much to be captured, and stand alone until they hold less.
        missing: u32,
    },
    /// The peer holds every record of this core that is frozen, or lets no flow begin (answer to [`Command::Freeze`] and
    /// [`Command::Close`]).
    Frozen {
        /// The group.
        group: GroupId,
        /// The epoch of the `Freeze` command.
        epoch: Epoch,
        /// Which core.
        core: u8,
        /// The attempt of the `Freeze` command.
        attempt: u32,
        /// Flows that are served here.
        flows: u32,
        /// Of these, flows of which the peer holds no copy: they would be lost.
        absent: u32,
    },
    /// This core has no flow of a closed group any more, or of one whose service leaves.
    Empty {
        /// The group.
        group: GroupId,
        /// The epoch of the last command.
        epoch: Epoch,
        /// Which core.
        core: u8,
        /// In which attempt to leave; zero: it is closed.
        attempt: u32,
    },
    /// Copies on this core differed from their flows: they were given up, and are captured anew.
    Differed {
        /// The group.
        group: GroupId,
        /// Whose flows they are copies of.
        owner: Member,
        /// How many.
        count: u64,
    },
    /// The peer has acknowledged nothing of what waits for it, for [`crate::limits::STALLED_AFTER`].
    Stalled {
        /// The group.
        group: GroupId,
        /// The peer.
        peer: Member,
    },
    /// The takeover of this core's flows is done (answer to [`Command::Promote`] and [`Command::Assume`]).
    Promoted {
        /// The group.
        group: GroupId,
        /// The epoch of the command.
        epoch: Epoch,
        /// Which core.
        core: u8,
        /// Flows assumed.
        flows: u32,
        /// Time spent applying the tail of the log and rebuilding local state.
        apply: Duration,
    },
}
