//! Every bound of the stack that is not a run-time setting, with unit and reason.

/// Bytes of an HTTP request head at most: what nginx and HAProxy accept by default, rounded.
pub const HTTP_HEAD_BYTES_MAX: usize = 8192;

/// Responses that one HTTP flow may have queued, in pieces (a head and a body are two): a pipelining
/// client waits beyond that.
pub const OUTPUT_PIECES_MAX: usize = 16;
