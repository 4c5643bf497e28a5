//! The TCP state machine, split by concern.

pub mod in_flight;
pub mod sender;
pub mod state;
