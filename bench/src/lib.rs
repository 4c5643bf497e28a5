//! What the segment path costs: a bed of two engines in memory, and the means to count and to show.
//!
//! The bench itself is `benches/segment_path.rs`; README.md says how to run and read it.

pub mod bed;
pub mod burst;
pub mod callgrind;
pub mod client;
pub mod kept;
pub mod memory;
pub mod pair;
pub mod proxied;
pub mod report;
pub mod step;
