//! The node that serves: what it takes of either side, what it says to the other, and the gate in between.

use super::{
    CLIENT, Contract, END, Item, Leg, Local, Mode, Plot, Rule, SERVER, Segment, World, side,
};
use crate::places;
use crate::search::Steps;

impl World {
    /// Whether what this node says waits for anybody.
    fn is_gated(&self) -> bool {
        self.is_copied && !self.is_promoted
    }

    /// What may show of the contract.
    fn shown(&self, rule: Rule) -> Contract {
        if !self.is_gated() || !self.obeys(rule) { self.now } else { self.held }
    }

    /// The contract changes by a fact, which is recorded; without room it is as if nothing had happened.
    fn enact(&self, change: impl Fn(&mut Contract)) -> Option<World> {
        let mut world = *self;
        change(&mut world.now);
        for (to, from) in [(CLIENT, SERVER), (SERVER, CLIENT)] {
            world.receive(to, from);
        }
        for leg in [CLIENT, SERVER] {
            let has_closed = self.now.legs[leg].una < END && world.now.legs[leg].una == END;
            let knows_all = self.local[leg].fin_answers || !self.obeys(Rule::CrossedIsKept);
            // LAST-ACK is over. (What CLOSING and FIN-WAIT come to, TIME-WAIT, lasts until nobody says anything.)
            if has_closed && world.now.legs[leg].rcv == END && knows_all {
                world.now.legs[leg].is_over = true;
            }
        }
        if world.now != self.now && self.is_copied && !self.is_promoted {
            *world.log.get_mut(usize::from(self.waiting))? = world.now;
            world.waiting += 1;
        }
        Some(world)
    }

    /// What one side was seen to say is received: end to end as far as the other side has acknowledged it, or is not there to do
    /// so.
    fn receive(&mut self, to: usize, from: usize) {
        let Leg { una, is_over: is_alone, .. } = self.now.legs[from];
        let waits = self.mode == Mode::EndToEnd && self.obeys(Rule::AcknowledgedEndToEnd);
        let Local { seen, byte, .. } = self.local[to];
        let passed = if waits && !is_alone { seen.min(una.max(1)) } else { seen };
        let leg = &mut self.now.legs[to];
        if leg.is_open && !leg.is_over && passed > leg.rcv {
            leg.rcv = passed;
            leg.byte = if self.mode == Mode::Held { byte } else { 0 };
        }
    }

    /// The node says something to one side.
    pub(super) fn speak(&self, leg: usize, into: &mut Steps<World>) {
        let Leg { is_open, una, rcv, is_over, .. } = self.now.legs[leg];
        let local = self.local[leg];
        let mut say = |segment, local| {
            let mut world = *self;
            world.out[leg] = Some(segment);
            world.local[leg] = local;
            into.add(|| format!("the node says {segment:?} to {}", side(leg)), Ok(world));
        };
        if is_over {
            if local.owes && is_open && self.shows_end(leg) {
                let seq = local.nxt.max(una);
                say(Segment::Reset { seq }, Local { owes: false, ..local });
            }
            return;
        }
        let chosen = self.shown(Rule::ChoiceIsHeld);
        if leg == SERVER && !is_open {
            if self.now.server != 0 && chosen.server == self.now.server {
                say(Segment::Syn, Local { nxt: 1, ..local });
            }
            return;
        }
        if !is_open || !chosen.legs[leg].is_open {
            return;
        }
        let ack = self.shown(Rule::AckIsHeld).legs[leg].rcv.max(1);
        let has_room = self.offers_room(leg);
        let plain = |seq, item| Segment::Plain { seq, ack, has_room, item };
        let local = Local { owes: false, ..local };
        if self.local[leg].owes {
            say(plain(local.nxt.max(una), None), local);
        }
        if local.owes_probe {
            say(plain(una - 1, None), Local { owes_probe: false, ..local });
        }
        let Local { seen, byte, .. } = self.local[1 - leg];
        for at in places(una, local.nxt) {
            let item = if at == 1 { Item::Byte(byte) } else { Item::Fin };
            let lacks_room = item != Item::Fin && !local.has_room;
            if at >= seen || lacks_room || item == Item::Fin && !self.may_finish(leg, ack) {
                continue;
            }
            let mut said = Local { nxt: local.nxt.max(at + 1), ..local };
            if said.nxt == END && local.nxt < END {
                said.fin_answers = rcv == END && !self.is_promoted;
            }
            say(plain(at, Some(item)), said);
        }
    }

    /// A FIN leaves with the acknowledgement of this side's, if that has come.
    fn may_finish(&self, leg: usize, ack: u8) -> bool {
        self.now.legs[leg].rcv < END || ack == END || !self.obeys(Rule::FinBringsAck)
    }

    /// Whether a side is offered room for its byte: as far as the other one has it.
    fn offers_room(&self, leg: usize) -> bool {
        leg == SERVER || self.plot != Plot::Narrow || {
            self.shown(Rule::EdgeIsHeld).legs[SERVER].has_room
        }
    }

    /// Whether it may be seen that a leg is over: who ends one keeps it until the peer holds that.
    fn shows_end(&self, leg: usize) -> bool {
        self.shown(Rule::EndIsHeld).legs[leg].is_over
    }

    /// A segment of one side reaches the node.
    pub(super) fn hear(&self, leg: usize, segment: Segment) -> Option<World> {
        let mut world = *self;
        let Leg { is_open, is_over, .. } = self.now.legs[leg];
        let stray = |seq| {
            let mut world = *self;
            if self.shows_end(leg) || !is_over {
                world.out[leg] = Some(Segment::Reset { seq });
            }
            Some(world)
        };
        match segment {
            Segment::Reset { .. } if is_over => return Some(world),
            Segment::SynAck { .. } if is_over => return stray(1),
            Segment::Plain { ack, .. } if is_over || !is_open => return stray(ack),
            Segment::SynAck { has_room } if !is_open && self.now.server != 0 => {
                let local = Local { seen: 1, owes: true, has_room, nxt: 1, ..Local::default() };
                world.local[leg] = local;
                return world.enact(|now| {
                    let (rcv, una) = (1, 1);
                    now.legs[leg] = Leg { is_open: true, rcv, una, has_room, ..Leg::default() };
                    // Who was asked before is of no interest any more.
                    now.refused = [false; 2];
                });
            }
            Segment::Reset { seq } => return world.hear_reset(leg, seq),
            _ => {}
        }
        let Segment::Plain { seq, ack, has_room, item } = segment else {
            world.local[leg].owes |= is_open;
            return Some(world);
        };
        let Local { seen, nxt, .. } = self.local[leg];
        world.local[leg].owes |= item.is_some() || seq < seen;
        if ack > nxt.max(self.now.legs[leg].una)
            && !(self.is_promoted && self.obeys(Rule::AcceptsBeyond))
        {
            return Some(world);
        }
        if let Some(item) = item.filter(|_| seq == seen) {
            world.local[leg].seen += 1;
            if let Item::Byte(byte) = item {
                world.local[leg].byte = byte;
            }
        }
        world.local[leg].nxt = nxt.max(ack);
        world.local[leg].has_room |= has_room;
        if leg == CLIENT && seq < seen && !self.now.legs[SERVER].has_room {
            world.local[SERVER].owes_probe |=
                self.now.legs[SERVER].is_open && self.obeys(Rule::AsksAcross);
        }
        world.enact(|now| {
            now.legs[leg].una = now.legs[leg].una.max(ack);
            now.legs[leg].has_room |= has_room;
        })
    }

    /// A side is gone, or a server refuses. RFC 5961 3.2, but from SEG.ACK on: its sender may have answered what was
    /// acknowledged, and that is less than what was taken. Here any SEG.ACK will do, not only the last.
    fn hear_reset(&self, leg: usize, seq: u8) -> Option<World> {
        let Leg { is_open, rcv, .. } = self.now.legs[leg];
        let Local { seen, .. } = self.local[leg];
        if !is_open {
            return self.hear_refusal();
        }
        let first = if self.obeys(Rule::ResetFromAck) { 1 } else { seen };
        if !(first..=seen).contains(&seq) {
            let mut world = *self;
            world.local[leg].owes |= seq > seen;
            return Some(world);
        }
        let is_joined = self.now.legs[SERVER].is_open;
        if rcv == END && is_joined && self.obeys(Rule::ResetAfterEnd) {
            // All that it said is acknowledged, and the other side need not hear of this.
            let mut world = self.enact(|now| now.legs[leg].is_over = true)?;
            world.local[leg].owes = false;
            return Some(world);
        }
        let mut world = self.enact(|now| now.legs.iter_mut().for_each(|leg| leg.is_over = true))?;
        world.local[leg].owes = false;
        world.local[1 - leg].owes = true;
        Some(world)
    }

    /// The server that was asked refuses.
    fn hear_refusal(&self) -> Option<World> {
        if self.now.server == 0 || self.now.legs[SERVER].is_over {
            return Some(*self);
        }
        if !self.obeys(Rule::RefusalIsNoEnd) {
            let mut world = self.enact(|now| now.legs[CLIENT].is_over = true)?;
            world.local[CLIENT].owes = true;
            return Some(world);
        }
        let mut world = self.enact(|now| {
            now.refused[usize::from(now.server) - 1] = true;
            (now.server, now.legs[SERVER]) = (0, Leg::default());
        })?;
        world.local[SERVER] = Local::default();
        // What is on its way to this server does not reach the next.
        world.out[SERVER] = None;
        Some(world)
    }

    /// What nobody but the node decides: whom to ask, and when it has had enough.
    pub(super) fn decide(&self, into: &mut Steps<World>) {
        let Contract { server, refused, legs, .. } = self.now;
        let server_is_chosen = server != 0;
        let first = usize::from(self.is_promoted);
        let next = [first, 1 - first].into_iter().find(|&server| !refused[server]);
        let server = if server == 0 && !legs[CLIENT].is_over { next } else { None };
        if let Some(server) = server.map(|server| server as u8 + 1)
            && let Some(mut world) = self.enact(|now| now.server = server)
        {
            // What is on its way to another server does not reach this one.
            world.out[SERVER] = None;
            into.add(|| format!("the node chooses server {server}"), Ok(world));
        }
        // After the death nobody is left whom that could contradict.
        let is_impatient = self.plot == Plot::Impatient && !self.is_promoted;
        let is_patient = !is_impatient && (server_is_chosen || next.is_some());
        if is_patient || legs.iter().any(|leg| leg.is_over) {
            return;
        }
        if let Some(mut world) = self.enact(|now| {
            now.has_given_up = true;
            now.legs.iter_mut().for_each(|leg| leg.is_over = true);
        }) {
            world.local.iter_mut().for_each(|local| local.owes = true);
            into.add(|| "the node gives up".into(), Ok(world));
        }
    }
}
