//! Frames that reached the wrong node are handed on to the right one.
//!
//! ```text
//! client -> node that does not own the group -- Frame (group, epoch) --> owner: handled like any other
//!             `-> frozen, or owner-to-be: held until it is known who owns next
//! ```
//!
//! One hop in each ownership: what was forwarded is handled, held or dropped, and never answered with RST. Only if the
//! owner that it was sent to has just handed the group over it goes on, under the next epoch, of who owns it now: so nothing
//! circles, and who speaks to a node that is about to own waits for no timer. (What was forwarded as a question, to the owner of an older generation, comes back as the answer if it has no flow there.) The
//! sender's epoch tells what to make of a frame: a higher one than this core has heard of means that it will own the
//! group in a moment, and so may, to the peer, the very one in force: then the sender does not hear the owner. One of
//! before that is of a time when somebody else's word may have come between. No promise hangs on a forwarded frame: if it
//! is lost, its client says it again.
//!
//! Bounds: those of the shelf; every drop has a counter ([`ForwardCounters`]).

use super::datagram::Road;
use super::shelf::ForwardCounters;
use super::{Engine, Group, Role};
use crate::id::{Epoch, GroupId, Member};
use crate::mirror::{FRAME_OFFSET, FramePart, Kind, Session, put_frame, put_header};
use stack::shard::Place;
use stack::stack::{Mode, Stray};
use stack::time::Instant;

/// Who serves a group that this node does not own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Route {
    epoch: Epoch,
    to: Member,
    cores: u8,
}

/// What becomes of a frame.
enum Fate {
    Handle,
    Hold,
    Send,
    Drop(fn(&mut ForwardCounters) -> &mut u64),
}

impl Engine {
    /// What became of frames that reached the wrong node.
    pub fn forward_counters(&self) -> ForwardCounters {
        self.shelf.counters
    }

    pub(super) fn set_route(&mut self, group: GroupId, epoch: Epoch, to: Member, cores: u8) {
        if let Some(index) = self.index_of(group) {
            self.groups[index].route = Some(Route { epoch, to, cores });
        }
    }

    /// Takes a frame of a client that this node does not serve, from its client or from another node.
    #[cold]
    pub(super) fn handle_stray(
        &mut self,
        now: Instant,
        stray: Stray,
        hopped: Option<Epoch>,
        frame: &[u8],
    ) {
        let (group, fate) = self.fate(stray, hopped);
        let stray = Stray { group, ..stray };
        if let Fate::Drop(counter) = fate {
            *counter(&mut self.shelf.counters) += 1;
            return;
        }
        if let (Fate::Send, None) = (&fate, hopped) {
            self.listen_along(now, frame);
        }
        let Some(kept) = self.shelf.keep(now, stray, hopped, frame) else { return };
        match fate {
            Fate::Send => self.shelf.send(kept.on_its_way()),
            _ => {
                self.shelf.counters.held += 1;
                self.shelf.hold(kept);
            }
        }
    }

    /// A client's frame leaves for the owner, of whose copies this node may be the heir. If the owner is dead, and it is not
    /// known yet, the frame is kept like one that was overheard.
    fn listen_along(&mut self, now: Instant, frame: &[u8]) {
        if let Some(heard) = self.stack.overhear(now, frame)
            && self.groups[usize::from(heard.group)].role == Role::Peer
        {
            self.note_heard(now, heard, frame);
        }
    }

    /// Whose a frame is by now, and what becomes of it.
    fn fate(&self, stray: Stray, hopped: Option<Epoch>) -> (u8, Fate) {
        let newest = self.stack.newest_of(stray.group);
        if !stray.is_newcomer {
            return (stray.group, self.fate_in(stray.group, hopped));
        }
        let is_closed = self.stack.is_closed(newest);
        let fate = match hopped {
            // Another generation is another group, whose epochs say nothing about this one's.
            Some(_) if newest != stray.group || is_closed => {
                Fate::Drop(|counters| &mut counters.second_hop)
            }
            None if is_closed && self.stack.group(newest).mode == Mode::Serving => Fate::Hold,
            hopped => self.fate_in(newest, hopped),
        };
        (newest, fate)
    }

    fn fate_in(&self, group: u8, hopped: Option<Epoch>) -> Fate {
        let state = &self.groups[group as usize];
        match hopped {
            _ if self.stack.group(group).mode == Mode::Serving => Fate::Handle,
            Some(epoch) if Engine::is_void(state, epoch) => {
                Fate::Drop(|counters| &mut counters.old_epoch)
            }
            _ if state.role == Role::Owner => Fate::Hold,
            // This core has not heard yet that it is the owner.
            Some(epoch) if epoch > state.epoch => Fate::Hold,
            // The sender does not hear the owner: this node may be it in a moment.
            Some(epoch) if state.role == Role::Peer && epoch == state.epoch => Fate::Hold,
            // It was for the owner just before: on to the one who came next, once that is known.
            Some(epoch) if state.route.is_some_and(|route| self.is_next(route, epoch)) => {
                Fate::Send
            }
            Some(epoch) if state.role == Role::Peer && epoch.next() == state.epoch => Fate::Hold,
            Some(_) => Fate::Drop(|counters| &mut counters.second_hop),
            None if state.route.is_some_and(|route| route.to != self.member) => Fate::Send,
            // This node may be the owner in a moment, or it will be told in a moment who owns the group, or nobody knows.
            None => Fate::Hold,
        }
    }

    /// Whether another node owns a group in the epoch after the one under which a frame was forwarded: nobody else's word
    /// can have come between.
    fn is_next(&self, route: Route, epoch: Epoch) -> bool {
        route.epoch == epoch.next() && route.to != self.member
    }

    /// Whether a frame was forwarded to this owner before it owned the group, or was the peer that the owner's silence
    /// left to be asked.
    fn is_void(state: &Group, epoch: Epoch) -> bool {
        state.role == Role::Owner && epoch.next() < state.owned_from
    }

    /// A role has changed: what is held may be handled now, or leave.
    pub(super) fn resettle(&mut self, now: Instant) {
        for _ in 0..self.shelf.held() {
            let Some(mut kept) = self.shelf.pop_held() else { return };
            let (group, fate) = self.fate(kept.stray, kept.hopped);
            kept.stray.group = group;
            match fate {
                Fate::Hold => self.shelf.hold(kept),
                Fate::Send => self.shelf.send(kept.on_its_way()),
                Fate::Drop(counter) => {
                    *counter(&mut self.shelf.counters) += 1;
                    self.shelf.release(kept);
                }
                Fate::Handle => {
                    let is_hop = kept.hopped.is_some();
                    let logs = &mut self.logs;
                    let stray = self.stack.handle_again(now, &kept.frame, is_hop, logs);
                    match stray.filter(|_| !is_hop) {
                        // It has turned out to be the other generation's.
                        Some(stray) => {
                            kept.stray = stray;
                            self.shelf.send(kept);
                        }
                        None => self.shelf.release(kept),
                    }
                }
            }
        }
    }

    /// Takes a frame, or a part of one, from another node.
    pub(super) fn handle_hop(
        &mut self,
        now: Instant,
        index: usize,
        session: Session,
        (part, is_answer): (&FramePart, bool),
    ) {
        let sender = (session.from, session.from_core);
        let Some(mut frame) = self.shelf.assemble(sender, part) else { return };
        self.shelf.counters.received += 1;
        if frame.len() >= 6 {
            frame[..6].copy_from_slice(&self.stack.mac());
        }
        let state = &self.groups[index];
        if Engine::is_void(state, session.epoch) {
            self.shelf.counters.old_epoch += 1;
        } else {
            let logs = &mut self.logs;
            match self.stack.handle_forwarded(now, &frame, is_answer, logs) {
                None => {}
                Some(stray) if stray.group as usize == index && !is_answer => {
                    self.handle_stray(now, stray, Some(session.epoch), &frame);
                }
                Some(stray) if !is_answer && self.may_return(index, stray, session.from) => {
                    let kept = self.shelf.keep(now, stray, Some(session.epoch), &frame);
                    self.shelf.counters.returned += kept.is_some() as u64;
                    kept.into_iter().for_each(|kept| self.shelf.send(kept));
                }
                // It is somebody else's, and this was its hop.
                Some(_) => self.shelf.counters.second_hop += 1,
            }
        }
        self.shelf.give_back(frame);
    }

    /// Whether a frame goes back to the node that asked: it owns the generation that takes newcomers, and the one that it
    /// asked about has no such flow, nor ever will.
    fn may_return(&self, asked: usize, stray: Stray, asker: Member) -> bool {
        let newest = &self.groups[stray.group as usize];
        stray.is_newcomer
            && self.stack.newest_of(asked as u8) == stray.group
            && self.stack.group(asked as u8).mode == Mode::Serving
            && newest.route.is_some_and(|route| route.to == asker)
    }

    /// Writes the next part of a frame that leaves for another node into `buffer`.
    pub(super) fn poll_hop(&mut self, now: Instant, buffer: &mut [u8]) -> Option<usize> {
        let Engine { seal, neighbors, endpoint, counters, shelf, groups, snapshot, .. } = self;
        let mut road = Road { now, seal, neighbors, endpoint, counters };
        loop {
            let (Stray { group, shard, .. }, is_answer) = shelf.next_leaving()?;
            let state = &groups[group as usize];
            let route = state.route.filter(|_| state.role != Role::Owner);
            let at = route.and_then(|route| road.leads_to(route.to));
            let (Some(route), Some(at)) = (route, at) else {
                shelf.lose_leaving();
                continue;
            };
            let session = Session {
                cluster: self.cluster,
                group: state.id,
                epoch: route.epoch,
                from: self.member,
                from_core: self.stack.place().core,
                to: route.to,
                to_core: Place { core: 0, cores: route.cores }.core_of(shard),
            };
            let part = shelf.next_part(self.datagram_bytes - FRAME_OFFSET)?;
            snapshot.clear();
            let kind = if is_answer { Kind::Returned } else { Kind::Frame };
            put_header(snapshot, &session, kind);
            put_frame(snapshot, &part);
            let bytes = part.bytes.len();
            shelf.note_left(bytes);
            return road.emit(buffer, ((route.to, session.to_core), &at), snapshot);
        }
    }
}
