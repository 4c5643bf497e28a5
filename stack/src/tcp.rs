//! The TCP state machine, split by concern.

pub mod congestion;
pub mod in_flight;
pub mod sender;
pub mod state;

pub mod contract;
pub mod deadline;
pub mod delayed_ack;
mod input;
mod keep_alive;
mod open;
mod path;
mod probe;
mod prr;
mod rack;
pub mod reassembly;
mod rtt;
pub mod seat;
mod selective;
mod superframe;
mod timer;
mod transmit;
