//! Client and server: a TCP that says a byte and ends, and judges what it hears.

use super::{CLIENT, END, Item, Plot, SERVER, Segment, World, side};
use crate::places;
use crate::search::Steps;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) enum State {
    #[default]
    Closed,
    Opening,
    Open,
    /// Everything was said and heard, and is forgotten.
    Gone,
    /// Forgotten before that: whatever comes is answered by a reset.
    Aborted,
    /// By the node.
    Reset,
}

/// A client or a server.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Party {
    pub state: State,
    pub una: u8,
    pub nxt: u8,
    pub rcv: u8,
    pub heard: Option<Item>,
    /// It is offered room for its byte.
    is_offered: bool,
    /// It has room for the other one's.
    has_room: bool,
    pub owes: bool,
}

impl Party {
    /// A client whose connection is open.
    pub fn connected(is_offered: bool) -> Party {
        let has_room = true;
        let state = State::Open;
        Party { state, una: 1, nxt: 1, rcv: 1, is_offered, has_room, ..Party::default() }
    }

    /// A server that nobody has asked.
    pub fn listening(has_room: bool) -> Party {
        Party { has_room, is_offered: true, ..Party::default() }
    }

    pub fn is_done(&self) -> bool {
        self.una == END && self.rcv == END
    }

    /// Who has forgotten the connection knows nothing else.
    pub fn reduced(self) -> Party {
        match self.state {
            State::Aborted | State::Reset => Party { state: self.state, ..Party::default() },
            _ => self,
        }
    }

    fn take(&mut self, segment: Segment) -> Result<(), String> {
        let Segment::Plain { seq, ack, has_room, item } = segment else { return Ok(()) };
        if ack > self.nxt {
            return Err(format!("{ack} is acknowledged, {} comes next", self.nxt));
        }
        if self.is_offered && !has_room {
            return Err("the right edge moves to the left".into());
        }
        self.is_offered = has_room;
        self.una = self.una.max(ack);
        // RFC 9293 3.10.7.4: what lies below is answered.
        self.owes |= item.is_some() || seq < self.rcv;
        let Some(item) = item else { return Ok(()) };
        if seq == 1 && self.rcv > 1 && self.heard != Some(item) {
            return Err(format!("two values: {:?} and {item:?}", self.heard));
        }
        if seq == self.rcv && self.has_room {
            self.rcv += 1;
            if seq == 1 {
                self.heard = Some(item);
            }
        }
        Ok(())
    }
}

impl World {
    pub(super) fn party_steps(&self, leg: usize, into: &mut Steps<World>) {
        if self.is_serving() {
            self.party_speaks(leg, into);
        }
        if let Some(segment) = self.out[leg] {
            for (what, heard) in self.party_hears(leg, segment).into_iter().flatten() {
                into.add(|| format!("{} {what} {segment:?}", side(leg)), heard);
            }
        }
        let party = self.party(leg);
        let mut becomes = |what: &str, party| {
            let mut world = *self;
            *world.party_mut(leg) = party;
            into.add(|| format!("{} {what}", side(leg)), Ok(world));
        };
        if party.state != State::Open {
            return;
        }
        // Who has said and heard everything forgets the connection when it likes; nothing of it is owed.
        if leg == SERVER && party.is_done() && !party.owes {
            becomes("forgets", Party { state: State::Gone, ..party });
        }
        if !party.has_room {
            becomes("gets room", Party { has_room: true, owes: true, ..party });
        }
    }

    fn party_speaks(&self, leg: usize, into: &mut Steps<World>) {
        let mut say = |segment, party| {
            let mut world = *self;
            *world.party_mut(leg) = party;
            if let Some(world) = world.hear(leg, segment) {
                into.add(|| format!("{} says {segment:?}", side(leg)), Ok(world));
            }
            // Whatever is not said again by itself may get lost.
            let is_bare = matches!(segment, Segment::Plain { item: None, .. });
            if is_bare && self.plot == Plot::Narrow {
                into.add(|| format!("{} says {segment:?}, which is lost", side(leg)), Ok(world));
            }
        };
        let party = self.party(leg);
        let Party { state, una, nxt, rcv, is_offered, has_room, owes, .. } = party;
        match state {
            State::Opening => say(Segment::SynAck { has_room }, party),
            State::Open => {
                let plain = |seq, item| Segment::Plain { seq, ack: rcv, has_room, item };
                if owes {
                    say(plain(nxt, None), Party { owes: false, ..party });
                }
                for at in places(una, nxt) {
                    let byte = if leg == CLIENT { 0 } else { self.now.server };
                    let item = if at == 1 { Item::Byte(byte) } else { Item::Fin };
                    if at < END && is_offered {
                        let nxt = nxt.max(at + 1);
                        say(plain(at, Some(item)), Party { nxt, owes: false, ..party });
                    }
                }
                // Who has no room for its byte asks; who hears nothing asks in the end whether anybody is there, which
                // matters where nobody is.
                if !is_offered || self.now.legs[leg].is_over {
                    say(plain(una - 1, None), party);
                }
                if self.may_abort() {
                    say(Segment::Reset { seq: nxt }, Party { state: State::Aborted, ..party });
                }
            }
            _ => {}
        }
    }

    /// What may come of a segment.
    fn party_hears(
        &self,
        leg: usize,
        segment: Segment,
    ) -> [Option<(&'static str, Result<World, String>)>; 2] {
        let mut world = *self;
        world.out[leg] = None;
        let party = self.party(leg);
        let becomes = |party| {
            let mut world = world;
            *world.party_mut(leg) = party;
            Some(("hears", Ok(world)))
        };
        // Where the node cannot take an answer for want of room in the log, the question is asked later.
        let answers = |seq| {
            let may = self.is_serving();
            let heard = world.hear(leg, Segment::Reset { seq }).filter(|_| may)?;
            Some(("answers by a reset", Ok(heard)))
        };
        match (party.state, segment) {
            (State::Closed, Segment::Syn) => {
                let opening = Party { state: State::Opening, nxt: 1, rcv: 1, ..party };
                let may_refuse = self.plot == Plot::Refused;
                [becomes(opening), if may_refuse { answers(0) } else { None }]
            }
            (State::Opening, Segment::Plain { ack: 1.., .. }) => {
                let mut open = Party { state: State::Open, una: 1, ..party };
                let taken = open.take(segment);
                [taken.map_or_else(|why| Some(("hears", Err(why))), |()| becomes(open)), None]
            }
            // RFC 9293 3.10.7.4, second: back to LISTEN.
            (State::Opening, Segment::Reset { seq: 1 }) => {
                [becomes(Party::listening(party.has_room)), None]
            }
            (State::Open, Segment::Plain { .. }) => {
                let mut taken = party;
                let result = taken.take(segment);
                [result.map_or_else(|why| Some(("hears", Err(why))), |()| becomes(taken)), None]
            }
            (State::Open, Segment::Reset { seq }) if seq == party.rcv => {
                if !self.has_cause(leg) && !party.is_done() {
                    let why = format!("{} is reset, and who serves knows no reason", side(leg));
                    return [Some(("hears", Err(why))), None];
                }
                // Nothing was owed any more to who had ended.
                let state = if party.is_done() { State::Open } else { State::Reset };
                [becomes(Party { state, ..party }), None]
            }
            (State::Open, _) => [becomes(Party { owes: true, ..party }), None],
            (State::Gone | State::Aborted | State::Closed, Segment::Plain { ack, .. }) => {
                [answers(ack), None]
            }
            _ => [Some(("hears", Ok(world))), None],
        }
    }

    /// Whether who serves knows why a side may be reset.
    fn has_cause(&self, leg: usize) -> bool {
        self.now.has_given_up || self.party(1 - leg).state == State::Aborted
    }
}
