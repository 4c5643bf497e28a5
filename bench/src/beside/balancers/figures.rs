//! Every sample of a run, and what they come to: medians, ranges, ratios within a round.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use super::measure::{Measure, Sample};
use super::rival::Rival;
use crate::report::Spread;

/// One metric of one measure of one balancer.
#[derive(Debug, Clone, Serialize)]
pub struct Figure {
    /// What was measured.
    pub measure: Measure,
    /// Which of its metrics.
    pub metric: &'static str,
    /// In what.
    pub unit: &'static str,
    /// Of whom.
    pub contender: Rival,
    /// One for each round in which it was measured: the round, and how much.
    pub samples: Vec<(u32, f64)>,
    /// The middle, and the ends.
    pub spread: Spread,
    /// What measures it again.
    pub command: String,
}

/// All of them, in the order of their first samples.
#[derive(Debug, Default, Clone, Serialize)]
#[serde(transparent)]
pub struct Figures {
    all: Vec<Figure>,
    /// What was unusual in how this run was ordered; it stands in every command.
    #[serde(skip)]
    options: String,
}

impl Figures {
    /// None yet, of a run with these options.
    pub fn new(options: String) -> Figures {
        Figures { all: Vec::new(), options }
    }

    /// The command that measures something again.
    pub fn again(&self, measure: Measure, rivals: &[Rival]) -> String {
        self.all_again(&[measure], rivals)
    }

    /// The command that measures several things again.
    pub fn all_again(&self, measures: &[Measure], rivals: &[Rival]) -> String {
        let what = measures.iter().map(|measure| measure.name()).collect::<Vec<_>>().join(",");
        let who = rivals.iter().map(|rival| rival.name()).collect::<Vec<_>>().join(",");
        format!("make bench ARGS=\"--measures {what} --contenders {who}{}\"", self.options)
    }

    /// Takes what a turn came to.
    pub fn add(&mut self, measure: Measure, rival: Rival, round: u32, samples: &[Sample]) {
        let command = self.again(measure, &[rival]);
        for sample in samples {
            let of_it = |figure: &&mut Figure| {
                let Figure { measure: m, metric, contender, .. } = &**figure;
                (*m, *metric, *contender) == (measure, sample.metric, rival)
            };
            let taken = (round, sample.value);
            match self.all.iter_mut().find(of_it) {
                Some(figure) => {
                    figure.samples.push(taken);
                    figure.spread = spread(figure.samples.iter().map(|(_, value)| *value));
                }
                None => self.all.push(Figure {
                    measure,
                    metric: sample.metric,
                    unit: sample.unit,
                    contender: rival,
                    samples: vec![taken],
                    spread: spread([sample.value].into_iter()),
                    command: command.clone(),
                }),
            }
        }
    }

    /// One of them.
    pub fn get(&self, measure: Measure, metric: &str, rival: Rival) -> Option<&Figure> {
        self.all.iter().find(|figure| {
            (figure.measure, figure.metric, figure.contender) == (measure, metric, rival)
        })
    }

    /// Those of a measure.
    pub fn of(&self, measure: Measure) -> impl Iterator<Item = &Figure> {
        self.all.iter().filter(move |figure| figure.measure == measure)
    }

    /// The ratio of a metric of `ours` to that of `theirs`, made within each round.
    pub fn ratio(
        &self,
        measure: Measure,
        metric: &str,
        ours: Rival,
        theirs: Rival,
    ) -> Option<Spread> {
        let of = |rival| self.get(measure, metric, rival).map(|figure| &figure.samples);
        let theirs: BTreeMap<u32, f64> = of(theirs)?.iter().copied().collect();
        let pairs = of(ours)?.iter().filter_map(|(round, value)| {
            let base = theirs.get(round).filter(|base| **base > 0.0)?;
            Some(value / base)
        });
        Spread::of(&pairs.collect::<Vec<_>>())
    }

    /// Every sample of a measure as comma-separated values.
    pub fn csv(&self, measure: Measure) -> String {
        let mut text = String::from("measure,metric,unit,contender,round,value\n");
        for figure in self.of(measure) {
            let (name, who) = (measure.name(), figure.contender.name());
            for (round, value) in &figure.samples {
                let _ = writeln!(
                    text,
                    "{name},{},{},{who},{round},{value}",
                    figure.metric, figure.unit
                );
            }
        }
        text
    }
}

fn spread(values: impl Iterator<Item = f64>) -> Spread {
    Spread::of(&values.collect::<Vec<_>>()).expect("at least one sample")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_that_one_of_two_missed_makes_no_ratio() {
        let mut figures = Figures::default();
        let sample = |value| [Sample { metric: "rate", unit: "1/s", value }];
        for (round, ours, theirs) in [(1, 10.0, Some(20.0)), (2, 9.0, None), (3, 30.0, Some(20.0))]
        {
            figures.add(Measure::Connect, Rival::Mirrored, round, &sample(ours));
            if let Some(theirs) = theirs {
                figures.add(Measure::Connect, Rival::Haproxy, round, &sample(theirs));
            }
        }
        let ratio = |a, b| figures.ratio(Measure::Connect, "rate", a, b);
        let found = ratio(Rival::Mirrored, Rival::Haproxy).unwrap();
        assert_eq!((found.median, found.least, found.most), (1.0, 0.5, 1.5));
        assert!(ratio(Rival::Mirrored, Rival::Nginx).is_none());
        assert_eq!(figures.csv(Measure::Connect).lines().count(), 6);
    }
}
