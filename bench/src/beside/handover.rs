//! Owner and peer change places while connections run: how long the group is frozen, and how long clients stand still.
//!
//! Most connections are idle ([`crate::flows`]); beside them paced ones say what a client notices. Each round hands the
//! service over to whoever is the peer.
//!
//! Units: milliseconds.

use std::thread;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use dataplane::control::Request;
use tools::demo::bed::Layout;
use tools::demo::status::serves_protected;
use tools::load::report::Percentiles;
use tools::load::wire::monotonic_ns;

use crate::Common;
use crate::bulk::places;
use crate::flows::open_idle;
use crate::moving::{self, Fates, ms};
use crate::report::{Fact, Report};
use crate::stage::{Contender, Stage};

/// The connections run for so many seconds.
const SECONDS: u64 = 3;

/// Of these, before the order.
const BEFORE_ORDER: Duration = Duration::from_millis(700);

/// Arguments of `beside handover`.
#[derive(Args, Clone, Debug)]
pub struct HandoverArgs {
    #[command(flatten)]
    pub common: Common,
    /// Paced connections.
    #[arg(long, default_value_t = 100)]
    connections: u64,
    /// Connections in all.
    #[arg(long, default_value_t = 10_000)]
    flows: u32,
}

/// Measures.
pub fn run(args: &HandoverArgs, common: &Common) -> anyhow::Result<Report> {
    let stage = Stage::new(common, "handover", Layout::default())?;
    let mut setup = stage.setup();
    setup.flows = setup.flows.max(args.flows);
    setup.idle_secs = 86_400;
    let mut server = stage.start_with(Contender::Mirrored, &setup)?;
    open_idle(&stage, &mut server, args.flows.saturating_sub(args.connections as u32))?;
    let mut fates = Fates::default();
    let (mut freezes, mut swaps, mut connections) = (Vec::new(), Vec::new(), Vec::new());
    let (mut owner, mut other) = (1, 2);
    for round in 1..=common.rounds {
        server.wait_for_at(owner, "the pair to be protected", |status| {
            serves_protected(status, "web")
        })?;
        let load = moving::begin(&stage, args.connections, SECONDS)?;
        thread::sleep(BEFORE_ORDER);
        let at_ns = monotonic_ns();
        server.order(
            owner,
            &Request::Handover {
                service: "web".into(),
                to: other as u8,
                epoch: None,
                force: false,
            },
        )?;
        let result = load.finish()?;
        let told = fates.take(&result.connections, at_ns);
        let status = server.status(owner)?;
        let group = status.groups.iter().find(|group| group.service == "web");
        let handed = group.and_then(|group| group.last_handover.clone());
        let handed = handed.with_context(|| format!("node {owner} has handed nothing over"))?;
        freezes.push(handed.freeze_us * 1_000);
        swaps.push(handed.swap_us * 1_000);
        connections.push(handed.connections);
        eprintln!(
            "round {round} of {}: {} connections, frozen {:.1} ms, {told}",
            common.rounds,
            handed.connections,
            ms(handed.freeze_us * 1_000)
        );
        (owner, other) = (other, owner);
    }
    let mut facts = fates.facts(None);
    let least = connections.into_iter().min().unwrap_or(0) as f64;
    facts.push(Fact::new("connections handed over, least", least, ""));
    for (name, found) in [("frozen", freezes), ("change of places", swaps)] {
        let found = Percentiles::of(found);
        facts.push(Fact::new(format!("{name}, p50"), ms(found.p50), "ms"));
        facts.push(Fact::new(format!("{name}, p99"), ms(found.p99), "ms"));
    }
    let conditions = vec![
        format!(
            "{} handovers of {} connections, {} of them paced.",
            common.rounds, args.flows, args.connections
        ),
        places(common),
    ];
    Ok(Report::new("handover", conditions, Vec::new(), facts))
}
