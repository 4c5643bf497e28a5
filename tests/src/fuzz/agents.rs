//! What agents and the witness hear: messages that members of the cluster could send, changed here and there.
//!
//! A witness and the agent of node 1 are real and hear each other. Nodes 2 and 3 are what the bytes make of them: they know the
//! registers and tickets that they were told, so that much of what they ask is done.

use super::stores::{keep, wake};
use super::{Dice, STEPS_MAX};
use cluster::agent::{Agent, Arbiter, Config, Destination, GroupConfig, MESSAGES_MAX};
use cluster::id::{Epoch, GroupId, Incarnation, Member, NodeId};
use cluster::lease::Timers;
use cluster::message::advertise::{Advertise, Failback, OnPeerLoss};
use cluster::message::{
    Answer, ChangeRequest, DATAGRAM_MAX, Entry, Grant, Header, Heartbeat, Message, PassedOrder,
    RenewGrant, Role, Verdict, WITNESS, decode, encode,
};
use cluster::path::Health;
use cluster::register::{Change, Phase, Refusal, Register};
use cluster::witness::{GROUPS_MAX, Witness};
use stack::time::{Duration, Instant};
use std::collections::BTreeMap;

/// The life of the witness.
pub(super) const WITNESS_LIFE: u64 = 3;
/// The agent's node and life.
const AGENT: Member = Member { node: NodeId(1), incarnation: Incarnation(7) };
/// Groups that everybody knows.
const GROUPS: [GroupId; 2] = [GroupId::new(1, 0), GroupId::new(1, 1)];

/// A member by hand: what it was told, and what it says.
pub(super) struct Speaker {
    me: Member,
    ticket: u64,
    request: u64,
    registers: BTreeMap<GroupId, Register>,
    /// When the agent sent the last heartbeat that was heard of it, on its clock.
    echo: Instant,
    beats: u64,
}

impl Speaker {
    /// A life of a node.
    pub fn new(node: u8, life: u64) -> Speaker {
        Speaker {
            me: Member { node: NodeId(node), incarnation: Incarnation(life) },
            ticket: 0,
            request: 0,
            registers: BTreeMap::new(),
            echo: Instant::ZERO,
            beats: 0,
        }
    }

    /// It says something to the witness or to the agent.
    pub fn say(&self, to: NodeId, message: &Message) -> Vec<u8> {
        let witness = Member { node: WITNESS, incarnation: Incarnation(WITNESS_LIFE) };
        let to = if to == WITNESS { witness } else { AGENT };
        encode(Header { cluster: 1, from: self.me, to }, message)
    }

    /// It registers, with the ticket that it was given.
    pub fn hello(&self) -> Vec<u8> {
        self.say(WITNESS, &Message::Hello { ticket: self.ticket })
    }

    /// It asks for a change.
    pub fn change(
        &mut self,
        now: Instant,
        group: GroupId,
        expected: Epoch,
        change: Change,
    ) -> Message {
        self.request += 1;
        let (sent, lease) = (now, Timers::bed().lease);
        let request = self.request;
        Message::Change(ChangeRequest { group, expected, request, change, sent, lease })
    }

    /// It hears something.
    pub fn hear(&mut self, bytes: &[u8]) {
        match decode(bytes) {
            Ok((_, Message::Answer(answer))) => {
                if answer.verdict == Verdict::Ticket {
                    self.ticket = answer.request;
                }
                if let Some(register) = answer.register {
                    self.registers.insert(answer.group, register);
                }
            }
            Ok((_, Message::Heartbeat(beat))) => self.echo = beat.sent,
            _ => {}
        }
    }

    fn register(&self, group: GroupId) -> Register {
        self.registers.get(&group).copied().unwrap_or(Register::NEVER)
    }
}

/// A witness, an agent, and two members by hand.
struct Town {
    now: Instant,
    witness: Witness,
    stored: Option<Vec<u8>>,
    agent: Agent,
    /// Datagrams that the agent was handed.
    handed: u64,
    speakers: [Speaker; 2],
    /// The newest register that the witness has shown of each group.
    newest: BTreeMap<GroupId, Register>,
}

/// Messages to a witness and an agent.
pub fn messages(data: &[u8]) -> bool {
    let mut town = Town::new();
    let (mut dice, mut said, mut taken) = (Dice(data), 0, 0);
    for _ in 0..STEPS_MAX {
        if dice.is_empty() {
            break;
        }
        let (to, mut bytes) = town.draw(&mut dice);
        dice.spoil(&mut bytes, |_| {});
        if let Ok((header, message)) = decode(&bytes) {
            assert_eq!(decode(&encode(header, &message)), Ok((header, message)), "read as written");
        }
        said += 1;
        taken += usize::from(town.tell(to, &bytes));
        let time = dice.byte();
        let scale = if time >= 240 { 10_000_000 } else { 100_000 };
        town.pass(Duration(u64::from(time) * scale));
    }
    town.assert_in_bounds();
    3 * taken > said
}

impl Town {
    fn new() -> Town {
        let now = Instant(1_000_000_000);
        let group = |group: &GroupId| GroupConfig {
            group: *group,
            home: NodeId(1),
            peers: vec![NodeId(2), NodeId(3)],
            on_peer_loss: OnPeerLoss::Serve,
            failback: Failback::All,
            hold_down: Duration::from_millis(100),
            advertisement: Advertise { group: *group, ..Advertise::default() },
            leaving: None,
        };
        let config = Config {
            me: AGENT,
            cluster: 1,
            version: "fuzz".into(),
            mac: [2, 0, 0, 0, 0, 1],
            cores: 1,
            nodes: [1, 2, 3].map(NodeId).to_vec(),
            groups: GROUPS.iter().map(group).collect(),
            timers: Timers::bed(),
            arbiter: Arbiter::Witness,
        };
        let mut agent = Agent::new(now, config);
        agent.handle_progress(now, true);
        let mut town = Town {
            now,
            witness: wake(now, None, true).0,
            stored: None,
            agent,
            handed: 0,
            speakers: [Speaker::new(2, 8), Speaker::new(3, 9)],
            newest: BTreeMap::new(),
        };
        // Until the witness has collected what there is to know, and everybody who is to be known is.
        town.pass(Timers::bed().longest_promise());
        town.pass(Duration::from_millis(10));
        for at in [0, 1, 0, 1] {
            let hello = town.speakers[at].hello();
            town.tell(WITNESS, &hello);
        }
        town
    }

    /// What a member says, and to whom.
    fn draw(&mut self, dice: &mut Dice) -> (NodeId, Vec<u8>) {
        let now = self.now;
        let at = usize::from(dice.byte()) % 2;
        let group = match dice.byte() {
            n @ 0..240 => GROUPS[usize::from(n) % 2],
            n => GroupId::new(u32::from(n), dice.byte()),
        };
        let life = Member {
            node: NodeId(dice.byte() % 4),
            incarnation: Incarnation(7 + u64::from(dice.byte() % 3)),
        };
        let kind = dice.byte() % 20;
        let speaker = &mut self.speakers[at];
        let known = speaker.register(group);
        let lease = Timers::bed().lease;
        let message = match kind {
            0 => Message::Hello { ticket: speaker.ticket },
            1 => Message::Read { group, copy: drawn_register(dice, known, life) },
            2..6 => speaker.change(now, group, known.epoch, drawn_change(dice, life)),
            6 => Message::Renew { group, epoch: known.epoch, sent: now, lease },
            7 => Message::Release { group, epoch: known.epoch },
            8 => Message::Surrender { at: now },
            9 => Message::Dead { life },
            10..14 => {
                let renew = (dice.byte().is_multiple_of(2)).then_some(lease);
                let register = drawn_register(dice, self.agent.register(group), life);
                let role = [Role::Idle, Role::Owner, Role::Filling, Role::Peer]
                    [usize::from(dice.byte()) % 4];
                let entry = Entry { group, role, register, renew, has_lease: renew.is_some() };
                speaker.beats += 1;
                Message::Heartbeat(Heartbeat {
                    sequence: speaker.beats,
                    sent: now,
                    echo: speaker.echo,
                    core_ok: true,
                    draining: dice.byte() >= 200,
                    cores: 1 + dice.byte() % 4,
                    mac: [2, 0, 0, 0, 0, at as u8 + 2],
                    path: drawn_path(dice),
                    entries: vec![entry; usize::from(dice.byte() % 3)],
                })
            }
            14 => {
                let grant = Grant { group, epoch: self.agent.register(group).epoch, lease };
                Message::RenewGrant(RenewGrant { sent: now, grants: vec![grant] })
            }
            15 => Message::Hint { group, epoch: known.epoch, silent: lease },
            16 => Message::Order(PassedOrder {
                request: dice.byte().into(),
                group,
                to: life.node,
                epoch: self.agent.register(group).epoch,
                force: dice.byte().is_multiple_of(2),
            }),
            17 => Message::Ordered { request: dice.byte().into(), refused: None },
            18 => Message::Solicit { group },
            _ => Message::Answer(Answer {
                group,
                request: dice.byte().into(),
                verdict: if dice.byte().is_multiple_of(2) {
                    Verdict::Done
                } else {
                    Verdict::Refused(Refusal::Stale)
                },
                register: Some(drawn_register(dice, self.agent.register(group), life)),
                leased: Some((now, lease)),
                wait: Duration::ZERO,
            }),
        };
        // Who ends is told to both; an answer comes from the witness, or from who claims to be it.
        let is_for_witness = kind < 8 || (8..10).contains(&kind) && dice.byte().is_multiple_of(2);
        let to = if is_for_witness { WITNESS } else { AGENT.node };
        let bytes = match &message {
            Message::Answer(_) => {
                let from = Member { node: WITNESS, incarnation: Incarnation(WITNESS_LIFE) };
                encode(Header { cluster: 1, from, to: AGENT }, &message)
            }
            _ => self.speakers[at].say(to, &message),
        };
        (to, bytes)
    }

    /// Somebody is told something; whether it was taken.
    fn tell(&mut self, to: NodeId, bytes: &[u8]) -> bool {
        if to != WITNESS {
            let before = self.agent.counters().received;
            self.handed += 1;
            self.agent.handle_message(self.now, bytes);
            self.settle();
            return self.agent.counters().received > before;
        }
        let answer = self.witness.handle_request(self.now, bytes);
        let is_taken = answer.is_ok();
        let reply = keep(&mut self.witness, answer, &mut self.stored);
        self.note(&reply);
        if let Ok((header, _)) = decode(&reply) {
            let asker = self.speakers.iter_mut().find(|speaker| speaker.me.node == header.to.node);
            asker.into_iter().for_each(|asker| asker.hear(&reply));
        }
        is_taken
    }

    /// A register never goes back; only what is over may be forgotten, and begin anew.
    fn note(&mut self, reply: &[u8]) {
        assert!(reply.len() <= DATAGRAM_MAX);
        let Ok((_, Message::Answer(Answer { group, register: Some(register), .. }))) =
            decode(reply)
        else {
            return;
        };
        if let Some(before) = self.newest.insert(group, register) {
            let is_on = register.epoch >= before.epoch || before.phase == Phase::Over;
            assert!(is_on, "{before:?} became {register:?}");
            assert!(register.epoch != before.epoch || register == before);
        }
    }

    /// What the agent has to say is heard, until it has said everything.
    fn settle(&mut self) {
        for _ in 0..MESSAGES_MAX {
            while self.agent.poll_command().is_some() {}
            let Some((to, bytes)) = self.agent.poll_message() else { return };
            assert!(bytes.len() <= DATAGRAM_MAX);
            match to {
                Destination::Node(node) => {
                    let heard = self.speakers.iter_mut().find(|speaker| speaker.me.node == node);
                    heard.into_iter().for_each(|heard| heard.hear(&bytes));
                }
                Destination::Witness => {
                    let answer = self.witness.handle_request(self.now, &bytes);
                    let reply = keep(&mut self.witness, answer, &mut self.stored);
                    self.note(&reply);
                    if !reply.is_empty() {
                        self.handed += 1;
                        self.agent.handle_message(self.now, &reply);
                    }
                }
            }
        }
        panic!("the agent and the witness answer each other for ever");
    }

    /// Time passes.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.agent.poll_timeout() <= end {
            self.now = self.now.max(self.agent.poll_timeout());
            self.agent.handle_timeout(self.now);
            self.settle();
        }
        self.now = end;
    }

    fn assert_in_bounds(&self) {
        let counters = self.agent.counters();
        // Of a heartbeat that is taken, entries may be dropped.
        let dropped: u64 = counters.dropped.iter().sum();
        assert!(counters.received <= self.handed && counters.received + dropped >= self.handed);
        let known: Vec<(GroupId, Register)> = self.witness.registers().collect();
        assert!(known.len() <= GROUPS_MAX);
        let written = || known.iter().copied().filter(|(_, register)| register.is_written());
        let Some(stored) = &self.stored else { return assert_eq!(written().count(), 0) };
        let (again, error) = wake(self.now, Some(stored), false);
        assert_eq!(error, None, "what was written is believed");
        assert!(again.registers().eq(written()), "and is what was decided");
    }
}

fn drawn_change(dice: &mut Dice, peer: Member) -> Change {
    match dice.byte() % 12 {
        0 => Change::Alone,
        1 => Change::TakeOver,
        2..4 => Change::AddPeer(peer),
        4..6 => Change::InSync(peer),
        6 => Change::Swap,
        7 => Change::Fresh,
        8 => Change::Close,
        9 => Change::Retire,
        _ => Change::Create,
    }
}

/// The register that is known, or a later one.
fn drawn_register(dice: &mut Dice, known: Register, peer: Member) -> Register {
    let how = dice.byte();
    if how < 160 {
        return known;
    }
    let owner = if how.is_multiple_of(2) { AGENT } else { peer };
    let epoch = Epoch(known.epoch.0 + u64::from(how % 4));
    let peer = (how % 8 < 6).then_some(if how.is_multiple_of(2) { peer } else { AGENT });
    Register { epoch, owner, peer, in_sync: peer.is_some() && how % 16 < 8, ..known }
}

fn drawn_path(dice: &mut Dice) -> Health {
    let hops = dice.byte();
    let answering = dice.byte().min(hops);
    Health { carrier: Some(dice.byte() < 200), hops, answering, silent_ms: dice.word().into() }
}
