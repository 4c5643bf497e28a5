//! Who owns what, and the peer's copy: pure, without clock, socket, thread or randomness.
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;

pub mod agent;
pub mod backup;
pub mod detector;
pub mod engine;
pub mod gather;
pub mod id;
pub mod lease;
pub mod limits;
pub mod link;
pub mod log;
pub mod message;
pub mod mirror;
pub mod path;
pub mod register;
pub mod role;
pub mod seal;
pub mod surrender;
pub mod witness;
