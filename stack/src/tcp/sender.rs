//! The sending side's local state: what is in flight, what is lost, what may be sent now.

use crate::seq::Seq;
use crate::tcp::in_flight::InFlightPool;
use crate::time::{Duration, Instant};

/// Which congestion control a flow uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Algorithm {
    /// RFC 9438.
    #[default]
    Cubic,
    /// RFC 5681.
    Reno,
}

/// Settings that all senders of a service share.
#[derive(Clone, Copy, Debug)]
pub struct SenderConfig {
    /// Congestion control.
    pub algorithm: Algorithm,
    /// Least variance term of the retransmission time-out.
    pub rto_min: Duration,
    /// Upper bound of the retransmission time-out, back-off included.
    pub rto_max: Duration,
    /// Consecutive retransmission time-outs after which a flow gives up (R2 of RFC 9293 3.8.3).
    pub timeouts_max: u8,
    /// Time without progress since the first time-out after which a flow gives up, whichever is first.
    pub give_up_after: Duration,
}

impl Default for SenderConfig {
    fn default() -> SenderConfig {
        SenderConfig {
            algorithm: Algorithm::Cubic,
            rto_min: Duration::from_millis(200),
            rto_max: Duration::from_secs(60),
            timeouts_max: 15,
            give_up_after: Duration::from_secs(180),
        }
    }
}

/// What a former owner's sender had learnt about the path.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Hint {
    /// Smoothed round-trip time in microseconds; 0 if unknown.
    pub srtt_us: u32,
    /// Congestion window in bytes; 0 if unknown.
    pub cwnd: u32,
}

/// One acceptable acknowledgement.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ack<'a> {
    /// SEG.ACK. May be beyond `snd_nxt` after a takeover.
    pub ack: Seq,
    /// SACK blocks in the order of the option, a DSACK block included.
    pub sack: &'a [(Seq, Seq)],
    /// Now minus the time of the echoed timestamp (TSecr); at most 1 ms too long.
    pub rtt: Option<Duration>,
    /// SEG.LEN of the segment that carried it, SYN and FIN counted.
    pub segment_len: u32,
    /// The segment changed `snd_wnd`.
    pub window_update: bool,
    /// `snd_wnd` is now zero.
    pub window_zero: bool,
}

/// What an acknowledgement did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AckOutcome {
    /// Bytes of sequence space by which `snd_una` moved.
    pub newly_acked: u32,
    /// Bytes newly covered by SACK blocks.
    pub newly_sacked: u32,
    /// Bytes newly found lost.
    pub newly_lost: u32,
    /// Fast recovery began.
    pub entered_recovery: bool,
    /// Fast or time-out recovery ended.
    pub exited_recovery: bool,
    /// The client reported that something arrived twice (RFC 2883).
    pub duplicate_reported: bool,
}

/// A segment that must be sent again now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Resend {
    /// Names it in [`Sender::handle_resent`].
    pub index: u32,
    /// First sequence number.
    pub seq: Seq,
    /// Length in sequence space; the FIN, if any, is its last number.
    pub len: u32,
    /// The last sequence number is the FIN.
    pub fin: bool,
}

/// Why new data cannot be tracked, so must not be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SendRefused {
    /// The core's pool has no item left.
    PoolExhausted,
    /// This flow has as many segments in flight as one flow may.
    FlightFull,
}

/// What a time-out means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TimeoutOutcome {
    /// Nothing was due.
    Nothing,
    /// The reordering window has passed: there is something to send again.
    Reorder,
    /// A tail loss probe is due: new data if there is any, else what `poll_resend` gives.
    Probe,
    /// The retransmission time-out: there is something to send again.
    Retransmit,
    /// The client has not acknowledged for too long (R2): the flow ends.
    GiveUp,
}

/// Loss recovery and congestion control of one flow.
#[derive(Clone, Debug, Default)]
pub struct Sender {}

#[allow(unused_variables, clippy::needless_pass_by_ref_mut, missing_docs)]
impl Sender {
    /// A sender whose first sequence number will be `snd_una`, with nothing in flight. A flow that opens
    /// actively gives `iss` and reports its SYN by `handle_sent` with length 1.
    pub fn new(now: Instant, config: &SenderConfig, snd_una: Seq, mss: u16, sack: bool) -> Sender {
        todo!()
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
        todo!()
    }
    pub fn cwnd(&self) -> u32 {
        todo!()
    }
    pub fn ssthresh(&self) -> u32 {
        todo!()
    }
    pub fn srtt(&self) -> Option<Duration> {
        todo!()
    }
    pub fn rttvar(&self) -> Duration {
        todo!()
    }
    pub fn min_rtt(&self) -> Option<Duration> {
        todo!()
    }
    /// Back-off included.
    pub fn rto(&self) -> Duration {
        todo!()
    }
    /// Bytes believed to be in the network.
    pub fn pipe(&self) -> u32 {
        todo!()
    }
    pub fn in_recovery(&self) -> bool {
        todo!()
    }
    /// Nothing is unacknowledged.
    pub fn is_idle(&self) -> bool {
        todo!()
    }
    /// Consecutive retransmission time-outs without progress.
    pub fn timeouts(&self) -> u8 {
        todo!()
    }
    /// Segments sent again so far.
    pub fn resent_segments(&self) -> u32 {
        todo!()
    }
    pub fn hint(&self) -> Hint {
        todo!()
    }
    /// Bytes of *new* data that congestion control allows now.
    pub fn window_left(&self, now: Instant) -> u32 {
        todo!()
    }
    /// The handshake is complete: its round trip, and whether a SYN had to be sent again.
    pub fn handle_handshake(&mut self, sack: bool, rtt: Option<Duration>, syn_resent: bool) {
        todo!()
    }
    /// The path's MSS changed; what is in flight is cut when it is sent again.
    pub fn handle_mss(&mut self, mss: u16) {
        todo!()
    }
    /// New data goes out now; on an error it must not. `len` counts the FIN.
    pub fn handle_sent(
        &mut self,
        now: Instant,
        pool: &mut InFlightPool,
        seq: Seq,
        len: u32,
        fin: bool,
    ) -> Result<(), SendRefused> {
        todo!()
    }
    /// What `poll_resend` gave went out.
    pub fn handle_resent(&mut self, now: Instant, pool: &mut InFlightPool, resend: Resend) {
        todo!()
    }
    pub fn handle_ack(
        &mut self,
        now: Instant,
        pool: &mut InFlightPool,
        ack: &Ack<'_>,
    ) -> AckOutcome {
        todo!()
    }
    pub fn handle_timeout(&mut self, now: Instant, pool: &mut InFlightPool) -> TimeoutOutcome {
        todo!()
    }
    /// `new_data`: the caller has new data that the client's window allows (a due probe prefers it).
    pub fn poll_resend(&mut self, pool: &mut InFlightPool, new_data: bool) -> Option<Resend> {
        todo!()
    }
    /// When `handle_timeout` is next due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        todo!()
    }
    /// Gives every pool item back.
    pub fn release(&mut self, pool: &mut InFlightPool) {
        todo!()
    }
}
