//! Who was heard when, and how late this node itself was.
//!
//! The detector never decides anything: silence is a fact, taking over is a matter of promises and
//! registers. It keeps, per node, the present life and the lives before it (a late datagram of a former
//! life must not bring it back), and a bounded history of this node's own
//! gaps: a node that was itself late does not accuse, it first waits one more round of heartbeats.
//!
//! Lives have no order that their numbers show. So whoever says that another life than the present one has
//! begun must prove that it lives now: it is answered, and its next heartbeat repeats a send time of ours
//! that is no older than its first word here. What a former life said before it ended can never do that,
//! however late it arrives.
//!
//! Bounds: [`PAST_LIVES`] former lives per node, [`GAP_SECONDS`] per-second maxima.

use crate::id::{Incarnation, Member, NodeId};
use crate::message::{Drop, Heartbeat};
use crate::path::Path;
use crate::surrender::Ended;
use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;
use stack::time::{Duration, Instant};

/// Former lives of a node that are remembered.
pub const PAST_LIVES: usize = 8;
/// Seconds of own gaps that are remembered: ten minutes.
pub const GAP_SECONDS: usize = 600;

/// What is known about another node.
#[derive(Clone, Debug)]
pub struct Heard {
    /// The node.
    pub node: NodeId,
    /// Its present life; incarnation zero if it was never heard.
    pub member: Member,
    /// When it was heard last.
    pub at: Instant,
    /// When its present life was heard first.
    pub since: Instant,
    /// Send time of its newest heartbeat, on its own clock (echoed back to it).
    pub sent: Instant,
    /// Whether its cores make progress.
    pub core_ok: bool,
    /// Whether an operator wants it to own nothing.
    pub draining: bool,
    /// How many; zero if it has not said.
    pub cores: u8,
    /// Its hardware address on the cluster's data link.
    pub mac: [u8; 6],
    /// How it reaches its clients; outlives its lives, for a path that flaps flaps on.
    pub path: Path,
    /// Its present life has surrendered.
    pub ended: Option<Ended>,
    past: VecDeque<Incarnation>,
    /// Lives that were never heard here and of which an operator said that they have ended. One that proves that it
    /// lives has not.
    said_dead: VecDeque<Incarnation>,
    /// Another life that was heard and has yet to prove that it lives now, and since when.
    candidate: Option<(Incarnation, Instant)>,
}

/// Who has been heard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hearing {
    /// The present life of a node.
    Present,
    /// Perhaps a later life, perhaps a late word of a former one: it is asked.
    Unproven,
    /// A former life, or a node that is not watched.
    Stranger,
}

/// Silence and life of the other nodes.
#[derive(Clone, Debug, Default)]
pub struct Detector {
    nodes: Vec<Heard>,
}

impl Detector {
    /// Watches `nodes`.
    pub fn new(nodes: impl Iterator<Item = NodeId>) -> Detector {
        let unheard = |node| Heard::new(Member { node, incarnation: Incarnation(0) });
        Detector { nodes: nodes.map(unheard).collect() }
    }

    /// Every watched node.
    pub fn nodes(&self) -> &[Heard] {
        &self.nodes
    }

    /// What is known about `node`.
    pub fn node(&self, node: NodeId) -> Option<&Heard> {
        self.nodes.iter().find(|heard| heard.node == node)
    }

    /// A datagram of `from` arrived. `echo` is the send time of ours that it repeats, if it is meant for this very
    /// life of ours. Only what the present life says is to be believed.
    pub fn handle_heard(&mut self, now: Instant, from: Member, echo: Option<Instant>) -> Hearing {
        let Some(heard) = self.nodes.iter_mut().find(|heard| heard.node == from.node) else {
            return Hearing::Stranger;
        };
        if heard.past.contains(&from.incarnation) || from.incarnation.0 == 0 {
            return Hearing::Stranger;
        }
        if heard.member != from {
            if heard.member.incarnation.0 != 0 {
                let since = match heard.candidate {
                    Some((candidate, since)) if candidate == from.incarnation => since,
                    _ => now,
                };
                // What was sent in the moment in which it was first heard may have been sent before.
                if since == now || echo.is_none_or(|echo| echo < since) {
                    heard.candidate = Some((from.incarnation, since));
                    return Hearing::Unproven;
                }
                heard.supersede();
            }
            heard.begin(now, from);
        }
        heard.at = heard.at.max(now);
        Hearing::Present
    }

    /// The guardian of `from` says that this life has ended. It is no sign of life.
    ///
    /// Errors: the life is not the present one as far as is known here, or has surrendered before,
    /// or has spoken since.
    pub fn handle_surrender(
        &mut self,
        now: Instant,
        from: Member,
        said: Instant,
        patience: Duration,
    ) -> Result<(), Drop> {
        let present = self.nodes.iter_mut().find(|heard| heard.member == from);
        let Some(heard) = present.filter(|_| from.incarnation.0 != 0) else {
            return Err(Drop::UnknownSender);
        };
        if heard.ended.is_some() {
            return Err(Drop::Surrendered);
        }
        let ended = Ended { said, heard: now };
        if ended.is_refuted_by(heard.sent, patience) {
            return Err(Drop::Refuted);
        }
        heard.ended = Some(ended);
        Ok(())
    }

    /// An operator says that `life` has ended. If nothing is known of that node, this is the life that it had; if
    /// another is its present one, that life is a former one.
    ///
    /// Errors: the node is not watched, that life was heard within `patience`, or is known to be over.
    pub fn handle_dead(
        &mut self,
        now: Instant,
        life: Member,
        patience: Duration,
    ) -> Result<(), Drop> {
        if self.is_alive(now, life, patience) {
            return Err(Drop::Refuted);
        }
        let Some(heard) = self.nodes.iter_mut().find(|heard| heard.node == life.node) else {
            return Err(Drop::UnknownSender);
        };
        if heard.past.contains(&life.incarnation) || heard.said_dead.contains(&life.incarnation) {
            return Err(Drop::Surrendered);
        }
        if heard.member.incarnation.0 == 0 {
            heard.begin(now, life);
        }
        if heard.member != life {
            if heard.said_dead.len() == PAST_LIVES {
                heard.said_dead.pop_front();
            }
            heard.said_dead.push_back(life.incarnation);
            return Ok(());
        }
        let said = heard.sent;
        self.handle_surrender(now, life, said, patience)
    }

    /// A living core that was heard `patience` after its own surrender has not ended.
    pub fn refute(&mut self, from: Member, patience: Duration) {
        if let Some(heard) = self.nodes.iter_mut().find(|heard| heard.member == from)
            && heard.core_ok
            && heard.ended.is_some_and(|ended| ended.is_refuted_by(heard.sent, patience))
        {
            heard.ended = None;
        }
    }

    /// A heartbeat of the present life of `from` said this; answers whether it is news: one that was overtaken is none.
    /// (What does not fit into one heartbeat comes in several of the same time.)
    pub fn handle_heartbeat(&mut self, now: Instant, from: Member, beat: &Heartbeat) -> bool {
        let Some(heard) = self.nodes.iter_mut().find(|heard| heard.member == from) else {
            return false;
        };
        let is_news = beat.sent >= heard.sent;
        if is_news {
            heard.sent = beat.sent;
            heard.core_ok = beat.core_ok;
            heard.draining = beat.draining;
            heard.cores = beat.cores;
            heard.mac = beat.mac;
            heard.path.note(now, beat.path);
        }
        is_news
    }

    /// How many cores exactly this life has, if it has said so.
    pub fn cores_of(&self, member: Member) -> Option<u8> {
        let heard = self.node(member.node).filter(|heard| heard.member == member)?;
        (heard.cores > 0).then_some(heard.cores)
    }

    /// Whether exactly this life was heard within `limit` and has not surrendered.
    pub fn is_alive(&self, now: Instant, member: Member, limit: Duration) -> bool {
        self.node(member.node).is_some_and(|heard| {
            heard.member == member && now.since(heard.at) <= limit && heard.ended.is_none()
        })
    }

    /// The surrender of exactly this life, if it was heard.
    pub fn ended(&self, member: Member) -> Option<Ended> {
        self.node(member.node).filter(|heard| heard.member == member).and_then(|heard| heard.ended)
    }

    /// Whether this life is over: a later one was heard, or it has surrendered.
    pub fn is_dead(&self, member: Member) -> bool {
        self.is_superseded(member) || self.ended(member).is_some()
    }

    /// Whether a later life of this member's node was heard: this one is dead.
    pub fn is_superseded(&self, member: Member) -> bool {
        self.node(member.node).is_some_and(|heard| {
            heard.past.contains(&member.incarnation)
                || heard.said_dead.contains(&member.incarnation)
        })
    }

    /// When this life was heard last; zero if another life was heard since, or none.
    pub fn heard_at(&self, member: Member) -> Instant {
        match self.node(member.node) {
            Some(heard) if heard.member == member => heard.at,
            _ => Instant::ZERO,
        }
    }
}

impl Heard {
    /// A life of which nothing is known.
    fn new(member: Member) -> Heard {
        Heard {
            node: member.node,
            member,
            at: Instant::ZERO,
            since: Instant::ZERO,
            sent: Instant::ZERO,
            core_ok: false,
            draining: false,
            cores: 0,
            mac: [0; 6],
            path: Path::default(),
            ended: None,
            past: VecDeque::new(),
            said_dead: VecDeque::new(),
            candidate: None,
        }
    }

    /// The present life is over.
    fn supersede(&mut self) {
        self.note_past(self.member.incarnation);
    }

    fn note_past(&mut self, life: Incarnation) {
        if self.past.len() == PAST_LIVES {
            self.past.pop_front();
        }
        self.past.push_back(life);
    }

    /// `member` is the present life from now on; nothing is known of it yet.
    fn begin(&mut self, now: Instant, member: Member) {
        let past = core::mem::take(&mut self.past);
        let mut said_dead = core::mem::take(&mut self.said_dead);
        said_dead.retain(|life| *life != member.incarnation);
        *self = Heard { past, said_dead, at: self.at, since: now, ..Heard::new(member) };
    }
}

/// How late this node itself was: maxima per second over ten minutes.
#[derive(Clone, Debug)]
pub struct Gaps {
    maxima: Vec<Duration>,
    second: u64,
    largest: Duration,
}

impl Gaps {
    /// No gap yet.
    pub fn new(now: Instant) -> Gaps {
        Gaps {
            maxima: vec![Duration::ZERO; GAP_SECONDS],
            second: now.millis() / 1_000,
            largest: Duration::ZERO,
        }
    }

    /// This node came `late` to something it had planned.
    pub fn record(&mut self, now: Instant, late: Duration) {
        let second = now.millis() / 1_000;
        if second > self.second {
            // At most GAP_SECONDS turns: older seconds are all forgotten.
            let turns = (second - self.second).min(GAP_SECONDS as u64);
            for past in 0..turns {
                self.maxima[((second - past) % GAP_SECONDS as u64) as usize] = Duration::ZERO;
            }
            self.second = second;
            self.largest = self.maxima.iter().copied().max().unwrap_or_default();
        }
        let slot = &mut self.maxima[(self.second % GAP_SECONDS as u64) as usize];
        *slot = (*slot).max(late);
        self.largest = self.largest.max(late);
    }

    /// The largest gap of the last ten minutes.
    pub fn largest(&self) -> Duration {
        self.largest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::Health;

    fn member(incarnation: u64) -> Member {
        Member { node: NodeId(2), incarnation: Incarnation(incarnation) }
    }

    fn beat(sent: u64, core_ok: bool, cores: u8) -> Heartbeat {
        Heartbeat {
            sequence: 1,
            sent: Instant(sent),
            echo: Instant::ZERO,
            core_ok,
            draining: false,
            cores,
            mac: [1; 6],
            path: Health::default(),
            entries: Vec::new(),
        }
    }

    fn hear(detector: &mut Detector, at: u64, life: u64) -> Hearing {
        detector.handle_heard(Instant(at), member(life), None)
    }

    /// A later life speaks, is answered, and speaks again.
    fn begin(detector: &mut Detector, at: u64, life: u64) {
        assert_eq!(hear(detector, at, life), Hearing::Unproven);
        let proven = detector.handle_heard(Instant(at + 1), member(life), Some(Instant(at)));
        assert_eq!(proven, Hearing::Present);
    }

    #[test]
    fn a_former_life_does_not_come_back() {
        let mut detector = Detector::new([NodeId(2)].into_iter());
        assert!(!detector.is_superseded(member(1)));
        assert_eq!(hear(&mut detector, 1, 1), Hearing::Present);
        begin(&mut detector, 1, 2);
        assert_eq!(hear(&mut detector, 3, 1), Hearing::Stranger);
        assert!(detector.is_superseded(member(1)));
        assert!(detector.is_alive(Instant(5), member(2), Duration(3)));
        assert!(!detector.is_alive(Instant(6), member(2), Duration(3)));
        assert!(!detector.is_alive(Instant(3), member(1), Duration(3)));
    }

    #[test]
    fn an_unknown_node_is_refused() {
        let mut detector = Detector::new([NodeId(3)].into_iter());
        assert_eq!(hear(&mut detector, 1, 1), Hearing::Stranger);
    }

    /// Whoever has just begun knows none of the former lives of the others: a late word of one proves nothing.
    #[test]
    fn a_late_word_of_a_former_life_does_not_end_the_present_one() {
        let mut detector = Detector::new([NodeId(2)].into_iter());
        assert_eq!(hear(&mut detector, 10, 2), Hearing::Present);
        // Two of them, and the second repeats what this node said before the first arrived.
        for (at, echo) in [(20, None), (30, Some(Instant(19)))] {
            let late = detector.handle_heard(Instant(at), member(1), echo);
            assert_eq!(late, Hearing::Unproven);
        }
        assert!(!detector.is_dead(member(2)));
        assert_eq!(hear(&mut detector, 40, 2), Hearing::Present);
        // A life that answers is the present one, and whoever was it is over.
        begin(&mut detector, 50, 3);
        assert!(detector.is_superseded(member(2)));
        assert_eq!(hear(&mut detector, 60, 2), Hearing::Stranger);
    }

    #[test]
    fn a_surrender_ends_the_life_that_is_known_and_no_other() {
        let patience = Duration(100);
        let mut detector = Detector::new([NodeId(2)].into_iter());
        let surrender = |detector: &mut Detector, life, at| {
            detector.handle_surrender(Instant(9), member(life), Instant(at), patience)
        };
        assert_eq!(surrender(&mut detector, 1, 5), Err(Drop::UnknownSender));
        assert_eq!(surrender(&mut detector, 0, 5), Err(Drop::UnknownSender));
        hear(&mut detector, 0, 1);
        begin(&mut detector, 0, 2);
        assert_eq!(surrender(&mut detector, 1, 5), Err(Drop::UnknownSender));
        assert_eq!(surrender(&mut detector, 3, 5), Err(Drop::UnknownSender));
        assert_eq!(surrender(&mut detector, 2, 5), Ok(()));
        assert_eq!(surrender(&mut detector, 2, 5), Err(Drop::Surrendered));
        assert!(detector.is_dead(member(2)) && !detector.is_superseded(member(2)));
        assert!(!detector.is_alive(Instant(1), member(2), patience));
        begin(&mut detector, 10, 3);
        assert!(detector.is_alive(Instant(11), member(3), patience));
    }

    #[test]
    fn a_life_that_speaks_long_after_its_surrender_has_not_ended() {
        let patience = Duration(100);
        let mut detector = Detector::new([NodeId(2)].into_iter());
        hear(&mut detector, 1, 1);
        detector.handle_surrender(Instant(2), member(1), Instant(500), patience).unwrap();
        for (sent, core_ok, is_dead) in [(600, true, true), (601, false, true), (601, true, false)]
        {
            detector.handle_heartbeat(Instant(9), member(1), &beat(sent, core_ok, 1));
            detector.refute(member(1), patience);
            assert_eq!(detector.is_dead(member(1)), is_dead, "{sent} {core_ok}");
        }
        let late = detector.handle_surrender(Instant(3), member(1), Instant(500), patience);
        assert_eq!(late, Err(Drop::Refuted));
    }

    #[test]
    fn an_overtaken_heartbeat_changes_nothing() {
        let mut detector = Detector::new([NodeId(2)].into_iter());
        hear(&mut detector, 1, 1);
        assert_eq!(detector.cores_of(member(1)), None);
        detector.handle_heartbeat(Instant(9), member(1), &beat(9, true, 3));
        detector.handle_heartbeat(Instant(9), member(1), &beat(8, false, 2));
        assert!(detector.node(NodeId(2)).is_some_and(|heard| heard.core_ok));
        assert_eq!(detector.cores_of(member(1)), Some(3));
        // Another life may have another number.
        begin(&mut detector, 10, 2);
        assert_eq!((detector.cores_of(member(1)), detector.cores_of(member(2))), (None, None));
    }

    #[test]
    fn gaps_are_forgotten_after_ten_minutes() {
        let second = |n: u64| Instant(n * 1_000_000_000);
        let mut gaps = Gaps::new(second(0));
        gaps.record(second(1), Duration(50));
        gaps.record(second(2), Duration(20));
        assert_eq!(gaps.largest(), Duration(50));
        gaps.record(second(600), Duration(0));
        assert_eq!(gaps.largest(), Duration(50));
        gaps.record(second(601), Duration(0));
        assert_eq!(gaps.largest(), Duration(20));
        gaps.record(second(5_000_000), Duration(1));
        assert_eq!(gaps.largest(), Duration(1));
    }
}
