//! Distributions of latencies as the load generator leaves them in files, and what several rounds of them come to.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::measure::Measure;
use super::rival::Rival;

/// Where the distribution of a turn is.
pub fn file(dir: &Path, measure: Measure, rival: Rival, round: u32) -> PathBuf {
    dir.join(format!("{}-{}-{round}.hgrm", measure.name(), rival.name()))
}

/// For each percentile, the median over the rounds of what the files say; microseconds.
pub fn of_rounds(dir: &Path, measure: Measure, rival: Rival, rounds: u32) -> Vec<(f64, f64)> {
    let files = (1..=rounds).map(|round| file(dir, measure, rival, round));
    let texts: Vec<String> = files.filter_map(|file| fs::read_to_string(file).ok()).collect();
    medians(&texts)
}

/// Percentiles that not every file has are left out: their tails have different lengths.
fn medians(texts: &[String]) -> Vec<(f64, f64)> {
    let mut at: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
    for text in texts {
        for (quantile, us) in points(text) {
            at.entry(quantile.to_bits()).or_default().push(us);
        }
    }
    let common = at.into_iter().filter(|(_, values)| values.len() == texts.len());
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    common.map(|(quantile, values)| (f64::from_bits(quantile), median(values))).collect()
}

/// Percentile, from 0 to 1, and value of each line.
fn points(text: &str) -> Vec<(f64, f64)> {
    let lines = text.lines().skip(2).take_while(|line| !line.starts_with('#'));
    let mut points: Vec<(f64, f64)> = Vec::new();
    for line in lines {
        let mut words = line.split_whitespace().map(|word| word.parse::<f64>());
        if let (Some(Ok(us)), Some(Ok(quantile))) = (words.next(), words.next()) {
            match points.last_mut() {
                // Several buckets end at one percentile: the last is the largest.
                Some(last) if last.0 == quantile => last.1 = us,
                _ => points.push((quantile, us)),
            }
        }
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_are_joined_percentile_by_percentile() {
        let text = |us: [f64; 3]| {
            format!(
                "Value Percentile TotalCount 1/(1-Percentile)\n\n{} 0.0 1 1.00\n{} 0.5 5 2.00\n{} 1.0 9\n#[Mean = 1]\n",
                us[0], us[1], us[2]
            )
        };
        let texts = [text([1.0, 5.0, 90.0]), text([2.0, 4.0, 70.0]), text([3.0, 9.0, 80.0])];
        assert_eq!(medians(&texts), [(0.0, 2.0), (0.5, 5.0), (1.0, 80.0)]);
        assert_eq!(medians(&[]), []);
    }
}
