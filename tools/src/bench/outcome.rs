//! What exchanges came to: for people, as JSON, and the distribution of latencies as HdrHistogram writes it.

use std::fmt::{self, Write};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::LoadArgs;
use super::engine::Measured;

/// Points of a distribution for each halving of what is left of it.
const TICKS_PER_HALF: u32 = 5;

/// The outcome of a load of exchanges.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Outcome {
    /// `connect`, `request` or `pingpong`.
    pub kind: String,
    /// The service.
    pub target: String,
    /// Exchanges a second that were due; `None` in a closed loop.
    pub rate: Option<u32>,
    /// How long was measured.
    pub measured_ms: u64,
    /// Exchanges that ended well within that time.
    pub counted: u64,
    /// The same a second.
    pub per_second: f64,
    /// Exchanges that ended well, warming up included.
    pub completed: u64,
    /// Exchanges that went wrong.
    pub failed: u64,
    /// Exchanges that were due and had not ended when the run was over.
    pub unfinished: u64,
    /// Why the first one failed.
    pub first_failure: Option<String>,
    /// From when an exchange was due to the last byte of its answer.
    pub latency: Latency,
}

/// A distribution in a few numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// How many.
    pub count: u64,
    /// The mean.
    pub mean_ns: f64,
    /// Half took at most this.
    pub p50_ns: u64,
    /// 90 of 100.
    pub p90_ns: u64,
    /// 99 of 100.
    pub p99_ns: u64,
    /// 999 of 1000.
    pub p999_ns: u64,
    /// None took longer.
    pub max_ns: u64,
}

impl Latency {
    /// Of these.
    pub fn of(latency: &Histogram<u64>) -> Latency {
        let at = |quantile| latency.value_at_quantile(quantile);
        Latency {
            count: latency.len(),
            mean_ns: latency.mean(),
            p50_ns: at(0.5),
            p90_ns: at(0.9),
            p99_ns: at(0.99),
            p999_ns: at(0.999),
            max_ns: latency.max(),
        }
    }
}

impl Outcome {
    /// Of a run.
    pub fn new(kind: &str, args: &LoadArgs, measured: Measured) -> Outcome {
        Outcome {
            kind: kind.into(),
            target: args.target.to_string(),
            rate: args.rate,
            measured_ms: args.ms,
            counted: measured.counted,
            per_second: measured.counted as f64 * 1_000.0 / args.ms as f64,
            completed: measured.completed,
            failed: measured.failed,
            unfinished: measured.unfinished,
            first_failure: measured.first_failure,
            latency: Latency::of(&measured.latency),
        }
    }

    /// One line.
    pub fn json(&self) -> anyhow::Result<String> {
        Ok(serde_json::to_string(self)? + "\n")
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outcome { kind, target, measured_ms, counted, per_second, .. } = self;
        let seconds = *measured_ms as f64 / 1_000.0;
        writeln!(f, "{kind} {target}: {counted} in {seconds} s, {per_second:.0} a second")?;
        if let Some(rate) = self.rate {
            writeln!(f, "  {rate} a second were due; latency counts from when each was")?;
        }
        let Latency { mean_ns, p50_ns, p90_ns, p99_ns, p999_ns, max_ns, .. } = self.latency;
        let us = |ns: u64| ns as f64 / 1_000.0;
        let [p50, p90, p99] = [p50_ns, p90_ns, p99_ns].map(us);
        let [p999, max, mean] = [us(p999_ns), us(max_ns), mean_ns / 1_000.0];
        writeln!(
            f,
            "  latency, us: p50 {p50:.1}, p90 {p90:.1}, p99 {p99:.1}, p99.9 {p999:.1}, longest {max:.1}, mean {mean:.1}"
        )?;
        let why = self.first_failure.as_deref().map_or(String::new(), |why| format!(" ({why})"));
        writeln!(f, "  failed {}{why}, unfinished {}", self.failed, self.unfinished)
    }
}

/// The distribution as HdrHistogram's plotters read it; values in microseconds.
pub fn hgrm(latency: &Histogram<u64>) -> String {
    let mut text = String::from("       Value     Percentile TotalCount 1/(1-Percentile)\n\n");
    let us = |ns: f64| ns / 1_000.0;
    for point in latency.iter_quantiles(TICKS_PER_HALF) {
        let (value, quantile) =
            (us(point.value_iterated_to() as f64), point.quantile_iterated_to());
        let count = latency.count_between(0, point.value_iterated_to());
        let _ = write!(text, "{value:12.3} {quantile:14.12} {count:10}");
        // Behind the last one there is nothing to divide by.
        let _ = match quantile < 1.0 {
            true => writeln!(text, " {:14.2}", 1.0 / (1.0 - quantile)),
            false => writeln!(text),
        };
    }
    let (mean, deviation) = (us(latency.mean()), us(latency.stdev()));
    let (max, count) = (us(latency.max() as f64), latency.len());
    let _ = writeln!(text, "#[Mean    = {mean:12.3}, StdDeviation   = {deviation:12.3}]");
    let _ = writeln!(text, "#[Max     = {max:12.3}, Total count    = {count:12}]");
    let (buckets, places) = (latency.buckets(), 1 << 11);
    let _ = writeln!(text, "#[Buckets = {buckets:12}, SubBuckets     = {places:12}]");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distribution_is_written_from_its_median_to_its_end() {
        let mut latency = Histogram::new_with_bounds(1_000, 60_000_000_000, 3).unwrap();
        for us in 1..=1_000 {
            latency.record(us * 1_000).unwrap();
        }
        let text = hgrm(&latency);
        let rows: Vec<Vec<f64>> = text
            .lines()
            .skip(2)
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split_whitespace().map(|word| word.parse().unwrap()).collect())
            .collect();
        let half = rows.iter().find(|row| row[1] >= 0.5).unwrap();
        assert!((499.0..=510.0).contains(&half[0]), "{text}");
        assert_eq!(half[3], 2.0);
        assert_eq!(rows.last().unwrap()[1..], [1.0, 1_000.0]);
        assert!(text.contains("Total count    =         1000"), "{text}");
        assert_eq!(Latency::of(&latency).count, 1_000);
    }
}
