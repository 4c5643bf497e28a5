//! Takeovers for nothing: what a pair's registers do while it is under load and nobody dies.
//!
//! ```text
//! status of both nodes -> a turn -> status of both nodes: every epoch is the same, or the pair has changed something by itself
//! ```
//!
//! An epoch counts the changes of a group's register: another owner, but also a peer that was given up and came back. Neither should
//! happen because there is much to do.
//!
//! Units: hours; changes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use dataplane::control::status::Status;

use super::figures::Figures;
use super::measure::{Measure, Sample};
use super::rival::Rival;

/// Pairs that are watched: those that have turns.
pub const PAIRS: [Rival; 3] = [Rival::Mirrored, Rival::Held, Rival::Unsealed];

/// Metrics of a turn: how long it was, and what its registers did.
const HOURS: &str = "watched";
pub const CHANGES: &str = "epoch changes";

/// The newest epoch of each group that a node knows.
type Epochs = BTreeMap<(String, u8), u64>;

/// A turn under way.
pub struct Vigil {
    begun: Instant,
    epochs: Epochs,
}

/// What was seen of a turn.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Changes of registers. If there are any, what the turn cost is not, or not all, what the owner of before has spent.
    pub changes: u64,
    /// Both metrics.
    pub samples: [Sample; 2],
}

/// What the turns of a pair came to.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Watched {
    /// How long they were, all together.
    pub hours: f64,
    /// And how many.
    pub turns: usize,
    /// Changes of their registers.
    pub changes: f64,
}

impl Vigil {
    /// Begins with what the nodes say.
    pub fn begin(nodes: &[Status]) -> Vigil {
        Vigil { begun: Instant::now(), epochs: epochs(nodes) }
    }

    /// Ends with what they say now.
    pub fn end(self, nodes: &[Status]) -> Seen {
        self.end_after(self.begun.elapsed(), nodes)
    }

    fn end_after(&self, lasted: Duration, nodes: &[Status]) -> Seen {
        let changes: u64 = epochs(nodes)
            .into_iter()
            .map(|(group, now)| now.saturating_sub(*self.epochs.get(&group).unwrap_or(&0)))
            .sum();
        let samples = [
            Sample { metric: HOURS, unit: "h", value: lasted.as_secs_f64() / 3_600.0 },
            Sample { metric: CHANGES, unit: "", value: changes as f64 },
        ];
        Seen { changes, samples }
    }
}

fn epochs(nodes: &[Status]) -> Epochs {
    let mut newest = Epochs::new();
    for group in nodes.iter().flat_map(|node| &node.groups) {
        let epoch = newest.entry((group.service.clone(), group.generation)).or_default();
        *epoch = group.epoch.max(*epoch);
    }
    newest
}

impl Watched {
    /// All turns of a pair; `None` if there was none.
    pub fn of(figures: &Figures, pair: Rival) -> Option<Watched> {
        let mut all = Watched::default();
        for measure in Measure::TURNS {
            let samples = |metric| {
                let figure = figures.get(measure, metric, pair);
                figure.map_or(&[][..], |figure| &figure.samples).iter().map(|(_, value)| value)
            };
            all.hours += samples(HOURS).sum::<f64>();
            all.changes += samples(CHANGES).sum::<f64>();
            all.turns += samples(CHANGES).count();
        }
        (all.turns > 0).then_some(all)
    }

    /// All pairs together.
    pub fn by_all(figures: &Figures) -> Option<Watched> {
        let of_each = PAIRS.into_iter().filter_map(|pair| Watched::of(figures, pair));
        of_each.reduce(|one, other| Watched {
            hours: one.hours + other.hours,
            turns: one.turns + other.turns,
            changes: one.changes + other.changes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dataplane::control::status::GroupStatus;

    fn node(epochs: [u64; 2]) -> Status {
        let group = |(service, epoch): (&str, u64)| GroupStatus {
            service: service.into(),
            epoch,
            ..GroupStatus::default()
        };
        let groups = ["web", "echo"].into_iter().zip(epochs).map(group).collect();
        Status { groups, ..Status::default() }
    }

    #[test]
    fn a_change_counts_once_whichever_node_knows_of_it() {
        let vigil = Vigil::begin(&[node([3, 7]), node([3, 6])]);
        let changes = |nodes: &[Status]| {
            vigil.end_after(Duration::from_secs(1_800), nodes).samples.map(|sample| sample.value)
        };
        assert_eq!(vigil.end_after(Duration::ZERO, &[node([3, 7])]).changes, 0);
        assert_eq!(vigil.end_after(Duration::ZERO, &[node([4, 7])]).changes, 1);
        assert_eq!(changes(&[node([3, 7]), node([3, 7])]), [0.5, 0.0]);
        assert_eq!(changes(&[node([3, 7]), node([5, 7])]), [0.5, 2.0]);
        assert_eq!(changes(&[node([4, 8]), node([4, 8])]), [0.5, 2.0]);
    }

    #[test]
    fn turns_of_all_pairs_and_measures_come_together() {
        let mut figures = Figures::default();
        assert_eq!(Watched::by_all(&figures), None);
        for (measure, pair, round, epoch) in [
            (Measure::Connect, Rival::Mirrored, 1, 7),
            (Measure::Connect, Rival::Mirrored, 2, 8),
            (Measure::JumboUpload, Rival::Held, 1, 7),
        ] {
            let vigil = Vigil::begin(&[node([3, 7])]);
            let samples = vigil.end_after(Duration::from_secs(900), &[node([3, epoch])]);
            figures.add(measure, pair, round, &samples.samples);
        }
        let of_one = Watched { hours: 0.5, turns: 2, changes: 1.0 };
        assert_eq!(Watched::of(&figures, Rival::Mirrored), Some(of_one));
        assert_eq!(
            Watched::by_all(&figures),
            Some(Watched { hours: 0.75, turns: 3, changes: 1.0 })
        );
    }
}
