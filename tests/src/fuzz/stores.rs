//! What a witness finds on its disk: damaged, it is not believed; believed, it is written again as it is.

use super::Dice;
use super::agents::{Speaker, WITNESS_LIFE};
use cluster::id::{Epoch, GroupId, Incarnation, Member, NodeId};
use cluster::lease::Timers;
use cluster::message::{Message, WITNESS};
use cluster::register::{Change, Register};
use cluster::witness::{Effect, GROUPS_MAX, Witness};
use siphasher::sip::SipHasher13;
use stack::time::{Duration, Instant};
use std::hash::Hasher;

/// When everything that was promised before is over.
const LATER: Instant = Instant(3_600_000_000_000);

/// The first byte says whether what follows gets the checksum that belongs to it.
pub fn stores(data: &[u8]) -> bool {
    let mut dice = Dice(data);
    let mends = !dice.byte().is_multiple_of(4);
    let mut bytes = dice.0.to_vec();
    if mends {
        mend(&mut bytes);
    }
    let (mut witness, error) = wake(Instant(5), Some(&bytes), false);
    let before: Vec<(GroupId, Register)> = witness.registers().collect();
    assert!(before.len() <= GROUPS_MAX && (error.is_none() || before.is_empty()));
    // It is asked by one who lives, and one who has yet to register; what it writes then is what it has.
    let mut newcomer = Speaker::new(9, 99);
    let mut stored = None;
    for n in 0..3 {
        let hello = newcomer.hello();
        let answer = witness.handle_request(LATER + Duration::from_millis(n), &hello);
        newcomer.hear(&keep(&mut witness, answer, &mut stored));
    }
    let Some(stored) = stored else {
        assert!(error.is_some(), "a life that registers is written");
        return false;
    };
    let (again, error) = wake(LATER, Some(&stored), false);
    assert_eq!(error, None, "what was written is believed");
    let is_written = |(_, register): &(GroupId, Register)| register.is_written();
    let before: Vec<(GroupId, Register)> = before.into_iter().filter(is_written).collect();
    assert_eq!(again.registers().collect::<Vec<_>>(), before);
    true
}

/// A witness whose life is [`WITNESS_LIFE`].
pub(super) fn wake(
    now: Instant,
    store: Option<&[u8]>,
    seed: bool,
) -> (Witness, Option<cluster::witness::Unreadable>) {
    Witness::new(now, Incarnation(WITNESS_LIFE), 1, Timers::bed(), store, seed)
}

/// What is to be written is; then the answer may go.
pub(super) fn keep(
    witness: &mut Witness,
    answer: Result<Effect, cluster::message::Drop>,
    stored: &mut Option<Vec<u8>>,
) -> Vec<u8> {
    match answer {
        Err(_) | Ok(Effect::Nothing) => Vec::new(),
        Ok(Effect::Reply(reply)) => reply,
        Ok(Effect::Persist(pending)) => {
            let write = |bytes: &[u8]| -> Result<(), ()> {
                *stored = Some(bytes.to_vec());
                Ok(())
            };
            witness.release(pending, write).expect("it was written")
        }
    }
}

/// As the witness does it, behind everything else.
fn mend(bytes: &mut [u8]) {
    let Some((body, sum)) = bytes.split_last_chunk_mut::<8>() else { return };
    let mut hasher = SipHasher13::new_with_keys(0x5553_5457, 1);
    hasher.write(body);
    *sum = hasher.finish().to_le_bytes();
}

/// The store of a witness that knows three nodes, one of them in its second life, and two groups.
pub(super) fn example() -> Vec<u8> {
    let mut stored = None;
    let mut witness = wake(Instant(5), None, true).0;
    let mut nodes =
        [Speaker::new(1, 7), Speaker::new(2, 8), Speaker::new(2, 9), Speaker::new(3, 4)];
    let mut say = |speaker: &mut Speaker, message: Option<Message>| {
        let bytes =
            message.map_or_else(|| speaker.hello(), |message| speaker.say(WITNESS, &message));
        let answer = witness.handle_request(LATER, &bytes);
        let reply = keep(&mut witness, answer, &mut stored);
        speaker.hear(&reply);
    };
    for node in &mut nodes {
        say(node, None);
        say(node, None);
    }
    let owner = &mut nodes[0];
    for (group, steps) in [(GroupId::new(3, 0), 3), (GroupId::new(4, 1), 1)] {
        let peer = Member { node: NodeId(3), incarnation: Incarnation(4) };
        let changes = [Change::Create, Change::AddPeer(peer), Change::InSync(peer)];
        for (epoch, change) in (0..).zip(&changes[..steps]) {
            let message = owner.change(LATER, group, Epoch(epoch), *change);
            say(owner, Some(message));
        }
    }
    [&[1][..], &stored.expect("it was told something")].concat()
}
