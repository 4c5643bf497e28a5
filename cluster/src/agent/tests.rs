//! One agent alone, fed by hand.

use super::*;
use crate::id::Epoch;
use crate::limits::SHUNNED_FOR;
use crate::message::{Answer, Verdict, decode};
use crate::register::{Change, Refusal, Register};
use alloc::vec;

const GROUP: GroupId = GroupId::new(0, 0);
const ME: Member = Member { node: NodeId(1), incarnation: Incarnation(11) };
const OTHER: Member = Member { node: NodeId(2), incarnation: Incarnation(21) };

/// This node is the peer, and being filled; then it has everything.
const FILLING: Register =
    Register { epoch: Epoch(2), owner: OTHER, peer: Some(ME), in_sync: false, ..Register::NEVER };
const IN_SYNC: Register = Register { epoch: Epoch(3), in_sync: true, ..FILLING };

fn ms(n: u64) -> Instant {
    Instant(n * 1_000_000)
}

fn config(arbiter: Arbiter) -> Config {
    Config {
        me: ME,
        cluster: 5,
        version: Default::default(),
        mac: [2, 0, 0, 0, 0, 1],
        cores: 1,
        nodes: vec![NodeId(1), NodeId(2)],
        groups: vec![GroupConfig {
            group: GROUP,
            home: NodeId(1),
            peers: vec![NodeId(2)],
            on_peer_loss: OnPeerLoss::Serve,
            failback: Failback::Manual,
            hold_down: Duration::from_secs(1),
            advertisement: Advertise::default(),
            leaving: None,
        }],
        timers: Timers::bed(),
        arbiter,
    }
}

fn heartbeat(to: Member, sent: Instant, register: Register, renew: Option<Duration>) -> Vec<u8> {
    let entry = Entry { group: GROUP, role: Role::Owner, register, renew, has_lease: true };
    let beat = Heartbeat {
        sequence: 1,
        sent,
        echo: Instant::ZERO,
        core_ok: true,
        draining: false,
        cores: 2,
        mac: [0; 6],
        path: Health::default(),
        entries: vec![entry],
    };
    encode(Header { cluster: 5, from: OTHER, to }, &Message::Heartbeat(beat))
}

/// What the cores were told to be; where they were told to send strays is a matter of its own.
fn commands(agent: &mut Agent) -> Vec<Command> {
    let orders = core::iter::from_fn(|| agent.poll_command());
    orders.filter(|order| !matches!(order, Command::Route { .. })).collect()
}

#[test]
fn the_survivor_alone_serves_after_the_longest_promise() {
    let mut agent =
        Agent::new(ms(0), config(Arbiter::None { survivor: Survivor::Node(NodeId(1)) }));
    agent.handle_progress(ms(0), true);
    let mut now = ms(0);
    while commands(&mut agent).is_empty() {
        now = agent.poll_timeout();
        agent.handle_timeout(now);
        assert!(now < ms(5_000));
    }
    assert!(now >= ms(0) + Timers::bed().longest_promise());
    agent.handle_timeout(agent.poll_timeout());
    assert!(agent.lease(GROUP) > now);
    assert!(!agent.status(now).split_brain_possible);
}

/// What a node takes to start is no gap: it would stretch its leases, and the silence after its death, for ten minutes.
#[test]
fn a_node_is_not_late_before_its_first_heartbeat() {
    let mut agent = Agent::new(ms(0), config(Arbiter::Witness));
    agent.handle_progress(ms(170), true);
    agent.handle_timeout(ms(170));
    assert_eq!(agent.status(ms(170)).largest_gap, Duration::ZERO);
    assert_eq!(agent.timers(), Timers::bed().effective(Duration::ZERO));
    let planned = agent.poll_timeout();
    agent.handle_timeout(planned + Duration::from_millis(30));
    assert_eq!(agent.status(planned).largest_gap, Duration::from_millis(30));
}

#[test]
fn a_stuck_core_lets_the_lease_run_out() {
    let mut agent = Agent::new(ms(0), config(Arbiter::None { survivor: Survivor::Both }));
    agent.handle_progress(ms(0), true);
    let run = |agent: &mut Agent, until| {
        while agent.poll_timeout() < until {
            agent.handle_timeout(agent.poll_timeout());
        }
    };
    run(&mut agent, ms(3_000));
    agent.handle_progress(ms(3_000), false);
    let lease = agent.lease(GROUP);
    assert!(lease > ms(3_000));
    run(&mut agent, ms(6_000));
    assert_eq!(agent.lease(GROUP), lease);
    assert!(agent.status(ms(6_000)).split_brain_possible);
}

#[test]
fn a_higher_epoch_ends_the_lease_at_once() {
    let mut agent = Agent::new(ms(0), config(Arbiter::None { survivor: Survivor::Both }));
    agent.handle_progress(ms(0), true);
    while agent.lease(GROUP) == Instant::ZERO {
        agent.handle_timeout(agent.poll_timeout());
    }
    commands(&mut agent);
    let now = agent.poll_timeout();
    let register =
        Register { epoch: Epoch(9), owner: OTHER, peer: None, in_sync: false, ..Register::NEVER };
    agent.handle_message(now, &heartbeat(ME, now, register, None));
    assert_eq!(agent.lease(GROUP), Instant::ZERO);
    assert_eq!(commands(&mut agent), vec![Command::Stop { group: GROUP }]);
}

#[test]
fn a_peer_grants_only_in_sync_and_only_to_this_life() {
    let mut agent = Agent::new(ms(0), config(Arbiter::Witness));
    agent.handle_progress(ms(0), true);
    let lease = Some(Duration::from_millis(25));
    agent.handle_message(ms(1), &heartbeat(ME, ms(0), FILLING, lease));
    assert_eq!(agent.counters().granted, 0);
    let former = Member { incarnation: Incarnation(10), ..ME };
    agent.handle_message(ms(2), &heartbeat(former, ms(1), IN_SYNC, lease));
    assert_eq!(agent.counters().dropped[Drop::NotForMe as usize], 1);
    agent.handle_message(ms(3), &heartbeat(ME, ms(2), IN_SYNC, lease));
    assert_eq!(agent.counters().granted, 1);
    assert_eq!(
        commands(&mut agent),
        vec![
            Command::Follow { group: GROUP, epoch: Epoch(2), owner: OTHER, owner_cores: 2 },
            Command::FollowInSync { group: GROUP, epoch: Epoch(3) },
        ]
    );
    agent.handle_progress(ms(4), false);
    agent.handle_message(ms(5), &heartbeat(ME, ms(4), IN_SYNC, lease));
    assert_eq!(agent.counters().granted, 1);
}

#[test]
fn a_peer_that_never_followed_is_not_in_sync_whatever_the_register_says() {
    let mut agent = Agent::new(ms(0), config(Arbiter::Witness));
    agent.handle_progress(ms(0), true);
    let register = Register {
        epoch: Epoch(3),
        owner: OTHER,
        peer: Some(ME),
        in_sync: true,
        ..Register::NEVER
    };
    let lease = Some(Duration::from_millis(25));
    agent.handle_message(ms(1), &heartbeat(ME, ms(0), register, lease));
    assert_eq!(agent.counters().granted, 0);
    assert!(commands(&mut agent).is_empty());
}

#[test]
fn a_surrender_is_believed_once_and_only_of_the_life_that_is_known() {
    let mut agent = Agent::new(ms(0), config(Arbiter::Witness));
    agent.handle_progress(ms(0), true);
    let register = Register {
        epoch: Epoch(2),
        owner: OTHER,
        peer: Some(ME),
        in_sync: false,
        ..Register::NEVER
    };
    agent.handle_message(ms(1), &heartbeat(ME, ms(0), register, None));
    let surrender = |agent: &mut Agent, cluster, from| {
        let header = Header { cluster, from, to: any_life(ME.node) };
        agent.handle_message(ms(2), &encode(header, &Message::Surrender { at: ms(1) }));
        let notes = agent.status(ms(2)).groups[0].reasons.clone();
        notes.iter().filter(|d| matches!(d.reason, Reason::Surrendered(_))).count()
    };
    let later = Member { incarnation: Incarnation(22), ..OTHER };
    assert_eq!(surrender(&mut agent, 6, OTHER), 0);
    assert_eq!(surrender(&mut agent, 5, later), 0);
    assert_eq!(surrender(&mut agent, 5, ME), 0, "whoever hears its own surrender is alive");
    assert_eq!(surrender(&mut agent, 5, OTHER), 1);
    assert_eq!(surrender(&mut agent, 5, OTHER), 1);
    let dropped = |reason: Drop| agent.counters().dropped[reason as usize];
    assert_eq!(dropped(Drop::OtherCluster), 1);
    assert_eq!(dropped(Drop::UnknownSender), 2);
    assert_eq!(dropped(Drop::Surrendered), 1);
}

#[test]
fn a_life_that_has_surrendered_is_granted_nothing() {
    let mut agent = Agent::new(ms(0), config(Arbiter::Witness));
    agent.handle_progress(ms(0), true);
    agent.handle_message(ms(1), &heartbeat(ME, ms(0), FILLING, None));
    let header = Header { cluster: 5, from: OTHER, to: any_life(ME.node) };
    agent.handle_message(ms(2), &encode(header, &Message::Surrender { at: ms(1) }));
    let lease = Some(Duration::from_millis(25));
    agent.handle_message(ms(3), &heartbeat(ME, ms(1), IN_SYNC, lease));
    assert_eq!(agent.counters().granted, 0);
    let asking = agent.status(ms(3)).groups[0].asking;
    assert_eq!(asking, Some(crate::register::Change::TakeOver), "the promise is waived");
}

/// Owner and peer deal their flows out by each other's cores: who has not heard how many there are must not begin.
#[test]
fn orders_wait_until_the_other_side_has_said_how_many_cores_it_has() {
    let mut agent = Agent::new(ms(0), config(Arbiter::Witness));
    agent.handle_progress(ms(0), true);
    let register = Register {
        epoch: Epoch(2),
        owner: OTHER,
        peer: Some(ME),
        in_sync: false,
        ..Register::NEVER
    };
    let witness = Member { node: WITNESS, incarnation: Incarnation(91) };
    let answer = Message::Answer(Answer {
        group: GROUP,
        request: 0,
        verdict: Verdict::Noted,
        register: Some(register),
        leased: None,
        wait: Duration::ZERO,
    });
    agent.handle_message(ms(1), &encode(Header { cluster: 5, from: witness, to: ME }, &answer));
    assert_eq!((agent.status(ms(1)).groups[0].role, commands(&mut agent)), (Role::Filling, vec![]));
    agent.handle_message(ms(2), &heartbeat(ME, ms(1), register, None));
    let follow = Command::Follow { group: GROUP, epoch: Epoch(2), owner: OTHER, owner_cores: 2 };
    assert_eq!(commands(&mut agent), vec![follow]);
    agent.handle_message(ms(3), &heartbeat(ME, ms(2), register, None));
    assert_eq!(commands(&mut agent), vec![]);
}

/// In sync by the register, but this node was never told to follow: it is no heir.
#[test]
fn who_still_waits_for_the_number_of_cores_is_not_in_sync() {
    let mut agent = Agent::new(ms(0), config(Arbiter::Witness));
    agent.handle_progress(ms(0), true);
    let witness = Member { node: WITNESS, incarnation: Incarnation(91) };
    for register in [FILLING, IN_SYNC] {
        let answer = Message::Answer(Answer {
            group: GROUP,
            request: 0,
            verdict: Verdict::Noted,
            register: Some(register),
            leased: None,
            wait: Duration::ZERO,
        });
        let header = Header { cluster: 5, from: witness, to: ME };
        agent.handle_message(ms(1), &encode(header, &answer));
    }
    assert_eq!(agent.status(ms(1)).groups[0].role, Role::Idle);
}

/// A peer that lives and acknowledges nothing of what it is sent keeps no gate shut, and is not made the peer again at
/// once.
#[test]
fn a_peer_that_stalls_is_none_for_a_while() {
    let arbiter = Arbiter::None { survivor: Survivor::Node(NodeId(1)) };
    let mut agent = Agent::new(ms(0), config(arbiter));
    agent.handle_progress(ms(0), true);
    let mut heard = Vec::new();
    let mut run = |agent: &mut Agent, until: Instant| {
        while agent.poll_timeout() < until {
            let now = agent.poll_timeout();
            agent.handle_message(now, &heartbeat(ME, now, Register::NEVER, None));
            let declared = Message::Advertise(agent.declaration(0));
            let header = Header { cluster: 5, from: OTHER, to: ME };
            agent.handle_message(now, &encode(header, &declared));
            agent.handle_timeout(now);
            heard.extend(commands(agent).into_iter().map(|command| (now, command)));
        }
        core::mem::take(&mut heard)
    };
    let is_mirror = |(_, command): &(Instant, Command)| matches!(command, Command::Mirror { .. });
    assert!(run(&mut agent, ms(3_000)).iter().any(is_mirror));
    let stranger = Member { incarnation: Incarnation(22), ..OTHER };
    for (peer, expected) in
        [(stranger, vec![]), (OTHER, vec![Command::Alone { group: GROUP, epoch: Epoch(3) }])]
    {
        agent.handle_report(ms(3_000), Report::Stalled { group: GROUP, peer });
        assert_eq!(commands(&mut agent), expected);
    }
    let again = run(&mut agent, ms(40_000)).into_iter().find(is_mirror).expect("tried again");
    assert!(again.0 >= ms(3_000) + SHUNNED_FOR, "{:?}", again.0);
}

/// Strays go to the owner: from the moment at which it is known how many cores it has, and whenever that changes.
#[test]
fn the_cores_are_told_who_serves_what_this_node_does_not() {
    let mut agent = Agent::new(ms(0), config(Arbiter::Witness));
    agent.handle_progress(ms(0), true);
    let routes = |agent: &mut Agent, at, register: Register| {
        agent.handle_message(ms(at), &heartbeat(ME, ms(at - 1), register, None));
        let orders = core::iter::from_fn(|| agent.poll_command());
        let routes = orders.filter(|order| matches!(order, Command::Route { .. }));
        routes.collect::<Vec<_>>()
    };
    let route = |epoch| Command::Route { group: GROUP, epoch: Epoch(epoch), to: OTHER, cores: 2 };
    assert_eq!(routes(&mut agent, 1, FILLING), vec![route(2)]);
    assert_eq!(routes(&mut agent, 2, FILLING), vec![], "told once");
    let alone = Register { epoch: Epoch(3), peer: None, ..FILLING };
    assert_eq!(routes(&mut agent, 3, alone), vec![route(3)]);
    let ours = Register { epoch: Epoch(4), owner: ME, ..alone };
    assert_eq!(routes(&mut agent, 4, ours), vec![]);
}

/// A change was said to a former life of the witness and to the present one: that the former one's is void says nothing
/// about the other, which may be carried out yet. Until then this node is mute.
#[test]
fn a_change_that_was_meant_for_another_life_of_the_witness_is_still_under_way() {
    let mut agent = Agent::new(ms(0), config(Arbiter::Witness));
    agent.handle_progress(ms(0), true);
    let answer = |agent: &mut Agent, at, life, request, verdict| {
        let answer = Answer {
            group: GROUP,
            request,
            verdict,
            register: Some(IN_SYNC),
            leased: None,
            wait: Duration::from_secs(1),
        };
        let from = Member { node: WITNESS, incarnation: Incarnation(life) };
        let header = Header { cluster: 5, from, to: ME };
        agent.handle_message(ms(at), &encode(header, &Message::Answer(answer)));
    };
    let lease = Some(Duration::from_millis(25));
    agent.handle_message(ms(1), &heartbeat(ME, ms(1), FILLING, None));
    agent.handle_message(ms(2), &heartbeat(ME, ms(2), IN_SYNC, lease));
    answer(&mut agent, 3, 91, 0, Verdict::Noted);
    // The owner falls silent; the witness is heard.
    let mut asked = Vec::new();
    for at in 4..60 {
        agent.handle_timeout(ms(at));
        if at == 20 {
            answer(&mut agent, at, 91, 0, Verdict::Noted);
        }
        if at == 50 {
            answer(&mut agent, at, 92, 0, Verdict::Noted);
        }
        asked.extend(core::iter::from_fn(|| agent.poll_message()).filter_map(|(_, bytes)| {
            match decode(&bytes) {
                Ok((header, Message::Change(change))) => {
                    Some((header.to.incarnation.0, change.request))
                }
                _ => None,
            }
        }));
    }
    assert!(asked.contains(&(91, 1)) && asked.contains(&(92, 1)), "{asked:?}");
    answer(&mut agent, 60, 92, 1, Verdict::Refused(Refusal::OtherLife));
    assert_eq!(agent.status(ms(60)).groups[0].asking, Some(Change::TakeOver));
    let granted = agent.counters().granted;
    agent.handle_message(ms(61), &heartbeat(ME, ms(61), IN_SYNC, lease));
    assert_eq!(agent.counters().granted, granted, "mute until the outcome is known");
    answer(&mut agent, 62, 92, 1, Verdict::Refused(Refusal::NotYet));
    agent.handle_message(ms(63), &heartbeat(ME, ms(63), IN_SYNC, lease));
    assert_eq!(agent.counters().granted, granted + 1);
}

/// No arbiter, and the owner was the survivor. Its death is known, but not whether it went on alone before: only if it
/// died soon after it held a lease of this node did it not.
#[test]
fn copies_of_a_survivor_are_carried_on_only_if_it_cannot_have_gone_on_alone() {
    let arbiter = Arbiter::None { survivor: Survivor::Node(NodeId(2)) };
    let bound = Timers::bed().peer_silent.millis() - Timers::bed().lease.millis();
    let last_word = 5;
    for (died, is_heir) in
        [(6, true), (last_word + bound, true), (last_word + bound + 1, false), (60_000, false)]
    {
        let mut agent = Agent::new(ms(0), config(arbiter));
        agent.handle_progress(ms(0), true);
        let lease = Some(Duration::from_millis(25));
        agent.handle_message(ms(1), &heartbeat(ME, ms(1), FILLING, None));
        agent.handle_message(ms(6), &heartbeat(ME, ms(last_word), IN_SYNC, lease));
        commands(&mut agent);
        let header = Header { cluster: 5, from: OTHER, to: any_life(ME.node) };
        let word = encode(header, &Message::Surrender { at: ms(died) });
        agent.handle_message(ms(died + 1), &word);
        let told = commands(&mut agent);
        let is_as_expected = match told[..] {
            [Command::Promote { .. }] => is_heir,
            [Command::Stop { .. }] => !is_heir,
            _ => false,
        };
        assert!(is_as_expected, "died at {died} ms: {told:?}");
    }
}
