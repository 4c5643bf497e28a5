//! What passes from one leg to the other ahead of the log: acknowledgements end to end.
//!
//! ```text
//!   client            client's leg             server's leg            server
//!     |  100 bytes         |    output: 100 ahead   |                     |
//!     |------------------->|----------------------->|-------------------->|   not recorded, not acknowledged
//!     |                    |                        |<--------------------|   acknowledged
//!     |                    |  Acked, 100 passed     |                     |   recorded, as one fact of the server's leg
//!     |<-------------------|   the peer holds it    |                     |   acknowledged
//! ```
//!
//! Whoever said it keeps it until then: so a peer that is promoted has both legs at positions that agree, is told
//! again what lies beyond, and passes it on; of that, what the other side has had from the former owner is skipped there
//! by its acknowledgement, or here by ours.
//!
//! On the owner `rcv_nxt` and the other leg's output run ahead of the log by [`Ahead::bytes`], which is left out of whatever
//! a peer learns or compares. A FIN does not: `Ahead::fin` says that it was passed on, and neither contract knows of it
//! until the other side has acknowledged that. So no leg closes, and nothing is forgotten, that its side has not been
//! told the end of. Where nobody is left to acknowledge what is ahead, it is recorded as unread.
//!
//! Windows are end to end as well: a side is offered what the other one offers, less what our buffer lacks. So nobody's bytes lie
//! with us unacknowledged while the other side does not read, until their sender's patience is at an end: he sees a
//! closed window instead. When he probes it, the other side is asked.
//!
//! With one exception: a receiver with little memory opens its window by less than a segment at a time. A sender who is offered
//! no more waits for a full segment's room, and then for his persist timer (RFC 9293 3.8.6.2.1), again and again; he cannot
//! know that half of this window is all he will ever see, as he may have seen a larger one. So he is offered two segments, they
//! lie with us, and the other leg cuts them to what is offered there. (Should such a receiver never read again, the sender's
//! patience ends, on Linux after a quarter of an hour.)
//!
//! What holds for a capped SEG.ACK elsewhere holds here, only for longer: nothing is said of what lies beyond a hole while
//! bytes before it wait for the other side, and a duplicate is reported when SEG.ACK has passed it ([`crate::tcp`]).

use crate::app::App;
use crate::app::proxy::{Ahead, Phase, Proxy};
use crate::fact::{Fact, Passed, PassedFin};
use crate::flow::{Env, Flow};
use crate::limits::{
    EARLY_RECORDS_MAX, FULL_SEGMENT_BYTES, HOLD_BACK, OPENED_BYTES, STOCK_SEGMENTS, UNA_FLUSH_BYTES,
};
use crate::output::{OutOfMemory, Output};
use crate::pool::NONE;
use crate::recorder::{Progress, Recorder};
use crate::seq::Seq;
use crate::tcp::contract::Contract;
use crate::tcp::deadline::Wait;
use crate::tcp::state::Event;
use crate::time::Instant;

/// Where the right edge of a leg may be moved to, as the log knows it: as far as the other leg's side has offered room, so
/// that whatever is sent finds a receiver who acknowledges it, however slowly that is read; and as our buffer has any.
/// What is ahead has taken the place of what was offered.
///
/// In whatever steps that side makes: it avoids silly windows itself (RFC 9293 3.8.6.2.2), and where it has little memory a step
/// of ours that is left out leaves a sender with less than a segment, who waits for more. Where the side has just
/// `opened` its window to less than a segment (0: it has not), the sender is offered [`STOCK_SEGMENTS`] of them. Where it takes a
/// segment, and what the scale leaves of that is less than one, the sender is offered the next larger window that can be said.
pub(crate) fn wider_edge(
    contract: &Contract,
    leg: &Proxy,
    other: Option<(&Contract, &Output)>,
    buffer: u32,
    opened: u32,
) -> Option<Seq> {
    let (receiver, output) = other.filter(|_| leg.is_joined())?;
    let Ahead { bytes, .. } = leg.ahead;
    let recorded = output.end().saturating_sub(bytes.into());
    let room = u64::from(buffer).saturating_sub(recorded.saturating_sub(output.start()));
    let mut offered = (receiver.una_offset + u64::from(receiver.snd_wnd)).saturating_sub(recorded);
    let segment = u64::from(contract.options.payload_max());
    if offered < segment && is_opening(opened, offered) {
        offered = STOCK_SEGMENTS * segment;
    } else if offered >= segment && contract.options.sayable(offered) < segment {
        offered = offered.next_multiple_of(contract.options.window_unit());
    }
    let received = contract.rcv_nxt - bytes;
    let edge = received + room.min(offered) as u32;
    edge.after(contract.rcv_edge).then_some(edge)
}

/// Whether a window of `offered` bytes is one that was just opened by `opened`, by reading: not what is left of a larger one, whose
/// edge moves a little because windows are rounded.
fn is_opening(opened: u32, offered: u64) -> bool {
    opened > 0 && 4 * u64::from(opened) >= offered
}

/// Whether a word or two have passed, of whoever is offered a `window` of many more: he goes on without hearing of it, and
/// hears of it with what is said to him anyway.
fn may_linger(passed: &Passed, mss: u16, window: u32) -> bool {
    let words = 2 * u32::from(mss);
    passed.bytes > 0 && passed.bytes < words && passed.fin == PassedFin::None && window >= 2 * words
}

impl Contract {
    /// Where it stands for the log.
    #[inline]
    pub(super) fn progress(&self, ahead: Ahead) -> Progress {
        Progress { rcv_nxt: self.rcv_nxt - ahead.bytes, rcv_edge: self.rcv_edge }
    }

    /// As the log knows it.
    pub(crate) fn recorded(&self, ahead: Ahead) -> Contract {
        let received = self.received - u64::from(ahead.bytes);
        Contract { rcv_nxt: self.rcv_nxt - ahead.bytes, received, ..self.clone() }
    }
}

impl Flow {
    /// Whether what its side says is passed on ahead of the log.
    #[inline]
    pub(crate) fn passes_ahead(&self) -> bool {
        self.app.leg().is_some_and(Proxy::passes_ahead)
    }

    /// What its side has said ahead of the log.
    #[inline]
    pub(crate) fn ahead(&self) -> Ahead {
        self.app.leg().map_or(Ahead::default(), |leg| leg.ahead)
    }

    /// The contract as the log knows it: what a copy holds that has all of it.
    pub fn recorded(&self) -> Contract {
        self.contract.recorded(self.ahead())
    }

    /// How much of its output the log knows nothing of.
    #[inline]
    pub(crate) fn behind(&self) -> Ahead {
        self.app.leg().map_or(Ahead::default(), |leg| leg.behind)
    }

    /// The next sequence number expected, a FIN that was passed on included.
    #[inline]
    pub(crate) fn rcv_taken(&self) -> Seq {
        self.contract.rcv_nxt + u32::from(self.ahead().fin)
    }

    /// Whether a FIN belongs behind the output.
    #[inline]
    pub(crate) fn closes(&self) -> bool {
        self.output.is_closed() || self.behind().fin
    }

    /// What may be acknowledged and offered once the peer holds everything so far.
    #[inline]
    pub fn progress(&self) -> Progress {
        self.contract.progress(self.ahead())
    }

    /// Takes payload at `rcv_nxt` and passes it on. The caller has made sure that memory suffices.
    pub(crate) fn take_ahead(&mut self, env: &mut Env, payload: &[u8]) {
        let App::Proxy(leg) = &mut self.app else { return };
        let len = payload.len() as u32;
        self.contract.rcv_nxt += len;
        self.contract.received += u64::from(len);
        leg.ahead.bytes += len;
        let is_kept = match &mut env.across {
            Some(across) if leg.is_joined() => {
                across.leg.behind.bytes += len;
                across.output.push_bytes(&mut env.memory, payload).is_ok()
            }
            _ => self.backlog.append(&mut env.memory.chunks, payload),
        };
        assert!(is_kept, "memory was asked for before");
    }

    /// Takes the FIN at `rcv_nxt` and passes it on; answers whether it is news.
    pub(crate) fn take_fin_ahead(&mut self, env: &mut Env) -> bool {
        let App::Proxy(leg) = &mut self.app else { return false };
        let is_news = !leg.ahead.fin;
        leg.ahead.fin = true;
        self.local.deadlines.note_change();
        if let Some(across) = &mut env.across
            && leg.is_joined()
        {
            across.leg.behind.fin = true;
        }
        is_news
    }

    /// What the other leg's side has said, and this one's side has acknowledged, and the log does not know.
    pub(crate) fn passed(&self) -> Passed {
        let Some(leg) = self.app.leg().filter(|leg| leg.behind != Ahead::default()) else {
            return Passed::default();
        };
        let end = self.output.end();
        let acknowledged = self.contract.offset_of(self.local.snd_una).unwrap_or(0);
        let recorded = end - u64::from(leg.behind.bytes);
        let bytes = acknowledged.min(end).saturating_sub(recorded) as u32;
        let fin = match leg.behind.fin && acknowledged > end {
            false => PassedFin::None,
            true if self.local.fin_answers => PassedFin::Last,
            true => PassedFin::Crossed,
        };
        Passed { bytes, fin }
    }

    /// Whether what was acknowledged is worth a record: two for each window, one in a while, one for each word that was
    /// answered, and a few where everything is through. Who has half of what he is offered through may wait for nothing else; so
    /// may who has said a word and says the next when the first is acknowledged (Nagle's algorithm); and so may who has just
    /// begun, and sends no more than his congestion window before he hears of it. And a word that is recorded need not
    /// be said again to a promoted peer.
    ///
    /// (That all is through is no sign of that where the other side is near: there it is true all the time. Hence the few.)
    pub(crate) fn is_passing_due(
        &mut self,
        source_window: u32,
        is_resting: bool,
        is_answer: bool,
    ) -> bool {
        let passed = self.local.snd_una.since(self.contract.snd_una);
        let behind = self.behind().bytes;
        if passed >= UNA_FLUSH_BYTES || 2 * passed >= source_window + behind || !is_resting {
            return true;
        }
        // Receivers delay the acknowledgement of the last segment.
        let segment = u32::from(self.contract.options.mss);
        if is_answer && passed < segment && passed >= behind {
            return true;
        }
        let is_through = passed >= 2 * segment && passed + segment >= behind;
        let may = is_through && self.local.early_records < EARLY_RECORDS_MAX;
        self.local.early_records += u8::from(may);
        may
    }

    /// Whether this fact, which changes the other leg, may wait for other records.
    pub(crate) fn may_linger(&self, env: &Env, fact: &Fact) -> bool {
        let (Fact::Acked(acked), Some(across)) = (fact, &env.across) else { return false };
        let offered = across.contract.window().min(env.memory.share() as u32);
        may_linger(&acked.passed, self.contract.options.mss, offered)
    }

    /// What passes is recorded; much of it at once lets another record be early.
    pub(crate) fn note_passed(&mut self, passed: Passed) {
        let earned = u8::from(passed.bytes >= UNA_FLUSH_BYTES / 2);
        self.local.early_records = self.local.early_records.saturating_sub(earned);
    }

    /// Of a stream that has got through so far, and goes on, the last segment is acknowledged a little later or with what
    /// follows: so that a promoted peer has an acknowledgement to advance (DESIGN 9).
    pub(crate) fn hold_back_passed(&mut self, now: Instant, progress: Progress) {
        if !self.passes_ahead() {
            return;
        }
        let segment = u32::from(self.local.rcv_mss);
        let has_passed = progress.rcv_nxt.distance(self.local.committed.rcv_nxt) >= segment as i32;
        let goes_on = self.contract.rcv_nxt.after(progress.rcv_nxt);
        if has_passed && goes_on && segment >= FULL_SEGMENT_BYTES && self.reassembly == NONE {
            self.local.hold_back = progress.rcv_nxt - segment;
            self.local.deadlines.set(Wait::HoldBack, now + HOLD_BACK);
        } else {
            self.local.deadlines.clear(Wait::HoldBack);
        }
    }

    /// What the other leg has passed counts as received there.
    pub(crate) fn apply_passed(
        &mut self,
        env: &mut Env,
        passed: Passed,
    ) -> Result<(), OutOfMemory> {
        if passed == Passed::default() {
            return Ok(());
        }
        let (Some(across), App::Proxy(leg)) = (&mut env.across, &mut self.app) else {
            return Ok(());
        };
        // Whoever serves the flow has taken and produced them before.
        let known = passed.bytes.min(across.leg.ahead.bytes);
        let unseen = passed.bytes - known;
        self.output.pass_over(unseen)?;
        across.leg.ahead.bytes -= known;
        leg.behind.bytes -= known;
        across.contract.rcv_nxt += unseen;
        across.contract.received += u64::from(unseen);
        if passed.fin != PassedFin::None {
            (across.leg.ahead.fin, leg.behind.fin) = (false, false);
            across.contract.rcv_nxt += 1;
            across.contract.fin_received = true;
            across.contract.state = across.contract.state.next(Event::FinArrived);
            self.output.close();
        }
        if passed.fin == PassedFin::Crossed {
            self.contract.state = self.contract.state.next(Event::FinCrossed);
        }
        Ok(())
    }

    /// What this leg's side has acknowledged and offers makes room for the other one's; it has moved its right edge by
    /// `opened`.
    pub(crate) fn widen_across(&self, env: &mut Env, opened: u32) {
        let Some(across) = &mut env.across else { return };
        if !across.leg.passes_ahead() {
            return;
        }
        let buffer = env.services[self.group as usize].receive_buffer;
        let this = Some((&self.contract, &self.output));
        if let Some(edge) = wider_edge(&across.contract, &across.leg, this, buffer, opened) {
            across.contract.rcv_edge = edge;
        }
    }

    /// Whoever has filled what he was offered may be probing it: what the other side offers by now may have got lost, or it says
    /// nothing of its own accord (Linux, when it has read the last segment while a few bytes of its window were left).
    pub(crate) fn ask_across(&self, env: &mut Env) {
        if let Some(across) = &mut env.across
            && across.leg.is_joined()
            && self.passes_ahead()
            && self.contract.seems_closed()
            && !self.local.is_withheld
        {
            across.is_asked = true;
        }
    }

    /// Whether its side has nothing under way that the other side has not acknowledged: it may be waiting for room, however much
    /// it has left of it.
    pub(crate) fn is_awaited(&self) -> bool {
        self.passes_ahead() && self.ahead().bytes == 0
    }

    /// How much further its side's window reaches than the log knows.
    fn unrecorded_window(&self) -> i32 {
        let Contract { snd_una, snd_wnd, .. } = self.contract;
        (self.local.snd_una + self.local.snd_wnd).distance(snd_una + snd_wnd)
    }

    /// Its side has opened its window, and has acknowledged nothing new with that: whether it is worth a record, for the
    /// other side may have filled what it was offered.
    pub(crate) fn is_opening_due(&self, env: &Env, is_resting: bool) -> bool {
        let is_much = self.unrecorded_window() >= OPENED_BYTES as i32;
        self.has_opened(env) && (!is_resting || is_much)
    }

    /// Whether its side's window has opened by something worth telling the other one: anything, to who has nothing under way.
    pub(crate) fn has_opened(&self, env: &Env) -> bool {
        let Some(across) = env.across.as_ref().filter(|_| self.passes_ahead()) else {
            return false;
        };
        let is_awaited = across.contract.seems_closed() || self.behind().bytes == 0;
        let least = if is_awaited { 1 } else { across.contract.options.mss };
        self.unrecorded_window() >= i32::from(least)
    }

    /// Nobody is left to read this payload.
    pub(crate) fn apply_unread(&mut self, bytes: u32) {
        let mut unseen = bytes;
        if let App::Proxy(leg) = &mut self.app {
            let known = bytes.min(leg.ahead.bytes);
            leg.ahead.bytes -= known;
            unseen -= known;
        }
        self.contract.rcv_nxt += unseen;
        self.contract.received += u64::from(unseen);
    }

    /// Whether something is ahead that nobody is left to acknowledge.
    pub(crate) fn has_unread(&self) -> bool {
        let is_unread = |leg: &Proxy| leg.phase == Phase::Alone && leg.ahead != Ahead::default();
        self.app.leg().is_some_and(is_unread)
    }

    /// Records it. The caller has asked the log.
    pub(crate) fn write_off<R: Recorder>(&mut self, slot: u32, env: &mut Env, recorder: &mut R) {
        let Ahead { bytes, fin } = self.ahead();
        if bytes > 0 {
            self.enact(slot, env, recorder, &Fact::Unread(bytes));
        }
        if let App::Proxy(leg) = &mut self.app {
            leg.ahead.fin = false;
        }
        if fin && self.contract.state.can_receive() {
            self.enact(slot, env, recorder, &Fact::Fin);
        }
        self.local.owed.ack_new = true;
    }

    /// Forgets what is ahead: the contract is what the peer holds of it.
    pub(crate) fn forget_ahead(&mut self, env: &mut Env) {
        let (ahead, behind) = (self.ahead(), self.behind());
        let App::Proxy(leg) = &mut self.app else { return };
        (leg.ahead, leg.behind) = (Ahead::default(), Ahead::default());
        if leg.passes_ahead() {
            self.backlog.clear(&mut env.memory.chunks);
        }
        self.contract = self.contract.recorded(ahead);
        let taken = self.output.take_back(&mut env.memory, behind.bytes);
        assert!(taken.is_ok(), "there is room for what was there before");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::proxy::{Ack, NO_SERVER};
    use crate::tcp::contract::Options;

    /// A leg whose side has acknowledged `passed` of `behind` bytes that the log knows nothing of.
    fn leg(passed: u32, behind: u32) -> Flow {
        let mut leg = Proxy::server(Ack::EndToEnd, NO_SERVER, NONE);
        (leg.phase, leg.behind.bytes) = (Phase::Joined, behind);
        let mut flow = Flow { app: App::Proxy(leg), ..Flow::default() };
        flow.contract.options = Options { mss: 1460, ..Options::default() };
        flow.local.snd_una = flow.contract.snd_una + passed;
        flow
    }

    /// Of 2500 bytes a full segment was sent, taken and read. What is left is too little for another one, and the step from
    /// there is by the timestamps shorter than an MSS.
    #[test]
    fn a_step_is_whatever_the_other_side_makes() {
        let Flow { app: App::Proxy(leg), contract, .. } = leg(0, 0) else { unreachable!() };
        let sender = Contract { rcv_nxt: Seq(1448), rcv_edge: Seq(2500), ..contract };
        let receiver = Contract { snd_wnd: 2500, ..Contract::default() };
        let edge =
            |sender| wider_edge(sender, &leg, Some((&receiver, &Output::new())), 256 << 10, 0);
        assert_eq!(edge(&sender), Some(Seq(1448 + 2500)));
        let sender = Contract { rcv_edge: Seq(1448 + 2500), ..sender };
        assert_eq!(edge(&sender), None, "and never to the left");
    }

    /// Whoever opens its window by less than a segment leaves the sender a stock to go on from; what is left of a larger window
    /// does not, as its side may never read again.
    #[test]
    fn a_window_of_less_than_a_segment_is_stocked_when_it_opens() {
        let Flow { app: App::Proxy(leg), contract, .. } = leg(0, 0) else { unreachable!() };
        let sender = Contract { rcv_nxt: Seq(1000), rcv_edge: Seq(1000), ..contract };
        let edge = |snd_wnd, opened, buffer| {
            let receiver = Contract { snd_wnd, ..Contract::default() };
            let other = Some((&receiver, &Output::new()));
            wider_edge(&sender, &leg, other, buffer, opened).map(|edge| edge.since(Seq(1000)))
        };
        assert_eq!(edge(624, 624, 256 << 10), Some(2 * 1460), "opened by that");
        assert_eq!(edge(624, 200, 256 << 10), Some(2 * 1460), "by much of it");
        assert_eq!(edge(624, 128, 256 << 10), Some(624), "rounded otherwise");
        assert_eq!(edge(624, 0, 256 << 10), Some(624), "left over");
        assert_eq!(edge(1460, 1460, 256 << 10), Some(1460), "a segment is enough");
        assert_eq!(edge(624, 624, 2000), Some(2000), "no more than we have room for");
        assert_eq!(edge(0, 0, 256 << 10), None);
        let options = Options { timestamps: true, ..sender.options };
        let (sender, snd_wnd) = (Contract { options, ..sender.clone() }, 1448);
        let receiver = Contract { snd_wnd, ..Contract::default() };
        let other = Some((&receiver, &Output::new()));
        let edge = wider_edge(&sender, &leg, other, 256 << 10, snd_wnd);
        assert_eq!(edge, Some(Seq(1000 + 1448)), "so is one beside timestamps");
    }

    /// Of a window of 1448 bytes a scale of 5 leaves 1440: a sender would wait for his persist timer with each segment.
    #[test]
    fn a_window_of_a_segment_is_one_whatever_the_scale() {
        let Flow { app: App::Proxy(leg), contract, .. } = leg(0, 0) else { unreachable!() };
        let edge = |rcv_scale, snd_wnd, buffer| {
            let options = Options { timestamps: true, rcv_scale, ..contract.options };
            let (rcv_nxt, rcv_edge) = (Seq(1000), Seq(1000));
            let sender = Contract { options, rcv_nxt, rcv_edge, ..contract.clone() };
            let receiver = Contract { snd_wnd, ..Contract::default() };
            let other = Some((&receiver, &Output::new()));
            wider_edge(&sender, &leg, other, buffer, 0).map(|edge| edge.since(Seq(1000)))
        };
        assert_eq!(edge(3, 1448, 256 << 10), Some(1448));
        assert_eq!(edge(5, 1448, 256 << 10), Some(1472));
        assert_eq!(edge(5, 1471, 256 << 10), Some(1472));
        assert_eq!(edge(5, 1472, 256 << 10), Some(1472));
        assert_eq!(edge(5, 1480, 256 << 10), Some(1480), "a segment can be said");
        assert_eq!(
            edge(5, 1447, 256 << 10),
            Some(1447),
            "less than a segment is no more than it is"
        );
        assert_eq!(edge(5, 1448, 1450), Some(1450), "no more than we have room for");
    }

    #[test]
    fn a_word_may_linger_unless_somebody_waits() {
        let passed = |bytes, fin| Passed { bytes, fin };
        let lingers = |passed, window| may_linger(&passed, 1460, window);
        assert!(lingers(passed(100, PassedFin::None), 30_000));
        assert!(!lingers(passed(2920, PassedFin::None), 30_000), "a stream that begins");
        assert!(!lingers(passed(100, PassedFin::None), 4_000), "little room is left");
        assert!(!lingers(passed(100, PassedFin::Last), 30_000), "the end of it");
        assert!(!lingers(passed(0, PassedFin::None), 30_000), "a window that opens");
    }

    #[test]
    fn who_begins_hears_soon_and_who_goes_on_now_and_then() {
        const WINDOW: u32 = 200_000;
        assert!(leg(1, 100_000).is_passing_due(WINDOW, false, false), "the first in a while");
        assert!(
            leg(150_000, 100_000).is_passing_due(WINDOW, true, false),
            "half of what was offered"
        );
        assert!(!leg(140_000, 200_000).is_passing_due(WINDOW, true, false), "more is under way");
        assert!(!leg(2000, 2000).is_passing_due(WINDOW, true, false), "a word or two may wait");
        assert!(leg(1000, 1000).is_passing_due(WINDOW, true, true), "not one that was answered");
        assert!(!leg(1000, 1200).is_passing_due(WINDOW, true, true), "more was said");
        assert!(!leg(2000, 2000).is_passing_due(WINDOW, true, true), "and a stream is no word");
        let mut flow = leg(14_480, 14_480);
        let early = (0..100).filter(|_| flow.is_passing_due(WINDOW, true, false)).count();
        assert_eq!(early, usize::from(EARLY_RECORDS_MAX), "all is through: a few times");
        flow.note_passed(Passed { bytes: 14_480, ..Passed::default() });
        assert!(!flow.is_passing_due(WINDOW, true, false));
        flow.note_passed(Passed { bytes: UNA_FLUSH_BYTES / 2, ..Passed::default() });
        assert!(flow.is_passing_due(WINDOW, true, false), "earned");
        assert!(!flow.is_passing_due(WINDOW, true, false));
    }
}
