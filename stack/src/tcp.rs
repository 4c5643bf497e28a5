//! The TCP state machine, split by concern.

pub mod state;
