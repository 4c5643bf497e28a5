//! Cores that are told of a reload, one after the other, each with all that it needs for it.

use super::plan::Step;
use crate::report::PATIENCE;
use crate::shared::{Settings, ToCore};
use crossbeam_channel::{Receiver, Sender, bounded};
use stack::shard::Place;

/// Cores that were told of other settings.
pub(super) struct Told {
    /// What the settings replace is given back, to be freed here, and whether all was done.
    pub replaced: Vec<Receiver<(Settings, bool)>>,
    /// The core that took no order in time; those after it were told nothing.
    pub late: Option<usize>,
}

impl Told {
    /// Tells the first `count` of all cores. What each needs for the settings is made here: it has no time for that.
    pub fn tell(cores: &[Sender<ToCore>], count: usize, steps: &[(u8, Step)]) -> Told {
        let mut replaced = Vec::with_capacity(count);
        let late = cores[..count].iter().zip(0..).position(|(orders, core)| {
            let place = Place { core, cores: cores.len() as u8 };
            let settings: Settings =
                steps.iter().map(|(index, step)| (*index, step.setting(place))).collect();
            let (answer, given_back) = bounded(1);
            replaced.push(given_back);
            orders.send_timeout(ToCore::Reconfigure(settings, answer), PATIENCE).is_err()
        });
        replaced.truncate(late.unwrap_or(count));
        Told { replaced, late }
    }

    /// Waits for what was replaced, and frees it; whether every core has done all.
    pub fn finish(self) -> bool {
        let is_whole = self.late.is_none();
        let done = self.replaced.iter().map(|replaced| replaced.recv_timeout(PATIENCE));
        done.fold(is_whole, |is_done, answer| is_done && answer.is_ok_and(|(_, done)| done))
    }
}
