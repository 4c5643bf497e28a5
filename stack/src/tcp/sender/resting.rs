//! What a sender that has nothing in flight keeps: a third of its size, for the many flows that say nothing.
//!
//! Nothing is lost that counts: the estimates, the window and the congestion control's state stay as they are.
//! RACK begins anew but for what it has learnt about reordering; a tail loss probe whose answer is still to
//! come is remembered in a bit, because everything up to its end is acknowledged.

use super::{Ack, Hint, Phase, Sender, SenderConfig};
use crate::seq::Seq;
use crate::tcp::congestion::Congestion;
use crate::tcp::in_flight::{InFlight, Tick};
use crate::tcp::probe::Probe;
use crate::tcp::rack::{Rack, Reordering};
use crate::tcp::rtt::Rtt;
use crate::time::Instant;

/// A sender at rest.
#[derive(Clone, Debug)]
pub struct Resting {
    una: Seq,
    rtt: Rtt,
    congestion: Congestion,
    last_sent: Tick,
    mss: u16,
    reordering: Reordering,
    sack: bool,
    /// The answer to a repeated segment at the end of the flight may say that both copies have arrived.
    probe_waits: bool,
}

const _: () = assert!(size_of::<Resting>() <= 80);

impl Default for Resting {
    fn default() -> Resting {
        Sender::default().rest().expect("a new sender is at rest")
    }
}

impl Sender {
    /// What stays of it; `None` while it has something to do.
    pub fn rest(&self) -> Option<Resting> {
        let Sender { flight, rtt, rack, probe, congestion, last_sent, mss, sack, phase, .. } = self;
        if !flight.is_empty() || *phase != Phase::Open || probe.is_due() {
            return None;
        }
        Some(Resting {
            una: flight.una,
            rtt: *rtt,
            congestion: *congestion,
            last_sent: *last_sent,
            mss: *mss,
            reordering: rack.reordering(),
            sack: *sack,
            probe_waits: probe.is_waiting(),
        })
    }

    /// Carries on where `resting` was left, from `snd_una` on.
    pub fn wake(config: &SenderConfig, resting: &Resting, snd_una: Seq) -> Sender {
        let Resting { una, rtt, congestion, last_sent, mss, reordering, sack, probe_waits } =
            *resting;
        let (give_up_secs, timeouts_max) = Sender::patience(config);
        Sender {
            flight: InFlight::new(snd_una),
            rtt,
            rack: Rack::resume(snd_una, reordering),
            probe: if probe_waits { Probe::waiting(una) } else { Probe::default() },
            congestion,
            recover: snd_una - 1,
            limited_end: snd_una,
            last_sent,
            mss,
            give_up_secs,
            timeouts_max,
            sack,
            ..Sender::EMPTY
        }
    }
}

impl Resting {
    /// A sender that will send nothing.
    pub fn wake(&self) -> Sender {
        Sender::wake(&SenderConfig::default(), self, self.una)
    }

    /// See [`Sender::hint`].
    pub fn hint(&self) -> Hint {
        Hint { srtt_us: self.rtt.srtt_us().unwrap_or(0), cwnd: self.congestion.cwnd }
    }

    /// See [`Sender::window_left`].
    pub fn window_left(&self, now: Instant) -> u32 {
        let idle_us = Tick::of(now).since(self.last_sent);
        self.congestion.idle_window(self.mss, idle_us, self.rtt.rto_us())
    }

    /// See [`Sender::handle_ack`]: with nothing in flight it can only answer a probe.
    #[inline]
    pub fn handle_ack(&mut self, ack: &Ack) {
        if ack.ack.after(self.una) {
            self.una = ack.ack;
            self.probe_waits = false;
        }
        if self.probe_waits && super::ack::dsack_end(ack) == Some(self.una) {
            self.probe_waits = false;
        }
    }
}
