//! Local ends of connections to one server that a search has come by: they are of other shards than the one that was sought.
//!
//! Both legs of a connection are of one shard, and whoever looks for a port that is meets one of every shard before. What it
//! passes is kept for those who come next: so a search hashes a few ports, not as many as there are shards.
//!
//! Bounds: [`KEPT`] places of each shard. An end that is kept may be taken meanwhile: whoever takes one out looks.

use crate::shard::SHARDS;

/// Local ends kept of each shard.
const KEPT: usize = 2;

/// See the module.
#[derive(Clone, Debug)]
pub struct PassedBy {
    /// By shard: positions among all local ends towards the server.
    at: [[u32; KEPT]; SHARDS],
    count: [u8; SHARDS],
}

impl Default for PassedBy {
    fn default() -> PassedBy {
        PassedBy { at: [[0; KEPT]; SHARDS], count: [0; SHARDS] }
    }
}

impl PassedBy {
    /// The end at this position is of that shard. What finds no place is forgotten, and found again.
    #[inline]
    pub fn keep(&mut self, shard: u8, at: u32) {
        let shard = usize::from(shard);
        let count = usize::from(self.count[shard]);
        if count < KEPT && !self.at[shard][..count].contains(&at) {
            self.at[shard][count] = at;
            self.count[shard] += 1;
        }
    }

    /// Takes one of that shard out.
    #[inline]
    pub fn take(&mut self, shard: u8) -> Option<u32> {
        let shard = usize::from(shard);
        self.count[shard] = self.count[shard].checked_sub(1)?;
        Some(self.at[shard][usize::from(self.count[shard])])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn each_shard_keeps_a_few_and_none_twice() {
        let mut passed = PassedBy::default();
        for at in [7, 7, 8, 9] {
            passed.keep(63, at);
        }
        assert_eq!(passed.take(0), None);
        let all: Vec<u32> = core::iter::from_fn(|| passed.take(63)).collect();
        assert_eq!(all, [8, 7]);
        passed.keep(63, 9);
        assert_eq!((passed.take(63), passed.take(63)), (Some(9), None));
    }
}
