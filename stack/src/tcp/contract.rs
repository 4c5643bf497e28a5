//! The contract: the part of a connection that its client can hold us to.
//!
//! It changes only when a fact is applied, so that owner and peer hold the same one at the same op.
//! `snd_una`, `snd_wnd` and `ts_recent` are here as far as they were recorded; what the owner knows
//! beyond that is local.
//!
//! Spec: RFC 9293 3.3.1 for the names of the variables.

use crate::codec::{ImportError, Put, Reader};
use crate::fact::Open;
use crate::seq::Seq;
use crate::tcp::sender::Hint;
use crate::tcp::state::State;

/// Options agreed on in the handshake.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Options {
    /// Largest segment that we may send: the smaller of the client's MSS and what our MTU allows.
    pub mss: u16,
    /// Scale of the client's windows.
    pub snd_scale: u8,
    /// Scale of our windows.
    pub rcv_scale: u8,
    /// Windows are scaled.
    pub scaling: bool,
    /// SACK permitted.
    pub sack: bool,
    /// Timestamps in every segment.
    pub timestamps: bool,
}

/// The contract of one connection.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Contract {
    /// Where the connection stands.
    pub state: State,
    /// Our initial sequence number.
    pub iss: Seq,
    /// The client's initial sequence number.
    pub irs: Seq,
    /// Next sequence number expected.
    pub rcv_nxt: Seq,
    /// Right edge up to which the client may be told to send; never moves left.
    pub rcv_edge: Seq,
    /// Oldest unacknowledged sequence number, as far as recorded.
    pub snd_una: Seq,
    /// Offset in the output stream that `snd_una` stands for.
    pub una_offset: u64,
    /// Client's window, scaled, as far as recorded.
    pub snd_wnd: u32,
    /// TS.Recent, as far as recorded.
    pub ts_recent: u32,
    /// What the owner's sender had learnt about the path when it was last recorded.
    pub hint: Hint,
    /// Options agreed on.
    pub options: Options,
    /// The client's FIN has been taken.
    pub fin_received: bool,
    /// Bytes of payload taken.
    pub received: u64,
}

impl Contract {
    /// The contract after the SYN.
    pub fn open(open: &Open, receive_buffer: u32) -> Contract {
        Contract {
            state: State::SynReceived,
            iss: open.iss,
            irs: open.irs,
            rcv_nxt: open.irs + 1,
            rcv_edge: open.irs + 1 + receive_buffer,
            snd_una: open.iss,
            una_offset: 0,
            snd_wnd: open.snd_wnd,
            ts_recent: open.ts_recent,
            hint: Hint::default(),
            options: open.options,
            fin_received: false,
            received: 0,
        }
    }

    /// The sequence number that `una_offset` stands for: `snd_una`, or the number behind our SYN.
    #[inline]
    fn stream_base(&self) -> Seq {
        if self.snd_una == self.iss && self.una_offset == 0 { self.iss + 1 } else { self.snd_una }
    }

    /// The offset in the output stream of a sequence number near `snd_una`; `None` before the stream.
    #[inline]
    pub fn offset_of(&self, seq: Seq) -> Option<u64> {
        self.una_offset.checked_add_signed(seq.distance(self.stream_base()) as i64)
    }
}

impl Options {
    /// Payload of a full segment: the MSS counts the options that every segment carries (RFC 6691).
    #[inline]
    pub fn payload_max(&self) -> u16 {
        self.mss - if self.timestamps { 12 } else { 0 }
    }

    /// Writes the options.
    pub fn encode(&self, out: &mut impl Put) {
        let Options { mss, snd_scale, rcv_scale, scaling, sack, timestamps } = self;
        out.put_u16(*mss);
        out.put_u8(snd_scale << 4 | rcv_scale);
        out.put_u8((*scaling as u8) << 2 | (*sack as u8) << 1 | *timestamps as u8);
    }

    /// Reads the options.
    pub fn decode(reader: &mut Reader) -> Result<Options, ImportError> {
        let (mss, scales, bits) = (reader.u16()?, reader.u8()?, reader.u8()?);
        let (snd_scale, rcv_scale) = (scales >> 4, scales & 15);
        if mss < 48 || snd_scale > 14 || rcv_scale > 14 || bits > 7 {
            return Err(ImportError::Invalid);
        }
        let (scaling, sack, timestamps) = (bits & 4 != 0, bits & 2 != 0, bits & 1 != 0);
        Ok(Options { mss, snd_scale, rcv_scale, scaling, sack, timestamps })
    }
}
