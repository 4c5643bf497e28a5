//! Planned handover: an operator, or the failback, wants a group owned by another node while everybody lives.
//!
//! ```text
//! order -> (replace the peer: Alone, AddPeer, fill) -> does the arbiter answer? -> Freeze
//!       -> every core's records committed -> Swap -> the register says so -> Yield here, Assume there
//!                `-> not within the bound, or connections without a copy -> Thaw: serve on, and say why
//! ```
//!
//! The group stays protected throughout, but while the peer itself is replaced: up to the swap the peer holds
//! everything and may take over; after it the former owner does. From asking for the swap until its outcome is known
//! this node neither renews nor speaks (`Group::is_mute`), as for every change that takes the voice from its owner.
//!
//! What begins one by itself is in `agent/unasked.rs`. Spec: PROTOCOL.md, "Handover". Bounds: [`REPLACE_MAX`], [`SOUND_MAX`], [`FREEZE_LEASES`], [`COPY_MAX`].

use super::declare::Fitness;
use super::{Agent, Arbiter, Reason, Survivor};
use crate::gather::Gather;
use crate::id::{Epoch, GroupId, Member, NodeId};
use crate::lease::Lessor;
use crate::message::{Message, Role};
use crate::register::{self, Change};
use crate::role::Command;
use stack::time::{Duration, Instant};

/// How long the wanted node may take to become the peer in sync: it may have to be filled from nothing.
pub const REPLACE_MAX: Duration = Duration::from_secs(120);
/// How long the arbiter may take to answer before the cores are frozen.
pub const SOUND_MAX: Duration = Duration::from_secs(2);
/// How long the cores may take to freeze, in leases; then the group is served on.
pub const FREEZE_LEASES: u64 = 10;
/// How long connections without a copy are waited for; a copy that was given up is captured anew within this.
pub const COPY_MAX: Duration = Duration::from_secs(5);
/// Pause between two attempts while connections are without a copy.
const COPY_PAUSE: Duration = Duration::from_millis(250);

/// What an operator can order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// Let another node own a group that this one owns.
    Handover {
        /// The group.
        group: GroupId,
        /// Who shall own it.
        to: NodeId,
        /// The epoch that the operator saw; the order is void in any other.
        epoch: Option<Epoch>,
        /// Though connections of which nobody holds a copy are lost by it.
        force: bool,
    },
    /// Hand over every group that this node owns, and take no new role until [`Order::Undrain`] or a restart.
    Drain,
    /// Take roles again.
    Undrain,
    /// Take the last known life of a node for ended: the operator has seen to it that it says nothing more.
    Dead(NodeId),
}

/// Why an order was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OrderError {
    /// There is no such group.
    UnknownGroup,
    /// This node does not own the group: that one does, as far as is known here.
    NotOwner(Option<NodeId>),
    /// The epoch that the operator saw is over; this one is in force.
    OtherEpoch(Epoch),
    /// The wanted node owns the group already.
    OwnsAlready,
    /// The wanted node is neither the group's home nor one of its peers.
    NotDesignated,
    /// The wanted node is not heard, its cores are stuck, or it has surrendered.
    NotAlive,
    /// The wanted node is being drained.
    Draining,
    /// The wanted node declares something else than the owner.
    OtherDeclared,
    /// The wanted node reaches its clients worse than this one does.
    WorsePath,
    /// A handover or another change of this group is under way.
    UnderWay,
    /// There is no arbiter, and this node is not the configured survivor: it may not give the register away.
    NotSurvivor,
    /// A core of this node is stuck, or its life is over.
    Unfit,
    /// There is no such node, or nothing is known of any life of it.
    UnknownNode,
    /// The node that is said to be dead was heard less than a longest promise ago.
    Lives,
    /// The order was passed on to the owner, which has not answered: it may have begun.
    OwnerSilent(NodeId),
}

/// What became of an order that was not refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Begun {
    /// It is under way here.
    Here,
    /// It was passed on to the owner, under this number: see [`Agent::poll_outcome`].
    PassedOn(u64),
}

/// Why a handover is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// An operator's order.
    Operator,
    /// The node is drained.
    Drain,
    /// The home node is ready again.
    Failback,
    /// The home node is ready again and gets the new connections: the group is closed, and stays.
    NewConnections,
    /// The peer reaches the clients better.
    Path,
    /// The home node is back while another one is the peer: it gets the copies, and nothing changes hands yet.
    Copies,
}

/// Why nothing came of a handover: the group is served on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure {
    /// The wanted node did not become the peer in sync in time.
    NoPeer,
    /// The peer was lost.
    PeerLost,
    /// The arbiter did not answer.
    ArbiterSilent,
    /// The peer did not acknowledge the last records in time.
    NotFrozen,
    /// The peer held no copy of so many connections, too long.
    Absent(u32),
    /// The arbiter refused it.
    Refused,
    /// The operator took the order back.
    Withdrawn,
}

/// Where a handover stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// The wanted node is being made the peer in sync.
    Replacing,
    /// Whether the arbiter answers: with the cores frozen it would be too late to learn that it does not.
    Sounding,
    /// The cores say nothing more, and wait for their last records to be committed.
    Freezing,
    /// The register is asked to change.
    Swapping,
}

/// A handover under way, on the owner.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Handover {
    /// Who shall own the group.
    pub to: NodeId,
    /// Why.
    pub cause: Cause,
    /// Though connections are lost by it.
    pub force: bool,
    /// Where it stands.
    pub phase: Phase,
    /// When it was ordered.
    pub ordered: Instant,
    /// When the phase began.
    pub since: Instant,
    /// Nothing is done before then.
    pub pause: Instant,
    /// When connections without a copy were first in the way.
    pub absent_since: Option<Instant>,
    /// The cores that are frozen.
    pub frozen: Gather,
    /// Connections served by these.
    pub flows: u32,
    /// Of these, connections without a copy.
    pub absent: u32,
    /// Which attempt to freeze this is.
    pub attempt: u32,
}

/// The last handover from this node, phase by phase. Times on this node's clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Handed {
    /// The epoch that it made.
    pub epoch: Epoch,
    /// Who owns the group now.
    pub to: Member,
    /// Why.
    pub cause: Cause,
    /// When it was ordered.
    pub ordered: Instant,
    /// When the cores were told to freeze.
    pub froze: Instant,
    /// When every record was committed.
    pub committed: Instant,
    /// When the register said so.
    pub swapped: Instant,
    /// Connections handed over.
    pub flows: u32,
    /// Connections lost, because nobody held a copy (only if the operator insisted).
    pub lost: u32,
}

impl Agent {
    /// Takes an operator's order. What comes of it, the status tells.
    ///
    /// Errors: the reason for which nothing was begun.
    pub fn handle_order(&mut self, now: Instant, order: Order) -> Result<Begun, OrderError> {
        self.observe(now);
        let result = match order {
            Order::Handover { group, to, epoch, force } => {
                let group = self.left_to_move(group, to, epoch);
                match self.order_handover(now, group, to, epoch, force) {
                    Err(OrderError::NotOwner(Some(owner))) => {
                        self.pass_on(now, owner, (group, to, epoch, force))
                    }
                    result => result.map(|()| Begun::Here),
                }
            }
            Order::Dead(node) => self.declare_dead(now, node).map(|()| Begun::Here),
            Order::Drain => {
                self.draining = true;
                self.heartbeat_at = self.heartbeat_at.min(now);
                Ok(Begun::Here)
            }
            Order::Undrain => {
                self.draining = false;
                for at in 0..self.groups.len() {
                    if self.groups[at].handover.is_some_and(|h| h.cause == Cause::Drain) {
                        self.give_up(now, at, Failure::Withdrawn);
                    }
                }
                Ok(Begun::Here)
            }
        };
        self.decide_all(now);
        result
    }

    pub(super) fn order_handover(
        &mut self,
        now: Instant,
        group: GroupId,
        to: NodeId,
        epoch: Option<Epoch>,
        force: bool,
    ) -> Result<(), OrderError> {
        let at = self.find(group).ok_or(OrderError::UnknownGroup)?;
        let entry = &self.groups[at];
        let register = entry.register;
        if entry.role != Role::Owner {
            let is_known = entry.known && register.is_live();
            return Err(OrderError::NotOwner(is_known.then_some(register.owner.node)));
        }
        if epoch.is_some_and(|epoch| epoch != register.epoch) {
            return Err(OrderError::OtherEpoch(register.epoch));
        }
        if to == self.config.me.node {
            return Err(OrderError::OwnsAlready);
        }
        if entry.rank(to).is_none() {
            return Err(OrderError::NotDesignated);
        }
        if entry.handover.is_some() || entry.ask.is_some() {
            return Err(OrderError::UnderWay);
        }
        if !self.core_ok || self.superseded {
            return Err(OrderError::Unfit);
        }
        if !self.may_swap() {
            return Err(OrderError::NotSurvivor);
        }
        if self.detector.node(to).is_some_and(|heard| heard.draining) {
            return Err(OrderError::Draining);
        }
        if !self.is_fit(now, to) {
            return Err(OrderError::NotAlive);
        }
        if self.reaches_worse(to) {
            return Err(OrderError::WorsePath);
        }
        let member = self.detector.node(to).map(|heard| heard.member);
        if matches!(member.map(|member| self.fitness(at, member)), Some(Fitness::Unfit(_))) {
            return Err(OrderError::OtherDeclared);
        }
        self.begin_handover(now, at, to, Cause::Operator, force);
        Ok(())
    }

    /// Whether this node may give a register away: the arbiter does it, or it is the one that goes on after silence, so
    /// that nobody else changes the register while it does.
    pub(super) fn may_swap(&self) -> bool {
        match self.config.arbiter {
            Arbiter::Witness => true,
            Arbiter::None { survivor } => survivor == Survivor::Node(self.config.me.node),
        }
    }

    /// Whether a node lives, works and is not being drained.
    pub(super) fn is_fit(&self, now: Instant, node: NodeId) -> bool {
        let limit = Duration(10 * self.config.timers.heartbeat.0);
        self.detector.node(node).is_some_and(|heard| {
            heard.core_ok
                && heard.ended.is_none()
                && !heard.draining
                && heard.member.incarnation.0 != 0
                && now.since(heard.at) <= limit
        })
    }

    pub(super) fn begin_handover(
        &mut self,
        now: Instant,
        at: usize,
        to: NodeId,
        cause: Cause,
        force: bool,
    ) {
        let cores = self.config.cores;
        let entry = &mut self.groups[at];
        entry.attempt += 1;
        entry.note(now, Reason::Ordered(to, cause));
        entry.handover = Some(Handover {
            to,
            cause,
            force,
            phase: Phase::Replacing,
            ordered: now,
            since: now,
            pause: now,
            absent_since: None,
            frozen: Gather::new(cores),
            flows: 0,
            absent: 0,
            attempt: entry.attempt,
        });
    }

    /// Takes the next step of a handover. The owner's own cares come first.
    pub(super) fn pursue(&mut self, now: Instant, at: usize) {
        let Some(handover) = self.groups[at].handover else { return };
        let register = self.groups[at].register;
        let is_other = register.peer.is_some_and(|peer| peer.node != handover.to);
        // The arbiter's answer is not waited for longer than it takes.
        let is_sounding = handover.phase == Phase::Sounding || is_other;
        if now < handover.pause && !is_sounding {
            return;
        }
        match (handover.phase, register.peer) {
            (Phase::Replacing, Some(peer)) if peer.node != handover.to => {
                self.replace_peer(now, at, &handover);
            }
            (Phase::Replacing, Some(_)) if register.in_sync => match handover.cause {
                Cause::Copies => self.groups[at].handover = None,
                _ => self.sound(now, at),
            },
            (Phase::Replacing, _) if now.since(handover.since) > REPLACE_MAX => {
                self.give_up(now, at, Failure::NoPeer);
            }
            (Phase::Replacing, _) => {}
            (Phase::Sounding, _) if now.since(handover.since) > SOUND_MAX => {
                self.give_up(now, at, Failure::ArbiterSilent);
            }
            (Phase::Sounding, _) => self.sound(now, at),
            (Phase::Freezing, _) => self.see_frozen(now, at, &handover),
            // Its outcome is known by a register or a refusal.
            (Phase::Swapping, _) => {}
        }
    }

    /// The peer gives way to the wanted node. While the owner asks for that it is mute, so an arbiter that does not answer is
    /// found out before.
    fn replace_peer(&mut self, now: Instant, at: usize, handover: &Handover) {
        if !self.is_fit(now, handover.to) {
            return self.give_up(now, at, Failure::NoPeer);
        }
        if self.has_answered(at, handover.since) {
            let reason = Reason::AskedAloneForHandover(handover.to);
            return self.ask(now, at, Change::Alone, reason);
        }
        match now.since(handover.since) > SOUND_MAX {
            true => self.give_up(now, at, Failure::ArbiterSilent),
            false => self.ask_for_a_sign(now, at),
        }
    }

    /// Asks the arbiter for a sign of life; without one, or when it is there, freezes.
    fn sound(&mut self, now: Instant, at: usize) {
        let entry = &mut self.groups[at];
        let (copy, lease) = (entry.register, entry.lease);
        let Some(handover) = &mut entry.handover else { return };
        if handover.phase == Phase::Replacing {
            (handover.phase, handover.since) = (Phase::Sounding, now);
        }
        let since = handover.since;
        // Only the peer that has granted under this epoch is known to hold the copies under it.
        let peer = copy.in_sync_peer().map_or(Lessor::Nobody, Lessor::Node);
        let is_granted = lease.from() == peer && lease.until() > now;
        match is_granted && self.has_answered(at, since) {
            true => self.freeze(now, at),
            false => self.ask_for_a_sign(now, at),
        }
    }

    /// Whether the arbiter, if there is one, has answered since then.
    fn has_answered(&self, at: usize, since: Instant) -> bool {
        self.config.arbiter != Arbiter::Witness || self.groups[at].sounded_at > since
    }

    /// Asks the arbiter for a sign of life, unless that was done a moment ago.
    fn ask_for_a_sign(&mut self, now: Instant, at: usize) {
        let pause = Duration(4 * self.config.timers.heartbeat.0);
        let entry = &mut self.groups[at];
        let (group, copy) = (entry.config.group, entry.register);
        let Some(handover) = entry.handover.as_mut().filter(|handover| now >= handover.pause)
        else {
            return;
        };
        handover.pause = now + pause;
        if self.config.arbiter == Arbiter::Witness {
            self.send_witness(&Message::Read { group, copy });
        }
    }

    fn freeze(&mut self, now: Instant, at: usize) {
        let cores = self.config.cores;
        let entry = &mut self.groups[at];
        let (group, epoch) = (entry.config.group, entry.register.epoch);
        let Some(handover) = &mut entry.handover else { return };
        entry.attempt += 1;
        (handover.phase, handover.since, handover.pause) = (Phase::Freezing, now, now);
        (handover.frozen, handover.flows, handover.absent) = (Gather::new(cores), 0, 0);
        handover.attempt = entry.attempt;
        let attempt = entry.attempt;
        self.commands.push_back(match handover.cause {
            Cause::NewConnections => Command::Close { group, epoch, attempt },
            _ => Command::Freeze { group, epoch, attempt },
        });
    }

    /// A core has frozen.
    pub(super) fn note_frozen(
        &mut self,
        (group, epoch): (GroupId, Epoch),
        (core, attempt): (u8, u32),
        (flows, absent): (u32, u32),
    ) {
        let Some(at) = self.find(group) else { return };
        let entry = &mut self.groups[at];
        if let Some(handover) = &mut entry.handover
            && handover.phase == Phase::Freezing
            && (handover.attempt, entry.register.epoch) == (attempt, epoch)
            && handover.frozen.note(core)
        {
            handover.flows += flows;
            handover.absent += absent;
        }
    }

    fn see_frozen(&mut self, now: Instant, at: usize, handover: &Handover) {
        let bound = Duration(FREEZE_LEASES * self.timers().lease.0);
        if !handover.frozen.is_complete() {
            if now.since(handover.since) > bound {
                self.give_up(now, at, Failure::NotFrozen);
            }
            return;
        }
        if handover.absent == 0 || handover.force {
            if let Some(handover) = &mut self.groups[at].handover {
                (handover.phase, handover.pause) = (Phase::Swapping, now);
            }
            self.groups[at].committed_at = now;
            if handover.cause == Cause::NewConnections {
                return self.ask_close(now, at);
            }
            return self.ask(now, at, Change::Swap, Reason::AskedSwap(handover.to));
        }
        let since = handover.absent_since.unwrap_or(now);
        if now.since(since) > COPY_MAX {
            return self.give_up(now, at, Failure::Absent(handover.absent));
        }
        // Copies that were given up are captured anew while the group is served.
        let entry = &mut self.groups[at];
        if let Some(handover) = &mut entry.handover {
            handover.absent_since = Some(since);
            (handover.phase, handover.since) = (Phase::Replacing, now);
            handover.pause = now + COPY_PAUSE;
        }
        self.commands.push_back(Command::Thaw { group: self.groups[at].config.group });
    }

    /// Nothing comes of it: the group is served on.
    pub(super) fn give_up(&mut self, now: Instant, at: usize, failure: Failure) {
        let hold_down = self.groups[at].config.hold_down;
        let entry = &mut self.groups[at];
        let Some(handover) = entry.handover else { return };
        if entry.ask.is_some() {
            // The outcome is not known: what was asked for cannot be taken back.
            return;
        }
        entry.handover = None;
        entry.failed_at = now;
        let is_urgent = matches!(handover.cause, Cause::Drain | Cause::Path);
        let pause = if is_urgent { COPY_MAX } else { hold_down };
        entry.handover_at = now + pause;
        entry.note(now, Reason::HandoverFailed(failure));
        if matches!(handover.phase, Phase::Freezing | Phase::Swapping) {
            self.commands.push_back(Command::Thaw { group: entry.config.group });
        }
    }

    /// The register has changed while a handover was under way.
    pub(super) fn follow_handover(&mut self, now: Instant, at: usize, has_yielded: bool) {
        let is_closed =
            self.is_closing(at) && self.groups[at].register.phase == register::Phase::Closed;
        let entry = &mut self.groups[at];
        let Some(handover) = entry.handover else { return };
        if is_closed {
            entry.handover = None;
        } else if has_yielded {
            entry.handover = None;
            entry.handed = Some(Handed {
                epoch: entry.register.epoch,
                to: entry.register.owner,
                cause: handover.cause,
                ordered: handover.ordered,
                froze: handover.since,
                committed: entry.committed_at,
                swapped: now,
                flows: handover.flows - handover.absent,
                lost: handover.absent,
            });
            entry.note(now, Reason::HandedOver(entry.register.owner.node, handover.flows));
        } else if entry.role != Role::Owner
            || handover.phase != Phase::Replacing
            || handover.cause == Cause::NewConnections
        {
            // The cores were told what they are now: nothing has to be thawed.
            entry.handover = None;
            (entry.failed_at, entry.handover_at) = (now, now);
            entry.note(now, Reason::HandoverFailed(Failure::PeerLost));
        }
    }
}
