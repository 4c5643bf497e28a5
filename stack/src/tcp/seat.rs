//! A flow's place among the senders: taken with its first segment in flight, given up when it has nothing to do.
//!
//! Of a million flows few have something in flight at a time. What only these need (scoreboard, RACK, timers,
//! where the output was read) is in a pool; the others keep a [`Resting`] each. The place is not given up with
//! every acknowledgement but when the flow leaves the queue of those who may speak ([`Seat::leave`]): what
//! answers at once keeps it.
//!
//! When every place is taken, new data waits ([`Senders::refused`] counts), and so do a SYN-ACK and a FIN;
//! acknowledgements, resets and probes track nothing and go out.
//!
//! Bounds: the capacities given at construction; a place with nothing in flight is free at once.

use crate::output::Cursor;
use crate::pool::{NONE, Pool};
use crate::seq::Seq;
use crate::tcp::in_flight::InFlightPool;
use crate::tcp::sender::{
    Ack, AckOutcome, Hint, Resend, Resting, SendRefused, Sender, SenderConfig, TimeoutOutcome,
};
use crate::time::Instant;

/// What a flow needs while something of it is in flight.
#[derive(Clone, Debug, Default)]
pub struct Active {
    /// Loss recovery and congestion control.
    pub sender: Sender,
    /// Where the output was last read.
    pub cursor: Cursor,
}

/// The pools for what is in flight, of all flows of a core.
pub struct Senders {
    /// A place for each flow with something in flight.
    pub active: Pool<Active>,
    /// Segments in flight.
    pub in_flight: InFlightPool,
    /// How often something new had to wait for a place or for room in `in_flight`.
    pub refused: u64,
}

impl Senders {
    /// Takes memory for `active` flows with something in flight, and for `segments` segments.
    pub fn new(active: usize, segments: usize) -> Senders {
        Senders { active: Pool::new(active), in_flight: Pool::new(segments), refused: 0 }
    }

    /// Whether nothing is in flight.
    pub fn is_unused(&self) -> bool {
        self.active.used() + self.in_flight.used() == 0
    }
}

/// The sender of one flow, wherever it is.
#[derive(Clone, Debug)]
pub struct Seat {
    /// Valid while there is no place.
    resting: Resting,
    /// Index of the place, or `NONE`.
    place: u32,
}

const _: () = assert!(size_of::<Seat>() <= 84);

impl Default for Seat {
    fn default() -> Seat {
        Seat { resting: Resting::default(), place: NONE }
    }
}

impl Seat {
    /// For a sender with nothing in flight.
    pub fn new(sender: &Sender) -> Seat {
        Seat { resting: sender.rest().expect("nothing is in flight"), place: NONE }
    }

    /// Reads a little of each of its cache lines, so that they are on their way.
    #[inline]
    pub(crate) fn touch(&self) -> u64 {
        self.place as u64
    }

    #[inline]
    fn active<'a>(&self, senders: &'a Senders) -> Option<&'a Sender> {
        (self.place != NONE).then(|| &senders.active[self.place].sender)
    }

    /// See [`Sender::hint`].
    pub fn hint(&self, senders: &Senders) -> Hint {
        self.active(senders).map_or_else(|| self.resting.hint(), Sender::hint)
    }

    /// See [`Sender::cwnd`].
    pub fn cwnd(&self, senders: &Senders) -> u32 {
        self.active(senders).map_or(self.resting.hint().cwnd, Sender::cwnd)
    }

    /// See [`Sender::is_idle`].
    pub fn is_idle(&self, senders: &Senders) -> bool {
        self.active(senders).is_none_or(Sender::is_idle)
    }

    /// See [`Sender::segments`].
    pub fn segments(&self, senders: &Senders) -> u16 {
        self.active(senders).map_or(0, Sender::segments)
    }

    /// See [`Sender::is_repairing`].
    #[inline]
    pub fn is_repairing(&self, senders: &Senders) -> bool {
        self.active(senders).is_some_and(Sender::is_repairing)
    }

    /// See [`Sender::timeouts`].
    pub fn timeouts(&self, senders: &Senders) -> u8 {
        self.active(senders).map_or(0, Sender::timeouts)
    }

    /// See [`Sender::is_probe_due`].
    pub fn is_probe_due(&self, senders: &Senders) -> bool {
        self.active(senders).is_some_and(Sender::is_probe_due)
    }

    /// See [`Sender::window_left`].
    pub fn window_left(&self, now: Instant, senders: &Senders) -> u32 {
        match self.active(senders) {
            Some(sender) => sender.window_left(now),
            None => self.resting.window_left(now),
        }
    }

    /// See [`Sender::poll_timeout`].
    #[inline]
    pub fn poll_timeout(&self, senders: &Senders) -> Option<Instant> {
        self.active(senders)?.poll_timeout()
    }

    /// See [`Sender::poll_resend`].
    #[inline]
    pub fn poll_resend(&mut self, senders: &mut Senders, new_data: bool) -> Option<Resend> {
        if self.place == NONE {
            return None;
        }
        senders.active[self.place].sender.poll_resend(&mut senders.in_flight, new_data)
    }

    /// See [`Sender::handle_resent`].
    pub fn handle_resent(&mut self, now: Instant, senders: &mut Senders, resend: Resend) {
        let sender = &mut senders.active[self.place].sender;
        sender.handle_resent(now, &mut senders.in_flight, resend);
    }

    /// See [`Sender::handle_repeated`].
    pub fn handle_repeated(&mut self, senders: &mut Senders) {
        if self.place != NONE {
            let sender = &mut senders.active[self.place].sender;
            sender.handle_repeated(&mut senders.in_flight);
        }
    }

    /// See [`Sender::handle_sent`]; takes a place if there is none yet.
    pub fn handle_sent(
        &mut self,
        now: Instant,
        senders: &mut Senders,
        config: &SenderConfig,
        (seq, len): (Seq, u32),
        fin: bool,
    ) -> Result<(), SendRefused> {
        if self.place == NONE {
            self.place = self.take(senders, config, seq).ok_or_else(|| {
                senders.refused += 1;
                SendRefused::PoolExhausted
            })?;
        }
        let sender = &mut senders.active[self.place].sender;
        let sent = sender.handle_sent(now, &mut senders.in_flight, seq, len, fin);
        if sent == Err(SendRefused::PoolExhausted) {
            senders.refused += 1;
        }
        sent
    }

    fn take(&self, senders: &mut Senders, config: &SenderConfig, seq: Seq) -> Option<u32> {
        senders.active.take_with(|active| {
            active.sender = Sender::wake(config, &self.resting, seq);
            active.cursor = Cursor::default();
        })
    }

    /// See [`Sender::handle_ack`].
    #[inline]
    pub fn handle_ack(&mut self, now: Instant, senders: &mut Senders, ack: &Ack) -> AckOutcome {
        if self.place == NONE {
            self.resting.handle_ack(ack);
            return AckOutcome::default();
        }
        senders.active[self.place].sender.handle_ack(now, &mut senders.in_flight, ack)
    }

    /// See [`Sender::handle_handshake`]; the round trip comes from the acknowledgement.
    pub fn handle_handshake(
        &mut self,
        now: Instant,
        senders: &mut Senders,
        (mss, sack): (u16, bool),
        syn_resent: bool,
    ) {
        self.with(senders, |sender, _| sender.handle_handshake(now, mss, sack, None, syn_resent));
    }

    /// See [`Sender::handle_mss`].
    pub fn handle_mss(&mut self, senders: &mut Senders, mss: u16) {
        self.with(senders, |sender, _| sender.handle_mss(mss));
    }

    /// See [`Sender::handle_smaller_path`].
    pub fn handle_smaller_path(&mut self, now: Instant, senders: &mut Senders, mss: u16) {
        self.with(senders, |sender, pool| sender.handle_smaller_path(now, pool, mss));
    }

    /// What is rare is done by the sender itself, which is put to rest again if it has no place.
    fn with(&mut self, senders: &mut Senders, change: impl FnOnce(&mut Sender, &mut InFlightPool)) {
        if self.place != NONE {
            return change(&mut senders.active[self.place].sender, &mut senders.in_flight);
        }
        let mut sender = self.resting.wake();
        change(&mut sender, &mut senders.in_flight);
        self.resting = sender.rest().expect("nothing was sent");
    }

    /// Segments sent again since the place was taken.
    pub fn resent_segments(&self, senders: &Senders) -> u32 {
        self.active(senders).map_or(0, Sender::resent_segments)
    }

    /// See [`Sender::handle_timeout`].
    pub fn handle_timeout(&mut self, now: Instant, senders: &mut Senders) -> TimeoutOutcome {
        if self.place == NONE {
            return TimeoutOutcome::Nothing;
        }
        senders.active[self.place].sender.handle_timeout(now, &mut senders.in_flight)
    }

    /// Where the output was last read, while something is in flight.
    #[inline]
    pub fn place(&self) -> u32 {
        self.place
    }

    /// Gives the place up if nothing is in flight; answers whether it did.
    #[inline]
    pub fn leave(&mut self, senders: &mut Senders) -> bool {
        if self.place == NONE || !senders.active[self.place].sender.is_idle() {
            return false;
        }
        let Some(resting) = senders.active[self.place].sender.rest() else { return false };
        self.resting = resting;
        senders.active.give_unread(self.place);
        self.place = NONE;
        true
    }

    /// Gives everything back to the pools.
    pub fn release(&mut self, senders: &mut Senders) {
        if self.place != NONE {
            senders.active[self.place].sender.release(&mut senders.in_flight);
            senders.active.give_unread(self.place);
            self.place = NONE;
        }
    }
}
