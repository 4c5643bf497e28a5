//! The in-memory kit and the tests above unit level.
#![forbid(unsafe_code)]

pub mod fuzz;
pub mod kit;
pub mod nic;
pub mod sim;
