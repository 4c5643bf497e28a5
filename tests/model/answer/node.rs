//! The node that serves: what it takes, what it says, and the gate in between.

use super::{Contract, END, Item, LOG, Life, Plot, Rule, Segment, UP, WINDOW, World};
use crate::places;
use crate::search::Steps;

impl World {
    pub(super) fn node_steps(&self, into: &mut Steps<World>) {
        self.speak(into);
        if let Some(segment) = self.to_node
            && let Some(world) = self.hear(segment)
        {
            let world = World { to_node: None, ..world };
            into.add(|| format!("the node hears {segment:?}"), Ok(world));
            let again = World { to_node: self.to_node, ..world };
            into.add(|| format!("the node hears {segment:?}, and will again"), Ok(again));
        }
        let is_impatient = matches!(self.plot, Plot::Impatient | Plot::HandedOver);
        if is_impatient && let Some(world) = self.lose_patience() {
            into.add(|| "the node loses patience".into(), Ok(world));
        }
        let is_open = self.now.life == Life::Open && self.now.una > 0;
        let gives_up = self.plot == Plot::Tired && is_open;
        if gives_up && let Some(world) = self.enact(|now| now.life = Life::Aborted) {
            into.add(|| "the node gives up".into(), Ok(World { owes: true, ..world }));
        }
    }

    /// The contract changes, and a record says so; without room in the log it is as if nothing had arrived.
    fn enact(&self, change: impl Fn(&mut Contract)) -> Option<World> {
        let mut world = *self;
        change(&mut world.now);
        if world.now == self.now {
            return Some(world);
        }
        if self.is_copied && !self.is_promoted {
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
            0 if rcv == END => END,
            0 => rcv.max(1),
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
        let has_ticked = |of: Contract| of.sorry_at > 0 || of.life == Life::Aborted;
        waits(Rule::OpenIsHeld, self.now.life != Life::Unknown, self.held.life != Life::Unknown)
            || waits(Rule::TickIsHeld, has_ticked(self.now), has_ticked(self.held))
    }

    /// The node says something.
    fn speak(&self, into: &mut Steps<World>) {
        if self.is_mute() {
            return;
        }
        let (ack, edge) = self.acknowledges();
        let mut say = |segment, nxt: u8| {
            let nxt = self.nxt.max(nxt);
            let world = World { to_client: Some(segment), nxt, owes: false, ..*self };
            into.add(|| format!("the node says {segment:?}"), Ok(world));
        };
        let Contract { life, una, sorry_at, .. } = self.now;
        if life == Life::Aborted && self.owes {
            return say(Segment::Reset { seq: self.nxt.max(1) }, 0);
        }
        if life != Life::Open {
            return;
        }
        if una == 0 {
            return say(Segment::SynAck { edge }, 1);
        }
        let plain = |seq, item| Segment::Plain { seq, ack, edge, item };
        if self.owes {
            say(plain(self.nxt.max(una), None), 0);
        }
        // Something new, or the oldest again.
        for at in places(una, self.nxt) {
            let answers_fin = sorry_at == 0 && at == UP + 1;
            let lacks_ack = answers_fin && self.obeys(Rule::FinBringsAck) && ack < END;
            if at < self.limit() && !lacks_ack {
                say(plain(at, Some(self.item(at))), at + 1);
            }
        }
    }

    /// A segment reaches the node that serves.
    pub(super) fn hear(&self, segment: Segment) -> Option<World> {
        let mut world = *self;
        match (self.now.life, segment) {
            (Life::Unknown, Segment::Syn) => {
                let opened = world.enact(|now| {
                    *now = Contract { life: Life::Open, rcv: 1, edge: 1 + WINDOW, ..*now };
                })?;
                return Some(World { nxt: 0, ..opened });
            }
            // A connection of which this node knows nothing, or nothing any more. Who has ended one knows it until the peer
            // holds that.
            (Life::Unknown, Segment::Plain { ack, .. }) => {
                world.to_client = Some(Segment::Reset { seq: ack });
                return Some(world);
            }
            (Life::Closed, Segment::Plain { ack, .. }) => {
                if !self.is_gated() || self.held.life == Life::Closed {
                    world.to_client = Some(Segment::Reset { seq: ack });
                }
                return Some(world);
            }
            (Life::Unknown | Life::Closed, _) => return Some(world),
            (_, Segment::Reset { seq }) => return self.hear_reset(seq),
            _ => {}
        }
        world.owes = true;
        let Segment::Plain { seq, ack, item, .. } = segment else { return Some(world) };
        if self.now.life == Life::Aborted {
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
            if now.una == END && now.rcv == END && now.sorry_at == 0 {
                now.life = Life::Closed;
            }
            if takes {
                now.rcv += 1;
                now.edge = now.rcv + WINDOW;
            }
        })?;
        world.nxt = world.nxt.max(world.now.una);
        Some(world)
    }

    /// RFC 5961 3.2, but from SEG.ACK on: its sender may have answered what was acknowledged, and that is less than what was
    /// taken. Here any SEG.ACK will do, not only the last.
    fn hear_reset(&self, seq: u8) -> Option<World> {
        let Contract { life, rcv, .. } = self.now;
        if life == Life::Aborted {
            return Some(*self);
        }
        if (1..=rcv).contains(&seq) {
            return self.enact(|now| now.life = Life::Aborted);
        }
        Some(World { owes: self.owes || seq > rcv, ..*self })
    }

    /// Patience with the client is lost.
    fn lose_patience(&self) -> Option<World> {
        let Contract { life, una, rcv, sorry_at, .. } = self.now;
        if life != Life::Open || una == 0 || rcv == END || sorry_at > 0 {
            return None;
        }
        let in_doubt = self.is_promoted && !self.was_handed_over;
        let world = match in_doubt && self.obeys(Rule::MakesNothingUp) {
            true => self.enact(|now| now.life = Life::Aborted)?,
            false => self.enact(|now| now.sorry_at = rcv)?,
        };
        Some(World { owes: true, ..world })
    }

    /// Nothing is on its way to the peer.
    pub(super) fn without_log(self) -> World {
        World { log: [Contract::default(); LOG], waiting: 0, stale: 0, ..self }
    }
}
