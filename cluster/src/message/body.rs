//! The bodies of the messages, field by field, in the order in which they lie on the wire.

use super::advertise::Advertise;
use super::codec::{Reader, Writer};
use super::state::NodeState;
use super::{
    Answer, ChangeRequest, Drop, ENTRIES_MAX, Entry, Grant, Heartbeat, Message, PassedOrder,
    RenewGrant, Role, Verdict,
};
use crate::agent::handover::OrderError;
use crate::id::{Epoch, Incarnation, Member, NodeId};
use crate::limits::CORES_MAX;
use crate::path::Health;
use crate::register::{Change, Phase, Refusal, Register};

/// No register lives long enough to reach this; counting on from it cannot overflow.
const EPOCH_MAX: u64 = 1 << 62;

const HEARTBEAT: u8 = 1;
const RENEW_GRANT: u8 = 2;
const ADVERTISE: u8 = 3;
const SOLICIT: u8 = 4;
const SURRENDER: u8 = 5;
const HINT: u8 = 6;
const ORDER: u8 = 7;
const ORDERED: u8 = 8;
const STATE: u8 = 9;
const DEAD: u8 = 10;
const HELLO: u8 = 16;
const READ: u8 = 17;
const CHANGE: u8 = 18;
const RENEW: u8 = 19;
const RELEASE: u8 = 20;
const ANSWER: u8 = 32;

impl Message {
    pub(super) fn write(&self, w: &mut Writer) {
        match self {
            Message::Heartbeat(heartbeat) => {
                w.u8(HEARTBEAT);
                heartbeat.write(w);
            }
            Message::RenewGrant(grant) => {
                w.u8(RENEW_GRANT);
                w.u64(grant.sent.0);
                w.list(&grant.grants, |w, grant| {
                    w.u32(grant.group.0);
                    w.u64(grant.epoch.0);
                    w.u64(grant.lease.0);
                });
            }
            Message::Advertise(advertise) => {
                w.u8(ADVERTISE);
                advertise.write(w);
            }
            Message::State(state) => {
                w.u8(STATE);
                state.write(w);
            }
            Message::Solicit { group } => {
                w.u8(SOLICIT);
                w.u32(group.0);
            }
            Message::Surrender { at } => {
                w.u8(SURRENDER);
                w.u64(at.0);
            }
            Message::Dead { life } => {
                w.u8(DEAD);
                w.u8(life.node.0);
                w.u64(life.incarnation.0);
            }
            Message::Hint { group, epoch, silent } => {
                w.u8(HINT);
                w.u32(group.0);
                w.u64(epoch.0);
                w.u64(silent.0);
            }
            Message::Order(order) => {
                w.u8(ORDER);
                order.write(w);
            }
            Message::Ordered { request, refused } => {
                w.u8(ORDERED);
                w.u64(*request);
                write_refused(w, *refused);
            }
            _ => self.write_arbitration(w),
        }
    }

    fn write_arbitration(&self, w: &mut Writer) {
        match self {
            Message::Read { group, copy } => {
                w.u8(READ);
                w.u32(group.0);
                write_register(w, copy);
            }
            Message::Change(request) => {
                w.u8(CHANGE);
                request.write(w);
            }
            Message::Renew { group, epoch, sent, lease } => {
                w.u8(RENEW);
                w.u32(group.0);
                w.u64(epoch.0);
                w.u64(sent.0);
                w.u64(lease.0);
            }
            Message::Release { group, epoch } => {
                w.u8(RELEASE);
                w.u32(group.0);
                w.u64(epoch.0);
            }
            Message::Answer(answer) => {
                w.u8(ANSWER);
                answer.write(w);
            }
            Message::Hello { ticket } => {
                w.u8(HELLO);
                w.u64(*ticket);
            }
            // The others were written by the caller.
            _ => {}
        }
    }

    pub(super) fn read(r: &mut Reader<'_>) -> Result<Message, Drop> {
        Ok(match r.u8()? {
            HEARTBEAT => Message::Heartbeat(Heartbeat::read(r)?),
            RENEW_GRANT => Message::RenewGrant(RenewGrant {
                sent: r.instant()?,
                grants: r.list(ENTRIES_MAX, |r| {
                    Ok(Grant { group: r.group()?, epoch: r.epoch()?, lease: r.duration()? })
                })?,
            }),
            ADVERTISE => Message::Advertise(Advertise::read(r)?),
            STATE => Message::State(NodeState::read(r)?),
            SOLICIT => Message::Solicit { group: r.group()? },
            SURRENDER => Message::Surrender { at: r.instant()? },
            DEAD => Message::Dead { life: read_life(r)? },
            HINT => Message::Hint { group: r.group()?, epoch: r.epoch()?, silent: r.duration()? },
            ORDER => Message::Order(PassedOrder::read(r)?),
            ORDERED => Message::Ordered { request: r.u64()?, refused: read_refused(r)? },
            HELLO => Message::Hello { ticket: r.u64()? },
            READ => Message::Read { group: r.group()?, copy: read_register(r)? },
            CHANGE => Message::Change(ChangeRequest::read(r)?),
            RENEW => Message::Renew {
                group: r.group()?,
                epoch: r.epoch()?,
                sent: r.instant()?,
                lease: r.duration()?,
            },
            RELEASE => Message::Release { group: r.group()?, epoch: r.epoch()? },
            ANSWER => Message::Answer(Answer::read(r)?),
            _ => return Err(Drop::UnknownKind),
        })
    }
}

impl Heartbeat {
    fn write(&self, w: &mut Writer) {
        w.u64(self.sequence);
        w.u64(self.sent.0);
        w.u64(self.echo.0);
        w.u8(u8::from(self.core_ok));
        w.u8(u8::from(self.draining));
        w.u8(self.cores);
        w.bytes(&self.mac);
        write_health(w, &self.path);
        w.list(&self.entries, |w, entry| {
            w.u32(entry.group.0);
            w.u8(entry.role as u8);
            write_register(w, &entry.register);
            w.u8(u8::from(entry.renew.is_some()));
            if let Some(lease) = entry.renew {
                w.u64(lease.0);
            }
            w.u8(u8::from(entry.has_lease));
        });
    }

    fn read(r: &mut Reader<'_>) -> Result<Heartbeat, Drop> {
        Ok(Heartbeat {
            sequence: r.u64()?,
            sent: r.instant()?,
            echo: r.instant()?,
            core_ok: r.bool()?,
            draining: r.bool()?,
            cores: read_cores(r)?,
            mac: r.array()?,
            path: read_health(r)?,
            entries: r.list(ENTRIES_MAX, |r| {
                Ok(Entry {
                    group: r.group()?,
                    role: read_role(r)?,
                    register: read_register(r)?,
                    renew: if r.bool()? { Some(r.duration()?) } else { None },
                    has_lease: r.bool()?,
                })
            })?,
        })
    }
}

/// The carrier (0 down, 1 up, 2 not known), next hops asked and answering, milliseconds of silence.
fn write_health(w: &mut Writer, health: &Health) {
    w.u8(health.carrier.map_or(2, u8::from));
    w.u8(health.hops);
    w.u8(health.answering);
    w.u32(health.silent_ms);
}

fn read_health(r: &mut Reader<'_>) -> Result<Health, Drop> {
    let carrier = match r.u8()? {
        0 => Some(false),
        1 => Some(true),
        2 => None,
        _ => return Err(Drop::BadField),
    };
    let (hops, answering) = (r.u8()?, r.u8()?);
    if answering > hops {
        return Err(Drop::BadField);
    }
    Ok(Health { carrier, hops, answering, silent_ms: r.u32()? })
}

fn read_cores(r: &mut Reader<'_>) -> Result<u8, Drop> {
    let cores = r.u8()?;
    if (1..=CORES_MAX).contains(&cores) { Ok(cores) } else { Err(Drop::BadField) }
}

impl PassedOrder {
    fn write(&self, w: &mut Writer) {
        w.u64(self.request);
        w.u32(self.group.0);
        w.u8(self.to.0);
        w.u64(self.epoch.0);
        w.u8(u8::from(self.force));
    }

    fn read(r: &mut Reader<'_>) -> Result<PassedOrder, Drop> {
        Ok(PassedOrder {
            request: r.u64()?,
            group: r.group()?,
            to: NodeId(r.u8()?),
            epoch: r.epoch()?,
            force: r.bool()?,
        })
    }
}

/// A life of a node, not of the witness.
fn read_life(r: &mut Reader<'_>) -> Result<Member, Drop> {
    let (node, incarnation) = (NodeId(r.u8()?), Incarnation(r.u64()?));
    let is_node = (1..=NodeId::MAX).contains(&node.0) && incarnation.0 != 0;
    is_node.then_some(Member { node, incarnation }).ok_or(Drop::BadField)
}

/// Zero, or the reason for which an order was refused and the number that belongs to it.
fn write_refused(w: &mut Writer, refused: Option<OrderError>) {
    let (code, number) = match refused {
        None => (0, 0),
        Some(OrderError::UnknownGroup) => (1, 0),
        Some(OrderError::NotOwner(owner)) => (2, owner.map_or(0, |owner| owner.0.into())),
        Some(OrderError::OtherEpoch(epoch)) => (3, epoch.0),
        Some(OrderError::OwnsAlready) => (4, 0),
        Some(OrderError::NotDesignated) => (5, 0),
        Some(OrderError::NotAlive) => (6, 0),
        Some(OrderError::Draining) => (7, 0),
        Some(OrderError::WorsePath) => (8, 0),
        Some(OrderError::UnderWay) => (9, 0),
        Some(OrderError::NotSurvivor) => (10, 0),
        Some(OrderError::Unfit) => (11, 0),
        Some(OrderError::OwnerSilent(owner)) => (12, owner.0.into()),
        Some(OrderError::OtherDeclared) => (13, 0),
        Some(OrderError::UnknownNode) => (14, 0),
        Some(OrderError::Lives) => (15, 0),
    };
    w.u8(code);
    w.u64(number);
}

fn read_refused(r: &mut Reader<'_>) -> Result<Option<OrderError>, Drop> {
    let (code, number) = (r.u8()?, r.u64()?);
    let node = || u8::try_from(number).map(NodeId).map_err(|_| Drop::BadField);
    let refused = match code {
        0 => None,
        1 => Some(OrderError::UnknownGroup),
        2 => Some(OrderError::NotOwner(Some(node()?).filter(|node| node.0 > 0))),
        3 => Some(OrderError::OtherEpoch(Epoch(number))),
        4 => Some(OrderError::OwnsAlready),
        5 => Some(OrderError::NotDesignated),
        6 => Some(OrderError::NotAlive),
        7 => Some(OrderError::Draining),
        8 => Some(OrderError::WorsePath),
        9 => Some(OrderError::UnderWay),
        10 => Some(OrderError::NotSurvivor),
        11 => Some(OrderError::Unfit),
        12 => Some(OrderError::OwnerSilent(node()?)),
        13 => Some(OrderError::OtherDeclared),
        14 => Some(OrderError::UnknownNode),
        15 => Some(OrderError::Lives),
        _ => return Err(Drop::BadField),
    };
    let has_number = matches!(code, 2 | 3 | 12);
    if number != 0 && !has_number { Err(Drop::BadField) } else { Ok(refused) }
}

impl ChangeRequest {
    fn write(&self, w: &mut Writer) {
        w.u32(self.group.0);
        w.u64(self.expected.0);
        w.u64(self.request);
        w.u64(self.sent.0);
        w.u64(self.lease.0);
        match self.change {
            Change::Create => w.u8(1),
            Change::Alone => w.u8(2),
            Change::TakeOver => w.u8(3),
            Change::Swap => w.u8(6),
            Change::Fresh => w.u8(7),
            Change::Close => w.u8(8),
            Change::Retire => w.u8(9),
            Change::AddPeer(peer) => {
                w.u8(4);
                w.member(peer);
            }
            Change::InSync(peer) => {
                w.u8(5);
                w.member(peer);
            }
        }
    }

    fn read(r: &mut Reader<'_>) -> Result<ChangeRequest, Drop> {
        let (group, expected, request) = (r.group()?, r.epoch()?, r.u64()?);
        let (sent, lease) = (r.instant()?, r.duration()?);
        let change = match r.u8()? {
            1 => Change::Create,
            2 => Change::Alone,
            3 => Change::TakeOver,
            4 => Change::AddPeer(r.member()?),
            5 => Change::InSync(r.member()?),
            6 => Change::Swap,
            7 => Change::Fresh,
            8 => Change::Close,
            9 => Change::Retire,
            _ => return Err(Drop::BadField),
        };
        Ok(ChangeRequest { group, expected, request, change, sent, lease })
    }
}

impl Answer {
    fn write(&self, w: &mut Writer) {
        w.u32(self.group.0);
        w.u64(self.request);
        match self.verdict {
            Verdict::Noted => w.u16(0),
            Verdict::Done => w.u16(1),
            Verdict::Unknown => w.u16(2),
            Verdict::Ticket => w.u16(3),
            Verdict::Refused(refusal) => w.u16(0x100 | refusal as u16),
        }
        w.u8(u8::from(self.register.is_some()));
        if let Some(register) = &self.register {
            write_register(w, register);
        }
        w.u8(u8::from(self.leased.is_some()));
        if let Some((sent, lease)) = self.leased {
            w.u64(sent.0);
            w.u64(lease.0);
        }
        w.u64(self.wait.0);
    }

    fn read(r: &mut Reader<'_>) -> Result<Answer, Drop> {
        let (group, request) = (r.group()?, r.u64()?);
        let verdict = match r.u16()? {
            0 => Verdict::Noted,
            1 => Verdict::Done,
            2 => Verdict::Unknown,
            3 => Verdict::Ticket,
            code if code >> 8 == 1 => {
                Verdict::Refused(Refusal::from_code(code as u8).ok_or(Drop::BadField)?)
            }
            _ => return Err(Drop::BadField),
        };
        let register = if r.bool()? { Some(read_register(r)?) } else { None };
        let leased = if r.bool()? { Some((r.instant()?, r.duration()?)) } else { None };
        Ok(Answer { group, request, verdict, register, leased, wait: r.duration()? })
    }
}

/// A register: epoch, owner, and a flag (0 no peer, 1 filling, 2 in sync; 4 more if it is closed, 8 if it is over) before
/// the peer.
pub fn write_register(w: &mut Writer, register: &Register) {
    w.u64(register.epoch.0);
    w.member(register.owner);
    let phase = 4 * register.phase as u8;
    match register.peer {
        None => w.u8(phase),
        Some(peer) => {
            w.u8(phase + 1 + u8::from(register.in_sync));
            w.member(peer);
        }
    }
}

/// Reads what [`write_register`] wrote.
pub fn read_register(r: &mut Reader<'_>) -> Result<Register, Drop> {
    let (epoch, owner) = (r.epoch()?, r.member()?);
    if epoch.0 > EPOCH_MAX {
        return Err(Drop::BadField);
    }
    let flag = r.u8()?;
    let phase = match flag / 4 {
        0 => Phase::Open,
        1 => Phase::Closed,
        2 if flag == 8 => Phase::Over,
        _ => return Err(Drop::BadField),
    };
    let (peer, in_sync) = match flag % 4 {
        0 => (None, false),
        1 => (Some(r.member()?), false),
        2 => (Some(r.member()?), true),
        _ => return Err(Drop::BadField),
    };
    Ok(Register { epoch, owner, peer, in_sync, phase })
}

/// Reads what a node is for a group.
pub fn read_role(r: &mut Reader<'_>) -> Result<Role, Drop> {
    Ok(match r.u8()? {
        0 => Role::Idle,
        1 => Role::Owner,
        2 => Role::Filling,
        3 => Role::Peer,
        _ => return Err(Drop::BadField),
    })
}
