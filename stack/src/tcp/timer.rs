//! A flow's timers, as one deadline: the earliest of everything that time may bring.
//!
//! The wheel holds one timer for each flow. When it fires, [`Flow::handle_timer`] does whatever has come
//! due and the flow is armed for the next deadline. Only time that changes the contract is recorded.
//!
//! Spec: RFC 6298 (through the sender), RFC 9293 3.8.6.1 (probes), 3.10.8.

use crate::app::proxy::Side;
use crate::fact::{Fact, Tick};
use crate::flow::{Env, Flow, Standing};
use crate::limits::{
    FIN_WAIT_2, PERSIST_COUNT_LEAST, PERSIST_FIRST, PERSIST_MAX, SCARCE_TIMEOUTS_MAX,
    SHARE_BYTES_LEAST, TICK_AGAIN,
};
use crate::recorder::Recorder;
use crate::service::Service;
use crate::tcp::deadline::{Change, Heard, SILENCE_MAX, Wait};
use crate::tcp::sender::TimeoutOutcome;
use crate::tcp::state::State;
use crate::time::{Duration, Instant};
use crate::upstream::Upstream;

impl Flow {
    /// When [`Flow::handle_timer`] is next due: at the latest when a long silence must be kept from coming round.
    pub fn poll_timeout(&self, now: Instant, env: &Env) -> Instant {
        let local = &self.local;
        if local.tick_waiting.is_some() {
            return local.deadlines.at(now, Wait::Room);
        }
        let silence = self.idle_timeout(env).unwrap_or(SILENCE_MAX);
        let mut deadline = local.deadlines.first(now).min(local.heard.until(now, silence));
        if let Some(at) = self.sender.poll_timeout(&env.senders) {
            deadline = deadline.min(at);
        }
        deadline.min(self.keep_alive_at(now, env))
    }

    /// When [`Flow::handle_timer`] is next due, given a timer that was right before the last change: MAX if it is
    /// early enough.
    #[inline]
    pub fn poll_sooner(&self, now: Instant, env: &Env, change: Change) -> Instant {
        if change == Change::All || self.local.tick_waiting.is_some() {
            return self.poll_timeout(now, env);
        }
        let at = self.sender.poll_timeout(&env.senders).unwrap_or(Instant::MAX);
        if change == Change::Nothing { at } else { at.min(self.local.deadlines.first(now)) }
    }

    /// The idle time-out in force, if any: TIME-WAIT has its own clock, FIN-WAIT-2 must not last for ever.
    fn idle_timeout(&self, env: &Env) -> Option<Duration> {
        let service = &env.services[self.group as usize];
        let configured = self.patience(service);
        match self.contract.state {
            State::Closed | State::TimeWait => None,
            State::SynSent | State::SynReceived if self.contract.is_active => {
                Some(service.connect_timeout)
            }
            // Half closed for as long as a server likes.
            State::FinWait2 if !self.is_deaf() => configured,
            State::FinWait2 => Some(configured.unwrap_or(FIN_WAIT_2).min(FIN_WAIT_2)),
            _ => configured,
        }
    }

    /// How long its side may say nothing: of a proxied connection each has its own time-out, and another where only one way
    /// is open.
    fn patience(&self, service: &Service) -> Option<Duration> {
        let Some(leg) = self.app.leg() else { return service.idle_timeout };
        let Upstream { server_idle, half_closed, .. } = &service.upstream;
        let idle = if leg.side == Side::Server { *server_idle } else { service.idle_timeout };
        let is_half_closed = self.contract.fin_received || leg.ahead.fin || self.closes();
        idle.into_iter().chain(half_closed.filter(|_| is_half_closed)).min()
    }

    /// How long to wait for the next probe of a closed window.
    pub(crate) fn persist_interval(&self) -> Duration {
        let doubled = PERSIST_FIRST.0 << self.local.persist_count.min(16);
        Duration(doubled.min(PERSIST_MAX.0))
    }

    /// Does what has come due at `now`.
    pub fn handle_timer<R: Recorder>(
        &mut self,
        now: Instant,
        slot: u32,
        env: &mut Env,
        recorder: &mut R,
    ) {
        if self.contract.state == State::Closed {
            return;
        }
        self.local.heard.clamp(now);
        if self.local.deadlines.is_due(now, Wait::Persist) && self.is_given_up(now, env) {
            self.local.deadlines.clear(Wait::Persist);
            self.tick(now, slot, env, recorder, Tick::Abort);
            return;
        }
        self.handle_local_timers(now);
        let again = self.local.deadlines.take_due(now, Wait::Room);
        if again {
            self.drain_reassembly(now, slot, env, recorder);
        }
        if let Some(tick) = self.local.tick_waiting {
            if again {
                self.local.tick_waiting = None;
                self.tick(now, slot, env, recorder, tick);
            }
            return;
        }
        if self.sender.poll_timeout(&env.senders).is_some_and(|at| at <= now) {
            let outcome = self.sender.handle_timeout(now, &mut env.senders);
            if outcome == TimeoutOutcome::GiveUp || self.is_in_the_way(env, outcome) {
                self.tick(now, slot, env, recorder, Tick::Abort);
                return;
            }
        }
        if self.local.deadlines.take_due(now, Wait::UnaFlush) {
            if self.has_unrecorded(env) {
                self.record_acknowledged(now, slot, env, recorder);
            } else {
                // It has rested for a while, and may begin anew.
                self.local.early_records = 0;
            }
        }
        if self.local.deadlines.is_due(now, Wait::TimeWait) {
            self.tick(now, slot, env, recorder, Tick::TimeWaitOver);
        }
        let heard = self.local.heard;
        if self.idle_timeout(env).is_some_and(|idle| heard.until(now, idle) <= now) {
            self.handle_idle(now, slot, env, recorder);
        } else if self.keep_alive_at(now, env) <= now {
            self.handle_keep_alive(now, slot, env, recorder);
        }
    }

    /// RFC 9293 3.8.3 and MUST-37: a closed window may stay closed as long as the client answers;
    /// one that has not answered any probe for as long as R2 is gone.
    fn is_given_up(&self, now: Instant, env: &Env) -> bool {
        let patience = env.services[self.group as usize].sender.give_up_after;
        self.local.persist_count >= PERSIST_COUNT_LEAST && self.local.heard.silence(now) >= patience
    }

    /// Whether its side has acknowledged nothing for some time-outs (so that it may have vanished), and what it was sent is needed
    /// for others. That is sooner than RFC 9293 SHLD-11 asks for (100 s at least), for want of memory alone.
    fn is_in_the_way(&self, env: &mut Env, outcome: TimeoutOutcome) -> bool {
        let is_it = outcome == TimeoutOutcome::Retransmit
            && self.sender.timeouts(&env.senders) >= SCARCE_TIMEOUTS_MAX
            && self.output.stored() > SHARE_BYTES_LEAST as u64
            && env.memory.is_scarce();
        env.memory.given_up += u64::from(is_it);
        is_it
    }

    /// Nothing was heard for too long: the application decides, where it may.
    fn handle_idle<R: Recorder>(
        &mut self,
        now: Instant,
        slot: u32,
        env: &mut Env,
        recorder: &mut R,
    ) {
        // What is idle must not come due again at once.
        self.local.heard = Heard::at(now);
        if self.local.snd_una != self.contract.snd_una {
            self.record_acknowledged(now, slot, env, recorder);
        }
        // A promoted flow makes nothing up where a former owner may have spoken (DESIGN 5). Without memory
        // for what the application might say, the flow gives back what it holds.
        let must_abort = self.in_grace(now, env)
            || (self.contract.is_active && !self.contract.state.is_synchronized())
            || self.contract.state == State::FinWait2
            || !self.memory_allows(env, &Fact::Tick(Tick::Idle));
        let tick = if must_abort { Tick::Abort } else { Tick::Idle };
        self.tick(now, slot, env, recorder, tick);
    }

    fn handle_local_timers(&mut self, now: Instant) {
        let local = &mut self.local;
        if local.deadlines.take_due(now, Wait::HoldBack) {
            local.owed.ack_new = true;
        }
        if local.deadlines.take_due(now, Wait::Ack) {
            if self.contract.state == State::SynSent {
                local.owed.syn_ack = true;
            } else {
                local.owed.ack_new = true;
                local.delayed_ack.note_late();
            }
        }
        if local.deadlines.is_due(now, Wait::Persist) {
            let window = (local.snd_una + local.snd_wnd).distance(local.snd_nxt);
            if window > 0 {
                // RFC 9293 3.8.6.2.1: the override time-out of silly-window avoidance.
                local.owed.partial = true;
            } else {
                local.owed.probe = true;
            }
            local.persist_count = local.persist_count.saturating_add(1);
            let interval = self.persist_interval();
            self.local.deadlines.set(Wait::Persist, now + interval);
        }
    }

    /// Enacts a tick if the log has room for it; else it comes due again a little later.
    pub(crate) fn tick<R: Recorder>(
        &mut self,
        now: Instant,
        slot: u32,
        env: &mut Env,
        recorder: &mut R,
        tick: Tick,
    ) {
        let is_copied = self.standing == Standing::Copied;
        if is_copied && recorder.room(self.lane(), 0, true).is_none() {
            self.local.tick_waiting = Some(tick);
            self.local.deadlines.set(Wait::Room, now + TICK_AGAIN);
            return;
        }
        // RFC 9293 3.10.5: in SYN-SENT there is nobody to tell.
        let is_known = self.contract.state != State::SynSent;
        self.enact(slot, env, recorder, &Fact::Tick(tick));
        self.local.deadlines.clear(Wait::TimeWait);
        if self.contract.state == State::Closed && tick != Tick::TimeWaitOver && is_known {
            self.local.owed.rst = true;
        }
    }
}
