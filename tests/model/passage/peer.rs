//! The peer: what it is told, and how it comes to serve.

use super::{CLIENT, Contract, LOG, Leg, Local, Plot, Rule, SERVER, World};
use crate::search::Steps;

impl World {
    pub(super) fn peer_steps(&self, into: &mut Steps<World>) {
        if self.is_promoted {
            return;
        }
        if self.waiting > 0 {
            let mut world = World { held: self.log[0], waiting: self.waiting - 1, ..*self };
            world.log.rotate_left(1);
            world.log[LOG - 1] = Contract::default();
            world.is_in_sync = true;
            into.add(|| "the peer acknowledges a record".into(), Ok(world));
        }
        if !self.is_copied {
            // Both legs as they are, at one place of the log; what was passed on ahead of it is left out.
            let is_in_sync = !self.obeys(Rule::GrantedWhenFilled);
            let world = World { log: [self.now], waiting: 1, is_copied: true, is_in_sync, ..*self };
            into.add(|| "the connection is captured for the peer".into(), Ok(world));
        }
        if self.plot == Plot::HandedOver {
            self.hand_over(into);
        } else if self.is_in_sync {
            for records in 0..=self.waiting {
                let mut world = self.promoted(records);
                for leg in [CLIENT, SERVER] {
                    let asks = world.now.legs[leg].is_open && !world.now.legs[leg].is_over;
                    world.local[leg].owes_probe = asks && self.obeys(Rule::Asks);
                }
                let name = || format!("the owner dies, and {records} records more have arrived");
                into.add(name, Ok(world));
            }
        }
    }

    /// The owner freezes and says so when the peer holds everything. (That it is frozen before and waits for that is as if
    /// nothing came or was said.) Then the register changes, or nothing comes of it. Nothing is asked afterwards.
    fn hand_over(&self, into: &mut Steps<World>) {
        if self.is_frozen {
            let thawed = World { is_frozen: false, ..*self };
            into.add(|| "the owner serves on".into(), Ok(thawed));
            into.add(|| "the nodes change places".into(), Ok(self.promoted(0)));
        } else if self.waiting == 0 || !self.obeys(Rule::HandsOverAll) {
            let frozen = World { is_frozen: true, ..*self };
            into.add(|| "the owner is frozen, and says so".into(), Ok(frozen));
        }
    }

    /// The peer carries on with so many of the records that are on their way.
    fn promoted(&self, records: u8) -> World {
        let now = if records == 0 { self.held } else { self.log[usize::from(records) - 1] };
        let local = |leg: usize| {
            let Leg { rcv, una, byte, has_room, .. } = now.legs[leg];
            // End to end, a byte that was acknowledged is at its receiver: nobody asks for it again.
            Local { seen: rcv, byte, nxt: una, has_room, ..Local::default() }
        };
        let local = [local(CLIENT), local(SERVER)];
        let log = [Contract::default(); LOG];
        let (is_promoted, is_frozen) = (true, false);
        World { now, local, log, waiting: 0, is_promoted, is_frozen, ..*self }
    }
}
