//! A large owner is killed by SIGKILL while paced connections run: how long each of them stands still.
//!
//! Its limits make the owner as large as is asked for; all of it is resident when the load begins. Beside the paced
//! connections any number of idle ones may stand ([`crate::flows`]): a takeover must not become slower for the busy.
//! Runs in which the clients' processor itself stood still are told apart ([`crate::standstill`]): a virtual machine
//! may be stopped as a whole while its host takes gibibytes back.
//!
//! Units: milliseconds, MiB.

use std::thread;
use std::time::Duration;

use clap::Args;
use nix::sys::signal::Signal;
use tools::demo::bed::Layout;
use tools::demo::status::takeovers;
use tools::load::report::{ConnectionReport, Percentiles};
use tools::load::wire::monotonic_ns;

use crate::Common;
use crate::bulk::places;
use crate::config::NodeSetup;
use crate::flows::{open_idle, resident};
use crate::moving::{self, Fates, ms};
use crate::report::{Bound, Fact, Report};
use crate::stage::{Contender, Stage};
use crate::standstill::Standstill;

/// What half of the connections, and 99 of 100, may stand still, in milliseconds.
const GOALS_MS: (f64, f64) = (5.0, 20.0);

/// The connections run for so many seconds.
const SECONDS: u64 = 4;

/// Of these, before the kill.
const BEFORE_KILL: Duration = Duration::from_millis(700);

/// A run in which the clients' processor stood still for longer says little about the appliance.
const STANDSTILL_MAX_MS: u64 = 10;
const STANDSTILL_MAX_NS: u64 = STANDSTILL_MAX_MS * 1_000_000;

/// Bytes of one chunk of payload.
const CHUNK_BYTES: u64 = 2048;

/// Arguments of `beside crash`.
#[derive(Args, Clone, Debug)]
pub struct CrashArgs {
    #[command(flatten)]
    pub common: Common,
    /// Paced connections.
    #[arg(long, default_value_t = 100)]
    connections: u64,
    /// Idle connections beside them, of the same service.
    #[arg(long, default_value_t = 0)]
    flows: u32,
    /// Resident memory of each node, in MiB, at least.
    #[arg(long, default_value_t = 4096)]
    resident: u64,
}

/// What became of connections whose owner was killed.
pub struct Death {
    /// Every paced connection.
    pub connections: Vec<ConnectionReport>,
    /// When the owner was killed.
    pub killed_ns: u64,
    /// How long the clients' processor stood still since then.
    stood_ns: u64,
    /// The owner's resident memory before.
    mib: f64,
    /// Each phase of the takeover, in microseconds.
    phases: Vec<(String, u64)>,
}

/// One death of an owner with that many paced connections and that many idle ones beside them.
pub fn die(
    stage: &Stage<'_>,
    common: &Common,
    setup: &NodeSetup,
    (connections, flows): (u64, u32),
) -> anyhow::Result<Death> {
    let mut server = stage.start_with(Contender::Mirrored, setup)?;
    open_idle(stage, &mut server, flows)?;
    let load = moving::begin(stage, connections, SECONDS)?;
    thread::sleep(BEFORE_KILL);
    let mib = resident(server.node_pid(1))?.rss as f64 / f64::from(1 << 20);
    let watch = Standstill::watch(common.client_cpu)?;
    let killed_ns = monotonic_ns();
    server.signal_node(1, Signal::SIGKILL)?;
    let result = load.finish()?;
    let stood_ns = watch.end();
    let of_web = takeovers(&server.status(2)?).into_iter().filter(|t| t.service == "web");
    let phases = of_web.flat_map(|takeover| takeover.phases).collect();
    Ok(Death { connections: result.connections, killed_ns, stood_ns, mib, phases })
}

/// Measures.
pub fn run(args: &CrashArgs, common: &Common) -> anyhow::Result<Report> {
    let stage = Stage::new(common, "crash", Layout::default())?;
    let mut setup = stage.setup();
    setup.flows = setup.flows.max(args.flows + args.connections as u32);
    setup.chunks = (args.resident << 20).div_ceil(CHUNK_BYTES) as u32;
    setup.idle_secs = 86_400;
    let (mut fates, mut undisturbed) = (Fates::default(), Fates::default());
    let mut standstills = Vec::new();
    let mut phases: Vec<(String, Vec<u64>)> = Vec::new();
    let mut least = f64::INFINITY;
    for run in 1..=common.rounds {
        let death = die(&stage, common, &setup, (args.connections, args.flows))?;
        least = least.min(death.mib);
        standstills.push(death.stood_ns);
        let told = fates.take(&death.connections, death.killed_ns);
        if death.stood_ns <= STANDSTILL_MAX_NS {
            undisturbed.take(&death.connections, death.killed_ns);
        }
        for (name, us) in death.phases {
            match phases.iter_mut().find(|(known, _)| *known == name) {
                Some((_, all)) => all.push(us),
                None => phases.push((name, vec![us])),
            }
        }
        let (mib, stood) = (death.mib, ms(death.stood_ns));
        eprintln!(
            "run {run} of {}: {mib:.0} MiB resident, {told}; the processor stood still for {stood:.1} ms",
            common.rounds
        );
    }
    let mut facts = fates.facts(Some(GOALS_MS));
    let disturbed = standstills.iter().filter(|&&ns| ns > STANDSTILL_MAX_NS).count();
    let name =
        format!("runs in which the clients' processor stood still for {STANDSTILL_MAX_MS} ms");
    facts.push(Fact::new(name, disturbed as f64, ""));
    facts.extend(undisturbed.gaps("gap in the others", None));
    facts.push(Fact::new("standstill, longest", ms(Percentiles::of(standstills).max), "ms"));
    let goal = Bound::AtLeast(args.resident as f64);
    facts.push(Fact::new("resident when killed, least", least, "MiB").goal(goal));
    for (name, us) in phases {
        let found = Percentiles::of(us);
        facts.push(Fact::new(format!("{name}, p50"), ms(found.p50 * 1_000), "ms"));
        facts.push(Fact::new(format!("{name}, longest"), ms(found.max * 1_000), "ms"));
    }
    let conditions = vec![
        format!(
            "{} runs: SIGKILL of an owner with {} paced connections and {} idle ones.",
            common.rounds, args.connections, args.flows
        ),
        places(common),
    ];
    Ok(Report::new("crash", conditions, Vec::new(), facts))
}
