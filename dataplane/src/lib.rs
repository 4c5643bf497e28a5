//! Frames in, frames out: the only crate with unsafe code, threads, a clock and system calls.
pub mod clock;
pub mod config;
pub mod control;
pub mod port;
pub mod random;
pub mod sys;
pub mod xdp_program;
