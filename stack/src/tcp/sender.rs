//! The sending side's local state: what is in flight, what is lost, what may be sent now.
//!
//! None of it is part of the contract: it is never mirrored, and after a takeover it starts anew from
//! a hint. `Sender` never decides which bytes there are. The flow reports what it sends and what is
//! acknowledged, asks what must be sent again and how much new data may go, and reads payload by
//! sequence number when it does.
//!
//! ```text
//!           3 duplicates, RACK            snd_una reaches recover
//!   Open ----------------------> Recovery -----------------------> Open
//!    |  ^                           |
//!    |  +--- snd_una reaches        | time-out
//!    +-----> recover ---- Loss <----+
//!   time-out
//! ```
//!
//! A time-out that turns out to have been needless leads from Loss back to Open at once (`doubt.rs`), and a
//! recovery likewise (`undo.rs`).
//!
//! Without SACK, loss is found by three duplicate acknowledgements and then one segment per partial
//! acknowledgement; each duplicate counts as a segment that has left the network, which is limited
//! transmit and window inflation in one.
//!
//! Acknowledgements come in bursts, and the whole burst is handled before anything is sent. So what is outstanding
//! in its midst says nothing of the path; where a flight has to be judged, it is the largest of the round
//! (`flight_max`).
//!
//! Path: step 8 (what may be sent) and on every acknowledgement.
//! Spec: RFC 5681, 6298, 6582, 3042, 6675 (pipe), 8985, 9937, 9438, 9406; 9293 3.8.3 (R2). 3708 (`undo.rs`), 3522, 5682
//! (`doubt.rs`). Left out: ECN, pacing, persist timer (the flow's, with `rto()`).
//! Bounds: `FLIGHT_ITEMS_MAX` pieces in flight; 224 bytes besides the pool's items, while something is in
//! flight ([`Resting`] otherwise).
//! Units: bytes of sequence space.

mod ack;
mod doubt;
mod event;
mod path;
mod resting;
mod timer;
mod undo;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use crate::seq::Seq;
pub use crate::tcp::congestion::Algorithm;
use crate::tcp::congestion::Congestion;
use crate::tcp::in_flight::{InFlight, InFlightPool, Place, Segment, Tick};
use crate::tcp::probe::Probe;
use crate::tcp::prr::Prr;
use crate::tcp::rack::Rack;
use crate::tcp::rtt::Rtt;
use crate::time::{Duration, Instant};
use doubt::Doubt;
pub use event::{Ack, AckOutcome, Hint, Resend, SendRefused, SenderConfig, TimeoutOutcome};
pub use resting::Resting;
use undo::Undo;

/// What is going on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Phase {
    /// Nothing is known to be lost.
    #[default]
    Open,
    /// Fast recovery until `recover` is acknowledged.
    Recovery {
        /// A partial acknowledgement has come; without SACK only.
        partial_seen: bool,
    },
    /// Recovery after a retransmission time-out, until `recover` is acknowledged.
    Loss(Doubt),
}

/// What `soon_at` is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Soon {
    #[default]
    Nothing,
    Reorder,
    Probe,
}

/// Loss recovery and congestion control of one flow.
///
/// Polling order after every input: `poll_resend` with `handle_resent` until it is `None`, then new data
/// while `window_left` allows with `handle_sent`, then `poll_timeout`.
#[derive(Clone, Debug)]
pub struct Sender {
    flight: InFlight,
    rtt: Rtt,
    rack: Rack,
    probe: Probe,
    prr: Prr,
    congestion: Congestion,
    /// Retransmission time-out; MAX: not running.
    rto_at: Instant,
    /// The earlier timer, see `soon`; never later than `rto_at`.
    soon_at: Tick,
    /// Recovery ends when this is acknowledged; without SACK none begins before.
    recover: Seq,
    /// Most bytes in the network since the round began whose end is `limited_end`.
    flight_max: u32,
    limited_end: Seq,
    last_sent: Tick,
    resent_segments: u32,
    undo: Undo,
    /// When the first of the consecutive time-outs was, while it is in doubt.
    timeout_at: Tick,
    mss: u16,
    /// Duplicate acknowledgements that count as segments delivered; without SACK only.
    dup_acks: u16,
    /// When the first of the consecutive time-outs was, in seconds modulo 2^16.
    first_timeout_secs: u16,
    give_up_secs: u16,
    timeouts_max: u8,
    phase: Phase,
    soon: Soon,
    sack: bool,
}

const _: () = assert!(core::mem::size_of::<Sender>() <= SENDER_BYTES_MAX);

/// Bytes of one sender.
const SENDER_BYTES_MAX: usize = 224;

impl Default for Sender {
    fn default() -> Sender {
        Sender::new(Instant::ZERO, &SenderConfig::default(), Seq(0), 536, false)
    }
}

impl Sender {
    /// A sender whose first sequence number will be `snd_una`, with nothing in flight. A flow that opens
    /// actively gives `iss`, reports its SYN by `handle_sent` with length 1, and calls `handle_handshake`.
    pub fn new(now: Instant, config: &SenderConfig, snd_una: Seq, mss: u16, sack: bool) -> Sender {
        let mss = mss.max(1);
        let (give_up_secs, timeouts_max) = Sender::patience(config);
        Sender {
            flight: InFlight::new(snd_una),
            rtt: Rtt::new(config.rto_min, config.rto_max),
            rack: Rack::new(snd_una),
            congestion: Congestion::new(config.algorithm, mss, snd_una),
            recover: snd_una - 1,
            limited_end: snd_una,
            last_sent: Tick::of(now),
            mss,
            give_up_secs,
            timeouts_max,
            sack,
            ..Sender::EMPTY
        }
    }

    /// No estimates, nothing in flight, no timer.
    const EMPTY: Sender = Sender {
        flight: InFlight::new(Seq(0)),
        rtt: Rtt::EMPTY,
        rack: Rack::new(Seq(0)),
        probe: Probe::IDLE,
        prr: Prr::NONE,
        congestion: Congestion::new(Algorithm::Cubic, 1, Seq(0)),
        rto_at: Instant::MAX,
        soon_at: Tick(0),
        recover: Seq(0),
        flight_max: 0,
        limited_end: Seq(0),
        last_sent: Tick(0),
        resent_segments: 0,
        undo: Undo::NONE,
        timeout_at: Tick(0),
        mss: 1,
        dup_acks: 0,
        first_timeout_secs: 0,
        give_up_secs: 0,
        timeouts_max: 0,
        phase: Phase::Open,
        soon: Soon::Nothing,
        sack: false,
    };

    /// After how many seconds and time-outs a flow gives up.
    fn patience(config: &SenderConfig) -> (u16, u8) {
        let give_up_secs = (config.give_up_after.millis() / 1_000).min(u16::MAX as u64) as u16;
        (give_up_secs, config.timeouts_max)
    }

    /// After a takeover: nothing in flight, slow start from the hint, time-out not backed off.
    pub fn resume(
        now: Instant,
        config: &SenderConfig,
        snd_una: Seq,
        mss: u16,
        sack: bool,
        hint: Hint,
    ) -> Sender {
        let mut sender = Sender::new(now, config, snd_una, mss, sack);
        sender.rtt.seed(hint.srtt_us);
        sender.congestion.resume(hint.cwnd);
        sender
    }

    /// Congestion window.
    pub fn cwnd(&self) -> u32 {
        self.congestion.cwnd
    }

    /// Slow start threshold; `u32::MAX` before the first loss.
    pub fn ssthresh(&self) -> u32 {
        self.congestion.ssthresh
    }

    /// Smoothed round-trip time, once there is a sample.
    pub fn srtt(&self) -> Option<Duration> {
        self.rtt.srtt_us().map(micros)
    }

    /// Its mean deviation.
    pub fn rttvar(&self) -> Duration {
        micros(self.rtt.rttvar_us())
    }

    /// Smallest round trip of the last minutes.
    pub fn min_rtt(&self) -> Option<Duration> {
        self.rtt.min_us().map(micros)
    }

    /// Retransmission time-out, back-off included; also paces the flow's window probes.
    pub fn rto(&self) -> Duration {
        micros(self.rtt.rto_us())
    }

    /// Bytes believed to be in the network.
    pub fn pipe(&self) -> u32 {
        self.flight.pipe().saturating_sub(self.dup_acks as u32 * self.mss as u32)
    }

    /// First unacknowledged sequence number.
    pub fn snd_una(&self) -> Seq {
        self.flight.una
    }

    /// One past the highest sequence number sent.
    pub fn snd_nxt(&self) -> Seq {
        self.flight.nxt
    }

    /// Whether something lost is being repaired.
    pub fn in_recovery(&self) -> bool {
        self.phase != Phase::Open
    }

    /// Whether nothing is unacknowledged.
    #[inline]
    pub fn is_idle(&self) -> bool {
        self.flight.is_empty()
    }

    /// Pieces that are unacknowledged, as they were sent.
    pub fn segments(&self) -> u16 {
        self.flight.items()
    }

    /// Whether something is to go out that asks for an answer, a tail loss probe or the test of a time-out: then new
    /// data, however little, is better than a repetition.
    pub fn is_probe_due(&self) -> bool {
        self.probe.is_due() || self.is_test_due()
    }

    /// Whether [`Sender::poll_resend`] may have something: never while nothing is known to be lost and no probe is due.
    #[inline]
    pub fn is_repairing(&self) -> bool {
        self.phase != Phase::Open || self.probe.is_due() || self.flight.lost_first().is_some()
    }

    /// Consecutive retransmission time-outs without progress.
    pub fn timeouts(&self) -> u8 {
        self.rtt.timeouts()
    }

    /// Segments sent again so far.
    pub fn resent_segments(&self) -> u32 {
        self.resent_segments
    }

    /// What a successor should know.
    pub fn hint(&self) -> Hint {
        let is_reduced = self.in_recovery() && self.ssthresh() != u32::MAX;
        let cwnd = if is_reduced { self.ssthresh() } else { self.cwnd() };
        Hint { srtt_us: self.rtt.srtt_us().unwrap_or(0), cwnd }
    }

    /// Bytes of *new* data that congestion control allows now.
    pub fn window_left(&self, now: Instant) -> u32 {
        if self.flight.is_full() {
            return 0;
        }
        let left = self.window(now).saturating_sub(self.pipe());
        if self.probe.is_due() {
            // RFC 8985 7.3: the probe may exceed the window by a segment.
            return left.max(self.mss as u32);
        }
        if let Some(left) = self.test_left() {
            return left;
        }
        if self.flight.lost_first().is_some() { 0 } else { left }
    }

    /// The handshake is complete: what was negotiated, its round trip if Karn's rule allows to use it,
    /// and whether a SYN had to be sent again.
    pub fn handle_handshake(
        &mut self,
        now: Instant,
        mss: u16,
        sack: bool,
        rtt: Option<Duration>,
        syn_resent: bool,
    ) {
        assert!(self.flight.is_empty());
        self.mss = mss.max(1);
        self.sack = sack;
        self.phase = Phase::Open;
        self.rtt.handle_progress();
        self.recover = self.flight.una - 1;
        self.rack = Rack::new(self.flight.una);
        self.congestion = self.congestion.renew(self.mss, self.flight.nxt, syn_resent);
        if let Some(rtt) = rtt {
            let us = rtt.micros().min(u32::MAX as u64) as u32;
            self.rtt.sample(us);
            self.rtt.sample_min(now, us);
        } else if syn_resent {
            self.rtt.handle_syn_loss();
        }
    }

    /// The path's MSS changed; what is in flight is cut when it is sent again.
    pub fn handle_mss(&mut self, mss: u16) {
        self.mss = mss.max(1);
    }

    /// New data goes out now; on an error it must not. `len` counts the FIN. `seq` continues what is in
    /// flight; with nothing in flight it may be anywhere.
    pub fn handle_sent(
        &mut self,
        now: Instant,
        pool: &mut InFlightPool,
        seq: Seq,
        len: u32,
        fin: bool,
    ) -> Result<(), SendRefused> {
        if self.flight.is_full() {
            return Err(SendRefused::FlightFull);
        }
        let (was_idle, window) = (self.flight.is_empty(), self.window(now));
        let tick = Tick::of(now);
        self.flight.push(pool, tick, seq, len, fin).map_err(|_| SendRefused::PoolExhausted)?;
        if was_idle {
            self.congestion.handle_idle(tick, window);
        }
        self.last_sent = tick;
        if self.in_fast_recovery() {
            self.prr.handle_sent(len);
        }
        let pipe = self.pipe();
        if self.flight.una.after_eq(self.limited_end) || pipe > self.flight_max {
            self.flight_max = pipe;
            self.limited_end = self.flight.nxt;
        }
        self.probe.handle_sent(self.flight.nxt, false);
        self.start_timers(now);
        Ok(())
    }

    /// The first of what is in flight was said once more, though nobody takes it for lost: which of the two is answered cannot be told
    /// (Karn's rule).
    pub fn handle_repeated(&mut self, pool: &mut InFlightPool) {
        if let Some(index) = self.flight.first() {
            pool[index].resent = true;
        }
    }

    /// What `poll_resend` gave just now goes out.
    pub fn handle_resent(&mut self, now: Instant, pool: &mut InFlightPool, resend: Resend) {
        let Resend { index, seq, .. } = resend;
        assert!(
            pool.is_used(index) && pool[index].seq == seq && pool[index].place != Place::Sacked
        );
        let tick = Tick::of(now);
        self.flight.mark_resent(pool, index, tick);
        self.last_sent = tick;
        self.resent_segments = self.resent_segments.saturating_add(1);
        if self.in_fast_recovery() {
            self.prr.handle_sent(resend.len);
            self.undo.handle_resent(seq, resend.len);
        }
        self.probe.handle_sent(self.flight.nxt, true);
        self.start_timers(now);
    }

    /// The next segment that must be sent again now. `new_data`: the caller has new data that the
    /// client's window allows (a probe that is due prefers it).
    pub fn poll_resend(&mut self, pool: &mut InFlightPool, new_data: bool) -> Option<Resend> {
        if self.probe.is_due() {
            if new_data && !self.flight.is_full() {
                return None;
            }
            return self.probe_segment(pool);
        }
        if self.is_testing(pool, new_data) {
            return None;
        }
        let index = self.flight.lost_first()?;
        let (segment, pipe, mss) = (pool[index], self.pipe(), self.mss as u32);
        let whole = segment.len <= mss + segment.fin as u32;
        let len = if whole { segment.len } else { mss };
        // The segment that a time-out is about goes in any case, whatever else may still be on its way.
        let is_first = self.phase == Phase::Loss(Doubt::Waiting) && segment.seq == self.flight.una;
        if pipe > 0 && !is_first && pipe.saturating_add(len) > self.congestion.cwnd {
            return None;
        }
        if !whole {
            // With no item for the rest, the whole counts as sent, and the rest is found lost again.
            self.flight.split(pool, index, len);
        }
        Some(Resend { index, seq: segment.seq, len, fin: whole && segment.fin })
    }

    /// The last segment, or what of it fits.
    fn probe_segment(&mut self, pool: &mut InFlightPool) -> Option<Resend> {
        let index = self.flight.last()?;
        let Segment { seq, len, fin, .. } = pool[index];
        let fits = self.mss as u32 + fin as u32;
        if len <= fits {
            return Some(Resend { index, seq, len, fin });
        }
        let Some(index) = self.flight.split(pool, index, len - fits) else {
            return Some(Resend { index, seq, len: self.mss as u32, fin: false });
        };
        Some(Resend { index, seq: pool[index].seq, len: fits, fin })
    }

    /// When `handle_timeout` is next due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        (self.rto_at != Instant::MAX).then(|| self.soon_at())
    }

    /// Gives every pool item back and stops the timers.
    pub fn release(&mut self, pool: &mut InFlightPool) {
        self.flight.release(pool);
        self.stop_timers();
    }

    fn in_fast_recovery(&self) -> bool {
        matches!(self.phase, Phase::Recovery { .. })
    }

    /// The window, idle time considered.
    fn window(&self, now: Instant) -> u32 {
        if !self.flight.is_empty() {
            return self.congestion.cwnd;
        }
        let idle_us = Tick::of(now).since(self.last_sent);
        self.congestion.idle_window(self.mss, idle_us, self.rtt.rto_us())
    }
}

fn micros(us: u32) -> Duration {
    Duration::from_micros(us as u64)
}
