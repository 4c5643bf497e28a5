//! Instructions and nanoseconds of one segment through owner and peer, by the number of flows in memory.
//!
//! `--quick` leaves out the largest number of flows, `--json FILE` writes every figure to a file, and
//! `--link-mtu BYTES` sets the MTU of the cluster link, `--heard` has the peer hear the clients, `--seal none` leaves its datagrams unsealed. With the usual link the
//! instructions are compared with those that are kept in `instructions.json`; `--keep` keeps these instead. `--counts` does that with the
//! fewest flows and nothing else. Exit code 1: not flat, or a step has grown. Exit code 2: it could not be measured. Instructions of
//! another compiler are not compared, which is said.

use bench::bed::Bed;
use bench::callgrind::{self, Profile, end_of_phase};
use bench::kept::{Compared, Kept};
use bench::memory;
use bench::pair::{BURST_SEGMENTS, Link};
use bench::proxied::{self, FULL_BYTES, Proxied};
use bench::report::{Load, Report, Row};
use bench::step::PerStep;
use dataplane::memory::{self as node_memory, BigPages};
use std::process::ExitCode;

/// Large memory comes from where a node has it from, in huge pages.
#[global_allocator]
static MEMORY: BigPages = BigPages;

/// Flows in memory.
const FLOWS: [usize; 3] = [100, 10_000, 1_000_000];
/// Bytes of payload of a segment.
const PAYLOADS: [usize; 2] = [64, 1448];
/// Bursts counted in one phase under callgrind.
const COUNTED_BURSTS: usize = 200;
/// Bursts timed in one run, and the runs of which the median is taken.
const TIMED_BURSTS: usize = 200;
const TIMED_RUNS: usize = 21;
/// At this number of flows the functions that cost most are shown.
const PROFILED_FLOWS: usize = 10_000;
const TOP_FUNCTIONS: usize = 10;

/// The link whose figures are kept.
const USUAL_LINK: Link = Link { mtu: 1500, is_sealed: true, is_heard: false };

struct Options {
    quick: bool,
    json: Option<String>,
    keep: bool,
    /// Nothing but the instructions with the fewest flows.
    counts: bool,
    link: Link,
    /// Set in the child under callgrind.
    count: Option<Counted>,
}

/// What a child counts.
#[derive(Clone, Copy)]
enum Counted {
    /// Echoes, with so many flows in memory.
    Echoes(usize),
    /// What is passed on.
    Proxied,
}

fn main() -> ExitCode {
    node_memory::take_at_once();
    let result = options(std::env::args().skip(1)).and_then(|options| match options.count {
        Some(counted) => {
            match counted {
                Counted::Echoes(flows) => count(flows, options.link),
                Counted::Proxied => count_proxied(options.link),
            }
            Ok(true)
        }
        None => measure(&options),
    });
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(reason) => {
            eprintln!("segment_path: {reason}");
            ExitCode::from(2)
        }
    }
}

fn options(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options {
        quick: false,
        json: None,
        keep: false,
        counts: false,
        link: USUAL_LINK,
        count: None,
    };
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        let number = |text: String| text.parse().map_err(|_| format!("{text}: not a number"));
        match argument.as_str() {
            // Cargo says so to every bench.
            "--bench" => {}
            "--quick" => options.quick = true,
            "--keep" => options.keep = true,
            "--counts" => options.counts = true,
            "--heard" => options.link.is_heard = true,
            "--json" => options.json = Some(value()?),
            "--link-mtu" => options.link.mtu = number(value()?)?,
            "--seal" => {
                options.link.is_sealed = match value()?.as_str() {
                    "noise" => true,
                    "none" => false,
                    other => return Err(format!("--seal {other}: noise or none")),
                }
            }
            "--count" => options.count = Some(Counted::Echoes(number(value()?)?)),
            "--count-proxied" => options.count = Some(Counted::Proxied),
            _ => {
                return Err(format!(
                    "{argument}: known are --quick, --counts, --json, --keep, --link-mtu, --seal, --heard"
                ));
            }
        }
    }
    if !(1400..=3498).contains(&options.link.mtu) {
        return Err("--link-mtu: from 1400 to 3498 bytes".into());
    }
    Ok(options)
}

/// The child: one phase that is thrown away, then one for each payload.
fn count(flows: usize, link: Link) {
    let mut bed = Bed::new(flows, link);
    bed.open_all(PAYLOADS[0]);
    end_of_phase();
    for payload in PAYLOADS {
        bed.run(COUNTED_BURSTS, payload, &mut PerStep::default());
        end_of_phase();
    }
}

/// The child: one phase that is thrown away, then one for words and one for a stream.
fn count_proxied(link: Link) {
    let mut proxied = Proxied::new(link);
    proxied.run_words(1, PAYLOADS[0], &mut PerStep::default());
    proxied.begin_stream();
    end_of_phase();
    proxied.run_words(COUNTED_BURSTS, PAYLOADS[0], &mut PerStep::default());
    end_of_phase();
    proxied.run_stream(COUNTED_BURSTS, &mut PerStep::default());
    end_of_phase();
}

/// Instructions of each payload, and where they went.
fn instructions(flows: usize, link: Link) -> Result<Vec<Profile>, String> {
    phases(&["--count", &flows.to_string()], link, PAYLOADS.len())
}

/// What a child counts that is started with these options, but for its first phase.
fn phases(options: &[&str], link: Link, count: usize) -> Result<Vec<Profile>, String> {
    let seal = if link.is_sealed { "noise" } else { "none" };
    let mtu = link.mtu.to_string();
    let of_link = ["--link-mtu", &mtu, "--seal", seal];
    let heard = link.is_heard.then_some("--heard");
    let options = options.iter().copied().chain(of_link).chain(heard);
    let profiles = callgrind::profile(&options.map(String::from).collect::<Vec<_>>(), 1 + count);
    Ok(profiles.map_err(|error| error.to_string())?.split_off(1))
}

/// What is passed on: words, then a stream.
fn proxied_rows(link: Link, nanoseconds: [PerStep; 2]) -> Result<[Row; 2], String> {
    let profiles = phases(&["--count-proxied"], link, 2)?;
    let row = |at: usize, load, payload, segments_each: usize| Row {
        load,
        flows: 2 * proxied::CONNECTIONS,
        payload,
        instructions: profiles[at].steps().per(COUNTED_BURSTS * segments_each),
        nanoseconds: nanoseconds[at],
    };
    Ok([
        row(0, Load::Word, PAYLOADS[0], 2 * proxied::CONNECTIONS),
        row(1, Load::Stream, FULL_BYTES, proxied::STREAM_SEGMENTS),
    ])
}

/// Nanoseconds of what is passed on.
fn time_proxied(link: Link) -> [PerStep; 2] {
    let mut proxied = Proxied::new(link);
    let mut runs = [Vec::new(), Vec::new()];
    for _ in 0..TIMED_RUNS {
        let mut spent = PerStep::default();
        let segments = proxied.run_words(TIMED_BURSTS, PAYLOADS[0], &mut spent);
        runs[0].push(spent.per(segments));
        proxied.begin_stream();
        let mut spent = PerStep::default();
        let segments = proxied.run_stream(TIMED_BURSTS, &mut spent);
        runs[1].push(spent.per(segments));
    }
    runs.map(|runs| PerStep::medians(&runs))
}

/// Measures everything; answers whether it is flat.
fn measure(options: &Options) -> Result<bool, String> {
    if !callgrind::is_available() {
        return Err("valgrind is needed to count instructions (apt-get install valgrind)".into());
    }
    if options.counts {
        return count_and_compare(options.keep);
    }
    let sizes = if options.quick { &FLOWS[..2] } else { &FLOWS[..] };
    let mut report = Report::new(options.link);
    let mut beds = Vec::new();
    for &flows in sizes {
        eprintln!("{flows} flows: opening them");
        let before = memory::resident_bytes();
        let mut bed = Bed::new(flows, options.link);
        bed.open_all(PAYLOADS[0]);
        report.add_memory(flows, memory::resident_bytes().saturating_sub(before));
        beds.push(bed);
    }
    eprintln!("timing");
    let nanoseconds = time(&mut beds);
    drop(beds);
    for (size, &flows) in sizes.iter().enumerate() {
        eprintln!("{flows} flows: counting instructions");
        let profiles = instructions(flows, options.link)?;
        for (at, (&payload, profile)) in PAYLOADS.iter().zip(&profiles).enumerate() {
            let segments = COUNTED_BURSTS * BURST_SEGMENTS;
            let instructions = profile.steps().per(segments);
            let nanoseconds = nanoseconds[size][at];
            report.add(Row { load: Load::Echo, flows, payload, instructions, nanoseconds });
            if flows == PROFILED_FLOWS && at == 0 {
                report.add_functions(flows, payload, profile.top(TOP_FUNCTIONS), segments);
            }
        }
    }
    eprintln!("what is passed on");
    for row in proxied_rows(options.link, time_proxied(options.link))? {
        report.add(row);
    }
    print!("{report}");
    if let Some(path) = &options.json {
        std::fs::write(path, report.json()).map_err(|error| format!("{path}: {error}"))?;
    }
    let is_kept = options.link != USUAL_LINK || compare(&report.all_rows(), options.keep)?;
    Ok(report.is_flat() && is_kept)
}

/// What a change should be told at once: the instructions with the fewest flows; whether none has grown.
fn count_and_compare(keep: bool) -> Result<bool, String> {
    let segments = COUNTED_BURSTS * BURST_SEGMENTS;
    let profiles = instructions(FLOWS[0], USUAL_LINK)?;
    let row = |(&payload, profile): (&usize, &Profile)| {
        let instructions = profile.steps().per(segments);
        let nanoseconds = PerStep::default();
        Row { load: Load::Echo, flows: FLOWS[0], payload, instructions, nanoseconds }
    };
    let proxied = proxied_rows(USUAL_LINK, [PerStep::default(); 2])?;
    let rows: Vec<Row> = PAYLOADS.iter().zip(&profiles).map(row).chain(proxied).collect();
    compare(&rows, keep)
}

/// Whether nothing has grown since the instructions were kept; with `keep` these are kept from now on.
fn compare(rows: &[Row], keep: bool) -> Result<bool, String> {
    let (now, path) = (Kept::of(rows), Kept::file());
    let failed = |error| format!("{}: {error}", path.display());
    if keep {
        now.write(&path).map_err(failed)?;
        println!("\nThe instructions are kept in {}.", path.display());
        return Ok(true);
    }
    let compared = match Kept::read(&path).map_err(failed)? {
        Some(kept) => now.growth(&kept),
        None => Compared::Not("none of this profile are kept".into()),
    };
    let grown = match compared {
        Compared::Not(why) => {
            println!("\nNOT COMPARED: {why}. To keep these, run it again with --keep.");
            return Ok(true);
        }
        Compared::Grown(grown) => grown,
    };
    for sentence in &grown {
        println!("GROWN: {sentence}");
    }
    match grown.len() {
        0 => println!("\nNo step costs more instructions than are kept."),
        _ => println!(
            "If that is meant, say why in the commit and keep them: run it again with --keep"
        ),
    }
    Ok(grown.is_empty())
}

/// Nanoseconds of each bed and payload: medians by step of runs that take turns.
fn time(beds: &mut [Bed]) -> Vec<Vec<PerStep>> {
    let mut runs = vec![vec![Vec::new(); PAYLOADS.len()]; beds.len()];
    for _ in 0..TIMED_RUNS {
        for (bed, runs) in beds.iter_mut().zip(&mut runs) {
            for (&payload, runs) in PAYLOADS.iter().zip(runs) {
                let mut spent = PerStep::default();
                let segments = bed.run(TIMED_BURSTS, payload, &mut spent);
                runs.push(spent.per(segments));
            }
        }
    }
    runs.iter().map(|runs| runs.iter().map(|runs| PerStep::medians(runs)).collect()).collect()
}
