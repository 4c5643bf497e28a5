//! Everything an operator does with the appliance, one module per subcommand of `understudy`.
//!
//! A library only so that tests can build the bed of the demo and drive its clients themselves; the
//! command line is in `main.rs`.

use std::io::Write;

pub mod bench;
pub mod check;
pub mod confirm_dead;
pub mod demo;
pub mod doctor;
pub mod flows;
pub mod handover;
pub mod impair;
pub mod keygen;
pub mod load;
pub mod manager;
pub mod ownership;
pub mod reload;
pub mod run;
pub mod servers;
pub mod status;
pub mod top;
pub mod views;
pub mod why;
pub mod witness;

/// Writes to standard output. A reader that has seen enough (`| head`) is no failure.
pub fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}
