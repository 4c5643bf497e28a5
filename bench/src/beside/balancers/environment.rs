//! Where a run took place: machine, kernel, versions, offloads, command line.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use serde::Serialize;
use tools::demo::bed::{Place, run};

use super::arena::Arena;
use crate::Common;

/// Offloads that decide how large a frame is.
const OFFLOADS: [&str; 5] = [
    "rx-checksumming",
    "tx-checksumming",
    "tcp-segmentation-offload",
    "generic-segmentation-offload",
    "generic-receive-offload",
];

/// See the module.
#[derive(Debug, Clone, Serialize)]
pub struct Environment {
    /// The processor.
    pub processor: String,
    /// How many there are.
    pub processors: usize,
    /// Bytes of memory.
    pub memory_kib: u64,
    /// The kernel.
    pub kernel: String,
    /// With which options it was started.
    pub kernel_command_line: String,
    /// The commit of the source, `+` where the tree differed from it.
    pub commit: String,
    /// `release` or `debug`.
    pub profile: &'static str,
    /// What the compiler was told beside that.
    pub rustflags: String,
    /// Name and version of every program that took part.
    pub versions: BTreeMap<&'static str, String>,
    /// The command line of this run.
    pub arguments: Vec<String>,
    /// Processors of clients and servers, balancer, peer.
    pub places: [u16; 3],
    /// Processes that wanted to run in the last minute before it began: a quiet machine shows less than one.
    pub load_average: String,
    /// Offloads by MTU and interface.
    pub offloads: BTreeMap<String, BTreeMap<String, String>>,
}

impl Environment {
    /// Looks around.
    pub fn of(common: &Common) -> Environment {
        let file = |path| fs::read_to_string(path).unwrap_or_default().trim().to_string();
        let cpuinfo = file("/proc/cpuinfo");
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            let value = line.and_then(|line| line.split_once(':'));
            value.map_or(String::new(), |(_, value)| value.trim().to_string())
        };
        let memory = field(&file("/proc/meminfo"), "MemTotal");
        let program = common.program.as_ref().map(|path| path.display().to_string());
        let program = program.unwrap_or_default();
        let versions = [
            ("understudy", vec![program.as_str(), "--version"]),
            ("haproxy", vec!["haproxy", "-v"]),
            ("nginx", vec!["nginx", "-v"]),
            ("keepalived", vec!["keepalived", "--version"]),
            ("conntrackd", vec!["conntrackd", "-v"]),
            ("rustc", vec!["rustc", "--version"]),
            ("ethtool", vec!["ethtool", "--version"]),
        ];
        let first = |text: &str| text.split_whitespace().next().unwrap_or_default().to_string();
        Environment {
            processor: field(&cpuinfo, "model name"),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            memory_kib: first(&memory).parse().unwrap_or(0),
            kernel: file("/proc/sys/kernel/osrelease"),
            kernel_command_line: file("/proc/cmdline"),
            commit: commit(),
            profile: if cfg!(debug_assertions) { "debug" } else { "release" },
            rustflags: std::env::var("RUSTFLAGS").unwrap_or_default(),
            versions: versions.map(|(name, command)| (name, version(&command))).into(),
            arguments: std::env::args().collect(),
            places: [common.client_cpu, common.server_cpu, common.peer_cpu()],
            load_average: first(&file("/proc/loadavg")),
            offloads: BTreeMap::new(),
        }
    }

    /// Adds the offloads of a bed's interfaces.
    pub fn add_offloads(&mut self, arena: &Arena<'_>, mtu: u32) {
        for place in [Place::Client, Place::Servers, Place::Node(1)] {
            let asked = run(arena.stage.bed.command(place, "ethtool").args(["-k", "eth0"]));
            let text = asked.unwrap_or_default();
            let known = text.lines().filter_map(|line| line.trim().split_once(": "));
            let chosen = known.filter(|(name, _)| OFFLOADS.contains(name));
            let states = chosen.map(|(name, state)| (name.into(), state.into())).collect();
            self.offloads.insert(format!("MTU {mtu}, {place:?}, eth0"), states);
        }
    }
}

fn version(command: &[&str]) -> String {
    let Ok(output) = Command::new(command[0]).args(&command[1..]).output() else {
        return "missing".into();
    };
    // nginx says it on standard error.
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text).lines().next().unwrap_or_default().to_string()
}

fn commit() -> String {
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_string();
        output.status.success().then_some(text)
    };
    let Some(head) = git(&["rev-parse", "HEAD"]) else { return "unknown".into() };
    let differs = git(&["status", "--porcelain"]).is_none_or(|text| !text.is_empty());
    if differs { head + "+" } else { head }
}
