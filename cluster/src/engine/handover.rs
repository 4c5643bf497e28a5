//! Handing a group over without a failure: freeze, change places, or thaw.
//!
//! ```text
//! old owner                                   new owner
//!   Freeze: no input, no output
//!   | last records, then `Frozen` in every lane |
//!   |------------------------------------------>|  copies equal what the owner serves
//!   |<------------------------------------------|  committed: Report::Frozen
//!            ... the register says that they have changed places ...
//!   Yield: what was served are copies           Assume: flows served, all Copied, op 1 of a new session
//!   |<------------------------------------------|
//! ```
//!
//! Why no fill is needed: a frozen group records nothing and changes no contract, and `Frozen` is reported when every
//! record is acknowledged; so both hold the same contracts, and whichever of the two orders is carried out first, the
//! other node's copies are those of the session's start. Why no clock has to jump: the `Frozen` record tells the group's
//! clock at a time when the old owner had nothing more to say, and the new owner's begins there or later.
//!
//! Bounds: one record for each lane.

use super::{Engine, Role};
use crate::engine::fill::Fill;
use crate::engine::lane::Lanes;
use crate::id::{Epoch, GroupId, Op};
use crate::mirror::RecordKind;
use crate::role::Report;
use stack::time::{Duration, Instant};

/// A group that is about to be handed over, or closed.
pub(super) struct Freeze {
    epoch: Epoch,
    attempt: u32,
    reported: bool,
    /// Its flows run on: no other may begin.
    runs: bool,
}

impl Engine {
    /// Takes no more input and says nothing more, until the outcome is known.
    pub(super) fn freeze(&mut self, now: Instant, group: GroupId, epoch: Epoch, attempt: u32) {
        let Some(index) = self.index_of(group) else { return };
        if self.groups[index].role != Role::Owner || self.logs.0[index].is_empty() {
            return;
        }
        self.end_freeze(now, index);
        self.stack.freeze(index as u8);
        self.groups[index].freeze = Some(Freeze { epoch, attempt, reported: false, runs: false });
    }

    /// Lets no flow begin until the outcome is known.
    pub(super) fn close(&mut self, now: Instant, group: GroupId, epoch: Epoch, attempt: u32) {
        let Some(index) = self.index_of(group) else { return };
        if self.groups[index].role != Role::Owner || self.logs.0[index].is_empty() {
            return;
        }
        self.end_freeze(now, index);
        self.stack.set_closed(index as u8, true);
        // What was recorded so far names every flow that there is.
        self.logs.0[index].iter_mut().for_each(|lane| lane.frozen = Some(lane.log.last()));
        self.groups[index].freeze = Some(Freeze { epoch, attempt, reported: false, runs: true });
    }

    /// Nothing comes of it: the group is served on.
    pub(super) fn thaw(&mut self, now: Instant, group: GroupId) {
        if let Some(index) = self.index_of(group) {
            self.end_freeze(now, index);
        }
    }

    pub(super) fn end_freeze(&mut self, now: Instant, index: usize) {
        if let Some(freeze) = self.groups[index].freeze.take() {
            self.logs.0[index].iter_mut().for_each(|lane| lane.frozen = None);
            match freeze.runs {
                true => self.stack.set_closed(index as u8, false),
                false => self.stack.thaw(now, index as u8),
            }
        }
    }

    /// The register says that the group is closed: its flows run on, and nothing is thawed.
    pub(super) fn end_closing(&mut self, index: usize) {
        if self.groups[index].freeze.take_if(|freeze| freeze.runs).is_some() {
            self.logs.0[index].iter_mut().for_each(|lane| lane.frozen = None);
        }
    }

    pub(super) fn is_closing(&self, index: usize) -> bool {
        self.groups[index].freeze.as_ref().is_some_and(|freeze| freeze.runs)
    }

    /// Says in every lane that nothing follows, and reports when the peer holds that.
    pub(super) fn freeze_some(&mut self, now: Instant, index: usize) {
        let clock = self.stack.group(index as u8).clock(now);
        let decided = self.stack.roster(index as u8).changes();
        let lanes = &mut self.logs.0[index];
        for lane in lanes.iter_mut().filter(|lane| lane.frozen.is_none() && lane.told == decided) {
            if lane.log.room(0, true).is_some() {
                let word = clock.0.to_le_bytes();
                let op = lane.log.note(RecordKind::Frozen, Default::default(), &word, None);
                lane.frozen = Some(op);
            }
        }
        let (is_frozen, is_closed) = (lanes.are_frozen(), lanes.have_passed());
        let state = &mut self.groups[index];
        let Some(freeze) = state.freeze.as_mut().filter(|freeze| !freeze.reported) else { return };
        // What a change of role has not reached has yet to become what is handed over.
        let is_done = if freeze.runs { is_closed } else { is_frozen };
        if is_done && !self.stack.is_turning() {
            freeze.reported = true;
            let report = Report::Frozen {
                group: state.id,
                epoch: freeze.epoch,
                core: self.stack.place().core,
                attempt: freeze.attempt,
                flows: self.stack.group(index as u8).flows(),
                absent: self.stack.absent(index as u8),
            };
            self.report(report);
        }
    }

    /// Whether a word that nothing follows has still to be said.
    pub(super) fn is_freezing(&self, index: usize) -> bool {
        let mut lanes = self.logs.0[index].iter();
        self.groups[index].freeze.is_some() && lanes.any(|lane| lane.frozen.is_none())
    }

    /// Serves the copies of a frozen owner, which holds the same ones.
    pub(super) fn assume(&mut self, now: Instant, group: GroupId, epoch: Epoch) {
        let Some(index) = self.index_of(group) else { return };
        let state = &mut self.groups[index];
        let partner = state.partner;
        let is_frozen = !state.backups.is_empty() && state.backups.iter().all(|b| b.is_frozen());
        let Some(partner) = partner.filter(|_| is_frozen) else {
            // The register says what the other node's log does not. Its flows are carried on as if it had died, and
            // copied anew.
            self.promote(now, group, epoch, CLOCK_JUMP);
            if let Some(partner) = partner {
                self.mirror(now, group, epoch, partner);
            }
            return;
        };
        self.promote(now, group, epoch, Duration::ZERO);
        self.logs.0[index] = self.lanes(index, epoch, partner);
        self.logs.0[index].iter_mut().for_each(|lane| lane.filled = Some(Op(0)));
        self.stack.attach_all(index as u8);
        let state = &mut self.groups[index];
        (state.partner, state.digest_at, state.stalled) = (Some(partner), now, false);
        state.fill = Some(Fill::complete(epoch, partner.0));
    }

    /// The frozen owner is the peer now: what it served are its copies, under a session of the new epoch.
    pub(super) fn yield_up(&mut self, now: Instant, group: GroupId, epoch: Epoch) {
        let Some(index) = self.index_of(group) else { return };
        let state = &self.groups[index];
        let is_reported = state.freeze.as_ref().is_some_and(|freeze| freeze.reported);
        assert!(
            is_reported && self.logs.0[index].are_frozen(),
            "only what is frozen is handed over"
        );
        let partner = state.partner.expect("a mirrored group has a peer");
        let clock = self.stack.group(index as u8).clock(now);
        self.stack.demote(index as u8);
        let mut backups = self.backups(index, epoch, partner);
        backups.iter_mut().for_each(|backup| backup.inherit(now, clock));
        self.logs.0[index] = Lanes::none();
        let state = &mut self.groups[index];
        (state.role, state.epoch, state.backups) = (Role::Peer, epoch, backups);
        (state.fill, state.freeze, state.in_sync) = (None, None, true);
    }
}

/// TSval of flows whose owner did not say that it was frozen: far beyond what it may have said.
const CLOCK_JUMP: Duration = Duration::from_secs(2);
