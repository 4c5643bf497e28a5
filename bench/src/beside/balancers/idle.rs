//! What a connection takes that says nothing: of the balancer's processes, and of the kernel.
//!
//! A balancer of the kernel's TCP grows by what its connections take. A node has all its memory from the start, so two nodes are
//! compared, one of which has room for so many more connections, each of which is two flows. Sockets of clients and servers
//! are in the same kernel; what they take is measured without a balancer and left out.
//!
//! Units: bytes a connection.

use super::arena::{Arena, Standing};
use super::measure::Sample;
use super::rival::{Ask, Rival};
use super::usage::{resident, slab};
use crate::Common;
use crate::held::Held;

/// Connections, as many as a process may hold where descriptors are few.
const CONNECTIONS: u32 = 5_000;

/// Flows of the smaller of two nodes.
const FLOWS_FEW: u32 = 4_096;

/// Measures a balancer; `sockets` is what a connection takes without any.
pub fn take(
    arena: &Arena<'_>,
    common: &Common,
    rival: Rival,
    sockets: f64,
) -> anyhow::Result<Vec<Sample>> {
    let unit = "bytes each";
    if rival.is_ours() {
        let [few, many] = [FLOWS_FEW, FLOWS_FEW + 2 * CONNECTIONS];
        let small = room_for(arena, common, rival, few, few / 2 - 512)?;
        let large = room_for(arena, common, rival, many, CONNECTIONS)?;
        let extra = f64::from((many - few) / 2);
        let each = |node: usize| (large[node] - small[node]) / extra;
        let mut samples = vec![Sample { metric: "process", unit, value: each(0) }];
        if rival != Rival::Alone {
            samples.push(Sample { metric: "peer", unit, value: each(1) });
        }
        return Ok(samples);
    }
    let standing = arena.start(rival)?;
    let before = (resident(&standing.pids(1)), slab());
    let held = hold(arena, common, &standing, CONNECTIONS)?;
    let after = (resident(&standing.pids(1)), slab());
    drop(held);
    let each = |after: u64, before: u64| (after as f64 - before as f64) / f64::from(CONNECTIONS);
    let kernel = each(after.1, before.1) - sockets;
    Ok(vec![
        Sample { metric: "process", unit, value: each(after.0, before.0) },
        Sample { metric: "kernel", unit, value: kernel },
    ])
}

/// Resident bytes of owner and peer with room for so many flows, so many connections open.
fn room_for(
    arena: &Arena<'_>,
    common: &Common,
    rival: Rival,
    flows: u32,
    connections: u32,
) -> anyhow::Result<[f64; 2]> {
    let mut setup = arena.setup(rival, flows);
    // What connections need while they do something is the same in both.
    setup.active = FLOWS_FEW;
    let standing = arena.start_with(rival, &setup)?;
    let _held = hold(arena, common, &standing, connections)?;
    Ok([1, 2].map(|node| resident(&standing.pids(node)) as f64))
}

fn hold(
    arena: &Arena<'_>,
    common: &Common,
    standing: &Standing<'_>,
    connections: u32,
) -> anyhow::Result<Held> {
    let target = standing.rival.target(Ask::Pages);
    let mut held = Held::begin(&arena.stage, common.client_cpu, target, connections)?;
    held.wait_open()?;
    Ok(held)
}
