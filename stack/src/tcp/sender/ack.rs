//! What an acknowledgement does to a sender.
//!
//! In this order: what is delivered leaves the flight; round trips are measured; losses are looked for;
//! recovery is entered, goes on or ends; the window changes; timers start anew. Nothing that a client
//! can put into an acknowledgement is refused here: nonsense has no effect.

use super::{Ack, AckOutcome, Doubt, Phase, Sender, Undo};
use crate::seq::Seq;
use crate::tcp::congestion::Progress;
use crate::tcp::in_flight::{InFlightPool, Place, Segment, Tick};
use crate::tcp::probe::ProbeAnswer;
use crate::tcp::prr::Prr;
use crate::tcp::rack::DUP_THRESH;
use crate::time::{Duration, Instant};

/// What has arrived at the client, as far as one acknowledgement tells.
#[derive(Default)]
pub(super) struct Delivery {
    /// Bytes by which `snd_una` moved.
    pub acked: u32,
    /// Bytes newly sacked.
    sacked: u32,
    /// Bytes newly known to have arrived (DeliveredData of RFC 9937).
    delivered: u32,
    /// A piece sent more than once is among those cumulatively acknowledged.
    resent_acked: bool,
    /// Transmission of the first piece acknowledged that was sent once.
    first: Option<Tick>,
    /// Transmission of the newest piece delivered that was sent once.
    newest: Option<Tick>,
    /// An acknowledgement that acknowledges nothing, although something is outstanding.
    duplicate: bool,
    /// Right edge of the DSACK block.
    dsack_end: Option<Seq>,
    /// Bytes newly found lost.
    lost: u32,
}

impl Delivery {
    fn note(&mut self, segment: &Segment, cumulative: bool) {
        if segment.resent {
            self.resent_acked |= cumulative;
            return;
        }
        if cumulative && self.first.is_none() {
            self.first = Some(segment.sent);
        }
        if self.newest.is_none_or(|newest| segment.sent.after(newest)) {
            self.newest = Some(segment.sent);
        }
    }
}

impl Sender {
    /// An acceptable acknowledgement has come. One below `snd_una` is ignored; one beyond `snd_nxt`
    /// moves there, as a takeover may require.
    pub fn handle_ack(
        &mut self,
        now: Instant,
        pool: &mut InFlightPool,
        ack: &Ack<'_>,
    ) -> AckOutcome {
        if ack.ack.before(self.flight.una) {
            return AckOutcome::default();
        }
        let (phase, outstanding) = (self.phase, self.flight.outstanding());
        let mut delivery = self.take_delivery(now, pool, ack);
        let sample_us = self.sample(now, ack, &delivery);
        if delivery.acked > 0 || ack.window_zero {
            // RFC 9293 MUST-37: a client that answers with a closed window is alive.
            self.rtt.handle_progress();
        }
        let probe_repaired = self.sack && self.answer_probe(ack, &delivery);
        self.handle_doubt(now, pool, ack, &delivery);
        let reorder_us = if self.sack {
            self.detect_by_rack(now, pool, ack, &mut delivery)
        } else {
            self.detect_by_duplicates(pool, &mut delivery);
            None
        };
        if phase == Phase::Open && probe_repaired {
            self.congestion.handle_loss(self.mss as u32, self.flight_of_round(outstanding));
            self.congestion.cwnd = self.congestion.cwnd.min(self.congestion.ssthresh);
            self.undo = Undo::NONE;
        }
        let exited_recovery = self.leave_recovery();
        self.handle_needless(ack, delivery.dsack_end.is_some());
        let entered_recovery = self.enter_recovery(&delivery);
        self.grow(now, phase, outstanding, sample_us, &delivery);
        self.restart_timers(now, delivery.acked > 0, reorder_us);
        AckOutcome {
            newly_acked: delivery.acked,
            newly_sacked: delivery.sacked,
            newly_lost: delivery.lost,
            entered_recovery,
            exited_recovery,
            duplicate_reported: delivery.dsack_end.is_some(),
        }
    }

    /// Takes what is acknowledged out of the flight.
    fn take_delivery(&mut self, now: Instant, pool: &mut InFlightPool, ack: &Ack<'_>) -> Delivery {
        let tick = Tick::of(now);
        let echo_us = ack.rtt.map(micros);
        let (rack, rtt) = (&mut self.rack, &self.rtt);
        let mut delivery =
            Delivery { acked: ack.ack.since(self.flight.una), ..Delivery::default() };
        delivery.duplicate = delivery.acked == 0
            && ack.segment_len == 0
            && !ack.window_update
            && !self.flight.is_empty();
        let acknowledged = self.flight.acknowledge(pool, ack.ack, |segment| {
            delivery.note(segment, true);
            rack.handle_delivered(tick, segment, rtt, echo_us);
        });
        if self.sack && !ack.sack.is_empty() {
            delivery.dsack_end = dsack_end(ack);
            delivery.sacked = self.flight.sack(pool, ack.sack, |segment| {
                delivery.note(segment, false);
                // What arrives out of order is answered with an older echo (RFC 7323 4.3).
                rack.handle_delivered(tick, segment, rtt, None);
            });
        }
        delivery.delivered = acknowledged + delivery.sacked;
        if self.flight.first().is_some_and(|first| pool[first].place == Place::Sacked) {
            // RFC 2018 8: an acknowledgement that stops where we thought data was held.
            delivery.lost += self.flight.lose(pool, |_| false);
        }
        delivery
    }

    /// Round-trip samples (RFC 6298 3, Karn's rule; RFC 7323 4.1). Returns the newest clean one.
    fn sample(&mut self, now: Instant, ack: &Ack<'_>, delivery: &Delivery) -> Option<u32> {
        let tick = Tick::of(now);
        let newest_us = delivery.newest.map(|sent| tick.since(sent));
        if let Some(us) = newest_us {
            self.rtt.sample_min(now, us);
        }
        let clean = delivery.first.filter(|_| !delivery.resent_acked).map(|sent| tick.since(sent));
        let echo = ack.rtt.filter(|_| delivery.acked > 0).map(micros);
        if let Some(us) = clean.or(echo).or(newest_us) {
            self.rtt.sample(us);
        }
        newest_us
    }

    fn answer_probe(&mut self, ack: &Ack<'_>, delivery: &Delivery) -> bool {
        self.probe.handle_ack(ProbeAnswer {
            ack: ack.ack,
            dsack_end: delivery.dsack_end,
            bare_duplicate: delivery.duplicate && ack.sack.is_empty(),
        })
    }

    /// Returns after how many microseconds to look again.
    fn detect_by_rack(
        &mut self,
        now: Instant,
        pool: &mut InFlightPool,
        ack: &Ack<'_>,
        delivery: &mut Delivery,
    ) -> Option<u32> {
        self.rack.handle_round(ack.ack, self.flight.nxt, delivery.dsack_end.is_some());
        if self.phase == Phase::Loss(Doubt::Testing) {
            return None;
        }
        let (before, in_recovery) = (self.flight.lost_bytes, self.in_recovery());
        let again = self.rack.detect(Tick::of(now), &mut self.flight, pool, &self.rtt, in_recovery);
        delivery.lost += self.flight.lost_bytes - before;
        again
    }

    /// RFC 5681 3.2 and RFC 6582, for a client without SACK. A duplicate stands for one segment
    /// delivered somewhere above `snd_una`; a partial acknowledgement takes them back.
    fn detect_by_duplicates(&mut self, pool: &mut InFlightPool, delivery: &mut Delivery) {
        let mss = self.mss as u32;
        let before = self.flight.lost_bytes;
        match self.phase {
            Phase::Loss(_) => self.dup_acks = 0,
            Phase::Open if delivery.acked > 0 => self.dup_acks = 0,
            Phase::Recovery { .. } if delivery.acked > 0 => {
                let others = delivery.acked.div_ceil(mss) - 1;
                let taken = others.min(self.dup_acks as u32);
                self.dup_acks -= taken as u16;
                delivery.delivered = delivery.delivered.saturating_sub(taken * mss);
                if self.flight.una.before(self.recover) {
                    // RFC 6582 3.2 step 3: the hole after a partial acknowledgement.
                    self.lose_first(pool);
                }
            }
            _ if delivery.duplicate && self.dup_acks + 1 < self.flight.items() => {
                self.dup_acks += 1;
                delivery.delivered += mss;
                // RFC 6582 3.2 step 2: not for what was sent before the last recovery.
                let armed = self.phase == Phase::Open && self.flight.una.after(self.recover);
                if armed && self.dup_acks >= DUP_THRESH {
                    self.lose_first(pool);
                }
            }
            _ => {}
        }
        delivery.lost += self.flight.lost_bytes - before;
    }

    fn lose_first(&mut self, pool: &mut InFlightPool) {
        if let Some(first) = self.flight.first()
            && pool[first].place == Place::Network
        {
            self.flight.mark_lost(pool, first);
        }
    }

    fn leave_recovery(&mut self) -> bool {
        let una = self.flight.una;
        if self.phase == Phase::Open {
            if una.after(self.recover) {
                // Keeps it from falling more than 2^31 behind.
                self.recover = una - 1;
            }
            return false;
        }
        if una.before(self.recover) {
            return false;
        }
        if self.in_fast_recovery() {
            // RFC 9937 6: the window ends where it was meant to.
            self.congestion.cwnd = self.congestion.ssthresh;
        }
        self.phase = Phase::Open;
        self.dup_acks = 0;
        self.rack.handle_recovered();
        self.note_undo_end();
        true
    }

    /// Fast recovery begins when something is lost.
    pub(super) fn enter_recovery_after(&mut self, acked: u32, sacked: u32) -> bool {
        if self.phase != Phase::Open || self.flight.lost_bytes == 0 {
            return false;
        }
        self.phase = Phase::Recovery { partial_seen: false };
        self.recover = self.flight.nxt;
        self.undo = Undo::begin(self.congestion.cwnd, self.congestion.ssthresh);
        let outstanding = self.flight.outstanding().saturating_add(acked);
        let pipe = outstanding.saturating_sub(self.flight.sacked_bytes - sacked);
        self.prr = Prr::new(pipe, self.flight_max.min(self.congestion.cwnd));
        self.congestion.handle_loss(self.mss as u32, self.flight_of_round(outstanding));
        true
    }

    fn enter_recovery(&mut self, delivery: &Delivery) -> bool {
        // A reneging client's run may be gone again.
        let sacked = delivery.sacked.min(self.flight.sacked_bytes);
        self.enter_recovery_after(delivery.acked, sacked)
    }

    /// Lets the window follow. `phase` and `outstanding`: before this acknowledgement.
    fn grow(
        &mut self,
        now: Instant,
        phase: Phase,
        outstanding: u32,
        sample_us: Option<u32>,
        delivery: &Delivery,
    ) {
        let mss = self.mss as u32;
        if self.in_fast_recovery() {
            if delivery.delivered > 0 {
                let safe = delivery.acked > 0 && delivery.lost == 0;
                self.reduce(delivery.delivered, safe);
            }
        } else if !matches!(phase, Phase::Recovery { .. }) && delivery.acked > 0 {
            let after_timeout = matches!(phase, Phase::Loss(_));
            let limited = if self.congestion.in_slow_start() {
                self.congestion.cwnd / 2 < self.flight_max
            } else {
                self.is_window_full()
            };
            self.congestion.handle_ack(
                mss,
                &Progress {
                    now: Tick::of(now),
                    acked: delivery.acked.min(outstanding),
                    snd_una: self.flight.una,
                    snd_nxt: self.flight.nxt,
                    rtt_us: sample_us,
                    srtt_us: self.rtt.srtt_us().unwrap_or(0),
                    limited: limited || after_timeout,
                    after_timeout,
                },
            );
        }
    }

    /// Whether the window was full in this round: no other segment would have fitted.
    fn is_window_full(&self) -> bool {
        self.congestion.cwnd <= self.flight_max.saturating_add(self.mss as u32)
    }

    /// The flight that a loss is measured by (FlightSize of RFC 5681), `outstanding` being what is left of it.
    ///
    /// A burst of acknowledgements is handled whole before anything is sent in answer, so at its end little is
    /// outstanding. What was lost was sent in this round, and what the network held then is what counts: the
    /// window, where it was full (RFC 9438 4.6; it may end within a segment), else the most there was.
    fn flight_of_round(&self, outstanding: u32) -> u32 {
        if self.is_window_full() {
            return self.congestion.cwnd;
        }
        outstanding.max(self.flight_max)
    }

    /// One step of proportional rate reduction.
    pub(super) fn reduce(&mut self, delivered: u32, safe: bool) {
        let (pipe, ssthresh) = (self.pipe(), self.congestion.ssthresh);
        self.congestion.cwnd =
            self.prr.handle_delivered(delivered, pipe, ssthresh, self.mss as u32, safe);
    }
}

/// RFC 2883 4: the first block reports a duplicate if it is below SEG.ACK or inside the second.
pub(super) fn dsack_end(ack: &Ack<'_>) -> Option<Seq> {
    let (start, end) = *ack.sack.first()?;
    let below = start.before(end) && end.before_eq(ack.ack);
    let inside = ack.sack.get(1).is_some_and(|(outer_start, outer_end)| {
        start.before(end) && start.after_eq(*outer_start) && end.before_eq(*outer_end)
    });
    (below || inside).then_some(end)
}

fn micros(duration: Duration) -> u32 {
    duration.micros().min(u32::MAX as u64) as u32
}
