//! Parties on a link that loses, doubles, changes and reorders; whoever has no key; whoever recorded everything.

use super::super::{Key, LinkSeal, surrender};
use super::*;
use crate::limits::SESSION_DATAGRAMS_MAX;
use crate::message::{Header, Message, any_life, encode};

const CLUSTER: u64 = 7;
const MS: u64 = 1_000_000;

fn at(ms: u64) -> Instant {
    Instant(1_000_000_000 + ms * MS)
}

fn member(node: u8, life: u64) -> Member {
    Member { node: NodeId(node), incarnation: Incarnation(life) }
}

fn keyring(keys: &[u8]) -> Keyring {
    let keys: Vec<Key> = keys.iter().map(|key| Key::new([*key; 32])).collect();
    Keyring::new(CLUSTER, &keys)
}

fn party_with(keys: &[u8], node: u8, life: u64) -> Party {
    let seed = [node ^ life as u8 ^ 0x5a; SEED_BYTES];
    Party::new(at(0), member(node, life), keyring(keys), [NodeId(1), NodeId(2)], seed)
}

fn party(node: u8, life: u64) -> Party {
    party_with(&[1], node, life)
}

fn solicit(from: Member) -> Vec<u8> {
    let header = Header { cluster: CLUSTER, from, to: any_life(NodeId(2)) };
    encode(header, &Message::Hello { ticket: 3 })
}

/// Opens what has arrived; the datagram inside, if there is one. What is to be answered goes to `replies`.
fn take(
    party: &mut Party,
    now: Instant,
    bytes: &[u8],
    replies: &mut Vec<Vec<u8>>,
) -> Result<Option<Vec<u8>>, Unopened> {
    let mut copy = bytes.to_vec();
    match party.open(now, &mut copy) {
        Ok(Opened::Datagram(datagram)) => Ok(Some(datagram.to_vec())),
        Ok(Opened::Reply(reply)) => {
            replies.push(reply);
            Ok(None)
        }
        Ok(Opened::Nothing) => Ok(None),
        Err(reason) => {
            if matches!(reason, Unopened::UnknownSession | Unopened::OtherKey) {
                replies.extend(party.hint(now, bytes));
            }
            Err(reason)
        }
    }
}

/// Lets both say what they have to say until they are quiet; everything that was on the wire.
fn settle(now: Instant, a: &mut Party, b: &mut Party) -> Vec<Vec<u8>> {
    let mut wire = Vec::new();
    loop {
        a.handle_timeout(now);
        b.handle_timeout(now);
        let to_b: Vec<_> = core::iter::from_fn(|| a.poll_datagram()).map(|(_, d)| d).collect();
        let to_a: Vec<_> = core::iter::from_fn(|| b.poll_datagram()).map(|(_, d)| d).collect();
        if to_a.is_empty() && to_b.is_empty() {
            return wire;
        }
        exchange(now, a, b, (to_a, to_b), &mut wire);
    }
}

type Datagrams = Vec<Vec<u8>>;

fn exchange(
    now: Instant,
    a: &mut Party,
    b: &mut Party,
    (mut to_a, mut to_b): (Datagrams, Datagrams),
    wire: &mut Datagrams,
) {
    while !to_a.is_empty() || !to_b.is_empty() {
        wire.extend(to_a.iter().chain(&to_b).cloned());
        let (mut from_a, mut from_b) = (Vec::new(), Vec::new());
        for bytes in to_b {
            let _ = take(b, now, &bytes, &mut from_b);
        }
        for bytes in to_a {
            let _ = take(a, now, &bytes, &mut from_a);
        }
        (to_a, to_b) = (from_b, from_a);
    }
}

fn key_between(party: &Party, node: u8) -> Option<KeyId> {
    party.standings(at(0)).find(|standing| standing.node.0 == node)?.key
}

/// One message each way, and what came of it.
fn speak(now: Instant, from: &mut Party, to: &mut Party) -> Result<Option<Vec<u8>>, Unopened> {
    let datagram = solicit(from.me);
    let sealed = from.seal(now, to.me.node, &datagram).ok_or(Unopened::UnknownSession)?;
    let is_readable = |window| datagram.windows(8).any(|plain| plain == window);
    assert!(!sealed[HEADER_BYTES..].windows(8).any(is_readable));
    take(to, now, &sealed, &mut Vec::new())
}

fn pair() -> (Party, Party) {
    let (mut a, mut b) = (party(1, 11), party(2, 22));
    settle(at(0), &mut a, &mut b);
    (a, b)
}

#[test]
fn two_lives_have_a_session_after_two_round_trips() {
    let (mut a, mut b) = (party(1, 11), party(2, 22));
    assert_eq!(a.seal(at(0), NodeId(2), b"x"), None);
    let wire = settle(at(0), &mut a, &mut b);
    assert_eq!(wire.len(), 5, "Begin, Life, Begin, Answer, and the word that it is used");
    assert_eq!(speak(at(0), &mut a, &mut b), Ok(Some(solicit(a.me))));
    assert_eq!(speak(at(0), &mut b, &mut a), Ok(Some(solicit(b.me))));
    assert_eq!((a.counters().no_session, a.counters().sessions, b.counters().sessions), (1, 1, 1));
    assert!(settle(at(1_000), &mut a, &mut b).len() <= 4);
}

#[test]
fn a_changed_byte_or_a_missing_end_is_found() {
    let (mut a, mut b) = pair();
    let sealed = a.seal(at(0), NodeId(2), &solicit(a.me)).unwrap();
    for at_byte in 0..sealed.len() {
        let mut forged = sealed.clone();
        forged[at_byte] ^= 1;
        assert!(b.open(at(0), &mut forged).is_err(), "byte {at_byte}");
        assert!(b.open(at(0), &mut sealed[..at_byte].to_vec()).is_err(), "cut at {at_byte}");
    }
    assert!(take(&mut b, at(0), &sealed, &mut Vec::new()).unwrap().is_some());
}

#[test]
fn each_message_is_taken_once_in_any_order_within_the_window() {
    let (mut a, mut b) = pair();
    let datagram = solicit(a.me);
    let sealed: Vec<_> = (0..1_500).map(|_| a.seal(at(0), NodeId(2), &datagram).unwrap()).collect();
    let mut open = |n: usize| take(&mut b, at(0), &sealed[n], &mut Vec::new()).map(|d| d.is_some());
    assert_eq!(open(900), Ok(true));
    assert_eq!(open(3), Ok(true));
    assert_eq!(open(3), Err(Unopened::Repeated));
    assert_eq!(open(1_499), Ok(true));
    assert_eq!(open(1_499 - 1_000), Ok(true));
    assert_eq!(open(1_499 - 1_100), Err(Unopened::Repeated), "too old to tell");
    assert_eq!(open(900), Err(Unopened::Repeated));
}

#[test]
fn without_the_key_nothing_comes_about_and_both_can_tell() {
    let (mut a, mut b) = (party_with(&[1], 1, 11), party_with(&[2], 2, 22));
    settle(at(0), &mut a, &mut b);
    assert_eq!((key_between(&a, 2), key_between(&b, 1)), (None, None));
    let other_key = |party: &Party| party.counters().unopened[Unopened::OtherKey as usize];
    assert!(other_key(&a) > 0 && other_key(&b) > 0);
    // The same key in another cluster is another one.
    let ring = Keyring::new(CLUSTER + 1, &[Key::new([1; 32])]);
    let mut other = Party::new(at(0), member(2, 22), ring, [NodeId(1)], [9; SEED_BYTES]);
    settle(at(50), &mut a, &mut other);
    assert_eq!(key_between(&other, 1), None);
    assert!(other.counters().unopened[Unopened::Forged as usize] > 0);
}

#[test]
fn a_key_is_changed_node_by_node() {
    // (keys of 1, keys of 2) through the whole change; the first is spoken under.
    let steps: [(&[u8], &[u8]); 5] =
        [(&[1], &[1]), (&[2, 1], &[1]), (&[2, 1], &[2, 1]), (&[2], &[2, 1]), (&[2], &[2])];
    for (life, (first, second)) in steps.into_iter().enumerate() {
        for (one, other) in [(first, second), (second, first)] {
            let (mut a, mut b) =
                (party_with(one, 1, life as u64 + 1), party_with(other, 2, life as u64 + 1));
            for ms in (0..100).step_by(5) {
                settle(at(ms), &mut a, &mut b);
            }
            assert!(speak(at(100), &mut a, &mut b).is_ok(), "{one:?} with {other:?}");
            assert!(speak(at(100), &mut b, &mut a).is_ok(), "{one:?} with {other:?}");
        }
    }
}

#[test]
fn lost_words_of_a_handshake_are_said_again() {
    for lost in 0..5 {
        let (mut a, mut b) = (party(1, 11), party(2, 22));
        let mut n = 0;
        let mut done_at = None;
        for ms in 0..100 {
            a.handle_timeout(at(ms));
            let mut to_b: Vec<_> =
                core::iter::from_fn(|| a.poll_datagram()).map(|(_, bytes)| bytes).collect();
            // What an agent says all the time brings it about as well.
            to_b.extend(a.seal(at(ms), NodeId(2), &solicit(a.me)));
            let mut to_a = Vec::new();
            while !to_a.is_empty() || !to_b.is_empty() {
                let mut survives = |_: &Vec<u8>| (n != lost, n += 1).0;
                let (arrive_b, arrive_a): (Vec<_>, Vec<_>) = (
                    to_b.drain(..).filter(&mut survives).collect(),
                    to_a.drain(..).filter(&mut survives).collect(),
                );
                for bytes in arrive_b {
                    let _ = take(&mut b, at(ms), &bytes, &mut to_a);
                }
                for bytes in arrive_a {
                    let _ = take(&mut a, at(ms), &bytes, &mut to_b);
                }
                to_b.extend(core::iter::from_fn(|| a.poll_datagram()).map(|(_, bytes)| bytes));
            }
            if speak(at(ms), &mut b, &mut a).is_ok() {
                done_at = Some(ms);
                break;
            }
        }
        assert!(done_at.is_some_and(|ms| ms <= 10), "{lost} lost: {done_at:?}");
    }
}

#[test]
fn a_round_trip_longer_than_the_pauses_still_leads_to_a_session() {
    let (mut a, mut b) = (party(1, 11), party(2, 22));
    let mut wire: Vec<(u64, bool, Vec<u8>)> = Vec::new();
    for ms in 0..1_000 {
        a.handle_timeout(at(ms));
        wire.extend(core::iter::from_fn(|| a.poll_datagram()).map(|(_, d)| (ms + 70, true, d)));
        let (due, later) = wire.drain(..).partition(|(when, ..)| *when <= ms);
        wire = later;
        for (_, is_for_b, bytes) in Vec::<_>::into_iter(due) {
            let mut replies = Vec::new();
            let to = if is_for_b { &mut b } else { &mut a };
            let _ = take(to, at(ms), &bytes, &mut replies);
            wire.extend(replies.into_iter().map(|d| (ms + 70, !is_for_b, d)));
        }
    }
    assert!(speak(at(1_000), &mut b, &mut a).is_ok());
}

#[test]
fn whoever_restarts_has_a_session_with_the_next_message_of_the_other() {
    let (mut a, _) = pair();
    let old = a.seal(at(0), NodeId(2), &solicit(a.me)).unwrap();
    // The one that answers handshakes.
    let mut b = party(2, 23);
    let mut to_a = Vec::new();
    assert_eq!(take(&mut b, at(10), &old, &mut to_a), Err(Unopened::UnknownSession));
    exchange(at(10), &mut a, &mut b, (to_a, Vec::new()), &mut Vec::new());
    settle(at(10), &mut a, &mut b);
    assert!(speak(at(10), &mut b, &mut a).is_ok());
    // The one that begins them.
    a = party(1, 12);
    settle(at(20), &mut a, &mut b);
    assert!(speak(at(20), &mut b, &mut a).is_ok() && speak(at(20), &mut a, &mut b).is_ok());
    // Nothing of a former life is opened any more.
    assert_eq!(take(&mut b, at(20), &old, &mut Vec::new()), Err(Unopened::UnknownSession));
}

#[test]
fn a_session_in_which_nothing_is_heard_is_made_anew() {
    let (mut a, mut b) = pair();
    // It lost its memory of this session, and its hints are lost.
    b.peers.clear();
    for ms in (0..1_100).step_by(2) {
        let _ = speak(at(ms), &mut a, &mut b);
        settle(at(ms), &mut a, &mut b);
    }
    assert!(speak(at(1_100), &mut b, &mut a).is_ok());
}

#[test]
fn keys_are_renewed_and_what_is_on_its_way_still_arrives() {
    let (mut a, mut b) = pair();
    let (mut ms, mut late) = (0, Vec::new());
    while a.counters().sessions < 2 {
        ms += 100;
        late = b.seal(at(ms), NodeId(1), &solicit(b.me)).unwrap();
        settle(at(ms), &mut a, &mut b);
        assert!(speak(at(ms), &mut a, &mut b).is_ok() && speak(at(ms), &mut b, &mut a).is_ok());
    }
    assert!((120_000..121_000).contains(&ms), "{ms}");
    assert!(take(&mut a, at(ms), &late, &mut Vec::new()).unwrap().is_some());
    let later = ms + SESSION_KEPT.millis() + 100;
    a.handle_timeout(at(later));
    assert_eq!(take(&mut a, at(later), &late, &mut Vec::new()), Err(Unopened::UnknownSession));
}

#[test]
fn counters_that_run_out_renew_the_session_and_never_repeat() {
    let (mut a, mut b) = pair();
    a.peers[0].current.as_mut().unwrap().use_up(SESSION_DATAGRAMS_MAX - 1);
    assert!(a.seal(at(0), NodeId(2), b"last").is_some());
    assert_eq!(a.seal(at(0), NodeId(2), b"one more"), None);
    settle(at(10), &mut a, &mut b);
    assert!(speak(at(10), &mut a, &mut b).is_ok());
}

#[test]
fn what_was_recorded_is_of_no_use() {
    let (mut a, mut b) = (party(1, 11), party(2, 22));
    let mut recorded = settle(at(0), &mut a, &mut b);
    // A second life of each, recorded as well.
    (a, b) = (party(1, 12), party(2, 23));
    recorded.extend(settle(at(10), &mut a, &mut b));
    (a, b) = (party(1, 13), party(2, 24));
    recorded.extend(settle(at(20), &mut a, &mut b));
    recorded.extend(a.seal(at(0), NodeId(2), &solicit(a.me)));
    assert!(take(&mut b, at(20), recorded.last().unwrap(), &mut Vec::new()).is_ok());
    let before = (a.counters(), b.counters());
    for round in 0..10 {
        let now = at(30 + round);
        let (mut to_a, mut to_b) = (Vec::new(), Vec::new());
        for bytes in &recorded {
            assert!(!matches!(take(&mut b, now, bytes, &mut to_a), Ok(Some(_))));
            assert!(!matches!(take(&mut a, now, bytes, &mut to_b), Ok(Some(_))));
        }
        exchange(now, &mut a, &mut b, (to_a, to_b), &mut Vec::new());
        settle(now, &mut a, &mut b);
        assert!(speak(now, &mut a, &mut b).is_ok() && speak(now, &mut b, &mut a).is_ok());
    }
    assert_eq!(b.counters().answered, before.1.answered, "no handshake is computed for a record");
    assert_eq!((a.counters().sessions, b.counters().sessions), (1, 1));
}

#[test]
fn a_surrender_needs_no_session_and_speaks_for_its_own_life_only() {
    let (mut a, _) = pair();
    let dead = member(2, 22);
    let header = Header { cluster: CLUSTER, from: dead, to: any_life(NodeId(1)) };
    let datagram = encode(header, &Message::Surrender { at: at(5) });
    let mut said = surrender(&keyring(&[2, 1]), dead, [3; SALT_BYTES], &datagram);
    let under_ours = said.pop().unwrap();
    assert_eq!(take(&mut a, at(5), &under_ours, &mut Vec::new()), Ok(Some(datagram.clone())));
    assert_eq!(take(&mut a, at(5), &said[0], &mut Vec::new()), Err(Unopened::OtherKey));
    let ring = keyring(&[1]);
    let for_another = surrender(&ring, member(2, 23), [4; SALT_BYTES], &datagram);
    let refused = take(&mut a, at(5), &for_another[0], &mut Vec::new());
    assert_eq!(refused, Err(Unopened::Misattributed));
    let heartbeat = surrender(&ring, dead, [5; SALT_BYTES], &solicit(dead));
    let refused = take(&mut a, at(5), &heartbeat[0], &mut Vec::new());
    assert_eq!(refused, Err(Unopened::Misattributed));
}

#[test]
fn a_session_speaks_for_its_own_life_only() {
    let (mut a, mut b) = pair();
    let sealed = a.seal(at(0), NodeId(2), &solicit(member(1, 12))).unwrap();
    let refused = take(&mut b, at(0), &sealed, &mut Vec::new());
    assert_eq!(refused, Err(Unopened::Misattributed));
}

#[test]
fn strangers_are_answered_within_bounds() {
    let (mut a, mut b) = pair();
    let mut unknown = a.seal(at(0), NodeId(2), &solicit(a.me)).unwrap();
    unknown[4] ^= 1;
    let hints = (0..1_000).filter(|_| b.hint(at(0), &unknown).is_some()).count();
    assert_eq!(hints as u64, HINTS_PER_SECOND);
    assert!(b.hint(at(1_001), &unknown).is_some());
    assert!(b.hint(at(1_001), &unknown[..40]).is_none(), "less than what was sent");
    let hint = b.hint(at(1_001), &unknown).unwrap();
    assert!(a.hint(at(1_001), &hint).is_none(), "no hint answers another");
}

#[test]
fn random_and_changed_datagrams_never_end_it() {
    let (mut a, mut b) = pair();
    let mut seeds = settle(at(130_000), &mut a, &mut b);
    seeds.extend(a.seal(at(0), NodeId(2), &solicit(a.me)));
    let ring = keyring(&[1]);
    seeds.extend(surrender(&ring, a.me, [1; SALT_BYTES], b"datagram"));
    let mut link = LinkSeal::new(0);
    link.install(at(0), a.peers[0].current.as_ref().unwrap().link_keys().session());
    let mut state = 99u64;
    let mut draw = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state >> 3
    };
    for _ in 0..50_000 {
        let mut bytes = seeds[draw() as usize % seeds.len()].clone();
        match draw() % 4 {
            0 => bytes.truncate(draw() as usize % (bytes.len() + 1)),
            1 => bytes = (0..draw() % 120).map(|_| draw() as u8).collect(),
            _ => {}
        }
        for _ in 0..draw() % 4 {
            let len = bytes.len();
            if let Some(byte) = bytes.get_mut(draw() as usize % len.max(1)) {
                *byte = draw() as u8;
            }
        }
        let _ = link.open(at(130_000), &mut bytes.clone());
        let _ = b.open(at(130_000), &mut bytes.clone());
        let _ = b.hint(at(130_000), &bytes);
        let _ = a.open(at(130_000), &mut bytes);
    }
    assert!(speak(at(130_000), &mut a, &mut b).is_ok());
}
