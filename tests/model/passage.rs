//! A connection that is passed on: a client says a byte and ends, a server says a byte and ends, each hears the other.
//!
//! ```text
//! client --> owner --> server 1 or 2, as the owner has chosen
//!        <--   |   <--
//!              `-- log: positions, no payload --> peer
//! ```
//!
//! A byte is acknowledged to its sender when its receiver has acknowledged it; so the log carries positions, and what a peer
//! has not seen its senders still have. Positions count the SYN as 0, the byte as 1, the FIN as 2. Both ends of a
//! connection are the same thing ([`Party`]); so are both legs of the node.
//!
//! The story begins when the client's leg is open: how that opens is in the other model. One record may be on its way. The owner
//! chooses the first server, a peer that knows of no choice the second: they are alike. Left out: windows, time-outs,
//! servers that fail, early acknowledgement, a client that forgets. What the node says may be lost or late, one segment in each
//! direction; what client and server say is heard at once or lost, and they say it again: so it is as if it were late.

use crate::search::{Model, Steps};

/// Behind the FIN.
const END: u8 = 3;
/// Records that may wait in the log.
const LOG: usize = 1;
/// The client, and its leg of the node.
const CLIENT: usize = 0;
/// A server, and its leg of the node.
const SERVER: usize = 1;

/// What keeps client and server from noticing a death.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Rule {
    /// Nothing is said to a server before the peer holds that it was chosen and has answered. (A SYN alone does no harm but
    /// to leave a connection half open at a server that a promoted peer does not choose.)
    ChoiceIsHeld,
    /// A byte is acknowledged to its sender when its receiver has it.
    AcknowledgedEndToEnd,
    /// And when the peer holds that.
    AckIsHeld,
    /// The peer accepts acknowledgements of what its owner passed on.
    AcceptsBeyond,
    /// Who has said everything and is gone resets its own leg only.
    ResetAfterEnd,
}

/// All of them.
pub const RULES: [Rule; 5] = [
    Rule::ChoiceIsHeld,
    Rule::AcknowledgedEndToEnd,
    Rule::AckIsHeld,
    Rule::AcceptsBeyond,
    Rule::ResetAfterEnd,
];

/// Who has said something, and where in the stream.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Item {
    /// The client's byte (0), or that of a server.
    Byte(u8),
    Fin,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Segment {
    Syn,
    SynAck,
    Reset { seq: u8 },
    Plain { seq: u8, ack: u8, item: Option<Item> },
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
enum State {
    #[default]
    Closed,
    Opening,
    Open,
    /// Everything was said and heard, and is forgotten.
    Gone,
}

/// A client or a server.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Party {
    state: State,
    una: u8,
    nxt: u8,
    rcv: u8,
    heard: Option<Item>,
    owes: bool,
}

/// What the log says of one leg.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Leg {
    is_open: bool,
    /// Acknowledged to this side.
    rcv: u8,
    /// Acknowledged by this side.
    una: u8,
    /// This side is gone, and takes nothing more.
    is_over: bool,
}

/// What the log carries.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Contract {
    legs: [Leg; 2],
    /// 0 as long as none is chosen.
    server: u8,
}

/// What a node knows of one leg, and no other.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Local {
    /// Behind the last item that this side was seen to say.
    seen: u8,
    /// Which byte that was.
    byte: u8,
    nxt: u8,
    owes: bool,
}

/// The connection, its ends and both nodes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct World {
    without: Option<Rule>,
    client: Party,
    servers: [Party; 2],
    /// On its way from the node to either side.
    out: [Option<Segment>; 2],
    now: Contract,
    local: [Local; 2],
    held: Contract,
    log: [Contract; LOG],
    waiting: u8,
    is_promoted: bool,
}

impl World {
    /// The client has connected.
    pub fn new(without: Option<Rule>) -> World {
        let client = Party { state: State::Open, una: 1, nxt: 1, rcv: 1, heard: None, owes: false };
        let leg = Leg { is_open: true, rcv: 1, una: 1, is_over: false };
        let contract = Contract { legs: [leg, Leg::default()], server: 0 };
        let local = Local { seen: 1, byte: 0, nxt: 1, owes: false };
        World {
            without,
            client,
            servers: [Party::default(); 2],
            out: [None; 2],
            now: contract,
            local: [local, Local::default()],
            held: contract,
            log: [Contract::default(); LOG],
            waiting: 0,
            is_promoted: false,
        }
    }

    fn obeys(&self, rule: Rule) -> bool {
        self.without != Some(rule)
    }

    /// What may show of the contract.
    fn shown(&self, rule: Rule) -> Contract {
        if self.is_promoted || !self.obeys(rule) { self.now } else { self.held }
    }

    /// The contract changes by a fact, which is recorded; without room it is as if nothing had happened.
    fn enact(&self, change: impl Fn(&mut Contract)) -> Option<World> {
        let mut world = *self;
        change(&mut world.now);
        // What one side has acknowledged, the other side's leg acknowledges: as far as it was seen.
        for (to, from) in [(CLIENT, SERVER), (SERVER, CLIENT)] {
            let has_it = world.now.legs[from].una;
            let (is_gone, seen) = (world.now.legs[from].is_over, world.local[to].seen);
            let leg = &mut world.now.legs[to];
            let passed = match self.obeys(Rule::AcknowledgedEndToEnd) && !is_gone {
                true => seen.min(has_it.max(1)),
                false => seen,
            };
            if leg.is_open {
                leg.rcv = leg.rcv.max(passed);
            }
        }
        if world.now != self.now && !self.is_promoted {
            *world.log.get_mut(usize::from(self.waiting))? = world.now;
            world.waiting += 1;
        }
        Some(world)
    }

    fn party(&self, leg: usize) -> Party {
        match leg {
            CLIENT => self.client,
            _ => self.servers[usize::from(self.now.server.max(1)) - 1],
        }
    }

    fn party_mut(&mut self, leg: usize) -> &mut Party {
        match leg {
            CLIENT => &mut self.client,
            _ => &mut self.servers[usize::from(self.now.server.max(1)) - 1],
        }
    }

    /// The node says something to one side.
    fn speak(&self, leg: usize, into: &mut Steps<World>) {
        let mut say = |segment, nxt: u8| {
            let mut world = *self;
            world.out[leg] = Some(segment);
            world.local[leg] =
                Local { nxt: nxt.max(self.local[leg].nxt), owes: false, ..self.local[leg] };
            into.add(|| format!("the node says {segment:?} to {}", side(leg)), Ok(world));
        };
        let (local, Leg { is_open, una, is_over, .. }) = (self.local[leg], self.now.legs[leg]);
        if leg == SERVER && !is_open {
            if self.shown(Rule::ChoiceIsHeld).server != 0 {
                say(Segment::Syn, 1);
            }
            return;
        }
        let held = self.shown(Rule::AckIsHeld).legs[leg];
        if !is_open || is_over || !self.shown(Rule::ChoiceIsHeld).legs[leg].is_open {
            return;
        }
        let plain = |seq, item| Segment::Plain { seq, ack: held.rcv.max(1), item };
        if local.owes {
            say(plain(local.nxt.max(una), None), 0);
        }
        let other = self.local[1 - leg];
        for at in [local.nxt.max(una), una] {
            if at < other.seen {
                let item = if at == 1 { Item::Byte(other.byte) } else { Item::Fin };
                say(plain(at, Some(item)), at + 1);
            }
        }
    }

    /// A segment of one side reaches the node.
    fn hear(&self, leg: usize, segment: Segment) -> Option<World> {
        let mut world = *self;
        let Leg { is_open, is_over, .. } = self.now.legs[leg];
        match segment {
            Segment::SynAck if !is_open && self.now.server != 0 => {
                (world.local[leg].seen, world.local[leg].owes) = (1, true);
                return world.enact(|now| {
                    now.legs[leg] = Leg { is_open: true, rcv: 1, una: 1, is_over: false };
                });
            }
            Segment::Plain { ack, .. } if !is_open => {
                world.out[leg] = Some(Segment::Reset { seq: ack });
                return Some(world);
            }
            Segment::Reset { seq } if is_open && seq == self.local[leg].seen && !is_over => {
                return world.hear_reset(leg);
            }
            _ => {}
        }
        world.local[leg].owes |= is_open && !matches!(segment, Segment::Reset { .. });
        let Segment::Plain { seq, ack, item } = segment else { return Some(world) };
        let next = self.local[leg].nxt.max(self.now.legs[leg].una);
        if is_over || ack > next && !(self.is_promoted && self.obeys(Rule::AcceptsBeyond)) {
            return Some(world);
        }
        if let Some(item) = item.filter(|_| seq == self.local[leg].seen) {
            world.local[leg].seen += 1;
            if let Item::Byte(byte) = item {
                world.local[leg].byte = byte;
            }
        }
        world.local[leg].nxt = world.local[leg].nxt.max(ack);
        world.enact(|now| now.legs[leg].una = now.legs[leg].una.max(ack))
    }

    /// One side is gone. If all that it said is acknowledged it may be, and the other side need not hear of it.
    fn hear_reset(&self, leg: usize) -> Option<World> {
        let has_ended = self.now.legs[leg].rcv == END;
        if has_ended && self.obeys(Rule::ResetAfterEnd) {
            return self.enact(|now| now.legs[leg].is_over = true);
        }
        let mut world = *self;
        let Party { rcv, .. } = self.party(1 - leg);
        world.out[1 - leg] = Some(Segment::Reset { seq: rcv });
        Some(world)
    }

    /// The peer carries on with so many of the records that are on their way.
    fn promoted(&self, records: u8) -> World {
        let now = if records == 0 { self.held } else { self.log[usize::from(records) - 1] };
        let local = |leg: usize| {
            let Leg { rcv, una, is_open, .. } = now.legs[leg];
            // A byte that was acknowledged is at its receiver: nobody asks for it again.
            Local { seen: rcv, byte: 0, nxt: una, owes: is_open }
        };
        let local = [local(CLIENT), local(SERVER)];
        let log = [Contract::default(); LOG];
        World { now, local, held: now, log, waiting: 0, is_promoted: true, ..*self }
    }
}

/// Client and servers.
impl World {
    fn party_speaks(&self, leg: usize, into: &mut Steps<World>) {
        let mut say = |segment, party| {
            let mut world = *self;
            *world.party_mut(leg) = party;
            let heard = world.hear(leg, segment).map(Ok);
            if let Some(heard) = heard {
                into.add(|| format!("{} says {segment:?}", side(leg)), heard);
            }
        };
        let party = self.party(leg);
        let Party { state, una, nxt, rcv, owes, .. } = party;
        match state {
            State::Opening => say(Segment::SynAck, party),
            State::Open => {
                let plain = |seq, item| Segment::Plain { seq, ack: rcv, item };
                if owes {
                    say(plain(nxt, None), Party { owes: false, ..party });
                }
                for at in [una, nxt] {
                    let byte = if leg == CLIENT { 0 } else { self.now.server };
                    let item = if at == 1 { Item::Byte(byte) } else { Item::Fin };
                    if at < END {
                        let nxt = nxt.max(at + 1);
                        say(plain(at, Some(item)), Party { nxt, owes: false, ..party });
                    }
                }
            }
            _ => {}
        }
    }

    fn party_hears(&self, leg: usize, segment: Segment) -> Result<World, String> {
        let mut world = *self;
        world.out[leg] = None;
        let mut party = self.party(leg);
        match (party.state, segment) {
            (State::Closed, Segment::Syn) => {
                party = Party { state: State::Opening, una: 0, nxt: 1, rcv: 1, ..party };
            }
            (State::Opening, Segment::Plain { ack: 1.., .. }) => {
                party = Party { state: State::Open, una: 1, ..party };
                party.take(segment)?;
            }
            (State::Open, Segment::Plain { .. }) => party.take(segment)?,
            (State::Open, Segment::Reset { seq }) if seq == party.rcv => {
                return Err(format!("{} is reset without a cause", side(leg)));
            }
            (State::Open, _) => party.owes = true,
            (State::Gone | State::Closed, Segment::Plain { ack, .. }) => {
                world = world.hear(leg, Segment::Reset { seq: ack }).unwrap_or(world);
            }
            _ => {}
        }
        *world.party_mut(leg) = party;
        Ok(world)
    }
}

impl Party {
    fn take(&mut self, segment: Segment) -> Result<(), String> {
        let Segment::Plain { seq, ack, item } = segment else { return Ok(()) };
        if ack > self.nxt {
            return Err(format!("{ack} is acknowledged, {} comes next", self.nxt));
        }
        self.una = self.una.max(ack);
        let Some(item) = item else { return Ok(()) };
        self.owes = true;
        if seq == 1 && self.rcv > 1 && self.heard != Some(item) {
            return Err(format!("two values: {:?} and {item:?}", self.heard));
        }
        if seq == self.rcv {
            self.rcv += 1;
            if seq == 1 {
                self.heard = Some(item);
            }
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.state == State::Gone || self.una == END && self.rcv == END
    }
}

fn side(leg: usize) -> &'static str {
    if leg == CLIENT { "the client" } else { "the server" }
}

impl Model for World {
    fn steps(&self, into: &mut Steps<World>) {
        for leg in [CLIENT, SERVER] {
            self.speak(leg, into);
            self.party_speaks(leg, into);
            if let Some(segment) = self.out[leg] {
                let heard = self.party_hears(leg, segment);
                into.add(|| format!("{} hears {segment:?}", side(leg)), heard);
            }
            // Who has said and heard everything forgets the connection when it likes; nothing of it is owed.
            let party = self.party(leg);
            if leg == SERVER && party.state == State::Open && party.is_done() && !party.owes {
                let mut world = *self;
                world.party_mut(leg).state = State::Gone;
                into.add(|| format!("{} forgets", side(leg)), Ok(world));
            }
        }
        let server = 1 + u8::from(self.is_promoted);
        if self.now.server == 0
            && let Some(mut world) = self.enact(|now| now.server = server)
        {
            // What is on its way to another server does not reach this one.
            world.out[SERVER] = None;
            into.add(|| format!("the node chooses server {server}"), Ok(world));
        }
        if self.is_promoted {
            return;
        }
        if self.waiting > 0 {
            let mut world = World { held: self.log[0], waiting: self.waiting - 1, ..*self };
            world.log.rotate_left(1);
            world.log[LOG - 1] = Contract::default();
            into.add(|| "the peer acknowledges a record".into(), Ok(world));
        }
        for records in 0..=self.waiting {
            let name = || format!("the owner dies, and {records} records more have arrived");
            into.add(name, Ok(self.promoted(records)));
        }
    }

    fn is_good_end(&self) -> bool {
        let has = |party: &Party, byte| party.is_done() && party.heard == Some(Item::Byte(byte));
        let server = self.now.server;
        server != 0 && has(&self.client, server) && has(&self.party(SERVER), 0)
    }

    fn reduced(self) -> World {
        let held = if self.is_promoted { Contract::default() } else { self.held };
        World { held, ..self }
    }
}
