//! What goes into a sender and what comes out of it.

use crate::seq::Seq;
use crate::tcp::congestion::Algorithm;
use crate::time::Duration;

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
