//! The states of a connection (RFC 9293 3.3.2) and every move between them, as one total table.
//!
//! A state here is part of the contract: it changes only when a fact is applied. The state moves to
//! FIN-WAIT-1 or LAST-ACK when the application closes, not when the FIN leaves: RFC 9293 queues the
//! FIN behind the data, and from outside the two cannot be told apart.
//!
//! Spec: RFC 9293 3.3.2, 3.10. Left out: LISTEN is a service, not a flow.

use core::fmt;

/// The state of one connection. `Closed` is the tombstone: the flow is gone but for its table entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default)]
#[repr(u8)]
pub enum State {
    /// No connection.
    #[default]
    Closed = 0,
    /// We sent a SYN (active open).
    SynSent = 1,
    /// We received a SYN.
    SynReceived = 2,
    /// Open both ways.
    Established = 3,
    /// We closed first.
    FinWait1 = 4,
    /// We closed first and our FIN is acknowledged.
    FinWait2 = 5,
    /// The other side closed first.
    CloseWait = 6,
    /// Both closed at once; our FIN is not yet acknowledged.
    Closing = 7,
    /// The other side closed first, then we did.
    LastAck = 8,
    /// Both closed; old segments may still arrive.
    TimeWait = 9,
}

/// What can move a connection from one state to another.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum Event {
    /// Our SYN was acknowledged (and, in SYN-SENT, the other side's SYN arrived with it).
    SynAcknowledged,
    /// The other side's SYN arrived without an acknowledgement of ours (simultaneous open).
    SynArrived,
    /// The application closed its side.
    CloseCalled,
    /// Our FIN was acknowledged.
    FinAcknowledged,
    /// The other side's FIN is in order.
    FinArrived,
    /// Our FIN was on its way before the other side knew that we have its own.
    FinCrossed,
    /// Either side aborted, or time ran out.
    Aborted,
    /// Twice the maximum segment lifetime has passed in TIME-WAIT.
    TimeWaitOver,
}

impl State {
    /// Every state, in the order of its code.
    pub const ALL: [State; 10] = [
        State::Closed,
        State::SynSent,
        State::SynReceived,
        State::Established,
        State::FinWait1,
        State::FinWait2,
        State::CloseWait,
        State::Closing,
        State::LastAck,
        State::TimeWait,
    ];

    /// The state after `event`; the same state where the event means nothing.
    pub const fn next(self, event: Event) -> State {
        use Event as E;
        use State as S;
        match (self, event) {
            (_, E::Aborted) => S::Closed,
            (S::SynSent | S::SynReceived, E::SynAcknowledged) => S::Established,
            (S::SynSent, E::SynArrived) => S::SynReceived,
            (S::SynSent, E::CloseCalled) => S::Closed,
            (S::SynReceived | S::Established, E::CloseCalled) => S::FinWait1,
            (S::SynReceived | S::Established, E::FinArrived) => S::CloseWait,
            (S::FinWait1, E::FinAcknowledged) => S::FinWait2,
            (S::FinWait1, E::FinArrived) | (S::CloseWait, E::FinCrossed) => S::Closing,
            (S::FinWait2, E::FinArrived) => S::TimeWait,
            (S::CloseWait, E::CloseCalled) => S::LastAck,
            (S::Closing, E::FinAcknowledged) => S::TimeWait,
            (S::LastAck, E::FinAcknowledged) => S::Closed,
            (S::TimeWait, E::TimeWaitOver) => S::Closed,
            (state, _) => state,
        }
    }

    /// From the code of a snapshot; `None` for a code that names no state.
    pub const fn from_code(code: u8) -> Option<State> {
        if (code as usize) < State::ALL.len() { Some(State::ALL[code as usize]) } else { None }
    }

    /// Whether the other side may still send data that we take.
    pub const fn can_receive(self) -> bool {
        matches!(self, State::SynReceived | State::Established | State::FinWait1 | State::FinWait2)
    }

    /// Whether the SYN exchange is over.
    pub const fn is_synchronized(self) -> bool {
        !matches!(self, State::Closed | State::SynSent | State::SynReceived)
    }
}

impl Event {
    /// Every event, in the order of its code.
    pub const ALL: [Event; 8] = [
        Event::SynAcknowledged,
        Event::SynArrived,
        Event::CloseCalled,
        Event::FinAcknowledged,
        Event::FinArrived,
        Event::FinCrossed,
        Event::Aborted,
        Event::TimeWaitOver,
    ];
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::Closed => "CLOSED",
            State::SynSent => "SYN-SENT",
            State::SynReceived => "SYN-RECEIVED",
            State::Established => "ESTABLISHED",
            State::FinWait1 => "FIN-WAIT-1",
            State::FinWait2 => "FIN-WAIT-2",
            State::CloseWait => "CLOSE-WAIT",
            State::Closing => "CLOSING",
            State::LastAck => "LAST-ACK",
            State::TimeWait => "TIME-WAIT",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::String;

    #[test]
    fn the_matrix_is_as_stored() {
        let mut matrix = String::new();
        for state in State::ALL {
            for event in Event::ALL {
                matrix += &format!("{state} + {event:?} -> {}\n", state.next(event));
            }
        }
        assert_eq!(matrix, include_str!("state.matrix"));
    }

    #[test]
    fn codes_round_trip() {
        for state in State::ALL {
            assert_eq!(State::from_code(state as u8), Some(state));
        }
        assert_eq!(State::from_code(10), None);
    }
}
