//! A connection that is passed on: a client says a byte and ends, a server says a byte and ends, each hears the other.
//!
//! ```text
//! client --> owner --> server 1 or 2, as the owner has chosen
//!        <--   |   <--
//!              `-- log: positions, no payload --> peer
//! ```
//!
//! End to end a byte is acknowledged to its sender when its receiver has acknowledged it; so the log carries positions, and
//! what a peer has not seen its senders still have. Held, it is in the log, and acknowledged when the peer holds it. Positions
//! count the SYN as 0, the byte as 1, the FIN as 2. Both ends of a connection are the same thing ([`party::Party`]); so are both
//! legs of the node.
//!
//! The story begins when the client's leg is open: how that opens is in the other model. One record may be on its way. The
//! owner asks the first server first, a peer that knows of no choice the second: they are alike. What the node says may be lost or
//! late, one segment in each direction; what client and server say is heard at once or lost, and they say it again: so it is
//! as if it were late. Left out: what `MODEL.md` names.

mod node;
mod party;
mod peer;

use crate::search::{Model, Steps};
use party::{Party, State};

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
    /// End to end: a byte is acknowledged to its sender when its receiver has it.
    AcknowledgedEndToEnd,
    /// A byte is acknowledged when the peer holds that it may be.
    AckIsHeld,
    /// No right edge beyond the one that the peer knows.
    EdgeIsHeld,
    /// Who says that there is room, where its sender asks, is asked itself.
    AsksAcross,
    /// What ends a connection is said when the peer holds it, to strangers as well.
    EndIsHeld,
    /// The peer accepts acknowledgements of what its owner passed on.
    AcceptsBeyond,
    /// Who has said everything and is gone resets its own leg only.
    ResetAfterEnd,
    /// A reset is taken from what was acknowledged on, not only behind everything that was taken.
    ResetFromAck,
    /// A FIN that answers the other side's leaves with the acknowledgement of that.
    FinBringsAck,
    /// Where FINs may have crossed, the leg is kept until nobody can say his own again.
    CrossedIsKept,
    /// A promoted peer asks both sides how they stand.
    Asks,
    /// A server that refuses is no end: another one is asked.
    RefusalIsNoEnd,
    /// The register says in sync when the peer holds everything, not when it is under way.
    GrantedWhenFilled,
    /// A handover changes places only when the peer holds every record.
    HandsOverAll,
    /// And nothing is taken or said in between.
    FreezeIsKept,
}

/// All of them, with a world in which it shows that each is needed, and by how many steps.
pub const RULES: [(Rule, Plot, Mode, usize); 19] = [
    (Rule::ChoiceIsHeld, Plot::Plain, Mode::EndToEnd, 10),
    (Rule::AcknowledgedEndToEnd, Plot::Plain, Mode::EndToEnd, 14),
    (Rule::AckIsHeld, Plot::Plain, Mode::EndToEnd, 26),
    (Rule::AckIsHeld, Plot::Plain, Mode::Held, 24),
    (Rule::EdgeIsHeld, Plot::Narrow, Mode::EndToEnd, 15),
    (Rule::AsksAcross, Plot::Narrow, Mode::EndToEnd, 18),
    (Rule::EndIsHeld, Plot::Impatient, Mode::EndToEnd, 4),
    (Rule::EndIsHeld, Plot::Impatient, Mode::Held, 4),
    (Rule::AcceptsBeyond, Plot::Plain, Mode::EndToEnd, 13),
    (Rule::ResetAfterEnd, Plot::Plain, Mode::EndToEnd, 23),
    (Rule::ResetFromAck, Plot::Aborted, Mode::EndToEnd, 17),
    (Rule::FinBringsAck, Plot::Plain, Mode::EndToEnd, 23),
    (Rule::CrossedIsKept, Plot::Plain, Mode::EndToEnd, 21),
    (Rule::Asks, Plot::Aborted, Mode::EndToEnd, 11),
    (Rule::RefusalIsNoEnd, Plot::Refused, Mode::EndToEnd, 6),
    (Rule::EndIsHeld, Plot::Refused, Mode::EndToEnd, 14),
    (Rule::GrantedWhenFilled, Plot::Joined, Mode::EndToEnd, 4),
    (Rule::HandsOverAll, Plot::HandedOver, Mode::EndToEnd, 12),
    (Rule::FreezeIsKept, Plot::HandedOver, Mode::EndToEnd, 12),
];

/// When a byte is acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Mode {
    EndToEnd,
    Held,
}

/// What happens in a world, beside segments and a death.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Plot {
    /// Nothing.
    Plain,
    /// Client and server may each forget the connection at any time, and say so by a reset.
    Aborted,
    /// The node may lose patience, and resets both.
    Impatient,
    /// A server may refuse; when both have, the client is reset.
    Refused,
    /// The server has no room for the byte at first.
    Narrow,
    /// The connection begins without a peer, which joins at some time.
    Joined,
    /// The owner hands over instead of dying, or takes that back; client and server may forget the connection.
    HandedOver,
}

/// All that there are end to end.
pub const END_TO_END: [Plot; 7] = [
    Plot::Plain,
    Plot::Aborted,
    Plot::Impatient,
    Plot::Refused,
    Plot::Narrow,
    Plot::Joined,
    Plot::HandedOver,
];

/// Those in which it matters most that bytes are held.
pub const HELD: [Plot; 4] = [Plot::Plain, Plot::Aborted, Plot::Impatient, Plot::HandedOver];

/// The others. (Held, a window is the node's own affair.)
pub const HELD_TOO: [Plot; 2] = [Plot::Refused, Plot::Joined];

/// Who has said something, and where in the stream.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Item {
    /// The client's byte (0), or that of a server.
    Byte(u8),
    Fin,
}

/// `has_room` is the window: whether the byte lies within it, and it does not move left.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Segment {
    Syn,
    SynAck { has_room: bool },
    Reset { seq: u8 },
    Plain { seq: u8, ack: u8, has_room: bool, item: Option<Item> },
}

/// What the log says of one leg.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Leg {
    is_open: bool,
    /// Acknowledged to this side.
    rcv: u8,
    /// Acknowledged by this side.
    una: u8,
    /// This side has room for the byte.
    has_room: bool,
    /// What this side's byte was, where that is in the log.
    byte: u8,
    /// Closed or reset: there is no flow any more once the peer holds that.
    is_over: bool,
}

/// What the log carries.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Contract {
    legs: [Leg; 2],
    /// 0 as long as none is chosen.
    server: u8,
    /// Who has refused.
    refused: [bool; 2],
    /// Both sides are reset by the node's own decision.
    has_given_up: bool,
}

/// What a node knows of one leg, and no other.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Local {
    /// Behind the last item that this side was seen to say.
    seen: u8,
    /// Which byte that was.
    byte: u8,
    nxt: u8,
    has_room: bool,
    /// An acknowledgement, or a reset if the leg is over.
    owes: bool,
    /// A segment below what this side expects, which it must answer.
    owes_probe: bool,
    /// Our FIN went out with the acknowledgement of this side's.
    fin_answers: bool,
}

/// The connection, its ends and both nodes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct World {
    plot: Plot,
    mode: Mode,
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
    /// A peer is being told.
    is_copied: bool,
    /// It may carry on.
    is_in_sync: bool,
    /// The owner takes nothing and says nothing: it is about to hand over.
    is_frozen: bool,
    /// The owner is gone, one way or the other.
    is_promoted: bool,
}

impl World {
    /// The client has connected.
    pub fn new(plot: Plot, mode: Mode, without: Option<Rule>) -> World {
        let has_room = plot != Plot::Narrow;
        let leg = Leg { is_open: true, rcv: 1, una: 1, has_room: true, ..Leg::default() };
        let contract = Contract { legs: [leg, Leg::default()], ..Contract::default() };
        let local = Local { seen: 1, nxt: 1, has_room: true, ..Local::default() };
        let has_peer = plot != Plot::Joined;
        World {
            plot,
            mode,
            without,
            client: Party::connected(has_room),
            servers: [Party::listening(has_room); 2],
            out: [None; 2],
            now: contract,
            local: [local, Local::default()],
            held: if has_peer { contract } else { Contract::default() },
            log: [Contract::default(); LOG],
            waiting: 0,
            is_copied: has_peer,
            is_in_sync: has_peer,
            is_frozen: false,
            is_promoted: false,
        }
    }

    fn obeys(&self, rule: Rule) -> bool {
        self.without != Some(rule)
    }

    /// Whether client and server may forget a connection that is not over.
    fn may_abort(&self) -> bool {
        matches!(self.plot, Plot::Aborted | Plot::HandedOver)
    }

    fn is_serving(&self) -> bool {
        !self.is_frozen || !self.obeys(Rule::FreezeIsKept)
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
}

fn side(leg: usize) -> &'static str {
    if leg == CLIENT { "the client" } else { "the server" }
}

impl Model for World {
    fn steps(&self, into: &mut Steps<World>) {
        for leg in [CLIENT, SERVER] {
            self.party_steps(leg, into);
            if self.is_serving() {
                self.speak(leg, into);
            }
        }
        if self.is_serving() {
            self.decide(into);
        }
        self.peer_steps(into);
    }

    fn is_good_end(&self) -> bool {
        let Contract { legs, server, .. } = self.now;
        let has_ended = |leg: usize, byte: u8| {
            let party = self.party(leg);
            match party.state {
                // Nobody keeps a leg for it.
                State::Aborted | State::Reset => legs[leg].is_over,
                State::Closed | State::Opening => legs[CLIENT].is_over,
                State::Open | State::Gone => {
                    party.is_done() && party.heard == Some(Item::Byte(byte))
                }
            }
        };
        has_ended(CLIENT, server) && has_ended(SERVER, 0)
    }

    fn reduced(mut self) -> World {
        if self.is_promoted {
            self.held = Contract::default();
        }
        self.client = self.client.reduced();
        self.servers = self.servers.map(Party::reduced);
        self
    }
}
