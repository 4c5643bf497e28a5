//! Who owns what, and the peer's copy: pure, without clock, socket, thread or randomness.
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;

pub mod id;
pub mod role;
