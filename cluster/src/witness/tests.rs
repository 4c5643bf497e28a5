//! The witness alone: requests in, effects out, restarts between them.

use super::*;
use crate::id::Epoch;
use crate::message::ChangeRequest;
use crate::message::any_life;
use crate::register::Change;
use alloc::vec;

const CLUSTER: u64 = 77;
const GROUP: GroupId = GroupId::new(1, 0);

fn member(node: u8, life: u64) -> Member {
    Member { node: NodeId(node), incarnation: Incarnation(life) }
}

const A: Member = Member { node: NodeId(1), incarnation: Incarnation(11) };
const B: Member = Member { node: NodeId(2), incarnation: Incarnation(21) };

fn ms(n: u64) -> Instant {
    Instant(n * 1_000_000)
}

/// A witness with a disk.
struct Bench {
    witness: Witness,
    disk: Option<Vec<u8>>,
    life: u64,
    request: u64,
}

impl Bench {
    fn new() -> Bench {
        let mut bench =
            Bench { witness: start(ms(0), 1, None, true), disk: None, life: 1, request: 0 };
        for member in [A, B] {
            assert_eq!(bench.hello(ms(2_100), member), Verdict::Noted);
        }
        bench
    }

    fn restart(&mut self, now: Instant) {
        self.life += 1;
        self.witness = start(now, self.life, self.disk.as_deref(), false);
    }

    fn ask(&mut self, now: Instant, from: Member, message: Message) -> Answer {
        let to = member(WITNESS.0, self.life);
        let bytes = encode(Header { cluster: CLUSTER, from, to }, &message);
        let reply = match self.witness.handle_request(now, &bytes) {
            Ok(Effect::Reply(reply)) => reply,
            Ok(Effect::Persist(pending)) => self
                .witness
                .release(pending, |bytes| {
                    self.disk = Some(bytes.to_vec());
                    Ok::<(), ()>(())
                })
                .expect("the disk works"),
            other => panic!("no answer: {other:?}"),
        };
        match decode(&reply) {
            Ok((header, Message::Answer(answer))) => {
                assert_eq!((header.from, header.to), (to, from));
                answer
            }
            other => panic!("not an answer: {other:?}"),
        }
    }

    /// Asks for a ticket and registers with it.
    fn hello(&mut self, now: Instant, from: Member) -> Verdict {
        let first = self.ask(now, from, Message::Hello { ticket: 0 });
        if first.verdict != Verdict::Ticket {
            return first.verdict;
        }
        self.ask(now, from, Message::Hello { ticket: first.request }).verdict
    }

    fn change(&mut self, now: Instant, from: Member, expected: u64, change: Change) -> Answer {
        self.request += 1;
        let request = self.request;
        self.ask(now, from, request_of(now, expected, request, change))
    }

    /// A owns with B in sync at epoch 3.
    fn protected() -> Bench {
        let mut bench = Bench::new();
        assert_eq!(bench.change(ms(2_200), A, 0, Change::Create).verdict, Verdict::Done);
        assert_eq!(bench.change(ms(2_201), A, 1, Change::AddPeer(B)).verdict, Verdict::Done);
        assert_eq!(bench.change(ms(2_202), A, 2, Change::InSync(B)).verdict, Verdict::Done);
        bench
    }
}

fn start(now: Instant, life: u64, disk: Option<&[u8]>, seed: bool) -> Witness {
    Witness::new(now, Incarnation(life), CLUSTER, Timers::bed(), disk, seed).0
}

fn request_of(now: Instant, expected: u64, request: u64, change: Change) -> Message {
    Message::Change(ChangeRequest {
        group: GROUP,
        expected: Epoch(expected),
        request,
        change,
        sent: now,
        lease: Timers::bed().alone_lease,
    })
}

#[test]
fn an_empty_store_answers_unknown_until_seeded_and_writes_nothing() {
    let mut witness = start(ms(0), 1, None, false);
    let header = Header { cluster: CLUSTER, from: A, to: any_life(WITNESS) };
    for message in
        [Message::Hello { ticket: 0 }, Message::Read { group: GROUP, copy: Register::NEVER }]
    {
        match witness.handle_request(ms(9_000), &encode(header, &message)) {
            Ok(Effect::Reply(reply)) => match decode(&reply) {
                Ok((_, Message::Answer(answer))) => assert_eq!(answer.verdict, Verdict::Unknown),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_reply_is_not_released_unless_the_snapshot_was_written() {
    let mut witness = start(ms(0), 1, None, true);
    let header = Header { cluster: CLUSTER, from: A, to: member(WITNESS.0, 1) };
    let hello = encode(header, &Message::Hello { ticket: 1 });
    for _ in 0..2 {
        let Ok(Effect::Persist(pending)) = witness.handle_request(ms(1), &hello) else {
            panic!("a new life must be written")
        };
        assert!(witness.release(pending, |_| Err("disk full")).is_err());
    }
    let Ok(Effect::Persist(pending)) = witness.handle_request(ms(1), &hello) else {
        panic!("it is still owed")
    };
    assert!(witness.release(pending, |_| Ok::<(), ()>(())).is_ok());
    assert!(matches!(witness.handle_request(ms(1), &hello), Ok(Effect::Reply(_))));
}

#[test]
fn a_repeated_request_is_answered_alike_and_done_once() {
    let mut bench = Bench::new();
    let first = request_of(ms(2_200), 0, 1, Change::Create);
    let answer = bench.ask(ms(2_200), A, first.clone());
    assert_eq!(answer.verdict, Verdict::Done);
    assert_eq!(bench.ask(ms(2_300), A, first.clone()), answer);
    bench.request = 1;
    bench.change(ms(2_400), A, 1, Change::AddPeer(B));
    assert_eq!(bench.ask(ms(2_500), A, first).verdict, Verdict::Refused(Refusal::Old));
}

#[test]
fn a_refused_request_stays_refused() {
    let mut bench = Bench::protected();
    let early = request_of(ms(2_300), 3, 50, Change::TakeOver);
    let answer = bench.ask(ms(2_300), B, early.clone());
    assert_eq!(answer.verdict, Verdict::Refused(Refusal::NotYet));
    assert!(answer.wait > Duration::from_secs(1));
    // The promise has run out by now, but this very request was refused.
    let late = bench.ask(ms(9_000), B, early);
    assert_eq!(late.verdict, Verdict::Refused(Refusal::NotYet));
    bench.request = 50;
    assert_eq!(bench.change(ms(9_001), B, 3, Change::TakeOver).verdict, Verdict::Done);
}

#[test]
fn a_release_lets_the_peer_take_over_at_once() {
    let mut bench = Bench::protected();
    let stale = bench.ask(ms(2_210), A, Message::Release { group: GROUP, epoch: Epoch(2) });
    assert_eq!(stale.verdict, Verdict::Refused(Refusal::Stale));
    let answer = bench.ask(ms(2_210), A, Message::Release { group: GROUP, epoch: Epoch(3) });
    assert_eq!(answer.verdict, Verdict::Done);
    let answer = bench.change(ms(2_240), B, 3, Change::TakeOver);
    assert_eq!(answer.verdict, Verdict::Done);
    assert_eq!(answer.leased, Some((ms(2_240), Timers::bed().alone_lease)));
    assert_eq!(answer.register.map(|register| register.owner), Some(B));
}

#[test]
fn nothing_of_a_former_life_of_the_witness_is_carried_out() {
    let mut bench = Bench::protected();
    let bytes = encode(
        Header { cluster: CLUSTER, from: A, to: member(WITNESS.0, 1) },
        &request_of(ms(2_300), 3, 60, Change::Alone),
    );
    bench.restart(ms(2_400));
    let Ok(Effect::Reply(reply)) = bench.witness.handle_request(ms(2_500), &bytes) else {
        panic!("nothing to write")
    };
    let Ok((_, Message::Answer(answer))) = decode(&reply) else { panic!("not an answer") };
    assert_eq!(answer.verdict, Verdict::Refused(Refusal::OtherLife));
    assert_eq!(answer.register.map(|register| register.epoch), Some(Epoch(3)));
}

#[test]
fn a_restart_keeps_the_registers_and_replaces_nobody_for_the_longest_promise() {
    let mut bench = Bench::protected();
    bench.ask(ms(2_210), A, Message::Release { group: GROUP, epoch: Epoch(3) });
    bench.restart(ms(3_000));
    let answer = bench.change(ms(3_001), B, 3, Change::TakeOver);
    assert_eq!(answer.verdict, Verdict::Refused(Refusal::NotYet));
    let answer = bench.change(ms(3_000) + Timers::bed().longest_promise(), B, 3, Change::TakeOver);
    assert_eq!(answer.verdict, Verdict::Done);
}

#[test]
fn a_late_hello_does_not_revive_a_former_life() {
    let mut bench = Bench::new();
    let next = member(1, 12);
    assert_eq!(bench.hello(ms(2_200), next), Verdict::Noted);
    let superseded = Verdict::Refused(Refusal::Superseded);
    assert_eq!(bench.hello(ms(2_201), A), superseded);
    bench.restart(ms(2_300));
    assert_eq!(bench.hello(ms(2_301), A), superseded);
}

#[test]
fn a_life_that_ended_before_its_hello_arrived_registers_nothing() {
    let mut bench = Bench::new();
    let (dead, alive) = (member(1, 12), member(1, 13));
    let ticket = bench.ask(ms(2_200), dead, Message::Hello { ticket: 0 }).request;
    let same = bench.ask(ms(2_201), alive, Message::Hello { ticket: 0 }).request;
    assert_eq!(ticket, same);
    let noted = bench.ask(ms(2_202), alive, Message::Hello { ticket }).verdict;
    assert_eq!(noted, Verdict::Noted);
    let late = bench.ask(ms(2_203), dead, Message::Hello { ticket }).verdict;
    assert_eq!(late, Verdict::Ticket);
    assert_eq!(bench.hello(ms(2_204), alive), Verdict::Noted);
}

#[test]
fn fresh_needs_the_owner_dead_or_mute() {
    let mut bench = Bench::new();
    bench.change(ms(2_200), A, 0, Change::Create);
    let refused = bench.change(ms(3_000), B, 1, Change::Fresh);
    assert_eq!(refused.verdict, Verdict::Refused(Refusal::NotDead));
    // The lease of the owner has run out: nobody has a voice.
    assert_eq!(bench.change(ms(5_000), B, 1, Change::Fresh).verdict, Verdict::Done);
    // Both who held the flows are dead: one came back in another life, one by the operator's word.
    let mut bench = Bench::protected();
    bench.hello(ms(2_300), member(1, 12));
    let refused = bench.change(ms(2_301), member(1, 12), 3, Change::Fresh);
    assert_eq!(refused.verdict, Verdict::Refused(Refusal::NotDead));
    let word = Message::Dead { life: B };
    let at = ms(2_102) + Timers::bed().longest_promise();
    let header = Header { cluster: CLUSTER, from: member(1, 12), to: member(WITNESS.0, 1) };
    assert!(bench.witness.handle_request(at, &encode(header, &word)).is_ok());
    assert_eq!(bench.change(at, member(1, 12), 3, Change::Fresh).verdict, Verdict::Done);
}

/// A life of which the witness knows nothing may live, whatever former life of its node it knows.
#[test]
fn a_stranger_is_not_dead_and_is_nobodys_peer() {
    let mut bench = Bench::new();
    bench.change(ms(2_200), A, 0, Change::Create);
    let stranger = member(2, 22);
    let refused = Verdict::Refused(Refusal::PeerUnregistered);
    assert_eq!(bench.change(ms(2_201), A, 1, Change::AddPeer(stranger)).verdict, refused);
    assert_eq!(bench.hello(ms(2_202), stranger), Verdict::Noted);
    assert_eq!(bench.change(ms(2_203), A, 1, Change::AddPeer(stranger)).verdict, Verdict::Done);
    // The store comes back as it was before; the nodes know better, and the operator lets them say so.
    let register = Register {
        epoch: Epoch(9),
        owner: member(1, 12),
        peer: Some(stranger),
        in_sync: true,
        ..Register::NEVER
    };
    let old = Bench::new().disk;
    bench.witness = start(ms(3_000), 2, old.as_deref(), true);
    bench.life = 2;
    let third = member(3, 31);
    bench.ask(ms(3_001), third, Message::Read { group: GROUP, copy: register });
    assert_eq!(bench.hello(ms(3_002), third), Verdict::Noted);
    let not_dead = Verdict::Refused(Refusal::NotDead);
    assert_eq!(bench.change(ms(5_100), third, 9, Change::Fresh).verdict, not_dead);
    // An operator's word counts about a stranger, and about no other life.
    for (life, verdict) in [(A, not_dead), (member(1, 12), not_dead), (stranger, Verdict::Done)] {
        let header = Header { cluster: CLUSTER, from: third, to: member(WITNESS.0, 2) };
        let word = encode(header, &Message::Dead { life });
        assert!(bench.witness.handle_request(ms(5_101), &word).is_ok());
        assert_eq!(bench.change(ms(5_102), third, 9, Change::Fresh).verdict, verdict);
    }
}

/// However often a node is started anew, a life that a register names is not forgotten.
#[test]
fn a_life_that_a_register_names_is_known_to_be_over_for_ever() {
    let mut bench = Bench::protected();
    for life in 100..100 + 2 * PAST_LIVES as u64 {
        assert_eq!(bench.hello(ms(3_000 + life), member(1, life)), Verdict::Noted);
        bench.restart(ms(3_000 + life));
    }
    assert_eq!(bench.change(ms(9_000), B, 3, Change::TakeOver).verdict, Verdict::Done);
    let mut bench = Bench::protected();
    assert_eq!(surrender(&mut bench, ms(2_300), A, ms(2_300)), Ok(()));
    for node in 3..=64 {
        for life in 1..4 {
            assert_eq!(surrender(&mut bench, ms(2_301), member(node, life), ms(1)), Ok(()));
        }
    }
    assert_eq!(bench.witness.ended.len(), ENDED_MAX);
    assert_eq!(bench.change(ms(2_302), B, 3, Change::TakeOver).verdict, Verdict::Done);
}

#[test]
fn a_node_that_knows_more_makes_the_store_suspect_until_seeded() {
    let mut bench = Bench::protected();
    let newer =
        Register { epoch: Epoch(9), owner: B, peer: None, in_sync: false, ..Register::NEVER };
    let answer = bench.ask(ms(2_300), B, Message::Read { group: GROUP, copy: newer });
    assert_eq!((answer.verdict, answer.register), (Verdict::Unknown, None));
    assert_eq!(bench.change(ms(2_301), A, 3, Change::Alone).verdict, Verdict::Unknown);
    bench.witness = start(ms(3_000), 2, bench.disk.as_deref(), true);
    bench.life = 2;
    bench.ask(ms(3_001), B, Message::Read { group: GROUP, copy: newer });
    let answer = bench.ask(ms(9_000), A, Message::Read { group: GROUP, copy: Register::NEVER });
    assert_eq!(answer.register, Some(newer));
}

#[test]
fn a_damaged_store_is_not_believed() {
    let bench = Bench::protected();
    let disk = bench.disk.expect("written");
    for at in 0..disk.len() {
        let mut damaged = disk.clone();
        damaged[at] ^= 0x10;
        let (witness, error) =
            Witness::new(ms(0), Incarnation(9), CLUSTER, Timers::bed(), Some(&damaged), false);
        assert!(error.is_some());
        assert_eq!(witness.knowledge(), Knowledge::Unknown);
    }
    for length in 0..disk.len() {
        let mut witness = start(ms(0), 9, None, false);
        assert!(witness.restore(&disk[..length]).is_err());
    }
    assert_eq!(start(ms(0), 9, Some(&disk), false).registers().count(), 1);
}

#[test]
fn noise_is_dropped() {
    let mut bench = Bench::protected();
    for bytes in [vec![], vec![0; 40], vec![0xff; 2_000]] {
        assert!(bench.witness.handle_request(ms(2_300), &bytes).is_err());
    }
}

fn surrender(bench: &mut Bench, now: Instant, from: Member, at: Instant) -> Result<(), Drop> {
    let header = Header { cluster: CLUSTER, from, to: any_life(WITNESS) };
    let bytes = encode(header, &Message::Surrender { at });
    bench.witness.handle_request(now, &bytes).map(|effect| {
        assert!(matches!(effect, Effect::Nothing), "a surrender is not answered");
    })
}

#[test]
fn a_surrender_waives_the_promise_to_that_life_only() {
    let mut bench = Bench::protected();
    let former = Member { incarnation: Incarnation(10), ..A };
    let other = surrender(&mut bench, ms(2_203), former, ms(9));
    assert_eq!(other, Err(Drop::Surrendered), "it is over, and about another life");
    assert_eq!(
        bench.change(ms(2_204), B, 3, Change::TakeOver).verdict,
        Verdict::Refused(Refusal::NotYet)
    );
    assert_eq!(surrender(&mut bench, ms(2_205), A, ms(9)), Err(Drop::Refuted), "asked at 2202");
    let again = surrender(&mut bench, ms(2_205), A, ms(2_205));
    assert_eq!(again, Ok(()));
    assert_eq!(surrender(&mut bench, ms(2_206), A, ms(2_205)), Err(Drop::Surrendered));
    assert_eq!(bench.change(ms(2_207), B, 3, Change::TakeOver).verdict, Verdict::Done);
}

#[test]
fn a_lessor_that_surrenders_mutes_its_owner_only_after_its_last_promise() {
    let mut bench = Bench::protected();
    let longest = Timers::bed().longest_promise();
    let died = ms(10_000);
    assert_eq!(surrender(&mut bench, died, B, ms(10_000)), Ok(()));
    let third = member(3, 31);
    assert_eq!(bench.hello(ms(10_001), third), Verdict::Noted);
    let fresh = |bench: &mut Bench, now| bench.change(now, third, 3, Change::Fresh).verdict;
    assert_eq!(fresh(&mut bench, died + longest - Duration(1)), Verdict::Refused(Refusal::NotDead));
    assert_eq!(fresh(&mut bench, died + longest), Verdict::Done);
}

#[test]
fn a_life_that_asks_long_after_its_surrender_has_not_ended() {
    let mut bench = Bench::protected();
    let longest = Timers::bed().longest_promise();
    let said = ms(3_000);
    assert_eq!(surrender(&mut bench, said, A, said), Ok(()));
    let later = said + longest + Duration(1);
    let alone = bench.change(later, A, 3, Change::Alone);
    assert!(alone.verdict == Verdict::Done && alone.leased.is_some());
    let third = member(3, 31);
    assert_eq!(bench.hello(later, third), Verdict::Noted);
    assert_eq!(
        bench.change(later, third, 4, Change::Fresh).verdict,
        Verdict::Refused(Refusal::NotDead)
    );
    assert_eq!(surrender(&mut bench, later, A, said), Err(Drop::Refuted));
}
