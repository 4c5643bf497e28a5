//! The TCP state machine, split by concern.

pub mod congestion;
pub mod in_flight;
pub mod sender;
pub mod state;

mod probe;
mod prr;
mod rack;
mod rtt;
pub mod contract;
mod input;
pub mod reassembly;
mod timer;
mod transmit;
