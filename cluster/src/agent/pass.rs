//! Orders that reach a node which does not own the group are passed on to the one that does.
//!
//! ```text
//! operator -> this node -- Order (group, epoch seen, number) --> owner: begun or refused
//!                       <----------- Ordered (number) ----------
//! ```
//!
//! The order is repeated until it is answered, for [`PATIENCE`]. It names the epoch that the operator saw, or else the
//! one that is known here; a handover ends that epoch, so however often the order arrives it is carried out once.
//!
//! Spec: PROTOCOL.md, "Orders". Bounds: [`PASSED_MAX`] orders under way.

use super::Agent;
use super::handover::{Begun, OrderError};
use crate::id::{Epoch, GroupId, Member, NodeId};
use crate::message::{Message, PassedOrder};
use stack::time::{Duration, Instant};

/// How long an answer is waited for.
pub const PATIENCE: Duration = Duration::from_millis(400);
/// Orders that wait for an answer; one more is refused.
const PASSED_MAX: usize = 16;

/// An order that was passed on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Passed {
    owner: NodeId,
    order: PassedOrder,
    again_at: Instant,
    until: Instant,
}

/// What became of an order that was passed on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// Its number.
    pub request: u64,
    /// To whom it was passed on.
    pub owner: NodeId,
    /// Whether it was begun there.
    pub result: Result<(), OrderError>,
}

impl Agent {
    pub(super) fn pass_on(
        &mut self,
        now: Instant,
        owner: NodeId,
        (group, to, epoch, force): (GroupId, NodeId, Option<Epoch>, bool),
    ) -> Result<Begun, OrderError> {
        if owner == self.config.me.node || self.detector.node(owner).is_none() {
            // A former life of this node: nobody is there to be asked.
            return Err(OrderError::NotOwner(Some(owner)));
        }
        if self.passed.len() == PASSED_MAX {
            return Err(OrderError::UnderWay);
        }
        let known = self.find(group).map_or(Epoch(0), |at| self.groups[at].register.epoch);
        self.request += 1;
        let request = self.request;
        let epoch = epoch.unwrap_or(known);
        let order = PassedOrder { request, group, to, epoch, force };
        self.passed.push(Passed { owner, order, again_at: now, until: now + PATIENCE });
        self.repeat_orders(now);
        Ok(Begun::PassedOn(request))
    }

    /// Says again what has not been answered, and gives up what was not for too long.
    pub(super) fn repeat_orders(&mut self, now: Instant) {
        let pause = Duration(4 * self.config.timers.heartbeat.0);
        for at in (0..self.passed.len()).rev() {
            let passed = self.passed[at];
            if now >= passed.until {
                self.passed.remove(at);
                let result = Err(OrderError::OwnerSilent(passed.owner));
                let (request, owner) = (passed.order.request, passed.owner);
                self.outcomes.push_back(Outcome { request, owner, result });
            } else if now >= passed.again_at {
                self.passed[at].again_at = now + pause;
                if let Some(owner) = self.detector.node(passed.owner).map(|heard| heard.member) {
                    self.send(owner, &Message::Order(passed.order));
                }
            }
        }
    }

    /// Another node's operator has ordered something.
    pub(super) fn handle_passed(&mut self, now: Instant, from: Member, order: PassedOrder) {
        let PassedOrder { request, group, to, epoch, force } = order;
        // Said again because the answer was lost?
        let is_known = self.find(group).is_some_and(|at| {
            let entry = &self.groups[at];
            let is_begun =
                entry.register.epoch == epoch && entry.handover.is_some_and(|known| known.to == to);
            is_begun || entry.handed.is_some_and(|done| done.to.node == to && done.epoch > epoch)
        });
        let refused = if is_known {
            None
        } else {
            self.order_handover(now, group, to, Some(epoch), force).err()
        };
        self.send(from, &Message::Ordered { request, refused });
    }

    pub(super) fn handle_ordered(&mut self, request: u64, refused: Option<OrderError>) {
        if let Some(at) = self.passed.iter().position(|passed| passed.order.request == request) {
            let owner = self.passed.remove(at).owner;
            let result = refused.map_or(Ok(()), Err);
            self.outcomes.push_back(Outcome { request, owner, result });
        }
    }

    /// The next answer to an order that was passed on.
    pub fn poll_outcome(&mut self) -> Option<Outcome> {
        self.outcomes.pop_front()
    }
}
