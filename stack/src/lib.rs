//! The protocol, pure: a TCP whose flows are plain values.
//!
//! Nothing here reads a clock, opens a socket, draws a random number, logs or depends on the order of
//! a hash table: time and frames are arguments, frames and facts are results. A flow's *contract*
//! (what a client can hold us to) changes only when a [`fact::Fact`] is applied; the owner and its
//! peer apply the same facts with the same code and so hold the same contract.
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;

pub mod app;
pub mod bytes;
pub mod codec;
pub mod content;
pub mod drop;
pub mod fact;
pub mod flow;
pub mod generate;
pub mod key;
pub mod legs;
pub mod limits;
pub mod output;
pub mod pool;
pub mod ready;
pub mod recent;
pub mod recorder;
pub mod reply;
pub mod seq;
pub mod service;
pub mod sha256;
pub mod shard;
pub mod snapshot;
pub mod stack;
pub mod tcp;
pub mod time;
pub mod upstream;
pub mod wheel;
pub mod wire;
