//! `discard`: reads everything, says nothing, closes when the client does.
//!
//! Spec: RFC 863 for TCP.

use super::Context;

/// The client closed: so do we.
pub fn finish(context: &mut Context) {
    context.output.close();
}
