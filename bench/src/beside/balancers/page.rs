//! The report as one page that needs nothing else.

use std::fmt::Write;

use super::Outcome;
use super::chart::{self, Bar, Curve, escaped};
use super::distribution;
use super::figures::{Figure, Figures};
use super::measure::Measure;
use super::rival::Rival;
use super::takeover::{Death, Run};
use super::vigil::{CHANGES, PAIRS, Watched};
use crate::report::plain;

/// Colours and measures of the page.
const STYLE: &str = include_str!("page.css");

/// A load average above this before a run is somebody else's.
const QUIET_LOAD: f64 = 1.5;

/// What the metrics of a table mean, in the order of its columns.
const COLUMNS: [(&str, &str); 19] = [
    ("rate", "rate"),
    ("p50", "p50"),
    ("p99", "p99"),
    ("p99.9", "p99.9"),
    ("balancer", "balancer"),
    ("process", "process"),
    ("kernel", "kernel"),
    ("peer", "peer"),
    ("core", "its core"),
    ("machine", "both cores"),
    ("cluster", "cluster link"),
    ("load", "load core"),
    ("frames in", "frames in"),
    ("frames out", "frames out"),
    ("datagrams", "datagrams"),
    ("calls", "calls"),
    ("rounds", "rounds"),
    ("failed", "failed"),
    (CHANGES, CHANGES),
];

/// The page.
pub fn page(outcome: &Outcome) -> String {
    let Outcome { environment, figures, problems, rounds, .. } = outcome;
    let mut text = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>Understudy beside other balancers</title><style>{STYLE}</style>\n\
         <h1>Understudy beside other balancers</h1>\n<p class=\"soft\">{} round(s); {}, {} processors, Linux {}; commit \
         {}, {} build; load average at the start {}.</p>\n",
        rounds,
        escaped(&environment.processor),
        environment.processors,
        escaped(&environment.kernel),
        escaped(&environment.commit),
        environment.profile,
        escaped(&environment.load_average),
    );
    text.push_str(
        "<p>Client, server, balancer and peer are network namespaces of one machine. Client and server share one \
         processor, the balancer has the other; a peer shares that of the clients. Figures are medians over the rounds, with \
         the least and the most of them; ratios are made within a round.</p>",
    );
    if environment.profile == "debug" {
        text.push_str("<p class=\"missed\">This is a debug build: its figures say nothing.</p>");
    }
    let load: f64 = environment.load_average.parse().unwrap_or(0.0);
    if load > QUIET_LOAD {
        text.push_str("<p class=\"missed\">The machine was not quiet: its figures say little.</p>");
    }
    for problem in problems {
        let _ = writeln!(text, "<p class=\"missed\">{}</p>", escaped(problem));
    }
    text.push_str(&named(&Rival::ALL, Rival::title));
    text.push_str(&goals(outcome));
    for measure in Measure::TURNS {
        text.push_str(&section(outcome, measure));
    }
    text.push_str(&for_nothing(figures));
    text.push_str(&idle(figures));
    text.push_str(&takeover(figures, &outcome.takeovers));
    text.push_str(&growth(figures));
    text.push_str(&appendix(outcome));
    text + "</html>\n"
}

/// Who has which colour.
fn named(rivals: &[Rival], title: fn(Rival) -> &'static str) -> String {
    let one = |rival: &Rival| {
        format!("<span><i class=\"{}\"></i>{}</span>", rival.name(), escaped(title(*rival)))
    };
    let all: String = rivals.iter().map(one).collect();
    format!("<p class=\"legend\">{all}</p>\n")
}

fn goals(outcome: &Outcome) -> String {
    let mut text = String::from(
        "<h2>What it should reach</h2><table><tr><th>bar</th><th>should be</th><th>is</th><th></th><th>again</th></tr>",
    );
    for bar in &outcome.bars {
        let (value, verdict) = bar.words();
        let class = verdict.replace(' ', "-");
        let _ = write!(
            text,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td class=\"{class}\">{verdict}</td><td class=\"command\"><code>{}</code></td></tr>",
            escaped(&bar.text),
            escaped(&bar.bound.words()),
            escaped(&value),
            escaped(&bar.command)
        );
    }
    text + "</table>\n"
}

fn section(outcome: &Outcome, measure: Measure) -> String {
    let figures = &outcome.figures;
    if figures.of(measure).next().is_none() {
        return String::new();
    }
    let mut text = format!("<h2>{}</h2><div class=\"pictures\">", escaped(measure.title()));
    // One command measures every picture of the section.
    let all = Rival::ALL.into_iter();
    let found = all.filter(|rival| figures.of(measure).any(|figure| figure.contender == *rival));
    let command = figures.again(measure, &found.collect::<Vec<_>>());
    for (metric, caption) in [
        ("rate", "How many or how much"),
        ("balancer", "Time of the balancing itself"),
        ("machine", "Time of both processors, clients and server included"),
    ] {
        text.push_str(&picture(figures, measure, metric, caption));
    }
    if measure.has_latency() {
        let curves: Vec<Curve<'_>> = Rival::ALL
            .iter()
            .map(|rival| {
                let dir = outcome.dir.join(super::HGRM_DIR);
                let points = distribution::of_rounds(&dir, measure, *rival, outcome.rounds);
                Curve { name: rival.title(), class: rival.name(), points }
            })
            .filter(|curve| !curve.points.is_empty())
            .collect();
        let svg = chart::curves(&curves);
        let _ = write!(
            text,
            "<figure><figcaption>Latency by percentile, us</figcaption>{svg}</figure>"
        );
    }
    text + "</div>" + &again(&command) + &table(figures, measure)
}

/// What measures the pictures above it again.
fn again(command: &str) -> String {
    format!("<p class=\"again\">These pictures again: <code>{}</code></p>", escaped(command))
}

fn picture(figures: &Figures, measure: Measure, metric: &str, caption: &str) -> String {
    // Nobody has no bar where nothing balances.
    let of = |rival: &Rival| {
        figures.get(measure, metric, *rival).filter(|figure| figure.spread.most > 0.0)
    };
    let found: Vec<&Figure> = Rival::ALL.iter().filter_map(of).collect();
    let Some(first) = found.first() else { return String::new() };
    let bars: Vec<Bar<'_>> = found
        .iter()
        .map(|figure| Bar {
            name: figure.contender.title(),
            class: figure.contender.name(),
            median: figure.spread.median,
            range: (figure.spread.least, figure.spread.most),
        })
        .collect();
    let svg = chart::bars(first.unit, &bars);
    let counts = || found.iter().map(|figure| figure.spread.count);
    let n = match (counts().min(), counts().max()) {
        (Some(least), Some(most)) if least < most => format!("n = {least} to {most}"),
        _ => format!("n = {}", first.spread.count),
    };
    format!("<figure><figcaption>{}, {n}</figcaption>{svg}</figure>", escaped(caption))
}

/// A row for each balancer, a column for each metric that one of them has; below each row what measures it again.
fn table(figures: &Figures, measure: Measure) -> String {
    let has = |metric: &str| figures.of(measure).find(|figure| figure.metric == metric);
    let columns: Vec<(&str, &str, &str)> = COLUMNS
        .iter()
        .filter_map(|(metric, title)| Some((*metric, *title, has(metric)?.unit)))
        .collect();
    let head: String = columns
        .iter()
        .map(|(_, title, unit)| format!("<th>{title}<small>{}</small></th>", escaped(unit)))
        .collect();
    let mut text = format!("<table><tr><th></th>{head}</tr>");
    for rival in Rival::ALL {
        if figures.of(measure).all(|figure| figure.contender != rival) {
            continue;
        }
        let _ = write!(text, "<tr class=\"figures\"><td>{}</td>", escaped(rival.title()));
        for (metric, _, _) in &columns {
            let cell = figures.get(measure, metric, rival).map_or(String::new(), cell);
            let _ = write!(text, "<td>{cell}</td>");
        }
        let command = escaped(&figures.again(measure, &[rival]));
        let width = columns.len() + 1;
        let _ = write!(
            text,
            "</tr><tr><td class=\"command\" colspan=\"{width}\"><code>{command}</code></td></tr>"
        );
    }
    text + "</table>\n"
}

fn cell(figure: &Figure) -> String {
    let spread = figure.spread;
    let median = small(spread.median);
    if spread.count == 1 {
        return format!("{median}<small>n = 1</small>");
    }
    let (least, most, n) = (small(spread.least), small(spread.most), spread.count);
    format!("{median}<small>{least} – {most}<br>n = {n}</small>")
}

/// Small values keep three digits.
fn small(value: f64) -> String {
    if value != 0.0 && value.abs() < 0.1 { format!("{value:.4}") } else { plain(value) }
}

/// How often a pair changed something by itself.
fn for_nothing(figures: &Figures) -> String {
    let row = |pair: Rival| {
        let Watched { hours, turns, changes } = Watched::of(figures, pair)?;
        let command = escaped(&figures.all_again(&Measure::TURNS, &[pair]));
        Some(format!(
            "<tr><td>{}</td><td>{turns}</td><td>{hours:.3}</td><td>{changes}</td><td>{}</td><td class=\"command\"><code>{command}</code></td></tr>",
            escaped(pair.title()),
            plain(changes / hours.max(f64::MIN_POSITIVE)),
        ))
    };
    let rows: String = PAIRS.into_iter().filter_map(row).collect();
    if rows.is_empty() {
        return String::new();
    }
    format!(
        "<h2>Takeovers for nothing</h2><p>While a pair is under load and nobody dies, no epoch of its groups may change: neither another \
         owner nor a peer that is given up. Counted in all the turns above.</p><table><tr><th></th><th>turns</th><th>hours</th>\
         <th>changes</th><th>an hour</th><th>again</th></tr>{rows}</table>\n"
    )
}

fn idle(figures: &Figures) -> String {
    let measure = Measure::Idle;
    if figures.of(measure).next().is_none() {
        return String::new();
    }
    format!(
        "<h2>{}</h2><p>What each of 5 000 connections takes that says nothing: the balancing processes, and the kernel's \
         sockets without those of clients and servers. A node has its memory from the start: two nodes with room for \
         different numbers are compared.</p>{}",
        measure.title(),
        table(figures, measure)
    )
}

fn takeover(figures: &Figures, runs: &[Run]) -> String {
    let measure = Measure::Takeover;
    if figures.of(measure).next().is_none() {
        return String::new();
    }
    let mut text = format!("<h2>{}</h2>", escaped(measure.title()));
    let all = Rival::ALL.into_iter();
    let there: Vec<Rival> = all.filter(|who| runs.iter().any(|run| run.who == *who)).collect();
    if !there.is_empty() {
        text.push_str(&named(&there, who));
        text.push_str("<div class=\"pictures\">");
        for death in Death::ALL {
            text.push_str(&gaps(runs, death, "gap of downloads", |run| &run.downloads_ns));
            text.push_str(&gaps(runs, death, "gap of uploads", |run| &run.uploads_ns));
            text.push_str(&gaps(runs, death, "gap of echoes", |run| &run.echoes_ns));
            text.push_str(&gaps(runs, death, "wait of newcomers", |run| &run.newcomers_ns));
        }
        text = text + "</div>" + &again(&figures.again(measure, &there));
    }
    for run in runs {
        let (who, how) = (who(run.who), run.death.title());
        for lost in &run.lost {
            let _ = write!(text, "<p class=\"missed\">{who}, {how}: {}</p>", escaped(lost));
        }
    }
    text + &list(figures, measure)
}

/// How long connections of a kind stood still in a death, a curve for each whose machine died.
fn gaps(runs: &[Run], death: Death, kind: &str, of: fn(&Run) -> &Vec<u64>) -> String {
    let curve = |rival: Rival| {
        let its = runs.iter().filter(|run| run.who == rival && run.death == death);
        let points = quantiles(its.flat_map(of).copied().collect());
        Curve { name: who(rival), class: rival.name(), points }
    };
    let curves = Rival::ALL.into_iter().map(curve).filter(|curve| !curve.points.is_empty());
    let curves: Vec<Curve<'_>> = curves.collect();
    let svg = chart::curves(&curves);
    if svg.is_empty() {
        return svg;
    }
    let how = death.title();
    format!(
        "<figure><figcaption>{how}: {kind}, ms, by percentile of connections</figcaption>{svg}</figure>"
    )
}

fn growth(figures: &Figures) -> String {
    let measure = Measure::Growth;
    if figures.of(measure).next().is_none() {
        return String::new();
    }
    format!(
        "<h2>{}</h2><p>100 connections are paced; the others say nothing. They are of services that the nodes answer themselves: in the \
         other tables connections are passed on to servers.</p>{}",
        measure.title(),
        list(figures, measure)
    )
}

/// A row for each figure.
fn list(figures: &Figures, measure: Measure) -> String {
    let mut text = String::from(
        "<table><tr><th></th><th>median</th><th>n</th><th>least</th><th>most</th><th>again</th></tr>",
    );
    for figure in figures.of(measure) {
        let spread = figure.spread;
        let [median, least, most] = [spread.median, spread.least, spread.most].map(small);
        let _ = write!(
            text,
            "<tr><td>{}, {}, {}</td><td>{median}</td><td>{}</td><td>{least}</td><td>{most}</td><td class=\"command\"><code>{}</code></td></tr>",
            who(figure.contender),
            escaped(figure.metric),
            figure.unit,
            spread.count,
            escaped(&figure.command)
        );
    }
    text + "</table>\n"
}

/// Who dies.
fn who(rival: Rival) -> &'static str {
    match rival {
        Rival::Haproxy => "keepalived (10 ms) and HAProxy",
        Rival::Nat => "keepalived (10 ms), NAT and conntrackd",
        _ => rival.title(),
    }
}

/// Each value at its rank; milliseconds.
fn quantiles(mut ns: Vec<u64>) -> Vec<(f64, f64)> {
    ns.sort_unstable();
    let count = ns.len() as f64;
    let at = |(n, ns): (usize, &u64)| (n as f64 / count, (*ns as f64 / 1e6).max(0.01));
    ns.iter().enumerate().map(at).collect()
}

fn appendix(outcome: &Outcome) -> String {
    let mut text = String::from(
        "<h2>How it was measured</h2>\
         <p><b>balancer</b>: of a node, the time of its poll loop's rounds that moved a frame, system calls included, and no more than the \
         scheduler gave to it; of HAProxy and \
         nginx, what the scheduler gave to their processes. <b>process</b>: all that the scheduler gave to processes on the \
         balancer's machine, for a node also rounds that moved nothing. <b>peer</b>: the same on its peer's. <b>its core</b>, \
         <b>both cores</b>: what the processors did not idle. A virtual cable does the receiver's part of the kernel's work on the \
         sender's processor, so no process is charged with all that it causes; both cores together are. <b>load core</b>: how busy the \
         processor of clients and server was; near 100 % it is they that set the rate. <b>cluster link</b>: bytes of records and \
         acknowledgements between the nodes, both ways, headers included. <b>frames</b>: of a node, those of clients and servers; \
         <b>datagrams</b>: those between the nodes, both ways; <b>calls</b>: system calls that sent any of them; <b>rounds</b>: of its poll \
         loop, those that moved one.</p>\
         <p>Latencies count from when an exchange was due; `steady` has a fixed rate, the others begin the next exchange when the last \
         one has ended.</p>",
    );
    let configuration = |(name, content): &(String, String)| {
        let (name, content) = (escaped(name), escaped(content));
        format!("<details><summary>{name}</summary><pre>{content}</pre></details>")
    };
    text.extend(outcome.configurations.iter().map(configuration));
    let environment = serde_json::to_string_pretty(&outcome.environment).unwrap_or_default();
    text.push_str(&configuration(&("env.json".into(), environment)));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balancers::measure::Sample;

    fn run(who: Rival, death: Death, lost: &[&str]) -> Run {
        Run {
            who,
            death,
            connections: 3,
            survived: 3 - lost.len(),
            before_ns: 0,
            downloads_ns: vec![5_000_000, 50_000_000],
            uploads_ns: vec![7_000_000],
            echoes_ns: vec![8_000_000],
            newcomers_ns: vec![6_000_000],
            first_ns: Some(9_000_000),
            lost: lost.iter().map(|reason| reason.to_string()).collect(),
        }
    }

    #[test]
    fn takeovers_for_nothing_are_told_by_the_hour() {
        let mut figures = Figures::default();
        assert_eq!(for_nothing(&figures), "");
        for (round, value) in [(1, 0.0), (2, 1.0)] {
            let hours = Sample { metric: "watched", unit: "h", value: 0.25 };
            let changes = Sample { metric: CHANGES, unit: "", value };
            figures.add(Measure::Request, Rival::Unsealed, round, &[hours, changes]);
        }
        let text = for_nothing(&figures);
        assert!(text.contains("<td>2</td><td>0.500</td><td>1</td><td>2</td>"), "{text}");
    }

    #[test]
    fn beside_a_median_stands_of_how_many_samples_it_is() {
        let mut figures = Figures::default();
        for (round, rival) in [(1, Rival::Nginx), (2, Rival::Nginx), (1, Rival::Haproxy)] {
            let sample = Sample { metric: "process", unit: "bytes each", value: 7.5 };
            figures.add(Measure::Idle, rival, round, &[sample]);
        }
        let text = table(&figures, Measure::Idle);
        assert!(text.contains("<td>7.50<small>7.50 – 7.50<br>n = 2</small></td>"), "{text}");
        assert!(text.contains("<td>7.50<small>n = 1</small></td>"), "{text}");
        let text = list(&figures, Measure::Idle);
        assert!(text.contains("<td>7.50</td><td>2</td><td>7.50</td>"), "{text}");
        let text = picture(&figures, Measure::Idle, "process", "Bytes");
        assert!(text.contains("Bytes, n = 1 to 2"), "{text}");
    }

    #[test]
    fn gaps_of_conntrackd_stand_in_the_picture_of_ours() {
        let mut figures = Figures::default();
        let runs = [
            run(Rival::Nat, Death::Power, &["paced uploads 7: Reset, <closed>"]),
            run(Rival::Hearing, Death::Power, &[]),
            run(Rival::Hearing, Death::Crash, &[]),
        ];
        for one in &runs {
            figures.add(Measure::Takeover, one.who, 1, &one.samples());
        }
        let text = takeover(&figures, &runs);
        let pictures: Vec<&str> = text.split("<figure>").skip(1).collect();
        let curves = |class: &str| {
            let has = |picture: &&str| picture.contains(&format!("<polyline class=\"{class}\""));
            pictures.iter().map(has).collect::<Vec<_>>()
        };
        assert!(pictures[4].starts_with("<figcaption>Power loss: gap of downloads"), "{text}");
        assert_eq!(curves("hearing"), [true; 8]);
        assert_eq!(curves("nat"), [false, false, false, false, true, true, true, true]);
        let lost = "conntrackd, Power loss: paced uploads 7: Reset, &lt;closed&gt;";
        assert!(text.contains(lost), "{text}");
        assert!(text.contains("--measures takeover --contenders nat,hearing"), "{text}");
    }
}
