//! What a fact changes: the one place where a contract does, and the same on owner and peer.

use crate::app::{App, Context, Tick as AppTick, Verdict};
use crate::fact::{Acked, Answered, Fact, Tick};
use crate::flow::{Env, Flow};
use crate::legs::passing;
use crate::output::OutOfMemory;
use crate::seq::Seq;
use crate::tcp::contract::Contract;
use crate::tcp::state::{Event, State};

impl Flow {
    /// Applies a fact: the one place where a contract changes, the same on owner and peer.
    ///
    /// The owner has made sure that memory suffices; on a peer an error means that this copy is spoilt.
    pub fn apply(&mut self, env: &mut Env, fact: &Fact) -> Result<(), OutOfMemory> {
        if self.contract.state == State::Closed {
            return Ok(());
        }
        let edge_before = self.contract.snd_edge();
        match fact {
            Fact::Open(_) => return Ok(()),
            Fact::Answered(answered) => self.apply_answered(env, answered)?,
            Fact::Acked(acked) => {
                self.apply_acked(env, acked)?;
                self.apply_passed(env, acked.passed)?;
            }
            Fact::Data(bytes) => self.apply_data(env, bytes)?,
            Fact::Fin => {
                self.contract.rcv_nxt += 1;
                self.contract.fin_received = true;
                self.contract.state = self.contract.state.next(Event::FinArrived);
                self.finish_input(env)?;
            }
            Fact::Reset => self.contract.state = self.contract.state.next(Event::Aborted),
            Fact::Tick(tick) => self.apply_tick(env, *tick)?,
            Fact::NextHop(mac) => {
                self.next_hop = *mac;
                return Ok(());
            }
            Fact::Room => {}
            Fact::Unread(bytes) => self.apply_unread(*bytes),
        }
        self.contract.follow(&self.output);
        self.note_end(env, fact);
        self.follow_across(env, fact);
        let opened = self.contract.snd_edge().distance(edge_before).max(0) as u32;
        self.widen_across(env, opened);
        self.extend_window(env);
        Ok(())
    }

    fn apply_answered(&mut self, env: &mut Env, answered: &Answered) -> Result<(), OutOfMemory> {
        if self.contract.state != State::SynSent {
            return Ok(());
        }
        let first_window = env.services[self.group as usize].first_window();
        self.contract.answer(answered, first_window);
        if answered.is_acknowledged {
            self.with_app(env, |app, context| app.open(context))?;
            self.join(env)?;
        }
        Ok(())
    }

    fn apply_acked(&mut self, env: &mut Env, acked: &Acked) -> Result<(), OutOfMemory> {
        let contract = &mut self.contract;
        let Acked { snd_una, snd_wnd, ts_recent, hint, passed: _ } = *acked;
        (contract.snd_wnd, contract.ts_recent, contract.hint) = (snd_wnd, ts_recent, hint);
        if !snd_una.after(contract.snd_una) {
            return Ok(());
        }
        let mut delta = snd_una.since(contract.snd_una) as u64;
        contract.snd_una = snd_una;
        if contract.state == State::SynReceived {
            delta -= 1;
            contract.state = State::Established;
            contract.una_offset = delta;
            self.with_app(env, |app, context| app.open(context))?;
            self.join(env)?;
        } else {
            contract.una_offset += delta;
        }
        self.output.trim(&mut env.memory, self.contract.una_offset);
        if !self.backlog.is_empty() { self.feed_backlog(env) } else { Ok(()) }
    }

    fn apply_data(&mut self, env: &mut Env, bytes: &[u8]) -> Result<(), OutOfMemory> {
        self.contract.rcv_nxt += bytes.len() as u32;
        self.contract.received += bytes.len() as u64;
        if self.is_deaf() {
            // The application has closed: what the client still sends is taken and thrown away.
            return Ok(());
        }
        let mut rest = bytes;
        if self.backlog.is_empty() {
            let consumed = self.with_app(env, |app, context| app.receive(context, rest))?;
            rest = &rest[consumed..];
            if self.is_deaf() || rest.is_empty() {
                return Ok(());
            }
        }
        if !self.backlog.append(&mut env.memory.chunks, rest) {
            return Err(OutOfMemory);
        }
        self.feed_backlog(env)
    }

    /// Offers the backlog until the application takes no more of it.
    fn feed_backlog(&mut self, env: &mut Env) -> Result<(), OutOfMemory> {
        let mut scratch = core::mem::take(&mut env.scratch);
        let mut result = Ok(());
        while !self.backlog.is_empty() && !self.app.blocked(&self.output) {
            if self.is_deaf() {
                self.backlog.clear(&mut env.memory.chunks);
                break;
            }
            let n = self.backlog.copy_at(&env.memory.chunks, 0, &mut scratch);
            match self.with_app(env, |app, context| app.receive(context, &scratch[..n])) {
                Ok(0) => break,
                Ok(consumed) => self.backlog.consume(&mut env.memory.chunks, consumed),
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
        }
        env.scratch = scratch;
        result?;
        if self.contract.fin_received { self.finish_input(env) } else { Ok(()) }
    }

    /// Tells the application that nothing follows, once it has had its chance to take what is left.
    fn finish_input(&mut self, env: &mut Env) -> Result<(), OutOfMemory> {
        let is_kept = !self.backlog.is_empty() || self.app.leg().is_some();
        let waits = is_kept && self.app.blocked(&self.output);
        if waits || self.is_deaf() {
            return Ok(());
        }
        self.backlog.clear(&mut env.memory.chunks);
        self.with_app(env, |app, context| app.finish(context))
    }

    fn apply_tick(&mut self, env: &mut Env, tick: Tick) -> Result<(), OutOfMemory> {
        let event = match tick {
            Tick::Idle => {
                match self.with_app(env, |app, context| app.tick(context, AppTick::Idle))? {
                    Verdict::Continue => return Ok(()),
                    Verdict::Abort => Event::Aborted,
                }
            }
            Tick::Abort => Event::Aborted,
            Tick::TimeWaitOver => Event::TimeWaitOver,
        };
        self.contract.state = self.contract.state.next(event);
        Ok(())
    }

    fn with_app<T>(&mut self, env: &mut Env, call: impl FnOnce(&mut App, &mut Context) -> T) -> T {
        let mut context = Context {
            content: &env.services[self.group as usize].content,
            memory: &mut env.memory,
            output: Flow::sink(&mut self.output, &mut env.across),
        };
        call(&mut self.app, &mut context)
    }

    /// Moves the right edge as far as the application has room.
    ///
    /// RFC 9293 MUST-39 and 3.8.6.2.2: only in steps that are worth a segment, and never to the left.
    fn extend_window(&mut self, env: &Env) {
        if let Some(edge) = self.wider_edge(env) {
            self.contract.rcv_edge = edge;
        }
    }

    /// Where the right edge may be moved to, if that is worth a segment.
    pub(crate) fn wider_edge(&self, env: &Env) -> Option<Seq> {
        let buffer = env.services[self.group as usize].receive_buffer;
        let sink = env.across.as_ref().map_or(&self.output, |across| &across.output);
        if let App::Proxy(leg) = &self.app
            && leg.passes_ahead()
        {
            let other = env.across.as_ref().map(|across| (&across.contract, &across.output));
            return passing::wider_edge(&self.contract, leg, other, buffer, 0);
        }
        let room = self.app.window_room(sink, buffer);
        let room = room.saturating_sub(self.backlog.len() as u32);
        worth_a_step(&self.contract, self.contract.rcv_nxt + room, buffer)
    }
}

/// Where the right edge may be moved to, if that is worth a segment.
fn worth_a_step(contract: &Contract, edge: Seq, buffer: u32) -> Option<Seq> {
    let step = u32::from(contract.options.mss).min(buffer / 2) as i32;
    (edge.distance(contract.rcv_edge) >= step).then_some(edge)
}
