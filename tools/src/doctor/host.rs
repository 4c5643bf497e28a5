//! This machine, without its network: kernel, privileges, memory, cores, clock.

use std::path::Path;
use std::time::Instant;
use std::{fs, thread};

use dataplane::config::Idle;
use dataplane::{clock, sys};
use nix::sys::resource::{Resource, getrlimit};

use super::{Level, Patient};

/// Numbers of `linux/capability.h`.
const NET_ADMIN: u32 = 12;
const NET_RAW: u32 = 13;
const IPC_LOCK: u32 = 14;
const SYS_ADMIN: u32 = 21;
const BPF: u32 = 39;

/// Descriptors that a node opens at most, with room for operators and scrapers.
const DESCRIPTORS: u64 = 1024;

/// A node's heartbeat thread runs ahead of every ordinary thread.
const PRIORITY: i32 = 50;

/// Reads of the clock of which the mean is shown.
const CLOCK_READS: u32 = 1_000;

/// A clock that takes longer than this to read makes itself felt in every poll.
const CLOCK_READ_NS: u128 = 200;

/// Looks at all of it.
pub fn look(patient: &mut Patient<'_>) {
    kernel(patient);
    privileges(patient);
    memory(patient);
    cores(patient);
    time(patient);
}

fn kernel(patient: &mut Patient<'_>) {
    let release = text("/proc/sys/kernel/osrelease");
    let protocols = text("/proc/net/protocols");
    let (level, says) = match protocols.lines().any(|line| line.starts_with("XDP ")) {
        true => (Level::Ok, format!("Linux {release} with AF_XDP")),
        false => (
            Level::Problem,
            format!("Linux {release} has no AF_XDP: take one with CONFIG_XDP_SOCKETS"),
        ),
    };
    patient.find("kernel", level, says);
}

fn privileges(patient: &mut Patient<'_>) {
    let status = text("/proc/self/status");
    let word = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let held = word.and_then(|word| u64::from_str_radix(word.trim(), 16).ok()).unwrap_or(0);
    let has = |bit: u32| held >> bit & 1 == 1;
    let needed = [
        ("CAP_NET_RAW", has(NET_RAW)),
        ("CAP_NET_ADMIN", has(NET_ADMIN)),
        ("CAP_BPF", has(BPF) || has(SYS_ADMIN)),
    ];
    let missing: Vec<&str> = needed.iter().filter(|(_, has)| !has).map(|(name, _)| *name).collect();
    match missing.is_empty() {
        true => {
            patient.find("privileges", Level::Ok, "CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF are held")
        }
        false => {
            let says = format!("{} missing: run it as root, or give it these", missing.join(", "));
            patient.find("privileges", Level::Problem, says);
        }
    }
    let limits = &patient.config.limits;
    let ports = {
        let interfaces = &patient.config.interfaces;
        interfaces.client.queues.len() + interfaces.cluster.queues.len()
    };
    let locked = u64::from(limits.frames) * 4096 * ports as u64;
    let may_lock = getrlimit(Resource::RLIMIT_MEMLOCK).map_or(0, |(soft, _)| soft);
    if has(IPC_LOCK) || may_lock >= locked {
        let says = format!("{} MiB for the ports' frames can be locked", locked >> 20);
        patient.find("locked memory", Level::Ok, says);
    } else {
        let says = format!(
            "the ports' frames take {} MiB and {} may be locked: give CAP_IPC_LOCK, or raise `ulimit -l`",
            locked >> 20,
            mebibytes(may_lock),
        );
        patient.find("locked memory", Level::Problem, says);
    }
    let open = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft);
    if open < DESCRIPTORS {
        let says = format!(
            "{open} files may be open; {DESCRIPTORS} are enough for any node: raise `ulimit -n`"
        );
        patient.find("open files", Level::Warning, says);
    }
    // On a thread of its own, which ends with its priority.
    match thread::spawn(|| sys::set_realtime(PRIORITY)).join() {
        Ok(Ok(())) => patient.find(
            "scheduling",
            Level::Ok,
            "heartbeats may run ahead of ordinary threads (SCHED_FIFO)",
        ),
        _ => {
            let says = "heartbeats cannot run ahead of ordinary threads: give CAP_SYS_NICE, or a busy machine looks dead";
            patient.find("scheduling", Level::Warning, says);
        }
    }
}

fn memory(patient: &mut Patient<'_>) {
    let wanted = patient.config.memory_bytes();
    let info = text("/proc/meminfo");
    let kibibytes = |name: &str| {
        let line = info.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0)
    };
    let set_aside = kibibytes("HugePages_Free:") * (kibibytes("Hugepagesize:") << 10);
    let free = (kibibytes("MemAvailable:") << 10) + set_aside;
    if patient.running.is_none() {
        let both =
            format!("a node takes {} at start, {} are there", mebibytes(wanted), mebibytes(free));
        match free > wanted {
            true => patient.find("memory", Level::Ok, both),
            false => patient.find(
                "memory",
                Level::Problem,
                both + ": lower [limits], which `understudy check` adds up",
            ),
        }
        let transparent = text("/sys/kernel/mm/transparent_hugepage/enabled");
        let by_itself = !transparent.is_empty() && !transparent.contains("[never]");
        let (level, says) = match (set_aside >= wanted, by_itself) {
            (true, _) => (Level::Ok, format!("{} set aside", mebibytes(set_aside))),
            (false, true) => (
                Level::Ok,
                "the kernel makes them where it finds room (transparent huge pages)".to_string(),
            ),
            (false, false) => (
                Level::Warning,
                format!(
                    "none: a process of this size is not gone at once when it dies; \
                     `sysctl vm.nr_hugepages={}`, or allow transparent ones",
                    wanted.div_ceil(2 << 20)
                ),
            ),
        };
        patient.find("huge pages", level, says);
    }
}

fn cores(patient: &mut Patient<'_>) {
    let isolated = listed(&text("/sys/devices/system/cpu/isolated"));
    let config = patient.config;
    for &core in &config.cores.pin {
        let topic = format!("core {core}");
        if thread::spawn(move || sys::pin_to_core(core.into()))
            .join()
            .is_ok_and(|pinned| pinned.is_err())
        {
            let says =
                "there is no such processor, or this process may not use it: see [cores] pin";
            patient.find(topic, Level::Problem, says);
            continue;
        }
        let governor = text(&format!("/sys/devices/system/cpu/cpu{core}/cpufreq/scaling_governor"));
        let speed = match governor.as_str() {
            "" | "performance" => String::new(),
            other => {
                format!("; its governor is {other}, which wakes it slowly: set it to performance")
            }
        };
        let level = match (isolated.contains(&core), config.cores.idle) {
            (true, _) if speed.is_empty() => Level::Ok,
            (false, Idle::Busy) => Level::Warning,
            _ if !speed.is_empty() => Level::Warning,
            _ => Level::Note,
        };
        let kept = match isolated.contains(&core) {
            true => "kept free of other work",
            false => {
                "shared with whatever else runs here: boot with isolcpus= and nohz_full= for the lowest tail"
            }
        };
        patient.find(topic, level, format!("{kept}{speed}"));
    }
}

/// The processors of a list such as "1-3,8".
fn listed(text: &str) -> Vec<u16> {
    let ranges = text.split(',').filter_map(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.trim().parse::<u16>().ok()?..=last.trim().parse().ok()?)
    });
    ranges.flatten().collect()
}

fn time(patient: &mut Patient<'_>) {
    let source = text("/sys/devices/system/clocksource/clocksource0/current_clocksource");
    let began = Instant::now();
    for _ in 0..CLOCK_READS {
        std::hint::black_box(clock::now());
    }
    let each = began.elapsed().as_nanos() / u128::from(CLOCK_READS);
    let source = if source.is_empty() { "unknown" } else { &source };
    let says =
        format!("source {source}, {each} ns a reading; leases do not depend on the time of day");
    match each > CLOCK_READ_NS {
        true => patient.find(
            "clock",
            Level::Warning,
            says + ", but a poll reads it twice: take a source like tsc",
        ),
        false => patient.find("clock", Level::Ok, says),
    }
}

/// What a file of the kernel's says; nothing if it is not there.
fn text(path: &str) -> String {
    fs::read_to_string(Path::new(path)).unwrap_or_default().trim().to_string()
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_processors_are_read() {
        assert_eq!(listed("1-3,8"), [1, 2, 3, 8]);
        assert_eq!(listed(""), [0u16; 0]);
        assert_eq!(listed("x,2"), [2]);
    }
}
