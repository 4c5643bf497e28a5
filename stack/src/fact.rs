//! Facts: validated, trimmed statements about a flow's contract.
//!
//! The owner judges a segment once and turns what is left of it into facts; whoever applies a flow's
//! facts in order holds the same contract and produces the same application bytes. What a fact says
//! is never judged again, so a fact carries no checksum, window or flag of the segment it came from.
//!
//! Bounds: a fact is at most [`FACT_HEADER_BYTES_MAX`] bytes and its payload.

use crate::codec::{ImportError, Put, Reader};
use crate::key::FlowKey;
use crate::seq::Seq;
use crate::tcp::contract::Options;
use crate::tcp::sender::Hint;
use crate::wire::{Address, Mac};

/// Bytes of a fact at most, payload apart.
pub const FACT_HEADER_BYTES_MAX: usize = 80;

/// One fact about a flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fact<'a> {
    /// The flow begins: a SYN was accepted, or we open the connection ourselves.
    Open(Open),
    /// The SYN that a connection opened by us waited for.
    Answered(Answered),
    /// The client has acknowledged.
    Acked(Acked),
    /// In-order payload: these bytes begin at `rcv_nxt`.
    Data(&'a [u8]),
    /// The client's FIN is next in order.
    Fin,
    /// The client's valid RST.
    Reset,
    /// Time passed, and that changes the contract.
    Tick(Tick),
    /// The client is reached by another next hop: a router has taken another's place. No part of the contract, but
    /// whoever takes over need not ask.
    NextHop(Mac),
    /// The other leg of a proxied connection has passed bytes on: there is room for as many.
    Room,
    /// So many bytes of in-order payload that nobody is left to read.
    Unread(u32),
}

/// What a flow begins with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Open {
    /// Both ends.
    pub key: FlowKey,
    /// Next hop towards the other side.
    pub next_hop: Mac,
    /// Our initial sequence number.
    pub iss: Seq,
    /// Options agreed on; what we offer if `syn` is `None`.
    pub options: Options,
    /// The other side's SYN; `None` if the connection is opened by us and it has yet to come.
    pub syn: Option<Syn>,
}

/// What a SYN says beside its options.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Syn {
    /// The other side's initial sequence number.
    pub irs: Seq,
    /// TSval, or 0.
    pub ts_recent: u32,
    /// SEG.WND; never scaled in a SYN (RFC 7323 2.2).
    pub snd_wnd: u32,
}

/// How the other side answered our SYN.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answered {
    /// Its SYN.
    pub syn: Syn,
    /// What that and our SYN agree on.
    pub options: Options,
    /// It acknowledges our SYN; else the two SYNs have crossed.
    pub is_acknowledged: bool,
}

/// How far the client has acknowledged, with what lags along.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Acked {
    /// SND.UNA
    pub snd_una: Seq,
    /// SND.WND, scaled.
    pub snd_wnd: u32,
    /// TS.Recent, or 0.
    pub ts_recent: u32,
    /// What the sender has learnt about the path.
    pub hint: Hint,
    /// What has come through with that.
    pub passed: Passed,
}

/// What the other leg's side of a proxied connection has said, and this leg's side has acknowledged: it counts as received
/// from now on. Nothing unless acknowledgements are end to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Passed {
    /// Bytes since the last time.
    pub bytes: u32,
    /// And the FIN behind them.
    pub fin: PassedFin,
}

/// A FIN that has passed to the side of a leg, which has acknowledged it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub enum PassedFin {
    /// None.
    #[default]
    None = 0,
    /// If that side has said a FIN as well, it went out with the acknowledgement of that: that side knows that all is over.
    Last = 1,
    /// That side may not know yet that we have its FIN, and say it again.
    Crossed = 2,
}

/// Which time has passed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Tick {
    /// The flow was idle for as long as the service allows: the application decides.
    Idle = 0,
    /// The flow is given up: the client is told by RST.
    Abort = 1,
    /// TIME-WAIT is over, or a new connection took its place.
    TimeWaitOver = 2,
}

impl Fact<'_> {
    /// Bytes of payload in the fact.
    #[inline]
    pub fn payload_bytes(&self) -> usize {
        match self {
            Fact::Data(bytes) => bytes.len(),
            _ => 0,
        }
    }

    /// Whether output that follows from the fact waits until the peer holds it (DESIGN 5: what cannot be
    /// derived again from bytes that their sender still holds).
    #[inline]
    pub fn holds_output(&self) -> bool {
        matches!(self, Fact::Open(_) | Fact::Answered(_) | Fact::Tick(_))
    }

    /// Writes the fact behind `out`.
    pub fn encode(&self, out: &mut impl Put) {
        match self {
            Fact::Open(open) => {
                out.put_u8(if open.syn.is_some() { 0 } else { 6 });
                open.encode(out);
            }
            Fact::Answered(Answered { syn, options, is_acknowledged }) => {
                out.put_u8(7);
                syn.encode(out);
                options.encode(out);
                out.put_bool(*is_acknowledged);
            }
            Fact::Acked(acked) => acked.encode(out),
            Fact::Data(bytes) => {
                out.put_u8(2);
                out.put_bytes(bytes);
            }
            Fact::Fin => out.put_u8(3),
            Fact::Reset => out.put_u8(4),
            Fact::Tick(tick) => {
                out.put_u8(5);
                out.put_u8(*tick as u8);
            }
            Fact::NextHop(mac) => {
                out.put_u8(15);
                out.put_bytes(mac);
            }
            Fact::Room => out.put_u8(8),
            Fact::Unread(bytes) => {
                out.put_u8(12);
                out.put_u32(*bytes);
            }
        }
    }
}

impl<'a> Fact<'a> {
    /// Reads a fact that fills `bytes` exactly.
    pub fn decode(bytes: &'a [u8]) -> Result<Fact<'a>, ImportError> {
        let mut reader = Reader::new(bytes);
        let fact = match reader.u8()? {
            0 => Fact::Open(Open::decode(&mut reader, true)?),
            code @ (1 | 9 | 10 | 11) => Fact::Acked(Acked::decode(code, &mut reader)?),
            2 => Fact::Data(reader.bytes(reader.remaining())?),
            3 => Fact::Fin,
            4 => Fact::Reset,
            5 => Fact::Tick(match reader.u8()? {
                0 => Tick::Idle,
                1 => Tick::Abort,
                2 => Tick::TimeWaitOver,
                _ => return Err(ImportError::Invalid),
            }),
            6 => Fact::Open(Open::decode(&mut reader, false)?),
            7 => Fact::Answered(Answered {
                syn: Syn::decode(&mut reader)?,
                options: Options::decode(&mut reader)?,
                is_acknowledged: reader.bool()?,
            }),
            15 => Fact::NextHop(reader.array()?),
            8 => Fact::Room,
            12 => Fact::Unread(reader.u32()?),
            _ => return Err(ImportError::Invalid),
        };
        if reader.remaining() == 0 { Ok(fact) } else { Err(ImportError::Invalid) }
    }
}

impl Open {
    fn encode(&self, out: &mut impl Put) {
        let Open { key, next_hop, iss, options, syn } = self;
        encode_key(key, out);
        out.put_bytes(next_hop);
        if let Some(Syn { irs, .. }) = syn {
            out.put_u32(irs.0);
        }
        out.put_u32(iss.0);
        options.encode(out);
        if let Some(Syn { irs: _, ts_recent, snd_wnd }) = syn {
            out.put_u32(*ts_recent);
            out.put_u32(*snd_wnd);
        }
    }

    fn decode(reader: &mut Reader, has_syn: bool) -> Result<Open, ImportError> {
        let (key, next_hop) = (decode_key(reader)?, reader.array()?);
        let irs = if has_syn { Seq(reader.u32()?) } else { Seq(0) };
        let (iss, options) = (Seq(reader.u32()?), Options::decode(reader)?);
        let syn = match has_syn {
            true => Some(Syn { irs, ts_recent: reader.u32()?, snd_wnd: reader.u32()? }),
            false => None,
        };
        Ok(Open { key, next_hop, iss, options, syn })
    }
}

impl Acked {
    /// The first byte says whether anything has passed, and which FIN.
    fn encode(&self, out: &mut impl Put) {
        let Acked { snd_una, snd_wnd, ts_recent, hint: Hint { srtt_us, cwnd }, passed } = self;
        let has_passed = *passed != Passed::default();
        out.put_u8(if has_passed { 9 + passed.fin as u8 } else { 1 });
        for number in [snd_una.0, *snd_wnd, *ts_recent, *srtt_us, *cwnd] {
            out.put_u32(number);
        }
        if has_passed {
            out.put_u32(passed.bytes);
        }
    }

    fn decode(code: u8, reader: &mut Reader) -> Result<Acked, ImportError> {
        let (snd_una, snd_wnd, ts_recent) = (Seq(reader.u32()?), reader.u32()?, reader.u32()?);
        let hint = Hint { srtt_us: reader.u32()?, cwnd: reader.u32()? };
        let bytes = if code == 1 { 0 } else { reader.u32()? };
        let fin = match code {
            10 => PassedFin::Last,
            11 => PassedFin::Crossed,
            _ => PassedFin::None,
        };
        let passed = Passed { bytes, fin };
        if code == 9 && bytes == 0 {
            return Err(ImportError::Invalid);
        }
        Ok(Acked { snd_una, snd_wnd, ts_recent, hint, passed })
    }
}

impl Syn {
    fn encode(&self, out: &mut impl Put) {
        let Syn { irs, ts_recent, snd_wnd } = self;
        out.put_u32(irs.0);
        out.put_u32(*ts_recent);
        out.put_u32(*snd_wnd);
    }

    fn decode(reader: &mut Reader) -> Result<Syn, ImportError> {
        let (irs, ts_recent, snd_wnd) = (Seq(reader.u32()?), reader.u32()?, reader.u32()?);
        Ok(Syn { irs, ts_recent, snd_wnd })
    }
}

/// Writes a flow's key; IPv4 addresses take four bytes each.
pub(crate) fn encode_key(key: &FlowKey, out: &mut impl Put) {
    match (key.remote.as_v4(), key.local.as_v4()) {
        (Some(remote), Some(local)) => {
            out.put_u8(4);
            out.put_bytes(&remote);
            out.put_bytes(&local);
        }
        _ => {
            out.put_u8(6);
            out.put_bytes(&key.remote.0);
            out.put_bytes(&key.local.0);
        }
    }
    out.put_u16(key.remote_port);
    out.put_u16(key.local_port);
}

/// Reads a flow's key.
pub(crate) fn decode_key(reader: &mut Reader) -> Result<FlowKey, ImportError> {
    let (remote, local) = match reader.u8()? {
        4 => (Address::v4(reader.array()?), Address::v4(reader.array()?)),
        6 => (Address(reader.array()?), Address(reader.array()?)),
        _ => return Err(ImportError::Invalid),
    };
    Ok(FlowKey { remote, local, remote_port: reader.u16()?, local_port: reader.u16()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn every_fact_comes_back() {
        let options = Options {
            mss: 1460,
            snd_scale: 7,
            rcv_scale: 3,
            scaling: true,
            sack: false,
            timestamps: true,
        };
        for remote in [Address::v4([1, 2, 3, 4]), Address([7; 16])] {
            let key = FlowKey { remote, local: remote, remote_port: 1, local_port: 2 };
            let syn = Syn { irs: Seq(5), ts_recent: 7, snd_wnd: 8 };
            let (next_hop, iss) = ([1; 6], Seq(6));
            let open = Open { key, next_hop, iss, options, syn: Some(syn) };
            let hint = Hint { srtt_us: 12, cwnd: 13 };
            let acked = |passed| {
                let (snd_una, snd_wnd, ts_recent) = (Seq(9), 10, 11);
                Fact::Acked(Acked { snd_una, snd_wnd, ts_recent, hint, passed })
            };
            let facts = [
                Fact::Open(open),
                Fact::Open(Open { syn: None, ..open }),
                Fact::Answered(Answered { syn, options, is_acknowledged: true }),
                Fact::Answered(Answered { syn, options, is_acknowledged: false }),
                Fact::NextHop([1, 2, 3, 4, 5, 6]),
                acked(Passed::default()),
                acked(Passed { bytes: 14, fin: PassedFin::None }),
                acked(Passed { bytes: 0, fin: PassedFin::Last }),
                acked(Passed { bytes: 15, fin: PassedFin::Crossed }),
                Fact::Unread(16),
                Fact::Data(b"payload"),
                Fact::Fin,
                Fact::Reset,
                Fact::Tick(Tick::Idle),
                Fact::Tick(Tick::TimeWaitOver),
                Fact::Room,
            ];
            for fact in facts {
                let mut bytes = Vec::new();
                fact.encode(&mut bytes);
                assert!(bytes.len() <= FACT_HEADER_BYTES_MAX + fact.payload_bytes());
                assert_eq!(Fact::decode(&bytes), Ok(fact));
                if !matches!(fact, Fact::Data(_)) {
                    for cut in 0..bytes.len() {
                        assert!(Fact::decode(&bytes[..cut]).is_err());
                    }
                    bytes.push(0);
                    assert!(Fact::decode(&bytes).is_err());
                }
            }
        }
    }
}
