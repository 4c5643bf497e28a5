//! What the two legs of a proxied connection do to each other.
//!
//! While one leg is touched, the other *lends* what that may change: contract, application, output, backlog
//! ([`Across`], in [`Env`]). So a fact of one leg changes both in the one call of [`Flow::apply`], on the owner and
//! on the peer alike, and a flow stays a value that knows nothing of the table it lies in.
//!
//! | fact of one leg | what it does to the other |
//! |---|---|
//! | payload | becomes its output |
//! | FIN | closes its output |
//! | acknowledgement | makes room: recorded as a `Room` of its own once that is worth it; end to end: what was said there is received |
//! | the server has answered | (it gets a header, if it wants one, and what the client has said so far, but for its own) |
//! | the server refused, or did not answer | waits for the next one |
//! | RST, its FIN having arrived before; the end in good order | is alone from now on: its input is thrown away |
//! | any other RST, a time-out | is reset |
//!
//! A server that is alone is reset when it says more and has acknowledged all that its client said.
//!
//! What the other leg says because its output was closed or because it is reset waits until the peer holds the
//! fact ([`crate::recorder::Recorder::follow`]); payload does not: its sender keeps it until the peer holds it.
//!
//! That table is about facts. End to end, payload and a FIN go over before they are facts: [`passing`].
//!
//! Links between legs are cut in the moment in which either is over: a leg with a link has a living other.

pub(crate) mod passing;

use crate::app::App;
use crate::app::proxy::end::End;
use crate::app::proxy::header::Header;
use crate::app::proxy::header::heard::{Heard, hear_said};
use crate::app::proxy::{Phase, Proxy, Side};
use crate::bytes::ByteQueue;
use crate::fact::{Fact, PassedFin, Tick};
use crate::flow::{Env, Flow, FlowId, Standing};
use crate::key::FlowKey;
use crate::output::{OutOfMemory, Output};
use crate::pool::NONE;
use crate::recorder::{FlowName, Progress, Recorder};
use crate::tcp::contract::Contract;
use crate::tcp::state::{Event, State};

/// The bit of a flow's name that is set for the leg towards a server: the last of the 48 that a record has for it.
const SERVER_LEG: u64 = 1 << 47;

impl FlowId {
    /// The name of the other leg of the same proxied connection.
    #[inline]
    pub const fn other_leg(self) -> FlowId {
        FlowId(self.0 ^ SERVER_LEG)
    }

    /// The name of the client's leg of the same connection: that of the whole.
    #[inline]
    pub const fn client_leg(self) -> FlowId {
        FlowId(self.0 & !SERVER_LEG)
    }

    /// Whether it names the leg towards a server.
    #[inline]
    pub const fn is_server_leg(self) -> bool {
        self.0 & SERVER_LEG != 0
    }
}

/// What the other leg lends while facts of this one are applied.
#[derive(Clone, Debug)]
pub struct Across {
    /// Both of its ends.
    pub key: FlowKey,
    /// Its contract.
    pub contract: Contract,
    /// Its application.
    pub leg: Proxy,
    /// What it has to say.
    pub output: Output,
    /// What it has heard while nobody was there to take it.
    pub backlog: ByteQueue,
    /// The last fact that it must not answer before the peer holds it; 0 if there is none.
    pub hold_op: u64,
    /// The last fact that changed it; 0 if there is none.
    pub last_op: u64,
    /// Its side is to be asked for its window.
    pub is_asked: bool,
}

impl Across {
    /// What must not show before the peer holds the fact that changed it: whether the leg is over or closes.
    #[inline]
    pub(crate) fn standing(&self) -> (State, bool) {
        (self.contract.state, self.output.is_closed())
    }

    /// What it may acknowledge and offer once the peer holds everything so far.
    #[inline]
    pub(crate) fn progress(&self) -> Progress {
        self.contract.progress(self.leg.ahead)
    }
}

impl Flow {
    /// Whether what the other side still says is thrown away: nobody is left to take it.
    #[inline]
    pub fn is_deaf(&self) -> bool {
        match &self.app {
            App::Proxy(leg) => leg.phase == Phase::Alone,
            _ => self.output.is_closed(),
        }
    }

    /// Whether its side is a server that goes on although its client is gone, and has all that he has said: nothing that it
    /// has yet to read is lost by a reset. (A client is heard to the end: he may read his answer only then.)
    pub(crate) fn speaks_to_nobody(&self) -> bool {
        let is_server = self.app.leg().is_some_and(|leg| leg.side == Side::Server);
        is_server && self.is_deaf() && self.contract.state == State::FinWait2
    }

    /// Lends what facts of the other leg may change.
    pub fn lend(&mut self) -> Option<Across> {
        let leg = self.app.leg()?.clone();
        Some(Across {
            key: self.key,
            contract: core::mem::take(&mut self.contract),
            leg,
            output: core::mem::take(&mut self.output),
            backlog: core::mem::take(&mut self.backlog),
            hold_op: 0,
            last_op: 0,
            is_asked: false,
        })
    }

    /// Gets it back; answers whether there may be something new to say.
    pub fn get_back(&mut self, across: Across, before: &Lent) -> bool {
        let Across { key: _, contract, leg, output, backlog, hold_op, last_op, is_asked } = across;
        let is_over = contract.state == State::Closed;
        let mut has_news = contract.state != before.state
            || leg.phase != before.phase
            || output.end() != before.end
            || (output.is_closed() || leg.behind.fin) != before.closes
            || is_asked
            || is_over;
        self.local.owed.probe |= is_asked;
        (self.contract, self.output, self.backlog) = (contract, output, backlog);
        self.app = App::Proxy(leg);
        if self.standing == Standing::Absent {
            let progress = self.progress();
            has_news |= core::mem::replace(&mut self.local.committed, progress) != progress;
        }
        if has_news {
            self.local.deadlines.note_change();
        }
        if hold_op != 0 {
            self.local.hold_op = hold_op;
        }
        if last_op != 0 {
            self.local.last_op = last_op;
        }
        // RFC 9293 3.10.5: in SYN-SENT there is nobody to tell.
        self.local.owed.rst |= is_over && before.state != State::SynSent;
        has_news
    }

    /// The bytes that this leg's other side said go to the other leg's output.
    #[inline]
    pub(crate) fn sink<'a>(
        output: &'a mut Output,
        across: &'a mut Option<Across>,
    ) -> &'a mut Output {
        match across {
            Some(across) => &mut across.output,
            None => output,
        }
    }

    /// The server has answered: what its client has said so far is for it.
    pub(crate) fn join(&mut self, env: &mut Env) -> Result<(), OutOfMemory> {
        let Env { across: Some(across), memory, services, .. } = env else { return Ok(()) };
        let App::Proxy(leg @ Proxy { side: Side::Server, phase: Phase::Waiting, .. }) =
            &mut self.app
        else {
            return Ok(());
        };
        let upstream = &services[self.group as usize].upstream;
        let mut client = across.key;
        if upstream.accepts_header
            && let Heard::Whole { bytes, client: named } =
                hear_said(&across.backlog, &memory.chunks)
        {
            client = named.unwrap_or(client);
            across.backlog.consume(&mut memory.chunks, bytes);
        }
        if let Some(version) = upstream.header {
            self.output.push_bytes(memory, Header::new(version, &client).bytes())?;
        }
        self.output.push_queue(memory, &mut across.backlog)?;
        (leg.phase, across.leg.phase) = (Phase::Joined, Phase::Joined);
        leg.behind = across.leg.ahead;
        if across.contract.fin_received {
            self.output.close();
        }
        Ok(())
    }

    /// Notes at the client's leg what ends the connection, if this fact does.
    pub(crate) fn note_end(&mut self, env: &mut Env, fact: &Fact) {
        let App::Proxy(leg) = &mut self.app else { return };
        let side = leg.side;
        if side == Side::Server && leg.is_waiting() {
            // The client waits for another.
            return;
        }
        let end = match fact {
            Fact::Fin => End::Closed(side),
            Fact::Acked(acked) if acked.passed.fin != PassedFin::None => End::Closed(side.other()),
            Fact::Reset => End::Reset(side),
            Fact::Tick(tick)
                if *tick != Tick::TimeWaitOver && self.contract.state == State::Closed =>
            {
                End::Silent(side)
            }
            _ => return,
        };
        match (side, &mut env.across) {
            (Side::Client, _) => leg.note_end(end),
            (Side::Server, Some(across)) => across.leg.note_end(end),
            (Side::Server, None) => {}
        }
    }

    /// Carries on at the other leg what `fact` has changed at this one.
    pub(crate) fn follow_across(&mut self, env: &mut Env, fact: &Fact) {
        let Env { across: Some(across), memory, .. } = env else { return };
        let App::Proxy(leg) = &mut self.app else { return };
        across.contract.follow(&across.output);
        if self.contract.state != State::Closed {
            return;
        }
        (leg.other, across.leg.other) = (NONE, NONE);
        if leg.side == Side::Server && leg.is_waiting() {
            // Refused, or not answered: the client waits for another.
            across.leg.failures = across.leg.failures.saturating_add(1);
            return;
        }
        let is_in_order = match fact {
            Fact::Reset => self.contract.fin_received && leg.is_joined(),
            Fact::Tick(tick) => *tick == Tick::TimeWaitOver,
            _ => true,
        };
        if is_in_order {
            across.leg.phase = Phase::Alone;
            across.backlog.clear(&mut memory.chunks);
        } else {
            across.contract.state = across.contract.state.next(Event::Aborted);
        }
    }

    /// A fact that this leg has recorded at `op` changes the other one, which is in `slot`: it learns when the peer holds
    /// that and, if it must hold its answer, says nothing before.
    pub(crate) fn tell_across<R: Recorder>(
        &self,
        env: &mut Env,
        recorder: &mut R,
        (op, fact): (u64, &Fact),
        (slot, must_hold): (u32, bool),
    ) {
        let is_awaited = must_hold || !self.may_linger(env, fact);
        let Some(across) = &mut env.across else { return };
        across.last_op = op;
        if must_hold {
            across.hold_op = op;
        }
        let name = FlowName { group: self.group, id: self.id.other_leg(), slot };
        recorder.follow(name, across.progress(), is_awaited);
    }
}

/// How a leg stood when it lent what it has.
#[derive(Clone, Copy, Debug)]
pub struct Lent {
    /// Where it is kept.
    pub slot: u32,
    state: State,
    phase: Phase,
    end: u64,
    /// Whether a FIN belonged behind its output.
    pub closes: bool,
}

impl Lent {
    /// The leg in `slot`, about to lend.
    pub fn of(slot: u32, flow: &Flow) -> Lent {
        let phase = flow.app.leg().map_or(Phase::Alone, |leg| leg.phase);
        let (state, end) = (flow.contract.state, flow.output.end());
        Lent { slot, state, phase, end, closes: flow.closes() }
    }
}
