//! Who owns what, and the peer's copy: pure, without clock, socket, thread or randomness.
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;

pub mod agent;
pub mod detector;
pub mod id;
pub mod lease;
pub mod message;
pub mod register;
pub mod role;
pub mod witness;
pub mod backup;
pub mod engine;
pub mod limits;
pub mod link;
pub mod log;
pub mod mirror;
