//! What a core is to each group: orders of the agent that make it owner, peer or nothing, and what it reports of them.
//!
//! Handover, generations and routes have files of their own.

use super::fill::Fill;
use super::lane::Lanes;
use super::{Engine, Role};
use crate::backup::Backup;
use crate::id::{Epoch, GroupId, Member};
use crate::mirror::Session;
use crate::role::{Command, Report};
use alloc::vec::Vec;
use stack::shard::Place;
use stack::stack::Mode;
use stack::time::{Duration, Instant};

impl Engine {
    /// Carries out an order of the agent.
    pub fn handle_command(&mut self, now: Instant, command: Command) {
        self.tend_at = Instant::ZERO;
        match command {
            Command::Serve { group, epoch } => self.serve(now, group, epoch),
            Command::Promote { group, epoch, clock_jump } => {
                self.promote(now, group, epoch, clock_jump);
                if let Some(index) = self.index_of(group) {
                    self.use_heard(now, index);
                }
            }
            Command::Mirror { group, epoch, peer, peer_cores } => {
                self.mirror(now, group, epoch, (peer, peer_cores));
            }
            Command::Alone { group, epoch } => self.alone(now, group, epoch),
            Command::Follow { group, epoch, owner, owner_cores } => {
                self.follow(now, group, epoch, (owner, owner_cores));
            }
            Command::Protected { group, epoch } | Command::FollowInSync { group, epoch } => {
                if let Some(index) = self.index_of(group) {
                    let state = &mut self.groups[index];
                    (state.epoch, state.in_sync) = (epoch, state.role == Role::Peer);
                }
            }
            Command::Freeze { group, epoch, attempt } => {
                self.freeze(now, group, epoch, attempt);
            }
            Command::Close { group, epoch, attempt } => self.close(now, group, epoch, attempt),
            Command::Newcomers { group, are_taken, is_shared } => {
                self.set_newcomers(now, group, are_taken, is_shared);
            }
            Command::Thaw { group } => self.thaw(now, group),
            Command::Assume { group, epoch } => self.assume(now, group, epoch),
            Command::Yield { group, epoch } => self.yield_up(now, group, epoch),
            Command::Route { group, epoch, to, cores } => self.set_route(group, epoch, to, cores),
            Command::Stop { group } => self.stop(now, group),
        }
        self.note_shared();
        self.resettle(now);
    }

    pub(super) fn index_of(&self, group: GroupId) -> Option<usize> {
        self.groups.iter().position(|known| known.id == group)
    }

    fn serve(&mut self, now: Instant, group: GroupId, epoch: Epoch) {
        let Some(index) = self.index_of(group) else { return };
        self.clear(now, index);
        let clock = Instant(now.0.wrapping_add(self.wall_offset));
        // What the other generation has told its clients, cookies among them, stays in the past.
        let clock = self.clock_of_sibling(now, index).map_or(clock, |other| clock.max(other));
        self.stack.set_clock(now, index as u8, clock);
        self.stack.set_mode(now, index as u8, Mode::Serving);
        let state = &mut self.groups[index];
        (state.role, state.epoch, state.owned_from) = (Role::Owner, epoch, epoch);
        state.route = None;
    }

    pub(super) fn promote(
        &mut self,
        now: Instant,
        group: GroupId,
        epoch: Epoch,
        clock_jump: Duration,
    ) {
        let Some(index) = self.index_of(group) else { return };
        let core = self.stack.place().core;
        let backups = core::mem::take(&mut self.groups[index].backups);
        // Each core of the owner has told its own clock: none of them may go back.
        let Some(clock) = backups.iter().map(|backup| backup.clock(now)).max() else {
            // Without copies there is nothing to carry on, but the service must be served: whoever held a
            // connection is answered by RST.
            self.serve(now, group, epoch);
            let report = Report::Promoted { group, epoch, core, flows: 0, apply: Duration::ZERO };
            return self.report(report);
        };
        // What lies beyond a gap was never acknowledged; it is thrown away with the backups.
        self.stack.set_clock(now, index as u8, clock + clock_jump);
        let flows = self.stack.promote(now, index as u8);
        let state = &mut self.groups[index];
        (state.role, state.epoch, state.owned_from) = (Role::Owner, epoch, epoch);
        (state.partner, state.route, state.in_sync) = (None, None, false);
        self.report(Report::Promoted { group, epoch, core, flows, apply: Duration::ZERO });
    }

    pub(super) fn mirror(
        &mut self,
        now: Instant,
        group: GroupId,
        epoch: Epoch,
        peer: (Member, u8),
    ) {
        let Some(index) = self.index_of(group) else { return };
        if self.groups[index].role != Role::Owner {
            return;
        }
        self.stack.detach(index as u8);
        self.end_freeze(now, index);
        self.logs.0[index] = self.lanes(index, epoch, peer);
        self.stack.set_mirrored(index as u8, true);
        let state = &mut self.groups[index];
        (state.epoch, state.partner) = (epoch, Some(peer));
        (state.digest_at, state.stalled) = (now, false);
        state.fill = Some(Fill::new(epoch, peer.0));
    }

    /// Empty logs towards each core of `peer` that shares flows with this one.
    pub(super) fn lanes(&self, index: usize, epoch: Epoch, peer: (Member, u8)) -> Lanes {
        let place = self.stack.place();
        let session = Session {
            cluster: self.cluster,
            group: self.groups[index].id,
            epoch,
            from: self.member,
            from_core: place.core,
            to: peer.0,
            to_core: 0,
        };
        let offset = self.stack.group(index as u8).clock_offset;
        Lanes::new(session, place, peer, (self.datagram_bytes, offset))
    }

    fn alone(&mut self, now: Instant, group: GroupId, epoch: Epoch) {
        let Some(index) = self.index_of(group) else { return };
        if self.groups[index].role != Role::Owner {
            return;
        }
        self.logs.0[index] = Lanes::none();
        let state = &mut self.groups[index];
        (state.fill, state.partner, state.epoch) = (None, None, epoch);
        self.stack.detach(index as u8);
        self.end_freeze(now, index);
    }

    fn follow(&mut self, now: Instant, group: GroupId, epoch: Epoch, (owner, cores): (Member, u8)) {
        let Some(index) = self.index_of(group) else { return };
        self.clear(now, index);
        let backups = self.backups(index, epoch, (owner, cores));
        self.stack.set_mode(now, index as u8, Mode::Silent);
        let state = &mut self.groups[index];
        (state.role, state.epoch, state.backups) = (Role::Peer, epoch, backups);
        state.partner = Some((owner, cores));
        state.heard_bytes = 0;
    }

    /// Empty copies from each core of `owner` that shares flows with this one.
    pub(super) fn backups(
        &self,
        index: usize,
        epoch: Epoch,
        (owner, cores): (Member, u8),
    ) -> Vec<Backup> {
        let (group, place) = (self.groups[index].id, self.stack.place());
        let shares = |&core: &u8| place.shares_with(Place { core, cores });
        let from_cores: Vec<u8> = (0..cores).filter(shares).collect();
        let backup = |from_core| {
            let session = Session {
                cluster: self.cluster,
                group,
                epoch,
                from: owner,
                from_core,
                to: self.member,
                to_core: place.core,
            };
            Backup::new(session, index as u8, self.datagram_bytes)
        };
        from_cores.into_iter().map(backup).collect()
    }

    fn stop(&mut self, now: Instant, group: GroupId) {
        if let Some(index) = self.index_of(group) {
            self.clear(now, index);
        }
    }

    /// Forgets everything about a group.
    pub(super) fn clear(&mut self, now: Instant, index: usize) {
        self.logs.0[index] = Lanes::none();
        let state = &mut self.groups[index];
        (state.role, state.fill, state.freeze, state.partner) = (Role::Idle, None, None, None);
        state.in_sync = false;
        state.backups.clear();
        self.stack.set_mode(now, index as u8, Mode::Off);
    }

    pub(super) fn report(&mut self, report: Report) {
        self.reports.push_back(report);
    }

    /// The next thing to tell the agent.
    pub fn poll_report(&mut self) -> Option<Report> {
        self.reports.pop_front()
    }
}
