//! After a takeover, whoever waits for something is woken: not by a timer's chance, but at once.
//!
//! A client whose unacknowledged bytes the dead owner took with it would wait for its own timer, and one to whom bytes are
//! owed has none. So the new owner says something to each (the kick).
//!
//! Who has nothing to say yet is excused: what it lacks is with whoever will say it again.
//!
//! Bounds: [`KICK`] from the new owner's first word.

use cluster::id::Epoch;
use stack::key::FlowKey;
use stack::seq::Seq;
use std::collections::{BTreeMap, BTreeSet};

/// Within so long of the new owner's first word, in nanoseconds: far below the shortest retransmission timer, and before
/// the probes behind the kicks begin.
const KICK: u64 = 80_000_000;
/// Who was silent for longer is not kicked, in nanoseconds; a little less than the stack's own bound.
const LATELY: u64 = 1_500_000_000;

/// What was said to one client, and what it said to that.
#[derive(Clone, Copy, Debug)]
struct Owed {
    group: usize,
    /// Behind the last byte said.
    said: Seq,
    /// What the client has acknowledged, and when it last said anything.
    heard: Option<(Seq, u64)>,
}

/// Clients that a takeover has to wake.
#[derive(Clone, Debug)]
struct Due {
    at: u64,
    epoch: Epoch,
    keys: BTreeSet<FlowKey>,
}

/// All connections, as far as waking them is concerned.
#[derive(Debug, Default)]
pub struct Wakes {
    owed: BTreeMap<FlowKey, Owed>,
    due: BTreeMap<usize, Due>,
}

impl Wakes {
    /// A node has said something in an epoch: from one place of the stream to behind another.
    pub fn note_said(&mut self, group: usize, epoch: Epoch, key: &FlowKey, (seq, end): (Seq, Seq)) {
        let owed = self.owed.entry(*key).or_insert(Owed { group, said: end, heard: None });
        owed.said = owed.said.max(end);
        // A bare acknowledgement wakes nobody who waits for bytes.
        if end.after(seq)
            && let Some(due) = self.due.get_mut(&group).filter(|due| due.epoch <= epoch)
        {
            due.keys.remove(key);
        }
    }

    /// A client has said something.
    pub fn note_heard(&mut self, now: u64, key: &FlowKey, ack: Seq) {
        if let Some(owed) = self.owed.get_mut(key) {
            let known = owed.heard.map_or(ack, |(known, _)| known.max(ack));
            owed.heard = Some((known, now));
            if !known.before(owed.said)
                && let Some(due) = self.due.get_mut(&owed.group)
            {
                due.keys.remove(key);
            }
        }
    }

    /// Up to where one side of a connection has acknowledged what it was told.
    pub fn heard(&self, key: &FlowKey) -> Option<Seq> {
        self.owed.get(key)?.heard.map(|(heard, _)| heard)
    }

    /// A connection begins or is over.
    pub fn forget(&mut self, key: &FlowKey) {
        self.owed.remove(key);
        for due in self.due.values_mut() {
            due.keys.remove(key);
        }
    }

    /// A new owner has spoken for the first time; it holds what some of these clients lack.
    pub fn begin(
        &mut self,
        now: u64,
        group: usize,
        epoch: Epoch,
        holds: impl Fn(&FlowKey, Seq) -> bool,
    ) {
        let waits = |(key, owed): &(&FlowKey, &Owed)| {
            let lacks = |(heard, at): (Seq, u64)| {
                heard.before(owed.said) && now < at + LATELY && holds(key, heard)
            };
            owed.group == group && owed.heard.is_some_and(lacks)
        };
        let keys = self.owed.iter().filter(waits).map(|(key, _)| *key).collect();
        self.due.insert(group, Due { at: now + KICK, epoch, keys });
    }

    /// Something goes wrong: nobody is blamed for what is not done meanwhile.
    pub fn excuse(&mut self) {
        self.due.clear();
    }

    /// Whom a new owner has not woken in time; each is named once.
    pub fn overdue(&mut self, now: u64) -> Option<String> {
        let (&group, _) = self.due.iter().find(|(_, due)| due.at <= now)?;
        let due = self.due.remove(&group)?;
        let key = due.keys.first()?;
        Some(format!("nothing was said to a client who waits, {key:?} since {:?}", due.epoch))
    }
}
