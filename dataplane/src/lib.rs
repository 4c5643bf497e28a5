//! Frames in, frames out: the only crate with unsafe code, threads, a clock and system calls.
pub mod agent_thread;
pub mod clock;
pub mod config;
pub mod control;
pub mod core;
pub mod crossing;
pub mod files;
pub mod guardian;
pub mod node;
pub mod port;
pub mod random;
pub mod report;
pub mod shared;
pub mod solicited;
pub mod sys;
pub mod witness;
pub mod xdp_program;
