//! The client: a TCP that says two bytes and ends, and judges what it hears.

use super::{END, Item, Life, Plot, Segment, UP, World};
use crate::places;
use crate::search::Steps;

/// What a client has heard, by position.
type Heard = [Option<Item>; END as usize + 1];

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Client {
    Calling,
    Open {
        una: u8,
        nxt: u8,
        edge: u8,
        rcv: u8,
        heard: Heard,
        owes: bool,
    },
    Reset,
    /// It has forgotten the connection, and answers whatever comes by a reset.
    Gone,
}

impl World {
    pub(super) fn client_steps(&self, into: &mut Steps<World>) {
        match self.client {
            Client::Calling => self.say(into, Segment::Syn, self.client),
            Client::Reset | Client::Gone => {}
            Client::Open { una, nxt, edge, rcv, heard, owes } => {
                let said = |nxt| Client::Open { una, nxt, edge, rcv, heard, owes: false };
                let plain = |seq, item| Segment::Plain { seq, ack: rcv, edge: 0, item };
                // Who hears nothing asks in the end whether anybody is there; a reset may have died with the owner.
                let asks = self.is_promoted && self.now.life == Life::Aborted;
                if owes || asks {
                    self.say(into, plain(nxt, None), said(nxt));
                }
                for at in places(una, nxt) {
                    if at <= UP && at < edge {
                        self.say(into, plain(at, Some(Item::Byte(at))), said(nxt.max(at + 1)));
                    } else if at == UP + 1 {
                        self.say(into, plain(at, Some(Item::Fin)), said(END));
                    }
                }
                if self.plot == Plot::Aborted {
                    self.say(into, Segment::Reset { seq: nxt }, Client::Gone);
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

    /// The client, which is another one then, says something; its peer may overhear it.
    fn say(&self, into: &mut Steps<World>, segment: Segment, client: Client) {
        let world = World { to_node: Some(segment), client, ..*self };
        into.add(|| format!("the client says {segment:?}"), Ok(world));
        let brings_nothing = matches!(segment, Segment::Plain { item: None, .. });
        if self.plot == Plot::Overheard && !self.is_promoted && !brings_nothing {
            let world = World { overheard: Some(segment), ..world };
            into.add(|| format!("the client says {segment:?}, and the peer hears it"), Ok(world));
        }
    }

    fn client_hears(&self, segment: Segment) -> Result<World, String> {
        let mut world = World { to_client: None, ..*self };
        world.client = match (self.client, segment) {
            (Client::Calling, Segment::SynAck { edge }) => {
                let heard = [None; END as usize + 1];
                Client::Open { una: 1, nxt: 1, edge, rcv: 1, heard, owes: true }
            }
            (Client::Open { una, rcv, heard, .. }, Segment::Reset { seq }) if seq == rcv => {
                let has_ended = una == END && heard[usize::from(rcv) - 1] == Some(Item::Fin);
                if self.now.life != Life::Aborted && !has_ended {
                    return Err("it is reset, and who serves knows no reason".into());
                }
                // Nothing was owed any more to who had ended.
                if has_ended { self.client } else { Client::Reset }
            }
            // A challenge: RFC 5961 3.2.
            (
                Client::Open { una, nxt, edge, rcv, heard, .. },
                Segment::SynAck { .. } | Segment::Reset { .. },
            ) => Client::Open { una, nxt, edge, rcv, heard, owes: true },
            (Client::Open { .. }, Segment::Plain { seq, ack, edge, item }) => {
                take(self.client, (seq, item), ack, edge)?
            }
            (Client::Gone, Segment::SynAck { .. }) => {
                world.to_node = Some(Segment::Reset { seq: 1 });
                Client::Gone
            }
            (Client::Gone, Segment::Plain { ack, .. }) => {
                world.to_node = Some(Segment::Reset { seq: ack });
                Client::Gone
            }
            (client, _) => client,
        };
        Ok(world)
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
