//! What an idle flow takes: resident memory of owner and peer with many flows established, minus the same with few.
//!
//! The clients are made of frames ([`crate::maker`]). Pools for flows that are doing something have the same
//! limits in both turns and so fall out of the difference; what they take is in the smaller turn's
//! figures. Nothing counts until the owner says that every flow is established and copied.
//!
//! Units: bytes.

use std::fs;
use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use dataplane::control::status::GroupStatus;
use serde::{Deserialize, Serialize};
use tools::demo::bed::{Cable, Layout, Place, run as run_command};
use tools::impair::wire::PacketSocket;

use crate::Common;
use crate::bulk::places;
use crate::config::NodeSetup;
use crate::maker::{Answer, MAC_FILE, Maker, mac};
use crate::report::{Bound, Fact, Report};
use crate::stage::{Contender, Server, Service, Stage};
use stack::wire::Flags;

/// Bytes that an idle flow may take on each node.
const GOAL_BYTES: f64 = 512.0;

/// Handshakes under way at most.
const OPENING_MAX: u32 = 1024;

/// How long an answer may take until the SYN is said again.
const AGAIN_AFTER: Duration = Duration::from_millis(300);

/// How often a SYN is said again.
const AGAIN_MAX: u32 = 100;

/// Arguments of `beside flows`.
#[derive(Args, Clone, Debug)]
pub struct FlowsArgs {
    #[command(flatten)]
    pub common: Common,
    /// Flows of the large turn.
    #[arg(long, default_value_t = 1_000_000)]
    many: u32,
    /// Flows of the small turn.
    #[arg(long, default_value_t = 1_000)]
    few: u32,
    /// What `cargo bench -p bench -- --json FILE` wrote: instructions are shown beside.
    #[arg(long)]
    instructions: Option<PathBuf>,
}

/// How the clients fared.
#[derive(Serialize, Deserialize, Debug)]
pub struct Opened {
    ms: u64,
    repeated: u32,
}

/// Resident bytes of a node: all, and its share of what it shares.
#[derive(Clone, Copy, Debug)]
pub struct Resident {
    /// All.
    pub rss: u64,
    pss: u64,
}

/// Measures.
pub fn run(args: &FlowsArgs, common: &Common) -> anyhow::Result<Report> {
    if args.many <= args.few {
        bail!("--many must be more than --few");
    }
    let stage = Stage::new(common, "flows", Layout { cable: Cable::Direct, ..Layout::default() })?;
    let few = turn(&stage, args.few, args.few)?;
    let many = turn(&stage, args.many, args.few)?;
    let mut facts = Vec::new();
    for (node, (few, many)) in ["owner", "peer"].iter().zip(few.0.iter().zip(&many.0)) {
        let each =
            |few: u64, many: u64| (many as f64 - few as f64) / f64::from(args.many - args.few);
        let name = format!("{node}, an idle flow takes");
        let goal = Bound::AtMost(GOAL_BYTES);
        facts.push(Fact::new(name, each(few.rss, many.rss), "bytes").goal(goal));
        facts.push(Fact::new(format!("{node}, of it its own"), each(few.pss, many.pss), "bytes"));
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let name = format!("{node}, resident with {} flows", args.many);
        facts.push(Fact::new(name, mib(many.rss), "MiB"));
        let name = format!("{node}, with {}: the pools for active flows, ports, program", args.few);
        facts.push(Fact::new(name, mib(few.rss), "MiB"));
    }
    let opened = f64::from(args.many) * 1000.0 / many.1.ms as f64;
    facts.push(Fact::new("flows opened and mirrored", opened, "a second"));
    facts.push(Fact::new("SYNs said again", f64::from(many.1.repeated), ""));
    if let Some(file) = &args.instructions {
        facts.extend(instructions(file)?);
    }
    let conditions = vec![
        format!("{} flows, then {}: all established, all copied, all idle.", args.few, args.many),
        places(common),
    ];
    Ok(Report::new("flows", conditions, Vec::new(), facts))
}

fn turn(stage: &Stage<'_>, flows: u32, active: u32) -> anyhow::Result<([Resident; 2], Opened)> {
    let setup = NodeSetup { flows, active, idle_secs: 86_400, ..stage.setup() };
    let mut server = stage.start_with(Contender::Mirrored, &setup)?;
    let opened = open_idle(stage, &mut server, flows)?;
    Ok(([resident(server.node_pid(1))?, resident(server.node_pid(2))?], opened))
}

/// Opens flows of the web service and leaves them alone; the peer holds all of them afterwards.
pub fn open_idle(stage: &Stage<'_>, server: &mut Server<'_>, flows: u32) -> anyhow::Result<Opened> {
    let words = [
        "flows".into(),
        format!("--target={}", server.target(Service::Web)),
        format!("--mac={}", node_mac(stage)?),
        format!("--count={flows}"),
    ];
    let opened: Opened = stage.ask(&words)?;
    let all = u64::from(flows);
    let is_web = |group: &&GroupStatus| group.service == "web";
    server.wait_for("every flow to be copied", |status| {
        let mut web = status.groups.iter().filter(is_web);
        web.any(|group| (group.flows, group.flows_copied) == (all, all))
    })?;
    let held: u64 = server.status(2)?.groups.iter().filter(is_web).map(|group| group.flows).sum();
    if held != all {
        bail!("the peer holds {held} flows of {flows}");
    }
    eprintln!("{flows} flows are established and copied, after {} ms", opened.ms);
    Ok(opened)
}

/// The Ethernet address of the first node.
pub fn node_mac(stage: &Stage<'_>) -> anyhow::Result<String> {
    let text = run_command(stage.bed.command(Place::Node(1), "cat").arg(MAC_FILE))?;
    Ok(text.trim().to_string())
}

/// What a process takes.
pub fn resident(pid: u32) -> anyhow::Result<Resident> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let kib = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    let value = |name: &str| kib(name).with_context(|| format!("{path} has no {name}"));
    Ok(Resident { rss: value("Rss:")? << 10, pss: value("Pss:")? << 10 })
}

/// Instructions of one segment, as the other bench counted them.
fn instructions(file: &PathBuf) -> anyhow::Result<Vec<Fact>> {
    let text =
        fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let value: serde_json::Value = serde_json::from_str(&text)?;
    let rows = value["rows"].as_array().context("no figures of segments in it")?;
    let fact = |row: &serde_json::Value| {
        let of = |key: &str| row[key].as_f64();
        let total = of("segment_instructions")?;
        let name =
            format!("a segment of {} bytes among {} flows", of("payload_bytes")?, of("flows")?);
        Some(Fact::new(name, total, "instructions"))
    };
    rows.iter().map(|row| fact(row).context("a row without its figures")).collect()
}

/// The hand that opens flows and leaves them alone.
pub fn open(target: SocketAddrV4, next_hop: &str, count: u32) -> anyhow::Result<Opened> {
    let mut maker = Maker::new("eth0", mac(next_hop)?, target)?;
    let receiver = PacketSocket::receiver("eth0")?;
    let mut opening = Opening::new(count);
    let begin = Instant::now();
    let mut repeated = 0;
    let mut heard = Instant::now();
    while opening.done < count {
        while let Some(client) = opening.next() {
            maker.send_syn(client)?;
        }
        while let Some(answer) = receive(&receiver, &maker)? {
            opening.answered(&answer)?;
            maker.send_ack(&answer)?;
            heard = Instant::now();
        }
        if heard.elapsed() > AGAIN_AFTER {
            repeated += opening.again();
            heard = Instant::now();
            if opening.rounds > AGAIN_MAX {
                bail!("{} of {count} flows were opened, the rest is not answered", opening.done);
            }
        }
        receiver.wait(Duration::from_millis(1))?;
    }
    Ok(Opened { ms: begin.elapsed().as_millis() as u64, repeated })
}

fn receive(receiver: &PacketSocket, maker: &Maker) -> anyhow::Result<Option<Answer>> {
    let mut frame = [0; 2048];
    while let Some(len) = receiver.receive(&mut frame)? {
        if let Some(answer) = maker.read(&frame[..len.min(frame.len())]) {
            return Ok(Some(answer));
        }
    }
    Ok(None)
}

/// Which client opens next.
struct Opening {
    is_open: Vec<bool>,
    next: u32,
    under_way: u32,
    done: u32,
    rounds: u32,
}

impl Opening {
    fn new(count: u32) -> Opening {
        Opening { is_open: vec![false; count as usize], next: 0, under_way: 0, done: 0, rounds: 0 }
    }

    fn next(&mut self) -> Option<u32> {
        while self.under_way < OPENING_MAX && (self.next as usize) < self.is_open.len() {
            self.next += 1;
            if !self.is_open[self.next as usize - 1] {
                self.under_way += 1;
                return Some(self.next - 1);
            }
        }
        None
    }

    fn answered(&mut self, answer: &Answer) -> anyhow::Result<()> {
        if answer.flags.has(Flags::RST) {
            bail!("flow {} was refused", answer.client);
        }
        let Some(is_open) = self.is_open.get_mut(answer.client as usize) else { return Ok(()) };
        if answer.flags.has(Flags::SYN) && !*is_open {
            *is_open = true;
            self.done += 1;
            self.under_way = self.under_way.saturating_sub(1);
        }
        Ok(())
    }

    /// Nothing is answered any more: everybody who is not open says SYN again. Answers how many.
    fn again(&mut self) -> u32 {
        let waiting = std::mem::take(&mut self.under_way);
        self.next = 0;
        self.rounds += 1;
        waiting
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stack::seq::Seq;

    fn answer(client: u32, flags: Flags) -> Answer {
        Answer { client, seq: Seq(0), flags, stamp: None }
    }

    #[test]
    fn who_was_not_answered_says_it_again() {
        let mut opening = Opening::new(3);
        assert_eq!(std::iter::from_fn(|| opening.next()).collect::<Vec<_>>(), [0, 1, 2]);
        opening.answered(&answer(1, Flags::SYN.with(Flags::ACK))).unwrap();
        opening.answered(&answer(1, Flags::SYN.with(Flags::ACK))).unwrap();
        assert_eq!((opening.done, opening.next()), (1, None));
        assert_eq!(opening.again(), 2);
        assert_eq!(std::iter::from_fn(|| opening.next()).collect::<Vec<_>>(), [0, 2]);
        assert!(opening.answered(&answer(0, Flags::RST)).is_err());
    }
}
