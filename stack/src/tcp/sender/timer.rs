//! The sender's two timers: the retransmission time-out, and an earlier one for either RACK's
//! reordering window or a tail loss probe.
//!
//! The time-out starts when something is sent while it is not running, starts anew when `snd_una` moves
//! and stops when nothing is outstanding (RFC 6298 5). A probe is scheduled after new data and after
//! every acknowledgement, unless something is known to be lost or out of order (RFC 8985 7.2).

use super::{Doubt, Phase, Sender, Soon, TimeoutOutcome};
use crate::tcp::in_flight::{InFlightPool, Tick};
use crate::tcp::probe::Probe;
use crate::time::{Duration, Instant};

impl Sender {
    /// Time has come to `now`. On `GiveUp` the flow ends; its caller still releases the items.
    pub fn handle_timeout(&mut self, now: Instant, pool: &mut InFlightPool) -> TimeoutOutcome {
        if self.soon != Soon::Nothing && now >= self.soon_at() {
            let soon = core::mem::take(&mut self.soon);
            if soon == Soon::Reorder {
                return self.handle_reorder_timer(now, pool);
            }
            // RFC 8985 7.3: the time-out starts anew after a probe.
            self.probe.handle_timeout();
            self.rto_at = now + self.rto();
            return TimeoutOutcome::Probe;
        }
        if now >= self.rto_at { self.handle_rto(now, pool) } else { TimeoutOutcome::Nothing }
    }

    fn handle_reorder_timer(&mut self, now: Instant, pool: &mut InFlightPool) -> TimeoutOutcome {
        let before = self.flight.lost_bytes;
        let in_recovery = self.in_recovery();
        let again = self.rack.detect(Tick::of(now), &mut self.flight, pool, &self.rtt, in_recovery);
        self.enter_recovery_after(0, 0);
        self.schedule_soon(now, again);
        if self.flight.lost_bytes == before {
            return TimeoutOutcome::Nothing;
        }
        if self.in_fast_recovery() {
            // No acknowledgement paces this: as if one segment had been delivered.
            self.reduce(self.mss as u32, false);
        }
        TimeoutOutcome::Reorder
    }

    /// RFC 6298 5.4 to 5.6, RFC 5681 3.1, RFC 8985 6.3.
    fn handle_rto(&mut self, now: Instant, pool: &mut InFlightPool) -> TimeoutOutcome {
        let secs = (now.millis() / 1_000) as u16;
        let timeouts = self.rtt.handle_timeout();
        if timeouts == 1 {
            self.first_timeout_secs = secs;
        }
        let waited = secs.wrapping_sub(self.first_timeout_secs);
        if timeouts > self.timeouts_max || waited >= self.give_up_secs {
            self.stop_timers();
            return TimeoutOutcome::GiveUp;
        }
        // A loss in fast recovery has been answered for already.
        let first = timeouts == 1 && !self.in_fast_recovery();
        let doubt = self.doubt_timeout(now);
        self.congestion.handle_timeout(self.mss as u32, self.flight.outstanding(), first);
        let (una, rack, rtt) = (self.flight.una, self.rack, self.rtt);
        let (sack, tick) = (self.sack, Tick::of(now));
        self.flight.lose(pool, |segment| {
            let is_late = !sack || rack.is_overdue(tick, segment, &rtt);
            segment.seq == una || (doubt == Doubt::None && is_late)
        });
        self.phase = Phase::Loss(doubt);
        self.recover = self.flight.nxt;
        self.dup_acks = 0;
        self.probe = Probe::default();
        self.rtt.back_off();
        self.rto_at = now + self.rto();
        self.schedule_soon(now, None);
        TimeoutOutcome::Retransmit
    }

    /// After something was sent.
    pub(super) fn start_timers(&mut self, now: Instant) {
        if self.rto_at == Instant::MAX {
            self.rto_at = now + self.rto();
        }
        if self.soon != Soon::Reorder {
            self.schedule_soon(now, None);
        }
    }

    /// After an acknowledgement.
    pub(super) fn restart_timers(&mut self, now: Instant, progress: bool, reorder_us: Option<u32>) {
        if self.flight.is_empty() {
            self.stop_timers();
            return;
        }
        if progress {
            // RFC 6582 3.2 step 3: without SACK only the first partial acknowledgement restarts it.
            let seen = match &mut self.phase {
                Phase::Recovery { partial_seen } if !self.sack => {
                    core::mem::replace(partial_seen, true)
                }
                _ => false,
            };
            if !seen {
                self.rto_at = now + self.rto();
            }
        }
        self.schedule_soon(now, reorder_us);
    }

    pub(super) fn stop_timers(&mut self) {
        self.rto_at = Instant::MAX;
        self.soon = Soon::Nothing;
    }

    /// `reorder_us`: when RACK wants to look again.
    fn schedule_soon(&mut self, now: Instant, reorder_us: Option<u32>) {
        let (soon, us) = if let Some(us) = reorder_us {
            (Soon::Reorder, us)
        } else if let Some(us) = self.probe_delay_us() {
            (Soon::Probe, us)
        } else {
            (Soon::Nothing, 0)
        };
        // A microsecond more, so that the moment is not before what was asked for when rounded down.
        let at = now + Duration::from_micros(us as u64 + 1);
        // A probe comes at the latest instead of the time-out; RACK gives way to it.
        let late = soon == Soon::Reorder && at >= self.rto_at;
        self.soon = if late { Soon::Nothing } else { soon };
        self.soon_at = Tick::of(at.min(self.rto_at));
    }

    /// The earlier of the two timers, given that one is running.
    pub(super) fn soon_at(&self) -> Instant {
        if self.soon == Soon::Nothing {
            return self.rto_at;
        }
        let before = Tick::of(self.rto_at).since(self.soon_at);
        Instant((self.rto_at - Duration::from_micros(before as u64)).0 / 1_000 * 1_000)
    }

    /// RFC 8985 7.2: whether and when to probe.
    fn probe_delay_us(&self) -> Option<u32> {
        let quiet = self.sack
            && self.phase == Phase::Open
            && !self.flight.is_empty()
            && self.probe.is_idle()
            && self.flight.sacked_bytes == 0;
        let srtt_us = self.rtt.srtt_us().filter(|_| quiet)?;
        Some(Probe::delay_us(srtt_us, self.flight.items() == 1))
    }
}
