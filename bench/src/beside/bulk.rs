//! One connection at full speed: how many bits a second arrive.
//!
//! Downloads are a generated object, checked at the start of every read against what it must be there;
//! uploads go to `discard` and count what the other side acknowledged. Before each turn a small upload
//! is answered with its hash. Nothing touches a disk. Neither end leaves work to hardware that does
//! not exist, so a segment is a frame for every contender.
//!
//! Units: samples are Gbit/s of payload.

use anyhow::Context;
use clap::Args;
use tools::bench::bulk::Moved;
use tools::demo::bed::{Cable, Layout};

use crate::Common;
use crate::report::{Bound, Case, Fact, Report, Spread};
use crate::stage::{Contender, Server, Service, Stage};

/// Arguments of `beside bulk`.
#[derive(Args, Clone, Debug)]
pub struct BulkArgs {
    #[command(flatten)]
    pub common: Common,
    /// MTUs of the link.
    #[arg(long, value_delimiter = ',', default_values_t = [1500, 9000])]
    mtu: Vec<u32>,
    /// MTU of the cluster's link. One above that of the clients' link has room for the log's headers: each segment
    /// is then one record, in one datagram.
    #[arg(long, default_value_t = 9216)]
    link_mtu: u32,
    /// How long each transfer is measured, in milliseconds.
    #[arg(long, default_value_t = 1500)]
    ms: u64,
}

/// Measures.
pub fn run(args: &BulkArgs, common: &Common) -> anyhow::Result<Report> {
    let mut cases = Vec::new();
    let mut facts = Vec::new();
    for &mtu in &args.mtu {
        let measured = at_mtu(args, common, mtu);
        let [down, up] = measured.with_context(|| format!("with an MTU of {mtu}"))?;
        facts.push(mirrored_to_alone(&down));
        cases.extend([down, up]);
    }
    let conditions = vec![
        format!(
            "One connection over a cable of its own, {} rounds of {} ms each, offloads off at both ends.",
            common.rounds, args.ms
        ),
        format!("The cluster's link has an MTU of {}.", args.link_mtu),
        places(common),
    ];
    Ok(Report::new("bulk", conditions, cases, facts))
}

/// What mirroring leaves of a download.
fn mirrored_to_alone(down: &Case) -> Fact {
    let samples = |contender: Contender| {
        let rows = down.rows.iter().filter(move |row| row.contender == contender.name());
        rows.flat_map(|row| row.samples.iter().copied())
    };
    let pairs = samples(Contender::Mirrored).zip(samples(Contender::Alone));
    let ratios: Vec<f64> = pairs.map(|(mirrored, alone)| mirrored / alone).collect();
    let median = Spread::of(&ratios).map_or(0.0, |spread| spread.median);
    let name = format!("{}: mirrored against alone, median", down.name);
    Fact::new(name, median, "times").goal(Bound::AtLeast(0.9))
}

/// Who ran on which processor.
pub fn places(common: &Common) -> String {
    format!(
        "Client on processor {}, kernel server or owner's core on {}, peer's core and witness on {}.",
        common.client_cpu,
        common.server_cpu,
        common.peer_cpu()
    )
}

fn at_mtu(args: &BulkArgs, common: &Common, mtu: u32) -> anyhow::Result<[Case; 2]> {
    // What a frame on this bed costs leaves us less than all of it (GOALS).
    let goal = if mtu > 4000 { 0.95 } else { 0.85 };
    let case = |direction: &str| {
        let name = format!("{direction}, MTU {mtu}");
        Case::new(name, "Gbit/s", &Contender::names()).goal("alone", Bound::AtLeast(goal))
    };
    let mut cases = [case("download"), case("upload")];
    let link_mtu = args.link_mtu;
    let layout = Layout { cable: Cable::Direct, mtu, link_mtu, ..Layout::default() };
    let stage = Stage::new(common, &format!("bulk-{mtu}"), layout)?;
    for round in 1..=common.rounds {
        for contender in Contender::ALL {
            let name = contender.name();
            let server = stage.start(contender).with_context(|| name.to_string())?;
            let proves = contender != Contender::Smoltcp;
            let moved = turn(args, &stage, &server, proves);
            let [down, up] = moved.with_context(|| name.to_string())?;
            eprintln!(
                "MTU {mtu}, round {round} of {}: {name}, down {down:.2}, up {up:.2} Gbit/s",
                common.rounds
            );
            cases[0].add(name, down);
            cases[1].add(name, up);
        }
    }
    Ok(cases)
}

fn turn(
    args: &BulkArgs,
    stage: &Stage<'_>,
    server: &Server<'_>,
    proves: bool,
) -> anyhow::Result<[f64; 2]> {
    let target = |service| format!("--target={}", server.target(service));
    if proves {
        let _: Moved = stage.ask(&["prove".into(), target(Service::Web)])?;
    }
    let ms = format!("--ms={}", args.ms);
    let down: Moved = stage.ask(&["download".into(), target(Service::Web), ms.clone()])?;
    let up: Moved = stage.ask(&["upload".into(), target(Service::Discard), ms])?;
    Ok([down, up].map(|moved| moved.gigabits()))
}
