//! A flow's timers, as one deadline: the earliest of everything that time may bring.
//!
//! The wheel holds one timer for each flow. When it fires, [`Flow::handle_timer`] does whatever has come
//! due and the flow is armed for the next deadline. Only time that changes the contract is recorded.
//!
//! Spec: RFC 6298 (through the sender), RFC 9293 3.8.6.1 (probes), 3.10.8.

use crate::fact::{Fact, Tick};
use crate::flow::{Env, Flow, Standing};
use crate::limits::{FIN_WAIT_2, PERSIST_COUNT_LEAST, PERSIST_FIRST, PERSIST_MAX, TICK_AGAIN};
use crate::recorder::Recorder;
use crate::tcp::sender::TimeoutOutcome;
use crate::tcp::state::State;
use crate::time::{Duration, Instant};

impl Flow {
    /// When [`Flow::handle_timer`] is next due.
    pub fn poll_timeout(&self, env: &Env) -> Instant {
        let local = &self.local;
        if local.tick_waiting.is_some() {
            return local.tick_again_at;
        }
        let mut deadline = local
            .ack_at
            .min(local.hold_back_until)
            .min(local.una_flush_at)
            .min(local.persist_at)
            .min(local.time_wait_until)
            .min(local.drain_at);
        if let Some(at) = self.sender.poll_timeout() {
            deadline = deadline.min(at);
        }
        if let Some(idle) = self.idle_timeout(env) {
            deadline = deadline.min(local.heard_at + idle);
        }
        deadline
    }

    /// The idle time-out in force, if any: TIME-WAIT has its own clock, FIN-WAIT-2 must not last for ever.
    fn idle_timeout(&self, env: &Env) -> Option<Duration> {
        let configured = env.services[self.service as usize].idle_timeout;
        match self.contract.state {
            State::Closed | State::TimeWait => None,
            State::FinWait2 => Some(configured.unwrap_or(FIN_WAIT_2).min(FIN_WAIT_2)),
            _ => configured,
        }
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
        if self.local.persist_at <= now && self.is_given_up(now, env) {
            self.local.persist_at = Instant::MAX;
            self.tick(now, slot, env, recorder, Tick::Abort);
            return;
        }
        self.handle_local_timers(now);
        if let Some(tick) = self.local.tick_waiting {
            if self.local.tick_again_at <= now {
                self.local.tick_waiting = None;
                self.tick(now, slot, env, recorder, tick);
            }
            return;
        }
        if self.local.drain_at <= now {
            self.local.drain_at = Instant::MAX;
            self.drain_reassembly(now, slot, env, recorder);
        }
        if self.sender.poll_timeout().is_some_and(|at| at <= now) {
            let outcome = self.sender.handle_timeout(now, &mut env.in_flight);
            if outcome == TimeoutOutcome::GiveUp {
                self.tick(now, slot, env, recorder, Tick::Abort);
                return;
            }
        }
        if self.local.una_flush_at <= now {
            self.record_acknowledged(now, slot, env, recorder);
        }
        if self.local.time_wait_until <= now {
            self.tick(now, slot, env, recorder, Tick::TimeWaitOver);
        }
        if self.idle_timeout(env).is_some_and(|idle| self.local.heard_at + idle <= now) {
            self.handle_idle(now, slot, env, recorder);
        }
    }

    /// RFC 9293 3.8.3 and MUST-37: a closed window may stay closed as long as the client answers;
    /// one that has not answered any probe for as long as R2 is gone.
    fn is_given_up(&self, now: Instant, env: &Env) -> bool {
        let patience = env.services[self.service as usize].sender.give_up_after;
        self.local.persist_count >= PERSIST_COUNT_LEAST && self.local.heard_at + patience <= now
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
        self.local.heard_at = now;
        if self.local.snd_una != self.contract.snd_una {
            self.record_acknowledged(now, slot, env, recorder);
        }
        // A promoted flow makes nothing up where a former owner may have spoken (DESIGN 5). Without memory
        // for what the application might say, the flow gives back what it holds.
        let must_abort = self.in_grace(now)
            || self.contract.state == State::FinWait2
            || !self.memory_allows(env, &Fact::Tick(Tick::Idle));
        let tick = if must_abort { Tick::Abort } else { Tick::Idle };
        self.tick(now, slot, env, recorder, tick);
    }

    fn handle_local_timers(&mut self, now: Instant) {
        let local = &mut self.local;
        if local.hold_back_until <= now {
            local.hold_back_until = Instant::MAX;
            local.owed.ack_new = true;
        }
        if local.ack_at <= now {
            local.ack_at = Instant::MAX;
            local.owed.ack_new = true;
        }
        if local.persist_at <= now {
            let window = (local.snd_una + local.snd_wnd).distance(local.snd_nxt);
            if window > 0 {
                // RFC 9293 3.8.6.2.1: the override time-out of silly-window avoidance.
                local.owed.partial = true;
            } else {
                local.owed.probe = true;
            }
            local.persist_count = local.persist_count.saturating_add(1);
            local.persist_at = Instant::MAX;
            let interval = self.persist_interval();
            self.local.persist_at = now + interval;
        }
    }

    /// Enacts a tick if the log has room for it; else it comes due again a little later.
    fn tick<R: Recorder>(
        &mut self,
        now: Instant,
        slot: u32,
        env: &mut Env,
        recorder: &mut R,
        tick: Tick,
    ) {
        let is_copied = self.standing == Standing::Copied;
        if is_copied && recorder.room(self.group, 0, true).is_none() {
            self.local.tick_waiting = Some(tick);
            self.local.tick_again_at = now + TICK_AGAIN;
            return;
        }
        self.enact(slot, env, recorder, &Fact::Tick(tick));
        self.local.time_wait_until = Instant::MAX;
        if self.contract.state == State::Closed && tick != Tick::TimeWaitOver {
            self.local.owed.rst = true;
        }
    }
}
