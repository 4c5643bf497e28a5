//! Who of a node's cores has reported: what is true of a node is true when all of them have said so.

use crate::limits::CORES_MAX;

/// The cores that have reported, of those that have to. One gathering is for one group and one epoch; a new
/// one begins with a new value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gather {
    reported: u32,
    wanted: u32,
}

impl Gather {
    /// Nobody of `cores` has reported.
    pub fn new(cores: u8) -> Gather {
        assert!((1..=CORES_MAX).contains(&cores), "a node has 1 to {CORES_MAX} cores");
        Gather { reported: 0, wanted: u32::MAX >> (u32::BITS - cores as u32) }
    }

    /// A core has reported; answers whether it is wanted and had not before.
    pub fn note(&mut self, core: u8) -> bool {
        let bit = 1u32.checked_shl(core.into()).unwrap_or(0) & self.wanted;
        let is_new = bit & !self.reported != 0;
        self.reported |= bit;
        is_new
    }

    /// Whether every core has reported.
    pub fn is_complete(&self) -> bool {
        self.reported == self.wanted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_every_core_and_each_counts_once() {
        let mut gather = Gather::new(3);
        assert!(gather.note(2) && !gather.note(2) && !gather.is_complete());
        assert!(!gather.note(3) && !gather.note(31) && !gather.note(200));
        assert!(gather.note(0) && !gather.is_complete());
        assert!(gather.note(1) && gather.is_complete());
        assert!(!gather.note(1) && gather.is_complete());
    }

    #[test]
    fn one_core_and_all_that_there_can_be() {
        for cores in [1, CORES_MAX] {
            let mut gather = Gather::new(cores);
            for core in 0..cores {
                assert!(!gather.is_complete() && gather.note(core));
            }
            assert!(gather.is_complete());
        }
    }
}
