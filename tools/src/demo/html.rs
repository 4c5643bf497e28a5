//! The outcome as one self-contained page: numbers, table, goodput around the kill, gap of every
//! connection.
//!
//! No script and no foreign resource; light and dark by the reader's own preference.

use std::fmt::Write;

use super::outcome::{Picture, Row, RunOutcome, Summary};
use super::text::{GAP_NOTE, micros};
use crate::load::report::Kind;

const MS: f64 = 1_000_000.0;

/// Width of a picture and of the labels at its left.
const WIDTH: f64 = 960.0;
const LEFT: f64 = 130.0;

/// Height of one kind's strip.
const STRIP: f64 = 64.0;
const STRIP_GAP: f64 = 14.0;

const STYLE: &str = include_str!("html.css");

/// The page.
pub fn page(summary: &Summary) -> String {
    let mut page =
        String::from("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    page += "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n";
    let _ =
        write!(page, "<title>Understudy demo</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n");
    heading(&mut page, summary);
    if let Some(run) = summary.runs.last() {
        page += "<h2>Goodput around the kill</h2>\n";
        goodput(&mut page, run);
    }
    page += "<h2>The gap of every connection</h2>\n";
    gaps(&mut page, &summary.rows);
    page += "<h2>Connections</h2>\n";
    table(&mut page, &summary.rows);
    if let Some(run) = summary.runs.last() {
        takeovers(&mut page, run);
        failures(&mut page, run);
    }
    page += "</body>\n</html>\n";
    page
}

fn heading(page: &mut String, summary: &Summary) {
    let (all, survived) = summary.totals();
    let (class, verdict) = match summary.passed() {
        true => ("good", format!("All {all} connections survived, byte-exact")),
        false if all == survived => ("bad", "Two nodes have spoken for one connection".into()),
        false => ("bad", format!("{} of {all} connections did not survive", all - survived)),
    };
    let kill = summary.runs.last().map_or("", |run| run.kill.as_str());
    let runs = summary.runs.len();
    let _ = writeln!(page, "<h1>Understudy demo</h1>\n<p class=\"verdict {class}\">{verdict}</p>");
    let _ = writeln!(page, "<p>Kill: {}. Runs: {runs}.</p>\n<div class=\"tiles\">", escape(kill));
    let first = summary.runs.last().and_then(|run| run.first_byte_ns);
    let first = first.map_or("-".to_string(), |ns| format!("{:.1} ms", ns as f64 / MS));
    let gap = format!("{:.1} ms", summary.gap_max_ns() as f64 / MS);
    for (label, value) in [
        ("connections", all.to_string()),
        ("survived", survived.to_string()),
        ("first byte after the kill", first),
        ("largest gap", gap),
    ] {
        let _ = writeln!(page, "<div class=\"tile\"><b>{value}</b><span>{label}</span></div>");
    }
    *page += "</div>\n";
}

/// The time axis of the goodput picture, in milliseconds relative to the kill.
struct Axis {
    from: f64,
    to: f64,
}

impl Axis {
    fn x(&self, ms: f64) -> f64 {
        LEFT + (ms - self.from) / (self.to - self.from) * (WIDTH - LEFT - 20.0)
    }
}

/// One strip per kind over one time axis; the kill and the first byte marked through all of them.
fn goodput(page: &mut String, run: &RunOutcome) {
    let gap = run.rows.iter().flat_map(|row| &row.gaps_ns).max().copied().unwrap_or(0) as f64 / MS;
    let axis = Axis { from: -200.0, to: (gap * 1.6).clamp(500.0, 2_900.0) };
    let kinds = Kind::ALL.into_iter().filter(|kind| run.picture.bytes.contains_key(kind));
    let kinds: Vec<Kind> = kinds.collect();
    let bottom = 24.0 + kinds.len() as f64 * (STRIP + STRIP_GAP);
    open_svg(page, bottom + 34.0, "Goodput per kind of connection over time");
    for (index, kind) in kinds.iter().enumerate() {
        let base = 24.0 + index as f64 * (STRIP + STRIP_GAP) + STRIP;
        strip(page, &run.picture, *kind, &axis, base);
    }
    let step = if axis.to > 1_500.0 { 500.0 } else { 100.0 };
    let mut tick = (axis.from / step).ceil() * step;
    while tick <= axis.to {
        let (x, y) = (axis.x(tick), bottom + 16.0);
        let tick_ms = tick as i64;
        let _ =
            writeln!(page, "<text class=\"tick\" x=\"{x:.1}\" y=\"{y:.0}\">{tick_ms} ms</text>");
        tick += step;
    }
    if run.kill != "none" {
        mark(page, axis.x(0.0), bottom, "kill", "kill", true);
        if let Some(first) = run.first_byte_ns.map(|ns| ns as f64 / MS).filter(|ms| *ms < axis.to) {
            mark(page, axis.x(first), bottom, "back", "first byte", false);
        }
    }
    *page += "</svg>\n";
}

/// The goodput of one kind, against its own peak.
fn strip(page: &mut String, picture: &Picture, kind: Kind, axis: &Axis, base: f64) {
    let row = &picture.bytes[&kind];
    let highest = f64::from(row.iter().copied().max().unwrap_or(0).max(1));
    let bin_ms = picture.bin_ns as f64 / MS;
    let mut path = String::new();
    let mut last = axis.from;
    for (bin, bytes) in row.iter().enumerate() {
        let at = picture.start_ns as f64 / MS + bin as f64 * bin_ms;
        if at < axis.from || at + bin_ms > axis.to {
            continue;
        }
        let (left, right) = (axis.x(at), axis.x(at + bin_ms));
        let y = base - f64::from(*bytes) / highest * STRIP;
        if path.is_empty() {
            let _ = write!(path, "M{left:.1},{base:.1}");
        }
        let _ = write!(path, "L{left:.1},{y:.1}L{right:.1},{y:.1}");
        last = at + bin_ms;
    }
    if !path.is_empty() {
        let _ = write!(path, "L{:.1},{base:.1}Z", axis.x(last));
    }
    let rate = highest / (bin_ms / 1_000.0) / 1_000_000.0;
    let (x, y, end) = (LEFT - 10.0, base - STRIP / 2.0, WIDTH - 20.0);
    let _ = writeln!(
        page,
        "<text class=\"label\" x=\"{x:.0}\" y=\"{y:.0}\">{kind}</text>\
         <text class=\"faint\" x=\"{x:.0}\" y=\"{:.0}\">peak {rate:.1} MB/s</text>\
         <path class=\"area\" d=\"{path}\"/>\
         <line class=\"axis\" x1=\"{LEFT}\" x2=\"{end:.0}\" y1=\"{base:.1}\" y2=\"{base:.1}\"/>",
        y + 15.0,
    );
}

fn mark(page: &mut String, x: f64, bottom: f64, class: &str, label: &str, before: bool) {
    let (anchor, at) = if before { ("end", x - 4.0) } else { ("start", x + 4.0) };
    let _ = writeln!(
        page,
        "<line class=\"{class}\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"16\" y2=\"{bottom:.0}\"/>\
         <text class=\"{class}\" text-anchor=\"{anchor}\" x=\"{at:.1}\" y=\"14\">{label}</text>"
    );
}

/// A dot per connection on a logarithmic axis of milliseconds; the median as a bar.
fn gaps(page: &mut String, rows: &[Row]) {
    let rows: Vec<&Row> = rows.iter().filter(|row| !row.gaps_ns.is_empty()).collect();
    let highest = rows.iter().flat_map(|row| &row.gaps_ns).copied().max().unwrap_or(0) as f64 / MS;
    let decades = highest.max(100.0).log10().ceil();
    let x = |ms: f64| LEFT + ms.max(1.0).log10() / decades * (WIDTH - LEFT - 20.0);
    let line = 40.0;
    let bottom = 10.0 + rows.len() as f64 * line;
    open_svg(page, bottom + 34.0, "Gap of every connection in milliseconds");
    for decade in 0..=decades as i32 {
        let ms = 10f64.powi(decade);
        let _ = writeln!(
            page,
            "<line class=\"grid\" x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"6\" y2=\"{bottom:.0}\"/>\
             <text class=\"tick\" x=\"{0:.1}\" y=\"{1:.0}\">{2}{ms:.0} ms</text>",
            x(ms),
            bottom + 16.0,
            if decade == 0 { "≤ " } else { "" },
        );
    }
    for (index, row) in rows.iter().enumerate() {
        let middle = 10.0 + (index as f64 + 0.5) * line;
        let _ = writeln!(
            page,
            "<text class=\"label\" x=\"{:.0}\" y=\"{:.1}\">{}</text>",
            LEFT - 10.0,
            middle + 4.0,
            escape(&row.name)
        );
        for (number, gap) in row.gaps_ns.iter().enumerate() {
            // Spread over the height, so that equal gaps stay countable; the golden ratio avoids
            // rows.
            let spread = (number as f64 * 0.618_034).fract() - 0.5;
            let (cx, cy) = (x(*gap as f64 / MS), middle + spread * (line - 14.0));
            let _ = write!(
                page,
                "<circle class=\"dot\" cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"3\">\
                 <title>{:.1} ms</title></circle>",
                *gap as f64 / MS
            );
        }
        if let Some(gap) = row.gap_ns() {
            let at = x(gap.p50 as f64 / MS);
            let _ = writeln!(
                page,
                "<line class=\"median\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/>",
                middle - line / 2.0 + 3.0,
                middle + line / 2.0 - 3.0
            );
        }
    }
    *page += "</svg>\n<p class=\"note\">One dot is one connection; the bar is the median.</p>\n";
}

fn table(page: &mut String, rows: &[Row]) {
    *page += "<div class=\"scroll\"><table>\n<thead><tr><th></th>";
    for head in [
        "connections",
        "survived",
        "resets",
        "wrong bytes",
        "stalled",
        "refused",
        "gap p50",
        "p99",
        "max",
    ] {
        let _ = write!(page, "<th>{head}</th>");
    }
    *page += "</tr></thead>\n<tbody>\n";
    for row in rows {
        let _ = write!(page, "<tr><th>{}</th>", escape(&row.name));
        for count in
            [row.connections, row.survived, row.resets, row.wrong_bytes, row.stalled, row.refused]
        {
            let _ = write!(page, "<td>{count}</td>");
        }
        for value in row.gap_ns().map_or([None; 3], |gap| [gap.p50, gap.p99, gap.max].map(Some)) {
            let shown = value.map_or("-".into(), |ns| format!("{:.1} ms", ns as f64 / MS));
            let _ = write!(page, "<td>{shown}</td>");
        }
        *page += "</tr>\n";
    }
    *page += "</tbody></table></div>\n";
    let _ = writeln!(page, "<p class=\"note\">{GAP_NOTE}</p>");
}

fn takeovers(page: &mut String, run: &RunOutcome) {
    if run.takeovers.is_empty() {
        return;
    }
    *page += "<h2>Takeover</h2>\n<div class=\"scroll\"><table>\n<tbody>\n";
    for takeover in &run.takeovers {
        let _ = write!(page, "<tr><th>{}</th>", escape(&takeover.service));
        for (name, us) in &takeover.phases {
            let _ = write!(page, "<td>{} {}</td>", escape(name), micros(*us));
        }
        *page += "</tr>\n";
    }
    *page += "</tbody></table></div>\n";
}

fn failures(page: &mut String, run: &RunOutcome) {
    if run.failures.is_empty() {
        return;
    }
    *page += "<h2>Failures</h2>\n<ul>\n";
    for failure in &run.failures {
        let _ = writeln!(page, "<li>{}</li>", escape(failure));
    }
    *page += "</ul>\n";
}

fn open_svg(page: &mut String, height: f64, title: &str) {
    let _ = writeln!(
        page,
        "<svg viewBox=\"0 0 {WIDTH:.0} {height:.0}\" role=\"img\" aria-label=\"{title}\">"
    );
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::super::outcome::tests::sample;
    use super::*;
    use crate::load::report::Outcome;

    #[test]
    fn the_page_shows_the_verdict_and_both_pictures() {
        let page = page(&sample(Outcome::Survived));
        assert!(page.contains("All 3 connections survived, byte-exact"));
        assert_eq!(page.matches("<svg").count(), 2);
        assert_eq!(page.matches("<circle").count(), 3);
        assert!(page.contains(">first byte</text>"));
    }

    #[test]
    fn text_from_outside_is_escaped() {
        let mut summary = sample(Outcome::Reset);
        summary.runs[0].failures = vec!["<script>&".into()];
        assert!(page(&summary).contains("<li>&lt;script&gt;&amp;</li>"));
    }
}
