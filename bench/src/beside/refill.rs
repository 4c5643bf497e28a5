//! The peer died and comes back: how fast it is filled with the connections of an owner that serves on, and what small
//! exchanges on the owner notice of that.
//!
//! Exchanges are made in turns of a few hundred, with the pair at rest and while the status says that a fill is under way;
//! a turn that outlasted the fill does not count.
//!
//! Units: microseconds, connections a second.

use std::time::Instant;

use anyhow::bail;
use clap::Args;
use nix::sys::signal::Signal;
use tools::demo::bed::Layout;

use crate::Common;
use crate::bulk::places;
use crate::flows::open_idle;
use crate::pingpong::Percentiles;
use crate::report::{Bound, Fact, Report, Spread};
use crate::stage::{self, Contender, Server, Service, Stage};

/// How much slower the slowest exchange of a hundred may be during a fill.
const GOAL_RATIO: f64 = 2.0;

/// Turns with the pair at rest, before each fill.
const TURNS_AT_REST: usize = 5;

/// Arguments of `beside refill`.
#[derive(Args, Clone, Debug)]
pub struct RefillArgs {
    #[command(flatten)]
    pub common: Common,
    /// Idle connections.
    #[arg(long, default_value_t = 100_000)]
    flows: u32,
    /// Exchanges of 64 bytes in each turn.
    #[arg(long, default_value_t = 1_000)]
    count: usize,
}

/// One of the figures of a turn.
type Pick = fn(&Percentiles) -> u64;

const PICKS: [Pick; 2] = [|one| one.p50, |one| one.p99];

/// Measures.
pub fn run(args: &RefillArgs, common: &Common) -> anyhow::Result<Report> {
    let stage = Stage::new(common, "refill", Layout::default())?;
    let mut setup = stage.setup();
    setup.flows = setup.flows.max(args.flows + 1);
    setup.idle_secs = 86_400;
    let mut server = stage.start_with(Contender::Mirrored, &setup)?;
    open_idle(&stage, &mut server, args.flows)?;
    let (mut rates, mut rest, mut filling) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=common.rounds {
        server.wait_for("the pair to be protected", stage::is_safe)?;
        for _ in 0..TURNS_AT_REST {
            rest.push(exchange(&stage, &server, args.count)?);
        }
        server.signal_node(2, Signal::SIGKILL)?;
        server.revive_node(2)?;
        server.wait_for("the fill to begin", |status| {
            copied(status).is_some_and(|(held, all)| 0 < held && held < all)
        })?;
        let begun = (Instant::now(), copied(&server.status(1)?).map_or(0, |(held, _)| held));
        let mut turns = 0;
        let (at, held) = loop {
            let found = exchange(&stage, &server, args.count)?;
            let at = Instant::now();
            match copied(&server.status(1)?) {
                Some((held, all)) if held < all => {
                    filling.push(found);
                    turns += 1;
                    if turns > 10_000 {
                        bail!("the fill has no end: {held} of {all}");
                    }
                }
                Some((held, _)) => break (at, held),
                None => bail!("the owner has no peer any more"),
            }
        };
        let rate = (held - begun.1) as f64 / (at - begun.0).as_secs_f64();
        rates.push(rate);
        eprintln!("round {round} of {}: {rate:.0} a second, {turns} turns", common.rounds);
    }
    Ok(report(args, common, &rates, &rest, &filling))
}

fn report(
    args: &RefillArgs,
    common: &Common,
    rates: &[f64],
    rest: &[Percentiles],
    filling: &[Percentiles],
) -> Report {
    let middle = |found: &[Percentiles], pick: Pick| {
        let us: Vec<f64> = found.iter().map(|one| pick(one) as f64 / 1_000.0).collect();
        Spread::of(&us).map_or(f64::NAN, |spread| spread.median)
    };
    let rate = Spread::of(rates);
    let mut facts = vec![
        Fact::new("filled, median", rate.map_or(0.0, |rate| rate.median), "a second"),
        Fact::new("filled, least", rate.map_or(0.0, |rate| rate.least), "a second"),
        Fact::new("turns of exchanges during a fill", filling.len() as f64, "")
            .goal(Bound::AtLeast(1.0)),
    ];
    for (name, pick) in [("p50", PICKS[0]), ("p99", PICKS[1])] {
        let (before, during) = (middle(rest, pick), middle(filling, pick));
        facts.push(Fact::new(format!("{name} of exchanges at rest"), before, "us"));
        facts.push(Fact::new(format!("{name} of exchanges during a fill"), during, "us"));
        let ratio = Fact::new(format!("{name}, ratio"), during / before, "");
        let is_judged = name == "p99";
        facts.push(if is_judged { ratio.goal(Bound::AtMost(GOAL_RATIO)) } else { ratio });
    }
    let conditions = vec![
        format!("{} fills of {} connections.", common.rounds, args.flows),
        format!("Exchanges of 64 bytes, {} in a turn; figures are medians of turns.", args.count),
        places(common),
    ];
    Report::new("refill", conditions, Vec::new(), facts)
}

/// Connections of the web service that the peer holds, and all; `None` without a peer.
fn copied(status: &dataplane::control::status::Status) -> Option<(u64, u64)> {
    let group = status.groups.iter().find(|group| group.service == "web")?;
    group.peer.is_some().then_some((group.flows_copied, group.flows))
}

fn exchange(stage: &Stage<'_>, server: &Server<'_>, count: usize) -> anyhow::Result<Percentiles> {
    stage.ask(&[
        "pingpong".into(),
        format!("--target={}", server.target(Service::Echo)),
        "--bytes=64".into(),
        format!("--count={count}"),
    ])
}
