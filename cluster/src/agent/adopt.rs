//! A newer register is learned: roles, leases and the orders to the cores follow from it.
//!
//! This is the only place that changes a role. It does not matter who brought the register: the
//! arbiter's answer, the owner's heartbeat or a third node's.

use super::{Agent, Reason, Takeover};
use crate::gather::Gather;
use crate::id::Member;
use crate::lease::Lessor;
use crate::message::Role;
use crate::register::{Change, Evidence, Register};
use crate::role::Command;
use stack::time::{Duration, Instant};

impl Agent {
    /// Takes `next` over if it is newer than what is known here.
    pub(super) fn learn(&mut self, now: Instant, at: usize, next: Register) {
        if !core::mem::replace(&mut self.groups[at].known, true) {
            self.groups[at].since = now;
        }
        if next.epoch > self.groups[at].register.epoch {
            self.adopt(now, at, next);
        }
    }

    pub(super) fn adopt(&mut self, now: Instant, at: usize, next: Register) {
        let me = self.config.me;
        let former_lessor = self.lessor(at);
        let entry = &mut self.groups[at];
        let former = core::mem::replace(&mut entry.register, next);
        // A request that expected a lower epoch can never be carried out any more, or was.
        let asked = entry.ask.take();
        // Only this node's own wish gives a register this shape, and it is asked for when every core is frozen.
        let swapped = former.apply(Change::Swap, former.owner, Evidence::default()) == Ok(next);
        let has_yielded =
            swapped && former.owner == me && asked.is_some_and(|ask| ask.change == Change::Swap);
        // The same members under a new epoch: whoever held the copies holds them.
        let is_closed = former.apply(Change::Close, former.owner, Evidence::default()) == Ok(next);
        entry.known = true;
        entry.since = now;
        (entry.voiced, entry.leased, entry.is_forsaken) = (None, Duration::ZERO, false);
        (entry.filled, entry.missing) = (Gather::new(self.config.cores), 0);
        (entry.empty, entry.emptied) = (Gather::new(self.config.cores), 0);
        let was_peer = entry.role == Role::Peer && is_closed;
        let has_copies = was_peer || entry.role == Role::Filling && !entry.awaits_cores;
        entry.awaits_cores = false;
        entry.granted_at = now;
        entry.ask_at = now;
        entry.renew_at = now;
        entry.advertise_at = now;
        entry.release_at = None;
        let role = if !next.is_live() {
            Role::Idle
        } else if next.owner == me {
            Role::Owner
        } else if next.peer != Some(me) {
            Role::Idle
        } else if !next.in_sync {
            Role::Filling
        } else if has_yielded || has_copies && former.owner == next.owner {
            Role::Peer
        } else {
            // In sync by the register, but the copies are not here: neither lessor nor heir.
            Role::Idle
        };
        let was = core::mem::replace(&mut entry.role, role);
        entry.note(now, Reason::Became(role));
        self.follow_handover(now, at, has_yielded);
        self.tell_newcomers(at);
        match role {
            Role::Owner if was == Role::Owner => self.stay_owner(now, at, former_lessor),
            Role::Owner => {
                let inherits = was == Role::Peer && former.epoch.next() == next.epoch;
                if inherits && swapped {
                    self.assume(now, at, former.owner);
                } else {
                    if let (true, Some(ask)) = (inherits, asked)
                        && ask.change == Change::TakeOver
                    {
                        self.note_takeover(now, at, ask.first);
                    }
                    self.become_owner(at, inherits);
                }
            }
            _ => self.follow(now, at, was, has_yielded),
        }
        // The others learn it now, not a period later.
        self.heartbeat_at = self.heartbeat_at.min(now);
        self.tell_at = self.tell_at.min(now);
    }

    fn become_owner(&mut self, at: usize, inherits: bool) {
        let clock_jump = Duration(2 * self.timers().lease.0 + 1_000_000_000);
        let entry = &mut self.groups[at];
        entry.lease.drop_now();
        let (group, register) = (entry.config.group, entry.register);
        let epoch = register.epoch;
        if inherits {
            self.commands.push_back(Command::Promote { group, epoch, clock_jump });
        } else {
            entry.takeover = None;
            self.commands.push_back(Command::Serve { group, epoch });
        }
        self.tell_owner_its_peer(at);
    }

    /// The former owner is frozen and has changed places with this node: it is the lessor now.
    fn assume(&mut self, now: Instant, at: usize, former: Member) {
        let entry = &mut self.groups[at];
        entry.lease.drop_now();
        entry.renewed_at = now;
        entry.note(now, Reason::TookOverFrom(former.node));
        let (group, epoch) = (entry.config.group, entry.register.epoch);
        self.note_takeover(now, at, now);
        self.commands.push_back(Command::Assume { group, epoch });
    }

    /// The same owner under a new epoch. Its lease lasts if its lessor does; from the arbiter to
    /// the peer it lasts until the peer's first grant; from the peer to the arbiter it was given up
    /// when the change was asked for.
    fn stay_owner(&mut self, now: Instant, at: usize, former_lessor: Lessor) {
        let lessor = self.lessor(at);
        let lease = self.timers().lease;
        let entry = &mut self.groups[at];
        match (former_lessor, lessor) {
            (former, next) if former == next => {}
            (Lessor::Arbiter, Lessor::Node(_)) => {}
            // The peer's promise starts when it hears of this epoch: after now.
            (Lessor::Own, Lessor::Node(_)) => entry.lease.cap(now + lease),
            _ => entry.lease.drop_now(),
        }
        if entry.register.peer.is_none() {
            let (group, epoch) = (entry.config.group, entry.register.epoch);
            self.commands.push_back(Command::Alone { group, epoch });
        }
        self.tell_owner_its_peer(at);
    }

    fn tell_owner_its_peer(&mut self, at: usize) {
        let (group, register) = (self.groups[at].config.group, self.groups[at].register);
        let epoch = register.epoch;
        match register.peer {
            None => {}
            Some(_) if !register.in_sync => {
                self.groups[at].awaits_cores = true;
                self.tell_cores(at);
            }
            Some(_) => self.commands.push_back(Command::Protected { group, epoch }),
        }
    }

    /// Tells the cores to mirror or to follow, as soon as the other side has said how many cores it has: by that the
    /// flows are dealt out. Its heartbeats say so, and nobody becomes a peer unheard.
    pub(super) fn tell_cores(&mut self, at: usize) {
        let entry = &mut self.groups[at];
        if !entry.awaits_cores {
            return;
        }
        let (group, register) = (entry.config.group, entry.register);
        let epoch = register.epoch;
        let command = match (entry.role, register.peer) {
            (Role::Owner, Some(peer)) => self
                .detector
                .cores_of(peer)
                .map(|peer_cores| Command::Mirror { group, epoch, peer, peer_cores }),
            (Role::Filling, _) => {
                let owner = register.owner;
                let cores = self.detector.cores_of(owner);
                cores.map(|owner_cores| Command::Follow { group, epoch, owner, owner_cores })
            }
            _ => None,
        };
        if let Some(command) = command {
            entry.awaits_cores = false;
            self.commands.push_back(command);
        }
    }

    fn follow(&mut self, now: Instant, at: usize, was: Role, has_yielded: bool) {
        let timers = self.timers();
        let entry = &mut self.groups[at];
        entry.lease.drop_now();
        let (group, register) = (entry.config.group, entry.register);
        let epoch = register.epoch;
        match entry.role {
            Role::Filling => {
                entry.awaits_cores = true;
                self.tell_cores(at);
            }
            Role::Peer => {
                // The owner has one promise's time to ask for its first renewal.
                entry.promise = entry.promise.max(now + timers.promise(timers.lease));
                entry.renewed_at = now;
                self.commands.push_back(if has_yielded {
                    Command::Yield { group, epoch }
                } else {
                    Command::FollowInSync { group, epoch }
                });
            }
            _ if was != Role::Idle => self.commands.push_back(Command::Stop { group }),
            _ => {}
        }
    }

    fn note_takeover(&mut self, now: Instant, at: usize, asked: Instant) {
        let entry = &mut self.groups[at];
        entry.takeover = Some(Takeover {
            epoch: entry.register.epoch,
            silent_since: entry.renewed_at,
            asked,
            granted: now,
            promoted: Gather::new(self.config.cores),
            flows: 0,
            apply: Duration::ZERO,
        });
    }

    /// The copies of this in-sync peer may lack what their owner has served since: it is no heir.
    pub(super) fn forsake(&mut self, now: Instant, at: usize) {
        let entry = &mut self.groups[at];
        entry.role = Role::Idle;
        entry.note(now, Reason::CopiesStale(entry.register.owner.node));
        self.commands.push_back(Command::Stop { group: entry.config.group });
        // Whoever may start afresh waits for this word.
        self.heartbeat_at = self.heartbeat_at.min(now);
    }

    /// Another life of this node is registered: this one says nothing any more.
    pub(super) fn end_life(&mut self, now: Instant) {
        self.superseded = true;
        for entry in &mut self.groups {
            entry.lease.drop_now();
            entry.ask = None;
            if core::mem::replace(&mut entry.role, Role::Idle) != Role::Idle {
                self.commands.push_back(Command::Stop { group: entry.config.group });
            }
            entry.note(now, Reason::Superseded);
        }
    }
}
