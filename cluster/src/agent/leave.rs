//! Services that come and go while the nodes run.
//!
//! ```text
//! comes: in this node's file -> declared -> created by its home (or another one, if home does not live) -> a peer is filled,
//!        as soon as another file names it, too
//! goes:  in no file any more -> no new connections -> the last one has ended -> Retire -> over -> told for a while -> gone
//! ```
//!
//! Nodes are reloaded one after the other, so for a while one knows a service and the other does not. Nobody has to wait for
//! anybody, and nothing is taken from anybody: a word of a group that is not configured here is dropped, by a name of its own,
//! and its sender is no worse for it. Two rules keep a service from wandering in that time. Home decides whether it is
//! served, as long as it lives: nobody else begins to serve what home's file does not name. And whoever serves connections of
//! a service that has left its file serves them to their end, owner or peer, with every right that it had.
//!
//! Bounds: none, a look at each group.

use super::declare::UNKNOWN_AFTER;
use super::{Agent, Group, GroupConfig, Reason};
use crate::message::Role;
use stack::time::{Duration, Instant};

/// A group that is over is told of for so long before it is forgotten.
const LINGER: Duration = Duration::from_secs(1);

impl Agent {
    /// Forgets the groups whose services have left: this node neither owns nor holds anything of them, has asked for nothing,
    /// and the others have had the time to hear how they ended.
    pub(super) fn let_go(&mut self, now: Instant) {
        self.groups.retain(|entry| {
            let is_done = entry.role == Role::Idle && entry.ask.is_none();
            entry.config.leaving.is_none() || !is_done || now.since(entry.since) < LINGER
        });
    }

    /// Whether this node, which is not home, must not begin to serve the group because home lives and does not name it in its
    /// file: it is asked. When home knows the group it has its turn first.
    pub(super) fn awaits_home_word(&mut self, now: Instant, at: usize, rank: u64) -> bool {
        let home = self.groups[at].config.home;
        let Some(member) = self.detector.node(home).map(|heard| heard.member) else { return false };
        let longest = self.config.timers.longest_promise();
        if rank == 0 || !self.detector.is_alive(now, member, longest) {
            return false;
        }
        if self.word_of(at, member).is_some_and(|word| !word.is_leaving) {
            return false;
        }
        if now >= self.groups[at].solicit_at {
            self.solicit(now, at, member);
        }
        let entry = &mut self.groups[at];
        entry.awaited_at = now;
        let is_news = entry.unknown_there != Some(member);
        if is_news && now.since(entry.since) > UNKNOWN_AFTER {
            entry.unknown_there = Some(member);
            entry.note(now, Reason::AwaitsHome(home));
        }
        true
    }

    /// Whether no other generation of the group's service has an owner.
    pub(super) fn is_first(&self, at: usize) -> bool {
        self.sibling(at).is_none_or(|other| !self.groups[other].register.is_live())
    }
}

impl Group {
    /// A group of which this node has just been told.
    pub(super) fn arrived(now: Instant, config: GroupConfig, cores: u8) -> Group {
        let mut group = Group::new(now, config, cores);
        group.note(now, Reason::Arrived);
        group
    }

    /// Whether its service has left, and every core has said so: in this epoch, and in this attempt.
    pub(super) fn has_left(&self) -> bool {
        self.config.leaving == Some(self.emptied) && self.empty.is_complete()
    }
}
