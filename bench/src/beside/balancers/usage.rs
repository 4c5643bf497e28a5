//! What was spent: time of the balancer and of the processors, bytes between the nodes.
//!
//! Three times stand beside each other, because each tells less than it seems. *Balancer* is the time of the balancing
//! itself: of a node's rounds that moved a frame, system calls included, less what others took of the processor meanwhile; of
//! another balancer's process, as the scheduler counts it. *Process* is all that the scheduler gave to the processes of the
//! balancing machine, for a node also its rounds that moved nothing, its agent and its guardian. *Core* and *machine* are what
//! the balancer's processor, and all processors of this run, did not idle: with the kernel's work for frames, of which a virtual cable does the receiver's part on
//! the sender's processor.
//!
//! Of a node there are counts beside the times: frames, datagrams, system calls, rounds. They do not depend on what else the
//! machine does.
//!
//! Units: nanoseconds, bytes.

use std::fs;

use anyhow::Context;
use dataplane::control::status::Status;
use tools::load::wire::monotonic_ns;

/// A tick of `/proc/stat`.
const TICK_NS: u64 = 10_000_000;

/// Interface of a node on the clients' side, and on the other nodes'.
const INTERFACES: [&str; 2] = ["eth0", "eth1"];

/// What a node has counted of itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Time of rounds that moved a frame, by the clock.
    pub busy_ns: u64,
    /// Those rounds.
    pub rounds: u64,
    /// Time of every seventeenth round, by the clock.
    pub sampled_ns: u64,
    /// For how long of that the scheduler let the poll cores run.
    pub sampled_cpu_ns: u64,
    /// Frames of clients and servers.
    pub frames_in: u64,
    /// Frames to them.
    pub frames_out: u64,
    /// Datagrams between the nodes, both ways.
    pub datagrams: u64,
    /// Bytes of them.
    pub cluster_bytes: u64,
    /// System calls that sent something.
    pub calls: u64,
}

/// Counters as they stand.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    at_ns: u64,
    process_ns: u64,
    /// Of the peer's machine.
    peer_ns: u64,
    core_idle_ns: u64,
    load_idle_ns: u64,
    /// Of a node of ours.
    node: Option<Counts>,
}

/// What was spent between two looks.
#[derive(Debug, Clone, Copy, Default)]
pub struct Spent {
    /// How long it was.
    pub wall_ns: u64,
    /// See the module.
    pub balancer_ns: u64,
    /// See the module.
    pub process_ns: u64,
    /// Processes of the peer's machine.
    pub peer_ns: u64,
    /// The balancer's processor.
    pub core_ns: u64,
    /// The processor of clients and servers.
    pub load_ns: u64,
    /// Of a node of ours.
    pub node: Option<Counts>,
}

/// What is looked at.
pub struct Look {
    /// Processes of the balancing machine, and of its peer.
    pub pids: [Vec<i32>; 2],
    /// The balancer's processor, and that of the load.
    pub processors: [u16; 2],
    /// Of a node of ours.
    pub node: Option<Counts>,
}

impl Counts {
    /// What a node says.
    pub fn of(status: &Status) -> Counts {
        let [clients, nodes] = INTERFACES.map(|name| {
            let ports = status.ports.iter().filter(move |port| port.interface == name);
            move |counter| ports.clone().filter_map(|port| port.counters.get(counter)).sum::<u64>()
        });
        Counts {
            busy_ns: status.cores.iter().map(|core| core.busy_us * 1_000).sum(),
            sampled_ns: status.cores.iter().map(|core| core.sampled_us * 1_000).sum(),
            sampled_cpu_ns: status.cores.iter().map(|core| core.sampled_cpu_us * 1_000).sum(),
            rounds: status.cores.iter().map(|core| core.busy_rounds).sum(),
            frames_in: clients("rx_frames"),
            frames_out: clients("tx_frames"),
            datagrams: nodes("rx_frames") + nodes("tx_frames"),
            cluster_bytes: nodes("rx_bytes") + nodes("tx_bytes"),
            calls: clients("kicks") + nodes("kicks"),
        }
    }

    fn since(&self, earlier: &Counts) -> Counts {
        Counts {
            busy_ns: self.busy_ns.saturating_sub(earlier.busy_ns),
            sampled_ns: self.sampled_ns.saturating_sub(earlier.sampled_ns),
            sampled_cpu_ns: self.sampled_cpu_ns.saturating_sub(earlier.sampled_cpu_ns),
            rounds: self.rounds.saturating_sub(earlier.rounds),
            frames_in: self.frames_in.saturating_sub(earlier.frames_in),
            frames_out: self.frames_out.saturating_sub(earlier.frames_out),
            datagrams: self.datagrams.saturating_sub(earlier.datagrams),
            cluster_bytes: self.cluster_bytes.saturating_sub(earlier.cluster_bytes),
            calls: self.calls.saturating_sub(earlier.calls),
        }
    }

    /// Time of rounds that moved a frame, of which as much is left out as others took the processor from all rounds: agents,
    /// whose threads go first, take it at any moment.
    fn balancer_ns(&self) -> u64 {
        let ran = self.sampled_cpu_ns.min(self.sampled_ns) as f64;
        (self.busy_ns as f64 * ran / self.sampled_ns.max(1) as f64) as u64
    }
}

impl Usage {
    /// Looks.
    pub fn of(look: &Look) -> anyhow::Result<Usage> {
        let [process_ns, peer_ns] =
            [0, 1].map(|n| look.pids[n].iter().map(|pid| ran_ns(*pid)).sum());
        let stat = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
        let [core_idle_ns, load_idle_ns] = look.processors.map(|cpu| idle_ns(&stat, cpu));
        let at_ns = monotonic_ns();
        Ok(Usage { at_ns, process_ns, peer_ns, core_idle_ns, load_idle_ns, node: look.node })
    }

    /// Since an earlier look.
    pub fn since(&self, earlier: &Usage) -> Spent {
        let wall_ns = self.at_ns - earlier.at_ns;
        let busy = |now: u64, then: u64| wall_ns.saturating_sub(now.saturating_sub(then));
        let process_ns = self.process_ns.saturating_sub(earlier.process_ns);
        let node = self.node.zip(earlier.node).map(|(now, then)| now.since(&then));
        Spent {
            wall_ns,
            balancer_ns: node.map_or(process_ns, |node| node.balancer_ns().min(process_ns)),
            process_ns,
            peer_ns: self.peer_ns.saturating_sub(earlier.peer_ns),
            core_ns: busy(self.core_idle_ns, earlier.core_idle_ns),
            load_ns: busy(self.load_idle_ns, earlier.load_idle_ns),
            node,
        }
    }
}

impl Spent {
    /// Between the nodes, both ways.
    pub fn cluster_bytes(&self) -> u64 {
        self.node.map_or(0, |node| node.cluster_bytes)
    }

    /// Both processors.
    pub fn machine_ns(&self) -> u64 {
        self.core_ns + self.load_ns
    }

    /// The share of the time in which the load's processor did not idle, in per cent.
    pub fn load_percent(&self) -> f64 {
        self.load_ns as f64 * 100.0 / self.wall_ns.max(1) as f64
    }
}

/// How long the scheduler let the threads of a process run. One that has ended counts no more.
fn ran_ns(pid: i32) -> u64 {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return 0 };
    let files = threads.flatten().map(|thread| thread.path().join("schedstat"));
    let first = |text: String| text.split(' ').next().and_then(|word| word.parse::<u64>().ok());
    files.filter_map(|file| first(fs::read_to_string(file).ok()?)).sum()
}

/// How long a processor has idled, or was taken from this machine by its host.
fn idle_ns(stat: &str, processor: u16) -> u64 {
    let name = format!("cpu{processor} ");
    let Some(rest) = stat.lines().find_map(|line| line.strip_prefix(&name)) else { return 0 };
    let fields: Vec<u64> = rest.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal
    let idle = [3, 4, 7].into_iter().filter_map(|at| fields.get(at)).sum::<u64>();
    idle * TICK_NS
}

/// Resident bytes of processes.
pub fn resident(pids: &[i32]) -> u64 {
    let of = |pid: &i32| {
        let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    pids.iter().filter_map(of).sum::<u64>() << 10
}

/// Bytes that the kernel holds in its slabs, where sockets are.
pub fn slab() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Slab:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processor_idles_when_it_waits_or_is_taken_away() {
        let stat =
            "cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 1 1 1 1 1 1 1 1 0 0\ncpu1 5 0 7 100 20 1 2 3 0 0\n";
        assert_eq!(idle_ns(stat, 1), 123 * TICK_NS);
        assert_eq!(idle_ns(stat, 10), 0);
    }

    #[test]
    fn what_did_not_idle_was_busy() {
        let then = Usage { at_ns: 1_000, process_ns: 10, core_idle_ns: 100, ..Usage::default() };
        let now = Usage { at_ns: 3_000, process_ns: 60, core_idle_ns: 600, ..Usage::default() };
        let spent = now.since(&then);
        assert_eq!((spent.wall_ns, spent.balancer_ns, spent.core_ns), (2_000, 50, 1_500));
        assert_eq!(spent.machine_ns(), 3_500);
        assert_eq!(spent.load_percent(), 100.0);
    }

    /// Of 800 ns of rounds the scheduler gave 600; of 400 ns that were busy, 300 then.
    #[test]
    fn what_others_took_of_the_processor_is_not_the_balancers() {
        let counts = |busy_ns, sampled_ns, sampled_cpu_ns| {
            Some(Counts { busy_ns, sampled_ns, sampled_cpu_ns, ..Counts::default() })
        };
        let then = Usage { node: counts(100, 200, 200), ..Usage::default() };
        let spent =
            |node| Usage { node, process_ns: 900, ..Usage::default() }.since(&then).balancer_ns;
        assert_eq!(spent(counts(500, 1_000, 800)), 300);
        assert_eq!(spent(counts(500, 1_000, 1_100)), 400, "clocks differ a little");
        assert_eq!(spent(then.node), 0);
    }
}
