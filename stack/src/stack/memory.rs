//! What a stack takes at start, by sizes of types: an idle flow apart from what only active ones need.
//!
//! | of each flow | bytes |
//! |---|---|
//! | [`Flow`]: contract 64, [`Local`] 144, sender at rest 80, application 40, output 32, backlog 16, key and name 56 | 440 |
//! | link of the free list | 4 |
//! | entry of the flow table: 5 bytes, of which at most 7 of 8 are used, and the table doubles | 11 |
//! | entry of the table of names | 11 |
//! | timer | 16 |
//! | place in the queue of those who may speak | 8 |
//! | what a copy has moved lately | 8 |
//!
//! All of it is taken at start, on every node ([`IDLE_FLOW_BYTES_MAX`]); the whole must stay below 512.

use super::StackConfig;
use super::kick::Kicks;
use crate::app::App;
use crate::flow::{Flow, Local};
use crate::limits::CHUNK_BYTES;
use crate::output::{Output, Piece};
use crate::pool::LINK_BYTES;
use crate::ready::Ready;
use crate::sha256::Sha256;
use crate::tcp::contract::Contract;
use crate::tcp::in_flight::Segment;
use crate::tcp::reassembly::Reassembly;
use crate::tcp::seat::{Active, Seat};
use crate::wheel::Wheel;

/// Bytes of an idle flow at most.
pub const IDLE_FLOW_BYTES_MAX: usize = 500;

const _: () = assert!(size_of::<Contract>() <= 64 && size_of::<Local>() <= 144);
const _: () = assert!(size_of::<Seat>() <= 80 && size_of::<App>() <= 40);
const _: () = assert!(size_of::<Output>() <= 32 && size_of::<Flow>() <= 440);
const _: () =
    assert!(Wheel::TIMER_BYTES == 16 && Ready::PLACE_BYTES == 8 && Kicks::NOTE_BYTES == 8);

/// Bytes that a stack takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StackMemory {
    /// For every flow, whether it is active or not.
    pub flows: usize,
    /// For those that are active: in flight, uploads, payload, output, holes.
    pub active: usize,
}

/// Bytes that a stack with these limits takes at start, but for the wheel's constant part.
pub fn memory_bytes(config: &StackConfig) -> StackMemory {
    let flow = size_of::<Flow>()
        + LINK_BYTES
        + Wheel::TIMER_BYTES
        + Ready::PLACE_BYTES
        + Kicks::NOTE_BYTES;
    let tables = 2 * table_bytes(config.flows_max, size_of::<u32>());
    let active = pool::<Active>(config.active_max)
        + pool::<Segment>(config.segments_max)
        + pool::<Sha256>(config.uploads_max)
        + pool::<Piece>(config.pieces_max)
        + pool::<Reassembly>(config.reassemblies_max)
        + config.chunks_max * (CHUNK_BYTES + LINK_BYTES);
    StackMemory { flows: config.flows_max * flow + tables, active }
}

const fn pool<T>(items: usize) -> usize {
    items * (size_of::<T>() + LINK_BYTES)
}

/// Bytes of a hash table with room for `entries` of `bytes` each: a power of two of buckets with a control
/// byte each, of which seven of eight may be used.
pub const fn table_bytes(entries: usize, bytes: usize) -> usize {
    (entries * 8).div_ceil(7).next_power_of_two() * (bytes + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(flows: usize) -> StackConfig {
        StackConfig {
            node: 1,
            place: crate::shard::Place::ALONE,
            mac: [2; 6],
            secret: [0; 32],
            flows_max: flows,
            active_max: 64,
            uploads_max: 64,
            segments_max: 64,
            chunks_max: 64,
            pieces_max: 64,
            reassemblies_max: 64,
            link_mbits: 10_000,
        }
    }

    /// What one more flow takes, at the sizes that people choose; the table has just doubled at the worst.
    #[test]
    fn an_idle_flow_stays_within_its_budget() {
        let fixed = memory_bytes(&config(0));
        for flows in [65_536, 917_505, 1_000_000, 1 << 24] {
            let memory = memory_bytes(&config(flows));
            assert_eq!(memory.active, fixed.active);
            let each = memory.flows.div_ceil(flows);
            assert!(each <= IDLE_FLOW_BYTES_MAX, "{flows} flows: {each} bytes each");
        }
    }

    /// The budget is what is really taken: what the allocator is asked for, but for hash table padding and the
    /// constant part of the wheel.
    #[test]
    fn a_table_is_as_large_as_said() {
        for entries in [1_000, 65_536, 1_000_000] {
            let table: hashbrown::HashTable<u32> = hashbrown::HashTable::with_capacity(entries);
            let said = table_bytes(entries, size_of::<u32>());
            assert!(table.allocation_size().abs_diff(said) <= 64, "{entries} entries");
        }
    }
}
