//! `echo`: sends back what it gets, and closes when the client has and everything is sent back.
//!
//! What is not acknowledged must be kept, so what the client may still send is the receive buffer less
//! what is held: a client that never reads stops being read, and memory is bounded.
//!
//! Spec: RFC 862 for TCP.

use super::Context;
use crate::output::{OutOfMemory, Output};

/// All input becomes output.
pub fn receive(context: &mut Context, input: &[u8]) -> Result<usize, OutOfMemory> {
    context.output.push_bytes(context.memory, input)?;
    Ok(input.len())
}

/// The client closed: the FIN follows the last echoed byte.
pub fn finish(context: &mut Context) {
    context.output.close();
}

/// The buffer less what is held.
pub fn window_room(output: &Output, receive_buffer: u32) -> u32 {
    u64::from(receive_buffer).saturating_sub(output.held()) as u32
}
