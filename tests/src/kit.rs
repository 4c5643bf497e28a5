//! Clients, a switch and two nodes in memory: deterministic, with a virtual clock and one seed.
//!
//! ```text
//! Client (smoltcp) --+                +-- Node 0: Engine --+
//! Raw (by hand)  ----+--- switch -----+                    +-- cluster link
//!                                     +-- Node 1: Engine --+
//! ```
//!
//! The nodes are real engines and see real frames on both sides; nothing of them is faked but the
//! wires. The agent is not part of the kit: roles are set by commands. Each frame carries out of band who
//! sent it, in which epoch and when.

pub mod client;
pub mod dialogue;
pub mod kill;
pub(crate) mod packets;
pub mod random;
pub mod raw;
pub mod settings;
pub mod workload;
pub mod world;
