//! When payload is acknowledged: who waits for that, and so how long an acknowledgement of ours may rest.
//!
//! | who | how he shows | when |
//! |---|---|---|
//! | says a stream | full segments | every second one at once (RFC 9293 SHLD-19), a single one after [`ACK_DELAY`] (SHLD-18, MUST-40); the newest of them is held back (DESIGN 9) |
//! | writes at a pace | a pushed segment behind one that was not, or a full pushed one a while after another; not the first that he says after a word of ours | at once: most often nothing that is said next would take it along; a full pushed one right behind another, which may be a stream's, after [`ACK_DELAY_STEP`] |
//! | says words, and hears one for each | one pushed segment after ours | with our next word; of what the peer does not hold by then with the one after that, or after [`ACK_DELAY_REST`] |
//! | waits with his next word until the last is acknowledged (Nagle's algorithm) | says it as soon as an acknowledgement that was late has reached him | as soon as it may be said, for [`QUICK_ACKS`] words; then the delay is tried again |
//!
//! After a takeover the first [`QUICK_ACKS_RESUMED`] words count as those of somebody who waits: most have waited already.
//!
//! "May be said" is the gate's: no acknowledgement leaves before the peer holds what it is about.
//!
//! Path: steps 4 and 7. Spec: RFC 9293 3.8.6.3; RFC 5681 4.2.

use crate::flow::{Env, Flow, Standing};
use crate::limits::{
    ACK_DELAY, ACK_DELAY_REST, ACK_DELAY_STEP, FULL_SEGMENT_BYTES, HOLD_BACK, QUICK_ACKS,
    QUICK_ACKS_RESUMED,
};
use crate::pool::NONE;
use crate::seq::Seq;
use crate::tcp::deadline::Wait;
use crate::tcp::state::State;
use crate::time::{Duration, Instant};
use crate::wire::{Flags, Segment};

/// Who may be waiting for an acknowledgement of ours, by what either side has said last.
#[derive(Clone, Debug, Default)]
pub struct DelayedAck {
    turn: Turn,
    /// Nothing has taken the last acknowledgement along before its delay was over: somebody may have waited for it.
    was_late: bool,
    /// So many of the next words are acknowledged as soon as that may be said.
    quick: u8,
}

/// When what has come is to be acknowledged, if nothing takes that along before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Due {
    /// As soon as it may be said.
    AtOnce,
    /// After [`ACK_DELAY_STEP`].
    Soon,
    /// After [`ACK_DELAY`].
    Later,
}

/// Payload that has come in order.
pub(super) struct Arrival {
    /// Its sender has pushed it.
    pub is_pushed: bool,
    /// Nothing was heard for a while before it.
    pub has_paused: bool,
    /// How much it is.
    pub bytes: usize,
}

/// Who has spoken last, acknowledgements apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Turn {
    /// We have, or nobody yet.
    #[default]
    Ours,
    /// The other side, in one segment that it has pushed: as the answers of a dialogue come.
    Answered,
    /// The other side, and it may go on.
    Theirs,
    /// The other side right after us, and it goes on: what came last was not pushed.
    AnswersOn,
    /// The other side once more, and it goes on.
    TheirsOn,
}

impl DelayedAck {
    /// Of a flow that is carried on after a takeover.
    pub fn resumed() -> DelayedAck {
        DelayedAck { quick: QUICK_ACKS_RESUMED, ..DelayedAck::default() }
    }

    /// Payload of ours leaves: it takes along what may be acknowledged.
    #[inline]
    pub fn note_said(&mut self) {
        (self.was_late, self.turn) = (false, Turn::Ours);
    }

    /// The delay was over before anything took the acknowledgement along: what we answered left before the peer held it.
    pub fn note_late(&mut self) {
        self.was_late = true;
    }

    /// The next word has come, `since` the other side had our last timestamp if that is known. Who says it within the `usual` time
    /// after an acknowledgement that was late has waited for that. Without timestamps nobody can tell.
    fn note_next_word(&mut self, since: Option<Duration>, usual: Duration) {
        self.was_late = false;
        if since.is_none_or(|since| since <= usual) {
            self.quick = QUICK_ACKS;
        }
    }

    /// Payload has come in order, and with it so many bytes are not acknowledged: when they are to be. Two small segments are no
    /// reason for at once: what answers them takes the acknowledgement along; nor is one more answer in a dialogue, in which each word
    /// of ours acknowledges the answer before the last. The end of a step of a stream is: a pushed segment behind one that was
    /// not, or a full pushed one that comes a while after another, if an answer would have been over before. A full pushed one right
    /// behind another may be the end of a step, or of a stream of which every second one is acknowledged.
    #[inline]
    fn due(&mut self, arrival: &Arrival, unacked: usize, full: usize) -> Due {
        let Arrival { is_pushed, has_paused, bytes } = *arrival;
        let is_answer = self.turn == Turn::Ours && is_pushed;
        let may_end = self.turn == Turn::Theirs && is_pushed && bytes >= full;
        let is_step = match self.turn {
            Turn::Ours | Turn::Answered | Turn::AnswersOn => false,
            Turn::Theirs => has_paused && bytes >= full,
            Turn::TheirsOn => true,
        };
        self.turn = match (is_pushed, self.turn) {
            (true, Turn::Ours) => Turn::Answered,
            (true, _) => Turn::Theirs,
            (false, Turn::Ours | Turn::AnswersOn) => Turn::AnswersOn,
            (false, _) => Turn::TheirsOn,
        };
        if (is_step && is_pushed) || unacked >= if is_answer { 4 } else { 2 } * full {
            return Due::AtOnce;
        }
        let is_quick = self.quick > 0;
        self.quick = self.quick.saturating_sub(1);
        match (is_quick, may_end) {
            (true, _) => Due::AtOnce,
            (false, true) => Due::Soon,
            (false, false) => Due::Later,
        }
    }

    /// Whether so many bytes that the peer does not hold yet may wait for what is said next: one answer, or words so short that no
    /// stream has them. The longest that has come so far is `longest`.
    fn may_rest(&self, bytes: u32, longest: u32) -> bool {
        let is_answer = matches!(self.turn, Turn::Ours | Turn::Answered) && bytes <= longest;
        (is_answer || bytes.max(longest) < FULL_SEGMENT_BYTES) && self.quick == 0
    }
}

impl Flow {
    /// Payload has come in order: every second full segment is acknowledged at once, a single one after a delay or, if that was in
    /// vain lately, as soon as it may be, and the newest full segment of a stream not before the next (DESIGN 9, hold-back: so
    /// that a promoted peer has an acknowledgement to advance). Nothing is held back at a hole: its sender would take the segment
    /// for another loss.
    pub(super) fn note_arrival(&mut self, now: Instant, segment: &Segment, arrival: &Arrival) {
        let bytes = arrival.bytes;
        let is_ahead = self.passes_ahead();
        let local = &mut self.local;
        local.rcv_mss = local.rcv_mss.max(bytes as u16);
        let is_full = bytes >= local.rcv_mss as usize && bytes >= FULL_SEGMENT_BYTES as usize;
        if is_ahead {
            // What is held back there is the end of what has got through.
        } else if is_full && !arrival.is_pushed && !segment.flags.has(Flags::FIN) {
            local.hold_back = self.contract.rcv_nxt;
            local.deadlines.set(Wait::HoldBack, now + HOLD_BACK);
        } else {
            local.deadlines.clear(Wait::HoldBack);
        }
        let unacked = self.contract.rcv_nxt.since(local.rcv_acked) as usize + bytes;
        let full = local.rcv_mss.max(self.contract.options.mss.min(FULL_SEGMENT_BYTES as u16));
        match local.delayed_ack.due(arrival, unacked, full.into()) {
            Due::AtOnce => local.owed.ack_new = true,
            _ if local.deadlines.is_set(Wait::Ack) => {}
            Due::Soon => local.deadlines.set(Wait::Ack, now + ACK_DELAY_STEP),
            Due::Later => local.deadlines.set(Wait::Ack, now + ACK_DELAY),
        }
    }

    /// Who says the next word as soon as he has an acknowledgement that was late has waited for it (RFC 9293 3.7.4).
    pub(super) fn note_patience(&mut self, ts_now: u32, env: &Env, segment: &Segment) {
        if !self.local.delayed_ack.was_late || segment.payload.is_empty() {
            return;
        }
        let usual = self.sender.hint(&env.senders).srtt_us.div_ceil(1_000) + 1;
        let since = self.local.round_trip(ts_now, segment);
        self.local.delayed_ack.note_next_word(since, Duration::from_millis(usual.into()));
    }

    /// An acknowledgement leaves, and an edge: what is left of it is due at once, or may rest.
    pub(super) fn note_acknowledgement_sent(&mut self, now: Instant, ack: Seq, edge: Seq) {
        // What lies beyond the hole is still to be said.
        let is_uncertain = self.is_hole_uncertain();
        let is_all = ack == self.rcv_taken();
        let may_rest = !is_all && self.may_rest(ack);
        let local = &mut self.local;
        local.rcv_acked = ack;
        local.adv_edge = local.adv_edge.max(edge);
        local.owed.ack &= is_uncertain;
        if is_all {
            local.owed.ack_new = false;
            local.deadlines.clear(Wait::Ack);
        } else if may_rest {
            local.owed.ack_new = false;
            local.deadlines.set(Wait::Ack, now + ACK_DELAY_REST);
        }
    }

    /// Whether what was taken beyond `ack` may wait for what is said next: nobody waits for that, and there is neither a hole nor
    /// an end. Whoever is always a little ahead of the log would else be told of each step by a segment.
    fn may_rest(&self, ack: Seq) -> bool {
        let (rest, longest) = (self.rcv_taken().since(ack), u32::from(self.local.rcv_mss));
        self.local.delayed_ack.may_rest(rest, longest)
            && self.contract.state == State::Established
            && !self.ahead().fin
            && self.reassembly == NONE
            && self.local.duplicate_bytes == 0
    }

    /// Whether what is not acknowledged are words, which something said later may acknowledge.
    pub(super) fn is_ack_resting(&self) -> bool {
        let is_copied = self.standing == Standing::Copied;
        is_copied && self.local.deadlines.is_set(Wait::Ack) && !self.local.owed.ack_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: usize = 1460;

    /// A segment comes that is as long as it can be, right behind the last, and with it so many bytes are not acknowledged.
    fn comes(delayed: &mut DelayedAck, is_pushed: bool, unacked: usize) -> bool {
        let arrival = Arrival { is_pushed, has_paused: false, bytes: unacked.min(FULL) };
        delayed.due(&arrival, unacked, FULL) == Due::AtOnce
    }

    /// One comes after a pause, and with it this is not acknowledged.
    fn comes_later(delayed: &mut DelayedAck, is_pushed: bool, bytes: usize) -> bool {
        delayed.due(&Arrival { is_pushed, has_paused: true, bytes }, bytes, FULL) == Due::AtOnce
    }

    #[test]
    fn of_a_stream_every_second_segment_is_due() {
        let mut delayed = DelayedAck::default();
        for _ in 0..3 {
            assert!(!comes(&mut delayed, false, FULL));
            assert!(!comes(&mut delayed, false, 2 * FULL - 1));
            assert!(comes(&mut delayed, false, 2 * FULL));
        }
        assert!(
            !delayed.may_rest(FULL as u32, FULL as u32),
            "nothing that comes soon takes it along"
        );
    }

    /// More than one segment, and then nothing for a while: as who writes at a pace does.
    #[test]
    fn the_pushed_end_of_several_segments_is_due_at_once() {
        let mut delayed = DelayedAck::default();
        comes(&mut delayed, true, FULL);
        comes(&mut delayed, true, FULL);
        for _ in 0..3 {
            assert!(!comes(&mut delayed, false, FULL));
            let rest = Arrival { is_pushed: true, has_paused: false, bytes: 30 };
            assert_eq!(
                delayed.due(&rest, FULL + 30, FULL),
                Due::AtOnce,
                "it is all that is said for now"
            );
        }
        assert!(comes_later(&mut delayed, true, FULL), "and that, if it just fits into one");
        assert!(!comes_later(&mut delayed, true, FULL - 1), "a word, which may have an answer");
        delayed.note_said();
        assert!(!comes_later(&mut delayed, true, FULL), "so may one segment right after ours");
        delayed.note_said();
        assert!(!comes(&mut delayed, false, FULL));
        assert!(
            !comes(&mut delayed, true, FULL + 1),
            "so may two, and our next word acknowledges them"
        );
    }

    /// Who writes full segments with `TCP_NODELAY` pushes each; without a pause that is a stream.
    #[test]
    fn of_a_stream_of_pushed_segments_every_second_is_due() {
        let mut delayed = DelayedAck::default();
        comes(&mut delayed, true, FULL);
        assert!(comes(&mut delayed, true, 2 * FULL));
        for _ in 0..3 {
            assert!(!comes(&mut delayed, true, FULL));
            assert!(comes(&mut delayed, true, 2 * FULL));
        }
        let last = Arrival { is_pushed: true, has_paused: false, bytes: FULL };
        assert_eq!(delayed.due(&last, FULL, FULL), Due::Soon, "it may be the end of a step");
    }

    /// Somebody who writes a segment at a time may look like one who answers until he has said two.
    #[test]
    fn nobody_waits_after_a_takeover() {
        let mut delayed = DelayedAck::resumed();
        for _ in 0..8 {
            assert!(comes_later(&mut delayed, true, FULL));
        }
        let mut delayed = DelayedAck::default();
        assert!(!comes_later(&mut delayed, true, FULL), "it may be an answer");
    }

    /// Each of our words acknowledges the answer before the last, so two of them are seldom too many.
    #[test]
    fn an_answer_waits_for_our_next_word_but_one() {
        let mut delayed = DelayedAck::default();
        for _ in 0..3 {
            delayed.note_said();
            assert!(
                !comes(&mut delayed, true, 3 * FULL),
                "one pushed segment right after our word"
            );
            assert!(delayed.may_rest(FULL as u32, FULL as u32));
            assert!(!delayed.may_rest(FULL as u32 + 1, FULL as u32), "more than one answer");
        }
        assert!(comes(&mut delayed, true, 2 * FULL), "a second segment makes it a stream");
        delayed.note_said();
        assert!(comes(&mut delayed, true, 4 * FULL), "what nobody acknowledges for so long");
        delayed.note_said();
        assert!(comes(&mut delayed, false, 2 * FULL), "who does not push goes on");
    }

    #[test]
    fn short_words_rest_whoever_has_spoken() {
        let mut delayed = DelayedAck::default();
        assert!(!comes(&mut delayed, false, 100));
        assert!(!comes(&mut delayed, false, 200));
        assert!(delayed.may_rest(200, 100));
        assert!(!delayed.may_rest(FULL_SEGMENT_BYTES, 100), "as much as a full segment");
        assert!(!delayed.may_rest(200, FULL_SEGMENT_BYTES), "the other side has said a stream");
    }

    /// Whether so many words in a row are acknowledged at once, and no more.
    fn is_quick_for(delayed: &mut DelayedAck, words: u8) -> bool {
        (0..words).all(|_| !delayed.may_rest(1, 1) && comes(delayed, true, 100))
            && !comes(delayed, true, 100)
            && delayed.may_rest(1, 1)
    }

    #[test]
    fn who_has_waited_for_an_acknowledgement_waits_for_no_more_in_a_while() {
        let ms = Duration::from_millis;
        let after = |since| {
            let mut delayed = DelayedAck::default();
            delayed.note_late();
            delayed.note_next_word(since, ms(3));
            assert!(!delayed.was_late, "one late acknowledgement is judged once");
            delayed
        };
        assert!(is_quick_for(&mut after(Some(ms(3))), QUICK_ACKS), "at once");
        assert!(is_quick_for(&mut after(None), QUICK_ACKS), "nobody can tell");
        assert!(is_quick_for(&mut after(Some(ms(4))), 0), "after a time for thought");
    }

    #[test]
    fn an_acknowledgement_that_went_along_after_all_was_not_waited_for() {
        let mut delayed = DelayedAck::default();
        delayed.note_late();
        assert!(delayed.was_late);
        delayed.note_said();
        assert!(!delayed.was_late);
    }
}
