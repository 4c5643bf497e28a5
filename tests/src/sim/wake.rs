//! After a takeover, whoever waits for something is woken: not by a timer's chance, but at once.
//!
//! A client whose unacknowledged bytes the dead owner took with it would wait for its own timer, and one to whom bytes are
//! owed has none. So the new owner says something to each (the kick).
//!
//! Who has nothing to say yet is excused: what it lacks is with whoever will say it again.
//!
//! Kicks take a quarter of the link, so a crowd waits for its turn, and whoever has moved much lately does not wait for a
//! crowd that has moved next to nothing. How much that was is counted here, from what clients say.
//!
//! Bounds: [`KICK`], or [`BUSY_KICK`], from the new owner's first word, and the time of the kicks that may come before.

use cluster::id::Epoch;
use stack::key::FlowKey;
use stack::seq::Seq;
use std::collections::BTreeMap;

/// Within so long of the new owner's first word, in nanoseconds: far below the shortest retransmission timer, and before
/// the probes behind the kicks begin.
const KICK: u64 = 80_000_000;
/// The same for whoever is busy.
const BUSY_KICK: u64 = 20_000_000;
/// Who was silent for longer is not kicked, in nanoseconds; a little less than the stack's own bound.
const LATELY: u64 = 1_500_000_000;
/// Who was heard within so long may be kicked; a little more than the stack's own bound.
const RECENTLY: u64 = 2_500_000_000;
/// So many bytes that the peer knows to have moved lately make a connection busy ...
const BUSY_BYTES: u64 = 2_000;
/// ... and so few that it ever moved, one that none such waits for.
const IDLE_BYTES: u64 = 100;
/// What has moved counts half after so long, in nanoseconds.
const HALF: u64 = 134_000_000;
/// What has moved is told to the peer within so long, in nanoseconds.
const TOLD: u64 = 30_000_000;
/// Bits of a frame of full size, with what lies between two of them, and the part of the link that kicks take.
const KICK_BITS: u64 = 8 * 1_538 * 4;

/// What a connection has moved lately, halved every [`HALF`].
#[derive(Clone, Copy, Debug, Default)]
struct Moved {
    /// The peer knows of it.
    told: u64,
    /// In the last time of [`TOLD`] but one, and in the last.
    fresh: [u64; 2],
    /// When that began.
    since: u64,
}

impl Moved {
    /// So many bytes more.
    fn note(&mut self, now: u64, bytes: u64) {
        if now >= self.since + TOLD {
            let [former, last] = self.fresh;
            *self = Moved { told: self.told_at(now) + former, fresh: [last, 0], since: now };
        }
        self.fresh[1] += bytes;
    }

    fn told_at(&self, now: u64) -> u64 {
        self.told.checked_shr((now.saturating_sub(self.since) / HALF) as u32).unwrap_or(0)
    }
}

/// What was said to one client, and what it said to that.
#[derive(Clone, Copy, Debug)]
struct Owed {
    group: usize,
    /// Behind the last byte said.
    said: Seq,
    /// What the client has acknowledged, and when it last said anything.
    heard: Option<(Seq, u64)>,
    moved: Moved,
    /// Bytes that it has said and acknowledged in all.
    total: u64,
}

impl Owed {
    fn is_recent(&self, now: u64) -> bool {
        self.heard.is_some_and(|(_, at)| now < at + RECENTLY)
    }
}

/// Clients that a takeover has to wake.
#[derive(Clone, Debug)]
struct Due {
    epoch: Epoch,
    /// Each with the moment until which it is woken.
    keys: BTreeMap<FlowKey, u64>,
}

/// All connections, as far as waking them is concerned.
#[derive(Debug, Default)]
pub struct Wakes {
    /// What one kick takes, in nanoseconds, if all cores share the link evenly.
    every: u64,
    owed: BTreeMap<FlowKey, Owed>,
    due: BTreeMap<usize, Due>,
}

impl Wakes {
    /// On a link of so many megabits a second.
    pub fn new(link_mbits: u32) -> Wakes {
        let every = KICK_BITS * 1_000 / u64::from(link_mbits.max(1));
        Wakes { every, ..Wakes::default() }
    }

    /// A node has said something in an epoch: from one place of the stream to behind another.
    pub fn note_said(&mut self, group: usize, epoch: Epoch, key: &FlowKey, (seq, end): (Seq, Seq)) {
        let nothing = Owed { group, said: end, heard: None, moved: Moved::default(), total: 0 };
        let owed = self.owed.entry(*key).or_insert(nothing);
        owed.said = owed.said.max(end);
        // A bare acknowledgement wakes nobody who waits for bytes.
        if end.after(seq)
            && let Some(due) = self.due.get_mut(&group).filter(|due| due.epoch <= epoch)
        {
            due.keys.remove(key);
        }
    }

    /// A client has said so many bytes, and has acknowledged so much.
    pub fn note_heard(&mut self, now: u64, key: &FlowKey, (ack, bytes): (Seq, usize)) {
        if let Some(owed) = self.owed.get_mut(key) {
            let known = owed.heard.map_or(ack, |(known, _)| known.max(ack));
            let acknowledged = owed.heard.map_or(0, |(before, _)| known.since(before).into());
            owed.moved.note(now, acknowledged);
            owed.total += acknowledged + bytes as u64;
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
        // Of several cores one may have twice its share.
        let turns = |may_come_before: fn(&Owed) -> bool| {
            let recent = self.owed.values().filter(|owed| owed.is_recent(now));
            2 * self.every * recent.filter(|owed| may_come_before(owed)).count() as u64
        };
        let busy = now + BUSY_KICK + turns(|owed| owed.total > IDLE_BYTES);
        let anybody = now + KICK + turns(|_| true);
        let due = |(key, owed): (&FlowKey, &Owed)| {
            let is_busy = owed.moved.told_at(now) >= BUSY_BYTES;
            (*key, if is_busy { busy } else { anybody })
        };
        let keys = self.owed.iter().filter(waits).map(due).collect();
        self.due.insert(group, Due { epoch, keys });
    }

    /// A group has another peer, or none: what moved before, a new one has not seen.
    pub fn forget_moved(&mut self, group: usize) {
        for owed in self.owed.values_mut().filter(|owed| owed.group == group) {
            owed.moved = Moved::default();
        }
    }

    /// Something goes wrong: nobody is blamed for what is not done meanwhile.
    pub fn excuse(&mut self) {
        self.due.clear();
    }

    /// Whom a new owner has not woken in time.
    pub fn overdue(&self, now: u64) -> Option<String> {
        let late = |due: &Due| due.keys.iter().find(|(_, at)| **at <= now).map(|(key, _)| *key);
        let (key, epoch) = self.due.values().find_map(|due| Some((late(due)?, due.epoch)))?;
        Some(format!("nothing was said to a client who waits, {key:?} since {epoch:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stack::wire::Address;

    const MS: u64 = 1_000_000;
    const CROWD: u16 = 100;
    /// Behind it 10 Mbit/s are the kicks'.
    const LINK_MBITS: u32 = 40;

    fn key(remote_port: u16) -> FlowKey {
        let (remote, local) = (Address::v4([10, 1, 0, 1]), Address::v4([10, 0, 0, 102]));
        FlowKey { remote, local, remote_port, local_port: 80 }
    }

    /// A client has heard a stream for a while, and lacks the end of it; each of a crowd lacks a word.
    fn crowded() -> Wakes {
        let mut wakes = Wakes::new(LINK_MBITS);
        for port in 1..=CROWD {
            wakes.note_said(0, Epoch(1), &key(port), (Seq(0), Seq(8)));
            wakes.note_heard(0, &key(port), (Seq(0), 8));
        }
        wakes.note_said(0, Epoch(1), &key(0), (Seq(0), Seq(9_000)));
        for step in 0..5 {
            wakes.note_heard(u64::from(step) * 40 * MS, &key(0), (Seq(step * 2_000), 0));
        }
        wakes
    }

    #[test]
    fn whoever_has_moved_much_does_not_wait_for_a_crowd() {
        let mut wakes = crowded();
        wakes.begin(200 * MS, 0, Epoch(2), |_, _| true);
        assert_eq!(wakes.overdue(219 * MS), None);
        let late = wakes.overdue(223 * MS).expect("it waits for two kicks and no crowd");
        assert!(late.contains(&format!("{:?}", key(0))), "{late}");
        wakes.note_said(0, Epoch(2), &key(0), (Seq(8_000), Seq(9_000)));
        assert_eq!(wakes.overdue(450 * MS), None, "the crowd takes its time");
        assert!(wakes.overdue(600 * MS).is_some());
        (1..=CROWD).for_each(|port| wakes.note_heard(600 * MS, &key(port), (Seq(8), 0)));
        assert_eq!(wakes.overdue(600 * MS), None);
    }

    /// A new peer has not seen what moved before; nor has anybody what moved just now.
    #[test]
    fn nobody_is_busy_to_a_peer_that_cannot_know_it() {
        let mut wakes = crowded();
        wakes.forget_moved(0);
        wakes.note_said(0, Epoch(1), &key(0), (Seq(9_000), Seq(30_000)));
        wakes.note_heard(190 * MS, &key(0), (Seq(20_000), 0));
        wakes.begin(200 * MS, 0, Epoch(2), |_, _| true);
        assert_eq!(wakes.overdue(279 * MS), None);
    }
}
