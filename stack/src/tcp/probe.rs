//! Tail loss probe: when the end of a burst stays unanswered, one more segment asks for an answer.
//!
//! A lost tail shows no gap, so nothing but the retransmission time-out would find it. After two round
//! trips the sender sends one segment, new if there is one, else the last again; the answer's SACK lets
//! RACK find what is missing. If the probe was a repetition and repaired the loss all by itself,
//! nobody would have noticed the congestion: that is recognised here.
//!
//! Spec: RFC 8985 7. Only with SACK, and only while nothing is known to be lost or out of order.
//! Units: microseconds.

use crate::seq::Seq;

/// TLP.max_ack_delay: the longest a client delays an acknowledgement.
const ACK_DELAY_US_MAX: u32 = 200_000;

/// Least time before a probe: below, the scheduling of a virtual machine looks like a loss.
const PROBE_US_MIN: u32 = 1_000;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum State {
    /// TLP.end_seq is None.
    #[default]
    Idle,
    /// To be sent at the next opportunity.
    Due,
    /// Sent, not yet answered.
    Sent {
        /// TLP.is_retrans.
        resent: bool,
    },
}

/// The probe under way, if any.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Probe {
    /// TLP.end_seq.
    end: Seq,
    state: State,
}

/// What an acknowledgement says about a probe.
#[derive(Clone, Copy)]
pub(super) struct ProbeAnswer {
    /// SEG.ACK.
    pub ack: Seq,
    /// Right edge of its DSACK block.
    pub dsack_end: Option<Seq>,
    /// It is a duplicate without any SACK block.
    pub bare_duplicate: bool,
}

impl Probe {
    /// None is under way.
    pub const IDLE: Probe = Probe { end: Seq(0), state: State::Idle };

    /// A repeated segment that ended at `end` went out as a probe.
    pub const fn waiting(end: Seq) -> Probe {
        Probe { end, state: State::Sent { resent: true } }
    }

    /// Whether that is so.
    pub fn is_waiting(&self) -> bool {
        self.state == State::Sent { resent: true }
    }

    /// TLP_calc_PTO, without the bound by the time-out, which the caller knows.
    pub fn delay_us(srtt_us: u32, single_segment: bool) -> u32 {
        let delay = srtt_us.saturating_mul(2).max(PROBE_US_MIN);
        if single_segment { delay.saturating_add(ACK_DELAY_US_MAX) } else { delay }
    }

    /// The time has come.
    pub fn handle_timeout(&mut self) {
        self.state = State::Due;
    }

    /// Something went out: `snd_nxt`, and whether it was a repetition. If a probe is due, this is it.
    pub fn handle_sent(&mut self, snd_nxt: Seq, resent: bool) {
        if self.state == State::Due {
            *self = Probe { end: snd_nxt, state: State::Sent { resent } };
        }
    }

    /// Whether a probe has to go out at the next opportunity.
    pub fn is_due(&self) -> bool {
        self.state == State::Due
    }

    /// Whether a probe may be scheduled.
    pub fn is_idle(&self) -> bool {
        self.state == State::Idle
    }

    /// TLP_process_ack; returns whether the probe has repaired a loss, to which the congestion control
    /// must respond.
    pub fn handle_ack(&mut self, answer: ProbeAnswer) -> bool {
        let State::Sent { resent } = self.state else {
            self.state = State::Idle;
            return false;
        };
        if answer.ack.before(self.end) {
            return false;
        }
        // Otherwise it was new data, or both copies of the segment have arrived.
        let copies_arrived = answer.dsack_end == Some(self.end) || answer.bare_duplicate;
        let repaired = resent && !copies_arrived && answer.ack.after(self.end);
        if !resent || copies_arrived || repaired {
            self.state = State::Idle;
        }
        repaired
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(ack: u32) -> ProbeAnswer {
        ProbeAnswer { ack: Seq(ack), dsack_end: None, bare_duplicate: false }
    }

    fn probe(resent: bool) -> Probe {
        let mut probe = Probe::default();
        probe.handle_timeout();
        probe.handle_sent(Seq(100), resent);
        probe
    }

    /// RFC 8985 7.2.
    #[test]
    fn rfc8985_probe_time() {
        assert_eq!(Probe::delay_us(50_000, false), 100_000);
        assert_eq!(Probe::delay_us(50_000, true), 300_000);
        assert_eq!(Probe::delay_us(10, false), PROBE_US_MIN);
    }

    /// RFC 8985 7.4.2: the four ways in which a probe ends.
    #[test]
    fn rfc8985_probe_ends() {
        let mut new_data = probe(false);
        assert!(!new_data.handle_ack(answer(99)) && !new_data.is_idle());
        assert!(!new_data.handle_ack(answer(100)) && new_data.is_idle());

        let mut both_arrived = probe(true);
        let dsack = ProbeAnswer { dsack_end: Some(Seq(100)), ..answer(100) };
        assert!(!both_arrived.handle_ack(answer(100)) && !both_arrived.is_idle());
        assert!(!both_arrived.handle_ack(dsack) && both_arrived.is_idle());

        let mut repaired = probe(true);
        assert!(!repaired.handle_ack(answer(100)));
        assert!(repaired.handle_ack(answer(150)) && repaired.is_idle());

        let mut duplicate = probe(true);
        let bare = ProbeAnswer { bare_duplicate: true, ..answer(100) };
        assert!(!duplicate.handle_ack(bare) && duplicate.is_idle());
    }
}
