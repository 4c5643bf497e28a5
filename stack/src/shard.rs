//! Which core of a node serves which flow.
//!
//! Flows are spread over a fixed number of shards by their keyed hash, which is the same on every node; a
//! node deals its shards out to its cores in turn. So nodes may differ in cores, every one of them finds the
//! core of a flow without asking, and nobody outside can aim at one core.

/// Shards of every cluster; the top six bits of a flow's hash.
pub const SHARDS: usize = 64;

/// The shard of the flow with this hash.
#[inline]
pub const fn shard_of(hash: u64) -> u8 {
    (hash >> 58) as u8
}

/// One core among those of its node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// Which core, from 0.
    pub core: u8,
    /// Cores of the node, at most [`SHARDS`].
    pub cores: u8,
}

impl Place {
    /// The only core of its node.
    pub const ALONE: Place = Place { core: 0, cores: 1 };

    /// The core of this node that serves `shard`.
    #[inline]
    pub const fn core_of(self, shard: u8) -> u8 {
        if self.cores == 1 { 0 } else { shard % self.cores }
    }

    /// Whether this core serves `shard`.
    #[inline]
    pub const fn holds(self, shard: u8) -> bool {
        self.core_of(shard) == self.core
    }

    /// Shards of this core.
    pub fn shards(self) -> impl Iterator<Item = u8> {
        (0..SHARDS as u8).filter(move |&shard| self.holds(shard))
    }

    /// Whether a flow of this core can be one of `other`, a core of another node.
    pub fn shares_with(self, other: Place) -> bool {
        self.shards().any(|shard| other.holds(shard))
    }

    /// This core's part of a limit of the node: what its shards get of it, an eighth more because flows differ
    /// in what they take, and four standard deviations of a fair hash, so that a core is full before its
    /// node in less than one of ten thousand draws. Never more than the whole.
    pub fn part_of(self, limit: usize) -> usize {
        let even = (limit * self.shards().count()).div_ceil(SHARDS);
        limit.min(even + even / 8 + 4 * even.isqrt())
    }

    /// This core's share of a limit that the cores of a node keep together: at least 1, and 0 stays 0.
    pub fn share_of(self, limit: u32) -> u32 {
        let (core, cores) = (u32::from(self.core), u32::from(self.cores));
        let share = limit / cores + u32::from(core < limit % cores);
        share.max(u32::from(limit > 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{FlowKey, Keys};
    use crate::wire::Address;
    use alloc::vec;

    #[test]
    fn every_shard_has_one_core_and_every_core_a_shard() {
        for cores in 1..=16 {
            let places = || (0..cores).map(move |core| Place { core, cores });
            for shard in 0..SHARDS as u8 {
                assert_eq!(places().filter(|place| place.holds(shard)).count(), 1);
            }
            assert!(places().all(|place| place.shards().count() >= SHARDS / cores as usize));
        }
    }

    #[test]
    fn cores_share_shards_as_their_numbers_say() {
        let shares = |a: (u8, u8), b: (u8, u8)| {
            Place { core: a.0, cores: a.1 }.shares_with(Place { core: b.0, cores: b.1 })
        };
        assert!(shares((1, 2), (1, 2)) && !shares((0, 2), (1, 2)));
        assert!((0..3).all(|core| shares((0, 2), (core, 3))));
        assert!(shares((1, 4), (1, 2)) && !shares((1, 4), (0, 2)));
    }

    #[test]
    fn a_part_holds_what_a_fair_hash_deals_out() {
        assert_eq!(Place::ALONE.part_of(65_536), 65_536);
        let keys = Keys::new(&[3; 32]);
        for cores in [2, 3, 7, 16] {
            let mut dealt = vec![0; cores as usize];
            for n in 0..20_000u32 {
                let address = n.to_be_bytes();
                let key = FlowKey { remote: Address::v4(address), ..FlowKey::default() };
                let shard = shard_of(keys.flow_hash(&key));
                dealt[Place { core: 0, cores }.core_of(shard) as usize] += 1;
            }
            for (core, dealt) in dealt.iter().enumerate() {
                let part = Place { core: core as u8, cores }.part_of(20_000);
                assert!(*dealt <= part && part < 20_000, "core {core} of {cores}: {dealt} {part}");
            }
        }
    }
}
