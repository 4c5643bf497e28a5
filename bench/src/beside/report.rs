//! Figures, what they mean beside each other, and how they are shown.
//!
//! Units: each case and fact names its own.

use std::fmt::Write;

use serde::Serialize;

/// Name of the contender that the others are compared with.
pub const KERNEL: &str = "kernel";

/// Everything that one run found out.
#[derive(Debug, Serialize)]
pub struct Report {
    /// What was measured.
    pub subject: &'static str,
    /// Where and how, one sentence each.
    pub conditions: Vec<String>,
    /// Measures in which contenders took turns.
    pub cases: Vec<Case>,
    /// Single figures.
    pub facts: Vec<Fact>,
    /// Every goal was met.
    pub passed: bool,
    /// The same for people.
    #[serde(skip)]
    pub text: String,
}

/// One measure of several contenders.
#[derive(Debug, Serialize)]
pub struct Case {
    /// What it is.
    pub name: String,
    /// Of every sample.
    pub unit: &'static str,
    /// Contenders, in the order of their turns.
    pub rows: Vec<Row>,
}

/// What one contender did in a case.
#[derive(Debug, Serialize)]
pub struct Row {
    /// Who served.
    pub contender: &'static str,
    /// One for each round.
    pub samples: Vec<f64>,
    /// The middle of the samples, and their ends.
    pub spread: Option<Spread>,
    /// The same of the ratios to the kernel's sample in the same round.
    pub ratio: Option<Spread>,
    /// What the ratio should be.
    pub goal: Option<Bound>,
    /// Whether it is; `None` without a goal.
    pub met: Option<bool>,
}

/// A single figure.
#[derive(Debug, Serialize)]
pub struct Fact {
    /// What it is.
    pub name: String,
    /// How much.
    pub value: f64,
    /// Of what.
    pub unit: &'static str,
    /// What it should be.
    pub goal: Option<Bound>,
}

/// A goal.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bound {
    /// No less than this.
    AtLeast(f64),
    /// No more than this.
    AtMost(f64),
}

/// Median and range.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// The middle, or the mean of the two middle ones.
    pub median: f64,
    /// The least.
    pub least: f64,
    /// The most.
    pub most: f64,
    /// Of how many samples.
    pub count: usize,
}

impl Bound {
    /// Whether a value is within it.
    pub fn is_met(self, value: f64) -> bool {
        match self {
            Bound::AtLeast(bound) => value >= bound,
            Bound::AtMost(bound) => value <= bound,
        }
    }

    /// In words.
    pub fn words(self) -> String {
        match self {
            Bound::AtLeast(bound) => format!("at least {}", plain(bound)),
            Bound::AtMost(bound) => format!("at most {}", plain(bound)),
        }
    }
}

impl Spread {
    /// Of these samples; `None` if there are none.
    pub fn of(samples: &[f64]) -> Option<Spread> {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (least, most) = (*sorted.first()?, *sorted.last()?);
        let half = sorted.len() / 2;
        let below = if sorted.len().is_multiple_of(2) { half - 1 } else { half };
        let median = (sorted[below] + sorted[half]) / 2.0;
        Some(Spread { median, least, most, count: sorted.len() })
    }

    fn words(self) -> String {
        format!("{} [{} - {}]", plain(self.median), plain(self.least), plain(self.most))
    }
}

impl Case {
    /// A case without samples.
    pub fn new(name: String, unit: &'static str, contenders: &[&'static str]) -> Case {
        let row = |&contender| Row {
            contender,
            samples: Vec::new(),
            spread: None,
            ratio: None,
            goal: None,
            met: None,
        };
        Case { name, unit, rows: contenders.iter().map(row).collect() }
    }

    /// Says what a contender's ratio to the kernel should be.
    pub fn goal(mut self, contender: &str, bound: Bound) -> Case {
        for row in self.rows.iter_mut().filter(|row| row.contender == contender) {
            row.goal = Some(bound);
        }
        self
    }

    /// Takes a sample.
    pub fn add(&mut self, contender: &str, sample: f64) {
        for row in self.rows.iter_mut().filter(|row| row.contender == contender) {
            row.samples.push(sample);
        }
    }

    fn conclude(&mut self) {
        let kernel = self.rows.iter().find(|row| row.contender == KERNEL);
        let kernel = kernel.map(|row| row.samples.clone()).unwrap_or_default();
        for row in &mut self.rows {
            row.spread = Spread::of(&row.samples);
            if row.contender != KERNEL {
                let pairs = row.samples.iter().zip(&kernel);
                row.ratio = Spread::of(&pairs.map(|(ours, base)| ours / base).collect::<Vec<_>>());
            }
            row.met = row.goal.map(|goal| row.ratio.is_some_and(|r| goal.is_met(r.median)));
        }
    }
}

impl Fact {
    /// A figure without a goal.
    pub fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Fact {
        Fact { name: name.into(), value, unit, goal: None }
    }

    /// Says what it should be.
    pub fn goal(self, bound: Bound) -> Fact {
        Fact { goal: Some(bound), ..self }
    }

    fn met(&self) -> Option<bool> {
        self.goal.map(|goal| goal.is_met(self.value))
    }
}

impl Report {
    /// Draws the conclusions.
    pub fn new(
        subject: &'static str,
        conditions: Vec<String>,
        mut cases: Vec<Case>,
        facts: Vec<Fact>,
    ) -> Report {
        cases.iter_mut().for_each(Case::conclude);
        let rows = cases.iter().flat_map(|case| &case.rows).filter_map(|row| row.met);
        let passed = rows.chain(facts.iter().filter_map(Fact::met)).all(|met| met);
        let text = text(subject, &conditions, &cases, &facts);
        Report { subject, conditions, cases, facts, passed, text }
    }
}

fn text(subject: &str, conditions: &[String], cases: &[Case], facts: &[Fact]) -> String {
    let mut out = format!("{subject}\n");
    for line in conditions {
        let _ = writeln!(out, "  {line}");
    }
    for case in cases {
        let _ = writeln!(out, "\n{}, {}", case.name, case.unit);
        let ratio = "ratio to the kernel's";
        let _ = writeln!(out, "  {:<10} {:>28} {ratio:>26}  goal", "", "median [range]");
        for row in &case.rows {
            let spread = row.spread.map_or("none".into(), Spread::words);
            let ratio = row.ratio.map_or(String::new(), Spread::words);
            let goal = goal(row.goal, row.met);
            let line = format!("  {:<10} {spread:>28} {ratio:>26}  {goal}", row.contender);
            let _ = writeln!(out, "{}", line.trim_end());
        }
    }
    if !facts.is_empty() {
        let width = facts.iter().map(|fact| fact.name.len()).max().unwrap_or(0);
        out.push('\n');
        for fact in facts {
            let value = format!("{} {}", plain(fact.value), fact.unit);
            let goal = goal(fact.goal, fact.met());
            let line = format!("  {:<width$}  {value:>20}  {goal}", fact.name);
            let _ = writeln!(out, "{}", line.trim_end());
        }
    }
    out
}

fn goal(goal: Option<Bound>, met: Option<bool>) -> String {
    let verdict = match met {
        Some(true) => "met",
        Some(false) => "MISSED",
        None => "",
    };
    goal.map_or(String::new(), |goal| format!("{}: {verdict}", goal.words()))
}

/// Three digits, or all before the point.
pub fn plain(value: f64) -> String {
    let digits = if value == value.trunc() || value.abs() >= 100.0 {
        0
    } else if value.abs() >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        let spread = Spread::of(&[4.0, 1.0, 3.0, 2.0]).unwrap();
        assert_eq!((spread.median, spread.least, spread.most, spread.count), (2.5, 1.0, 4.0, 4));
        assert_eq!(Spread::of(&[3.0, 1.0, 2.0]).unwrap().median, 2.0);
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn ratios_are_made_within_a_round() {
        let mut case = Case::new("x".into(), "s", &[KERNEL, "alone"]);
        case = case.goal("alone", Bound::AtLeast(0.9));
        for (kernel, alone) in [(1.0, 1.0), (10.0, 5.0), (4.0, 4.0)] {
            case.add(KERNEL, kernel);
            case.add("alone", alone);
        }
        let report = Report::new("test", Vec::new(), vec![case], Vec::new());
        let ratio = report.cases[0].rows[1].ratio.unwrap();
        assert_eq!((ratio.median, ratio.least, ratio.most), (1.0, 0.5, 1.0));
        assert!(report.passed);
    }

    #[test]
    fn a_goal_without_a_sample_is_missed() {
        let case = Case::new("x".into(), "s", &[KERNEL, "alone"]);
        let case = case.goal("alone", Bound::AtMost(1.0));
        assert!(!Report::new("test", Vec::new(), vec![case], Vec::new()).passed);
        let fact = Fact::new("x", 513.0, "bytes").goal(Bound::AtMost(512.0));
        assert!(!Report::new("test", Vec::new(), Vec::new(), vec![fact]).passed);
    }
}
