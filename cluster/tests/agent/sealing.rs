//! The link of the world, sealed: each party seals what it says and opens what it hears, as the shells do.

use super::world::{Fault, World};
use cluster::id::{Member, NodeId};
use cluster::message::WITNESS;
use cluster::seal::{Key, Keyring, Opened, Party, SEED_BYTES, Unopened};
use stack::time::Instant;

/// What a party hears in a datagram.
pub enum Heard {
    /// This, from an agent, the witness or a guardian.
    Datagram(Vec<u8>),
    /// Nothing, but this is to be answered.
    Reply(Vec<u8>),
    /// Nothing.
    Nothing,
}

/// The key that everybody in the world holds.
pub fn keyring(cluster: u64) -> Keyring {
    Keyring::new(cluster, &[Key::new([7; 32])])
}

/// A party for a life that has just begun.
pub fn party(now: Instant, cluster: u64, me: Member, count: usize) -> Party {
    let nodes = (1..=count as u8).map(NodeId);
    let others = nodes.chain((me.node != WITNESS).then_some(WITNESS));
    let mut seed = [me.node.0; SEED_BYTES];
    seed[..8].copy_from_slice(&me.incarnation.0.to_le_bytes());
    Party::new(now, me, keyring(cluster), others, seed)
}

/// Opens what has arrived at a party; one that seals nothing takes it as it is.
pub fn open(party: &mut Option<Party>, now: Instant, mut bytes: Vec<u8>) -> Heard {
    let Some(party) = party else { return Heard::Datagram(bytes) };
    let arrived = bytes.clone();
    match party.open(now, &mut bytes) {
        Ok(Opened::Datagram(datagram)) => Heard::Datagram(datagram.to_vec()),
        Ok(Opened::Reply(reply)) => Heard::Reply(reply),
        Ok(Opened::Nothing) => Heard::Nothing,
        Err(Unopened::UnknownSession) => {
            party.hint(now, &arrived).map_or(Heard::Nothing, Heard::Reply)
        }
        // The network of the world doubles what it carries, and answers come late; it changes nothing.
        Err(Unopened::Repeated | Unopened::Late) => Heard::Nothing,
        Err(reason) => panic!("among holders of the key: {reason:?}"),
    }
}

/// What a party would send now so that `to` hears it.
pub fn seal(
    party: &mut Option<Party>,
    now: Instant,
    to: NodeId,
    datagram: Vec<u8>,
) -> Option<Vec<u8>> {
    match party {
        None => Some(datagram),
        Some(party) => party.seal(now, to, &datagram),
    }
}

/// Leases and takeovers do not wait noticeably for sessions: all stories together, as each has its own luck.
#[test]
fn a_sealed_cluster_boots_and_takes_over_as_fast() {
    let (mut boots, mut takeovers) = ([0; 2], [0; 2]);
    for seed in 0..20 {
        for (n, mut world) in
            [World::booted(seed, 2), World::booted_sealed(seed, 2)].into_iter().enumerate()
        {
            boots[n] += world.until(20_000, "protected", World::is_protected);
            let owner = world.voices()[0];
            // Past what the arbiter has promised before the peer was in sync.
            world.run(3_000);
            world.fault(Fault::Crash(owner));
            let voice = |world: &World| world.voices() == [1 - owner];
            takeovers[n] += world.until(2_000, "another voice", voice);
            // The one that returns is the peer again.
            world.fault(Fault::Start(owner));
            world.until(20_000, "protected again", World::is_protected);
        }
    }
    println!("boots {boots:?} ms, takeovers {takeovers:?} ms, unsealed and sealed");
    assert!(boots[1] <= boots[0] + 20 * 20, "{boots:?}");
    assert!(takeovers[1] <= takeovers[0] + 20 * 5, "{takeovers:?}");
}
