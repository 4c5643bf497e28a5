//! What the appliance should reach beside the others, and whether it did.
//!
//! Ratios are medians of ratios that were made within a round. What was not measured is neither met nor missed.

use anyhow::ensure;
use serde::Serialize;

use super::figures::Figures;
use super::growth;
use super::measure::Measure;
use super::rival::Rival;
use super::takeover::Death;
use super::vigil::{PAIRS, Watched};
use crate::report::{Bound, Spread, plain};

/// A bar and how it stands.
#[derive(Debug, Clone, Serialize)]
pub struct Bar {
    /// What should be.
    pub text: String,
    /// The value, if it was measured.
    pub value: Option<f64>,
    /// Of how many samples it is the median, or the least.
    pub samples: usize,
    /// In what.
    pub unit: &'static str,
    /// What it should be.
    pub bound: Bound,
    /// Whether it is; `None` where it was not measured.
    pub met: Option<bool>,
    /// What measures it again.
    pub command: String,
}

impl Bar {
    /// `found`: the value, and of how many samples.
    fn new(text: String, found: Option<(f64, usize)>, unit: &'static str, bound: Bound) -> Bar {
        let (value, samples) = (found.map(|(value, _)| value), found.map_or(0, |(_, n)| n));
        let met = value.map(|value| bound.is_met(value));
        Bar { text, value, samples, unit, bound, met, command: String::new() }
    }

    fn by(self, command: impl Into<String>) -> Bar {
        Bar { command: command.into(), ..self }
    }

    /// Value and verdict in words.
    pub fn words(&self) -> (String, &'static str) {
        let value = self.value.map_or("—".to_string(), |value| {
            let value = format!("{} {}", plain(value), self.unit);
            format!("{}, n = {}", value.trim(), self.samples)
        });
        let verdict = match self.met {
            Some(true) => "met",
            Some(false) => "missed",
            None => "not measured",
        };
        (value, verdict)
    }
}

/// Whether none is missed. Where `all` should have been measured, one that was not is an error.
pub fn are_met(bars: &[Bar], all: bool) -> anyhow::Result<bool> {
    let open = bars.iter().filter(|bar| bar.met.is_none()).map(|bar| bar.text.as_str());
    let open: Vec<&str> = open.collect();
    ensure!(!all || open.is_empty(), "bars that were not measured: {}", open.join("; "));
    Ok(bars.iter().all(|bar| bar.met != Some(false)))
}

/// Every bar.
pub fn bars(figures: &Figures) -> Vec<Bar> {
    let mut all = against_haproxy(figures);
    all.extend(price_of_mirroring(figures));
    all.extend(takeovers(figures));
    all.extend(growth(figures));
    all.push(for_nothing(figures));
    all
}

/// How much longer the busy stand still where very many are idle.
fn growth(figures: &Figures) -> [Bar; 2] {
    let spread = |metric: &str| Some(figures.get(Measure::Growth, metric, Rival::Mirrored)?.spread);
    growth::COMPARED.map(|(rank, compared)| {
        let [many, few] = compared.map(spread);
        let both = many.zip(few.filter(|few| few.median > 0.0));
        let found = both.map(|(many, few)| (many.median / few.median, many.count.min(few.count)));
        let text =
            format!("Takeover with 100 000 flows: gap {rank} of the busy against that with 100");
        let bar = Bar::new(text, found, "x", Bound::AtMost(2.0));
        bar.by(figures.again(Measure::Growth, &[Rival::Mirrored]))
    })
}

/// What pairs changed by themselves.
fn for_nothing(figures: &Figures) -> Bar {
    let watched = Watched::by_all(figures);
    let found = watched.map(|watched| (watched.changes, watched.turns));
    let hours = watched.map_or(String::new(), |watched| format!(" ({:.3} h)", watched.hours));
    let text = format!("Changes of a register while nothing died, in turns under load{hours}");
    let bar = Bar::new(text, found, "", Bound::AtMost(0.0));
    bar.by(figures.all_again(&Measure::TURNS, &PAIRS))
}

fn ratio(
    figures: &Figures,
    what: &str,
    (measure, metric): (Measure, &'static str),
    (ours, theirs): (Rival, Rival),
    most: f64,
) -> Bar {
    let found = figures.ratio(measure, metric, ours, theirs).map(median);
    let text = format!("{what}: {} against {}", ours.title(), theirs.title());
    let command = figures.again(measure, &[ours, theirs]);
    Bar::new(text, found, "x", Bound::AtMost(most)).by(command)
}

fn median(spread: Spread) -> (f64, usize) {
    (spread.median, spread.count)
}

fn against_haproxy(figures: &Figures) -> Vec<Bar> {
    use Measure::*;
    let bar = |what, measure, metric, ours, most| {
        ratio(figures, what, (measure, metric), (ours, Rival::Haproxy), most)
    };
    let (pair, alone) = (Rival::Mirrored, Rival::Alone);
    vec![
        bar("Balancer time of a new connection", Connect, "balancer", pair, 0.4),
        bar("Balancer time of a request", Request, "balancer", pair, 0.5),
        bar("Ping-pong p50", Pingpong, "p50", pair, 1.0),
        bar("Ping-pong p99", Pingpong, "p99", alone, 1.0),
        bar("Ping-pong p99", Pingpong, "p99", pair, 1.5),
        bar("Balancer time of a GB down, MTU 1500", Download, "balancer", pair, 1.0),
        bar("Balancer time of a GB up, MTU 1500", Upload, "balancer", pair, 1.0),
        bar("Balancer time of a GB down, MTU 9000", JumboDownload, "balancer", pair, 0.8),
        bar("Balancer time of a GB up, MTU 9000", JumboUpload, "balancer", pair, 0.8),
    ]
}

fn price_of_mirroring(figures: &Figures) -> Vec<Bar> {
    use Measure::*;
    let bar = |what, measure, most| {
        let pair = (Rival::Mirrored, Rival::Alone);
        ratio(figures, what, (measure, "balancer"), pair, most)
    };
    let bytes = |what: &str, measure: Measure, rival: Rival, most| {
        let found = figures.get(measure, "cluster", rival).map(|figure| median(figure.spread));
        let text = format!("{what}: {}", rival.title());
        let bar = Bar::new(text, found, "bytes per byte", Bound::AtMost(most));
        bar.by(figures.again(measure, &[rival]))
    };
    vec![
        bar("Balancer time of a GB down, MTU 1500", Download, 1.10),
        bar("Balancer time of a GB up, MTU 1500", Upload, 1.10),
        bar("Balancer time of a GB down, MTU 9000", JumboDownload, 1.10),
        bar("Balancer time of a GB up, MTU 9000", JumboUpload, 1.10),
        bar("Balancer time of a new connection", Connect, 1.25),
        bar("Balancer time of a request", Request, 1.15),
        bytes("Cluster link, download", JumboDownload, Rival::Mirrored, 0.01),
        bytes("Cluster link, upload", JumboUpload, Rival::Mirrored, 0.01),
        bytes("Cluster link of 9216, upload", JumboUpload, Rival::Held, 1.05),
    ]
}

fn takeovers(figures: &Figures) -> Vec<Bar> {
    let mut all = Vec::new();
    let pairs = [Rival::Mirrored, Rival::Hearing];
    let deaths = [(Death::Crash, 5.0, 40.0), (Death::Power, 35.0, 150.0)];
    let kinds = pairs.into_iter().flat_map(|pair| deaths.map(|death| (pair, death)));
    for (pair, (death, half, most)) in kinds {
        let (mode, died) = (death.name(), format!("{}, {}", pair.title(), death.title()));
        let figure = figures.get(Measure::Takeover, &format!("{mode}: survived"), pair);
        let text = format!("{died}: connections that survive, in the worst run");
        let found = figure.map(|figure| (figure.spread.least, figure.spread.count));
        let bar = Bar::new(text, found, "%", Bound::AtLeast(100.0));
        all.push(bar.by(figures.again(Measure::Takeover, &[pair])));
        for (what, bound) in [
            ("download gap p50", half),
            ("download gap p99", most),
            ("upload gap p50", half),
            ("upload gap p99", most),
            ("first SYN-ACK", most),
        ] {
            let metric = format!("{mode}: {what}");
            let figure = figures.get(Measure::Takeover, &metric, pair);
            let found = figure.map(|figure| median(figure.spread));
            let text = format!("{died}: {what}");
            let bar = Bar::new(text, found, "ms", Bound::AtMost(bound));
            all.push(bar.by(figures.again(Measure::Takeover, &[pair])));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balancers::measure::Sample;
    use crate::balancers::vigil::CHANGES;

    #[test]
    fn a_bar_is_met_missed_or_not_measured() {
        let mut figures = Figures::default();
        let sample = |value| [Sample { metric: "balancer", unit: "us each", value }];
        figures.add(Measure::Connect, Rival::Mirrored, 1, &sample(30.0));
        figures.add(Measure::Connect, Rival::Haproxy, 1, &sample(100.0));
        figures.add(Measure::Request, Rival::Mirrored, 1, &sample(30.0));
        figures.add(Measure::Request, Rival::Haproxy, 1, &sample(50.0));
        let bars = bars(&figures);
        assert_eq!(bars[0].words(), ("0.30 x, n = 1".into(), "met"));
        assert_eq!(bars[1].words(), ("0.60 x, n = 1".into(), "missed"));
        assert_eq!(bars[2].words(), ("—".into(), "not measured"));
        assert!(bars.iter().all(|bar| !bar.command.is_empty()));
    }

    #[test]
    fn with_many_flows_neither_half_of_the_busy_nor_99_of_100_may_wait_twice_as_long() {
        let mut figures = Figures::default();
        for (metric, value) in [
            ("100 flows: gap p50", 3.0),
            ("100 flows: gap p99", 10.0),
            ("100 000 flows: gap p50", 6.0),
            ("100 000 flows: gap p99", 21.0),
        ] {
            let sample = Sample { metric, unit: "ms", value };
            figures.add(Measure::Growth, Rival::Mirrored, 1, &[sample]);
        }
        let found = growth(&figures).map(|bar| (bar.value, bar.met));
        assert_eq!(found, [(Some(2.0), Some(true)), (Some(2.1), Some(false))]);
    }

    #[test]
    fn one_change_for_nothing_is_one_too_many() {
        let mut figures = Figures::default();
        assert_eq!(for_nothing(&figures).met, None);
        for (round, value, met) in [(1, 0.0, true), (2, 1.0, false), (3, 0.0, false)] {
            let sample = Sample { metric: CHANGES, unit: "", value };
            figures.add(Measure::Connect, Rival::Mirrored, round, &[sample]);
            let bar = for_nothing(&figures);
            assert_eq!((bar.met, bar.samples), (Some(met), round as usize));
        }
    }

    #[test]
    fn a_run_of_everything_does_not_pass_over_a_bar() {
        let bar = |found| Bar::new("a".into(), found, "x", Bound::AtMost(1.0));
        let [met, missed, open] = [Some((0.5, 1)), Some((1.5, 1)), None].map(bar);
        for (bars, passes) in [(vec![met.clone()], true), (vec![met.clone(), missed], false)] {
            assert_eq!(are_met(&bars, true).unwrap(), passes);
        }
        let open = Bar { text: "uploads, held".into(), ..open };
        assert!(are_met(&[met.clone(), open.clone()], false).unwrap());
        let error = are_met(&[met, open], true).unwrap_err().to_string();
        assert_eq!(error, "bars that were not measured: uploads, held");
    }
}
