//! The contract: the part of a connection that its client can hold us to.
//!
//! It changes only when a fact is applied, so that owner and peer hold the same one at the same op.
//! `snd_una`, `snd_wnd` and `ts_recent` are here as far as they were recorded; what the owner knows
//! beyond that is local.
//!
//! Spec: RFC 9293 3.3.1 for the names of the variables.

use crate::codec::{ImportError, Put, Reader};
use crate::fact::{Answered, Open, Syn};
use crate::output::Output;
use crate::seq::Seq;
use crate::tcp::sender::Hint;
use crate::tcp::state::{Event, State};

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
    /// The other side's initial sequence number; 0 in SYN-SENT.
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
    /// We opened the connection (RFC 9293 MUST-11).
    pub is_active: bool,
}

impl Contract {
    /// The contract after the other side's SYN, or before it if we open.
    pub fn open(open: &Open, receive_buffer: u32) -> Contract {
        let mut contract = Contract {
            state: State::SynSent,
            iss: open.iss,
            snd_una: open.iss,
            rcv_edge: Seq(0) + receive_buffer,
            options: open.options,
            is_active: open.syn.is_none(),
            ..Contract::default()
        };
        if let Some(syn) = &open.syn {
            contract.take_syn(syn, receive_buffer);
            contract.state = State::SynReceived;
        }
        contract
    }

    /// RFC 9293 3.10.7.3, fourth: the SYN that SYN-SENT waited for. It opens the connection if it
    /// acknowledges ours; else the two have crossed.
    pub fn answer(&mut self, answered: &Answered, receive_buffer: u32) {
        self.take_syn(&answered.syn, receive_buffer);
        let mss = answered.options.mss.min(self.options.mss);
        self.options = Options { mss, ..answered.options };
        if answered.is_acknowledged {
            self.snd_una = self.iss + 1;
            self.state = self.state.next(Event::SynAcknowledged);
        } else {
            self.state = self.state.next(Event::SynArrived);
        }
    }

    fn take_syn(&mut self, syn: &Syn, receive_buffer: u32) {
        self.irs = syn.irs;
        self.rcv_nxt = syn.irs + 1;
        self.rcv_edge = self.rcv_nxt + receive_buffer;
        (self.snd_wnd, self.ts_recent) = (syn.snd_wnd, syn.ts_recent);
    }

    /// What the other side may still send. Rounding may have offered a few bytes more than the edge: then nothing.
    #[inline]
    pub fn window(&self) -> u32 {
        self.rcv_edge.distance(self.rcv_nxt).max(0) as u32
    }

    /// Whether the other side sees a closed window: what is left of it is less than can be said.
    #[inline]
    pub fn seems_closed(&self) -> bool {
        self.options.sayable(self.window().into()) == 0
    }

    /// The right edge of what the other side has offered, as far as the log knows.
    #[inline]
    pub fn snd_edge(&self) -> Seq {
        self.snd_una + self.snd_wnd
    }

    /// Moves the state on when the application has closed and when its FIN is acknowledged.
    pub fn follow(&mut self, output: &Output) {
        if !output.is_closed() {
            return;
        }
        if matches!(self.state, State::Established | State::CloseWait) {
            self.state = self.state.next(Event::CloseCalled);
        }
        if self.una_offset > output.end() {
            self.state = self.state.next(Event::FinAcknowledged);
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

    /// Steps of our windows (RFC 7323 2.3).
    #[inline]
    pub fn window_unit(&self) -> u64 {
        1 << self.rcv_scale
    }

    /// What is said of so large a window: its whole units.
    #[inline]
    pub fn sayable(&self, window: u64) -> u64 {
        window - window % self.window_unit()
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
