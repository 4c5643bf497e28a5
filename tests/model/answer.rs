//! A connection that the node itself answers: a client says two bytes and ends, and each byte comes back.
//!
//! ```text
//! client <-- one segment on its way, lost or heard twice --> owner --log, up to three records--> peer
//!                                                      `-- dies at any step: the peer carries on from any prefix --'
//! ```
//!
//! Positions count the SYN as 0, bytes from 1, the FIN behind them; a segment carries one item. The node's contract changes
//! by facts, each a record; the peer's is what the owner's was some records ago. The rules that DESIGN calls the gate
//! can be left out one by one ([`Rule`]); what happens beside segments and a death is one [`Plot`] for each world.
//!
//! Left out: what `MODEL.md` names.

mod client;
mod node;
mod peer;

use crate::search::{Model, Steps};
use client::Client;
use peer::CopyState;

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
    /// Output that follows from a time-out waits for its record, a reset as well.
    TickIsHeld,
    /// No right edge beyond the one that the peer knows.
    EdgeIsHeld,
    /// A FIN that answers the client's leaves with the acknowledgement of that.
    FinBringsAck,
    /// The peer accepts acknowledgements of what its owner said and it never heard of.
    AcceptsBeyond,
    /// A promoted peer's time-out makes no bytes up.
    MakesNothingUp,
    /// A promoted peer asks its client how it stands.
    Asks,
    /// A flow that is being copied is gated from its capture on, not only when the peer is in sync.
    FillIsGated,
    /// The register says in sync when the peer holds everything, not when it is under way.
    GrantedWhenFilled,
    /// A peer that has given a copy up says so with whatever it acknowledges, until that was heard.
    LossIsNamed,
    /// What the peer says of records before a capture says nothing of the copy that this makes.
    CaptureIsHeld,
    /// A handover changes places only when the peer holds every record.
    HandsOverAll,
    /// And nothing is taken or said in between.
    FreezeIsKept,
    /// What the peer overhears it keeps for the day when it is promoted.
    HeardIsKept,
}

/// All of them, with a plot in which it shows that each is needed, and by how many steps.
pub const RULES: [(Rule, Plot, usize); 16] = [
    (Rule::AckIsHeld, Plot::Plain, 10),
    (Rule::OpenIsHeld, Plot::Plain, 8),
    (Rule::TickIsHeld, Plot::Impatient, 15),
    (Rule::TickIsHeld, Plot::Tired, 11),
    (Rule::EdgeIsHeld, Plot::Plain, 14),
    (Rule::FinBringsAck, Plot::Plain, 23),
    (Rule::AcceptsBeyond, Plot::Plain, 10),
    (Rule::MakesNothingUp, Plot::Impatient, 15),
    (Rule::Asks, Plot::Aborted, 10),
    (Rule::FillIsGated, Plot::Joined, 10),
    (Rule::GrantedWhenFilled, Plot::Joined, 9),
    (Rule::LossIsNamed, Plot::Bereft, 10),
    (Rule::CaptureIsHeld, Plot::Bereft, 12),
    (Rule::HandsOverAll, Plot::HandedOver, 16),
    (Rule::FreezeIsKept, Plot::HandedOver, 16),
    (Rule::HeardIsKept, Plot::Overheard, 8),
];

/// What happens in a world, beside segments and a death.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Plot {
    /// Nothing.
    Plain,
    /// The node may lose patience with a client that has not said everything: it says so, and ends.
    Impatient,
    /// The node may give the connection up at any time, which it says by a reset.
    Tired,
    /// The client may forget the connection at any time, which it says by a reset.
    Aborted,
    /// The connection begins without a peer, which joins at some time.
    Joined,
    /// The peer gives its copy up once, for want of memory; it gets another one.
    Bereft,
    /// The owner hands over instead of dying, or takes that back; whoever serves may lose patience.
    HandedOver,
    /// The peer overhears any of what the client says, and after its promotion uses the last of it.
    Overheard,
}

/// All of them.
pub const PLOTS: [Plot; 8] = [
    Plot::Plain,
    Plot::Impatient,
    Plot::Tired,
    Plot::Aborted,
    Plot::Joined,
    Plot::Bereft,
    Plot::HandedOver,
    Plot::Overheard,
];

/// One place of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Item {
    /// The client's byte of this number, or the answer to it.
    Byte(u8),
    /// "You took too long."
    Sorry,
    Fin,
}

/// A segment without SYN and RST is an acknowledgement.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Segment {
    Syn,
    SynAck { edge: u8 },
    Reset { seq: u8 },
    Plain { seq: u8, ack: u8, edge: u8, item: Option<Item> },
}

/// How a node's flow stands.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
enum Life {
    /// There is none.
    #[default]
    Unknown,
    Open,
    /// Everything was said and heard: LAST-ACK is over.
    Closed,
    /// By the client's reset, or by a time-out that resets the client.
    Aborted,
}

/// What the log carries; both nodes hold one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Contract {
    life: Life,
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
    /// So many of those are about a copy that was given up.
    stale: u8,
    /// A peer is being told.
    is_copied: bool,
    copy: CopyState,
    /// It may carry on.
    is_in_sync: bool,
    /// The owner takes nothing and says nothing: it is about to hand over.
    is_frozen: bool,
    /// The owner is gone, one way or the other.
    is_promoted: bool,
    /// It had nothing more to say.
    was_handed_over: bool,
    /// What the peer has overheard last, to be used once.
    overheard: Option<Segment>,
}

impl World {
    /// Nothing has been said.
    pub fn new(plot: Plot, without: Option<Rule>) -> World {
        let has_peer = plot != Plot::Joined;
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
            stale: 0,
            is_copied: has_peer,
            copy: if has_peer { CopyState::Faithful } else { CopyState::Missing },
            is_in_sync: has_peer,
            is_frozen: false,
            is_promoted: false,
            was_handed_over: false,
            overheard: None,
        }
    }

    fn obeys(&self, rule: Rule) -> bool {
        self.without != Some(rule)
    }

    /// Whether what this node says waits for anybody.
    fn is_gated(&self) -> bool {
        let is_told = if self.obeys(Rule::FillIsGated) { self.is_copied } else { self.is_in_sync };
        is_told && !self.is_promoted
    }

    /// Whether who serves may take and say something.
    fn is_serving(&self) -> bool {
        !self.is_frozen || !self.obeys(Rule::FreezeIsKept)
    }

    /// What its client has forgotten is with who serves, or it is nowhere.
    fn with_every_byte(self) -> Result<World, String> {
        match self.client {
            Client::Open { una, .. } if self.now.life == Life::Open && una > self.now.rcv => {
                Err(format!("byte {} is lost: who said it has heard that it is held", self.now.rcv))
            }
            _ => Ok(self),
        }
    }
}

impl Model for World {
    fn steps(&self, into: &mut Steps<World>) {
        self.client_steps(into);
        if self.is_serving() {
            self.node_steps(into);
        }
        self.peer_steps(into);
    }

    fn is_good_end(&self) -> bool {
        match self.client {
            Client::Open { una, rcv, heard, .. } => {
                let is_answered = rcv > 1 && heard[usize::from(rcv) - 1] == Some(Item::Fin);
                let was_cut = heard.contains(&Some(Item::Sorry));
                is_answered && (una == END || was_cut)
            }
            Client::Reset => true,
            // Nobody keeps a flow for it.
            Client::Gone => self.now.life != Life::Open,
            Client::Calling => false,
        }
    }

    fn reduced(mut self) -> World {
        if self.is_promoted {
            self.held = Contract::default();
        }
        self
    }
}
