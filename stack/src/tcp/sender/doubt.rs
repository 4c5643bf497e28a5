//! Taking back a time-out that was needless: the path stood still, and nothing was lost.
//!
//! When everything that was in flight arrives in the end, sending it again doubles the load just when the path comes
//! back, and the window has become one segment for nothing. At a time-out only the first segment goes again, so no
//! more is taken for lost until it is known whether that or its repetition was acknowledged: the echoed timestamp
//! tells. A client without timestamps is put to a test: two segments of new data go instead of the next repetitions,
//! and what is acknowledged next was sent only once.
//!
//! ```text
//!            progress; the echo is older than the time-out
//!   Waiting -----------------------------------------------> taken back
//!      |                                                        ^
//!      | progress, no timestamps             progress           |
//!      +---------------------------> Testing -------------------+
//! ```
//!
//! Whatever else comes means that the time-out was needed: then all that was sent before it is lost.
//!
//! Spec: RFC 3522, RFC 5682 3.1 (F-RTO with SACK), RFC 4015 3 (the window by a burst's worth, then by slow start).
//! Left out: F-RTO without SACK, where the answers to late originals and to repetitions look the same too often.

use super::ack::Delivery;
use super::{Ack, Phase, Sender, Undo};
use crate::tcp::in_flight::{InFlightPool, Tick};
use crate::tcp::rack::{Rack, TIMESTAMP_TICK_US};
use crate::time::Instant;

/// What is thought of the time-out of this recovery.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Doubt {
    /// It was needed, or nobody can tell.
    #[default]
    None,
    /// The first segment alone was sent again; nothing has been acknowledged since.
    Waiting,
    /// New data goes instead of repetitions until the next acknowledgement.
    Testing,
}

/// Segments of new data that go as a test (RFC 5682 3.1 step 2).
const TEST_SEGMENTS: u32 = 2;

impl Sender {
    /// A time-out, before it changes anything. In a recovery, or with a hole reported, there is no doubt.
    pub(super) fn doubt_timeout(&mut self, now: Instant) -> Doubt {
        let is_whole = self.flight.sacked_bytes == 0;
        match self.phase {
            Phase::Loss(Doubt::Waiting) if is_whole => Doubt::Waiting,
            Phase::Open if is_whole => {
                self.undo = Undo::begin(self.congestion.cwnd, self.congestion.ssthresh);
                self.timeout_at = Tick::of(now);
                Doubt::Waiting
            }
            _ => {
                self.undo = Undo::NONE;
                Doubt::None
            }
        }
    }

    /// Looks whether an acknowledgement shows that the time-out was needless.
    pub(super) fn handle_doubt(
        &mut self,
        now: Instant,
        pool: &mut InFlightPool,
        ack: &Ack<'_>,
        delivery: &Delivery,
    ) {
        let Phase::Loss(doubt) = self.phase else { return };
        let has_progress = delivery.acked > 0;
        let is_needless = match doubt {
            Doubt::None => return,
            Doubt::Waiting if !has_progress => return,
            Doubt::Waiting => ack.rtt.is_some_and(|echo| {
                let since_us = Tick::of(now).since(self.timeout_at);
                echo.micros() > u64::from(since_us) + u64::from(TIMESTAMP_TICK_US)
            }),
            Doubt::Testing => has_progress,
        };
        if is_needless && self.undo.is_possible() {
            return self.take_back_timeout();
        }
        let is_testable = doubt == Doubt::Waiting
            && self.sack
            && ack.rtt.is_none()
            && self.flight.sacked_bytes == 0
            && self.flight.una.before(self.recover);
        if is_testable {
            self.phase = Phase::Loss(Doubt::Testing);
        } else {
            self.settle_doubt(pool);
        }
    }

    /// The time-out was needless: nothing but the first segment has been taken for lost so far.
    fn take_back_timeout(&mut self) {
        self.phase = Phase::Open;
        // It may have taken an original for its repetition, whose round trip was short.
        self.rack = Rack::resume(self.flight.una, self.rack.reordering());
        self.take_back_reduction();
    }

    /// The time-out was needed: what was sent before it is lost, but for what was reported since.
    fn settle_doubt(&mut self, pool: &mut InFlightPool) {
        self.phase = Phase::Loss(Doubt::None);
        let timeout_at = self.timeout_at;
        self.flight.lose_sent(pool, |segment| !segment.sent.after(timeout_at));
    }

    /// Whether repetitions wait for what new data shows. The test ends when there is no new data for it.
    pub(super) fn is_testing(&mut self, pool: &mut InFlightPool, new_data: bool) -> bool {
        if self.phase != Phase::Loss(Doubt::Testing) {
            return false;
        }
        let is_going_on = new_data || self.flight.nxt.after(self.recover);
        if !is_going_on {
            self.settle_doubt(pool);
        }
        is_going_on
    }

    /// Whether the test has not begun: then new data is wanted, however little.
    pub(super) fn is_test_due(&self) -> bool {
        self.phase == Phase::Loss(Doubt::Testing) && !self.flight.nxt.after(self.recover)
    }

    /// Bytes of new data that the test still wants.
    pub(super) fn test_left(&self) -> Option<u32> {
        let is_testing = self.phase == Phase::Loss(Doubt::Testing);
        let sent = self.flight.nxt.since(self.recover);
        is_testing.then(|| (TEST_SEGMENTS * u32::from(self.mss)).saturating_sub(sent))
    }
}
