//! A flow as bytes: what a peer needs to carry it on.
//!
//! Every struct is destructured without `..`, so that a new field which is not sorted into contract or
//! local does not compile. Local state is rebuilt by [`Flow::resume`].
//!
//! Bounds: an exported flow holds its output's and backlog's bytes, at most two receive buffers and a head.

use crate::app::App;
use crate::app::proxy::{Phase, Side};
use crate::bytes::ByteQueue;
use crate::codec::{ImportError, Put, Reader};
use crate::fact::{decode_key, encode_key};
use crate::flow::{Env, Flow, FlowId, Standing};
use crate::output::Output;
use crate::pool::NONE;
use crate::seq::Seq;
use crate::tcp::contract::{Contract, Options};
use crate::tcp::sender::Hint;
use crate::tcp::state::State;
use crate::wire::Mac;
use alloc::vec::Vec;
use core::hash::Hasher;
use siphasher::sip::SipHasher13;

/// Version of the format. The one before is read too: it knew no proxied connections.
const VERSION: u8 = 3;

impl Contract {
    fn export(&self, out: &mut Vec<u8>) {
        let Contract {
            state,
            iss,
            irs,
            rcv_nxt,
            rcv_edge,
            snd_una,
            una_offset,
            snd_wnd,
            ts_recent,
            hint: Hint { srtt_us, cwnd },
            options,
            fin_received,
            received,
            is_active,
        } = self;
        out.put_u8(*state as u8);
        for seq in [iss, irs, rcv_nxt, rcv_edge, snd_una] {
            out.put_u32(seq.0);
        }
        out.put_u64(*una_offset);
        out.put_u32(*snd_wnd);
        out.put_u32(*ts_recent);
        out.put_u32(*srtt_us);
        out.put_u32(*cwnd);
        options.encode(out);
        out.put_bool(*fin_received);
        out.put_u64(*received);
        out.put_bool(*is_active);
    }

    fn import(reader: &mut Reader) -> Result<Contract, ImportError> {
        let state = State::from_code(reader.u8()?).ok_or(ImportError::Invalid)?;
        let mut seqs = [Seq(0); 5];
        for seq in &mut seqs {
            *seq = Seq(reader.u32()?);
        }
        let [iss, irs, rcv_nxt, rcv_edge, snd_una] = seqs;
        let contract = Contract {
            state,
            iss,
            irs,
            rcv_nxt,
            rcv_edge,
            snd_una,
            una_offset: reader.u64()?,
            snd_wnd: reader.u32()?,
            ts_recent: reader.u32()?,
            hint: Hint { srtt_us: reader.u32()?, cwnd: reader.u32()? },
            options: Options::decode(reader)?,
            fin_received: reader.bool()?,
            received: reader.u64()?,
            is_active: reader.bool()?,
        };
        let is_alive = state != State::Closed && (state != State::SynSent || contract.is_active);
        // Rounding may have offered a few bytes more than the edge.
        let window = rcv_edge.distance(rcv_nxt);
        let has_window = (-(1 << 14)..=1 << 30).contains(&window);
        // The SYN is acknowledged in every state behind SYN-RECEIVED, and in none before.
        let is_before_stream = snd_una == iss && contract.una_offset == 0;
        let agrees = is_before_stream != state.is_synchronized();
        let in_bounds = contract.una_offset <= crate::limits::STREAM_BYTES_MAX;
        if is_alive && agrees && has_window && in_bounds {
            Ok(contract)
        } else {
            Err(ImportError::Invalid)
        }
    }
}

/// A flow as it is captured and adopted: whole, so with both legs if it is a proxied connection.
#[derive(Clone, Debug)]
pub struct Captured {
    /// The client's leg, or the only one that is left.
    pub flow: Flow,
    /// The leg towards the server, beside the client's.
    pub server: Option<Flow>,
}

impl Captured {
    /// Writes a flow and the leg that is linked to it, the client's first.
    pub fn export((flow, other): (&Flow, Option<&Flow>), env: &Env, out: &mut Vec<u8>) {
        let (first, second) = match other {
            Some(client) if flow.id.is_server_leg() => (client, Some(flow)),
            other => (flow, other),
        };
        first.export(env, out);
        out.put_bool(second.is_some());
        if let Some(second) = second {
            second.export(env, out);
        }
    }

    /// Reads what [`Captured::export`] wrote. On an error everything taken is given back.
    pub fn import(env: &mut Env, group: u8, bytes: &[u8]) -> Result<Captured, ImportError> {
        let mut reader = Reader::new(bytes);
        let mut captured = Captured { flow: Flow::import(env, group, &mut reader)?, server: None };
        let result = captured.import_server(env, group, &mut reader);
        if result.is_err() || reader.remaining() > 0 || !captured.agrees() {
            captured.release(env);
            return Err(result.err().unwrap_or(ImportError::Invalid));
        }
        Ok(captured)
    }

    fn import_server(
        &mut self,
        env: &mut Env,
        group: u8,
        reader: &mut Reader,
    ) -> Result<(), ImportError> {
        // The format before knew no legs.
        if reader.remaining() > 0 && reader.bool()? {
            self.server = Some(Flow::import(env, group, reader)?);
        }
        Ok(())
    }

    /// Whether names, sides and phases of the legs are those of one connection.
    fn agrees(&self) -> bool {
        let is_server = self.flow.id.is_server_leg();
        let side = if is_server { Side::Server } else { Side::Client };
        let Some(server) = &self.server else {
            return match self.flow.app.leg() {
                Some(leg) => leg.side == side && (leg.phase == Phase::Alone || leg.lacks_server()),
                None => !is_server,
            };
        };
        let (Some(leg), Some(other)) = (self.flow.app.leg(), server.app.leg()) else {
            return false;
        };
        let is_one = server.id == self.flow.id.other_leg() && !is_server;
        let is_open = server.contract.state.is_synchronized();
        let agrees = self.flow.group == server.group && server.contract.is_active;
        let sides = leg.side == Side::Client && other.side == Side::Server;
        let phases = leg.phase == other.phase && leg.phase != Phase::Alone;
        is_one && agrees && sides && phases && is_open == leg.is_joined()
    }

    /// The legs there are.
    pub fn legs(&self) -> impl Iterator<Item = &Flow> {
        [Some(&self.flow), self.server.as_ref()].into_iter().flatten()
    }

    /// Gives everything back that was taken for it.
    pub fn release(&mut self, env: &mut Env) {
        self.flow.release(env);
        if let Some(server) = &mut self.server {
            server.release(env);
        }
    }
}

impl Flow {
    /// Writes the flow's contract behind `out`.
    pub fn export(&self, env: &Env, out: &mut Vec<u8>) {
        self.export_with(env, &self.next_hop, out);
    }

    fn export_with(&self, env: &Env, next_hop: &Mac, out: &mut Vec<u8>) {
        let Flow {
            key,
            id,
            next_hop: _,
            contract,
            app,
            output,
            backlog,
            // Where this node keeps it and how it serves it.
            group: _,
            standing: _,
            era: _,
            reassembly: _,
            local: _,
            sender: _,
        } = self;
        out.put_u8(VERSION);
        encode_key(key, out);
        out.put_u64(id.0);
        out.put_bytes(next_hop);
        contract.recorded(self.ahead()).export(out);
        app.export(&env.memory, out);
        output.export(&env.memory, self.behind().bytes, out);
        // What an end-to-end leg keeps for a server, its client keeps as well.
        let backlog = if self.passes_ahead() { &ByteQueue::new() } else { backlog };
        backlog.export(&env.memory.chunks, out);
    }

    /// Reads what [`Flow::export`] wrote. On an error everything taken is given back.
    fn import(env: &mut Env, group: u8, reader: &mut Reader) -> Result<Flow, ImportError> {
        let mut flow = Flow { group, ..Flow::default() };
        let result = flow.import_parts(env, reader);
        if let Err(error) = result {
            flow.release(env);
            return Err(error);
        }
        Ok(flow)
    }

    fn import_parts(&mut self, env: &mut Env, reader: &mut Reader) -> Result<(), ImportError> {
        let version = reader.u8()?;
        if !(VERSION - 1..=VERSION).contains(&version) {
            return Err(ImportError::Invalid);
        }
        self.key = decode_key(reader)?;
        self.id = FlowId(reader.u64()?);
        self.next_hop = reader.array()?;
        if version < VERSION {
            // The position of its service in a file: the group says which service it is.
            reader.u8()?;
        }
        let service = env.services.get(self.group as usize).ok_or(ImportError::Invalid)?;
        self.contract = Contract::import(reader)?;
        if self.contract.options.mss > service.mss_for(&self.key.local) {
            // Our interface could not send such segments.
            return Err(ImportError::Invalid);
        }
        self.app = App::import(&mut env.memory, reader)?;
        self.output = Output::import(&mut env.memory, &service.content, reader)?;
        self.backlog = ByteQueue::import(&mut env.memory.chunks, reader)?;
        // What the client has not acknowledged must be there.
        if self.output.start() > self.contract.una_offset {
            return Err(ImportError::Invalid);
        }
        (self.standing, self.reassembly) = (Standing::Absent, NONE);
        Ok(())
    }

    /// What two holders of the flow must agree on at equal op. `scratch` is overwritten. The next hop is not
    /// among it: it follows the client's frames, not the facts.
    pub fn digest(&self, env: &Env, scratch: &mut Vec<u8>) -> u64 {
        scratch.clear();
        self.export_with(env, &Mac::default(), scratch);
        let mut hasher = SipHasher13::new_with_keys(0x756e_6465, 0x7273_7475);
        hasher.write(scratch);
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_that_rounding_has_overdrawn_is_still_a_contract() {
        let contract = Contract {
            state: State::Established,
            snd_una: Seq(1),
            options: Options { mss: 536, rcv_scale: 3, scaling: true, ..Options::default() },
            rcv_nxt: Seq(107),
            rcv_edge: Seq(100),
            ..Contract::default()
        };
        let mut bytes = Vec::new();
        contract.export(&mut bytes);
        assert_eq!(Contract::import(&mut Reader::new(&bytes)), Ok(contract.clone()));
        let mut bytes = Vec::new();
        Contract { rcv_edge: Seq(1 << 31), ..contract }.export(&mut bytes);
        let imported = Contract::import(&mut Reader::new(&bytes));
        assert_eq!(imported, Err(ImportError::Invalid));
    }

    #[test]
    fn only_who_opens_waits_in_syn_sent() {
        let waiting = Contract {
            state: State::SynSent,
            options: Options { mss: 536, ..Options::default() },
            is_active: true,
            ..Contract::default()
        };
        for is_active in [true, false] {
            let contract = Contract { is_active, ..waiting.clone() };
            let mut bytes = Vec::new();
            contract.export(&mut bytes);
            let imported = Contract::import(&mut Reader::new(&bytes));
            assert_eq!(imported.is_ok(), is_active);
        }
    }
}
