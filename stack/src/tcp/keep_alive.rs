//! Keep-alive: an idle connection is asked for a sign of life, where the service wants that.
//!
//! A probe is an empty segment below `snd_una`, which every TCP answers with its present state. Several in a row
//! without an answer end the flow by a recorded tick. An answer proves that the other side lives, and nothing
//! else: the idle time-out, which is about silence of those who use the connection, runs on.
//!
//! Spec: RFC 9293 3.8.4, MUST-24 to MUST-29, SHLD-12; RFC 1122 4.2.3.6. Left out: MAY-6, a probe with an octet.
//! FIN-WAIT-2 has a time-out of its own where nobody listens any more, and in the other states something is in flight.
//! Bounds: probes are [`KeepAlive::interval`] apart.

use crate::fact::Tick;
use crate::flow::{Env, Flow};
use crate::recorder::Recorder;
use crate::service::KeepAlive;
use crate::tcp::deadline::{Heard, Wait};
use crate::tcp::seat::Senders;
use crate::tcp::state::State;
use crate::time::Instant;
use crate::wire::Segment;

impl Flow {
    /// When keep-alive is next due; MAX if it is off or there is something better to wait for.
    #[inline]
    pub(super) fn keep_alive_at(&self, now: Instant, env: &Env) -> Instant {
        match &env.services[self.group as usize].keep_alive {
            Some(settings) => self.keep_alive_due(now, &env.senders, settings),
            None => Instant::MAX,
        }
    }

    fn keep_alive_due(&self, now: Instant, senders: &Senders, settings: &KeepAlive) -> Instant {
        let local = &self.local;
        let is_open = match self.contract.state {
            State::Established | State::CloseWait => true,
            // Half closed: somebody still waits for what the other side has to say.
            State::FinWait2 => !self.is_deaf(),
            _ => false,
        };
        // MUST-26: only when nothing is in flight; a closed window has probes of its own.
        if !is_open || !self.sender.is_idle(senders) || local.deadlines.is_set(Wait::Persist) {
            return Instant::MAX;
        }
        if local.probes_unanswered > 0 {
            return local.probed.until(now, settings.interval);
        }
        // MUST-26: and when nothing was heard, answers to former probes included.
        let heard = local.heard.until(now, settings.idle);
        heard.max(local.probed.until(now, settings.idle))
    }

    /// Probes, or gives up: one probe without an answer proves nothing (MUST-29).
    pub(super) fn handle_keep_alive<R: Recorder>(
        &mut self,
        now: Instant,
        slot: u32,
        env: &mut Env,
        recorder: &mut R,
    ) {
        let Some(settings) = &env.services[self.group as usize].keep_alive else { return };
        if self.local.probes_unanswered >= settings.count {
            self.local.probed = Heard::at(now);
            self.tick(now, slot, env, recorder, Tick::Abort);
            return;
        }
        self.local.probes_unanswered += 1;
        self.local.probed = Heard::at(now);
        // SHLD-12: SEG.SEQ = SND.NXT - 1, no data; nothing is in flight, so that is below `snd_una`.
        self.local.owed.probe = true;
    }

    /// The other side lives.
    #[inline]
    pub(super) fn note_heard(&mut self, now: Instant, segment: &Segment) {
        let local = &mut self.local;
        if local.probes_unanswered > 0 {
            (local.probes_unanswered, local.probed) = (0, Heard::at(now));
            if segment.is_empty() {
                return;
            }
        }
        local.heard = Heard::at(now);
    }
}
