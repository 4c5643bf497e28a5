//! Asking the arbiter: requests that are repeated until their outcome is known.
//!
//! A request is given up for one reason only: its outcome is known, because the arbiter has
//! answered it or because a register with a higher epoch was seen (compare-and-swap cannot succeed
//! any more, or has). Until then it is repeated under the same number, with growing pauses.

use super::handover::Failure;
use super::{Agent, Arbiter, Reason, Survivor};
use crate::id::Epoch;
use crate::lease::Timers;
use crate::message::{ChangeRequest, Message, Role};
use crate::register::{Change, Evidence, Refusal};
use stack::time::{Duration, Instant};

/// A change whose outcome is not known.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    pub change: Change,
    pub expected: Epoch,
    pub request: u64,
    pub first: Instant,
    pub pace: Pace,
}

/// Growing pauses between repetitions: doubled each time, up to a quarter of the arbiter's lease.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    next: Instant,
    pause: Duration,
    pause_max: Duration,
}

impl Pace {
    pub fn new(now: Instant, timers: Timers) -> Pace {
        let pause = Duration(4 * timers.heartbeat.0);
        Pace { next: now, pause, pause_max: Duration(timers.alone_lease.0 / 4) }
    }

    /// Whether it is time; if so, the next time is later.
    pub fn is_due(&mut self, now: Instant) -> bool {
        if now < self.next {
            return false;
        }
        self.next = now + self.pause;
        self.pause = Duration(self.pause.0 * 2).min(self.pause_max);
        true
    }
}

impl Agent {
    /// Asks for a change; at most one per group is under way.
    pub(super) fn ask(&mut self, now: Instant, at: usize, change: Change, reason: Reason) {
        if let Arbiter::None { survivor } = self.config.arbiter
            && !self.may_step_alone(now, at, change, survivor)
        {
            let entry = &mut self.groups[at];
            entry.ask_at = now + Duration(self.config.timers.alone_lease.0 / 8);
            return entry.note(now, Reason::NotSurvivor);
        }
        self.request += 1;
        let pace = Pace::new(now, self.config.timers);
        let entry = &mut self.groups[at];
        assert!(entry.ask.is_none(), "one change at a time");
        entry.note(now, reason);
        entry.ask = Some(Ask {
            change,
            expected: entry.register.epoch,
            request: self.request,
            first: now,
            pace,
        });
        if entry.is_mute() {
            entry.lease.drop_now();
        }
        match self.config.arbiter {
            Arbiter::Witness => self.repeat_ask(now, at),
            Arbiter::None { .. } => self.step_alone(now, at),
        }
    }

    /// Sends what is under way again if its time has come.
    pub(super) fn repeat_ask(&mut self, now: Instant, at: usize) {
        // A change is meant for one life of the witness: which, its answer to the hello says.
        if self.witness.is_none() || self.superseded {
            return;
        }
        let lease = self.config.timers.alone_lease;
        let entry = &mut self.groups[at];
        let group = entry.config.group;
        let Some(ask) = &mut entry.ask else { return };
        if !ask.pace.is_due(now) {
            return;
        }
        let message = Message::Change(ChangeRequest {
            group,
            expected: ask.expected,
            request: ask.request,
            change: ask.change,
            sent: now,
            lease,
        });
        self.send_witness(&message);
    }

    /// The outcome is known: it was refused.
    pub(super) fn close_refused(&mut self, now: Instant, at: usize, why: Refusal, wait: Duration) {
        let ended = self.detector.ended(self.groups[at].register.owner).is_some();
        let pause = match why {
            // The arbiter has not heard the surrender yet; its guardian says it several times.
            Refusal::NotYet if ended => Duration(4 * self.config.timers.heartbeat.0).min(wait),
            Refusal::NotYet => wait,
            Refusal::Stale => Duration::ZERO,
            // Another may be known to it; this one will be in a moment.
            Refusal::PeerUnregistered => Duration(4 * self.config.timers.heartbeat.0),
            _ => Duration(self.config.timers.alone_lease.0 / 8),
        };
        let entry = &mut self.groups[at];
        let Some(refused) = entry.ask.take().map(|ask| ask.change) else { return };
        entry.ask_at = now + pause;
        entry.note(now, Reason::Refused(why));
        if let (Refusal::PeerUnregistered, Change::AddPeer(peer)) = (why, refused) {
            entry.passed_over = Some((peer, now));
        }
        if matches!(refused, Change::Swap | Change::Close) {
            self.give_up(now, at, Failure::Refused);
        }
    }

    /// Whether this node may make the step without an arbiter: it is the survivor, or those whom it
    /// would pass over are known dead, or nobody is passed over.
    fn may_step_alone(&self, now: Instant, at: usize, change: Change, survivor: Survivor) -> bool {
        let me = self.config.me.node;
        let survives = survivor == Survivor::Both || survivor == Survivor::Node(me);
        let entry = &self.groups[at];
        let register = entry.register;
        let gone = |member| self.detector.is_dead(member);
        match change {
            Change::AddPeer(_) | Change::InSync(_) => true,
            Change::Alone => survives || !register.in_sync || register.peer.is_some_and(gone),
            Change::TakeOver => survives || gone(register.owner),
            Change::Create => survives,
            Change::Fresh => register.owner.node == me || (survives && now >= entry.promise),
            Change::Swap => survivor == Survivor::Node(me),
            // Nothing is left of it, and its service is to be gone.
            Change::Retire => true,
            // Not built without an arbiter: the configuration is refused.
            Change::Close => false,
        }
    }

    /// There is no arbiter: the step is made here and now.
    fn step_alone(&mut self, now: Instant, at: usize) {
        let entry = &self.groups[at];
        let Some(ask) = entry.ask else { return };
        let evidence = Evidence { owner_dead: true, peer_dead: true };
        match entry.register.apply(ask.change, self.config.me, evidence) {
            Ok(next) => self.adopt(now, at, next),
            Err(refusal) => self.close_refused(now, at, refusal, Duration::ZERO),
        }
    }

    /// What is repeated while nothing is decided: hello, reads, renewals, releases.
    pub(super) fn keep_in_touch(&mut self, now: Instant, at: usize) {
        if self.config.arbiter != Arbiter::Witness || self.superseded {
            return;
        }
        self.repeat_ask(now, at);
        let timers = self.config.timers;
        let wants_lease = self.wants_lease(at);
        let (doubt, heard) = (self.doubt(now, at), self.witness_heard);
        let entry = &mut self.groups[at];
        let (group, epoch) = (entry.config.group, entry.register.epoch);
        let doubts = doubt.is_some_and(|since| heard <= since);
        if now >= entry.read_at || (doubts && now >= entry.doubt_at) {
            entry.doubt_at = now + timers.heartbeat;
            let pause =
                if entry.known { timers.alone_lease.0 / 2 } else { timers.heartbeat.0 * 10 };
            entry.read_at = now + Duration(pause);
            // Also while there is nothing to learn: a witness that is gone must be known to be gone.
            let copy = entry.register;
            self.send_witness(&Message::Read { group, copy });
        }
        let entry = &mut self.groups[at];
        if wants_lease && !entry.register.in_sync && now >= entry.renew_at {
            entry.renew_at = now + Duration(timers.alone_lease.0 / 8);
            let lease = timers.alone_lease;
            self.send_witness(&Message::Renew { group, epoch, sent: now, lease });
        }
        let entry = &mut self.groups[at];
        if entry.release_at.is_some_and(|next| now >= next) {
            entry.release_at = Some(now + Duration(timers.heartbeat.0 * 10));
            self.send_witness(&Message::Release { group, epoch });
        }
    }

    /// Since when the other side of a protected group is silent, if so for half of the time after which it is accused.
    fn doubt(&self, now: Instant, at: usize) -> Option<Instant> {
        let timers = self.timers();
        let entry = &self.groups[at];
        let (since, patience) = match entry.role {
            Role::Peer => (entry.renewed_at, entry.promise.since(entry.renewed_at)),
            Role::Owner if entry.register.in_sync => (entry.granted_at, timers.peer_silent),
            _ => return None,
        };
        (now.since(since).0 > patience.0 / 2).then_some(since)
    }

    /// Whether the arbiter was heard since then. Who hears nobody must not accuse anybody: it would be believed, and
    /// never know.
    pub(super) fn hears_arbiter(&self, since: Instant) -> bool {
        self.config.arbiter != Arbiter::Witness || self.witness_heard > since
    }

    /// Says hello until the witness has registered this life.
    pub(super) fn say_hello(&mut self, now: Instant) {
        let needed = self.config.arbiter == Arbiter::Witness && !self.registered;
        if needed && !self.superseded && self.hello.is_due(now) {
            self.send_witness(&Message::Hello { ticket: 0 });
        }
    }
}
