//! A connection that the node itself answers: a client says two bytes and ends, and each byte comes back.
//!
//! ```text
//! client <-- one segment on its way, lost or heard twice --> owner --log, up to three records--> peer
//!                                                      `-- dies at any step: the peer carries on from any prefix --'
//! ```
//!
//! Positions count the SYN as 0, bytes from 1, the FIN behind them; a segment carries one item. The node's contract changes
//! by facts, each a record; the peer's is what the owner's was some records ago. The rules that DESIGN calls the gate
//! can be left out one by one ([`Rule`]).
//!
//! Left out: reordering, timestamps, congestion, more than one death. Two voices at once are the business of the tests of
//! agents.

use crate::search::{Model, Steps};

/// Bytes that the client says.
const UP: u8 = 2;
/// Bytes of window.
const WINDOW: u8 = 1;
/// Records that may wait in the log.
const LOG: usize = 3;
/// Behind the client's FIN, and behind the node's.
const END: u8 = UP + 2;

/// What keeps a client from noticing a death.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Rule {
    /// SEG.ACK never beyond what the peer holds.
    AckIsHeld,
    /// A SYN-ACK waits for the record of the connection.
    OpenIsHeld,
    /// Output that follows from a time-out waits for its record.
    TickIsHeld,
    /// No right edge beyond the one that the peer knows.
    EdgeIsHeld,
    /// The peer accepts acknowledgements of what its owner said and it never heard of.
    AcceptsBeyond,
    /// A promoted peer's time-out makes no bytes up.
    MakesNothingUp,
    /// A flow that is being copied is gated from its capture on, not only when the peer is in sync.
    FillIsGated,
    /// A handover changes places only when the peer holds every record.
    HandsOverAll,
}

/// All of them.
pub const RULES: [Rule; 8] = [
    Rule::AckIsHeld,
    Rule::OpenIsHeld,
    Rule::TickIsHeld,
    Rule::EdgeIsHeld,
    Rule::AcceptsBeyond,
    Rule::MakesNothingUp,
    Rule::FillIsGated,
    Rule::HandsOverAll,
];

/// What happens in a world, beside segments and a death.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Plot {
    /// Nothing.
    Plain,
    /// The node may lose patience with a client that has not said everything: it says so, and ends.
    Impatient,
    /// The connection begins without a peer, which joins at some time.
    Joined,
    /// The owner hands over instead of dying; whoever serves may lose patience.
    HandedOver,
}

/// One place of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Item {
    /// The client's byte of this number, or the answer to it.
    Byte(u8),
    /// "You took too long."
    Sorry,
    Fin,
}

/// What a client has heard, by position.
type Heard = [Option<Item>; END as usize + 1];

/// A segment without SYN is an acknowledgement.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Segment {
    Syn,
    SynAck { edge: u8 },
    Reset { seq: u8 },
    Plain { seq: u8, ack: u8, edge: u8, item: Option<Item> },
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Client {
    Calling,
    Open { una: u8, nxt: u8, edge: u8, rcv: u8, heard: Heard, owes: bool },
    Reset,
}

/// What the log carries; both nodes hold one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Contract {
    is_open: bool,
    /// Reset: nothing more is said.
    is_over: bool,
    rcv: u8,
    una: u8,
    edge: u8,
    /// Where patience was lost; 0 if it was not.
    sorry_at: u8,
}

/// The connection, its client and both nodes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct World {
    plot: Plot,
    without: Option<Rule>,
    client: Client,
    to_client: Option<Segment>,
    to_node: Option<Segment>,
    /// Of the node that serves.
    now: Contract,
    nxt: u8,
    owes: bool,
    /// What the owner knows to be held by the peer.
    held: Contract,
    log: [Contract; LOG],
    waiting: u8,
    /// A peer is being told.
    has_peer: bool,
    /// It may carry on.
    is_in_sync: bool,
    /// The owner is gone, one way or the other.
    is_promoted: bool,
    /// It had nothing more to say.
    was_handed_over: bool,
    /// A reset has a reason that its client must accept.
    is_excused: bool,
}

impl World {
    /// Nothing has been said.
    pub fn new(plot: Plot, without: Option<Rule>) -> World {
        World {
            plot,
            without,
            client: Client::Calling,
            to_client: None,
            to_node: None,
            now: Contract::default(),
            nxt: 0,
            owes: false,
            held: Contract::default(),
            log: [Contract::default(); LOG],
            waiting: 0,
            has_peer: plot != Plot::Joined,
            is_in_sync: plot != Plot::Joined,
            is_promoted: false,
            was_handed_over: false,
            is_excused: false,
        }
    }

    fn obeys(&self, rule: Rule) -> bool {
        self.without != Some(rule)
    }

    /// Whether what this node says waits for anybody.
    fn is_gated(&self) -> bool {
        match self.obeys(Rule::FillIsGated) {
            true => self.has_peer && !self.is_promoted,
            false => self.is_in_sync && !self.is_promoted,
        }
    }

    /// The contract changes, and a record says so; without room in the log it is as if nothing had arrived.
    fn enact(&self, change: impl Fn(&mut Contract)) -> Option<World> {
        let mut world = *self;
        change(&mut world.now);
        if world.now == self.now {
            return Some(world);
        }
        if self.has_peer && !self.is_promoted {
            *world.log.get_mut(usize::from(self.waiting))? = world.now;
            world.waiting += 1;
        }
        Some(world)
    }

    /// Behind the last item that the node can say now.
    fn limit(&self) -> u8 {
        let Contract { rcv, sorry_at, .. } = self.now;
        match sorry_at {
            // Bytes behind the client's last are not there; with its FIN comes ours.
            0 => {
                if rcv == END {
                    END
                } else {
                    rcv.max(1)
                }
            }
            at => at + 2,
        }
    }

    fn item(&self, at: u8) -> Item {
        match (at, self.now.sorry_at) {
            (at, sorry) if sorry > 0 && at == sorry => Item::Sorry,
            (at, sorry) if sorry > 0 && at == sorry + 1 => Item::Fin,
            (at, _) if at == UP + 1 => Item::Fin,
            _ => Item::Byte(at),
        }
    }

    /// What the node may say: SEG.ACK and the right edge.
    fn acknowledges(&self) -> (u8, u8) {
        let of = |rule, is_held: u8, now: u8| {
            if self.is_gated() && self.obeys(rule) { is_held } else { now }
        };
        let ack = of(Rule::AckIsHeld, self.held.rcv, self.now.rcv);
        let ack = ack.max(1);
        // A FIN takes no room: acknowledging it offers none, so an edge is never moved by an acknowledgement alone.
        let edge = of(Rule::EdgeIsHeld, self.held.edge, self.now.edge);
        (ack, edge.max(ack.min(UP + 1)))
    }

    /// Whether something that was recorded keeps the node from saying anything.
    fn is_mute(&self) -> bool {
        let waits = |rule, is_there: bool, is_held: bool| {
            self.is_gated() && self.obeys(rule) && is_there && !is_held
        };
        waits(Rule::OpenIsHeld, self.now.is_open, self.held.is_open)
            || waits(Rule::TickIsHeld, self.now.sorry_at > 0, self.held.sorry_at > 0)
    }

    /// The node says something.
    fn speak(&self, into: &mut Steps<World>) {
        if self.is_mute() {
            return;
        }
        let mut say = |name: &str, segment, nxt: u8| {
            let to_client = Some(segment);
            let world = World { to_client, nxt: self.nxt.max(nxt), owes: false, ..*self };
            into.add(|| format!("the node says {name} {segment:?}"), Ok(world));
        };
        let (ack, edge) = self.acknowledges();
        let Contract { is_open, is_over, una, .. } = self.now;
        if is_over && self.owes {
            return say("reset", Segment::Reset { seq: self.nxt.max(1) }, 0);
        }
        if !is_open || is_over {
            return;
        }
        if una == 0 {
            return say("SYN-ACK", Segment::SynAck { edge }, 1);
        }
        let plain = |seq, item| Segment::Plain { seq, ack, edge, item };
        if self.owes {
            say("", plain(self.nxt.max(una), None), 0);
        }
        // Something new, or the oldest again.
        for at in [self.nxt.max(una), una] {
            if at < self.limit() {
                say("", plain(at, Some(self.item(at))), at + 1);
            }
        }
    }

    /// A segment reaches the node that serves.
    fn hear(&self, segment: Segment) -> Option<World> {
        let mut world = World { to_node: None, ..*self };
        if !self.now.is_open {
            return match segment {
                Segment::Syn => {
                    let opened = world.enact(|now| {
                        *now = Contract { is_open: true, rcv: 1, edge: 1 + WINDOW, ..*now };
                    })?;
                    Some(World { nxt: 0, ..opened })
                }
                // A connection of which this node knows nothing.
                Segment::Plain { ack, .. } => {
                    world.to_client = Some(Segment::Reset { seq: ack });
                    Some(world)
                }
                _ => Some(world),
            };
        }
        world.owes = true;
        let Segment::Plain { seq, ack, item, .. } = segment else { return Some(world) };
        if self.now.is_over {
            // A reset has its place where the client says that it is.
            world.nxt = ack;
            return Some(world);
        }
        if ack > self.nxt.max(self.now.una)
            && !(self.is_promoted && self.obeys(Rule::AcceptsBeyond))
        {
            return Some(world);
        }
        let takes = item.is_some() && seq == self.now.rcv && (seq < self.now.edge || seq == UP + 1);
        let mut world = world.enact(|now| {
            now.una = now.una.max(ack);
            if takes {
                now.rcv += 1;
                now.edge = now.rcv + WINDOW;
            }
        })?;
        world.nxt = world.nxt.max(world.now.una);
        Some(world)
    }

    /// Patience with the client is lost.
    fn lose_patience(&self) -> Option<World> {
        let Contract { is_open, is_over, una, rcv, sorry_at, .. } = self.now;
        if !is_open || is_over || una == 0 || rcv == END || sorry_at > 0 {
            return None;
        }
        let in_doubt = self.is_promoted && !self.was_handed_over;
        let resets = in_doubt && self.obeys(Rule::MakesNothingUp);
        let mut world = match resets {
            true => self.enact(|now| now.is_over = true)?,
            false => self.enact(|now| now.sorry_at = rcv)?,
        };
        world.owes = true;
        world.is_excused |= resets;
        Some(world)
    }

    /// The peer carries on with so many of the records that are on their way.
    fn promoted(&self, records: u8) -> World {
        let now = if records == 0 { self.held } else { self.log[usize::from(records) - 1] };
        let log = [Contract::default(); LOG];
        let is_promoted = true;
        World { now, nxt: now.una, owes: true, held: now, log, waiting: 0, is_promoted, ..*self }
    }

    /// The peer acknowledges the oldest record.
    fn commit(&self) -> World {
        let mut world = *self;
        world.held = self.log[0];
        world.log.rotate_left(1);
        world.log[LOG - 1] = Contract::default();
        world.waiting -= 1;
        // Captured whole: the first record that a joining peer gets is the connection as it was.
        world.is_in_sync = true;
        world
    }

    /// A peer joins: the connection is captured as it is, at one place of the log.
    fn join(&self) -> World {
        // What was said before needs nobody's leave: all of it is in the capture.
        let mut world = World { has_peer: true, waiting: 1, held: self.now, ..*self };
        world.log[0] = self.now;
        world
    }
}

/// The client.
impl World {
    fn client_steps(&self, into: &mut Steps<World>) {
        let mut say = |segment, client| {
            let world = World { to_node: Some(segment), client, ..*self };
            into.add(|| format!("the client says {segment:?}"), Ok(world));
        };
        match self.client {
            Client::Calling => say(Segment::Syn, self.client),
            Client::Reset => {}
            Client::Open { una, nxt, edge, rcv, heard, owes } => {
                let said = |nxt| Client::Open { una, nxt, edge, rcv, heard, owes: false };
                let plain = |seq, item| Segment::Plain { seq, ack: rcv, edge: 0, item };
                if owes {
                    say(plain(nxt, None), said(nxt));
                }
                for at in [una, nxt] {
                    if at <= UP && at < edge {
                        say(plain(at, Some(Item::Byte(at))), said(nxt.max(at + 1)));
                    } else if at == UP + 1 {
                        say(plain(at, Some(Item::Fin)), said(END));
                    }
                }
            }
        }
        if let Some(segment) = self.to_client {
            let heard = self.client_hears(segment).and_then(World::with_every_byte);
            if let Ok(world) = heard {
                let again = World { to_client: self.to_client, ..world };
                into.add(|| format!("the client hears {segment:?}, and will again"), Ok(again));
            }
            into.add(|| format!("the client hears {segment:?}"), heard);
        }
    }

    fn client_hears(&self, segment: Segment) -> Result<World, String> {
        let world = World { to_client: None, ..*self };
        let client = match (self.client, segment) {
            (Client::Calling, Segment::SynAck { edge }) => {
                let heard = [None; END as usize + 1];
                Client::Open { una: 1, nxt: 1, edge, rcv: 1, heard, owes: true }
            }
            (Client::Open { rcv, .. }, Segment::Reset { seq }) if seq == rcv => {
                if !self.is_excused {
                    return Err("reset without a cause".into());
                }
                Client::Reset
            }
            // A challenge: RFC 5961 3.2.
            (
                Client::Open { una, nxt, edge, rcv, heard, .. },
                Segment::SynAck { .. } | Segment::Reset { .. },
            ) => Client::Open { una, nxt, edge, rcv, heard, owes: true },
            (Client::Open { .. }, Segment::Plain { seq, ack, edge, item }) => {
                take(self.client, (seq, item), ack, edge)?
            }
            (client, _) => client,
        };
        Ok(World { client, ..world })
    }
}

impl World {
    /// What its client has forgotten is with who serves, or it is nowhere.
    fn with_every_byte(self) -> Result<World, String> {
        match self.client {
            Client::Open { una, .. } if self.now.is_open && una > self.now.rcv => {
                Err(format!("byte {} is lost: who said it has heard that it is held", self.now.rcv))
            }
            _ => Ok(self),
        }
    }
}

/// A client takes a segment.
fn take(
    client: Client,
    (seq, item): (u8, Option<Item>),
    ack: u8,
    to: u8,
) -> Result<Client, String> {
    let Client::Open { una, nxt, edge, mut rcv, mut heard, mut owes } = client else {
        return Ok(client);
    };
    if ack > nxt {
        return Err(format!("{ack} is acknowledged, {nxt} comes next"));
    }
    if to < edge {
        return Err(format!("the right edge moves from {edge} to {to}"));
    }
    if let Some(item) = item {
        owes = true;
        let at = usize::from(seq);
        if seq < rcv && heard[at] != Some(item) {
            return Err(format!("two values at {seq}: {:?} and {item:?}", heard[at]));
        }
        if seq == rcv {
            let is_right = match heard[at - 1] {
                Some(Item::Sorry) => item == Item::Fin,
                Some(Item::Fin) => false,
                _ if seq == UP + 1 => matches!(item, Item::Fin | Item::Sorry),
                _ => matches!(item, Item::Sorry) || item == Item::Byte(seq),
            };
            if !is_right {
                return Err(format!("{item:?} at {seq}"));
            }
            heard[at] = Some(item);
            rcv += 1;
        }
    }
    Ok(Client::Open { una: una.max(ack), nxt, edge: to, rcv, heard, owes })
}

impl Model for World {
    fn steps(&self, into: &mut Steps<World>) {
        self.client_steps(into);
        self.speak(into);
        if let Some(segment) = self.to_node
            && let Some(world) = self.hear(segment)
        {
            into.add(|| format!("the node hears {segment:?}"), Ok(world));
            let again = World { to_node: self.to_node, ..world };
            into.add(|| format!("the node hears {segment:?}, and will again"), Ok(again));
        }
        if matches!(self.plot, Plot::Impatient | Plot::HandedOver)
            && let Some(world) = self.lose_patience()
        {
            into.add(|| "the node loses patience".into(), Ok(world));
        }
        if self.is_promoted {
            return;
        }
        if self.waiting > 0 {
            into.add(|| "the peer acknowledges a record".into(), Ok(self.commit()));
        }
        if !self.has_peer {
            into.add(|| "a peer joins".into(), Ok(self.join()));
        }
        if self.is_in_sync && self.plot == Plot::HandedOver {
            if self.waiting == 0 || !self.obeys(Rule::HandsOverAll) {
                let world = World { was_handed_over: true, ..self.promoted(0) };
                into.add(|| "the nodes change places".into(), world.with_every_byte());
            }
        } else if self.is_in_sync {
            for records in 0..=self.waiting {
                let name = || format!("the owner dies, and {records} records more have arrived");
                into.add(name, self.promoted(records).with_every_byte());
            }
        }
    }

    fn is_good_end(&self) -> bool {
        match self.client {
            Client::Open { una, rcv, heard, .. } => {
                let is_answered = rcv > 1 && heard[usize::from(rcv) - 1] == Some(Item::Fin);
                let was_cut = heard.contains(&Some(Item::Sorry));
                is_answered && (una == END || was_cut)
            }
            Client::Reset => true,
            Client::Calling => false,
        }
    }

    fn reduced(self) -> World {
        let held = if self.is_promoted { Contract::default() } else { self.held };
        World { held, ..self }
    }
}
