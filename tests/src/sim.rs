//! A whole cluster in one process: the program's agents, witness and poll loops over a simulated network and clock.
//!
//! Everything follows from one seed: who connects and says what, how fast clocks run, what the networks do to each
//! frame, and what goes wrong when. `tale` draws a story and `mishap` what goes wrong in it, `story` plays it,
//! `check` and `world` have what must hold at every frame. Nothing is faked but the edges: queues for NICs, a clock, wires.
//!
//! Units: nanoseconds of true time, unless a type says otherwise.

pub mod capture;
pub mod check;
pub mod clock;
mod denial;
pub mod failure;
pub mod fault;
pub mod host;
mod manners;
mod mishap;
pub mod named;
pub mod neighbor;
pub mod network;
pub mod node;
pub mod port;
pub mod pulse;
pub mod server;
pub mod shrink;
pub mod story;
mod tale;
mod wake;
pub mod workload;
pub mod world;
