//! The peer: what it is told, what it says of that, and how it comes to serve.

use super::{Contract, Life, Plot, Rule, Segment, World};
use crate::search::Steps;

/// How the peer's copy stands.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum CopyState {
    /// It is what the owner's contract was some records ago.
    Faithful,
    /// It was given up, and the peer has acknowledged nothing since: only the peer shows it.
    GivenUp,
    /// And the peer has acknowledged something since without a word about it.
    Unnamed,
    /// There is none, and the owner knows it; perhaps one is on its way.
    Missing,
    /// As [`CopyState::Faithful`], after it was missing.
    Renewed,
}

impl World {
    pub(super) fn peer_steps(&self, into: &mut Steps<World>) {
        if self.is_promoted {
            if let Some(segment) = self.overheard {
                let world = self.use_overheard(segment);
                into.add(|| format!("the node uses what it heard, {segment:?}"), Ok(world));
            }
            return;
        }
        if self.waiting > 0 {
            into.add(|| "the peer acknowledges a record".into(), Ok(self.acknowledged()));
        }
        if !self.is_copied
            && let Some(world) = self.captured()
        {
            into.add(|| "the connection is captured for the peer".into(), Ok(world));
        }
        if self.plot == Plot::Bereft && self.copy == CopyState::Faithful {
            let world = World { copy: CopyState::GivenUp, ..*self };
            into.add(|| "the peer gives its copy up".into(), Ok(world));
        }
        if self.copy == CopyState::GivenUp && self.obeys(Rule::LossIsNamed) {
            into.add(|| "the peer says that it has no copy".into(), Ok(self.bereft()));
        }
        if let Some(segment) = self.overheard.filter(|_| !self.obeys(Rule::HeardIsKept)) {
            let world = self.answered_early(segment);
            into.add(|| format!("the peer answers what it heard, {segment:?}"), Ok(world));
        }
        match self.plot {
            Plot::HandedOver => self.hand_over(into),
            _ => self.die(into),
        }
    }

    /// The peer acknowledges the oldest record.
    fn acknowledged(&self) -> World {
        if self.copy == CopyState::GivenUp && self.obeys(Rule::LossIsNamed) {
            return self.bereft();
        }
        let mut world = *self;
        let record = self.log[0];
        world.log.rotate_left(1);
        world.log[super::LOG - 1] = Contract::default();
        world.waiting -= 1;
        if self.stale > 0 {
            world.stale -= 1;
            if self.is_copied && !self.obeys(Rule::CaptureIsHeld) {
                world.held = record;
            }
            return world;
        }
        world.held = record;
        world.is_in_sync = true;
        world.copy = match self.copy {
            CopyState::GivenUp => CopyState::Unnamed,
            CopyState::Missing => CopyState::Renewed,
            copy => copy,
        };
        world
    }

    /// The owner hears that the peer has given its copy up: the connection stands alone, and that is shown. What is on its way
    /// about the former copy does nothing.
    fn bereft(&self) -> World {
        let held = Contract::default();
        let (copy, stale) = (CopyState::Missing, self.waiting);
        World { copy, stale, held, is_copied: false, ..*self }
    }

    /// The connection is captured as it is, at one place of the log. Until the peer holds that nothing is said.
    fn captured(&self) -> Option<World> {
        let mut world = *self;
        *world.log.get_mut(usize::from(self.waiting))? = self.now;
        world.waiting += 1;
        world.is_copied = true;
        world.is_in_sync |= !self.obeys(Rule::GrantedWhenFilled);
        Some(world)
    }

    /// What the peer holds when so many of the records that are on their way have arrived.
    fn copy_after(&self, records: u8) -> Contract {
        let has_arrived = records > self.stale;
        match self.copy {
            CopyState::GivenUp | CopyState::Unnamed => Contract::default(),
            CopyState::Missing if !has_arrived => Contract::default(),
            _ if has_arrived => self.log[usize::from(records) - 1],
            _ => self.held,
        }
    }

    /// The peer carries on with so many of the records that are on their way.
    fn promoted(&self, records: u8) -> World {
        let now = self.copy_after(records);
        let world = World { now, nxt: now.una, is_promoted: true, ..*self };
        // A copy that is over is gone: who still speaks to it hears that.
        let owes = self.obeys(Rule::Asks) && now.life == Life::Open;
        let (copy, is_frozen) = (CopyState::Faithful, false);
        World { owes, copy, is_frozen, ..world.without_log() }
    }

    fn die(&self, into: &mut Steps<World>) {
        // Where the owner, or the peer itself, shows that a copy is missing nobody was promised anything.
        let is_shown = self.plot == Plot::Bereft
            && match self.copy {
                CopyState::GivenUp => true,
                CopyState::Missing => self.held.life == Life::Unknown,
                _ => false,
            };
        if !self.is_in_sync || is_shown {
            return;
        }
        for records in 0..=self.waiting {
            let world = self.promoted(records).with_every_byte();
            into.add(|| format!("the owner dies, and {records} records more have arrived"), world);
        }
    }

    /// The owner freezes and says so when the peer holds everything. (That it is frozen before and waits for that is as if
    /// nothing came or was said.) Then the register changes, or nothing comes of it.
    fn hand_over(&self, into: &mut Steps<World>) {
        if self.is_frozen {
            let thawed = World { is_frozen: false, ..*self };
            into.add(|| "the owner serves on".into(), Ok(thawed));
            let world = World { was_handed_over: true, ..self.promoted(0) };
            into.add(|| "the nodes change places".into(), world.with_every_byte());
        } else if self.waiting == 0 || !self.obeys(Rule::HandsOverAll) {
            let world = World { is_frozen: true, ..*self };
            into.add(|| "the owner is frozen, and says so".into(), Ok(world));
        }
    }

    /// As any other segment; but a SYN is answered by a cookie, which leaves no trace, and nobody is reset.
    fn use_overheard(&self, segment: Segment) -> World {
        let world = World { overheard: None, ..*self };
        match self.now.life {
            Life::Unknown => world,
            _ => world.hear(segment).unwrap_or(world),
        }
    }

    /// What would happen if the peer took what it heard: its copy has a byte more, and the client hears of that.
    fn answered_early(&self, segment: Segment) -> World {
        let mut world = World { overheard: None, ..*self };
        if let Segment::Plain { seq, ack, item: Some(_), .. } = segment
            && self.held.life == Life::Open
            && seq == self.held.rcv
        {
            let edge = self.held.edge + 1;
            world.to_client = Some(Segment::Plain { seq: ack, ack: seq + 1, edge, item: None });
        }
        world
    }
}
