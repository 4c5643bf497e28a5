//! A SYN flood from a whole network, while transfers run and others want to connect.
//!
//! The flood is made of frames ([`crate::maker`]), paced, and its rate is counted second by second. Beside it
//! a load of downloads, uploads and echoes checks every byte of its own, and the kernel's own clients
//! connect, ask for a small object and compare it.
//!
//! Units: milliseconds, SYNs a second.

use std::io::{Read, Write};
use std::net::{SocketAddrV4, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use dataplane::control::status::Status;
use serde::{Deserialize, Serialize};
use tools::demo::bed::{Cable, Layout};
use tools::demo::client::Load;
use tools::load::pattern;
use tools::load::report::Outcome;

use crate::Common;
use crate::bulk::places;
use crate::flows::node_mac;
use crate::maker::{Maker, mac};
use crate::moving::until_moving;
use crate::report::{Bound, Fact, Report};
use crate::stage::{Contender, Server, Service, Stage};

/// How long a connect and its answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Bytes of the object that a newcomer asks for.
const OBJECT_BYTES: u64 = 1000;

/// The flood and the load begin before newcomers come, and end after the last.
const MARGIN: Duration = Duration::from_secs(1);

/// Frames between two looks at the clock.
const BURST: u32 = 32;

/// A generator that did not run for so long does not catch up.
const BEHIND_MAX: Duration = Duration::from_millis(50);

/// Arguments of `beside flood`.
#[derive(Args, Clone, Debug)]
pub struct FloodArgs {
    #[command(flatten)]
    pub common: Common,
    /// SYNs a second.
    #[arg(long, default_value_t = 200_000)]
    rate: u32,
    /// How long, in seconds.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(3..=600))]
    seconds: u64,
    /// Connects of the kernel's clients meanwhile.
    #[arg(long, default_value_t = 100)]
    connects: u32,
}

/// How the flood went.
#[derive(Serialize, Deserialize, Debug)]
pub struct Flooded {
    sent: u64,
    ms: u64,
    /// SYNs of the slowest whole second.
    least: u64,
    /// Frames that the interface did not take.
    refused: u64,
}

/// How the newcomers fared.
#[derive(Serialize, Deserialize, Debug)]
pub struct Greeted {
    /// Milliseconds of each that was served, sorted.
    ms: Vec<f64>,
    /// Why the others were not.
    failures: Vec<String>,
}

/// Measures.
pub fn run(args: &FloodArgs, common: &Common) -> anyhow::Result<Report> {
    let layout = Layout { cable: Cable::Direct, ..Layout::default() };
    let stage = Stage::new(common, "flood", layout)?;
    let server = stage.start(Contender::Mirrored)?;
    let before = server.status(1)?;
    let options = [
        ("--downloads", 10),
        ("--uploads", 10),
        ("--rate", 500_000),
        // Room for more than a segment: a kernel that has lost some offers a buffer of 5000 bytes one by one.
        ("--receive-buffer", 65_536),
        ("--fresh-every-ms", 0),
        ("--seconds", args.seconds + 2 * MARGIN.as_secs()),
    ];
    let load = Load::start_with(&stage.bed, &stage.program(), stage.dir(), &options)?;
    until_moving(&load)?;
    eprintln!("{} connections are moving; the flood begins", load.progress().active);
    let flood = stage.begin(&[
        "flood".into(),
        format!("--target={}", server.target(Service::Web)),
        format!("--mac={}", node_mac(&stage)?),
        format!("--rate={}", args.rate),
        format!("--seconds={}", args.seconds),
    ])?;
    let greeted = stage.begin(&[
        "connects".into(),
        format!("--target={}", server.target(Service::Web)),
        format!("--count={}", args.connects),
        format!("--seconds={}", args.seconds - 2 * MARGIN.as_secs()),
    ])?;
    let flooded: Flooded = flood.finish()?;
    let after = server.status(1)?;
    eprintln!(
        "{} SYNs in {} ms; the slowest second had {}",
        flooded.sent, flooded.ms, flooded.least
    );
    let greeted: Greeted = greeted.finish()?;
    let load = load.finish()?;
    let unharmed = load.connections.iter().filter(|c| c.outcome == Outcome::Survived).count();
    for harmed in load.connections.iter().filter(|c| c.outcome != Outcome::Survived) {
        let note = harmed.note.as_deref().unwrap_or("no note");
        let longest = harmed.longest.first().map_or(0, |gap| gap.len_ns() / 1_000_000);
        eprintln!(
            "{} {}: {:?}, {note}; {} bytes in {} ms, the longest pause {longest} ms",
            harmed.kind,
            harmed.id,
            harmed.outcome,
            harmed.bytes,
            (harmed.end_ns - harmed.start_ns) / 1_000_000,
        );
    }
    for failure in &greeted.failures {
        eprintln!("a connect failed: {failure}");
    }
    let mut facts = flood_facts(args, &flooded, &greeted);
    facts.push(Fact::new("transfers begun before", load.connections.len() as f64, ""));
    let goal = Bound::AtLeast(load.connections.len() as f64);
    facts.push(Fact::new("of them byte-exact to their end", unharmed as f64, "").goal(goal));
    facts.extend(server_facts(&before, &after));
    facts.push(protected(&server)?);
    let conditions = vec![
        format!("A pair of nodes, {} SYNs a second for {} s.", args.rate, args.seconds),
        places(common),
    ];
    Ok(Report::new("flood", conditions, Vec::new(), facts))
}

fn flood_facts(args: &FloodArgs, flooded: &Flooded, greeted: &Greeted) -> Vec<Fact> {
    let rate = flooded.sent as f64 * 1000.0 / flooded.ms as f64;
    let wanted = f64::from(args.rate);
    let all = f64::from(args.connects);
    let mut facts = vec![
        // A flood that is slower than it should be proves nothing.
        Fact::new("SYNs", rate, "a second").goal(Bound::AtLeast(wanted * 0.98)),
        Fact::new("slowest second", flooded.least as f64, "SYNs"),
        Fact::new("SYNs that the interface refused", flooded.refused as f64, ""),
        Fact::new("connects served", greeted.ms.len() as f64, "").goal(Bound::AtLeast(all)),
    ];
    let at = |permille: usize| {
        let last = greeted.ms.len().checked_sub(1)?;
        greeted.ms.get(last * permille / 1000).copied()
    };
    for (name, permille) in [("median", 500), ("p90", 900), ("longest", 1000)] {
        if let Some(ms) = at(permille) {
            let fact = Fact::new(format!("{name} connect and answer"), ms, "ms");
            let goal = Bound::AtMost(PATIENCE.as_millis() as f64);
            facts.push(if permille == 1000 { fact.goal(goal) } else { fact });
        }
    }
    facts
}

/// What the owner counted while the flood lasted.
fn server_facts(before: &Status, after: &Status) -> Vec<Fact> {
    let core = |status: &Status| status.cores.iter().map(|core| core.segments_out).sum::<u64>();
    let drops = |status: &Status, name: &str| {
        status.cores.iter().filter_map(|core| core.drops.get(name)).sum::<u64>()
    };
    let sent = core(after).saturating_sub(core(before));
    let mut facts = vec![Fact::new("frames sent by the owner", sent as f64, "")];
    let mut names: Vec<&String> = after.cores.iter().flat_map(|core| core.drops.keys()).collect();
    names.sort();
    names.dedup();
    for name in names {
        let dropped = drops(after, name).saturating_sub(drops(before, name));
        facts.push(Fact::new(format!("dropped by the owner: {name}"), dropped as f64, ""));
    }
    facts
}

/// Owner and peer lost nothing of each other.
fn protected(server: &Server<'_>) -> anyhow::Result<Fact> {
    let status = server.status(1)?;
    let safe = status.groups.iter().filter(|group| group.in_sync).count() as f64;
    let all = status.groups.len() as f64;
    Ok(Fact::new("services protected at the end", safe, "").goal(Bound::AtLeast(all)))
}

/// The hand that floods.
pub fn flood(
    target: SocketAddrV4,
    next_hop: &str,
    rate: u32,
    seconds: u64,
) -> anyhow::Result<Flooded> {
    let mut maker = Maker::new("eth0", mac(next_hop)?, target)?;
    let gap = Duration::from_secs(1) * BURST / rate.max(1);
    let begin = Instant::now();
    let (mut due, mut client) = (begin, 0u32);
    let (mut sent, mut refused) = (0, 0);
    let mut by_second = vec![0u64; seconds as usize];
    loop {
        let now = Instant::now();
        let second = (now - begin).as_secs();
        if second >= seconds {
            let least = by_second.iter().copied().min().unwrap_or(0);
            let ms = (now - begin).as_millis() as u64;
            return Ok(Flooded { sent, ms, least, refused });
        }
        if now < due {
            thread::sleep(due - now);
            continue;
        }
        due = (due + gap).max(now - BEHIND_MAX.min(now - begin));
        for _ in 0..BURST {
            // From everywhere in the network, no address twice in a row.
            client = client.wrapping_add(0x9e37_79b1);
            let taken = maker.send_syn(client)?;
            sent += u64::from(taken);
            refused += u64::from(!taken);
            by_second[second as usize] += u64::from(taken);
        }
    }
}

/// The hand that connects, again and again.
pub fn connects(target: SocketAddrV4, count: u32, seconds: u64) -> anyhow::Result<Greeted> {
    let begin = Instant::now() + MARGIN;
    let every = Duration::from_secs(seconds) / count.max(1);
    let newcomers = (0..count).map(|number| {
        thread::spawn(move || {
            thread::sleep((begin + every * number).saturating_duration_since(Instant::now()));
            greet(target, u64::from(number))
        })
    });
    let newcomers: Vec<_> = newcomers.collect();
    let (mut ms, mut failures) = (Vec::new(), Vec::new());
    for newcomer in newcomers {
        match newcomer.join() {
            Ok(Ok(took)) => ms.push(took.as_secs_f64() * 1000.0),
            Ok(Err(error)) => failures.push(format!("{error:#}")),
            Err(_) => bail!("a client panicked"),
        }
    }
    ms.sort_by(f64::total_cmp);
    Ok(Greeted { ms, failures })
}

/// One connection, one small object.
fn greet(target: SocketAddrV4, seed: u64) -> anyhow::Result<Duration> {
    let begin = Instant::now();
    let mut stream =
        TcpStream::connect_timeout(&target.into(), PATIENCE).context("no handshake")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let path = format!("/generate/{OBJECT_BYTES}?seed={seed}");
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).context("no answer")?;
    let body = answer.len().checked_sub(OBJECT_BYTES as usize).context("a short answer")?;
    if pattern::first_difference(seed, 0, &answer[body..]).is_some() {
        bail!("a wrong answer");
    }
    Ok(begin.elapsed())
}
