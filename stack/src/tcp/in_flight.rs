//! What has been sent and not yet acknowledged.

use crate::pool::Pool;
use crate::seq::Seq;

/// The items in which all flows of a core keep their unacknowledged segments.
pub type InFlightPool = Pool<Segment>;

/// A moment in microseconds, modulo 2^32; two can be compared while they are less than 35 minutes apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tick(pub u32);

/// One unacknowledged piece of the sequence space: a segment as it was sent, or a run of selectively
/// acknowledged ones.
#[derive(Clone, Copy, Debug, Default)]
pub struct Segment {
    pub(super) seq: Seq,
    pub(super) len: u32,
    pub(super) sent: Tick,
    pub(super) prev: u32,
    pub(super) next: u32,
    pub(super) queue_prev: u32,
    pub(super) queue_next: u32,
    pub(super) segments: u16,
    pub(super) flags: u8,
}
