//! What a flow that says nothing takes: by the sizes of its parts, and by how much the process has grown.

use stack::flow::{Flow, Local};
use stack::sha256::Sha256;
use stack::tcp::contract::Contract;
use stack::tcp::seat::{Active, Seat};
use std::fs;

/// Named sizes in bytes.
pub fn parts() -> [(&'static str, usize); 6] {
    [
        ("flow", size_of::<Flow>()),
        ("of that contract", size_of::<Contract>()),
        ("local", size_of::<Local>()),
        ("sender at rest", size_of::<Seat>()),
        ("beside it while active: sender", size_of::<Active>()),
        ("upload", size_of::<Sha256>()),
    ]
}

/// Bytes of this process that are in memory; 0 where that cannot be read.
pub fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
